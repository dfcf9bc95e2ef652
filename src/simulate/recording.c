/* The recording apart from its rows: the policy in force, versions with how long they took and how
 * they scored, and what the log says of champions, falls and people. */
#include "simulate/recording.h"

#include "base/disk.h"
#include "base/mem.h"
#include "pipeline/app.h"
#include "store/events.h"
#include "store/kv.h"
#include "store/models.h"
#include "store/runs.h"
#include "store/windows.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define APPS_MAX 256
#define EVENTS_PAGE 5000

const char *const sim_step_names[SIM_STEPS] = {"train", "package", "evaluate"};

void *sim_grow(void *list, size_t n, size_t size)
{
    bool full = (n & (n - 1)) == 0;
    return full ? ot_realloc(list, (n == 0 ? 1 : 2 * n) * size) : list;
}

static ot_rc no_memory(const recording *r, ot_error *err)
{
    return ot_fail(err, OT_EXHAUSTED, "recording of %s: no memory", r->app);
}

/* ---- the policy in force */

static ot_rc add_name(void *arg, const char *key, const void *value, size_t n, ot_error *err)
{
    ot_str *names = arg;
    (void)value, (void)n, (void)err;
    ot_str_addf(names, "%s%s", names->len > 0 ? ", " : "", key);
    return OT_OK;
}

static ot_rc unknown_app(ot_txn *txn, const recording *r, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str names = OT_STR_INIT;
    OT_TRY(ot_kv_each(txn, "app.file", NULL, APPS_MAX, add_name, &names, err));
    return ot_fail(err, OT_NOT_FOUND,
                   "app '%s' is not in this data directory; it has %s. Apply the app first, or "
                   "name another directory with --data",
                   r->app, names.len > 0 ? names.data : "none");
}

static ot_rc find_deployment(recording *r, ot_error *err)
{
    ot_app *app = NULL;
    OT_TRY(ot_app_parse(r->yaml, strlen(r->yaml), r->file, r->dir, &app, err));
    snprintf(r->deployment, sizeof r->deployment, "%s", app->serve.deployment);
    ot_app_destroy(app);
    return OT_OK;
}

static ot_rc load_site(ot_txn *txn, recording *r, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    ot_rc rc = ot_kv_get(txn, "site", "file", &text, err);
    if (rc != OT_OK) {
        return rc == OT_NOT_FOUND ? OT_OK : rc;
    }
    json_t *j = json_loadb(text.data, text.len, 0, NULL);
    const char *yaml = json_string_value(json_object_get(j, "yaml"));
    const char *file = json_string_value(json_object_get(j, "file"));
    r->site = yaml != NULL && file != NULL ? ot_strdup(yaml) : NULL;
    r->site_file = r->site != NULL ? ot_strdup(file) : NULL;
    json_decref(j);
    return r->site_file != NULL ? OT_OK : no_memory(r, err);
}

static ot_rc load_file(ot_txn *txn, recording *r, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    ot_rc rc = ot_kv_get(txn, "app.file", r->app, &text, err);
    if (rc == OT_NOT_FOUND) {
        return unknown_app(txn, r, err);
    }
    OT_TRY(rc);
    json_t *j = json_loadb(text.data, text.len, 0, NULL);
    const char *yaml = json_string_value(json_object_get(j, "yaml"));
    const char *file = json_string_value(json_object_get(j, "file"));
    const char *dir = json_string_value(json_object_get(j, "dir"));
    if (yaml != NULL && file != NULL && dir != NULL) {
        r->yaml = ot_strdup(yaml);
        r->file = ot_strdup(file);
        r->dir = ot_strdup(dir);
        rc = r->yaml == NULL || r->file == NULL || r->dir == NULL ? no_memory(r, err) : OT_OK;
    } else {
        rc =
            ot_fail(err, OT_DATA_LOSS, "app %s: its saved file is damaged; apply it again", r->app);
    }
    json_decref(j);
    return rc == OT_OK ? find_deployment(r, err) : rc;
}

/* ---- versions */

static ot_rc add_version(void *arg, const ot_version_row *v, ot_error *err)
{
    recording *r = arg;
    sim_version *list = sim_grow(r->versions, r->n_versions, sizeof *list);
    if (list == NULL) {
        return no_memory(r, err);
    }
    r->versions = list;
    list[r->n_versions++] = (sim_version){
        .version = v->version, .bundle = v->bundle, .run = v->run, .created_us = v->created_us};
    return OT_OK;
}

static int by_version(const void *a, const void *b)
{
    const sim_version *x = a, *y = b;
    return x->version < y->version ? -1 : x->version > y->version;
}

static ot_rc load_versions(ot_txn *txn, recording *r, ot_error *err)
{
    OT_TRY(ot_version_each(txn, r->app, 0, SIM_VERSIONS_MAX, add_version, r, err));
    if (r->n_versions > 0) {
        qsort(r->versions, r->n_versions, sizeof *r->versions, by_version);
    }
    return OT_OK;
}

int32_t sim_version_find(const recording *r, int64_t version)
{
    size_t lo = 0, hi = r->n_versions;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (r->versions[mid].version < version) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo < r->n_versions && r->versions[lo].version == version ? (int32_t)lo : -1;
}

/* ---- how long steps took */

static sim_version *version_of_run(recording *r, int64_t run)
{
    for (size_t i = 0; run != 0 && i < r->n_versions; i++) {
        if (r->versions[i].run == run) {
            return &r->versions[i];
        }
    }
    return NULL;
}

static void take_run(recording *r, const ot_run *run)
{
    sim_version *v = version_of_run(r, run->parent != 0 ? run->parent : run->id);
    for (size_t k = 0; v != NULL && k < SIM_STEPS; k++) {
        if (strcmp(run->step, sim_step_names[k]) == 0 && run->state == OT_RUN_SUCCEEDED) {
            v->took_us[k] = OT_MAX(run->ended_us - run->created_us, 1);
            v->caused_us = k == SIM_TRAIN ? run->created_us : v->caused_us;
        }
    }
}

static ot_rc load_runs(ot_txn *txn, recording *r, ot_error *err)
{
    ot_run_filter f = {.app = r->app, .state = -1, .limit = 1000};
    for (size_t n = f.limit; n == f.limit;) {
        ot_run *runs;
        ot_arena arena;
        ot_arena_init(&arena, 1u << 16, 64u << 20);
        ot_rc rc = ot_store_run_list(txn, &f, &arena, &runs, &n, err);
        for (size_t i = 0; rc == OT_OK && i < n; i++) {
            take_run(r, &runs[i]);
            f.before_id = runs[i].id;
        }
        ot_arena_done(&arena);
        OT_TRY(rc);
    }
    return OT_OK;
}

static int by_size(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

static ot_rc find_medians(recording *r, ot_error *err)
{
    int64_t *took = ot_calloc(r->n_versions + 1, sizeof *took);
    if (took == NULL) {
        return no_memory(r, err);
    }
    for (size_t k = 0; k < SIM_STEPS; k++) {
        size_t n = 0;
        for (size_t i = 0; i < r->n_versions; i++) {
            if (r->versions[i].took_us[k] > 0) {
                took[n++] = r->versions[i].took_us[k];
            }
        }
        qsort(took, n, sizeof *took, by_size);
        r->median_us[k] = n > 0 ? took[n / 2] : 0;
    }
    ot_free(took);
    return OT_OK;
}

int32_t sim_trained_after(const recording *r, int64_t us)
{
    for (size_t i = 0; i < r->n_versions; i++) {
        if (r->versions[i].caused_us > 0 && r->versions[i].created_us >= us) {
            return (int32_t)i;
        }
    }
    return -1;
}

/* ---- the log */

static ot_rc add_change(recording *r, const ot_event *e, int64_t version, ot_error *err)
{
    sim_change *list = sim_grow(r->changes, r->n_changes, sizeof *list);
    if (list == NULL) {
        return no_memory(r, err);
    }
    r->changes = list;
    list[r->n_changes++] = (sim_change){
        .time_us = e->time_us, .version = version, .by_loop = strcmp(e->role, "person") != 0};
    int32_t i = sim_version_find(r, version);
    if (i >= 0) {
        r->versions[i].promoted = true;
    }
    return OT_OK;
}

static ot_rc add_fall(recording *r, const json_t *payload, ot_error *err)
{
    sim_fall *list = sim_grow(r->falls, r->n_falls, sizeof *list);
    if (list == NULL) {
        return no_memory(r, err);
    }
    r->falls = list;
    list[r->n_falls++] =
        (sim_fall){.since_us = json_integer_value(json_object_get(payload, "since_us")),
                   .accuracy = json_number_value(json_object_get(payload, "accuracy"))};
    return OT_OK;
}

static ot_rc add_fired(recording *r, int64_t us, ot_error *err)
{
    int64_t *list = sim_grow(r->fired_us, r->n_fired, sizeof *list);
    if (list == NULL) {
        return no_memory(r, err);
    }
    r->fired_us = list;
    list[r->n_fired++] = us;
    return OT_OK;
}

static ot_rc add_heard(recording *r, int64_t us, const json_t *payload, ot_error *err)
{
    sim_heard *list = sim_grow(r->heard, r->n_heard, sizeof *list);
    if (list == NULL) {
        return no_memory(r, err);
    }
    r->heard = list;
    list[r->n_heard++] =
        (sim_heard){.time_us = us,
                    .accepted = json_integer_value(json_object_get(payload, "accepted")),
                    .asked = json_integer_value(json_object_get(payload, "count"))};
    return OT_OK;
}

static void take_scores(recording *r, int64_t version, const json_t *payload)
{
    int32_t i = sim_version_find(r, version);
    const json_t *data = json_object_get(payload, "data");
    if (i >= 0 && json_is_object(data)) {
        json_decref(r->versions[i].scores);
        r->versions[i].scores = json_deep_copy(data);
        r->versions[i].scored_against = r->n_changes > 0 ? r->changes[r->n_changes - 1].version : 0;
    }
}

/* "model/digits@3" -> 3 */
static int64_t version_in(const char *object)
{
    const char *at = strrchr(object, '@');
    return at != NULL ? strtoll(at + 1, NULL, 10) : 0;
}

static bool is_act(const ot_event *e)
{
    static const char *const acts[] = {"loop.", "version.pushed", "version.rolled_back",
                                       "approval.refused", "trigger."};
    for (size_t i = 0; i < OT_COUNT(acts); i++) {
        if (strcmp(e->role, "person") == 0 && ot_has_prefix(e->type, acts[i])) {
            return true;
        }
    }
    return false;
}

static ot_rc take_payload(recording *r, const ot_event *e, const json_t *payload, ot_error *err)
{
    const json_t *serving = json_object_get(payload, "serving");
    r->acts += is_act(e);
    if (strcmp(e->type, "version.promoted") == 0) {
        return add_change(r, e, version_in(e->object), err);
    }
    if (strcmp(e->type, "version.rolled_back") == 0 && json_is_integer(serving)) {
        return add_change(r, e, json_integer_value(serving), err);
    }
    if (strcmp(e->type, "loop.pinned") == 0 || strcmp(e->type, "version.switched") == 0) {
        return add_change(r, e, json_integer_value(json_object_get(payload, "version")), err);
    }
    if (ot_has_prefix(e->type, "gate.")) {
        take_scores(r, version_in(e->object), payload);
    } else if (strcmp(e->type, "quality.degraded") == 0) {
        return add_fall(r, payload, err);
    } else if (strcmp(e->type, "trigger.fired") == 0 && strcmp(e->role, "person") != 0) {
        return add_fired(r, e->time_us, err);
    } else if (strcmp(e->type, "labels.received") == 0) {
        return add_heard(r, e->time_us, payload, err);
    } else if (strcmp(e->type, "app.applied") == 0 &&
               json_array_size(json_object_get(payload, "changed")) > 0) {
        r->applied_us = e->time_us;
    }
    return OT_OK;
}

static ot_rc take_event(void *arg, const ot_event *e, ot_error *err)
{
    recording *r = arg;
    static const char *const types[] = {"version.", "loop.", "gate.",     "quality.",
                                        "trigger.", "app.",  "approval.", "labels."};
    bool wanted = false;
    for (size_t i = 0; i < OT_COUNT(types); i++) {
        wanted = wanted || ot_has_prefix(e->type, types[i]);
    }
    if (!wanted || strcmp(e->scope, r->app) != 0 || e->payload == NULL) {
        return OT_OK;
    }
    json_t *payload = json_loads(e->payload, 0, NULL);
    ot_rc rc = take_payload(r, e, payload, err);
    json_decref(payload);
    return rc;
}

typedef struct page {
    recording *r;
    uint64_t last;
    size_t n;
} page;

static ot_rc page_event(void *arg, const ot_event *e, ot_error *err)
{
    page *p = arg;
    p->last = e->seq;
    p->n++;
    return take_event(p->r, e, err);
}

static ot_rc load_log(ot_txn *txn, recording *r, ot_error *err)
{
    page p = {.r = r, .n = EVENTS_PAGE};
    while (p.n == EVENTS_PAGE) {
        ot_event_query q = {.after_seq = p.last, .limit = EVENTS_PAGE};
        p.n = 0;
        OT_TRY(ot_events_read(txn, &q, page_event, &p, err));
    }
    return OT_OK;
}

int64_t sim_champion_at(const recording *r, int64_t us)
{
    int64_t version = 0;
    for (size_t i = 0; i < r->n_changes && r->changes[i].time_us <= us; i++) {
        version = r->changes[i].version;
    }
    return version;
}

const sim_fall *sim_fall_between(const recording *r, int64_t after_us, int64_t upto_us)
{
    for (size_t i = 0; i < r->n_falls; i++) {
        if (r->falls[i].since_us > after_us && r->falls[i].since_us <= upto_us) {
            return &r->falls[i];
        }
    }
    return NULL;
}

bool sim_accuracy_near(const recording *r, int32_t version, int64_t us, double *out)
{
    const sim_version *v = &r->versions[version];
    size_t lo = 0, hi = v->n_judged;
    while (lo < hi) { /* the first one later than `us` */
        size_t mid = lo + (hi - lo) / 2;
        if (v->judged[mid].time_us <= us) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    size_t end = OT_MIN(OT_MAX(lo, (size_t)SIM_NEAREST), v->n_judged);
    size_t begin = end > SIM_NEAREST ? end - SIM_NEAREST : 0;
    if (end == 0) {
        return false;
    }
    uint32_t right = v->judged[end - 1].right - (begin > 0 ? v->judged[begin - 1].right : 0);
    *out = (double)right / (double)(end - begin);
    return true;
}

/* ---- windows */

static ot_rc see_window(void *arg, const ot_window_row *w, ot_error *err)
{
    recording *r = arg;
    (void)err;
    r->windows += w->role == OT_WINDOW_CHAMPION;
    r->first_us = r->first_us == 0 ? w->start_us : OT_MIN(r->first_us, w->start_us);
    r->last_us = OT_MAX(r->last_us, OT_MAX(w->received_us, w->end_us));
    return OT_OK;
}

/* ---- all */

static ot_rc load_txn(ot_txn *txn, void *arg, ot_error *err)
{
    recording *r = arg;
    OT_TRY(load_file(txn, r, err));
    OT_TRY(load_site(txn, r, err));
    OT_TRY(load_versions(txn, r, err));
    OT_TRY(load_runs(txn, r, err));
    OT_TRY(find_medians(r, err));
    OT_TRY(load_log(txn, r, err));
    OT_TRY(ot_windows_ended(txn, r->deployment, 0, INT64_MAX, see_window, r, err));
    return sim_rows_load(txn, r, err);
}

ot_rc sim_recording_load(ot_store *store, const char *blobs, const char *app, recording *out,
                         ot_error *err)
{
    recording r = {.store = store};
    snprintf(r.blobs, sizeof r.blobs, "%s", blobs);
    snprintf(r.app, sizeof r.app, "%s", app);
    ot_rc rc = ot_store_read(store, load_txn, &r, err);
    if (rc == OT_OK && r.n_changes == 0) {
        rc = ot_fail(err, OT_NOT_FOUND,
                     "app %s: no version of it was ever promoted, so there is nothing to replay; "
                     "let it serve first",
                     app);
    }
    if (rc != OT_OK) {
        sim_recording_done(&r);
        return rc;
    }
    *out = r;
    return OT_OK;
}

void sim_recording_done(recording *r)
{
    for (size_t i = 0; i < r->n_versions; i++) {
        json_decref(r->versions[i].scores);
        ot_free(r->versions[i].judged);
    }
    ot_free(r->versions);
    ot_free(r->changes);
    ot_free(r->falls);
    ot_free(r->rows);
    ot_free(r->outcomes);
    ot_free(r->order);
    ot_free(r->calls);
    ot_free(r->heard);
    ot_free(r->late);
    ot_free(r->fired_us);
    ot_free(r->yaml);
    ot_free(r->file);
    ot_free(r->dir);
    ot_free(r->site);
    ot_free(r->site_file);
    *r = (recording){0};
}
