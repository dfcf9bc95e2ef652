/* Making, asking and resolving an e-detector. See edetect.h and edetect_internal.h. */
#include "stats/edetect_internal.h"

#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VALUES_MAX = 1 << 26 };

static double or_default(double x, double fallback)
{
    return x == 0 ? fallback : x < 0 ? 0 : x;
}

static ot_rc check_ranges(const ot_edetect_options *o, ot_error *err)
{
    uint32_t least_days = o->cycles == OT_EDETECT_WEEKLY ? 14 : 4;
    if (o->cycles < OT_EDETECT_NONE || o->cycles > OT_EDETECT_WEEKLY) {
        return ot_fail(err, OT_INVALID, "detector: cycles %d is not none, daily or weekly",
                       (int)o->cycles);
    }
    if (!(o->blocks_per_alarm >= 10 && o->blocks_per_alarm <= 1e12)) {
        return ot_fail(err, OT_INVALID,
                       "detector: %g blocks per allowed false alarm; it takes 10 to 1e12",
                       o->blocks_per_alarm);
    }
    if (o->blocks_per_day < 2 || o->blocks_per_day > OT_EDETECT_BLOCKS_PER_DAY_MAX) {
        return ot_fail(err, OT_INVALID, "detector: %u blocks a day; 2 to %d are allowed",
                       o->blocks_per_day, OT_EDETECT_BLOCKS_PER_DAY_MAX);
    }
    if (o->cycles != OT_EDETECT_NONE && o->blocks_per_day < 8) {
        return ot_fail(err, OT_INVALID,
                       "detector: a daily cycle needs at least 8 blocks a day, not %u; use shorter "
                       "blocks or cycles none",
                       o->blocks_per_day);
    }
    if (o->warmup_days < least_days ||
        (uint64_t)o->warmup_days * o->blocks_per_day > OT_EDETECT_WARMUP_BLOCKS_MAX) {
        return ot_fail(err, OT_INVALID,
                       "detector: a warm-up of %u days of %u blocks; at least %u days and at most "
                       "%d blocks are allowed",
                       o->warmup_days, o->blocks_per_day, least_days, OT_EDETECT_WARMUP_BLOCKS_MAX);
    }
    if (o->hold_days < 1 || o->hold_days > 60) {
        return ot_fail(err, OT_INVALID, "detector: days are held for 1 to 60 days, not %u",
                       o->hold_days);
    }
    if (!(o->tolerance <= 100) || !(o->tolerance_share <= 1)) {
        return ot_fail(err, OT_INVALID,
                       "detector: tolerance %g sigmas (at most 100), %g of a share (at most 1)",
                       o->tolerance, o->tolerance_share);
    }
    return OT_OK;
}

ot_rc edetect_check_options(const ot_edetect_options *given, ot_edetect_options *out, ot_error *err)
{
    ot_edetect_options o = {0};
    if (given == NULL || given->struct_size < sizeof(size_t) || given->struct_size > 4096) {
        return ot_fail(err, OT_INVALID, "detector: options without struct_size");
    }
    memcpy(&o, given, OT_MIN(given->struct_size, sizeof o));
    o.struct_size = sizeof o;
    uint32_t days = o.cycles == OT_EDETECT_WEEKLY ? 28 : o.cycles == OT_EDETECT_DAILY ? 14 : 7;
    o.blocks_per_alarm = o.blocks_per_alarm == 0 ? 8760 : o.blocks_per_alarm;
    o.blocks_per_day = o.blocks_per_day == 0 ? 24 : o.blocks_per_day;
    o.warmup_days = o.warmup_days == 0 ? days : o.warmup_days;
    o.hold_days = o.hold_days == 0 ? 7 : o.hold_days;
    o.tolerance = or_default(o.tolerance, 0.1);
    o.tolerance_share = or_default(o.tolerance_share, 0.01);
    OT_TRY(check_ranges(&o, err));
    /* Places in day and week are all that matters: a phase of less than a week, and never negative,
     * so that no day is. */
    int64_t week = 7 * (int64_t)o.blocks_per_day;
    o.phase_blocks = (int32_t)((o.phase_blocks % week + week) % week);
    *out = o;
    return OT_OK;
}

static ot_rc check_series(const ot_score_series *series, size_t n, ot_error *err)
{
    double sum = 0;
    if (n == 0 || n > OT_EDETECT_SERIES_MAX) {
        return ot_fail(err, OT_INVALID,
                       "detector: %zu series; 1 to %d can be watched (watch fewer features)", n,
                       OT_EDETECT_SERIES_MAX);
    }
    for (size_t i = 0; i < n; i++) {
        if (!(series[i].weight >= 0) || series[i].kind >= OT_SCORE_KINDS) {
            return ot_fail(err, OT_INVALID, "detector: series %zu has weight %g and kind %u", i,
                           series[i].weight, series[i].kind);
        }
        sum += series[i].weight;
    }
    if (!(sum > 0 && sum <= 1 + 1e-6)) {
        return ot_fail(err, OT_INVALID, "detector: the weights add to %g; at most 1 is promised",
                       sum);
    }
    return OT_OK;
}

/* Groups the series by feature. */
static ot_rc group_features(ot_edetect *d, ot_error *err)
{
    d->f = ot_calloc(d->n, sizeof *d->f);
    d->feature_of = ot_calloc(d->n, sizeof *d->feature_of);
    d->order = ot_calloc(d->n, sizeof *d->order);
    uint32_t *place = ot_calloc(OT_HIST_FEATURES_MAX, sizeof *place);
    if (!d->f || !d->feature_of || !d->order || !place) {
        ot_free(place);
        return ot_fail(err, OT_EXHAUSTED, "detector: no memory for %zu series", d->n);
    }
    for (size_t i = 0; i < d->n; i++) {
        uint32_t feature = d->s[i].id.feature;
        if (feature >= OT_HIST_FEATURES_MAX) {
            ot_free(place);
            return ot_fail(err, OT_INVALID, "detector: series %zu is of feature %u; at most %d", i,
                           feature, OT_HIST_FEATURES_MAX - 1);
        }
        if (place[feature] == 0) {
            d->f[d->n_features] = (edetect_feature){.feature = feature, .hot_day = INT64_MIN};
            place[feature] = (uint32_t)++d->n_features;
        }
        d->feature_of[i] = place[feature] - 1;
        d->f[d->feature_of[i]].n_series++;
    }
    ot_free(place);
    uint32_t first = 0;
    for (size_t k = 0; k < d->n_features; k++) {
        d->f[k].first = first;
        first += d->f[k].n_series;
        d->f[k].n_series = 0;
    }
    for (size_t i = 0; i < d->n; i++) {
        edetect_feature *f = &d->f[d->feature_of[i]];
        d->order[f->first + f->n_series++] = (uint32_t)i;
    }
    return OT_OK;
}

static ot_rc alloc_arrays(ot_edetect *d, ot_error *err)
{
    size_t slots = edetect_ring_slots(d);
    d->s = ot_calloc(d->n, sizeof *d->s);
    d->ring_index = ot_calloc(slots, sizeof *d->ring_index);
    d->ring_w = ot_calloc(slots, sizeof *d->ring_w);
    d->ring_y = ot_calloc(d->n, slots * sizeof *d->ring_y);
    d->held = ot_calloc(d->n, d->ring_days * sizeof *d->held);
    if (!d->s || !d->ring_index || !d->ring_w || !d->ring_y || !d->held) {
        return ot_fail(err, OT_EXHAUSTED, "detector: no memory for %zu series", d->n);
    }
    for (size_t k = 0; k < slots; k++) {
        d->ring_index[k] = -1;
    }
    for (size_t k = 0; k < d->n * d->ring_days; k++) {
        d->held[k].day = -1;
    }
    return OT_OK;
}

ot_rc edetect_alloc(const ot_edetect_options *checked, const ot_score_series *series, size_t n,
                    ot_edetect **d_out, ot_error *err)
{
    OT_TRY(check_series(series, n, err));
    uint64_t days = OT_MAX(checked->warmup_days, checked->hold_days) + 1u;
    if (days * checked->blocks_per_day * n > VALUES_MAX) {
        return ot_fail(
            err, OT_INVALID,
            "detector: %zu series over %llu days of %u blocks are more than the %d values "
            "it may keep; watch fewer features or use longer blocks",
            n, (unsigned long long)days, checked->blocks_per_day, VALUES_MAX);
    }
    ot_edetect *d = ot_calloc(1, sizeof *d);
    if (d == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "detector: no memory");
    }
    d->o = *checked;
    d->n = n;
    d->p = checked->cycles == OT_EDETECT_WEEKLY ? 14 : checked->cycles == OT_EDETECT_DAILY ? 7 : 1;
    d->p_day = checked->cycles == OT_EDETECT_WEEKLY ? 8 : 1;
    d->ring_days = checked->hold_days + 1;
    d->last_index = -1;
    d->suspended_since = -1;
    ot_rc rc = alloc_arrays(d, err);
    for (size_t i = 0; rc == OT_OK && i < n; i++) {
        d->s[i].id = series[i];
        d->s[i].today.day = -1;
    }
    if (rc == OT_OK) {
        rc = group_features(d, err);
    }
    if (rc != OT_OK) {
        ot_edetect_destroy(d);
        return rc;
    }
    *d_out = d;
    return OT_OK;
}

ot_rc ot_edetect_create(const ot_edetect_options *options, const ot_score_series *series, size_t n,
                        ot_edetect **d_out, ot_error *err)
{
    ot_edetect_options o;
    ot_edetect *d = NULL;
    OT_TRY(edetect_check_options(options, &o, err));
    OT_TRY(edetect_alloc(&o, series, n, &d, err));
    ot_rc rc = edetect_warmup_alloc(d, err);
    if (rc != OT_OK) {
        ot_edetect_destroy(d);
        return rc;
    }
    *d_out = d;
    return OT_OK;
}

void ot_edetect_destroy(ot_edetect *d)
{
    if (d == NULL) {
        return;
    }
    edetect_warmup_free(d);
    ot_free(d->s);
    ot_free(d->f);
    ot_free(d->feature_of);
    ot_free(d->order);
    ot_free(d->ring_index);
    ot_free(d->ring_w);
    ot_free(d->ring_y);
    ot_free(d->held);
    ot_free(d);
}

/* ---- latches ---- */

/* The present level becomes the baseline: the intercept moves by the mean residual since the series
 * was named, and with it the sums it was made of. */
static void accept_level(ot_edetect *d, size_t i, int64_t since)
{
    edetect_series *s = &d->s[i];
    size_t slots = edetect_ring_slots(d);
    double sum = 0, sum_w = 0;
    for (size_t k = 0; k < slots; k++) {
        double y = (double)d->ring_y[i * slots + k], x[REGRESSORS_MAX];
        if (d->ring_index[k] < since || isnan(y)) {
            continue;
        }
        edetect_regressors(d, d->ring_index[k], x);
        sum += (double)d->ring_w[k] * (y - dot(x, s->beta, d->p));
        sum_w += (double)d->ring_w[k];
    }
    double shift = sum_w > 0 ? sum / sum_w : 0;
    for (size_t j = 0; j < d->p; j++) { /* + ridge, so that beta moves by shift exactly */
        s->xwy[j] += shift * (d->xwx[j * REGRESSORS_MAX] + (j == 0 ? 1e-3 : 0));
    }
    edetect_beta(d, s);
    memset(s->state, 0, sizeof s->state);
    memset(s->side, 0, sizeof s->side);
}

ot_rc ot_edetect_unlatch(ot_edetect *d, uint32_t feature, bool accept, ot_error *err)
{
    size_t found = 0;
    for (size_t k = 0; k < d->n_features; k++) {
        edetect_feature *f = &d->f[k];
        if (!f->latched || (feature != UINT32_MAX && f->feature != feature)) {
            continue;
        }
        found++;
        f->latched = false;
        f->hot_day = d->open_day;
        for (uint32_t j = 0; accept && j < f->n_series; j++) {
            accept_level(d, d->order[f->first + j], f->since);
        }
    }
    if (found == 0) {
        return ot_fail(err, OT_NOT_FOUND, "detector: no alarm is open for this feature");
    }
    return OT_OK;
}

/* ---- asking ---- */

void ot_edetect_get_status(const ot_edetect *d, ot_edetect_status *out)
{
    uint32_t latched = 0;
    for (size_t k = 0; k < d->n_features; k++) {
        latched += d->f[k].latched;
    }
    *out = (ot_edetect_status){
        .warming_up = !d->live,
        .warmup_blocks_seen = d->live ? d->o.warmup_days * d->o.blocks_per_day : d->warm.n,
        .warmup_blocks = d->o.warmup_days * d->o.blocks_per_day,
        .last_block = d->last_index,
        .blocks = d->blocks,
        .alarms = d->alarms,
        .days_learnt = d->days_learnt,
        .latched = latched,
        .evidence = d->evidence,
        .threshold = d->o.blocks_per_alarm,
        .promise_suspended = d->suspended,
        .suspended_since_block = d->suspended ? d->suspended_since : -1,
        .suspended_series = d->suspended_series,
    };
}

void ot_edetect_get_series(const ot_edetect *d, size_t series, ot_edetect_series_info *out)
{
    const edetect_series *s = &d->s[series];
    *out = (ot_edetect_series_info){.latched = d->f[d->feature_of[series]].latched};
    if (!d->live) {
        return;
    }
    double x[REGRESSORS_MAX];
    edetect_regressors(d, d->last_index + 1, x);
    out->level = dot(x, s->beta, d->p);
    out->sd = sqrt(edetect_variance(s, d->n_median, 0));
    out->filter_a = (double)edetect_filter_a[s->filter];
    out->filter_g = (double)edetect_filter_g[s->filter];
    out->b = s->b;
    out->k2 = s->k2;
    for (size_t k = 0; k < BETS; k++) {
        out->evidence += s->m[k] / BETS;
        out->evidence_day += s->m_day[k] / BETS;
    }
}
