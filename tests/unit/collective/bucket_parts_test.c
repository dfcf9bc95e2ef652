/* Sums that lose bits on the wire, through the whole engine: over links that the model says are
 * slow, on ranks of this host. */
#include "job.h"

#include "tap.h"

#include <math.h>

#define COUNT 50021
#define STEPS 30

static void do_all(overtake_request *r, size_t n)
{
    overtake_handle h[4];
    overtake_failure f = {.struct_size = sizeof f};
    for (size_t i = 0; i < n; i++) {
        r[i].struct_size = sizeof *r;
    }
    if (overtake_start(r, n, h, f.message, sizeof f.message) != 0) {
        wrong("%s", f.message);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (overtake_wait(h[i], 60, NULL, &f) != 0) {
            wrong("%s", f.message);
        }
    }
}

static overtake_request average(const char *name, float *p, const int64_t *count)
{
    return (overtake_request){.kind = OVERTAKE_ALLREDUCE,
                              .name = name,
                              .dtype = OVERTAKE_F32,
                              .reduction = OVERTAKE_AVERAGE,
                              .ndim = 1,
                              .dims = count,
                              .in = p,
                              .out = p};
}

/* The ranks' hashes of it are one. */
static void same_bits(const job *j, const float *p, const char *what)
{
    uint64_t hash = 1, all[JOB_RANKS_MAX];
    int64_t one = 1;
    for (int i = 0; i < COUNT; i++) {
        uint32_t u;
        memcpy(&u, &p[i], sizeof u);
        hash = hash * 1099511628211u + u;
    }
    overtake_request r = {.kind = OVERTAKE_ALLGATHER,
                          .dtype = OVERTAKE_U64,
                          .ndim = 1,
                          .dims = &one,
                          .in = &hash,
                          .out = all};
    do_all(&r, 1);
    for (int32_t k = 0; k < j->size; k++) {
        if (all[k] != hash) {
            wrong("%s: rank %d has other bits", what, k);
        }
    }
}

/* The same numbers on every rank that asks for them. */
static float number(int32_t rank, int step, int i)
{
    return sinf((float)(i % 977 + 31 * rank) * 0.1f + (float)step);
}

static float exact(const job *j, int step, int i)
{
    float sum = 0;
    for (int32_t k = 0; k < j->size; k++) {
        sum += number(k, step, i);
    }
    return sum / (float)j->size;
}

static int int8(const job *j, int32_t rank)
{
    static float p[COUNT], got[COUNT], given[COUNT];
    int64_t count = COUNT;
    double worst = 0, worst_sum = 0;
    for (int step = 0; step < STEPS; step++) {
        /* The same each step: without feedback errors would add up. */
        for (int i = 0; i < COUNT; i++) {
            p[i] = number(rank, 0, i);
        }
        overtake_request r = average("g", p, &count);
        do_all(&r, 1);
        same_bits(j, p, "int8");
        for (int i = 0; i < COUNT; i++) {
            float want = exact(j, 0, i);
            got[i] += p[i];
            given[i] += want;
            worst = fmax(worst, fabs((double)(p[i] - want)));
            worst_sum = fmax(worst_sum, fabs((double)(got[i] - given[i])));
        }
    }
    if (worst < 1e-4 || worst > 0.04) {
        wrong("a step is %g off: it was not coded, or badly", worst);
    }
    if (worst_sum > 0.0085) {
        wrong("%d steps are %g off: errors are not fed back", STEPS, worst_sum);
    }
    return failures != 0;
}

/* What is grouped, without a name, of another type, or not finite. */
static int others(const job *j, int32_t rank)
{
    static float a[COUNT], b[COUNT];
    static int32_t k[COUNT];
    int64_t count = COUNT;
    for (int i = 0; i < COUNT; i++) {
        a[i] = number(rank, 1, i);
        b[i] = number(rank, 2, i);
        k[i] = i + rank;
    }
    overtake_request two[2] = {average("a", a, &count), average("b", b, &count)};
    do_all(two, 2);
    same_bits(j, a, "grouped");
    for (int i = 0; i < COUNT; i++) {
        if (!(fabsf(a[i] - exact(j, 1, i)) < 0.04f && fabsf(b[i] - exact(j, 2, i)) < 0.04f)) {
            wrong("grouped: number %d", i);
        }
        a[i] = number(rank, 1, i);
    }
    overtake_request unnamed = average(NULL, a, &count);
    do_all(&unnamed, 1);
    same_bits(j, a, "without a name");
    double worst = 0;
    for (int i = 0; i < COUNT; i++) {
        float size = fabsf(exact(j, 1, i));
        for (int32_t r = 0; r < j->size; r++) {
            size += fabsf(number(r, 1, i)) / (float)j->size;
        }
        worst = fmax(worst, (double)(fabsf(a[i] - exact(j, 1, i)) / (size + 1e-6f)));
    }
    if (worst < 1e-5 || worst > 0.004) {
        wrong("without a name: %g off, which is not bfloat16's way", worst);
    }
    overtake_request whole = average("k", a, &count);
    whole.dtype = OVERTAKE_I32;
    whole.reduction = OVERTAKE_SUM;
    whole.in = whole.out = k;
    do_all(&whole, 1);
    for (int i = 0; i < COUNT; i++) {
        if (k[i] != j->size * i + j->size * (j->size - 1) / 2) {
            wrong("int32: number %d is %d", i, k[i]);
        }
    }
    for (int i = 0; i < COUNT; i++) {
        a[i] = 1;
    }
    a[5] = rank == j->size - 1 ? INFINITY : 1;
    overtake_request infinite = average("infinite", a, &count);
    do_all(&infinite, 1);
    if (isfinite(a[5]) || !isfinite(a[COUNT - 1])) {
        wrong("an infinity of the last rank is not on all");
    }
    return failures != 0;
}

/* --- low rank ------------------------------------------------------------------------------ */

enum { A_ROWS = 96, A_COLS = 131, B_OUT = 33, B_IN = 5, B_SIDE = 7, BIAS = 131, TENSORS = 3 };
enum { A_COUNT = A_ROWS * A_COLS, B_COUNT = B_OUT * B_IN * B_SIDE * B_SIDE };
static const int64_t a_dims[] = {A_ROWS, A_COLS}, b_dims[] = {B_OUT, B_IN, B_SIDE, B_SIDE},
                     bias_dims[] = {BIAS};
static const struct {
    const char *name;
    const int64_t *dims;
    int32_t ndim;
    int count;
} tensors[TENSORS] = {
    {"a", a_dims, 2, A_COUNT}, {"b", b_dims, 4, B_COUNT}, {"bias", bias_dims, 1, BIAS}};

/* One step of all three, in place, as one call. */
static void step_all(float p[TENSORS][COUNT], int32_t reduction, double prescale)
{
    overtake_request r[TENSORS];
    for (int t = 0; t < TENSORS; t++) {
        r[t] = average(tensors[t].name, p[t], tensors[t].dims);
        r[t].ndim = tensors[t].ndim;
        r[t].reduction = reduction;
        r[t].prescale = prescale;
    }
    do_all(r, TENSORS);
}

static double norm(const float *p, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) {
        sum += (double)p[i] * (double)p[i];
    }
    return sqrt(sum);
}

/* The same gradients each step, of more columns than are sent: what a step leaves out the next ones
 * bring. */
static int low(const job *j, int32_t rank)
{
    static float p[TENSORS][COUNT], off[TENSORS][COUNT], want[COUNT];
    bool sums = *(const bool *)j->arg;
    double rough[TENSORS] = {0}, mean = sums ? j->size : 1;
    for (int step = 0; step < 2 * STEPS; step++) {
        for (int t = 0; t < TENSORS; t++) {
            for (int i = 0; i < tensors[t].count; i++) {
                p[t][i] = number(rank, t, 7 * i + i * i % 11) / (sums ? 2 : 1);
            }
        }
        step_all(p, sums ? OVERTAKE_SUM : OVERTAKE_AVERAGE, sums ? 2 : 0);
        for (int t = 0; t < TENSORS; t++) {
            same_bits(j, p[t], tensors[t].name);
            for (int i = 0; i < tensors[t].count; i++) {
                want[i] = exact(j, t, 7 * i + i * i % 11) * (float)mean;
                p[t][i] -= want[i];
                off[t][i] += p[t][i];
            }
            rough[t] = norm(p[t], tensors[t].count) / norm(want, tensors[t].count);
            double left = norm(off[t], tensors[t].count) / norm(want, tensors[t].count);
            if (step == 2 * STEPS - 1 && left > (t == 2 ? 0.001 : 12)) {
                wrong("'%s': %d steps are %g steps behind", tensors[t].name, step, left);
            }
        }
    }
    if (rough[0] < 1e-3 || rough[1] < 1e-3 || rough[2] > 1e-6) {
        wrong("a step is %g, %g, %g off: it did not go by low rank", rough[0], rough[1], rough[2]);
    }
    return failures != 0;
}

/* A NaN of one rank is everywhere and leaves nothing behind; the ranks that have joined agree. */
static int low_hard(const job *j, int32_t rank)
{
    static float p[TENSORS][COUNT];
    for (int step = 0; step < 12; step++) {
        bool bad = step == 8;
        for (int t = 0; t < TENSORS; t++) {
            for (int i = 0; i < tensors[t].count; i++) {
                p[t][i] = number(rank, t, i);
            }
        }
        p[0][17] = bad && rank == j->size - 1 ? NAN : p[0][17];
        step_all(p, OVERTAKE_AVERAGE, 0);
        for (int t = 0; t < TENSORS; t++) {
            same_bits(j, p[t], tensors[t].name);
        }
        for (int i = 0; i < A_COUNT; i++) {
            if (isfinite(p[0][i]) != !bad) {
                wrong("step %d: number %d is %g", step, i, (double)p[0][i]);
                break;
            }
        }
        if (!isfinite(p[1][0])) {
            wrong("step %d: another tensor has it, too", step);
        }
    }
    overtake_result done = {.struct_size = sizeof done};
    overtake_request join = {.kind = OVERTAKE_JOIN};
    for (int step = 0; step < 3 && rank != 0; step++) {
        step_all(p, OVERTAKE_AVERAGE, 0);
    }
    do_one(&join, &done);
    return failures != 0;
}

/* More than a part, beside a small one: what goes half way is in the bounds of its type. */
enum { LARGE = (1 << 20) + 300007, SMALL = 77 };

static int large(const job *j, int32_t rank)
{
    static float p[LARGE], q[SMALL];
    int64_t n = LARGE, m = SMALL;
    float far = *(const float *)j->arg;
    for (int step = 0; step < 4; step++) {
        for (int i = 0; i < LARGE; i++) {
            p[i] = number(rank, step, i);
            q[i % SMALL] = number(rank, step, i % SMALL);
        }
        overtake_request r[2] = {average("large", p, &n), average("small", q, &m)};
        do_all(r, 2);
        same_bits(j, p, "large");
        same_bits(j, p + LARGE - COUNT, "the end of large");
        double worst = 0;
        for (int i = 0; i < LARGE; i++) {
            worst = fmax(worst, fabs((double)(p[i] - exact(j, step, i))));
        }
        for (int i = 0; i < SMALL; i++) {
            worst = fmax(worst, fabs((double)(q[i] - exact(j, step, i))));
        }
        if (!(worst < (double)far) || worst < (double)far / 1000) {
            wrong("step %d: %g off, not about %g", step, worst, (double)far);
        }
    }
    return failures != 0;
}

/* All ranks but the first: their residuals are their own. */
static int in_group(const job *j, int32_t rank)
{
    static float p[A_COUNT], sum[A_COUNT];
    int32_t members[JOB_RANKS_MAX], group, n = j->size - 1;
    overtake_failure f = {.struct_size = sizeof f};
    for (int32_t i = 0; i < n; i++) {
        members[i] = i + 1;
    }
    if (overtake_group_create(members, (size_t)n, &group, f.message, sizeof f.message) != 0) {
        wrong("%s", f.message);
    }
    for (int step = 0; step < STEPS && rank > 0 && failures == 0; step++) {
        overtake_request r = average("a", p, a_dims);
        float all[JOB_RANKS_MAX];
        int64_t one = 1;
        r.ndim = 2;
        r.group = group;
        for (int i = 0; i < A_COUNT; i++) {
            p[i] = number(rank, 0, 7 * i + i * i % 11);
        }
        do_all(&r, 1);
        for (int i = 0; i < A_COUNT; i++) {
            sum[i] += p[i];
        }
        overtake_request check = {.kind = OVERTAKE_ALLGATHER,
                                  .group = group,
                                  .dtype = OVERTAKE_F32,
                                  .ndim = 1,
                                  .dims = &one,
                                  .in = &sum[A_COUNT - 1],
                                  .out = all};
        do_all(&check, 1);
        for (int32_t i = 0; i < n; i++) {
            if (memcmp(&all[i], &sum[A_COUNT - 1], sizeof *all) != 0) {
                wrong("step %d: member %d has other bits", step, i);
            }
        }
    }
    double off = 0, size = 0;
    for (int i = 0; i < A_COUNT && rank > 0; i++) {
        double want = 0;
        for (int32_t k = 1; k < j->size; k++) {
            want += (double)number(k, 0, 7 * i + i * i % 11) / n;
        }
        off += pow((double)sum[i] - STEPS * want, 2);
        size += want * want;
    }
    if (rank > 0 && (sqrt(off / size) > 12 || off / size < 1e-6)) {
        wrong("%d steps are %g steps behind", STEPS, sqrt(off / size));
    }
    return failures != 0;
}

#define SLOW "local.bytes_per_us = 1\nremote.bytes_per_us = 1\n"

static void larger_than_a_part(void)
{
    static const struct {
        const char *what, *settings;
        float far;
    } wires[] = {{"bfloat16", "wire = half\n" SLOW, 0.006f},
                 {"float16", "wire = fp16\n" SLOW, 0.0007f},
                 {"int8", "wire = auto\nlowrank = 0\n" SLOW, 0.03f}};
    for (size_t i = 0; i < OT_COUNT(wires); i++) {
        float far = wires[i].far;
        job j = {.size = 3, .part = large, .settings = wires[i].settings, .rogue = -1};
        j.arg = &far;
        is_int(job_run(&j), 0, "%s in several parts", wires[i].what);
    }
}

int main(void)
{
    static const char slow[] = "wire = auto\n" SLOW;
    for (int32_t n = 2; n <= 4; n++) {
        job j = {.size = n, .part = int8, .settings = slow, .no_shm = n == 3, .rogue = -1};
        is_int(job_run(&j), 0, "int8 with what it loses fed back: %d ranks", n);
        j.part = others;
        is_int(job_run(&j), 0, "grouped, unnamed, int32, infinity: %d ranks", n);
    }
    for (int32_t n = 2; n <= 5; n++) {
        bool sums = n % 2 != 0;
        job j = {.size = n, .part = low, .settings = slow, .no_shm = n == 4, .rogue = -1};
        j.arg = &sums;
        is_int(job_run(&j), 0, "low rank with what it loses fed back: %d ranks", n);
        j.part = low_hard;
        is_int(job_run(&j), 0, "low rank: a NaN, a rank that has joined: %d ranks", n);
    }
    larger_than_a_part();
    job group = {.size = 4, .part = in_group, .settings = slow, .rogue = -1};
    is_int(job_run(&group), 0, "low rank in a group of some of the ranks");
    return tap_done();
}
