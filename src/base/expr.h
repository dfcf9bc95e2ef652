/* The expression grammar for searches, triggers and policies: docs/expressions.md is the letter.
 *
 *     accuracy.degraded                      labels.new >= 500 and not paused
 *     metrics.accuracy > 93%                 run.age < 2h
 *     tags.`my key` LIKE 'prod%'             attributes.status IN ("FINISHED", 'FAILED')
 *
 * Three steps: parse (syntax), check (names and types, through a callback), evaluate (values,
 * through a callback). Logic has three values: a comparison with NULL is unknown. MLflow's search
 * filters parse as a subset.
 *
 * Threads: a tree is constant once checked; evaluate from any thread. Lifetime: the tree lies in
 * the arena given to parse; it copies what it needs of the text. Nothing here recurses deeper than
 * OT_EXPR_DEPTH_MAX. */
#ifndef OT_BASE_EXPR_H
#define OT_BASE_EXPR_H

#include "base/error.h"
#include "base/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OT_EXPR_TEXT_MAX 16384
#define OT_EXPR_DEPTH_MAX 128 /* height of the tree; a chain of n ANDs has height n */
#define OT_EXPR_NODES_MAX 2048

typedef enum ot_expr_type {
    OT_EXPR_NULL, /* the literal NULL; as a value: unknown */
    OT_EXPR_BOOL,
    OT_EXPR_NUMBER,
    OT_EXPR_STRING,
    OT_EXPR_DURATION,
} ot_expr_type;

typedef struct ot_expr_value {
    ot_expr_type type;
    bool b;        /* BOOL */
    double x;      /* NUMBER; DURATION in microseconds */
    const char *s; /* STRING: s_len bytes, not NUL-terminated by contract */
    size_t s_len;
} ot_expr_value;

static inline ot_expr_value ot_expr_null(void)
{
    return (ot_expr_value){.type = OT_EXPR_NULL};
}
static inline ot_expr_value ot_expr_bool(bool b)
{
    return (ot_expr_value){.type = OT_EXPR_BOOL, .b = b};
}
static inline ot_expr_value ot_expr_number(double x)
{
    return (ot_expr_value){.type = OT_EXPR_NUMBER, .x = x};
}
static inline ot_expr_value ot_expr_duration(double us)
{
    return (ot_expr_value){.type = OT_EXPR_DURATION, .x = us};
}
static inline ot_expr_value ot_expr_string(const char *s, size_t n)
{
    return (ot_expr_value){.type = OT_EXPR_STRING, .s = s, .s_len = n};
}

/* A name as written, quotes removed: `metrics."val loss"` has text "metrics.val loss". */
typedef struct ot_expr_name {
    const char *text; /* NUL-terminated */
    size_t len;
    size_t key;    /* where the part after the first dot starts; len when there is none */
    uint64_t slot; /* the resolver's own mark */
    unsigned line, col;
} ot_expr_name;

typedef enum ot_expr_op {
    OT_EXPR_LITERAL, /* value */
    OT_EXPR_NAME,    /* name */
    OT_EXPR_NOT,     /* kid[0] */
    OT_EXPR_NEG,     /* kid[0] */
    OT_EXPR_AND,     /* kid[0], kid[1], and so below */
    OT_EXPR_OR,
    OT_EXPR_EQ,
    OT_EXPR_NE,
    OT_EXPR_LT,
    OT_EXPR_LE,
    OT_EXPR_GT,
    OT_EXPR_GE,
    OT_EXPR_ADD,
    OT_EXPR_SUB,
    OT_EXPR_MUL,
    OT_EXPR_DIV,
    OT_EXPR_LIKE, /* kid[1] is a string literal; case matters */
    OT_EXPR_ILIKE,
    OT_EXPR_IN,      /* kid[0] in list[0 .. n_list) */
    OT_EXPR_IS_NULL, /* kid[0] */
} ot_expr_op;

/* A node; readable by those who translate an expression (to SQL, to words). NOT LIKE, NOT IN and
 * IS NOT NULL are NOT over the plain node. */
typedef struct ot_expr {
    ot_expr_op op;
    ot_expr_type type; /* set by check */
    unsigned line, col, height;
    struct ot_expr *kid[2];
    struct ot_expr **list;
    size_t n_list;
    ot_expr_value value;
    ot_expr_name name;
} ot_expr;

/* Where the text stands, for messages: "app.yaml:12:14: ..."; file NULL gives "1:3: ...". */
typedef struct ot_expr_origin {
    const char *file;
    unsigned line, col; /* of the text's first character, from 1 */
} ot_expr_origin;

/* Parses n bytes. `origin` may be NULL (1:1). The tree's arena must outlive it. */
ot_rc ot_expr_parse(ot_arena *arena, const char *text, size_t n, const ot_expr_origin *origin,
                    ot_expr **expr_out, ot_error *err) OT_CHECKED;

/* Says what type a name has; may set name->slot. Fails for an unknown name with a message that says
 * what would do; check puts the position before it. */
typedef ot_rc ot_expr_resolve_fn(void *arg, ot_expr_name *name, ot_expr_type *type_out,
                                 ot_error *err);
/* Checks names and types; the whole must be of type `want` (BOOL for conditions). */
ot_rc ot_expr_check(ot_expr *e, ot_expr_resolve_fn *resolve, void *arg, ot_expr_type want,
                    const char *file, ot_error *err) OT_CHECKED;

/* The value of a name now; type NULL when it is not known. Strings live until evaluate returns. */
typedef ot_rc ot_expr_lookup_fn(void *arg, const ot_expr_name *name, ot_expr_value *value_out,
                                ot_error *err);
/* Evaluates a checked tree. A division by zero and a result that is not finite are NULL. A lookup
 * that answers with a type other than the one it was resolved to is OT_INTERNAL. */
ot_rc ot_expr_eval(const ot_expr *e, ot_expr_lookup_fn *lookup, void *arg, ot_expr_value *value_out,
                   ot_error *err) OT_CHECKED;
/* True only when the condition is known to hold. */
static inline bool ot_expr_holds(const ot_expr_value *v)
{
    return v->type == OT_EXPR_BOOL && v->b;
}

/* Calls fn for each name in the tree, from left to right; a code other than OT_OK ends it. */
typedef ot_rc ot_expr_name_fn(void *arg, const ot_expr_name *name, ot_error *err);
ot_rc ot_expr_names(const ot_expr *e, ot_expr_name_fn *fn, void *arg, ot_error *err) OT_CHECKED;

const char *ot_expr_type_name(ot_expr_type t); /* "a number" ... */
/* SQL's LIKE: % any run of bytes, _ one character (UTF-8); `fold` ignores the case of ASCII. */
bool ot_expr_like(const char *s, size_t n, const char *pattern, size_t m, bool fold);

#endif
