/* links: codec base */
/* TensorFlow Serving's predict bodies: what decodes by one of a few signatures gives whole tensors
 * of the signature's types, whose answer encodes, in both formats, to JSON that is read back as the
 * same. The first byte picks the signature. */
#include "codec/tfs_json.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const ot_tensor_spec specs[][3] = {
    {{"x", OT_DT_FP32, 2, {-1, 3}}},
    {{"x", OT_DT_FP64, 3, {-1, -1, -1}}, {"s", OT_DT_BYTES, 2, {-1, -1}}},
    {{"s", OT_DT_BYTES, 1, {-1}}},
    {{"a", OT_DT_INT8, 1, {-1}}, {"b", OT_DT_BOOL, 0, {0}}, {"c_bytes", OT_DT_BYTES, 0, {0}}},
};
static const size_t counts[] = {1, 2, 1, 3};

static ot_rc find(void *arg, const char *name, const ot_tensor_spec **specs_out, size_t *n_out,
                  ot_error *err)
{
    size_t which = *(const size_t *)arg;
    if (name != NULL) {
        which = (size_t)name[0] % OT_COUNT(counts);
        if (strlen(name) > 4) {
            return ot_fail(err, OT_INVALID, "no signature '%.40s'", name);
        }
    }
    *specs_out = specs[which];
    *n_out = counts[which];
    return OT_OK;
}

/* Encodes what was decoded as if it were an answer, and reads that as a request again. */
static void answer_again(const ot_tfs_predict *p, bool rows, ot_tfs_inputs_fn *fn, void *arg,
                         ot_arena *arena)
{
    ot_tensor t[3];
    ot_str out = OT_STR_INIT;
    ot_error err;
    for (int i = 0; i < p->n_inputs; i++) {
        t[i] = p->inputs[i].tensor;
    }
    ot_rc rc = ot_tfs_predict_encode(t, p->n_inputs, rows, &out, &err);
    if (rc != OT_OK && !(rows && rc == OT_INVALID)) {
        abort();
    }
    ot_json_scan s;
    ot_json_scan_init(&s, out.data, out.len);
    if (rc == OT_OK && (ot_json_skip(&s, &err) != OT_OK || ot_json_finish(&s, &err) != OT_OK)) {
        abort();
    }
    const char *key = rows ? "{\"predictions\"" : "{\"outputs\"";
    if (rc == OT_OK && p->signature == NULL && rows == p->rows) {
        ot_str body = OT_STR_INIT;
        ot_tfs_predict back;
        ot_str_adds(&body, rows ? "{\"instances\"" : "{\"inputs\"");
        ot_str_add(&body, out.data + strlen(key), out.len - strlen(key));
        if (ot_tfs_predict_decode(body.data, body.len, fn, arg, arena, &back, &err) != OT_OK) {
            abort();
        }
        ot_str_done(&body);
    }
    ot_str_done(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > 65536) {
        return 0;
    }
    ot_arena arena, again;
    ot_error err;
    ot_tfs_predict p;
    size_t which = data[0] % OT_COUNT(counts);
    ot_arena_init(&arena, 4096, 1 << 20);
    ot_arena_init(&again, 4096, 1 << 24);
    if (ot_tfs_predict_decode((const char *)data + 1, size - 1, find, &which, &arena, &p, &err) ==
        OT_OK) {
        for (int i = 0; i < p.n_inputs; i++) {
            if (ot_tensor_check(&p.inputs[i].tensor, &err) != OT_OK) {
                abort();
            }
        }
        answer_again(&p, true, find, &which, &again);
        answer_again(&p, false, find, &which, &again);
    } else if (memchr(err.msg, 0, sizeof err.msg) == NULL || err.msg[0] == 0) {
        abort();
    }
    ot_arena_done(&arena);
    ot_arena_done(&again);
    return 0;
}
