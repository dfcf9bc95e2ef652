/* An HTTP/2 client over a socket pair of http_fixture.h: nghttp2's client side. */
#ifndef OT_TESTS_H2_CLIENT_H
#define OT_TESTS_H2_CLIENT_H

#include "http_fixture.h"

#include <nghttp2/nghttp2.h>

#define ANSWERS 2200

typedef struct h2_answer {
    int status, heads; /* blocks of fields */
    bool closed, ended_with_head;
    uint32_t code;       /* of the end */
    ot_str body, fields; /* "name: value\n" */
    size_t to_send;      /* bytes of 'x' as the request's body */
    bool hold;           /* the body's end is not sent yet */
} h2_answer;

typedef struct h2_client {
    fixture *f;
    int fd;
    bool eof, goaway;
    int32_t goaway_last;
    uint32_t goaway_code;
    bool no_updates; /* keeps the server's windows shut */
    nghttp2_session *session;
    h2_answer *answers; /* by (stream id - 1) / 2 */
} h2_client;

static inline h2_answer *answer_at(h2_client *c, int32_t id)
{
    return &c->answers[(id - 1) / 2];
}

static inline int client_header(nghttp2_session *s, const nghttp2_frame *f, const uint8_t *name,
                                size_t n, const uint8_t *value, size_t n_value, uint8_t flags,
                                void *arg)
{
    (void)s, (void)flags;
    h2_answer *a = answer_at(arg, f->hd.stream_id);
    if (n == 7 && memcmp(name, ":status", 7) == 0) {
        a->status = atoi((const char *)value);
    }
    ot_str_addf(&a->fields, "%.*s: %.*s\n", (int)n, (const char *)name, (int)n_value,
                (const char *)value);
    return 0;
}

static inline int client_frame(nghttp2_session *s, const nghttp2_frame *f, void *arg)
{
    (void)s;
    h2_client *c = arg;
    if (f->hd.type == NGHTTP2_HEADERS) {
        h2_answer *a = answer_at(c, f->hd.stream_id);
        a->heads++;
        a->ended_with_head = f->hd.flags & NGHTTP2_FLAG_END_STREAM;
    } else if (f->hd.type == NGHTTP2_GOAWAY) {
        c->goaway = true;
        c->goaway_last = f->goaway.last_stream_id;
        c->goaway_code = f->goaway.error_code;
    }
    return 0;
}

static inline int client_data(nghttp2_session *s, uint8_t flags, int32_t id, const uint8_t *p,
                              size_t n, void *arg)
{
    (void)flags;
    h2_client *c = arg;
    ot_str_add(&answer_at(c, id)->body, (const char *)p, n);
    return c->no_updates ? 0 : nghttp2_session_consume(s, id, n);
}

static inline int client_close(nghttp2_session *s, int32_t id, uint32_t code, void *arg)
{
    (void)s;
    answer_at(arg, id)->closed = true;
    answer_at(arg, id)->code = code;
    return 0;
}

static inline h2_client *h2_dial_window(fixture *f, unsigned window)
{
    h2_client *c = calloc(1, sizeof *c);
    c->answers = calloc(ANSWERS, sizeof *c->answers);
    c->f = f;
    c->fd = dial(f);
    nghttp2_session_callbacks *cb;
    nghttp2_option *o;
    nghttp2_session_callbacks_new(&cb);
    nghttp2_option_new(&o);
    nghttp2_option_set_no_auto_window_update(o, 1);
    nghttp2_session_callbacks_set_on_header_callback(cb, client_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, client_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, client_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, client_close);
    nghttp2_session_client_new2(&c->session, cb, c, o);
    nghttp2_session_callbacks_del(cb);
    nghttp2_option_del(o);
    nghttp2_settings_entry e = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, window};
    nghttp2_submit_settings(c->session, 0, &e, 1);
    return c;
}

static inline h2_client *h2_dial(fixture *f)
{
    return h2_dial_window(f, 65535);
}

static inline void h2_hang_up(h2_client *c)
{
    if (c->fd >= 0) {
        close(c->fd);
        c->fd = -1;
    }
    turns(c->f, 3);
}

static inline void h2_free(h2_client *c)
{
    h2_hang_up(c);
    for (int i = 0; i < ANSWERS; i++) {
        ot_str_done(&c->answers[i].body);
        ot_str_done(&c->answers[i].fields);
    }
    nghttp2_session_del(c->session);
    free(c->answers);
    free(c);
}

static inline ssize_t client_read(nghttp2_session *s, int32_t id, uint8_t *buf, size_t length,
                                  uint32_t *flags, nghttp2_data_source *source, void *arg)
{
    (void)s, (void)id, (void)arg;
    h2_answer *a = source->ptr;
    size_t n = OT_MIN(a->to_send, length);
    if (n == 0 && a->hold) {
        return NGHTTP2_ERR_DEFERRED;
    }
    memset(buf, 'x', n);
    a->to_send -= n;
    if (a->to_send == 0 && !a->hold) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    return (ssize_t)n;
}

#define NV(name, value)                                                                            \
    {                                                                                              \
        (uint8_t *)(uintptr_t)(name), (uint8_t *)(uintptr_t)(value), strlen(name), strlen(value),  \
            0                                                                                      \
    }

/* n: bytes of the body; -1: none. Returns the stream's id. */
static inline int32_t h2_ask(h2_client *c, const char *method, const char *path, int64_t n,
                             bool hold)
{
    const nghttp2_nv nv[] = {NV(":method", method), NV(":scheme", "http"), NV(":path", path),
                             NV(":authority", "h"), NV("x-in", "here"),    NV("te", "trailers")};
    int32_t next = (int32_t)nghttp2_session_get_next_stream_id(c->session);
    h2_answer *a = answer_at(c, next);
    *a = (h2_answer){.to_send = n > 0 ? (size_t)n : 0, .hold = hold};
    ot_str_init(&a->body);
    ot_str_init(&a->fields);
    nghttp2_data_provider d = {.source.ptr = a, .read_callback = client_read};
    return nghttp2_submit_request(c->session, NULL, nv, OT_COUNT(nv), n >= 0 ? &d : NULL, NULL);
}

/* Sends the rest of what is held back. */
static inline void h2_release(h2_client *c, int32_t id)
{
    answer_at(c, id)->hold = false;
    nghttp2_session_resume_data(c->session, id);
}

/* Until nothing moves any more. */
static inline void h2_go(h2_client *c)
{
    static uint8_t buf[65536];
    for (int quiet = 0; quiet < 6 && !c->eof && c->fd >= 0;) {
        const uint8_t *p;
        ssize_t n = nghttp2_session_mem_send(c->session, &p);
        if (n > 0) {
            put_n(c->f, c->fd, (const char *)p, (size_t)n);
        }
        turns(c->f, 1);
        ssize_t k = ot_sock_read(c->fd, buf, sizeof buf);
        c->eof = k == 0 || (k < 0 && errno != EAGAIN);
        if (k > 0 && nghttp2_session_mem_recv(c->session, buf, (size_t)k) < 0) {
            c->eof = true;
        }
        quiet = n > 0 || k > 0 ? 0 : quiet + 1;
    }
}

static inline bool has_field(const h2_answer *a, const char *line)
{
    return a->fields.len > 0 && strstr(a->fields.data, line) != NULL;
}

#endif
