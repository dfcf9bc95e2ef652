/* An HTTP/2 connection: its session, what comes and what leaves, its limits and its end. */
#include "net/h2.h"

#include <errno.h>

#define STREAM_WINDOW (1 << 20) /* bytes a client may send ahead: of a stream */
#define CONN_WINDOW (16 << 20)  /* of all of them */
#define HPACK_TABLE 4096        /* either way */
#define FRUITLESS_MAX 1000      /* frames without use in each window of progress */
#define RESETS_BURST 1000       /* streams that a client may open and reset at once, */
#define RESETS_RATE 33          /* then a second */
#define RESTS_A_SWEEP 256       /* a call to the system each, or two */
#define NS_PER_MS UINT64_C(1000000)

/* Frames that ask for work and bring nothing: answered, but not without end. */
static bool fruitless(const nghttp2_frame *f)
{
    switch (f->hd.type) {
    case NGHTTP2_HEADERS:
        return false;
    case NGHTTP2_DATA:
        return f->hd.length == 0 && (f->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0;
    default:
        return true;
    }
}

static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *hd, void *arg)
{
    (void)session;
    http_conn *c = arg;
    nghttp2_frame f = {.hd = *hd};
    if (!fruitless(&f)) {
        return 0;
    }
    h2_conn *h = c->h2;
    uint64_t now = ot_loop_now_ns(c->server->loop);
    if (now - h->fruitless_ns > c->server->opt.progress_ms * NS_PER_MS) {
        h->fruitless = 0;
        h->fruitless_ns = now;
    }
    return ++h->fruitless > FRUITLESS_MAX ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

/* What all sessions share; made once a server. */
static bool make_shared(ot_http_server *s)
{
    nghttp2_session_callbacks *cb = NULL;
    nghttp2_option *o = NULL;
    if (nghttp2_session_callbacks_new(&cb) != 0 || nghttp2_option_new(&o) != 0) {
        nghttp2_session_callbacks_del(cb);
        return false;
    }
    nghttp2_session_callbacks_set_on_begin_frame_callback(cb, on_begin_frame);
    h2_stream_callbacks(cb);
    h2_answer_callbacks(cb);
    nghttp2_option_set_no_auto_window_update(o, 1);
    nghttp2_option_set_no_closed_streams(o, 1);
    nghttp2_option_set_max_deflate_dynamic_table_size(o, HPACK_TABLE);
    nghttp2_option_set_stream_reset_rate_limit(o, RESETS_BURST, RESETS_RATE);
    s->h2_callbacks = cb;
    s->h2_option = o;
    return true;
}

void h2_server_done(ot_http_server *s)
{
    for (h2_stream *st = s->h2_free, *next; st != NULL; st = next) {
        next = st->next;
        h2_stream_destroy(st);
    }
    nghttp2_session_callbacks_del(s->h2_callbacks);
    nghttp2_option_del(s->h2_option);
    ot_free(s->h2_scratch);
}

static bool begin_session(http_conn *c)
{
    const ot_http_server *s = c->server;
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, s->opt.streams_max},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, s->opt.limits.head_max},
    };
    nghttp2_mem mem = h2_mem(c->h2);
    return nghttp2_session_server_new3(&c->h2->session, s->h2_callbacks, c, s->h2_option, &mem) ==
               0 &&
           nghttp2_submit_settings(c->h2->session, 0, settings, OT_COUNT(settings)) == 0 &&
           nghttp2_session_set_local_window_size(c->h2->session, 0, 0, CONN_WINDOW) == 0;
}

bool h2_start(http_conn *c)
{
    ot_http_server *s = c->server;
    if (s->h2_callbacks == NULL && !make_shared(s)) {
        return false;
    }
    if (s->h2_scratch == NULL && (s->h2_scratch = ot_alloc(HTTP_SCRATCH)) == NULL) {
        return false;
    }
    c->h2 = ot_calloc(1, sizeof *c->h2);
    if (c->h2 == NULL || !begin_session(c)) {
        h2_done(c);
        return false;
    }
    ot_free(c->parser);
    c->parser = NULL;
    c->state = HTTP_H2;
    c->read_due_ns = 0;
    c->idle_since_ns = ot_loop_now_ns(s->loop);
    http_conn_dirty(c);
    return true;
}

void h2_done(http_conn *c)
{
    if (c->h2 != NULL) {
        nghttp2_session_del(c->h2->session);
        ot_free(c->h2);
        c->h2 = NULL;
    }
}

/* ---- in and out */

void h2_feed(http_conn *c, const void *p, size_t n)
{
    c->h2->rests = false;
    ssize_t k = nghttp2_session_mem_recv(c->h2->session, p, n);
    if (k < 0) {
        /* What nghttp2 finds wrong it says itself; this is what it leaves to us. */
        uint32_t code = k == NGHTTP2_ERR_NOMEM              ? NGHTTP2_INTERNAL_ERROR
                        : k == NGHTTP2_ERR_BAD_CLIENT_MAGIC ? NGHTTP2_PROTOCOL_ERROR
                                                            : NGHTTP2_ENHANCE_YOUR_CALM;
        c->server->stats.bad_requests++;
        (void)nghttp2_session_terminate_session(c->h2->session, code);
        c->closing = c->linger = true;
    }
    http_conn_dirty(c);
}

bool h2_readable(http_conn *c)
{
    ot_http_server *s = c->server;
    ssize_t k = http_conn_recv(c, s->h2_scratch, HTTP_SCRATCH);
    if (k < 0 && errno == EAGAIN) {
        return true;
    }
    if (k < 0) {
        http_conn_close(c);
        return false;
    }
    if (k == 0) {
        c->eof = true;
        for (h2_stream *st = c->h2->streams; st != NULL; st = st->next) {
            st->req.cancelled = st->state == H2_HELD;
        }
        http_conn_dirty(c);
        return true;
    }
    s->stats.bytes_in += (uint64_t)k;
    h2_feed(c, s->h2_scratch, (size_t)k);
    return true;
}

void h2_pump(http_conn *c)
{
    c->h2->pumping = true;
    while (c->out.len < HTTP_OUT_SOFT) {
        const uint8_t *p;
        ssize_t n = nghttp2_session_mem_send(c->h2->session, &p);
        if (n <= 0) {
            c->broken |= n < 0;
            break;
        }
        if (!http_out_reserve(c, (size_t)n)) {
            break;
        }
        http_out_add(c, p, (size_t)n);
    }
    c->h2->pumping = false;
}

bool h2_wants_write(const http_conn *c)
{
    return nghttp2_session_want_write(c->h2->session) != 0;
}

bool h2_over(const http_conn *c)
{
    const h2_conn *h = c->h2;
    return nghttp2_session_want_read(h->session) == 0 ||
           (h->n_streams == 0 && (c->eof || c->closing || h->drain_stage == 2));
}

/* ---- the end */

bool h2_gone(http_conn *c)
{
    h2_conn *h = c->h2;
    nghttp2_session_del(h->session);
    h->session = NULL;
    for (h2_stream *st = h->streams, *next; st != NULL; st = next) {
        next = st->next;
        st->req.fd = -1;
        h2_stream_gone(st);
    }
    return h->n_streams == 0;
}

void h2_abandon(http_conn *c)
{
    for (h2_stream *st = c->h2->streams, *next; st != NULL; st = next) {
        next = st->next;
        h2_stream_free(st);
    }
    h2_done(c);
}

void h2_events(http_conn *c)
{
    /* A callback may answer and so free any of the streams: begin anew after each. */
    for (h2_stream *st = c->h2->streams; st != NULL;) {
        if (!st->event_due) {
            st = st->next;
            continue;
        }
        st->event_due = false;
        ot_http_body_fn *on_data = st->on_data;
        if (st->req.cancelled && on_data != NULL) {
            st->on_data = NULL;
            st->event_due = st->on_event != NULL;
            on_data(st->on_data_arg, NULL, 0, true);
        } else if (st->on_event != NULL) {
            st->on_event(st->on_event_arg);
        }
        if (c->h2 == NULL) {
            return;
        }
        st = c->h2->streams;
    }
}

/* ---- time */

/* One stream that should move. */
static void stream_expired(h2_stream *st, uint64_t now)
{
    http_conn *c = st->conn;
    ot_http_server *s = c->server;
    if (st->moved >= s->opt.progress_min_bytes) {
        st->moved = 0;
        st->due_ns = now + s->opt.progress_ms * NS_PER_MS;
        return;
    }
    st->due_ns = 0;
    s->stats.timeouts++;
    if (st->state == H2_BODY) {
        h2_refuse(st, 408, "the body came too slowly");
        return;
    }
    if (nghttp2_submit_rst_stream(c->h2->session, 0, st->id, NGHTTP2_CANCEL) != 0) {
        c->broken = true;
    }
    http_conn_dirty(c);
}

void h2_leave(http_conn *c)
{
    h2_conn *h = c->h2;
    h->drain_stage = 2;
    if (nghttp2_submit_goaway(h->session, 0, nghttp2_session_get_last_proc_stream_id(h->session),
                              NGHTTP2_NO_ERROR, NULL, 0) != 0) {
        c->broken = true;
    }
    http_conn_dirty(c);
}

/* Lame duck: first the client learns that it should go elsewhere, then, when what was on its way
 * has come, streams that it opens are ignored. */
static void drain(http_conn *c, uint64_t now)
{
    h2_conn *h = c->h2;
    if (h->drain_stage == 0) {
        h->drain_stage = 1;
        c->broken |= nghttp2_submit_shutdown_notice(h->session) != 0;
        http_conn_dirty(c);
    } else if (h->drain_stage == 1 && now >= c->server->drain_grace_ns) {
        h2_leave(c);
    }
}

static void end_politely(http_conn *c, uint32_t code)
{
    if (nghttp2_session_terminate_session(c->h2->session, code) != 0) {
        c->broken = true;
    }
    c->closing = true;
    http_conn_dirty(c);
}

void h2_sweep(http_conn *c, uint64_t now)
{
    ot_http_server *s = c->server;
    h2_conn *h = c->h2;
    if (s->draining) {
        drain(c, now);
    }
    for (h2_stream *st = h->streams; st != NULL; st = st->next) {
        if (st->due_ns != 0 && now >= st->due_ns) {
            stream_expired(st, now);
        }
    }
    if (h->head_since_ns != 0 && now - h->head_since_ns > s->opt.head_ms * NS_PER_MS) {
        s->stats.timeouts++;
        h->head_since_ns = 0;
        end_politely(c, NGHTTP2_ENHANCE_YOUR_CALM);
    } else if (h->n_streams == 0 && !c->closing &&
               now - c->idle_since_ns > s->opt.idle_ms * NS_PER_MS) {
        end_politely(c, NGHTTP2_NO_ERROR);
    } else if (now - c->idle_since_ns > HTTP_TRIM_AFTER_NS && s->rested < RESTS_A_SWEEP &&
               h2_rest(c)) {
        s->rested++;
    }
}
