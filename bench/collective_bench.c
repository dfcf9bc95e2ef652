/* Throughput of allreduce between ranks of this machine, beside what its memory can do: the bound
 * for two ranks is 1.5 B / (rate of memcpy in one process while both copy).
 *
 *     collective_bench [ranks [MiB [rounds [tcp]]]] */
#include "../tests/unit/collective/job.h"

static struct {
    size_t bytes;
    int rounds;
} what = {.bytes = (size_t)100 << 20, .rounds = 10};

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *t, int n)
{
    qsort(t, (size_t)n, sizeof *t, by_size);
    return t[n / 2];
}

static int barrier(void)
{
    overtake_request r = {.struct_size = sizeof r, .kind = OVERTAKE_BARRIER};
    overtake_handle h;
    return overtake_start(&r, 1, &h, NULL, 0) != 0 || overtake_wait(h, 0, NULL, NULL) != 0;
}

static int part(const job *j, int32_t rank)
{
    float *in = ot_aligned_alloc(4096, what.bytes), *out = ot_aligned_alloc(4096, what.bytes);
    double copy[64], sum[64];
    if (in == NULL || out == NULL) {
        return 1;
    }
    int64_t count = (int64_t)(what.bytes / sizeof *in);
    for (int64_t i = 0; i < count; i++) {
        in[i] = (float)(i % 1000) + (float)rank;
        out[i] = 0;
    }
    for (int i = 0; i < what.rounds; i++) {
        if (barrier()) {
            return 1;
        }
        uint64_t t = ot_clock_mono_ns();
        memcpy(out, in, what.bytes);
        copy[i] = (double)(ot_clock_mono_ns() - t) * 1e-9;
        overtake_request r = {.struct_size = sizeof r,
                              .kind = OVERTAKE_ALLREDUCE,
                              .dtype = OVERTAKE_F32,
                              .reduction = OVERTAKE_SUM,
                              .ndim = 1,
                              .dims = &count,
                              .in = in,
                              .out = out};
        overtake_handle h;
        overtake_failure f = {.struct_size = sizeof f};
        if (barrier()) {
            return 1;
        }
        t = ot_clock_mono_ns();
        if (overtake_start(&r, 1, &h, f.message, sizeof f.message) != 0 ||
            overtake_wait(h, 0, NULL, &f) != 0) {
            printf("rank %d: %s\n", rank, f.message);
            return 1;
        }
        sum[i] = (double)(ot_clock_mono_ns() - t) * 1e-9;
    }
    for (int64_t i = 0; i < count; i += 997) {
        float want = 0;
        for (int32_t k = 0; k < j->size; k++) {
            want += (float)(i % 1000) + (float)k;
        }
        if (out[i] != want) {
            printf("rank %d: out[%lld] is %g, not %g\n", rank, (long long)i, (double)out[i],
                   (double)want);
            return 1;
        }
    }
    double c = median(copy, what.rounds), s = median(sum, what.rounds);
    double n = j->size, bytes = (double)what.bytes;
    if (rank == 0) {
        printf("allreduce of %.3g MiB, %d ranks: median %.4g s, bus %.3g GB/s, %.3g Gbit/s; memcpy "
               "%.3g GB/s; %.0f%% of 1.5 B / memcpy\n",
               bytes / 1048576, j->size, s, bytes * 2 * (n - 1) / n / s / 1e9,
               bytes * 2 * (n - 1) / n / s * 8 / 1e9, bytes / c / 1e9, 100 * 1.5 * c / s);
    }
    ot_free(in);
    ot_free(out);
    return 0;
}

int main(int argc, char **argv)
{
    job j = {.size = argc > 1 ? atoi(argv[1]) : 2, .part = part, .rogue = -1};
    what.bytes = (argc > 2 ? (size_t)(atof(argv[2]) * 262144) : what.bytes / 4) * 4;
    what.rounds = argc > 3 ? atoi(argv[3]) : what.rounds;
    j.no_shm = argc > 4 && strcmp(argv[4], "tcp") == 0;
    if (j.size < 1 || j.size > JOB_RANKS_MAX || what.rounds < 1 || what.rounds > 64) {
        fprintf(stderr, "collective_bench [1-%d ranks [MiB [1-64 rounds [tcp]]]]\n", JOB_RANKS_MAX);
        return 2;
    }
    return job_run(&j) != 0;
}
