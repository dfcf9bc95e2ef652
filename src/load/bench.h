/* `overtake bench`: one load against one model, and what came of it.
 *
 * Threads: one. Lifetime: options are borrowed for the call. */
#ifndef OT_LOAD_BENCH_H
#define OT_LOAD_BENCH_H

#include "load/check.h"

typedef struct ot_bench_options {
    const char *url;
    ot_load_trust trust;
    const char *model; /* NULL: the URL's, or the only one */
    ot_load_protocol protocol;
    double rate; /* a second; 0: closed loop */
    bool poisson;
    unsigned connections, streams;
    uint64_t warmup_ns, duration_ns, timeout_ns;
    uint64_t requests; /* 0: for the duration */
    size_t inputs;     /* different ones */
    int64_t rows, open_dim;
    uint64_t seed;
    const char *data, *expect; /* files, or NULL */
    double abs, rel;           /* tolerance of the comparison */
    bool realtime;
    const volatile sig_atomic_t *stop;
} ot_bench_options;
void ot_bench_options_init(ot_bench_options *o); /* the defaults; url lacks */

typedef struct ot_bench {
    ot_load_target target;
    ot_load_inputs inputs, expected;
    ot_load_request *requests;
    size_t n_requests;
    ot_load_check *check;
    ot_load_result result;
} ot_bench;

/* Asks the server for the signature and prepares. */
ot_rc ot_bench_open(const ot_bench_options *o, ot_bench *b, ot_error *err) OT_CHECKED;
/* May be called again, with another load. */
ot_rc ot_bench_run(const ot_bench_options *o, ot_bench *b, ot_error *err) OT_CHECKED;
void ot_bench_close(ot_bench *b); /* also of a zeroed one */

/* Answers a second while measuring. */
double ot_load_result_rate(const ot_load_result *r);
/* Nothing failed and nothing was wrong; what was refused is the server's right. */
bool ot_load_result_good(const ot_load_result *r);

void ot_bench_text(const ot_bench_options *o, const ot_bench *b, ot_str *out);
void ot_bench_json(const ot_bench_options *o, const ot_bench *b, ot_str *out);
/* Parts of the above, also of a replay: the ledger and the latencies. */
void ot_load_result_text(const ot_load_result *r, ot_str *out);
void ot_load_result_json(const ot_load_result *r, ot_str *out); /* members, without braces */

#endif
