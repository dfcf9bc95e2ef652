/* `overtake apply`: an app file is put in force, or the difference is shown. */
#include "base/mem.h"
#include "cli/appfile.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/text.h"
#include "cli/view.h"

#include <string.h>

#define EXIT_DIFFERS 3

static ot_rc send_app(const ot_args *args, const ot_app *app, json_t **answer_out, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str target = OT_STR_INIT;
    char dir[OT_PATH_MAX];
    ot_cli_client *c;
    OT_TRY(ot_cli_absolute(app->dir, dir, err));
    ot_str_adds(&target, "/api/v1/apps");
    ot_cli_query(&target, "file", app->file);
    ot_cli_query(&target, "dir", dir);
    ot_cli_query(&target, "diff", ot_args_bool(args, "diff") ? "1" : NULL);
    if (target.failed) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for the request");
    }
    OT_TRY(ot_cli_client_open(args, &c, err));
    ot_rc rc = ot_cli_client_send(c, "POST", target.data, "application/yaml", app->yaml,
                                  strlen(app->yaml), answer_out, err);
    ot_cli_client_close(c);
    return rc;
}

static int run_apply(const ot_args *args)
{
    ot_app *app;
    ot_error err = {0};
    json_t *answer = NULL;
    const char *path = ot_args_pos(args, "FILE");
    if (ot_cli_app_check(path, NULL, 0, &app, &err) != OT_OK) {
        return ot_cli_refuse(args, &err, &path, 1);
    }
    ot_rc rc = send_app(args, app, &answer, &err);
    ot_app_destroy(app);
    if (rc != OT_OK) {
        return ot_cli_refuse(args, &err, &path, 1);
    }
    bool diff = ot_args_bool(args, "diff");
    int code;
    if (ot_args_json(args)) {
        code = ot_cli_print_json(answer);
    } else {
        OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
        ot_cli_view_applied(answer, diff, &out);
        code = ot_cli_print(&out);
    }
    bool differs = json_array_size(json_object_get(answer, "changed")) > 0;
    json_decref(answer);
    return code == 0 && diff && differs ? EXIT_DIFFERS : code;
}

static const ot_opt opts[] = {
    OT_CLI_CLIENT_OPTS,
    {.name = "diff",
     .type = OT_OPT_BOOL,
     .help = "show what would change and change nothing; exit code 3 when something would",
     .env = ""},
};
static const ot_pos pos[] = {{.name = "FILE", .help = "an app file (YAML)"}};

const ot_command ot_cli_apply_command = {
    .name = "apply",
    .summary = "put an app file in force; the first time, start the first run",
    .detail =
        "The file is checked as `overtake check` does, then sent. The folder that it lies in is\n"
        "the program: what a run executes is the copy taken now.\n\n"
        "With --diff: exit code 0 when nothing would change, 3 when something would. 1: refused; "
        "2: the "
        "command\nline is wrong. --output json: docs/pull-requests.md.",
    OT_OPTS(opts),
    OT_POS(pos),
    .run = run_apply,
};
