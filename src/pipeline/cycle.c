/* A cycle: from its cause to a version that the gate has judged. Each step is a run with a
 * directory of its own; what is under way is read from the directory, so that a restarted control
 * plane goes on without starting anything twice. */
#include "pipeline/internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define RESULT_MAX (4u << 20)

static pl_step step_of(pl_cycle_state s)
{
    return s == PL_TRAINING    ? PL_STEP_TRAIN
           : s == PL_PACKAGING ? PL_STEP_PACKAGE
                               : PL_STEP_EVALUATE;
}

static void new_cycle(pl_change *c, bool by_person)
{
    int64_t number = c->next.cycles + 1;
    c->next.cycles = number;
    c->next.cycle =
        (pl_cycle){.number = number, .by_person = by_person, .caused_us = ot_clock_wall_us()};
}

void pl_cycle_train(pl_change *c, bool by_person)
{
    new_cycle(c, by_person);
    c->next.cycle.state = PL_TRAINING;
}

ot_rc pl_cycle_push(pl_change *c, const char *path, ot_error *err)
{
    if (strlen(path) >= sizeof c->next.cycle.path || path[0] != '/') {
        return ot_fail(err, OT_INVALID,
                       "push: '%.200s' is not an absolute path of at most %zu bytes", path,
                       sizeof c->next.cycle.path - 1);
    }
    new_cycle(c, true);
    c->next.cycle.state = PL_PACKAGING;
    c->next.cycle.pushed = true;
    snprintf(c->next.cycle.path, sizeof c->next.cycle.path, "%s", path);
    return OT_OK;
}

void pl_cycle_release(pl_change *c, const ot_version_row *v)
{
    new_cycle(c, true);
    c->next.cycle.state = PL_EVALUATING;
    c->next.cycle.pushed = true;
    c->next.cycle.version = v->version;
    c->next.cycle.bundle = v->bundle;
    c->next.cycle.last_seq = v->event_seq;
    c->next.cycle.registered_us = ot_clock_wall_us();
}

/* ------------------------------------------------------------------ starting a run */

static ot_rc insert_run(ot_txn *txn, void *arg, pl_state *next, ot_error *err)
{
    pl_change *c = arg;
    char spec[256];
    snprintf(spec, sizeof spec, "{\"cycle\":%" PRId64 ",\"version\":%" PRId64 "}",
             next->cycle.number, next->cycle.version);
    ot_run run = {.app = c->app->app->app,
                  .step = pl_step_name(step_of(next->cycle.state)),
                  .state = OT_RUN_QUEUED,
                  .attempt = (uint32_t)next->cycle.attempt + 1,
                  .spec = spec,
                  .created_us = ot_clock_wall_us(),
                  .parent = next->cycle.train_run,
                  .trigger_seq = next->cycle.last_seq};
    OT_TRY(ot_store_run_insert(txn, &run, &next->cycle.run, err));
    next->cycle.run_phase = PL_RUN_NEW;
    if (next->cycle.state == PL_TRAINING) {
        next->cycle.train_run = next->cycle.run;
        next->cycle.first_run = next->cycle.attempt > 0 && next->cycle.first_run != 0
                                    ? next->cycle.first_run
                                    : next->cycle.run;
    }
    return OT_OK;
}

static void begin_run(pl_app *a)
{
    if (!pl_site_admits_run(a)) {
        return;
    }
    pl_change c = pl_change_of(a);
    c.next.cycle.waits[0] = 0;
    c.next.cycle.queued_us = 0;
    c.extra = insert_run;
    c.arg = &c;
    if (pl_commit_logged(&c)) {
        pl_cycle_go(a);
    }
}

struct run_update {
    int64_t id;
    ot_run_state state;
    int64_t started_us, ended_us;
    const char *result;
};

static ot_rc update_run(ot_txn *txn, void *arg, pl_state *next, ot_error *err)
{
    (void)next;
    struct run_update *u = arg;
    ot_arena arena;
    ot_arena_init(&arena, 8192, 8u << 20);
    ot_run run;
    ot_rc rc = ot_store_run_get(txn, u->id, &arena, &run, err);
    if (rc == OT_OK) {
        run.state = u->state;
        run.started_us = u->started_us != 0 ? u->started_us : run.started_us;
        run.ended_us = u->ended_us != 0 ? u->ended_us : run.ended_us;
        run.result = u->result != NULL ? u->result : run.result;
        rc = ot_store_run_update(txn, &run, err);
    }
    ot_arena_done(&arena);
    return rc;
}

static void watch(pl_app *a, int fd)
{
    a->watching = a->st.cycle.run;
    a->p->ports.watch_run(a->p->ports.self, a->st.cycle.run, fd);
}

static char *run_object(const pl_app *a, char out[32])
{
    snprintf(out, 32, "run/%" PRId64, a->st.cycle.run);
    return out;
}

static void fail_before_start(pl_app *a, const char *why)
{
    char object[32];
    struct run_update u = {
        .id = a->st.cycle.run, .state = OT_RUN_FAILED, .ended_us = ot_clock_wall_us()};
    pl_change c = pl_change_of(a);
    c.extra = update_run;
    c.arg = &u;
    pl_change_event(&c, "run.finished", run_object(a, object),
                    pl_text("run %" PRId64 " could not be started: %s", a->st.cycle.run, why));
    if (pl_commit_logged(&c)) {
        pl_cycle_end(a, "cycle.failed", NULL, pl_text("%s", why), true);
    }
}

void pl_cycle_launched(pl_app *a, ot_rc rc, const ot_error *err, const pl_data *data, size_t n_data,
                       int fd)
{
    if (rc != OT_OK && rc != OT_EXISTS) {
        fail_before_start(a, err->msg);
        return;
    }
    char object[32];
    pl_step step = step_of(a->st.cycle.state);
    struct run_update u = {
        .id = a->st.cycle.run, .state = OT_RUN_RUNNING, .started_us = ot_clock_wall_us()};
    pl_change c = pl_change_of(a);
    c.extra = update_run;
    c.arg = &u;
    c.next.cycle.run_phase = PL_RUN_STARTED;
    if (step == PL_STEP_TRAIN) {
        c.next.cycle.n_data = (int64_t)n_data;
        memcpy(c.next.cycle.data, data, n_data * sizeof *data);
        c.next.labels_at_training = ot_quality_labels_joined(a->quality);
    }
    json_t *payload = pl_text("run %" PRId64 " (%s) started", a->st.cycle.run, pl_step_name(step));
    json_t *rows = json_object();
    for (size_t i = 0; i < n_data; i++) {
        json_object_set_new(rows, data[i].name, json_integer(data[i].rows));
    }
    json_object_set_new(payload, "step", json_string(pl_step_name(step)));
    json_object_set_new(payload, "rows", rows);
    pl_change_event(&c, "run.started", run_object(a, object), payload);
    if (!pl_commit_logged(&c)) {
        ot_fd_close(&fd);
        return;
    }
    if (rc == OT_OK) {
        watch(a, fd);
    } else {
        pl_cycle_go(a); /* it was running already: find it */
    }
}

/* The run was launched, but its start did not get into the log: a process died between the two. */
static void adopt_run(pl_app *a, const char *dir)
{
    pl_data data[OT_APP_DATA_MAX];
    bool training = a->st.cycle.state == PL_TRAINING;
    size_t n = training ? pl_given_data(dir, data) : 0;
    pl_cycle_launched(a, OT_EXISTS, NULL, data, n, -1);
}

/* What the run's directory says, and so what is to be done. */
static void look_at_run(pl_app *a)
{
    char dir[OT_PATH_MAX];
    pl_run_dir(a->p, a->st.cycle.run, dir);
    ot_launch_status st;
    ot_error err = {0};
    if (ot_launch_poll(dir, &st, &err) != OT_OK) {
        ot_err("pipeline", "run %" PRId64 ": %s", a->st.cycle.run, err.msg);
        pl_cycle_again(a);
        return;
    }
    if (st.phase == OT_LAUNCH_ABSENT) {
        if (a->st.frozen) {
            pl_cycle_again(a);
        } else {
            pl_job_start(a, step_of(a->st.cycle.state));
        }
        return;
    }
    if (a->st.cycle.run_phase == PL_RUN_NEW) {
        adopt_run(a, dir);
        return;
    }
    int fd = -1;
    ot_rc rc = st.phase == OT_LAUNCH_RUNNING ? ot_launch_watch(dir, &fd, &err) : OT_NOT_FOUND;
    if (rc == OT_OK) {
        watch(a, fd);
    } else if (rc == OT_NOT_FOUND) {
        pl_cycle_run_ended(a);
    } else {
        pl_cycle_again(a); /* its shim is still starting */
    }
}

static bool runs_something(pl_cycle_state s)
{
    return s == PL_TRAINING || s == PL_PACKAGING || s == PL_EVALUATING;
}

/* Frozen: what runs may end, which is told and gives its place to others; nothing follows from it.
 */
static bool may_end(const pl_cycle *c)
{
    return runs_something(c->state) && c->run != 0 && c->run_phase == PL_RUN_STARTED;
}

bool pl_cycle_stands(const pl_app *a)
{
    const pl_cycle *c = &a->st.cycle;
    if (a->busy || c->state == PL_IDLE || c->state == PL_RELEASING ||
        (a->st.frozen && !may_end(c))) {
        return false;
    }
    if (c->state == PL_EVALUATING && c->held_told && pl_budget_holds(a)) {
        return false;
    }
    return !runs_something(c->state) || c->run == 0 || a->watching != c->run;
}

void pl_cycle_go(pl_app *a)
{
    const pl_cycle *c = &a->st.cycle;
    if (a->busy || (a->st.frozen && !may_end(c))) {
        return;
    }
    switch (c->state) {
    case PL_IDLE:
        return;
    case PL_TRAINING:
    case PL_PACKAGING:
    case PL_EVALUATING:
        if (c->run == 0) {
            begin_run(a);
        } else {
            look_at_run(a);
        }
        return;
    case PL_REGISTERING:
        pl_job_register(a);
        return;
    case PL_RELEASING:
        pl_release_tick(a);
        return;
    }
}

/* ------------------------------------------------------------------ the end of a run */

static ot_run_state run_state(ot_launch_state s)
{
    switch (s) {
    case OT_LAUNCH_SUCCEEDED:
        return OT_RUN_SUCCEEDED;
    case OT_LAUNCH_CANCELLED:
        return OT_RUN_CANCELLED;
    case OT_LAUNCH_LOST:
        return OT_RUN_LOST;
    default:
        return OT_RUN_FAILED;
    }
}

static bool read_exit(pl_app *a, const char *dir, ot_launch_exit *out)
{
    ot_launch_status st;
    ot_error err = {0};
    ot_rc rc = ot_launch_poll(dir, &st, &err);
    *out = st.exit;
    if (rc == OT_OK && st.phase == OT_LAUNCH_GONE) {
        rc = ot_launch_settle(dir, out, &err);
        st.phase = OT_LAUNCH_FINISHED;
    }
    if (rc == OT_OK && st.phase == OT_LAUNCH_FINISHED) {
        pl_ended_job(dir, out);
        return true;
    }
    if (rc != OT_OK) {
        ot_err("pipeline", "run %" PRId64 ": %s", a->st.cycle.run, err.msg);
    }
    pl_cycle_again(a);
    return false;
}

static void evaluated(pl_app *a);

static void after_success(pl_app *a)
{
    ot_error err = {0};
    pl_change c = pl_change_of(a);
    int64_t now = ot_clock_wall_us();
    switch (a->st.cycle.state) {
    case PL_TRAINING:
        if (!pl_ended_has_model(a, &err)) {
            pl_cycle_end(a, "cycle.failed", NULL, pl_text("%s", err.msg), true);
            return;
        }
        c.next.cycle.state = PL_PACKAGING;
        c.next.cycle.run = 0;
        c.next.cycle.attempt = 0;
        c.next.cycle.trained_us = now;
        break;
    case PL_PACKAGING:
        c.next.cycle.state = PL_REGISTERING;
        break;
    default:
        evaluated(a);
        return;
    }
    if (pl_commit_logged(&c)) {
        pl_cycle_go(a);
    }
}

static void after_failure(pl_app *a, const ot_launch_exit *x)
{
    bool again =
        ot_launch_state_is_infrastructure(x->state) && a->st.cycle.attempt < a->app->train.retries;
    if (!again) {
        pl_cycle_end(a, "cycle.failed", NULL,
                     pl_text("run %" PRId64 " (%s) %s%s%s; log: overtake logs %" PRId64,
                             a->st.cycle.run, pl_step_name(step_of(a->st.cycle.state)),
                             ot_launch_state_name(x->state), x->message[0] != 0 ? ": " : "",
                             x->message, a->st.cycle.run),
                     x->state != OT_LAUNCH_CANCELLED);
        return;
    }
    pl_change c = pl_change_of(a);
    c.next.cycle.run = 0;
    c.next.cycle.attempt++;
    if (pl_commit_logged(&c)) {
        pl_cycle_go(a);
    }
}

/* The end of the run as its row, its event and its time. */
static bool tell_ended(pl_app *a, const ot_launch_exit *x, const char *dir)
{
    char object[32];
    json_t *payload = pl_ended_json(a, step_of(a->st.cycle.state), x, dir);
    char *result = json_dumps(payload, JSON_COMPACT);
    struct run_update u = {.id = a->st.cycle.run,
                           .state = run_state(x->state),
                           .started_us = x->started_us,
                           .ended_us = x->ended_us,
                           .result = result};
    pl_change c = pl_change_of(a);
    c.extra = update_run;
    c.arg = &u;
    c.next.cycle.run_phase = PL_RUN_ENDED;
    int64_t took = x->ended_us - x->started_us;
    if (a->st.cycle.state == PL_TRAINING) {
        c.next.cycle.train_us += took;
    } else {
        c.next.cycle.jobs_us += took;
    }
    pl_event *e = pl_change_event(&c, "run.finished", run_object(a, object), payload);
    e->alert = x->state != OT_LAUNCH_SUCCEEDED;
    bool saved = pl_commit_logged(&c);
    free(result);
    pl_site_wake(a->p);
    return saved;
}

void pl_cycle_run_ended(pl_app *a)
{
    char dir[OT_PATH_MAX];
    ot_launch_exit x;
    a->watching = 0;
    pl_run_dir(a->p, a->st.cycle.run, dir);
    if (a->busy || !runs_something(a->st.cycle.state) || !read_exit(a, dir, &x)) {
        return;
    }
    if (a->st.cycle.run_phase != PL_RUN_ENDED && !tell_ended(a, &x, dir)) {
        return;
    }
    if (a->st.frozen) {
        return;
    }
    if (x.state == OT_LAUNCH_SUCCEEDED) {
        after_success(a);
    } else {
        after_failure(a, &x);
    }
}

void pl_cycle_registered(pl_app *a, ot_rc rc, const ot_error *err, const ot_registered *r)
{
    if (rc == OT_ABORTED) { /* a file was collected meanwhile */
        pl_cycle_again(a);
        return;
    }
    if (rc != OT_OK) {
        pl_cycle_end(a, "cycle.failed", NULL, pl_text("not registered: %s", err->msg), true);
        return;
    }
    pl_change c = pl_change_of(a);
    c.next.cycle.state = PL_EVALUATING;
    c.next.cycle.run = 0;
    c.next.cycle.attempt = 0;
    c.next.cycle.version = r->version;
    c.next.cycle.bundle = r->bundle;
    c.next.cycle.last_seq = r->event_seq;
    c.next.cycle.registered_us = ot_clock_wall_us();
    if (pl_commit_logged(&c)) {
        pl_cycle_go(a);
    }
}

/* ------------------------------------------------------------------ the gate */

static json_t *read_result(pl_app *a, ot_error *err)
{
    char dir[OT_PATH_MAX], path[OT_PATH_MAX];
    pl_run_dir(a->p, a->st.cycle.run, dir);
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    if (ot_path_join(path, dir, "result.json", err) != OT_OK ||
        ot_disk_read_all(ot_disk_posix(), path, RESULT_MAX, &text, err) != OT_OK) {
        return NULL;
    }
    json_t *j = json_loadb(text.data, text.len, 0, NULL);
    if (j == NULL) {
        (void)ot_fail(err, OT_DATA_LOSS, "%s: not JSON", path);
    }
    return j;
}

static void evaluated(pl_app *a)
{
    ot_error err = {0};
    json_t *result = read_result(a, &err);
    json_t *verdict = NULL;
    bool passed = false;
    ot_rc rc = result == NULL ? err.rc : pl_gate_judge(a, result, &passed, &verdict, &err);
    json_decref(result);
    char object[OT_OBJECT_TEXT];
    ot_registry_object(object, a->app->app, a->st.cycle.version);
    if (rc != OT_OK) {
        pl_cycle_end(a, "cycle.failed", object, pl_text("not judged: %s", err.msg), true);
        return;
    }
    if (!passed) {
        pl_cycle_end(a, "gate.refused", object, verdict, true);
        return;
    }
    if (a->st.pinned > 0) {
        json_decref(verdict);
        pl_cycle_end(a, "release.stopped", object,
                     pl_text("v%" PRId64 " passed the gate, but v%" PRId64 " is pinned by %s",
                             a->st.cycle.version, a->st.pinned, a->st.held_by),
                     false);
        return;
    }
    if (pl_budget_holds(a)) {
        json_decref(verdict);
        pl_budget_tell_held(a, "after the gate, which it passed");
        return;
    }
    if (pl_site_waits(a)) {
        json_decref(verdict);
        a->again_us = a->held_until_us;
        return;
    }
    pl_release_start(a, verdict);
}

/* ------------------------------------------------------------------ the end of a cycle */

struct end_arg {
    const char *model;
    int64_t version;
};

static ot_rc refuse_version(ot_txn *txn, void *arg, pl_state *next, ot_error *err)
{
    (void)next;
    struct end_arg *e = arg;
    return ot_registry_set_status(txn, e->model, e->version, OT_VERSION_REFUSED, NULL, NULL, err);
}

/* Adds the end of the cycle to a change that has its event. */
static void add_end(pl_change *c, struct end_arg *e)
{
    *e = (struct end_arg){.model = c->app->app->app, .version = c->next.cycle.version};
    if (e->version > 0) {
        c->extra = refuse_version;
        c->arg = e;
    }
    c->next.cycle.state = PL_IDLE;
    c->next.cycle.run = 0;
    c->next.cycle.waits[0] = 0;
    c->next.cycle.queued_us = 0;
}

static void ended(pl_app *a)
{
    ot_quality_unwatch(a->quality);
    pl_desired_changed(a->p);
    pl_site_wake(a->p);
}

ot_rc pl_cycle_abandon(pl_app *a, const char *actor, const char *reason, ot_error *err)
{
    char object[OT_OBJECT_TEXT];
    int64_t version = a->st.cycle.version;
    struct end_arg e;
    pl_change c = pl_change_of(a);
    pl_event *ev =
        version > 0
            ? pl_change_event(&c, "release.stopped",
                              ot_registry_object(object, a->app->app, version),
                              pl_text("v%" PRId64 " stopped by %s: %s", version, actor, reason))
            : pl_change_event(&c, "cycle.failed", pl_object_app(a, object),
                              pl_text("cycle %" PRId64 " given up by %s: %s", a->st.cycle.number,
                                      actor, reason));
    ev->actor = actor;
    add_end(&c, &e);
    OT_TRY(pl_commit(&c, err));
    ended(a);
    return OT_OK;
}

void pl_cycle_end(pl_app *a, const char *type, const char *object, json_t *payload, bool failure)
{
    char app_object[96];
    struct end_arg e;
    pl_change c = pl_change_of(a);
    pl_event *ev =
        pl_change_event(&c, type, object != NULL ? object : pl_object_app(a, app_object), payload);
    ev->alert = failure;
    add_end(&c, &e);
    if (!a->st.cycle.pushed) {
        /* What a person brought says nothing about the loop. */
        c.next.cool_until_us = ot_clock_wall_us() + a->app->retrain.cool_down_us;
        if (failure) {
            pl_change_failure(&c);
        }
    }
    if (pl_commit_logged(&c)) {
        ended(a);
    }
}
