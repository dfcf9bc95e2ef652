/* The loop from a first apply to a promoted second version, through the real programs. */
#include "driver.h"

static bool in_background(const driver *d, int run)
{
    char path[OT_PATH_MAX + 32];
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    snprintf(path, sizeof path, "%s/runs/%d/spec.json", d->dir, run);
    if (ot_disk_read_all(ot_disk_posix(), path, 1 << 20, &text, NULL) != OT_OK) {
        bail(path, "not readable");
    }
    return strstr(text.data, "\"background\"") != NULL;
}

/* v1 from the base alone. */
static void test_first(driver *d)
{
    driver_apply_ok(d, app_yaml);
    is_str(driver_where(d), "training", "a first apply starts the first run");
    is_str(driver_serves(d, "digits"), "", "nothing serves yet");
    driver_settle(d);
    is_str(driver_runs(d), "train succeeded, package succeeded, evaluate succeeded", "its runs");
    is_str(driver_where(d), "idle", "the cycle ends");
    is_str(driver_serves(d, "digits"), "champion v1 100%", "v1 serves");
    is_str(driver_status(d, 1), "champion", "in the registry too");
    is_int(fake_of("digits")->promoted, 1, "quality knows");
    is_int(program_starts(), 1, "the program ran once");
    ok(d->n_desired >= 1, "the desired state was sent");
    ok(!in_background(d, 1) && !in_background(d, 3), "nothing served that it could slow down");

    struct event_look l = driver_events(d, "version.registered");
    json_t *reported = json_object_get(l.last, "reported");
    is_near(json_number_value(json_object_get(reported, "loss")), 0.5, 1e-9, "reported metrics");
    json_decref(l.last);

    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_error err = {0};
    char hex[OT_DIGEST_HEX];
    ok(ot_pipeline_desired(d->p, &out, &err) == OT_OK, "desired state: %s", err.msg);
    ok(has(out.data, ot_digest_hex(&driver_state(d)->champion_bundle, hex)),
       "it names the bundle by its digest");
}

/* What the account says must add up; control is what is ours. */
static void check_account(driver *d)
{
    struct event_look l = driver_events(d, "version.promoted");
    const json_t *t = json_object_get(l.last, "time");
    int64_t total = json_integer_value(json_object_get(t, "total_us"));
    int64_t training = json_integer_value(json_object_get(t, "training_us"));
    int64_t jobs = json_integer_value(json_object_get(t, "jobs_us"));
    int64_t evidence = json_integer_value(json_object_get(t, "evidence_us"));
    int64_t control = json_integer_value(json_object_get(t, "control_us"));
    ok(total > 0 && training > 0 && jobs > 0 && control > 0 && evidence >= 0,
       "all parts are there");
    is_int(training + jobs + evidence + control, total, "the account of the time adds up");
    printf("# total %.1f ms: training %.1f, jobs %.1f, evidence %.1f, control %.1f\n",
           (double)total / 1e3, (double)training / 1e3, (double)jobs / 1e3, (double)evidence / 1e3,
           (double)control / 1e3);
    json_decref(l.last);
}

static void test_second(driver *d)
{
    struct ot_quality *q = fake_of("digits");
    q->labelled_rows = 400;
    q->joined = 400;
    int before = d->n_desired, alerts = d->n_alerts;
    uint64_t alarm = fake_find("digits", OT_FINDING_DEGRADED);
    is_str(driver_where(d), "training", "accuracy.degraded starts a run");
    ok(d->n_alerts == alerts + 1 &&
           has(d->alert, "\"app\":\"digits\",\"type\":\"quality.degraded\"") &&
           has(d->alert, "found by the evidence"),
       "and somebody is told: %s", d->alert);
    struct event_look l = driver_events(d, "trigger.fired");
    is_int(json_integer_value(json_array_get(json_object_get(l.last, "because"), 0)), alarm,
           "because of the alarm");
    json_decref(l.last);
    driver_settle(d);
    is_str(driver_where(d), "shadow", "past the gate it is in the shadow");
    ok(in_background(d, 4) && in_background(d, 6), "beside serving, runs are background work");
    ok(has(driver_said(d, "gate.passed"), "better on recent: 1.000 against 0.000") &&
           has(driver_said(d, "gate.passed"), "not worse on base: 1.000 against 1.000"),
       "scored on the same rows as the champion");
    is_str(driver_serves(d, "digits"), "champion v1 100%, shadow v2 0% + compare", "as a shadow");
    is_str(driver_status(d, 2), "shadow", "in the registry");
    is_int(q->watch.candidate * 10 + q->watch.champion, 21, "v2 is compared with v1");
    ok(!q->watch.candidate_live_only, "on all rows");
    ok(d->n_desired > before, "the desired state was sent");

    fake_pair("digits", 199, OT_PAIR_UNDECIDED);
    is_str(driver_where(d), "shadow", "199 of 200 are not enough");
    fake_pair("digits", 200, OT_PAIR_UNDECIDED);
    is_str(driver_where(d), "canary 10%", "200 are");
    is_str(driver_serves(d, "digits"), "champion v1 90%, canary v2 10% + compare", "with a share");
    is_str(driver_status(d, 2), "canary", "in the registry");
    ok(q->watch.candidate_live_only, "rows that it answered itself count");
    is_int(q->pair.compared, 0, "from this step on");
    fake_pair("digits", 50, OT_PAIR_NOT_WORSE);
    is_str(driver_where(d), "canary 50%", "the next share");
    fake_pair("digits", 50, OT_PAIR_NOT_WORSE);
    is_str(driver_where(d), "probation", "promoted");
    is_str(driver_serves(d, "digits"), "champion v2 100%, shadow v1 0% + compare",
           "the old version in the shadow of the new one");
    is_int(q->watch.candidate * 10 + q->watch.champion, 21, "v2 is still compared with v1");
    is_str(driver_status(d, 1), "retired", "v1 retired");
    is_str(driver_status(d, 2), "champion", "v2 champion");
    is_int(q->promoted, 2, "quality learns anew");
    check_account(d);
    ok(!driver_state(d)->degraded, "the alarm is answered");

    driver_forward(d, 25 * HOUR);
    is_str(driver_where(d), "idle", "the probation ends");
    is_int(driver_count(d, "probation.passed"), 1, "passed");
    is_str(driver_serves(d, "digits"), "champion v2 100%, shadow v1 0%",
           "the old version stays as the fallback, no longer compared");
    ok(!q->watched, "nothing is compared");
    is_int(program_starts(), 2, "two runs of the program in all");
}

/* A candidate that did not learn what moved is no better: the gate keeps it away. */
static void test_ignorant(driver *d)
{
    int alerts = d->n_alerts;
    program_does("ignore");
    fake_find("digits", OT_FINDING_DEGRADED);
    driver_settle(d);
    program_does("well");
    is_str(driver_where(d), "idle", "refused by the gate");
    is_str(driver_status(d, 3), "refused", "in the registry");
    ok(has(driver_said(d, "gate.refused"), "v3 did not pass the gate: not better on recent"),
       "with the numbers");
    is_str(driver_serves(d, "digits"), "champion v2 100%, shadow v1 0%", "nothing else changed");
    ok(d->n_alerts > alerts && has(d->alert, "gate.refused"), "and somebody is told");
}

int main(void)
{
    world_start();
    driver d;
    driver_open(&d, "loop");
    test_first(&d);
    test_second(&d);
    test_ignorant(&d);
    driver_close(&d);
    return world_end();
}
