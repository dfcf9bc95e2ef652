/* TLS of one connection, over the network seam: for those who drive a socket of their own (net,
 * load). One thread. */
#ifndef OT_NET_TLS_CONN_H
#define OT_NET_TLS_CONN_H

#include "net/tls.h"
#include "net/tls_client.h"

#include <stddef.h>
#include <sys/types.h>

typedef struct ot_tls_conn ot_tls_conn;

typedef enum ot_tls_step { OT_TLS_WAIT, OT_TLS_READY, OT_TLS_FAILED } ot_tls_step;

ot_tls_conn *ot_tls_conn_new(ot_tls *t, int fd); /* NULL: memory is short */
/* As the client; `t` lives as long. What is offered is HTTP/2 or HTTP/1.1. */
ot_tls_conn *ot_tls_conn_connect(const ot_tls_client *t, int fd, bool h2);
void ot_tls_conn_free(ot_tls_conn *c);        /* NULL is fine; fd stays open */
bool ot_tls_conn_ready(const ot_tls_conn *c); /* the handshake is over */
ot_tls_step ot_tls_conn_handshake(ot_tls_conn *c);
/* After OT_TLS_FAILED, and after a read or write that failed with EIO. */
const char *ot_tls_conn_why(const ot_tls_conn *c);
bool ot_tls_conn_is_h2(const ot_tls_conn *c);
/* Like read(2) and write(2) on a non-blocking socket; several records are read at once. */
ssize_t ot_tls_conn_read(ot_tls_conn *c, void *p, size_t n);
ssize_t ot_tls_conn_write(ot_tls_conn *c, const void *p, size_t n);
/* More can be read although the descriptor need not become readable. */
bool ot_tls_conn_pending(const ot_tls_conn *c);
/* The last step waits until the descriptor is writable. */
bool ot_tls_conn_wants_write(const ot_tls_conn *c);
void ot_tls_conn_bye(
    ot_tls_conn *c); /* says that nothing more will be sent, if that can be said at once */

#endif
