/* Streams of an HTTP/2 connection: their heads, their bodies, when they are handed over. */
#include "net/h2.h"

#include <string.h>

#define BODY_MIN 4096
#define BODY_AT_ONCE 65536 /* of an announced length that is reserved before it has come */
#define FIELDS_START 24
#define FIELD_COST 32 /* RFC 9113, 6.5.2: what a field counts beside its bytes */
#define NS_PER_MS UINT64_C(1000000)

static uint64_t progress_due(const ot_http_server *s)
{
    return ot_loop_now_ns(s->loop) + s->opt.progress_ms * NS_PER_MS;
}

static h2_stream *stream_of(nghttp2_session *session, int32_t id)
{
    return nghttp2_session_get_stream_user_data(session, id);
}

/* ---- life */

static h2_stream *stream_new(http_conn *c, int32_t id)
{
    ot_http_server *s = c->server;
    h2_stream *st = s->h2_free;
    if (st != NULL) {
        s->h2_free = st->next;
    } else {
        st = ot_alloc(sizeof *st);
        if (st == NULL) {
            return NULL;
        }
        ot_arena_init(&st->arena, HTTP_ARENA_CHUNK, HTTP_ARENA_LIMIT);
        st->in = (http_buf){0};
    }
    ot_arena arena = st->arena;
    http_buf in = st->in;
    *st = (h2_stream){.conn = c, .id = id, .arena = arena, .in = in};
    st->req = (ot_http_req){
        .version = 20, .fd = c->req.fd, .arena = &st->arena, .start_ns = ot_loop_now_ns(s->loop)};
    st->next = c->h2->streams;
    if (st->next != NULL) {
        st->next->prev = st;
    }
    c->h2->streams = st;
    c->h2->n_streams++;
    return st;
}

void h2_stream_destroy(h2_stream *st)
{
    ot_arena_done(&st->arena);
    ot_free(st->in.data);
    ot_free(st);
}

void h2_stream_free(h2_stream *st)
{
    http_conn *c = st->conn;
    ot_http_server *s = c->server;
    if (st->release != NULL) {
        st->release(st->release_arg);
    }
    if (c->h2->reading == st) {
        c->h2->reading = NULL;
    }
    *(st->prev != NULL ? &st->prev->next : &c->h2->streams) = st->next;
    if (st->next != NULL) {
        st->next->prev = st->prev;
    }
    (void)http_buf_resize(s, &st->out, 0);
    if (st->in.cap > HTTP_KEEP_MAX) {
        (void)http_buf_resize(s, &st->in, 0);
    }
    st->in.at = st->in.len = 0;
    ot_arena_reset(&st->arena);
    st->next = s->h2_free;
    s->h2_free = st;
    if (--c->h2->n_streams == 0) {
        c->idle_since_ns = ot_loop_now_ns(s->loop);
        if (c->open && !c->h2->pumping) { /* else http_conn_flush looks itself */
            http_conn_dirty(c);           /* it may have waited for this to end */
        }
    }
}

void h2_stream_gone(h2_stream *st)
{
    st->closed = true;
    st->due_ns = 0;
    if (st->state != H2_HELD) {
        h2_stream_free(st);
        return;
    }
    st->req.cancelled = true;
    if (st->on_event != NULL || st->on_data != NULL) {
        st->event_due = st->conn->event_due = true;
        http_conn_dirty(st->conn);
    }
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *arg)
{
    (void)code;
    (void)arg;
    h2_stream *st = stream_of(session, id);
    if (st != NULL) {
        h2_stream_gone(st);
    }
    return 0;
}

/* ---- heads */

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *f, void *arg)
{
    http_conn *c = arg;
    h2_conn *h = c->h2;
    const ot_http_server *s = c->server;
    h->head_since_ns = ot_loop_now_ns(s->loop);
    h->reading = NULL;
    if (f->headers.cat != NGHTTP2_HCAT_REQUEST) {
        h->reading = stream_of(session, f->hd.stream_id);
        return 0;
    }
    /* Streams that a client has reset still cost what their handlers do. */
    h2_stream *st = h->n_streams < 2 * s->opt.streams_max ? stream_new(c, f->hd.stream_id) : NULL;
    if (st == NULL) {
        return nghttp2_submit_rst_stream(session, 0, f->hd.stream_id, NGHTTP2_REFUSED_STREAM) == 0
                   ? 0
                   : NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    h->reading = st;
    return nghttp2_session_set_stream_user_data(session, f->hd.stream_id, st) == 0
               ? 0
               : NGHTTP2_ERR_CALLBACK_FAILURE;
}

static bool add_field(h2_stream *st, ot_slice name, ot_slice value)
{
    if (st->n_fields == st->fields_cap) {
        size_t cap = st->fields_cap != 0 ? st->fields_cap * 2 : FIELDS_START;
        h2_field *grown = ot_arena_alloc(&st->arena, cap * sizeof *grown);
        if (grown == NULL) {
            return false;
        }
        if (st->n_fields > 0) {
            memcpy(grown, st->fields, st->n_fields * sizeof *grown);
        }
        st->fields = grown;
        st->fields_cap = cap;
    }
    st->fields[st->n_fields++] = (h2_field){name, value};
    return true;
}

#define IS(z, literal)                                                                             \
    ((z).n == sizeof(literal) - 1 && memcmp((z).p, literal, sizeof(literal) - 1) == 0)

/* nghttp2 has checked which of them may come, in what order and how often. */
static void add_pseudo(h2_stream *st, ot_slice name, ot_slice value)
{
    ot_http_req *r = &st->req;
    if (IS(name, ":path")) {
        const char *mark = memchr(value.p, '?', value.n);
        r->path = value;
        if (mark != NULL) {
            r->path.n = (size_t)(mark - value.p);
            r->query = (ot_slice){.p = mark + 1, .n = value.n - r->path.n - 1};
        }
    } else if (IS(name, ":method")) {
        r->method_text = value;
        r->method = ot_http_method_of(value);
    } else if (IS(name, ":authority")) {
        r->host = value;
    }
}

static int on_header(nghttp2_session *session, const nghttp2_frame *f, const uint8_t *name,
                     size_t n, const uint8_t *value, size_t n_value, uint8_t flags, void *arg)
{
    (void)session;
    (void)flags;
    http_conn *c = arg;
    const ot_http_limits *limits = &c->server->opt.limits;
    h2_stream *st = c->h2->reading;
    if (st == NULL) {
        return 0;
    }
    st->head_bytes += n + n_value + FIELD_COST;
    /* Some over the limit is told so; a bomb is not unpacked to its end. */
    if (st->head_bytes / 4 > limits->head_max) {
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    if (f->headers.cat != NGHTTP2_HCAT_REQUEST) {
        return 0; /* trailers: nothing asks for them */
    }
    if (st->head_bytes > limits->head_max || st->n_fields >= limits->headers_max) {
        st->too_large = true;
        return 0;
    }
    char *p = ot_arena_alloc(&st->arena, n + n_value + 2);
    if (p == NULL) {
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    memcpy(p, name, n);
    p[n] = 0;
    memcpy(p + n + 1, value, n_value);
    p[n + 1 + n_value] = 0;
    ot_slice key = {.p = p, .n = n}, text = {.p = p + n + 1, .n = n_value};
    if (*p == ':') {
        add_pseudo(st, key, text);
        return 0;
    }
    return add_field(st, key, text) ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

ot_slice h2_header(const ot_http_req *req, const char *name)
{
    const h2_stream *st = (const h2_stream *)(const void *)req;
    size_t n = strlen(name);
    for (size_t i = 0; i < st->n_fields; i++) {
        if (st->fields[i].name.n == n && ot_slice_ieq(st->fields[i].name, name)) {
            return st->fields[i].value;
        }
    }
    return (ot_slice){0};
}

static void dispatch(h2_stream *st)
{
    ot_http_server *s = st->conn->server;
    st->state = H2_HELD;
    st->due_ns = 0;
    st->req.body = (ot_slice){.p = st->in.data, .n = st->in.len};
    s->stats.requests++;
    s->stats.busy++;
    s->handler_called = true;
    s->opt.handler(s->opt.arg, &st->req);
}

static bool visible(ot_slice z)
{
    size_t i = 0;
    for (uint64_t x; z.n - i >= sizeof x; i += sizeof x) {
        memcpy(&x, z.p + i, sizeof x);
        if (!http_plain8(x, 0x21)) {
            return false;
        }
    }
    for (; i < z.n; i++) {
        if ((unsigned char)z.p[i] <= 0x20 || z.p[i] == 0x7f) {
            return false;
        }
    }
    return true;
}

/* Why the request can't be had; 0: it can. */
static int head_fault(h2_stream *st, const char **reason)
{
    ot_http_req *r = &st->req;
    const ot_http_limits *limits = &st->conn->server->opt.limits;
    if (st->too_large) {
        *reason = "the request head is too large";
        return 431;
    }
    if (r->path.p == NULL) {
        *reason = "CONNECT is not served here";
        return 501;
    }
    if (r->path.n + r->query.n > limits->line_max) {
        *reason = "the request target is too long";
        return 414;
    }
    if (!visible(r->path) || !visible(r->query)) {
        *reason = "the request target holds spaces or control characters";
        return 400;
    }
    return 0;
}

static uint64_t announced(const h2_stream *st)
{
    ot_slice z = h2_header(&st->req, "content-length");
    uint64_t n = 0;
    for (size_t i = 0; i < z.n && i < 19; i++) { /* nghttp2 let only digits through */
        n = n * 10 + (uint64_t)(z.p[i] - '0');
    }
    return n;
}

static void go_on(h2_stream *st)
{
    const char name[] = ":status", value[] = "100";
    union {
        const char *in;
        uint8_t *out;
    } n = {.in = name}, v = {.in = value}; /* nghttp2_nv has no const */
    nghttp2_nv nv = {n.out, v.out, sizeof name - 1, sizeof value - 1, 0};
    if (nghttp2_submit_headers(st->conn->h2->session, 0, st->id, NULL, &nv, 1, NULL) != 0) {
        st->conn->broken = true;
    }
}

/* A head is complete: the limit of its body, and who takes it. */
static void head_done(h2_stream *st)
{
    http_conn *c = st->conn;
    ot_http_server *s = c->server;
    const char *reason = NULL;
    int status = head_fault(st, &reason);
    if (st->req.host.p == NULL) {
        st->req.host = h2_header(&st->req, "host");
    }
    if (status == 0) {
        st->body_max = s->opt.limits.body_max;
        if (s->opt.body_max != NULL) {
            st->body_max = OT_MIN(s->opt.body_max(s->opt.arg, &st->req), st->body_max);
        }
        st->announced = announced(st);
        if (st->announced > st->body_max) {
            status = 413;
            reason = ot_http_body_too_large;
        }
    }
    if (status != 0) {
        s->stats.bad_requests++;
        h2_refuse(st, status, reason);
        return;
    }
    if (!st->recv_end && ot_slice_ieq(h2_header(&st->req, "expect"), "100-continue")) {
        go_on(st);
    }
    st->reads = s->opt.streams != NULL && s->opt.streams(s->opt.arg, &st->req);
    if (st->reads || st->recv_end) {
        dispatch(st);
    } else {
        st->state = H2_BODY;
        st->due_ns = progress_due(s);
    }
}

/* ---- bodies */

static void body_done(h2_stream *st)
{
    st->recv_end = true;
    if (st->state == H2_BODY) {
        dispatch(st);
    } else if (st->on_data != NULL) {
        ot_http_body_fn *on_data = st->on_data;
        st->on_data = NULL;
        on_data(st->on_data_arg, NULL, 0, true);
    }
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *f, void *arg)
{
    http_conn *c = arg;
    if (f->hd.type != NGHTTP2_HEADERS && f->hd.type != NGHTTP2_DATA) {
        return 0;
    }
    if (f->hd.type == NGHTTP2_HEADERS) {
        c->h2->head_since_ns = 0;
    }
    h2_stream *st = stream_of(session, f->hd.stream_id);
    if (st == NULL) {
        return 0;
    }
    bool end = f->hd.flags & NGHTTP2_FLAG_END_STREAM;
    if (f->hd.type == NGHTTP2_HEADERS && f->headers.cat == NGHTTP2_HCAT_REQUEST) {
        st->recv_end = end;
        head_done(st);
    }
    if (end) {
        body_done(st);
    }
    return c->broken ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static bool body_room(h2_stream *st, size_t n)
{
    http_conn *c = st->conn;
    ot_http_server *s = c->server;
    http_buf *b = &st->in;
    if (b->cap - b->len >= n) {
        return true;
    }
    size_t cap = OT_MAX(b->cap * 2, OT_MAX(b->len + n, (size_t)BODY_MIN));
    if (st->announced >= b->len + n && st->announced <= BODY_AT_ONCE) {
        cap = (size_t)st->announced;
    }
    if (s->memory + (cap - b->cap) > s->opt.memory_max_bytes || !http_buf_resize(s, b, cap)) {
        s->stats.refused_memory++;
        h2_refuse(st, 503, "the server is out of memory for requests; try again later");
        return false;
    }
    return true;
}

static void add_body(h2_stream *st, const uint8_t *p, size_t n)
{
    if (n > st->body_max - st->in.len) {
        st->conn->server->stats.bad_requests++;
        h2_refuse(st, 413, ot_http_body_too_large);
    } else if (body_room(st, n)) {
        memcpy(st->in.data + st->in.len, p, n);
        st->in.len += n;
        st->moved += n;
    }
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
                   void *arg)
{
    (void)flags;
    http_conn *c = arg;
    h2_stream *st = stream_of(session, id);
    bool held = st != NULL && st->state == H2_HELD && st->on_data != NULL;
    c->h2->fruitless = 0;
    if (nghttp2_session_consume_connection(session, n) != 0 ||
        (!held && nghttp2_session_consume_stream(session, id, n) != 0)) {
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    if (held) {
        st->unconsumed += n;
        st->on_data(st->on_data_arg, (const char *)p, n, false);
    } else if (st != NULL && st->state == H2_BODY) {
        add_body(st, p, n);
    }
    return c->broken ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

void ot_http_req_read(ot_http_req *req, ot_http_body_fn *on_data_fn, void *arg)
{
    h2_stream *st = (h2_stream *)(void *)req;
    st->on_data = on_data_fn;
    st->on_data_arg = arg;
}

void ot_http_req_consumed(ot_http_req *req, size_t n)
{
    h2_stream *st = (h2_stream *)(void *)req;
    n = OT_MIN(n, st->unconsumed);
    st->unconsumed -= n;
    if (st->closed || n == 0) {
        return;
    }
    if (nghttp2_session_consume_stream(st->conn->h2->session, st->id, n) != 0) {
        st->conn->broken = true;
    }
    http_conn_dirty(st->conn);
}

void h2_stream_callbacks(nghttp2_session_callbacks *cb)
{
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
}
