/* HTTP/2 from clients that mean harm or are broken: floods, bombs, slow ones, lies. */
#include "base/clock.h"
#include "base/mem.h"
#include "net/http_conn.h"
#include "unit/net/h2_client.h"

static struct {
    ot_http_req *held[1200];
    int n_held, heads;
} h;

static void handler3(void *arg, ot_http_req *req)
{
    h.heads++;
    if (ot_slice_eq(req->path, "/hold")) {
        h.held[h.n_held++] = req;
    } else {
        handler(arg, req);
    }
}

static void answer_held(void)
{
    for (int i = 0; i < h.n_held; i++) {
        ot_http_respond_bytes(h.held[i], 200, NULL, "x", 1);
    }
    h.n_held = 0;
}

static void with_handler3(ot_http_options *o)
{
    memset(&h, 0, sizeof h);
    o->handler = handler3;
    o->body_max = body_max;
    o->idle_ms = 1000;
    o->head_ms = 400;
    o->progress_ms = 200;
    o->progress_min_bytes = 100;
}

/* ---- time under the test's control */

static uint64_t fake_now = UINT64_C(1000000000);
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
static const ot_clock_source fake = {fake_mono, fake_wall, fake_sleep, NULL};

static void pass(h2_client *c, int ms)
{
    for (int i = 0; i < ms / 10; i++) {
        fake_now += 10000000;
        turns(c->f, 1);
    }
    h2_go(c);
}

/* ---- frames by hand */

static void frame(h2_client *c, unsigned type, unsigned flags, unsigned id, const void *p, size_t n)
{
    char head[9] = {(char)(n >> 16),  (char)(n >> 8),   (char)n,         (char)type, (char)flags,
                    (char)(id >> 24), (char)(id >> 16), (char)(id >> 8), (char)id};
    put_n(c->f, c->fd, head, sizeof head);
    put_n(c->f, c->fd, p, n);
}

enum { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING = 6, WINDOW_UPDATE = 8, CONTINUATION };
enum { END_STREAM = 1, END_HEADERS = 4 };

/* GET /hold over http, in HPACK: three fields of the static table, then a path. */
static const char get_hold[] = "\x82\x86\x41\x01h\x04\x05/hold";

/* A connection whose preface and settings have been exchanged. */
static h2_client *greeted(fixture *f)
{
    h2_client *c = h2_dial(f);
    h2_go(c);
    return c;
}

/* Whether the server's last word is that it goes, and why. */
static bool ends_with_goaway(const ot_str *s, unsigned code)
{
    static const char head[] = "\0\0\x08\x07\0\0\0\0\0";
    return s->len >= 17 && memcmp(s->data + s->len - 17, head, 9) == 0 &&
           (unsigned char)s->data[s->len - 1] == code;
}

static void flood(fixture *f, const char *what, unsigned type, unsigned id, const char *p, size_t n)
{
    h2_client *c = greeted(f);
    bool eof;
    for (int i = 0; i < 900; i++) {
        frame(c, type, 0, id, p, n);
    }
    ot_str s = take(f, c->fd, &eof);
    bool some_are_fine = !eof && !ends_with_goaway(&s, NGHTTP2_ENHANCE_YOUR_CALM);
    ot_str_done(&s);
    for (int i = 0; i < 200; i++) {
        frame(c, type, 0, id, p, n);
    }
    s = take(f, c->fd, &eof);
    ok(some_are_fine && eof && ends_with_goaway(&s, NGHTTP2_ENHANCE_YOUR_CALM),
       "%s: some are answered, a flood is not", what);
    ot_str_done(&s);
    h2_free(c);
}

static void test_floods(void)
{
    fixture f;
    start(&f, with_handler3);
    flood(&f, "ping", PING, 0, "12345678", 8);
    flood(&f, "settings", SETTINGS, 0, "", 0);
    flood(&f, "priority", PRIORITY, 3, "\0\0\0\0\1", 5);
    flood(&f, "window", WINDOW_UPDATE, 0, "\0\0\0\1", 4);
    h2_client *c = greeted(&f);
    frame(c, HEADERS, END_HEADERS, 1, get_hold, sizeof get_hold - 1);
    for (int i = 0; i < 2000; i++) {
        frame(c, DATA, 0, 1, "", 0);
    }
    h2_go(c);
    ok(c->goaway && c->eof, "empty pieces of a body end it as well");
    is_int(h.heads, 0, "and the request is never handed over");
    h2_free(c);
    c = greeted(&f);
    for (int i = 0; i < 3000; i++) { /* never read: what they ask for is not kept without end */
        frame(c, PING, 0, 0, "12345678", 8);
    }
    ot_http_stats stats;
    turns(&f, 10);
    ot_http_server_stats(f.server, &stats);
    ok(f.server->memory < 300000, "answers that nobody reads are bounded (%llu bytes)",
       (unsigned long long)f.server->memory);
    h2_free(c);
    stop(&f);
}

/* CVE-2023-44487: streams that are opened and reset at once. */
static void test_rapid_reset(void)
{
    fixture f;
    start(&f, with_handler3);
    h2_client *c = greeted(&f);
    ot_http_stats stats;
    int i = 0;
    unsigned most = 0;
    for (; i < 1150 && !c->eof; i++) {
        unsigned id = (unsigned)(2 * i + 1);
        frame(c, HEADERS, END_HEADERS | END_STREAM, id, get_hold, sizeof get_hold - 1);
        frame(c, RST_STREAM, 0, id, "\0\0\0\x8", 4);
        ot_http_server_stats(f.server, &stats);
        most = OT_MAX(most, stats.busy);
    }
    bool eof;
    ot_str s = take(&f, c->fd, &eof);
    ok(most >= 256 && most <= 512, "streams that were reset count until they are answered (%u)",
       most);
    ok(eof && ends_with_goaway(&s, NGHTTP2_ENHANCE_YOUR_CALM), "then the connection is ended");
    ot_str_done(&s);
    ok(h.held[0]->cancelled, "their handlers were told");
    answer_held();
    ot_http_server_stats(f.server, &stats);
    is_int(stats.busy, 0, "nothing is left");
    h2_free(c);
    stop(&f);
}

static void test_many_streams(void)
{
    fixture f;
    start(&f, with_handler3);
    h2_client *c = greeted(&f);
    for (unsigned i = 0; i < 300; i++) {
        frame(c, HEADERS, END_HEADERS | END_STREAM, 2 * i + 1, get_hold, sizeof get_hold - 1);
    }
    turns(&f, 5);
    is_int(h.n_held, 256, "no more than the settings say are let in");
    answer_held();
    h2_free(c);
    stop(&f);
}

static void test_heads(void)
{
    fixture f;
    start(&f, with_handler3);
    static char big[16384];
    /* One field of 4000 bytes goes into the table; then it is named again and again. */
    char head[5000] = "\x82\x86\x41\x01h\x04\x05/hold\x40\x01"
                      "a\x7f\xa1\x1e";
    size_t n = sizeof "\x82\x86\x41\x01h\x04\x05/hold\x40\x01"
                      "a\x7f\xa1\x1e" -
               1;
    memset(head + n, 'z', 4000);
    n += 4000;
    memset(big, 0xbe, sizeof big);
    h2_client *c = greeted(&f);
    frame(c, HEADERS, END_STREAM, 1, head, n);
    frame(c, CONTINUATION, END_HEADERS, 1, big, 9);
    turns(&f, 3);
    bool eof;
    ot_str s = take(&f, c->fd, &eof);
    ok(!eof && memmem(s.data, s.len, "the request head is too large", 29) != NULL && h.heads == 0,
       "a head that is too large once unpacked is refused: 431");
    ot_str_done(&s);
    frame(c, HEADERS, END_STREAM, 3, head, n);
    uint64_t before = f.server->memory;
    frame(c, CONTINUATION, END_HEADERS, 3, big, sizeof big);
    h2_go(c);
    ok(c->eof && h.heads == 0 && f.server->memory <= before + 200000,
       "a bomb ends the connection and is not unpacked");
    h2_free(c);

    c = greeted(&f);
    frame(c, HEADERS, END_STREAM, 1, get_hold, sizeof get_hold - 1);
    for (int i = 0; i < 200 && !c->eof; i++) {
        frame(c, CONTINUATION, 0, 1, "\x40\x01q\x01r", 5);
        h2_go(c);
    }
    ok(c->eof && h.heads == 0, "so does a head that goes on and on");
    h2_free(c);

    static const struct {
        const char *what, *block;
    } bad[] = {
        {"no method", "\x86\x41\x01h\x04\x05/hold"},
        {"two paths", "\x82\x86\x84\x04\x05/hold"},
        {"a path without '/'", "\x82\x86\x41\x01h\x04\x04hold"},
        {"upper case", "\x82\x86\x84\x40\x01"
                       "A\x01"
                       "b"},
        {"connection", "\x82\x86\x84\x40\x0a"
                       "connection\x05"
                       "close"},
        {"te: gzip", "\x82\x86\x84\x40\x02te\x04gzip"},
        {"pseudo-field after others", "\x82\x86\x40\x01"
                                      "a\x01"
                                      "b\x84"},
        {"line end in a value", "\x82\x86\x84\x40\x01"
                                "a\x03x\ny"},
    };
    for (size_t i = 0; i < OT_COUNT(bad); i++) {
        c = greeted(&f);
        frame(c, HEADERS, END_HEADERS | END_STREAM, 1, bad[i].block, strlen(bad[i].block));
        turns(&f, 3);
        ok(h.heads == 0, "%s: not handed over", bad[i].what);
        h2_free(c);
    }
    stop(&f);
}

static void test_lies(void)
{
    fixture f;
    start(&f, with_handler3);
    static const char post[] = "\x83\x86\x84\x5c\x01"
                               "5"; /* content-length: 5 */
    h2_client *c = greeted(&f);
    frame(c, HEADERS, END_HEADERS, 1, post, sizeof post - 1);
    frame(c, DATA, END_STREAM, 1, "123", 3);
    frame(c, HEADERS, END_HEADERS, 3, post, sizeof post - 1);
    frame(c, DATA, END_STREAM, 3, "123456", 6);
    turns(&f, 3);
    is_int(h.heads, 0, "a body that is not as long as was said is not handed over");
    h2_free(c);

    c = greeted(&f);
    int32_t id = h2_ask(c, "POST", "/echo", 3 * BIG, false);
    int32_t none = h2_ask(c, "POST", "/none", 1, false);
    h2_go(c);
    ok(answer_at(c, id)->status == 413 && answer_at(c, id)->closed, "a body beyond its limit: 413");
    is_int(answer_at(c, none)->status, 413, "the limit is the route's");
    f.server->opt.memory_max_bytes = f.server->memory + 100000;
    id = h2_ask(c, "POST", "/echo", BIG, false);
    h2_go(c);
    is_int(answer_at(c, id)->status, 503, "over the server's memory: 503");
    ok(!c->eof, "the connection goes on");
    h2_free(c);

    c = greeted(&f);
    frame(c, DATA, 0, 5, "x", 1);
    h2_go(c);
    ok(c->eof, "data for a stream that is not open ends the connection");
    h2_free(c);
    c = greeted(&f);
    frame(c, WINDOW_UPDATE, 0, 0, "\x7f\xff\xff\xff", 4);
    h2_go(c);
    ok(c->eof && c->goaway_code == NGHTTP2_FLOW_CONTROL_ERROR, "so does a window that overflows");
    h2_free(c);
    int fd = dial(&f);
    put_n(&f, fd, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nthis is no frame of settings", 51);
    bool eof;
    ot_str s = take(&f, fd, &eof);
    ok(eof, "and what is no frame at all");
    ot_str_done(&s);
    close(fd);
    turns(&f, 5);
    ot_http_stats stats;
    ot_http_server_stats(f.server, &stats);
    ok(stats.conns == 0 && stats.busy == 0, "nothing is left of them");
    stop(&f);
}

static void test_slow(void)
{
    fixture f;
    start(&f, with_handler3);
    h2_client *c = greeted(&f);
    pass(c, 1500);
    ok(c->goaway && c->eof && c->goaway_code == NGHTTP2_NO_ERROR, "one that is idle is let go");
    h2_free(c);

    int fd = dial(&f);
    put(&f, fd, "PRI * HTTP/2");
    for (int i = 0; i < 80; i++) {
        fake_now += 10000000;
        turns(&f, 1);
    }
    bool eof;
    ot_str s = take(&f, fd, &eof);
    ok(eof && ot_has_prefix(s.data, "HTTP/1.1 408"), "half a preface is not waited for");
    ot_str_done(&s);
    close(fd);

    c = greeted(&f);
    frame(c, HEADERS, END_STREAM, 1, get_hold, sizeof get_hold - 1);
    pass(c, 700);
    ok(c->goaway && c->eof, "nor the rest of a head");
    h2_free(c);

    c = greeted(&f);
    int32_t id = h2_ask(c, "POST", "/echo", 10, true);
    int32_t lively = h2_ask(c, "POST", "/echo", 500, true);
    h2_go(c);
    for (int i = 0; i < 8; i++) {
        answer_at(c, lively)->to_send = 500;
        nghttp2_session_resume_data(c->session, lively);
        pass(c, 100);
    }
    ok(answer_at(c, id)->status == 408 && answer_at(c, id)->closed, "a body that stops: 408");
    h2_release(c, lively);
    h2_go(c);
    ok(answer_at(c, lively)->status == 200 && answer_at(c, lively)->body.len > 4000,
       "one that moves goes on");
    h2_free(c);

    c = h2_dial_window(&f, 0);
    id = h2_ask(c, "GET", "/big", -1, false);
    h2_go(c);
    ok(answer_at(c, id)->status == 200 && f.released == 0, "an answer waits for a window");
    pass(c, 600);
    ok(answer_at(c, id)->closed && answer_at(c, id)->code == NGHTTP2_CANCEL && f.released == 1,
       "but not for ever: it is reset, and what it held is given back");
    id = h2_ask(c, "GET", "/none", -1, false);
    h2_go(c);
    is_int(answer_at(c, id)->status, 204, "the connection goes on");
    h2_free(c);
    stop(&f);
    ot_clock_install(NULL);
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
    start(&f, with_handler3);
    ot_sock_install(&ops);
    h2_client *c = h2_dial(&f);
    int32_t id = h2_ask(c, "POST", "/echo", 3000, false);
    int32_t other = h2_ask(c, "GET", "/fields", -1, false);
    for (int i = 0; i < 100 && !answer_at(c, id)->closed; i++) {
        h2_go(c);
        turns(&f, 100);
    }
    ok(answer_at(c, id)->body.len == 3000 && answer_at(c, other)->status == 201,
       "reads and writes may be cut anywhere");
    ot_sock_install(NULL);
    h2_free(c);
    stop(&f);
}

/* Clients that go in the middle of everything, over and over. */
static void test_gone(void)
{
    fixture f;
    start(&f, with_handler3);
    ot_http_stats stats;
    uint64_t once = 0;
    for (int i = 0; i < 600; i++) {
        h2_client *c = h2_dial(&f);
        h2_ask(c, "POST", i % 2 ? "/hold" : "/echo", 20000, i % 3 == 0);
        h2_ask(c, "GET", "/big", -1, false);
        h2_ask(c, "GET", "/hold", -1, false);
        const uint8_t *p;
        for (int k = 0; k <= i % 4; k++) {
            ssize_t n = nghttp2_session_mem_send(c->session, &p);
            put_n(&f, c->fd, (const char *)p, n > 0 ? (size_t)n : 0);
        }
        if (i % 5 == 0) {
            h2_go(c);
        }
        h2_free(c);
        answer_held();
        turns(&f, 3);
        once = i == 50 ? f.server->memory : once;
    }
    ot_http_server_stats(f.server, &stats);
    ok(stats.conns == 0 && stats.busy == 0, "clients that go leave nothing behind");
    ok(f.server->memory <= once + 200000, "no memory either (%llu, %llu bytes)",
       (unsigned long long)once, (unsigned long long)f.server->memory);
    stop(&f);
}

int main(void)
{
    ot_clock_install(&fake); /* a slow machine's floods are floods, too */
    test_floods();
    test_rapid_reset();
    test_many_streams();
    test_heads();
    test_lies();
    test_slow();
    test_short_io();
    test_gone();
    return tap_done();
}
