#include "net/http.h"

#include "tap.h"

#include <stdlib.h>

/* What a parser made of a message, in one comparable line. */
static void describe(const ot_http_parser *p, ot_http_step step, size_t rest, char out[4096])
{
    if (step == OT_HTTP_BAD) {
        snprintf(out, 4096, "bad %d", p->status);
        return;
    }
    if (step == OT_HTTP_MORE) {
        snprintf(out, 4096, "more");
        return;
    }
    ot_slice m = ot_http_parser_text(p, p->method_text), path = ot_http_parser_text(p, p->path);
    ot_slice q = ot_http_parser_text(p, p->query);
    int n = snprintf(out, 4096, "%.*s|%.*s|%.*s|ka=%d|h=%u|", (int)m.n, m.p, (int)path.n, path.p,
                     (int)q.n, q.p != NULL ? q.p : "", p->keep_alive, p->n_headers);
    for (uint32_t i = 0; i < p->n_headers; i++) {
        n += snprintf(out + n, 4096 - (size_t)n, "%.*s=%.*s;", (int)p->headers[i].name.n,
                      p->base + p->headers[i].name.at, (int)p->headers[i].value.n,
                      p->base + p->headers[i].value.at);
    }
    snprintf(out + n, 4096 - (size_t)n, "|%.*s|rest=%zu", (int)p->length, p->base + p->body_at,
             rest);
}

/* Feeds text[0, n) in pieces of the given sizes (0 ends the list: the rest), in a buffer that
 * moves each time. */
static ot_http_step feed(ot_http_parser *p, const char *text, size_t n, const size_t *cuts,
                         char out[4096])
{
    char *buf = malloc(n + 1);
    size_t len = 0, at = 0;
    ot_http_step step = OT_HTTP_MORE;
    ot_http_parser_reset(p);
    while (step == OT_HTTP_MORE && at < n) {
        size_t k = *cuts != 0 && *cuts < n - at ? *cuts++ : n - at;
        char *moved = malloc(n + 1);
        memcpy(moved, buf, len);
        free(buf);
        buf = moved;
        memcpy(buf + len, text + at, k);
        at += k;
        len += k;
        step = ot_http_parser_feed(p, buf, &len);
    }
    /* What follows the message counts wherever the last cut was. */
    describe(p, step, step == OT_HTTP_DONE ? len - ot_http_parser_size(p) + (n - at) : 0, out);
    free(buf);
    return step;
}

static const size_t whole[] = {0};

static void check(const char *text, size_t n, const char *want, const char *name)
{
    ot_http_parser p;
    ot_http_limits limits = {.line_max = 64, .head_max = 256, .headers_max = 6, .body_max = 40};
    char got[4096], first[4096];
    ot_http_parser_init(&p, &limits);
    feed(&p, text, n, whole, first);
    is_str(first, want, "%s", name);
    bool same = true;
    for (size_t cut = 1; cut < n && same; cut++) {
        size_t cuts[] = {cut, 0};
        feed(&p, text, n, cuts, got);
        same = strcmp(first, got) == 0;
    }
    size_t *ones = malloc((n + 1) * sizeof *ones);
    for (size_t i = 0; i < n; i++) {
        ones[i] = 1;
    }
    ones[n] = 0;
    feed(&p, text, n, ones, got);
    free(ones);
    ok(same && strcmp(first, got) == 0, "%s: the same however it is cut", name);
}

#define CHECK(text, want) check((text), sizeof(text) - 1, (want), #text)
#define H "Host: h\r\n"

static void test_good(void)
{
    CHECK("GET /a?b=1 HTTP/1.1\r\n" H "\r\n", "GET|/a|b=1|ka=1|h=1|Host=h;||rest=0");
    CHECK("\r\nGET / HTTP/1.1\r\n" H "\r\nGET /n", "GET|/||ka=1|h=1|Host=h;||rest=6");
    CHECK("GET / HTTP/1.0\r\n\r\n", "GET|/||ka=0|h=0|||rest=0");
    CHECK("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
          "GET|/||ka=1|h=1|Connection=Keep-Alive;||rest=0");
    CHECK("GET / HTTP/1.1\r\n" H "Connection: x, CLOSE\r\n\r\n",
          "GET|/||ka=0|h=2|Host=h;Connection=x, CLOSE;||rest=0");
    CHECK("POST /x HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nabcd",
          "POST|/x||ka=1|h=2|Host=h;Content-Length=3;|abc|rest=1");
    CHECK("POST /x HTTP/1.1\r\n" H "Content-Length: 2\r\ncontent-length: 2\r\n\r\nab",
          "POST|/x||ka=1|h=3|Host=h;Content-Length=2;content-length=2;|ab|rest=0");
    CHECK("POST /x HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"
          "3\r\nabc\r\nA;e=\"1\"\r\n0123456789\r\n0\r\nT: v\r\n\r\nnext",
          "POST|/x||ka=1|h=2|Host=h;Transfer-Encoding=chunked;|abc0123456789|rest=4");
    CHECK("GET http://other:80/p?q HTTP/1.1\r\n" H "\r\n", "GET|/p|q|ka=1|h=1|Host=h;||rest=0");
    CHECK("OPTIONS * HTTP/1.1\r\n" H "\r\n", "OPTIONS|*||ka=1|h=1|Host=h;||rest=0");
    CHECK("BREW /pot HTTP/1.1\r\n" H "X:\r\nY: \t a b \t\r\n\r\n",
          "BREW|/pot||ka=1|h=3|Host=h;X=;Y=a b;||rest=0");
    CHECK("POST /x HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nab", "more");
}

static void test_bad(void)
{
    CHECK("GET / HTTP/1.1\r\n\r\n", "bad 400");              /* no Host */
    CHECK("GET / HTTP/1.1\r\n" H H "\r\n", "bad 400");       /* two */
    CHECK("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "bad 400"); /* malformed */
    CHECK("GET / HTTP/1.1\n" H "\r\n", "bad 400");           /* bare LF */
    CHECK("GET / HTTP/1.1\r\nA: b\n" H "\r\n", "bad 400");
    CHECK("GET / HTTP/1.1\r\nA: b\rc\r\n" H "\r\n", "bad 400");    /* bare CR */
    CHECK("GET / HTTP/1.1\r\n" H "A : b\r\n\r\n", "bad 400");      /* space before colon */
    CHECK("GET / HTTP/1.1\r\n" H "A: b\r\n c\r\n\r\n", "bad 400"); /* folded */
    CHECK("GET / HTTP/1.1\r\n" H "A: b\0c\r\n\r\n", "bad 400");    /* NUL */
    CHECK("GET /\0 HTTP/1.1\r\n" H "\r\n", "bad 400");
    CHECK("GET  / HTTP/1.1\r\n" H "\r\n", "bad 400");
    CHECK("GET / x HTTP/1.1\r\n" H "\r\n", "bad 400");
    CHECK("GET x HTTP/1.1\r\n" H "\r\n", "bad 400");
    CHECK("GET /a#b HTTP/1.1\r\n" H "\r\n", "bad 400");
    CHECK("GET http://u@h/ HTTP/1.1\r\n" H "\r\n", "bad 400");
    CHECK("GET /\r\n" H "\r\n", "bad 400");
    CHECK("GET / http/1.1\r\n" H "\r\n", "bad 400");
    CHECK("\r\n\r\nGET / HTTP/1.1\r\n" H "\r\n", "bad 400");
    CHECK("\x16\x03\x01\x02", "bad 400"); /* TLS */
    CHECK("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "bad 505");
    CHECK("ABCDEFGHIJKLMNOPQRSTUVWXYZ / HTTP/1.1\r\n" H "\r\n", "bad 501");
    CHECK("P / HTTP/1.1\r\n" H "Content-Length: 1\r\nContent-Length: 2\r\n\r\na", "bad 400");
    CHECK("P / HTTP/1.1\r\n" H "Content-Length: 1, 1\r\n\r\na", "bad 400");
    CHECK("P / HTTP/1.1\r\n" H "Content-Length: +1\r\n\r\na", "bad 400");
    CHECK("P / HTTP/1.1\r\n" H "Content-Length: \r\n\r\na", "bad 400");
    CHECK("P / HTTP/1.1\r\n" H "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
          "bad 400");
    CHECK("P / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
          "bad 400");
    CHECK("P / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n", "bad 501");
    CHECK("P / HTTP/1.1\r\n" H "Transfer-Encoding: xchunked\r\n\r\n", "bad 501");
    CHECK("P / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "bad 400");
    CHECK("P / HTTP/1.1\r\n" H "Expect: wonders\r\n\r\n", "bad 417");
}

static void test_bad_chunks(void)
{
#define C "P / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"
    CHECK(C "g\r\n", "bad 400");
    CHECK(C "\r\n", "bad 400");
    CHECK(C "-1\r\n", "bad 400");
    CHECK(C "0x1\r\na\r\n", "bad 400");
    CHECK(C "1\na\r\n", "bad 400");
    CHECK(C "1\r\nab\r\n", "bad 400");
    CHECK(C "1\r\na\n", "bad 400");
    CHECK(C "1;a\0b\r\na\r\n", "bad 400");
    CHECK(C "0\r\n folded\r\n\r\n", "bad 400");
    CHECK(C "0000000000000001\r\na\r\n", "bad 400");
    CHECK(C "29\r\n", "bad 413");
    CHECK(C "FFFFFFFFFFFFFFF\r\n", "bad 413");
    CHECK(C "14\r\n01234567890123456789\r\n15\r\n", "bad 413");
    CHECK(C "5\r\nab", "more");
}

static void test_limits(void)
{
    CHECK("P / HTTP/1.1\r\n" H "Content-Length: 41\r\n\r\n", "bad 413");
    CHECK("P / HTTP/1.1\r\n" H "Content-Length: 99999999999999999999\r\n\r\n", "bad 413");
    CHECK(
        "GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa HTTP/1.1\r\n" H
        "\r\n",
        "bad 414");
    CHECK("GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "bad 414");
    CHECK("G / HTTP/1.1\r\na:\r\na:\r\na:\r\na:\r\na:\r\na:\r\na:\r\n\r\n", "bad 431");
    char big[400];
    int n = snprintf(big, sizeof big, "GET / HTTP/1.1\r\nX: %0300d\r\n\r\n", 0);
    check(big, (size_t)n, "bad 431", "a head that is too long");
    check(big, 280, "bad 431", "a head that is too long, before its end");
}

static void test_header_lookup(void)
{
    char text[] = "GET / HTTP/1.1\r\nHost: a\r\nX-Key: 1\r\nx-key: 2\r\nEmpty:\r\n\r\n";
    size_t len = sizeof text - 1;
    ot_http_parser p;
    ot_http_parser_init(&p, NULL);
    ok(ot_http_parser_feed(&p, text, &len) == OT_HTTP_DONE, "parsed");
    ok(ot_slice_eq(ot_http_parser_header(&p, "x-KEY"), "1"), "the first of the name, any case");
    ok(ot_http_parser_header(&p, "x-ke").p == NULL, "absent: NULL");
    ot_slice e = ot_http_parser_header(&p, "empty");
    ok(e.p != NULL && e.n == 0, "empty is not absent");
}

static const char *split(const char *path, size_t n, char out[512])
{
    ot_arena a;
    ot_arena_init(&a, 1024, 1 << 16);
    ot_slice seg[4];
    size_t count = 0;
    ot_rc rc = ot_http_path_split((ot_slice){path, n}, &a, seg, 4, &count, NULL);
    int at = snprintf(out, 512, "%s", rc == OT_OK ? "" : ot_rc_name(rc));
    for (size_t i = 0; rc == OT_OK && i < count; i++) {
        at += snprintf(out + at, 512 - (size_t)at, "[%s]", seg[i].p);
    }
    ot_arena_done(&a);
    return out;
}
#define SPLIT(s) split((s), sizeof(s) - 1, text)

static void test_paths(void)
{
    char text[512];
    is_str(SPLIT("/"), "", "root");
    is_str(SPLIT("/a/b%20c/"), "[a][b c][]", "segments, escape, trailing slash");
    is_str(SPLIT("/%C3%A9+"), "[\xc3\xa9+]", "UTF-8; plus stays");
    const char *invalid = ot_rc_name(OT_INVALID);
    is_str(SPLIT("/a/../b"), invalid, "dot dot");
    is_str(SPLIT("/%2e%2E/b"), invalid, "encoded dot dot");
    is_str(SPLIT("/a%2Fb"), invalid, "encoded slash");
    is_str(SPLIT("/a%00"), invalid, "encoded NUL");
    is_str(SPLIT("/a%0a"), invalid, "encoded control");
    is_str(SPLIT("/a%2"), invalid, "cut escape");
    is_str(SPLIT("/a%"), invalid, "cut escape");
    is_str(SPLIT("/a%zz"), invalid, "bad escape");
    is_str(SPLIT(""), invalid, "empty");
    is_str(SPLIT("/1/2/3/4/5"), ot_rc_name(OT_RANGE), "too many");
}

static void test_queries(void)
{
    ot_arena a;
    ot_arena_init(&a, 1024, 1 << 16);
    static const char q[] = "a=1&b=x%20y+z&c&=e&d%3D=4&a=2";
    ot_slice query = {q, sizeof q - 1}, v;
    ok(ot_http_query_get(query, "a", &a, &v, NULL) == OT_OK && ot_slice_eq(v, "1"), "first value");
    ok(ot_http_query_get(query, "b", &a, &v, NULL) == OT_OK && ot_slice_eq(v, "x y z"), "decoded");
    ok(ot_http_query_get(query, "c", &a, &v, NULL) == OT_OK && v.n == 0, "no value: empty");
    ok(ot_http_query_get(query, "d=", &a, &v, NULL) == OT_OK && ot_slice_eq(v, "4"),
       "name decoded");
    ok(ot_http_query_get(query, "z", &a, &v, NULL) == OT_NOT_FOUND, "absent");
    ok(ot_http_query_get((ot_slice){0}, "z", &a, &v, NULL) == OT_NOT_FOUND, "no query");
    ok(ot_http_query_get((ot_slice){"a=%0", 4}, "a", &a, &v, NULL) == OT_INVALID, "bad escape");
    ot_arena_done(&a);
}

/* A parser that has just read `known` reads `next` as a fresh one does. */
static bool as_fresh(const char *known, const char *next, size_t n, const size_t *cuts)
{
    static const ot_http_limits limits = {
        .line_max = 64, .head_max = 256, .headers_max = 6, .body_max = 40};
    static ot_http_parser p, fresh;
    char first[4096], got[4096], want[4096];
    ot_http_parser_init(&p, &limits);
    ot_http_parser_init(&fresh, &limits);
    feed(&p, next, n, cuts, first);
    feed(&p, known, strlen(known), whole, first);
    ot_http_step step = feed(&p, next, n, cuts, got);
    return feed(&fresh, next, n, cuts, want) == step && strcmp(got, want) == 0 &&
           (step != OT_HTTP_BAD || strcmp(p.reason, fresh.reason) == 0) &&
           p.method == fresh.method && p.expect_continue == fresh.expect_continue;
}

static void test_known_heads(void)
{
    static const char *const heads[] = {
        "POST /v2/models/m/infer?a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nX: y\r\n\r\nabc",
        "\r\nPUT http://o/p HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1\r\n"
        "\r\nz",
        "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        "POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"};
    for (size_t i = 0; i < OT_COUNT(heads); i++) {
        size_t n = strlen(heads[i]), cut = 0, bad = 0;
        for (cut = 1; cut < n; cut++) {
            size_t cuts[] = {cut, 0};
            bad += !as_fresh(heads[i], heads[i], n, cuts);
        }
        is_int(bad, 0, "head %zu again, however it is cut", i);
        bad = 0;
        for (size_t at = 0; at < n; at++) {
            static const char other[] = {'\r', '\n', ' ', ':', '0', '4', 'a', 'H', 1};
            char text[512];
            memcpy(text, heads[i], n);
            for (size_t k = 0; k < sizeof other; k++) {
                text[at] = other[k];
                bad += !as_fresh(heads[i], text, n, whole);
            }
            bad += !as_fresh(heads[i], heads[i], at, whole);
            memmove(text + at, heads[i] + at + 1, n - at - 1);
            bad += !as_fresh(heads[i], text, n - 1, whole);
        }
        is_int(bad, 0, "what differs from head %zu in one byte is read for itself", i);
        for (size_t k = 0; k < OT_COUNT(heads); k++) {
            ok(as_fresh(heads[i], heads[k], strlen(heads[k]), whole), "head %zu, then %zu", i, k);
        }
    }
    ot_http_parser p;
    char got[4096];
    ot_http_parser_init(&p, NULL);
    feed(&p, heads[0], strlen(heads[0]), whole, got);
    p.limits.body_max = 2;
    feed(&p, heads[0], strlen(heads[0]), whole, got);
    is_str(got, "bad 413", "a known head under a smaller limit");
    is_int(p.method, OT_HTTP_POST, "and its method is known");
    p.limits.body_max = 3;
    feed(&p, heads[0], strlen(heads[0]), whole, got);
    ok(strstr(got, "|abc|") != NULL, "and under a larger one: %s", got);
}

int main(void)
{
    test_good();
    test_known_heads();
    test_bad();
    test_bad_chunks();
    test_limits();
    test_header_lookup();
    test_paths();
    test_queries();
    return tap_done();
}
