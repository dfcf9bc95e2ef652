#include "ort_mapped.h"

#include "../common/pb.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Fields of the messages: onnx.proto. */
enum { MODEL_GRAPH = 7 };
enum { GRAPH_INITIALIZER = 5 };
enum { TENSOR_RAW_DATA = 9, TENSOR_EXTERNAL_DATA = 13, TENSOR_DATA_LOCATION = 14 };
enum { ENTRY_KEY = 1, ENTRY_VALUE = 2 };
enum { LOCATION_EXTERNAL = 1 };

typedef struct out {
    uint8_t *p;
    size_t n, cap;
    bool failed;
} out;

static void add(out *o, const void *p, size_t n)
{
    if (o->failed || n > ORT_MAPPED_BYTES_MAX - o->n) {
        o->failed = true;
        return;
    }
    if (o->n + n > o->cap) {
        size_t cap = 2 * (o->n + n) + 256;
        uint8_t *grown = realloc(o->p, cap);
        if (grown == NULL) {
            o->failed = true;
            return;
        }
        o->p = grown;
        o->cap = cap;
    }
    if (n > 0) {
        memcpy(o->p + o->n, p, n);
    }
    o->n += n;
}

static void add_varint(out *o, uint64_t v)
{
    uint8_t b[10];
    size_t n = 0;
    do {
        b[n++] = (uint8_t)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
        v >>= 7;
    } while (v != 0);
    add(o, b, n);
}

static void add_bytes(out *o, uint32_t field, const void *p, size_t n)
{
    add_varint(o, (uint64_t)field << 3 | PB_BYTES);
    add_varint(o, n);
    add(o, p, n);
}

/* Appends `inner` as a field and frees it. */
static void add_message(out *o, uint32_t field, out *inner)
{
    o->failed |= inner->failed;
    add_bytes(o, field, inner->p, inner->n);
    free(inner->p);
    *inner = (out){0};
}

/* The data of a tensor that can stay where it is. */
static bool large_data(pb tensor, pb *raw_out)
{
    pb_field f;
    bool elsewhere = false;
    pb raw = {NULL, NULL, false};
    while (pb_next(&tensor, &f)) {
        if (f.number == TENSOR_RAW_DATA && f.wire == PB_BYTES) {
            raw = f.bytes;
        }
        elsewhere |= f.number == TENSOR_EXTERNAL_DATA || f.number == TENSOR_DATA_LOCATION;
    }
    *raw_out = raw;
    return !elsewhere && !tensor.bad && raw.end - raw.p >= ORT_MAPPED_LEAST;
}

static void add_entry(out *tensor, const char *key, const char *value)
{
    out entry = {0};
    add_bytes(&entry, ENTRY_KEY, key, strlen(key));
    add_bytes(&entry, ENTRY_VALUE, value, strlen(value));
    add_message(tensor, TENSOR_EXTERNAL_DATA, &entry);
}

static void add_tensor(out *graph, pb tensor, pb raw, uint64_t offset, const char *name)
{
    out inner = {0};
    pb_field f;
    char text[24];
    for (const uint8_t *from = tensor.p; pb_next(&tensor, &f); from = tensor.p) {
        if (f.number != TENSOR_RAW_DATA) {
            add(&inner, from, (size_t)(tensor.p - from));
        }
    }
    add_entry(&inner, "location", name);
    snprintf(text, sizeof text, "%" PRIu64, offset);
    add_entry(&inner, "offset", text);
    snprintf(text, sizeof text, "%zu", (size_t)(raw.end - raw.p));
    add_entry(&inner, "length", text);
    add_varint(&inner, TENSOR_DATA_LOCATION << 3 | PB_VARINT);
    add_varint(&inner, LOCATION_EXTERNAL);
    add_message(graph, GRAPH_INITIALIZER, &inner);
}

/* How many tensors stay in the file. */
static size_t add_graph(out *model, pb graph, const uint8_t *file, const char *name)
{
    out inner = {0};
    pb_field f;
    size_t mapped = 0;
    for (const uint8_t *from = graph.p; pb_next(&graph, &f); from = graph.p) {
        pb raw = {NULL, NULL, false};
        if (f.number == GRAPH_INITIALIZER && f.wire == PB_BYTES && large_data(f.bytes, &raw)) {
            add_tensor(&inner, f.bytes, raw, (uint64_t)(raw.p - file), name);
            mapped++;
        } else {
            add(&inner, from, (size_t)(graph.p - from));
        }
    }
    inner.failed |= graph.bad;
    add_message(model, MODEL_GRAPH, &inner);
    return mapped;
}

bool ort_mapped_model(const uint8_t *data, size_t n, const char *name, uint8_t **out_out,
                      size_t *n_out)
{
    out model = {0};
    pb m = {data, data + n, false};
    pb_field f;
    size_t mapped = 0;
    for (const uint8_t *from = m.p; pb_next(&m, &f) && !model.failed; from = m.p) {
        if (f.number == MODEL_GRAPH && f.wire == PB_BYTES) {
            mapped += add_graph(&model, f.bytes, data, name);
        } else {
            add(&model, from, (size_t)(m.p - from));
        }
    }
    if (m.bad || model.failed || mapped == 0) {
        free(model.p);
        return false;
    }
    *out_out = model.p;
    *n_out = model.n;
    return true;
}
