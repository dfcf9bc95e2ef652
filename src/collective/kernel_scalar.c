/* The reference: one element after the other, plain C. The other instruction sets hand it what does
 * not fill a vector. */
#include "collective/kernel_internal.h"

#include <math.h>

static float f32_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float one_nan(float x)
{
    return isnan(x) ? f32_of(0x7fc00000u) : x;
}

static double one_nan_64(double x)
{
    return isnan(x) ? (double)f32_of(0x7fc00000u) : x;
}

static float widen_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, magnitude = h & 0x7fffu;
    if (magnitude >= 0x7c00u) { /* infinity, NaN: kept, made quiet */
        uint32_t quiet = magnitude > 0x7c00u ? 0x400000u : 0;
        return f32_of(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13 | quiet);
    }
    if (magnitude < 0x400u) { /* zero, subnormal: exact as units of 2^-24 */
        float x = (float)magnitude * 0x1p-24f;
        return sign != 0 ? -x : x;
    }
    return f32_of(sign | ((magnitude << 13) + ((127u - 15u) << 23)));
}

static uint16_t narrow_f16(float x)
{
    uint32_t bits = bits_of(x), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) {
        return 0x7e00u;
    }
    if (magnitude >= 0x47800000u) { /* 65536 and more */
        return (uint16_t)(sign | 0x7c00u);
    }
    if (magnitude < 0x38800000u) { /* below 2^-14: the sum rounds to units of 2^-24 */
        float unit = f32_of(magnitude) + 0.5f;
        return (uint16_t)(sign | (bits_of(unit) - 0x3f000000u));
    }
    magnitude += 0xfffu + (magnitude >> 13 & 1u);
    return (uint16_t)(sign | (magnitude - ((127u - 15u) << 23)) >> 13);
}

static float widen_bf16(uint16_t h)
{
    return f32_of((uint32_t)h << 16);
}

static uint16_t narrow_bf16(float x)
{
    uint32_t bits = bits_of(one_nan(x));
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

#define EACH(name, T, expression)                                                                  \
    static void name(void *dst, const void *pa, const void *pb, size_t n)                          \
    {                                                                                              \
        for (size_t i = 0; i < n; i++) {                                                           \
            T a, b, r;                                                                             \
            memcpy(&a, (const char *)pa + i * sizeof a, sizeof a);                                 \
            memcpy(&b, (const char *)pb + i * sizeof b, sizeof b);                                 \
            r = (T)(expression);                                                                   \
            memcpy((char *)dst + i * sizeof r, &r, sizeof r);                                      \
        }                                                                                          \
    }
#define INTEGER(t, T)                                                                              \
    EACH(sum_##t, T, (uint64_t)a + (uint64_t)b)                                                    \
    EACH(product_##t, T, (uint64_t)a *(uint64_t)b)                                                 \
    EACH(min_##t, T, b < a ? b : a)                                                                \
    EACH(max_##t, T, a < b ? b : a)

INTEGER(u8, uint8_t)
INTEGER(i8, int8_t)
INTEGER(u16, uint16_t)
INTEGER(i16, int16_t)
INTEGER(u32, uint32_t)
INTEGER(i32, int32_t)
INTEGER(u64, uint64_t)
INTEGER(i64, int64_t)
EACH(or_bool, uint8_t, (a | b) != 0)
EACH(and_bool, uint8_t, a != 0 && b != 0)

#define SUM(a, b) ((a) + (b))
#define PRODUCT(a, b) ((a) * (b))
#define MIN(a, b) (isnan(a) ? (a) : isnan(b) ? (b) : (b) < (a) ? (b) : (a))
#define MAX(a, b) (isnan(a) ? (a) : isnan(b) ? (b) : (a) < (b) ? (b) : (a))
#define FLOATING(name, OP)                                                                         \
    EACH(name##_f32, float, one_nan(OP(a, b)))                                                     \
    EACH(name##_f64, double, one_nan_64(OP(a, b)))                                                 \
    EACH(name##_f16, uint16_t, narrow_f16(OP(widen_f16(a), widen_f16(b))))                         \
    EACH(name##_bf16, uint16_t, narrow_bf16(OP(widen_bf16(a), widen_bf16(b))))
FLOATING(sum, SUM)
FLOATING(product, PRODUCT)
FLOATING(min, MIN)
FLOATING(max, MAX)

#define CONVERT(name, To, From, expression)                                                        \
    static void name(void *dst, const void *src, size_t n)                                         \
    {                                                                                              \
        for (size_t i = 0; i < n; i++) {                                                           \
            From x;                                                                                \
            memcpy(&x, (const char *)src + i * sizeof x, sizeof x);                                \
            To y = expression;                                                                     \
            memcpy((char *)dst + i * sizeof y, &y, sizeof y);                                      \
        }                                                                                          \
    }
CONVERT(f32_to_f16, uint16_t, float, narrow_f16(x))
CONVERT(f16_to_f32, float, uint16_t, widen_f16(x))
CONVERT(f32_to_bf16, uint16_t, float, narrow_bf16(x))
CONVERT(bf16_to_f32, float, uint16_t, widen_bf16(x))

static void scale_f32(void *dst, const void *src, size_t n, float factor)
{
    for (size_t i = 0; i < n; i++) {
        float x;
        memcpy(&x, (const char *)src + i * sizeof x, sizeof x);
        x = one_nan(x * factor);
        memcpy((char *)dst + i * sizeof x, &x, sizeof x);
    }
}

float ot_quantise_scale(uint32_t most, float *inverse)
{
    float scale = f32_of(most) / 127;
    *inverse = 0;
    if (most >= 0x7f800000u) {
        return f32_of(0x7fc00000u);
    }
    if (scale < 0x1p-126f) {
        return 0;
    }
    *inverse = 127 / f32_of(most);
    return scale;
}

static void quantise(void *out, const float *in, float *residual, size_t n)
{
    float v[OT_CODEC_BLOCK], inverse;
    uint32_t most = 0;
    for (size_t i = 0; i < n; i++) {
        v[i] = residual != NULL ? in[i] + residual[i] : in[i];
        uint32_t magnitude = bits_of(v[i]) & 0x7fffffffu;
        most = magnitude > most ? magnitude : most;
    }
    float scale = ot_quantise_scale(most, &inverse);
    memcpy(out, &scale, sizeof scale);
    int8_t *q = (int8_t *)out + sizeof scale;
    if (isnan(scale)) {
        memset(q, 0, n);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        float whole = v[i] * inverse + OT_ROUNDS;
        q[i] = (int8_t)(int32_t)(bits_of(whole) - bits_of(OT_ROUNDS));
        if (residual != NULL) {
            residual[i] = v[i] - (float)q[i] * scale;
        }
    }
}

static void dequantise(float *out, const void *in, size_t n)
{
    float scale;
    memcpy(&scale, in, sizeof scale);
    const int8_t *q = (const int8_t *)in + sizeof scale;
    for (size_t i = 0; i < n; i++) {
        out[i] = one_nan((float)q[i] * scale);
    }
}

static void dequantise_add(float *acc, const void *in, size_t n)
{
    float scale;
    memcpy(&scale, in, sizeof scale);
    const int8_t *q = (const int8_t *)in + sizeof scale;
    for (size_t i = 0; i < n; i++) {
        acc[i] = one_nan(acc[i] + (float)q[i] * scale);
    }
}

#define ADD_HALF(name, widen)                                                                      \
    static void name(float *acc, const void *in, size_t n)                                         \
    {                                                                                              \
        for (size_t i = 0; i < n; i++) {                                                           \
            uint16_t h;                                                                            \
            memcpy(&h, (const char *)in + i * sizeof h, sizeof h);                                 \
            acc[i] = one_nan(acc[i] + widen(h));                                                   \
        }                                                                                          \
    }
ADD_HALF(add_f16, widen_f16)
ADD_HALF(add_bf16, widen_bf16)

static void axpy(float *y, float a, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        y[i] += a * x[i];
    }
}

static double dot(const float *x, const float *y, size_t n)
{
    float lanes[OT_DOT_LANES] = {0};
    for (size_t i = 0; i < n; i++) {
        lanes[i % OT_DOT_LANES] += x[i] * y[i];
    }
    return ot_dot_lanes(lanes);
}

static float whole(const ot_rows *m, size_t r, size_t c)
{
    return m->in[r * m->in_step + c] * m->before + m->residual[r * m->step + c];
}

static void project(float *p, size_t p_step, const ot_rows *m, const float *q, size_t n, size_t k,
                    size_t rows)
{
    for (size_t r = 0; r < rows; r++) {
        for (size_t j = 0; j < k; j++) {
            float lanes[OT_DOT_LANES] = {0};
            for (size_t c = 0; c < n; c++) {
                lanes[c % OT_DOT_LANES] += whole(m, r, c) * q[j * n + c];
            }
            p[j * p_step + r] = (float)ot_dot_lanes(lanes);
        }
    }
}

static void gather(float *q, size_t q_step, const float *p, size_t p_step, const ot_rows *m,
                   size_t n, size_t k, size_t rows)
{
    for (size_t r = 0; r < rows; r++) {
        for (size_t j = 0; j < k; j++) {
            for (size_t c = 0; c < n; c++) {
                q[j * q_step + c] += p[j * p_step + r] * whole(m, r, c);
            }
        }
    }
}

static void settle(float *out, size_t out_step, float after, const ot_rows *m, const float *p,
                   size_t p_step, const float *q, size_t q_step, size_t n, size_t k, size_t rows)
{
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < n; c++) {
            float x = 0;
            for (size_t j = 0; j < k; j++) {
                x += p[j * p_step + r] * q[j * q_step + c];
            }
            m->residual[r * m->step + c] = whole(m, r, c) - x;
            out[r * out_step + c] = one_nan(x * after);
        }
    }
}

const ot_kernels ot_kernels_scalar = OT_KERNELS_TABLE;
