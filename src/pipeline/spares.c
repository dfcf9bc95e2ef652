/* Spare processes of apps (launch/spare.h): for the next training of an app that says what to
 * import (`train.warm`), one waits while nothing of the app runs, an interpreter for each rank.
 *
 * One imports at a time, so that what those at hand take is known before another is started. Those
 * of a control plane that ended have ended with it. */
#include "pipeline/internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LOOK_US 500000          /* while one imports */
#define AGAIN_US 600000000ll    /* after one that failed */
#define LITTLE_US 60000000ll    /* while there is no memory for one */
#define LEAST_BYTES (16u << 20) /* below that none is tried */
#define SITE_BYTES (1ull << 30) /* without a site */

/* ------------------------------------------------------------------ what every run of it has */

void pl_train_base(const ot_app_resources *res, int64_t np, char threads[24],
                   ot_launch_env env[PL_TRAIN_ENV], ot_launch_spec *out)
{
    /* Ranks here share the cores; on other hosts, each has its part of that host's. */
    snprintf(threads, 24, "%" PRId64, OT_MAX(res->cpu / OT_MAX(np, 1), 1));
    const char *each = np < 0 ? NULL : threads;
    env[0] = (ot_launch_env){"OMP_NUM_THREADS", each};
    env[1] = (ot_launch_env){"TF_NUM_INTRAOP_THREADS", each};
    env[2] = (ot_launch_env){"PYTHONUNBUFFERED", "1"};
    *out = (ot_launch_spec){.env = env,
                            .n_env = 3,
                            .time_limit_us = res->time_us,
                            .memory_limit_bytes = res->memory,
                            .disk_limit_bytes = res->disk,
                            .log_limit_bytes = res->log};
}

bool pl_something_serves(const ot_pipeline *p)
{
    for (size_t i = 0; i < p->n_apps; i++) {
        if (p->apps[i]->st.champion > 0) {
            return true;
        }
    }
    return false;
}

/* ------------------------------------------------------------------ starting one */

typedef struct start_job {
    pl_app *a;
    int64_t np;
    bool background;
    int64_t drops; /* of the app's when it began */
    ot_app_resources res;
    char command[OT_LAUNCH_WORDS_BYTES];
    char modules[OT_LAUNCH_MODULES_MAX][OT_APP_MODULE_MAX + 1];
    size_t n_modules;
    uint64_t memory_max;
    ot_launch_spare *made;
} start_job;

static ot_rc start_work(void *arg, ot_error *err)
{
    start_job *j = arg;
    char threads[24];
    const char *modules[OT_LAUNCH_MODULES_MAX];
    ot_launch_env env[PL_TRAIN_ENV];
    ot_launch_spec spec;
    pl_train_base(&j->res, j->np, threads, env, &spec);
    spec.command = j->command;
    spec.np = (int32_t)j->np;
    spec.background = j->background;
    for (size_t i = 0; i < j->n_modules; i++) {
        modules[i] = j->modules[i];
    }
    ot_launch_spare_ask ask = {.spec = &spec,
                               .modules = modules,
                               .n_modules = j->n_modules,
                               .memory_max = j->memory_max,
                               .exe = j->a->p->exe};
    return ot_launch_spare_start(&ask, &j->made, err);
}

static void failed(pl_app *a, const char *why)
{
    snprintf(a->spare_why, sizeof a->spare_why, "%s", why);
    a->spare_again_us = ot_clock_wall_us() + AGAIN_US;
    ot_launch_spare_end(a->spare);
    a->spare = NULL;
    ot_info("pipeline", "app %s: no spare process: %s", a->app->app, why);
}

static void start_done(void *arg, ot_rc rc, const ot_error *err)
{
    start_job *j = arg;
    pl_app *a = j->a;
    ot_launch_spare *made = j->made;
    bool current = rc != OT_CANCELLED && j->drops == a->spare_drops;
    ot_free(j);
    a->spare_starts = false;
    if (!current) {
        ot_launch_spare_end(made);
    } else if (rc != OT_OK) {
        failed(a, err->msg);
    } else {
        a->spare = made;
        a->spare_why[0] = 0;
    }
}

static ot_rc start(pl_app *a, uint64_t memory_max, ot_error *err)
{
    const ot_app_train *t = &a->app->train;
    start_job *j = ot_calloc(1, sizeof *j);
    if (j == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory to start it");
    }
    j->a = a;
    j->drops = a->spare_drops;
    j->res = t->resources;
    j->np = t->np;
    j->background = a->spare_background = pl_something_serves(a->p);
    j->memory_max = memory_max;
    snprintf(j->command, sizeof j->command, "%s", t->run);
    for (; j->n_modules < OT_MIN(t->warm.n, (size_t)OT_LAUNCH_MODULES_MAX); j->n_modules++) {
        snprintf(j->modules[j->n_modules], sizeof j->modules[0], "%s", t->warm.v[j->n_modules]);
    }
    a->spare_starts = true;
    ot_rc rc = a->p->ports.async(a->p->ports.self, start_work, start_done, j, err);
    if (rc != OT_OK) {
        a->spare_starts = false;
        ot_free(j);
    }
    return rc;
}

/* ------------------------------------------------------------------ who has one, and when */

/* OT_INVALID: never for this app as it stands. */
static ot_rc could_have(const pl_app *a, ot_error *err)
{
    ot_launch_python py;
    if (a->app->train.hosts.n > 0 || a->app->train.engine != 0) {
        return ot_fail(err, OT_INVALID, "a training on hosts, or by mpirun, has no spare");
    }
    if (a->app->steps.n > 0) {
        return ot_fail(err, OT_INVALID, "a training with steps has no spare");
    }
    return ot_launch_python_parse(a->app->train.run, &py, err);
}

/* Beside no run of the app. */
static bool wanted(const pl_app *a)
{
    pl_cycle_state s = a->st.cycle.state;
    return a->app->train.warm.n > 0 && a->p->ports.start_run == NULL && a->refused[0] == 0 &&
           !a->busy && (s == PL_IDLE || s == PL_RELEASING) && could_have(a, NULL) == OT_OK;
}

/* What another one may take; 0: nothing now. */
static uint64_t room(const ot_pipeline *p)
{
    uint64_t most = p->site != NULL ? p->site->quotas.spare_memory : SITE_BYTES, used = 0;
    for (size_t i = 0; i < p->n_apps; i++) {
        const pl_app *a = p->apps[i];
        if (a->spare_starts ||
            (a->spare != NULL && ot_launch_spare_look(a->spare) == OT_LAUNCH_SPARE_IMPORTS)) {
            return 0;
        }
        used += a->spare != NULL ? ot_launch_spare_memory(a->spare) : 0;
    }
    return most >= used + LEAST_BYTES ? most - used : 0;
}

void pl_spare_tick(pl_app *a)
{
    ot_error err = {0};
    if (a->spare != NULL && ot_launch_spare_look(a->spare) == OT_LAUNCH_SPARE_ENDED) {
        failed(a, ot_launch_spare_why(a->spare));
    }
    if (a->spare != NULL && a->spare_background != pl_something_serves(a->p)) {
        pl_spare_drop(a); /* its run would be of another class */
    }
    if (a->spare != NULL || a->spare_starts || !wanted(a) ||
        a->spare_again_us > ot_clock_wall_us()) {
        return;
    }
    uint64_t memory_max = room(a->p);
    if (memory_max == 0) {
        snprintf(a->spare_why, sizeof a->spare_why,
                 "the memory for spares (quotas.spare_memory of the site) is used up, or another "
                 "one imports");
        a->spare_again_us = ot_clock_wall_us() + LITTLE_US;
    } else if (start(a, memory_max, &err) != OT_OK) {
        failed(a, err.msg);
    }
}

int64_t pl_spare_next_us(const pl_app *a)
{
    if (a->spare_starts ||
        (a->spare != NULL && ot_launch_spare_look(a->spare) == OT_LAUNCH_SPARE_IMPORTS)) {
        return ot_clock_wall_us() + LOOK_US;
    }
    return a->spare == NULL && wanted(a) ? a->spare_again_us : INT64_MAX;
}

ot_launch_spare *pl_spare_take(pl_app *a, char note[PL_SPARE_NOTE])
{
    ot_error err = {0};
    ot_launch_spare *s = a->spare;
    note[0] = 0;
    if (a->app->train.warm.n == 0) {
        return NULL;
    }
    a->spare = NULL;
    a->spare_again_us = 0; /* the next one, once this run has ended */
    if (s == NULL) {
        const char *why = could_have(a, &err) != OT_OK ? err.msg
                          : a->spare_why[0] != 0       ? a->spare_why
                                                       : "no spare was there yet";
        snprintf(note, PL_SPARE_NOTE, "started cold: %.300s", why);
    }
    return s;
}

void pl_spare_drop(pl_app *a)
{
    ot_launch_spare_end(a->spare);
    a->spare = NULL;
    a->spare_why[0] = 0;
    a->spare_again_us = 0;
    a->spare_drops++;
}

json_t *pl_spare_json(pl_app *a)
{
    if (a->app->train.warm.n == 0) {
        return json_null();
    }
    static const char *const states[] = {"importing", "ready", "none"};
    ot_launch_spare_state s =
        a->spare != NULL ? ot_launch_spare_look(a->spare) : OT_LAUNCH_SPARE_ENDED;
    ot_error err = {0};
    const char *why = could_have(a, &err) != OT_OK ? err.msg : a->spare_why;
    bool ready = s == OT_LAUNCH_SPARE_READY;
    return json_pack(
        "{s:s,s:o,s:s?}", "state", a->spare_starts ? states[0] : states[s], "memory_bytes",
        ready ? json_integer((json_int_t)ot_launch_spare_memory(a->spare)) : json_null(), "why",
        a->spare == NULL && why[0] != 0 ? why : NULL);
}
