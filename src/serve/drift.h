/* Drift of one window, for display: which features moved most against the reference. Decisions are
 * made elsewhere, over many windows, with their false alarms counted; this only names and sizes.
 *
 * Threads: any; pure. */
#ifndef OT_SERVE_DRIFT_H
#define OT_SERVE_DRIFT_H

#include "stats/hist.h"

#define OT_DRIFT_TOP 5
#define OT_DRIFT_ROWS_MIN 20 /* rows of a window below which nothing is said */

typedef struct ot_drift_feature {
    char name[OT_HIST_NAME_MAX + 1];
    double shift; /* of the mean normal score, in standard deviations of the reference; NaN for a
                     category */
    double psi;   /* population stability index over the reference's cells */
} ot_drift_feature;

typedef struct ot_drift {
    int64_t start_us, length_us;
    uint64_t rows; /* 0: no window yet */
    size_t n;
    ot_drift_feature top[OT_DRIFT_TOP]; /* largest PSI first */
} ot_drift;

/* `now` and `reference` are tables of `s`. */
void ot_drift_compare(const ot_hist_schema *s, const ot_hist_table *reference,
                      const ot_hist_table *now, ot_drift *out);

#endif
