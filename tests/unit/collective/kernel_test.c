/* Kernels: the scalar reference against what IEEE 754 says, and every instruction set that this
 * machine has against the scalar reference, bit by bit. */
#include "base/mem.h"
#include "base/random.h"
#include "collective/kernel.h"
#include "tap.h"

#include <stdlib.h>

#define LENGTH_MAX 130
#define ROOM (8 * LENGTH_MAX + 64)

static const char *const isa_names[] = {"scalar", "AVX2", "AVX-512", "NEON"};

/* Numbers of all sizes, small integers, and what tends to be got wrong. */
static void fill(ot_rng *r, overtake_dtype t, unsigned char *p, size_t n)
{
    static const uint32_t f32[] = {0,          0x80000000, 0x7f800000, 0xff800000, 0x7fc00000,
                                   0xffc12345, 0x7f800001, 0x00000001, 0x807fffff, 0x00800000,
                                   0x7f7fffff, 0x3f800000, 0x33000000, 0x38800000, 0x477ff000};
    static const uint16_t half[] = {0,      0x8000, 0x7c00, 0xfc00, 0x7e00, 0xfe01, 0x7c01, 1,
                                    0x83ff, 0x0400, 0x7bff, 0x3c00, 0x7f80, 0xff80, 0x7f81, 0x3f80};
    static const uint64_t f64[] = {0,
                                   0x8000000000000000,
                                   0x7ff0000000000000,
                                   0xfff0000000000000,
                                   0x7ff8000000000000,
                                   0xfff8000000012345,
                                   0x7ff0000000000001,
                                   1,
                                   0x0010000000000000,
                                   0x7fefffffffffffff};
    size_t size = ot_dtype_bytes(t);
    for (size_t i = 0; i < n; i++) {
        uint64_t bits = ot_rng_next(r);
        bool special = ot_rng_next(r) % 3 == 0;
        if (t == OVERTAKE_BOOL) {
            bits &= 1;
        } else if (special && t == OVERTAKE_F32) {
            bits = f32[bits % OT_COUNT(f32)];
        } else if (special && (t == OVERTAKE_F16 || t == OVERTAKE_BF16)) {
            bits = half[bits % OT_COUNT(half)];
        } else if (special && t == OVERTAKE_F64) {
            bits = f64[bits % OT_COUNT(f64)];
        } else if (t == OVERTAKE_F32 && bits % 2 == 0) {
            float x = (float)(int32_t)bits * 0x1p-20f;
            memcpy(&bits, &x, sizeof x);
        }
        memcpy(p + i * size, &bits, size);
    }
}

/* How many (length, place, aliasing) differ from the scalar reference. */
static int reduce_differs(ot_rng *r, ot_isa isa, overtake_reduction op, overtake_dtype t)
{
    unsigned char a[ROOM], b[ROOM], want[ROOM], got[ROOM];
    size_t size = ot_dtype_bytes(t);
    int bad = 0;
    for (size_t n = 0; n <= LENGTH_MAX; n++) {
        size_t at = n % 9; /* bytes off any alignment */
        fill(r, t, a + at, n);
        fill(r, t, b + at, n);
        for (int alias = 0; alias < 3; alias++) {
            memset(want, 0x5a, sizeof want);
            memset(got, 0x5a, sizeof got);
            unsigned char *in_place = alias == 1 ? a : b;
            if (alias != 0) {
                memcpy(got, in_place, sizeof got);
                memcpy(want, in_place, sizeof want);
            }
            bool has = ot_kernel_use(OT_ISA_SCALAR);
            ot_kernel_reduce(op, t, want + at, a + at, b + at, n);
            has = ot_kernel_use(isa) && has;
            ot_kernel_reduce(op, t, got + at, alias == 1 ? got + at : a + at,
                             alias == 2 ? got + at : b + at, n);
            /* Beyond the end nothing is written. */
            bad += !has || memcmp(want, got, at + n * size + 16) != 0;
        }
    }
    return bad;
}

static int scale_differs(ot_rng *r, ot_isa isa, overtake_dtype t)
{
    static const double factors[] = {1.0, 0.25, 1.0 / 3, -2.5, 1e30, 0};
    unsigned char a[ROOM], want[ROOM], got[ROOM];
    int bad = 0;
    for (size_t n = 0; n <= LENGTH_MAX; n++) {
        size_t at = n % 7;
        memset(a, 0x5a, sizeof a);
        fill(r, t, a + at, n);
        memcpy(want, a, sizeof want);
        memcpy(got, a, sizeof got);
        bool has = ot_kernel_use(OT_ISA_SCALAR);
        ot_kernel_scale(t, want + at, a + at, n, factors[n % OT_COUNT(factors)]);
        has = ot_kernel_use(isa) && has;
        ot_kernel_scale(t, got + at, got + at, n, factors[n % OT_COUNT(factors)]);
        bad += !has || memcmp(want, got, sizeof got) != 0;
    }
    return bad;
}

static int convert_differs(ot_rng *r, ot_isa isa, overtake_dtype to, overtake_dtype from)
{
    unsigned char a[ROOM], want[ROOM], got[ROOM];
    int bad = 0;
    for (size_t n = 0; n <= LENGTH_MAX; n++) {
        size_t at = n % 5;
        fill(r, from, a + at, n);
        memset(want, 0x5a, sizeof want);
        memset(got, 0x5a, sizeof got);
        bool has = ot_kernel_use(OT_ISA_SCALAR);
        ot_kernel_convert(to, want + at, from, a + at, n);
        has = ot_kernel_use(isa) && has;
        ot_kernel_convert(to, got + at, from, a + at, n);
        bad += !has || memcmp(want, got, sizeof got) != 0;
    }
    return bad;
}

static void twins(ot_isa isa)
{
    ot_rng r;
    ot_rng_seed(&r, 7);
    if (!ot_kernel_use(isa)) {
        printf("# this machine has no %s\n", isa_names[isa]);
        skip("an instruction set that this machine does not have");
        return;
    }
    for (int op = 0; op < OVERTAKE_REDUCTIONS; op++) {
        for (int t = 0; t < OVERTAKE_DTYPES; t++) {
            if (ot_reduction_takes((overtake_reduction)op, (overtake_dtype)t)) {
                is_int(reduce_differs(&r, isa, (overtake_reduction)op, (overtake_dtype)t), 0,
                       "%s: %s of %s equals the scalar one", isa_names[isa],
                       ot_reduction_text((overtake_reduction)op), ot_dtype_text((overtake_dtype)t));
            }
        }
    }
    for (int t = 0; t < OVERTAKE_DTYPES; t++) {
        is_int(scale_differs(&r, isa, (overtake_dtype)t), 0, "%s: scaling of %s", isa_names[isa],
               ot_dtype_text((overtake_dtype)t));
    }
    static const overtake_dtype halves[] = {OVERTAKE_F16, OVERTAKE_BF16};
    for (size_t i = 0; i < OT_COUNT(halves); i++) {
        is_int(convert_differs(&r, isa, halves[i], OVERTAKE_F32), 0, "%s: float32 to %s",
               isa_names[isa], ot_dtype_text(halves[i]));
        is_int(convert_differs(&r, isa, OVERTAKE_F32, halves[i]), 0, "%s: %s to float32",
               isa_names[isa], ot_dtype_text(halves[i]));
    }
}

/* The value of a half by its definition; infinity is one step above the largest number. */
static double value_of(overtake_dtype t, uint16_t h)
{
    int digits = t == OVERTAKE_F16 ? 10 : 7, bias = t == OVERTAKE_F16 ? 15 : 127;
    int exponent = (h & 0x7fff) >> digits, fraction = h & ((1 << digits) - 1);
    double x = exponent == 0 ? ldexp(fraction, 1 - bias - digits)
                             : ldexp((1 << digits) + fraction, exponent - bias - digits);
    return h & 0x8000 ? -x : x;
}

/* Nearest, ties to the even one, among all positive values: by search in the ordered codes. */
static uint16_t nearest(overtake_dtype t, float x)
{
    uint16_t low = 0, high = t == OVERTAKE_F16 ? 0x7c00 : 0x7f80, sign = signbit(x) ? 0x8000 : 0;
    double y = fabs((double)x);
    if (y >= value_of(t, high)) {
        return (uint16_t)(sign | high);
    }
    while (high - low > 1) {
        uint16_t mid = (uint16_t)((low + high) / 2);
        if (value_of(t, mid) <= y) {
            low = mid;
        } else {
            high = mid;
        }
    }
    double down = y - value_of(t, low), up = value_of(t, high) - y;
    uint16_t code = down < up || (down == up && low % 2 == 0) ? low : high;
    return (uint16_t)(sign | code);
}

static void conversions(overtake_dtype t)
{
    ot_rng r;
    ot_rng_seed(&r, 3);
    uint32_t top = t == OVERTAKE_F16 ? 0x7c00 : 0x7f80;
    int bad = 0, bad_nan = 0, bad_near = 0;
    for (uint32_t code = 0; code < 0x10000; code++) {
        uint16_t h = (uint16_t)code, back;
        float x;
        ot_kernel_convert(OVERTAKE_F32, &x, t, &h, 1);
        ot_kernel_convert(t, &back, OVERTAKE_F32, &x, 1);
        if ((code & 0x7fff) > top) {
            bad_nan += !isnan(x) || back != (t == OVERTAKE_F16 ? 0x7e00 : 0x7fc0);
        } else if ((code & 0x7fff) == top) {
            bad += !isinf(x) || back != h;
        } else {
            bad += (double)x != value_of(t, h) || back != h || !signbit(x) != !(code & 0x8000);
        }
    }
    is_int(bad, 0, "%s: every number to float32 and back", ot_dtype_text(t));
    is_int(bad_nan, 0, "%s: a NaN stays one", ot_dtype_text(t));
    for (int i = 0; i < 300000; i++) {
        /* A code, the middle between two, and their neighbours; then any bits. */
        uint32_t bits = (uint32_t)ot_rng_next(&r);
        float x;
        if (i % 2 == 0) {
            uint16_t h = (uint16_t)(bits % top);
            x = (float)((value_of(t, h) + value_of(t, (uint16_t)(h + 1))) / 2);
            x = i % 3 == 0 ? x : nextafterf(x, i % 3 == 1 ? 0 : INFINITY);
        } else {
            memcpy(&x, &bits, sizeof x);
        }
        uint16_t got;
        ot_kernel_convert(t, &got, OVERTAKE_F32, &x, 1);
        bad_near += !isnan(x) && got != nearest(t, x);
    }
    is_int(bad_near, 0, "%s: rounded to nearest even", ot_dtype_text(t));
}

static const void *reduced(overtake_reduction op, overtake_dtype t, const void *a, const void *b)
{
    static uint64_t out;
    ot_kernel_reduce(op, t, &out, a, b, 1);
    return &out;
}
#define REDUCED(op, t, T, a, b) (*(const T *)reduced(op, t, &(T){a}, &(T){b}))

static void meanings(void)
{
    ok(REDUCED(OVERTAKE_SUM, OVERTAKE_F32, float, 1.5f, 2.25f) == 3.75f, "sum of float32");
    ok(REDUCED(OVERTAKE_AVERAGE, OVERTAKE_F64, double, 1, 2) == 3, "an average sums");
    ok(REDUCED(OVERTAKE_MIN, OVERTAKE_F32, float, 2, -3) == -3, "min");
    ok(REDUCED(OVERTAKE_MAX, OVERTAKE_F64, double, 2, -3) == 2, "max");
    ok(isnan(REDUCED(OVERTAKE_MIN, OVERTAKE_F32, float, NAN, 1)) &&
           isnan(REDUCED(OVERTAKE_MAX, OVERTAKE_F32, float, 1, NAN)),
       "min and max hand a NaN on");
    ok(REDUCED(OVERTAKE_MIN, OVERTAKE_I8, int8_t, -1, 1) == -1 &&
           REDUCED(OVERTAKE_MIN, OVERTAKE_U8, uint8_t, 255, 1) == 1,
       "signed and unsigned");
    is_int(REDUCED(OVERTAKE_SUM, OVERTAKE_I8, int8_t, 127, 1), -128, "integers wrap");
    is_int(REDUCED(OVERTAKE_PRODUCT, OVERTAKE_U16, uint16_t, 300, 300), 90000 % 65536,
           "products wrap");
    is_int(REDUCED(OVERTAKE_SUM, OVERTAKE_BOOL, uint8_t, 1, 1), 1, "a sum of bool is or");
    is_int(REDUCED(OVERTAKE_PRODUCT, OVERTAKE_BOOL, uint8_t, 1, 2), 1, "a product of bool is and");
    is_int(REDUCED(OVERTAKE_SUM, OVERTAKE_F16, uint16_t, 0x3c00, 0x1000), 0x3c00,
           "1 + 2^-11 in float16 is a tie, to even");
    ok(!ot_reduction_takes(OVERTAKE_AVERAGE, OVERTAKE_I32) &&
           ot_reduction_takes(OVERTAKE_AVERAGE, OVERTAKE_BF16) &&
           ot_reduction_takes(OVERTAKE_SUM, OVERTAKE_BOOL),
       "averages are of floating types");
    int8_t in[4] = {-7, 7, 127, 1}, out[4];
    ot_kernel_scale(OVERTAKE_I8, out, in, 4, 0.5);
    ok(out[0] == -3 && out[1] == 3 && out[2] == 63 && out[3] == 0, "integers scale towards zero");
    ot_kernel_scale(OVERTAKE_I8, out, in, 4, 1e300);
    ok(out[0] == -128 && out[1] == 127, "and stay within their type");
}

static void neutral(void)
{
    ot_rng r;
    ot_rng_seed(&r, 5);
    for (int op = 0; op < OVERTAKE_REDUCTIONS; op++) {
        int bad = 0;
        for (int t = 0; t < OVERTAKE_DTYPES; t++) {
            unsigned char a[8 * 64], b[8 * 64], got[8 * 64], want[8 * 64];
            if (!ot_reduction_takes((overtake_reduction)op, (overtake_dtype)t)) {
                continue;
            }
            fill(&r, (overtake_dtype)t, a, 64);
            ot_kernel_neutral((overtake_reduction)op, (overtake_dtype)t, b, 64);
            ot_kernel_reduce((overtake_reduction)op, (overtake_dtype)t, got, a, b, 64);
            /* Twice, so that NaNs are the one and -0 has become 0. */
            memcpy(want, got, sizeof want);
            ot_kernel_reduce((overtake_reduction)op, (overtake_dtype)t, got, got, b, 64);
            bad += memcmp(got, want, 64 * ot_dtype_bytes((overtake_dtype)t)) != 0;
            if (t < OVERTAKE_F16) {
                bad += memcmp(want, a, 64 * ot_dtype_bytes((overtake_dtype)t)) != 0;
            } else if (t == OVERTAKE_F32) {
                for (int i = 0; i < 64; i++) {
                    float x, y;
                    memcpy(&x, a + 4 * i, 4);
                    memcpy(&y, got + 4 * i, 4);
                    bad += !(x == y) && !(isnan(x) && isnan(y));
                }
            }
        }
        is_int(bad, 0, "the neutral element of %s", ot_reduction_text((overtake_reduction)op));
    }
}

int main(void)
{
    printf("# chosen: %s\n", isa_names[ot_kernel_isa()]);
    bool has = ot_kernel_use(OT_ISA_SCALAR);
    ok(has && ot_kernel_isa() == OT_ISA_SCALAR, "every machine has the reference");
    meanings();
    conversions(OVERTAKE_F16);
    conversions(OVERTAKE_BF16);
    neutral();
    twins(OT_ISA_AVX2);
    twins(OT_ISA_AVX512);
    twins(OT_ISA_NEON);
    return tap_done();
}
