/* The hot half of number.h, inline so that array loops keep everything in registers. Private to
 * this folder. */
#ifndef OT_CODEC_DECIMAL_H
#define OT_CODEC_DECIMAL_H

#include "codec/number.h"

#include <string.h>

#define OT_ALWAYS_INLINE static inline __attribute__((always_inline))

extern const uint64_t ot_pow10_u64[20];
extern const double ot_pow10_f64[23];
#define OT_POW10_NEAR 18
extern const double ot_pow10_near[2 * OT_POW10_NEAR + 1]; /* 1e-18 to 1e18, rounded */

/* Slow paths, kept out of line. */
void ot_decimal_recount(ot_decimal *d);
float ot_decimal_f32_slow(const ot_decimal *d);
double ot_decimal_f64_slow(const ot_decimal *d);

OT_ALWAYS_INLINE bool is_digit(char c)
{
    return (unsigned char)(c - '0') < 10;
}

/* The scalar twin of digits8: the same contract, byte by byte. */
static inline unsigned digits8_scalar(const char *p, const char *end, uint64_t *value_out)
{
    unsigned n = 0;
    uint64_t v = 0;
    while (n < 8 && p + n < end && is_digit(p[n])) {
        v = v * 10 + (uint64_t)(p[n++] - '0');
    }
    *value_out = v;
    return n;
}

/* Up to 8 digits at p: how many there are, and their value. */
OT_ALWAYS_INLINE unsigned digits8(const char *p, const char *end, uint64_t *value_out)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    if (end - p < 8) {
        return digits8_scalar(p, end, value_out);
    }
    uint64_t x;
    memcpy(&x, p, 8);
    x ^= UINT64_C(0x3030303030303030);
    /* The high bit of a byte is set where it is no digit; a carry can only spoil bytes after the
     * first such one, and only the first is asked for. */
    uint64_t other = ((x + UINT64_C(0x7676767676767676)) | x) & UINT64_C(0x8080808080808080);
    unsigned n = other == 0 ? 8 : (unsigned)__builtin_ctzll(other) >> 3;
    if (n == 0) {
        *value_out = 0;
        return 0;
    }
    x <<= 64 - 8 * n; /* digits to the end of the word, zeros before them */
    x = x * 10 + (x >> 8);
    *value_out = ((x & UINT64_C(0x000000ff000000ff)) * UINT64_C(0x000f424000000064) +
                  (x >> 16 & UINT64_C(0x000000ff000000ff)) * UINT64_C(0x0000271000000001)) >>
                 32;
    return n;
#else
    return digits8_scalar(p, end, value_out);
#endif
}

OT_ALWAYS_INLINE const char *decimal_exponent(const char *p, const char *end, int32_t *exp_io)
{
    bool neg = false;
    if (p < end && (*p == '-' || *p == '+')) {
        neg = *p++ == '-';
    }
    if (p == end || !is_digit(*p)) {
        return NULL;
    }
    int32_t e = 0;
    for (; p < end && is_digit(*p); p++) {
        e = e < 100000 ? e * 10 + (*p - '0') : e;
    }
    *exp_io += neg ? -e : e;
    return p;
}

OT_ALWAYS_INLINE const char *decimal_scan(const char *p, const char *end, ot_decimal *d)
{
    d->p = p;
    d->cut = false;
    d->negative = p < end && *p == '-';
    p += d->negative;
    const char *first = p;
    uint64_t m = 0;
    while (p < end && is_digit(*p)) {
        m = m * 10 + (uint64_t)(*p++ - '0');
    }
    ptrdiff_t digits = p - first;
    if (digits == 0 || (digits > 1 && *first == '0')) {
        return NULL;
    }
    int32_t exp10 = 0;
    d->plain = true;
    if (p < end && *p == '.') {
        const char *fraction = ++p;
        d->plain = false;
        unsigned n;
        do {
            uint64_t v;
            n = digits8(p, end, &v);
            m = m * ot_pow10_u64[n] + v;
            p += n;
        } while (n == 8);
        if (p == fraction) {
            return NULL;
        }
        digits += p - fraction;
        exp10 = p - fraction > 1000000 ? -1000000 : -(int32_t)(p - fraction);
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        d->plain = false;
        p = decimal_exponent(p + 1, end, &exp10);
        if (p == NULL) {
            return NULL;
        }
    }
    d->mantissa = m;
    d->exp10 = exp10;
    d->n = (size_t)(p - d->p);
    if (__builtin_expect(digits > 19, 0)) {
        ot_decimal_recount(d);
    }
    return p;
}

/* Clinger: when both factors are exact in the type, one operation rounds once. */
OT_ALWAYS_INLINE double decimal_f64(const ot_decimal *d)
{
    if (d->mantissa <= (UINT64_C(1) << 53) && d->exp10 >= -22 && d->exp10 <= 22 && !d->cut) {
        double x = (double)(int64_t)d->mantissa;
        x = d->exp10 < 0 ? x / ot_pow10_f64[-d->exp10] : x * ot_pow10_f64[d->exp10];
        return d->negative ? -x : x;
    }
    return ot_decimal_f64_slow(d);
}

/* The float, or false when this quick way cannot tell. The product is within 2 units in its last
 * place of the value (one rounding each of mantissa, power and product), so rounding it again is
 * right unless it lies next to the middle between two floats: 29 bits beyond a float's 24.
 * Exponents are bounded so that it is a normal float or zero. */
OT_ALWAYS_INLINE bool decimal_f32_quick(uint64_t mantissa, int32_t exp10, uint32_t negative,
                                        float *out)
{
    uint32_t power = (uint32_t)(exp10 + OT_POW10_NEAR);
    if (__builtin_expect(mantissa >> 63 != 0 || power > 2 * OT_POW10_NEAR, 0)) {
        return false;
    }
    double x = (double)(int64_t)mantissa * ot_pow10_near[power];
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    float f = (float)x;
    uint32_t sign = negative << 31, out_bits;
    memcpy(&out_bits, &f, sizeof out_bits);
    out_bits |= sign;
    memcpy(out, &out_bits, sizeof out_bits);
    return (bits & 0x1fffffff) - (0x10000000 - 8) > 16;
}

#endif
