/* Simulated traffic for the detector's tests: block means drawn directly, three scores a feature.
 *
 * Of n iid rows the mean normal score has variance 1/n; the mean scale score too, and is skewed as
 * a mean of squares; the share missing comes from a Poisson count. Dependence, cycles and heavy
 * tails are laid over those. One thread. */
#ifndef OT_TESTS_TRAFFIC_H
#define OT_TESTS_TRAFFIC_H

#include "base/mem.h"
#include "base/random.h"
#include "stats/edetect.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct traffic_law {
    const char *name;
    double rows_ar;       /* AR(1) of rows within a block: variances are inflated */
    double block_ar;      /* AR(1) of the block's level ... */
    double tau;           /* ... with this stationary standard deviation */
    bool t3;              /* the level's innovations are Student t with 3 degrees */
    double daily, weekly; /* amplitude of cycles, sigmas */
    double vary;          /* the amplitude of each day varies by this share */
    double n_log_sd;      /* rows a block are lognormal */
    double common;        /* share of the level's variance that all features have in common */
    double season;        /* amplitude over a year */
} traffic_law;

typedef struct traffic_shift {
    int64_t from;                    /* block; negative: never */
    double location, scale, missing; /* added to feature 0 */
} traffic_shift;

enum { TRAFFIC_SCORES = 3, TRAFFIC_BASE_ROWS = 1000 };

typedef struct traffic {
    traffic_law law;
    traffic_shift shift;
    size_t features;
    int64_t t;
    ot_rng rng;
    double *level; /* (features, TRAFFIC_SCORES) AR states */
    double *phase; /* (features, TRAFFIC_SCORES) */
    double *value, *n;
    double day_amplitude, common;
} traffic;

__attribute__((unused)) static double traffic_t3(ot_rng *r)
{
    double a = ot_rng_normal(r), b = ot_rng_normal(r), c = ot_rng_normal(r);
    return ot_rng_normal(r) / sqrt(a * a + b * b + c * c); /* variance 1 */
}

__attribute__((unused)) static double traffic_poisson(ot_rng *r, double mean)
{
    if (mean > 60) {
        return fmax(0, floor(mean + sqrt(mean) * ot_rng_normal(r) + 0.5));
    }
    double u = ot_rng_uniform(r), p = exp(-mean), k = 0;
    for (double c = p; u > c && k < 400; c += p) {
        k++;
        p *= mean / k;
    }
    return k;
}

__attribute__((unused)) static void traffic_init(traffic *t, const traffic_law *law,
                                                 size_t features, uint64_t seed)
{
    *t = (traffic){.law = *law, .features = features, .shift = {.from = -1}};
    ot_rng_seed(&t->rng, seed);
    size_t k = features * TRAFFIC_SCORES;
    t->level = calloc(k, sizeof *t->level);
    t->phase = calloc(k, sizeof *t->phase);
    t->value = calloc(k, sizeof *t->value);
    t->n = calloc(k, sizeof *t->n);
    for (size_t i = 0; i < k; i++) {
        t->phase[i] = ot_rng_uniform(&t->rng);
    }
    t->day_amplitude = 1;
}

__attribute__((unused)) static void traffic_done(traffic *t)
{
    free(t->level);
    free(t->phase);
    free(t->value);
    free(t->n);
}

/* The present deviation of one score from its long-run mean, sigmas. */
__attribute__((unused)) static double traffic_level(traffic *t, size_t i)
{
    const traffic_law *w = &t->law;
    double x = 0;
    if (w->tau > 0) {
        double innovation = w->t3 ? traffic_t3(&t->rng) : ot_rng_normal(&t->rng);
        innovation = sqrt(1 - w->common) * innovation + sqrt(w->common) * t->common;
        t->level[i] =
            w->block_ar * t->level[i] + sqrt(1 - w->block_ar * w->block_ar) * w->tau * innovation;
        x += t->level[i];
    }
    double day = (double)t->t / 24;
    if (w->daily > 0) {
        double p = 2 * M_PI * (day + t->phase[i]);
        x += w->daily * t->day_amplitude * (sin(p) + 0.4 * cos(2 * p));
    }
    if (w->weekly > 0) {
        int64_t weekday = (t->t / 24 + 3) % 7;
        x += w->weekly * (weekday >= 5 ? t->day_amplitude : 0) * (t->phase[i] < 0.5 ? 1 : -1);
    }
    if (w->season > 0) {
        x += w->season * sin(2 * M_PI * (day / 365 + t->phase[i]));
    }
    return x;
}

__attribute__((unused)) static void traffic_next(traffic *t)
{
    const traffic_law *w = &t->law;
    double rows = TRAFFIC_BASE_ROWS;
    if (w->n_log_sd > 0) {
        rows = floor(rows * exp(w->n_log_sd * ot_rng_normal(&t->rng))) + 1;
    }
    if (t->t % 24 == 0 && w->vary > 0) {
        t->day_amplitude = 1 + w->vary * ot_rng_normal(&t->rng);
    }
    t->common = ot_rng_normal(&t->rng);
    double a = w->rows_ar, a2 = a * a;
    double inflate = (1 + a) / (1 - a), inflate2 = (1 + a2) / (1 - a2);
    bool moved = t->shift.from >= 0 && t->t >= t->shift.from;
    for (size_t f = 0; f < t->features; f++) {
        double *y = t->value + f * TRAFFIC_SCORES;
        bool shifted = moved && f == 0;
        double z = ot_rng_normal(&t->rng), m = rows / inflate2;
        y[0] = traffic_level(t, f * 3) + sqrt(inflate / rows) * ot_rng_normal(&t->rng) +
               (shifted ? t->shift.location : 0);
        /* A mean of m squares: Wilson-Hilferty of chi-squared. */
        double c = 1 - 2 / (9 * m) + z * sqrt(2 / (9 * m));
        y[1] = traffic_level(t, f * 3 + 1) + (c * c * c - 1) / sqrt(2.0) +
               (shifted ? t->shift.scale : 0);
        double share =
            ot_score_share_inverse(2 * asin(sqrt(0.01)) + traffic_level(t, f * 3 + 2) / 4);
        share += shifted ? t->shift.missing : 0;
        double count = inflate * traffic_poisson(&t->rng, share * rows / inflate);
        y[2] = ot_score_share(fmin(count, rows), rows);
        for (size_t k = 0; k < TRAFFIC_SCORES; k++) {
            t->n[f * TRAFFIC_SCORES + k] = rows;
        }
    }
    t->t++;
}

__attribute__((unused)) static ot_edetect *traffic_detector(size_t features,
                                                            const ot_edetect_options *o)
{
    static const uint16_t kinds[] = {OT_SCORE_LOCATION, OT_SCORE_SCALE, OT_SCORE_MISSING};
    size_t n = features * TRAFFIC_SCORES;
    ot_score_series *s = calloc(n, sizeof *s);
    for (size_t i = 0; i < n; i++) {
        s[i] = (ot_score_series){(uint32_t)(i / 3), kinds[i % 3], 0, 1.0 / (double)n};
    }
    ot_edetect *d = NULL;
    ot_error err;
    if (ot_edetect_create(o, s, n, &d, &err) != OT_OK) {
        fprintf(stderr, "detector: %s\n", err.msg);
        exit(1);
    }
    free(s);
    return d;
}

typedef struct traffic_result {
    uint64_t alarms, blocks;
    int64_t first_alarm; /* block; -1: none */
    uint32_t first_feature;
    bool suspended;
} traffic_result;

/* Runs `blocks` blocks. Latches are resolved at once (the traffic is as before), as somebody who
 * found nothing would. */
__attribute__((unused)) static traffic_result traffic_run(traffic *t, ot_edetect *d, int64_t blocks,
                                                          bool stop_at_alarm)
{
    traffic_result r = {.first_alarm = -1};
    for (int64_t i = 0; i < blocks; i++) {
        ot_edetect_outcome out;
        int64_t index = t->t;
        traffic_next(t);
        if (ot_edetect_add(d, index, t->value, t->n, &out, NULL) != OT_OK) {
            fprintf(stderr, "block refused\n");
            exit(1);
        }
        r.blocks += !out.warming_up;
        r.suspended |= out.promise_suspended_now;
        if (out.alarm) {
            r.alarms++;
            if (r.first_alarm < 0) {
                r.first_alarm = index;
                r.first_feature = out.n_moved > 0 ? out.moved[0].feature : UINT32_MAX;
            }
            if (stop_at_alarm) {
                break;
            }
            (void)!ot_edetect_unlatch(d, UINT32_MAX, false, NULL);
        }
    }
    return r;
}

#endif
