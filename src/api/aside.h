/* Aside: one thread for what would hold up the control loop, and a bounded queue before it.
 *
 * `work` runs on the worker's thread, then `done` on the loop's, in the order of submission.
 * Threads: every function on the loop's. Lifetime: create/destroy; the loop must outlive it. */
#ifndef OT_API_ASIDE_H
#define OT_API_ASIDE_H

#include "base/error.h"
#include "net/loop.h"

typedef struct ot_aside ot_aside;

typedef ot_rc ot_aside_fn(void *arg, ot_error *err);
/* OT_CANCELLED: the process ends and `work` was not called. */
typedef void ot_aside_done_fn(void *arg, ot_rc rc, const ot_error *err);

ot_rc ot_aside_create(ot_loop *loop, unsigned queue_max, ot_aside **out, ot_error *err) OT_CHECKED;
/* `done` is called exactly once if and only if this returns OT_OK. OT_EXHAUSTED: queue_max jobs
 * wait already. OT_CANCELLED: the worker was stopped. */
ot_rc ot_aside_submit(ot_aside *w, ot_aside_fn *work, ot_aside_done_fn *done, void *arg,
                      ot_error *err) OT_CHECKED;
/* Waits for the job that is on, then calls every outstanding `done` from here. */
void ot_aside_stop(ot_aside *w);
void ot_aside_destroy(ot_aside *w); /* stops first */

#endif
