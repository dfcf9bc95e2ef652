/* See compare.h. */
#include "stats/compare.h"

#include "stats/special.h"

#include <math.h>

static double total(const uint32_t *c, size_t k)
{
    uint64_t n = 0;
    for (size_t i = 0; i < k; i++) {
        n += c[i];
    }
    return (double)n;
}

/* A vector without counts has no shares. */
static bool totals(const uint32_t *p, const uint32_t *q, size_t k, double *np, double *nq)
{
    *np = total(p, k);
    *nq = total(q, k);
    return *np > 0 && *nq > 0;
}

double ot_compare_psi(const uint32_t *p, const uint32_t *q, size_t k, double floor)
{
    double np, nq, sum = 0;
    if (!totals(p, q, k, &np, &nq)) {
        return NAN;
    }
    for (size_t i = 0; i < k; i++) {
        double a = fmax(p[i] / np, floor), b = fmax(q[i] / nq, floor);
        sum += a == b ? 0 : (b - a) * log(b / a);
    }
    return sum;
}

double ot_compare_ks(const uint32_t *p, const uint32_t *q, size_t k)
{
    double np, nq, cp = 0, cq = 0, most = 0;
    if (!totals(p, q, k, &np, &nq)) {
        return NAN;
    }
    for (size_t i = 0; i < k; i++) {
        cp += p[i];
        cq += q[i];
        most = fmax(most, fabs(cp / np - cq / nq));
    }
    return most;
}

double ot_compare_js(const uint32_t *p, const uint32_t *q, size_t k)
{
    double np, nq, sum = 0;
    if (!totals(p, q, k, &np, &nq)) {
        return NAN;
    }
    for (size_t i = 0; i < k; i++) {
        double a = p[i] / np, b = q[i] / nq, m = (a + b) / 2;
        sum += a > 0 ? a * log2(a / m) / 2 : 0;
        sum += b > 0 ? b * log2(b / m) / 2 : 0;
    }
    return sqrt(fmax(sum, 0));
}

/* Both statistics of the 2 x k table of homogeneity. */
static double homogeneity(const uint32_t *p, const uint32_t *q, size_t k, bool likelihood,
                          size_t *df_out)
{
    double np, nq, sum = 0;
    size_t used = 0;
    if (!totals(p, q, k, &np, &nq)) {
        *df_out = 0;
        return NAN;
    }
    for (size_t i = 0; i < k; i++) {
        double both = (double)p[i] + (double)q[i];
        if (both == 0) {
            continue;
        }
        used++;
        double ep = both * np / (np + nq), eq = both * nq / (np + nq);
        if (likelihood) {
            /* The differences add to nothing over a row; with them no term is negative, so that
             * large counts don't cancel. */
            sum += 2 * ((p[i] > 0 ? p[i] * log(p[i] / ep) : 0) - (p[i] - ep));
            sum += 2 * ((q[i] > 0 ? q[i] * log(q[i] / eq) : 0) - (q[i] - eq));
        } else {
            sum += (p[i] - ep) * (p[i] - ep) / ep + (q[i] - eq) * (q[i] - eq) / eq;
        }
    }
    *df_out = used - 1;
    return sum;
}

double ot_compare_chi2(const uint32_t *p, const uint32_t *q, size_t k, size_t *df_out)
{
    return homogeneity(p, q, k, false, df_out);
}

double ot_compare_g(const uint32_t *p, const uint32_t *q, size_t k, size_t *df_out)
{
    return homogeneity(p, q, k, true, df_out);
}

double ot_compare_overlap(const uint32_t *p, const uint32_t *q, size_t k)
{
    double np, nq, sum = 0;
    if (!totals(p, q, k, &np, &nq)) {
        return NAN;
    }
    for (size_t i = 0; i < k; i++) {
        sum += fmin(p[i] / np, q[i] / nq);
    }
    return sum;
}

double ot_compare_rmse(const uint32_t *p, const uint32_t *q, size_t k)
{
    double np, nq, sum = 0;
    if (!totals(p, q, k, &np, &nq)) {
        return NAN;
    }
    for (size_t i = 0; i < k; i++) {
        double x = p[i] / np - q[i] / nq;
        sum += x * x;
    }
    return sqrt(sum / (double)k);
}

double ot_compare_wasserstein_rank(const uint32_t *p, const uint32_t *q, size_t k)
{
    double np, nq, cp = 0, cq = 0, sum = 0, before = 0, rank = 0;
    if (!totals(p, q, k, &np, &nq)) {
        return NAN;
    }
    /* The rank of a cell is p's mid-CDF; between two cells the CDFs differ by `before`. */
    for (size_t i = 0; i < k; i++) {
        double next = (cp + p[i] / 2.0) / np;
        sum += i > 0 ? fabs(before) * (next - rank) : 0;
        cp += p[i];
        cq += q[i];
        before = cp / np - cq / nq;
        rank = next;
    }
    return sum;
}

double ot_compare_chi2_tail(double x, size_t df)
{
    return df == 0 ? 1 : ot_special_gamma_q((double)df / 2, x / 2);
}

size_t ot_compare_ordered(const ot_hist_schema *s, const ot_hist_table *t, size_t feature,
                          uint32_t *out)
{
    const uint32_t *c = ot_hist_table_cells(t, feature);
    size_t n = 0;
    if (ot_hist_schema_kind(s, feature) == OT_HIST_CATEGORY) {
        for (size_t k = 0; k <= OT_HIST_UNSEEN; k++) {
            out[n++] = c[k];
        }
        return n;
    }
    out[n++] = c[OT_HIST_BELOW];
    for (size_t k = 0; k < ot_hist_schema_inner(s, feature); k++) {
        out[n++] = c[k];
    }
    out[n++] = c[OT_HIST_ABOVE];
    return n;
}

typedef struct span {
    double lo, hi, count;
} span;

/* The cells of a numeric feature as spans of values; the outer ones have no width. */
static size_t spans_of(const ot_hist_schema *s, const ot_hist_table *t, size_t feature, span *out,
                       double *n_out)
{
    *n_out = 0;
    if (ot_hist_schema_kind(s, feature) != OT_HIST_NUMERIC) {
        return 0;
    }
    uint32_t c[OT_HIST_CELLS];
    size_t k = ot_compare_ordered(s, t, feature, c);
    for (size_t i = 0; i < k; i++) {
        unsigned cell = i == 0 ? 0 : i == k - 1 ? (unsigned)k - 3 : (unsigned)i - 1;
        double lo = NAN, hi = NAN;
        ot_hist_schema_cell_range(s, feature, cell, &lo, &hi);
        out[i] = (span){i == k - 1 ? hi : lo, i == 0 ? lo : hi, (double)c[i]};
        *n_out += (double)c[i];
    }
    return k;
}

double ot_compare_mean(const ot_hist_schema *s, const ot_hist_table *t, size_t feature)
{
    span sp[OT_HIST_CELLS];
    double n, sum = 0;
    size_t k = spans_of(s, t, feature, sp, &n);
    for (size_t i = 0; i < k; i++) {
        sum += sp[i].count * (sp[i].lo / 2 + sp[i].hi / 2);
    }
    return n > 0 ? sum / n : NAN;
}

double ot_compare_quantile(const ot_hist_schema *s, const ot_hist_table *t, size_t feature,
                           double q)
{
    span sp[OT_HIST_CELLS];
    double n, before = 0;
    size_t k = spans_of(s, t, feature, sp, &n);
    if (!(n > 0)) {
        return NAN;
    }
    double want = fmin(fmax(q, 0), 1) * n;
    double at = NAN;
    for (size_t i = 0; i < k; i++) {
        if (sp[i].count <= 0) {
            continue;
        }
        if (before + sp[i].count >= want) {
            return sp[i].lo + (sp[i].hi - sp[i].lo) * (want - before) / sp[i].count;
        }
        before += sp[i].count;
        at = sp[i].hi;
    }
    return at;
}

double ot_compare_missing(const ot_hist_table *t, size_t feature)
{
    const uint32_t *c = ot_hist_table_cells(t, feature);
    double n = total(c, OT_HIST_MISSING + 1);
    return n > 0 ? c[OT_HIST_MISSING] / n : NAN;
}
