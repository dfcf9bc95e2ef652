#include "codec/oip.h"
#include "golden.h"
#include "tap.h"

#include <stdlib.h>

static ot_arena arena;

static ot_rc decode(const char *json, ot_oip_request *r, ot_error *err)
{
    return ot_oip_request_decode(json, strlen(json), -1, NULL, &arena, r, err);
}

#define X "{\"name\":\"x\",\"shape\":[2],\"datatype\":\"FP32\",\"data\":[1,2]}"

static void test_accepted(void)
{
    static const char *const good[] = {
        "{\"inputs\":[" X "]}", " {\"inputs\" : [ " X " ] , \"unknown\":{\"a\":[1,null]}}\n",
        "{\"id\":null,\"parameters\":null,\"outputs\":null,\"inputs\":[" X "]}",
        "{\"inputs\":[{\"data\":[1,2],\"parameters\":{},\"datatype\":\"FP32\",\"shape\":[2],"
        "\"name\":\"x\",\"extra\":1}]}",
        "{\"inputs\":[{\"name\":\"x\",\"data\":[[1],[2]],\"shape\":[2,1],\"datatype\":\"FP32\"}]}"};
    for (size_t i = 0; i < OT_COUNT(good); i++) {
        ot_oip_request r = {0};
        ot_error err = {0};
        bool right = decode(good[i], &r, &err) == OT_OK && r.n_inputs == 1 && r.id == NULL &&
                     !r.inputs[0].binary && strcmp(r.inputs[0].tensor.name, "x") == 0;
        right = right && fabs(ot_tensor_f64_at(&r.inputs[0].tensor, 1) - 2) <= 0 &&
                ((uintptr_t)r.inputs[0].tensor.data & 15) == 0;
        ok(right, "accepted: %s %s", good[i], err.msg);
    }
    ot_oip_request r = {0};
    ot_error err = {0};
    ok(decode("{\"id\":\"a\\u00e9\",\"parameters\":{\"binary_data_output\":true,\"t\":1.5,\"n\":-3,"
              "\"big\":18446744073709551615,\"s\":\"v\",\"f\":false,\"o\":{\"x\":1},\"z\":null},"
              "\"outputs\":[{\"name\":\"a\"},{\"name\":\"b\",\"parameters\":{\"binary_data\":false,"
              "\"classification\":3}}],\"inputs\":[" X "]}",
              &r, &err) == OT_OK,
       "a request with everything %s", err.msg);
    is_str(r.id, "a\xc3\xa9", "id");
    is_int(r.params.n, 5, "scalar parameters are kept, the extension's and compound ones not");
    const ot_param *p = ot_params_find(&r.params, "t");
    ok(p != NULL && p->type == OT_PARAM_DOUBLE && fabs(p->d - 1.5) <= 0, "a double");
    p = ot_params_find(&r.params, "n");
    ok(p != NULL && p->type == OT_PARAM_INT && p->i == -3 && fabs(p->d + 3) <= 0, "an integer");
    p = ot_params_find(&r.params, "big");
    ok(p != NULL && p->type == OT_PARAM_DOUBLE, "beyond int64 is a double");
    p = ot_params_find(&r.params, "s");
    ok(p != NULL && p->type == OT_PARAM_STRING && strcmp(p->s, "v") == 0, "a string");
    ok(ot_params_find(&r.params, "o") == NULL, "absent");
    is_int(r.n_outputs, 2, "two outputs");
    ok(r.binary_default && r.outputs[0].binary && !r.outputs[1].binary, "binary, asked each way");
    is_int(r.outputs[1].params.n, 1, "the output's own parameter");
}

/* What each malformed request gets: text that the message must hold. */
static void test_refused(void)
{
    static const char *const bad[][2] = {
        {"", "an object is expected here, not the end"},
        {"[]", "an object is expected here, not an array"},
        {"{}", "the request has no 'inputs'"},
        {"{\"inputs\":[]}", "the request has no 'inputs'"},
        {"{\"inputs\":null}", "an array is expected here, not null"},
        {"{\"inputs\":[" X "]} x", "text after the end"},
        {"{\"inputs\":[" X "],\"inputs\":[" X "]}", "'inputs' is there twice"},
        {"{\"inputs\":[" X "," X "]}", "input 'x' is there twice"},
        {"{\"inputs\":[{\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]}]}",
         "inputs[0] needs a name"},
        {"{\"inputs\":[{\"name\":\"\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]}]}",
         "needs a name"},
        {"{\"inputs\":[{\"name\":\"x\",\"shape\":[1],\"data\":[1]}]}",
         "input 'x' needs a datatype"},
        {"{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"data\":[1]}]}",
         "input 'x' needs a shape"},
        {"{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1]}]}",
         "input 'x' has neither data nor binary_data_size"},
        {"{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FLOAT\",\"shape\":[1],\"data\":[1]}]}",
         "input 'x': datatype 'FLOAT' is not known"},
        {"{\"inputs\":[{\"name\":\"x\",\"shape\":[-1],\"datatype\":\"FP32\",\"data\":[1]}]}",
         "input 'x': a dimension must be a whole number >= 0, not -1"},
        {"{\"inputs\":[{\"name\":\"x\",\"shape\":[1.5],\"datatype\":\"FP32\",\"data\":[1]}]}",
         "not 1.5"},
        {"{\"inputs\":[{\"name\":\"x\",\"shape\":[1,1,1,1,1,1,1,1,1],\"datatype\":\"FP32\"}]}",
         "more than 8 dimensions"},
        {"{\"inputs\":[{\"name\":\"x\",\"shape\":[4294967296,4294967296],\"datatype\":\"FP32\"}]}",
         "the product of shape [4294967296,4294967296]"},
        {"{\"inputs\":[{\"name\":\"x\",\"shape\":[3],\"datatype\":\"FP32\",\"data\":[1,2]}]}",
         "input 'x' is FP32 [3], which needs 3 values; the data have 2"},
        {"{\"inputs\":[{\"data\":[1,2],\"name\":\"x\",\"shape\":[3],\"datatype\":\"FP32\"}]}",
         "needs 3 values; the data have 2"},
        {"{\"inputs\":[{\"name\":\"x\",\"shape\":[9999999999],\"datatype\":\"FP32\",\"data\":[1,2]}"
         "]}",
         "needs 9999999999 values; the data have 2"},
        {"{\"inputs\":[{\"name\":\"x\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[\"1\"]}]}",
         "input 'x' is FP32; its data hold a string"},
        {"{\"inputs\":[{\"name\":\"x\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[null]}]}",
         "its data hold null"},
        {"{\"inputs\":[{\"name\":\"x\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[true]}]}",
         "its data hold true or false"},
        {"{\"inputs\":[{\"name\":\"x\",\"shape\":[1],\"datatype\":\"INT8\",\"data\":[300]}]}",
         "300 is no whole number from -128 to 127 (INT8)"},
        {"{\"inputs\":[{\"name\":\"x\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1],\"data\":["
         "1]}]}",
         "data appear twice"},
        {"{\"inputs\":[{\"name\":\"x\",\"shape\":[1],\"datatype\":\"FP32\",\"parameters\":"
         "{\"binary_data_size\":4}}]}",
         "there is no Inference-Header-Content-Length"},
        {"{\"inputs\":[{\"name\":\"x\",\"shape\":[1],\"datatype\":\"FP32\",\"parameters\":"
         "{\"binary_data_size\":4},\"data\":[1]}]}",
         "both data and binary_data_size"},
        {"{\"inputs\":[{\"name\":\"x\",\"shape\":[1],\"datatype\":\"FP32\",\"parameters\":"
         "{\"binary_data_size\":-4}}]}",
         "binary_data_size must be a whole number >= 0"},
        {"{\"inputs\":[{\"name\":\"x\",\"shape\":[1],\"datatype\":\"FP32\",\"parameters\":"
         "{\"shared_memory_region\":\"r\"}}]}",
         "shared memory is not supported"},
        {"{\"outputs\":[{\"name\":\"a\"},{\"name\":\"a\"}],\"inputs\":[" X "]}",
         "output 'a' is asked for twice"},
        {"{\"outputs\":[{}],\"inputs\":[" X "]}", "each of outputs needs a name"},
        {"{\"id\":7,\"inputs\":[" X "]}", "a string is expected here, not a number"},
        {"{\"parameters\":{\"binary_data_output\":1},\"inputs\":[" X "]}",
         "binary_data_output must be true or false"}};
    for (size_t i = 0; i < OT_COUNT(bad); i++) {
        ot_oip_request r = {.n_inputs = 77};
        ot_error err = {0};
        bool right = decode(bad[i][0], &r, &err) == OT_INVALID &&
                     strstr(err.msg, bad[i][1]) != NULL && r.n_inputs == 77;
        ok(right, "refused: %s", err.msg);
        if (!right) {
            printf("# %s\n", bad[i][0]);
        }
        ot_arena_reset(&arena);
    }
}

static void test_caps(void)
{
    ot_str s = OT_STR_INIT;
    ot_error err;
    ot_oip_request r;
    for (int n = OT_OIP_TENSORS_MAX; n <= OT_OIP_TENSORS_MAX + 1; n++) {
        ot_str_clear(&s);
        ot_str_adds(&s, "{\"inputs\":[");
        for (int i = 0; i < n; i++) {
            ot_str_addf(&s,
                        "%s{\"name\":\"x%d\",\"shape\":[1],\"datatype\":\"INT8\",\"data\":[%d]}",
                        i ? "," : "", i, i);
        }
        ot_str_adds(&s, "]}");
        is_int(decode(s.data, &r, &err), n > OT_OIP_TENSORS_MAX ? OT_INVALID : OT_OK, "%d inputs",
               n);
        ot_str_clear(&s);
        ot_str_adds(&s, "{\"inputs\":[" X "],\"outputs\":[");
        for (int i = 0; i < n; i++) {
            ot_str_addf(&s, "%s{\"name\":\"y%d\"}", i ? "," : "", i);
        }
        ot_str_adds(&s, "]}");
        is_int(decode(s.data, &r, &err), n > OT_OIP_TENSORS_MAX ? OT_INVALID : OT_OK, "%d outputs",
               n);
        ot_str_clear(&s);
        ot_str_adds(&s, "{\"inputs\":[" X "],\"parameters\":{");
        for (int i = 0; i < n; i++) {
            ot_str_addf(&s, "%s\"p%d\":1", i ? "," : "", i);
        }
        ot_str_adds(&s, "}}");
        is_int(decode(s.data, &r, &err), n > OT_OIP_PARAMS_MAX ? OT_INVALID : OT_OK,
               "%d parameters: %s", n, err.msg);
    }
    ot_str_done(&s);
}

/* A body of its own, so that ASan sees a byte too far. */
static ot_rc decode_copy(const char *p, size_t n, int64_t header, ot_oip_request *r, ot_error *err)
{
    char *copy = ot_alloc(n);
    memcpy(copy, p, n);
    ot_rc rc = ot_oip_request_decode(copy, n, header, NULL, &arena, r, err);
    ot_free(copy);
    return rc;
}

static void check_triton(const char *name, bool binary)
{
    ot_str body = OT_STR_INIT, len = OT_STR_INIT;
    char file[64];
    ot_error err = {0};
    ot_oip_request r = {0};
    snprintf(file, sizeof file, "%s.len", name);
    bool good = golden_read(file, &len);
    snprintf(file, sizeof file, "%s.body", name);
    good = good && golden_read(file, &body);
    int64_t header = strtoll(len.data, NULL, 10);
    ok(good &&
           ot_oip_request_decode(body.data, body.len, header, NULL, &arena, &r, &err) == OT_OK &&
           r.n_inputs == 3 && r.n_outputs == 2,
       "%s, written by tritonclient: %s", name, err.msg);
    if (r.n_inputs != 3) {
        return;
    }
    const ot_tensor *x = &r.inputs[0].tensor, *s = &r.inputs[1].tensor, *i = &r.inputs[2].tensor;
    static const float want[6] = {1.5F, -2.25F, 0.1F, NAN, INFINITY, 3e-7F};
    bool same = x->size_bytes == sizeof want;
    for (int k = 0; same && k < 6; k++) {
        double v = ot_tensor_f64_at(x, k), w = (double)want[k];
        same = isnan(w) ? isnan(v) != 0 : isinf(w) ? isinf(v) != 0 : fabs(v - w) <= 0;
    }
    ok(same, "its floats");
    ok(s->size_bytes == 25 && memcmp((const char *)s->data, "\3\0\0\0abc", 7) == 0 &&
           ot_tensor_check(s, &err) == OT_OK,
       "its strings");
    int64_t ends[2] = {0, 0};
    if (i->size_bytes == sizeof ends) {
        memcpy(ends, i->data, sizeof ends);
    }
    ok(ends[0] == INT64_MIN && ends[1] == INT64_MAX, "its integers");
    ok(r.inputs[0].binary == binary && r.outputs[0].binary == binary &&
           r.outputs[1].binary == !binary,
       "binary or not");
    is_str(r.id, "r-1", "its id");
    const ot_param *p = ot_params_find(&r.params, "note");
    ok(p != NULL && strcmp(p->s, "h\xc3\xa9") == 0, "its parameter");
    bool cut = true;
    for (size_t n = 0; n < body.len; n++) {
        ot_arena_reset(&arena);
        cut &= decode_copy(body.data, n, header, &r, NULL) == OT_INVALID;
    }
    ok(cut, "refused when cut at any byte");
    if (binary) {
        ot_str_addc(&body, 'x');
        ok(decode_copy(body.data, body.len, header, &r, &err) == OT_INVALID, "%s", err.msg);
        cut = true;
        for (int64_t h = -1; h < (int64_t)body.len + 2; h++) {
            cut &= h == header || decode_copy(body.data, body.len - 1, h, &r, NULL) == OT_INVALID;
        }
        ok(cut, "refused with any other header length");
    }
    ot_str_done(&body);
    ot_str_done(&len);
}

static ot_rc decode_binary(const char *json, const char *blob, size_t n, ot_oip_request *r,
                           ot_error *err)
{
    ot_str s = OT_STR_INIT;
    ot_str_adds(&s, json);
    ot_str_add(&s, blob, n);
    ot_rc rc = decode_copy(s.data, s.len, (int64_t)strlen(json), r, err);
    ot_str_done(&s);
    return rc;
}

static void test_binary(void)
{
    static const struct {
        const char *type, *shape;
        int size, sent;
        const char *message;
    } t[] = {
        {"FP32", "[2]", 8, 8, NULL},
        {"FP32", "[2]", 4, 4,
         "input 'x' is FP32 [2], 2 values of 4 bytes; its binary_data_size is 4"},
        {"FP32", "[2]", 8, 7, "the body has 7 bytes left for it"},
        {"FP32", "[2]", 8, 9, "1 bytes of binary data are left over"},
        {"FP32", "[0,5]", 0, 0, NULL},
        {"BYTES", "[1]", 8, 8, NULL},
        {"BYTES", "[2]", 8, 8, "element 1 at byte 8 does not fit"},
        {"BYTES", "[1]", 7, 7, "does not fit its 7 bytes"},
        {"BOOL", "[8]", 8, 8, NULL},
        {"FP64", "[9223372036854775807]", 8, 8, "its binary_data_size is 8"},
    };
    for (size_t i = 0; i < OT_COUNT(t); i++) {
        char json[256];
        ot_error err = {0};
        ot_oip_request r;
        snprintf(json, sizeof json,
                 "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"%s\",\"shape\":%s,"
                 "\"parameters\":{\"binary_data_size\":%d}}]}",
                 t[i].type, t[i].shape, t[i].size);
        ot_rc rc = decode_binary(json, "\4\0\0\0abcdefgh", (size_t)t[i].sent, &r, &err);
        ok(t[i].message == NULL ? rc == OT_OK
                                : rc == OT_INVALID && strstr(err.msg, t[i].message) != NULL,
           "%s %s in %d bytes of %d: %s", t[i].type, t[i].shape, t[i].size, t[i].sent, err.msg);
    }
}

static void test_raw(void)
{
    float x[6] = {1, 2, 3, 4, 5, 6};
    ot_oip_request r = {0};
    ot_error err = {0};
    ot_tensor_spec spec = {.name = "x", .dtype = OT_DT_FP32, .rank = 2, .dims = {-1, 3}};
    ok(ot_oip_request_decode(x, sizeof x, 0, &spec, &arena, &r, &err) == OT_OK &&
           r.inputs[0].tensor.dims[0] == 2 && r.inputs[0].tensor.data == x && r.binary_default,
       "a raw tensor: its batch is inferred, its data not copied %s", err.msg);
    ok(ot_oip_request_decode(x, 23, 0, &spec, &arena, &r, &err) == OT_INVALID, "%s", err.msg);
    ok(ot_oip_request_decode(NULL, 0, 0, &spec, &arena, &r, &err) == OT_OK &&
           r.inputs[0].tensor.dims[0] == 0,
       "an empty body is zero rows");
    ok(ot_oip_request_decode(x, sizeof x, 0, NULL, &arena, &r, &err) == OT_INVALID, "%s", err.msg);
    spec.dims[1] = -1;
    ok(ot_oip_request_decode(x, sizeof x, 0, &spec, &arena, &r, &err) == OT_INVALID, "%s", err.msg);
    spec.dims[0] = 2;
    spec.dims[1] = 0;
    ok(ot_oip_request_decode(x, sizeof x, 0, &spec, &arena, &r, &err) == OT_INVALID, "%s", err.msg);
    spec = (ot_tensor_spec){.name = "s", .dtype = OT_DT_BYTES, .rank = 1, .dims = {-1}};
    ok(ot_oip_request_decode("abc", 3, 0, &spec, &arena, &r, &err) == OT_OK &&
           r.inputs[0].tensor.size_bytes == 7 &&
           memcmp(r.inputs[0].tensor.data, "\3\0\0\0abc", 7) == 0,
       "raw BYTES is one element");
    ok(ot_oip_request_decode("abc", 3, 4, &spec, &arena, &r, &err) == OT_INVALID, "%s", err.msg);
    ok(ot_oip_request_decode("abc", 3, -2, &spec, &arena, &r, &err) == OT_INVALID, "%s", err.msg);
}

static ot_str whole(const ot_str *head, const ot_oip_encoded *e)
{
    ot_str s = OT_STR_INIT;
    ot_str_add(&s, head->data, head->len);
    for (int i = 0; i < e->n_blobs; i++) {
        ot_str_add(&s, e->blobs[i].iov_base, e->blobs[i].iov_len);
    }
    return s;
}

static void test_response(void)
{
    float y[4] = {0.1F, -1, NAN, INFINITY};
    uint8_t flags[2] = {1, 0};
    ot_param params[2] = {{.name = "k\"", .type = OT_PARAM_STRING, .s = "v\n"},
                          {.name = "n", .type = OT_PARAM_INT, .i = 5}};
    ot_oip_tensor out[3] = {
        {.tensor = {"y", OT_DT_FP32, 2, {1, 4}, y, sizeof y}},
        {.tensor = {"flags", OT_DT_BOOL, 1, {2}, flags, sizeof flags}},
        {.tensor = {"s", OT_DT_BYTES, 1, {2}, "\1\0\0\0a\2\0\0\0\xc3\xa9", 11}}};
    ot_oip_response r = {"m", "7", "id-1", {params, 2}, out, 3}, back = {0};
    ot_str head = OT_STR_INIT;
    ot_oip_encoded e;
    ot_error err = {0};
    ok(ot_oip_response_encode(&r, &head, &e, &err) == OT_OK && e.header_len == -1 && e.n_blobs == 0,
       "encoded as JSON %s", err.msg);
    is_str(
        head.data,
        "{\"model_name\":\"m\",\"model_version\":\"7\",\"id\":\"id-1\",\"outputs\":["
        "{\"name\":\"y\",\"datatype\":\"FP32\",\"shape\":[1,4],\"data\":[0.1,-1.0,NaN,Infinity]},"
        "{\"name\":\"flags\",\"datatype\":\"BOOL\",\"shape\":[2],\"data\":[true,false]},"
        "{\"name\":\"s\",\"datatype\":\"BYTES\",\"shape\":[2],\"data\":[\"a\",\"\xc3\xa9\"]}],"
        "\"parameters\":{\"k\\\"\":\"v\\u000a\",\"n\":5}}",
        "the JSON");
    for (int binary = 0; binary < 8; binary++) {
        for (int i = 0; i < 3; i++) {
            out[i].binary = (binary >> i & 1) != 0;
        }
        ot_str_clear(&head);
        bool good = ot_oip_response_encode(&r, &head, &e, &err) == OT_OK &&
                    e.header_len == (binary != 0 ? (int64_t)head.len : -1);
        ot_str body = whole(&head, &e);
        good = good && body.len == head.len + e.blob_bytes &&
               ot_oip_response_decode(body.data, body.len, e.header_len, &arena, &back, &err) ==
                   OT_OK &&
               back.n_outputs == 3 && strcmp(back.model_version, "7") == 0 &&
               strcmp(back.id, "id-1") == 0 && back.params.n == 2;
        for (int i = 0; good && i < 3; i++) {
            good = back.outputs[i].binary == out[i].binary &&
                   back.outputs[i].tensor.size_bytes == out[i].tensor.size_bytes &&
                   (i == 0 || memcmp(back.outputs[i].tensor.data, out[i].tensor.data,
                                     out[i].tensor.size_bytes) == 0);
        }
        ok(good && isnan(ot_tensor_f64_at(&back.outputs[0].tensor, 2)),
           "there and back, binary mask %d: %s", binary, err.msg);
        ot_str_done(&body);
    }
    out[2].tensor.data = "\1\0\0\0\xff\0\0\0\0\0\0";
    out[2].tensor.size_bytes = 9;
    out[2].binary = false;
    ok(ot_oip_response_encode(&r, &head, &e, &err) == OT_INVALID, "not UTF-8: %s", err.msg);
    out[0].tensor.size_bytes = 15;
    ok(ot_oip_response_encode(&r, &head, &e, &err) == OT_INVALID, "%s", err.msg);
    ot_oip_response empty = {.model_name = "m"};
    ot_str_clear(&head);
    ok(ot_oip_response_encode(&empty, &head, &e, &err) == OT_OK, "no outputs");
    is_str(head.data, "{\"model_name\":\"m\",\"outputs\":[]}", "absent members are left out");
    ok(ot_oip_response_decode("{}", 2, -1, &arena, &back, &err) == OT_INVALID, "%s", err.msg);
    ot_str_done(&head);
}

static void test_request_round(void)
{
    double d[3] = {0.1, 1e300, -5e-324};
    int64_t i[2] = {INT64_MIN, INT64_MAX};
    uint16_t h[2] = {0x3c01, 0xfc00};
    for (int binary = 0; binary < 4; binary++) {
        ot_oip_tensor in[3] = {
            {.tensor = {"d", OT_DT_FP64, 1, {3}, d, sizeof d}, .binary = binary & 1},
            {.tensor = {"i", OT_DT_INT64, 2, {2, 1}, i, sizeof i}, .binary = (binary & 2) != 0},
            {.tensor = {"h", OT_DT_BF16, 1, {2}, h, sizeof h}, .binary = binary & 1}};
        ot_oip_output_ask asks[2] = {{.name = "a", .binary = true}, {.name = "b"}};
        ot_oip_request r = {.id = "q",
                            .inputs = in,
                            .n_inputs = 3,
                            .outputs = asks,
                            .n_outputs = 2,
                            .binary_default = (binary & 2) != 0};
        ot_oip_request back = {0};
        ot_str head = OT_STR_INIT;
        ot_oip_encoded e;
        ot_error err = {0};
        bool good = ot_oip_request_encode(&r, &head, &e, &err) == OT_OK;
        ot_str body = whole(&head, &e);
        good = good &&
               ot_oip_request_decode(body.data, body.len, e.header_len, NULL, &arena, &back,
                                     &err) == OT_OK &&
               back.n_inputs == 3 && back.n_outputs == 2 && back.outputs[0].binary &&
               !back.outputs[1].binary && back.binary_default == r.binary_default;
        for (int k = 0; good && k < 3; k++) {
            good =
                back.inputs[k].tensor.size_bytes == in[k].tensor.size_bytes &&
                memcmp(back.inputs[k].tensor.data, in[k].tensor.data, in[k].tensor.size_bytes) == 0;
        }
        ok(good, "request there and back, bit for bit, mask %d %s", binary, err.msg);
        ot_str_done(&head);
        ot_str_done(&body);
    }
}

static void test_errors(void)
{
    ot_str s = OT_STR_INIT;
    ot_oip_error_body(&s, "input \"x\"\n");
    is_str(s.data, "{\"error\":\"input \\\"x\\\"\\u000a\"}", "an error body");
    is_str(ot_oip_error_message(s.data, s.len, &arena), "input \"x\"\n", "and back");
    ok(ot_oip_error_message("{\"outputs\":[]}", 14, &arena) == NULL, "no error in it");
    ok(ot_oip_error_message("nonsense", 8, &arena) == NULL, "nor in nonsense");
    ot_str_done(&s);
}

/* Every allocation of a decode and an encode fails once. */
static void test_memory(void)
{
    static const char json[] =
        "{\"id\":\"q\",\"parameters\":{\"a\":\"b\"},\"outputs\":[{\"name\":"
        "\"y\"}],\"inputs\":[" X ",{\"name\":\"s\",\"shape\":[1],\"datatype\":"
        "\"BYTES\",\"data\":[\"t\"]}]}";
    bool clean = true;
    int failed = 0;
    for (uint64_t nth = 1; nth < 60; nth++) {
        ot_arena a;
        ot_oip_request r;
        ot_error err = {0};
        ot_arena_init(&a, 256, 1 << 16);
        ot_mem_fail_nth(nth);
        ot_rc rc = ot_oip_request_decode(json, sizeof json - 1, -1, NULL, &a, &r, &err);
        ot_mem_fail_nth(0);
        ot_arena_done(&a);
        clean &= rc == OT_OK || (rc == OT_EXHAUSTED && err.msg[0] != 0);
        failed += rc != OT_OK;
    }
    ok(clean && failed > 2, "%d failed allocations while decoding are reported", failed);
    ot_arena tiny;
    ot_oip_request r;
    ot_error err;
    ot_arena_init(&tiny, 256, 300);
    is_int(ot_oip_request_decode(json, sizeof json - 1, -1, NULL, &tiny, &r, &err), OT_EXHAUSTED,
           "over the arena's limit");
    ot_arena_done(&tiny);
    static const float zeros[2000];
    ot_oip_tensor y = {.tensor = {"y", OT_DT_FP32, 1, {2000}, zeros, sizeof zeros}};
    ot_oip_response resp = {.model_name = "m", .outputs = &y, .n_outputs = 1};
    clean = true;
    failed = 0;
    for (uint64_t nth = 1; nth < 40; nth++) {
        ot_str head = OT_STR_INIT;
        ot_oip_encoded e;
        ot_mem_fail_nth(nth);
        ot_rc rc = ot_oip_response_encode(&resp, &head, &e, &err);
        ot_mem_fail_nth(0);
        ot_str_done(&head);
        clean &= rc == OT_OK || rc == OT_EXHAUSTED;
        failed += rc != OT_OK;
    }
    ok(clean && failed > 2, "%d failed allocations while encoding are reported", failed);
}

int main(void)
{
    ot_arena_init(&arena, 16384, 1 << 22);
    test_accepted();
    test_refused();
    test_caps();
    check_triton("triton_json", false);
    check_triton("triton_binary", true);
    test_binary();
    test_raw();
    test_response();
    test_request_round();
    test_errors();
    test_memory();
    ot_arena_done(&arena);
    return tap_done();
}
