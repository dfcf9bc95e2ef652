/* How a job goes, in one line, from what its ranks tell once a second.
 *
 * Threads: pure. */
#ifndef OT_LAUNCH_JOB_PROGRESS_H
#define OT_LAUNCH_JOB_PROGRESS_H

#include "collective/meet.h"

#include <stddef.h>

/* From the pulses of n ranks then and now, `us` apart: "4 ranks, 12.5 steps/s, 800 samples/s, 1.2
 * GiB/s sent, slowest: rank 2 (others wait 35%)", of the time. What is not told is left
 * out; a rank is slowest when most of the waiting is for it. */
void ot_job_progress(const ot_pulse *then, const ot_pulse *now, int32_t n, uint64_t us, char *out,
                     size_t size);

#endif
