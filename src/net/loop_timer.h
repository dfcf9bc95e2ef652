/* The timers of a loop: an intrusive pairing heap (Fredman, Sedgewick, Sleator, Tarjan 1986), so
 * that setting a timer can't fail. Private to src/net. One thread. */
#ifndef OT_NET_LOOP_TIMER_H
#define OT_NET_LOOP_TIMER_H

#include "net/loop.h"

typedef struct ot_timer_heap {
    ot_timer *root;
    uint64_t next_order;
} ot_timer_heap;

void ot_timer_heap_add(ot_timer_heap *h, ot_timer *t); /* due_ns is set; t is idle */
void ot_timer_heap_remove(ot_timer_heap *h, ot_timer *t);

#endif
