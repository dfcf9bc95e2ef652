#include "load/reply.h"

#include "tap.h"

static char buf[4096];

/* Reads the text in steps; what is left of it lies in buf. */
static ot_http_step reads(ot_load_reply *r, const char *text, size_t step, const char **why)
{
    size_t len = 0, n = strlen(text);
    ot_http_step s = OT_HTTP_MORE;
    *r = (ot_load_reply){0};
    *why = "";
    for (size_t at = 0; at < n && s == OT_HTTP_MORE; at += step) {
        size_t k = OT_MIN(step, n - at);
        memcpy(buf + len, text + at, k);
        len += k;
        s = ot_load_reply_feed(r, buf, &len, why);
    }
    return s == OT_HTTP_MORE ? ot_load_reply_end(r, len, why) : s;
}

static void is_answer(const char *text, int status, const char *body, bool closes)
{
    ot_load_reply r;
    const char *why;
    for (size_t step = 1; step < 200; step += 13) {
        if (reads(&r, text, step, &why) != OT_HTTP_DONE || r.status != status ||
            r.body_len != strlen(body) || memcmp(buf + r.head_len, body, r.body_len) != 0 ||
            r.close != closes) {
            ok(false, "%d %s in steps of %zu: %s", status, body, step, why);
            return;
        }
    }
    ok(true, "%d %s", status, body);
}

static void is_bad(const char *text, const char *part)
{
    ot_load_reply r;
    const char *why;
    ot_http_step step = reads(&r, text, 4096, &why);
    ok(step == OT_HTTP_BAD && strstr(why, part) != NULL, "%s: %s", part, why);
}

int main(void)
{
    is_answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", false);
    is_answer("HTTP/1.1 503 No\r\ncontent-length:2\r\nconnection: Close\r\n\r\nno", 503, "no",
              true);
    is_answer(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        200, "abcde", false);
    is_answer("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nX: y\r\n\r\n", 204, "",
              false);
    is_answer("HTTP/1.0 200 OK\r\nX: y\r\n\r\nto the end", 200, "to the end", true);
    is_bad("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhello", "bytes follow");
    is_bad("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", "ended before");
    is_bad("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "not a number");
    is_bad("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", "64 MiB");
    is_bad("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", "chunked");
    is_bad("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "chunk");
    is_bad("SSH-2.0-server hello\r\n\r\n", "not HTTP/1.1");

    ot_load_reply r;
    const char *why;
    const char *text = "HTTP/1.1 200 OK\r\nA-B: 1\r\nA:  two \r\nContent-Length: 0\r\n\r\n";
    is_int(reads(&r, text, 4096, &why), OT_HTTP_DONE, "fields");
    ot_slice v = ot_load_reply_field(buf, r.head_len, "a");
    ok(v.n == 3 && memcmp(v.p, "two", 3) == 0, "a name is whole, a value trimmed");
    ok(ot_load_reply_field(buf, r.head_len, "b").p == NULL, "absent");
    return tap_done();
}
