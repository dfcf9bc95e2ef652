/* The usual number taken in one look of 32 bytes (SSE2). Everything else, and every other processor,
 * goes through the scalar twin, decimal_scan. Private to this folder. */
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
    bool negative;
} usual;

/* 8 bytes known to begin with n digits, 1 <= n <= 8: their value. */
OT_ALWAYS_INLINE uint64_t digits_at(const char *p, unsigned n)
{
    uint64_t x;
    memcpy(&x, p, 8);
    x = (x ^ UINT64_C(0x3030303030303030)) << (64 - 8 * n);
    x = x * 10 + (x >> 8);
    return ((x & UINT64_C(0x000000ff000000ff)) * UINT64_C(0x000f424000000064) +
            (x >> 16 & UINT64_C(0x000000ff000000ff)) * UINT64_C(0x0000271000000001)) >>
           32;
}

#ifdef __SSE2__
/* The two words' 32 bytes at p: bit i of *digits_out is set where byte i is a digit, of *token_out
 * where it could be part of a number at all. */
OT_ALWAYS_INLINE void classify(const char *p, uint32_t *digits_out, uint32_t *token_out)
{
    const __m128i comma = _mm_set1_epi8(','), bracket = _mm_set1_epi8(']');
    const __m128i zero = _mm_set1_epi8('0'), nine = _mm_set1_epi8(9);
    __m128i a, b;
    memcpy(&a, p, 16);
    memcpy(&b, p + 16, 16);
    __m128i token_a = _mm_andnot_si128(_mm_cmpeq_epi8(a, bracket), _mm_cmpgt_epi8(a, comma));
    __m128i token_b = _mm_andnot_si128(_mm_cmpeq_epi8(b, bracket), _mm_cmpgt_epi8(b, comma));
    a = _mm_sub_epi8(a, zero);
    b = _mm_sub_epi8(b, zero);
    *token_out = (uint32_t)_mm_movemask_epi8(token_a) | (uint32_t)_mm_movemask_epi8(token_b) << 16;
    *digits_out = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(a, nine), a)) |
                  (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(b, nine), b)) << 16;
}

/* [-]d{1,8}[.d{1,18}], 19 digits at most and no exponent; NULL for every other form. */
OT_ALWAYS_INLINE const char *decimal_usual(const char *p, uint32_t digits, usual *out)
{
    bool negative = *p == '-';
    const char *s = p + negative;
    uint64_t others = ~((uint64_t)digits >> negative);
    unsigned whole = (unsigned)__builtin_ctzll(others), fraction = 0;
    if (whole - 1 > 7 || (whole > 1 && *s == '0')) {
        return NULL;
    }
    uint64_t m = whole == 1 ? (uint64_t)(*s - '0') : digits_at(s, whole);
    s += whole;
    if (*s == '.') {
        s++;
        fraction = (unsigned)__builtin_ctzll(others >> (whole + 1));
        if (fraction == 0 || fraction + whole > 19) {
            return NULL;
        }
        if (fraction <= 8) {
            m = m * ot_pow10_u64[fraction] + digits_at(s, fraction);
        } else {
            unsigned second = fraction <= 16 ? fraction - 8 : 8;
            m = m * 100000000 + digits_at(s, 8);
            m = m * ot_pow10_u64[second] + digits_at(s + 8, second);
            if (fraction > 16) {
                m = m * ot_pow10_u64[fraction - 16] + digits_at(s + 16, fraction - 16);
            }
        }
        s += fraction;
    }
    if ((*s | 0x20) == 'e') {
        return NULL;
    }
    out->mantissa = m;
    out->exp10 = -(int32_t)fraction;
    out->negative = negative;
    return s;
}
#endif

/* The byte after the number at p, or NULL when it is of no usual form. *guess_out: where the number
 * probably ends, found without reading its digits, so that the processor can begin the next number
 * before this one is done (numbers in a row otherwise wait for each other). A wrong guess costs time
 * only: use *again_out when the result equals *guess_out. Both are the same pointer, one hidden from
 * the compiler, which would else put the result in its place. */
OT_ALWAYS_INLINE const char *usual_scan(const char *p, const char *end, usual *out,
                                        const char **guess_out, const char **again_out)
{
#ifdef __SSE2__
    if (__builtin_expect(end - p >= 48, 1)) { /* the last load begins at most 29 bytes on */
        uint32_t digits, token;
        classify(p, &digits, &token);
        *guess_out = p + __builtin_ctzll(~(uint64_t)token);
        *again_out = *guess_out;
        __asm__("" : "+r"(*again_out));
        return decimal_usual(p, digits, out);
    }
#else
    (void)p;
    (void)end;
    (void)out;
#endif
    *guess_out = *again_out = NULL;
    return NULL;
}

#endif
