/* The evidence of an app: how the traffic moved, and its labels. */
#include "base/mem.h"
#include "cli/text.h"
#include "cli/view.h"

#include <inttypes.h>

#define MOVED_SHOWN 5

/* One side, inputs or outputs; true when something was said. */
static void view_side(const json_t *side, const char *what, const char *name, ot_str *out)
{
    const json_t *m, *moved = json_object_get(side, "moved");
    const char *reason = ot_cli_get(side, "reason");
    size_t i, n = json_array_size(moved);
    ot_cli_view_name(out, name);
    ot_str_addf(out, "%s: ", what);
    if (reason[0] != 0) {
        ot_cli_add_clean(out, reason);
        ot_str_addc(out, '\n');
        return;
    }
    if (ot_cli_true(side, "learning")) {
        ot_str_addf(out, "learning what is usual, %" PRId64 " of %" PRId64 " blocks\n",
                    ot_cli_int(side, "blocks_seen"), ot_cli_int(side, "blocks_needed"));
        return;
    }
    ot_str_addf(out, "%s; evidence %.3g, alarm from %.3g on", n > 0 ? "moved" : "as usual",
                ot_cli_num(side, "evidence"), ot_cli_num(side, "threshold"));
    if (ot_cli_int(side, "alarms") > 0) {
        ot_str_addf(out, ", %" PRId64 " alarms so far", ot_cli_int(side, "alarms"));
    }
    ot_str_addc(out, '\n');
    json_array_foreach(moved, i, m)
    {
        ot_cli_view_name(out, "");
        if (i == MOVED_SHOWN) {
            ot_str_addf(out, "  and %zu more\n", n - i);
            break;
        }
        ot_str_adds(out, "  ");
        ot_cli_add_clean(out, ot_cli_get(m, "text"));
        ot_str_addc(out, '\n');
    }
}

static void view_drift(const json_t *drift, ot_str *out)
{
    if (!json_is_object(drift)) {
        return;
    }
    view_side(drift, "inputs", "drift", out);
    if (json_is_object(json_object_get(drift, "outputs"))) {
        view_side(json_object_get(drift, "outputs"), "outputs", "", out);
    }
    if (ot_cli_true(drift, "promise_suspended")) {
        ot_cli_view_name(out, "");
        ot_str_adds(out, "the promise about false alarms is suspended: see overtake events --type "
                         "drift.\n");
    }
}

/* The counts, and the test of the objective: how near it is to an alarm. */
static void view_labels(const json_t *app, const json_t *labels, ot_str *out)
{
    ot_cli_view_name(out, "labels");
    ot_str_addf(out, "%" PRId64 " new since the last training", ot_cli_int(app, "labels_new"));
    if (json_is_object(labels)) {
        ot_str_addf(out, "; %" PRId64 " joined in all, %" PRId64 " wait for their prediction",
                    ot_cli_int(labels, "joined"), ot_cli_int(labels, "waiting"));
    }
    ot_str_addc(out, '\n');
    if (ot_cli_true(labels, "testing")) {
        ot_cli_view_name(out, "");
        ot_str_addf(out, "evidence %.3g %s, proven from %.3g on\n", ot_cli_num(labels, "evidence"),
                    ot_cli_true(labels, "degraded") ? "that the objective holds again"
                                                    : "that the objective is missed",
                    ot_cli_num(labels, "threshold"));
    }
}

static void view_samples(const json_t *samples, ot_str *out)
{
    char size[32], time[OT_CLI_TIME_TEXT];
    int64_t bytes = ot_cli_int(samples, "bytes"), lost = ot_cli_int(samples, "dropped_rows");
    if (bytes <= 0 && lost <= 0) {
        return;
    }
    ot_cli_view_name(out, "samples");
    ot_str_addf(out, "%s kept", ot_format_size((uint64_t)OT_MAX(bytes, INT64_C(0)), size));
    if (ot_cli_int(samples, "oldest_us") > 0) {
        ot_str_addf(out, ", from %s on", ot_cli_time(ot_cli_int(samples, "oldest_us"), time));
    }
    if (lost > 0) {
        ot_str_addf(out, "; %" PRId64 " rows were dropped for want of room", lost);
    }
    ot_str_addc(out, '\n');
}

static void view_versions(const json_t *list, ot_str *out)
{
    const json_t *v;
    size_t i;
    json_array_foreach(list, i, v)
    {
        ot_cli_view_name(out, i == 0 ? "accuracy" : "");
        ot_str_addf(out, "v%" PRId64 ": ", ot_cli_int(v, "version"));
        if (ot_cli_int(v, "labelled") == 0) {
            ot_str_adds(out, "no labels\n");
            continue;
        }
        ot_str_addf(out, "%.4g (%.4g to %.4g), %" PRId64 " of %" PRId64 " labelled rows right\n",
                    ot_cli_num(v, "estimate"), ot_cli_num(v, "lower"), ot_cli_num(v, "upper"),
                    ot_cli_int(v, "right"), ot_cli_int(v, "labelled"));
    }
}

void ot_cli_view_quality(const json_t *app, ot_str *out)
{
    const json_t *q = json_object_get(app, "quality");
    view_drift(json_object_get(q, "drift"), out);
    view_versions(json_object_get(q, "accuracy"), out);
    view_labels(app, json_object_get(q, "labels"), out);
    view_samples(json_object_get(q, "samples"), out);
}
