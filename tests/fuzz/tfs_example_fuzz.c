/* links: codec base */
/* Examples, as JSON, as an Input of gRPC and as what several tasks share: what is read becomes
 * whole tensors, by the names of its features and serialised, and what JSON is made into is read
 * again as a message. */
#include "codec/tfs_multi.h"
#include "codec/tfs_result.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const ot_tensor_spec specs[] = {
    {"x", OT_DT_FP32, 2, {-1, -1}},  {"k", OT_DT_INT8, 1, {-1}},
    {"s", OT_DT_BYTES, 2, {-1, -1}}, {"h", OT_DT_FP16, 2, {-1, 2}},
    {"b", OT_DT_BOOL, 1, {-1}},      {"u", OT_DT_UINT64, 3, {-1, 2, -1}}};

static void check(const ot_tensor *t, int64_t rows)
{
    ot_error err;
    if (ot_tensor_check(t, &err) != OT_OK || t->dims[0] != rows) {
        abort();
    }
    ot_tfs_classes c;
    const ot_tensor *values;
    ot_str out = OT_STR_INIT;
    if (ot_tfs_classes_find(t, 1, -1, &c, &err) == OT_OK) {
        if (ot_tfs_classes_json(&c, &out, &err) != OT_OK ||
            (ot_tfs_classes_pb(&c, 1, &out, &err) != OT_OK && t->dtype != OT_DT_BYTES)) {
            abort();
        }
    }
    if (ot_tfs_values_find(t, 1, -1, &values, &err) == OT_OK) {
        ot_tfs_values_json(values, &out);
        ot_tfs_values_pb(values, 1, &out);
    }
    ot_str_done(&out);
}

static void use(const ot_tfs_examples *e, ot_arena *arena, bool ours)
{
    ot_error err;
    ot_tensor whole;
    ot_oip_tensor *t;
    if (ot_tfs_examples_tensor(e, "in", arena, &whole, &err) == OT_OK) {
        check(&whole, e->n);
    }
    for (size_t i = 0; i < OT_COUNT(specs); i++) {
        (void)ot_tfs_examples_have(e, specs[i].name);
        if (ot_tfs_examples_columns(e, &specs[i], 1, arena, &t, &err) == OT_OK) {
            check(&t->tensor, e->n);
        } else if (ours && strstr(err.msg, "Example") != NULL) {
            abort(); /* what we wrote must be one */
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ot_arena arena;
    ot_error err;
    ot_tfs_examples e = {0};
    if (size > 65536) {
        return 0;
    }
    ot_arena_init(&arena, 4096, 1 << 20);
    if (ot_tfs_examples_json((const char *)data, size, &arena, &e, &err) == OT_OK) {
        use(&e, &arena, true);
    } else if (err.msg[0] == '\0') {
        abort();
    }
    ot_pb r;
    ot_pb_field f;
    ot_pb_init(&r, data, size, "fuzz");
    if (ot_pb_next(&r, &f, &err) == OT_OK && f.number != 0 &&
        ot_tfs_examples_pb(&r, &f, &arena, &e, &err) == OT_OK) {
        use(&e, &arena, false);
    }
    ot_tfs_multi m;
    if (ot_tfs_multi_pb(data, size, &arena, &m, &err) == OT_OK) {
        for (size_t i = 0; i < m.n; i++) {
            if (strcmp(m.tasks[i].spec.name, m.tasks[0].spec.name) != 0) {
                abort();
            }
        }
        use(&m.input, &arena, false);
    }
    ot_arena_done(&arena);
    return 0;
}
