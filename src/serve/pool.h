/* The pool: threads at lower priority for runs that would hold a worker's loop up.
 *
 * Each variant has a queue that all workers add to; a free thread takes all of it that fits one
 * batch. So long runs batch naturally too, over all connections. A queue has a limit; what does not
 * fit is refused at once.
 *
 * Threads: ot_pool_add from workers. Lifetime: create, stop (finishes what is queued), destroy. */
#ifndef OT_SERVE_POOL_H
#define OT_SERVE_POOL_H

#include "base/error.h"

#include <stdint.h>

typedef struct ot_pool ot_pool;
typedef struct ot_queue ot_queue;

struct ot_call;
struct ot_variant;
/* The calls of a batch have their results; outputs are their own. On a pool thread. */
typedef void ot_pool_done_fn(void *arg, struct ot_call *call);

ot_rc ot_queue_create(ot_queue **q_out, ot_error *err) OT_CHECKED;
void ot_queue_destroy(ot_queue *q); /* NULL is fine */
uint64_t ot_queue_waiting(ot_queue *q);

/* Slots first_slot.. first_slot + threads - 1 of each variant are the pool's. */
ot_rc ot_pool_create(unsigned threads, unsigned first_slot, uint32_t queue_max,
                     ot_pool_done_fn *done, void *arg, ot_pool **pool_out,
                     ot_error *err) OT_CHECKED;
void ot_pool_stop(ot_pool *p);
void ot_pool_destroy(ot_pool *p); /* NULL is fine */

/* Takes the call over. OT_EXHAUSTED: the queue is full. OT_TIMEOUT: its deadline would pass before
 * its turn, by what runs cost so far. */
ot_rc ot_pool_add(ot_pool *p, struct ot_call *call, ot_error *err) OT_CHECKED;

#endif
