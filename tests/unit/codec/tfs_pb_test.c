/* Vectors are what protobuf 7 (Python) writes for TensorFlow's and TensorFlow Serving's messages.
 */
#include "codec/tfs_pb.h"
#include "tap.h"

static ot_arena arena;

static size_t unhex(const char *hex, uint8_t *out)
{
    size_t n = strlen(hex) / 2;
    return ot_unhex(hex, n, out) ? n : 0;
}

static ot_rc read_tensor(const char *hex, ot_tensor *t, ot_error *err)
{
    static uint8_t bytes[512];
    ot_pb r;
    ot_arena_reset(&arena);
    ot_pb_init(&r, bytes, unhex(hex, bytes), "TensorProto");
    return ot_tfs_pb_tensor_read(&r, &arena, t, err);
}

/* "FP32 [2] [1.0,2.5]" */
static const char *shown(const ot_tensor *t)
{
    static char text[256];
    char shape[OT_SHAPE_TEXT];
    ot_str s = OT_STR_INIT;
    ot_error err;
    ot_str_addf(&s, "%s %s ", ot_dtype_name(t->dtype), ot_shape_format(t->dims, t->rank, shape));
    if (ot_oip_tensor_json(t, &s, &err) != OT_OK) {
        ot_str_adds(&s, err.msg);
    }
    snprintf(text, sizeof text, "%s", s.data);
    ot_str_done(&s);
    return text;
}

static void tensors(void)
{
    static const char *const good[][2] = {
        {"08011208120208021202080222100000803f0000204000004040000080c0",
         "FP32 [2,2] [1.0,2.5,3.0,-4.0]"},
        {"080912041202080222100100000000000000feffffffffffffff", "INT64 [2] [1,-2]"},
        {"080a1204120208025a020100", "BOOL [2] [true,false]"},
        {"08011204120208022a080000803f00002040", "FP32 [2] [1.0,2.5]"},
        {"0801120812020802120208022a0400002040", "FP32 [2,2] [2.5,2.5,2.5,2.5]"},
        {"0801120412020802", "FP32 [2] [0.0,0.0]"},
        {"080212041202080132089a9999999999b93f", "FP64 [1] [0.1]"},
        {"08031204120208023a0cffffffffffffffffff01ac02", "INT32 [2] [-1,300]"},
        {"08061204120208033a0b0580ffffffffffffffff01", "INT8 [3] [5,-128,-128]"},
        {"08041204120208013a02ff01", "UINT8 [1] [255]"},
        {"08051204120208013a0ad4fdffffffffffffff01", "INT16 [1] [-300]"},
        {"08111204120208013a03ffff03", "UINT16 [1] [65535]"},
        {"0809120412020801520affffffffffffffffff01", "INT64 [1] [-1]"},
        {"0816120412020801820105ffffffff0f", "UINT32 [1] [4294967295]"},
        {"08171204120208018a010affffffffffffffffff01", "UINT64 [1] [18446744073709551615]"},
        {"08131204120208022204003e00c0", "FP16 [2] [1.5,-2.0]"},
        {"08131204120208026a05807c808003", "FP16 [2] [1.5,-2.0]"},
        {"080e1204120208026a02c07f", "BF16 [2] [1.5,1.5]"},
        {"080a1204120208025a0101", "BOOL [2] [true,true]"},
        {"0807120412020803420161420042026263", "BYTES [3] [\"a\",\"\",\"bc\"]"},
        {"080712041202080242027879", "BYTES [2] [\"xy\",\"xy\"]"},
        {"0807120412020802", "BYTES [2] [\"\",\"\"]"},
        {"08071204120208032206010002616263", "BYTES [3] [\"a\",\"\",\"bc\"]"},
        {"08012a040000e040", "FP32 [] [7.0]"},
        {"08011206120012020803", "FP32 [0,3] []"},
    };
    for (size_t i = 0; i < OT_COUNT(good); i++) {
        ot_tensor t = {0};
        ot_error err = {0};
        ok(read_tensor(good[i][0], &t, &err) == OT_OK, "read %s", err.msg);
        is_str(shown(&t), good[i][1], "its values");
        ok(ot_tensor_check(&t, &err) == OT_OK, "whole");
        /* Written and read again it is the same. */
        ot_str s = OT_STR_INIT;
        ot_tfs_pb_tensor_put(&s, 1, &t);
        ot_pb outer, inner;
        ot_pb_field f;
        ot_tensor back = {0};
        ot_pb_init(&outer, s.data, s.len, "test");
        ok(ot_pb_next(&outer, &f, &err) == OT_OK && outer.at == outer.end &&
               ot_pb_enter(&outer, &f, "t", "TensorProto", &inner, &err) == OT_OK &&
               ot_tfs_pb_tensor_read(&inner, &arena, &back, &err) == OT_OK,
           "written");
        is_str(shown(&back), good[i][1], "the same");
        ot_str_done(&s);
    }
}

static void tensors_refused(void)
{
    static const struct {
        const char *hex, *want;
        ot_rc rc;
    } bad[] = {
        {"08011204120208022a0c0000803f0000004000004040", "FP32 [2] needs 2 values", OT_INVALID},
        {"08011204120208012203616263", "needs 4 bytes; tensor_content has 3", OT_INVALID},
        {"0801120d120b08ffffffffffffffffff01", "dimension -1", OT_INVALID},
        {"1204120208012a040000803f", "without dtype", OT_INVALID},
        {"0808120412020801", "dtype 8 is not one", OT_INVALID},
        {"08061204120208013a02ac02", "300, which is not in the range of INT8", OT_INVALID},
        {"0807120412020802220401096162", "no list of 2 strings", OT_INVALID},
        {"08071204120208012203016162", "lengths add to 1", OT_INVALID},
        {"08011209120708808080808020", "more memory than the limit", OT_EXHAUSTED},
        {"08011212120708808080808020120708808080808020", "product of the dimensions", OT_INVALID},
        {"08011224120208011202080112020801120208011202080112020801120208011202080112020801",
         "more than 8 dimensions", OT_INVALID},
        {"080112021801", "shape of a tensor that is sent is not known", OT_INVALID},
    };
    for (size_t i = 0; i < OT_COUNT(bad); i++) {
        ot_tensor t = {0};
        ot_error err = {0};
        ok(read_tensor(bad[i].hex, &t, &err) == bad[i].rc && strstr(err.msg, bad[i].want) != NULL,
           "refused: %s", err.msg);
    }
}

static void requests(void)
{
    static uint8_t bytes[512];
    ot_tfs_pb_predict p = {0};
    ot_error err = {0};
    size_t n =
        unhex("0a0a0a016d120208031a017312100a016b120b0809120412020801520107121b0a017812160801"
              "1208120208011202080222080000803f000000401a01791a017a",
              bytes);
    ok(ot_tfs_pb_predict_decode(bytes, n, &arena, &p, &err) == OT_OK, "a request %s", err.msg);
    is_str(p.spec.name, "m", "model");
    is_int(p.spec.version, 3, "version");
    is_str(p.spec.signature, "s", "signature");
    ok(p.spec.label == NULL, "no label");
    ok(p.n_inputs == 2 && strcmp(p.inputs[0].tensor.name, "k") == 0 &&
           strcmp(p.inputs[1].tensor.name, "x") == 0,
       "inputs");
    is_str(shown(&p.inputs[1].tensor), "FP32 [1,2] [1.0,2.0]", "tensor");
    ok(p.n_outputs == 2 && strcmp(p.outputs[1].name, "z") == 0, "output_filter");
    for (size_t cut = 1; cut < n; cut++) {
        uint8_t part[512];
        memcpy(part, bytes, cut);
        ot_rc rc = ot_tfs_pb_predict_decode(part, cut, &arena, &p, &err);
        if (rc != OT_OK && (rc != OT_INVALID || err.msg[0] == '\0')) {
            ok(false, "cut at %zu: %s", cut, err.msg);
        }
    }
    n = unhex("0a0b0a016d220663616e617279", bytes);
    ok(ot_tfs_pb_predict_decode(bytes, n, &arena, &p, &err) == OT_OK && p.n_inputs == 0 &&
           strcmp(p.spec.label, "canary") == 0 && p.spec.version == 0,
       "a label");
    n = unhex("0a050a016d1200", bytes);
    ok(ot_tfs_pb_predict_decode(bytes, n, &arena, &p, &err) == OT_NOT_FOUND, "version 0: %s",
       err.msg);
}

static void responses(void)
{
    static const float y[] = {1, 2.5f};
    static const int32_t k[] = {-1};
    ot_tensor outputs[] = {{"n", OT_DT_INT32, 1, {1}, k, sizeof k},
                           {"y", OT_DT_FP32, 2, {1, 2}, y, sizeof y}};
    ot_str s = OT_STR_INIT;
    ot_error err = {0};
    ot_tfs_spec spec = {.name = "m", .version = 3, .signature = "serving_default"};
    ok(ot_tfs_pb_predict_encode(&spec, outputs, 2, &s, &err) == OT_OK, "a response %s", err.msg);
    char hex[512];
    ot_hex((const uint8_t *)s.data, s.len, hex);
    is_str(hex,
           "0a190a016e121408031204120208013a0affffffffffffffffff010a1b0a01791216080112081202080112"
           "0208022a080000803f0000204012180a016d120208031a0f73657276696e675f64656661756c74",
           "as protobuf writes it");
    ot_tfs_pb_predict p = {0};
    ok(ot_tfs_pb_predicted_decode(s.data, s.len, &arena, &p, &err) == OT_OK, "it is read %s",
       err.msg);
    ok(p.n_inputs == 2 && strcmp(p.inputs[1].tensor.name, "y") == 0 && p.spec.version == 3,
       "as what it was");
    is_str(shown(&p.inputs[1].tensor), "FP32 [1,2] [1.0,2.5]", "with its tensors");
    ot_str_clear(&s);
    ok(ot_tfs_pb_request_encode(&spec, outputs, 2, &s, &err) == OT_OK, "a request %s", err.msg);
    ok(ot_tfs_pb_predict_decode(s.data, s.len, &arena, &p, &err) == OT_OK && p.n_inputs == 2 &&
           strcmp(p.spec.signature, "serving_default") == 0,
       "is one %s", err.msg);
    is_str(shown(&p.inputs[0].tensor), "INT32 [1] [-1]", "with its tensors");
    ot_str_clear(&s);
    outputs[0].size_bytes = 3;
    ok(ot_tfs_pb_predict_encode(&spec, outputs, 2, &s, &err) == OT_INVALID, "a broken tensor");
    ot_str_done(&s);
}

int main(void)
{
    ot_arena_init(&arena, 4096, 1 << 20);
    tensors();
    tensors_refused();
    requests();
    responses();
    ot_arena_done(&arena);
    return tap_done();
}
