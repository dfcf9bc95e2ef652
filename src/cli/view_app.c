/* An app as somebody reads it who was woken up: what serves, what is on, what is not well. */
#include "base/mem.h"
#include "cli/table.h"
#include "cli/text.h"
#include "cli/view.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void ot_cli_view_name(ot_str *out, const char *name)
{
    ot_str_addf(out, "  %-10s  ", name);
}

static bool is_held(const json_t *app)
{
    return strcmp(ot_cli_get(app, "loop"), "running") != 0;
}

/* "releasing v5: canary at 10%", "training (run 12)", "idle". */
static void cycle_text(const json_t *cycle, ot_str *out)
{
    int64_t version = ot_cli_int(cycle, "version"), run = ot_cli_int(cycle, "run");
    const char *stage = ot_cli_get(cycle, "stage");
    ot_cli_add_clean(out, ot_cli_get(cycle, "state"));
    if (strcmp(ot_cli_get(cycle, "state"), "idle") == 0) {
        return;
    }
    if (version > 0) {
        ot_str_addf(out, " v%" PRId64, version);
    }
    if (stage[0] != 0) {
        ot_str_adds(out, ": ");
        ot_cli_add_clean(out, stage);
        if (ot_cli_num(cycle, "share") > 0) {
            ot_str_addf(out, " at %.4g%%", 100 * ot_cli_num(cycle, "share"));
        }
    } else if (run > 0) {
        ot_str_addf(out, " (run %" PRId64 ")", run);
    }
}

static const char *health(const json_t *app)
{
    if (ot_cli_get(app, "automation_off")[0] != 0) {
        return ot_cli_true(app, "degraded") ? "DEGRADED, AUTOMATION OFF" : "AUTOMATION OFF";
    }
    return ot_cli_true(app, "degraded") ? "DEGRADED" : ot_cli_true(app, "drift") ? "drift" : "";
}

void ot_cli_view_apps(const json_t *answer, int64_t now_us, ot_str *out)
{
    static const char *const headings[] = {"APP", "SERVES", "FOR", "LOOP", "CYCLE", "HEALTH"};
    ot_cli_table t;
    char span[OT_CLI_TIME_TEXT];
    size_t i;
    const json_t *app, *apps = json_object_get(answer, "apps");
    if (json_array_size(apps) == 0) {
        ot_str_adds(out, "no apps yet; overtake apply app.yaml makes one known, overtake init "
                         "writes a first app.yaml\n");
        return;
    }
    ot_cli_table_init(&t, headings, OT_COUNT(headings));
    json_array_foreach(apps, i, app)
    {
        OT_AUTO(ot_str_done) ot_str cycle = OT_STR_INIT;
        int64_t champion = ot_cli_int(app, "champion");
        cycle_text(json_object_get(app, "cycle"), &cycle);
        ot_cli_table_cell(&t, ot_cli_get(app, "app"));
        if (champion > 0) {
            ot_cli_table_cellf(&t, "v%" PRId64, champion);
        } else {
            ot_cli_table_cell(&t, NULL);
        }
        ot_cli_table_cell(&t, champion > 0
                                  ? ot_cli_span(now_us - ot_cli_int(app, "champion_since_us"), span)
                                  : NULL);
        ot_cli_table_cell(&t, ot_cli_get(app, "loop"));
        ot_cli_table_cell(&t, cycle.data);
        ot_cli_table_cell(&t, health(app));
    }
    ot_cli_table_print(&t, out);
    ot_cli_table_done(&t);
}

static void view_champion(const json_t *app, int64_t now_us, ot_str *out)
{
    char time[OT_CLI_TIME_TEXT], span[OT_CLI_TIME_TEXT];
    int64_t champion = ot_cli_int(app, "champion"), previous = ot_cli_int(app, "previous");
    int64_t since = ot_cli_int(app, "champion_since_us");
    ot_cli_view_name(out, "champion");
    if (champion == 0) {
        ot_str_adds(out, "none: nothing serves yet\n");
        return;
    }
    ot_str_addf(out, "v%" PRId64 " since %s (%s)", champion, ot_cli_time(since, time),
                ot_cli_span(now_us - since, span));
    if (previous > 0) {
        ot_str_addf(out, "; before it v%" PRId64, previous);
    }
    ot_str_addc(out, '\n');
}

static void view_variants(const json_t *app, ot_str *out)
{
    const json_t *arms = json_object_get(app, "arms"), *arm;
    json_t *version;
    const char *label;
    size_t i;
    json_array_foreach(arms, i, arm)
    {
        if (ot_cli_num(arm, "share") > 0) {
            ot_cli_view_name(out, "A/B");
            ot_str_addf(out, "v%" PRId64 " at %.4g%%\n", ot_cli_int(arm, "version"),
                        100 * ot_cli_num(arm, "share"));
        }
    }
    json_object_foreach(json_object_get(app, "labels"), label, version)
    {
        ot_cli_view_name(out, "label");
        ot_cli_add_clean(out, label);
        ot_str_addf(out, " is v%" JSON_INTEGER_FORMAT "\n", json_integer_value(version));
    }
}

static void view_loop(const json_t *app, ot_str *out)
{
    if (json_is_string(json_object_get(app, "unloaded_by"))) {
        ot_cli_view_name(out, "unloaded");
        ot_str_adds(out, "by ");
        ot_cli_add_clean(out, ot_cli_get(app, "unloaded_by"));
        ot_str_adds(out, ": no replica serves it; overtake load ");
        ot_cli_add_clean(out, ot_cli_get(app, "app"));
        ot_str_addc(out, '\n');
    }
    ot_cli_view_name(out, "loop");
    ot_cli_add_clean(out, ot_cli_get(app, "loop"));
    if (is_held(app)) {
        ot_str_adds(out, " by ");
        ot_cli_add_clean(out, ot_cli_get(app, "held_by"));
        ot_str_adds(out, ": ");
        ot_cli_add_clean(out, ot_cli_get(app, "held_reason"));
        ot_str_adds(out, "; overtake resume ");
        ot_cli_add_clean(out, ot_cli_get(app, "app"));
    }
    if (ot_cli_int(app, "failures") > 0) {
        ot_str_addf(out, "; %" PRId64 " failed in a row", ot_cli_int(app, "failures"));
    }
    ot_str_addc(out, '\n');
}

/* The comparison of the two versions: always the champion's accuracy minus the candidate's, as the
 * API gives it, turned so that more is better. */
static void view_evidence(const json_t *app, const json_t *cycle, ot_str *out)
{
    const json_t *e = json_object_get(cycle, "evidence");
    int64_t n = ot_cli_int(e, "compared");
    if (!json_is_object(e)) {
        return;
    }
    ot_cli_view_name(out, "evidence");
    ot_str_addf(out, "%" PRId64 " compared", n);
    if (n > 0) {
        ot_str_addf(out,
                    ": v%" PRId64 " right on %" PRId64 " (%.1f%%), v%" PRId64 " on %" PRId64
                    " (%.1f%%)",
                    ot_cli_int(cycle, "version"), ot_cli_int(e, "candidate_right"),
                    100.0 * (double)ot_cli_int(e, "candidate_right") / (double)n,
                    ot_cli_int(app, "champion"), ot_cli_int(e, "champion_right"),
                    100.0 * (double)ot_cli_int(e, "champion_right") / (double)n);
        ot_str_addf(out, "; new minus old %+.1f to %+.1f points", -100 * ot_cli_num(e, "upper"),
                    -100 * ot_cli_num(e, "lower"));
    }
    ot_str_adds(out, "; ");
    ot_cli_add_clean(out, ot_cli_get(e, "verdict"));
    ot_str_addc(out, '\n');
}

static void view_site(const json_t *app, ot_str *out)
{
    const char *forbids = ot_cli_get(json_object_get(app, "site"), "forbids");
    if (forbids[0] != 0) {
        ot_cli_view_name(out, "site");
        ot_str_adds(out, "FORBIDS it: no run starts, no release moves: ");
        ot_cli_add_clean(out, forbids);
        ot_str_addc(out, '\n');
    }
}

static void view_cycle(const json_t *app, int64_t now_us, ot_str *out)
{
    const json_t *cycle = json_object_get(app, "cycle");
    char time[OT_CLI_TIME_TEXT], span[OT_CLI_TIME_TEXT];
    const char *name = ot_cli_get(app, "app"), *stage = ot_cli_get(cycle, "stage");
    int64_t entered = ot_cli_int(cycle, "entered_us"), end = ot_cli_int(cycle, "deadline_us");
    int64_t number = ot_cli_int(cycle, "number");
    ot_cli_view_name(out, "cycle");
    if (number > 0) {
        ot_str_addf(out, "%" PRId64 ": ", number);
    }
    cycle_text(cycle, out);
    if (entered > 0) {
        ot_str_addf(out, " since %s", ot_cli_time(entered, time));
    }
    if (end > 0 && end < INT64_MAX) {
        ot_str_addf(out, ", decided by %s (%s %s)", ot_cli_time(end, time),
                    end >= now_us ? "in" : "overdue by",
                    ot_cli_span(end >= now_us ? end - now_us : now_us - end, span));
    }
    ot_str_addc(out, '\n');
    if (ot_cli_get(cycle, "waits")[0] != 0) {
        ot_cli_view_name(out, "");
        ot_cli_add_clean(out, ot_cli_get(cycle, "waits"));
        ot_str_addc(out, '\n');
    }
    if (strcmp(stage, "approval") == 0) {
        ot_cli_view_name(out, "");
        ot_str_addf(out,
                    "waits for you: overtake approve %s, or overtake reject %s --reason "
                    "TEXT\n",
                    name, name);
    }
    if (ot_cli_get(cycle, "candidate")[0] != 0) {
        ot_cli_view_name(out, "candidate");
        ot_str_addf(out, "v%" PRId64 " is ", ot_cli_int(cycle, "version"));
        ot_cli_add_clean(out, ot_cli_get(cycle, "candidate"));
        ot_str_adds(out, " on the replicas\n");
    }
    view_evidence(app, cycle, out);
}

static void objective_value(const json_t *o, const char *kind, ot_str *out)
{
    const json_t *value = json_object_get(o, "value");
    char text[32];
    if (!json_is_number(value)) {
        ot_str_adds(out, "not known yet");
    } else if (strncmp(kind, "latency", 7) == 0) {
        ot_str_adds(out, ot_format_duration((int64_t)json_number_value(value), text));
    } else {
        ot_str_addf(out, "%.4g", json_number_value(value));
    }
    if (json_is_number(value) && ot_cli_int(o, "labelled") > 0) {
        ot_str_addf(out, " (%.4g to %.4g, %" PRId64 " labels)", ot_cli_num(o, "lower"),
                    ot_cli_num(o, "upper"), ot_cli_int(o, "labelled"));
    }
}

static void view_objectives(const json_t *app, ot_str *out)
{
    const json_t *o, *list = json_object_get(app, "objectives");
    size_t i;
    json_array_foreach(list, i, o)
    {
        const json_t *holds = json_object_get(o, "holds");
        const char *kind = ot_cli_get(o, "objective");
        ot_cli_view_name(out, i == 0 ? "objectives" : "");
        ot_str_addf(out, "%-8s",
                    json_is_true(holds)    ? "holds"
                    : json_is_false(holds) ? "MISSED"
                                           : "unknown");
        ot_cli_add_padded(out, kind, 13);
        objective_value(o, kind, out);
        ot_str_adds(out, "; ");
        ot_cli_add_clean(out, ot_cli_get(o, "target"));
        ot_str_addc(out, '\n');
    }
}

void ot_cli_view_app(const json_t *app, int64_t now_us, ot_str *out)
{
    ot_cli_add_clean(out, ot_cli_get(app, "app"));
    if (health(app)[0] != 0) {
        ot_str_addf(out, "  %s", health(app));
    }
    if (is_held(app)) {
        ot_str_adds(out, "  ");
        ot_cli_add_clean(out, ot_cli_get(app, "loop"));
    }
    ot_str_addc(out, '\n');
    view_champion(app, now_us, out);
    view_variants(app, out);
    view_loop(app, out);
    view_site(app, out);
    view_cycle(app, now_us, out);
    view_objectives(app, out);
    ot_cli_view_budgets(app, out);
    ot_cli_view_quality(app, out);
    if (ot_cli_get(app, "owner")[0] != 0) {
        ot_cli_view_name(out, "owner");
        ot_cli_add_clean(out, ot_cli_get(app, "owner"));
        ot_str_addc(out, '\n');
    }
}
