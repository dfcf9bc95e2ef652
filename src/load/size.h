/* `overtake size`: how many cores and replicas a model needs for a rate within a latency, from
 * measurements on this machine.
 *
 * Threads: one. Lifetime: a call; the result is plain values. */
#ifndef OT_LOAD_SIZE_H
#define OT_LOAD_SIZE_H

#include "load/bench.h"

#define OT_SIZE_TRIES_MAX 16

typedef struct ot_size_options {
    const char *model; /* a directory or file, as `overtake serve` takes it */
    const char *plugin_path;
    uint64_t p99_ns;
    double rate;            /* requests a second */
    double headroom;        /* share of a core that is kept free */
    unsigned replica_cores; /* of a replica */
    uint64_t step_ns;       /* how long each measurement takes */
    ot_bench_options load;  /* inputs, protocol, connections */
} ot_size_options;
void ot_size_options_init(ot_size_options *o); /* model, p99_ns and rate lack */

typedef struct ot_size_try {
    double rate;
    uint64_t p50_ns, p99_ns;
    bool holds; /* within the latency, with everything answered */
} ot_size_try;

typedef struct ot_size {
    bool apart;         /* replica and load had processors of their own */
    double closed_rate; /* answers a second of one core, as many as it can */
    ot_size_try tries[OT_SIZE_TRIES_MAX];
    size_t n_tries;
    double core_rate; /* the highest rate of a core that held; 0: none did */
    double memory_bytes;
    unsigned cores, replicas;
} ot_size;

/* OT_PRECONDITION, with the figures, when no rate at all holds the latency here. `out` has what was
 * measured in that case too. */
ot_rc ot_size_run(const ot_size_options *o, ot_size *out, ot_error *err) OT_CHECKED;
void ot_size_text(const ot_size_options *o, const ot_size *s, ot_str *out);
void ot_size_json(const ot_size_options *o, const ot_size *s, ot_str *out);

#endif
