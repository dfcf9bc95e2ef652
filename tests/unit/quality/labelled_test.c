/* Labelled rows as a table: the inputs that were sent, their labels, their weights. */
#include "unit/quality/sample_fixture.h"

#include "base/log.h"

#define T0 (BEGIN + 100 * BLOCK)

static ot_error last;

/* How many rows have the inputs that row SEQ was sent, with SEQ in [lo, hi), the label that `want`
 * says and this weight; all rows must be of that kind. */
static int rows_right(const ot_table *t, uint64_t lo, uint64_t hi, double (*want)(uint64_t),
                      double weight)
{
    const ot_tensor *x = ot_table_column(t, "x"), *y = ot_table_column(t, "y");
    const ot_tensor *w = ot_table_column(t, OT_TABLE_WEIGHT);
    static bool seen[4096];
    memset(seen, 0, sizeof seen);
    int n = 0;
    for (int64_t i = 0; x != NULL && y != NULL && w != NULL && i < t->rows; i++) {
        double a = ot_tensor_f64_at(x, 2 * i), b = ot_tensor_f64_at(x, 2 * i + 1);
        uint64_t seq = (uint64_t)a;
        bool right = b == a + 0.5 && seq >= lo && seq < hi && seq < OT_COUNT(seen) && !seen[seq] &&
                     ot_tensor_f64_at(y, i) == want(seq) && ot_tensor_f64_at(w, i) == weight;
        n += right;
        if (right) {
            seen[seq] = true;
        }
    }
    return n;
}

static double by_three(uint64_t seq)
{
    return (double)(seq % 3);
}

static double halves(uint64_t seq)
{
    return (double)seq / 2;
}

static void label_each(ot_quality *q, uint64_t first, size_t n, double (*value)(uint64_t))
{
    double *each = ot_calloc(n, sizeof *each);
    ot_label_report r;
    for (size_t i = 0; i < n; i++) {
        each[i] = value(first + i);
    }
    ok(label_rows(q, &(label_run){.first = first, .n = n, .each = each}, &r) == OT_OK &&
           r.joined == (int64_t)n,
       "%zu labels from row %d on", n, (int)first);
    ot_free(each);
}

static ot_rc labelled(ot_quality *q, int64_t since_us, int64_t max_rows, ot_table *t)
{
    last = (ot_error){0};
    ot_table_done(t);
    ot_table_init(t);
    return ot_quality_labelled(q, since_us, max_rows, "y", t, &last);
}

static void test_round_trip(int64_t v, int64_t w)
{
    told t = {0};
    ot_quality_config cfg = labels_config("rows", &t);
    ot_quality *q = open_quality(&cfg);
    OT_AUTO(ot_table_done) ot_table rows = {0};
    is_int(labelled(q, 0, 10, &rows), OT_NOT_FOUND, "none yet: %s", last.msg);
    sample_of s = {.deployment = "rows", .version = v, .rows = 50, .probability = 0.25f};
    int bad = 0;
    for (uint64_t k = 0; k < 6; k++) {
        s.first = 50 * k;
        s.time_us = T0 + (int64_t)k * SECOND;
        bad += push_sample(q, &s) != OT_OK;
    }
    is_int(bad, 0, "300 rows in six segments");
    is_int(labelled(q, 0, 10, &rows), OT_NOT_FOUND, "rows without labels are none");
    label_each(q, 20, 200, by_three);
    is_int(labelled(q, 0, 1000, &rows), OT_OK, "the labelled ones");
    is_int(rows.rows, 200, "all of them");
    is_int(rows_right(&rows, 20, 220, by_three, 4), 200,
           "with inputs, label and weight, each once");
    is_str(rows.label, "y", "the label is named");
    ok(rows.n_columns == 3 && ot_table_column(&rows, "y")->dtype == OT_DT_INT64 &&
           ot_table_column(&rows, "x")->dtype == OT_DT_FP32 &&
           ot_table_column(&rows, "x")->rank == 2,
       "in the types of the model; classes are integers");
    is_int(labelled(q, 0, 70, &rows), OT_OK, "a limit");
    is_int(rows.rows, 70, "is kept");
    is_int(rows_right(&rows, 150, 220, by_three, 4), 70, "by the newest");
    is_int(labelled(q, T0 + 3 * SECOND, 1000, &rows), OT_OK, "since a time");
    is_int(rows_right(&rows, 150, 220, by_three, 4), 70, "only those");
    is_int(rows.rows, 70, "no others");
    is_int(labelled(q, T0 + 9 * SECOND, 1000, &rows), OT_NOT_FOUND, "none there");
    ok(strstr(last.msg, "rows") != NULL, "the deployment is named");
    is_int(labelled(q, 0, 0, &rows), OT_INVALID, "no row: %s", last.msg);
    is_int(labelled(q, 0, INT64_MAX, &rows), OT_INVALID, "too many: %s", last.msg);

    sample_of shadow = s;
    shadow.version = w;
    shadow.shadow = true;
    shadow.first = 0;
    is_int(push_sample(q, &shadow), OT_OK, "a shadow of the first rows");
    is_int(labelled(q, 0, 1000, &rows), OT_OK, "again");
    is_int(rows_right(&rows, 20, 220, by_three, 4), 200, "a shadow's answers are no rows");
    is_int(rows.rows, 200, "more");

    sample_of canary = s;
    canary.version = w;
    canary.shadow = false;
    canary.seq = shadow.seq;
    canary.first = 300;
    is_int(push_sample(q, &canary), OT_OK, "rows that the canary answered");
    label_each(q, 300, 50, by_three);
    is_int(labelled(q, 0, 1000, &rows), OT_OK, "again");
    is_int(rows.rows, 250, "they count");
    label_run l = {.first = 20, .n = 200, .value = 2};
    ot_label_report r;
    is_int(label_rows(q, &l, &r), OT_OK, "corrections");
    is_int(labelled(q, 0, 1000, &rows), OT_OK, "again");
    int twos = 0;
    for (int64_t i = 0; i < rows.rows; i++) {
        twos += ot_tensor_f64_at(ot_table_column(&rows, "y"), i) == 2;
    }
    is_int(twos, 200 + 50 / 3, "are in the table");
    ot_quality_destroy(q);
    q = open_quality(&cfg);
    is_int(labelled(q, 0, 1000, &rows), OT_OK, "after a restart");
    is_int(rows.rows, 250, "the same");
    ot_quality_destroy(q);
}

/* Numbers of rows that are far apart, from two processes, with one number in both. */
static void test_processes(int64_t v)
{
    told t = {0};
    ot_quality_config cfg = labels_config("two", &t);
    ot_quality *q = open_quality(&cfg);
    OT_AUTO(ot_table_done) ot_table rows = {0};
    ot_label_report r;
    sample_of a = {
        .deployment = "two", .version = v, .first = 5, .step = 1000000, .rows = 3, .time_us = T0};
    sample_of b = a;
    b.incarnation = 17;
    is_int(push_sample(q, &a), OT_OK, "one");
    is_int(push_sample(q, &b), OT_OK, "another");
    label_run l = {.first = 5, .step = 1000000, .n = 3, .value = 1};
    is_int(label_rows(q, &l, &r), OT_OK, "labels of the one");
    is_int(labelled(q, 0, 100, &rows), OT_OK, "rows");
    is_int(rows.rows, 3, "only its own");
    l.incarnation = 17;
    l.value = 2;
    is_int(label_rows(q, &l, &r), OT_OK, "labels of the other");
    is_int(labelled(q, 0, 100, &rows), OT_OK, "rows");
    is_int(rows.rows, 6, "of both");
    double sum = 0, far = 0;
    for (int64_t i = 0; i < rows.rows; i++) {
        sum += ot_tensor_f64_at(ot_table_column(&rows, "y"), i);
        far = fmax(far, ot_tensor_f64_at(ot_table_column(&rows, "x"), 2 * i));
    }
    ok(sum == 9 && far == 2000005, "each with its label, however far apart");
    /* A number given to two live answers is one row. */
    a.first = b.first = 9000005;
    a.rows = b.rows = 2;
    a.version = v + 1;
    a.time_us = T0 + SECOND;
    b.incarnation = FIRST_INCARNATION;
    b.seq = a.seq + 1;
    is_int(push_sample(q, &a), OT_OK, "two rows");
    is_int(push_sample(q, &b), OT_OK, "again, by another version");
    l = (label_run){.first = 9000005, .step = 1000000, .n = 2, .value = 0};
    is_int(label_rows(q, &l, &r), OT_OK, "labels");
    is_int(labelled(q, 0, 100, &rows), OT_OK, "rows");
    int times = 0;
    for (int64_t i = 0; i < rows.rows; i++) {
        times += ot_tensor_f64_at(ot_table_column(&rows, "x"), 2 * i) == 10000005;
    }
    is_int(times, 1, "once");
    ot_quality_destroy(q);
}

/* Rows of several workers come in one segment as they were answered: each worker has a range of
 * numbers of its own, and they are in no order. */
static void test_workers(int64_t v)
{
    enum { ROWS = 12, WORKERS = 3 };
    told t = {0};
    ot_quality_config cfg = labels_config("workers", &t);
    ot_quality *q = open_quality(&cfg);
    OT_AUTO(ot_table_done) ot_table rows = {0};
    made_push m;
    sample_of s = {.deployment = "workers", .version = v, .seq = 1, .rows = ROWS, .time_us = T0};
    uint64_t number[ROWS];
    ot_label_in in[ROWS];
    char ids[ROWS][64];
    ot_label_report r;
    make_sample(&s, &m); /* row i has the inputs (i, i + 0.5) */
    for (size_t i = 0; i < ROWS; i++) {
        number[i] = (uint64_t)((i * 7) % WORKERS) << 40 | (100 - i);
        snprintf(ids[i], sizeof ids[i], "%s", id_of(FIRST_INCARNATION, number[i], v));
        in[i] = (ot_label_in){.id = ids[i], .value = (double)(i % 3)};
    }
    memcpy(m.bin.data, number, sizeof number);
    is_int(push_made(q, &m, &last), OT_OK, "a segment of three workers");
    made_push_done(&m);
    is_int(ot_quality_labels(q, in, ROWS, NULL, &r, &last), OT_OK, "its labels");
    is_int(r.joined, ROWS, "all join");
    is_int(labelled(q, 0, 100, &rows), OT_OK, "labelled");
    is_int(rows_right(&rows, 0, ROWS, by_three, 1), ROWS, "each row with its own label");
    ot_quality_destroy(q);
}

#define WIDE_SIGNATURE                                                                             \
    "{\"format\": \"null\","                                                                       \
    " \"inputs\": [{\"name\": \"x\", \"datatype\": \"FP32\", \"shape\": [-1, 3]}],"                \
    " \"outputs\": [{\"name\": \"scores\", \"datatype\": \"FP32\", \"shape\": [-1, 3]}],"          \
    " \"prediction\": {\"output\": \"scores\", \"kind\": \"scores\"}}"

static int warned;
static void count_warnings(void *self, ot_log_level level, const char *component, const char *msg)
{
    (void)self;
    (void)component;
    warned += level == OT_LOG_WARN && strstr(msg, "other inputs") != NULL;
}

/* A champion with other inputs cannot learn from rows that were sent to the one before. */
static void test_other_inputs(void)
{
    told t = {0};
    int64_t narrow = add_version("shapes", false);
    int64_t wide = add_version_of("shapes", WIDE_SIGNATURE);
    ot_quality_config cfg = labels_config("shapes", &t);
    cfg.model = "shapes";
    ot_quality *q = open_quality(&cfg);
    OT_AUTO(ot_table_done) ot_table rows = {0};
    sample_of s = {
        .deployment = "shapes", .model = "shapes", .version = narrow, .rows = 20, .time_us = T0};
    promote(q, narrow);
    is_int(push_sample(q, &s), OT_OK, "rows of two numbers");
    label_each(q, 0, 20, by_three);
    is_int(labelled(q, 0, 100, &rows), OT_OK, "fit");
    promote(q, wide);
    ot_log_sink_set(count_warnings, NULL);
    is_int(labelled(q, 0, 100, &rows), OT_NOT_FOUND, "a champion that takes three: none fits");
    ot_log_sink_set(NULL, NULL);
    is_int(warned, 1, "a line says so");
    ot_quality_destroy(q);
}

static void test_values(void)
{
    told t = {0};
    int64_t v = add_version_of("values", VALUE_SIGNATURE);
    ot_quality_config cfg = labels_config("values", &t);
    cfg.model = "values";
    ot_quality *q = open_quality(&cfg);
    OT_AUTO(ot_table_done) ot_table rows = {0};
    double prices[30];
    for (int i = 0; i < 30; i++) {
        prices[i] = i;
    }
    sample_of s = {.deployment = "values",
                   .model = "values",
                   .version = v,
                   .rows = 30,
                   .time_us = T0,
                   .values = prices};
    is_int(push_sample(q, &s), OT_OK, "rows");
    label_each(q, 0, 30, halves);
    is_int(labelled(q, 0, 100, &rows), OT_OK, "labelled");
    is_int(ot_table_column(&rows, "y")->dtype, OT_DT_FP64, "values are real numbers");
    is_int(rows_right(&rows, 0, 30, halves, 1), 30, "to the digit");
    ot_quality_destroy(q);
}

/* A label is a number; whether it names a class is known when rows are asked for. */
static void test_no_class(int64_t v)
{
    told t = {0};
    ot_quality_config cfg = labels_config("odd", &t);
    ot_quality *q = open_quality(&cfg);
    OT_AUTO(ot_table_done) ot_table rows = {0};
    ot_label_report r;
    sample_of s = {.deployment = "odd", .version = v, .rows = 6, .time_us = T0};
    is_int(push_sample(q, &s), OT_OK, "rows");
    label_run l = {.n = 6, .each = (double[]){1, 0.5, 1e300, -1e300, 9007199254740994.0, -1}};
    is_int(label_rows(q, &l, &r), OT_OK, "labels of all sorts");
    is_int(labelled(q, 0, 100, &rows), OT_OK, "labelled");
    is_int(rows.rows, 2, "those that are whole numbers");
    const ot_tensor *y = ot_table_column(&rows, "y"), *x = ot_table_column(&rows, "x");
    ok(ot_tensor_f64_at(y, 0) == 1 && ot_tensor_f64_at(y, 1) == -1 && ot_tensor_f64_at(x, 0) == 0 &&
           ot_tensor_f64_at(x, 2) == 5,
       "with their own inputs");
    ot_quality_destroy(q);
}

static int left_out;
static void count_left_out(void *self, ot_log_level level, const char *component, const char *msg)
{
    (void)self;
    (void)component;
    left_out += level == OT_LOG_WARN && strstr(msg, "left out") != NULL;
}

/* One segment that the disk lost does not keep the others from training. */
static void test_lost_bytes(int64_t v)
{
    told t = {0};
    ot_quality_config cfg = labels_config("lost", &t);
    ot_quality *q = open_quality(&cfg);
    OT_AUTO(ot_table_done) ot_table rows = {0};
    OT_AUTO(ot_str_done) ot_str event = OT_STR_INIT;
    sample_of s = {.deployment = "lost", .version = v, .rows = 20, .time_us = T0};
    is_int(push_sample(q, &s), OT_OK, "rows");
    is_int(events_of("lost", "samples.received", &event), 1, "told");
    s.first = 20;
    is_int(push_sample(q, &s), OT_OK, "more");
    label_each(q, 0, 40, by_three);
    json_t *j = json_loads(event.data, 0, NULL);
    const char *hex = json_string_value(json_object_get(j, "last"));
    char path[128];
    snprintf(path, sizeof path, "store/blobs/%.2s/%s", hex, hex);
    json_decref(j);
    is_int(unlink(at(path)), 0, "the bytes of the first are gone");
    ot_log_sink_set(count_left_out, NULL);
    is_int(labelled(q, 0, 100, &rows), OT_OK, "labelled");
    ot_log_sink_set(NULL, NULL);
    is_int(rows_right(&rows, 20, 40, by_three, 1), 20, "the second is there");
    is_int(rows.rows, 20, "alone");
    is_int(left_out, 1, "a line says so");
    ot_quality_destroy(q);
}

static void test_memory(int64_t v)
{
    told t = {0};
    ot_quality_config cfg = labels_config("short", &t);
    ot_quality *q = open_quality(&cfg);
    OT_AUTO(ot_table_done) ot_table rows = {0};
    sample_of s = {.deployment = "short", .version = v, .rows = 20, .time_us = T0};
    promote(q, v);
    is_int(push_sample(q, &s), OT_OK, "rows");
    label_each(q, 0, 20, by_three);
    int failed = 0, wrong = 0;
    for (uint64_t nth = 1; nth < 500; nth++) {
        ot_table_done(&rows);
        ot_table_init(&rows);
        (void)ot_mem_fail_nth(nth);
        ot_rc rc = ot_quality_labelled(q, 0, 100, "y", &rows, &last);
        bool hit = ot_mem_fail_nth(0) >= nth;
        failed += rc == OT_EXHAUSTED;
        wrong += rc == OT_OK ? rows_right(&rows, 0, 20, by_three, 1) != 20 : rc != OT_EXHAUSTED;
        wrong += rc != OT_OK && rows.rows != 0;
        if (!hit) {
            break;
        }
    }
    ok(failed > 10, "memory was short %d times", failed);
    is_int(wrong, 0, "each time that was the answer, and else all of it is there");
    ot_quality_destroy(q);
}

int main(void)
{
    fixture_start();
    int64_t v = add_version("digits", false), w = add_version("digits", false);
    test_round_trip(v, w);
    test_processes(v);
    test_workers(v);
    test_other_inputs();
    test_values();
    test_no_class(v);
    test_lost_bytes(v);
    test_memory(v);
    fixture_end();
    return tap_done();
}
