/* links: load registry runtime launch backup model store net stats codec base */
/* The body of an answer in each protocol of the load generator: what is taken is whole tensors. The
 * first byte says which protocol; from 0x80 on it is what TensorFlow Serving says of a model. */
#include "load/protocol_internal.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_signature(ot_arena *arena, ot_slice body)
{
    static ot_tensor_spec specs[2][OT_LOAD_TENSORS_MAX];
    ot_load_target t = {.inputs = specs[0], .outputs = specs[1]};
    ot_error err;
    t.arena = *arena;
    memset(specs, 0, sizeof specs);
    if (ot_load_signature_tfs_grpc(&t, body, &err) == OT_OK &&
        (t.n_inputs == 0 || t.inputs[0].dtype == OT_DT_INVALID)) {
        abort();
    }
    *arena = t.arena;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const ot_load_protocol protocols[] = {OT_LOAD_OIP_JSON, OT_LOAD_GRPC, OT_LOAD_TFS,
                                                 OT_LOAD_TFS_GRPC};
    static ot_tensor_spec y = {.name = "y", .dtype = OT_DT_FP32, .rank = 2, .dims = {-1, 2}};
    if (size < 1) {
        return 0;
    }
    ot_load_target t = {
        .protocol = protocols[data[0] % OT_COUNT(protocols)], .outputs = &y, .n_outputs = 1};
    char *body = malloc(size); /* exact, so that reading past its end is found */
    if (body == NULL) {
        abort();
    }
    memcpy(body, data + 1, size - 1);
    ot_load_answer a = {.status = 200, .grpc_status = 0, .body = {body, size - 1}};
    ot_arena arena;
    ot_load_outputs out;
    ot_error err;
    char version[24];
    ot_arena_init(&arena, 4096, 1 << 20);
    if (data[0] >= 0x80) {
        read_signature(&arena, a.body);
    } else if (ot_load_decode(&t, &a, &arena, &out, &err) == OT_OK) {
        for (size_t i = 0; i < out.n; i++) {
            if (ot_tensor_check(&out.tensors[i], &err) != OT_OK) {
                abort();
            }
        }
    }
    ot_load_version_of(&t, &a, version);
    if (strlen(version) > 23) {
        abort();
    }
    ot_arena_done(&arena);
    free(body);
    return 0;
}
