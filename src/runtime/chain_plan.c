/* The steps' signatures against each other: what each step is handed, and what the chain takes and
 * gives. */
#include "runtime/chain.h"

#include <stdio.h>
#include <string.h>

typedef struct planner {
    ot_chain *c;
    const ot_model_info *const *steps;
    ot_chain_plan *p;
    struct { /* who takes an input of the chain first: the side that it is compared with */
        int step;
        const char *name;
    } taker[OT_RUNTIME_INPUTS_MAX];
    ot_error *err;
} planner;

/* "FP32 [-1,4]" */
#define SPEC_TEXT (OT_SHAPE_TEXT + 12)
static const char *spec_text(const ot_tensor_spec *s, char out[SPEC_TEXT])
{
    char shape[OT_SHAPE_TEXT];
    snprintf(out, SPEC_TEXT, "%s %s", ot_dtype_name(s->dtype),
             ot_shape_format(s->dims, s->rank, shape));
    return out;
}

/* A size that is not fixed is seen when it runs. */
static bool fits(const ot_tensor_spec *a, const ot_tensor_spec *b)
{
    bool fit = a->dtype == b->dtype && a->rank == b->rank;
    for (int i = 0; fit && i < a->rank; i++) {
        fit = a->dims[i] < 0 || b->dims[i] < 0 || a->dims[i] == b->dims[i];
    }
    return fit;
}

static int find_spec(const ot_tensor_spec *specs, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(specs[i].name, name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

static int find_output(const planner *l, int step, const char *name)
{
    const ot_model_info *info = l->steps[step];
    return find_spec(info->outputs, (size_t)info->n_outputs, name);
}

static const char *step_name(const planner *l, int step)
{
    return l->c->steps[step].name;
}

/* Output k of the step's signature is asked for; gives its place among those. */
static int ask(planner *l, int step, int k)
{
    ot_chain_plan *p = l->p;
    for (int i = 0; i < p->n_asked[step]; i++) {
        if (p->asked[step][i] == k) {
            return i;
        }
    }
    p->asked[step][p->n_asked[step]] = (uint8_t)k;
    return p->n_asked[step]++;
}

/* ---- inputs of the chain */

static ot_rc add_input(planner *l, const char *name)
{
    if (l->p->n_inputs == OT_RUNTIME_INPUTS_MAX) {
        return ot_fail(l->err, OT_INVALID, "inputs: the chain takes more than %d",
                       OT_RUNTIME_INPUTS_MAX);
    }
    l->p->inputs[l->p->n_inputs++] = (ot_tensor_spec){.name = name};
    return OT_OK;
}

/* Step `step` takes input i of the chain as `spec`: all who take it must agree. */
static ot_rc take_input(planner *l, int i, int step, const ot_tensor_spec *spec)
{
    ot_tensor_spec *in = &l->p->inputs[i];
    char mine[SPEC_TEXT], theirs[SPEC_TEXT];
    if (in->dtype == OT_DT_INVALID) {
        const char *name = in->name;
        *in = *spec;
        in->name = name;
        l->taker[i].step = step;
        l->taker[i].name = spec->name;
        return OT_OK;
    }
    if (!fits(in, spec)) {
        return ot_fail(l->err, OT_INVALID,
                       "steps[%d].inputs.%s: step '%s' takes the chain's input '%s' as %s, step "
                       "'%s' as %s (its '%s')",
                       step, spec->name, step_name(l, step), in->name, spec_text(spec, mine),
                       step_name(l, l->taker[i].step), spec_text(in, theirs), l->taker[i].name);
    }
    for (int k = 0; k < in->rank; k++) {
        in->dims[k] = in->dims[k] < 0 ? spec->dims[k] : in->dims[k];
    }
    return OT_OK;
}

/* ---- what a step is handed */

static ot_rc no_output(planner *l, const char *path, const ot_chain_link *link)
{
    const ot_model_info *info = l->steps[link->step];
    const char *names[OT_RUNTIME_OUTPUTS_MAX];
    for (int i = 0; i < info->n_outputs; i++) {
        names[i] = info->outputs[i].name;
    }
    const char *near = ot_suggest(link->from, names, (size_t)info->n_outputs);
    return ot_fail(l->err, OT_INVALID, "%s: step '%s' has no output '%.64s'; %s '%s'", path,
                   step_name(l, link->step), link->from,
                   near != NULL ? "did you mean" : "its first is", near != NULL ? near : names[0]);
}

static ot_rc no_input(planner *l, const char *path, const char *name)
{
    const char *names[OT_RUNTIME_INPUTS_MAX];
    for (size_t i = 0; i < l->p->n_inputs; i++) {
        names[i] = l->p->inputs[i].name;
    }
    const char *near = ot_suggest(name, names, l->p->n_inputs);
    return ot_fail(l->err, OT_INVALID, "%s: the chain has no input '%.64s'%s%s%s%s", path, name,
                   near != NULL ? "; did you mean '" : "", near != NULL ? near : "",
                   near != NULL ? "'?" : "",
                   near == NULL && l->c->inputs == NULL
                       ? ": without `inputs` it takes what its first step takes"
                       : "");
}

/* Where an input of a step comes from that chain.json says nothing of. */
static ot_chain_link by_name(const planner *l, int step, const char *name)
{
    ot_chain_link link = {.name = name, .step = step - 1, .from = name};
    while (link.step >= 0 && find_output(l, link.step, name) < 0) {
        link.step--;
    }
    return link;
}

static ot_rc feed_from_chain(planner *l, int step, const ot_tensor_spec *to,
                             const ot_chain_link *link, bool said, ot_chain_source *out)
{
    char path[160];
    snprintf(path, sizeof path, "steps[%d].inputs.%s", step, to->name);
    int i = find_spec(l->p->inputs, l->p->n_inputs, link->from);
    if (i < 0 && l->c->inputs == NULL && step == 0) {
        i = (int)l->p->n_inputs;
        OT_TRY(add_input(l, link->from));
    }
    if (i < 0 && !said) {
        char text[SPEC_TEXT];
        return ot_fail(l->err, OT_INVALID,
                       "%s: nothing feeds input '%s' (%s) of step '%s': neither an earlier step's "
                       "output nor an input of the chain is called so",
                       path, to->name, spec_text(to, text), step_name(l, step));
    }
    if (i < 0) {
        return no_input(l, path, link->from);
    }
    *out = (ot_chain_source){-1, i};
    return take_input(l, i, step, to);
}

static ot_rc feed_from_step(planner *l, int step, const ot_tensor_spec *to,
                            const ot_chain_link *link, ot_chain_source *out)
{
    char path[160], mine[SPEC_TEXT], theirs[SPEC_TEXT];
    snprintf(path, sizeof path, "steps[%d].inputs.%s", step, to->name);
    int k = find_output(l, link->step, link->from);
    if (k < 0) {
        return no_output(l, path, link);
    }
    const ot_tensor_spec *from = &l->steps[link->step]->outputs[k];
    if (!fits(from, to)) {
        return ot_fail(l->err, OT_INVALID,
                       "%s: step '%s' takes '%s' as %s, step '%s' gives '%s' as %s", path,
                       step_name(l, step), to->name, spec_text(to, mine), step_name(l, link->step),
                       from->name, spec_text(from, theirs));
    }
    *out = (ot_chain_source){link->step, ask(l, link->step, k)};
    return OT_OK;
}

static ot_rc feed_step(planner *l, int step)
{
    const ot_chain_step *s = &l->c->steps[step];
    const ot_model_info *info = l->steps[step];
    for (size_t i = 0; i < s->n_inputs; i++) {
        if (find_spec(info->inputs, (size_t)info->n_inputs, s->inputs[i].name) < 0) {
            return ot_fail(l->err, OT_INVALID,
                           "steps[%d].inputs.%.64s: the model of step '%s' has no such input; its "
                           "first of %d is '%s'",
                           step, s->inputs[i].name, s->name, info->n_inputs,
                           info->n_inputs > 0 ? info->inputs[0].name : "");
        }
    }
    ot_chain_source *fed =
        ot_arena_calloc(&l->c->arena, (size_t)OT_MAX(info->n_inputs, 1), sizeof *fed);
    if (fed == NULL) {
        return ot_fail(l->err, OT_EXHAUSTED, "chain: out of memory");
    }
    for (int i = 0; i < info->n_inputs; i++) {
        const ot_tensor_spec *to = &info->inputs[i];
        ot_chain_link link = by_name(l, step, to->name);
        bool said = false;
        for (size_t k = 0; k < s->n_inputs && !said; k++) {
            said = strcmp(s->inputs[k].name, to->name) == 0;
            link = said ? s->inputs[k] : link;
        }
        OT_TRY(link.step >= 0 ? feed_from_step(l, step, to, &link, &fed[i])
                              : feed_from_chain(l, step, to, &link, said, &fed[i]));
    }
    l->p->fed[step] = fed;
    return OT_OK;
}

/* ---- what the chain gives */

static ot_rc give_output(planner *l, const ot_chain_link *link)
{
    char path[160];
    snprintf(path, sizeof path, "outputs.%s", link->name);
    int k = find_output(l, link->step, link->from);
    if (k < 0) {
        return no_output(l, path, link);
    }
    size_t i = l->p->n_outputs++;
    l->p->made[i] = (ot_chain_source){link->step, ask(l, link->step, k)};
    l->p->outputs[i] = l->steps[link->step]->outputs[k];
    l->p->outputs[i].name = link->name;
    return OT_OK;
}

static ot_rc give_outputs(planner *l)
{
    int last = (int)l->c->n_steps - 1;
    for (size_t i = 0; i < l->c->n_outputs; i++) {
        OT_TRY(give_output(l, &l->c->outputs[i]));
    }
    for (int i = 0; l->c->outputs == NULL && i < l->steps[last]->n_outputs; i++) {
        const char *name = l->steps[last]->outputs[i].name;
        OT_TRY(give_output(l, &(ot_chain_link){name, last, name}));
    }
    return OT_OK;
}

static ot_rc check_used(planner *l)
{
    for (size_t i = 0; i < l->p->n_inputs; i++) {
        if (l->p->inputs[i].dtype == OT_DT_INVALID) {
            return ot_fail(l->err, OT_INVALID, "inputs[%zu]: no step takes '%.64s'", i,
                           l->p->inputs[i].name);
        }
    }
    for (size_t i = 0; i < l->c->n_steps; i++) {
        if (l->p->n_asked[i] == 0) {
            return ot_fail(l->err, OT_INVALID,
                           "steps[%zu]: nobody takes anything that step '%s' gives; its first "
                           "output is '%s'",
                           i, step_name(l, (int)i), l->steps[i]->outputs[0].name);
        }
    }
    return OT_OK;
}

ot_rc ot_chain_plan_make(ot_chain *c, const ot_model_info *const *steps, ot_chain_plan *out,
                         ot_error *err)
{
    ot_chain_plan p = {0};
    planner l = {.c = c, .steps = steps, .p = &p, .err = err};
    p.inputs = ot_arena_calloc(&c->arena, OT_RUNTIME_INPUTS_MAX, sizeof *p.inputs);
    p.outputs = ot_arena_calloc(&c->arena, OT_RUNTIME_OUTPUTS_MAX, sizeof *p.outputs);
    p.made = ot_arena_calloc(&c->arena, OT_RUNTIME_OUTPUTS_MAX, sizeof *p.made);
    if (p.inputs == NULL || p.outputs == NULL || p.made == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "chain: out of memory");
    }
    for (size_t i = 0; i < c->n_inputs; i++) {
        OT_TRY(add_input(&l, c->inputs[i]));
    }
    for (size_t i = 0; i < c->n_steps; i++) {
        OT_TRY(feed_step(&l, (int)i));
        p.batch_axis = steps[i]->batch_axis == 0 ? p.batch_axis : -1;
    }
    OT_TRY(give_outputs(&l));
    OT_TRY(check_used(&l));
    *out = p;
    return OT_OK;
}
