/* `overtake check` and `overtake config`: an app file looked at before anything runs. */
#include "cli/appfile.h"
#include "cli/commands.h"

static int run_check(const ot_args *args)
{
    ot_app *app = NULL;
    ot_error err = {0};
    double rate = (double)ot_args_int(args, "rate");
    if (ot_cli_app_check(ot_args_pos(args, "file"), rate, &app, &err) != OT_OK) {
        return ot_cli_fail(args, &err);
    }
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    if (ot_args_json(args)) {
        ot_str_addf(&out, "{\"app\": \"%s\", \"data\": %zu, \"stages\": %zu}\n", app->app,
                    app->data.n, app->release.n);
    } else {
        ot_str_addf(&out, "app %s: fine (%zu data sets, %zu release stages)\n", app->app,
                    app->data.n, app->release.n);
    }
    ot_app_destroy(app);
    return ot_cli_print(&out);
}

static int run_show(const ot_args *args)
{
    ot_app *app = NULL;
    ot_error err = {0};
    if (ot_cli_app_load(ot_args_pos(args, "file"), &app, &err) != OT_OK) {
        return ot_cli_fail(args, &err);
    }
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_app_show(app, &out);
    ot_app_destroy(app);
    return ot_cli_print(&out);
}

static int run_reference(const ot_args *args)
{
    (void)args;
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_app_reference(&out);
    return ot_cli_print(&out);
}

static const ot_pos file_pos[] = {{.name = "file", .help = "an app file (YAML)"}};

static const ot_opt check_opts[] = {
    {.name = "rate",
     .type = OT_OPT_INT,
     .min = "1",
     .max = "10000000",
     .value = "ROWS",
     .help = "rows of traffic a second: finds stages that cannot end within their at_most"},
};

const ot_command ot_cli_check_command = {
    .name = "check",
    .summary = "find what cannot work in an app file before it runs",
    OT_OPTS(check_opts),
    OT_POS(file_pos),
    .run = run_check,
};
const ot_command ot_cli_config_show_command = {
    .name = "config show",
    .summary = "print an app file with every default filled in",
    OT_POS(file_pos),
    .run = run_show,
};
const ot_command ot_cli_config_reference_command = {
    .name = "config reference",
    .summary = "print what an app file may hold, as Markdown",
    .run = run_reference,
};
