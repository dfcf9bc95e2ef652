/* The timelines of a job's ranks as one file (`overtake run --timeline`), in the trace format of
 * Chrome and Perfetto. Pieces are written as they come; the file has its name once it is whole.
 *
 * Threads: one at a time. Lifetime: create, then end or destroy. */
#ifndef OT_LAUNCH_JOB_TIMELINE_H
#define OT_LAUNCH_JOB_TIMELINE_H

#include "base/disk.h"

#include <stdint.h>

typedef struct ot_job_timeline ot_job_timeline;

/* PATH.part is begun anew. At most OT_MEET_RANKS_MAX ranks. */
ot_rc ot_job_timeline_create(const char *path, int32_t ranks, ot_job_timeline **out,
                             ot_error *err) OT_CHECKED;
/* An elastic job has so many now. A rank's epochs follow each other in the file. */
void ot_job_timeline_ranks(ot_job_timeline *t, int32_t ranks);
/* As ot_meet_server_ops.timeline; what is not in that form is left out. */
void ot_job_timeline_take(ot_job_timeline *t, int32_t rank, bool last, const char *p, size_t n);
/* Closes the file and gives it its name; destroys. *missing_out: ranks of which nothing, or not
 * all, has come. */
ot_rc ot_job_timeline_end(ot_job_timeline *t, int32_t *missing_out, ot_error *err) OT_CHECKED;
void ot_job_timeline_destroy(ot_job_timeline *t); /* without a file */

#endif
