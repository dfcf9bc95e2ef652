/* `overtake label`, `ab`, `switch`: several versions of one deployment at a time. */
#include "base/clock.h"
#include "base/mem.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/text.h"
#include "cli/view.h"

#include <stdio.h>
#include <string.h>

/* Takes `body` over. */
static int act(const ot_args *args, json_t *body)
{
    OT_AUTO(ot_str_done) ot_str target = OT_STR_INIT;
    const char *reason = ot_args_str(args, "reason");
    json_object_set_new(body, "verb", json_string(ot_args_command(args)->name));
    if (reason != NULL) {
        json_object_set_new(body, "reason", json_string(reason));
    }
    ot_cli_target(&target, "/api/v1/apps/", ot_args_pos(args, "APP"), "/act");
    int code = ot_cli_client_run(args, "POST", &target, body, ot_cli_view_acted);
    json_decref(body);
    return code;
}

/* "NAME=VALUE" cut in two; false when it has no '='. */
static bool cut(const char *text, char *name, size_t size, const char **value_out)
{
    const char *eq = strchr(text, '=');
    if (eq == NULL || (size_t)(eq - text) >= size) {
        return false;
    }
    memcpy(name, text, (size_t)(eq - text));
    name[eq - text] = '\0';
    *value_out = eq + 1;
    return true;
}

static int run_label(const ot_args *args)
{
    char name[80];
    const char *value, *text = ot_args_pos(args, "NAME=VERSION");
    if (!cut(text, name, sizeof name, &value)) {
        return ot_cli_usage(args, "'%.80s': blue=3 sets a label, blue= takes it away", text);
    }
    int64_t version = value[0] != '\0' ? ot_cli_version_of(value) : 0;
    if (value[0] != '\0' && version == 0) {
        return ot_cli_usage(args, "'%.40s' is not a version: v3 or 3", value);
    }
    json_t *body = json_pack("{s:s}", "label", name);
    if (version > 0) {
        json_object_set_new(body, "version", json_integer(version));
    }
    return act(args, body);
}

static int run_switch(const ot_args *args)
{
    const char *to = ot_args_pos(args, "TO");
    int64_t version = ot_cli_version_of(to);
    return act(args, version > 0 ? json_pack("{s:I}", "version", (json_int_t)version)
                                 : json_pack("{s:s}", "label", to));
}

/* ------------------------------------------------------------------ A/B tests */

static void add_labels(const json_t *app, json_t *arm)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    const char *name;
    json_t *version;
    json_object_foreach(json_object_get(app, "labels"), name, version)
    {
        if (json_integer_value(version) == ot_cli_int(arm, "version")) {
            ot_str_addf(&text, "%s%s", text.len > 0 ? " " : "", name);
        }
    }
    json_object_set_new(arm, "labels", json_string(text.data != NULL ? text.data : ""));
}

static void add_arm(const json_t *app, json_t *list, int64_t version, const char *role,
                    double share)
{
    json_t *arm =
        json_pack("{s:I,s:s,s:f}", "version", (json_int_t)version, "role", role, "share", share);
    add_labels(app, arm);
    json_array_append_new(list, arm);
}

/* The champion first, then the canary, then the arms. */
static json_t *arms_of(const json_t *app)
{
    const json_t *cycle = json_object_get(app, "cycle"), *arms = json_object_get(app, "arms"), *a;
    json_t *list = json_array();
    double rest = 1, canary = ot_cli_num(cycle, "share");
    size_t i;
    json_array_foreach(arms, i, a)
    {
        rest -= ot_cli_num(a, "share");
    }
    if (ot_cli_int(app, "champion") == 0) {
        return list;
    }
    add_arm(app, list, ot_cli_int(app, "champion"), "champion", rest * (1 - canary));
    if (canary > 0) {
        add_arm(app, list, ot_cli_int(cycle, "version"), "canary", rest * canary);
    }
    json_array_foreach(arms, i, a)
    {
        if (ot_cli_int(a, "version") != ot_cli_int(app, "champion")) {
            add_arm(app, list, ot_cli_int(a, "version"), "arm", ot_cli_num(a, "share"));
        }
    }
    return list;
}

static ot_rc add_windows(ot_cli_client *c, const char *deployment, int64_t from, json_t *list,
                         ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str target = OT_STR_INIT;
    json_t *answer = NULL, *arm, *point;
    size_t i, k;
    ot_cli_target(&target, "/api/v1/deployments/", deployment, "/windows");
    ot_cli_query_i64(&target, "points", 1);
    ot_cli_query_i64(&target, "from_us", from);
    OT_TRY(ot_cli_client_call(c, "GET", target.data, NULL, &answer, err));
    json_array_foreach(list, i, arm)
    {
        json_array_foreach(json_object_get(answer, "points"), k, point)
        {
            if (ot_cli_int(point, "version") == ot_cli_int(arm, "version") &&
                strcmp(ot_cli_get(point, "role"), ot_cli_get(arm, "role")) == 0) {
                json_object_update_missing(arm, point);
            }
        }
    }
    json_decref(answer);
    return OT_OK;
}

static ot_rc add_accuracies(ot_cli_client *c, const char *deployment, int64_t from, json_t *list,
                            ot_error *err)
{
    json_t *arm;
    size_t i;
    json_array_foreach(list, i, arm)
    {
        OT_AUTO(ot_str_done) ot_str target = OT_STR_INIT;
        json_t *answer = NULL;
        ot_cli_target(&target, "/api/v1/deployments/", deployment, "/accuracy");
        ot_cli_query_i64(&target, "version", ot_cli_int(arm, "version"));
        ot_cli_query_i64(&target, "from_us", from);
        OT_TRY(ot_cli_client_call(c, "GET", target.data, NULL, &answer, err));
        json_object_update_missing(arm, answer);
        json_decref(answer);
    }
    return OT_OK;
}

static ot_rc collect(const ot_args *args, ot_cli_client *c, json_t **list_out, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str target = OT_STR_INIT;
    json_t *app = NULL;
    int64_t from = ot_clock_wall_us() - ot_args_us(args, "over");
    ot_cli_target(&target, "/api/v1/apps/", ot_args_pos(args, "APP"), "");
    OT_TRY(ot_cli_client_call(c, "GET", target.data, NULL, &app, err));
    const char *deployment = ot_cli_get(app, "deployment");
    *list_out = arms_of(app);
    ot_rc rc = add_windows(c, deployment, from, *list_out, err);
    if (rc == OT_OK) {
        rc = add_accuracies(c, deployment, from, *list_out, err);
    }
    json_decref(app);
    return rc;
}

static int show(const ot_args *args)
{
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_cli_client *c;
    json_t *list = NULL;
    ot_error err = {0};
    int code = 0;
    if (ot_cli_client_open(args, &c, &err) != OT_OK) {
        return ot_cli_fail(args, &err);
    }
    if (collect(args, c, &list, &err) != OT_OK) {
        code = ot_cli_fail(args, &err);
    }
    ot_cli_client_close(c);
    json_t *answer = json_pack("{s:o}", "arms", list);
    if (code == 0 && ot_args_json(args)) {
        code = ot_cli_print_json(answer);
    } else if (code == 0) {
        ot_cli_view_arms(answer, &out);
        code = ot_cli_print(&out);
    }
    json_decref(answer);
    return code;
}

static int run_ab(const ot_args *args)
{
    const char *const *arms;
    size_t n = ot_args_many(args, &arms);
    bool end = ot_args_bool(args, "end");
    if (n == 0 && !end) {
        return show(args);
    }
    if (n > 0 && end) {
        return ot_cli_usage(args, "arms begin a test, --end ends it; not both");
    }
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        char name[32];
        const char *value = "";
        double share = 0;
        int64_t version = cut(arms[i], name, sizeof name, &value) ? ot_cli_version_of(name) : 0;
        if (version == 0 || ot_parse_fraction(value, &share, NULL) != OT_OK) {
            json_decref(list);
            return ot_cli_usage(args, "'%.80s' is not VERSION=SHARE: v3=20%%", arms[i]);
        }
        json_array_append_new(
            list, json_pack("{s:I,s:f}", "version", (json_int_t)version, "share", share));
    }
    return act(args, json_pack("{s:o}", "arms", list));
}

/* ------------------------------------------------------------------ commands */

static const ot_opt opts[] = {
    OT_CLI_CLIENT_OPTS,
    {.name = "reason", .type = OT_OPT_STRING, .help = "why; the log shows it", .env = ""},
};
static const ot_opt ab_opts[] = {
    OT_CLI_CLIENT_OPTS,
    {.name = "reason", .type = OT_OPT_STRING, .help = "why; the log shows it", .env = ""},
    {.name = "end", .type = OT_OPT_BOOL, .help = "end it: the champion answers all", .env = ""},
    {.name = "over",
     .type = OT_OPT_DURATION,
     .def = "1d",
     .min = "1s",
     .help = "compare what was answered in so long",
     .env = ""},
};
static const ot_pos label_pos[] = {
    {.name = "APP", .help = "the app's name"},
    {.name = "NAME=VERSION", .help = "blue=3 sets a label, blue= takes it away"}};
static const ot_pos ab_pos[] = {
    {.name = "APP", .help = "the app's name"},
    {.name = "VERSION=SHARE",
     .help = "v3=20%: an arm beside the champion, which has the rest; none: compare",
     .optional = true,
     .many = true}};
static const ot_pos switch_pos[] = {{.name = "APP", .help = "the app's name"},
                                    {.name = "TO", .help = "a label, or v4"}};

const ot_command ot_cli_label_command = {
    .name = "label",
    .summary = "give a version a name that callers may ask for",
    .detail = "The version is loaded and proven beside the champion and kept at hand; requests\n"
              "reach it with the header overtake-label: NAME. stable and canary are always there.",
    OT_OPTS(opts),
    OT_POS(label_pos),
    .run = run_label,
};
const ot_command ot_cli_ab_command = {
    .name = "ab",
    .summary = "give versions fixed shares of the traffic; compare them",
    .detail =
        "overtake ab digits v3=20% v5=20% begins or changes a test, overtake ab digits shows\n"
        "what each version was asked and how often it was right, --end ends it. A caller's\n"
        "key (header overtake-key) always meets the same version.",
    OT_OPTS(ab_opts),
    OT_POS(ab_pos),
    .run = run_ab,
};
const ot_command ot_cli_switch_command = {
    .name = "switch",
    .summary = "serve another version at once: one that all replicas have at hand",
    .detail = "Blue-green: overtake label digits green=4 loads v4 beside the champion, overtake\n"
              "switch digits green makes it the champion, overtake switch digits blue goes back.",
    OT_OPTS(opts),
    OT_POS(switch_pos),
    .run = run_switch,
};
