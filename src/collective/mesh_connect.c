#include "collective/mesh_internal.h"

#include "base/clock.h"
#include "base/sock.h"
#include "collective/mesh_addrs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void ot_mesh_try_failed(ot_conn *c, const char *what)
{
    char addr[64];
    snprintf(addr, sizeof addr, "%s", c->mesh->members[c->peer].addrs[c->next_addr - 1]);
    ot_str_addf(&c->tried, "%s%s: %s", c->tried.len > 0 ? "; " : "", addr, what);
    ot_mesh_unwatch(c);
    ot_mesh_try_next(c);
}

static ot_rc initiator_link(ot_conn *c, ot_link **out, ot_error *err)
{
    ot_poller *p = c->mesh->o.poller;
    if (!c->is_unix || c->who.lane == OT_LANE_CONTROL) {
        return ot_link_stream(p, ot_mesh_take_fd(c), out, err);
    }
    int memfd;
    OT_TRY(ot_shm_make(&memfd, err));
    uint64_t until = ot_clock_mono_ns() + 1000000000u;
    ot_rc rc = ot_sock_send_msg(c->watch.fd, "memory", 6, memfd, until, err);
    if (rc != OT_OK) {
        close(memfd);
        return rc;
    }
    return ot_link_shm(p, ot_mesh_take_fd(c), memfd, true, out, err);
}

static void initiator_reply(ot_conn *c)
{
    ot_error e = {.rc = OT_OK};
    int got = ot_mesh_gather(c, OT_AUTH_REPLY);
    if (got == 0) {
        return;
    }
    if (got < 0) {
        ot_mesh_try_failed(
            c, "it closed the connection (another job's key, or it is in another epoch of "
               "this job)");
        return;
    }
    uint8_t proof[OT_AUTH_PROOF];
    ot_link *l = NULL;
    ot_rc rc = ot_auth_take_reply(&c->auth, c->in, proof, &e);
    if (rc == OT_OK) {
        rc = ot_mesh_send_all(c, proof, sizeof proof, &e);
    }
    if (rc == OT_OK) {
        rc = initiator_link(c, &l, &e);
    }
    if (rc != OT_OK) {
        ot_mesh_try_failed(c, e.msg);
        return;
    }
    ot_mesh_hand_over(c, l);
}

static void initiator_ready(void *arg, uint32_t events)
{
    ot_conn *c = arg;
    ot_error e;
    if (c->state == CONN_WAIT_REPLY) {
        initiator_reply(c);
        return;
    }
    (void)events;
    int code = ot_sock_error(c->watch.fd);
    if (code != 0) {
        ot_mesh_try_failed(c, strerror(code));
        return;
    }
    uint8_t hello[OT_AUTH_HELLO];
    ot_auth_hello(&c->auth, &c->who, hello);
    if (ot_mesh_send_all(c, hello, sizeof hello, &e) != OT_OK) {
        ot_mesh_try_failed(c, e.msg);
        return;
    }
    c->state = CONN_WAIT_REPLY;
    ot_poller_change(c->mesh->o.poller, &c->watch, EPOLLIN);
}

static void fail(ot_conn *c, ot_rc rc)
{
    ot_mesh *m = c->mesh;
    ot_error e;
    int32_t peer = c->peer;
    (void)ot_fail(&e, rc, "rank %d (host %s) can't be reached: %s", peer, m->members[peer].host,
                  c->tried.data);
    ot_mesh_drop(c);
    m->ops.failed(m->ops.arg, peer, &e);
}

/* A process that is stopped or starved answers later: who its kernel connects to is asked again. */
static bool begin_again(ot_conn *c)
{
    uint64_t age_us = (ot_clock_mono_ns() - c->started_ns) / 1000;
    if (!c->accepted || age_us > (uint64_t)c->mesh->o.timeout_us) {
        return false;
    }
    c->accepted = false;
    c->next_addr = 0;
    ot_str_clear(&c->tried);
    return true;
}

/* True: one is being tried. */
static bool start_next(ot_conn *c)
{
    ot_mesh *m = c->mesh;
    const ot_member *other = &m->members[c->peer];
    while (c->next_addr < other->n_addrs) {
        ot_addr a;
        ot_error e;
        if (ot_addr_parse(other->addrs[c->next_addr++], &a, NULL) != OT_OK ||
            !ot_mesh_can_reach(&m->members[m->rank], other, &a, m->o.no_shm)) {
            continue;
        }
        c->state = CONN_CONNECTING;
        c->is_unix = a.is_unix;
        c->have = 0;
        c->auth = m->key;
        c->tried_ns = ot_clock_mono_ns();
        int fd;
        if (ot_sock_connect_start(&a, &fd, &e) != OT_OK) {
            ot_str_addf(&c->tried, "%s%s", c->tried.len > 0 ? "; " : "", e.msg);
            continue;
        }
        c->watch = (ot_watch){.fd = fd, .ready = initiator_ready, .arg = c};
        if (ot_poller_add(m->o.poller, &c->watch, EPOLLOUT, &e) == OT_OK) {
            return true;
        }
        close(fd);
        c->watch.fd = -1;
    }
    return false;
}

void ot_mesh_try_next(ot_conn *c)
{
    while (!start_next(c)) {
        if (begin_again(c)) {
            continue;
        }
        if (c->tried.len == 0) {
            ot_str_adds(&c->tried, "it told no address that this rank can use");
        }
        fail(c, OT_UNAVAILABLE);
        return;
    }
}
