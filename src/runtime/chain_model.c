/* Chains as models: a model for each step, and the table of the runtime that is built in. */
#include "runtime/chain_model.h"

#include "base/disk.h"
#include "base/mem.h"
#include "runtime/external.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define FILE_MAX (1u << 20)

static int32_t runtime_info(overtake_runtime_info *info, overtake_error *err)
{
    (void)err;
    info->version = "1";
    info->library = "";
    return OVERTAKE_OK;
}

/* ---- loading */

static ot_rc open_chain(const char *dir, ot_chain *out, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    char path[OT_PATH_MAX];
    OT_TRY(ot_path_join(path, dir, OT_CHAIN_FILE, err));
    OT_TRY(ot_disk_read_all(ot_disk_posix(), path, FILE_MAX, &text, err));
    ot_rc rc = ot_chain_read(text.data, text.len, out, err);
    return rc == OT_OK ? rc : ot_error_prefix(err, rc, "%s", OT_CHAIN_FILE);
}

ot_rc ot_chain_step_failed(const ot_chain_step *s, ot_rc rc, ot_error *err)
{
    return ot_error_prefix(err, rc, "step '%s' (model '%s')", s->name, s->model);
}

/* The folder of a step, and its format, which is one that can be a step. */
static ot_rc find_model(ot_runtime *rt, const char *dir, const ot_chain_step *s,
                        char path[OT_PATH_MAX], const char **format_out, ot_error *err)
{
    OT_TRY(ot_path_join(path, dir, s->model, err));
    OT_TRY(ot_runtime_detect(rt, path, format_out, err));
    if (strcmp(*format_out, OT_CHAIN_FORMAT) == 0) {
        return ot_fail(err, OT_INVALID, "it is a chain itself; its steps can stand in this one");
    }
    if (strcmp(*format_out, OT_EXTERNAL_FORMAT) == 0) {
        return ot_fail(err, OT_INVALID,
                       "it is a server elsewhere, which no run of a chain can wait for; it can be "
                       "a variant of its own");
    }
    return OT_OK;
}

static ot_rc load_step(overtake_model *m, ot_runtime *rt, const char *dir, size_t i,
                       const ot_model_options *opts, ot_error *err)
{
    const ot_chain_step *s = &m->c.steps[i];
    char path[OT_PATH_MAX], name[256];
    const char *format;
    for (size_t k = 0; k < i; k++) {
        if (strcmp(m->c.steps[k].model, s->model) == 0) { /* one session is enough */
            m->steps[i] = ot_model_ref(m->steps[k]);
            return OT_OK;
        }
    }
    OT_TRY(find_model(rt, dir, s, path, &format, err));
    ot_isolation how = {0};
    ot_model_options o = {.threads = opts != NULL ? opts->threads : 1};
    if (opts != NULL && opts->isolation != NULL) {
        how = *opts->isolation;
        snprintf(name, sizeof name, "%s, step %s", how.name != NULL ? how.name : dir, s->name);
        how.name = name;
        o.isolation = &how;
    }
    OT_TRY(ot_model_load(rt, format, path, &o, &m->steps[i], err));
    const ot_model_info *info = ot_model_info_of(m->steps[i]);
    m->memory += info->memory_bytes;
    ot_str_addf(&m->version, "%s%s %s", m->version.len > 0 ? ", " : "", info->plugin,
                info->runtime_version);
    return m->version.failed ? ot_fail(err, OT_EXHAUSTED, "out of memory") : OT_OK;
}

static ot_rc load_steps(overtake_model *m, ot_runtime *rt, const char *dir,
                        const ot_model_options *opts, ot_error *err)
{
    uint64_t all = OVERTAKE_CAP_SCATTER | OVERTAKE_CAP_STRINGS, any = 0;
    for (size_t i = 0; i < m->c.n_steps; i++) {
        ot_rc rc = load_step(m, rt, dir, i, opts, err);
        if (rc != OT_OK) {
            return ot_chain_step_failed(&m->c.steps[i], rc, err);
        }
        const ot_model_info *info = ot_model_info_of(m->steps[i]);
        m->instance_memory += info->instance_memory_bytes;
        all &= info->capabilities;
        any |= info->capabilities & OVERTAKE_CAP_PART_STATUS;
        if (i + 1 == m->c.n_steps) {
            any |= info->capabilities & OVERTAKE_CAP_MULTI_RESPONSE;
        }
    }
    m->table.capabilities = all | any | OVERTAKE_CAP_DEADLINE;
    return OT_OK;
}

static ot_rc plan(overtake_model *m, ot_error *err)
{
    const ot_model_info *steps[OT_CHAIN_STEPS_MAX];
    for (size_t i = 0; i < m->c.n_steps; i++) {
        steps[i] = ot_model_info_of(m->steps[i]);
    }
    ot_rc rc = ot_chain_plan_make(&m->c, steps, &m->plan, err);
    if (rc != OT_OK) {
        return ot_error_prefix(err, rc, "%s", OT_CHAIN_FILE);
    }
    m->inputs = ot_arena_calloc(&m->c.arena, m->plan.n_inputs + 1, sizeof *m->inputs);
    m->outputs = ot_arena_calloc(&m->c.arena, m->plan.n_outputs, sizeof *m->outputs);
    if (m->inputs == NULL || m->outputs == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "out of memory");
    }
    ot_runtime_fill_specs(m->plan.inputs, m->plan.n_inputs, m->inputs);
    ot_runtime_fill_specs(m->plan.outputs, m->plan.n_outputs, m->outputs);
    return OT_OK;
}

/* Options are of plug-ins; a chain has none. */
static ot_rc check_options(const char *json, ot_error *err)
{
    json_t *root = json_loads(json != NULL ? json : "{}", 0, NULL);
    const char *key = json_object_iter_key(json_object_iter(root));
    ot_rc rc = OT_OK;
    if (!json_is_object(root)) {
        rc = ot_fail(err, OT_INVALID, "options: a JSON object is expected");
    } else if (key != NULL) {
        rc = ot_fail(err, OT_INVALID, "options: '%.64s': a chain has none", key);
    }
    json_decref(root);
    return rc;
}

static void unload(overtake_model *m)
{
    for (size_t i = m->c.n_steps; i-- > 0;) {
        ot_model_unref(m->steps[i]);
    }
    ot_chain_done(&m->c);
    ot_str_done(&m->version);
    ot_free(m);
}

ot_rc ot_chain_load(ot_runtime *rt, const char *dir, const ot_model_options *opts,
                    const overtake_plugin **table_out, overtake_model **model_out, ot_error *err)
{
    OT_TRY(check_options(opts != NULL ? opts->options_json : NULL, err));
    overtake_model *m = ot_calloc(1, sizeof *m);
    if (m == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "out of memory");
    }
    ot_str_init(&m->version);
    m->table = *ot_chain_runtime();
    ot_chain_fill_instances(&m->table);
    ot_rc rc = open_chain(dir, &m->c, err);
    if (rc == OT_OK) {
        rc = load_steps(m, rt, dir, opts, err);
    }
    if (rc == OT_OK) {
        rc = plan(m, err);
    }
    if (rc != OT_OK) {
        unload(m);
        return rc;
    }
    *table_out = &m->table;
    *model_out = m;
    return OT_OK;
}

ot_rc ot_chain_estimate(ot_runtime *rt, const char *dir, uint64_t *bytes_out, ot_error *err)
{
    ot_chain c;
    uint64_t sum = 0;
    OT_TRY(open_chain(dir, &c, err));
    ot_rc rc = OT_OK;
    for (size_t i = 0; i < c.n_steps && rc == OT_OK; i++) {
        char path[OT_PATH_MAX];
        const char *format;
        uint64_t bytes = 0;
        bool first = true;
        for (size_t k = 0; k < i; k++) {
            first = first && strcmp(c.steps[k].model, c.steps[i].model) != 0;
        }
        rc = find_model(rt, dir, &c.steps[i], path, &format, err);
        if (rc == OT_OK && first) {
            rc = ot_model_estimate(rt, format, path, &bytes, err);
        }
        sum += rc == OT_OK ? bytes : 0;
        rc = rc == OT_UNIMPLEMENTED ? OT_OK : rc;
        if (rc != OT_OK) {
            rc = ot_chain_step_failed(&c.steps[i], rc, err);
        }
    }
    ot_chain_done(&c);
    if (rc == OT_OK && sum == 0) {
        return ot_fail(err, OT_UNIMPLEMENTED, "chain: no step gives an estimate of memory");
    }
    *bytes_out = rc == OT_OK ? sum : *bytes_out;
    return rc;
}

const char *ot_chain_version(const overtake_model *m)
{
    return m->version.data;
}

bool ot_chain_isolated(const overtake_model *m)
{
    bool isolated = false;
    for (size_t i = 0; i < m->c.n_steps; i++) {
        isolated = isolated || ot_model_info_of(m->steps[i])->isolated;
    }
    return isolated;
}

const char *ot_chain_lacks(const overtake_model *m)
{
    const char *lacks = "";
    for (size_t i = 0; i < m->c.n_steps && lacks[0] == '\0'; i++) {
        lacks = ot_model_info_of(m->steps[i])->isolation_lacks;
    }
    return lacks;
}

static int32_t info(const overtake_model *m, overtake_model_info *out, overtake_error *err)
{
    (void)err;
    overtake_model_info all = {.struct_size = out->struct_size,
                               .n_inputs = (uint32_t)m->plan.n_inputs,
                               .n_outputs = (uint32_t)m->plan.n_outputs,
                               .inputs = m->inputs,
                               .outputs = m->outputs,
                               .batch_axis = m->plan.batch_axis,
                               .max_in_flight = 1,
                               .memory_bytes = m->memory,
                               .instance_memory_bytes = m->instance_memory};
    memcpy(out, &all, OT_MIN(out->struct_size, sizeof all));
    return OVERTAKE_OK;
}

static const overtake_format formats[] = {
    {.name = OT_CHAIN_FORMAT, .pattern = OT_CHAIN_FILE, .wants_dir = 1}};

/* Loading needs the registry, and so goes by ot_chain_load; models have the rest in tables of their
 * own. */
static const overtake_plugin table = {
    .struct_size = sizeof table,
    .abi_major = OVERTAKE_ABI_MAJOR,
    .abi_minor = OVERTAKE_ABI_MINOR,
    .name = OT_CHAIN_FORMAT,
    .build_id = "built in",
    .capabilities = OVERTAKE_CAP_SCATTER | OVERTAKE_CAP_STRINGS | OVERTAKE_CAP_MULTI_RESPONSE |
                    OVERTAKE_CAP_PART_STATUS | OVERTAKE_CAP_DEADLINE | OVERTAKE_CAP_ESTIMATE,
    .formats = formats,
    .n_formats = 1,
    .runtime_info = runtime_info,
    .model_unload = unload,
    .model_info = info,
};

const overtake_plugin *ot_chain_runtime(void)
{
    return &table;
}
