/* Sends prepared requests and times their answers: at their own times whatever the server does
 * (open loop: at a rate, or at recorded times), or each when the one before was answered (closed
 * loop).
 *
 * In an open loop a request's time begins when it was due, also when no connection was free then: a
 * server that stalls is charged for all that would have come meanwhile (no coordinated omission).
 * Threads: one; the caller's, for the whole run. Lifetime: a call. */
#ifndef OT_LOAD_ENGINE_H
#define OT_LOAD_ENGINE_H

#include "base/error.h"
#include "base/sock.h"
#include "base/str.h"
#include "net/http.h"
#include "stats/latency.h"

#include <signal.h>

#define OT_LOAD_CONNECTIONS_MAX 16384
#define OT_LOAD_STREAMS_MAX 1024 /* of a connection */
#define OT_LOAD_RATE_MAX 1e6

/* How a request ended. Everything but CORRECT, WRONG and REFUSED is a failure of its kind. */
typedef enum ot_load_outcome {
    OT_LOAD_CORRECT,
    OT_LOAD_WRONG,        /* answered, with something else than expected */
    OT_LOAD_REFUSED,      /* 429, 503; gRPC RESOURCE_EXHAUSTED, UNAVAILABLE */
    OT_LOAD_CLIENT_ERROR, /* 4xx and what means the same */
    OT_LOAD_SERVER_ERROR,
    OT_LOAD_MALFORMED, /* no answer of the protocol */
    OT_LOAD_BROKEN,    /* the connection ended first */
    OT_LOAD_TIMEOUT,
    OT_LOAD_UNSENT, /* was due, and no connection became free */
    OT_LOAD_OUTCOMES
} ot_load_outcome;
const char *ot_load_outcome_name(ot_load_outcome o);

/* A request as it goes over the wire. */
typedef struct ot_load_request {
    char *path;
    ot_str head; /* HTTP/1.1: request line and fields with the empty line; gRPC: the authority */
    ot_str body; /* gRPC: the message with its prefix */
} ot_load_request;
#define OT_LOAD_REQUEST_INIT                                                                       \
    {                                                                                              \
        NULL, OT_STR_INIT, OT_STR_INIT                                                             \
    }
void ot_load_request_done(ot_load_request *r);

typedef struct ot_load_answer {
    int status;
    int grpc_status; /* -1: not gRPC */
    ot_slice head;   /* HTTP/1.1: as received; else lines "name: value\r\n" after an empty first */
    ot_slice body;   /* gRPC: the message, or what grpc-message says */
} ot_load_answer;

/* Looks at an answer; `measured`: not in the warm-up. */
typedef ot_load_outcome ot_load_judge_fn(void *arg, size_t request, const ot_load_answer *a,
                                         bool measured);

typedef struct ot_load_wire ot_load_wire;
extern const ot_load_wire ot_load_http1, ot_load_http2;

typedef struct ot_load_options {
    ot_addr addr;
    const struct ot_tls_client *tls; /* NULL: clear text. Outlives the run */
    const ot_load_wire *wire;
    unsigned connections;
    unsigned streams; /* requests at once on a connection; HTTP/1.1: 1 */
    const ot_load_request *requests;
    size_t n_requests; /* sent in turn */
    double rate;       /* a second; 0: closed loop */
    bool poisson;      /* gaps of a Poisson process, else even ones */
    uint64_t seed;
    const uint64_t *at_ns; /* instead of a rate: when each of the requests is due, ascending; each
                              is sent once, nothing is warm-up */
    uint64_t warmup_ns, duration_ns;
    uint64_t requests_max; /* measured ones; 0: as many as there is time for */
    uint64_t timeout_ns;
    /* Takes a real-time priority where that is allowed, so that its own waits for a processor are
     * not measured. */
    bool realtime;
    ot_load_judge_fn *judge;
    void *arg;
    const volatile sig_atomic_t *stop; /* set: end early; or NULL */
} ot_load_options;

typedef struct ot_load_counts {
    uint64_t n[OT_LOAD_OUTCOMES];
} ot_load_counts;
uint64_t ot_load_counts_all(const ot_load_counts *c);
uint64_t ot_load_counts_failed(const ot_load_counts *c); /* all but correct, wrong, refused */

typedef struct ot_load_result {
    ot_load_counts measured, warmup; /* exact: each request that was due is in one of them once */
    ot_latency correct;              /* measured, from when they were due (open) or sent (closed) */
    ot_latency refused;
    uint64_t late;       /* measured ones that found no free connection when they were due */
    uint64_t behind_ns;  /* the most that this generator itself was late with a free connection */
    uint64_t reconnects; /* connections that had to be made again */
    uint64_t elapsed_ns; /* from the first measured request's time to the last answer */
    bool realtime;       /* it was allowed */
} ot_load_result;

/* Connects, runs, and waits for the last answers. OT_UNAVAILABLE when nobody listens at the start;
 * what goes wrong later is counted. */
ot_rc ot_load_run(const ot_load_options *o, ot_load_result *result_out, ot_error *err) OT_CHECKED;

#endif
