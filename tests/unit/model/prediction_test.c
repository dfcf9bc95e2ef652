/* From an output tensor to classes, values and confidences. */
#include "model/prediction.h"

#include "base/mem.h"
#include "tap.h"

static ot_tensor tensor(ot_dtype dt, int rank, const int64_t *dims, const void *data)
{
    ot_tensor t = {.name = "y", .dtype = dt, .rank = rank, .data = data};
    memcpy(t.dims, dims, (size_t)rank * sizeof *dims);
    (void)ot_shape_bytes(dt, dims, rank, &t.size_bytes);
    return t;
}
#define DIMS(...)                                                                                  \
    (const int64_t[])                                                                              \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

static void test_scores(void)
{
    ot_prediction p[3];
    ot_error e = {0};
    const float s[] = {0.1f, 0.7f, 0.2f, 0.4f, 0.3f, 0.4f, 0.5f, NAN, 0.1f};
    ot_tensor t = tensor(OT_DT_FP32, 2, DIMS(3, 3), s);
    ok(ot_prediction_read(OT_PREDICTION_SCORES, &t, 3, p, &e) == OT_OK, "three rows");
    is_int(p[0].label, 1, "argmax");
    is_near(p[0].confidence, (double)0.7f, 0, "its score is the confidence");
    is_near(p[0].value, 1, 0, "its number is the value");
    is_int(p[1].label, 0, "of equals the first");
    ok(p[2].label == -1 && isnan(p[2].value) && isnan(p[2].confidence), "NaN gives no class");

    unsigned char shifted[1 + sizeof s];
    memcpy(shifted + 1, s, sizeof s);
    t.data = shifted + 1;
    ok(ot_prediction_read(OT_PREDICTION_SCORES, &t, 1, p, &e) == OT_OK && p[0].label == 1,
       "unaligned data");
    const double d[] = {0, -1, 3, 2};
    t = tensor(OT_DT_FP64, 3, DIMS(2, 1, 2), d);
    ok(ot_prediction_read(OT_PREDICTION_SCORES, &t, 2, p, &e) == OT_OK && p[0].label == 0 &&
           p[1].label == 0 && p[1].confidence == 3,
       "doubles, an axis of one between");
    const float minus[] = {-INFINITY, -INFINITY};
    t = tensor(OT_DT_FP32, 2, DIMS(1, 2), minus);
    ok(ot_prediction_read(OT_PREDICTION_SCORES, &t, 1, p, &e) == OT_OK && p[0].label == 0,
       "log scores may all be -infinity");
}

static void test_one_score(void)
{
    ot_prediction p[4];
    ot_error e = {0};
    const float s[] = {0.2f, 0.5f, 0.9f, NAN};
    for (int rank = 1; rank <= 2; rank++) {
        ot_tensor t = tensor(OT_DT_FP32, rank, DIMS(4, 1), s);
        ok(ot_prediction_read(OT_PREDICTION_SCORES, &t, 4, p, &e) == OT_OK, "rank %d", rank);
        ok(p[0].label == 0 && fabs(p[0].confidence - 0.8) < 1e-7, "below a half: class 0");
        ok(p[1].label == 1 && p[2].label == 1, "else class 1");
        ok(p[3].label == -1, "NaN: none");
    }
}

static void test_labels_and_values(void)
{
    ot_prediction p[3];
    ot_error e = {0};
    const int64_t big[] = {INT64_MAX, -4, 0};
    ot_tensor t = tensor(OT_DT_INT64, 1, DIMS(3), big);
    ok(ot_prediction_read(OT_PREDICTION_LABEL, &t, 3, p, &e) == OT_OK, "labels");
    ok(p[0].label == INT64_MAX && p[1].label == -1 && p[2].label == 0, "exact; negative is none");
    const uint64_t u[] = {UINT64_MAX, 3};
    t = tensor(OT_DT_UINT64, 2, DIMS(2, 1), u);
    ok(ot_prediction_read(OT_PREDICTION_LABEL, &t, 2, p, &e) == OT_OK && p[0].label == -1 &&
           p[1].label == 3,
       "beyond int64: none");
    const unsigned char b[] = {0, 1};
    t = tensor(OT_DT_BOOL, 1, DIMS(2), b);
    ok(ot_prediction_read(OT_PREDICTION_LABEL, &t, 2, p, &e) == OT_OK && p[1].label == 1, "BOOL");
    const double v[] = {2.5, -1};
    t = tensor(OT_DT_FP64, 2, DIMS(2, 1), v);
    ok(ot_prediction_read(OT_PREDICTION_VALUE, &t, 2, p, &e) == OT_OK && p[0].value == 2.5 &&
           p[0].label == -1 && isnan(p[0].confidence),
       "a value has no class and no confidence");
    t = tensor(OT_DT_FP64, 0, DIMS(0), v);
    ok(ot_prediction_read(OT_PREDICTION_VALUE, &t, 1, p, &e) == OT_OK && p[0].value == 2.5,
       "a scalar is one row");
}

static void test_refused(void)
{
    ot_prediction p[4];
    ot_error e = {0};
    const float s[12] = {0};
    ot_tensor t = tensor(OT_DT_FP32, 2, DIMS(2, 3), s);
    ok(ot_prediction_read(OT_PREDICTION_LABEL, &t, 2, p, &e) == OT_INVALID, "labels of floats: %s",
       e.msg);
    ok(ot_prediction_read(OT_PREDICTION_VALUE, &t, 2, p, &e) == OT_INVALID,
       "three values a row: %s", e.msg);
    ok(ot_prediction_read(OT_PREDICTION_SCORES, &t, 3, p, &e) == OT_INVALID, "more rows: %s",
       e.msg);
    ok(ot_prediction_read(OT_PREDICTION_SCORES, &t, -1, p, &e) == OT_INVALID, "fewer than none");
    ok(ot_prediction_read(OT_PREDICTION_NONE, &t, 1, p, &e) == OT_INVALID, "no kind");
    ok(ot_prediction_read(OT_PREDICTION_SCORES, &t, 0, p, &e) == OT_OK, "no rows are fine");
    t = tensor(OT_DT_FP32, 3, DIMS(2, 2, 3), s);
    ok(ot_prediction_read(OT_PREDICTION_SCORES, &t, 2, p, &e) == OT_INVALID, "two places a row: %s",
       e.msg);
    t = tensor(OT_DT_FP32, 2, DIMS(2, 0), s);
    ok(ot_prediction_read(OT_PREDICTION_SCORES, &t, 2, p, &e) == OT_INVALID, "no classes: %s",
       e.msg);
    t = tensor(OT_DT_FP32, 2, DIMS(2, 3), s);
    t.size_bytes = 8;
    ok(ot_prediction_read(OT_PREDICTION_SCORES, &t, 2, p, &e) == OT_INVALID, "data too short");
    t.dtype = OT_DT_BYTES;
    ok(ot_prediction_read(OT_PREDICTION_VALUE, &t, 1, p, &e) == OT_INVALID, "BYTES");
}

static void test_guess(void)
{
    static const struct {
        const char *outputs;
        ot_prediction_kind kind;
        size_t output;
        int64_t classes;
    } cases[] = {
        {"{\"name\": \"y\", \"datatype\": \"FP32\", \"shape\": [-1, 10]}", OT_PREDICTION_SCORES, 0,
         10},
        {"{\"name\": \"label\", \"datatype\": \"INT64\", \"shape\": [-1]}, {\"name\": "
         "\"probabilities\", \"datatype\": \"FP32\", \"shape\": [-1, 3]}",
         OT_PREDICTION_SCORES, 1, 3},
        {"{\"name\": \"y\", \"datatype\": \"INT64\", \"shape\": [-1, 1]}", OT_PREDICTION_LABEL, 0,
         0},
        {"{\"name\": \"y\", \"datatype\": \"FP32\", \"shape\": [-1, 1]}", OT_PREDICTION_NONE, 0, 0},
        {"{\"name\": \"a\", \"datatype\": \"FP32\", \"shape\": [-1, 9]}, {\"name\": \"b\", "
         "\"datatype\": \"FP32\", \"shape\": [-1, 9]}",
         OT_PREDICTION_NONE, 0, 0},
    };
    for (size_t i = 0; i < OT_COUNT(cases); i++) {
        OT_AUTO(ot_str_done) ot_str z = OT_STR_INIT;
        OT_AUTO(ot_manifest_done) ot_manifest m = {0};
        ot_error e = {0};
        size_t output = 0;
        ot_str_addf(&z,
                    "{\"inputs\": [{\"name\": \"x\", \"datatype\": \"FP32\", \"shape\": [-1]}], "
                    "\"outputs\": [%s]}",
                    cases[i].outputs);
        ok(ot_manifest_parse_signature(z.data, z.len, &m, &e) == OT_OK, "signature %zu: %s", i,
           e.msg);
        m.prediction_kind = ot_prediction_guess(&m, &output);
        m.prediction_output = output;
        ok(m.prediction_kind == cases[i].kind && output == cases[i].output, "guess %zu is %s", i,
           ot_prediction_kind_name(m.prediction_kind));
        is_int(ot_prediction_classes(&m), cases[i].classes, "its classes");
    }
}

int main(void)
{
    test_scores();
    test_one_score();
    test_labels_and_values();
    test_refused();
    test_guess();
    return tap_done();
}
