#include "collective/mesh_internal.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/sock.h"

#include <unistd.h>

#define PENDING_MAX 256 /* half-open connections from outside; the oldest makes room */

static void acceptor_done(ot_conn *c, ot_link *l)
{
    ot_mesh *m = c->mesh;
    m->n_pending--;
    c->state = CONN_KEPT;
    bool control = c->who.lane == OT_LANE_CONTROL && m->ops.has(m->ops.arg, c->who.group);
    ot_conn *wanted = ot_mesh_find(m, CONN_WANTED, c->who.group, c->who.lane, c->peer);
    if (wanted != NULL) {
        ot_mesh_drop(wanted);
    }
    if (wanted != NULL || control) {
        ot_mesh_hand_over(c, l);
        return;
    }
    c->link = l;
    for (ot_conn *k = m->conns, *next; k != NULL; k = next) {
        next = k->next;
        if (k != c && k->state == CONN_KEPT && k->who.group == c->who.group &&
            k->who.lane == c->who.lane && k->peer == c->peer) {
            ot_mesh_drop(k); /* the other side gave it up and came again */
        }
    }
}

static void acceptor_hello(ot_conn *c)
{
    uint8_t reply[OT_AUTH_REPLY];
    ot_mesh *m = c->mesh;
    int got = ot_mesh_gather(c, OT_AUTH_HELLO);
    if (got == 0) {
        return;
    }
    if (got < 0 || ot_auth_take_hello(&c->auth, c->in, reply, &c->who, NULL) != OT_OK ||
        !ot_mesh_belongs(m, &c->who) || ot_mesh_send_all(c, reply, sizeof reply, NULL) != OT_OK) {
        ot_mesh_drop(c);
        return;
    }
    c->peer = c->who.from;
    c->state = CONN_WAIT_PROOF;
}

static void acceptor_memory(ot_conn *c)
{
    char *text = NULL;
    size_t n;
    int memfd = -1;
    ot_link *l;
    uint64_t until = ot_clock_mono_ns() + 1000000000u;
    if (ot_sock_recv_msg(c->watch.fd, 16, until, &text, &n, &memfd, NULL) != OT_OK) {
        ot_mesh_drop(c);
        return;
    }
    ot_free(text);
    if (memfd < 0 ||
        ot_link_shm(c->mesh->o.poller, ot_mesh_take_fd(c), memfd, false, &l, NULL) != OT_OK) {
        ot_mesh_drop(c);
        return;
    }
    acceptor_done(c, l);
}

static void acceptor_ready(void *arg, uint32_t events)
{
    ot_conn *c = arg;
    (void)events;
    if (c->state == CONN_WAIT_HELLO) {
        acceptor_hello(c);
    } else if (c->state == CONN_WAIT_MEMORY) {
        acceptor_memory(c);
    } else {
        ot_link *l;
        int got = ot_mesh_gather(c, OT_AUTH_PROOF);
        if (got == 0) {
            return;
        }
        if (got < 0 || ot_auth_take_proof(&c->auth, c->in, NULL) != OT_OK) {
            ot_mesh_drop(c);
        } else if (c->is_unix && c->who.lane != OT_LANE_CONTROL) {
            c->state = CONN_WAIT_MEMORY;
        } else if (ot_link_stream(c->mesh->o.poller, ot_mesh_take_fd(c), &l, NULL) == OT_OK) {
            acceptor_done(c, l);
        } else {
            ot_mesh_drop(c);
        }
    }
}

static void drop_oldest(ot_mesh *m)
{
    ot_conn *oldest = NULL;
    for (ot_conn *c = m->conns; c != NULL; c = c->next) {
        if (ot_mesh_half_open(c) && (oldest == NULL || c->started_ns <= oldest->started_ns)) {
            oldest = c;
        }
    }
    if (oldest != NULL) {
        ot_mesh_drop(oldest);
    }
}

void ot_mesh_accept(void *arg, uint32_t events)
{
    ot_mesh *m = arg;
    (void)events;
    for (int i = 0; i < 2; i++) {
        for (int fd; m->listeners[i].fd >= 0 && (fd = ot_sock_accept(m->listeners[i].fd)) >= 0;) {
            uid_t uid;
            if (i == 1 && (!ot_sock_peer_uid(fd, &uid) || uid != geteuid())) {
                close(fd);
                continue;
            }
            if (m->n_pending >= PENDING_MAX) {
                drop_oldest(m);
            }
            ot_conn *c = ot_mesh_add(m, CONN_WAIT_HELLO);
            if (c == NULL) {
                close(fd);
                continue;
            }
            c->is_unix = i == 1;
            c->watch = (ot_watch){.fd = fd, .ready = acceptor_ready, .arg = c};
            if (ot_poller_add(m->o.poller, &c->watch, EPOLLIN, NULL) != OT_OK) {
                close(fd);
                c->watch.fd = -1;
                ot_mesh_drop(c);
            }
        }
    }
}
