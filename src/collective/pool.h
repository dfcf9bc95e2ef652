/* Buffers that are used again: fresh ones cost a page fault each 4 KiB.
 *
 * Threads: the progress thread. */
#ifndef OT_COLLECTIVE_POOL_H
#define OT_COLLECTIVE_POOL_H

#include <stddef.h>

typedef struct ot_pool {
    struct {
        void *p;
        size_t size;
    } kept[32];
} ot_pool;

/* At least `size` bytes, at a page; *got_out is what ot_pool_give wants to know. NULL: no memory.
 */
void *ot_pool_take(ot_pool *p, size_t size, size_t *got_out);
void ot_pool_give(ot_pool *p, void *q, size_t size); /* q may be NULL */
void ot_pool_done(ot_pool *p);

#endif
