/* The desired state: what replicas shall serve, and who may ask them. */
#include "pipeline/internal.h"

#include "registry/apikeys.h"

#include <stdlib.h>

static json_t *variant(const pl_app *a, const char *role, int64_t version, const ot_digest *bundle,
                       double share)
{
    char hex[OT_DIGEST_HEX];
    return json_pack("{s:s,s:s,s:I,s:s,s:f,s:s*}", "role", role, "model", a->app->app, "version",
                     (json_int_t)version, "bundle", ot_digest_hex(bundle, hex), "share", share,
                     "isolation", pl_isolation_of(a, version));
}

/* Beside the champion and the candidate; `previous` is among them when it is one of both. */
static void add_arms(const pl_app *a, int64_t candidate, json_t *v)
{
    for (size_t i = 0; i < a->st.n_arms; i++) {
        const pl_arm *x = &a->st.arms[i];
        if (x->version != a->st.champion && x->version != candidate) {
            json_array_append_new(v, variant(a, "arm", x->version, &x->bundle, x->share));
        }
    }
}

static bool is_arm(const pl_app *a, int64_t version)
{
    for (size_t i = 0; i < a->st.n_arms; i++) {
        if (a->st.arms[i].version == version) {
            return true;
        }
    }
    return false;
}

/* The arms of an A/B test keep their shares while a version is released: its canary has its share
 * of what they leave. */
static json_t *variants_of(const pl_app *a, bool *compare)
{
    const pl_cycle *c = &a->st.cycle;
    bool releasing = c->state == PL_RELEASING;
    bool candidate =
        releasing && !c->rollout.promoted && c->version > 0 && ot_rollout_loads(&c->rollout);
    double rest = OT_MAX(1 - pl_arms_share(&a->st), 0.0);
    double share = candidate ? rest * ot_rollout_share(&c->rollout) : 0;
    json_t *v = json_array();
    *compare = releasing && ot_rollout_compares(&c->rollout);
    json_array_append_new(
        v, variant(a, "champion", a->st.champion, &a->st.champion_bundle, rest - share));
    if (candidate) {
        /* An arm of share 0 is at hand: who asks for it meets it. */
        const char *role = share > 0 ? "canary" : *compare ? "shadow" : "arm";
        json_array_append_new(v, variant(a, role, c->version, &c->bundle, share));
    } else if (a->st.previous > 0 && !is_arm(a, a->st.previous) &&
               (*compare || a->app->serve.fallback == OT_FALLBACK_PREVIOUS)) {
        json_array_append_new(v, variant(a, "shadow", a->st.previous, &a->st.previous_bundle, 0));
    }
    add_arms(a, candidate ? c->version : 0, v);
    return v;
}

static void set_limit(json_t *limits, const char *key, int64_t value)
{
    if (value > 0) {
        json_object_set_new(limits, key, json_integer((json_int_t)value));
    }
}

static json_t *limits_of(const ot_app_serve *s)
{
    static const char *const priorities[] = {"normal", "high", "low"};
    json_t *limits = json_object();
    set_limit(limits, "concurrency", s->concurrency);
    set_limit(limits, "queue", s->queue);
    set_limit(limits, "memory_bytes", (int64_t)s->memory);
    set_limit(limits, "process_memory_bytes", (int64_t)s->process_memory);
    set_limit(limits, "deadline_us", s->deadline_us);
    if (s->priority != OT_SERVE_NORMAL) {
        json_object_set_new(limits, "priority", json_string(priorities[s->priority]));
    }
    return limits;
}

static json_t *deployment(const pl_app *a)
{
    bool compare = false;
    json_t *variants = variants_of(a, &compare);
    bool previous = a->app->serve.fallback == OT_FALLBACK_PREVIOUS;
    return json_pack("{s:s,s:s,s:{s:f,s:I},s:I,s:o,s:b,s:o,s:I,s:o}", "name",
                     a->app->serve.deployment, "fallback", previous ? "previous" : "refuse",
                     "sample", "rate", a->app->serve.sample.rate, "max_bytes",
                     (json_int_t)a->app->serve.sample.max, "window_us",
                     (json_int_t)a->app->quality.window_us, "variants", variants, "compare",
                     compare, "labels", pl_labels_json(&a->st), "previous",
                     (json_int_t)a->st.previous, "limits", limits_of(&a->app->serve));
}

/* {"keys": [...]} of those who may predict; null while nobody needs a key. */
static ot_rc read_access(ot_txn *txn, void *arg, ot_error *err)
{
    json_t **out = arg, *keys = NULL;
    bool needed;
    OT_TRY(ot_apikeys_needed(txn, &needed, err));
    if (!needed) {
        *out = json_null();
        return OT_OK;
    }
    OT_TRY(ot_apikeys_list(txn, &keys, err));
    *out = json_pack("{s:o}", "keys", keys);
    return *out != NULL ? OT_OK : ot_fail(err, OT_EXHAUSTED, "desired state: no memory");
}

ot_rc ot_pipeline_desired(ot_pipeline *p, ot_str *json_out, ot_error *err)
{
    char blobs[OT_PATH_MAX];
    json_t *access = NULL;
    OT_TRY(ot_store_read(p->store, read_access, &access, err));
    ot_rc rc = ot_path_join(blobs, ot_store_dir(p->store), "blobs", err);
    if (rc != OT_OK) {
        json_decref(access);
        return rc;
    }
    json_t *list = json_array();
    int64_t window = INT64_MAX;
    for (size_t i = 0; i < p->n_apps; i++) {
        const pl_app *a = p->apps[i];
        if (a->st.champion > 0 && !a->st.unloaded) {
            json_array_append_new(list, deployment(a));
            window = OT_MIN(window, a->app->quality.window_us);
        }
    }
    window = window == INT64_MAX ? 60000000 : window;
    json_t *j = json_pack("{s:I,s:s,s:I,s:o,s:o,s:s}", "revision", (json_int_t)p->revision, "blobs",
                          blobs, "window_us", (json_int_t)window, "deployments", list, "access",
                          access, "model_control", pl_model_control(p));
    char *text = j != NULL ? json_dumps(j, JSON_COMPACT) : NULL;
    json_decref(j);
    if (text == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "desired state: no memory");
    }
    ot_str_adds(json_out, text);
    free(text);
    return json_out->failed ? ot_fail(err, OT_EXHAUSTED, "desired state: no memory") : OT_OK;
}
