/* Which hosts of a job go when some can't link with each other, so that those that stay all can.
 *
 * Of hosts with a link missing, first one without a rank that has the job's state; then the one
 * that more ranks can't reach; of equals the last. Again, until no link is missing between those
 * that are left. So of two sides the smaller goes, and of two alike the one behind.
 *
 * Threads: pure. */
#ifndef OT_COLLECTIVE_CUT_H
#define OT_COLLECTIVE_CUT_H

#include <stdbool.h>
#include <stdint.h>

typedef struct ot_cut_host {
    int32_t ranks;
    bool fresh;     /* no rank of it has been in an epoch */
    bool goes;      /* the answer; the rest is said of those that go */
    int32_t missed; /* ranks of those still there by then that it could not reach */
    int32_t cause;  /* a host among them */
    bool more;      /* that host could reach more of them than this one */
} ot_cut_host;

/* `cut` is n by n: 1 where the host of the row could not reach that of the column. */
void ot_cut_decide(ot_cut_host *hosts, const uint8_t *cut, int32_t n);

#endif
