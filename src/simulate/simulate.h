/* Rehearsal: what a policy would have done with what was recorded.
 *
 * The pipeline's and the evidence's own code runs in a store that is thrown away, on a clock that
 * follows the recording, and is fed the windows, answers and labels in the order and at the times
 * in which they came. What no record can tell is assumed, and the answer says what was:
 *
 *   a run takes as long as it did, or as the median of its step; it succeeds
 *   what it makes is the version that was really trained next, else one of an accuracy that is
 * given a version answers a row as it did; where it was not asked, it is right as often as it was
 * on the nearest rows that it answered, until a proven fall of what served then
 *
 * Threads: one; meanwhile the process's clock is the rehearsal's. The same recording and file give
 * the same answer, byte for byte. */
#ifndef OT_SIMULATE_SIMULATE_H
#define OT_SIMULATE_SIMULATE_H

#include "base/error.h"
#include "store/store.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct ot_simulate_config {
    ot_store *recorded;  /* only read; nobody writes it meanwhile */
    const char *blobs;   /* the folder of its content store */
    const char *scratch; /* an empty folder; what is left in it is the caller's to remove */
    const char *yaml, *file, *dir; /* the policy, as for ot_pipeline_apply */
    int64_t last_us;               /* how long before the recording's end the span begins */
    double assume_accuracy; /* of versions that were never trained; below 0: as the champion's
                               at its own promotion */
    bool events;            /* with the logs of the rehearsals */
} ot_simulate_config;

/* The answer is the object that docs/simulate.md describes. OT_NOT_FOUND: no such app, or nothing
 * was recorded; OT_INVALID: the file cannot be replayed over this recording. Each says the way out.
 */
ot_rc ot_simulate(const ot_simulate_config *cfg, json_t **out, ot_error *err) OT_CHECKED;

#endif
