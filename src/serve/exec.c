#include "serve/exec.h"

#include "base/clock.h"
#include "base/log.h"
#include "serve/more.h"

#include <string.h>

#define GATHER_ALIGN 64

ot_rc ot_exec_init(ot_exec *x, unsigned slot, ot_error *err)
{
    memset(x, 0, sizeof *x);
    x->slot = slot;
    x->segments_cap = OT_EXEC_CALLS_MAX;
    x->segments = ot_calloc(x->segments_cap, sizeof *x->segments);
    if (x->segments == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "executor: out of memory");
    }
    return OT_OK;
}

void ot_exec_done(ot_exec *x)
{
    ot_exec_release(x);
    ot_free(x->segments);
    ot_free(x->gather);
}

static void release_result(ot_exec *x)
{
    if (x->holding) {
        ot_run_result_release(&x->result);
        x->holding = false;
    }
}

void ot_exec_release(ot_exec *x)
{
    release_result(x);
    if (x->held != NULL) {
        ot_variant_let(x->held);
        x->held = NULL;
    }
}

static bool hold(ot_exec *x, ot_variant *v)
{
    if (x->held == &v->slots[x->slot]) {
        return true;
    }
    ot_exec_release(x);
    x->held = ot_variant_hold(v, x->slot) ? &v->slots[x->slot] : NULL;
    return x->held != NULL;
}

static ot_rc run(ot_exec *x, ot_variant *v, int n_parts, ot_error *err)
{
    release_result(x);
    if (!hold(x, v)) {
        return ot_fail(err, OT_UNAVAILABLE, "it was unloaded while idle");
    }
    ot_instance *inst;
    OT_TRY(ot_variant_instance(v, x->slot, &inst, err));
    for (size_t i = 0; i < v->sig.n_outputs; i++) {
        x->outputs[i] = (ot_run_output){.name = v->sig.outputs[i].name};
    }
    ot_run r = {
        .inputs = x->inputs,
        .n_inputs = (int)v->sig.n_inputs,
        .outputs = x->outputs,
        .n_outputs = (int)v->sig.n_outputs,
        .parts = n_parts > 1 ? x->parts : NULL,
        .n_parts = n_parts > 1 ? n_parts : 0,
    };
    if (x->streams != NULL) {
        r.more = ot_more_add;
        r.more_arg = x->streams;
    }
    uint64_t start = ot_clock_mono_ns();
    atomic_store_explicit(&v->slots[x->slot].since_ns, start, memory_order_relaxed);
    ot_rc rc = ot_instance_run(inst, &r, &x->result, err);
    atomic_store_explicit(&v->slots[x->slot].since_ns, 0, memory_order_relaxed);
    x->run_to_ns = ot_clock_mono_ns();
    x->run_ns += x->run_to_ns - start;
    x->run_from_ns = x->run_from_ns == 0 ? start : x->run_from_ns;
    if (rc != OT_OK) {
        return rc;
    }
    x->holding = true;
    if (x->result.rc != OT_OK) {
        return ot_fail(err, x->result.rc, "the run failed");
    }
    if (x->result.sequence > 0 && x->streams == NULL) {
        return ot_fail(err, OT_UNIMPLEMENTED,
                       "the model gave %u responses; ask for them with ModelStreamInfer (gRPC)",
                       x->result.sequence + 1);
    }
    if ((size_t)x->result.n_outputs != v->sig.n_outputs) {
        return ot_fail(err, OT_INTERNAL, "the model gave %d outputs instead of %zu",
                       x->result.n_outputs, v->sig.n_outputs);
    }
    return OT_OK;
}

ot_rc ot_exec_tensors(ot_exec *x, ot_variant *v, const ot_tensor *inputs, ot_error *err)
{
    for (size_t i = 0; i < v->sig.n_inputs; i++) {
        x->inputs[i] = (ot_run_input){.tensor = inputs[i]};
    }
    x->run_ns = 0;
    return run(x, v, 1, err);
}

/* ---- one request */

static ot_tensor view_rows(const ot_tensor *t, int64_t rows, size_t at, size_t size)
{
    ot_tensor part = *t;
    part.dims[0] = rows;
    part.data = (const uint8_t *)t->data + at;
    part.size_bytes = size;
    return part;
}

/* A request without rows needs no run where the shapes of the outputs are known. */
static bool answer_no_rows(const ot_variant *v, ot_call *call)
{
    for (size_t i = 0; i < v->sig.n_outputs; i++) {
        const ot_tensor_spec *spec = &v->sig.outputs[i];
        ot_tensor *t = &call->outputs[i];
        *t = (ot_tensor){.name = spec->name, .dtype = spec->dtype, .rank = spec->rank};
        memcpy(t->dims, spec->dims, sizeof t->dims);
        if (t->rank == 0) {
            return false;
        }
        t->dims[0] = 0;
        for (int k = 1; k < t->rank; k++) {
            if (t->dims[k] < 0) {
                return false;
            }
        }
    }
    call->n_outputs = (int)v->sig.n_outputs;
    return true;
}

static void take_outputs(const ot_exec *x, ot_call *call)
{
    call->rc = OT_OK;
    call->n_outputs = x->result.n_outputs;
    memcpy(call->outputs, x->result.outputs, (size_t)call->n_outputs * sizeof call->outputs[0]);
}

void ot_exec_own(ot_call *call)
{
    if (call->rc != OT_OK || call->block != NULL) {
        return;
    }
    size_t total = 0;
    for (int i = 0; i < call->n_outputs; i++) {
        total += (call->outputs[i].size_bytes + GATHER_ALIGN - 1) & ~(size_t)(GATHER_ALIGN - 1);
    }
    uint8_t *block = ot_alloc(OT_MAX(total, 1u));
    if (block == NULL) {
        ot_call_fail(call, OT_EXHAUSTED, "out of memory for the outputs");
        return;
    }
    size_t at = 0;
    for (int i = 0; i < call->n_outputs; i++) {
        ot_tensor *t = &call->outputs[i];
        if (t->size_bytes > 0) {
            memcpy(block + at, t->data, t->size_bytes);
        }
        t->data = block + at;
        at += (t->size_bytes + GATHER_ALIGN - 1) & ~(size_t)(GATHER_ALIGN - 1);
    }
    call->block = block;
}

/* A piece of a request with more rows than a run may take: its outputs are appended to `parts`. */
static ot_rc run_piece(ot_exec *x, ot_variant *v, const ot_call *call, int64_t first, int64_t rows,
                       ot_str *parts, ot_error *err)
{
    for (size_t i = 0; i < v->sig.n_inputs; i++) {
        size_t at, size;
        if (!ot_tensor_rows(&call->inputs[i], first, rows, &at, &size)) {
            return ot_fail(err, OT_INVALID, "input '%s' cannot be cut into rows",
                           v->sig.inputs[i].name);
        }
        x->inputs[i] = (ot_run_input){.tensor = view_rows(&call->inputs[i], rows, at, size)};
    }
    OT_TRY(run(x, v, 1, err));
    for (int i = 0; i < x->result.n_outputs; i++) {
        const ot_tensor *t = &x->result.outputs[i];
        if (t->rank == 0 || t->dims[0] != rows) {
            return ot_fail(err, OT_INTERNAL,
                           "output '%s' does not have a row for each of the input", t->name);
        }
        ot_str_add(&parts[i], t->data, t->size_bytes);
        if (parts[i].failed) {
            return ot_fail(err, OT_EXHAUSTED, "out of memory for output '%s'", t->name);
        }
    }
    return OT_OK;
}

static ot_rc run_pieces(ot_exec *x, ot_variant *v, ot_call *call, ot_error *err)
{
    ot_str parts[OT_RUNTIME_OUTPUTS_MAX];
    size_t n = OT_MIN(v->sig.n_outputs, OT_COUNT(parts));
    for (size_t i = 0; i < n; i++) {
        ot_str_init(&parts[i]);
    }
    ot_rc rc = OT_OK;
    for (int64_t at = 0; at < call->rows && rc == OT_OK; at += v->run_max) {
        rc = run_piece(x, v, call, at, OT_MIN(v->run_max, call->rows - at), parts, err);
    }
    if (rc == OT_OK) {
        take_outputs(x, call);
        for (int i = 0; i < call->n_outputs; i++) {
            call->outputs[i].dims[0] = call->rows;
            call->outputs[i].data = parts[i].data;
            call->outputs[i].size_bytes = parts[i].len;
        }
        ot_exec_own(call);
    }
    for (size_t i = 0; i < n; i++) {
        ot_str_done(&parts[i]);
    }
    return rc;
}

static ot_rc run_one(ot_exec *x, ot_variant *v, ot_call *call, ot_error *err)
{
    if (v->rows_known && call->rows == 0 && answer_no_rows(v, call)) {
        call->rc = OT_OK;
        return OT_OK;
    }
    if (v->run_max > 0 && call->rows > v->run_max) {
        return run_pieces(x, v, call, err);
    }
    for (size_t i = 0; i < v->sig.n_inputs; i++) {
        x->inputs[i] = (ot_run_input){.tensor = call->inputs[i]};
    }
    OT_TRY(run(x, v, 1, err));
    take_outputs(x, call);
    return OT_OK;
}

/* ---- a batch */

static ot_rc gather_copy(ot_exec *x, const ot_variant *v, ot_call *const *calls, size_t n,
                         ot_error *err)
{
    size_t total = 0;
    for (size_t i = 0; i < v->sig.n_inputs; i++) {
        total += x->inputs[i].tensor.size_bytes + GATHER_ALIGN;
    }
    if (total > x->gather_cap) {
        uint8_t *grown = ot_aligned_alloc(GATHER_ALIGN,
                                          (total + GATHER_ALIGN - 1) & ~(size_t)(GATHER_ALIGN - 1));
        if (grown == NULL) {
            return ot_fail(err, OT_EXHAUSTED, "out of memory for a batch of %zu bytes", total);
        }
        ot_free(x->gather);
        x->gather = grown;
        x->gather_cap = total;
    }
    uint8_t *to = x->gather;
    for (size_t i = 0; i < v->sig.n_inputs; i++) {
        x->inputs[i].tensor.data = to;
        for (size_t k = 0; k < n; k++) {
            const ot_tensor *t = &calls[k]->inputs[i];
            if (t->size_bytes > 0) {
                memcpy(to, t->data, t->size_bytes);
            }
            to += t->size_bytes;
        }
        to += (size_t)(-(uintptr_t)to & (GATHER_ALIGN - 1));
    }
    return OT_OK;
}

static ot_rc gather(ot_exec *x, const ot_variant *v, ot_call *const *calls, size_t n, int64_t rows,
                    ot_error *err)
{
    bool scatter =
        (v->info.capabilities & (UINT64_C(1) << 0)) != 0 && n * v->sig.n_inputs <= x->segments_cap;
    ot_segment *seg = x->segments;
    for (size_t i = 0; i < v->sig.n_inputs; i++) {
        ot_run_input *in = &x->inputs[i];
        *in = (ot_run_input){.tensor = calls[0]->inputs[i]};
        in->tensor.dims[0] = rows;
        in->tensor.size_bytes = 0;
        for (size_t k = 0; k < n; k++) {
            const ot_tensor *t = &calls[k]->inputs[i];
            in->tensor.size_bytes += t->size_bytes;
            if (scatter) {
                seg[k] = (ot_segment){t->data, t->size_bytes};
            }
        }
        if (scatter) {
            in->segments = seg;
            in->n_segments = n;
            seg += n;
        }
    }
    return scatter ? OT_OK : gather_copy(x, v, calls, n, err);
}

static ot_rc split(const ot_exec *x, ot_call *const *calls, size_t n, int64_t rows, ot_error *err)
{
    for (int i = 0; i < x->result.n_outputs; i++) {
        const ot_tensor *t = &x->result.outputs[i];
        if (t->rank == 0 || t->dims[0] != rows) {
            return ot_fail(err, OT_INTERNAL,
                           "output '%s' does not have a row for each of the batch", t->name);
        }
        int64_t at = 0;
        for (size_t k = 0; k < n; k++) {
            size_t offset, size;
            if (!ot_tensor_rows(t, at, calls[k]->rows, &offset, &size)) {
                return ot_fail(err, OT_INTERNAL, "output '%s' cannot be cut into rows", t->name);
            }
            calls[k]->outputs[i] = view_rows(t, calls[k]->rows, offset, size);
            at += calls[k]->rows;
        }
    }
    for (size_t k = 0; k < n; k++) {
        calls[k]->n_outputs = x->result.n_outputs;
        calls[k]->rc = OT_OK;
        if (x->result.part_rc != NULL && x->result.part_rc[k] != OT_OK) {
            ot_call_fail(calls[k], (ot_rc)x->result.part_rc[k], "the model refused these rows");
        }
    }
    return OT_OK;
}

static ot_rc run_merged(ot_exec *x, ot_variant *v, ot_call *const *calls, size_t n, ot_error *err)
{
    int64_t rows = 0;
    for (size_t k = 0; k < n; k++) {
        x->parts[k] = (ot_run_part){
            .id = calls[k]->seq, .first_row = (uint32_t)rows, .n_rows = (uint32_t)calls[k]->rows};
        rows += calls[k]->rows;
    }
    OT_TRY(gather(x, v, calls, n, rows, err));
    OT_TRY(run(x, v, (int)n, err));
    ot_rc rc = split(x, calls, n, rows, err);
    if (rc != OT_OK && !atomic_exchange_explicit(&v->merge_off, true, memory_order_relaxed)) {
        ot_warn("serve", "%s@%s: batching is off: %s", v->model, v->version_text, err->msg);
    }
    return rc;
}

/* ---- when it fails */

static bool is_callers_fault(ot_rc rc)
{
    return rc == OT_INVALID || rc == OT_RANGE || rc == OT_TIMEOUT || rc == OT_CANCELLED;
}

static bool run_previous(ot_exec *x, ot_call *call)
{
    ot_variant *v = call->dep->previous;
    if (v == NULL || v == call->variant) {
        return false;
    }
    ot_error err;
    for (size_t i = 0; i < v->sig.n_inputs; i++) {
        if (i >= call->variant->sig.n_inputs ||
            ot_tensor_matches(&v->sig.inputs[i], &call->inputs[i], &err) != OT_OK) {
            return false;
        }
    }
    if (v->sig.n_outputs > call->variant->sig.n_outputs || run_one(x, v, call, &err) != OT_OK) {
        return false;
    }
    call->variant = v;
    return true;
}

/* The constant's one row, as often as the request has rows. */
static bool answer_constant(ot_call *call)
{
    const ot_tensor *row = call->dep->constant;
    const ot_variant *v = call->dep->arms[call->dep->n_live - 1].variant;
    if (row == NULL || v->sig.n_outputs > call->variant->sig.n_outputs) {
        return false;
    }
    for (size_t i = 0; i < v->sig.n_outputs; i++) {
        size_t size = row[i].size_bytes, n = v->rows_known ? (size_t)call->rows : 1;
        uint8_t *data = ot_arena_calloc(call->arena, OT_MAX(n, 1u), OT_MAX(size, 1u));
        if (data == NULL) {
            return false;
        }
        for (size_t k = 0; k < n; k++) {
            memcpy(data + k * size, row[i].data, size);
        }
        call->outputs[i] = row[i];
        call->outputs[i].data = data;
        call->outputs[i].size_bytes = n * size;
        if (v->rows_known && row[i].rank > 0) {
            call->outputs[i].dims[0] = call->rows;
        }
    }
    call->n_outputs = (int)v->sig.n_outputs;
    call->constant = true;
    return true;
}

static void fall_back(ot_exec *x, ot_call *call)
{
    if (call->rc == OT_OK || is_callers_fault(call->rc)) {
        return;
    }
    ot_fallback how = call->dep->fallback;
    if ((how == OT_FALLBACK_PREVIOUS && run_previous(x, call)) ||
        (how == OT_FALLBACK_CONSTANT && answer_constant(call))) {
        call->rc = OT_OK;
        call->fell_back = true;
        if (!call->constant) {
            ot_exec_own(call);
        }
    }
}

static void set_times(const ot_exec *x, ot_call *const *calls, size_t n, uint64_t taken_ns)
{
    for (size_t k = 0; k < n; k++) {
        calls[k]->taken_ns = taken_ns;
        calls[k]->run_from_ns = x->run_from_ns != 0 ? x->run_from_ns : taken_ns;
        calls[k]->run_to_ns = x->run_from_ns != 0 ? x->run_to_ns : taken_ns;
    }
}

bool ot_exec_run(ot_exec *x, ot_variant *v, ot_call *const *calls, size_t n)
{
    if (!hold(x, v)) {
        return false;
    }
    ot_error err;
    uint64_t taken = ot_clock_mono_ns();
    x->run_ns = x->run_from_ns = 0;
    int64_t rows = 0;
    if (calls[0]->rc != OT_OK) { /* another server failed them: all that is left is to fall back */
        for (size_t k = 0; k < n; k++) {
            fall_back(x, calls[k]);
        }
        set_times(x, calls, n, taken);
        return true;
    }
    for (size_t k = 0; k < n; k++) {
        rows += calls[k]->rows;
    }
    x->streams = n == 1 && ot_call_streams(calls[0]) ? calls[0] : NULL;
    ot_rc rc = n == 1 ? run_one(x, v, calls[0], &err) : run_merged(x, v, calls, n, &err);
    x->streams = NULL;
    if (rc == OT_OK) {
        if (rows > 0) {
            ot_cost_add(&v->cost, rows, x->run_ns);
        }
    } else if (n == 1) {
        ot_call_fail(calls[0], rc, err.msg);
    } else {
        /* Once more one by one: a request that breaks a run must not fail its neighbours. */
        for (size_t k = 0; k < n; k++) {
            rc = run_one(x, v, calls[k], &err);
            if (rc != OT_OK) {
                ot_call_fail(calls[k], rc, err.msg);
            }
            ot_exec_own(calls[k]);
        }
    }
    bool failed = false;
    for (size_t k = 0; k < n; k++) {
        failed |= calls[k]->rc != OT_OK;
    }
    if (failed) {
        for (size_t k = 0; k < n; k++) { /* a fallback runs on this executor: keep what is there */
            ot_exec_own(calls[k]);
        }
        for (size_t k = 0; k < n; k++) {
            fall_back(x, calls[k]);
        }
    }
    set_times(x, calls, n, taken);
    return true;
}
