/* The inside of the e-detector, shared by the files edetect*.c.
 *
 *   edetect_model.c   the baseline: regression on cycles, filters, variances, moments; learning
 *   edetect_warmup.c  the first fit
 *   edetect.c         blocks, bets, alarms, latches
 *   edetect_state.c   the written form
 *
 * Notation follows arXiv 2203.03532 and the README: e residual of the regression, s a filter's
 * state, v = e - s innovation, d its variance, r = v / sqrt d clipped. */
#ifndef OT_STATS_EDETECT_INTERNAL_H
#define OT_STATS_EDETECT_INTERNAL_H

#include "stats/edetect.h"

enum {
    REGRESSORS_MAX = 14,
    FILTERS = 23,
    LANES = 24, /* FILTERS, padded for vectors */
    BETS = 10,  /* +-{1/4, 1/2, 1, 2, 4} */
    SIDES = BETS / 2,
    MOMENT_DAYS = 56,
    RESAMPLES = 200,
    REDO_DAYS = 7,
    FIT_SUMS = 5,
};

extern const double edetect_lambda[SIDES];
extern const float edetect_filter_a[LANES], edetect_filter_g[LANES];

/* What one day of one series leaves for learning. */
typedef struct day_record {
    int64_t day; /* -1: none */
    float r2, rbar, blocks;
    float e_day, e_before;
    float fit[FIT_SUMS]; /* sums of w^2 times 1, 1/n, 1/n^2, z, z/n; z = v^2 / (1 + h) */
    float sse[LANES];
} day_record;

typedef struct edetect_series {
    ot_score_series id;
    bool active; /* false: the warm-up saw too little of it */
    /* baseline */
    double xwy[REGRESSORS_MAX], beta[REGRESSORS_MAX];
    float state[LANES],
        side[LANES]; /* side: the block before exceeded the cap below (-1), above (1) */
    double sse[LANES], fit[FIT_SUMS];
    uint32_t filter;
    double phi, tau2, b, k2;
    double block_cost[SIDES]; /* 1 / (1 + lambda b + lambda^2 k2 / 2) */
    double sum_e2, sum_ee;    /* of accepted days: e_day^2, e_day e_before */
    double e_before;          /* of the last day */
    uint32_t days;
    uint32_t moments, moment_at; /* days in the ring, next place */
    float moment_r2[MOMENT_DAYS], moment_rbar[MOMENT_DAYS], moment_blocks[MOMENT_DAYS];
    double audit_r2; /* trailing mean over days */
    /* today */
    double day_we, day_w, day_w2d, day_r, day_r2;
    uint32_t day_blocks;
    day_record today;
    /* evidence: bet k < SIDES is +lambda_k, the rest -lambda_(k - SIDES) */
    double m[BETS], m_day[BETS];
    /* Each bet's product since it last was worth least, and the block where that began. */
    double run[BETS], run_day[BETS];
    int64_t since[BETS], since_day[BETS];
} edetect_series;

typedef struct edetect_feature {
    uint32_t feature;
    uint32_t n_series, first; /* into `order` */
    int64_t hot_day; /* the last day with much evidence or latched; such days aren't learnt */
    bool latched;
    int64_t since; /* of the alarm that latched it: where its change began */
} edetect_feature;

typedef struct edetect_warmup {
    uint32_t n, cap;
    int64_t *index; /* (cap) */
    float *rows;    /* (cap) */
    float *y, *n_y; /* (cap, n_series) */
} edetect_warmup;

struct ot_edetect {
    ot_edetect_options o;
    uint32_t p;        /* regressors */
    uint32_t p_day;    /* of them, those that vary between days */
    size_t n;          /* series */
    edetect_series *s; /* (n) */
    size_t n_features;
    edetect_feature *f;   /* (n_features), by rising feature */
    uint32_t *feature_of; /* (n) index into f */
    uint32_t *order;      /* (n) series grouped by feature */
    edetect_warmup warm;  /* arrays NULL once it is over */
    bool live;
    double n_median;
    double xwx[REGRESSORS_MAX * REGRESSORS_MAX], p_matrix[REGRESSORS_MAX * REGRESSORS_MAX];
    /* The last hold_days + 1 days: a block's place is (day % ring_days) * blocks_per_day + phase.
     */
    uint32_t ring_days;
    int64_t *ring_index; /* (ring_days * blocks_per_day); -1: no block */
    float *ring_w;       /* the same */
    float *ring_y;       /* (n, ring_days * blocks_per_day); NaN: no value */
    day_record *held;    /* (n, ring_days) */
    int64_t last_index, open_day, first_day;
    uint32_t open_blocks; /* blocks with evidence in the open day */
    uint32_t days_closed, days_learnt;
    uint64_t blocks, alarms;
    double evidence;
    bool suspended;
    int64_t suspended_since;
    uint32_t suspended_series;
};

/* One block as all series see it. */
typedef struct edetect_block {
    int64_t index, day;
    double w, h;
    double x[REGRESSORS_MAX];
} edetect_block;

/* Indexes and the phase are not negative, so no day is. */
static inline int64_t edetect_day(const ot_edetect *d, int64_t index)
{
    return (index + d->o.phase_blocks) / d->o.blocks_per_day;
}
static inline size_t edetect_ring_slots(const ot_edetect *d)
{
    return (size_t)d->ring_days * d->o.blocks_per_day;
}
static inline size_t edetect_ring_day(const ot_edetect *d, int64_t day)
{
    return (size_t)(day < 0 ? 0 : day % d->ring_days);
}
static inline size_t edetect_ring_slot(const ot_edetect *d, int64_t index)
{
    int64_t day = edetect_day(d, index);
    return edetect_ring_day(d, day) * d->o.blocks_per_day +
           (size_t)(index + d->o.phase_blocks - day * (int64_t)d->o.blocks_per_day);
}
static inline double dot(const double *a, const double *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

/* ---- edetect_model.c ---- */
void edetect_regressors(const ot_edetect *d, int64_t index, double *x_out);
void edetect_block_init(const ot_edetect *d, int64_t index, double rows, edetect_block *out);
double edetect_quadratic(const ot_edetect *d, const double *x); /* x' P x */
void edetect_xwx_add(ot_edetect *d, const double *x, double w);
void edetect_solve(ot_edetect *d);                         /* P from X'WX */
void edetect_beta(const ot_edetect *d, edetect_series *s); /* beta = P X'Wy */
double edetect_variance(const edetect_series *s, double n, double h);
/* Steps all filters; `sse` gains w * clip(v)^2; returns the selected filter's innovation. */
double edetect_filters_step(edetect_series *s, float *sse, double e, double d, double w);
void edetect_fit_add(double fit[FIT_SUMS], double v, double d, double w, double n, double h);
void edetect_select_filters(ot_edetect *d);
void edetect_fit_variance(const ot_edetect *d, edetect_series *s);
void edetect_moment_add(edetect_series *s, float r2, float rbar, float blocks);
typedef struct edetect_draws {
    size_t n; /* 0: none drawn */
    uint8_t day[RESAMPLES][MOMENT_DAYS];
} edetect_draws;
/* Draws anew when the series has another number of days than `draws`. */
void edetect_fit_moments(const ot_edetect *d, edetect_series *s, edetect_draws *draws);
/* The day's variance and lag for its standardised residual. */
typedef struct edetect_day_law {
    double rho, v, k;
} edetect_day_law;
edetect_day_law edetect_day_law_of(const ot_edetect *d, const edetect_series *s);
/* Learns the day that is hold_days old; every REDO_DAYS redoes the parameters. */
void edetect_learn(ot_edetect *d, int64_t closed_day);

/* ---- edetect_warmup.c ---- */
ot_rc edetect_warmup_alloc(ot_edetect *d, ot_error *err) OT_CHECKED;
void edetect_warmup_free(ot_edetect *d);
void edetect_warmup_add(ot_edetect *d, int64_t index, const double *value, const double *n,
                        double rows);
ot_rc edetect_warmup_finish(ot_edetect *d, ot_error *err) OT_CHECKED;

/* ---- edetect.c, for edetect_state.c ---- */
ot_rc edetect_check_options(const ot_edetect_options *given, ot_edetect_options *out,
                            ot_error *err) OT_CHECKED;
ot_rc edetect_alloc(const ot_edetect_options *checked, const ot_score_series *series, size_t n,
                    ot_edetect **d_out, ot_error *err) OT_CHECKED;

#endif
