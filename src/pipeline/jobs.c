/* Jobs: lay out the directory of a run and launch it, away from the control loop. A job owns copies
 * of all it reads, so that the app may change while it works.
 *
 *     runs/<id>/work/      train: the program's folder; its working directory
 *     runs/<id>/data/NAME  train: rows that it may see
 *     runs/<id>/data.json  train: which data these are
 *     runs/<id>/parent/    train: the champion's bundle
 *     runs/<id>/train/NAME, held/NAME   package, evaluate: rows by side of the split
 *     runs/<id>/job.json, result.json   package, evaluate: spec and answer
 *     runs/<id>/bundle/    package: the bundle */
#include "pipeline/internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "registry/dataset.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct job_data {
    char name[65], label[129], path[OT_PATH_MAX]; /* path "" for labelled traffic */
    ot_table table;                               /* labelled traffic, taken on the loop */
    bool has_table, known;                        /* known: digest stands already */
    ot_digest digest;
    int64_t rows;
    bool in_training;
} job_data;

typedef struct job {
    pl_app *a;
    ot_pipeline *p;
    pl_step step;
    int64_t run;
    char dir[OT_PATH_MAX];
    char app[65], model_rel[1024], command[4096];
    ot_str script; /* train: its steps; empty: it has none */
    ot_app_resources res;
    double held_out;
    ot_digest code, champion, candidate;
    bool has_champion;
    const char *isolation,
        *champion_isolation;      /* of the model that is packed or judged; literals */
    bool background;              /* something serves here, which a run must not slow down */
    char model_path[OT_PATH_MAX]; /* package: what to package */
    int64_t train_run;
    job_data data[OT_APP_DATA_MAX];
    size_t n_data;
    ot_registered registered;
    uint64_t because;
    int fd; /* out: watches the shim */
} job;

void pl_run_dir(const ot_pipeline *p, int64_t run, char out[OT_PATH_MAX])
{
    snprintf(out, OT_PATH_MAX, "%s/runs/%" PRId64, p->data_dir, run);
}

static void job_destroy(job *j)
{
    for (size_t i = 0; i < j->n_data; i++) {
        if (j->data[i].has_table) {
            ot_table_done(&j->data[i].table);
        }
    }
    ot_str_done(&j->script);
    ot_free(j);
}

static bool zero_digest(const ot_digest *d)
{
    static const ot_digest zero;
    return ot_digest_equal(d, &zero);
}

/* ------------------------------------------------------------------ on the loop: copies */

static ot_rc take_labelled(pl_app *a, const ot_app_data *d, job_data *out, ot_error *err)
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
static ot_rc take_data(pl_app *a, job *j, const ot_app_data *d, ot_error *err)
{
    job_data *x = &j->data[j->n_data++];
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

static ot_rc job_fill(pl_app *a, job *j, ot_error *err)
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
    if (j->step == PL_STEP_TRAIN && app->steps.n > 0) {
        OT_TRY(pl_steps_script(app, j->dir, &j->script, err));
    }
    j->res = app->train.resources;
    j->held_out = app->evaluate.held_out;
    j->code = a->st.code;
    j->has_champion = a->st.champion > 0;
    for (size_t i = 0; i < a->p->n_apps; i++) {
        j->background = j->background || a->p->apps[i]->st.champion > 0;
    }
    j->champion = a->st.champion_bundle;
    j->candidate = c->bundle;
    j->train_run = c->train_run;
    j->isolation =
        j->step == PL_STEP_PACKAGE ? pl_isolation_of_new(a) : pl_isolation_of(a, c->version);
    j->champion_isolation = pl_isolation_of(a, a->st.champion);
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

/* ------------------------------------------------------------------ away from the loop */

static ot_rc settle_data(job *j, job_data *d, ot_error *err)
{
    if (d->known) {
        return OT_OK;
    }
    if (d->path[0] != 0) {
        OT_TRY(
            ot_dataset_import(j->p->store, d->name, d->path, d->label, &d->digest, &d->rows, err));
        d->known = true;
    } else if (d->has_table && d->rows > 0) {
        OT_TRY(ot_dataset_put(j->p->store, &d->table, &d->digest, err));
        char source[128];
        snprintf(source, sizeof source, "{\"from\":\"labelled traffic\",\"rows\":%" PRId64 "}",
                 d->rows);
        OT_TRY(ot_dataset_record(j->p->store, d->name, &d->digest, source, err));
        d->known = true;
    }
    return OT_OK;
}

static ot_rc lay_out(job *j, const job_data *d, const char *folder, ot_split which,
                     int64_t *rows_out, ot_error *err)
{
    char parent[OT_PATH_MAX], dir[OT_PATH_MAX];
    OT_TRY(ot_path_join(parent, j->dir, folder, err));
    OT_TRY(ot_disk_mkdirs(ot_disk_posix(), parent, 0755, err));
    OT_TRY(ot_path_join(dir, parent, d->name, err));
    *rows_out = 0;
    if (!d->known) {
        return OT_OK; /* empty: the folder is absent */
    }
    return ot_dataset_materialise(j->p->store, &d->digest, dir, which, j->held_out, rows_out, err);
}

/* Tells what the run was given, so that a run whose start was not saved can be found with it. */
static ot_rc save_data(const job *j, ot_error *err)
{
    char path[OT_PATH_MAX], hex[OT_DIGEST_HEX];
    OT_TRY(ot_path_join(path, j->dir, "data.json", err));
    json_t *list = json_array();
    for (size_t i = 0; i < j->n_data; i++) {
        const job_data *d = &j->data[i];
        if (d->known && d->in_training) {
            json_array_append_new(list, json_pack("{s:s,s:s,s:I}", "name", d->name, "sha256",
                                                  ot_digest_hex(&d->digest, hex), "rows",
                                                  (json_int_t)d->rows));
        }
    }
    char *text = json_dumps(list, JSON_COMPACT);
    json_decref(list);
    ot_rc rc = text == NULL
                   ? ot_fail(err, OT_EXHAUSTED, "run %" PRId64 ": no memory", j->run)
                   : ot_disk_write_atomic(ot_disk_posix(), path, text, strlen(text), 0644, err);
    free(text);
    return rc;
}

static ot_rc launch(job *j, const ot_launch_spec *spec, ot_error *err)
{
    return ot_launch_start(j->dir, spec, j->p->exe, &j->fd, err);
}

static ot_rc start_train(job *j, ot_error *err)
{
    char work[OT_PATH_MAX], data[OT_PATH_MAX], parent[OT_PATH_MAX], threads[24];
    char script[OT_PATH_MAX];
    OT_TRY(ot_path_join(work, j->dir, "work", err));
    OT_TRY(ot_path_join(data, j->dir, "data", err));
    OT_TRY(ot_path_join(parent, j->dir, "parent", err));
    OT_TRY(pl_code_materialise(j->p->store, &j->code, work, err));
    for (size_t i = 0; i < j->n_data; i++) {
        int64_t rows;
        OT_TRY(settle_data(j, &j->data[i], err));
        OT_TRY(lay_out(j, &j->data[i], "data", OT_SPLIT_TRAIN, &rows, err));
    }
    OT_TRY(save_data(j, err));
    if (j->has_champion) {
        /* Copies: a hard link would let the program write into the content store. */
        OT_TRY(ot_registry_copy_out(j->p->store, &j->champion, parent, err));
    }
    snprintf(threads, sizeof threads, "%" PRId64, j->res.cpu);
    ot_launch_env env[] = {
        {"OVERTAKE_DATA", data},      {"OVERTAKE_PARENT", j->has_champion ? parent : NULL},
        {"OMP_NUM_THREADS", threads}, {"TF_NUM_INTRAOP_THREADS", threads},
        {"PYTHONUNBUFFERED", "1"},
    };
    OT_TRY(ot_path_join(script, j->dir, "steps.sh", err));
    const char *argv[] = {"/bin/sh", script};
    bool steps = j->script.len > 0;
    if (steps) {
        OT_TRY(ot_disk_write_atomic(ot_disk_posix(), script, j->script.data, j->script.len, 0644,
                                    err));
    }
    ot_launch_spec spec = {.command = steps ? NULL : j->command,
                           .argv = argv,
                           .n_argv = steps ? OT_COUNT(argv) : 0,
                           .cwd = work,
                           .env = env,
                           .n_env = OT_COUNT(env),
                           .run = j->run,
                           .time_limit_us = j->res.time_us,
                           .memory_limit_bytes = j->res.memory,
                           .disk_limit_bytes = j->res.disk,
                           .log_limit_bytes = j->res.log,
                           .background = j->background};
    return launch(j, &spec, err);
}

/* Our own jobs: `overtake package|evaluate job.json`. They run beside serving as training
 * does, in the background when something serves. */
static ot_rc start_own(job *j, const char *verb, json_t *spec_json, ot_error *err)
{
    char spec_path[OT_PATH_MAX], result[OT_PATH_MAX];
    OT_TRY(ot_path_join(spec_path, j->dir, "job.json", err));
    OT_TRY(ot_path_join(result, j->dir, "result.json", err));
    json_object_set_new(spec_json, "result", json_string(result));
    char *text = json_dumps(spec_json, JSON_INDENT(1));
    if (text == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "run %" PRId64 ": no memory for its spec", j->run);
    }
    ot_rc rc = ot_disk_write_atomic(ot_disk_posix(), spec_path, text, strlen(text), 0644, err);
    free(text);
    OT_TRY(rc);
    const char *argv[] = {j->p->exe, verb, spec_path};
    /* Runtimes are found as the replica finds them. */
    static const char *const names[] = {"OVERTAKE_PLUGIN_PATH", "OVERTAKE_SECRETS",
                                        "OVERTAKE_ONNXRUNTIME_LIB", "OVERTAKE_TENSORFLOW_LIB",
                                        "OVERTAKE_PYTHON_LIB"};
    ot_launch_env env[OT_COUNT(names)];
    for (size_t i = 0; i < OT_COUNT(names); i++) {
        env[i] = (ot_launch_env){names[i], getenv(names[i])};
    }
    ot_launch_spec spec = {.argv = argv,
                           .n_argv = OT_COUNT(argv),
                           .env = env,
                           .n_env = OT_COUNT(env),
                           .run = j->run,
                           .time_limit_us = j->res.time_us,
                           .memory_limit_bytes = j->res.memory,
                           .background = j->background};
    return launch(j, &spec, err);
}

static ot_rc lay_out_sides(job *j, json_t *train, json_t *held, ot_error *err)
{
    for (size_t i = 0; i < j->n_data; i++) {
        job_data *d = &j->data[i];
        int64_t rows;
        char dir[OT_PATH_MAX];
        OT_TRY(settle_data(j, d, err));
        if (train != NULL && d->in_training) {
            OT_TRY(lay_out(j, d, "train", OT_SPLIT_TRAIN, &rows, err));
            snprintf(dir, sizeof dir, "%s/train/%s", j->dir, d->name);
            if (rows > 0) {
                json_array_append_new(train, json_string(dir));
            }
        }
        OT_TRY(lay_out(j, d, "held", OT_SPLIT_HELD_OUT, &rows, err));
        snprintf(dir, sizeof dir, "%s/held/%s", j->dir, d->name);
        if (rows == 0) {
            continue;
        }
        if (train != NULL) {
            json_array_append_new(held, json_string(dir));
        } else {
            json_array_append_new(
                held, json_pack("{s:s,s:s,s:s}", "name", d->name, "dir", dir, "label", d->label));
        }
    }
    return OT_OK;
}

static json_t *lineage_json(const job *j)
{
    char hex[OT_DIGEST_HEX];
    json_t *l = json_object();
    json_object_set_new(l, "parent",
                        j->has_champion && j->train_run != 0
                            ? json_string(ot_digest_hex(&j->champion, hex))
                            : json_null());
    json_object_set_new(l, "run", j->train_run != 0 ? json_integer(j->train_run) : json_null());
    bool has_code = j->train_run != 0 && !zero_digest(&j->code);
    json_object_set_new(l, "code",
                        has_code ? json_string(ot_digest_hex(&j->code, hex)) : json_null());
    json_t *data = json_object();
    for (size_t i = 0; i < j->n_data && j->train_run != 0; i++) {
        if (j->data[i].known && j->data[i].in_training) {
            json_object_set_new(data, j->data[i].name,
                                json_string(ot_digest_hex(&j->data[i].digest, hex)));
        }
    }
    json_object_set_new(l, "data", data);
    json_object_set_new(l, "parameters", json_pack("{s:s}", "run", j->command));
    json_object_set_new(l, "environment", json_object());
    return l;
}

static ot_rc start_package(job *j, ot_error *err)
{
    char bundle[OT_PATH_MAX];
    OT_TRY(ot_path_join(bundle, j->dir, "bundle", err));
    json_t *train = json_array(), *held = json_array();
    ot_rc rc = lay_out_sides(j, train, held, err);
    const char *label = j->n_data > 0 ? j->data[0].label : "y";
    json_t *spec = json_pack("{s:s,s:s,s:o,s:o,s:s,s:s,s:o}", "model", j->model_path, "bundle",
                             bundle, "train", train, "held_out", held, "label", label, "isolation",
                             j->isolation, "lineage", lineage_json(j));
    if (rc == OT_OK) {
        rc = start_own(j, "package", spec, err);
    }
    json_decref(spec);
    return rc;
}

static ot_rc add_bundle(job *j, json_t *list, const char *name, const ot_digest *digest,
                        const char *isolation, ot_error *err)
{
    char dir[OT_PATH_MAX];
    OT_TRY(ot_path_join(dir, j->dir, name, err));
    OT_TRY(ot_registry_materialise(j->p->store, digest, dir, err));
    json_array_append_new(
        list, json_pack("{s:s,s:s,s:s}", "name", name, "dir", dir, "isolation", isolation));
    return OT_OK;
}

static ot_rc start_evaluate(job *j, ot_error *err)
{
    json_t *bundles = json_array(), *data = json_array();
    ot_rc rc = add_bundle(j, bundles, "candidate", &j->candidate, j->isolation, err);
    if (rc == OT_OK && j->has_champion) {
        rc = add_bundle(j, bundles, "champion", &j->champion, j->champion_isolation, err);
    }
    if (rc == OT_OK) {
        rc = lay_out_sides(j, NULL, data, err);
    }
    json_t *spec = json_pack("{s:o,s:o}", "bundles", bundles, "data", data);
    if (rc == OT_OK) {
        rc = start_own(j, "evaluate", spec, err);
    }
    json_decref(spec);
    return rc;
}

static ot_rc start_work(void *arg, ot_error *err)
{
    job *j = arg;
    ot_launch_status st;
    OT_TRY(ot_launch_poll(j->dir, &st, err));
    if (st.phase != OT_LAUNCH_ABSENT) {
        return OT_EXISTS; /* its directory is in use */
    }
    /* A process may have died over this before, with other data at hand. */
    OT_TRY(ot_disk_remove_tree(ot_disk_posix(), j->dir, err));
    OT_TRY(ot_disk_mkdirs(ot_disk_posix(), j->dir, 0755, err));
    switch (j->step) {
    case PL_STEP_TRAIN:
        return start_train(j, err);
    case PL_STEP_PACKAGE:
        return start_package(j, err);
    case PL_STEP_EVALUATE:
        return start_evaluate(j, err);
    }
    return OT_OK;
}

static void start_done(void *arg, ot_rc rc, const ot_error *err)
{
    job *j = arg;
    pl_data data[OT_APP_DATA_MAX];
    size_t n = 0;
    for (size_t i = 0; i < j->n_data; i++) {
        if (j->data[i].known && j->data[i].in_training) {
            memcpy(data[n].name, j->data[i].name, sizeof data[n].name);
            data[n].digest = j->data[i].digest;
            data[n++].rows = j->data[i].rows;
        }
    }
    if (rc == OT_EXISTS) {
        n = pl_job_data(j->dir, data);
    }
    pl_app *a = j->a;
    pl_step step = j->step;
    int fd = j->fd;
    job_destroy(j);
    a->busy = false;
    if (rc != OT_CANCELLED) {
        pl_cycle_launched(a, rc, err, data, step == PL_STEP_TRAIN ? n : 0, fd);
    }
}

static job *job_new(pl_app *a)
{
    job *j = ot_calloc(1, sizeof *j);
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
    return j;
}

/* Hands the job over. When nobody can take it now, the tick comes back to it. */
static void post(job *j, ot_pipeline_work_fn *work, ot_pipeline_done_fn *done)
{
    pl_app *a = j->a;
    ot_error err = {0};
    a->busy = true;
    if (a->p->ports.async(a->p->ports.self, work, done, j, &err) != OT_OK) {
        a->busy = false;
        job_destroy(j);
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
    job *j = job_new(a);
    if (j == NULL) {
        return;
    }
    j->step = step;
    ot_error err = {0};
    ot_rc rc = job_fill(a, j, &err);
    if (rc == OT_OK) {
        post(j, start_work, start_done);
        return;
    }
    job_destroy(j);
    pl_cycle_launched(a, rc, &err, NULL, 0, -1);
}

/* ------------------------------------------------------------------ registration */

#define METRICS_MAX (64u << 10)

static ot_rc register_work(void *arg, ot_error *err)
{
    job *j = arg;
    char bundle[OT_PATH_MAX], metrics[OT_PATH_MAX];
    OT_TRY(ot_path_join(bundle, j->dir, "bundle", err));
    /* metrics.json stands beside the model; what a program says of itself is shown, not used. */
    snprintf(metrics, sizeof metrics, "%s", j->model_path);
    char *slash = strrchr(metrics, '/');
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    if (slash != NULL && (size_t)(slash - metrics) + 14 < sizeof metrics) {
        memcpy(slash, "/metrics.json", 14);
        if (ot_disk_read_all(ot_disk_posix(), metrics, METRICS_MAX, &text, NULL) == OT_OK) {
            json_t *m = json_loadb(text.data, text.len, 0, NULL);
            if (!json_is_object(m)) {
                ot_str_clear(&text);
            }
            json_decref(m);
        }
    }
    ot_register r = {.model = j->app,
                     .app = j->app,
                     .run = j->train_run != 0 ? j->train_run : j->run,
                     .metrics = text.len > 0 ? text.data : NULL,
                     .because = &j->because,
                     .n_because = j->because != 0};
    return ot_registry_register(j->p->store, bundle, &r, &j->registered, err);
}

static void register_done(void *arg, ot_rc rc, const ot_error *err)
{
    job *j = arg;
    pl_app *a = j->a;
    ot_registered r = j->registered;
    job_destroy(j);
    a->busy = false;
    if (rc != OT_CANCELLED) {
        pl_cycle_registered(a, rc, err, &r);
    }
}

void pl_job_register(pl_app *a)
{
    job *j = job_new(a);
    if (j == NULL) {
        return;
    }
    j->step = PL_STEP_PACKAGE; /* nothing new is read from traffic */
    ot_error err = {0};
    ot_rc rc = job_fill(a, j, &err);
    if (rc == OT_OK) {
        post(j, register_work, register_done);
        return;
    }
    job_destroy(j);
    pl_cycle_registered(a, rc, &err, NULL);
}
