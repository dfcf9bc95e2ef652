/* Runs: tensors over the caller's memory in, over the caller's or the runtime's memory out. */
#include "ort.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Where the rows of a scattered or unaligned input are put together. */
typedef struct staging {
    void *data;
    uint64_t cap;
} staging;

/* What the outputs of one response hold on to: the token. */
typedef struct result {
    uint32_t n;
    ort_value *values[ORT_OUTPUTS_MAX];
    void *blocks[ORT_OUTPUTS_MAX]; /* serialised strings */
} result;

struct overtake_instance {
    overtake_model *model;
    ort_session *session;
    bool own_session;   /* made for this instance */
    bool model_session; /* the model's, which only one instance of a per-instance model takes */
    ort_run_options *run_options;
    staging stages[ORT_INPUTS_MAX];
    pthread_mutex_t lock;
    /* Synchronization: lock. What cancel looks at. */
    uint64_t running;
    bool terminated;
};

int32_t ort_instance_create(overtake_model *m, overtake_instance **out, overtake_error *err)
{
    overtake_instance *inst = ort_host->alloc(ort_host->self, sizeof *inst);
    if (inst == NULL) {
        return ort_fail(err, OVERTAKE_EXHAUSTED, "instance: out of memory");
    }
    memset(inst, 0, sizeof *inst);
    pthread_mutex_init(&inst->lock, NULL);
    inst->model = m;
    inst->session = m->session;
    int32_t rc = ort_check(ort.api.CreateRunOptions(&inst->run_options), err, "run options");
    if (rc == OVERTAKE_OK && m->per_instance) {
        inst->model_session = !atomic_exchange(&m->session_taken, true);
        if (!inst->model_session) {
            rc = ort_check(ort.api.CreateSession(ort.env, m->path, m->options, &inst->session), err,
                           m->path);
            inst->own_session = rc == OVERTAKE_OK;
        }
    }
    if (rc != OVERTAKE_OK) {
        ort_instance_destroy(inst);
        return rc;
    }
    *out = inst;
    return OVERTAKE_OK;
}

void ort_instance_destroy(overtake_instance *inst)
{
    if (inst->own_session) {
        ort.api.ReleaseSession(inst->session);
    } else if (inst->model_session) {
        atomic_store(&inst->model->session_taken, false);
    }
    if (inst->run_options != NULL) {
        ort.api.ReleaseRunOptions(inst->run_options);
    }
    for (uint32_t i = 0; i < inst->model->n_inputs; i++) {
        free(inst->stages[i].data);
    }
    pthread_mutex_destroy(&inst->lock);
    ort_host->free(ort_host->self, inst);
}

/* ---- inputs */

static int32_t gather(staging *st, const overtake_input *in, uint64_t size, overtake_error *err)
{
    if (st->cap < size) {
        /* Twice what is needed now, 64-byte aligned; the old content means nothing. */
        uint64_t cap = (2 * size + 63) / 64 * 64;
        void *p = aligned_alloc(64, cap);
        if (p == NULL) {
            return ort_fail(err, OVERTAKE_EXHAUSTED, "input '%s': %llu bytes: out of memory",
                            in->name, (unsigned long long)cap);
        }
        free(st->data);
        st->data = p;
        st->cap = cap;
    }
    uint8_t *to = st->data;
    for (uint32_t i = 0; i < in->n_segments; i++) {
        if (in->segments[i].size_bytes > 0) {
            memcpy(to, in->segments[i].data, in->segments[i].size_bytes);
            to += in->segments[i].size_bytes;
        }
    }
    return OVERTAKE_OK;
}

static int32_t make_input(staging *st, const overtake_input *in, ort_value **out,
                          overtake_error *err)
{
    static uint64_t nothing; /* zero rows: the runtime wants an address all the same */
    if (in->dtype == OVERTAKE_DT_BYTES) {
        return ort_strings_in(in, out, err);
    }
    uint64_t size = 0;
    void *data = &nothing;
    for (uint32_t i = 0; i < in->n_segments; i++) {
        size += in->segments[i].size_bytes;
    }
    uint32_t align = ort_dtype_size(in->dtype);
    if (in->n_segments == 1 && size > 0 && (uintptr_t)in->segments[0].data % align == 0) {
        memcpy(&data, &in->segments[0].data, sizeof data); /* the runtime only reads it */
    } else if (size > 0) {
        int32_t rc = gather(st, in, size, err);
        if (rc != OVERTAKE_OK) {
            return rc;
        }
        data = st->data;
    }
    return ort_check(ort.api.CreateTensorWithDataAsOrtValue(ort.cpu, data, size, in->dims,
                                                            (size_t)in->rank,
                                                            ort_type_of(in->dtype), out),
                     err, in->name);
}

/* ---- outputs */

static uint32_t output_index(const overtake_model *m, const char *name)
{
    uint32_t k = 0;
    while (k + 1 < m->n_outputs && m->outputs[k].name != name &&
           strcmp(m->outputs[k].name, name) != 0) {
        k++;
    }
    return k;
}

/* A value over the host's buffer, and *out as the answer will be, when the output's shape follows
 * from the rows and fits; else NULL, and the runtime allocates. */
static int32_t prepare_output(const overtake_model *m, const overtake_submission *s, uint32_t i,
                              ort_value **value, overtake_output *out, overtake_error *err)
{
    const overtake_output_request *q = &s->outputs[i];
    uint32_t k = output_index(m, q->name);
    const overtake_spec *spec = &m->outputs[k];
    memset(out, 0, sizeof *out);
    out->name = q->name;
    if (q->buffer == NULL || !m->rows_known[k]) {
        return OVERTAKE_OK;
    }
    uint64_t size = ort_dtype_size(spec->dtype);
    out->dtype = spec->dtype;
    out->rank = spec->rank;
    memcpy(out->dims, spec->dims, sizeof out->dims);
    out->dims[0] = s->inputs[0].dims[0];
    for (int32_t a = 0; a < spec->rank; a++) {
        if (__builtin_mul_overflow(size, (uint64_t)out->dims[a], &size)) {
            return OVERTAKE_OK;
        }
    }
    if (size == 0 || size > q->capacity) {
        return OVERTAKE_OK;
    }
    out->data = q->buffer;
    out->size_bytes = size;
    return ort_check(ort.api.CreateTensorWithDataAsOrtValue(ort.cpu, q->buffer, size, out->dims,
                                                            (size_t)spec->rank,
                                                            ort_type_of(spec->dtype), value),
                     err, spec->name);
}

static int32_t shape_output(ort_value *value, overtake_output *out, overtake_error *err)
{
    ort_tensor_info *info = NULL;
    int type = 0;
    size_t rank = 0;
    int32_t rc = ort_check(ort.api.GetTensorTypeAndShape(value, &info), err, out->name);
    if (rc != OVERTAKE_OK) {
        return rc;
    }
    rc = ort_check(ort.api.GetTensorElementType(info, &type), err, out->name);
    if (rc == OVERTAKE_OK) {
        rc = ort_check(ort.api.GetDimensionsCount(info, &rank), err, out->name);
    }
    if (rc == OVERTAKE_OK && rank > OVERTAKE_RANK_MAX) {
        rc = ort_fail(err, OVERTAKE_INTERNAL, "output '%s' has %zu axes; the limit is %d",
                      out->name, rank, OVERTAKE_RANK_MAX);
    }
    if (rc == OVERTAKE_OK) {
        rc = ort_check(ort.api.GetDimensions(info, out->dims, rank), err, out->name);
    }
    ort.api.ReleaseTensorTypeAndShapeInfo(info);
    out->dtype = ort_dtype_of(type);
    out->rank = (int32_t)rank;
    return rc;
}

static int32_t read_output(ort_value *value, overtake_output *out, void **block,
                           overtake_error *err)
{
    int32_t rc = shape_output(value, out, err);
    if (rc != OVERTAKE_OK) {
        return rc;
    }
    if (out->dtype == OVERTAKE_DT_BYTES) {
        rc = ort_strings_out(value, out, block, &out->size_bytes, err);
        out->data = *block;
        return rc;
    }
    void *data = NULL;
    rc = ort_check(ort.api.GetTensorMutableData(value, &data), err, out->name);
    out->data = data;
    out->size_bytes = ort_dtype_size(out->dtype);
    for (int32_t a = 0; a < out->rank; a++) {
        out->size_bytes *= (uint64_t)out->dims[a];
    }
    return rc;
}

static void release(result *r)
{
    for (uint32_t i = 0; i < r->n; i++) {
        if (r->values[i] != NULL) {
            ort.api.ReleaseValue(r->values[i]);
        }
        ort_host->free(ort_host->self, r->blocks[i]);
    }
    ort_host->free(ort_host->self, r);
}

void ort_release(overtake_instance *inst, void *token)
{
    (void)inst;
    release(token);
}

/* ---- a run */

static int32_t run_session(overtake_instance *inst, const overtake_submission *s,
                           const ort_value *const *inputs, result *r, overtake_error *err)
{
    const char *in_names[ORT_INPUTS_MAX], *out_names[ORT_OUTPUTS_MAX];
    for (uint32_t i = 0; i < s->n_inputs; i++) {
        in_names[i] = s->inputs[i].name;
    }
    for (uint32_t i = 0; i < s->n_outputs; i++) {
        out_names[i] = s->outputs[i].name;
    }
    pthread_mutex_lock(&inst->lock);
    inst->running = s->ticket;
    pthread_mutex_unlock(&inst->lock);
    ort_status *status = ort.api.Run(inst->session, inst->run_options, in_names, inputs,
                                     s->n_inputs, out_names, s->n_outputs, r->values);
    pthread_mutex_lock(&inst->lock);
    bool terminated = inst->terminated;
    inst->running = 0;
    inst->terminated = false;
    pthread_mutex_unlock(&inst->lock);
    int32_t rc = ort_check(status, err, "run");
    if (terminated) {
        overtake_error ignored;
        (void)ort_check(ort.api.RunOptionsUnsetTerminate(inst->run_options), &ignored, "");
        rc = rc == OVERTAKE_OK ? rc : ort_fail(err, OVERTAKE_CANCELLED, "cancelled");
    }
    return rc;
}

static int32_t run_with(overtake_instance *inst, const overtake_submission *s, result *r,
                        overtake_output *outputs, overtake_error *err)
{
    ort_value *inputs[ORT_INPUTS_MAX];
    uint32_t made = 0;
    int32_t rc = OVERTAKE_OK;
    for (; made < s->n_inputs && rc == OVERTAKE_OK; made++) {
        inputs[made] = NULL;
        rc = make_input(&inst->stages[made], &s->inputs[made], &inputs[made], err);
    }
    for (uint32_t i = 0; i < s->n_outputs && rc == OVERTAKE_OK; i++) {
        rc = prepare_output(inst->model, s, i, &r->values[i], &outputs[i], err);
    }
    if (rc == OVERTAKE_OK) {
        rc = run_session(inst, s, (const ort_value *const *)inputs, r, err);
    }
    for (uint32_t i = 0; i < made; i++) {
        if (inputs[i] != NULL) {
            ort.api.ReleaseValue(inputs[i]);
        }
    }
    for (uint32_t i = 0; i < s->n_outputs && rc == OVERTAKE_OK; i++) {
        if (outputs[i].data == NULL) { /* not in the host's buffer, whose shape is known */
            rc = read_output(r->values[i], &outputs[i], &r->blocks[i], err);
        }
    }
    return rc;
}

int32_t ort_submit(overtake_instance *inst, const overtake_submission *s, overtake_error *err)
{
    if (s->deadline_ns != 0 && ort_host->now_ns(ort_host->self) >= s->deadline_ns) {
        return ort_fail(err, OVERTAKE_TIMEOUT, "the deadline passed before the run");
    }
    if (s->n_outputs > ORT_OUTPUTS_MAX || s->n_inputs > ORT_INPUTS_MAX) {
        return ort_fail(err, OVERTAKE_INVALID, "too many inputs or outputs");
    }
    result *r = ort_host->alloc(ort_host->self, sizeof *r);
    if (r == NULL) {
        return ort_fail(err, OVERTAKE_EXHAUSTED, "a run: out of memory");
    }
    r->n = s->n_outputs;
    memset(r->values, 0, r->n * sizeof r->values[0]);
    memset(r->blocks, 0, r->n * sizeof r->blocks[0]);
    overtake_output outputs[ORT_OUTPUTS_MAX];
    int32_t rc = run_with(inst, s, r, outputs, err);
    if (rc != OVERTAKE_OK) {
        release(r);
        return rc;
    }
    overtake_response response = {
        .struct_size = sizeof response,
        .ticket = s->ticket,
        .flags = OVERTAKE_RESPONSE_FINAL | OVERTAKE_RESPONSE_INLINE,
        .n_outputs = s->n_outputs,
        .outputs = outputs,
        .token = r,
    };
    s->respond(s->user, &response);
    return OVERTAKE_OK;
}

void ort_cancel(overtake_instance *inst, uint64_t ticket)
{
    pthread_mutex_lock(&inst->lock);
    if (inst->running == ticket && !inst->terminated) {
        overtake_error ignored;
        inst->terminated = ort_check(ort.api.RunOptionsSetTerminate(inst->run_options), &ignored,
                                     "") == OVERTAKE_OK;
    }
    pthread_mutex_unlock(&inst->lock);
}
