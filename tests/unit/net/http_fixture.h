/* A server whose clients are socket pairs, all on the test's thread. */
#ifndef OT_TESTS_HTTP_FIXTURE_H
#define OT_TESTS_HTTP_FIXTURE_H

#include "net/http_server.h"

#include "base/sock.h"
#include "base/str.h"
#include "tap.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define BIG (1 << 20)
#define H "Host: h\r\n"

typedef struct fixture {
    ot_loop *loop;
    ot_http_server *server;
    ot_http_req *later; /* unanswered request of /later, /stream */
    int handled, released, events, drained;
    uint64_t body_max;
    char *big;
} fixture;

static inline void on_release(void *arg)
{
    ((fixture *)arg)->released++;
}

static inline void on_event(void *arg)
{
    ((fixture *)arg)->events++;
}

static inline void answer_big(fixture *f, ot_http_req *req)
{
    struct iovec v[3] = {{f->big, 1000}, {f->big, 0}, {f->big + 1000, BIG - 1000}};
    ot_http_respond(req, &(ot_http_answer){.status = 200,
                                           .body = v,
                                           .n_body = 3,
                                           .own = OT_HTTP_RELEASE,
                                           .release = on_release,
                                           .release_arg = f});
}

static inline void answer_fields(ot_http_req *req, const char *value)
{
    ot_http_field field = {"X-Test", value};
    ot_http_respond(req, &(ot_http_answer){.status = 201, .fields = &field, .n_fields = 1});
}

static inline void handler(void *arg, ot_http_req *req)
{
    fixture *f = arg;
    f->handled++;
    if (ot_slice_eq(req->path, "/echo")) {
        ot_http_respond_bytes(req, 200, "text/plain", req->body.p, req->body.n);
    } else if (ot_slice_eq(req->path, "/big")) {
        answer_big(f, req);
    } else if (ot_slice_eq(req->path, "/fields")) {
        answer_fields(req, "fine");
    } else if (ot_slice_eq(req->path, "/split")) {
        answer_fields(req, "a\r\nSet-Cookie: b");
    } else if (ot_slice_eq(req->path, "/header")) {
        ot_slice v = ot_http_req_header(req, "x-in");
        ot_http_respond_bytes(req, 200, NULL, v.p, v.n);
    } else if (ot_slice_eq(req->path, "/none")) {
        ot_http_respond_bytes(req, 204, NULL, NULL, 0);
    } else if (ot_slice_eq(req->path, "/later") || ot_slice_eq(req->path, "/stream")) {
        f->later = req;
        if (ot_slice_eq(req->path, "/stream")) {
            ot_http_stream_begin(req, &(ot_http_answer){.status = 200, .type = "text/event-stream"},
                                 on_event, f);
        }
    } else {
        ot_http_respond_error(req, 404, "no '%.*s' here", (int)req->path.n, req->path.p);
    }
}

static inline uint64_t body_max(void *arg, const ot_http_req *req)
{
    const fixture *f = arg;
    return ot_slice_eq(req->path, "/echo") ? f->body_max : 0;
}

static inline void start(fixture *f, void (*change)(ot_http_options *o))
{
    *f = (fixture){.body_max = BIG * 2};
    ot_http_options o;
    ot_http_options_init(&o);
    o.handler = handler;
    o.arg = f;
    o.limits.body_max = BIG * 2;
    if (change != NULL) {
        change(&o);
    }
    f->big = malloc(BIG);
    for (size_t i = 0; i < BIG; i++) {
        f->big[i] = (char)('a' + i % 26);
    }
    if (ot_loop_create(0, &f->loop, NULL) != OT_OK ||
        ot_http_server_create(f->loop, &o, &f->server, NULL) != OT_OK) {
        printf("Bail out! no server\n");
        exit(1);
    }
}

static inline void stop(fixture *f)
{
    ot_http_server_destroy(f->server);
    ot_loop_destroy(f->loop);
    free(f->big);
}

static inline int dial(fixture *f)
{
    int p[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p) != 0 ||
        ot_http_server_adopt(f->server, p[0], NULL, NULL) != OT_OK) {
        printf("Bail out! no connection\n");
        exit(1);
    }
    return p[1];
}

static inline void turns(fixture *f, int n)
{
    while (n-- > 0) {
        if (ot_loop_turn(f->loop, 0, NULL) != OT_OK) {
            return;
        }
    }
}

static inline void put_n(fixture *f, int fd, const char *p, size_t n)
{
    while (n > 0) {
        struct iovec v = {.iov_base = memcpy(malloc(n), p, n), .iov_len = n};
        ssize_t k = ot_sock_writev(fd, &v, 1);
        free(v.iov_base);
        if (k < 0 && errno != EAGAIN) {
            return;
        }
        p += k > 0 ? k : 0;
        n -= k > 0 ? (size_t)k : 0;
        turns(f, 2);
    }
}

static inline void put(fixture *f, int fd, const char *z)
{
    put_n(f, fd, z, strlen(z));
}

/* Everything that arrives until nothing moves any more; *eof tells whether the server closed. */
static inline ot_str take(fixture *f, int fd, bool *eof)
{
    static char buf[65536];
    ot_str s;
    ot_str_init(&s);
    *eof = false;
    for (int quiet = 0; quiet < 6;) {
        turns(f, 1);
        ssize_t k = ot_sock_read(fd, buf, sizeof buf);
        if (k == 0 || (k < 0 && errno != EAGAIN)) {
            *eof = true;
            break;
        }
        quiet = k > 0 ? 0 : quiet + 1;
        ot_str_add(&s, buf, k > 0 ? (size_t)k : 0);
    }
    return s;
}

/* The status codes of the answers in s, and whether its end is `tail`. */
static inline bool has_tail(const ot_str *s, const char *tail)
{
    return ot_has_suffix(s->data, tail);
}

static inline int count(const ot_str *s, const char *what)
{
    int n = 0;
    for (const char *at = s->data; (at = strstr(at, what)) != NULL; at += strlen(what)) {
        n++;
    }
    return n;
}

#endif
