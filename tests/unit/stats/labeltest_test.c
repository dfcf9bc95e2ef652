/* Degradation and intervals: false alarms, delays and coverage by simulation, state, bad input. */
#include "stats/labeltest.h"

#include "base/random.h"
#include "tap.h"

#include <stdlib.h>

static ot_rng rng;

/* One label under sampling: loss with probability p, asked for with probability pi, a proxy that
 * knows a little. */
static double draw_z(double p, double pi, bool proxy)
{
    double loss = ot_rng_uniform(&rng) < p;
    double f = proxy ? 0.7 * loss + 0.3 * p : 0;
    return ot_label_z(ot_rng_uniform(&rng) < pi, pi, f, loss);
}

static void z_is_unbiased(void)
{
    double sum = 0, with = 0;
    for (int i = 0; i < 400000; i++) {
        sum += draw_z(0.1, 0.2, false);
        with += draw_z(0.1, 0.2, true);
    }
    is_near(sum / 400000, 0.1, 0.005, "sampled losses are right in the mean");
    is_near(with / 400000, 0.1, 0.005, "with a proxy too");
}

/* T = labels of a year at 1,000 an hour. Null at theta0 exactly, the worst there is. */
static void no_false_alarms(void)
{
    static const struct {
        double pi;
        bool proxy;
    } how[] = {{1, false}, {0.2, false}, {0.2, true}};
    for (size_t k = 0; k < sizeof how / sizeof how[0]; k++) {
        ot_degrade d;
        ok(ot_degrade_init(&d, 0.1, how[k].pi, 20000, NULL) == OT_OK, "init");
        const uint64_t labels = 2000000; /* 100 alarms are allowed */
        for (uint64_t i = 0; i < labels; i++) {
            (void)ot_degrade_add(&d, draw_z(0.1, how[k].pi, how[k].proxy));
        }
        printf("# pi %g%s: %llu alarms, 100 are promised at most\n", how[k].pi,
               how[k].proxy ? ", proxy" : "", (unsigned long long)d.alarms);
        ok(d.alarms <= 130, "no more alarms than promised (and three standard deviations)");
    }
    ot_degrade d;
    ok(ot_degrade_init(&d, 0.1, 1, 20000, NULL) == OT_OK, "init");
    uint64_t correlated = 0;
    for (int day = 0; day < 10000; day++) { /* whole days that are good or bad, right in the mean */
        double p = day % 2 == 0 ? 0.02 : 0.10;
        for (int i = 0; i < 100; i++) {
            correlated += ot_degrade_add(&d, draw_z(p, 1, false));
        }
    }
    ok(correlated <= 50, "bursts below theta0 raise no more (%llu)",
       (unsigned long long)correlated);
}

/* T counts blocks of time. Mean alarms of simulated nulls at theta0 exactly, with as many labels a
 * block as come: `each` is the weight of a label, else the blocks that passed are shared fairly. */
static double alarms_in_time(int labels, double each, uint64_t blocks)
{
    enum { RUNS = 40 };
    double sum = 0;
    for (int run = 0; run < RUNS; run++) {
        ot_degrade d;
        if (ot_degrade_init(&d, 0.1, 1, 100, NULL) != OT_OK) {
            return -1;
        }
        for (uint64_t b = 0; b < blocks; b++) {
            for (int i = 0; i < labels; i++) {
                double w = each >= 0 ? each : 1.0 / labels;
                (void)ot_degrade_add_weighted(&d, draw_z(0.1, 1, false), w);
            }
        }
        sum += (double)d.alarms / RUNS;
    }
    return sum;
}

static void promise_in_time(void)
{
    static const int labels[] = {1, 10, 50};
    for (size_t k = 0; k < sizeof labels / sizeof labels[0]; k++) {
        double fair = alarms_in_time(labels[k], -1, 1000);
        printf("# %d labels a block: %.2f alarms in 1,000 blocks, 10 are promised at most\n",
               labels[k], fair);
        ok(fair <= 11.5, "the promise counts blocks, however many labels come");
        ok(fair > 2, "and is not slept through");
    }
    double whole = alarms_in_time(10, 1, 1000);
    printf("# 10 labels a block that weigh 1 each: %.1f alarms\n", whole);
    ok(whole > 30, "without weights it would be broken");

    ot_degrade a, b;
    ok(ot_degrade_init(&a, 0.1, 1, 1e9, NULL) == OT_OK, "init");
    b = a;
    for (int i = 0; i < 200; i++) {
        double z = draw_z(0.15, 1, false);
        (void)ot_degrade_add(&a, z);
        (void)ot_degrade_add_weighted(&b, z, 1);
    }
    ok(memcmp(&a, &b, sizeof a) == 0, "weight 1 is the unweighted test");
    (void)ot_degrade_add_weighted(&b, 1, -0.01);
    (void)ot_degrade_add_weighted(&b, 1, 1.01);
    (void)ot_degrade_add_weighted(&b, 1, NAN);
    ok(memcmp(&a, &b, sizeof a) == 0, "no weight, no label");
    b = (ot_degrade){.theta0 = 0.1, .pi_min = 1, .threshold = 1e9};
    (void)ot_degrade_add_weighted(&b, 1, 0);
    ok(b.n == 1 && ot_degrade_evidence(&b) == 0, "weight 0 bets what is there and adds nothing");
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* In windows of 1,000 labels, one false alarm in 8,760 of them; the figures beside are the
 * design's. */
static void delays(void)
{
    static const struct {
        double p, table;
    } to[] = {{0.12, 16}, {0.15, 2}, {0.20, 1}};
    for (size_t k = 0; k < 3; k++) {
        double w[31], mean = 0;
        for (size_t i = 0; i < 31; i++) {
            ot_degrade d;
            if (ot_degrade_init(&d, 0.1, 1, 8.76e6, NULL) != OT_OK) {
                ok(false, "init");
            }
            for (int j = 0; j < 3000; j++) {
                (void)ot_degrade_add(&d, draw_z(0.1, 1, false));
            }
            uint64_t n = 1;
            while (!ot_degrade_add(&d, draw_z(to[k].p, 1, false)) && n < 100000) {
                n++;
            }
            w[i] = ceil((double)n / 1000);
            mean += ot_degrade_mean_since(&d) / 31;
        }
        qsort(w, 31, sizeof w[0], by_value);
        printf("# error .10 to %.2f: median %g windows (table %g), mean since then %.3f\n", to[k].p,
               w[15], to[k].table, mean);
        ok(w[15] <= 1.2 * to[k].table, "seen within 1.2 of the table");
        is_near(mean, to[k].p, 0.03,
                "the mean loss since then is told, a little high by selection");
    }
}

/* The interval must hold at every look; also where the mean moves and rows are sampled. */
static void coverage(void)
{
    enum { RUNS = 400, LABELS = 1500 };
    static const double pis[] = {1, 0.25};
    for (size_t k = 0; k < 2; k++) {
        int missed = 0;
        double width = 0;
        for (int r = 0; r < RUNS; r++) {
            ot_meanseq m;
            double truth = 0;
            bool out = false;
            if (ot_meanseq_init(&m, pis[k], NULL) != OT_OK) {
                ok(false, "init");
            }
            for (int i = 1; i <= LABELS; i++) {
                double p = 0.05 + 0.1 * (i > LABELS / 2);
                truth += p;
                ot_meanseq_add(&m, draw_z(p, pis[k], false));
                if (i % 10 == 0 || i < 20) {
                    ot_interval c = ot_meanseq_interval(&m, 0.05);
                    out |= truth / i < c.lo || truth / i > c.hi;
                }
            }
            missed += out;
            ot_interval c = ot_meanseq_interval(&m, 0.05);
            width += (c.hi - c.lo) / RUNS;
        }
        printf("# pi %g: %d of %d sequences missed at any look (at most 5%%), width %.3f\n", pis[k],
               missed, RUNS, width);
        ok(missed <= RUNS * 5 / 100, "coverage at or above 95%%");
    }
    ot_meanseq m;
    ok(ot_meanseq_init(&m, 1, NULL) == OT_OK, "init");
    for (int i = 0; i < 1000; i++) {
        ot_meanseq_add(&m, i % 100 < 9);
    }
    ot_interval a = ot_meanseq_complement(&m, 0.05);
    printf("# accuracy %.3f [%.3f, %.3f] from 1,000 labels\n", a.estimate, a.lo, a.hi);
    ok(a.lo > 0.86 && a.hi < 0.95 && fabs(a.estimate - 0.91) < 1e-12, "useful at 1,000 labels");
}

static void states(void)
{
    ot_degrade d, e;
    ot_meanseq m, k;
    ot_str x = OT_STR_INIT, y = OT_STR_INIT;
    ok(ot_degrade_init(&d, 0.1, 0.5, 1e6, NULL) == OT_OK && ot_meanseq_init(&m, 0.5, NULL) == OT_OK,
       "init");
    for (int i = 0; i < 500; i++) {
        (void)ot_degrade_add(&d, draw_z(0.2, 0.5, false));
        ot_meanseq_add(&m, draw_z(0.2, 0.5, false));
    }
    ot_degrade_write(&d, &x);
    ot_meanseq_write(&m, &y);
    ok(ot_degrade_read(&e, x.data, x.len, NULL) == OT_OK && memcmp(&d, &e, sizeof d) == 0,
       "label test reads back");
    ok(ot_meanseq_read(&k, y.data, y.len, NULL) == OT_OK && memcmp(&m, &k, sizeof m) == 0,
       "mean reads back");
    size_t accepted = 0;
    for (size_t n = 0; n < x.len; n++) {
        accepted += ot_degrade_read(&e, x.data, n, NULL) == OT_OK;
        accepted += n < y.len && ot_meanseq_read(&k, y.data, n, NULL) == OT_OK;
    }
    is_int(accepted, 0, "no cut is accepted");
    is_int(ot_meanseq_read(&k, x.data, x.len, NULL), OT_INVALID, "nor one for the other");
    ot_str_done(&x);
    ot_str_done(&y);
}

static void bad_input(void)
{
    ot_degrade d;
    ot_meanseq m;
    is_int(ot_degrade_init(&d, 1, 1, 10, NULL), OT_INVALID, "theta0 1");
    is_int(ot_degrade_init(&d, NAN, 1, 10, NULL), OT_INVALID, "theta0 NaN");
    is_int(ot_degrade_init(&d, 0.1, 0, 10, NULL), OT_INVALID, "pi 0");
    is_int(ot_degrade_init(&d, 0.1, 1, 0, NULL), OT_INVALID, "threshold 0");
    is_int(ot_meanseq_init(&m, 1.5, NULL), OT_INVALID, "pi 1.5");
    ok(ot_degrade_init(&d, 0, 1, 1000, NULL) == OT_OK, "theta0 0 is allowed");
    ok(!ot_degrade_add(&d, NAN) && d.n == 0, "a label of NaN is ignored");
    ok(isnan(ot_degrade_mean_since(&d)), "no label, no mean");
    bool rang = ot_degrade_add(&d, 1e300);
    ok(rang && d.alarms == 1 && isfinite(ot_degrade_evidence(&d)),
       "an error where none is accepted alarms; z beyond the legal range is clamped");
    ok(ot_meanseq_init(&m, 1, NULL) == OT_OK, "init");
    ot_interval i = ot_meanseq_interval(&m, 0.05);
    ok(isnan(i.estimate) && i.lo == 0 && i.hi == 1, "no label: nothing is known");
    ot_meanseq_add(&m, NAN);
    is_int(m.n, 0, "NaN is ignored");
    ot_meanseq_add(&m, 1);
    i = ot_meanseq_interval(&m, 0);
    ok(i.lo == 0 && i.hi == 1, "alpha 0: nothing is excluded");
}

int main(void)
{
    ot_rng_seed(&rng, 12);
    z_is_unbiased();
    no_false_alarms();
    promise_in_time();
    delays();
    coverage();
    states();
    bad_input();
    return tap_done();
}
