/* Calls that are answered more than once: what a model gives before its last response.
 *
 * Only a wire that can send several answers takes them (ot_wire.more); for the others such a model
 * is an error. A call of that kind runs alone, in the pool; its responses are copied there and
 * handed to its worker in order, all of them before the last one.
 * Threads: stated at each function. Lifetime: a response is freed when its wire has taken it. */
#ifndef OT_SERVE_MORE_H
#define OT_SERVE_MORE_H

#include "serve/call.h"

#define OT_MORE_WAITING_MAX 64 /* responses of a worker that it has not taken; then runs wait */

/* Whether this call may get several responses. Any thread. */
bool ot_call_streams(const ot_call *call);
/* An ot_run_fn for ot_run.more, `arg` being the call: on the thread of the run. Waits while the
 * worker is behind. */
void ot_more_add(void *arg, const ot_run_result *result);
/* Gives what has come to the wires. The worker's thread, before calls that are done. */
void ot_more_deliver(ot_worker *w);

#endif
