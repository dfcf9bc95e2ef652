/* Runs: input tensors over the caller's memory, outputs in TensorFlow's, held until released. */
#include "tf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct staging {
    void *data;
    uint64_t cap;
} staging;

/* The token: what the outputs of one response hold on to. */
typedef struct result {
    uint32_t n;
    TF_Tensor *values[TF_OUTPUTS_MAX];
    void *blocks[TF_OUTPUTS_MAX]; /* serialised strings, and copies */
} result;

struct overtake_instance {
    overtake_model *model;
    TF_Status *status;
    staging stages[TF_TENSORS_MAX];
};

int32_t tf_instance_create(overtake_model *m, overtake_instance **out, overtake_error *err)
{
    overtake_instance *inst = tf_host->alloc(tf_host->self, sizeof *inst);
    if (inst == NULL) {
        return tf_fail(err, OVERTAKE_EXHAUSTED, "instance: out of memory");
    }
    memset(inst, 0, sizeof *inst);
    inst->model = m;
    inst->status = tf.NewStatus();
    *out = inst;
    return OVERTAKE_OK;
}

void tf_instance_destroy(overtake_instance *inst)
{
    for (uint32_t i = 0; i < inst->model->signature->n_inputs; i++) {
        free(inst->stages[i].data);
    }
    tf.DeleteStatus(inst->status);
    tf_host->free(tf_host->self, inst);
}

/* ---- inputs */

static void keep(void *data, size_t n, void *arg)
{
    (void)data; /* the caller's or the instance's memory */
    (void)n;
    (void)arg;
}

static uint64_t count_of(const int64_t *dims, int32_t rank)
{
    uint64_t n = 1;
    for (int32_t i = 0; i < rank; i++) {
        n *= (uint64_t)dims[i];
    }
    return n;
}

static int32_t gather(staging *st, const overtake_input *in, uint64_t size, overtake_error *err)
{
    if (st->cap < size) {
        uint64_t cap = (2 * size + 63) / 64 * 64;
        void *p = aligned_alloc(64, cap);
        if (p == NULL) {
            return tf_fail(err, OVERTAKE_EXHAUSTED, "input '%s': %llu bytes: out of memory",
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

/* Elements as views of the segments: nothing is copied, and nothing needs freeing. */
static int32_t make_strings(const overtake_input *in, TF_Tensor **out, overtake_error *err)
{
    uint64_t count = count_of(in->dims, in->rank), k = 0, size = 0;
    for (uint32_t i = 0; i < in->n_segments; i++) {
        size += in->segments[i].size_bytes;
    }
    if (count > size / 4) {
        return tf_fail(err, OVERTAKE_INVALID, "input '%s': fewer elements than its shape says",
                       in->name);
    }
    TF_Tensor *t = tf.AllocateTensor(TFT_STRING, in->dims, in->rank, count * sizeof(TF_TString));
    TF_TString *strings = t != NULL ? tf.TensorData(t) : NULL;
    if (t == NULL || (strings == NULL && count > 0)) {
        return tf_fail(err, OVERTAKE_EXHAUSTED, "input '%s': out of memory", in->name);
    }
    for (uint64_t i = 0; i < count; i++) {
        tf.StringInit(&strings[i]);
    }
    for (uint32_t i = 0; i < in->n_segments; i++) {
        const uint8_t *p = in->segments[i].data;
        uint64_t left = in->segments[i].size_bytes;
        while (left >= 4 && k < count) {
            uint32_t n =
                (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
            if (n > left - 4) {
                break;
            }
            tf.StringAssignView(&strings[k++], (const char *)p + 4, n);
            p += 4 + (uint64_t)n;
            left -= 4 + (uint64_t)n;
        }
        if (left > 0) {
            break;
        }
    }
    *out = t;
    return k == count ? OVERTAKE_OK
                      : tf_fail(err, OVERTAKE_INVALID, "input '%s': broken elements", in->name);
}

static int32_t make_input(staging *st, const overtake_input *in, TF_Tensor **out,
                          overtake_error *err)
{
    if (in->dtype == OVERTAKE_DT_BYTES) {
        return make_strings(in, out, err);
    }
    uint64_t size = 0;
    void *data = NULL;
    for (uint32_t i = 0; i < in->n_segments; i++) {
        size += in->segments[i].size_bytes;
    }
    TF_DataType type = (TF_DataType)tf_type_of(in->dtype);
    if (size == 0) {
        *out = tf.AllocateTensor(type, in->dims, in->rank, 0);
    } else {
        if (in->n_segments == 1) {
            memcpy(&data, &in->segments[0].data, sizeof data); /* TensorFlow only reads it */
        } else {
            int32_t rc = gather(st, in, size, err);
            if (rc != OVERTAKE_OK) {
                return rc;
            }
            data = st->data;
        }
        /* Unaligned memory is copied by TensorFlow. */
        *out = tf.NewTensor(type, in->dims, in->rank, data, size, keep, NULL);
    }
    return *out != NULL ? OVERTAKE_OK
                        : tf_fail(err, OVERTAKE_EXHAUSTED, "input '%s': no tensor", in->name);
}

/* ---- outputs */

static int32_t serialise(const TF_Tensor *t, overtake_output *out, void **block,
                         overtake_error *err)
{
    const TF_TString *strings = tf.TensorData(t);
    uint64_t count = count_of(out->dims, out->rank), size = 0;
    for (uint64_t i = 0; i < count; i++) {
        size += 4 + tf.StringGetSize(&strings[i]);
    }
    uint8_t *p = tf_host->alloc(tf_host->self, size + 1);
    if (p == NULL) {
        return tf_fail(err, OVERTAKE_EXHAUSTED, "output '%s': out of memory", out->name);
    }
    *block = p;
    out->data = p;
    out->size_bytes = size;
    for (uint64_t i = 0; i < count; i++) {
        size_t n = tf.StringGetSize(&strings[i]);
        for (int b = 0; b < 4; b++) {
            *p++ = (uint8_t)(n >> (8 * b));
        }
        memcpy(p, tf.StringGetDataPointer(&strings[i]), n);
        p += n;
    }
    return OVERTAKE_OK;
}

/* A graph that passes an input through answers with the input's own memory, which the caller takes
 * back: such an output is copied. */
static bool lies_in_input(const overtake_instance *inst, const overtake_submission *s,
                          const void *data)
{
    uintptr_t p = (uintptr_t)data;
    for (uint32_t i = 0; i < s->n_inputs; i++) {
        uintptr_t stage = (uintptr_t)inst->stages[i].data;
        if (stage != 0 && p >= stage && p < stage + inst->stages[i].cap) {
            return true;
        }
        for (uint32_t k = 0; k < s->inputs[i].n_segments; k++) {
            uintptr_t at = (uintptr_t)s->inputs[i].segments[k].data;
            if (at != 0 && p >= at && p < at + s->inputs[i].segments[k].size_bytes) {
                return true;
            }
        }
    }
    return false;
}

static int32_t read_output(const overtake_instance *inst, const overtake_submission *s,
                           const TF_Tensor *t, overtake_output *out, void **block,
                           overtake_error *err)
{
    out->dtype = tf_dtype_of((int)tf.TensorType(t));
    out->rank = tf.NumDims(t);
    if (out->rank < 0 || out->rank > OVERTAKE_RANK_MAX) {
        return tf_fail(err, OVERTAKE_INTERNAL, "output '%s' has %d axes; the limit is %d",
                       out->name, out->rank, OVERTAKE_RANK_MAX);
    }
    for (int32_t a = 0; a < out->rank; a++) {
        out->dims[a] = tf.Dim(t, a);
    }
    if (out->dtype == OVERTAKE_DT_BYTES) {
        return serialise(t, out, block, err);
    }
    out->data = tf.TensorData(t);
    out->size_bytes = tf.TensorByteSize(t);
    if (out->size_bytes > 0 && lies_in_input(inst, s, out->data)) {
        *block = tf_host->alloc(tf_host->self, out->size_bytes);
        if (*block == NULL) {
            return tf_fail(err, OVERTAKE_EXHAUSTED, "output '%s': out of memory", out->name);
        }
        memcpy(*block, out->data, out->size_bytes);
        out->data = *block;
    }
    return OVERTAKE_OK;
}

static void release(result *r)
{
    for (uint32_t i = 0; i < r->n; i++) {
        if (r->values[i] != NULL) {
            tf.DeleteTensor(r->values[i]);
        }
        tf_host->free(tf_host->self, r->blocks[i]);
    }
    tf_host->free(tf_host->self, r);
}

void tf_release(overtake_instance *inst, void *token)
{
    (void)inst;
    release(token);
}

/* ---- a run */

static uint32_t output_index(const overtake_model *m, const char *name)
{
    uint32_t k = 0;
    while (k + 1 < m->signature->n_outputs && m->outputs[k].name != name &&
           strcmp(m->outputs[k].name, name) != 0) {
        k++;
    }
    return k;
}

static int32_t run_with(overtake_instance *inst, const overtake_submission *s, result *r,
                        overtake_output *outputs, overtake_error *err)
{
    const overtake_model *m = inst->model;
    TF_Tensor *inputs[TF_TENSORS_MAX];
    TF_Output fetches[TF_OUTPUTS_MAX];
    uint32_t made = 0;
    int32_t rc = OVERTAKE_OK;
    for (; made < s->n_inputs && rc == OVERTAKE_OK; made++) {
        inputs[made] = NULL;
        rc = make_input(&inst->stages[made], &s->inputs[made], &inputs[made], err);
    }
    for (uint32_t i = 0; i < s->n_outputs; i++) {
        fetches[i] = m->fetches[output_index(m, s->outputs[i].name)];
    }
    if (rc == OVERTAKE_OK) {
        tf.SessionRun(m->shared->session, NULL, m->feeds, inputs, (int)s->n_inputs, fetches,
                      r->values, (int)s->n_outputs, NULL, 0, NULL, inst->status);
        rc = tf_check(inst->status, err, "run");
    }
    for (uint32_t i = 0; i < s->n_outputs && rc == OVERTAKE_OK; i++) {
        memset(&outputs[i], 0, sizeof outputs[i]);
        outputs[i].name = s->outputs[i].name;
        rc = read_output(inst, s, r->values[i], &outputs[i], &r->blocks[i], err);
    }
    for (uint32_t i = 0; i < made; i++) {
        if (inputs[i] != NULL) {
            tf.DeleteTensor(inputs[i]);
        }
    }
    return rc;
}

int32_t tf_submit(overtake_instance *inst, const overtake_submission *s, overtake_error *err)
{
    if (s->deadline_ns != 0 && tf_host->now_ns(tf_host->self) >= s->deadline_ns) {
        return tf_fail(err, OVERTAKE_TIMEOUT, "the deadline passed before the run");
    }
    if (s->n_outputs > TF_OUTPUTS_MAX || s->n_inputs > TF_TENSORS_MAX) {
        return tf_fail(err, OVERTAKE_INVALID, "too many inputs or outputs");
    }
    result *r = tf_host->alloc(tf_host->self, sizeof *r);
    if (r == NULL) {
        return tf_fail(err, OVERTAKE_EXHAUSTED, "a run: out of memory");
    }
    r->n = s->n_outputs;
    memset(r->values, 0, r->n * sizeof r->values[0]);
    memset(r->blocks, 0, r->n * sizeof r->blocks[0]);
    overtake_output outputs[TF_OUTPUTS_MAX];
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
