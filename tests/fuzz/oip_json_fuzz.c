/* links: codec base */
/* JSON bodies: what decodes as a request or a response encodes again, decodes to the same tensors,
 * bit for bit (NaN apart), and skipping agrees with reading about what is JSON. */
#include "codec/oip.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void same_tensor(const ot_tensor *a, const ot_tensor *b)
{
    if (a->dtype != b->dtype || a->rank != b->rank || a->size_bytes != b->size_bytes ||
        memcmp(a->dims, b->dims, (size_t)a->rank * sizeof a->dims[0]) != 0) {
        abort();
    }
    int64_t n = a->dtype == OT_DT_BYTES ? 0 : ot_tensor_count(a);
    for (int64_t i = 0; i < n; i++) {
        double x = ot_tensor_f64_at(a, i), y = ot_tensor_f64_at(b, i);
        if (memcmp(&x, &y, sizeof x) != 0 && !(x != x && y != y)) {
            abort();
        }
    }
    if (a->dtype == OT_DT_BYTES && a->size_bytes != 0 &&
        memcmp(a->data, b->data, a->size_bytes) != 0) {
        abort();
    }
}

static void request_again(const ot_oip_request *r, ot_arena *arena)
{
    ot_str head = OT_STR_INIT;
    ot_oip_encoded e;
    ot_oip_request back;
    for (int i = 0; i < r->n_inputs; i++) {
        if (ot_tensor_check(&r->inputs[i].tensor, NULL) != OT_OK) {
            abort();
        }
    }
    if (ot_oip_request_encode(r, &head, &e, NULL) != OT_OK || e.n_blobs != 0 ||
        ot_oip_request_decode(head.data, head.len, -1, NULL, arena, &back, NULL) != OT_OK ||
        back.n_inputs != r->n_inputs || back.n_outputs != r->n_outputs ||
        back.params.n != r->params.n) {
        abort();
    }
    for (int i = 0; i < r->n_inputs; i++) {
        same_tensor(&r->inputs[i].tensor, &back.inputs[i].tensor);
    }
    ot_str_done(&head);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ot_arena arena;
    ot_error err;
    ot_oip_request r;
    ot_oip_response p;
    ot_json_scan s;
    if (size > 65536) {
        return 0;
    }
    /* The second arena has room for what the first one let in, grown by a longer notation. */
    ot_arena again;
    ot_arena_init(&arena, 4096, 1 << 20);
    ot_arena_init(&again, 4096, 1 << 23);
    ot_json_scan_init(&s, (const char *)data, size);
    ot_rc skipped = ot_json_skip(&s, &err);
    if (skipped == OT_OK) {
        skipped = ot_json_finish(&s, &err);
    }
    if (ot_oip_request_decode(data, size, -1, NULL, &arena, &r, &err) == OT_OK) {
        if (skipped != OT_OK) {
            abort();
        }
        request_again(&r, &again);
    } else if (memchr(err.msg, 0, sizeof err.msg) == NULL || err.msg[0] == 0) {
        abort();
    }
    if (ot_oip_response_decode(data, size, -1, &arena, &p, &err) == OT_OK && skipped != OT_OK) {
        abort();
    }
    (void)ot_oip_error_message(data, size, &arena);
    ot_arena_done(&arena);
    ot_arena_done(&again);
    return 0;
}
