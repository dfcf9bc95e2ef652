#include "net/http_server.h"

#include "base/clock.h"
#include "base/sock.h"
#include "base/str.h"
#include "tap.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define BIG (1 << 20)

/* A server whose clients are socket pairs, all on this thread. */
typedef struct fixture {
    ot_loop *loop;
    ot_http_server *server;
    ot_http_req *later; /* unanswered request of /later, /stream */
    int handled, released, events, drained;
    uint64_t body_max;
    char *big;
} fixture;

static void on_release(void *arg)
{
    ((fixture *)arg)->released++;
}

static void on_event(void *arg)
{
    ((fixture *)arg)->events++;
}

static void answer_big(fixture *f, ot_http_req *req)
{
    struct iovec v[3] = {{f->big, 1000}, {f->big, 0}, {f->big + 1000, BIG - 1000}};
    ot_http_respond(req, &(ot_http_answer){.status = 200,
                                           .body = v,
                                           .n_body = 3,
                                           .own = OT_HTTP_RELEASE,
                                           .release = on_release,
                                           .release_arg = f});
}

static void answer_fields(ot_http_req *req, const char *value)
{
    ot_http_field field = {"X-Test", value};
    ot_http_respond(req, &(ot_http_answer){.status = 201, .fields = &field, .n_fields = 1});
}

static void handler(void *arg, ot_http_req *req)
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

static uint64_t body_max(void *arg, const ot_http_req *req)
{
    const fixture *f = arg;
    return ot_slice_eq(req->path, "/echo") ? f->body_max : 0;
}

static void start(fixture *f, void (*change)(ot_http_options *o))
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

static void stop(fixture *f)
{
    ot_http_server_destroy(f->server);
    ot_loop_destroy(f->loop);
    free(f->big);
}

static int dial(fixture *f)
{
    int p[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p) != 0 ||
        ot_http_server_adopt(f->server, p[0], NULL) != OT_OK) {
        printf("Bail out! no connection\n");
        exit(1);
    }
    return p[1];
}

static void turns(fixture *f, int n)
{
    while (n-- > 0) {
        if (ot_loop_turn(f->loop, 0, NULL) != OT_OK) {
            return;
        }
    }
}

static void put_n(fixture *f, int fd, const char *p, size_t n)
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

static void put(fixture *f, int fd, const char *z)
{
    put_n(f, fd, z, strlen(z));
}

/* Everything that arrives until nothing moves any more; *eof tells whether the server closed. */
static ot_str take(fixture *f, int fd, bool *eof)
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
static bool has_tail(const ot_str *s, const char *tail)
{
    return ot_has_suffix(s->data, tail);
}

static int count(const ot_str *s, const char *what)
{
    int n = 0;
    for (const char *at = s->data; (at = strstr(at, what)) != NULL; at += strlen(what)) {
        n++;
    }
    return n;
}

#define H "Host: h\r\n"

static void expect(fixture *f, const char *request, const char *head, const char *tail, bool closes)
{
    int fd = dial(f);
    bool eof;
    put(f, fd, request);
    ot_str s = take(f, fd, &eof);
    bool good = ot_has_prefix(s.data, head) && has_tail(&s, tail) && eof == closes;
    if (!ok(good, "%.*s: %.12s", (int)strcspn(request, "\r"), request, head)) {
        printf("# eof %d, got '%s'\n", eof, s.data);
    }
    ot_str_done(&s);
    close(fd);
    turns(f, 3);
}

static void test_basics(void)
{
    fixture f;
    start(&f, NULL);
    expect(&f, "POST /echo HTTP/1.1\r\n" H "Content-Length: 2\r\n\r\nhi", "HTTP/1.1 200 OK\r\n",
           "\r\n\r\nhi", false);
    expect(&f, "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
           "HTTP/1.1 200 OK\r\n", "\r\n\r\nhi", false);
    expect(&f, "HEAD /echo HTTP/1.1\r\n" H "Content-Length: 2\r\n\r\nhi", "HTTP/1.1 200 OK\r\n",
           "Content-Length: 2\r\n\r\n", false);
    expect(&f, "GET /none HTTP/1.1\r\n" H "\r\n", "HTTP/1.1 204 No Content\r\n", " GMT\r\n\r\n",
           false);
    expect(&f, "GET /x HTTP/1.1\r\n" H "\r\n", "HTTP/1.1 404 Not Found\r\n",
           "{\"error\":\"no '/x' here\"}\n", false);
    expect(&f, "GET /header HTTP/1.1\r\n" H "X-In: v\r\n\r\n", "HTTP/1.1 200", "\r\n\r\nv", false);
    expect(&f, "GET /fields HTTP/1.1\r\n" H "\r\n", "HTTP/1.1 201", "X-Test: fine\r\n\r\n", false);
    expect(&f, "GET /split HTTP/1.1\r\n" H "\r\n", "HTTP/1.1 500", "close\r\n\r\n", true);
    expect(&f, "GET /echo HTTP/1.0\r\n\r\n", "HTTP/1.1 200", "\r\n\r\n", true);
    expect(&f, "GET /echo HTTP/1.1\r\n" H "Connection: close\r\n\r\n", "HTTP/1.1 200", "\r\n\r\n",
           true);
    expect(&f, "rubbish\r\n\r\n", "HTTP/1.1 400", "}\n", true);
    expect(&f,
           "POST /echo HTTP/1.1\r\n" H "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
           "HTTP/1.1 400", "Transfer-Encoding\"}\n", true);
    expect(&f, "POST /echo HTTP/1.1\r\n" H "Content-Length: 99999999\r\n\r\nabc", "HTTP/1.1 413",
           "}\n", true);
    ot_http_stats st;
    ot_http_server_stats(f.server, &st);
    is_int(st.conns, 0, "all connections are gone");
    is_int(st.busy, 0, "no request is open");
    is_int(st.bad_requests, 3, "bad requests are counted");
    stop(&f);
}

static void test_pipeline(void)
{
    fixture f;
    start(&f, NULL);
    int fd = dial(&f);
    ot_str req = OT_STR_INIT;
    for (int i = 0; i < 300; i++) {
        char body[16];
        int n = snprintf(body, sizeof body, "<%d>", i);
        ot_str_addf(&req, "POST %s HTTP/1.1\r\n" H "Content-Length: %d\r\n\r\n%s",
                    i % 100 == 50 ? "/later" : "/echo", n, body);
    }
    put_n(&f, fd, req.data, req.len);
    ot_str all = OT_STR_INIT;
    for (int i = 0; i < 4; i++) {
        bool eof;
        ot_str s = take(&f, fd, &eof);
        ot_str_add(&all, s.data, s.len);
        ot_str_done(&s);
        if (f.later != NULL) {
            ot_http_req *r = f.later;
            f.later = NULL;
            ot_http_respond_bytes(r, 200, NULL, r->body.p, r->body.n);
        }
    }
    is_int(f.handled, 300, "every pipelined request was handled");
    is_int(count(&all, "HTTP/1.1 200"), 300, "and answered");
    bool ordered = true;
    const char *at = all.data;
    for (int i = 0; i < 300 && ordered; i++) {
        char body[16];
        snprintf(body, sizeof body, "<%d>", i);
        at = strstr(at, body);
        ordered = at != NULL;
    }
    ok(ordered, "in order, the late ones too");
    ot_str_done(&all);
    ot_str_done(&req);
    close(fd);
    stop(&f);
}

static void test_bytewise(void)
{
    fixture f;
    start(&f, NULL);
    int fd = dial(&f);
    const char *req =
        "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"
        "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nPOST /echo HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nxyz";
    for (const char *p = req; *p != 0; p++) {
        put_n(&f, fd, p, 1);
    }
    bool eof;
    ot_str s = take(&f, fd, &eof);
    ok(count(&s, "200 OK") == 2 && strstr(s.data, "abcde") != NULL && has_tail(&s, "xyz"),
       "requests that come byte by byte");
    ot_str_done(&s);
    close(fd);
    stop(&f);
}

static void test_large(void)
{
    fixture f;
    start(&f, NULL);
    int fd = dial(&f);
    char head[200];
    snprintf(head, sizeof head, "POST /echo HTTP/1.1\r\n" H "Content-Length: %d\r\n\r\n", BIG);
    put(&f, fd, head);
    put_n(&f, fd, f.big, BIG);
    bool eof;
    ot_str s = take(&f, fd, &eof);
    ok(s.len > BIG && memcmp(s.data + s.len - BIG, f.big, BIG) == 0, "1 MiB there and back");
    ot_str_done(&s);
    put(&f, fd, "GET /big HTTP/1.1\r\n" H "\r\nGET /big HTTP/1.1\r\n" H "\r\n");
    is_int(f.released, 0, "a body that is not read is not released");
    s = take(&f, fd, &eof);
    ok(s.len > 2 * BIG && memcmp(s.data + s.len - BIG, f.big, BIG) == 0, "two bodies from outside");
    is_int(f.released, 2, "each released once");
    ot_str_done(&s);
    put(&f, fd, "GET /big HTTP/1.1\r\n" H "\r\n");
    close(fd);
    turns(&f, 5);
    is_int(f.released, 3, "released when the client goes");
    fd = dial(&f);
    put(&f, fd, "HEAD /big HTTP/1.1\r\n" H "\r\n");
    s = take(&f, fd, &eof);
    ok(has_tail(&s, "Content-Length: 1048576\r\n\r\n") && f.released == 4, "HEAD tells the length");
    ot_str_done(&s);
    close(fd);
    stop(&f);
}

static void set_body_max(ot_http_options *o)
{
    o->body_max = body_max;
}

static void test_continue(void)
{
    fixture f;
    start(&f, set_body_max);
    f.body_max = 10;
    int fd = dial(&f);
    bool eof;
    put(&f, fd, "POST /echo HTTP/1.1\r\n" H "Content-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    ot_str s = take(&f, fd, &eof);
    is_str(s.data, "HTTP/1.1 100 Continue\r\n\r\n", "the client is told to go on");
    ot_str_done(&s);
    put(&f, fd, "abc");
    s = take(&f, fd, &eof);
    ok(ot_has_prefix(s.data, "HTTP/1.1 200") && has_tail(&s, "abc"), "and answered");
    ot_str_done(&s);
    close(fd);
    expect(&f, "POST /echo HTTP/1.1\r\n" H "Content-Length: 11\r\nExpect: 100-continue\r\n\r\n",
           "HTTP/1.1 413", "}\n", true);
    expect(&f, "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\nB\r\n",
           "HTTP/1.1 413", "}\n", true);
    expect(&f, "POST /other HTTP/1.1\r\n" H "Content-Length: 1\r\n\r\na", "HTTP/1.1 413", "}\n",
           true);
    stop(&f);
}

static void test_gone(void)
{
    fixture f;
    start(&f, NULL);
    int fd = dial(&f);
    put(&f, fd, "POST /echo HTTP/1.1\r\n" H "Content-Length: 10\r\n\r\nabc");
    close(fd);
    turns(&f, 5);
    ot_http_stats st;
    ot_http_server_stats(f.server, &st);
    ok(st.conns == 0 && f.handled == 0, "gone in the middle of a body: dropped");
    fd = dial(&f);
    put(&f, fd, "POST /later HTTP/1.1\r\n" H "X-In: kept\r\nContent-Length: 3\r\n\r\nabc");
    turns(&f, 2);
    ok(f.later != NULL && !f.later->cancelled, "a request waits for its answer");
    close(fd);
    turns(&f, 5);
    ok(f.later->cancelled && ot_slice_eq(f.later->body, "abc") &&
           ot_slice_eq(ot_http_req_header(f.later, "x-in"), "kept"),
       "when its client goes it is cancelled, and still whole");
    ot_http_server_stats(f.server, &st);
    ok(st.conns == 0 && st.busy == 1, "it is counted as open");
    answer_big(&f, f.later);
    ok(f.released == 1, "the late answer is dropped and released");
    fd = dial(&f);
    put(&f, fd, "POST /later HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nabc");
    shutdown(fd, SHUT_WR);
    turns(&f, 5);
    ok(f.later->cancelled, "half-closed counts as probably gone");
    ot_http_respond_bytes(f.later, 200, NULL, "still", 5);
    bool eof;
    ot_str s = take(&f, fd, &eof);
    ok(has_tail(&s, "still") && eof, "but gets its answer");
    ot_str_done(&s);
    close(fd);
    stop(&f);
}

static void small_stream(ot_http_options *o)
{
    o->stream_buffer_bytes = 10000;
}

static void test_stream(void)
{
    fixture f;
    start(&f, small_stream);
    int fd = dial(&f);
    put(&f, fd, "GET /stream HTTP/1.1\r\n" H "\r\n");
    ok(ot_http_stream_write(f.later, "one", 3) == OT_OK, "write");
    ok(ot_http_stream_write(f.later, "", 0) == OT_OK, "an empty piece does not end it");
    bool eof;
    ot_str s = take(&f, fd, &eof);
    ok(has_tail(&s, "chunked\r\n\r\n3\r\none\r\n"), "a piece arrives at once");
    ot_str_done(&s);
    ot_rc rc = OT_OK;
    int pieces = 0;
    while (pieces < 10000 && rc == OT_OK) {
        rc = ot_http_stream_write(f.later, f.big, 1000);
        pieces += rc == OT_OK;
        turns(&f, 1);
    }
    ok(rc == OT_EXHAUSTED, "a slow reader makes the stream full (after %d pieces)", pieces);
    is_int(f.events, 0, "nothing is called while it is full");
    s = take(&f, fd, &eof);
    is_int(count(&s, "3e8\r\n"), pieces, "what was accepted arrives");
    is_int(f.events, 1, "then there is room again");
    ot_str_done(&s);
    ot_http_stream_end(f.later);
    put(&f, fd, "GET /none HTTP/1.1\r\n" H "\r\n");
    s = take(&f, fd, &eof);
    ok(ot_has_prefix(s.data, "0\r\n\r\nHTTP/1.1 204"), "ended, and the connection goes on");
    ot_str_done(&s);
    put(&f, fd, "GET /stream HTTP/1.1\r\n" H "\r\n");
    close(fd);
    turns(&f, 5);
    ok(f.events == 2 && f.later->cancelled, "a client that goes is told");
    ok(ot_http_stream_write(f.later, "x", 1) == OT_CANCELLED, "and nothing is written to it");
    ot_http_stream_end(f.later);
    fd = dial(&f);
    put(&f, fd, "GET /stream HTTP/1.0\r\n\r\n");
    ok(ot_http_stream_write(f.later, "raw", 3) == OT_OK, "write");
    ot_http_stream_end(f.later);
    s = take(&f, fd, &eof);
    ok(has_tail(&s, "\r\n\r\nraw") && eof, "HTTP/1.0 gets it unchunked, until close");
    ot_str_done(&s);
    close(fd);
    stop(&f);
}

/* Time under the test's control. */
static uint64_t fake_now;
static uint64_t fake_mono(void *self)
{
    (void)self;
    return fake_now;
}
static int64_t fake_wall(void *self)
{
    (void)self;
    return 1764000000000000;
}
static void fake_sleep(void *self, uint64_t us)
{
    (void)self;
    fake_now += us * 1000;
}

static void pass_ms(fixture *f, int ms)
{
    for (int i = 0; i < ms / 10; i++) {
        fake_now += 10000000;
        turns(f, 1);
    }
}

static void short_limits(ot_http_options *o)
{
    o->idle_ms = 1000;
    o->head_ms = 400;
    o->progress_ms = 200;
    o->progress_min_bytes = 10;
}

static void test_slow(void)
{
    static const ot_clock_source clock = {fake_mono, fake_wall, fake_sleep, NULL};
    fake_now = 1000000000;
    ot_clock_install(&clock);
    fixture f;
    start(&f, short_limits);
    bool eof;
    int idle = dial(&f);
    pass_ms(&f, 900);
    ot_str s = take(&f, idle, &eof);
    ok(!eof, "an idle connection lives");
    ot_str_done(&s);
    pass_ms(&f, 400);
    s = take(&f, idle, &eof);
    ok(eof && s.len == 0, "until its time is over");
    ot_str_done(&s);
    int head = dial(&f);
    for (int i = 0; i < 3; i++) {
        put(&f, head, i == 0 ? "GET / HTTP/1.1\r\n" : "A: b\r\n");
        pass_ms(&f, 120);
    }
    s = take(&f, head, &eof);
    ok(!eof && s.len == 0, "a slow head is waited for");
    ot_str_done(&s);
    put(&f, head, "A: b\r\n");
    pass_ms(&f, 200);
    s = take(&f, head, &eof);
    ok(eof && ot_has_prefix(s.data, "HTTP/1.1 408"), "not for ever, whatever trickles in");
    ot_str_done(&s);
    int body = dial(&f);
    put(&f, body, "POST /echo HTTP/1.1\r\n" H "Content-Length: 100\r\n\r\n");
    for (int i = 0; i < 4; i++) {
        put(&f, body, "0123456789ABCDE");
        pass_ms(&f, 150);
    }
    s = take(&f, body, &eof);
    ok(!eof && s.len == 0, "a body that makes progress is waited for");
    ot_str_done(&s);
    pass_ms(&f, 600);
    s = take(&f, body, &eof);
    ok(eof && ot_has_prefix(s.data, "HTTP/1.1 408"), "one that does not is refused");
    ot_str_done(&s);
    int reader = dial(&f);
    put(&f, reader, "GET /big HTTP/1.1\r\n" H "\r\n");
    turns(&f, 3);
    pass_ms(&f, 600);
    ok(f.released == 1, "a client that does not read its answer is dropped");
    ot_http_stats st;
    ot_http_server_stats(f.server, &st);
    is_int(st.timeouts, 3, "timeouts are counted");
    close(idle);
    close(head);
    close(body);
    close(reader);
    pass_ms(&f, 100);
    stop(&f);
    ot_clock_install(NULL);
}

static void on_drained(void *arg)
{
    ((fixture *)arg)->drained++;
}

static void test_drain(void)
{
    static const ot_clock_source clock = {fake_mono, fake_wall, fake_sleep, NULL};
    fake_now = 1000000000;
    ot_clock_install(&clock);
    fixture f;
    start(&f, NULL);
    int idle = dial(&f), later = dial(&f), next = dial(&f);
    put(&f, later, "GET /later HTTP/1.1\r\n" H "\r\n");
    turns(&f, 3);
    ot_http_server_drain(f.server, 200, 5000, on_drained, &f);
    ok(ot_http_server_draining(f.server), "draining");
    pass_ms(&f, 100);
    put(&f, next, "POST /echo HTTP/1.1\r\n" H "Content-Length: 1\r\n\r\nx");
    bool eof;
    ot_str s = take(&f, next, &eof);
    ok(ot_has_prefix(s.data, "HTTP/1.1 200") && strstr(s.data, "Connection: close") && eof,
       "a request within the grace is answered, then closed");
    ot_str_done(&s);
    pass_ms(&f, 300);
    s = take(&f, idle, &eof);
    ok(eof && s.len == 0, "idle connections are closed after the grace");
    ot_str_done(&s);
    is_int(f.drained, 0, "a request in flight is waited for");
    ot_http_respond_bytes(f.later, 200, NULL, "done", 4);
    s = take(&f, later, &eof);
    ok(has_tail(&s, "done") && eof, "and answered");
    ot_str_done(&s);
    pass_ms(&f, 50);
    is_int(f.drained, 1, "then the drain ends, once");
    int p[2];
    ok(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0 &&
           ot_http_server_adopt(f.server, p[0], NULL) == OT_PRECONDITION,
       "nothing new is taken");
    close(p[0]);
    close(p[1]);
    close(idle);
    close(later);
    close(next);
    stop(&f);
    start(&f, NULL);
    later = dial(&f);
    put(&f, later, "GET /later HTTP/1.1\r\n" H "\r\n");
    ot_http_server_drain(f.server, 10, 1000, on_drained, &f);
    pass_ms(&f, 1200);
    ok(f.later->cancelled && f.drained == 0, "at the limit connections are cut");
    ot_http_respond_bytes(f.later, 200, NULL, "x", 1);
    turns(&f, 2);
    is_int(f.drained, 1, "and the drain ends with the last unanswered request");
    close(later);
    stop(&f);
    ot_clock_install(NULL);
}

static void two_conns(ot_http_options *o)
{
    o->conns_max = 2;
    o->memory_max_bytes = 100000;
}

static void test_caps(void)
{
    fixture f;
    start(&f, two_conns);
    int a = dial(&f), b = dial(&f), p[2];
    ok(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0 &&
           ot_http_server_adopt(f.server, p[0], NULL) == OT_EXHAUSTED,
       "conns_max holds");
    close(p[0]);
    close(p[1]);
    put(&f, a, "POST /echo HTTP/1.1\r\n" H "Content-Length: 500000\r\n\r\n");
    put_n(&f, a, f.big, 200000);
    bool eof;
    ot_str s = take(&f, a, &eof);
    ok(ot_has_prefix(s.data, "HTTP/1.1 503"), "memory_max_bytes holds: 503");
    ot_str_done(&s);
    close(a);
    close(b);
    turns(&f, 100);
    ot_addr addr;
    int lfd = -1;
    ok(ot_addr_parse("127.0.0.1:0", &addr, NULL) == OT_OK &&
           ot_sock_listen(&addr, 16, &lfd, NULL) == OT_OK &&
           ot_http_server_listen(f.server, lfd, NULL) == OT_OK,
       "listening");
    addr.port = ot_sock_port(lfd);
    int c[3];
    for (int i = 0; i < 3; i++) {
        if (ot_sock_connect(&addr, 1000000, &c[i], NULL) != OT_OK) {
            c[i] = -1;
        }
        put(&f, c[i], "GET /none HTTP/1.1\r\n" H "\r\n");
    }
    turns(&f, 10);
    is_int(f.handled, 2, "the third connection waits in the backlog");
    close(c[0]);
    turns(&f, 10);
    is_int(f.handled, 3, "until there is room");
    close(c[1]);
    close(c[2]);
    stop(&f);
    close(lfd);
}

/* Reads of one byte, writes of at most three. */
static ssize_t short_read(int fd, void *p, size_t n)
{
    return recv(fd, p, n > 1 ? 1 : n, 0);
}
static ssize_t short_writev(int fd, const struct iovec *iov, int n)
{
    for (int i = 0; i < n; i++) {
        if (iov[i].iov_len > 0) {
            return send(fd, iov[i].iov_base, iov[i].iov_len < 3 ? iov[i].iov_len : 3, MSG_NOSIGNAL);
        }
    }
    return 0;
}
static int no_accept(int fd)
{
    (void)fd;
    errno = EAGAIN;
    return -1;
}

static void test_short_io(void)
{
    static const ot_sock_ops ops = {no_accept, short_read, short_writev};
    fixture f;
    start(&f, NULL);
    int fd = dial(&f);
    const char *req = "POST /echo HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nabc";
    put(&f, fd, req);
    put(&f, fd, req);
    ot_sock_install(&ops);
    turns(&f, 600);
    ot_sock_install(NULL);
    bool eof;
    ot_str s = take(&f, fd, &eof);
    ok(count(&s, "HTTP/1.1 200") == 2 && count(&s, "\r\n\r\nabc") == 2,
       "short reads and writes change nothing");
    ot_str_done(&s);
    close(fd);
    stop(&f);
}

/* After warm-up a request allocates nothing. */
static void test_no_allocation(void)
{
    fixture f;
    start(&f, NULL);
    int fd = dial(&f);
    const char *req = "POST /echo HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nabc";
    bool eof;
    put(&f, fd, req);
    ot_str s = take(&f, fd, &eof);
    ot_str_done(&s);
    ot_mem_fail_nth(UINT64_MAX);
    put(&f, fd, req);
    turns(&f, 4);
    put(&f, fd, req);
    turns(&f, 4);
    is_int(ot_mem_fail_nth(0), 0, "a warm connection allocates nothing");
    s = take(&f, fd, &eof);
    is_int(count(&s, "200 OK"), 2, "and answered both");
    ot_str_done(&s);
    close(fd);
    stop(&f);
}

/* Whatever allocation fails, nothing crashes or leaks, and the server serves on. */
static void test_failing_memory(void)
{
    bool served = true;
    for (uint64_t nth = 1; nth < 12; nth++) {
        fixture f;
        start(&f, NULL);
        int p[2];
        ot_mem_fail_nth(nth);
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p) == 0) {
            if (ot_http_server_adopt(f.server, p[0], NULL) != OT_OK) {
                close(p[0]);
            }
            put(&f, p[1], "POST /big HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nabc");
            turns(&f, 5);
            close(p[1]);
            turns(&f, 5);
        }
        ot_mem_fail_nth(0);
        int fd = dial(&f);
        bool eof;
        put(&f, fd, "GET /none HTTP/1.1\r\n" H "\r\n");
        ot_str s = take(&f, fd, &eof);
        served = served && ot_has_prefix(s.data, "HTTP/1.1 204") && f.released == f.handled - 1;
        ot_str_done(&s);
        close(fd);
        stop(&f);
    }
    ok(served, "each failed allocation costs at most its own connection");
}

int main(void)
{
    test_basics();
    test_pipeline();
    test_bytewise();
    test_large();
    test_continue();
    test_gone();
    test_stream();
    test_slow();
    test_drain();
    test_caps();
    test_short_io();
    test_no_allocation();
    test_failing_memory();
    return tap_done();
}
