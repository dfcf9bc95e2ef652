#include "net/http_client.h"

#include "base/clock.h"
#include "base/disk.h"
#include "base/mem.h"
#include "net/http_server.h"
#include "tap.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

/* A server on its own thread, for the blocking client. */
typedef struct host {
    ot_loop *loop;
    ot_http_server *server;
    pthread_t thread;
    int fd;
    ot_addr addr;
    uint32_t idle_ms;
} host;

static void handler(void *arg, ot_http_req *req)
{
    (void)arg;
    if (ot_slice_eq(req->path, "/stream")) {
        ot_http_stream_begin(req, &(ot_http_answer){.status = 200}, NULL, NULL);
        for (int i = 0; i < 1000; i++) {
            char line[16];
            int n = snprintf(line, sizeof line, "line %d\n", i);
            if (ot_http_stream_write(req, line, (size_t)n) != OT_OK) {
                break;
            }
        }
        ot_http_stream_end(req);
    } else if (ot_slice_eq(req->path, "/echo")) {
        ot_http_field field = {"X-Method", "seen"};
        struct iovec v = {memcpy(malloc(req->body.n + 1), req->body.p, req->body.n), req->body.n};
        ot_http_respond(req, &(ot_http_answer){.status = 200,
                                               .fields = &field,
                                               .n_fields = 1,
                                               .body = &v,
                                               .n_body = 1,
                                               .own = OT_HTTP_RELEASE,
                                               .release = ot_free,
                                               .release_arg = v.iov_base});
    } else if (ot_slice_eq(req->path, "/close")) {
        ot_http_respond(req, &(ot_http_answer){.status = 200, .close = true});
    } else if (ot_slice_eq(req->path, "/silent")) {
        req->user = NULL; /* answered by the drain's limit: the connection is cut */
    } else {
        ot_http_respond_error(req, 404, "nothing here");
    }
}

static void *serve(void *arg)
{
    host *h = arg;
    if (ot_loop_run(h->loop, NULL) != OT_OK) {
        printf("# the loop failed\n");
    }
    return NULL;
}

static void start(host *h, const char *addr)
{
    ot_http_options o;
    ot_http_options_init(&o);
    o.handler = handler;
    o.idle_ms = h->idle_ms != 0 ? h->idle_ms : o.idle_ms;
    ot_error err = {0};
    if (ot_addr_parse(addr, &h->addr, &err) != OT_OK ||
        ot_sock_listen(&h->addr, 16, &h->fd, &err) != OT_OK ||
        ot_loop_create(0, &h->loop, &err) != OT_OK ||
        ot_http_server_create(h->loop, &o, &h->server, &err) != OT_OK ||
        ot_http_server_listen(h->server, h->fd, NULL, &err) != OT_OK) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
    if (!h->addr.is_unix) {
        h->addr.port = ot_sock_port(h->fd);
    }
    pthread_create(&h->thread, NULL, serve, h);
}

static void stop(host *h)
{
    ot_loop_stop(h->loop);
    pthread_join(h->thread, NULL);
    ot_http_server_destroy(h->server);
    ot_loop_destroy(h->loop);
    ot_fd_close(&h->fd);
}

typedef struct counter {
    size_t bytes;
    int calls, stop_after;
} counter;

static ot_rc on_data(void *arg, const char *p, size_t n, ot_error *err)
{
    counter *c = arg;
    (void)p;
    c->bytes += n;
    c->calls++;
    return c->stop_after != 0 && c->calls >= c->stop_after ? ot_fail(err, OT_CANCELLED, "enough")
                                                           : OT_OK;
}

static ot_http_client *client(const host *h, const ot_http_client_options *o)
{
    ot_http_client *c = NULL;
    if (ot_http_client_create(&h->addr, o, &c, NULL) != OT_OK) {
        printf("Bail out! no client\n");
        exit(1);
    }
    return c;
}

static void test_requests(const char *addr)
{
    host h = {0};
    start(&h, addr);
    ot_http_client *c = client(&h, NULL);
    ot_http_reply r;
    ot_http_reply_init(&r);
    ot_error err = {0};
    ok(ot_http_client_simple(c, "POST", "/echo", NULL, "hello", 5, &r, &err) == OT_OK &&
           r.status == 200,
       "%s: post: %s", addr, err.msg);
    is_str(r.body.data, "hello", "body");
    ok(ot_slice_eq(ot_http_reply_header(&r, "x-METHOD"), "seen"), "header");
    ok(ot_http_reply_header(&r, "x-none").p == NULL, "absent header");
    size_t big = 3u << 20;
    char *data = malloc(big);
    memset(data, 'q', big);
    ok(ot_http_client_simple(c, "PUT", "/echo", "X: y\r\n", data, big, &r, &err) == OT_OK &&
           r.body.len == big && memcmp(r.body.data, data, big) == 0,
       "3 MiB on the same connection");
    free(data);
    ok(ot_http_client_simple(c, "GET", "/nothing", NULL, NULL, 0, &r, &err) == OT_OK &&
           r.status == 404 && strcmp(r.body.data, "{\"error\":\"nothing here\"}\n") == 0,
       "404 is an answer");
    ok(ot_http_client_simple(c, "HEAD", "/echo", NULL, NULL, 0, &r, &err) == OT_OK &&
           r.status == 200 && r.body.len == 0,
       "HEAD");
    ok(ot_http_client_simple(c, "GET", "/stream", NULL, NULL, 0, &r, &err) == OT_OK &&
           ot_has_prefix(r.body.data, "line 0\nline 1\n") &&
           ot_has_suffix(r.body.data, "line 999\n"),
       "a stream, collected");
    counter n = {0};
    ot_http_call call = {.method = "GET", .target = "/stream", .on_data = on_data, .arg = &n};
    ok(ot_http_client_request(c, &call, &r, &err) == OT_OK && n.bytes == 8890 && r.body.len == 0,
       "a stream, in pieces");
    n = (counter){.stop_after = 1};
    ok(ot_http_client_request(c, &call, &r, &err) == OT_CANCELLED, "a callback ends it");
    ok(ot_http_client_simple(c, "GET", "/close", NULL, NULL, 0, &r, &err) == OT_OK &&
           ot_http_client_simple(c, "GET", "/echo", NULL, NULL, 0, &r, &err) == OT_OK,
       "after Connection: close a new connection is made");
    ok(ot_http_client_simple(c, "GET", "/a b", NULL, NULL, 0, &r, &err) == OT_INVALID,
       "a target with a space is refused");
    ot_http_reply_done(&r);
    ot_http_client_destroy(c);
    stop(&h);
}

static void test_failures(void)
{
    host h = {.idle_ms = 30};
    start(&h, "127.0.0.1:0");
    ot_http_reply r;
    ot_http_reply_init(&r);
    ot_error err = {0};
    ot_http_client_options o = {.struct_size = sizeof o, .io_us = 50000, .body_max = 100};
    ot_http_client *c = client(&h, &o);
    ok(ot_http_client_simple(c, "GET", "/stream", NULL, NULL, 0, &r, &err) == OT_EXHAUSTED,
       "body_max: %s", err.msg);
    ok(ot_http_client_simple(c, "GET", "/silent", NULL, NULL, 0, &r, &err) == OT_TIMEOUT,
       "silence: %s", err.msg);
    ok(ot_http_client_simple(c, "GET", "/echo", NULL, NULL, 0, &r, &err) == OT_OK, "and on");
    ot_clock_sleep_us(200000);
    ok(ot_http_client_simple(c, "GET", "/echo", NULL, NULL, 0, &r, &err) == OT_OK,
       "a connection that the server closed while idle is replaced");
    stop(&h);
    ok(ot_http_client_simple(c, "GET", "/echo", NULL, NULL, 0, &r, &err) == OT_UNAVAILABLE,
       "no server: %s", err.msg);
    ot_http_client_destroy(c);
    ot_http_reply_done(&r);
}

/* A server that says exactly `text` and closes. */
static const char *hostile;
static void *say(void *arg)
{
    int lfd = *(int *)arg, fd = -1;
    while (fd < 0) {
        fd = ot_sock_accept(lfd);
    }
    char buf[1000];
    ot_sock_nonblock(fd, false);
    ssize_t k = ot_sock_read(fd, buf, sizeof buf);
    if (k > 0 && ot_sock_write_all(fd, hostile, strlen(hostile), NULL) != OT_OK) {
        printf("# not sent\n");
    }
    ot_fd_close(&fd);
    return NULL;
}

static void test_hostile(void)
{
    static const struct {
        const char *text;
        ot_rc want;
    } cases[] = {
        {"", OT_UNAVAILABLE},
        {"SSH-2.0-OpenSSH_9.2p1 Debian\r\n\r\n", OT_DATA_LOSS},
        {"HTTP/1.1 200 OK\r\nContent-Le", OT_DATA_LOSS},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", OT_DATA_LOSS},
        {"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nabc", OT_DATA_LOSS},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", OT_DATA_LOSS},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n", OT_DATA_LOSS},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", OT_DATA_LOSS},
        {"HTTP/1.1 200 OK\r\n\r\nuntil the end", OT_OK},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", OT_OK},
    };
    host h = {0};
    if (ot_addr_parse("127.0.0.1:0", &h.addr, NULL) != OT_OK ||
        ot_sock_listen(&h.addr, 4, &h.fd, NULL) != OT_OK) {
        ok(false, "listen");
        return;
    }
    h.addr.port = ot_sock_port(h.fd);
    for (size_t i = 0; i < OT_COUNT(cases); i++) {
        pthread_t t;
        hostile = cases[i].text;
        pthread_create(&t, NULL, say, &h.fd);
        ot_http_client *c = client(&h, NULL);
        ot_http_reply r;
        ot_http_reply_init(&r);
        ot_error err = {0};
        is_int(ot_http_client_simple(c, "GET", "/", NULL, NULL, 0, &r, &err), cases[i].want,
               "reply %zu: %s", i, err.msg);
        pthread_join(t, NULL);
        ot_http_reply_done(&r);
        ot_http_client_destroy(c);
    }
    ot_fd_close(&h.fd);
}

int main(void)
{
    char path[64];
    snprintf(path, sizeof path, "unix:/tmp/ot-client-test-%d.sock", (int)getpid());
    test_requests("127.0.0.1:0");
    test_requests(path);
    unlink(path + 5);
    test_failures();
    test_hostile();
    ot_str s = OT_STR_INIT;
    ot_http_encode(&s, "a b/c?\xc3\xa9~");
    is_str(s.data, "a%20b%2Fc%3F%C3%A9~", "encoding");
    ot_str_done(&s);
    return tap_done();
}
