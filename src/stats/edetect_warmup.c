/* The first fit: blocks are kept until the warm-up is over, then the baseline is made of them.
 *
 * The residuals are those of leaving the block out, so that the fit doesn't flatter itself. The
 * filters run twice: first without caps (no variance is known yet), then as they will live. */
#include "stats/edetect_internal.h"

#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

ot_rc edetect_warmup_alloc(ot_edetect *d, ot_error *err)
{
    /* Warm-up ends with a day, so a broken first day takes up to a day more. */
    uint32_t cap = (d->o.warmup_days + 1) * d->o.blocks_per_day;
    edetect_warmup *w = &d->warm;
    w->cap = cap;
    w->index = ot_calloc(cap, sizeof *w->index);
    w->rows = ot_calloc(cap, sizeof *w->rows);
    w->y = ot_calloc((size_t)cap * d->n, sizeof *w->y);
    w->n_y = ot_calloc((size_t)cap * d->n, sizeof *w->n_y);
    if (!w->index || !w->rows || !w->y || !w->n_y) {
        return ot_fail(err, OT_EXHAUSTED,
                       "detector: no memory for a warm-up of %u blocks x %zu series", cap, d->n);
    }
    return OT_OK;
}

void edetect_warmup_free(ot_edetect *d)
{
    ot_free(d->warm.index);
    ot_free(d->warm.rows);
    ot_free(d->warm.y);
    ot_free(d->warm.n_y);
    d->warm = (edetect_warmup){0};
}

void edetect_warmup_add(ot_edetect *d, int64_t index, const double *value, const double *n,
                        double rows)
{
    edetect_warmup *w = &d->warm;
    if (w->n == w->cap) {
        return;
    }
    w->index[w->n] = index;
    w->rows[w->n] = (float)rows;
    for (size_t i = 0; i < d->n; i++) {
        w->y[w->n * d->n + i] = (float)value[i];
        w->n_y[w->n * d->n + i] = (float)n[i];
    }
    w->n++;
}

/* What is the same for all series. */
typedef struct warm_fit {
    size_t n;
    edetect_block *block; /* (n) */
    double *hat;          /* (n) w x' P x, at most .5 */
    double *e, *n_y; /* (n) of the series at hand: leave-one-out residual, rows (0: no value) */
} warm_fit;

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void fit_design(ot_edetect *d, warm_fit *fit)
{
    const edetect_warmup *w = &d->warm;
    for (size_t t = 0; t < w->n; t++) {
        fit->e[t] = (double)w->rows[t];
    }
    qsort(fit->e, w->n, sizeof *fit->e, by_value);
    d->n_median = fit->e[w->n / 2];
    for (size_t t = 0; t < w->n; t++) {
        edetect_block_init(d, w->index[t], (double)w->rows[t], &fit->block[t]);
        edetect_xwx_add(d, fit->block[t].x, fit->block[t].w);
    }
    edetect_solve(d);
    for (size_t t = 0; t < w->n; t++) {
        double q = edetect_quadratic(d, fit->block[t].x);
        fit->block[t].h = q / 2;
        fit->hat[t] = fmin(fit->block[t].w * q, 0.5);
    }
}

/* The regression of series i. Blocks without a value enter at the mean of the others, so that P can
 * be shared by all. */
static void fit_baseline(ot_edetect *d, size_t i, warm_fit *fit)
{
    edetect_series *s = &d->s[i];
    double sum = 0, sum_w = 0;
    size_t seen = 0;
    for (size_t t = 0; t < fit->n; t++) {
        fit->n_y[t] = (double)d->warm.n_y[t * d->n + i];
        if (fit->n_y[t] > 0) {
            sum += fit->block[t].w * (double)d->warm.y[t * d->n + i];
            sum_w += fit->block[t].w;
            seen++;
        }
    }
    s->active = seen >= 2 && 2 * seen >= fit->n;
    double mean = sum_w > 0 ? sum / sum_w : 0;
    memset(s->xwy, 0, sizeof s->xwy);
    for (size_t t = 0; t < fit->n; t++) {
        double y = fit->n_y[t] > 0 ? (double)d->warm.y[t * d->n + i] : mean;
        for (size_t k = 0; k < d->p; k++) {
            s->xwy[k] += fit->block[t].w * fit->block[t].x[k] * y;
        }
    }
    edetect_beta(d, s);
}

static void residuals(const ot_edetect *d, size_t i, warm_fit *fit)
{
    const edetect_series *s = &d->s[i];
    for (size_t t = 0; t < fit->n; t++) {
        fit->n_y[t] = (double)d->warm.n_y[t * d->n + i];
        double y = (double)d->warm.y[t * d->n + i];
        fit->e[t] = (y - dot(fit->block[t].x, s->beta, d->p)) / (1 - fit->hat[t]);
    }
}

static void reset_filters(edetect_series *s)
{
    memset(s->state, 0, sizeof s->state);
    memset(s->side, 0, sizeof s->side);
}

/* Runs the bank over the residuals; `capped` as it will live, else without caps. Squared errors and
 * the sums for the variance are made anew when wanted. */
static void run_filters(edetect_series *s, const warm_fit *fit, bool capped, bool losses)
{
    double sums[FIT_SUMS] = {0}, sse[LANES] = {0};
    reset_filters(s);
    for (size_t t = 0; t < fit->n; t++) {
        float gained[LANES] = {0};
        double n = fit->n_y[t];
        if (!(n > 0)) {
            continue;
        }
        const edetect_block *b = &fit->block[t];
        double var = capped ? edetect_variance(s, n, b->h) : 1e18;
        double v = edetect_filters_step(s, gained, fit->e[t], var, b->w);
        edetect_fit_add(sums, v, var, b->w, n, b->h);
        for (size_t k = 0; k < LANES; k++) {
            sse[k] += (double)gained[k];
        }
    }
    if (losses) {
        memcpy(s->sse, sse, sizeof sse);
    }
    memcpy(s->fit, sums, sizeof sums);
}

/* Losses of all series, the choice of filters, then the variances of the chosen ones' innovations.
 */
static void pass(ot_edetect *d, warm_fit *fit, bool capped)
{
    for (size_t i = 0; i < d->n; i++) {
        residuals(d, i, fit);
        run_filters(&d->s[i], fit, capped, true);
    }
    edetect_select_filters(d);
    for (size_t i = 0; i < d->n; i++) {
        residuals(d, i, fit);
        run_filters(&d->s[i], fit, capped, false);
        edetect_fit_variance(d, &d->s[i]);
    }
}

static void close_warm_day(edetect_series *s)
{
    if (s->day_w > 0) {
        double e = s->day_we / s->day_w, n = s->day_blocks;
        s->sum_e2 += e * e;
        s->sum_ee += s->days > 0 ? e * s->e_before : 0;
        s->e_before = e;
        s->days++;
        edetect_moment_add(s, (float)(s->day_r2 / n), (float)(s->day_r / n), (float)n);
    }
    s->day_we = s->day_w = s->day_w2d = s->day_r = s->day_r2 = 0;
    s->day_blocks = 0;
}

/* Day residuals and moments of r, with the final parameters; leaves the filters where they live on.
 */
static void run_days(ot_edetect *d, size_t i, const warm_fit *fit, edetect_draws *draws)
{
    edetect_series *s = &d->s[i];
    reset_filters(s);
    for (size_t t = 0; t < fit->n; t++) {
        const edetect_block *b = &fit->block[t];
        float unused[LANES] = {0};
        if (t > 0 && b->day != fit->block[t - 1].day) {
            close_warm_day(s);
        }
        if (!(fit->n_y[t] > 0)) {
            continue;
        }
        double var = edetect_variance(s, fit->n_y[t], b->h);
        double v = edetect_filters_step(s, unused, fit->e[t], var, b->w);
        double r = fmin(fmax(v / sqrt(var), -6), 6);
        s->day_we += b->w * fit->e[t];
        s->day_w += b->w;
        s->day_r += r;
        s->day_r2 += r * r;
        s->day_blocks++;
    }
    close_warm_day(s);
    edetect_fit_moments(d, s, draws);
    double sum = 0;
    for (uint32_t k = 0; k < s->moments; k++) {
        sum += (double)s->moment_r2[k];
    }
    s->audit_r2 = s->moments > 0 ? sum / s->moments : 0;
}

ot_rc edetect_warmup_finish(ot_edetect *d, ot_error *err)
{
    size_t n = d->warm.n;
    warm_fit fit = {.n = n};
    fit.block = ot_calloc(n, sizeof *fit.block);
    fit.hat = ot_calloc(n, sizeof *fit.hat);
    fit.e = ot_calloc(n, sizeof *fit.e);
    fit.n_y = ot_calloc(n, sizeof *fit.n_y);
    ot_rc rc = OT_OK;
    if (!fit.block || !fit.hat || !fit.e || !fit.n_y) {
        rc = ot_fail(err, OT_EXHAUSTED, "detector: no memory to fit %zu blocks", n);
    } else {
        fit_design(d, &fit);
        for (size_t i = 0; i < d->n; i++) {
            fit_baseline(d, i, &fit);
        }
        pass(d, &fit, false);
        pass(d, &fit, true);
        edetect_draws draws = {0};
        for (size_t i = 0; i < d->n; i++) {
            residuals(d, i, &fit);
            run_days(d, i, &fit, &draws);
        }
        d->live = true;
        edetect_warmup_free(d);
    }
    ot_free(fit.block);
    ot_free(fit.hat);
    ot_free(fit.e);
    ot_free(fit.n_y);
    return rc;
}
