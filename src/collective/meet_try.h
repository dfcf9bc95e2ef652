/* Whether this host can make links to others, tried while its ranks wait for the next epoch.
 *
 * Threads: any. */
#ifndef OT_COLLECTIVE_MEET_TRY_H
#define OT_COLLECTIVE_MEET_TRY_H

#include "collective/meet.h"

#define OT_MEET_TRY_NS 2500000000u /* for all to answer: time for one packet to be sent again */

/* Sets bit i of `missed` ((n + 7) / 8 bytes) for a host that answers at none of its addresses, and
 * says in `why` what became of one of them. Hosts of this one's machine are not tried. Blocks for
 * OT_MEET_TRY_NS at most. */
void ot_meet_try(const ot_member *self, const ot_member *hosts, int32_t n, uint8_t *missed,
                 char why[256]);

#endif
