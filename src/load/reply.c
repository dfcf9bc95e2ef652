#include "load/reply.h"

#include "net/http_response.h"

#include <string.h>

static ot_http_step bad(const char **why, const char *text)
{
    *why = text;
    return OT_HTTP_BAD;
}

ot_slice ot_load_reply_field(const char *head, size_t n, const char *name)
{
    const char *line = n > 0 ? memchr(head, '\n', n) : NULL;
    return line != NULL ? ot_http_lines_field(line + 1, n - (size_t)(line + 1 - head), name, 0)
                        : (ot_slice){0};
}

static const char *read_fields(ot_load_reply *r, const char *buf)
{
    ot_slice length = ot_load_reply_field(buf, r->head_len, "content-length");
    ot_slice coding = ot_load_reply_field(buf, r->head_len, "transfer-encoding");
    r->close |= ot_slice_ieq(ot_load_reply_field(buf, r->head_len, "connection"), "close");
    r->chunked = coding.p != NULL;
    if (r->chunked && (!ot_slice_ieq(coding, "chunked") || length.p != NULL)) {
        return "its Transfer-Encoding is not chunked alone";
    }
    r->has_length = length.p != NULL;
    if (r->has_length && !ot_http_length(length, &r->length)) {
        return "its Content-Length is not a number";
    }
    if (r->status == 204 || r->status == 304) {
        r->chunked = false;
        r->has_length = true;
        r->length = 0;
    }
    if (r->has_length && r->length > OT_LOAD_BODY_MAX) {
        return "its body is larger than 64 MiB";
    }
    return NULL;
}

/* The head is whole when OT_HTTP_DONE. */
static ot_http_step feed_head(ot_load_reply *r, char *buf, size_t *len, const char **why)
{
    while (!r->have_head) {
        size_t from = r->scanned > 3 ? r->scanned - 3 : 0;
        const char *end = memmem(buf + from, *len - from, "\r\n\r\n", 4);
        r->scanned = *len;
        if (end == NULL) {
            return *len > OT_LOAD_HEAD_MAX ? bad(why, "its head is longer than 64 KiB")
                                           : OT_HTTP_MORE;
        }
        r->head_len = (size_t)(end - buf) + 4;
        if (!ot_http_status_line(buf, r->head_len, &r->status, &r->close)) {
            return bad(why, "it is not HTTP/1.1");
        }
        if (r->status < 200) {
            *len -= r->head_len;
            memmove(buf, buf + r->head_len, *len);
            *r = (ot_load_reply){0};
            continue;
        }
        *why = read_fields(r, buf);
        if (*why != NULL) {
            return OT_HTTP_BAD;
        }
        r->have_head = true;
        r->chunk_at = r->head_len;
    }
    return OT_HTTP_DONE;
}

static ot_http_step feed_chunks(ot_load_reply *r, char *buf, size_t *len, const char **why)
{
    size_t read = 0, written = 0;
    char *at = buf + r->chunk_at;
    ot_http_step step =
        ot_http_chunks_feed(&r->chunks, at, *len - r->chunk_at, at,
                            OT_LOAD_BODY_MAX - (r->chunk_at - r->head_len), &read, &written, why);
    if (step == OT_HTTP_BAD) {
        return step;
    }
    size_t rest = *len - r->chunk_at - read;
    memmove(at + written, at + read, rest);
    r->chunk_at += written;
    *len = r->chunk_at + rest;
    r->body_len = r->chunk_at - r->head_len;
    return step == OT_HTTP_DONE && rest > 0 ? bad(why, "bytes follow it") : step;
}

ot_http_step ot_load_reply_feed(ot_load_reply *r, char *buf, size_t *len, const char **why)
{
    ot_http_step step = feed_head(r, buf, len, why);
    if (step != OT_HTTP_DONE) {
        return step;
    }
    if (r->chunked) {
        return feed_chunks(r, buf, len, why);
    }
    r->body_len = *len - r->head_len;
    if (!r->has_length) {
        return r->body_len > OT_LOAD_BODY_MAX ? bad(why, "its body is larger than 64 MiB")
                                              : OT_HTTP_MORE;
    }
    if (r->body_len > r->length) {
        return bad(why, "bytes follow it");
    }
    return r->body_len == r->length ? OT_HTTP_DONE : OT_HTTP_MORE;
}

ot_http_step ot_load_reply_end(ot_load_reply *r, size_t len, const char **why)
{
    if (!r->have_head || r->chunked || r->has_length) {
        return bad(why, "the connection ended before it was whole");
    }
    r->body_len = len - r->head_len;
    r->close = true;
    return OT_HTTP_DONE;
}
