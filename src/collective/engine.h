/* The engine of one process: joins the job, runs the progress thread, and decides who is to blame
 * when something breaks.
 *
 * A broken link is no verdict: whoever ends because another rank has died breaks its links too. So
 * a break makes a suspect, and for a moment the meeting point may say what has become of whom; only
 * when it says nothing the rank at the other end is named. A verdict ends all requests in flight
 * and those that come, each with the same culprit.
 *
 * Threads: create and destroy from one; the others from any. */
#ifndef OT_COLLECTIVE_ENGINE_H
#define OT_COLLECTIVE_ENGINE_H

#include "collective/meet.h"
#include "collective/ticket.h"

typedef struct ot_engine ot_engine;

typedef struct ot_engine_options {
    ot_identity id;
    int64_t timeout_us; /* for all ranks to arrive */
    bool no_shm;        /* tests: sockets between ranks of one machine, too */
    bool no_learn;      /* tests: no plan, every step is negotiated */
} ot_engine_options;

ot_rc ot_engine_create(const ot_engine_options *o, ot_engine **out, ot_error *err) OT_CHECKED;
/* Waits for what is in flight, tells the others, and ends the thread. */
void ot_engine_destroy(ot_engine *e);

int32_t ot_engine_rank(const ot_engine *e);
void ot_engine_step(ot_engine *e, uint64_t samples); /* the program has ended a step */
const ot_member *ot_engine_members(const ot_engine *e, int32_t *n_out);
ot_tickets *ot_engine_tickets(ot_engine *e);

/* n tickets, in this order. */
ot_rc ot_engine_submit(ot_engine *e, ot_ticket *const *k, size_t n, ot_error *err) OT_CHECKED;
/* The program waits for this ticket (handle), which may be done. */
void ot_engine_waiting(ot_engine *e, const ot_ticket *k);
/* The group exists on this rank from now on; `ranks` are copied. */
ot_rc ot_engine_group_add(ot_engine *e, int32_t id, const int32_t *ranks, int32_t n,
                          ot_error *err) OT_CHECKED;
void ot_engine_group_drop(ot_engine *e, int32_t id);

uint64_t ot_engine_steps(ot_engine *e); /* operations done */
/* For a wait that timed out: who is waited for, and ranks that are stopped. rank_out -1: not known.
 */
void ot_engine_stall(ot_engine *e, const ot_ticket *k, char *text, size_t size, int32_t *rank_out);

#endif
