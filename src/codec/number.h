/* Decimal text to binary floating point and back: correctly rounded, shortest, without locale.
 *
 * Threads: any; pure. Sources: Clinger 1990 and Lemire 2021 for reading (products that cannot be
 * decided fall back to strtod), Giulietti's Schubfach (2020) for writing. */
#ifndef OT_CODEC_NUMBER_H
#define OT_CODEC_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A number's text as scanned: value = (-1)^negative * mantissa * 10^exp10. When more than 19
 * significant digits were written, the rest is cut off and `cut` is true: the value then lies
 * between mantissa and mantissa + 1. */
typedef struct ot_decimal {
    uint64_t mantissa;
    int32_t exp10;
    bool negative, cut;
    bool plain; /* written without fraction and exponent */
    const char *p;
    size_t n; /* the text, for the fallback */
} ot_decimal;

/* Scans one JSON number (RFC 8259 grammar, no NaN or Infinity) at p, never reading at or past end.
 * Returns the byte after it, or NULL when there is no number or it is malformed. */
const char *ot_decimal_scan(const char *p, const char *end, ot_decimal *out);
/* Round to nearest, ties to even; +-infinity when it overflows. */
float ot_decimal_f32(const ot_decimal *d);
double ot_decimal_f64(const ot_decimal *d);

/* Shortest text that reads back to the same value, as JSON or one of NaN, Infinity, -Infinity:
 * "0.1", "1.0", "1.5e-7", "-0.0". Returns the length; no NUL is written. */
#define OT_F32_TEXT 24
#define OT_F64_TEXT 32
#define OT_I64_TEXT 24
size_t ot_format_f32(float x, char out[OT_F32_TEXT]);
size_t ot_format_f64(double x, char out[OT_F64_TEXT]);
size_t ot_format_u64(uint64_t x, char out[OT_I64_TEXT]);
size_t ot_format_i64(int64_t x, char out[OT_I64_TEXT]);

#endif
