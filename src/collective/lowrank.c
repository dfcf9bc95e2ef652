#include "collective/lowrank.h"

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

void ot_lowrank_begin(ot_lowrank *l)
{
    const ot_kernels *k = ot_kernels_chosen();
    for (size_t i = 0; i < l->rows; i++) {
        float *row = l->m + i * l->cols;
        k->axpy(row, 1, l->residual + i * l->cols, l->cols);
        for (size_t j = 0; j < l->rank; j++) {
            l->p[j * l->rows + i] = (float)k->dot(row, l->q + j * l->cols, l->cols);
        }
    }
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
    memset(l->q, 0, l->rank * l->cols * sizeof *l->q);
    for (size_t i = 0; i < l->rows; i++) {
        for (size_t j = 0; j < l->rank; j++) {
            k->axpy(l->q + j * l->cols, l->p[j * l->rows + i], l->m + i * l->cols, l->cols);
        }
    }
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

bool ot_lowrank_end(ot_lowrank *l)
{
    const ot_kernels *k = ot_kernels_chosen();
    if (!all_finite(l->p, l->rank * l->rows) || !all_finite(l->q, l->rank * l->cols)) {
        for (size_t i = 0; i < l->rows * l->cols; i++) {
            l->m[i] = NAN;
        }
        ot_lowrank_seed(l);
        return false;
    }
    for (size_t i = 0; i < l->rows; i++) {
        float *row = l->m + i * l->cols, *left = l->residual + i * l->cols;
        memcpy(left, row, l->cols * sizeof *row);
        memset(row, 0, l->cols * sizeof *row);
        for (size_t j = 0; j < l->rank; j++) {
            k->axpy(row, l->p[j * l->rows + i], l->q + j * l->cols, l->cols);
        }
        k->axpy(left, -1, row, l->cols);
    }
    return true;
}
