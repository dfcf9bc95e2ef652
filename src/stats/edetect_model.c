/* The baseline of the e-detector and how it learns. See edetect_internal.h. */
#include "stats/edetect_internal.h"

#include "base/mem.h"
#include "base/random.h"
#include "stats/vec.h"

#include <math.h>
#include <string.h>

enum { CAP = 4 };
static const double K2_LEAST = 1.2, B_LEAST = 0.25, ABSORB = 0.03, RIDGE = 1e-3;
static const double FLOOR_SHARE = 1.0, FLOOR_MEAN = 0.01; /* least d, times 1/n */

const float edetect_filter_a[LANES] = {0,    .5f,  .5f,  .5f,  .5f,  .8f,  .8f,  .8f,
                                       .8f,  .9f,  .9f,  .9f,  .9f,  .95f, .95f, .95f,
                                       .95f, .98f, .98f, .98f, .98f, .3f,  .6f,  0};
const float edetect_filter_g[LANES] = {0,    .1f, .25f, .5f, .75f, .1f, .25f, .5f,
                                       .75f, .1f, .25f, .5f, .75f, .1f, .25f, .5f,
                                       .75f, .1f, .25f, .5f, .75f, 1,   1,    0};

/* ---- regression ---- */

static size_t harmonics(double phase, double *x)
{
    size_t n = 0;
    for (int k = 1; k <= 3; k++) {
        x[n++] = sin(2 * M_PI * k * phase);
        x[n++] = cos(2 * M_PI * k * phase);
    }
    return n;
}

void edetect_regressors(const ot_edetect *d, int64_t index, double *x)
{
    int64_t day = edetect_day(d, index);
    double hour = (double)(index + d->o.phase_blocks - day * (int64_t)d->o.blocks_per_day) /
                  d->o.blocks_per_day;
    size_t n = 0;
    x[n++] = 1;
    if (d->o.cycles >= OT_EDETECT_DAILY) {
        n += harmonics(hour, x + n);
    }
    if (d->o.cycles >= OT_EDETECT_WEEKLY) {
        int64_t weekday = (day + 3) % 7; /* day 0 was a Thursday; 0 is Monday */
        n += harmonics(((double)weekday + hour) / 7, x + n);
        x[n] = weekday >= 5;
    }
}

double edetect_quadratic(const ot_edetect *d, const double *x)
{
    double sum = 0;
    for (size_t i = 0; i < d->p; i++) {
        sum += x[i] * dot(d->p_matrix + i * REGRESSORS_MAX, x, d->p);
    }
    return sum;
}

void edetect_block_init(const ot_edetect *d, int64_t index, double rows, edetect_block *b)
{
    b->index = index;
    b->day = edetect_day(d, index);
    b->w = rows / (rows + d->n_median);
    edetect_regressors(d, index, b->x);
    b->h = edetect_quadratic(d, b->x) / 2;
}

void edetect_xwx_add(ot_edetect *d, const double *x, double w)
{
    for (size_t i = 0; i < d->p; i++) {
        for (size_t j = 0; j < d->p; j++) {
            d->xwx[i * REGRESSORS_MAX + j] += w * x[i] * x[j];
        }
    }
}

/* P = (X'WX + ridge)^-1 by Gauss-Jordan; the ridge keeps every pivot positive. */
void edetect_solve(ot_edetect *d)
{
    size_t p = d->p;
    double a[REGRESSORS_MAX][2 * REGRESSORS_MAX] = {{0}};
    for (size_t i = 0; i < p; i++) {
        memcpy(a[i], d->xwx + i * REGRESSORS_MAX, p * sizeof(double));
        a[i][i] += RIDGE;
        a[i][p + i] = 1;
    }
    for (size_t k = 0; k < p; k++) {
        double pivot = 1 / a[k][k];
        for (size_t j = 0; j < 2 * p; j++) {
            a[k][j] *= pivot;
        }
        for (size_t i = 0; i < p; i++) {
            double f = i == k ? 0 : a[i][k];
            for (size_t j = 0; f != 0 && j < 2 * p; j++) {
                a[i][j] -= f * a[k][j];
            }
        }
    }
    for (size_t i = 0; i < p; i++) {
        memcpy(d->p_matrix + i * REGRESSORS_MAX, a[i] + p, p * sizeof(double));
    }
}

void edetect_beta(const ot_edetect *d, edetect_series *s)
{
    for (size_t i = 0; i < d->p; i++) {
        s->beta[i] = dot(d->p_matrix + i * REGRESSORS_MAX, s->xwy, d->p);
    }
}

/* ---- filters ---- */

double edetect_variance(const edetect_series *s, double n, double h)
{
    bool share = ot_score_is_share((ot_score_kind)s->id.kind);
    double least = (share ? FLOOR_SHARE : FLOOR_MEAN) / n;
    return fmax((s->phi / n + s->tau2) * (1 + h), least);
}

double edetect_filters_step(edetect_series *s, float *sse, double e, double d, double w)
{
    float cap = (float)(CAP * sqrt(d)), wf = (float)w;
    vec_f caps = vec_all(cap), one = vec_all(1), ws = vec_all(wf), gain = vec_all(2 * wf);
    double v = e - (double)s->state[s->filter];
    for (size_t k = 0; k < LANES; k += VEC) {
        vec_f state = vec_load(s->state + k), side = vec_load(s->side + k);
        vec_f x = vec_all((float)e) - state;
        vec_i above = x > caps, below = x < -caps;
        vec_f over = vec_keep(above, one) - vec_keep(below, one);
        vec_f clipped = vec_select(above, caps, vec_select(below, -caps, x));
        vec_store(sse + k, vec_load(sse + k) + ws * clipped * clipped);
        /* A second excess on the same side is a level, not an outlier. */
        vec_f u = vec_select(over * side > vec_all(0), x, clipped);
        vec_f g = gain * vec_load(edetect_filter_g + k);
        g = vec_select(g > one, one, g);
        vec_store(s->state + k, vec_load(edetect_filter_a + k) * (state + g * u));
        vec_store(s->side + k, over);
    }
    return v;
}

/* Share of a lasting shift that the filter's innovations still show. */
static double filter_gain(size_t k)
{
    double a = (double)edetect_filter_a[k], g = (double)edetect_filter_g[k];
    return (1 - a) / (1 - a + a * g);
}

/* The most absorbing filter within ABSORB of the best squared error. */
static uint32_t best_filter(const double *loss)
{
    double least = loss[0];
    uint32_t best = 0;
    for (size_t k = 1; k < FILTERS; k++) {
        least = fmin(least, loss[k]);
    }
    double best_gain = INFINITY;
    for (size_t k = 0; k < FILTERS; k++) {
        if (loss[k] <= least * (1 + ABSORB) && filter_gain(k) < best_gain) {
            best_gain = filter_gain(k);
            best = (uint32_t)k;
        }
    }
    return best;
}

/* Each series' losses are averaged half and half with the mean over the series of the same score:
 * alone they are too noisy to choose by. */
void edetect_select_filters(ot_edetect *d)
{
    double mean[OT_SCORE_KINDS][FILTERS] = {{0}}, count[OT_SCORE_KINDS] = {0};
    for (size_t i = 0; i < d->n; i++) {
        const edetect_series *s = &d->s[i];
        if (s->active && s->sse[0] > 0) {
            count[s->id.kind]++;
            for (size_t k = 0; k < FILTERS; k++) {
                mean[s->id.kind][k] += s->sse[k] / s->sse[0];
            }
        }
    }
    for (size_t i = 0; i < d->n; i++) {
        edetect_series *s = &d->s[i];
        double loss[FILTERS];
        if (!s->active || !(s->sse[0] > 0) || (d->o.mutant & OT_EDETECT_MUTANT_NO_LAG) != 0) {
            s->filter = 0;
            continue;
        }
        for (size_t k = 0; k < FILTERS; k++) {
            loss[k] = (s->sse[k] / s->sse[0] + mean[s->id.kind][k] / count[s->id.kind]) / 2;
        }
        s->filter = best_filter(loss);
    }
}

/* ---- variances and moments ---- */

void edetect_fit_add(double fit[FIT_SUMS], double v, double d, double w, double n, double h)
{
    double z = fmin(v * v, 36 * d) / (1 + h), w2 = w * w;
    fit[0] += w2;
    fit[1] += w2 / n;
    fit[2] += w2 / (n * n);
    fit[3] += w2 * z;
    fit[4] += w2 * z / n;
}

/* z ~ phi / n + tau2, both >= 0, by weighted least squares; all in tau2 when n hardly varies. */
void edetect_fit_variance(const ot_edetect *d, edetect_series *s)
{
    const double *f = s->fit;
    if (!(f[0] > 0)) {
        return;
    }
    double mean = f[1] / f[0], var = f[2] / f[0] - mean * mean;
    double cov = f[4] / f[0] - mean * f[3] / f[0];
    if ((d->o.mutant & OT_EDETECT_MUTANT_NO_BETWEEN) != 0) {
        s->phi = f[4] / f[2];
        s->tau2 = 0;
    } else if (var <= 1e-6 * mean * mean || cov <= 0) {
        s->phi = 0;
        s->tau2 = f[3] / f[0];
    } else {
        s->phi = cov / var;
        s->tau2 = f[3] / f[0] - s->phi * mean;
        if (s->tau2 < 0) {
            s->phi = f[4] / f[2];
            s->tau2 = 0;
        }
    }
}

void edetect_moment_add(edetect_series *s, float r2, float rbar, float blocks)
{
    s->moment_r2[s->moment_at] = r2;
    s->moment_rbar[s->moment_at] = rbar;
    s->moment_blocks[s->moment_at] = blocks;
    s->moment_at = (s->moment_at + 1) % MOMENT_DAYS;
    s->moments += s->moments < MOMENT_DAYS;
}

/* Which of n days each resample draws, the same for all series and runs. */
static void draw_days(edetect_draws *draws, size_t n)
{
    ot_rng rng;
    ot_rng_seed(&rng, 0x6f74);
    draws->n = n;
    for (size_t i = 0; i < RESAMPLES; i++) {
        for (size_t k = 0; k < n; k++) {
            draws->day[i][k] = (uint8_t)ot_rng_below(&rng, n);
        }
    }
}

static void keep_greatest(double *top, size_t n, double v)
{
    for (size_t k = 0; k < n && v > top[n - 1]; k++) {
        if (v > top[k]) {
            double t = top[k];
            top[k] = v;
            v = t;
        }
    }
}

/* The 99% point of the resampled means of x: the least of the three greatest of 200. Four sums side
 * by side, because each addition waits for the one before. */
static double resampled_upper(const double *x, const edetect_draws *draws)
{
    enum { TOP = RESAMPLES / 100 + 1 };
    _Static_assert(RESAMPLES % 4 == 0, "whole groups of resamples");
    double top[TOP] = {-INFINITY, -INFINITY, -INFINITY};
    for (size_t i = 0; i < RESAMPLES; i += 4) {
        const uint8_t(*day)[MOMENT_DAYS] = &draws->day[i];
        double v0 = 0, v1 = 0, v2 = 0, v3 = 0;
        for (size_t k = 0; k < draws->n; k++) {
            v0 += x[day[0][k]];
            v1 += x[day[1][k]];
            v2 += x[day[2][k]];
            v3 += x[day[3][k]];
        }
        keep_greatest(top, TOP, v0);
        keep_greatest(top, TOP, v1);
        keep_greatest(top, TOP, v2);
        keep_greatest(top, TOP, v3);
    }
    return top[TOP - 1] / (double)draws->n;
}

void edetect_fit_moments(const ot_edetect *d, edetect_series *s, edetect_draws *draws)
{
    double r2[MOMENT_DAYS], day2[MOMENT_DAYS], sum_rbar = 0, sum_rbar2 = 0;
    size_t n = s->moments;
    s->b = B_LEAST;
    s->k2 = K2_LEAST;
    for (size_t i = 0; i < n; i++) {
        double rbar = (double)s->moment_rbar[i];
        r2[i] = (double)s->moment_r2[i];
        day2[i] = (double)s->moment_blocks[i] * rbar * rbar;
        sum_rbar += rbar;
        sum_rbar2 += rbar * rbar;
    }
    if (n > 0) {
        double days = (double)n;
        if (draws->n != n) {
            draw_days(draws, n);
        }
        s->k2 = fmax(K2_LEAST, fmax(resampled_upper(r2, draws), resampled_upper(day2, draws)));
        s->b = fmax(B_LEAST, 2.6 * sqrt(sum_rbar2 / days / days) + fabs(sum_rbar / days));
    }
    if ((d->o.mutant & OT_EDETECT_MUTANT_NO_MOMENTS) != 0) {
        s->b = 0;
        s->k2 = 1;
    }
    for (size_t k = 0; k < SIDES; k++) {
        double l = edetect_lambda[k];
        s->block_cost[k] = 1 / (1 + l * s->b + l * l * s->k2 / 2);
    }
}

edetect_day_law edetect_day_law_of(const ot_edetect *d, const edetect_series *s)
{
    edetect_day_law law = {0};
    double n = s->days, nu = fmax(n - d->p_day, 4);
    double inner = s->day_w2d / (s->day_w * s->day_w);
    double rho = s->sum_e2 > 0 ? fmin(s->sum_ee / s->sum_e2, 0.9) : 0;
    law.rho = n > 0 && rho > 2 / sqrt(n) ? rho : 0;
    double between = s->sum_e2 / fmax(n - d->p_day, 1) * (1 - law.rho * law.rho);
    law.v = fmax(between, inner) * (1 + 1 / fmax(n, 1));
    /* The 1% point of chi-squared / nu (Wilson, Hilferty): s2 may be that much too small. */
    double c = 1 - 2 / (9 * nu) - 2.33 * sqrt(2 / (9 * nu));
    law.k = K2_LEAST / (c * c * c);
    if ((d->o.mutant & OT_EDETECT_MUTANT_NO_LONGRUN) != 0) {
        law = (edetect_day_law){0, inner, K2_LEAST};
    }
    return law;
}

/* ---- learning ---- */

static void learn_record(edetect_series *s, const day_record *r)
{
    for (size_t k = 0; k < LANES; k++) {
        s->sse[k] += (double)r->sse[k];
    }
    for (size_t k = 0; k < FIT_SUMS; k++) {
        s->fit[k] += (double)r->fit[k];
    }
    s->sum_e2 += (double)r->e_day * (double)r->e_day;
    s->sum_ee += (double)r->e_day * (double)r->e_before;
    s->days++;
    edetect_moment_add(s, r->r2, r->rbar, r->blocks);
}

static bool accepted(const ot_edetect *d, size_t i, int64_t day)
{
    const day_record *r = &d->held[i * d->ring_days + edetect_ring_day(d, day)];
    return d->f[d->feature_of[i]].hot_day < day && r->day == day && d->s[i].active;
}

/* X'WX and every X'Wy gain one block: the value seen, or (day not accepted, no value) the
 * prediction. */
static void learn_block(ot_edetect *d, size_t slot, int64_t day)
{
    double x[REGRESSORS_MAX], w = (double)d->ring_w[slot];
    edetect_regressors(d, d->ring_index[slot], x);
    edetect_xwx_add(d, x, w);
    for (size_t i = 0; i < d->n; i++) {
        edetect_series *s = &d->s[i];
        double y = (double)d->ring_y[i * edetect_ring_slots(d) + slot];
        if (isnan(y) || !accepted(d, i, day)) {
            y = dot(x, s->beta, d->p);
        }
        for (size_t j = 0; j < d->p; j++) {
            s->xwy[j] += w * x[j] * y;
        }
    }
}

static void learn_day(ot_edetect *d, int64_t day)
{
    size_t first = edetect_ring_day(d, day) * d->o.blocks_per_day;
    for (size_t k = first; k < first + d->o.blocks_per_day; k++) {
        if (d->ring_index[k] >= 0) {
            learn_block(d, k, day);
        }
    }
    d->days_learnt++;
    edetect_solve(d);
    for (size_t i = 0; i < d->n; i++) {
        if (accepted(d, i, day)) {
            learn_record(&d->s[i], &d->held[i * d->ring_days + edetect_ring_day(d, day)]);
        }
        edetect_beta(d, &d->s[i]);
    }
}

void edetect_learn(ot_edetect *d, int64_t closed_day)
{
    int64_t day = closed_day - d->o.hold_days; /* may be before the first: then it isn't learnt */
    size_t first = edetect_ring_day(d, day) * d->o.blocks_per_day;
    bool held = false;
    for (size_t k = first; k < first + d->o.blocks_per_day; k++) {
        held |= d->ring_index[k] >= 0 && edetect_day(d, d->ring_index[k]) == day;
    }
    if (held && day >= d->first_day) {
        learn_day(d, day);
    }
    d->days_closed++;
    if (d->days_closed % REDO_DAYS == 0) {
        edetect_select_filters(d);
        edetect_draws draws = {0};
        for (size_t i = 0; i < d->n; i++) {
            edetect_fit_variance(d, &d->s[i]);
            edetect_fit_moments(d, &d->s[i], &draws);
        }
    }
}
