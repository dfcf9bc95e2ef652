/* The operations, over scattered inputs. */
#include "null.h"

#include <math.h>
#include <string.h>

/* An input that may lie in several segments is read as one stream of bytes. */
typedef struct stream {
    const overtake_input *in;
    uint32_t segment;
    uint64_t at;
} stream;

static void take(stream *s, void *to, uint64_t n)
{
    uint8_t *p = to;
    while (n > 0 && s->segment < s->in->n_segments) {
        const overtake_segment *g = &s->in->segments[s->segment];
        uint64_t k = g->size_bytes - s->at < n ? g->size_bytes - s->at : n;
        if (k > 0) {
            memcpy(p, (const uint8_t *)g->data + s->at, k);
        }
        p += k;
        n -= k;
        s->at += k;
        if (s->at == g->size_bytes) {
            s->segment++;
            s->at = 0;
        }
    }
}

static uint64_t input_bytes(const overtake_input *in)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < in->n_segments; i++) {
        n += in->segments[i].size_bytes;
    }
    return n;
}

static int64_t rows_of(const overtake_input *in)
{
    return in->rank > 0 ? in->dims[0] : 1;
}

static int64_t elements(const int64_t *dims, int32_t rank)
{
    int64_t n = 1; /* the host checked the product of an input; outputs are no larger */
    for (int32_t i = 0; i < rank; i++) {
        n *= dims[i];
    }
    return n;
}

/* Type, shape and size of output k of the signature for this run. */
static void shape_output(const overtake_model *m, const overtake_submission *s, uint32_t k,
                         overtake_output *out)
{
    memset(out, 0, sizeof *out);
    out->name = m->outputs[k].name;
    out->dtype = m->outputs[k].dtype;
    out->rank = m->outputs[k].rank;
    memcpy(out->dims, m->outputs[k].dims, sizeof out->dims);
    if (m->op == NULL_OP_IDENTITY) {
        memcpy(out->dims, s->inputs[k].dims, sizeof out->dims);
        out->size_bytes = input_bytes(&s->inputs[k]);
        return;
    }
    if (m->op == NULL_OP_CENTER) {
        memcpy(out->dims, s->inputs[0].dims, sizeof out->dims);
    }
    out->dims[0] = rows_of(&s->inputs[0]);
    uint64_t size = out->dtype == OVERTAKE_DT_INT64 ? sizeof(int64_t) : sizeof(float);
    out->size_bytes = (uint64_t)elements(out->dims, out->rank) * size;
}

static void softmax(float *y, int64_t m)
{
    float top = y[0], sum = 0;
    for (int64_t k = 1; k < m; k++) {
        top = y[k] > top ? y[k] : top;
    }
    for (int64_t k = 0; k < m; k++) {
        y[k] = expf(y[k] - top);
        sum += y[k];
    }
    for (int64_t k = 0; k < m; k++) {
        y[k] /= sum;
    }
}

/* x (n) -> y (m) */
static void linear_row(const overtake_model *m, const float *x, int64_t n, float *y, int64_t width)
{
    for (int64_t k = 0; k < width; k++) {
        y[k] = m->n_bias > 0 ? m->bias[k] : 0;
    }
    for (int64_t i = 0; i < n; i++) {
        for (int64_t k = 0; k < width; k++) {
            y[k] += x[i] * m->weights[i * width + k];
        }
    }
    if (m->softmax) {
        softmax(y, width);
    }
}

static int64_t largest(const float *y, int64_t width)
{
    int64_t best = 0;
    for (int64_t k = 1; k < width; k++) {
        best = y[k] > y[best] ? k : best;
    }
    return best;
}

/* sum and linear: where each output of the signature goes, NULL when it isn't asked for */
typedef struct rows_job {
    const overtake_model *m;
    float *first;
    int64_t *second;
    bool fail_on_nan;
} rows_job;

static bool row_has_nan(const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        if (isnan(x[i])) {
            return true;
        }
    }
    return false;
}

/* The part that row r belongs to gets `code`; false when no part has it. */
static bool fail_row(const overtake_submission *s, int64_t r, int32_t *part_status, int32_t code)
{
    for (uint32_t p = 0; p < s->n_parts; p++) {
        if (r >= s->parts[p].first_row && r - s->parts[p].first_row < s->parts[p].n_rows) {
            part_status[p] = code;
            return true;
        }
    }
    return false;
}

static int32_t compute_rows(const rows_job *job, const overtake_submission *s, int32_t *part_status,
                            overtake_error *err)
{
    const overtake_input *in = &s->inputs[0];
    int64_t rows = rows_of(in), n = rows > 0 ? elements(in->dims, in->rank) / rows : 0;
    int64_t width = job->m->op == NULL_OP_LINEAR ? job->m->outputs[0].dims[1] : 1;
    float *x = null_alloc((size_t)(n + width + 1) * sizeof *x);
    if (x == NULL) {
        return null_fail(err, OVERTAKE_EXHAUSTED, "a row of %lld floats: out of memory",
                         (long long)n);
    }
    float *y = x + n;
    stream from = {.in = in};
    int32_t rc = OVERTAKE_OK;
    for (int64_t r = 0; r < rows && rc == OVERTAKE_OK; r++) {
        take(&from, x, (uint64_t)n * sizeof *x);
        if (job->m->op == NULL_OP_LINEAR) {
            linear_row(job->m, x, n, y, width);
        } else {
            y[0] = 0;
            for (int64_t i = 0; i < n; i++) {
                y[0] += x[i];
            }
        }
        if (job->fail_on_nan && row_has_nan(x, n) &&
            !fail_row(s, r, part_status, OVERTAKE_INVALID)) {
            rc = null_fail(err, OVERTAKE_INVALID, "input '%s' has a NaN in row %lld", in->name,
                           (long long)r);
        }
        if (job->first != NULL) {
            memcpy(job->first + r * width, y, (size_t)width * sizeof *y);
        }
        if (job->second != NULL) {
            job->second[r] = largest(y, width);
        }
    }
    null_free(x);
    return rc;
}

/* The whole batch at once: y is (rows,n). */
static void center(const overtake_input *in, float *y)
{
    stream from = {.in = in};
    int64_t rows = rows_of(in), n = rows > 0 ? elements(in->dims, in->rank) / rows : 0;
    take(&from, y, (uint64_t)(rows * n) * sizeof *y);
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int64_t r = 0; r < rows; r++) {
            sum += y[r * n + i];
        }
        for (int64_t r = 0; r < rows; r++) {
            y[r * n + i] -= (float)(sum / (double)rows);
        }
    }
}

static uint32_t output_index(const overtake_model *m, const char *name)
{
    uint32_t k = 0;
    while (k + 1 < m->n_outputs && strcmp(m->outputs[k].name, name) != 0) {
        k++;
    }
    return k;
}

/* Gives each output its memory: the host's buffer or a place in one block of ours. */
static int32_t place_outputs(const overtake_submission *s, bool may_use_buffers,
                             overtake_output *outputs, void **token_out, overtake_error *err)
{
    uint64_t own = 0;
    for (uint32_t i = 0; i < s->n_outputs; i++) {
        const overtake_output_request *q = &s->outputs[i];
        bool fits = may_use_buffers && q->buffer != NULL && outputs[i].size_bytes <= q->capacity;
        outputs[i].data = fits ? q->buffer : NULL;
        own += fits ? 0 : (outputs[i].size_bytes + 63) / 64 * 64;
    }
    uint8_t *block = NULL;
    if (own > 0 && (block = null_alloc(own)) == NULL) {
        return null_fail(err, OVERTAKE_EXHAUSTED, "outputs of %llu bytes: out of memory",
                         (unsigned long long)own);
    }
    uint64_t at = 0;
    for (uint32_t i = 0; i < s->n_outputs; i++) {
        if (outputs[i].data == NULL && outputs[i].size_bytes > 0) {
            outputs[i].data = block + at;
            at += (outputs[i].size_bytes + 63) / 64 * 64;
        }
    }
    *token_out = block;
    return OVERTAKE_OK;
}

/* ISO C has no cast from const void * to void * without a warning; the memory is ours to write. */
static void *writable(const overtake_output *out)
{
    void *p;
    memcpy(&p, &out->data, sizeof p);
    return p;
}

int32_t null_compute(const overtake_model *m, const overtake_submission *s, bool may_use_buffers,
                     overtake_output *outputs, int32_t *part_status, void **token_out,
                     overtake_error *err)
{
    rows_job job = {.m = m, .fail_on_nan = m->how.fail_on_nan};
    for (uint32_t i = 0; i < s->n_outputs; i++) {
        shape_output(m, s, output_index(m, s->outputs[i].name), &outputs[i]);
    }
    int32_t rc = place_outputs(s, may_use_buffers, outputs, token_out, err);
    if (rc != OVERTAKE_OK) {
        return rc;
    }
    memset(part_status, 0, s->n_parts * sizeof *part_status);
    for (uint32_t i = 0; i < s->n_outputs; i++) {
        uint32_t k = output_index(m, s->outputs[i].name);
        if (m->op == NULL_OP_IDENTITY) {
            stream from = {.in = &s->inputs[k]};
            take(&from, writable(&outputs[i]), outputs[i].size_bytes);
        } else if (m->op == NULL_OP_CENTER) {
            center(&s->inputs[0], writable(&outputs[i]));
        } else if (k == 0) {
            job.first = writable(&outputs[i]);
        } else {
            job.second = writable(&outputs[i]);
        }
    }
    if (m->op == NULL_OP_SUM || m->op == NULL_OP_LINEAR) {
        rc = compute_rows(&job, s, part_status, err);
    }
    if (rc != OVERTAKE_OK) {
        null_free(*token_out);
        *token_out = NULL;
    }
    return rc;
}

bool null_any_part_failed(const overtake_submission *s, const int32_t *part_status)
{
    for (uint32_t p = 0; p < s->n_parts; p++) {
        if (part_status[p] != OVERTAKE_OK) {
            return true;
        }
    }
    return false;
}
