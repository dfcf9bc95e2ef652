/* Blocking HTTP/1.1 client, for the command line and for tests: one connection, kept alive.
 *
 * Threads: one at a time. Lifetime: create/destroy; a reply is init'd once and reused. */
#ifndef OT_NET_HTTP_CLIENT_H
#define OT_NET_HTTP_CLIENT_H

#include "base/error.h"
#include "base/sock.h"
#include "base/str.h"
#include "net/http.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct ot_http_client ot_http_client;

typedef struct ot_http_client_options {
    size_t struct_size;
    int64_t connect_us; /* time limit of connecting; 0: 5 s */
    int64_t io_us;      /* longest silence while sending or receiving; 0: 30 s; < 0: none */
    uint64_t body_max;  /* of a reply that is collected; 0: 256 MiB */
    const struct ot_tls_client *tls; /* https; NULL: clear. Outlives the client */
} ot_http_client_options;

/* Connects on the first request. `o` may be NULL. */
ot_rc ot_http_client_create(const ot_addr *addr, const ot_http_client_options *o,
                            ot_http_client **client_out, ot_error *err) OT_CHECKED;
void ot_http_client_destroy(ot_http_client *c);

/* Pieces of a body as they arrive; a code other than OT_OK ends the request with that code. */
typedef ot_rc ot_http_data_fn(void *arg, const char *p, size_t n, ot_error *err);

typedef struct ot_http_call {
    const char *method;  /* "GET" */
    const char *target;  /* "/v2/models/m?x=1", already encoded */
    const char *headers; /* "Name: value\r\n" lines; NULL: none. Host, Content-Length are added */
    const void *body;    /* NULL: none */
    size_t body_len;
    ot_http_data_fn *on_data; /* NULL: the body is collected in the reply */
    void *arg;
} ot_http_call;

typedef struct ot_http_reply {
    int status;
    ot_str head; /* field lines as received, CRLF ended */
    ot_str body; /* empty when on_data took it (of a status >= 300 it is always collected) */
} ot_http_reply;

void ot_http_reply_init(ot_http_reply *r);
void ot_http_reply_done(ot_http_reply *r);
ot_slice ot_http_reply_header(const ot_http_reply *r, const char *name); /* p NULL: absent */

/* Sends and waits for the whole reply. Any HTTP status is OT_OK. A kept-alive connection that the
 * server had closed is replaced silently before anything is sent on it. OT_UNAVAILABLE: no
 * connection, or it broke; OT_TIMEOUT; OT_DATA_LOSS: not HTTP; OT_EXHAUSTED: larger than body_max.
 */
ot_rc ot_http_client_request(ot_http_client *c, const ot_http_call *call, ot_http_reply *reply,
                             ot_error *err) OT_CHECKED;
/* The usual call: a JSON or empty body. */
ot_rc ot_http_client_simple(ot_http_client *c, const char *method, const char *target,
                            const char *headers, const void *body, size_t body_len,
                            ot_http_reply *reply, ot_error *err) OT_CHECKED;

/* The value of Host. */
void ot_http_host(const ot_addr *addr, bool tls, char out[300]);
/* Appends `s` percent-encoded for use as a path segment or a query value. */
void ot_http_encode(ot_str *out, const char *s);

#endif
