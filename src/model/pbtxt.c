#include "model/pbtxt.h"

#include "base/str.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef struct reader {
    const char *name, *p, *end, *line_start;
    unsigned line;
    unsigned n_fields, depth;
    ot_arena *arena;
} reader;

/* ---- characters */

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static bool is_number_part(char c)
{
    return is_word(c) || c == '.' || c == '+' || c == '-';
}

static void skip_space(reader *r)
{
    while (r->p < r->end) {
        if (*r->p == '\n') {
            r->line++;
            r->line_start = ++r->p;
        } else if (*r->p == '#') {
            while (r->p < r->end && *r->p != '\n') {
                r->p++;
            }
        } else if (*r->p == ' ' || *r->p == '\t' || *r->p == '\r') {
            r->p++;
        } else {
            return;
        }
    }
}

static char peek(reader *r)
{
    skip_space(r);
    return r->p < r->end ? *r->p : '\0';
}

static bool take(reader *r, char c)
{
    if (peek(r) != c || r->p == r->end) {
        return false;
    }
    r->p++;
    return true;
}

static unsigned column(const reader *r)
{
    return (unsigned)(r->p - r->line_start) + 1;
}

static ot_rc fail_here(reader *r, const char *expected, ot_error *err)
{
    if (peek(r) == '\0' && r->p == r->end) {
        return ot_fail(err, OT_INVALID, "%s:%u:%u: the file ends; expected %s", r->name, r->line,
                       column(r), expected);
    }
    unsigned char c = (unsigned char)*r->p;
    return ot_fail(err, OT_INVALID,
                   c >= 0x20 && c < 0x7f ? "%s:%u:%u: '%c'; expected %s"
                                         : "%s:%u:%u: byte 0x%02x; expected %s",
                   r->name, r->line, column(r), c, expected);
}

static ot_rc no_memory(const reader *r, ot_error *err)
{
    return ot_fail(err, OT_EXHAUSTED, "%s: out of memory", r->name);
}

/* ---- text in quotes */

static unsigned digit(char c)
{
    return c >= '0' && c <= '9'   ? (unsigned)(c - '0')
           : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
           : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A') + 10
                                  : 99;
}

static bool take_digits(reader *r, unsigned base, unsigned most, unsigned *out)
{
    unsigned n = 0;
    *out = 0;
    for (; n < most && r->p < r->end && digit(*r->p) < base; n++) {
        *out = *out * base + digit(*r->p++);
    }
    return n > 0;
}

/* Behind the backslash. */
static ot_rc read_escape(reader *r, char *out, ot_error *err)
{
    static const char from[] = "abfnrtv\\'\"?", to[] = "\a\b\f\n\r\t\v\\'\"?";
    unsigned x;
    char c = r->p < r->end ? *r->p : '\0';
    const char *at = c != '\0' ? strchr(from, c) : NULL;
    if (at != NULL) {
        r->p++;
        *out = to[at - from];
        return OT_OK;
    }
    if (c == 'x' || c == 'X') {
        r->p++;
    }
    if (!take_digits(r, c == 'x' || c == 'X' ? 16 : 8, c == 'x' || c == 'X' ? 2 : 3, &x) ||
        x == 0 || x > 255) {
        return fail_here(r, "an escape as in \"\\n\", \"\\x41\", \"\\101\", and no NUL", err);
    }
    *out = (char)x;
    return OT_OK;
}

static ot_rc read_quoted(reader *r, char *to, size_t *n, ot_error *err)
{
    char quote = *r->p++;
    while (r->p < r->end && *r->p != quote && *r->p != '\n' && *r->p != '\0') {
        char c = *r->p++;
        if (c == '\\') {
            OT_TRY(read_escape(r, &c, err));
        }
        to[(*n)++] = c;
    }
    if (r->p == r->end || *r->p != quote) {
        return ot_fail(err, OT_INVALID, "%s:%u:%u: the text is not closed on this line", r->name,
                       r->line, column(r));
    }
    r->p++;
    return OT_OK;
}

static ot_rc read_text(reader *r, ot_pbtxt *f, ot_error *err)
{
    size_t n = 0;
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    while (peek(r) == '"' || peek(r) == '\'') {
        const char *stop = memchr(r->p, '\n', (size_t)(r->end - r->p));
        /* Decoded it is no longer than what stands on the line. */
        if (!ot_str_reserve(&text, (size_t)((stop != NULL ? stop : r->end) - r->p))) {
            return no_memory(r, err);
        }
        n = text.len;
        OT_TRY(read_quoted(r, text.data, &n, err));
        text.len = n;
    }
    f->is_text = true;
    f->value = ot_arena_strndup(r->arena, text.data, n);
    return f->value != NULL ? OT_OK : no_memory(r, err);
}

/* ---- fields */

static ot_rc read_fields(reader *r, char close, ot_pbtxt **first_out, ot_error *err);

static ot_rc read_scalar(reader *r, ot_pbtxt *f, ot_error *err)
{
    char c = peek(r);
    if (c == '"' || c == '\'') {
        return read_text(r, f, err);
    }
    const char *start = r->p;
    while (r->p < r->end && is_number_part(*r->p)) {
        r->p++;
    }
    if (r->p == start) {
        return fail_here(r, "a number, a word or \"text\"", err);
    }
    f->value = ot_arena_strndup(r->arena, start, (size_t)(r->p - start));
    return f->value != NULL ? OT_OK : no_memory(r, err);
}

static ot_rc read_message(reader *r, ot_pbtxt *f, ot_error *err)
{
    char close = *r->p++ == '{' ? '}' : '>';
    if (r->depth == OT_PBTXT_DEPTH_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "%s:%u:%u: messages are nested deeper than %d", r->name,
                       r->line, column(r), OT_PBTXT_DEPTH_MAX);
    }
    r->depth++;
    f->is_message = true;
    f->value = "";
    OT_TRY(read_fields(r, close, &f->fields, err));
    r->depth--;
    return OT_OK;
}

static ot_rc read_value(reader *r, ot_pbtxt *f, bool colon, ot_error *err)
{
    char c = peek(r);
    f->line = r->line;
    f->column = column(r);
    if (c == '{' || c == '<') {
        return read_message(r, f, err);
    }
    return colon ? read_scalar(r, f, err) : fail_here(r, "':' or '{'", err);
}

static ot_rc new_field(reader *r, const char *name, ot_pbtxt **f_out, ot_error *err)
{
    if (r->n_fields++ == OT_PBTXT_FIELDS_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "%s: more than %d fields", r->name, OT_PBTXT_FIELDS_MAX);
    }
    ot_pbtxt *f = ot_arena_calloc(r->arena, 1, sizeof *f);
    if (f == NULL) {
        return no_memory(r, err);
    }
    f->name = name;
    *f_out = f;
    return OT_OK;
}

/* "[a, b]": the field as many times; `*tail` is where the next one goes. */
static ot_rc read_list(reader *r, const char *name, bool colon, ot_pbtxt ***tail, ot_error *err)
{
    r->p++;
    if (take(r, ']')) {
        return OT_OK;
    }
    for (;;) {
        ot_pbtxt *f;
        OT_TRY(new_field(r, name, &f, err));
        OT_TRY(read_value(r, f, colon, err));
        **tail = f;
        *tail = &f->next;
        if (take(r, ']')) {
            return OT_OK;
        }
        if (!take(r, ',')) {
            return fail_here(r, "',' or ']'", err);
        }
    }
}

static ot_rc read_field(reader *r, ot_pbtxt ***tail, ot_error *err)
{
    const char *start = r->p;
    unsigned line = r->line, at = column(r);
    while (r->p < r->end && is_word(*r->p)) {
        r->p++;
    }
    if (r->p == start || digit(*start) < 10) {
        r->p = start;
        return fail_here(r, "a field's name", err);
    }
    const char *name = ot_arena_strndup(r->arena, start, (size_t)(r->p - start));
    if (name == NULL) {
        return no_memory(r, err);
    }
    bool colon = take(r, ':');
    if (peek(r) == '[') {
        return read_list(r, name, colon, tail, err);
    }
    ot_pbtxt *f;
    OT_TRY(new_field(r, name, &f, err));
    OT_TRY(read_value(r, f, colon, err));
    f->line = line;
    f->column = at;
    **tail = f;
    *tail = &f->next;
    return OT_OK;
}

/* Up to `close`, or the end of the file for '\0'. */
static ot_rc read_fields(reader *r, char close, ot_pbtxt **first_out, ot_error *err)
{
    ot_pbtxt *first = NULL, **tail = &first;
    for (;;) {
        char c = peek(r);
        if (close != '\0' ? take(r, close) : r->p == r->end) {
            *first_out = first;
            return OT_OK;
        }
        if (first != NULL && (c == ',' || c == ';')) {
            r->p++;
            continue;
        }
        OT_TRY(read_field(r, &tail, err));
    }
}

ot_rc ot_pbtxt_parse(const char *name, const char *text, size_t n, ot_arena *arena,
                     ot_pbtxt **first_out, ot_error *err)
{
    if (n > OT_PBTXT_BYTES_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "%s: %zu bytes; the limit is %u", name, n,
                       OT_PBTXT_BYTES_MAX);
    }
    reader r = {
        .name = name, .p = text, .end = text + n, .line_start = text, .line = 1, .arena = arena};
    return read_fields(&r, '\0', first_out, err);
}

/* ---- what a field says */

ot_rc ot_pbtxt_int(const char *name, const ot_pbtxt *f, int64_t min, int64_t max, int64_t *out,
                   ot_error *err)
{
    char *end;
    bool hex = f->value[0] == '0' && (f->value[1] == 'x' || f->value[1] == 'X');
    errno = 0;
    long long x = strtoll(f->value, &end, hex ? 16 : 10);
    if (f->is_text || f->is_message || end == f->value || *end != '\0' || errno != 0 || x < min ||
        x > max) {
        return ot_pbtxt_fail(err, name, f, "%s is '%.40s'; expected a whole number of %lld to %lld",
                             f->name, f->value, (long long)min, (long long)max);
    }
    *out = x;
    return OT_OK;
}

ot_rc ot_pbtxt_bool(const char *name, const ot_pbtxt *f, bool *out, ot_error *err)
{
    bool yes = strcmp(f->value, "true") == 0;
    if (f->is_text || (!yes && strcmp(f->value, "false") != 0)) {
        return ot_pbtxt_fail(err, name, f, "%s is '%.40s'; expected true or false", f->name,
                             f->value);
    }
    *out = yes;
    return OT_OK;
}

ot_rc ot_pbtxt_text(const char *name, const ot_pbtxt *f, const char **out, ot_error *err)
{
    if (!f->is_text) {
        return ot_pbtxt_fail(err, name, f, "%s is %.40s; expected \"text\"", f->name,
                             f->is_message ? "a message" : f->value);
    }
    *out = f->value;
    return OT_OK;
}

ot_rc ot_pbtxt_message(const char *name, const ot_pbtxt *f, ot_error *err)
{
    return f->is_message
               ? OT_OK
               : ot_pbtxt_fail(err, name, f, "%s is '%.40s'; expected a message: %s {...}", f->name,
                               f->value, f->name);
}
