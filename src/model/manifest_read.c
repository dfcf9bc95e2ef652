/* Reading of manifest.json: the tree of jansson to ot_manifest, each error with its field. */
#include "model/manifest.h"

#include <inttypes.h>
#include <jansson.h>
#include <string.h>

/* The field a value stands in, for errors: "inputs[2].shape". */
typedef struct field {
    char text[96];
} field;

static field field_of(const char *what, size_t i, const char *key)
{
    field f;
    snprintf(f.text, sizeof f.text, "%s[%zu].%s", what, i, key);
    return f;
}

static const char *type_name(const json_t *v)
{
    if (v == NULL) {
        return "missing";
    }
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a number with a fraction";
    case JSON_NULL:
        return "null";
    default:
        return "a boolean";
    }
}

static ot_rc no_memory(ot_error *err)
{
    return ot_fail(err, OT_EXHAUSTED, "manifest: no memory to read it");
}

/* Refuses keys that the schema does not have. `where` is "" for the manifest itself. */
static ot_rc known_keys(json_t *obj, const char *where, const char *const *keys, size_t n,
                        ot_error *err)
{
    const char *key;
    json_t *v;
    json_object_foreach(obj, key, v)
    {
        bool known = false;
        for (size_t i = 0; i < n && !known; i++) {
            known = strcmp(keys[i], key) == 0;
        }
        if (!known) {
            const char *near = ot_suggest(key, keys, n);
            return ot_fail(err, OT_INVALID, "%s%s'%.64s' is not known in %s%s%s%s", where,
                           where[0] == 0 ? "" : ": ", key, OT_MANIFEST_SCHEMA,
                           near == NULL ? "" : "; did you mean '", near == NULL ? "" : near,
                           near == NULL ? "" : "'?");
        }
    }
    return OT_OK;
}

static ot_rc get_string(json_t *obj, const char *key, const char *where, ot_arena *a,
                        const char **out, ot_error *err)
{
    json_t *v = json_object_get(obj, key);
    if (!json_is_string(v)) {
        return ot_fail(err, OT_INVALID, "%s: %s; a string is expected", where, type_name(v));
    }
    *out = ot_arena_strdup(a, json_string_value(v)); /* the parser refuses NUL inside */
    return *out == NULL ? no_memory(err) : OT_OK;
}

static ot_rc get_integer(json_t *obj, const char *key, const char *where, int64_t *out,
                         ot_error *err)
{
    json_t *v = json_object_get(obj, key);
    if (!json_is_integer(v)) {
        return ot_fail(err, OT_INVALID, "%s: %s; an integer is expected", where, type_name(v));
    }
    *out = (int64_t)json_integer_value(v);
    return OT_OK;
}

static ot_rc read_shape(json_t *obj, const char *where, ot_tensor_spec *s, ot_error *err)
{
    json_t *v = json_object_get(obj, "shape");
    if (!json_is_array(v)) {
        return ot_fail(err, OT_INVALID, "%s: %s; an array of integers is expected", where,
                       type_name(v));
    }
    size_t n = json_array_size(v);
    if (n > OT_RANK_MAX) {
        return ot_fail(err, OT_INVALID, "%s: rank %zu; at most %d is accepted", where, n,
                       OT_RANK_MAX);
    }
    s->rank = (int)n;
    for (size_t i = 0; i < n; i++) {
        json_t *d = json_array_get(v, i);
        if (!json_is_integer(d)) {
            return ot_fail(err, OT_INVALID, "%s[%zu]: %s; an integer is expected", where, i,
                           type_name(d));
        }
        s->dims[i] = (int64_t)json_integer_value(d);
    }
    return OT_OK;
}

static ot_rc read_spec(json_t *v, const char *what, size_t i, ot_arena *a, ot_tensor_spec *s,
                       ot_error *err)
{
    static const char *const keys[] = {"name", "datatype", "shape"};
    if (!json_is_object(v)) {
        return ot_fail(err, OT_INVALID, "%s[%zu]: %s; an object is expected", what, i,
                       type_name(v));
    }
    char where[64];
    snprintf(where, sizeof where, "%s[%zu]", what, i);
    OT_TRY(known_keys(v, where, keys, OT_COUNT(keys), err));
    OT_TRY(get_string(v, "name", field_of(what, i, "name").text, a, &s->name, err));
    const char *dt;
    field f = field_of(what, i, "datatype");
    OT_TRY(get_string(v, "datatype", f.text, a, &dt, err));
    s->dtype = ot_dtype_parse(dt, strlen(dt));
    if (s->dtype == OT_DT_INVALID) {
        return ot_fail(err, OT_INVALID,
                       "%s: '%.32s' is not a type of the Open Inference Protocol (BOOL, UINT8 to "
                       "UINT64, INT8 to INT64, FP16, BF16, FP32, FP64, BYTES)",
                       f.text, dt);
    }
    return read_shape(v, field_of(what, i, "shape").text, s, err);
}

static ot_rc read_specs(json_t *root, const char *what, ot_arena *a, ot_tensor_spec **specs_out,
                        size_t *n_out, ot_error *err)
{
    json_t *v = json_object_get(root, what);
    if (!json_is_array(v)) {
        return ot_fail(err, OT_INVALID, "%s: %s; an array of tensors is expected", what,
                       type_name(v));
    }
    size_t n = json_array_size(v);
    if (n > OT_MANIFEST_TENSORS_MAX) {
        return ot_fail(err, OT_INVALID, "%s: %zu tensors; 1 to %d are accepted", what, n,
                       OT_MANIFEST_TENSORS_MAX);
    }
    ot_tensor_spec *specs = ot_arena_calloc(a, n, sizeof *specs);
    if (specs == NULL) {
        return no_memory(err);
    }
    for (size_t i = 0; i < n; i++) {
        OT_TRY(read_spec(json_array_get(v, i), what, i, a, &specs[i], err));
    }
    *specs_out = specs;
    *n_out = n;
    return OT_OK;
}

static ot_rc read_batch(json_t *root, ot_manifest *m, ot_error *err)
{
    static const char *const keys[] = {"axis", "max"};
    json_t *v = json_object_get(root, "batch");
    if (v == NULL) {
        return OT_OK;
    }
    if (!json_is_object(v)) {
        return ot_fail(err, OT_INVALID, "batch: %s; an object is expected", type_name(v));
    }
    OT_TRY(known_keys(v, "batch", keys, OT_COUNT(keys), err));
    int64_t axis, max;
    OT_TRY(get_integer(v, "axis", "batch.axis", &axis, err));
    OT_TRY(get_integer(v, "max", "batch.max", &max, err));
    if (axis != 0) {
        return ot_fail(err, OT_INVALID, "batch.axis: %" PRId64 "; only 0 is accepted", axis);
    }
    if (max < 1 || max > OT_MANIFEST_BATCH_MAX) {
        return ot_fail(err, OT_INVALID, "batch.max: %" PRId64 "; 1 to %d is accepted", max,
                       OT_MANIFEST_BATCH_MAX);
    }
    m->batch_max = max;
    return OT_OK;
}

static ot_rc read_prediction(json_t *root, ot_manifest *m, ot_error *err)
{
    static const char *const keys[] = {"output", "kind"};
    json_t *v = json_object_get(root, "prediction");
    if (v == NULL) {
        return OT_OK;
    }
    if (!json_is_object(v)) {
        return ot_fail(err, OT_INVALID, "prediction: %s; an object is expected", type_name(v));
    }
    OT_TRY(known_keys(v, "prediction", keys, OT_COUNT(keys), err));
    const char *output, *kind;
    OT_TRY(get_string(v, "output", "prediction.output", &m->arena, &output, err));
    OT_TRY(get_string(v, "kind", "prediction.kind", &m->arena, &kind, err));
    if (!ot_prediction_kind_parse(kind, &m->prediction_kind)) {
        return ot_fail(err, OT_INVALID,
                       "prediction.kind: '%.32s'; scores, label or value is accepted", kind);
    }
    int i = ot_manifest_output(m, output);
    if (i < 0) {
        return ot_fail(err, OT_INVALID,
                       "prediction.output: '%.64s' is not among the outputs (the first is '%s')",
                       output, m->n_outputs > 0 ? m->outputs[0].name : "");
    }
    m->prediction_output = (size_t)i;
    return OT_OK;
}

static ot_rc read_serve(json_t *root, ot_manifest *m, ot_error *err)
{
    static const char *const keys[] = {"instances", "queue", "deadline_us", "process_memory_bytes"};
    const struct {
        int64_t max, *to;
    } numbers[] = {{OT_MANIFEST_INSTANCES_MAX, &m->serve.instances},
                   {OT_MANIFEST_QUEUE_MAX, &m->serve.queue},
                   {OT_MANIFEST_DEADLINE_US_MAX, &m->serve.deadline_us},
                   {INT64_MAX, &m->serve.process_memory_bytes}};
    json_t *v = json_object_get(root, "serve");
    if (v == NULL) {
        return OT_OK;
    }
    if (!json_is_object(v) || json_object_size(v) == 0) {
        return ot_fail(err, OT_INVALID, "serve: %s; an object that says something is expected",
                       type_name(v));
    }
    OT_TRY(known_keys(v, "serve", keys, OT_COUNT(keys), err));
    for (size_t i = 0; i < OT_COUNT(numbers); i++) {
        char where[48];
        snprintf(where, sizeof where, "serve.%s", keys[i]);
        if (json_object_get(v, keys[i]) == NULL) {
            continue;
        }
        OT_TRY(get_integer(v, keys[i], where, numbers[i].to, err));
        if (*numbers[i].to < 1 || *numbers[i].to > numbers[i].max) {
            return ot_fail(err, OT_INVALID, "%s: %" PRId64 "; 1 to %" PRId64 " is accepted", where,
                           *numbers[i].to, numbers[i].max);
        }
    }
    return OT_OK;
}

static ot_rc read_file(json_t *v, size_t i, ot_arena *a, ot_manifest_file *f, ot_error *err)
{
    static const char *const keys[] = {"path", "size", "sha256"};
    if (!json_is_object(v)) {
        return ot_fail(err, OT_INVALID, "files[%zu]: %s; an object is expected", i, type_name(v));
    }
    char where[64];
    snprintf(where, sizeof where, "files[%zu]", i);
    OT_TRY(known_keys(v, where, keys, OT_COUNT(keys), err));
    OT_TRY(get_string(v, "path", field_of("files", i, "path").text, a, &f->path, err));
    int64_t size;
    OT_TRY(get_integer(v, "size", field_of("files", i, "size").text, &size, err));
    if (size < 0) {
        return ot_fail(err, OT_INVALID, "files[%zu].size: %" PRId64 " is negative", i, size);
    }
    f->size = (uint64_t)size;
    const char *hex;
    OT_TRY(get_string(v, "sha256", field_of("files", i, "sha256").text, a, &hex, err));
    if (!ot_digest_parse(hex, &f->sha256)) {
        return ot_fail(err, OT_INVALID,
                       "files[%zu].sha256: '%.80s' is not 64 lower-case hexadecimal digits", i,
                       hex);
    }
    return OT_OK;
}

static ot_rc read_files(json_t *root, ot_manifest *m, ot_error *err)
{
    json_t *v = json_object_get(root, "files");
    if (!json_is_array(v)) {
        return ot_fail(err, OT_INVALID, "files: %s; an array is expected", type_name(v));
    }
    size_t n = json_array_size(v);
    if (n > OT_MANIFEST_FILES_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "files: %zu; the limit is %d", n, OT_MANIFEST_FILES_MAX);
    }
    m->files = ot_arena_calloc(&m->arena, n, sizeof *m->files);
    if (m->files == NULL) {
        return no_memory(err);
    }
    m->n_files = n;
    for (size_t i = 0; i < n; i++) {
        OT_TRY(read_file(json_array_get(v, i), i, &m->arena, &m->files[i], err));
    }
    return OT_OK;
}

static ot_rc read_signature(json_t *root, ot_manifest *m, ot_error *err)
{
    OT_TRY(read_specs(root, "inputs", &m->arena, &m->inputs, &m->n_inputs, err));
    OT_TRY(read_specs(root, "outputs", &m->arena, &m->outputs, &m->n_outputs, err));
    OT_TRY(read_batch(root, m, err));
    OT_TRY(read_serve(root, m, err));
    return read_prediction(root, m, err);
}

static ot_rc read_whole(json_t *root, ot_manifest *m, ot_error *err)
{
    static const char *const keys[] = {"schema", "format",     "inputs", "outputs",
                                       "batch",  "prediction", "files",  "serve"};
    const char *schema;
    OT_TRY(get_string(root, "schema", "schema", &m->arena, &schema, err));
    bool serves = strcmp(schema, OT_MANIFEST_SCHEMA_SERVE) == 0;
    if (!serves && strcmp(schema, OT_MANIFEST_SCHEMA) != 0) {
        return ot_fail(err, OT_INVALID, "schema: '%.64s'; this program reads '%s' and '%s'", schema,
                       OT_MANIFEST_SCHEMA, OT_MANIFEST_SCHEMA_SERVE);
    }
    OT_TRY(known_keys(root, "", keys, OT_COUNT(keys), err));
    if (serves != (json_object_get(root, "serve") != NULL)) {
        return ot_fail(err, OT_INVALID, "schema: '%s' %s", schema,
                       serves ? "has 'serve', which is missing"
                              : "has no 'serve'; " OT_MANIFEST_SCHEMA_SERVE " has");
    }
    OT_TRY(get_string(root, "format", "format", &m->arena, &m->format, err));
    OT_TRY(read_signature(root, m, err));
    OT_TRY(read_files(root, m, err));
    return ot_manifest_check(m, err);
}

static ot_rc read_signature_only(json_t *root, ot_manifest *m, ot_error *err)
{
    static const char *const keys[] = {"format", "inputs",     "outputs",
                                       "batch",  "prediction", "serve"};
    OT_TRY(known_keys(root, "signature", keys, OT_COUNT(keys), err));
    const char *format = "unknown";
    bool has_format = json_object_get(root, "format") != NULL;
    if (has_format) {
        OT_TRY(get_string(root, "format", "format", &m->arena, &format, err));
    }
    OT_TRY(read_signature(root, m, err));
    m->format = format;
    OT_TRY(ot_manifest_check(m, err));
    if (!has_format) {
        m->format = NULL;
    }
    return OT_OK;
}

typedef ot_rc read_fn(json_t *root, ot_manifest *m, ot_error *err);

static ot_rc parse(const char *what, const char *json, size_t n, read_fn *read, ot_manifest *m_out,
                   ot_error *err)
{
    if (n > OT_MANIFEST_BYTES_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "%s: %zu bytes; the limit is %u", what, n,
                       OT_MANIFEST_BYTES_MAX);
    }
    json_error_t je;
    json_t *root = json_loadb(json, n, JSON_REJECT_DUPLICATES, &je);
    if (root == NULL) {
        return ot_fail(err, OT_INVALID, "%s: line %d column %d: %s", what, je.line, je.column,
                       je.text);
    }
    ot_manifest m;
    ot_manifest_init(&m);
    ot_rc rc = json_is_object(root)
                   ? read(root, &m, err)
                   : ot_fail(err, OT_INVALID, "%s; an object is expected", type_name(root));
    json_decref(root);
    if (rc != OT_OK) {
        ot_manifest_done(&m);
        return ot_error_prefix(err, rc, "%s", what);
    }
    ot_manifest_done(m_out);
    *m_out = m;
    return OT_OK;
}

ot_rc ot_manifest_parse(const char *json, size_t n, ot_manifest *m_out, ot_error *err)
{
    return parse(OT_MANIFEST_FILE, json, n, read_whole, m_out, err);
}

ot_rc ot_manifest_parse_signature(const char *json, size_t n, ot_manifest *m_out, ot_error *err)
{
    return parse("signature", json, n, read_signature_only, m_out, err);
}
