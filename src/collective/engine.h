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
#include "collective/residual.h"
#include "collective/ticket.h"

typedef struct ot_engine ot_engine;

typedef struct ot_engine_options {
    ot_identity id;
    int64_t timeout_us;      /* for all ranks to arrive */
    bool no_shm;             /* tests: sockets between ranks of one machine, too */
    bool no_learn;           /* tests: no plan, every step is negotiated */
    const char *engine;      /* carrier.h; NULL: the environment's */
    uint64_t epoch;          /* elastic: the next one after this; 0: this process is new */
    int64_t reach_us;        /* see ot_meet_options */
    ot_tickets *tickets;     /* of the epoch before, taken over; NULL: new ones */
    ot_residuals *residuals; /* of the world; outlive the engine */
} ot_engine_options;

ot_rc ot_engine_create(const ot_engine_options *o, ot_engine **out, ot_error *err) OT_CHECKED;
/* Waits for what is in flight, tells the others, and ends the thread. */
void ot_engine_destroy(ot_engine *e);
/* Elastic: requests in flight, and those that come, fail. From any thread; another one may wait. */
void ot_engine_abandon(ot_engine *e);
/* As destroy, after abandon; the others hear that it goes on. What to create the next one with
 * (options, tickets) is left in *next. */
void ot_engine_move(ot_engine *e, ot_engine_options *next);

typedef struct ot_engine_epoch {
    uint64_t number;
    int32_t waiting, leaving;
    bool elastic, over;  /* over: a verdict has been carried out */
    int32_t batch_ranks; /* as overtake_membership's */
} ot_engine_epoch;
ot_engine_epoch ot_engine_epoch_of(const ot_engine *e);

int32_t ot_engine_rank(const ot_engine *e);
void ot_engine_step(ot_engine *e, uint64_t samples); /* the program has ended a step */
const ot_member *ot_engine_members(const ot_engine *e, int32_t *n_out);
ot_tickets *ot_engine_tickets(ot_engine *e);
ot_trace *ot_engine_trace(ot_engine *e); /* never NULL */
/* Written to `path` by stop, else when the engine ends. */
ot_rc ot_engine_timeline_start(ot_engine *e, const char *path, ot_error *err) OT_CHECKED;
ot_rc ot_engine_timeline_stop(ot_engine *e, ot_error *err) OT_CHECKED;

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
