/* Answers: heads, bodies, streams. */
#include "net/h2.h"

#include "base/clock.h"
#include "base/str.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define DATE_EVERY_NS UINT64_C(200000000)
#define HEAD_FIXED 256 /* status line, date, length, connection and the empty line fit */
#define ERROR_TEXT_MAX 1024

static http_conn *conn_of(ot_http_req *req)
{
    return (http_conn *)(void *)req;
}

/* Appends within what was reserved; `p` is where the head goes on. */
static inline char *put(char *p, const char *text, size_t n)
{
    memcpy(p, text, n);
    return p + n;
}
#define PUT(p, literal) put(p, literal, sizeof(literal) - 1)

static char *put_text(char *p, const char *z)
{
    return put(p, z, strlen(z));
}

static char *put_u64(char *p, uint64_t x)
{
    char text[20];
    size_t at = sizeof text;
    do {
        text[--at] = (char)('0' + x % 10);
        x /= 10;
    } while (x != 0);
    return put(p, text + at, sizeof text - at);
}

/* RFC 9110, 5.6.7; made anew a few times a second. */
const char *http_date(ot_http_server *s, size_t *n_out)
{
    uint64_t now = ot_loop_now_ns(s->loop);
    if (s->date_len == 0 || now - s->date_ns > DATE_EVERY_NS) {
        static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
        static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                           "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
        time_t t = (time_t)(ot_clock_wall_us() / 1000000);
        struct tm tm;
        gmtime_r(&t, &tm);
        int n = snprintf(s->date, sizeof s->date, "%s, %02d %s %04d %02d:%02d:%02d GMT",
                         days[tm.tm_wday], tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900,
                         tm.tm_hour, tm.tm_min, tm.tm_sec);
        s->date_len = n < 0 ? 0 : OT_MIN((size_t)n, sizeof s->date - 1);
        s->date_ns = now;
    }
    *n_out = s->date_len;
    return s->date;
}

static char *put_date(ot_http_server *s, char *p)
{
    size_t n;
    const char *date = http_date(s, &n);
    p = PUT(p, "Date: ");
    p = put(p, date, n);
    return PUT(p, "\r\n");
}

static bool clean(const char *z, size_t n)
{
    size_t i = 0;
    for (uint64_t x; n - i >= sizeof x; i += sizeof x) {
        memcpy(&x, z + i, sizeof x);
        if (!http_plain8(x, 0x20)) { /* or a tab, which is allowed */
            break;
        }
    }
    for (; i < n; i++) {
        if (((unsigned char)z[i] < 0x20 && z[i] != '\t') || z[i] == 0x7f) {
            return false;
        }
    }
    return true;
}

/* Adds the text's length to *n; false when it could break the framing. */
static bool measure(const char *z, size_t *n)
{
    size_t k = strlen(z);
    *n += k;
    return clean(z, k);
}

size_t http_fields_size(const ot_http_answer *a)
{
    size_t n = a->type != NULL ? 16 : 0;
    bool good = a->type == NULL || measure(a->type, &n);
    for (size_t i = 0; i < a->n_fields && good; i++) {
        n += 4;
        good = measure(a->fields[i].name, &n) && measure(a->fields[i].value, &n);
    }
    return good ? n : SIZE_MAX;
}

static char *put_status(char *p, int status)
{
    if (status == 200) {
        return PUT(p, "HTTP/1.1 200 OK\r\n");
    }
    p = PUT(p, "HTTP/1.1 ");
    p = put_u64(p, (uint64_t)OT_MIN(OT_MAX(status, 100), 999));
    p = PUT(p, " ");
    p = put_text(p, ot_http_status_text(status));
    return PUT(p, "\r\n");
}

enum { NO_LENGTH = -1, CHUNKED = -2 };

/* The whole head, in what was reserved: HEAD_FIXED + http_fields_size. `length`: of the body, or
 * above.
 */
static void add_head(http_conn *c, const ot_http_answer *a, int64_t length, bool keep)
{
    char *start = c->out.data + c->out.at + c->out.len, *p = put_status(start, a->status);
    p = put_date(c->server, p);
    if (a->type != NULL) {
        p = PUT(p, "Content-Type: ");
        p = put_text(p, a->type);
        p = PUT(p, "\r\n");
    }
    if (length >= 0) {
        p = PUT(p, "Content-Length: ");
        p = put_u64(p, (uint64_t)length);
        p = PUT(p, "\r\n");
    } else if (length == CHUNKED) {
        p = PUT(p, "Transfer-Encoding: chunked\r\n");
    }
    if (!keep) {
        p = PUT(p, "Connection: close\r\n");
    } else if (c->req.version == 10) {
        p = PUT(p, "Connection: keep-alive\r\n");
    }
    for (size_t i = 0; i < a->n_fields; i++) {
        p = put_text(p, a->fields[i].name);
        p = PUT(p, ": ");
        p = put_text(p, a->fields[i].value);
        p = PUT(p, "\r\n");
    }
    p = PUT(p, "\r\n");
    c->out.len += (size_t)(p - start);
}

static bool keeps_alive(const http_conn *c, const ot_http_answer *a)
{
    return c->parser->keep_alive && !a->close && !c->closing && !c->server->draining;
}

static bool status_has_body(int status)
{
    return status >= 200 && status != 204 && status != 304;
}

/* Leaves the body where it is, to be written from there. */
static bool keep_outside(http_conn *c, const ot_http_answer *a)
{
    c->ext = ot_arena_alloc(&c->arena, a->n_body * sizeof *c->ext);
    if (c->ext == NULL) {
        c->broken = true;
        return false;
    }
    c->n_ext = 0;
    for (size_t i = 0; i < a->n_body; i++) {
        if (a->body[i].iov_len > 0) {
            c->ext[c->n_ext++] = a->body[i];
        }
    }
    return true;
}

static void release_now(const ot_http_answer *a)
{
    if (a->own == OT_HTTP_RELEASE && a->release != NULL) {
        a->release(a->release_arg);
    }
}

static void tell_answered(ot_http_req *req)
{
    if (req->answered != NULL) {
        req->answered(req);
    }
}

void ot_http_respond(ot_http_req *req, const ot_http_answer *a)
{
    req->status = a->status;
    for (size_t i = 0; i < a->n_body; i++) {
        req->sent += a->body[i].iov_len;
    }
    tell_answered(req);
    if (req->version == 20) {
        h2_respond(req, a);
        return;
    }
    http_conn *c = conn_of(req);
    c->server->stats.busy--;
    if (!c->open) {
        release_now(a);
        http_conn_free(c);
        return;
    }
    size_t fields = http_fields_size(a), total = 0;
    static const ot_http_answer bad_head = {.status = 500, .close = true};
    if (fields == SIZE_MAX) {
        release_now(a);
        a = &bad_head;
        fields = 0;
    }
    for (size_t i = 0; i < a->n_body; i++) {
        total += a->body[i].iov_len;
    }
    bool sends = status_has_body(a->status) && req->method != OT_HTTP_HEAD;
    bool copies = sends && (a->own == OT_HTTP_COPY || total <= HTTP_INLINE_MAX);
    bool outside = sends && !copies;
    if (http_out_reserve(c, HEAD_FIXED + fields + (copies ? total : 0))) {
        bool keep = keeps_alive(c, a);
        add_head(c, a, status_has_body(a->status) ? (int64_t)total : NO_LENGTH, keep);
        c->closing |= !keep;
        for (size_t i = 0; copies && i < a->n_body; i++) {
            http_out_add(c, a->body[i].iov_base, a->body[i].iov_len);
        }
        outside = outside && keep_outside(c, a);
    } else {
        outside = false;
    }
    if (outside) {
        c->state = HTTP_SEND;
        if (a->own == OT_HTTP_RELEASE) {
            c->release = a->release;
            c->release_arg = a->release_arg;
        }
        http_conn_dirty(c);
        return;
    }
    release_now(a);
    http_conn_over(c);
    http_conn_dirty(c);
}

void ot_http_respond_bytes(ot_http_req *req, int status, const char *type, const void *p, size_t n)
{
    union {
        const void *in;
        void *out;
    } cast = {.in = p}; /* iovec has no const */
    struct iovec v = {.iov_base = cast.out, .iov_len = n};
    ot_http_respond(req,
                    &(ot_http_answer){.status = status, .type = type, .body = &v, .n_body = 1});
}

void ot_http_respond_error(ot_http_req *req, int status, const char *fmt, ...)
{
    char text[ERROR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    ot_str body;
    ot_str_init(&body);
    ot_str_adds(&body, "{\"error\":\"");
    ot_str_add_json(&body, text, strlen(text));
    ot_str_adds(&body, "\"}\n");
    if (body.failed) {
        static const char short_of_memory[] = "{\"error\":\"out of memory\"}\n";
        ot_http_respond_bytes(req, 500, "application/json", short_of_memory,
                              sizeof short_of_memory - 1);
    } else {
        ot_http_respond_bytes(req, status, "application/json", body.data, body.len);
    }
    ot_str_done(&body);
}

void http_conn_refuse(http_conn *c, int status, const char *reason)
{
    /* `reason` is static text without characters that JSON escapes. */
    static const char before[] = "{\"error\":\"", after[] = "\"}\n";
    size_t n = sizeof before - 1 + strlen(reason) + sizeof after - 1;
    ot_http_answer a = {.status = status, .type = "application/json", .close = true};
    c->closing = c->linger = true;
    c->read_due_ns = 0;
    http_conn_dirty(c);
    if (!http_out_reserve(c, HEAD_FIXED + http_fields_size(&a) + n)) {
        return;
    }
    add_head(c, &a, (int64_t)n, false);
    if (c->parser->method != OT_HTTP_HEAD) {
        http_out_add(c, before, sizeof before - 1);
        http_out_add(c, reason, strlen(reason));
        http_out_add(c, after, sizeof after - 1);
    }
}

void ot_http_stream_begin(ot_http_req *req, const ot_http_answer *a, ot_loop_fn *on_event,
                          void *arg)
{
    req->status = a->status;
    if (req->version == 20) {
        h2_stream_begin(req, a, on_event, arg);
        return;
    }
    http_conn *c = conn_of(req);
    c->on_event = on_event;
    c->on_event_arg = arg;
    c->state = HTTP_STREAM;
    c->stream_full = false;
    if (!c->open || c->eof) { /* the client has gone: tell it through the usual way */
        req->cancelled = true;
        if (on_event != NULL) {
            c->event_due = true;
            http_conn_dirty(c);
        }
        if (!c->open) {
            return;
        }
    }
    static const ot_http_answer bad_head = {.status = 500, .close = true};
    size_t fields = http_fields_size(a);
    if (fields == SIZE_MAX) {
        a = &bad_head;
        fields = 0;
    }
    bool keep = keeps_alive(c, a) && req->version != 10;
    c->chunked_out = req->version != 10 && req->method != OT_HTTP_HEAD;
    c->closing |= !keep;
    if (http_out_reserve(c, HEAD_FIXED + fields)) {
        add_head(c, a, req->version == 10 ? NO_LENGTH : CHUNKED, keep);
    }
    http_conn_dirty(c);
}

static ot_rc write_piece(ot_http_req *req, const void *p, size_t n)
{
    if (req->version == 20) {
        return h2_stream_write(req, p, n);
    }
    http_conn *c = conn_of(req);
    if (!c->open || req->cancelled || c->broken) {
        return OT_CANCELLED;
    }
    if (n == 0 || req->method == OT_HTTP_HEAD) {
        return OT_OK;
    }
    if (c->out.len > 0 && c->out.len + n > c->server->opt.stream_buffer_bytes) {
        c->stream_full = true;
        return OT_EXHAUSTED;
    }
    if (!http_out_reserve(c, n + 24)) {
        http_conn_dirty(c);
        return OT_CANCELLED;
    }
    if (c->chunked_out) {
        char size[24];
        int k = snprintf(size, sizeof size, "%zx\r\n", n);
        http_out_add(c, size, (size_t)k);
    }
    http_out_add(c, p, n);
    if (c->chunked_out) {
        http_out_add(c, "\r\n", 2);
    }
    http_conn_dirty(c);
    return OT_OK;
}

ot_rc ot_http_stream_write(ot_http_req *req, const void *p, size_t n)
{
    ot_rc rc = write_piece(req, p, n);
    req->sent += rc == OT_OK ? n : 0;
    return rc;
}

void ot_http_stream_end_with(ot_http_req *req, const ot_http_field *trailers, size_t n)
{
    tell_answered(req);
    if (req->version == 20) {
        h2_stream_end(req, trailers, n);
        return;
    }
    http_conn *c = conn_of(req);
    c->server->stats.busy--;
    c->on_event = NULL;
    c->event_due = false;
    if (!c->open) {
        http_conn_free(c);
        return;
    }
    if (c->chunked_out && http_out_reserve(c, 5)) {
        http_out_add(c, "0\r\n\r\n", 5);
    }
    c->chunked_out = false;
    http_conn_over(c);
    http_conn_dirty(c);
}

void ot_http_stream_end(ot_http_req *req)
{
    ot_http_stream_end_with(req, NULL, 0);
}
