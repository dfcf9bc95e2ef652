/* Low rank: what it sends stands for the matrix, what it does not is in the residual, and every
 * instruction set makes the same bits. */
#include "base/random.h"
#include "collective/kernel.h"
#include "collective/lowrank.h"
#include "tap.h"

#define ROWS 37
#define COLS 53
#define RANK 4
#define RANK_MOST 13 /* eight, four and one */
#define N (ROWS * COLS)

typedef struct matrix {
    ot_lowrank l;
    float m[N], residual[N], p[RANK_MOST * ROWS], q[RANK_MOST * COLS], sums[RANK_MOST * COLS];
} matrix;

static void begin_by(matrix *x, size_t rank)
{
    memset(x, 0, sizeof *x);
    x->l = (ot_lowrank){.rows = ROWS,
                        .cols = COLS,
                        .rank = rank,
                        .in = x->m,
                        .out = x->m,
                        .in_step = COLS,
                        .out_step = COLS,
                        .before = 1,
                        .after = 1,
                        .residual = x->residual,
                        .q = x->q,
                        .p = x->p,
                        .sums = x->sums};
    ot_lowrank_seed(&x->l);
}

static void begin(matrix *x)
{
    begin_by(x, RANK);
}

/* Of rank `r`, then noise. */
static void gradient(float *m, uint64_t seed, int r, float noise)
{
    ot_rng g;
    ot_rng_seed(&g, seed);
    memset(m, 0, N * sizeof *m);
    for (int k = 0; k < r; k++) {
        float a[ROWS], b[COLS];
        for (int i = 0; i < ROWS; i++) {
            a[i] = (float)ot_rng_normal(&g);
        }
        for (int j = 0; j < COLS; j++) {
            b[j] = (float)ot_rng_normal(&g);
        }
        for (int i = 0; i < N; i++) {
            m[i] += a[i / COLS] * b[i % COLS];
        }
    }
    for (int i = 0; i < N; i++) {
        m[i] += noise * (float)ot_rng_normal(&g);
    }
}

static double distance(const float *a, const float *b)
{
    double sum = 0;
    for (int i = 0; i < N; i++) {
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    }
    return sqrt(sum / N);
}

static bool step(matrix *x)
{
    ot_lowrank_begin(&x->l);
    ot_lowrank_middle(&x->l);
    return ot_lowrank_end(&x->l, 1);
}

/* One step, and how far what stands for the matrix is from `want`; infinite: not finite. */
static double off(matrix *x, const float *want)
{
    return step(x) ? distance(x->m, want) : INFINITY;
}

static void recovers(void)
{
    static matrix x;
    float was[N];
    begin(&x);
    gradient(x.m, 1, RANK, 0);
    memcpy(was, x.m, sizeof was);
    is_near(off(&x, was), 0, 1e-4, "a matrix of that rank is whole");
    double worst = 0;
    for (int a = 0; a < RANK; a++) {
        for (int b = 0; b < RANK; b++) {
            double dot = 0;
            for (int i = 0; i < ROWS; i++) {
                dot += (double)x.p[a * ROWS + i] * (double)x.p[b * ROWS + i];
            }
            worst = fmax(worst, fabs(dot - (a == b)));
        }
    }
    ok(worst < 1e-5, "P is orthonormal (%g off)", worst);
    begin(&x);
    gradient(x.m, 2, 1, 0);
    memcpy(was, x.m, sizeof was);
    is_near(off(&x, was), 0, 1e-4, "of a lower rank too");
}

/* Over many steps the sum of what was sent nears the sum of what was to be sent. */
static void keeps(void)
{
    static matrix x;
    static float given[N], got[N], with_rest[N];
    begin(&x);
    for (int k = 0; k < 30; k++) {
        gradient(x.m, 5, 2, 1);
        for (int i = 0; i < N; i++) {
            given[i] += x.m[i];
        }
        bool good = step(&x);
        for (int i = 0; i < N; i++) {
            got[i] += good ? x.m[i] : NAN;
        }
    }
    for (int i = 0; i < N; i++) {
        with_rest[i] = got[i] + x.residual[i];
    }
    ok(distance(with_rest, given) < 1e-3, "what is not sent is in the residual");
    static float zero[N];
    ok(distance(got, given) < 0.3 * distance(given, zero), "and is sent in time");
}

/* Three ranks that sum P and Q: one result. */
static void ranks_agree(void)
{
    static matrix x[3];
    static float mean[N];
    memset(mean, 0, sizeof mean);
    for (int r = 0; r < 3; r++) {
        begin(&x[r]);
        gradient(x[r].m, 9, RANK, 0);
        for (int i = 0; i < N; i++) {
            x[r].m[i] *= (float)(r + 1);
            mean[i] += x[r].m[i] / 3;
        }
        ot_lowrank_begin(&x[r].l);
    }
    for (int half = 0; half < 2; half++) {
        size_t n = half == 0 ? RANK * ROWS : RANK * COLS;
        for (size_t i = 0; i < n; i++) {
            float sum = 0;
            for (int r = 0; r < 3; r++) {
                sum += half == 0 ? x[r].p[i] : x[r].sums[i];
            }
            for (int r = 0; r < 3; r++) {
                *(half == 0 ? &x[r].p[i] : &x[r].sums[i]) = sum;
            }
        }
        for (int r = 0; half == 0 && r < 3; r++) {
            ot_lowrank_middle(&x[r].l);
        }
    }
    bool good = true;
    for (int r = 0; r < 3; r++) {
        good &= ot_lowrank_end(&x[r].l, 3) && memcmp(x[r].m, x[0].m, sizeof x[r].m) == 0;
    }
    ok(good, "the same bits on all ranks");
    ok(distance(x[0].m, mean) < 1e-3, "the mean of what they had (%g off)", distance(x[0].m, mean));
}

static void twins(size_t rank)
{
    static const ot_isa isas[] = {OT_ISA_SCALAR, OT_ISA_AVX2, OT_ISA_AVX512, OT_ISA_NEON};
    static matrix first, x;
    int compared = 0, differ = 0;
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        if (!ot_kernel_use(isas[i])) {
            continue;
        }
        begin_by(&x, rank);
        bool good = true;
        for (int k = 0; k < 3; k++) {
            gradient(x.m, 20 + (uint64_t)k, 3, 0.5f);
            good &= step(&x);
        }
        if (i == 0) {
            first = x;
        }
        compared++;
        differ += !good || memcmp(first.m, x.m, sizeof x.m) != 0 ||
                  memcmp(first.residual, x.residual, sizeof x.residual) != 0 ||
                  memcmp(first.q, x.q, sizeof x.q) != 0;
    }
    is_int(differ, 0, "the same bits by %d instruction sets, %zu columns", compared, rank);
}

static void hard_cases(void)
{
    static matrix x;
    float was[N], zero[N] = {0};
    begin(&x);
    is_near(off(&x, zero), 0, 1e-12, "nothing stays nothing");
    gradient(x.m, 3, RANK, 0);
    memcpy(was, x.m, sizeof was);
    ok(step(&x), "and the next step");
    gradient(x.m, 3, RANK, 0);
    for (int i = 0; i < N; i++) {
        was[i] = x.m[i] + x.residual[i];
    }
    is_near(off(&x, was), 0, 1e-4, "finds the matrix");
    gradient(x.m, 4, RANK, 1);
    memcpy(was, x.residual, sizeof was);
    x.m[7] = INFINITY;
    ok(!step(&x) && isnan(x.m[0]) && isnan(x.m[N - 1]), "an infinity is seen everywhere");
    ok(memcmp(was, x.residual, sizeof was) == 0, "the residual is as it was");
    gradient(x.m, 4, RANK, 1);
    ok(step(&x) && isfinite(x.m[7]), "and the next step is well");
    ok(ot_lowrank_pays(1000, 1000, 4) && !ot_lowrank_pays(8, 1000, 4) &&
           !ot_lowrank_pays(1, 1000, 1) && !ot_lowrank_pays(0, 0, 4),
       "it pays for large matrices");
}

int main(void)
{
    recovers();
    keeps();
    ranks_agree();
    hard_cases();
    for (size_t rank = 1; rank <= RANK_MOST; rank++) {
        twins(rank);
    }
    return tap_done();
}
