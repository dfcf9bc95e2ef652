#include "codec/b64.h"
#include "codec/json_write.h"
#include "codec/tfs_json.h"

#include <string.h>

typedef struct writer {
    const ot_tensor *t;
    ot_str *out;
    bool b64;      /* every string goes as base64 */
    int64_t at;    /* of the next element */
    size_t offset; /* of the next string */
} writer;

static void string_write(writer *w)
{
    const char *p;
    size_t n;
    if (!ot_tensor_bytes_next(w->t, &w->offset, &p, &n)) {
        return; /* the tensor was checked: it has all its elements */
    }
    if (w->b64 || !ot_utf8_valid(p, n)) {
        ot_str_adds(w->out, "{\"b64\":\"");
        if (ot_str_reserve(w->out, ot_b64_text(n))) {
            ot_b64_encode(p, n, w->out->data + w->out->len);
            w->out->len += ot_b64_text(n);
            w->out->data[w->out->len] = '\0';
        }
        ot_str_adds(w->out, "\"}");
        return;
    }
    ot_str_addc(w->out, '"');
    ot_str_add_json(w->out, p, n);
    ot_str_addc(w->out, '"');
}

/* n elements with commas between them. */
static void elements_write(writer *w, int64_t n)
{
    const ot_tensor *t = w->t;
    if (t->dtype != OT_DT_BYTES && n > 0) { /* a tensor without elements has no data */
        const char *p = (const char *)t->data + ot_dtype_size(t->dtype) * (size_t)w->at;
        json_write_numbers(t->dtype, p, n, w->out);
    }
    for (int64_t i = 0; t->dtype == OT_DT_BYTES && i < n && !w->out->failed; i++) {
        if (i > 0) {
            ot_str_addc(w->out, ',');
        }
        string_write(w);
    }
    w->at += n;
}

/* What lies below an axis, nested. */
static void axis_write(writer *w, int axis)
{
    const ot_tensor *t = w->t;
    if (axis == t->rank) {
        elements_write(w, 1);
        return;
    }
    ot_str_addc(w->out, '[');
    if (axis == t->rank - 1) {
        elements_write(w, t->dims[axis]);
    } else {
        for (int64_t i = 0; i < t->dims[axis] && !w->out->failed; i++) {
            if (i > 0) {
                ot_str_addc(w->out, ',');
            }
            axis_write(w, axis + 1);
        }
    }
    ot_str_addc(w->out, ']');
}

static writer writer_of(const ot_tensor *t, ot_str *out)
{
    return (writer){.t = t, .out = out, .b64 = ot_has_suffix(t->name, "_bytes")};
}

static void name_write(const ot_tensor *t, ot_str *out)
{
    ot_str_add_quoted(out, t->name);
    ot_str_addc(out, ':');
}

static ot_rc check_rows(const ot_tensor *outputs, int n, ot_error *err)
{
    for (int i = 0; i < n; i++) {
        const ot_tensor *t = &outputs[i];
        if (t->rank == 0 || t->dims[0] != outputs[0].dims[0]) {
            char shape[OT_SHAPE_TEXT];
            return ot_fail(err, OT_INVALID,
                           "output '%s' is %s %s, which is not a row for each instance; send "
                           "'inputs' instead of 'instances'",
                           t->name, ot_dtype_name(t->dtype),
                           ot_shape_format(t->dims, t->rank, shape));
        }
    }
    return OT_OK;
}

static void predictions_write(const ot_tensor *outputs, int n, writer *w, ot_str *out)
{
    for (int i = 0; i < n; i++) {
        w[i] = writer_of(&outputs[i], out);
    }
    ot_str_adds(out, "{\"predictions\":[");
    for (int64_t row = 0; row < outputs[0].dims[0] && !out->failed; row++) {
        if (row > 0) {
            ot_str_addc(out, ',');
        }
        for (int i = 0; i < n; i++) {
            if (n > 1) {
                ot_str_addc(out, i == 0 ? '{' : ',');
                name_write(&outputs[i], out);
            }
            axis_write(&w[i], 1);
        }
        if (n > 1) {
            ot_str_addc(out, '}');
        }
    }
    ot_str_adds(out, "]}");
}

static void outputs_write(const ot_tensor *outputs, int n, ot_str *out)
{
    ot_str_adds(out, "{\"outputs\":");
    for (int i = 0; i < n; i++) {
        if (n > 1) {
            ot_str_addc(out, i == 0 ? '{' : ',');
            name_write(&outputs[i], out);
        }
        writer w = writer_of(&outputs[i], out);
        axis_write(&w, 0);
    }
    ot_str_adds(out, n > 1 ? "}}" : "}");
}

ot_rc ot_tfs_predict_encode(const ot_tensor *outputs, int n, bool rows, ot_str *out, ot_error *err)
{
    writer w[OT_TFS_OUTPUTS_MAX];
    if (n < 1 || n > OT_TFS_OUTPUTS_MAX) {
        return ot_fail(err, OT_INVALID, "%d outputs; an answer has 1 to %d", n, OT_TFS_OUTPUTS_MAX);
    }
    for (int i = 0; i < n; i++) {
        OT_TRY(ot_tensor_check(&outputs[i], err));
    }
    if (rows) {
        OT_TRY(check_rows(outputs, n, err));
        predictions_write(outputs, n, w, out);
    } else {
        outputs_write(outputs, n, out);
    }
    return out->failed ? ot_fail(err, OT_EXHAUSTED, "memory is short for the answer") : OT_OK;
}
