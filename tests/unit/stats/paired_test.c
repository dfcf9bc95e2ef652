/* Comparing versions: error rates under peeking, delays against the arithmetic, shares of traffic.
 */
#include "stats/labeltest.h"

#include "base/random.h"
#include "tap.h"

#include <stdlib.h>

static ot_rng rng;

/* A pair: both err with probability `both`, the new version alone with a, the old alone with b. */
static void draw(ot_paired *p, double a, double b)
{
    double u = ot_rng_uniform(&rng);
    ot_paired_add(p, !(u < a), !(u >= a && u < a + b));
}

static ot_comparison compare(const ot_paired *p, double margin)
{
    ot_comparison c = {0};
    ot_error err;
    if (ot_paired_compare(p, margin, 0.05, &c, &err) != OT_OK) {
        ok(false, "%s", err.msg);
    }
    return c;
}

/* Looks every 10 pairs until a verdict or `most` pairs. */
static ot_verdict run(double a, double b, double margin, uint64_t most, uint64_t *n_out,
                      bool *covered_out)
{
    ot_paired p = {0};
    ot_comparison c = {0};
    *covered_out = true;
    while (p.n < most && c.verdict == OT_VERDICT_UNDECIDED) {
        for (int i = 0; i < 10; i++) {
            draw(&p, a, b);
        }
        c = compare(&p, margin);
        *covered_out &= a - b > c.d_lo && a - b < c.d_hi;
    }
    *n_out = p.n;
    return c.verdict;
}

typedef struct tally {
    int verdict[3], uncovered;
    uint64_t median;
} tally;

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static tally many(double a, double b, double margin, uint64_t most, int runs)
{
    tally t = {0};
    uint64_t n[400];
    for (int i = 0; i < runs; i++) {
        bool covered;
        t.verdict[run(a, b, margin, most, &n[i], &covered)]++;
        t.uncovered += !covered;
    }
    qsort(n, (size_t)runs, sizeof n[0], by_value);
    t.median = n[runs / 2];
    printf("# new alone wrong %g, old alone %g, margin %g: undecided %d, not worse %d, worse %d, "
           "interval missed %d of %d, median %llu pairs\n",
           a, b, margin, t.verdict[0], t.verdict[1], t.verdict[2], t.uncovered, runs,
           (unsigned long long)t.median);
    return t;
}

static void error_rates(void)
{
    /* 5% of 300 runs, with three standard errors of the simulation: 26. */
    tally t = many(0.05, 0.05, 0.05, 2000, 300);
    ok(t.verdict[OT_VERDICT_WORSE] <= 26, "equal versions are called worse in at most 5%%");
    ok(t.verdict[OT_VERDICT_NOT_WORSE] >= 280, "and not worse nearly always");
    ok(t.uncovered <= 40, "each end of the interval holds at every look");
    t = many(0.08, 0.03, 0.05, 1500, 300);
    ok(t.verdict[OT_VERDICT_NOT_WORSE] <= 26, "worse by the margin is passed in at most 5%%");
    t = many(0.10, 0.01, 0.05, 3000, 100);
    ok(t.verdict[OT_VERDICT_WORSE] >= 95, "clearly worse is called so (%llu pairs)",
       (unsigned long long)t.median);
    t = many(0.01, 0.08, 0.02, 3000, 100);
    ok(t.verdict[OT_VERDICT_NOT_WORSE] >= 99, "better is not worse");
}

/* labels_needed is a forecast: it should be of the size of what comes. */
static void forecast(void)
{
    static const double p[] = {0.02, 0.07, 0.2};
    for (size_t i = 0; i < 3; i++) {
        uint64_t need = ot_labels_needed_paired(0.03, p[i], 0.05);
        double each = p[i] * (1 - p[i]);
        tally t = many(each, each, 0.03, 20000, 60);
        ok(need > t.median / 2 && need < t.median * 2, "forecast %llu pairs, came %llu",
           (unsigned long long)need, (unsigned long long)t.median);
    }
    printf("# margin .01, error .05: %llu pairs, or %llu labels in an arm of 10%%\n",
           (unsigned long long)ot_labels_needed_paired(0.01, 0.05, 0.05),
           (unsigned long long)ot_labels_needed_unpaired(0.01, 0.05, 0.05, 0.1));
    ok(ot_labels_needed_paired(0.01, 0.05, 0.05) > ot_labels_needed_paired(0.02, 0.05, 0.05),
       "a wider margin needs fewer");
    ok(ot_labels_needed_unpaired(0.01, 0.05, 0.05, 0.5) >
           ot_labels_needed_unpaired(0.01, 0.05, 0.05, 0.1),
       "a label of a small arm has more of the other's beside it");
    is_int(ot_labels_needed_paired(0, 0.1, 0.05), 1000000000000000, "margin 0: never");
    is_int(ot_labels_needed_unpaired(0.1, 0.1, 0.05, 1), 1000000000000000, "share 1: never");
    ok(ot_labels_needed_paired(0.01, 0, 0.05) > 100, "no errors: still some");
}

static void by_hand(void)
{
    ot_paired p = {10, 1, 0};
    ot_comparison c = compare(&p, 0.05);
    /* 2^2 int_{1/2}^1 q dq = 3/2; the mirror: 4 int_0^{1/2} (1 - (1 - q))... = 1/2. */
    is_near(c.e_sign_worse, 1.5, 1e-12, "one discordant pair against");
    is_near(c.e_sign_better, 0.5, 1e-12, "and seen from the other side");
    is_near(c.d, 0.1, 1e-15, "d");
    p = (ot_paired){0, 0, 0};
    c = compare(&p, 0.05);
    ok(c.verdict == OT_VERDICT_UNDECIDED && isnan(c.d) && c.d_lo == -1 && c.d_hi == 1,
       "no pairs: nothing is known");
    is_near(c.e_not_worse, 1, 1e-9, "e-values start at 1");
    is_near(c.e_sign_worse, 1, 1e-9, "all of them");
    p = (ot_paired){1000000000, 400000000, 100000000};
    c = compare(&p, 0.05);
    ok(c.verdict == OT_VERDICT_WORSE && isfinite(c.e_worse) && c.d_lo > 0.29 && c.d_hi < 0.31,
       "a billion pairs stay finite");
    ot_error err;
    p = (ot_paired){5, 4, 2};
    is_int(ot_paired_compare(&p, 0.05, 0.05, &c, &err), OT_INVALID, "more discordant than pairs");
    p.n = 6;
    is_int(ot_paired_compare(&p, 0, 0.05, &c, &err), OT_INVALID, "margin 0");
    is_int(ot_paired_compare(&p, 0.05, 1, &c, &err), OT_INVALID, "alpha 1");
    is_near(ot_paired_alpha(0.05, 2), 0.05 * 6 / (M_PI * M_PI * 4), 1e-15, "second challenger");
    is_str(ot_verdict_name(OT_VERDICT_NOT_WORSE), "not_worse", "names");
}

static void shares(void)
{
    static const double split[] = {0.9, 0.1};
    int rang = 0, caught = 0;
    for (int r = 0; r < 400; r++) {
        uint64_t n[2] = {0}, bad[2] = {0};
        bool any = false;
        double e = 0;
        for (int i = 0; i < 2000; i++) {
            n[ot_rng_uniform(&rng) < 0.1]++;
            bad[ot_rng_uniform(&rng) < 0.14]++;
            any |= ot_shares_evidence(n, split, 2, &e, NULL) != OT_OK || e >= 20;
        }
        rang += any;
        caught += ot_shares_evidence(bad, split, 2, &e, NULL) == OT_OK && e >= 20;
    }
    printf("# right shares rang in %d of 400 over 2,000 looks, 14%% for 10%% was seen in %d\n",
           rang, caught);
    ok(rang <= 20 && caught >= 380, "sample-ratio test");
    double e;
    uint64_t n[2] = {1, 1};
    const double zero[] = {1, 0}, more[] = {0.9, 0.9};
    is_int(ot_shares_evidence(n, zero, 2, &e, NULL), OT_INVALID, "a share of 0");
    is_int(ot_shares_evidence(n, more, 2, &e, NULL), OT_INVALID, "shares above 1");
    is_int(ot_shares_evidence(n, split, 1, &e, NULL), OT_INVALID, "one arm");
}

int main(void)
{
    ot_rng_seed(&rng, 8);
    by_hand();
    error_rates();
    forecast();
    shares();
    return tap_done();
}
