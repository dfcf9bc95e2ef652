/* Text of a protocol buffer (https://protobuf.dev/reference/protobuf/textformat-spec/) as a tree:
 * what Triton's config.pbtxt is written in. Nothing here knows which fields there are.
 *
 * Understood: scalars, "text" and 'text' with escapes and put together when adjacent, messages in
 * {} or <>, lists in [], comments, separators ',' and ';'. Refused: extensions and Any ("[x.y]").
 * A list is the field as many times.
 * Errors are OT_INVALID, "NAME:line:column: ...", or OT_EXHAUSTED over the caps below.
 * Threads: any. Lifetime: the tree lies in the arena and points nowhere else. */
#ifndef OT_MODEL_PBTXT_H
#define OT_MODEL_PBTXT_H

#include "base/error.h"
#include "base/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OT_PBTXT_BYTES_MAX (1u << 20)
#define OT_PBTXT_FIELDS_MAX 16384 /* of all messages together */
#define OT_PBTXT_DEPTH_MAX 16

typedef struct ot_pbtxt ot_pbtxt;
struct ot_pbtxt {
    const char *name; /* of the field */
    unsigned line, column;
    bool is_message, is_text; /* else a number or a word */
    const char *value;        /* NUL-terminated; text decoded; "" for a message */
    ot_pbtxt *fields;         /* of a message, in order; NULL: none */
    ot_pbtxt *next;           /* the field behind this one */
};

/* `name` stands before each place in errors. The first field, or NULL when there is none. */
ot_rc ot_pbtxt_parse(const char *name, const char *text, size_t n, ot_arena *arena,
                     ot_pbtxt **first_out, ot_error *err) OT_CHECKED;

/* A whole number, decimal or hexadecimal, of `min` to `max`; "true" or "false". Errors name the
 * field and its place. */
ot_rc ot_pbtxt_int(const char *name, const ot_pbtxt *f, int64_t min, int64_t max, int64_t *out,
                   ot_error *err) OT_CHECKED;
ot_rc ot_pbtxt_bool(const char *name, const ot_pbtxt *f, bool *out, ot_error *err) OT_CHECKED;
ot_rc ot_pbtxt_text(const char *name, const ot_pbtxt *f, const char **out,
                    ot_error *err) OT_CHECKED;
ot_rc ot_pbtxt_message(const char *name, const ot_pbtxt *f, ot_error *err) OT_CHECKED;

#define ot_pbtxt_fail(err, file, f, fmt, ...)                                                      \
    ot_fail((err), OT_INVALID, "%s:%u:%u: " fmt, (file), (f)->line, (f)->column, __VA_ARGS__)

#endif
