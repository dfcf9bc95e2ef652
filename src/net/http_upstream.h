/* HTTP/1.1 client on a loop, for requests that are passed on: kept-alive connections by address,
 * answers in pieces as they come, back-pressure, limits.
 *
 * Threads: the loop's. Lifetime: create; calls; destroy cuts what is left without telling. A call
 * is the upstream's and ends with `end` or with ot_upstream_cancel. */
#ifndef OT_NET_HTTP_UPSTREAM_H
#define OT_NET_HTTP_UPSTREAM_H

#include "base/error.h"
#include "base/sock.h"
#include "net/http_response.h"
#include "net/loop.h"

typedef struct ot_upstream ot_upstream;
typedef struct ot_upstream_call ot_upstream_call;

typedef struct ot_upstream_ops {
    /* The head has come: once, before any data. Fields: ot_http_response_header. */
    void (*head)(void *arg, const ot_http_response *r);
    void (*data)(void *arg, const char *p, size_t n);
    /* Once, last, unless cancelled. OT_OK: the answer was whole. OT_UNAVAILABLE, OT_TIMEOUT,
     * OT_DATA_LOSS (not HTTP, or cut off). */
    void (*end)(void *arg, ot_rc rc, const ot_error *why);
} ot_upstream_ops;

typedef struct ot_upstream_request {
    const ot_addr *addr;
    const struct ot_tls_client *tls; /* https; NULL: clear. Outlives the call */
    const char *method, *target;     /* already encoded */
    const char *headers;      /* "Name: value\r\n" lines; Host and Content-Length are added */
    const struct iovec *body; /* copied */
    size_t n_body;
    int64_t timeout_us; /* longest time in which nothing moves, connecting included */
} ot_upstream_request;

#define OT_UPSTREAM_CONNS_MAX 1024 /* of one loop */

ot_rc ot_upstream_create(ot_loop *loop, ot_upstream **out, ot_error *err) OT_CHECKED;
void ot_upstream_destroy(ot_upstream *u); /* NULL is fine */

/* Starts; the ops are called later, from the loop. A kept-alive connection that turns out to be
 * closed before anything could be written on it is replaced; nothing is sent twice. OT_EXHAUSTED:
 * the limit of connections. */
ot_rc ot_upstream_start(ot_upstream *u, const ot_upstream_request *r, const ot_upstream_ops *ops,
                        void *arg, ot_upstream_call **call_out, ot_error *err) OT_CHECKED;
/* Every call ends now, as OT_UNAVAILABLE: who waits for them goes down. */
void ot_upstream_give_up(ot_upstream *u); /* NULL is fine */
/* While paused no data come and no time runs out. */
void ot_upstream_pause(ot_upstream_call *call, bool paused);
/* Nothing more is told; the connection is closed, so that the server stops too. */
void ot_upstream_cancel(ot_upstream_call *call);

#endif
