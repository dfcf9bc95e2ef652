#include "base/mem.h"
#include "cli/commands.h"
#include "tap.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static int run_fails(const ot_args *args)
{
    ot_error err = {0};
    ot_fail(&err, OT_NOT_FOUND, "model '%s': \"gone\"", ot_args_pos(args, "MODEL"));
    return ot_cli_fail(args, &err);
}

static int run_usage(const ot_args *args)
{
    return ot_cli_usage(args, "give %s", "more");
}

static const ot_pos fails_pos[] = {{.name = "MODEL", .help = "a model"}};
static const ot_command fails = {
    .name = "models show", .summary = "fail", OT_POS(fails_pos), .run = run_fails};
static const ot_command usage = {.name = "usage", .summary = "misuse", .run = run_usage};
static const ot_command *const table[] = {&ot_cli_version_command,
                                          &ot_cli_help_command,
                                          &ot_cli_completion_command,
                                          &ot_cli_shim_command,
                                          &fails,
                                          &usage};

static char out[16384], errs[16384];

static void slurp(FILE *f, char *buf, size_t n)
{
    rewind(f);
    size_t k = fread(buf, 1, n - 1, f);
    buf[k] = 0;
    fclose(f);
}

/* Runs a command line; its output is in `out` and `errs`. */
static int run(const char *a, const char *b, const char *c, const char *d, const char *e)
{
    const char *argv[] = {"overtake", a, b, c, d, e, NULL};
    int argc = 0;
    while (argv[argc] != NULL) {
        argc++;
    }
    FILE *fo = tmpfile(), *fe = tmpfile();
    fflush(stdout);
    int so = dup(1), se = dup(2);
    dup2(fileno(fo), 1);
    dup2(fileno(fe), 2);
    int code = ot_cli_main(table, OT_COUNT(table), argc, argv);
    fflush(stdout);
    dup2(so, 1);
    dup2(se, 2);
    close(so);
    close(se);
    slurp(fo, out, sizeof out);
    slurp(fe, errs, sizeof errs);
    return code;
}

static void test_codes(void)
{
    is_int(run("version", NULL, NULL, NULL, NULL), 0, "success is 0");
    ok(strcmp(out, "overtake " OT_VERSION "\n") == 0 && errs[0] == 0, "stdout is data");
    is_int(run("version", "-o", "json", NULL, NULL), 0, "json");
    json_t *o = json_loads(out, 0, NULL);
    is_str(json_string_value(json_object_get(o, "version")), OT_VERSION, "is JSON");
    json_decref(o);
    is_int(run("--version", NULL, NULL, NULL, NULL), 0, "the spelling people try");
    is_int(run("models", "show", "digits", NULL, NULL), 1, "a failure is 1");
    ok(out[0] == 0 && strcmp(errs, "overtake: model 'digits': \"gone\"\n") == 0,
       "its text is on stderr");
    is_int(run("models", "show", "digits", "--output", "json"), 1, "and with json");
    o = json_loads(out, 0, NULL);
    is_str(json_string_value(json_object_get(o, "error")), "model 'digits': \"gone\"",
           "on stdout too");
    is_str(json_string_value(json_object_get(o, "code")), "not_found", "with its code");
    json_decref(o);
    is_int(run("usage", NULL, NULL, NULL, NULL), 2, "misuse is 2");
    is_str(errs, "overtake usage: give more\n", "said by the command");
    is_int(run(NULL, NULL, NULL, NULL, NULL), 2, "no command");
    ok(strstr(out, "models show") != NULL, "lists them");
    is_int(run("vresion", NULL, NULL, NULL, NULL), 2, "an unknown command");
    ok(strstr(errs, "did you mean 'version'?") != NULL, "has a near match");
    is_int(run("models", NULL, NULL, NULL, NULL), 2, "half a command");
    ok(strstr(errs, "needs one of: show") != NULL, "has its other half");
    is_int(run("models", "show", NULL, NULL, NULL), 2, "a missing argument");
    is_int(run("version", "--bogus", NULL, NULL, NULL), 2, "an unknown option");
}

static void test_help(void)
{
    is_int(run("--help", NULL, NULL, NULL, NULL), 0, "--help");
    ok(strstr(out, "Commands:") != NULL && strstr(out, "shim") == NULL, "the public commands");
    is_int(run("help", "models", "show", NULL, NULL), 0, "help of two words");
    ok(strstr(out, "Usage: overtake models show [OPTIONS] MODEL") != NULL, "its usage");
    is_int(run("models", "show", "--help", NULL, NULL), 0, "--help of a command");
    is_int(run("help", "nothing", NULL, NULL, NULL), 2, "help of nothing");
    is_int(run("completion", "bash", NULL, NULL, NULL), 0, "completion");
    ok(strstr(out, "complete -F _overtake overtake") != NULL, "is a script");
    FILE *f = popen("bash -n 2>&1", "w");
    fputs(out, f);
    is_int(pclose(f), 0, "that bash can read");
    is_int(run("completion", "tcsh", NULL, NULL, NULL), 2, "another shell: %s", errs);
}

static void test_full_disk(void)
{
    if (access("/dev/full", W_OK) != 0) {
        skip("no /dev/full here");
        return;
    }
    fflush(stdout);
    const char *argv[] = {"overtake", "version", NULL};
    int so = dup(1), full = open("/dev/full", O_WRONLY);
    dup2(full, 1);
    int code = ot_cli_main(table, OT_COUNT(table), 2, argv);
    /* What stdio still holds was lost on purpose. */
    int null = open("/dev/null", O_WRONLY);
    dup2(null, 1);
    fflush(stdout);
    dup2(so, 1);
    close(so);
    close(full);
    close(null);
    clearerr(stdout);
    is_int(code, 1, "output that can't be written is a failure");
}

int main(void)
{
    test_codes();
    test_help();
    test_full_disk();
    return tap_done();
}
