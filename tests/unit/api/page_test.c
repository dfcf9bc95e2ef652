/* The page's files over HTTP: which are there, in which coding, whether they are sent at all. */
#include "api/page.h"

#include "base/str.h"
#include "unit/net/http_fixture.h"

/* In place of what tools/embed.py writes. */
const api_asset api_assets[] = {
    {"/", "text/html", "aa11", (const unsigned char *)"whole", (const unsigned char *)"zip", 5, 3},
    {"/app.js", "text/javascript", "bb22", (const unsigned char *)"script", NULL, 6, 0},
    {"/app.js.map", "application/json", "cc33", (const unsigned char *)"map", NULL, 3, 0},
};
const size_t api_assets_n = 3;

static fixture f;
static bool eof;

static void page_handler(void *arg, ot_http_req *req)
{
    (void)arg;
    if (!api_page_answer(req)) {
        ot_http_respond_error(req, 404, "none of the page");
    }
}

static void use_page(ot_http_options *o)
{
    o->handler = page_handler;
}

/* What comes for a request with these header lines. */
static ot_str ask(const char *line, const char *fields)
{
    char text[512];
    int fd = dial(&f);
    snprintf(text, sizeof text, "%s HTTP/1.1\r\n" H "%sConnection: close\r\n\r\n", line, fields);
    put(&f, fd, text);
    ot_str s = take(&f, fd, &eof);
    close(fd);
    return s;
}

static void has(const char *line, const char *fields, const char *status, const char *tail)
{
    ot_str s = ask(line, fields);
    ok(ot_has_prefix(s.data + 9, status) && has_tail(&s, tail), "%s %s: %s", line, fields, status);
    ot_str_done(&s);
}

static void coding(const char *accept, bool gzip)
{
    char field[128];
    snprintf(field, sizeof field, "Accept-Encoding: %s\r\n", accept);
    ot_str s = ask("GET /", field);
    ok(has_tail(&s, gzip ? "\r\n\r\nzip" : "\r\n\r\nwhole") &&
           (count(&s, "Content-Encoding: gzip\r\n") == 1) == gzip &&
           count(&s, gzip ? "ETag: \"aa11-gzip\"\r\n" : "ETag: \"aa11\"\r\n") == 1,
       "'%s': %s", accept, gzip ? "gzip" : "plain");
    ot_str_done(&s);
}

int main(void)
{
    start(&f, use_page);
    has("GET /", "", "200", "\r\n\r\nwhole");
    has("HEAD /", "", "200", "\r\n\r\n");
    has("GET /app.js", "", "200", "\r\n\r\nscript");
    has("GET /app.js.map", "", "200", "\r\n\r\nmap");
    has("GET /app.j", "", "404", "");
    has("GET /app.js.", "", "404", "");
    has("GET //", "", "404", "");
    has("GET /%00", "", "404", "");
    has("GET /../", "", "404", "");
    has("POST /", "Content-Length: 0\r\n", "405", "the method\"}");
    coding("gzip", true);
    coding("br, GZIP", true);
    coding("br;q=1.0,\tgzip ; q=0.8, *;q=0.1", true);
    coding("gzip;q=0.001", true);
    coding("gzip;q=0", false);
    coding("gzip; q=0.0", false);
    coding("gzip ;q=0.000, br", false);
    coding("identity", false);
    coding("gzipped", false);
    coding("x-gzip", false);
    coding("gzi", false);
    coding(", ,", false);
    has("GET /app.js", "Accept-Encoding: gzip\r\n", "200", "\r\n\r\nscript");
    has("GET /", "If-None-Match: \"aa11\"\r\n", "304", "\r\n\r\n");
    has("GET /", "If-None-Match: W/\"x\", \"aa11-gzip\"\r\nAccept-Encoding: gzip\r\n", "304",
        "\r\n\r\n");
    has("GET /", "If-None-Match: \"bb22\"\r\n", "200", "whole");
    ot_str s = ask("GET /", "");
    ok(count(&s, "Content-Security-Policy: default-src 'none'; script-src 'self'") == 1 &&
           count(&s, "frame-ancestors 'none'") == 1 && count(&s, "unsafe") == 0,
       "only scripts of its own, in no foreign frame");
    ot_str_done(&s);
    stop(&f);
    return tap_done();
}
