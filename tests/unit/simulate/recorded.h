/* A recording to rehearse on: a pipeline with its own evidence lives through a fall, a retrain, a
 * release and its probation, on a clock of its own. Runs are not executed; windows, answers and
 * labels come as replicas and labellers send them. One thread. */
#ifndef OT_TESTS_UNIT_SIMULATE_RECORDED_H
#define OT_TESTS_UNIT_SIMULATE_RECORDED_H

#include "launch/run.h"
#include "pipeline/pipeline.h"
#include "simulate/simulate.h"
#include "unit/quality/sample_fixture.h"

#ifndef RECORDED_YAML
#define ROWS 30       /* labelled rows a window */
#define LABEL_EVERY 1 /* windows */
#define RECORDED_YAML                                                                              \
    "schema: overtake/1\n"                                                                         \
    "app: digits\n"                                                                                \
    "data:\n"                                                                                      \
    "  base:   {path: base, label: y}\n"                                                           \
    "  recent: {from: digits.labelled, last: 5min, max_rows: 20k}\n"                               \
    "train: {run: sh train.sh, data: [base, recent], model: out/model}\n"                          \
    "serve: {deployment: digits}\n"                                                                \
    "quality: {window: 5s, block: 10s, blocks_per_day: 8, baseline: 4, cycles: none,"              \
    " ignore_smaller: 0.1}\n"                                                                      \
    "objectives:\n"                                                                                \
    "  accuracy: {at_least: 0.9, over: 10min}\n"                                                   \
    "  latency_p99: {at_most: 5ms}\n"                                                              \
    "  false_alarms: {at_most: 1 per day}\n"                                                       \
    "retrain: {when: [accuracy.degraded], at_most: 4 per day}\n"                                   \
    "release:\n"                                                                                   \
    "  - gate: {better_on: recent, not_worse_on: {base: 0.02}}\n"                                  \
    "  - shadow: {until: 60 compared, at_most: 30min, otherwise: stop}\n"                          \
    "  - canary: {shares: [50%], margin: 0.1, at_most: 1h, otherwise: roll_back}\n"                \
    "  - probation: {for: 2min, roll_back_if: worse_than_previous}\n"
#endif

static const char recorded_yaml[] = RECORDED_YAML;

typedef struct recorder {
    ot_pipeline *p;
    int64_t run, ends_us; /* the run that is on; 0: none */
    char dir[OT_PATH_MAX], step[16];
    int trained;     /* bundles that were made */
    int64_t fall_us; /* from then on versions up to this one are often wrong */
    int64_t fallen;
    uint64_t seq, windows; /* numbers of rows and of pushes */
    uint64_t labelled;     /* the first row that has no label */
    uint64_t samples;
    ot_rng rng;
} recorder;

static void bail(const char *what, const ot_error *err)
{
    printf("Bail out! %s: %s\n", what, err->msg);
    exit(1);
}

static void rec_desired(void *self)
{
    (void)self;
}

static void rec_watch(void *self, int64_t run, int fd)
{
    (void)self, (void)run, (void)fd;
}

static ot_rc rec_async(void *self, ot_pipeline_work_fn *work, ot_pipeline_done_fn *done, void *arg,
                       ot_error *err)
{
    ot_error e = {0};
    (void)self, (void)err;
    ot_rc rc = work(arg, &e);
    done(arg, rc, &e);
    return OT_OK;
}

static ot_rc rec_start(void *self, const ot_pipeline_run *run, ot_error *err)
{
    recorder *r = self;
    (void)err;
    r->run = run->run;
    snprintf(r->dir, sizeof r->dir, "%s", run->dir);
    snprintf(r->step, sizeof r->step, "%s", run->step);
    r->ends_us = now_us + (strcmp(run->step, "train") == 0 ? 47 : 7) * SECOND;
    return OT_OK;
}

/* The new version is better on traffic. */
static const char recorded_result[] =
    "{\"data\":{\"base\":{\"rows\":300,\"candidate\":{\"accuracy\":0.95,\"right\":285},"
    "\"champion\":"
    "{\"accuracy\":0.95,\"right\":285},\"only_candidate\":5,\"only_champion\":5,\"p_better\":0.62,"
    "\"p_worse\":0.62},\"recent\":{\"rows\":200,\"candidate\":{\"accuracy\":0.96,\"right\":192},"
    "\"champion\":{\"accuracy\":0.6,\"right\":120},\"only_candidate\":80,\"only_champion\":8,"
    "\"p_better\":1e-15,\"p_worse\":1}}}";

static void copy_bundle(const char *from, const char *to)
{
    static const char *const files[] = {
        "manifest.json", "golden/golden.json",        "model/null.json",
        "lineage.json",  "reference/trained_on.hist", "reference/outputs.hist"};
    for (size_t i = 0; i < OT_COUNT(files); i++) {
        char path[OT_PATH_MAX];
        OT_AUTO(ot_str_done) ot_str bytes = OT_STR_INIT;
        snprintf(path, sizeof path, "%s/%s", from, files[i]);
        if (ot_disk_read_all(disk, path, 1u << 20, &bytes, NULL) == OT_OK) {
            snprintf(path, sizeof path, "%s/%s", to, files[i]);
            write_bytes(path, bytes.data, bytes.len);
        }
    }
}

static void rec_end(recorder *r)
{
    char path[OT_PATH_MAX], name[32];
    const char *argv[] = {"recorded"};
    ot_error err = {0};
    const ot_launch_spec spec = {.argv = argv, .n_argv = 1};
    const ot_launch_exit end = {.state = OT_LAUNCH_SUCCEEDED,
                                .started_us = r->ends_us - 5 * SECOND,
                                .ended_us = r->ends_us};
    now_us = OT_MAX(now_us, r->ends_us);
    if (strcmp(r->step, "train") == 0) {
        snprintf(path, sizeof path, "%s/work/out/model/x", r->dir);
        write_text(path, "x");
    } else if (strcmp(r->step, "package") == 0) {
        snprintf(path, sizeof path, "%s/bundle", r->dir);
        snprintf(name, sizeof name, "bundle-%d", 2 + r->trained++);
        copy_bundle(at(name), path);
    } else {
        snprintf(path, sizeof path, "%s/result.json", r->dir);
        write_text(path, recorded_result);
    }
    if (ot_launch_record(r->dir, &spec, &end, &err) != OT_OK) {
        bail(r->dir, &err);
    }
    int64_t run = r->run;
    r->run = 0;
    ot_pipeline_run_ended(r->p, run);
    ot_pipeline_tick(r->p);
}

/* Time passes as in a control plane. */
static void rec_advance(recorder *r, int64_t us)
{
    for (;;) {
        int64_t next = ot_pipeline_next_us(r->p);
        if (r->run != 0 && r->ends_us <= OT_MIN(next, us)) {
            rec_end(r);
        } else if (next <= us) {
            now_us = OT_MAX(now_us, next);
            ot_pipeline_tick(r->p);
        } else {
            break;
        }
    }
    now_us = us;
}

/* ---- replicas and labellers */

typedef struct serving {
    int64_t champion, canary, shadow;
    bool compare;
} serving;

static serving serves(recorder *r)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    ot_error err = {0};
    serving s = {0};
    if (ot_pipeline_desired(r->p, &text, &err) != OT_OK) {
        bail("desired", &err);
    }
    json_t *j = json_loads(text.data, 0, NULL);
    json_t *d = json_array_get(json_object_get(j, "deployments"), 0);
    json_t *list = json_object_get(d, "variants");
    s.compare = json_is_true(json_object_get(d, "compare"));
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *v = json_array_get(list, i);
        const char *role = json_string_value(json_object_get(v, "role"));
        int64_t version = json_integer_value(json_object_get(v, "version"));
        s.champion = role[0] == 'c' && role[1] == 'h' ? version : s.champion;
        s.canary = role[0] == 'c' && role[1] == 'a' ? version : s.canary;
        s.shadow = role[0] == 's' ? version : s.shadow;
    }
    json_decref(j);
    return s;
}

static int label_of(uint64_t seq)
{
    return (int)(seq * 7 % 3);
}

static int answer_of(recorder *r, int64_t version, uint64_t seq)
{
    double accuracy = version <= r->fallen && now_us >= r->fall_us ? 0.6 : 0.96;
    return ot_rng_uniform(&r->rng) < accuracy ? label_of(seq) : (label_of(seq) + 1) % 3;
}

static void rec_push(recorder *r, made_push *m)
{
    ot_error err = {0};
    if (ot_pipeline_push(r->p, m->json.data, m->json.len, m->bin.data, m->bin.len, &err) != OT_OK) {
        bail("push", &err);
    }
    made_push_done(m);
}

static void rec_answers(recorder *r, int64_t version, bool shadow, uint64_t first, size_t n)
{
    made_push m;
    int answers[ROWS];
    if (version == 0) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        answers[i] = answer_of(r, version, first + i);
    }
    sample_of s = {.deployment = "digits",
                   .version = version,
                   .shadow = shadow,
                   .seq = ++r->samples,
                   .first = first,
                   .rows = n,
                   .time_us = now_us - SECOND,
                   .answers = answers};
    make_sample(&s, &m);
    rec_push(r, &m);
}

static void rec_labels(recorder *r, uint64_t first, size_t n)
{
    static ot_label_in in[2 * ROWS * LABEL_EVERY + 1];
    static char ids[ROWS * LABEL_EVERY][64];
    ot_label_report report;
    ot_error err = {0};
    for (size_t i = 0; i < n; i++) {
        snprintf(ids[i], sizeof ids[i], "%s", id_of(FIRST_INCARNATION, first + i, 1));
        in[i] = (ot_label_in){.id = ids[i], .value = label_of(first + i), .source = "test"};
    }
    /* One is not known, the others come twice: all count in what a label weighs. */
    memcpy(in + n, in, n * sizeof *in);
    in[2 * n] = (ot_label_in){.id = "not an id", .value = 1};
    if (ot_pipeline_labels(r->p, "digits", in, 2 * n + 1, "anna", &report, &err) != OT_OK) {
        bail("labels", &err);
    }
}

/* One window's length: rows are answered and compared, labels come before or after their rows. */
static void rec_window(recorder *r, int64_t start_us, const law *rows, uint64_t latency_ns)
{
    made_push m;
    rec_advance(r, start_us + 3 * SECOND);
    serving s = serves(r);
    uint64_t first = r->seq;
    size_t live = s.canary > 0 ? ROWS / 2 : ROWS;
    r->seq += ROWS;
    bool early = LABEL_EVERY == 1 && start_us / WINDOW % 3 == 0;
    if (early) {
        rec_labels(r, first, ROWS);
        rec_advance(r, now_us + SECOND / 4);
    }
    rec_answers(r, s.champion, false, first, live);
    rec_answers(r, s.canary, false, first + live, ROWS - live);
    if (s.compare) {
        rec_advance(r, now_us + SECOND / 8);
        rec_answers(r, s.canary, true, first, s.canary > 0 ? live : 0);
        rec_answers(r, s.canary > 0 ? s.champion : 0, true, first + live, ROWS - live);
        rec_answers(r, s.shadow, true, first, ROWS);
    }
    if (!early && start_us / WINDOW % LABEL_EVERY == 0) {
        rec_advance(r, now_us + SECOND / 2);
        rec_labels(r, r->labelled, (size_t)(r->seq - r->labelled));
    }
    r->labelled = early || start_us / WINDOW % LABEL_EVERY == 0 ? r->seq : r->labelled;
    rec_advance(r, start_us + WINDOW + SECOND / 10);
    make_window(&(window_of){.deployment = "digits",
                             .role = "champion",
                             .version = s.champion,
                             .start_us = start_us,
                             .incarnation = FIRST_INCARNATION,
                             .seq = ++r->windows,
                             .law = *rows,
                             .rows = 200,
                             .latency_ns = latency_ns},
                &m);
    rec_push(r, &m);
}

static void rec_begin(recorder *r)
{
    ot_error err = {0};
    int64_t version;
    static char runs[OT_PATH_MAX];
    snprintf(runs, sizeof runs, "%s", scratch);
    *r = (recorder){.seq = 1, .labelled = 1, .fall_us = INT64_MAX, .fallen = 1};
    ot_rng_seed(&r->rng, 11);
    for (int i = 0; i < 4; i++) {
        add_version("spare", true);
    }
    ot_pipeline_config cfg = {.store = store,
                              .data_dir = runs,
                              .ports = {.self = r,
                                        .desired_changed = rec_desired,
                                        .async = rec_async,
                                        .watch_run = rec_watch,
                                        .start_run = rec_start}};
    ot_pipeline_adopted in = {
        .yaml = recorded_yaml, .file = "app.yaml", .dir = scratch, .bundle = at("bundle-1")};
    if (ot_pipeline_create(&cfg, &r->p, &err) != OT_OK ||
        ot_pipeline_adopt(r->p, &in, &version, &err) != OT_OK) {
        bail("pipeline", &err);
    }
    ot_pipeline_incarnation(r->p, "abcdef0123456789");
}

#endif
