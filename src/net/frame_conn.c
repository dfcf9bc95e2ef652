/* Frames over a socket on a loop. */
#include "base/disk.h"
#include "base/mem.h"
#include "base/sock.h"
#include "net/frame.h"

#include <errno.h>
#include <string.h>

#define BUF_MIN 16384
#define BUF_KEEP (1u << 20) /* larger buffers are given back when they are empty */

typedef struct buffer {
    uint8_t *data;
    size_t cap, at, len; /* bytes [at, at + len) are in use */
} buffer;

struct ot_frame_conn {
    ot_loop *loop;
    ot_watch watch;
    ot_timer close_timer; /* reports `why` from the loop */
    int fd;
    ot_frame_limits limits;
    const ot_frame_ops *ops;
    void *arg;
    buffer in, out;
    bool full;      /* a send was refused since the queue was last empty */
    bool broken;    /* on_close is due or was called */
    bool destroyed; /* by a callback: freed when it returns */
    unsigned calls; /* callbacks on the stack */
    ot_error why;
};

static void on_ready(void *arg, unsigned events);

/* Room for n more bytes behind what is there. */
static bool reserve(buffer *b, size_t n)
{
    if (b->cap - b->at - b->len >= n) {
        return true;
    }
    if (b->at > 0) {
        memmove(b->data, b->data + b->at, b->len);
        b->at = 0;
    }
    if (b->cap - b->len >= n) {
        return true;
    }
    size_t cap = b->cap != 0 ? b->cap : BUF_MIN;
    while (cap - b->len < n) {
        cap *= 2;
    }
    uint8_t *p = ot_realloc(b->data, cap);
    if (p == NULL) {
        return false;
    }
    b->data = p;
    b->cap = cap;
    return true;
}

static void consume(buffer *b, size_t n)
{
    b->at += n;
    b->len -= n;
    if (b->len == 0) {
        b->at = 0;
        if (b->cap > BUF_KEEP) {
            ot_free(b->data);
            *b = (buffer){0};
        }
    }
}

static void append(buffer *b, const void *p, size_t n)
{
    if (n > 0) {
        memcpy(b->data + b->at + b->len, p, n);
        b->len += n;
    }
}

ot_rc ot_frame_conn_create(ot_loop *loop, int fd, const ot_frame_limits *limits,
                           const ot_frame_ops *ops, void *arg, ot_frame_conn **conn_out,
                           ot_error *err)
{
    ot_frame_conn *c = ot_calloc(1, sizeof *c);
    if (c == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "frame connection: out of memory");
    }
    c->loop = loop;
    c->limits = limits != NULL ? *limits : ot_frame_limits_default;
    c->ops = ops;
    c->arg = arg;
    ot_rc rc = ot_loop_watch(loop, &c->watch, fd, OT_LOOP_READ, on_ready, c, err);
    if (rc != OT_OK) {
        ot_free(c);
        return rc;
    }
    c->fd = fd;
    *conn_out = c;
    return OT_OK;
}

static void conn_free(ot_frame_conn *c)
{
    ot_free(c->in.data);
    ot_free(c->out.data);
    ot_free(c);
}

static void shut(ot_frame_conn *c)
{
    ot_loop_unwatch(c->loop, &c->watch);
    ot_fd_close(&c->fd);
}

void ot_frame_conn_destroy(ot_frame_conn *c)
{
    if (c == NULL || c->destroyed) {
        return;
    }
    shut(c);
    ot_loop_timer_cancel(c->loop, &c->close_timer);
    c->destroyed = c->broken = true;
    if (c->calls == 0) {
        conn_free(c);
    }
}

/* Leaves a callback; false: the connection is freed. */
static bool leave(ot_frame_conn *c)
{
    c->calls--;
    if (c->destroyed && c->calls == 0) {
        conn_free(c);
        return false;
    }
    return !c->destroyed;
}

static void report_close(void *arg)
{
    ot_frame_conn *c = arg;
    c->calls++;
    c->ops->on_close(c->arg, c, &c->why);
    (void)leave(c);
}

/* `why` is set: no more bytes; on_close follows from the loop. */
static void break_off(ot_frame_conn *c)
{
    if (!c->broken) {
        c->broken = true;
        shut(c);
        ot_loop_timer_set(c->loop, &c->close_timer, 0, report_close, c);
    }
}

static void write_some(ot_frame_conn *c)
{
    while (c->out.len > 0) {
        struct iovec v = {.iov_base = c->out.data + c->out.at, .iov_len = c->out.len};
        ssize_t k = ot_sock_writev(c->fd, &v, 1);
        if (k < 0 && errno == EAGAIN) {
            break;
        }
        if (k < 0) {
            (void)ot_fail_errno(&c->why, errno, "write to the agent connection");
            break_off(c);
            return;
        }
        consume(&c->out, (size_t)k);
    }
    ot_loop_rewatch(c->loop, &c->watch, OT_LOOP_READ | (c->out.len > 0 ? OT_LOOP_WRITE : 0u));
}

/* Hands over all complete frames. False: stop, the connection is broken, destroyed or freed. */
static bool deliver(ot_frame_conn *c)
{
    while (c->in.len > 0) {
        ot_frame f;
        size_t need;
        if (ot_frame_decode(c->in.data + c->in.at, c->in.len, &c->limits, &f, &need, &c->why) !=
            OT_OK) {
            break_off(c);
            return false;
        }
        if (c->in.len < need) {
            return true;
        }
        c->calls++;
        c->ops->on_frame(c->arg, c, &f);
        if (!leave(c)) {
            return false;
        }
        if (c->broken) {
            return false;
        }
        consume(&c->in, need);
    }
    return true;
}

static void read_some(ot_frame_conn *c)
{
    if (!reserve(&c->in, c->in.cap - c->in.len >= BUF_MIN / 4 ? BUF_MIN / 4 : BUF_MIN)) {
        (void)ot_fail(&c->why, OT_EXHAUSTED, "agent connection: out of memory for a frame");
        break_off(c);
        return;
    }
    buffer *b = &c->in;
    ssize_t k = ot_sock_read(c->fd, b->data + b->at + b->len, b->cap - b->at - b->len);
    if (k < 0 && errno == EAGAIN) {
        return;
    }
    if (k <= 0) {
        if (k < 0) {
            (void)ot_fail_errno(&c->why, errno, "read from the agent connection");
        } else if (b->len > 0) {
            (void)ot_fail(&c->why, OT_CANCELLED, "the peer closed in the middle of a frame");
        } else {
            (void)ot_fail(&c->why, OT_CANCELLED, "the peer closed the connection");
        }
        break_off(c);
        return;
    }
    b->len += (size_t)k;
    (void)deliver(c);
}

static void on_ready(void *arg, unsigned events)
{
    ot_frame_conn *c = arg;
    if ((events & OT_LOOP_HANGUP) && !(events & OT_LOOP_READ)) {
        int e = ot_sock_error(c->fd);
        if (e != 0) {
            (void)ot_fail_errno(&c->why, e, "agent connection");
        } else {
            (void)ot_fail(&c->why, OT_CANCELLED, "the peer closed the connection");
        }
        break_off(c);
        return;
    }
    if (events & OT_LOOP_WRITE) {
        write_some(c);
        if (!c->broken && c->out.len == 0 && c->full) {
            c->full = false;
            if (c->ops->on_drain != NULL) {
                c->calls++;
                c->ops->on_drain(c->arg, c);
                if (!leave(c)) {
                    return;
                }
            }
        }
    }
    if ((events & OT_LOOP_READ) && !c->broken) {
        read_some(c);
    }
}

ot_rc ot_frame_send(ot_frame_conn *c, uint32_t type, const void *json, size_t json_len,
                    const void *bin, size_t bin_len, ot_error *err)
{
    if (c->broken) {
        return ot_fail(err, OT_UNAVAILABLE, "the agent connection is closed");
    }
    if (json_len > c->limits.json_max || bin_len > c->limits.bin_max) {
        return ot_fail(err, OT_INVALID,
                       "frame of type %u: %zu bytes of JSON and %zu of binary; the limits are %u "
                       "and %u",
                       type, json_len, bin_len, c->limits.json_max, c->limits.bin_max);
    }
    size_t n = OT_FRAME_HEAD + json_len + bin_len;
    if (n > c->limits.queue_max) {
        return ot_fail(err, OT_INVALID, "frame of type %u has %zu bytes; the queue holds %zu", type,
                       n, c->limits.queue_max);
    }
    if (c->out.len > c->limits.queue_max - n) {
        c->full = true;
        return ot_fail(err, OT_EXHAUSTED,
                       "frame of type %u: %zu bytes wait already; the limit is %zu", type,
                       c->out.len, c->limits.queue_max);
    }
    if (!reserve(&c->out, n)) {
        return ot_fail(err, OT_EXHAUSTED, "frame of type %u: out of memory for %zu bytes", type, n);
    }
    uint8_t head[OT_FRAME_HEAD];
    ot_frame_head_put(head, type, (uint32_t)json_len, (uint32_t)bin_len);
    append(&c->out, head, sizeof head);
    append(&c->out, json, json_len);
    append(&c->out, bin, bin_len);
    if (!(c->watch.events & OT_LOOP_WRITE)) { /* nothing waited before: try at once */
        write_some(c);
    }
    return OT_OK;
}

size_t ot_frame_conn_queued(const ot_frame_conn *c)
{
    return c->out.len;
}

int ot_frame_conn_fd(const ot_frame_conn *c)
{
    return c->fd;
}
