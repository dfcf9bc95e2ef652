/* Tensors as every part of the product sees them: element types, views, specifications.
 *
 * An ot_tensor is a view: it owns nothing. Data are contiguous, row-major (C order), little-endian.
 * The data pointer is NOT promised to be aligned to the element's size when it points into a
 * request body (binary extension); use memcpy or ot_tensor_f64_at there. Threads: any; views are
 * plain values. Lifetime: name and data belong to whoever made the view (usually the request's
 * arena or the request's body). Source of the names: Open Inference Protocol v2, "Tensor Data
 * Types". */
#ifndef OT_CODEC_TENSOR_H
#define OT_CODEC_TENSOR_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OT_RANK_MAX 8

typedef enum ot_dtype {
    OT_DT_INVALID = 0,
    OT_DT_BOOL, /* one byte, 0 or 1 */
    OT_DT_UINT8,
    OT_DT_UINT16,
    OT_DT_UINT32,
    OT_DT_UINT64,
    OT_DT_INT8,
    OT_DT_INT16,
    OT_DT_INT32,
    OT_DT_INT64,
    OT_DT_FP16, /* IEEE 754 binary16 */
    OT_DT_BF16, /* the upper half of binary32 */
    OT_DT_FP32,
    OT_DT_FP64,
    OT_DT_BYTES, /* each element: u32 little-endian length, then that many bytes */
    OT_DT_COUNT_
} ot_dtype;

typedef struct ot_tensor {
    const char *name; /* may be NULL or "" where a tensor has no name (.npy) */
    ot_dtype dtype;
    int rank;                  /* 0..OT_RANK_MAX; 0 is a scalar with one element */
    int64_t dims[OT_RANK_MAX]; /* >= 0 */
    const void *data;          /* may be NULL only when size_bytes is 0 */
    size_t size_bytes;
} ot_tensor;

typedef struct ot_tensor_spec {
    const char *name;
    ot_dtype dtype;
    int rank;
    int64_t dims[OT_RANK_MAX]; /* -1: any size on that axis */
} ot_tensor_spec;

/* Bytes an element takes; 0 for BYTES (variable) and for an invalid type. */
size_t ot_dtype_size(ot_dtype dt);
/* "FP32"; "INVALID" for anything else. Static storage. */
const char *ot_dtype_name(ot_dtype dt);
/* The exact OIP name of n bytes; OT_DT_INVALID when there is none. */
ot_dtype ot_dtype_parse(const char *name, size_t n);
bool ot_dtype_is_float(ot_dtype dt);
bool ot_dtype_is_int(ot_dtype dt); /* signed or unsigned; not BOOL */

/* The product of the dimensions (1 for rank 0). False when the rank is out of range, a dimension is
 * negative, or the product passes INT64_MAX. */
bool ot_shape_count(const int64_t *dims, int rank, int64_t *count_out);
/* The same times the element size; false on overflow of size_t and for BYTES. */
bool ot_shape_bytes(ot_dtype dt, const int64_t *dims, int rank, size_t *bytes_out);
/* Elements of a valid view: its shape's product. 0 when the shape is not valid. */
int64_t ot_tensor_count(const ot_tensor *t);

/* "[2,31]", "[-1,30]", "[]"; writes at most OT_SHAPE_TEXT bytes with NUL; returns out. */
#define OT_SHAPE_TEXT (OT_RANK_MAX * 21 + 3)
char *ot_shape_format(const int64_t *dims, int rank, char out[OT_SHAPE_TEXT]);

/* A view is consistent: type and shape valid, and size_bytes is what they ask for (for BYTES: the
 * elements' lengths tile the data exactly). OT_INVALID names the tensor and both figures. */
ot_rc ot_tensor_check(const ot_tensor *t, ot_error *err) OT_CHECKED;

/* Type, rank and every dimension that the specification fixes agree. The name is not compared.
 * OT_INVALID: "input 'x' is FP32 [-1,30]; the request has [2,31]", or "...; the request has
 * INT64 [2,30]" when the types differ. */
ot_rc ot_tensor_matches(const ot_tensor_spec *spec, const ot_tensor *t, ot_error *err) OT_CHECKED;

/* Element i of a numeric or BOOL tensor as a double (64-bit integers round to nearest); unaligned
 * data are fine. i must be below the count; BYTES gives NaN. */
double ot_tensor_f64_at(const ot_tensor *t, int64_t i);

/* Walks BYTES elements: start with *offset = 0; false at the end or when a length leaves the data.
 * `p_out` points into the tensor. */
bool ot_tensor_bytes_next(const ot_tensor *t, size_t *offset, const char **p_out, size_t *n_out);
/* Bytes that rows [first, first + rows) of a tensor with rows on axis 0 take, and where they begin.
 * BYTES have to be walked. False: there are no such rows. */
bool ot_tensor_rows(const ot_tensor *t, int64_t first, int64_t rows, size_t *at_out,
                    size_t *size_out);

/* Scalar conversions, round to nearest, ties to even; NaN stays NaN (quiet), overflow gives
 * infinity. Values are passed as their bit patterns. */
float ot_fp16_to_f32(uint16_t h);
uint16_t ot_fp16_from_f32(float f);
uint16_t ot_fp16_from_f64(double d); /* one rounding, not two */
float ot_bf16_to_f32(uint16_t h);
uint16_t ot_bf16_from_f32(float f);
uint16_t ot_bf16_from_f64(double d);
/* Writes a number as an element of a float type (at any alignment), rounded once. */
void ot_dtype_put_f64(ot_dtype dt, void *dst, double x);

#endif
