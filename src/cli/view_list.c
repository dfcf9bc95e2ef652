/* The shorter answers: what was done, and the lists. */
#include "base/mem.h"
#include "cli/table.h"
#include "cli/text.h"
#include "cli/view.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* A first apply adds every line of the effective configuration: no news to who wrote the file. */
static bool is_new(const json_t *changed)
{
    const char *first = json_string_value(json_array_get(changed, 0));
    return first != NULL && ot_has_prefix(first, "+ schema:");
}

void ot_cli_view_applied(const json_t *answer, bool diff, ot_str *out)
{
    const json_t *changed = json_object_get(answer, "changed");
    const char *app = ot_cli_get(answer, "app");
    size_t n = json_array_size(changed);
    bool brief = !diff && is_new(changed);
    for (size_t i = 0; i < n && !brief; i++) {
        const char *text = json_string_value(json_array_get(changed, i));
        ot_cli_add_clean(out, text != NULL ? text : "");
        ot_str_addc(out, '\n');
    }
    if (n == 0) {
        ot_str_addf(out, "app %s: no setting %s\n", app, diff ? "would change" : "changed");
    } else if (!diff) {
        ot_str_addf(out, "app %s: in force%s\n", app, brief ? ", new here" : "");
    }
    if (ot_cli_true(answer, "started")) {
        ot_str_addf(
            out,
            "its first run has started; watch it: overtake events --follow, overtake status "
            "%s\n",
            app);
    }
}

void ot_cli_view_acted(const json_t *answer, ot_str *out)
{
    ot_str_addf(out, "%s ", ot_cli_get(answer, "verb"));
    ot_cli_add_clean(out, ot_cli_get(answer, "app"));
    ot_str_addf(out, ": done (event %" PRId64 ")\n", ot_cli_int(answer, "event"));
}

/* How long each run took, where it has ended. */
static void view_run(ot_cli_table *t, const json_t *run)
{
    char time[OT_CLI_TIME_TEXT], span[OT_CLI_TIME_TEXT], known[128];
    int64_t start = ot_cli_int(run, "started_us"), end = ot_cli_int(run, "ended_us");
    const char *text = ot_cli_get(json_object_get(run, "result"), "text");
    ot_cli_table_cellf(t, "%" PRId64, ot_cli_int(run, "run"));
    ot_cli_table_cell(t, ot_cli_get(run, "app"));
    ot_cli_table_cell(t, ot_cli_get(run, "step"));
    ot_cli_table_cell(t, ot_cli_get(run, "state"));
    ot_cli_table_cell(t, start > 0 ? ot_cli_time(start, time) : NULL);
    if (start <= 0 || end <= 0) {
        ot_cli_table_cell(t, NULL);
    } else {
        ot_cli_table_cell(t, end - start < 10000000 ? ot_format_duration(end - start, span)
                                                    : ot_cli_span(end - start, span));
    }
    /* "run 3 (train) failed: exit 1": the columns say the first part. */
    snprintf(known, sizeof known, "run %" PRId64 " (%s) %s: ", ot_cli_int(run, "run"),
             ot_cli_get(run, "step"), ot_cli_get(run, "state"));
    ot_cli_table_cell(t, text + (ot_has_prefix(text, known) ? strlen(known) : 0));
}

void ot_cli_view_runs(const json_t *answer, ot_str *out)
{
    static const char *const headings[] = {">RUN",    "APP",  "STEP",  "STATE",
                                           "STARTED", "TOOK", "RESULT"};
    ot_cli_table t;
    const json_t *run;
    size_t i;
    ot_cli_table_init(&t, headings, OT_COUNT(headings));
    json_array_foreach(json_object_get(answer, "runs"), i, run)
    {
        view_run(&t, run);
    }
    ot_cli_table_print(&t, out);
    ot_cli_table_done(&t);
}

void ot_cli_view_checkpoints(const json_t *answer, ot_str *out)
{
    static const ot_cli_column columns[] = {
        {">STEP", "step", OT_CLI_PLAIN},      {">RUN", "run", OT_CLI_PLAIN},
        {"MADE", "made_us", OT_CLI_TIME},     {">SIZE", "size_bytes", OT_CLI_SIZE},
        {">FILES", "files", OT_CLI_PLAIN},    {"CHECKPOINT", "checkpoint", OT_CLI_PLAIN},
        {"METRICS", "metrics", OT_CLI_PLAIN},
    };
    ot_cli_table_json(json_object_get(answer, "checkpoints"), columns, OT_COUNT(columns), out);
}

void ot_cli_view_models(const json_t *answer, ot_str *out)
{
    static const ot_cli_column columns[] = {
        {"MODEL", "name", OT_CLI_PLAIN},         {"APP", "app", OT_CLI_PLAIN},
        {">VERSIONS", "versions", OT_CLI_PLAIN}, {">LATEST", "latest", OT_CLI_PLAIN},
        {">CHAMPION", "champion", OT_CLI_PLAIN}, {">CHALLENGER", "challenger", OT_CLI_PLAIN},
        {"CREATED", "created_us", OT_CLI_TIME},
    };
    ot_cli_table_json(json_object_get(answer, "models"), columns, OT_COUNT(columns), out);
}

void ot_cli_view_model(const json_t *answer, ot_str *out)
{
    static const ot_cli_column columns[] = {
        {">VERSION", "version", OT_CLI_PLAIN},  {"STATUS", "status", OT_CLI_PLAIN},
        {"SINCE", "status_us", OT_CLI_TIME},    {"FORMAT", "format", OT_CLI_PLAIN},
        {">SIZE", "size_bytes", OT_CLI_SIZE},   {">RUN", "run", OT_CLI_PLAIN},
        {"CREATED", "created_us", OT_CLI_TIME}, {"METRICS", "metrics", OT_CLI_PLAIN},
    };
    ot_cli_table_json(json_object_get(answer, "list"), columns, OT_COUNT(columns), out);
}

void ot_cli_view_accuracy(const json_t *answer, ot_str *out)
{
    int64_t n = ot_cli_int(answer, "labelled");
    ot_str_addf(out, "v%" PRId64 ": ", ot_cli_int(answer, "version"));
    if (n == 0) {
        ot_str_adds(out, "no labelled rows in that time\n");
        return;
    }
    ot_str_addf(out,
                "%.4g (95%%: %.4g to %.4g, valid at any time); %" PRId64 " of %" PRId64
                " labelled rows right\n",
                ot_cli_num(answer, "estimate"), ot_cli_num(answer, "lower"),
                ot_cli_num(answer, "upper"), ot_cli_int(answer, "right"), n);
}

/* "digits v1 champion serving, v2 shadow loading: why" */
static void observed(const json_t *o, ot_str *out)
{
    const json_t *d, *v;
    size_t i, k;
    json_array_foreach(json_object_get(o, "deployments"), i, d)
    {
        ot_str_addf(out, "%s%s", out->len > 0 ? "; " : "", ot_cli_get(d, "name"));
        json_array_foreach(json_object_get(d, "variants"), k, v)
        {
            const char *why = ot_cli_get(v, "error");
            ot_str_addf(out, "%s v%" PRId64 " %s %s%s%s", k > 0 ? "," : "",
                        ot_cli_int(v, "version"), ot_cli_get(v, "role"), ot_cli_get(v, "state"),
                        why[0] != 0 ? ": " : "", why);
        }
    }
}

void ot_cli_view_replicas(const json_t *answer, ot_str *out)
{
    static const char *const headings[] = {"REPLICA", "KIND", "VERSION", ">PID", "SERVES"};
    ot_cli_table t;
    const json_t *r;
    size_t i;
    ot_cli_table_init(&t, headings, OT_COUNT(headings));
    json_array_foreach(json_object_get(answer, "replicas"), i, r)
    {
        OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
        observed(json_object_get(r, "observed"), &text);
        ot_cli_table_cell(&t, ot_cli_get(r, "id"));
        ot_cli_table_cell(&t, ot_cli_get(r, "kind"));
        ot_cli_table_cell(&t, ot_cli_get(r, "version"));
        ot_cli_table_cellf(&t, "%" PRId64, ot_cli_int(r, "pid"));
        ot_cli_table_cell(&t, text.data);
    }
    ot_cli_table_print(&t, out);
    ot_cli_table_done(&t);
}
