/* A pipeline with a world of its own: a store in a scratch directory, ports that the test drains,
 * a clock that the test moves, runs through the real binary, evidence that the test drives.
 * One thread. */
#ifndef OT_TESTS_UNIT_PIPELINE_DRIVER_H
#define OT_TESTS_UNIT_PIPELINE_DRIVER_H

#include "fake_quality.h"
#include "pipeline/internal.h"
#include "world.h"

#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DRIVER_JOBS_MAX 16
#define DRIVER_STEP_MS 120000 /* a run that takes longer is stuck */

typedef struct driver_job {
    ot_pipeline_work_fn *work;
    ot_pipeline_done_fn *done;
    void *arg;
} driver_job;

typedef struct driver {
    char dir[OT_PATH_MAX]; /* store/ and runs/ */
    ot_store *store;
    ot_pipeline *p;
    driver_job jobs[DRIVER_JOBS_MAX];
    size_t n_jobs;
    struct {
        int64_t run;
        int fd;
    } watched[DRIVER_JOBS_MAX];
    size_t n_watched;
    int n_desired, n_alerts;
    char alert[2048]; /* the last one */
    int die_at;       /* the process ends at this step, counted down; 0: never */
} driver;

/* The operators' file of every pipeline that is opened; NULL: none. */
static const char *driver_site;
/* Of every pipeline that is opened: which version replicas serve; NULL: there are none to ask. */
static ot_rc (*driver_replicas)(void *self, const char *deployment, int64_t version, ot_error *err);

#define DIED 77

/* ------------------------------------------------------------------ ports */

static void die_if_due(driver *d)
{
    if (d->die_at > 0 && --d->die_at == 0) {
        _exit(DIED);
    }
}

static void on_desired_changed(void *self)
{
    driver *d = self;
    d->n_desired++;
}

static ot_rc on_async(void *self, ot_pipeline_work_fn *work, ot_pipeline_done_fn *done, void *arg,
                      ot_error *err)
{
    driver *d = self;
    if (d->n_jobs == DRIVER_JOBS_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "too many jobs");
    }
    d->jobs[d->n_jobs++] = (driver_job){work, done, arg};
    return OT_OK;
}

static void on_watch_run(void *self, int64_t run, int fd)
{
    driver *d = self;
    if (d->n_watched == DRIVER_JOBS_MAX) {
        bail("driver", "too many runs are watched");
    }
    d->watched[d->n_watched].run = run;
    d->watched[d->n_watched++].fd = fd;
}

static void on_alert(void *self, const char *url, const char *json)
{
    driver *d = self;
    (void)url;
    d->n_alerts++;
    snprintf(d->alert, sizeof d->alert, "%s", json);
}

/* ------------------------------------------------------------------ life */

static void driver_open(driver *d, const char *rel)
{
    ot_error err = {0};
    *d = (driver){0};
    snprintf(d->dir, sizeof d->dir, "%s/%s", scratch, rel);
    char store[OT_PATH_MAX];
    snprintf(store, sizeof store, "%s/store", d->dir);
    if (ot_disk_mkdirs(ot_disk_posix(), d->dir, 0755, &err) != OT_OK ||
        ot_store_open(ot_disk_posix(), store, NULL, &d->store, &err) != OT_OK) {
        bail(store, err.msg);
    }
    ot_pipeline_config cfg = {.store = d->store,
                              .data_dir = d->dir,
                              .exe = driver_exe,
                              .ports = {.self = d,
                                        .serves = driver_replicas,
                                        .desired_changed = on_desired_changed,
                                        .async = on_async,
                                        .watch_run = on_watch_run,
                                        .alert = on_alert}};
    if (ot_pipeline_create(&cfg, &d->p, &err) != OT_OK) {
        bail("pipeline", err.msg);
    }
    if (ot_pipeline_site(d->p, driver_site, &err) != OT_OK) {
        bail("site", err.msg);
    }
    ot_pipeline_tick(d->p);
}

/* Jobs end before their pipeline does; runs go on without it. */
static void driver_close(driver *d)
{
    for (size_t i = 0; i < d->n_jobs; i++) {
        ot_error err = {0};
        ot_rc rc = d->jobs[i].work(d->jobs[i].arg, &err);
        d->jobs[i].done(d->jobs[i].arg, rc, &err);
    }
    ot_pipeline_destroy(d->p);
    ot_store_close(d->store);
    for (size_t i = 0; i < d->n_watched; i++) {
        close(d->watched[i].fd);
    }
    *d = (driver){0};
}

__attribute__((unused)) static void driver_again(driver *d)
{
    char rel[OT_PATH_MAX];
    snprintf(rel, sizeof rel, "%s", d->dir + strlen(scratch) + 1);
    driver_close(d);
    driver_open(d, rel);
}

static bool step_job(driver *d)
{
    if (d->n_jobs == 0) {
        return false;
    }
    driver_job j = d->jobs[0];
    memmove(d->jobs, d->jobs + 1, --d->n_jobs * sizeof j);
    ot_error err = {0};
    die_if_due(d);
    ot_rc rc = j.work(j.arg, &err);
    die_if_due(d);
    j.done(j.arg, rc, &err);
    ot_pipeline_tick(d->p);
    die_if_due(d);
    return true;
}

static bool step_run(driver *d)
{
    struct pollfd fds[DRIVER_JOBS_MAX];
    for (size_t i = 0; i < d->n_watched; i++) {
        fds[i] = (struct pollfd){.fd = d->watched[i].fd, .events = POLLIN};
    }
    if (d->n_watched == 0 || poll(fds, d->n_watched, DRIVER_STEP_MS) <= 0) {
        return false;
    }
    for (size_t i = 0; i < d->n_watched; i++) {
        if (fds[i].revents != 0) {
            int64_t run = d->watched[i].run;
            close(d->watched[i].fd);
            d->watched[i] = d->watched[--d->n_watched];
            die_if_due(d);
            ot_pipeline_run_ended(d->p, run);
            ot_pipeline_tick(d->p);
            die_if_due(d);
            return true;
        }
    }
    return false;
}

/* One thing that happened: a job or the end of a run. False: nothing is under way. */
static bool driver_step(driver *d)
{
    return step_job(d) || step_run(d);
}

/* A cycle that could not go on yet, as when its run is still starting, is looked at again. */
static bool step_again(driver *d)
{
    bool stands = false;
    for (size_t i = 0; i < d->p->n_apps; i++) {
        stands = stands || pl_cycle_stands(d->p->apps[i]);
    }
    if (stands) {
        poll(NULL, 0, 5);
        clock_offset_us += SEC;
        ot_pipeline_tick(d->p);
    }
    return stands;
}

/* Until nothing is under way. */
static void driver_settle(driver *d)
{
    while (driver_step(d) || (d->n_watched == 0 && step_again(d))) {
    }
    if (d->n_watched > 0) {
        bail("driver", "a run does not end");
    }
}

__attribute__((unused)) static void driver_forward(driver *d, int64_t us)
{
    clock_offset_us += us;
    ot_pipeline_tick(d->p);
}

/* ------------------------------------------------------------------ in */

__attribute__((unused)) static ot_rc driver_apply(driver *d, const char *yaml, bool diff_only,
                                                  ot_str *out, ot_error *err)
{
    return ot_pipeline_apply(d->p, yaml, strlen(yaml), "app.yaml", at("app"), "anna", diff_only,
                             out, err);
}

__attribute__((unused)) static void driver_apply_ok(driver *d, const char *yaml)
{
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_error err = {0};
    if (driver_apply(d, yaml, false, &out, &err) != OT_OK) {
        bail("apply", err.msg);
    }
}

__attribute__((unused)) static ot_rc driver_act(driver *d, const char *verb, int64_t version,
                                                const char *path, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_person_act act = {.verb = verb,
                         .app = "digits",
                         .actor = "anna",
                         .reason = "because I say so",
                         .version = version,
                         .path = path};
    return ot_pipeline_act(d->p, &act, &out, err);
}

/* ------------------------------------------------------------------ out */

__attribute__((unused)) static const pl_state *driver_state(driver *d)
{
    return &pl_app_find(d->p, "digits")->st;
}

/* Where the app is: "idle", "training", or within a release the stage, "canary 10%". */
__attribute__((unused)) static const char *driver_where(driver *d)
{
    static char text[32];
    const pl_cycle *c = &driver_state(d)->cycle;
    const ot_rollout_step *s = c->state == PL_RELEASING ? ot_rollout_step_now(&c->rollout) : NULL;
    if (s == NULL) {
        return pl_cycle_state_name(c->state);
    }
    if (s->kind != OT_ROLLOUT_CANARY) {
        return ot_rollout_kind_name(s->kind);
    }
    snprintf(text, sizeof text, "canary %g%%", s->share * 100);
    return text;
}

/* What replicas shall serve of an app, as "champion v1 90%, canary v2 10%"; "+ compare". */
__attribute__((unused)) static const char *driver_serves(driver *d, const char *deployment)
{
    static char text[256];
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_error err = {0};
    text[0] = 0;
    if (ot_pipeline_desired(d->p, &out, &err) != OT_OK) {
        return "no desired state";
    }
    json_t *j = json_loads(out.data, 0, NULL);
    const json_t *list = json_object_get(j, "deployments");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *dep = json_array_get(list, i);
        if (strcmp(json_string_value(json_object_get(dep, "name")), deployment) != 0) {
            continue;
        }
        const json_t *v = json_object_get(dep, "variants");
        for (size_t k = 0; k < json_array_size(v); k++) {
            const json_t *x = json_array_get(v, k);
            size_t n = strlen(text);
            snprintf(text + n, sizeof text - n, "%s%s v%lld %g%%", n > 0 ? ", " : "",
                     json_string_value(json_object_get(x, "role")),
                     (long long)json_integer_value(json_object_get(x, "version")),
                     json_number_value(json_object_get(x, "share")) * 100);
        }
        if (json_is_true(json_object_get(dep, "compare"))) {
            strcat(text, " + compare");
        }
    }
    json_decref(j);
    return text;
}

struct event_look {
    const char *type;
    int n;
    json_t *last;
    char object[96], actor[65], role[16];
};

static ot_rc look_event(void *arg, const ot_event *e, ot_error *err)
{
    (void)err;
    struct event_look *l = arg;
    if (strcmp(e->type, l->type) == 0) {
        l->n++;
        json_decref(l->last);
        l->last = json_loads(e->payload, 0, NULL);
        snprintf(l->object, sizeof l->object, "%s", e->object);
        snprintf(l->actor, sizeof l->actor, "%s", e->actor);
        snprintf(l->role, sizeof l->role, "%s", e->role);
    }
    return OT_OK;
}

static ot_rc look_events(ot_txn *txn, void *arg, ot_error *err)
{
    ot_event_query q = {.limit = 10000};
    return ot_events_read(txn, &q, look_event, arg, err);
}

/* Events of a type, and the last one's payload in `last` (json_decref). */
static struct event_look driver_events(driver *d, const char *type)
{
    struct event_look l = {.type = type};
    ot_error err = {0};
    if (ot_store_read(d->store, look_events, &l, &err) != OT_OK) {
        bail("events", err.msg);
    }
    return l;
}

__attribute__((unused)) static int driver_count(driver *d, const char *type)
{
    struct event_look l = driver_events(d, type);
    json_decref(l.last);
    return l.n;
}

/* The text of the last event of a type, "" without one. */
__attribute__((unused)) static const char *driver_said(driver *d, const char *type)
{
    static char text[4][1024];
    static int next;
    char *out = text[next++ % 4];
    struct event_look l = driver_events(d, type);
    const char *s = json_string_value(json_object_get(l.last, "text"));
    snprintf(out, sizeof text[0], "%s", s != NULL ? s : "");
    json_decref(l.last);
    return out;
}

struct version_look {
    int64_t version;
    ot_version_row row;
    ot_rc rc;
};

static ot_rc look_version(ot_txn *txn, void *arg, ot_error *err)
{
    struct version_look *l = arg;
    l->rc = ot_version_get(txn, "digits", l->version, &l->row, err);
    return OT_OK;
}

/* "champion", "refused", ...; "none" when there is no such version. */
__attribute__((unused)) static const char *driver_status(driver *d, int64_t version)
{
    struct version_look l = {.version = version};
    ot_error err = {0};
    if (ot_store_read(d->store, look_version, &l, &err) != OT_OK || l.rc != OT_OK) {
        return "none";
    }
    return ot_version_status_name(l.row.status);
}

struct runs_look {
    char text[512];
};

static ot_rc look_runs(ot_txn *txn, void *arg, ot_error *err)
{
    struct runs_look *l = arg;
    ot_arena arena;
    ot_arena_init(&arena, 8192, 8u << 20);
    ot_run *runs;
    size_t n = 0;
    ot_rc rc =
        ot_store_run_list(txn, &(ot_run_filter){.state = -1, .limit = 100}, &arena, &runs, &n, err);
    for (size_t i = n; i-- > 0;) {
        size_t len = strlen(l->text);
        snprintf(l->text + len, sizeof l->text - len, "%s%s %s", len > 0 ? ", " : "", runs[i].step,
                 ot_run_state_name(runs[i].state));
    }
    ot_arena_done(&arena);
    return rc;
}

/* All runs, oldest first: "train succeeded, package succeeded". */
__attribute__((unused)) static const char *driver_runs(driver *d)
{
    static struct runs_look l;
    ot_error err = {0};
    l.text[0] = 0;
    if (ot_store_read(d->store, look_runs, &l, &err) != OT_OK) {
        bail("runs", err.msg);
    }
    return l.text;
}

__attribute__((unused)) static bool has(const char *text, const char *part)
{
    bool there = strstr(text, part) != NULL;
    if (!there) {
        printf("# '%s' lacks '%s'\n", text, part);
    }
    return there;
}

__attribute__((unused)) static bool has_quiet(const char *text, const char *part)
{
    return strstr(text, part) != NULL;
}

/* A copy of a closed driver's directory, to start a scenario from. */
__attribute__((unused)) static void world_copy(const char *from, const char *to)
{
    pid_t pid = fork();
    if (pid == 0) {
        execlp("cp", "cp", "-a", at(from), at(to), (char *)NULL);
        _exit(127);
    }
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) {
        bail(to, "could not be copied");
    }
}

#endif
