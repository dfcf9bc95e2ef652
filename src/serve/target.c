#include "serve/target.h"

#include "base/disk.h"
#include "base/hash.h"
#include "base/mem.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

#define WINDOW_US_MIN 100000
#define WINDOW_US_MAX 86400000000LL
#define WINDOW_US_DEFAULT 60000000
#define SAMPLE_BYTES_DEFAULT (UINT64_C(2) << 30)
#define SHARE_SLACK 1e-6
#define CONCURRENCY_MAX 64
#define QUEUE_MAX 1000000
#define DEADLINE_US_MAX INT64_C(3600000000)

const char *ot_role_name(ot_role role)
{
    switch (role) {
    case OT_ROLE_ARM:
        return "arm";
    case OT_ROLE_CANARY:
        return "canary";
    case OT_ROLE_CHAMPION:
        return "champion";
    case OT_ROLE_SHADOW:
        return "shadow";
    }
    return "unknown";
}

bool ot_priority_parse(const char *p, size_t n, ot_priority *out)
{
    static const char *const names[] = {"", "high", "normal", "low"};
    for (int i = OT_PRIORITY_HIGH; i <= OT_PRIORITY_LOW; i++) {
        if (n == strlen(names[i]) && memcmp(p, names[i], n) == 0) {
            *out = (ot_priority)i;
            return true;
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (p[i] < '0' || p[i] > '9') {
            return false;
        }
    }
    if (n == 0 || n > 19) {
        return false;
    }
    *out = n > 1 || p[0] > '3' ? OT_PRIORITY_LOW : (ot_priority)(p[0] - '0');
    return true;
}

ot_rc ot_target_create(ot_target **t_out, ot_error *err)
{
    ot_target *t = ot_calloc(1, sizeof *t);
    if (t == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "desired state: out of memory");
    }
    t->window_us = WINDOW_US_DEFAULT;
    *t_out = t;
    return OT_OK;
}

static void deployment_done(ot_target_deployment *d)
{
    ot_free(d->constant);
    for (size_t i = 0; i < d->n_variants; i++) {
        ot_free(d->variants[i].path);
    }
}

void ot_target_destroy(ot_target *t)
{
    if (t == NULL) {
        return;
    }
    for (size_t i = 0; i < t->n_deployments; i++) {
        deployment_done(&t->deployments[i]);
    }
    ot_free(t->deployments);
    ot_free(t->keys);
    ot_free(t->blobs);
    ot_free(t);
}

static size_t place_of(const ot_target *t, const char *name, bool *found_out)
{
    size_t lo = 0, hi = t->n_deployments;
    *found_out = false;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = strcmp(t->deployments[mid].name, name);
        if (c == 0) {
            *found_out = true;
            return mid;
        }
        if (c < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

ot_target_deployment *ot_target_find(const ot_target *t, const char *name)
{
    bool found;
    size_t at = place_of(t, name, &found);
    return found ? &t->deployments[at] : NULL;
}

ot_rc ot_target_add(ot_target *t, const char *name, ot_target_deployment **d_out, ot_error *err)
{
    if (!ot_name_ok(name)) {
        return ot_fail(err, OT_INVALID,
                       "deployment '%.80s': a name has 1 to 64 characters of A-Z a-z 0-9 . _ - and "
                       "does not start with . or -",
                       name);
    }
    bool found;
    size_t at = place_of(t, name, &found);
    if (found) {
        return ot_fail(err, OT_EXISTS, "deployment '%s' is there twice", name);
    }
    if (t->n_deployments >= OT_TARGET_DEPLOYMENTS_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "a replica serves at most %d deployments",
                       OT_TARGET_DEPLOYMENTS_MAX);
    }
    if (!ot_grow(&t->deployments, &t->cap, t->n_deployments, sizeof *t->deployments, 0)) {
        return ot_fail(err, OT_EXHAUSTED, "desired state: out of memory");
    }
    memmove(&t->deployments[at + 1], &t->deployments[at],
            (t->n_deployments - at) * sizeof *t->deployments);
    t->n_deployments++;
    ot_target_deployment *d = &t->deployments[at];
    *d = (ot_target_deployment){.fallback = OT_FALLBACK_REFUSE,
                                .sample_max_bytes = SAMPLE_BYTES_DEFAULT};
    strcpy(d->name, name);
    *d_out = d;
    return OT_OK;
}

void ot_target_remove(ot_target *t, const char *name)
{
    bool found;
    size_t at = place_of(t, name, &found);
    if (!found) {
        return;
    }
    deployment_done(&t->deployments[at]);
    t->n_deployments--;
    memmove(&t->deployments[at], &t->deployments[at + 1],
            (t->n_deployments - at) * sizeof *t->deployments);
}

/* ---- reading JSON */

static ot_rc get_role(const char *name, const json_t *j, ot_role *out, ot_error *err)
{
    const char *s = json_string_value(json_object_get(j, "role"));
    for (ot_role r = OT_ROLE_ARM; r <= OT_ROLE_SHADOW; r++) {
        if (s != NULL && strcmp(s, ot_role_name(r)) == 0) {
            *out = r;
            return OT_OK;
        }
    }
    return ot_fail(err, OT_INVALID,
                   "deployment '%s': role '%.40s' is not one of champion, canary, arm, shadow",
                   name, s != NULL ? s : "");
}

bool ot_isolate_parse(const char *s, ot_isolate *out)
{
    bool process = strcmp(s, "process") == 0;
    if (!process && strcmp(s, "none") != 0) {
        return false;
    }
    *out = process ? OT_ISOLATE_PROCESS : OT_ISOLATE_NONE;
    return true;
}

static ot_rc get_isolation(const char *name, const json_t *j, ot_target_variant *v, ot_error *err)
{
    const json_t *x = json_object_get(j, "isolation");
    const char *text = json_string_value(x);
    if (x != NULL && (text == NULL || !ot_isolate_parse(text, &v->isolate))) {
        return ot_fail(err, OT_INVALID,
                       "deployment '%s': isolation '%.40s' of %s@%llu is not one of none, process",
                       name, text != NULL ? text : "", v->model, (unsigned long long)v->version);
    }
    return OT_OK;
}

/* Where a variant lies: a bundle of the content store, or (`dir` not NULL) a path below `dir`. */
static ot_rc get_place(const char *name, const json_t *j, const char *dir, ot_target_variant *v,
                       ot_error *err)
{
    const char *bundle = json_string_value(json_object_get(j, "bundle"));
    const char *path = json_string_value(json_object_get(j, "path"));
    ot_digest d;
    if (dir == NULL && (bundle == NULL || !ot_digest_parse(bundle, &d))) {
        return ot_fail(err, OT_INVALID,
                       "deployment '%s': bundle '%.80s' of %s@%llu is not a SHA-256 in hex", name,
                       bundle != NULL ? bundle : "", v->model, (unsigned long long)v->version);
    }
    if (dir == NULL) {
        strcpy(v->bundle, bundle);
        return OT_OK;
    }
    if (path == NULL || !ot_path_is_clean(path)) {
        return ot_fail(err, OT_INVALID,
                       "deployment '%s': path '%.200s' of %s@%llu does not lie below %.200s", name,
                       path != NULL ? path : "", v->model, (unsigned long long)v->version, dir);
    }
    char full[OT_PATH_MAX];
    OT_TRY(ot_path_join(full, dir, path, err));
    v->path = ot_strdup(full);
    return v->path != NULL ? OT_OK : ot_fail(err, OT_EXHAUSTED, "deployments: out of memory");
}

static ot_rc get_variant(const char *name, const json_t *j, const char *dir, ot_target_variant *v,
                         ot_error *err)
{
    OT_TRY(get_role(name, j, &v->role, err));
    const char *model = json_string_value(json_object_get(j, "model"));
    model = model == NULL && dir != NULL ? name : model;
    if (model == NULL || !ot_name_ok(model)) {
        return ot_fail(err, OT_INVALID, "deployment '%s': a variant's model '%.80s' is not a name",
                       name, model != NULL ? model : "");
    }
    strcpy(v->model, model);
    json_int_t version = json_integer_value(json_object_get(j, "version"));
    if (version < 1) {
        return ot_fail(err, OT_INVALID,
                       "deployment '%s': version %lld of model '%s'; versions are "
                       "1 and up",
                       name, (long long)version, model);
    }
    v->version = (uint64_t)version;
    OT_TRY(get_place(name, j, dir, v, err));
    OT_TRY(get_isolation(name, j, v, err));
    const json_t *share = json_object_get(j, "share");
    v->share = json_number_value(share);
    if ((share != NULL && !json_is_number(share)) || !(v->share >= 0 && v->share <= 1)) {
        return ot_fail(err, OT_INVALID, "deployment '%s': share %g of %s@%lld is not in 0..1", name,
                       v->share, model, (long long)version);
    }
    return OT_OK;
}

static ot_rc check_variants(const ot_target_deployment *d, ot_error *err)
{
    double sum = 0;
    size_t champions = 0;
    for (size_t i = 0; i < d->n_variants; i++) {
        const ot_target_variant *v = &d->variants[i];
        champions += v->role == OT_ROLE_CHAMPION;
        sum += v->role == OT_ROLE_SHADOW ? 0 : v->share;
        for (size_t k = 0; k < i; k++) {
            if (v->version == d->variants[k].version &&
                strcmp(v->model, d->variants[k].model) == 0) {
                return ot_fail(err, OT_INVALID, "deployment '%s': %s@%llu is there twice", d->name,
                               v->model, (unsigned long long)v->version);
            }
        }
    }
    if (champions != 1) {
        return ot_fail(err, OT_INVALID, "deployment '%s' has %zu champions; it needs one", d->name,
                       champions);
    }
    if (fabs(sum - 1) > SHARE_SLACK) {
        return ot_fail(
            err, OT_INVALID,
            "deployment '%s': the shares of champion, canary and arms add to %g, not to 1", d->name,
            sum);
    }
    return OT_OK;
}

static ot_rc get_fallback(const json_t *j, ot_target_deployment *d, ot_error *err)
{
    const json_t *f = json_object_get(j, "fallback");
    const char *s = json_string_value(f);
    if (f == NULL || json_is_null(f) || (s != NULL && strcmp(s, "refuse") == 0)) {
        return OT_OK;
    }
    if (s != NULL && strcmp(s, "previous") == 0) {
        d->fallback = OT_FALLBACK_PREVIOUS;
        return OT_OK;
    }
    const json_t *constant = json_object_get(f, "constant");
    if (constant == NULL) {
        return ot_fail(err, OT_INVALID,
                       "deployment '%s': fallback is 'previous', 'refuse' or "
                       "{\"constant\": ...}",
                       d->name);
    }
    char *text = json_dumps(constant, JSON_COMPACT | JSON_ENCODE_ANY);
    d->constant = text != NULL ? ot_strdup(text) : NULL;
    free(text);
    if (d->constant == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "desired state: out of memory");
    }
    d->fallback = OT_FALLBACK_CONSTANT;
    return OT_OK;
}

static ot_rc get_sample(const json_t *j, ot_target_deployment *d, ot_error *err)
{
    const json_t *s = json_object_get(j, "sample");
    if (s == NULL || json_is_null(s)) {
        return OT_OK;
    }
    d->sample_rate = json_number_value(json_object_get(s, "rate"));
    const json_t *max = json_object_get(s, "max_bytes");
    if (!(d->sample_rate >= 0 && d->sample_rate <= 1)) {
        return ot_fail(err, OT_INVALID, "deployment '%s': sample rate %g is not in 0..1", d->name,
                       d->sample_rate);
    }
    if (max != NULL && (!json_is_integer(max) || json_integer_value(max) < 0)) {
        return ot_fail(err, OT_INVALID, "deployment '%s': sample.max_bytes is not a size", d->name);
    }
    if (max != NULL) {
        d->sample_max_bytes = (uint64_t)json_integer_value(max);
    }
    return OT_OK;
}

static ot_rc get_labels(const json_t *j, ot_target_deployment *d, ot_error *err)
{
    json_t *labels = json_object_get(j, "labels");
    const char *name;
    json_t *version;
    if (labels != NULL && !json_is_object(labels)) {
        return ot_fail(err, OT_INVALID, "deployment '%s': labels are {\"NAME\": VERSION}", d->name);
    }
    json_object_foreach(labels, name, version)
    {
        bool built_in = strcmp(name, OT_LABEL_STABLE) == 0 || strcmp(name, OT_LABEL_CANARY) == 0;
        if (!ot_name_ok(name) || built_in || json_integer_value(version) < 1) {
            return ot_fail(err, OT_INVALID, "deployment '%s': label '%.80s' %s", d->name, name,
                           built_in ? "is built in" : "is not a name for a version from 1 on");
        }
        if (d->n_labels == OT_TARGET_LABELS_MAX) {
            return ot_fail(err, OT_EXHAUSTED, "deployment '%s' has over %d labels", d->name,
                           OT_TARGET_LABELS_MAX);
        }
        ot_target_label *l = &d->labels[d->n_labels++];
        strcpy(l->name, name);
        l->version = (uint64_t)json_integer_value(version);
    }
    return OT_OK;
}

void ot_limits_default(ot_limits *l, const ot_manifest_serve *own)
{
    l->concurrency = l->concurrency != 0 ? l->concurrency : (uint32_t)own->instances;
    l->queue = l->queue != 0 ? l->queue : (uint32_t)own->queue;
    l->deadline_us = l->deadline_us != 0 ? l->deadline_us : own->deadline_us;
}

/* An optional whole number of `limits`. */
static ot_rc get_limit(const char *name, const json_t *limits, const char *key, int64_t max,
                       int64_t *out, ot_error *err)
{
    const json_t *j = json_object_get(limits, key);
    *out = json_integer_value(j);
    if (j != NULL && (!json_is_integer(j) || *out < 1 || *out > max)) {
        return ot_fail(err, OT_INVALID, "deployment '%s': limits.%s is not a number of 1 to %lld",
                       name, key, (long long)max);
    }
    return OT_OK;
}

static ot_rc get_limits(const json_t *j, ot_target_deployment *d, ot_error *err)
{
    const json_t *limits = json_object_get(j, "limits"), *priority;
    int64_t x;
    if (limits == NULL || json_is_null(limits)) {
        return OT_OK;
    }
    OT_TRY(get_limit(d->name, limits, "concurrency", CONCURRENCY_MAX, &x, err));
    d->limits.concurrency = (uint32_t)x;
    OT_TRY(get_limit(d->name, limits, "queue", QUEUE_MAX, &x, err));
    d->limits.queue = (uint32_t)x;
    OT_TRY(get_limit(d->name, limits, "memory_bytes", INT64_MAX, &x, err));
    d->limits.memory = (uint64_t)x;
    OT_TRY(get_limit(d->name, limits, "process_memory_bytes", INT64_MAX, &x, err));
    d->limits.process_memory = (uint64_t)x;
    OT_TRY(get_limit(d->name, limits, "deadline_us", DEADLINE_US_MAX, &d->limits.deadline_us, err));
    priority = json_object_get(limits, "priority");
    if (priority != NULL &&
        (!json_is_string(priority) ||
         !ot_priority_parse(json_string_value(priority), json_string_length(priority),
                            &d->limits.priority))) {
        return ot_fail(err, OT_INVALID,
                       "deployment '%s': limits.priority is not one of high, normal, low", d->name);
    }
    return OT_OK;
}

static ot_rc get_deployment(ot_target *t, const json_t *j, const char *dir, ot_error *err)
{
    const char *name = json_string_value(json_object_get(j, "name"));
    ot_target_deployment *d;
    OT_TRY(ot_target_add(t, name != NULL ? name : "", &d, err));
    OT_TRY(get_fallback(j, d, err));
    OT_TRY(get_sample(j, d, err));
    OT_TRY(get_labels(j, d, err));
    OT_TRY(get_limits(j, d, err));
    d->compare = json_is_true(json_object_get(j, "compare"));
    json_int_t previous = json_integer_value(json_object_get(j, "previous"));
    d->previous = previous > 0 ? (uint64_t)previous : 0;
    const json_t *variants = json_object_get(j, "variants");
    size_t n = json_array_size(variants);
    if (n > OT_TARGET_VARIANTS_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "deployment '%s' has %zu variants; the limit is %d",
                       d->name, n, OT_TARGET_VARIANTS_MAX);
    }
    for (size_t i = 0; i < n; i++) {
        d->n_variants = i + 1; /* what it has is freed with the others */
        OT_TRY(get_variant(d->name, json_array_get(variants, i), dir, &d->variants[i], err));
    }
    return check_variants(d, err);
}

/* "access": {"keys": [...]}; without it nobody needs a key. */
static ot_rc read_access(const json_t *root, ot_target *t, ot_error *err)
{
    const json_t *access = json_object_get(root, "access");
    const json_t *list = json_object_get(access, "keys");
    size_t n = json_array_size(list);
    if (access == NULL || json_is_null(access)) {
        return OT_OK;
    }
    if (!json_is_array(list) || n > OT_APIKEYS_MAX) {
        return ot_fail(err, OT_INVALID, "desired state: access.keys is not a list of at most %d",
                       OT_APIKEYS_MAX);
    }
    t->keys_needed = true;
    t->keys = ot_calloc(OT_MAX(n, 1u), sizeof *t->keys);
    if (t->keys == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "desired state: out of memory for %zu keys", n);
    }
    for (size_t i = 0; i < n; i++) {
        OT_TRY(ot_apikey_read(json_array_get(list, i), &t->keys[i], err));
        t->n_keys = i + 1;
    }
    return OT_OK;
}

/* "model_control"; a control plane that says nothing of it takes no requests. */
static ot_rc read_control(const json_t *root, ot_target *t, ot_error *err)
{
    const json_t *j = json_object_get(root, "model_control");
    const char *s = json_string_value(j);
    if (j != NULL && s == NULL) {
        return ot_fail(err, OT_INVALID, "desired state: model_control is not a text");
    }
    t->manage = s == NULL                  ? OT_MANAGE_ALONE
                : strcmp(s, "anyone") == 0 ? OT_MANAGE_ANYONE
                                           : OT_MANAGE_ADMIN;
    return OT_OK;
}

static ot_rc read_deployments(const json_t *root, const char *dir, ot_target *t, ot_error *err)
{
    const json_t *deployments = json_object_get(root, "deployments");
    if (!json_is_array(deployments)) {
        return ot_fail(err, OT_INVALID, "desired state: 'deployments' is not a list");
    }
    for (size_t i = 0; i < json_array_size(deployments); i++) {
        OT_TRY(get_deployment(t, json_array_get(deployments, i), dir, err));
    }
    return OT_OK;
}

static ot_rc read_target(const json_t *root, const char *dir, ot_target *t, ot_error *err)
{
    if (dir != NULL) {
        t->revision = 1;
        return read_deployments(root, dir, t, err);
    }
    const json_t *revision = json_object_get(root, "revision");
    if (!json_is_integer(revision) || json_integer_value(revision) < 0) {
        return ot_fail(err, OT_INVALID, "desired state: 'revision' is not a number of 0 and up");
    }
    t->revision = (uint64_t)json_integer_value(revision);
    const json_t *window = json_object_get(root, "window_us");
    if (window != NULL) {
        t->window_us = json_integer_value(window);
        if (t->window_us < WINDOW_US_MIN || t->window_us > WINDOW_US_MAX) {
            return ot_fail(err, OT_INVALID, "desired state: window_us %lld is not in %d..%lld",
                           (long long)t->window_us, WINDOW_US_MIN, WINDOW_US_MAX);
        }
    }
    const char *blobs = json_string_value(json_object_get(root, "blobs"));
    if (blobs == NULL) {
        return ot_fail(err, OT_INVALID, "desired state: 'blobs' is missing");
    }
    t->blobs = ot_strdup(blobs);
    if (t->blobs == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "desired state: out of memory");
    }
    OT_TRY(read_access(root, t, err));
    OT_TRY(read_control(root, t, err));
    return read_deployments(root, NULL, t, err);
}

ot_rc ot_target_parse(const char *json, size_t n, ot_target **t_out, ot_error *err)
{
    return ot_target_parse_at(json, n, NULL, t_out, err);
}

ot_rc ot_target_parse_at(const char *json, size_t n, const char *dir, ot_target **t_out,
                         ot_error *err)
{
    if (n > OT_TARGET_JSON_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "desired state: %zu bytes; the limit is %u", n,
                       OT_TARGET_JSON_MAX);
    }
    json_error_t why;
    json_t *root = json_loadb(json, n, JSON_REJECT_DUPLICATES, &why);
    if (root == NULL) {
        return ot_fail(err, OT_INVALID, "desired state: line %d: %s", why.line, why.text);
    }
    ot_target *t = NULL;
    ot_rc rc = ot_target_create(&t, err);
    if (rc == OT_OK) {
        rc = read_target(root, dir, t, err);
    }
    json_decref(root);
    if (rc != OT_OK) {
        ot_target_destroy(t);
        return rc;
    }
    *t_out = t;
    return OT_OK;
}
