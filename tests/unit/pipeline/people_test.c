/* Pushes and cancels, two apps side by side, and what `why` tells. */
#include "driver.h"

static const char *why(driver *d, int64_t version)
{
    static char text[4096];
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_error err = {0};
    if (ot_pipeline_why(d->p, "digits", version, &out, &err) != OT_OK) {
        snprintf(text, sizeof text, "error: %s", err.msg);
        return text;
    }
    json_t *j = json_loads(out.data, 0, NULL);
    snprintf(text, sizeof text, "%s", json_string_value(json_object_get(j, "text")));
    json_decref(j);
    return text;
}

/* All of `parts` (NULL-terminated) in this order. */
static bool tells(const char *text, const char *const *parts)
{
    const char *p = text;
    for (; *parts != NULL; parts++) {
        const char *q = strstr(p, *parts);
        if (q == NULL) {
            printf("# '%s' lacks '%s' after '%.40s'\n", text, *parts, p);
            return false;
        }
        p = q + strlen(*parts);
    }
    return true;
}
#define TELLS(text, ...) tells(text, (const char *const[]){__VA_ARGS__, NULL})

static void test_why(void)
{
    ot_error err = {0};
    driver d;
    driver_open(&d, "why");
    driver_apply_ok(&d, app_yaml);
    ok(has(why(&d, 0), "error: app digits: no version serves yet"), "nothing serves");
    driver_settle(&d);
    ok(TELLS(why(&d, 0), "v1 serves because v1 promoted", " <- v1 passed the gate: nothing serves",
             " <- run 3 (evaluate)", "v1 registered from run 1", "run 1 (train) succeeded",
             "run 1 (train) started", "app digits applied"),
       "from the promotion back to the apply: %s", why(&d, 0));
    ok(has(why(&d, 7), "error: "), "no such version: %s", why(&d, 7));

    fake_of("digits")->labelled_rows = 400;
    fake_find("digits", OT_FINDING_DEGRADED);
    driver_settle(&d);
    ok(driver_act(&d, "pause", 0, NULL, &err) == OT_OK &&
           driver_act(&d, "resume", 0, NULL, &err) == OT_OK,
       "paused and resumed");
    fake_pair("digits", 200, OT_PAIR_UNDECIDED);
    fake_pair("digits", 50, OT_PAIR_NOT_WORSE);
    fake_pair("digits", 60, OT_PAIR_NOT_WORSE);
    ok(TELLS(why(&d, 0), "v2 serves because v2 promoted: not worse as canary at 50% on 60 rows",
             "v2 enters canary at 50%: not worse as canary at 10% on 50 rows",
             "v2 enters canary at 10%: not worse in the shadow on 200 rows", "v2 enters shadow",
             "v2 passed the gate: better on recent", "v2 registered from run 4",
             "run 4 (train) started", "retrain: accuracy.degraded", "found by the evidence"),
       "from the promotion back to the alarm: %s", why(&d, 0));
    ok(!has_quiet(why(&d, 0), "paused by"), "a pause is no reason");
    ok(TELLS(why(&d, 1), "v1 does not serve because v2 promoted"), "what was replaced");

    fake_pair("digits", 500, OT_PAIR_WORSE);
    ok(TELLS(why(&d, 0), "v1 serves because v2 rolled back: worse than the previous version",
             "v2 enters probation", "v2 promoted", "found by the evidence"),
       "after a rollback: %s", why(&d, 0));
    ok(TELLS(why(&d, 2), "v2 does not serve because v2 rolled back: worse than"), "rolled back");

    driver_forward(&d, 2 * HOUR);
    program_does("ignore");
    fake_find("digits", OT_FINDING_DEGRADED);
    driver_settle(&d);
    program_does("well");
    ok(TELLS(why(&d, 3),
             "v3 does not serve because v3 did not pass the gate: not better on recent"),
       "refused: %s", why(&d, 3));

    ok(driver_act(&d, "pin", 2, NULL, &err) == OT_OK, "pinned: %s", err.msg);
    ok(TELLS(why(&d, 0), "v2 serves because v2 pinned by anna: because I say so"), "pinned");
    ok(TELLS(why(&d, 1), "v1 does not serve because v2 pinned by anna"), "and what made room");
    driver_close(&d);
}

/* "isolation" of a run's job: of its model, or of its candidate and its champion. */
static const char *isolation_of(const driver *d, int run)
{
    static char out[64];
    char path[OT_PATH_MAX];
    snprintf(path, sizeof path, "%s/runs/%d/job.json", d->dir, run);
    json_t *job = json_load_file(path, 0, NULL);
    const char *own = json_string_value(json_object_get(job, "isolation"));
    const json_t *list = json_object_get(job, "bundles");
    snprintf(out, sizeof out, "%s", own != NULL ? own : "");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *x = json_object_get(json_array_get(list, i), "isolation");
        size_t n = strlen(out);
        snprintf(out + n, sizeof out - n, "%s%s", i > 0 ? " " : "", json_string_value(x));
    }
    json_decref(job);
    return out;
}

/* The bundle or the model that somebody made elsewhere takes the same way. */
static void test_push(void)
{
    ot_error err = {0};
    char model[OT_PATH_MAX];
    driver d;
    clock_offset_us = 0;
    fake_of("digits")->labelled_rows = 0;
    driver_open(&d, "push");
    driver_apply_ok(&d, app_yaml);
    driver_settle(&d);
    fake_of("digits")->labelled_rows = 400;
    snprintf(model, sizeof model, "%s/runs/1/work/out/model", d.dir);
    ok(driver_act(&d, "push", 0, at("nothing"), &err) == OT_NOT_FOUND, "nothing there: %s",
       err.msg);
    ok(driver_act(&d, "push", 0, "relative", &err) != OT_OK, "no absolute path: %s", err.msg);
    ok(driver_act(&d, "push", 0, model, &err) == OT_OK, "a model that is no better: %s", err.msg);
    ok(driver_act(&d, "push", 0, model, &err) == OT_PRECONDITION, "one at a time: %s", err.msg);
    driver_settle(&d);
    is_str(driver_status(&d, 2), "refused", "is judged by the same gate");
    is_int(driver_state(&d)->failures, 0, "which is no failure of the loop");
    is_int(driver_state(&d)->cool_until_us, 0, "and cools nothing down");
    is_str(driver_runs(&d),
           "train succeeded, package succeeded, evaluate succeeded, package succeeded, evaluate "
           "succeeded",
           "nothing was trained");
    is_str(isolation_of(&d, 2), "none", "what was trained here is packed here");
    is_str(isolation_of(&d, 4), "process", "what was brought is packed in a process of its own");
    is_str(isolation_of(&d, 5), "process none", "and judged there");
    write_file("better/null.json",
               "{\"inputs\": [{\"name\": \"x\", \"datatype\": \"FP32\", \"shape\": [-1, 4]}],"
               "\"outputs\": [{\"name\": \"y\", \"datatype\": \"FP32\", \"shape\": [-1, 2]}],"
               "\"op\": \"linear\", \"softmax\": true,"
               "\"weights\": [[-1, 1], [1, -1], [1, -1], [-1, 1]]}");
    ok(driver_act(&d, "push", 0, at("better"), &err) == OT_OK, "a better one: %s", err.msg);
    driver_settle(&d);
    is_str(driver_where(&d), "shadow", "gets on");
    ok(has(driver_said(&d, "version.pushed"), "anna pushed "), "who brought it");
    driver_close(&d);
}

static void test_cancel(void)
{
    ot_error err = {0};
    driver d;
    driver_open(&d, "cancel");
    program_does("hang");
    driver_apply_ok(&d, app_yaml);
    ok(driver_act(&d, "rollback", 0, NULL, &err) == OT_PRECONDITION, "too early: %s", err.msg);
    is_str(driver_where(&d), "training", "it trains");
    while (d.n_watched == 0) {
        driver_step(&d);
    }
    ok(driver_act(&d, "rollback", 0, NULL, &err) == OT_OK, "cancelled: %s", err.msg);
    driver_settle(&d);
    program_does("well");
    is_str(driver_runs(&d), "train cancelled", "the run says so");
    is_str(driver_where(&d), "idle", "the cycle ends");
    is_int(driver_state(&d)->failures, 0, "which is no failure");
    ok(ot_pipeline_cancel(d.p, 1, "anna", &err) == OT_PRECONDITION, "once: %s", err.msg);
    ok(driver_act(&d, "train", 0, NULL, &err) == OT_OK, "a person trains");
    driver_settle(&d);
    is_str(driver_serves(&d, "digits"), "champion v1 100%", "and v1 serves");
    driver_close(&d);
}

/* What runs may end while the app is frozen; what follows waits. */
static void test_freeze_training(void)
{
    ot_error err = {0};
    driver d;
    driver_open(&d, "freeze");
    driver_apply_ok(&d, app_yaml);
    while (d.n_watched == 0) {
        driver_step(&d);
    }
    ok(driver_act(&d, "freeze", 0, NULL, &err) == OT_OK, "frozen while it trains");
    driver_settle(&d);
    is_str(driver_runs(&d), "train succeeded", "its end is told, and nothing follows");
    driver_again(&d);
    driver_settle(&d);
    is_str(driver_runs(&d), "train succeeded", "nor after a restart");
    ok(driver_act(&d, "resume", 0, NULL, &err) == OT_OK, "resumed");
    driver_settle(&d);
    is_str(driver_serves(&d, "digits"), "champion v1 100%", "goes on from there");
    driver_close(&d);

    driver_open(&d, "freeze_later");
    driver_apply_ok(&d, app_yaml);
    while (driver_state(&d)->cycle.state != PL_REGISTERING) {
        driver_step(&d);
    }
    ok(driver_act(&d, "freeze", 0, NULL, &err) == OT_OK, "frozen while it registers");
    driver_settle(&d);
    is_str(driver_status(&d, 1), "registered", "which comes to its end");
    is_str(driver_runs(&d), "train succeeded, package succeeded", "and no further");
    ok(driver_act(&d, "resume", 0, NULL, &err) == OT_OK, "resumed");
    driver_settle(&d);
    is_str(driver_serves(&d, "digits"), "champion v1 100%", "goes on from there too");
    driver_close(&d);
}

/* Another app that learns from the traffic of the first. */
static void test_two_apps(void)
{
    char yaml[4096] = "";
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_error err = {0};
    driver d;
    driver_open(&d, "two");
    driver_apply_ok(&d, app_yaml);
    snprintf(yaml, sizeof yaml, "%s", app_yaml);
    memcpy(strstr(yaml, "app: digits"), "app: letter", strlen("app: letter"));
    ok(driver_apply(&d, yaml, false, &out, &err) == OT_EXISTS, "a name for one: %s", err.msg);
    memcpy(strstr(yaml, "deployment: digits"), "deployment: letter", strlen("deployment: letter"));
    driver_apply_ok(&d, yaml);
    driver_settle(&d);
    is_str(driver_serves(&d, "digits"), "champion v1 100%", "one serves");
    is_str(driver_serves(&d, "letter"), "champion v1 100%", "and the other");
    ok(ot_pipeline_apps(d.p, &out, &err) == OT_OK && has(out.data, "\"app\":\"letter\""), "listed");
    fake_find("letter", OT_FINDING_DEGRADED);
    is_str(driver_where(&d), "idle", "an alarm of one is none of the other");
    is_str(pl_cycle_state_name(pl_app_find(d.p, "letter")->st.cycle.state), "training", "its own");
    driver_settle(&d);
    driver_again(&d);
    is_str(driver_serves(&d, "digits"), "champion v1 100%", "both are there after a restart");
    is_int((int)d.p->n_apps, 2, "two apps");

    /* Another name for what is served. */
    memcpy(strstr(yaml, "deployment: letter"), "deployment: lettre", strlen("deployment: lettre"));
    driver_apply_ok(&d, yaml);
    driver_settle(&d);
    is_str(driver_serves(&d, "letter"), "", "the old name is gone");
    ok(has(driver_serves(&d, "lettre"), "champion v1"), "the new one is there");
    ok(pl_app_find(d.p, "letter")->quality == fake_of("lettre"), "with evidence of its own");
    driver_close(&d);
}

int main(void)
{
    world_start();
    test_why();
    test_push();
    test_cancel();
    test_freeze_training();
    test_two_apps();
    return world_end();
}
