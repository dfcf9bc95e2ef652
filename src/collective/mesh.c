#include "collective/mesh_internal.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/sock.h"
#include "collective/mesh_addrs.h"

#include <string.h>
#include <unistd.h>

#define TRY_US 3000000 /* an address has this long to answer */
#define TIMEOUT_US 30000000
#define TURN_NS 250000000u

static ot_rc listen_on(ot_mesh *m, int i, const ot_addr *a, ot_error *err)
{
    int fd;
    OT_TRY(ot_sock_listen(a, 512, &fd, err));
    m->listeners[i] = (ot_watch){.fd = fd, .ready = ot_mesh_accept, .arg = m};
    return ot_poller_add(m->o.poller, &m->listeners[i], EPOLLIN, err);
}

static ot_rc listen_all(ot_mesh *m, ot_member *self, ot_error *err)
{
    ot_addr any6 = {.host = "::"}, any4 = {.host = "0.0.0.0"}, local;
    bool v6 = listen_on(m, 0, &any6, NULL) == OT_OK;
    if (!v6) {
        OT_TRY(listen_on(m, 0, &any4, err));
    }
    self->n_addrs = 0;
    if (!m->o.no_shm) {
        ot_mesh_local_addr(&local);
        OT_TRY(listen_on(m, 1, &local, err));
        ot_mesh_add_addr(self, &local);
    }
    ot_mesh_list_addrs(self, ot_sock_port(m->listeners[0].fd), v6);
    return OT_OK;
}

ot_rc ot_mesh_create(const ot_mesh_options *o, const ot_mesh_ops *ops, ot_member *self,
                     ot_mesh **out, ot_error *err)
{
    ot_mesh *m = ot_calloc(1, sizeof *m);
    if (m == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "links: out of memory");
    }
    m->o = *o;
    m->o.timeout_us = o->timeout_us > 0 ? o->timeout_us : TIMEOUT_US;
    m->ops = *ops;
    m->listeners[0].fd = m->listeners[1].fd = -1;
    ot_auth_init(&m->key, o->key, o->key_len);
    ot_rc rc = listen_all(m, self, err);
    if (rc != OT_OK) {
        ot_mesh_destroy(m);
        return rc;
    }
    *out = m;
    return OT_OK;
}

void ot_mesh_members(ot_mesh *m, uint64_t epoch, const ot_member *members, int32_t n, int32_t rank)
{
    m->epoch = epoch;
    m->members = members;
    m->n = n;
    m->rank = rank;
    m->pids = ot_calloc((size_t)n, sizeof *m->pids); /* NULL: none is known */
    for (ot_conn *c = m->conns, *next; c != NULL; c = next) {
        next = c->next;
        if (c->state != CONN_WAIT_HELLO && !ot_mesh_belongs(m, &c->who)) {
            ot_mesh_drop(c);
        }
    }
}

pid_t ot_mesh_pid(const ot_mesh *m, int32_t rank)
{
    return m->pids != NULL ? m->pids[rank] : 0;
}

void ot_mesh_destroy(ot_mesh *m)
{
    if (m == NULL) {
        return;
    }
    while (m->conns != NULL) {
        ot_mesh_drop(m->conns);
    }
    for (int i = 0; i < 2; i++) {
        if (m->listeners[i].fd >= 0) {
            ot_poller_remove(m->o.poller, &m->listeners[i]);
            close(m->listeners[i].fd);
        }
    }
    ot_free(m->pids);
    ot_free(m);
}

void ot_mesh_want(ot_mesh *m, int32_t group, int32_t lane, int32_t peer)
{
    bool connects = m->rank < peer || lane == OT_LANE_CONTROL;
    ot_conn *kept = connects ? NULL : ot_mesh_find(m, CONN_KEPT, group, lane, peer);
    if (kept != NULL) {
        ot_mesh_hand_over(kept, kept->link);
        return;
    }
    ot_conn *c = ot_mesh_add(m, connects ? CONN_CONNECTING : CONN_WANTED);
    if (c == NULL) {
        ot_error e;
        (void)ot_fail(&e, OT_EXHAUSTED, "links: out of memory");
        m->ops.failed(m->ops.arg, -1, &e);
        return;
    }
    c->peer = peer;
    c->who = (ot_auth_who){.purpose = OT_AUTH_LINK,
                           .from = m->rank,
                           .to = peer,
                           .group = group,
                           .lane = lane,
                           .epoch = m->epoch};
    if (c->state == CONN_CONNECTING) {
        ot_mesh_try_next(c);
    }
}

void ot_mesh_made(ot_mesh *m, int32_t group)
{
    for (ot_conn *c; (c = ot_mesh_find(m, CONN_KEPT, group, OT_LANE_CONTROL, -1)) != NULL;) {
        ot_mesh_hand_over(c, c->link);
    }
}

void ot_mesh_forget(ot_mesh *m, int32_t group)
{
    for (ot_conn *c = m->conns, *next; c != NULL; c = next) {
        next = c->next;
        if (!ot_mesh_half_open(c) && c->who.group == group) {
            ot_mesh_drop(c);
        }
    }
}

/* Who wakes late accuses nobody for it: what came meanwhile has not been read. */
static void wake(ot_mesh *m, uint64_t now)
{
    uint64_t late = m->again_ns != 0 && now > m->again_ns ? now - m->again_ns : 0;
    for (ot_conn *c = m->conns; late > 0 && c != NULL; c = c->next) {
        c->started_ns = OT_MIN(c->started_ns + late, now);
        c->tried_ns = OT_MIN(c->tried_ns + late, now);
    }
}

uint64_t ot_mesh_turn(ot_mesh *m)
{
    uint64_t again = UINT64_MAX;
    wake(m, ot_clock_mono_ns());
    bool over = true;
    while (over) {
        uint64_t now = ot_clock_mono_ns(); /* behind what the turn before has begun */
        over = false;
        again = UINT64_MAX;
        for (ot_conn *c = m->conns; c != NULL && !over; c = c->next) {
            uint64_t age_us = (now - c->started_ns) / 1000, try_us = (now - c->tried_ns) / 1000;
            bool trying = c->state == CONN_CONNECTING || c->state == CONN_WAIT_REPLY;
            if (c->state == CONN_KEPT || c->state == CONN_WANTED) {
                continue;
            }
            again = now + TURN_NS;
            over = true;
            if (ot_mesh_half_open(c) && age_us > (uint64_t)m->o.timeout_us) {
                ot_mesh_drop(c);
            } else if (trying && try_us > OT_MIN(TRY_US, (uint64_t)m->o.timeout_us)) {
                c->accepted |= c->state == CONN_WAIT_REPLY;
                ot_mesh_try_failed(c, "no answer");
            } else {
                over = false;
            }
        }
    }
    m->again_ns = again;
    return again;
}
