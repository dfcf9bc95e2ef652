/* The numbers of the cost model: defaults, text, and the fit to measurements. */
#include "base/mem.h"
#include "collective/cost.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

ot_cost_model ot_cost_at(double gbit_per_s)
{
    /* TCP over Ethernet with frames of 1,500 bytes leaves 94% of the bits. */
    return (ot_cost_model){.local = {20, 4000, false},
                           .remote = {60, gbit_per_s * 125 * 0.94, false},
                           .message_us = 10,
                           .reduce_bytes_per_us = 4000,
                           .codec_bytes_per_us = 4000};
}

ot_cost_model ot_cost_default(void)
{
    return ot_cost_at(1);
}

enum { LOCAL_RATE = 1, REMOTE_RATE = 3, LINKS_END = 4 };

static const struct field {
    const char *key;
    size_t offset;
} fields[] = {
    {"local.latency_us", offsetof(ot_cost_model, local.latency_us)},
    {"local.bytes_per_us", offsetof(ot_cost_model, local.bytes_per_us)},
    {"remote.latency_us", offsetof(ot_cost_model, remote.latency_us)},
    {"remote.bytes_per_us", offsetof(ot_cost_model, remote.bytes_per_us)},
    {"message_us", offsetof(ot_cost_model, message_us)},
    {"reduce_bytes_per_us", offsetof(ot_cost_model, reduce_bytes_per_us)},
    {"codec_bytes_per_us", offsetof(ot_cost_model, codec_bytes_per_us)},
};

static bool is_measured(const ot_cost_model *m, size_t field)
{
    return field >= LINKS_END || (field <= LOCAL_RATE ? m->local.measured : m->remote.measured);
}

static double *value_of(ot_cost_model *m, const struct field *f)
{
    return (double *)((char *)m + f->offset);
}

size_t ot_cost_format(const ot_cost_model *m, char *text, size_t size)
{
    size_t n = 0;
    ot_cost_model copy = *m;
    for (size_t i = 0; i < OT_COUNT(fields); i++) {
        double x = *value_of(&copy, &fields[i]);
        if (!is_measured(m, i)) {
            continue;
        }
        /* By whole numbers: printf writes the locale's decimal point. */
        uint64_t thousandths = (uint64_t)llround(OT_MIN(OT_MAX(x, 0.001), 1e12) * 1000);
        int k =
            snprintf(n < size ? text + n : NULL, n < size ? size - n : 0, "%s = %" PRIu64 ".%03u\n",
                     fields[i].key, thousandths / 1000, (unsigned)(thousandths % 1000));
        n += (size_t)k;
    }
    return n;
}

/* Digits, and up to three more behind a point; above 0, at most 1e12. */
static bool parse_value(const char *s, size_t n, double *out)
{
    uint64_t thousandths = 0;
    size_t digits = 0, behind = 0;
    bool point = false;
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '.' && !point && digits > 0) {
            point = true;
            continue;
        }
        if (s[i] < '0' || s[i] > '9' || behind == 3 || digits == 15) {
            return false;
        }
        thousandths = thousandths * 10 + (uint64_t)(s[i] - '0');
        digits++;
        behind += point ? 1 : 0;
    }
    if (digits == 0 || (point && behind == 0)) {
        return false;
    }
    for (; behind < 3; behind++) {
        thousandths *= 10;
    }
    *out = (double)thousandths / 1000;
    return thousandths > 0 && *out <= 1e12;
}

static size_t trim(const char **s, const char *end)
{
    while (*s < end && (**s == ' ' || **s == '\t')) {
        (*s)++;
    }
    while (end > *s && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r')) {
        end--;
    }
    return (size_t)(end - *s);
}

static ot_rc parse_line(const char *line, const char *end, int number, unsigned *seen,
                        ot_cost_model *m, ot_error *err)
{
    const char *comment = memchr(line, '#', (size_t)(end - line));
    end = comment != NULL ? comment : end;
    size_t n = trim(&line, end);
    if (n == 0) {
        return OT_OK;
    }
    const char *equals = memchr(line, '=', n);
    if (equals == NULL) {
        return ot_fail(err, OT_INVALID, "line %d: '%.*s' is not \"key = value\"", number,
                       (int)OT_MIN(n, 80), line);
    }
    const char *value = equals + 1;
    size_t key_len = trim(&line, equals), value_len = trim(&value, end);
    for (size_t i = 0; i < OT_COUNT(fields); i++) {
        if (strlen(fields[i].key) != key_len || memcmp(fields[i].key, line, key_len) != 0) {
            continue;
        }
        if ((*seen & 1u << i) != 0) {
            return ot_fail(err, OT_INVALID, "line %d: '%s' is there twice", number, fields[i].key);
        }
        *seen |= 1u << i;
        if (!parse_value(value, value_len, value_of(m, &fields[i]))) {
            return ot_fail(err, OT_INVALID,
                           "line %d: %s: '%.*s' is not a number above 0 with at most 3 decimals",
                           number, fields[i].key, (int)OT_MIN(value_len, 80), value);
        }
        return OT_OK;
    }
    return ot_fail(err, OT_INVALID,
                   "line %d: '%.*s' is not known; there are %s, %s, %s, %s, %s, %s", number,
                   (int)OT_MIN(key_len, 80), line, fields[0].key, fields[1].key, fields[2].key,
                   fields[3].key, fields[4].key, fields[5].key);
}

ot_rc ot_cost_parse(const char *text, ot_cost_model *out, ot_error *err)
{
    ot_cost_model m = ot_cost_default();
    unsigned seen = 0;
    int number = 0;
    for (const char *line = text; *line != 0;) {
        const char *end = line + strcspn(line, "\n");
        OT_TRY(parse_line(line, end, ++number, &seen, &m, err));
        line = *end == 0 ? end : end + 1;
    }
    m.local.measured = (seen & 1u << LOCAL_RATE) != 0;
    m.remote.measured = (seen & 1u << REMOTE_RATE) != 0;
    *out = m;
    return OT_OK;
}

static int ascending(const void *a, const void *b)
{
    double x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

/* The line through weighted points; false where it has no slope. */
static bool weighted_line(const ot_cost_sample *s, const double *weights, size_t n, double *at_zero,
                          double *slope)
{
    double w = 0, wx = 0, wy = 0, xx = 0, xy = 0;
    for (size_t i = 0; i < n; i++) {
        w += weights[i];
        wx += weights[i] * s[i].bytes;
        wy += weights[i] * s[i].us;
    }
    double mx = wx / w, my = wy / w;
    for (size_t i = 0; i < n; i++) {
        xx += weights[i] * (s[i].bytes - mx) * (s[i].bytes - mx);
        xy += weights[i] * (s[i].bytes - mx) * (s[i].us - my);
    }
    *slope = xy / xx;
    *at_zero = my - *slope * mx;
    return isfinite(*slope) && *slope > 0;
}

/* Weights by what is off now: of relative errors, less for those beyond 1.345 standard deviations,
 * as the median error tells them. */
static void reweigh(const ot_cost_sample *s, size_t n, double at_zero, double slope,
                    double *weights, double *sorted)
{
    for (size_t i = 0; i < n; i++) {
        weights[i] = sorted[i] = fabs(s[i].us / (at_zero + slope * s[i].bytes) - 1);
    }
    qsort(sorted, n, sizeof *sorted, ascending);
    double limit = 1.345 * 1.4826 * OT_MAX(sorted[n / 2], 1e-9);
    for (size_t i = 0; i < n; i++) {
        double should = at_zero + slope * s[i].bytes;
        weights[i] = OT_MIN(1, limit / OT_MAX(weights[i], 1e-12)) / (should * should);
    }
}

ot_rc ot_cost_fit(const ot_cost_sample *samples, size_t n, ot_link_cost *out, ot_error *err)
{
    enum { ROUNDS = 50 };
    OT_AUTO(ot_free_ptr) double *weights = ot_calloc(2 * n + 1, sizeof *weights);
    double at_zero = 0, slope = 0;
    if (weights == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for %zu measurements", n);
    }
    for (size_t i = 0; i < n; i++) {
        const ot_cost_sample *s = &samples[i];
        if (!(s->bytes >= 0) || !isfinite(s->bytes) || !(s->us > 0) || !isfinite(s->us)) {
            return ot_fail(err, OT_INVALID, "measurement %zu says %g bytes in %g us", i, s->bytes,
                           s->us);
        }
        weights[i] = 1 / (s->us * s->us);
    }
    for (int round = 0; round < ROUNDS; round++) {
        if (n < 2 || !weighted_line(samples, weights, n, &at_zero, &slope)) {
            return ot_fail(err, OT_INVALID,
                           "the times of %zu measurements do not grow with their bytes: measure "
                           "more sizes, further apart",
                           n);
        }
        at_zero = OT_MAX(at_zero, 0.001);
        reweigh(samples, n, at_zero, slope, weights, weights + n);
    }
    *out = (ot_link_cost){at_zero, 1 / slope, true};
    return OT_OK;
}
