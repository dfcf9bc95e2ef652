#include "serve/count.h"

#include "base/mem.h"
#include "model/prediction.h"

#include <math.h>
#include <string.h>

#define LEVEL_MAX 16
#define CHUNK_ROWS 64

const uint32_t ot_latency_step_us[OT_LATENCY_STEPS - 1] = {
    2,     5,     10,    20,     50,     100,    200,     500,     1000,    2000,    5000,
    10000, 20000, 50000, 100000, 200000, 500000, 1000000, 2000000, 5000000, 10000000};

unsigned ot_latency_step(uint64_t us)
{
    unsigned i = 0;
    while (i < OT_LATENCY_STEPS - 1 && us > ot_latency_step_us[i]) {
        i++;
    }
    return i;
}

/* ---- schema */

/* Numbers a row has over all inputs; 0 when that is not fixed, or not numeric. */
static size_t row_numbers(const ot_manifest *sig)
{
    size_t total = 0;
    for (size_t i = 0; i < sig->n_inputs; i++) {
        const ot_tensor_spec *spec = &sig->inputs[i];
        size_t n = 1;
        for (int k = 1; k < spec->rank; k++) {
            if (spec->dims[k] < 0) {
                return 0;
            }
            n *= (size_t)spec->dims[k];
        }
        if (spec->dtype == OT_DT_BYTES || spec->rank == 0) {
            return 0;
        }
        total += n;
    }
    return total;
}

static ot_rc read_inputs(ot_count_schema *s, const ot_manifest *sig, const void *p, size_t n,
                         ot_error *err)
{
    ot_hist_schema *schema;
    OT_TRY(ot_hist_reference_read(p, n, &schema, &s->inputs_reference, err));
    s->inputs = schema;
    size_t features = ot_hist_schema_features(schema), numbers = row_numbers(sig);
    if (features != numbers) {
        return ot_fail(
            err, OT_INVALID,
            "reference/trained_on.hist has %zu features; a row of the model's inputs has "
            "%zu numbers",
            features, numbers);
    }
    return OT_OK;
}

ot_rc ot_count_schema_read(ot_count_schema *s, const ot_manifest *sig, const void *inputs,
                           size_t n_inputs, const void *outputs, size_t n_outputs, ot_error *err)
{
    *s = (ot_count_schema){.prediction = -1,
                           .confidence = -1,
                           .kind = sig->prediction_kind,
                           .output = sig->prediction_output};
    ot_rc rc = OT_OK;
    if (n_inputs > 0) {
        rc = read_inputs(s, sig, inputs, n_inputs, err);
    }
    if (rc == OT_OK && n_outputs > 0 && s->kind != OT_PREDICTION_NONE) {
        ot_hist_schema *schema;
        rc = ot_hist_reference_read(outputs, n_outputs, &schema, &s->outputs_reference, err);
        if (rc == OT_OK) {
            s->outputs = schema;
            s->prediction = ot_hist_schema_find(schema, "prediction");
            s->confidence = ot_hist_schema_find(schema, "confidence");
        }
    }
    if (rc != OT_OK) {
        ot_count_schema_done(s);
    }
    return rc;
}

void ot_count_schema_done(ot_count_schema *s)
{
    if (s->inputs != NULL) {
        ot_hist_table_done(&s->inputs_reference);
    }
    if (s->outputs != NULL) {
        ot_hist_table_done(&s->outputs_reference);
    }
    ot_hist_schema_destroy(s->inputs);
    ot_hist_schema_destroy(s->outputs);
    s->inputs = s->outputs = NULL;
}

/* ---- cells */

ot_rc ot_cell_create(const ot_count_schema *s, ot_cell **cell_out, ot_error *err)
{
    ot_cell *c = ot_calloc(1, sizeof *c);
    if (c == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "counts: out of memory");
    }
    ot_rc rc = OT_OK;
    if (s->inputs != NULL) {
        rc = ot_hist_table_init(&c->inputs, s->inputs, err);
        c->has_inputs = rc == OT_OK;
    }
    if (rc == OT_OK && s->outputs != NULL) {
        rc = ot_hist_table_init(&c->outputs, s->outputs, err);
        c->has_outputs = rc == OT_OK;
    }
    if (rc != OT_OK) {
        ot_cell_destroy(c);
        return rc;
    }
    *cell_out = c;
    return OT_OK;
}

void ot_cell_destroy(ot_cell *c)
{
    if (c == NULL) {
        return;
    }
    if (c->has_inputs) {
        ot_hist_table_done(&c->inputs);
    }
    if (c->has_outputs) {
        ot_hist_table_done(&c->outputs);
    }
    ot_free(c);
}

void ot_cell_clear(ot_cell *c)
{
    if (c->requests == 0 && c->failed == 0) {
        return;
    }
    c->requests = c->rows = c->failed = c->counted = 0;
    if (c->has_inputs) {
        ot_hist_table_clear(&c->inputs);
    }
    if (c->has_outputs) {
        ot_hist_table_clear(&c->outputs);
    }
    ot_latency_clear(&c->latency);
}

ot_rc ot_cell_merge(ot_cell *into, const ot_cell *from, ot_error *err)
{
    if (from->requests == 0 && from->failed == 0) {
        return OT_OK;
    }
    if (from->has_inputs) {
        OT_TRY(ot_hist_table_merge(&into->inputs, &from->inputs, err));
    }
    if (from->has_outputs) {
        OT_TRY(ot_hist_table_merge(&into->outputs, &from->outputs, err));
    }
    into->requests += from->requests;
    into->rows += from->rows;
    into->failed += from->failed;
    into->counted += from->counted;
    ot_latency_merge(&into->latency, &from->latency);
    return OT_OK;
}

/* ---- rows */

void ot_count_scratch_done(ot_count_scratch *s)
{
    ot_free(s->row);
    *s = (ot_count_scratch){0};
}

static bool reserve(ot_count_scratch *s, size_t n)
{
    if (n <= s->cap) {
        return true;
    }
    float *grown = ot_realloc(s->row, n * sizeof *grown);
    if (grown == NULL) {
        return false;
    }
    s->row = grown;
    s->cap = n;
    return true;
}

static void count_inputs(const ot_count_schema *s, ot_cell *cell, ot_count_scratch *scratch,
                         const ot_tensor *inputs, size_t n_inputs, int64_t rows)
{
    size_t features = cell->inputs.features;
    if (n_inputs == 1 && inputs[0].dtype == OT_DT_FP32 &&
        ((uintptr_t)inputs[0].data & (sizeof(float) - 1)) == 0) {
        ot_hist_add_rows(s->inputs, &cell->inputs, inputs[0].data, (size_t)rows, features);
        return;
    }
    if (!reserve(scratch, features)) {
        return;
    }
    for (int64_t r = 0; r < rows; r++) {
        float *to = scratch->row;
        for (size_t i = 0; i < n_inputs; i++) {
            int64_t per_row = ot_tensor_count(&inputs[i]) / rows;
            if (inputs[i].dtype == OT_DT_FP32) {
                memcpy(to, (const uint8_t *)inputs[i].data + (size_t)(r * per_row) * sizeof(float),
                       (size_t)per_row * sizeof(float));
                to += per_row;
                continue;
            }
            for (int64_t k = 0; k < per_row; k++) {
                *to++ = (float)ot_tensor_f64_at(&inputs[i], r * per_row + k);
            }
        }
        ot_hist_add_rows(s->inputs, &cell->inputs, scratch->row, 1, features);
    }
}

static void count_outputs(const ot_count_schema *s, ot_cell *cell, ot_count_scratch *scratch,
                          const ot_tensor *outputs, size_t n_outputs, int64_t rows)
{
    size_t features = cell->outputs.features;
    if (s->output >= n_outputs || !reserve(scratch, features)) {
        return;
    }
    const ot_tensor *t = &outputs[s->output];
    for (int64_t at = 0; at < rows; at += CHUNK_ROWS) {
        ot_prediction p[CHUNK_ROWS];
        int64_t n = OT_MIN((int64_t)CHUNK_ROWS, rows - at);
        ot_tensor part = *t;
        if (t->rank > 0 && rows > n) {
            size_t row_bytes = t->size_bytes / (size_t)rows;
            part.dims[0] = n;
            part.data = (const uint8_t *)t->data + (size_t)at * row_bytes;
            part.size_bytes = (size_t)n * row_bytes;
        }
        if (ot_prediction_read(s->kind, &part, n, p, NULL) != OT_OK) {
            return;
        }
        for (int64_t k = 0; k < n; k++) {
            for (size_t f = 0; f < features; f++) {
                scratch->row[f] = NAN;
            }
            if (s->prediction >= 0) {
                scratch->row[s->prediction] = (float)p[k].value;
            }
            if (s->confidence >= 0) {
                scratch->row[s->confidence] = (float)p[k].confidence;
            }
            ot_hist_add_rows(s->outputs, &cell->outputs, scratch->row, 1, features);
        }
    }
}

void ot_count_rows(const ot_count_schema *s, ot_cell *cell, ot_count_scratch *scratch,
                   const ot_tensor *inputs, size_t n_inputs, const ot_tensor *outputs,
                   size_t n_outputs, int64_t rows)
{
    if (rows <= 0) {
        return;
    }
    if (cell->has_inputs) {
        count_inputs(s, cell, scratch, inputs, n_inputs, rows);
    }
    if (cell->has_outputs) {
        count_outputs(s, cell, scratch, outputs, n_outputs, rows);
    }
    cell->counted += (uint64_t)rows;
}

/* ---- budget */

void ot_budget_spend(ot_budget *b, uint64_t now_ns, uint64_t ns)
{
    b->spent_ns += ns;
    b->spent_total_ns += ns;
    if (b->fraction >= 1 || now_ns - b->start_ns < OT_BUDGET_LOOK_NS) {
        return;
    }
    double share = (double)b->spent_ns / (double)(now_ns - b->start_ns);
    if (share > b->fraction && b->level < LEVEL_MAX) {
        b->level++;
    } else if (share < b->fraction / 4 && b->level > 0) {
        b->level--;
    }
    b->start_ns = now_ns;
    b->spent_ns = 0;
}
