#include "pipeline/app.h"
#include "tap.h"

#define HEAD                                                                                       \
    "schema: overtake/1\n"                                                                         \
    "app: digits\n"                                                                                \
    "data:\n"                                                                                      \
    "  base: {path: data/digits.npz}\n"                                                            \
    "  recent: {from: digits.labelled, last: 7d, max_rows: 20k}\n"                                 \
    "serve: digits\n"
#define TRAIN "train: {run: python train.py, data: [base], model: out/model}\n"

static ot_app *parse(const char *yaml, ot_error *err)
{
    ot_app *app = NULL;
    err->msg[0] = 0;
    return ot_app_parse(yaml, strlen(yaml), "app.yaml", "/srv", &app, err) == OT_OK ? app : NULL;
}

static void test_least(void)
{
    ot_error err = {0};
    ot_app *app = parse(HEAD TRAIN, &err);
    ok(app != NULL, "the least that works: %s", err.msg);
    if (app == NULL) {
        return;
    }
    is_str(app->serve.deployment, "digits", "serve: NAME is short for the deployment");
    is_near(app->evaluate.held_out, 0.2, 1e-12, "a fifth is held out by default");
    is_int(app->data.v[1].max_rows, 20000, "20k rows");
    is_int(app->data.v[1].last_us, 7ll * 86400000000, "7d");
    is_int(app->train.resources.time_us, 3600000000ll, "an hour by default");
    is_int(app->release.n, 0, "no stages");
    ot_app_destroy(app);
}

static void test_ranks(void)
{
    ot_error err = {0};
    ot_app *app = parse(HEAD TRAIN, &err);
    ok(app != NULL && !ot_app_is_job(app), "one process by default");
    is_int(app != NULL ? app->train.from : -1, OT_APP_FROM_SCRATCH, "that begins from scratch");
    ot_app_destroy(app);
    app = parse(HEAD "train: {run: x, data: [base], model: m, np: 3, hosts: [a:2, b:2], "
                     "engine: overtake, wire: auto, links: l, max_restarts: 4, from: parent}\n",
                &err);
    ok(app != NULL, "all that a job may say: %s", err.msg);
    if (app == NULL) {
        return;
    }
    ok(ot_app_is_job(app) && ot_app_host_file(app) == NULL, "a job with hosts");
    is_int(app->train.np, 3, "ranks");
    is_str(ot_app_engines[app->train.engine], "overtake", "engine");
    is_str(ot_app_wires[app->train.wire], "auto", "wire");
    is_int(app->train.max_restarts, 4, "restarts");
    is_int(app->train.from, OT_APP_FROM_PARENT, "from the parent");
    ot_app_destroy(app);
    app = parse(HEAD "train: {run: x, data: [base], model: m, np: 2, engine: mpi}\n", &err);
    is_str(app != NULL ? ot_app_engines[app->train.engine] : err.msg, "mpi", "MPI's");
    ot_app_destroy(app);
    app = parse(HEAD "train: {run: x, data: [base], model: m, hosts: ./hosts}\n", &err);
    ok(app != NULL && ot_app_is_job(app), "hosts alone: all their slots: %s", err.msg);
    is_str(app != NULL ? ot_app_host_file(app) : NULL, "./hosts", "a host file");
    ot_app_destroy(app);
}

static void test_whole(void)
{
    ot_error err = {0};
    ot_app *app = parse(
        HEAD TRAIN "objectives:\n"
                   "  accuracy: {at_least: 0.93, over: 28d}\n"
                   "  latency_p99: 5ms\n"
                   "retrain: {when: [accuracy.degraded, \"labels.new >= 500\"], at_most: 2 per "
                   "day, pause_after: 3 failures}\n"
                   "release:\n"
                   "  - gate: {better_on: recent, not_worse_on: {base: 0.02}}\n"
                   "  - shadow: {until: 200 compared, at_most: 1h, otherwise: stop}\n"
                   "  - canary: {shares: [10%, 50%], margin: 0.01, at_most: 2h}\n"
                   "  - probation: {for: 24h, roll_back_if: worse_than_previous}\n",
        &err);
    ok(app != NULL, "the whole example: %s", err.msg);
    if (app == NULL) {
        return;
    }
    is_int(app->release.n, 4, "four stages");
    is_int(app->release.v[1].until_compared, 200, "until 200 compared");
    is_int(app->release.v[2].n_shares, 2, "two shares");
    is_near(app->release.v[2].shares[1], 0.5, 1e-12, "the second is a half");
    is_int(app->release.v[2].otherwise, OT_OTHERWISE_ROLL_BACK, "a canary rolls back by default");
    is_near(app->release.v[0].not_worse_on[0].margin, 0.02, 1e-12, "the gate's margin");
    is_int(app->retrain.at_most.count, 2, "twice");
    is_int(app->retrain.at_most.per_us, 86400000000ll, "a day");
    is_int(app->objectives.latency_p99.at_most_us, 5000, "latency in short form");
    ot_str shown = OT_STR_INIT;
    ot_app_show(app, &shown);
    ot_app *again = parse(shown.data, &err);
    ok(again != NULL, "what is shown can be read again: %s", err.msg);
    if (again != NULL) {
        ot_str twice = OT_STR_INIT;
        ot_app_show(again, &twice);
        is_str(twice.data, shown.data, "and says the same");
        ot_str_done(&twice);
    }
    ot_app_destroy(again);
    ot_str_done(&shown);
    ot_app_destroy(app);
}

static void refuses(const char *yaml, const char *want, const char *what)
{
    ot_error err = {0};
    ot_app *app = parse(yaml, &err);
    ok(app == NULL, "refused: %s", what);
    ot_app_destroy(app);
    is_str(err.msg, want, "%s", what);
}

static void test_errors(void)
{
    refuses(HEAD "train:\n  run: python train.py\n  data: [base]\n  model: out/model\n"
                 "  resorces: {cpu: 1}\n",
            "app.yaml:11:3: 'resorces' is not known in train; did you mean 'resources'?",
            "a misspelt key");
    refuses(HEAD "train: {run: x, data: [bose], model: m}\n",
            "app.yaml:7:24: train.data: 'bose' is not a data set of this app; did you mean 'base'?",
            "a misspelt data set");
#define JOB(more) HEAD "train: {run: x, data: [base], model: m, " more "}\n"
    refuses(JOB("engine: mpich, np: 2"),
            "app.yaml:7:49: engine: 'mpich' is not one of overtake, mpi",
            "an engine that is not one");
    refuses(JOB("engine: mpi"),
            "app.yaml:7:49: train.engine is for a training of ranks: say how many with np, or "
            "where with hosts",
            "the engine of one process");
    refuses(JOB("engine: mpi, np: 2, min_np: 1"),
            "app.yaml:7:49: train.engine: mpi is for ranks on this machine that are not replaced: "
            "leave out hosts, min_np and max_restarts, or take overtake",
            "an engine that replaces nobody, and ranks that are");
    refuses(JOB("wire: half"),
            "app.yaml:7:47: train.wire is for a training of ranks: say how many with np, or where "
            "with hosts",
            "the wire of one process");
    refuses(JOB("np: 2, min_np: 3"),
            "app.yaml:7:56: train.min_np: 3 ranks at least, and np begins with 2",
            "more ranks at least than there are");
    refuses(JOB("max_restarts: 3"),
            "app.yaml:7:55: train.max_restarts is for a training of ranks: say how many with np, "
            "or where with hosts",
            "or its restarts");
    refuses(JOB("np: 5000"), "app.yaml:7:45: np: 5000 is outside 0 to 4096", "too many ranks");
    refuses(JOB("np: 5, hosts: [a:2, b:2]"),
            "app.yaml:7:56: train.hosts: 5 ranks and slots for 4 (at most 4096): write HOST:RANKS "
            "for hosts that take more",
            "more ranks than slots");
    refuses(JOB("hosts: [a:2, b:x]"),
            "app.yaml:7:54: train.hosts: 'b:x': what follows the colon is not a number of ranks",
            "ranks of a host");
    refuses(JOB("from: champion"), "app.yaml:7:47: from: 'champion' is not one of scratch, parent",
            "what nothing begins with");
    refuses(HEAD "train: {run: x, data: [base]}\n",
            "app.yaml:7:1: train needs 'model': Where it writes the model, relative to its work "
            "directory",
            "a missing key");
    refuses(HEAD TRAIN "release:\n  - canary: {shares: [50%, 10%]}\n",
            "app.yaml:9:28: shares: 10% must lie between 0% and 100% and above the one before",
            "shares that fall");
    refuses(
        HEAD TRAIN "release:\n  - probation: {for: 1h}\n  - gate: {}\n",
        "app.yaml:10:5: release: gate cannot come after probation; the order is gate, approval, "
        "shadow, canary or blue_green, probation",
        "stages out of order");
    refuses(HEAD TRAIN "retrain: {when: [acuracy.degraded]}\n",
            "app.yaml:8:18: 'acuracy.degraded' is not known in a condition; did you mean "
            "'accuracy.degraded'?",
            "a misspelt condition");
    refuses(HEAD "train: {run: x, data: [base], model: ../m}\n",
            "app.yaml:7:1: train.model: '../m' must be a relative path without '..'",
            "a model outside the work directory");
    refuses(HEAD TRAIN "quality: {window: 60s, block: 90s}\n",
            "app.yaml: quality: a block of 90s is not a whole number of windows of 60s",
            "a block that is no whole number of windows");
    refuses(HEAD TRAIN "owner: &a x\nalerts: *a\n",
            "app.yaml:9:9: aliases are not accepted; write the value out", "an alias");
    refuses("", "app.yaml: the file is empty", "an empty file");
    refuses("schema: overtake/2\napp: a\nserve: a\n" TRAIN,
            "app.yaml:1:1: schema 'overtake/2' is not known; this version reads overtake/1",
            "another schema");
    refuses(HEAD HEAD TRAIN, "app.yaml:7:1: 'schema' stands twice", "a key that stands twice");
}

#define STAGES                                                                                     \
    "objectives: {accuracy: 0.93}\n"                                                               \
    "release:\n"                                                                                   \
    "  - shadow: {until: 200 compared, at_most: 1h}\n"                                             \
    "  - canary: {shares: [10%, 50%], margin: 0.01, at_most: 2h}\n"

static void waits_at(double rows_per_s, const char *want, const char *what)
{
    ot_error err = {0};
    ot_app *app = parse(HEAD TRAIN STAGES, &err);
    ok(app != NULL, "%s: parsed: %s", what, err.msg);
    if (app == NULL) {
        return;
    }
    ot_rc rc = ot_app_check_waits(app, rows_per_s, &err);
    is_int(rc, want == NULL ? OT_OK : OT_INVALID, "%s", what);
    if (want != NULL) {
        is_str(err.msg, want, "%s: says the arithmetic", what);
    }
    ot_app_destroy(app);
}

static void test_waits(void)
{
    waits_at(0, NULL, "a rate that nobody knows refuses nothing");
    waits_at(1000, NULL, "enough traffic");
    waits_at(3,
             "app.yaml:11:42: margin 0.01 at 10% of 3 req/s needs >= 12,022 labels in that arm (>= "
             "12 h); at_most is 2h. Widen margin, raise shares or at_most.",
             "a canary at 3 req/s");
    waits_at(0.05,
             "app.yaml:10:21: 200 compared at 0.05 req/s take >= 67 min; at_most is 60min. Lower "
             "until or raise at_most.",
             "a shadow with hardly any traffic");
}

static void test_blue_green(void)
{
    ot_error err = {0};
    refuses(HEAD TRAIN "release:\n  - canary: {}\n  - blue_green: {}\n",
            "app.yaml:10:5: release: blue_green switches all traffic at once, and the canary in "
            "line 9 gives it in shares; leave one of both out",
            "blue-green and a canary");
    refuses(HEAD TRAIN "release:\n  - blue_green: {}\n  - blue_green: {}\n",
            "app.yaml:10:5: release: blue_green stands twice", "twice");
    refuses(HEAD TRAIN "release:\n  - blue_green: {keep: 0s}\n",
            "app.yaml:9:5: blue_green: keep must be above 0", "no time to go back in");
    refuses(HEAD TRAIN "release:\n  - blue_green: {at_most: 0s}\n",
            "app.yaml:9:5: blue_green: at_most must be above 0", "no time to load");
    refuses(HEAD TRAIN "release:\n  - blue_green: {keep: 1h}\n  - probation: {for: 2h}\n",
            "app.yaml:9:24: blue_green.keep is not what the probation in line 10 says; leave one "
            "of both out",
            "two words about the same");
    refuses(HEAD TRAIN "release:\n  - bluegreen: {}\n",
            "app.yaml:9:5: 'bluegreen' is not a stage; did you mean 'blue_green'?", "misspelt");
    ot_app *app = parse(
        HEAD TRAIN "release:\n  - blue_green:\n  - probation: {for: 2h, roll_back_if: never}\n",
        &err);
    if (!ok(app != NULL, "with a probation: %s", err.msg)) {
        return;
    }
    is_int(app->release.v[0].for_us, 7200000000, "which says how long it is kept");
    OT_AUTO(ot_str_done) ot_str shown = OT_STR_INIT;
    ot_app_show(app, &shown);
    ot_app_destroy(app);
    app = parse(shown.data, &err);
    ok(app != NULL && app->release.v[0].for_us == 7200000000, "what is shown is accepted: %s",
       err.msg);
    ot_app_destroy(app);
}

#define STEPS(data, steps)                                                                         \
    "schema: overtake/1\n"                                                                         \
    "app: digits\n"                                                                                \
    "serve: digits\n"                                                                              \
    "data:\n"                                                                                      \
    "  base: {path: data/digits.npz}\n" data "steps:\n" steps                                      \
    "train: {run: python train.py, data: [clean], model: out/model}\n"

static void test_steps(void)
{
    ot_error err = {0};
    ot_app *app = parse(STEPS("  raw: {from: fetch}\n  eye: {from: embed, kind: model}\n"
                              "  clean: {from: prepare}\n",
                              "  prepare: {run: \"python p.py 'x'\", data: [raw, eye], output: c}\n"
                              "  embed: {run: e, data: [raw, base], output: e, makes: model}\n"
                              "  fetch: {run: f, output: r}\n"),
                        &err);
    if (!ok(app != NULL, "three steps: %s", err.msg)) {
        return;
    }
    const ot_app_step *order[OT_APP_STEPS_MAX];
    is_int(ot_app_steps_order(app, order), 3, "all of them");
    ok(strcmp(order[0]->name, "fetch") == 0 && strcmp(order[1]->name, "embed") == 0 &&
           strcmp(order[2]->name, "prepare") == 0,
       "each after what it takes");
    ok(ot_app_trains_on(app, "base") && !ot_app_trains_on(app, "none"), "a step's data count");
    OT_AUTO(ot_str_done) ot_str shown = OT_STR_INIT;
    ot_app_show(app, &shown);
    ot_app_destroy(app);
    app = parse(shown.data, &err);
    ok(app != NULL && app->steps.n == 3 && app->data.v[2].kind == OT_APP_MODEL,
       "what is shown is accepted: %s", err.msg);
    ot_app_destroy(app);
}

static void test_bad_steps(void)
{
    refuses(STEPS("  clean: {from: prepair}\n", "  prepare: {run: p, output: c}\n"),
            "app.yaml:6:3: from: 'prepair' is not DEPLOYMENT.labelled, and no step of this app; "
            "did you mean 'prepare'?",
            "a step that is not there");
    refuses(STEPS("  clean: {from: prepare}\n",
                  "  prepare: {run: p, data: [base], output: c, makes: model}\n"),
            "app.yaml:6:3: data 'clean' is rows, and step 'prepare' (app.yaml:8:3) makes a model; "
            "say kind here or makes there",
            "an edge of two types");
    refuses(STEPS("  clean: {path: x.npz, kind: model}\n", "  p: {run: p, output: c}\n"),
            "app.yaml:6:3: data 'clean': only what a step makes can be a model; this has a path",
            "a model that nobody makes");
    refuses(STEPS("  clean: {from: a}\n  other: {from: b}\n",
                  "  a: {run: a, data: [other], output: a}\n"
                  "  b: {run: b, data: [base, clean], output: b}\n"),
            "app.yaml:10:28: steps: 'b' takes 'clean', which step 'a' (app.yaml:9:3) makes, and "
            "that waits for 'b' itself: nothing could be first",
            "a circle");
    refuses(STEPS("  clean: {from: a}\n", "  a: {run: a, data: [clean], output: a}\n"),
            "app.yaml:8:22: steps: 'a' takes 'clean', which step 'a' (app.yaml:8:3) makes, and "
            "that waits for 'a' itself: nothing could be first",
            "a step of its own output");
    refuses(STEPS("  clean: {from: a}\n", "  a: {run: a, data: [bas], output: a}\n"),
            "app.yaml:8:22: steps: 'bas' is not a data set of this app; did you mean 'base'?",
            "data that are not there");
    refuses(STEPS("  clean: {from: a}\n  x: {from: b}\n",
                  "  a: {run: a, output: a}\n  b: {run: b, output: b}\n"),
            "app.yaml:10:3: step 'b': nobody takes what it makes; name it under data, like NAME: "
            "{from: b}, and that where it is taken",
            "a step for nobody");
    refuses(STEPS("  clean: {from: a}\n", "  a: {run: a, output: out/model}\n"),
            "app.yaml:8:3: step 'a': 'out/model' is what train (app.yaml:9:1) writes too",
            "two that write one thing");
    refuses(STEPS("  clean: {from: a}\n", "  a: {run: a, output: ../a}\n"),
            "app.yaml:8:3: step 'a': output '../a' must be a relative path without '..'",
            "an output elsewhere");
    refuses(STEPS("  clean: {from: train}\n", "  train: {run: a, output: a}\n"),
            "app.yaml:8:3: steps: 'train' is not a name of a step", "a name that is taken");
    refuses(STEPS("  clean: {from: a}\n",
                  "  a: {run: a, output: a}\n") "release:\n  - gate: {better_on: clean}\n",
            "app.yaml:11:5: gate: 'clean' is made by step 'a' (app.yaml:8:3) of rows for training; "
            "judge on data with path or .labelled",
            "a gate on rows of training");
}

/* Every cut of a good file is refused or read, never a crash; every failed allocation is an error.
 */
static void test_hostile(void)
{
    static const char yaml[] = HEAD TRAIN "release:\n  - canary: {shares: [10%, 50%]}\n";
    size_t read = 0;
    for (size_t n = 0; n < sizeof yaml; n++) {
        ot_app *app = NULL;
        ot_error err = {0};
        if (ot_app_parse(yaml, n, "app.yaml", "/", &app, &err) == OT_OK) {
            read++;
        } else if (err.msg[0] == 0) {
            ok(false, "cut at %zu: an error without a message", n);
        }
        ot_app_destroy(app);
    }
    ok(read > 0 && read < sizeof yaml / 2, "most cuts are refused (%zu read)", read);
    size_t failures = 0;
    for (uint64_t nth = 1; nth < 200; nth++) {
        ot_app *app = NULL;
        ot_error err = {0};
        (void)ot_mem_fail_nth(nth);
        ot_rc rc = ot_app_parse(yaml, sizeof yaml - 1, "app.yaml", "/", &app, &err);
        uint64_t seen = ot_mem_fail_nth(0);
        failures += rc != OT_OK;
        ot_app_destroy(app);
        if (seen < nth) {
            break;
        }
    }
    ok(failures > 0, "%zu failed allocations were errors", failures);
    OT_AUTO(ot_str_done) ot_str deep = OT_STR_INIT;
    for (int i = 0; i < 100; i++) {
        ot_str_addc(&deep, '[');
    }
    ot_error err = {0};
    ok(parse(deep.data, &err) == NULL, "deep nesting is refused: %s", err.msg);
}

int main(void)
{
    test_least();
    test_ranks();
    test_whole();
    test_errors();
    test_blue_green();
    test_steps();
    test_bad_steps();
    test_waits();
    test_hostile();
    return tap_done();
}
