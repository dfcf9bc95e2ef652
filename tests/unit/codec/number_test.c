#include "base/random.h"
#include "codec/number.h"
#include "tap.h"

#include <stdlib.h>

static double read64(const char *s)
{
    ot_decimal d;
    size_t n = strlen(s);
    return ot_decimal_scan(s, s + n, &d) == s + n ? ot_decimal_f64(&d) : (double)NAN;
}

static float read32(const char *s)
{
    ot_decimal d;
    size_t n = strlen(s);
    return ot_decimal_scan(s, s + n, &d) == s + n ? ot_decimal_f32(&d) : NAN;
}

static bool same64(double a, double b)
{
    return memcmp(&a, &b, sizeof a) == 0;
}

static bool same32(float a, float b)
{
    return memcmp(&a, &b, sizeof a) == 0;
}

/* Compares one text with the C library in both widths. */
static bool agrees(const char *s)
{
    bool good = same64(read64(s), strtod(s, NULL)) && same32(read32(s), strtof(s, NULL));
    if (!good) {
        printf("# '%s': %a %a, C library %a %a\n", s, read64(s), (double)read32(s), strtod(s, NULL),
               (double)strtof(s, NULL));
    }
    return good;
}

static void test_hard(void)
{
    static const char *const hard[] = {
        "0",
        "-0",
        "0.0",
        "-0.0e5",
        "1",
        "-1",
        "0.1",
        "1e0",
        "1E+2",
        "123456789012345678",
        "12345678901234567890",
        "123456789012345678901234567890",
        "0.000000000000000000000001",
        "9007199254740993",
        "9007199254740992",
        "9007199254740991",
        "9007199254740993.0",
        "9007199254740993.00000000000000000000000000000000000000000001",
        "16777217",
        "16777217.0",
        "16777217.000000000000000000001",
        "16777219",
        "33554434.5",
        "1e22",
        "1e23",
        "-1e23",
        "8.5e22",
        "1e308",
        "1.7976931348623157e308",
        "1.7976931348623158e308",
        "1.7976931348623159e308",
        "1e309",
        "1e400",
        "1e99999999999",
        "-1e400",
        "2.2250738585072014e-308",
        "2.2250738585072011e-308",
        "2.2250738585072012e-308",
        "4.9406564584124654e-324",
        "2.4703282292062327e-324",
        "2.4703282292062328e-324",
        "2.470328229206232720e-324",
        "1e-323",
        "1e-324",
        "1e-325",
        "1e-342",
        "1e-343",
        "1e-400",
        "0e400",
        "0e-99999",
        "3.4028234663852886e38",
        "3.4028235677973366e38",
        "3.4028235677973365e38",
        "3.4028235677973367e38",
        "1.17549435e-38",
        "1.1754943508222875e-38",
        "1.17549421e-38",
        "1.4e-45",
        "7.006492321624085e-46",
        "7.006492321624086e-46",
        "7.0064923216240853546186479e-46",
        "7.0064923216240853546186480e-46",
        "0.50000000000000000",
        "0.5000000000000000000000001",
        "0.49999999999999994448884876",
        "100000000000000000000000000000000000000000",
        "0.1000000014901161193847656250",
        "1.00000017881393432617187499",
        "1.000000178813934326171875",
        "1.00000017881393432617187501",
        "1.00000005960464477539062500000000000000000000000000000000000001",
        "7.2057594037927933e16",
        "6.02214076e23",
        "2.225073858507201136057409796709131975934819546351"
        "64564802342610972482222202107694551652952390813508e-308",
    };
    bool good = true;
    for (size_t i = 0; i < sizeof hard / sizeof *hard; i++) {
        good &= agrees(hard[i]);
    }
    ok(good, "hard cases agree with the C library");

    char buf[2200];
    good = true;
    for (int n = 1; n < 1500; n += 37) { /* long digit strings, before and after the point */
        memset(buf, '0', sizeof buf);
        buf[1] = '.';
        buf[n + 1] = '7';
        snprintf(buf + n + 2, sizeof buf - (size_t)n - 2, "123e%d", n);
        good &= agrees(buf);
        memset(buf, '9', sizeof buf);
        snprintf(buf + n, sizeof buf - (size_t)n, "e-%d", n);
        good &= agrees(buf);
        snprintf(buf + n, sizeof buf - (size_t)n, ".25e-%d", n + 300);
        good &= agrees(buf);
    }
    /* One digit, 1,200 places behind a tie, decides. */
    memset(buf, '0', sizeof buf);
    memcpy(buf, "16777217.", 9);
    buf[1200] = 0;
    good &= agrees(buf);
    buf[1199] = '1';
    good &= agrees(buf);
    ok(good, "long digit strings agree with the C library");
}

static void test_malformed(void)
{
    static const char *const bad[] = {"",    "-",    "+1", ".5",  "1.",  "1.e5",
                                      "01",  "-01",  "00", "1e",  "1e+", "e5",
                                      "--1", "0x10", "1-", "NaN", " 1",  "1..2"};
    bool good = true;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ot_decimal d;
        const char *end = bad[i] + strlen(bad[i]);
        if (ot_decimal_scan(bad[i], end, &d) == end) {
            printf("# accepted '%s'\n", bad[i]);
            good = false;
        }
    }
    ok(good, "what RFC 8259 has no number for is refused");
}

static void test_random_reads(void)
{
    ot_rng r;
    ot_rng_seed(&r, 7);
    char buf[128];
    bool good = true;
    for (int i = 0; i < 100000 && good; i++) {
        uint64_t bits = ot_rng_next(&r);
        double x;
        memcpy(&x, &bits, sizeof x);
        if (!isfinite(x)) {
            continue;
        }
        snprintf(buf, sizeof buf, "%.*g", (int)ot_rng_below(&r, 25) + 1, x);
        if (strstr(buf, "inf") == NULL) {
            good &= agrees(buf);
        }
        /* Sizes that models see, every number of digits. */
        double y = ot_rng_normal(&r) * pow(10, (double)ot_rng_below(&r, 12) - 6);
        snprintf(buf, sizeof buf, "%.*f", (int)ot_rng_below(&r, 22) + 1, y);
        good &= agrees(buf);
        snprintf(buf, sizeof buf, "%.17g", (double)(float)y);
        good &= agrees(buf);
        /* Exactly between two floats, and a little beside it. */
        float f = (float)y, g = nextafterf(f, INFINITY);
        double mid = ((double)f + (double)g) / 2;
        snprintf(buf, sizeof buf, "%.40g", mid);
        good &= agrees(buf);
        snprintf(buf, sizeof buf, "%.17g", nextafter(mid, 0));
        good &= agrees(buf);
        uint32_t b32 = (uint32_t)ot_rng_next(&r) & 0x7fffffff;
        memcpy(&f, &b32, sizeof f);
        if (isfinite(f)) {
            snprintf(buf, sizeof buf, "%.*g", (int)ot_rng_below(&r, 12) + 1, (double)f);
            good &= agrees(buf);
        }
    }
    ok(good, "100,000 rounds of random texts agree with the C library");
}

/* The fewest digits that read back, by trying. */
static int fewest_digits32(float x)
{
    char buf[64];
    for (int n = 1; n < 9; n++) {
        snprintf(buf, sizeof buf, "%.*e", n - 1, (double)x);
        if (same32(strtof(buf, NULL), x)) {
            return n;
        }
    }
    return 9;
}

static int digits_in(const char *s)
{
    char only[64];
    int n = 0;
    for (; *s != 0 && *s != 'e'; s++) {
        if (*s >= '0' && *s <= '9' && (n > 0 || *s != '0')) {
            only[n++] = *s;
        }
    }
    while (n > 1 && only[n - 1] == '0') {
        n--;
    }
    return n;
}

static bool good32(float x)
{
    char buf[OT_F32_TEXT + 1];
    size_t n = ot_format_f32(x, buf);
    if (n > OT_F32_TEXT) {
        return false;
    }
    buf[n] = 0;
    bool good = same32(strtof(buf, NULL), x) && same32(read32(buf), x) &&
                (x == 0 || digits_in(buf) <= fewest_digits32(x));
    if (!good) {
        printf("# %a is written '%s'\n", (double)x, buf);
    }
    return good;
}

static bool good64(double x)
{
    char buf[OT_F64_TEXT + 1], ref[64];
    size_t n = ot_format_f64(x, buf);
    if (n > OT_F64_TEXT) {
        return false;
    }
    buf[n] = 0;
    int fewest = 1;
    for (; fewest < 17; fewest++) {
        snprintf(ref, sizeof ref, "%.*e", fewest - 1, x);
        if (same64(strtod(ref, NULL), x)) {
            break;
        }
    }
    bool good = same64(strtod(buf, NULL), x) && same64(read64(buf), x) &&
                (x == 0 || digits_in(buf) <= fewest);
    if (!good) {
        printf("# %a is written '%s'\n", x, buf);
    }
    return good;
}

static void test_random_writes(void)
{
    ot_rng r;
    ot_rng_seed(&r, 11);
    bool good = true, wide = true;
    for (int i = 0; i < 100000 && good && wide; i++) {
        uint32_t bits = (uint32_t)ot_rng_next(&r);
        if (i % 4 == 0) {
            bits &= 0x807fffff; /* subnormal */
        } else if (i % 4 == 1) {
            bits &= 0xff800000; /* a power of two: the lower neighbour is closer */
        }
        float x;
        memcpy(&x, &bits, sizeof x);
        good &= !isfinite(x) || good32(x);
        good &= good32((float)ot_rng_uniform(&r));
        uint64_t b64 = ot_rng_next(&r);
        if (i % 4 == 0) {
            b64 &= UINT64_C(0x800fffffffffffff);
        } else if (i % 4 == 1) {
            b64 &= UINT64_C(0xfff0000000000000);
        }
        double y;
        memcpy(&y, &b64, sizeof y);
        wide &= !isfinite(y) || (i % 5 != 0) || good64(y);
        wide &= i % 5 != 0 || good64(ot_rng_uniform(&r));
    }
    ok(good, "100,000 floats are written shortest and read back, subnormals included");
    ok(wide, "doubles too");
    bool every = true;
    for (int e = 0; e < 255; e++) { /* each exponent, both ends and the middle */
        static const uint32_t fractions[] = {0, 1, 2, 0x3fffff, 0x400000, 0x7ffffe, 0x7fffff};
        for (int j = 0; j < 7; j++) {
            uint32_t bits = (uint32_t)e << 23 | fractions[j];
            float x;
            memcpy(&x, &bits, sizeof x);
            every &= good32(x);
        }
    }
    ok(every, "each float exponent is written shortest");
    for (int e = 0; e < 2047 && every; e++) {
        static const uint64_t fractions[] = {0, 1, UINT64_C(0x8000000000000),
                                             UINT64_C(0xfffffffffffff)};
        for (int j = 0; j < 4; j++) {
            uint64_t bits = (uint64_t)e << 52 | fractions[j];
            double x;
            memcpy(&x, &bits, sizeof x);
            every &= good64(x);
        }
    }
    ok(every, "each double exponent is written shortest");
}

static void test_layout(void)
{
    static const struct {
        float x;
        const char *s;
    } t[] = {{0.0F, "0.0"},
             {-0.0F, "-0.0"},
             {1.0F, "1.0"},
             {-2.5F, "-2.5"},
             {0.1F, "0.1"},
             {100.0F, "100.0"},
             {1234567.0F, "1234567.0"},
             {16777216.0F, "16777216.0"},
             {1e9F, "1e9"},
             {123456789.0F, "123456790.0"},
             {1e10F, "1e10"},
             {0.001F, "0.001"},
             {0.0001F, "0.0001"},
             {0.00001F, "1e-5"},
             {1.5e-7F, "1.5e-7"},
             {3.4028235e38F, "3.4028235e38"},
             {1e-45F, "1e-45"},
             {INFINITY, "Infinity"},
             {-INFINITY, "-Infinity"},
             {NAN, "NaN"}};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        char buf[OT_F32_TEXT + 1];
        buf[ot_format_f32(t[i].x, buf)] = 0;
        is_str(buf, t[i].s, "layout of %s", t[i].s);
    }
    char buf[40];
    buf[ot_format_f64(1e16, buf)] = 0;
    is_str(buf, "10000000000000000.0", "a large double stays plain");
    buf[ot_format_f64(5e-324, buf)] = 0;
    is_str(buf, "5e-324", "the least double");
    buf[ot_format_f64(-1.7976931348623157e308, buf)] = 0;
    is_str(buf, "-1.7976931348623157e308", "the greatest double");
    buf[ot_format_i64(INT64_MIN, buf)] = 0;
    is_str(buf, "-9223372036854775808", "the least integer");
    buf[ot_format_u64(UINT64_MAX, buf)] = 0;
    is_str(buf, "18446744073709551615", "the greatest integer");
    buf[ot_format_i64(0, buf)] = 0;
    is_str(buf, "0", "zero");
}

int main(void)
{
    test_hard();
    test_malformed();
    test_random_reads();
    test_random_writes();
    test_layout();
    return tap_done();
}
