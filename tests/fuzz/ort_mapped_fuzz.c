/* links: base */
/* ONNX models without their large weights: any bytes give a model that names the same tensors, with
 * data inside the file, or nothing. */
#include "../../plugins/onnxruntime/ort_mapped.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* How many tensors of a graph are elsewhere; where, it says in numbers that lie in the file. */
static size_t count(pb graph, size_t size)
{
    size_t mapped = 0;
    pb_field f, t, e = {0};
    while (pb_next(&graph, &f)) {
        pb tensor = f.bytes;
        while (f.number == GRAPH_INITIALIZER && f.wire == PB_BYTES && pb_next(&tensor, &t)) {
            pb entry = t.bytes;
            bool is_entry = t.number == TENSOR_EXTERNAL_DATA && t.wire == PB_BYTES;
            mapped += is_entry;
            while (is_entry && pb_next(&entry, &e)) {
                char text[32] = "";
                size_t n = e.wire == PB_BYTES ? (size_t)(e.bytes.end - e.bytes.p) : 0;
                memcpy(text, e.bytes.p, n < sizeof text ? n : 0);
                if (e.number == ENTRY_VALUE && strtoull(text, NULL, 10) > size) {
                    abort();
                }
            }
        }
    }
    return mapped;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *model;
    size_t n, mapped = 0;
    if (!ort_mapped_model(data, size, "model.onnx", &model, &n)) {
        return 0;
    }
    pb m = {model, model + n, false};
    pb_field f;
    while (pb_next(&m, &f)) {
        mapped += f.number == MODEL_GRAPH && f.wire == PB_BYTES ? count(f.bytes, size) : 0;
    }
    if (m.bad || mapped == 0) {
        abort();
    }
    free(model);
    return 0;
}
