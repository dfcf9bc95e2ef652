#include "base/str.h"

#include "base/mem.h"
#include "tap.h"

#include <inttypes.h>

static void test_append(void)
{
    ot_str s = OT_STR_INIT;
    is_str(s.data, "", "empty from the start");
    ot_str_add(&s, NULL, 0);
    ot_str_adds(&s, "ab");
    ot_str_addc(&s, 'c');
    ot_str_addf(&s, "%d%s", 1, "z");
    is_str(s.data, "abc1z", "appends");
    is_int(s.len, 5, "length");
    ot_str_clear(&s);
    is_str(s.data, "", "cleared");
    for (int i = 0; i < 10000; i++) {
        ot_str_adds(&s, "0123456789");
    }
    ok(s.len == 100000 && strlen(s.data) == 100000, "grows");
    ok(!ot_str_reserve(&s, SIZE_MAX - 5) && s.failed && s.len == 100000,
       "a size that overflows fails and keeps the content");
    ot_str_done(&s);
    is_str(s.data, "", "done leaves it empty");
    ot_str_clear(&s);
    (void)ot_mem_fail_nth(1);
    ot_str_adds(&s, "lost");
    (void)ot_mem_fail_nth(0);
    ok(s.failed && s.len == 0, "no memory is remembered");
    ok(ot_str_take(&s) == NULL, "and take says so");
    char *t = ot_str_take(&s);
    is_str(t, "", "taking an empty one gives a heap string");
    ot_free(t);
}

static void json_is(const char *in, size_t n, const char *want, const char *what)
{
    ot_str s = OT_STR_INIT;
    ot_str_add_json(&s, in, n);
    is_str(s.data, want, "json: %s", what);
    ot_str_done(&s);
}

static void test_json(void)
{
    json_is("a\"b\\c\n\x01", 7, "a\\\"b\\\\c\\u000a\\u0001", "escapes");
    json_is("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9, "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80",
            "valid UTF-8 stays");
    json_is("\xc3", 1, "\xef\xbf\xbd", "truncated sequence");
    json_is("\xc0\xaf", 2, "\xef\xbf\xbd\xef\xbf\xbd", "overlong");
    json_is("\xed\xa0\x80", 3, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd", "surrogate");
    json_is("\xf4\x90\x80\x80", 4, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd",
            "beyond U+10FFFF");
    json_is("\0", 1, "\\u0000", "NUL");
    json_is("", 0, "", "nothing");
    json_is("ab\"cd\xff"
            "ef",
            8,
            "ab\\\"cd\xef\xbf\xbd"
            "ef",
            "runs between escapes");
    json_is("\"\"", 2, "\\\"\\\"", "escapes only");
}

static void test_small(void)
{
    ok(ot_has_prefix("abc", "ab") && !ot_has_prefix("a", "ab") && ot_has_prefix("", ""), "prefix");
    ok(ot_has_suffix("abc", "bc") && !ot_has_suffix("c", "bc") && ot_has_suffix("", ""), "suffix");
    char hex[9];
    uint8_t raw[4] = {0, 255, 0x1a, 9}, back[4];
    ot_hex(raw, 4, hex);
    is_str(hex, "00ff1a09", "hex");
    ok(ot_unhex(hex, 4, back) && memcmp(raw, back, 4) == 0, "unhex");
    ok(!ot_unhex("0G", 1, back) && !ot_unhex("0", 1, back) && !ot_unhex("FF", 1, back),
       "unhex refuses other digits, a short text and upper case");
    ok(ot_name_ok("a.b_c-9") && !ot_name_ok("") && !ot_name_ok(".a") && !ot_name_ok("-a") &&
           !ot_name_ok("a/b") && !ot_name_ok("a b") && !ot_name_ok("\xc3\xa9"),
       "names");
    char n64[66];
    memset(n64, 'a', 65);
    n64[65] = 0;
    ok(!ot_name_ok(n64) && ot_name_ok(n64 + 1), "64 characters are the longest name");
}

static void duration_is(const char *s, int64_t want)
{
    int64_t us = -1;
    ot_rc rc = ot_parse_duration_us(s, &us, NULL);
    ok(want < 0 ? rc != OT_OK && us == -1 : rc == OT_OK && us == want, "duration '%s'", s);
}

static void size_is(const char *s, int64_t want)
{
    uint64_t n = 77;
    ot_rc rc = ot_parse_size(s, &n, NULL);
    ok(want < 0 ? rc != OT_OK && n == 77 : rc == OT_OK && n == (uint64_t)want, "size '%s'", s);
}

static void test_quantities(void)
{
    duration_is("250ms", 250000);
    duration_is("5s", 5000000);
    duration_is("1.5 min", 90000000);
    duration_is("2h", 7200000000);
    duration_is("7d", 604800000000);
    duration_is("1w", 604800000000);
    duration_is("5", -1);
    duration_is("", -1);
    duration_is("-1s", -1);
    duration_is("s", -1);
    duration_is("1e999s", -1);
    duration_is("1e30d", -1);
    duration_is("nan s", -1);
    duration_is("inf s", -1);
    duration_is("5 parsecs", -1);
    size_is("512", 512);
    size_is("20k", 20000);
    size_is("4GiB", 4294967296);
    size_is("10MB", 10000000);
    size_is("0x10", -1);
    size_is("1.5KiB", 1536);
    size_is("1e30", -1);
    size_is("-5", -1);
    double x = 9;
    ok(ot_parse_fraction("10%", &x, NULL) == OT_OK && x == 0.1, "10%%");
    ok(ot_parse_fraction("0.25", &x, NULL) == OT_OK && x == 0.25, "0.25");
    ok(ot_parse_fraction("100%", &x, NULL) == OT_OK && x == 1.0, "100%%");
    ot_error err = {0};
    ok(ot_parse_fraction("150%", &x, &err) == OT_RANGE && x == 1.0, "150%%: %s", err.msg);
    int64_t i = 5;
    ok(ot_parse_i64("-12", &i, NULL) == OT_OK && i == -12, "whole number");
    ok(ot_parse_i64("9223372036854775808", &i, NULL) != OT_OK &&
           ot_parse_i64("", &i, NULL) != OT_OK && ot_parse_i64(" 1", &i, NULL) != OT_OK &&
           ot_parse_i64("1x", &i, NULL) != OT_OK && i == -12,
       "what is not one");
    ok(ot_parse_f64("-2.5e3", &x, NULL) == OT_OK && x == -2500, "number");
    ok(ot_parse_f64("nan", &x, NULL) != OT_OK && ot_parse_f64("inf", &x, NULL) != OT_OK &&
           ot_parse_f64("1e999", &x, NULL) != OT_OK && ot_parse_f64("", &x, NULL) != OT_OK,
       "not finite or not a number");
}

static void test_format(void)
{
    char b[32];
    is_str(ot_format_duration(999, b), "999us", "us");
    is_str(ot_format_duration(250000, b), "250ms", "ms");
    is_str(ot_format_duration(1500000, b), "1.5s", "s");
    is_str(ot_format_duration(600000000, b), "10min", "min");
    is_str(ot_format_duration(7200000000, b), "2h", "h");
    is_str(ot_format_duration(604800000000, b), "7d", "d");
    is_str(ot_format_size(0, b), "0 B", "0 B");
    is_str(ot_format_size(1572864, b), "1.5 MiB", "MiB");
    is_str(ot_format_size(UINT64_MAX, b), "1.638e+04 PiB", "the largest size");
    is_str(ot_format_count(0, b), "0", "none");
    is_str(ot_format_count(999, b), "999", "no comma yet");
    is_str(ot_format_count(5900, b), "5,900", "a thousand and more");
    is_str(ot_format_count(UINT64_MAX, b), "18,446,744,073,709,551,615", "the largest count");
    is_str(ot_format_time(1763892903123456, b), "2025-11-23T10:15:03.123456Z", "time");
    is_str(ot_format_time(0, b), "1970-01-01T00:00:00.000000Z", "epoch");
}

static void test_suggest(void)
{
    const char *const c[] = {"resources", "release", "retrain", "run"};
    is_str(ot_suggest("resorces", c, 4), "resources", "one letter off");
    is_str(ot_suggest("rum", c, 4), "run", "a short word");
    is_str(ot_suggest("run", c, 4), "run", "the word itself");
    ok(ot_suggest("zzzzzz", c, 4) == NULL, "nothing near");
    ok(ot_suggest("x", c, 0) == NULL, "no candidates");
    char longer[200];
    memset(longer, 'r', sizeof longer - 1);
    longer[199] = 0;
    ok(ot_suggest(longer, c, 4) == NULL, "a very long word");
}

int main(void)
{
    test_append();
    test_json();
    test_small();
    test_quantities();
    test_format();
    test_suggest();
    return tap_done();
}
