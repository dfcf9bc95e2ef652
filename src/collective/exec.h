/* Runs operations: one executor a lane of a group. Each is a schedule over links, or goes as one
 * through the job's engine (carrier.h), where that takes it.
 *
 * Operations are submitted in the order that all ranks of the group share. Several are active at a
 * time: on each link their messages follow one another in that order, so that one's tail overlaps
 * the next one's head. A step goes on as far as its dependencies have got, in pieces that stay in
 * the cache; reductions read straight from the ring where the link has one.
 *
 * Threads: the progress thread. Lifetime: create/destroy; a submitted run is the caller's again
 * when `ended` is called for it. `ended` may submit. */
#ifndef OT_COLLECTIVE_EXEC_H
#define OT_COLLECTIVE_EXEC_H

#include "collective/carrier.h"
#include "collective/cost.h"
#include "collective/kernel.h"
#include "collective/link.h"
#include "collective/schedule.h"
#include "collective/wire.h"

typedef struct ot_exec ot_exec;
typedef struct ot_run ot_run;

struct ot_run {
    uint8_t kind, dtype, reduction; /* overtake_* */
    uint64_t epoch, seq, hash;      /* for the headers, the same on all ranks */
    char name[OT_WIRE_NAME];
    uint64_t bytes; /* about: how many runs are active depends on it */
    bool holds;     /* those behind it wait until it has ended: it may submit another before them */
    bool waits;     /* does not begin, nor do those behind it, until this is cleared */
    uint32_t first_message; /* of the headers */
    ot_late late;           /* of this rank; at the end of all that it depended on */
    bool timed;             /* reductions too */
    /* Called when its turn has come: fills buffers and asks for ot_exec_plan. */
    ot_rc (*prepare)(ot_run *r, ot_error *err);
    void (*ended)(ot_run *r, const ot_error *why); /* NULL: well */
    ot_schedule schedule;                          /* of ot_exec_plan; freed by the executor */
    void *buffers[OT_BUFFERS];

    /* The executor's. */
    ot_exec *exec;
    bool carried;    /* by the engine, not done yet */
    bool hurried;    /* ... and all ranks have begun it */
    uint8_t word[2]; /* sent and heard beside it */
    ot_times times;
    ot_run *next;
    struct ot_step_state *states;
    size_t left;  /* steps */
    size_t local; /* steps of no peer */
};

typedef struct ot_exec_ops {
    /* A link to the peer (rank in the group) is wanted: ot_exec_link, when it is up. */
    void (*want)(void *arg, int32_t peer);
    /* The link to the peer is of no more use, or what it sent does not fit, while `r` needed it.
     * Call ot_exec_abort; not at once, but when it is known who is to blame. */
    void (*broken)(void *arg, int32_t peer, const ot_run *r, const ot_error *why);
    void *arg;
} ot_exec_ops;

typedef struct ot_exec_stats {
    uint64_t bytes_in, bytes_out, runs;
} ot_exec_stats;

/* `carrier` outlives it; NULL: links alone. */
ot_rc ot_exec_create(int32_t rank, int32_t size, uint8_t lane, ot_carrier *carrier,
                     const ot_exec_ops *ops, ot_exec **out, ot_error *err) OT_CHECKED;
void ot_exec_destroy(ot_exec *e);
void ot_exec_link(ot_exec *e, int32_t peer, ot_link *l); /* takes the link over */
void ot_exec_submit(ot_exec *e, ot_run *r);
void ot_exec_submit_next(ot_exec *e, ot_run *r); /* from `ended` of a run that holds */
/* From `prepare`, with kind, dtype, reduction and the buffers IN and OUT in place: how it runs.
 * Begins it where the engine takes it, which is on all ranks or on none; else the best schedule,
 * for whose scratch the caller cares. */
ot_rc ot_exec_plan(ot_run *r, const ot_cost_model *cost, const ot_coll_shape *shape,
                   ot_error *err) OT_CHECKED;
/* The engine is done with this run; true: all had begun it (ot_carrier_turn). */
bool ot_exec_carried(void *run);
/* Does what can be done now, at most about `budget` bytes; true: there is more. */
bool ot_exec_turn(ot_exec *e, uint64_t budget);
void ot_exec_look(ot_exec *e, uint64_t now_ns); /* at its links: ot_link_ops */
/* All runs end with this; later ones too. */
void ot_exec_abort(ot_exec *e, const ot_error *why);
bool ot_exec_idle(const ot_exec *e);
/* The oldest run that is not done, and a peer that it waits for bytes from (-1: it can't be said);
 * NULL: idle. */
const ot_run *ot_exec_oldest(const ot_exec *e, int32_t *peer_out);
ot_exec_stats ot_exec_get_stats(const ot_exec *e);

#endif
