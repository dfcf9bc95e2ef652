/* The JSON reader of the plug-ins. */
#include "../../../plugins/common/json.h"
#include "tap.h"

static bool skips(const char *text)
{
    pj j;
    pj_init(&j, text, strlen(text));
    pj_skip(&j);
    return pj_end(&j);
}

static void test_accepts(void)
{
    static const char *const good[] = {"{}",
                                       "[]",
                                       " { } ",
                                       "null",
                                       "true",
                                       "-1.5e3",
                                       "\"\"",
                                       "[1,2,[3,{\"a\":[]}]]",
                                       "{\"a\":1,\"b\":{\"c\":[true,false,null]}}",
                                       "\"\\u00e9\\n\\ud83d\\ude00\""};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        ok(skips(good[i]), "accepts %s", good[i]);
    }
}

static void test_refuses(void)
{
    static const char *const bad[] = {
        "",          " ",           "{",           "}",           "[",      "]",
        "[1",        "[1,",         "[1,]",        "[,1]",        "[1 2]",  "{\"a\"}",
        "{\"a\":}",  "{\"a\":1,}",  "{a:1}",       "{\"a\" 1}",   "\"",     "\"\\x\"",
        "\"\\u12\"", "\"\\u0000\"", "\"\\ud800\"", "\"\\udc00\"", "\"\n\"", "tru",
        "nul",       "-",           "1e",          "1 1",         "{}}",    "+1",
        ".5"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ok(!skips(bad[i]), "refuses %s", bad[i]);
    }
    char deep[200];
    memset(deep, '[', 100);
    memset(deep + 100, ']', 99);
    deep[199] = '\0';
    ok(!skips(deep), "refuses deep nesting");
}

static void test_values(void)
{
    static const char text[] =
        "{\"s\": \"h\\u00e9 \\ud83d\\ude00\", \"n\": -2.5, \"i\": 7, \"b\": true, \"a\": [1, 2]}";
    pj j;
    char key[8], s[32];
    double n = 0, sum = 0;
    int64_t i = 0;
    bool b = false;
    size_t len = 0;
    pj_init(&j, text, sizeof text - 1);
    pj_enter(&j, '{');
    while (pj_key(&j, key, sizeof key)) {
        if (key[0] == 's') {
            pj_string(&j, s, sizeof s, &len);
        } else if (key[0] == 'n') {
            pj_number(&j, &n);
        } else if (key[0] == 'i') {
            pj_int(&j, 0, 10, &i);
        } else if (key[0] == 'b') {
            pj_bool(&j, &b);
        } else {
            double x;
            pj_enter(&j, '[');
            while (pj_item(&j) && pj_number(&j, &x)) {
                sum += x;
            }
        }
    }
    ok(pj_end(&j), "all read");
    is_str(s, "h\xc3\xa9 \xf0\x9f\x98\x80", "escapes give UTF-8");
    is_int(len, 8, "of eight bytes");
    is_near(n, -2.5, 0, "a number");
    is_int(i, 7, "an integer");
    ok(b && sum == 3, "a boolean and an array");
}

static void test_limits(void)
{
    pj j;
    char small[4];
    int64_t i;
    bool b;
    pj_init(&j, "\"abcd\"", 6);
    ok(!pj_string(&j, small, sizeof small, NULL) && j.error != NULL, "a string too long");
    pj_init(&j, "11", 2);
    ok(!pj_int(&j, 0, 10, &i), "a number out of range");
    pj_init(&j, "1.5", 3);
    ok(!pj_int(&j, 0, 10, &i), "a number that isn't whole");
    pj_init(&j, "1", 1);
    ok(!pj_bool(&j, &b) && !pj_skip(&j) && !pj_end(&j), "an error stays");
    pj_init(&j, "\"ab", 2);
    ok(!pj_string(&j, small, sizeof small, NULL), "the text's end is respected");
}

int main(void)
{
    test_accepts();
    test_refuses();
    test_values();
    test_limits();
    return tap_done();
}
