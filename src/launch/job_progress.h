/* How a job goes, in one line, from what its ranks tell once a second.
 *
 * Threads: pure. */
#ifndef OT_LAUNCH_JOB_PROGRESS_H
#define OT_LAUNCH_JOB_PROGRESS_H

#include "collective/meet.h"

#include <stddef.h>

/* Of all ranks together, in a second. */
typedef struct ot_job_rates {
    double steps, operations, samples, bytes; /* steps, operations: of the rank that did most */
    int32_t slowest;                          /* the rank that most of the waiting is for; -1 */
    double waits; /* share of the time that another rank waits for it; 0..1 */
} ot_job_rates;

/* From the pulses of n ranks then and now, `us` apart. */
ot_job_rates ot_job_rates_of(const ot_pulse *then, const ot_pulse *now, int32_t n, uint64_t us);
/* "4 ranks, 12.5 steps/s, 800 samples/s, 1.2 GiB/s sent, slowest: rank 2 (others wait 35%)", of the
 * time. What is not told is left out. */
void ot_job_progress(const ot_job_rates *r, int32_t n, char *out, size_t size);

#endif
