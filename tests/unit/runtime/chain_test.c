/* Chains: what chain.json may say, signatures against each other, and runs of the tutorial
 * plug-in's models one after the other. */
#include "runtime/chain.h"

#include "base/clock.h"
#include "null_model.h"

/* ---- chain.json */

static const struct {
    const char *text, *says;
} refused[] = {
    {"", "line 1, column 0"},
    {"{\n \"steps\": [}", "line 2, column 12"},
    {"[]", "an object is expected"},
    {"{}", "steps: 0; a list of 1 to 16"},
    {"{\"step\": []}", "step: not known; did you mean 'steps'?"},
    {"{\"zzzzz\": []}", "zzzzz: not known; there are inputs, outputs and steps"},
    {"{\"steps\": [1]}", "steps[0]: an object"},
    {"{\"steps\": [{}]}", "steps[0].model: a name is expected"},
    {"{\"steps\": [{\"modl\": \"a\"}]}", "steps[0].modl: not known; did you mean 'model'?"},
    {"{\"steps\": [{\"model\": \"../a\"}]}", "steps[0].model: '../a' is not the name of a folder"},
    {"{\"steps\": [{\"model\": \"a\", \"name\": \"a b\"}]}", "steps[0].name: 'a b' is not"},
    {"{\"steps\": [{\"model\": \"a\"}, {\"model\": \"a\"}]}",
     "steps[1].name: 'a' is the name of an earlier step too"},
    {"{\"steps\": [{\"model\": \"a\", \"inputs\": 1}]}", "steps[0].inputs: an object"},
    {"{\"steps\": [{\"model\": \"a\", \"inputs\": {\"x\": 1}}]}", "steps[0].inputs.x: the name of"},
    {"{\"steps\": [{\"model\": \"a\", \"inputs\": {\"x\": [\"a\"]}}]}",
     "steps[0].inputs.x: [STEP, OUTPUT]"},
    {"{\"steps\": [{\"model\": \"a\", \"inputs\": {\"x\": [\"a\", \"y\"]}}]}",
     "steps[0].inputs.x: step 'a' is this very one"},
    {"{\"steps\": [{\"model\": \"a\", \"inputs\": {\"x\": [\"b\", \"y\"]}}, {\"model\": \"b\"}]}",
     "steps[0].inputs.x: step 'b' comes later"},
    {"{\"steps\": [{\"model\": \"first\"}, {\"model\": \"b\", \"inputs\": {\"x\": [\"fist\", "
     "\"y\"]}}]}",
     "steps[1].inputs.x: there is no step 'fist'; did you mean 'first'?"},
    {"{\"steps\": [{\"model\": \"a\"}], \"outputs\": {\"y\": \"x\"}}", "outputs.y: [STEP, OUTPUT]"},
    {"{\"steps\": [{\"model\": \"a\"}], \"outputs\": {\"y\": [\"c\", \"y\"]}}",
     "outputs.y: there is no step 'c'"},
    {"{\"steps\": [{\"model\": \"a\"}], \"outputs\": {}}", "outputs: none"},
    {"{\"steps\": [{\"model\": \"a\"}], \"inputs\": []}", "inputs: a list of 1 to 256"},
    {"{\"steps\": [{\"model\": \"a\"}], \"inputs\": [\"x\", \"x\"]}",
     "inputs[1]: 'x' is there twice"},
    {"{\"steps\": [{\"model\": \"a\"}], \"inputs\": [\"\"]}", "inputs[0]: a name is expected"},
    {"{\"steps\": [{\"model\": \"a\", \"model\": \"b\"}]}", "line 1, column 33"},
};

static void test_what_is_refused(void)
{
    ot_chain c;
    ot_error err;
    for (size_t i = 0; i < OT_COUNT(refused); i++) {
        ot_rc rc = ot_chain_read(refused[i].text, strlen(refused[i].text), &c, &err);
        ok(rc == OT_INVALID && strstr(err.msg, refused[i].says) != NULL, "%s", err.msg);
    }
    OT_AUTO(ot_str_done) ot_str many = OT_STR_INIT;
    for (int n = OT_CHAIN_STEPS_MAX; n <= OT_CHAIN_STEPS_MAX + 1; n++) {
        ot_str_clear(&many);
        for (int i = 0; i < n; i++) {
            ot_str_addf(&many, "%s{\"model\": \"m%d\"}", i == 0 ? "{\"steps\": [" : ", ", i);
        }
        ot_str_adds(&many, "]}");
        ot_rc rc = ot_chain_read(many.data, many.len, &c, &err);
        is_int(rc, n == OT_CHAIN_STEPS_MAX ? OT_OK : OT_INVALID, "%d steps", n);
        if (rc == OT_OK) {
            ot_chain_done(&c);
        }
    }
}

/* ---- signatures */

#define SPEC(n, d, ...)                                                                            \
    {                                                                                              \
        .name = n, .dtype = d, .rank = 2, .dims = { __VA_ARGS__ }                                  \
    }
static const ot_tensor_spec image[] = {SPEC("image", OT_DT_UINT8, -1, 4)};
static const ot_tensor_spec pixels[] = {SPEC("pixels", OT_DT_FP32, -1, 4)};
static const ot_tensor_spec scores[] = {SPEC("scores", OT_DT_FP32, -1, 2)};
static const ot_tensor_spec both[] = {SPEC("scores", OT_DT_FP32, -1, -1),
                                      SPEC("image", OT_DT_UINT8, -1, -1)};
static const ot_tensor_spec label[] = {SPEC("label", OT_DT_INT64, -1, 1)};
static const ot_model_info pre = {
    .n_inputs = 1, .n_outputs = 1, .inputs = image, .outputs = pixels, .batch_axis = 0};
static const ot_model_info net = {
    .n_inputs = 1, .n_outputs = 1, .inputs = pixels, .outputs = scores, .batch_axis = 0};
static const ot_model_info post = {
    .n_inputs = 2, .n_outputs = 1, .inputs = both, .outputs = label, .batch_axis = 0};
static const ot_model_info *const three[] = {&pre, &net, &post};

#define STEPS(a, b, c)                                                                             \
    "\"steps\": [{\"model\": \"pre\"" a "}, {\"model\": \"net\"" b "}, {\"model\": \"post\"" c "}" \
    "]"

static ot_rc plan(const char *text, const ot_model_info *const *steps, ot_chain *c,
                  ot_chain_plan *p, ot_error *err)
{
    ot_rc rc = ot_chain_read(text, strlen(text), c, err);
    if (!ok(rc == OT_OK, "%s", text)) {
        printf("# %s\n", err->msg);
        return rc;
    }
    rc = ot_chain_plan_make(c, steps, p, err);
    if (rc != OT_OK) {
        ot_chain_done(c);
    }
    return rc;
}

static void test_equal_names(void)
{
    ot_chain c;
    ot_chain_plan p;
    ot_error err;
    if (!ok(plan("{" STEPS("", "", "") "}", three, &c, &p, &err) == OT_OK, "names are enough")) {
        return;
    }
    ok(p.n_inputs == 1 && strcmp(p.inputs[0].name, "image") == 0 &&
           p.inputs[0].dtype == OT_DT_UINT8 && p.inputs[0].dims[1] == 4,
       "it takes what the first takes, as narrow as any of its takers");
    ok(p.n_outputs == 1 && strcmp(p.outputs[0].name, "label") == 0, "it gives what the last gives");
    ok(p.fed[1][0].step == 0 && p.fed[2][0].step == 1 && p.fed[2][1].step == -1,
       "steps are fed by the nearest, or by the chain");
    is_int(p.batch_axis, 0, "rows are known: all steps know them");
    ot_chain_done(&c);
    ot_model_info fixed = net;
    fixed.batch_axis = -1;
    const ot_model_info *const mixed[] = {&pre, &fixed, &post};
    ok(plan("{" STEPS("", "", "") "}", mixed, &c, &p, &err) == OT_OK, "one that knows none");
    is_int(p.batch_axis, -1, "rows are not known");
    ot_chain_done(&c);
}

static void test_said_names(void)
{
    ot_chain c;
    ot_chain_plan p;
    ot_error err;
    const char *text = "{\"inputs\": [\"raw\"], " STEPS(
        ", \"inputs\": {\"image\": \"raw\"}", ", \"inputs\": {\"pixels\": [\"pre\", \"pixels\"]}",
        ", \"name\": \"last\", \"inputs\": {\"image\": \"raw\"}") ", \"outputs\": {\"best\": "
                                                                  "[\"last\", \"label\"], \"all\": "
                                                                  "[\"net\", \"scores\"]}}";
    if (!ok(plan(text, three, &c, &p, &err) == OT_OK, "every name said")) {
        printf("# %s\n", err.msg);
        return;
    }
    is_str(p.inputs[0].name, "raw", "the chain's input has its own name");
    ok(p.n_outputs == 2 && strcmp(p.outputs[0].name, "best") == 0 && p.made[1].step == 1,
       "outputs in the order of the file");
    ok(p.n_asked[1] == 1 && p.made[1].index == p.fed[2][0].index,
       "an output that is taken twice is asked for once");
    ot_chain_done(&c);
}

static void misfit(const char *text, const ot_model_info *const *steps, const char *says)
{
    ot_chain c;
    ot_chain_plan p;
    ot_error err = {.msg = ""};
    ot_rc rc = plan(text, steps, &c, &p, &err);
    ok(rc == OT_INVALID && strstr(err.msg, says) != NULL, "%s", err.msg);
    if (rc == OT_OK) {
        ot_chain_done(&c);
    }
}

static void test_misfits(void)
{
    static const ot_tensor_spec wide[] = {SPEC("pixels", OT_DT_FP32, -1, 5)};
    static const ot_tensor_spec other[] = {SPEC("pixels", OT_DT_FP64, -1, 4)};
    ot_tensor_spec deep[] = {SPEC("pixels", OT_DT_FP32, -1, 4)};
    ot_model_info bad = pre;
    const ot_model_info *const steps[] = {&bad, &net, &post};
    const char *plain = "{" STEPS("", "", "") "}";
    bad.outputs = wide;
    misfit(plain, steps,
           "steps[1].inputs.pixels: step 'net' takes 'pixels' as FP32 [-1,4], step 'pre' gives "
           "'pixels' as FP32 [-1,5]");
    bad.outputs = other;
    misfit(plain, steps, "step 'pre' gives 'pixels' as FP64 [-1,4]");
    deep[0].rank = 3;
    bad.outputs = deep;
    misfit(plain, steps, "step 'pre' gives 'pixels' as FP32 [-1,4,0]");
    bad = pre;
    bad.inputs = pixels;
    misfit("{\"inputs\": [\"x\"], " STEPS(", \"inputs\": {\"pixels\": \"x\"}", "",
                                          ", \"inputs\": {\"image\": \"x\"}") "}",
           steps,
           "steps[2].inputs.image: step 'post' takes the chain's input 'x' as UINT8 [-1,-1], step "
           "'pre' as FP32 [-1,4] (its 'pixels')");
    misfit("{\"inputs\": [\"image\"], " STEPS("", "", "") "}", steps,
           "steps[0].inputs.pixels: nothing feeds input 'pixels' (FP32 [-1,4]) of step 'pre'");
    misfit("{\"inputs\": [\"image\", \"more\"], " STEPS("", "", "") "}", three,
           "inputs[1]: no step takes 'more'");
    misfit("{" STEPS("", "", ", \"inputs\": {\"image\": \"imag\"}") "}", three,
           "steps[2].inputs.image: the chain has no input 'imag'; did you mean 'image'?");
    misfit("{" STEPS("", ", \"inputs\": {\"pixles\": \"image\"}", "") "}", three,
           "steps[1].inputs.pixles: the model of step 'net' has no such input");
    misfit("{" STEPS("", ", \"inputs\": {\"pixels\": [\"pre\", \"pixel\"]}", "") "}", three,
           "steps[1].inputs.pixels: step 'pre' has no output 'pixel'; did you mean 'pixels'");
    misfit("{" STEPS("", "", "") ", \"outputs\": {\"y\": [\"net\", \"labels\"]}}", three,
           "outputs.y: step 'net' has no output 'labels'");
    misfit("{" STEPS("", "", "") ", \"outputs\": {\"y\": [\"net\", \"scores\"]}}", three,
           "steps[2]: nobody takes anything that step 'post' gives");
}

/* ---- runs */

#define FP32(name, dims) "{\"name\": \"" name "\", \"datatype\": \"FP32\", \"shape\": " dims "}"
/* x [-1,2] -> 2x: "y"; the sum of each row: "t" */
#define DOUBLE                                                                                     \
    "{\"inputs\": [" FP32("x", "[-1, 2]") "], \"outputs\": [" FP32(                                \
        "y", "[-1, 2]") "], \"op\": \"linear\", \"weights\": [[2, 0], [0, 2]]"
#define ADD                                                                                        \
    "{\"inputs\": [" FP32("y", "[-1, 2]") "], \"outputs\": [" FP32("t", "[-1]") "], \"op\": "      \
                                                                                "\"sum\""
#define TWO_STEPS "{\"steps\": [{\"model\": \"pre\"}, {\"model\": \"net\"}]}"

static ot_runtime *rt;
static const float data[] = {1, 2, 3, 4, 5, 6};

static ot_rc load(const char *chain, const char *first, const char *second, ot_model **m,
                  ot_error *err)
{
    char path[OT_PATH_MAX];
    *m = NULL;
    write_file("c/chain.json", chain);
    write_file("c/pre/null.json", first);
    write_file("c/net/null.json", second);
    snprintf(path, sizeof path, "%s/c", test_dir);
    return ot_model_load(rt, NULL, path, NULL, m, err);
}

static ot_instance *instance_of(const char *chain, const char *first, const char *second)
{
    ot_model *m;
    ot_instance *inst = NULL;
    ot_error err;
    ot_rc rc = load(chain, first, second, &m, &err);
    rc = rc == OT_OK ? ot_instance_create(m, &inst, &err) : rc;
    if (!ok(rc == OT_OK, "a chain")) {
        printf("# %s\n", err.msg);
    }
    ot_model_unref(m);
    return inst;
}

static ot_run_input rows(const float *p, int64_t n)
{
    return (ot_run_input){.tensor = {.name = "x",
                                     .dtype = OT_DT_FP32,
                                     .rank = 2,
                                     .dims = {n, 2},
                                     .data = p,
                                     .size_bytes = (size_t)n * 8}};
}

static ot_rc run_rows(ot_instance *inst, const float *p, int64_t n, ot_run_result *r, ot_error *err)
{
    ot_run_input in = rows(p, n);
    ot_run run = {.inputs = &in, .n_inputs = 1};
    return ot_instance_run(inst, &run, r, err);
}

static void test_a_run(void)
{
    ot_instance *inst = instance_of(TWO_STEPS, DOUBLE "}", ADD "}");
    ot_run_result a, b;
    ot_error err;
    if (inst == NULL) {
        return;
    }
    const ot_model_info *info = ot_model_info_of(ot_instance_model(inst));
    is_str(info->plugin, "chain", "its plug-in");
    is_str(info->format, "chain", "its format");
    ok(strstr(info->runtime_version, "null 1") != NULL, "its version: %s", info->runtime_version);
    ok(info->batch_axis == 0 && !info->isolated, "rows are known, nothing is isolated");
    ok((info->capabilities & OVERTAKE_CAP_SCATTER) != 0, "it takes segments as its steps do");
    is_int(ot_model_worker_pid(ot_instance_model(inst)), 0, "no process");
    is_int(run_rows(inst, data, 3, &a, &err), OT_OK, "a run");
    ok(a.n_outputs == 1 && a.outputs[0].rank == 1 && a.outputs[0].dims[0] == 3, "three rows");
    is_str(a.outputs[0].name, "t", "named");
    is_int(run_rows(inst, data + 2, 2, &b, &err), OT_OK, "a second one");
    is_near(ot_tensor_f64_at(&a.outputs[0], 2), 22, 0, "the first is held: 2 * 5 + 2 * 6");
    is_near(ot_tensor_f64_at(&b.outputs[0], 0), 14, 0, "the second");
    ot_run_result_release(&a);
    is_near(ot_tensor_f64_at(&b.outputs[0], 1), 22, 0, "which outlives the first");
    ot_run_result_release(&b);
    ot_segment parts[] = {{data, 8}, {data + 2, 16}};
    ot_run_input in = rows(NULL, 3);
    in.segments = parts;
    in.n_segments = 2;
    ot_run run = {.inputs = &in, .n_inputs = 1};
    is_int(ot_instance_run(inst, &run, &a, &err), OT_OK, "in segments");
    is_near(ot_tensor_f64_at(&a.outputs[0], 2), 22, 0, "the same");
    ot_run_result_release(&a);
    run.deadline_ns = 1;
    is_int(ot_instance_run(inst, &run, &a, &err), OT_TIMEOUT, "a deadline that has passed");
    ot_instance_destroy(inst);
}

/* An answer of the first step beside one of the last: both are views of what the steps hold. */
static void test_outputs_of_several_steps(void)
{
    ot_instance *inst = instance_of(
        "{\"inputs\": [\"x\"], \"steps\": [{\"model\": \"pre\"}, {\"name\": \"again\", \"model\": "
        "\"pre\", \"inputs\": {\"x\": [\"pre\", \"y\"]}}, {\"model\": \"net\"}], \"outputs\": "
        "{\"total\": [\"net\", \"t\"], \"twice\": [\"pre\", \"y\"]}}",
        DOUBLE "}", ADD "}");
    ot_run_result r;
    ot_error err;
    if (inst == NULL) {
        return;
    }
    is_int(run_rows(inst, data, 2, &r, &err), OT_OK, "a model that is two steps");
    is_near(ot_tensor_f64_at(&r.outputs[0], 1), 28, 0, "4 * 3 + 4 * 4");
    is_near(ot_tensor_f64_at(&r.outputs[1], 3), 8, 0, "2 * 4, of the first step");
    ot_run_result_release(&r);
    ot_run_output one = {.name = "twice"};
    ot_run_input in = rows(data, 2);
    ot_run run = {.inputs = &in, .n_inputs = 1, .outputs = &one, .n_outputs = 1};
    is_int(ot_instance_run(inst, &run, &r, &err), OT_OK, "one output of the two");
    ok(r.n_outputs == 1 && ot_tensor_f64_at(&r.outputs[0], 0) == 2, "is that one");
    ot_run_result_release(&r);
    ot_instance_destroy(inst);
    inst =
        instance_of("{\"steps\": [{\"model\": \"pre\"}, {\"name\": \"again\", \"model\": \"pre\", "
                    "\"inputs\": {\"x\": [\"pre\", \"y\"]}}]}",
                    DOUBLE ", \"fail_every\": 2}", ADD "}");
    ok(run_rows(inst, data, 1, &r, &err) == OT_INTERNAL && strstr(err.msg, "'again'") != NULL,
       "both steps are one session, which counts both runs: %s", err.msg);
    ot_instance_destroy(inst);
}

static void test_failures_are_named(void)
{
    ot_instance *inst = instance_of(TWO_STEPS, DOUBLE "}", ADD ", \"fail_every\": 2}");
    ot_run_result r;
    ot_error err;
    if (inst == NULL) {
        return;
    }
    ok(run_rows(inst, data, 1, &r, &err) == OT_OK, "the first run");
    ot_run_result_release(&r);
    is_int(run_rows(inst, data, 1, &r, &err), OT_INTERNAL, "the second fails");
    ok(strstr(err.msg, "chain: step 'net' (model 'net'): null: run 2 fails") != NULL, "%s",
       err.msg);
    ok(run_rows(inst, data, 1, &r, &err) == OT_OK, "the third does not");
    ot_run_result_release(&r);
    ot_instance_destroy(inst);
}

static void test_parts_fail_alone(void)
{
    float some[] = {1, 2, NAN, 4, 5, 6};
    ot_instance *inst = instance_of(TWO_STEPS, DOUBLE ", \"fail_on_nan\": true}", ADD "}");
    ot_run_part parts[] = {
        {.n_rows = 1}, {.first_row = 1, .n_rows = 1}, {.first_row = 2, .n_rows = 1}};
    ot_run_input in = rows(some, 3);
    ot_run run = {.inputs = &in, .n_inputs = 1, .parts = parts, .n_parts = 3};
    ot_run_result r;
    ot_error err;
    if (inst == NULL) {
        return;
    }
    ok(ot_instance_run(inst, &run, &r, &err) == OT_OK && r.part_rc != NULL, "a part fails");
    ok(r.part_rc[0] == OT_OK && r.part_rc[1] == OT_INVALID && r.part_rc[2] == OT_OK,
       "that of the NaN, in the first step");
    is_near(ot_tensor_f64_at(&r.outputs[0], 2), 22, 0, "the others are answered");
    ot_run_result_release(&r);
    some[2] = 3;
    ok(ot_instance_run(inst, &run, &r, &err) == OT_OK && r.part_rc == NULL, "then none does");
    ot_run_result_release(&r);
    ot_instance_destroy(inst);
}

static void count_more(void *arg, const ot_run_result *r)
{
    int *n = arg;
    *n += r->n_outputs == 1 && ot_tensor_f64_at(&r->outputs[0], 0) == 6;
}

static void test_several_responses(bool late)
{
    char many[512];
    snprintf(many, sizeof many, "%s, \"responses\": 3, \"late\": %s}", ADD,
             late ? "true" : "false");
    ot_instance *inst = instance_of(TWO_STEPS, DOUBLE "}", many);
    int n = 0;
    ot_run_input in = rows(data, 1);
    ot_run run = {.inputs = &in, .n_inputs = 1, .more = count_more, .more_arg = &n};
    ot_run_result r;
    ot_error err;
    if (inst != NULL) {
        is_int(ot_instance_run(inst, &run, &r, &err), OT_OK, "the last step answers three times");
        ok(n == 2 && r.sequence == 2 && ot_tensor_f64_at(&r.outputs[0], 0) == 6,
           "all come through");
        ot_run_result_release(&r);
    }
    ot_instance_destroy(inst);
    inst = instance_of(TWO_STEPS, DOUBLE ", \"responses\": 3}", ADD "}");
    if (inst != NULL) {
        ok(ot_instance_run(inst, &run, &r, &err) == OT_UNIMPLEMENTED &&
               strstr(err.msg, "step 'pre' (model 'pre'): it gave 3 responses") != NULL,
           "no other step may: %s", err.msg);
    }
    ot_instance_destroy(inst);
}

/* The first step's shape is open where the second's is not. */
static void test_a_misfit_of_a_run(void)
{
    ot_instance *inst = instance_of(
        "{\"steps\": [{\"model\": \"pre\"}, {\"model\": \"net\"}]}",
        "{\"inputs\": [" FP32("y", "[-1, -1]") "], \"outputs\": [" FP32("y", "[-1, -1]") "], "
                                                                                         "\"op\": "
                                                                                         "\"identit"
                                                                                         "y\"}",
        ADD "}");
    ot_run_input in = rows(data, 2);
    ot_run run = {.inputs = &in, .n_inputs = 1};
    ot_run_result r;
    ot_error err;
    if (inst == NULL) {
        return;
    }
    in.tensor.name = "y";
    ok(ot_instance_run(inst, &run, &r, &err) == OT_OK, "what fits runs");
    ot_run_result_release(&r);
    in.tensor.dims[0] = 1;
    in.tensor.dims[1] = 4;
    ok(ot_instance_run(inst, &run, &r, &err) == OT_INTERNAL &&
           strstr(err.msg, "step 'pre' (model 'pre') gave 'y' as FP32 [1,4]; step 'net' takes 'y' "
                           "as FP32 [-1,2]") != NULL,
       "%s", err.msg);
    ot_instance_destroy(inst);
}

static void test_loads_that_fail(void)
{
    ot_model *m;
    ot_error err;
    uint64_t bytes = 0;
    char path[OT_PATH_MAX];
    ok(load("{\"steps\": [{\"model\": \"pre\"}, {\"model\": \"gone\"}]}", DOUBLE "}", ADD "}", &m,
            &err) != OT_OK &&
           strstr(err.msg, "step 'gone' (model 'gone')") != NULL,
       "no such model: %s", err.msg);
    ok(load(TWO_STEPS, DOUBLE "}", "{", &m, &err) == OT_INVALID &&
           strstr(err.msg, "step 'net' (model 'net')") != NULL,
       "a broken one: %s", err.msg);
    ok(load(TWO_STEPS, DOUBLE "}", DOUBLE "}", &m, &err) == OT_INVALID &&
           strstr(err.msg, "chain.json: steps[0]: nobody takes") != NULL,
       "names that do not meet: %s", err.msg);
    ok(load("{\"steps\": [{\"model\": \"pre\"}, 1]}", DOUBLE "}", ADD "}", &m, &err) ==
               OT_INVALID &&
           strstr(err.msg, "chain.json: steps[1]: an object") != NULL,
       "%s", err.msg);
    write_file("c/inner/chain.json", TWO_STEPS);
    ok(load("{\"steps\": [{\"model\": \"inner\"}]}", DOUBLE "}", ADD "}", &m, &err) == OT_INVALID &&
           strstr(err.msg, "a chain itself") != NULL,
       "a chain in a chain: %s", err.msg);
    write_file("c/away/external.json", "{}");
    ok(load("{\"steps\": [{\"model\": \"away\"}]}", DOUBLE "}", ADD "}", &m, &err) == OT_INVALID &&
           strstr(err.msg, "a server elsewhere") != NULL,
       "a server in a chain: %s", err.msg);
    ok(load(TWO_STEPS, DOUBLE "}", ADD "}", &m, &err) == OT_OK, "a good one");
    ot_model_unref(m);
    snprintf(path, sizeof path, "%s/c", test_dir);
    uint64_t one = 0, two = 0;
    const char *first = write_file("c/pre/null.json", DOUBLE "}");
    const char *second = write_file("c/net/null.json", ADD "}");
    ok(ot_model_estimate(rt, NULL, first, &one, &err) == OT_OK &&
           ot_model_estimate(rt, NULL, second, &two, &err) == OT_OK &&
           ot_model_estimate(rt, NULL, path, &bytes, &err) == OT_OK,
       "estimates");
    ok(bytes == one + two && one > 0, "a chain's is the sum: %llu", (unsigned long long)bytes);
    ot_model_options o = {.options_json = "{\"late\": true}"};
    ok(ot_model_load(rt, NULL, path, &o, &m, &err) == OT_INVALID && strstr(err.msg, "late") != NULL,
       "a chain has no options: %s", err.msg);
}

/* Every allocation of loading, making and running fails once; nothing is lost or broken by it. */
static void test_short_memory(void)
{
    ot_error err;
    ot_model *m = NULL;
    ot_run_result r;
    ok(load(TWO_STEPS, DOUBLE "}", ADD "}", &m, &err) == OT_OK, "with memory");
    ot_model_unref(m);
    char path[OT_PATH_MAX];
    snprintf(path, sizeof path, "%s/c", test_dir);
    int failed = 0;
    bool done = false;
    for (uint64_t n = 1; !done && n < 500; n++) {
        ot_instance *inst = NULL;
        m = NULL;
        ot_mem_fail_nth(n);
        ot_rc rc = ot_model_load(rt, NULL, path, NULL, &m, &err);
        rc = rc == OT_OK ? ot_instance_create(m, &inst, &err) : rc;
        rc = rc == OT_OK ? run_rows(inst, data, 1, &r, &err) : rc;
        done = ot_mem_fail_nth(0) < n;
        if (rc == OT_OK) {
            ot_run_result_release(&r);
        }
        failed += rc != OT_OK;
        /* The plug-in calls a file that it has no memory for a wrong one. */
        if (rc != OT_OK && strstr(err.msg, "memory") == NULL) {
            ok(false, "allocation %d: %s", (int)n, err.msg);
        }
        ot_instance_destroy(inst);
        ot_model_unref(m);
    }
    ok(done && failed > 10, "%d allocations failed, each told", failed);
}

int main(void)
{
    ot_error err;
    test_what_is_refused();
    test_equal_names();
    test_said_names();
    test_misfits();
    if (have_null_plugin() &&
        ok(ot_runtime_create(build_plugins(), &rt, &err) == OT_OK, "registry")) {
        test_dir_make();
        test_a_run();
        test_outputs_of_several_steps();
        test_failures_are_named();
        test_parts_fail_alone();
        test_several_responses(false);
        test_several_responses(true);
        test_a_misfit_of_a_run();
        test_loads_that_fail();
        test_short_memory();
        test_dir_remove();
    }
    ot_runtime_unref(rt);
    return tap_done();
}
