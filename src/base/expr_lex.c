#include "base/expr_internal.h"
#include "base/str.h"

#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define NUMBER_MAX 64

ot_rc ot_expr_fail(const char *file, unsigned line, unsigned col, ot_error *err, const char *fmt,
                   ...)
{
    char msg[OT_ERROR_MSG_MAX - 64];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    return ot_fail(err, OT_INVALID, "%s%s%u:%u: %s", file != NULL ? file : "",
                   file != NULL ? ":" : "", line, col, msg);
}

/* -1 at the end. */
static int peek(const ot_expr_lexer *lx, size_t ahead)
{
    return lx->at + ahead < lx->n ? (unsigned char)lx->text[lx->at + ahead] : -1;
}

static void advance(ot_expr_lexer *lx, size_t k)
{
    for (; k > 0; k--) {
        unsigned char c = (unsigned char)lx->text[lx->at++];
        if (c == '\n') {
            lx->line++;
            lx->col = 1;
        } else if ((c & 0xc0) != 0x80) {
            lx->col++;
        }
    }
}

static bool is_name_char(int c)
{
    return c >= 0 && c < 128 && (isalnum(c) || c == '_');
}

/* A quoted run; the quote doubled stands for itself. */
static ot_rc lex_quoted(ot_expr_lexer *lx, char *out, size_t *len_out, ot_error *err)
{
    unsigned line = lx->line, col = lx->col;
    int quote = peek(lx, 0);
    size_t n = 0;
    advance(lx, 1);
    for (;;) {
        int c = peek(lx, 0);
        if (c < 0) {
            return ot_expr_fail(lx->file, line, col, err, "this %c is never closed", quote);
        }
        if (c == 0) {
            return ot_expr_fail(lx->file, lx->line, lx->col, err, "a NUL byte is not allowed");
        }
        if (c == quote) {
            if (peek(lx, 1) != quote) {
                advance(lx, 1);
                break;
            }
            advance(lx, 1);
        }
        out[n++] = (char)c;
        advance(lx, 1);
    }
    out[n] = 0;
    *len_out = n;
    return OT_OK;
}

static const struct {
    const char *text;
    ot_expr_token_kind kind;
    ot_expr_word word;
    ot_expr_value value;
} keywords[] = {
    {.text = "and", .kind = TOK_WORD, .word = WORD_AND},
    {.text = "or", .kind = TOK_WORD, .word = WORD_OR},
    {.text = "not", .kind = TOK_WORD, .word = WORD_NOT},
    {.text = "like", .kind = TOK_WORD, .word = WORD_LIKE},
    {.text = "ilike", .kind = TOK_WORD, .word = WORD_ILIKE},
    {.text = "in", .kind = TOK_WORD, .word = WORD_IN},
    {.text = "is", .kind = TOK_WORD, .word = WORD_IS},
    {.text = "true", .kind = TOK_VALUE, .value = {.type = OT_EXPR_BOOL, .b = true}},
    {.text = "false", .kind = TOK_VALUE, .value = {.type = OT_EXPR_BOOL}},
    {.text = "null", .kind = TOK_VALUE, .value = {.type = OT_EXPR_NULL}},
};

/* segment { "." segment }; segments after the first may start with a digit or be quoted. */
static ot_rc lex_name(ot_expr_lexer *lx, ot_expr_token *t, ot_error *err)
{
    char *out = lx->pool + lx->pool_used;
    size_t n = 0, dots = 0;
    bool quoted = false;
    for (;;) {
        int c = peek(lx, 0);
        size_t had = n;
        if (c == '`' || (c == '"' && dots > 0)) {
            size_t k;
            OT_TRY(lex_quoted(lx, out + n, &k, err));
            n += k;
            quoted = true;
        } else {
            while (is_name_char(peek(lx, 0))) {
                out[n++] = (char)peek(lx, 0);
                advance(lx, 1);
            }
        }
        if (n == had) {
            return ot_expr_fail(lx->file, lx->line, lx->col, err,
                                "a name is missing after '%.*s'; quote unusual ones: `my key`",
                                (int)OT_MIN(n, (size_t)60), out);
        }
        if (peek(lx, 0) != '.') {
            break;
        }
        advance(lx, 1);
        t->name.key = dots++ == 0 ? n + 1 : t->name.key;
        out[n++] = '.';
    }
    out[n] = 0;
    lx->pool_used += n + 1;
    t->kind = TOK_NAME;
    t->name.text = out;
    t->name.len = n;
    t->name.key = dots == 0 ? n : t->name.key;
    for (size_t i = 0; dots == 0 && !quoted && i < OT_COUNT(keywords); i++) {
        if (strcasecmp(out, keywords[i].text) == 0) {
            t->kind = keywords[i].kind;
            t->word = keywords[i].word;
            t->value = keywords[i].value;
        }
    }
    return OT_OK;
}

static size_t digits(const ot_expr_lexer *lx, size_t k)
{
    while (peek(lx, k) >= '0' && peek(lx, k) <= '9') {
        k++;
    }
    return k;
}

static ot_rc lex_number(ot_expr_lexer *lx, ot_expr_token *t, ot_error *err)
{
    size_t k = digits(lx, 0);
    if (peek(lx, k) == '.') {
        k = digits(lx, k + 1);
    }
    if (peek(lx, k) == 'e' || peek(lx, k) == 'E') {
        size_t sign = peek(lx, k + 1) == '+' || peek(lx, k + 1) == '-';
        size_t end = digits(lx, k + 1 + sign);
        k = end > k + 1 + sign ? end : k;
    }
    size_t unit = 0;
    if (peek(lx, k) == '%') {
        unit = 1;
    } else {
        while (is_name_char(peek(lx, k + unit))) {
            unit++;
        }
    }
    char buf[NUMBER_MAX];
    if (k + unit >= sizeof buf) {
        return ot_expr_fail(lx->file, t->line, t->col, err, "a number longer than %d characters",
                            NUMBER_MAX - 1);
    }
    memcpy(buf, lx->text + lx->at, k + unit);
    buf[k + unit] = 0;
    char first_unit = unit > 0 ? buf[k] : 0;
    buf[k] = 0;
    double x = strtod(buf, NULL);
    buf[k] = first_unit;
    t->kind = TOK_VALUE;
    t->value = ot_expr_number(x);
    if (first_unit == '%') {
        t->value.x = x / 100;
    } else if (unit > 0) {
        /* The unit alone, so that 1e3s and .5h work as plain numbers do. */
        char one[NUMBER_MAX + 1];
        int64_t us;
        snprintf(one, sizeof one, "1%s", buf + k);
        if (ot_parse_duration_us(one, &us, NULL) != OT_OK) {
            return ot_expr_fail(lx->file, t->line, t->col, err,
                                "'%s' has no known unit; use %%, us, ms, s, min, h, d or w", buf);
        }
        t->value = ot_expr_duration(x * (double)us);
    }
    if (!isfinite(t->value.x)) {
        return ot_expr_fail(lx->file, t->line, t->col, err, "'%s' is too large", buf);
    }
    advance(lx, k + unit);
    return OT_OK;
}

static ot_rc lex_operator(ot_expr_lexer *lx, ot_expr_token *t, ot_error *err)
{
    static const struct {
        char text[3];
        ot_expr_token_kind kind;
        ot_expr_op op;
    } table[] = {
        {"==", TOK_OP, OT_EXPR_EQ}, {"!=", TOK_OP, OT_EXPR_NE}, {"<>", TOK_OP, OT_EXPR_NE},
        {"<=", TOK_OP, OT_EXPR_LE}, {">=", TOK_OP, OT_EXPR_GE}, {"=", TOK_OP, OT_EXPR_EQ},
        {"<", TOK_OP, OT_EXPR_LT},  {">", TOK_OP, OT_EXPR_GT},  {"+", TOK_OP, OT_EXPR_ADD},
        {"-", TOK_OP, OT_EXPR_SUB}, {"*", TOK_OP, OT_EXPR_MUL}, {"/", TOK_OP, OT_EXPR_DIV},
        {"(", TOK_OPEN, 0},         {")", TOK_CLOSE, 0},        {",", TOK_COMMA, 0},
    };
    for (size_t i = 0; i < OT_COUNT(table); i++) {
        size_t k = strlen(table[i].text);
        if (lx->n - lx->at >= k && memcmp(lx->text + lx->at, table[i].text, k) == 0) {
            t->kind = table[i].kind;
            t->op = table[i].op;
            advance(lx, k);
            return OT_OK;
        }
    }
    int c = peek(lx, 0);
    if (c > 32 && c < 127) {
        return ot_expr_fail(lx->file, t->line, t->col, err, "'%c' has no meaning here", c);
    }
    return ot_expr_fail(lx->file, t->line, t->col, err, "byte 0x%02x has no meaning here", c);
}

ot_rc ot_expr_lex(ot_expr_lexer *lx, ot_expr_token *out, ot_error *err)
{
    while (peek(lx, 0) >= 0 && strchr(" \t\r\n", peek(lx, 0)) != NULL && peek(lx, 0) != 0) {
        advance(lx, 1);
    }
    ot_expr_token t = {.kind = TOK_END, .at = lx->at, .line = lx->line, .col = lx->col};
    int c = peek(lx, 0);
    if (c >= 0) {
        bool number = (c >= '0' && c <= '9') || (c == '.' && digits(lx, 1) > 1);
        if (number) {
            OT_TRY(lex_number(lx, &t, err));
        } else if (c == '\'' || c == '"') {
            char *s = lx->pool + lx->pool_used;
            size_t k;
            OT_TRY(lex_quoted(lx, s, &k, err));
            lx->pool_used += k + 1;
            t.kind = TOK_VALUE;
            t.value = ot_expr_string(s, k);
        } else if (c == '`' || (is_name_char(c) && c != 0)) {
            OT_TRY(lex_name(lx, &t, err));
        } else {
            OT_TRY(lex_operator(lx, &t, err));
        }
    }
    t.len = lx->at - t.at;
    t.name.line = t.line;
    t.name.col = t.col;
    *out = t;
    return OT_OK;
}
