#include "net/http_response.h"

#include "tap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Feeds `text` in pieces of `cut` bytes; the body lands in `body`. */
static ot_http_step feed(ot_http_response *r, const char *text, size_t n, size_t cut, ot_str *body,
                         size_t *used_all, const char **why)
{
    ot_http_step step = OT_HTTP_MORE;
    char *copy = malloc(n + 1);
    memcpy(copy, text, n);
    *used_all = 0;
    for (size_t at = 0; at < n && step == OT_HTTP_MORE;) {
        size_t k = n - at < cut ? n - at : cut, used;
        ot_slice piece;
        step = ot_http_response_feed(r, copy + at, k, &used, &piece, why);
        ot_str_add(body, piece.p, piece.n);
        at += used;
        *used_all = at;
    }
    free(copy);
    return step;
}

static void whole(const char *text, int status, const char *want, bool close)
{
    size_t n = strlen(text);
    for (size_t cut = 1; cut <= n; cut++) {
        ot_http_response r;
        ot_str body;
        size_t used;
        const char *why = "";
        ot_http_response_init(&r);
        ot_str_init(&body);
        ot_http_step step = feed(&r, text, n, cut, &body, &used, &why);
        if (step == OT_HTTP_MORE && r.close) {
            step = ot_http_response_end(&r, &why);
        }
        bool good = step == OT_HTTP_DONE && r.status == status && r.close == close && used == n &&
                    body.len == strlen(want) &&
                    (body.len == 0 || memcmp(body.data, want, body.len) == 0);
        if (!good || cut == n) {
            ok(good, "%d in pieces of %zu: %s", status, cut, why);
        }
        ot_str_done(&body);
        ot_http_response_done(&r);
        if (!good) {
            return;
        }
    }
}

static void refused(const char *text, const char *word)
{
    ot_http_response r;
    ot_str body;
    size_t used;
    const char *why = "";
    ot_http_response_init(&r);
    ot_str_init(&body);
    ot_http_step step = feed(&r, text, strlen(text), 7, &body, &used, &why);
    if (step == OT_HTTP_MORE) {
        step = ot_http_response_end(&r, &why);
    }
    ok(step == OT_HTTP_BAD && strstr(why, word) != NULL, "refused (%s): %s", word, why);
    ot_str_done(&body);
    ot_http_response_done(&r);
}

static void fields(void)
{
    static const char text[] =
        "HTTP/1.1 200 OK\r\nA: 1\r\nContent-Length: 0\r\nX-Long:  two words \r\n\r\nnext";
    ot_http_response r;
    ot_str body;
    size_t used;
    const char *why = "";
    ot_http_response_init(&r);
    ot_str_init(&body);
    ok(feed(&r, text, sizeof text - 1, 1000, &body, &used, &why) == OT_HTTP_DONE, "whole");
    is_int((long long)used, sizeof text - 1 - 4, "what follows is not taken");
    ok(ot_slice_eq(ot_http_response_header(&r, "x-long"), "two words"), "a field");
    ok(ot_slice_eq(ot_http_response_header(&r, "a"), "1"), "the first one");
    ok(ot_http_response_header(&r, "b").p == NULL, "none");
    ot_http_response_reset(&r);
    ok(!r.head_done && r.head.len == 0, "and again");
    ot_str_done(&body);
    ot_http_response_done(&r);
}

int main(void)
{
    whole("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", false);
    whole(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n",
        200, "hello", false);
    whole("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 \r\nContent-Length: 0\r\n\r\n", 201, "",
          false);
    whole("HTTP/1.1 204 No Content\r\n\r\n", 204, "", false);
    whole("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", 200, "ok", true);
    whole("HTTP/1.0 200 OK\r\n\r\nuntil the end", 200, "until the end", true);
    whole("HTTP/1.1 500 Oh\r\nA: b\r\n\r\n", 500, "", true);
    refused("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", "ended");
    refused("HTTP/1.1 200 OK\r\n", "ended");
    refused("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n", "ended");
    refused("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "two framings");
    refused("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "not chunked");
    refused("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", "not a number");
    refused("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", "not a number");
    refused("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", "not a number");
    refused("HTTP/2 200 OK\r\nA: b\r\n\r\n", "not HTTP/1.1");
    refused("HTTP/1.1 2x0 OK\r\nA: b\r\n\r\n", "not HTTP/1.1");
    refused("HTTP/1.1 200 OK\r\nA: b\x01\r\n\r\n", "not HTTP/1.1");
    refused("HTTP/1.1 200 OK\nA: b\r\n\r\n", "not HTTP/1.1");
    refused("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "hexadecimal");
    fields();
    return tap_done();
}
