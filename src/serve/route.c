#include "serve/route.h"

#include "base/hash.h"
#include "base/mem.h"

#include <jansson.h>
#include <string.h>

#define SHARE_SALT UINT64_C(0x7368617265) /* "share": separates it from other uses of the hash */
#define SHARE_SLACK 1e-9                  /* sums of shares may be off by that */
#define CONSTANT_BYTES_MAX (1u << 20)

/* ---- deployments */

ot_rc ot_dep_create(const char *name, ot_dep **dep_out, ot_error *err)
{
    ot_dep *d = ot_calloc(1, sizeof *d);
    if (d == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "deployment '%s': out of memory", name);
    }
    atomic_init(&d->refs, 1);
    d->name_len = strlen(name);
    memcpy(d->name, name, OT_MIN(d->name_len, sizeof d->name - 1));
    ot_arena_init(&d->memory, 4096, 4 * CONSTANT_BYTES_MAX);
    *dep_out = d;
    return OT_OK;
}

ot_dep *ot_dep_ref(ot_dep *d)
{
    atomic_fetch_add_explicit(&d->refs, 1, memory_order_relaxed);
    return d;
}

void ot_dep_unref(ot_dep *d)
{
    if (d == NULL || atomic_fetch_sub_explicit(&d->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    for (size_t i = 0; i < d->n_arms; i++) {
        ot_variant_unref(d->arms[i].variant);
    }
    ot_variant_unref(d->previous);
    ot_arena_done(&d->memory);
    ot_free(d);
}

static void swap_arms(ot_dep *d, double *shares, size_t i, size_t k)
{
    ot_arm arm = d->arms[i];
    double share = shares[i];
    d->arms[i] = d->arms[k];
    shares[i] = shares[k];
    d->arms[k] = arm;
    shares[k] = share;
}

static bool comes_before(const ot_arm *a, const ot_arm *b)
{
    return a->role != b->role ? a->role < b->role : a->variant->version < b->variant->version;
}

void ot_dep_set_shares(ot_dep *d, const double *given)
{
    double shares[OT_TARGET_VARIANTS_MAX];
    memcpy(shares, given, d->n_arms * sizeof shares[0]);
    /* What grows comes before what shrinks, so that it keeps the keys it had. */
    for (size_t i = 0; i < d->n_arms; i++) {
        for (size_t k = i + 1; k < d->n_arms; k++) {
            if (comes_before(&d->arms[k], &d->arms[i])) {
                swap_arms(d, shares, i, k);
            }
        }
    }
    double sum = 0, reached = 0;
    d->n_live = 0;
    for (size_t i = 0; i < d->n_arms && d->arms[i].role != OT_ROLE_SHADOW; i++) {
        sum += shares[i];
        d->n_live++;
    }
    for (size_t i = 0; i < d->n_live; i++) {
        reached += sum > 0 ? shares[i] / sum : 1.0;
        d->arms[i].below = i + 1 == d->n_live || reached >= 1.0 - SHARE_SLACK
                               ? UINT64_MAX
                               : (uint64_t)(reached * 18446744073709551616.0);
    }
}

const ot_arm *ot_dep_pick(const ot_dep *d, const void *key, size_t n)
{
    if (d->n_live <= 1) {
        return d->n_live == 1 ? &d->arms[0] : NULL;
    }
    uint64_t h = ot_hash_stable(key, n, SHARE_SALT);
    for (size_t i = 0; i + 1 < d->n_live; i++) {
        if (h < d->arms[i].below) {
            return &d->arms[i];
        }
    }
    return &d->arms[d->n_live - 1];
}

const ot_arm *ot_dep_version(const ot_dep *d, uint64_t version)
{
    for (size_t i = 0; i < d->n_arms; i++) {
        if (d->arms[i].variant->version == version) {
            return &d->arms[i];
        }
    }
    return NULL;
}

static const ot_arm *with_role(const ot_dep *d, ot_role role)
{
    for (size_t i = 0; i < d->n_live; i++) {
        if (d->arms[i].role == role) {
            return &d->arms[i];
        }
    }
    return NULL;
}

static bool is_text(const char *z, const char *p, size_t n)
{
    return strlen(z) == n && memcmp(z, p, n) == 0;
}

const ot_arm *ot_dep_label(const ot_dep *d, const char *label, size_t n)
{
    if (is_text(OT_LABEL_STABLE, label, n)) {
        return with_role(d, OT_ROLE_CHAMPION);
    }
    if (is_text(OT_LABEL_CANARY, label, n)) {
        return with_role(d, OT_ROLE_CANARY);
    }
    for (size_t i = 0; i < d->n_labels; i++) {
        if (is_text(d->labels[i].name, label, n)) {
            return ot_dep_version(d, d->labels[i].version);
        }
    }
    return NULL;
}

/* ---- the constant answer */

static void put_number(const ot_tensor *t, void *data, int64_t i, double x)
{
    size_t size = ot_dtype_size(t->dtype);
    uint8_t *to = (uint8_t *)data + (size_t)i * size;
    float f = (float)x;
    uint16_t h = t->dtype == OT_DT_FP16 ? ot_fp16_from_f64(x) : ot_bf16_from_f64(x);
    int64_t whole = (int64_t)x; /* little-endian: its low bytes are the narrower integer */
    const void *from = t->dtype == OT_DT_FP64                             ? (const void *)&x
                       : t->dtype == OT_DT_FP32                           ? (const void *)&f
                       : t->dtype == OT_DT_FP16 || t->dtype == OT_DT_BF16 ? (const void *)&h
                                                                          : (const void *)&whole;
    memcpy(to, from, size);
}

static bool flat_numbers(const json_t *j, double *out, int64_t n, int64_t *used)
{
    if (json_is_number(j) || json_is_boolean(j)) {
        if (*used >= n) {
            return false;
        }
        double x = json_is_number(j) ? json_number_value(j) : json_is_true(j);
        if (!(x >= -9007199254740992.0 && x <= 9007199254740992.0)) {
            return false; /* beyond 2^53 an integer would not be the one that was written */
        }
        out[(*used)++] = x;
        return true;
    }
    if (!json_is_array(j)) {
        return false;
    }
    for (size_t i = 0; i < json_array_size(j); i++) {
        if (!flat_numbers(json_array_get(j, i), out, n, used)) {
            return false;
        }
    }
    return true;
}

static ot_rc constant_output(ot_dep *d, const ot_tensor_spec *spec, const json_t *j, ot_tensor *t,
                             ot_error *err)
{
    t->name = ot_arena_strdup(&d->memory, spec->name);
    t->dtype = spec->dtype;
    t->rank = spec->rank;
    memcpy(t->dims, spec->dims, sizeof t->dims);
    if (t->rank > 0 && t->dims[0] < 0) {
        t->dims[0] = 1;
    }
    int64_t n;
    if (!ot_shape_count(t->dims, t->rank, &n) ||
        !ot_shape_bytes(t->dtype, t->dims, t->rank, &t->size_bytes) ||
        t->size_bytes > CONSTANT_BYTES_MAX) {
        return ot_fail(err, OT_INVALID,
                       "deployment '%s': a constant cannot stand for output '%s': its shape is not "
                       "fixed, it is BYTES, or it is larger than 1 MiB",
                       d->name, spec->name);
    }
    double *numbers = ot_arena_alloc(&d->memory, (size_t)OT_MAX(n, 1) * sizeof *numbers);
    void *data = ot_arena_alloc(&d->memory, OT_MAX(t->size_bytes, 1u));
    if (t->name == NULL || numbers == NULL || data == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "deployment '%s': out of memory", d->name);
    }
    int64_t used = 0;
    if (!flat_numbers(j, numbers, n, &used) || (used != n && used != 1)) {
        return ot_fail(err, OT_INVALID,
                       "deployment '%s': the constant for output '%s' must be one number, or the "
                       "%lld numbers of one row",
                       d->name, spec->name, (long long)n);
    }
    for (int64_t i = 0; i < n; i++) {
        put_number(t, data, i, numbers[used == 1 ? 0 : i]);
    }
    t->data = data;
    return OT_OK;
}

ot_rc ot_dep_set_constant(ot_dep *d, const char *json, ot_error *err)
{
    const ot_manifest *sig = &d->arms[d->n_live - 1].variant->sig;
    ot_tensor *out = ot_arena_calloc(&d->memory, sig->n_outputs, sizeof *out);
    if (out == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "deployment '%s': out of memory", d->name);
    }
    json_t *root = json_loads(json, JSON_DECODE_ANY, NULL);
    if (root == NULL) {
        return ot_fail(err, OT_INVALID, "deployment '%s': fallback.constant is not JSON", d->name);
    }
    ot_rc rc = OT_OK;
    for (size_t i = 0; i < sig->n_outputs && rc == OT_OK; i++) {
        const json_t *j = json_is_object(root) ? json_object_get(root, sig->outputs[i].name) : root;
        if (j == NULL || (!json_is_object(root) && sig->n_outputs != 1)) {
            rc = ot_fail(err, OT_INVALID,
                         "deployment '%s': fallback.constant has nothing for output '%s'; write "
                         "{\"%s\": ...}",
                         d->name, sig->outputs[i].name, sig->outputs[i].name);
            break;
        }
        rc = constant_output(d, &sig->outputs[i], j, &out[i], err);
    }
    json_decref(root);
    if (rc == OT_OK) {
        d->constant = out;
    }
    return rc;
}

/* ---- routes */

ot_rc ot_route_create(size_t n_deps, ot_route **route_out, ot_error *err)
{
    ot_route *r = ot_calloc(1, sizeof *r);
    ot_dep **deps = ot_calloc(OT_MAX(n_deps, 1u), sizeof(ot_dep *));
    if (r == NULL || deps == NULL) {
        ot_free(r);
        ot_free(deps);
        return ot_fail(err, OT_EXHAUSTED, "route: out of memory");
    }
    r->deps = deps;
    *route_out = r;
    return OT_OK;
}

void ot_route_destroy(ot_route *r)
{
    if (r == NULL) {
        return;
    }
    for (size_t i = 0; i < r->n_deps; i++) {
        ot_dep_unref(r->deps[i]);
    }
    ot_access_unref(r->access);
    ot_free(r->deps);
    ot_free(r);
}

ot_dep *ot_route_find(const ot_route *r, const char *name, size_t n)
{
    size_t lo = 0, hi = r->n_deps;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        ot_dep *d = r->deps[mid];
        int c = memcmp(d->name, name, OT_MIN(d->name_len, n));
        if (c == 0 && d->name_len == n) {
            return d;
        }
        if (c < 0 || (c == 0 && d->name_len < n)) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return NULL;
}

ot_rc ot_route_variant(const ot_route *r, const char *name, size_t n, uint64_t version,
                       const ot_dep **d_out, const ot_variant **v_out, ot_error *err)
{
    const ot_dep *d = ot_route_find(r, name, n);
    if (d == NULL) {
        return ot_fail(err, OT_NOT_FOUND, "model '%.*s' is not known", (int)OT_MIN(n, (size_t)80),
                       name);
    }
    const ot_arm *arm = version != 0    ? ot_dep_version(d, version)
                        : d->n_live > 0 ? &d->arms[d->n_live - 1]
                                        : NULL;
    if (arm == NULL && version != 0) {
        return ot_fail(err, OT_NOT_FOUND, "model '%s' has no version %llu loaded", d->name,
                       (unsigned long long)version);
    }
    if (arm == NULL) {
        return ot_fail(err, OT_UNAVAILABLE, "model '%s' is not ready: %s", d->name,
                       d->state[0] != '\0' ? d->state : "it is being loaded");
    }
    *d_out = d;
    *v_out = arm->variant;
    return OT_OK;
}
