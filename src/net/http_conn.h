/* A connection of the HTTP server; private to src/net.
 *
 *     READ --request complete--> BUSY --answered--> READ     (answer copied to `out`)
 *                                     --answered--> SEND     (body lies outside, being written)
 *                                     --begun-----> STREAM   --ended--> READ
 *     any --refused, then written--> LINGER (reads until the peer has seen why)
 *
 * Connections are closed only at the top of a callback, never inside a handler: whoever finds that
 * one must close sets `closing` or `broken` and puts it on the server's dirty list. One that
 * closes while its request is unanswered stays behind, `open` false, until the answer. */
#ifndef OT_NET_HTTP_CONN_H
#define OT_NET_HTTP_CONN_H

#include "net/http_server.h"
#include "net/tls_conn.h"

#define HTTP_IN_MIN 8192      /* first input buffer */
#define HTTP_KEEP_MAX 65536   /* larger buffers of a connection at rest are given back */
#define HTTP_OUT_SOFT 65536   /* more unsent bytes: no further pipelined request is started */
#define HTTP_INLINE_MAX 16384 /* bodies up to this are copied behind their head */
#define HTTP_LISTENERS_MAX 16
#define HTTP_KITS_MAX 256
#define HTTP_ARENA_CHUNK 16384 /* of a request */
#define HTTP_ARENA_LIMIT ((size_t)512 << 20)
#define HTTP_TRIM_AFTER_NS                                                                         \
    UINT64_C(2000000000)   /* of rest: what was kept for the next request goes */
#define HTTP_SCRATCH 65536 /* what is read at once of an HTTP/2 connection */

typedef enum http_conn_state {
    HTTP_READ,
    HTTP_BUSY,
    HTTP_STREAM,
    HTTP_SEND,
    HTTP_LINGER,
    HTTP_H2, /* h2.h; its streams have states of their own */
} http_conn_state;

typedef struct http_buf {
    char *data;
    size_t cap, at, len; /* bytes [at, at + len) are in use */
} http_buf;

/* What a connection works with. At rest it has none: those who work take turns with the same few.
 */
typedef struct http_kit {
    http_buf in, out;
    ot_arena arena;
} http_kit;

typedef struct http_conn {
    ot_http_req req; /* first: handlers hold its address */
    ot_http_server *server;
    struct http_conn *prev, *next; /* list of all in use, or of the free ones (next only) */
    struct http_conn *dirty_next;
    ot_watch watch;
    http_conn_state state;
    bool open;        /* the descriptor is ours and open */
    bool dirty;       /* on the dirty list; may outlive the connection's use */
    bool fresh;       /* nothing was read yet that says which HTTP it is */
    bool processing;  /* http_conn_process is on the stack */
    bool reparse;     /* input is left that may hold a request */
    bool started;     /* a byte of the next request was seen */
    bool head_seen;   /* its head was checked */
    bool closing;     /* no request after this answer */
    bool linger;      /* the peer may still be sending what we refuse */
    bool broken;      /* memory was short in the middle of an answer */
    bool eof;         /* the peer will send no more */
    bool chunked_out; /* of a stream */
    bool stream_full, event_due;
    http_buf in, out;
    ot_http_parser *parser; /* NULL: HTTP/2 */
    ot_arena arena;
    struct iovec *ext; /* body outside `out`, in SEND; the array lies in the arena */
    size_t n_ext;
    ot_loop_fn *release;
    void *release_arg;
    ot_loop_fn *on_event;
    void *on_event_arg;
    uint64_t read_due_ns, write_due_ns; /* 0: no limit now */
    uint64_t read_moved, write_moved;   /* bytes in the current window of progress */
    uint64_t idle_since_ns;
    struct h2_conn *h2; /* NULL: HTTP/1 */
    ot_tls_conn *tls;   /* NULL: clear text */
} http_conn;

typedef struct http_listener {
    ot_watch watch;
    int fd;
    ot_tls *tls;
    ot_http_server *server;
} http_listener;

struct ot_http_server {
    ot_loop *loop;
    ot_http_options opt;
    ot_hook flush_hook;
    ot_timer sweep_timer;
    uint64_t sweep_ns;
    http_conn *conns, *free_conns, *dirty;
    unsigned n_used, n_free;      /* used: in `conns`, whether open or waiting for an answer */
    http_kit kits[HTTP_KITS_MAX]; /* of nobody now */
    unsigned n_kits;
    uint64_t memory; /* bytes of all input and output buffers */
    ot_http_stats stats;
    http_listener listeners[HTTP_LISTENERS_MAX];
    unsigned n_listeners;
    bool accepting; /* false: at conns_max, or out of descriptors until accept_retry_ns */
    uint64_t accept_retry_ns;
    int reserve_fd; /* to refuse with when there are no others; -1: gone */
    bool draining;
    uint64_t drain_grace_ns, drain_limit_ns;
    ot_loop_fn *drained;
    void *drained_arg;
    bool handler_called; /* since the flush hook began */
    uint64_t date_ns;    /* when `date` was made */
    char date[40];
    size_t date_len;
    struct h2_stream *h2_free;
    struct nghttp2_session_callbacks *h2_callbacks; /* of all sessions; made with the first */
    struct nghttp2_option *h2_option;
    char *h2_scratch;
    unsigned rested; /* connections of HTTP/2, by this sweep; h2_mem.c */
};

/* http_conn.c */
ot_rc http_conn_open(ot_http_server *s, int fd, ot_tls *tls, ot_error *err) OT_CHECKED;
void http_conn_readable(http_conn *c);      /* may close c */
bool http_conn_more_in(const http_conn *c); /* it can read what its descriptor does not tell of */
void http_conn_close(http_conn *c);         /* the caller must not touch c afterwards */
void http_conn_free(http_conn *c);          /* back to the pool; it is closed and answered */
void http_conn_dirty(http_conn *c);         /* looked at by the flush hook of this turn */
void http_conn_process(http_conn *c);       /* starts what requests the input holds */
void http_conn_over(http_conn *c);    /* the request's bytes and arena are not needed any more */
void http_conn_watch(http_conn *c);   /* waits for what its state needs */
void http_conn_destroy(http_conn *c); /* frees a pooled one */

/* http_kit.c */
bool http_buf_resize(ot_http_server *s, http_buf *b, size_t cap);
void http_conn_rest(http_conn *c);  /* gives its kit back, if it needs none now */
void http_conn_trim(http_conn *c);  /* the same, with large buffers, which are freed */
void http_conn_equip(http_conn *c); /* takes a kit, if it has none and there is one */
void http_kit_done(ot_http_server *s, http_kit *k);

/* http_write.c */
void http_conn_flush(http_conn *c);                       /* may close c */
bool http_out_reserve(http_conn *c, size_t n);            /* room in `out`; false sets `broken` */
void http_out_add(http_conn *c, const void *p, size_t n); /* within what was reserved */
void http_conn_refuse(http_conn *c, int status, const char *reason); /* answer and close */
ssize_t http_conn_recv(http_conn *c, void *p, size_t n);             /* like read(2) */

/* No byte of eight is below `least`, 0x20 or 0x21, or 0x7f. */
static inline bool http_plain8(uint64_t x, unsigned char least)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), high = ones << 7;
    uint64_t below = (x - ones * least) & ~x, y = x ^ (ones * 0x7f);
    return ((below | ((y - ones) & ~y)) & high) == 0;
}

/* http_answer.c */
const char *http_date(ot_http_server *s, size_t *n_out); /* now, as a field's value */
/* Bytes that the caller's part of a head takes; SIZE_MAX when it could break the framing. */
size_t http_fields_size(const ot_http_answer *a);

/* http_server.c */
void http_server_resume(ot_http_server *s); /* room for connections again */

#endif
