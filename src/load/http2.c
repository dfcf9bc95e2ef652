/* gRPC over HTTP/2 as a wire of the engine: unary calls, many at once on a
 * connection. */
#include "base/mem.h"
#include "codec/grpc.h"
#include "load/engine_internal.h"
#include "load/reply.h"

#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <string.h>

#define READ_BYTES 65536
#define WINDOW (16 << 20)

/* What has come for a flight. */
typedef struct stream {
    ot_load_flight *flight; /* NULL: none */
    int status, grpc_status;
    ot_str head; /* as ot_load_answer has it */
    ot_str body;
    const ot_str *out;
    size_t sent;
    bool too_much;
} stream;

typedef struct http2 {
    nghttp2_session *session;
    stream *streams; /* one a flight */
    ot_str out;
    size_t out_at;
} http2;

static stream *stream_of(ot_load_conn *c, const ot_load_flight *f)
{
    http2 *h = c->state;
    return &h->streams[f - c->flights];
}

static stream *find(nghttp2_session *session, int32_t id)
{
    return nghttp2_session_get_stream_user_data(session, id);
}

/* ---- what nghttp2 calls */

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *arg)
{
    (void)flags;
    (void)arg;
    stream *s = find(session, frame->hd.stream_id);
    if (s == NULL) {
        return 0;
    }
    if (name_len == 7 && memcmp(name, ":status", 7) == 0 && value_len == 3) {
        s->status = (value[0] - '0') * 100 + (value[1] - '0') * 10 + (value[2] - '0');
    } else if (name_len == 11 && memcmp(name, "grpc-status", 11) == 0 && value_len <= 2 &&
               value_len > 0) {
        s->grpc_status = value[0] - '0';
        s->grpc_status = value_len == 2 ? s->grpc_status * 10 + value[1] - '0' : s->grpc_status;
    }
    if (s->head.len < OT_LOAD_HEAD_MAX) {
        ot_str_add(&s->head, name, name_len);
        ot_str_adds(&s->head, ": ");
        ot_str_add(&s->head, value, value_len);
        ot_str_adds(&s->head, "\r\n");
    }
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
                   void *arg)
{
    (void)flags;
    (void)arg;
    stream *s = find(session, id);
    if (s != NULL && n > OT_LOAD_BODY_MAX - OT_MIN(s->body.len, (size_t)OT_LOAD_BODY_MAX)) {
        s->too_much = true;
    } else if (s != NULL) {
        ot_str_add(&s->body, p, n);
    }
    return 0;
}

/* The one message of the answer, or what grpc-message says; false when it is neither. */
static bool take_body(stream *s, ot_slice *out)
{
    ot_grpc_frame f;
    ot_error err;
    if (s->grpc_status != 0) {
        *out = ot_load_reply_field(s->head.data, s->head.len, "grpc-message");
        return s->grpc_status > 0;
    }
    if (s->too_much || s->body.failed || s->head.failed ||
        ot_grpc_frame_read(s->body.data, s->body.len, OT_GRPC_IDENTITY, OT_LOAD_BODY_MAX, &f,
                           &err) != OT_OK ||
        f.size == 0 || f.size != s->body.len) {
        return false;
    }
    *out = (ot_slice){f.p, f.n};
    return true;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t error, void *arg)
{
    ot_load_conn *c = arg;
    stream *s = find(session, id);
    if (s == NULL || s->flight == NULL) {
        return 0;
    }
    ot_load_flight *f = s->flight;
    ot_load_answer a = {
        .status = s->status, .grpc_status = s->grpc_status, .head = {s->head.data, s->head.len}};
    s->flight = NULL;
    if (error == NGHTTP2_REFUSED_STREAM) {
        ot_load_ended(c, f, OT_LOAD_REFUSED);
    } else if (s->grpc_status < 0 && error != NGHTTP2_NO_ERROR) {
        ot_load_ended(c, f, OT_LOAD_BROKEN);
    } else if (take_body(s, &a.body)) {
        ot_load_answered(c, f, &a);
    } else {
        ot_load_ended(c, f, OT_LOAD_MALFORMED);
    }
    return 0;
}

static ssize_t read_body(nghttp2_session *session, int32_t id, uint8_t *buf, size_t cap,
                         uint32_t *flags, nghttp2_data_source *source, void *arg)
{
    (void)session;
    (void)id;
    (void)arg;
    stream *s = source->ptr;
    size_t n = OT_MIN(cap, s->out->len - s->sent);
    memcpy(buf, s->out->data + s->sent, n);
    s->sent += n;
    if (s->sent == s->out->len) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    return (ssize_t)n;
}

/* ---- the wire */

static bool make_session(ot_load_conn *c, http2 *h)
{
    nghttp2_session_callbacks *calls;
    if (nghttp2_session_callbacks_new(&calls) != 0) {
        return false;
    }
    nghttp2_session_callbacks_set_on_header_callback(calls, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(calls, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(calls, on_stream_close);
    int rc = nghttp2_session_client_new(&h->session, calls, c);
    nghttp2_session_callbacks_del(calls);
    nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
                                         {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW}};
    return rc == 0 &&
           nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, settings, OT_COUNT(settings)) ==
               0 &&
           nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0, WINDOW) == 0;
}

static bool writable2(ot_load_conn *c)
{
    http2 *h = c->state;
    for (;;) {
        if (h->out_at == h->out.len) {
            const uint8_t *p;
            ssize_t n;
            h->out_at = 0;
            ot_str_clear(&h->out);
            while (h->out.len < READ_BYTES && (n = nghttp2_session_mem_send(h->session, &p)) != 0) {
                if (n < 0) {
                    return false;
                }
                ot_str_add(&h->out, p, (size_t)n);
            }
        }
        if (h->out.len == 0 || h->out.failed) {
            c->wants_write = false;
            return !h->out.failed;
        }
        struct iovec iov = {h->out.data + h->out_at, h->out.len - h->out_at};
        ssize_t k = ot_load_write(c, &iov, 1);
        if (k < 0) {
            c->wants_write = errno == EAGAIN;
            return true; /* a connection that broke shows when it is read */
        }
        h->out_at += (size_t)k;
    }
}

static ot_rc open2(ot_load_conn *c, ot_error *err)
{
    unsigned n = ot_load_options_of(c->engine)->streams;
    http2 *h = ot_calloc(1, sizeof *h);
    c->state = h;
    if (h != NULL) {
        ot_str_init(&h->out);
        h->streams = ot_calloc(n, sizeof *h->streams);
    }
    for (unsigned i = 0; h != NULL && h->streams != NULL && i < n; i++) {
        ot_str_init(&h->streams[i].head);
        ot_str_init(&h->streams[i].body);
    }
    if (h == NULL || h->streams == NULL || !make_session(c, h)) {
        return ot_fail(err, OT_EXHAUSTED, "load: out of memory for a connection");
    }
    (void)writable2(c);
    return OT_OK;
}

static void close2(ot_load_conn *c)
{
    http2 *h = c->state;
    if (h == NULL) {
        return;
    }
    nghttp2_session_del(h->session);
    for (unsigned i = 0; h->streams != NULL && i < ot_load_options_of(c->engine)->streams; i++) {
        ot_str_done(&h->streams[i].head);
        ot_str_done(&h->streams[i].body);
    }
    ot_str_done(&h->out);
    ot_free(h->streams);
    ot_free(h);
    c->state = NULL;
}

static nghttp2_nv field(const char *name, const char *value)
{
    union {
        const char *in;
        uint8_t *out;
    } n = {.in = name}, v = {.in = value};
    return (nghttp2_nv){n.out, v.out, strlen(name), strlen(value),
                        NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE};
}

static void send2(ot_load_conn *c, ot_load_flight *f, const ot_load_request *r)
{
    http2 *h = c->state;
    stream *s = stream_of(c, f);
    bool tls = ot_load_options_of(c->engine)->tls != NULL;
    ot_str_clear(&s->head);
    ot_str_addc(&s->head, '\n'); /* the first line, which HTTP/1.1 has */
    ot_str_clear(&s->body);
    s->status = 0;
    s->grpc_status = -1;
    s->too_much = false;
    s->out = &r->body;
    s->sent = 0;
    s->flight = f;
    nghttp2_nv fields[] = {
        field(":method", "POST"), field(":scheme", tls ? "https" : "http"),
        field(":path", r->path),  field(":authority", r->head.data),
        field("te", "trailers"),  field("content-type", "application/grpc"),
    };
    nghttp2_data_provider body = {.source = {.ptr = s}, .read_callback = read_body};
    f->stream = nghttp2_submit_request(h->session, NULL, fields, OT_COUNT(fields), &body, s);
    if (f->stream < 0) { /* no more stream ids: the connection is used up */
        s->flight = NULL;
        ot_load_ended(c, f, OT_LOAD_BROKEN);
    }
    (void)writable2(c);
}

static bool readable2(ot_load_conn *c)
{
    http2 *h = c->state;
    static _Thread_local uint8_t buf[READ_BYTES];
    ssize_t k = ot_load_read(c, buf, sizeof buf);
    if (k < 0 && errno == EAGAIN) {
        return true;
    }
    if (k <= 0 || nghttp2_session_mem_recv(h->session, buf, (size_t)k) < 0 || !writable2(c)) {
        return false;
    }
    return nghttp2_session_want_read(h->session) != 0 &&
           nghttp2_session_check_request_allowed(h->session) != 0;
}

static void cancel2(ot_load_conn *c, ot_load_flight *f)
{
    http2 *h = c->state;
    stream_of(c, f)->flight = NULL;
    (void)nghttp2_session_set_stream_user_data(h->session, f->stream, NULL);
    (void)nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, f->stream, NGHTTP2_CANCEL);
    (void)writable2(c);
}

const ot_load_wire ot_load_http2 = {
    .open = open2,
    .send = send2,
    .readable = readable2,
    .writable = writable2,
    .cancel = cancel2,
    .close = close2,
};
