/* Distances against SciPy (tests/golden/make_stats.py), and summaries of one histogram. */
#include "stats/compare.h"
#include "stats/special.h"

#include "base/random.h"
#include "tap.h"

#include <stdlib.h>

static bool near_rel(double got, double want)
{
    return fabs(got - want) <= 1e-10 * fmax(1, fabs(want));
}

typedef struct pair {
    uint32_t p[80], q[80];
    size_t k;
} pair;

static size_t read_counts(const char *s, uint32_t *out)
{
    size_t n = 0;
    char *end;
    for (unsigned long x = strtoul(s, &end, 10); end != s && n < 80; x = strtoul(s, &end, 10)) {
        out[n++] = (uint32_t)x;
        s = end;
    }
    return n;
}

static double value_of(const pair *v, const char *name)
{
    size_t df = 0;
    double chi2 = ot_compare_chi2(v->p, v->q, v->k, &df);
    return strcmp(name, "psi") == 0           ? ot_compare_psi(v->p, v->q, v->k, 1e-4)
           : strcmp(name, "ks") == 0          ? ot_compare_ks(v->p, v->q, v->k)
           : strcmp(name, "js") == 0          ? ot_compare_js(v->p, v->q, v->k)
           : strcmp(name, "chi2") == 0        ? chi2
           : strcmp(name, "df") == 0          ? (double)df
           : strcmp(name, "chi2_tail") == 0   ? ot_compare_chi2_tail(chi2, df)
           : strcmp(name, "g") == 0           ? ot_compare_g(v->p, v->q, v->k, &df)
           : strcmp(name, "overlap") == 0     ? ot_compare_overlap(v->p, v->q, v->k)
           : strcmp(name, "rmse") == 0        ? ot_compare_rmse(v->p, v->q, v->k)
           : strcmp(name, "wasserstein") == 0 ? ot_compare_wasserstein_rank(v->p, v->q, v->k)
                                              : (double)NAN;
}

static void golden_compare(void)
{
    FILE *f = fopen("tests/golden/stats/compare.txt", "r");
    static char line[4096], name[32];
    pair v = {0};
    int at, checks = 0;
    while (f != NULL && fgets(line, sizeof line, f) != NULL &&
           sscanf(line, "%31s%n", name, &at) == 1) {
        if (strcmp(name, "p") == 0) {
            v.k = read_counts(line + at, v.p);
        } else if (strcmp(name, "q") == 0) {
            read_counts(line + at, v.q);
        } else {
            double want = atof(line + at), got = value_of(&v, name);
            ok(near_rel(got, want), "%s of %zu cells: %.12g as SciPy", name, v.k, want);
            checks++;
        }
    }
    if (f != NULL) {
        fclose(f);
    }
    ok(checks >= 60, "%d golden distances (run from the repository's root)", checks);
}

static void golden_special(void)
{
    FILE *f = fopen("tests/golden/stats/special.txt", "r");
    char name[32], line[256];
    double x[4];
    int checks = 0;
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        int n = sscanf(line, "%31s %lf %lf %lf %lf", name, &x[0], &x[1], &x[2], &x[3]) - 1;
        double got = n == 2   ? ot_special_normal_quantile(x[0])
                     : n == 3 ? ot_special_gamma_q(x[0], x[1])
                              : ot_special_log_beta_inc(x[0], x[1], x[2]);
        ok(n >= 2 && near_rel(got, x[n - 1]), "%s(%g..): %.12g", name, x[0], x[n - 1]);
        checks++;
    }
    if (f != NULL) {
        fclose(f);
    }
    ok(checks >= 20, "%d golden special values", checks);
    is_near(ot_special_log_add(log(3), log(4)), log(7), 1e-14, "log_add");
    ok(isinf(ot_special_log_add(-INFINITY, -INFINITY)), "log_add of nothing");
}

static void empty_vectors(void)
{
    uint32_t zero[3] = {0}, some[3] = {1, 2, 3};
    size_t df = 9;
    ok(isnan(ot_compare_psi(zero, some, 3, 1e-4)) && isnan(ot_compare_ks(some, zero, 3)) &&
           isnan(ot_compare_js(zero, zero, 3)) && isnan(ot_compare_overlap(zero, some, 3)),
       "distances to no counts are NaN");
    ok(isnan(ot_compare_chi2(zero, some, 3, &df)) && df == 0, "chi2 of no counts");
    is_near(ot_compare_chi2_tail(0, 0), 1, 0, "no freedom, no evidence");
    is_near(ot_compare_overlap(some, some, 3), 1, 1e-15, "equal vectors overlap wholly");
}

/* Mean, quantiles and KS from cells against the rows themselves. */
static void summaries(void)
{
    enum { N = 20000 };
    static float x[N];
    ot_rng rng;
    ot_rng_seed(&rng, 5);
    double sum = 0;
    for (size_t i = 0; i < N; i++) {
        x[i] = (float)(3 + 2 * ot_rng_normal(&rng));
        sum += (double)x[i];
    }
    ot_hist_column col = {.kind = OT_HIST_NUMERIC};
    ot_hist_schema *s = NULL;
    ot_hist_table t;
    ok(ot_hist_schema_build(&col, 1, x, N, 1, &s, NULL) == OT_OK &&
           ot_hist_table_init(&t, s, NULL) == OT_OK,
       "schema");
    ok(isnan(ot_compare_mean(s, &t, 0)) && isnan(ot_compare_quantile(s, &t, 0, 0.5)) &&
           isnan(ot_compare_missing(&t, 0)),
       "nothing counted: NaN");
    ot_hist_add_rows(s, &t, x, N, 1);
    is_near(ot_compare_mean(s, &t, 0), sum / N, 0.02, "mean within 1%% of a sigma");
    is_near(ot_compare_quantile(s, &t, 0, 0.5), 3, 0.06, "median");
    is_near(ot_compare_quantile(s, &t, 0, 0.975), 3 + 2 * 1.96, 0.15, "97.5%% quantile");
    ok(ot_compare_quantile(s, &t, 0, 0) <= ot_compare_quantile(s, &t, 0, 1), "ends are ordered");
    float nan = NAN;
    ot_hist_add_rows(s, &t, &nan, 1, 1);
    is_near(ot_compare_missing(&t, 0), 1.0 / (N + 1), 1e-12, "share missing");
    uint32_t cells[OT_HIST_CELLS];
    is_int(ot_compare_ordered(s, &t, 0, cells), ot_hist_schema_inner(s, 0) + 2, "cells in order");
    ot_hist_table_done(&t);
    ot_hist_schema_destroy(s);
}

int main(void)
{
    golden_compare();
    golden_special();
    empty_vectors();
    summaries();
    return tap_done();
}
