/* What the files of the executor share: exec.c has the runs, exec_pump.c moves the bytes.
 *
 * Threads: the progress thread. */
#ifndef OT_COLLECTIVE_EXEC_INTERNAL_H
#define OT_COLLECTIVE_EXEC_INTERNAL_H

#include "collective/exec.h"

#define OT_RECV_PIECE ((size_t)256 << 10)

typedef struct ot_step_state {
    uint64_t done;
    bool complete;
} ot_step_state;

typedef struct ot_entry {
    ot_run *run;
    uint32_t step, message;
} ot_entry;

typedef struct ot_fifo {
    ot_entry *items;
    size_t head, n, cap;
} ot_fifo;

typedef struct ot_peer {
    ot_link *link;
    bool wanted, can_read, can_write, broken;
    ot_fifo send, recv;
    uint8_t out_head[OT_WIRE_HEADER], in_head[OT_WIRE_HEADER];
    size_t out_n, in_n; /* bytes of the header that have gone, or come */
    uint8_t partial[8]; /* of an element */
    size_t n_partial;
} ot_peer;

struct ot_exec {
    int32_t rank, size;
    uint8_t lane;
    ot_carrier *carrier;
    ot_exec_ops ops;
    ot_peer *peers;
    ot_run *active, **active_end, *pending, **pending_end;
    size_t n_active;
    uint64_t active_bytes;
    bool held, dead;
    ot_error why;
    uint8_t *staging; /* OT_RECV_PIECE */
    ot_exec_stats stats;
};

static inline ot_entry *ot_fifo_front(ot_fifo *f)
{
    return f->n > 0 ? &f->items[f->head] : NULL;
}

bool ot_step_may_start(const ot_run *r, const ot_step *s);
void ot_exec_on_ready(void *arg, ot_link *l, bool can_read, bool can_write);
/* Each does what can be done now and gives the bytes that have moved. */
uint64_t ot_exec_send(ot_exec *e, ot_peer *p);
uint64_t ot_exec_recv(ot_exec *e, ot_peer *p);
uint64_t ot_exec_local(ot_run *r);
void ot_exec_hurry(ot_run *r); /* the engine, once all have begun it */

#endif
