/* Labels: which rows they name, what they join with and when, what is told about them. */
#include "unit/quality/sample_fixture.h"

#include "store/outcomes.h"

#define T0 (BEGIN + 100 * BLOCK)

static ot_error last;

static ot_rc label_id(ot_quality *q, const char *id, double value, ot_label_report *out)
{
    ot_label_in in = {.id = id, .value = value};
    *out = (ot_label_report){0};
    last = (ot_error){0};
    return ot_quality_labels(q, &in, 1, "anna", out, &last);
}

static ot_accuracy accuracy_of(ot_quality *q, int64_t version)
{
    ot_accuracy a = {.labelled = -1};
    if (ot_quality_accuracy(q, version, 0, INT64_MAX, &a, &last) != OT_OK) {
        ok(false, "accuracy: %s", last.msg);
    }
    return a;
}

/* ---- which rows */

static void test_unknown(int64_t v)
{
    told t = {0};
    ot_quality_config cfg = labels_config("unknown", &t);
    ot_quality *q = open_quality(&cfg);
    static ot_label_in in[1204];
    static char ids[1204][16];
    ot_label_report r = {.accepted = 77};
    ot_error e = {0};
    for (size_t i = 0; i < OT_COUNT(in); i++) {
        snprintf(ids[i], sizeof ids[i], "A-%zu", 1001 + i);
        in[i] = (ot_label_in){.id = ids[i], .value = 1};
    }
    is_int(ot_quality_labels(q, in, OT_COUNT(in), NULL, &r, &e), OT_INVALID, "keys here");
    is_str(e.msg,
           "labels: 1,204 of 1,204 ids unknown (first: 'A-1001'); this deployment joins on "
           "prediction_id. Set labels.join.",
           "the error says what to do");
    is_int(r.accepted, 77, "the report is left alone");
    is_int(events_of("unknown", "labels.received", NULL), 0, "no event");
    is_int(t.labels, 0, "no finding");

    cfg.join_on_key = true;
    ok(ot_quality_configure(q, &cfg, &e) == OT_OK, "by key");
    is_int(ot_quality_labels(q, in, 1, NULL, &r, &e), OT_INVALID, "a key that no row carried");
    is_str(e.msg,
           "labels: 1 of 1 ids unknown (first: 'A-1001'); this deployment joins on key. Set "
           "labels.join.",
           "and the other way round");
    ot_quality_destroy(q);

    cfg = labels_config("unknown", &t);
    q = open_quality(&cfg);
    sample_of s = {.deployment = "unknown", .version = v, .first = 1, .rows = 4, .time_us = T0};
    is_int(push_sample(q, &s), OT_OK, "rows");
    static const char *const bad[] = {
        "",
        "-",
        "---",
        "abcdef0123456789-1-1",                   /* no sampled bit */
        "abcdef0123456789-1-1-0",                 /* not sampled */
        "abcdef0123456789-1-1-2",                 /* no bit */
        "abcdef0123456789-1-1-10",                /* more follows */
        "abcdef0123456789-1-1-1-",                /* more follows */
        "abcdef0123456789-1--1",                  /* no version */
        "abcdef0123456789--1-1",                  /* no number */
        "abcdef012345678-1-1-1",                  /* a digit less */
        "0abcdef0123456789-1-1-1",                /* a digit more */
        "ABCDEF0123456789-1-1-1",                 /* upper case */
        "abcdef012345678g-1-1-1",                 /* no digit */
        "abcdef0123456789-g-1-1",                 /* no digit */
        "abcdef0123456789-1-x-1",                 /* no digit */
        " abcdef0123456789-1-1-1",                /* white space */
        "abcdef0123456789-8000000000000000-1-1",  /* no number that a row can have */
        "abcdef0123456789-00000000000000001-1-1", /* 17 digits */
        "0000000000000001-1-1-1",                 /* an incarnation that nobody saw */
    };
    for (size_t i = 0; i < OT_COUNT(bad); i++) {
        is_int(label_id(q, bad[i], 1, &r), OT_INVALID, "'%s' names no row", bad[i]);
    }
    sample_of few = s;
    few.incarnation = 0xabc;
    is_int(push_sample(q, &few), OT_OK, "a process with a small number");
    is_int(label_id(q, "abc-1-1-1", 1, &r), OT_INVALID, "has all its digits in an id");
    is_int(label_id(q, "0000000000000abc-1-1-1", 1, &r), OT_OK, "like this");
    is_int(label_id(q, "abcdef0123456789-1-1-1", 1, &r), OT_OK, "this one names a row");
    is_int(r.joined, 1, "and it is there");
    ot_label_in mixed[] = {{.id = "nobody", .value = 1},
                           {.id = id_of(FIRST_INCARNATION, 2, v), .value = 1},
                           {.id = "no one", .value = 1}};
    is_int(ot_quality_labels(q, mixed, 3, NULL, &r, &e), OT_OK, "some are known");
    ok(r.accepted == 1 && r.joined == 1 && r.unknown == 2, "the others are counted");
    is_str(r.first_unknown, "nobody", "and the first is named");
    char wide[3 * 60 + 1] = ""; /* 60 characters of three bytes */
    for (int i = 0; i < 60; i++) {
        memcpy(wide + 3 * i, "\xe2\x82\xac", 3);
    }
    mixed[0].id = wide;
    is_int(ot_quality_labels(q, mixed, 3, NULL, &r, &e), OT_OK, "a long name");
    is_int(strlen(r.first_unknown), 126, "is cut where a character ends");
    ot_quality_destroy(q);
}

static void test_bad_calls(void)
{
    told t = {0};
    ot_quality_config cfg = labels_config("calls", &t);
    ot_quality *q = open_quality(&cfg);
    ot_label_report r;
    ot_error e = {0};
    static char source[OT_LABEL_SOURCE_MAX + 2];
    memset(source, 's', sizeof source - 1);
    ot_label_in in = {.id = id_of(1, 1, 1), .value = 1};
    is_int(ot_quality_labels(q, &in, 0, NULL, &r, &e), OT_INVALID, "none: %s", e.msg);
    is_int(ot_quality_labels(q, &in, OT_LABELS_MAX + 1, NULL, &r, &e), OT_INVALID, "%s", e.msg);
    in.value = NAN;
    is_int(ot_quality_labels(q, &in, 1, NULL, &r, &e), OT_INVALID, "%s", e.msg);
    in.value = INFINITY;
    is_int(ot_quality_labels(q, &in, 1, NULL, &r, &e), OT_INVALID, "%s", e.msg);
    in = (ot_label_in){.id = NULL, .value = 1};
    is_int(ot_quality_labels(q, &in, 1, NULL, &r, &e), OT_INVALID, "%s", e.msg);
    in = (ot_label_in){.id = id_of(1, 1, 1), .value = 1, .source = source};
    is_int(ot_quality_labels(q, &in, 1, NULL, &r, &e), OT_INVALID, "%s", e.msg);
    ok(strstr(e.msg, "source") != NULL, "the field is named");
    ot_quality_destroy(q);
}

/* ---- joining */

static void test_sample_then_label(int64_t v)
{
    told t = {0};
    ot_quality_config cfg = labels_config("after", &t);
    ot_quality *q = open_quality(&cfg);
    ot_label_report r;
    OT_AUTO(ot_str_done) ot_str event = OT_STR_INIT;
    sample_of s = {.deployment = "after",
                   .version = v,
                   .first = 10,
                   .rows = 5,
                   .time_us = T0,
                   .answers = (int[]){0, 1, 2, 1, 1}};
    is_int(push_sample(q, &s), OT_OK, "rows");
    label_run l = {.first = 10, .n = 5, .each = (double[]){0, 1, 1, 2, 1}};
    is_int(label_rows(q, &l, &r), OT_OK, "labels");
    ok(r.accepted == 5 && r.joined == 5 && r.waiting == 0 && r.repeated == 0 && r.unknown == 0,
       "all joined");
    ot_accuracy a = accuracy_of(q, v);
    ok(a.labelled == 5 && a.right == 3, "three of five are right");
    is_int(ot_quality_labels_joined(q), 5, "counted");
    ok(t.labels == 1 && t.labels_new == 5, "told once");
    is_int(events_of("after", "labels.received", &event), 1, "one event");
    json_t *j = json_loads(event.data, 0, NULL);
    is_int(json_integer_value(json_object_get(j, "count")), 5, "with the count");
    is_int(json_integer_value(json_object_get(j, "joined")), 5, "what joined");
    is_int(json_string_length(json_object_get(j, "sha256")), 64, "and a digest");
    is_str(json_string_value(json_object_get(j, "text")),
           "5 labels: 5 new, 5 joined, 0 wait for their rows", "in words");
    json_decref(j);

    is_int(label_rows(q, &l, &r), OT_OK, "again");
    ok(r.repeated == 5 && r.accepted == 0 && r.joined == 0, "all are known");
    is_int(ot_quality_labels_joined(q), 5, "none is counted twice");
    is_int(accuracy_of(q, v).labelled, 5, "nor judged");
    is_int(t.labels, 1, "nothing to tell");

    l = (label_run){.first = 12, .n = 2, .each = (double[]){2, 1}};
    is_int(label_rows(q, &l, &r), OT_OK, "two were wrong themselves");
    ok(r.corrected == 2 && r.accepted == 0 && r.joined == 0, "corrected");
    a = accuracy_of(q, v);
    ok(a.labelled == 5 && a.right == 5, "the newest counts");
    is_int(ot_quality_labels_joined(q), 5, "no label more");
    ot_quality_destroy(q);
}

/* The same row twice in one call: the last is what the caller means. */
static void test_twice_in_a_call(int64_t v)
{
    told t = {0};
    ot_quality_config cfg = labels_config("twice", &t);
    ot_quality *q = open_quality(&cfg);
    ot_label_report r;
    ot_error e = {0};
    sample_of s = {.deployment = "twice", .version = v, .first = 1, .rows = 3, .time_us = T0};
    is_int(push_sample(q, &s), OT_OK, "rows, all answered with 1");
    ot_label_in in[] = {{.id = id_of(FIRST_INCARNATION, 1, v), .value = 2},
                        {.id = id_of(FIRST_INCARNATION, 2, v), .value = 1},
                        {.id = id_of(FIRST_INCARNATION, 1, v), .value = 0},
                        {.id = id_of(FIRST_INCARNATION, 2, v), .value = 1},
                        {.id = id_of(FIRST_INCARNATION, 1, v), .value = 1},
                        {.id = id_of(FIRST_INCARNATION, 9, v), .value = 2},
                        {.id = id_of(FIRST_INCARNATION, 9, v), .value = 1}};
    is_int(ot_quality_labels(q, in, OT_COUNT(in), NULL, &r, &e), OT_OK, "labels");
    ok(r.accepted == 3 && r.corrected == 3 && r.repeated == 1 && r.joined == 2 && r.waiting == 1,
       "three rows: %d accepted, %d corrected, %d repeated", (int)r.accepted, (int)r.corrected,
       (int)r.repeated);
    ot_accuracy a = accuracy_of(q, v);
    ok(a.labelled == 2 && a.right == 2, "the last value of each counts (%d of %d right)",
       (int)a.right, (int)a.labelled);
    s.first = 9;
    is_int(push_sample(q, &s), OT_OK, "the third row");
    is_int(accuracy_of(q, v).right, 3, "there too");
    ot_quality_destroy(q);
}

static void test_label_then_sample(int64_t v)
{
    told t = {0};
    ot_quality_config cfg = labels_config("before", &t);
    ot_quality *q = open_quality(&cfg);
    ot_label_report r;
    sample_of s = {.deployment = "before", .version = v, .first = 1, .rows = 2, .time_us = T0};
    is_int(push_sample(q, &s), OT_OK, "the process is known");
    /* Far apart, so that they lie in several spans. */
    label_run l = {.first = 100, .step = 40000, .n = 6, .value = 1};
    is_int(label_rows(q, &l, &r), OT_OK, "labels of rows that are not here");
    ok(r.accepted == 6 && r.waiting == 6 && r.joined == 0, "wait");
    is_near(part_number(q, "labels", "waiting"), 6, 0, "people see that");
    is_int(t.labels, 0, "nothing joined");
    l = (label_run){.first = 40100, .n = 1, .value = 2};
    is_int(label_rows(q, &l, &r), OT_OK, "one is corrected meanwhile");
    is_int(r.corrected, 1, "it is known");

    sample_of far = {.deployment = "before",
                     .version = v,
                     .seq = s.seq,
                     .first = 100,
                     .step = 40000,
                     .rows = 5,
                     .time_us = T0};
    is_int(push_sample(q, &far), OT_OK, "five of the rows come");
    ok(t.labels == 1 && t.labels_new == 5, "their labels join");
    is_near(part_number(q, "labels", "waiting"), 1, 0, "one waits on");
    ot_accuracy a = accuracy_of(q, v);
    ok(a.labelled == 5 && a.right == 4, "four are right, the corrected one is not");
    is_int(ot_quality_labels_joined(q), 5, "counted");
    ot_quality_destroy(q);
}

static void test_shadow_after_label(int64_t v, int64_t w)
{
    told t = {0};
    ot_quality_config cfg = labels_config("late", &t);
    ot_quality *q = open_quality(&cfg);
    ot_label_report r;
    sample_of s = {.deployment = "late", .version = v, .first = 1, .rows = 4, .time_us = T0};
    is_int(push_sample(q, &s), OT_OK, "rows");
    is_int(label_rows(q, &(label_run){.first = 1, .n = 4, .value = 2}, &r), OT_OK, "labels");
    sample_of shadow = s;
    shadow.version = w;
    shadow.shadow = true;
    shadow.answers = (int[]){2, 2, 2, 0};
    is_int(push_sample(q, &shadow), OT_OK, "another version's answers to the same rows");
    ok(accuracy_of(q, v).right == 0 && accuracy_of(q, w).right == 3, "both are judged");
    is_int(ot_quality_labels_joined(q), 4, "a label is one label however many versions answered");
    is_int(t.labels_new, 4, "and told once");
    json_t *list = part_of(q, "accuracy"), *second = json_array_get(list, 1);
    is_int(json_array_size(list), 2, "people see both");
    is_str(json_string_value(json_object_get(second, "role")), "shadow", "with the role");
    is_int(json_integer_value(json_object_get(second, "right")), 3, "and the figures");
    json_decref(list);

    is_int(label_rows(q, &(label_run){.first = 4, .n = 1, .value = 0}, &r), OT_OK, "a correction");
    ok(accuracy_of(q, v).right == 0 && accuracy_of(q, w).right == 4, "reaches all of them");
    ot_quality_destroy(q);
}

static void test_keys(int64_t v)
{
    told t = {0};
    ot_quality_config cfg = labels_config("keys", &t);
    cfg.join_on_key = true;
    ot_quality *q = open_quality(&cfg);
    ot_label_report r;
    char long_key[300];
    memset(long_key, 'k', sizeof long_key - 1);
    long_key[sizeof long_key - 1] = 0;
    sample_of s = {.deployment = "keys",
                   .version = v,
                   .first = 1,
                   .rows = 4,
                   .time_us = T0,
                   .answers = (int[]){0, 1, 2, 0},
                   .keys = (const char *const[]){"order-7", "", "order-8", long_key}};
    is_int(push_sample(q, &s), OT_OK, "rows with keys");
    is_int(label_id(q, "order-8", 2, &r), OT_OK, "a label by key: %s", last.msg);
    ok(r.joined == 1 && accuracy_of(q, v).right == 1, "joins");
    is_int(label_id(q, "", 1, &r), OT_INVALID, "no key is none");
    is_int(label_id(q, long_key, 1, &r), OT_INVALID, "nor one that is too long");
    is_int(label_id(q, id_of(FIRST_INCARNATION, 1, v), 0, &r), OT_INVALID,
           "a prediction id is not a key here");

    s.first = 11;
    s.time_us = T0 + SECOND;
    s.answers = (int[]){2, 1, 1, 0};
    is_int(push_sample(q, &s), OT_OK, "the keys come again");
    is_int(label_id(q, "order-7", 2, &r), OT_OK, "a label");
    ok(r.joined == 1 && accuracy_of(q, v).right == 2, "it means the newest row");
    s.first = 21;
    s.time_us = T0 - SECOND;
    is_int(push_sample(q, &s), OT_OK, "an older row comes late");
    is_int(label_id(q, "order-7", 2, &r), OT_OK, "again");
    is_int(r.repeated, 1, "it is still the newest by time");

    sample_of shadow = {.deployment = "keys",
                        .version = v + 1,
                        .shadow = true,
                        .seq = s.seq,
                        .first = 31,
                        .rows = 1,
                        .time_us = T0 + 9 * SECOND,
                        .keys = (const char *const[]){"order-7"}};
    is_int(push_sample(q, &shadow), OT_OK, "a shadow with a key");
    is_int(label_id(q, "order-7", 2, &r), OT_OK, "again");
    is_int(r.repeated, 1, "a shadow's row is nobody's answer");
    ot_quality_destroy(q);
}

/* ---- restarts, memory, size */

/* Everything that can change the state, in an order that meets waiting labels, shadows,
 * corrections, promotions and comparisons. */
static void step(ot_quality *q, const char *deployment, int k, int64_t v, int64_t w)
{
    ot_label_report r;
    ot_error e = {0};
    now_us = T0 + 1000 * BLOCK + k * (BLOCK / 3);
    sample_of s = {.deployment = deployment,
                   .version = v,
                   .seq = 10 + (uint64_t)k,
                   .first = 1 + 10 * (uint64_t)k,
                   .rows = 10,
                   .time_us = now_us,
                   .answers = (int[]){0, 1, 2, 1, 1, 0, 1, 2, 1, 1},
                   .dropped_rows = k};
    label_run l = {.first = s.first, .n = 10, .value = k % 3};
    int bad = 0;
    if (k == 0) {
        promote(q, v);
    }
    if (k == 5) {
        ot_pair_watch watch = {
            .candidate = w, .champion = v, .since_us = T0, .margin = 0.1, .alpha = 0.05};
        bad += ot_quality_watch(q, &watch, &e) != OT_OK;
    }
    if (k % 2 == 0) {
        bad += push_sample(q, &s) != OT_OK;
        bad += label_rows(q, &l, &r) != OT_OK;
    } else {
        bad += label_rows(q, &l, &r) != OT_OK;
        bad += push_sample(q, &s) != OT_OK;
    }
    s.version = w;
    s.shadow = true;
    s.seq = 100 + (uint64_t)k;
    s.incarnation = FIRST_INCARNATION;
    bad += push_sample(q, &s) != OT_OK;
    l.value = (k + 1) % 3;
    l.n = 3;
    bad += label_rows(q, &l, &r) != OT_OK;
    if (k == 8) {
        promote(q, w);
    }
    is_int(bad, 0, "step %d of %s", k, deployment);
}

static void test_restart(int64_t v, int64_t w)
{
    enum { STEPS = 12 };
    told t = {0};
    ot_quality_config a = labels_config("whole", &t), b = labels_config("broken", &t);
    a.accuracy_at_least = b.accuracy_at_least = 0.9;
    ot_quality *q = open_quality(&a);
    for (int k = 0; k < STEPS; k++) {
        step(q, "whole", k, v, w);
    }
    ot_pair_state one = {0}, two = {0};
    ok(ot_quality_pair(q, &one), "compared");
    ot_quality_destroy(q);
    for (int k = 0; k < STEPS; k++) {
        q = open_quality(&b);
        step(q, "broken", k, v, w);
        ot_quality_destroy(q);
    }
    q = open_quality(&b);
    ok(ot_quality_pair(q, &two) && one.compared > 0 && memcmp(&one, &two, sizeof one) == 0,
       "the comparison is the same");
    is_int(ot_quality_labels_joined(q), 10 * STEPS, "so is the count");
    ot_quality_destroy(q);
    ok(same_labels("whole", "broken"), "interrupted or not: the same state");
}

/* Each allocation of a push and of labels fails once; what was refused can be done again. */
static void test_memory(int64_t v)
{
    told t = {0};
    ot_quality_config cfg = labels_config("tight", &t);
    cfg.accuracy_at_least = 0.9;
    ot_quality *q = open_quality(&cfg);
    promote(q, v);
    int failed = 0, wrong = 0;
    for (uint64_t nth = 1; nth < 400; nth++) {
        made_push m;
        ot_error e = {0};
        ot_label_report r = {0};
        sample_of s = {.deployment = "tight",
                       .version = v,
                       .seq = nth,
                       .first = 10 * nth,
                       .rows = 3,
                       .time_us = T0};
        make_sample(&s, &m);
        int64_t joined = ot_quality_labels_joined(q);
        (void)ot_mem_fail_nth(nth);
        ot_rc rc = push_made(q, &m, &e);
        bool hit = ot_mem_fail_nth(0) >= nth;
        failed += rc != OT_OK;
        wrong += rc != OT_OK && rc != OT_EXHAUSTED;
        wrong += rc != OT_OK && push_made(q, &m, &e) != OT_OK;
        made_push_done(&m);

        ot_label_in in = {.id = id_of(FIRST_INCARNATION, 10 * nth + 1, v), .value = 1};
        (void)ot_mem_fail_nth(nth);
        rc = ot_quality_labels(q, &in, 1, NULL, &r, &e);
        hit = ot_mem_fail_nth(0) >= nth || hit;
        failed += rc != OT_OK;
        wrong += rc != OT_OK && rc != OT_EXHAUSTED;
        wrong += rc != OT_OK && ot_quality_labels(q, &in, 1, NULL, &r, &e) != OT_OK;
        wrong += r.joined != 1 || ot_quality_labels_joined(q) != joined + 1;
        if (!hit) {
            break;
        }
    }
    ok(failed > 10, "memory was short %d times", failed);
    is_int(wrong, 0, "each time that was the answer, and the second time all went well");
    ot_quality_destroy(q);
}

static void test_many(int64_t v)
{
    enum { SEGMENTS = 100, ROWS = 100 };
    told t = {0};
    ot_quality_config cfg = labels_config("many", &t);
    ot_quality *q = open_quality(&cfg);
    ot_label_report r;
    sample_of s = {.deployment = "many", .version = v, .rows = ROWS, .time_us = T0};
    int bad = 0;
    for (uint64_t k = 0; k < SEGMENTS; k++) {
        s.first = k * ROWS;
        bad += push_sample(q, &s) != OT_OK;
    }
    uint64_t start = ot_clock_mono_ns();
    bad += label_rows(q, &(label_run){.n = SEGMENTS * ROWS, .value = 1}, &r) != OT_OK;
    printf("# %d labels joined with %d segments in %.0f ms\n", SEGMENTS * ROWS, SEGMENTS,
           (double)(ot_clock_mono_ns() - start) / 1e6);
    ok(bad == 0 && r.joined == SEGMENTS * ROWS, "many labels in a call");
    ot_accuracy a = accuracy_of(q, v);
    ok(a.labelled == SEGMENTS * ROWS && a.right == a.labelled, "each with its own row");
    ot_quality_destroy(q);
}

/* What people see. */
static void test_summary(int64_t v)
{
    told t = {0};
    ot_quality_config cfg = labels_config("seen", &t);
    ot_quality *q = open_quality(&cfg);
    ot_label_report r;
    sample_of s = {.deployment = "seen", .version = v, .rows = 3, .time_us = now_us};
    is_near(part_number(q, "labels", "last_us"), 0, 0, "no label yet");
    is_int(push_sample(q, &s), OT_OK, "rows");
    now_us += 7 * SECOND;
    is_int(label_rows(q, &(label_run){.n = 3, .value = 1}, &r), OT_OK, "labels");
    is_near(part_number(q, "labels", "last_us"), (double)now_us, 0,
            "when the last came, also without an objective");
    is_near(part_number(q, "labels", "testing"), 0, 0, "nothing is tested");
    is_near(part_number(q, "labels", "evidence"), -1, 0, "so there is no evidence");
    cfg.accuracy_at_least = 0.9;
    ok(ot_quality_configure(q, &cfg, &last) == OT_OK, "an objective");
    promote(q, v);
    is_near(part_number(q, "labels", "testing"), 1, 0, "it is tested");
    is_near(part_number(q, "labels", "threshold"), q_blocks_per_alarm(&cfg, 0.25), 1e-9,
            "against a quarter of the promise");
    ot_quality_destroy(q);
}

int main(void)
{
    fixture_start();
    int64_t v = add_version("digits", false), w = add_version("digits", false);
    test_unknown(v);
    test_bad_calls();
    test_sample_then_label(v);
    test_twice_in_a_call(v);
    test_label_then_sample(v);
    test_shadow_after_label(v, w);
    test_keys(v);
    test_restart(v, w);
    test_memory(v);
    test_many(v);
    test_summary(v);
    fixture_end();
    return tap_done();
}
