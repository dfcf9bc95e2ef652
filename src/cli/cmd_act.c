/* What people do with an app: the accelerator and the brake. One request each. */
#include "base/mem.h"
#include "cli/appfile.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/text.h"
#include "cli/view.h"

#include <string.h>

/* The version out of "v3" or "3"; 0 when it is none. */
int64_t ot_cli_version_of(const char *text)
{
    int64_t v;
    bool good = ot_parse_i64(text[0] == 'v' ? text + 1 : text, &v, NULL) == OT_OK && v > 0;
    return good ? v : 0;
}

static int act(const ot_args *args, int64_t version, const char *path, int64_t for_us)
{
    OT_AUTO(ot_str_done) ot_str target = OT_STR_INIT;
    const char *reason = ot_args_str(args, "reason");
    json_t *body = json_object();
    json_object_set_new(body, "verb", json_string(ot_args_command(args)->name));
    if (reason != NULL) {
        json_object_set_new(body, "reason", json_string(reason));
    }
    if (version > 0) {
        json_object_set_new(body, "version", json_integer(version));
    }
    if (path != NULL) {
        json_object_set_new(body, "path", json_string(path));
    }
    if (for_us > 0) {
        json_object_set_new(body, "for_us", json_integer(for_us));
    }
    ot_cli_target(&target, "/api/v1/apps/", ot_args_pos(args, "APP"), "/act");
    int code = ot_cli_client_run(args, "POST", &target, body, ot_cli_view_acted);
    json_decref(body);
    return code;
}

static int run_act(const ot_args *args)
{
    return act(args, 0, NULL, 0);
}

static int run_resume(const ot_args *args)
{
    return act(args, 0, NULL, ot_args_us(args, "for"));
}

/* pin, release */
static int run_version(const ot_args *args)
{
    const char *text = ot_args_pos(args, "VERSION");
    int64_t version = ot_cli_version_of(text);
    if (version == 0) {
        return ot_cli_usage(args, "VERSION: '%.40s' is not a version: v3 or 3", text);
    }
    return act(args, version, NULL, 0);
}

static int run_push(const ot_args *args)
{
    char path[OT_PATH_MAX];
    ot_error err = {0};
    if (ot_cli_absolute(ot_args_pos(args, "PATH"), path, &err) != OT_OK) {
        return ot_cli_fail(args, &err);
    }
    return act(args, 0, path, 0);
}

static const ot_opt opts[] = {
    OT_CLI_CLIENT_OPTS,
    {.name = "reason", .type = OT_OPT_STRING, .help = "why; the log shows it", .env = ""},
};
static const ot_opt resume_opts[] = {
    OT_CLI_CLIENT_OPTS,
    {.name = "reason", .type = OT_OPT_STRING, .help = "why; the log shows it", .env = ""},
    {.name = "for",
     .type = OT_OPT_DURATION,
     .help = "bear a spent budget for so long; without it until it recovers",
     .env = ""},
};
static const ot_pos app_pos[] = {{.name = "APP", .help = "the app's name"}};
static const ot_pos pin_pos[] = {{.name = "APP", .help = "the app's name"},
                                 {.name = "VERSION", .help = "v3 or 3"}};
static const ot_pos push_pos[] = {
    {.name = "APP", .help = "the app's name"},
    {.name = "PATH", .help = "an ONNX file, a SavedModel or a bundle on this machine"}};

#define ACT(word, heading, text)                                                                   \
    const ot_command ot_cli_##word##_command = {.group = (heading),                                \
                                                .name = #word,                                     \
                                                .summary = (text),                                 \
                                                OT_OPTS(opts),                                     \
                                                OT_POS(app_pos),                                   \
                                                .run = run_act}

ACT(train, "Act", "train anew now");
ACT(pause, NULL, "start no runs by itself; what is on goes on");
ACT(freeze, NULL, "stop the loop where it stands: no run, no stage, no change of version");
ACT(approve, NULL, "let the version that waits for an approval go on");
ACT(reject, NULL, "refuse the version that waits for an approval (needs --reason)");
ACT(rollback, NULL, "stop what is on, or go back to the previous version (needs --reason)");

ACT(load, NULL, "serve again what unload took from the replicas");
ACT(unload, NULL, "take an app's versions from all replicas; what is learned of them stays");

const ot_command ot_cli_resume_command = {
    .name = "resume",
    .summary = "end a pause, a freeze or a pin; let go on what a spent error budget holds",
    .detail =
        "After a spent budget it needs --reason, and holds until the budget recovers or --for\n"
        "is over: overtake resume digits --reason \"the disk is replaced\" --for 2d.",
    OT_OPTS(resume_opts),
    OT_POS(app_pos),
    .run = run_resume,
};
const ot_command ot_cli_pin_command = {
    .name = "pin",
    .summary = "serve this version and no other until resume",
    OT_OPTS(opts),
    OT_POS(pin_pos),
    .run = run_version,
};
const ot_command ot_cli_release_command = {
    .name = "release",
    .summary = "send a registered version through gate and stages",
    OT_OPTS(opts),
    OT_POS(pin_pos),
    .run = run_version,
};
const ot_command ot_cli_push_command = {
    .name = "push",
    .summary = "release a model that was trained elsewhere",
    OT_OPTS(opts),
    OT_POS(push_pos),
    .run = run_push,
};
