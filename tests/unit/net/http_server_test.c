#include "net/http_server.h"

#include "tap.h"
#include "unit/net/http_fixture.h"

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

int main(void)
{
    test_basics();
    test_pipeline();
    test_bytewise();
    test_large();
    test_continue();
    test_gone();
    test_stream();
    return tap_done();
}
