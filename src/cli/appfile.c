#include "cli/appfile.h"

#include "cli/commands.h"
#include "cli/datadir.h"

#include <stdio.h>
#include <string.h>

ot_rc ot_cli_split_path(const char *path, char dir_out[OT_PATH_MAX], const char **file_out,
                        ot_error *err)
{
    const char *slash = strrchr(path, '/');
    if (strlen(path) >= OT_PATH_MAX) {
        return ot_fail(err, OT_RANGE, "'%.60s...': a path of more than %d bytes", path,
                       OT_PATH_MAX - 1);
    }
    size_t n = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);
    snprintf(dir_out, OT_PATH_MAX, "%.*s", n > 0 ? (int)n : 1, n > 0 ? path : ".");
    *file_out = slash != NULL ? slash + 1 : path;
    return OT_OK;
}

ot_rc ot_cli_absolute(const char *path, char out[OT_PATH_MAX], ot_error *err)
{
    while (path[0] == '.' && (path[1] == '/' || path[1] == 0)) {
        path += 1 + strspn(path + 1, "/");
    }
    OT_TRY(ot_datadir_absolute(path, out, err));
    size_t n = strlen(out);
    out[n > 1 && out[n - 1] == '/' ? n - 1 : n] = 0;
    return OT_OK;
}

ot_rc ot_cli_site_load(const char *path, ot_site **site_out, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    char dir[OT_PATH_MAX];
    const char *file;
    OT_TRY(ot_cli_split_path(path, dir, &file, err));
    OT_TRY(ot_disk_read_all(ot_disk_posix(), path, OT_CLI_APP_BYTES_MAX, &text, err));
    return ot_site_parse(text.data, text.len, file, site_out, err);
}

ot_rc ot_cli_app_load(const char *path, const ot_site *site, ot_app **app_out, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    char dir[OT_PATH_MAX];
    const char *file;
    ot_app *app;
    OT_TRY(ot_cli_split_path(path, dir, &file, err));
    OT_TRY(ot_disk_read_all(ot_disk_posix(), path, OT_CLI_APP_BYTES_MAX, &text, err));
    OT_TRY(ot_app_parse(text.data, text.len, file, dir, &app, err));
    ot_rc rc = site != NULL ? ot_site_tighten(site, app, err) : OT_OK;
    if (rc != OT_OK) {
        ot_app_destroy(app);
        return rc;
    }
    *app_out = app;
    return OT_OK;
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

ot_rc ot_cli_app_check(const char *path, const ot_site *site, double rate, ot_app **app_out,
                       ot_error *err)
{
    ot_app *app;
    OT_TRY(ot_cli_app_load(path, site, &app, err));
    ot_rc rc = check_paths(app, err);
    if (rc == OT_OK) {
        rc = ot_app_check_waits(app, rate, err);
    }
    if (rc != OT_OK) {
        ot_app_destroy(app);
        return rc;
    }
    *app_out = app;
    return OT_OK;
}

/* "FILE:LINE:COLUMN: text" and "FILE: text" for the file of that path. */
static const char *read_place(const char *msg, const char *path, int *line, int *column)
{
    const char *slash = strrchr(path, '/'), *file = slash != NULL ? slash + 1 : path;
    int used = 0;
    *line = *column = 0;
    if (!ot_has_prefix(msg, file) || msg[strlen(file)] != ':') {
        return NULL;
    }
    const char *p = msg + strlen(file) + 1;
    if (sscanf(p, "%d:%d:%n", line, column, &used) == 2 && used > 0) {
        p += used;
    } else {
        *line = *column = 0;
    }
    return p + (*p == ' ');
}

static json_t *error_json(const char *text, const char *const *paths, size_t n)
{
    const char *file = NULL, *message = text;
    int line = 0, column = 0;
    for (size_t i = 0; i < n && file == NULL; i++) {
        const char *rest = paths[i] != NULL ? read_place(text, paths[i], &line, &column) : NULL;
        if (rest != NULL) {
            file = paths[i];
            message = rest;
        }
    }
    json_t *j = json_object();
    json_object_set_new(j, "file", file != NULL ? json_string(file) : json_null());
    json_object_set_new(j, "line", line > 0 ? json_integer(line) : json_null());
    json_object_set_new(j, "column", column > 0 ? json_integer(column) : json_null());
    json_object_set_new(j, "message", json_string(message));
    return j;
}

int ot_cli_refuse(const ot_args *args, const ot_error *err, const char *const *paths,
                  size_t n_paths)
{
    char lines[OT_ERROR_MSG_MAX], *rest = NULL;
    json_t *list = json_array();
    snprintf(lines, sizeof lines, "%s", err->msg);
    for (char *l = strtok_r(lines, "\n", &rest); l != NULL; l = strtok_r(NULL, "\n", &rest)) {
        fprintf(stderr, "overtake: %s\n", l);
        json_array_append_new(list, error_json(l, paths, n_paths));
    }
    if (ot_args_json(args)) {
        json_t *j = json_pack("{s:s,s:s,s:O}", "error", err->msg, "code", ot_rc_name(err->rc),
                              "errors", list);
        (void)ot_cli_print_json(j);
        json_decref(j);
    }
    json_decref(list);
    return 1;
}
