/* The usual number, [-]d{1,8}[.d{1,18}] without exponent, taken in looks of 16 bytes (SSE2).
 * Everything else, and every other processor, goes through the scalar twin, decimal_scan. Private
 * to this folder. */
#ifndef OT_CODEC_DECIMAL_WIDE_H
#define OT_CODEC_DECIMAL_WIDE_H

#include "codec/decimal.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* An ot_decimal without what only the slow paths ask for, so that it stays in registers. */
typedef struct usual {
    uint64_t mantissa;
    int32_t exp10;
    uint32_t negative; /* 0 or 1 */
} usual;

#ifdef __SSE2__
extern const uint8_t ot_last_bytes[32]; /* 16 of 0x00, 16 of 0xff */

/* Bit i: byte i of the 16 at p is a digit. */
OT_ALWAYS_INLINE uint32_t digit_bits(const char *p)
{
    __m128i x;
    memcpy(&x, p, 16);
    x = _mm_sub_epi8(x, _mm_set1_epi8('0'));
    return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(x, _mm_set1_epi8(9)), x));
}

/* The value of the n <= 16 digits before `end`; reads the 16 bytes before it. */
OT_ALWAYS_INLINE uint64_t digits_before(const char *end, unsigned n)
{
    __m128i x, keep;
    memcpy(&x, end - 16, 16);
    memcpy(&keep, ot_last_bytes + n, 16);
    x = _mm_and_si128(_mm_sub_epi8(x, _mm_set1_epi8('0')), keep);
    /* Neighbours are joined: 16 digits, 8 pairs, 4 fours, 2 eights. */
    x = _mm_add_epi16(_mm_mullo_epi16(_mm_and_si128(x, _mm_set1_epi16(0xff)), _mm_set1_epi16(10)),
                      _mm_srli_epi16(x, 8));
    x = _mm_madd_epi16(x, _mm_set1_epi32(1 << 16 | 100));
    x = _mm_packs_epi32(x, x);
    x = _mm_madd_epi16(x, _mm_set1_epi32(1 << 16 | 10000));
    uint64_t eights = (uint64_t)_mm_cvtsi128_si64(x);
    return (eights & UINT32_MAX) * 100000000 + (eights >> 32);
}
#endif

/* The byte after the number at p, or NULL when it is of no usual form or too near to either end of
 * the text [begin, end). */
OT_ALWAYS_INLINE const char *usual_scan(const char *p, const char *begin, const char *end,
                                        usual *out)
{
#ifdef __SSE2__
    /* The last look begins at most 26 bytes on (sign, 8 digits, point, 16 digits). */
    if (__builtin_expect(end - p < 48 || p - begin < 16, 0)) {
        return NULL;
    }
    /* Not `*p == '-'`: the byte register of that comparison can make each number wait for the
     * floating-point result of the one before, which doubles the time. */
    const uint32_t negative = (uint32_t)(((uint64_t)((unsigned char)*p ^ '-') - 1) >> 63);
    const char *s = p + negative;
    uint32_t others = ~(digit_bits(p) >> negative);
    unsigned whole = (unsigned)__builtin_ctz(others), fraction = 0;
    uint64_t m = (uint64_t)(*s - '0');
    if (__builtin_expect(whole != 1, 0)) {
        if (whole == 0 || whole > 8 || m == 0) {
            return NULL;
        }
        m = digits_before(s + whole, whole);
    }
    s += whole;
    if (*s == '.') {
        s++;
        fraction = (unsigned)__builtin_ctz(others >> (whole + 1));
        if (negative + whole + 1 + fraction >= 16) { /* it may go on beyond the first look */
            fraction = (unsigned)__builtin_ctz(~digit_bits(s));
            fraction += fraction == 16 ? (unsigned)__builtin_ctz(~digit_bits(s + 16)) : 0;
        }
        if (fraction == 0 || fraction + whole > 19) {
            return NULL;
        }
        s += fraction;
        unsigned vector = fraction;
        for (; vector > 16; vector--) {
            m = m * 10 + (uint64_t)(s[-(int)vector] - '0');
        }
        m = m * ot_pow10_u64[vector] + digits_before(s, vector);
    }
    if ((*s | 0x20) == 'e') {
        return NULL;
    }
    out->mantissa = m;
    out->exp10 = -(int32_t)fraction;
    out->negative = negative;
    return s;
#else
    (void)p;
    (void)begin;
    (void)end;
    (void)out;
    return NULL;
#endif
}

#endif
