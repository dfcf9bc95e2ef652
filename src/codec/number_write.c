#include "base/mem.h"
#include "codec/number.h"
#include "codec/pow10_table.h"

#include <math.h>
#include <string.h>

/* Schubfach (Raffaello Giulietti, "The Schubfach way to render doubles", 2020): the shortest
 * decimal in the rounding interval, the closest one when several are shortest. Names follow the
 * paper: value c * 2^q, interval ends and middle scaled by 4 * 10^-k. */

__extension__ typedef unsigned __int128 u128;

typedef struct digits {
    uint64_t d;
    int k; /* value = d * 10^k */
} digits;

static int floor_log2_pow10(int e)
{
    return e * 1741647 >> 19;
}

/* floor(log10(2^q)), or floor(log10(3/4 * 2^q)) where the lower neighbour is closer. */
static int floor_log10(int q, bool closer)
{
    return (q * 1262611 - (closer ? 524031 : 0)) >> 22;
}

/* Picks s or its neighbour from the interval [lower, upper] around the middle vb (all times 4). */
static digits pick(uint64_t lower, uint64_t vb, uint64_t upper, int k)
{
    uint64_t s = vb / 4;
    if (s >= 10) {
        uint64_t sp = s / 10;
        bool under = lower <= 40 * sp, over = 40 * sp + 40 <= upper;
        if (under != over) {
            return (digits){sp + over, k + 1};
        }
    }
    bool under = lower <= 4 * s, over = 4 * s + 4 <= upper;
    if (under != over) {
        return (digits){s + over, k};
    }
    uint64_t mid = 4 * s + 2;
    return (digits){s + (vb > mid || (vb == mid && (s & 1) != 0)), k};
}

static uint64_t odd32(uint64_t g, uint64_t cp)
{
    u128 p = (u128)g * cp;
    return (uint64_t)(p >> 64) | ((uint64_t)p >> 32 > 1);
}

static digits shortest32(uint32_t fraction, uint32_t exponent)
{
    uint32_t c = exponent != 0 ? fraction | 1U << 23 : fraction;
    int q = exponent != 0 ? (int)exponent - 150 : -149;
    if (q <= 0 && q > -24 && (c & ((1U << -q) - 1)) == 0) {
        return (digits){c >> -q, 0};
    }
    bool closer = fraction == 0 && exponent > 1;
    int k = floor_log10(q, closer);
    int h = q + floor_log2_pow10(-k) + 1;
    uint64_t g = ot_pow10[-k - OT_POW10_MIN][0];
    g += -k < 0 || -k > 27; /* the table cuts off, the method wants it rounded up */
    uint64_t odd = c & 1;
    uint64_t lower = odd32(g, (4 * (uint64_t)c - 2 + closer) << h) + odd;
    uint64_t upper = odd32(g, (4 * (uint64_t)c + 2) << h) - odd;
    return pick(lower, odd32(g, (uint64_t)c << 2 << h), upper, k);
}

static uint64_t odd64(uint64_t ghi, uint64_t glo, uint64_t cp)
{
    u128 y = (u128)ghi * cp + (uint64_t)((u128)glo * cp >> 64);
    return (uint64_t)(y >> 64) | ((uint64_t)y > 1);
}

static digits shortest64(uint64_t fraction, uint32_t exponent)
{
    uint64_t c = exponent != 0 ? fraction | UINT64_C(1) << 52 : fraction;
    int q = exponent != 0 ? (int)exponent - 1075 : -1074;
    if (q <= 0 && q > -53 && (c & ((UINT64_C(1) << -q) - 1)) == 0) {
        return (digits){c >> -q, 0};
    }
    bool closer = fraction == 0 && exponent > 1;
    int k = floor_log10(q, closer);
    int h = q + floor_log2_pow10(-k) + 1;
    uint64_t ghi = ot_pow10[-k - OT_POW10_MIN][0], glo = ot_pow10[-k - OT_POW10_MIN][1];
    if (-k < 0 || -k > 55) {
        glo++;
        ghi += glo == 0;
    }
    uint64_t odd = c & 1;
    uint64_t lower = odd64(ghi, glo, (4 * c - 2 + closer) << h) + odd;
    uint64_t upper = odd64(ghi, glo, (4 * c + 2) << h) - odd;
    return pick(lower, odd64(ghi, glo, c << 2 << h), upper, k);
}

static const char pairs[201] = "00010203040506070809101112131415161718192021222324"
                               "25262728293031323334353637383940414243444546474849"
                               "50515253545556575859606162636465666768697071727374"
                               "75767778798081828384858687888990919293949596979899";

/* Writes x so that it ends before `end`; returns its first byte. */
static char *back_digits(uint64_t x, char *end)
{
    while (x > UINT32_MAX) {
        uint64_t q = x / 100;
        end -= 2;
        memcpy(end, pairs + 2 * (x - q * 100), 2);
        x = q;
    }
    uint32_t y = (uint32_t)x;
    while (y >= 100) {
        uint32_t q = y / 100;
        end -= 2;
        memcpy(end, pairs + 2 * (y - q * 100), 2);
        y = q;
    }
    if (y >= 10) {
        end -= 2;
        memcpy(end, pairs + (size_t)2 * y, 2);
    } else {
        *--end = (char)('0' + y);
    }
    return end;
}

static size_t format_integer(uint64_t x, bool negative, char *out)
{
    char buf[OT_I64_TEXT];
    char *p = back_digits(x, buf + sizeof buf);
    if (negative) {
        *--p = '-';
    }
    size_t n = (size_t)(buf + sizeof buf - p);
    memcpy(out, p, n);
    return n;
}

size_t ot_format_u64(uint64_t x, char out[OT_I64_TEXT])
{
    return format_integer(x, false, out);
}

size_t ot_format_i64(int64_t x, char out[OT_I64_TEXT])
{
    return format_integer(x < 0 ? 0 - (uint64_t)x : (uint64_t)x, x < 0, out);
}

static size_t special(bool nan, bool negative, char *out)
{
    const char *s = nan ? "NaN" : negative ? "-Infinity" : "Infinity";
    size_t n = strlen(s);
    memcpy(out, s, n);
    return n;
}

static char *zeros(char *p, int n)
{
    memset(p, '0', (size_t)n);
    return p + n;
}

/* d.k as text: plain while the point is within [-4, plain_max] places, else with an exponent. */
static size_t layout(digits v, bool negative, int plain_max, char *out)
{
    char buf[OT_I64_TEXT];
    char *end = buf + sizeof buf, *p = out;
    char *d = back_digits(v.d, end);
    while (v.k < 0 && end[-1] == '0' && end - d > 1) {
        end--;
        v.k++;
    }
    int n = (int)(end - d), point = n + v.k; /* digits before the decimal point */
    if (negative) {
        *p++ = '-';
    }
    if (point > plain_max || point < -3) {
        while (end[-1] == '0' && end - d > 1) {
            end--;
        }
        *p++ = *d++;
        if (d < end) {
            *p++ = '.';
            memcpy(p, d, (size_t)(end - d));
            p += end - d;
        }
        *p++ = 'e';
        int e = point - 1;
        return (size_t)(p - out) + format_integer((uint64_t)(e < 0 ? -e : e), e < 0, p);
    }
    if (point <= 0) {
        *p++ = '0';
        *p++ = '.';
        p = zeros(p, -point);
        memcpy(p, d, (size_t)n);
        return (size_t)(p + n - out);
    }
    int whole = OT_MIN(n, point);
    memcpy(p, d, (size_t)whole);
    p = zeros(p + whole, point - whole);
    *p++ = '.';
    if (n > whole) {
        memcpy(p, d + whole, (size_t)(n - whole));
        p += n - whole;
    } else {
        *p++ = '0';
    }
    return (size_t)(p - out);
}

size_t ot_format_f32(float x, char out[OT_F32_TEXT])
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint32_t exponent = bits >> 23 & 0xff, fraction = bits & 0x7fffff;
    bool negative = bits >> 31 != 0;
    if (exponent == 0xff) {
        return special(fraction != 0, negative, out);
    }
    digits v = (exponent | fraction) == 0 ? (digits){0, 0} : shortest32(fraction, exponent);
    return layout(v, negative, 9, out);
}

size_t ot_format_f64(double x, char out[OT_F64_TEXT])
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint32_t exponent = bits >> 52 & 0x7ff;
    uint64_t fraction = bits & ((UINT64_C(1) << 52) - 1);
    bool negative = bits >> 63 != 0;
    if (exponent == 0x7ff) {
        return special(fraction != 0, negative, out);
    }
    digits v = (exponent | fraction) == 0 ? (digits){0, 0} : shortest64(fraction, exponent);
    return layout(v, negative, 17, out);
}
