/* Runs of chains: views are handed on from step to step.
 *
 * What a step has made is held until the chain's answer is given back, and then released last step
 * first: a runtime may hand out what it was handed. */
#include "runtime/chain_model.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

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
            (void)!ot_chain_step_failed(&m->c.steps[i], rc, &err);
            instance_destroy(inst);
            return ot_runtime_give(why, &err);
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
            rc = rc == OT_OK ? rc : ot_chain_step_failed(&c->steps[i], rc, &err);
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

/* ---- the table */

void ot_chain_fill_instances(overtake_plugin *table)
{
    table->instance_create = instance_create;
    table->instance_destroy = instance_destroy;
    table->submit = submit;
    table->release = release;
}
