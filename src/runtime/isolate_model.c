/* Isolated models: loading, the table that stands for the real plug-in, what a worker says of its
 * model. */
#include "runtime/isolate_model.h"

#include "base/log.h"
#include "base/mem.h"
#include "launch/sandbox.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define STRINGS_MAX (8u << 20)
#define HANG_US INT64_C(30000000)
#define LOAD_US INT64_C(600000000)
#define CACHE_MAX (UINT64_C(1) << 30)

/* ---- what the worker says */

static ot_rc read_spec(const json_t *m, ot_arena *a, overtake_spec *out, ot_error *err)
{
    json_t *shape = json_object_get(m, "shape");
    const char *name = json_string_value(json_object_get(m, "name"));
    json_int_t type = json_integer_value(json_object_get(m, "datatype"));
    if (name == NULL || !json_is_array(shape) || json_array_size(shape) > OT_RANK_MAX ||
        type <= OVERTAKE_DT_INVALID || type >= OT_DT_COUNT_) {
        return ot_fail(err, OT_INVALID,
                       "the worker's signature has a tensor without a name, of "
                       "an unknown type, or with too many axes");
    }
    out->name = ot_arena_strdup(a, name);
    out->dtype = (int32_t)type;
    out->rank = (int32_t)json_array_size(shape);
    for (int32_t i = 0; i < out->rank; i++) {
        out->dims[i] = json_integer_value(json_array_get(shape, (size_t)i));
    }
    return out->name != NULL ? OT_OK : ot_fail(err, OT_EXHAUSTED, "signature: too long");
}

static ot_rc read_specs(const json_t *m, const char *key, size_t max, ot_arena *a,
                        const overtake_spec **specs_out, uint32_t *n_out, ot_error *err)
{
    json_t *all = json_object_get(m, key);
    size_t n = json_array_size(all);
    if (!json_is_array(all) || n > max) {
        return ot_fail(err, OT_INVALID, "the worker tells %zu %s; the limit is %zu", n, key, max);
    }
    overtake_spec *specs = ot_arena_calloc(a, OT_MAX(n, 1u), sizeof *specs);
    if (specs == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "signature: out of memory");
    }
    for (size_t i = 0; i < n; i++) {
        OT_TRY(read_spec(json_array_get(all, i), a, &specs[i], err));
    }
    *specs_out = specs;
    *n_out = (uint32_t)n;
    return OT_OK;
}

static uint64_t bytes_of(const json_t *m, const char *key)
{
    json_int_t x = json_integer_value(json_object_get(m, key));
    return x > 0 ? (uint64_t)x : 0;
}

static const char *text_of(const json_t *m, const char *key, ot_arena *a)
{
    const char *s = json_string_value(json_object_get(m, key));
    return ot_arena_strdup(a, s != NULL ? s : "");
}

ot_rc ot_isolate_read_loaded(const json_t *m, ot_arena *a, overtake_model_info *info_out,
                             const char **version_out, const char **lacks_out, ot_error *err)
{
    overtake_model_info info = {.struct_size = sizeof info, .max_in_flight = 1};
    OT_TRY(read_specs(m, "inputs", OT_RUNTIME_INPUTS_MAX, a, &info.inputs, &info.n_inputs, err));
    OT_TRY(
        read_specs(m, "outputs", OT_RUNTIME_OUTPUTS_MAX, a, &info.outputs, &info.n_outputs, err));
    info.batch_axis = json_integer_value(json_object_get(m, "batch_axis")) == 0 ? 0 : -1;
    info.memory_bytes = bytes_of(m, "memory_bytes");
    info.instance_memory_bytes = bytes_of(m, "instance_memory_bytes");
    *version_out = text_of(m, "version", a);
    *lacks_out = text_of(m, "lacks", a);
    if (*version_out == NULL || *lacks_out == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "signature: too long");
    }
    *info_out = info;
    return OT_OK;
}

/* ---- lanes */

uint32_t ot_isolate_output(const overtake_model *m, const char *name)
{
    uint32_t i = 0; /* one of them it is: instance.c has looked */
    while (i + 1 < m->info.n_outputs && strcmp(m->info.outputs[i].name, name) != 0) {
        i++;
    }
    return i;
}

ot_rc ot_isolate_lane_add(overtake_model *m, ot_ring **ring, uint32_t *number_out, ot_error *err)
{
    uint32_t i = 0;
    pthread_mutex_lock(&m->lock);
    while (i < OT_RING_LANES_MAX && m->rings[i] != NULL) {
        i++;
    }
    if (i < OT_RING_LANES_MAX) {
        m->rings[i] = ring;
    }
    pthread_mutex_unlock(&m->lock);
    if (i == OT_RING_LANES_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "the worker process has %d instances; that is its limit",
                       OT_RING_LANES_MAX);
    }
    *number_out = i;
    return OT_OK;
}

void ot_isolate_lane_remove(overtake_model *m, uint32_t number)
{
    pthread_mutex_lock(&m->lock);
    m->rings[number] = NULL;
    pthread_mutex_unlock(&m->lock);
}

void ot_isolate_lane_ring(overtake_model *m, ot_ring **ring, ot_ring *now)
{
    pthread_mutex_lock(&m->lock);
    ot_ring *before = *ring;
    *ring = now;
    pthread_mutex_unlock(&m->lock);
    if (before != NULL) {
        munmap(before, sizeof *before);
    }
}

/* The process is gone: whoever waits for its turn finds that out. */
static void wake_lanes(void *arg)
{
    overtake_model *m = arg;
    pthread_mutex_lock(&m->lock);
    for (uint32_t i = 0; i < OT_RING_LANES_MAX; i++) {
        if (m->rings[i] != NULL && *m->rings[i] != NULL) {
            ot_ring_post(&(*m->rings[i])->worker_turn);
        }
    }
    pthread_mutex_unlock(&m->lock);
}

/* ---- the table */

static void unload(overtake_model *m)
{
    ot_minder_destroy(m->minder);
    ot_fd_close(&m->script_fd);
    pthread_mutex_destroy(&m->lock);
    ot_arena_done(&m->arena);
    ot_free(m);
}

static int32_t tell_info(const overtake_model *m, overtake_model_info *out, overtake_error *err)
{
    (void)err;
    memcpy(out, &m->info, OT_MIN(out->struct_size, sizeof m->info));
    return OVERTAKE_OK;
}

static void fill_table(overtake_model *m, const overtake_plugin *real)
{
    memcpy(&m->table, real, OT_MIN(real->struct_size, sizeof m->table));
    m->table.model_view = NULL; /* the worker has the one signature that it was asked for */
    /* Runs are answered inside submit, in order; answers lie where the worker put them. */
    m->table.capabilities = (real->capabilities | OVERTAKE_CAP_SCATTER | OVERTAKE_CAP_DEADLINE) &
                            ~(uint64_t)(OVERTAKE_CAP_ASYNC | OVERTAKE_CAP_HOST_OUTPUTS);
    m->table.model_load = NULL; /* it is loaded */
    m->table.model_unload = unload;
    m->table.model_info = tell_info;
    ot_isolate_fill_instances(&m->table);
}

/* ---- loading */

static void fill_how(overtake_model *m, const ot_isolation *how, const char *path)
{
    m->how = how != NULL ? *how : (ot_isolation){0};
    m->how.name = ot_arena_strdup(&m->arena, m->how.name != NULL ? m->how.name : path);
    m->how.program = m->how.program != NULL ? ot_arena_strdup(&m->arena, m->how.program) : NULL;
    m->how.dir = m->how.dir != NULL ? ot_arena_strdup(&m->arena, m->how.dir) : NULL;
    m->how.hang_us = m->how.hang_us > 0 ? m->how.hang_us : HANG_US;
    m->how.load_us = m->how.load_us > 0 ? m->how.load_us : LOAD_US;
    m->how.cache_max = m->how.cache_max > 0 ? m->how.cache_max : CACHE_MAX;
    m->argv[0] = "overtake";
    m->argv[1] = "worker";
    m->argv[2] = m->how.name; /* for lists of processes */
}

/* The folder of a file, to be read by the worker. */
static json_t *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return json_stringn(path, slash != NULL && slash > path ? (size_t)(slash - path) : 1);
}

static const char *options_of(const ot_model_options *opts)
{
    return opts != NULL && opts->options_json != NULL ? opts->options_json : "{}";
}

static json_t *load_message(const ot_model_place *place, const ot_model_options *opts,
                            const char *path, uint64_t file_max)
{
    unsigned threads = opts != NULL ? opts->threads : 1;
    /* A file may come with others beside it: weights of an .onnx. */
    json_t *around = place->format->wants_dir != 0 ? json_string(path) : folder_of(path);
    return json_pack("{s:s,s:o,s:s,s:s,s:s,s:s,s:i,s:I,s:[o,o,s]}", "op", "load", "plugins",
                     folder_of(place->plugin->file), "plugin", place->plugin->name, "format",
                     place->format->name, "path", path, "options", options_of(opts), "threads",
                     (int)OT_MAX(threads, 1u), "file_max", (json_int_t)file_max, "read",
                     folder_of(place->plugin->file), around, path);
}

/* ---- a plug-in whose worker is a program of its own */

static ot_rc keep_script(overtake_model *m, const overtake_worker *w, ot_error *err)
{
    void *at;
    OT_TRY(ot_ring_memory("overtake-script", w->script_size, false, &m->script_fd, &at, err));
    memcpy(at, w->script, w->script_size);
    munmap(at, w->script_size);
    return OT_OK;
}

static json_t *reads_of(const overtake_worker *w, const char *path)
{
    json_t *list = json_pack("[s]", path);
    for (int i = 0; i < OVERTAKE_WORKER_READS && w->read[i][0] != '\0'; i++) {
        json_array_append_new(list, json_string(w->read[i]));
    }
    /* A model in a bundle may have its signature there. */
    const char *slash = strrchr(path, '/');
    json_array_append_new(list, json_sprintf("%.*s/manifest.json", (int)(slash - path), path));
    return list;
}

/* What the worker becomes, and what that needs to know of this machine. */
static ot_rc add_program(overtake_model *m, const ot_model_place *place, const overtake_load *what,
                         ot_minder_spec *spec, ot_error *err)
{
    overtake_error why = {""};
    overtake_worker *w = ot_calloc(1, sizeof *w);
    if (w == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "model: out of memory");
    }
    w->struct_size = sizeof *w;
    int32_t code = place->plugin->table->worker(what, w, &why);
    why.message[sizeof why.message - 1] = '\0';
    ot_rc rc =
        code == OVERTAKE_OK ? keep_script(m, w, err) : ot_fail(err, (ot_rc)code, "%s", why.message);
    if (rc == OT_OK) {
        spec->extra_fd = m->script_fd;
        spec->program = json_pack("{s:s,s:[s,s,s],s:o}", "op", "program", "argv", w->program, "-B",
                                  "/proc/self/fd/4", "read", reads_of(w, what->path));
        json_object_set_new(spec->load, "lacks",
                            json_string(ot_sandbox_has_files() ? "" : OT_SANDBOX_NO_FILES));
        json_object_set_new(spec->load, "futex", json_integer(SYS_futex));
        json_object_set_new(spec->load, "seccomp", json_integer(SYS_seccomp));
        rc = spec->program != NULL ? OT_OK : ot_fail(err, OT_EXHAUSTED, "model: out of memory");
    }
    ot_free(w);
    return rc;
}

static ot_rc load(overtake_model *m, const ot_model_place *place, const ot_model_options *opts,
                  ot_error *err)
{
    char *path = realpath(place->path, NULL);
    if (path == NULL) {
        return ot_fail(err, OT_NOT_FOUND, "%s: it is gone", place->path);
    }
    ot_minder_spec spec = {.how = m->how,
                           .plugin = place->plugin->table,
                           .argv = m->argv,
                           .extra_fd = -1,
                           .load = load_message(place, opts, path, m->how.cache_max),
                           .down = wake_lanes,
                           .arg = m};
    snprintf(spec.name, sizeof spec.name, "%s", m->how.name);
    ot_rc rc = OT_OK;
    if (spec.load == NULL) {
        rc = ot_fail(err, OT_INVALID, "%s: options or a path that is not UTF-8", place->path);
    } else if (ot_plugin_has_worker(place->plugin->table)) {
        overtake_load what = {.struct_size = sizeof what,
                              .format = place->format->name,
                              .path = path,
                              .options_json = options_of(opts),
                              .threads = 1};
        rc = add_program(m, place, &what, &spec, err);
    }
    free(path);
    if (rc != OT_OK) {
        json_decref(spec.load);
        json_decref(spec.program);
        return rc;
    }
    json_t *loaded = NULL;
    OT_TRY(ot_minder_create(&spec, &m->minder, &loaded, err));
    rc = ot_isolate_read_loaded(loaded, &m->arena, &m->info, &m->version, &m->lacks, err);
    json_decref(loaded);
    return rc;
}

static ot_rc keep_outputs(overtake_model *m, ot_error *err)
{
    uint32_t n = m->info.n_outputs;
    m->outputs = ot_arena_calloc(&m->arena, OT_MAX(n, 1u), sizeof *m->outputs);
    if (m->outputs == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "signature: out of memory");
    }
    for (uint32_t i = 0; i < n; i++) {
        m->outputs[i] = (ot_tensor_spec){.name = m->info.outputs[i].name,
                                         .dtype = (ot_dtype)m->info.outputs[i].dtype,
                                         .rank = m->info.outputs[i].rank};
        memcpy(m->outputs[i].dims, m->info.outputs[i].dims, sizeof m->outputs[i].dims);
    }
    return OT_OK;
}

ot_rc ot_isolate_load(const ot_model_place *place, const ot_model_options *opts,
                      const overtake_plugin **table_out, overtake_model **model_out, ot_error *err)
{
    overtake_model *m = ot_calloc(1, sizeof *m);
    if (m == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "%s: out of memory", place->path);
    }
    m->script_fd = -1;
    ot_arena_init(&m->arena, 4096, STRINGS_MAX);
    pthread_mutex_init(&m->lock, NULL);
    fill_how(m, opts != NULL ? opts->isolation : NULL, place->path);
    fill_table(m, place->plugin->table);
    ot_rc rc = m->how.name != NULL ? OT_OK : ot_fail(err, OT_EXHAUSTED, "model: out of memory");
    if (rc == OT_OK) {
        rc = load(m, place, opts, err);
    }
    if (rc == OT_OK) {
        rc = keep_outputs(m, err);
    }
    if (rc != OT_OK) {
        unload(m);
        return rc;
    }
    if (m->lacks[0] != '\0') {
        ot_warn("isolate", "model %s: %s", m->how.name, m->lacks);
    }
    *table_out = &m->table;
    *model_out = m;
    return OT_OK;
}

const char *ot_isolate_version(const overtake_model *m)
{
    return m->version;
}

const char *ot_isolate_lacks(const overtake_model *m)
{
    return m->lacks;
}

pid_t ot_isolate_pid(overtake_model *m)
{
    return ot_minder_pid(m->minder);
}
