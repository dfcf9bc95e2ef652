/* A connection's reading side: buffers, requests, end of connection. */
#include "net/h2.h"

#include "base/disk.h"
#include "base/sock.h"

#include <errno.h>
#include <string.h>

#define LINGER_READ 16384

static void on_ready(void *arg, unsigned events);

static uint64_t after_ms(const ot_http_server *s, uint32_t ms)
{
    return ot_loop_now_ns(s->loop) + (uint64_t)ms * 1000000u;
}

static http_conn *conn_get(ot_http_server *s)
{
    http_conn *c = s->free_conns;
    if (c == NULL) {
        c = ot_calloc(1, sizeof *c);
        if (c == NULL) {
            return NULL;
        }
        c->server = s;
        ot_arena_init(&c->arena, HTTP_ARENA_CHUNK, HTTP_ARENA_LIMIT);
        s->free_conns = c;
        s->n_free++;
    }
    if (c->parser == NULL && (c->parser = ot_calloc(1, sizeof *c->parser)) == NULL) {
        return NULL;
    }
    s->free_conns = c->next;
    s->n_free--;
    return c;
}

/* Everything but buffers, arena and the dirty list, which may still name this connection. */
static void conn_init(http_conn *c, int fd)
{
    ot_http_server *s = c->server;
    c->req = (ot_http_req){.fd = fd, .arena = &c->arena};
    c->state = HTTP_READ;
    c->open = c->fresh = true;
    c->processing = c->reparse = c->started = c->head_seen = c->closing = c->linger = false;
    c->broken = c->eof = c->chunked_out = c->stream_full = c->event_due = false;
    c->in.at = c->in.len = c->out.at = c->out.len = 0;
    c->ext = NULL;
    c->n_ext = 0;
    c->release = c->on_event = NULL;
    c->read_due_ns = after_ms(s, s->opt.idle_ms);
    c->write_due_ns = 0;
    c->idle_since_ns = ot_loop_now_ns(s->loop);
    ot_http_parser_init(c->parser, &s->opt.limits);
}

static ot_rc prepare(http_conn *c, int fd, ot_tls *tls, ot_error *err)
{
    c->tls = tls != NULL ? ot_tls_conn_new(tls, fd) : NULL;
    if (tls != NULL && c->tls == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "http server: out of memory for TLS");
    }
    return ot_loop_watch(c->server->loop, &c->watch, fd, OT_LOOP_READ, on_ready, c, err);
}

ot_rc http_conn_open(ot_http_server *s, int fd, ot_tls *tls, ot_error *err)
{
    http_conn *c = conn_get(s);
    if (c == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "http server: out of memory for a connection");
    }
    ot_rc rc = prepare(c, fd, tls, err);
    if (rc != OT_OK) {
        ot_tls_conn_free(c->tls);
        c->tls = NULL;
        c->next = s->free_conns;
        s->free_conns = c;
        s->n_free++;
        return rc;
    }
    conn_init(c, fd);
    if (tls != NULL) {
        c->read_due_ns = after_ms(s, s->opt.head_ms);
    }
    c->prev = NULL;
    c->next = s->conns;
    if (s->conns != NULL) {
        s->conns->prev = c;
    }
    s->conns = c;
    s->n_used++;
    s->stats.conns++;
    s->stats.accepted++;
    return OT_OK;
}

void http_conn_free(http_conn *c)
{
    ot_http_server *s = c->server;
    if (c->prev != NULL) {
        c->prev->next = c->next;
    } else {
        s->conns = c->next;
    }
    if (c->next != NULL) {
        c->next->prev = c->prev;
    }
    c->in.len = c->out.len = 0;
    c->n_ext = 0;
    c->event_due = false;
    ot_arena_reset(&c->arena);
    http_conn_trim(c);
    c->next = s->free_conns;
    s->free_conns = c;
    s->n_free++;
    s->n_used--;
    http_server_resume(s);
}

void http_conn_destroy(http_conn *c)
{
    http_kit k = {c->in, c->out, c->arena};
    http_kit_done(c->server, &k);
    ot_free(c->parser);
    ot_free(c);
}

void http_conn_dirty(http_conn *c)
{
    if (!c->dirty) {
        c->dirty = true;
        c->dirty_next = c->server->dirty;
        c->server->dirty = c;
    }
}

void http_conn_close(http_conn *c)
{
    ot_loop_unwatch(c->server->loop, &c->watch);
    if (c->tls != NULL) {
        ot_tls_conn_bye(c->tls);
        ot_tls_conn_free(c->tls);
        c->tls = NULL;
    }
    ot_fd_close(&c->req.fd);
    c->open = false;
    c->server->stats.conns--;
    if (c->release != NULL) {
        ot_loop_fn *fn = c->release;
        c->release = NULL;
        fn(c->release_arg);
    }
    if (c->h2 != NULL) {
        if (h2_gone(c)) {
            h2_done(c);
            http_conn_free(c);
        }
        return;
    }
    if (c->state != HTTP_BUSY && c->state != HTTP_STREAM) {
        http_conn_free(c);
        return;
    }
    c->req.cancelled = true;
    c->read_due_ns = c->write_due_ns = 0;
    if (c->state == HTTP_STREAM && c->on_event != NULL) {
        c->event_due = true;
        http_conn_dirty(c);
    }
}

static size_t free_space(const http_buf *b)
{
    return b->cap - b->at - b->len;
}

/* Room for more input of the request being read: moves it to the front, then grows. */
static bool make_room(http_conn *c)
{
    http_buf *b = &c->in;
    if (b->cap == 0) {
        http_conn_equip(c);
    }
    if (b->len == 0) {
        b->at = 0;
    }
    if (free_space(b) >= HTTP_IN_MIN / 2) {
        return true;
    }
    if (b->at > 0) {
        memmove(b->data, b->data + b->at, b->len);
        b->at = 0;
    }
    if (b->cap != 0 && free_space(b) >= b->cap / 8) {
        return true;
    }
    size_t cap = b->cap != 0 ? b->cap * 2 : HTTP_IN_MIN;
    if (c->parser->head_done && !c->parser->chunked) {
        size_t whole = ot_http_parser_size(c->parser);
        if (whole <= b->cap && free_space(b) > 0) {
            return true;
        }
        cap = whole > b->cap && whole < cap ? whole : cap;
    }
    ot_http_server *s = c->server;
    if (s->memory + (cap - b->cap) > s->opt.memory_max_bytes || !http_buf_resize(s, b, cap)) {
        s->stats.refused_memory++;
        http_conn_refuse(c, 503, "the server is out of memory for requests; try again later");
        return false;
    }
    return true;
}

/* How much of the answers is not sent yet decides whether another request is started. */
static bool may_start(const http_conn *c)
{
    return c->state == HTTP_READ && !c->closing && !c->broken && c->out.len < HTTP_OUT_SOFT;
}

static bool wants_read(const http_conn *c)
{
    if (c->eof) {
        return false;
    }
    if (c->state == HTTP_READ) {
        return may_start(c);
    }
    if (c->state == HTTP_H2) {
        return c->out.len < HTTP_OUT_SOFT;
    }
    return c->state == HTTP_LINGER || free_space(&c->in) > 0;
}

bool http_conn_more_in(const http_conn *c)
{
    return c->tls != NULL && wants_read(c) && ot_tls_conn_pending(c->tls);
}

void http_conn_watch(http_conn *c)
{
    bool read = wants_read(c);
    bool write =
        c->out.len > 0 || c->n_ext > 0 || (c->tls != NULL && ot_tls_conn_wants_write(c->tls));
    if (http_conn_more_in(c)) {
        http_conn_dirty(c);
    }
    ot_loop_rewatch(c->server->loop, &c->watch,
                    (read ? OT_LOOP_READ : 0u) | (write ? OT_LOOP_WRITE : 0u));
}

static void fill_request(http_conn *c)
{
    const ot_http_parser *p = c->parser;
    ot_http_req *r = &c->req;
    r->method = p->method;
    r->version = p->is_http10 ? 10 : 11;
    r->method_text = ot_http_parser_text(p, p->method_text);
    r->path = ot_http_parser_text(p, p->path);
    r->query = ot_http_parser_text(p, p->query);
    r->host = ot_http_parser_text(p, p->authority);
    if (r->host.p == NULL) {
        r->host = ot_http_parser_header(p, "host");
    }
    r->body = (ot_slice){0};
    r->user = r->note = NULL;
    r->answered = NULL;
    r->sent = 0;
}

/* Once a head is complete: the limit of its body, and whether the client waits for our word. */
static bool check_head(http_conn *c, bool complete)
{
    ot_http_server *s = c->server;
    c->head_seen = true;
    c->read_due_ns = after_ms(s, s->opt.progress_ms);
    c->read_moved = 0;
    if (s->opt.body_max != NULL) {
        fill_request(c);
        uint64_t max = s->opt.body_max(s->opt.arg, &c->req);
        c->parser->limits.body_max = OT_MIN(max, s->opt.limits.body_max);
        const ot_http_parser *p = c->parser;
        /* The chunk that has begun was let in under the wider limit. */
        if (p->length > p->limits.body_max ||
            (p->chunked && p->chunks.left > p->limits.body_max - p->length)) {
            http_conn_refuse(c, 413, ot_http_body_too_large);
            return false;
        }
    }
    if (c->parser->expect_continue && !complete) {
        static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
        if (http_out_reserve(c, sizeof go_on - 1)) {
            http_out_add(c, go_on, sizeof go_on - 1);
        }
        http_conn_dirty(c);
    }
    return true;
}

static void dispatch(http_conn *c)
{
    ot_http_server *s = c->server;
    fill_request(c);
    c->req.body =
        (ot_slice){.p = c->in.data + c->in.at + c->parser->body_at, .n = (size_t)c->parser->length};
    c->state = HTTP_BUSY;
    c->read_due_ns = 0;
    s->stats.requests++;
    s->stats.busy++;
    s->handler_called = true;
    s->opt.handler(s->opt.arg, &c->req);
}

/* Whether the first bytes are HTTP/1's; not, as far as they are, HTTP/2's preface. */
static bool is_http1(http_conn *c)
{
    size_t n = OT_MIN(c->in.len, sizeof H2_PREFACE - 1);
    if (memcmp(c->in.data + c->in.at, H2_PREFACE, n) != 0) {
        c->fresh = false;
        return true;
    }
    if (n < sizeof H2_PREFACE - 1) {
        return false;
    }
    c->fresh = false;
    if (!h2_start(c)) {
        http_conn_refuse(c, 503, "the server is out of memory for connections; try again later");
        return false;
    }
    h2_feed(c, c->in.data + c->in.at, c->in.len);
    (void)http_buf_resize(c->server, &c->in, 0);
    return false;
}

/* Reads one request from the input; false: there is none. */
static bool next_request(http_conn *c)
{
    if (c->in.len == 0) {
        return false;
    }
    ot_http_server *s = c->server;
    if (!c->started) {
        c->started = true;
        c->req.start_ns = ot_loop_now_ns(s->loop);
        c->read_due_ns = after_ms(s, s->opt.head_ms);
    }
    if (c->fresh && !is_http1(c)) {
        return false;
    }
    ot_http_step step = ot_http_parser_feed(c->parser, c->in.data + c->in.at, &c->in.len);
    if (step == OT_HTTP_BAD) {
        s->stats.bad_requests++;
        http_conn_refuse(c, c->parser->status, c->parser->reason);
        return false;
    }
    if (c->parser->head_done && !c->head_seen && !check_head(c, step == OT_HTTP_DONE)) {
        s->stats.bad_requests++;
        return false;
    }
    if (step != OT_HTTP_DONE) {
        return false;
    }
    dispatch(c);
    return true;
}

void http_conn_process(http_conn *c)
{
    c->reparse = false;
    c->processing = true;
    while (may_start(c) && next_request(c)) {
    }
    c->processing = false;
    if (c->state == HTTP_READ && c->out.len >= HTTP_OUT_SOFT) {
        c->reparse = true; /* goes on when the answers have left */
    } else if (c->state == HTTP_READ && c->eof && !c->closing) {
        c->closing = true;
        http_conn_dirty(c);
    }
}

void http_conn_over(http_conn *c)
{
    ot_http_server *s = c->server;
    size_t size = ot_http_parser_size(c->parser);
    c->in.at += size;
    c->in.len -= size;
    ot_http_parser_reset(c->parser);
    c->parser->limits.body_max = s->opt.limits.body_max;
    ot_arena_reset(&c->arena);
    c->state = HTTP_READ;
    c->started = c->head_seen = false;
    c->idle_since_ns = ot_loop_now_ns(s->loop);
    c->read_due_ns = after_ms(s, s->opt.idle_ms);
    c->req.cancelled = false;
    if (!c->processing) {
        c->reparse = c->in.len > 0 || c->eof;
        http_conn_dirty(c);
    }
}

ssize_t http_conn_recv(http_conn *c, void *p, size_t n)
{
    return c->tls != NULL ? ot_tls_conn_read(c->tls, p, n) : ot_sock_read(c->req.fd, p, n);
}

static void discard(http_conn *c)
{
    char scratch[LINGER_READ];
    ssize_t k = http_conn_recv(c, scratch, sizeof scratch);
    if (k == 0 || (k < 0 && errno != EAGAIN)) {
        http_conn_close(c);
    }
}

/* Reads what is there once; false: the connection was closed. */
static bool read_some(http_conn *c)
{
    if (c->state == HTTP_READ && !make_room(c)) {
        return true; /* refused: the answer is on its way */
    }
    size_t room = free_space(&c->in);
    if (room == 0 || c->eof) {
        return true;
    }
    ssize_t k = http_conn_recv(c, c->in.data + c->in.at + c->in.len, room);
    if (k < 0) {
        if (errno == EAGAIN) {
            return true;
        }
        http_conn_close(c);
        return false;
    }
    if (k == 0) {
        c->eof = true;
        if (c->state == HTTP_STREAM) {
            http_conn_close(c);
            return false;
        }
        c->req.cancelled = c->state != HTTP_READ;
        return true;
    }
    c->in.len += (size_t)k;
    c->read_moved += (size_t)k;
    c->server->stats.bytes_in += (uint64_t)k;
    return true;
}

/* False: it failed, and the connection was closed. */
static bool shake_hands(http_conn *c)
{
    ot_http_server *s = c->server;
    ot_tls_step step = ot_tls_conn_handshake(c->tls);
    if (step == OT_TLS_WAIT) {
        return true;
    }
    if (step == OT_TLS_FAILED) {
        s->stats.bad_requests++;
        http_conn_close(c);
        return false;
    }
    c->read_due_ns = after_ms(s, s->opt.idle_ms);
    if (ot_tls_conn_is_h2(c->tls)) {
        c->fresh = false;
        if (!h2_start(c)) {
            http_conn_close(c);
            return false;
        }
    }
    return true;
}

void http_conn_readable(http_conn *c)
{
    if (c->state == HTTP_LINGER) {
        discard(c);
        return;
    }
    if (c->state == HTTP_H2 ? !h2_readable(c) : !read_some(c)) {
        return;
    }
    if (c->state == HTTP_READ) {
        http_conn_process(c);
    }
    if (!c->dirty) { /* else the flush hook does it */
        http_conn_watch(c);
    }
}

static void on_ready(void *arg, unsigned events)
{
    http_conn *c = arg;
    bool reads = events & OT_LOOP_READ;
    if ((events & OT_LOOP_HANGUP) &&
        (!reads || (c->state != HTTP_READ && c->state != HTTP_LINGER))) {
        http_conn_close(c);
        return;
    }
    if (events & OT_LOOP_WRITE) {
        http_conn_dirty(c);
    }
    if (c->tls != NULL && !ot_tls_conn_ready(c->tls)) {
        if (!shake_hands(c)) {
            return;
        }
        reads = ot_tls_conn_ready(c->tls);
    }
    if (reads) {
        http_conn_readable(c);
    } else if (!c->dirty) { /* else the flush hook does it */
        http_conn_watch(c);
    }
}

ot_slice ot_http_req_header(const ot_http_req *req, const char *name)
{
    if (req->version == 20) {
        return h2_header(req, name);
    }
    return ot_http_parser_header(((const http_conn *)(const void *)req)->parser, name);
}

size_t ot_http_req_header_count(const ot_http_req *req)
{
    return req->version == 20 ? ((const h2_stream *)(const void *)req)->n_fields
                              : ((const http_conn *)(const void *)req)->parser->n_headers;
}

void ot_http_req_header_at(const ot_http_req *req, size_t i, ot_slice *name_out,
                           ot_slice *value_out)
{
    if (req->version == 20) {
        const h2_field *f = &((const h2_stream *)(const void *)req)->fields[i];
        *name_out = f->name;
        *value_out = f->value;
        return;
    }
    const ot_http_parser *p = ((const http_conn *)(const void *)req)->parser;
    *name_out = (ot_slice){.p = p->base + p->headers[i].name.at, .n = p->headers[i].name.n};
    *value_out = (ot_slice){.p = p->base + p->headers[i].value.at, .n = p->headers[i].value.n};
}
