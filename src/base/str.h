/* A growable byte string that is always NUL-terminated, and small text helpers.
 *
 * Threads: one at a time. Lifetime: init/done; `data` moves when it grows. Appends that fail set
 * `failed` and leave the content as it was, so a chain of appends is checked once at its end. */
#ifndef OT_BASE_STR_H
#define OT_BASE_STR_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ot_str {
    char *data; /* never NULL after init; "" when empty */
    size_t len, cap;
    bool failed; /* memory was short: some append was dropped */
} ot_str;

#define OT_STR_INIT                                                                                \
    {                                                                                              \
        .data = ot_str_empty                                                                       \
    }
extern char ot_str_empty[1];

void ot_str_init(ot_str *s);
void ot_str_done(ot_str *s); /* also the function for OT_AUTO(ot_str_done) */
void ot_str_clear(ot_str *s);
bool ot_str_reserve(ot_str *s, size_t extra); /* room for `extra` more bytes + NUL */
void ot_str_add(ot_str *s, const void *p, size_t n);
void ot_str_adds(ot_str *s, const char *z);
void ot_str_addc(ot_str *s, char c);
void ot_str_addf(ot_str *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void ot_str_vaddf(ot_str *s, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
/* Appends as the inside of a JSON string: escapes quotes, backslash and control characters;
 * invalid UTF-8 becomes U+FFFD. */
void ot_str_add_json(ot_str *s, const char *p, size_t n);
void ot_str_add_quoted(ot_str *s, const char *z); /* the same with quotes around it */
/* Hands the heap string over (caller frees with ot_free); NULL when an append had failed. */
char *ot_str_take(ot_str *s);

bool ot_has_prefix(const char *s, const char *prefix);
bool ot_has_suffix(const char *s, const char *suffix);
void ot_hex(const uint8_t *p, size_t n, char *out); /* 2n + 1 bytes */
bool ot_unhex(const char *hex, size_t n_bytes, uint8_t *out);
/* 1..64 characters of [A-Za-z0-9._-], not starting with '.' or '-': what apps, models, deployments
 * and steps may be called, so that a name is safe as a path segment. */
bool ot_name_ok(const char *s);

/* Quantities as people write them. Errors name the text and the accepted form. */
ot_rc ot_parse_duration_us(const char *s, int64_t *us_out,
                           ot_error *err);                              /* 250ms 5s 10min 2h 7d */
ot_rc ot_parse_size(const char *s, uint64_t *bytes_out, ot_error *err); /* 512 20k 4GiB 10MB */
ot_rc ot_parse_fraction(const char *s, double *x_out, ot_error *err);   /* 0.1 or 10% */
ot_rc ot_parse_i64(const char *s, int64_t *x_out, ot_error *err);
ot_rc ot_parse_f64(const char *s, double *x_out, ot_error *err);
/* Writes 1.5s, 250ms, 2h, ...; `out` needs 32 bytes. */
char *ot_format_duration(int64_t us, char *out);
char *ot_format_size(uint64_t bytes, char *out); /* 1.5 MiB; 32 bytes */
char *ot_format_count(uint64_t n, char *out);    /* 1,234,567; 32 bytes */
/* "2026-11-23T10:15:00.123456Z"; `out` needs 32 bytes. */
char *ot_format_time(int64_t wall_us, char *out);

/* The candidate nearest to `s` by edit distance (at most a third of its length, at least 1), or
 * NULL: what "did you mean" offers. */
const char *ot_suggest(const char *s, const char *const *candidates, size_t n);

#endif
