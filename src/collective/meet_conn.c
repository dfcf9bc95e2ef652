/* Connections of the meeting point: accepted, proved, read, written, closed. */
#include "base/clock.h"
#include "base/disk.h"
#include "base/mem.h"
#include "collective/meet_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define PENDING_MAX 256u /* connections that have not proved the key yet */
#define HANDSHAKE_NS 10000000000u
#define KEEPALIVE_S 8
#define OUT_MAX (1u << 20) /* bytes that a rank does not read before it is given up */

void meet_say_refused(ot_meet_server *s, const char *fmt, ...)
{
    char text[640];
    s->refused++;
    if (s->ops.refused == NULL || s->refused > MEET_REFUSED_SAID) {
        return;
    }
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    s->refused_said = s->refused;
    s->ops.refused(s->ops.arg, text);
}

bool meet_pending(const meet_conn *c)
{
    return c->phase == MEET_HELLO || c->phase == MEET_PROOF;
}

void meet_drop(ot_meet_server *s, meet_conn *c)
{
    if (c->dead) {
        return;
    }
    c->dead = true;
    s->n_pending -= meet_pending(c);
    (void)epoll_ctl(s->epoll, EPOLL_CTL_DEL, c->fd, NULL);
    ot_fd_close(&c->fd);
    *c->link = c->next;
    if (c->next != NULL) {
        c->next->link = c->link;
    }
    c->next = s->buried;
    s->buried = c;
    if (c->phase == MEET_ASKS) {
        meet_asker_gone(s, c);
    }
    if (c->rank < 0 || s->slots[c->rank].c != c) {
        return;
    }
    meet_slot *sl = &s->slots[c->rank];
    sl->c = NULL;
    if (!s->all_here) {
        sl->here = false;
        s->n_here--;
    }
    if (!sl->left && !sl->told && !sl->moved) {
        sl->lost_at_ns = ot_clock_mono_ns() + s->grace_ns;
    }
}

void meet_bury(ot_meet_server *s)
{
    while (s->buried != NULL) {
        meet_conn *c = s->buried;
        s->buried = c->next;
        ot_str_done(&c->out);
        ot_free(c);
    }
}

/* -1: broken; else whether all has gone. */
static int write_some(meet_conn *c, const ot_str *from, size_t *at)
{
    while (*at < from->len) {
        struct iovec v = {.iov_base = from->data + *at, .iov_len = from->len - *at};
        ssize_t k = ot_sock_writev(c->fd, &v, 1);
        if (k < 0) {
            return errno == EAGAIN ? 0 : -1;
        }
        *at += (size_t)k;
    }
    return 1;
}

void meet_flush(ot_meet_server *s, meet_conn *c)
{
    if (c->dead) {
        return;
    }
    int done = 1;
    if (c->table_due) {
        done = write_some(c, &s->table, &c->table_at);
        c->table_due = done != 1;
    }
    if (done == 1 && (done = write_some(c, &c->out, &c->out_at)) == 1) {
        ot_str_clear(&c->out);
        c->out_at = 0;
    }
    if (done < 0 || c->out.failed || c->out.len - c->out_at > OUT_MAX + s->table.len ||
        (done == 1 && c->phase == MEET_CLOSING)) {
        if (done == 1) {
            ot_sock_shutdown_write(c->fd);
        }
        meet_drop(s, c);
        return;
    }
    if (c->wants_out != (done == 0)) {
        c->wants_out = done == 0;
        struct epoll_event e = {.events = EPOLLIN | (c->wants_out ? (unsigned)EPOLLOUT : 0),
                                .data.ptr = c};
        (void)epoll_ctl(s->epoll, EPOLL_CTL_MOD, c->fd, &e);
    }
}

void meet_set_phase(ot_meet_server *s, meet_conn *c, meet_phase phase, uint64_t until_ns)
{
    if (c->phase == MEET_ASKS) {
        meet_asker_gone(s, c);
    }
    s->n_pending -= meet_pending(c);
    c->phase = phase;
    s->n_pending += meet_pending(c);
    c->until_ns = until_ns;
}

void meet_refuse(ot_meet_server *s, meet_conn *c, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    meet_say_refused(s, "%s: turned away: %s", c->peer, text);
    ot_meet_put_text(&c->out, OT_MEET_REFUSED, text);
    meet_set_phase(s, c, MEET_CLOSING, ot_clock_mono_ns() + MEET_CLOSING_NS);
    meet_flush(s, c);
}

static bool take_frame(ot_meet_server *s, meet_conn *c, const ot_meet_frame *f)
{
    ot_error err = {0};
    ot_event e;
    ot_pulse p;
    ot_meet_time t;
    bool last;
    const char *text;
    size_t n;
    if (c->phase == MEET_MEMBER && f->type == OT_MEET_MEMBER) {
        return meet_take_member(s, c, f);
    }
    if (c->phase == MEET_IN && f->type == OT_MEET_EVENT &&
        ot_meet_get_event(f, &e, &err) == OT_OK) {
        meet_take_event(s, c, &e);
    } else if (c->phase == MEET_IN && f->type == OT_MEET_PULSE &&
               ot_meet_get_pulse(f, &p, &err) == OT_OK) {
        if (s->ops.pulse != NULL) {
            s->ops.pulse(s->ops.arg, c->rank, &p);
        }
    } else if (c->phase == MEET_IN && f->type == OT_MEET_CLOCK &&
               ot_meet_get_clock(f, &t, &err) == OT_OK) {
        t.answered_ns = ot_clock_mono_ns();
        t.kernel = meet_kernel();
        ot_meet_put_clock(&c->out, &t);
        meet_flush(s, c);
    } else if (c->phase == MEET_IN && f->type == OT_MEET_TIMELINE &&
               ot_meet_get_timeline(f, &last, &text, &n, &err) == OT_OK) {
        if (s->ops.timeline != NULL) {
            s->ops.timeline(s->ops.arg, c->rank, last, text, n);
        }
    } else if (c->phase == MEET_ASKS && f->type == OT_MEET_TRIED) {
        meet_cut_take(s, c, f);
    } else if (c->phase != MEET_CLOSING) {
        meet_refuse(s, c, "%s", err.msg[0] != 0 ? err.msg : "a message out of turn");
    }
    return true;
}

void meet_take_frames(ot_meet_server *s, meet_conn *c)
{
    size_t at = 0;
    ot_meet_frame f;
    ot_error err = {0};
    while (!c->dead && c->phase != MEET_CLOSING) {
        if (ot_meet_take(c->in + at, c->in_n - at, OT_MEET_UP_MAX, &f, &err) != OT_OK) {
            meet_refuse(s, c, "%s", err.msg);
            return;
        }
        if (f.whole == 0 || !take_frame(s, c, &f)) {
            break;
        }
        at += f.whole;
    }
    c->in_n -= OT_MIN(at, c->in_n);
    memmove(c->in, c->in + at, c->in_n);
}

static void take_hello(ot_meet_server *s, meet_conn *c)
{
    uint8_t reply[OT_AUTH_REPLY];
    ot_error err = {0};
    c->auth = s->auth;
    ot_rc rc = ot_auth_take_hello(&c->auth, c->in, reply, &c->who, &err);
    if (rc == OT_OK && c->who.purpose != OT_AUTH_MEMBER) {
        rc = ot_fail(&err, OT_INVALID, "a connection for another purpose than joining");
    }
    if (rc != OT_OK) {
        meet_say_refused(s, "%s: turned away: %s", c->peer, err.msg);
    }
    if (rc != OT_OK && rc != OT_UNIMPLEMENTED) {
        meet_drop(s, c);
        return;
    }
    ot_str_add(&c->out, reply, sizeof reply);
    if (rc == OT_OK) {
        meet_set_phase(s, c, MEET_PROOF, c->until_ns);
    } else {
        meet_set_phase(s, c, MEET_CLOSING, ot_clock_mono_ns() + MEET_CLOSING_NS);
    }
    c->in_n = 0;
    meet_flush(s, c);
}

static void take_proof(ot_meet_server *s, meet_conn *c)
{
    ot_error err = {0};
    if (ot_auth_take_proof(&c->auth, c->in, &err) != OT_OK) {
        meet_say_refused(s, "%s: turned away: rank %" PRId32 ": %s", c->peer, c->who.from, err.msg);
        meet_drop(s, c);
        return;
    }
    c->in_n = 0;
    meet_set_phase(s, c, MEET_MEMBER, 0);
}

static void ended(ot_meet_server *s, meet_conn *c)
{
    if (c->phase == MEET_HELLO) {
        meet_say_refused(s, "%s: closed before it said who it is (a port scan?)", c->peer);
    } else if (c->phase == MEET_PROOF) {
        meet_say_refused(s, "%s: rank %" PRId32 " of another job: its key is not this job's",
                         c->peer, c->who.from);
    }
    meet_drop(s, c);
}

/* Nothing beyond the proof is read before it holds. */
static size_t wanted(const meet_conn *c)
{
    return c->phase == MEET_HELLO   ? OT_AUTH_HELLO
           : c->phase == MEET_PROOF ? OT_AUTH_PROOF
                                    : sizeof c->in;
}

void meet_readable(ot_meet_server *s, meet_conn *c)
{
    for (int turn = 0; turn < 8 && !c->dead; turn++) {
        uint8_t thrown[512];
        size_t room = wanted(c) - OT_MIN(wanted(c), c->in_n);
        bool closing = c->phase == MEET_CLOSING;
        if (room == 0) {
            return; /* a member that waits for the next round has more to say than it may */
        }
        ssize_t k = closing ? ot_sock_read(c->fd, thrown, sizeof thrown)
                            : ot_sock_read(c->fd, c->in + c->in_n, room);
        if (k < 0 && errno == EAGAIN) {
            return;
        }
        if (k <= 0) {
            ended(s, c);
            return;
        }
        c->in_n += closing ? 0 : (size_t)k;
        if (c->phase == MEET_HELLO && c->in_n == OT_AUTH_HELLO) {
            take_hello(s, c);
        } else if (c->phase == MEET_PROOF && c->in_n == OT_AUTH_PROOF) {
            take_proof(s, c);
        } else if (c->phase == MEET_MEMBER || c->phase == MEET_ASKS || c->phase == MEET_IN) {
            meet_take_frames(s, c);
        }
    }
}

static void make_room(ot_meet_server *s)
{
    meet_conn *oldest = NULL;
    for (meet_conn *c = s->conns; c != NULL && s->n_pending >= PENDING_MAX; c = c->next) {
        oldest = meet_pending(c) ? c : oldest;
    }
    if (oldest != NULL) {
        meet_say_refused(s, "%s: turned away: %u connections have not proved the key yet",
                         oldest->peer, PENDING_MAX);
        meet_drop(s, oldest);
    }
}

void meet_accept_all(ot_meet_server *s)
{
    int fd;
    while ((fd = ot_sock_accept(s->listener)) >= 0) {
        make_room(s);
        meet_conn *c = ot_calloc(1, sizeof *c);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        if (c == NULL || epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &e) != 0) {
            close(fd);
            ot_free(c);
            return;
        }
        ot_str_init(&c->out);
        c->fd = fd;
        c->rank = c->slot = -1;
        c->until_ns = ot_clock_mono_ns() + HANDSHAKE_NS;
        ot_sock_keepalive(fd, KEEPALIVE_S);
        ot_sock_peer(fd, c->peer);
        c->next = s->conns;
        c->link = &s->conns;
        if (c->next != NULL) {
            c->next->link = &c->next;
        }
        s->conns = c;
        s->n_pending++;
    }
    if (errno != EAGAIN) { /* no descriptors: look again at the next tick */
        s->accepting = false;
        (void)epoll_ctl(s->epoll, EPOLL_CTL_DEL, s->listener, NULL);
    }
}
