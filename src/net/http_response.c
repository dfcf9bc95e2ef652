#include "net/http_response.h"

#include <string.h>

void ot_http_response_init(ot_http_response *r)
{
    *r = (ot_http_response){0};
    ot_str_init(&r->head);
}

void ot_http_response_reset(ot_http_response *r)
{
    ot_str head = r->head;
    ot_str_clear(&head);
    head.failed = false;
    *r = (ot_http_response){.head = head};
}

void ot_http_response_done(ot_http_response *r)
{
    ot_str_done(&r->head);
}

static ot_http_step bad(const char **why, const char *text)
{
    *why = text;
    return OT_HTTP_BAD;
}

/* ---- the head */

static ot_slice trimmed(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t')) {
        p++;
    }
    while (end > p && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r')) {
        end--;
    }
    return (ot_slice){p, (size_t)(end - p)};
}

ot_slice ot_http_lines_field(const char *p, size_t n, const char *name, unsigned nth)
{
    const char *end = p + n;
    size_t name_len = strlen(name);
    while (p < end) {
        const char *lf = memchr(p, '\n', (size_t)(end - p));
        const char *stop = lf != NULL ? lf : end;
        if ((size_t)(stop - p) > name_len && p[name_len] == ':' &&
            ot_slice_ieq((ot_slice){p, name_len}, name) && nth-- == 0) {
            return trimmed(p + name_len + 1, stop);
        }
        p = stop + 1;
    }
    return (ot_slice){0};
}

static ot_slice field(const ot_http_response *r, const char *name, unsigned nth)
{
    return ot_http_lines_field(r->head.data, r->head.len, name, nth);
}

ot_slice ot_http_response_header(const ot_http_response *r, const char *name)
{
    return field(r, name, 0);
}

/* Lines end with CR LF and have no other control characters but tabs. */
static bool is_sound(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];
        bool crlf =
            c == '\r' ? i + 1 < n && p[i + 1] == '\n' : c == '\n' && i > 0 && p[i - 1] == '\r';
        if (!crlf && ((c < 0x20 && c != '\t') || c == 0x7f)) {
            return false;
        }
    }
    return true;
}

bool ot_http_status_line(const char *z, size_t n, int *status_out, bool *close_out)
{
    if (n < 15 || memcmp(z, "HTTP/1.", 7) != 0 || (z[7] != '0' && z[7] != '1') || z[8] != ' ' ||
        z[9] < '1' || z[9] > '5' || z[10] < '0' || z[10] > '9' || z[11] < '0' || z[11] > '9' ||
        (z[12] != ' ' && z[12] != '\r')) {
        return false;
    }
    *status_out = (z[9] - '0') * 100 + (z[10] - '0') * 10 + (z[11] - '0');
    *close_out = z[7] == '0';
    return true;
}

bool ot_http_length(ot_slice v, uint64_t *out)
{
    uint64_t x = 0;
    if (v.n == 0 || v.n > 18) {
        return false;
    }
    for (size_t i = 0; i < v.n; i++) {
        if (v.p[i] < '0' || v.p[i] > '9') {
            return false;
        }
        x = x * 10 + (unsigned)(v.p[i] - '0');
    }
    *out = x;
    return true;
}

static const char *read_framing(ot_http_response *r)
{
    ot_slice coding = field(r, "transfer-encoding", 0), length = field(r, "content-length", 0);
    r->close |= ot_slice_ieq(field(r, "connection", 0), "close");
    if (coding.p != NULL && (length.p != NULL || field(r, "transfer-encoding", 1).p != NULL)) {
        return "it has two framings of its body";
    }
    if (coding.p != NULL && !ot_slice_ieq(coding, "chunked")) {
        return "its Transfer-Encoding is not chunked";
    }
    if (length.p != NULL &&
        (field(r, "content-length", 1).p != NULL || !ot_http_length(length, &r->left))) {
        return "its Content-Length is not a number";
    }
    r->chunked = coding.p != NULL;
    if (r->status == 204 || r->status == 304 || r->bodiless) {
        r->chunked = false;
        r->left = 0;
    } else if (!r->chunked && length.p == NULL) {
        r->left = UINT64_MAX;
        r->close = true;
    }
    return NULL;
}

/* The head has come whole. */
static ot_http_step take_head(ot_http_response *r, const char **why)
{
    if (!is_sound(r->head.data, r->head.len) ||
        !ot_http_status_line(r->head.data, r->head.len, &r->status, &r->close)) {
        return bad(why, "it is not HTTP/1.1");
    }
    if (r->status < 200) {
        bool bodiless = r->bodiless;
        ot_http_response_reset(r);
        r->bodiless = bodiless;
        return OT_HTTP_MORE;
    }
    size_t line =
        (size_t)((const char *)memchr(r->head.data, '\n', r->head.len) - r->head.data) + 1;
    r->head.len -= line + 2;
    memmove(r->head.data, r->head.data + line, r->head.len);
    r->head.data[r->head.len] = '\0';
    *why = read_framing(r);
    if (*why != NULL) {
        return OT_HTTP_BAD;
    }
    r->head_done = true;
    r->done = !r->chunked && r->left == 0;
    return r->done ? OT_HTTP_DONE : OT_HTTP_MORE;
}

static ot_http_step feed_head(ot_http_response *r, const char *buf, size_t n, size_t *used_out,
                              const char **why)
{
    const char *lf = memchr(buf, '\n', n);
    size_t take = lf != NULL ? (size_t)(lf - buf) + 1 : n;
    ot_str *h = &r->head;
    ot_str_add(h, buf, take);
    *used_out = take;
    if (h->failed || h->len > OT_HTTP_RESPONSE_HEAD_MAX) {
        return bad(why, "its head is too long");
    }
    bool whole = lf != NULL && h->len >= 4 && memcmp(h->data + h->len - 4, "\r\n\r\n", 4) == 0;
    return whole ? take_head(r, why) : OT_HTTP_MORE;
}

/* ---- the body */

ot_http_step ot_http_response_feed(ot_http_response *r, char *buf, size_t n, size_t *used_out,
                                   ot_slice *piece_out, const char **why)
{
    *used_out = 0;
    *piece_out = (ot_slice){0};
    if (r->done || n == 0) {
        return r->done ? OT_HTTP_DONE : OT_HTTP_MORE;
    }
    if (!r->head_done) {
        return feed_head(r, buf, n, used_out, why);
    }
    if (r->chunked) {
        size_t written = 0;
        ot_http_step step =
            ot_http_chunks_feed(&r->chunks, buf, n, buf, UINT64_MAX, used_out, &written, why);
        if (step == OT_HTTP_BAD) {
            *used_out = 0;
            return step;
        }
        *piece_out = (ot_slice){buf, written};
        r->done = step == OT_HTTP_DONE;
        return step;
    }
    *used_out = r->left < n ? (size_t)r->left : n;
    *piece_out = (ot_slice){buf, *used_out};
    r->left -= r->left == UINT64_MAX ? 0 : *used_out;
    r->done = r->left == 0;
    return r->done ? OT_HTTP_DONE : OT_HTTP_MORE;
}

ot_http_step ot_http_response_end(ot_http_response *r, const char **why)
{
    if (!r->done && (!r->head_done || r->chunked || r->left != UINT64_MAX)) {
        return bad(why, "the connection ended before it was whole");
    }
    r->done = true;
    return OT_HTTP_DONE;
}
