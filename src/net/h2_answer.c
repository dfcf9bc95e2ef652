/* Answers on HTTP/2 streams: heads, bodies, pieces, trailers. */
#include "net/h2.h"

#include <stdio.h>
#include <string.h>

#define NS_PER_MS UINT64_C(1000000)
#define FRAME_HEAD 9
#define NAMES_EVERY_NS UINT64_C(20000000000)
#define OWN_FIELDS 4 /* :status, date, content-type, content-length */

static h2_stream *stream_of(ot_http_req *req)
{
    return (h2_stream *)(void *)req;
}

static uint8_t *bytes(const char *z)
{
    union {
        const char *in;
        uint8_t *out;
    } cast = {.in = z}; /* nghttp2_nv has no const */
    return cast.out;
}

/* nghttp2 copies both, and writes names in lower case. */
static nghttp2_nv field(const char *name, const char *value)
{
    return (nghttp2_nv){bytes(name), bytes(value), strlen(name), strlen(value),
                        NGHTTP2_NV_FLAG_NONE};
}

static nghttp2_nv fixed(const char *name, const char *value)
{
    nghttp2_nv nv = field(name, value);
    nv.flags = NGHTTP2_NV_FLAG_NO_COPY_NAME;
    return nv;
}

/* ---- what nghttp2 asks for */

static size_t unsent(const h2_stream *st)
{
    return st->pieces ? st->out.len : st->ext_left;
}

static ssize_t on_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t length,
                       uint32_t *flags, nghttp2_data_source *source, void *arg)
{
    (void)buf;
    (void)arg;
    h2_stream *st = source->ptr;
    size_t n = OT_MIN(unsent(st), length);
    if (n == unsent(st) && st->complete) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (st->n_trailers > 0) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            if (nghttp2_submit_trailer(session, id, st->trailers, st->n_trailers) != 0) {
                return NGHTTP2_ERR_CALLBACK_FAILURE;
            }
        }
    } else if (n == 0) {
        st->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    if (n > 0) {
        *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    }
    return (ssize_t)n;
}

static void move_ext(h2_stream *st, size_t n)
{
    st->ext_left -= n;
    while (n > 0) {
        size_t k = OT_MIN(n, st->ext->iov_len);
        http_out_add(st->conn, st->ext->iov_base, k);
        st->ext->iov_base = (char *)st->ext->iov_base + k;
        st->ext->iov_len -= k;
        n -= k;
        if (st->ext->iov_len == 0) {
            st->ext++;
        }
    }
}

static void move_out(h2_stream *st, size_t n)
{
    http_out_add(st->conn, st->out.data + st->out.at, n);
    st->out.at += n;
    st->out.len -= n;
    if (st->out.len == 0) {
        st->out.at = 0;
        if (st->full && st->on_event != NULL) {
            st->full = false;
            st->event_due = st->conn->event_due = true;
            http_conn_dirty(st->conn);
        }
    }
}

static int on_send_data(nghttp2_session *session, nghttp2_frame *f, const uint8_t *head,
                        size_t length, nghttp2_data_source *source, void *arg)
{
    (void)session;
    (void)f;
    h2_stream *st = source->ptr;
    http_conn *c = arg;
    if (c->out.len >= HTTP_OUT_SOFT) {
        return NGHTTP2_ERR_WOULDBLOCK;
    }
    if (!http_out_reserve(c, FRAME_HEAD + length)) {
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    http_out_add(c, head, FRAME_HEAD);
    if (st->pieces) {
        move_out(st, length);
    } else {
        move_ext(st, length);
    }
    st->moved += length;
    c->h2->fruitless = 0;
    if (unsent(st) == 0) {
        st->due_ns = 0;
    }
    return 0;
}

/* An answer that ended before its request did: the rest of that is not wanted. */
static int on_frame_send(nghttp2_session *session, const nghttp2_frame *f, void *arg)
{
    (void)arg;
    if ((f->hd.type != NGHTTP2_DATA && f->hd.type != NGHTTP2_HEADERS) ||
        (f->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0) {
        return 0;
    }
    const h2_stream *st = nghttp2_session_get_stream_user_data(session, f->hd.stream_id);
    if (st != NULL && !st->recv_end &&
        nghttp2_submit_rst_stream(session, 0, f->hd.stream_id, NGHTTP2_NO_ERROR) != 0) {
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    return 0;
}

void h2_answer_callbacks(nghttp2_session_callbacks *cb)
{
    nghttp2_session_callbacks_set_send_data_callback(cb, on_send_data);
    nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_send);
}

/* ---- heads */

static void count_due(h2_stream *st)
{
    const ot_http_server *s = st->conn->server;
    if (st->due_ns == 0) {
        st->due_ns = ot_loop_now_ns(s->loop) + s->opt.progress_ms * NS_PER_MS;
        st->moved = 0;
    }
}

typedef struct head {
    bool data;       /* a body follows, or pieces */
    bool trailers;   /* the answer's trailers go with the head: there is no body before them */
    uint64_t length; /* of the body; UINT64_MAX: not told */
} head;

/* A name that is in no table is spelt out each time, even if its values are kept out. So one head
 * in a while puts it in: dates push it out after a minute. */
static bool names_due(http_conn *c)
{
    uint64_t now = ot_loop_now_ns(c->server->loop);
    if (c->h2->named_ns != 0 && now - c->h2->named_ns < NAMES_EVERY_NS) {
        return false;
    }
    c->h2->named_ns = now;
    return true;
}

static bool submit(h2_stream *st, const ot_http_answer *a, const head *h)
{
    size_t n_trailers = h->trailers ? a->n_trailers : 0, n = 0;
    nghttp2_nv *nv =
        ot_arena_alloc(&st->arena, (OWN_FIELDS + a->n_fields + n_trailers) * sizeof *nv);
    if (nv == NULL) {
        return false;
    }
    char status[12] = "200", length[24];
    size_t date_len;
    if (a->status != 200) {
        snprintf(status, sizeof status, "%d", OT_MIN(OT_MAX(a->status, 200), 599));
    }
    nv[n++] = fixed(":status", status);
    if (a->type != NULL) {
        nv[n++] = fixed("content-type", a->type);
    }
    if (h->length != UINT64_MAX) {
        snprintf(length, sizeof length, "%llu", (unsigned long long)h->length);
        nv[n++] = fixed("content-length", length);
    }
    const char *date = http_date(st->conn->server, &date_len);
    nv[n] = fixed("date", date);
    nv[n++].valuelen = date_len;
    const bool name = a->n_unique > 0 && names_due(st->conn);
    for (size_t i = 0; i < a->n_fields; i++) {
        nv[n] = field(a->fields[i].name, a->fields[i].value);
        nv[n++].flags |= i < a->n_unique && !name ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE;
    }
    for (size_t i = 0; i < n_trailers; i++) {
        nv[n++] = field(a->trailers[i].name, a->trailers[i].value);
    }
    nghttp2_data_provider source = {.source.ptr = st, .read_callback = on_read};
    return nghttp2_submit_response(st->conn->h2->session, st->id, nv, n,
                                   h->data ? &source : NULL) == 0;
}

/* The answer, or what stands for one whose head or trailers could break the framing. */
static const ot_http_answer *sound(const ot_http_answer *a)
{
    static const ot_http_answer bad_head = {.status = 500};
    const ot_http_answer trailers = {.fields = a->trailers, .n_fields = a->n_trailers};
    return http_fields_size(a) == SIZE_MAX || http_fields_size(&trailers) == SIZE_MAX ? &bad_head
                                                                                      : a;
}

static bool keep_trailers(h2_stream *st, const ot_http_field *f, size_t n)
{
    st->trailers = ot_arena_alloc(&st->arena, n * sizeof *st->trailers);
    for (size_t i = 0; i < n && st->trailers != NULL; i++) {
        char *name = ot_arena_strdup(&st->arena, f[i].name);
        const char *value = ot_arena_strdup(&st->arena, f[i].value);
        if (name == NULL || value == NULL) {
            return false;
        }
        for (char *p = name; *p != 0; p++) {
            *p = (char)(*p >= 'A' && *p <= 'Z' ? *p + 32 : *p);
        }
        st->trailers[i] = field(name, value);
        st->trailers[i].flags = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE;
    }
    st->n_trailers = n;
    return st->trailers != NULL;
}

/* ---- whole answers */

static bool keep_body(h2_stream *st, const ot_http_answer *a, size_t total)
{
    st->ext = ot_arena_alloc(&st->arena, OT_MAX(a->n_body, (size_t)1) * sizeof *st->ext);
    if (st->ext == NULL) {
        return false;
    }
    size_t n = 0;
    char *copy = NULL;
    if (a->own == OT_HTTP_COPY && (copy = ot_arena_alloc(&st->arena, total)) == NULL) {
        return false;
    }
    for (size_t i = 0; i < a->n_body; i++) {
        struct iovec v = a->body[i];
        if (v.iov_len > 0 && copy != NULL) {
            memcpy(copy, v.iov_base, v.iov_len);
            v.iov_base = copy;
            copy += v.iov_len;
        }
        if (v.iov_len > 0) {
            st->ext[n++] = v;
        }
    }
    st->ext_left = total;
    return true;
}

static bool give(h2_stream *st, const ot_http_answer *a)
{
    size_t total = 0;
    for (size_t i = 0; i < a->n_body; i++) {
        total += a->body[i].iov_len;
    }
    bool has_body = a->status >= 200 && a->status != 204 && a->status != 304;
    bool sends = has_body && st->req.method != OT_HTTP_HEAD && total > 0;
    head h = {.data = sends,
              .trailers = !sends,
              .length = has_body && a->n_trailers == 0 ? total : UINT64_MAX};
    st->complete = true;
    if (!sends) {
        return submit(st, a, &h);
    }
    count_due(st);
    return keep_body(st, a, total) &&
           (a->n_trailers == 0 || keep_trailers(st, a->trailers, a->n_trailers)) &&
           submit(st, a, &h);
}

/* The handler has done its part. */
static void let_go(h2_stream *st)
{
    http_conn *c = st->conn;
    st->state = H2_ANSWERED;
    st->on_event = NULL;
    st->on_data = NULL;
    if (!st->closed) {
        ot_http_req_consumed(&st->req, st->unconsumed);
        http_conn_dirty(c);
        return;
    }
    h2_stream_free(st);
    if (!c->open && c->h2->n_streams == 0) {
        h2_done(c);
        http_conn_free(c);
    }
}

void h2_respond(ot_http_req *req, const ot_http_answer *a)
{
    h2_stream *st = stream_of(req);
    http_conn *c = st->conn;
    c->server->stats.busy--;
    if (a->own == OT_HTTP_RELEASE) {
        st->release = a->release;
        st->release_arg = a->release_arg;
    }
    if (!st->closed && !give(st, sound(a))) {
        c->broken = true;
    }
    if (a->close && c->open) {
        h2_leave(c);
    }
    let_go(st);
}

void h2_refuse(h2_stream *st, int status, const char *reason)
{
    static const char before[] = "{\"error\":\"", after[] = "\"}\n";
    struct iovec v[3] = {{bytes(before), sizeof before - 1},
                         {bytes(reason), strlen(reason)},
                         {bytes(after), sizeof after - 1}};
    ot_http_answer a = {.status = status,
                        .type = "application/json",
                        .body = v,
                        .n_body = OT_COUNT(v),
                        .own = OT_HTTP_ARENA};
    const ot_http_options *o = &st->conn->server->opt;
    if (o->refused != NULL) {
        o->refused(o->arg, &st->req, reason, &a);
    }
    st->due_ns = 0;
    if (!give(st, &a)) {
        st->conn->broken = true;
    }
    let_go(st);
}

/* ---- answers in pieces */

void h2_stream_begin(ot_http_req *req, const ot_http_answer *a, ot_loop_fn *on_event, void *arg)
{
    h2_stream *st = stream_of(req);
    http_conn *c = st->conn;
    st->on_event = on_event;
    st->on_event_arg = arg;
    st->pieces = true;
    if (st->closed) {
        if (on_event != NULL) {
            st->event_due = c->event_due = true;
            http_conn_dirty(c);
        }
        return;
    }
    const head h = {.data = req->method != OT_HTTP_HEAD, .length = UINT64_MAX};
    const ot_http_answer *good = sound(a);
    if (!submit(st, good, &h)) {
        c->broken = true;
    }
    http_conn_dirty(c);
}

static void more(h2_stream *st)
{
    http_conn *c = st->conn;
    if (st->deferred) {
        st->deferred = false;
        if (nghttp2_is_fatal(nghttp2_session_resume_data(c->h2->session, st->id))) {
            c->broken = true;
        }
    }
    http_conn_dirty(c);
}

/* Room in the stream's buffer. */
static bool out_room(h2_stream *st, size_t n)
{
    http_buf *b = &st->out;
    if (b->cap - b->at - b->len >= n) {
        return true;
    }
    if (b->at > 0) {
        memmove(b->data, b->data + b->at, b->len);
        b->at = 0;
    }
    size_t cap = OT_MAX(b->cap * 2, b->len + n);
    return b->cap - b->len >= n || http_buf_resize(st->conn->server, b, cap);
}

ot_rc h2_stream_write(ot_http_req *req, const void *p, size_t n)
{
    h2_stream *st = stream_of(req);
    http_conn *c = st->conn;
    if (st->closed || req->cancelled || c->broken) {
        return OT_CANCELLED;
    }
    if (n == 0 || req->method == OT_HTTP_HEAD) {
        return OT_OK;
    }
    if (st->out.len > 0 && st->out.len + n > c->server->opt.stream_buffer_bytes) {
        st->full = true;
        return OT_EXHAUSTED;
    }
    if (!out_room(st, n)) {
        c->broken = true;
        http_conn_dirty(c);
        return OT_CANCELLED;
    }
    memcpy(st->out.data + st->out.at + st->out.len, p, n);
    st->out.len += n;
    count_due(st);
    more(st);
    return OT_OK;
}

void h2_stream_end(ot_http_req *req, const ot_http_field *trailers, size_t n)
{
    h2_stream *st = stream_of(req);
    http_conn *c = st->conn;
    const ot_http_answer t = {.fields = trailers, .n_fields = n};
    c->server->stats.busy--;
    st->complete = true;
    if (!st->closed) {
        if (n > 0 && (http_fields_size(&t) == SIZE_MAX || !keep_trailers(st, trailers, n))) {
            /* An end without them would look like success. */
            st->n_trailers = 0;
            c->broken |=
                nghttp2_submit_rst_stream(c->h2->session, 0, st->id, NGHTTP2_INTERNAL_ERROR) != 0;
        }
        more(st);
    }
    let_go(st);
}
