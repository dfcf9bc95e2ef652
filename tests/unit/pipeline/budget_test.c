/* Error budgets: when they alarm, when they are spent, what that takes away and how it comes back.
 * Counts are put where quality puts them. */
#include "driver.h"

#include "base/random.h"
#include "store/tally.h"

static const char objectives[] = "objectives:\n"
                                 "  accuracy:     {at_least: 0.9, over: 28d}\n"
                                 "  latency_p99:  {at_most: 5ms, share: 99%}\n"
                                 "  availability: {at_least: 0.999, over: 28d}\n";

static const char *yaml_with(const char *what)
{
    static char yaml[4096];
    const char *at = strstr(app_yaml, "objectives:"), *rest = strchr(at, '\n') + 1;
    snprintf(yaml, sizeof yaml, "%.*s%s%s", (int)(at - app_yaml), app_yaml, what, rest);
    return yaml;
}

/* v1 serves; in "canary" v2 has 10% of the traffic. */
static void prepare(const char *rel, bool canary)
{
    driver d;
    driver_open(&d, rel);
    fake_of("digits")->labelled_rows = 0;
    driver_apply_ok(&d, yaml_with(objectives));
    driver_settle(&d);
    if (canary) {
        fake_of("digits")->labelled_rows = 400;
        fake_find("digits", OT_FINDING_DEGRADED);
        driver_settle(&d);
        fake_pair("digits", 200, OT_PAIR_UNDECIDED);
    }
    driver_close(&d);
}

/* One second into a minute, so that the minutes that are over are the ones that are counted. */
static void start(driver *d, const char *from)
{
    static int n;
    char rel[32];
    snprintf(rel, sizeof rel, "scenario%d", ++n);
    clock_offset_us = 0;
    clock_offset_us = MIN_US - ot_clock_wall_us() % MIN_US + SEC;
    world_copy(from, rel);
    driver_open(d, rel);
}

/* ------------------------------------------------------------------ what is counted */

typedef struct traffic {
    const char *tally;
    int64_t from_us, to_us, step_us;
    double events, bad; /* a step */
    ot_rng *rng;        /* draws how many are bad, `bad` on average; NULL: exactly so many */
    double drawn;       /* out: of all steps */
} traffic;

static ot_rc add_traffic(ot_txn *txn, void *arg, ot_error *err)
{
    traffic *t = arg;
    ot_tally_counts c = {.events = t->events, .bad = t->bad, .seen = (int64_t)t->events};
    for (int64_t at = t->from_us; at < t->to_us; at += t->step_us) {
        c.bad = t->rng != NULL ? 0 : t->bad;
        for (int64_t i = 0; t->rng != NULL && i < c.seen; i++) {
            c.bad += ot_rng_uniform(t->rng) < t->bad / t->events;
        }
        t->drawn += c.bad;
        OT_TRY(ot_tally_add(txn, "digits", t->tally, at, &c, err));
    }
    return OT_OK;
}

static void count(driver *d, const char *tally, int64_t from_us, int64_t to_us, int64_t step_us,
                  double events, double bad)
{
    traffic t = {tally, from_us, to_us, step_us, events, bad, NULL, 0};
    ot_error err = {0};
    if (ot_store_write(d->store, add_traffic, &t, &err) != OT_OK) {
        bail("counts", err.msg);
    }
}

/* A minute passes with so many events. */
static void minute(driver *d, const char *tally, double events, double bad)
{
    int64_t now = ot_clock_wall_us();
    count(d, tally, now, now + 1, 1, events, bad);
    driver_forward(d, MIN_US);
}

/* Four weeks of `events` a minute, none of them bad. */
static void four_weeks(driver *d, const char *tally, double events)
{
    int64_t now = ot_clock_wall_us();
    count(d, tally, now - 28 * DAY, now - HOUR, HOUR, events * 60, 0);
    count(d, tally, now - HOUR, now, MIN_US, events, 0);
}

static json_t *budget_of(driver *d, const char *objective)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    ot_error err = {0};
    if (ot_pipeline_app(d->p, "digits", &text, &err) != OT_OK) {
        bail("app", err.msg);
    }
    json_t *app = json_loads(text.data, 0, NULL), *found = NULL, *b;
    size_t i;
    json_array_foreach(json_object_get(app, "budgets"), i, b)
    {
        if (strcmp(json_string_value(json_object_get(b, "objective")), objective) == 0) {
            found = json_incref(b);
        }
    }
    json_decref(app);
    return found;
}

static double remaining(driver *d, const char *objective)
{
    json_t *b = budget_of(d, objective);
    double left = json_number_value(json_object_get(b, "remaining"));
    json_decref(b);
    return left;
}

static const char *why_off(driver *d)
{
    static char text[256];
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_error err = {0};
    text[0] = 0;
    if (ot_pipeline_apps(d->p, &out, &err) == OT_OK) {
        json_t *j = json_loads(out.data, 0, NULL);
        const json_t *app = json_array_get(json_object_get(j, "apps"), 0);
        const char *s = json_string_value(json_object_get(app, "automation_off"));
        snprintf(text, sizeof text, "%s", s != NULL ? s : "");
        json_decref(j);
    }
    return text;
}

static ot_rc resume(driver *d, const char *reason, int64_t for_us, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_person_act act = {
        .verb = "resume", .app = "digits", .actor = "anna", .reason = reason, .for_us = for_us};
    return ot_pipeline_act(d->p, &act, &out, err);
}

/* Four weeks of 100 a minute allow 4,032: more than that fail. */
static void spend(driver *d)
{
    four_weeks(d, OT_TALLY_AVAILABILITY, 100);
    minute(d, OT_TALLY_AVAILABILITY, 6000, 6000);
}

static void spend_accuracy(driver *d)
{
    four_weeks(d, OT_TALLY_ACCURACY, 1);
    minute(d, OT_TALLY_ACCURACY, 5000, 5000);
}

/* ------------------------------------------------------------------ alarms */

/* Ten days at half of what may fail, failure by failure. */
static void test_quiet(void)
{
    driver d;
    ot_rng r;
    ot_rng_seed(&r, 11);
    start(&d, "served");
    double events = 0, bad = 0;
    for (int day = 0; day < 10; day++) {
        int64_t now = ot_clock_wall_us();
        traffic t = {OT_TALLY_AVAILABILITY, now, now + DAY, 5 * MIN_US, 500, 0.25, &r, 0};
        ot_error err = {0};
        ok(ot_store_write(d.store, add_traffic, &t, &err) == OT_OK, "day %d %s", day, err.msg);
        for (int i = 0; i < 24 * 12; i++) {
            driver_forward(&d, 5 * MIN_US);
        }
        events += 24 * 12 * 500;
        bad += t.drawn;
    }
    is_int(driver_count(&d, "budget.burning"), 0,
           "half of what may fail raises no alarm in 10 days");
    is_int(driver_count(&d, "budget.spent"), 0, "and spends nothing");
    is_int(d.n_alerts, 0, "nobody is called");
    is_near(remaining(&d, "availability"), 1 - bad / events / 0.001 * 10 / 28, 0.001,
            "%.0f of %.0f: what is left of four weeks' budget", bad, events);
    json_t *b = budget_of(&d, "accuracy");
    is_near(json_number_value(json_object_get(b, "remaining")), 1, 0, "no labels: all is left");
    json_decref(b);
    driver_close(&d);
}

/* 2% of the requests fail, 0.1% may: a rate of 20. Over an hour that is 14.4 when it has lasted for
 * 14.4 / 20 * 60 = 43.2 minutes. */
static void test_page(void)
{
    driver d;
    start(&d, "served");
    four_weeks(&d, OT_TALLY_AVAILABILITY, 100);
    driver_forward(&d, 0);
    int at = 0;
    for (int i = 1; i <= 50; i++) {
        minute(&d, OT_TALLY_AVAILABILITY, 100, 2);
        at = at == 0 && driver_count(&d, "budget.burning") > 0 ? i : at;
    }
    is_int(at, 44, "2%% failing pages in the 44th minute");
    is_int(driver_count(&d, "budget.burning"), 1, "once");
    is_int(d.n_alerts, 1, "and somebody is called once");
    struct event_look l = driver_events(&d, "budget.burning");
    ok(has(json_string_value(json_object_get(l.last, "text")),
           "availability burns its budget 14.7 times as fast as it may (over 60min and 5min): "
           "97.8% is left, at this rate for 44.8"),
       "in words");
    is_str(json_string_value(json_object_get(l.last, "objective")), "availability", "which");
    is_str(json_string_value(json_object_get(l.last, "severity")), "page", "how urgent");
    is_near(json_number_value(json_object_get(l.last, "rate")), 20.0 * 44 / 60, 1e-6, "how fast");
    is_near(json_number_value(json_object_get(l.last, "rate_short")), 20, 1e-6, "and just now");
    is_int(json_integer_value(json_object_get(l.last, "long_us")), HOUR, "over an hour");
    double left = 1 - 88.0 / 4032, rate = 20.0 * 44 / 60;
    is_near(json_number_value(json_object_get(l.last, "remaining")), left, 1e-3, "what is left");
    is_near(
        (double)(json_integer_value(json_object_get(l.last, "spent_at_us")) - ot_clock_wall_us()) /
            (double)HOUR,
        left / rate * 28 * 24 - 6.0 / 60, 0.1, "and for how long");
    json_decref(l.last);
    is_near(remaining(&d, "availability"), 1 - 100.0 / 4032, 1e-3, "100 of 4,032 are gone");
    int ended = 0;
    for (int i = 1; i <= 20; i++) {
        minute(&d, OT_TALLY_AVAILABILITY, 100, 0);
        ended = ended == 0 && driver_count(&d, "budget.recovered") > 0 ? i : ended;
    }
    /* One minute later four of the last five are bad, 16 > 14.4; then it stays for five. */
    is_int(ended, 6, "it has recovered six minutes after the last failure");
    is_int(driver_count(&d, "budget.recovered"), 1, "once");
    is_int(driver_count(&d, "budget.burning"), 1, "and nothing burns again");
    driver_close(&d);
}

/* A rate of 1.5 is a ticket, a page follows when it gets worse; a restart says nothing twice. */
static void test_ticket_then_page(void)
{
    driver d;
    start(&d, "served");
    int64_t now = ot_clock_wall_us();
    count(&d, OT_TALLY_AVAILABILITY, now - 28 * DAY, now - 3 * DAY, HOUR, 6000, 0);
    count(&d, OT_TALLY_AVAILABILITY, now - 3 * DAY, now - HOUR, HOUR, 6000, 9);
    minute(&d, OT_TALLY_AVAILABILITY, 6000, 9);
    struct event_look l = driver_events(&d, "budget.burning");
    is_int(l.n, 1, "a rate of 1.5 over 3 days");
    is_str(json_string_value(json_object_get(l.last, "severity")), "ticket", "is a ticket");
    is_near(json_number_value(json_object_get(l.last, "threshold")), 1, 0, "by the slowest rule");
    json_decref(l.last);
    driver_again(&d);
    driver_forward(&d, MIN_US);
    is_int(driver_count(&d, "budget.burning"), 1, "not again after a restart");
    is_int(driver_count(&d, "budget.recovered"), 0, "nor is it taken for the end");
    minute(&d, OT_TALLY_AVAILABILITY, 3000, 300);
    is_int(driver_count(&d, "budget.burning"), 2, "worse: said again");
    ok(has(d.alert, "\"severity\":\"page\""), "as a page");
    driver_again(&d);
    for (int i = 0; i < 12; i++) {
        minute(&d, OT_TALLY_AVAILABILITY, 100, 0);
    }
    is_int(driver_count(&d, "budget.burning"), 2, "after another restart the page ends quietly");
    is_int(driver_count(&d, "budget.recovered"), 0, "as long as the ticket stands");
    driver_close(&d);
}

/* A process that comes while nothing burns for a moment does not take that for the end. */
static void test_restart_while_burning(void)
{
    driver d;
    start(&d, "served");
    four_weeks(&d, OT_TALLY_AVAILABILITY, 100);
    for (int i = 0; i < 44; i++) {
        minute(&d, OT_TALLY_AVAILABILITY, 100, 2);
    }
    is_int(driver_count(&d, "budget.burning"), 1, "burns");
    count(&d, OT_TALLY_AVAILABILITY, ot_clock_wall_us(), ot_clock_wall_us() + 3 * MIN_US, MIN_US,
          100, 0);
    clock_offset_us += 3 * MIN_US;
    driver_again(&d);
    is_int(driver_count(&d, "budget.recovered"), 0, "three good minutes, and a restart");
    minute(&d, OT_TALLY_AVAILABILITY, 1000, 25);
    is_int(driver_count(&d, "budget.burning"), 1, "the same fire");
    for (int i = 0; i < 12; i++) {
        minute(&d, OT_TALLY_AVAILABILITY, 100, 0);
    }
    is_int(driver_count(&d, "budget.recovered"), 1, "has one end");
    driver_close(&d);
}

static void test_low_traffic(void)
{
    driver d;
    start(&d, "served");
    int64_t now = ot_clock_wall_us();
    count(&d, OT_TALLY_AVAILABILITY, now - 28 * DAY, now - HOUR, 6 * HOUR, 1, 0);
    minute(&d, OT_TALLY_AVAILABILITY, 8, 1);
    is_int(driver_count(&d, "budget.burning") + driver_count(&d, "budget.spent"), 0,
           "one of eight is no alarm, though it is 125 times what may fail");
    ok(remaining(&d, "availability") < 0, "and more than the budget: %g",
       remaining(&d, "availability"));
    is_str(why_off(&d), "", "nothing is taken away for it");
    minute(&d, OT_TALLY_AVAILABILITY, 2, 1);
    is_int(driver_count(&d, "budget.burning"), 1, "two of ten are no chance");
    driver_close(&d);
}

/* Labels come a day late: the alarm is about the hour that they are about. */
static void test_late_labels(void)
{
    driver d;
    start(&d, "served");
    int64_t now = ot_clock_wall_us(), then = now - now % MIN_US - 20 * HOUR;
    count(&d, OT_TALLY_ACCURACY, then - 27 * DAY, then - 6 * HOUR, HOUR, 60, 1);
    count(&d, OT_TALLY_ACCURACY, then - 6 * HOUR, then, MIN_US, 10, 9);
    driver_forward(&d, MIN_US);
    struct event_look l = driver_events(&d, "budget.burning");
    is_int(l.n, 1, "20 hours later");
    is_str(json_string_value(json_object_get(l.last, "objective")), "accuracy", "accuracy");
    is_near(json_number_value(json_object_get(l.last, "rate")), 9, 1e-6, "at 90%% wrong, 10%% may");
    is_near(json_number_value(json_object_get(l.last, "threshold")), 6, 0,
            "14.4 is more than can be wrong");
    json_decref(l.last);
    driver_forward(&d, 10 * HOUR);
    is_int(driver_count(&d, "budget.recovered"), 0, "no news is no good news");
    driver_forward(&d, 5 * DAY);
    is_int(driver_count(&d, "budget.recovered"), 1, "until labels should have been here");
    driver_close(&d);
}

/* ------------------------------------------------------------------ spent */

static void test_spent(void)
{
    ot_error err = {0};
    driver d;
    start(&d, "served");
    four_weeks(&d, OT_TALLY_AVAILABILITY, 100);
    minute(&d, OT_TALLY_AVAILABILITY, 4000, 4000);
    is_int(driver_count(&d, "budget.spent"), 0, "4,000 fail, 4,036 may");
    is_str(why_off(&d), "", "take nothing away");
    minute(&d, OT_TALLY_AVAILABILITY, 50, 50);
    is_int(driver_count(&d, "budget.spent"), 1, "4,050 do");
    ok(has(d.alert, "budget.spent") && has(d.alert, "overtake resume digits --reason TEXT"),
       "somebody is told, and the way out");
    ok(has(why_off(&d), "the budget of availability was spent at"), "%s", why_off(&d));
    is_str(driver_serves(&d, "digits"), "champion v1 100%", "the champion serves on");

    fake_find("digits", OT_FINDING_DEGRADED);
    is_str(driver_where(&d), "idle", "nothing is trained by itself");
    ok(has(driver_said(&d, "trigger.held"), "the budget of availability was spent"), "and said");
    struct event_look l = driver_events(&d, "trigger.held");
    is_int(json_array_size(json_object_get(l.last, "because")), 2, "because of both");
    json_decref(l.last);
    driver_again(&d);
    driver_forward(&d, HOUR);
    is_str(driver_where(&d), "idle", "nor after a restart");
    is_int(driver_count(&d, "budget.spent"), 1, "which says nothing twice");

    ok(resume(&d, NULL, 0, &err) == OT_INVALID && has(err.msg, "needs a reason"), "%s", err.msg);
    ok(has(why_off(&d), "spent"), "still off");
    ok(resume(&d, "the load balancer is mended", 0, &err) == OT_OK, "resumed %s", err.msg);
    ok(has(driver_said(&d, "loop.resumed"), "anna: the load balancer is mended"), "%s",
       driver_said(&d, "loop.resumed"));
    is_str(why_off(&d), "", "given back");
    is_str(driver_where(&d), "training", "and what was held starts");
    driver_settle(&d);
    driver_again(&d);
    driver_forward(&d, 3 * DAY);
    is_str(why_off(&d), "", "until the budget recovers");
    is_int(driver_count(&d, "budget.spent"), 1, "however long that takes");
    driver_close(&d);
}

static void test_granted_for_a_time(void)
{
    ot_error err = {0};
    driver d;
    start(&d, "served");
    spend(&d);
    ok(resume(&d, "over the weekend", 2 * DAY, &err) == OT_OK, "granted for two days %s", err.msg);
    ok(has(driver_said(&d, "loop.resumed"), "for 2"), "%s", driver_said(&d, "loop.resumed"));
    driver_forward(&d, 2 * DAY - HOUR);
    is_str(why_off(&d), "", "on before that");
    ok(driver_act(&d, "pause", 0, NULL, &err) == OT_OK && resume(&d, NULL, 0, &err) == OT_OK,
       "a pause ends without a reason, and grants nothing: %s", err.msg);
    driver_again(&d);
    driver_forward(&d, 2 * HOUR);
    ok(has(why_off(&d), "spent"), "off after it");
    is_int(driver_count(&d, "budget.spent"), 2, "which is said");
    ok(has(driver_said(&d, "budget.spent"), "still spent"), "%s", driver_said(&d, "budget.spent"));
    /* Four weeks later the failures are out of the period. */
    int64_t now = ot_clock_wall_us();
    count(&d, OT_TALLY_AVAILABILITY, now, now + 28 * DAY, HOUR, 6000, 0);
    driver_forward(&d, 28 * DAY);
    is_int(driver_count(&d, "budget.restored"), 1, "the budget comes back by itself");
    ok(has(why_off(&d), "spent"), "the automation does not");
    ok(resume(&d, "all is well", 0, &err) == OT_OK, "resumed %s", err.msg);
    is_str(why_off(&d), "", "until somebody says so");
    driver_forward(&d, 7 * DAY);
    is_int(driver_count(&d, "budget.spent"), 2, "and then it stays");
    driver_close(&d);
}

static void test_objective_taken_away(void)
{
    driver d;
    start(&d, "served");
    spend(&d);
    ok(has(why_off(&d), "spent"), "off");
    driver_apply_ok(&d, yaml_with("objectives: {availability: {at_least: 0.99, over: 28d}}\n"));
    driver_forward(&d, MIN_US);
    is_int(driver_count(&d, "budget.restored"), 1, "a looser objective has budget left");
    driver_apply_ok(&d, yaml_with("objectives: {accuracy: {at_least: 0.9}}\n"));
    driver_forward(&d, MIN_US);
    is_str(why_off(&d), "", "whoever takes the objective away has acted");
    driver_apply_ok(&d, yaml_with("objectives: {availability: {at_least: 0.999, over: 59s}}\n"));
    minute(&d, OT_TALLY_AVAILABILITY, 6000, 6000);
    ok(budget_of(&d, "availability") == NULL, "over less than a minute there is none");
    is_str(why_off(&d), "", "and nothing to spend");
    driver_close(&d);
}

/* ------------------------------------------------------------------ releases */

static void test_held_canary(void)
{
    ot_error err = {0};
    driver d;
    start(&d, "canary");
    is_str(driver_where(&d), "canary 10%", "v2 has its share");
    spend_accuracy(&d);
    ok(has(driver_said(&d, "budget.spent"), "overtake train digits"), "%s",
       driver_said(&d, "budget.spent"));
    is_str(driver_where(&d), "canary 10%", "it stays");
    ok(has(driver_said(&d, "release.held"), "v2 is held in canary"), "%s",
       driver_said(&d, "release.held"));
    fake_pair("digits", 50, OT_PAIR_NOT_WORSE);
    driver_forward(&d, HOUR);
    is_str(driver_where(&d), "canary 10%", "goes no further by itself");
    driver_forward(&d, 5 * HOUR);
    is_str(driver_where(&d), "canary 10%", "and what was found good is not thrown away");
    ok(ot_pipeline_next_us(d.p) > ot_clock_wall_us() + SEC, "nor looked at all the time");
    driver_again(&d);
    is_int(driver_count(&d, "release.held"), 1, "said once");
    OT_AUTO(ot_str_done) ot_str why = OT_STR_INIT;
    ok(ot_pipeline_why(d.p, "digits", 2, &why, &err) == OT_OK &&
           has(why.data, "v2 is held in canary") && has(why.data, "budget.spent"),
       "why not v2");
    ok(resume(&d, "looked at it", HOUR, &err) == OT_OK, "resumed %s", err.msg);
    is_str(driver_where(&d), "canary 50%", "on it goes");
    driver_forward(&d, 90 * MIN_US);
    is_int(driver_count(&d, "release.held"), 2, "until that hour is over");
    fake_pair("digits", 50, OT_PAIR_NOT_WORSE);
    is_str(driver_where(&d), "canary 50%", "held again");
    driver_close(&d);
}

static void test_back_it_goes(void)
{
    ot_error err = {0};
    driver d;
    start(&d, "canary");
    spend_accuracy(&d);
    fake_pair("digits", 50, OT_PAIR_WORSE);
    is_str(driver_where(&d), "idle", "what is worse is rolled back");
    is_str(driver_status(&d, 2), "refused", "as ever");
    driver_close(&d);

    start(&d, "canary");
    spend_accuracy(&d);
    driver_forward(&d, 3 * HOUR);
    is_str(driver_where(&d), "idle", "and what is undecided when its time is over");
    driver_close(&d);

    start(&d, "canary");
    spend(&d);
    is_str(driver_where(&d), "idle", "a canary may be why requests failed: it is rolled back");
    ok(has(driver_said(&d, "version.rolled_back"), "the budget of availability was spent"), "%s",
       driver_said(&d, "version.rolled_back"));
    is_str(driver_serves(&d, "digits"), "champion v1 100%", "v1 serves");
    driver_close(&d);

    start(&d, "canary");
    spend_accuracy(&d);
    ok(driver_act(&d, "rollback", 0, NULL, &err) == OT_OK, "a person can roll back %s", err.msg);
    ok(driver_act(&d, "pause", 0, NULL, &err) == OT_OK, "and pause %s", err.msg);
    ok(driver_act(&d, "pin", 1, NULL, &err) == OT_OK, "and pin %s", err.msg);
    driver_close(&d);
}

/* What is under way ends, and waits behind the gate. */
static void test_held_at_the_gate(void)
{
    ot_error err = {0};
    driver d;
    start(&d, "served");
    fake_of("digits")->labelled_rows = 400;
    fake_find("digits", OT_FINDING_DEGRADED);
    is_str(driver_where(&d), "training", "trains by itself");
    spend_accuracy(&d);
    driver_settle(&d);
    is_str(driver_where(&d), "evaluating", "its runs end");
    ok(has(driver_said(&d, "release.held"), "v2 is held after the gate"), "%s",
       driver_said(&d, "release.held"));
    is_int(driver_count(&d, "gate.passed"), 1, "nothing follows from them, only v1 passed");
    driver_again(&d);
    driver_forward(&d, DAY);
    is_str(driver_where(&d), "evaluating", "nor later");
    is_int(driver_count(&d, "release.held"), 1, "said once");
    ok(resume(&d, "it is the repair", 0, &err) == OT_OK, "resumed %s", err.msg);
    driver_settle(&d);
    is_str(driver_where(&d), "shadow", "then it goes on");
    driver_close(&d);

    start(&d, "served");
    fake_find("digits", OT_FINDING_DEGRADED);
    spend_accuracy(&d);
    driver_settle(&d);
    is_str(driver_where(&d), "evaluating", "another waits there");
    ok(driver_act(&d, "rollback", 0, NULL, &err) == OT_OK, "a person can end it %s", err.msg);
    is_str(driver_where(&d), "idle", "it ends");
    is_str(driver_status(&d, 2), "refused", "and is refused");
    driver_close(&d);
}

/* What a person begins with the budget spent goes its way. */
static void test_person_trains(void)
{
    ot_error err = {0};
    driver d;
    start(&d, "served");
    fake_of("digits")->labelled_rows = 400;
    spend_accuracy(&d);
    ok(driver_act(&d, "train", 0, NULL, &err) == OT_OK, "a person can always train %s", err.msg);
    driver_settle(&d);
    is_str(driver_where(&d), "shadow", "what they began goes on");
    fake_pair("digits", 200, OT_PAIR_UNDECIDED);
    fake_pair("digits", 50, OT_PAIR_NOT_WORSE);
    fake_pair("digits", 50, OT_PAIR_NOT_WORSE);
    is_str(driver_status(&d, 2), "champion", "up to the repair");
    ok(has(why_off(&d), "accuracy"), "which gives nothing back by itself");
    driver_close(&d);
}

int main(void)
{
    world_start();
    prepare("served", false);
    prepare("canary", true);
    test_quiet();
    test_page();
    test_ticket_then_page();
    test_restart_while_burning();
    test_low_traffic();
    test_late_labels();
    test_spent();
    test_granted_for_a_time();
    test_objective_taken_away();
    test_held_canary();
    test_back_it_goes();
    test_held_at_the_gate();
    test_person_trains();
    return world_end();
}
