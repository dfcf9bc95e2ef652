/* Traces of requests for OpenTelemetry: one trace a sampled request, a span for it and one for each
 * stage (stage.h), sent by OTLP/HTTP in JSON to a collector.
 *
 * A request that carries a `traceparent` belongs to that trace and is sampled as it says; others
 * are sampled by a hash of their prediction id. Spans go into a queue with a limit; a thread of its
 * own sends them. What the queue can't take, or the collector does not, is dropped and counted: a
 * collector that is down or slow never holds up a request.
 * Threads: as each function says. Lifetime: create, start, stop, destroy.
 * Sources: W3C Trace Context; OpenTelemetry Protocol 1.x (OTLP/HTTP, JSON encoding). */
#ifndef OT_SERVE_TRACE_H
#define OT_SERVE_TRACE_H

#include "base/str.h"
#include "net/http.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct ot_call ot_call;
typedef struct ot_tracer ot_tracer;

#define OT_TRACEPARENT_MAX 56 /* with NUL */

typedef struct ot_trace {
    uint8_t id[16];
    uint8_t span[8];   /* of the request here */
    uint8_t parent[8]; /* of the caller */
    bool has_parent;
    bool sampled;
} ot_trace;

/* "00-TRACE-PARENT-FLAGS"; false when it is not one, and then it counts as absent. */
bool ot_traceparent_parse(ot_slice text, ot_trace *out);
/* For a request that goes on to another server on behalf of this one. */
void ot_traceparent_format(const ot_trace *t, char out[OT_TRACEPARENT_MAX]);

/* `url`: "http://HOST:PORT" or https://; without a path, /v1/traces. `sample`: share of the
 * requests without a `traceparent`. */
ot_rc ot_tracer_create(const char *url, double sample, const char *instance, uint64_t incarnation,
                       ot_tracer **out, ot_error *err) OT_CHECKED;
ot_rc ot_tracer_start(ot_tracer *t, ot_error *err) OT_CHECKED;
/* Sends what is there, for at most a second or two, and joins. NULL is fine, also below. */
void ot_tracer_stop(ot_tracer *t);
void ot_tracer_destroy(ot_tracer *t);

/* A worker's thread: sets call->trace when the request is traced. `traceparent`: the caller's
 * header; p NULL: none. */
void ot_trace_begin(const ot_tracer *t, ot_call *call, ot_slice traceparent);

/* What is told of a request; filled before its answer, when the call is still there, and handed
 * over after it. */
typedef struct ot_span {
    ot_trace trace;
    int64_t wall_ns; /* what the monotonic clock's 0 is on the wall */
    uint64_t start_ns, taken_ns, run_from_ns, run_to_ns, end_ns; /* taken_ns 0: never run */
    uint64_t version, seq;
    int64_t rows;
    const char *wire; /* static */
    bool failed, fell_back;
    char deployment[65], model[65];
    char message[128]; /* why it failed */
} ot_span;
void ot_span_fill(ot_span *s, const ot_call *call);
void ot_tracer_add(ot_tracer *t, const ot_span *s); /* any thread */

typedef struct ot_tracer_stats {
    uint64_t sent, dropped; /* requests */
} ot_tracer_stats;
void ot_tracer_stats_get(ot_tracer *t, ot_tracer_stats *out); /* any thread */

/* trace_otlp.c: the body of a request to the collector. */
void ot_otlp_json(const ot_span *spans, size_t n, const char *instance, uint64_t incarnation,
                  ot_str *out);

#endif
