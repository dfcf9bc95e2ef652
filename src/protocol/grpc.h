/* gRPC: requests of HTTP/2 whose bodies are messages. Which services there are, how a call gets its
 * message, how it is answered, streams.
 *
 * A service is a table of methods; ot_grpc_services names them all. A method of the unary kind gets
 * the one message of its call and answers once: with ot_grpc_answer, ot_grpc_fail, through the wire
 * of an ot_call, or as a stream of its own (ot_http_stream_*, for server streaming). A method of
 * the streaming kind gets each message as an item; the answers to the items leave in their order.
 * Threads: the worker's, all of it. */
#ifndef OT_PROTOCOL_GRPC_H
#define OT_PROTOCOL_GRPC_H

#include "codec/grpc.h"
#include "serve/worker.h"

typedef struct ot_grpc_item ot_grpc_item;
typedef void ot_grpc_unary_fn(ot_worker *w, ot_http_req *req, ot_slice message);
typedef void ot_grpc_item_fn(ot_worker *w, ot_grpc_item *item);

typedef struct ot_grpc_method {
    const char *name;
    ot_grpc_unary_fn *unary; /* one of the two */
    ot_grpc_item_fn *item;
} ot_grpc_method;

typedef struct ot_grpc_service {
    const char *name; /* "inference.GRPCInferenceService" */
    const ot_grpc_method *methods;
    size_t n;
} ot_grpc_service;

extern const ot_grpc_service ot_grpc_inference, ot_grpc_health, ot_grpc_reflection,
    ot_grpc_reflection_alpha, ot_grpc_tfs_prediction, ot_grpc_tfs_model;
/* All of them; the last is NULL. */
extern const ot_grpc_service *const ot_grpc_services[];

/* ---- for the worker */

/* Whether the request is gRPC's: by its content type, or by its path. */
bool ot_grpc_takes(const ot_http_req *req);
void ot_grpc_request(ot_worker *w, ot_http_req *req);
/* See ot_http_options: the body is read while it comes for methods of the streaming kind; answers
 * that the server gives itself (too large, too slow, no memory) in gRPC's form. */
bool ot_grpc_streams(void *arg, const ot_http_req *req);
void ot_grpc_refused(void *arg, const ot_http_req *req, const char *reason, ot_http_answer *a);

/* ---- answers */

/* The string becomes a frame's beginning: its prefix, to which the message is appended. */
void ot_grpc_frame_begin(ot_str *s);
/* Sends a message: `head`, begun with ot_grpc_frame_begin, whose pieces are `iov` (NULL: it is
 * whole). Metadata in `fields`. */
void ot_grpc_answer(ot_worker *w, ot_http_req *req, const ot_http_field *fields, size_t n_fields,
                    ot_str *head, const struct iovec *iov, size_t n_iov);
/* A status and no message; retry_s as in ot_refusal. */
void ot_grpc_fail(ot_worker *w, ot_http_req *req, ot_rc rc, unsigned retry_s, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
/* The wire's: for unary calls of any service. */
void ot_grpc_wire_fail(ot_worker *w, ot_call *call, const ot_refusal *why);
/* Metadata that infer answers carry, as over REST: into fields[OT_GRPC_FIELDS]; returns how many.
 * The texts lie in the call's arena. */
#define OT_GRPC_FIELDS 3
size_t ot_grpc_call_fields(const ot_worker *w, const ot_call *call, ot_http_field *fields);
/* Starts a call on a message: sets what protocols set and the deadline of grpc-timeout. False: the
 * timeout was no timeout, and the call was refused through its wire. */
bool ot_grpc_call_begin(ot_worker *w, ot_call *call, const ot_wire *wire, ot_http_req *req,
                        ot_arena *arena, uint64_t start_ns);

/* ---- streams */

typedef struct ot_grpc_stream ot_grpc_stream;

struct ot_grpc_item {
    ot_grpc_item *next;
    ot_grpc_stream *stream;
    ot_http_req *req;
    ot_arena arena;   /* of this item; its message lies in it */
    ot_slice message; /* decompressed */
    uint64_t start_ns;
    ot_str answer;  /* whole frames: ot_grpc_item_frame, append, ot_grpc_item_framed */
    size_t counted; /* bytes of it that count for the stream's limits */
    bool done;
    ot_rc rc; /* done: a failure ends the stream with it, after the answers before it */
    const char *why;
};

/* The item's next answer goes between these. */
size_t ot_grpc_item_frame(ot_grpc_item *item);
void ot_grpc_item_framed(ot_grpc_item *item, size_t mark);
/* What has been framed is sent as soon as it can be; more answers follow. */
void ot_grpc_item_more(ot_grpc_item *item);
/* The item has had all of its answers; rc other than OT_OK ends the stream (the text is copied). */
void ot_grpc_item_done(ot_grpc_item *item, ot_rc rc, const char *why);

void ot_grpc_stream_open(ot_worker *w, ot_http_req *req, ot_grpc_item_fn *fn,
                         ot_grpc_coding coding);

/* What stays open until something ends it is looked at several times a second, so that a server
 * that goes down does not wait for it. `look` may close it. Embedded in what stays open. */
typedef struct ot_grpc_open {
    struct ot_grpc_open *next, **at;
    ot_worker *worker;
    void (*look)(struct ot_grpc_open *o);
} ot_grpc_open;
void ot_grpc_open_add(ot_worker *w, ot_grpc_open *o, void (*look)(ot_grpc_open *o));
void ot_grpc_open_remove(ot_grpc_open *o); /* twice is fine */

#endif
