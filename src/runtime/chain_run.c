/* The runtime of the format `chain`: a model for each step, and runs that hand on views.
 *
 * What a step has made is held until the chain's answer is given back, and then released last step
 * first: a runtime may hand out what it was handed. */
#include "runtime/chain.h"

#include "base/disk.h"
#include "base/mem.h"
#include "runtime/external.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define FILE_MAX (1u << 20)

struct overtake_model {
    overtake_plugin table; /* with the capabilities that all steps have */
    ot_chain c;
    ot_chain_plan plan;
    ot_model *steps[OT_CHAIN_STEPS_MAX];
    overtake_spec *inputs, *outputs; /* of the plan */
    ot_str version;
    uint64_t memory, instance_memory;
};

/* The results of all steps of one run. */
typedef struct held {
    size_t n;
    ot_run_result results[];
} held;

struct overtake_instance {
    overtake_model *m;
    ot_instance *steps[OT_CHAIN_STEPS_MAX];
    /* Synchronization: taken and put back by exchange; one that was released, for the next run. */
    _Atomic(held *) spare;
    ot_run_input inputs[OT_RUNTIME_INPUTS_MAX]; /* of the step at hand */
    ot_run_output outputs[OT_RUNTIME_OUTPUTS_MAX];
    int32_t *parts; /* a code for each part of the run at hand */
    size_t parts_cap;
    bool parts_failed;
};

/* A run of a chain. */
typedef struct job {
    overtake_instance *inst;
    const overtake_submission *s;
    held *h;
} job;

static int32_t give(overtake_error *out, const ot_error *err)
{
    snprintf(out->message, sizeof out->message, "%s", err->msg);
    return (int32_t)err->rc;
}

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

static ot_rc step_failed(const ot_chain_step *s, ot_rc rc, ot_error *err)
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
            return step_failed(&m->c.steps[i], rc, err);
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

static overtake_spec *abi_specs(ot_arena *a, const ot_tensor_spec *from, size_t n)
{
    overtake_spec *to = ot_arena_calloc(a, OT_MAX(n, 1u), sizeof *to);
    for (size_t i = 0; i < n && to != NULL; i++) {
        to[i] = (overtake_spec){
            .name = from[i].name, .dtype = (int32_t)from[i].dtype, .rank = from[i].rank};
        memcpy(to[i].dims, from[i].dims, sizeof to[i].dims);
    }
    return to;
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
    m->inputs = abi_specs(&m->c.arena, m->plan.inputs, m->plan.n_inputs);
    m->outputs = abi_specs(&m->c.arena, m->plan.outputs, m->plan.n_outputs);
    return m->inputs != NULL && m->outputs != NULL ? OT_OK
                                                   : ot_fail(err, OT_EXHAUSTED, "out of memory");
}

/* Options are of plug-ins; a chain has none. */
static ot_rc check_options(const char *json, ot_error *err)
{
    json_error_t why;
    json_t *root = json_loads(json != NULL ? json : "{}", 0, &why);
    const char *key = json_object_iter_key(json_object_iter(root));
    ot_rc rc = json_is_object(root) && key == NULL
                   ? OT_OK
                   : ot_fail(err, OT_INVALID, "options: %s%.64s",
                             key != NULL ? "" : "an object is expected", key != NULL ? key : "");
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
            rc = step_failed(&c.steps[i], rc, err);
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

/* ---- instances */

static void instance_destroy(overtake_instance *inst)
{
    for (size_t i = inst->m->c.n_steps; i-- > 0;) {
        ot_instance_destroy(inst->steps[i]);
    }
    ot_free(atomic_load(&inst->spare));
    ot_free(inst->parts);
    ot_free(inst);
}

static int32_t instance_create(overtake_model *m, overtake_instance **out, overtake_error *why)
{
    ot_error err;
    overtake_instance *inst = ot_calloc(1, sizeof *inst);
    if (inst == NULL) {
        snprintf(why->message, sizeof why->message, "out of memory");
        return OVERTAKE_EXHAUSTED;
    }
    inst->m = m;
    for (size_t i = 0; i < m->c.n_steps; i++) {
        ot_rc rc = ot_instance_create(m->steps[i], &inst->steps[i], &err);
        if (rc != OT_OK) {
            (void)!step_failed(&m->c.steps[i], rc, &err);
            instance_destroy(inst);
            return give(why, &err);
        }
    }
    *out = inst;
    return OVERTAKE_OK;
}

static held *take_held(overtake_instance *inst)
{
    held *h = atomic_exchange(&inst->spare, NULL);
    if (h == NULL) {
        h = ot_alloc(sizeof *h + inst->m->c.n_steps * sizeof h->results[0]);
    }
    if (h != NULL) {
        h->n = 0;
    }
    return h;
}

static void release(overtake_instance *inst, void *token)
{
    held *h = token, *none = NULL;
    while (h->n > 0) {
        ot_run_result_release(&h->results[--h->n]);
    }
    if (!atomic_compare_exchange_strong(&inst->spare, &none, h)) {
        ot_free(h);
    }
}

/* ---- runs */

/* A part that a step has failed stays so: its rows mean nothing to the steps that follow. */
static ot_rc merge_parts(const job *j, const ot_run_result *r, ot_error *err)
{
    overtake_instance *inst = j->inst;
    size_t n = j->s->n_parts;
    if (r->part_rc == NULL || n == 0) {
        return OT_OK;
    }
    if (inst->parts_cap < n) {
        int32_t *grown = ot_realloc(inst->parts, n * sizeof *grown);
        if (grown == NULL) {
            return ot_fail(err, OT_EXHAUSTED, "out of memory for codes of parts");
        }
        inst->parts = grown;
        inst->parts_cap = n;
    }
    if (!inst->parts_failed) {
        memset(inst->parts, 0, n * sizeof *inst->parts);
        inst->parts_failed = true;
    }
    for (size_t i = 0; i < n; i++) {
        inst->parts[i] = inst->parts[i] != OT_OK ? inst->parts[i] : r->part_rc[i];
    }
    return OT_OK;
}

/* The chain's outputs, with `last` for the result of the last step. */
static void respond(const job *j, const ot_run_result *last, uint32_t flags, held *token)
{
    const ot_chain_plan *p = &j->inst->m->plan;
    const overtake_submission *s = j->s;
    overtake_output outputs[OT_RUNTIME_OUTPUTS_MAX];
    int last_step = (int)j->inst->m->c.n_steps - 1;
    for (uint32_t i = 0; i < s->n_outputs; i++) {
        size_t k = 0; /* one of them it is: instance.c has looked */
        while (k + 1 < p->n_outputs && strcmp(p->outputs[k].name, s->outputs[i].name) != 0) {
            k++;
        }
        const ot_run_result *r =
            p->made[k].step == last_step ? last : &j->h->results[p->made[k].step];
        const ot_tensor *t = &r->outputs[p->made[k].index];
        outputs[i] = (overtake_output){.name = p->outputs[k].name,
                                       .dtype = (int32_t)t->dtype,
                                       .rank = t->rank,
                                       .data = t->data,
                                       .size_bytes = t->size_bytes};
        memcpy(outputs[i].dims, t->dims, sizeof outputs[i].dims);
    }
    overtake_response r = {.struct_size = sizeof r,
                           .ticket = s->ticket,
                           .flags = flags,
                           .sequence = last->sequence,
                           .n_outputs = s->n_outputs,
                           .outputs = outputs,
                           .part_status = j->inst->parts_failed ? j->inst->parts : NULL,
                           .token = token};
    s->respond(s->user, &r);
}

/* A response of the last step that is not its last one. */
static void pass_on(void *arg, const ot_run_result *result)
{
    respond(arg, result, 0, NULL);
}

/* What has been made is what the next step takes, also on those axes that signatures leave open. */
static ot_rc check_edge(const job *j, int from, int to, const ot_tensor_spec *spec,
                        const ot_tensor *t, ot_error *err)
{
    char shape[OT_SHAPE_TEXT], wanted[OT_SHAPE_TEXT];
    const ot_chain_step *steps = j->inst->m->c.steps;
    if (ot_tensor_matches(spec, t, NULL) == OT_OK) {
        return OT_OK;
    }
    return ot_fail(err, OT_INTERNAL,
                   "step '%s' (model '%s') gave '%s' as %s %s; step '%s' takes '%s' as %s %s",
                   steps[from].name, steps[from].model, t->name, ot_dtype_name(t->dtype),
                   ot_shape_format(t->dims, t->rank, shape), steps[to].name, spec->name,
                   ot_dtype_name(spec->dtype), ot_shape_format(spec->dims, spec->rank, wanted));
}

static ot_run_input input_of(const overtake_input *from, const char *name)
{
    ot_run_input in = {
        .tensor = {.name = name, .dtype = (ot_dtype)from->dtype, .rank = from->rank}};
    memcpy(in.tensor.dims, from->dims, sizeof in.tensor.dims);
    if (from->n_segments == 1) {
        in.tensor.data = from->segments[0].data;
        in.tensor.size_bytes = from->segments[0].size_bytes;
    } else { /* the same layout: instance.c holds that */
        in.segments = (const ot_segment *)(const void *)from->segments;
        in.n_segments = from->n_segments;
    }
    return in;
}

static ot_rc hand_inputs(const job *j, int step, ot_error *err)
{
    const overtake_model *m = j->inst->m;
    const ot_model_info *info_of = ot_model_info_of(m->steps[step]);
    for (int i = 0; i < info_of->n_inputs; i++) {
        ot_chain_source from = m->plan.fed[step][i];
        const ot_tensor_spec *spec = &info_of->inputs[i];
        ot_run_input *in = &j->inst->inputs[i];
        if (from.step < 0) {
            *in = input_of(&j->s->inputs[from.index], spec->name);
            continue;
        }
        const ot_tensor *t = &j->h->results[from.step].outputs[from.index];
        OT_TRY(check_edge(j, from.step, step, spec, t, err));
        *in = (ot_run_input){.tensor = *t};
        in->tensor.name = spec->name;
    }
    return OT_OK;
}

/* The parts are those of the rows that the step is handed too, and not only of the chain's. */
static bool keeps_rows(const job *j, int n_inputs)
{
    bool kept = j->s->n_inputs > 0 && j->s->inputs[0].rank > 0;
    for (int i = 0; i < n_inputs && kept; i++) {
        const ot_tensor *t = &j->inst->inputs[i].tensor;
        kept = t->rank > 0 && t->dims[0] == j->s->inputs[0].dims[0];
    }
    return kept;
}

static ot_rc run_step(job *j, int step, ot_error *err)
{
    overtake_instance *inst = j->inst;
    const ot_model_info *info_of = ot_model_info_of(inst->m->steps[step]);
    const ot_chain_plan *p = &inst->m->plan;
    bool last = (size_t)step + 1 == inst->m->c.n_steps;
    for (int i = 0; i < p->n_asked[step]; i++) {
        inst->outputs[i] = (ot_run_output){.name = info_of->outputs[p->asked[step][i]].name};
    }
    ot_run run = {.inputs = inst->inputs,
                  .n_inputs = info_of->n_inputs,
                  .outputs = inst->outputs,
                  .n_outputs = p->n_asked[step],
                  .parts = (const ot_run_part *)(const void *)j->s->parts,
                  .n_parts = keeps_rows(j, info_of->n_inputs) ? (int)j->s->n_parts : 0,
                  .deadline_ns = j->s->deadline_ns,
                  .more = last ? pass_on : NULL,
                  .more_arg = j};
    ot_run_result *r = &j->h->results[step];
    OT_TRY(ot_instance_run(inst->steps[step], &run, r, err));
    j->h->n = (size_t)step + 1;
    if (r->sequence > 0 && !last) {
        return ot_fail(err, OT_UNIMPLEMENTED,
                       "it gave %u responses; only the last step of a chain may give several",
                       r->sequence + 1);
    }
    return merge_parts(j, r, err);
}

static void fail(const job *j, const ot_error *err)
{
    overtake_response r = {.struct_size = sizeof r,
                           .ticket = j->s->ticket,
                           .status = (int32_t)err->rc,
                           .flags = OVERTAKE_RESPONSE_FINAL | OVERTAKE_RESPONSE_INLINE,
                           .message = err->msg};
    j->s->respond(j->s->user, &r);
    release(j->inst, j->h);
}

static int32_t submit(overtake_instance *inst, const overtake_submission *s, overtake_error *why)
{
    job j = {.inst = inst, .s = s, .h = take_held(inst)};
    const ot_chain *c = &inst->m->c;
    ot_error err;
    if (j.h == NULL) {
        snprintf(why->message, sizeof why->message, "out of memory");
        return OVERTAKE_EXHAUSTED;
    }
    inst->parts_failed = false;
    for (size_t i = 0; i < c->n_steps; i++) {
        ot_rc rc = hand_inputs(&j, (int)i, &err);
        if (rc == OT_OK) {
            rc = run_step(&j, (int)i, &err);
            rc = rc == OT_OK ? rc : step_failed(&c->steps[i], rc, &err);
        }
        if (rc != OT_OK) {
            fail(&j, &err);
            return OVERTAKE_OK;
        }
    }
    respond(&j, &j.h->results[c->n_steps - 1], OVERTAKE_RESPONSE_FINAL | OVERTAKE_RESPONSE_INLINE,
            j.h);
    return OVERTAKE_OK;
}

static const overtake_format formats[] = {
    {.name = OT_CHAIN_FORMAT, .pattern = OT_CHAIN_FILE, .wants_dir = 1}};

/* Loading needs the registry, and so goes by ot_chain_load. */
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
    .instance_create = instance_create,
    .instance_destroy = instance_destroy,
    .submit = submit,
    .release = release,
};

const overtake_plugin *ot_chain_runtime(void)
{
    return &table;
}
