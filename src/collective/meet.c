/* A rank's side of the meeting point. */
#include "base/clock.h"
#include "base/disk.h"
#include "base/log.h"
#include "base/mem.h"
#include "collective/auth.h"
#include "collective/meet_clock.h"
#include "collective/meet_try.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#define CONNECT_US 5000000
#define HANDSHAKE_US 10000000
#define KEEPALIVE_S 8
#define PAUSE_FIRST_US 50000u
#define PAUSE_MAX_US 1000000u
#define SAY_NS 30000000000u
#define OUT_MAX (256u << 10)
#define LEAVE_MS 1000
#define SEND_MS 10000
#define PIECE (OT_MEET_UP_MAX - 1) /* of a timeline */
#define PIECES 64                  /* at once */

struct ot_meet {
    meet_clock clock;
    int fd;
    char server[300];      /* the one that answered */
    const ot_member *self; /* while it joins */
    ot_member *members;
    int32_t n, rank, waiting, leaving;
    uint64_t epoch;
    bool queued, over; /* to be admitted: no limit; there is no next epoch */
    char *settings;
    ot_str in, out;
    size_t in_at, out_at;
    bool gone;
};

static ot_rc read_exact(int fd, void *p, size_t n, ot_error *err)
{
    for (size_t got = 0; got < n;) {
        ssize_t k = ot_sock_read(fd, (char *)p + got, n - got);
        if (k == 0) {
            return ot_fail(err, OT_UNAVAILABLE, "it closed the connection");
        }
        if (k < 0) {
            return ot_fail(err, OT_UNAVAILABLE, "it does not answer (%s)", strerror(errno));
        }
        got += (size_t)k;
    }
    return OT_OK;
}

static ot_rc shake_hands(int fd, const ot_meet_options *o, ot_error *err)
{
    ot_auth a;
    uint8_t hello[OT_AUTH_HELLO], reply[OT_AUTH_REPLY], proof[OT_AUTH_PROOF];
    ot_auth_who who = {
        .purpose = OT_AUTH_MEMBER, .from = o->self.rank, .to = -1, .group = -1, .lane = -1};
    ot_auth_init(&a, o->key, o->key_len);
    OT_TRY(ot_sock_set_timeout(fd, HANDSHAKE_US, err));
    ot_auth_hello(&a, &who, hello);
    OT_TRY(ot_sock_write_all(fd, hello, sizeof hello, err));
    OT_TRY(read_exact(fd, reply, sizeof reply, err));
    OT_TRY(ot_auth_take_reply(&a, reply, proof, err));
    return ot_sock_write_all(fd, proof, sizeof proof, err);
}

/* Bytes read; 0: nothing now; -1: closed or broken. */
static ssize_t fill(ot_meet *m)
{
    if (m->in_at == m->in.len) {
        ot_str_clear(&m->in);
        m->in_at = 0;
    }
    if (!ot_str_reserve(&m->in, 65536)) {
        return -1;
    }
    ssize_t k = ot_sock_read(m->fd, m->in.data + m->in.len, 65536);
    if (k > 0) {
        m->in.len += (size_t)k;
        return k;
    }
    return k < 0 && errno == EAGAIN ? 0 : -1;
}

static ot_rc take(ot_meet *m, ot_meet_frame *f, ot_error *err)
{
    union {
        const char *c;
        const uint8_t *u;
    } at = {.c = m->in.data + m->in_at};
    OT_TRY(ot_meet_take(at.u, m->in.len - m->in_at, OT_MEET_DOWN_MAX, f, err));
    m->in_at += f->whole;
    return OT_OK;
}

static void flush(ot_meet *m)
{
    while (!m->gone && m->out_at < m->out.len) {
        struct iovec v = {.iov_base = m->out.data + m->out_at, .iov_len = m->out.len - m->out_at};
        ssize_t k = ot_sock_writev(m->fd, &v, 1);
        if (k < 0) {
            m->gone |= errno != EAGAIN;
            return;
        }
        m->out_at += (size_t)k;
    }
    ot_str_clear(&m->out);
    m->out_at = 0;
}

/* The meeting point wants to know whom this host can reach. */
static ot_rc try_links(ot_meet *m, const ot_meet_frame *f, ot_error *err)
{
    uint8_t missed[OT_MEET_RANKS_MAX / 8];
    char why[256];
    uint64_t number;
    OT_AUTO(ot_free_ptr) ot_member *hosts = NULL;
    OT_AUTO(ot_free_ptr) char *settings = NULL;
    int32_t n;
    OT_TRY(ot_meet_get_table(f, &number, &hosts, &n, &settings, err));
    ot_meet_try(m->self, hosts, n, missed, why);
    ot_meet_put_tried(&m->out, number, why, missed, (size_t)(n + 7) / 8);
    flush(m);
    return OT_OK;
}

/* One message while the table is waited for: true when waiting is over, with or without it. */
static bool take_waiting(ot_meet *m, const ot_meet_frame *f, char *waits, size_t size, ot_rc *rc,
                         ot_error *err)
{
    char text[1024];
    ot_event e;
    switch (f->type) {
    case OT_MEET_TABLE:
        *rc = ot_meet_get_table(f, &m->epoch, &m->members, &m->n, &m->settings, err);
        return true;
    case OT_MEET_QUEUED:
        m->queued = true;
        break;
    case OT_MEET_OVER:
        m->over = true;
        *rc = ot_meet_get_text(f, text, sizeof text, err);
        *rc = *rc == OT_OK ? ot_fail(err, OT_UNAVAILABLE, "%s", text) : *rc;
        return true;
    case OT_MEET_WAITING:
        return (*rc = ot_meet_get_text(f, waits, size, err)) != OT_OK;
    case OT_MEET_REFUSED:
        *rc = ot_meet_get_text(f, text, sizeof text, err);
        if (*rc == OT_OK) {
            *rc = ot_fail(err, OT_PRECONDITION, "%s", text);
        }
        return true;
    case OT_MEET_EVENT:
        *rc = ot_meet_get_event(f, &e, err);
        if (*rc == OT_OK && (e.kind == OT_EVENT_EXITED || e.kind == OT_EVENT_KILLED ||
                             e.kind == OT_EVENT_LOST || e.kind == OT_EVENT_FAILED)) {
            *rc =
                ot_fail(err, OT_ABORTED, "rank %" PRId32 " (host %s) %s before all were here%s%s",
                        e.rank, e.host, ot_event_kind_text(e.kind), e.text[0] ? ": " : "", e.text);
        }
        return *rc != OT_OK;
    case OT_MEET_TRY:
        return (*rc = try_links(m, f, err)) != OT_OK;
    case OT_MEET_TRIED:
    case OT_MEET_COUNTS:
    case OT_MEET_MEMBER:
    case OT_MEET_PULSE:
    case OT_MEET_CLOCK:
    case OT_MEET_TIMELINE:
    case OT_MEET_TYPES:
        break;
    }
    return false;
}

static ot_rc await_table(ot_meet *m, uint64_t until_ns, ot_error *err)
{
    char waits[512] = "";
    for (;;) {
        ot_meet_frame f;
        ot_rc rc = OT_OK;
        OT_TRY(take(m, &f, err));
        if (f.whole > 0) {
            if (take_waiting(m, &f, waits, sizeof waits, &rc, err)) {
                return rc;
            }
            continue;
        }
        struct pollfd p = {.fd = m->fd, .events = POLLIN};
        uint64_t now = ot_clock_mono_ns();
        if (now >= until_ns && !m->queued) {
            return ot_fail(err, OT_TIMEOUT, "not all ranks have arrived in time%s%s",
                           waits[0] ? "; " : "", waits);
        }
        uint64_t left_ns = until_ns > now ? until_ns - now : 1000000000u;
        (void)poll(&p, 1, (int)OT_MIN(left_ns / 1000000 + 1, (uint64_t)1000));
        if (fill(m) < 0) {
            return ot_fail(err, OT_UNAVAILABLE, "it closed the connection");
        }
    }
}

static ot_rc try_at(ot_meet *m, const ot_meet_options *o, uint64_t until_ns, ot_error *err)
{
    ot_addr a;
    uint64_t now = ot_clock_mono_ns();
    int64_t left_us = until_ns > now ? (int64_t)((until_ns - now) / 1000) : 1000;
    OT_TRY(ot_addr_parse(m->server, &a, err));
    OT_TRY(ot_sock_connect(&a, OT_MIN(left_us, (int64_t)CONNECT_US), &m->fd, err));
    ot_sock_keepalive(m->fd, KEEPALIVE_S);
    OT_TRY(shake_hands(m->fd, o, err));
    ot_str_clear(&m->in);
    ot_str_clear(&m->out);
    m->in_at = 0;
    ot_meet_put_member(&m->out, o->size, o->epoch, &o->self);
    if (m->out.failed) {
        return ot_fail(err, OT_EXHAUSTED, "no memory");
    }
    OT_TRY(ot_sock_write_all(m->fd, m->out.data, m->out.len, err));
    ot_str_clear(&m->out);
    ot_sock_nonblock(m->fd, true);
    return await_table(m, until_ns, err);
}

/* Whether another try may end in another way. */
static bool may_mend(ot_rc rc)
{
    return rc == OT_UNAVAILABLE || rc == OT_TIMEOUT || rc == OT_NOT_FOUND || rc == OT_UNKNOWN ||
           rc == OT_INTERNAL;
}

static size_t next_server(const char *list, size_t at, char out[300])
{
    size_t n = strcspn(list + at, ",");
    snprintf(out, 300, "%.*s", (int)OT_MIN(n, (size_t)299), list + at);
    at += n;
    return list[at] == ',' ? at + 1 : 0;
}

static ot_rc join(ot_meet *m, const ot_meet_options *o, ot_error *err)
{
    uint64_t start = ot_clock_mono_ns(), until = start + (uint64_t)o->timeout_us * 1000;
    uint64_t say_ns = start + SAY_NS, pause = PAUSE_FIRST_US;
    uint64_t reach = o->reach_us > 0 ? start + (uint64_t)o->reach_us * 1000 : until;
    bool several = strchr(o->server, ',') != NULL;
    char took[32];
    for (size_t at = 0;;) {
        ot_error e = {0};
        at = next_server(o->server, at, m->server);
        ot_rc rc = try_at(m, o, until, &e);
        if (rc == OT_OK) {
            return OT_OK;
        }
        ot_fd_close(&m->fd);
        uint64_t now = ot_clock_mono_ns();
        bool other = several && (rc == OT_DENIED || rc == OT_DATA_LOSS);
        if ((!may_mend(rc) && !other) || now >= OT_MIN(until, reach) || m->over) {
            rc = now >= reach && now < until ? OT_UNAVAILABLE : rc;
            (void)ot_fail(err, rc, "%s", e.msg);
            return ot_error_prefix(err, rc, "rank %" PRId32 ": meeting point %s", o->self.rank,
                                   m->server);
        }
        if (now >= say_ns) {
            say_ns = now + SAY_NS;
            ot_warn("meet", "rank %" PRId32 " waits for the meeting point %s since %s: %s",
                    o->self.rank, m->server,
                    ot_format_duration((int64_t)((now - start) / 1000000000u) * 1000000, took),
                    e.msg);
        }
        if (at == 0) { /* all have been tried */
            ot_clock_sleep_us(OT_MIN(pause, (until - now) / 1000 + 1));
            pause = OT_MIN(pause * 2, (uint64_t)PAUSE_MAX_US);
        }
    }
}

/* An elastic job deals the ranks. */
static ot_rc find_self(ot_meet *m, const ot_meet_options *o, ot_error *err)
{
    bool dealt = m->members[0].worker >= 0;
    m->rank = dealt ? -1 : m->rank;
    for (int32_t r = 0; dealt && r < m->n; r++) {
        m->rank = m->members[r].worker == o->self.worker ? r : m->rank;
    }
    return m->rank >= 0 && m->rank < m->n
               ? OT_OK
               : ot_fail(err, OT_INTERNAL, "meeting point %s: this process is not in its table",
                         m->server);
}

ot_rc ot_meet_join(const ot_meet_options *o, ot_meet **meet_out, ot_error *err)
{
    if (o->server == NULL || o->server[0] == 0 || o->key_len < 1 || o->key_len > OT_AUTH_KEY_MAX ||
        o->timeout_us <= 0) {
        return ot_fail(err, OT_INVALID,
                       "meeting point: it takes an address, a key of 1 to %d "
                       "bytes and a time limit",
                       OT_AUTH_KEY_MAX);
    }
    ot_meet *m = ot_calloc(1, sizeof *m);
    if (m == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "meeting point: no memory");
    }
    m->fd = -1;
    m->rank = o->self.rank;
    m->self = &o->self;
    ot_str_init(&m->in);
    ot_str_init(&m->out);
    ot_rc rc = join(m, o, err);
    rc = rc == OT_OK ? find_self(m, o, err) : rc;
    m->self = NULL;
    if (rc != OT_OK) {
        m->gone = true;
        ot_meet_destroy(m);
        return rc;
    }
    *meet_out = m;
    return OT_OK;
}

const ot_member *ot_meet_members(const ot_meet *m, int32_t *n_out)
{
    *n_out = m->n;
    return m->members;
}

const char *ot_meet_settings(const ot_meet *m)
{
    return m->settings;
}

int32_t ot_meet_rank(const ot_meet *m)
{
    return m->rank;
}

uint64_t ot_meet_epoch(const ot_meet *m)
{
    return m->epoch;
}

void ot_meet_counts(const ot_meet *m, int32_t *waiting_out, int32_t *leaving_out)
{
    *waiting_out = m->waiting;
    *leaving_out = m->leaving;
}

int ot_meet_fd(const ot_meet *m)
{
    return m->fd;
}

void ot_meet_ask_clock(ot_meet *m)
{
    if (m->out.len == m->out_at) { /* behind something else it would be late */
        ot_meet_time t = {.asked_ns = ot_clock_mono_ns()};
        ot_meet_put_clock(&m->out, &t);
    }
    flush(m);
}

bool ot_meet_clock(const ot_meet *m, int64_t *offset_ns, uint64_t *error_ns)
{
    return meet_clock_read(&m->clock, ot_clock_mono_ns(), offset_ns, error_ns);
}

static ot_rc take_clock(ot_meet *m, const ot_meet_frame *f, ot_error *err)
{
    ot_meet_time t;
    OT_TRY(ot_meet_get_clock(f, &t, err));
    if (meet_clock_take(&m->clock, &t, ot_clock_mono_ns())) {
        ot_meet_ask_clock(m);
    }
    return OT_OK;
}

/* Everything that waits leaves, or what is there has not moved for SEND_MS. */
static ot_rc drain(ot_meet *m, ot_error *err)
{
    while (!m->gone && m->out_at < m->out.len) {
        struct pollfd p = {.fd = m->fd, .events = POLLOUT};
        if (poll(&p, 1, SEND_MS) == 0) {
            return ot_fail(err, OT_TIMEOUT, "the meeting point %s takes nothing", m->server);
        }
        flush(m);
    }
    return m->gone ? ot_fail(err, OT_UNAVAILABLE, "the meeting point %s is gone", m->server)
                   : OT_OK;
}

/* The answer to a question that follows all that was sent says that it has been read. What else
 * comes is of no more use to who leaves. */
static ot_rc await_clock(ot_meet *m, ot_error *err)
{
    ot_meet_time asked = {.asked_ns = ot_clock_mono_ns()}, got = {0};
    uint64_t until = asked.asked_ns + SEND_MS * (uint64_t)1000000;
    ot_meet_put_clock(&m->out, &asked);
    OT_TRY(drain(m, err));
    while (got.asked_ns != asked.asked_ns) {
        ot_meet_frame f;
        struct pollfd p = {.fd = m->fd, .events = POLLIN};
        OT_TRY(take(m, &f, err));
        if (f.whole > 0) {
            if (f.type == OT_MEET_CLOCK) {
                OT_TRY(ot_meet_get_clock(&f, &got, err));
            }
        } else if (ot_clock_mono_ns() > until || poll(&p, 1, SEND_MS) == 0) {
            return ot_fail(err, OT_TIMEOUT, "the meeting point %s does not answer", m->server);
        } else if (fill(m) < 0) {
            m->gone = true;
            return ot_fail(err, OT_UNAVAILABLE, "the meeting point %s is gone", m->server);
        }
    }
    return OT_OK;
}

/* Up to the end of a line, so that the pieces of several ranks can stand one behind the other. */
static size_t piece_of(const char *p, size_t n)
{
    size_t k = OT_MIN(n, (size_t)PIECE);
    while (k > 0 && p[k - 1] != '\n') {
        k--;
    }
    return k > 0 ? k : OT_MIN(n, (size_t)PIECE);
}

ot_rc ot_meet_send_timeline(ot_meet *m, const char *said, size_t n_said, const char *events,
                            size_t n_events, ot_error *err)
{
    for (size_t at = 0; at < n_events;) {
        for (int i = 0; i < PIECES && at < n_events; i++) {
            size_t n = piece_of(events + at, n_events - at);
            ot_meet_put_timeline(&m->out, false, events + at, n);
            at += n;
        }
        OT_TRY(drain(m, err));
    }
    ot_meet_put_timeline(&m->out, true, said, OT_MIN(n_said, (size_t)PIECE));
    return await_clock(m, err);
}

ot_rc ot_meet_next(ot_meet *m, ot_event *event_out, ot_error *err)
{
    ot_meet_frame f;
    flush(m);
    for (;;) {
        OT_TRY(take(m, &f, err));
        if (f.whole > 0) {
            if (f.type == OT_MEET_EVENT) {
                return ot_meet_get_event(&f, event_out, err);
            }
            if (f.type == OT_MEET_CLOCK) {
                OT_TRY(take_clock(m, &f, err));
            } else if (f.type == OT_MEET_COUNTS) {
                OT_TRY(ot_meet_get_counts(&f, &m->waiting, &m->leaving, err));
            } else if (f.type == OT_MEET_REFUSED) {
                char text[1024];
                m->gone = true;
                OT_TRY(ot_meet_get_text(&f, text, sizeof text, err));
                return ot_fail(err, OT_PRECONDITION, "%s", text);
            }
            continue;
        }
        ssize_t k = m->gone ? -1 : fill(m);
        if (k == 0) {
            return OT_NOT_FOUND;
        }
        if (k < 0) {
            m->gone = true;
            return ot_fail(err, OT_UNAVAILABLE,
                           "the meeting point %s is gone: the launcher, or rank 0, has ended",
                           m->server);
        }
    }
}

void ot_meet_say(ot_meet *m, const ot_event *e)
{
    if (m->out.len - m->out_at < OUT_MAX) {
        ot_meet_put_event(&m->out, e);
    }
    flush(m);
}

void ot_meet_pulse(ot_meet *m, const ot_pulse *p)
{
    if (m->out.len == m->out_at) { /* one that waits is enough */
        ot_meet_put_pulse(&m->out, p);
    }
    flush(m);
}

/* What was said is out only when the other side has read it: closing over bytes that we did not
 * read would take it back. */
static void leave(ot_meet *m)
{
    uint64_t until = ot_clock_mono_ns() + LEAVE_MS * 1000000u;
    flush(m);
    ot_sock_shutdown_write(m->fd);
    while (!m->gone && ot_clock_mono_ns() < until) {
        struct pollfd p = {.fd = m->fd, .events = POLLIN};
        (void)poll(&p, 1, LEAVE_MS);
        m->in_at = m->in.len;
        m->gone = fill(m) < 0;
    }
}

void ot_meet_destroy(ot_meet *m)
{
    if (m == NULL) {
        return;
    }
    if (!m->gone) {
        leave(m);
    }
    ot_fd_close(&m->fd);
    ot_str_done(&m->in);
    ot_str_done(&m->out);
    ot_free(m->members);
    ot_free(m->settings);
    ot_free(m);
}
