/* Blocks, bets, alarms and latches of the e-detector. See edetect.h and edetect_internal.h. */
#include "stats/edetect_internal.h"

#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const double edetect_lambda[SIDES] = {0.25, 0.5, 1, 2, 4};
static const double R_MAX = 6, M_MAX = 1e200, DAY_B = 0.25;

/* g(x) = 1 + x + x^2/2, or its reciprocal mirror: increasing, and nowhere above 1 + x + x^2/2, so a
 * bet needs bounds on two moments only. */
static inline double growth(double x)
{
    return x >= 0 ? 1 + x + x * x / 2 : 1 / (1 - x + x * x / 2);
}
static inline double clamp(double x, double most)
{
    return x > most ? most : x < -most ? -most : x;
}

/* How far a shift up (and down) is within tolerance, in the series' unit at its present level. */
static void tolerances(const ot_edetect *d, const edetect_series *s, double level, double *up_out,
                       double *down_out)
{
    if (!ot_score_is_share((ot_score_kind)s->id.kind)) {
        *up_out = *down_out = d->o.tolerance;
        return;
    }
    double p = ot_score_share_inverse(level), t = d->o.tolerance_share;
    if (!(t > 0)) {
        *up_out = *down_out = 0;
        return;
    }
    *up_out = 2 * asin(sqrt(fmin(p + t, 1))) - 2 * asin(sqrt(p));
    /* Below t there is no further down: the same step that t is from nothing. */
    *down_out = p >= t ? 2 * asin(sqrt(p)) - 2 * asin(sqrt(p - t)) : 2 * asin(sqrt(t));
}

/* All bets of a series on a standardised residual. A tolerated shift is taken off before clipping:
 * the clipped score rises with the residual, so what is fair for no shift stays fair for a
 * tolerated one; taken off after clipping it would hide any change once tolerance / sd passes the
 * clip. */
static void bet(double *m, double *run, int64_t *since, int64_t begun, double credit, double up,
                double down, const double *cost)
{
    for (size_t k = 0; k < BETS; k++) {
        double l = edetect_lambda[k % SIDES];
        double factor = growth(l * (k < SIDES ? up : -down)) * cost[k % SIDES];
        if (run[k] <= 1) { /* what came before spoke against a change */
            run[k] = 1;
            since[k] = begun;
        }
        run[k] = fmin(run[k] * factor, M_MAX);
        m[k] = fmin((credit + m[k]) * factor, M_MAX);
    }
}

static void step_series(ot_edetect *d, size_t i, const edetect_block *b, double y, double n,
                        bool latched)
{
    edetect_series *s = &d->s[i];
    size_t slot = edetect_ring_slot(d, b->index);
    d->ring_y[i * edetect_ring_slots(d) + slot] = n > 0 ? (float)y : NAN;
    if (!s->active) {
        return;
    }
    if (!(n > 0)) {
        for (size_t k = 0; k < LANES; k++) {
            s->state[k] *= edetect_filter_a[k];
        }
        return;
    }
    double level = dot(b->x, s->beta, d->p), e = y - level, up, down;
    double var = edetect_variance(s, n, b->h), sd = sqrt(var);
    double v = edetect_filters_step(s, s->today.sse, e, var, b->w);
    double fit[FIT_SUMS] = {0};
    edetect_fit_add(fit, v, var, b->w, n, b->h);
    for (size_t k = 0; k < FIT_SUMS; k++) {
        s->today.fit[k] += (float)fit[k];
    }
    double r = clamp(v / sd, R_MAX);
    s->day_we += b->w * e;
    s->day_w += b->w;
    s->day_w2d += b->w * b->w * var;
    s->day_r += r;
    s->day_r2 += r * r;
    s->day_blocks++;
    if (!latched) {
        tolerances(d, s, level, &up, &down);
        bet(s->m, s->run, s->since, b->index, 1, clamp((v - up) / sd, R_MAX),
            clamp((v + down) / sd, R_MAX), s->block_cost);
    }
}

/* ---- days ---- */

static int64_t first_block_of(const ot_edetect *d, int64_t day)
{
    return day * (int64_t)d->o.blocks_per_day - d->o.phase_blocks;
}

static void audit_day(ot_edetect *d, size_t i)
{
    edetect_series *s = &d->s[i];
    double mean = 0, var = 0;
    s->audit_r2 += ((double)s->today.r2 - s->audit_r2) / 14;
    if (s->moments < 2) {
        return;
    }
    for (uint32_t k = 0; k < s->moments; k++) {
        mean += (double)s->moment_r2[k] / s->moments;
    }
    for (uint32_t k = 0; k < s->moments; k++) {
        double x = (double)s->moment_r2[k] - mean;
        var += x * x / (s->moments - 1);
    }
    /* The trailing mean's own error is var / 27; four of its standard errors spare a check over
     * thousands of series from crying wolf. */
    if (!d->suspended && s->audit_r2 > s->k2 + 4 * sqrt(var / 27)) {
        d->suspended = true;
        d->suspended_since = first_block_of(d, d->open_day);
        d->suspended_series = (uint32_t)i;
    }
}

static void close_series_day(ot_edetect *d, size_t i, bool latched)
{
    edetect_series *s = &d->s[i];
    if (s->active && s->day_w > 0) {
        double e = s->day_we / s->day_w, n = s->day_blocks, up, down, cost[SIDES];
        edetect_day_law law = edetect_day_law_of(d, s);
        if (!latched) {
            double sd = sqrt(law.v), v = e - law.rho * s->e_before;
            tolerances(d, s, s->beta[0], &up, &down);
            for (size_t k = 0; k < SIDES; k++) {
                double l = edetect_lambda[k];
                cost[k] = 1 / (1 + l * DAY_B + l * l * law.k / 2);
            }
            bet(s->m_day, s->run_day, s->since_day, first_block_of(d, d->open_day), d->open_blocks,
                (v - up) / sd, (v + down) / sd, cost);
        }
        s->today.day = d->open_day;
        s->today.r2 = (float)(s->day_r2 / n);
        s->today.rbar = (float)(s->day_r / n);
        s->today.blocks = (float)n;
        s->today.e_day = (float)e;
        s->today.e_before = (float)s->e_before;
        s->e_before = e;
        if (!latched) {
            audit_day(d, i);
        }
    }
    d->held[i * d->ring_days + edetect_ring_day(d, d->open_day)] = s->today;
    s->today = (day_record){.day = -1};
    s->day_we = s->day_w = s->day_w2d = s->day_r = s->day_r2 = 0;
    s->day_blocks = 0;
}

static void end_audit(ot_edetect *d)
{
    if (!d->suspended) {
        return;
    }
    const edetect_series *s = &d->s[d->suspended_series];
    if (s->audit_r2 <= s->k2 || d->f[d->feature_of[d->suspended_series]].latched) {
        d->suspended = false;
    }
}

static void close_day(ot_edetect *d)
{
    end_audit(d);
    for (size_t i = 0; i < d->n; i++) {
        close_series_day(d, i, d->f[d->feature_of[i]].latched);
    }
    d->open_blocks = 0;
}

static void open_day(ot_edetect *d, int64_t day)
{
    size_t first = edetect_ring_day(d, day) * d->o.blocks_per_day;
    for (size_t k = first; k < first + d->o.blocks_per_day; k++) {
        d->ring_index[k] = -1;
    }
    d->open_day = day;
}

/* ---- evidence ---- */

static double mean_of(const double *m)
{
    double sum = 0;
    for (size_t k = 0; k < BETS; k++) {
        sum += m[k];
    }
    return sum / BETS;
}

static double series_evidence(const ot_edetect *d, const edetect_series *s)
{
    if ((d->o.mutant & OT_EDETECT_MUTANT_NO_DAYS) != 0) {
        return s->id.weight * mean_of(s->m);
    }
    return s->id.weight * (mean_of(s->m) + mean_of(s->m_day)) / 2;
}

typedef struct feature_evidence {
    uint32_t f;
    double s;
} feature_evidence;

static double feature_sum(ot_edetect *d, uint32_t k)
{
    edetect_feature *f = &d->f[k];
    double sum = 0, hot = 0;
    for (uint32_t j = 0; j < f->n_series; j++) {
        const edetect_series *s = &d->s[d->order[f->first + j]];
        sum += series_evidence(d, s);
        hot += mean_of(s->m) + mean_of(s->m_day);
    }
    if (f->latched || hot / f->n_series >= d->o.blocks_per_alarm) {
        f->hot_day = d->open_day;
    }
    return f->latched ? 0 : sum;
}

/* The mean residual since `begun`, as far back as blocks are kept. */
static double mean_residual(const ot_edetect *d, size_t i, int64_t begun)
{
    const edetect_series *s = &d->s[i];
    size_t slots = edetect_ring_slots(d);
    double sum = 0, sum_w = 0;
    for (size_t k = 0; k < slots; k++) {
        double y = (double)d->ring_y[i * slots + k], x[REGRESSORS_MAX];
        if (d->ring_index[k] < 0 || d->ring_index[k] < begun || isnan(y)) {
            continue;
        }
        edetect_regressors(d, d->ring_index[k], x);
        sum += (double)d->ring_w[k] * (y - dot(x, s->beta, d->p));
        sum_w += (double)d->ring_w[k];
    }
    return sum_w > 0 ? sum / sum_w : 0;
}

static ot_edetect_moved describe(const ot_edetect *d, uint32_t k, double evidence)
{
    const edetect_feature *f = &d->f[k];
    uint32_t best = d->order[f->first];
    for (uint32_t j = 1; j < f->n_series; j++) {
        uint32_t i = d->order[f->first + j];
        if (series_evidence(d, &d->s[i]) > series_evidence(d, &d->s[best])) {
            best = i;
        }
    }
    const edetect_series *s = &d->s[best];
    double most = -1;
    int64_t since = d->last_index;
    for (size_t b = 0; b < BETS; b++) {
        if (s->m[b] > most) {
            most = s->m[b];
            since = s->since[b];
        }
    }
    for (size_t b = 0; b < BETS; b++) {
        if (s->m_day[b] > most) {
            most = s->m_day[b];
            since = s->since_day[b];
        }
    }
    double effect = mean_residual(d, best, since);
    if (ot_score_is_share((ot_score_kind)s->id.kind)) {
        effect = ot_score_share_inverse(s->beta[0] + effect) - ot_score_share_inverse(s->beta[0]);
    }
    return (ot_edetect_moved){.series = best,
                              .feature = f->feature,
                              .kind = s->id.kind,
                              .cell = s->id.cell,
                              .evidence = evidence,
                              .effect = effect,
                              .since_block = since,
                              .latched = f->latched};
}

static void clear_feature(ot_edetect *d, uint32_t k)
{
    for (uint32_t j = 0; j < d->f[k].n_series; j++) {
        edetect_series *s = &d->s[d->order[d->f[k].first + j]];
        memset(s->m, 0, sizeof s->m);
        memset(s->m_day, 0, sizeof s->m_day);
        memset(s->run, 0, sizeof s->run);
        memset(s->run_day, 0, sizeof s->run_day);
    }
}

/* Keeps the strongest features, strongest first. */
static void keep_strongest(feature_evidence *top, size_t *n, uint32_t f, double s)
{
    size_t at = *n < OT_EDETECT_MOVED_MAX ? (*n)++ : OT_EDETECT_MOVED_MAX;
    if (at == OT_EDETECT_MOVED_MAX) {
        at--;
        if (top[at].s >= s) {
            return;
        }
    }
    for (; at > 0 && top[at - 1].s < s; at--) {
        top[at] = top[at - 1];
    }
    top[at] = (feature_evidence){f, s};
}

static void check(ot_edetect *d, ot_edetect_outcome *out)
{
    feature_evidence top[OT_EDETECT_MOVED_MAX];
    size_t n = 0;
    double total = 0, threshold = d->o.blocks_per_alarm, cleared = 0;
    for (uint32_t k = 0; k < d->n_features; k++) {
        double s = feature_sum(d, k);
        total += s;
        if (s >= threshold / 100) {
            keep_strongest(top, &n, k, s);
        }
    }
    d->evidence = total;
    out->evidence = total;
    out->alarm = total >= threshold;
    for (size_t i = 0; i < n; i++) {
        edetect_feature *f = &d->f[top[i].f];
        out->moved[i] = describe(d, top[i].f, top[i].s);
        if (out->alarm && cleared < threshold) {
            cleared += top[i].s;
            clear_feature(d, top[i].f);
            f->latched = out->moved[i].latched = true;
            f->hot_day = d->open_day;
            f->since = out->moved[i].since_block;
        }
    }
    out->n_moved = n;
    d->alarms += out->alarm;
    /* Evidence spread over more features than are listed: all of it goes. */
    for (uint32_t k = 0; out->alarm && cleared < threshold && k < d->n_features; k++) {
        clear_feature(d, k);
    }
}

/* ---- adding ---- */

static ot_rc check_block(const ot_edetect *d, int64_t index, const double *value, const double *n,
                         double *rows_out, ot_error *err)
{
    double rows = 0;
    if (index < 0 || index > INT64_MAX / 4 || (d->last_index >= 0 && index <= d->last_index)) {
        return ot_fail(err, OT_INVALID,
                       "detector: block %lld after block %lld; indexes must rise from 0",
                       (long long)index, (long long)d->last_index);
    }
    for (size_t i = 0; i < d->n; i++) {
        if (!(n[i] >= 0) || n[i] > 1e15 || (n[i] > 0 && !(fabs(value[i]) <= 1e15))) {
            return ot_fail(err, OT_INVALID,
                           "detector: series %zu of block %lld: value %g of %g rows; both must be "
                           "finite",
                           i, (long long)index, value[i], n[i]);
        }
        rows = fmax(rows, n[i]);
    }
    *rows_out = rows;
    return OT_OK;
}

static ot_rc add_warmup(ot_edetect *d, int64_t index, const double *value, const double *n,
                        double rows, ot_error *err)
{
    int64_t day = edetect_day(d, index);
    bool last_of_day = edetect_day(d, index + 1) != day;
    uint32_t enough = d->o.warmup_days * d->o.blocks_per_day;
    edetect_warmup_add(d, index, value, n, rows);
    d->last_index = index;
    if (d->warm.n < enough || !(last_of_day || d->warm.n == d->warm.cap)) {
        return OT_OK;
    }
    OT_TRY(edetect_warmup_finish(d, err));
    d->first_day = day + 1;
    d->open_blocks = 0;
    open_day(d, day);
    return OT_OK;
}

static void add_live(ot_edetect *d, int64_t index, const double *value, const double *n,
                     double rows, ot_edetect_outcome *out)
{
    edetect_block b;
    edetect_block_init(d, index, rows, &b);
    bool was_suspended = d->suspended;
    int64_t unclosed = -1;
    if (b.day != d->open_day) {
        if (d->open_blocks > 0) { /* the day's last block never came */
            unclosed = d->open_day;
            close_day(d);
            edetect_learn(d, unclosed);
            edetect_block_init(d, index, rows, &b);
        }
        open_day(d, b.day);
    }
    size_t slot = edetect_ring_slot(d, index);
    d->ring_index[slot] = index;
    d->ring_w[slot] = (float)b.w;
    d->last_index = index;
    d->open_blocks++;
    d->blocks++;
    for (size_t i = 0; i < d->n; i++) {
        step_series(d, i, &b, value[i], n[i], d->f[d->feature_of[i]].latched);
    }
    bool last_of_day = edetect_day(d, index + 1) != b.day;
    if (last_of_day) {
        close_day(d);
    }
    check(d, out);
    if (last_of_day) {
        edetect_learn(d, b.day);
    }
    out->promise_suspended_now = d->suspended && !was_suspended;
}

ot_rc ot_edetect_add(ot_edetect *d, int64_t index, const double *value, const double *n,
                     ot_edetect_outcome *outcome_out, ot_error *err)
{
    double rows = 0;
    OT_TRY(check_block(d, index, value, n, &rows, err));
    outcome_out->block = index;
    outcome_out->warming_up = !d->live;
    outcome_out->alarm = false;
    outcome_out->evidence = d->evidence;
    outcome_out->threshold = d->o.blocks_per_alarm;
    outcome_out->promise_suspended_now = false;
    outcome_out->n_moved = 0;
    if (!(rows > 0)) {
        return OT_OK;
    }
    if (!d->live) {
        return add_warmup(d, index, value, n, rows, err);
    }
    add_live(d, index, value, n, rows, outcome_out);
    return OT_OK;
}
