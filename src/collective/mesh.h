/* Makes links between ranks: listens, connects, proves the key, and hands over what is up.
 *
 * A link is made when a rank first wants it: the lower rank of the two connects, through shared
 * memory where both can share it, else to the addresses of the other, one after the other. What
 * has connected before this rank wants it is kept. Links are told apart by (group, lane, peer).
 * For messages of control each side connects for what it has to say.
 *
 * Threads: the progress thread. Lifetime: create/destroy. */
#ifndef OT_COLLECTIVE_MESH_H
#define OT_COLLECTIVE_MESH_H

#include "collective/links.h"
#include "collective/meet.h"
#include "collective/plan.h"

/* Beside those of operations (ot_lane): messages of the plan; always a socket. */
#define OT_LANE_CONTROL OT_LANES /* the second parts of operations have lanes behind it */

typedef struct ot_mesh ot_mesh;

typedef struct ot_mesh_options {
    ot_poller *poller;
    const void *key;
    size_t key_len;
    int64_t timeout_us; /* for one link to be made; 0: 30 s */
    bool no_shm;
} ot_mesh_options;

typedef struct ot_mesh_ops {
    /* The link is the callee's. `asked`: this rank has connected. */
    void (*up)(void *arg, int32_t group, int32_t lane, int32_t peer, ot_link *l, bool asked);
    void (*failed)(void *arg, int32_t peer, const ot_error *why);
    bool (*has)(void *arg, int32_t group); /* this rank has made this group */
    void *arg;
} ot_mesh_ops;

/* Listens, and writes where into self->addrs. */
ot_rc ot_mesh_create(const ot_mesh_options *o, const ot_mesh_ops *ops, ot_member *self,
                     ot_mesh **out, ot_error *err) OT_CHECKED;
/* The members, n of them, by rank, and this one's; they outlive the mesh. What comes from a rank of
 * another epoch is turned away. */
void ot_mesh_members(ot_mesh *m, uint64_t epoch, const ot_member *members, int32_t n, int32_t rank);
void ot_mesh_destroy(ot_mesh *m);
/* The process of a rank that this one shares a machine and a link with; 0: not known. */
pid_t ot_mesh_pid(const ot_mesh *m, int32_t rank);
void ot_mesh_want(ot_mesh *m, int32_t group, int32_t lane, int32_t peer);
/* This rank has made the group: links for its messages of control that came before are handed
 * over, as those that come later are. */
void ot_mesh_made(ot_mesh *m, int32_t group);
/* The group is no more: what was kept for it or is being made is closed. */
void ot_mesh_forget(ot_mesh *m, int32_t group);
/* Ends what took too long; returns when to be called again, mono ns, UINT64_MAX: no need. */
uint64_t ot_mesh_turn(ot_mesh *m);

#endif
