/* links: net base */
/* A server's connection fed with what an HTTP/2 client may send: the preface, then any bytes, cut
 * where the input says. Handlers answer at once, later, in pieces, with trailers, or read the body;
 * then the client goes. Nothing may leak, and every request is answered once. */
#include "base/sock.h"
#include "net/http_server.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HELD_MAX 600

typedef struct state {
    ot_http_req *held[HELD_MAX];
    size_t n_held, seen;
} state;

static const ot_http_field trailers[] = {{"grpc-status", "0"}};

static void on_body(void *arg, const char *p, size_t n, bool end)
{
    (void)p;
    (void)end;
    ot_http_req_consumed(arg, n / 2);
}

static void on_event(void *arg)
{
    (void)arg;
}

static bool reads(void *arg, const ot_http_req *req)
{
    (void)arg;
    return req->path.n % 4 == 1;
}

static uint64_t body_max(void *arg, const ot_http_req *req)
{
    (void)arg;
    return req->path.n % 4 == 2 ? 10 : 1000;
}

static void handler(void *arg, ot_http_req *req)
{
    state *s = arg;
    size_t n = s->seen++;
    for (size_t i = 0; i < ot_http_req_header_count(req); i++) {
        ot_slice name, value;
        ot_http_req_header_at(req, i, &name, &value);
        if (name.p[name.n] != 0 || value.p[value.n] != 0) {
            abort();
        }
    }
    if (req->path.n % 4 == 1) {
        ot_http_req_read(req, on_body, req);
    }
    static char text[20000];
    struct iovec v = {text, n % 5 * 5000};
    ot_http_answer a = {.status = n % 7 == 0 ? 204 : 200,
                        .type = "text/plain",
                        .body = &v,
                        .n_body = 1,
                        .trailers = trailers,
                        .n_trailers = n % 2,
                        .own = OT_HTTP_ARENA};
    if (s->n_held == HELD_MAX || n % 3 == 0) {
        ot_http_respond(req, &a);
        return;
    }
    s->held[s->n_held++] = req;
    if (n % 3 == 1) {
        ot_http_stream_begin(req, &a, on_event, NULL);
        (void)!ot_http_stream_write(req, text, 100);
    } else {
        req->user = s; /* answered whole */
    }
}

static void answer_held(state *s)
{
    for (size_t i = 0; i < s->n_held; i++) {
        if (s->held[i]->user == NULL) {
            ot_http_stream_end_with(s->held[i], trailers, i % 2);
        } else {
            ot_http_respond_bytes(s->held[i], 200, NULL, "late", 4);
        }
    }
    s->n_held = 0;
}

static void turn(ot_loop *loop, int fd, int n)
{
    char scratch[4096];
    while (n-- > 0) {
        if (ot_loop_turn(loop, 0, NULL) != OT_OK) {
            abort();
        }
        while (ot_sock_read(fd, scratch, sizeof scratch) > 0) {
        }
    }
}

/* Pieces of the input: a byte says how long the next is, its top bit that what is held is answered.
 */
static void feed(state *s, ot_loop *loop, int fd, const uint8_t *data, size_t size)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    (void)!write(fd, preface, sizeof preface - 1);
    while (size > 1) {
        size_t n = (size_t)(data[0] & 0x7f) * 4 + 1;
        if (data[0] & 0x80) {
            answer_held(s);
        }
        n = n < size - 1 ? n : size - 1;
        if (send(fd, data + 1, n, MSG_NOSIGNAL) < 0) {
            break;
        }
        turn(loop, fd, 1);
        data += 1 + n;
        size -= 1 + n;
    }
    turn(loop, fd, 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    state s = {0};
    ot_loop *loop = NULL;
    ot_http_server *server = NULL;
    ot_http_options o;
    int p[2];
    ot_http_options_init(&o);
    o.handler = handler;
    o.streams = reads;
    o.body_max = body_max;
    o.streams_max = 8;
    o.arg = &s;
    if (ot_loop_create(0, &loop, NULL) != OT_OK ||
        ot_http_server_create(loop, &o, &server, NULL) != OT_OK ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p) != 0 ||
        ot_http_server_adopt(server, p[0], NULL, NULL) != OT_OK) {
        abort();
    }
    feed(&s, loop, p[1], data, size);
    close(p[1]);
    if (ot_loop_turn(loop, 0, NULL) != OT_OK || ot_loop_turn(loop, 0, NULL) != OT_OK) {
        abort();
    }
    answer_held(&s);
    ot_http_stats stats;
    ot_http_server_stats(server, &stats);
    if (stats.busy != 0) {
        abort();
    }
    ot_http_server_destroy(server);
    ot_loop_destroy(loop);
    return 0;
}
