/* Configuration from YAML into structs, driven by tables: one table says what a section may hold,
 * and drives parsing, `overtake config show` and the reference in docs/.
 *
 * Errors name file, line and column: "app.yaml:12:3: 'resorces' is not known in train; did you mean
 * 'resources'?". All memory comes from the caller's arena. Threads: one at a time. */
#ifndef OT_PIPELINE_CONF_H
#define OT_PIPELINE_CONF_H

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct ot_conf_mark {
    int line, column; /* from 1; 0 when the value is a default */
} ot_conf_mark;

typedef enum ot_node_kind { OT_NODE_SCALAR, OT_NODE_LIST, OT_NODE_MAP } ot_node_kind;

/* A parsed YAML node. Maps keep their order; items of a list have key NULL. */
typedef struct ot_node {
    ot_node_kind kind;
    const char *key;   /* in a map */
    const char *text;  /* of a scalar */
    bool is_null;      /* a plain scalar that is empty, ~ or null */
    ot_conf_mark mark; /* of the value */
    ot_conf_mark key_mark;
    struct ot_node *first, *next; /* children; siblings */
} ot_node;

/* Limits on what is read: bytes, nodes and depth are capped, aliases and anchors are refused (an
 * alias bomb expands without bound). `file` is used in messages. */
ot_rc ot_yaml_parse(const char *text, size_t n, const char *file, ot_arena *arena, ot_node **out,
                    ot_error *err) OT_CHECKED;
const ot_node *ot_node_get(const ot_node *map, const char *key);

typedef enum ot_conf_type {
    OT_CONF_STR,      /* const char * */
    OT_CONF_NAME,     /* const char *, see ot_name_ok */
    OT_CONF_BOOL,     /* bool */
    OT_CONF_INT,      /* int64_t */
    OT_CONF_F64,      /* double */
    OT_CONF_FRACTION, /* double in 0..1 */
    OT_CONF_DURATION, /* int64_t, microseconds */
    OT_CONF_SIZE,     /* uint64_t, bytes */
    OT_CONF_RATE,     /* ot_conf_rate: "2 per day" */
    OT_CONF_ENUM,     /* int: the index in `choices` */
    OT_CONF_STRS,     /* ot_conf_strs; a single scalar counts as a list of one */
    OT_CONF_SECTION,  /* a struct in place, described by `section` */
    OT_CONF_CUSTOM,   /* parsed by `custom` */
} ot_conf_type;

typedef struct ot_conf_rate {
    int64_t count;
    int64_t per_us;
} ot_conf_rate;

typedef struct ot_conf_strs {
    const char **v;
    ot_conf_mark *marks;
    size_t n;
} ot_conf_strs;

struct ot_conf_ctx;
struct ot_conf_section;

/* Parses `node` into `into` (the address of the field). */
typedef ot_rc ot_conf_custom_fn(struct ot_conf_ctx *ctx, const ot_node *node, void *into,
                                ot_error *err);
/* Writes the value of a custom field as YAML below `indent` spaces. */
typedef void ot_conf_show_fn(const void *from, int indent, ot_str *out);

typedef struct ot_conf_field {
    const char *key;
    ot_conf_type type;
    size_t offset;
    const char *def;  /* as it would be written; NULL: zero or absent */
    const char *help; /* one line */
    bool required;
    double min, max;            /* of numbers; both 0: no limit */
    const char *const *choices; /* of an enum, NULL-terminated */
    const struct ot_conf_section *section;
    ot_conf_custom_fn *custom;
    ot_conf_show_fn *show;
    const char *example; /* for the reference; NULL: the default */
} ot_conf_field;

typedef struct ot_conf_section {
    const char *name;
    size_t size;
    const ot_conf_field *fields;
    size_t n_fields;
    /* Offset of an ot_conf_mark in the struct that is set when the section stands in the file; a
     * `present` flag is then mark.line != 0. SIZE_MAX: none. */
    size_t mark_offset;
    /* Key that takes a bare scalar in place of a map (`serve: digits`); NULL: maps only. */
    const char *short_key;
    /* Offset of an array of n_fields ot_conf_mark: where the value of each field stands, line 0
     * while the file does not write it. SIZE_MAX: none. */
    size_t marks_offset;
} ot_conf_section;

typedef struct ot_conf_ctx {
    const char *file;
    ot_arena *arena;
} ot_conf_ctx;

/* Fills `into` (section->size bytes) with defaults, then from `map` (NULL: defaults only). */
ot_rc ot_conf_fill(ot_conf_ctx *ctx, const ot_conf_section *section, const ot_node *map, void *into,
                   ot_error *err) OT_CHECKED;
/* A single value of `field`, as custom parsers need it. */
ot_rc ot_conf_value(ot_conf_ctx *ctx, const ot_conf_field *field, const ot_node *node, void *base,
                    ot_error *err) OT_CHECKED;
/* NULL: no such key. */
const ot_conf_field *ot_conf_field_of(const ot_conf_section *section, const char *key);
/* Where the value of `key` was written; line 0: it was not, or the section keeps no marks. */
ot_conf_mark ot_conf_mark_of(const ot_conf_section *section, const void *from, const char *key);
/* The value of a plain field as people write it: 90s, 8GiB, 10%, never raw microseconds. */
void ot_conf_show_value(const ot_conf_field *field, const void *from, ot_str *out);
/* The effective configuration as YAML: what `overtake config show` prints. */
void ot_conf_show(const ot_conf_section *section, const void *from, int indent, ot_str *out);
/* The reference as a Markdown table a section. */
void ot_conf_reference(const ot_conf_section *section, const char *path, ot_str *out);
/* "FILE:LINE:COLUMN: message" */
ot_rc ot_conf_fail(const ot_conf_ctx *ctx, ot_conf_mark mark, ot_error *err, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#endif
