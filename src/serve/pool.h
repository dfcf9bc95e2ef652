/* The pool: threads at lower priority for runs that would hold a worker's loop up.
 *
 * Each variant has a queue (queue.h) that all workers add to; a free thread takes all of it that
 * fits one batch. So long runs batch naturally too, over all connections. There are two lanes with
 * threads of their own: very long runs have one at a still lower priority, so that what takes a
 * millisecond never waits for what takes a hundred. A queue has limits, in requests and in time;
 * what does not fit, or would be answered after its deadline, is refused at once.
 *
 * Threads: ot_pool_add from workers. Lifetime: create, stop (finishes what is queued), destroy. */
#ifndef OT_SERVE_POOL_H
#define OT_SERVE_POOL_H

#include "base/error.h"

#include <stdint.h>

#define OT_POOL_LONG_NS UINT64_C(10000000) /* a run that takes longer goes to the second lane */

typedef struct ot_pool ot_pool;
typedef struct ot_queue ot_queue;

struct ot_call;
/* The calls of a batch have their results; outputs are their own. On a pool thread. */
typedef void ot_pool_done_fn(void *arg, struct ot_call *call);

ot_rc ot_queue_create(ot_queue **q_out, ot_error *err) OT_CHECKED;
void ot_queue_destroy(ot_queue *q); /* NULL is fine */
uint64_t ot_queue_waiting(ot_queue *q);

typedef struct ot_pool_options {
    unsigned threads;    /* of each lane; 1 to 64 */
    unsigned first_slot; /* slots first_slot.. first_slot + threads - 1 of a variant are ours */
    uint32_t queue_max;  /* requests that may wait, for a deployment that does not say */
    int64_t wait_us_max; /* how long one may be predicted to wait; 0: any time */
    ot_pool_done_fn *done;
    ot_pool_done_fn *asleep; /* not run: its variant sleeps */
    void *arg;
} ot_pool_options;

ot_rc ot_pool_create(const ot_pool_options *o, ot_pool **pool_out, ot_error *err) OT_CHECKED;
void ot_pool_stop(ot_pool *p);
void ot_pool_destroy(ot_pool *p); /* NULL is fine */

/* Takes the call over. OT_EXHAUSTED: a limit is reached or its deadline would pass in the queue;
 * call->retry_s says when there should be room. OT_TIMEOUT: its deadline would pass even if it ran
 * now. */
ot_rc ot_pool_add(ot_pool *p, struct ot_call *call, ot_error *err) OT_CHECKED;

#endif
