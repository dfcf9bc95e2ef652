#include "net/http_server.h"

#include "base/disk.h"
#include "base/sock.h"
#include "net/h2.h"

#include <errno.h>
#include <string.h>

#define ACCEPTS_A_TURN 32
#define ACCEPT_RETRY_NS UINT64_C(100000000)
#define NS_PER_MS UINT64_C(1000000)
#define SWEEP_MAX_NS (1000 * NS_PER_MS)
#define SWEEP_MIN_NS (5 * NS_PER_MS)

void ot_http_options_init(ot_http_options *o)
{
    *o = (ot_http_options){
        .struct_size = sizeof *o,
        .limits = OT_HTTP_LIMITS_DEFAULT,
        .conns_max = 1024,
        .memory_max_bytes = UINT64_C(1) << 30,
        .idle_ms = 75000,
        .head_ms = 10000,
        .progress_ms = 10000,
        .progress_min_bytes = 1024,
        .streams_max = 256,
        .stream_buffer_bytes = 256 * 1024,
    };
}

static void sweep(void *arg);
static void flush(void *arg);
static void on_listener(void *arg, unsigned events);

static void sweep_later(ot_http_server *s)
{
    if (!s->sweep_timer.active) {
        ot_loop_timer_set(s->loop, &s->sweep_timer, ot_loop_now_ns(s->loop) + s->sweep_ns, sweep,
                          s);
    }
}

static uint64_t sweep_interval(const ot_http_options *o)
{
    uint64_t shortest = OT_MIN(OT_MIN(o->idle_ms, o->head_ms), o->progress_ms) * NS_PER_MS;
    return OT_MAX(OT_MIN(shortest / 4, SWEEP_MAX_NS), SWEEP_MIN_NS);
}

ot_rc ot_http_server_create(ot_loop *loop, const ot_http_options *o, ot_http_server **server_out,
                            ot_error *err)
{
    if (o->struct_size != sizeof *o || o->handler == NULL) {
        return ot_fail(err, OT_INVALID,
                       "http server: options without ot_http_options_init or "
                       "without a handler");
    }
    if (o->conns_max == 0 || o->idle_ms == 0 || o->head_ms == 0 || o->progress_ms == 0) {
        return ot_fail(err, OT_INVALID, "http server: conns_max and the time limits must be > 0");
    }
    ot_http_server *s = ot_calloc(1, sizeof *s);
    if (s == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "http server: out of memory");
    }
    s->loop = loop;
    s->opt = *o;
    s->accepting = true;
    s->reserve_fd = ot_sock_spare();
    s->sweep_ns = sweep_interval(o);
    ot_loop_hook_add(loop, &s->flush_hook, OT_HOOK_FLUSH, flush, s);
    *server_out = s;
    return OT_OK;
}

void ot_http_server_destroy(ot_http_server *s)
{
    if (s == NULL) {
        return;
    }
    ot_http_server_unlisten(s);
    for (http_conn *c = s->conns, *next; c != NULL; c = next) {
        next = c->next;
        if (c->open) {
            http_conn_close(c);
        }
    }
    /* What is left waits for an answer that can't come any more. */
    for (http_conn *c = s->conns, *next; c != NULL; c = next) {
        next = c->next;
        if (c->h2 != NULL) {
            h2_abandon(c);
        }
        http_conn_free(c);
    }
    for (http_conn *c = s->free_conns, *next; c != NULL; c = next) {
        next = c->next;
        http_conn_destroy(c);
    }
    while (s->n_kits > 0) {
        http_kit_done(s, &s->kits[--s->n_kits]);
    }
    h2_server_done(s);
    ot_fd_close(&s->reserve_fd);
    ot_loop_timer_cancel(s->loop, &s->sweep_timer);
    ot_loop_hook_remove(s->loop, &s->flush_hook);
    ot_free(s);
}

static void pause_accepting(ot_http_server *s)
{
    for (unsigned i = 0; i < s->n_listeners; i++) {
        ot_loop_unwatch(s->loop, &s->listeners[i].watch);
    }
    s->accepting = false;
    sweep_later(s);
}

void http_server_resume(ot_http_server *s)
{
    if (s->accepting || s->draining || s->n_used >= s->opt.conns_max ||
        ot_loop_now_ns(s->loop) < s->accept_retry_ns) {
        return;
    }
    s->accepting = true;
    for (unsigned i = 0; i < s->n_listeners; i++) {
        http_listener *l = &s->listeners[i];
        if (ot_loop_watch(s->loop, &l->watch, l->fd, OT_LOOP_READ | OT_LOOP_EXCLUSIVE, on_listener,
                          l, NULL) != OT_OK) {
            pause_accepting(s); /* the sweep tries again */
            s->accept_retry_ns = ot_loop_now_ns(s->loop) + ACCEPT_RETRY_NS;
            return;
        }
    }
}

/* Descriptors are used up: gives the one in reserve away to tell a client so, and takes it back.
 * False: it is gone, and nobody can be told now. *waiting: there may be others to tell. */
static bool refuse_one(http_listener *l, bool *waiting)
{
    static char text[] =
        "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\n"
        "Content-Length: 0\r\n\r\n";
    ot_http_server *s = l->server;
    char scratch[4096];
    struct iovec v = {.iov_base = text, .iov_len = sizeof text - 1};
    if (s->reserve_fd < 0) {
        s->reserve_fd = ot_sock_spare();
        return false;
    }
    ot_fd_close(&s->reserve_fd);
    int fd = ot_sock_accept(l->fd);
    *waiting = fd >= 0 || errno != EAGAIN;
    if (fd >= 0) {
        s->stats.refused_fds++;
        if (l->tls == NULL && ot_sock_writev(fd, &v, 1) > 0) {
            ot_sock_shutdown_write(fd);
            (void)!ot_sock_read(fd, scratch, sizeof scratch); /* unread bytes would make a reset */
        }
        ot_fd_close(&fd);
    }
    s->reserve_fd = ot_sock_spare();
    return s->reserve_fd >= 0;
}

static void on_listener(void *arg, unsigned events)
{
    http_listener *l = arg;
    ot_http_server *s = l->server;
    (void)events;
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        if (s->n_used >= s->opt.conns_max) {
            pause_accepting(s);
            return;
        }
        int fd = ot_sock_accept(l->fd);
        if (fd < 0) {
            if (errno == EAGAIN) {
                return;
            }
            bool used_up = errno == EMFILE || errno == ENFILE, waiting;
            if (used_up && refuse_one(l, &waiting)) {
                if (!waiting) {
                    return;
                }
                continue;
            }
            if (used_up || errno == ENOBUFS || errno == ENOMEM) {
                s->accept_retry_ns = ot_loop_now_ns(s->loop) + ACCEPT_RETRY_NS;
                pause_accepting(s);
                return;
            }
            continue; /* that connection died in the queue */
        }
        if (http_conn_open(s, fd, l->tls, NULL) != OT_OK) {
            ot_fd_close(&fd);
            s->accept_retry_ns = ot_loop_now_ns(s->loop) + ACCEPT_RETRY_NS;
            pause_accepting(s);
            return;
        }
        sweep_later(s);
    }
}

ot_rc ot_http_server_listen(ot_http_server *s, int fd, ot_tls *tls, ot_error *err)
{
    if (s->n_listeners == HTTP_LISTENERS_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "http server: at most %d listeners", HTTP_LISTENERS_MAX);
    }
    if (s->draining) {
        return ot_fail(err, OT_PRECONDITION, "http server: it is draining");
    }
    http_listener *l = &s->listeners[s->n_listeners];
    *l = (http_listener){.fd = fd, .tls = tls, .server = s};
    if (s->accepting) {
        OT_TRY(ot_loop_watch(s->loop, &l->watch, fd, OT_LOOP_READ | OT_LOOP_EXCLUSIVE, on_listener,
                             l, err));
    }
    s->n_listeners++;
    return OT_OK;
}

void ot_http_server_unlisten(ot_http_server *s)
{
    for (unsigned i = 0; i < s->n_listeners; i++) {
        ot_loop_unwatch(s->loop, &s->listeners[i].watch);
    }
    s->n_listeners = 0;
}

ot_rc ot_http_server_adopt(ot_http_server *s, int fd, ot_tls *tls, ot_error *err)
{
    if (s->draining) {
        return ot_fail(err, OT_PRECONDITION, "http server: it is draining");
    }
    if (s->n_used >= s->opt.conns_max) {
        return ot_fail(err, OT_EXHAUSTED, "http server: %u connections are the limit (conns_max)",
                       s->opt.conns_max);
    }
    OT_TRY(http_conn_open(s, fd, tls, err));
    sweep_later(s);
    return OT_OK;
}

void ot_http_server_drain(ot_http_server *s, uint32_t grace_ms, uint32_t limit_ms,
                          ot_loop_fn *drained, void *arg)
{
    uint64_t now = ot_loop_now_ns(s->loop);
    ot_http_server_unlisten(s);
    s->draining = true;
    s->accepting = true; /* nothing is left to resume */
    s->drain_grace_ns = now + grace_ms * NS_PER_MS;
    s->drain_limit_ns = now + limit_ms * NS_PER_MS;
    s->drained = drained;
    s->drained_arg = arg;
    s->sweep_ns = OT_MIN(s->sweep_ns, 4 * SWEEP_MIN_NS);
    ot_loop_timer_set(s->loop, &s->sweep_timer, now, sweep, s);
}

bool ot_http_server_draining(const ot_http_server *s)
{
    return s->draining;
}

void ot_http_server_stats(const ot_http_server *s, ot_http_stats *out)
{
    *out = s->stats;
}

static bool sends(const http_conn *c)
{
    return c->out.len > 0 || c->n_ext > 0;
}

/* The time limit on what we wait for from the client. May close c. */
static void read_expired(http_conn *c, uint64_t now)
{
    ot_http_server *s = c->server;
    if (c->state == HTTP_LINGER) {
        http_conn_close(c);
        return;
    }
    if (!c->started) {
        if (!sends(c)) {
            http_conn_close(c);
        }
        return;
    }
    if (c->head_seen && c->read_moved >= s->opt.progress_min_bytes) {
        c->read_moved = 0;
        c->read_due_ns = now + s->opt.progress_ms * NS_PER_MS;
        return;
    }
    s->stats.timeouts++;
    http_conn_refuse(
        c, 408, c->head_seen ? "the body came too slowly" : "the request head came too slowly");
}

static void write_expired(http_conn *c, uint64_t now)
{
    ot_http_server *s = c->server;
    if (c->write_moved >= s->opt.progress_min_bytes) {
        c->write_moved = 0;
        c->write_due_ns = now + s->opt.progress_ms * NS_PER_MS;
        return;
    }
    s->stats.timeouts++;
    http_conn_close(c);
}

static void sweep_one(http_conn *c, uint64_t now)
{
    const ot_http_server *s = c->server;
    bool idle = c->state == HTTP_READ && !c->started && !sends(c);
    /* What a client has sent already is still answered: closing over it would be a reset. */
    bool unwanted = s->draining && idle && now >= s->drain_grace_ns && !ot_sock_pending(c->req.fd);
    if (unwanted || (s->draining && now >= s->drain_limit_ns)) {
        http_conn_close(c);
    } else if (c->write_due_ns != 0 && now >= c->write_due_ns) {
        write_expired(c, now);
    } else if (c->state == HTTP_H2) {
        h2_sweep(c, now);
    } else if (c->read_due_ns != 0 && now >= c->read_due_ns) {
        read_expired(c, now);
    } else if (idle && now - c->idle_since_ns > HTTP_TRIM_AFTER_NS) {
        http_conn_trim(c);
    }
}

static void sweep(void *arg)
{
    ot_http_server *s = arg;
    uint64_t now = ot_loop_now_ns(s->loop);
    s->rested = 0;
    for (http_conn *c = s->conns, *next; c != NULL; c = next) {
        next = c->next;
        if (c->open) {
            sweep_one(c, now);
        }
    }
    http_server_resume(s);
    if (s->n_used > 0 || !s->accepting) {
        sweep_later(s);
    }
}

/* The hook at the end of a turn: answers leave, and the requests behind them start. */
static void flush(void *arg)
{
    ot_http_server *s = arg;
    s->handler_called = false;
    http_conn *c = s->dirty;
    s->dirty = NULL;
    while (c != NULL) {
        http_conn *next = c->dirty_next;
        c->dirty = false;
        if (c->event_due) {
            c->event_due = false;
            if (c->h2 != NULL) {
                h2_events(c);
            } else {
                c->on_event(c->on_event_arg);
            }
        }
        if (c->open && c->reparse && c->state == HTTP_READ) {
            http_conn_process(c);
        }
        if (c->open && http_conn_more_in(c)) {
            http_conn_readable(c);
        }
        if (c->open) {
            http_conn_flush(c);
        }
        c = next;
    }
    if (s->dirty != NULL || s->handler_called) {
        ot_loop_again(s->loop); /* a batcher's hook has run already */
    }
    if (s->drained != NULL && s->n_used == 0) {
        ot_loop_fn *fn = s->drained;
        s->drained = NULL;
        fn(s->drained_arg); /* may destroy s */
    }
}
