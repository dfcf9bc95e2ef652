/* Counting: what a worker adds up about the rows that a variant answered.
 *
 * A cell holds one window's counts of one worker and variant. The worker counts into its active
 * cell without any lock; at window close it swaps the two cells it has, and the control thread
 * reads and clears the closed one before it asks for the next close. Counting has a budget of a
 * worker's time; when it is spent, rows are thinned by a hash of their prediction id, so what is
 * counted does not depend on what is in the rows.
 *
 * Threads: a cell one at a time, as above. Lifetime: the variant's. */
#ifndef OT_SERVE_COUNT_H
#define OT_SERVE_COUNT_H

#include "codec/tensor.h"
#include "model/manifest.h"
#include "stats/hist.h"
#include "stats/latency.h"

#include <stdbool.h>
#include <stdint.h>

#define OT_LATENCY_STEPS 22 /* of the totals: upper bounds in ot_latency_step_us, then infinity */
extern const uint32_t ot_latency_step_us[OT_LATENCY_STEPS - 1];
unsigned ot_latency_step(uint64_t us);

/* What of a bundle's reference says how to count. A schema that does not fit the signature is left
 * out, with a reason. */
typedef struct ot_count_schema {
    ot_hist_schema *inputs, *outputs;                  /* NULL: not counted */
    ot_hist_table inputs_reference, outputs_reference; /* of the schemas that are there */
    ptrdiff_t prediction, confidence;                  /* columns of outputs; -1: not there */
    ot_prediction_kind kind;
    size_t output; /* which output tensor is the prediction */
} ot_count_schema;

/* Takes the bytes of reference/trained_on.hist and reference/outputs.hist; n 0: absent. */
ot_rc ot_count_schema_read(ot_count_schema *s, const ot_manifest *sig, const void *inputs,
                           size_t n_inputs, const void *outputs, size_t n_outputs,
                           ot_error *err) OT_CHECKED;
void ot_count_schema_done(ot_count_schema *s);

typedef struct ot_cell {
    uint64_t requests, rows, failed;
    uint64_t counted; /* rows in the tables */
    bool has_inputs, has_outputs;
    ot_hist_table inputs, outputs;
    ot_latency latency;
} ot_cell;

ot_rc ot_cell_create(const ot_count_schema *s, ot_cell **cell_out, ot_error *err) OT_CHECKED;
void ot_cell_destroy(ot_cell *c); /* NULL is fine */
void ot_cell_clear(ot_cell *c);
/* into += from; only of one schema. */
ot_rc ot_cell_merge(ot_cell *into, const ot_cell *from, ot_error *err) OT_CHECKED;

/* Room to turn a request's rows into floats; one a worker, grows to the largest row. */
typedef struct ot_count_scratch {
    float *row;
    size_t cap;
} ot_count_scratch;
void ot_count_scratch_done(ot_count_scratch *s);

/* Counts `rows` rows: the inputs' elements in the order of the signature are the features. */
void ot_count_rows(const ot_count_schema *s, ot_cell *cell, ot_count_scratch *scratch,
                   const ot_tensor *inputs, size_t n_inputs, const ot_tensor *outputs,
                   size_t n_outputs, int64_t rows);

/* The budget. */
typedef struct ot_budget {
    double fraction;             /* of a worker's time; >= 1: no limit */
    uint64_t start_ns, spent_ns; /* since the last look */
    uint64_t spent_total_ns;
    unsigned level; /* one row in 2^level is counted */
} ot_budget;

#define OT_BUDGET_LOOK_NS 50000000u /* how often the level may change */
void ot_budget_spend(ot_budget *b, uint64_t now_ns, uint64_t ns);
static inline bool ot_budget_takes(const ot_budget *b, uint64_t hash)
{
    return b->level == 0 || (hash & (((uint64_t)1 << b->level) - 1)) == 0;
}

#endif
