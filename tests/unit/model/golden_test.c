/* Golden answers: reading, writing, rows of a batch, comparing. */
#include "model/golden.h"

#include "tap.h"

#include <stdlib.h>

#define TENSOR(n, dt, shape, data)                                                                 \
    "{\"name\": \"" n "\", \"datatype\": \"" dt "\", \"shape\": " shape ", \"data\": " data "}"
#define CASE(in, out) "{\"inputs\": [" in "], \"outputs\": [" out "]}"
#define GOLDEN(cases) "{\"tolerance\": {\"abs\": 0.5, \"rel\": 0}, \"cases\": [" cases "]}"

static ot_rc parse(const char *z, ot_golden *g, ot_error *e)
{
    return ot_golden_parse(z, strlen(z), g, e);
}

static void test_round_trip(void)
{
    ot_error e = {0};
    OT_AUTO(ot_golden_done) ot_golden g = {0};
    const char *z = GOLDEN(CASE(
        TENSOR("x", "FP32", "[1,2]", "[0.1, -3]") ", " TENSOR("id", "UINT64", "[1]",
                                                              "[18446744073709551615]"),
        TENSOR("y", "FP64", "[1]", "[0.1]") ", " TENSOR("t", "BYTES", "[1]", "[\"a\\u00e9\"]")));
    if (!ok(parse(z, &g, &e) == OT_OK, "read: %s", e.msg)) {
        return;
    }
    is_int(g.n_cases, 1, "one case");
    is_near(g.abs, 0.5, 0, "tolerance");
    is_near(ot_tensor_f64_at(&g.cases[0].inputs[0], 0), (double)0.1f, 0, "a float");
    uint64_t id;
    memcpy(&id, g.cases[0].inputs[1].data, sizeof id);
    ok(id == UINT64_MAX, "64 bits without loss");
    is_int(g.cases[0].outputs[1].size_bytes, 4 + 3, "text with its length");
    OT_AUTO(ot_str_done) ot_str first = OT_STR_INIT;
    OT_AUTO(ot_str_done) ot_str second = OT_STR_INIT;
    OT_AUTO(ot_golden_done) ot_golden again = {0};
    ok(ot_golden_write(&g, &first, &e) == OT_OK, "written");
    ok(ot_golden_parse(first.data, first.len, &again, &e) == OT_OK, "read again: %s", e.msg);
    ok(ot_golden_write(&again, &second, &e) == OT_OK, "written again");
    is_str(second.data, first.data, "the same text");
}

static const struct {
    const char *json, *says;
} refusals[] = {
    {"", "golden answers"},
    {"{}", "no cases"},
    {"{\"cases\": []}", "no cases"},
    {"{\"cases\": [{}]}", "case 0"},
    {GOLDEN(CASE("", TENSOR("y", "FP32", "[1]", "[1]"))), "needs inputs"},
    {GOLDEN(CASE(TENSOR("x", "FP32", "[1]", "[NaN]"), TENSOR("y", "FP32", "[1]", "[1]"))),
     "'x'[0] is NaN"},
    {GOLDEN(CASE(TENSOR("x", "FP32", "[1]", "[1]"), TENSOR("y", "FP64", "[2]", "[1, Infinity]"))),
     "'y'[1] is infinite"},
    {GOLDEN(CASE(TENSOR("x", "FP32", "[1]", "[1e39]"), TENSOR("y", "FP32", "[1]", "[1]"))), "'x'"},
    {GOLDEN(CASE(TENSOR("x", "FP32", "[2]", "[1]"), TENSOR("y", "FP32", "[1]", "[1]"))), "'x'"},
    {GOLDEN(
         CASE(TENSOR("x", "FP32", "[1000000,1000000]", "[1]"), TENSOR("y", "FP32", "[1]", "[1]"))),
     "67108864"},
    {GOLDEN(CASE(TENSOR("x", "F32", "[1]", "[1]"), TENSOR("y", "FP32", "[1]", "[1]"))), "F32"},
    {GOLDEN(CASE(TENSOR("x", "FP32", "[-1]", "[1]"), TENSOR("y", "FP32", "[1]", "[1]"))), "shape"},
    {"{\"cases\": [{\"inputs\": [{\"name\": \"x\"}]}]}", "needs name, datatype, shape and data"},
    {"{\"case\": []}", "'case' is not known"},
    {"{\"tolerance\": {\"abs\": -1}, \"cases\": []}", "abs -1"},
    {"{\"tolerance\": {\"rel\": NaN}, \"cases\": []}", "tolerance"},
    {"{\"tolerance\": {\"rle\": 1}, \"cases\": []}", "'rle'"},
    {GOLDEN(CASE(TENSOR("x", "FP32", "[1]", "[1]"), TENSOR("y", "FP32", "[1]", "[1]"))) "x",
     "golden answers"},
};

static void test_refused(void)
{
    for (size_t i = 0; i < OT_COUNT(refusals); i++) {
        OT_AUTO(ot_golden_done) ot_golden g = {0};
        ot_error e = {0};
        ot_rc rc = parse(refusals[i].json, &g, &e);
        if (!ok(rc != OT_OK && strstr(e.msg, refusals[i].says) != NULL && g.cases == NULL,
                "refused: %.60s", refusals[i].json)) {
            printf("# rc %d, '%s' has no '%s'\n", (int)rc, e.msg, refusals[i].says);
        }
    }
}

static void test_batch(void)
{
    const float x[] = {1, 2, 3, 4, 5, 6};
    const char text[] = "\3\0\0\0abc\0\0\0\0\1\0\0\0z";
    const int64_t y[] = {7, 8, 9};
    ot_tensor in[] = {
        {.name = "x", .dtype = OT_DT_FP32, .rank = 2, .dims = {3, 2}, .data = x, .size_bytes = 24},
        {.name = "t",
         .dtype = OT_DT_BYTES,
         .rank = 1,
         .dims = {3},
         .data = text,
         .size_bytes = sizeof text - 1}};
    ot_tensor out = {
        .name = "y", .dtype = OT_DT_INT64, .rank = 1, .dims = {3}, .data = y, .size_bytes = 24};
    ot_error e = {0};
    OT_AUTO(ot_golden_done) ot_golden g = {0};
    ok(ot_golden_from_batch(in, 2, &out, 1, 2, 1e-4, 1e-3, &g, &e) == OT_OK, "two rows: %s", e.msg);
    is_int(g.n_cases, 2, "a case each");
    ok(g.cases[1].inputs[0].dims[0] == 1 && g.cases[1].inputs[0].rank == 2 &&
           ot_tensor_f64_at(&g.cases[1].inputs[0], 1) == 4,
       "the second row of x");
    is_int(g.cases[0].inputs[1].size_bytes, 7, "the first text");
    is_int(g.cases[1].inputs[1].size_bytes, 4, "the second, which is empty");
    is_near(ot_tensor_f64_at(&g.cases[1].outputs[0], 0), 8, 0, "the second answer");
    OT_AUTO(ot_golden_done) ot_golden none = {0};
    ok(ot_golden_from_batch(in, 2, &out, 1, 4, 1e-4, 1e-3, &none, &e) == OT_INVALID &&
           strstr(e.msg, "3 rows; 4") != NULL,
       "more rows than there are: %s", e.msg);
    ok(ot_golden_from_batch(in, 2, &out, 1, 0, 1e-4, 1e-3, &none, &e) == OT_INVALID, "no rows");
    const float nan_row[] = {1, NAN, 3, 4, 5, 6};
    in[0].data = nan_row;
    ok(ot_golden_from_batch(in, 1, &out, 1, 1, 1e-4, 1e-3, &none, &e) == OT_INVALID &&
           strstr(e.msg, "'x'[1] is NaN") != NULL,
       "NaN is named: %s", e.msg);

    in[0].data = x;
    int failed = 0;
    for (uint64_t n = 1; n < 50; n++) {
        ot_mem_fail_nth(n);
        ot_rc rc = ot_golden_from_batch(in, 2, &out, 1, 3, 0, 0, &none, &e);
        uint64_t seen = ot_mem_fail_nth(0);
        if (rc == OT_OK && seen < n) {
            break;
        }
        failed += rc == OT_EXHAUSTED;
    }
    ok(failed > 0, "memory that is short is an error");
}

static void test_signature(void)
{
    const char *sig =
        "{\"inputs\": [{\"name\": \"x\", \"datatype\": \"FP32\", \"shape\": [-1, 2]}],"
        " \"outputs\": [{\"name\": \"y\", \"datatype\": \"FP32\", \"shape\": [-1]}]}";
    static const struct {
        const char *in, *out, *says;
    } cases[] = {
        {TENSOR("x", "FP32", "[1,2]", "[1,2]"), TENSOR("y", "FP32", "[1]", "[1]"), NULL},
        {TENSOR("z", "FP32", "[1,2]", "[1,2]"), TENSOR("y", "FP32", "[1]", "[1]"),
         "input 'x' of the signature is missing"},
        {TENSOR("x", "FP32", "[1,3]", "[1,2,3]"), TENSOR("y", "FP32", "[1]", "[1]"),
         "FP32 [-1,2] in the signature and FP32 [1,3] here"},
        {TENSOR("x", "FP64", "[1,2]", "[1,2]"), TENSOR("y", "FP32", "[1]", "[1]"), "FP64 [1,2]"},
        {TENSOR("x", "FP32", "[1,2]", "[1,2]"),
         TENSOR("y", "FP32", "[1]", "[1]") "," TENSOR("w", "FP32", "[1]", "[1]"), "2 outputs"},
    };
    ot_error e = {0};
    OT_AUTO(ot_manifest_done) ot_manifest m = {0};
    ok(ot_manifest_parse_signature(sig, strlen(sig), &m, &e) == OT_OK, "a signature");
    for (size_t i = 0; i < OT_COUNT(cases); i++) {
        OT_AUTO(ot_str_done) ot_str z = OT_STR_INIT;
        OT_AUTO(ot_golden_done) ot_golden g = {0};
        ot_str_addf(&z, "{\"cases\": [{\"inputs\": [%s], \"outputs\": [%s]}]}", cases[i].in,
                    cases[i].out);
        ok(parse(z.data, &g, &e) == OT_OK, "case %zu is read", i);
        e.msg[0] = 0;
        ot_rc rc = ot_golden_matches(&g, &m, &e);
        ok(cases[i].says == NULL ? rc == OT_OK
                                 : rc == OT_INVALID && strstr(e.msg, cases[i].says) != NULL,
           "case %zu against the signature: %s", i, e.msg);
    }
}

static void test_compare(void)
{
    float want[] = {1, 100, 0}, got[] = {1.00005f, 100.05f, 0};
    ot_tensor w = {
        .name = "y", .dtype = OT_DT_FP32, .rank = 1, .dims = {3}, .data = want, .size_bytes = 12};
    ot_tensor x = w;
    x.data = got;
    ot_error e = {0};
    ok(ot_golden_compare(&w, &x, 1e-4, 1e-3, &e) == OT_OK, "within tolerance");
    ok(ot_golden_compare(&w, &x, 1e-5, 0, &e) == OT_DATA_LOSS && strstr(e.msg, "'y'[0]") != NULL,
       "beyond: %s", e.msg);
    got[2] = NAN;
    ok(ot_golden_compare(&w, &x, 1e30, 1e30, &e) == OT_DATA_LOSS && strstr(e.msg, "nan") != NULL,
       "NaN never agrees: %s", e.msg);
    x.dims[0] = 2;
    x.size_bytes = 8;
    ok(ot_golden_compare(&w, &x, 1, 1, &e) == OT_DATA_LOSS && strstr(e.msg, "[2]") != NULL,
       "another shape: %s", e.msg);
    int32_t a[] = {1, 2}, b[] = {1, 3};
    ot_tensor p = {
        .name = "c", .dtype = OT_DT_INT32, .rank = 1, .dims = {2}, .data = a, .size_bytes = 8};
    ot_tensor q = p;
    q.data = b;
    ok(ot_golden_compare(&p, &p, 0, 0, &e) == OT_OK, "equal integers");
    ok(ot_golden_compare(&p, &q, 9, 9, &e) == OT_DATA_LOSS && strstr(e.msg, "'c'[1] is 3") != NULL,
       "integers know no tolerance: %s", e.msg);
}

int main(void)
{
    test_round_trip();
    test_refused();
    test_batch();
    test_signature();
    test_compare();
    return tap_done();
}
