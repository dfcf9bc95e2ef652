#include "net/http.h"

#include <string.h>

#define METHOD_MAX 24
#define LENGTH_DIGITS_MAX 18

bool ot_slice_eq(ot_slice s, const char *z)
{
    return s.p != NULL && strlen(z) == s.n && memcmp(s.p, z, s.n) == 0;
}

static unsigned char lower(char c)
{
    return (unsigned char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
}

bool ot_slice_ieq(ot_slice s, const char *z)
{
    if (s.p == NULL || strlen(z) != s.n) {
        return false;
    }
    if (memcmp(s.p, z, s.n) == 0) { /* most names of fields come as they are asked for */
        return true;
    }
    for (size_t i = 0; i < s.n; i++) {
        if (lower(s.p[i]) != lower(z[i])) {
            return false;
        }
    }
    return true;
}

/* Bit c of a set is on when the ASCII character c belongs to it. */
typedef struct charset {
    uint64_t low, high;
} charset;
static const charset token_chars = {0x3ff6cfa00000000u, 0x57ffffffc7fffffeu}; /* tchar, RFC 9110 */
static const charset host_chars = {0x2fff7ff200000000u, 0x47fffffeaffffffeu};

static bool in_set(const charset *s, unsigned char c)
{
    return c < 64 ? (s->low >> c) & 1 : c < 128 && ((s->high >> (c - 64)) & 1);
}

static bool all_in_set(const charset *s, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!in_set(s, (unsigned char)p[i])) {
            return false;
        }
    }
    return true;
}

static ot_http_step bad(ot_http_parser *p, int status, const char *reason)
{
    p->status = status;
    p->reason = reason;
    return OT_HTTP_BAD;
}

void ot_http_parser_init(ot_http_parser *p, const ot_http_limits *limits)
{
    ot_http_limits l = limits != NULL ? *limits : OT_HTTP_LIMITS_DEFAULT;
    l.head_max = OT_MIN(l.head_max, 1u << 24);
    l.line_max = OT_MIN(l.line_max, l.head_max);
    l.headers_max = OT_MIN(l.headers_max, (uint32_t)OT_HTTP_HEADERS_MAX);
    p->limits = l;
    p->known.n = 0;
    ot_http_parser_reset(p);
}

void ot_http_parser_reset(ot_http_parser *p)
{
    p->head_done = p->keep_alive = p->expect_continue = p->chunked = false;
    p->is_http10 = p->has_length = p->have_line = p->has_host = p->has_connection_close = false;
    p->method = OT_HTTP_OTHER;
    p->status = 0;
    p->reason = NULL;
    p->method_text = p->target = p->path = p->query = p->authority = (ot_http_span){0};
    p->n_headers = p->body_at = 0;
    p->length = 0;
    p->base = NULL;
    p->line_at = p->scanned = p->first_line_at = 0;
    p->chunks = (ot_http_chunks){0};
}

ot_slice ot_http_parser_text(const ot_http_parser *p, ot_http_span s)
{
    /* Offset 0 is always inside the method, so an empty span there stands for "absent". */
    return s.at == 0 && s.n == 0 ? (ot_slice){0} : (ot_slice){.p = p->base + s.at, .n = s.n};
}

ot_slice ot_http_parser_header(const ot_http_parser *p, const char *name)
{
    size_t n = strlen(name);
    for (uint32_t i = 0; i < p->n_headers; i++) {
        if (p->headers[i].name.n == n &&
            ot_slice_ieq(ot_http_parser_text(p, p->headers[i].name), name)) {
            return (ot_slice){.p = p->base + p->headers[i].value.at, .n = p->headers[i].value.n};
        }
    }
    return (ot_slice){0};
}

ot_http_method ot_http_method_of(ot_slice text)
{
    static const struct {
        const char *name;
        ot_http_method method;
    } known[] = {{"GET", OT_HTTP_GET},        {"POST", OT_HTTP_POST},   {"HEAD", OT_HTTP_HEAD},
                 {"PUT", OT_HTTP_PUT},        {"PATCH", OT_HTTP_PATCH}, {"DELETE", OT_HTTP_DELETE},
                 {"OPTIONS", OT_HTTP_OPTIONS}};
    for (size_t i = 0; i < OT_COUNT(known); i++) {
        if (ot_slice_eq(text, known[i].name)) {
            return known[i].method;
        }
    }
    return OT_HTTP_OTHER;
}

/* Splits the target [at, end) into authority (absolute form only), path and query. */
static ot_http_step parse_target(ot_http_parser *p, const char *b, uint32_t at, uint32_t end)
{
    p->target = (ot_http_span){.at = at, .n = end - at};
    for (uint32_t i = at; i < end; i++) {
        unsigned char c = (unsigned char)b[i];
        if (c <= 0x20 || c >= 0x7f || c == '#') {
            return bad(p, 400, "the request target has a character that must be percent-encoded");
        }
    }
    uint32_t from = at;
    if (end - at == 1 && b[at] == '*' && p->method == OT_HTTP_OPTIONS) {
        p->path = p->target;
        return OT_HTTP_DONE;
    }
    if (b[at] != '/') {
        uint32_t scheme = 0;
        if (end - at > 7 && ot_slice_ieq((ot_slice){b + at, 7}, "http://")) {
            scheme = 7;
        } else if (end - at > 8 && ot_slice_ieq((ot_slice){b + at, 8}, "https://")) {
            scheme = 8;
        } else {
            return bad(p, 400, "the request target must start with '/'");
        }
        from = at + scheme;
        uint32_t host = from;
        while (from < end && b[from] != '/' && b[from] != '?') {
            from++;
        }
        p->authority = (ot_http_span){.at = host, .n = from - host};
        if (from == host || !all_in_set(&host_chars, b + host, from - host)) {
            return bad(p, 400, "the request target has a malformed host");
        }
    }
    const char *q = memchr(b + from, '?', end - from);
    uint32_t path_end = q != NULL ? (uint32_t)(q - b) : end;
    p->path = (ot_http_span){.at = from, .n = path_end - from};
    if (q != NULL) {
        p->query = (ot_http_span){.at = path_end + 1, .n = end - path_end - 1};
    }
    return OT_HTTP_DONE;
}

static ot_http_step parse_version(ot_http_parser *p, const char *v, size_t n)
{
    if (n != 8 || memcmp(v, "HTTP/", 5) != 0 || v[5] < '0' || v[5] > '9' || v[6] != '.' ||
        v[7] < '0' || v[7] > '9') {
        return bad(p, 400, "the request line must end with HTTP/1.1");
    }
    if (v[5] != '1') {
        return bad(p, 505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
    }
    p->is_http10 = v[7] == '0';
    return OT_HTTP_DONE;
}

/* METHOD SP TARGET SP VERSION in [at, end), without CR LF. */
static ot_http_step parse_request_line(ot_http_parser *p, const char *b, uint32_t at, uint32_t end)
{
    const char *sp = memchr(b + at, ' ', end - at);
    size_t n = sp != NULL ? (size_t)(sp - (b + at)) : 0;
    if (n == 0 || !all_in_set(&token_chars, b + at, n)) {
        return bad(p, 400, "the request line must be METHOD TARGET HTTP/1.1");
    }
    if (n > METHOD_MAX) {
        return bad(p, 501, "the method is too long to be one");
    }
    p->method_text = (ot_http_span){.at = at, .n = (uint32_t)n};
    p->method = ot_http_method_of((ot_slice){.p = b + at, .n = n});
    uint32_t target = at + (uint32_t)n + 1;
    const char *sp2 = memchr(b + target, ' ', end - target);
    if (sp2 == NULL || sp2 == b + target) {
        return bad(p, 400, "the request line must be METHOD TARGET HTTP/1.1");
    }
    uint32_t target_end = (uint32_t)(sp2 - b);
    ot_http_step step = parse_version(p, sp2 + 1, end - target_end - 1);
    return step != OT_HTTP_DONE ? step : parse_target(p, b, target, target_end);
}

static ot_http_step on_content_length(ot_http_parser *p, ot_slice v)
{
    uint64_t x = 0;
    if (v.n == 0 || v.n > LENGTH_DIGITS_MAX) {
        return bad(p, v.n == 0 ? 400 : 413, "Content-Length is not a usable number");
    }
    for (size_t i = 0; i < v.n; i++) {
        if (v.p[i] < '0' || v.p[i] > '9') {
            return bad(p, 400, "Content-Length is not a number");
        }
        x = x * 10 + (unsigned)(v.p[i] - '0');
    }
    if (p->has_length && x != p->length) {
        return bad(p, 400, "two Content-Length fields differ");
    }
    p->has_length = true;
    p->length = x;
    return OT_HTTP_DONE;
}

static ot_http_step on_transfer_encoding(ot_http_parser *p, ot_slice v)
{
    if (p->chunked) {
        return bad(p, 400, "Transfer-Encoding is given twice");
    }
    if (!ot_slice_ieq(v, "chunked")) {
        return bad(p, 501, "the only Transfer-Encoding known is chunked");
    }
    p->chunked = true;
    return OT_HTTP_DONE;
}

static ot_http_step on_connection(ot_http_parser *p, ot_slice v)
{
    size_t i = 0;
    while (i < v.n) {
        size_t start = i;
        while (i < v.n && v.p[i] != ',' && v.p[i] != ' ' && v.p[i] != '\t') {
            i++;
        }
        ot_slice word = {.p = v.p + start, .n = i - start};
        if (ot_slice_ieq(word, "close")) {
            p->has_connection_close = true;
        } else if (ot_slice_ieq(word, "keep-alive")) {
            p->keep_alive = true;
        }
        i += i < v.n;
    }
    return OT_HTTP_DONE;
}

static ot_http_step on_host(ot_http_parser *p, ot_slice v)
{
    if (p->has_host) {
        return bad(p, 400, "two Host fields");
    }
    if (!all_in_set(&host_chars, v.p, v.n)) {
        return bad(p, 400, "malformed Host");
    }
    p->has_host = true;
    return OT_HTTP_DONE;
}

static ot_http_step on_expect(ot_http_parser *p, ot_slice v)
{
    if (!ot_slice_ieq(v, "100-continue")) {
        return bad(p, 417, "the only expectation known is 100-continue");
    }
    p->expect_continue = true;
    return OT_HTTP_DONE;
}

/* The fields that the protocol itself needs. */
static ot_http_step on_field(ot_http_parser *p, ot_slice name, ot_slice value)
{
    static const struct {
        const char *name;
        ot_http_step (*fn)(ot_http_parser *p, ot_slice value);
    } known[] = {{"host", on_host},
                 {"expect", on_expect},
                 {"connection", on_connection},
                 {"content-length", on_content_length},
                 {"transfer-encoding", on_transfer_encoding}};
    for (size_t i = 0; i < OT_COUNT(known); i++) {
        if (lower(name.p[0]) == (unsigned char)known[i].name[0] &&
            ot_slice_ieq(name, known[i].name)) {
            return known[i].fn(p, value);
        }
    }
    return OT_HTTP_DONE;
}

/* NAME ":" OWS VALUE OWS in [at, end), without CR LF. */
static ot_http_step parse_field(ot_http_parser *p, const char *b, uint32_t at, uint32_t end)
{
    if (b[at] == ' ' || b[at] == '\t') {
        return bad(p, 400, "folded header lines are not allowed");
    }
    const char *colon = memchr(b + at, ':', end - at);
    uint32_t name_n = colon != NULL ? (uint32_t)(colon - (b + at)) : 0;
    if (name_n == 0 || !all_in_set(&token_chars, b + at, name_n)) {
        return bad(p, 400, "malformed header field");
    }
    if (p->n_headers == p->limits.headers_max) {
        return bad(p, 431, "too many header fields");
    }
    uint32_t from = at + name_n + 1;
    bool control = false;
    for (uint32_t i = from; i < end; i++) {
        unsigned char c = (unsigned char)b[i];
        control |= (c < 0x20 && c != '\t') || c == 0x7f;
    }
    if (control) {
        return bad(p, 400, "control character in a header field");
    }
    while (from < end && (b[from] == ' ' || b[from] == '\t')) {
        from++;
    }
    while (end > from && (b[end - 1] == ' ' || b[end - 1] == '\t')) {
        end--;
    }
    uint32_t i = p->n_headers++;
    p->headers[i].name = (ot_http_span){.at = at, .n = name_n};
    p->headers[i].value = (ot_http_span){.at = from, .n = end - from};
    return on_field(p, (ot_slice){b + at, name_n}, (ot_slice){b + from, end - from});
}

static ot_http_step finish_head(ot_http_parser *p, uint32_t body_at)
{
    if (!p->has_host && !p->is_http10) {
        return bad(p, 400, "HTTP/1.1 needs a Host field");
    }
    if (p->chunked && p->has_length) {
        return bad(p, 400, "both Content-Length and Transfer-Encoding");
    }
    if (p->chunked && p->is_http10) {
        return bad(p, 400, "HTTP/1.0 has no Transfer-Encoding");
    }
    if (p->has_length && p->length > p->limits.body_max) {
        return bad(p, 413, ot_http_body_too_large);
    }
    p->keep_alive = !p->has_connection_close && (!p->is_http10 || p->keep_alive);
    p->expect_continue = p->expect_continue && !p->is_http10;
    p->head_done = true;
    p->body_at = body_at;
    return OT_HTTP_DONE;
}

/* What can be said before a line is complete; the same is said when it is. */
static ot_http_step check_limits(ot_http_parser *p, const char *b, uint32_t seen)
{
    if (!p->have_line) {
        bool blank = seen > p->line_at && b[p->line_at] == '\r' && p->line_at == 0;
        if (seen > p->line_at && !blank && !in_set(&token_chars, (unsigned char)b[p->line_at])) {
            return bad(p, 400, "this is not HTTP");
        }
        if (seen - p->line_at > p->limits.line_max) {
            return bad(p, 414, "the request line is too long");
        }
    }
    if (seen - p->first_line_at > p->limits.head_max) {
        return bad(p, 431, "the header fields are too long");
    }
    return OT_HTTP_DONE;
}

/* One complete line [line_at, lf). OT_HTTP_MORE: the head goes on. */
static ot_http_step on_line(ot_http_parser *p, const char *b, uint32_t lf)
{
    ot_http_step step = check_limits(p, b, lf);
    if (step != OT_HTTP_DONE) {
        return step;
    }
    uint32_t at = p->line_at, end = lf - 1;
    if (lf == at || b[end] != '\r') {
        return bad(p, 400, "a line ends without CR");
    }
    p->line_at = lf + 1;
    if (!p->have_line) {
        if (end == at) { /* one empty line before a request is tolerated (RFC 9112, 2.2) */
            p->first_line_at = lf + 1;
            return OT_HTTP_MORE;
        }
        p->have_line = true;
        step = parse_request_line(p, b, at, end);
        return step == OT_HTTP_DONE ? OT_HTTP_MORE : step;
    }
    if (end == at) {
        return finish_head(p, lf + 1);
    }
    step = parse_field(p, b, at, end);
    return step == OT_HTTP_DONE ? OT_HTTP_MORE : step;
}

/* Chunked heads are left out: their length is not the head's to say. */
static void remember_head(ot_http_parser *p, const char *b)
{
    if (p->chunked || p->body_at > OT_HTTP_KNOWN_MAX) {
        return;
    }
    ot_http_known_head *k = &p->known;
    k->keep_alive = p->keep_alive;
    k->expect_continue = p->expect_continue;
    k->is_http10 = p->is_http10;
    k->has_length = p->has_length;
    k->method = p->method;
    k->method_text = p->method_text;
    k->target = p->target;
    k->path = p->path;
    k->query = p->query;
    k->authority = p->authority;
    k->n_headers = p->n_headers;
    k->length = p->length;
    memcpy(k->bytes, b, p->body_at);
    k->n = p->body_at;
}

static ot_http_step recall_head(ot_http_parser *p)
{
    const ot_http_known_head *k = &p->known;
    p->keep_alive = k->keep_alive;
    p->expect_continue = k->expect_continue;
    p->is_http10 = k->is_http10;
    p->has_length = k->has_length;
    p->method = k->method;
    p->method_text = k->method_text;
    p->target = k->target;
    p->path = k->path;
    p->query = k->query;
    p->authority = k->authority;
    p->n_headers = k->n_headers;
    p->length = k->length;
    if (p->length > p->limits.body_max) { /* the one limit that changes between messages */
        return bad(p, 413, ot_http_body_too_large);
    }
    p->head_done = true;
    p->body_at = k->n;
    return OT_HTTP_DONE;
}

static ot_http_step scan_head(ot_http_parser *p, const char *b, size_t len)
{
    if (p->scanned == 0) {
        if (p->known.n > 0 && len >= p->known.n && memcmp(b, p->known.bytes, p->known.n) == 0) {
            return recall_head(p);
        }
        p->known.n = 0; /* its fields are about to be overwritten */
    }
    /* What lies beyond the limit is never looked at, so offsets fit 32 bits. */
    uint32_t n = (uint32_t)OT_MIN(len, (size_t)p->limits.head_max + 4);
    for (;;) {
        const char *lf = memchr(b + p->scanned, '\n', n - p->scanned);
        if (lf == NULL) {
            p->scanned = n;
            ot_http_step step = check_limits(p, b, n);
            return step == OT_HTTP_DONE ? OT_HTTP_MORE : step;
        }
        p->scanned = (uint32_t)(lf - b) + 1;
        ot_http_step step = on_line(p, b, p->scanned - 1);
        if (step == OT_HTTP_DONE) {
            remember_head(p, b);
        }
        if (step != OT_HTTP_MORE) {
            return step;
        }
    }
}

static ot_http_step feed_chunks(ot_http_parser *p, char *buf, size_t *len)
{
    char *in = buf + p->body_at + p->length;
    size_t n = *len - p->body_at - (size_t)p->length, got, written;
    const char *reason = NULL;
    ot_http_step step = ot_http_chunks_feed(&p->chunks, in, n, in, p->limits.body_max - p->length,
                                            &got, &written, &reason);
    if (step == OT_HTTP_BAD) {
        return bad(p, reason == ot_http_body_too_large ? 413 : 400, reason);
    }
    if (got > written) {
        memmove(in + written, in + got, n - got);
        *len -= got - written;
    }
    p->length += written;
    return step;
}

ot_http_step ot_http_parser_feed(ot_http_parser *p, char *buf, size_t *len)
{
    p->base = buf;
    if (!p->head_done) {
        ot_http_step step = scan_head(p, buf, *len);
        if (step != OT_HTTP_DONE) {
            return step;
        }
    }
    if (p->chunked) {
        return feed_chunks(p, buf, len);
    }
    return *len - p->body_at >= p->length ? OT_HTTP_DONE : OT_HTTP_MORE;
}

size_t ot_http_parser_size(const ot_http_parser *p)
{
    return p->body_at + (size_t)p->length;
}
