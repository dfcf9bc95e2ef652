/* TLS of one connection, over the network seam; private to src/net. One thread. */
#ifndef OT_NET_TLS_CONN_H
#define OT_NET_TLS_CONN_H

#include "net/tls.h"
#include "net/tls_client.h"

#include <stddef.h>
#include <sys/types.h>

typedef struct tls_conn tls_conn;

typedef enum tls_step { TLS_WAIT, TLS_READY, TLS_FAILED } tls_step;

tls_conn *tls_conn_new(ot_tls *t, int fd); /* NULL: memory is short */
/* As the client; `t` lives as long. */
tls_conn *tls_conn_connect(const ot_tls_client *t, int fd);
void tls_conn_free(tls_conn *c);        /* NULL is fine; fd stays open */
bool tls_conn_ready(const tls_conn *c); /* the handshake is over */
tls_step tls_conn_handshake(tls_conn *c);
#define TLS_WHY_MAX 300
/* After TLS_FAILED, and after a read or write that failed with EIO. */
const char *tls_conn_why(const tls_conn *c);
bool tls_conn_is_h2(const tls_conn *c);
/* Like read(2) and write(2) on a non-blocking socket; several records are read at once. */
ssize_t tls_conn_read(tls_conn *c, void *p, size_t n);
ssize_t tls_conn_write(tls_conn *c, const void *p, size_t n);
/* More can be read although the descriptor need not become readable. */
bool tls_conn_pending(const tls_conn *c);
/* The last step waits until the descriptor is writable. */
bool tls_conn_wants_write(const tls_conn *c);
void tls_conn_bye(
    tls_conn *c); /* says that nothing more will be sent, if that can be said at once */

#endif
