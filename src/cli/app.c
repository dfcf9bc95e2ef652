/* `overtake check` and `overtake config`: an app file looked at before anything runs. */
#include "cli/appfile.h"
#include "cli/commands.h"

#include "api/control.h"

#include "base/mem.h"

#include <string.h>

/* The site of --site; NULL without one. */
static ot_rc take_site(const ot_args *args, ot_site **out, ot_error *err)
{
    const char *path = ot_args_str(args, "site");
    *out = NULL;
    return path != NULL ? ot_cli_site_load(path, out, err) : OT_OK;
}

static int refuse(const ot_args *args, const ot_error *err)
{
    const char *paths[] = {ot_args_pos(args, "FILE"), ot_args_str(args, "site")};
    return ot_cli_refuse(args, err, paths, OT_COUNT(paths));
}

static int say_site(const ot_args *args, const ot_site *site)
{
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    size_t stages = site->release.n, windows = site->windows.n;
    if (ot_args_json(args)) {
        ot_str_addf(&out, "{\"stages\": %zu, \"change_windows\": %zu, \"errors\": []}\n", stages,
                    windows);
    } else {
        ot_str_addf(&out, "site %s: fine (%zu release stages, %zu change windows)\n", site->file,
                    stages, windows);
    }
    return ot_cli_print(&out);
}

static int run_check(const ot_args *args)
{
    ot_app *app = NULL;
    ot_site *site;
    ot_error err = {0};
    double rate = (double)ot_args_int(args, "rate");
    const char *file = ot_args_pos(args, "FILE");
    if (file == NULL && ot_args_str(args, "site") == NULL) {
        return ot_cli_usage(args, "an app file is needed, or --site FILE to check that alone");
    }
    ot_rc rc = take_site(args, &site, &err);
    if (rc == OT_OK && file == NULL) {
        int code = say_site(args, site);
        ot_site_destroy(site);
        return code;
    }
    if (rc == OT_OK) {
        rc = ot_cli_app_check(file, site, rate, &app, &err);
    }
    ot_site_destroy(site);
    if (rc != OT_OK) {
        return refuse(args, &err);
    }
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    if (ot_args_json(args)) {
        ot_str_addf(&out, "{\"app\": \"%s\", \"data\": %zu, \"stages\": %zu, \"errors\": []}\n",
                    app->app, app->data.n, app->release.n);
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
    ot_site *site;
    ot_error err = {0};
    ot_rc rc = take_site(args, &site, &err);
    if (rc == OT_OK) {
        rc = ot_cli_app_load(ot_args_pos(args, "FILE"), site, &app, &err);
    }
    ot_site_destroy(site);
    if (rc != OT_OK) {
        return refuse(args, &err);
    }
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_app_show(app, &out);
    ot_app_destroy(app);
    return ot_cli_print(&out);
}

static int run_reference(const ot_args *args)
{
    const char *which = ot_args_pos(args, "WHICH");
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    if (which == NULL || strcmp(which, "app") == 0) {
        ot_app_reference(&out);
    } else if (strcmp(which, "site") == 0) {
        ot_site_reference(&out);
    } else if (strcmp(which, "api") == 0) {
        ot_api_reference(&out);
    } else {
        return ot_cli_usage(args, "'%.40s' is none of app, site and api", which);
    }
    return ot_cli_print(&out);
}

static const ot_pos file_pos[] = {{.name = "FILE", .help = "an app file (YAML)"}};
static const ot_pos check_pos[] = {
    {.name = "FILE", .help = "an app file (YAML); without it the site alone", .optional = true}};
static const ot_pos which_pos[] = {
    {.name = "WHICH", .help = "app, site or api [app]", .optional = true}};

#define SITE_OPT OT_CLI_SITE_OPT("the operators' file that the app is held to")
static const ot_opt show_opts[] = {SITE_OPT};
static const ot_opt check_opts[] = {
    SITE_OPT,
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
    .detail = "Exit code 0: fine; 1: refused, with file, line and column; 2: the command line is "
              "wrong. With\n--output json the errors are a list: docs/pull-requests.md.",
    OT_OPTS(check_opts),
    OT_POS(check_pos),
    .run = run_check,
};
const ot_command ot_cli_config_show_command = {
    .name = "config show",
    .summary = "print an app file with every default filled in",
    OT_OPTS(show_opts),
    OT_POS(file_pos),
    .run = run_show,
};
const ot_command ot_cli_config_reference_command = {
    .name = "config reference",
    .summary = "print what an app file, a site file or the API may hold, as Markdown",
    OT_POS(which_pos),
    .run = run_reference,
};
