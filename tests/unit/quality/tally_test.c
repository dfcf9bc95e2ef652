/* What quality's intake counts for the error budgets, each thing once. */
#include "unit/quality/sample_fixture.h"

#include "store/tally.h"

#define T0 (BEGIN + 100 * BLOCK)

typedef struct ask {
    const char *deployment, *name;
    ot_tally_counts c;
} ask;

static ot_rc sum_txn(ot_txn *txn, void *arg, ot_error *err)
{
    ask *a = arg;
    return ot_tally_sum(txn, a->deployment, a->name, 0, INT64_MAX, &a->c, err);
}

static void tally_is(const char *deployment, const char *name, double events, double bad,
                     int64_t seen, const char *what)
{
    ask a = {.deployment = deployment, .name = name};
    ot_error e = {0};
    ok(ot_store_read(store, sum_txn, &a, &e) == OT_OK && fabs(a.c.events - events) < 1e-6 &&
           fabs(a.c.bad - bad) < 1e-6 && a.c.seen == seen,
       "%s: %g events, %g bad, %d seen", what, a.c.events, a.c.bad, (int)a.c.seen);
}

static void test_windows(int64_t v)
{
    heard h;
    char fast[48], slow[48];
    ot_quality_config cfg = config_of("service", &h);
    ot_quality *q = open_quality(&cfg);
    window_of w = {.deployment = "service",
                   .role = "champion",
                   .version = v,
                   .start_us = T0,
                   .incarnation = 7,
                   .seq = 1,
                   .rows = 20,
                   .latency_ns = 4000000};
    is_int(push_window(q, &w), OT_OK, "a window without an objective");
    tally_is("service", OT_TALLY_AVAILABILITY, 20, 1, 20, "one of its requests failed");
    is_int(push_window(q, &w), OT_OK, "the same once more");
    tally_is("service", OT_TALLY_AVAILABILITY, 20, 1, 20, "counts nothing");
    ot_error e = {0};
    cfg.p99_at_most_us = 3000;
    ok(ot_quality_configure(q, &cfg, &e) == OT_OK, "an objective of 3 ms %s", e.msg);
    ot_tally_latency(3000, fast);
    ot_tally_latency(5000, slow);
    w.seq = 2;
    is_int(push_window(q, &w), OT_OK, "a window of 4 ms");
    tally_is("service", fast, 1, 1, 1, "is slow");
    w.role = "shadow";
    w.seq = 3;
    is_int(push_window(q, &w), OT_OK, "a fallback's answers");
    tally_is("service", fast, 1, 1, 1, "are nobody's latency");
    tally_is("service", OT_TALLY_AVAILABILITY, 60, 3, 60, "but requests that were made");
    cfg.p99_at_most_us = 5000;
    ok(ot_quality_configure(q, &cfg, &e) == OT_OK, "5 ms %s", e.msg);
    w.role = "canary";
    w.seq = 4;
    is_int(push_window(q, &w), OT_OK, "a window of 4 ms");
    tally_is("service", slow, 1, 0, 1, "is not, and counts for that limit");
    w.rows = 0;
    w.seq = 5;
    is_int(push_window(q, &w), OT_OK, "one without a request");
    tally_is("service", slow, 1, 0, 1, "says nothing");
    ot_quality_destroy(q);
}

static void test_labels(int64_t v, int64_t other)
{
    told t = {0};
    ot_quality_config cfg = labels_config("quality", &t);
    ot_quality *q = open_quality(&cfg);
    ot_label_report r;
    sample_of s = {.deployment = "quality",
                   .version = v,
                   .first = 1,
                   .rows = 4,
                   .time_us = T0,
                   .probability = 0.25f,
                   .answers = (int[]){0, 1, 1, 1}};
    is_int(push_sample(q, &s), OT_OK, "rows, one of four was sampled");
    label_run l = {.first = 1, .n = 4, .each = (double[]){1, 1, 1, 2}};
    is_int(label_rows(q, &l, &r), OT_OK, "labels: two are wrong");
    tally_is("quality", OT_TALLY_ACCURACY, 16, 8, 4, "each counts for four");
    is_int(label_rows(q, &l, &r), OT_OK, "again");
    tally_is("quality", OT_TALLY_ACCURACY, 16, 8, 4, "counts nothing");
    s.seq = s.seq + 1;
    s.version = other;
    s.shadow = true;
    is_int(push_sample(q, &s), OT_OK, "a shadow's answers");
    tally_is("quality", OT_TALLY_ACCURACY, 16, 8, 4, "are nobody's");
    is_int(label_rows(q, &(label_run){.first = 4, .n = 1, .value = 1}, &r), OT_OK, "a correction");
    tally_is("quality", OT_TALLY_ACCURACY, 16, 4, 4, "takes a wrong one back");
    is_int(label_rows(q, &(label_run){.first = 2, .n = 1, .value = 2}, &r), OT_OK, "another");
    tally_is("quality", OT_TALLY_ACCURACY, 16, 8, 4, "adds one");
    is_int(label_rows(q, &(label_run){.first = 2, .n = 1, .value = 0}, &r), OT_OK, "wrong again");
    tally_is("quality", OT_TALLY_ACCURACY, 16, 8, 4, "is as wrong as before");
    ot_quality_destroy(q);
}

int main(void)
{
    fixture_start();
    int64_t v = add_version("digits", false);
    test_windows(v);
    test_labels(v, add_version("digits", false));
    fixture_end();
    return tap_done();
}
