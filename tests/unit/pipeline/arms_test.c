/* A/B tests, labels and switches. */
#include "driver.h"

/* What replicas say of a version: "" is serving. */
static int64_t unready;

static ot_rc serves(void *self, const char *deployment, int64_t version, ot_error *err)
{
    (void)self;
    return version != unready ? OT_OK
                              : ot_fail(err, OT_PRECONDITION, "v%d of '%s' is loading at r-1",
                                        (int)version, deployment);
}

static ot_rc act(driver *d, ot_person_act act, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    act.app = "digits";
    act.actor = "anna";
    act.reason = "I say so";
    return ot_pipeline_act(d->p, &act, &out, err);
}

#define ACT(...) act(&d, (ot_person_act){__VA_ARGS__}, &err)
#define LABEL(name, v) ACT(.verb = "label", .label = (name), .version = (v))

/* v1 serves; v2 and v3 are there, refused by the gate. */
static void open_three(driver *d, const char *rel)
{
    char model[OT_PATH_MAX];
    ot_error err = {0};
    fake_of("digits")->labelled_rows = 0;
    driver_open(d, rel);
    d->p->ports.serves = serves;
    driver_apply_ok(d, app_yaml);
    driver_settle(d);
    fake_of("digits")->labelled_rows = 400;
    snprintf(model, sizeof model, "%s/runs/1/work/out/model", d->dir);
    for (int i = 0; i < 2; i++) {
        ok(driver_act(d, "push", 0, model, &err) == OT_OK, "pushed: %s", err.msg);
        driver_settle(d);
    }
    is_str(driver_status(d, 3), "refused", "three versions");
}

static void test_labels(void)
{
    ot_error err = {0};
    driver d;
    open_three(&d, "labels");
    is_int(LABEL("green", 2), OT_OK, "a label: %s", err.msg);
    is_str(driver_serves(&d, "digits"), "champion v1 100%, arm v2 0%", "is at hand");
    ok(has(driver_said(&d, "label.set"), "label green is v2, by anna"), "who set it");
    is_int(LABEL("blue", 1), OT_OK, "the champion has one");
    is_str(driver_serves(&d, "digits"), "champion v1 100%, arm v2 0%", "and is no arm");
    is_int(LABEL("green", 3), OT_OK, "moved");
    is_str(driver_serves(&d, "digits"), "champion v1 100%, arm v3 0%", "what has none goes");
    is_int(LABEL("stable", 2), OT_INVALID, "built in: %s", err.msg);
    is_int(LABEL("-x", 2), OT_INVALID, "no name: %s", err.msg);
    is_int(LABEL("x", 9), OT_NOT_FOUND, "no version: %s", err.msg);
    is_int(LABEL("x", 0), OT_NOT_FOUND, "nothing to take away: %s", err.msg);
    driver_again(&d);
    d.p->ports.serves = serves;
    is_str(driver_serves(&d, "digits"), "champion v1 100%, arm v3 0%", "kept over a restart");
    is_int(LABEL("green", 0), OT_OK, "taken away");
    is_str(driver_serves(&d, "digits"), "champion v1 100%", "gone");
    is_int(driver_count(&d, "label.removed"), 1, "and told");
    for (int i = 0; i < PL_LABELS_MAX - 1; i++) {
        char name[8];
        snprintf(name, sizeof name, "l%d", i);
        is_int(LABEL(name, 2), OT_OK, "label %s", name);
    }
    is_int(LABEL("more", 2), OT_EXHAUSTED, "a limit: %s", err.msg);
    driver_close(&d);
}

static void test_switch(void)
{
    ot_error err = {0};
    driver d;
    open_three(&d, "switch");
    unready = 2;
    is_int(LABEL("green", 2), OT_OK, "green is v2");
    is_int(LABEL("blue", 1), OT_OK, "blue is v1");
    is_int(ACT(.verb = "switch", .label = "green"), OT_PRECONDITION, "not yet: %s", err.msg);
    ok(has(err.msg, "loading at r-1"), "and says where");
    unready = 0;
    is_int(ACT(.verb = "switch", .label = "green"), OT_OK, "switched: %s", err.msg);
    is_str(driver_serves(&d, "digits"), "champion v2 100%, arm v1 0%", "the old one is at hand");
    is_str(driver_status(&d, 1), "retired", "and retired");
    ok(has(driver_said(&d, "version.switched"), "v2 serves in place of v1, switched by anna"),
       "who did it");
    is_int(ACT(.verb = "switch", .label = "green"), OT_PRECONDITION, "once: %s", err.msg);
    is_int(ACT(.verb = "switch", .label = "red"), OT_NOT_FOUND, "no such label: %s", err.msg);
    is_int(ACT(.verb = "switch", .version = 1), OT_OK, "and back");
    is_str(driver_serves(&d, "digits"), "champion v1 100%, arm v2 0%", "as before");
    is_int(driver_act(&d, "freeze", 0, NULL, &err), OT_OK, "frozen");
    is_int(ACT(.verb = "switch", .label = "green"), OT_PRECONDITION, "stays: %s", err.msg);
    is_int(LABEL("x", 2), OT_PRECONDITION, "all of it: %s", err.msg);
    driver_close(&d);
}

static void test_ab(void)
{
    ot_error err = {0};
    driver d;
    open_three(&d, "ab");
    is_int(ACT(.verb = "ab", .arms = {{2, 0.2}, {3, 0.3}}, .n_arms = 2), OT_OK, "a test: %s",
           err.msg);
    is_str(driver_serves(&d, "digits"), "champion v1 50%, arm v2 20%, arm v3 30%", "shares");
    ok(has(driver_said(&d, "ab.started"), "v2 at 20%, v3 at 30%, the champion has the rest"),
       "told");
    is_int(ACT(.verb = "ab", .arms = {{2, 0.7}, {3, 0.4}}, .n_arms = 2), OT_INVALID, "over: %s",
           err.msg);
    is_int(ACT(.verb = "ab", .arms = {{1, 0.1}}, .n_arms = 1), OT_INVALID, "champion: %s", err.msg);
    is_int(ACT(.verb = "ab", .arms = {{2, 0.1}, {2, 0.1}}, .n_arms = 2), OT_INVALID, "twice: %s",
           err.msg);
    is_int(ACT(.verb = "ab", .arms = {{2, 0}}, .n_arms = 1), OT_INVALID, "nothing: %s", err.msg);

    /* A release beside it has its share of what the arms leave. */
    write_file("better/null.json",
               "{\"inputs\": [{\"name\": \"x\", \"datatype\": \"FP32\", \"shape\": [-1, 4]}],"
               "\"outputs\": [{\"name\": \"y\", \"datatype\": \"FP32\", \"shape\": [-1, 2]}],"
               "\"op\": \"linear\", \"softmax\": true,"
               "\"weights\": [[-1, 1], [1, -1], [1, -1], [-1, 1]]}");
    is_int(driver_act(&d, "push", 0, at("better"), &err), OT_OK, "a better one: %s", err.msg);
    driver_settle(&d);
    fake_pair("digits", 200, OT_PAIR_UNDECIDED);
    is_str(driver_where(&d), "canary 10%", "in the canary");
    is_str(driver_serves(&d, "digits"),
           "champion v1 45%, canary v4 5%, arm v2 20%, arm v3 30% + compare", "beside the arms");
    fake_pair("digits", 50, OT_PAIR_NOT_WORSE);
    fake_pair("digits", 60, OT_PAIR_NOT_WORSE);
    is_str(driver_serves(&d, "digits"),
           "champion v4 50%, shadow v1 0%, arm v2 20%, arm v3 30% + compare", "promoted");

    /* A replica that cannot load an arm. */
    static const char failed[] =
        "{\"deployments\":[{\"name\":\"digits\",\"variants\":[{\"role\":\"arm\",\"version\":3,"
        "\"state\":\"failed\",\"error\":\"no such file\"}]}]}";
    ot_pipeline_observed(d.p, "r-1", failed, strlen(failed));
    ok(has(driver_said(&d, "version.unservable"), "v3: a replica cannot serve it: no such file"),
       "told");
    is_str(driver_serves(&d, "digits"), "champion v4 80%, shadow v1 0%, arm v2 20% + compare",
           "its share goes back");
    is_int(driver_act(&d, "pin", 4, NULL, &err), OT_OK, "pinned: %s", err.msg);
    is_str(driver_serves(&d, "digits"), "champion v4 100%, shadow v1 0%", "no other answers");
    is_int(ACT(.verb = "ab", .arms = {{2, 0.2}}, .n_arms = 1), OT_PRECONDITION, "while pinned: %s",
           err.msg);
    is_int(ACT(.verb = "ab"), OT_PRECONDITION, "none is on: %s", err.msg);
    is_int(driver_act(&d, "resume", 0, NULL, &err), OT_OK, "resumed");
    is_int(ACT(.verb = "ab", .arms = {{2, 0.2}}, .n_arms = 1), OT_OK, "then: %s", err.msg);
    is_int(ACT(.verb = "ab"), OT_OK, "ended");
    is_str(driver_serves(&d, "digits"), "champion v4 100%, shadow v1 0%", "all is the champion's");
    driver_close(&d);
}

int main(void)
{
    world_start();
    test_labels();
    test_switch();
    test_ab();
    return world_end();
}
