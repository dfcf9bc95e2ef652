/* Scores and the plan of series. */
#include "stats/score.h"

#include "base/mem.h"
#include "base/random.h"
#include "tap.h"

enum { N = 20000, F = 3 };
static float rows[N][F];

static void scores_are_standard(const ot_hist_schema *s, const ot_hist_table *t)
{
    double loc[OT_HIST_CELLS], scale[OT_HIST_CELLS];
    const uint32_t *c = ot_hist_table_cells(t, 0);
    ot_score_cells(c, ot_hist_schema_inner(s, 0), loc, scale);
    double n = 0, m1 = 0, m2 = 0, v1 = 0, v2 = 0, cross = 0;
    for (size_t k = 0; k < OT_HIST_MISSING; k++) {
        n += c[k];
        m1 += c[k] * loc[k];
        m2 += c[k] * scale[k];
        v1 += c[k] * loc[k] * loc[k];
        v2 += c[k] * scale[k] * scale[k];
        cross += c[k] * loc[k] * scale[k];
    }
    is_near(m1 / n, 0, 1e-12, "location has mean 0 under the reference");
    is_near(v1 / n, 1, 1e-12, "and variance 1");
    is_near(m2 / n, 0, 1e-12, "scale has mean 0");
    is_near(v2 / n, 1, 1e-12, "and variance 1");
    is_near(cross / n, 0, 1e-12, "scale is orthogonal to location");
    ok(loc[OT_HIST_BELOW] < loc[0] && loc[OT_HIST_ABOVE] > loc[0], "outer cells have outer scores");
    uint32_t none[OT_HIST_CELLS] = {0}, one[OT_HIST_CELLS] = {[0] = 5};
    ot_score_cells(none, 4, loc, scale);
    ok(loc[0] == 0 && scale[0] == 0, "no counts: no scores");
    ot_score_cells(one, 1, loc, scale);
    ok(loc[0] == 0 && loc[OT_HIST_ABOVE] == 0, "a constant has no scores");
}

static size_t find(const ot_score_plan *p, uint32_t feature, ot_score_kind kind)
{
    const ot_score_series *s = ot_score_plan_series(p);
    for (size_t i = 0; i < ot_score_plan_count(p); i++) {
        if (s[i].feature == feature && s[i].kind == kind) {
            return i;
        }
    }
    return SIZE_MAX;
}

static void blocks(const ot_hist_schema *s, const ot_score_plan *p)
{
    enum { B = 5000 };
    static float block[B][F];
    double value[64], n[64];
    ot_hist_table t;
    ot_rng rng;
    ot_rng_seed(&rng, 2);
    for (size_t i = 0; i < B; i++) {
        block[i][0] = i % 50 == 0 ? NAN : (float)(0.5 + ot_rng_normal(&rng));
        block[i][1] = (float)ot_rng_below(&rng, 3);
        block[i][2] = 1;
    }
    ok(ot_hist_table_init(&t, s, NULL) == OT_OK && ot_score_plan_count(p) <= 64, "block");
    ot_hist_add_rows(s, &t, &block[0][0], B, F);
    ok(ot_score_plan_eval(p, &t, value, n, NULL) == OT_OK, "evaluated");
    size_t loc = find(p, 0, OT_SCORE_LOCATION), miss = find(p, 0, OT_SCORE_MISSING);
    size_t cell = find(p, 1, OT_SCORE_CELL);
    is_near(value[loc], 0.5, 0.06, "half a sigma up is half a sigma up");
    is_near(n[loc], B * 0.98, 0.5, "missing rows don't count for the mean");
    is_near(ot_score_share_inverse(value[miss]), 0.02, 2e-4, "2%% missing");
    is_near(ot_score_share_inverse(value[cell]), 1.0 / 3, 0.03, "a third has the commonest class");
    ot_hist_table_clear(&t);
    ok(ot_score_plan_eval(p, &t, value, n, NULL) == OT_OK && n[loc] == 0 && isfinite(value[loc]),
       "an empty block has no rows");
    t.schema_id++;
    ot_error err;
    is_int(ot_score_plan_eval(p, &t, value, n, &err), OT_INVALID, "other schemas are refused");
    ot_hist_table_done(&t);
}

int main(void)
{
    ot_rng rng;
    ot_rng_seed(&rng, 1);
    for (size_t i = 0; i < N; i++) {
        rows[i][0] = (float)ot_rng_normal(&rng);
        rows[i][1] = (float)ot_rng_below(&rng, 3);
    }
    ot_hist_column col[F] = {{.kind = OT_HIST_NUMERIC}, {.kind = OT_HIST_CATEGORY}};
    ot_hist_schema *s = NULL;
    ot_hist_table t;
    ot_score_plan *p = NULL;
    ot_error err;
    ok(ot_hist_schema_build(col, F, &rows[0][0], N, F, &s, &err) == OT_OK &&
           ot_hist_table_init(&t, s, &err) == OT_OK,
       "reference");
    ot_hist_add_rows(s, &t, &rows[0][0], N, F);
    scores_are_standard(s, &t);
    ok(ot_score_plan_create(s, &t, NULL, &p, &err) == OT_OK, "plan");
    double sum = 0;
    for (size_t i = 0; i < ot_score_plan_count(p); i++) {
        sum += ot_score_plan_series(p)[i].weight;
        ok(ot_score_plan_series(p)[i].feature != 2, "what isn't counted isn't watched");
    }
    is_near(sum, 1, 1e-12, "weights add to 1");
    blocks(s, p);
    ot_score_plan_destroy(p);
    const double bad[F] = {1, -1, 0}, none[F] = {0}, first[F] = {1, 0, 0};
    is_int(ot_score_plan_create(s, &t, bad, &p, &err), OT_INVALID, "a negative importance");
    is_int(ot_score_plan_create(s, &t, none, &p, &err), OT_INVALID, "nothing to watch");
    ok(ot_score_plan_create(s, &t, first, &p, &err) == OT_OK && ot_score_plan_count(p) == 4,
       "importance 0 leaves a feature out");
    ot_score_plan_destroy(p);
    for (uint64_t nth = 1; nth < 5; nth++) {
        ot_mem_fail_nth(nth);
        ot_rc rc = ot_score_plan_create(s, &t, NULL, &p, NULL);
        ot_mem_fail_nth(0);
        if (rc == OT_OK) {
            ot_score_plan_destroy(p);
        } else {
            is_int(rc, OT_EXHAUSTED, "allocation %llu fails", (unsigned long long)nth);
        }
    }
    is_near(ot_score_share_inverse(ot_score_share(300, 1000)), 0.3, 1e-3, "share and back");
    is_str(ot_score_kind_name(OT_SCORE_SCALE), "scale", "names");
    ot_hist_table_done(&t);
    ot_hist_schema_destroy(s);
    return tap_done();
}
