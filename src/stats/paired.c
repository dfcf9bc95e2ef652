/* Two versions on the same rows, shares of traffic, and how many labels a verdict takes. See
 * labeltest.h. */
#include "stats/labeltest.h"

#include "stats/special.h"

#include <math.h>

enum { GRID = 20 };

const char *ot_verdict_name(ot_verdict v)
{
    static const char *const names[] = {"undecided", "not_worse", "worse"};
    return (unsigned)v < sizeof names / sizeof *names ? names[v] : "?";
}

/* Bets: .98 and down by a fifth root of 10 each: 1e-4 at the end. */
static double grid_bet(size_t k)
{
    return 0.98 * pow(10, -(double)k / 5);
}

/* ln e-value against "d >= m" (sign +1) or "d <= m" (sign -1): the mean over bets l of
 * prod (1 + l sign (m - D_i)), a function of the counts alone. Fair bets need 1 + l (m - D) >= 0
 * for D = +-1: l is scaled by 1 / (1 - sign m). Rises with sign m. */
static double log_evidence(const ot_paired *p, double m, double sign)
{
    double against = sign > 0 ? (double)p->n10 : (double)p->n01;
    double towards = sign > 0 ? (double)p->n01 : (double)p->n10;
    double equal = (double)(p->n - p->n10 - p->n01), sum = -INFINITY;
    m *= sign;
    for (size_t k = 0; k < GRID; k++) {
        /* Below m = 0 the largest bets would be illegal. */
        double l = fmin(grid_bet(k), 0.98 / (1 - m));
        double x =
            against * log1p(l * (m - 1)) + towards * log1p(l * (m + 1)) + equal * log1p(l * m);
        sum = ot_special_log_add(sum, x - log(GRID));
    }
    return sum;
}

/* The end of d's interval on the side of `sign`: where the evidence reaches ln(1/alpha). */
static double interval_end(const ot_paired *p, double alpha, double sign)
{
    double need = log(1 / alpha), lo = -1, hi = 1; /* in units of sign m */
    if (log_evidence(p, sign * hi, sign) < need) {
        return sign;
    }
    for (int i = 0; i < 60; i++) {
        double mid = (lo + hi) / 2;
        if (log_evidence(p, sign * mid, sign) >= need) {
            hi = mid;
        } else {
            lo = mid;
        }
    }
    return sign * hi;
}

/* ln of the e-value of x successes in n fair tosses with the uniform prior on (1/2, 1]:
 * 2^(n+1) int_{1/2}^1 q^x (1-q)^(n-x) dq. */
static double log_sign_evidence(double x, double n)
{
    /* The upper half of Beta(x+1, n-x+1) is the lower half of its mirror. */
    return (n + 1) * log(2) + ot_special_log_beta(x + 1, n - x + 1) +
           ot_special_log_beta_inc(n - x + 1, x + 1, 0.5);
}

static double bounded_exp(double x)
{
    return exp(fmin(x, 690)); /* stays printable */
}

ot_rc ot_paired_compare(const ot_paired *p, double margin, double alpha, ot_comparison *out,
                        ot_error *err)
{
    if (p->n10 > p->n || p->n01 > p->n - p->n10) {
        return ot_fail(err, OT_INVALID, "comparison: %llu + %llu discordant pairs of %llu",
                       (unsigned long long)p->n10, (unsigned long long)p->n01,
                       (unsigned long long)p->n);
    }
    if (!(margin > 0 && margin < 1) || !(alpha > 0 && alpha < 1)) {
        return ot_fail(err, OT_INVALID, "comparison: margin %g, alpha %g; both lie between 0 and 1",
                       margin, alpha);
    }
    ot_comparison c = {.verdict = OT_VERDICT_UNDECIDED, .d_lo = -1, .d_hi = 1};
    double n = (double)p->n, discordant = (double)(p->n10 + p->n01);
    c.d = p->n > 0 ? ((double)p->n10 - (double)p->n01) / n : (double)NAN;
    c.d_hi = interval_end(p, alpha, 1);
    c.d_lo = interval_end(p, alpha, -1);
    c.e_not_worse = bounded_exp(log_evidence(p, margin, 1));
    c.e_worse = bounded_exp(log_evidence(p, 0, -1));
    c.e_sign_worse = bounded_exp(log_sign_evidence((double)p->n10, discordant));
    c.e_sign_better = bounded_exp(log_sign_evidence((double)p->n01, discordant));
    if (c.e_worse >= 1 / alpha) {
        c.verdict = OT_VERDICT_WORSE;
    } else if (c.e_not_worse >= 1 / alpha) {
        c.verdict = OT_VERDICT_NOT_WORSE;
    }
    *out = c;
    return OT_OK;
}

double ot_paired_alpha(double alpha, uint64_t challenger)
{
    double m = challenger > 0 ? (double)challenger : 1;
    return alpha * 6 / (M_PI * M_PI * m * m);
}

ot_rc ot_shares_evidence(const uint64_t *counts, const double *shares, size_t arms, double *e_out,
                         ot_error *err)
{
    enum { ARMS_MAX = 16 };
    const double PRIOR = 100; /* as if 100 rows had confirmed the shares: most power near them */
    double sum = 0, n = 0, log_e = 0;
    if (arms < 2 || arms > ARMS_MAX) {
        return ot_fail(err, OT_INVALID, "shares: %zu arms; 2 to %d are allowed", arms, ARMS_MAX);
    }
    for (size_t i = 0; i < arms; i++) {
        if (!(shares[i] > 0 && shares[i] <= 1)) {
            return ot_fail(err, OT_INVALID, "shares: arm %zu has share %g; it takes 0 to 1", i,
                           shares[i]);
        }
        sum += shares[i];
    }
    if (!(fabs(sum - 1) < 1e-6)) {
        return ot_fail(err, OT_INVALID, "shares: they add to %g, not 1", sum);
    }
    for (size_t i = 0; i < arms; i++) {
        double c = (double)counts[i], a = PRIOR * shares[i];
        log_e += lgamma(a + c) - lgamma(a) - c * log(shares[i]);
        n += c;
    }
    *e_out = bounded_exp(log_e + lgamma(PRIOR) - lgamma(PRIOR + n));
    return OT_OK;
}

/* ---- labels needed ---- */

/* Growth of the best constant bet a label when D has mean 0 and variance `var`: both signs alike.
 */
static double best_growth(double margin, double var)
{
    double best = 0, each = fmin(var / 2, 0.5);
    for (size_t k = 0; k < 200; k++) {
        double l = 0.98 * pow(10, -(double)k / 40);
        double g = each * log1p(l * (margin - 1)) + each * log1p(l * (margin + 1)) +
                   (1 - 2 * each) * log1p(l * margin);
        best = fmax(best, g);
    }
    return best;
}

static uint64_t labels_for(double margin, double var, double alpha)
{
    const double MOST = 1e15;
    if (!(margin > 0 && margin < 1) || !(alpha > 0 && alpha < 1) || !(var >= 0)) {
        return (uint64_t)MOST;
    }
    /* The mixture spreads its capital over the grid; about four bets near the best one share in the
     * growth. */
    double n = (log(1 / alpha) + log(GRID / 4.0)) / best_growth(margin, var);
    return n < MOST ? (uint64_t)ceil(n) : (uint64_t)MOST;
}

uint64_t ot_labels_needed_paired(double margin, double p, double alpha)
{
    return labels_for(margin, 2 * p * (1 - p), alpha);
}

uint64_t ot_labels_needed_unpaired(double margin, double p, double alpha, double share)
{
    if (!(share > 0 && share < 1)) {
        return labels_for(0, 1, alpha);
    }
    /* A label of this arm comes with (1 - share) / share of the other. */
    return labels_for(margin, p * (1 - p) * (1 + share / (1 - share)), alpha);
}
