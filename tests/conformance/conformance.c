/* The contract that every plug-in passes, as a program: run once for each plug-in and model.
 *
 *     conformance [--plugins DIR] [--golden FILE] [--isolate PROGRAM] MODEL
 *
 * With --isolate the model runs in a worker process, PROGRAM's. FILE is what
 * tests/golden/make_models.py writes. Prints TAP; what a plug-in or a model doesn't have is skipped
 * with its reason. A runtime that isn't installed skips everything. */
#include "base/clock.h"
#include "base/disk.h"
#include "base/mem.h"
#include "broken.h"
#include "golden_file.h"
#include "overtake/plugin.h"
#include "runtime/golden.h"
#include "runtime/runtime.h"
#include "tap.h"

#include <pthread.h>
#include <stdlib.h>

#define TOLERANCE 1e-4
#define ROWS_MAX 32
#define THREADS 4

typedef struct env {
    ot_runtime *rt;
    const char *path;
    const ot_isolation *isolation; /* NULL: in this process */
    ot_model *model;
    const ot_model_info *info;
    bool rows_free; /* axis 0 of the first input and output takes any size */
    /* A feed of ROWS_MAX rows for the first input; golden rows first, repeated. */
    uint8_t *x;
    size_t row_bytes;
    /* The model's own answers to each row run alone. */
    uint8_t *y;
    size_t y_row_bytes;
    int64_t y_row_count;
    int golden_rows;
    float *golden_y; /* NULL without a golden file */
} env;

/* ------------------------------------------------------------------ helpers */

static ot_tensor first_input(const env *e, int64_t rows)
{
    const ot_tensor_spec *s = &e->info->inputs[0];
    ot_tensor t = {.name = s->name, .dtype = s->dtype, .rank = s->rank, .data = e->x};
    for (int i = 0; i < s->rank; i++) {
        t.dims[i] = s->dims[i] < 0 ? 1 : s->dims[i];
    }
    if (e->rows_free) {
        t.dims[0] = rows;
    }
    t.size_bytes = e->row_bytes * (size_t)(e->rows_free ? rows : 1);
    return t;
}

static ot_rc run_tensor(ot_instance *inst, const ot_tensor *t, ot_run_result *r, ot_error *err)
{
    ot_run_input in = {.tensor = *t};
    ot_run run = {.inputs = &in, .n_inputs = 1};
    return ot_instance_run(inst, &run, r, err);
}

/* Largest difference between two blocks of n elements of the first output's type. */
static double difference(const env *e, const void *a, const void *b, int64_t n)
{
    ot_tensor x = {.dtype = e->info->outputs[0].dtype, .rank = 1, .dims = {n}, .data = a};
    ot_tensor y = x;
    y.data = b;
    x.size_bytes = y.size_bytes = (size_t)n * ot_dtype_size(x.dtype);
    double most = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs(ot_tensor_f64_at(&x, i) - ot_tensor_f64_at(&y, i));
        most = d > most || isnan(d) ? d : most;
    }
    return most;
}

static void fill_feed(env *e, const char *golden)
{
    const ot_tensor_spec *s = &e->info->inputs[0];
    int64_t n = 1;
    for (int i = e->rows_free ? 1 : 0; i < s->rank; i++) {
        n *= s->dims[i] < 0 ? 1 : s->dims[i];
    }
    e->row_bytes = (size_t)n * ot_dtype_size(s->dtype);
    e->x = ot_aligned_alloc(64, e->row_bytes * ROWS_MAX);
    memset(e->x, 0, e->row_bytes * ROWS_MAX);
    for (size_t i = 0; s->dtype == OT_DT_FP32 && i < ROWS_MAX * e->row_bytes / 4; i++) {
        ((float *)(void *)e->x)[i] = (float)(i * 7919 % 1000) / 1000.f;
    }
    if (golden != NULL) {
        float *x = (float *)(void *)e->x;
        e->golden_rows = golden_read(golden, e->row_bytes / sizeof *x, ROWS_MAX, x, &e->golden_y);
        ok(e->golden_rows > 0, "golden file %s", golden);
        for (int r = e->golden_rows; r > 0 && r < ROWS_MAX; r++) {
            memcpy(e->x + (size_t)r * e->row_bytes,
                   e->x + (size_t)(r % e->golden_rows) * e->row_bytes, e->row_bytes);
        }
    }
}

/* ------------------------------------------------------------------ checks */

static void check_info(env *e)
{
    uint64_t bytes = 0;
    ot_error err;
    ot_rc rc = ot_model_estimate(e->rt, NULL, e->path, &bytes, &err);
    ok(rc == OT_OK ? bytes > 0 : rc == OT_UNIMPLEMENTED, "estimate: %llu bytes",
       (unsigned long long)bytes);
    const ot_model_info *info = e->info;
    ok(info->n_inputs >= 1 && info->n_outputs >= 1, "signature: %d inputs, %d outputs",
       info->n_inputs, info->n_outputs);
    ok(info->inputs[0].name[0] != '\0' && info->outputs[0].name[0] != '\0', "tensors have names");
    ok(info->runtime_version[0] != '\0', "runtime version %s", info->runtime_version);
    ok(info->max_in_flight >= 1, "max_in_flight is %u", info->max_in_flight);
    for (int i = 0; i < info->n_inputs + info->n_outputs; i++) {
        bool input = i < info->n_inputs;
        const ot_tensor_spec *t = input ? &info->inputs[i] : &info->outputs[i - info->n_inputs];
        char shape[OT_SHAPE_TEXT];
        printf("# %s %s %s %s\n", input ? "input " : "output", t->name, ot_dtype_name(t->dtype),
               ot_shape_format(t->dims, t->rank, shape));
    }
}

/* Each row alone: the answers that the rest is compared with. */
static void check_single(env *e, ot_instance *inst)
{
    ot_run_result r;
    ot_error err;
    for (int i = 0; i < (e->rows_free ? ROWS_MAX : 1); i++) {
        ot_tensor t = first_input(e, 1);
        t.data = e->x + (size_t)i * e->row_bytes;
        if (!ok(run_tensor(inst, &t, &r, &err) == OT_OK, "row %d alone", i)) {
            printf("# %s\n", err.msg);
            return;
        }
        if (e->y == NULL) {
            e->y_row_bytes = r.outputs[0].size_bytes;
            e->y_row_count = ot_tensor_count(&r.outputs[0]);
            e->y = ot_calloc(ROWS_MAX, e->y_row_bytes);
        }
        memcpy(e->y + (size_t)i * e->y_row_bytes, r.outputs[0].data, e->y_row_bytes);
        ot_run_result_release(&r);
        ot_run_result_release(&r); /* twice is safe */
    }
    for (int i = 0; i < e->golden_rows && e->golden_y != NULL; i++) {
        double d = difference(e, e->y + (size_t)i * e->y_row_bytes,
                              e->golden_y + (int64_t)i * e->y_row_count, e->y_row_count);
        ok(d <= TOLERANCE, "row %d is as NumPy computes it (difference %.2g)", i, d);
    }
}

static void check_batches(env *e, ot_instance *inst)
{
    static const int64_t sizes[] = {1, 2, 8, 31, 32};
    if (!e->rows_free) {
        skip("batches: the model's batch is fixed");
        return;
    }
    for (size_t k = 0; k < OT_COUNT(sizes); k++) {
        ot_run_result r;
        ot_error err;
        ot_tensor t = first_input(e, sizes[k]);
        if (!ok(run_tensor(inst, &t, &r, &err) == OT_OK, "batch of %lld", (long long)sizes[k])) {
            printf("# %s\n", err.msg);
            continue;
        }
        is_int(r.outputs[0].dims[0], sizes[k], "as many rows come back");
        double d = difference(e, r.outputs[0].data, e->y, sizes[k] * e->y_row_count);
        ok(d <= 1e-5, "the rows are as alone (difference %.2g)", d);
        ot_run_result_release(&r);
    }
}

static void check_zero_rows(env *e, ot_instance *inst)
{
    ot_run_result r;
    ot_error err;
    ot_tensor t = first_input(e, 0);
    if (!e->rows_free) {
        skip("zero rows: the model's batch is fixed");
        return;
    }
    ot_rc rc = run_tensor(inst, &t, &r, &err);
    ok(rc == OT_OK ? r.outputs[0].dims[0] == 0 : err.msg[0] != '\0',
       "zero rows give zero rows or an error (%s)", rc == OT_OK ? "zero rows" : err.msg);
    if (rc == OT_OK) {
        ot_run_result_release(&r);
    }
}

/* Segments of 1, 3 and 4 rows, the middle one at an odd address, against one block. */
static void check_scatter(env *e, ot_instance *inst)
{
    if (!e->rows_free) {
        skip("scatter: the model's batch is fixed");
        return;
    }
    if ((e->info->capabilities & OVERTAKE_CAP_SCATTER) == 0) {
        skip("scatter: the plug-in doesn't take it");
        return;
    }
    uint8_t *odd = ot_alloc(3 * e->row_bytes + 1);
    memcpy(odd + 1, e->x + e->row_bytes, 3 * e->row_bytes);
    ot_segment segments[] = {{e->x, e->row_bytes},
                             {odd + 1, 3 * e->row_bytes},
                             {e->x + 4 * e->row_bytes, 4 * e->row_bytes}};
    ot_run_input in = {first_input(e, 8), segments, 3};
    ot_run run = {.inputs = &in, .n_inputs = 1};
    ot_run_result r;
    ot_error err;
    if (ok(ot_instance_run(inst, &run, &r, &err) == OT_OK, "three segments")) {
        ok(difference(e, r.outputs[0].data, e->y, 8 * e->y_row_count) <= 1e-5,
           "they give what one block gives");
        ot_run_result_release(&r);
    }
    ot_tensor t = first_input(e, 3);
    t.data = odd + 1;
    if (ok(run_tensor(inst, &t, &r, &err) == OT_OK, "one block at an odd address")) {
        ok(difference(e, r.outputs[0].data, e->y + e->y_row_bytes, 3 * e->y_row_count) <= 1e-5,
           "it gives what an aligned one gives");
        ot_run_result_release(&r);
    }
    segments[2].size_bytes -= 1;
    ok(ot_instance_run(inst, &run, &r, &err) == OT_INVALID, "a segment too short is refused");
    ot_free(odd);
}

static void check_outputs(env *e, ot_instance *inst)
{
    size_t cap = e->y_row_bytes;
    uint8_t *buffer = ot_aligned_alloc(64, cap + 64);
    ot_run_output out = {e->info->outputs[0].name, buffer, cap};
    ot_run_input in = {.tensor = first_input(e, 1)};
    ot_run run = {.inputs = &in, .n_inputs = 1, .outputs = &out, .n_outputs = 1};
    ot_run_result r, held;
    ot_error err;
    memset(buffer, 0xee, cap + 64);
    if (ok(ot_instance_run(inst, &run, &r, &err) == OT_OK, "an output buffer of ours")) {
        ok(difference(e, r.outputs[0].data, e->y, e->y_row_count) <= 1e-5, "the same answer");
        printf("# the plug-in %s it\n", r.outputs[0].data == buffer ? "used" : "didn't use");
        ok(buffer[cap] == 0xee, "nothing is written behind it");
        ot_run_result_release(&r);
    }
    out.capacity = 1;
    memset(buffer, 0xee, cap + 64);
    if (ok(ot_instance_run(inst, &run, &r, &err) == OT_OK, "a buffer that is too small")) {
        ok(r.outputs[0].data != buffer && buffer[0] == 0xee, "is left alone");
        ot_run_result_release(&r);
    }
    ot_free(buffer);
    ot_tensor a = first_input(e, 1), b = a;
    b.data = e->x + (e->rows_free ? e->row_bytes : 0);
    if (run_tensor(inst, &a, &held, &err) == OT_OK && run_tensor(inst, &b, &r, &err) == OT_OK) {
        ok(difference(e, held.outputs[0].data, e->y, e->y_row_count) <= 1e-5,
           "an answer that is held survives the next run");
        ot_run_result_release(&held);
        ot_run_result_release(&r);
    }
}

static void refused(ot_instance *inst, const ot_run_input *in, int n, const char *names,
                    const char *what)
{
    ot_run run = {.inputs = in, .n_inputs = n};
    ot_run_result r;
    ot_error err = {.msg = ""};
    ot_rc rc = ot_instance_run(inst, &run, &r, &err);
    ok(rc == OT_INVALID && strstr(err.msg, names) != NULL, "%s: %s", what, err.msg);
    if (rc == OT_OK) {
        ot_run_result_release(&r);
    }
}

static void check_bad_inputs(env *e, ot_instance *inst)
{
    ot_run_input good = {.tensor = first_input(e, 1)}, in[2] = {good, good};
    const char *name = good.tensor.name;
    in[0].tensor.name = "no such input";
    refused(inst, in, 1, "no such input", "a wrong name");
    in[0] = good;
    refused(inst, in, 2, name, "the same input twice");
    refused(inst, in, 0, name, "no input");
    in[0].tensor.dtype = good.tensor.dtype == OT_DT_FP32 ? OT_DT_FP64 : OT_DT_FP32;
    refused(inst, in, 1, name, "a wrong type");
    in[0] = good;
    in[0].tensor.size_bytes -= 1;
    refused(inst, in, 1, name, "too few bytes");
    in[0] = good;
    in[0].tensor.dims[in[0].tensor.rank++] = 1;
    refused(inst, in, 1, name, "an axis too many");
    in[0] = good;
    in[0].tensor.dims[0] = -1;
    refused(inst, in, 1, name, "a negative size");
    int last = good.tensor.rank - 1;
    if (e->info->inputs[0].rank > 0 && e->info->inputs[0].dims[last] > 0) {
        in[0] = good;
        in[0].tensor.dims[last] += 1;
        refused(inst, in, 1, name, "a wrong size of the last axis");
    }
    ot_run_output out[2] = {{.name = "no such output"}, {.name = e->info->outputs[0].name}};
    ot_run run = {.inputs = &good, .n_inputs = 1, .outputs = out, .n_outputs = 1};
    ot_run_result r;
    ot_error err;
    ok(ot_instance_run(inst, &run, &r, &err) == OT_INVALID &&
           strstr(err.msg, "no such output") != NULL,
       "a wrong output: %s", err.msg);
}

static void check_deadline(env *e, ot_instance *inst)
{
    ot_run_input in = {.tensor = first_input(e, 1)};
    ot_run run = {.inputs = &in, .n_inputs = 1, .deadline_ns = 1};
    ot_run_result r;
    ot_error err;
    is_int(ot_instance_run(inst, &run, &r, &err), OT_TIMEOUT, "a deadline that has passed");
    run.deadline_ns = ot_clock_mono_ns() + 60000000000u;
    is_int(ot_instance_run(inst, &run, &r, &err), OT_OK, "a deadline that is far");
    ot_run_result_release(&r);
    ot_instance_cancel(inst, 12345);
    run.deadline_ns = 0;
    is_int(ot_instance_run(inst, &run, &r, &err), OT_OK, "cancelling nothing harms nothing");
    ot_run_result_release(&r);
}

static void check_options(env *e)
{
    static const char *const bad[] = {"{\"no_such_option\": 1}", "{", "[]", "", "{\"a\"}"};
    for (size_t i = 0; i < OT_COUNT(bad); i++) {
        ot_model_options o = {.options_json = bad[i], .isolation = e->isolation};
        ot_model *m = NULL;
        ot_error err;
        ot_rc rc = ot_model_load(e->rt, NULL, e->path, &o, &m, &err);
        ok(rc == OT_INVALID, "options '%s' are refused: %s", bad[i], rc == OT_OK ? "" : err.msg);
        ot_model_unref(m);
    }
    ot_model_options two = {.threads = 2, .isolation = e->isolation};
    ot_model *m = NULL;
    ot_instance *inst = NULL;
    ot_error err;
    ot_run_result r;
    ot_tensor t = first_input(e, 1);
    ok(ot_model_load(e->rt, NULL, e->path, &two, &m, &err) == OT_OK &&
           ot_instance_create(m, &inst, &err) == OT_OK && run_tensor(inst, &t, &r, &err) == OT_OK &&
           difference(e, r.outputs[0].data, e->y, e->y_row_count) <= 1e-5,
       "two threads give the same answer");
    if (inst != NULL) {
        ot_run_result_release(&r);
    }
    ot_model_unref(m); /* before the instance: it holds a reference */
    ot_instance_destroy(inst);
}

typedef struct worker {
    env *e;
    int wrong;
} worker;

static void *work(void *arg)
{
    worker *w = arg;
    ot_instance *inst;
    ot_error err;
    ot_run_result r;
    if (ot_instance_create(w->e->model, &inst, &err) != OT_OK) {
        w->wrong = 1000;
        return NULL;
    }
    for (int i = 0; i < 200; i++) {
        int row = w->e->rows_free ? i % ROWS_MAX : 0;
        ot_tensor t = first_input(w->e, 1);
        t.data = w->e->x + (size_t)row * w->e->row_bytes;
        if (run_tensor(inst, &t, &r, &err) != OT_OK) {
            w->wrong++;
            continue;
        }
        w->wrong += difference(w->e, r.outputs[0].data, w->e->y + (size_t)row * w->e->y_row_bytes,
                               w->e->y_row_count) > 1e-5;
        ot_run_result_release(&r);
    }
    ot_instance_destroy(inst);
    return NULL;
}

static void check_threads(env *e)
{
    pthread_t t[THREADS];
    worker w[THREADS];
    for (int i = 0; i < THREADS; i++) {
        w[i] = (worker){.e = e};
        pthread_create(&t[i], NULL, work, &w[i]);
    }
    int wrong = 0;
    for (int i = 0; i < THREADS; i++) {
        pthread_join(t[i], NULL);
        wrong += w[i].wrong;
    }
    is_int(wrong, 0, "%d instances on %d threads, 200 runs each: no wrong answer", THREADS,
           THREADS);
}

static void check_reload(env *e)
{
    int good = 0;
    for (int i = 0; i < 10; i++) {
        ot_model *m = NULL;
        ot_instance *inst = NULL;
        ot_error err;
        ot_run_result r;
        ot_tensor t = first_input(e, 1);
        ot_model_options o = {.isolation = e->isolation};
        if (ot_model_load(e->rt, NULL, e->path, &o, &m, &err) == OT_OK &&
            ot_instance_create(m, &inst, &err) == OT_OK &&
            run_tensor(inst, &t, &r, &err) == OT_OK) {
            good += difference(e, r.outputs[0].data, e->y, e->y_row_count) <= 1e-5;
            ot_run_result_release(&r);
        }
        ot_instance_destroy(inst);
        ot_model_unref(m);
    }
    is_int(good, 10, "ten times loaded, run and unloaded");
}

/* Other signatures are models of their own, also when the one that they came from has gone. */
static void check_views(env *e)
{
    ot_model *m = NULL, *views[64];
    ot_instance *inst = NULL;
    ot_error err;
    ot_model_options o = {.isolation = e->isolation};
    unsigned n = 0, asked = 0;
    ot_rc rc = ot_model_load(e->rt, NULL, e->path, &o, &m, &err);
    while (rc == OT_OK && asked < OT_COUNT(views)) {
        ot_rc got = ot_model_view(m, asked++, &views[n], &err);
        if (got == OT_NOT_FOUND) {
            break;
        }
        n += got == OT_OK;
    }
    ot_model_unref(m);
    ok(rc == OT_OK && asked < OT_COUNT(views), "%u other signatures", n);
    for (unsigned i = 0; i < n; i++) {
        const ot_model_info *info = ot_model_info_of(views[i]);
        ok(info->signature[0] != '\0' && strcmp(info->signature, e->info->signature) != 0,
           "signature '%s'", info->signature);
        ok(ot_instance_create(views[i], &inst, &err) == OT_OK, "it has instances");
        if (info->n_inputs == 1 && e->info->n_inputs == 1 &&
            info->inputs[0].dtype == e->info->inputs[0].dtype &&
            strcmp(info->inputs[0].name, e->info->inputs[0].name) == 0) {
            ot_run_result r;
            ot_tensor t = first_input(e, 1);
            ok(run_tensor(inst, &t, &r, &err) == OT_OK, "and runs");
            ot_run_result_release(&r);
        }
        ot_instance_destroy(inst);
        ot_model_unref(views[i]);
    }
}

static void check_golden(env *e)
{
    ot_golden_row cases[8];
    ot_tensor in[8], out[8];
    ot_golden_result g;
    ot_error err;
    size_t n = e->rows_free ? 8 : 1;
    for (size_t i = 0; i < n; i++) {
        in[i] = first_input(e, 1);
        in[i].data = e->x + i * e->row_bytes;
        const ot_tensor_spec *s = &e->info->outputs[0];
        out[i] = (ot_tensor){.name = s->name, .dtype = s->dtype, .rank = s->rank};
        for (int a = 0; a < s->rank; a++) {
            out[i].dims[a] = s->dims[a] < 0 ? 1 : s->dims[a];
        }
        out[i].data = e->y + i * e->y_row_bytes;
        out[i].size_bytes = e->y_row_bytes;
        cases[i] = (ot_golden_row){.inputs = &in[i], .outputs = &out[i], 1, 1};
    }
    ok(ot_golden_check(e->model, cases, n, TOLERANCE, TOLERANCE, e->rows_free ? 0 : -1, 32, &g,
                       &err) == OT_OK &&
           g.correct,
       "the golden check agrees with the model's own answers");
    ok(g.batching == e->rows_free && (g.batching || g.reason[0] != '\0'), "batching is %s (%s)",
       g.batching ? "on" : "off", g.reason);
    uint8_t *wrong = ot_alloc(e->y_row_bytes);
    memset(wrong, 0x41, e->y_row_bytes); /* 12.08 as FP32 */
    out[n - 1].data = wrong;
    ok(ot_golden_check(e->model, cases, n, TOLERANCE, TOLERANCE, 0, 32, &g, &err) == OT_OK &&
           !g.correct && !g.batching && strstr(g.reason, out[0].name) != NULL,
       "a wrong answer is found and named: %s", g.reason);
    ot_free(wrong);
}

static void report_broken(void *arg, const char *what, bool as_it_must, const char *message)
{
    (void)arg;
    ok(as_it_must, "%s: %.120s", what, message);
}

/* ------------------------------------------------------------------ strings */

static void check_strings(env *e)
{
    static const uint8_t data[] = "\3\0\0\0abc\0\0\0\0\5\0\0\0h\xc3\xa9lo";
    static const uint8_t zero[] = "\3\0\0\0a\0c\0\0\0\0\0\0\0\0";
    ot_segment segments[] = {{data, 7}, {data + 7, 4}, {data + 11, 9}};
    ot_tensor t = {.name = e->info->inputs[0].name,
                   .dtype = OT_DT_BYTES,
                   .rank = 1,
                   .dims = {3},
                   .data = data,
                   .size_bytes = 20};
    ot_instance *inst;
    ot_run_result r;
    ot_error err;
    if (!ok(ot_instance_create(e->model, &inst, &err) == OT_OK, "an instance")) {
        return;
    }
    if (ok(run_tensor(inst, &t, &r, &err) == OT_OK, "three strings")) {
        ok(r.outputs[0].dtype == OT_DT_BYTES && r.outputs[0].size_bytes == 20 &&
               memcmp(r.outputs[0].data, data, 20) == 0,
           "come back as they were");
        ot_run_result_release(&r);
    } else {
        printf("# %s\n", err.msg);
    }
    ot_run_input in = {t, segments, 3};
    ot_run run = {.inputs = &in, .n_inputs = 1};
    if (ok(ot_instance_run(inst, &run, &r, &err) == OT_OK, "in three segments")) {
        ok(memcmp(r.outputs[0].data, data, 20) == 0, "the same");
        ot_run_result_release(&r);
    }
    segments[1].size_bytes = 3;
    ok(ot_instance_run(inst, &run, &r, &err) == OT_INVALID, "broken elements: %s", err.msg);
    t.data = zero;
    t.size_bytes = 15;
    ot_rc rc = run_tensor(inst, &t, &r, &err);
    ok(rc == OT_OK ? memcmp(r.outputs[0].data, zero, 15) == 0 : rc == OT_INVALID,
       "a zero byte inside survives or is refused: %s", rc == OT_OK ? "survives" : err.msg);
    if (rc == OT_OK) {
        ot_run_result_release(&r);
    }
    ot_instance_destroy(inst);
}

/* ------------------------------------------------------------------ */

static void check_numbers(env *e, const char *golden)
{
    ot_instance *inst;
    ot_error err;
    e->rows_free = e->info->inputs[0].rank > 0 && e->info->inputs[0].dims[0] == -1;
    fill_feed(e, golden);
    if (!ok(ot_instance_create(e->model, &inst, &err) == OT_OK, "an instance")) {
        printf("# %s\n", err.msg);
        return;
    }
    check_single(e, inst);
    if (e->y != NULL) {
        check_batches(e, inst);
        check_zero_rows(e, inst);
        check_scatter(e, inst);
        check_outputs(e, inst);
        check_bad_inputs(e, inst);
        check_deadline(e, inst);
        check_options(e);
        check_threads(e);
        check_reload(e);
        check_views(e);
        check_golden(e);
    }
    ot_instance_destroy(inst);
}

/* What is damaged in a folder that is a model; "": the model is the file. */
static const char *file_in(const char *format)
{
    static const char *const files[][2] = {{"saved_model", "saved_model.pb"},
                                           {"null", "null.json"},
                                           {"python", "model.py"},
                                           {"chain", "chain.json"}};
    for (size_t i = 0; i < OT_COUNT(files); i++) {
        if (strcmp(format, files[i][0]) == 0) {
            return files[i][1];
        }
    }
    return "";
}

static void check_model(env *e, const char *golden)
{
    ot_error err;
    ot_model_options o = {.isolation = e->isolation};
    ot_rc rc = ot_model_load(e->rt, NULL, e->path, &o, &e->model, &err);
    if (rc == OT_UNAVAILABLE) {
        skip(err.msg);
        return;
    }
    if (!ok(rc == OT_OK, "load %s", e->path)) {
        printf("# %s\n", err.msg);
        return;
    }
    e->info = ot_model_info_of(e->model);
    check_info(e);
    if (e->info->n_inputs != 1) {
        skip("runs: this program feeds models with one input");
    } else if (e->info->inputs[0].dtype == OT_DT_BYTES) {
        check_strings(e);
    } else {
        check_numbers(e, golden);
    }
    broken_models(e->rt, e->info->format, e->path, &o, file_in(e->info->format), report_broken,
                  NULL);
    ot_model_unref(e->model);
    ot_free(e->x);
    ot_free(e->y);
    ot_free(e->golden_y);
}

int main(int argc, char **argv)
{
    const char *plugins = NULL, *golden = NULL;
    env e = {0};
    ot_isolation isolation = {0};
    ot_error err;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--plugins") == 0 && i + 1 < argc) {
            plugins = argv[++i];
        } else if (strcmp(argv[i], "--golden") == 0 && i + 1 < argc) {
            golden = argv[++i];
        } else if (strcmp(argv[i], "--isolate") == 0 && i + 1 < argc) {
            isolation.program = argv[++i];
            e.isolation = &isolation;
        } else {
            e.path = argv[i];
        }
    }
    if (e.path == NULL) {
        fprintf(stderr, "usage: conformance [--plugins DIR] [--golden FILE] [--isolate PROGRAM] "
                        "MODEL\n");
        return 2;
    }
    if (ok(ot_runtime_create(plugins, &e.rt, &err) == OT_OK, "registry")) {
        check_model(&e, golden);
    }
    ot_runtime_unref(e.rt);
    return tap_done();
}
