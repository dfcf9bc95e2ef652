#include "cli/text.h"

#include "base/mem.h"
#include "tap.h"

#include <stdlib.h>
#include <time.h>

#define T0 INT64_C(1764000000000000) /* 2025-11-24 16:00:00 UTC */
#define HOUR INT64_C(3600000000)

static void test_clean(void)
{
    ot_str out = OT_STR_INIT;
    ot_cli_add_clean(&out, "a\x1b[31m\nb\tc\x7f caf\xc3\xa9 \xc2\x9b"
                           "1m \xc2\xa0");
    is_str(out.data, "a?[31m b c? caf\xc3\xa9 ?1m \xc2\xa0", "nothing that a terminal obeys");
    ot_str_clear(&out);
    ot_cli_add_padded(&out, "caf\xc3\xa9", 6);
    ot_cli_add_padded(&out, "long", 2);
    is_str(out.data, "caf\xc3\xa9  long", "padded by columns");
    ot_str_done(&out);
}

static void test_members(void)
{
    json_t *o =
        json_pack("{s:s, s:I, s:f, s:b, s:n}", "s", "x", "i", (json_int_t)7, "f", 0.5, "b", 1, "n");
    is_str(ot_cli_get(o, "s"), "x", "text");
    is_str(ot_cli_get(o, "i"), "", "of another type");
    is_str(ot_cli_get(NULL, "s"), "", "of nothing");
    ok(ot_cli_int(o, "i") == 7 && ot_cli_int(o, "n") == 0 && ot_cli_num(o, "f") > 0.4 &&
           ot_cli_num(o, "i") > 6 && ot_cli_true(o, "b") && !ot_cli_true(o, "s"),
       "numbers and switches");
    json_decref(o);
}

static void test_spans(void)
{
    static const struct {
        int64_t us;
        const char *want;
    } cases[] = {
        {-5, "0s"},
        {999999, "0s"},
        {4 * 1000000, "4s"},
        {60000000, "1min"},
        {75000000, "1min 15s"},
        {HOUR, "1h"},
        {HOUR + 300000000, "1h 5min"},
        {24 * HOUR, "1d"},
        {52 * HOUR + 1, "2d 4h"},
        {INT64_MAX, "106751991d 4h"},
    };
    char text[OT_CLI_TIME_TEXT];
    for (size_t i = 0; i < OT_COUNT(cases); i++) {
        is_str(ot_cli_span(cases[i].us, text), cases[i].want, "span %d", (int)i);
    }
    is_str(ot_cli_time(T0, text), "2025-11-24 16:00:00", "a time");
    setenv("TZ", "UTC-1", 1);
    tzset();
    is_str(ot_cli_time(T0, text), "2025-11-24 17:00:00", "in the zone");
    int64_t us = 0;
    ok(ot_cli_parse_time("2025-11-24 17:00", 0, &us, NULL) == OT_OK && us == T0,
       "read in the zone");
    setenv("TZ", "UTC", 1);
    tzset();
}

static void test_parse_time(void)
{
    static const struct {
        const char *text;
        int64_t want; /* -1: refused */
    } cases[] = {
        {"2025-11-24T16:00:00Z", T0},
        {"2025-11-24 16:00:00", T0},
        {"2025-11-24T16:00", T0},
        {"2025-11-24", T0 - 16 * HOUR},
        {"2025-11-24T17:30:00+01:30", T0},
        {"2025-11-24T14:00:00-02:00", T0},
        {"2025-11-24T16:00:00.25Z", T0 + 250000},
        {"2025-11-24T16:00:00.1234567", T0 + 123456},
        {"2h", T0 - 2 * HOUR},
        {"7d", T0 - 168 * HOUR},
        {"2025-02-30", -1},
        {"2025-11-24T25:00", -1},
        {"2025-11-24T16:00:00+99:00", -1},
        {"2025-11-24T16:00:00 CET", -1},
        {"25-11-24", -1},
        {"2025-11-24x", -1},
        {"yesterday", -1},
        {"", -1},
    };
    for (size_t i = 0; i < OT_COUNT(cases); i++) {
        int64_t us = -1;
        ot_error err = {0};
        ot_rc rc = ot_cli_parse_time(cases[i].text, T0, &us, &err);
        ok(cases[i].want < 0 ? rc == OT_INVALID && us == -1 && strstr(err.msg, "is not a time")
                             : rc == OT_OK && us == cases[i].want,
           "'%s' gives %lld", cases[i].text, (long long)us);
    }
}

int main(void)
{
    setenv("TZ", "UTC", 1);
    tzset();
    test_clean();
    test_members();
    test_spans();
    test_parse_time();
    return tap_done();
}
