#include "runtime/golden.h"
#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define BATCH_CASES_MAX 1024
#define ROWS_PER_CASE_MAX 65536

typedef struct check {
    ot_instance *inst;
    const ot_golden_row *cases;
    size_t n_cases;
    double tol_abs, tol_rel;
    ot_golden_result *result;
    ot_error *err;
} check;

/* The outputs of a run in the order of the case's expected ones. */
static ot_rc run_case(check *c, const ot_run_input *inputs, const ot_golden_row *g,
                      ot_run_result *result, ot_error *err)
{
    ot_run_output outputs[OT_RUNTIME_OUTPUTS_MAX];
    if (g->n_outputs < 1 || g->n_outputs > OT_RUNTIME_OUTPUTS_MAX) {
        return ot_fail(err, OT_INVALID, "%zu expected outputs; 1 to %d are needed", g->n_outputs,
                       OT_RUNTIME_OUTPUTS_MAX);
    }
    for (size_t i = 0; i < g->n_outputs; i++) {
        outputs[i] = (ot_run_output){.name = g->outputs[i].name};
    }
    ot_run run = {
        .inputs = inputs,
        .n_inputs = (int)g->n_inputs,
        .outputs = outputs,
        .n_outputs = (int)g->n_outputs,
    };
    return ot_instance_run(c->inst, &run, result, err);
}

static bool differ(check *c, const char *how, size_t index, const char *what)
{
    snprintf(c->result->reason, sizeof c->result->reason, "golden case %zu, %s: %s", index, how,
             what);
    return false;
}

/* Rows [row, row + rows) of a batched output, as a view. False when it has no such rows. */
static bool rows_view(const ot_tensor *t, int64_t row, int64_t rows, ot_tensor *view)
{
    if (t->rank == 0 || row + rows > t->dims[0]) {
        return false;
    }
    *view = *t;
    view->dims[0] = rows;
    if (t->dtype != OT_DT_BYTES) {
        size_t per_row = t->dims[0] > 0 ? t->size_bytes / (size_t)t->dims[0] : 0;
        view->data = (const uint8_t *)t->data + per_row * (size_t)row;
        return ot_shape_bytes(t->dtype, view->dims, view->rank, &view->size_bytes);
    }
    int64_t per_row = t->dims[0] > 0 ? ot_tensor_count(t) / t->dims[0] : 0;
    size_t at = 0, from = 0, n;
    const char *p;
    for (int64_t i = 0; i < (row + rows) * per_row; i++) {
        if (i == row * per_row) {
            from = at;
        }
        if (!ot_tensor_bytes_next(t, &at, &p, &n)) {
            return false;
        }
    }
    view->data = (const uint8_t *)t->data + from;
    view->size_bytes = at - from;
    return true;
}

static void note_difference(check *c, const ot_tensor *got, const ot_tensor *want)
{
    int64_t n = ot_tensor_count(got);
    for (int64_t i = 0; i < n && n == ot_tensor_count(want) && want->dtype != OT_DT_BYTES; i++) {
        double d = fabs(ot_tensor_f64_at(got, i) - ot_tensor_f64_at(want, i));
        c->result->abs_max = d > c->result->abs_max ? d : c->result->abs_max;
    }
}

static bool agrees(check *c, const char *how, size_t index, const ot_tensor *want,
                   const ot_tensor *got)
{
    ot_error why;
    if (ot_golden_compare(want, got, c->tol_abs, c->tol_rel, &why) != OT_OK) {
        return differ(c, how, index, why.msg);
    }
    note_difference(c, got, want);
    return true;
}

/* ---- cases alone */

static ot_rc check_alone(check *c, size_t index)
{
    const ot_golden_row *g = &c->cases[index];
    ot_run_input inputs[OT_RUNTIME_INPUTS_MAX];
    ot_run_result r;
    if (g->n_inputs > OT_RUNTIME_INPUTS_MAX) {
        return ot_fail(c->err, OT_INVALID, "golden case %zu: %zu inputs; the limit is %d", index,
                       g->n_inputs, OT_RUNTIME_INPUTS_MAX);
    }
    for (size_t i = 0; i < g->n_inputs; i++) {
        inputs[i] = (ot_run_input){.tensor = g->inputs[i]};
    }
    ot_rc rc = run_case(c, inputs, g, &r, c->err);
    if (rc != OT_OK) {
        return ot_error_prefix(c->err, rc, "golden case %zu", index);
    }
    for (size_t i = 0; i < g->n_outputs && c->result->correct; i++) {
        c->result->correct = agrees(c, "run alone", index, &g->outputs[i], &r.outputs[i]);
    }
    ot_run_result_release(&r);
    c->result->cases_checked++;
    return OT_OK;
}

/* ---- batches */

static const ot_tensor *tensor_of(const ot_golden_row *g, size_t k)
{
    return k < g->n_inputs ? &g->inputs[k] : &g->outputs[k - g->n_inputs];
}

/* The rows of a case when it can be batched along axis 0: every tensor has that axis with the same
 * size; -1 otherwise. */
static int64_t rows_of(const ot_golden_row *g)
{
    int64_t rows = -1;
    for (size_t k = 0; k < g->n_inputs + g->n_outputs; k++) {
        const ot_tensor *t = tensor_of(g, k);
        if (t->rank == 0 || (rows >= 0 && t->dims[0] != rows)) {
            return -1;
        }
        rows = t->dims[0];
    }
    return rows <= ROWS_PER_CASE_MAX ? rows : -1;
}

/* Case b can follow case a in one batch: the same tensors, apart from the number of rows. */
static bool same_form(const ot_golden_row *a, const ot_golden_row *b)
{
    if (a->n_inputs != b->n_inputs || a->n_outputs != b->n_outputs) {
        return false;
    }
    for (size_t k = 0; k < a->n_inputs + a->n_outputs; k++) {
        const ot_tensor *x = tensor_of(a, k), *y = tensor_of(b, k);
        if (x->dtype != y->dtype || x->rank != y->rank || x->rank < 1 ||
            strcmp(x->name != NULL ? x->name : "", y->name != NULL ? y->name : "") != 0 ||
            memcmp(x->dims + 1, y->dims + 1, (size_t)(x->rank - 1) * sizeof x->dims[0]) != 0) {
            return false;
        }
    }
    return true;
}

typedef struct batch {
    size_t cases[BATCH_CASES_MAX]; /* which case stands at each place */
    size_t n;
    int64_t rows;
    ot_segment *segments; /* n_inputs x BATCH_CASES_MAX */
} batch;

/* Cases from `first` on, going round, until the limit: with fewer rows than the limit the same rows
 * stand in it several times. */
static void fill_batch(const check *c, size_t first, int64_t limit, batch *b)
{
    b->n = 0;
    b->rows = 0;
    for (size_t i = first; b->n < BATCH_CASES_MAX; i = (i + 1) % c->n_cases) {
        int64_t rows = rows_of(&c->cases[i]);
        if (b->rows + rows > limit) {
            break;
        }
        b->cases[b->n++] = i;
        b->rows += rows;
    }
}

static bool batch_agrees(check *c, const batch *b, const ot_run_result *r)
{
    char how[64];
    snprintf(how, sizeof how, "in a batch of %lld rows", (long long)b->rows);
    int64_t row = 0;
    for (size_t k = 0; k < b->n; k++) {
        const ot_golden_row *g = &c->cases[b->cases[k]];
        int64_t rows = rows_of(g);
        for (size_t i = 0; i < g->n_outputs; i++) {
            ot_tensor view;
            if (!rows_view(&r->outputs[i], row, rows, &view)) {
                return differ(c, how, b->cases[k], "the output has fewer rows than the input");
            }
            if (!agrees(c, how, b->cases[k], &g->outputs[i], &view)) {
                return false;
            }
        }
        row += rows;
    }
    return true;
}

static bool run_batch(check *c, batch *b)
{
    const ot_golden_row *g = &c->cases[b->cases[0]];
    ot_run_input inputs[OT_RUNTIME_INPUTS_MAX];
    for (size_t i = 0; i < g->n_inputs; i++) {
        ot_segment *segments = b->segments + i * BATCH_CASES_MAX;
        for (size_t k = 0; k < b->n; k++) {
            const ot_tensor *t = &c->cases[b->cases[k]].inputs[i];
            segments[k] = (ot_segment){t->data, t->size_bytes};
        }
        inputs[i] = (ot_run_input){g->inputs[i], segments, b->n};
        inputs[i].tensor.dims[0] = b->rows;
    }
    ot_run_result r;
    ot_error why;
    if (run_case(c, inputs, g, &r, &why) != OT_OK) {
        snprintf(c->result->reason, sizeof c->result->reason, "a batch of %lld rows failed: %.900s",
                 (long long)b->rows, why.msg);
        return false;
    }
    bool same = batch_agrees(c, b, &r);
    ot_run_result_release(&r);
    if (same) {
        c->result->batch_checked = OT_MAX(c->result->batch_checked, b->rows);
    }
    return same;
}

static bool no_batching(check *c, const char *why)
{
    snprintf(c->result->reason, sizeof c->result->reason, "%s", why);
    return false;
}

static bool run_batches(check *c, int64_t batch_max)
{
    batch *b = ot_calloc(1, sizeof *b);
    ot_segment *segments =
        ot_calloc(OT_MAX(c->cases[0].n_inputs, 1u), BATCH_CASES_MAX * sizeof *segments);
    bool same = b != NULL && segments != NULL;
    if (!same) {
        no_batching(c, "out of memory for the batched golden check");
    } else {
        b->segments = segments;
    }
    /* Small, odd and largest batches, each from another first case, so that places vary. */
    const int64_t sizes[] = {2, 3, OT_MAX(batch_max / 2, 2), batch_max};
    for (size_t i = 0; same && i < OT_COUNT(sizes); i++) {
        fill_batch(c, i % c->n_cases, OT_MIN(sizes[i], batch_max), b);
        same = b->n < 2 || run_batch(c, b);
    }
    ot_free(segments);
    ot_free(b);
    if (same && c->result->batch_checked < 2) {
        return no_batching(c, "no batch of two golden cases fits the limit");
    }
    return same;
}

static bool check_batched(check *c, int batch_axis, int64_t batch_max)
{
    if (batch_axis < 0 || batch_max <= 1) {
        return no_batching(c, "batching is not stated in the manifest");
    }
    if (batch_axis != 0) {
        return no_batching(c, "batching is done along axis 0 only; the manifest states another");
    }
    for (size_t i = 0; i < c->n_cases; i++) {
        if (rows_of(&c->cases[i]) < 1 || !same_form(&c->cases[0], &c->cases[i])) {
            return no_batching(c, "the golden rows have no common batch axis: a tensor of some "
                                  "case is a scalar, or has another shape or number of rows");
        }
    }
    return run_batches(c, batch_max);
}

ot_rc ot_golden_check(ot_model *model, const ot_golden_row *cases, size_t n_cases, double tol_abs,
                      double tol_rel, int batch_axis, int64_t batch_max,
                      ot_golden_result *result_out, ot_error *err)
{
    if (n_cases == 0) {
        return ot_fail(err, OT_INVALID, "golden check: no cases");
    }
    if (!(tol_abs >= 0) || !(tol_rel >= 0)) {
        return ot_fail(err, OT_INVALID, "golden check: tolerance %g, %g; neither may be negative",
                       tol_abs, tol_rel);
    }
    ot_golden_result result = {.correct = true};
    check c = {
        .cases = cases,
        .n_cases = n_cases,
        .tol_abs = tol_abs,
        .tol_rel = tol_rel,
        .result = &result,
        .err = err,
    };
    OT_TRY(ot_instance_create(model, &c.inst, err));
    ot_rc rc = OT_OK;
    for (size_t i = 0; i < n_cases && rc == OT_OK && result.correct; i++) {
        rc = check_alone(&c, i);
    }
    if (rc == OT_OK && result.correct) {
        result.batching = check_batched(&c, batch_axis, batch_max);
    }
    ot_instance_destroy(c.inst);
    if (rc == OT_OK) {
        *result_out = result;
    }
    return rc;
}
