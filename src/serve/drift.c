#include "serve/drift.h"

#include "stats/score.h"

#include <math.h>
#include <stdio.h>

/* sum (p - q) ln(p / q) over the cells, each count raised by 1/2 so that an empty cell has a
 * logarithm. Siddiqi, "Credit Risk Scorecards" (2006), calls it the population stability index. */
static double psi(const uint32_t *reference, const uint32_t *now)
{
    double n_ref = 0, n_now = 0, used = 0, sum = 0;
    for (unsigned c = 0; c < OT_HIST_CELLS; c++) {
        if (reference[c] > 0 || now[c] > 0) {
            n_ref += reference[c];
            n_now += now[c];
            used++;
        }
    }
    if (n_ref <= 0 || n_now <= 0) {
        return 0;
    }
    for (unsigned c = 0; c < OT_HIST_CELLS; c++) {
        if (reference[c] > 0 || now[c] > 0) {
            double p = (now[c] + 0.5) / (n_now + used / 2);
            double q = (reference[c] + 0.5) / (n_ref + used / 2);
            sum += (p - q) * log(p / q);
        }
    }
    return sum;
}

static double shift(const ot_hist_schema *s, size_t f, const uint32_t *reference,
                    const uint32_t *now)
{
    if (ot_hist_schema_kind(s, f) != OT_HIST_NUMERIC) {
        return NAN;
    }
    double location[OT_HIST_CELLS], scale[OT_HIST_CELLS], sum = 0, n = 0;
    ot_score_cells(reference, ot_hist_schema_inner(s, f), location, scale);
    for (unsigned c = 0; c < OT_HIST_CELLS; c++) {
        if (c != OT_HIST_MISSING) {
            sum += location[c] * now[c];
            n += now[c];
        }
    }
    return n > 0 ? sum / n : NAN;
}

static void insert(ot_drift *d, const ot_drift_feature *x)
{
    size_t at = d->n;
    while (at > 0 && d->top[at - 1].psi < x->psi) {
        at--;
    }
    if (at >= OT_DRIFT_TOP) {
        return;
    }
    size_t last = d->n < OT_DRIFT_TOP ? d->n++ : OT_DRIFT_TOP - 1;
    for (size_t i = last; i > at; i--) {
        d->top[i] = d->top[i - 1];
    }
    d->top[at] = *x;
}

void ot_drift_compare(const ot_hist_schema *s, const ot_hist_table *reference,
                      const ot_hist_table *now, ot_drift *out)
{
    out->rows = now->rows;
    out->n = 0;
    if (now->rows < OT_DRIFT_ROWS_MIN) {
        return;
    }
    for (size_t f = 0; f < ot_hist_schema_features(s); f++) {
        if (ot_hist_schema_kind(s, f) == OT_HIST_NONE) {
            continue;
        }
        const uint32_t *a = ot_hist_table_cells(reference, f), *b = ot_hist_table_cells(now, f);
        ot_drift_feature x = {.shift = NAN, .psi = psi(a, b)};
        if (out->n == OT_DRIFT_TOP && x.psi <= out->top[OT_DRIFT_TOP - 1].psi) {
            continue;
        }
        snprintf(x.name, sizeof x.name, "%s", ot_hist_schema_name(s, f));
        x.shift = shift(s, f, a, b);
        insert(out, &x);
    }
}
