#include "serve/count.h"
#include "serve/drift.h"

#include "base/mem.h"
#include "base/random.h"
#include "model/reference.h"
#include "tap.h"

#include <stdlib.h>
#include <string.h>

enum { FEATURES = 6, ROWS = 500 };

static float rows[ROWS * FEATURES];
static float scores[ROWS * 3];

static ot_tensor tensor(const char *name, const void *data, int64_t n, int64_t columns)
{
    return (ot_tensor){.name = name,
                       .dtype = OT_DT_FP32,
                       .rank = 2,
                       .dims = {n, columns},
                       .data = data,
                       .size_bytes = (size_t)(n * columns) * sizeof(float)};
}

static void signature(ot_manifest *m)
{
    ot_manifest_init(m);
    m->inputs = ot_arena_calloc(&m->arena, 1, sizeof *m->inputs);
    m->outputs = ot_arena_calloc(&m->arena, 1, sizeof *m->outputs);
    m->inputs[0] =
        (ot_tensor_spec){.name = "x", .dtype = OT_DT_FP32, .rank = 2, .dims = {-1, FEATURES}};
    m->outputs[0] = (ot_tensor_spec){.name = "y", .dtype = OT_DT_FP32, .rank = 2, .dims = {-1, 3}};
    m->n_inputs = m->n_outputs = 1;
    m->prediction_kind = OT_PREDICTION_SCORES;
}

static void references(ot_str *inputs, ot_str *outputs)
{
    ot_rng rng;
    ot_rng_seed(&rng, 3);
    for (size_t i = 0; i < OT_COUNT(rows); i++) {
        rows[i] = (float)ot_rng_normal(&rng);
    }
    for (size_t i = 0; i < OT_COUNT(scores); i++) {
        scores[i] = (float)ot_rng_uniform(&rng);
    }
    ot_tensor x = tensor("x", rows, ROWS, FEATURES), y = tensor("y", scores, ROWS, 3);
    static ot_prediction p[ROWS];
    OT_AUTO(ot_reference_done) ot_reference in = {0};
    OT_AUTO(ot_reference_done) ot_reference out = {0};
    if (ot_reference_of_inputs(&x, 1, ROWS, &in, NULL) != OT_OK ||
        ot_prediction_read(OT_PREDICTION_SCORES, &y, ROWS, p, NULL) != OT_OK ||
        ot_reference_of_predictions(OT_PREDICTION_SCORES, p, ROWS, &out, NULL) != OT_OK ||
        ot_reference_write(&in, inputs, NULL) != OT_OK ||
        ot_reference_write(&out, outputs, NULL) != OT_OK) {
        exit(1);
    }
}

/* The last of a feature's cells is padding. */
static int differing(const ot_hist_table *a, const ot_hist_table *b)
{
    int n = 0;
    for (size_t f = 0; f < a->features; f++) {
        n += memcmp(ot_hist_table_cells(a, f), ot_hist_table_cells(b, f),
                    (OT_HIST_CELLS - 1) * sizeof(uint32_t)) != 0;
    }
    return n;
}

/* The same rows, however they are cut and wherever they lie, give the reference's own counts. */
static void counts_are_the_references(const ot_count_schema *s)
{
    ot_cell *a, *b;
    ot_count_scratch scratch = {0};
    ok(ot_cell_create(s, &a, NULL) == OT_OK && ot_cell_create(s, &b, NULL) == OT_OK, "cells");
    static uint8_t odd[sizeof rows + 1];
    memcpy(odd + 1, rows, sizeof rows);
    for (int64_t at = 0; at < ROWS;) {
        int64_t n = OT_MIN(1 + at % 90, ROWS - at);
        const void *data = at % 2 == 0 ? (const void *)(rows + at * FEATURES)
                                       : odd + 1 + (size_t)at * FEATURES * sizeof(float);
        ot_tensor x = tensor("x", data, n, FEATURES), y = tensor("y", scores + at * 3, n, 3);
        ot_count_rows(s, at % 3 == 0 ? a : b, &scratch, &x, 1, &y, 1, n);
        at += n;
    }
    a->requests = b->requests = 1;
    is_int(ot_cell_merge(a, b, NULL), OT_OK, "merged");
    is_int(a->counted, ROWS, "every row");
    is_int(differing(&a->inputs, &s->inputs_reference), 0, "inputs count like the reference");
    is_int(differing(&a->outputs, &s->outputs_reference), 0, "predictions and confidence too");
    ot_drift d = {0};
    ot_drift_compare(s->inputs, &s->inputs_reference, &a->inputs, &d);
    ok(d.n == OT_DRIFT_TOP && d.top[0].psi == 0 && fabs(d.top[0].shift) < 1e-9, "no drift");
    ot_cell_clear(a);
    is_int(a->inputs.rows, 0, "cleared");
    ot_cell_clear(b);
    b->failed = 3; /* another version answered for this one */
    is_int(ot_cell_merge(a, b, NULL), OT_OK, "failures without a request of its own merge");
    ot_cell_clear(b);
    ok(a->failed == 3 && b->failed == 0, "and are cleared");
    ot_cell_clear(a);
    for (size_t i = 0; i < ROWS; i++) {
        rows[i * FEATURES + 4] += 1;
    }
    ot_tensor x = tensor("x", rows, ROWS, FEATURES), y = tensor("y", scores, ROWS, 3);
    ot_count_rows(s, a, &scratch, &x, 1, &y, 1, ROWS);
    ot_drift_compare(s->inputs, &s->inputs_reference, &a->inputs, &d);
    is_str(d.top[0].name, "x_4", "what moved is named");
    ok(d.top[0].shift > 0.7 && d.top[0].psi > 10 * d.top[1].psi, "and by how much: %.2f",
       d.top[0].shift);
    ot_count_rows(s, a, &scratch, &x, 1, &y, 1, 0);
    ot_cell_destroy(a);
    ot_cell_destroy(b);
    ot_count_scratch_done(&scratch);
}

static void budget(void)
{
    ot_budget b = {.fraction = 0.02};
    uint64_t now = 0;
    for (int i = 0; i < 200; i++) { /* a tenth of the time is spent */
        now += 1000000;
        ot_budget_spend(&b, now, 100000 >> b.level);
    }
    ok(b.level >= 2 && b.level <= 3, "thinned to the budget: one in %u", 1u << b.level);
    int taken = 0;
    for (uint64_t h = 0; h < 1024; h++) {
        taken += ot_budget_takes(&b, h);
    }
    is_int(taken, 1024 >> b.level, "by the hash alone");
    for (int i = 0; i < 1000; i++) {
        now += 1000000;
        ot_budget_spend(&b, now, 100);
    }
    is_int(b.level, 0, "and back to every row");
    ot_budget all = {.fraction = 1};
    for (int i = 0; i < 100; i++) {
        ot_budget_spend(&all, (uint64_t)i * OT_BUDGET_LOOK_NS, OT_BUDGET_LOOK_NS);
    }
    is_int(all.level, 0, "without a limit every row counts");
}

int main(void)
{
    ot_manifest m;
    OT_AUTO(ot_str_done) ot_str in = OT_STR_INIT;
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_count_schema s;
    ot_error err;
    signature(&m);
    references(&in, &out);
    is_int(ot_count_schema_read(&s, &m, in.data, in.len, out.data, out.len, &err), OT_OK, "schema");
    ok(s.prediction >= 0 && s.confidence >= 0, "columns of the predictions");
    counts_are_the_references(&s);
    ot_count_schema_done(&s);

    m.inputs[0].dims[1] = FEATURES + 1;
    ok(ot_count_schema_read(&s, &m, in.data, in.len, NULL, 0, &err) == OT_INVALID &&
           strstr(err.msg, "6 features") != NULL,
       "a reference of another width: %s", err.msg);
    ok(ot_count_schema_read(&s, &m, in.data, in.len - 1, NULL, 0, &err) != OT_OK, "cut short");
    is_int(ot_count_schema_read(&s, &m, NULL, 0, NULL, 0, &err), OT_OK, "none");
    ot_cell *c;
    is_int(ot_cell_create(&s, &c, &err), OT_OK, "a cell without tables");
    ot_cell_destroy(c);
    ot_manifest_done(&m);
    budget();
    is_int(ot_latency_step(0), 0, "fastest");
    is_int(ot_latency_step(UINT64_MAX), OT_LATENCY_STEPS - 1, "slowest");
    return tap_done();
}
