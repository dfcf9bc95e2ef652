/* `overtake upgrade`: looks at the new binary, asks the supervisor to take it, and waits for what
 * became of it. */
#include "base/clock.h"
#include "base/mem.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/datadir.h"
#include "cli/text.h"
#include "cli/upgrade.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define POLL_US 100000

typedef struct upgrade {
    const ot_args *args;
    char binary[OT_PATH_MAX];
    int pid;
    int64_t after;    /* the head of the log before it began */
    uint64_t give_up; /* when to wait no longer */
} upgrade;

static ot_rc find(upgrade *u, ot_error *err)
{
    const char *dir = ot_args_str(u->args, "data"), *given = ot_args_str(u->args, "binary");
    bool can;
    OT_TRY(ot_datadir_owner(dir, &u->pid, &can, err));
    if (!can) {
        return ot_fail(err, OT_PRECONDITION,
                       "the supervisor (process %d) is of a version that can't be replaced while "
                       "it runs; kill -HUP %d upgrades its children, a restart all of it",
                       u->pid, u->pid);
    }
    return given != NULL ? ot_datadir_absolute(given, u->binary, err)
                         : ot_upgrade_path(u->pid, u->binary, err);
}

static ot_rc head(upgrade *u, ot_error *err)
{
    ot_cli_client *c;
    json_t *answer = NULL;
    OT_TRY(ot_cli_client_open(u->args, &c, err));
    ot_rc rc = ot_cli_client_call(c, "GET", "/api/v1/events?limit=1&newest=1", NULL, &answer, err);
    u->after = json_integer_value(json_object_get(json_object_get(answer, "head"), "seq"));
    json_decref(answer);
    ot_cli_client_close(c);
    return rc;
}

static ot_rc ask(const upgrade *u, ot_error *err)
{
    char file[OT_PATH_MAX];
    OT_TRY(ot_path_join(file, ot_args_str(u->args, "data"), OT_UPGRADE_FILE, err));
    OT_TRY(ot_disk_write_atomic(ot_disk_posix(), file, u->binary, strlen(u->binary), 0600, err));
    if (kill(u->pid, SIGHUP) == 0) {
        return OT_OK;
    }
    int saved = errno;
    (void)ot_disk_posix()->ops->unlink(ot_disk_posix(), file, NULL); /* not for another SIGHUP */
    return ot_fail_errno(err, saved, "the supervisor, process %d", u->pid);
}

/* The event that ends it; NULL while there is none. A control plane that can't be asked is on its
 * way to the new binary. */
static json_t *look(const upgrade *u, ot_error *err)
{
    ot_cli_client *c;
    json_t *answer = NULL, *found = NULL, *event;
    size_t i;
    char target[96];
    snprintf(target, sizeof target, "/api/v1/events?type=upgrade.&after=%" PRId64, u->after);
    if (ot_cli_client_open(u->args, &c, err) != OT_OK) {
        return NULL;
    }
    if (ot_cli_client_call(c, "GET", target, NULL, &answer, err) == OT_OK) {
        json_array_foreach(json_object_get(answer, "events"), i, event)
        {
            if (found == NULL && strcmp(ot_cli_get(event, "type"), "upgrade.started") != 0) {
                found = json_incref(event);
            }
        }
    }
    json_decref(answer);
    ot_cli_client_close(c);
    return found;
}

static ot_rc wait_for_it(const upgrade *u, json_t **event_out, ot_error *err)
{
    json_t *event;
    while ((event = look(u, err)) == NULL) {
        if (kill(u->pid, 0) != 0 && errno == ESRCH) {
            return ot_fail(err, OT_UNAVAILABLE,
                           "the supervisor (process %d) has ended; its log says why", u->pid);
        }
        if (ot_clock_mono_ns() >= u->give_up) {
            return ot_fail(err, OT_UNAVAILABLE,
                           "the upgrade goes on; no end of it within --wait (overtake events "
                           "--type upgrade. tells it)");
        }
        ot_clock_sleep_us(POLL_US);
    }
    *event_out = event;
    return OT_OK;
}

static int tell(const upgrade *u, json_t *event)
{
    bool fine = strcmp(ot_cli_get(event, "type"), "upgrade.finished") == 0;
    const json_t *payload = json_object_get(event, "payload");
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    if (ot_args_json(u->args)) {
        return ot_cli_print_json(event) != 0 || !fine;
    }
    ot_str_addf(&out, "%s%s\n", fine ? "upgraded: " : "", ot_cli_get(payload, "text"));
    return ot_cli_print(&out) != 0 || !fine;
}

static int run(const ot_args *args)
{
    static upgrade u;
    ot_upgrade_binary binary;
    ot_error err = {0};
    json_t *event = NULL;
    u = (upgrade){.args = args,
                  .give_up = ot_clock_mono_ns() + (uint64_t)ot_args_us(args, "wait") * 1000};
    ot_rc rc = find(&u, &err);
    if (rc == OT_OK) {
        rc = ot_upgrade_look(u.binary, &binary, &err);
    }
    if (rc == OT_OK && ot_args_bool(args, "check")) {
        OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
        ot_str_addf(&out,
                    ot_args_json(args) ? "{\"version\": \"%s\", \"schema\": %" PRId64 "}\n"
                                       : "fine: version %s, schema %" PRId64 "\n",
                    binary.version, binary.schema);
        return ot_cli_print(&out);
    }
    if (rc == OT_OK) {
        rc = head(&u, &err);
    }
    if (rc == OT_OK) {
        rc = ask(&u, &err);
    }
    if (rc == OT_OK) {
        rc = wait_for_it(&u, &event, &err);
    }
    int code = rc == OT_OK ? tell(&u, event) : ot_cli_fail(args, &err);
    json_decref(event);
    return code;
}

static const ot_opt opts[] = {
    OT_CLI_CLIENT_OPTS,
    {.name = "binary",
     .type = OT_OPT_STRING,
     .value = "FILE",
     .help = "the new binary [the file that `up` was started from, as it is now]"},
    {.name = "check", .type = OT_OPT_BOOL, .help = "only look whether it could take over"},
    {.name = "wait",
     .type = OT_OPT_DURATION,
     .def = "5min",
     .min = "1s",
     .help = "how long to wait for the end of the upgrade"},
};

const ot_command ot_cli_upgrade_command = {
    .name = "upgrade",
    .summary = "replace a running `overtake up` by a new binary, without a failed request",
    .detail =
        "Looks at the new binary first (same machine, starts, knows the schema of the store), "
        "then has\nthe supervisor execute it in place and replace its children one by one. A "
        "new binary whose\nchildren do not become ready is left again for the one before. "
        "SIGHUP to `up` does the same.",
    OT_OPTS(opts),
    .run = run};
