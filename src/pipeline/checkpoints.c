/* What a training keeps on the way comes into the registry: looked for while it runs, and once more
 * after each try of it. The program writes where it may (its run's directory) and needs nobody for
 * that to be durable; what the registry has outlives that directory, and is what a try begins with
 * where the directory was lost. */
#include "pipeline/job.h"

#include "base/clock.h"
#include "base/log.h"
#include "registry/checkpoint.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LOOK_US 2000000 /* while it runs */

void pl_checkpoints_dir(const ot_pipeline *p, int64_t training, char out[OT_PATH_MAX])
{
    snprintf(out, OT_PATH_MAX, "%s/runs/%" PRId64 "/" OT_CHECKPOINTS_DIR, p->data_dir, training);
}

typedef struct look {
    pl_app *a;
    char dir[OT_PATH_MAX], app[65];
    int64_t last_try; /* which had ended when it began; 0: it runs */
    ot_checkpoint_training t;
} look;

static bool runs_now(const pl_cycle *c)
{
    return c->state == PL_TRAINING && c->run != 0 && c->run_phase == PL_RUN_STARTED;
}

/* There is something to look for. */
static bool wanted(const pl_app *a)
{
    const pl_cycle *c = &a->st.cycle;
    return c->first_run != 0 && a->app->train.checkpoints > 0 && a->p->ports.start_run == NULL &&
           (runs_now(c) || a->kept_of != c->train_run);
}

static ot_rc work(void *arg, ot_error *err)
{
    look *l = arg;
    return ot_checkpoint_take(l->a->p->store, &l->t, err);
}

static void done(void *arg, ot_rc rc, const ot_error *err)
{
    look *l = arg;
    pl_app *a = l->a;
    a->keeps = false;
    if (rc == OT_OK) {
        a->kept_why[0] = 0;
    } else if (rc != OT_CANCELLED && strcmp(a->kept_why, err->msg) != 0) {
        snprintf(a->kept_why, sizeof a->kept_why, "%s", err->msg);
        ot_warn("pipeline", "app %s: run %" PRId64 ": %s", l->app, l->t.training, err->msg);
    }
    if (rc != OT_ABORTED && l->last_try != 0) {
        a->kept_of = l->last_try;
    }
    ot_free(l);
}

void pl_checkpoints_tick(pl_app *a)
{
    int64_t now = ot_clock_wall_us();
    const pl_cycle *c = &a->st.cycle;
    ot_error err = {0};
    if (a->keeps || !wanted(a) || (runs_now(c) && now < a->keep_us)) {
        return;
    }
    a->keep_us = now + LOOK_US;
    look *l = ot_calloc(1, sizeof *l);
    if (l == NULL) {
        return;
    }
    l->a = a;
    l->last_try = runs_now(c) ? 0 : c->train_run;
    snprintf(l->app, sizeof l->app, "%s", a->app->app);
    pl_checkpoints_dir(a->p, c->first_run, l->dir);
    l->t = (ot_checkpoint_training){.dir = l->dir,
                                    .app = l->app,
                                    .training = c->first_run,
                                    .keep = (size_t)a->app->train.checkpoints};
    a->keeps = true;
    if (a->p->ports.async(a->p->ports.self, work, done, l, &err) != OT_OK) {
        a->keeps = false;
        ot_free(l);
    }
}

int64_t pl_checkpoints_next_us(const pl_app *a)
{
    return !a->keeps && wanted(a) ? a->keep_us : INT64_MAX;
}

void pl_checkpoints_before(const pl_job *j)
{
    char dir[OT_PATH_MAX];
    ot_error err = {0};
    pl_checkpoints_dir(j->p, j->first_run, dir);
    const ot_checkpoint_training t = {
        .dir = dir, .app = j->app, .training = j->first_run, .keep = j->checkpoints};
    if (j->checkpoints == 0 || j->first_run == j->run) {
        return;
    }
    if (ot_checkpoint_take(j->p->store, &t, &err) != OT_OK) {
        ot_warn("pipeline", "app %s: run %" PRId64 ": %s", j->app, t.training, err.msg);
    }
    if (ot_checkpoint_give(j->p->store, &t, &err) != OT_OK) {
        ot_warn("pipeline", "app %s: run %" PRId64 " begins without the newest checkpoint: %s",
                j->app, j->run, err.msg);
    }
}

json_t *pl_checkpoints_went_on(const ot_pipeline *p, int64_t training, int64_t run)
{
    char dir[OT_PATH_MAX], hex[OT_DIGEST_HEX];
    ot_checkpoint_row c;
    pl_checkpoints_dir(p, training, dir);
    if (!ot_checkpoint_went_on(dir, run, &c)) {
        return NULL;
    }
    return json_pack("{s:I,s:I,s:s}", "run", (json_int_t)c.run, "step", (json_int_t)c.step,
                     "checkpoint", ot_digest_hex(&c.bundle, hex));
}
