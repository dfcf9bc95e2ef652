#include "codec/b64.h"
#include "codec/tfs_json.h"
#include "codec/tfs_types.h"
#include "tap.h"

static ot_arena arena;

static const ot_tensor_spec one[] = {{"x", OT_DT_FP32, 2, {-1, 2}}};
static const ot_tensor_spec two[] = {{"a", OT_DT_INT32, 2, {-1, 2}}, {"s", OT_DT_BYTES, 1, {-1}}};
static const ot_tensor_spec open_rows[] = {{"ids", OT_DT_INT64, 3, {-1, -1, -1}}};
static const ot_tensor_spec image[] = {{"x", OT_DT_UINT8, 3, {-1, 2, 2}}};
static const ot_tensor_spec word[] = {{"s", OT_DT_BYTES, 1, {-1}}};
static const ot_tensor_spec words[] = {{"s", OT_DT_BYTES, 3, {-1, -1, 2}}};
static const ot_tensor_spec scalar[] = {{"x", OT_DT_FP32, 0, {0}}};
static const ot_tensor_spec flags[] = {{"x", OT_DT_BOOL, 1, {-1}}};

typedef struct model {
    const ot_tensor_spec *specs; /* of the default signature */
    size_t n;
} model;

/* The default signature, and "other": `two`. */
static ot_rc find(void *arg, const char *name, const ot_tensor_spec **specs_out, size_t *n_out,
                  ot_error *err)
{
    const model *m = arg;
    if (name != NULL && strcmp(name, "other") == 0) {
        *specs_out = two;
        *n_out = OT_COUNT(two);
        return OT_OK;
    }
    if (name != NULL && strcmp(name, "serving_default") != 0) {
        return ot_fail(err, OT_INVALID, "no signature '%s'", name);
    }
    *specs_out = m->specs;
    *n_out = m->n;
    return OT_OK;
}

static ot_rc decode(const ot_tensor_spec *specs, size_t n, const char *json, ot_tfs_predict *p,
                    ot_error *err)
{
    model m = {specs, n};
    ot_arena_reset(&arena);
    return ot_tfs_predict_decode(json, strlen(json), find, &m, &arena, p, err);
}

/* The inputs as text: "x FP32 [2,2] [1.0,2.0,...]; ...". */
static const char *shown(const ot_tfs_predict *p)
{
    static char text[512];
    ot_str s = OT_STR_INIT;
    for (int i = 0; i < p->n_inputs; i++) {
        const ot_tensor *t = &p->inputs[i].tensor;
        char shape[OT_SHAPE_TEXT];
        ot_str_addf(&s, "%s%s %s %s ", i > 0 ? "; " : "", t->name, ot_dtype_name(t->dtype),
                    ot_shape_format(t->dims, t->rank, shape));
        ot_error err;
        if (ot_oip_tensor_json(t, &s, &err) != OT_OK) {
            ot_str_adds(&s, err.msg);
        }
    }
    snprintf(text, sizeof text, "%s", s.data);
    ot_str_done(&s);
    return text;
}

static void accepted(void)
{
    static const struct {
        const ot_tensor_spec *specs;
        size_t n;
        const char *json, *want;
        bool rows;
    } good[] = {
        {one, 1, "{\"instances\":[[1,2],[3,4.5]]}", "x FP32 [2,2] [1.0,2.0,3.0,4.5]", true},
        {one, 1, "{\"instances\":[{\"x\":[1,2]},{\"x\":[3,4]}]}", "x FP32 [2,2] [1.0,2.0,3.0,4.0]",
         true},
        {one, 1, " { \"inputs\" : [ [1 , 2] ] , \"more\" : {\"a\":[null]} } ",
         "x FP32 [1,2] [1.0,2.0]", false},
        {one, 1, "{\"inputs\":{\"x\":[[1,NaN],[3,-Infinity]]}}",
         "x FP32 [2,2] [1.0,NaN,3.0,-Infinity]", false},
        {one, 1, "{\"instances\":[]}", "x FP32 [0,2] []", true},
        {two, 2,
         "{\"instances\":[{\"a\":[1,2],\"s\":\"u\"},{\"s\":{\"b64\":\"dg==\"},\"a\":[3,4]}]}",
         "a INT32 [2,2] [1,2,3,4]; s BYTES [2] [\"u\",\"v\"]", true},
        {two, 2, "{\"inputs\":{\"s\":[\"u\"],\"a\":[[1,2]]}}",
         "a INT32 [1,2] [1,2]; s BYTES [1] [\"u\"]", false},
        {open_rows, 1, "{\"instances\":[[[1,2,3]],[[4,5,6]]]}", "ids INT64 [2,1,3] [1,2,3,4,5,6]",
         true},
        {open_rows, 1, "{\"instances\":[[],[]]}", "ids INT64 [2,0,0] []", true},
        {image, 1, "{\"instances\":[[[1,2],[3,4]],[[5,6],[7,8]]]}",
         "x UINT8 [2,2,2] [1,2,3,4,5,6,7,8]", true},
        {word, 1, "{\"instances\":[\"one\",{\"b64\":\"dHdv\"},\"\"]}",
         "s BYTES [3] [\"one\",\"two\",\"\"]", true},
        {word, 1, "{\"inputs\":[{\"b64\":\"dHdv\"}]}", "s BYTES [1] [\"two\"]", false},
        {words, 1, "{\"instances\":[[[\"a\",\"b\"],[\"c\",\"\\u00e9\"]]]}",
         "s BYTES [1,2,2] [\"a\",\"b\",\"c\",\"\xc3\xa9\"]", true},
        {scalar, 1, "{\"inputs\":2.5}", "x FP32 [] [2.5]", false},
        {scalar, 1, "{\"inputs\":{\"x\":-1}}", "x FP32 [] [-1.0]", false},
        {flags, 1, "{\"instances\":[true,false,1]}", "x BOOL [3] [true,false,true]", true},
        /* The name may come before the data, behind them, and behind data that are not the
         * default signature's. */
        {one, 1, "{\"signature_name\":\"other\",\"inputs\":{\"a\":[[1,2]],\"s\":[\"u\"]}}",
         "a INT32 [1,2] [1,2]; s BYTES [1] [\"u\"]", false},
        {one, 1, "{\"inputs\":{\"a\":[[1,2]],\"s\":[\"u\"]},\"signature_name\":\"other\"}",
         "a INT32 [1,2] [1,2]; s BYTES [1] [\"u\"]", false},
        {two, 2, "{\"instances\":[{\"a\":[1,2],\"s\":\"u\"}],\"signature_name\":\"other\"}",
         "a INT32 [1,2] [1,2]; s BYTES [1] [\"u\"]", true},
        {one, 1, "{\"instances\":[[1,2]],\"signature_name\":\"serving_default\"}",
         "x FP32 [1,2] [1.0,2.0]", true},
    };
    for (size_t i = 0; i < OT_COUNT(good); i++) {
        ot_tfs_predict p = {0};
        ot_error err = {0};
        ok(decode(good[i].specs, good[i].n, good[i].json, &p, &err) == OT_OK, "%s %s", good[i].json,
           err.msg);
        is_str(shown(&p), good[i].want, "its tensors");
        ok(p.rows == good[i].rows, "its format");
    }
}

static void many_rows(void)
{
    ot_str s = OT_STR_INIT;
    ot_str_adds(&s, "{\"instances\":[");
    for (int i = 0; i < 1000; i++) {
        ot_str_addf(&s, "%s[%d,%d.5]", i > 0 ? "," : "", i, i);
    }
    ot_str_adds(&s, "]}");
    ot_tfs_predict p = {0};
    ot_error err = {0};
    ok(decode(one, 1, s.data, &p, &err) == OT_OK && p.inputs[0].tensor.dims[0] == 1000,
       "a thousand rows %s", err.msg);
    bool right = true;
    for (int64_t i = 0; i < 1000; i++) {
        right = right && fabs(ot_tensor_f64_at(&p.inputs[0].tensor, 2 * i) - (double)i) <= 0 &&
                fabs(ot_tensor_f64_at(&p.inputs[0].tensor, 2 * i + 1) - (double)i - 0.5) <= 0;
    }
    ok(right, "all at their places");
    ot_str_done(&s);
}

static void refused(void)
{
    static const struct {
        const ot_tensor_spec *specs;
        size_t n;
        const char *json, *want;
    } bad[] = {
        {one, 1, "", "an object is expected here"},
        {one, 1, "[1]", "an object is expected here"},
        {one, 1, "{}", "neither 'instances' (rows) nor 'inputs' (columns)"},
        {one, 1, "{\"instances\":[[1,2]],\"inputs\":[[1,2]]}",
         "'instances' and 'inputs' are there"},
        {one, 1, "{\"inputs\":[[1,2]],\"inputs\":[[1,2]]}", "'inputs' is there twice"},
        {one, 1, "{\"instances\":3}", "an array is expected here, not a number"},
        {one, 1, "{\"instances\":[[1,2],[1]]}",
         "instances[1]: input 'x' is FP32 [2], which needs 2 values; the data have 1"},
        {one, 1, "{\"instances\":[[1,2,3]]}", "needs 2 values; the data have 3"},
        {one, 1, "{\"instances\":[1,2]}", "the data of input 'x' must be an array, not a number"},
        {one, 1, "{\"instances\":[[\"1\",2]]}", "input 'x' is FP32; its data hold a string"},
        {one, 1, "{\"instances\":[[null,2]]}", "its data hold null"},
        {one, 1, "{\"instances\":[[true,2]]}", "its data hold true or false"},
        {one, 1, "{\"instances\":[[1e39,2]]}", "out of range for FP32"},
        {one, 1, "{\"instances\":[{\"y\":[1,2]}]}", "there is no input 'y'; the first of 1 is 'x'"},
        {one, 1, "{\"instances\":[{\"x\":[1,2],\"x\":[1,2]}]}", "input 'x' is there twice"},
        {one, 1, "{\"inputs\":{\"x\":[[1,2]],\"x\":[]}}", "input 'x' is there twice"},
        {one, 1, "{\"instances\":[{}]}", "input 'x' (FP32 [-1,2]) is missing"},
        {one, 1, "{\"inputs\":{}}", "input 'x' (FP32 [-1,2]) is missing"},
        {two, 2, "{\"inputs\":{\"a\":[[1,2]]}}", "input 's' (BYTES [-1]) is missing"},
        {two, 2, "{\"instances\":[{\"a\":[1,2],\"s\":\"u\"},{\"a\":[1,2]}]}",
         "instances[1]: JSON at byte 45: input 's' (BYTES [-1]) is missing"},
        {two, 2, "{\"instances\":[[1,2]]}",
         "the signature has 2 inputs, the first is 'a': 'instances' needs an object"},
        {two, 2, "{\"inputs\":[[1,2]]}", "'inputs' needs an object with a member for each"},
        {image, 1, "{\"instances\":[[1,2,3,4]]}", "a row is UINT8 [2,2] and must be nested"},
        {image, 1, "{\"instances\":[[[1,2],[3,300]]]}", "300 is no whole number from 0 to 255"},
        {image, 1, "{\"instances\":[[[1,2],[3]]]}", "needs 4 values; the data have 3"},
        {open_rows, 1, "{\"instances\":[[1,2]]}", "its data are nested 1 deep here; a row has 2"},
        {open_rows, 1, "{\"instances\":[[[1,2]],[[1]]]}",
         "instances[1]: input 'ids' is INT64 [1,2], which needs 2 values; the data have 1"},
        {word, 1, "{\"instances\":[1]}", "input 's' is BYTES; its data hold a number"},
        {word, 1, "{\"instances\":[[\"a\"]]}", "input 's' is BYTES; its data hold an array"},
        {word, 1, "{\"instances\":[{\"b64\":\"x\"}]}", "not base64"},
        {word, 1, "{\"instances\":[{\"b64\":\"dg==\",\"c\":1}]}", "no other member"},
        {words, 1, "{\"instances\":[[[\"a\"]]]}", "a row is BYTES [1,2]; axis 1 has 1 values here"},
        {words, 1, "{\"instances\":[[[\"a\",\"b\",\"c\"]]]}", "axis 1 has over 2 values here"},
        {one, 0, "{\"instances\":[1]}", "the signature has 0 inputs"},
        {one, 0, "{\"instances\":[{\"x\":1}]}", "there is no input 'x'; the first of 0"},
        {scalar, 1, "{\"inputs\":[1]}", "input 'x' is FP32 []"},
        {one, 1, "{\"signature_name\":\"none\",\"instances\":[[1,2]]}", "no signature 'none'"},
        {one, 1, "{\"instances\":[[1,2]],\"signature_name\":\"none\"}", "no signature 'none'"},
        {one, 1, "{\"signature_name\":3,\"instances\":[[1,2]]}", "a string is expected here"},
        {one, 1, "{\"instances\":[[1]],\"signature_name\":\"other\"}",
         "'instances' needs an object"},
        {one, 1, "{\"instances\":[[1,2]]} x", "text after the end"},
        {one, 1, "{\"instances\":[[1,2]", "expected here"},
    };
    for (size_t i = 0; i < OT_COUNT(bad); i++) {
        ot_tfs_predict p = {0};
        ot_error err = {0};
        ot_rc rc = decode(bad[i].specs, bad[i].n, bad[i].json, &p, &err);
        ok(rc == OT_INVALID && strstr(err.msg, bad[i].want) != NULL, "%s: %s", bad[i].json,
           err.msg);
    }
}

static const float f[] = {0.1f, 1, -2.5f, 1e20f, 5, 6};
static const int64_t k[] = {7, -8};
static const char strings[] = "\1\0\0\0u\2\0\0\0\xff\xfe";

static void answers(void)
{
    ot_tensor y = {"y", OT_DT_FP32, 2, {2, 3}, f, sizeof f};
    ot_tensor n = {"n", OT_DT_INT64, 1, {2}, k, sizeof k};
    ot_tensor deep = {"d", OT_DT_FP32, 3, {2, 1, 3}, f, sizeof f};
    ot_tensor s = {"s", OT_DT_BYTES, 1, {2}, strings, sizeof strings - 1};
    ot_tensor bytes = {"s_bytes", OT_DT_BYTES, 1, {2}, strings, sizeof strings - 1};
    ot_tensor lone = {"c", OT_DT_FP32, 0, {0}, f, 4};
    ot_tensor none = {"y", OT_DT_FP32, 2, {0, 3}, NULL, 0};
    const struct {
        ot_tensor outputs[2];
        int n;
        bool rows;
        const char *want; /* NULL: refused */
    } cases[] = {
        {{y}, 1, true, "{\"predictions\":[[0.1,1.0,-2.5],[1e20,5.0,6.0]]}"},
        {{y}, 1, false, "{\"outputs\":[[0.1,1.0,-2.5],[1e20,5.0,6.0]]}"},
        {{y, n},
         2,
         true,
         "{\"predictions\":[{\"y\":[0.1,1.0,-2.5],\"n\":7},{\"y\":[1e20,5.0,6.0],\"n\":-8}]}"},
        {{n, y}, 2, false, "{\"outputs\":{\"n\":[7,-8],\"y\":[[0.1,1.0,-2.5],[1e20,5.0,6.0]]}}"},
        {{deep}, 1, true, "{\"predictions\":[[[0.1,1.0,-2.5]],[[1e20,5.0,6.0]]]}"},
        {{s}, 1, true, "{\"predictions\":[\"u\",{\"b64\":\"//4=\"}]}"},
        {{bytes}, 1, false, "{\"outputs\":[{\"b64\":\"dQ==\"},{\"b64\":\"//4=\"}]}"},
        {{lone}, 1, false, "{\"outputs\":0.1}"},
        {{none}, 1, true, "{\"predictions\":[]}"},
        {{none}, 1, false, "{\"outputs\":[]}"},
        {{lone}, 1, true, NULL},
        {{y, lone}, 2, true, NULL},
        {{y, none}, 2, true, NULL},
    };
    for (size_t i = 0; i < OT_COUNT(cases); i++) {
        ot_str out = OT_STR_INIT;
        ot_error err = {0};
        ot_rc rc = ot_tfs_predict_encode(cases[i].outputs, cases[i].n, cases[i].rows, &out, &err);
        if (cases[i].want == NULL) {
            ok(rc == OT_INVALID && strstr(err.msg, "send 'inputs' instead") != NULL, "%s", err.msg);
        } else {
            is_str(out.data, cases[i].want, "answer %zu %s", i, err.msg);
        }
        ot_str_done(&out);
    }
}

static void base64(void)
{
    static const char *const texts[][2] = {{"", ""},
                                           {"f", "Zg=="},
                                           {"fo", "Zm8="},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg=="},
                                           {"fooba", "Zm9vYmE="},
                                           {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < OT_COUNT(texts); i++) {
        char out[16] = "", back[16] = "";
        size_t n = 99, len = strlen(texts[i][1]);
        ot_b64_encode(texts[i][0], strlen(texts[i][0]), out);
        is_str(out, texts[i][1], "encoded");
        ok(ot_b64_decode(out, len, back, &n) && n == strlen(texts[i][0]) &&
               memcmp(back, texts[i][0], n) == 0,
           "decoded");
        while (len > 0 && out[len - 1] == '=') {
            len--;
        }
        ok(ot_b64_decode(out, len, back, &n) && n == strlen(texts[i][0]), "without padding");
    }
    char back[16];
    size_t n;
    static const char *const bad[] = {"A", "AAAAA", "A=", "====", "AA=A", "A-==", "AA A", "AAA==="};
    for (size_t i = 0; i < OT_COUNT(bad); i++) {
        ok(!ot_b64_decode(bad[i], strlen(bad[i]), back, &n), "refused: %s", bad[i]);
    }
}

static void types(void)
{
    for (int t = OT_DT_INVALID + 1; t < OT_DT_COUNT_; t++) {
        ok(ot_tfs_type_from((uint64_t)ot_tfs_type((ot_dtype)t)) == (ot_dtype)t, "%s",
           ot_tfs_type_name((ot_dtype)t));
    }
    ok(ot_tfs_type_from(0) == OT_DT_INVALID && ot_tfs_type_from(8) == OT_DT_INVALID,
       "no type, and complex numbers");
}

int main(void)
{
    ot_arena_init(&arena, 4096, 1 << 20);
    accepted();
    many_rows();
    refused();
    answers();
    base64();
    types();
    ot_arena_done(&arena);
    return tap_done();
}
