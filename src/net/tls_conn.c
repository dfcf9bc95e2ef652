#include "net/tls_conn.h"

#include "base/mem.h"
#include "base/sock.h"
#include "net/tls_lib.h"

#include <errno.h>
#include <string.h>

struct ot_tls_conn {
    SSL *s;
    int fd;
    bool ready, failed;
    bool eof;     /* the descriptor has no more */
    bool starved; /* what has come was read, but for less than a record */
    bool wants_write;
    const ot_tls_client *to; /* whose client it is; NULL: a server's */
    char *why;               /* NULL: it has not failed, or memory was short then */
};

/* ---- bytes, through the network seam */

static int bio_read(BIO *b, char *p, int n)
{
    ot_tls_conn *c = ssl.BIO_get_data(b);
    ssl.BIO_clear_flags(b, BIO_FLAGS_RWS | BIO_FLAGS_SHOULD_RETRY);
    ssize_t k = ot_sock_read(c->fd, p, (size_t)n);
    if (k < 0 && errno == EAGAIN) {
        ssl.BIO_set_flags(b, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY);
    }
    c->eof = k == 0;
    return (int)k;
}

static int bio_write(BIO *b, const char *p, int n)
{
    const ot_tls_conn *c = ssl.BIO_get_data(b);
    union {
        const char *in;
        void *out;
    } cast = {.in = p}; /* iovec has no const */
    struct iovec v = {.iov_base = cast.out, .iov_len = (size_t)n};
    ssl.BIO_clear_flags(b, BIO_FLAGS_RWS | BIO_FLAGS_SHOULD_RETRY);
    ssize_t k = ot_sock_writev(c->fd, &v, 1);
    if (k < 0 && errno == EAGAIN) {
        ssl.BIO_set_flags(b, BIO_FLAGS_WRITE | BIO_FLAGS_SHOULD_RETRY);
    }
    return (int)k;
}

static long bio_ctrl(BIO *b, int command, long n, void *p)
{
    (void)n, (void)p;
    if (command == BIO_CTRL_EOF) {
        const ot_tls_conn *c = ssl.BIO_get_data(b);
        return c->eof;
    }
    return command == BIO_CTRL_FLUSH;
}

BIO_METHOD *tls_conn_bio(void)
{
    BIO_METHOD *m = ssl.BIO_meth_new(ssl.BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "overtake");
    if (m != NULL) {
        ssl.BIO_meth_set_read(m, bio_read);
        ssl.BIO_meth_set_write(m, bio_write);
        ssl.BIO_meth_set_ctrl(m, bio_ctrl);
    }
    return m;
}

/* ---- life */

/* Takes s. */
static ot_tls_conn *begin(SSL *s, int fd)
{
    ot_tls_conn *c = s != NULL ? ot_calloc(1, sizeof *c) : NULL;
    BIO *b = c != NULL ? ssl.BIO_new(ssl.bio) : NULL;
    if (b == NULL) {
        if (s != NULL) {
            ssl.SSL_free(s);
        }
        ot_free(c);
        return NULL;
    }
    c->fd = fd;
    c->s = s;
    ssl.BIO_set_data(b, c);
    ssl.BIO_set_init(b, 1);
    ssl.SSL_set_bio(c->s, b, b); /* takes b */
    ssl.SSL_set_read_ahead(c->s, 1);
    return c;
}

ot_tls_conn *ot_tls_conn_new(ot_tls *t, int fd)
{
    ot_tls_conn *c = begin(tls_context_begin(t), fd);
    if (c != NULL) {
        ssl.SSL_set_accept_state(c->s);
    }
    return c;
}

ot_tls_conn *ot_tls_conn_connect(const ot_tls_client *t, int fd, bool h2)
{
    ot_tls_conn *c = begin(tls_client_begin(t, h2), fd);
    if (c != NULL) {
        c->to = t;
        ssl.SSL_set_connect_state(c->s);
    }
    return c;
}

void ot_tls_conn_free(ot_tls_conn *c)
{
    if (c != NULL) {
        if (c->s != NULL) {
            ssl.SSL_free(c->s);
        }
        ot_free(c->why);
        ot_free(c);
    }
}

bool ot_tls_conn_ready(const ot_tls_conn *c)
{
    return c->ready;
}

static void note_why(ot_tls_conn *c, int e)
{
    ot_free(c->why);
    long verdict = c->to != NULL ? ssl.SSL_get_verify_result(c->s) : X509_V_OK;
    unsigned long last = ssl.ERR_peek_last_error();
    const char *reason = last != 0 ? ssl.ERR_reason_error_string(last) : NULL;
    bool refused = !c->ready && ERR_GET_REASON(last) == SSL_R_CERTIFICATE_VERIFY_FAILED;
    if (refused && verdict != X509_V_OK) {
        c->why = ot_asprintf("TLS: its certificate is not accepted for '%s': %s",
                             tls_client_name(c->to), ssl.X509_verify_cert_error_string(verdict));
    } else {
        c->why =
            ot_asprintf("TLS: %s", reason != NULL                     ? reason
                                   : e == SSL_ERROR_SYSCALL && c->eof ? "the connection was closed"
                                                                      : strerror(errno));
    }
}

const char *ot_tls_conn_why(const ot_tls_conn *c)
{
    return c->why != NULL ? c->why : "TLS: it failed";
}

/* What a call that did not go through means: as errno, or 0 at the end of what the client sends. */
static int outcome(ot_tls_conn *c, int r)
{
    int e = ssl.SSL_get_error(c->s, r);
    c->wants_write = e == SSL_ERROR_WANT_WRITE;
    switch (e) {
    case SSL_ERROR_WANT_READ:
        c->starved = true;
        return EAGAIN;
    case SSL_ERROR_WANT_WRITE:
        return EAGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    default:
        note_why(c, e);
        c->failed = true;
        return EIO;
    }
}

ot_tls_step ot_tls_conn_handshake(ot_tls_conn *c)
{
    c->starved = c->wants_write = false;
    ssl.ERR_clear_error();
    int r = ssl.SSL_do_handshake(c->s);
    if (r == 1) {
        c->ready = true;
        return OT_TLS_READY;
    }
    return outcome(c, r) == EAGAIN ? OT_TLS_WAIT : OT_TLS_FAILED;
}

bool ot_tls_conn_is_h2(const ot_tls_conn *c)
{
    const unsigned char *p;
    unsigned n;
    ssl.SSL_get0_alpn_selected(c->s, &p, &n);
    return n == 2 && memcmp(p, "h2", 2) == 0;
}

ssize_t ot_tls_conn_read(ot_tls_conn *c, void *p, size_t n)
{
    size_t got = 0;
    c->starved = c->wants_write = false;
    ssl.ERR_clear_error();
    do {
        int r = ssl.SSL_read(c->s, (char *)p + got, (int)OT_MIN(n - got, (size_t)INT32_MAX));
        if (r <= 0) {
            int e = outcome(c, r);
            if (got > 0 || e == 0) {
                break; /* it says so again */
            }
            errno = e;
            return -1;
        }
        got += (size_t)r;
    } while (got < n && ot_tls_conn_pending(c));
    return (ssize_t)got;
}

ssize_t ot_tls_conn_write(ot_tls_conn *c, const void *p, size_t n)
{
    size_t put = 0;
    c->wants_write = false;
    ssl.ERR_clear_error();
    while (put < n) {
        int r = ssl.SSL_write(c->s, (const char *)p + put, (int)OT_MIN(n - put, (size_t)INT32_MAX));
        if (r <= 0) {
            int e = outcome(c, r);
            if (put > 0) {
                break;
            }
            errno = e != 0 ? e : EPIPE;
            return -1;
        }
        put += (size_t)r;
    }
    return (ssize_t)put;
}

bool ot_tls_conn_pending(const ot_tls_conn *c)
{
    return ssl.SSL_pending(c->s) > 0 || (!c->starved && ssl.SSL_has_pending(c->s) == 1);
}

bool ot_tls_conn_wants_write(const ot_tls_conn *c)
{
    return c->wants_write;
}

void ot_tls_conn_bye(ot_tls_conn *c)
{
    if (c->ready && !c->failed) {
        ssl.ERR_clear_error();
        (void)ssl.SSL_shutdown(c->s);
    }
}
