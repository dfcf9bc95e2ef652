#include "model/manifest.h"

#include "base/disk.h"
#include "codec/json_scan.h"

#include <inttypes.h>
#include <string.h>

#define ARENA_CHUNK 4096
#define ARENA_LIMIT (32u << 20)

static const char *const kind_names[] = {"none", "scores", "label", "value"};

const char *ot_prediction_kind_name(ot_prediction_kind kind)
{
    return (size_t)kind < OT_COUNT(kind_names) ? kind_names[kind] : "invalid";
}

bool ot_prediction_kind_parse(const char *s, ot_prediction_kind *kind_out)
{
    for (size_t i = 1; i < OT_COUNT(kind_names); i++) {
        if (strcmp(s, kind_names[i]) == 0) {
            *kind_out = (ot_prediction_kind)i;
            return true;
        }
    }
    return false;
}

void ot_manifest_init(ot_manifest *m)
{
    *m = (ot_manifest){0};
    ot_arena_init(&m->arena, ARENA_CHUNK, ARENA_LIMIT);
}

void ot_manifest_done(ot_manifest *m)
{
    ot_arena_done(&m->arena);
    ot_manifest_init(m);
}

static int spec_find(const ot_tensor_spec *specs, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(specs[i].name, name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

int ot_manifest_input(const ot_manifest *m, const char *name)
{
    return spec_find(m->inputs, m->n_inputs, name);
}

int ot_manifest_output(const ot_manifest *m, const char *name)
{
    return spec_find(m->outputs, m->n_outputs, name);
}

const ot_manifest_file *ot_manifest_file_find(const ot_manifest *m, const char *path)
{
    size_t lo = 0, hi = m->n_files;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = strcmp(path, m->files[mid].path);
        if (c == 0) {
            return &m->files[mid];
        }
        if (c < 0) {
            hi = mid;
        } else {
            lo = mid + 1;
        }
    }
    return NULL;
}

static bool printable_utf8(const char *s)
{
    for (const char *p = s; *p != 0; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f) {
            return false;
        }
    }
    return ot_utf8_valid(s, strlen(s));
}

static ot_rc check_tensor_name(const char *what, size_t i, const char *name, ot_error *err)
{
    size_t n = name == NULL ? 0 : strlen(name);
    if (n == 0 || n > OT_MANIFEST_TENSOR_NAME_MAX) {
        return ot_fail(err, OT_INVALID, "%s[%zu].name: %zu bytes; 1 to %d are accepted", what, i, n,
                       OT_MANIFEST_TENSOR_NAME_MAX);
    }
    if (!printable_utf8(name)) {
        return ot_fail(err, OT_INVALID, "%s[%zu].name: not UTF-8 without control characters", what,
                       i);
    }
    return OT_OK;
}

static ot_rc check_spec(const char *what, size_t i, const ot_tensor_spec *s, bool batched,
                        ot_error *err)
{
    OT_TRY(check_tensor_name(what, i, s->name, err));
    if (s->dtype <= OT_DT_INVALID || s->dtype >= OT_DT_COUNT_) {
        return ot_fail(err, OT_INVALID, "%s[%zu].datatype: not one of BOOL, UINT8 to FP64, BYTES",
                       what, i);
    }
    if (s->rank < 0 || s->rank > OT_RANK_MAX) {
        return ot_fail(err, OT_INVALID, "%s[%zu].shape: rank %d; at most %d is accepted", what, i,
                       s->rank, OT_RANK_MAX);
    }
    for (int k = 0; k < s->rank; k++) {
        if (s->dims[k] < -1 || s->dims[k] == 0) {
            return ot_fail(err, OT_INVALID,
                           "%s[%zu].shape[%d]: %" PRId64
                           "; a positive size or -1 (any) is accepted",
                           what, i, k, s->dims[k]);
        }
    }
    if (batched && (s->rank == 0 || s->dims[0] != -1)) {
        return ot_fail(err, OT_INVALID,
                       "%s[%zu].shape: '%s' has no free first axis, so batch is not possible; make "
                       "it -1 or leave out batch",
                       what, i, s->name);
    }
    return OT_OK;
}

static ot_rc check_specs(const char *what, const ot_tensor_spec *specs, size_t n, bool batched,
                         ot_error *err)
{
    if (n == 0 || n > OT_MANIFEST_TENSORS_MAX) {
        return ot_fail(err, OT_INVALID, "%s: %zu tensors; 1 to %d are accepted", what, n,
                       OT_MANIFEST_TENSORS_MAX);
    }
    for (size_t i = 0; i < n; i++) {
        OT_TRY(check_spec(what, i, &specs[i], batched, err));
        if (spec_find(specs, i, specs[i].name) >= 0) {
            return ot_fail(err, OT_INVALID, "%s[%zu].name: '%s' is there twice", what, i,
                           specs[i].name);
        }
    }
    return OT_OK;
}

static ot_rc check_prediction(const ot_manifest *m, ot_error *err)
{
    if (m->prediction_kind == OT_PREDICTION_NONE) {
        return OT_OK;
    }
    if (m->prediction_kind > OT_PREDICTION_VALUE || m->prediction_output >= m->n_outputs) {
        return ot_fail(err, OT_INVALID, "prediction: kind %d of output %zu; there are %zu outputs",
                       (int)m->prediction_kind, m->prediction_output, m->n_outputs);
    }
    const ot_tensor_spec *s = &m->outputs[m->prediction_output];
    bool fits = m->prediction_kind == OT_PREDICTION_SCORES ? ot_dtype_is_float(s->dtype)
                : m->prediction_kind == OT_PREDICTION_LABEL
                    ? ot_dtype_is_int(s->dtype) || s->dtype == OT_DT_BOOL
                    : s->dtype != OT_DT_BYTES;
    if (!fits) {
        return ot_fail(err, OT_INVALID,
                       "prediction.kind: %s does not fit output '%s', which is %s (scores takes "
                       "floats, label integers or BOOL, value numbers)",
                       ot_prediction_kind_name(m->prediction_kind), s->name,
                       ot_dtype_name(s->dtype));
    }
    return OT_OK;
}

static ot_rc check_files(const ot_manifest *m, ot_error *err)
{
    if (m->n_files > OT_MANIFEST_FILES_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "files: %zu; the limit is %d", m->n_files,
                       OT_MANIFEST_FILES_MAX);
    }
    for (size_t i = 0; i < m->n_files; i++) {
        const char *p = m->files[i].path;
        if (strlen(p) > OT_MANIFEST_PATH_MAX) {
            return ot_fail(err, OT_INVALID, "files[%zu].path: %zu bytes; the limit is %d", i,
                           strlen(p), OT_MANIFEST_PATH_MAX);
        }
        if (!ot_path_is_clean(p) || !printable_utf8(p)) {
            return ot_fail(err, OT_INVALID,
                           "files[%zu].path: '%s'; a relative path without empty, '.' or '..' "
                           "segments, in UTF-8 without control characters, is accepted",
                           i, p);
        }
        if (strcmp(p, OT_MANIFEST_FILE) == 0) {
            return ot_fail(err, OT_INVALID, "files[%zu].path: the manifest cannot list itself", i);
        }
        if (i > 0 && strcmp(m->files[i - 1].path, p) >= 0) {
            return ot_fail(err, OT_INVALID,
                           "files[%zu].path: '%s' after '%s'; files are sorted by path, each once",
                           i, p, m->files[i - 1].path);
        }
    }
    return OT_OK;
}

ot_rc ot_manifest_check(const ot_manifest *m, ot_error *err)
{
    if (m->format == NULL || !ot_name_ok(m->format)) {
        return ot_fail(err, OT_INVALID,
                       "format: '%s'; 1 to 64 characters of A-Z a-z 0-9 . _ - are accepted",
                       m->format == NULL ? "" : m->format);
    }
    if (m->batch_max < 0 || m->batch_max > OT_MANIFEST_BATCH_MAX) {
        return ot_fail(err, OT_INVALID, "batch.max: %" PRId64 "; 1 to %d is accepted", m->batch_max,
                       OT_MANIFEST_BATCH_MAX);
    }
    bool batched = m->batch_max > 0;
    OT_TRY(check_specs("inputs", m->inputs, m->n_inputs, batched, err));
    OT_TRY(check_specs("outputs", m->outputs, m->n_outputs, batched, err));
    OT_TRY(check_prediction(m, err));
    return check_files(m, err);
}

static void write_specs(ot_str *out, const char *key, const ot_tensor_spec *specs, size_t n)
{
    ot_str_addf(out, ",\n \"%s\": [", key);
    for (size_t i = 0; i < n; i++) {
        ot_str_adds(out, i == 0 ? "{\"name\": " : ",\n  {\"name\": ");
        ot_str_add_quoted(out, specs[i].name);
        ot_str_addf(out, ", \"datatype\": \"%s\", \"shape\": [", ot_dtype_name(specs[i].dtype));
        for (int k = 0; k < specs[i].rank; k++) {
            ot_str_addf(out, "%s%" PRId64, k == 0 ? "" : ", ", specs[i].dims[k]);
        }
        ot_str_adds(out, "]}");
    }
    ot_str_addc(out, ']');
}

static void write_files(ot_str *out, const ot_manifest *m)
{
    ot_str_adds(out, ",\n \"files\": [");
    for (size_t i = 0; i < m->n_files; i++) {
        char hex[OT_DIGEST_HEX];
        ot_str_adds(out, i == 0 ? "{\"path\": " : ",\n  {\"path\": ");
        ot_str_add_quoted(out, m->files[i].path);
        ot_str_addf(out, ", \"size\": %" PRIu64 ", \"sha256\": \"%s\"}", m->files[i].size,
                    ot_digest_hex(&m->files[i].sha256, hex));
    }
    ot_str_addc(out, ']');
}

bool ot_manifest_serves(const ot_manifest *m)
{
    const ot_manifest_serve *s = &m->serve;
    return s->instances != 0 || s->queue != 0 || s->deadline_us != 0 ||
           s->process_memory_bytes != 0;
}

static void write_serve(ot_str *out, const ot_manifest_serve *s)
{
    const struct {
        const char *key;
        int64_t value;
    } numbers[] = {{"instances", s->instances},
                   {"queue", s->queue},
                   {"deadline_us", s->deadline_us},
                   {"process_memory_bytes", s->process_memory_bytes}};
    const char *before = ",\n \"serve\": {";
    for (size_t i = 0; i < OT_COUNT(numbers); i++) {
        if (numbers[i].value != 0) {
            ot_str_addf(out, "%s\"%s\": %" PRId64, before, numbers[i].key, numbers[i].value);
            before = ", ";
        }
    }
    ot_str_addc(out, '}');
}

ot_rc ot_manifest_write(const ot_manifest *m, ot_str *out, ot_error *err)
{
    OT_TRY(ot_manifest_check(m, err));
    size_t before = out->len;
    ot_str_addf(out, "{\"schema\": \"%s\", \"format\": \"%s\"",
                ot_manifest_serves(m) ? OT_MANIFEST_SCHEMA_SERVE : OT_MANIFEST_SCHEMA, m->format);
    write_specs(out, "inputs", m->inputs, m->n_inputs);
    write_specs(out, "outputs", m->outputs, m->n_outputs);
    if (m->batch_max > 0) {
        ot_str_addf(out, ",\n \"batch\": {\"axis\": 0, \"max\": %" PRId64 "}", m->batch_max);
    }
    if (m->prediction_kind != OT_PREDICTION_NONE) {
        ot_str_adds(out, ",\n \"prediction\": {\"output\": ");
        ot_str_add_quoted(out, m->outputs[m->prediction_output].name);
        ot_str_addf(out, ", \"kind\": \"%s\"}", ot_prediction_kind_name(m->prediction_kind));
    }
    if (ot_manifest_serves(m)) {
        write_serve(out, &m->serve);
    }
    write_files(out, m);
    ot_str_adds(out, "}\n");
    if (out->failed) {
        return ot_fail(err, OT_EXHAUSTED, "manifest: no memory to write it");
    }
    if (out->len - before > OT_MANIFEST_BYTES_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "manifest: %zu bytes; the limit is %u", out->len - before,
                       OT_MANIFEST_BYTES_MAX);
    }
    return OT_OK;
}

static ot_tensor_spec *copy_specs(ot_arena *a, const ot_tensor_spec *specs, size_t n)
{
    ot_tensor_spec *out = ot_arena_calloc(a, n, sizeof *out);
    for (size_t i = 0; out != NULL && i < n; i++) {
        out[i] = specs[i];
        out[i].name = ot_arena_strdup(a, specs[i].name);
        if (out[i].name == NULL) {
            return NULL;
        }
    }
    return out;
}

ot_rc ot_manifest_copy_signature(const ot_manifest *m, ot_manifest *m_out, ot_error *err)
{
    ot_manifest c;
    ot_manifest_init(&c);
    c.format = m->format == NULL ? NULL : ot_arena_strdup(&c.arena, m->format);
    c.inputs = copy_specs(&c.arena, m->inputs, m->n_inputs);
    c.outputs = copy_specs(&c.arena, m->outputs, m->n_outputs);
    if ((m->format != NULL && c.format == NULL) || c.inputs == NULL || c.outputs == NULL) {
        ot_manifest_done(&c);
        return ot_fail(err, OT_EXHAUSTED, "manifest: no memory to copy its signature");
    }
    c.n_inputs = m->n_inputs;
    c.n_outputs = m->n_outputs;
    c.batch_max = m->batch_max;
    c.prediction_kind = m->prediction_kind;
    c.prediction_output = m->prediction_output;
    c.serve = m->serve;
    ot_manifest_done(m_out);
    *m_out = c;
    return OT_OK;
}
