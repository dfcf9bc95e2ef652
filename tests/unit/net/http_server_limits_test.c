/* What bounds a server: slow clients, the drain, its caps, short reads and writes, memory. */
#include "net/http_server.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/sock.h"
#include "net/http_conn.h"
#include "tap.h"
#include "unit/net/http_fixture.h"

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
           ot_http_server_adopt(f.server, p[0], NULL, NULL) == OT_PRECONDITION,
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
           ot_http_server_adopt(f.server, p[0], NULL, NULL) == OT_EXHAUSTED,
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
           ot_http_server_listen(f.server, lfd, NULL, NULL) == OT_OK,
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

/* Descriptors are used up: an accept succeeds only after one was given away. */
static int accepts_left = 1;
static int scarce_accept(int fd)
{
    if (accepts_left == 0 || accepts_left-- == 2) {
        errno = EMFILE;
        return -1;
    }
    return accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
}
static ssize_t plain_read(int fd, void *p, size_t n)
{
    return recv(fd, p, n, 0);
}
static ssize_t plain_writev(int fd, const struct iovec *iov, int n)
{
    return sendmsg(
        fd, &(struct msghdr){.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (size_t)n},
        MSG_NOSIGNAL);
}

static void test_no_descriptors(void)
{
    static const ot_sock_ops scarce = {scarce_accept, plain_read, plain_writev};
    fixture f;
    start(&f, NULL);
    ot_addr addr;
    int lfd = -1, c = -1;
    bool eof;
    ok(ot_addr_parse("127.0.0.1:0", &addr, NULL) == OT_OK &&
           ot_sock_listen(&addr, 16, &lfd, NULL) == OT_OK &&
           ot_http_server_listen(f.server, lfd, NULL, NULL) == OT_OK,
       "listening");
    addr.port = ot_sock_port(lfd);
    ot_sock_install(&scarce);
    accepts_left = 2;
    ok(ot_sock_connect(&addr, 1000000, &c, NULL) == OT_OK, "a client comes");
    ot_sock_nonblock(c, true);
    put(&f, c, "GET /none HTTP/1.1\r\n" H "\r\n");
    ot_str s = take(&f, c, &eof);
    ot_http_stats stats;
    ot_http_server_stats(f.server, &stats);
    ok(eof && ot_has_prefix(s.data, "HTTP/1.1 503") && stats.refused_fds == 1 && f.handled == 0,
       "without descriptors it is told so");
    ot_str_done(&s);
    close(c);
    ot_sock_install(NULL);
    ok(ot_sock_connect(&addr, 1000000, &c, NULL) == OT_OK, "another comes");
    ot_sock_nonblock(c, true);
    for (int i = 0; i < 300 && f.handled == 0;
         i++) { /* accepting may pause for a tenth of a second */
        put(&f, c, i == 0 ? "GET /none HTTP/1.1\r\n" H "\r\n" : "");
        (void)!ot_loop_turn(f.loop, 10, NULL);
    }
    is_int(f.handled, 1, "when there are some again it is served");
    close(c);
    stop(&f);
    close(lfd);
}

/* Those at rest hold no buffers: as many take turns with them as work at a time. */
static void test_rest(void)
{
    fixture f;
    start(&f, NULL);
    int fd[20];
    for (int i = 0; i < 20; i++) {
        bool eof;
        fd[i] = dial(&f);
        put(&f, fd[i], "POST /echo HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhello");
        ot_str s = take(&f, fd[i], &eof);
        ok(!eof && has_tail(&s, "hello"), "answered");
        ot_str_done(&s);
    }
    int with_buffers = 0;
    for (const http_conn *c = f.server->conns; c != NULL; c = c->next) {
        with_buffers += c->in.cap + c->out.cap > 0;
    }
    ok(with_buffers == 0 && f.server->n_kits == 1, "twenty connections, one set of buffers");
    for (int i = 0; i < 20; i++) {
        close(fd[i]);
    }
    stop(&f);
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
            if (ot_http_server_adopt(f.server, p[0], NULL, NULL) != OT_OK) {
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
    test_slow();
    test_drain();
    test_caps();
    test_no_descriptors();
    test_rest();
    test_short_io();
    test_no_allocation();
    test_failing_memory();
    return tap_done();
}
