#include "base/mem.h"
#include "codec/decimal.h"
#include "codec/decimal_wide.h"
#include "codec/pow10_table.h"

#include <math.h>
#include <stdlib.h>

__extension__ typedef unsigned __int128 u128;

const uint64_t ot_pow10_u64[20] = {
    UINT64_C(1),
    UINT64_C(10),
    UINT64_C(100),
    UINT64_C(1000),
    UINT64_C(10000),
    UINT64_C(100000),
    UINT64_C(1000000),
    UINT64_C(10000000),
    UINT64_C(100000000),
    UINT64_C(1000000000),
    UINT64_C(10000000000),
    UINT64_C(100000000000),
    UINT64_C(1000000000000),
    UINT64_C(10000000000000),
    UINT64_C(100000000000000),
    UINT64_C(1000000000000000),
    UINT64_C(10000000000000000),
    UINT64_C(100000000000000000),
    UINT64_C(1000000000000000000),
    UINT64_C(10000000000000000000),
};

const double ot_pow10_f64[23] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                 1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

const double ot_pow10_near[2 * OT_POW10_NEAR + 1] = {
    1e-18, 1e-17, 1e-16, 1e-15, 1e-14, 1e-13, 1e-12, 1e-11, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6,
    1e-5,  1e-4,  1e-3,  1e-2,  1e-1,  1e0,   1e1,   1e2,   1e3,   1e4,  1e5,  1e6,  1e7,
    1e8,   1e9,   1e10,  1e11,  1e12,  1e13,  1e14,  1e15,  1e16,  1e17, 1e18};

const uint8_t ot_last_bytes[32] = {0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,
                                   0,    0,    0,    0,    0,    0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                   0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

/* A binary format: bits of the significand with the hidden one, least and greatest exponent. */
typedef struct format {
    int mant_bits, exp_min, exp_max;
} format;

static const format binary32 = {24, -126, 127};
static const format binary64 = {53, -1022, 1023};

const char *ot_decimal_scan(const char *p, const char *end, ot_decimal *out)
{
    ot_decimal d;
    const char *q = decimal_scan(p, end, &d);
    if (q != NULL) {
        *out = d;
    }
    return q;
}

/* More than 19 digits were written and the mantissa wrapped: reads the first 19 significant ones.
 */
void ot_decimal_recount(ot_decimal *d)
{
    uint64_t m = 0;
    int kept = 0;
    int64_t exp10 = 0;
    bool point = false;
    for (size_t i = d->negative; i < d->n && d->p[i] != 'e' && d->p[i] != 'E'; i++) {
        char c = d->p[i];
        if (c == '.') {
            point = true;
            continue;
        }
        if (kept < 19) {
            m = m * 10 + (uint64_t)(c - '0');
            kept += m != 0; /* leading zeros are not significant */
            exp10 -= point;
        } else {
            d->cut |= c != '0';
            exp10 += !point;
        }
    }
    for (size_t i = 0; i < d->n; i++) {
        if (d->p[i] == 'e' || d->p[i] == 'E') {
            int32_t e = 0;
            decimal_exponent(d->p + i + 1, d->p + d->n, &e);
            exp10 += e;
            break;
        }
    }
    d->mantissa = m;
    d->exp10 = (int32_t)OT_MAX(-1000000, OT_MIN(1000000, exp10));
}

/* The bits of m * 10^e10 in the format; false when 192 bits do not decide the rounding. m > 0.
 * The table's powers are cut off, so the product P is below the true value by less than 2^64 units
 * of its last place: only when the middle word is all ones can that reach the bits looked at. */
static bool scale(uint64_t m, int e10, const format *f, uint64_t *bits_out)
{
    int lz = __builtin_clzll(m);
    m <<= lz;
    const uint64_t *g = ot_pow10[e10 - OT_POW10_MIN];
    u128 low = (u128)m * g[1];
    u128 high = (u128)m * g[0] + (uint64_t)(low >> 64);
    uint64_t hi = (uint64_t)(high >> 64), mid = (uint64_t)high;
    bool exact = e10 >= 0 && e10 <= 55;
    if (!exact && mid == UINT64_MAX) {
        return false;
    }
    bool top = hi >> 63 != 0;
    int exponent = 63 + top - lz + (e10 * 217706 >> 16); /* floor(log2(10^e10)) */
    if (exponent > f->exp_max) {
        *bits_out = (uint64_t)(2 * f->exp_max + 1) << (f->mant_bits - 1);
        return true;
    }
    int shift = 63 + top - f->mant_bits;
    bool subnormal = exponent < f->exp_min;
    if (subnormal) {
        shift += f->exp_min - exponent;
        if (shift > 63) {
            return false;
        }
    }
    uint64_t kept = hi >> shift, rest = hi & ((UINT64_C(1) << shift) - 1);
    uint64_t half = UINT64_C(1) << (shift - 1);
    bool sticky = !exact || mid != 0 || (uint64_t)low != 0;
    kept += rest > half || (rest == half && (sticky || (kept & 1) != 0));
    /* The hidden bit adds one to the exponent field, as does a carry out of the significand. */
    uint64_t field = subnormal ? 0 : (uint64_t)(exponent - f->exp_min);
    *bits_out = (field << (f->mant_bits - 1)) + kept;
    return true;
}

static bool decide(const ot_decimal *d, const format *f, uint64_t *bits_out)
{
    uint64_t m = d->mantissa;
    int e10 = d->exp10;
    if (m == 0 && !d->cut) {
        *bits_out = 0;
        return true;
    }
    /* 0.50000000000000000 is 5e-1: exact products decide what cut-off powers cannot. */
    while (!d->cut && m % 10 == 0) {
        m /= 10;
        e10++;
    }
    if (e10 > 310) {
        *bits_out = (uint64_t)(2 * f->exp_max + 1) << (f->mant_bits - 1);
        return true;
    }
    if (e10 < OT_POW10_MIN) { /* at most 10^19 * 10^-343: below half of the least subnormal */
        *bits_out = 0;
        return true;
    }
    if (!scale(m, e10, f, bits_out)) {
        return false;
    }
    uint64_t above;
    return !d->cut || (scale(m + 1, e10, f, &above) && above == *bits_out);
}

/* strtod wants a NUL and at most the locale's decimal point. Up to 800 significant digits decide
 * every double; a longer text keeps its first digits and a sticky last one. */
static double by_library(const ot_decimal *d, bool single)
{
    char buf[1100];
    size_t n = 0, digits = 0;
    int64_t exp10 = 0;
    bool point = false, sticky = false;
    for (size_t i = d->negative; i < d->n && d->p[i] != 'e' && d->p[i] != 'E'; i++) {
        char c = d->p[i];
        if (c == '.') {
            point = true;
        } else if (digits < 1000) {
            digits += digits != 0 || c != '0';
            if (digits != 0) {
                buf[n++] = c;
            }
            exp10 -= point;
        } else {
            sticky |= c != '0';
            exp10 += !point;
        }
    }
    if (sticky) {
        buf[n++] = '1';
        exp10--;
    }
    for (size_t i = 0; i < d->n; i++) {
        if (d->p[i] == 'e' || d->p[i] == 'E') {
            int32_t e = 0;
            decimal_exponent(d->p + i + 1, d->p + d->n, &e);
            exp10 += e;
            break;
        }
    }
    if (n == 0) {
        return 0;
    }
    exp10 = OT_MAX(-1000000, OT_MIN(1000000, exp10));
    buf[n++] = 'e';
    n += ot_format_i64(exp10, buf + n);
    buf[n] = 0;
    return single ? (double)strtof(buf, NULL) : strtod(buf, NULL);
}

float ot_decimal_f32_slow(const ot_decimal *d)
{
    uint64_t bits;
    float x;
    if (decide(d, &binary32, &bits)) {
        uint32_t b = (uint32_t)bits;
        memcpy(&x, &b, sizeof x);
    } else {
        x = (float)by_library(d, true);
    }
    return d->negative ? -x : x;
}

double ot_decimal_f64_slow(const ot_decimal *d)
{
    uint64_t bits;
    double x;
    if (decide(d, &binary64, &bits)) {
        memcpy(&x, &bits, sizeof x);
    } else {
        x = by_library(d, false);
    }
    return d->negative ? -x : x;
}

float ot_decimal_f32(const ot_decimal *d)
{
    float x;
    return decimal_f32_quick(d->mantissa, d->exp10, d->negative, &x) ? x : ot_decimal_f32_slow(d);
}

double ot_decimal_f64(const ot_decimal *d)
{
    return decimal_f64(d);
}
