#include "codec/record.h"

#include "tap.h"

static float xs[] = {1, 2}, ys[] = {3};

static ot_rc write_one(uint64_t at_ns, ot_str *out, ot_error *err)
{
    ot_oip_tensor x = {.binary = true,
                       .tensor = {.name = "x",
                                  .dtype = OT_DT_FP32,
                                  .rank = 2,
                                  .dims = {1, 2},
                                  .data = xs,
                                  .size_bytes = sizeof xs}};
    ot_oip_tensor y = {.binary = true,
                       .tensor = {.name = "y",
                                  .dtype = OT_DT_FP32,
                                  .rank = 1,
                                  .dims = {1},
                                  .data = ys,
                                  .size_bytes = sizeof ys}};
    ot_oip_request request = {.inputs = &x, .n_inputs = 1, .binary_default = true};
    ot_oip_response answer = {
        .model_name = "m", .model_version = "7", .outputs = &y, .n_outputs = 1};
    return ot_record_write(at_ns, &request, &answer, out, err);
}

int main(void)
{
    OT_AUTO(ot_str_done) ot_str file = OT_STR_INIT;
    ot_error err;
    ot_record r;
    bool more;
    size_t at;
    ot_str_adds(&file, OT_RECORD_FILE_MAGIC);
    is_int(write_one(5, &file, &err), OT_OK, "a record");
    is_int(write_one(UINT64_C(1) << 40, &file, &err), OT_OK, "another");
    is_int(ot_record_begin(file.data, file.len, &at, &err), OT_OK, "a recording");
    ok(ot_record_next(file.data, file.len, &at, &r, &more, &err) == OT_OK && more && r.at_ns == 5,
       "the first");
    ot_arena arena;
    ot_arena_init(&arena, 4096, 1 << 20);
    ot_oip_request request;
    ot_oip_response answer;
    ok(ot_oip_request_decode(r.request, r.request_len, (int64_t)r.request_head, NULL, &arena,
                             &request, &err) == OT_OK &&
           memcmp(request.inputs[0].tensor.data, xs, sizeof xs) == 0,
       "its request");
    ok(ot_oip_response_decode(r.answer, r.answer_len, (int64_t)r.answer_head, &arena, &answer,
                              &err) == OT_OK &&
           strcmp(answer.model_version, "7") == 0 &&
           memcmp(answer.outputs[0].tensor.data, ys, sizeof ys) == 0,
       "its answer");
    ot_arena_done(&arena);
    size_t second = at;
    ok(ot_record_next(file.data, file.len, &at, &r, &more, &err) == OT_OK && more &&
           r.at_ns == UINT64_C(1) << 40,
       "the second");
    ok(ot_record_next(file.data, file.len, &at, &r, &more, &err) == OT_OK && !more, "the end");
    bool ends = true;
    for (size_t n = second; n < file.len; n++) {
        at = second;
        ends = ends && ot_record_next(file.data, n, &at, &r, &more, &err) == OT_OK && !more;
    }
    ok(ends, "a record that was cut short ends the file, wherever it was cut");
    file.data[second] ^= 1;
    at = second;
    ok(ot_record_next(file.data, file.len, &at, &r, &more, &err) == OT_INVALID, "damage: %s",
       err.msg);
    ok(ot_record_begin("OTREC002 and more", 17, &at, &err) == OT_INVALID, "%s", err.msg);
    ok(ot_record_begin("", 0, &at, &err) == OT_INVALID, "an empty file");
    return tap_done();
}
