/* Types and values of a parsed expression. Recursion is bounded by the height that parse allows. */
#include "base/expr.h"
#include "base/expr_internal.h"

#include <math.h>
#include <string.h>

const char *ot_expr_type_name(ot_expr_type t)
{
    static const char *const names[] = {"NULL", "a condition", "a number", "a text", "a duration"};
    return (size_t)t < OT_COUNT(names) ? names[t] : "?";
}

static const char *op_name(ot_expr_op op)
{
    static const char *const names[] = {
        [OT_EXPR_LITERAL] = "value", [OT_EXPR_NAME] = "name",
        [OT_EXPR_NOT] = "NOT",       [OT_EXPR_NEG] = "-",
        [OT_EXPR_AND] = "AND",       [OT_EXPR_OR] = "OR",
        [OT_EXPR_EQ] = "=",          [OT_EXPR_NE] = "!=",
        [OT_EXPR_LT] = "<",          [OT_EXPR_LE] = "<=",
        [OT_EXPR_GT] = ">",          [OT_EXPR_GE] = ">=",
        [OT_EXPR_ADD] = "+",         [OT_EXPR_SUB] = "-",
        [OT_EXPR_MUL] = "*",         [OT_EXPR_DIV] = "/",
        [OT_EXPR_LIKE] = "LIKE",     [OT_EXPR_ILIKE] = "ILIKE",
        [OT_EXPR_IN] = "IN",         [OT_EXPR_IS_NULL] = "IS NULL",
    };
    return names[op];
}

struct checker {
    ot_expr_resolve_fn *resolve;
    void *arg;
    const char *file;
};

static ot_rc mismatch(const struct checker *c, const ot_expr *e, ot_expr_type a, ot_expr_type b,
                      ot_error *err)
{
    bool time = (a == OT_EXPR_DURATION && b == OT_EXPR_NUMBER) ||
                (a == OT_EXPR_NUMBER && b == OT_EXPR_DURATION);
    return ot_expr_fail(c->file, e->line, e->col, err, "'%s' can't join %s and %s%s",
                        op_name(e->op), ot_expr_type_name(a), ot_expr_type_name(b),
                        time ? "; write durations with a unit: 90s, 2h" : "");
}

/* Same type, or one of them is NULL. */
static bool alike(ot_expr_type a, ot_expr_type b)
{
    return a == b || a == OT_EXPR_NULL || b == OT_EXPR_NULL;
}

static ot_rc need(const struct checker *c, const ot_expr *e, const ot_expr *kid, ot_expr_type want,
                  ot_error *err)
{
    if (alike(kid->type, want)) {
        return OT_OK;
    }
    return ot_expr_fail(c->file, kid->line, kid->col, err, "'%s' needs %s, this is %s",
                        op_name(e->op), ot_expr_type_name(want), ot_expr_type_name(kid->type));
}

static ot_rc check_arithmetic(const struct checker *c, ot_expr *e, ot_error *err)
{
    ot_expr_type a = e->kid[0]->type, b = e->kid[1]->type;
    bool num_a = a == OT_EXPR_NUMBER, num_b = b == OT_EXPR_NUMBER;
    bool dur_a = a == OT_EXPR_DURATION, dur_b = b == OT_EXPR_DURATION;
    if (a == OT_EXPR_NULL && b == OT_EXPR_NULL) {
        e->type = OT_EXPR_NULL;
        return OT_OK;
    }
    if ((!num_a && !dur_a && a != OT_EXPR_NULL) || (!num_b && !dur_b && b != OT_EXPR_NULL)) {
        return mismatch(c, e, a, b, err);
    }
    if (e->op == OT_EXPR_ADD || e->op == OT_EXPR_SUB) {
        if (!alike(a, b)) {
            return mismatch(c, e, a, b, err);
        }
        e->type = a == OT_EXPR_NULL ? b : a;
    } else if (e->op == OT_EXPR_MUL) {
        if (dur_a && dur_b) {
            return mismatch(c, e, a, b, err);
        }
        e->type = dur_a || dur_b ? OT_EXPR_DURATION : OT_EXPR_NUMBER;
    } else {
        if (num_a && dur_b) {
            return mismatch(c, e, a, b, err);
        }
        e->type = dur_a && !dur_b ? OT_EXPR_DURATION : OT_EXPR_NUMBER;
    }
    return OT_OK;
}

static ot_rc check_compare(const struct checker *c, ot_expr *e, ot_error *err)
{
    ot_expr_type a = e->kid[0]->type, b = e->kid[1]->type;
    bool order = e->op != OT_EXPR_EQ && e->op != OT_EXPR_NE;
    if (!alike(a, b) || (order && (a == OT_EXPR_BOOL || b == OT_EXPR_BOOL))) {
        return mismatch(c, e, a, b, err);
    }
    return OT_OK;
}

static ot_rc check_name(const struct checker *c, ot_expr *e, ot_error *err)
{
    ot_error inner = {.msg = ""};
    ot_rc rc = c->resolve(c->arg, &e->name, &e->type, &inner);
    if (rc != OT_OK) {
        ot_expr_fail(c->file, e->line, e->col, err, "%s",
                     inner.msg[0] != 0 ? inner.msg : "this name is not known here");
    }
    return rc;
}

static ot_rc check(const struct checker *c, ot_expr *e, ot_error *err)
{
    for (int i = 0; i < 2 && e->kid[i] != NULL; i++) {
        OT_TRY(check(c, e->kid[i], err));
    }
    e->type = OT_EXPR_BOOL;
    switch (e->op) {
    case OT_EXPR_LITERAL:
        e->type = e->value.type;
        return OT_OK;
    case OT_EXPR_NAME:
        return check_name(c, e, err);
    case OT_EXPR_NOT:
        return need(c, e, e->kid[0], OT_EXPR_BOOL, err);
    case OT_EXPR_NEG:
        e->type = e->kid[0]->type == OT_EXPR_DURATION ? OT_EXPR_DURATION : OT_EXPR_NUMBER;
        return need(c, e, e->kid[0], e->type, err);
    case OT_EXPR_AND:
    case OT_EXPR_OR:
        OT_TRY(need(c, e, e->kid[0], OT_EXPR_BOOL, err));
        return need(c, e, e->kid[1], OT_EXPR_BOOL, err);
    case OT_EXPR_ADD:
    case OT_EXPR_SUB:
    case OT_EXPR_MUL:
    case OT_EXPR_DIV:
        return check_arithmetic(c, e, err);
    case OT_EXPR_LIKE:
    case OT_EXPR_ILIKE:
        return need(c, e, e->kid[0], OT_EXPR_STRING, err);
    case OT_EXPR_IN:
        for (size_t i = 0; i < e->n_list; i++) {
            OT_TRY(check(c, e->list[i], err));
            OT_TRY(need(c, e, e->list[i], e->kid[0]->type, err));
        }
        return OT_OK;
    case OT_EXPR_IS_NULL:
        return OT_OK;
    default:
        return check_compare(c, e, err);
    }
}

ot_rc ot_expr_check(ot_expr *e, ot_expr_resolve_fn *resolve, void *arg, ot_expr_type want,
                    const char *file, ot_error *err)
{
    struct checker c = {.resolve = resolve, .arg = arg, .file = file};
    OT_TRY(check(&c, e, err));
    if (!alike(e->type, want)) {
        return ot_expr_fail(file, e->line, e->col, err, "%s is needed here, this is %s",
                            ot_expr_type_name(want), ot_expr_type_name(e->type));
    }
    return OT_OK;
}

struct evaluator {
    ot_expr_lookup_fn *lookup;
    void *arg;
};

static int sign(double x, double y)
{
    return (x > y) - (x < y);
}

/* -1, 0, 1; both of the same type. */
static int compare(const ot_expr_value *a, const ot_expr_value *b)
{
    if (a->type == OT_EXPR_BOOL) {
        return (int)a->b - (int)b->b;
    }
    if (a->type != OT_EXPR_STRING) {
        return sign(a->x, b->x);
    }
    size_t n = OT_MIN(a->s_len, b->s_len);
    int d = n > 0 ? memcmp(a->s, b->s, n) : 0;
    return d != 0 ? (d > 0) - (d < 0) : (a->s_len > b->s_len) - (a->s_len < b->s_len);
}

static bool compare_holds(ot_expr_op op, int d)
{
    switch (op) {
    case OT_EXPR_EQ:
        return d == 0;
    case OT_EXPR_NE:
        return d != 0;
    case OT_EXPR_LT:
        return d < 0;
    case OT_EXPR_LE:
        return d <= 0;
    case OT_EXPR_GT:
        return d > 0;
    default:
        return d >= 0;
    }
}

static ot_expr_value arithmetic(const ot_expr *e, double a, double b)
{
    double x = e->op == OT_EXPR_ADD   ? a + b
               : e->op == OT_EXPR_SUB ? a - b
               : e->op == OT_EXPR_MUL ? a * b
                                      : a / b;
    if (!isfinite(x)) {
        return ot_expr_null();
    }
    return e->type == OT_EXPR_DURATION ? ot_expr_duration(x) : ot_expr_number(x);
}

static ot_rc eval(const struct evaluator *ev, const ot_expr *e, ot_expr_value *out, ot_error *err);

/* Kleene's logic: one decided side decides AND and OR, also beside an unknown one. */
static ot_rc eval_logic(const struct evaluator *ev, const ot_expr *e, ot_expr_value *out,
                        ot_error *err)
{
    bool decides = e->op == OT_EXPR_OR;
    ot_expr_value a, b;
    OT_TRY(eval(ev, e->kid[0], &a, err));
    if (a.type == OT_EXPR_BOOL && a.b == decides) {
        *out = a;
        return OT_OK;
    }
    OT_TRY(eval(ev, e->kid[1], &b, err));
    bool known = b.type == OT_EXPR_BOOL && (b.b == decides || a.type == OT_EXPR_BOOL);
    *out = known ? b : ot_expr_null();
    return OT_OK;
}

static ot_rc eval_in(const struct evaluator *ev, const ot_expr *e, const ot_expr_value *a,
                     ot_expr_value *out, ot_error *err)
{
    bool unknown = false;
    for (size_t i = 0; i < e->n_list; i++) {
        ot_expr_value v;
        OT_TRY(eval(ev, e->list[i], &v, err));
        if (v.type == OT_EXPR_NULL) {
            unknown = true;
        } else if (compare(a, &v) == 0) {
            *out = ot_expr_bool(true);
            return OT_OK;
        }
    }
    *out = unknown ? ot_expr_null() : ot_expr_bool(false);
    return OT_OK;
}

static ot_rc eval_name(const struct evaluator *ev, const ot_expr *e, ot_expr_value *out,
                       ot_error *err)
{
    ot_expr_value v = ot_expr_null();
    OT_TRY(ev->lookup(ev->arg, &e->name, &v, err));
    if (v.type != OT_EXPR_NULL && v.type != e->type) {
        return ot_fail(err, OT_INTERNAL, "name '%.80s' was resolved to %s and answered with %s",
                       e->name.text, ot_expr_type_name(e->type), ot_expr_type_name(v.type));
    }
    bool number = v.type == OT_EXPR_NUMBER || v.type == OT_EXPR_DURATION;
    *out = number && !isfinite(v.x) ? ot_expr_null() : v;
    return OT_OK;
}

/* Everything whose first operand is evaluated first and that is unknown when an operand is. */
static ot_rc eval_strict(const struct evaluator *ev, const ot_expr *e, ot_expr_value *out,
                         ot_error *err)
{
    ot_expr_value a, b = {0};
    OT_TRY(eval(ev, e->kid[0], &a, err));
    if (e->op == OT_EXPR_IS_NULL) {
        *out = ot_expr_bool(a.type == OT_EXPR_NULL);
        return OT_OK;
    }
    if (e->kid[1] != NULL) {
        OT_TRY(eval(ev, e->kid[1], &b, err));
    }
    if (a.type == OT_EXPR_NULL || (e->kid[1] != NULL && b.type == OT_EXPR_NULL)) {
        *out = ot_expr_null();
        return OT_OK;
    }
    switch (e->op) {
    case OT_EXPR_NOT:
        *out = ot_expr_bool(!a.b);
        return OT_OK;
    case OT_EXPR_NEG:
        *out = a;
        out->x = -a.x;
        return OT_OK;
    case OT_EXPR_ADD:
    case OT_EXPR_SUB:
    case OT_EXPR_MUL:
    case OT_EXPR_DIV:
        *out = arithmetic(e, a.x, b.x);
        return OT_OK;
    case OT_EXPR_LIKE:
    case OT_EXPR_ILIKE:
        *out = ot_expr_bool(ot_expr_like(a.s, a.s_len, b.s, b.s_len, e->op == OT_EXPR_ILIKE));
        return OT_OK;
    case OT_EXPR_IN:
        return eval_in(ev, e, &a, out, err);
    default:
        *out = ot_expr_bool(compare_holds(e->op, compare(&a, &b)));
        return OT_OK;
    }
}

static ot_rc eval(const struct evaluator *ev, const ot_expr *e, ot_expr_value *out, ot_error *err)
{
    switch (e->op) {
    case OT_EXPR_LITERAL:
        *out = e->value;
        return OT_OK;
    case OT_EXPR_NAME:
        return eval_name(ev, e, out, err);
    case OT_EXPR_AND:
    case OT_EXPR_OR:
        return eval_logic(ev, e, out, err);
    default:
        return eval_strict(ev, e, out, err);
    }
}

ot_rc ot_expr_eval(const ot_expr *e, ot_expr_lookup_fn *lookup, void *arg, ot_expr_value *value_out,
                   ot_error *err)
{
    struct evaluator ev = {.lookup = lookup, .arg = arg};
    return eval(&ev, e, value_out, err);
}

static unsigned char fold_char(char c, bool fold)
{
    return (unsigned char)(fold && c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

static size_t char_end(const char *s, size_t n, size_t i)
{
    for (i++; i < n && ((unsigned char)s[i] & 0xc0) == 0x80; i++) {
    }
    return i;
}

/* On a mismatch the last % takes one character more: enough, since an earlier one that took more
 * could not match what this one can't. */
bool ot_expr_like(const char *s, size_t n, const char *pattern, size_t m, bool fold)
{
    size_t i = 0, j = 0, star = SIZE_MAX, star_i = 0;
    while (i < n) {
        if (j < m && pattern[j] == '%') {
            star = ++j;
            star_i = i;
        } else if (j < m && pattern[j] == '_') {
            i = char_end(s, n, i);
            j++;
        } else if (j < m && fold_char(s[i], fold) == fold_char(pattern[j], fold)) {
            i++;
            j++;
        } else if (star != SIZE_MAX) {
            star_i = char_end(s, n, star_i);
            i = star_i;
            j = star;
        } else {
            return false;
        }
    }
    while (j < m && pattern[j] == '%') {
        j++;
    }
    return j == m;
}
