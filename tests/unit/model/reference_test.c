/* References: what is counted under which name, and that it survives writing. */
#include "model/reference.h"

#include "base/mem.h"
#include "tap.h"

#define ROWS 500

static float x[ROWS][2][3];
static unsigned char flag[ROWS];
static ot_tensor inputs[2];

static void make_inputs(void)
{
    for (int r = 0; r < ROWS; r++) {
        for (int i = 0; i < 6; i++) {
            x[r][i / 3][i % 3] = (float)((r * 7 + i * 13) % 101);
        }
        flag[r] = (unsigned char)(r % 4 == 0);
    }
    x[3][0][1] = NAN;
    inputs[0] = (ot_tensor){.name = "pixel",
                            .dtype = OT_DT_FP32,
                            .rank = 3,
                            .dims = {ROWS, 2, 3},
                            .data = x,
                            .size_bytes = sizeof x};
    inputs[1] = (ot_tensor){.name = "flag",
                            .dtype = OT_DT_BOOL,
                            .rank = 1,
                            .dims = {ROWS},
                            .data = flag,
                            .size_bytes = sizeof flag};
}

static void test_inputs(void)
{
    ot_error e = {0};
    OT_AUTO(ot_reference_done) ot_reference r = {0};
    if (!ok(ot_reference_of_inputs(inputs, 2, ROWS, &r, &e) == OT_OK, "made: %s", e.msg)) {
        return;
    }
    is_int(ot_hist_schema_features(r.schema), 7, "every number is a feature");
    is_str(ot_hist_schema_name(r.schema, 0), "pixel_0_0", "named after its place");
    is_str(ot_hist_schema_name(r.schema, 5), "pixel_1_2", "to the last");
    is_str(ot_hist_schema_name(r.schema, 6), "flag", "one a row: the name alone");
    is_int(ot_hist_schema_kind(r.schema, 6), OT_HIST_CATEGORY, "BOOL is a category");
    is_int(r.counts.rows, ROWS, "all rows are counted");
    is_int(ot_hist_table_cells(&r.counts, 1)[OT_HIST_MISSING], 1, "NaN is missing");
    uint64_t sum = 0;
    for (int c = 0; c < OT_HIST_CELLS; c++) {
        sum += ot_hist_table_cells(&r.counts, 2)[c];
    }
    is_int(sum, ROWS, "each row in one cell");

    OT_AUTO(ot_str_done) ot_str s = OT_STR_INIT;
    OT_AUTO(ot_reference_done) ot_reference again = {0};
    ok(ot_reference_write(&r, &s, &e) == OT_OK, "written");
    ok(ot_reference_read(s.data, s.len, &again, &e) == OT_OK, "read: %s", e.msg);
    is_int(again.counts.rows, ROWS, "the same rows");
    ok(ot_hist_schema_id(again.schema) == ot_hist_schema_id(r.schema), "the same schema");
    bool same = true;
    for (size_t f = 0; f < 7; f++) {
        same &= memcmp(ot_hist_table_cells(&again.counts, f), ot_hist_table_cells(&r.counts, f),
                       (OT_HIST_MISSING + 1) * sizeof(uint32_t)) == 0;
    }
    ok(same, "the same counts");
    for (size_t cut = 0; cut < s.len; cut += 1 + s.len / 50) {
        OT_AUTO(ot_reference_done) ot_reference none = {0};
        if (ot_reference_read(s.data, cut, &none, &e) == OT_OK || none.schema != NULL) {
            ok(false, "cut at %zu of %zu is accepted", cut, s.len);
        }
    }
}

static void test_features(void)
{
    static const struct {
        const char *inputs;
        size_t n;
    } cases[] = {
        {"{\"name\": \"a\", \"datatype\": \"FP32\", \"shape\": [-1, 8, 8]}, {\"name\": \"b\", "
         "\"datatype\": \"INT64\", \"shape\": [-1]}",
         65},
        {"{\"name\": \"a\", \"datatype\": \"FP32\", \"shape\": [-1, -1]}", 0},
        {"{\"name\": \"a\", \"datatype\": \"BYTES\", \"shape\": [-1]}", 0},
        {"{\"name\": \"a\", \"datatype\": \"FP32\", \"shape\": []}", 0},
        {"{\"name\": \"a\", \"datatype\": \"FP32\", \"shape\": [-1, 16385]}", 0},
        {"{\"name\": \"a\", \"datatype\": \"FP32\", \"shape\": [-1, 4000000000, 4000000000, "
         "4000000000]}",
         0},
    };
    for (size_t i = 0; i < OT_COUNT(cases); i++) {
        OT_AUTO(ot_str_done) ot_str z = OT_STR_INIT;
        OT_AUTO(ot_manifest_done) ot_manifest m = {0};
        ot_error e = {0};
        ot_str_addf(&z,
                    "{\"inputs\": [%s], \"outputs\": [{\"name\": \"y\", \"datatype\": \"FP32\", "
                    "\"shape\": [-1]}]}",
                    cases[i].inputs);
        ok(ot_manifest_parse_signature(z.data, z.len, &m, &e) == OT_OK, "signature %zu: %s", i,
           e.msg);
        is_int(ot_reference_features(&m), cases[i].n, "features of signature %zu", i);
    }
}

static void test_predictions(void)
{
    ot_error e = {0};
    ot_prediction p[300];
    for (int i = 0; i < 300; i++) {
        p[i] = (ot_prediction){.label = i % 3, .value = i % 3, .confidence = 0.5 + i / 1000.0};
    }
    OT_AUTO(ot_reference_done) ot_reference scores = {0};
    OT_AUTO(ot_reference_done) ot_reference values = {0};
    OT_AUTO(ot_reference_done) ot_reference none = {0};
    ok(ot_reference_of_predictions(OT_PREDICTION_SCORES, p, 300, &scores, &e) == OT_OK, "scores");
    is_int(ot_hist_schema_find(scores.schema, "prediction"), 0, "feature prediction");
    is_int(ot_hist_schema_find(scores.schema, "confidence"), 1, "feature confidence");
    is_int(ot_hist_schema_kind(scores.schema, 0), OT_HIST_CATEGORY, "classes are a category");
    unsigned cell = ot_hist_schema_cell(scores.schema, 0, 2);
    is_int(ot_hist_table_cells(&scores.counts, 0)[cell], 100, "a third of them is class 2");
    ok(ot_reference_of_predictions(OT_PREDICTION_VALUE, p, 300, &values, &e) == OT_OK, "values");
    ok(ot_hist_schema_features(values.schema) == 1 &&
           ot_hist_schema_kind(values.schema, 0) == OT_HIST_NUMERIC,
       "one numeric feature");
    ok(ot_reference_of_predictions(OT_PREDICTION_NONE, p, 300, &none, &e) == OT_INVALID, "no kind");
    ok(ot_reference_of_predictions(OT_PREDICTION_VALUE, p, 0, &none, &e) == OT_INVALID, "no rows");
}

static void test_refused(void)
{
    ot_error e = {0};
    OT_AUTO(ot_reference_done) ot_reference r = {0};
    ok(ot_reference_of_inputs(inputs, 2, ROWS + 1, &r, &e) == OT_INVALID, "more rows: %s", e.msg);
    ok(ot_reference_of_inputs(inputs, 0, ROWS, &r, &e) == OT_INVALID, "no inputs: %s", e.msg);
    ot_tensor text = {.name = "t", .dtype = OT_DT_BYTES, .rank = 1, .dims = {0}};
    ok(ot_reference_of_inputs(&text, 1, 0, &r, &e) == OT_INVALID, "no rows");
    ot_tensor wide = inputs[0];
    wide.rank = 2;
    wide.dims[0] = 0;
    wide.dims[1] = OT_HIST_FEATURES_MAX + 1;
    wide.size_bytes = 0;
    ok(ot_reference_of_inputs(&wide, 1, 1, &r, &e) != OT_OK, "no rows of many: %s", e.msg);
    int failed = 0;
    for (uint64_t n = 1; n < 100; n++) {
        ot_mem_fail_nth(n);
        ot_rc rc = ot_reference_of_inputs(inputs, 2, ROWS, &r, &e);
        uint64_t seen = ot_mem_fail_nth(0);
        if (rc == OT_OK && seen < n) {
            break;
        }
        ot_reference_done(&r);
        failed += rc == OT_EXHAUSTED;
    }
    ok(failed > 2, "memory that is short is an error");
}

int main(void)
{
    make_inputs();
    test_inputs();
    test_features();
    test_predictions();
    test_refused();
    return tap_done();
}
