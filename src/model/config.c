#include "model/config.h"

#include "base/str.h"
#include "model/manifest.h"
#include "model/pbtxt.h"

#include <string.h>

#define ARENA_MAX (16u << 20)
#define NOTES_BYTES_MAX 400

typedef struct reading {
    const char *file;
    ot_model_config *c;
    ot_str notes;
} reading;

typedef ot_rc field_fn(reading *r, const ot_pbtxt *f, void *to, ot_error *err);

/* What is done with a field. */
typedef struct rule {
    const char *name;
    field_fn *fn;       /* reads it; NULL: */
    const char *refuse; /* why not; NULL too: passed over with a note */
} rule;

static const rule *find_rule(const rule *rules, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(rules[i].name, name) == 0) {
            return &rules[i];
        }
    }
    return NULL;
}

static ot_rc unknown(reading *r, const rule *rules, size_t n, const ot_pbtxt *f, ot_error *err)
{
    const char *names[48];
    for (size_t i = 0; i < n && i < OT_COUNT(names); i++) {
        names[i] = rules[i].name;
    }
    const char *near = ot_suggest(f->name, names, OT_MIN(n, OT_COUNT(names)));
    return near != NULL ? ot_pbtxt_fail(err, r->file, f, "'%.60s' is not known; did you mean '%s'?",
                                        f->name, near)
                        : ot_pbtxt_fail(err, r->file, f, "'%.60s' is not known", f->name);
}

static void pass_over(reading *r, const ot_pbtxt *f)
{
    if (r->notes.len < NOTES_BYTES_MAX) {
        ot_str_addf(&r->notes, "%s%u:%u: %.60s", r->notes.len > 0 ? "; " : "", f->line, f->column,
                    f->name);
    }
}

static ot_rc read_fields(reading *r, const rule *rules, size_t n, const ot_pbtxt *f, void *to,
                         ot_error *err)
{
    for (; f != NULL; f = f->next) {
        const rule *it = find_rule(rules, n, f->name);
        if (it == NULL) {
            return unknown(r, rules, n, f, err);
        }
        if (it->fn != NULL) {
            OT_TRY(it->fn(r, f, to, err));
        } else if (it->refuse != NULL) {
            return ot_pbtxt_fail(err, r->file, f, "%s is not supported: %s", f->name, it->refuse);
        } else {
            pass_over(r, f);
        }
    }
    return OT_OK;
}

/* ---- inputs and outputs */

static ot_rc tensor_name(reading *r, const ot_pbtxt *f, void *to, ot_error *err)
{
    return ot_pbtxt_text(r->file, f, &((ot_tensor_spec *)to)->name, err);
}

static ot_rc tensor_type(reading *r, const ot_pbtxt *f, void *to, ot_error *err)
{
    ot_tensor_spec *t = to;
    const char *type = strncmp(f->value, "TYPE_", 5) == 0 ? f->value + 5 : "";
    t->dtype = strcmp(type, "STRING") == 0 ? OT_DT_BYTES : ot_dtype_parse(type, strlen(type));
    return t->dtype != OT_DT_INVALID
               ? OT_OK
               : ot_pbtxt_fail(err, r->file, f,
                               "data_type '%.40s' is not known; it is TYPE_FP32, TYPE_INT64, "
                               "TYPE_STRING and so on",
                               f->value);
}

static ot_rc tensor_dims(reading *r, const ot_pbtxt *f, void *to, ot_error *err)
{
    ot_tensor_spec *t = to;
    int64_t d;
    OT_TRY(ot_pbtxt_int(r->file, f, -1, INT64_MAX, &d, err));
    if (t->rank == OT_RANK_MAX) {
        return ot_pbtxt_fail(err, r->file, f, "more than %d dims", OT_RANK_MAX);
    }
    t->dims[t->rank++] = d;
    return OT_OK;
}

/* false is what holds anyway. */
static ot_rc never_true(reading *r, const ot_pbtxt *f, void *to, ot_error *err)
{
    bool yes;
    (void)to;
    OT_TRY(ot_pbtxt_bool(r->file, f, &yes, err));
    return yes ? ot_pbtxt_fail(err, r->file, f, "%s: true is not supported", f->name) : OT_OK;
}

static const rule tensor_rules[] = {
    {"name", tensor_name, NULL},
    {"data_type", tensor_type, NULL},
    {"dims", tensor_dims, NULL},
    {"format", NULL, NULL},
    {"label_filename", NULL, NULL},
    {"reshape", NULL, "write the model's own shape into dims"},
    {"is_shape_tensor", never_true, NULL},
    {"allow_ragged_batch", never_true, NULL},
    {"optional", never_true, NULL},
    {"is_non_linear_format_io", never_true, NULL},
};

static ot_rc add_tensor(reading *r, const ot_pbtxt *f, ot_tensor_spec **list, size_t *n,
                        ot_error *err)
{
    OT_TRY(ot_pbtxt_message(r->file, f, err));
    if (*list == NULL) {
        *list = ot_arena_calloc(&r->c->arena, OT_MANIFEST_TENSORS_MAX, sizeof **list);
        if (*list == NULL) {
            return ot_fail(err, OT_EXHAUSTED, "%s: out of memory", r->file);
        }
    }
    if (*n == OT_MANIFEST_TENSORS_MAX) {
        return ot_pbtxt_fail(err, r->file, f, "more than %d of them", OT_MANIFEST_TENSORS_MAX);
    }
    ot_tensor_spec *t = &(*list)[*n];
    OT_TRY(read_fields(r, tensor_rules, OT_COUNT(tensor_rules), f->fields, t, err));
    if (t->name == NULL || t->name[0] == '\0' || t->dtype == OT_DT_INVALID || t->rank == 0) {
        return ot_pbtxt_fail(err, r->file, f, "%s needs name, data_type and dims", f->name);
    }
    for (size_t i = 0; i < *n; i++) {
        if (strcmp((*list)[i].name, t->name) == 0) {
            return ot_pbtxt_fail(err, r->file, f, "%s '%.80s' is there twice", f->name, t->name);
        }
    }
    (*n)++;
    return OT_OK;
}

static ot_rc get_input(reading *r, const ot_pbtxt *f, void *to, ot_error *err)
{
    (void)to;
    return add_tensor(r, f, &r->c->inputs, &r->c->n_inputs, err);
}

static ot_rc get_output(reading *r, const ot_pbtxt *f, void *to, ot_error *err)
{
    (void)to;
    return add_tensor(r, f, &r->c->outputs, &r->c->n_outputs, err);
}

/* ---- versions */

static ot_rc num_versions(reading *r, const ot_pbtxt *f, void *to, ot_error *err)
{
    int64_t n;
    (void)to;
    OT_TRY(ot_pbtxt_int(r->file, f, 1, UINT32_MAX, &n, err));
    r->c->latest = (uint64_t)n;
    return OT_OK;
}

static ot_rc get_latest(reading *r, const ot_pbtxt *f, void *to, ot_error *err)
{
    static const rule rules[] = {{"num_versions", num_versions, NULL}};
    (void)to;
    OT_TRY(ot_pbtxt_message(r->file, f, err));
    r->c->policy = OT_VERSIONS_LATEST;
    return read_fields(r, rules, OT_COUNT(rules), f->fields, NULL, err);
}

static ot_rc get_all(reading *r, const ot_pbtxt *f, void *to, ot_error *err)
{
    (void)to;
    OT_TRY(ot_pbtxt_message(r->file, f, err));
    r->c->policy = OT_VERSIONS_ALL;
    return read_fields(r, NULL, 0, f->fields, NULL, err);
}

static ot_rc one_version(reading *r, const ot_pbtxt *f, void *to, ot_error *err)
{
    int64_t v;
    (void)to;
    OT_TRY(ot_pbtxt_int(r->file, f, 1, INT64_MAX, &v, err));
    if (r->c->n_versions == OT_MODEL_CONFIG_VERSIONS_MAX) {
        return ot_pbtxt_fail(err, r->file, f, "more than %d versions",
                             OT_MODEL_CONFIG_VERSIONS_MAX);
    }
    r->c->versions[r->c->n_versions++] = (uint64_t)v;
    return OT_OK;
}

static ot_rc get_specific(reading *r, const ot_pbtxt *f, void *to, ot_error *err)
{
    static const rule rules[] = {{"versions", one_version, NULL}};
    (void)to;
    OT_TRY(ot_pbtxt_message(r->file, f, err));
    r->c->policy = OT_VERSIONS_SPECIFIC;
    OT_TRY(read_fields(r, rules, OT_COUNT(rules), f->fields, NULL, err));
    return r->c->n_versions > 0 ? OT_OK
                                : ot_pbtxt_fail(err, r->file, f, "%s names no versions", f->name);
}

static ot_rc get_policy(reading *r, const ot_pbtxt *f, void *to, ot_error *err)
{
    static const rule rules[] = {
        {"latest", get_latest, NULL}, {"all", get_all, NULL}, {"specific", get_specific, NULL}};
    (void)to;
    OT_TRY(ot_pbtxt_message(r->file, f, err));
    if (f->fields != NULL && f->fields->next != NULL) {
        return ot_pbtxt_fail(err, r->file, f->fields->next, "%s beside %s; version_policy is one",
                             f->fields->next->name, f->fields->name);
    }
    return read_fields(r, rules, OT_COUNT(rules), f->fields, NULL, err);
}

/* ---- instances and batches */

static ot_rc instance_count(reading *r, const ot_pbtxt *f, void *to, ot_error *err)
{
    return ot_pbtxt_int(r->file, f, 1, 1024, to, err);
}

static ot_rc get_instances(reading *r, const ot_pbtxt *f, void *to, ot_error *err)
{
    static const rule rules[] = {{"count", instance_count, NULL},
                                 {"name", NULL, NULL},
                                 {"kind", NULL, NULL},
                                 {"gpus", NULL, NULL},
                                 {"rate_limiter", NULL, NULL},
                                 {"profile", NULL, NULL},
                                 {"passive", never_true, NULL},
                                 {"host_policy", NULL, NULL},
                                 {"secondary_devices", NULL, NULL}};
    int64_t count = 0;
    (void)to;
    OT_TRY(ot_pbtxt_message(r->file, f, err));
    OT_TRY(read_fields(r, rules, OT_COUNT(rules), f->fields, &count, err));
    r->c->instances += (unsigned)count;
    return OT_OK;
}

/* Rows of requests that wait together are run together anyway (natural batching). */
static ot_rc get_batching(reading *r, const ot_pbtxt *f, void *to, ot_error *err)
{
    static const rule rules[] = {
        {"preferred_batch_size", NULL, NULL},   {"max_queue_delay_microseconds", NULL, NULL},
        {"preserve_ordering", NULL, NULL},      {"priority_levels", NULL, NULL},
        {"default_priority_level", NULL, NULL}, {"default_queue_policy", NULL, NULL},
        {"priority_queue_policy", NULL, NULL}};
    (void)to;
    OT_TRY(ot_pbtxt_message(r->file, f, err));
    return read_fields(r, rules, OT_COUNT(rules), f->fields, NULL, err);
}

static ot_rc get_batch_max(reading *r, const ot_pbtxt *f, void *to, ot_error *err)
{
    (void)to;
    return ot_pbtxt_int(r->file, f, 0, OT_MANIFEST_BATCH_MAX, &r->c->batch_max, err);
}

/* ---- parameters */

static ot_rc parameter_key(reading *r, const ot_pbtxt *f, void *to, ot_error *err)
{
    return ot_pbtxt_text(r->file, f, &((const char **)to)[0], err);
}

static ot_rc parameter_text(reading *r, const ot_pbtxt *f, void *to, ot_error *err)
{
    return ot_pbtxt_text(r->file, f, &((const char **)to)[1], err);
}

static ot_rc parameter_value(reading *r, const ot_pbtxt *f, void *to, ot_error *err)
{
    static const rule rules[] = {{"string_value", parameter_text, NULL}};
    OT_TRY(ot_pbtxt_message(r->file, f, err));
    return read_fields(r, rules, OT_COUNT(rules), f->fields, to, err);
}

/* One is ours; the others are for the servers that they were written for. */
static ot_rc get_parameter(reading *r, const ot_pbtxt *f, void *to, ot_error *err)
{
    static const rule rules[] = {{"key", parameter_key, NULL}, {"value", parameter_value, NULL}};
    const char *pair[2] = {"", ""};
    ot_error why;
    (void)to;
    OT_TRY(ot_pbtxt_message(r->file, f, err));
    OT_TRY(read_fields(r, rules, OT_COUNT(rules), f->fields, pair, err));
    if (strcmp(pair[0], "process_memory") != 0) {
        pass_over(r, f);
        return OT_OK;
    }
    return ot_parse_size(pair[1], &r->c->process_memory, &why) == OT_OK
               ? OT_OK
               : ot_pbtxt_fail(err, r->file, f, "process_memory: %s", why.msg);
}

/* ---- what the model is */

static ot_rc get_name(reading *r, const ot_pbtxt *f, void *to, ot_error *err)
{
    (void)to;
    return ot_pbtxt_text(r->file, f, &r->c->name, err);
}

static ot_rc get_format(reading *r, const ot_pbtxt *f, void *to, ot_error *err)
{
    static const char *const formats[][2] = {{"onnxruntime_onnx", "onnx"},
                                             {"onnxruntime", "onnx"},
                                             {"onnx", "onnx"},
                                             {"tensorflow_savedmodel", "saved_model"},
                                             {"tensorflow", "saved_model"},
                                             {"null", "null"},
                                             {"", NULL}};
    const char *said;
    (void)to;
    OT_TRY(ot_pbtxt_text(r->file, f, &said, err));
    for (size_t i = 0; i < OT_COUNT(formats); i++) {
        if (strcmp(said, formats[i][0]) == 0) {
            r->c->format = formats[i][1] != NULL ? formats[i][1] : r->c->format;
            return OT_OK;
        }
    }
    return ot_pbtxt_fail(err, r->file, f,
                         "%s '%.60s' is not supported; it is one of onnxruntime_onnx, onnxruntime, "
                         "tensorflow_savedmodel, tensorflow",
                         f->name, said);
}

static ot_rc get_filename(reading *r, const ot_pbtxt *f, void *to, ot_error *err)
{
    (void)to;
    OT_TRY(ot_pbtxt_text(r->file, f, &r->c->filename, err));
    return ot_path_is_clean(r->c->filename)
               ? OT_OK
               : ot_pbtxt_fail(err, r->file, f, "'%.80s' is not a path inside a version's folder",
                               r->c->filename);
}

static const rule model_rules[] = {
    {"name", get_name, NULL},
    {"platform", get_format, NULL},
    {"backend", get_format, NULL},
    {"default_model_filename", get_filename, NULL},
    {"version_policy", get_policy, NULL},
    {"max_batch_size", get_batch_max, NULL},
    {"input", get_input, NULL},
    {"output", get_output, NULL},
    {"instance_group", get_instances, NULL},
    {"dynamic_batching", get_batching, NULL},
    {"parameters", get_parameter, NULL},
    {"optimization", NULL, NULL},
    {"model_warmup", NULL, NULL},
    {"metric_tags", NULL, NULL},
    {"model_metrics", NULL, NULL},
    {"response_cache", NULL, NULL},
    {"model_transaction_policy", NULL, NULL},
    {"runtime", NULL, NULL},
    {"batch_input", NULL, "the model's inputs are what a request sends"},
    {"batch_output", NULL, "the model's outputs are what is answered"},
    {"sequence_batching", NULL, "requests are independent of each other"},
    {"ensemble_scheduling", NULL, "a folder is one model"},
    {"cc_model_filenames", NULL, "write default_model_filename"},
    {"model_operations", NULL, "no library of another's is loaded"},
    {"model_repository_agents", NULL, "no library of another's is loaded"},
};

/* ---- all of it */

void ot_model_config_init(ot_model_config *c)
{
    *c = (ot_model_config){.batch_max = -1, .latest = 1, .notes = ""};
    ot_arena_init(&c->arena, 4096, ARENA_MAX);
}

void ot_model_config_done(ot_model_config *c)
{
    ot_arena_done(&c->arena);
}

ot_rc ot_model_config_parse(const char *name, const char *text, size_t n, ot_model_config *c,
                            ot_error *err)
{
    ot_pbtxt *fields;
    OT_TRY(ot_pbtxt_parse(name, text, n, &c->arena, &fields, err));
    reading r = {.file = name, .c = c, .notes = OT_STR_INIT};
    ot_rc rc = read_fields(&r, model_rules, OT_COUNT(model_rules), fields, NULL, err);
    c->notes = rc == OT_OK ? ot_arena_strndup(&c->arena, r.notes.data, r.notes.len) : "";
    if (c->notes == NULL || r.notes.failed) {
        c->notes = "";
        rc = ot_fail(err, OT_EXHAUSTED, "%s: out of memory", name);
    }
    ot_str_done(&r.notes);
    return rc;
}

ot_rc ot_model_config_read(ot_disk *disk, const char *folder, ot_model_config *c, ot_error *err)
{
    char path[OT_PATH_MAX];
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    OT_TRY(ot_path_join(path, folder, OT_MODEL_CONFIG_FILE, err));
    if (!ot_disk_exists(disk, path)) {
        return ot_fail(err, OT_NOT_FOUND, "%s: there is none", path);
    }
    OT_TRY(ot_disk_read_all(disk, path, OT_PBTXT_BYTES_MAX, &text, err));
    return ot_model_config_parse(path, text.data, text.len, c, err);
}
