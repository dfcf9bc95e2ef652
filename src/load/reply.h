/* An HTTP/1.1 answer as a client reads it: incremental, without I/O, in place.
 *
 * The caller keeps one answer at the start of a buffer, appends what arrives and feeds it. Interim
 * answers (1xx) are passed over; a chunked body is decoded in place. One answer at a time: bytes
 * behind it are a fault, because nothing was asked for.
 * Threads: one at a time. Lifetime: embedded; all zero bytes begins. */
#ifndef OT_LOAD_REPLY_H
#define OT_LOAD_REPLY_H

#include "net/http.h"

#define OT_LOAD_HEAD_MAX 65536
#define OT_LOAD_BODY_MAX (64u << 20)

typedef struct ot_load_reply {
    /* Results, after OT_HTTP_DONE. */
    int status;
    bool close;      /* the server ends the connection after it */
    size_t head_len; /* status line, fields and the empty line: the body begins here */
    size_t body_len;

    /* Private. */
    bool have_head, chunked, has_length;
    size_t scanned;
    uint64_t length;
    ot_http_chunks chunks;
    size_t chunk_at; /* where the undecoded rest begins */
} ot_load_reply;

/* buf[0, *len) is all that has come since the answer's first byte; *len shrinks while chunks are
 * decoded and interim answers are dropped. OT_HTTP_BAD sets *why to static text. */
ot_http_step ot_load_reply_feed(ot_load_reply *r, char *buf, size_t *len, const char **why);
/* The connection has ended: DONE if the answer was one that ends so, else BAD. */
ot_http_step ot_load_reply_end(ot_load_reply *r, size_t len, const char **why);
/* A field of the head that lies in buf; p NULL: absent. */
ot_slice ot_load_reply_field(const char *head, size_t n, const char *name);

#endif
