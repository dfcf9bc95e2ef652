/* links: runtime launch model stats codec base */
/* What a worker process writes into shared memory, and what it says of its model. */
#include "base/mem.h"
#include "runtime/isolate.h"

#include <stdlib.h>
#include <string.h>

#define SEGMENT (1u << 16)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_answer(const uint8_t *data, size_t size)
{
    static const ot_tensor_spec fp32 = {"y", OT_DT_FP32, 2, {-1, 3}},
                                text = {"s", OT_DT_BYTES, 1, {-1}};
    static const ot_tensor_spec *const specs[] = {&fp32, &text};
    static uint8_t segment[SEGMENT];
    static ot_ring_answer a;
    overtake_output outputs[OT_RUNTIME_OUTPUTS_MAX];
    const int32_t *parts = NULL;
    ot_error err;
    memset(&a, 0, sizeof a);
    memcpy(&a, data, size < sizeof a ? size : sizeof a);
    ot_ring_expect e = {.ticket = a.ticket,
                        .n_outputs = 2,
                        .n_parts = 3,
                        .segment = segment,
                        .size = SEGMENT,
                        .specs = specs};
    if (ot_ring_check(&a, &e, outputs, &parts, &err) != OT_OK || a.status != OVERTAKE_OK) {
        return;
    }
    volatile uint8_t sum = 0; /* all that was let through can be read */
    for (int i = 0; i < 2; i++) {
        const uint8_t *p = outputs[i].data;
        for (uint64_t k = 0; k < outputs[i].size_bytes; k++) {
            sum = (uint8_t)(sum + p[k]);
        }
        if (p < segment || p + outputs[i].size_bytes > segment + SEGMENT) {
            abort();
        }
    }
    for (int k = 0; parts != NULL && k < 3; k++) {
        sum = (uint8_t)(sum + (uint8_t)parts[k]);
    }
}

static void check_loaded(const char *text, size_t size)
{
    ot_arena arena;
    overtake_model_info info;
    const char *version, *lacks;
    ot_error err;
    json_t *m = json_loadb(text, size, 0, NULL);
    ot_arena_init(&arena, 4096, 1u << 20);
    if (json_is_object(m) &&
        ot_isolate_read_loaded(m, &arena, &info, &version, &lacks, &err) == OT_OK) {
        for (uint32_t i = 0; i < info.n_inputs; i++) {
            if (info.inputs[i].rank > OT_RANK_MAX || info.inputs[i].name == NULL) {
                abort();
            }
        }
    }
    ot_arena_done(&arena);
    json_decref(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0 && data[0] == '{') {
        check_loaded((const char *)data, size);
    } else {
        check_answer(data, size);
    }
    return 0;
}
