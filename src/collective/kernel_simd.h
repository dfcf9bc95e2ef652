/* The kernels as vectors of OT_WIDTH bytes, in GCC's vector extensions. Included once by the file
 * of each instruction set, which defines before OT_TARGET           the attribute that switches it
 * on for a function OT_WIDTH            bytes of a vector OT_LOAD_F16(p)      OT_WIDTH / 4 halves
 * as a vector of floats OT_STORE_F16(p, x)  and back, to nearest even What does not fill a vector
 * goes to the scalar twin. No include guard: it makes functions. */
#include "collective/kernel_internal.h"

#define VECTOR(name, T) typedef T name __attribute__((vector_size(OT_WIDTH), aligned(1), may_alias))
VECTOR(v_u8, uint8_t);
VECTOR(v_i8, int8_t);
VECTOR(v_u16, uint16_t);
VECTOR(v_i16, int16_t);
VECTOR(v_u32, uint32_t);
VECTOR(v_i32, int32_t);
VECTOR(v_u64, uint64_t);
VECTOR(v_i64, int64_t);
VECTOR(v_f32, float);
VECTOR(v_f64, double);
typedef uint16_t v_half __attribute__((vector_size(OT_WIDTH / 2), aligned(1), may_alias));

#define INLINE OT_TARGET static inline __attribute__((always_inline))
#define LANES (OT_WIDTH / sizeof(float))
#define LOAD(V, p) (*(const V *)(p))
#define STORE(V, p, x) (*(V *)(p) = (x))

/* yes where the mask, all bits or none in each lane, is set. */
#define SELECT(V, M, mask, yes, no) ((V)(((M)(mask) & (M)(yes)) | (~(M)(mask) & (M)(no))))

INLINE v_f32 one_nan_f32(v_f32 x, v_i32 number)
{
    return SELECT(v_f32, v_i32, number, x, (v_i32){0} + 0x7fc00000);
}

INLINE v_f64 one_nan_f64(v_f64 x, v_i64 number)
{
    return SELECT(v_f64, v_i64, number, x, (v_i64){0} + 0x7ff8000000000000);
}

#define FLOATING(t, V, M)                                                                          \
    INLINE V sum_of_##t(V a, V b)                                                                  \
    {                                                                                              \
        V r = a + b;                                                                               \
        return one_nan_##t(r, r == r);                                                             \
    }                                                                                              \
    INLINE V product_of_##t(V a, V b)                                                              \
    {                                                                                              \
        V r = a * b;                                                                               \
        return one_nan_##t(r, r == r);                                                             \
    }                                                                                              \
    INLINE V min_of_##t(V a, V b)                                                                  \
    {                                                                                              \
        return one_nan_##t(SELECT(V, M, b < a, b, a), (a == a) & (b == b));                        \
    }                                                                                              \
    INLINE V max_of_##t(V a, V b)                                                                  \
    {                                                                                              \
        return one_nan_##t(SELECT(V, M, a < b, b, a), (a == a) & (b == b));                        \
    }
FLOATING(f32, v_f32, v_i32)
FLOATING(f64, v_f64, v_i64)

INLINE v_f32 load_bf16(const void *p)
{
    return (v_f32)(__builtin_convertvector(LOAD(v_half, p), v_u32) << 16);
}

/* x is no NaN but the one. */
INLINE void store_bf16(void *p, v_f32 x)
{
    v_u32 bits = (v_u32)x;
    bits = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
    STORE(v_half, p, __builtin_convertvector(bits, v_half));
}

INLINE v_f32 load_f32(const void *p)
{
    return LOAD(v_f32, p);
}

INLINE void store_f32(void *p, v_f32 x)
{
    STORE(v_f32, p, x);
}

INLINE v_f32 load_f16(const void *p)
{
    return OT_LOAD_F16(p);
}

INLINE void store_f16(void *p, v_f32 x)
{
    OT_STORE_F16(p, x);
}

/* body: one vector at byte `at` of each array. */
#define LOOP(per, size, body, rest)                                                                \
    size_t i = 0;                                                                                  \
    for (; i + (per) <= n; i += (per)) {                                                           \
        size_t at = i * (size);                                                                    \
        body;                                                                                      \
    }                                                                                              \
    if (i < n) {                                                                                   \
        size_t at = i * (size);                                                                    \
        rest;                                                                                      \
    }

#define REDUCE(name, op, type, per, size, body)                                                    \
    OT_TARGET static void name(void *dst, const void *a, const void *b, size_t n)                  \
    {                                                                                              \
        char *d = dst;                                                                             \
        const char *p = a, *q = b;                                                                 \
        LOOP(per, size, body, ot_kernels_scalar.reduce[op][type](d + at, p + at, q + at, n - i))   \
    }

/* V: the vector to compute in; M: the signed one of its lanes. */
#define INTEGER_OP(name, op, type, T, V, expression)                                               \
    INLINE V name##_of(V x, V y)                                                                   \
    {                                                                                              \
        return expression;                                                                         \
    }                                                                                              \
    REDUCE(name, op, type, sizeof(V) / sizeof(T), sizeof(T),                                       \
           STORE(V, d + at, name##_of(LOAD(V, p + at), LOAD(V, q + at))))
#define INTEGER(t, type, T, V, U, M)                                                               \
    INTEGER_OP(sum_##t, OT_OP_SUM, type, T, U, x + y)                                              \
    INTEGER_OP(product_##t, OT_OP_PRODUCT, type, T, U, x *y)                                       \
    INTEGER_OP(min_##t, OT_OP_MIN, type, T, V, SELECT(V, M, y < x, y, x))                          \
    INTEGER_OP(max_##t, OT_OP_MAX, type, T, V, SELECT(V, M, x < y, y, x))
INTEGER(u8, OVERTAKE_U8, uint8_t, v_u8, v_u8, v_i8)
INTEGER(i8, OVERTAKE_I8, int8_t, v_i8, v_u8, v_i8)
INTEGER(u16, OVERTAKE_U16, uint16_t, v_u16, v_u16, v_i16)
INTEGER(i16, OVERTAKE_I16, int16_t, v_i16, v_u16, v_i16)
INTEGER(u32, OVERTAKE_U32, uint32_t, v_u32, v_u32, v_i32)
INTEGER(i32, OVERTAKE_I32, int32_t, v_i32, v_u32, v_i32)
INTEGER(u64, OVERTAKE_U64, uint64_t, v_u64, v_u64, v_i64)
INTEGER(i64, OVERTAKE_I64, int64_t, v_i64, v_u64, v_i64)
INTEGER_OP(or_bool, OT_OP_SUM, OVERTAKE_BOOL, uint8_t, v_u8, (v_u8)((x | y) != 0) & 1)
INTEGER_OP(and_bool, OT_OP_PRODUCT, OVERTAKE_BOOL, uint8_t, v_u8, (v_u8)((x != 0) & (y != 0)) & 1)

#define FLOATING_OP(name, op)                                                                      \
    REDUCE(name##_f64, op, OVERTAKE_F64, OT_WIDTH / 8, 8,                                          \
           STORE(v_f64, d + at, name##_of_f64(LOAD(v_f64, p + at), LOAD(v_f64, q + at))))          \
    REDUCE(name##_f32, op, OVERTAKE_F32, LANES, 4,                                                 \
           store_f32(d + at, name##_of_f32(load_f32(p + at), load_f32(q + at))))                   \
    REDUCE(name##_f16, op, OVERTAKE_F16, LANES, 2,                                                 \
           store_f16(d + at, name##_of_f32(load_f16(p + at), load_f16(q + at))))                   \
    REDUCE(name##_bf16, op, OVERTAKE_BF16, LANES, 2,                                               \
           store_bf16(d + at, name##_of_f32(load_bf16(p + at), load_bf16(q + at))))
FLOATING_OP(sum, OT_OP_SUM)
FLOATING_OP(product, OT_OP_PRODUCT)
FLOATING_OP(min, OT_OP_MIN)
FLOATING_OP(max, OT_OP_MAX)

OT_TARGET static void scale_f32(void *dst, const void *src, size_t n, float factor)
{
    char *d = dst;
    const char *p = src;
    LOOP(
        LANES, 4,
        {
            v_f32 x = load_f32(p + at) * factor;
            store_f32(d + at, one_nan_f32(x, x == x));
        },
        ot_kernels_scalar.scale_f32(d + at, p + at, n - i, factor))
}

#define CONVERT(name, to, from, narrow)                                                            \
    OT_TARGET static void name(void *dst, const void *src, size_t n)                               \
    {                                                                                              \
        char *d = dst;                                                                             \
        const char *p = src;                                                                       \
        LOOP(                                                                                      \
            LANES, 2,                                                                              \
            {                                                                                      \
                v_f32 x = load_##from(p + at * ((narrow) ? 2 : 1));                                \
                store_##to(d + at * ((narrow) ? 1 : 2), (narrow) ? one_nan_f32(x, x == x) : x);    \
            },                                                                                     \
            ot_kernels_scalar.name(d + at * ((narrow) ? 1 : 2), p + at * ((narrow) ? 2 : 1),       \
                                   n - i))                                                         \
    }
CONVERT(f32_to_f16, f16, f32, true)
CONVERT(f16_to_f32, f32, f16, false)
CONVERT(f32_to_bf16, bf16, f32, true)
CONVERT(bf16_to_f32, f32, bf16, false)
