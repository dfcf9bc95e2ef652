/* The site at work: whose run is next, when releases move, what becomes of apps that it does not
 * allow any more. */
#include "driver.h"
#include "store/kv.h"

#define SITE "schema: overtake.site/1\n"

static void site_is(driver *d, const char *yaml)
{
    ot_error err = {0};
    write_file("site.yaml", yaml);
    if (ot_pipeline_site(d->p, at("site.yaml"), &err) != OT_OK) {
        bail("site", err.msg);
    }
    ot_pipeline_tick(d->p);
}

/* A site whose only window opens and closes so long from now. */
static const char *window(int64_t opens_us, int64_t closes_us)
{
    static char text[256];
    char from[32], to[32];
    ot_format_time(ot_clock_wall_us() + opens_us, from);
    ot_format_time(ot_clock_wall_us() + closes_us, to);
    snprintf(text, sizeof text, SITE "change_windows:\n  - {from: \"%.5s\", to: \"%.5s\"}\n",
             from + 11, to + 11);
    return text;
}

static const char *opens_in(int64_t us)
{
    return window(us, us + HOUR);
}

/* All that is under way, without moving the clock. */
static void settle(driver *d)
{
    while (driver_step(d)) {
    }
}

/* `app_yaml` with other stages. */
static const char *with_release(const char *release)
{
    static char yaml[4096];
    const char *stages = strstr(app_yaml, "release:");
    snprintf(yaml, sizeof yaml, "%.*s%s", (int)(stages - app_yaml), app_yaml, release);
    return yaml;
}

static void apply_named(driver *d, const char *name)
{
    char yaml[512];
    snprintf(yaml, sizeof yaml,
             "schema: overtake/1\napp: %s\ndata: {base: {path: base}}\nserve: %s\n"
             "train: {run: sh train.sh, data: [base], model: out/model, resources: {time: 20s}}\n",
             name, name);
    driver_apply_ok(d, yaml);
}

static const pl_state *state_of(driver *d, const char *name)
{
    return &pl_app_find(d->p, name)->st;
}

static json_t *view_of(driver *d, const char *name)
{
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_error err = {0};
    if (ot_pipeline_app(d->p, name, &out, &err) != OT_OK) {
        bail("view", err.msg);
    }
    return json_loads(out.data, 0, NULL);
}

/* ------------------------------------------------------------------ runs */

static int runs_on(driver *d)
{
    int n = 0;
    for (size_t i = 0; i < d->p->n_apps; i++) {
        const pl_cycle *c = &d->p->apps[i]->st.cycle;
        n += c->run != 0 && c->run_phase != PL_RUN_ENDED &&
             (c->state == PL_TRAINING || c->state == PL_PACKAGING || c->state == PL_EVALUATING);
    }
    return n;
}

/* The app of each run in the order of their start, "abcabcabc". */
static ot_rc add_run(ot_txn *txn, void *arg, ot_error *err)
{
    char *out = arg;
    ot_arena arena;
    ot_arena_init(&arena, 8192, 8u << 20);
    ot_run *runs;
    size_t n = 0;
    ot_rc rc =
        ot_store_run_list(txn, &(ot_run_filter){.state = -1, .limit = 30}, &arena, &runs, &n, err);
    for (size_t i = n; i-- > 0;) {
        *out++ = runs[i].app[0];
    }
    *out = 0;
    ot_arena_done(&arena);
    return rc;
}

static void test_at_once(void)
{
    static const char *const names[] = {"ants", "bees", "cats"};
    char order[32] = "";
    ot_error err = {0};
    driver d;
    driver_open(&d, "at_once");
    site_is(&d, SITE "quotas: {runs_at_once: 1}\n");
    for (size_t i = 0; i < 3; i++) {
        apply_named(&d, names[i]);
    }
    ok(has(state_of(&d, "bees")->cycle.waits,
           "waits for its turn: site.yaml:2:24 allows 1 runs at once"),
       "the second waits");
    json_t *view = view_of(&d, "bees");
    ok(has(json_string_value(json_object_get(json_object_get(view, "cycle"), "waits")), "turn"),
       "and its status says so");
    json_decref(view);
    is_int(driver_count(&d, "run.waits"), 2, "each says so once");
    int most = runs_on(&d);
    while (driver_step(&d)) {
        most = OT_MAX(most, runs_on(&d));
    }
    is_int(most, 1, "never more than one");
    for (size_t i = 0; i < 3; i++) {
        is_int(state_of(&d, names[i])->champion, 1, "%s serves", names[i]);
        is_int(state_of(&d, names[i])->cycle.queued_us, 0, "%s has left the queue", names[i]);
    }
    ok(ot_store_read(d.store, add_run, order, &err) == OT_OK, "runs");
    is_str(order, "abcabcabc", "first come, first served: nobody twice while another waits");

    /* A place in the queue outlives the process; who is frozen holds nobody up. */
    site_is(&d, SITE "quotas: {runs_at_once: 1}\n");
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    for (size_t i = 0; i < 3; i++) {
        ot_person_act act = {.verb = "train", .app = names[i], .actor = "anna"};
        ok(ot_pipeline_act(d.p, &act, &out, &err) == OT_OK, "%s trains: %s", names[i], err.msg);
        driver_forward(&d, SEC);
    }
    int64_t since = state_of(&d, "cats")->cycle.queued_us;
    driver_site = at("site.yaml");
    driver_again(&d);
    is_int(state_of(&d, "cats")->cycle.queued_us, since, "found again in its place");
    ot_person_act freeze = {.verb = "freeze", .app = "bees", .actor = "anna"};
    ok(ot_pipeline_act(d.p, &freeze, &out, &err) == OT_OK, "bees are frozen");
    driver_settle(&d);
    driver_site = NULL;
    is_int(state_of(&d, "ants")->champion, 2, "the first is through");
    is_int(state_of(&d, "cats")->champion, 2, "the third too");
    is_int(state_of(&d, "bees")->champion, 1, "the frozen one is not");
    ot_person_act resume = {.verb = "resume", .app = "bees", .actor = "anna"};
    ok(ot_pipeline_act(d.p, &resume, &out, &err) == OT_OK, "bees go on");
    driver_settle(&d);
    is_int(state_of(&d, "bees")->champion, 2, "and are through");
    driver_close(&d);
}

/* A run of a frozen app ends and gives its place back, also where the process that watched it is
 * gone; what follows from it waits. */
static void test_frozen_with_a_run(bool restarts)
{
    ot_error err = {0};
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    driver d;
    clock_offset_us = 0;
    driver_open(&d, restarts ? "frozen_again" : "frozen");
    site_is(&d, SITE "quotas: {runs_at_once: 1}\n");
    apply_named(&d, "ants");
    apply_named(&d, "bees");
    driver_settle(&d);
    ot_person_act act = {.verb = "train", .app = "ants", .actor = "anna"};
    ok(ot_pipeline_act(d.p, &act, &out, &err) == OT_OK, "ants train: %s", err.msg);
    while (state_of(&d, "ants")->cycle.run_phase != PL_RUN_STARTED && driver_step(&d)) {
    }
    act.verb = "freeze";
    ok(ot_pipeline_act(d.p, &act, &out, &err) == OT_OK, "and are frozen");
    if (restarts) {
        driver_site = at("site.yaml");
        driver_again(&d);
    }
    act = (ot_person_act){.verb = "train", .app = "bees", .actor = "anna"};
    ok(ot_pipeline_act(d.p, &act, &out, &err) == OT_OK, "bees train: %s", err.msg);
    driver_settle(&d);
    driver_site = NULL;
    is_int(state_of(&d, "bees")->champion, 2, "bees are through");
    const pl_cycle *c = &state_of(&d, "ants")->cycle;
    ok(c->state == PL_TRAINING && c->run_phase == PL_RUN_ENDED, "the end of the ants' is told");
    is_int(state_of(&d, "ants")->champion, 1, "and nothing follows from it");
    act = (ot_person_act){.verb = "resume", .app = "ants", .actor = "anna"};
    ok(ot_pipeline_act(d.p, &act, &out, &err) == OT_OK, "until they go on");
    driver_settle(&d);
    is_int(state_of(&d, "ants")->champion, 2, "which they do");
    driver_close(&d);
}

static void test_per_day(void)
{
    ot_error err = {0};
    driver d;
    clock_offset_us = 0;
    driver_open(&d, "per_day");
    site_is(&d, SITE "quotas: {runs_per_day: 2}\n");
    driver_apply_ok(&d, with_release(""));
    settle(&d);
    driver_forward(&d, HOUR);
    ok(driver_act(&d, "train", 0, NULL, &err) == OT_OK, "the second of today");
    settle(&d);
    is_int(driver_state(&d)->cycle.version, 2, "is run, and what follows from it: %s",
           driver_runs(&d));
    ok(driver_act(&d, "train", 0, NULL, &err) == OT_OK, "the third");
    ok(has(driver_state(&d)->cycle.waits,
           "waits: the 2 training runs of site.yaml:2:24 in 24 hours are used up"),
       "waits");
    int starts = program_starts();
    driver_forward(&d, 22 * HOUR);
    is_int(driver_state(&d)->cycle.run, 0, "for hours");
    int64_t next = ot_pipeline_next_us(d.p) - ot_clock_wall_us();
    ok(next > SEC && next <= 2 * MIN_US, "without looking all the time (%" PRId64 " us)", next);
    ok(driver_act(&d, "rollback", 0, NULL, &err) == OT_OK, "a person may end it: %s", err.msg);
    is_str(driver_where(&d), "idle", "it waits no more");
    ok(has(driver_said(&d, "cycle.failed"), "given up by anna: because I say so"), "told");
    is_int(driver_state(&d)->failures, 0, "no failure of the loop");
    ok(driver_act(&d, "train", 0, NULL, &err) == OT_OK, "asked for again");
    driver_forward(&d, HOUR + 2 * MIN_US);
    settle(&d);
    is_int(program_starts() - starts, 1, "a day after the first there is a place");
    is_str(driver_where(&d), "idle", "and it runs");
    driver_close(&d);
}

/* ------------------------------------------------------------------ change windows */

/* v1 serves, v2 has passed the gate, in a copy of a world. */
static void start(driver *d)
{
    static int n;
    char rel[32];
    clock_offset_us = 0;
    if (n++ == 0) {
        driver_open(d, "full");
        fake_of("digits")->labelled_rows = 0;
        driver_apply_ok(d, app_yaml);
        settle(d);
        fake_of("digits")->labelled_rows = 400;
        fake_find("digits", OT_FINDING_DEGRADED);
        settle(d);
        driver_close(d);
    }
    snprintf(rel, sizeof rel, "scenario%d", n);
    world_copy("full", rel);
    driver_open(d, rel);
    is_str(driver_where(d), "shadow", "%s: v2 is in the shadow", rel);
}

static void test_window_holds(void)
{
    driver d;
    start(&d);
    site_is(&d, opens_in(3 * HOUR));
    fake_pair("digits", 200, OT_PAIR_NOT_WORSE);
    is_str(driver_where(&d), "shadow", "outside the window it stays");
    ok(has(driver_said(&d, "release.waits"),
           "v2 waits for a change window (site.yaml:2:1); the next opens at "),
       "and says why: %s", driver_said(&d, "release.waits"));
    driver_forward(&d, 2 * HOUR); /* over the shadow's at_most of 1 h */
    is_str(driver_where(&d), "shadow", "a verdict that is there does not run out");
    is_int(driver_count(&d, "release.waits"), 1, "said once");
    ok(ot_pipeline_next_us(d.p) - ot_clock_wall_us() > SEC, "it is not looked at all the time");
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_error err = {0};
    ok(ot_pipeline_why(d.p, "digits", 2, &out, &err) == OT_OK &&
           has(out.data, "v2 does not serve because v2 waits for a change window"),
       "why not v2 tells it: %s", err.msg);
    driver_site = at("site.yaml");
    driver_again(&d);
    driver_site = NULL;
    is_str(driver_where(&d), "shadow", "after a restart too");
    fake_of("digits")->pair.verdict = OT_PAIR_NOT_WORSE;
    fake_of("digits")->pair.compared = 200;
    driver_forward(&d, HOUR + 2 * MIN_US);
    is_str(driver_where(&d), "canary 10%", "the window is open: it goes on");
    is_str(driver_state(&d)->cycle.waits, "", "and waits for nothing");
    fake_pair("digits", 50, OT_PAIR_NOT_WORSE);
    fake_pair("digits", 50, OT_PAIR_NOT_WORSE);
    is_str(driver_where(&d), "probation", "promoted within it");
    site_is(&d, opens_in(5 * HOUR));
    driver_forward(&d, 25 * HOUR);
    is_str(driver_where(&d), "idle", "the end of a probation moves nothing and needs no window");
    is_int(driver_count(&d, "probation.passed"), 1, "passed");
    driver_close(&d);
}

static void test_window_back(void)
{
    ot_error err = {0};
    driver d;
    start(&d);
    fake_pair("digits", 200, OT_PAIR_NOT_WORSE);
    site_is(&d, opens_in(20 * HOUR));
    fake_pair("digits", 30, OT_PAIR_NOT_WORSE);
    is_str(driver_where(&d), "canary 10%", "outside the window it stays");
    fake_pair("digits", 60, OT_PAIR_WORSE);
    is_str(driver_where(&d), "idle", "but goes back at once");
    ok(has(driver_said(&d, "version.rolled_back"), "worse as canary"), "rolled back");
    driver_close(&d);

    start(&d);
    fake_pair("digits", 200, OT_PAIR_NOT_WORSE);
    site_is(&d, opens_in(20 * HOUR));
    driver_forward(&d, 3 * HOUR);
    is_str(driver_where(&d), "idle", "without a verdict time runs out as ever");
    driver_close(&d);

    start(&d);
    site_is(&d, opens_in(20 * HOUR));
    fake_pair("digits", 200, OT_PAIR_NOT_WORSE);
    fake_of("digits")->pair.compared = 100;
    fake_of("digits")->pair.verdict = OT_PAIR_UNDECIDED;
    driver_forward(&d, SEC);
    is_str(driver_state(&d)->cycle.waits, "", "a verdict that is gone waits for nothing");
    ok(driver_act(&d, "rollback", 0, NULL, &err) == OT_OK, "a person may end it: %s", err.msg);
    is_str(driver_where(&d), "idle", "outside the window");
    driver_close(&d);
}

/* A version that has passed the gate when no window is open. */
static void test_window_at_start(void)
{
    ot_error err = {0};
    driver d;
    clock_offset_us = 0;
    driver_open(&d, "closed");
    site_is(&d, opens_in(2 * HOUR));
    driver_apply_ok(&d, with_release(""));
    settle(&d);
    is_int(driver_state(&d)->champion, 0, "even the first version waits");
    ok(has(driver_said(&d, "release.waits"), "v1 waits for a change window"), "says why");
    is_int(driver_count(&d, "gate.passed"), 0, "its release has not begun");
    driver_again(&d); /* without the site: it is removed */
    settle(&d);
    is_int(driver_state(&d)->champion, 1, "without a site nothing holds it");
    is_int(driver_count(&d, "site.removed"), 1, "and the log tells of that");

    site_is(&d, opens_in(2 * HOUR));
    ok(driver_act(&d, "train", 0, NULL, &err) == OT_OK, "v2");
    settle(&d);
    ok(driver_act(&d, "rollback", 0, NULL, &err) == OT_OK, "a person may end it: %s", err.msg);
    is_str(driver_where(&d), "idle", "ended");
    is_str(driver_status(&d, 2), "refused", "refused");
    ok(has(driver_said(&d, "release.stopped"), "v2 stopped by anna"), "told");
    ok(driver_act(&d, "train", 0, NULL, &err) == OT_OK, "v3");
    settle(&d);
    driver_forward(&d, 2 * HOUR + MIN_US);
    settle(&d);
    is_int(driver_state(&d)->champion, 3, "the window opens and it is promoted");
    driver_close(&d);
}

/* ------------------------------------------------------------------ approval, pins */

static void test_approval(void)
{
    ot_error err = {0};
    driver d;
    clock_offset_us = 0;
    driver_open(&d, "approval");
    site_is(&d, SITE "release:\n  - approval: {by: [ben, carla]}\n");
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ok(driver_apply(&d, with_release(""), false, &out, &err) == OT_INVALID, "left out");
    is_str(err.msg,
           "app.yaml:1:1: release has no approval, and site.yaml:3:5 demands one; add `- "
           "approval: {}` or ask the operators",
           "refused at apply");
    is_int((int64_t)d.p->n_apps, 0, "nothing is in force");
    driver_apply_ok(&d, with_release("release: [{approval: {}}]\n"));
    settle(&d);
    is_str(driver_where(&d), "approval", "asks");
    ok(driver_act(&d, "approve", 0, NULL, &err) == OT_DENIED, "anna may not: %s", err.msg);
    ok(has(err.msg, "may be approved by ben, carla, not by anna"), "says who may");
    is_str(driver_where(&d), "approval", "still asks");
    ot_person_act ben = {.verb = "approve", .app = "digits", .actor = "ben"};
    site_is(&d, SITE "release:\n  - approval: {by: [carla, ben]}\n");
    write_file("site.yaml", opens_in(2 * HOUR));
    ok(ot_pipeline_site(d.p, at("site.yaml"), &err) == OT_OK, "a window");
    ok(ot_pipeline_act(d.p, &ben, &out, &err) == OT_PRECONDITION &&
           has(err.msg, "v1 waits for a change window"),
       "not now: %s", err.msg);
    site_is(&d, SITE "release:\n  - approval: {by: [carla, ben]}\n");
    ok(ot_pipeline_act(d.p, &ben, &out, &err) == OT_OK, "ben may: %s", err.msg);
    is_int(driver_state(&d)->champion, 1, "promoted");

    ok(driver_act(&d, "train", 0, NULL, &err) == OT_OK, "v2");
    settle(&d);
    ok(driver_act(&d, "reject", 0, NULL, &err) == OT_OK, "anybody may refuse: %s", err.msg);
    ok(driver_act(&d, "pin", 2, NULL, &err) == OT_PRECONDITION, "a pin is no way around: %s",
       err.msg);
    ok(has(err.msg, "v2 is refused"), "says why");
    ok(driver_act(&d, "pin", 1, NULL, &err) == OT_OK, "what served may be pinned: %s", err.msg);
    driver_close(&d);
}

/* An app may name its own, and other ones for each of its approvals. */
static void test_own_approvals(void)
{
    ot_error err = {0};
    driver d;
    driver_open(&d, "own");
    driver_apply_ok(&d, with_release("release: [{approval: {by: anna}}, {approval: {by: ben}}]\n"));
    settle(&d);
    ok(driver_act(&d, "approve", 0, NULL, &err) == OT_OK, "the first is anna's: %s", err.msg);
    is_str(driver_where(&d), "approval", "then the other");
    ok(driver_act(&d, "approve", 0, NULL, &err) == OT_DENIED &&
           has(err.msg, "may be approved by ben, not by anna"),
       "is not");
    driver_close(&d);
}

/* ------------------------------------------------------------------ another file */

static void test_tighter(void)
{
    ot_error err = {0};
    driver d;
    start(&d);
    is_int(driver_count(&d, "site.applied"), 0, "no site");
    site_is(&d, SITE "quotas: {memory: 1GiB}\n");
    is_int((int64_t)pl_app_find(d.p, "digits")->app->train.resources.memory, 1 << 30,
           "a default comes down while it runs");
    site_is(&d, SITE "quotas: {memory: 1GiB}\n");
    is_int(driver_count(&d, "site.applied"), 1, "the same file is no change");
    site_is(&d, SITE "quotas: {time: 10s}\nrelease: [{approval: {}}]\n");
    ok(strchr(driver_said(&d, "site.forbids"), '\n') == NULL, "one reason is enough to forbid");
    is_int(driver_count(&d, "site.forbids"), 1, "an app that asks for more");
    ok(has(driver_said(&d, "site.forbids"), "train.resources.time 5min is more than site.yaml:2:16 "
                                            "allows (10s)"),
       "says why: %s", driver_said(&d, "site.forbids"));
    ok(has(d.alert, "site.forbids"), "somebody is told");
    is_str(driver_serves(&d, "digits"), "champion v1 100%, shadow v2 0% + compare", "serves on");
    json_t *view = view_of(&d, "digits");
    ok(has(json_string_value(json_object_get(json_object_get(view, "site"), "forbids")), "more"),
       "its status says so");
    json_decref(view);
    fake_pair("digits", 200, OT_PAIR_NOT_WORSE);
    is_str(driver_where(&d), "shadow", "its release does not move");
    ok(has(driver_said(&d, "release.waits"), "v2 waits until the site allows it: app.yaml:"),
       "why");
    fake_pair("digits", 300, OT_PAIR_WORSE);
    is_str(driver_where(&d), "idle", "but goes back");
    ok(driver_act(&d, "train", 0, NULL, &err) == OT_PRECONDITION, "a person may not train: %s",
       err.msg);
    ok(driver_act(&d, "push", 0, at("app/base"), &err) == OT_PRECONDITION, "nor push");
    driver_forward(&d, 2 * HOUR);
    fake_find("digits", OT_FINDING_DEGRADED);
    is_str(driver_where(&d), "idle", "nor does a trigger");
    ok(has(driver_said(&d, "trigger.held"), "is more than site.yaml"), "which says why");
    driver_site = at("site.yaml");
    driver_again(&d);
    driver_site = NULL;
    is_int(driver_count(&d, "site.forbids"), 1, "a restart tells nothing twice");
    ok(driver_act(&d, "train", 0, NULL, &err) == OT_PRECONDITION, "and forgets nothing");
    site_is(&d, SITE "quotas: {time: 10min}\n");
    is_int(driver_count(&d, "site.allows"), 1, "allowed again");
    is_str(driver_where(&d), "training", "the trigger fires");
    settle(&d);
    driver_close(&d);
}

/* A run that is on when the site changes ends; the next one of its cycle waits. */
static void test_tighter_in_between(void)
{
    driver d;
    clock_offset_us = 0;
    driver_open(&d, "between");
    driver_apply_ok(&d, with_release(""));
    site_is(&d, SITE "quotas: {time: 10s}\n");
    settle(&d);
    is_str(driver_runs(&d), "train succeeded", "what was on has ended");
    is_str(driver_where(&d), "packaging", "what follows waits");
    ok(has(driver_said(&d, "run.waits"), "waits until the site allows it"), "says so");
    site_is(&d, SITE);
    settle(&d);
    is_int(driver_state(&d)->champion, 1, "and goes on");
    driver_close(&d);
}

static ot_rc damage_kept(ot_txn *txn, void *arg, ot_error *err)
{
    (void)arg;
    return ot_kv_set(txn, "site", "file", "{", 1, err);
}

static void test_bad_file(void)
{
    ot_error err = {0};
    driver d;
    driver_open(&d, "bad");
    write_file("site.yaml", SITE "quotas: {cpu: none}\n");
    ok(ot_pipeline_site(d.p, at("site.yaml"), &err) == OT_INVALID, "without another: an error");
    ok(has(err.msg, "site.yaml:2:15: cpu: "), "%s", err.msg);
    site_is(&d, SITE "quotas: {apps: 1}\n");
    site_is(&d, "schema: overtake.site/1\nqoutas: {}\n");
    is_int(driver_count(&d, "site.refused"), 1, "told: %s", driver_said(&d, "site.refused"));
    is_int(d.p->site->quotas.apps, 1, "what it said before is in force");
    driver_site = at("site.yaml");
    driver_again(&d);
    driver_site = NULL;
    ok(d.p->site != NULL && d.p->site->quotas.apps == 1, "after a restart too");
    ok(ot_pipeline_site(d.p, at("absent.yaml"), &err) == OT_OK, "a file that is gone");
    ok(d.p->site->quotas.apps == 1, "is no site without rules: %s",
       driver_said(&d, "site.refused"));

    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    apply_named(&d, "ants");
    ok(driver_apply(&d, with_release(""), true, &out, &err) == OT_INVALID, "one app too many");
    is_str(err.msg,
           "app.yaml:2:6: app 'digits' would be one more than the 1 that site.yaml:2:16 "
           "allows; ask the operators",
           "says so");
    ok(ot_store_write(d.store, damage_kept, NULL, &err) == OT_OK, "what was kept is damaged");
    site_is(&d, SITE "quotas: {apps: 1}\n");
    ok(d.p->site != NULL, "the file itself is enough");
    settle(&d);
    apply_named(&d, "ants");
    is_int((int64_t)d.p->n_apps, 1, "one that is here is applied again");
    driver_close(&d);
}

int main(void)
{
    world_start();
    test_at_once();
    test_frozen_with_a_run(false);
    test_frozen_with_a_run(true);
    test_per_day();
    test_window_holds();
    test_window_back();
    test_window_at_start();
    test_approval();
    test_own_approvals();
    test_tighter();
    test_tighter_in_between();
    test_bad_file();
    return world_end();
}
