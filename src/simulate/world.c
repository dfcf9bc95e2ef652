#include "simulate/world.h"

#include "base/clock.h"
#include "base/mem.h"
#include "pipeline/site.h"
#include "registry/registry.h"
#include "store/events.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- the clock: one rehearsal at a time */

static int64_t clock_us;

static uint64_t clock_mono(void *self)
{
    (void)self;
    return (uint64_t)clock_us * 1000;
}

static int64_t clock_wall(void *self)
{
    (void)self;
    return clock_us;
}

static void clock_sleep(void *self, uint64_t us)
{
    (void)self, (void)us;
}

static void set_clock(world *w, int64_t us)
{
    static const ot_clock_source source = {
        .mono_ns = clock_mono, .wall_us = clock_wall, .sleep_us = clock_sleep};
    w->now_us = us;
    clock_us = us;
    ot_clock_install(&source);
}

/* ---- ports */

static int64_t int_of(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

static void take_variant(world_variants *v, const json_t *x)
{
    const char *role = json_string_value(json_object_get(x, "role"));
    int64_t version = int_of(x, "version");
    if (role == NULL) {
        return;
    }
    if (strcmp(role, "champion") == 0) {
        v->champion = version;
    } else if (strcmp(role, "canary") == 0) {
        v->candidate = version;
        v->share = json_number_value(json_object_get(x, "share"));
    } else {
        v->shadow = version;
    }
}

static void fail(world *w, const char *what)
{
    if (w->failed.rc == OT_OK) {
        (void)ot_fail(&w->failed, OT_EXHAUSTED, "rehearsal: %s", what);
    }
}

/* What replicas would serve from now on. */
static void note_desired(void *self)
{
    world *w = self;
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    if (w->p == NULL || ot_pipeline_desired(w->p, &text, &w->failed) != OT_OK) {
        return;
    }
    json_t *j = json_loadb(text.data, text.len, 0, NULL);
    const json_t *d = json_array_get(json_object_get(j, "deployments"), 0);
    const json_t *list = json_object_get(d, "variants");
    world_variants v = {.from_us = w->now_us,
                        .compare = json_is_true(json_object_get(d, "compare"))};
    for (size_t i = 0; i < json_array_size(list); i++) {
        take_variant(&v, json_array_get(list, i));
    }
    json_decref(j);
    world_variants *grown = sim_grow(w->history, w->n_history, sizeof *grown);
    if (grown == NULL) {
        fail(w, "no memory");
        return;
    }
    w->history = grown;
    grown[w->n_history++] = v;
}

static ot_rc do_at_once(void *self, ot_pipeline_work_fn *work, ot_pipeline_done_fn *done, void *arg,
                        ot_error *err)
{
    ot_error e = {0};
    (void)self, (void)err;
    ot_rc rc = work(arg, &e);
    done(arg, rc, &e);
    return OT_OK;
}

static void watch_nothing(void *self, int64_t run, int fd)
{
    (void)self, (void)run, (void)fd;
}

/* Nobody is there to be alerted: the event tells what the answer has to know. */
static void hear(void *arg, const ot_event *events, size_t n)
{
    world *w = arg;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(events[i].type, "approval.requested") == 0) {
            w->ask = w->waits = true;
        } else if (strcmp(events[i].type, "release.stopped") == 0) {
            w->waits = false;
        }
    }
}

const world_variants *world_variants_at(const world *w, int64_t us)
{
    size_t lo = 0, hi = w->n_history;
    while (lo < hi) { /* the first one from after `us` */
        size_t mid = lo + (hi - lo) / 2;
        if (w->history[mid].from_us <= us) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo > 0 ? &w->history[lo - 1] : NULL;
}

/* ---- life */

/* The operators' file that is in force holds for every policy. */
static ot_rc put_site(world *w, ot_error *err)
{
    char path[OT_PATH_MAX];
    ot_site *site = NULL;
    const char *yaml = w->rec->site, *file = w->rec->site_file;
    OT_TRY(ot_path_join(path, w->dir, file, err));
    OT_TRY(ot_disk_write_atomic(ot_disk_scratch(), path, yaml, strlen(yaml), 0600, err));
    OT_TRY(ot_pipeline_site(w->p, path, err));
    OT_TRY(ot_site_parse(yaml, strlen(yaml), file, &site, err));
    ot_rc rc = ot_site_tighten(site, w->app, err);
    ot_site_destroy(site);
    return rc;
}

static ot_rc open_all(world *w, ot_error *err)
{
    char store[OT_PATH_MAX];
    const ot_store_options opt = {.struct_size = sizeof opt, .cache_kib = 65536};
    OT_TRY(ot_path_join(store, w->dir, "store", err));
    OT_TRY(ot_disk_mkdirs(ot_disk_scratch(), w->dir, 0700, err));
    OT_TRY(ot_store_open(ot_disk_scratch(), store, &opt, &w->store, err));
    OT_TRY(ot_store_on_event(w->store, hear, w, err));
    ot_pipeline_config cfg = {.store = w->store,
                              .data_dir = w->dir,
                              .untidy = true,
                              .ports = {.self = w,
                                        .desired_changed = note_desired,
                                        .async = do_at_once,
                                        .watch_run = watch_nothing,
                                        .start_run = world_start_run}};
    OT_TRY(ot_pipeline_create(&cfg, &w->p, err));
    return w->rec->site != NULL ? put_site(w, err) : OT_OK;
}

ot_rc world_create(const recording *rec, const char *scratch, const char *yaml, const char *file,
                   const char *dir, double assume_accuracy, world **out, ot_error *err)
{
    world *w = ot_calloc(1, sizeof *w);
    if (w == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "rehearsal: no memory");
    }
    w->rec = rec;
    w->assume_accuracy = assume_accuracy;
    set_clock(w, rec->first_us);
    snprintf(w->dir, sizeof w->dir, "%s", scratch);
    ot_rc rc = ot_app_parse(yaml, strlen(yaml), file, dir, &w->app, err);
    if (rc == OT_OK) {
        rc = open_all(w, err);
    }
    if (rc != OT_OK) {
        world_destroy(w);
        return rc;
    }
    *out = w;
    return OT_OK;
}

void world_destroy(world *w)
{
    if (w == NULL) {
        return;
    }
    ot_pipeline_destroy(w->p);
    ot_store_close(w->store);
    ot_clock_install(NULL);
    ot_app_destroy(w->app);
    ot_free(w->history);
    ot_free(w->answers);
    ot_free(w->emits);
    ot_free(w);
}

/* ---- the beginning */

/* Labels that came since the training of the first version began. */
static int64_t labels_since_training(const recording *r, const sim_version *v, int64_t us)
{
    int64_t from = v->caused_us != 0 ? v->caused_us : us, n = 0;
    for (size_t i = 0; i < r->n_rows; i++) {
        const sim_row *x = &r->rows[i];
        n += x->n > 0 && x->received_us >= from && x->received_us < us;
    }
    return n;
}

static ot_rc know_processes(world *w)
{
    const recording *r = w->rec;
    for (size_t i = 0; i < r->n_rows; i++) {
        if (i == 0 || r->rows[i].incarnation != r->rows[i - 1].incarnation) {
            char hex[17];
            snprintf(hex, sizeof hex, "%016" PRIx64, r->rows[i].incarnation);
            ot_pipeline_incarnation(w->p, hex);
        }
    }
    return OT_OK;
}

ot_rc world_begin(world *w, int64_t us, ot_error *err)
{
    const recording *r = w->rec;
    char bundle[OT_PATH_MAX];
    int64_t version = sim_champion_at(r, us), since = us, number = 0;
    int32_t i = sim_version_find(r, version);
    if (i < 0) {
        return ot_fail(err, OT_NOT_FOUND,
                       "app %s: v%" PRId64 ", which served when the span began, was deleted; begin "
                       "later with --last",
                       r->app, version);
    }
    for (size_t k = 0; k < r->n_changes && r->changes[k].time_us <= us; k++) {
        since = r->changes[k].time_us;
    }
    set_clock(w, us);
    OT_TRY(ot_path_join(bundle, w->dir, "first", err));
    OT_TRY(ot_registry_materialise_from(ot_disk_posix(), r->blobs, &r->versions[i].bundle, bundle,
                                        err));
    size_t fired = 0;
    while (fired < r->n_fired && r->fired_us[fired] < us) {
        fired++;
    }
    w->versions[0] = (world_version){.recorded = i, .bundle = i, .trained_us = us};
    OT_TRY(world_read_kind(r, &w->versions[0], err));
    ot_pipeline_adopted in = {.yaml = w->app->yaml,
                              .file = w->app->file,
                              .dir = w->app->dir,
                              .bundle = bundle,
                              .since_us = since,
                              .labels_new = labels_since_training(r, &r->versions[i], us),
                              .fired_us = r->fired_us,
                              .n_fired = fired};
    OT_TRY(ot_pipeline_adopt(w->p, &in, &number, err));
    w->n_versions = 1;
    return know_processes(w);
}

/* ---- time */

static ot_rc approve_as(world *w, const char *actor, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str said = OT_STR_INIT;
    const ot_person_act act = {
        .verb = "approve", .app = w->app->app, .actor = actor, .reason = "assumed"};
    return ot_pipeline_act(w->p, &act, &said, err);
}

/* By whoever may. In a window in which nothing is released, it is tried again. */
static void approve(world *w)
{
    ot_error e = {0};
    ot_rc rc = approve_as(w, "rehearsal", &e);
    for (size_t i = 0; rc == OT_DENIED && i < w->app->release.n; i++) {
        const ot_app_stage *s = &w->app->release.v[i];
        if (s->kind == OT_STAGE_APPROVAL && s->by.n > 0) {
            rc = approve_as(w, s->by.v[0], &e);
        }
    }
    w->ask = rc == OT_PRECONDITION && w->waits;
    w->approvals += rc == OT_OK;
}

ot_rc world_advance(world *w, int64_t us, ot_error *err)
{
    for (;;) {
        int64_t next = ot_pipeline_next_us(w->p);
        bool ends = w->on.run != 0 && w->on.ends_us <= next;
        next = ends ? w->on.ends_us : next;
        if (next > us) {
            break;
        }
        set_clock(w, OT_MAX(next, w->now_us));
        if (ends) {
            OT_TRY(world_finish_run(w, err));
        } else {
            ot_pipeline_tick(w->p);
        }
        if (w->ask) {
            approve(w);
        }
        if (w->failed.rc != OT_OK) {
            break;
        }
    }
    set_clock(w, OT_MAX(us, w->now_us));
    if (w->failed.rc != OT_OK) {
        return ot_fail(err, w->failed.rc, "%s", w->failed.msg);
    }
    return OT_OK;
}
