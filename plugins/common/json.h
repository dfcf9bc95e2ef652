/* A small pull reader for the JSON that plug-ins are given (options, tiny models), so that a
 * plug-in needs no library of its own. RFC 8259; \u escapes give UTF-8; numbers are doubles.
 *
 *     pj j; pj_init(&j, text, n);
 *     if (pj_enter(&j, '{')) {
 *         char key[64];
 *         while (pj_key(&j, key, sizeof key)) { ... read or pj_skip the value ... }
 *     }
 *     if (!pj_end(&j)) { j.error says what, at byte j.at }
 *
 * After an error every call returns false. Depth is limited. One thread; the text outlives it. */
#ifndef OT_PLUGINS_COMMON_JSON_H
#define OT_PLUGINS_COMMON_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PJ_DEPTH_MAX 32

typedef struct pj {
    const char *text;
    size_t n, at;
    int depth;
    bool first[PJ_DEPTH_MAX + 1]; /* no element read yet at this depth */
    const char *error;            /* static text; NULL while all is well */
} pj;

static inline void pj_init(pj *j, const char *text, size_t n)
{
    memset(j, 0, sizeof *j);
    j->text = text;
    j->n = n;
}

static inline bool pj_fail(pj *j, const char *why)
{
    if (j->error == NULL) {
        j->error = why;
    }
    return false;
}

/* The next character that is not white space; 0 at the end. */
static inline char pj_peek(pj *j)
{
    while (j->error == NULL && j->at < j->n && j->text[j->at] != '\0' &&
           strchr(" \t\r\n", j->text[j->at]) != NULL) {
        j->at++;
    }
    return j->error == NULL && j->at < j->n ? j->text[j->at] : '\0';
}

/* Enters an object ('{') or an array ('['). */
static inline bool pj_enter(pj *j, char open)
{
    if (pj_peek(j) != open) {
        return pj_fail(j, open == '{' ? "expected an object" : "expected an array");
    }
    if (j->depth == PJ_DEPTH_MAX) {
        return pj_fail(j, "nested too deeply");
    }
    j->at++;
    j->first[++j->depth] = true;
    return true;
}

/* True when another element follows; false, having left it, at the end of the container. */
static inline bool pj_more(pj *j, char close)
{
    char c = pj_peek(j);
    if (j->error != NULL || j->depth == 0) {
        return false;
    }
    if (c == close) {
        j->at++;
        j->depth--;
        return false;
    }
    if (!j->first[j->depth]) {
        if (c != ',') {
            return pj_fail(j, "expected ',' or the end");
        }
        j->at++;
        c = pj_peek(j);
        if (c == close || c == ',') {
            return pj_fail(j, "a value is missing");
        }
    }
    j->first[j->depth] = false;
    return true;
}

static inline bool pj_item(pj *j)
{
    return pj_more(j, ']');
}

static inline int pj_hex4(const char *p)
{
    int v = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        int d = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
        if (d < 0) {
            return -1;
        }
        v = v * 16 + d;
    }
    return v;
}

static inline size_t pj_utf8(uint32_t u, char out[4])
{
    if (u < 0x80) {
        out[0] = (char)u;
        return 1;
    }
    if (u < 0x800) {
        out[0] = (char)(0xc0 | (u >> 6));
        out[1] = (char)(0x80 | (u & 0x3f));
        return 2;
    }
    if (u < 0x10000) {
        out[0] = (char)(0xe0 | (u >> 12));
        out[1] = (char)(0x80 | ((u >> 6) & 0x3f));
        out[2] = (char)(0x80 | (u & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | (u >> 18));
    out[1] = (char)(0x80 | ((u >> 12) & 0x3f));
    out[2] = (char)(0x80 | ((u >> 6) & 0x3f));
    out[3] = (char)(0x80 | (u & 0x3f));
    return 4;
}

/* One escape; j->at is after the backslash. Returns its bytes, 0 on error. */
static inline size_t pj_escape(pj *j, char out[4])
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char c = j->at < j->n ? j->text[j->at++] : '\0';
    const char *simple = c != '\0' ? strchr(from, c) : NULL;
    if (simple != NULL) {
        out[0] = to[simple - from];
        return 1;
    }
    int u = c == 'u' && j->n - j->at >= 4 ? pj_hex4(j->text + j->at) : -1;
    if (u <= 0) { /* U+0000 has no place in the C strings of plug-ins */
        pj_fail(j, "bad escape");
        return 0;
    }
    j->at += 4;
    uint32_t point = (uint32_t)u;
    if (point >= 0xd800 && point < 0xe000) {
        int low = j->n - j->at >= 6 && j->text[j->at] == '\\' && j->text[j->at + 1] == 'u'
                      ? pj_hex4(j->text + j->at + 2)
                      : -1;
        if (point >= 0xdc00 || low < 0xdc00 || low >= 0xe000) {
            pj_fail(j, "bad surrogate pair");
            return 0;
        }
        j->at += 6;
        point = 0x10000 + ((point - 0xd800) << 10) + ((uint32_t)low - 0xdc00);
    }
    return pj_utf8(point, out);
}

/* A string into buf, with NUL. `n_out` may be NULL. */
static inline bool pj_string(pj *j, char *buf, size_t cap, size_t *n_out)
{
    size_t len = 0;
    if (pj_peek(j) != '"') {
        return pj_fail(j, "expected a string");
    }
    j->at++;
    for (;;) {
        char c = j->at < j->n ? j->text[j->at++] : '\0', bytes[4] = {c, 0, 0, 0};
        size_t k = 1;
        if (c == '"') {
            break;
        }
        if ((unsigned char)c < 0x20) {
            return pj_fail(j, "a string does not end");
        }
        if (c == '\\' && (k = pj_escape(j, bytes)) == 0) {
            return false;
        }
        if (len + k >= cap) {
            return pj_fail(j, "a string is too long");
        }
        memcpy(buf + len, bytes, k);
        len += k;
    }
    buf[len] = '\0';
    if (n_out != NULL) {
        *n_out = len;
    }
    return true;
}

/* The next key of the object, and past its colon. */
static inline bool pj_key(pj *j, char *buf, size_t cap)
{
    if (!pj_more(j, '}') || !pj_string(j, buf, cap, NULL)) {
        return false;
    }
    if (pj_peek(j) != ':') {
        return pj_fail(j, "expected ':'");
    }
    j->at++;
    return true;
}

static inline bool pj_number(pj *j, double *out)
{
    char c = pj_peek(j), buf[64];
    size_t k = 0;
    if (c != '-' && (c < '0' || c > '9')) {
        return pj_fail(j, "expected a number");
    }
    while (j->at < j->n && k < sizeof buf - 1 && j->text[j->at] != '\0' &&
           strchr("+-.eE0123456789", j->text[j->at]) != NULL) {
        buf[k++] = j->text[j->at++];
    }
    buf[k] = '\0';
    char *end;
    *out = strtod(buf, &end);
    return *end == '\0' && end != buf ? true : pj_fail(j, "bad number");
}

static inline bool pj_int(pj *j, int64_t least, int64_t most, int64_t *out)
{
    double x;
    if (!pj_number(j, &x)) {
        return false;
    }
    if (!(x >= (double)least && x <= (double)most) || x != (double)(int64_t)x) {
        return pj_fail(j, "the number is not whole or out of range");
    }
    *out = (int64_t)x;
    return true;
}

static inline bool pj_word(pj *j, const char *word)
{
    size_t n = strlen(word);
    if (pj_peek(j) != word[0] || j->n - j->at < n || memcmp(j->text + j->at, word, n) != 0) {
        return false;
    }
    j->at += n;
    return true;
}

static inline bool pj_bool(pj *j, bool *out)
{
    *out = pj_word(j, "true");
    return *out || pj_word(j, "false") || pj_fail(j, "expected true or false");
}

/* Any value, checked as it passes. Recursion is bounded by PJ_DEPTH_MAX. */
static inline bool pj_skip(pj *j)
{
    char c = pj_peek(j), buf[4096];
    double x;
    if (c == '{' && pj_enter(j, '{')) {
        while (pj_key(j, buf, sizeof buf)) {
            pj_skip(j);
        }
    } else if (c == '[' && pj_enter(j, '[')) {
        while (pj_item(j)) {
            pj_skip(j);
        }
    } else if (c == '"') {
        pj_string(j, buf, sizeof buf, NULL);
    } else if (!pj_word(j, "true") && !pj_word(j, "false") && !pj_word(j, "null")) {
        pj_number(j, &x);
    }
    return j->error == NULL;
}

/* The text is at its end and nothing went wrong. */
static inline bool pj_end(pj *j)
{
    if (j->error == NULL && (j->depth != 0 || pj_peek(j) != '\0' || j->at < j->n)) {
        return pj_fail(j, "something follows the value");
    }
    return j->error == NULL;
}

#endif
