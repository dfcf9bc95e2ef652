/* links: codec base */
/* ModelInferRequest. What is decoded is consistent and lies in the message or the arena; sent back
 * as a response in the same form and read as a message it has the same tensors. */
#include "codec/oip_pb.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile unsigned sink;

static void respond(const ot_oip_pb_request *q, bool stream)
{
    ot_error err;
    ot_str head = OT_STR_INIT, all = OT_STR_INIT;
    ot_oip_pb_encoded e;
    ot_oip_response r = {.model_name = q->model_name,
                         .model_version = q->model_version,
                         .id = q->r.id,
                         .params = q->r.params,
                         .outputs = q->r.inputs,
                         .n_outputs = q->r.n_inputs};
    if (ot_oip_pb_response_encode(&r, stream, &head, &e, &err) != OT_OK) {
        abort();
    }
    for (int i = 0; i < e.n_iov; i++) {
        ot_str_add(&all, e.iov[i].iov_base, e.iov[i].iov_len);
    }
    ot_pb m;
    ot_pb_field f;
    int outputs = 0;
    ot_pb_init(&m, all.data, all.len, "sent");
    if (stream && (ot_pb_next(&m, &f, &err) != OT_OK || f.number != 2 || m.at != m.end ||
                   ot_pb_enter(&m, &f, "infer_response", "sent", &m, &err) != OT_OK)) {
        abort();
    }
    do {
        if (ot_pb_next(&m, &f, &err) != OT_OK) {
            abort();
        }
        outputs += f.number == 5;
    } while (f.number != 0);
    if (all.len != e.bytes || outputs != q->r.n_inputs) {
        abort();
    }
    ot_str_done(&head);
    ot_str_done(&all);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ot_arena arena;
    ot_error err;
    ot_oip_pb_request q;
    ot_arena_init(&arena, 4096, 1u << 20);
    if (ot_oip_pb_request_decode(data, size, &arena, &q, &err) == OT_OK) {
        for (int i = 0; i < q.r.n_inputs; i++) {
            const ot_tensor *t = &q.r.inputs[i].tensor;
            if (ot_tensor_check(t, &err) != OT_OK) {
                abort();
            }
            for (size_t k = 0; k < t->size_bytes; k++) {
                sink += ((const uint8_t *)t->data)[k];
            }
        }
        respond(&q, false);
        respond(&q, true);
    }
    ot_arena_done(&arena);
    return 0;
}
