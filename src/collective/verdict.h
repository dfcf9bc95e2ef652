/* Who is to blame, in words: what an event or a broken link means, and what to do about it.
 *
 * Threads: pure. */
#ifndef OT_COLLECTIVE_VERDICT_H
#define OT_COLLECTIVE_VERDICT_H

#include "collective/meet.h"

#define OT_VERDICT_NEXT 160

/* Whether operations can't go on after this event. */
bool ot_event_ends(const ot_event *e);
int32_t ot_event_culprit(const ot_event *e); /* whom it means */
/* What follows from it for the job: "start the job again", or what an elastic job does. `left` of
 * `size` ranks, where gone[r] is false. */
void ot_verdict_next(const bool *gone, int32_t size, int64_t min_np, char out[OT_VERDICT_NEXT]);
/* "rank 1 (host b) was killed by signal 9 (Killed): LAST LINE. Look ..., and NEXT" */
void ot_verdict_of_event(const ot_event *e, const char *next, ot_error *out);
/* `elastic`: who has to go is found out, not guessed. */
void ot_verdict_of_link(int32_t rank, const char *host, bool elastic, const ot_error *why,
                        ot_error *out);
void ot_verdict_of_left(int32_t rank, const char *host, bool moved, ot_error *out);
/* What it sent does not fit to what this rank does. */
void ot_verdict_of_mismatch(int32_t rank, const char *host, int32_t self, const char *self_host,
                            const ot_error *why, ot_error *out);

#endif
