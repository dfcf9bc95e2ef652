/* `overtake simulate`: what an app file would have done with what was recorded. */
#include "base/mem.h"
#include "base/random.h"
#include "cli/appfile.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/datadir.h"
#include "cli/view.h"
#include "simulate/simulate.h"
#include "store/backup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static ot_rc make_scratch(char out[OT_PATH_MAX], char copy[OT_PATH_MAX], ot_error *err)
{
    const char *tmp = getenv("TMPDIR");
    char base[OT_PATH_MAX], name[64], hex[17];
    uint8_t b[8];
    OT_TRY(ot_datadir_absolute(tmp != NULL && tmp[0] != 0 ? tmp : "/tmp", base, err));
    ot_random_bytes(b, sizeof b);
    ot_hex(b, sizeof b, hex);
    snprintf(name, sizeof name, "overtake-simulate-%s", hex);
    OT_TRY(ot_path_join(out, base, name, err));
    OT_TRY(ot_path_join(copy, out, "recorded", err));
    ot_disk *d = ot_disk_posix();
    OT_TRY(d->ops->mkdir(d, out, 0700, err));
    return d->ops->mkdir(d, copy, 0700, err);
}

/* ---- the recording: a copy of the database, as of now */

/* The control plane has the store open: it makes the copy. */
static ot_rc ask_control(const ot_args *args, const char *copy, ot_error *err)
{
    ot_cli_client *c;
    json_t *answer = NULL;
    OT_TRY(ot_cli_client_open(args, &c, err));
    json_t *body = json_pack("{s:s}", "path", copy);
    ot_rc rc = ot_cli_client_patient(c, err);
    if (rc == OT_OK) {
        rc = ot_cli_client_call(c, "POST", "/api/v1/snapshots", body, &answer, err);
    }
    json_decref(body);
    json_decref(answer);
    ot_cli_client_close(c);
    return rc;
}

/* Nobody has the store open, and it stays as it is. */
static ot_rc copy_here(const char *store_dir, const char *copy, ot_error *err)
{
    ot_store *store;
    ot_snapshot made;
    const ot_snapshot_options opt = {0};
    OT_TRY(ot_store_open_view(ot_disk_scratch(), store_dir, &store, err));
    ot_rc rc = ot_store_snapshot(store, copy, &opt, &made, err);
    ot_store_close(store);
    return rc;
}

/* Of a data directory in use, of one at rest, or of a backup. */
static ot_rc copy_store(const ot_args *args, const char *copy, char blobs[OT_PATH_MAX],
                        ot_error *err)
{
    OT_AUTO(ot_fd_close) int lock = -1;
    const char *data = ot_args_str(args, "data");
    char store[OT_PATH_MAX], path[OT_PATH_MAX];
    OT_TRY(ot_path_join(store, data, "store", err));
    OT_TRY(ot_path_join(blobs, store, "blobs", err));
    OT_TRY(ot_path_join(path, data, "lock", err));
    if (!ot_disk_exists(ot_disk_posix(), store)) {
        return ot_fail(err, OT_NOT_FOUND,
                       "data directory '%s' holds nothing that was recorded; name another with "
                       "--data",
                       data);
    }
    ot_rc rc = ot_disk_exists(ot_disk_posix(), path) ? ot_disk_lock_file(path, &lock, err) : OT_OK;
    if (rc == OT_UNAVAILABLE) {
        return ask_control(args, copy, err);
    }
    return rc == OT_OK ? copy_here(store, copy, err) : rc;
}

/* ---- the rehearsal */

static ot_rc rehearse(const ot_args *args, const ot_app *app, const char *scratch, const char *copy,
                      json_t **answer_out, ot_error *err)
{
    char blobs[OT_PATH_MAX], dir[OT_PATH_MAX];
    ot_store *store;
    OT_TRY(ot_cli_absolute(app->dir, dir, err));
    OT_TRY(copy_store(args, copy, blobs, err));
    OT_TRY(ot_store_open(ot_disk_scratch(), copy, NULL, &store, err));
    ot_simulate_config cfg = {.recorded = store,
                              .blobs = blobs,
                              .scratch = scratch,
                              .yaml = app->yaml,
                              .file = app->file,
                              .dir = dir,
                              .last_us = ot_args_us(args, "last"),
                              .assume_accuracy = ot_args_set(args, "assume-accuracy")
                                                     ? ot_args_fraction(args, "assume-accuracy")
                                                     : -1,
                              .events = ot_args_bool(args, "explain")};
    ot_rc rc = ot_simulate(&cfg, answer_out, err);
    ot_store_close(store);
    return rc;
}

static ot_rc simulate(const ot_args *args, json_t **answer_out, ot_error *err)
{
    char scratch[OT_PATH_MAX], copy[OT_PATH_MAX];
    ot_app *app;
    OT_TRY(ot_cli_app_load(ot_args_pos(args, "FILE"), NULL, &app, err));
    ot_rc rc = make_scratch(scratch, copy, err);
    if (rc == OT_OK) {
        rc = rehearse(args, app, scratch, copy, answer_out, err);
        ot_error e = {0};
        if (ot_disk_remove_tree(ot_disk_scratch(), scratch, &e) != OT_OK) {
            fprintf(stderr, "overtake: left behind: %s\n", e.msg);
        }
    }
    ot_app_destroy(app);
    return rc;
}

static int run_simulate(const ot_args *args)
{
    ot_error err = {0};
    json_t *answer = NULL;
    if (simulate(args, &answer, &err) != OT_OK) {
        return ot_cli_fail(args, &err);
    }
    int code;
    if (ot_args_json(args)) {
        code = ot_cli_print_json(answer);
    } else {
        OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
        ot_cli_view_simulated(answer, ot_args_bool(args, "explain"), &out);
        code = ot_cli_print(&out);
    }
    json_decref(answer);
    return code;
}

static const ot_opt opts[] = {
    OT_CLI_CLIENT_OPTS,
    {.name = "last",
     .type = OT_OPT_DURATION,
     .def = "30d",
     .min = "1s",
     .help = "how much of the recording, back from its end",
     .env = ""},
    {.name = "assume-accuracy",
     .type = OT_OPT_FRACTION,
     .min = "0",
     .max = "1",
     .help = "of versions that were never trained [the champion's at its own promotion]",
     .env = ""},
    {.name = "explain",
     .type = OT_OPT_BOOL,
     .help = "also list what would have happened, event by event",
     .env = ""},
};
static const ot_pos pos[] = {{.name = "FILE", .help = "an app file (YAML)"}};

const ot_command ot_cli_simulate_command = {
    .name = "simulate",
    .summary = "rehearse an app file over what was recorded, beside the policy in force",
    .detail =
        "The loop's own code runs over the recorded windows, answers and labels, in the order "
        "and at the times\nin which they came, once under FILE and once under the file in "
        "force. Nothing is trained and nothing\nchanges: what no record can tell is assumed, "
        "and the answer says what was.\n\n"
        "--data may name a data directory in use, one at rest, or a backup.",
    OT_OPTS(opts),
    OT_POS(pos),
    .run = run_simulate,
};
