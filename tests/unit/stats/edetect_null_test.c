/* Does the e-detector keep its promise when nothing moves? Simulated years of the traffic that
 * breaks simpler rules: dependent rows, bursts, cycles that vary, heavy tails, blocks of uneven
 * size.
 *
 * 100 features x 3 scores, one-hour blocks, one allowed false alarm a year. OT_SIM_YEARS sets the
 * years of each kind of traffic (2); counts stand beside exact Poisson limits, one JSON line each.
 * Detectors with protections taken out must break the promise: the test can see a broken one. The
 * simulations are dealt to as many processes as there are processors. */
#include "stats/special.h"

#include "tap.h"
#include "unit/stats/traffic.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FEATURES = 100, YEAR = 8760, JOBS_MAX = 64, PROCESSES_MAX = 16 };

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
    double years; /* of T blocks */
} pool;

typedef struct job {
    const char *config, *name;
    const traffic_law *law;
    ot_edetect_options o;
    double years;
    uint64_t seed;
    uint32_t references; /* of a short trial; 0: one long simulation */
    pool result;
} job;

typedef struct plan {
    job *job; /* (JOBS_MAX), shared between the processes */
    size_t n;
} plan;

static void add(plan *p, job j)
{
    if (p->n == JOBS_MAX) {
        fprintf(stderr, "more than %d simulations\n", JOBS_MAX);
        exit(1);
    }
    j.name = j.name != NULL ? j.name : j.law->name;
    p->job[p->n++] = j;
}

static pool simulate(const traffic_law *law, size_t features, const ot_edetect_options *o,
                     int64_t blocks, double blocks_a_year, uint64_t seed)
{
    traffic t;
    traffic_init(&t, law, features, seed);
    ot_edetect *d = traffic_detector(features, o);
    traffic_result r = traffic_run(&t, d, blocks, false);
    ot_edetect_destroy(d);
    traffic_done(&t);
    return (pool){r.alarms, (double)r.blocks / blocks_a_year};
}

/* Days of six blocks and a warm-up of six days: what a short trial uses. Estimates from so little
 * are rough, so many references are drawn. */
static pool short_trial(const job *j)
{
    enum { BLOCKS = 3000, FEW = 20 };
    pool sum = {0};
    for (uint64_t i = 0; i < j->references; i++) {
        pool p = simulate(j->law, FEW, &j->o, 36 + BLOCKS, j->o.blocks_per_alarm, j->seed + i);
        sum.alarms += p.alarms;
        sum.years += p.years;
    }
    return sum;
}

static void run(job *j)
{
    int64_t warmup = (int64_t)j->o.warmup_days * 24;
    j->result = j->references > 0 ? short_trial(j)
                                  : simulate(j->law, FEATURES, &j->o,
                                             warmup + (int64_t)(j->years * YEAR), YEAR, j->seed);
}

/* Process k of n takes each n-th job. */
static void run_all(plan *p)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    int n = processors < 1 ? 1 : processors > PROCESSES_MAX ? PROCESSES_MAX : (int)processors;
    pid_t child[PROCESSES_MAX];
    for (int k = 0; k < n; k++) {
        child[k] = fork();
        if (child[k] == 0) {
            for (size_t i = (size_t)k; i < p->n; i += (size_t)n) {
                run(&p->job[i]);
            }
            _exit(0);
        }
    }
    for (int k = 0; k < n; k++) {
        int status = -1;
        bool ended = child[k] > 0 && waitpid(child[k], &status, 0) == child[k];
        ok(ended && status == 0, "simulations of process %d of %d", k + 1, n);
    }
}

static void report(const char *config, const char *name, pool p)
{
    printf("# {\"bench\": \"edetect_null\", \"config\": \"%s\", \"null\": \"%s\", \"years\": %.2f, "
           "\"alarms\": %llu, \"a_year_low\": %.2f, \"a_year_high\": %.2f, \"promise\": 1}\n",
           config, name, p.years, (unsigned long long)p.alarms,
           poisson_limit(p.alarms, false) / p.years, poisson_limit(p.alarms, true) / p.years);
}

static bool keeps_promise(pool p)
{
    return p.years > 0 && poisson_limit(p.alarms, false) <= p.years;
}

enum { NULLS = sizeof nulls / sizeof nulls[0], SHORT_TRIALS = 4, MUTANTS = 2 };

static void add_nulls(plan *p, const char *config, ot_edetect_options o, double years,
                      uint64_t seed)
{
    for (size_t i = 0; i < NULLS; i++) {
        add(p, (job){.config = config, .law = &nulls[i], .o = o, .years = years, .seed = seed + i});
    }
}

static void add_mutants(plan *p, ot_edetect_options o)
{
    uint32_t most =
        OT_EDETECT_MUTANT_NO_LAG | OT_EDETECT_MUTANT_NO_LONGRUN | OT_EDETECT_MUTANT_NO_MOMENTS;
    o.mutant = most;
    add(p, (job){.config = "mutant",
                 .name = "no lag, no long-run variance, no moments",
                 .law = &nulls[6],
                 .o = o,
                 .years = 0.25,
                 .seed = 900});
    o.mutant = most | OT_EDETECT_MUTANT_NO_BETWEEN;
    add(p, (job){.config = "mutant",
                 .name = "no variance between blocks either",
                 .law = &nulls[9],
                 .o = o,
                 .years = 0.25,
                 .seed = 901});
}

static void add_short_trials(plan *p)
{
    static const size_t laws[SHORT_TRIALS] = {0, 3, 9, 11};
    ot_edetect_options o = {
        .struct_size = sizeof o, .blocks_per_alarm = 1e4, .blocks_per_day = 6, .warmup_days = 6};
    for (size_t k = 0; k < SHORT_TRIALS; k++) {
        add(p, (job){.config = "short trials",
                     .law = &nulls[laws[k]],
                     .o = o,
                     .seed = 5000 + 100 * k,
                     .references = 30});
    }
}

static void judge_nulls(const job *j)
{
    pool sum = {0};
    for (size_t i = 0; i < NULLS; i++) {
        report(j[i].config, j[i].name, j[i].result);
        ok(keeps_promise(j[i].result), "%s, %s: within one alarm a year", j[i].config, j[i].name);
        sum.alarms += j[i].result.alarms;
        sum.years += j[i].result.years;
    }
    report(j->config, "all of them", sum);
    ok(sum.years > 0 && poisson_limit(sum.alarms, true) <= sum.years,
       "%s: the pooled rate is surely within one a year", j->config);
}

static const job *judge(const job *j, bool keeps, const char *what)
{
    report(j->config, j->name, j->result);
    ok(j->result.years > 0 && keeps_promise(j->result) == keeps, "%s, %s: %s", j->config, j->name,
       what);
    return j + 1;
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
    void *shared = mmap(NULL, JOBS_MAX * sizeof(job), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        fprintf(stderr, "no memory\n");
        return 1;
    }
    plan p = {.job = shared};
    add_nulls(&p, "14 d, tol .1", tolerant, years, 100);
    add_nulls(&p, "28 d, no tol", strict, years, 200);
    add(&p,
        (job){
            .config = "14 d, tol .1", .law = &season, .o = tolerant, .years = years, .seed = 300});
    add(&p,
        (job){.config = "28 d, no tol", .law = &season, .o = strict, .years = 0.25, .seed = 301});
    add_mutants(&p, strict);
    add_short_trials(&p);
    run_all(&p);

    judge_nulls(p.job);
    judge_nulls(p.job + NULLS);
    const job *j = p.job + 2 * (size_t)NULLS;
    j = judge(j, true, "a season within tolerance does not alarm");
    j = judge(j, false, "without a tolerance a season is a change");
    for (int i = 0; i < MUTANTS; i++) {
        j = judge(j, false, "breaks the promise, and the test sees it");
    }
    for (int i = 0; i < SHORT_TRIALS; i++) {
        j = judge(j, true, "within T");
    }
    munmap(shared, JOBS_MAX * sizeof(job));
    return tap_done();
}
