/* A group of ranks: its plan, its lanes, its control messages, and which request is where.
 *
 * Requests with a name go through the plan; those without run in the order of asking, on a lane of
 * their own.
 *
 * Threads: the progress thread. Lifetime: create/destroy. Ranks in the callbacks are the world's.
 */
#ifndef OT_COLLECTIVE_GROUP_H
#define OT_COLLECTIVE_GROUP_H

#include "collective/bucket.h"
#include "collective/control.h"

typedef struct ot_group ot_group;

typedef struct ot_group_ops {
    void (*want)(void *arg, int32_t group, int32_t lane, int32_t peer);
    /* `certain`: what it sent is wrong; else the link is, and it is to be found out why. */
    void (*broken)(void *arg, int32_t peer, const char *tensor, const ot_error *why, bool certain);
    void (*ticket_done)(void *arg, ot_ticket *k, const ot_error *why, int32_t culprit);
    ot_ticket *(*find)(void *arg, uint64_t ticket);
    void (*failed)(void *arg, const ot_error *why); /* nothing more can run here */
    void *arg;
} ot_group_ops;

typedef struct ot_group_options {
    int32_t id;
    const int32_t *ranks;       /* of the world, ascending */
    int32_t n, me;              /* me: the world's number of this rank, which is among them */
    const int32_t *world_hosts; /* a number a host, by rank of the world */
    const char *const *world_host_names; /* outlive the group, as the model does */
    const ot_cost_model *cost;
    ot_loss loss;
    size_t lowrank;
    ot_residuals *residuals; /* outlive the group; NULL: its own */
    ot_trace *trace;         /* may be NULL; outlives the group */
    ot_carrier *carrier;     /* the same; of the group of all ranks */
    bool no_learn;           /* every step is negotiated */
} ot_group_options;

#define OT_GROUP_LANES (2 * OT_LANES + 1)

ot_rc ot_group_create(const ot_group_options *o, const ot_group_ops *ops, ot_group **out,
                      ot_error *err) OT_CHECKED;
void ot_group_destroy(ot_group *g);
int32_t ot_group_id(const ot_group *g);
/* `more`: the next ticket was asked for in the same call; without names they share buckets, too. */
void ot_group_submit(ot_group *g, ot_ticket *k, bool more);
void ot_group_waiting(ot_group *g, uint64_t ticket);
void ot_group_link(ot_group *g, int32_t lane, int32_t peer, ot_link *l, bool asked);
bool ot_group_turn(ot_group *g, uint64_t budget); /* true: there is more to do now */
void ot_group_look(ot_group *g, uint64_t now_ns); /* at its links: ot_link_ops */
void ot_group_abort(ot_group *g, const ot_error *why);
bool ot_group_idle(const ot_group *g);
bool ot_group_has(const ot_group *g, int32_t rank);
/* For the message of a time-out: who is waited for, as far as it is known; `rank_out` -1: no one.
 */
void ot_group_stall(ot_group *g, const ot_ticket *k, char *text, size_t size, int32_t *rank_out);
/* The rank that the oldest operation waits for bytes from, and its name; -1: none. */
int32_t ot_group_waits_for(const ot_group *g, const char **name_out);
ot_exec_stats ot_group_stats(const ot_group *g);

#endif
