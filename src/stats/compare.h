/* Distances between two count vectors, and summaries of one histogram: for display and for policies
 * of those who know these names. Decisions are made by stats/edetect.h and stats/labeltest.h.
 *
 * Vectors are counts over the same k cells, p the reference, q the observed one; at least one count
 * in each, otherwise the result is NaN. Threads: any; pure. */
#ifndef OT_STATS_COMPARE_H
#define OT_STATS_COMPARE_H

#include "stats/hist.h"

#include <stddef.h>
#include <stdint.h>

/* Population stability index sum (q - p) ln(q / p), each share floored at `floor` (1e-4 is usual).
 */
double ot_compare_psi(const uint32_t *p, const uint32_t *q, size_t k, double floor);
/* Largest difference of the cumulated shares, cells in their order: at most 1/K under the exact KS.
 */
double ot_compare_ks(const uint32_t *p, const uint32_t *q, size_t k);
/* Jensen-Shannon distance: the square root of the divergence in bits, in [0, 1] (as
 * scipy.spatial.distance.jensenshannon(p, q, 2)). */
double ot_compare_js(const uint32_t *p, const uint32_t *q, size_t k);
/* Pearson's chi-squared and the likelihood ratio G of the 2 x k table, cells empty in both left out
 * (as scipy.stats.chi2_contingency(correction=False)); *df_out degrees of freedom. */
double ot_compare_chi2(const uint32_t *p, const uint32_t *q, size_t k, size_t *df_out);
double ot_compare_g(const uint32_t *p, const uint32_t *q, size_t k, size_t *df_out);
/* Similarity: sum of min(p, q) of the shares, 1 when equal, 0 when apart. */
double ot_compare_overlap(const uint32_t *p, const uint32_t *q, size_t k);
/* Root mean squared difference of the shares. */
double ot_compare_rmse(const uint32_t *p, const uint32_t *q, size_t k);
/* Wasserstein-1 in rank units: the area between the cumulated shares over the mean CDF of p; in
 * [0, 1], blind to the length of tails. */
double ot_compare_wasserstein_rank(const uint32_t *p, const uint32_t *q, size_t k);
/* Upper tail of the chi-squared distribution with df degrees of freedom. */
double ot_compare_chi2_tail(double x, size_t df);

/* A feature's cells in the order of their values: below, inner, above (missing left out); a
 * category's as they stand with unseen last. `out` takes OT_HIST_CELLS; returns how many. */
size_t ot_compare_ordered(const ot_hist_schema *s, const ot_hist_table *t, size_t feature,
                          uint32_t *out);

/* Estimates from cells: within a cell values count as uniform; values outside the range count at
 * its ends. NaN when nothing was counted or the feature is not numeric. */
double ot_compare_mean(const ot_hist_schema *s, const ot_hist_table *t, size_t feature);
double ot_compare_quantile(const ot_hist_schema *s, const ot_hist_table *t, size_t feature,
                           double q);
/* Share of missing values; NaN when nothing was counted. */
double ot_compare_missing(const ot_hist_table *t, size_t feature);

#endif
