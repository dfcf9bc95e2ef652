#include "model/reference.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define CHUNK_ROWS 256

void ot_reference_done(ot_reference *r)
{
    if (r->schema != NULL) {
        ot_hist_table_done(&r->counts);
        ot_hist_schema_destroy(r->schema);
    }
    *r = (ot_reference){0};
}

/* Elements of a row whose shape is dims[1..rank); false when it is not fixed or overflows. */
static bool row_elements(const int64_t *dims, int rank, size_t *n_out)
{
    int64_t n = 0;
    if (rank < 1 || !ot_shape_count(dims + 1, rank - 1, &n)) {
        return false;
    }
    *n_out = (size_t)n;
    return true;
}

size_t ot_reference_features(const ot_manifest *m)
{
    size_t total = 0;
    for (size_t i = 0; i < m->n_inputs; i++) {
        size_t n;
        if (ot_dtype_size(m->inputs[i].dtype) == 0 ||
            !row_elements(m->inputs[i].dims, m->inputs[i].rank, &n) || n > OT_HIST_FEATURES_MAX) {
            return 0;
        }
        total += n;
    }
    return total <= OT_HIST_FEATURES_MAX ? total : 0;
}

/* Which numbers a row has, and what they are called. */
typedef struct layout {
    const ot_tensor *inputs;
    size_t n_inputs;
    size_t each[OT_MANIFEST_TENSORS_MAX]; /* elements of a row */
    size_t features;
    ot_hist_column *columns; /* (features) */
    ot_arena names;
} layout;

static void layout_done(layout *l)
{
    ot_arena_done(&l->names);
}

/* "x", "x_3", "x_3_4"; a name too long for the schema keeps its end, where the place is. */
static const char *feature_name(ot_arena *a, const ot_tensor *t, size_t place)
{
    char at[OT_RANK_MAX * 21 + 1] = "";
    size_t rest = place;
    for (int k = t->rank - 1; k >= 1; k--) {
        char part[sizeof at];
        snprintf(part, sizeof part, "_%zu%s", rest % (size_t)t->dims[k], at);
        memcpy(at, part, sizeof at);
        rest /= (size_t)t->dims[k];
    }
    int room = OT_HIST_NAME_MAX - (int)strlen(at);
    return ot_arena_printf(a, "%.*s%s", room > 0 ? room : 0, t->name == NULL ? "" : t->name, at);
}

static ot_rc layout_tensor(layout *l, size_t i, int64_t rows, ot_error *err)
{
    const ot_tensor *t = &l->inputs[i];
    const char *name = t->name == NULL ? "" : t->name;
    OT_TRY(ot_tensor_check(t, err));
    if (ot_dtype_size(t->dtype) == 0 || t->rank < 1 || t->dims[0] < rows) {
        return ot_fail(err, OT_INVALID,
                       "reference: '%s' is %s of rank %d; %" PRId64 " rows of numbers are needed",
                       name, ot_dtype_name(t->dtype), t->rank, rows);
    }
    if (!row_elements(t->dims, t->rank, &l->each[i]) || l->each[i] == 0 ||
        l->each[i] > OT_HIST_FEATURES_MAX - l->features) {
        return ot_fail(err, OT_EXHAUSTED,
                       "reference: '%s' has %zu numbers a row after %zu of others; 1 to %d in all "
                       "are counted",
                       name, l->each[i], l->features, OT_HIST_FEATURES_MAX);
    }
    for (size_t k = 0; k < l->each[i]; k++) {
        const char *column = feature_name(&l->names, t, k);
        if (column == NULL) {
            return ot_fail(err, OT_EXHAUSTED, "reference: no memory for its features");
        }
        l->columns[l->features++] = (ot_hist_column){
            .name = column, .kind = t->dtype == OT_DT_BOOL ? OT_HIST_CATEGORY : OT_HIST_NUMERIC};
    }
    return OT_OK;
}

static ot_rc layout_init(layout *l, const ot_tensor *inputs, size_t n_inputs, int64_t rows,
                         ot_error *err)
{
    *l = (layout){.inputs = inputs, .n_inputs = n_inputs};
    ot_arena_init(&l->names, 1u << 16, 16u << 20);
    if (n_inputs == 0 || n_inputs > OT_MANIFEST_TENSORS_MAX || rows < 1) {
        return ot_fail(err, OT_INVALID,
                       "reference: %zu inputs of %" PRId64 " rows; at least one of each is needed",
                       n_inputs, rows);
    }
    l->columns = ot_arena_calloc(&l->names, OT_HIST_FEATURES_MAX, sizeof *l->columns);
    if (l->columns == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "reference: no memory for its features");
    }
    for (size_t i = 0; i < n_inputs; i++) {
        OT_TRY(layout_tensor(l, i, rows, err));
    }
    return OT_OK;
}

static void fill_row(const layout *l, int64_t row, float *to)
{
    for (size_t i = 0; i < l->n_inputs; i++) {
        const ot_tensor *t = &l->inputs[i];
        int64_t each = (int64_t)l->each[i];
        if (t->dtype == OT_DT_FP32) {
            memcpy(to, (const char *)t->data + (size_t)(row * each) * sizeof *to,
                   (size_t)each * sizeof *to);
        } else {
            for (int64_t k = 0; k < each; k++) {
                to[k] = (float)ot_tensor_f64_at(t, row * each + k);
            }
        }
        to += each;
    }
}

static ot_rc build_schema(const layout *l, int64_t rows, ot_hist_schema **schema_out, ot_error *err)
{
    size_t cap = OT_MAX(OT_REFERENCE_SAMPLE_BYTES / (l->features * sizeof(float)), (size_t)1);
    size_t n = OT_MIN((size_t)rows, cap);
    OT_AUTO(ot_free_ptr) float *sample = ot_calloc(n, l->features * sizeof *sample);
    if (sample == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "reference: no memory for %zu rows", n);
    }
    for (size_t i = 0; i < n; i++) {
        int64_t row = (int64_t)((double)i * (double)rows / (double)n);
        fill_row(l, OT_MIN(row, rows - 1), sample + i * l->features);
    }
    return ot_hist_schema_build(l->columns, l->features, sample, n, l->features, schema_out, err);
}

static ot_rc count_rows(const layout *l, int64_t rows, ot_reference *r, ot_error *err)
{
    OT_AUTO(ot_free_ptr) float *chunk = ot_calloc(CHUNK_ROWS, l->features * sizeof *chunk);
    if (chunk == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "reference: no memory to count");
    }
    for (int64_t at = 0; at < rows; at += CHUNK_ROWS) {
        size_t n = (size_t)OT_MIN(rows - at, (int64_t)CHUNK_ROWS);
        for (size_t i = 0; i < n; i++) {
            fill_row(l, at + (int64_t)i, chunk + i * l->features);
        }
        ot_hist_add_rows(r->schema, &r->counts, chunk, n, l->features);
    }
    return OT_OK;
}

/* Gives the schema to the reference, with a table of its own. */
static ot_rc adopt_schema(ot_reference *r, ot_hist_schema *schema, ot_error *err)
{
    ot_rc rc = ot_hist_table_init(&r->counts, schema, err);
    if (rc != OT_OK) {
        ot_hist_schema_destroy(schema);
        return rc;
    }
    r->schema = schema;
    return OT_OK;
}

static ot_rc make_reference(const layout *l, int64_t rows, ot_reference *out, ot_error *err)
{
    ot_reference r = {0};
    ot_hist_schema *schema;
    OT_TRY(build_schema(l, rows, &schema, err));
    OT_TRY(adopt_schema(&r, schema, err));
    ot_rc rc = count_rows(l, rows, &r, err);
    if (rc != OT_OK) {
        ot_reference_done(&r);
        return rc;
    }
    *out = r;
    return OT_OK;
}

ot_rc ot_reference_of_inputs(const ot_tensor *inputs, size_t n_inputs, int64_t rows,
                             ot_reference *out, ot_error *err)
{
    OT_AUTO(layout_done) layout l;
    OT_TRY(layout_init(&l, inputs, n_inputs, rows, err));
    return make_reference(&l, rows, out, err);
}

ot_rc ot_reference_of_predictions(ot_prediction_kind kind, const ot_prediction *p, size_t n,
                                  ot_reference *out, ot_error *err)
{
    if (kind == OT_PREDICTION_NONE || n == 0) {
        return ot_fail(err, OT_INVALID, "reference: %zu predictions of kind %s", n,
                       ot_prediction_kind_name(kind));
    }
    const ot_hist_column columns[] = {
        {.name = "prediction",
         .kind = kind == OT_PREDICTION_VALUE ? OT_HIST_NUMERIC : OT_HIST_CATEGORY},
        {.name = "confidence", .kind = OT_HIST_NUMERIC}};
    size_t features = kind == OT_PREDICTION_SCORES ? 2 : 1;
    OT_AUTO(ot_free_ptr) float *rows = ot_calloc(n, features * sizeof *rows);
    if (rows == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "reference: no memory for %zu predictions", n);
    }
    for (size_t i = 0; i < n; i++) {
        rows[i * features] = (float)p[i].value;
        if (features == 2) {
            rows[i * features + 1] = (float)p[i].confidence;
        }
    }
    ot_reference r = {0};
    ot_hist_schema *schema;
    OT_TRY(ot_hist_schema_build(columns, features, rows, n, features, &schema, err));
    OT_TRY(adopt_schema(&r, schema, err));
    ot_hist_add_rows(r.schema, &r.counts, rows, n, features);
    *out = r;
    return OT_OK;
}

ot_rc ot_reference_write(const ot_reference *r, ot_str *out, ot_error *err)
{
    ot_hist_reference_write(r->schema, &r->counts, out);
    return out->failed ? ot_fail(err, OT_EXHAUSTED, "reference: no memory to write it") : OT_OK;
}

ot_rc ot_reference_read(const void *p, size_t n, ot_reference *out, ot_error *err)
{
    if (n > OT_REFERENCE_BYTES_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "reference: %zu bytes; the limit is %u", n,
                       OT_REFERENCE_BYTES_MAX);
    }
    ot_reference r = {0};
    OT_TRY(ot_hist_reference_read(p, n, &r.schema, &r.counts, err));
    *out = r;
    return OT_OK;
}
