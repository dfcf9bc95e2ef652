/* Does the e-detector keep its promise when nothing moves? Simulated years of the traffic that
 * breaks simpler rules: dependent rows, bursts, cycles that vary, heavy tails, blocks of uneven
 * size.
 *
 * 100 features x 3 scores, one-hour blocks, one allowed false alarm a year. OT_SIM_YEARS sets the
 * years of each kind of traffic (2; a quarter of it without tolerance); counts stand beside exact
 * Poisson limits. Detectors with protections taken out must break the promise: the test can see a
 * broken one. */
#include "stats/special.h"

#include "tap.h"
#include "unit/stats/traffic.h"

enum { FEATURES = 100, YEAR = 8760 };

static const traffic_law nulls[] = {
    {.name = "iid"},
    {.name = "AR(1) rows .9", .rows_ar = 0.9},
    {.name = "AR blocks .5, tau .02", .block_ar = 0.5, .tau = 0.02},
    {.name = "AR blocks .5, tau .05", .block_ar = 0.5, .tau = 0.05},
    {.name = "AR blocks .5, tau .1", .block_ar = 0.5, .tau = 0.1},
    {.name = "AR blocks .9, tau .02", .block_ar = 0.9, .tau = 0.02},
    {.name = "AR blocks .9, tau .05", .block_ar = 0.9, .tau = 0.05},
    {.name = "AR blocks .9, tau .1", .block_ar = 0.9, .tau = 0.1},
    {.name = "daily cycle", .daily = 0.3},
    {.name = "lognormal rows", .n_log_sd = 0.8, .tau = 0.05},
    {.name = "common factor", .block_ar = 0.5, .tau = 0.05, .common = 0.8},
    {.name = "t3", .tau = 0.05, .t3 = true},
    {.name = "t3, AR .5", .tau = 0.05, .t3 = true, .block_ar = 0.5},
    {.name = "daily varying 20%", .daily = 0.3, .vary = 0.2},
    {.name = "daily and weekly varying", .daily = 0.3, .weekly = 0.2, .vary = 0.2},
    {.name = "all combined",
     .daily = 0.3,
     .weekly = 0.2,
     .vary = 0.2,
     .t3 = true,
     .tau = 0.05,
     .block_ar = 0.5,
     .n_log_sd = 0.5,
     .common = 0.3},
};
static const traffic_law season = {.name = "season of .3 sigma", .season = 0.3};

/* Exact 95% limits of a Poisson mean given a count. */
static double poisson_limit(uint64_t count, bool upper)
{
    double lo = 0, hi = 10 + 4 * (double)count;
    if (!upper && count == 0) {
        return 0;
    }
    for (int i = 0; i < 80; i++) {
        double mid = (lo + hi) / 2, k = (double)count;
        bool low =
            upper ? ot_special_gamma_q(k + 1, mid) > 0.025 : 1 - ot_special_gamma_q(k, mid) < 0.025;
        *(low ? &lo : &hi) = mid;
    }
    return lo;
}

typedef struct pool {
    uint64_t alarms;
    double years;
} pool;

static pool run(const traffic_law *law, const ot_edetect_options *o, double years, uint64_t seed)
{
    traffic t;
    traffic_init(&t, law, FEATURES, seed);
    ot_edetect *d = traffic_detector(FEATURES, o);
    int64_t warmup = (int64_t)o->warmup_days * 24;
    traffic_result r = traffic_run(&t, d, warmup + (int64_t)(years * YEAR), false);
    ot_edetect_destroy(d);
    traffic_done(&t);
    return (pool){r.alarms, (double)r.blocks / YEAR};
}

static void report(const char *config, const char *name, pool p)
{
    printf("# %-14s %-26s %llu alarms in %.1f years, rate [%.2f, %.2f] a year\n", config, name,
           (unsigned long long)p.alarms, p.years, poisson_limit(p.alarms, false) / p.years,
           poisson_limit(p.alarms, true) / p.years);
}

static bool keeps_promise(pool p)
{
    return poisson_limit(p.alarms, false) <= p.years;
}

static void all_nulls(const char *config, const ot_edetect_options *o, double years, uint64_t seed)
{
    pool sum = {0};
    for (size_t i = 0; i < sizeof nulls / sizeof nulls[0]; i++) {
        pool p = run(&nulls[i], o, years, seed + i);
        report(config, nulls[i].name, p);
        ok(keeps_promise(p), "%s, %s: within one alarm a year", config, nulls[i].name);
        sum.alarms += p.alarms;
        sum.years += p.years;
    }
    report(config, "all of them", sum);
    ok(poisson_limit(sum.alarms, true) <= sum.years,
       "%s: the pooled rate is surely within one a year", config);
}

static void mutants(ot_edetect_options o)
{
    static const struct {
        const char *what;
        uint32_t mutant;
        size_t law;
    } m[] = {
        {"no lag, no long-run variance, no moments",
         OT_EDETECT_MUTANT_NO_LAG | OT_EDETECT_MUTANT_NO_LONGRUN | OT_EDETECT_MUTANT_NO_MOMENTS, 6},
        {"no variance between blocks either",
         OT_EDETECT_MUTANT_NO_LAG | OT_EDETECT_MUTANT_NO_LONGRUN | OT_EDETECT_MUTANT_NO_MOMENTS |
             OT_EDETECT_MUTANT_NO_BETWEEN,
         9},
    };
    for (size_t i = 0; i < sizeof m / sizeof m[0]; i++) {
        o.mutant = m[i].mutant;
        pool p = run(&nulls[m[i].law], &o, 0.25, 900 + i);
        report("mutant", m[i].what, p);
        ok(!keeps_promise(p), "%s: breaks the promise, and the test sees it", m[i].what);
    }
}

/* Days of six blocks and a warm-up of six days: what a short trial uses. Estimates from so little
 * are rough, so many references are drawn. */
static void short_trials(void)
{
    enum { REFERENCES = 30, BLOCKS = 3000, FEW = 20 };
    ot_edetect_options o = {
        .struct_size = sizeof o, .blocks_per_alarm = 1e4, .blocks_per_day = 6, .warmup_days = 6};
    static const size_t laws[] = {0, 3, 9, 11};
    for (size_t k = 0; k < sizeof laws / sizeof laws[0]; k++) {
        pool p = {0};
        for (uint64_t i = 0; i < REFERENCES; i++) {
            traffic t;
            traffic_init(&t, &nulls[laws[k]], FEW, 5000 + 100 * k + i);
            ot_edetect *d = traffic_detector(FEW, &o);
            traffic_result r = traffic_run(&t, d, 36 + BLOCKS, false);
            p.alarms += r.alarms;
            p.years += (double)r.blocks / o.blocks_per_alarm;
            ot_edetect_destroy(d);
            traffic_done(&t);
        }
        report("short trials", nulls[laws[k]].name, p);
        ok(keeps_promise(p), "short trials, %s: within T", nulls[laws[k]].name);
    }
}

int main(void)
{
    const char *env = getenv("OT_SIM_YEARS");
    double years = env != NULL && atof(env) > 0 ? atof(env) : 2;
    ot_edetect_options tolerant = {
        .struct_size = sizeof tolerant, .cycles = OT_EDETECT_WEEKLY, .warmup_days = 14};
    ot_edetect_options strict = {.struct_size = sizeof strict,
                                 .cycles = OT_EDETECT_WEEKLY,
                                 .warmup_days = 28,
                                 .tolerance = -1,
                                 .tolerance_share = -1};
    all_nulls("14 d, tol .1", &tolerant, years, 100);
    all_nulls("28 d, no tol", &strict, years / 4, 200);
    pool p = run(&season, &tolerant, years, 300);
    report("14 d, tol .1", season.name, p);
    ok(keeps_promise(p), "a season within tolerance does not alarm");
    p = run(&season, &strict, 0.25, 301);
    report("28 d, no tol", season.name, p);
    ok(!keeps_promise(p), "without a tolerance a season is a change");
    mutants(strict);
    short_trials();
    return tap_done();
}
