/* What the loop makes of programs that fail, each in its own way. */
#include "driver.h"

/* A first apply with a program that does `what`; the reason that the cycle failed. */
static const char *fails(driver *d, const char *rel, const char *what)
{
    driver_open(d, rel);
    program_does(what);
    driver_apply_ok(d, app_yaml);
    driver_settle(d);
    program_does("well");
    is_str(driver_where(d), "idle", "%s: the cycle ends", what);
    is_str(driver_serves(d, "digits"), "", "%s: nothing serves", what);
    return driver_said(d, "cycle.failed");
}

static void test_programs(void)
{
    driver d;
    const char *said = fails(&d, "crash", "crash");
    ok(has(said, "run 1 (train) failed: exit 3") &&
           has(said, "no such layer; log: overtake logs 1"),
       "a crash with its last line");
    is_str(driver_runs(&d), "train failed", "its run");
    is_int(driver_state(&d)->failures, 1, "counts as a failure");
    ok(d.n_alerts >= 2 && has(d.alert, "cycle.failed"), "somebody is told");
    struct event_look l = driver_events(&d, "run.finished");
    is_str(json_string_value(json_object_get(l.last, "log_tail")), "no such layer\n",
           "the log's end");
    is_int(json_integer_value(json_object_get(l.last, "exit_code")), 3, "its exit code");
    json_decref(l.last);
    driver_close(&d);

    is_str(fails(&d, "nothing", "nothing"),
           "run 1: exit 0, but no model at out/model. Fix train.model. Log: overtake logs 1",
           "no model");
    driver_close(&d);

    is_str(fails(&d, "elsewhere", "elsewhere"),
           "run 1: exit 0, but no model at out/model; it wrote out/modl/. Fix train.model. Log: "
           "overtake logs 1",
           "a model at another path");
    driver_close(&d);

    said = fails(&d, "nan", "nan");
    ok(has(said, "run 2 (package) failed: ") && has(said, "NaN"), "a model that answers NaN: %s",
       said);
    is_str(driver_status(&d, 1), "none", "is not registered");
    driver_close(&d);
}

static void test_hang(void)
{
    char yaml[2048];
    driver d;
    const char *time = strstr(app_yaml, "time: 5min");
    snprintf(yaml, sizeof yaml, "%.*stime: 1s%s", (int)(time - app_yaml), app_yaml,
             time + strlen("time: 5min"));
    driver_open(&d, "hang");
    program_does("hang");
    driver_apply_ok(&d, yaml);
    driver_settle(&d);
    program_does("well");
    ok(has(driver_said(&d, "cycle.failed"), "run 1 (train) timed_out"), "a program that hangs: %s",
       driver_said(&d, "cycle.failed"));
    is_str(driver_runs(&d), "train failed", "its run failed");
    driver_close(&d);
}

static void test_retry(void)
{
    char starts[16];
    driver d;
    driver_open(&d, "killed");
    snprintf(starts, sizeof starts, "%d", program_starts() + 1);
    setenv("PROGRAM_STARTS", starts, 1);
    program_does("killed_once"); /* and the data change */
    write_rows(at("other"), 310);
    driver_apply_ok(&d, app_yaml);
    driver_settle(&d);
    write_rows(at("app/base"), 300);
    pl_data first[OT_APP_DATA_MAX], second[OT_APP_DATA_MAX];
    ok(pl_given_data(at("killed/runs/1"), first) == 1 && first[0].rows == 300 &&
           pl_given_data(at("killed/runs/2"), second) == 1 &&
           ot_digest_equal(&first[0].digest, &second[0].digest),
       "the second try learns from what the first was given");
    is_str(driver_runs(&d), "train failed, train succeeded, package succeeded, evaluate succeeded",
           "killed from outside: run once more");
    is_str(driver_serves(&d, "digits"), "champion v1 100%", "and v1 serves");
    is_int(driver_state(&d)->failures, 0, "no failure of the program");
    driver_close(&d);

    driver_open(&d, "killed_always");
    program_does("killed");
    driver_apply_ok(&d, app_yaml);
    driver_settle(&d);
    program_does("well");
    int tries = driver_count(&d, "run.finished");
    is_int(tries, 1 + (int)pl_app_find(d.p, "digits")->app->train.retries,
           "as often as retries say");
    is_str(driver_where(&d), "idle", "then it is a failure");
    driver_close(&d);
}

/* An apply while nothing serves begins anew; three failures in a row pause the loop. */
static void test_three_failures(void)
{
    driver d;
    driver_open(&d, "three");
    program_does("crash");
    for (int i = 1; i <= 3; i++) {
        driver_apply_ok(&d, app_yaml);
        is_str(driver_where(&d), "training", "apply begins anew");
        driver_settle(&d);
    }
    ok(driver_state(&d)->paused, "the third failure pauses the loop");
    ok(has(driver_said(&d, "loop.paused"), "3 failures in a row"), "with its reason");
    ok(has(d.alert, "loop.paused"), "somebody is told");
    driver_apply_ok(&d, app_yaml);
    is_str(driver_where(&d), "idle", "an apply starts nothing now");
    ot_error err = {0};
    program_does("well");
    ok(driver_act(&d, "resume", 0, NULL, &err) == OT_OK, "a person resumes: %s", err.msg);
    ok(driver_act(&d, "train", 0, NULL, &err) == OT_OK, "and trains: %s", err.msg);
    driver_settle(&d);
    is_str(driver_serves(&d, "digits"), "champion v1 100%", "v1 serves");
    is_int(driver_state(&d)->failures, 0, "a promotion forgives");
    driver_close(&d);
}

/* Cool-down and the cap of a day, with candidates that the gate refuses. */
static void test_brakes(void)
{
    driver d;
    driver_open(&d, "brakes");
    driver_apply_ok(&d, app_yaml);
    driver_settle(&d);
    fake_of("digits")->labelled_rows = 400;
    program_does("ignore");
    fake_find("digits", OT_FINDING_DEGRADED);
    driver_settle(&d);
    is_int(driver_count(&d, "gate.refused"), 1, "the first is refused");
    fake_find("digits", OT_FINDING_DEGRADED);
    driver_forward(&d, 59 * MIN_US);
    is_str(driver_where(&d), "idle", "nothing starts while it cools down");
    is_int(ot_pipeline_next_us(d.p) <= driver_state(&d)->cool_until_us, 1, "the timer is set");
    driver_forward(&d, 2 * MIN_US);
    is_str(driver_where(&d), "training", "then the next one starts");
    driver_settle(&d);
    is_int(driver_count(&d, "trigger.fired"), 2, "two of two a day");
    driver_forward(&d, 2 * HOUR);
    driver_forward(&d, 2 * HOUR);
    is_str(driver_where(&d), "idle", "no third");
    is_int(driver_count(&d, "trigger.held"), 1, "which is told once");
    ok(has(driver_said(&d, "trigger.held"), "retrain.at_most is used up"), "with the reason");
    program_does("well");
    driver_forward(&d, 24 * HOUR);
    is_str(driver_where(&d), "training", "the next day");
    driver_settle(&d);
    is_str(driver_where(&d), "shadow", "a good one gets on");
    driver_close(&d);
}

int main(void)
{
    world_start();
    test_programs();
    test_hang();
    test_retry();
    test_three_failures();
    test_brakes();
    return world_end();
}
