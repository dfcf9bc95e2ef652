/* A connection's writing side: the out buffer, one write a turn, refusals. */
#include "net/h2.h"

#include "base/sock.h"

#include <errno.h>
#include <string.h>

#define OUT_MIN 2048
#define WRITE_PIECES 32
#define LINGER_MS 2000

bool http_out_reserve(http_conn *c, size_t n)
{
    http_buf *b = &c->out;
    if (b->cap == 0) {
        http_conn_equip(c);
    }
    if (b->cap - b->at - b->len >= n) {
        return true;
    }
    if (b->at > 0) {
        memmove(b->data, b->data + b->at, b->len);
        b->at = 0;
    }
    size_t cap = b->cap != 0 ? b->cap : OUT_MIN;
    while (cap - b->len < n) {
        if (cap > SIZE_MAX / 4) {
            c->broken = true;
            return false;
        }
        cap *= 2;
    }
    if (cap != b->cap && !http_buf_resize(c->server, b, cap)) {
        c->broken = true;
        return false;
    }
    return true;
}

void http_out_add(http_conn *c, const void *p, size_t n)
{
    if (n > 0) {
        memcpy(c->out.data + c->out.at + c->out.len, p, n);
        c->out.len += n;
    }
}

/* Takes k written bytes off the out buffer, then off the outside pieces. */
static void advance(http_conn *c, size_t k)
{
    size_t own = OT_MIN(k, c->out.len);
    c->out.at += own;
    c->out.len -= own;
    k -= own;
    while (k > 0) {
        size_t n = OT_MIN(k, c->ext->iov_len);
        c->ext->iov_base = (char *)c->ext->iov_base + n;
        c->ext->iov_len -= n;
        k -= n;
        if (c->ext->iov_len == 0) {
            c->ext++;
            c->n_ext--;
        }
    }
    if (c->out.len == 0) {
        c->out.at = 0;
    }
}

/* Pieces one by one: each becomes records of its own. */
static ssize_t write_tls(http_conn *c, const struct iovec *v, int n)
{
    ssize_t put = 0;
    for (int i = 0; i < n; i++) {
        ssize_t k = ot_tls_conn_write(c->tls, v[i].iov_base, v[i].iov_len);
        if (k < 0) {
            return put > 0 ? put : k;
        }
        put += k;
        if ((size_t)k < v[i].iov_len) {
            break;
        }
    }
    return put;
}

/* One write. False: the connection broke. */
static bool write_some(http_conn *c)
{
    struct iovec v[WRITE_PIECES];
    int n = 0;
    if (c->out.len > 0) {
        v[n++] = (struct iovec){c->out.data + c->out.at, c->out.len};
    }
    for (size_t i = 0; i < c->n_ext && n < WRITE_PIECES; i++) {
        v[n++] = c->ext[i];
    }
    ssize_t k = c->tls != NULL ? write_tls(c, v, n) : ot_sock_writev(c->req.fd, v, n);
    if (k < 0) {
        return errno == EAGAIN;
    }
    advance(c, (size_t)k);
    c->write_moved += (size_t)k;
    c->server->stats.bytes_out += (uint64_t)k;
    return true;
}

static void finish(http_conn *c)
{
    if (!c->linger || c->eof) {
        http_conn_close(c);
        return;
    }
    /* Closing now would reset the connection while the peer still sends, and the reset may overtake
     * our answer: end our side, read on for a while. */
    if (c->tls != NULL) {
        ot_tls_conn_bye(c->tls);
    }
    ot_sock_shutdown_write(c->req.fd);
    c->state = HTTP_LINGER;
    c->in.at = c->in.len = 0;
    c->read_due_ns = ot_loop_now_ns(c->server->loop) + LINGER_MS * UINT64_C(1000000);
    http_conn_watch(c);
}

/* All bytes have left. True: go on with the connection. */
static bool on_sent(http_conn *c)
{
    c->write_due_ns = 0;
    if (c->state == HTTP_SEND) {
        ot_loop_fn *release = c->release;
        c->release = NULL;
        if (release != NULL) {
            release(c->release_arg);
        }
        http_conn_over(c);
    }
    if (c->state == HTTP_STREAM && c->stream_full && c->on_event != NULL) {
        c->stream_full = false;
        c->event_due = true;
        http_conn_dirty(c);
    }
    if (c->closing && c->state == HTTP_READ) {
        finish(c);
        return false;
    }
    if (c->state == HTTP_H2) {
        if (h2_wants_write(c)) {
            http_conn_dirty(c);
        } else if (h2_over(c)) {
            c->linger = true;
            finish(c);
            return false;
        }
    }
    if (c->reparse) {
        http_conn_dirty(c);
    }
    return true;
}

void http_conn_flush(http_conn *c)
{
    if (c->state == HTTP_H2 && !c->broken) {
        h2_pump(c);
    }
    if (c->broken) {
        http_conn_close(c);
        return;
    }
    if (c->state == HTTP_LINGER) {
        return;
    }
    if ((c->out.len > 0 || c->n_ext > 0) && !write_some(c)) {
        http_conn_close(c);
        return;
    }
    if (c->out.len > 0 || c->n_ext > 0) {
        if (c->write_due_ns == 0) {
            const ot_http_server *s = c->server;
            c->write_due_ns = ot_loop_now_ns(s->loop) + s->opt.progress_ms * UINT64_C(1000000);
            c->write_moved = 0;
        }
    } else if (!on_sent(c)) {
        return;
    }
    http_conn_rest(c);
    http_conn_watch(c);
}
