/* How far the meeting point's clock is from ours, from questions and their answers: the answer was
 * given between the two moments that we see, so the quickest exchange says most. What is known
 * grows old as clocks drift.
 *
 * Threads: pure; one a connection. */
#ifndef OT_COLLECTIVE_MEET_CLOCK_H
#define OT_COLLECTIVE_MEET_CLOCK_H

#include "collective/meet_wire.h"

typedef struct meet_clock {
    bool known, same; /* same: one kernel, one clock */
    int64_t offset_ns;
    uint64_t error_ns, at_ns; /* error: when it was measured */
    uint32_t taken;
} meet_clock;

/* True: ask again at once, the first exchanges are one behind the other. */
bool meet_clock_take(meet_clock *c, const ot_meet_time *t, uint64_t now_ns);
bool meet_clock_read(const meet_clock *c, uint64_t now_ns, int64_t *offset_ns, uint64_t *error_ns);
uint64_t meet_kernel(void); /* a hash of what tells this machine's kernel from others */

#endif
