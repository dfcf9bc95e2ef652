/* links: codec base */
/* PredictRequest: what decodes holds whole tensors, which written as a response's and read again
 * are the same, bit for bit. */
#include "codec/tfs_pb.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void same(const ot_tensor *a, const ot_tensor *b)
{
    if (a->dtype != b->dtype || a->rank != b->rank || a->size_bytes != b->size_bytes ||
        memcmp(a->dims, b->dims, (size_t)a->rank * sizeof a->dims[0]) != 0 ||
        (a->size_bytes > 0 && memcmp(a->data, b->data, a->size_bytes) != 0)) {
        abort();
    }
}

static void again(const ot_tensor *t, ot_arena *arena)
{
    ot_str s = OT_STR_INIT;
    ot_error err;
    ot_tensor back = {.name = t->name};
    ot_pb outer, inner;
    ot_pb_field f;
    ot_tfs_pb_tensor_put(&s, 7, t);
    ot_pb_init(&outer, s.data, s.len, "outer");
    if (ot_pb_next(&outer, &f, &err) != OT_OK || f.number != 7 || outer.at != outer.end ||
        ot_pb_enter(&outer, &f, "tensor", "TensorProto", &inner, &err) != OT_OK ||
        ot_tfs_pb_tensor_read(&inner, arena, &back, &err) != OT_OK) {
        abort();
    }
    same(t, &back);
    ot_str_done(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ot_arena arena, more;
    ot_error err;
    ot_tfs_pb_predict p;
    if (size > 65536) {
        return 0;
    }
    ot_arena_init(&arena, 4096, 1 << 18);
    ot_arena_init(&more, 4096, 1 << 22);
    if (ot_tfs_pb_predict_decode(data, size, &arena, &p, &err) == OT_OK) {
        for (int i = 0; i < p.n_inputs; i++) {
            if (ot_tensor_check(&p.inputs[i].tensor, &err) != OT_OK) {
                abort();
            }
            again(&p.inputs[i].tensor, &more);
        }
    } else if (memchr(err.msg, 0, sizeof err.msg) == NULL || err.msg[0] == 0) {
        abort();
    }
    ot_arena_done(&arena);
    ot_arena_done(&more);
    return 0;
}
