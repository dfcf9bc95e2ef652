/* Runs of a rehearsal: nothing is executed. A run takes a time and leaves what one would have left.
 */
#include "simulate/world.h"

#include "base/mem.h"
#include "launch/run.h"
#include "model/bundle.h"
#include "registry/registry.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUN_LEAST_US WORLD_SECOND /* where no run of a step was recorded */
/* A recorded training that was asked for so much later is the same one. */
#define SAME_CAUSE_US (60 * WORLD_SECOND)

ot_rc world_read_kind(const recording *rec, world_version *v, ot_error *err)
{
    char hex[OT_DIGEST_HEX], path[OT_PATH_MAX];
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    OT_AUTO(ot_manifest_done) ot_manifest m = {0};
    ot_digest_hex(&rec->versions[v->bundle].bundle, hex);
    snprintf(path, sizeof path, "%.4000s/%.2s/%s", rec->blobs, hex, hex);
    OT_TRY(ot_disk_read_all(ot_disk_posix(), path, OT_MANIFEST_BYTES_MAX, &text, err));
    OT_TRY(ot_manifest_parse(text.data, text.len, &m, err));
    v->kind = m.prediction_kind;
    if (v->kind != OT_PREDICTION_NONE) {
        snprintf(v->output, sizeof v->output, "%s", m.outputs[m.prediction_output].name);
    }
    return OT_OK;
}

static int64_t took(const world *w, int step)
{
    int64_t us = w->rec->median_us[step];
    if (us == 0 && step == SIM_TRAIN) {
        us = w->app->train.resources.time_us; /* at the most */
    }
    return us > 0 ? us : RUN_LEAST_US;
}

/* The version that was really trained next, else an assumed one. It has that version's own bundle
 * where the record has the same training; else that of what served then, whose cells the recorded
 * windows were counted in. */
static ot_rc choose(world *w, ot_error *err)
{
    const recording *r = w->rec;
    int32_t next = sim_trained_after(r, w->now_us), serves = -1;
    serves = sim_version_find(r, sim_champion_at(r, w->now_us));
    bool same = next >= 0 && r->versions[next].caused_us <= w->now_us + SAME_CAUSE_US;
    w->next = (world_version){.recorded = next, .trained_us = w->now_us};
    w->next.bundle = same ? next : serves >= 0 ? serves : w->versions[w->n_versions - 1].bundle;
    for (int k = 0; k < SIM_STEPS; k++) {
        int64_t us = same ? r->versions[next].took_us[k] : 0;
        w->next.took_us[k] = us > 0 ? us : took(w, k);
    }
    double accuracy;
    w->assumed += next < 0;
    w->recorded += next >= 0;
    if (!world_accuracy(w, &w->next, w->now_us, &accuracy)) {
        return ot_fail(err, OT_INVALID,
                       "app %s: a version would be trained that never was, and no labels tell how "
                       "accurate versions were at their promotion; say it with --assume-accuracy",
                       r->app);
    }
    return world_read_kind(r, &w->next, err);
}

ot_rc world_start_run(void *self, const ot_pipeline_run *run, ot_error *err)
{
    world *w = self;
    int step = 0;
    while (step < SIM_EVALUATE && strcmp(run->step, sim_step_names[step]) != 0) {
        step++;
    }
    if (step == SIM_TRAIN && choose(w, err) != OT_OK) {
        w->failed = *err;
        return err->rc;
    }
    if (step == SIM_EVALUATE) {
        if (run->version != (int64_t)w->n_versions + 1 || run->version > WORLD_VERSIONS_MAX) {
            return ot_fail(&w->failed, OT_EXHAUSTED,
                           "rehearsal: more than %d versions; take a shorter --last",
                           WORLD_VERSIONS_MAX);
        }
        w->versions[w->n_versions++] = w->next;
    }
    w->on.run = run->run;
    w->on.version = run->version;
    w->on.champion = run->champion;
    w->on.step = step;
    w->on.starts_us = w->now_us;
    w->on.ends_us = w->now_us + w->next.took_us[step];
    snprintf(w->on.dir, sizeof w->on.dir, "%s", run->dir);
    snprintf(w->on.model, sizeof w->on.model, "%s", run->model);
    return OT_OK;
}

static ot_rc leave_result(world *w, ot_error *err)
{
    char path[OT_PATH_MAX];
    json_t *result = NULL;
    OT_TRY(ot_path_join(path, w->on.dir, "result.json", err));
    OT_TRY(world_scores(w, w->on.version, w->on.champion, &result, err));
    char *text = json_dumps(result, JSON_COMPACT);
    json_decref(result);
    ot_rc rc = text == NULL
                   ? ot_fail(err, OT_EXHAUSTED, "rehearsal: no memory")
                   : ot_disk_write_atomic(ot_disk_scratch(), path, text, strlen(text), 0644, err);
    free(text);
    return rc;
}

static ot_rc leave(world *w, ot_error *err)
{
    char path[OT_PATH_MAX], work[OT_PATH_MAX];
    if (w->on.step == SIM_TRAIN) {
        OT_TRY(ot_path_join(work, w->on.dir, "work", err));
        OT_TRY(ot_path_join(path, work, w->on.model, err));
        return ot_disk_mkdirs(ot_disk_scratch(), path, 0755, err);
    }
    OT_TRY(ot_disk_mkdirs(ot_disk_scratch(), w->on.dir, 0755, err));
    if (w->on.step == SIM_EVALUATE) {
        return leave_result(w, err);
    }
    OT_TRY(ot_path_join(path, w->on.dir, "bundle", err));
    return ot_registry_materialise_from(ot_disk_posix(), w->rec->blobs,
                                        &w->rec->versions[w->next.bundle].bundle, path, err);
}

ot_rc world_finish_run(world *w, ot_error *err)
{
    const char *argv[] = {"rehearsal"};
    const ot_launch_spec spec = {.argv = argv, .n_argv = 1, .run = w->on.run};
    const ot_launch_exit end = {
        .state = OT_LAUNCH_SUCCEEDED, .started_us = w->on.starts_us, .ended_us = w->on.ends_us};
    int64_t run = w->on.run;
    OT_TRY(leave(w, err));
    OT_TRY(ot_launch_record(w->on.dir, &spec, &end, err));
    w->on.run = 0; /* what follows may start the next one */
    ot_pipeline_run_ended(w->p, run);
    ot_pipeline_tick(w->p);
    return OT_OK;
}
