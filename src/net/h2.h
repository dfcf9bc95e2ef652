/* HTTP/2 under a connection of the HTTP server, through nghttp2; private to src/net.
 *
 * A stream is an ot_http_req of its own, with the handlers and answers of HTTP/1:
 *
 *     HEAD --head complete--> BODY --complete--> HELD --answered--> ANSWERED --sent--> free
 *          --the handler reads the body itself-> HELD
 *
 * What is read goes through nghttp2 as it comes and is not kept in the connection; answers of a
 * turn are framed into the connection's `out` by the flush hook. A stream that its client or the
 * connection closes while a handler holds it stays behind, `closed`, until it is answered. */
#ifndef OT_NET_H2_H
#define OT_NET_H2_H

#include "net/http_conn.h"

#include <nghttp2/nghttp2.h>

typedef enum h2_state { H2_HEAD, H2_BODY, H2_HELD, H2_ANSWERED } h2_state;

typedef struct h2_field {
    ot_slice name, value;
} h2_field;

typedef struct h2_stream {
    ot_http_req req; /* first: handlers hold its address */
    http_conn *conn;
    struct h2_stream *prev, *next; /* of the connection; of the server's free ones (next only) */
    int32_t id;
    h2_state state;
    bool closed;   /* nghttp2 knows it no more */
    bool recv_end; /* the request is whole */
    bool reads;    /* the handler reads the body while it comes */
    bool pieces;   /* the answer is given in pieces (ot_http_stream_*) */
    bool complete; /* no more of the answer will be given */
    bool deferred; /* nghttp2 waits for more of the answer */
    bool event_due, full;
    bool too_large; /* the head: 431 */
    ot_arena arena;
    h2_field *fields; /* in the arena */
    size_t n_fields, fields_cap, head_bytes;
    http_buf in; /* body; handed over whole */
    uint64_t body_max, announced;
    size_t unconsumed;    /* bytes of the body that the handler still holds */
    http_buf out;         /* unsent bytes of an answer in pieces */
    struct iovec *ext;    /* unsent pieces of a whole answer; in the arena */
    size_t ext_left;      /* their bytes */
    nghttp2_nv *trailers; /* in the arena */
    size_t n_trailers;
    ot_loop_fn *release, *on_event;
    void *release_arg, *on_event_arg;
    ot_http_body_fn *on_data;
    void *on_data_arg;
    uint64_t due_ns; /* 0: nothing is waited for */
    uint64_t moved;  /* bytes in the current window of progress */
} h2_stream;

typedef struct h2_block {
    void *p;
    size_t n;
} h2_block;

typedef struct h2_conn {
    nghttp2_session *session; /* NULL once the connection has gone */
    h2_stream *streams;
    h2_stream *reading; /* whose head is coming; NULL: nothing keeps it */
    bool pumping;       /* h2_pump is on the stack */
    uint64_t named_ns;  /* when names of unique fields were last put into the table; 0: never */
    unsigned n_streams;
    unsigned fruitless; /* frames without use since fruitless_ns */
    uint64_t fruitless_ns;
    uint64_t head_since_ns; /* a head has begun and is not complete; 0: none */
    unsigned drain_stage;   /* 0: none; 1: the client was told; 2: new streams are ignored */
    h2_block frame, zeros;  /* of the session; h2_mem.c */
    bool rests;             /* they were given back since bytes came last */
} h2_conn;

/* h2_conn.c */
#define H2_PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
bool h2_start(http_conn *c);                         /* false: memory is short */
void h2_feed(http_conn *c, const void *p, size_t n); /* bytes that came */
bool h2_readable(http_conn *c);                      /* false: it closed c */
void h2_pump(http_conn *c);                          /* frames what is to be sent into `out` */
bool h2_wants_write(const http_conn *c);             /* after h2_pump: more waits for room */
bool h2_over(const http_conn *c);                    /* nor will be: and h2_wants_write is false */
bool h2_gone(http_conn *c);                          /* c was closed; false: streams are held */
void h2_events(http_conn *c);                        /* due events of its streams */
void h2_sweep(http_conn *c, uint64_t now);           /* time limits; may close c */
void h2_leave(http_conn *c);                         /* ends when its streams have */
void h2_abandon(http_conn *c);                       /* its held streams are not answered */
void h2_done(http_conn *c);                          /* frees c->h2 */
void h2_server_done(ot_http_server *s);

/* h2_mem.c */
nghttp2_mem h2_mem(h2_conn *h); /* for h's session; h->session is NULL until that is made */
/* Gives back what a connection without work does not need; false: it has some, or has done so. */
bool h2_rest(http_conn *c);

/* h2_stream.c */
void h2_stream_callbacks(nghttp2_session_callbacks *cb);
void h2_stream_free(h2_stream *st);
void h2_stream_gone(h2_stream *st); /* nghttp2 has closed it; may free it */
void h2_stream_destroy(h2_stream *st);
ot_slice h2_header(const ot_http_req *req, const char *name);

/* h2_answer.c */
void h2_answer_callbacks(nghttp2_session_callbacks *cb);
void h2_respond(ot_http_req *req, const ot_http_answer *a);
void h2_refuse(h2_stream *st, int status, const char *reason); /* static text */
void h2_stream_begin(ot_http_req *req, const ot_http_answer *a, ot_loop_fn *on_event, void *arg);
ot_rc h2_stream_write(ot_http_req *req, const void *p, size_t n) OT_CHECKED;
void h2_stream_end(ot_http_req *req, const ot_http_field *trailers, size_t n);

#endif
