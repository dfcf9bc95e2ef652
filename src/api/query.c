#include "api/query.h"

#include "base/str.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

static size_t index_of(ot_slice key, const char *const *allowed)
{
    size_t i = 0;
    while (allowed != NULL && allowed[i] != NULL && !ot_slice_eq(key, allowed[i])) {
        i++;
    }
    return i;
}

static ot_rc unknown(ot_slice key, const char *const *allowed, ot_error *err)
{
    char name[64];
    size_t n = 0;
    snprintf(name, sizeof name, "%.*s", (int)OT_MIN(key.n, sizeof name - 1), key.p);
    while (allowed != NULL && allowed[n] != NULL) {
        n++;
    }
    const char *near = n > 0 ? ot_suggest(name, allowed, n) : NULL;
    return near != NULL ? ot_fail(err, OT_INVALID,
                                  "'%s' is not a parameter here; did you mean '%s'?", name, near)
                        : ot_fail(err, OT_INVALID, "'%s' is not a parameter here", name);
}

ot_rc ot_query_check(ot_slice query, const char *const *allowed, ot_error *err)
{
    uint64_t seen = 0;
    for (size_t at = 0; query.p != NULL && at < query.n;) {
        const char *amp = memchr(query.p + at, '&', query.n - at);
        size_t end = amp != NULL ? (size_t)(amp - query.p) : query.n;
        const char *eq = memchr(query.p + at, '=', end - at);
        ot_slice key = {.p = query.p + at, .n = (eq != NULL ? (size_t)(eq - query.p) : end) - at};
        at = end + 1;
        if (key.n == 0 && eq == NULL) {
            continue;
        }
        size_t i = index_of(key, allowed);
        if (allowed == NULL || allowed[i] == NULL || i >= 64) {
            return unknown(key, allowed, err);
        }
        if (seen & UINT64_C(1) << i) {
            return ot_fail(err, OT_INVALID, "'%s' is given twice", allowed[i]);
        }
        seen |= UINT64_C(1) << i;
    }
    return OT_OK;
}

ot_rc ot_query_text(ot_slice query, const char *name, ot_arena *arena, size_t max, const char **out,
                    ot_error *err)
{
    ot_slice v;
    ot_error ignored;
    ot_rc rc = ot_http_query_get(query, name, arena, &v, &ignored);
    if (rc == OT_NOT_FOUND) {
        return OT_OK;
    }
    if (rc != OT_OK) {
        return ot_fail(err, rc, "%s: %s", name, ignored.msg);
    }
    if (v.n > max) {
        return ot_fail(err, OT_INVALID, "%s has %zu bytes; at most %zu are accepted", name, v.n,
                       max);
    }
    json_t *text = json_stringn(v.p, v.n);
    if (text == NULL) {
        return ot_fail(err, OT_INVALID, "%s is not UTF-8", name);
    }
    json_decref(text);
    *out = v.p;
    return OT_OK;
}

ot_rc ot_query_i64(ot_slice query, const char *name, ot_arena *arena, int64_t min, int64_t max,
                   int64_t *out, ot_error *err)
{
    const char *text = NULL;
    OT_TRY(ot_query_text(query, name, arena, 64, &text, err));
    if (text == NULL) {
        return OT_OK;
    }
    int64_t x = 0;
    if (ot_parse_i64(text, &x, NULL) != OT_OK || x < min || x > max) {
        return ot_fail(err, OT_INVALID,
                       "%s is '%s'; a whole number from %" PRId64 " to %" PRId64 " is expected",
                       name, text, min, max);
    }
    *out = x;
    return OT_OK;
}

ot_rc ot_query_flag(ot_slice query, const char *name, ot_arena *arena, bool *out, ot_error *err)
{
    const char *text = NULL;
    OT_TRY(ot_query_text(query, name, arena, 64, &text, err));
    if (text == NULL) {
        return OT_OK;
    }
    bool yes = text[0] == 0 || strcmp(text, "1") == 0 || strcmp(text, "true") == 0;
    if (!yes && strcmp(text, "0") != 0 && strcmp(text, "false") != 0) {
        return ot_fail(err, OT_INVALID, "%s is '%s'; 1 or 0 is expected", name, text);
    }
    *out = yes;
    return OT_OK;
}
