#include "base/options.h"

#include "base/mem.h"
#include "tap.h"

#include <inttypes.h>

static const char *const modes[] = {"fast", "safe", NULL};
static const ot_opt opts[] = {
    OT_OPT_DATA_DIR,
    {.name = "name", .letter = 'n', .type = OT_OPT_STRING, .help = "a name"},
    {.name = "mode", .type = OT_OPT_STRING, .choices = modes, .def = "safe", .help = "a mode"},
    {.name = "workers", .type = OT_OPT_INT, .min = "1", .max = "64", .def = "2", .help = "count"},
    {.name = "drain", .type = OT_OPT_DURATION, .min = "1s", .max = "1h", .help = "time"},
    {.name = "cache", .type = OT_OPT_SIZE, .max = "4GiB", .help = "bytes"},
    {.name = "share", .type = OT_OPT_FRACTION, .def = "10%", .max = "50%", .help = "fraction"},
    {.name = "listen", .type = OT_OPT_ADDRESS, .help = "address"},
    {.name = "label", .type = OT_OPT_STRINGS, .help = "labels"},
    {.name = "compare", .type = OT_OPT_BOOL, .def = "yes", .help = "compare"},
    {.name = "force", .letter = 'f', .type = OT_OPT_BOOL, .help = "force"},
    {.name = "secret", .type = OT_OPT_STRING, .env = "", .hidden = true},
};
static const ot_pos pos[] = {
    {.name = "APP", .help = "the app"},
    {.name = "FILE", .help = "files", .optional = true, .many = true},
};

static int run_none(const ot_args *a)
{
    (void)a;
    return 0;
}

static const ot_command cmd = {.name = "do",
                               .summary = "does it",
                               .detail = "More about it.",
                               OT_OPTS(opts),
                               OT_POS(pos),
                               .rest = true,
                               .run = run_none};
static const ot_opt must_opts[] = {
    {.name = "id", .type = OT_OPT_INT, .required = true, .help = "a column"}};
static const ot_command labels_import = {
    .name = "labels import", .summary = "import labels", OT_OPTS(must_opts), .run = run_none};
static const ot_command labels_list = {.name = "labels list", .summary = "list", .run = run_none};
static const ot_command hidden = {
    .name = "shim", .summary = "secret work", .hidden = true, .run = run_none};
static const ot_command *const table[] = {&cmd, &labels_import, &labels_list, &hidden};

static const char *no_env(const char *name)
{
    (void)name;
    return NULL;
}

static const char *some_env(const char *name)
{
    if (strcmp(name, "OVERTAKE_WORKERS") == 0) {
        return "7";
    }
    if (strcmp(name, "OVERTAKE_LOG_LEVEL") == 0) {
        return "debug";
    }
    if (strcmp(name, "OVERTAKE_DATA") == 0 || strcmp(name, "OVERTAKE_SECRET") == 0) {
        return "wrong";
    }
    if (strcmp(name, "OVERTAKE_DIR") == 0) {
        return "/dir";
    }
    return strcmp(name, "OVERTAKE_LISTEN") == 0 ? "" : NULL;
}

static const char *bad_env(const char *name)
{
    return strcmp(name, "OVERTAKE_WORKERS") == 0 ? "many" : NULL;
}

static int count(const char *const *argv)
{
    int n = 0;
    while (argv[n] != NULL) {
        n++;
    }
    return n;
}

static void test_values(void)
{
    const char *const argv[] = {
        "app1",         "-n",           "x",         "--workers=8", "--drain", "90s",
        "--cache=1KiB", "-f",           "--share",   "0.25",        "--label", "a",
        "f1",           "--no-compare", "--label=b", "--listen",    ":80",     "-o",
        "json",         "f2",           "--",        "-x",          "--",      NULL};
    ot_args *a = NULL;
    ot_error err = {0};
    if (!ok(ot_args_parse(&cmd, count(argv), argv, no_env, &a, &err) == OT_OK, "parse %s",
            err.msg)) {
        return;
    }
    is_str(ot_args_str(a, "name"), "x", "string by its letter");
    is_str(ot_args_str(a, "mode"), "safe", "default");
    is_int(ot_args_int(a, "workers"), 8, "whole number");
    is_int(ot_args_us(a, "drain"), 90000000, "duration");
    is_int(ot_args_size(a, "cache"), 1024, "size");
    is_near(ot_args_fraction(a, "share"), 0.25, 0, "fraction");
    ok(!ot_args_bool(a, "compare") && ot_args_bool(a, "force"), "switches");
    is_int(ot_args_addr(a, "listen")->port, 80, "address");
    const char *const *v;
    ok(ot_args_list(a, "label", &v) == 2 && strcmp(v[0], "a") == 0 && strcmp(v[1], "b") == 0,
       "repeated");
    is_str(ot_args_pos(a, "APP"), "app1", "positional");
    ok(ot_args_many(a, &v) == 2 && strcmp(v[0], "f1") == 0 && strcmp(v[1], "f2") == 0,
       "many, between options");
    ok(ot_args_rest(a, &v) == 2 && strcmp(v[0], "-x") == 0 && strcmp(v[1], "--") == 0, "the rest");
    ok(ot_args_json(a) && !ot_args_help(a), "global options");
    ok(ot_args_given(a, "workers") && !ot_args_given(a, "mode") && ot_args_set(a, "mode") &&
           !ot_args_set(a, "secret"),
       "given, set");
    ok(ot_args_command(a) == &cmd, "its command");
    ot_args_destroy(a);
    ot_args_destroy(NULL);
}

static void test_env(void)
{
    const char *const argv[] = {"app1", NULL};
    ot_args *a = NULL;
    ot_error err = {0};
    ok(ot_args_parse(&cmd, 1, argv, some_env, &a, &err) == OT_OK, "parse %s", err.msg);
    ok(ot_args_int(a, "workers") == 7 && ot_args_given(a, "workers"), "from the environment");
    is_str(ot_args_str(a, "log-level"), "debug", "a dash is an underscore");
    is_str(ot_args_str(a, "data"), "/dir", "a variable of its own name");
    ok(ot_args_str(a, "secret") == NULL, "an option without a variable");
    ok(ot_args_addr(a, "listen") == NULL, "an empty variable is none");
    const char *const *v;
    is_int(ot_args_many(a, &v), 0, "no files");
    ot_args_destroy(a);
    ok(ot_args_parse(&cmd, 1, argv, bad_env, &a, &err) == OT_INVALID &&
           strstr(err.msg, "OVERTAKE_WORKERS") != NULL,
       "a bad variable is named: %s", err.msg);
}

static void refused(const char *a0, const char *a1, const char *a2, const char *want)
{
    const char *const argv[] = {a0, a1, a2, NULL};
    ot_args *a = NULL;
    ot_error err = {0};
    ot_rc rc = ot_args_parse(&cmd, count(argv), argv, no_env, &a, &err);
    if (!ok(rc == OT_INVALID && a == NULL && strstr(err.msg, want) != NULL, "refused: %s",
            err.msg)) {
        printf("# wanted: %s\n", want);
        ot_args_destroy(a);
    }
}

static void test_errors(void)
{
    refused("--wokers", "3", NULL, "unknown option --wokers; did you mean --workers?");
    refused("--zzzzzzzz", NULL, NULL, "see overtake do --help");
    refused("-z", NULL, NULL, "unknown option '-z'");
    refused("-nx", NULL, NULL, "unknown option '-nx'");
    refused("app", "--workers", NULL, "--workers needs a value");
    refused("app", "--workers", "0", "--workers: '0' is less than the least allowed, 1");
    refused("app", "--workers=65", NULL, "more than the most allowed, 64");
    refused("app", "--workers=9999999999999999999", NULL, "not a whole number");
    refused("app", "--workers=", NULL, "not a whole number");
    refused("app", "--drain=5", NULL, "no known unit");
    refused("app", "--drain=1ms", NULL, "less than the least allowed, 1s");
    refused("app", "--cache=5GiB", NULL, "more than the most allowed, 4GiB");
    refused("app", "--share=0.6", NULL, "more than the most allowed, 50%");
    refused("app", "--mode=slow", NULL, "'slow' is not one of fast, safe");
    refused("app", "--listen", "nowhere", "is not HOST:PORT");
    refused("app", "--force=maybe", NULL, "not yes or no");
    refused("app", "--no-force=yes", NULL, "takes no value");
    refused("app", "--no-workers", NULL, "unknown option --no-workers");
    refused("app", "--output=xml", NULL, "not one of text, json");
    refused("--force", NULL, NULL, "APP is missing: the app");
    refused("app", "--=x", NULL, "unknown option --");

    ot_args *a = NULL;
    ot_error err = {0};
    const char *const two[] = {"x", NULL};
    ok(ot_args_parse(&labels_list, 1, two, no_env, &a, &err) == OT_INVALID &&
           strstr(err.msg, "one argument too many") != NULL,
       "too many: %s", err.msg);
    ok(ot_args_parse(&labels_import, 0, two, no_env, &a, &err) == OT_INVALID &&
           strstr(err.msg, "--id is missing: a column") != NULL,
       "a required option: %s", err.msg);
    const char *const help[] = {"--help", NULL};
    ok(ot_args_parse(&labels_import, 1, help, no_env, &a, &err) == OT_OK && ot_args_help(a) &&
           !ot_args_json(a),
       "with --help nothing is missing");
    ot_args_destroy(a);
    const char *const dash[] = {"-", "--", "--force", NULL};
    ok(ot_args_parse(&cmd, 3, dash, no_env, &a, &err) == OT_OK &&
           strcmp(ot_args_pos(a, "APP"), "-") == 0 && !ot_args_bool(a, "force"),
       "a dash alone is an argument, and nothing behind -- is an option");
    ot_args_destroy(a);
}

static void finds(const char *a0, const char *a1, const ot_command *want, int words,
                  const char *text)
{
    const char *const argv[] = {a0, a1, NULL};
    const ot_command *got = NULL;
    ot_error err = {.msg = ""};
    int n = 0;
    ot_rc rc = ot_command_find(table, OT_COUNT(table), count(argv), argv, &got, &n, &err);
    ok((rc == OT_OK) == (want != NULL) && got == want && n == words &&
           strstr(err.msg, text) != NULL,
       "find '%s %s' %s", a0 ? a0 : "", a1 ? a1 : "", err.msg);
}

static void test_find(void)
{
    finds("do", "x", &cmd, 1, "");
    finds("labels", "import", &labels_import, 2, "");
    finds("labels", "imprt", NULL, 0, "did you mean 'labels import'?");
    finds("labels", NULL, NULL, 0, "'labels' needs one of: import, list");
    finds("d", NULL, NULL, 0, "unknown command 'd'");
    finds("nothing-like-it", NULL, NULL, 0, "overtake help lists them");
    finds(NULL, NULL, NULL, 0, "a command is missing");
    finds("shim", NULL, &hidden, 1, "");
    finds("shin", NULL, NULL, 0, "unknown command 'shin'");
}

static void test_text(void)
{
    ot_str s = OT_STR_INIT;
    ot_command_help(&cmd, "overtake", &s);
    ok(strstr(s.data, "Usage: overtake do [OPTIONS] APP [FILE...] -- ARGS...") != NULL, "usage");
    ok(strstr(s.data, "-n, --name TEXT") != NULL && strstr(s.data, "--no-compare") != NULL &&
           strstr(s.data, "(1..64)") != NULL && strstr(s.data, "(fast | safe) [safe]") != NULL &&
           strstr(s.data, "may be repeated") != NULL && strstr(s.data, "--log-level") != NULL &&
           strstr(s.data, "More about it.") != NULL,
       "help has limits, choices, defaults, detail");
    ok(strstr(s.data, "--secret") == NULL, "what is hidden stays hidden");
    ot_str_clear(&s);
    ot_command_list(table, OT_COUNT(table), "overtake", &s);
    ok(strstr(s.data, "labels import") != NULL && strstr(s.data, "shim") == NULL, "list");
    ot_str_clear(&s);
    ot_command_completion_bash(table, OT_COUNT(table), "overtake", &s);
    ok(strstr(s.data, "'labels ') words=' import list' ;;") != NULL &&
           strstr(s.data, "*) words=' do labels' ;;") != NULL &&
           strstr(s.data, "'labels import '*) words=' --id") != NULL &&
           strstr(s.data, "shim") == NULL && strstr(s.data, "--secret") == NULL,
       "completion");
    ot_str_done(&s);
}

static void test_no_memory(void)
{
    const char *const argv[] = {"app", "--label", "x", NULL};
    ot_error err = {0};
    for (uint64_t nth = 1; nth < 100; nth++) {
        ot_args *a = NULL;
        (void)ot_mem_fail_nth(nth);
        ot_rc rc = ot_args_parse(&cmd, 3, argv, no_env, &a, &err);
        uint64_t asked = ot_mem_fail_nth(0);
        ot_args_destroy(a);
        if (asked < nth) {
            ok(rc == OT_OK && nth > 1, "swept %" PRIu64 " allocations", nth - 1);
            return;
        }
        if (rc != OT_EXHAUSTED || a != NULL) {
            ok(false, "allocation %" PRIu64 " failed and gave %s", nth, ot_rc_name(rc));
            return;
        }
    }
}

int main(void)
{
    test_values();
    test_env();
    test_errors();
    test_find();
    test_text();
    test_no_memory();
    return tap_done();
}
