/* Jobs: what a run is made from, taken on the loop, and handed to who lays it out (lay_out.c). */
#include "pipeline/job.h"

#include "base/clock.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void pl_run_dir(const ot_pipeline *p, int64_t run, char out[OT_PATH_MAX])
{
    snprintf(out, OT_PATH_MAX, "%s/runs/%" PRId64, p->data_dir, run);
}

void pl_job_destroy(pl_job *j)
{
    for (size_t i = 0; i < j->n_data; i++) {
        if (j->data[i].has_table) {
            ot_table_done(&j->data[i].table);
        }
    }
    ot_str_done(&j->script);
    ot_str_done(&j->job);
    ot_launch_spare_end(j->spare);
    ot_free(j);
}

/* ------------------------------------------------------------------ on the loop: copies */

static ot_rc take_labelled(pl_app *a, const ot_app_data *d, pl_job_data *out, ot_error *err)
{
    char deployment[65];
    OT_TRY(ot_app_from_deployment(d->from, deployment, err));
    pl_app *other = pl_app_of_deployment(a->p, deployment);
    if (other == NULL || other->quality == NULL) {
        return ot_fail(err, OT_NOT_FOUND, "data '%s': no deployment '%s' here", d->name,
                       deployment);
    }
    ot_rc rc = ot_quality_labelled(other->quality, ot_clock_wall_us() - d->last_us, d->max_rows,
                                   d->label, &out->table, err);
    if (rc == OT_NOT_FOUND) {
        return OT_OK; /* no labelled rows yet: the set is empty */
    }
    OT_TRY(rc);
    out->has_table = true;
    out->rows = out->table.rows;
    return OT_OK;
}

static const pl_data *cycle_data(const pl_app *a, const char *name)
{
    for (int64_t i = 0; i < a->st.cycle.n_data; i++) {
        if (strcmp(a->st.cycle.data[i].name, name) == 0) {
            return &a->st.cycle.data[i];
        }
    }
    return NULL;
}

/* Training and evaluation take data as they are now; packaging describes what training had, and a
 * training that is tried again learns from what its first try was given: what it was started for
 * may be gone from the latest traffic. */
static ot_rc take_data(pl_app *a, pl_job *j, const ot_app_data *d, ot_error *err)
{
    pl_job_data *x = &j->data[j->n_data++];
    snprintf(x->name, sizeof x->name, "%s", d->name);
    snprintf(x->label, sizeof x->label, "%s", d->label);
    x->in_training = ot_app_trains_on(a->app, d->name);
    bool again = j->step == PL_STEP_TRAIN && a->st.cycle.attempt > 0;
    const pl_data *known = j->step == PL_STEP_PACKAGE || again ? cycle_data(a, d->name) : NULL;
    if (known != NULL) {
        x->known = true;
        x->digest = known->digest;
        x->rows = known->rows;
        return OT_OK;
    }
    if (d->path != NULL) {
        return d->path[0] == '/' ? (snprintf(x->path, sizeof x->path, "%s", d->path), OT_OK)
                                 : ot_path_join(x->path, a->app->dir, d->path, err);
    }
    return j->step == PL_STEP_PACKAGE ? OT_OK : take_labelled(a, d, x, err);
}

ot_rc pl_job_fill(pl_app *a, pl_job *j, ot_error *err)
{
    const ot_app *app = a->app;
    const pl_cycle *c = &a->st.cycle;
    pl_run_dir(a->p, j->run, j->dir);
    snprintf(j->app, sizeof j->app, "%s", app->app);
    snprintf(j->model_rel, sizeof j->model_rel, "%s", app->train.model);
    if (strlen(app->train.run) >= sizeof j->command) {
        return ot_fail(err, OT_INVALID, "train.run is longer than %zu bytes", sizeof j->command);
    }
    pl_steps_say(app, j->command, sizeof j->command);
    if (j->step == PL_STEP_TRAIN && (app->steps.n > 0 || ot_app_is_job(app))) {
        OT_TRY(pl_steps_script(app, a->p->exe, j->dir, &j->script, err));
    }
    if (j->step == PL_STEP_TRAIN && app->train.np > 0 && app->train.hosts.n == 0 &&
        app->train.engine == 0 && app->steps.n == 0) {
        pl_steps_job(app, j->dir, &j->job);
    }
    j->np = app->train.hosts.n > 0 ? -1 : app->train.np;
    j->from = app->train.from;
    j->checkpoints = (size_t)app->train.checkpoints;
    j->res = app->train.resources;
    j->held_out = app->evaluate.held_out;
    j->code = a->st.code;
    j->champion_version = a->st.champion;
    j->has_champion = a->st.champion > 0;
    j->background = pl_something_serves(a->p);
    j->champion = a->st.champion_bundle;
    j->candidate = c->bundle;
    j->train_run = c->train_run;
    j->first_run = c->first_run != 0 ? c->first_run : j->run;
    j->isolation =
        j->step == PL_STEP_PACKAGE ? pl_isolation_of_new(a) : pl_isolation_of(a, c->version);
    j->champion_isolation = pl_isolation_of(a, a->st.champion);
    if (j->step == PL_STEP_TRAIN) {
        j->spare = pl_spare_take(a, j->note);
    }
    j->because = c->last_seq;
    if (c->pushed) {
        snprintf(j->model_path, sizeof j->model_path, "%s", c->path);
    } else {
        snprintf(j->model_path, sizeof j->model_path, "%s/runs/%" PRId64 "/work/%s", a->p->data_dir,
                 c->train_run, j->model_rel);
    }
    for (size_t i = 0; i < app->data.n; i++) {
        const ot_app_data *d = &app->data.v[i];
        bool wanted = j->step != PL_STEP_TRAIN || ot_app_trains_on(app, d->name);
        if (wanted && ot_app_maker(app, d) == NULL) {
            OT_TRY(take_data(a, j, d, err));
        }
    }
    return OT_OK;
}

static void start_done(void *arg, ot_rc rc, const ot_error *err)
{
    pl_job *j = arg;
    pl_data data[OT_APP_DATA_MAX];
    size_t n = rc == OT_EXISTS ? pl_given_data(j->dir, data) : pl_job_given(j, data);
    pl_app *a = j->a;
    pl_step step = j->step;
    int fd = j->fd;
    pl_job_destroy(j);
    a->busy = false;
    if (rc != OT_CANCELLED) {
        pl_cycle_launched(a, rc, err, data, step == PL_STEP_TRAIN ? n : 0, fd);
    }
}

pl_job *pl_job_new(pl_app *a)
{
    pl_job *j = ot_calloc(1, sizeof *j);
    if (j == NULL) {
        ot_err("pipeline", "app %s: no memory for a job; tried again soon", a->app->app);
        pl_cycle_again(a);
        return NULL;
    }
    j->a = a;
    j->p = a->p;
    j->run = a->st.cycle.run;
    j->fd = -1;
    ot_str_init(&j->script);
    ot_str_init(&j->job);
    return j;
}

/* Hands the job over. When nobody can take it now, the tick comes back to it. */
void pl_job_post(pl_job *j, ot_pipeline_work_fn *work, ot_pipeline_done_fn *done)
{
    pl_app *a = j->a;
    ot_error err = {0};
    a->busy = true;
    if (a->p->ports.async(a->p->ports.self, work, done, j, &err) != OT_OK) {
        a->busy = false;
        pl_job_destroy(j);
        ot_warn("pipeline", "app %s: %s; tried again soon", a->app->app, err.msg);
        pl_cycle_again(a);
    }
}

/* Who executes runs lays them out too. */
static void start_elsewhere(pl_app *a, pl_step step)
{
    const ot_pipeline_ports *ports = &a->p->ports;
    const pl_data none = {0};
    char dir[OT_PATH_MAX];
    ot_error err = {0};
    pl_run_dir(a->p, a->st.cycle.run, dir);
    ot_pipeline_run r = {.app = a->app->app,
                         .step = pl_step_name(step),
                         .model = a->app->train.model,
                         .run = a->st.cycle.run,
                         .version = a->st.cycle.version,
                         .champion = a->st.champion,
                         .dir = dir};
    ot_rc rc = ports->start_run(ports->self, &r, &err);
    pl_cycle_launched(a, rc, &err, &none, 0, -1);
}

void pl_job_start(pl_app *a, pl_step step)
{
    if (a->p->ports.start_run != NULL) {
        start_elsewhere(a, step);
        return;
    }
    pl_job *j = pl_job_new(a);
    if (j == NULL) {
        return;
    }
    j->step = step;
    ot_error err = {0};
    ot_rc rc = pl_job_fill(a, j, &err);
    if (rc == OT_OK) {
        pl_job_post(j, pl_job_lay_out, start_done);
        return;
    }
    pl_job_destroy(j);
    pl_cycle_launched(a, rc, &err, NULL, 0, -1);
}
