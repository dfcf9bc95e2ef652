/* `overtake models`, `accuracy`, `replicas`: what there is and how good it is. */
#include "base/clock.h"
#include "base/mem.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/text.h"
#include "cli/view.h"

#include <stdio.h>
#include <stdlib.h>

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

/* A row a line, for other programs. */
static void print_samples(const json_t *answer, ot_str *out)
{
    size_t i;
    const json_t *row;
    json_array_foreach(json_object_get(answer, "samples"), i, row)
    {
        char *text = json_dumps(row, JSON_COMPACT);
        ot_str_adds(out, text != NULL ? text : "");
        ot_str_addc(out, '\n');
        free(text);
    }
    const json_t *next = json_object_get(answer, "next");
    if (json_is_integer(next)) {
        fprintf(stderr, "older ones: --before %lld\n", (long long)json_integer_value(next));
    }
}

static int run_samples(const ot_args *args)
{
    OT_AUTO(ot_str_done) ot_str target = OT_STR_INIT;
    ot_cli_target(&target, "/api/v1/deployments/", ot_args_pos(args, "DEPLOYMENT"), "/samples");
    ot_cli_query_i64(&target, "limit", ot_args_int(args, "limit"));
    if (ot_args_int(args, "before") > 0) {
        ot_cli_query_i64(&target, "before", ot_args_int(args, "before"));
    }
    return ot_cli_client_run(args, "GET", &target, NULL, print_samples);
}

static const ot_opt opts[] = {OT_CLI_CLIENT_OPTS};
static const ot_opt samples_opts[] = {
    OT_CLI_CLIENT_OPTS,
    {.name = "limit",
     .type = OT_OPT_INT,
     .def = "100",
     .min = "1",
     .max = "1000",
     .help =
         "so many rows, and the rest of the segment that has the last; the newest segment first",
     .env = ""},
    {.name = "before",
     .type = OT_OPT_INT,
     .value = "SEGMENT",
     .def = "0",
     .min = "0",
     .help = "those in older segments than this one [all]",
     .env = ""},
};
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
const ot_command ot_cli_samples_command = {
    .name = "samples",
    .summary = "the rows that are kept of a deployment's traffic, one a line as JSON",
    .detail =
        "With inputs and outputs by name, the prediction's id, version and key. A shadow copy "
        "has no inputs:\nthey are those of the live row with the same number in its id.",
    OT_OPTS(samples_opts),
    OT_POS(deployment_pos),
    .run = run_samples,
};
const ot_command ot_cli_replicas_command = {
    .name = "replicas", .summary = "list what is connected", OT_OPTS(opts), .run = run_replicas};
