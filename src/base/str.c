#include "base/str.h"

#include "base/mem.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

char ot_str_empty[1];

void ot_str_init(ot_str *s)
{
    *s = (ot_str)OT_STR_INIT;
}

void ot_str_done(ot_str *s)
{
    if (s->data != ot_str_empty) {
        ot_free(s->data);
    }
    ot_str_init(s);
}

void ot_str_clear(ot_str *s)
{
    s->len = 0;
    s->failed = false;
    if (s->data != ot_str_empty) {
        s->data[0] = 0;
    }
}

bool ot_str_reserve(ot_str *s, size_t extra)
{
    if (s->cap > s->len && s->cap - s->len > extra) {
        return true;
    }
    size_t need;
    if (__builtin_add_overflow(s->len, extra, &need) || need > SIZE_MAX / 2 - 64) {
        s->failed = true;
        return false;
    }
    size_t cap = s->cap * 2 > need + 1 ? s->cap * 2 : need + 32;
    char *p = ot_realloc(s->data == ot_str_empty ? NULL : s->data, cap);
    if (p == NULL) {
        s->failed = true;
        return false;
    }
    p[s->len] = 0;
    s->data = p;
    s->cap = cap;
    return true;
}

void ot_str_add(ot_str *s, const void *p, size_t n)
{
    if (n == 0 || !ot_str_reserve(s, n)) {
        return;
    }
    memcpy(s->data + s->len, p, n);
    s->len += n;
    s->data[s->len] = 0;
}

void ot_str_adds(ot_str *s, const char *z)
{
    ot_str_add(s, z, strlen(z));
}

void ot_str_addc(ot_str *s, char c)
{
    ot_str_add(s, &c, 1);
}

void ot_str_vaddf(ot_str *s, const char *fmt, va_list ap)
{
    va_list ap2;
    va_copy(ap2, ap);
    int n = vsnprintf(NULL, 0, fmt, ap2);
    va_end(ap2);
    if (n < 0 || !ot_str_reserve(s, (size_t)n)) {
        return;
    }
    vsnprintf(s->data + s->len, (size_t)n + 1, fmt, ap);
    s->len += (size_t)n;
}

void ot_str_addf(ot_str *s, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    ot_str_vaddf(s, fmt, ap);
    va_end(ap);
}

/* Length of the valid UTF-8 sequence at p, or 0 (overlong, surrogate, truncated: RFC 3629). */
static size_t utf8_len(const unsigned char *p, size_t n)
{
    if (p[0] < 0x80) {
        return 1;
    }
    if (p[0] >= 0xc2 && p[0] <= 0xdf) {
        return n >= 2 && (p[1] & 0xc0) == 0x80 ? 2 : 0;
    }
    if ((p[0] & 0xf0) == 0xe0) {
        if (n < 3 || (p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80) {
            return 0;
        }
        bool bad = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f);
        return bad ? 0 : 3;
    }
    if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        if (n < 4 || (p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80 || (p[3] & 0xc0) != 0x80) {
            return 0;
        }
        bool bad = (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f);
        return bad ? 0 : 4;
    }
    return 0;
}

/* Bytes at the front that JSON has as they are. */
static size_t plain(const unsigned char *p, size_t n)
{
    size_t i = 0, k;
    while (i < n && p[i] >= 0x20 && p[i] != '"' && p[i] != '\\' &&
           (k = utf8_len(p + i, n - i)) > 0) {
        i += k;
    }
    return i;
}

void ot_str_add_json(ot_str *s, const char *text, size_t n)
{
    const unsigned char *p = (const unsigned char *)text;
    for (size_t i = 0; i < n; i++) {
        size_t k = plain(p + i, n - i);
        ot_str_add(s, p + i, k);
        i += k;
        if (i == n) {
            break;
        }
        if (p[i] == '"' || p[i] == '\\') {
            ot_str_addc(s, '\\');
            ot_str_addc(s, (char)p[i]);
        } else if (p[i] < 0x20) {
            ot_str_addf(s, "\\u%04x", p[i]);
        } else {
            ot_str_adds(s, "\xef\xbf\xbd");
        }
    }
}

void ot_str_add_quoted(ot_str *s, const char *z)
{
    ot_str_addc(s, '"');
    ot_str_add_json(s, z, strlen(z));
    ot_str_addc(s, '"');
}

char *ot_str_take(ot_str *s)
{
    char *p = NULL;
    if (!s->failed) {
        p = s->data == ot_str_empty ? ot_strdup("") : s->data;
        ot_str_init(s);
    } else {
        ot_str_done(s);
    }
    return p;
}

bool ot_has_prefix(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool ot_has_suffix(const char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);
    return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

void ot_hex(const uint8_t *p, size_t n, char *out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[p[i] >> 4];
        out[2 * i + 1] = digits[p[i] & 15];
    }
    out[2 * n] = 0;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool ot_unhex(const char *hex, size_t n_bytes, uint8_t *out)
{
    for (size_t i = 0; i < n_bytes; i++) {
        int hi = hex_value(hex[2 * i]);
        int lo = hi < 0 ? -1 : hex_value(hex[2 * i + 1]);
        if (lo < 0) {
            return false;
        }
        out[i] = (uint8_t)(hi << 4 | lo);
    }
    return true;
}

bool ot_name_ok(const char *s)
{
    size_t n = strnlen(s, 65);
    if (n == 0 || n > 64 || s[0] == '.' || s[0] == '-') {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (!isalnum((unsigned char)s[i]) && strchr("._-", s[i]) == NULL) {
            return false;
        }
    }
    return true;
}

struct unit {
    const char *name;
    double factor;
};

/* Parses "<number><unit>"; a bare number takes `bare` (0 refuses it). */
static ot_rc parse_quantity(const char *s, const struct unit *units, size_t n, double bare,
                            double max, const char *forms, double *out, ot_error *err)
{
    char *end;
    errno = 0;
    bool decimal = isdigit((unsigned char)s[0]) && s[1] != 'x' && s[1] != 'X';
    double x = decimal ? strtod(s, &end) : NAN;
    if (!isfinite(x) || errno != 0) {
        return ot_fail(err, OT_INVALID, "'%.40s' is not a quantity; write it like %s", s, forms);
    }
    while (*end == ' ') {
        end++;
    }
    double factor = *end == 0 ? bare : 0;
    for (size_t i = 0; i < n && factor == 0; i++) {
        if (strcmp(end, units[i].name) == 0) {
            factor = units[i].factor;
        }
    }
    if (factor == 0) {
        return ot_fail(err, OT_INVALID, "'%.40s' has no known unit; write it like %s", s, forms);
    }
    if (x * factor > max) {
        return ot_fail(err, OT_RANGE, "'%.40s' is too large", s);
    }
    *out = x * factor;
    return OT_OK;
}

ot_rc ot_parse_duration_us(const char *s, int64_t *us_out, ot_error *err)
{
    static const struct unit units[] = {{"us", 1},      {"ms", 1e3},    {"s", 1e6},
                                        {"min", 60e6},  {"m", 60e6},    {"h", 3600e6},
                                        {"d", 86400e6}, {"w", 604800e6}};
    double x = 0;
    OT_TRY(
        parse_quantity(s, units, OT_COUNT(units), 0, 9e18, "250ms, 5s, 10min, 2h or 7d", &x, err));
    *us_out = (int64_t)x;
    return OT_OK;
}

ot_rc ot_parse_size(const char *s, uint64_t *bytes_out, ot_error *err)
{
    static const struct unit units[] = {{"B", 1},
                                        {"k", 1e3},
                                        {"kB", 1e3},
                                        {"M", 1e6},
                                        {"MB", 1e6},
                                        {"G", 1e9},
                                        {"GB", 1e9},
                                        {"T", 1e12},
                                        {"TB", 1e12},
                                        {"KiB", 1024},
                                        {"kiB", 1024},
                                        {"MiB", 1048576},
                                        {"GiB", 1073741824},
                                        {"TiB", 1099511627776}};
    double x = 0;
    OT_TRY(parse_quantity(s, units, OT_COUNT(units), 1, 9e18, "20k, 512MiB or 4GiB", &x, err));
    *bytes_out = (uint64_t)x;
    return OT_OK;
}

ot_rc ot_parse_fraction(const char *s, double *x_out, ot_error *err)
{
    static const struct unit units[] = {{"%", 0.01}};
    double x = 0;
    OT_TRY(parse_quantity(s, units, OT_COUNT(units), 1, 1.0, "0.1 or 10%", &x, err));
    *x_out = x;
    return OT_OK;
}

ot_rc ot_parse_i64(const char *s, int64_t *x_out, ot_error *err)
{
    char *end;
    errno = 0;
    long long x = strtoll(s, &end, 10);
    if (end == s || *end != 0 || errno != 0 || isspace((unsigned char)s[0])) {
        return ot_fail(err, OT_INVALID, "'%.40s' is not a whole number", s);
    }
    *x_out = x;
    return OT_OK;
}

ot_rc ot_parse_f64(const char *s, double *x_out, ot_error *err)
{
    char *end;
    double x = strtod(s, &end);
    if (end == s || *end != 0 || !isfinite(x) || isspace((unsigned char)s[0])) {
        return ot_fail(err, OT_INVALID, "'%.40s' is not a number", s);
    }
    *x_out = x;
    return OT_OK;
}

char *ot_format_duration(int64_t us, char *out)
{
    double x = (double)us;
    if (us < 1000) {
        snprintf(out, 32, "%" PRId64 "us", us);
    } else if (us < 1000000) {
        snprintf(out, 32, "%.4gms", x / 1e3);
    } else if (us < 120000000) {
        snprintf(out, 32, "%.4gs", x / 1e6);
    } else if (us < 7200000000) {
        snprintf(out, 32, "%.4gmin", x / 60e6);
    } else if (us < 172800000000) {
        snprintf(out, 32, "%.4gh", x / 3600e6);
    } else {
        snprintf(out, 32, "%.4gd", x / 86400e6);
    }
    return out;
}

char *ot_format_count(uint64_t n, char *out)
{
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%" PRIu64, n), k = 0;
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0) {
            out[k++] = ',';
        }
        out[k++] = digits[i];
    }
    out[k] = 0;
    return out;
}

char *ot_format_size(uint64_t bytes, char *out)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double x = (double)bytes;
    size_t i = 0;
    while (x >= 1024 && i + 1 < OT_COUNT(units)) {
        x /= 1024;
        i++;
    }
    snprintf(out, 32, "%.4g %s", x, units[i]);
    return out;
}

char *ot_format_time(int64_t wall_us, char *out)
{
    time_t t = (time_t)(wall_us / 1000000);
    struct tm tm;
    gmtime_r(&t, &tm);
    size_t n = strftime(out, 32, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out + n, 32 - n, ".%06dZ", (int)(wall_us % 1000000));
    return out;
}

#define SUGGEST_MAX 48

static size_t edit_distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    if (n > SUGGEST_MAX || m > SUGGEST_MAX) {
        return SIZE_MAX;
    }
    size_t row[SUGGEST_MAX + 1];
    for (size_t j = 0; j <= m; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= n; i++) {
        size_t diag = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t up = row[j];
            size_t best = diag + (a[i - 1] != b[j - 1]);
            best = OT_MIN(best, up + 1);
            row[j] = OT_MIN(best, row[j - 1] + 1);
            diag = up;
        }
    }
    return row[m];
}

const char *ot_suggest(const char *s, const char *const *candidates, size_t n)
{
    size_t limit = OT_MAX(strlen(s) / 3, (size_t)1);
    const char *best = NULL;
    for (size_t i = 0; i < n; i++) {
        size_t d = edit_distance(s, candidates[i]);
        if (d <= limit) {
            limit = d == 0 ? 0 : d - 1;
            best = candidates[i];
        }
    }
    return best;
}
