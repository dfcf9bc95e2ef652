/* In-process cost of a run through the plug-in host, per model and batch: the figure that served
 * rates are compared with.
 *
 *     runtime_bench [--plugins DIR] [--options JSON] [--seconds S] [--few] MODEL...
 *
 * Prints JSON lines: one for each model and batch size (1, 8, 32 rows; medians and spread over
 * rounds, batch sizes interleaved in each round, so that a busy moment hits all of them), then one
 * with the rate at batch 1 and at the best batch, then one for two instances on two threads.
 * One thread computes unless said otherwise. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/random.h"
#include "runtime/runtime.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ROUNDS 15
#define SLOW_US 1000 /* runs from here on have the clock read after each */
#define INPUTS_MAX 8

static const int64_t batches[] = {1, 8, 32};
static size_t n_batches = OT_COUNT(batches);
static int rounds = ROUNDS;

typedef struct feed {
    ot_run_input inputs[INPUTS_MAX];
    int n;
    ot_run_output outputs[OT_RUNTIME_OUTPUTS_MAX];
    int n_outputs;
} feed;

static void die(const char *what, const ot_error *err)
{
    fprintf(stderr, "runtime_bench: %s: %s\n", what, err->msg);
    exit(1);
}

static void feed_make(const ot_model_info *info, int64_t rows, feed *f)
{
    ot_rng rng;
    ot_rng_seed(&rng, 1);
    f->n = info->n_inputs;
    f->n_outputs = info->n_outputs;
    if (info->n_inputs > INPUTS_MAX) {
        fprintf(stderr, "runtime_bench: more than %d inputs\n", INPUTS_MAX);
        exit(1);
    }
    for (int i = 0; i < info->n_inputs; i++) {
        ot_tensor *t = &f->inputs[i].tensor;
        *t = (ot_tensor){
            info->inputs[i].name, info->inputs[i].dtype, info->inputs[i].rank, {0}, NULL, 0};
        for (int a = 0; a < t->rank; a++) {
            t->dims[a] = info->inputs[i].dims[a] < 0 ? rows : info->inputs[i].dims[a];
        }
        if (!ot_shape_bytes(t->dtype, t->dims, t->rank, &t->size_bytes)) {
            fprintf(stderr, "runtime_bench: input '%s' cannot be filled\n", t->name);
            exit(1);
        }
        void *data = ot_aligned_alloc(64, t->size_bytes);
        if (data == NULL) {
            abort();
        }
        memset(data, 0, t->size_bytes);
        for (size_t k = 0; t->dtype == OT_DT_FP32 && k < t->size_bytes / 4; k++) {
            ((float *)data)[k] = (float)ot_rng_uniform(&rng);
        }
        t->data = data;
        f->inputs[i].n_segments = 0;
    }
    for (int i = 0; i < info->n_outputs; i++) {
        f->outputs[i] =
            (ot_run_output){info->outputs[i].name, ot_aligned_alloc(64, 1 << 16), 1 << 16};
    }
}

static double process_cpu_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* Microseconds a run, over about `us` of runs; `cpu_us` (may be NULL) gets the process's CPU time a
 * run, which a busy machine lengthens less. */
static double time_runs(ot_instance *inst, const feed *f, uint64_t us, double *cpu_us)
{
    ot_run run = {
        .inputs = f->inputs, .n_inputs = f->n, .outputs = f->outputs, .n_outputs = f->n_outputs};
    static _Thread_local ot_run_result r;
    ot_error err;
    double cpu = process_cpu_us();
    uint64_t start = ot_clock_mono_ns(), now = start, n = 0, step = 1;
    do {
        if (ot_instance_run(inst, &run, &r, &err) != OT_OK) {
            die("run", &err);
        }
        ot_run_result_release(&r);
        n++;
        if (n % step == 0) {
            now = ot_clock_mono_ns();
            step = n == 1 && now - start < SLOW_US * UINT64_C(1000) ? 16 : step;
        }
    } while (now - start < us * 1000);
    if (cpu_us != NULL) {
        *cpu_us = (process_cpu_us() - cpu) / (double)n;
    }
    return (double)(now - start) / 1000 / (double)n;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct worker {
    ot_instance *inst;
    const feed *f;
    uint64_t us;
    double result;
} worker;

static void *work(void *arg)
{
    worker *w = arg;
    w->result = time_runs(w->inst, w->f, w->us, NULL);
    return NULL;
}

/* Two instances on two threads against one alone, taken in turns: 2 is perfect. */
static void bench_threads(ot_model *m, const char *path, const feed *f, uint64_t us)
{
    worker w[2];
    pthread_t t[2];
    ot_error err;
    double speedup[ROUNDS];
    for (int i = 0; i < 2; i++) {
        w[i] = (worker){.f = f, .us = us / (uint64_t)rounds};
        if (ot_instance_create(m, &w[i].inst, &err) != OT_OK) {
            die(path, &err);
        }
        time_runs(w[i].inst, f, us / (uint64_t)rounds, NULL);
    }
    for (int r = 0; r < rounds; r++) {
        double alone = time_runs(w[0].inst, f, us / (uint64_t)rounds, NULL);
        for (int i = 0; i < 2; i++) {
            pthread_create(&t[i], NULL, work, &w[i]);
        }
        for (int i = 0; i < 2; i++) {
            pthread_join(t[i], NULL);
        }
        speedup[r] = alone / w[0].result + alone / w[1].result;
    }
    qsort(speedup, (size_t)rounds, sizeof speedup[0], by_value);
    printf("{\"bench\": \"runtime_threads\", \"model\": \"%s\", \"threads\": 2, \"batch\": 1, "
           "\"speedup\": %.2f, \"speedup_min\": %.2f, \"speedup_max\": %.2f}\n",
           path, speedup[rounds / 2], speedup[0], speedup[rounds - 1]);
    ot_instance_destroy(w[0].inst);
    ot_instance_destroy(w[1].inst);
}

static void bench(ot_runtime *rt, const char *path, const char *options, uint64_t us)
{
    ot_error err;
    ot_model *m;
    ot_instance *inst;
    ot_model_options opts = {.threads = 1, .options_json = options};
    uint64_t before = ot_clock_mono_ns();
    if (ot_model_load(rt, NULL, path, &opts, &m, &err) != OT_OK ||
        ot_instance_create(m, &inst, &err) != OT_OK) {
        die(path, &err);
    }
    double load_ms = (double)(ot_clock_mono_ns() - before) / 1e6;
    const ot_model_info *info = ot_model_info_of(m);
    static feed feeds[OT_COUNT(batches)];
    double took[OT_COUNT(batches)][ROUNDS], cpu[OT_COUNT(batches)][ROUNDS];
    size_t n = info->batch_axis == 0 ? n_batches : 1, best = 0;
    for (size_t b = 0; b < n; b++) {
        feed_make(info, batches[b], &feeds[b]);
        time_runs(inst, &feeds[b], us / (uint64_t)rounds, NULL);
    }
    for (int r = 0; r < rounds; r++) {
        for (size_t b = 0; b < n; b++) {
            took[b][r] = time_runs(inst, &feeds[b], us / (uint64_t)rounds, &cpu[b][r]);
        }
    }
    for (size_t b = 0; b < n; b++) {
        qsort(took[b], (size_t)rounds, sizeof took[b][0], by_value);
        qsort(cpu[b], (size_t)rounds, sizeof cpu[b][0], by_value);
        best = took[b][rounds / 2] / (double)batches[b] <
                       took[best][rounds / 2] / (double)batches[best]
                   ? b
                   : best;
        printf(
            "{\"bench\": \"runtime\", \"model\": \"%s\", \"plugin\": \"%s\", \"runtime\": \"%s\", "
            "\"load_ms\": %.1f, \"batch\": %lld, \"us_run\": %.2f, \"us_run_min\": %.2f, "
            "\"us_run_max\": %.2f, \"us_row\": %.3f}\n",
            path, info->plugin, info->runtime_version, load_ms, (long long)batches[b],
            took[b][rounds / 2], took[b][0], took[b][rounds - 1],
            took[b][rounds / 2] / (double)batches[b]);
    }
    printf("{\"bench\": \"runtime_rate\", \"model\": \"%s\", \"rows_per_s_batch1\": %.0f, "
           "\"best_batch\": %lld, \"rows_per_s_best\": %.0f, \"cpu_us_row_batch1\": %.3f, "
           "\"cpu_us_row_best\": %.3f}\n",
           path, 1e6 / took[0][rounds / 2], (long long)batches[best],
           1e6 * (double)batches[best] / took[best][rounds / 2], cpu[0][rounds / 2],
           cpu[best][rounds / 2] / (double)batches[best]);
    bench_threads(m, path, &feeds[0], us);
    ot_instance_destroy(inst);
    ot_model_unref(m);
}

int main(int argc, char **argv)
{
    const char *plugins = NULL, *options = NULL;
    uint64_t us = 2000000;
    ot_error err;
    ot_runtime *rt = NULL;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--plugins") == 0 && i + 1 < argc) {
            plugins = argv[++i];
        } else if (strcmp(argv[i], "--options") == 0 && i + 1 < argc) {
            options = argv[++i];
        } else if (strcmp(argv[i], "--few") == 0) { /* for slow models */
            n_batches = 2;
            rounds = 3;
        } else if (strcmp(argv[i], "--seconds") == 0 && i + 1 < argc) {
            us = (uint64_t)(atof(argv[++i]) * 1e6);
        } else {
            if (rt == NULL && ot_runtime_create(plugins, &rt, &err) != OT_OK) {
                die("plug-ins", &err);
            }
            bench(rt, argv[i], options, us);
        }
    }
    if (rt == NULL) {
        fprintf(stderr, "usage: runtime_bench [--plugins DIR] [--options JSON] [--seconds S] "
                        "MODEL...\n");
        return 2;
    }
    ot_runtime_unref(rt);
    return 0;
}
