/* Looks at the files of a TLS context every two seconds, so that a new certificate is used without
 * anybody's doing. What comes of it is in the log.
 *
 * Threads: the loop's. Lifetime: start/stop; the context outlives it. */
#ifndef OT_NET_TLS_WATCH_H
#define OT_NET_TLS_WATCH_H

#include "net/loop.h"
#include "net/tls.h"

typedef struct ot_tls_watch {
    ot_loop *loop;
    ot_tls *tls;
    const char *what; /* whose log it is: "serve" */
    const char *cert; /* the file, for the log */
    ot_timer timer;
} ot_tls_watch;

/* With `tls` NULL it does nothing, now and later. The texts are not copied. */
void ot_tls_watch_start(ot_tls_watch *w, ot_loop *loop, ot_tls *tls, const char *what,
                        const char *cert);
void ot_tls_watch_stop(ot_tls_watch *w); /* also of a zeroed one */
void ot_tls_watch_now(ot_tls_watch *w);  /* reads them again, whether they have changed or not */

#endif
