/* The binary form of a sample: which bytes are what. What is refused is in samples_test.c. */
#include "quality/segment.h"

#include "tap.h"

#include <stdlib.h>

#define ROWS 3

/* u64 seq, i64 time, f32 probability, x FP32 [2], n INT8 [], scores FP64 [1], keys */
static size_t fill(uint8_t *p)
{
    uint8_t *start = p;
    for (uint64_t i = 0; i < ROWS; i++, p += 8) {
        memcpy(p, &(uint64_t){(i << 40) + 5}, 8);
    }
    for (int64_t i = 0; i < ROWS; i++, p += 8) {
        memcpy(p, &(int64_t){1000 - i}, 8);
    }
    for (int i = 0; i < ROWS; i++, p += 4) {
        memcpy(p, &(float){1.0f / (float)(i + 1)}, 4);
    }
    for (int i = 0; i < 2 * ROWS; i++, p += 4) {
        memcpy(p, &(float){(float)i}, 4);
    }
    for (int i = 0; i < ROWS; i++, p++) {
        *p = (uint8_t)(10 + i);
    }
    for (int i = 0; i < ROWS; i++, p += 8) {
        memcpy(p, &(double){0.25 * i}, 8);
    }
    memcpy(p, "\2\0ab\0\0\3\0cde", 11);
    return (size_t)(p + 11 - start);
}

static json_t *meta_of(const char *role)
{
    return json_pack("{s:i,s:s,s:i,s:i,s:b,s:[{s:s,s:s,s:[i]},{s:s,s:s,s:[]}],s:[{s:s,s:s,s:[i]}]}",
                     "version", 7, "role", role, "rows", ROWS, "dropped_rows", 9, "keys", 1,
                     "inputs", "name", "x", "datatype", "FP32", "shape", 2, "name", "n", "datatype",
                     "INT8", "shape", "outputs", "name", "scores", "datatype", "FP64", "shape", 1);
}

static void test_columns(void)
{
    uint8_t bytes[512];
    ot_error e = {0};
    q_segment s;
    uint8_t *odd = bytes + 1; /* of any alignment */
    size_t n = fill(odd);
    json_t *meta = meta_of("live");
    is_int(q_segment_parse(meta, odd, n, &s, &e), OT_OK, "parsed %s", e.msg);
    ok(s.version == 7 && !s.shadow && s.rows == ROWS && s.dropped_rows == 9, "the description");
    ok(q_segment_seq(&s, 0) == 5 && q_segment_seq(&s, 2) == (UINT64_C(2) << 40) + 5, "numbers");
    ok(q_segment_time(&s, 0) == 1000 && q_segment_time(&s, 2) == 998, "times");
    ok(q_segment_probability(&s, 0) == 1 && q_segment_probability(&s, 1) == 0.5f, "probabilities");
    ok(s.n_inputs == 2 && s.n_outputs == 1, "tensors");
    const ot_tensor *x = &s.inputs[0], *one = &s.inputs[1], *y = &s.outputs[0];
    is_str(x->name, "x", "the first");
    ok(x->rank == 2 && x->dims[0] == ROWS && x->dims[1] == 2 && x->size_bytes == 24,
       "the row is its first axis");
    ok(one->rank == 1 && one->dims[0] == ROWS && one->dtype == OT_DT_INT8 && one->size_bytes == 3,
       "a number a row has no other");
    float six[6];
    double scores[ROWS];
    memcpy(six, x->data, sizeof six);
    memcpy(scores, y->data, sizeof scores);
    ok(six[0] == 0 && six[5] == 5 && ((const uint8_t *)one->data)[2] == 12 && scores[2] == 0.5,
       "each with its own bytes");
    json_decref(meta);
}

static void test_keys(void)
{
    uint8_t bytes[512];
    q_segment s;
    ot_error e = {0};
    const char *p = NULL;
    size_t offset = 0, n = fill(bytes), len = 0;
    json_t *meta = meta_of("shadow");
    is_int(q_segment_parse(meta, bytes, n, &s, &e), OT_OK, "parsed %s", e.msg);
    ok(s.shadow, "of a shadow");
    ok(q_segment_key(&s, &offset, &p, &len) && len == 2 && memcmp(p, "ab", 2) == 0, "a key");
    ok(q_segment_key(&s, &offset, &p, &len) && len == 0, "an empty one");
    ok(q_segment_key(&s, &offset, &p, &len) && len == 3 && memcmp(p, "cde", 3) == 0, "the last");
    ok(!q_segment_key(&s, &offset, &p, &len), "no more");
    json_object_set_new(meta, "keys", json_false());
    is_int(q_segment_parse(meta, bytes, n, &s, &e), OT_INVALID, "%s", e.msg);
    is_int(q_segment_parse(meta, bytes, n - 11, &s, &e), OT_OK, "without keys");
    offset = 0;
    ok(!q_segment_key(&s, &offset, &p, &len), "there are none");
    json_decref(meta);
}

/* Each length but the right one is refused, from memory that ends where the bytes do, and nothing
 * is given out then. */
/* Two rows of BYTES: [2] of "a" "" and "bcd" "e"; then text without axes. */
static void test_bytes(void)
{
    static const char text[] = "\1\0\0\0a\0\0\0\0\3\0\0\0bcd\1\0\0\0e\2\0\0\0hi\0\0\0\0";
    uint8_t bytes[128] = {0};
    uint8_t *p = bytes;
    q_segment s;
    ot_error e = {0};
    for (int i = 0; i < 4; i++, p += 8) {
        memcpy(p, &(int64_t){1 + i}, 8);
    }
    for (int i = 0; i < 2; i++, p += 4) {
        memcpy(p, &(float){1}, 4);
    }
    memcpy(p, text, sizeof text - 1);
    size_t n = (size_t)(p - bytes) + sizeof text - 1, offset = 0, len;
    json_t *meta = json_pack("{s:i,s:s,s:i,s:[{s:s,s:s,s:[i]}],s:[{s:s,s:s,s:[]}]}", "version", 7,
                             "role", "live", "rows", 2, "inputs", "name", "x", "datatype", "BYTES",
                             "shape", 2, "outputs", "name", "y", "datatype", "BYTES", "shape");
    is_int(q_segment_parse(meta, bytes, n, &s, &e), OT_OK, "texts: %s", e.msg);
    const char *at = "";
    is_int(s.inputs[0].size_bytes, 21, "as long as their elements");
    ok(ot_tensor_bytes_next(&s.outputs[0], &offset, &at, &len) && len == 2 &&
           memcmp(at, "hi", 2) == 0,
       "what follows them");
    for (size_t cut = 1; cut <= sizeof text - 1; cut++) {
        if (q_segment_parse(meta, bytes, n - cut, &s, &e) != OT_INVALID) {
            ok(false, "cut by %zu bytes is taken", cut);
        }
    }
    ok(true, "cut anywhere it is refused: %s", e.msg);
    p[0] = 0xff;
    p[3] = 0xff;
    ok(q_segment_parse(meta, bytes, n, &s, &e) == OT_INVALID, "a length that lies: %s", e.msg);
    json_decref(meta);
}

static void test_lengths(void)
{
    uint8_t bytes[512];
    size_t n = fill(bytes);
    json_t *meta = meta_of("live");
    q_segment s, before;
    memset(&s, 0x5a, sizeof s);
    before = s;
    int wrong = 0;
    for (size_t k = 0; k <= n + 1; k++) {
        uint8_t *exact = malloc(k > 0 ? k : 1);
        memcpy(exact, bytes, k);
        ot_error e = {0};
        ot_rc rc = k == n ? OT_INVALID : q_segment_parse(meta, exact, k, &s, &e);
        wrong += rc != OT_INVALID || memcmp(&s, &before, sizeof s) != 0;
        wrong += k != n && e.msg[0] == 0;
        free(exact);
    }
    is_int(wrong, 0, "%zu lengths", n + 1);
    ot_error e = {0};
    ok(q_segment_parse(meta, bytes, Q_SEGMENT_BYTES_MAX + 1, &s, &e) == OT_INVALID &&
           strstr(e.msg, "at most") != NULL,
       "more than a segment may have: %s", e.msg);
    is_int(q_segment_parse(NULL, bytes, n, &s, &e), OT_INVALID, "no description: %s", e.msg);
    json_decref(meta);
}

int main(void)
{
    test_columns();
    test_keys();
    test_bytes();
    test_lengths();
    return tap_done();
}
