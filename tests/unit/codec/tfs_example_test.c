#include "codec/tfs_example.h"
#include "codec/tfs_result.h"
#include "tap.h"

static ot_arena arena;

static const ot_tensor_spec xk[] = {{"x", OT_DT_FP32, 2, {-1, 2}}, {"k", OT_DT_INT8, 1, {-1}}};
static const ot_tensor_spec open_row[] = {{"ids", OT_DT_INT64, 3, {-1, -1, 2}}};
static const ot_tensor_spec words[] = {{"s", OT_DT_BYTES, 2, {-1, -1}}};
static const ot_tensor_spec half[] = {{"h", OT_DT_FP16, 1, {-1}}, {"b", OT_DT_BOOL, 1, {-1}}};
static const ot_tensor_spec flat[] = {{"c", OT_DT_FP32, 0, {0}}};
static const ot_tensor_spec two_open[] = {{"c", OT_DT_FP32, 3, {-1, -1, -1}}};

static ot_rc columns(const char *json, const ot_tensor_spec *specs, size_t n, ot_str *out,
                     ot_error *err)
{
    ot_tfs_examples e;
    ot_oip_tensor *t;
    ot_arena_reset(&arena);
    OT_TRY(ot_tfs_examples_json(json, strlen(json), &arena, &e, err));
    OT_TRY(ot_tfs_examples_columns(&e, specs, n, &arena, &t, err));
    for (size_t i = 0; i < n; i++) {
        char shape[OT_SHAPE_TEXT];
        ot_str_addf(out, "%s%s %s ", i > 0 ? "; " : "", ot_dtype_name(t[i].tensor.dtype),
                    ot_shape_format(t[i].tensor.dims, t[i].tensor.rank, shape));
        OT_TRY(ot_oip_tensor_json(&t[i].tensor, out, err));
    }
    return OT_OK;
}

static void by_name(void)
{
    static const struct {
        const ot_tensor_spec *specs;
        size_t n;
        const char *json, *want;
        bool good;
    } cases[] = {
        {xk, 2, "{\"examples\":[{\"x\":[1,2.5],\"k\":-7},{\"k\":[true],\"x\":[3,4],\"z\":\"q\"}]}",
         "FP32 [2,2] [1.0,2.5,3.0,4.0]; INT8 [2] [-7,1]", true},
        {xk, 2, "{\"context\":{\"k\":5,\"x\":[0,0]},\"examples\":[{\"x\":[1,NaN]},{\"k\":6}]}",
         "FP32 [2,2] [1.0,NaN,0.0,0.0]; INT8 [2] [5,6]", true},
        {xk, 2, "{\"examples\":[{\"x\":[2.5,1],\"k\":1}]}", "FP32 [1,2] [2.5,1.0]; INT8 [1] [1]",
         true},
        {open_row, 1, "{\"examples\":[{\"ids\":[1,2,3,4]},{\"ids\":[5,6,7,8]}]}",
         "INT64 [2,2,2] [1,2,3,4,5,6,7,8]", true},
        {open_row, 1, "{\"examples\":[{\"ids\":[]}]}", "INT64 [1,0,2] []", true},
        {words, 1, "{\"examples\":[{\"s\":[\"a\",{\"b64\":\"dg==\"}]},{\"s\":[\"\",\"c\"]}]}",
         "BYTES [2,2] [\"a\",\"v\",\"\",\"c\"]", true},
        {half, 2, "{\"examples\":[{\"h\":1.5,\"b\":0},{\"h\":2,\"b\":1}]}",
         "FP16 [2] [1.5,2.0]; BOOL [2] [false,true]", true},
        {xk, 2, "{\"examples\":[{\"x\":[1,2],\"k\":128}]}",
         "input 'k' is INT8; 128 of examples[0] is out of its range", false},
        {half, 2, "{\"examples\":[{\"h\":1,\"b\":2}]}", "input 'b' is BOOL; 2 of", false},
        {xk, 2, "{\"examples\":[{\"x\":[1,2],\"k\":1.5}]}",
         "input 'k' is INT8; examples[0] has floats", false},
        {xk, 2, "{\"examples\":[{\"x\":[1,2],\"k\":1},{\"x\":[1,2]}]}",
         "examples[1] has no feature 'k' (INT8 [-1])", false},
        {open_row, 1, "{\"examples\":[{\"ids\":[1,2]},{\"ids\":[1,2,3,4]}]}",
         "here 2 values a row; examples[1] has 4", false},
        {open_row, 1, "{\"examples\":[{\"ids\":[1,2,3]}]}", "examples[0] has 3", false},
        {words, 1, "{\"examples\":[{\"s\":[1]}]}", "input 's' is BYTES; examples[0] has int64s",
         false},
        {flat, 1, "{\"examples\":[{\"c\":1}]}", "input 'c' is FP32 []: its rows can't", false},
        {two_open, 1, "{\"examples\":[{\"c\":1}]}", "can't be made of features", false},
        {xk, 2, "{\"examples\":[{\"x\":[1,2],\"k\":18446744073709551615}]}", "over 2^63 - 1",
         false},
        {xk, 2, "{\"examples\":[{\"x\":[1,1e39],\"k\":1}]}", "out of range for a float", false},
        {xk, 2, "{\"examples\":[{\"x\":[[1]],\"k\":1}]}", "not an array", false},
        {xk, 2, "{\"context\":3,\"examples\":[{}]}", "context: JSON at byte 11", false},
        {xk, 2, "{\"examples\":[{}],\"examples\":[{}]}", "'examples' is there twice", false},
        {xk, 2, "{\"examples\":{}}", "an array is expected here", false},
        {xk, 2, "{\"examples\":[{}]", "expected here", false},
    };
    for (size_t i = 0; i < OT_COUNT(cases); i++) {
        ot_str out = OT_STR_INIT;
        ot_error err = {0};
        ot_rc rc = columns(cases[i].json, cases[i].specs, cases[i].n, &out, &err);
        ok((rc == OT_OK) == cases[i].good, "%s: %s", cases[i].json, err.msg);
        if (cases[i].good) {
            is_str(out.data, cases[i].want, "its tensors");
        } else {
            ok(rc == OT_INVALID && strstr(err.msg, cases[i].want) != NULL, "why");
        }
        ot_str_done(&out);
    }
}

/* What protobuf (Python) writes for an Example of s = [b"one"] and x = [1.0, -0.5]. */
static void serialised(void)
{
    static const char json[] =
        "{\"signature_name\":\"s\",\"examples\":[{\"s\":\"one\",\"x\":[1,-0.5]}]}";
    ot_tfs_examples e = {0};
    ot_error err = {0};
    char hex[256];
    ok(ot_tfs_examples_json(json, strlen(json), &arena, &e, &err) == OT_OK, "read %s", err.msg);
    is_str(e.signature, "s", "the signature's name");
    ot_hex((const uint8_t *)e.items[0].p, e.items[0].n, hex);
    is_str(hex, "0a210a0c0a017312070a050a036f6e650a110a0178120c120a0a080000803f000000bf",
           "serialised");
    ot_tensor t;
    ok(ot_tfs_examples_tensor(&e, "in", &arena, &t, &err) == OT_OK && t.dims[0] == 1 &&
           t.size_bytes == e.items[0].n + 4 && ot_tensor_check(&t, &err) == OT_OK,
       "as a tensor");
    ok(ot_tfs_examples_have(&e, "x") && !ot_tfs_examples_have(&e, "y"), "which features it has");
}

/* ClassificationRequest with the example from above, an empty one, and the context k = [5], as
 * protobuf (Python) writes it. */
static void from_grpc(void)
{
    static const char hex[] =
        "123912370a230a210a0c0a017312070a050a036f6e650a110a0178120c120a0a080000803f000000bf0a00120e"
        "0a0c0a0a0a016b12051a030a0105";
    uint8_t bytes[128];
    size_t n = strlen(hex) / 2;
    ok(ot_unhex(hex, n, bytes), "hex");
    ot_pb r;
    ot_pb_field f;
    ot_error err = {0};
    ot_tfs_examples e = {0};
    ot_oip_tensor *t;
    ot_pb_init(&r, bytes, n, "test");
    ok(ot_pb_next(&r, &f, &err) == OT_OK && ot_tfs_examples_pb(&r, &f, &arena, &e, &err) == OT_OK,
       "an Input %s", err.msg);
    is_int(e.n, 2, "two examples");
    ok(ot_tfs_examples_columns(&e, &xk[1], 1, &arena, &t, &err) == OT_OK &&
           t->tensor.dims[0] == 2 && memcmp(t->tensor.data, "\5\5", 2) == 0,
       "the context is in both %s", err.msg);
    ok(ot_tfs_examples_have(&e, "x"), "and what is its own in the first");
    for (size_t cut = 3; cut < n; cut++) {
        uint8_t part[128];
        memcpy(part, bytes, cut);
        part[1] = (uint8_t)(cut - 2);
        ot_pb_init(&r, part, cut, "test");
        ot_rc rc = ot_pb_next(&r, &f, &err);
        rc = rc == OT_OK ? ot_tfs_examples_pb(&r, &f, &arena, &e, &err) : rc;
        if (rc != OT_INVALID || err.msg[0] == '\0') {
            ok(false, "cut at %zu: %s", cut, err.msg);
        }
    }
    static const uint8_t none[] = {0x12, 0x02, 0x0a, 0x00};
    ot_pb_init(&r, none, sizeof none, "test");
    ok(ot_pb_next(&r, &f, &err) == OT_OK &&
           ot_tfs_examples_pb(&r, &f, &arena, &e, &err) == OT_INVALID &&
           strstr(err.msg, "no examples") != NULL,
       "no examples: %s", err.msg);
}

static const float scores[] = {0.25f, 0.75f, 1, 0};
static const int64_t classes[] = {7, -8};
static const char labels[] = "\1\0\0\0a\2\0\0\0\xc3\xb6\0\0\0\0\1\0\0\0d";

static void classified(void)
{
    ot_tensor s = {"scores", OT_DT_FP32, 2, {2, 2}, scores, sizeof scores};
    ot_tensor l = {"classes", OT_DT_BYTES, 2, {2, 2}, labels, sizeof labels - 1};
    ot_tensor p = {"p", OT_DT_FP32, 1, {4}, scores, sizeof scores};
    ot_tensor k = {"k", OT_DT_INT64, 1, {2}, classes, sizeof classes};
    ot_tensor short_scores = {"scores", OT_DT_FP32, 2, {4, 1}, scores, sizeof scores};
    const struct {
        ot_tensor outputs[2];
        int n, prediction;
        const char *want;
        bool good;
    } cases[] = {
        {{s, l},
         2,
         -1,
         "{\"results\":[[[\"a\",0.25],[\"\xc3\xb6\",0.75]],[[\"\",1.0],[\"d\",0.0]]]}",
         true},
        {{s}, 1, -1, "{\"results\":[[[\"0\",0.25],[\"1\",0.75]],[[\"0\",1.0],[\"1\",0.0]]]}", true},
        {{p, k},
         2,
         0,
         "{\"results\":[[[\"0\",0.25]],[[\"0\",0.75]],[[\"0\",1.0]],[[\"0\",0.0]]]}",
         true},
        {{p, k}, 2, 1, "{\"results\":[[[\"7\",0.0]],[[\"-8\",0.0]]]}", true},
        {{p, k}, 2, -1, "the model has 2 outputs and none is 'classes' or 'scores'", false},
        {{l, short_scores}, 2, -1, "of the shape of the other one", false},
    };
    for (size_t i = 0; i < OT_COUNT(cases); i++) {
        ot_tfs_classes c;
        ot_str out = OT_STR_INIT;
        ot_error err = {0};
        ot_rc rc = ot_tfs_classes_find(cases[i].outputs, cases[i].n, cases[i].prediction, &c, &err);
        if (rc == OT_OK) {
            rc = ot_tfs_classes_json(&c, &out, &err);
        }
        ok((rc == OT_OK) == cases[i].good, "classes %zu %s", i, err.msg);
        ok(cases[i].good ? strcmp(out.data, cases[i].want) == 0
                         : strstr(err.msg, cases[i].want) != NULL,
           "%s", out.data);
        ot_str_done(&out);
    }
    ot_tfs_classes c;
    ot_str out = OT_STR_INIT;
    ot_error err;
    char hex[256];
    ok(ot_tfs_classes_find(&s, 1, -1, &c, &err) == OT_OK &&
           ot_tfs_classes_pb(&c, 1, &out, &err) == OT_OK,
       "as a message");
    ot_hex((const uint8_t *)out.data, out.len, hex);
    is_str(
        hex,
        "0a2c0a140a080a0130150000803e0a080a0131150000403f0a140a080a0130150000803f0a080a013115000000"
        "00",
        "with all its fields");
    ot_str_done(&out);
}

static void regressed(void)
{
    ot_tensor y = {"y", OT_DT_FP32, 2, {4, 1}, scores, sizeof scores};
    ot_tensor k = {"k", OT_DT_INT64, 1, {2}, classes, sizeof classes};
    ot_tensor wide = {"outputs", OT_DT_FP32, 2, {2, 2}, scores, sizeof scores};
    ot_tensor both[] = {y, k};
    const ot_tensor *t = NULL;
    ot_error err = {0};
    ot_str out = OT_STR_INIT;
    ok(ot_tfs_values_find(both, 1, -1, &t, &err) == OT_OK, "the only output");
    ot_tfs_values_json(t, &out);
    is_str(out.data, "{\"results\":[0.25,0.75,1.0,0.0]}", "as JSON");
    ok(ot_tfs_values_find(both, 2, 1, &t, &err) == OT_OK && t == &both[1], "the prediction");
    ot_str_clear(&out);
    ot_tfs_values_pb(t, 3, &out);
    char hex[128];
    ot_hex((const uint8_t *)out.data, out.len, hex);
    is_str(hex, "1a0e0a050d0000e0400a050d000000c1", "as a message");
    ok(ot_tfs_values_find(both, 2, -1, &t, &err) == OT_INVALID, "which of two: %s", err.msg);
    ok(ot_tfs_values_find(&wide, 1, -1, &t, &err) == OT_INVALID &&
           strstr(err.msg, "not a number for each example") != NULL,
       "%s", err.msg);
    ot_str_done(&out);
}

int main(void)
{
    ot_arena_init(&arena, 4096, 1 << 20);
    by_name();
    serialised();
    from_grpc();
    classified();
    regressed();
    ot_arena_done(&arena);
    return tap_done();
}
