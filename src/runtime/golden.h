/* The golden check: does a model, here and now, answer as its bundle says it did?
 *
 * Each case is run alone and batched with its neighbours. All answers must agree with the expected
 * ones, and so with each other, within tolerance (ot_golden_compare). Answers that are right singly
 * and wrong batched leave the model usable without batching; the result says why.
 * Threads: any (it makes an instance of its own). Lifetime: nothing is kept. */
#ifndef OT_RUNTIME_GOLDEN_H
#define OT_RUNTIME_GOLDEN_H

#include "model/golden.h"
#include "runtime/runtime.h"

typedef struct ot_golden_result {
    bool correct;                  /* every case run alone gave what was expected */
    bool batching;                 /* and rows batched gave the same */
    size_t cases_checked;          /* run alone */
    int64_t batch_checked;         /* rows of the largest batch that was run and agreed */
    double abs_max;                /* largest difference seen in all runs (numeric outputs) */
    char reason[OT_ERROR_MSG_MAX]; /* when one of the two is false: case, output, element, values */
} ot_golden_result;

/* A case is an ot_golden_row of ot_golden.cases. Its outputs may be a subset of the signature's.
 * batch_axis -1 or batch_max <= 1: batching is not tried and comes back false with that reason.
 * Batching is along axis 0 only. A wrong answer is a result, not an error; an error is returned
 * when nothing can be said: no cases, inputs that the model refuses, a run that fails. */
ot_rc ot_golden_check(ot_model *model, const ot_golden_row *cases, size_t n_cases, double tol_abs,
                      double tol_rel, int batch_axis, int64_t batch_max,
                      ot_golden_result *result_out, ot_error *err) OT_CHECKED;

#endif
