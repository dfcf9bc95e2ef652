/* `overtake backup` and `overtake restore`. */
#include "backup/backup.h"
#include "base/mem.h"
#include "cli/appfile.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/datadir.h"
#include "cli/view.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- backup ----------------------------------------------------------------------------------- */

/* The control plane has the store open: it makes the backup. */
static ot_rc ask_control(const ot_args *args, const char *dir, json_t **answer_out, ot_error *err)
{
    ot_cli_client *c;
    OT_TRY(ot_cli_client_open(args, &c, err));
    json_t *body = json_pack("{s:s}", "path", dir);
    if (ot_args_given(args, "keep")) {
        json_object_set_new(body, "keep", json_integer(ot_args_int(args, "keep")));
    }
    ot_rc rc = ot_cli_client_patient(c, err);
    if (rc == OT_OK) {
        rc = ot_cli_client_call(c, "POST", "/api/v1/backups", body, answer_out, err);
    }
    json_decref(body);
    ot_cli_client_close(c);
    return rc;
}

static ot_rc report_of(const ot_backup_report *r, json_t **out, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    ot_backup_report_json(r, &text);
    *out = text.failed ? NULL : json_loads(text.data, 0, NULL);
    return *out != NULL ? OT_OK : ot_fail(err, OT_EXHAUSTED, "no memory for the answer");
}

/* Nobody has the store open, and it stays as it is. */
static ot_rc make_here(const ot_args *args, const char *store_dir, const char *dir,
                       json_t **answer_out, ot_error *err)
{
    char data[OT_PATH_MAX];
    ot_store *store;
    ot_backup_report report;
    ot_backup_options o = {
        .data_dir = data, .program = OT_VERSION, .keep = (unsigned)ot_args_int(args, "keep")};
    OT_TRY(ot_datadir_absolute(ot_args_str(args, "data"), data, err));
    OT_TRY(ot_store_open_view(ot_disk_posix(), store_dir, &store, err));
    ot_rc rc = ot_backup_make(store, dir, &o, &report, err);
    ot_store_close(store);
    return rc == OT_OK ? report_of(&report, answer_out, err) : rc;
}

static ot_rc make(const ot_args *args, const char *dir, json_t **answer_out, ot_error *err)
{
    OT_AUTO(ot_fd_close) int lock = -1;
    const char *data = ot_args_str(args, "data");
    char path[OT_PATH_MAX], store[OT_PATH_MAX];
    if (ot_args_given(args, "url")) {
        return ask_control(args, dir, answer_out, err);
    }
    OT_TRY(ot_path_join(store, data, "store", err));
    OT_TRY(ot_path_join(path, data, "lock", err));
    if (!ot_disk_exists(ot_disk_posix(), store)) {
        return ot_fail(err, OT_NOT_FOUND,
                       "data directory '%s' holds nothing to back up; name another with --data",
                       data);
    }
    ot_rc rc = ot_disk_lock_file(path, &lock, err);
    if (rc == OT_UNAVAILABLE) {
        return ask_control(args, dir, answer_out, err);
    }
    OT_TRY(rc);
    return make_here(args, store, dir, answer_out, err);
}

/* Into a folder beside the file, which is packed and goes. */
static ot_rc make_file(const ot_args *args, const char *file, json_t **answer_out, ot_error *err)
{
    char folder[OT_PATH_MAX];
    ot_disk *d = ot_disk_posix();
    if (ot_disk_exists(d, file)) {
        return ot_fail(err, OT_EXISTS, "%s: there is one already; name another file", file);
    }
    if (snprintf(folder, sizeof folder, "%s" OT_BACKUP_PARTIAL, file) >= (int)sizeof folder) {
        return ot_fail(err, OT_RANGE, "%.200s...: too long a path", file);
    }
    ot_rc rc = make(args, folder, answer_out, err);
    if (rc == OT_OK) {
        rc = ot_backup_pack(d, json_string_value(json_object_get(*answer_out, "path")), file, err);
        json_object_set_new(*answer_out, "path", json_string(file));
    }
    ot_rc ignored = ot_disk_remove_tree(d, folder, NULL);
    (void)ignored;
    return rc;
}

static ot_rc make_either(const ot_args *args, json_t **answer_out, ot_error *err)
{
    char path[OT_PATH_MAX];
    OT_TRY(ot_datadir_absolute(ot_args_pos(args, "DIR|FILE.tar"), path, err));
    return ot_has_suffix(path, ".tar") ? make_file(args, path, answer_out, err)
                                       : make(args, path, answer_out, err);
}

static int run_backup(const ot_args *args)
{
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_error err = {0};
    json_t *answer = NULL;
    if (make_either(args, &answer, &err) != OT_OK) {
        json_decref(answer);
        return ot_cli_fail(args, &err);
    }
    int code;
    if (ot_args_json(args)) {
        code = ot_cli_print_json(answer);
    } else {
        ot_cli_view_backup(answer, &out);
        code = ot_cli_print(&out);
    }
    json_decref(answer);
    return code;
}

/* --- restore ---------------------------------------------------------------------------------- */

static ot_rc restore(const ot_args *args, ot_backup_report *report, char data[OT_PATH_MAX],
                     ot_error *err)
{
    OT_AUTO(ot_fd_close) int lock = -1;
    const char *user = getenv("USER");
    ot_restore_options o = {.actor = user != NULL && user[0] != 0 ? user : "overtake"};
    OT_TRY(ot_datadir_lock(ot_args_str(args, "data"), data, &lock, err));
    OT_TRY(ot_backup_restore(ot_disk_posix(), ot_args_pos(args, "BACKUP"), data, &o, report, err));
    return ot_datadir_token(data, err);
}

static int run_restore(const ot_args *args)
{
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_error err = {0};
    ot_backup_report report;
    char data[OT_PATH_MAX];
    json_t *answer = NULL;
    ot_rc rc = restore(args, &report, data, &err);
    if (rc == OT_OK) {
        rc = report_of(&report, &answer, &err);
    }
    if (rc != OT_OK) {
        return ot_cli_fail(args, &err);
    }
    json_object_set_new(answer, "data", json_string(data));
    int code;
    if (ot_args_json(args)) {
        code = ot_cli_print_json(answer);
    } else {
        ot_cli_view_restored(answer, &out);
        code = ot_cli_print(&out);
    }
    json_decref(answer);
    return code;
}

static const ot_opt backup_opts[] = {
    OT_CLI_CLIENT_OPTS,
    {.name = "keep",
     .type = OT_OPT_INT,
     .min = "1",
     .max = "10000",
     .help = "backups that stay in the folder, with this one [all]",
     .env = ""},
};
static const ot_pos backup_pos[] = {
    {.name = "DIR|FILE.tar",
     .help = "a folder for backups (each is a folder in it, named by its time), or one file"}};

const ot_command ot_cli_backup_command = {
    .group = "Operate",
    .name = "backup",
    .summary = "save the data directory, while it is in use",
    .detail =
        "The database as of one moment, every blob it refers to, and of each run its log. What an "
        "earlier\nbackup in the folder has is not copied again. While the control plane runs it "
        "makes the backup\nitself, gently; a stopped data directory is read from here.",
    OT_OPTS(backup_opts),
    OT_POS(backup_pos),
    .run = run_backup,
};

static const ot_opt restore_opts[] = {OT_OPT_DATA_DIR};
static const ot_pos restore_pos[] = {
    {.name = "BACKUP", .help = "a backup, a .tar of one, or a folder of them: then the newest"}};

const ot_command ot_cli_restore_command = {
    .name = "restore",
    .summary = "put a backup into an empty data directory",
    .detail = "Every file is checked against the backup's manifest, the event log against its "
              "head. The token is a\nnew one. Runs that were under way count as lost. Then: "
              "overtake up --data DIR.",
    OT_OPTS(restore_opts),
    OT_POS(restore_pos),
    .run = run_restore,
};
