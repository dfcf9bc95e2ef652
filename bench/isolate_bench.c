/* What a worker process costs: the same model in this process and in one of its own, in turns
 * within each round, so that a busy moment hits both.
 *
 *     isolate_bench --program OVERTAKE [--plugins DIR] [--seconds S] MODEL...
 *
 * Prints a JSON line for each model and batch size: medians over rounds of a run's time in process,
 * isolated, what isolation adds (median of the differences, with the least and the most), and the
 * throughput kept. One thread computes. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/random.h"
#include "runtime/runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS 21

static const int64_t batches[] = {1, 8, 32, 64};

typedef struct arm {
    ot_model *model;
    ot_instance *inst;
} arm;

static void die(const char *what, const ot_error *err)
{
    fprintf(stderr, "isolate_bench: %s: %s\n", what, err->msg);
    exit(1);
}

static arm open_arm(ot_runtime *rt, const char *path, const ot_isolation *isolation)
{
    arm a;
    ot_error err;
    ot_model_options opts = {.threads = 1, .isolation = isolation};
    if (ot_model_load(rt, NULL, path, &opts, &a.model, &err) != OT_OK ||
        ot_instance_create(a.model, &a.inst, &err) != OT_OK) {
        die(path, &err);
    }
    return a;
}

static void make_input(const ot_model_info *info, int64_t rows, ot_run_input *in)
{
    ot_rng rng;
    ot_rng_seed(&rng, 1);
    *in = (ot_run_input){{.name = info->inputs[0].name,
                          .dtype = info->inputs[0].dtype,
                          .rank = info->inputs[0].rank},
                         NULL,
                         0};
    ot_tensor *t = &in->tensor;
    for (int a = 0; a < t->rank; a++) {
        t->dims[a] = info->inputs[0].dims[a] < 0 ? rows : info->inputs[0].dims[a];
    }
    if (info->n_inputs != 1 || !ot_shape_bytes(t->dtype, t->dims, t->rank, &t->size_bytes)) {
        fprintf(stderr, "isolate_bench: models with one numeric input only\n");
        exit(1);
    }
    float *data = ot_aligned_alloc(64, t->size_bytes + 64);
    if (data == NULL) {
        abort();
    }
    memset(data, 0, t->size_bytes);
    for (size_t k = 0; t->dtype == OT_DT_FP32 && k < t->size_bytes / 4; k++) {
        data[k] = (float)ot_rng_uniform(&rng);
    }
    t->data = data;
}

/* Microseconds a run, over about `us` of runs. */
static double time_runs(ot_instance *inst, const ot_run_input *in, uint64_t us)
{
    ot_run run = {.inputs = in, .n_inputs = 1};
    static ot_run_result r;
    ot_error err;
    uint64_t start = ot_clock_mono_ns(), now, n = 0;
    do {
        for (int k = 0; k < 16; k++, n++) {
            if (ot_instance_run(inst, &run, &r, &err) != OT_OK) {
                die("run", &err);
            }
            ot_run_result_release(&r);
        }
        now = ot_clock_mono_ns();
    } while (now - start < us * 1000);
    return (double)(now - start) / 1000 / (double)n;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void bench_batch(const arm *in_process, const arm *isolated, const char *path, int64_t rows,
                        uint64_t us)
{
    double here[ROUNDS], there[ROUNDS], added[ROUNDS];
    ot_run_input in;
    make_input(ot_model_info_of(in_process->model), rows, &in);
    time_runs(in_process->inst, &in, us / ROUNDS);
    time_runs(isolated->inst, &in, us / ROUNDS);
    for (int r = 0; r < ROUNDS; r++) {
        here[r] = time_runs(in_process->inst, &in, us / ROUNDS);
        there[r] = time_runs(isolated->inst, &in, us / ROUNDS);
        added[r] = there[r] - here[r];
    }
    qsort(here, ROUNDS, sizeof here[0], by_value);
    qsort(there, ROUNDS, sizeof there[0], by_value);
    qsort(added, ROUNDS, sizeof added[0], by_value);
    printf("{\"bench\": \"isolate\", \"model\": \"%s\", \"batch\": %lld, \"us_in_process\": %.2f, "
           "\"us_isolated\": %.2f, \"us_added\": %.2f, \"us_added_min\": %.2f, "
           "\"us_added_max\": %.2f, \"us_added_a_row\": %.3f, \"throughput_kept\": %.3f}\n",
           path, (long long)rows, here[ROUNDS / 2], there[ROUNDS / 2], added[ROUNDS / 2], added[0],
           added[ROUNDS - 1], added[ROUNDS / 2] / (double)rows,
           here[ROUNDS / 2] / there[ROUNDS / 2]);
    void *data;
    memcpy(&data, &in.tensor.data, sizeof data);
    ot_free(data);
}

static void bench(ot_runtime *rt, const char *path, const char *program, uint64_t us)
{
    ot_isolation isolation = {.program = program};
    arm here = open_arm(rt, path, NULL), there = open_arm(rt, path, &isolation);
    size_t n = ot_model_info_of(here.model)->batch_axis == 0 ? OT_COUNT(batches) : 1;
    for (size_t b = 0; b < n; b++) {
        bench_batch(&here, &there, path, batches[b], us);
    }
    ot_instance_destroy(here.inst);
    ot_instance_destroy(there.inst);
    ot_model_unref(here.model);
    ot_model_unref(there.model);
}

int main(int argc, char **argv)
{
    const char *plugins = NULL, *program = NULL;
    uint64_t us = 2000000;
    ot_error err;
    ot_runtime *rt = NULL;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--plugins") == 0 && i + 1 < argc) {
            plugins = argv[++i];
        } else if (strcmp(argv[i], "--program") == 0 && i + 1 < argc) {
            program = argv[++i];
        } else if (strcmp(argv[i], "--seconds") == 0 && i + 1 < argc) {
            us = (uint64_t)(atof(argv[++i]) * 1e6);
        } else if (program != NULL) {
            if (rt == NULL && ot_runtime_create(plugins, &rt, &err) != OT_OK) {
                die("plug-ins", &err);
            }
            bench(rt, argv[i], program, us);
        }
    }
    if (rt == NULL) {
        fprintf(stderr, "usage: isolate_bench --program OVERTAKE [--plugins DIR] [--seconds S] "
                        "MODEL...\n");
        return 2;
    }
    ot_runtime_unref(rt);
    return 0;
}
