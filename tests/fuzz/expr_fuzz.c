/* links: base */
/* Parses, checks and evaluates an expression. Names get a type and a value from their own bytes, so
 * that every operator is reached. */
#include "base/expr.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned sum(const ot_expr_name *name)
{
    unsigned h = 0;
    for (size_t i = 0; i < name->len; i++) {
        h = h * 31 + (unsigned char)name->text[i];
    }
    return h;
}

static ot_rc resolve(void *arg, ot_expr_name *name, ot_expr_type *type_out, ot_error *err)
{
    (void)arg;
    if (name->key > name->len || name->text[name->len] != 0) {
        abort();
    }
    if (name->len == 1) {
        return ot_fail(err, OT_NOT_FOUND, "'%s' is not known", name->text);
    }
    name->slot = sum(name);
    *type_out = (ot_expr_type)(OT_EXPR_BOOL + name->slot % 4);
    return OT_OK;
}

static ot_rc lookup(void *arg, const ot_expr_name *name, ot_expr_value *out, ot_error *err)
{
    (void)arg;
    (void)err;
    unsigned h = (unsigned)name->slot;
    if (h % 7 == 0) {
        return OT_OK; /* unknown */
    }
    switch (OT_EXPR_BOOL + h % 4) {
    case OT_EXPR_BOOL:
        *out = ot_expr_bool(h % 8 < 4);
        break;
    case OT_EXPR_NUMBER:
        *out = ot_expr_number(h % 100);
        break;
    case OT_EXPR_STRING:
        *out = ot_expr_string(name->text, name->len);
        break;
    default:
        *out = ot_expr_duration(h);
        break;
    }
    return OT_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ot_arena arena;
    ot_expr *e;
    ot_expr_value v;
    ot_error err = {0};
    ot_arena_init(&arena, 4096, 4 << 20);
    if (ot_expr_parse(&arena, (const char *)data, size, NULL, &e, &err) == OT_OK) {
        if (e->height > OT_EXPR_DEPTH_MAX) {
            abort();
        }
        if (ot_expr_check(e, resolve, NULL, OT_EXPR_BOOL, "f", &err) == OT_OK) {
            if (ot_expr_eval(e, lookup, NULL, &v, &err) != OT_OK ||
                (v.type != OT_EXPR_BOOL && v.type != OT_EXPR_NULL)) {
                abort(); /* what was checked has a value of its type */
            }
        }
    } else if (err.rc != OT_INVALID && err.rc != OT_EXHAUSTED) {
        abort();
    }
    ot_arena_done(&arena);
    return 0;
}
