/* A store with a real model, a clock that stands where it is put, and replicas' windows of drawn
 * rows: two inputs x_0, x_1 (normal), three classes with a confidence. One thread. */
#ifndef OT_TESTS_WINDOW_FIXTURE_H
#define OT_TESTS_WINDOW_FIXTURE_H

#include "base/clock.h"
#include "base/random.h"
#include "model/reference.h"
#include "quality/internal.h"
#include "registry/registry.h"
#include "stats/latency.h"
#include "store/windows.h"
#include "unit/bundle_fixture.h"

#include <inttypes.h>
#include <time.h>

#define SECOND INT64_C(1000000)
#ifndef WINDOW
#define WINDOW (5 * SECOND)
#define BLOCK (10 * SECOND)
#endif
#ifndef INPUTS
#define INPUTS 2
#endif
#define BEGIN (INT64_C(1700000000) * SECOND / BLOCK * BLOCK) /* a block's start, November 2023 */

static ot_store *store;
static ot_reference inputs_ref, outputs_ref;

/* ---- the clock */

static int64_t now_us;

static uint64_t clock_mono(void *self)
{
    struct timespec ts;
    (void)self;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int64_t clock_wall(void *self)
{
    (void)self;
    return now_us;
}

static void clock_sleep(void *self, uint64_t us)
{
    (void)self;
    now_us += (int64_t)us;
}

static const ot_clock_source clock_source = {clock_mono, clock_wall, clock_sleep, NULL};

/* ---- rows */

typedef struct law {
    double shift_0, shift_1;
    double confidence; /* mean; 0: 0.8 */
    double class_2;    /* share; 0: 0.3 */
} law;

#define ROWS_MAX 4000
static float drawn_x[ROWS_MAX][INPUTS], drawn_y[ROWS_MAX][2]; /* x_k; prediction, confidence */

static void draw(ot_rng *r, const law *l, size_t n)
{
    double mean = l->confidence > 0 ? l->confidence : 0.8;
    double share = l->class_2 > 0 ? l->class_2 : 0.3;
    for (size_t i = 0; i < n; i++) {
        double u = ot_rng_uniform(r);
        drawn_x[i][0] = (float)(ot_rng_normal(r) + l->shift_0);
        drawn_x[i][1] = (float)(ot_rng_normal(r) + l->shift_1);
        for (size_t k = 2; k < INPUTS; k++) {
            drawn_x[i][k] = (float)ot_rng_normal(r);
        }
        drawn_y[i][0] = u < share ? 2 : u < share + (1 - share) / 2 ? 1 : 0;
        drawn_y[i][1] = (float)fmin(mean + 0.1 * ot_rng_normal(r), 1);
    }
}

__attribute__((unused)) static void make_references(void)
{
    ot_rng r;
    ot_error e = {0};
    ot_prediction p[ROWS_MAX];
    ot_rng_seed(&r, 7);
    draw(&r, &(law){0}, ROWS_MAX);
    ot_tensor x = {.name = "x",
                   .dtype = OT_DT_FP32,
                   .rank = 2,
                   .dims = {ROWS_MAX, INPUTS},
                   .data = drawn_x,
                   .size_bytes = sizeof drawn_x};
    for (size_t i = 0; i < ROWS_MAX; i++) {
        p[i] = (ot_prediction){.label = (int64_t)drawn_y[i][0],
                               .value = (double)drawn_y[i][0],
                               .confidence = (double)drawn_y[i][1]};
    }
    if (ot_reference_of_inputs(&x, 1, ROWS_MAX, &inputs_ref, &e) != OT_OK ||
        ot_reference_of_predictions(OT_PREDICTION_SCORES, p, ROWS_MAX, &outputs_ref, &e) != OT_OK) {
        printf("Bail out! %s\n", e.msg);
        exit(1);
    }
}

/* Registers the next version of `model`, with references or without. */
__attribute__((unused)) static int64_t add_version(const char *model, bool references)
{
    static int count;
    ot_error e = {0};
    ot_digest d;
    ot_registered reg;
    char name[32], content[64];
    OT_AUTO(ot_str_done) ot_str in = OT_STR_INIT;
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    OT_AUTO(ot_manifest_done) ot_manifest sig = {0};
    snprintf(name, sizeof name, "bundle-%d", ++count);
    snprintf(content, sizeof content, "{\"n\": %d}", count);
    write_text(at("fixture-model/null.json"), content);
    ot_rc rc = ot_manifest_parse_signature(FIXTURE_SIGNATURE, strlen(FIXTURE_SIGNATURE), &sig, &e);
    ot_bundle_parts parts = {.model_path = at("fixture-model"),
                             .signature = &sig,
                             .golden = {FIXTURE_GOLDEN, strlen(FIXTURE_GOLDEN)}};
    if (rc == OT_OK && references) {
        rc = ot_reference_write(&inputs_ref, &in, &e);
        rc = rc == OT_OK ? ot_reference_write(&outputs_ref, &out, &e) : rc;
        parts.trained_on = (ot_bytes){in.data, in.len};
        parts.outputs = (ot_bytes){out.data, out.len};
    }
    if (rc == OT_OK) {
        rc = ot_bundle_build(disk, at(name), &parts, &d, &e);
    }
    if (rc == OT_OK) {
        rc = ot_registry_register(store, at(name), &(ot_register){.model = model}, &reg, &e);
    }
    if (rc != OT_OK) {
        printf("Bail out! version of %s: %s\n", model, e.msg);
        exit(1);
    }
    return reg.version;
}

/* ---- findings */

typedef struct heard {
    int drift, at_risk, other;
    uint64_t last_seq;
    char last[512];
} heard;

static void hear(void *arg, const ot_finding *f)
{
    heard *h = arg;
    h->drift += f->kind == OT_FINDING_DRIFT;
    h->at_risk += f->kind == OT_FINDING_AT_RISK;
    h->other += f->kind != OT_FINDING_DRIFT && f->kind != OT_FINDING_AT_RISK;
    h->last_seq = f->event_seq;
    snprintf(h->last, sizeof h->last, "%s", f->text);
}

/* 8 blocks are a day, the baseline is 4 of them; 1,000 blocks a false alarm of the inputs. */
static ot_quality_config config_of(const char *deployment, heard *h)
{
    return (ot_quality_config){.deployment = deployment,
                               .model = "digits",
                               .app = "app",
                               .window_us = WINDOW,
                               .block_us = BLOCK,
                               .blocks_per_day = 8,
                               .baseline_days = 4,
                               .ignore_smaller = 0.1,
                               .false_alarms_per_year = 31536000e6 / (double)BLOCK / 500,
                               .sample_max_bytes = 1u << 30,
                               .sample_keep_us = 86400 * SECOND,
                               .on_finding = hear,
                               .arg = h};
}

__attribute__((unused)) static ot_quality *open_quality(const ot_quality_config *cfg)
{
    ot_quality *q = NULL;
    ot_error e = {0};
    if (ot_quality_create(store, cfg, &q, &e) != OT_OK) {
        printf("Bail out! evidence of %s: %s\n", cfg->deployment, e.msg);
        exit(1);
    }
    return q;
}

typedef struct promote_ask {
    ot_quality *q;
    int64_t version;
    ot_rc after; /* what the transaction ends with */
} promote_ask;

static ot_rc promote_txn(ot_txn *txn, void *arg, ot_error *err)
{
    promote_ask *a = arg;
    OT_TRY(ot_quality_promoted(a->q, txn, a->version, err));
    return a->after;
}

__attribute__((unused)) static void promote(ot_quality *q, int64_t version)
{
    ot_error e = {0};
    promote_ask a = {.q = q, .version = version};
    if (ot_store_write(store, promote_txn, &a, &e) != OT_OK) {
        ok(false, "promoted: %s", e.msg);
    }
}

/* ---- windows */

/* A push as a replica makes it. */
typedef struct made_push {
    ot_str json, bin;
} made_push;

static void made_push_done(made_push *m)
{
    ot_str_done(&m->json);
    ot_str_done(&m->bin);
}

typedef struct window_of {
    const char *deployment, *role;
    int64_t version, start_us;
    uint64_t incarnation, seq;
    law law;
    size_t rows;
    uint64_t latency_ns;
} window_of;

static void make_window(const window_of *w, made_push *m)
{
    ot_rng r;
    ot_error e;
    ot_hist_table in, out;
    ot_latency latency = {0};
    *m = (made_push){OT_STR_INIT, OT_STR_INIT};
    /* The same window has the same rows, whoever sends it when. */
    ot_rng_seed(&r, (uint64_t)w->start_us + w->incarnation);
    draw(&r, &w->law, w->rows);
    if (ot_hist_table_init(&in, inputs_ref.schema, &e) != OT_OK ||
        ot_hist_table_init(&out, outputs_ref.schema, &e) != OT_OK) {
        printf("Bail out! no memory\n");
        exit(1);
    }
    ot_hist_add_rows(inputs_ref.schema, &in, &drawn_x[0][0], w->rows, INPUTS);
    ot_hist_add_rows(outputs_ref.schema, &out, &drawn_y[0][0], w->rows, 2);
    for (size_t i = 0; i < w->rows; i++) {
        ot_latency_add(&latency, w->latency_ns > 0 ? w->latency_ns : 1000000);
    }
    ot_hist_table_write(&in, &m->bin);
    size_t n_in = m->bin.len;
    ot_hist_table_write(&out, &m->bin);
    size_t n_out = m->bin.len - n_in;
    ot_latency_write(&latency, &m->bin);
    ot_str_addf(
        &m->json,
        "{\"stream\":\"window\",\"seq\":%" PRIu64 ",\"incarnation\":\"%016" PRIx64
        "\",\"deployment\":\"%s\",\"model\":\"digits\",\"version\":%" PRId64
        ",\"role\":\"%s\",\"start_us\":%" PRId64 ",\"length_us\":%" PRId64
        ",\"requests\":%zu,\"rows\":%zu,\"failed\":1,\"latency\":{\"p50_us\":%.3f,"
        "\"p99_us\":%.3f},\"inputs_bytes\":%zu,\"outputs_bytes\":%zu,\"latency_bytes\":%zu}",
        w->seq, w->incarnation, w->deployment, w->version, w->role, w->start_us, WINDOW, w->rows,
        w->rows, (double)ot_latency_quantile(&latency, 0.5) / 1000,
        (double)ot_latency_quantile(&latency, 0.99) / 1000, n_in, n_out, m->bin.len - n_in - n_out);
    ot_hist_table_done(&in);
    ot_hist_table_done(&out);
}

static ot_rc push_made(ot_quality *q, const made_push *m, ot_error *err)
{
    return ot_quality_push(q, m->json.data, m->json.len, m->bin.data, m->bin.len, err);
}

static ot_rc push_window(ot_quality *q, const window_of *w)
{
    made_push m;
    ot_error e = {0};
    now_us = OT_MAX(now_us, w->start_us + WINDOW);
    make_window(w, &m);
    ot_rc rc = push_made(q, &m, &e);
    if (rc != OT_OK) {
        printf("# push: %s\n", e.msg);
    }
    made_push_done(&m);
    return rc;
}

/* A replica's stream to one deployment. */
typedef struct replica {
    window_of w; /* deployment, role, version, incarnation, rows, law; the rest as it goes */
} replica;

/* The two windows of block k (from BEGIN); counts refusals. */
__attribute__((unused)) static int push_block(ot_quality *q, replica *r, int64_t k)
{
    int bad = 0;
    for (int64_t i = 0; i < 2; i++) {
        r->w.start_us = BEGIN + k * BLOCK + i * WINDOW;
        r->w.seq++;
        bad += push_window(q, &r->w) != OT_OK;
    }
    return bad;
}

/* Pushes blocks [from, to). */
__attribute__((unused)) static int push_blocks(ot_quality *q, replica *r, int64_t from, int64_t to)
{
    int bad = 0;
    for (int64_t k = from; k < to; k++) {
        bad += push_block(q, r, k);
    }
    return bad;
}

__attribute__((unused)) static replica replica_of(const char *deployment, int64_t version)
{
    return (replica){{.deployment = deployment,
                      .role = "champion",
                      .version = version,
                      .incarnation = 0xabc,
                      .rows = 200}};
}

/* ---- looking */

typedef struct look {
    const char *deployment, *type, *part;
    char object[96];
    int n;
    ot_str last;
} look;

static ot_rc look_event(void *arg, const ot_event *e, ot_error *err)
{
    look *l = arg;
    (void)err;
    if (strcmp(e->type, l->type) == 0) {
        l->n++;
        ot_str_clear(&l->last);
        ot_str_adds(&l->last, e->payload);
    }
    return OT_OK;
}

static ot_rc look_txn(ot_txn *txn, void *arg, ot_error *err)
{
    look *l = arg;
    snprintf(l->object, sizeof l->object, "deployment/%s", l->deployment);
    ot_event_query query = {.object = l->object, .limit = 10000};
    return ot_events_read(txn, &query, look_event, l, err);
}

/* How many events of a type; `last` (may be NULL) gets the newest payload. */
__attribute__((unused)) static int events_of(const char *deployment, const char *type, ot_str *last)
{
    look l = {.deployment = deployment, .type = type, .last = OT_STR_INIT};
    ot_error e = {0};
    if (ot_store_read(store, look_txn, &l, &e) != OT_OK) {
        ok(false, "events: %s", e.msg);
    }
    if (last != NULL) {
        ot_str_clear(last);
        ot_str_adds(last, l.last.data);
    }
    ot_str_done(&l.last);
    return l.n;
}

static ot_rc part_txn(ot_txn *txn, void *arg, ot_error *err)
{
    look *l = arg;
    return ot_quality_state_get(txn, l->deployment, l->part, &l->last, err);
}

/* A part of the kept state; empty when there is none. */
__attribute__((unused)) static void state_part(const char *deployment, const char *part,
                                               ot_str *out)
{
    look l = {.deployment = deployment, .part = part, .last = OT_STR_INIT};
    ot_error e = {0};
    (void)!ot_store_read(store, part_txn, &l, &e);
    ot_str_clear(out);
    ot_str_add(out, l.last.data, l.last.len);
    ot_str_done(&l.last);
}

/* Both detectors of two deployments are the same, byte for byte. */
__attribute__((unused)) static bool same_state(const char *a, const char *b)
{
    static const char *const parts[] = {"drift.inputs", "drift.outputs"};
    OT_AUTO(ot_str_done) ot_str x = OT_STR_INIT;
    OT_AUTO(ot_str_done) ot_str y = OT_STR_INIT;
    bool same = true;
    for (size_t i = 0; i < OT_COUNT(parts); i++) {
        state_part(a, parts[i], &x);
        state_part(b, parts[i], &y);
        same = same && x.len > 100 && x.len == y.len && memcmp(x.data, y.data, x.len) == 0;
    }
    return same;
}

/* The summary's "drift"; the caller lets it go. */
__attribute__((unused)) static json_t *drift_of(ot_quality *q)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    ot_error e = {0};
    if (ot_quality_summary(q, &text, &e) != OT_OK) {
        ok(false, "summary: %s", e.msg);
    }
    json_t *all = json_loadb(text.data, text.len, 0, NULL);
    json_t *d = json_incref(json_object_get(all, "drift"));
    json_decref(all);
    return d;
}

__attribute__((unused)) static int64_t drift_int(ot_quality *q, const char *key)
{
    json_t *d = drift_of(q), *v = json_object_get(d, key);
    int64_t x = json_is_boolean(v)   ? json_is_true(v)
                : json_is_integer(v) ? json_integer_value(v)
                                     : -1;
    json_decref(d);
    return x;
}

__attribute__((unused)) static void fixture_start(void)
{
    ot_error e = {0};
    setenv("TZ", "UTC", 1);
    tzset();
    now_us = BEGIN;
    ot_clock_install(&clock_source);
    scratch_start();
    make_references();
    if (ot_store_open(disk, at("store"), NULL, &store, &e) != OT_OK) {
        printf("Bail out! %s\n", e.msg);
        exit(1);
    }
}

__attribute__((unused)) static void fixture_end(void)
{
    ot_store_close(store);
    ot_clock_install(NULL);
    ot_reference_done(&inputs_ref);
    ot_reference_done(&outputs_ref);
    scratch_end();
}

#endif
