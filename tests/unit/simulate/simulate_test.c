/* A rehearsal of the policy in force over its own recording does what was done; other policies do
 * what they say. */
#include "unit/simulate/recorded.h"

#define CALM 120  /* windows before the fall */
#define AFTER 260 /* windows after it */

static recorder rec;

static void record(void)
{
    rec_begin(&rec);
    for (int64_t i = 0; i < CALM + AFTER; i++) {
        int64_t start = BEGIN + (i + 1) * WINDOW;
        if (i == CALM) {
            rec.fall_us = start;
        }
        law rows = {.shift_0 = i >= CALM + 200 ? 1.5 : 0};
        rec_window(&rec, start, &rows, i >= 20 && i < 26 ? 9000000 : 1000000);
    }
    ot_pipeline_destroy(rec.p);
}

/* ---- asking */

static int scratches;

static ot_rc rehearse(const char *yaml, double accuracy, json_t **out, ot_error *err)
{
    static char dir[OT_PATH_MAX];
    char name[32];
    snprintf(name, sizeof name, "rehearsal-%d", ++scratches);
    snprintf(dir, sizeof dir, "%s", at(name));
    if (ot_disk_mkdirs(disk, dir, 0755, err) != OT_OK) {
        bail(dir, err);
    }
    ot_simulate_config cfg = {.recorded = store,
                              .blobs = at("store/blobs"),
                              .scratch = dir,
                              .yaml = yaml,
                              .file = "app.yaml",
                              .dir = scratch,
                              .last_us = 30 * 86400 * SECOND,
                              .assume_accuracy = accuracy,
                              .events = true};
    ot_rc rc = ot_simulate(&cfg, out, err);
    ot_clock_install(&clock_source);
    return rc;
}

static json_t *rehearse_ok(const char *yaml, double accuracy)
{
    json_t *out = NULL;
    ot_error err = {0};
    if (rehearse(yaml, accuracy, &out, &err) != OT_OK) {
        bail("rehearsal", &err);
    }
    return out;
}

/* A file with one thing replaced; one of a few static buffers. */
static const char *changed(const char *yaml, const char *what, const char *by)
{
    static char buf[4][4096];
    static int next;
    char *text = buf[next++ % 4];
    const char *p = strstr(yaml, what);
    if (p == NULL) {
        printf("Bail out! '%s' is not in the file\n", what);
        exit(1);
    }
    snprintf(text, sizeof buf[0], "%.*s%s%s", (int)(p - yaml), yaml, by, p + strlen(what));
    return text;
}

static const char *other(const char *what, const char *by)
{
    return changed(recorded_yaml, what, by);
}

static json_t *policy(json_t *out, const char *name)
{
    return json_object_get(json_object_get(out, "policies"), name);
}

static int64_t number(json_t *p, const char *part, const char *key)
{
    json_t *v =
        part != NULL ? json_object_get(json_object_get(p, part), key) : json_object_get(p, key);
    return json_is_integer(v) ? json_integer_value(v) : -1;
}

/* ---- the proof */

static bool found_or_decided(const char *type)
{
    static const char *const types[] = {"drift.",
                                        "quality.",
                                        "trigger.",
                                        "gate.",
                                        "stage.",
                                        "version.promoted",
                                        "version.rolled_back",
                                        "probation."};
    for (size_t i = 0; i < OT_COUNT(types); i++) {
        if (ot_has_prefix(type, types[i])) {
            return true;
        }
    }
    return false;
}

static void events_text(json_t *p, ot_str *out)
{
    json_t *list = json_object_get(p, "events");
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *e = json_array_get(list, i);
        const char *type = json_string_value(json_object_get(e, "type"));
        if (found_or_decided(type)) {
            ot_str_addf(out, "%lld %s %s\n", (long long)number(e, NULL, "time_us"), type,
                        json_string_value(json_object_get(e, "text")));
        }
    }
}

static void test_same_policy(void)
{
    OT_AUTO(ot_str_done) ot_str was = OT_STR_INIT;
    OT_AUTO(ot_str_done) ot_str is = OT_STR_INIT;
    json_t *out = rehearse_ok(recorded_yaml, -1);
    events_text(policy(out, "recorded"), &was);
    events_text(policy(out, "in_force"), &is);
    ok(strstr(was.data, "quality.degraded") != NULL && strstr(was.data, "drift.detected") != NULL &&
           strstr(was.data, "version.promoted") != NULL &&
           strstr(was.data, "probation.passed") != NULL,
       "the record has a fall, a retrain, a release and a drift");
    is_str(is.data, was.data, "each is found and decided again, at its time, with its numbers");
    json_t *p = policy(out, "in_force");
    json_t *r = policy(out, "recorded");
    is_int(number(p, "alarms", "degraded"), 1, "one fall");
    is_int(number(p, NULL, "retrains"), 1, "one retrain");
    is_int(number(p, NULL, "labels"), number(r, NULL, "labels"), "as many labels");
    is_int(number(p, "below_us", "accuracy"), number(r, "below_us", "accuracy"), "as long below");
    ok(number(p, "below_us", "accuracy") > 0, "some time");
    is_int(number(p, "below_us", "latency_p99"), 6 * WINDOW, "six slow windows");
    is_int(number(p, "below_us", "availability"), -1, "what is no objective is not told");
    is_int((int64_t)json_array_size(json_object_get(out, "changed")), 0, "no line differs");
    ok(json_equal(p, policy(out, "proposed")), "the file is the policy in force");
    json_decref(out);
}

static void test_twice(void)
{
    const char *yaml = other("[accuracy.degraded]", "[\"labels.new >= 900\"]");
    json_t *a = rehearse_ok(yaml, -1), *b = rehearse_ok(yaml, -1);
    char *x = json_dumps(a, 0), *y = json_dumps(b, 0);
    is_str(x, y, "twice the same");
    free(x);
    free(y);
    json_decref(a);
    json_decref(b);
}

/* ---- other policies */

static void test_no_retrain(void)
{
    json_t *out = rehearse_ok(other("[accuracy.degraded]", "[]"), -1);
    json_t *p = policy(out, "proposed"), *q = policy(out, "in_force");
    is_int(number(p, NULL, "retrains"), 0, "nothing retrains");
    is_int(number(p, NULL, "promotions"), 0, "and nothing is promoted");
    is_int(number(p, "alarms", "degraded"), 1, "the fall is found all the same");
    ok(number(p, "below_us", "accuracy") > 2 * number(q, "below_us", "accuracy"),
       "and lasts: %lld against %lld us", (long long)number(p, "below_us", "accuracy"),
       (long long)number(q, "below_us", "accuracy"));
    ok(json_array_size(json_object_get(out, "changed")) > 0, "lines differ");
    json_decref(out);
}

static void test_more_retrains(void)
{
    const char *yaml = other("[accuracy.degraded], at_most: 4 per day",
                             "[\"labels.new >= 1200\"], at_most: 9 per day, cool_down: 1min");
    yaml = changed(yaml, "better_on: recent, not_worse_on: {base: 0.02}",
                   "not_worse_on: {base: 0.02, recent: 0.05}");
    json_t *out = rehearse_ok(yaml, -1);
    json_t *p = policy(out, "proposed");
    int64_t retrains = number(p, NULL, "retrains");
    ok(retrains > 2, "%lld retrains", (long long)retrains);
    json_t *assumed = json_object_get(out, "assumed");
    bool said = false;
    for (size_t i = 0; i < json_array_size(assumed); i++) {
        said = said || strstr(json_string_value(json_array_get(assumed, i)), "never was") != NULL;
    }
    ok(said, "which made versions that never were: that is told");
    json_decref(out);

    out = rehearse_ok(yaml, 0.2);
    p = policy(out, "proposed");
    ok(number(p, NULL, "refused") > 0, "one that is worse is refused");
    json_decref(out);
}

/* Twelve times the rows in the shadow: the error budget is spent before, and the loop stops. */
static void test_slower_release(void)
{
    json_t *out = rehearse_ok(other("until: 60 compared", "until: 720 compared"), -1);
    json_t *p = policy(out, "proposed"), *q = policy(out, "in_force");
    is_int(number(q, NULL, "promotions"), 1, "it is promoted in time");
    is_int(number(q, NULL, "held_us"), 0, "and nothing is held");
    is_int(number(p, NULL, "promotions"), 0, "it is not");
    ok(number(p, NULL, "held_us") > 100 * SECOND, "no automation for %lld us",
       (long long)number(p, NULL, "held_us"));
    ok(number(p, "below_us", "accuracy") > number(q, "below_us", "accuracy"), "longer below");
    json_decref(out);
}

/* ---- errors */

static void refused(const char *yaml, const char *text)
{
    json_t *out = NULL;
    ot_error err = {0};
    ot_rc rc = rehearse(yaml, -1, &out, &err);
    ok(rc != OT_OK && strstr(err.msg, text) != NULL, "refused: %s", err.msg);
}

static void test_errors(void)
{
    refused(other("app: digits", "app: letters"), "app 'letters' is not in this data directory; it "
                                                  "has digits");
    refused(other("serve: {deployment: digits}", "serve: {deployment: other}"),
            "is of deployment 'digits'; rehearse with that one");
    refused(other("window: 5s, block: 10s", "window: 4s, block: 12s"),
            "quality.block is 12s, which is no whole number of the windows of 5s that were "
            "recorded; take a multiple of 5s");
    refused(other("schema: overtake/1", "schema: overtake/9"), "app.yaml:1");
}

static void begin(void)
{
    ot_error err = {0};
    setenv("TZ", "UTC", 1);
    tzset();
    now_us = BEGIN;
    ot_clock_install(&clock_source);
    scratch_start();
    disk = ot_disk_scratch(); /* nothing here outlives the test */
    make_references();
    if (ot_store_open(disk, at("store"), NULL, &store, &err) != OT_OK) {
        bail("store", &err);
    }
}

int main(void)
{
    begin();
    record();
    test_same_policy();
    test_twice();
    test_no_retrain();
    test_more_retrains();
    test_slower_release();
    test_errors();
    fixture_end();
    return tap_done();
}
