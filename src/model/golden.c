#include "model/golden_internal.h"

#include "codec/oip.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#define ARENA_CHUNK 16384
#define ARENA_LIMIT (512u << 20)

void ot_golden_done(ot_golden *g)
{
    ot_arena_done(&g->arena);
    *g = (ot_golden){0};
}

static ot_rc no_memory(ot_error *err)
{
    return ot_fail(err, OT_EXHAUSTED, "golden answers: no memory");
}

ot_rc ot_golden_check_finite(const ot_tensor *t, ot_error *err)
{
    if (!ot_dtype_is_float(t->dtype)) {
        return OT_OK;
    }
    int64_t n = ot_tensor_count(t);
    for (int64_t i = 0; i < n; i++) {
        double x = ot_tensor_f64_at(t, i);
        if (!isfinite(x)) {
            return ot_fail(err, OT_INVALID, "'%s'[%" PRId64 "] is %s; golden values are finite",
                           t->name, i, isnan(x) ? "NaN" : "infinite");
        }
    }
    return OT_OK;
}

void ot_golden_init(ot_golden *g, double abs, double rel)
{
    *g = (ot_golden){.abs = abs, .rel = rel};
    ot_arena_init(&g->arena, ARENA_CHUNK, ARENA_LIMIT);
}

ot_rc ot_golden_check_tolerance(double abs, double rel, ot_error *err)
{
    if (!isfinite(abs) || !isfinite(rel) || abs < 0 || rel < 0) {
        return ot_fail(err, OT_INVALID,
                       "tolerance: abs %g, rel %g; finite numbers of 0 or more are accepted", abs,
                       rel);
    }
    return OT_OK;
}

static ot_rc write_tensor(const ot_tensor *t, ot_str *out, ot_error *err)
{
    OT_TRY(ot_tensor_check(t, err));
    OT_TRY(ot_golden_check_finite(t, err));
    ot_str_adds(out, "{\"name\": \"");
    ot_str_add_json(out, t->name, strlen(t->name));
    ot_str_addf(out, "\", \"datatype\": \"%s\", \"shape\": [", ot_dtype_name(t->dtype));
    for (int k = 0; k < t->rank; k++) {
        ot_str_addf(out, "%s%" PRId64, k == 0 ? "" : ", ", t->dims[k]);
    }
    ot_str_adds(out, "], \"data\": ");
    OT_TRY(ot_oip_tensor_json(t, out, err));
    ot_str_addc(out, '}');
    return OT_OK;
}

static ot_rc write_tensors(const char *key, const ot_tensor *t, size_t n, ot_str *out,
                           ot_error *err)
{
    ot_str_addf(out, "\"%s\": [", key);
    for (size_t i = 0; i < n; i++) {
        ot_str_adds(out, i == 0 ? "" : ", ");
        OT_TRY(write_tensor(&t[i], out, err));
    }
    ot_str_addc(out, ']');
    return OT_OK;
}

ot_rc ot_golden_write(const ot_golden *g, ot_str *out, ot_error *err)
{
    OT_TRY(ot_golden_check_tolerance(g->abs, g->rel, err));
    size_t before = out->len;
    ot_str_addf(out, "{\"tolerance\": {\"abs\": %.17g, \"rel\": %.17g},\n \"cases\": [", g->abs,
                g->rel);
    for (size_t i = 0; i < g->n_cases; i++) {
        const ot_golden_row *c = &g->cases[i];
        ot_str_adds(out, i == 0 ? "{" : ",\n  {");
        ot_rc rc = write_tensors("inputs", c->inputs, c->n_inputs, out, err);
        if (rc == OT_OK) {
            ot_str_adds(out, ", ");
            rc = write_tensors("outputs", c->outputs, c->n_outputs, out, err);
        }
        if (rc != OT_OK) {
            return ot_error_prefix(err, rc, "golden answers: case %zu", i);
        }
        ot_str_addc(out, '}');
    }
    ot_str_adds(out, "]}\n");
    if (out->failed) {
        return no_memory(err);
    }
    if (out->len - before > OT_GOLDEN_BYTES_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "golden answers: %zu bytes; the limit is %u. Take fewer",
                       out->len - before, OT_GOLDEN_BYTES_MAX);
    }
    return OT_OK;
}

/* Row `row` of t as a tensor whose axis 0 is 1. BYTES rows are found by walking. */
static ot_rc copy_row(ot_arena *a, const ot_tensor *t, size_t row, ot_tensor *out, ot_error *err)
{
    *out = *t;
    out->dims[0] = 1;
    out->name = ot_arena_strdup(a, t->name == NULL ? "" : t->name);
    size_t begin, size;
    if (t->dtype == OT_DT_BYTES) {
        int64_t each = ot_tensor_count(t) / t->dims[0];
        size_t at = 0;
        begin = 0;
        for (int64_t i = 0; i < each * ((int64_t)row + 1); i++) {
            const char *p;
            size_t n;
            if (i == each * (int64_t)row) {
                begin = at;
            }
            (void)ot_tensor_bytes_next(t, &at, &p, &n); /* the tensor was checked */
        }
        size = at - begin;
    } else {
        size = t->size_bytes / (size_t)t->dims[0];
        begin = size * row;
    }
    void *p = ot_arena_alloc(a, size);
    if (p == NULL || out->name == NULL) {
        return no_memory(err);
    }
    memcpy(p, (const char *)t->data + begin, size);
    out->data = p;
    out->size_bytes = size;
    return OT_OK;
}

static ot_rc check_batch(const ot_tensor *t, size_t n, size_t rows, ot_error *err)
{
    for (size_t i = 0; i < n; i++) {
        OT_TRY(ot_tensor_check(&t[i], err));
        if (t[i].rank == 0 || t[i].dims[0] < (int64_t)rows) {
            return ot_fail(
                err, OT_INVALID, "golden answers: '%s' has %" PRId64 " rows; %zu are needed",
                t[i].name == NULL ? "" : t[i].name, t[i].rank == 0 ? 0 : t[i].dims[0], rows);
        }
        ot_rc rc = ot_golden_check_finite(&t[i], err);
        if (rc != OT_OK) {
            return ot_error_prefix(err, rc, "golden answers");
        }
    }
    return OT_OK;
}

static ot_rc copy_rows(ot_arena *a, const ot_tensor *t, size_t n, size_t row, ot_tensor **out,
                       ot_error *err)
{
    *out = ot_arena_calloc(a, n, sizeof **out);
    if (*out == NULL) {
        return no_memory(err);
    }
    for (size_t i = 0; i < n; i++) {
        OT_TRY(copy_row(a, &t[i], row, &(*out)[i], err));
    }
    return OT_OK;
}

static ot_rc fill_cases(ot_golden *g, const ot_tensor *inputs, size_t n_inputs,
                        const ot_tensor *outputs, size_t n_outputs, size_t rows, ot_error *err)
{
    g->cases = ot_arena_calloc(&g->arena, rows, sizeof *g->cases);
    if (g->cases == NULL) {
        return no_memory(err);
    }
    g->n_cases = rows;
    for (size_t r = 0; r < rows; r++) {
        ot_golden_row *c = &g->cases[r];
        c->n_inputs = n_inputs;
        c->n_outputs = n_outputs;
        OT_TRY(copy_rows(&g->arena, inputs, n_inputs, r, &c->inputs, err));
        OT_TRY(copy_rows(&g->arena, outputs, n_outputs, r, &c->outputs, err));
    }
    return OT_OK;
}

ot_rc ot_golden_from_batch(const ot_tensor *inputs, size_t n_inputs, const ot_tensor *outputs,
                           size_t n_outputs, size_t rows, double abs, double rel, ot_golden *g_out,
                           ot_error *err)
{
    if (rows == 0 || rows > OT_GOLDEN_CASES_MAX || n_inputs == 0 || n_outputs == 0) {
        return ot_fail(err, OT_INVALID,
                       "golden answers: %zu rows, %zu inputs, %zu outputs; 1 to %d rows and at "
                       "least one of each are needed",
                       rows, n_inputs, n_outputs, OT_GOLDEN_CASES_MAX);
    }
    OT_TRY(ot_golden_check_tolerance(abs, rel, err));
    OT_TRY(check_batch(inputs, n_inputs, rows, err));
    OT_TRY(check_batch(outputs, n_outputs, rows, err));
    ot_golden g;
    ot_golden_init(&g, abs, rel);
    ot_rc rc = fill_cases(&g, inputs, n_inputs, outputs, n_outputs, rows, err);
    if (rc != OT_OK) {
        ot_golden_done(&g);
        return rc;
    }
    *g_out = g;
    return OT_OK;
}

static ot_rc match_tensors(const char *what, const ot_tensor *t, size_t n,
                           const ot_tensor_spec *specs, size_t n_specs, ot_error *err)
{
    if (n != n_specs) {
        return ot_fail(err, OT_INVALID, "%zu %ss; the signature has %zu", n, what, n_specs);
    }
    for (size_t i = 0; i < n_specs; i++) {
        const ot_tensor *found = NULL;
        for (size_t k = 0; k < n && found == NULL; k++) {
            found = strcmp(t[k].name, specs[i].name) == 0 ? &t[k] : NULL;
        }
        if (found == NULL) {
            return ot_fail(err, OT_INVALID, "%s '%s' of the signature is missing", what,
                           specs[i].name);
        }
        ot_error why = {0};
        if (ot_tensor_matches(&specs[i], found, &why) != OT_OK) {
            char want[OT_SHAPE_TEXT], got[OT_SHAPE_TEXT];
            return ot_fail(err, OT_INVALID, "%s '%s' is %s %s in the signature and %s %s here",
                           what, specs[i].name, ot_dtype_name(specs[i].dtype),
                           ot_shape_format(specs[i].dims, specs[i].rank, want),
                           ot_dtype_name(found->dtype),
                           ot_shape_format(found->dims, found->rank, got));
        }
    }
    return OT_OK;
}

ot_rc ot_golden_matches(const ot_golden *g, const ot_manifest *m, ot_error *err)
{
    for (size_t i = 0; i < g->n_cases; i++) {
        const ot_golden_row *c = &g->cases[i];
        ot_rc rc = match_tensors("input", c->inputs, c->n_inputs, m->inputs, m->n_inputs, err);
        if (rc == OT_OK) {
            rc = match_tensors("output", c->outputs, c->n_outputs, m->outputs, m->n_outputs, err);
        }
        if (rc != OT_OK) {
            return ot_error_prefix(err, rc, "golden answers: case %zu", i);
        }
    }
    return OT_OK;
}

static ot_rc compare_exact(const ot_tensor *want, const ot_tensor *got, ot_error *err)
{
    if (want->size_bytes == got->size_bytes &&
        (want->size_bytes == 0 || memcmp(want->data, got->data, want->size_bytes) == 0)) {
        return OT_OK;
    }
    if (want->dtype == OT_DT_BYTES) {
        return ot_fail(err, OT_DATA_LOSS, "output '%s' differs from the golden answer", want->name);
    }
    size_t size = ot_dtype_size(want->dtype), i = 0;
    while (memcmp((const char *)want->data + i * size, (const char *)got->data + i * size, size) ==
           0) {
        i++;
    }
    return ot_fail(err, OT_DATA_LOSS, "output '%s'[%zu] is %.17g; the golden answer is %.17g",
                   want->name, i, ot_tensor_f64_at(got, (int64_t)i),
                   ot_tensor_f64_at(want, (int64_t)i));
}

ot_rc ot_golden_compare(const ot_tensor *want, const ot_tensor *got, double abs, double rel,
                        ot_error *err)
{
    OT_TRY(ot_tensor_check(got, err));
    if (want->dtype != got->dtype || want->rank != got->rank ||
        memcmp(want->dims, got->dims, (size_t)want->rank * sizeof want->dims[0]) != 0) {
        char a[OT_SHAPE_TEXT], b[OT_SHAPE_TEXT];
        return ot_fail(err, OT_DATA_LOSS, "output '%s' is %s %s; the golden answer is %s %s",
                       want->name, ot_dtype_name(got->dtype),
                       ot_shape_format(got->dims, got->rank, a), ot_dtype_name(want->dtype),
                       ot_shape_format(want->dims, want->rank, b));
    }
    if (!ot_dtype_is_float(want->dtype)) {
        return compare_exact(want, got, err);
    }
    int64_t n = ot_tensor_count(want);
    for (int64_t i = 0; i < n; i++) {
        double w = ot_tensor_f64_at(want, i), x = ot_tensor_f64_at(got, i);
        double limit = abs + rel * fabs(w);
        if (!(fabs(x - w) <= limit)) {
            return ot_fail(err, OT_DATA_LOSS,
                           "output '%s'[%" PRId64 "] is %.9g; the golden answer is %.9g +- %.3g",
                           want->name, i, x, w, limit);
        }
    }
    return OT_OK;
}
