#include "codec/tensor.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    uint8_t size;
} types[OT_DT_COUNT_] = {
    [OT_DT_INVALID] = {"INVALID", 0}, [OT_DT_BOOL] = {"BOOL", 1},
    [OT_DT_UINT8] = {"UINT8", 1},     [OT_DT_UINT16] = {"UINT16", 2},
    [OT_DT_UINT32] = {"UINT32", 4},   [OT_DT_UINT64] = {"UINT64", 8},
    [OT_DT_INT8] = {"INT8", 1},       [OT_DT_INT16] = {"INT16", 2},
    [OT_DT_INT32] = {"INT32", 4},     [OT_DT_INT64] = {"INT64", 8},
    [OT_DT_FP16] = {"FP16", 2},       [OT_DT_BF16] = {"BF16", 2},
    [OT_DT_FP32] = {"FP32", 4},       [OT_DT_FP64] = {"FP64", 8},
    [OT_DT_BYTES] = {"BYTES", 0},
};

static bool valid_type(ot_dtype dt)
{
    return (int)dt > OT_DT_INVALID && (int)dt < OT_DT_COUNT_;
}

size_t ot_dtype_size(ot_dtype dt)
{
    return valid_type(dt) ? types[dt].size : 0;
}

const char *ot_dtype_name(ot_dtype dt)
{
    return valid_type(dt) ? types[dt].name : types[OT_DT_INVALID].name;
}

ot_dtype ot_dtype_parse(const char *name, size_t n)
{
    for (int i = OT_DT_INVALID + 1; i < OT_DT_COUNT_; i++) {
        if (strlen(types[i].name) == n && memcmp(types[i].name, name, n) == 0) {
            return (ot_dtype)i;
        }
    }
    return OT_DT_INVALID;
}

bool ot_dtype_is_float(ot_dtype dt)
{
    return dt == OT_DT_FP16 || dt == OT_DT_BF16 || dt == OT_DT_FP32 || dt == OT_DT_FP64;
}

bool ot_dtype_is_int(ot_dtype dt)
{
    return (int)dt >= OT_DT_UINT8 && (int)dt <= OT_DT_INT64;
}

bool ot_shape_count(const int64_t *dims, int rank, int64_t *count_out)
{
    if (rank < 0 || rank > OT_RANK_MAX) {
        return false;
    }
    int64_t n = 1;
    bool zero = false;
    for (int i = 0; i < rank; i++) {
        if (dims[i] < 0) {
            return false;
        }
        /* Zero anywhere makes the product zero, but must not hide a later bad dimension. */
        if (dims[i] == 0) {
            zero = true;
        } else if (__builtin_mul_overflow(n, dims[i], &n)) {
            return false;
        }
    }
    *count_out = zero ? 0 : n;
    return true;
}

bool ot_shape_bytes(ot_dtype dt, const int64_t *dims, int rank, size_t *bytes_out)
{
    int64_t n;
    size_t bytes;
    if (ot_dtype_size(dt) == 0 || !ot_shape_count(dims, rank, &n) ||
        __builtin_mul_overflow((uint64_t)n, ot_dtype_size(dt), &bytes)) {
        return false;
    }
    *bytes_out = bytes;
    return true;
}

int64_t ot_tensor_count(const ot_tensor *t)
{
    int64_t n;
    return ot_shape_count(t->dims, t->rank, &n) ? n : 0;
}

char *ot_shape_format(const int64_t *dims, int rank, char out[OT_SHAPE_TEXT])
{
    size_t at = 0;
    out[at++] = '[';
    for (int i = 0; i < rank && i < OT_RANK_MAX; i++) {
        at += (size_t)snprintf(out + at, OT_SHAPE_TEXT - at, "%s%lld", i ? "," : "",
                               (long long)dims[i]);
    }
    out[at++] = ']';
    out[at] = 0;
    return out;
}

bool ot_tensor_bytes_next(const ot_tensor *t, size_t *offset, const char **p_out, size_t *n_out)
{
    if (*offset > t->size_bytes || t->size_bytes - *offset < 4) {
        return false;
    }
    const unsigned char *p = (const unsigned char *)t->data + *offset;
    size_t n = (size_t)p[0] | (size_t)p[1] << 8 | (size_t)p[2] << 16 | (size_t)p[3] << 24;
    if (t->size_bytes - *offset - 4 < n) {
        return false;
    }
    *p_out = (const char *)p + 4;
    *n_out = n;
    *offset += 4 + n;
    return true;
}

bool ot_tensor_rows(const ot_tensor *t, int64_t first, int64_t rows, size_t *at_out,
                    size_t *size_out)
{
    int64_t all = t->rank > 0 ? t->dims[0] : 0;
    if (all <= 0 || first < 0 || rows < 0 || first + rows > all) {
        return false;
    }
    if (t->dtype != OT_DT_BYTES) {
        size_t row = t->size_bytes / (size_t)all;
        *at_out = row * (size_t)first;
        *size_out = row * (size_t)rows;
        return true;
    }
    int64_t per_row = ot_tensor_count(t) / all;
    size_t offset = 0, begin = 0, n;
    const char *p;
    for (int64_t i = 0; i < (first + rows) * per_row; i++) {
        if (i == first * per_row) {
            begin = offset;
        }
        if (!ot_tensor_bytes_next(t, &offset, &p, &n)) {
            return false;
        }
    }
    *at_out = rows == 0 ? offset : begin;
    *size_out = offset - *at_out;
    return true;
}

static ot_rc check_elements(const ot_tensor *t, const char *name, int64_t count, ot_error *err)
{
    size_t offset = 0, n;
    const char *p;
    int64_t seen = 0;
    while (seen < count && ot_tensor_bytes_next(t, &offset, &p, &n)) {
        seen++;
    }
    if (seen == count && offset == t->size_bytes) {
        return OT_OK;
    }
    char shape[OT_SHAPE_TEXT];
    if (seen == count) {
        return ot_fail(err, OT_INVALID,
                       "tensor '%s' is BYTES %s; its %lld elements end at byte %zu of %zu", name,
                       ot_shape_format(t->dims, t->rank, shape), (long long)count, offset,
                       t->size_bytes);
    }
    return ot_fail(err, OT_INVALID,
                   "tensor '%s' is BYTES %s; element %lld at byte %zu does not fit its %zu bytes "
                   "(each element is a 4-byte little-endian length and its bytes)",
                   name, ot_shape_format(t->dims, t->rank, shape), (long long)seen, offset,
                   t->size_bytes);
}

ot_rc ot_tensor_check(const ot_tensor *t, ot_error *err)
{
    const char *name = t->name != NULL ? t->name : "";
    char shape[OT_SHAPE_TEXT];
    int64_t count;
    if (!valid_type(t->dtype)) {
        return ot_fail(err, OT_INVALID, "tensor '%s' has no valid data type", name);
    }
    if (!ot_shape_count(t->dims, t->rank, &count)) {
        return ot_fail(err, OT_INVALID,
                       "tensor '%s' has shape %s of rank %d; dimensions must be >= 0, the rank at "
                       "most %d and the product below 2^63",
                       name, ot_shape_format(t->dims, t->rank, shape), t->rank, OT_RANK_MAX);
    }
    if (t->data == NULL && t->size_bytes != 0) {
        return ot_fail(err, OT_INVALID, "tensor '%s' has no data", name);
    }
    if (t->dtype == OT_DT_BYTES) {
        return check_elements(t, name, count, err);
    }
    size_t want;
    if (!ot_shape_bytes(t->dtype, t->dims, t->rank, &want) || want != t->size_bytes) {
        return ot_fail(err, OT_INVALID,
                       "tensor '%s' is %s %s: %lld values of %zu bytes; it has %zu bytes", name,
                       ot_dtype_name(t->dtype), ot_shape_format(t->dims, t->rank, shape),
                       (long long)count, ot_dtype_size(t->dtype), t->size_bytes);
    }
    return OT_OK;
}

ot_rc ot_tensor_matches(const ot_tensor_spec *spec, const ot_tensor *t, ot_error *err)
{
    bool same = spec->rank == t->rank;
    for (int i = 0; same && i < spec->rank && i < OT_RANK_MAX; i++) {
        same = spec->dims[i] == -1 || spec->dims[i] == t->dims[i];
    }
    if (same && spec->dtype == t->dtype) {
        return OT_OK;
    }
    char want[OT_SHAPE_TEXT], got[OT_SHAPE_TEXT];
    return ot_fail(err, OT_INVALID, "input '%s' is %s %s; the request has %s%s%s",
                   spec->name != NULL ? spec->name : "", ot_dtype_name(spec->dtype),
                   ot_shape_format(spec->dims, spec->rank, want),
                   spec->dtype == t->dtype ? "" : ot_dtype_name(t->dtype),
                   spec->dtype == t->dtype ? "" : " ", ot_shape_format(t->dims, t->rank, got));
}

/* Reads T at element i without asking for alignment. */
#define LOAD(T, name)                                                                              \
    T name;                                                                                        \
    memcpy(&name, (const char *)t->data + (size_t)i * sizeof name, sizeof name)

double ot_tensor_f64_at(const ot_tensor *t, int64_t i)
{
    switch (t->dtype) {
    case OT_DT_BOOL:
    case OT_DT_UINT8: {
        LOAD(uint8_t, v);
        return v;
    }
    case OT_DT_UINT16: {
        LOAD(uint16_t, v);
        return v;
    }
    case OT_DT_UINT32: {
        LOAD(uint32_t, v);
        return v;
    }
    case OT_DT_UINT64: {
        LOAD(uint64_t, v);
        return (double)v;
    }
    case OT_DT_INT8: {
        LOAD(int8_t, v);
        return v;
    }
    case OT_DT_INT16: {
        LOAD(int16_t, v);
        return v;
    }
    case OT_DT_INT32: {
        LOAD(int32_t, v);
        return v;
    }
    case OT_DT_INT64: {
        LOAD(int64_t, v);
        return (double)v;
    }
    case OT_DT_FP16: {
        LOAD(uint16_t, v);
        return (double)ot_fp16_to_f32(v);
    }
    case OT_DT_BF16: {
        LOAD(uint16_t, v);
        return (double)ot_bf16_to_f32(v);
    }
    case OT_DT_FP32: {
        LOAD(float, v);
        return (double)v;
    }
    case OT_DT_FP64: {
        LOAD(double, v);
        return v;
    }
    case OT_DT_INVALID:
    case OT_DT_BYTES:
    case OT_DT_COUNT_:
        break;
    }
    return (double)NAN;
}

static float f32_of(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* Rounds a finite or infinite double, or a NaN, to a binary format of 1 sign bit, `ebits` exponent
 * bits and `mbits` fraction bits. One rounding, ties to even. */
static uint16_t narrow(double d, int ebits, int mbits)
{
    uint64_t bits;
    memcpy(&bits, &d, sizeof bits);
    uint16_t sign = (uint16_t)(bits >> 63 << 15);
    uint32_t inf = ((1U << ebits) - 1) << mbits;
    int exp = (int)(bits >> 52 & 0x7ff);
    uint64_t frac = bits & ((UINT64_C(1) << 52) - 1);
    if (exp == 0x7ff) {
        return (uint16_t)(sign | inf | (frac != 0 ? 1U << (mbits - 1) : 0));
    }
    int bias = (1 << (ebits - 1)) - 1;
    int e = exp - 1023 + bias; /* biased exponent in the target */
    if (exp == 0 || e < -mbits) {
        return sign; /* below half of the smallest subnormal (doubles' own subnormals too) */
    }
    frac |= UINT64_C(1) << 52;
    int drop = 52 - mbits + (e <= 0 ? 1 - e : 0); /* at most 53 */
    uint64_t kept = frac >> drop, rest = frac & ((UINT64_C(1) << drop) - 1);
    uint64_t half = UINT64_C(1) << (drop - 1);
    kept += rest > half || (rest == half && (kept & 1) != 0);
    /* A normal's hidden bit adds one to the exponent field, and so does a carry. */
    uint64_t out = (e <= 0 ? 0 : (uint64_t)(e - 1) << mbits) + kept;
    return (uint16_t)(sign | (out >= inf ? inf : out));
}

float ot_fp16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exp = h >> 10 & 0x1f, frac = h & 0x3ff;
    if (exp == 0) {
        float f = (float)frac * 0x1p-24F;
        return sign != 0 ? -f : f;
    }
    return f32_of(sign | (exp == 0x1f ? 0xffU << 23 : (exp + 112) << 23) | frac << 13);
}

uint16_t ot_fp16_from_f64(double d)
{
    return narrow(d, 5, 10);
}

uint16_t ot_fp16_from_f32(float f)
{
    return narrow((double)f, 5, 10);
}

float ot_bf16_to_f32(uint16_t h)
{
    return f32_of((uint32_t)h << 16);
}

uint16_t ot_bf16_from_f64(double d)
{
    return narrow(d, 8, 7);
}

uint16_t ot_bf16_from_f32(float f)
{
    return narrow((double)f, 8, 7);
}

void ot_dtype_put_f64(ot_dtype dt, void *dst, double x)
{
    if (dt == OT_DT_FP16 || dt == OT_DT_BF16) {
        uint16_t h = dt == OT_DT_FP16 ? ot_fp16_from_f64(x) : ot_bf16_from_f64(x);
        memcpy(dst, &h, sizeof h);
    } else if (dt == OT_DT_FP32) {
        float f = (float)x;
        memcpy(dst, &f, sizeof f);
    } else {
        memcpy(dst, &x, sizeof x);
    }
}
