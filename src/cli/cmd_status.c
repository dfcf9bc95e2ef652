/* `overtake status` and `overtake why`. */
#include "base/clock.h"
#include "base/mem.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/text.h"
#include "cli/view.h"

#include <string.h>

static void print_apps(const json_t *answer, ot_str *out)
{
    ot_cli_view_apps(answer, ot_clock_wall_us(), out);
}

static void print_app(const json_t *answer, ot_str *out)
{
    ot_cli_view_app(answer, ot_clock_wall_us(), out);
}

static int run_status(const ot_args *args)
{
    OT_AUTO(ot_str_done) ot_str target = OT_STR_INIT;
    const char *app = ot_args_pos(args, "APP");
    if (app == NULL) {
        ot_str_adds(&target, "/api/v1/apps");
    } else {
        ot_cli_target(&target, "/api/v1/apps/", app, "");
    }
    return ot_cli_client_run(args, "GET", &target, NULL, app == NULL ? print_apps : print_app);
}

/* "digits", "digits v4", "digits not v4". */
static int run_why(const ot_args *args)
{
    OT_AUTO(ot_str_done) ot_str target = OT_STR_INIT;
    const char *const *words;
    size_t n = ot_args_many(args, &words);
    bool not = n > 0 && strcmp(words[0], "not") == 0;
    words += not ;
    n -= not ;
    if (n > 1 || (not &&n == 0)) {
        return ot_cli_usage(args, "say it like this: why digits, why digits v4, why digits not v4");
    }
    int64_t version = n == 1 ? ot_cli_version_of(words[0]) : 0;
    if (n == 1 && version == 0) {
        return ot_cli_usage(args, "'%.40s' is not a version: v4 or 4", words[0]);
    }
    ot_cli_target(&target, "/api/v1/apps/", ot_args_pos(args, "APP"), "/why");
    if (version > 0) {
        ot_cli_query_i64(&target, "version", version);
    }
    return ot_cli_client_run(args, "GET", &target, NULL, ot_cli_view_why);
}

static const ot_opt opts[] = {OT_CLI_CLIENT_OPTS};
static const ot_pos status_pos[] = {
    {.name = "APP", .help = "an app; all of them in short without it", .optional = true}};
static const ot_pos why_pos[] = {{.name = "APP", .help = "the app's name"},
                                 {.name = "[not] vN",
                                  .help = "a version; what serves without it",
                                  .optional = true,
                                  .many = true}};

const ot_command ot_cli_status_command = {
    .group = "Look",
    .name = "status",
    .summary = "what serves, what is on, what is not well",
    OT_OPTS(opts),
    OT_POS(status_pos),
    .run = run_status,
};
const ot_command ot_cli_why_command = {
    .name = "why",
    .summary = "why this version serves, or why that one does not",
    .detail =
        "Walks the log backwards from the last word on the version, event by event along the\n"
        "causes that each names: overtake why digits; overtake why digits not v4.",
    OT_OPTS(opts),
    OT_POS(why_pos),
    .run = run_why,
};
