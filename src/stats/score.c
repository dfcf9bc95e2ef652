/* See score.h. */
#include "stats/score.h"

#include "base/mem.h"
#include "stats/special.h"

#include <math.h>
#include <string.h>

typedef struct cell_scores {
    double location[OT_HIST_CELLS], scale[OT_HIST_CELLS];
} cell_scores;

struct ot_score_plan {
    uint64_t schema_id;
    size_t features, n;
    ot_score_series *series; /* (n) */
    cell_scores *scores;     /* (features); only of numeric ones */
};

const char *ot_score_kind_name(ot_score_kind k)
{
    static const char *const names[OT_SCORE_KINDS] = {"location", "scale",  "missing",
                                                      "outside",  "unseen", "cell"};
    return (unsigned)k < OT_SCORE_KINDS ? names[k] : "?";
}

bool ot_score_is_share(ot_score_kind k)
{
    return k != OT_SCORE_LOCATION && k != OT_SCORE_SCALE;
}

double ot_score_share(double count, double n)
{
    return 2 * asin(sqrt((count + 0.375) / (n + 0.75)));
}

double ot_score_share_inverse(double y)
{
    double x = sin(fmin(fmax(y, 0), M_PI) / 2);
    return x * x;
}

/* Cells of a numeric feature in the order of their values. */
static size_t cell_order(size_t inner, unsigned *order)
{
    size_t n = 0;
    order[n++] = OT_HIST_BELOW;
    for (unsigned k = 0; k < inner; k++) {
        order[n++] = k;
    }
    order[n++] = OT_HIST_ABOVE;
    return n;
}

/* x <- (x - mean) / sd under weights r; all zero where it does not vary. */
static void standardise(double *x, const uint32_t *r, const unsigned *order, size_t n, double total)
{
    double mean = 0, var = 0;
    for (size_t i = 0; i < n; i++) {
        mean += r[order[i]] * x[order[i]] / total;
    }
    for (size_t i = 0; i < n; i++) {
        x[order[i]] -= mean;
        var += r[order[i]] * x[order[i]] * x[order[i]] / total;
    }
    for (size_t i = 0; i < n; i++) {
        x[order[i]] = var > 1e-12 ? x[order[i]] / sqrt(var) : 0;
    }
}

void ot_score_cells(const uint32_t *r, size_t inner, double *location_out, double *scale_out)
{
    unsigned order[OT_HIST_CELLS];
    size_t n = cell_order(inner, order);
    double total = 0, before = 0, dot = 0;
    memset(location_out, 0, OT_HIST_CELLS * sizeof *location_out);
    memset(scale_out, 0, OT_HIST_CELLS * sizeof *scale_out);
    for (size_t i = 0; i < n; i++) {
        total += r[order[i]];
    }
    if (total <= 0) {
        return;
    }
    for (size_t i = 0; i < n; i++) { /* half a row at each end keeps empty outer cells finite */
        double mid = (before + r[order[i]] / 2.0 + 0.5) / (total + 1);
        location_out[order[i]] = ot_special_normal_quantile(mid);
        before += r[order[i]];
    }
    standardise(location_out, r, order, n, total);
    for (size_t i = 0; i < n; i++) {
        double s = location_out[order[i]];
        scale_out[order[i]] = s * s - 1;
        dot += r[order[i]] * s * (s * s - 1) / total;
    }
    for (size_t i = 0; i < n; i++) { /* orthogonal to s; standardising takes out the mean */
        scale_out[order[i]] -= dot * location_out[order[i]];
    }
    standardise(scale_out, r, order, n, total);
}

/* ---- the plan ---- */

/* Appends the series of one feature (or only counts them when out is NULL). */
static size_t list_series(const ot_hist_schema *s, const ot_hist_table *ref, size_t j,
                          ot_score_series *out)
{
    static const uint16_t numeric[] = {OT_SCORE_LOCATION, OT_SCORE_SCALE, OT_SCORE_MISSING,
                                       OT_SCORE_OUTSIDE};
    ot_score_series all[OT_SCORE_CELLS_MAX + 2];
    size_t n = 0;
    (void)ref;
    switch (ot_hist_schema_kind(s, j)) {
    case OT_HIST_NUMERIC:
        for (size_t i = 0; i < OT_COUNT(numeric); i++) {
            all[n++] = (ot_score_series){(uint32_t)j, numeric[i], 0, 0};
        }
        break;
    case OT_HIST_CATEGORY: /* own cells are sorted by their count */
        all[n++] = (ot_score_series){(uint32_t)j, OT_SCORE_UNSEEN, 0, 0};
        all[n++] = (ot_score_series){(uint32_t)j, OT_SCORE_MISSING, 0, 0};
        for (size_t c = 0; c < ot_hist_schema_inner(s, j) && c < OT_SCORE_CELLS_MAX; c++) {
            all[n++] = (ot_score_series){(uint32_t)j, OT_SCORE_CELL, (uint16_t)c, 0};
        }
        break;
    default:
        break;
    }
    if (out != NULL) {
        memcpy(out, all, n * sizeof *out);
    }
    return n;
}

static ot_rc sum_importance(const ot_hist_schema *s, const double *importance, double *sum_out,
                            ot_error *err)
{
    double sum = 0;
    for (size_t j = 0; j < ot_hist_schema_features(s); j++) {
        double w = importance != NULL ? importance[j] : 1;
        if (!(w >= 0) || !isfinite(w)) {
            return ot_fail(err, OT_INVALID, "feature '%s': importance %g must be a number >= 0",
                           ot_hist_schema_name(s, j), w);
        }
        sum += ot_hist_schema_kind(s, j) != OT_HIST_NONE ? w : 0;
    }
    if (!(sum > 0)) {
        return ot_fail(err, OT_INVALID,
                       "nothing to watch: no feature is counted or all importances are 0");
    }
    *sum_out = sum;
    return OT_OK;
}

static ot_rc alloc_plan(const ot_hist_schema *s, const ot_hist_table *ref, ot_score_plan **plan_out,
                        ot_error *err)
{
    size_t n = 0, features = ot_hist_schema_features(s);
    for (size_t j = 0; j < features; j++) {
        n += list_series(s, ref, j, NULL);
    }
    ot_score_plan *p = ot_calloc(1, sizeof *p);
    if (p != NULL) {
        p->series = ot_calloc(n, sizeof *p->series);
        p->scores = ot_calloc(features, sizeof *p->scores);
    }
    if (p == NULL || p->series == NULL || p->scores == NULL) {
        ot_score_plan_destroy(p);
        return ot_fail(err, OT_EXHAUSTED, "no memory for the scores of %zu features", features);
    }
    p->schema_id = ot_hist_schema_id(s);
    p->features = features;
    *plan_out = p;
    return OT_OK;
}

ot_rc ot_score_plan_create(const ot_hist_schema *s, const ot_hist_table *reference,
                           const double *importance, ot_score_plan **plan_out, ot_error *err)
{
    double sum = 0;
    if (reference->schema_id != ot_hist_schema_id(s)) {
        return ot_fail(err, OT_INVALID, "the reference's counts are of another schema");
    }
    OT_TRY(sum_importance(s, importance, &sum, err));
    ot_score_plan *p = NULL;
    OT_TRY(alloc_plan(s, reference, &p, err));
    for (size_t j = 0; j < p->features; j++) {
        double w = importance != NULL ? importance[j] : 1;
        size_t k = w > 0 ? list_series(s, reference, j, p->series + p->n) : 0;
        for (size_t i = 0; i < k; i++) {
            p->series[p->n + i].weight = w / sum / (double)k;
        }
        p->n += k;
        if (ot_hist_schema_kind(s, j) == OT_HIST_NUMERIC) {
            ot_score_cells(ot_hist_table_cells(reference, j), ot_hist_schema_inner(s, j),
                           p->scores[j].location, p->scores[j].scale);
        }
    }
    *plan_out = p;
    return OT_OK;
}

void ot_score_plan_destroy(ot_score_plan *p)
{
    if (p != NULL) {
        ot_free(p->series);
        ot_free(p->scores);
        ot_free(p);
    }
}

size_t ot_score_plan_count(const ot_score_plan *p)
{
    return p->n;
}

const ot_score_series *ot_score_plan_series(const ot_score_plan *p)
{
    return p->series;
}

static double sum_cells(const uint32_t *c)
{
    double n = 0;
    for (size_t k = 0; k < OT_HIST_MISSING; k++) {
        n += c[k];
    }
    return n;
}

static double weighted_mean(const uint32_t *c, const double *score, double n)
{
    double sum = 0;
    for (size_t k = 0; k < OT_HIST_MISSING; k++) {
        sum += c[k] * score[k];
    }
    return n > 0 ? sum / n : 0;
}

static void eval_series(const ot_score_plan *p, const ot_score_series *s, const uint32_t *c,
                        double *value_out, double *n_out)
{
    double present = sum_cells(c), missing = c[OT_HIST_MISSING], n = present, count;
    switch ((ot_score_kind)s->kind) {
    case OT_SCORE_LOCATION:
    case OT_SCORE_SCALE:
        *n_out = n;
        *value_out = weighted_mean(c,
                                   s->kind == OT_SCORE_LOCATION ? p->scores[s->feature].location
                                                                : p->scores[s->feature].scale,
                                   n);
        return;
    case OT_SCORE_MISSING:
        count = missing;
        n += missing;
        break;
    case OT_SCORE_OUTSIDE:
        count = (double)c[OT_HIST_BELOW] + (double)c[OT_HIST_ABOVE];
        break;
    case OT_SCORE_UNSEEN:
        count = c[OT_HIST_UNSEEN];
        break;
    default:
        count = c[s->cell];
        break;
    }
    *n_out = n;
    *value_out = n > 0 ? ot_score_share(count, n) : 0;
}

ot_rc ot_score_plan_eval(const ot_score_plan *p, const ot_hist_table *block, double *value_out,
                         double *n_out, ot_error *err)
{
    if (block->schema_id != p->schema_id || block->features != p->features) {
        return ot_fail(err, OT_INVALID, "the block's counts are of another schema (%016llx)",
                       (unsigned long long)block->schema_id);
    }
    for (size_t i = 0; i < p->n; i++) {
        const ot_score_series *s = &p->series[i];
        eval_series(p, s, ot_hist_table_cells(block, s->feature), value_out + i, n_out + i);
    }
    return OT_OK;
}
