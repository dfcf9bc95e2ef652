/* TLS for listeners of the HTTP server: certificate, key, whom to trust; read again when they
 * change.
 *
 * Through OpenSSL 3 (TLS 1.2 and 1.3), which is loaded with the first ot_tls_create: a process that
 * serves no TLS does not carry it. ALPN chooses between h2 and http/1.1.
 *
 * Threads: any; connections of several loops may use one ot_tls.
 * Lifetime: outlives the servers that listen with it. A connection keeps the certificate it began
 * with. */
#ifndef OT_NET_TLS_H
#define OT_NET_TLS_H

#include "base/error.h"

#include <stdbool.h>

typedef struct ot_tls ot_tls;

/* PEM files. */
typedef struct ot_tls_files {
    const char *cert; /* the certificate, then those between it and a root */
    const char *key;  /* not encrypted */
    const char
        *client_ca; /* clients must show a certificate signed by one of these; NULL: need not */
} ot_tls_files;

/* Reads them; the paths are copied. OT_UNAVAILABLE without OpenSSL 3. */
ot_rc ot_tls_create(const ot_tls_files *files, ot_tls **tls_out, ot_error *err) OT_CHECKED;
void ot_tls_destroy(ot_tls *t); /* NULL is fine */

/* Reads the files; new connections use what they hold unless it is what was tried last (`force`:
 * also then). When it can't be used the error says why, and what stood stays in use. *changed_out
 * is set in any case: false when nothing has happened that was not told before. */
ot_rc ot_tls_reload(ot_tls *t, bool force, bool *changed_out, ot_error *err) OT_CHECKED;

#endif
