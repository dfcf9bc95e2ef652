#include "collective/lowrank.h"

#include "base/mem.h"
#include "base/random.h"
#include "collective/kernel_internal.h"

#include <math.h>

bool ot_lowrank_pays(size_t rows, size_t cols, size_t rank)
{
    return rank > 0 && rows > 0 && cols > 0 && rank < rows && rank < cols &&
           2 * rank * (rows + cols) < rows * cols;
}

/* Uniform, not normal: sqrt, log and cos need not give the same bits everywhere. */
static void any_numbers(float *x, size_t n, uint64_t seed)
{
    ot_rng r;
    ot_rng_seed(&r, seed);
    for (size_t i = 0; i < n; i++) {
        x[i] = (float)ot_rng_uniform(&r) - 0.5f;
    }
}

void ot_lowrank_seed(ot_lowrank *l)
{
    any_numbers(l->q, l->rank * l->cols, l->rows * 31 + l->cols);
}

static ot_rows rows_of(const ot_lowrank *l)
{
    return (ot_rows){.in = l->in,
                     .residual = l->residual,
                     .in_step = l->in_step,
                     .step = l->cols,
                     .before = l->before};
}

void ot_lowrank_begin(ot_lowrank *l)
{
    ot_rows m = rows_of(l);
    ot_kernels_chosen()->project(l->p, l->rows, &m, l->q, l->cols, l->rank, l->rows);
}

/* Takes from x what lies along the rows before it, and makes its length 1; false: nothing is left
 * of it. */
static bool orthonormal(const ot_kernels *k, float *x, const float *before, size_t n_before,
                        size_t n)
{
    double length = sqrt(k->dot(x, x, n));
    for (size_t j = 0; j < n_before; j++) {
        const float *b = before + j * n;
        k->axpy(x, -(float)k->dot(x, b, n), b, n);
    }
    double left = sqrt(k->dot(x, x, n));
    if (left <= 1e-5 * length || left < 1e-18) {
        return false;
    }
    k->scale_f32(x, x, n, (float)(1 / left));
    return true;
}

/* Gram and Schmidt, in order. A row that depends on those before it is replaced by another. */
void ot_lowrank_middle(ot_lowrank *l)
{
    const ot_kernels *k = ot_kernels_chosen();
    for (size_t j = 0; j < l->rank; j++) {
        float *x = l->p + j * l->rows;
        if (!orthonormal(k, x, l->p, j, l->rows)) {
            any_numbers(x, l->rows, j);
            if (!orthonormal(k, x, l->p, j, l->rows)) {
                memset(x, 0, l->rows * sizeof *x);
            }
        }
    }
    memset(l->sums, 0, l->rank * l->cols * sizeof *l->sums);
    ot_rows m = rows_of(l);
    k->gather(l->sums, l->cols, l->p, l->rows, &m, l->cols, l->rank, l->rows);
}

static bool all_finite(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(x[i])) {
            return false;
        }
    }
    return true;
}

bool ot_lowrank_end(ot_lowrank *l, int32_t ranks)
{
    const ot_kernels *k = ot_kernels_chosen();
    size_t n = l->rank * l->cols;
    if (all_finite(l->p, l->rank * l->rows) && all_finite(l->sums, n)) {
        ot_rows m = rows_of(l);
        k->scale_f32(l->q, l->sums, n, 1 / (float)ranks);
        k->settle(l->out, l->out_step, l->after, &m, l->p, l->rows, l->q, l->cols, l->cols, l->rank,
                  l->rows);
        return true;
    }
    ot_lowrank_seed(l);
    for (size_t i = 0; i < l->rows * l->cols; i++) {
        l->out[i / l->cols * l->out_step + i % l->cols] = NAN;
    }
    return false;
}
