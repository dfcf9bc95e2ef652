/* Loaded models: what the plug-in reports is copied and checked once, here. */
#include "base/mem.h"
#include "runtime/chain.h"
#include "runtime/isolate.h"

#include <string.h>

#define THREADS_MAX 1024u
#define STRINGS_MAX (4u << 20) /* names and specs of one model */
#define NAME_LEN_MAX 1024u

static ot_rc plugin_failed(const overtake_plugin *t, int32_t code, overtake_error *why,
                           const char *what, ot_error *err)
{
    why->message[sizeof why->message - 1] = '\0';
    ot_rc rc = code < 0 && code >= OT_UNAUTHENTICATED ? (ot_rc)code : OT_INTERNAL;
    return ot_fail(err, rc, "%s: %s: %s", t->name, what,
                   why->message[0] != '\0' ? why->message : ot_rc_name(rc));
}

static ot_rc copy_spec(ot_model *m, const overtake_spec *from, const char *kind, ot_tensor_spec *to,
                       ot_error *err)
{
    const char *plugin = m->plugin->name;
    if (from->name == NULL || from->name[0] == '\0' || strlen(from->name) > NAME_LEN_MAX) {
        return ot_fail(err, OT_INVALID, "%s: an %s of the model has no name, or one over %u bytes",
                       plugin, kind, NAME_LEN_MAX);
    }
    if (from->dtype <= OVERTAKE_DT_INVALID || from->dtype >= OT_DT_COUNT_) {
        return ot_fail(err, OT_INVALID,
                       "%s: %s '%s' has an element type that is not supported (%d)", plugin, kind,
                       from->name, from->dtype);
    }
    if (from->rank < 0 || from->rank > OT_RANK_MAX) {
        return ot_fail(err, OT_INVALID, "%s: %s '%s' has %d axes; the limit is %d", plugin, kind,
                       from->name, from->rank, OT_RANK_MAX);
    }
    to->name = ot_arena_strdup(&m->strings, from->name);
    if (to->name == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "%s: names of the model take over %u bytes", plugin,
                       STRINGS_MAX);
    }
    to->dtype = (ot_dtype)from->dtype;
    to->rank = from->rank;
    for (int i = 0; i < from->rank; i++) {
        if (from->dims[i] < -1) {
            return ot_fail(err, OT_INVALID, "%s: %s '%s' has size %lld on axis %d", plugin, kind,
                           from->name, (long long)from->dims[i], i);
        }
        to->dims[i] = from->dims[i];
    }
    return OT_OK;
}

static ot_rc copy_specs(ot_model *m, const overtake_spec *from, uint32_t n, uint32_t limit,
                        const char *kind, const ot_tensor_spec **out, ot_error *err)
{
    if (n > limit || (n > 0 && from == NULL)) {
        return ot_fail(err, OT_INVALID, "%s: the model has %u %ss; the limit is %u",
                       m->plugin->name, n, kind, limit);
    }
    ot_tensor_spec *to = ot_arena_calloc(&m->strings, n > 0 ? n : 1, sizeof *to);
    if (to == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "%s: out of memory for the signature", m->plugin->name);
    }
    for (uint32_t i = 0; i < n; i++) {
        OT_TRY(copy_spec(m, &from[i], kind, &to[i], err));
        for (uint32_t k = 0; k < i; k++) {
            if (strcmp(to[k].name, to[i].name) == 0) {
                return ot_fail(err, OT_INVALID, "%s: the model has two %ss called '%s'",
                               m->plugin->name, kind, to[i].name);
            }
        }
    }
    *out = to;
    return OT_OK;
}

static ot_rc read_info(ot_model *m, const char *format, const char *version, ot_error *err)
{
    overtake_model_info from = {.struct_size = sizeof from};
    overtake_error why = {""};
    int32_t rc = m->plugin->model_info(m->model, &from, &why);
    if (rc != OVERTAKE_OK) {
        return plugin_failed(m->plugin, rc, &why, "signature", err);
    }
    ot_model_info *info = &m->info;
    OT_TRY(copy_specs(m, from.inputs, from.n_inputs, OT_RUNTIME_INPUTS_MAX, "input", &info->inputs,
                      err));
    OT_TRY(copy_specs(m, from.outputs, from.n_outputs, OT_RUNTIME_OUTPUTS_MAX, "output",
                      &info->outputs, err));
    if (from.n_outputs == 0) {
        return ot_fail(err, OT_INVALID, "%s: the model has no outputs", m->plugin->name);
    }
    info->n_inputs = (int)from.n_inputs;
    info->n_outputs = (int)from.n_outputs;
    info->plugin = m->plugin->name;
    info->format = format;
    info->runtime_version = ot_arena_strdup(&m->strings, version);
    info->batch_axis = from.batch_axis >= 0 && from.batch_axis < OT_RANK_MAX ? from.batch_axis : -1;
    info->max_in_flight = OT_MIN(OT_MAX(from.max_in_flight, 1u), 64u);
    info->capabilities = m->plugin->capabilities;
    info->memory_bytes = from.memory_bytes;
    info->instance_memory_bytes = from.instance_memory_bytes;
    info->quick = from.quick != 0;
    info->signature = ot_arena_strdup(&m->strings, from.signature != NULL ? from.signature : "");
    info->method = ot_arena_strdup(&m->strings, from.method != NULL ? from.method : "");
    return info->runtime_version != NULL && info->signature != NULL && info->method != NULL
               ? OT_OK
               : ot_fail(err, OT_EXHAUSTED, "model: out of memory");
}

static overtake_load load_of(const ot_model_place *place, const ot_model_options *opts)
{
    return (overtake_load){
        .struct_size = sizeof(overtake_load),
        .format = place->format->name,
        .path = place->path,
        .options_json = opts != NULL && opts->options_json != NULL ? opts->options_json : "{}",
        .threads = opts != NULL ? OT_MIN(OT_MAX(opts->threads, 1u), THREADS_MAX) : 1,
        .device_kind = OVERTAKE_MEM_HOST,
        .quick = opts != NULL && opts->quick,
    };
}

static ot_rc load_isolated(ot_model *m, const ot_model_place *place, const ot_model_options *opts,
                           ot_error *err)
{
    ot_rc rc = ot_isolate_load(place, opts, &m->plugin, &m->model, err);
    if (rc != OT_OK) {
        return ot_error_prefix(err, rc, "%s: %s", m->plugin->name, place->path);
    }
    m->info.isolated = true;
    m->info.isolation_lacks = ot_isolate_lacks(m->model);
    return read_info(m, place->format->name, ot_isolate_version(m->model), err);
}

static ot_rc load_chain(ot_model *m, const ot_model_place *place, const ot_model_options *opts,
                        ot_error *err)
{
    ot_rc rc = ot_chain_load(m->rt, place->path, opts, &m->plugin, &m->model, err);
    if (rc != OT_OK) {
        return ot_error_prefix(err, rc, "%s: %s", m->plugin->name, place->path);
    }
    m->info.isolated = ot_chain_isolated(m->model);
    m->info.isolation_lacks = ot_chain_lacks(m->model);
    return read_info(m, place->format->name, ot_chain_version(m->model), err);
}

static ot_rc load_with(ot_model *m, const ot_model_place *place, const ot_model_options *opts,
                       ot_error *err)
{
    if (m->plugin == ot_chain_runtime()) {
        return load_chain(m, place, opts, err);
    }
    const ot_isolation *isolation = opts != NULL ? opts->isolation : NULL;
    if (ot_plugin_has_worker(m->plugin) || (isolation != NULL && !isolation->if_needed)) {
        return load_isolated(m, place, opts, err);
    }
    overtake_error why = {""};
    overtake_runtime_info runtime = {.struct_size = sizeof runtime};
    int32_t rc = m->plugin->runtime_info(&runtime, &why);
    if (rc != OVERTAKE_OK) {
        return plugin_failed(m->plugin, rc, &why, "runtime", err);
    }
    overtake_load load = load_of(place, opts);
    rc = m->plugin->model_load(&load, &m->model, &why);
    if (rc != OVERTAKE_OK) {
        m->model = NULL;
        return plugin_failed(m->plugin, rc, &why, place->path, err);
    }
    return read_info(m, place->format->name, runtime.version != NULL ? runtime.version : "", err);
}

static ot_rc make_model(ot_runtime *rt, const overtake_plugin *plugin, ot_model **out,
                        ot_error *err)
{
    ot_model *m = ot_calloc(1, sizeof *m);
    if (m == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "model: out of memory");
    }
    atomic_init(&m->refs, 1);
    ot_arena_init(&m->strings, 4096, STRINGS_MAX);
    m->rt = ot_runtime_ref(rt);
    m->plugin = plugin;
    m->info.isolation_lacks = "";
    *out = m;
    return OT_OK;
}

ot_rc ot_model_load(ot_runtime *rt, const char *format, const char *path,
                    const ot_model_options *opts, ot_model **model_out, ot_error *err)
{
    OT_AUTO(ot_free_ptr) ot_model_place *place = ot_calloc(1, sizeof *place);
    if (place == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "%s: out of memory", path);
    }
    OT_TRY(ot_runtime_locate(rt, format, path, place, err));
    ot_model *m;
    OT_TRY(make_model(rt, place->plugin->table, &m, err));
    ot_rc rc = load_with(m, place, opts, err);
    if (rc != OT_OK) {
        ot_model_unref(m);
        return rc;
    }
    *model_out = m;
    return OT_OK;
}

ot_rc ot_model_view(ot_model *m, unsigned index, ot_model **view_out, ot_error *err)
{
    const overtake_plugin *t = m->plugin;
    if (!OVERTAKE_HAS(t, overtake_plugin, model_view) || t->model_view == NULL) {
        return ot_fail(err, OT_NOT_FOUND, "%s: models have one signature", t->name);
    }
    ot_model *view;
    overtake_error why = {""};
    OT_TRY(make_model(m->rt, t, &view, err));
    int32_t code = t->model_view(m->model, index, &view->model, &why);
    ot_rc rc = OT_OK;
    if (code != OVERTAKE_OK) {
        view->model = NULL;
        rc = plugin_failed(t, code, &why, "signature", err);
    } else {
        rc = read_info(view, m->info.format, m->info.runtime_version, err);
    }
    if (rc != OT_OK) {
        ot_model_unref(view);
        return rc;
    }
    *view_out = view;
    return OT_OK;
}

ot_rc ot_model_estimate(ot_runtime *rt, const char *format, const char *path, uint64_t *bytes_out,
                        ot_error *err)
{
    OT_AUTO(ot_free_ptr) ot_model_place *place = ot_calloc(1, sizeof *place);
    if (place == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "%s: out of memory", path);
    }
    OT_TRY(ot_runtime_locate(rt, format, path, place, err));
    const overtake_plugin *t = place->plugin->table;
    if (t == ot_chain_runtime()) {
        return ot_chain_estimate(rt, place->path, bytes_out, err);
    }
    if (t->model_estimate == NULL) {
        return ot_fail(err, OT_UNIMPLEMENTED, "%s: gives no estimate of memory", t->name);
    }
    overtake_load load = load_of(place, NULL);
    overtake_error why = {""};
    int32_t rc = t->model_estimate(&load, bytes_out, &why);
    return rc == OVERTAKE_OK ? OT_OK : plugin_failed(t, rc, &why, place->path, err);
}

pid_t ot_model_worker_pid(ot_model *m)
{
    bool chain = strcmp(m->info.format, OT_CHAIN_FORMAT) == 0;
    return m->info.isolated && !chain ? ot_isolate_pid(m->model) : 0;
}

ot_model *ot_model_ref(ot_model *m)
{
    atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
    return m;
}

void ot_model_unref(ot_model *m)
{
    if (m == NULL || atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    if (m->model != NULL) {
        m->plugin->model_unload(m->model);
    }
    ot_arena_done(&m->strings);
    ot_runtime_unref(m->rt);
    ot_free(m);
}

const ot_model_info *ot_model_info_of(const ot_model *m)
{
    return &m->info;
}

/* ---- inputs against the signature */

static ot_rc unknown_input(const ot_model_info *info, const char *name, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str known = OT_STR_INIT;
    for (int i = 0; i < info->n_inputs && known.len < 400; i++) {
        ot_str_addf(&known, "%s'%s'", i > 0 ? ", " : "", info->inputs[i].name);
    }
    return ot_fail(err, OT_INVALID, "there is no input '%.64s'; the model's are %s", name,
                   known.data);
}

static ot_rc wrong_size(const ot_tensor *t, unsigned long long got, unsigned long long want,
                        ot_error *err)
{
    char shape[OT_SHAPE_TEXT];
    return ot_fail(err, OT_INVALID, "input '%s': %s %s takes %llu bytes; the data have %llu",
                   t->name, ot_dtype_name(t->dtype), ot_shape_format(t->dims, t->rank, shape), want,
                   got);
}

/* The data have the size that the shape asks for, over all segments. */
static ot_rc check_data(const ot_run_input *in, ot_error *err)
{
    const ot_tensor *t = &in->tensor;
    if (in->n_segments == 0) {
        return ot_tensor_check(t, err);
    }
    if (in->n_segments > OT_RUNTIME_SEGMENTS_MAX) {
        return ot_fail(err, OT_INVALID, "input '%s': %zu segments; the limit is %d", t->name,
                       in->n_segments, OT_RUNTIME_SEGMENTS_MAX);
    }
    size_t total = 0, want;
    int64_t elements = 0;
    for (size_t i = 0; i < in->n_segments; i++) {
        const ot_segment *s = &in->segments[i];
        if (__builtin_add_overflow(total, s->size_bytes, &total) ||
            (s->data == NULL && s->size_bytes > 0)) {
            return ot_fail(err, OT_INVALID, "input '%s': segment %zu has no data", t->name, i);
        }
        if (t->dtype == OT_DT_BYTES) {
            ot_tensor view = *t;
            view.data = s->data;
            view.size_bytes = s->size_bytes;
            size_t at = 0, n;
            const char *p;
            while (ot_tensor_bytes_next(&view, &at, &p, &n)) {
                elements++;
            }
            if (at != s->size_bytes) {
                return ot_fail(err, OT_INVALID,
                               "input '%s': segment %zu ends inside an element (byte %zu of %zu)",
                               t->name, i, at, s->size_bytes);
            }
        }
    }
    if (t->dtype == OT_DT_BYTES) {
        int64_t count = ot_tensor_count(t);
        return elements == count
                   ? OT_OK
                   : ot_fail(err, OT_INVALID, "input '%s': %lld elements; the shape asks for %lld",
                             t->name, (long long)elements, (long long)count);
    }
    if (!ot_shape_bytes(t->dtype, t->dims, t->rank, &want) || want != total) {
        return wrong_size(t, total, want, err);
    }
    return OT_OK;
}

static int find_input(const ot_model_info *info, int likely, const char *name)
{
    if (likely < info->n_inputs && strcmp(info->inputs[likely].name, name) == 0) {
        return likely;
    }
    for (int i = 0; i < info->n_inputs; i++) {
        if (strcmp(info->inputs[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

ot_rc ot_model_match_inputs(const ot_model *m, const ot_run_input *inputs, int n_inputs,
                            uint16_t *order_out, ot_error *err)
{
    const ot_model_info *info = &m->info;
    bool seen[OT_RUNTIME_INPUTS_MAX];
    memset(seen, 0, (size_t)info->n_inputs);
    for (int i = 0; i < n_inputs; i++) {
        const char *name = inputs[i].tensor.name != NULL ? inputs[i].tensor.name : "";
        int k = find_input(info, i, name);
        if (k < 0) {
            return unknown_input(info, name, err);
        }
        if (seen[k]) {
            return ot_fail(err, OT_INVALID, "input '%s' is given twice", name);
        }
        seen[k] = true;
        order_out[i] = (uint16_t)k;
        OT_TRY(ot_tensor_matches(&info->inputs[k], &inputs[i].tensor, err));
        OT_TRY(check_data(&inputs[i], err));
    }
    for (int k = 0; k < info->n_inputs; k++) {
        if (!seen[k]) {
            char shape[OT_SHAPE_TEXT];
            return ot_fail(err, OT_INVALID, "input '%s' (%s %s) is missing", info->inputs[k].name,
                           ot_dtype_name(info->inputs[k].dtype),
                           ot_shape_format(info->inputs[k].dims, info->inputs[k].rank, shape));
        }
    }
    return OT_OK;
}

ot_rc ot_model_check_inputs(const ot_model *m, const ot_run_input *inputs, int n_inputs,
                            ot_error *err)
{
    uint16_t order[OT_RUNTIME_INPUTS_MAX];
    if (n_inputs < 0 || n_inputs > OT_RUNTIME_INPUTS_MAX) {
        return ot_fail(err, OT_INVALID, "%d inputs; the limit is %d", n_inputs,
                       OT_RUNTIME_INPUTS_MAX);
    }
    return ot_model_match_inputs(m, inputs, n_inputs, order, err);
}
