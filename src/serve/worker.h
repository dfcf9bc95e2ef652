/* A worker: a thread with a loop and an HTTP server. It answers what it can at once, batches what
 * one turn found ready, and hands long runs to the pool.
 *
 * Threads: the functions below are for the control thread, except where they say so. */
#ifndef OT_SERVE_WORKER_H
#define OT_SERVE_WORKER_H

#include "net/http_upstream.h"
#include "serve/server.h"

#define OT_WORKER_SEQ_SHIFT 40 /* sequence numbers of worker w start at w << 40 */

struct ot_worker {
    ot_serve *serve;
    unsigned index;
    pthread_t thread;
    bool running;
    ot_loop *loop;
    ot_http_server *http;
    ot_exec exec;
    ot_upstream *upstream; /* to external servers */
    ot_timer give_up_timer;
    ot_hook batch_hook, reclaim_hook;
    ot_timer sample_timer;
    uint64_t seq; /* of the next row */
    ot_budget budget;
    ot_count_scratch scratch;
    ot_oip_memo *memo; /* heads of requests and answers */
    ot_str head;       /* of the answer being encoded */
    ot_share *open;    /* shares with a chunk of samples */
    uint64_t unpacked; /* bytes that its calls hold of compressed bodies; see protocol/coding.h */

    ot_call **ready; /* this turn's calls, in order of arrival */
    size_t n_ready, ready_cap;
    bool mixed;       /* they have more than one priority */
    uint64_t turn_ns; /* what the inline runs of this turn have taken */

    struct ot_grpc_open *grpc_open; /* see protocol/grpc.h */
    ot_timer grpc_timer;
    size_t grpc_bytes; /* of requests in streams */

    struct ot_ask *asks, **asks_tail; /* done at the end of the turn */
    ot_error listen_err;              /* of OT_ASK_LISTEN, before it is answered */

    /* Synchronization: under lock. Calls that the pool has finished. */
    pthread_mutex_t lock;
    ot_call *done, **done_tail;
    struct ot_more *more, **more_tail; /* responses before the last ones (more.h) */
    unsigned n_more;
    pthread_cond_t more_taken;

    /* Synchronization: relaxed, one writer. */
    _Atomic uint64_t answers[6]; /* by the first digit of their status */
    _Atomic uint64_t count_ns;   /* spent on counting */
};

ot_rc ot_worker_create(ot_serve *s, unsigned index, ot_worker **w_out, ot_error *err) OT_CHECKED;
ot_rc ot_worker_start(ot_worker *w, ot_error *err) OT_CHECKED;
/* Ends the loop and joins. Nothing may be in flight. */
void ot_worker_stop(ot_worker *w);
void ot_worker_destroy(ot_worker *w); /* NULL is fine */

/* Something that the control thread asks of a worker; `then(ask)` runs on the control loop when it
 * is done. The ask is the asker's and stays valid until then. */
typedef enum ot_ask_kind {
    OT_ASK_QUIESCE, /* no call of this turn uses a route that was replaced before the ask */
    OT_ASK_WINDOW,  /* active cells with something in them became the closed ones */
    OT_ASK_LISTEN,  /* accepts from now on; or listen_err says why not */
    OT_ASK_DRAIN,   /* accepts no more, has answered all, has handed its samples over */
} ot_ask_kind;

typedef struct ot_ask {
    struct ot_ask *next;
    ot_worker *worker;
    ot_ask_kind kind;
    ot_loop_fn *then;
    void *arg; /* the asker's */
} ot_ask;

/* False when the worker's loop takes no more posts now: try again. */
bool ot_worker_ask(ot_ask *ask);
void ot_worker_asks(void *arg);                         /* the worker's hook: does what was asked */
void ot_worker_flush_samples(ot_worker *w, bool force); /* chunks that are due, or all */

/* A request without a key, where none is needed: within the limits of such callers. */
bool ot_worker_guest(ot_worker *w, const ot_http_req *req, ot_denial *why);
/* The access log names the client; false when it is NULL. */
bool ot_worker_note_client(ot_http_req *req, const ot_client *client);

/* For the pool: the call has its result. Any thread. */
void ot_worker_done(void *arg, ot_call *call);

/* For the files of the worker, on its thread. */
/* The method is POST, or GET or HEAD; false: 405 was answered. */
bool ot_worker_allow(ot_worker *w, ot_http_req *req, bool post);
bool ot_worker_number(ot_slice s, uint64_t max, uint64_t *out); /* decimal digits, 0 to max */
/* infer.c: finds the deployment, reads the headers that all protocols share and chooses the
 * variant; `version` 0: by share. False: the call was refused. */
bool ot_worker_begin(ot_worker *w, ot_call *call, const char *name, size_t n, uint64_t version);
/* A call that was decoded and checked: gets its number and joins this turn's batch. */
void ot_worker_go(ot_worker *w, ot_call *call);
void ot_worker_refuse(ot_worker *w, ot_call *call, ot_rc rc, int status, unsigned retry_s,
                      const char *fmt, ...) __attribute__((format(printf, 6, 7)));
void ot_worker_answer(ot_worker *w, ot_call *call);  /* the result, or why there is none */
bool ot_worker_enqueue(ot_worker *w, ot_call *call); /* joins this turn's batch */
void ot_worker_error(ot_worker *w, ot_http_req *req, int status, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
void ot_worker_json(ot_worker *w, ot_http_req *req, int status, const ot_str *body);
void ot_worker_count_answer(ot_worker *w, int status);

#endif
