/* Golden messages are tritonclient's and Python protobuf's: tests/golden/make_codec.py. */
#include "codec/oip_pb.h"
#include "golden.h"
#include "tap.h"

static ot_error err;

/* What a decoded request says. */
static const char *describe(const ot_oip_pb_request *q, char *o, size_t cap)
{
    const ot_oip_request *r = &q->r;
    size_t n = (size_t)snprintf(o, cap, "%s/%s id=%s raw=%d", q->model_name, q->model_version,
                                r->id != NULL ? r->id : "-", r->binary_default);
    for (int i = 0; i < r->n_inputs; i++) {
        const ot_tensor *t = &r->inputs[i].tensor;
        char shape[OT_SHAPE_TEXT], hex[257];
        ot_hex(t->data, OT_MIN(t->size_bytes, (size_t)128), hex);
        n += (size_t)snprintf(o + n, cap - n, " in:%s/%s%s=%s", t->name, ot_dtype_name(t->dtype),
                              ot_shape_format(t->dims, t->rank, shape), hex);
    }
    for (int i = 0; i < r->n_outputs; i++) {
        n += (size_t)snprintf(o + n, cap - n, " out:%s/%d", r->outputs[i].name,
                              r->outputs[i].binary);
    }
    for (int i = 0; i < r->params.n; i++) {
        const ot_param *p = &r->params.items[i];
        n += (size_t)snprintf(o + n, cap - n, " %s=%d/%lld/%s/%g", p->name, p->b, (long long)p->i,
                              p->s != NULL ? p->s : "-", p->d);
    }
    return o;
}

/* `whole`: beginnings of it that are requests too, as they end between two inputs. */
static void is_request(const char *file, int whole, const char *want)
{
    OT_AUTO(ot_str_done) ot_str body = OT_STR_INIT;
    ot_arena arena;
    ot_oip_pb_request q;
    char o[4096] = "";
    ot_arena_init(&arena, 4096, 1u << 20);
    ok(golden_read(file, &body), "%s is there", file);
    ot_rc rc = ot_oip_pb_request_decode(body.data, body.len, &arena, &q, &err);
    is_str(rc == OT_OK ? describe(&q, o, sizeof o) : err.msg, want, "%s", file);
    int cut = 0;
    for (size_t n = 0; n < body.len; n++) {
        char *copy = ot_alloc(n > 0 ? n : 1);
        memcpy(copy, body.data, n);
        cut += ot_oip_pb_request_decode(copy, n, &arena, &q, &err) == OT_INVALID;
        ot_free(copy);
    }
    is_int(cut, (int)body.len - whole, "what is cut short is refused");
    ot_arena_done(&arena);
}

static void test_golden(void)
{
    is_request(
        "grpc_raw.pb", 0,
        "m/3 id=r-1 raw=1 in:x/FP32[2,3]=0000c03f000010c0cdcccc3d0000c07f0000807fb00fa134"
        " in:s/BYTES[3]=030000006162630a0000007a61c5bcc3b3c582c48700000000"
        " in:h/FP16[2]=003c00c0 out:y/1 out:z/1"
        " deep=1/0/-/0 k=0/3/-/3 note=0/0/h\xc3\xa9/0 priority=0/7/-/7 timeout=0/1500/-/1500");
    is_request("grpc_typed.pb", 11,

               "m/ id=- raw=0 in:t0/BOOL[2]=0100 in:t1/UINT8[2]=00ff in:t2/UINT16[2]=0100ffff"
               " in:t3/UINT32[2]=02000000ffffffff in:t4/UINT64[2]=0300000000000000ffffffffffffffff"
               " in:t5/INT8[2]=807f in:t6/INT16[2]=0080ff7f in:t7/INT32[2]=00000080ffffff7f"
               " in:t8/INT64[2]=0000000000000080ffffffffffffff7f in:t9/FP32[2]=0000003f0000a0bf"
               " in:t10/FP64[2]=9a9999999999b93f9c7500883ce437fe"
               " in:t11/BYTES[2]=02000000616200000000 ratio=0/0/-/0.5");
}

/* ---- what is refused */

/* A request with one input of the given parts; `values` go in raw, or in contents as `field`. */
typedef struct made {
    const char *name, *type, *param;
    int64_t dims[12];
    size_t rank;
    const char *raw;
    size_t raw_n;
    uint32_t field;
    int64_t value;
    int inputs; /* the same input so often */
} made;

static void put_made(ot_str *s, const made *m)
{
    ot_pb_put_string(s, 1, "m");
    for (int i = 0; i < OT_MAX(m->inputs, 1); i++) {
        size_t in = ot_pb_begin(s, 5);
        ot_pb_put_string(s, 1, m->name);
        ot_pb_put_string(s, 2, m->type);
        ot_pb_put_packed(s, 3, m->dims, m->rank);
        if (m->param != NULL) {
            size_t entry = ot_pb_begin(s, 4);
            ot_pb_put_string(s, 1, m->param);
            size_t value = ot_pb_begin(s, 2);
            ot_pb_put_uint(s, 2, 1);
            ot_pb_end(s, value, 0);
            ot_pb_end(s, entry, 0);
        }
        if (m->field != 0) {
            size_t contents = ot_pb_begin(s, 5);
            ot_pb_put_packed(s, m->field, &m->value, 1);
            ot_pb_end(s, contents, 0);
        }
        ot_pb_end(s, in, 0);
    }
    if (m->raw != NULL) {
        ot_pb_put_bytes(s, 7, m->raw, m->raw_n);
    }
}

static const char *outcome(const ot_str *s)
{
    ot_arena arena;
    ot_oip_pb_request q;
    static char o[1200];
    ot_arena_init(&arena, 4096, 1u << 16);
    ot_rc rc = ot_oip_pb_request_decode(s->data, s->len, &arena, &q, &err);
    if (rc == OT_OK) {
        describe(&q, o, sizeof o);
    } else {
        snprintf(o, sizeof o, "%s", err.msg);
    }
    ot_arena_done(&arena);
    return o;
}

static void test_refused(void)
{
    static const struct {
        made m;
        const char *want;
    } cases[] = {
        {{"x", "INT32", NULL, {1}, 1, "abcd", 4, 0, 0, 1}, "m/ id=- raw=1 in:x/INT32[1]=61626364"},
        {{"x", "INT32", NULL, {1}, 1, "abcd", 3, 0, 0, 1},
         "input 'x' is INT32 [1], 1 values of 4 bytes; its raw_input_contents has 3 bytes"},
        {{"x", "INT32", NULL, {1LL << 40, 1LL << 40}, 2, "abcd", 4, 0, 0, 1},
         "input 'x': the product of shape [1099511627776,1099511627776] is over 2^63 - 1"},
        {{"x", "INT64", NULL, {1LL << 61}, 1, "", 0, 0, 0, 1},
         "input 'x' is INT64 [2305843009213693952], 2305843009213693952 values of 8 bytes; its "
         "raw_input_contents has 0 bytes"},
        {{"x", "INT32", NULL, {-1}, 1, "abcd", 4, 0, 0, 1},
         "input 'x': shape [-1] has a negative dimension"},
        {{"x", "INT32", NULL, {1, 1, 1, 1, 1, 1, 1, 1, 1}, 9, "abcd", 4, 0, 0, 1},
         "InferInputTensor: field 'shape' has more than 8 values"},
        {{"x", "FP31", NULL, {1}, 1, "abcd", 4, 0, 0, 1},
         "input 'x': datatype 'FP31' is not known; it is one of BOOL, UINT8, UINT16, UINT32, "
         "UINT64, INT8, INT16, INT32, INT64, FP16, BF16, FP32, FP64, BYTES"},
        {{"", "INT32", NULL, {1}, 1, "abcd", 4, 0, 0, 1}, "each of inputs needs a name"},
        {{"x", "INT32", NULL, {1}, 1, "abcd", 4, 0, 0, 2}, "input 'x' is there twice"},
        {{"x", "INT32", NULL, {1}, 1, "abcd", 4, 2, 5, 1},
         "input 'x' has contents beside raw_input_contents"},
        {{"x", "INT32", NULL, {1}, 1, NULL, 0, 2, -5, 1}, "m/ id=- raw=0 in:x/INT32[1]=fbffffff"},
        {{"x", "INT8", NULL, {1}, 1, NULL, 0, 2, 300, 1},
         "InferTensorContents: field 'int_contents' holds 300, which is not in the range of INT8"},
        {{"x", "INT32", NULL, {2}, 1, NULL, 0, 2, 5, 1},
         "input 'x' is [2], 2 values; its int_contents has 1"},
        {{"x", "INT32", NULL, {1}, 1, NULL, 0, 0, 0, 1},
         "input 'x' is [1], 1 values; its int_contents has 0"},
        {{"x", "INT32", NULL, {0}, 1, NULL, 0, 0, 0, 1}, "m/ id=- raw=0 in:x/INT32[0]="},
        {{"x", "UINT32", NULL, {1}, 1, NULL, 0, 2, 5, 1},
         "input 'x' is UINT32; its values belong in uint_contents, not int_contents"},
        {{"x", "FP16", NULL, {1}, 1, NULL, 0, 2, 5, 1},
         "input 'x' is FP16, which goes in raw_input_contents only"},
        {{"x", "BYTES", NULL, {1}, 1, "\x05\0\0\0abc", 7, 0, 0, 1}, NULL},
        {{"x", "INT32", "shared_memory_region", {1}, 1, "abcd", 4, 0, 0, 1},
         "shared_memory_region: shared memory is not supported; send the data in the message"},
        {{"x", "INT32", "other", {1}, 1, "abcd", 4, 0, 0, 1},
         "m/ id=- raw=1 in:x/INT32[1]=61626364"},
    };
    for (size_t i = 0; i < OT_COUNT(cases); i++) {
        OT_AUTO(ot_str_done) ot_str s = OT_STR_INIT;
        put_made(&s, &cases[i].m);
        const char *got = outcome(&s);
        if (cases[i].want != NULL) {
            is_str(got, cases[i].want, "request %zu", i);
        } else {
            ok(strncmp(got, "m/", 2) != 0, "request %zu is refused: %s", i, got);
        }
    }
    OT_AUTO(ot_str_done) ot_str s = OT_STR_INIT;
    put_made(&s, &(made){"x", "INT32", NULL, {1}, 1, "abcd", 4, 0, 0, 1});
    ot_pb_put_bytes(&s, 7, "efgh", 4);
    is_str(outcome(&s), "there are 2 raw_input_contents for 1 inputs", "raw contents of nobody");
    ot_str_clear(&s);
    is_str(outcome(&s), "the request has no 'inputs'", "an empty message");
    ot_pb_put_uint(&s, 5, 1);
    is_str(outcome(&s),
           "ModelInferRequest: field 'inputs' (5) is sent as a varint; it is length-delimited",
           "a wrong wire type names the field");
    ot_str_clear(&s);
    put_made(&s, &(made){"x", "INT32", NULL, {1}, 1, "abcd", 4, 0, 0, 1});
    ot_pb_put_uint(&s, 77, 5);
    ot_pb_put_bytes(&s, 1000, "what", 4);
    is_str(outcome(&s), "m/ id=- raw=1 in:x/INT32[1]=61626364", "unknown fields are passed over");
    ot_str_clear(&s);
    for (int i = 0; i < 65; i++) {
        char name[8];
        snprintf(name, sizeof name, "x%d", i);
        put_made(&s, &(made){name, "INT32", NULL, {0}, 1, NULL, 0, 0, 0, 1});
    }
    is_str(outcome(&s), "more than 64 inputs", "inputs have a cap");
}

/* ---- responses */

typedef struct sent {
    ot_oip_response r;
    ot_oip_tensor outputs[12];
    char names[12][8];
    ot_param param;
} sent;

/* The outputs of the golden responses, with data out of the golden request. */
static bool make_response(sent *x, ot_arena *arena, const ot_str *typed, bool binary)
{
    ot_oip_pb_request q;
    if (ot_oip_pb_request_decode(typed->data, typed->len, arena, &q, &err) != OT_OK ||
        q.r.n_inputs != 12) {
        return false;
    }
    for (int i = 0; i < 12; i++) {
        x->outputs[i] = (ot_oip_tensor){.tensor = q.r.inputs[i].tensor, .binary = binary};
    }
    x->param = (ot_param){.name = "note", .type = OT_PARAM_STRING, .s = "h\xc3\xa9"};
    x->r = (ot_oip_response){.model_name = "m",
                             .model_version = "3",
                             .id = "r-1",
                             .params = {&x->param, 1},
                             .outputs = x->outputs,
                             .n_outputs = 12};
    return true;
}

static void is_response(const char *file, const sent *x, bool stream)
{
    OT_AUTO(ot_str_done) ot_str want = OT_STR_INIT, head = OT_STR_INIT, got = OT_STR_INIT;
    ot_oip_pb_encoded e;
    ot_str_add(&head, "frame", 5);
    ok(golden_read(file, &want), "%s is there", file);
    ok(ot_oip_pb_response_encode(&x->r, stream, &head, &e, &err) == OT_OK, "%s is made", file);
    for (int i = 0; i < e.n_iov; i++) {
        ot_str_add(&got, e.iov[i].iov_base, e.iov[i].iov_len);
    }
    is_int(got.len, e.bytes, "bytes add up");
    is_int(got.len, want.len + 5, "its length");
    ok(memcmp(got.data, "frame", 5) == 0 && memcmp(got.data + 5, want.data, want.len) == 0,
       "%s byte for byte", file);
}

static void test_responses(void)
{
    OT_AUTO(ot_str_done) ot_str typed = OT_STR_INIT, want = OT_STR_INIT, out = OT_STR_INIT;
    ot_arena arena;
    sent x;
    ot_arena_init(&arena, 4096, 1u << 20);
    ok(golden_read("grpc_typed.pb", &typed) && make_response(&x, &arena, &typed, true), "made");
    is_response("grpc_response_raw.pb", &x, false);
    is_response("grpc_response_stream.pb", &x, true);
    ok(make_response(&x, &arena, &typed, false), "made");
    is_response("grpc_response_typed.pb", &x, false);
    x.outputs[11].binary = true;
    is_response("grpc_response_raw.pb", &x, false);
    x.outputs[3].tensor.size_bytes--;
    ot_oip_pb_encoded e;
    ok(ot_oip_pb_response_encode(&x.r, false, &out, &e, &err) == OT_INVALID,
       "a tensor that is not consistent is not sent: %s", err.msg);
    ot_str_clear(&out);
    ot_oip_pb_stream_error("no", "m", "r-1", &out);
    ok(golden_read("grpc_response_error.pb", &want) && out.len == want.len &&
           memcmp(out.data, want.data, want.len) == 0,
       "an error in a stream");
    ot_arena_done(&arena);
}

static void test_memory(void)
{
    OT_AUTO(ot_str_done) ot_str body = OT_STR_INIT;
    ot_arena arena;
    ot_oip_pb_request q;
    int failed = 0;
    ok(golden_read("grpc_typed.pb", &body), "golden");
    for (size_t limit = 16; limit < 4096; limit += 16) {
        ot_arena_init(&arena, 64, limit);
        failed += ot_oip_pb_request_decode(body.data, body.len, &arena, &q, &err) == OT_EXHAUSTED;
        ot_arena_done(&arena);
    }
    ok(failed > 20 && failed < 255, "short memory is said (%d times)", failed);
}

int main(void)
{
    test_golden();
    test_refused();
    test_responses();
    test_memory();
    return tap_done();
}
