/* `overtake models`, `accuracy`, `replicas`: what there is and how good it is. */
#include "base/clock.h"
#include "base/mem.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/text.h"
#include "cli/view.h"

#include <string.h>

static int run_models(const ot_args *args)
{
    OT_AUTO(ot_str_done) ot_str target = OT_STR_INIT;
    const char *model = ot_args_pos(args, "MODEL");
    if (model == NULL) {
        ot_str_adds(&target, "/api/v1/models");
    } else {
        ot_cli_target(&target, "/api/v1/models/", model, "");
    }
    return ot_cli_client_run(args, "GET", &target, NULL,
                             model == NULL ? ot_cli_view_models : ot_cli_view_model);
}

static int run_replicas(const ot_args *args)
{
    OT_AUTO(ot_str_done) ot_str target = OT_STR_INIT;
    ot_str_adds(&target, "/api/v1/replicas");
    return ot_cli_client_run(args, "GET", &target, NULL, ot_cli_view_replicas);
}

/* What serves at a deployment now: the version that is meant when none is named. */
static ot_rc champion_of(const ot_args *args, const char *deployment, int64_t *version_out,
                         ot_error *err)
{
    ot_cli_client *c;
    json_t *answer = NULL;
    size_t i;
    const json_t *app;
    *version_out = 0;
    OT_TRY(ot_cli_client_open(args, &c, err));
    ot_rc rc = ot_cli_client_call(c, "GET", "/api/v1/apps", NULL, &answer, err);
    ot_cli_client_close(c);
    json_array_foreach(json_object_get(answer, "apps"), i, app)
    {
        if (strcmp(ot_cli_get(app, "deployment"), deployment) == 0) {
            *version_out = ot_cli_int(app, "champion");
        }
    }
    json_decref(answer);
    if (rc == OT_OK && *version_out == 0) {
        rc = ot_fail(err, OT_NOT_FOUND,
                     "no version serves at deployment '%.64s'; overtake status lists the apps, or "
                     "name one with --version",
                     deployment);
    }
    return rc;
}

static bool add_time(const ot_args *args, const char *option, const char *key, ot_str *target)
{
    const char *text = ot_args_str(args, option);
    int64_t us = 0;
    ot_error err = {0};
    if (text == NULL) {
        return true;
    }
    if (ot_cli_parse_time(text, ot_clock_wall_us(), &us, &err) != OT_OK) {
        ot_cli_usage(args, "--%s: %s", option, err.msg);
        return false;
    }
    ot_cli_query_i64(target, key, us);
    return true;
}

static int run_accuracy(const ot_args *args)
{
    OT_AUTO(ot_str_done) ot_str target = OT_STR_INIT;
    ot_error err = {0};
    const char *deployment = ot_args_pos(args, "DEPLOYMENT"), *text = ot_args_str(args, "version");
    int64_t version = text != NULL ? ot_cli_version_of(text) : 0;
    if (text != NULL && version == 0) {
        return ot_cli_usage(args, "--version: '%.40s' is not a version: v4 or 4", text);
    }
    if (text == NULL && champion_of(args, deployment, &version, &err) != OT_OK) {
        return ot_cli_fail(args, &err);
    }
    ot_cli_target(&target, "/api/v1/deployments/", deployment, "/accuracy");
    ot_cli_query_i64(&target, "version", version);
    if (!add_time(args, "from", "from_us", &target) || !add_time(args, "to", "to_us", &target)) {
        return 2;
    }
    return ot_cli_client_run(args, "GET", &target, NULL, ot_cli_view_accuracy);
}

static const ot_opt opts[] = {OT_CLI_CLIENT_OPTS};
static const ot_opt accuracy_opts[] = {
    OT_CLI_CLIENT_OPTS,
    {.name = "version",
     .type = OT_OPT_STRING,
     .value = "N",
     .help = "of this version [what serves now]",
     .env = ""},
    {.name = "from",
     .type = OT_OPT_STRING,
     .value = "TIME",
     .help = "rows from then on: 2026-11-23, 2026-11-23T10:15:00Z, or 7d for a week ago",
     .env = ""},
    {.name = "to", .type = OT_OPT_STRING, .value = "TIME", .help = "rows before then", .env = ""},
};
static const ot_pos model_pos[] = {
    {.name = "MODEL", .help = "a model: its versions; all models without it", .optional = true}};
static const ot_pos deployment_pos[] = {{.name = "DEPLOYMENT", .help = "where it answers"}};

const ot_command ot_cli_models_command = {
    .name = "models",
    .summary = "list models, or the versions of one",
    OT_OPTS(opts),
    OT_POS(model_pos),
    .run = run_models,
};
const ot_command ot_cli_accuracy_command = {
    .name = "accuracy",
    .summary = "how often a version was right, by the labels",
    OT_OPTS(accuracy_opts),
    OT_POS(deployment_pos),
    .run = run_accuracy,
};
const ot_command ot_cli_replicas_command = {
    .name = "replicas", .summary = "list what is connected", OT_OPTS(opts), .run = run_replicas};
