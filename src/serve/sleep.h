/* Sleep: within a cap on memory (--memory-max) models that nobody asks are unloaded, least recently
 * used first, and come back when a request comes, which waits for that.
 *
 * A variant that sleeps keeps all but its session: signature, counts, costs, its place in the
 * route. Whoever runs it says so first (ot_variant_hold), so that it falls asleep only when nobody
 * does. A deployment's variants sleep and wake together.
 *
 * Threads: control, except where it says so. */
#ifndef OT_SERVE_SLEEP_H
#define OT_SERVE_SLEEP_H

#include "serve/control.h"

#define OT_SLEEP_IDLE_NS UINT64_C(1000000000)  /* without a request for so long it may sleep */
#define OT_SLEEP_WAIT_NS UINT64_C(30000000000) /* a call without a deadline waits so long */

void ot_sleep_start(ot_control *c);
void ot_sleep_stop(ot_control *c); /* what waits is refused: the server goes down */
/* A variant is not wanted any more: refuses the calls that wait for it to wake. */
void ot_sleep_forget(ot_variant *v, const char *why);

/* Room for `bytes` more, by sending idle deployments to sleep. False: there is none. */
bool ot_sleep_make_room(ot_control *c, uint64_t bytes);

/* Takes over a call whose variant sleeps, or did a moment ago. On the thread that would have run
 * it; the call has left its turn. */
void ot_sleep_wait(ot_serve *s, ot_call *call);

/* On the loader's thread: gives the session's memory back; loads it again and has the calls that
 * wait run. */
void ot_sleep_unload(ot_variant *v);
void ot_sleep_wake(ot_serve *s, ot_load *load);

#endif
