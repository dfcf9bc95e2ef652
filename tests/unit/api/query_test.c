#include "api/query.h"

#include "tap.h"

static ot_arena arena;

static ot_slice z(const char *s)
{
    return (ot_slice){.p = s, .n = s != NULL ? strlen(s) : 0};
}

static void test_check(void)
{
    static const char *const allowed[] = {"after", "limit", "newest", NULL};
    ot_error err = {0};
    const char *fine[] = {NULL, "", "after=1", "after=1&limit=2&newest", "&after=1&", "newest"};
    for (size_t i = 0; i < sizeof fine / sizeof fine[0]; i++) {
        is_int(ot_query_check(z(fine[i]), allowed, NULL), OT_OK, "'%s'",
               fine[i] != NULL ? fine[i] : "(none)");
    }
    is_int(ot_query_check(z("limit=1&aftr=2"), allowed, &err), OT_INVALID, "unknown");
    is_str(err.msg, "'aftr' is not a parameter here; did you mean 'after'?", "names the near one");
    is_int(ot_query_check(z("after=1&after=2"), allowed, &err), OT_INVALID, "twice: %s", err.msg);
    is_int(ot_query_check(z("=1"), allowed, NULL), OT_INVALID, "without a name");
    is_int(ot_query_check(z("x=1"), NULL, NULL), OT_INVALID, "where none is known");
    is_int(ot_query_check(z(""), NULL, NULL), OT_OK, "none where none is known");
    is_int(ot_query_check(z("%61fter=1"), allowed, NULL), OT_INVALID,
           "an encoded name is not another way to say it");
}

static void test_values(void)
{
    int64_t x = 7;
    bool flag = false;
    const char *text = "unset";
    ot_error err = {0};
    ok(ot_query_i64(z("b=1"), "a", &arena, 0, 9, &x, NULL) == OT_OK && x == 7,
       "absent: the default stays");
    ok(ot_query_i64(z("b=1&a=9"), "a", &arena, 0, 9, &x, NULL) == OT_OK && x == 9, "the limit");
    is_int(ot_query_i64(z("a=10"), "a", &arena, 0, 9, &x, &err), OT_INVALID, "over it");
    is_str(err.msg, "a is '10'; a whole number from 0 to 9 is expected", "says the limits");
    const char *bad[] = {"a=", "a=x", "a=1x", "a=1.5", "a=99999999999999999999", "a=%zz", "a=%00"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        is_int(ot_query_i64(z(bad[i]), "a", &arena, 0, 9, &x, &err), OT_INVALID, "%s: %s", bad[i],
               err.msg);
    }
    is_int(x, 9, "untouched on failure");
    ok(ot_query_text(z("t=a%20b+c"), "t", &arena, 5, &text, NULL) == OT_OK, "text");
    is_str(text, "a b c", "is decoded");
    is_int(ot_query_text(z("t=abcdef"), "t", &arena, 5, &text, NULL), OT_INVALID, "too long");
    is_int(ot_query_text(z("t=%ff"), "t", &arena, 5, &text, NULL), OT_INVALID, "not UTF-8");
    ok(ot_query_flag(z("f"), "f", &arena, &flag, NULL) == OT_OK && flag, "a bare flag");
    ok(ot_query_flag(z("f=0"), "f", &arena, &flag, NULL) == OT_OK && !flag, "f=0");
    ok(ot_query_flag(z("f=true"), "f", &arena, &flag, NULL) == OT_OK && flag, "f=true");
    is_int(ot_query_flag(z("f=2"), "f", &arena, &flag, NULL), OT_INVALID, "f=2");
}

int main(void)
{
    ot_arena_init(&arena, 4096, 1 << 20);
    test_check();
    test_values();
    ot_arena_done(&arena);
    return tap_done();
}
