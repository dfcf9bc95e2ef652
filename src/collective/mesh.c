#include "collective/mesh.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/sock.h"
#include "base/str.h"
#include "collective/auth.h"
#include "collective/mesh_addrs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PENDING_MAX 256 /* half-open connections from outside; the oldest makes room */
#define TRY_US 3000000  /* an address has this long to answer */
#define TIMEOUT_US 30000000
#define TURN_NS 250000000u

typedef enum state {
    CONNECTING, /* initiator */
    WAIT_REPLY,
    WAIT_HELLO, /* acceptor */
    WAIT_PROOF,
    WAIT_MEMORY,
    KEPT,   /* a link that this rank has not asked for yet */
    WANTED, /* asked for; the other side connects */
} state;

typedef struct conn {
    struct conn *next;
    ot_mesh *mesh;
    state state;
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
    ot_link *link;
} conn;

struct ot_mesh {
    ot_mesh_options o;
    ot_mesh_ops ops;
    ot_auth key;
    ot_watch listeners[2]; /* TCP, Unix; fd -1: none */
    conn *conns;
    int n_pending; /* accepted and not proven */
    const ot_member *members;
    int32_t n;
    pid_t *pids; /* by rank */
};

/* --- connections -------------------------------------------------------------------------- */

static void unwatch(conn *c)
{
    if (c->watch.fd >= 0) {
        ot_poller_remove(c->mesh->o.poller, &c->watch);
        close(c->watch.fd);
        c->watch.fd = -1;
    }
}

/* The kernel says who is at the other end, in terms of this process's namespace. */
static void learn_pid(conn *c)
{
    ot_mesh *m = c->mesh;
    if (c->is_unix && m->pids != NULL && c->peer < m->n) {
        m->pids[c->peer] = ot_sock_peer_pid(c->watch.fd);
    }
}

/* The descriptor leaves the connection for a link. */
static int take_fd(conn *c)
{
    int fd = c->watch.fd;
    learn_pid(c);
    ot_poller_remove(c->mesh->o.poller, &c->watch);
    c->watch.fd = -1;
    return fd;
}

static bool half_open(const conn *c)
{
    return c->state == WAIT_HELLO || c->state == WAIT_PROOF || c->state == WAIT_MEMORY;
}

static void drop(conn *c)
{
    ot_mesh *m = c->mesh;
    for (conn **p = &m->conns; *p != NULL; p = &(*p)->next) {
        if (*p == c) {
            *p = c->next;
            break;
        }
    }
    m->n_pending -= half_open(c);
    unwatch(c);
    ot_link_destroy(c->link);
    ot_str_done(&c->tried);
    ot_free(c);
}

static conn *add(ot_mesh *m, state st)
{
    conn *c = ot_calloc(1, sizeof *c);
    if (c != NULL) {
        c->mesh = m;
        c->state = st;
        c->watch.fd = -1;
        c->auth = m->key;
        c->started_ns = c->tried_ns = ot_clock_mono_ns();
        ot_str_init(&c->tried);
        c->next = m->conns;
        m->conns = c;
        m->n_pending += half_open(c);
    }
    return c;
}

/* `peer` -1: any. */
static conn *find(ot_mesh *m, state st, int32_t group, int32_t lane, int32_t peer)
{
    for (conn *c = m->conns; c != NULL; c = c->next) {
        if (c->state == st && c->who.group == group && c->who.lane == lane &&
            (peer < 0 || c->peer == peer)) {
            return c;
        }
    }
    return NULL;
}

static void fail(conn *c, ot_rc rc)
{
    ot_mesh *m = c->mesh;
    ot_error e;
    int32_t peer = c->peer;
    (void)ot_fail(&e, rc, "rank %d (host %s) can't be reached: %s", peer, m->members[peer].host,
                  c->tried.data);
    drop(c);
    m->ops.failed(m->ops.arg, peer, &e);
}

static void hand_over(conn *c, ot_link *l)
{
    ot_mesh *m = c->mesh;
    ot_auth_who w = c->who;
    int32_t peer = c->peer;
    drop(c);
    l->peer = peer;
    m->ops.up(m->ops.arg, w.group, w.lane, peer, l, w.from == m->o.rank);
}

/* --- the initiator ------------------------------------------------------------------------ */

static void try_next(conn *c);

static void try_failed(conn *c, const char *what)
{
    char addr[64];
    snprintf(addr, sizeof addr, "%s", c->mesh->members[c->peer].addrs[c->next_addr - 1]);
    ot_str_addf(&c->tried, "%s%s: %s", c->tried.len > 0 ? "; " : "", addr, what);
    unwatch(c);
    try_next(c);
}

static ot_rc send_all(conn *c, const void *p, size_t n, ot_error *err)
{
    struct iovec v = {.iov_base = (void *)(uintptr_t)p, .iov_len = n};
    ssize_t k = ot_sock_writev(c->watch.fd, &v, 1);
    /* Less than a socket buffer, and nothing was sent before. */
    return k == (ssize_t)n ? OT_OK : ot_fail_errno(err, k < 0 ? errno : EPIPE, "handshake");
}

/* 1: n bytes have come; 0: not yet; -1: the other side is gone. */
static int gather(conn *c, size_t n)
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

static ot_rc initiator_link(conn *c, ot_link **out, ot_error *err)
{
    ot_poller *p = c->mesh->o.poller;
    if (!c->is_unix || c->who.lane == OT_LANE_CONTROL) {
        return ot_link_stream(p, take_fd(c), out, err);
    }
    int memfd;
    OT_TRY(ot_shm_make(&memfd, err));
    uint64_t until = ot_clock_mono_ns() + 1000000000u;
    ot_rc rc = ot_sock_send_msg(c->watch.fd, "memory", 6, memfd, until, err);
    if (rc != OT_OK) {
        close(memfd);
        return rc;
    }
    return ot_link_shm(p, take_fd(c), memfd, true, out, err);
}

static void initiator_reply(conn *c)
{
    ot_error e = {.rc = OT_OK};
    int got = gather(c, OT_AUTH_REPLY);
    if (got == 0) {
        return;
    }
    if (got < 0) {
        try_failed(c, "it closed the connection (another job's key, or not a rank of this job)");
        return;
    }
    uint8_t proof[OT_AUTH_PROOF];
    ot_link *l = NULL;
    ot_rc rc = ot_auth_take_reply(&c->auth, c->in, proof, &e);
    if (rc == OT_OK) {
        rc = send_all(c, proof, sizeof proof, &e);
    }
    if (rc == OT_OK) {
        rc = initiator_link(c, &l, &e);
    }
    if (rc != OT_OK) {
        try_failed(c, e.msg);
        return;
    }
    hand_over(c, l);
}

static void initiator_ready(void *arg, uint32_t events)
{
    conn *c = arg;
    ot_error e;
    if (c->state == WAIT_REPLY) {
        initiator_reply(c);
        return;
    }
    (void)events;
    int code = ot_sock_error(c->watch.fd);
    if (code != 0) {
        try_failed(c, strerror(code));
        return;
    }
    uint8_t hello[OT_AUTH_HELLO];
    ot_auth_hello(&c->auth, &c->who, hello);
    if (send_all(c, hello, sizeof hello, &e) != OT_OK) {
        try_failed(c, e.msg);
        return;
    }
    c->state = WAIT_REPLY;
    ot_poller_change(c->mesh->o.poller, &c->watch, EPOLLIN);
}

/* Whether this address of the peer is one to try. */
static bool usable(const ot_mesh *m, int32_t peer, const ot_addr *a)
{
    const ot_member *self = &m->members[m->o.rank], *other = &m->members[peer];
    bool same = !m->o.no_shm && strcmp(self->machine, other->machine) == 0;
    return a->is_unix ? same : true;
}

static void try_next(conn *c)
{
    ot_mesh *m = c->mesh;
    const ot_member *other = &m->members[c->peer];
    while (c->next_addr < other->n_addrs) {
        ot_addr a;
        ot_error e;
        const char *text = other->addrs[c->next_addr++];
        if (ot_addr_parse(text, &a, NULL) != OT_OK || !usable(m, c->peer, &a)) {
            continue;
        }
        c->state = CONNECTING;
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
            return;
        }
        close(fd);
        c->watch.fd = -1;
    }
    if (c->tried.len == 0) {
        ot_str_adds(&c->tried, "it told no address that this rank can use");
    }
    fail(c, OT_UNAVAILABLE);
}

/* --- the acceptor ------------------------------------------------------------------------- */

static void acceptor_done(conn *c, ot_link *l)
{
    ot_mesh *m = c->mesh;
    m->n_pending--;
    c->state = KEPT;
    bool control = c->who.lane == OT_LANE_CONTROL && m->ops.has(m->ops.arg, c->who.group);
    conn *wanted = find(m, WANTED, c->who.group, c->who.lane, c->peer);
    if (wanted != NULL) {
        drop(wanted);
    }
    if (wanted != NULL || control) {
        hand_over(c, l);
        return;
    }
    c->link = l;
    for (conn *k = m->conns, *next; k != NULL; k = next) {
        next = k->next;
        if (k != c && k->state == KEPT && k->who.group == c->who.group &&
            k->who.lane == c->who.lane && k->peer == c->peer) {
            drop(k); /* the other side gave it up and came again */
        }
    }
}

static void acceptor_hello(conn *c)
{
    uint8_t reply[OT_AUTH_REPLY];
    ot_mesh *m = c->mesh;
    int got = gather(c, OT_AUTH_HELLO);
    if (got == 0) {
        return;
    }
    if (got < 0 || ot_auth_take_hello(&c->auth, c->in, reply, &c->who, NULL) != OT_OK ||
        c->who.purpose != OT_AUTH_LINK || c->who.to != m->o.rank || c->who.from < 0 ||
        (m->members != NULL && c->who.from >= m->n) ||
        send_all(c, reply, sizeof reply, NULL) != OT_OK) {
        drop(c);
        return;
    }
    c->peer = c->who.from;
    c->state = WAIT_PROOF;
}

static void acceptor_memory(conn *c)
{
    char *text = NULL;
    size_t n;
    int memfd = -1;
    ot_link *l;
    uint64_t until = ot_clock_mono_ns() + 1000000000u;
    if (ot_sock_recv_msg(c->watch.fd, 16, until, &text, &n, &memfd, NULL) != OT_OK) {
        drop(c);
        return;
    }
    ot_free(text);
    if (memfd < 0 || ot_link_shm(c->mesh->o.poller, take_fd(c), memfd, false, &l, NULL) != OT_OK) {
        drop(c);
        return;
    }
    acceptor_done(c, l);
}

static void acceptor_ready(void *arg, uint32_t events)
{
    conn *c = arg;
    (void)events;
    if (c->state == WAIT_HELLO) {
        acceptor_hello(c);
    } else if (c->state == WAIT_MEMORY) {
        acceptor_memory(c);
    } else {
        ot_link *l;
        int got = gather(c, OT_AUTH_PROOF);
        if (got == 0) {
            return;
        }
        if (got < 0 || ot_auth_take_proof(&c->auth, c->in, NULL) != OT_OK) {
            drop(c);
        } else if (c->is_unix && c->who.lane != OT_LANE_CONTROL) {
            c->state = WAIT_MEMORY;
        } else if (ot_link_stream(c->mesh->o.poller, take_fd(c), &l, NULL) == OT_OK) {
            acceptor_done(c, l);
        } else {
            drop(c);
        }
    }
}

static void drop_oldest(ot_mesh *m)
{
    conn *oldest = NULL;
    for (conn *c = m->conns; c != NULL; c = c->next) {
        if (half_open(c) && (oldest == NULL || c->started_ns <= oldest->started_ns)) {
            oldest = c;
        }
    }
    if (oldest != NULL) {
        drop(oldest);
    }
}

static void on_listener(void *arg, uint32_t events)
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
            conn *c = add(m, WAIT_HELLO);
            if (c == NULL) {
                close(fd);
                continue;
            }
            c->is_unix = i == 1;
            c->watch = (ot_watch){.fd = fd, .ready = acceptor_ready, .arg = c};
            if (ot_poller_add(m->o.poller, &c->watch, EPOLLIN, NULL) != OT_OK) {
                close(fd);
                c->watch.fd = -1;
                drop(c);
            }
        }
    }
}

/* --- the whole ---------------------------------------------------------------------------- */

static ot_rc listen_on(ot_mesh *m, int i, const ot_addr *a, ot_error *err)
{
    int fd;
    OT_TRY(ot_sock_listen(a, 512, &fd, err));
    m->listeners[i] = (ot_watch){.fd = fd, .ready = on_listener, .arg = m};
    return ot_poller_add(m->o.poller, &m->listeners[i], EPOLLIN, err);
}

static ot_rc listen_all(ot_mesh *m, ot_member *self, ot_error *err)
{
    ot_addr any6 = {.host = "::"}, any4 = {.host = "0.0.0.0"}, local = {.is_unix = true};
    bool v6 = listen_on(m, 0, &any6, NULL) == OT_OK;
    if (!v6) {
        OT_TRY(listen_on(m, 0, &any4, err));
    }
    self->n_addrs = 0;
    if (!m->o.no_shm) {
        uint8_t name[12];
        char hex[2 * sizeof name + 1];
        ot_random_bytes(name, sizeof name);
        ot_hex(name, sizeof name, hex);
        snprintf(local.host, sizeof local.host, "@overtake-%s", hex);
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

void ot_mesh_members(ot_mesh *m, const ot_member *members, int32_t n)
{
    m->members = members;
    m->n = n;
    m->pids = ot_calloc((size_t)n, sizeof *m->pids); /* NULL: none is known */
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
        drop(m->conns);
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
    bool connects = m->o.rank < peer || lane == OT_LANE_CONTROL;
    conn *kept = connects ? NULL : find(m, KEPT, group, lane, peer);
    if (kept != NULL) {
        ot_link *l = kept->link;
        kept->link = NULL;
        hand_over(kept, l);
        return;
    }
    conn *c = add(m, connects ? CONNECTING : WANTED);
    if (c == NULL) {
        ot_error e;
        (void)ot_fail(&e, OT_EXHAUSTED, "links: out of memory");
        m->ops.failed(m->ops.arg, -1, &e);
        return;
    }
    c->peer = peer;
    c->who = (ot_auth_who){
        .purpose = OT_AUTH_LINK, .from = m->o.rank, .to = peer, .group = group, .lane = lane};
    if (c->state == CONNECTING) {
        try_next(c);
    }
}

void ot_mesh_made(ot_mesh *m, int32_t group)
{
    for (conn *c; (c = find(m, KEPT, group, OT_LANE_CONTROL, -1)) != NULL;) {
        ot_link *l = c->link;
        c->link = NULL;
        hand_over(c, l);
    }
}

void ot_mesh_forget(ot_mesh *m, int32_t group)
{
    for (conn *c = m->conns, *next; c != NULL; c = next) {
        next = c->next;
        if (!half_open(c) && c->who.group == group) {
            drop(c);
        }
    }
}

uint64_t ot_mesh_turn(ot_mesh *m)
{
    uint64_t now = ot_clock_mono_ns(), again = UINT64_MAX;
    bool over = true;
    while (over) {
        over = false;
        again = UINT64_MAX;
        for (conn *c = m->conns; c != NULL && !over; c = c->next) {
            uint64_t age_us = (now - c->started_ns) / 1000, try_us = (now - c->tried_ns) / 1000;
            bool trying = c->state == CONNECTING || c->state == WAIT_REPLY;
            if (c->state == KEPT || c->state == WANTED) {
                continue;
            }
            again = now + TURN_NS;
            over = true;
            if (half_open(c) && age_us > (uint64_t)m->o.timeout_us) {
                drop(c);
            } else if (trying && try_us > OT_MIN(TRY_US, (uint64_t)m->o.timeout_us)) {
                try_failed(c, "no answer");
            } else {
                over = false;
            }
        }
    }
    return again;
}
