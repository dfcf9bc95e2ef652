#include "serve/access.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_S 1000000000.0
#define BEARER "Bearer "

/* ---- buckets */

uint64_t ot_bucket_take(ot_bucket *b, double rate, double cost, uint64_t now_ns)
{
    if (rate <= 0 || cost <= 0) {
        return 0;
    }
    uint64_t full = atomic_load_explicit(&b->full_ns, memory_order_relaxed);
    for (;;) {
        double ahead = full > now_ns ? (double)(full - now_ns) : 0;
        double after = ahead + cost / rate * NS_PER_S;
        /* A full bucket holds a second's worth, or the one thing that costs more. */
        double most = OT_MAX(NS_PER_S, NS_PER_S / rate);
        if (after > most && ahead > 0) {
            return (uint64_t)OT_MIN(OT_MIN(after - most, ahead), 1e18);
        }
        uint64_t next = now_ns + (uint64_t)OT_MIN(after, 1e18);
        if (atomic_compare_exchange_weak_explicit(&b->full_ns, &full, next, memory_order_relaxed,
                                                  memory_order_relaxed)) {
            return 0;
        }
    }
}

/* ---- tables */

static int by_id(const void *a, const void *b)
{
    return strcmp(((const ot_client *)a)->key.id, ((const ot_client *)b)->key.id);
}

static ot_client *find(const ot_access *a, const char *id)
{
    size_t lo = 0, hi = a != NULL ? a->n : 0;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = strcmp(a->clients[mid].key.id, id);
        if (c == 0) {
            return &a->clients[mid];
        }
        if (c < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return NULL;
}

static void carry(_Atomic uint64_t *to, const _Atomic uint64_t *from)
{
    atomic_init(to, atomic_load_explicit(from, memory_order_relaxed));
}

ot_rc ot_access_create(const ot_apikey *keys, size_t n, const ot_access *before,
                       ot_access **access_out, ot_error *err)
{
    ot_access *a = ot_calloc(1, sizeof *a);
    ot_client *clients = ot_calloc(OT_MAX(n, 1u), sizeof *clients);
    if (a == NULL || clients == NULL) {
        ot_free(a);
        ot_free(clients);
        return ot_fail(err, OT_EXHAUSTED, "keys: out of memory");
    }
    for (size_t i = 0; i < n; i++) {
        clients[i].key = keys[i];
        const ot_client *was = find(before, keys[i].id);
        if (was != NULL) {
            carry(&clients[i].requests.full_ns, &was->requests.full_ns);
            carry(&clients[i].rows.full_ns, &was->rows.full_ns);
            carry(&clients[i].admitted, &was->admitted);
            carry(&clients[i].refused, &was->refused);
            carry(&clients[i].limited, &was->limited);
        }
    }
    qsort(clients, n, sizeof *clients, by_id);
    atomic_init(&a->refs, 1);
    a->clients = clients;
    a->n = n;
    *access_out = a;
    return OT_OK;
}

ot_access *ot_access_ref(ot_access *a)
{
    if (a != NULL) {
        atomic_fetch_add_explicit(&a->refs, 1, memory_order_relaxed);
    }
    return a;
}

void ot_access_unref(ot_access *a)
{
    if (a != NULL && atomic_fetch_sub_explicit(&a->refs, 1, memory_order_acq_rel) == 1) {
        ot_free(a->clients);
        ot_free(a);
    }
}

/* ---- requests */

static ot_client *deny(ot_denial *why, int status, unsigned retry_s, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
static ot_client *deny(ot_denial *why, int status, unsigned retry_s, const char *fmt, ...)
{
    va_list ap;
    *why = (ot_denial){.status = status, .retry_s = retry_s};
    va_start(ap, fmt);
    vsnprintf(why->err.msg, sizeof why->err.msg, fmt, ap);
    va_end(ap);
    return NULL;
}

/* The key as it was sent; p NULL: none was. */
static ot_slice key_of(const ot_http_req *req)
{
    ot_slice h = ot_http_req_header(req, "authorization");
    size_t n = sizeof BEARER - 1;
    if (h.p != NULL && h.n > n && ot_slice_ieq((ot_slice){h.p, n}, BEARER)) {
        return (ot_slice){h.p + n, h.n - n};
    }
    return ot_http_req_header(req, "x-api-key");
}

ot_client *ot_access_who(const ot_access *a, const ot_http_req *req, ot_denial *why)
{
    char id[OT_APIKEY_ID];
    ot_slice key = key_of(req);
    if (key.p == NULL) {
        return deny(why, 401, 0,
                    "an API key is needed: Authorization: Bearer KEY, or x-api-key: KEY");
    }
    ot_client *c = ot_apikey_id(key.p, key.n, id) ? find(a, id) : NULL;
    if (c == NULL || !ot_apikey_is(&c->key, key.p, key.n)) {
        return deny(why, 401, 0, "this API key is not known");
    }
    if (c->key.expires_us > 0 && c->key.expires_us <= ot_clock_wall_us()) {
        atomic_fetch_add_explicit(&c->refused, 1, memory_order_relaxed);
        return deny(why, 401, 0, "the API key '%s' has expired", c->key.name);
    }
    return c;
}

static unsigned seconds(uint64_t ns)
{
    return (unsigned)OT_MIN(ns / 1000000000u + 1, 3600u);
}

bool ot_access_may(ot_client *c, const char *deployment, size_t n, uint64_t now_ns, ot_denial *why)
{
    if (!ot_apikey_covers(&c->key, deployment, n)) {
        atomic_fetch_add_explicit(&c->refused, 1, memory_order_relaxed);
        deny(why, 403, 0, "the API key '%s' is not for model '%.*s'", c->key.name,
             (int)OT_MIN(n, 80u), deployment);
        return false;
    }
    uint64_t wait = ot_bucket_take(&c->requests, c->key.requests_per_s, 1, now_ns);
    if (wait > 0) {
        atomic_fetch_add_explicit(&c->limited, 1, memory_order_relaxed);
        deny(why, 429, seconds(wait), "the API key '%s' may ask %g requests a second", c->key.name,
             c->key.requests_per_s);
        return false;
    }
    atomic_fetch_add_explicit(&c->admitted, 1, memory_order_relaxed);
    return true;
}

bool ot_access_rows(ot_client *c, int64_t rows, uint64_t now_ns, ot_denial *why)
{
    uint64_t wait = ot_bucket_take(&c->rows, c->key.rows_per_s, (double)rows, now_ns);
    if (wait > 0) {
        atomic_fetch_add_explicit(&c->limited, 1, memory_order_relaxed);
        deny(why, 429, seconds(wait), "the API key '%s' may ask %g rows a second", c->key.name,
             c->key.rows_per_s);
    }
    return wait == 0;
}

bool ot_access_manage(const ot_access *a, const ot_http_req *req, ot_manage rule,
                      const char *deployment, size_t n, ot_client **client_out, ot_denial *why)
{
    ot_client *c = a != NULL ? ot_access_who(a, req, why) : NULL;
    *client_out = c;
    if (a != NULL && (c == NULL || !ot_access_may(c, deployment, n, ot_clock_mono_ns(), why))) {
        return false;
    }
    bool may = rule == OT_MANAGE_ANYONE || (c != NULL && c->key.admin) ||
               (rule == OT_MANAGE_ALONE && (c == NULL || c->key.n_deployments == 0));
    if (!may && c != NULL) {
        deny(why, 403, 0,
             "the API key '%s' loads and unloads no models; one made with keys add --admin does",
             c->key.name);
    } else if (!may) {
        deny(why, 403, 0,
             "models are loaded and unloaded with an API key that was made with keys add --admin");
    }
    return may;
}

/* https://github.com/grpc/grpc/blob/master/doc/statuscodes.md */
static const char *grpc_status(int status)
{
    return status == 401 ? "16" : status == 403 ? "7" : "8";
}

void ot_access_deny(ot_http_req *req, const ot_denial *why)
{
    char seconds_text[16];
    ot_slice type = ot_http_req_header(req, "content-type");
    if (type.p != NULL && type.n >= 16 && memcmp(type.p, "application/grpc", 16) == 0) {
        ot_http_field trailers[] = {{"grpc-status", grpc_status(why->status)},
                                    {"grpc-message", why->err.msg}};
        ot_http_respond(req, &(ot_http_answer){.status = 200,
                                               .type = "application/grpc",
                                               .trailers = trailers,
                                               .n_trailers = OT_COUNT(trailers)});
        return;
    }
    snprintf(seconds_text, sizeof seconds_text, "%u", why->retry_s);
    ot_http_field field = {"WWW-Authenticate", "Bearer"};
    if (why->status == 429) {
        field = (ot_http_field){"Retry-After", seconds_text};
    }
    OT_AUTO(ot_str_done) ot_str body = OT_STR_INIT;
    ot_str_adds(&body, "{\"error\":\"");
    ot_str_add_json(&body, why->err.msg, strlen(why->err.msg));
    ot_str_adds(&body, "\"}");
    struct iovec iov = {body.data, body.len};
    ot_http_respond(req, &(ot_http_answer){.status = why->status,
                                           .type = "application/json",
                                           .fields = &field,
                                           .n_fields = why->status == 403 ? 0 : 1,
                                           .body = &iov,
                                           .n_body = 1});
}

/* ---- a file of keys */

static ot_rc read_keys(const json_t *list, ot_apikey *keys, ot_error *err)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        OT_TRY(ot_apikey_read(json_array_get(list, i), &keys[i], err));
        for (size_t k = 0; k < i; k++) {
            if (strcmp(keys[k].name, keys[i].name) == 0 || strcmp(keys[k].id, keys[i].id) == 0) {
                return ot_fail(err, OT_INVALID, "keys '%s' and '%s' have one name or id",
                               keys[k].name, keys[i].name);
            }
        }
    }
    return OT_OK;
}

ot_rc ot_access_parse(const char *json, size_t n, ot_apikey **keys_out, size_t *n_out,
                      ot_error *err)
{
    json_error_t why;
    json_t *root = json_loadb(json, n, JSON_REJECT_DUPLICATES, &why);
    const json_t *list = json_object_get(root, "keys");
    size_t count = json_array_size(list);
    ot_rc rc = OT_OK;
    ot_apikey *keys = NULL;
    if (root == NULL) {
        return ot_fail(err, OT_INVALID, "line %d: %s", why.line, why.text);
    }
    if (!json_is_array(list) || count > OT_APIKEYS_MAX) {
        rc = ot_fail(err, OT_INVALID, "'keys' is not a list of at most %d keys", OT_APIKEYS_MAX);
    } else {
        keys = ot_calloc(OT_MAX(count, 1u), sizeof *keys);
        rc = keys != NULL ? read_keys(list, keys, err)
                          : ot_fail(err, OT_EXHAUSTED, "out of memory for %zu keys", count);
    }
    json_decref(root);
    if (rc != OT_OK) {
        ot_free(keys);
        return rc;
    }
    *keys_out = keys;
    *n_out = count;
    return OT_OK;
}
