#include "net/http_client.h"

#include "base/disk.h"
#include "net/http_response.h"
#include "net/tls_conn.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define CONNECT_US 5000000
#define IO_US 30000000
#define BODY_MAX (UINT64_C(256) << 20)
#define READ_SIZE 65536

struct ot_http_client {
    ot_addr addr;
    ot_http_client_options opt;
    int fd;
    ot_tls_conn *tls; /* NULL: clear */
    bool close;       /* the server said so, or the framing is lost */
    char host[300];
    ot_http_response response;
    size_t at, len; /* unread bytes [at, len) of buf */
    char buf[READ_SIZE];
};

ot_rc ot_http_client_create(const ot_addr *addr, const ot_http_client_options *o,
                            ot_http_client **client_out, ot_error *err)
{
    if (o != NULL && o->struct_size != sizeof *o) {
        return ot_fail(err, OT_INVALID, "http client: options with a wrong struct_size");
    }
    ot_http_client *c = ot_calloc(1, sizeof *c);
    if (c == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "http client: out of memory");
    }
    c->addr = *addr;
    c->fd = -1;
    ot_http_response_init(&c->response);
    if (o != NULL) {
        c->opt = *o;
    }
    c->opt.connect_us = c->opt.connect_us != 0 ? c->opt.connect_us : CONNECT_US;
    c->opt.io_us = c->opt.io_us != 0 ? c->opt.io_us : IO_US;
    c->opt.body_max = c->opt.body_max != 0 ? c->opt.body_max : BODY_MAX;
    ot_http_host(addr, c->opt.tls != NULL, c->host);
    *client_out = c;
    return OT_OK;
}

void ot_http_host(const ot_addr *addr, bool tls, char out[300])
{
    if (addr->is_unix) {
        snprintf(out, 300, "localhost");
        return;
    }
    ot_addr_format(addr, out);
    if (tls && addr->port == 443) { /* some servers know their own name only without it */
        *strrchr(out, ':') = '\0';
    }
}

static void hang_up(ot_http_client *c)
{
    ot_tls_conn_free(c->tls);
    c->tls = NULL;
    ot_fd_close(&c->fd);
}

void ot_http_client_destroy(ot_http_client *c)
{
    if (c != NULL) {
        hang_up(c);
        ot_http_response_done(&c->response);
        ot_free(c);
    }
}

void ot_http_reply_init(ot_http_reply *r)
{
    r->status = 0;
    ot_str_init(&r->head);
    ot_str_init(&r->body);
}

void ot_http_reply_done(ot_http_reply *r)
{
    ot_str_done(&r->head);
    ot_str_done(&r->body);
}

ot_slice ot_http_reply_header(const ot_http_reply *r, const char *name)
{
    return ot_http_lines_field(r->head.data, r->head.len, name, 0);
}

static ot_rc fail_io(const ot_http_client *c, int e, const char *what, ot_error *err)
{
    char text[300];
    ot_addr_format(&c->addr, text);
    if (e == EAGAIN) {
        return ot_fail(err, OT_TIMEOUT, "%s %s: nothing moved for %lld ms", what, text,
                       (long long)(c->opt.io_us / 1000));
    }
    if (e == EIO && c->tls != NULL) {
        return ot_fail(err, OT_UNAVAILABLE, "%s %s: %s", what, text, ot_tls_conn_why(c->tls));
    }
    if (e == 0) {
        return ot_fail(err, OT_UNAVAILABLE, "%s %s: the server closed the connection", what, text);
    }
    return ot_fail(err, OT_UNAVAILABLE, "%s %s: %s", what, text, strerror(e));
}

static ssize_t read_bytes(ot_http_client *c, void *p, size_t n)
{
    return c->tls != NULL ? ot_tls_conn_read(c->tls, p, n) : ot_sock_read(c->fd, p, n);
}

static ssize_t write_bytes(ot_http_client *c, const struct iovec *v, int n)
{
    return c->tls != NULL ? ot_tls_conn_write(c->tls, v->iov_base, v->iov_len)
                          : ot_sock_writev(c->fd, v, n);
}

/* True when the server has closed a kept-alive connection, or sent what nobody asked for. */
static bool is_stale(ot_http_client *c)
{
    char byte;
    ot_sock_nonblock(c->fd, true);
    ssize_t k = read_bytes(c, &byte, 1);
    bool stale = k >= 0 || errno != EAGAIN;
    ot_sock_nonblock(c->fd, false);
    return stale;
}

/* The socket blocks, for as long as its time limit lets it. */
static ot_rc shake_hands(ot_http_client *c, ot_error *err)
{
    c->tls = ot_tls_conn_connect(c->opt.tls, c->fd, false);
    if (c->tls == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "http client: out of memory");
    }
    switch (ot_tls_conn_handshake(c->tls)) {
    case OT_TLS_READY:
        return OT_OK;
    case OT_TLS_WAIT:
        return fail_io(c, EAGAIN, "TLS with", err);
    case OT_TLS_FAILED:
        break;
    }
    return fail_io(c, EIO, "connect to", err);
}

static ot_rc ensure_connected(ot_http_client *c, ot_error *err)
{
    if (c->fd >= 0 && (c->close || c->at != c->len || is_stale(c))) {
        hang_up(c);
    }
    if (c->fd >= 0) {
        return OT_OK;
    }
    c->close = false;
    c->at = c->len = 0;
    ot_rc rc = ot_sock_connect(&c->addr, c->opt.connect_us, &c->fd, err);
    if (rc != OT_OK) {
        return rc == OT_TIMEOUT ? rc : ot_error_prefix(err, OT_UNAVAILABLE, "http client");
    }
    if (c->opt.io_us > 0) {
        OT_TRY(ot_sock_set_timeout(c->fd, c->opt.io_us, err));
    }
    rc = c->opt.tls != NULL ? shake_hands(c, err) : OT_OK;
    if (rc != OT_OK) {
        hang_up(c);
    }
    return rc;
}

/* Reads more when the buffer is empty; *n_out = 0 at the end of the connection. */
static ot_rc fill(ot_http_client *c, size_t *n_out, ot_error *err)
{
    if (c->at == c->len) {
        ssize_t k = read_bytes(c, c->buf, sizeof c->buf);
        if (k < 0) {
            return fail_io(c, errno, "read from", err);
        }
        c->at = 0;
        c->len = (size_t)k;
    }
    *n_out = c->len - c->at;
    return OT_OK;
}

static ot_rc send_request(ot_http_client *c, const ot_http_call *call, ot_error *err)
{
    ot_str head;
    ot_str_init(&head);
    ot_str_addf(&head, "%s %s HTTP/1.1\r\nHost: %s\r\n", call->method, call->target, c->host);
    bool has_body = call->body != NULL || call->body_len > 0;
    if (has_body || strcmp(call->method, "POST") == 0 || strcmp(call->method, "PUT") == 0) {
        ot_str_addf(&head, "Content-Length: %zu\r\n", call->body_len);
    }
    ot_str_adds(&head, call->headers != NULL ? call->headers : "");
    ot_str_adds(&head, "\r\n");
    if (head.failed) {
        ot_str_done(&head);
        return ot_fail(err, OT_EXHAUSTED, "http client: out of memory");
    }
    union {
        const void *in;
        void *out;
    } cast = {.in = call->body};
    struct iovec v[2] = {{head.data, head.len}, {cast.out, call->body_len}};
    ot_rc rc = OT_OK;
    for (int i = 0; i < 2;) {
        ssize_t k = write_bytes(c, v + i, call->body_len > 0 ? 2 - i : 1 - i);
        if (k < 0) {
            /* The server may have answered and closed without reading all: its answer is better
             * than our error. */
            rc = errno == EPIPE || errno == ECONNRESET ? OT_OK : fail_io(c, errno, "write to", err);
            c->close = true;
            break;
        }
        while (i < 2 && (size_t)k >= v[i].iov_len) {
            k -= (ssize_t)v[i].iov_len;
            i++;
        }
        if (i < 2) {
            v[i].iov_base = (char *)v[i].iov_base + k;
            v[i].iov_len -= (size_t)k;
        }
    }
    ot_str_done(&head);
    return rc;
}

/* Where the body's bytes go. */
typedef struct sink {
    const ot_http_call *call;
    ot_http_reply *reply;
    uint64_t max;
    bool collect;
} sink;

static ot_rc sink_put(sink *s, const char *p, size_t n, ot_error *err)
{
    if (n == 0 || !s->collect) {
        return n > 0 ? s->call->on_data(s->call->arg, p, n, err) : OT_OK;
    }
    if (n > s->max - s->reply->body.len) {
        return ot_fail(err, OT_EXHAUSTED, "the reply's body is larger than %llu bytes",
                       (unsigned long long)s->max);
    }
    ot_str_add(&s->reply->body, p, n);
    return s->reply->body.failed ? ot_fail(err, OT_EXHAUSTED, "http client: out of memory") : OT_OK;
}

/* The head has come whole. */
static void take_head(const ot_http_response *h, sink *s)
{
    s->reply->status = h->status;
    ot_str_add(&s->reply->head, h->head.data, h->head.len);
    s->collect = s->call->on_data == NULL || h->status >= 300;
}

static ot_rc read_reply(ot_http_client *c, const ot_http_call *call, ot_http_reply *reply,
                        ot_error *err)
{
    ot_http_response *h = &c->response;
    ot_http_response_reset(h);
    h->bodiless = strcmp(call->method, "HEAD") == 0;
    sink s = {.call = call, .reply = reply, .max = c->opt.body_max};
    for (ot_http_step step = OT_HTTP_MORE; step != OT_HTTP_DONE;) {
        size_t n = 0, used = 0;
        ot_slice piece = {0};
        const char *why;
        OT_TRY(fill(c, &n, err));
        if (n == 0 && !h->head_done && h->head.len == 0) {
            return fail_io(c, 0, "read from", err);
        }
        step = n == 0 ? ot_http_response_end(h, &why)
                      : ot_http_response_feed(h, c->buf + c->at, n, &used, &piece, &why);
        c->at += used;
        if (step == OT_HTTP_BAD) {
            return ot_fail(err, OT_DATA_LOSS, "the reply: %s", why);
        }
        if (h->head_done && reply->status == 0) {
            take_head(h, &s);
        }
        OT_TRY(sink_put(&s, piece.p, piece.n, err));
    }
    c->close |= h->close;
    return reply->head.failed ? ot_fail(err, OT_EXHAUSTED, "http client: out of memory") : OT_OK;
}

static bool is_clean(const char *z, const char *refused)
{
    return z[0] != 0 && z[strcspn(z, refused)] == 0;
}

ot_rc ot_http_client_request(ot_http_client *c, const ot_http_call *call, ot_http_reply *reply,
                             ot_error *err)
{
    if (!is_clean(call->method, " \r\n") || !is_clean(call->target, " \r\n")) {
        return ot_fail(err, OT_INVALID, "method '%.20s' or target '%.200s' has a space or is empty",
                       call->method, call->target);
    }
    ot_str_clear(&reply->head);
    ot_str_clear(&reply->body);
    reply->head.failed = reply->body.failed = false;
    reply->status = 0;
    OT_TRY(ensure_connected(c, err));
    ot_rc rc = send_request(c, call, err);
    if (rc == OT_OK) {
        rc = read_reply(c, call, reply, err);
    }
    if (rc != OT_OK || c->close) {
        hang_up(c);
    }
    return rc;
}

ot_rc ot_http_client_simple(ot_http_client *c, const char *method, const char *target,
                            const char *headers, const void *body, size_t body_len,
                            ot_http_reply *reply, ot_error *err)
{
    ot_http_call call = {
        .method = method, .target = target, .headers = headers, .body = body, .body_len = body_len};
    return ot_http_client_request(c, &call, reply, err);
}

void ot_http_encode(ot_str *out, const char *s)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";
    for (; *s != 0; s++) {
        if (strchr(plain, *s) != NULL) {
            ot_str_addc(out, *s);
        } else {
            ot_str_addf(out, "%%%02X", (unsigned)(unsigned char)*s);
        }
    }
}
