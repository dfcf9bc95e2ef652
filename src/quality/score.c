#include "quality/score.h"

#include "base/disk.h"
#include "base/log.h"
#include "base/mem.h"
#include "runtime/external.h"
#include "stats/special.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SPEC_BYTES_MAX (16u << 20)
#define HANG_US INT64_C(600000000) /* a run in a worker process */

/* ------------------------------------------------------------------ the model */

static ot_rc load(ot_scorer *s, const char *format, const char *path, const char *apart,
                  ot_error *err)
{
    /* What limits a run is the time of the job. */
    ot_isolation how = {.dir = apart, .hang_us = HANG_US};
    ot_model_options options = {.threads = 1, .isolation = &how};
    if (format == NULL) {
        OT_TRY(ot_runtime_detect(s->rt, path, &format, err));
    }
    /* Nothing of an external server runs here, and a sandbox would not reach it. */
    bool here = apart == NULL || strcmp(format, OT_EXTERNAL_FORMAT) == 0;
    return ot_model_load(s->rt, format, path, here ? NULL : &options, &s->model, err);
}

ot_rc ot_scorer_open(ot_scorer *s, const char *format, const char *path, const char *apart,
                     ot_error *err)
{
    OT_TRY(ot_runtime_create(NULL, &s->rt, err));
    ot_rc rc = load(s, format, path, apart, err);
    if (rc != OT_OK) {
        return ot_error_prefix(err, rc, "model %s", path);
    }
    s->info = ot_model_info_of(s->model);
    if (s->info->isolation_lacks[0] != '\0') {
        ot_warn("isolate", "model %s: in a worker process; %s", path, s->info->isolation_lacks);
    }
    if (s->info->n_inputs != 1) {
        return ot_fail(err, OT_INVALID,
                       "model %s: %d inputs; models with one input are scored. Join them in the "
                       "model",
                       path, s->info->n_inputs);
    }
    return ot_instance_create(s->model, &s->inst, err);
}

bool ot_scorer_takes_text(const ot_scorer *s)
{
    return s->info->inputs[0].dtype == OT_DT_BYTES;
}

void ot_scorer_done(ot_scorer *s)
{
    ot_instance_destroy(s->inst);
    ot_model_unref(s->model);
    ot_runtime_unref(s->rt);
    *s = (ot_scorer){0};
}

/* ------------------------------------------------------------------ rows */

/* The column's rows have the form of the input's, or as many numbers as it fixes. */
static bool row_fits(const ot_tensor_spec *in, const ot_tensor *c)
{
    int64_t want, have;
    if (in->rank < 1 || !ot_shape_count(c->dims + 1, c->rank - 1, &have)) {
        return false;
    }
    if (ot_shape_count(in->dims + 1, in->rank - 1, &want)) {
        return want == have;
    }
    bool fits = in->rank == c->rank; /* free axes: each fixed one must agree */
    for (int k = 1; fits && k < in->rank; k++) {
        fits = in->dims[k] < 0 || in->dims[k] == c->dims[k];
    }
    return fits;
}

static bool type_fits(const ot_tensor_spec *in, const ot_tensor *c)
{
    bool number = ot_dtype_is_float(c->dtype) || ot_dtype_is_int(c->dtype);
    return in->dtype == c->dtype || ((in->dtype == OT_DT_FP32 || in->dtype == OT_DT_FP64) &&
                                     (number || c->dtype == OT_DT_BOOL));
}

static ot_rc no_column(const ot_tensor_spec *in, const ot_table *t, const char *why,
                       const char *where, ot_error *err)
{
    char shape[OT_SHAPE_TEXT];
    OT_AUTO(ot_str_done) ot_str have = OT_STR_INIT;
    for (size_t i = 0; i < t->n_columns && have.len < 600; i++) {
        const ot_tensor *c = &t->columns[i];
        ot_str_addf(&have, "%s'%.64s' %s %s", i > 0 ? ", " : "", c->name, ot_dtype_name(c->dtype),
                    ot_shape_format(c->dims, c->rank, shape));
    }
    return ot_fail(err, OT_INVALID, "%.128s: input '%.64s' of the model is %s %s; %s: %s", where,
                   in->name, ot_dtype_name(in->dtype), ot_shape_format(in->dims, in->rank, shape),
                   why, have.data);
}

static ot_rc find_column(const ot_tensor_spec *in, const ot_table *t, const char *label,
                         const char *where, const ot_tensor **out, ot_error *err)
{
    const ot_tensor *c = ot_table_column(t, in->name);
    if (c != NULL && (label == NULL || strcmp(label, in->name) != 0)) {
        *out = c;
        return row_fits(in, c) && type_fits(in, c)
                   ? OT_OK
                   : no_column(in, t, "the column of its name does not fit", where, err);
    }
    const ot_tensor *found = NULL;
    for (size_t i = 0; i < t->n_columns; i++) {
        c = &t->columns[i];
        if ((label != NULL && strcmp(c->name, label) == 0) ||
            strcmp(c->name, OT_TABLE_WEIGHT) == 0 || !row_fits(in, c) || !type_fits(in, c)) {
            continue;
        }
        if (found != NULL) {
            return no_column(in, t, "more than one column fits; give one its name", where, err);
        }
        found = c;
    }
    if (found == NULL) {
        return no_column(in, t, "no column fits", where, err);
    }
    *out = found;
    return OT_OK;
}

static void convert(const ot_tensor *c, ot_dtype to, char *p)
{
    if (c->dtype == to) {
        memcpy(p, c->data, c->size_bytes);
        return;
    }
    int64_t n = ot_tensor_count(c);
    for (int64_t i = 0; i < n; i++) {
        double x = ot_tensor_f64_at(c, i);
        if (to == OT_DT_FP32) {
            ((float *)(void *)p)[i] = (float)x;
        } else {
            ((double *)(void *)p)[i] = x;
        }
    }
}

ot_rc ot_rows_add(ot_rows *r, const ot_tensor_spec *input, const ot_table *t, const char *label,
                  const char *where, ot_error *err)
{
    const ot_tensor *c = NULL;
    OT_TRY(find_column(input, t, label, where, &c, err));
    ot_tensor x = {.name = input->name, .dtype = input->dtype, .rank = input->rank};
    int64_t fixed;
    bool own = ot_shape_count(input->dims + 1, input->rank - 1, &fixed);
    memcpy(x.dims, own ? input->dims : c->dims, sizeof x.dims);
    size_t rank_bytes = (size_t)(x.rank - 1) * sizeof x.dims[0];
    if (r->x.rank > 0 && memcmp(r->x.dims + 1, x.dims + 1, rank_bytes) != 0) {
        return no_column(input, t, "its rows have another shape than those before", where, err);
    }
    size_t before = r->x.size_bytes, bytes;
    x.dims[0] = c->dims[0];
    if (!ot_shape_bytes(x.dtype, x.dims, x.rank, &bytes) || bytes > OT_TABLE_BYTES_MAX - before) {
        return ot_fail(err, OT_EXHAUSTED, "%s: more than %llu bytes of rows; take fewer", where,
                       OT_TABLE_BYTES_MAX);
    }
    char *data = ot_realloc(r->data, OT_MAX(before + bytes, (size_t)1));
    if (data == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "%s: no memory for %zu bytes of rows", where, bytes);
    }
    r->data = data;
    convert(c, x.dtype, data + before);
    x.dims[0] += r->x.rank > 0 ? r->x.dims[0] : 0;
    x.size_bytes = before + bytes;
    x.data = data;
    r->x = x;
    return OT_OK;
}

void ot_rows_done(ot_rows *r)
{
    ot_free(r->data);
    *r = (ot_rows){0};
}

/* ------------------------------------------------------------------ runs */

static ot_rc check_answers(const ot_run_result *r, int64_t n, ot_error *err)
{
    char shape[OT_SHAPE_TEXT];
    for (int i = 0; i < r->n_outputs; i++) {
        const ot_tensor *t = &r->outputs[i];
        if (t->rank < 1 || t->dims[0] != n) {
            return ot_fail(err, OT_INVALID,
                           "output '%s' is %s for %" PRId64 " rows; axis 0 must be the row",
                           t->name, ot_shape_format(t->dims, t->rank, shape), n);
        }
    }
    return OT_OK;
}

ot_rc ot_scorer_run(ot_scorer *s, const ot_tensor *rows, int64_t step, ot_scored_fn *fn, void *arg,
                    ot_error *err)
{
    for (int64_t at = 0; at < rows->dims[0]; at += step) {
        int64_t n = OT_MIN(step, rows->dims[0] - at);
        ot_run_input in = {.tensor = ot_table_slice(rows, at, n)};
        in.tensor.name = rows->name;
        ot_run run = {.inputs = &in, .n_inputs = 1};
        ot_run_result r;
        ot_rc rc = ot_instance_run(s->inst, &run, &r, err);
        if (rc != OT_OK) {
            return ot_error_prefix(err, rc, "rows %" PRId64 " to %" PRId64, at, at + n - 1);
        }
        rc = check_answers(&r, n, err);
        if (rc == OT_OK) {
            rc = fn(arg, at, n, r.outputs, err);
        }
        ot_run_result_release(&r);
        OT_TRY(rc);
    }
    return OT_OK;
}

/* ------------------------------------------------------------------ the sign test */

double ot_sign_test_p(int64_t k, int64_t n)
{
    if (k <= 0) {
        return 1;
    }
    if (k > n) {
        return 0;
    }
    double sum = -INFINITY, log_all = lgamma((double)n + 1) - (double)n * log(2);
    for (int64_t i = n; i >= k; i--) { /* smallest terms first */
        double term = log_all - lgamma((double)i + 1) - lgamma((double)(n - i) + 1);
        sum = ot_special_log_add(sum, term);
    }
    return fmin(exp(sum), 1);
}

/* ------------------------------------------------------------------ spec and result */

ot_rc ot_job_read(const char *path, json_t **spec_out, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    OT_TRY(ot_disk_read_all(ot_disk_posix(), path, SPEC_BYTES_MAX, &text, err));
    json_error_t why;
    json_t *spec = json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES, &why);
    if (spec == NULL) {
        return ot_fail(err, OT_INVALID, "spec %s:%d:%d: %s", path, why.line, why.column, why.text);
    }
    if (!json_is_object(spec)) {
        json_decref(spec);
        return ot_fail(err, OT_INVALID, "spec %s: a JSON object is expected", path);
    }
    *spec_out = spec;
    return OT_OK;
}

ot_rc ot_job_text(const json_t *o, const char *key, const char **out, ot_error *err)
{
    const char *s = json_string_value(json_object_get(o, key));
    if (s == NULL || s[0] == 0) {
        return ot_fail(err, OT_INVALID, "spec: \"%s\" must be a text that is not empty", key);
    }
    *out = s;
    return OT_OK;
}

ot_rc ot_job_folder(const char *file, char out[OT_PATH_MAX], ot_error *err)
{
    const char *slash = strrchr(file, '/');
    size_t n = slash == NULL ? 0 : (size_t)(slash - file);
    if (n >= OT_PATH_MAX) {
        return ot_fail(err, OT_RANGE, "spec: a path is longer than %d bytes", OT_PATH_MAX);
    }
    snprintf(out, OT_PATH_MAX, "%.*s", slash == NULL ? 1 : (int)OT_MAX(n, (size_t)1),
             slash == NULL ? "." : file);
    return OT_OK;
}

ot_rc ot_job_apart(const json_t *o, const char *dir, const char **apart_out, ot_error *err)
{
    const json_t *value = json_object_get(o, "isolation");
    const char *s = value == NULL ? "none" : json_string_value(value);
    if (s == NULL || (strcmp(s, "none") != 0 && strcmp(s, "process") != 0)) {
        return ot_fail(err, OT_INVALID, "spec: \"isolation\" must be \"none\" or \"process\"");
    }
    *apart_out = strcmp(s, "process") == 0 ? dir : NULL;
    return OT_OK;
}

ot_rc ot_job_write(const char *path, json_t *result, ot_error *err)
{
    char *text = result == NULL ? NULL : json_dumps(result, JSON_INDENT(1));
    json_decref(result);
    if (text == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "result %s: no memory to write it", path);
    }
    ot_rc rc = ot_disk_write_atomic(ot_disk_posix(), path, text, strlen(text), 0644, err);
    free(text);
    return rc == OT_OK ? OT_OK : ot_error_prefix(err, rc, "result %s", path);
}
