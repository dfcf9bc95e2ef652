/* A wire: how calls of one protocol are answered. The executor, the pool and the batch know nothing
 * of protocols.
 *
 * A protocol's handler makes a call in the request's arena (see call.h), finds its deployment with
 * ot_worker_begin, decodes into call->in, checks it with ot_call_check and hands it over with
 * ot_worker_go. The worker answers each call once, through its wire.
 * Threads: the worker's. */
#ifndef OT_SERVE_WIRE_H
#define OT_SERVE_WIRE_H

#include "base/error.h"

typedef struct ot_call ot_call;
typedef struct ot_worker ot_worker;

/* Why a call gets no result. */
typedef struct ot_refusal {
    ot_rc rc;
    int status;          /* the HTTP status that says it */
    unsigned retry_s;    /* worth trying again after so many seconds; 0: not said */
    const char *message; /* valid during the call */
} ot_refusal;

typedef struct ot_wire {
    const char *name; /* for people: "rest", "grpc" */
    /* The call has its outputs: encodes and sends them. What can't be encoded it fails itself. */
    void (*answer)(ot_worker *w, ot_call *call);
    /* Says no. Also for calls without a deployment or a variant. */
    void (*fail)(ot_worker *w, ot_call *call, const ot_refusal *why);
    /* NULL, or: a response before the last one. `now` is the call as if that were its answer, and
     * lives during the call only; `call` itself is still being run. See more.h. */
    void (*more)(ot_worker *w, ot_call *call, const ot_call *now);
} ot_wire;

#endif
