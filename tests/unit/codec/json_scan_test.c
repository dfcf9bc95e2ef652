#include "base/random.h"
#include "base/str.h"
#include "codec/json_scan.h"
#include "tap.h"

#include <stdlib.h>

static ot_arena arena;

static bool skips(const char *text, ot_error *err)
{
    ot_json_scan s;
    ot_json_scan_init(&s, text, strlen(text));
    return ot_json_skip(&s, err) == OT_OK && ot_json_finish(&s, err) == OT_OK;
}

static void test_grammar(void)
{
    static const char *const good[] = {"0",
                                       "-1.5e+3",
                                       "\"\"",
                                       "true",
                                       "false",
                                       "null",
                                       "NaN",
                                       "-Infinity",
                                       "Infinity",
                                       "[]",
                                       "{}",
                                       " [ 1 , [ ] , { } ] ",
                                       "{\"a\":{\"b\":[1,{\"c\":null}]},\"a\":2}",
                                       "\"\\u0000\\ud83d\\ude00\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
                                       "\"\xc3\xa9\xf0\x9f\x98\x80\"",
                                       "[[[[]]],[]]",
                                       "[{\"a\":[]},[{\"b\":{}}]]"};
    static const char *const bad[] = {"",
                                      " ",
                                      "[",
                                      "]",
                                      "{",
                                      "}",
                                      "[1",
                                      "[1,",
                                      "[1,]",
                                      "[,1]",
                                      "[1 2]",
                                      "{\"a\"}",
                                      "{\"a\":}",
                                      "{\"a\":1,}",
                                      "{,}",
                                      "{1:2}",
                                      "{\"a\" 1}",
                                      "{\"a\":1 \"b\":2}",
                                      "[1}",
                                      "{\"a\":1]",
                                      "tru",
                                      "nul",
                                      "nan",
                                      "inf",
                                      "-NaN",
                                      "+1",
                                      "01",
                                      "1.",
                                      ".5",
                                      "1e",
                                      "--1",
                                      "'a'",
                                      "\"",
                                      "\"\\\"",
                                      "\"\\x\"",
                                      "\"\\u12\"",
                                      "\"\\u12g4\"",
                                      "\"\\ud800\"",
                                      "\"\\udc00\"",
                                      "\"\\ud800\\u0041\"",
                                      "\"\\ud800\\ud800\"",
                                      "\"\t\"",
                                      "\"\xff\"",
                                      "\"\xc0\x80\"",
                                      "\"\xed\xa0\x80\"",
                                      "\"\xf4\x90\x80\x80\"",
                                      "\"\xe2\x82\"",
                                      "\"\\\xc3\"",
                                      "1 1",
                                      "[] []",
                                      "{\"\\ud800\":1}",
                                      "[1,2]]",
                                      "\x01",
                                      "[\"a\",\"\\q\"]"};
    for (size_t i = 0; i < OT_COUNT(good); i++) {
        ot_error err = {0};
        ok(skips(good[i], &err), "accepted: %s %s", good[i], err.msg);
    }
    for (size_t i = 0; i < OT_COUNT(bad); i++) {
        ot_error err = {0};
        ok(!skips(bad[i], &err) && ot_has_prefix(err.msg, "JSON at byte "), "refused: %s", err.msg);
    }
}

static void test_depth(void)
{
    char text[300];
    ot_error err;
    for (int depth = OT_JSON_DEPTH_MAX; depth <= OT_JSON_DEPTH_MAX + 1; depth++) {
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        text[2 * depth] = 0;
        is_int(skips(text, &err), depth == OT_JSON_DEPTH_MAX, "%d levels", depth);
    }
    ok(strstr(err.msg, "byte 64: nested deeper than 64 levels") != NULL, "%s", err.msg);
}

static void test_strings(void)
{
    static const struct {
        const char *json, *text;
    } t[] = {{"\"plain\"", "plain"},
             {"\"a\\\"b\\\\c\\/\"", "a\"b\\c/"},
             {"\"\\u00e9\\u20ac\\ud83d\\ude00\"", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"},
             {"\"\\n\\t\\b\\f\\r\"", "\n\t\b\f\r"}};
    for (size_t i = 0; i < OT_COUNT(t); i++) {
        ot_json_scan s;
        ot_text text = {0};
        const char *z = NULL;
        ot_json_scan_init(&s, t[i].json, strlen(t[i].json));
        ok(ot_json_string(&s, &arena, &text, NULL) == OT_OK && ot_text_is(text, t[i].text),
           "string %s", t[i].json);
        ot_json_scan_init(&s, t[i].json, strlen(t[i].json));
        ok(ot_json_string_z(&s, &arena, &z, NULL) == OT_OK, "and with a NUL");
        is_str(z, t[i].text, "the same text");
    }
    ot_json_scan s;
    ot_text text;
    const char *z;
    ot_error err;
    ot_json_scan_init(&s, "\"a\\u0000b\"", 10);
    ok(ot_json_string(&s, &arena, &text, NULL) == OT_OK && text.n == 3, "a NUL inside is data");
    ot_json_scan_init(&s, "\"a\\u0000b\"", 10);
    ok(ot_json_string_z(&s, &arena, &z, &err) == OT_INVALID, "but no C string: %s", err.msg);
    ot_json_scan_init(&s, "7", 1);
    ok(ot_json_string(&s, &arena, &text, &err) == OT_INVALID, "%s", err.msg);
    is_str(err.msg, "JSON at byte 0: a string is expected here, not a number", "its message");
    ot_mem_fail_nth(1);
    ot_arena small;
    ot_arena_init(&small, 256, 1024);
    ot_json_scan_init(&s, "\"a\\n\"", 5);
    ok(ot_json_string(&s, &small, &text, &err) == OT_EXHAUSTED, "no memory: %s", err.msg);
    ot_mem_fail_nth(0);
    ot_arena_done(&small);
}

static void test_numbers(void)
{
    static const struct {
        const char *s;
        bool is_int, negative;
        int64_t i;
        uint64_t u;
        double d;
    } t[] = {{"0", true, false, 0, 0, 0},
             {"-7", true, true, -7, 0, -7},
             {"9223372036854775807", true, false, INT64_MAX, INT64_MAX, 0x1p63},
             {"-9223372036854775808", true, true, INT64_MIN, 0, -0x1p63},
             {"18446744073709551615", true, false, 0, UINT64_MAX, 0x1p64},
             {"18446744073709551616", false, false, 0, 0, 0x1p64},
             {"-9223372036854775809", false, false, 0, 0, -0x1p63},
             {"1.0", false, false, 0, 0, 1},
             {"1e2", false, false, 0, 0, 100}};
    for (size_t i = 0; i < OT_COUNT(t); i++) {
        ot_json_scan s;
        ot_json_number v = {0};
        ot_json_scan_init(&s, t[i].s, strlen(t[i].s));
        ok(ot_json_number_read(&s, &v, NULL) == OT_OK && v.is_int == t[i].is_int &&
               v.negative == t[i].negative && v.i64 == t[i].i && v.u64 == t[i].u &&
               fabs(v.f64 - t[i].d) <= 0,
           "number %s", t[i].s);
    }
}

static ot_rc data(const char *json, ot_dtype dt, const int64_t *dims, int rank, void *dst,
                  ot_error *err)
{
    ot_json_scan s;
    ot_json_scan_init(&s, json, strlen(json));
    OT_TRY(ot_json_tensor_data(&s, "input 'x'", dt, dims, rank, dst, err));
    return ot_json_finish(&s, err);
}

static void test_data(void)
{
    float f[6];
    ot_error err = {0};
    const int64_t two_three[] = {2, 3};
    static const char *const good[] = {"[1,2,3,4,5,6]", "[[1,2,3],[4,5,6]]",
                                       " [ [ 1 ,2.0, 3e0 ] , [4,\n5,6] ] ",
                                       "[1.000000,2.000000,3.000000,4.000000,5.000000,6.0000000000"
                                       "00000000000000000000000000000000000000000000000000]"};
    for (size_t i = 0; i < OT_COUNT(good); i++) {
        memset(f, 0, sizeof f);
        bool right = data(good[i], OT_DT_FP32, two_three, 2, f, &err) == OT_OK;
        for (int k = 0; k < 6; k++) {
            right &= fabsf(f[k] - (float)(k + 1)) <= 0;
        }
        ok(right, "read %s", good[i]);
    }
    static const char *const bad[][2] = {
        {"[1,2,3,4,5]", "input 'x' is FP32 [2,3], which needs 6 values; the data have 5"},
        {"[1,2,3,4,5,6,7]", "input 'x' is FP32 [2,3], which needs 6 values; the data have 7"},
        {"[]", "input 'x' is FP32 [2,3], which needs 6 values; the data have 0"},
        {"[[1,2,3],[4,5]]", "input 'x' is FP32 [2,3], which needs 6 values; the data have 5"},
        {"[[1,2],[3,4],[5,6]]", "nesting of its data contradicts"},
        {"[[1,2,3,4,5,6]]", "nesting of its data contradicts"},
        {"[[[1],[2],[3]],[4,5,6]]", "nesting of its data contradicts"},
        {"[1,2,3,[4,5,6]]", "nesting of its data contradicts"},
        {"[1,2,3,4,5,\"6\"]", "input 'x' is FP32; its data hold a string"},
        {"[1,2,3,4,5,null]", "input 'x' is FP32; its data hold null"},
        {"[1,2,3,4,5,true]", "input 'x' is FP32; its data hold true or false"},
        {"[1,2,3,4,5,{}]", "input 'x' is FP32; its data hold an object"},
        {"[1,2,3,4,5,1e39]", "input 'x': 1e39 is out of range for FP32"},
        {"[1,2,3,4,5,-x]", "this is not a number"},
        {"[1,2,3,4,5,6", "',' or ']' is expected"},
        {"[1,2,3,4,5,", "a value is expected here, not the end of the text"},
        {"[1,2,3,4,5,6}", "',' or ']' is expected"},
        {"[1 2,3,4,5,6]", "',' or ']' is expected"},
        {"7", "the data of input 'x' must be an array, not a number"},
        {"{}", "the data of input 'x' must be an array, not an object"},
        {"[01,2,3,4,5,6]", "this is not a number"}};
    for (size_t i = 0; i < OT_COUNT(bad); i++) {
        err.msg[0] = 0;
        ok(data(bad[i][0], OT_DT_FP32, two_three, 2, f, &err) == OT_INVALID &&
               strstr(err.msg, bad[i][1]) != NULL,
           "%s: %s", bad[i][0], err.msg);
    }
    ok(data("[]", OT_DT_FP32, (int64_t[]){0, 3}, 2, f, &err) == OT_OK, "zero rows");
    ok(data("[[],[]]", OT_DT_FP32, (int64_t[]){2, 0}, 2, f, &err) == OT_OK, "empty rows");
    ok(data("[4.5]", OT_DT_FP32, NULL, 0, f, &err) == OT_OK && fabsf(f[0] - 4.5F) <= 0, "a scalar");
    ok(data("[1]", OT_DT_FP32, (int64_t[]){1000000000000}, 1, NULL, &err) == OT_INVALID,
       "a huge shape is refused unread: %s", err.msg);
    ok(data("[1]", OT_DT_FP32, (int64_t[]){-1}, 1, NULL, &err) == OT_INVALID, "%s", err.msg);
    ok(data("[NaN,Infinity,-Infinity, -0.0,1e-45,0]", OT_DT_FP32, two_three, 2, f, &err) == OT_OK &&
           isnan(f[0]) && isinf(f[1]) && f[2] < 0 && signbit(f[3]) && f[4] > 0,
       "tokens and the least float");
}

static void test_types(void)
{
    static const struct {
        ot_dtype dt;
        const char *good, *bad_low, *bad_high;
        double low, high;
    } t[] = {
        {OT_DT_UINT8, "[0,255]", "[0,-1]", "[0,256]", 0, 255},
        {OT_DT_INT8, "[-128,127]", "[0,-129]", "[0,128]", -128, 127},
        {OT_DT_UINT16, "[0.0,65535]", "[0,-1]", "[0,65536]", 0, 65535},
        {OT_DT_INT16, "[-32768,3.2767e4]", "[0,-32769]", "[0,32768]", -32768, 32767},
        {OT_DT_UINT32, "[0,4294967295]", "[0,-1]", "[0,4294967296]", 0, 4294967295.0},
        {OT_DT_INT32, "[-2147483648,2147483647]", "[0,-2147483649]", "[0,2147483648]",
         -2147483648.0, 2147483647},
        {OT_DT_UINT64, "[0,18446744073709551615]", "[0,-1]", "[0,18446744073709551616]", 0, 0x1p64},
        {OT_DT_INT64, "[-9223372036854775808,9223372036854775807]", "[0,-9223372036854775809]",
         "[0,9223372036854775808]", -0x1p63, 0x1p63},
        {OT_DT_BOOL, "[false,1]", "[0,-1]", "[0,2]", 0, 1},
        {OT_DT_FP16, "[-65504,65519.99]", "[0,-65520]", "[0,65520]", -65504, 65504},
        {OT_DT_BF16, "[-1.5,3.3895e38]", "[0,-1e39]", "[0,3.4e38]", -1.5, 0x1.fep127},
        {OT_DT_FP32, "[-1.5,3.4028235e38]", "[0,-1e39]", "[0,3.4028236e38]", -1.5, 0x1.fffffep127},
        {OT_DT_FP64, "[-1.5,1.7976931348623157e308]", "[0,-1e309]", "[0,1e309]", -1.5,
         0x1.fffffffffffffp1023},
    };
    const int64_t two[] = {2};
    for (size_t i = 0; i < OT_COUNT(t); i++) {
        uint64_t out[2];
        const char *name = ot_dtype_name(t[i].dt);
        ot_tensor v = {.dtype = t[i].dt, .rank = 1, .dims = {2}, .data = out};
        ot_error err = {0};
        ok(data(t[i].good, t[i].dt, two, 1, out, &err) == OT_OK &&
               fabs(ot_tensor_f64_at(&v, 0) - t[i].low) <= 0 &&
               fabs(ot_tensor_f64_at(&v, 1) - t[i].high) <= 0,
           "%s takes %s %s", name, t[i].good, err.msg);
        ok(data(t[i].bad_low, t[i].dt, two, 1, out, &err) == OT_INVALID, "%s", err.msg);
        ok(data(t[i].bad_high, t[i].dt, two, 1, out, &err) == OT_INVALID, "%s", err.msg);
        ok(data("[0,\"1\"]", t[i].dt, two, 1, out, &err) == OT_INVALID, "%s", err.msg);
        if (!ot_dtype_is_float(t[i].dt)) {
            ok(data("[0,0.5]", t[i].dt, two, 1, out, &err) == OT_INVALID, "%s", err.msg);
            ok(data("[0,NaN]", t[i].dt, two, 1, out, &err) == OT_INVALID, "%s", err.msg);
        }
    }
}

/* Each position of the array sees the wide path, the narrow one near the end, and both agree with
 * the C library. */
static void test_long_arrays(void)
{
    static const char *const forms[] = {"0.5",
                                        "-0.25",
                                        "12345678",
                                        "123456789",
                                        "1e-3",
                                        "0",
                                        "-0.123456789012345678",
                                        "0.12345678901234567890123",
                                        "99999999.999999999",
                                        "3.4e-39",
                                        "  7 ",
                                        "-1.0E+5"};
    char text[8192];
    float got[400];
    for (int n = 1; n < 400; n += 13) {
        size_t at = 0;
        text[at++] = '[';
        for (int i = 0; i < n; i++) {
            at += (size_t)snprintf(text + at, sizeof text - at, "%s%s", i ? "," : "",
                                   forms[(i * 7 + n) % (int)OT_COUNT(forms)]);
        }
        text[at++] = ']';
        text[at] = 0;
        ot_error err = {0};
        bool right = data(text, OT_DT_FP32, (int64_t[]){n}, 1, got, &err) == OT_OK;
        for (int i = 0; right && i < n; i++) {
            float want = strtof(forms[(i * 7 + n) % (int)OT_COUNT(forms)], NULL);
            right = memcmp(&want, &got[i], sizeof want) == 0;
        }
        ok(right, "%d numbers of all forms %s", n, err.msg);
    }
}

/* The readers of arrays against the C library, at every number of digits. */
static void test_random_arrays(void)
{
    static char text[1 << 16];
    enum { N = 500 };
    float f32[N], want32[N];
    double f64[N], want64[N];
    ot_rng r;
    ot_rng_seed(&r, 3);
    bool right = true;
    for (int round = 0; round < 100 && right; round++) {
        size_t at = 0;
        text[at++] = '[';
        for (int i = 0; i < N; i++) {
            at += (size_t)snprintf(text + at, sizeof text - at, i == 0 ? "" : i % 3 ? "," : ", ");
            double x = ot_rng_normal(&r) * pow(10, (double)ot_rng_below(&r, 14) - 7);
            float near = (float)x;
            if (i % 7 == 0) { /* the middle between two floats, exactly */
                x = ((double)near + (double)nextafterf(near, INFINITY)) / 2;
            }
            char *start = text + at;
            at += (size_t)snprintf(start, sizeof text - at, i % 2 ? "%.*f" : "%.*g",
                                   (int)ot_rng_below(&r, 24), x);
            want32[i] = strtof(start, NULL);
            want64[i] = strtod(start, NULL);
        }
        text[at++] = ']';
        text[at] = 0;
        ot_error err = {0};
        right = data(text, OT_DT_FP32, (int64_t[]){N}, 1, f32, &err) == OT_OK &&
                data(text, OT_DT_FP64, (int64_t[]){N}, 1, f64, &err) == OT_OK &&
                memcmp(f32, want32, sizeof f32) == 0 && memcmp(f64, want64, sizeof f64) == 0;
        for (int i = 0; i < N && !right; i++) {
            if (memcmp(&f32[i], &want32[i], 4) != 0 || memcmp(&f64[i], &want64[i], 8) != 0) {
                printf("# value %d: %a %a, C library %a %a %s\n", i, (double)f32[i], f64[i],
                       (double)want32[i], want64[i], err.msg);
                break;
            }
        }
    }
    ok(right, "50,000 random numbers in arrays agree with the C library");
}

static void test_bytes(void)
{
    const void *p;
    size_t n;
    ot_error err;
    const char *json = "[[\"a\",\"\\u20ac\"],[\"\",\"xyz\"]]";
    ot_json_scan s;
    ot_json_scan_init(&s, json, strlen(json));
    ok(ot_json_tensor_strings(&s, "input 's'", (int64_t[]){2, 2}, 2, &arena, &p, &n, &err) ==
               OT_OK &&
           n == 23 && memcmp(p, "\1\0\0\0a\3\0\0\0\xe2\x82\xac\0\0\0\0\3\0\0\0xyz", 23) == 0,
       "strings become elements");
    static const char *const bad[] = {"[\"a\"]",      "[\"a\",\"b\",\"c\"]", "[\"a\",1]",
                                      "[\"a\",null]", "[\"a\",\"\\q\"]",     "[\"a\",[\"b\"]]",
                                      "\"a\"",        "[\"a\",\"b\""};
    for (size_t i = 0; i < OT_COUNT(bad); i++) {
        ot_json_scan_init(&s, bad[i], strlen(bad[i]));
        ok(ot_json_tensor_strings(&s, "input 's'", (int64_t[]){2}, 1, &arena, &p, &n, &err) ==
               OT_INVALID,
           "%s: %s", bad[i], err.msg);
    }
}

int main(void)
{
    ot_arena_init(&arena, 4096, 1 << 20);
    test_grammar();
    test_depth();
    test_strings();
    test_numbers();
    test_data();
    test_types();
    test_long_arrays();
    test_random_arrays();
    test_bytes();
    ot_arena_done(&arena);
    return tap_done();
}
