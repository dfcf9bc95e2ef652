/* Answers of the API, held to the letter. */
#include "cli/view.h"

#include "base/mem.h"
#include "tap.h"

#include <stdlib.h>
#include <time.h>

#define T0 "1764000000000000" /* 2025-11-24 16:00:00 UTC */
#define NOW (INT64_C(1764000000000000) + INT64_C(7500000000))

static json_t *read_json(const char *text)
{
    json_error_t e;
    json_t *j = json_loads(text, 0, &e);
    if (j == NULL) {
        printf("# %s at %d: %.40s\n", e.text, e.position, text + e.position);
    }
    return j;
}

static void app_is(const char *json, const char *want, const char *what)
{
    ot_str out = OT_STR_INIT;
    json_t *j = read_json(json);
    ot_cli_view_app(j, NOW, &out);
    is_str(out.data, want, "%s", what);
    json_decref(j);
    ot_str_done(&out);
}

static void test_app(void)
{
    app_is("{\"app\": \"digits\", \"owner\": \"\", \"champion\": null, \"champion_since_us\": 0,"
           "\"previous\": null, \"loop\": \"running\", \"failures\": 2, \"degraded\": false,"
           "\"drift\": false, \"labels_new\": 0,"
           "\"cycle\": {\"number\": 1, \"state\": \"training\", \"run\": 4, \"version\": null}}",
           "digits\n"
           "  champion    none: nothing serves yet\n"
           "  loop        running; 2 failed in a row\n"
           "  cycle       1: training (run 4)\n"
           "  labels      0 new since the last training\n",
           "an app that is new");
    app_is("{\"app\": \"digits\", \"owner\": \"\", \"champion\": null, \"loop\": \"running\","
           "\"site\": {\"file\": \"site.yaml\", \"forbids\": \"app.yaml:9:3: too much\"},"
           "\"failures\": 0, \"labels_new\": 0, \"cycle\": {\"number\": 1, \"state\":"
           "\"training\", \"run\": null, \"version\": null, \"waits\": \"waits for its turn\"}}",
           "digits\n"
           "  champion    none: nothing serves yet\n"
           "  loop        running\n"
           "  site        FORBIDS it: no run starts, no release moves: app.yaml:9:3: too much\n"
           "  cycle       1: training\n"
           "              waits for its turn\n"
           "  labels      0 new since the last training\n",
           "an app that the site holds up");
    app_is(
        "{\"app\": \"digits\", \"owner\": \"Ada\", \"champion\": 4, \"champion_since_us\": " T0
        ", \"previous\": 3, \"loop\": \"paused\", \"held_by\": \"anna\", \"held_reason\":"
        "\"nightly\", \"failures\": 0, \"degraded\": true, \"drift\": true, \"labels_new\": 12,"
        "\"cycle\": {\"number\": 7, \"state\": \"releasing\", \"run\": 30, \"version\": 5,"
        "\"stage\": \"canary\", \"share\": 0.1, \"entered_us\": " T0 ", \"deadline_us\": "
        "1764010800000000, \"candidate\": \"serving\", \"evidence\": {\"compared\": 400,"
        "\"candidate_right\": 380, \"champion_right\": 300, \"lower\": -0.25, \"upper\": -0.155,"
        "\"verdict\": \"not worse\"}},"
        "\"objectives\": ["
        "{\"objective\": \"accuracy\", \"target\": \"at least 0.93\", \"value\": 0.75, \"holds\":"
        "false, \"lower\": 0.7, \"upper\": 0.8, \"labelled\": 400},"
        "{\"objective\": \"latency_p99\", \"target\": \"at most 5ms\", \"value\": 1200, \"holds\":"
        "true},"
        "{\"objective\": \"availability\", \"target\": \"at least 0.99\", \"value\": null,"
        "\"holds\": null}],"
        "\"quality\": {\"drift\": {\"learning\": false, \"evidence\": 20000.0, \"threshold\":"
        "17520.0, \"alarms\": 1, \"moved\": [{\"text\": \"pixel_3_4 up 0.6 sigma\"}],"
        "\"promise_suspended\": true, \"outputs\": {\"reason\": \"no reference\"}},"
        "\"accuracy\": [{\"version\": 5, \"labelled\": 0}, {\"version\": 4, \"labelled\": 400,"
        "\"right\": 300, \"estimate\": 0.75, \"lower\": 0.7, \"upper\": 0.8}],"
        "\"labels\": {\"joined\": 400, \"waiting\": 3, \"testing\": true, \"degraded\": false,"
        "\"evidence\": 12.5, \"threshold\": 700.0}, \"samples\": {\"bytes\": 2048,"
        "\"oldest_us\": " T0 ", \"dropped_rows\": 7}}}",
        "digits  DEGRADED  paused\n"
        "  champion    v4 since 2025-11-24 16:00:00 (2h 5min); before it v3\n"
        "  loop        paused by anna: nightly; overtake resume digits\n"
        "  cycle       7: releasing v5: canary at 10% since 2025-11-24 16:00:00, decided by "
        "2025-11-24 19:00:00 (in 55min)\n"
        "  candidate   v5 is serving on the replicas\n"
        "  evidence    400 compared: v5 right on 380 (95.0%), v4 on 300 (75.0%); new minus old "
        "+15.5 to +25.0 points; not worse\n"
        "  objectives  MISSED  accuracy     0.75 (0.7 to 0.8, 400 labels); at least 0.93\n"
        "              holds   latency_p99  1.2ms; at most 5ms\n"
        "              unknown availability not known yet; at least 0.99\n"
        "  drift       inputs: moved; evidence 2e+04, alarm from 1.75e+04 on, 1 alarms so far\n"
        "                pixel_3_4 up 0.6 sigma\n"
        "              outputs: no reference\n"
        "              the promise about false alarms is suspended: see overtake events --type "
        "drift.\n"
        "  accuracy    v5: no labels\n"
        "              v4: 0.75 (0.7 to 0.8), 300 of 400 labelled rows right\n"
        "  labels      12 new since the last training; 400 joined in all, 3 wait for their "
        "prediction\n"
        "              evidence 12.5 that the objective is missed, proven from 700 on\n"
        "  samples     2 KiB kept, from 2025-11-24 16:00:00 on; 7 rows were dropped for want of "
        "room\n"
        "  owner       Ada\n",
        "an app that has everything");
    app_is("{\"app\": \"d\", \"champion\": 1, \"champion_since_us\": " T0 ", \"loop\": \"running\","
           "\"cycle\": {\"number\": 2, \"state\": \"releasing\", \"version\": 2, \"stage\":"
           "\"approval\", \"share\": 0, \"entered_us\": " T0 ", \"deadline_us\": " T0 "}}",
           "d\n"
           "  champion    v1 since 2025-11-24 16:00:00 (2h 5min)\n"
           "  loop        running\n"
           "  cycle       2: releasing v2: approval since 2025-11-24 16:00:00, decided by "
           "2025-11-24 16:00:00 (overdue by 2h 5min)\n"
           "              waits for you: overtake approve d, or overtake reject d --reason TEXT\n"
           "  labels      0 new since the last training\n",
           "an approval that is overdue");
}

static void test_budgets(void)
{
    app_is(
        "{\"app\": \"d\", \"champion\": 1, \"champion_since_us\": " T0 ", \"loop\": \"running\","
        "\"cycle\": {\"state\": \"idle\"}, \"automation_off\": \"the budget of availability was"
        " spent\", \"budgets\": ["
        "{\"objective\": \"availability\", \"over_us\": 2419200000000, \"events\": 4040000.0,"
        "\"bad\": 4050.0, \"remaining\": -0.0025, \"burning\": \"page\", \"spent\": true, \"off\":"
        "true, \"granted_until_us\": null, \"rates\": [{\"rate\": 3.5, \"long_us\": 3600000000,"
        "\"holds\": false}, {\"rate\": 6.5, \"long_us\": 21600000000, \"holds\": true}]},"
        "{\"objective\": \"latency_p99\", \"over_us\": 86400000000, \"events\": 1440.0, \"bad\":"
        "20.0, \"remaining\": -0.39, \"burning\": null, \"spent\": true, \"off\": false,"
        "\"granted_until_us\": " T0 ", \"rates\": [{\"rate\": 1.25, \"long_us\": 120000000}]},"
        "{\"objective\": \"accuracy\", \"over_us\": 2419200000000, \"events\": 100.0, \"bad\": 2.0,"
        "\"remaining\": 0.8, \"burning\": \"ticket\", \"spent\": false, \"off\": false, \"rates\":"
        "[{\"rate\": 0.0}]}]}",
        "d  AUTOMATION OFF\n"
        "  champion    v1 since 2025-11-24 16:00:00 (2h 5min)\n"
        "  loop        running\n"
        "  cycle       idle\n"
        "  budgets     SPENT   availability -0.25% left: 4050 bad of 4040000 in 28d; burns at 6.5 "
        "over 6h\n"
        "              granted latency_p99  -39% left: 20 bad of 1440 in 24h; burns at 1.25 over "
        "2min; borne until 2025-11-24 16:00:00\n"
        "              BURNS   accuracy     80% left: 2 bad of 100 in 28d\n"
        "  automation  off: the budget of availability was spent; overtake resume d --reason TEXT\n"
        "  labels      0 new since the last training\n",
        "error budgets");
}

static void test_many_moved(void)
{
    ot_str out = OT_STR_INIT;
    json_t *j = read_json("{\"quality\": {\"drift\": {\"evidence\": 1, \"threshold\": 2, \"moved\":"
                          "[{\"text\": \"a\"}, {\"text\": \"b\"}, {\"text\": \"c\"}, {\"text\":"
                          "\"d\"}, {\"text\": \"e\"}, {\"text\": \"f\"}, {\"text\": \"g\"}]}}}");
    ot_cli_view_quality(j, &out);
    ok(strstr(out.data, "  e\n") != NULL && strstr(out.data, "  f\n") == NULL &&
           strstr(out.data, "  and 2 more\n") != NULL,
       "the first of many");
    json_decref(j);
    ot_str_done(&out);
}

static void test_apps(void)
{
    ot_str out = OT_STR_INIT;
    json_t *j = read_json(
        "{\"apps\": [{\"app\": \"digits\", \"champion\": 4, \"champion_since_us\": " T0
        ", \"loop\": \"running\", \"degraded\": true, \"drift\": true, \"cycle\": {\"state\":"
        "\"idle\"}}, {\"app\": \"x\", \"champion\": null, \"loop\": \"frozen\", \"cycle\":"
        "{\"state\": \"releasing\", \"version\": 2, \"stage\": \"shadow\", \"share\": 0}}]}");
    ot_cli_view_apps(j, NOW, &out);
    is_str(out.data,
           "APP     SERVES  FOR      LOOP     CYCLE                 HEALTH\n"
           "digits  v4      2h 5min  running  idle                  DEGRADED\n"
           "x       -       -        frozen   releasing v2: shadow  -\n",
           "apps");
    json_decref(j);
    ot_str_done(&out);
}

static void event_is(const char *type, const char *payload, bool colour, const char *want)
{
    ot_str text = OT_STR_INIT, out = OT_STR_INIT;
    ot_str_addf(&text,
                "{\"seq\": 12, \"time_us\": " T0 ", \"type\": \"%s\", \"object\": \"model/d@4\","
                "\"payload\": %s}",
                type, payload);
    json_t *j = read_json(text.data);
    ot_cli_view_event(j, colour, &out);
    is_str(out.data, want, "%s %s", type, payload);
    json_decref(j);
    ot_str_done(&text);
    ot_str_done(&out);
}

static void test_events(void)
{
#define HEAD "2025-11-24 16:00:00     12 "
    event_is("run.started", "{\"text\": \"x\"}", false,
             HEAD "  run.started         model/d@4            x\n");
    event_is("accuracy.degraded", "{\"text\": \"a\\nb\\u001b[2J\"}", false,
             HEAD "! accuracy.degraded   model/d@4            a b?[2J\n");
    event_is("accuracy.at_risk", "{\"text\": \"x\"}", false,
             HEAD "! accuracy.at_risk    model/d@4            x\n");
    event_is("drift.detected", "{\"text\": \"x\"}", false,
             HEAD "! drift.detected      model/d@4            x\n");
    event_is("site.forbids", "{\"text\": \"x\"}", false,
             HEAD "! site.forbids        model/d@4            x\n");
    event_is("release.waits", "{\"text\": \"x\"}", false,
             HEAD "? release.waits       model/d@4            x\n");
    event_is("site.allows", "{\"text\": \"x\"}", false,
             HEAD "+ site.allows         model/d@4            x\n");
    event_is("drift.learnt", "{\"text\": \"x\"}", false,
             HEAD "  drift.learnt        model/d@4            x\n");
    event_is("version.rolled_back", "{\"text\": \"x\"}", false,
             HEAD "! version.rolled_back model/d@4            x\n");
    event_is("cycle.failed", "{\"text\": \"x\"}", false,
             HEAD "! cycle.failed        model/d@4            x\n");
    event_is("run.finished", "{\"text\": \"x\", \"state\": \"failed\"}", false,
             HEAD "! run.finished        model/d@4            x\n");
    event_is("run.finished", "{\"text\": \"x\", \"state\": \"succeeded\"}", false,
             HEAD "  run.finished        model/d@4            x\n");
    event_is("gate.refused", "{\"text\": \"x\"}", false,
             HEAD "? gate.refused        model/d@4            x\n");
    event_is("version.promoted", "{\"text\": \"x\"}", false,
             HEAD "+ version.promoted    model/d@4            x\n");
    event_is("quality.recovered", "{\"text\": \"x\"}", false,
             HEAD "+ quality.recovered   model/d@4            x\n");
    event_is("a.type.longer.than.its.column", "{\"n\": 1}", false,
             HEAD "  a.type.longer.than.its.column model/d@4            {\"n\":1}\n");
    event_is("x", "null", false, HEAD "  x                   model/d@4            (erased)\n");
    event_is("x", "{}", false, HEAD "  x                   model/d@4            \n");
    event_is(
        "run.started", "{\"text\": \"x\"}", true,
        "\x1b[2m2025-11-24 16:00:00     12\x1b[0m   run.started         model/d@4            x\n");
    event_is(
        "cycle.failed", "{\"text\": \"x\"}", true,
        "\x1b[2m2025-11-24 16:00:00     12\x1b[0m \x1b[1;31m! cycle.failed        model/d@4     "
        "       x\x1b[0m\n");
}

static void test_replicas(void)
{
    ot_str out = OT_STR_INIT;
    json_t *j = read_json(
        "{\"replicas\": [{\"id\": \"r0\", \"kind\": \"replica\", \"version\": \"0.1.0\", \"pid\": "
        "7,"
        "\"observed\": {\"deployments\": [{\"name\": \"d\", \"variants\": [{\"role\": \"champion\","
        "\"version\": 1, \"state\": \"serving\", \"error\": null}, {\"role\": \"shadow\","
        "\"version\": 2, \"state\": \"failed\", \"error\": \"no runtime\"}]}]}}]}");
    ot_cli_view_replicas(j, &out);
    is_str(out.data,
           "REPLICA  KIND     VERSION  PID  SERVES\n"
           "r0       replica  0.1.0      7  d v1 champion serving, v2 shadow failed: no runtime\n",
           "replicas");
    json_decref(j);
    ot_str_done(&out);
}

/* No part that is missing, and no short memory, makes more of an answer than less text. */
static void test_holes(void)
{
    ot_str out = OT_STR_INIT;
    json_t *none = json_object(), *list = read_json("[1, null, \"x\"]");
    json_t *odd = json_pack("{s:O, s:O, s:O, s:O, s:O, s:O}", "apps", list, "runs", list, "chain",
                            list, "replicas", list, "objectives", list, "changed", list);
    json_t *answers[] = {none, odd, NULL};
    for (size_t i = 0; i < OT_COUNT(answers); i++) {
        ot_cli_view_apps(answers[i], NOW, &out);
        ot_cli_view_app(answers[i], NOW, &out);
        ot_cli_view_why(answers[i], &out);
        ot_cli_view_event(answers[i], true, &out);
        ot_cli_view_verified(answers[i], &out);
        ot_cli_view_runs(answers[i], &out);
        ot_cli_view_models(answers[i], &out);
        ot_cli_view_model(answers[i], &out);
        ot_cli_view_accuracy(answers[i], &out);
        ot_cli_view_replicas(answers[i], &out);
        ot_cli_view_applied(answers[i], true, &out);
        ot_cli_view_acted(answers[i], &out);
    }
    ok(!out.failed && out.len > 0, "answers with holes");
    ot_str_done(&out);
    ot_str_init(&out);
    (void)ot_mem_fail_nth(1);
    ot_cli_view_why(odd, &out);
    (void)ot_mem_fail_nth(0);
    ok(out.failed, "short memory shows");
    json_decref(none);
    json_decref(list);
    json_decref(odd);
    ot_str_done(&out);
}

static void test_backups(void)
{
    static const char json[] =
        "{\"path\": \"/b/2025\\u0007\", \"data\": \"/d\", \"made_us\": " T0
        ", \"head\": {\"seq\": 12,"
        "\"hash\": \"0123456789abcdef0123\"}, \"files\": 3, \"bytes\": 2048, \"copied_bytes\": "
        "1024,"
        "\"linked\": 1, \"removed\": 2, \"took_us\": 61000000, \"missing\": 1,"
        "\"first_missing\": \"fedcba98765432100\"}";
    OT_AUTO(ot_str_done) ot_str made = OT_STR_INIT, back = OT_STR_INIT;
    json_t *j = read_json(json);
    ot_cli_view_backup(j, &made);
    is_str(made.data,
           "  backup      /b/2025?\n"
           "  has         3 files, 2 KiB, in 1min 1s; 1 KiB written, 1 blobs were in an earlier "
           "backup\n"
           "  log         event 12, hash 0123456789abcdef...\n"
           "  removed     2 old backups\n"
           "  missing     1 blobs that the store refers to were not there or damaged, the first "
           "fedcba9876543210...; what needs them will say so\n",
           "a backup");
    ot_cli_view_restored(j, &back);
    is_str(back.data,
           "  restored    /d\n"
           "  from        /b/2025?, made 2025-11-24 16:00:00\n"
           "  has         3 files, 2 KiB, in 1min 1s\n"
           "  log         event 12, hash 0123456789abcdef...\n"
           "  missing     1 blobs that the store refers to were not there or damaged, the first "
           "fedcba9876543210...; what needs them will say so\n"
           "  next        overtake up --data /d\n",
           "a restore");
    json_decref(j);
}

int main(void)
{
    setenv("TZ", "UTC", 1);
    tzset();
    test_app();
    test_budgets();
    test_many_moved();
    test_apps();
    test_events();
    test_replicas();
    test_backups();
    test_holes();
    return tap_done();
}
