/* Proving a loaded model: are its answers right, and may rows of different requests share a run? */
#include "serve/load.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "runtime/golden.h"
#include "serve/exec.h"

#include <stdio.h>
#include <string.h>

#define PROBE_ROWS 4
#define PROBE_SEED 20170331
#define MEASURE_NS 50000000u /* time for measuring all sizes of batches */
#define MEASURE_REPEATS 3
#define BATCH_BYTES_MAX (64u << 20)

/* ---- rows made up for models that bring none */

static void fill_random(const ot_tensor *t, uint8_t *data, ot_rng *rng)
{
    int64_t n = ot_tensor_count(t);
    size_t size = ot_dtype_size(t->dtype);
    for (int64_t i = 0; i < n; i++) {
        double x = ot_rng_uniform(rng);
        float f = (float)x;
        uint16_t h = t->dtype == OT_DT_BF16 ? ot_bf16_from_f64(x) : ot_fp16_from_f64(x);
        uint64_t bit = x < 0.5 ? 0 : 1; /* of integers only 0 and 1: they may be indexes */
        const void *from = t->dtype == OT_DT_FP64        ? (const void *)&x
                           : t->dtype == OT_DT_FP32      ? (const void *)&f
                           : ot_dtype_is_float(t->dtype) ? (const void *)&h
                                                         : (const void *)&bit;
        memcpy(data + (size_t)i * size, from, size);
    }
}

/* One row of each input. NULL when the signature does not say how large a row is. */
static ot_tensor *random_row(const ot_manifest *sig, ot_rng *rng, ot_arena *arena)
{
    ot_tensor *row = ot_arena_calloc(arena, OT_MAX(sig->n_inputs, 1u), sizeof *row);
    for (size_t i = 0; i < sig->n_inputs && row != NULL; i++) {
        ot_tensor *t = &row[i];
        const ot_tensor_spec *spec = &sig->inputs[i];
        *t = (ot_tensor){.name = spec->name, .dtype = spec->dtype, .rank = spec->rank};
        memcpy(t->dims, spec->dims, sizeof t->dims);
        if (t->rank > 0 && t->dims[0] < 0) {
            t->dims[0] = 1;
        }
        if (!ot_shape_bytes(t->dtype, t->dims, t->rank, &t->size_bytes) ||
            t->size_bytes > BATCH_BYTES_MAX) {
            return NULL;
        }
        uint8_t *data = ot_arena_alloc(arena, OT_MAX(t->size_bytes, 1u));
        if (data == NULL) {
            return NULL;
        }
        fill_random(t, data, rng);
        t->data = data;
    }
    return row;
}

/* Answers that the model gives to single rows, as a golden case each. */
static ot_rc probe_case(ot_exec *x, ot_variant *v, ot_golden_row *c, ot_rng *rng, ot_arena *arena,
                        ot_error *err)
{
    c->inputs = random_row(&v->sig, rng, arena);
    if (c->inputs == NULL) {
        return ot_fail(err, OT_INVALID, "the signature does not say how large a row is");
    }
    c->n_inputs = v->sig.n_inputs;
    OT_TRY(ot_exec_tensors(x, v, c->inputs, err));
    c->n_outputs = (size_t)x->result.n_outputs;
    c->outputs = ot_arena_calloc(arena, c->n_outputs, sizeof *c->outputs);
    for (size_t i = 0; i < c->n_outputs && c->outputs != NULL; i++) {
        c->outputs[i] = x->result.outputs[i];
        void *data = ot_arena_alloc(arena, OT_MAX(c->outputs[i].size_bytes, 1u));
        if (data == NULL) {
            return ot_fail(err, OT_EXHAUSTED, "out of memory");
        }
        if (c->outputs[i].size_bytes > 0) {
            memcpy(data, c->outputs[i].data, c->outputs[i].size_bytes);
        }
        c->outputs[i].data = data;
    }
    return c->outputs != NULL ? OT_OK : ot_fail(err, OT_EXHAUSTED, "out of memory");
}

static void note(ot_variant *v, const char *what, const char *why)
{
    size_t at = strlen(v->note);
    snprintf(v->note + at, sizeof v->note - at, "%s%s%s%s", at > 0 ? "; " : "", what,
             why[0] != '\0' ? ": " : "", why);
}

/* Without golden answers: are rows answered alike singly and together? */
static void probe_batches(ot_exec *x, ot_variant *v, ot_arena *arena)
{
    ot_golden_row cases[PROBE_ROWS];
    memset(cases, 0, sizeof cases);
    ot_golden_result result = {0};
    ot_error err = {0};
    ot_rng rng;
    ot_rng_seed(&rng, PROBE_SEED);
    ot_rc rc = OT_OK;
    for (size_t i = 0; i < PROBE_ROWS && rc == OT_OK; i++) {
        rc = probe_case(x, v, &cases[i], &rng, arena, &err);
        ot_exec_release(x);
    }
    if (rc == OT_OK) {
        rc = ot_golden_check(v->loaded, cases, PROBE_ROWS, OT_GOLDEN_ABS_DEFAULT,
                             OT_GOLDEN_REL_DEFAULT, 0, v->merge_max, &result, &err);
    }
    if (rc != OT_OK || !result.batching) {
        v->merge_max = 1;
        note(v, "not batched", rc != OT_OK ? err.msg : result.reason);
    }
}

/* `model`: the variant's, or one that is to take over. */
static ot_rc golden_of(const ot_variant *v, ot_model *model, const ot_golden *g,
                       ot_golden_result *r, ot_error *err)
{
    OT_TRY(ot_golden_check(model, g->cases, g->n_cases, g->abs, g->rel, v->merge_max > 1 ? 0 : -1,
                           v->merge_max, r, err));
    return r->correct ? OT_OK
                      : ot_fail(err, OT_DATA_LOSS, "the golden answers differ: %s", r->reason);
}

static ot_rc check_golden(ot_variant *v, const ot_golden *g, ot_error *err)
{
    ot_golden_result r = {0};
    OT_TRY(golden_of(v, v->loaded, g, &r, err));
    v->verified = true;
    if (v->merge_max > 1 && !r.batching) {
        /* Rows in one run disturb each other: also those of one request run one by one. */
        v->merge_max = v->run_max = 1;
        note(v, "not batched", r.reason);
    }
    return OT_OK;
}

/* ---- measuring */

/* `row` repeated `n` times on axis 0; the data in `buffer` for each input. */
static bool repeat_row(const ot_manifest *sig, const ot_tensor *row, int64_t n, ot_tensor *out,
                       ot_arena *arena)
{
    for (size_t i = 0; i < sig->n_inputs; i++) {
        size_t size = row[i].size_bytes;
        if (size > BATCH_BYTES_MAX / (size_t)n || row[i].rank == 0 || row[i].dims[0] != 1) {
            return false;
        }
        uint8_t *data = ot_arena_alloc(arena, OT_MAX(size * (size_t)n, 1u));
        if (data == NULL) {
            return false;
        }
        for (int64_t k = 0; k < n && size > 0; k++) {
            memcpy(data + (size_t)k * size, row[i].data, size);
        }
        out[i] = row[i];
        out[i].data = data;
        out[i].dims[0] = n;
        out[i].size_bytes = size * (size_t)n;
    }
    return true;
}

static bool measure_size(ot_exec *x, ot_variant *v, const ot_tensor *in, int64_t rows, uint64_t end)
{
    uint64_t best = 0;
    for (int i = 0; i == 0 || (i < MEASURE_REPEATS && ot_clock_mono_ns() < end); i++) {
        if (ot_exec_tensors(x, v, in, NULL) != OT_OK) {
            return false;
        }
        ot_exec_release(x);
        best = best == 0 ? x->run_ns : OT_MIN(best, x->run_ns);
    }
    ot_cost_add(&v->cost, rows, best);
    return true;
}

static void measure(ot_exec *x, ot_variant *v, const ot_tensor *row, ot_arena *arena)
{
    uint64_t end = ot_clock_mono_ns() + MEASURE_NS;
    if (!measure_size(x, v, row, 1, end)) {
        note(v, "not measured", "it did not run on a sample row");
        return;
    }
    ot_tensor in[OT_RUNTIME_INPUTS_MAX];
    for (int64_t n = 2; n <= OT_MIN(v->merge_max, 64) && ot_clock_mono_ns() < end; n *= 2) {
        if (v->sig.n_inputs > OT_COUNT(in) || !repeat_row(&v->sig, row, n, in, arena) ||
            !measure_size(x, v, in, n, end)) {
            return;
        }
    }
}

/* The first run of an instance can take long: not while a request waits. Models whose runs are for
 * the pool warm that up instead. */
static void warm_up(ot_serve *s, ot_exec *x, ot_variant *v, const ot_tensor *row)
{
    bool is_inline = ot_cost_predict(&v->cost, 1) <= (uint64_t)s->o.inline_us * 1000;
    unsigned first = is_inline ? 0 : ot_serve_pool_slot(s);
    unsigned n = is_inline ? s->n_workers : s->o.pool_threads;
    unsigned own = x->slot;
    ot_error err;
    for (unsigned i = 0; i < n; i++) {
        x->slot = first + i;
        if (ot_exec_tensors(x, v, row, &err) != OT_OK) {
            ot_warn("serve", "%s@%s: warm-up: %s", v->model, v->version_text, err.msg);
        }
        ot_exec_release(x);
    }
    x->slot = own;
}

/* The first golden case's inputs in the order of the signature. */
static ot_tensor *golden_row(const ot_manifest *sig, const ot_golden *g, ot_arena *arena)
{
    ot_tensor *row = ot_arena_calloc(arena, OT_MAX(sig->n_inputs, 1u), sizeof *row);
    for (size_t i = 0; i < g->cases[0].n_inputs && row != NULL; i++) {
        int k = ot_manifest_input(sig, g->cases[0].inputs[i].name);
        if (k < 0) {
            return NULL;
        }
        row[k] = g->cases[0].inputs[i];
    }
    return row;
}

ot_rc ot_variant_refine(ot_serve *s, ot_variant *v, const char *path, const ot_golden *golden,
                        ot_error *err)
{
    ot_model_options options = {.threads = 1};
    ot_model *model;
    ot_golden_result r = {0};
    uint64_t start = ot_clock_mono_ns();
    OT_TRY(ot_model_load(s->runtime, v->info.format, path, &options, &model, err));
    atomic_store_explicit(&v->back_us, (ot_clock_mono_ns() - start) / 1000, memory_order_relaxed);
    ot_rc rc = golden_of(v, model, golden, &r, err);
    if (rc == OT_OK && v->merge_max > 1 && !r.batching) {
        rc = ot_fail(err, OT_DATA_LOSS, "rows answered together differ: %s", r.reason);
    }
    if (rc != OT_OK) {
        ot_model_unref(model);
        return rc;
    }
    ot_variant_replace(v, model);
    return OT_OK;
}

ot_rc ot_variant_prove(ot_serve *s, ot_variant *v, const ot_golden *golden, ot_error *err)
{
    ot_exec *x = ot_alloc(sizeof *x);
    if (x == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "out of memory");
    }
    ot_rc rc = ot_exec_init(x, ot_serve_loader_slot(s), err);
    uint64_t start = ot_clock_mono_ns();
    ot_arena arena;
    ot_arena_init(&arena, 1u << 16, 8u * BATCH_BYTES_MAX);
    if (rc == OT_OK && golden != NULL) {
        rc = check_golden(v, golden, err);
    } else if (rc == OT_OK) {
        note(v, "unverified: no golden answers", "");
        if (v->merge_max > 1) {
            probe_batches(x, v, &arena);
        }
    }
    uint64_t proved = ot_clock_mono_ns();
    if (rc == OT_OK) {
        ot_rng rng;
        ot_rng_seed(&rng, PROBE_SEED);
        const ot_tensor *row = golden != NULL ? golden_row(&v->sig, golden, &arena)
                                              : random_row(&v->sig, &rng, &arena);
        if (row != NULL) {
            measure(x, v, row, &arena);
            warm_up(s, x, v, row);
        }
    }
    v->load_us.golden = (proved - start) / 1000;
    v->load_us.warm_up = (ot_clock_mono_ns() - proved) / 1000;
    ot_exec_done(x);
    ot_free(x);
    ot_arena_done(&arena);
    /* Its own instance has served its purpose. */
    ot_instance_destroy(v->slots[ot_serve_loader_slot(s)].instance);
    v->slots[ot_serve_loader_slot(s)].instance = NULL;
    return rc;
}
