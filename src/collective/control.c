#include "collective/control.h"

#include "base/mem.h"
#include "base/str.h"
#include "collective/links.h"

#include <string.h>

#define READ_PIECE 65536
#define QUEUE_MAX ((size_t)256 << 20)

typedef struct peer {
    ot_link *speak, *listen;
    bool wanted, broken;
    bool reading, ended; /* ended: found while reading, told after it */
    ot_str out, in;
    size_t sent; /* of out */
} peer;

struct ot_control_lane {
    int32_t size;
    ot_control_lane_ops ops;
    peer *peers;
};

static void broke(ot_control_lane *c, peer *p, const ot_error *why)
{
    if (!p->broken) {
        p->broken = true;
        c->ops.broken(c->ops.arg, (int32_t)(p - c->peers), why);
    }
}

static void ended(ot_control_lane *c, peer *p, const ot_link *l);

static void flush(ot_control_lane *c, peer *p)
{
    while (p->speak != NULL && !p->broken && !p->ended && p->sent < p->out.len) {
        struct iovec v = {.iov_base = p->out.data + p->sent, .iov_len = p->out.len - p->sent};
        ssize_t k = p->speak->ops->send(p->speak, &v, 1);
        if (k < 0) {
            ended(c, p, p->speak);
        }
        if (k <= 0) {
            return;
        }
        p->sent += (size_t)k;
    }
    if (p->sent == p->out.len) {
        ot_str_clear(&p->out);
        p->sent = 0;
    }
}

/* Hands on the whole messages that have come. */
static void hand_on(ot_control_lane *c, peer *p)
{
    size_t at = 0;
    uint32_t n;
    while (!p->broken && p->in.len - at >= sizeof n) {
        memcpy(&n, p->in.data + at, sizeof n);
        if (n > OT_CONTROL_MESSAGE_MAX) {
            ot_error e;
            (void)ot_fail(&e, OT_DATA_LOSS, "sent a message of %u bytes; the limit is %u", n,
                          OT_CONTROL_MESSAGE_MAX);
            broke(c, p, &e);
            return;
        }
        if (p->in.len - at - sizeof n < n) {
            break;
        }
        c->ops.message(c->ops.arg, (int32_t)(p - c->peers), p->in.data + at + sizeof n, n);
        at += sizeof n + n;
    }
    if (at > 0) {
        memmove(p->in.data, p->in.data + at, p->in.len - at);
        p->in.len -= at;
    }
}

/* Until nothing more has come; false at the link's end. */
static bool read_all(ot_control_lane *c, peer *p, ot_link *l)
{
    while (!p->broken) {
        ssize_t k = ot_str_reserve(&p->in, READ_PIECE)
                        ? l->ops->recv(l, p->in.data + p->in.len, READ_PIECE)
                        : -1;
        if (k <= 0) {
            return k == 0;
        }
        p->in.len += (size_t)k;
        hand_on(c, p);
    }
    return true;
}

/* Who leaves closes both links: what it said before lies in the one that is listened to, and
 * counts. */
static void ended(ot_control_lane *c, peer *p, const ot_link *l)
{
    p->ended = true;
    if (p->reading) {
        return;
    }
    if (l == p->speak && p->listen != NULL) {
        p->reading = true;
        (void)read_all(c, p, p->listen);
        p->reading = false;
    }
    broke(c, p, &l->why);
}

static void on_ready(void *arg, ot_link *l, bool can_read, bool can_write)
{
    ot_control_lane *c = arg;
    peer *p = &c->peers[l->peer];
    if (can_write && l == p->speak) {
        flush(c, p);
    }
    if (!can_read || p->broken || p->reading) {
        return;
    }
    p->reading = l == p->listen;
    bool going_on = read_all(c, p, l);
    p->reading = false;
    if (!going_on) {
        ended(c, p, l);
    } else if (p->ended) {
        broke(c, p, &p->speak->why);
    }
}

ot_rc ot_control_lane_create(int32_t size, const ot_control_lane_ops *ops, ot_control_lane **out,
                             ot_error *err)
{
    ot_control_lane *c = ot_calloc(1, sizeof *c);
    peer *peers = ot_calloc((size_t)size, sizeof *peers);
    if (c == NULL || peers == NULL) {
        ot_free(c);
        ot_free(peers);
        return ot_fail(err, OT_EXHAUSTED, "control messages: out of memory");
    }
    for (int32_t i = 0; i < size; i++) {
        ot_str_init(&peers[i].out);
        ot_str_init(&peers[i].in);
    }
    c->size = size;
    c->ops = *ops;
    c->peers = peers;
    *out = c;
    return OT_OK;
}

void ot_control_lane_destroy(ot_control_lane *c)
{
    if (c == NULL) {
        return;
    }
    for (int32_t i = 0; i < c->size; i++) {
        peer *p = &c->peers[i];
        ot_link_destroy(p->speak);
        ot_link_destroy(p->listen);
        ot_str_done(&p->out);
        ot_str_done(&p->in);
    }
    ot_free(c->peers);
    ot_free(c);
}

void ot_control_lane_link(ot_control_lane *c, int32_t i, ot_link *l, bool asked)
{
    ot_link **at = asked ? &c->peers[i].speak : &c->peers[i].listen;
    ot_link_destroy(*at);
    *at = l;
    l->peer = i;
    l->ready = on_ready;
    l->arg = c;
    on_ready(c, l, true, true);
}

void ot_control_lane_send(ot_control_lane *c, int32_t i, const void *m, size_t n)
{
    peer *p = &c->peers[i];
    uint32_t len = (uint32_t)n;
    ot_error e;
    if (p->broken) {
        return;
    }
    if (n > OT_CONTROL_MESSAGE_MAX || p->out.len + n > QUEUE_MAX) {
        (void)ot_fail(&e, OT_EXHAUSTED, "does not take its control messages: %zu bytes wait",
                      p->out.len);
        broke(c, p, &e);
        return;
    }
    ot_str_add(&p->out, &len, sizeof len);
    ot_str_add(&p->out, m, n);
    if (p->out.failed) {
        (void)ot_fail(&e, OT_EXHAUSTED, "control messages: out of memory");
        broke(c, p, &e);
        return;
    }
    if (!p->wanted) {
        p->wanted = true;
        c->ops.want(c->ops.arg, i);
    }
    flush(c, p);
}

void ot_control_lane_look(ot_control_lane *c, uint64_t now_ns)
{
    for (int32_t i = 0; i < c->size; i++) {
        ot_link *l = c->peers[i].broken ? NULL : c->peers[i].speak;
        if (l != NULL && l->ops->look != NULL) {
            l->ops->look(l, now_ns);
        }
    }
}

bool ot_control_lane_idle(const ot_control_lane *c)
{
    for (int32_t i = 0; i < c->size; i++) {
        if (c->peers[i].out.len > 0) {
            return false;
        }
    }
    return true;
}
