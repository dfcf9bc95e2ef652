/* Kernels: reduce, scale and convert arrays of numbers.
 *
 * The widest instruction set that the machine has is chosen once, at first use (AVX-512, AVX2,
 * NEON); every kernel has a scalar twin with bitwise the same results (F16 and BF16 are computed in
 * F32 and rounded to nearest even once an operation; MIN and MAX hand a NaN on).
 *
 * Threads: pure. Arrays may lie at any alignment; dst may be a or b, else they don't overlap. */
#ifndef OT_COLLECTIVE_KERNEL_H
#define OT_COLLECTIVE_KERNEL_H

#include "overtake/collective.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

size_t ot_dtype_bytes(overtake_dtype t);
const char *ot_dtype_text(overtake_dtype t); /* "float32" */
const char *ot_reduction_text(overtake_reduction r);
bool ot_reduction_takes(overtake_reduction r, overtake_dtype t);

/* dst[i] = a[i] (op) b[i], n elements; AVERAGE sums. */
void ot_kernel_reduce(overtake_reduction op, overtake_dtype t, void *dst, const void *a,
                      const void *b, size_t n);
/* dst[i] = src[i] * factor; integers are rounded towards zero, BOOL is copied. */
void ot_kernel_scale(overtake_dtype t, void *dst, const void *src, size_t n, double factor);
/* The neutral element of the reduction, n times. */
void ot_kernel_neutral(overtake_reduction op, overtake_dtype t, void *dst, size_t n);
/* Between F32 and F16 or BF16. */
void ot_kernel_convert(overtake_dtype to, void *dst, overtake_dtype from, const void *src,
                       size_t n);

typedef enum ot_isa { OT_ISA_SCALAR, OT_ISA_AVX2, OT_ISA_AVX512, OT_ISA_NEON } ot_isa;
ot_isa ot_kernel_isa(void);
/* Test seam: false if this machine does not have it. */
bool ot_kernel_use(ot_isa isa);

#endif
