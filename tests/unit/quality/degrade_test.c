/* The label test: an alarm when the objective is missed, none beyond the promise when it is met,
 * and what has no part in it. */
#include "unit/quality/sample_fixture.h"

#define T0 (BEGIN + 100 * BLOCK)
#define AT_LEAST 0.9

static double evidence_of(ot_quality *q)
{
    return part_number(q, "labels", "evidence");
}

/* A stream of rows, all answered with class 1, that are labelled as they come. */
typedef struct stream {
    ot_quality *q;
    sample_of s;
    uint64_t next;
    int bad;
} stream;

static stream stream_of(ot_quality *q, const char *deployment, int64_t version)
{
    stream f = {.q = q,
                .s = {.deployment = deployment,
                      .version = version,
                      .time_us = now_us,
                      .first = 1u << 30,
                      .rows = 1},
                .next = 1};
    f.bad = push_sample(q, &f.s) != OT_OK; /* from here on the process is known */
    return f;
}

/* `n` rows, of which `wrong` are labelled with another class, the wrong ones spread evenly. */
static void serve(stream *f, size_t n, size_t wrong, const char *source, bool labels_first)
{
    ot_label_report r;
    double *each = ot_calloc(n, sizeof *each);
    for (size_t i = 0; i < n; i++) {
        each[i] = (i + 1) * wrong / n > i * wrong / n ? 0 : 1;
    }
    f->s.first = f->next;
    f->s.rows = n;
    f->s.time_us = now_us;
    label_run l = {.first = f->next, .n = n, .each = each, .source = source};
    f->next += n;
    f->bad += labels_first && label_rows(f->q, &l, &r) != OT_OK;
    f->bad += push_sample(f->q, &f->s) != OT_OK;
    f->bad += !labels_first && label_rows(f->q, &l, &r) != OT_OK;
    ot_free(each);
}

/* A block of time with one intake of labels. */
static void block(stream *f, size_t n, size_t wrong)
{
    now_us += BLOCK;
    serve(f, n, wrong, NULL, false);
}

static void test_alarm(int64_t v)
{
    told t = {0};
    ot_quality_config cfg = labels_config("alarm", &t);
    cfg.accuracy_at_least = AT_LEAST;
    ot_quality *q = open_quality(&cfg);
    OT_AUTO(ot_str_done) ot_str event = OT_STR_INIT;
    now_us = T0;
    promote(q, v);
    stream f = stream_of(q, "alarm", v);
    for (int k = 0; k < 20; k++) {
        block(&f, 20, 1);
    }
    is_int(t.degraded, 0, "19 of 20 are right: the objective is met");
    int blocks = 0;
    while (t.degraded == 0 && blocks < 60) {
        block(&f, 20, 8);
        blocks++;
    }
    printf("# found after %d blocks: %s\n", blocks, t.text);
    ok(t.degraded == 1 && blocks < 20, "12 of 20 are right: proven");
    double accuracy = 0, objective = 0;
    int labels = 0, at = 0;
    char since[32] = "";
    ok(sscanf(t.text, "accuracy %lf on %d labels since %31[^;]; the objective is %lf%n", &accuracy,
              &labels, since, &objective, &at) == 4 &&
           t.text[at] == 0,
       "told in a line: %s", t.text);
    is_near(accuracy, 0.6, 0.06, "with the accuracy since then");
    char when[32];
    q_time_text(now_us - (labels - 1) / 20 * BLOCK, now_us, when);
    is_str(since, when, "and when that was");
    ok(labels > 10 && labels <= 20 * blocks + 20, "over as many labels (%d)", labels);
    is_near(objective, AT_LEAST, 1e-9, "beside the objective");
    is_int(events_of("alarm", "quality.degraded", &event), 1, "one event");
    json_t *j = json_loads(event.data, 0, NULL);
    is_str(json_string_value(json_object_get(j, "text")), t.text, "that says the same");
    int64_t since_us = json_integer_value(json_object_get(j, "since_us"));
    ot_accuracy a = {0};
    ok(ot_quality_accuracy(q, v, since_us, INT64_MAX, &a, NULL) == OT_OK && a.labelled >= labels &&
           a.labelled < labels + 20,
       "since when, in so many words: %d labels and the rest of its call", (int)a.labelled);
    double evidence = json_number_value(json_object_get(j, "evidence"));
    double threshold = json_number_value(json_object_get(j, "threshold"));
    ok(evidence > threshold && evidence < 100 * threshold,
       "with the evidence, %g, and what it had to reach, %g", evidence, threshold);
    is_int(json_integer_value(json_object_get(j, "version")), v, "about the champion");
    json_decref(j);
    ok(t.seq > 0, "the finding names the event");
    is_near(part_number(q, "labels", "degraded"), 1, 0, "people see it");

    for (int k = 0; k < 10; k++) {
        block(&f, 20, 8);
    }
    is_int(t.degraded, 1, "what is proven is not proven again");
    ot_quality_destroy(q);
    q = open_quality(&cfg);
    f.q = q;
    is_near(part_number(q, "labels", "degraded"), 1, 0, "nor forgotten");
    for (blocks = 0; t.recovered == 0 && blocks < 200; blocks++) {
        block(&f, 20, 0);
    }
    printf("# over after %d blocks: %s\n", blocks, t.text);
    ok(t.recovered == 1 && strstr(t.text, "is met again") != NULL, "until it is over");
    is_int(events_of("alarm", "quality.recovered", NULL), 1, "with its event");
    is_near(part_number(q, "labels", "degraded"), 0, 0, "people see that too");
    is_int(f.bad, 0, "all was taken");
    ot_quality_destroy(q);
}

/* However many labels come: the promise counts blocks of time. Labels as wrong as is allowed, the
 * worst null there is, at the least threshold there is: 10 blocks an alarm. */
static void test_null(int64_t v)
{
    enum { BLOCKS = 120, CALLS = 2, LABELS = 20 };
    told t = {0};
    ot_quality_config cfg = labels_config("null", &t);
    cfg.accuracy_at_least = AT_LEAST;
    cfg.false_alarms_per_year = 1e9;
    ot_quality *q = open_quality(&cfg);
    is_near(q_blocks_per_alarm(&cfg, 0.25), 10, 0, "10 blocks a false alarm");
    now_us = T0;
    promote(q, v);
    stream f = stream_of(q, "null", v);
    f.s.first = 0;
    f.s.rows = BLOCKS * CALLS * LABELS;
    f.bad += push_sample(q, &f.s) != OT_OK;
    ot_rng r;
    ot_rng_seed(&r, 5);
    for (int k = 0, alarms = 0; k < BLOCKS * CALLS; k++) {
        ot_label_report report;
        double each[LABELS];
        now_us += BLOCK / CALLS;
        for (size_t i = 0; i < LABELS; i++) {
            each[i] = ot_rng_uniform(&r) < AT_LEAST;
        }
        label_run l = {.first = (uint64_t)k * LABELS, .n = LABELS, .each = each};
        f.bad += label_rows(q, &l, &report) != OT_OK;
        if (t.degraded > alarms) {
            promote(q, v); /* begins anew at once, as an alarm does in the promise */
            alarms = t.degraded;
        }
    }
    printf("# %d alarms in %d blocks and %d labels; %d are promised at most\n", t.degraded, BLOCKS,
           BLOCKS * CALLS * LABELS, BLOCKS / 10);
    ok(t.degraded <= BLOCKS / 10, "no more alarms than promised");
    ok(t.degraded > 0, "but some: the test is not asleep");
    is_int(f.bad, 0, "all was taken");
    ot_quality_destroy(q);
}

/* Labels that come before their rows have the same weight: a large segment with few labels is no
 * reason to listen less. */
static void test_labels_first(int64_t v)
{
    double few_wrong[20];
    int blocks[2] = {0, 0};
    for (int i = 0; i < 20; i++) {
        few_wrong[i] = i % 4 != 0;
    }
    for (int first = 0; first < 2; first++) {
        told t = {0};
        ot_quality_config cfg = labels_config(first ? "first" : "second", &t);
        cfg.accuracy_at_least = AT_LEAST;
        ot_quality *q = open_quality(&cfg);
        now_us = T0;
        promote(q, v);
        stream f = stream_of(q, cfg.deployment, v);
        while (t.degraded == 0 && blocks[first] < 100) {
            ot_label_report r;
            now_us += BLOCK;
            label_run l = {.first = f.next, .n = 20, .each = few_wrong};
            f.s.first = f.next;
            f.s.rows = 1000;
            f.s.time_us = now_us;
            f.next += 1000;
            f.bad += first == 1 && label_rows(q, &l, &r) != OT_OK;
            f.bad += push_sample(q, &f.s) != OT_OK;
            f.bad += first == 0 && label_rows(q, &l, &r) != OT_OK;
            blocks[first]++;
        }
        is_int(f.bad, 0, "all was taken");
        ot_quality_destroy(q);
    }
    ok(blocks[0] < 50, "found after %d blocks", blocks[0]);
    is_int(blocks[1], blocks[0], "as soon when the labels came first");
}

/* Labels of chance rows prove nothing, nor do those of other versions or of shadows. */
static void test_no_part(int64_t v, int64_t w)
{
    told t = {0};
    ot_quality_config cfg = labels_config("part", &t);
    cfg.accuracy_at_least = AT_LEAST;
    ot_quality *q = open_quality(&cfg);
    now_us = T0;
    promote(q, v);
    stream f = stream_of(q, "part", v);
    for (int k = 0; k < 6; k++) {
        now_us += BLOCK;
        serve(&f, 100, 100, k % 2 == 0 ? "convenience" : "convenience: support tickets",
              k % 3 == 0);
    }
    is_near(evidence_of(q), 0, 0, "convenience labels are no evidence, before or after the row");
    ot_accuracy a = {0};
    ok(ot_quality_accuracy(q, v, 0, INT64_MAX, &a, NULL) == OT_OK && a.labelled == 600 &&
           a.right == 0,
       "they are judged");
    OT_AUTO(ot_table_done) ot_table rows = {0};
    ok(ot_quality_labelled(q, 0, 1000, "y", &rows, NULL) == OT_OK && rows.rows == 600,
       "and can be learnt from");
    f.s.version = w;
    for (int k = 0; k < 3; k++) {
        block(&f, 20, 20);
    }
    is_near(evidence_of(q), 0, 0, "a canary's failures say nothing about the champion");
    f.s.version = v;
    f.s.shadow = true;
    for (int k = 0; k < 3; k++) {
        block(&f, 20, 20);
    }
    is_near(evidence_of(q), 0, 0, "nor do answers that nobody got");
    f.s.shadow = false;
    block(&f, 20, 3);
    ok(evidence_of(q) > 0, "its own do");
    double before = evidence_of(q);
    ot_label_report r;
    f.bad += label_rows(q, &(label_run){.first = f.next - 20, .n = 20, .value = 1}, &r) != OT_OK;
    is_int(r.corrected, 3, "corrected");
    is_near(evidence_of(q), before, 0, "what has been bet is not taken back");
    is_int(t.degraded, 0, "no alarm");
    is_int(f.bad, 0, "all was taken");
    ot_quality_destroy(q);
}

static void test_begins_anew(int64_t v, int64_t w)
{
    told t = {0};
    ot_error e = {0};
    ot_quality_config cfg = labels_config("anew", &t);
    cfg.accuracy_at_least = AT_LEAST;
    ot_quality *q = open_quality(&cfg);
    now_us = T0;
    promote(q, v);
    stream f = stream_of(q, "anew", v);
    block(&f, 20, 3);
    double before = evidence_of(q);
    ok(before > 0, "there is evidence");
    promote_ask ask = {.q = q, .version = w, .after = OT_ABORTED};
    is_int(ot_store_write(store, promote_txn, &ask, &e), OT_ABORTED, "a promotion that fails");
    is_near(evidence_of(q), before, 0, "changes nothing");
    cfg.sample_keep_us *= 2;
    ok(ot_quality_configure(q, &cfg, &e) == OT_OK, "another setting");
    is_near(evidence_of(q), before, 0, "that the test does not depend on");
    promote(q, w);
    is_near(evidence_of(q), 0, 0, "a new champion begins without evidence");
    f.s.version = w;
    block(&f, 20, 3);
    ok(evidence_of(q) > 0, "it is tested");
    cfg.accuracy_at_least = 0.8;
    ok(ot_quality_configure(q, &cfg, &e) == OT_OK, "another objective");
    is_near(evidence_of(q), 0, 0, "begins anew");
    is_int(events_of("anew", "quality.restarted", NULL), 1, "and an event says so");
    block(&f, 20, 6);
    ok(evidence_of(q) > 0, "and goes on");
    ot_quality_destroy(q);
    cfg.accuracy_at_least = 0.7;
    f.q = q = open_quality(&cfg);
    is_near(evidence_of(q), 0, 0, "an objective that changed between two processes, too");
    is_int(events_of("anew", "quality.restarted", NULL), 2, "with its event");
    block(&f, 20, 9);
    before = evidence_of(q);
    ot_quality_destroy(q);
    f.q = q = open_quality(&cfg);
    ok(before > 0 && evidence_of(q) == before, "the same objective goes on");
    cfg.accuracy_at_least = 0;
    ok(ot_quality_configure(q, &cfg, &e) == OT_OK, "no objective");
    is_near(evidence_of(q), -1, 0, "no test");
    is_int(f.bad, 0, "all was taken");
    ot_quality_destroy(q);
}

/* An objective of 100% is missed by one wrong answer; what comes afterwards is still taken. */
static void test_perfection(int64_t v)
{
    told t = {0};
    ot_error e = {0};
    ot_quality_config cfg = labels_config("perfect", &t);
    cfg.accuracy_at_least = 1;
    ot_quality *q = open_quality(&cfg);
    now_us = T0;
    promote(q, v);
    stream f = stream_of(q, "perfect", v);
    block(&f, 20, 0);
    is_int(t.degraded, 0, "all right");
    block(&f, 20, 1);
    is_int(t.degraded, 1, "not any more");
    block(&f, 20, 1);
    is_int(f.bad, 0, "all was taken");
    cfg.accuracy_at_least = 1.01;
    ok(ot_quality_configure(q, &cfg, &e) == OT_INVALID && strstr(e.msg, "1.01") != NULL,
       "more than all is refused: %s", e.msg);
    cfg.accuracy_at_least = NAN;
    is_int(ot_quality_configure(q, &cfg, &e), OT_INVALID, "so is nothing at all");
    ot_quality_destroy(q);
}

/* Values have no right and wrong without a tolerance: they are kept, not judged. */
static void test_regression(void)
{
    told t = {0};
    int64_t v = add_version_of("prices", VALUE_SIGNATURE);
    ot_quality_config cfg = labels_config("prices", &t);
    cfg.model = "prices";
    cfg.accuracy_at_least = AT_LEAST;
    ot_quality *q = open_quality(&cfg);
    now_us = T0 + 5000 * BLOCK;
    promote(q, v);
    ot_label_report r;
    sample_of s = {.deployment = "prices",
                   .model = "prices",
                   .version = v,
                   .first = 1,
                   .rows = 3,
                   .time_us = now_us,
                   .values = (double[]){10.5, 11.5, 12.5}};
    is_int(push_sample(q, &s), OT_OK, "rows");
    is_int(label_rows(q, &(label_run){.first = 1, .n = 3, .value = 10.5}, &r), OT_OK, "labels");
    is_int(r.joined, 3, "join");
    ot_accuracy a = {0};
    ok(ot_quality_accuracy(q, v, 0, INT64_MAX, &a, NULL) == OT_OK && a.labelled == 0,
       "nothing is right or wrong");
    is_near(a.lower, 0, 0, "nothing is known");
    is_near(a.upper, 1, 0, "either way");
    is_near(part_number(q, "labels", "testing"), 0, 0, "nothing is tested");
    json_t *j = part_of(q, "labels");
    const char *reason = json_string_value(json_object_get(j, "reason"));
    ok(reason != NULL && strstr(reason, "right") != NULL, "and people see why: %s",
       reason != NULL ? reason : "(nothing)");
    json_decref(j);
    is_int(label_rows(q, &(label_run){.first = 1, .n = 1, .value = 9}, &r), OT_OK, "a correction");
    ok(r.corrected == 1, "is one");
    ok(ot_quality_accuracy(q, v, 0, INT64_MAX, &a, NULL) == OT_OK && a.labelled == 0,
       "that makes nothing right or wrong either");
    ot_quality_destroy(q);
}

int main(void)
{
    fixture_start();
    int64_t v = add_version("digits", false), w = add_version("digits", false);
    test_alarm(v);
    test_null(v);
    test_labels_first(v);
    test_no_part(v, w);
    test_begins_anew(v, w);
    test_perfection(v);
    test_regression();
    fixture_end();
    return tap_done();
}
