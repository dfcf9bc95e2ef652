/* The table of kernels that each instruction set fills in.
 *
 * What is exact, for all of them: F16 and BF16 are widened to F32, computed, and rounded to nearest
 * even once; MIN is b < a ? b : a and MAX is a < b ? b : a unless one is a NaN; a result that is a
 * NaN is the one quiet NaN without sign or payload, so that neither the order of operands that a
 * compiler chooses nor the machine shows in the bits. */
#ifndef OT_COLLECTIVE_KERNEL_INTERNAL_H
#define OT_COLLECTIVE_KERNEL_INTERNAL_H

#include "collective/codec.h"
#include "collective/kernel.h"

#include <string.h>

/* AVERAGE is SUM. */
typedef enum ot_op { OT_OP_SUM, OT_OP_MIN, OT_OP_MAX, OT_OP_PRODUCT, OT_OPS } ot_op;

typedef void ot_reduce_fn(void *dst, const void *a, const void *b, size_t n);
typedef void ot_convert_fn(void *dst, const void *src, size_t n);

/* One block of INT8 (codec.h): a scale, then n bytes. */
typedef void ot_codec_fn(float *acc, const void *in, size_t n);

/* Rows of a matrix as low rank (lowrank.h) sees it: in * before + residual. A step of 0: all rows
 * are one. */
typedef struct ot_rows {
    const float *in;
    float *residual;
    size_t in_step, step; /* from one row to the next */
    float before;
} ot_rows;

typedef struct ot_kernels {
    ot_reduce_fn *reduce[OT_OPS][OVERTAKE_DTYPES];
    void (*scale_f32)(void *dst, const void *src, size_t n, float factor);
    ot_convert_fn *f32_to_f16, *f16_to_f32, *f32_to_bf16, *bf16_to_f32;
    ot_codec_fn *add_f16, *add_bf16, *dequantise, *dequantise_add;
    void (*quantise)(void *out, const float *in, float *residual, size_t n);
    void (*axpy)(float *y, float a, const float *x, size_t n); /* y += a * x */
    double (*dot)(const float *x, const float *y, size_t n);   /* in OT_DOT_LANES sums */
    /* Of low rank, k columns and any number of rows at once: p[j][r] = m[r] q[j], k rows of n */
    void (*project)(float *p, size_t p_step, const ot_rows *m, const float *q, size_t n, size_t k,
                    size_t rows);
    /* q[j][c] += p[j][r] * m[r][c], row after row */
    void (*gather)(float *q, size_t q_step, const float *p, size_t p_step, const ot_rows *m,
                   size_t n, size_t k, size_t rows);
    /* x[r][c] = sum of p[j][r] * q[j][c], column after column: out = x * after, residual = m - x */
    void (*settle)(float *out, size_t out_step, float after, const ot_rows *m, const float *p,
                   size_t p_step, const float *q, size_t q_step, size_t n, size_t k, size_t rows);
} ot_kernels;

#define OT_DOT_LANES 16
static inline double ot_dot_lanes(const float lanes[OT_DOT_LANES])
{
    double sum = 0;
    for (int i = 0; i < OT_DOT_LANES; i++) {
        sum += (double)lanes[i];
    }
    return sum;
}

/* Added and taken off again it rounds to whole numbers, to nearest even, up to 2^22. */
#define OT_ROUNDS 0x1.8p23f

const ot_kernels *ot_kernels_chosen(void);
/* The scale of a block whose largest magnitude has these bits, and what numbers are multiplied
 * with; NaN where one is not finite, 0 where all are too small for a scale. */
float ot_quantise_scale(uint32_t most, float *inverse);

extern const ot_kernels ot_kernels_scalar;
#if defined(__x86_64__)
extern const ot_kernels ot_kernels_avx2, ot_kernels_avx512;
#elif defined(__aarch64__)
extern const ot_kernels ot_kernels_neon;
#endif

/* The table of a file that names its kernels so. */
#define OT_KERNELS_ROW(op, bool_op)                                                                \
    {                                                                                              \
        [OVERTAKE_BOOL] = bool_op, [OVERTAKE_U8] = op##_u8, [OVERTAKE_I8] = op##_i8,               \
        [OVERTAKE_U16] = op##_u16, [OVERTAKE_I16] = op##_i16, [OVERTAKE_U32] = op##_u32,           \
        [OVERTAKE_I32] = op##_i32, [OVERTAKE_U64] = op##_u64, [OVERTAKE_I64] = op##_i64,           \
        [OVERTAKE_F16] = op##_f16, [OVERTAKE_BF16] = op##_bf16, [OVERTAKE_F32] = op##_f32,         \
        [OVERTAKE_F64] = op##_f64                                                                  \
    }
#define OT_KERNELS_TABLE                                                                           \
    {                                                                                              \
        {OT_KERNELS_ROW(sum, or_bool), OT_KERNELS_ROW(min, and_bool),                              \
         OT_KERNELS_ROW(max, or_bool), OT_KERNELS_ROW(product, and_bool)},                         \
            scale_f32, f32_to_f16, f16_to_f32, f32_to_bf16, bf16_to_f32, add_f16, add_bf16,        \
            dequantise, dequantise_add, quantise, axpy, dot, project, gather, settle               \
    }

#endif
