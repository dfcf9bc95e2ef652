/* The world of one rehearsal: a pipeline in a store of its own, its clock, its runs, and who
 * answers its rows. Not for other folders.
 *
 *   world.c    life, clock, ports
 *   runs.c     what a run takes and what it leaves
 *   scores.c   what an evaluation would have found
 *   answers.c  who answers a row, and with what
 *   replay.c   windows, answers and labels in the order in which they came
 *
 * Threads: one. Lifetime: create/destroy; the recording outlives it. */
#ifndef OT_SIMULATE_WORLD_H
#define OT_SIMULATE_WORLD_H

#include "base/disk.h"
#include "base/str.h"
#include "model/manifest.h"
#include "pipeline/app.h"
#include "pipeline/pipeline.h"
#include "simulate/recording.h"

#define WORLD_VERSIONS_MAX 1024
#define WORLD_SECOND INT64_C(1000000)
/* Replicas take a new state up within this. */
#define WORLD_SETTLE_US (5 * WORLD_SECOND)

/* A version of the rehearsal; its number is its index + 1. */
typedef struct world_version {
    int32_t recorded; /* the version that answers for it; -1: none, it is assumed */
    int32_t bundle;   /* the recorded version whose bundle it has */
    int64_t trained_us;
    int64_t took_us[SIM_STEPS];
    ot_prediction_kind kind;
    char output[OT_MANIFEST_TENSOR_NAME_MAX + 1];
} world_version;

/* What replicas were told to serve from a time on; versions are the rehearsal's, 0: none. */
typedef struct world_variants {
    int64_t from_us, champion, candidate, shadow;
    double share; /* the candidate's */
    bool compare;
} world_variants;

/* A live answer to a row whose label is known. */
typedef struct world_answer {
    int64_t time_us;
    bool right;
} world_answer;

/* One version's answer, to be pushed. */
typedef struct world_emit {
    uint64_t incarnation, seq;
    int64_t version, time_us;
    bool shadow;
    float probability;
    double prediction;
} world_emit;

typedef struct world {
    const recording *rec;
    ot_app *app; /* the policy */
    double assume_accuracy;
    char dir[OT_PATH_MAX];
    ot_store *store;
    ot_pipeline *p;
    int64_t now_us;
    world_version versions[WORLD_VERSIONS_MAX];
    size_t n_versions;
    world_version next; /* what the open cycle will make */
    struct {
        int64_t run, version, champion, starts_us, ends_us; /* run 0: none is on */
        int step;
        char dir[OT_PATH_MAX], model[1024];
    } on;
    bool ask, waits; /* an approval is to be given; the release still waits for one */
    world_variants *history;
    size_t n_history;
    world_answer *answers;
    size_t n_answers;
    world_emit *emits;
    size_t n_emits, cap_emits;
    uint64_t pushed;              /* the number of the last push */
    int64_t incomparable, tossed; /* windows of other cells; answers that nobody gave */
    int64_t assumed, recorded;    /* trainings by what they made */
    int64_t approvals;
    ot_error failed; /* rc other than OT_OK: it cannot go on */
} world;

ot_rc world_create(const recording *rec, const char *scratch, const char *yaml, const char *file,
                   const char *dir, double assume_accuracy, world **out, ot_error *err) OT_CHECKED;
void world_destroy(world *w);
/* Adopts the version that serves at `us` and begins there. */
ot_rc world_begin(world *w, int64_t us, ot_error *err) OT_CHECKED;
/* Lets the pipeline do what is due until then. */
ot_rc world_advance(world *w, int64_t us, ot_error *err) OT_CHECKED;
const world_variants *world_variants_at(const world *w, int64_t us);

/* --- runs.c */

ot_rc world_start_run(void *self, const ot_pipeline_run *run, ot_error *err);
/* Leaves what the run that is on would have left, and tells the pipeline of its end. */
ot_rc world_finish_run(world *w, ot_error *err) OT_CHECKED;
/* Output and kind of a version, from its bundle. */
ot_rc world_read_kind(const recording *rec, world_version *v, ot_error *err) OT_CHECKED;

/* --- scores.c */

/* The result of an evaluation, as `overtake evaluate` would have written it. */
ot_rc world_scores(world *w, int64_t candidate, int64_t champion, json_t **out,
                   ot_error *err) OT_CHECKED;
/* Share of right answers that a version would give at a time. False: nothing tells it. */
bool world_accuracy(const world *w, const world_version *v, int64_t us, double *out);
/* The accuracy of versions that were never trained. */
bool world_assumed(const world *w, double *out);

/* --- answers.c */

/* What came with this recorded outcome: answers of the versions that serve here. */
ot_rc world_answer_row(world *w, const sim_outcome *o, ot_error *err) OT_CHECKED;
/* Pushes what was answered since. */
ot_rc world_flush(world *w, ot_error *err) OT_CHECKED;

/* --- replay.c */

ot_rc world_replay(world *w, int64_t until_us, ot_error *err) OT_CHECKED;

#endif
