/* A log-linear histogram of durations (in the manner of HdrHistogram): 32 cells an octave, so a
 * quantile is at most 3.2% above the true one; fixed size, mergeable by addition.
 *
 * Threads: one at a time. Lifetime: embedded; all zero bytes is the empty histogram. */
#ifndef OT_STATS_LATENCY_H
#define OT_STATS_LATENCY_H

#include "base/error.h"
#include "base/str.h"

#include <stdint.h>

enum {
    OT_LATENCY_SUB = 32,
    /* Exact below 64 ns, then 32 cells an octave up to 2^40 ns (18 minutes), which takes what is
     * longer. */
    OT_LATENCY_CELLS = 64 + 34 * OT_LATENCY_SUB,
};

typedef struct ot_latency {
    uint64_t count, sum_ns, max_ns;
    uint32_t cells[OT_LATENCY_CELLS];
} ot_latency;

void ot_latency_clear(ot_latency *h);
void ot_latency_add(ot_latency *h, uint64_t ns);
void ot_latency_merge(ot_latency *into, const ot_latency *from); /* cells saturate at 2^32 - 1 */
/* The upper end of the cell that holds quantile q in [0, 1], at most the maximum; 0 when empty. */
uint64_t ot_latency_quantile(const ot_latency *h, double q);
double ot_latency_mean_ns(const ot_latency *h); /* 0 when empty */
/* How many took longer than ns (to the resolution of a cell: cells wholly above). */
uint64_t ot_latency_above(const ot_latency *h, uint64_t ns);

/* Compact, little-endian, versioned; appended to out. */
void ot_latency_write(const ot_latency *h, ot_str *out);
ot_rc ot_latency_read(ot_latency *h, const void *p, size_t n, size_t *used_out,
                      ot_error *err) OT_CHECKED; /* h untouched on failure */
/* Reads and merges in one, without a histogram between: for many of them. `into` is untouched on
 * failure. */
ot_rc ot_latency_merge_record(ot_latency *into, const void *p, size_t n, size_t *used_out,
                              ot_error *err) OT_CHECKED;

#endif
