#include "codec/tfs_result.h"

#include "codec/number.h"

static const ot_tensor *named(const ot_tensor *outputs, int n, const char *name)
{
    for (int i = 0; i < n; i++) {
        if (strcmp(outputs[i].name, name) == 0) {
            return &outputs[i];
        }
    }
    return NULL;
}

/* The output that speaks for the model where none has the name that is looked for. */
static const ot_tensor *spokesman(const ot_tensor *outputs, int n, int prediction)
{
    return prediction >= 0 && prediction < n ? &outputs[prediction] : n == 1 ? &outputs[0] : NULL;
}

/* ---- classification */

static ot_rc wrong(const ot_tensor *t, const char *want, ot_error *err)
{
    char shape[OT_SHAPE_TEXT];
    return ot_fail(err, OT_INVALID, "output '%s' is %s %s, which is not %s; use predict", t->name,
                   ot_dtype_name(t->dtype), ot_shape_format(t->dims, t->rank, shape), want);
}

static ot_rc take(const ot_tensor *t, ot_tfs_classes *c, ot_error *err)
{
    int64_t classes = t->rank == 2 ? t->dims[1] : 1;
    OT_TRY(ot_tensor_check(t, err));
    if (t->rank < 1 || t->rank > 2 || t->dtype == OT_DT_BOOL) {
        return wrong(t, "labels or scores of examples ([n, classes] or [n])", err);
    }
    if ((c->labels != NULL || c->scores != NULL) &&
        (c->rows != t->dims[0] || c->classes != classes)) {
        return wrong(t, "of the shape of the other one of 'classes' and 'scores'", err);
    }
    c->rows = t->dims[0];
    c->classes = classes;
    *(ot_dtype_is_float(t->dtype) ? &c->scores : &c->labels) = t;
    return OT_OK;
}

ot_rc ot_tfs_classes_find(const ot_tensor *outputs, int n, int prediction, ot_tfs_classes *out,
                          ot_error *err)
{
    ot_tfs_classes c = {0};
    const ot_tensor *labels = named(outputs, n, "classes"), *scores = named(outputs, n, "scores");
    if (labels == NULL && scores == NULL) {
        labels = spokesman(outputs, n, prediction);
    }
    if (labels == NULL && scores == NULL) {
        return ot_fail(err, OT_INVALID,
                       "the model has %d outputs and none is 'classes' or 'scores'; use predict",
                       n);
    }
    if (labels != NULL) {
        OT_TRY(take(labels, &c, err));
    }
    if (scores != NULL) {
        if (!ot_dtype_is_float(scores->dtype)) {
            return wrong(scores, "floats", err);
        }
        OT_TRY(take(scores, &c, err));
    }
    *out = c;
    return OT_OK;
}

/* Walks the labels of all classes of all examples. */
typedef struct label_walk {
    const ot_tfs_classes *c;
    int64_t at;
    size_t offset;
    char text[OT_I64_TEXT];
} label_walk;

static ot_text next_label(label_walk *w)
{
    const ot_tensor *t = w->c->labels;
    int64_t i = w->at++;
    ot_text out = {w->text, 0};
    if (t != NULL && t->dtype == OT_DT_BYTES) {
        ot_tensor_bytes_next(t, &w->offset, &out.p, &out.n);
    } else if (t != NULL && ot_dtype_size(t->dtype) == 8) {
        int64_t x;
        memcpy(&x, (const char *)t->data + (size_t)i * sizeof x, sizeof x);
        out.n = t->dtype == OT_DT_UINT64 ? ot_format_u64((uint64_t)x, w->text)
                                         : ot_format_i64(x, w->text);
    } else {
        int64_t x = t != NULL ? (int64_t)ot_tensor_f64_at(t, i) : i % OT_MAX(w->c->classes, 1);
        out.n = ot_format_i64(x, w->text);
    }
    return out;
}

static float score(const ot_tfs_classes *c, int64_t i)
{
    return c->scores != NULL ? (float)ot_tensor_f64_at(c->scores, i) : 0;
}

static void number(ot_str *out, float x)
{
    char text[OT_F32_TEXT];
    ot_str_add(out, text, ot_format_f32(x, text));
}

static ot_rc no_memory(ot_error *err)
{
    return ot_fail(err, OT_EXHAUSTED, "memory is short for the answer");
}

ot_rc ot_tfs_classes_json(const ot_tfs_classes *c, ot_str *out, ot_error *err)
{
    label_walk w = {.c = c};
    ot_str_adds(out, "{\"results\":[");
    for (int64_t row = 0; row < c->rows && !out->failed; row++) {
        ot_str_adds(out, row > 0 ? ",[" : "[");
        for (int64_t k = 0; k < c->classes; k++) {
            ot_text label = next_label(&w);
            ot_str_adds(out, k > 0 ? ",[\"" : "[\"");
            ot_str_add_json(out, label.p, label.n);
            ot_str_adds(out, "\",");
            number(out, score(c, row * c->classes + k));
            ot_str_addc(out, ']');
        }
        ot_str_addc(out, ']');
    }
    ot_str_adds(out, "]}");
    return out->failed ? no_memory(err) : OT_OK;
}

static void put_float(ot_str *out, uint32_t number_, float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint8_t b[5] = {(uint8_t)(number_ << 3 | OT_PB_FIXED32)};
    for (unsigned i = 0; i < 4; i++) {
        b[1 + i] = (uint8_t)(bits >> (8 * i));
    }
    ot_str_add(out, b, sizeof b);
}

ot_rc ot_tfs_classes_pb(const ot_tfs_classes *c, uint32_t field, ot_str *out, ot_error *err)
{
    label_walk w = {.c = c};
    size_t result = ot_pb_begin(out, field);
    for (int64_t row = 0; row < c->rows && !out->failed; row++) {
        size_t one = ot_pb_begin(out, 1);
        for (int64_t k = 0; k < c->classes; k++) {
            ot_text label = next_label(&w);
            if (!ot_utf8_valid(label.p, label.n)) {
                return ot_fail(
                    err, OT_INVALID,
                    "a label of output '%s' is not UTF-8, which a class can't carry; use "
                    "predict",
                    c->labels->name);
            }
            size_t class = ot_pb_begin(out, 1);
            ot_pb_put_bytes(out, 1, label.p, label.n);
            put_float(out, 2, score(c, row * c->classes + k));
            ot_pb_end(out, class, 0);
        }
        ot_pb_end(out, one, 0);
    }
    ot_pb_end(out, result, 0);
    return out->failed ? no_memory(err) : OT_OK;
}

/* ---- regression */

ot_rc ot_tfs_values_find(const ot_tensor *outputs, int n, int prediction, const ot_tensor **out,
                         ot_error *err)
{
    const ot_tensor *t = named(outputs, n, "outputs");
    t = t != NULL ? t : spokesman(outputs, n, prediction);
    if (t == NULL) {
        return ot_fail(err, OT_INVALID,
                       "the model has %d outputs and none is 'outputs'; use predict", n);
    }
    OT_TRY(ot_tensor_check(t, err));
    if (t->dtype == OT_DT_BYTES || t->rank < 1 || ot_tensor_count(t) != t->dims[0]) {
        return wrong(t, "a number for each example ([n] or [n, 1])", err);
    }
    *out = t;
    return OT_OK;
}

void ot_tfs_values_json(const ot_tensor *t, ot_str *out)
{
    ot_str_adds(out, "{\"results\":[");
    for (int64_t i = 0; i < t->dims[0] && !out->failed; i++) {
        if (i > 0) {
            ot_str_addc(out, ',');
        }
        number(out, (float)ot_tensor_f64_at(t, i));
    }
    ot_str_adds(out, "]}");
}

void ot_tfs_values_pb(const ot_tensor *t, uint32_t field, ot_str *out)
{
    size_t result = ot_pb_begin(out, field);
    for (int64_t i = 0; i < t->dims[0] && !out->failed; i++) {
        size_t one = ot_pb_begin(out, 1);
        put_float(out, 1, (float)ot_tensor_f64_at(t, i));
        ot_pb_end(out, one, 0);
    }
    ot_pb_end(out, result, 0);
}
