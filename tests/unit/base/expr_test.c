#include "base/expr.h"

#include "base/mem.h"
#include "base/str.h"
#include "tap.h"

#include <inttypes.h>

/* Names with fixed types and values; those that end in `.none` are known and have no value. */
static const struct {
    const char *name;
    ot_expr_type type;
    double x;
    const char *s;
} names[] = {
    {"accuracy.degraded", OT_EXPR_BOOL, 1, NULL},
    {"paused", OT_EXPR_BOOL, 0, NULL},
    {"labels.new", OT_EXPR_NUMBER, 640, NULL},
    {"metrics.accuracy", OT_EXPR_NUMBER, 0.93, NULL},
    {"metrics.val loss", OT_EXPR_NUMBER, 0.5, NULL},
    {"metrics.99", OT_EXPR_NUMBER, 99, NULL},
    {"run.age", OT_EXPR_DURATION, 5400e6, NULL},
    {"tags.env", OT_EXPR_STRING, 0, "prod-eu"},
    {"tags.in", OT_EXPR_STRING, 0, "x"},
    {"tags.mlflow.user", OT_EXPR_STRING, 0, "anna"},
    {"params.my key", OT_EXPR_STRING, 0, "it's"},
    {"attributes.status", OT_EXPR_STRING, 0, "FINISHED"},
    {"bool.none", OT_EXPR_BOOL, 0, NULL},
    {"number.none", OT_EXPR_NUMBER, 0, NULL},
    {"text.none", OT_EXPR_STRING, 0, NULL},
    {"nan", OT_EXPR_NUMBER, 0, NULL},
};

static ot_rc resolve(void *arg, ot_expr_name *name, ot_expr_type *type_out, ot_error *err)
{
    (void)arg;
    for (size_t i = 0; i < OT_COUNT(names); i++) {
        if (strcmp(names[i].name, name->text) == 0) {
            name->slot = i;
            *type_out = names[i].type;
            return OT_OK;
        }
    }
    return ot_fail(err, OT_NOT_FOUND, "'%s' is not known here", name->text);
}

static ot_rc lookup(void *arg, const ot_expr_name *name, ot_expr_value *out, ot_error *err)
{
    (void)arg;
    (void)err;
    size_t i = (size_t)name->slot;
    if (ot_has_suffix(name->text, ".none")) {
        *out = ot_expr_null();
        return OT_OK;
    }
    switch (names[i].type) {
    case OT_EXPR_BOOL:
        *out = ot_expr_bool(names[i].x != 0);
        break;
    case OT_EXPR_DURATION:
        *out = ot_expr_duration(names[i].x);
        break;
    case OT_EXPR_STRING:
        *out = ot_expr_string(names[i].s, strlen(names[i].s));
        break;
    default:
        *out = ot_expr_number(strcmp(name->text, "nan") == 0 ? (double)NAN : names[i].x);
        break;
    }
    return OT_OK;
}

static ot_arena arena;

static ot_rc run(const char *text, ot_expr_type want, ot_expr_value *v, ot_error *err)
{
    ot_expr *e;
    ot_arena_reset(&arena);
    OT_TRY(ot_expr_parse(&arena, text, strlen(text), NULL, &e, err));
    OT_TRY(ot_expr_check(e, resolve, NULL, want, NULL, err));
    return ot_expr_eval(e, lookup, NULL, v, err);
}

/* One line for a TAP description. */
static const char *shown(const char *text)
{
    static char buf[64];
    snprintf(buf, sizeof buf, "%s", text);
    for (char *p = buf; *p != 0; p++) {
        *p = (unsigned char)*p < ' ' ? ' ' : *p;
    }
    return buf;
}

/* want: "true", "false", "null". */
static void is(const char *text, const char *want)
{
    ot_expr_value v = {0};
    ot_error err = {0};
    ot_rc rc = run(text, OT_EXPR_BOOL, &v, &err);
    const char *got = rc != OT_OK              ? err.msg
                      : v.type == OT_EXPR_NULL ? "null"
                      : v.type != OT_EXPR_BOOL ? "another type"
                      : v.b                    ? "true"
                                               : "false";
    is_str(got, want, "%s", shown(text));
}

static void number_is(const char *text, double want)
{
    ot_expr_value v = {0};
    ot_error err = {0};
    ot_rc rc = run(text, OT_EXPR_NUMBER, &v, &err);
    ok(rc == OT_OK && v.type == OT_EXPR_NUMBER && v.x == want, "%s = %g (%g) %s", text, want, v.x,
       err.msg);
}

static void refused(const char *text, const char *want)
{
    ot_expr_value v;
    ot_error err = {0};
    ot_rc rc = run(text, OT_EXPR_BOOL, &v, &err);
    if (!ok(rc != OT_OK && strstr(err.msg, want) != NULL, "refused: %s", shown(text))) {
        printf("# wanted: %s\n", want);
    }
}

static void test_conditions(void)
{
    is("accuracy.degraded", "true");
    is("labels.new >= 500", "true");
    is("labels.new >= 500 and paused", "false");
    is("NOT paused AND labels.new < 641", "true");
    is("paused OR accuracy.degraded AND labels.new = 640", "true");
    is("(paused OR accuracy.degraded) AND labels.new <> 640", "false");
    is("not paused = false", "false"); /* NOT binds weaker than = */
    is("metrics.accuracy == 93%", "true");
    is("metrics.accuracy > 93.5%", "false");
    is("run.age < 2h", "true");
    is("run.age = 90min", "true");
    is("run.age > 1.5h", "false");
    is("run.age > .5h and run.age < 1e4s", "true");
    is("tags.env LIKE 'prod%'", "true");
    is("tags.env LIKE 'PROD%'", "false");
    is("tags.env ilike 'PROD-__'", "true");
    is("tags.env NOT LIKE '%us'", "true");
    is("tags.env IN ('a', 'prod-eu')", "true");
    is("labels.new NOT IN (1, 2, 3)", "true");
    is("labels.new in (640)", "true");
    is("`metrics`.`val loss` = 0.5", "true");
    is("metrics.\"val loss\" = 0.5", "true");
    is("params.`my key` = 'it''s'", "true");
    is("params.\"my key\" = \"it's\"", "true");
    is("tags.in = 'x'", "true");
    is("metrics.99 = 99", "true");
    is("tags.env > 'prod'", "true");
    is("tags.env < 'prod-euz'", "true");
    is("TRUE != FALSE", "true");
    is("true", "true");
    is("\tlabels.new\n=\r\n640 ", "true");
}

static void test_mlflow(void)
{
    is("tags.mlflow.user = 'anna' and metrics.accuracy > 0.5", "true");
    is("attributes.status = \"FINISHED\"", "true");
    is("attributes.status IN ('FINISHED', 'FAILED')", "true");
    is("attributes.status != 'RUNNING' AND params.`my key` LIKE '%t%'", "true");
    is("tags.`mlflow.user` ILIKE 'AN%'", "true");
    is("text.none IS NULL and tags.env IS NOT NULL", "true");
}

static void test_null(void)
{
    is("bool.none", "null");
    is("number.none = 1", "null");
    is("number.none != 1", "null");
    is("not bool.none", "null");
    is("bool.none and true", "null");
    is("bool.none and false", "false");
    is("false and bool.none", "false");
    is("bool.none or true", "true");
    is("true or bool.none", "true");
    is("bool.none or false", "null");
    is("false or bool.none", "null");
    is("bool.none or bool.none", "null");
    is("number.none is null", "true");
    is("number.none is not null", "false");
    is("labels.new is null", "false");
    is("NULL = NULL", "null");
    is("labels.new in (1, NULL)", "null");
    is("labels.new in (640, NULL)", "true");
    is("labels.new not in (1, number.none)", "null");
    is("number.none in (1)", "null");
    is("text.none like '%'", "null");
    is("labels.new / 0 > 1", "null");
    is("labels.new / 0 is null", "true");
    is("nan > 0", "null");
    is("number.none + 1 > 0", "null");
    is("null", "null");
    ot_expr_value v = ot_expr_null();
    ok(!ot_expr_holds(&v), "unknown does not hold");
    v = ot_expr_bool(true);
    ok(ot_expr_holds(&v), "true holds");
}

static void test_arithmetic(void)
{
    number_is("1 + 2 * 3", 7);
    number_is("(1 + 2) * 3", 9);
    number_is("10 - 4 - 3", 3);
    number_is("2 * 3 / 4", 1.5);
    number_is("-2 * -3", 6);
    number_is("--2", 2);
    number_is("- labels.new", -640);
    number_is("1e3 + .5", 1000.5);
    number_is("2h / 30min", 4);
    number_is("50%", 0.5);
    is("run.age * 2 = 3h", "true");
    is("3h / 2 = run.age", "true");
    is("1h + 30min - run.age = 0s", "true");
    is("-run.age < 0s", "true");
    is("1e308 * 10 is null", "true");
}

static void test_errors(void)
{
    refused("", "1:1: the expression is empty");
    refused("   ", "1:4: the expression is empty");
    refused("labels.new >", "1:13: expected a name, a value or '(', but the expression ends");
    refused("labels.new >= 500 500", "1:19: expected AND, OR, an operator or the end, found 500");
    refused("labels.new >\n  and", "2:3: expected a name, a value or '(', found and");
    refused("(paused", "expected ')'");
    refused("paused)", "found )");
    refused("labels.nwe > 1", "1:1: 'labels.nwe' is not known here");
    refused("paused > 1", "1:8: '>' can't join a condition and a number");
    refused("run.age < 5", "write durations with a unit");
    refused("tags.env = 5", "'=' can't join a text and a number");
    refused("paused < paused", "can't join");
    refused("paused and 5", "1:12: 'AND' needs a condition, this is a number");
    refused("not 'x'", "'NOT' needs a condition");
    refused("-'x' = 1", "'-' needs a number");
    refused("labels.new", "a condition is needed here, this is a number");
    refused("labels.new like 'x'", "'LIKE' needs a text");
    refused("tags.env like tags.in", "expected a quoted pattern");
    refused("tags.env in 'x'", "expected '(' after IN");
    refused("tags.env in ()", "expected a name, a value");
    refused("tags.env in ('a' 'b')", "expected ',' or ')' in the list");
    refused("tags.env in ('a', 5)", "'IN' needs a text, this is a number");
    refused("tags.env is 5", "expected NULL after IS");
    refused("tags.env not 5", "expected LIKE, ILIKE or IN after NOT");
    refused("1 < 2 < 3", "comparisons can't be chained");
    refused("run.age * run.age = 1", "'*' can't join a duration and a duration");
    refused("2 / run.age = 1", "can't join");
    refused("1 + 2h = 3", "can't join");
    refused("tags.env + 1 = 2", "can't join");
    refused("tags.env = 'open", "1:12: this ' is never closed");
    refused("`open = 1", "1:1: this ` is never closed");
    refused("tags. = 1", "a name is missing after 'tags.'");
    refused("tags.`` = 1", "a name is missing");
    refused("a ? b", "'?' has no meaning here");
    refused("a \x01 b", "byte 0x01 has no meaning here");
    refused("caf\xc3\xa9 = 1", "byte 0xc3");
    refused("5parsecs = 1", "'5parsecs' has no known unit");
    refused("1e999 = 1", "too large");
    refused("run.age < 1e300w", "too large");
    refused("a ! b", "'!' has no meaning");
    refused("labels.new = 1; drop", "';' has no meaning");

    ot_expr *e;
    ot_error err = {0};
    ot_expr_origin o = {.file = "app.yaml", .line = 12, .col = 20};
    ok(ot_expr_parse(&arena, "a >", 3, &o, &e, &err) != OT_OK &&
           strncmp(err.msg, "app.yaml:12:23: ", 16) == 0,
       "positions count from the origin: %s", err.msg);
    ok(ot_expr_parse(&arena, "'a\0b' = x", 9, NULL, &e, &err) != OT_OK, "NUL: %s", err.msg);
    ok(ot_expr_parse(&arena, "a\0b", 3, NULL, &e, &err) != OT_OK, "NUL outside: %s", err.msg);
}

static void fill(ot_str *s, const char *piece, int n, const char *end)
{
    ot_str_clear(s);
    for (int i = 0; i < n; i++) {
        ot_str_adds(s, piece);
    }
    ot_str_adds(s, end);
}

static void test_limits(void)
{
    ot_str s = OT_STR_INIT;
    fill(&s, "(", 5000, "paused");
    refused(s.data, "nested deeper than 128");
    fill(&s, "not ", 2000, "paused");
    refused(s.data, "nested deeper than 128");
    fill(&s, "-", 5000, "1");
    refused(s.data, "nested deeper than 128");
    fill(&s, "paused or ", 1000, "paused");
    refused(s.data, "chained deeper than 128");
    fill(&s, "paused or ", 120, "accuracy.degraded");
    is(s.data, "true");
    fill(&s, "(", 100, "paused");
    for (int i = 0; i < 100; i++) {
        ot_str_addc(&s, ')');
    }
    is(s.data, "false");
    fill(&s, "1,", 3000, "1)");
    ot_str t = OT_STR_INIT;
    ot_str_addf(&t, "labels.new in (%s", s.data);
    refused(t.data, "more than 2048 parts");
    fill(&s, "1,", 1500, "640)");
    ot_str_clear(&t);
    ot_str_addf(&t, "labels.new in (%s", s.data);
    is(t.data, "true");
    fill(&s, " ", OT_EXPR_TEXT_MAX, "1");
    refused(s.data, "at most 16384 are allowed");
    fill(&s, "9", 200, "");
    refused(s.data, "a number longer than 63 characters");
    ot_str_done(&s);
    ot_str_done(&t);
}

static void test_like(void)
{
    static const struct {
        const char *s, *p;
        bool want;
    } t[] = {
        {"", "", true},        {"", "%", true},
        {"", "_", false},      {"abc", "a%c", true},
        {"abc", "%b%", true},  {"abc", "a_c", true},
        {"abc", "ab", false},  {"abc", "abcd", false},
        {"abc", "%%%", true},  {"aXbXc", "a%Xc", true},
        {"aaab", "%ab", true}, {"mississippi", "m%iss%ip%", true},
        {"abc", "%d%", false}, {"caf\xc3\xa9", "caf_", true},
    };
    for (size_t i = 0; i < OT_COUNT(t); i++) {
        ok(ot_expr_like(t[i].s, strlen(t[i].s), t[i].p, strlen(t[i].p), false) == t[i].want,
           "'%s' like '%s'", t[i].s, t[i].p);
    }
    /* Backtracking into earlier stars would take 2^n steps here. */
    char s[4001], p[201];
    memset(s, 'a', sizeof s - 1);
    s[4000] = 0;
    for (int i = 0; i < 100; i++) {
        memcpy(p + 2 * i, "%a", 2);
    }
    p[200] = 0;
    p[199] = 'b';
    ok(!ot_expr_like(s, 4000, p, 200, false), "a hostile pattern ends");
}

static ot_rc collect(void *arg, const ot_expr_name *name, ot_error *err)
{
    (void)err;
    ot_str_addf(arg, "%s|%zu ", name->text, name->key);
    return OT_OK;
}

static ot_rc wrong_type(void *arg, const ot_expr_name *name, ot_expr_value *out, ot_error *err)
{
    (void)arg;
    (void)name;
    (void)err;
    *out = ot_expr_string("x", 1);
    return OT_OK;
}

static ot_rc failing(void *arg, const ot_expr_name *name, ot_expr_value *out, ot_error *err)
{
    (void)arg;
    (void)out;
    return ot_fail(err, OT_UNAVAILABLE, "no value for %s", name->text);
}

static void test_callbacks(void)
{
    ot_expr *e;
    ot_error err = {0};
    ot_expr_value v;
    const char *text = "tags.mlflow.user in ('a', tags.env) and not paused";
    ot_arena_reset(&arena);
    is_int(ot_expr_parse(&arena, text, strlen(text), NULL, &e, &err), OT_OK, "parse");
    ot_str s = OT_STR_INIT;
    is_int(ot_expr_names(e, collect, &s, &err), OT_OK, "names");
    is_str(s.data, "tags.mlflow.user|5 tags.env|5 paused|6 ", "in order, with their keys");
    ot_str_done(&s);
    is_int(ot_expr_check(e, resolve, NULL, OT_EXPR_BOOL, NULL, &err), OT_OK, "check");
    is_int(ot_expr_eval(e, failing, NULL, &v, &err), OT_UNAVAILABLE, "a failing lookup: %s",
           err.msg);
    ot_arena_reset(&arena);
    ok(ot_expr_parse(&arena, "labels.new > 1", 14, NULL, &e, &err) == OT_OK &&
           ot_expr_check(e, resolve, NULL, OT_EXPR_BOOL, NULL, &err) == OT_OK &&
           ot_expr_eval(e, wrong_type, NULL, &v, &err) == OT_INTERNAL,
       "a lookup of the wrong type: %s", err.msg);
}

static void test_no_memory(void)
{
    const char *text = "a.b in (1,2,3,4,5,6,7,8,9,10) and `c d` = 'x'";
    ot_error err = {0};
    for (size_t limit = 256; limit < 32768; limit += 256) {
        ot_arena small;
        ot_expr *e = NULL;
        ot_arena_init(&small, 256, limit);
        ot_rc rc = ot_expr_parse(&small, text, strlen(text), NULL, &e, &err);
        ot_arena_done(&small);
        if (rc == OT_OK) {
            ok(limit > 1024, "an arena of %zu bytes is enough", limit);
            return;
        }
        if (rc != OT_EXHAUSTED || e != NULL) {
            break;
        }
    }
    ok(false, "an arena too small: %s", err.msg);
}

int main(void)
{
    ot_arena_init(&arena, 65536, 4 << 20);
    test_conditions();
    test_mlflow();
    test_null();
    test_arithmetic();
    test_errors();
    test_limits();
    test_like();
    test_callbacks();
    test_no_memory();
    ot_arena_done(&arena);
    return tap_done();
}
