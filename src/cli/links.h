/* Measuring between the ranks of a job: what `overtake tune` writes down, and the calls that a
 * program which measures needs.
 *
 * Threads: one. Lifetime: join, then leave, also when join has failed. */
#ifndef OT_CLI_LINKS_H
#define OT_CLI_LINKS_H

#include "collective/cost.h"
#include "collective/meet.h"
#include "overtake/collective.h"

#define OT_LINKS_BUFFER ((size_t)32 << 20) /* more than caches hold */
#define OT_LINKS_TIMES 30                  /* of a size */
#define OT_LINKS_SIZES 21                  /* from 8 bytes on, doubled */

typedef struct ot_links {
    overtake_place place;
    bool in;                              /* the job */
    uint64_t machines[OT_MEET_RANKS_MAX]; /* a hash of its machine, by rank */
    unsigned char *buffer;                /* OT_LINKS_BUFFER */
    ot_cost_sample samples[OT_LINKS_SIZES * OT_LINKS_TIMES];
    size_t n;
    char text[OVERTAKE_MESSAGE_SIZE];
} ot_links;

/* Into the job of this process; OT_INVALID: it has no two ranks. *out may be set on failure too. */
ot_rc ot_links_join(ot_links **out, ot_error *err) OT_CHECKED;
ot_rc ot_links_leave(ot_links *t, ot_error *err) OT_CHECKED;
/* Collective over all ranks. Reductions and codecs are rank 0's. */
ot_rc ot_links_measure(ot_links *t, ot_cost_model *m, ot_error *err) OT_CHECKED;

double ot_links_now_us(void);
/* A code of the C interface as ours. */
ot_rc ot_links_failed(int code, const char *text, ot_error *err) OT_CHECKED;
/* Operations of one dimension. */
ot_rc ot_links_start(ot_links *t, overtake_request *r, overtake_handle *h,
                     ot_error *err) OT_CHECKED;
ot_rc ot_links_finish(overtake_handle h, ot_error *err) OT_CHECKED;
ot_rc ot_links_run(ot_links *t, overtake_request *r, ot_error *err) OT_CHECKED;

#endif
