/* What the files of the mesh share: mesh.c is the whole; mesh_conn.c has the connections, which
 * mesh_connect.c begins and mesh_accept.c accepts.
 *
 * Threads: the progress thread. */
#ifndef OT_COLLECTIVE_MESH_INTERNAL_H
#define OT_COLLECTIVE_MESH_INTERNAL_H

#include "base/str.h"
#include "collective/auth.h"
#include "collective/mesh.h"

typedef enum ot_conn_state {
    CONN_CONNECTING, /* initiator */
    CONN_WAIT_REPLY,
    CONN_WAIT_HELLO, /* acceptor */
    CONN_WAIT_PROOF,
    CONN_WAIT_MEMORY,
    CONN_KEPT,   /* a link that this rank has not asked for yet */
    CONN_WANTED, /* asked for; the other side connects */
} ot_conn_state;

typedef struct ot_conn {
    struct ot_conn *next;
    ot_mesh *mesh;
    ot_conn_state state;
    ot_watch watch;
    bool is_unix;
    ot_auth auth;
    ot_auth_who who;
    int32_t peer;
    uint8_t in[OT_AUTH_HELLO];
    size_t have;
    int next_addr;       /* initiator: the address to try next */
    uint64_t started_ns; /* of the whole */
    uint64_t tried_ns;   /* of this address */
    ot_str tried;        /* what became of the addresses before */
    bool accepted;       /* one of them connected, and its rank did not answer in time */
    ot_link *link;
} ot_conn;

struct ot_mesh {
    ot_mesh_options o;
    ot_mesh_ops ops;
    ot_auth key;
    ot_watch listeners[2]; /* TCP, Unix; fd -1: none */
    ot_conn *conns;
    int n_pending; /* accepted and not proven */
    uint64_t epoch;
    const ot_member *members; /* NULL: not known yet */
    int32_t n, rank;
    pid_t *pids;       /* by rank */
    uint64_t again_ns; /* what ot_mesh_turn said */
};

/* mesh_conn.c */
/* Accepted, and not proven. */
static inline bool ot_mesh_half_open(const ot_conn *c)
{
    return c->state == CONN_WAIT_HELLO || c->state == CONN_WAIT_PROOF ||
           c->state == CONN_WAIT_MEMORY;
}
ot_conn *ot_mesh_add(ot_mesh *m, ot_conn_state st);
/* `peer` -1: any. */
ot_conn *ot_mesh_find(ot_mesh *m, ot_conn_state st, int32_t group, int32_t lane, int32_t peer);
void ot_mesh_drop(ot_conn *c);
void ot_mesh_unwatch(ot_conn *c);
/* The descriptor leaves the connection for a link. */
int ot_mesh_take_fd(ot_conn *c);
/* The connection ends as a link. */
void ot_mesh_hand_over(ot_conn *c, ot_link *l);
ot_rc ot_mesh_send_all(ot_conn *c, const void *p, size_t n, ot_error *err) OT_CHECKED;
/* 1: n bytes have come; 0: not yet; -1: the other side is gone. */
int ot_mesh_gather(ot_conn *c, size_t n);
/* Whether one that greets so is a rank of this epoch and means this one; it may be known only
 * later, when the table is here. */
bool ot_mesh_belongs(const ot_mesh *m, const ot_auth_who *w);

/* mesh_connect.c */
void ot_mesh_try_next(ot_conn *c);
void ot_mesh_try_failed(ot_conn *c, const char *what);

/* mesh_accept.c: of a listener, `arg` the mesh */
void ot_mesh_accept(void *arg, uint32_t events);

#endif
