#include "cli/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

const char *ot_cli_get(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s != NULL ? s : "";
}

int64_t ot_cli_int(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

double ot_cli_num(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

bool ot_cli_true(const json_t *object, const char *key)
{
    return json_is_true(json_object_get(object, key));
}

void ot_cli_add_clean(ot_str *out, const char *text)
{
    for (const unsigned char *p = (const unsigned char *)text; *p != 0; p++) {
        if (*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0) { /* C1 controls in UTF-8 */
            ot_str_addc(out, '?');
            p++;
        } else if (*p == '\n' || *p == '\r' || *p == '\t') {
            ot_str_addc(out, ' ');
        } else {
            ot_str_addc(out, *p < ' ' || *p == 127 ? '?' : (char)*p);
        }
    }
}

void ot_cli_add_padded(ot_str *out, const char *text, size_t width)
{
    size_t from = out->len, columns = 0;
    ot_cli_add_clean(out, text);
    for (size_t i = from; i < out->len; i++) {
        columns += ((unsigned char)out->data[i] & 0xc0) != 0x80;
    }
    for (; columns < width; columns++) {
        ot_str_addc(out, ' ');
    }
}

char *ot_cli_time(int64_t wall_us, char out[OT_CLI_TIME_TEXT])
{
    time_t t = (time_t)(wall_us / 1000000);
    struct tm tm;
    if (localtime_r(&t, &tm) == NULL || strftime(out, OT_CLI_TIME_TEXT, "%F %T", &tm) == 0) {
        snprintf(out, OT_CLI_TIME_TEXT, "?");
    }
    return out;
}

char *ot_cli_span(int64_t us, char out[OT_CLI_TIME_TEXT])
{
    static const struct {
        int64_t s;
        const char *name;
    } units[] = {{86400, "d"}, {3600, "h"}, {60, "min"}, {1, "s"}};
    int64_t s = us > 0 ? us / 1000000 : 0;
    size_t i = 0;
    while (i < 3 && s < units[i].s) {
        i++;
    }
    int n = snprintf(out, OT_CLI_TIME_TEXT, "%" PRId64 "%s", s / units[i].s, units[i].name);
    int64_t rest = i < 3 ? s % units[i].s / units[i + 1].s : 0;
    if (rest > 0) {
        snprintf(out + n, OT_CLI_TIME_TEXT - (size_t)n, " %" PRId64 "%s", rest, units[i + 1].name);
    }
    return out;
}

/* What may follow the seconds: a fraction, then Z or an offset. */
static bool parse_zone(const char *p, bool *utc_out, int64_t *us_out)
{
    int64_t unit = 100000;
    int hours, minutes;
    char sign, junk;
    if (*p == '.') {
        for (p++; *p >= '0' && *p <= '9'; p++, unit /= 10) {
            *us_out += (*p - '0') * unit;
        }
    }
    *utc_out = *p != 0;
    if (strcmp(p, "Z") == 0 || strcmp(p, "z") == 0 || *p == 0) {
        return true;
    }
    if (sscanf(p, "%c%2d:%2d%c", &sign, &hours, &minutes, &junk) != 3 ||
        (sign != '+' && sign != '-') || hours < 0 || hours > 23 || minutes < 0 || minutes > 59) {
        return false;
    }
    *us_out -= (sign == '-' ? -1 : 1) * (hours * 60 + minutes) * INT64_C(60000000);
    return true;
}

static bool parse_date(const char *text, int64_t *us_out)
{
    struct tm tm = {.tm_isdst = -1};
    bool utc = false;
    const char *p = strptime(text, "%Y-%m-%d", &tm);
    int64_t us = 0;
    if (p == NULL || strspn(text, "0123456789") != 4) {
        return false;
    }
    if (*p == 'T' || *p == 't' || *p == ' ') {
        const char *seconds = strptime(p + 1, "%H:%M:%S", &tm);
        p = seconds != NULL ? seconds : strptime(p + 1, "%H:%M", &tm);
        if (p == NULL) {
            return false;
        }
    }
    if (!parse_zone(p, &utc, &us)) {
        return false;
    }
    int day = tm.tm_mday;
    time_t t = utc ? timegm(&tm) : mktime(&tm);
    if (tm.tm_mday != day) {
        return false; /* the 30th of February */
    }
    *us_out = (int64_t)t * 1000000 + us;
    return true;
}

ot_rc ot_cli_parse_time(const char *text, int64_t now_us, int64_t *us_out, ot_error *err)
{
    int64_t ago;
    if (parse_date(text, us_out)) {
        return OT_OK;
    }
    if (ot_parse_duration_us(text, &ago, NULL) == OT_OK && ago >= 0) {
        *us_out = now_us - ago;
        return OT_OK;
    }
    return ot_fail(err, OT_INVALID,
                   "'%.60s' is not a time: write 2026-11-23, 2026-11-23T10:15:00Z, or how long ago "
                   "(2h, 7d)",
                   text);
}

bool ot_cli_colour(void)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    return (no == NULL || no[0] == 0) && term != NULL && strcmp(term, "dumb") != 0 && isatty(1);
}
