#include "model/prediction.h"

#include "base/mem.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static ot_prediction of_scores(double best, int64_t label)
{
    bool known = label >= 0;
    return (ot_prediction){.label = label,
                           .value = known ? (double)label : (double)NAN,
                           .confidence = known ? best : (double)NAN};
}

/* One score is the probability of class 1. */
static ot_prediction of_one_score(double p)
{
    if (isnan(p)) {
        return of_scores(p, -1);
    }
    return p >= 0.5 ? of_scores(p, 1) : of_scores(1 - p, 0);
}

static ot_prediction of_row_f32(const float *row, int64_t classes)
{
    float best = -INFINITY;
    int64_t label = 0;
    bool nan = false;
    for (int64_t c = 0; c < classes; c++) {
        float x;
        memcpy(&x, (const char *)row + (size_t)c * sizeof x, sizeof x); /* may be unaligned */
        nan |= isnan(x);
        if (x > best) {
            best = x;
            label = c;
        }
    }
    return of_scores((double)best, nan ? -1 : label);
}

static ot_prediction of_row(const ot_tensor *t, int64_t first, int64_t classes)
{
    double best = -(double)INFINITY;
    int64_t label = 0;
    bool nan = false;
    for (int64_t c = 0; c < classes; c++) {
        double x = ot_tensor_f64_at(t, first + c);
        nan |= isnan(x);
        if (x > best) {
            best = x;
            label = c;
        }
    }
    return of_scores(best, nan ? -1 : label);
}

static void read_scores(const ot_tensor *t, int64_t rows, int64_t classes, ot_prediction *out)
{
    for (int64_t r = 0; r < rows; r++) {
        if (classes == 1) {
            out[r] = of_one_score(ot_tensor_f64_at(t, r));
        } else if (t->dtype == OT_DT_FP32) {
            const char *p = (const char *)t->data + (size_t)(r * classes) * sizeof(float);
            out[r] = of_row_f32((const float *)(const void *)p, classes);
        } else {
            out[r] = of_row(t, r * classes, classes);
        }
    }
}

/* An integer as a class: what lies outside int64 has none. */
static int64_t label_at(const ot_tensor *t, int64_t i)
{
    const char *p = (const char *)t->data + (size_t)i * ot_dtype_size(t->dtype);
    int64_t s;
    uint64_t u;
    switch (t->dtype) {
    case OT_DT_INT64:
        memcpy(&s, p, sizeof s);
        return s < 0 ? -1 : s;
    case OT_DT_UINT64:
        memcpy(&u, p, sizeof u);
        return u > (uint64_t)INT64_MAX ? -1 : (int64_t)u;
    default:
        s = (int64_t)ot_tensor_f64_at(t, i);
        return s < 0 ? -1 : s;
    }
}

static void read_labels(const ot_tensor *t, int64_t rows, ot_prediction *out)
{
    for (int64_t r = 0; r < rows; r++) {
        int64_t label = label_at(t, r);
        out[r] = (ot_prediction){
            .label = label, .value = ot_tensor_f64_at(t, r), .confidence = (double)NAN};
    }
}

static void read_values(const ot_tensor *t, int64_t rows, ot_prediction *out)
{
    for (int64_t r = 0; r < rows; r++) {
        out[r] = (ot_prediction){
            .label = -1, .value = ot_tensor_f64_at(t, r), .confidence = (double)NAN};
    }
}

static bool type_fits(ot_prediction_kind kind, ot_dtype dt)
{
    switch (kind) {
    case OT_PREDICTION_SCORES:
        return ot_dtype_is_float(dt);
    case OT_PREDICTION_LABEL:
        return ot_dtype_is_int(dt) || dt == OT_DT_BOOL;
    case OT_PREDICTION_VALUE:
        return ot_dtype_size(dt) != 0;
    default:
        return false;
    }
}

ot_rc ot_prediction_read(ot_prediction_kind kind, const ot_tensor *t, int64_t rows,
                         ot_prediction *out, ot_error *err)
{
    char shape[OT_SHAPE_TEXT];
    const char *name = t->name == NULL ? "" : t->name;
    int64_t count = ot_tensor_count(t), have = t->rank == 0 ? 1 : t->dims[0];
    if (!type_fits(kind, t->dtype)) {
        return ot_fail(err, OT_INVALID, "output '%s': %s cannot be read as %s", name,
                       ot_dtype_name(t->dtype), ot_prediction_kind_name(kind));
    }
    if (rows < 0 || rows > have || t->size_bytes / ot_dtype_size(t->dtype) < (uint64_t)count) {
        return ot_fail(err, OT_INVALID, "output '%s': %" PRId64 " rows asked of shape %s", name,
                       rows, ot_shape_format(t->dims, t->rank, shape));
    }
    if (rows == 0) {
        return OT_OK;
    }
    int64_t each = count / have;
    int64_t classes = t->rank >= 2 ? t->dims[t->rank - 1] : 1;
    if (each < 1 || each != (kind == OT_PREDICTION_SCORES ? classes : 1)) {
        return ot_fail(err, OT_INVALID,
                       "output '%s': shape %s does not give one prediction a row as %s", name,
                       ot_shape_format(t->dims, t->rank, shape), ot_prediction_kind_name(kind));
    }
    if (kind == OT_PREDICTION_SCORES) {
        read_scores(t, rows, classes, out);
    } else if (kind == OT_PREDICTION_LABEL) {
        read_labels(t, rows, out);
    } else {
        read_values(t, rows, out);
    }
    return OT_OK;
}

int64_t ot_prediction_classes(const ot_manifest *m)
{
    if (m->prediction_kind != OT_PREDICTION_SCORES || m->prediction_output >= m->n_outputs) {
        return 0;
    }
    const ot_tensor_spec *s = &m->outputs[m->prediction_output];
    int64_t c = s->rank >= 2 ? s->dims[s->rank - 1] : 1;
    return c == 1 ? 2 : OT_MAX(c, (int64_t)0);
}

/* Scores need a class axis that the specification fixes. */
static bool looks_like_scores(const ot_tensor_spec *s)
{
    return ot_dtype_is_float(s->dtype) && s->rank == 2 && s->dims[1] >= 2;
}

ot_prediction_kind ot_prediction_guess(const ot_manifest *m, size_t *output_out)
{
    static const char *const names[] = {"probabilities", "probability", "scores",
                                        "softmax",       "predictions", "output_probability"};
    for (size_t i = 0; i < m->n_outputs; i++) {
        for (size_t k = 0; k < OT_COUNT(names); k++) {
            if (strcmp(m->outputs[i].name, names[k]) == 0 && looks_like_scores(&m->outputs[i])) {
                *output_out = i;
                return OT_PREDICTION_SCORES;
            }
        }
    }
    if (m->n_outputs != 1) {
        return OT_PREDICTION_NONE;
    }
    const ot_tensor_spec *s = &m->outputs[0];
    bool one_a_row = s->rank == 1 || (s->rank == 2 && s->dims[1] == 1);
    *output_out = 0;
    if (looks_like_scores(s)) {
        return OT_PREDICTION_SCORES;
    }
    if (one_a_row && ot_dtype_is_int(s->dtype)) {
        return OT_PREDICTION_LABEL;
    }
    /* One float a row: a regression, or the probability of class 1; only the maker knows. */
    return OT_PREDICTION_NONE;
}
