/* Who may predict: API keys, their scopes and their limits.
 *
 * A table is immutable but for its buckets, and belongs to a route snapshot: workers read it for a
 * turn. Each limit is one token bucket of this replica that all its workers share (one atomic word,
 * the generic cell rate algorithm): `rate` a second, at most one second's worth at once; what costs
 * more than that passes when the bucket is full. Several replicas have a bucket each.
 * Threads: built on the control thread, read by all. Lifetime: counted. */
#ifndef OT_SERVE_ACCESS_H
#define OT_SERVE_ACCESS_H

#include "base/error.h"
#include "model/apikey.h"
#include "net/http_server.h"

#include <stdatomic.h>

typedef struct ot_bucket {
    /* Synchronization: relaxed compare and swap. When the bucket is full again, on the clock of
     * ot_clock_mono_ns. */
    _Atomic uint64_t full_ns;
} ot_bucket;

/* Takes `cost`; 0, or for how many nanoseconds there is not enough. A rate of 0 is no limit. */
uint64_t ot_bucket_take(ot_bucket *b, double rate, double cost, uint64_t now_ns);

typedef struct ot_client {
    ot_apikey key;
    ot_bucket requests, rows;
    /* Synchronization: relaxed. */
    _Atomic uint64_t admitted, refused, limited;
} ot_client;

typedef struct ot_access {
    atomic_uint refs;
    size_t n;
    ot_client *clients; /* sorted by id */
} ot_access;

/* Takes over from `before` (may be NULL) how full the buckets of the same keys are, and what was
 * counted. */
ot_rc ot_access_create(const ot_apikey *keys, size_t n, const ot_access *before,
                       ot_access **access_out, ot_error *err) OT_CHECKED;
ot_access *ot_access_ref(ot_access *a); /* NULL stays NULL */
void ot_access_unref(ot_access *a);     /* NULL is fine */

/* Why a request is refused: 401, 403 or 429. */
typedef struct ot_denial {
    int status;
    unsigned retry_s;
    ot_error err;
} ot_denial;

/* Whose key the request carries (`Authorization: Bearer KEY` or `x-api-key: KEY`); NULL with the
 * denial filled. */
ot_client *ot_access_who(const ot_access *a, const ot_http_req *req, ot_denial *why);
/* One request of the client at a deployment. */
bool ot_access_may(ot_client *c, const char *deployment, size_t n, uint64_t now_ns, ot_denial *why);
bool ot_access_rows(ot_client *c, int64_t rows, uint64_t now_ns, ot_denial *why);

/* Who may have models loaded and unloaded. */
typedef enum ot_manage {
    OT_MANAGE_ALONE,  /* no control plane takes requests: keys for all models and admins' keys;
                         where no key is needed anyone */
    OT_MANAGE_ADMIN,  /* admins' keys */
    OT_MANAGE_ANYONE, /* whoever may predict with the model */
} ot_manage;
/* Whether the request may have the deployment loaded or unloaded; it counts as one of its client
 * (`a` NULL: no key is needed, and *client_out is NULL). */
bool ot_access_manage(const ot_access *a, const ot_http_req *req, ot_manage rule,
                      const char *deployment, size_t n, ot_client **client_out, ot_denial *why);

/* Answers a request of any protocol that was denied before its handler saw it. */
void ot_access_deny(ot_http_req *req, const ot_denial *why);

/* A file {"keys": [...]}, in the form of ot_apikey_read; the keys are ot_free'd by the caller. */
ot_rc ot_access_parse(const char *json, size_t n, ot_apikey **keys_out, size_t *n_out,
                      ot_error *err) OT_CHECKED;
#define OT_ACCESS_FILE_MAX (1u << 20)

#endif
