#include "codec/json_scan.h"
#include "codec/decimal.h"
#include "codec/json_space.h"

#include <math.h>
#include <stdio.h>

bool ot_text_is(ot_text t, const char *z)
{
    return strlen(z) == t.n && memcmp(t.p, z, t.n) == 0;
}

void ot_json_scan_init(ot_json_scan *s, const char *p, size_t n)
{
    static const char nothing[1];
    *s = (ot_json_scan){.begin = n != 0 ? p : nothing, .first = true};
    s->at = s->begin;
    s->end = s->begin + n;
}

ot_rc ot_json_fail(const ot_json_scan *s, ot_error *err, const char *fmt, ...)
{
    if (err != NULL) {
        char msg[OT_ERROR_MSG_MAX];
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(msg, sizeof msg, fmt, ap);
        va_end(ap);
        ot_error_set(err, OT_INVALID, OT_WHERE, "JSON at byte %zu: %s", (size_t)(s->at - s->begin),
                     msg);
    }
    return OT_INVALID;
}

ot_json_kind ot_json_peek(ot_json_scan *s)
{
    json_space(s);
    if (s->at == s->end) {
        return OT_JSON_END;
    }
    switch (*s->at) {
    case '{':
        return OT_JSON_OBJECT;
    case '[':
        return OT_JSON_ARRAY;
    case '"':
        return OT_JSON_STRING;
    case 't':
    case 'f':
        return OT_JSON_BOOL;
    case 'n':
        return OT_JSON_NULL;
    case '-':
    case 'N':
    case 'I':
        return OT_JSON_NUMBER;
    default:
        return is_digit(*s->at) ? OT_JSON_NUMBER : OT_JSON_BAD;
    }
}

const char *ot_json_kind_name(ot_json_kind k)
{
    static const char *const names[] = {
        [OT_JSON_END] = "the end of the text",
        [OT_JSON_OBJECT] = "an object",
        [OT_JSON_ARRAY] = "an array",
        [OT_JSON_STRING] = "a string",
        [OT_JSON_NUMBER] = "a number",
        [OT_JSON_BOOL] = "true or false",
        [OT_JSON_NULL] = "null",
        [OT_JSON_BAD] = "something that is no JSON value",
    };
    return names[k];
}

static ot_rc unexpected(ot_json_scan *s, const char *wanted, ot_error *err)
{
    return ot_json_fail(s, err, "%s is expected here, not %s", wanted,
                        ot_json_kind_name(ot_json_peek(s)));
}

static ot_rc enter(ot_json_scan *s, ot_json_kind kind, ot_error *err)
{
    if (ot_json_peek(s) != kind) {
        return unexpected(s, ot_json_kind_name(kind), err);
    }
    if (s->depth == OT_JSON_DEPTH_MAX) {
        return ot_json_fail(s, err, "nested deeper than %d levels", OT_JSON_DEPTH_MAX);
    }
    s->depth++;
    s->at++;
    s->first = true;
    return OT_OK;
}

/* The comma before an item, or the closing bracket. */
static ot_rc step(ot_json_scan *s, char close, bool *more_out, ot_error *err)
{
    json_space(s);
    if (s->at < s->end && *s->at == close) {
        s->at++;
        s->depth--;
        s->first = false; /* the enclosing object or array has read at least this */
        *more_out = false;
        return OT_OK;
    }
    if (!s->first) {
        if (s->at == s->end || *s->at != ',') {
            return ot_json_fail(s, err, "',' or '%c' is expected here", close);
        }
        s->at++;
    }
    s->first = false;
    *more_out = true;
    return OT_OK;
}

ot_rc ot_json_enter_object(ot_json_scan *s, ot_error *err)
{
    return enter(s, OT_JSON_OBJECT, err);
}

ot_rc ot_json_enter_array(ot_json_scan *s, ot_error *err)
{
    return enter(s, OT_JSON_ARRAY, err);
}

ot_rc ot_json_next_item(ot_json_scan *s, bool *more_out, ot_error *err)
{
    return step(s, ']', more_out, err);
}

ot_rc ot_json_next_key(ot_json_scan *s, ot_arena *arena, ot_text *key_out, bool *more_out,
                       ot_error *err)
{
    bool more;
    OT_TRY(step(s, '}', &more, err));
    if (more) {
        OT_TRY(ot_json_string(s, arena, key_out, err));
        json_space(s);
        if (s->at == s->end || *s->at != ':') {
            return ot_json_fail(s, err, "':' is expected after a key");
        }
        s->at++;
    }
    *more_out = more;
    return OT_OK;
}

bool ot_utf8_valid(const char *p, size_t n)
{
    const unsigned char *s = (const unsigned char *)p, *end = s + n;
    while (s < end) {
        if (*s < 0x80) {
            s++;
            continue;
        }
        int extra = *s >= 0xc2 && *s <= 0xdf   ? 1
                    : (*s & 0xf0) == 0xe0      ? 2
                    : *s >= 0xf0 && *s <= 0xf4 ? 3
                                               : 0;
        if (extra == 0 || end - s <= extra) {
            return false;
        }
        /* Overlong forms, surrogates and code points past U+10FFFF (Unicode 15, table 3-7). */
        unsigned char least = *s == 0xe0 ? 0xa0 : *s == 0xf0 ? 0x90 : 0x80;
        unsigned char most = *s == 0xed ? 0x9f : *s == 0xf4 ? 0x8f : 0xbf;
        if (s[1] < least || s[1] > most) {
            return false;
        }
        for (int i = 2; i <= extra; i++) {
            if ((s[i] & 0xc0) != 0x80) {
                return false;
            }
        }
        s += extra + 1;
    }
    return true;
}

/* Finds the closing quote; s->at is behind the opening one and stays there. */
static ot_rc string_end(ot_json_scan *s, const char **close_out, bool *escapes_out, ot_error *err)
{
    unsigned char high = 0;
    bool escapes = false;
    const char *p = s->at;
    for (; p < s->end && *p != '"'; p++) {
        high |= (unsigned char)*p;
        if ((unsigned char)*p < 0x20) {
            s->at = p;
            return ot_json_fail(s, err, "control character 0x%02x in a string; write it as \\u%04x",
                                (unsigned char)*p, (unsigned char)*p);
        }
        if (*p == '\\') {
            escapes = true;
            if (++p == s->end) {
                break;
            }
        }
    }
    if (p >= s->end) {
        s->at--;
        return ot_json_fail(s, err, "this string has no end");
    }
    if (high >= 0x80 && !ot_utf8_valid(s->at, (size_t)(p - s->at))) {
        return ot_json_fail(s, err, "a string holds bytes that are not UTF-8");
    }
    *close_out = p;
    *escapes_out = escapes;
    return OT_OK;
}

static int hex4(const char *p, const char *end)
{
    if (end - p < 4) {
        return -1;
    }
    int v = 0;
    for (int i = 0; i < 4; i++) {
        char c = (char)(p[i] | 0x20);
        int d = is_digit(p[i]) ? p[i] - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (d < 0) {
            return -1;
        }
        v = v << 4 | d;
    }
    return v;
}

static char *put_utf8(char *o, uint32_t c)
{
    if (c < 0x80) {
        *o++ = (char)c;
    } else if (c < 0x800) {
        *o++ = (char)(0xc0 | c >> 6);
        *o++ = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *o++ = (char)(0xe0 | c >> 12);
        *o++ = (char)(0x80 | (c >> 6 & 0x3f));
        *o++ = (char)(0x80 | (c & 0x3f));
    } else {
        *o++ = (char)(0xf0 | c >> 18);
        *o++ = (char)(0x80 | (c >> 12 & 0x3f));
        *o++ = (char)(0x80 | (c >> 6 & 0x3f));
        *o++ = (char)(0x80 | (c & 0x3f));
    }
    return o;
}

/* After "\u": one code point, perhaps of two escapes (RFC 8259, section 7). */
static ot_rc escape_u(ot_json_scan *s, const char **p_io, const char *close, uint32_t *c_out,
                      ot_error *err)
{
    const char *p = *p_io;
    int u = hex4(p, close);
    s->at = p;
    if (u < 0) {
        return ot_json_fail(s, err, "\\u needs four hexadecimal digits");
    }
    p += 4;
    uint32_t c = (uint32_t)u;
    if (c >= 0xd800 && c <= 0xdbff && close - p >= 6 && p[0] == '\\' && p[1] == 'u') {
        int low = hex4(p + 2, close);
        if (low >= 0xdc00 && low <= 0xdfff) {
            c = 0x10000 + ((c - 0xd800) << 10) + ((uint32_t)low - 0xdc00);
            p += 6;
        }
    }
    if (c >= 0xd800 && c <= 0xdfff) {
        return ot_json_fail(s, err, "\\u%04x is half of a surrogate pair", c);
    }
    *p_io = p;
    *c_out = c;
    return OT_OK;
}

/* Unescapes up to `close` into `o`, which has room for the source's length. */
static ot_rc unescape(ot_json_scan *s, const char *close, char *o, size_t *n_out, ot_error *err)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char *start = o;
    for (const char *p = s->at; p < close;) {
        if (*p != '\\') {
            *o++ = *p++;
            continue;
        }
        p++;
        const char *hit = memchr(from, *p, sizeof from - 1);
        if (hit != NULL) {
            *o++ = to[hit - from];
            p++;
        } else if (*p == 'u') {
            p++;
            uint32_t c = 0;
            OT_TRY(escape_u(s, &p, close, &c, err));
            o = put_utf8(o, c);
        } else {
            s->at = p - 1;
            return ot_json_fail(s, err, "a backslash must be followed by one of \"\\/bfnrtu");
        }
    }
    *n_out = (size_t)(o - start);
    return OT_OK;
}

static ot_rc no_memory(ot_error *err)
{
    return ot_fail(err, OT_EXHAUSTED, "the request needs more memory than its limit allows");
}

static ot_rc read_string(ot_json_scan *s, ot_arena *arena, bool copy, ot_text *out, ot_error *err)
{
    if (ot_json_peek(s) != OT_JSON_STRING) {
        return unexpected(s, "a string", err);
    }
    s->at++;
    const char *close;
    bool escapes;
    OT_TRY(string_end(s, &close, &escapes, err));
    ot_text t = {s->at, (size_t)(close - s->at)};
    if (escapes || copy) {
        char *o = ot_arena_alloc(arena, t.n + 1);
        if (o == NULL) {
            return no_memory(err);
        }
        OT_TRY(unescape(s, close, o, &t.n, err));
        o[t.n] = 0;
        t.p = o;
    }
    s->at = close + 1;
    *out = t;
    return OT_OK;
}

ot_rc json_string_into(ot_json_scan *s, char *o, size_t *n_out, ot_error *err)
{
    if (ot_json_peek(s) != OT_JSON_STRING) {
        return unexpected(s, "a string", err);
    }
    s->at++;
    const char *close;
    bool escapes;
    OT_TRY(string_end(s, &close, &escapes, err));
    OT_TRY(unescape(s, close, o, n_out, err));
    s->at = close + 1;
    return OT_OK;
}

ot_rc ot_json_string(ot_json_scan *s, ot_arena *arena, ot_text *out, ot_error *err)
{
    return read_string(s, arena, false, out, err);
}

ot_rc ot_json_string_z(ot_json_scan *s, ot_arena *arena, const char **out, ot_error *err)
{
    ot_text t;
    ot_json_scan before = *s;
    OT_TRY(read_string(s, arena, true, &t, err));
    if (memchr(t.p, 0, t.n) != NULL) {
        *s = before;
        return ot_json_fail(s, err, "a NUL character is not allowed in this string");
    }
    *out = t.p;
    return OT_OK;
}

bool json_special(ot_json_scan *s, double *x_out)
{
    static const struct {
        const char *token;
        size_t n;
        double x;
    } t[] = {{"NaN", 3, (double)NAN},
             {"Infinity", 8, (double)INFINITY},
             {"-Infinity", 9, -(double)INFINITY}};
    for (size_t i = 0; i < OT_COUNT(t); i++) {
        if ((size_t)(s->end - s->at) >= t[i].n && memcmp(s->at, t[i].token, t[i].n) == 0) {
            s->at += t[i].n;
            *x_out = t[i].x;
            return true;
        }
    }
    return false;
}

ot_rc ot_json_number_read(ot_json_scan *s, ot_json_number *out, ot_error *err)
{
    if (ot_json_peek(s) != OT_JSON_NUMBER) {
        return unexpected(s, "a number", err);
    }
    ot_json_number v = {0};
    ot_decimal d;
    const char *after = decimal_scan(s->at, s->end, &d);
    if (after != NULL) {
        v.f64 = decimal_f64(&d);
        uint64_t m;
        if (d.plain && decimal_u64(&d, &m) && (!d.negative || m <= UINT64_C(1) << 63)) {
            v.is_int = true;
            v.negative = d.negative && m != 0;
            v.u64 = v.negative ? 0 : m;
            v.i64 = v.negative ? (int64_t)(0 - m) : m <= INT64_MAX ? (int64_t)m : 0;
        }
        s->at = after;
    } else if (!json_special(s, &v.f64)) {
        return ot_json_fail(s, err, "this is not a number");
    }
    *out = v;
    return OT_OK;
}

static bool take(ot_json_scan *s, const char *word)
{
    size_t n = strlen(word);
    if ((size_t)(s->end - s->at) >= n && memcmp(s->at, word, n) == 0) {
        s->at += n;
        return true;
    }
    return false;
}

ot_rc ot_json_bool_read(ot_json_scan *s, bool *out, ot_error *err)
{
    json_space(s);
    if (take(s, "true")) {
        *out = true;
        return OT_OK;
    }
    if (take(s, "false")) {
        *out = false;
        return OT_OK;
    }
    return ot_json_peek(s) == OT_JSON_BOOL ? ot_json_fail(s, err, "this is neither true nor false")
                                           : unexpected(s, "true or false", err);
}

ot_rc ot_json_null_read(ot_json_scan *s, ot_error *err)
{
    json_space(s);
    return take(s, "null") ? OT_OK : ot_json_fail(s, err, "null is expected here");
}

static ot_rc skip_string(ot_json_scan *s, ot_error *err)
{
    s->at++;
    const char *close;
    bool escapes;
    OT_TRY(string_end(s, &close, &escapes, err));
    char buf[8];
    size_t n;
    /* One escape at a time through the same checks, without keeping the text. */
    while (escapes && s->at < close) {
        const char *p = memchr(s->at, '\\', (size_t)(close - s->at));
        if (p == NULL) {
            break;
        }
        size_t len = p[1] != 'u' ? 2 : close - p >= 12 && p[6] == '\\' && p[7] == 'u' ? 12 : 6;
        s->at = p;
        const char *stop = (size_t)(close - p) < len ? close : p + len;
        if (len == 12) {
            int first = hex4(p + 2, close);
            stop = first >= 0xd800 && first <= 0xdbff ? stop : p + 6;
        }
        OT_TRY(unescape(s, stop, buf, &n, err));
        s->at = stop;
    }
    s->at = close + 1;
    return OT_OK;
}

static ot_rc skip_scalar(ot_json_scan *s, ot_json_kind kind, ot_error *err)
{
    ot_json_number number;
    bool b;
    switch (kind) {
    case OT_JSON_STRING:
        return skip_string(s, err);
    case OT_JSON_NUMBER:
        return ot_json_number_read(s, &number, err);
    case OT_JSON_BOOL:
        return ot_json_bool_read(s, &b, err);
    case OT_JSON_NULL:
        return ot_json_null_read(s, err);
    default:
        return unexpected(s, "a value", err);
    }
}

ot_rc ot_json_skip(ot_json_scan *s, ot_error *err)
{
    uint64_t objects = 0; /* bit i: level i is an object; OT_JSON_DEPTH_MAX is 64 */
    int base = s->depth;
    for (;;) {
        ot_json_kind kind = ot_json_peek(s);
        if (kind == OT_JSON_OBJECT || kind == OT_JSON_ARRAY) {
            OT_TRY(enter(s, kind, err));
            uint64_t bit = UINT64_C(1) << (s->depth - 1);
            objects = kind == OT_JSON_OBJECT ? objects | bit : objects & ~bit;
        } else {
            OT_TRY(skip_scalar(s, kind, err));
            s->first = false;
        }
        bool more = false;
        while (!more && s->depth > base) {
            bool object = (objects >> (s->depth - 1) & 1) != 0;
            OT_TRY(step(s, object ? '}' : ']', &more, err));
            if (more && object) {
                if (ot_json_peek(s) != OT_JSON_STRING) {
                    return unexpected(s, "a key", err);
                }
                OT_TRY(skip_string(s, err));
                json_space(s);
                if (s->at == s->end || *s->at != ':') {
                    return ot_json_fail(s, err, "':' is expected after a key");
                }
                s->at++;
            }
        }
        if (s->depth == base) {
            return OT_OK;
        }
    }
}

ot_rc ot_json_finish(ot_json_scan *s, ot_error *err)
{
    json_space(s);
    return s->at == s->end ? OT_OK : ot_json_fail(s, err, "text after the end of the JSON value");
}
