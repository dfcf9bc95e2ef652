/* Lays out the directory of a run and launches it, away from the control loop.
 *
 *     runs/<id>/work/      train: the program's folder; its working directory
 *     runs/<id>/data/NAME  train: rows that it may see
 *     runs/<id>/data.json, parent.json  train: what it was given (given.c)
 *     runs/<id>/parent/    train: the champion's bundle
 *     runs/<id>/checkpoints/   train: what it kept, for its next tries too: of the first of them
 *     runs/<id>/train/NAME, held/NAME   package, evaluate: rows by side of the split
 *     runs/<id>/job.json, result.json   package, evaluate: spec and answer
 *     runs/<id>/bundle/    package: the bundle */
#include "pipeline/job.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static ot_rc settle_data(pl_job *j, pl_job_data *d, ot_error *err)
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

static ot_rc lay_out(pl_job *j, const pl_job_data *d, const char *folder, ot_split which,
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

/* The data that the training was given. */
size_t pl_job_given(const pl_job *j, pl_data out[OT_APP_DATA_MAX])
{
    size_t n = 0;
    for (size_t i = 0; i < j->n_data; i++) {
        if (j->data[i].known && j->data[i].in_training) {
            memcpy(out[n].name, j->data[i].name, sizeof out[n].name);
            out[n].digest = j->data[i].digest;
            out[n++].rows = j->data[i].rows;
        }
    }
    return n;
}

static ot_rc save_given(const pl_job *j, ot_error *err)
{
    pl_data data[OT_APP_DATA_MAX];
    pl_parent parent = {.version = j->champion_version,
                        .bundle = j->champion,
                        .began_from = j->from == OT_APP_FROM_PARENT};
    OT_TRY(pl_given_save_data(j->dir, data, pl_job_given(j, data), err));
    return pl_given_save_parent(j->dir, &parent, err);
}

static ot_rc launch(pl_job *j, const ot_launch_spec *spec, ot_error *err)
{
    return ot_launch_start(j->dir, spec, j->p->exe, &j->fd, err);
}

#define JOB_WORDS_MAX 64

/* Those of texts with a NUL behind each; 0: there are more. */
static size_t split_words(const ot_str *text, const char *words[JOB_WORDS_MAX])
{
    size_t n = 0;
    for (const char *w = text->data; w < text->data + text->len; w += strlen(w) + 1) {
        if (n == JOB_WORDS_MAX) {
            return 0;
        }
        words[n++] = w;
    }
    return n;
}

static ot_rc start_train(pl_job *j, ot_error *err)
{
    char work[OT_PATH_MAX], data[OT_PATH_MAX], parent[OT_PATH_MAX], threads[24];
    char script[OT_PATH_MAX], kept[OT_PATH_MAX];
    OT_TRY(ot_path_join(work, j->dir, "work", err));
    OT_TRY(ot_path_join(data, j->dir, "data", err));
    OT_TRY(ot_path_join(parent, j->dir, "parent", err));
    pl_checkpoints_dir(j->p, j->first_run, kept);
    OT_TRY(ot_disk_mkdirs_durable(ot_disk_posix(), kept, 0755, err));
    pl_checkpoints_before(j);
    OT_TRY(pl_code_materialise(j->p->store, &j->code, work, err));
    for (size_t i = 0; i < j->n_data; i++) {
        int64_t rows;
        OT_TRY(settle_data(j, &j->data[i], err));
        OT_TRY(lay_out(j, &j->data[i], "data", OT_SPLIT_TRAIN, &rows, err));
    }
    OT_TRY(save_given(j, err));
    if (j->has_champion) {
        /* Copies: a hard link would let the program write into the content store. */
        OT_TRY(ot_registry_copy_out(j->p->store, &j->champion, parent, err));
    }
    bool steps = j->script.len > 0;
    if (steps) {
        OT_TRY(ot_path_join(script, j->dir, "steps.sh", err));
        OT_TRY(ot_disk_write_atomic(ot_disk_posix(), script, j->script.data, j->script.len, 0644,
                                    err));
    }
    ot_launch_env env[PL_TRAIN_ENV];
    ot_launch_spec spec;
    pl_train_base(&j->res, j->np, threads, env, &spec);
    env[spec.n_env++] = (ot_launch_env){"OVERTAKE_DATA", data};
    env[spec.n_env++] = (ot_launch_env){"OVERTAKE_PARENT", j->has_champion ? parent : NULL};
    env[spec.n_env++] = (ot_launch_env){"OVERTAKE_CHECKPOINTS", kept};
    const char *words[JOB_WORDS_MAX];
    if (j->job.len > 0 && !j->job.failed) {
        spec.np = (int32_t)j->np;
        spec.job = words;
        spec.n_job = split_words(&j->job, words);
    }
    spec.command = steps ? ". ../steps.sh" : j->command;
    spec.cwd = work;
    spec.run = j->run;
    spec.background = j->background;
    spec.note = j->note[0] != 0 ? j->note : NULL;
    return ot_launch_start_warm(j->dir, &spec, j->spare, j->p->exe, &j->fd, err);
}

/* Our own jobs: `overtake package|evaluate job.json`. They run beside serving as training
 * does, in the background when something serves. */
static ot_rc start_own(pl_job *j, const char *verb, json_t *spec_json, ot_error *err)
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

static ot_rc lay_out_sides(pl_job *j, json_t *train, json_t *held, ot_error *err)
{
    for (size_t i = 0; i < j->n_data; i++) {
        pl_job_data *d = &j->data[i];
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

static bool zero_digest(const ot_digest *d)
{
    static const ot_digest zero;
    return ot_digest_equal(d, &zero);
}

/* Of a version that a person brought: nothing. */
static json_t *lineage_json(const pl_job *j)
{
    pl_data data[OT_APP_DATA_MAX];
    char dir[OT_PATH_MAX];
    if (j->train_run == 0) {
        return pl_lineage_json(0, &(pl_parent){0}, NULL, NULL, 0, j->command);
    }
    pl_parent p;
    pl_run_dir(j->p, j->train_run, dir);
    if (!pl_given_parent(dir, &p)) { /* who laid it out did not say */
        p = (pl_parent){.version = j->champion_version, .bundle = j->champion};
    }
    json_t *l = pl_lineage_json(j->train_run, &p, zero_digest(&j->code) ? NULL : &j->code, data,
                                pl_job_given(j, data), j->command);
    json_t *went_on = pl_checkpoints_went_on(j->p, j->first_run, j->train_run);
    if (went_on != NULL) {
        json_object_set_new(l, "resumed_from", went_on);
    }
    return l;
}

static ot_rc start_package(pl_job *j, ot_error *err)
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

static ot_rc add_bundle(pl_job *j, json_t *list, const char *name, const ot_digest *digest,
                        const char *isolation, ot_error *err)
{
    char dir[OT_PATH_MAX];
    OT_TRY(ot_path_join(dir, j->dir, name, err));
    OT_TRY(ot_registry_materialise(j->p->store, digest, dir, err));
    json_array_append_new(
        list, json_pack("{s:s,s:s,s:s}", "name", name, "dir", dir, "isolation", isolation));
    return OT_OK;
}

static ot_rc start_evaluate(pl_job *j, ot_error *err)
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

ot_rc pl_job_lay_out(void *arg, ot_error *err)
{
    pl_job *j = arg;
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
