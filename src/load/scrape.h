/* What replicas say in /metrics, read and compared with what they said before.
 *
 * Threads: one at a time. Lifetime: embedded; plain values. */
#ifndef OT_LOAD_SCRAPE_H
#define OT_LOAD_SCRAPE_H

#include "load/target.h"
#include "net/http_client.h"

#define OT_SCRAPE_VARIANTS_MAX 256
#define OT_SCRAPE_STEPS_MAX 40

/* A histogram's buckets: how many took at most `le` seconds. */
typedef struct ot_scrape_hist {
    size_t n;
    double le[OT_SCRAPE_STEPS_MAX], count[OT_SCRAPE_STEPS_MAX];
} ot_scrape_hist;

typedef struct ot_scrape_variant {
    char deployment[65], model[65], version[24], role[16];
    double requests, rows, failed, queue, oldest_run_s, drift_psi;
    ot_scrape_hist latency;
} ot_scrape_variant;

typedef struct ot_scrape {
    uint64_t at_ns;
    double ready, revision, memory_bytes;
    double answers[6]; /* by the first digit of their status */
    size_t n;
    ot_scrape_variant *v; /* the caller's room for OT_SCRAPE_VARIANTS_MAX */
} ot_scrape;

/* Reads Prometheus' text; lines that are not known are passed over. Variants beyond the room are
 * left out. OT_INVALID names the line that is none. */
ot_rc ot_scrape_parse(const char *text, size_t n, ot_scrape *out, ot_error *err) OT_CHECKED;
/* Asks /metrics over `c`. */
ot_rc ot_scrape_get(ot_http_client *c, ot_scrape *out, ot_error *err) OT_CHECKED;

/* The variant of `v` in an earlier scrape; NULL: it was not there. */
const ot_scrape_variant *ot_scrape_find(const ot_scrape *s, const ot_scrape_variant *v);
/* Seconds that the fraction q of what came between the two took at most, within a bucket in
 * proportion; NaN when nothing came. `before` may be NULL. */
double ot_scrape_quantile(const ot_scrape_hist *now, const ot_scrape_hist *before, double q);

#endif
