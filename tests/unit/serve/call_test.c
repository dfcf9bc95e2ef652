#include "serve/call.h"

#include "tap.h"

#include <string.h>

static ot_oip_memo *memo;

static ot_variant *model(bool rows)
{
    ot_variant *v;
    if (ot_variant_create(1, 1, &v, NULL) != OT_OK) {
        return NULL;
    }
    ot_manifest *m = &v->sig;
    m->inputs = ot_arena_calloc(&m->arena, 2, sizeof *m->inputs);
    m->outputs = ot_arena_calloc(&m->arena, 1, sizeof *m->outputs);
    m->inputs[0] = (ot_tensor_spec){.name = "a", .dtype = OT_DT_FP32, .rank = 2, .dims = {-1, 2}};
    m->inputs[1] = (ot_tensor_spec){.name = "b", .dtype = OT_DT_INT32, .rank = 1, .dims = {-1}};
    m->outputs[0] = (ot_tensor_spec){.name = "y", .dtype = OT_DT_FP32, .rank = 1, .dims = {-1}};
    m->n_inputs = 2;
    m->n_outputs = 1;
    v->rows_known = rows;
    strcpy(v->version_text, "3");
    return v;
}

static ot_rc decode(const ot_variant *v, const char *json, ot_http_req *req, ot_call *call,
                    ot_error *err)
{
    *call = (ot_call){.req = req, .arena = req->arena};
    req->body = (ot_slice){json, strlen(json)};
    return ot_call_decode(call, v, -1, memo, err);
}

#define A(shape, data)                                                                             \
    "{\"name\":\"a\",\"datatype\":\"FP32\",\"shape\":" shape ",\"data\":" data "}"
#define B(shape, data)                                                                             \
    "{\"name\":\"b\",\"datatype\":\"INT32\",\"shape\":" shape ",\"data\":" data "}"

static void decoding(void)
{
    ot_arena arena;
    ot_arena_init(&arena, 4096, 1u << 20);
    ot_http_req req = {.arena = &arena};
    ot_variant *v = model(true);
    ot_call c;
    ot_error err = {0};
    is_int(decode(v, "{\"inputs\":[" B("[2]", "[7,8]") "," A("[2,2]", "[1,2,3,4]") "]}", &req, &c,
                  &err),
           OT_OK, "inputs in another order");
    is_str(c.inputs[0].name, "a", "put in the signature's order");
    is_int(c.rows, 2, "two rows");
    ok(decode(v, "{\"inputs\":[" A("[2,2]", "[1,2,3,4]") "," B("[3]", "[7,8,9]") "]}", &req, &c,
              &err) == OT_INVALID &&
           strstr(err.msg, "2 rows") != NULL && strstr(err.msg, "'b'") != NULL,
       "rows that differ: %s", err.msg);
    ok(decode(v, "{\"inputs\":[" A("[1,2]", "[1,2]") "]}", &req, &c, &err) == OT_INVALID &&
           strstr(err.msg, "'b' (INT32 [-1]) is missing") != NULL,
       "missing: %s", err.msg);
    ot_variant *w = model(false);
    is_int(decode(w, "{\"inputs\":[" A("[2,2]", "[1,2,3,4]") "," B("[3]", "[7,8,9]") "]}", &req, &c,
                  &err),
           OT_OK, "without rows each input has its own size");
    is_int(c.rows, 1, "and the request is one row");
    ot_variant_unref(v);
    ot_variant_unref(w);
    ot_arena_done(&arena);
}

static void ids(void)
{
    char id[OT_PREDICTION_ID_MAX];
    size_t n = ot_prediction_id_format(id, 0xab, 0x10000000001, 12, true);
    is_str(id, "00000000000000ab-10000000001-c-1", "an id");
    is_int(n, strlen(id), "its length");
    n = ot_prediction_id_format(id, UINT64_MAX, UINT64_MAX, UINT64_MAX, false);
    ok(n < sizeof id && strlen(id) == n, "the longest fits");
    ot_prediction_id_format(id, 0, 0, 0, false);
    is_str(id, "0000000000000000-0-0-0", "the shortest");
}

int main(void)
{
    if (ot_oip_memo_create(&memo, NULL) != OT_OK) {
        return 1;
    }
    decoding();
    ids();
    ot_oip_memo_destroy(memo);
    return tap_done();
}
