/* The block-moment e-detector: has live traffic changed, with a stated number of false alarms?
 *
 * Rows of live traffic are not independent (daily cycles, bursts, repeated users), so the unit is a
 * block of time: each series (stats/score.h) contributes one value A_t from n_t rows. A warm-up
 * learns cycles, dependence and variance; from then on every block and every day end bets against
 * "nothing moved", and the mean of the bets' capital is compared with T, the number of blocks per
 * allowed false alarm:
 *
 *     E[false alarms in t blocks] <= t / T     for every t, all series together,
 *
 * as long as each series' standardised innovation r has, given the past, |E r| <= b and E r^2 <= k2
 * (and the like at day ends). Those bounds are learnt, so they are audited: see
 * ot_edetect_status.promise_suspended. With a tolerance, shifts within it are part of the null.
 * After e-detectors (Shin, Ramdas, Rinaldo, arXiv 2203.03532).
 *
 * A "day" is blocks_per_day blocks: 24 hours of one-hour blocks, or something short where blocks
 * are seconds and no daily cycle is looked for.
 *
 * Threads: one at a time. Deterministic: no clock, no randomness but a fixed resampling. */
#ifndef OT_STATS_EDETECT_H
#define OT_STATS_EDETECT_H

#include "stats/score.h"

typedef enum ot_edetect_cycles {
    OT_EDETECT_NONE,   /* level only */
    OT_EDETECT_DAILY,  /* and three harmonics of the day */
    OT_EDETECT_WEEKLY, /* and three harmonics of the week, and the weekend */
} ot_edetect_cycles;

enum {
    OT_EDETECT_SERIES_MAX = 65536,
    OT_EDETECT_BLOCKS_PER_DAY_MAX = 8640, /* of ten seconds */
    OT_EDETECT_WARMUP_BLOCKS_MAX = 65536,
    OT_EDETECT_MOVED_MAX = 64, /* features named in an outcome */
};

/* Set struct_size and what differs from the defaults; zero means the default. */
typedef struct ot_edetect_options {
    size_t struct_size;
    double blocks_per_alarm;  /* T; default 8760 (one a year of one-hour blocks) */
    uint32_t blocks_per_day;  /* default 24 */
    ot_edetect_cycles cycles; /* default none */
    uint32_t warmup_days;     /* default 28 weekly, 14 daily, 7 none; at least 14, 4, 4 */
    uint32_t hold_days;       /* a day is learnt when it is that old; default 7 */
    double tolerance;         /* of means, in reference sigmas; default 0.1; negative: none */
    double tolerance_share;   /* of shares; default 0.01; negative: none */
    int32_t phase_blocks;     /* added to a block's index to find its place in day and week: with
                                 indexes since the Unix epoch, the offset of local time */
    uint32_t mutant;          /* test seam: OT_EDETECT_MUTANT_*; leave 0 */
} ot_edetect_options;

/* Test seam: take one protection away each, so that tests can show that it is needed. */
enum {
    OT_EDETECT_MUTANT_NO_LAG = 1,     /* no filter: innovations are the residuals */
    OT_EDETECT_MUTANT_NO_LONGRUN = 2, /* day sums as if blocks were independent */
    OT_EDETECT_MUTANT_NO_BETWEEN = 4, /* tau = 0: only sampling variance within the block */
    OT_EDETECT_MUTANT_NO_MOMENTS = 8, /* b = 0, k2 = 1 */
    OT_EDETECT_MUTANT_NO_DAYS = 16,   /* day ends do not bet (all the weight on blocks) */
};

typedef struct ot_edetect ot_edetect;

/* `series` (n of them; copied) as ot_score_plan_series gives them. OT_INVALID names the option and
 * its limits. */
ot_rc ot_edetect_create(const ot_edetect_options *options, const ot_score_series *series, size_t n,
                        ot_edetect **d_out, ot_error *err) OT_CHECKED;
void ot_edetect_destroy(ot_edetect *d);

/* What one series did since the change is thought to have begun. */
typedef struct ot_edetect_moved {
    uint32_t series;     /* index into the series given at creation: its strongest one */
    uint32_t feature;    /* in the schema */
    uint16_t kind, cell; /* as in ot_score_series */
    double evidence;     /* the feature's part of S */
    double effect; /* means: reference sigmas; shares: difference of shares (0.02 = 2 points) */
    int64_t since_block; /* index of the block where it began, as far as the evidence tells */
    bool latched;        /* an earlier alarm named it; it earns nothing until it is resolved */
} ot_edetect_moved;

typedef struct ot_edetect_outcome {
    int64_t block;              /* the index given */
    bool warming_up;            /* no evidence yet */
    bool alarm;                 /* S >= T in this block */
    double evidence;            /* S, before what an alarm clears */
    double threshold;           /* T */
    bool promise_suspended_now; /* the audit failed with this block: write the event */
    size_t n_moved; /* features with evidence above 1% of T, or cleared by the alarm, strongest
                       first */
    ot_edetect_moved moved[OT_EDETECT_MOVED_MAX];
} ot_edetect_outcome;

/* Adds the block `index` (indexes count blocks of wall-clock time; they rise, gaps are fine). value
 * and n as ot_score_plan_eval gives them; a block without rows adds no evidence. At an alarm the
 * features with the most evidence are cleared until what is cleared reaches T; they stay latched.
 * OT_INVALID: index not above the last one, or a value that is not finite; nothing changed then.
 * OT_EXHAUSTED: memory (only when the warm-up ends). */
ot_rc ot_edetect_add(ot_edetect *d, int64_t index, const double *value, const double *n,
                     ot_edetect_outcome *outcome_out, ot_error *err) OT_CHECKED;

/* Ends a latch. accept = false: the feature is as before again; true: its present level is the new
 * baseline. feature UINT32_MAX: all. OT_NOT_FOUND when nothing was latched. */
ot_rc ot_edetect_unlatch(ot_edetect *d, uint32_t feature, bool accept, ot_error *err) OT_CHECKED;

typedef struct ot_edetect_status {
    bool warming_up;
    uint32_t warmup_blocks_seen, warmup_blocks; /* of the warm-up */
    int64_t last_block;                         /* -1: none yet */
    uint64_t blocks, alarms;                    /* with evidence; since creation */
    uint32_t days_learnt;
    uint32_t latched; /* features */
    double evidence, threshold;
    /* The audit: trailing r^2 above what was allowed for. While suspended the number of false
     * alarms is not promised. */
    bool promise_suspended;
    int64_t suspended_since_block;
    uint32_t suspended_series; /* the worst one */
} ot_edetect_status;
void ot_edetect_get_status(const ot_edetect *d, ot_edetect_status *status_out);

/* What is known about one series: for the page and for tests. */
typedef struct ot_edetect_series_info {
    double level; /* the baseline's prediction for the next block, in the series' unit */
    double sd;    /* standard deviation of an innovation at the median block size */
    double filter_a, filter_g;
    double b, k2;    /* the bounds */
    double evidence; /* mean of M over the bets */
    double evidence_day;
    bool latched;
} ot_edetect_series_info;
void ot_edetect_get_series(const ot_edetect *d, size_t series, ot_edetect_series_info *info_out);

/* The whole state: little-endian, versioned, checksummed; appended to out (check out->failed).
 * About 3.5 kB a series with 24 blocks a day. */
void ot_edetect_write(const ot_edetect *d, ot_str *out);
ot_rc ot_edetect_read(const void *p, size_t n, ot_edetect **d_out, ot_error *err) OT_CHECKED;

#endif
