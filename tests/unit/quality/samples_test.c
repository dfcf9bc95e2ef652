/* Samples: what is taken, what is refused and then leaves nothing, what goes when it is old. */
#include "unit/quality/sample_fixture.h"

#include "quality/sample_list.h"
#include "store/blob.h"

#define T0 (BEGIN + 100 * BLOCK)

static ot_error last;

static void test_taken_once(int64_t v)
{
    told t = {0};
    ot_quality_config cfg = labels_config("once", &t);
    ot_quality *q = open_quality(&cfg);
    OT_AUTO(ot_str_done) ot_str event = OT_STR_INIT;
    sample_of s = {.deployment = "once",
                   .version = v,
                   .first = 7,
                   .rows = 3,
                   .time_us = T0,
                   .dropped_rows = 4};
    is_int(push_sample(q, &s), OT_OK, "rows");
    double bytes = 3 * (8 + 8 + 4 + 8 + 12);
    is_near(part_number(q, "samples", "segments"), 1, 0, "a segment");
    is_near(part_number(q, "samples", "bytes"), bytes, 0, "of so many bytes");
    is_near(part_number(q, "samples", "dropped_rows"), 4, 0, "and rows that were lost before it");
    is_near(part_number(q, "samples", "oldest_us"), (double)T0, 0, "as old as its first row");
    is_int(events_of("once", "samples.received", &event), 1, "an event");
    json_t *j = json_loads(event.data, 0, NULL);
    is_str(json_string_value(json_object_get(j, "text")), "3 sampled rows in 1 segments",
           "in words");
    json_decref(j);

    s.seq--;
    is_int(push_sample(q, &s), OT_OK, "the same push again is acknowledged");
    is_near(part_number(q, "samples", "segments"), 1, 0, "and changes nothing");
    is_near(part_number(q, "samples", "dropped_rows"), 4, 0, "at all");
    ot_quality_destroy(q);
    q = open_quality(&cfg);
    is_near(part_number(q, "samples", "dropped_rows"), 4, 0, "in the store neither");
    sample_of w = s;
    w.seq = 0;
    w.incarnation = 5;
    is_int(push_sample(q, &w), OT_OK, "another process has its own numbers");
    is_near(part_number(q, "samples", "segments"), 2, 0, "counted");

    s.dropped_rows = INT64_MAX;
    is_int(push_sample(q, &s), OT_OK, "as many as can be named");
    s.first += 100;
    is_int(push_sample(q, &s), OT_OK, "and again");
    is_near(part_number(q, "samples", "dropped_rows"), (double)INT64_MAX, 0, "are not negative");
    ot_quality_destroy(q);
}

static json_t *page(ot_quality *q, int64_t before, int64_t limit)
{
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_error err = {0};
    (void)q;
    ok(ot_samples_list(store, "listed", before, limit, &out, &err) == OT_OK, "a page: %s", err.msg);
    return json_loads(out.data, 0, NULL);
}

static void test_listed(int64_t v)
{
    told t = {0};
    ot_quality_config cfg = labels_config("listed", &t);
    ot_quality *q = open_quality(&cfg);
    sample_of s = {.deployment = "listed", .version = v, .first = 7, .rows = 3, .time_us = T0};
    for (int i = 0; i < 3; i++) {
        is_int(push_sample(q, &s), OT_OK, "segment %d", i);
        s.first += 10;
    }
    json_t *first = page(q, 0, 4);
    const json_t *rows = json_object_get(first, "samples");
    is_int((int64_t)json_array_size(rows), 6, "whole segments, until there are enough rows");
    const json_t *row = json_array_get(rows, 0);
    const char *id = json_string_value(json_object_get(row, "id"));
    ok(id != NULL && strstr(id, "-1b-") != NULL, "the newest first: %s", id);
    ok(json_array_size(json_object_get(json_object_get(row, "inputs"), "x")) > 0 &&
           json_object_size(json_object_get(row, "outputs")) == 1,
       "with what went in and came out");
    json_t *second = page(q, json_integer_value(json_object_get(first, "next")), 4);
    is_int((int64_t)json_array_size(json_object_get(second, "samples")), 3, "then the oldest");
    ok(json_is_null(json_object_get(second, "next")), "and no more");
    json_decref(first);
    json_decref(second);
    ot_quality_destroy(q);
}

/* A segment a second would drown the log. */
static void test_events(int64_t v)
{
    told t = {0};
    ot_quality_config cfg = labels_config("few", &t);
    ot_quality *q = open_quality(&cfg);
    OT_AUTO(ot_str_done) ot_str event = OT_STR_INIT;
    sample_of s = {.deployment = "few", .version = v, .rows = 2};
    int bad = 0;
    now_us = T0;
    for (uint64_t k = 0; k < 26; k++) {
        s.first = 10 * k;
        s.time_us = now_us;
        bad += push_sample(q, &s) != OT_OK;
        now_us += SECOND;
    }
    is_int(bad, 0, "26 segments in 26 seconds");
    is_int(events_of("few", "samples.received", &event), 3, "three events");
    json_t *j = json_loads(event.data, 0, NULL);
    is_int(json_integer_value(json_object_get(j, "segments")), 10, "of ten each");
    is_int(json_integer_value(json_object_get(j, "rows")), 20, "with all their rows");
    json_decref(j);
    ot_quality_destroy(q);
}

/* ---- what is refused */

typedef struct wrong {
    const char *from, *to; /* in the JSON of a right push */
    const char *names;     /* in the error */
} wrong;

static bool replace(ot_str *s, const char *from, const char *to)
{
    const char *at = strstr(s->data, from);
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    if (at == NULL) {
        return false;
    }
    ot_str_add(&out, s->data, (size_t)(at - s->data));
    ot_str_adds(&out, to);
    ot_str_adds(&out, at + strlen(from));
    ot_str_clear(s);
    ot_str_add(s, out.data, out.len);
    return true;
}

static int64_t segments;

/* Refused as wrong, and nothing is left of it. */
static void refused(ot_quality *q, const made_push *m, const char *names, const char *what)
{
    last = (ot_error){0};
    ot_rc rc = push_made(q, m, &last);
    ok(rc == OT_INVALID && strstr(last.msg, names) != NULL &&
           part_number(q, "samples", "segments") == (double)segments,
       "%s: %s", what, last.msg);
}

static void test_json(ot_quality *q, const sample_of *s)
{
    static const wrong bad[] = {
        {"\"version\":", "\"ver\":", "version"},
        {"\"version\":1", "\"version\":0", "version"},
        {"\"version\":1", "\"version\":-1", "version"},
        {"\"version\":1", "\"version\":1.5", "version"},
        {"\"version\":1", "\"version\":\"1\"", "version"},
        {"\"version\":1", "\"version\":999", "v999"},
        {"\"role\":", "\"part\":", "role"},
        {"\"role\":\"live\"", "\"role\":\"canary\"", "'canary'"},
        {"\"role\":\"live\"", "\"role\":\"\"", "role"},
        {"\"role\":\"live\"", "\"role\":1", "role"},
        {"\"rows\":4", "\"rows\":0", "rows"},
        {"\"rows\":4", "\"rows\":-4", "rows"},
        {"\"rows\":4", "\"rows\":3", "bytes"},
        {"\"rows\":4", "\"rows\":5", "bytes"},
        {"\"rows\":4", "\"rows\":1000000", "needed"},
        {"\"rows\":4", "\"rows\":1000001", "rows"},
        {"\"rows\":4", "\"rows\":9223372036854775807", "rows"},
        {"\"rows\":4", "\"rows\":[4]", "rows"},
        {"\"inputs\":[", "\"inputs\":7,\"x\":[", "inputs"},
        {"\"inputs\":[{", "\"inputs\":[7,{", "name"},
        {"\"name\":\"x\"", "\"name\":7", "name"},
        {"\"datatype\":\"FP32\",\"shape\":[2]", "\"datatype\":7,\"shape\":[2]", "datatype"},
        {"\"datatype\":\"FP32\",\"shape\":[2]", "\"datatype\":\"FP31\",\"shape\":[2]", "FP31"},
        {"\"datatype\":\"FP32\",\"shape\":[2]", "\"datatype\":\"BYTES\",\"shape\":[2]", "element"},
        {"\"datatype\":\"FP32\",\"shape\":[2]", "\"datatype\":\"FP64\",\"shape\":[2]", "bytes"},
        {"\"shape\":[2]", "\"shape\":2", "axes"},
        {"\"shape\":[2]", "\"shape\":[1]", "bytes"},
        {"\"shape\":[2]", "\"shape\":[3]", "bytes"},
        {"\"shape\":[2]", "\"shape\":[-2]", "axis 0"},
        {"\"shape\":[2]", "\"shape\":[2.5]", "axis 0"},
        {"\"shape\":[2]", "\"shape\":[2,null]", "axis 1"},
        {"\"shape\":[2]", "\"shape\":[1,1,1,1,1,1,1,2]", "axes"},
        {"\"shape\":[2]", "\"shape\":[4611686018427387904]", "larger"},
        {"\"shape\":[2]", "\"shape\":[4294967296,4294967296,4294967296]", "larger"},
        {"\"outputs\":[", "\"outputs\":{},\"x\":[", "outputs"},
        {"\"name\":\"scores\"", "\"name\":\"scars\"", "'scores'"},
        {"\"shape\":[3]", "\"shape\":[2]", "bytes"},
        {"\"datatype\":\"FP32\",\"shape\":[3]", "\"datatype\":\"INT32\",\"shape\":[3]", "scores"},
        {"\"keys\":false", "\"keys\":true", "key"},
        {"\"keys\":false", "\"keys\":false,\"dropped_rows\":-1", "dropped_rows"},
        {"\"keys\":false", "\"keys\":false,\"dropped_rows\":\"1\"", "dropped_rows"},
    };
    for (size_t i = 0; i < OT_COUNT(bad); i++) {
        made_push m;
        make_sample(s, &m);
        ok(replace(&m.json, bad[i].from, bad[i].to), "instead of %s: %s", bad[i].from, bad[i].to);
        refused(q, &m, bad[i].names, bad[i].to);
        made_push_done(&m);
    }
    made_push m;
    OT_AUTO(ot_str_done) ot_str many = OT_STR_INIT;
    make_sample(s, &m);
    ot_str_adds(&many, "\"inputs\":[");
    for (int i = 0; i < 65; i++) {
        ot_str_adds(&many, "{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[0]},");
    }
    ok(replace(&m.json, "\"inputs\":[", many.data), "66 inputs");
    refused(q, &m, "64", "too many tensors");
    made_push_done(&m);
}

static void put(made_push *m, size_t offset, const void *p, size_t n)
{
    memcpy(m->bin.data + offset, p, n);
}

static void test_binary(ot_quality *q, const sample_of *s)
{
    made_push m;
    make_sample(s, &m);
    size_t whole = m.bin.len;
    int wrong_ones = 0;
    for (size_t n = 0; n < whole; n++) {
        m.bin.len = n;
        wrong_ones += push_made(q, &m, &last) != OT_INVALID;
    }
    is_int(wrong_ones, 0, "each cut of it is refused");
    m.bin.len = whole;
    ot_str_addc(&m.bin, 'x');
    refused(q, &m, "1 bytes follow", "a byte more");
    made_push_done(&m);

    uint64_t seq = (uint64_t)INT64_MAX + 1;
    make_sample(s, &m);
    put(&m, 8, &seq, sizeof seq);
    refused(q, &m, "row 1", "a number that is too large");
    seq = s->first;
    put(&m, 8, &seq, sizeof seq);
    refused(q, &m, "twice", "a number twice");
    made_push_done(&m);

    int64_t times[] = {0, -1, INT64_MIN};
    for (size_t i = 0; i < OT_COUNT(times); i++) {
        make_sample(s, &m);
        put(&m, 4 * 8 + 3 * 8, &times[i], sizeof times[i]);
        refused(q, &m, "row 3", "no time");
        made_push_done(&m);
    }
    float shares[] = {0, -0.5f, 1.01f, (float)NAN, (float)INFINITY};
    for (size_t i = 0; i < OT_COUNT(shares); i++) {
        make_sample(s, &m);
        put(&m, 4 * 16 + 2 * 4, &shares[i], sizeof shares[i]);
        refused(q, &m, "row 2", "no probability");
        made_push_done(&m);
    }
    sample_of k = *s;
    k.keys = (const char *const[]){"a", "bb", "", "dddd"};
    make_sample(&k, &m);
    whole = m.bin.len;
    m.bin.len = whole - 1;
    refused(q, &m, "key", "a key that is cut");
    m.bin.len = whole;
    uint16_t n = 0xffff;
    put(&m, whole - 6, &n, sizeof n);
    refused(q, &m, "key", "a key longer than all bytes");
    made_push_done(&m);
}

static void test_refused(int64_t v)
{
    told t = {0};
    ot_quality_config cfg = labels_config("bad", &t);
    ot_quality *q = open_quality(&cfg);
    sample_of s = {.deployment = "bad", .version = v, .first = 10, .rows = 4, .time_us = T0};
    is_int(v, 1, "the tables below say version 1");
    is_int(push_sample(q, &s), OT_OK, "a right one");
    segments = 1;
    s.first = 20;
    s.seq++;
    test_json(q, &s);
    test_binary(q, &s);
    s.seq--;
    is_int(push_sample(q, &s), OT_OK, "none of them used its number up");
    is_near(part_number(q, "samples", "segments"), 2, 0, "it is there");
    /* Bytes that lie anywhere. */
    made_push m;
    s.first = 30;
    s.seq++;
    make_sample(&s, &m);
    char *odd = ot_alloc(m.bin.len + 1);
    memcpy(odd + 1, m.bin.data, m.bin.len);
    is_int(ot_quality_push(q, m.json.data, m.json.len, odd + 1, m.bin.len, &last), OT_OK,
           "at an odd address");
    ot_free(odd);
    made_push_done(&m);
    ot_quality_destroy(q);
}

/* A NaN among the scores is an answer that is right about nothing. */
static void test_nan(int64_t v)
{
    told t = {0};
    ot_quality_config cfg = labels_config("nan", &t);
    ot_quality *q = open_quality(&cfg);
    made_push m;
    float nan = (float)NAN;
    ot_label_report r;
    ot_accuracy a = {0};
    sample_of s = {.deployment = "nan", .version = v, .seq = 1, .rows = 2, .time_us = T0};
    make_sample(&s, &m);
    put(&m, m.bin.len - 4, &nan, sizeof nan);
    is_int(push_made(q, &m, &last), OT_OK, "taken");
    made_push_done(&m);
    is_int(label_rows(q, &(label_run){.n = 2, .value = 1}, &r), OT_OK, "labels");
    ok(ot_quality_accuracy(q, v, 0, INT64_MAX, &a, NULL) == OT_OK && a.labelled == 2 &&
           a.right == 1,
       "one is right, the other is not");
    is_int(label_rows(q, &(label_run){.n = 2, .value = 0}, &r), OT_OK, "corrected");
    ok(ot_quality_accuracy(q, v, 0, INT64_MAX, &a, NULL) == OT_OK && a.labelled == 2 &&
           a.right == 0,
       "nor is it now");
    ot_quality_destroy(q);
}

/* ---- what goes */

static ot_rc count_blob(void *arg, const ot_digest *d, uint64_t size, ot_error *err)
{
    (void)d;
    (void)size;
    (void)err;
    ++*(int *)arg;
    return OT_OK;
}

static int blobs(void)
{
    int n = 0;
    if (ot_blob_each(store, count_blob, &n, &last) != OT_OK) {
        ok(false, "blobs: %s", last.msg);
    }
    return n;
}

/* The files are of today, the clock is not: any age is old enough. */
static int collected(void)
{
    ot_blob_report r = {0};
    if (ot_registry_collect(store, -400000000 * SECOND, NULL, NULL, &r, &last) != OT_OK) {
        ok(false, "collect: %s", last.msg);
    }
    return (int)r.deleted;
}

static void test_retention(int64_t v)
{
    told t = {0};
    ot_quality_config cfg = labels_config("old", &t);
    size_t bytes = 10 * (8 + 8 + 4 + 8 + 12);
    cfg.sample_max_bytes = 3 * bytes;
    cfg.sample_keep_us = 1000 * BLOCK;
    ot_quality *q = open_quality(&cfg);
    ot_label_report r;
    now_us = T0;
    (void)collected();
    int before = blobs();
    sample_of s = {.deployment = "old", .version = v, .rows = 10};
    int bad = 0;
    for (uint64_t k = 0; k < 5; k++) {
        s.first = 10 * k;
        s.time_us = now_us = T0 + (int64_t)k * BLOCK;
        bad += push_sample(q, &s) != OT_OK;
        label_run l = {.first = s.first, .n = 10, .value = 1};
        bad += label_rows(q, &l, &r) != OT_OK || r.joined != 10;
    }
    is_int(bad, 0, "five segments");
    is_near(part_number(q, "samples", "segments"), 3, 0, "three are kept");
    is_near(part_number(q, "samples", "bytes"), (double)(3 * bytes), 0, "as many bytes");
    is_near(part_number(q, "samples", "oldest_us"), (double)(T0 + 2 * BLOCK), 0,
            "the oldest have gone");
    is_int(blobs(), before + 5, "their bytes are still there");
    is_int(collected(), 2, "until the collector comes");
    is_int(blobs(), before + 3, "which leaves those that are referred to");
    ot_accuracy a = {0};
    ok(ot_quality_accuracy(q, v, 0, INT64_MAX, &a, NULL) == OT_OK && a.labelled == 50,
       "what was proven with them stays");
    OT_AUTO(ot_table_done) ot_table rows = {0};
    ok(ot_quality_labelled(q, 0, 1000, "y", &rows, &last) == OT_OK && rows.rows == 30,
       "only rows that are there can be learnt from: %s", last.msg);

    now_us = s.time_us = T0 + 1003 * BLOCK + 100;
    s.first = 50;
    is_int(push_sample(q, &s), OT_OK, "much later");
    is_near(part_number(q, "samples", "segments"), 2, 0, "what is too old went too");
    ok(ot_quality_accuracy(q, v, 0, INT64_MAX, &a, NULL) == OT_OK && a.labelled == 10,
       "with its outcomes (%d are left)", (int)a.labelled);
    is_int(label_rows(q, &(label_run){.first = 0, .n = 1, .value = 1}, &r), OT_OK, "a label again");
    ok(r.accepted == 1 && r.waiting == 1, "is not known any more");
    is_int(ot_quality_labels_joined(q), 50, "what was joined was joined");
    is_int(collected(), 2, "the bytes of two went");
    before = blobs();
    sample_of again = {.deployment = "old",
                       .version = v,
                       .rows = 10,
                       .time_us = T0 + BLOCK,
                       .first = 10,
                       .seq = 1};
    is_int(push_sample(q, &again), OT_OK, "the second of all comes again");
    is_int(blobs(), before, "its bytes are not kept: nothing would refer to them");
    cfg.sample_keep_us = 0;
    cfg.sample_max_bytes = 0;
    ok(ot_quality_configure(q, &cfg, &last) == OT_OK, "no limits");
    now_us = s.time_us = T0 + 100000 * BLOCK;
    s.first = 60;
    is_int(push_sample(q, &s), OT_OK, "much later");
    is_near(part_number(q, "samples", "segments"), 3, 0, "nothing goes");
    ot_quality_destroy(q);
}

int main(void)
{
    fixture_start();
    int64_t v = add_version("digits", false);
    test_taken_once(v);
    test_events(v);
    test_refused(v);
    test_nan(v);
    test_listed(v);
    test_retention(v);
    fixture_end();
    return tap_done();
}
