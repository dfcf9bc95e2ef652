/* The golden check against models that are right, wrong, and wrong only when batched. */
#include "null_model.h"
#include "runtime/golden.h"

static ot_runtime *rt;

typedef struct cases {
    ot_golden_row rows[4];
    ot_tensor in[4], out[4];
    float x[8], y[8];
} cases;

/* Four rows of two; `wide`: the output has two columns too (center), else one number (sum). */
static void fill(cases *c, bool wide)
{
    for (int i = 0; i < 4; i++) {
        c->x[2 * i] = (float)i;
        c->x[2 * i + 1] = (float)(10 * i);
        c->in[i] = (ot_tensor){.name = "x",
                               .dtype = OT_DT_FP32,
                               .rank = 2,
                               .dims = {1, 2},
                               .data = &c->x[2 * i],
                               .size_bytes = 8};
        c->y[i] = wide ? 0 : (float)(11 * i);
        c->out[i] = (ot_tensor){.name = "y",
                                .dtype = OT_DT_FP32,
                                .rank = wide ? 2 : 1,
                                .dims = {1, 2},
                                .data = wide ? c->y + 4 : c->y + i,
                                .size_bytes = wide ? 8 : 4};
        c->rows[i] = (ot_golden_row){.inputs = &c->in[i], .outputs = &c->out[i], .n_inputs = 1, 1};
    }
    c->y[4] = c->y[5] = 0;
}

static void test_right(void)
{
    cases c;
    ot_golden_result g;
    ot_error err;
    ot_model *m = load_null(rt, SUM_MODEL, "{}");
    fill(&c, false);
    is_int(ot_golden_check(m, c.rows, 4, 1e-6, 0, 0, 16, &g, &err), OT_OK, "a model that is right");
    ok(g.correct && g.batching && g.reason[0] == '\0', "is found right, batching on");
    is_int(g.cases_checked, 4, "four cases were run");
    is_int(g.batch_checked, 16, "and a batch of the limit");
    is_int(ot_golden_check(m, c.rows, 4, 1e-6, 0, -1, 16, &g, &err), OT_OK, "no batch axis");
    ok(g.correct && !g.batching, "batching is off: %s", g.reason);
    is_int(ot_golden_check(m, c.rows, 4, 1e-6, 0, 1, 16, &g, &err), OT_OK, "axis 1");
    ok(g.correct && !g.batching, "batching is off: %s", g.reason);
    is_int(ot_golden_check(m, c.rows, 1, 1e-6, 0, 0, 1, &g, &err), OT_OK, "a limit of 1");
    ok(g.correct && !g.batching, "batching is off: %s", g.reason);
    is_int(ot_golden_check(m, c.rows, 1, 1e-6, 0, 0, 8, &g, &err), OT_OK, "a single case");
    ok(g.batching && g.batch_checked == 8, "is batched with itself");
    ot_model_unref(m);
}

static void test_wrong(void)
{
    cases c;
    ot_golden_result g;
    ot_error err;
    ot_model *m = load_null(rt, SUM_MODEL, "{}");
    fill(&c, false);
    c.y[2] += 0.5f;
    is_int(ot_golden_check(m, c.rows, 4, 1e-3, 0, 0, 16, &g, &err), OT_OK, "a wrong answer");
    ok(!g.correct && !g.batching && strstr(g.reason, "case 2") != NULL, "is named: %s", g.reason);
    is_int(ot_golden_check(m, c.rows, 4, 0.6, 0, 0, 16, &g, &err), OT_OK, "a wider tolerance");
    ok(g.correct && g.batching, "accepts it");
    is_near(g.abs_max, 0.5, 1e-5, "and reports the difference");
    is_int(ot_golden_check(m, c.rows, 0, 1, 0, 0, 16, &g, &err), OT_INVALID, "no cases");
    is_int(ot_golden_check(m, c.rows, 4, -1, 0, 0, 16, &g, &err), OT_INVALID, "bad tolerance");
    c.in[1].name = "z";
    is_int(ot_golden_check(m, c.rows, 4, 1, 0, 0, 16, &g, &err), OT_INVALID, "a wrong input: %s",
           err.msg);
    ot_model_unref(m);
}

/* Rows that depend on their neighbours: right alone, wrong in company. */
static void test_wrong_batched(void)
{
    static const char center[] =
        "{\"inputs\": [{\"name\": \"x\", \"datatype\": \"FP32\", \"shape\": [-1, 2]}],"
        " \"outputs\": [{\"name\": \"y\", \"datatype\": \"FP32\", \"shape\": [-1, 2]}],"
        " \"op\": \"center\"}";
    cases c;
    ot_golden_result g;
    ot_error err;
    ot_model *m = load_null(rt, center, "{}");
    fill(&c, true);
    is_int(ot_golden_check(m, c.rows, 4, 1e-6, 0, 0, 16, &g, &err), OT_OK, "center");
    ok(g.correct, "is right alone");
    ok(!g.batching && strstr(g.reason, "batch of 2") != NULL, "and not batched: %s", g.reason);
    ot_model_unref(m);
    m = load_null(rt, SUM_MODEL, "{\"fail_every\": 5}");
    fill(&c, false);
    is_int(ot_golden_check(m, c.rows, 4, 1e-6, 0, 0, 16, &g, &err), OT_OK, "a batch that fails");
    ok(g.correct && !g.batching && strstr(g.reason, "failed") != NULL, "is no batching: %s",
       g.reason);
    ot_model_unref(m);
}

/* Text: rows of a batch are found by walking the elements. */
static void test_strings(void)
{
    static const char text[] =
        "{\"inputs\": [{\"name\": \"x\", \"datatype\": \"BYTES\", \"shape\": [-1, 2]}],"
        " \"outputs\": [{\"name\": \"y\", \"datatype\": \"BYTES\", \"shape\": [-1, 2]}],"
        " \"op\": \"identity\"}";
    static const char a[] = "\1\0\0\0a\2\0\0\0bc", b[] = "\0\0\0\0\3\0\0\0def";
    ot_tensor t[2] = {{.name = "x", .dtype = OT_DT_BYTES, .rank = 2, .dims = {1, 2}, a, 11},
                      {.name = "x", .dtype = OT_DT_BYTES, .rank = 2, .dims = {1, 2}, b, 11}};
    ot_tensor want[2] = {t[0], t[1]};
    want[0].name = want[1].name = "y";
    ot_golden_row rows[2] = {{&t[0], &want[0], 1, 1}, {&t[1], &want[1], 1, 1}};
    ot_golden_result g;
    ot_error err;
    ot_model *m = load_null(rt, text, "{}");
    is_int(ot_golden_check(m, rows, 2, 0, 0, 0, 8, &g, &err), OT_OK, "strings");
    ok(g.correct && g.batching, "agree alone and batched %s", g.reason);
    want[1].data = a;
    is_int(ot_golden_check(m, rows, 2, 0, 0, 0, 8, &g, &err), OT_OK, "wrong strings");
    ok(!g.correct, "differ: %s", g.reason);
    ot_model_unref(m);
}

int main(void)
{
    ot_error err;
    if (!have_null_plugin()) {
        return tap_done();
    }
    test_dir_make();
    if (ok(ot_runtime_create(build_plugins(), &rt, &err) == OT_OK, "registry")) {
        test_right();
        test_wrong();
        test_wrong_batched();
        test_strings();
    }
    ot_runtime_unref(rt);
    test_dir_remove();
    return tap_done();
}
