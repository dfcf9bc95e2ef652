/* HTTP server on a loop: connections, limits, timeouts, drain. No routing: that is its user's.
 *
 * A connection speaks HTTP/1.1, or HTTP/2 when it begins with its preface. One server a loop;
 * several workers each have their own server and may listen on the same descriptor. Requests of one
 * HTTP/1 connection are handled one at a time, so answers are in order; those of HTTP/2 side by
 * side. Nothing is allocated for a small request once the pools are warm; answers of one turn leave
 * in one write a connection, at the end of the turn (OT_HOOK_FLUSH).
 *
 * Threads: all functions on the loop's thread. A handler that works elsewhere comes back with
 * ot_loop_post.
 * Lifetime: a request is valid until it was answered (ot_http_respond*, ot_http_stream_end), also
 * when its client has gone; then the answer is dropped. Every request must be answered once. */
#ifndef OT_NET_HTTP_SERVER_H
#define OT_NET_HTTP_SERVER_H

#include "base/error.h"
#include "base/mem.h"
#include "net/http.h"
#include "net/loop.h"
#include "net/tls.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

typedef struct ot_http_server ot_http_server;

/* Read-only for handlers, but for `user` and, once its coding is undone, `body`. */
typedef struct ot_http_req {
    ot_http_method method;
    uint8_t version; /* 10, 11: HTTP/1; 20: a stream of an HTTP/2 connection */
    /* The client closed its side: the answer is probably not wanted any more (it still must be
     * given; a client that only half-closed receives it).
     * Synchronization: atomic; written on the loop's thread, read by any. */
    atomic_bool cancelled;
    ot_slice method_text;
    ot_slice path;   /* as sent, not decoded: see ot_http_path_split */
    ot_slice query;  /* without '?'; p NULL: absent */
    ot_slice host;   /* of an absolute target, else the Host field; p NULL: absent (1.0) */
    ot_slice body;   /* decoded, contiguous; the handler may write into its bytes */
    ot_arena *arena; /* for the handler; reset after the answer was sent */
    int fd; /* of the connection, -1 when it has gone; only for ot_sock_peer_uid and such */
    uint64_t start_ns; /* when its first byte was seen (turn time) */
    void *user;        /* the handler's; NULL at first */
    /* The handler's; NULL at first. `answered` is called once, before the request ends, with what
     * was answered: the status, and the bytes of the body so far. It must not answer. */
    void (*answered)(struct ot_http_req *req);
    void *note;
    int status;
    uint64_t sent;
} ot_http_req;

typedef void ot_http_handler(void *arg, ot_http_req *req);
/* Called when the head is complete and before any of the body is waited for: the largest body that
 * this request may have. Larger gets 413; `req->body` is not set yet; must not answer. */
typedef uint64_t ot_http_body_max_fn(void *arg, const ot_http_req *req);
/* Called at the same time for HTTP/2: true when the handler wants the request at once and reads its
 * body while it comes, with ot_http_req_read. Must not answer. */
typedef bool ot_http_streams_fn(void *arg, const ot_http_req *req);

/* Called for HTTP/2 before an answer that the server gives itself (too large, too slow, no memory)
 * is sent: may give it the form of the request's protocol. What it puts in lies in req->arena. */
typedef struct ot_http_answer ot_http_answer;
typedef void ot_http_refused_fn(void *arg, const ot_http_req *req, const char *reason,
                                ot_http_answer *a);

typedef struct ot_http_options {
    size_t struct_size;
    ot_http_limits limits;
    unsigned conns_max;          /* then accepting pauses (the backlog waits) */
    uint64_t memory_max_bytes;   /* of all buffers for requests; over it: 503 */
    uint32_t idle_ms;            /* between requests */
    uint32_t head_ms;            /* from the first byte of a request to the end of its head: 408 */
    uint32_t progress_ms;        /* a body, or an answer being read, must move progress_min_bytes */
    uint32_t progress_min_bytes; /* in each progress_ms, else 408 or the connection is dropped */
    uint32_t streams_max;        /* of an HTTP/2 connection, at once */
    uint32_t stream_buffer_bytes; /* unsent bytes of a stream before OT_EXHAUSTED */
    ot_http_handler *handler;
    ot_http_body_max_fn *body_max; /* NULL: limits.body_max for all */
    ot_http_streams_fn *streams;   /* NULL: bodies are whole before the handler is called */
    ot_http_refused_fn *refused;   /* NULL: {"error": "..."} */
    void *arg;
} ot_http_options;

void ot_http_options_init(ot_http_options *o); /* the defaults; handler must be set */

ot_rc ot_http_server_create(ot_loop *loop, const ot_http_options *o, ot_http_server **server_out,
                            ot_error *err) OT_CHECKED;
/* Closes all connections. No request may be unanswered (drain first, or answer them). Allowed in
 * the callback of ot_http_server_drain; not from a handler. The listeners stay open. */
void ot_http_server_destroy(ot_http_server *s);

/* Accepts on a listening, non-blocking socket that the caller owns and that outlives the server.
 * `tls` NULL: clear text. */
ot_rc ot_http_server_listen(ot_http_server *s, int fd, ot_tls *tls, ot_error *err) OT_CHECKED;
/* Stops accepting on all listeners. */
void ot_http_server_unlisten(ot_http_server *s);
/* Hands in an accepted, non-blocking connection; the server owns fd when OT_OK. OT_EXHAUSTED at
 * conns_max. */
ot_rc ot_http_server_adopt(ot_http_server *s, int fd, ot_tls *tls, ot_error *err) OT_CHECKED;

/* Lame duck: stops accepting; answers carry `Connection: close`; connections idle for grace_ms from
 * now are closed; after limit_ms everything is cut (`cancelled` is set). `drained(arg)` is called
 * once when no connection and no unanswered request is left, from the loop. */
void ot_http_server_drain(ot_http_server *s, uint32_t grace_ms, uint32_t limit_ms,
                          ot_loop_fn *drained, void *arg);
bool ot_http_server_draining(const ot_http_server *s);

typedef struct ot_http_stats {
    uint64_t accepted, requests, bad_requests, timeouts, refused_memory, refused_fds, bytes_in,
        bytes_out;
    unsigned conns, busy; /* now: connections; unanswered requests */
} ot_http_stats;
void ot_http_server_stats(const ot_http_server *s, ot_http_stats *out);

/* A header field of the request; p NULL when absent. Names match in either case. */
ot_slice ot_http_req_header(const ot_http_req *req, const char *name);
size_t ot_http_req_header_count(const ot_http_req *req);
void ot_http_req_header_at(const ot_http_req *req, size_t i, ot_slice *name_out,
                           ot_slice *value_out);

/* A body that is read while it comes (see ot_http_streams_fn). `on_data(arg, p, n, end)` is called
 * with its pieces in order, from the loop, never from inside these functions; after `end`, or when
 * `cancelled` is set (then with n 0 and end), no more. Bytes are valid during the call. The sender
 * gets room for more as ot_http_req_consumed says, up to the window that it was given at first.
 * Call it in the handler. The answer may begin at any time; ending it first resets the stream. */
typedef void ot_http_body_fn(void *arg, const char *p, size_t n, bool end);
void ot_http_req_read(ot_http_req *req, ot_http_body_fn *on_data, void *arg);
void ot_http_req_consumed(ot_http_req *req, size_t n);

typedef struct ot_http_field {
    const char *name, *value; /* copied; control characters in them turn the answer into a 500 */
} ot_http_field;

typedef enum ot_http_own {
    OT_HTTP_COPY,    /* the body is copied before the call returns */
    OT_HTTP_ARENA,   /* it lies in req->arena (or in req->body, or is static) */
    OT_HTTP_RELEASE, /* the caller's until `release(release_arg)` is called: exactly once, maybe
                        before the call returns, also when the client has gone;
                        it must not call into the server */
} ot_http_own;

struct ot_http_answer {
    int status;
    const char *type; /* Content-Type; NULL: none */
    const ot_http_field *fields;
    size_t n_fields;
    size_t n_unique; /* the first so many of them have values that do not come again: HTTP/2 keeps
                        them out of the table that the next heads refer to */
    const struct iovec *body;
    size_t n_body;                 /* pieces, any number */
    const ot_http_field *trailers; /* HTTP/2 only; dropped over HTTP/1 */
    size_t n_trailers;
    ot_http_own own;
    ot_loop_fn *release;
    void *release_arg;
    bool close; /* close the connection afterwards */
};

/* Content-Length, Date and Connection are added. For HEAD the body's length is told and the body is
 * not sent. The request is over for the caller. */
void ot_http_respond(ot_http_req *req, const ot_http_answer *a);
/* Copies one body; `type` may be NULL. */
void ot_http_respond_bytes(ot_http_req *req, int status, const char *type, const void *p, size_t n);
/* {"error": "..."} with the formatted message escaped. */
void ot_http_respond_error(ot_http_req *req, int status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* An answer in pieces (chunked; for HTTP/1.0 until close): event streams, logs. `on_event(arg)` is
 * called when there is room again after OT_EXHAUSTED, and when the client has gone
 * (req->cancelled); never from inside these functions. The request stays valid until
 * ot_http_stream_end. Only status, type, fields and close of `a` count. */
void ot_http_stream_begin(ot_http_req *req, const ot_http_answer *a, ot_loop_fn *on_event,
                          void *arg);
/* All or nothing: OT_EXHAUSTED when stream_buffer_bytes are unsent (a first piece of any size goes
 * in); OT_CANCELLED when the client has gone. */
ot_rc ot_http_stream_write(ot_http_req *req, const void *p, size_t n) OT_CHECKED;
void ot_http_stream_end(ot_http_req *req);
/* The same with trailers (HTTP/2; dropped over HTTP/1). */
void ot_http_stream_end_with(ot_http_req *req, const ot_http_field *trailers, size_t n);

#endif
