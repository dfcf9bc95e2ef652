/* A rehearsal, as text. */
#include "base/mem.h"
#include "cli/table.h"
#include "cli/text.h"
#include "cli/view.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MINUTE_US 60000000.0

typedef struct line {
    const char *name, *part, *key; /* part NULL: of the policy itself */
    bool minutes;
} line;

static const line lines[] = {
    {"alarms: drift", "alarms", "drift", false},
    {"alarms: at risk", "alarms", "at_risk", false},
    {"alarms: degraded", "alarms", "degraded", false},
    {"retrains", NULL, "retrains", false},
    {"promotions", NULL, "promotions", false},
    {"rollbacks", NULL, "rollbacks", false},
    {"releases refused or stopped", NULL, "refused", false},
    {"cycles failed", NULL, "failures", false},
    {"labels used", NULL, "labels", false},
    {"minutes below accuracy", "below_us", "accuracy", true},
    {"minutes below latency_p99", "below_us", "latency_p99", true},
    {"minutes below availability", "below_us", "availability", true},
    {"minutes without automation", NULL, "held_us", true},
};

static const json_t *value_of(const json_t *policy, const line *l)
{
    return json_object_get(l->part != NULL ? json_object_get(policy, l->part) : policy, l->key);
}

/* Short spans, as in a demo, are told to a tenth. */
static void format_minutes(int64_t us, char out[32])
{
    double m = (double)us / MINUTE_US;
    snprintf(out, 32, m > 0 && m < 10 ? "%.1f" : "%.0f", m);
}

static void add_number(ot_cli_table *t, const json_t *policy, const line *l)
{
    const json_t *v = value_of(policy, l);
    if (!json_is_integer(v)) {
        ot_cli_table_cell(t, "");
    } else if (l->minutes) {
        char text[32];
        format_minutes(json_integer_value(v), text);
        ot_cli_table_cell(t, text);
    } else {
        ot_cli_table_cellf(t, "%" PRId64, (int64_t)json_integer_value(v));
    }
}

static bool is_told(const json_t *const policies[3], const line *l)
{
    for (size_t i = 0; i < 3; i++) {
        if (json_is_integer(value_of(policies[i], l))) {
            return true;
        }
    }
    return false;
}

static void add_table(const json_t *a, const json_t *const policies[3], ot_str *out)
{
    char file[80];
    ot_cli_table t;
    snprintf(file, sizeof file, ">%.70s", ot_cli_get(a, "file"));
    const char *headings[] = {"", file, ">in force", ">really was"};
    ot_cli_table_init(&t, headings, OT_COUNT(headings));
    for (size_t i = 0; i < OT_COUNT(lines); i++) {
        if (is_told(policies, &lines[i])) {
            ot_cli_table_cell(&t, lines[i].name);
            for (size_t k = 0; k < 3; k++) {
                add_number(&t, policies[k], &lines[i]);
            }
        }
    }
    ot_cli_table_print(&t, out);
    ot_cli_table_done(&t);
}

static void add_count(ot_str *out, int64_t n, const char *what)
{
    ot_str_addf(out, "%" PRId64 " %s%s, ", n, what, n == 1 ? "" : "s");
}

/* Of the objective that counts most: accuracy where there is one. */
static const char *objective_of(const json_t *policy)
{
    static const char *const names[] = {"accuracy", "latency_p99", "availability"};
    for (size_t i = 0; i < OT_COUNT(names); i++) {
        if (json_is_integer(json_object_get(json_object_get(policy, "below_us"), names[i]))) {
            return names[i];
        }
    }
    return NULL;
}

/* "2 alarms, 1 retrain, 0 rollbacks, 41 minutes below accuracy; your current policy: 212 minutes."
 */
static void add_sentence(const json_t *proposed, const json_t *in_force, ot_str *out)
{
    const json_t *alarms = json_object_get(proposed, "alarms");
    add_count(out,
              ot_cli_int(alarms, "drift") + ot_cli_int(alarms, "at_risk") +
                  ot_cli_int(alarms, "degraded"),
              "alarm");
    add_count(out, ot_cli_int(proposed, "retrains"), "retrain");
    add_count(out, ot_cli_int(proposed, "rollbacks"), "rollback");
    const char *name = objective_of(proposed);
    if (name == NULL) {
        ot_str_adds(out, "no objective that could be measured.\n");
        return;
    }
    const json_t *current = json_object_get(json_object_get(in_force, "below_us"), name);
    char minutes[32];
    format_minutes(ot_cli_int(json_object_get(proposed, "below_us"), name), minutes);
    ot_str_addf(out, "%s minutes below %s; your current policy: ", minutes, name);
    if (json_is_integer(current)) {
        format_minutes(json_integer_value(current), minutes);
        ot_str_addf(out, "%s minutes.\n", minutes);
    } else {
        ot_str_adds(out, "no such objective.\n");
    }
}

static void add_list(const json_t *list, const char *heading, ot_str *out)
{
    if (json_array_size(list) == 0) {
        return;
    }
    ot_str_addf(out, "\n%s\n", heading);
    for (size_t i = 0; i < json_array_size(list); i++) {
        ot_str_adds(out, "  ");
        ot_cli_add_clean(out, json_string_value(json_array_get(list, i)));
        ot_str_addc(out, '\n');
    }
}

static void add_events(const json_t *policy, const char *file, ot_str *out)
{
    const json_t *list = json_object_get(policy, "events");
    char when[OT_CLI_TIME_TEXT];
    ot_str_addf(out, "\nwhat would have happened under %s\n", file);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *e = json_array_get(list, i);
        ot_str_addf(out, "  %s  ", ot_cli_time(ot_cli_int(e, "time_us"), when));
        ot_cli_add_padded(out, ot_cli_get(e, "type"), 20);
        ot_str_adds(out, "  ");
        ot_cli_add_clean(out, ot_cli_get(e, "text"));
        ot_str_addc(out, '\n');
    }
}

void ot_cli_view_simulated(const json_t *a, bool explain, ot_str *out)
{
    const json_t *all = json_object_get(a, "policies");
    const json_t *const policies[3] = {json_object_get(all, "proposed"),
                                       json_object_get(all, "in_force"),
                                       json_object_get(all, "recorded")};
    char from[OT_CLI_TIME_TEXT], to[OT_CLI_TIME_TEXT], span[OT_CLI_TIME_TEXT];
    int64_t from_us = ot_cli_int(a, "from_us"), to_us = ot_cli_int(a, "to_us");
    ot_str_addf(out, "%s: %s, %s to %s; %" PRId64 " windows, %" PRId64 " labels\n\n",
                ot_cli_get(a, "app"), ot_cli_span(to_us - from_us, span),
                ot_cli_time(from_us, from), ot_cli_time(to_us, to), ot_cli_int(a, "windows"),
                ot_cli_int(a, "labels"));
    add_table(a, policies, out);
    ot_str_addc(out, '\n');
    add_sentence(policies[0], policies[1], out);
    if (json_array_size(json_object_get(a, "changed")) == 0) {
        ot_str_adds(out, "\nThe file says what the policy in force says.\n");
    }
    add_list(json_object_get(a, "changed"), "what differs", out);
    add_list(json_object_get(a, "assumed"), "what was assumed", out);
    if (explain) {
        add_events(policies[0], ot_cli_get(a, "file"), out);
    }
}
