/* Who is to blame, in words: what an event or a broken link means, and what to do about it.
 *
 * Threads: pure. */
#ifndef OT_COLLECTIVE_VERDICT_H
#define OT_COLLECTIVE_VERDICT_H

#include "collective/meet.h"

/* Whether operations can't go on after this event. */
bool ot_event_ends(const ot_event *e);
int32_t ot_event_culprit(const ot_event *e); /* whom it means */
/* "rank 1 (host b) was killed by signal 9 (Killed): LAST LINE. Look ..." */
void ot_verdict_of_event(const ot_event *e, ot_error *out);
void ot_verdict_of_link(int32_t rank, const char *host, const ot_error *why, ot_error *out);
void ot_verdict_of_left(int32_t rank, const char *host, ot_error *out);
/* What it sent does not fit to what this rank does. */
void ot_verdict_of_mismatch(int32_t rank, const char *host, int32_t self, const char *self_host,
                            const ot_error *why, ot_error *out);

#endif
