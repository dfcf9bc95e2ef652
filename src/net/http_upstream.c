#include "net/http_upstream.h"

#include "base/clock.h"
#include "base/disk.h"
#include "base/mem.h"
#include "base/str.h"
#include "net/http_client.h"
#include "net/tls_conn.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define READ_MAX 16384u
#define READS_MAX 4 /* reads of a connection in one turn: others have their turn too */
#define IDLE_MAX 64
#define IDLE_NS UINT64_C(15000000000)

/* A connection: with a call, or idle. It is the call's handle. */
struct ot_upstream_call {
    ot_upstream *u;
    ot_upstream_call *next, **at; /* in the list of all */
    ot_addr addr;
    const ot_tls_client *tls_to; /* NULL: clear. Of the call: an idle one has but its id */
    uint64_t tls_id;
    ot_tls_conn *tls; /* NULL: clear, or not connected yet */
    int fd;
    ot_watch watch;
    ot_timer timer;
    bool idle, connecting, reused, paused, told_head;
    bool in_callback, cancelled;
    bool hung;  /* not watched: it has been cut, and nobody takes what is left yet */
    ot_str out; /* the request */
    size_t sent;
    ot_http_response response;
    int64_t timeout_us;
    const ot_upstream_ops *ops;
    void *arg;
};

struct ot_upstream {
    ot_loop *loop;
    ot_upstream_call *all;
    unsigned n, n_idle;
};

static void on_ready(void *arg, unsigned events);
static void on_time(void *arg);

/* ---- connections */

static void shut(ot_upstream_call *c)
{
    ot_loop_unwatch(c->u->loop, &c->watch);
    ot_loop_timer_cancel(c->u->loop, &c->timer);
    ot_tls_conn_free(c->tls);
    c->tls = NULL;
    ot_fd_close(&c->fd);
}

static void free_conn(ot_upstream_call *c)
{
    shut(c);
    *c->at = c->next;
    if (c->next != NULL) {
        c->next->at = c->at;
    }
    c->u->n--;
    c->u->n_idle -= c->idle;
    ot_str_done(&c->out);
    ot_http_response_done(&c->response);
    ot_free(c);
}

static ot_upstream_call *new_conn(ot_upstream *u, const ot_upstream_request *r)
{
    ot_upstream_call *c = u->n < OT_UPSTREAM_CONNS_MAX ? ot_calloc(1, sizeof *c) : NULL;
    if (c == NULL) {
        return NULL;
    }
    c->u = u;
    c->addr = *r->addr;
    c->tls_id = ot_tls_client_id(r->tls);
    c->fd = -1;
    ot_str_init(&c->out);
    ot_http_response_init(&c->response);
    c->next = u->all;
    c->at = &u->all;
    if (u->all != NULL) {
        u->all->at = &c->next;
    }
    u->all = c;
    u->n++;
    return c;
}

static bool same(const ot_addr *a, const ot_addr *b)
{
    return a->is_unix == b->is_unix && a->port == b->port && strcmp(a->host, b->host) == 0;
}

static ot_upstream_call *find_idle(ot_upstream *u, const ot_upstream_request *r)
{
    for (ot_upstream_call *c = u->all; c != NULL; c = c->next) {
        if (c->idle && same(&c->addr, r->addr) && c->tls_id == ot_tls_client_id(r->tls)) {
            return c;
        }
    }
    return NULL;
}

static void arm(ot_upstream_call *c)
{
    uint64_t wait = c->idle ? IDLE_NS : (uint64_t)c->timeout_us * 1000;
    ot_loop_timer_set(c->u->loop, &c->timer, ot_clock_mono_ns() + wait, on_time, c);
}

static bool shakes(const ot_upstream_call *c)
{
    return c->tls != NULL && !ot_tls_conn_ready(c->tls);
}

/* What TLS has read of the socket does not make it readable: a socket that is writable, which it is
 * at most times, brings the turn back. */
static unsigned wanted(const ot_upstream_call *c)
{
    if (shakes(c)) {
        return OT_LOOP_READ | (ot_tls_conn_wants_write(c->tls) ? OT_LOOP_WRITE : 0u);
    }
    bool more = c->tls != NULL && !c->paused && !c->idle && ot_tls_conn_pending(c->tls);
    bool writes = c->connecting || c->sent < c->out.len || more;
    return (writes ? OT_LOOP_WRITE : 0u) | (c->connecting || c->paused ? 0u : OT_LOOP_READ);
}

static ot_rc connect_conn(ot_upstream_call *c, ot_error *err)
{
    OT_TRY(ot_sock_connect_start(&c->addr, &c->fd, err));
    c->connecting = true;
    return ot_loop_watch(c->u->loop, &c->watch, c->fd, wanted(c), on_ready, c, err);
}

/* ---- the end of a call */

static void call_end(ot_upstream_call *c, ot_rc rc, const ot_error *why)
{
    const ot_upstream_ops *ops = c->ops;
    void *arg = c->arg;
    c->ops = NULL;
    ops->end(arg, rc, why);
}

static void fail(ot_upstream_call *c, ot_rc rc, const char *what)
{
    char text[300];
    ot_error err;
    rc = ot_fail(&err, rc, "server %s: %s", ot_addr_format(&c->addr, text), what);
    shut(c);
    call_end(c, rc, &err);
    free_conn(c);
}

/* The answer was whole: the connection waits for the next request. */
static void rest(ot_upstream_call *c, bool clean)
{
    bool keep = clean && !c->response.close && c->sent == c->out.len && c->u->n_idle < IDLE_MAX;
    if (!keep) {
        shut(c);
    }
    call_end(c, OT_OK, NULL);
    if (!keep) {
        free_conn(c);
        return;
    }
    c->idle = true;
    c->u->n_idle++;
    ot_str_done(&c->out);
    ot_str_init(&c->out);
    c->sent = 0;
    arm(c);
    ot_loop_rewatch(c->u->loop, &c->watch, OT_LOOP_READ);
}

static void on_time(void *arg)
{
    ot_upstream_call *c = arg;
    if (c->idle) {
        free_conn(c);
    } else if (!c->paused) {
        fail(c, OT_TIMEOUT,
             c->connecting ? "it does not take the connection in time"
                           : "nothing moved for too long");
    }
}

/* ---- reading and writing */

/* Tells what of buf[0, n) there is to tell. False: the call has ended. */
static bool take(ot_upstream_call *c, char *buf, size_t n)
{
    while (n > 0) {
        size_t used;
        ot_slice piece;
        const char *why = NULL;
        ot_http_step step = ot_http_response_feed(&c->response, buf, n, &used, &piece, &why);
        if (step == OT_HTTP_BAD) {
            fail(c, OT_DATA_LOSS, why);
            return false;
        }
        c->in_callback = true;
        if (c->response.head_done && !c->told_head) {
            c->told_head = true;
            c->ops->head(c->arg, &c->response);
        }
        if (piece.n > 0 && !c->cancelled) {
            c->ops->data(c->arg, piece.p, piece.n);
        }
        c->in_callback = false;
        if (c->cancelled) {
            free_conn(c);
            return false;
        }
        buf += used;
        n -= used;
        if (step == OT_HTTP_DONE) {
            rest(c, n == 0);
            return false;
        }
    }
    return true;
}

static void on_eof(ot_upstream_call *c)
{
    const char *why = NULL;
    if (ot_http_response_end(&c->response, &why) == OT_HTTP_DONE) {
        rest(c, false);
    } else {
        fail(c, c->response.head_done ? OT_DATA_LOSS : OT_UNAVAILABLE, why);
    }
}

static ssize_t read_bytes(ot_upstream_call *c, void *p, size_t n)
{
    return c->tls != NULL ? ot_tls_conn_read(c->tls, p, n) : ot_sock_read(c->fd, p, n);
}

static ssize_t write_bytes(ot_upstream_call *c, char *p, size_t n)
{
    struct iovec v = {p, n};
    return c->tls != NULL ? ot_tls_conn_write(c->tls, p, n) : ot_sock_writev(c->fd, &v, 1);
}

/* A read or write has failed. */
static const char *why_not(const ot_upstream_call *c)
{
    return c->tls != NULL && errno == EIO ? ot_tls_conn_why(c->tls) : strerror(errno);
}

/* False: the connection is gone, or has ended its call. */
static bool read_some(ot_upstream_call *c)
{
    char buf[READ_MAX];
    for (int i = 0; i < READS_MAX && !c->paused; i++) {
        ssize_t k = read_bytes(c, buf, sizeof buf);
        if (k < 0 && errno == EAGAIN) {
            return true;
        }
        if (k < 0) {
            fail(c, OT_UNAVAILABLE, why_not(c));
            return false;
        }
        if (k == 0) {
            on_eof(c);
            return false;
        }
        arm(c);
        if (!take(c, buf, (size_t)k)) {
            return false;
        }
        if ((size_t)k < sizeof buf) {
            return true;
        }
    }
    return true;
}

/* A connection from before that takes nothing any more: once more with a new one. */
static bool start_again(ot_upstream_call *c, ot_error *err)
{
    shut(c);
    c->reused = false;
    arm(c);
    return connect_conn(c, err) == OT_OK;
}

static bool write_some(ot_upstream_call *c)
{
    ot_error err;
    while (c->sent < c->out.len) {
        ssize_t k = write_bytes(c, c->out.data + c->sent, c->out.len - c->sent);
        if (k < 0 && errno == EAGAIN) {
            return true;
        }
        if (k < 0 && c->reused && c->sent == 0) {
            if (!start_again(c, &err)) {
                fail(c, OT_UNAVAILABLE, err.msg);
            }
            return false;
        }
        if (k < 0 && (errno == EPIPE || errno == ECONNRESET || errno == EIO)) {
            c->sent = c->out.len; /* it may have answered without reading all */
            c->response.close = true;
            return true;
        }
        if (k < 0) {
            fail(c, OT_UNAVAILABLE, why_not(c));
            return false;
        }
        c->sent += (size_t)k;
        arm(c);
    }
    return true;
}

/* Closed by the server in this turn, or with bytes that nobody asked for; TLS has some of its own.
 */
static bool is_stale(ot_upstream_call *c)
{
    char byte;
    return read_bytes(c, &byte, 1) >= 0 || errno != EAGAIN;
}

/* False: the connection is gone, or the other side has to go on. */
static bool shake_hands(ot_upstream_call *c)
{
    switch (ot_tls_conn_handshake(c->tls)) {
    case OT_TLS_READY:
        arm(c);
        return true;
    case OT_TLS_WAIT:
        ot_loop_rewatch(c->u->loop, &c->watch, wanted(c));
        return false;
    case OT_TLS_FAILED:
        break;
    }
    fail(c, OT_UNAVAILABLE, ot_tls_conn_why(c->tls));
    return false;
}

/* The socket is connected, or it isn't. False: the connection is gone. */
static bool connected(ot_upstream_call *c)
{
    int e = ot_sock_error(c->fd);
    if (e != 0) {
        fail(c, OT_UNAVAILABLE, strerror(e));
        return false;
    }
    c->connecting = false;
    ot_sock_nodelay(c->fd);
    if (c->tls_to != NULL && (c->tls = ot_tls_conn_connect(c->tls_to, c->fd, false)) == NULL) {
        fail(c, OT_UNAVAILABLE, "out of memory for TLS");
        return false;
    }
    return true;
}

static void on_ready(void *arg, unsigned events)
{
    ot_upstream_call *c = arg;
    if (c->idle) {
        if (is_stale(c)) {
            free_conn(c);
        }
        return;
    }
    if (c->paused && (events & OT_LOOP_HANGUP) != 0) {
        ot_loop_unwatch(c->u->loop, &c->watch); /* it would come back each turn */
        c->hung = true;
        return;
    }
    if (c->connecting && !connected(c)) {
        return;
    }
    if (shakes(c) && !shake_hands(c)) {
        return;
    }
    if (c->sent < c->out.len && !write_some(c)) {
        return;
    }
    bool more = c->tls != NULL && ot_tls_conn_pending(c->tls);
    bool reads = more || (events & (OT_LOOP_READ | OT_LOOP_HANGUP)) != 0;
    if (reads && !c->paused && !read_some(c)) {
        return;
    }
    ot_loop_rewatch(c->u->loop, &c->watch, wanted(c));
}

/* ---- calls */

static ot_rc put_request(ot_upstream_call *c, const ot_upstream_request *r, ot_error *err)
{
    size_t total = 0;
    char host[300];
    for (size_t i = 0; i < r->n_body; i++) {
        total += r->body[i].iov_len;
    }
    ot_http_host(&c->addr, r->tls != NULL, host);
    ot_str_addf(&c->out, "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %zu\r\n", r->method,
                r->target, host, total);
    ot_str_adds(&c->out, r->headers != NULL ? r->headers : "");
    ot_str_adds(&c->out, "\r\n");
    for (size_t i = 0; i < r->n_body; i++) {
        ot_str_add(&c->out, r->body[i].iov_base, r->body[i].iov_len);
    }
    return c->out.failed ? ot_fail(err, OT_EXHAUSTED, "out of memory for the request") : OT_OK;
}

ot_rc ot_upstream_start(ot_upstream *u, const ot_upstream_request *r, const ot_upstream_ops *ops,
                        void *arg, ot_upstream_call **call_out, ot_error *err)
{
    ot_upstream_call *c = find_idle(u, r);
    while (c != NULL && is_stale(c)) {
        free_conn(c);
        c = find_idle(u, r);
    }
    if (c != NULL) {
        c->idle = false;
        u->n_idle--;
        c->reused = true;
        c->told_head = false;
        ot_http_response_reset(&c->response);
    } else {
        c = new_conn(u, r);
        if (c == NULL) {
            return ot_fail(err, OT_EXHAUSTED, "%u connections to other servers are open", u->n);
        }
    }
    c->timeout_us = r->timeout_us;
    c->tls_to = r->tls;
    ot_rc rc = put_request(c, r, err);
    if (rc == OT_OK && !c->reused) {
        rc = connect_conn(c, err);
    }
    if (rc != OT_OK) {
        free_conn(c);
        return rc;
    }
    c->ops = ops;
    c->arg = arg;
    arm(c);
    ot_loop_rewatch(u->loop, &c->watch, wanted(c) | OT_LOOP_WRITE);
    *call_out = c;
    return OT_OK;
}

void ot_upstream_pause(ot_upstream_call *c, bool paused)
{
    if (c->paused == paused) {
        return;
    }
    c->paused = paused;
    arm(c);
    if (!paused && c->hung) {
        c->hung = false;
        ot_error err;
        if (ot_loop_watch(c->u->loop, &c->watch, c->fd, wanted(c), on_ready, c, &err) != OT_OK) {
            ot_loop_timer_set(c->u->loop, &c->timer, 0, on_time, c); /* it ends as timed out */
        }
    } else if (!c->in_callback) {
        ot_loop_rewatch(c->u->loop, &c->watch, wanted(c));
    }
}

void ot_upstream_cancel(ot_upstream_call *c)
{
    c->cancelled = true;
    if (!c->in_callback) {
        free_conn(c);
    }
}

void ot_upstream_give_up(ot_upstream *u)
{
    for (ot_upstream_call *c = u != NULL ? u->all : NULL; c != NULL;) {
        if (c->idle) {
            c = c->next;
        } else {
            fail(c, OT_UNAVAILABLE, "given up: this server goes down");
            c = u->all; /* what was told may have ended others */
        }
    }
}

ot_rc ot_upstream_create(ot_loop *loop, ot_upstream **out, ot_error *err)
{
    ot_upstream *u = ot_calloc(1, sizeof *u);
    if (u == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "upstream: out of memory");
    }
    u->loop = loop;
    *out = u;
    return OT_OK;
}

void ot_upstream_destroy(ot_upstream *u)
{
    if (u == NULL) {
        return;
    }
    while (u->all != NULL) {
        free_conn(u->all);
    }
    ot_free(u);
}
