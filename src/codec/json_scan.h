/* A one-pass JSON reader (RFC 8259) without a tree: the caller asks for what it expects, in order.
 *
 * Built for tensor bodies: numbers go straight into the tensor's type. Accepted beyond the RFC: the
 * tokens NaN, Infinity and -Infinity as numbers. Strings must be valid UTF-8. Nesting is limited to
 * OT_JSON_DEPTH_MAX. Errors are OT_INVALID and name the byte offset: "JSON at byte 17: ...".
 * Threads: a scan belongs to one; nothing is shared. Lifetime: the text must outlive the scan and
 * every text view taken from it. The text needs no terminating NUL and may hold anything. */
#ifndef OT_CODEC_JSON_SCAN_H
#define OT_CODEC_JSON_SCAN_H

#include "base/error.h"
#include "base/mem.h"
#include "codec/tensor.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OT_JSON_DEPTH_MAX 64

typedef struct ot_json_scan {
    const char *begin, *at, *end;
    int depth;
    bool first; /* nothing was read yet in the innermost object or array */
} ot_json_scan;

typedef enum ot_json_kind {
    OT_JSON_END, /* nothing but white space is left */
    OT_JSON_OBJECT,
    OT_JSON_ARRAY,
    OT_JSON_STRING,
    OT_JSON_NUMBER, /* NaN and the infinities included */
    OT_JSON_BOOL,
    OT_JSON_NULL,
    OT_JSON_BAD, /* no value starts like this */
} ot_json_kind;

/* A piece of text without NUL at its end. */
typedef struct ot_text {
    const char *p;
    size_t n;
} ot_text;
bool ot_text_is(ot_text t, const char *z);

typedef struct ot_json_number {
    double f64;    /* always set, correctly rounded */
    bool is_int;   /* written without fraction and exponent, and within int64 or uint64 */
    bool negative; /* is_int: which of the two below holds the value */
    int64_t i64;   /* valid when is_int and it fits; else 0 */
    uint64_t u64;  /* valid when is_int and not negative */
} ot_json_number;

void ot_json_scan_init(ot_json_scan *s, const char *p, size_t n);
/* "JSON at byte N: " + the message; returns OT_INVALID. */
ot_rc ot_json_fail(const ot_json_scan *s, ot_error *err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* What the next value is; skips white space, takes nothing. */
ot_json_kind ot_json_peek(ot_json_scan *s);
const char *ot_json_kind_name(ot_json_kind k); /* "an object", "a string", ... */

/* Objects: enter, then next_key until *more_out is false (which takes the closing brace); after
 * each key exactly one value must be read or skipped. Keys are unescaped like strings. */
ot_rc ot_json_enter_object(ot_json_scan *s, ot_error *err) OT_CHECKED;
ot_rc ot_json_next_key(ot_json_scan *s, ot_arena *arena, ot_text *key_out, bool *more_out,
                       ot_error *err) OT_CHECKED;
/* Arrays: enter, then next_item until *more_out is false; after each true, read one value. */
ot_rc ot_json_enter_array(ot_json_scan *s, ot_error *err) OT_CHECKED;
ot_rc ot_json_next_item(ot_json_scan *s, bool *more_out, ot_error *err) OT_CHECKED;

/* A string without escapes is a view of the scanned text; one with escapes lies in the arena. NUL
 * characters (\u0000) may be inside. */
ot_rc ot_json_string(ot_json_scan *s, ot_arena *arena, ot_text *out, ot_error *err) OT_CHECKED;
/* The same, always a copy in the arena with a NUL at its end; a NUL inside is refused. */
ot_rc ot_json_string_z(ot_json_scan *s, ot_arena *arena, const char **out,
                       ot_error *err) OT_CHECKED;
ot_rc ot_json_number_read(ot_json_scan *s, ot_json_number *out, ot_error *err) OT_CHECKED;
ot_rc ot_json_bool_read(ot_json_scan *s, bool *out, ot_error *err) OT_CHECKED;
ot_rc ot_json_null_read(ot_json_scan *s, ot_error *err) OT_CHECKED;
/* Any value, checked as strictly as if it had been read. */
ot_rc ot_json_skip(ot_json_scan *s, ot_error *err) OT_CHECKED;
/* Nothing but white space is left. */
ot_rc ot_json_finish(ot_json_scan *s, ot_error *err) OT_CHECKED;

/* The most values an array in the rest of the text can hold (each takes two bytes, but the last).
 */
static inline int64_t ot_json_values_max(const ot_json_scan *s)
{
    return (s->end - s->at) / 2 + 1;
}
/* Reads the array at the scan's position, flat or nested to the shape, straight into `dst`, which
 * has room for exactly the shape's product of elements of `dtype` (any but BYTES); it may be NULL
 * when that product is above ot_json_values_max: such an array is refused unread. `what` names the
 * tensor in errors ("input 'x'"). Refused, each by name: a count that is not the shape's product,
 * nesting that contradicts the shape, a string, null or object anywhere, a bool in a numeric
 * tensor, a fraction or a value out of range in an integer tensor, a finite number that overflows
 * the float type. BOOL takes true, false, 0 and 1. Integers accept 3.0 and 3e2. */
ot_rc ot_json_tensor_data(ot_json_scan *s, const char *what, ot_dtype dtype, const int64_t *dims,
                          int rank, void *dst, ot_error *err) OT_CHECKED;
/* The same for BYTES: JSON strings become u32-length-prefixed elements in the arena. */
ot_rc ot_json_tensor_strings(ot_json_scan *s, const char *what, const int64_t *dims, int rank,
                             ot_arena *arena, const void **data_out, size_t *size_out,
                             ot_error *err) OT_CHECKED;

bool ot_utf8_valid(const char *p, size_t n);

#endif
