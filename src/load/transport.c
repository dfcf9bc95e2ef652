/* Bytes of a connection: in clear text, or through TLS. */
#include "load/engine_internal.h"

#include "base/disk.h"

#include <errno.h>
#include <string.h>

#define CONNECT_US 5000000
#define TOGETHER_MAX 16384 /* pieces up to this many bytes are one record */

ssize_t ot_load_read(ot_load_conn *c, void *p, size_t n)
{
    return c->tls != NULL ? ot_tls_conn_read(c->tls, p, n) : ot_sock_read(c->fd, p, n);
}

ssize_t ot_load_write(ot_load_conn *c, const struct iovec *iov, int n)
{
    if (c->tls == NULL) {
        return ot_sock_writev(c->fd, iov, n);
    }
    if (n == 2 && iov[0].iov_len + iov[1].iov_len <= TOGETHER_MAX) {
        char both[TOGETHER_MAX];
        memcpy(both, iov[0].iov_base, iov[0].iov_len);
        memcpy(both + iov[0].iov_len, iov[1].iov_base, iov[1].iov_len);
        return ot_tls_conn_write(c->tls, both, iov[0].iov_len + iov[1].iov_len);
    }
    return ot_tls_conn_write(c->tls, iov[0].iov_base, iov[0].iov_len);
}

bool ot_load_more_in(const ot_load_conn *c)
{
    return c->tls != NULL && ot_tls_conn_pending(c->tls);
}

bool ot_load_wants_write(const ot_load_conn *c)
{
    return c->tls != NULL ? c->wants_write || ot_tls_conn_wants_write(c->tls)
                          : c->wants_write || c->connecting;
}

/* The socket is connected; goes on where it waited. */
ot_tls_step ot_load_shake(ot_load_conn *c, ot_error *err)
{
    const ot_load_options *o = ot_load_options_of(c->engine);
    bool h2 = o->wire == &ot_load_http2;
    char host[300];
    if (o->tls == NULL) {
        return OT_TLS_READY;
    }
    if (c->tls == NULL && (c->tls = ot_tls_conn_connect(o->tls, c->fd, h2)) == NULL) {
        (void)!ot_fail(err, OT_EXHAUSTED, "load: out of memory for a connection");
        return OT_TLS_FAILED;
    }
    ot_tls_step step = ot_tls_conn_handshake(c->tls);
    ot_addr_format(&o->addr, host);
    if (step == OT_TLS_FAILED) {
        (void)!ot_fail(err, OT_UNAVAILABLE, "%s: %s", host, ot_tls_conn_why(c->tls));
    } else if (step == OT_TLS_READY && h2 && !ot_tls_conn_is_h2(c->tls)) {
        (void)!ot_fail(err, OT_UNAVAILABLE, "%s does not speak HTTP/2, which gRPC needs", host);
        return OT_TLS_FAILED;
    }
    return step;
}

ot_rc ot_load_connect(ot_load_conn *c, ot_error *err)
{
    char host[300];
    const ot_load_options *o = ot_load_options_of(c->engine);
    OT_TRY(ot_sock_connect(&o->addr, CONNECT_US, &c->fd, err));
    OT_TRY(ot_sock_set_timeout(c->fd, CONNECT_US, err));
    switch (ot_load_shake(c, err)) {
    case OT_TLS_READY:
        break;
    case OT_TLS_WAIT:
        return ot_fail(err, OT_TIMEOUT, "TLS with %s: nothing moved for %d s",
                       ot_addr_format(&o->addr, host), CONNECT_US / 1000000);
    case OT_TLS_FAILED:
        return err->rc;
    }
    ot_sock_nonblock(c->fd, true);
    ot_sock_nodelay(c->fd);
    return OT_OK;
}

void ot_load_hang_up(ot_load_conn *c)
{
    ot_tls_conn_free(c->tls);
    c->tls = NULL;
    ot_fd_close(&c->fd);
}
