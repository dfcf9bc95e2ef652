/* `overtake check` and `overtake config`: an app file looked at before anything runs. */
#include "pipeline/app.h"
#include "base/disk.h"
#include "cli/commands.h"

#include <string.h>

#define APP_FILE_MAX (1u << 20)

static ot_rc load(const char *path, ot_app **out, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    OT_TRY(ot_disk_read_all(ot_disk_posix(), path, APP_FILE_MAX, &text, err));
    const char *slash = strrchr(path, '/');
    const char *file = slash != NULL ? slash + 1 : path;
    char dir[OT_PATH_MAX] = ".";
    if (slash != NULL && (size_t)(slash - path) < sizeof dir) {
        size_t n = slash == path ? 1 : (size_t)(slash - path);
        memcpy(dir, path, n);
        dir[n] = 0;
    }
    return ot_app_parse(text.data, text.len, file, dir, out, err);
}

/* Data that a run would miss only after it was started. */
static ot_rc check_paths(const ot_app *app, ot_error *err)
{
    for (size_t i = 0; i < app->data.n; i++) {
        const ot_app_data *d = &app->data.v[i];
        char path[OT_PATH_MAX];
        if (d->path == NULL) {
            continue;
        }
        OT_TRY(ot_path_join(path, d->path[0] == '/' ? "/" : app->dir,
                            d->path + strspn(d->path, "/"), err));
        if (!ot_disk_exists(ot_disk_posix(), path)) {
            ot_conf_ctx ctx = {.file = app->file};
            return ot_conf_fail(&ctx, d->mark, err, "data '%s': nothing at '%s'", d->name, path);
        }
    }
    return OT_OK;
}

static int run_check(const ot_args *args)
{
    ot_app *app = NULL;
    ot_error err = {0};
    ot_rc rc = load(ot_args_pos(args, "file"), &app, &err);
    if (rc == OT_OK) {
        rc = check_paths(app, &err);
    }
    if (rc == OT_OK) {
        rc = ot_app_check_waits(app, (double)ot_args_int(args, "rate"), &err);
    }
    if (rc != OT_OK) {
        ot_app_destroy(app);
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
    if (load(ot_args_pos(args, "file"), &app, &err) != OT_OK) {
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
