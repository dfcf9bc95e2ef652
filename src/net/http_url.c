/* Targets and statuses: percent-decoding, path segments, query parameters, reason phrases. */
#include "net/http.h"

#include <string.h>

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    char l = (char)(c | 0x20);
    return l >= 'a' && l <= 'f' ? l - 'a' + 10 : -1;
}

/* Decodes into the arena, NUL-terminated. `plus`: '+' is a space. */
static ot_rc decode(ot_slice in, bool plus, ot_arena *arena, ot_slice *out, ot_error *err)
{
    char *to = ot_arena_alloc(arena, in.n + 1);
    if (to == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory to decode %zu bytes of a request target",
                       in.n);
    }
    size_t n = 0;
    for (size_t i = 0; i < in.n; i++) {
        char c = in.p[i];
        if (c == '%') {
            int hi = i + 2 < in.n ? hex_value(in.p[i + 1]) : -1;
            int lo = i + 2 < in.n ? hex_value(in.p[i + 2]) : -1;
            if (hi < 0 || lo < 0) {
                return ot_fail(err, OT_INVALID, "bad percent escape at byte %zu of '%.*s'", i,
                               (int)OT_MIN(in.n, (size_t)200), in.p);
            }
            c = (char)(hi * 16 + lo);
            i += 2;
        } else if (c == '+' && plus) {
            c = ' ';
        }
        if (c == 0) {
            return ot_fail(err, OT_INVALID, "encoded NUL in '%.*s'", (int)OT_MIN(in.n, (size_t)200),
                           in.p);
        }
        to[n++] = c;
    }
    to[n] = 0;
    *out = (ot_slice){.p = to, .n = n};
    return OT_OK;
}

static ot_rc check_segment(ot_slice s, ot_error *err)
{
    if (ot_slice_eq(s, ".") || ot_slice_eq(s, "..")) {
        return ot_fail(err, OT_INVALID, "path segment '%s' is not allowed", s.p);
    }
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c < 0x20 || c == 0x7f || c == '/') {
            return ot_fail(err, OT_INVALID, "encoded '/' or control character in a path segment");
        }
    }
    return OT_OK;
}

ot_rc ot_http_path_split(ot_slice path, ot_arena *arena, ot_slice *segments, size_t max,
                         size_t *n_out, ot_error *err)
{
    if (path.n == 0 || path.p[0] != '/') {
        return ot_fail(err, OT_INVALID, "a path must start with '/'");
    }
    size_t n = 0;
    for (size_t at = 1; path.n > 1 && at <= path.n;) {
        const char *slash = memchr(path.p + at, '/', path.n - at);
        size_t end = slash != NULL ? (size_t)(slash - path.p) : path.n;
        if (n == max) {
            return ot_fail(err, OT_RANGE, "the path has more than %zu segments", max);
        }
        OT_TRY(
            decode((ot_slice){.p = path.p + at, .n = end - at}, false, arena, &segments[n], err));
        OT_TRY(check_segment(segments[n], err));
        n++;
        at = end + 1;
    }
    *n_out = n;
    return OT_OK;
}

ot_rc ot_http_query_get(ot_slice query, const char *name, ot_arena *arena, ot_slice *value_out,
                        ot_error *err)
{
    size_t at = 0;
    while (query.p != NULL && at < query.n) {
        const char *amp = memchr(query.p + at, '&', query.n - at);
        size_t end = amp != NULL ? (size_t)(amp - query.p) : query.n;
        const char *eq = memchr(query.p + at, '=', end - at);
        size_t key_end = eq != NULL ? (size_t)(eq - query.p) : end;
        ot_slice key;
        OT_TRY(decode((ot_slice){.p = query.p + at, .n = key_end - at}, true, arena, &key, err));
        if (ot_slice_eq(key, name)) {
            size_t from = eq != NULL ? key_end + 1 : end;
            return decode((ot_slice){.p = query.p + from, .n = end - from}, true, arena, value_out,
                          err);
        }
        at = end + 1;
    }
    return ot_fail(err, OT_NOT_FOUND, "no query parameter '%s'", name);
}

const char *ot_http_status_text(int status)
{
    static const struct {
        int status;
        const char *text;
    } known[] = {
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {303, "See Other"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {411, "Length Required"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {416, "Range Not Satisfiable"},
        {417, "Expectation Failed"},
        {421, "Misdirected Request"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {499, "Client Closed Request"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
        {507, "Insufficient Storage"},
    };
    for (size_t i = 0; i < OT_COUNT(known); i++) {
        if (known[i].status == status) {
            return known[i].text;
        }
    }
    return status < 400 ? "OK" : "Error";
}
