/* An executor: what a thread that runs batches owns. Runs calls together, splits the outputs, runs
 * a failed batch again one by one, and falls back.
 *
 * Threads: one. Lifetime: init/done. */
#ifndef OT_SERVE_EXEC_H
#define OT_SERVE_EXEC_H

#include "serve/call.h"

#define OT_EXEC_CALLS_MAX 1024 /* calls of one batch */

typedef struct ot_exec {
    unsigned slot;    /* of each variant */
    ot_slot *held;    /* of the variant that is being run, see ot_variant_hold; or NULL */
    bool holding;     /* `result` has outputs of the last run */
    ot_call *streams; /* the one call of the run, which takes several responses; or NULL */
    ot_run_result result;
    uint64_t run_ns; /* what the runs of the last batch took */
    uint64_t run_from_ns,
        run_to_ns; /* begin of its first run, end of its last; 0: there was none */
    ot_segment *segments;
    size_t segments_cap;
    ot_run_part parts[OT_EXEC_CALLS_MAX];
    ot_run_input inputs[OT_RUNTIME_INPUTS_MAX];
    ot_run_output outputs[OT_RUNTIME_OUTPUTS_MAX];
    uint8_t *gather;
    size_t gather_cap;
} ot_exec;

ot_rc ot_exec_init(ot_exec *x, unsigned slot, ot_error *err) OT_CHECKED;
void ot_exec_done(ot_exec *x);

/* Runs n calls of one variant (they fit each other, see ot_call_fits; their rows together are at
 * most what the variant may merge, or n is 1) and sets the result of each and its times. Outputs
 * without a block are valid until ot_exec_release. False: the variant sleeps, nothing was done. */
bool ot_exec_run(ot_exec *x, ot_variant *v, ot_call *const *calls, size_t n);
void ot_exec_release(ot_exec *x);
/* Copies the outputs, so that they outlive the executor's next run. */
void ot_exec_own(ot_call *call);

/* Runs bare tensors: for warm-up and shadow copies. Outputs as views of x->result, in the order of
 * the signature. */
ot_rc ot_exec_tensors(ot_exec *x, ot_variant *v, const ot_tensor *inputs, ot_error *err) OT_CHECKED;

#endif
