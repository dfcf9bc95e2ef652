/* The control plane's own figures as Prometheus text. */
#include "api/internal.h"

#include "store/runs.h"

#include <inttypes.h>

static void head(ot_str *out, const char *name, const char *type, const char *help)
{
    ot_str_addf(out, "# HELP overtake_%s %s\n# TYPE overtake_%s %s\n", name, help, name, type);
}

static void number(ot_str *out, const char *name, const char *type, const char *help, uint64_t x)
{
    head(out, name, type, help);
    ot_str_addf(out, "overtake_%s %" PRIu64 "\n", name, x);
}

/* Names of apps are clean: no quoting is needed. */
static void app_figures(const json_t *apps, ot_str *out)
{
    static const struct {
        const char *name, *key, *help;
    } figures[] = {
        {"app_champion_version", "champion", "the version that serves; 0 for none"},
        {"app_degraded", "degraded", "1 when labels prove that the objective is missed"},
        {"app_drift", "drift", "1 when the inputs or outputs moved"},
        {"app_failures", "failures", "cycles that failed in a row"},
        {"app_labels_new", "labels_new", "labels joined since the last training"},
    };
    for (size_t i = 0; i < OT_COUNT(figures); i++) {
        head(out, figures[i].name, "gauge", figures[i].help);
        for (size_t k = 0; k < json_array_size(apps); k++) {
            const json_t *app = json_array_get(apps, k);
            const json_t *v = json_object_get(app, figures[i].key);
            json_int_t x = json_is_true(v) ? 1 : json_integer_value(v);
            ot_str_addf(out, "overtake_%s{app=\"%s\"} %" JSON_INTEGER_FORMAT "\n", figures[i].name,
                        json_string_value(json_object_get(app, "app")), x);
        }
    }
    head(out, "app_loop", "gauge", "1 for the state of the app's loop");
    for (size_t k = 0; k < json_array_size(apps); k++) {
        const json_t *app = json_array_get(apps, k);
        ot_str_addf(out, "overtake_app_loop{app=\"%s\",state=\"%s\"} 1\n",
                    json_string_value(json_object_get(app, "app")),
                    json_string_value(json_object_get(app, "loop")));
    }
}

static void budget_figures(const json_t *apps, ot_str *out)
{
    static const struct {
        const char *name, *key, *help;
    } figures[] = {
        {"error_budget_remaining_ratio", "remaining", "what is left of the objective's budget"},
        {"error_budget_spent", "spent", "1 when nothing is left and it has not recovered since"},
        {"error_budget_automation_off", "off", "1 when it keeps the automation off"},
    };
    size_t k, b;
    const json_t *app, *budget;
    for (size_t i = 0; i < OT_COUNT(figures); i++) {
        head(out, figures[i].name, "gauge", figures[i].help);
        json_array_foreach(apps, k, app)
        {
            json_array_foreach(json_object_get(app, "budgets"), b, budget)
            {
                const json_t *v = json_object_get(budget, figures[i].key);
                ot_str_addf(out, "overtake_%s{app=\"%s\",objective=\"%s\"} %.9g\n", figures[i].name,
                            json_string_value(json_object_get(app, "app")),
                            json_string_value(json_object_get(budget, "objective")),
                            json_is_true(v) ? 1 : json_number_value(v));
            }
        }
    }
}

static void burn_figures(const json_t *apps, ot_str *out)
{
    size_t k, b, i;
    const json_t *app, *budget, *rate;
    head(out, "error_budget_burn_rate", "gauge",
         "share of bad events over the window, in multiples of what may be");
    json_array_foreach(apps, k, app)
    {
        json_array_foreach(json_object_get(app, "budgets"), b, budget)
        {
            json_array_foreach(json_object_get(budget, "rates"), i, rate)
            {
                char window[32];
                ot_str_addf(
                    out,
                    "overtake_error_budget_burn_rate{app=\"%s\",objective=\"%s\",window=\"%s\","
                    "threshold=\"%g\"} %.9g\n",
                    json_string_value(json_object_get(app, "app")),
                    json_string_value(json_object_get(budget, "objective")),
                    ot_format_duration(json_integer_value(json_object_get(rate, "long_us")),
                                       window),
                    json_number_value(json_object_get(rate, "threshold")),
                    json_number_value(json_object_get(rate, "rate")));
            }
        }
    }
}

static ot_rc count_runs(ot_txn *txn, void *arg, ot_error *err)
{
    return ot_store_run_counts(txn, arg, err);
}

static ot_rc run_figures(api *a, ot_str *out, ot_error *err)
{
    int64_t counts[OT_RUN_STATE_COUNT_] = {0};
    OT_TRY(ot_store_read(a->store, count_runs, counts, err));
    head(out, "runs", "gauge", "runs by state");
    for (int i = 0; i < OT_RUN_STATE_COUNT_; i++) {
        ot_str_addf(out, "overtake_runs{state=\"%s\"} %" PRId64 "\n",
                    ot_run_state_name((ot_run_state)i), counts[i]);
    }
    return OT_OK;
}

static void store_figures(api *a, ot_str *out)
{
    ot_store_stats s;
    ot_store_stats_get(a->store, &s);
    number(out, "store_writes_total", "counter", "writes acknowledged", s.writes);
    number(out, "store_commits_total", "counter", "commits: one fsync each", s.groups);
    number(out, "store_refused_total", "counter", "writes that failed or were undone", s.refused);
    number(out, "store_queued", "gauge", "writes that wait", s.queued);
    number(out, "store_wal_pages", "gauge", "length of the write-ahead log", s.wal_pages);
    head(out, "store_commit_seconds", "gauge", "duration of the last commit");
    ot_str_addf(out, "overtake_store_commit_seconds %.9f\n", (double)s.commit_ns_last / 1e9);
    number(out, "store_failed", "gauge", "1: nothing is acknowledged any more; restart", s.failed);
}

ot_rc api_metrics(api *a, const api_call *c, ot_str *out, ot_error *err)
{
    (void)c;
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    OT_TRY(ot_pipeline_apps(a->pipeline, &text, err));
    json_t *j = json_loadb(text.data, text.len, 0, NULL);
    const json_t *apps = json_object_get(j, "apps");
    number(out, "apps", "gauge", "apps that are known", json_array_size(apps));
    app_figures(apps, out);
    budget_figures(apps, out);
    burn_figures(apps, out);
    json_decref(j);
    OT_TRY(run_figures(a, out, err));
    store_figures(a, out);
    number(out, "replicas", "gauge", "agents that are connected", ot_hub_agents(a->hub));
    number(out, "alerts_dropped_total", "counter", "alerts that did not fit the queue",
           ot_alerts_dropped(a->alerts));
    return OT_OK;
}
