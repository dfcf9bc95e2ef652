/* From the words of a command line to a command and its exit code; the commands that are about the
 * table itself. */
#include "cli/commands.h"
#include "cli/handover.h"
#include "store/store.h"

#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROGRAM "overtake"

/* Synchronization: written once, before the command runs. */
static const ot_command *const *all;
static size_t all_n;

int ot_cli_print(const ot_str *text)
{
    bool good = !text->failed && fwrite(text->data, 1, text->len, stdout) == text->len;
    if (good && fflush(stdout) == 0) {
        return 0;
    }
    if (text->failed || errno != EPIPE) { /* who closed the pipe has seen enough */
        fprintf(stderr, PROGRAM ": the output could not be written\n");
    }
    return 1;
}

int ot_cli_print_json(const json_t *value)
{
    if (value == NULL) {
        return 0;
    }
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    char *text = json_dumps(value, JSON_INDENT(2) | JSON_ENCODE_ANY);
    if (text == NULL) {
        out.failed = true;
    } else {
        ot_str_addf(&out, "%s\n", text);
        free(text);
    }
    return ot_cli_print(&out);
}

int ot_cli_fail(const ot_args *args, const ot_error *err)
{
    fprintf(stderr, PROGRAM ": %s\n", err->msg);
    if (args != NULL && ot_args_json(args)) {
        OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
        ot_str_adds(&out, "{\"error\": \"");
        ot_str_add_json(&out, err->msg, strlen(err->msg));
        ot_str_addf(&out, "\", \"code\": \"%s\"}\n", ot_rc_name(err->rc));
        (void)ot_cli_print(&out);
    }
    return 1;
}

int ot_cli_usage(const ot_args *args, const char *fmt, ...)
{
    char msg[OT_ERROR_MSG_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    fprintf(stderr, PROGRAM " %s: %s\n", ot_args_command(args)->name, msg);
    return 2;
}

static int print_help(const ot_command *cmd)
{
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_command_help(cmd, PROGRAM, &out);
    return ot_cli_print(&out);
}

static int print_list(void)
{
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_command_list(all, all_n, PROGRAM, &out);
    return ot_cli_print(&out);
}

static void set_up_logging(const ot_args *args)
{
    ot_log_level level = OT_LOG_INFO;
    (void)ot_log_level_parse(ot_args_str(args, "log-level"), &level);
    bool json = strcmp(ot_args_str(args, "log-format"), "json") == 0;
    ot_log_setup(ot_args_command(args)->name, level, json ? OT_LOG_JSON : OT_LOG_TEXT);
}

/* The spellings that people try first. */
static const char *alias(const char *word)
{
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        return "help";
    }
    return strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0 ? "version" : word;
}

int ot_cli_main(const ot_command *const *table, size_t n, int argc, const char *const *argv)
{
    ot_error err = {0};
    const ot_command *cmd;
    ot_args *args;
    int words;
    all = table;
    all_n = n;
    if (argc < 2) {
        (void)print_list();
        return 2;
    }
    const char *first = alias(argv[1]);
    bool aliased = first != argv[1];
    ot_rc rc = ot_command_find(table, n, aliased ? 1 : argc - 1, aliased ? &first : argv + 1, &cmd,
                               &words, &err);
    if (rc != OT_OK) {
        fprintf(stderr, PROGRAM ": %s\n", err.msg);
        return 2;
    }
    rc = ot_args_parse(cmd, argc - 1 - words, argv + 1 + words, NULL, &args, &err);
    if (rc != OT_OK) {
        fprintf(stderr, PROGRAM " %s: %s\n", cmd->name, err.msg);
        return rc == OT_EXHAUSTED ? 1 : 2;
    }
    int code;
    if (ot_args_help(args)) {
        code = print_help(cmd);
    } else {
        set_up_logging(args);
        code = cmd->run(args);
    }
    ot_args_destroy(args);
    return code;
}

/* --- version, help, completion --------------------------------------------------------------- */

static int run_version(const ot_args *args)
{
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    if (ot_args_json(args)) {
        ot_str_addf(&out, "{\"version\": \"%s\", \"schema\": %" PRId64 ", \"handover\": %d}\n",
                    OT_VERSION, ot_store_schema_newest(), OT_HANDOVER_VERSION);
    } else {
        ot_str_addf(&out, PROGRAM " %s\n", OT_VERSION);
    }
    return ot_cli_print(&out);
}

const ot_command ot_cli_version_command = {
    .name = "version", .summary = "print the version", .run = run_version};

static int run_help(const ot_args *args)
{
    const char *const *words;
    size_t n = ot_args_many(args, &words);
    const ot_command *cmd;
    ot_error err = {0};
    int used;
    if (n == 0) {
        return print_list();
    }
    if (ot_command_find(all, all_n, (int)n, words, &cmd, &used, &err) != OT_OK) {
        return ot_cli_usage(args, "%s", err.msg);
    }
    return print_help(cmd);
}

static const ot_pos help_pos[] = {
    {.name = "COMMAND", .help = "the command to explain", .optional = true, .many = true}};

const ot_command ot_cli_help_command = {.group = "This program",
                                        .name = "help",
                                        .summary = "list the commands, or explain one",
                                        OT_POS(help_pos),
                                        .run = run_help};

static int run_completion(const ot_args *args)
{
    const char *shell = ot_args_pos(args, "SHELL");
    if (strcmp(shell, "bash") != 0) {
        return ot_cli_usage(args, "'%.40s' is not a shell that is known here; bash is", shell);
    }
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_command_completion_bash(all, all_n, PROGRAM, &out);
    return ot_cli_print(&out);
}

static const ot_pos completion_pos[] = {{.name = "SHELL", .help = "bash"}};

const ot_command ot_cli_completion_command = {
    .name = "completion",
    .summary = "print a completion script for the shell",
    .detail = "Put this into ~/.bashrc:\n\n    source <(overtake completion bash)",
    OT_POS(completion_pos),
    .run = run_completion};
