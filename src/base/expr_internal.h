/* Between the files of the expression grammar: the lexer (expr_lex.c) and its user (expr.c). */
#ifndef OT_BASE_EXPR_INTERNAL_H
#define OT_BASE_EXPR_INTERNAL_H

#include "base/expr.h"

typedef enum ot_expr_token_kind {
    TOK_END,
    TOK_VALUE, /* number, duration, string, TRUE, FALSE, NULL: `value` */
    TOK_NAME,  /* `name` */
    TOK_OPEN,
    TOK_CLOSE,
    TOK_COMMA,
    TOK_OP,   /* `op`: a comparison or + - * / */
    TOK_WORD, /* `word`: a keyword of several uses */
} ot_expr_token_kind;

typedef enum ot_expr_word {
    WORD_AND,
    WORD_OR,
    WORD_NOT,
    WORD_LIKE,
    WORD_ILIKE,
    WORD_IN,
    WORD_IS,
} ot_expr_word;

typedef struct ot_expr_token {
    ot_expr_token_kind kind;
    size_t at, len; /* in the text, for messages */
    unsigned line, col;
    ot_expr_value value;
    ot_expr_name name;
    ot_expr_op op;
    ot_expr_word word;
} ot_expr_token;

typedef struct ot_expr_lexer {
    ot_arena *arena;
    char *pool; /* the texts of all tokens; no longer than the text and a NUL for each token */
    size_t pool_used;
    const char *text;
    size_t n, at;
    const char *file;
    unsigned line, col; /* of `at` */
} ot_expr_lexer;

ot_rc ot_expr_lex(ot_expr_lexer *lx, ot_expr_token *out, ot_error *err) OT_CHECKED;
/* "file:line:col: message" with OT_INVALID. */
ot_rc ot_expr_fail(const char *file, unsigned line, unsigned col, ot_error *err, const char *fmt,
                   ...) __attribute__((format(printf, 5, 6)));

#endif
