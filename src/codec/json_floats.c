#include "codec/json_floats.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define WIDE                                                                                       \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,bmi,bmi2,"    \
                          "lzcnt,popcnt")))

static bool has_wide;

__attribute__((constructor)) static void look_at_processor(void)
{
    __builtin_cpu_init(); /* each of these has LZCNT too */
    has_wide = __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vbmi") &&
               __builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("bmi") &&
               __builtin_cpu_supports("bmi2");
}

/* 64 bytes of text that begin at a value or the white space before it, cut behind the last comma.
 * Bit i of the words stands for byte i. */
typedef struct look {
    const char *text;
    const char *at;    /* where these bytes are in the text that is read */
    uint64_t first;    /* a number's first digit */
    uint64_t point;    /* what follows its whole digits: the point, or its end */
    uint64_t last;     /* its end */
    uint64_t negative; /* bit k: of number k */
    size_t n;          /* numbers, at most 32 */
} look;

/* Bytes with all their commas, or 0 when there is no comma, or when what precedes the last one
 * breaks the grammar: [ ]*-?(0|[1-9][0-9]*)([.][0-9]+)?[ ]*, and a comma. */
WIDE static inline size_t look_at(const char *text, look *l)
{
    const __m512i x = _mm512_loadu_si512(text);
    uint64_t comma = _mm512_cmpeq_epi8_mask(x, _mm512_set1_epi8(','));
    const uint64_t space = _mm512_cmpeq_epi8_mask(x, _mm512_set1_epi8(' '));
    const uint64_t minus = _mm512_cmpeq_epi8_mask(x, _mm512_set1_epi8('-'));
    const uint64_t dot = _mm512_cmpeq_epi8_mask(x, _mm512_set1_epi8('.'));
    const uint64_t zero = _mm512_cmpeq_epi8_mask(x, _mm512_set1_epi8('0'));
    const uint64_t digit =
        _mm512_cmplt_epu8_mask(_mm512_sub_epi8(x, _mm512_set1_epi8('0')), _mm512_set1_epi8(10));
    const uint64_t other = ~(comma | space | minus | dot | digit);
    if (__builtin_expect(comma == 0, 0)) {
        return 0;
    }
    unsigned after = (unsigned)__builtin_clzll(comma);
    uint64_t in = UINT64_MAX >> after;
    if (__builtin_expect((other & in) != 0, 0)) {
        comma &= (other & (0 - other)) - 1;
        if (comma == 0) {
            return 0;
        }
        after = (unsigned)__builtin_clzll(comma);
        in = UINT64_MAX >> after;
    }
    const uint64_t number = digit | dot;
    const uint64_t first = digit & ~(number << 1) & in;
    /* Added to the digits, a number's first one carries through its whole part, and no further. */
    const uint64_t point = (digit + first) & ~digit & in;
    /* One run of ones from each first digit to its comma, if they alternate: else one of them
     * begins elsewhere. */
    const uint64_t runs = comma - first;
    const uint64_t bad =
        (((dot & ~(point & digit >> 1)) | (minus & ~(first >> 1)) | (first & zero & digit >> 1)) &
         in) |
        ((runs & ~(runs << 1)) ^ first);
    l->text = text;
    l->first = first;
    l->point = point;
    l->last = ~number & number << 1 & in;
    l->negative = _pext_u64(minus << 1, first);
    l->n = (size_t)__builtin_popcountll(comma);
    return bad != 0 ? 0 : 64 - after;
}

/* The same of what is left from p to end, copied to `tail` when it is less; 0 also when that is
 * more than `room` numbers. */
WIDE static inline size_t look_next(const char *p, const char *end, char tail[64], size_t room,
                                    look *l)
{
    const char *text = p;
    size_t left = (size_t)(end - p);
    if (__builtin_expect(left < 64, 0)) {
        memset(tail, 0, 64);
        memcpy(tail, p, left);
        text = tail;
    }
    l->at = p;
    size_t took = look_at(text, l);
    return took != 0 && l->n <= room ? took : 0;
}

/* Eight digits of four numbers: those from byte `at` on, of which the point takes no part and what
 * lies behind the end counts as 0. Bytes of one number are the same in `point` and `last`. */
WIDE static inline __m256i eight_digits(__m512i text, __m256i at, __m256i point, __m256i last)
{
    at = _mm256_mask_sub_epi8(at, _mm256_cmpge_epi8_mask(at, point), at, _mm256_set1_epi8(-1));
    __m256i x = _mm512_castsi512_si256(_mm512_maskz_permutexvar_epi8(
        _mm256_cmplt_epi8_mask(at, last), _mm512_castsi256_si512(at), text));
    x = _mm256_maddubs_epi16(x, _mm256_set1_epi16(1 << 8 | 10));
    x = _mm256_madd_epi16(x, _mm256_set1_epi32(1 << 16 | 100));
    return _mm256_add_epi64(_mm256_mul_epu32(x, _mm256_set1_epi64x(10000)),
                            _mm256_srli_epi64(x, 32));
}

/* [w % 16]: the power that puts the point of 16 digits behind the first w of them. */
static const double powers[16]
    __attribute__((aligned(64))) = {1e0,  1e-15, 1e-14, 1e-13, 1e-12, 1e-11, 1e-10, 1e-9,
                                    1e-8, 1e-7,  1e-6,  1e-5,  1e-4,  1e-3,  1e-2,  1e-1};

/* Which of four numbers may be rounded wrongly, `digits` being their first 16, `x` those times the
 * power. It is within 2 units in its last place of their value (decimal.h); what was cut off, where
 * there are more, is below a unit of the digits, so below 9,008 units of x where the digits are at
 * least 10^12. Rounding x to a float is right unless it lies that near to the middle of two. */
WIDE static inline __mmask8 doubtful(__m256i digits, __m256d x, __m256i whole, __m256i length,
                                     __mmask8 live)
{
    const __m256i many = _mm256_set1_epi8(16);
    __m256i low = _mm256_and_si256(_mm256_castpd_si256(x), _mm256_set1_epi64x(0x1fffffff));
    __mmask8 cut = _mm256_mask_cmpgt_epi64_mask(live, length, many);
    return _kor_mask8(
        _kor_mask8(_mm256_mask_cmpgt_epi64_mask(live, whole, many),
                   _mm256_mask_cmplt_epi64_mask(cut, digits, _mm256_set1_epi64x(1000000000000))),
        _mm256_mask_cmple_epu64_mask(live,
                                     _mm256_sub_epi64(low, _mm256_set1_epi64x(0x10000000 - 16384)),
                                     _mm256_set1_epi64x(32768)));
}

/* Stores the numbers up to the first doubtful one; returns how many. */
WIDE static inline size_t store(const look *l, char *dst)
{
    const __m512i places = _mm512_set_epi64(
        0x3f3e3d3c3b3a3938, 0x3736353433323130, 0x2f2e2d2c2b2a2928, 0x2726252423222120,
        0x1f1e1d1c1b1a1918, 0x1716151413121110, 0x0f0e0d0c0b0a0908, 0x0706050403020100);
    const __m256i lanes =
        _mm256_set_epi64x(0x0303030303030303, 0x0202020202020202, 0x0101010101010101, 0);
    const __m512i text = _mm512_sub_epi8(_mm512_loadu_si512(l->text), _mm512_set1_epi8('0'));
    /* Byte k: where number k has its first digit, its point, its end. */
    __m256i firsts = _mm512_castsi512_si256(_mm512_maskz_compress_epi8(l->first, places));
    __m256i points = _mm512_castsi512_si256(_mm512_maskz_compress_epi8(l->point, places));
    __m256i lasts = _mm512_castsi512_si256(_mm512_maskz_compress_epi8(l->last, places));
    for (size_t k = 0; k < l->n; k += 4) {
        const __m256i first = _mm256_permutexvar_epi8(lanes, firsts);
        const __m256i point = _mm256_permutexvar_epi8(lanes, points);
        const __m256i last = _mm256_permutexvar_epi8(lanes, lasts);
        const __m256i at = _mm256_add_epi8(first, _mm256_set1_epi64x(0x0706050403020100));
        const __m256i high = eight_digits(text, at, point, last);
        const __m256i digits = _mm256_add_epi64(
            eight_digits(text, _mm256_add_epi8(at, _mm256_set1_epi8(8)), point, last),
            _mm256_mul_epu32(high, _mm256_set1_epi64x(100000000)));
        const __m256i whole = _mm256_sub_epi8(point, first);
        const __m256d power = _mm512_castpd512_pd256(_mm512_permutex2var_pd(
            _mm512_load_pd(powers), _mm512_castsi256_si512(whole), _mm512_load_pd(powers + 8)));
        const __m256d x = _mm256_mul_pd(_mm256_cvtepi64_pd(digits), power);
        const __mmask8 live = (__mmask8)_bzhi_u32(15, (unsigned)(l->n - k));
        __m128i floats = _mm_castps_si128(_mm256_cvtpd_ps(x));
        floats = _mm_mask_xor_epi32(floats, (__mmask8)(l->negative >> k), floats,
                                    _mm_set1_epi32(INT32_MIN));
        _mm_mask_storeu_epi32(dst + 4 * k, live, floats);
        const __mmask8 doubt = doubtful(digits, x, whole, _mm256_sub_epi8(last, first), live);
        if (__builtin_expect(doubt != 0, 0)) {
            return k + (size_t)__builtin_ctz(doubt);
        }
        firsts = _mm256_alignr_epi32(firsts, firsts, 1);
        points = _mm256_alignr_epi32(points, points, 1);
        lasts = _mm256_alignr_epi32(lasts, lasts, 1);
    }
    return l->n;
}

/* Each look goes ahead of the one that is stored: neither waits for the other's results. */
WIDE static size_t read_wide(const char **at_io, const char *end, char *dst, size_t n)
{
    const char *p = *at_io;
    size_t done = 0;
    look now, next;
    char tail[64];
    size_t took = look_next(p, end, tail, n, &now);
    while (took != 0) {
        p += took;
        took = now.text == tail ? 0 : look_next(p, end, tail, n - done - now.n, &next);
        size_t good = store(&now, dst + 4 * done);
        done += good;
        if (__builtin_expect(good < now.n, 0)) {
            uint64_t digit = _pdep_u64(UINT64_C(1) << good, now.first);
            p = now.at + __builtin_ctzll(digit) - (now.negative >> good & 1);
            break;
        }
        if (took != 0) {
            now = next;
        }
    }
    *at_io = p;
    return done;
}

size_t json_floats(const char **at_io, const char *end, char *dst, size_t n)
{
    return has_wide ? read_wide(at_io, end, dst, n) : 0;
}

#else

size_t json_floats(const char **at_io, const char *end, char *dst, size_t n)
{
    (void)at_io;
    (void)end;
    (void)dst;
    (void)n;
    return 0;
}

#endif
