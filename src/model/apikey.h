/* API keys of the inference side: who may predict, where, how much. The key itself is a text that
 * is shown once; what is kept is its digest.
 *
 *     otk_ID_SECRET       ID: 16 hex digits, not secret; SECRET: 32 random bytes, base64url
 *
 * The secret has 256 random bits, so a plain SHA-256 of the whole text keeps it: there is nothing
 * to guess that a slow hash would guard.
 * Threads: any; pure. */
#ifndef OT_MODEL_APIKEY_H
#define OT_MODEL_APIKEY_H

#include "base/error.h"
#include "base/hash.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define OT_APIKEY_TEXT 65 /* bytes of a key as text, with the NUL */
#define OT_APIKEY_ID 17   /* 16 hex digits + NUL */
#define OT_APIKEY_DEPLOYMENTS_MAX 16
#define OT_APIKEYS_MAX 1024
#define OT_APIKEY_RATE_MAX 1e9

typedef struct ot_apikey {
    char name[65]; /* for people, the log and the metrics */
    char id[OT_APIKEY_ID];
    ot_digest hash;
    char deployments[OT_APIKEY_DEPLOYMENTS_MAX][65]; /* that it may ask */
    size_t n_deployments;                            /* 0: all */
    int64_t expires_us;                              /* 0: never */
    double requests_per_s, rows_per_s;               /* 0: no limit */
    bool admin; /* it may also have what it may ask loaded and unloaded */
} ot_apikey;

/* A new key: its text, and id and hash of `k`. */
void ot_apikey_make(ot_apikey *k, char text_out[OT_APIKEY_TEXT]);
/* The id of a text that has the form of a key. */
bool ot_apikey_id(const char *text, size_t n, char id_out[OT_APIKEY_ID]);
/* In a time that does not depend on where they differ. */
bool ot_apikey_is(const ot_apikey *k, const char *text, size_t n);
bool ot_apikey_covers(const ot_apikey *k, const char *deployment, size_t n);

/* {"name", "id", "hash", "deployments": [...], "expires_us", "requests_per_s", "rows_per_s",
 * "admin"}; what is left out is no limit, and no admin. OT_INVALID names the field. */
ot_rc ot_apikey_read(const json_t *j, ot_apikey *out, ot_error *err) OT_CHECKED;
json_t *ot_apikey_json(const ot_apikey *k); /* NULL: no memory */

#endif
