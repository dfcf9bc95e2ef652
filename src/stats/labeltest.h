/* What labels prove: degradation, the mean with its interval, which of two versions is better,
 * whether traffic was dealt as said. All of it may be looked at after every label, forever: the
 * error promised covers all looks together (e-values, confidence sequences).
 *
 * States are plain structs of numbers: copy them freely, keep them with the write/read pairs.
 * Threads: one at a time each; pure functions otherwise. */
#ifndef OT_STATS_LABELTEST_H
#define OT_STATS_LABELTEST_H

#include "base/error.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

/* ---- One label's contribution ----
 * A row was sampled for labelling with probability pi by our own draw (sampled tells how it fell)
 * and had a proxy loss f in [0,1], fixed before the label (0 if there is none). Given the rows, E z
 * = loss. Rows that were not sampled count with loss 0 ignored: z = f. */
double ot_label_z(bool sampled, double pi, double proxy, double loss);

/* ---- (a) Has the mean loss risen above theta0? ----
 * An e-detector over labels: M_k <- (1 + M_k) (1 + lambda_k (z - theta0)) for a grid of lambda_k
 * inside the legal interval [0, 1 / (theta0 + 1/pi_min - 1)); alarm when their mean reaches T. With
 * E[z | past] <= theta0 the expected number of alarms in t labels is at most t / T, whatever the
 * dependence between rows. */
enum { OT_DEGRADE_BETS = 10 };
typedef struct ot_degrade {
    double theta0, pi_min, threshold; /* threshold: T, labels per allowed false alarm */
    uint64_t n, alarms;
    double sum;     /* of z, over all labels */
    uint64_t since; /* labels since the strongest bet began to grow: when it began, as seen now */
    double
        sum_since; /* of z, since then; both stay as they were at an alarm until the next label */
    double m[OT_DEGRADE_BETS];
    double run[OT_DEGRADE_BETS];       /* each bet's product since it last was worth least */
    uint64_t begun_n[OT_DEGRADE_BETS]; /* n and sum where that run began */
    double begun_sum[OT_DEGRADE_BETS];
} ot_degrade;

/* theta0 in [0,1) the mean loss that is still right (1 - an accuracy objective), pi_min in (0,1]
 * the least sampling probability, threshold >= 1. */
ot_rc ot_degrade_init(ot_degrade *d, double theta0, double pi_min, double threshold,
                      ot_error *err) OT_CHECKED;
/* Adds one label; true: the alarm rang with it (the evidence starts again from nothing). pi below
 * pi_min counts as pi_min would: z is clamped to the legal range. */
bool ot_degrade_add(ot_degrade *d, double z);
/* The same with the promise in another unit: M <- (weight + M)(1 + lambda (z - theta0)), so that
 * E[alarms] <= (sum of weights) / T. With weights that add to the blocks of time elapsed, T counts
 * blocks per allowed false alarm however many labels come. `weight` in [0, 1], fixed before the
 * label; others are ignored with their label. */
bool ot_degrade_add_weighted(ot_degrade *d, double z, double weight);
double ot_degrade_evidence(const ot_degrade *d);   /* mean of M; compare with threshold */
double ot_degrade_mean_since(const ot_degrade *d); /* mean loss since the change, NaN if none */
void ot_degrade_write(const ot_degrade *d, ot_str *out);
ot_rc ot_degrade_read(ot_degrade *d, const void *p, size_t n, ot_error *err) OT_CHECKED;

/* ---- (b) The mean, with an interval that is right at every look ----
 * Empirical-Bernstein confidence sequence, a mixture over the bet (after Howard et al. 2021,
 * Waudby-Smith and Ramdas 2023): covers the running mean of E[z_i | past] for all n at once with
 * probability 1 - alpha. Needs neither stationarity nor independence. */
typedef struct ot_meanseq {
    double pi_min;
    uint64_t n;
    double sum, v; /* of z; of (z - prediction)^2 */
} ot_meanseq;
typedef struct ot_interval {
    double estimate, lo, hi; /* within [0,1]; lo = 0, hi = 1, estimate NaN with no label */
} ot_interval;

ot_rc ot_meanseq_init(ot_meanseq *m, double pi_min, ot_error *err) OT_CHECKED;
void ot_meanseq_add(ot_meanseq *m, double z);
ot_interval ot_meanseq_interval(const ot_meanseq *m, double alpha);
/* The same for 1 - z: accuracy from 0/1 losses. */
ot_interval ot_meanseq_complement(const ot_meanseq *m, double alpha);
void ot_meanseq_write(const ot_meanseq *m, ot_str *out);
ot_rc ot_meanseq_read(ot_meanseq *m, const void *p, size_t n, ot_error *err) OT_CHECKED;

/* ---- (c) Two versions on the same rows ----
 * A pair is discordant if exactly one of the two is right. d = (n10 - n01) / n is the excess error
 * of the new version. NOT_WORSE: the upper end of d's confidence sequence is below the margin;
 * WORSE: the lower end is above 0. All are functions of the three counts, valid at any time. */
typedef struct ot_paired {
    uint64_t n;   /* pairs */
    uint64_t n10; /* new wrong, old right */
    uint64_t n01; /* new right, old wrong */
} ot_paired;
typedef enum ot_verdict { OT_VERDICT_UNDECIDED, OT_VERDICT_NOT_WORSE, OT_VERDICT_WORSE } ot_verdict;
typedef struct ot_comparison {
    ot_verdict verdict;
    double d, d_lo, d_hi; /* excess error and its interval: each end holds with 1 - alpha */
    double e_not_worse;   /* e-value against "worse by the margin or more"; >= 1/alpha: NOT_WORSE */
    double e_worse;       /* e-value against "not worse at all"; >= 1/alpha: WORSE */
    double e_sign_worse;  /* discordant pairs only: uniform prior on (1/2,1] against 1/2 */
    double e_sign_better; /* uniform prior on [0,1/2) against 1/2 */
} ot_comparison;

static inline void ot_paired_add(ot_paired *p, bool new_right, bool old_right)
{
    p->n++;
    p->n10 += (uint64_t)(!new_right && old_right);
    p->n01 += (uint64_t)(new_right && !old_right);
}
const char *ot_verdict_name(ot_verdict v); /* "undecided", "not_worse", "worse" */
/* margin in (0,1), alpha in (0,1); n10 + n01 <= n. */
ot_rc ot_paired_compare(const ot_paired *p, double margin, double alpha,
                        ot_comparison *comparison_out, ot_error *err) OT_CHECKED;
/* alpha of the m-th challenger (m >= 1) when all that ever come share one alpha: 6 / (pi^2 m^2). */
double ot_paired_alpha(double alpha, uint64_t challenger);

/* ---- (d) Was traffic dealt by the shares? ----
 * Sequential multinomial test (arXiv 2011.03567): e-value against the stated shares; >= 1/alpha:
 * the comparison must not be read. 2..16 arms, shares > 0 that add to 1. */
ot_rc ot_shares_evidence(const uint64_t *counts, const double *shares, size_t arms, double *e_out,
                         ot_error *err) OT_CHECKED;

/* ---- (e) How many labels does a verdict take? ----
 * Labels of the new version until NOT_WORSE is reached in the median when both err alike, at error
 * rate p. Paired: the same rows are scored by both; the two disagree as independent errors would,
 * 2 p (1 - p) (a cautious figure). Unpaired: an arm of its own with `share` of the labels, the rest
 * in the other. Capped at 1e15. */
uint64_t ot_labels_needed_paired(double margin, double p, double alpha);
uint64_t ot_labels_needed_unpaired(double margin, double p, double alpha, double share);

#endif
