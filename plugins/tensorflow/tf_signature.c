#include "tf_signature.h"
#include "../common/pb.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The first field of this number that has bytes; false when there is none. */
static bool find_bytes(pb m, uint32_t number, pb *out)
{
    pb_field f;
    while (pb_next(&m, &f)) {
        if (f.number == number && f.wire == PB_BYTES) {
            *out = f.bytes;
            return true;
        }
    }
    return false;
}

static bool copy_text(pb from, char *out, size_t cap)
{
    size_t n = (size_t)(from.end - from.p);
    if (n == 0 || n >= cap || memchr(from.p, 0, n) != NULL) {
        return false;
    }
    memcpy(out, from.p, n);
    out[n] = '\0';
    return true;
}

/* ---- the messages */

typedef struct reader {
    char *why;
    size_t n_why;
} reader;

__attribute__((format(printf, 2, 3))) static bool fail(reader *r, const char *fmt, ...)
{
    if (r->n_why > 0 && r->why[0] == '\0') {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(r->why, r->n_why, fmt, ap);
        va_end(ap);
    }
    return false;
}

static bool read_shape(reader *r, pb m, tf_tensor_info *t)
{
    pb_field f;
    t->rank = 0;
    while (pb_next(&m, &f)) {
        if (f.number == 3 && f.wire == PB_VARINT && f.value != 0) { /* unknown_rank */
            t->rank = -1;
            return true;
        }
        if (f.number == 2 && f.wire == PB_BYTES) { /* dim */
            pb_field d;
            int64_t size = 0;
            if (t->rank == TF_RANK_MAX) {
                return fail(r, "'%s' has more than 8 axes", t->key);
            }
            while (pb_next(&f.bytes, &d)) {
                if (d.number == 1 && d.wire == PB_VARINT) {
                    size = (int64_t)d.value;
                }
            }
            t->dims[t->rank++] = size < 0 ? -1 : size;
            m.bad = m.bad || f.bytes.bad;
        }
    }
    return !m.bad || fail(r, "'%s': broken shape", t->key);
}

/* One entry of map<string, TensorInfo>. */
static bool read_tensor(reader *r, pb entry, tf_tensor_info *t)
{
    pb key, info, name, shape;
    pb_field f;
    memset(t, 0, sizeof *t);
    if (!find_bytes(entry, 1, &key) || !copy_text(key, t->key, sizeof t->key) ||
        !find_bytes(entry, 2, &info)) {
        return fail(r, "a tensor of the signature has no name, or one over %d bytes",
                    TF_KEY_MAX - 1);
    }
    if (!find_bytes(info, 1, &name) || !copy_text(name, t->tensor, sizeof t->tensor)) {
        return fail(r, "'%s' is not a dense tensor; such inputs and outputs aren't supported",
                    t->key);
    }
    t->rank = -1;
    if (find_bytes(info, 3, &shape) && !read_shape(r, shape, t)) {
        return false;
    }
    while (pb_next(&info, &f)) {
        if (f.number == 2 && f.wire == PB_VARINT) {
            t->dtype = f.value < 1000 ? (int)f.value : 0;
        }
    }
    return !info.bad || fail(r, "'%s': broken bytes", t->key);
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const tf_tensor_info *)a)->key, ((const tf_tensor_info *)b)->key);
}

static bool read_signature(reader *r, pb m, tf_signature *out)
{
    pb_field f;
    out->n_inputs = out->n_outputs = 0;
    out->method[0] = '\0';
    while (pb_next(&m, &f)) {
        if (f.number == 3 && f.wire == PB_BYTES &&
            !copy_text(f.bytes, out->method, sizeof out->method)) {
            return fail(r, "signature '%s': broken method_name", out->name);
        }
        if (f.wire != PB_BYTES || (f.number != 1 && f.number != 2)) {
            continue;
        }
        bool input = f.number == 1;
        uint32_t *n = input ? &out->n_inputs : &out->n_outputs;
        if (*n == (input ? TF_TENSORS_MAX : TF_OUTPUTS_MAX)) {
            return fail(r, "the signature has more than %s", input ? "256 inputs" : "32 outputs");
        }
        if (!read_tensor(r, f.bytes, input ? &out->inputs[*n] : &out->outputs[*n])) {
            return false;
        }
        (*n)++;
    }
    if (m.bad) {
        return fail(r, "signature '%s': broken bytes", out->name);
    }
    qsort(out->inputs, out->n_inputs, sizeof out->inputs[0], by_key);
    qsort(out->outputs, out->n_outputs, sizeof out->outputs[0], by_key);
    return out->n_outputs > 0 || fail(r, "signature '%s' has no outputs", out->name);
}

/* How well a signature serves when none is named: a higher number is better, 0 never does. */
static int rank_of(const char *name, const char *want)
{
    if (want != NULL) {
        return strcmp(name, want) == 0;
    }
    if (strcmp(name, "__saved_model_init_op") == 0 || strcmp(name, "__saved_model_train_op") == 0) {
        return 0;
    }
    return strcmp(name, "serving_default") == 0 ? 3 : strcmp(name, "serve") == 0 ? 2 : 1;
}

/* The next entry of map<string, SignatureDef> whose key is a text; false after the last one. */
static bool next_signature(pb *m, char name[TF_KEY_MAX], pb *value)
{
    pb_field f;
    pb key;
    while (pb_next(m, &f)) {
        if (f.number == 5 && f.wire == PB_BYTES && find_bytes(f.bytes, 1, &key) &&
            find_bytes(f.bytes, 2, value) && copy_text(key, name, TF_KEY_MAX)) {
            return true;
        }
    }
    return false;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

uint32_t tf_signature_names(const void *meta_graph, size_t n,
                            char names[TF_SIGNATURES_MAX][TF_KEY_MAX])
{
    pb m = {meta_graph, (const uint8_t *)meta_graph + n, false}, value;
    uint32_t count = 0;
    while (count < TF_SIGNATURES_MAX && next_signature(&m, names[count], &value)) {
        count += rank_of(names[count], NULL) > 0;
    }
    qsort(names, count, TF_KEY_MAX, by_name);
    return count;
}

bool tf_signature_read(const void *meta_graph, size_t n, const char *want, tf_signature *out,
                       char *why, size_t n_why)
{
    pb m = {meta_graph, (const uint8_t *)meta_graph + n, false}, best = {0}, value;
    char name[TF_KEY_MAX];
    int best_rank = 0;
    unsigned same = 0;
    char known[256] = "";
    size_t used = 0;
    reader r = {why, n_why};
    if (n_why > 0) {
        why[0] = '\0';
    }
    while (next_signature(&m, name, &value)) {
        used += strlen(name) + 3 < sizeof known - used
                    ? (size_t)snprintf(known + used, sizeof known - used, "%s%s",
                                       used > 0 ? ", " : "", name)
                    : 0;
        int rank = rank_of(name, want);
        same += rank == best_rank;
        if (rank > best_rank) {
            best = value;
            best_rank = rank;
            same = 1;
            snprintf(out->name, sizeof out->name, "%s", name);
        }
    }
    if (m.bad) {
        return fail(&r, "broken MetaGraphDef");
    }
    if (best_rank == 0) {
        return fail(&r, "no signature '%s'; the model has: %s",
                    want != NULL ? want : "serving_default", known[0] != '\0' ? known : "none");
    }
    if (want == NULL && best_rank == 1 && same > 1) {
        return fail(&r,
                    "several signatures and none is serving_default; set option signature to one "
                    "of: %s",
                    known);
    }
    return read_signature(&r, best, out);
}
