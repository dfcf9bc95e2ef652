/* The e-detector as its callers see it: from rows to a named feature, latches, state, bad input. */
#include "stats/edetect.h"

#include "tap.h"
#include "unit/stats/traffic.h"

static const ot_edetect_options short_days = {.struct_size = sizeof short_days,
                                              .blocks_per_alarm = 1e5,
                                              .blocks_per_day = 6,
                                              .warmup_days = 6};
static const traffic_law iid = {.name = "iid"};

/* From rows through histogram, scores and detector: the moved feature, its size and time are named.
 */
static void from_rows(void)
{
    enum { N = 4000, F = 5, BLOCK = 300, MOVED = 3, AT = 80 };
    static float rows[N][F];
    ot_hist_column col[F];
    ot_rng rng;
    ot_rng_seed(&rng, 11);
    for (size_t i = 0; i < N; i++) {
        for (size_t j = 0; j < F; j++) {
            rows[i][j] = (float)(10 * (double)j + 2 * ot_rng_normal(&rng));
            col[j] = (ot_hist_column){.kind = OT_HIST_NUMERIC};
        }
    }
    ot_hist_schema *s = NULL;
    ot_hist_table ref, block;
    ot_score_plan *p = NULL;
    ot_edetect *d = NULL;
    ot_error err;
    ok(ot_hist_schema_build(col, F, &rows[0][0], N, F, &s, &err) == OT_OK &&
           ot_hist_table_init(&ref, s, &err) == OT_OK &&
           ot_hist_table_init(&block, s, &err) == OT_OK,
       "reference");
    ot_hist_add_rows(s, &ref, &rows[0][0], N, F);
    ok(ot_score_plan_create(s, &ref, NULL, &p, &err) == OT_OK &&
           ot_edetect_create(&short_days, ot_score_plan_series(p), ot_score_plan_count(p), &d,
                             &err) == OT_OK,
       "plan and detector");
    ot_edetect_outcome out = {0};
    double value[32], n[32];
    int64_t t = 0;
    for (; t < AT + 60 && !out.alarm; t++) {
        ot_hist_table_clear(&block);
        for (size_t i = 0; i < BLOCK; i++) {
            float x[F];
            for (size_t j = 0; j < F; j++) {
                bool moved = j == MOVED && t >= AT;
                x[j] = (float)(10 * (double)j + 2 * (ot_rng_normal(&rng) + (moved ? 0.7 : 0)));
            }
            ot_hist_add_rows(s, &block, x, 1, F);
        }
        ok(ot_score_plan_eval(p, &block, value, n, &err) == OT_OK &&
               ot_edetect_add(d, t, value, n, &out, &err) == OT_OK && (t >= AT || !out.alarm),
           "block %lld: S = %g", (long long)t, out.evidence);
    }
    ok(out.alarm && t <= AT + 20, "alarm %lld blocks after the change", (long long)(t - AT));
    ok(out.n_moved > 0 && out.moved[0].feature == MOVED && out.moved[0].latched, "it is named");
    is_int(out.moved[0].kind, OT_SCORE_LOCATION, "its location moved");
    is_near(out.moved[0].effect, 0.7, 0.15, "by 0.7 sigma");
    ok(llabs(out.moved[0].since_block - AT) <= 3, "since block %lld",
       (long long)out.moved[0].since_block);
    ot_edetect_destroy(d);
    ot_score_plan_destroy(p);
    ot_hist_table_done(&ref);
    ot_hist_table_done(&block);
    ot_hist_schema_destroy(s);
}

static ot_edetect_outcome step(traffic *t, ot_edetect *d)
{
    ot_edetect_outcome out = {0};
    int64_t index = t->t;
    traffic_next(t);
    if (ot_edetect_add(d, index, t->value, t->n, &out, NULL) != OT_OK) {
        ok(false, "block %lld refused", (long long)index);
    }
    return out;
}

static void latches(void)
{
    traffic t;
    traffic_init(&t, &iid, 4, 21);
    ot_edetect *d = traffic_detector(4, &short_days);
    t.shift = (traffic_shift){.from = 60, .location = 0.6};
    ot_edetect_status st;
    ot_edetect_get_status(d, &st);
    ok(st.warming_up && st.last_block == -1 && st.warmup_blocks == 36, "fresh");
    is_int(traffic_run(&t, d, 200, true).alarms, 1, "alarm");
    ot_edetect_get_status(d, &st);
    ok(st.latched == 1 && st.alarms == 1 && !st.warming_up, "one feature is latched");
    uint64_t more = 0;
    for (int i = 0; i < 100; i++) {
        more += step(&t, d).alarm;
    }
    is_int(more, 0, "a latched feature alarms no more");
    is_int(ot_edetect_unlatch(d, 3, true, NULL), OT_NOT_FOUND, "feature 3 has no alarm");
    ok(ot_edetect_unlatch(d, 0, false, NULL) == OT_OK, "resolved as it was");
    is_int(traffic_run(&t, d, 200, true).alarms, 1, "still moved: alarms again");
    for (int i = 0; i < 12; i++) {
        step(&t, d);
    }
    ok(ot_edetect_unlatch(d, 0, true, NULL) == OT_OK, "accepted");
    ot_edetect_series_info info;
    ot_edetect_get_series(d, 0, &info);
    is_near(info.level, 0.6, 0.05, "the new level is the baseline");
    is_int(traffic_run(&t, d, 1000, true).alarms, 0, "and alarms no more");
    t.shift.location = 0;
    is_int(traffic_run(&t, d, 200, true).alarms, 1, "going back is a change then");
    ot_edetect_destroy(d);
    traffic_done(&t);
}

/* Everything goes to the bytes and back: both copies go on alike, through alarms and days. */
static void state(void)
{
    static const int64_t at[] = {0, 5, 35, 36, 40, 41, 90, 130};
    for (size_t k = 0; k < sizeof at / sizeof at[0]; k++) {
        traffic t;
        traffic_law law = {.block_ar = 0.5, .tau = 0.05, .n_log_sd = 0.3};
        traffic_init(&t, &law, 3, 31);
        t.shift = (traffic_shift){.from = 80, .location = 0.6};
        ot_edetect *a = traffic_detector(3, &short_days), *b = NULL;
        traffic_run(&t, a, at[k], false);
        ot_str x = OT_STR_INIT, y = OT_STR_INIT;
        ot_error err = {0};
        ot_edetect_write(a, &x);
        ok(ot_edetect_read(x.data, x.len, &b, &err) == OT_OK, "state at block %lld reads %s",
           (long long)at[k], err.msg);
        uint64_t differ = 0;
        for (int i = 0; b != NULL && i < 150; i++) {
            ot_edetect_outcome oa, ob;
            int64_t index = t.t;
            traffic_next(&t);
            ot_rc ra = ot_edetect_add(a, index, t.value, t.n, &oa, NULL);
            ot_rc rb = ot_edetect_add(b, index, t.value, t.n, &ob, NULL);
            differ += ra != rb || oa.alarm != ob.alarm ||
                      fabs(oa.evidence - ob.evidence) > 1e-9 * (1 + fabs(oa.evidence));
        }
        is_int(differ, 0, "both go on alike (%zu bytes)", x.len);
        ot_str_clear(&x);
        ot_edetect_write(a, &x);
        if (b != NULL) {
            ot_edetect_write(b, &y);
        }
        ok(x.len == y.len && memcmp(x.data, y.data, x.len) == 0, "and end in the same bytes");
        size_t accepted = 0;
        ot_edetect *c = NULL;
        for (size_t n = 0; n < x.len; n += 1 + x.len / 200) {
            accepted += ot_edetect_read(x.data, n, &c, NULL) == OT_OK;
        }
        is_int(accepted, 0, "no cut is accepted");
        ot_str_done(&x);
        ot_str_done(&y);
        ot_edetect_destroy(a);
        ot_edetect_destroy(b);
        traffic_done(&t);
    }
}

static void gaps_and_empty_blocks(void)
{
    traffic t;
    traffic_init(&t, &iid, 3, 41);
    ot_edetect_options o = short_days;
    o.phase_blocks = -4;
    ot_edetect *d = traffic_detector(3, &o);
    ot_edetect_outcome out;
    ot_error err;
    double nothing[9] = {0}, nan[9] = {NAN};
    uint64_t alarms = 0, evidence_blocks = 0;
    int64_t index = 3;
    for (int i = 0; i < 600; i++) {
        traffic_next(&t);
        if (i % 5 == 4) { /* a whole feature absent in this block */
            t.n[0] = t.n[1] = t.n[2] = 0;
        }
        ok(ot_edetect_add(d, index, t.value, t.n, &out, &err) == OT_OK, "block %lld",
           (long long)index);
        alarms += out.alarm;
        evidence_blocks += !out.warming_up;
        index += 1 + (i % 7 == 0) * 3 + (i % 100 == 99) * 500;
        if (i % 3 == 0) {
            double before = out.evidence;
            ok(ot_edetect_add(d, index++, nan, nothing, &out, &err) == OT_OK &&
                   out.evidence == before && !out.alarm,
               "an empty block adds no evidence");
        }
    }
    is_int(alarms, 0, "gaps and absent features are no change");
    ot_edetect_status st;
    ot_edetect_get_status(d, &st);
    is_int(st.blocks, evidence_blocks, "only blocks with rows are counted");
    ok(st.days_learnt > 20, "days were learnt (%u)", st.days_learnt);
    traffic_next(&t);
    is_int(ot_edetect_add(d, index - 5000, t.value, t.n, &out, &err), OT_INVALID, "going back");
    t.value[1] = NAN;
    is_int(ot_edetect_add(d, index + 1, t.value, t.n, &out, &err), OT_INVALID, "a value of NaN");
    t.value[1] = 0;
    t.n[1] = -1;
    is_int(ot_edetect_add(d, index + 1, t.value, t.n, &out, &err), OT_INVALID, "rows below 0");
    ot_edetect_destroy(d);
    traffic_done(&t);
}

/* With a million rows a block, tolerance / sd is far beyond the clip: the change must still show.
 */
static void many_rows(void)
{
    traffic t;
    traffic_init(&t, &iid, 2, 51);
    ot_edetect *d = traffic_detector(2, &short_days);
    ot_edetect_outcome out = {0};
    int64_t alarm = -1;
    for (int64_t i = 0; i < 120 && alarm < 0; i++) {
        for (size_t k = 0; k < 6; k++) {
            bool share = k % 3 == 2;
            t.n[k] = 1e6;
            t.value[k] = (share ? 0.2 : 0) + 1e-3 * ot_rng_normal(&t.rng) +
                         (k == 0 && i >= 60   ? 0.3
                          : k == 3 && i >= 60 ? 0.05
                                              : 0);
        }
        ok(ot_edetect_add(d, i, t.value, t.n, &out, NULL) == OT_OK, "block");
        alarm = out.alarm ? i : -1;
    }
    ok(alarm >= 60 && alarm < 72, "0.3 sigma in a million rows: alarm at block %lld",
       (long long)alarm);
    ok(out.n_moved == 1 && out.moved[0].feature == 0, "0.05 sigma is within tolerance");
    ot_edetect_destroy(d);
    traffic_done(&t);
}

/* Variances that grow after the warm-up void the conditions of the promise: that is said. */
static void audit(void)
{
    traffic t;
    traffic_law law = {.block_ar = 0, .tau = 0.03};
    ot_edetect_options o = short_days;
    o.tolerance = 3;
    o.tolerance_share = 0.3;
    traffic_init(&t, &law, 3, 61);
    ot_edetect *d = traffic_detector(3, &o);
    ok(!traffic_run(&t, d, 400, false).suspended, "as learnt: the promise stands");
    t.law.tau = 0.3;
    ok(traffic_run(&t, d, 200, false).suspended, "ten times the spread: it is suspended");
    ot_edetect_status st;
    ot_edetect_get_status(d, &st);
    ok(st.suspended_since_block >= 400 || !st.promise_suspended, "since when is known (%lld)",
       (long long)st.suspended_since_block);
    ot_edetect_destroy(d);
    traffic_done(&t);
}

static ot_rc try_options(ot_edetect_options o, const char **why)
{
    static ot_error err;
    ot_score_series s = {0, OT_SCORE_LOCATION, 0, 1};
    ot_edetect *d = NULL;
    err.msg[0] = 0;
    ot_rc rc = ot_edetect_create(&o, &s, 1, &d, &err);
    *why = err.msg;
    ot_edetect_destroy(d);
    return rc;
}

static void options(void)
{
    const ot_edetect_options good = {.struct_size = sizeof good};
    ot_edetect_options bad[8];
    for (size_t i = 0; i < 8; i++) {
        bad[i] = good;
    }
    bad[0].struct_size = 0;
    bad[1].blocks_per_alarm = 2;
    bad[2].blocks_per_day = 1;
    bad[3].warmup_days = 3;
    bad[4].cycles = OT_EDETECT_WEEKLY;
    bad[4].warmup_days = 13;
    bad[5].hold_days = 61;
    bad[6].tolerance = NAN;
    bad[7].warmup_days = UINT32_MAX;
    const char *why;
    is_int(try_options(good, &why), OT_OK, "defaults");
    for (size_t i = 0; i < 8; i++) {
        is_int(try_options(bad[i], &why), OT_INVALID, "refused: %s", why);
    }
    ot_edetect_options half = good;
    half.struct_size = offsetof(ot_edetect_options, cycles);
    is_int(try_options(half, &why), OT_OK, "an older caller's shorter options");
    ot_score_series s[2] = {{0, 0, 0, 0.7}, {1, 0, 0, 0.7}};
    ot_edetect *d = NULL;
    is_int(ot_edetect_create(&good, s, 2, &d, NULL), OT_INVALID, "weights above 1");
    is_int(ot_edetect_create(&good, s, 0, &d, NULL), OT_INVALID, "no series");
}

static void memory_short(void)
{
    traffic t;
    traffic_init(&t, &iid, 2, 71);
    int failed = 0;
    for (uint64_t nth = 1; nth < 200; nth++) {
        ot_edetect *d = NULL;
        ot_score_series s[2] = {{0, 0, 0, 0.5}, {1, 0, 0, 0.5}};
        ot_mem_fail_nth(nth);
        ot_rc rc = ot_edetect_create(&short_days, s, 2, &d, NULL);
        ot_mem_fail_nth(0);
        ot_edetect_destroy(d);
        if (rc == OT_OK) {
            break;
        }
        failed += rc == OT_EXHAUSTED;
    }
    ok(failed >= 12, "%d failed allocations at creation", failed);
    /* The warm-up's end allocates: it is tried again with the next block. */
    ot_edetect *d = traffic_detector(2, &short_days);
    traffic_run(&t, d, 35, false);
    ot_edetect_outcome out;
    traffic_next(&t);
    ot_mem_fail_nth(1);
    is_int(ot_edetect_add(d, 35, t.value, t.n, &out, NULL), OT_EXHAUSTED, "no memory for the fit");
    ot_mem_fail_nth(0);
    traffic_run(&t, d, 12, false);
    ot_edetect_status st;
    ot_edetect_get_status(d, &st);
    ok(!st.warming_up, "the fit came later");
    ot_edetect_destroy(d);
    traffic_done(&t);
}

int main(void)
{
    from_rows();
    latches();
    state();
    gaps_and_empty_blocks();
    many_rows();
    audit();
    options();
    memory_short();
    return tap_done();
}
