/* The site file: what it may say, what apps may do under it, when its windows are open. */
#include "pipeline/site.h"
#include "tap.h"

#define MIN_US 60000000ll
#define HOUR (60 * MIN_US)
#define DAY (24 * HOUR)
#define MONDAY (4 * DAY) /* 1970-01-05 */

static ot_site *site_of(const char *yaml, ot_error *err)
{
    ot_site *site = NULL;
    err->msg[0] = 0;
    return ot_site_parse(yaml, strlen(yaml), "site.yaml", &site, err) == OT_OK ? site : NULL;
}

#define SITE "schema: overtake.site/1\n"

static void test_parse(void)
{
    ot_error err = {0};
    ot_site *s = site_of(SITE, &err);
    ok(s != NULL, "the least site: %s", err.msg);
    if (s != NULL) {
        is_int(s->quotas.runs_at_once, 0, "no quota");
        is_int(s->release.n, 0, "no stage");
        ok(ot_windows_open(&s->windows, 0), "open at all times");
        is_int(ot_windows_next(&s->windows, 0), INT64_MAX, "with no next opening");
        is_str(ot_site_contact(s), "the operators", "somebody to ask");
        is_str(s->executors.v[0], "local", "the executor that there is");
    }
    ot_site_destroy(s);
    s = site_of(SITE "contact: ops@example.org\n"
                     "quotas: {runs_at_once: 2, memory: 8GiB, gpu: 0}\n"
                     "release:\n  - approval: {by: anna}\n  - canary: {first_share: 10%}\n"
                     "  - probation:\n"
                     "change_windows:\n  - {days: [mon-wed, sat]}\n",
                &err);
    ok(s != NULL, "the whole of it: %s", err.msg);
    if (s != NULL) {
        char place[OT_SITE_PLACE_TEXT];
        is_str(ot_site_place(s, ot_site_quota_mark(s, "memory"), place), "site.yaml:3:35", "place");
        is_int(ot_site_quota_mark(s, "gpu").line, 3, "a quota of none is a quota");
        is_int(ot_site_quota_mark(s, "cpu").line, 0, "what is not there is not");
        is_int(s->release.n, 3, "stages");
        is_near(s->release.v[1].shares[0], 0.1, 1e-12, "the first share");
        is_str(ot_site_contact(s), "ops@example.org", "who is asked");
    }
    ot_site_destroy(s);
}

static void refuses(const char *yaml, const char *want)
{
    ot_error err = {0};
    ot_site *s = site_of(yaml, &err);
    ok(s == NULL, "refused: %s", want);
    is_str(err.msg, want, "says so");
    ot_site_destroy(s);
}

static void test_errors(void)
{
    refuses(SITE "qoutas: {cpu: 1}\n",
            "site.yaml:2:1: 'qoutas' is not known in the site; did you mean 'quotas'?");
    refuses(SITE "quotas: {memroy: 1GiB}\n",
            "site.yaml:2:10: 'memroy' is not known in quotas; did you mean 'memory'?");
    refuses(SITE "quotas: {runs_at_once: 0}\n",
            "site.yaml:2:24: runs_at_once: 0 is outside 1 to 256");
    refuses(SITE "quotas: {time: 5ms}\n", "site.yaml:2:16: time: 5ms is outside 1s to 347.2d");
    refuses(SITE "quotas: {memory: 1k}\n",
            "site.yaml:2:18: memory: 1k is outside 1MiB to 909.5TiB");
    refuses(SITE "release:\n  - canry: {}\n",
            "site.yaml:3:5: 'canry' is not a stage; did you mean 'canary'?");
    refuses(SITE "release:\n  - canary: {shares: [10%]}\n",
            "site.yaml:3:14: 'shares' is not known in canary");
    refuses(SITE "release:\n  - gate: {}\n  - gate: {}\n",
            "site.yaml:4:5: release: gate stands twice; what is demanded of it is one entry");
    refuses(SITE "executors: [locl]\n",
            "site.yaml:2:13: executors: 'locl' is not known; did you mean 'local'?");
    refuses(SITE "executors: [slurm]\n",
            "site.yaml:2:13: executors: 'slurm' is not known; this version has 'local'");
    refuses(SITE "executors: []\n",
            "site.yaml:2:12: executors: with none no run could start; name local");
    refuses("schema: overtake/1\n",
            "site.yaml:1:9: schema 'overtake/1' is not known; this version reads overtake.site/1");
    refuses("quotas: {cpu: 1}\n", "site.yaml:1:1: the site needs 'schema': Always "
                                  "`overtake.site/1`");
    refuses("", "site.yaml: the file is empty");
    refuses(SITE "change_windows: mon\n", "site.yaml:2:17: change_windows: a list is needed, like "
                                          "`- {days: [mon-fri], from: \"09:00\"}`");
    refuses(SITE "change_windows:\n  - {days: [mon, tus]}\n",
            "site.yaml:3:18: days: 'tus' is not a day or a span of days like mon-fri");
    refuses(SITE "change_windows:\n  - {from: \"9\"}\n",
            "site.yaml:3:12: from: '9' is not a time of day like \"09:00\"");
    refuses(SITE "change_windows:\n  - {to: \"24:01\"}\n",
            "site.yaml:3:10: to: '24:01' is not a time of day like \"17:30\"");
    refuses(SITE "change_windows:\n  - {zone: Europe/Berlin}\n",
            "site.yaml:3:12: zone: 'Europe/Berlin' is not UTC or a fixed offset like UTC+2 or "
            "\"-05:30\"; named zones move with summer time");
    refuses(SITE "change_windows:\n  - {from: \"09:00\", to: \"09:00\"}\n",
            "site.yaml:3:5: a change window from 09:00 to 09:00 is never open");
}

/* ------------------------------------------------------------------ windows */

/* One letter an hour of the week from Monday 00:00 UTC: '#' open. */
static void week_of(const char *windows, char out[24 * 7 + 1])
{
    char yaml[512];
    ot_error err = {0};
    snprintf(yaml, sizeof yaml, SITE "change_windows:\n%s", windows);
    ot_site *s = site_of(yaml, &err);
    memset(out, '?', 24 * 7);
    out[24 * 7] = 0;
    for (int h = 0; s != NULL && h < 24 * 7; h++) {
        /* A year's worth of weeks later, so that years and days of the month play no part. */
        out[h] = ot_windows_open(&s->windows, MONDAY + 2600 * 7 * DAY + h * HOUR) ? '#' : '.';
    }
    ok(s != NULL, "windows are read: %s", err.msg);
    ot_site_destroy(s);
}

static void is_open(const char *windows, int day, const char *want, const char *what)
{
    char week[24 * 7 + 1], part[25];
    week_of(windows, week);
    snprintf(part, sizeof part, "%.24s", week + 24 * day);
    is_str(part, want, "%s", what);
}

static void test_windows(void)
{
    static const char office[] = "  - {days: mon-fri, from: \"09:00\", to: \"17:00\"}\n";
    is_open(office, 0, ".........########.......", "a Monday");
    is_open(office, 4, ".........########.......", "a Friday");
    is_open(office, 5, "........................", "a Saturday");
    static const char east[] = "  - {days: mon, from: \"01:00\", to: \"03:00\", zone: UTC+2}\n";
    is_open(east, 6, ".......................#", "Monday in the east begins on Sunday");
    is_open(east, 0, "#.......................", "and ends early");
    static const char night[] =
        "  - {days: [fri-mon], from: \"22:00\", to: \"6:00\", zone: \"-01:00\"}\n";
    is_open(night, 1, "#######.................", "the night of Monday goes on on Tuesday");
    is_open(night, 4, ".......................#", "and Thursday's does not exist");
    is_open("  - {}\n", 3, "########################", "a window without limits");

    ot_error err = {0};
    ot_site *s = site_of(SITE "change_windows:\n"
                              "  - {days: tue, from: \"09:30\", to: \"10:00\"}\n"
                              "  - {days: [thu], from: \"00:00\", to: \"01:00\", zone: +05:30}\n",
                         &err);
    ok(s != NULL, "two windows: %s", err.msg);
    if (s != NULL) {
        int64_t tuesday = MONDAY + DAY + 9 * HOUR + 30 * MIN_US;
        int64_t thursday = MONDAY + 3 * DAY - 5 * HOUR - 30 * MIN_US;
        is_int(ot_windows_next(&s->windows, MONDAY), tuesday, "the next one");
        is_int(ot_windows_next(&s->windows, tuesday - 1), tuesday, "just before");
        is_int(ot_windows_next(&s->windows, tuesday), thursday, "then the other");
        is_int(ot_windows_next(&s->windows, thursday), tuesday + 7 * DAY, "then next week's");
        ok(!ot_windows_open(&s->windows, tuesday - 1) && ot_windows_open(&s->windows, tuesday) &&
               ot_windows_open(&s->windows, tuesday + 30 * MIN_US - 1) &&
               !ot_windows_open(&s->windows, tuesday + 30 * MIN_US),
           "open from its first microsecond to its last");
        ok(!ot_windows_open(&s->windows, thursday - 1) && ot_windows_open(&s->windows, thursday),
           "the other too");
    }
    ot_site_destroy(s);
}

/* ------------------------------------------------------------------ apps under a site */

#define APP                                                                                        \
    "schema: overtake/1\napp: digits\ndata: {base: {path: b}}\nserve: digits\n"                    \
    "train:\n  run: sh t.sh\n  data: [base]\n  model: m\n"
#define GATE "  - gate: {not_worse_on: {base: 0.01}}\n"

/* The app under the site, or NULL and the error. */
static ot_app *held(const char *site_yaml, const char *app_yaml, ot_error *err)
{
    ot_app *app = NULL;
    ot_site *site = site_of(site_yaml, err);
    ok(site != NULL, "the site is read: %s", err->msg);
    ot_rc rc = ot_app_parse(app_yaml, strlen(app_yaml), "app.yaml", "/srv", &app, err);
    ok(rc == OT_OK, "the app alone is fine: %s", err->msg);
    if (site != NULL && rc == OT_OK && ot_site_tighten(site, app, err) != OT_OK) {
        ot_app_destroy(app);
        app = NULL;
    }
    ot_site_destroy(site);
    return app;
}

static void too_much(const char *site, const char *app, const char *want)
{
    ot_error err = {0};
    ot_app *a = held(site, app, &err);
    ok(a == NULL, "refused");
    is_str(err.msg, want, "names both places");
    ot_app_destroy(a);
}

static void test_quotas(void)
{
    static const char site[] = SITE "quotas:\n  cpu: 2\n  gpu: 0\n  memory: 1GiB\n  time: 30min\n";
    ot_error err = {0};
    ot_app *a = held(site, APP "  resources: {cpu: 2, time: 10min}\n", &err);
    ok(a != NULL, "within its quotas: %s", err.msg);
    if (a != NULL) {
        is_int((int64_t)a->train.resources.memory, 1 << 30, "a default comes down to the quota");
        is_int(a->train.resources.time_us, 10 * MIN_US, "what is written stays");
        is_int(a->train.resources.cpu, 2, "up to the quota itself");
        is_int((int64_t)a->train.resources.disk, 10ll << 30, "what has no quota stays");
    }
    ot_app_destroy(a);
    too_much(site, APP "  resources:\n    memory: 16GiB\n",
             "app.yaml:10:13: train.resources.memory 16GiB is more than site.yaml:5:11 allows "
             "(1GiB); lower it or ask the operators");
    too_much(site, APP "  resources: {cpu: 4}\n",
             "app.yaml:9:20: train.resources.cpu 4 is more than site.yaml:3:8 allows (2); lower it "
             "or ask the operators");
    too_much(site, APP "  resources: {gpu: 1}\n",
             "app.yaml:9:20: train.resources.gpu 1 is more than site.yaml:4:8 allows (0); lower it "
             "or ask the operators");
    too_much(SITE "contact: ops\nquotas: {time: 90s}\n", APP "  resources: {time: 2h}\n",
             "app.yaml:9:21: train.resources.time 2h is more than site.yaml:3:16 allows (90s); "
             "lower it or ask ops");
}

/* All at once, so that a file is not mended line by line; within what an error can hold. */
static void test_several(void)
{
    too_much(
        SITE "quotas: {cpu: 2, memory: 1GiB}\nrelease: [{approval: {}}, {probation: {}}]\n",
        APP "  resources: {cpu: 4, memory: 2GiB}\nrelease: [{probation: {}}]\n",
        "app.yaml:9:20: train.resources.cpu 4 is more than site.yaml:2:15 allows (2); lower it "
        "or ask the operators\n"
        "app.yaml:9:31: train.resources.memory 2GiB is more than site.yaml:2:26 allows (1GiB); "
        "lower it or ask the operators\n"
        "app.yaml:10:1: release has no approval, and site.yaml:3:12 demands one; add `- "
        "approval: {}` or ask the operators");
    char site[1024], contact[300];
    memset(contact, 'x', sizeof contact - 1);
    contact[sizeof contact - 1] = 0;
    snprintf(site, sizeof site,
             SITE "contact: %s\nquotas: {cpu: 1, memory: 1GiB, disk: 1GiB, time: 1min}\n", contact);
    ot_error err = {0};
    ot_app *a = held(site, APP "  resources: {cpu: 4, memory: 2GiB, disk: 2GiB, time: 1h}\n", &err);
    int lines = 1;
    for (const char *p = err.msg; *p != 0; p++) {
        lines += *p == '\n';
    }
    ok(a == NULL && lines == 2, "what does not fit is left out (%d lines)", lines);
    is_str(err.msg + strlen(err.msg) - 3, "xxx", "whole");
    ot_app_destroy(a);
}

static void test_stages_left_out(void)
{
    static const char site[] = SITE "release:\n  - gate: {}\n  - approval: {}\n";
    too_much(site, APP,
             "app.yaml:1:1: release has no gate, and site.yaml:3:5 demands one; add `- "
             "gate: {}` or ask the operators\n"
             "app.yaml:1:1: release has no approval, and site.yaml:4:5 demands one; add `- "
             "approval: {}` or ask the operators");
    too_much(site, APP "release:\n" GATE,
             "app.yaml:9:1: release has no approval, and site.yaml:4:5 demands one; add `- "
             "approval: {}` or ask the operators");
    too_much(site, APP "release:\n  - gate: {}\n  - approval: {}\n",
             "app.yaml:10:5: gate judges nothing, and site.yaml:3:5 demands a gate; give it "
             "better_on, not_worse_on or require");
    ot_error err = {0};
    ot_app *a = held(site, APP "release:\n" GATE "  - approval: {}\n  - shadow: {}\n", &err);
    ok(a != NULL, "more than is demanded is fine: %s", err.msg);
    ot_app_destroy(a);
}

static void test_stages_weakened(void)
{
    static const char site[] = SITE "release:\n"
                                    "  - gate: {margin: 0.02}\n"
                                    "  - approval: {by: [anna, ben]}\n"
                                    "  - shadow: {until: 300 compared}\n"
                                    "  - canary: {first_share: 5%, margin: 0.005, alpha: 0.01}\n"
                                    "  - probation: {for: 48h}\n";
    ot_error err = {0};
    ot_app *a = held(site,
                     APP "release:\n" GATE "  - approval: {}\n  - shadow: {}\n  - canary: {}\n"
                         "  - canary: {shares: [50%]}\n  - probation: {}\n",
                     &err);
    ok(a != NULL, "what is not written becomes what the site demands: %s", err.msg);
    if (a != NULL) {
        const ot_app_stage *v = a->release.v;
        ok(v[1].by.n == 2 && strcmp(v[1].by.v[1], "ben") == 0, "who approves");
        is_int(v[2].until_compared, 300, "pairs");
        is_near(v[3].shares[0], 0.05, 1e-12, "the first share");
        is_near(v[3].margin, 0.005, 1e-12, "the margin");
        is_near(v[3].alpha, 0.01, 1e-12, "the canary's alpha");
        is_near(v[2].alpha, 0.05, 1e-12, "an alpha that has no bound");
        is_near(v[4].shares[0], 0.5, 1e-12, "a later canary begins where it likes");
        is_near(v[4].margin, 0.005, 1e-12, "with the same margin");
        is_int(v[5].for_us, 48 * HOUR, "probation");
    }
    ot_app_destroy(a);
#define REST(approval, shadow, canary, probation)                                                  \
    APP "release:\n" GATE "  - approval: {" approval "}\n  - shadow: {" shadow                     \
        "}\n  - canary: {" canary "}\n  - probation: {" probation "}\n"
    too_much(site,
             APP "release:\n  - gate: {not_worse_on: {base: 0.05}}\n  - approval: {}\n"
                 "  - shadow: {}\n  - canary: {}\n  - probation: {}\n",
             "app.yaml:10:26: gate.not_worse_on.base 0.05 is more than site.yaml:3:20 allows "
             "(0.02); lower it or ask the operators");
    too_much(site, REST("by: [anna, carl]", "", "", ""),
             "app.yaml:11:27: approval.by: 'carl' is not among those whom site.yaml:4:21 allows to "
             "approve; take the name out or ask the operators");
    too_much(site, REST("otherwise: continue", "", "", ""),
             "app.yaml:11:27: approval.otherwise continue lets a release pass without a verdict, "
             "and site.yaml:4:5 demands the stage; write stop or roll_back, or ask the operators");
    too_much(site, REST("by: [ben]", "until: 299", "", ""),
             "app.yaml:12:21: shadow.until 299 compared is less than site.yaml:5:21 demands (300 "
             "compared); raise it or ask the operators");
    too_much(site, REST("", "", "shares: [10%, 50%]", ""),
             "app.yaml:13:22: canary.shares begin with 10%, more than site.yaml:6:27 allows (5%); "
             "put a smaller one first or ask the operators");
    too_much(site, REST("", "", "margin: 1%", ""),
             "app.yaml:13:22: canary.margin 0.01 is more than site.yaml:6:39 allows (0.005); lower "
             "it or ask the operators");
    too_much(site, REST("", "", "", "for: 24h"),
             "app.yaml:14:22: probation.for 24h is less than site.yaml:7:22 demands (2d); raise it "
             "or ask the operators");
    too_much(site, REST("", "", "", "roll_back_if: never"),
             "app.yaml:14:31: probation.roll_back_if never makes it none, and site.yaml:7:5 "
             "demands it; write worse_than_previous, or ask the operators");
}

/* Every failed allocation is an error. */
static void test_no_memory(void)
{
    static const char site[] = SITE "release:\n  - approval: {by: [anna, ben]}\n";
    size_t failures = 0;
    for (uint64_t nth = 1; nth < 200; nth++) {
        ot_error err = {0};
        ot_site *s = NULL;
        (void)ot_mem_fail_nth(nth);
        ot_rc rc = ot_site_parse(site, sizeof site - 1, "site.yaml", &s, &err);
        uint64_t seen = ot_mem_fail_nth(0);
        failures += rc != OT_OK && err.msg[0] != 0;
        ot_site_destroy(s);
        if (seen < nth) {
            break;
        }
    }
    ok(failures > 0, "%zu failed allocations were errors", failures);
}

int main(void)
{
    test_parse();
    test_errors();
    test_windows();
    test_quotas();
    test_several();
    test_stages_left_out();
    test_stages_weakened();
    test_no_memory();
    return tap_done();
}
