/* Releases: what verdicts, deadlines and people make of a candidate. Each scenario starts from a
 * copy of a world where v1 serves and v2 is in its first stage. */
#include "driver.h"

static const char *replica_lacks; /* NULL: every replica serves what it is asked about */

static ot_rc serves(void *self, const char *deployment, int64_t version, ot_error *err)
{
    (void)self, (void)deployment, (void)version;
    return replica_lacks == NULL ? OT_OK : ot_fail(err, OT_PRECONDITION, "%s", replica_lacks);
}

/* v1 serves, `release` is applied, v2 has passed the gate. */
static void prepare(const char *rel, const char *release)
{
    char yaml[4096];
    const char *stages = strstr(app_yaml, "release:");
    snprintf(yaml, sizeof yaml, "%.*s%s", (int)(stages - app_yaml), app_yaml, release);
    driver d;
    driver_open(&d, rel);
    fake_of("digits")->labelled_rows = 0;
    driver_apply_ok(&d, yaml);
    driver_settle(&d);
    if (driver_state(&d)->champion == 0) {
        ot_error err = {0};
        ok(driver_act(&d, "approve", 0, NULL, &err) == OT_OK, "%s: v1 is approved", rel);
    }
    fake_of("digits")->labelled_rows = 400;
    fake_find("digits", OT_FINDING_DEGRADED);
    driver_settle(&d);
    driver_close(&d);
}

static void start(driver *d, const char *from)
{
    static int n;
    char rel[32];
    snprintf(rel, sizeof rel, "scenario%d", ++n);
    clock_offset_us = 0;
    world_copy(from, rel);
    driver_open(d, rel);
}

/* Shadow, both canary shares, and it is promoted. */
static void promote(void)
{
    fake_pair("digits", 200, OT_PAIR_UNDECIDED);
    fake_pair("digits", 50, OT_PAIR_NOT_WORSE);
    fake_pair("digits", 50, OT_PAIR_NOT_WORSE);
}

/* After an end without success. */
static void ended(driver *d, const char *event, const char *reason, const char *what)
{
    is_str(driver_where(d), "idle", "%s: the release ends", what);
    is_str(driver_status(d, 1), "champion", "%s: v1 is the champion", what);
    is_str(driver_status(d, 2), "refused", "%s: v2 is refused", what);
    ok(has(driver_serves(d, "digits"), "champion v1 100%"), "%s: v1 serves", what);
    ok(!fake_of("digits")->watched, "%s: nothing is compared", what);
    ok(has(driver_said(d, event), reason), "%s: %s", what, driver_said(d, event));
    ok(has(d->alert, event), "%s: somebody is told", what);
    is_int(driver_state(d)->failures, 1, "%s: counts", what);
    ok(driver_state(d)->cool_until_us > 0, "%s: cools down", what);
}

static void test_worse(void)
{
    driver d;
    start(&d, "full");
    is_str(driver_where(&d), "shadow", "found again in the shadow");
    fake_pair("digits", 90, OT_PAIR_WORSE);
    ended(&d, "release.stopped", "worse in the shadow on the same 90 rows", "worse in the shadow");
    driver_close(&d);

    start(&d, "full");
    fake_pair("digits", 200, OT_PAIR_NOT_WORSE);
    fake_pair("digits", 40, OT_PAIR_WORSE);
    ended(&d, "version.rolled_back", "worse as canary", "worse as canary");
    driver_close(&d);

    start(&d, "full");
    promote();
    is_str(driver_status(&d, 2), "champion", "promoted");
    fake_pair("digits", 500, OT_PAIR_WORSE);
    ended(&d, "version.rolled_back", "worse than the previous version on the same 500 rows",
          "worse in probation");
    is_int(fake_of("digits")->promoted, 1, "quality is told of the champion that is back");
    is_str(driver_serves(&d, "digits"), "champion v1 100%", "what was rolled back is no fallback");
    driver_close(&d);
}

static void test_out_of_time(void)
{
    driver d;
    start(&d, "full");
    driver_forward(&d, HOUR - MIN_US);
    is_str(driver_where(&d), "shadow", "before at_most");
    ok(ot_pipeline_next_us(d.p) <= driver_state(&d)->cycle.rollout.entered_us + HOUR + SEC,
       "the timer is set");
    driver_forward(&d, 2 * MIN_US);
    ended(&d, "release.stopped", "shadow: no verdict in time", "shadow, otherwise stop");
    driver_close(&d);

    start(&d, "full");
    fake_pair("digits", 200, OT_PAIR_UNDECIDED);
    driver_forward(&d, 3 * HOUR);
    ended(&d, "version.rolled_back", "canary: no verdict in time", "canary, otherwise roll_back");
    driver_close(&d);

    start(&d, "lenient");
    driver_forward(&d, 2 * HOUR);
    is_str(driver_where(&d), "canary 20%", "shadow, otherwise continue");
    driver_forward(&d, 3 * HOUR);
    is_str(driver_where(&d), "idle", "canary, otherwise continue");
    is_str(driver_status(&d, 2), "champion", "and promoted");
    is_str(driver_serves(&d, "digits"), "champion v2 100%, shadow v1 0%", "serves");
    driver_close(&d);
}

static void test_approval(void)
{
    ot_error err = {0};
    driver d;
    start(&d, "asked");
    is_str(driver_where(&d), "approval", "waits for a person");
    is_str(driver_serves(&d, "digits"), "champion v1 100%", "with no traffic");
    is_int(driver_count(&d, "approval.requested"), 2, "asked, as for v1");
    ok(driver_act(&d, "approve", 0, NULL, &err) == OT_OK, "approved: %s", err.msg);
    is_str(driver_where(&d), "shadow", "goes on");
    struct event_look l = driver_events(&d, "approval.given");
    is_str(l.actor, "anna", "who");
    ok(has(json_string_value(json_object_get(l.last, "text")), "because I say so"), "and why");
    json_decref(l.last);
    ok(driver_act(&d, "approve", 0, NULL, &err) == OT_PRECONDITION, "once: %s", err.msg);
    driver_close(&d);

    start(&d, "asked");
    ok(driver_act(&d, "reject", 0, NULL, &err) == OT_OK, "refused");
    is_str(driver_where(&d), "idle", "refused: ends");
    is_str(driver_status(&d, 2), "refused", "refused: in the registry");
    is_int(driver_state(&d)->failures, 0, "refused by a person: no failure of the loop");
    driver_close(&d);

    start(&d, "asked");
    driver_forward(&d, 25 * HOUR);
    ended(&d, "release.stopped", "approval: no verdict in time", "nobody decides");
    driver_close(&d);
}

/* A stage does not run out while nothing may move. */
static void test_freeze(void)
{
    ot_error err = {0};
    driver d;
    start(&d, "full");
    driver_forward(&d, 30 * MIN_US);
    ok(driver_act(&d, "freeze", 0, NULL, &err) == OT_OK, "frozen");
    fake_pair("digits", 300, OT_PAIR_UNDECIDED);
    driver_forward(&d, 10 * HOUR);
    is_str(driver_where(&d), "shadow", "frozen: neither verdicts nor time move it");
    driver_again(&d);
    driver_forward(&d, HOUR);
    is_str(driver_where(&d), "shadow", "nor a restart");
    ok(driver_act(&d, "train", 0, NULL, &err) == OT_PRECONDITION, "nor a person: %s", err.msg);
    fake_of("digits")->pair.compared = 0;
    ok(driver_act(&d, "resume", 0, NULL, &err) == OT_OK, "resumed");
    driver_forward(&d, 29 * MIN_US);
    is_str(driver_where(&d), "shadow", "the time that was left is left");
    driver_forward(&d, 2 * MIN_US);
    is_str(driver_where(&d), "idle", "and no more");
    driver_close(&d);

    start(&d, "full");
    ok(driver_act(&d, "freeze", 0, NULL, &err) == OT_OK, "frozen");
    fake_pair("digits", 300, OT_PAIR_UNDECIDED);
    ok(driver_act(&d, "resume", 0, NULL, &err) == OT_OK, "resumed");
    is_str(driver_where(&d), "canary 10%", "what was found meanwhile counts");
    driver_close(&d);
}

static void test_people(void)
{
    ot_error err = {0};
    driver d;
    start(&d, "full");
    ok(driver_act(&d, "pause", 0, NULL, &err) == OT_OK, "paused");
    promote();
    is_str(driver_where(&d), "probation", "a pause does not stop a release");
    fake_find("digits", OT_FINDING_DEGRADED);
    is_str(driver_where(&d), "probation", "but a new run does not start");
    ok(has(driver_said(&d, "trigger.held"), "the loop is paused"), "told");
    ok(driver_act(&d, "resume", 0, NULL, &err) == OT_OK, "resumed");
    is_str(driver_where(&d), "training", "now it does, also in probation");
    is_int(driver_count(&d, "probation.ended"), 1, "which ends");
    ok(!fake_of("digits")->watched, "nothing is compared any more");
    ok(!has_quiet(driver_serves(&d, "digits"), "compare"), "nor asked for");
    driver_settle(&d);
    driver_close(&d);

    start(&d, "full");
    fake_pair("digits", 200, OT_PAIR_UNDECIDED);
    ok(driver_act(&d, "rollback", 0, NULL, &err) == OT_OK, "a canary rolled back by hand");
    is_str(driver_where(&d), "idle", "ends");
    ok(has(driver_said(&d, "version.rolled_back"), "rolled back by anna: because I say so"), "why");
    is_int(driver_state(&d)->failures, 0, "no failure of the loop");
    driver_close(&d);

    start(&d, "full");
    promote();
    driver_forward(&d, 25 * HOUR);
    ok(driver_act(&d, "rollback", 0, NULL, &err) == OT_OK, "a champion rolled back by hand");
    is_str(driver_serves(&d, "digits"), "champion v1 100%", "v1 serves");
    is_str(driver_status(&d, 2), "refused", "v2 refused");
    ok(driver_act(&d, "rollback", 0, NULL, &err) == OT_PRECONDITION, "no further: %s", err.msg);
    driver_close(&d);

    start(&d, "full");
    ok(driver_act(&d, "pin", 9, NULL, &err) == OT_NOT_FOUND, "no such version: %s", err.msg);
    is_str(driver_where(&d), "shadow", "which changes nothing");
    ok(driver_act(&d, "pin", 1, NULL, &err) == OT_OK, "pinned");
    is_str(driver_where(&d), "idle", "the release ends");
    is_str(driver_serves(&d, "digits"), "champion v1 100%", "v1 stays");
    driver_forward(&d, 2 * HOUR);
    is_str(driver_where(&d), "idle", "and nothing starts");
    ok(has(driver_said(&d, "trigger.held"), "a version is pinned"), "told");
    ok(driver_act(&d, "train", 0, NULL, &err) == OT_OK, "a person may train");
    driver_settle(&d);
    ok(has(driver_said(&d, "release.stopped"), "v3 passed the gate, but v1 is pinned by anna"),
       "but it is not released: %s", driver_said(&d, "release.stopped"));
    driver_close(&d);

    start(&d, "full");
    promote();
    ok(driver_act(&d, "pin", 1, NULL, &err) == OT_OK, "pinned to the version before");
    is_str(driver_serves(&d, "digits"), "champion v1 100%, shadow v2 0%", "v1 serves");
    is_str(driver_status(&d, 2), "retired", "v2 retired");
    driver_close(&d);
}

/* A replica that cannot load the candidate ends it. */
static void test_replica(void)
{
    static const char failed[] =
        "{\"deployments\":[{\"name\":\"digits\",\"variants\":[{\"version\":2,\"state\":\"failed\","
        "\"error\":\"golden answers differ\"}]}]}";
    driver d;
    start(&d, "full");
    ot_pipeline_observed(d.p, "r1", failed, strlen(failed));
    ended(&d, "release.stopped", "a replica cannot serve it: golden answers differ",
          "a replica refuses it");
    driver_close(&d);
}

/* A champion that a replica cannot load, outside of any release. */
static void test_champion_fails(void)
{
    static const char text[] = "{\"deployments\":[{\"name\":\"digits\",\"variants\":[{\"role\":"
                               "\"champion\",\"version\":%d,"
                               "\"state\":\"failed\",\"error\":\"no memory for it\"}]}]}";
    char observed[256];
    driver d;
    start(&d, "full");
    promote();
    driver_forward(&d, DAY + HOUR);
    is_str(driver_where(&d), "idle", "probation is over");
    snprintf(observed, sizeof observed, text, 2);
    ot_pipeline_observed(d.p, "r1", observed, strlen(observed));
    ot_pipeline_observed(d.p, "r2", observed, strlen(observed));
    is_int(driver_count(&d, "version.rolled_back"), 1, "back to the version before, once");
    is_str(driver_status(&d, 1), "champion", "v1 serves");
    snprintf(observed, sizeof observed, text, 1);
    ot_pipeline_observed(d.p, "r1", observed, strlen(observed));
    ot_pipeline_observed(d.p, "r1", observed, strlen(observed));
    is_int(driver_count(&d, "version.unservable"), 1,
           "without one before it somebody is told, once");
    ok(strstr(d.alert, "a replica cannot serve it: no memory for it") != NULL, "and why: %s",
       d.alert);
    driver_close(&d);
}

/* A promotion whose transaction fails is not half done, and is done again. */
static void test_failed_commit(void)
{
    driver d;
    start(&d, "full");
    fake_pair("digits", 200, OT_PAIR_UNDECIDED);
    fake_pair("digits", 50, OT_PAIR_NOT_WORSE);
    fake_of("digits")->fail_promoted = true;
    fake_pair("digits", 50, OT_PAIR_NOT_WORSE);
    is_str(driver_where(&d), "canary 50%", "a promotion that could not be saved");
    is_str(driver_status(&d, 1), "champion", "did not happen");
    is_str(driver_serves(&d, "digits"), "champion v1 50%, canary v2 50% + compare", "at all");
    driver_forward(&d, SEC);
    is_str(driver_where(&d), "probation", "and is made up for");
    is_int(driver_count(&d, "version.promoted"), 2, "once");
    driver_close(&d);
}

/* A verdict about one step is none about the next. */
static void test_stale_verdict(void)
{
    driver d;
    start(&d, "full");
    fake_pair("digits", 200, OT_PAIR_UNDECIDED);
    fake_of("digits")->fail_watches = 2;
    fake_pair("digits", 50, OT_PAIR_NOT_WORSE);
    is_str(driver_where(&d), "canary 50%", "one step");
    is_int(fake_of("digits")->pair.verdict, OT_PAIR_NOT_WORSE, "whose comparison is not on yet");
    driver_forward(&d, SEC);
    is_int(fake_of("digits")->fail_watches, 0, "it is tried again");
    is_str(driver_where(&d), "canary 50%", "what is known is of the step before");
    driver_forward(&d, SEC);
    is_int(fake_of("digits")->pair.verdict, OT_PAIR_UNDECIDED, "and it begins anew");
    driver_close(&d);
}

/* Other stages in the file change the next release, not the one under way. */
static void test_changed_file(void)
{
    driver d;
    start(&d, "full");
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_error err = {0};
    char yaml[4096];
    const char *stages = strstr(app_yaml, "release:");
    snprintf(yaml, sizeof yaml, "%.*srelease: [{gate: {better_on: recent}}]\n",
             (int)(stages - app_yaml), app_yaml);
    ok(driver_apply(&d, yaml, true, &out, &err) == OT_OK, "a diff: %s", err.msg);
    ok(has(out.data, "- ") && has(out.data, "shadow") && has(out.data, "\"started\":false"),
       "says what would go");
    ot_str_clear(&out);
    ok(driver_apply(&d, app_yaml, true, &out, &err) == OT_OK && has(out.data, "\"changed\":[]"),
       "and that nothing did");
    driver_apply_ok(&d, yaml);
    is_str(driver_where(&d), "shadow", "the release under way goes on");
    promote();
    is_str(driver_where(&d), "probation", "by the stages it began with");
    driver_again(&d);
    is_str(driver_where(&d), "probation", "after a restart too");
    driver_close(&d);
}

static const char *waits_for(const driver *d)
{
    static char text[256];
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_error err = {0};
    text[0] = 0;
    if (ot_pipeline_app(d->p, "digits", &out, &err) == OT_OK) {
        json_t *j = json_loads(out.data, 0, NULL);
        const char *s = json_string_value(json_object_get(json_object_get(j, "cycle"), "waits"));
        snprintf(text, sizeof text, "%s", s != NULL ? s : "");
        json_decref(j);
    }
    return text;
}

static void test_blue_green(void)
{
    ot_error err = {0};
    driver d;
    replica_lacks = "v2 of 'digits' is loading at replica r1";
    start(&d, "blue");
    is_str(driver_where(&d), "blue_green", "beside the champion");
    is_str(driver_serves(&d, "digits"), "champion v1 100%, arm v2 0%",
           "loaded, at hand, no traffic");
    is_str(waits_for(&d), replica_lacks, "the status says what it waits for");
    driver_forward(&d, 30 * MIN_US);
    is_str(driver_where(&d), "blue_green", "waits for every replica");
    ok(ot_pipeline_next_us(d.p) <= moved_wall(NULL) + 2 * SEC, "and looks again soon");
    replica_lacks = NULL;
    driver_forward(&d, SEC);
    is_str(driver_where(&d), "probation", "all traffic switches");
    is_str(driver_serves(&d, "digits"), "champion v2 100%, shadow v1 0% + compare",
           "the old is kept");
    ok(has(driver_said(&d, "version.promoted"), "every replica serves it"), "why: %s",
       driver_said(&d, "version.promoted"));
    ok(driver_act(&d, "rollback", 0, NULL, &err) == OT_OK, "back by a person: %s", err.msg);
    is_str(driver_serves(&d, "digits"), "champion v1 100%", "at once");
    is_str(driver_status(&d, 2), "refused", "and v2 is refused");
    driver_close(&d);

    start(&d, "blue");
    driver_forward(&d, SEC);
    fake_pair("digits", 70, OT_PAIR_WORSE);
    is_str(driver_serves(&d, "digits"), "champion v1 100%", "a verdict switches back too");
    ok(has(driver_said(&d, "version.rolled_back"), "worse than the previous version"), "why");
    driver_close(&d);

    start(&d, "blue");
    driver_forward(&d, SEC);
    driver_forward(&d, 49 * HOUR);
    is_str(driver_where(&d), "idle", "after `keep` it is over");
    is_str(driver_status(&d, 2), "champion", "and v2 stays");
    driver_close(&d);
}

static void test_blue_green_fails(void)
{
    driver d;
    replica_lacks = "v2 of 'digits' is loading at replica r1";
    start(&d, "blue");
    driver_forward(&d, 61 * MIN_US);
    ended(&d, "release.stopped", "not loaded by every replica", "out of time");
    driver_close(&d);
    replica_lacks = NULL;

    start(&d, "blue_compared");
    driver_forward(&d, SEC);
    is_str(driver_where(&d), "blue_green", "loaded, but not compared");
    is_str(driver_serves(&d, "digits"), "champion v1 100%, shadow v2 0% + compare",
           "it is copied to");
    fake_pair("digits", 99, OT_PAIR_NOT_WORSE);
    is_str(driver_where(&d), "blue_green", "99 rows are not 100");
    replica_lacks = "v2 of 'digits' is not there at replica r2";
    fake_pair("digits", 100, OT_PAIR_UNDECIDED);
    is_str(driver_where(&d), "blue_green", "nor is a replica that came without it");
    replica_lacks = NULL;
    fake_pair("digits", 100, OT_PAIR_UNDECIDED);
    is_str(driver_where(&d), "probation", "both are there");
    ok(has(driver_said(&d, "version.promoted"), "not worse in the shadow on 100 rows"), "why");
    ok(ot_rollout_deadline(&driver_state(&d)->cycle.rollout) > moved_wall(NULL) + 11 * HOUR,
       "the probation says how long");
    driver_close(&d);

    start(&d, "blue_compared");
    fake_pair("digits", 40, OT_PAIR_WORSE);
    ended(&d, "release.stopped", "worse in the shadow on the same 40 rows", "worse in the shadow");
    driver_close(&d);
}

int main(void)
{
    world_start();
    driver_replicas = serves;
    prepare("full", strstr(app_yaml, "release:"));
    prepare("lenient", "release:\n"
                       "  - gate: {better_on: recent}\n"
                       "  - shadow: {until: 200 compared, at_most: 1h, otherwise: continue}\n"
                       "  - canary: {shares: [20%], at_most: 2h, otherwise: continue}\n");
    prepare("asked", "release:\n"
                     "  - gate: {better_on: recent}\n"
                     "  - approval: {at_most: 24h}\n"
                     "  - shadow: {until: 200 compared, at_most: 1h}\n");
    replica_lacks = "nothing is ready";
    prepare("blue", "release:\n"
                    "  - gate: {better_on: recent}\n"
                    "  - blue_green: {at_most: 1h, keep: 48h}\n");
    prepare("blue_compared", "release:\n"
                             "  - gate: {better_on: recent}\n"
                             "  - blue_green: {until: 100 compared}\n"
                             "  - probation: {for: 12h}\n");
    replica_lacks = NULL;
    test_worse();
    test_out_of_time();
    test_approval();
    test_freeze();
    test_people();
    test_replica();
    test_champion_fails();
    test_failed_commit();
    test_stale_verdict();
    test_changed_file();
    test_blue_green();
    test_blue_green_fails();
    return world_end();
}
