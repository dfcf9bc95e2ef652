/* HTTP/2: requests and answers as HTTP/1 has them, several at once, in pieces, with trailers; what
 * happens when either side goes. */
#include "base/mem.h"
#include "net/h2.h"
#include "unit/net/h2_client.h"

static struct {
    ot_http_req *held[8];
    int n_held;
    ot_http_req *reader;
    size_t got;
    int pieces, ends, events;
    bool consume;
    char seen[64]; /* what the last request said of itself */
} h;

static void on_event2(void *arg)
{
    (void)arg;
    h.events++;
}

static void on_body(void *arg, const char *p, size_t n, bool end)
{
    (void)p;
    h.got += n;
    h.pieces += n > 0;
    h.ends += end;
    if (h.consume && n > 0) {
        ot_http_req_consumed(arg, n);
    }
}

#define UNIQUE_NAME "x-twenty-seven-bytes-long--"

static const ot_http_field status_ok[] = {{"grpc-status", "0"}, {"Grpc-Message", "fine"}};

static void answer_trailers(ot_http_req *req, size_t n)
{
    struct iovec v = {.iov_base = (char[]){"abc"}, .iov_len = n};
    ot_http_respond(req, &(ot_http_answer){.status = 200,
                                           .type = "application/grpc",
                                           .body = &v,
                                           .n_body = 1,
                                           .trailers = status_ok,
                                           .n_trailers = 2});
}

static void handler2(void *arg, ot_http_req *req)
{
    snprintf(h.seen, sizeof h.seen, "%d %.*s %.*s %.*s %zu", req->version, (int)req->method_text.n,
             req->method_text.p, (int)req->query.n, req->query.p, (int)req->host.n, req->host.p,
             ot_http_req_header_count(req));
    if (ot_slice_eq(req->path, "/hold")) {
        h.held[h.n_held++] = req;
    } else if (ot_slice_eq(req->path, "/trailers")) {
        answer_trailers(req, 3);
    } else if (ot_slice_eq(req->path, "/unique")) {
        const ot_http_field f = {UNIQUE_NAME, req->query.p};
        ot_http_respond(
            req, &(ot_http_answer){.status = 200, .fields = &f, .n_fields = 1, .n_unique = 1});
    } else if (ot_slice_eq(req->path, "/trailers-only")) {
        answer_trailers(req, 0);
    } else if (ot_slice_eq(req->path, "/read")) {
        h.reader = req;
        ot_http_req_read(req, on_body, req);
    } else if (ot_slice_eq(req->path, "/pieces")) {
        h.held[h.n_held++] = req;
        ot_http_stream_begin(req, &(ot_http_answer){.status = 200, .type = "text/plain"}, on_event2,
                             NULL);
    } else {
        handler(arg, req);
    }
}

static bool reads(void *arg, const ot_http_req *req)
{
    (void)arg;
    return ot_slice_eq(req->path, "/read");
}

static void with_handler2(ot_http_options *o)
{
    o->handler = handler2;
    o->streams = reads;
    memset(&h, 0, sizeof h);
    h.consume = true;
}

static const ot_http_answer plain = {.status = 200};

static void test_requests(void)
{
    fixture f;
    start(&f, with_handler2);
    h2_client *c = h2_dial(&f);
    int32_t id = h2_ask(c, "GET", "/none?a=b", -1, false);
    h2_go(c);
    h2_answer *a = answer_at(c, id);
    ok(a->status == 204 && a->closed && a->code == 0 && a->ended_with_head,
       "an answer without a body ends with its head");
    is_str(h.seen, "20 GET a=b h 2", "version, method, query, host and fields");
    ok(has_field(a, "date: ") && !has_field(a, "content-length"), "it has a date and no length");

    id = h2_ask(c, "POST", "/echo", 300000, false);
    h2_go(c);
    a = answer_at(c, id);
    ok(a->status == 200 && a->body.len == 300000 && a->body.data[299999] == 'x',
       "a body larger than a window comes and goes");
    ok(has_field(a, "content-type: text/plain\n") && has_field(a, "content-length: 300000\n"),
       "type and length");
    id = h2_ask(c, "GET", "/header", -1, false);
    int32_t unknown = h2_ask(c, "GET", "/unknown", -1, false);
    int32_t fields = h2_ask(c, "GET", "/fields", -1, false);
    int32_t split = h2_ask(c, "GET", "/split", -1, false);
    int32_t head = h2_ask(c, "HEAD", "/big", -1, false);
    h2_go(c);
    is_str(answer_at(c, id)->body.data, "here", "a field of the request");
    ok(answer_at(c, unknown)->status == 404 && answer_at(c, unknown)->body.len > 10, "404");
    ok(answer_at(c, fields)->status == 201 && has_field(answer_at(c, fields), "x-test: fine\n"),
       "fields of the answer, in lower case");
    ok(answer_at(c, split)->status == 500 && answer_at(c, split)->closed,
       "fields that could break the framing become 500");
    a = answer_at(c, head);
    ok(a->closed && a->body.len == 0 && has_field(a, "content-length: 1048576\n"),
       "HEAD: the length and no body");
    is_int(f.released, 1, "what lies outside is given back");
    id = h2_ask(c, "GET", "/big", -1, false);
    h2_go(c);
    ok(answer_at(c, id)->body.len == BIG && memcmp(answer_at(c, id)->body.data, f.big, BIG) == 0 &&
           f.released == 2,
       "a large body from outside");
    h2_free(c);
    stop(&f);
}

static void test_trailers(void)
{
    fixture f;
    start(&f, with_handler2);
    h2_client *c = h2_dial(&f);
    int32_t id = h2_ask(c, "POST", "/trailers", 10, false);
    int32_t only = h2_ask(c, "POST", "/trailers-only", 10, false);
    h2_go(c);
    const h2_answer *a = answer_at(c, id);
    ok(a->heads == 2 && a->ended_with_head && a->body.len == 3 &&
           has_field(a, "grpc-status: 0\n") && has_field(a, "grpc-message: fine\n"),
       "trailers follow the body and end the stream, in lower case");
    ok(!has_field(a, "content-length"), "no length is told where trailers follow");
    a = answer_at(c, only);
    ok(a->heads == 1 && a->ended_with_head && has_field(a, ":status: 200\n") &&
           has_field(a, "grpc-status: 0\n"),
       "without a body they go with the head");
    h2_free(c);
    stop(&f);
}

/* Bytes that an answer with this value takes, which is checked. */
static size_t unique_bytes(h2_client *c, const char *path, const char *line)
{
    ot_http_stats before, after;
    ot_http_server_stats(c->f->server, &before);
    int32_t id = h2_ask(c, "GET", path, -1, false);
    h2_go(c);
    ot_http_server_stats(c->f->server, &after);
    bool right = has_field(answer_at(c, id), line);
    return right ? (size_t)(after.bytes_out - before.bytes_out) : 0;
}

static void test_unique(void)
{
    fixture f;
    start(&f, with_handler2);
    h2_client *c = h2_dial(&f);
    h2_ask(c, "GET", "/none", -1, false); /* settings, the date */
    h2_go(c);
    size_t first = unique_bytes(c, "/unique?v1", UNIQUE_NAME ": v1\n");
    size_t again = unique_bytes(c, "/unique?v2", UNIQUE_NAME ": v2\n");
    size_t same = unique_bytes(c, "/unique?v2", UNIQUE_NAME ": v2\n");
    ok(again > 0 && first >= again + 15, "a unique field's name is sent once: %zu, then %zu bytes",
       first, again);
    ok(again == same, "its values are never kept");
    h2_free(c);
    stop(&f);
}

static void test_several(void)
{
    fixture f;
    start(&f, with_handler2);
    h2_client *c = h2_dial(&f);
    int32_t first = h2_ask(c, "POST", "/hold", 5, false);
    int32_t second = h2_ask(c, "POST", "/hold", 6, false);
    int32_t third = h2_ask(c, "POST", "/hold", 7, false);
    h2_go(c);
    ot_http_stats stats;
    ot_http_server_stats(f.server, &stats);
    ok(h.n_held == 3 && stats.busy == 3 && h.held[2]->body.n == 7, "several are in flight");
    ot_http_respond_bytes(h.held[2], 200, NULL, "3", 1);
    ot_http_respond_bytes(h.held[0], 200, NULL, "1", 1);
    h2_go(c);
    is_str(answer_at(c, third)->body.data, "3", "the last is answered first");
    is_str(answer_at(c, first)->body.data, "1", "and the first");
    ok(answer_at(c, second)->status == 0, "the other waits");

    nghttp2_submit_rst_stream(c->session, 0, second, NGHTTP2_CANCEL);
    h2_go(c);
    ok(h.held[1]->cancelled && ot_slice_eq(h.held[1]->body, "xxxxxx"),
       "a stream that its client resets is cancelled, and still whole");
    ot_http_respond_bytes(h.held[1], 200, NULL, "2", 1);
    int32_t fourth = h2_ask(c, "GET", "/hold", -1, false);
    int32_t fifth = h2_ask(c, "GET", "/pieces", -1, false);
    h2_go(c);
    is_int(h.n_held, 5, "others go on");
    h2_hang_up(c);
    ok(h.held[3]->cancelled && h.held[3]->fd == -1 && h.held[4]->cancelled,
       "when the connection goes all of its are cancelled");
    is_int(h.events, 1, "and who writes pieces is told");
    ot_http_server_stats(f.server, &stats);
    ok(stats.busy == 2 && stats.conns == 0, "they wait for their answers");
    ok(ot_http_stream_write(h.held[4], "x", 1) == OT_CANCELLED, "nothing is written");
    answer_big(&f, h.held[3]);
    is_int(f.released, 1, "an answer to nobody is released");
    ot_http_stream_end(h.held[4]);
    ot_http_server_stats(f.server, &stats);
    is_int(stats.busy, 0, "all are answered");
    (void)fourth, (void)fifth;
    h2_free(c);
    stop(&f);
}

static void test_pieces(void)
{
    fixture f;
    start(&f, with_handler2);
    h2_client *c = h2_dial(&f);
    int32_t id = h2_ask(c, "POST", "/pieces", 3, true);
    h2_go(c);
    is_int(h.n_held, 0, "a body that is not whole is waited for");
    h2_release(c, id);
    h2_go(c);
    h2_answer *a = answer_at(c, id);
    ok(h.n_held == 1 && a->status == 200 && !a->closed, "the head leaves at once");
    ok(ot_http_stream_write(h.held[0], "one ", 4) == OT_OK, "write");
    ok(ot_http_stream_write(h.held[0], "two", 3) == OT_OK, "and again");
    h2_go(c);
    is_str(a->body.data, "one two", "pieces leave at the end of the turn");
    c->no_updates = true;
    size_t wrote = 0;
    ot_rc rc = OT_OK;
    while (rc == OT_OK && wrote < 4 * BIG) {
        rc = ot_http_stream_write(h.held[0], f.big, 1000);
        wrote += rc == OT_OK ? 1000 : 0;
        turns(&f, 1);
    }
    h2_go(c);
    is_int(rc, OT_EXHAUSTED, "a client that does not read is found");
    is_int(h.events, 0, "nothing happens meanwhile");
    c->no_updates = false;
    nghttp2_session_consume(c->session, id, a->body.len - 7);
    h2_go(c);
    ok(h.events == 1 && a->body.len == wrote + 7, "when it does there is room, and all has come");
    ot_http_stream_end_with(h.held[0], status_ok, 2);
    h2_go(c);
    ok(a->closed && a->heads == 2 && has_field(a, "grpc-status: 0\n"), "trailers end it");

    id = h2_ask(c, "GET", "/pieces", -1, false);
    h2_go(c);
    ot_http_stream_end(h.held[1]);
    h2_go(c);
    a = answer_at(c, id);
    ok(a->closed && a->code == 0 && a->body.len == 0, "an end without pieces");
    id = h2_ask(c, "GET", "/pieces", -1, false);
    h2_go(c);
    ot_http_stream_end_with(h.held[2], &(ot_http_field){"x", "a\nb"}, 1);
    h2_go(c);
    a = answer_at(c, id);
    ok(a->closed && a->code == NGHTTP2_INTERNAL_ERROR,
       "trailers that can't be sent reset the stream: it must not look whole");
    h2_free(c);
    stop(&f);
}

static void test_reading(void)
{
    fixture f;
    start(&f, with_handler2);
    h2_client *c = h2_dial(&f);
    int32_t id = h2_ask(c, "POST", "/read", 0, true);
    h2_go(c);
    ok(h.reader != NULL && h.got == 0 && h.reader->body.n == 0, "the handler has it at once");
    answer_at(c, id)->to_send = 3000;
    nghttp2_session_resume_data(c->session, id);
    h2_go(c);
    ok(h.got == 3000 && h.ends == 0, "its body comes in pieces");
    ot_http_stream_begin(h.reader, &plain, on_event2, NULL);
    ok(ot_http_stream_write(h.reader, "early", 5) == OT_OK, "the answer begins before its end");
    answer_at(c, id)->to_send = 3 * BIG;
    h2_release(c, id);
    h2_go(c);
    ok(h.got == 3000 + 3 * BIG && h.ends == 1, "more than a window, then the end");
    ot_http_stream_end(h.reader);
    h2_go(c);
    ok(answer_at(c, id)->closed && answer_at(c, id)->code == 0, "and the end of the answer");

    h.consume = false;
    h.got = 0;
    id = h2_ask(c, "POST", "/read", 3 * BIG, false);
    h2_go(c);
    is_int(h.got, BIG, "a handler that consumes nothing gets one window");
    int32_t other = h2_ask(c, "POST", "/echo", 1000, false);
    h2_go(c);
    is_int(answer_at(c, other)->status, 200, "other streams go on");
    ot_http_req_consumed(h.reader, h.got);
    h2_go(c);
    is_int(h.got, 2 * BIG, "when it has, another");
    ot_http_respond_bytes(h.reader, 400, NULL, "no", 2);
    h2_go(c);
    const h2_answer *a = answer_at(c, id);
    ok(a->status == 400 && a->closed && a->code == NGHTTP2_NO_ERROR && a->body.len == 2,
       "an answer before the end stops the client");

    h.ends = 0;
    h2_ask(c, "GET", "/read", -1, false);
    h2_go(c);
    is_int(h.ends, 1, "a request without a body ends at once");
    ot_http_respond(h.reader, &plain);
    id = h2_ask(c, "POST", "/read", 10, true);
    h2_go(c);
    nghttp2_submit_rst_stream(c->session, 0, id, NGHTTP2_CANCEL);
    h2_go(c);
    ok(h.ends == 2 && h.reader->cancelled, "a reset ends it, cancelled");
    ot_http_respond(h.reader, &plain);
    h2_free(c);
    stop(&f);
}

/* Both kinds of HTTP are told apart by their first bytes, wherever they are cut. */
static void test_preface(void)
{
    fixture f;
    start(&f, with_handler2);
    h2_client *c = h2_dial(&f);
    h2_ask(c, "GET", "/none", -1, false);
    const uint8_t *p;
    for (ssize_t n; (n = nghttp2_session_mem_send(c->session, &p)) > 0;) {
        for (ssize_t i = 0; i < n; i++) {
            put_n(&f, c->fd, (const char *)p + i, 1);
        }
    }
    h2_go(c);
    is_int(answer_at(c, 1)->status, 204, "byte by byte");
    h2_free(c);
    int fd = dial(&f);
    bool eof;
    put(&f, fd, "P");
    put(&f, fd, "OST /echo HTTP/1.1\r\n" H "Content-Length: 2\r\n\r\nhi");
    ot_str s = take(&f, fd, &eof);
    ok(!eof && has_tail(&s, "\r\n\r\nhi"), "P begins POST as well");
    ot_str_done(&s);
    put(&f, fd, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    s = take(&f, fd, &eof);
    ok(eof && count(&s, "HTTP/1.1 505") == 1, "the preface is no second request");
    ot_str_done(&s);
    close(fd);
    fd = dial(&f);
    put(&f, fd, "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n");
    s = take(&f, fd, &eof);
    ok(eof && count(&s, "HTTP/1.1 505") == 1, "nor is what only begins like it");
    ot_str_done(&s);
    close(fd);
    stop(&f);
}

static void test_drain(void)
{
    fixture f;
    start(&f, with_handler2);
    h2_client *c = h2_dial(&f), *idle = h2_dial(&f);
    int32_t id = h2_ask(c, "GET", "/hold", -1, false);
    h2_go(c);
    h2_go(idle);
    ot_http_server_drain(f.server, 0, 60000, on_release, &f);
    for (int i = 0; i < 200 && !(c->goaway && idle->eof); i++) {
        if (ot_loop_turn(f.loop, 10, NULL) != OT_OK) {
            break;
        }
        h2_go(c);
        h2_go(idle);
    }
    ok(c->goaway && !c->eof && c->goaway_code == NGHTTP2_NO_ERROR && c->goaway_last == id,
       "a drain says which streams will be answered");
    ok(idle->eof && f.released == 0, "a connection without any is closed");
    ot_http_respond_bytes(h.held[0], 200, NULL, "last", 4);
    for (int i = 0; i < 200 && !c->eof; i++) {
        h2_go(c);
    }
    ok(answer_at(c, id)->status == 200 && c->eof, "they are, then it is closed");
    h2_hang_up(c);
    h2_hang_up(idle);
    turns(&f, 5);
    is_int(f.released, 1, "the drain is over");
    h2_free(c);
    h2_free(idle);
    stop(&f);
}

static void test_rest(void)
{
    fixture f;
    start(&f, with_handler2);
    h2_client *c = h2_dial(&f);
    int32_t id = h2_ask(c, "GET", "/hold", -1, false);
    h2_go(c);
    http_conn *conn = f.server->conns;
    ok(!h2_rest(conn), "a connection with a request does not rest");
    ot_http_respond_bytes(h.held[--h.n_held], 200, NULL, "late", 4);
    h2_go(c);
    is_int(answer_at(c, id)->status, 200, "which is answered");
    const h2_block *frame = &conn->h2->frame;
    const char *p = frame->p;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    ok(h2_rest(conn) && !h2_rest(conn), "then it rests, once");
    if (frame->n < page) {
        skip("the system's pages are larger than what a session frames into");
    } else {
        ok(p[0] == 0 && memcmp(p, p + 1, page - 1) == 0, "and holds no page to frame into");
    }
    for (int i = 0; i < 2; i++) {
        id = h2_ask(c, "POST", "/echo", 20000, false);
        h2_go(c);
        is_int((long long)answer_at(c, id)->body.len, 20000, "it works as before");
        ok(h2_rest(conn), "and rests again");
    }
    h2_free(c);
    stop(&f);
}

/* A warm connection takes small requests without allocating; nghttp2's own are counted too. */
static void test_memory_fails(void)
{
    int bad = 0, fine = 0;
    for (uint64_t nth = 1; nth < 400; nth++) {
        fixture f;
        start(&f, with_handler2);
        h2_client *c = h2_dial(&f);
        h2_ask(c, "POST", "/trailers", 5000, false);
        h2_ask(c, "POST", "/echo", 20000, false);
        h2_ask(c, "GET", "/big", -1, false);
        (void)ot_mem_fail_nth(nth);
        h2_go(c);
        (void)ot_mem_fail_nth(0);
        fine += answer_at(c, 5)->body.len == BIG;
        bad += !c->eof && answer_at(c, 5)->status == 0 && !answer_at(c, 5)->closed;
        for (int i = 0; i < h.n_held; i++) {
            ot_http_respond(h.held[i], &plain);
        }
        h2_free(c);
        stop(&f);
    }
    ok(bad == 0, "no connection hangs when memory is short (%d)", bad);
    ok(fine > 0, "and some get through (%d)", fine);
}

int main(void)
{
    test_requests();
    test_trailers();
    test_unique();
    test_several();
    test_pieces();
    test_reading();
    test_preface();
    test_drain();
    test_rest();
    test_memory_fails();
    return tap_done();
}
