/* The serving replica: models behind HTTP, alone on a directory or directed by a control plane.
 *
 * N workers answer predictions, each on a loop and a listener queue of its own; one control thread
 * (the caller of ot_serve_run) directs them; a loader thread, a pool for long runs and a sampler
 * thread work beside them at lower priority.
 *
 * Threads: create, run and destroy from one thread; ot_serve_stop from any, also a signal handler.
 * Lifetime: create, run (returns after a drain), destroy. */
#ifndef OT_SERVE_SERVE_H
#define OT_SERVE_SERVE_H

#include "base/error.h"
#include "net/http_server.h"
#include "net/loop.h"
#include "net/tls.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OT_SERVE_VERSION "0.1.0" /* what the replica tells its peers */
#define OT_SERVE_WORKERS_MAX 64
#define OT_SERVE_LISTENERS_MAX 16

typedef struct ot_serve ot_serve;

typedef struct ot_serve_listener {
    int fd; /* listening, non-blocking */
    bool tls;
} ot_serve_listener;

/* Which of the directory's models are served, as Triton calls it. */
typedef enum ot_serve_control {
    OT_SERVE_NONE,     /* those that are there at the start */
    OT_SERVE_EXPLICIT, /* those that are asked for */
    OT_SERVE_POLL,     /* those that are there */
} ot_serve_control;

/* What requests say and how they are answered is known above (protocol/protocol.h). These are the
 * callbacks of the workers' HTTP servers, their `arg` the ot_worker (worker.h). */
typedef struct ot_serve_protocols {
    ot_http_handler *request;
    ot_http_streams_fn *streams;
    ot_http_refused_fn *refused;
} ot_serve_protocols;

typedef struct ot_serve_options {
    size_t struct_size;
    const ot_serve_protocols *protocols; /* the caller's; must outlive the server */
    const char *dir;   /* alone: a model, or a folder of models; NULL when `agent` is set */
    const char *agent; /* address of the control plane ("unix:PATH"), or NULL */
    const char *data;  /* data directory; the replica's own part is DATA/replica. Needed with
                          `agent` */
    const char *id;    /* of this replica; NULL: "replica-0" */
    const ot_serve_listener *listeners; /* the caller's; must outlive the server */
    size_t n_listeners;                 /* 1..OT_SERVE_LISTENERS_MAX */
    ot_tls_files tls;                   /* for those that want it; all NULL: none may */
    unsigned conns_max;                 /* that a worker holds */
    unsigned workers;                   /* 1..OT_SERVE_WORKERS_MAX */
    unsigned pool_threads;              /* for runs longer than inline_us; at least 1 */
    int control;                        /* alone: an ot_serve_control */
    int64_t poll_us;                    /* alone: between two looks at the directory */
    bool print_drift;                   /* alone: a line a window and model on stdout */
    int64_t window_us;                  /* alone; a control plane says its own */
    double count_budget;     /* of a worker's time, for counting rows; 1 counts every row */
    uint32_t inline_us;      /* a run predicted to take longer goes to the pool */
    int64_t hang_us;         /* a run that takes longer is named in the log; 0: none is */
    int64_t hang_kill_us;    /* an isolated one that takes longer costs its process its life */
    uint32_t queue_max;      /* requests that may wait for the pool, per model */
    int64_t wait_us_max;     /* how long one may be predicted to wait; 0: any time */
    uint64_t memory_max;     /* estimated bytes of what is loaded; 0: any */
    uint64_t process_memory; /* bytes that a worker process may hold; 0: any */
    uint32_t drain_ms;       /* how long requests in flight may take at the end */
    uint64_t body_max;       /* bytes of a request's body, of a message of gRPC */
    const char *otlp;        /* URL of a collector of traces, or NULL */
    const char *record;      /* file to record requests into, or NULL */
    uint64_t record_max;     /* bytes of it */
    double record_sample;    /* share of the requests */
    double trace_sample;     /* share of the requests that bring no trace of their own */
    const char *plugin_path; /* see ot_runtime_create */
    bool isolate;            /* where nobody says otherwise: a worker process for each model */
    const char *deployments; /* a file of deployments with several variants below `dir`; NULL: what
                                its folders hold */
    const char *keys;    /* a file of API keys, with `dir`; NULL: nobody needs one, or the control
                            plane says who does */
    double keyless_each; /* requests a second of one address without a key; 0: no limit */
    double keyless_all;  /* of all of them together */
    const char *access_log; /* a file, or NULL */
    double access_sample;   /* share of the requests that went well which it has */
    uint64_t access_max;    /* bytes of its files together */
    bool open_health;       /* health needs no key */
    bool open_metrics;      /* /metrics needs none */
    int supervisor_fd;      /* a channel to the supervisor (cli/supervise.h); -1: none */
} ot_serve_options;

void ot_serve_options_init(
    ot_serve_options *o); /* the defaults; protocols, dir or agent, and listeners, lack */

/* Checks the options and prepares; starts no thread. */
ot_rc ot_serve_create(const ot_serve_options *o, ot_serve **serve_out, ot_error *err) OT_CHECKED;
/* The control thread's loop, for signals (ot_loop_signal) before ot_serve_run. */
ot_loop *ot_serve_loop(ot_serve *s);
/* Serves until ot_serve_stop and the drain that follows it. OT_OK after a clean drain. */
ot_rc ot_serve_run(ot_serve *s, ot_error *err) OT_CHECKED;
/* Lame duck: readiness goes false, nothing new is accepted, what is in flight is answered, the last
 * window and samples are handed over. */
void ot_serve_stop(ot_serve *s);
/* Reads certificates and keys again, which otherwise happens when they have changed. On the control
 * thread, from a callback of its loop. */
void ot_serve_reload(ot_serve *s);
void ot_serve_destroy(ot_serve *s); /* NULL is fine */

#endif
