#include "collective/kernel_internal.h"

#include "base/mem.h"

#include <assert.h>
#include <math.h>
#include <stdatomic.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

static const struct {
    const char *text;
    uint8_t bytes;
} dtypes[OVERTAKE_DTYPES] = {
    [OVERTAKE_BOOL] = {"bool", 1},     [OVERTAKE_U8] = {"uint8", 1},
    [OVERTAKE_I8] = {"int8", 1},       [OVERTAKE_U16] = {"uint16", 2},
    [OVERTAKE_I16] = {"int16", 2},     [OVERTAKE_U32] = {"uint32", 4},
    [OVERTAKE_I32] = {"int32", 4},     [OVERTAKE_U64] = {"uint64", 8},
    [OVERTAKE_I64] = {"int64", 8},     [OVERTAKE_F16] = {"float16", 2},
    [OVERTAKE_BF16] = {"bfloat16", 2}, [OVERTAKE_F32] = {"float32", 4},
    [OVERTAKE_F64] = {"float64", 8},
};

size_t ot_dtype_bytes(overtake_dtype t)
{
    return (unsigned)t < OVERTAKE_DTYPES ? dtypes[t].bytes : 0;
}

const char *ot_dtype_text(overtake_dtype t)
{
    return (unsigned)t < OVERTAKE_DTYPES ? dtypes[t].text : "unknown";
}

const char *ot_reduction_text(overtake_reduction r)
{
    static const char *const texts[OVERTAKE_REDUCTIONS] = {"sum", "average", "min", "max",
                                                           "product"};
    return (unsigned)r < OVERTAKE_REDUCTIONS ? texts[r] : "unknown";
}

static bool is_floating(overtake_dtype t)
{
    return t == OVERTAKE_F16 || t == OVERTAKE_BF16 || t == OVERTAKE_F32 || t == OVERTAKE_F64;
}

bool ot_reduction_takes(overtake_reduction r, overtake_dtype t)
{
    return (unsigned)r < OVERTAKE_REDUCTIONS && (unsigned)t < OVERTAKE_DTYPES &&
           (r != OVERTAKE_AVERAGE || is_floating(t));
}

/* Synchronization: atomic; the tables are constant. */
static _Atomic(const ot_kernels *) chosen;

/* NULL where this machine does not have it. */
static const ot_kernels *of_isa(ot_isa isa)
{
    switch (isa) {
    case OT_ISA_SCALAR:
        return &ot_kernels_scalar;
#if defined(__x86_64__)
    case OT_ISA_AVX2: {
        unsigned a, b, c = 0, d;
        bool f16c = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) != 0;
        return f16c && __builtin_cpu_supports("avx2") ? &ot_kernels_avx2 : NULL;
    }
    case OT_ISA_AVX512:
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")
                   ? &ot_kernels_avx512
                   : NULL;
#elif defined(__aarch64__)
    case OT_ISA_NEON:
        return &ot_kernels_neon;
#endif
    default:
        return NULL;
    }
}

bool ot_kernel_use(ot_isa isa)
{
    const ot_kernels *k = of_isa(isa);
    if (k != NULL) {
        atomic_store(&chosen, k);
    }
    return k != NULL;
}

const ot_kernels *ot_kernels_chosen(void)
{
    const ot_kernels *k = atomic_load_explicit(&chosen, memory_order_relaxed);
    for (int isa = OT_ISA_NEON; k == NULL; isa--) {
        k = of_isa((ot_isa)isa);
        if (k != NULL) {
            atomic_store_explicit(&chosen, k, memory_order_relaxed);
        }
    }
    return k;
}

ot_isa ot_kernel_isa(void)
{
    ot_isa isa = OT_ISA_NEON;
    while (of_isa(isa) != ot_kernels_chosen()) {
        isa--;
    }
    return isa;
}

void ot_kernel_reduce(overtake_reduction op, overtake_dtype t, void *dst, const void *a,
                      const void *b, size_t n)
{
    static const ot_op ops[OVERTAKE_REDUCTIONS] = {
        [OVERTAKE_SUM] = OT_OP_SUM, [OVERTAKE_AVERAGE] = OT_OP_SUM,     [OVERTAKE_MIN] = OT_OP_MIN,
        [OVERTAKE_MAX] = OT_OP_MAX, [OVERTAKE_PRODUCT] = OT_OP_PRODUCT,
    };
    assert((unsigned)op < OVERTAKE_REDUCTIONS && (unsigned)t < OVERTAKE_DTYPES);
    ot_kernels_chosen()->reduce[ops[op]][t](dst, a, b, n);
}

void ot_kernel_convert(overtake_dtype to, void *dst, overtake_dtype from, const void *src, size_t n)
{
    const ot_kernels *k = ot_kernels_chosen();
    bool widens = to == OVERTAKE_F32;
    overtake_dtype half = widens ? from : to;
    assert((widens || from == OVERTAKE_F32) && (half == OVERTAKE_F16 || half == OVERTAKE_BF16));
    if (half == OVERTAKE_F16) {
        (widens ? k->f16_to_f32 : k->f32_to_f16)(dst, src, n);
    } else {
        (widens ? k->bf16_to_f32 : k->f32_to_bf16)(dst, src, n);
    }
}

/* Through F32, a piece at a time. */
static void scale_half(overtake_dtype t, char *dst, const char *src, size_t n, float factor)
{
    float piece[512];
    for (size_t i = 0; i < n; i += OT_COUNT(piece)) {
        size_t m = OT_MIN(n - i, OT_COUNT(piece));
        ot_kernel_convert(OVERTAKE_F32, piece, t, src + 2 * i, m);
        ot_kernels_chosen()->scale_f32(piece, piece, m, factor);
        ot_kernel_convert(t, dst + 2 * i, OVERTAKE_F32, piece, m);
    }
}

/* Towards zero, kept within the type: what a double cannot hold exactly is as near as it gets. */
#define SCALE(name, T, low, high)                                                                  \
    static void name(char *dst, const char *src, size_t n, double factor)                          \
    {                                                                                              \
        for (size_t i = 0; i < n; i++) {                                                           \
            T x;                                                                                   \
            memcpy(&x, src + i * sizeof x, sizeof x);                                              \
            double y = (double)x * factor;                                                         \
            x = isnan(y) ? 0 : y <= (double)(low) ? (low) : y >= (double)(high) ? (high) : (T)y;   \
            memcpy(dst + i * sizeof x, &x, sizeof x);                                              \
        }                                                                                          \
    }
SCALE(scale_u8, uint8_t, 0, UINT8_MAX)
SCALE(scale_i8, int8_t, INT8_MIN, INT8_MAX)
SCALE(scale_u16, uint16_t, 0, UINT16_MAX)
SCALE(scale_i16, int16_t, INT16_MIN, INT16_MAX)
SCALE(scale_u32, uint32_t, 0, UINT32_MAX)
SCALE(scale_i32, int32_t, INT32_MIN, INT32_MAX)
SCALE(scale_u64, uint64_t, 0, UINT64_MAX)
SCALE(scale_i64, int64_t, INT64_MIN, INT64_MAX)

static void scale_f64(char *dst, const char *src, size_t n, double factor)
{
    for (size_t i = 0; i < n; i++) {
        double x;
        memcpy(&x, src + i * sizeof x, sizeof x);
        x *= factor;
        x = isnan(x) ? (double)NAN : x;
        memcpy(dst + i * sizeof x, &x, sizeof x);
    }
}

void ot_kernel_scale(overtake_dtype t, void *dst, const void *src, size_t n, double factor)
{
    static void (*const whole[OVERTAKE_DTYPES])(char *, const char *, size_t, double) = {
        [OVERTAKE_U8] = scale_u8,   [OVERTAKE_I8] = scale_i8,   [OVERTAKE_U16] = scale_u16,
        [OVERTAKE_I16] = scale_i16, [OVERTAKE_U32] = scale_u32, [OVERTAKE_I32] = scale_i32,
        [OVERTAKE_U64] = scale_u64, [OVERTAKE_I64] = scale_i64, [OVERTAKE_F64] = scale_f64,
    };
    assert((unsigned)t < OVERTAKE_DTYPES);
    if (t == OVERTAKE_F32) {
        ot_kernels_chosen()->scale_f32(dst, src, n, (float)factor);
    } else if (t == OVERTAKE_BOOL) {
        memmove(dst, src, n);
    } else if (whole[t] != NULL) {
        whole[t](dst, src, n, factor);
    } else {
        scale_half(t, dst, src, n, (float)factor);
    }
}

void ot_kernel_neutral(overtake_reduction op, overtake_dtype t, void *dst, size_t n)
{
    enum { ZERO, ONE, LOWEST, HIGHEST, VALUES };
#define INTEGERS(T, low, high)                                                                     \
    {                                                                                              \
        &(const T){0}, &(const T){1}, &(const T){low}, &(const T)                                  \
        {                                                                                          \
            high                                                                                   \
        }                                                                                          \
    }
    const void *const values[OVERTAKE_DTYPES][VALUES] = {
        [OVERTAKE_BOOL] = INTEGERS(uint8_t, 0, 1),
        [OVERTAKE_U8] = INTEGERS(uint8_t, 0, UINT8_MAX),
        [OVERTAKE_I8] = INTEGERS(int8_t, INT8_MIN, INT8_MAX),
        [OVERTAKE_U16] = INTEGERS(uint16_t, 0, UINT16_MAX),
        [OVERTAKE_I16] = INTEGERS(int16_t, INT16_MIN, INT16_MAX),
        [OVERTAKE_U32] = INTEGERS(uint32_t, 0, UINT32_MAX),
        [OVERTAKE_I32] = INTEGERS(int32_t, INT32_MIN, INT32_MAX),
        [OVERTAKE_U64] = INTEGERS(uint64_t, 0, UINT64_MAX),
        [OVERTAKE_I64] = INTEGERS(int64_t, INT64_MIN, INT64_MAX),
        [OVERTAKE_F16] = {&(const uint16_t){0}, &(const uint16_t){0x3c00},
                          &(const uint16_t){0xfc00}, &(const uint16_t){0x7c00}},
        [OVERTAKE_BF16] = {&(const uint16_t){0}, &(const uint16_t){0x3f80},
                           &(const uint16_t){0xff80}, &(const uint16_t){0x7f80}},
        [OVERTAKE_F32] = INTEGERS(float, -INFINITY, INFINITY),
        [OVERTAKE_F64] = INTEGERS(double, -(double)INFINITY, (double)INFINITY),
    };
    static const uint8_t which[OVERTAKE_REDUCTIONS] = {
        [OVERTAKE_SUM] = ZERO,   [OVERTAKE_AVERAGE] = ZERO, [OVERTAKE_MIN] = HIGHEST,
        [OVERTAKE_MAX] = LOWEST, [OVERTAKE_PRODUCT] = ONE,
    };
    assert((unsigned)op < OVERTAKE_REDUCTIONS && (unsigned)t < OVERTAKE_DTYPES);
    for (size_t i = 0; i < n; i++) {
        memcpy((char *)dst + i * dtypes[t].bytes, values[t][which[op]], dtypes[t].bytes);
    }
}
