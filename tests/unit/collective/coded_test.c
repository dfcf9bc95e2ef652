/* Sums that lose bits on the wire, through the whole engine: over links that the model says are
 * slow, on ranks of this host. */
#include "job.h"

#include "base/random.h"
#include "collective/coded.h"
#include "tap.h"

#include <math.h>

#define COUNT 50021
#define STEPS 30

static void do_all(overtake_request *r, size_t n)
{
    overtake_handle h[2];
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

static void residuals(void)
{
    ot_residuals r = {0};
    float in[600], out[600];
    unsigned char room[8192] __attribute__((aligned(64)));
    for (int i = 0; i < 600; i++) {
        in[i] = (float)i;
    }
    for (uint64_t k = 0; k < 5000; k++) {
        ot_coded c;
        ot_twoshot t;
        ot_error err;
        if (ot_twoshot_init(&t, OT_CODEC_INT8, 0, 1, 600, &err) != OT_OK ||
            ot_coded_room(&t) > sizeof room) {
            break;
        }
        ot_coded_begin(&c, &t, room, &r, k % 2 == 0 ? 7 : k, in, out);
        ot_coded_done(&c);
    }
    bool kept = false;
    for (size_t i = 0; i < r.n; i++) {
        kept |= r.items[i].key == 7;
    }
    ok(kept && r.n < 600 && r.uses == 5000, "tensors that come no more are forgotten (%zu kept)",
       r.n);
    ot_residuals_done(&r);
}

int main(void)
{
    static const char slow[] = "wire = auto\nlocal.bytes_per_us = 1\nremote.bytes_per_us = 1\n";
    for (int32_t n = 2; n <= 4; n++) {
        job j = {.size = n, .part = int8, .settings = slow, .no_shm = n == 3, .rogue = -1};
        is_int(job_run(&j), 0, "int8 with what it loses fed back: %d ranks", n);
        j.part = others;
        is_int(job_run(&j), 0, "grouped, unnamed, int32, infinity: %d ranks", n);
    }
    residuals();
    return tap_done();
}
