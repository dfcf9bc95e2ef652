/* The parser: recursive descent, one token ahead. Precedence from low to high: OR, AND, NOT,
 * comparison, + -, * /, unary minus. */
#include "base/expr.h"

#include "base/expr_internal.h"

#include <string.h>

struct parser {
    ot_expr_lexer lx;
    ot_expr_token t; /* the next token */
    unsigned depth, nodes;
};

static ot_rc parse_or(struct parser *p, ot_expr **out, ot_error *err);

static ot_rc next(struct parser *p, ot_error *err)
{
    return ot_expr_lex(&p->lx, &p->t, err);
}

static ot_rc expected(struct parser *p, const char *what, ot_error *err)
{
    if (p->t.kind == TOK_END) {
        return ot_expr_fail(p->lx.file, p->t.line, p->t.col, err,
                            "expected %s, but the expression ends", what);
    }
    return ot_expr_fail(p->lx.file, p->t.line, p->t.col, err, "expected %s, found %.*s", what,
                        (int)OT_MIN(p->t.len, (size_t)60), p->lx.text + p->t.at);
}

static ot_rc node_create(struct parser *p, ot_expr_op op, const ot_expr_token *at, ot_expr *a,
                         ot_expr *b, ot_expr **out, ot_error *err)
{
    unsigned ha = a != NULL ? a->height : 0, hb = b != NULL ? b->height : 0;
    unsigned height = OT_MAX(ha, hb) + 1;
    if (height > OT_EXPR_DEPTH_MAX) {
        return ot_expr_fail(p->lx.file, at->line, at->col, err,
                            "the expression is nested or chained deeper than %d; use IN or split "
                            "it",
                            OT_EXPR_DEPTH_MAX);
    }
    if (++p->nodes > OT_EXPR_NODES_MAX) {
        return ot_expr_fail(p->lx.file, at->line, at->col, err,
                            "the expression has more than %d parts", OT_EXPR_NODES_MAX);
    }
    ot_expr *e = ot_arena_calloc(p->lx.arena, 1, sizeof *e);
    if (e == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "expression: its arena is full");
    }
    e->op = op;
    e->line = at->line;
    e->col = at->col;
    e->height = height;
    e->kid[0] = a;
    e->kid[1] = b;
    *out = e;
    return OT_OK;
}

/* Every recursion passes through here or through parse_or. */
static ot_rc enter(struct parser *p, ot_error *err)
{
    if (++p->depth > OT_EXPR_DEPTH_MAX) {
        return ot_expr_fail(p->lx.file, p->t.line, p->t.col, err,
                            "the expression is nested deeper than %d", OT_EXPR_DEPTH_MAX);
    }
    return OT_OK;
}

static ot_rc parse_primary(struct parser *p, ot_expr **out, ot_error *err)
{
    ot_expr_token t = p->t;
    switch (t.kind) {
    case TOK_VALUE:
        OT_TRY(node_create(p, OT_EXPR_LITERAL, &t, NULL, NULL, out, err));
        (*out)->value = t.value;
        return next(p, err);
    case TOK_NAME:
        OT_TRY(node_create(p, OT_EXPR_NAME, &t, NULL, NULL, out, err));
        (*out)->name = t.name;
        return next(p, err);
    case TOK_OPEN:
        OT_TRY(next(p, err));
        OT_TRY(parse_or(p, out, err));
        if (p->t.kind != TOK_CLOSE) {
            return expected(p, "')'", err);
        }
        return next(p, err);
    default:
        return expected(p, "a name, a value or '('", err);
    }
}

static ot_rc parse_unary(struct parser *p, ot_expr **out, ot_error *err)
{
    if (p->t.kind != TOK_OP || p->t.op != OT_EXPR_SUB) {
        return parse_primary(p, out, err);
    }
    ot_expr_token t = p->t;
    ot_expr *kid;
    OT_TRY(enter(p, err));
    OT_TRY(next(p, err));
    OT_TRY(parse_unary(p, &kid, err));
    p->depth--;
    return node_create(p, OT_EXPR_NEG, &t, kid, NULL, out, err);
}

static ot_rc parse_product(struct parser *p, ot_expr **out, ot_error *err)
{
    ot_expr *left;
    OT_TRY(parse_unary(p, &left, err));
    while (p->t.kind == TOK_OP && (p->t.op == OT_EXPR_MUL || p->t.op == OT_EXPR_DIV)) {
        ot_expr_token t = p->t;
        ot_expr *right;
        OT_TRY(next(p, err));
        OT_TRY(parse_unary(p, &right, err));
        OT_TRY(node_create(p, t.op, &t, left, right, &left, err));
    }
    *out = left;
    return OT_OK;
}

static ot_rc parse_sum(struct parser *p, ot_expr **out, ot_error *err)
{
    ot_expr *left;
    OT_TRY(parse_product(p, &left, err));
    while (p->t.kind == TOK_OP && (p->t.op == OT_EXPR_ADD || p->t.op == OT_EXPR_SUB)) {
        ot_expr_token t = p->t;
        ot_expr *right;
        OT_TRY(next(p, err));
        OT_TRY(parse_product(p, &right, err));
        OT_TRY(node_create(p, t.op, &t, left, right, &left, err));
    }
    *out = left;
    return OT_OK;
}

static bool is_word(const struct parser *p, ot_expr_word w)
{
    return p->t.kind == TOK_WORD && p->t.word == w;
}

static ot_rc parse_list(struct parser *p, ot_expr *in, ot_error *err)
{
    OT_TRY(next(p, err));
    if (p->t.kind != TOK_OPEN) {
        return expected(p, "'(' after IN", err);
    }
    size_t cap = 0;
    do {
        ot_expr *item;
        OT_TRY(next(p, err));
        OT_TRY(parse_sum(p, &item, err));
        if (in->n_list == cap) {
            size_t more = cap ? cap * 2 : 8;
            ot_expr **list = ot_arena_calloc(p->lx.arena, more, sizeof *list);
            if (list == NULL) {
                return ot_fail(err, OT_EXHAUSTED, "expression: its arena is full");
            }
            if (cap > 0) {
                memcpy(list, in->list, cap * sizeof *list);
            }
            in->list = list;
            cap = more;
        }
        in->list[in->n_list++] = item;
        in->height = OT_MAX(in->height, item->height + 1);
    } while (p->t.kind == TOK_COMMA);
    if (p->t.kind != TOK_CLOSE) {
        return expected(p, "',' or ')' in the list", err);
    }
    return next(p, err);
}

static ot_rc parse_is_null(struct parser *p, ot_expr *left, ot_expr **out, ot_error *err)
{
    ot_expr_token t = p->t;
    bool negated = false;
    OT_TRY(next(p, err));
    if (is_word(p, WORD_NOT)) {
        negated = true;
        OT_TRY(next(p, err));
    }
    if (p->t.kind != TOK_VALUE || p->t.value.type != OT_EXPR_NULL) {
        return expected(p, "NULL after IS", err);
    }
    OT_TRY(next(p, err));
    OT_TRY(node_create(p, OT_EXPR_IS_NULL, &t, left, NULL, out, err));
    return negated ? node_create(p, OT_EXPR_NOT, &t, *out, NULL, out, err) : OT_OK;
}

/* [NOT] LIKE, ILIKE, IN behind `left`. */
static ot_rc parse_match(struct parser *p, ot_expr *left, ot_expr **out, ot_error *err)
{
    bool negated = is_word(p, WORD_NOT);
    if (negated) {
        OT_TRY(next(p, err));
    }
    ot_expr_token t = p->t;
    if (is_word(p, WORD_IN)) {
        OT_TRY(node_create(p, OT_EXPR_IN, &t, left, NULL, out, err));
        OT_TRY(parse_list(p, *out, err));
    } else if (is_word(p, WORD_LIKE) || is_word(p, WORD_ILIKE)) {
        ot_expr *pattern;
        OT_TRY(next(p, err));
        if (p->t.kind != TOK_VALUE || p->t.value.type != OT_EXPR_STRING) {
            return expected(p, "a quoted pattern, like 'prod%'", err);
        }
        OT_TRY(parse_primary(p, &pattern, err));
        OT_TRY(node_create(p, t.word == WORD_LIKE ? OT_EXPR_LIKE : OT_EXPR_ILIKE, &t, left, pattern,
                           out, err));
    } else {
        return expected(p, "LIKE, ILIKE or IN after NOT", err);
    }
    return negated ? node_create(p, OT_EXPR_NOT, &t, *out, NULL, out, err) : OT_OK;
}

static bool is_comparison(const ot_expr_token *t)
{
    return t->kind == TOK_OP && t->op >= OT_EXPR_EQ && t->op <= OT_EXPR_GE;
}

static ot_rc parse_predicate(struct parser *p, ot_expr **out, ot_error *err)
{
    ot_expr *left;
    OT_TRY(parse_sum(p, &left, err));
    if (is_comparison(&p->t)) {
        ot_expr_token t = p->t;
        ot_expr *right;
        OT_TRY(next(p, err));
        OT_TRY(parse_sum(p, &right, err));
        if (is_comparison(&p->t)) {
            return ot_expr_fail(p->lx.file, p->t.line, p->t.col, err,
                                "comparisons can't be chained; join two with AND");
        }
        return node_create(p, t.op, &t, left, right, out, err);
    }
    if (is_word(p, WORD_IS)) {
        return parse_is_null(p, left, out, err);
    }
    if (p->t.kind == TOK_WORD && p->t.word != WORD_AND && p->t.word != WORD_OR) {
        return parse_match(p, left, out, err);
    }
    *out = left;
    return OT_OK;
}

static ot_rc parse_not(struct parser *p, ot_expr **out, ot_error *err)
{
    if (!is_word(p, WORD_NOT)) {
        return parse_predicate(p, out, err);
    }
    ot_expr_token t = p->t;
    ot_expr *kid;
    OT_TRY(enter(p, err));
    OT_TRY(next(p, err));
    OT_TRY(parse_not(p, &kid, err));
    p->depth--;
    return node_create(p, OT_EXPR_NOT, &t, kid, NULL, out, err);
}

static ot_rc parse_and(struct parser *p, ot_expr **out, ot_error *err)
{
    ot_expr *left;
    OT_TRY(parse_not(p, &left, err));
    while (is_word(p, WORD_AND)) {
        ot_expr_token t = p->t;
        ot_expr *right;
        OT_TRY(next(p, err));
        OT_TRY(parse_not(p, &right, err));
        OT_TRY(node_create(p, OT_EXPR_AND, &t, left, right, &left, err));
    }
    *out = left;
    return OT_OK;
}

static ot_rc parse_or(struct parser *p, ot_expr **out, ot_error *err)
{
    ot_expr *left;
    OT_TRY(enter(p, err));
    OT_TRY(parse_and(p, &left, err));
    while (is_word(p, WORD_OR)) {
        ot_expr_token t = p->t;
        ot_expr *right;
        OT_TRY(next(p, err));
        OT_TRY(parse_and(p, &right, err));
        OT_TRY(node_create(p, OT_EXPR_OR, &t, left, right, &left, err));
    }
    p->depth--;
    *out = left;
    return OT_OK;
}

ot_rc ot_expr_parse(ot_arena *arena, const char *text, size_t n, const ot_expr_origin *origin,
                    ot_expr **expr_out, ot_error *err)
{
    struct parser p = {
        .lx = {.arena = arena,
               .text = text,
               .n = n,
               .file = origin != NULL ? origin->file : NULL,
               .line = origin != NULL ? origin->line : 1,
               .col = origin != NULL ? origin->col : 1},
    };
    if (n > OT_EXPR_TEXT_MAX) {
        return ot_expr_fail(p.lx.file, p.lx.line, p.lx.col, err,
                            "the expression has %zu bytes; at most %d are allowed", n,
                            OT_EXPR_TEXT_MAX);
    }
    /* Every token has at least one byte of text and needs at most that and a NUL. */
    p.lx.pool = ot_arena_alloc(arena, 2 * n + 1);
    if (p.lx.pool == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "expression: its arena is full");
    }
    ot_expr *e;
    OT_TRY(next(&p, err));
    if (p.t.kind == TOK_END) {
        return ot_expr_fail(p.lx.file, p.t.line, p.t.col, err, "the expression is empty");
    }
    OT_TRY(parse_or(&p, &e, err));
    if (p.t.kind != TOK_END) {
        return expected(&p, "AND, OR, an operator or the end", err);
    }
    *expr_out = e;
    return OT_OK;
}

ot_rc ot_expr_names(const ot_expr *e, ot_expr_name_fn *fn, void *arg, ot_error *err)
{
    if (e->op == OT_EXPR_NAME) {
        return fn(arg, &e->name, err);
    }
    for (int i = 0; i < 2 && e->kid[i] != NULL; i++) {
        OT_TRY(ot_expr_names(e->kid[i], fn, arg, err));
    }
    for (size_t i = 0; i < e->n_list; i++) {
        OT_TRY(ot_expr_names(e->list[i], fn, arg, err));
    }
    return OT_OK;
}
