/* Instances: one submission becomes a slot, its responses become results.
 *
 * A slot holds the ABI's arrays for one run, made when the instance is made, so that a run
 * allocates nothing. A response that comes from inside submit takes no lock. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "runtime/internal.h"

#include <string.h>

#define PARTS_MAX 65536
#define SLOT_BITS 8 /* of a ticket: which slot; the rest counts */

_Static_assert(sizeof(ot_segment) == sizeof(overtake_segment) &&
                   offsetof(ot_segment, size_bytes) == offsetof(overtake_segment, size_bytes),
               "segments go to the plug-in as they are");
_Static_assert(sizeof(ot_run_part) == sizeof(overtake_part) &&
                   offsetof(ot_run_part, n_rows) == offsetof(overtake_part, n_rows),
               "parts go to the plug-in as they are");

typedef struct slot {
    ot_instance *inst;
    unsigned index;
    /* Synchronization: set by the submitting thread; cleared by it for a run answered inside
     * submit, else by the answering thread under ot_instance.lock. */
    atomic_bool busy;
    /* Synchronization: written by the submitting thread before submit; read by whoever answers. */
    uint64_t ticket;
    pthread_t submitter;
    atomic_bool in_submit;
    bool answered;        /* the final response came; the answering thread's */
    bool answered_inside; /* it came from inside submit; the submitting thread's */
    ot_run_fn *fn;
    void *arg;
    overtake_submission sub;
    overtake_input *inputs;
    overtake_segment *whole; /* the one segment of an input that isn't scattered */
    overtake_output_request *outputs;
    uint8_t asked[OT_RUNTIME_OUTPUTS_MAX]; /* signature index of outputs[i] */
} slot;

struct ot_instance {
    ot_model *model;
    overtake_instance *inst; /* the plug-in's */
    uint64_t sequence;       /* of tickets; the submitting thread's */
    pthread_mutex_t lock;
    pthread_cond_t idle; /* a slot was cleared, or a waiting run was answered */
    unsigned n_slots;
    slot *slots;
    ot_arena memory;
    int32_t *part_rc; /* of the last ot_instance_run */
    size_t part_rc_cap;
};

/* ---- responses */

static bool copy_output(const slot *s, const overtake_output *from, uint32_t i, ot_tensor *to)
{
    const ot_model_info *info = &s->inst->model->info;
    if (from->rank < 0 || from->rank > OT_RANK_MAX || from->memory_kind != OVERTAKE_MEM_HOST ||
        (from->data == NULL && from->size_bytes > 0)) {
        return false;
    }
    to->name = info->outputs[s->asked[i]].name;
    to->dtype = (ot_dtype)from->dtype;
    to->rank = from->rank;
    memcpy(to->dims, from->dims, (size_t)from->rank * sizeof to->dims[0]);
    to->data = from->data;
    to->size_bytes = from->size_bytes;
    return ot_tensor_check(to, NULL) == OT_OK;
}

/* A run is failed rather than passed on when the plug-in breaks its contract. */
static void fail_result(ot_run_result *r, const char *message)
{
    r->rc = OT_INTERNAL;
    r->message = message;
    r->n_outputs = 0;
}

static void fill_result(const slot *s, const overtake_response *from, ot_run_result *r)
{
    r->rc = from->status == OVERTAKE_OK                              ? OT_OK
            : from->status < 0 && from->status >= OT_UNAUTHENTICATED ? (ot_rc)from->status
                                                                     : OT_INTERNAL;
    r->message = from->message != NULL ? from->message : r->rc == OT_OK ? "" : ot_rc_name(r->rc);
    r->final = (from->flags & OVERTAKE_RESPONSE_FINAL) != 0 || r->rc != OT_OK;
    r->sequence = from->sequence;
    r->part_rc = s->sub.n_parts > 0 ? from->part_status : NULL;
    r->owner = s->inst;
    r->token = from->token;
    r->n_outputs = 0;
    if (r->rc != OT_OK) {
        return;
    }
    if (from->n_outputs != s->sub.n_outputs) {
        fail_result(r, "the plug-in answered with another number of outputs than was asked for");
        return;
    }
    for (uint32_t i = 0; i < from->n_outputs; i++) {
        if (!copy_output(s, &from->outputs[i], i, &r->outputs[i])) {
            fail_result(r, "the plug-in answered with an output whose shape and size disagree");
            return;
        }
    }
    r->n_outputs = (int)from->n_outputs;
}

static void respond(void *user, const overtake_response *response)
{
    slot *s = user;
    ot_instance *inst = s->inst;
    if (!atomic_load_explicit(&s->busy, memory_order_acquire) || response->ticket != s->ticket ||
        s->answered) {
        ot_err("runtime", "%s: a response to no run in flight (ticket %llu) was dropped",
               inst->model->plugin->name, (unsigned long long)response->ticket);
        return;
    }
    bool inside = atomic_load_explicit(&s->in_submit, memory_order_relaxed) &&
                  pthread_equal(s->submitter, pthread_self());
    ot_run_result result;
    fill_result(s, response, &result);
    s->answered = result.final;
    if (inside) {
        s->answered_inside = result.final;
    }
    bool final = result.final;
    s->fn(s->arg, &result);
    if (final && !inside) {
        pthread_mutex_lock(&inst->lock);
        atomic_store_explicit(&s->busy, false, memory_order_release);
        pthread_cond_broadcast(&inst->idle);
        pthread_mutex_unlock(&inst->lock);
    }
}

void ot_run_result_release(ot_run_result *r)
{
    if (r->token != NULL) {
        r->owner->model->plugin->release(r->owner->inst, r->token);
        r->token = NULL;
        r->n_outputs = 0;
    }
}

/* ---- making */

static ot_rc make_slot(ot_instance *inst, unsigned index, ot_error *err)
{
    const ot_model_info *info = &inst->model->info;
    slot *s = &inst->slots[index];
    size_t n_in = (size_t)OT_MAX(info->n_inputs, 1), n_out = (size_t)info->n_outputs;
    s->inst = inst;
    s->index = index;
    s->inputs = ot_arena_calloc(&inst->memory, n_in, sizeof *s->inputs);
    s->whole = ot_arena_calloc(&inst->memory, n_in, sizeof *s->whole);
    s->outputs = ot_arena_calloc(&inst->memory, n_out, sizeof *s->outputs);
    if (s->inputs == NULL || s->whole == NULL || s->outputs == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "instance: out of memory");
    }
    s->sub = (overtake_submission){
        .struct_size = sizeof s->sub,
        .n_inputs = (uint32_t)info->n_inputs,
        .inputs = s->inputs,
        .outputs = s->outputs,
        .respond = respond,
        .user = s,
    };
    for (int i = 0; i < info->n_inputs; i++) {
        s->inputs[i].name = info->inputs[i].name;
    }
    return OT_OK;
}

ot_rc ot_instance_create(ot_model *m, ot_instance **inst_out, ot_error *err)
{
    ot_instance *inst = ot_calloc(1, sizeof *inst);
    if (inst == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "instance: out of memory");
    }
    inst->model = ot_model_ref(m);
    pthread_mutex_init(&inst->lock, NULL);
    pthread_cond_init(&inst->idle, NULL);
    ot_arena_init(&inst->memory, 16384, 16u << 20);
    ot_rc rc = OT_OK;
    inst->n_slots = m->info.max_in_flight;
    inst->slots = ot_arena_calloc(&inst->memory, inst->n_slots, sizeof *inst->slots);
    if (inst->slots == NULL) {
        inst->n_slots = 0;
        rc = ot_fail(err, OT_EXHAUSTED, "instance: out of memory");
    }
    for (unsigned i = 0; i < inst->n_slots && rc == OT_OK; i++) {
        rc = make_slot(inst, i, err);
    }
    if (rc == OT_OK) {
        overtake_error why = {""};
        int32_t code = m->plugin->instance_create(m->model, &inst->inst, &why);
        if (code != OVERTAKE_OK) {
            inst->inst = NULL;
            why.message[sizeof why.message - 1] = '\0';
            rc = ot_fail(err, code < 0 && code >= OT_UNAUTHENTICATED ? (ot_rc)code : OT_INTERNAL,
                         "%s: instance: %s", m->plugin->name, why.message);
        }
    }
    if (rc != OT_OK) {
        ot_instance_destroy(inst);
        return rc;
    }
    *inst_out = inst;
    return OT_OK;
}

void ot_instance_destroy(ot_instance *inst)
{
    if (inst == NULL) {
        return;
    }
    pthread_mutex_lock(&inst->lock);
    for (unsigned i = 0; i < inst->n_slots; i++) {
        while (atomic_load_explicit(&inst->slots[i].busy, memory_order_acquire)) {
            pthread_cond_wait(&inst->idle, &inst->lock);
        }
    }
    pthread_mutex_unlock(&inst->lock);
    if (inst->inst != NULL) {
        inst->model->plugin->instance_destroy(inst->inst);
    }
    ot_free(inst->part_rc);
    ot_arena_done(&inst->memory);
    pthread_cond_destroy(&inst->idle);
    pthread_mutex_destroy(&inst->lock);
    ot_model_unref(inst->model);
    ot_free(inst);
}

ot_model *ot_instance_model(const ot_instance *inst)
{
    return inst->model;
}

/* ---- running */

static ot_rc fill_inputs(slot *s, const ot_run *run, ot_error *err)
{
    uint16_t order[OT_RUNTIME_INPUTS_MAX];
    if (run->n_inputs < 0 || run->n_inputs > OT_RUNTIME_INPUTS_MAX) {
        return ot_fail(err, OT_INVALID, "%d inputs; the limit is %d", run->n_inputs,
                       OT_RUNTIME_INPUTS_MAX);
    }
    OT_TRY(ot_model_match_inputs(s->inst->model, run->inputs, run->n_inputs, order, err));
    for (int i = 0; i < run->n_inputs; i++) {
        const ot_run_input *from = &run->inputs[i];
        overtake_input *to = &s->inputs[order[i]];
        to->dtype = (int32_t)from->tensor.dtype;
        to->rank = from->tensor.rank;
        memcpy(to->dims, from->tensor.dims, (size_t)to->rank * sizeof to->dims[0]);
        if (from->n_segments > 0) {
            to->segments = (const overtake_segment *)(const void *)from->segments;
            to->n_segments = (uint32_t)from->n_segments;
        } else {
            s->whole[order[i]] = (overtake_segment){from->tensor.data, from->tensor.size_bytes};
            to->segments = &s->whole[order[i]];
            to->n_segments = 1;
        }
    }
    return OT_OK;
}

static ot_rc fill_output(slot *s, const ot_run *run, int i, ot_error *err)
{
    const ot_model_info *info = &s->inst->model->info;
    int k = i;
    if (run->outputs != NULL) {
        const char *name = run->outputs[i].name != NULL ? run->outputs[i].name : "";
        for (k = 0; k < info->n_outputs && strcmp(info->outputs[k].name, name) != 0; k++) {
        }
        if (k == info->n_outputs) {
            return ot_fail(err, OT_INVALID, "there is no output '%.64s'; the first of %d is '%s'",
                           name, info->n_outputs, info->outputs[0].name);
        }
        for (int j = 0; j < i; j++) {
            if (s->asked[j] == k) {
                return ot_fail(err, OT_INVALID, "output '%s' is asked for twice", name);
            }
        }
    }
    s->asked[i] = (uint8_t)k;
    s->outputs[i] = (overtake_output_request){.name = info->outputs[k].name};
    if (run->outputs != NULL && run->outputs[i].buffer != NULL) {
        s->outputs[i].buffer = run->outputs[i].buffer;
        s->outputs[i].capacity = run->outputs[i].capacity;
    }
    return OT_OK;
}

static ot_rc fill_outputs(slot *s, const ot_run *run, ot_error *err)
{
    const ot_model_info *info = &s->inst->model->info;
    int n = run->outputs != NULL ? run->n_outputs : info->n_outputs;
    if (n < 1 || n > info->n_outputs) {
        return ot_fail(err, OT_INVALID, "%d outputs asked for; the model has %d", n,
                       info->n_outputs);
    }
    for (int i = 0; i < n; i++) {
        OT_TRY(fill_output(s, run, i, err));
    }
    s->sub.n_outputs = (uint32_t)n;
    return OT_OK;
}

static ot_rc fill_parts(slot *s, const ot_run *run, ot_error *err)
{
    if (run->n_parts < 0 || run->n_parts > PARTS_MAX) {
        return ot_fail(err, OT_INVALID, "%d parts; the limit is %d", run->n_parts, PARTS_MAX);
    }
    s->sub.parts = (const overtake_part *)(const void *)run->parts;
    s->sub.n_parts = run->parts != NULL ? (uint32_t)run->n_parts : 0;
    return OT_OK;
}

static slot *free_slot(ot_instance *inst)
{
    for (unsigned i = 0; i < inst->n_slots; i++) {
        if (!atomic_load_explicit(&inst->slots[i].busy, memory_order_acquire)) {
            return &inst->slots[i];
        }
    }
    return NULL;
}

/* A run that was answered inside submit, or refused by it, is over: its slot is free again. */
static ot_rc finish_submit(slot *s, int32_t code, overtake_error *why, ot_error *err)
{
    const char *plugin = s->inst->model->plugin->name;
    atomic_store_explicit(&s->in_submit, false, memory_order_relaxed);
    if (code == OVERTAKE_OK) {
        if (s->answered_inside) {
            atomic_store_explicit(&s->busy, false, memory_order_release);
        }
        return OT_OK;
    }
    atomic_store_explicit(&s->busy, false, memory_order_release);
    why->message[sizeof why->message - 1] = '\0';
    return ot_fail(err, code < 0 && code >= OT_UNAUTHENTICATED ? (ot_rc)code : OT_INTERNAL,
                   "%s: %s", plugin, why->message);
}

ot_rc ot_instance_submit(ot_instance *inst, const ot_run *run, ot_run_fn *fn, void *arg,
                         uint64_t *ticket_out, ot_error *err)
{
    slot *s = free_slot(inst);
    if (s == NULL) {
        return ot_fail(err, OT_EXHAUSTED,
                       "%u runs are in flight on this instance; that is its limit", inst->n_slots);
    }
    OT_TRY(fill_inputs(s, run, err));
    OT_TRY(fill_outputs(s, run, err));
    OT_TRY(fill_parts(s, run, err));
    if (run->deadline_ns != 0 && ot_clock_mono_ns() >= run->deadline_ns) {
        return ot_fail(err, OT_TIMEOUT, "the deadline had passed before the run");
    }
    s->ticket = (++inst->sequence << SLOT_BITS) | s->index;
    s->sub.ticket = s->ticket;
    s->sub.deadline_ns = run->deadline_ns;
    s->fn = fn;
    s->arg = arg;
    s->answered = false;
    s->answered_inside = false;
    s->submitter = pthread_self();
    if (ticket_out != NULL) {
        *ticket_out = s->ticket; /* before the run, so that another thread can cancel it */
    }
    atomic_store_explicit(&s->in_submit, true, memory_order_relaxed);
    atomic_store_explicit(&s->busy, true, memory_order_release);
    overtake_error why;
    why.message[0] = '\0';
    int32_t code = inst->model->plugin->submit(inst->inst, &s->sub, &why);
    return finish_submit(s, code, &why, err);
}

/* ---- running and waiting */

typedef struct waiter {
    ot_instance *inst;
    const ot_run *run;
    ot_run_result *out;
    ot_error *err;
    size_t n_parts;
    ot_rc rc;
} waiter;

static void keep_part_rc(waiter *w, ot_run_result *r)
{
    ot_instance *inst = w->inst;
    if (inst->part_rc_cap < w->n_parts) {
        int32_t *grown = ot_realloc(inst->part_rc, w->n_parts * sizeof *grown);
        if (grown == NULL) {
            w->rc = ot_fail(w->err, OT_EXHAUSTED, "codes of %zu parts: out of memory", w->n_parts);
            return;
        }
        inst->part_rc = grown;
        inst->part_rc_cap = w->n_parts;
    }
    memcpy(inst->part_rc, r->part_rc, w->n_parts * sizeof *inst->part_rc);
    r->part_rc = inst->part_rc;
}

static void take_result(void *arg, const ot_run_result *result)
{
    waiter *w = arg;
    ot_run_result *out = w->out;
    memcpy(out, result, offsetof(ot_run_result, outputs));
    memcpy(out->outputs, result->outputs, (size_t)result->n_outputs * sizeof out->outputs[0]);
    out->part_rc = result->part_rc;
    out->owner = result->owner;
    out->token = result->token;
    if (!out->final) {
        if (w->run->more != NULL) {
            w->run->more(w->run->more_arg, out);
        }
        ot_run_result_release(out);
        return;
    }
    w->rc = out->rc;
    if (out->rc != OT_OK) {
        ot_fail(w->err, out->rc, "%s: %s", w->inst->model->plugin->name, out->message);
    } else if (out->part_rc != NULL) {
        keep_part_rc(w, out);
    }
    out->message = "";
    if (w->rc != OT_OK) {
        ot_run_result_release(out);
    }
}

ot_rc ot_instance_run(ot_instance *inst, const ot_run *run, ot_run_result *result_out,
                      ot_error *err)
{
    waiter w = {.inst = inst, .run = run, .out = result_out, .err = err, .rc = OT_INTERNAL};
    w.n_parts = run->n_parts > 0 ? (size_t)run->n_parts : 0;
    uint64_t ticket;
    result_out->token = NULL;
    result_out->n_outputs = 0;
    OT_TRY(ot_instance_submit(inst, run, take_result, &w, &ticket, err));
    slot *s = &inst->slots[ticket & ((1u << SLOT_BITS) - 1)];
    if (atomic_load_explicit(&s->busy, memory_order_acquire)) {
        pthread_mutex_lock(&inst->lock);
        while (atomic_load_explicit(&s->busy, memory_order_acquire)) {
            pthread_cond_wait(&inst->idle, &inst->lock);
        }
        pthread_mutex_unlock(&inst->lock);
    }
    return w.rc;
}

void ot_instance_cancel(ot_instance *inst, uint64_t ticket)
{
    if (inst->model->plugin->cancel != NULL) {
        inst->model->plugin->cancel(inst->inst, ticket);
    }
}
