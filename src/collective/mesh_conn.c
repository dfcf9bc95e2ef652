#include "collective/mesh_internal.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/sock.h"

#include <errno.h>
#include <unistd.h>

void ot_mesh_unwatch(ot_conn *c)
{
    if (c->watch.fd >= 0) {
        ot_poller_remove(c->mesh->o.poller, &c->watch);
        close(c->watch.fd);
        c->watch.fd = -1;
    }
}

/* The kernel says who is at the other end, in terms of this process's namespace. */
static void learn_pid(ot_conn *c)
{
    ot_mesh *m = c->mesh;
    if (c->is_unix && m->pids != NULL && c->peer < m->n) {
        m->pids[c->peer] = ot_sock_peer_pid(c->watch.fd);
    }
}

int ot_mesh_take_fd(ot_conn *c)
{
    int fd = c->watch.fd;
    learn_pid(c);
    ot_poller_remove(c->mesh->o.poller, &c->watch);
    c->watch.fd = -1;
    return fd;
}

void ot_mesh_drop(ot_conn *c)
{
    ot_mesh *m = c->mesh;
    for (ot_conn **p = &m->conns; *p != NULL; p = &(*p)->next) {
        if (*p == c) {
            *p = c->next;
            break;
        }
    }
    m->n_pending -= ot_mesh_half_open(c);
    ot_mesh_unwatch(c);
    ot_link_destroy(c->link);
    ot_str_done(&c->tried);
    ot_free(c);
}

ot_conn *ot_mesh_add(ot_mesh *m, ot_conn_state st)
{
    ot_conn *c = ot_calloc(1, sizeof *c);
    if (c != NULL) {
        c->mesh = m;
        c->state = st;
        c->watch.fd = -1;
        c->auth = m->key;
        c->started_ns = c->tried_ns = ot_clock_mono_ns();
        ot_str_init(&c->tried);
        c->next = m->conns;
        m->conns = c;
        m->n_pending += ot_mesh_half_open(c);
    }
    return c;
}

ot_conn *ot_mesh_find(ot_mesh *m, ot_conn_state st, int32_t group, int32_t lane, int32_t peer)
{
    for (ot_conn *c = m->conns; c != NULL; c = c->next) {
        if (c->state == st && c->who.group == group && c->who.lane == lane &&
            (peer < 0 || c->peer == peer)) {
            return c;
        }
    }
    return NULL;
}

void ot_mesh_hand_over(ot_conn *c, ot_link *l)
{
    ot_mesh *m = c->mesh;
    ot_auth_who w = c->who;
    int32_t peer = c->peer;
    c->link = NULL; /* it may be this one */
    ot_mesh_drop(c);
    l->peer = peer;
    m->ops.up(m->ops.arg, w.group, w.lane, peer, l, w.from == m->rank);
}

ot_rc ot_mesh_send_all(ot_conn *c, const void *p, size_t n, ot_error *err)
{
    struct iovec v = {.iov_base = (void *)(uintptr_t)p, .iov_len = n};
    ssize_t k = ot_sock_writev(c->watch.fd, &v, 1);
    /* Less than a socket buffer, and nothing was sent before. */
    return k == (ssize_t)n ? OT_OK : ot_fail_errno(err, k < 0 ? errno : EPIPE, "handshake");
}

int ot_mesh_gather(ot_conn *c, size_t n)
{
    ssize_t k = ot_sock_read(c->watch.fd, c->in + c->have, n - c->have);
    if (k < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        return 0;
    }
    if (k <= 0) {
        return -1;
    }
    c->have += (size_t)k;
    if (c->have < n) {
        return 0;
    }
    c->have = 0;
    return 1;
}

bool ot_mesh_belongs(const ot_mesh *m, const ot_auth_who *w)
{
    return w->purpose == OT_AUTH_LINK && w->from >= 0 &&
           (m->members == NULL || (w->to == m->rank && w->from < m->n && w->epoch == m->epoch));
}
