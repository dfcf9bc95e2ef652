/* The pipeline as a whole: its apps, what comes in for them and what replicas shall serve. */
#include "pipeline/internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "store/kv.h"
#include "store/windows.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define PAUSE_US 100000
#define AWAIT_US 1000000

pl_app *pl_app_find(const ot_pipeline *p, const char *name)
{
    for (size_t i = 0; i < p->n_apps; i++) {
        if (strcmp(p->apps[i]->app->app, name) == 0) {
            return p->apps[i];
        }
    }
    return NULL;
}

bool ot_pipeline_has_app(const ot_pipeline *p, const char *app)
{
    return pl_app_find(p, app) != NULL;
}

pl_app *pl_app_of_deployment(ot_pipeline *p, const char *deployment)
{
    for (size_t i = 0; i < p->n_apps; i++) {
        if (strcmp(p->apps[i]->app->serve.deployment, deployment) == 0) {
            return p->apps[i];
        }
    }
    return NULL;
}

void pl_desired_changed(ot_pipeline *p)
{
    p->desired_dirty = true;
}

/* Sent once per turn, however many apps changed. */
static void flush_desired(ot_pipeline *p)
{
    if (p->desired_dirty) {
        p->desired_dirty = false;
        p->revision++;
        p->ports.desired_changed(p->ports.self);
    }
}

/* ------------------------------------------------------------------ create */

ot_quality_config pl_quality_config(pl_app *a)
{
    const ot_app *app = a->app;
    const ot_conf_rate *rate = &app->objectives.false_alarms.at_most;
    return (ot_quality_config){
        .deployment = app->serve.deployment,
        .model = app->app,
        .app = app->app,
        .window_us = app->quality.window_us,
        .block_us = app->quality.block_us,
        .blocks_per_day = app->quality.blocks_per_day,
        .baseline_days = app->quality.baseline_days,
        .cycles = app->quality.cycles,
        .ignore_smaller = app->quality.ignore_smaller,
        .false_alarms_per_year = (double)rate->count * 31536000e6 / (double)rate->per_us,
        .accuracy_at_least =
            app->objectives.accuracy.mark.line != 0 ? app->objectives.accuracy.at_least : 0,
        .p99_at_most_us =
            app->objectives.latency_p99.mark.line != 0 ? app->objectives.latency_p99.at_most_us : 0,
        .join_on_key = app->serve.labels.join == OT_JOIN_KEY,
        .sample_max_bytes = app->serve.sample.max,
        .sample_keep_us = app->serve.sample.keep_us,
        .on_finding = pl_on_finding,
        .arg = a,
    };
}

static void app_destroy(pl_app *a)
{
    if (a != NULL) {
        pl_spare_drop(a);
        ot_quality_destroy(a->quality);
        ot_app_destroy(a->app);
        ot_free(a);
    }
}

ot_rc pl_app_add(ot_pipeline *p, ot_app *app, pl_app **out, ot_error *err)
{
    if (p->n_apps == PL_APPS_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "%d apps are here already", PL_APPS_MAX);
    }
    pl_app *a = ot_calloc(1, sizeof *a);
    if (a == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "app %s: no memory", app->app);
    }
    a->p = p;
    a->app = app;
    bool found = false;
    ot_rc rc = pl_state_load(a, &found, err);
    if (rc == OT_OK) {
        rc = pl_findings_catch_up(a, err);
    }
    if (rc == OT_OK) {
        ot_quality_config cfg = pl_quality_config(a);
        rc = ot_quality_create(p->store, &cfg, &a->quality, err);
    }
    if (rc != OT_OK) {
        a->app = NULL; /* stays the caller's */
        app_destroy(a);
        return rc;
    }
    if (!found) {
        a->st.armed = true;
    }
    p->apps[p->n_apps++] = a;
    *out = a;
    return OT_OK;
}

static ot_rc load_app(void *arg, const char *key, const void *value, size_t n, ot_error *err)
{
    (void)err;
    json_t *list = arg;
    json_t *j = json_loadb(value, n, 0, NULL);
    if (j == NULL) {
        ot_err("pipeline", "app %s: its saved file is damaged; apply it again", key);
        return OT_OK;
    }
    json_array_append_new(list, j);
    return OT_OK;
}

static ot_rc list_apps(ot_txn *txn, void *arg, ot_error *err)
{
    return ot_kv_each(txn, "app.file", NULL, PL_APPS_MAX, load_app, arg, err);
}

/* An app that cannot be loaded must not keep the others down. */
static void load_one(ot_pipeline *p, const json_t *j)
{
    const char *yaml = json_string_value(json_object_get(j, "yaml"));
    const char *file = json_string_value(json_object_get(j, "file"));
    const char *dir = json_string_value(json_object_get(j, "dir"));
    ot_app *app = NULL;
    pl_app *a = NULL;
    ot_error err = {0};
    if (yaml == NULL || file == NULL || dir == NULL) {
        ot_err("pipeline", "an app's saved file is damaged; apply it again");
        return;
    }
    if (ot_app_parse(yaml, strlen(yaml), file, dir, &app, &err) != OT_OK ||
        pl_app_add(p, app, &a, &err) != OT_OK) {
        ot_err("pipeline", "not loaded: %s", err.msg);
        ot_app_destroy(app);
    }
}

ot_rc ot_pipeline_create(const ot_pipeline_config *cfg, ot_pipeline **out, ot_error *err)
{
    ot_pipeline *p = ot_calloc(1, sizeof *p);
    if (p == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "pipeline: no memory");
    }
    p->store = cfg->store;
    p->ports = cfg->ports;
    p->tidying = cfg->untidy; /* for good */
    p->data_dir = ot_strdup(cfg->data_dir);
    p->exe = ot_strdup(cfg->exe != NULL ? cfg->exe : "/proc/self/exe");
    p->revision = ot_clock_wall_us(); /* above every earlier process's */
    json_t *list = json_array();
    ot_rc rc = p->data_dir == NULL || p->exe == NULL || list == NULL
                   ? ot_fail(err, OT_EXHAUSTED, "pipeline: no memory")
                   : ot_store_read(cfg->store, list_apps, list, err);
    for (size_t i = 0; rc == OT_OK && i < json_array_size(list); i++) {
        load_one(p, json_array_get(list, i));
    }
    json_decref(list);
    if (rc != OT_OK) {
        ot_pipeline_destroy(p);
        return rc;
    }
    p->desired_dirty = true;
    *out = p;
    return OT_OK;
}

void ot_pipeline_destroy(ot_pipeline *p)
{
    if (p == NULL) {
        return;
    }
    for (size_t i = 0; i < p->n_apps; i++) {
        app_destroy(p->apps[i]);
    }
    ot_site_destroy(p->site);
    ot_free(p->data_dir);
    ot_free(p->exe);
    ot_free(p);
}

/* ------------------------------------------------------------------ time and runs */

void ot_pipeline_tick(ot_pipeline *p)
{
    for (size_t i = 0; i < p->n_apps; i++) {
        pl_app *a = p->apps[i];
        if (pl_cycle_stands(a) && a->again_us <= ot_clock_wall_us()) {
            pl_cycle_go(a);
        }
        pl_budget_tick(a);
        pl_release_tick(a);
        pl_trigger_tick(a);
        pl_site_tick(a);
        pl_spare_tick(a);
        pl_checkpoints_tick(a);
    }
    pl_tidy_tick(p);
    flush_desired(p);
}

int64_t ot_pipeline_next_us(const ot_pipeline *p)
{
    int64_t next = pl_tidy_next_us(p), now = ot_clock_wall_us();
    for (size_t i = 0; i < p->n_apps; i++) {
        const pl_app *a = p->apps[i];
        if (pl_cycle_stands(a)) {
            next = OT_MIN(next, a->again_us);
        }
        if (a->st.cycle.state == PL_RELEASING && !a->st.frozen && !pl_budget_holds(a)) {
            bool waits = a->st.cycle.waits[0] != 0;
            next =
                OT_MIN(next, waits ? a->held_until_us : ot_rollout_deadline(&a->st.cycle.rollout));
        }
        if (pl_release_awaits(a) && !a->st.frozen) {
            next = OT_MIN(next, now + AWAIT_US); /* a replica that was waited for may be gone */
        }
        next = OT_MIN(next, OT_MIN(a->look_us, pl_trigger_next_us(a)));
        next = OT_MIN(next, OT_MIN(pl_spare_next_us(a), pl_checkpoints_next_us(a)));
    }
    /* What was due and could not be saved is tried again, but not without a pause. */
    return OT_MAX(next, now + PAUSE_US);
}

void ot_pipeline_run_ended(ot_pipeline *p, int64_t run)
{
    for (size_t i = 0; i < p->n_apps; i++) {
        if (p->apps[i]->st.cycle.run == run) {
            pl_cycle_run_ended(p->apps[i]);
        }
    }
    flush_desired(p);
}

/* ------------------------------------------------------------------ from replicas */

ot_rc ot_pipeline_push(ot_pipeline *p, const char *json, size_t json_len, const void *bin,
                       size_t bin_len, ot_error *err)
{
    json_t *j = json_loadb(json, json_len, 0, NULL);
    const char *name = json_string_value(json_object_get(j, "deployment"));
    pl_app *a = name != NULL ? pl_app_of_deployment(p, name) : NULL;
    ot_rc rc = OT_OK;
    if (j == NULL || name == NULL) {
        rc = ot_fail(err, OT_INVALID, "push: not JSON with a deployment");
    } else if (a == NULL) {
        rc = ot_fail(err, OT_NOT_FOUND, "push: no app serves '%.64s'", name);
    }
    json_decref(j);
    OT_TRY(rc);
    rc = ot_quality_push(a->quality, json, json_len, bin, bin_len, err);
    flush_desired(p);
    return rc;
}

/* A champion that a replica cannot load: what served before it serves on there, and the state says
 * so again. Without a version before it somebody must see to it. Told once for each version. */
static void champion_failed(pl_app *a, int64_t version, const char *error)
{
    if (a->st.cycle.state == PL_RELEASING || a->st.frozen || a->unservable == version) {
        return;
    }
    ot_error err = {0};
    char reason[160];
    a->unservable = version;
    snprintf(reason, sizeof reason, "a replica cannot serve it: %s", error);
    if (a->st.previous > 0 && a->st.pinned == 0) {
        if (pl_switch_back(a, "overtake", reason, &err) != OT_OK) {
            ot_err("pipeline", "app %s: %s", a->app->app, err.msg);
            a->unservable = 0;
        }
        return;
    }
    char object[OT_OBJECT_TEXT];
    ot_registry_object(object, a->app->app, version);
    pl_change c = pl_change_of(a);
    pl_event *e = pl_change_event(&c, "version.unservable", object,
                                  pl_text("v%" PRId64 ": %s", version, reason));
    e->alert = true;
    (void)pl_commit_logged(&c);
}

/* Its share goes back to the champion, its labels name nothing: who sets them again tries again. */
static void arm_failed(pl_app *a, int64_t version, const char *error)
{
    char object[OT_OBJECT_TEXT];
    pl_change c = pl_change_of(a);
    if (a->st.frozen || !pl_arms_drop(&c.next, version)) {
        return;
    }
    ot_registry_object(object, a->app->app, version);
    pl_event *e = pl_change_event(
        &c, "version.unservable", object,
        pl_text("v%" PRId64
                ": a replica cannot serve it: %s; it has no share and no label any more",
                version, error));
    e->alert = true;
    e->aside = true;
    if (pl_commit_logged(&c)) {
        pl_desired_changed(a->p);
    }
}

static void note_variant(pl_app *a, const json_t *variant)
{
    const char *role = json_string_value(json_object_get(variant, "role"));
    const char *state = json_string_value(json_object_get(variant, "state"));
    const char *error = json_string_value(json_object_get(variant, "error"));
    int64_t version = json_integer_value(json_object_get(variant, "version"));
    if (role != NULL && state != NULL && strcmp(role, "champion") == 0 &&
        version == a->st.champion && strcmp(state, "failed") == 0) {
        champion_failed(a, version, error != NULL ? error : "?");
    }
    if (role != NULL && state != NULL && strcmp(role, "arm") == 0 && strcmp(state, "failed") == 0) {
        arm_failed(a, version, error != NULL ? error : "?");
    }
    if (state == NULL || version != a->st.cycle.version || a->st.cycle.state != PL_RELEASING) {
        return;
    }
    snprintf(a->candidate_state, sizeof a->candidate_state, "%s", state);
    if (strcmp(state, "failed") != 0 || a->st.frozen) {
        return;
    }
    ot_error err = {0};
    char reason[160];
    snprintf(reason, sizeof reason, "a replica cannot serve it: %s", error != NULL ? error : "?");
    if (pl_release_abort(a, NULL, reason, &err) != OT_OK) {
        ot_err("pipeline", "app %s: %s", a->app->app, err.msg);
    }
}

void ot_pipeline_observed(ot_pipeline *p, const char *replica, const char *json, size_t json_len)
{
    (void)replica;
    json_t *j = json_loadb(json, json_len, 0, NULL);
    const json_t *list = json_object_get(j, "deployments");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *d = json_array_get(list, i);
        const char *name = json_string_value(json_object_get(d, "name"));
        pl_app *a = name != NULL ? pl_app_of_deployment(p, name) : NULL;
        const json_t *variants = json_object_get(d, "variants");
        for (size_t k = 0; a != NULL && k < json_array_size(variants); k++) {
            note_variant(a, json_array_get(variants, k));
        }
        if (a != NULL && pl_release_awaits(a)) {
            pl_release_tick(a);
        }
    }
    json_decref(j);
    flush_desired(p);
}

static ot_rc replica_event(ot_txn *txn, void *arg, ot_error *err)
{
    return ot_event_append(txn, arg, NULL, err);
}

void ot_pipeline_replica(ot_pipeline *p, const char *replica, bool connected)
{
    char object[96], payload[160];
    snprintf(object, sizeof object, "replica/%.64s", replica);
    snprintf(payload, sizeof payload, "{\"text\":\"%.64s %s\",\"because\":[]}", replica,
             connected ? "connected" : "is gone; it serves on from what it has");
    ot_event_in in = {.actor = "overtake",
                      .role = "automation",
                      .type = connected ? "replica.connected" : "replica.lost",
                      .object = object,
                      .payload = payload};
    ot_error err = {0};
    if (ot_store_write(p->store, replica_event, &in, &err) != OT_OK) {
        ot_err("pipeline", "%s: %s", object, err.msg);
    }
}

/* A label's id names a process that the store knows by its pushes; "hello" is a stream of one. */
ot_rc pl_note_incarnations(ot_txn *txn, const ot_pipeline *p, const char *deployment, ot_error *err)
{
    for (size_t i = 0; i < p->n_incarnations; i++) {
        bool fresh;
        OT_TRY(ot_push_note(txn, deployment, p->incarnations[i], "hello", 1, &fresh, err));
    }
    return OT_OK;
}

static ot_rc note_all(ot_txn *txn, void *arg, ot_error *err)
{
    const ot_pipeline *p = arg;
    for (size_t i = 0; i < p->n_apps; i++) {
        OT_TRY(pl_note_incarnations(txn, p, p->apps[i]->app->serve.deployment, err));
    }
    return OT_OK;
}

void ot_pipeline_incarnation(ot_pipeline *p, const char *incarnation)
{
    uint8_t b[8];
    uint64_t x = 0;
    if (strlen(incarnation) != 16 || !ot_unhex(incarnation, sizeof b, b)) {
        ot_warn("pipeline", "incarnation '%.40s' of a replica is not 16 hex digits", incarnation);
        return;
    }
    for (size_t i = 0; i < sizeof b; i++) {
        x = x << 8 | b[i];
    }
    for (size_t i = 0; i < p->n_incarnations; i++) {
        if (p->incarnations[i] == x) {
            return;
        }
    }
    if (p->n_incarnations == PL_INCARNATIONS_MAX) {
        memmove(p->incarnations, p->incarnations + 1, sizeof p->incarnations - sizeof x);
        p->n_incarnations--;
    }
    p->incarnations[p->n_incarnations++] = x;
    ot_error err = {0};
    if (ot_store_write(p->store, note_all, p, &err) != OT_OK) {
        ot_err("pipeline", "incarnation %s: %s", incarnation, err.msg);
    }
}

ot_rc ot_pipeline_labels(ot_pipeline *p, const char *deployment, const ot_label_in *labels,
                         size_t n, const char *actor, ot_label_report *out, ot_error *err)
{
    pl_app *a = pl_app_of_deployment(p, deployment);
    if (a == NULL) {
        return ot_fail(err, OT_NOT_FOUND, "deployment '%.64s': no app serves it", deployment);
    }
    ot_rc rc = ot_quality_labels(a->quality, labels, n, actor, out, err);
    flush_desired(p);
    return rc;
}

ot_rc ot_pipeline_serves(ot_pipeline *p, const char *deployment, ot_error *err)
{
    return pl_app_of_deployment(p, deployment) != NULL
               ? OT_OK
               : ot_fail(err, OT_NOT_FOUND, "deployment '%.64s': no app serves it", deployment);
}

ot_rc ot_pipeline_accuracy(ot_pipeline *p, const char *deployment, int64_t version, int64_t from_us,
                           int64_t to_us, ot_accuracy *out, ot_error *err)
{
    pl_app *a = pl_app_of_deployment(p, deployment);
    if (a == NULL) {
        return ot_fail(err, OT_NOT_FOUND, "deployment '%.64s': no app serves it", deployment);
    }
    return ot_quality_accuracy(a->quality, version, from_us, to_us, out, err);
}

void ot_pipeline_clients_changed(ot_pipeline *p)
{
    pl_desired_changed(p);
    flush_desired(p);
}
