/* Evidence that a test drives: the functions of quality/quality.h in memory, by deployment. What a
 * test sets stays over a destroyed and made-again pipeline, as a store would keep it. One thread.
 */
#ifndef OT_TESTS_UNIT_PIPELINE_FAKE_QUALITY_H
#define OT_TESTS_UNIT_PIPELINE_FAKE_QUALITY_H

#include "base/mem.h"
#include "quality/quality.h"
#include "store/events.h"

#include <stdio.h>
#include <string.h>

#define FAKES_MAX 4

struct ot_quality {
    char deployment[65];
    ot_store *store;
    ot_finding_fn *on_finding; /* NULL while no pipeline has it */
    void *arg;
    int64_t joined, labelled_rows;
    bool watched;
    ot_pair_watch watch;
    int n_watches; /* watches that began anew */
    ot_pair_state pair;
    int64_t promoted; /* the last version that it was told of */
    ot_accuracy accuracy;
    ot_service service;
    int fail_watches;   /* so many watches that ask for something new fail */
    bool deaf;          /* findings are in the log and nobody is told of them */
    bool fail_promoted; /* the next ot_quality_promoted fails, and its transaction with it */
};

static struct ot_quality fakes[FAKES_MAX];
static size_t n_fakes;

static struct ot_quality *fake_of(const char *deployment)
{
    for (size_t i = 0; i < n_fakes; i++) {
        if (strcmp(fakes[i].deployment, deployment) == 0) {
            return &fakes[i];
        }
    }
    if (n_fakes == FAKES_MAX) {
        return NULL;
    }
    struct ot_quality *q = &fakes[n_fakes++];
    snprintf(q->deployment, sizeof q->deployment, "%s", deployment);
    return q;
}

ot_rc ot_quality_create(ot_store *store, const ot_quality_config *cfg, ot_quality **out,
                        ot_error *err)
{
    struct ot_quality *q = fake_of(cfg->deployment);
    if (q == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "fake quality: more than %d deployments", FAKES_MAX);
    }
    q->store = store;
    q->on_finding = cfg->on_finding;
    q->arg = cfg->arg;
    *out = q;
    return OT_OK;
}

ot_rc ot_quality_configure(ot_quality *q, const ot_quality_config *cfg, ot_error *err)
{
    (void)err;
    q->on_finding = cfg->on_finding;
    q->arg = cfg->arg;
    return OT_OK;
}

void ot_quality_destroy(ot_quality *q)
{
    if (q != NULL) {
        q->on_finding = NULL;
    }
}

ot_rc ot_quality_push(ot_quality *q, const char *json, size_t json_len, const void *bin,
                      size_t bin_len, ot_error *err)
{
    (void)q, (void)json, (void)json_len, (void)bin, (void)bin_len, (void)err;
    return OT_OK;
}

ot_rc ot_quality_labels(ot_quality *q, const ot_label_in *labels, size_t n, const char *actor,
                        ot_label_report *out, ot_error *err)
{
    (void)labels, (void)actor, (void)err;
    *out = (ot_label_report){.accepted = (int64_t)n, .joined = (int64_t)n};
    q->joined += (int64_t)n;
    q->on_finding(q->arg, &(ot_finding){.kind = OT_FINDING_LABELS,
                                        .deployment = q->deployment,
                                        .labels_new = (int64_t)n});
    return OT_OK;
}

ot_rc ot_quality_watch(ot_quality *q, const ot_pair_watch *w, ot_error *err)
{
    const ot_pair_watch *o = &q->watch;
    bool same = q->watched && o->candidate == w->candidate && o->champion == w->champion &&
                o->since_us == w->since_us && o->margin == w->margin && o->alpha == w->alpha &&
                o->candidate_live_only == w->candidate_live_only;
    if (!same && q->fail_watches > 0) {
        q->fail_watches--;
        return ot_fail(err, OT_EXHAUSTED, "fake quality: asked to fail");
    }
    if (!same) {
        q->pair = (ot_pair_state){0};
        q->n_watches++;
    }
    q->watched = true;
    q->watch = *w;
    return OT_OK;
}

void ot_quality_unwatch(ot_quality *q)
{
    q->watched = false;
}

bool ot_quality_pair(const ot_quality *q, ot_pair_state *out)
{
    if (q->watched) {
        *out = q->pair;
    }
    return q->watched;
}

ot_rc ot_quality_promoted(ot_quality *q, ot_txn *txn, int64_t version, ot_error *err)
{
    (void)txn;
    if (q->fail_promoted) {
        q->fail_promoted = false;
        return ot_fail(err, OT_EXHAUSTED, "fake quality: asked to fail");
    }
    q->promoted = version;
    return OT_OK;
}

ot_rc ot_quality_accuracy(ot_quality *q, int64_t version, int64_t from_us, int64_t to_us,
                          ot_accuracy *out, ot_error *err)
{
    (void)version, (void)from_us, (void)to_us, (void)err;
    *out = q->accuracy;
    return OT_OK;
}

ot_rc ot_quality_service(ot_quality *q, int64_t from_us, int64_t to_us, int64_t p99_limit_us,
                         ot_service *out, ot_error *err)
{
    (void)from_us, (void)to_us, (void)p99_limit_us, (void)err;
    *out = q->service;
    return OT_OK;
}

int64_t ot_quality_labels_joined(const ot_quality *q)
{
    return q->joined;
}

ot_rc ot_quality_summary(ot_quality *q, ot_str *out, ot_error *err)
{
    (void)err;
    ot_str_addf(out, "{\"joined\":%lld}", (long long)q->joined);
    return OT_OK;
}

/* Rows of `x` in four numbers that differ from row to row. Rows of the base have a label from the
 * first two, rows of moved traffic from the last two, the other way round: a model can be right on
 * both, and one that saw the base alone is wrong on what moved. */
static ot_rc fake_rows(ot_table *t, int64_t n, bool moved, const char *label, ot_error *err)
{
    float *x = ot_calloc((size_t)n * 4, sizeof *x);
    int64_t *y = ot_calloc((size_t)n, sizeof *y);
    if (x == NULL || y == NULL) {
        ot_free(x);
        ot_free(y);
        return ot_fail(err, OT_EXHAUSTED, "no memory for rows");
    }
    uint32_t r = moved ? 12345 : 54321;
    for (int64_t i = 0; i < n; i++) {
        float v[2];
        for (int k = 0; k < 2; k++) {
            r = r * 1664525u + 1013904223u;
            v[k] = (float)(r >> 8) / (float)(1 << 24);
        }
        x[i * 4 + (moved ? 2 : 0)] = v[0];
        x[i * 4 + (moved ? 3 : 1)] = v[1];
        y[i] = moved ? v[1] > v[0] : v[0] > v[1];
    }
    ot_tensor tx = {.dtype = OT_DT_FP32,
                    .rank = 2,
                    .dims = {n, 4},
                    .data = x,
                    .size_bytes = (size_t)n * 4 * sizeof *x};
    ot_tensor ty = {.dtype = OT_DT_INT64,
                    .rank = 1,
                    .dims = {n},
                    .data = y,
                    .size_bytes = (size_t)n * sizeof *y};
    ot_rc rc = ot_table_add_owned(t, "x", &tx, x, err);
    if (rc != OT_OK) {
        ot_free(y);
        return rc;
    }
    OT_TRY(ot_table_add_owned(t, label, &ty, y, err));
    return ot_table_set_label(t, label, err);
}

ot_rc ot_quality_labelled(ot_quality *q, int64_t since_us, int64_t max_rows, const char *label,
                          ot_table *t_out, ot_error *err)
{
    (void)since_us;
    if (q->labelled_rows == 0) {
        return ot_fail(err, OT_NOT_FOUND, "no labelled rows");
    }
    ot_table_init(t_out);
    ot_rc rc = fake_rows(t_out, OT_MIN(q->labelled_rows, max_rows), true, label, err);
    if (rc != OT_OK) {
        ot_table_done(t_out);
    }
    return rc;
}

/* ------------------------------------------------------------------ driven by the test */

struct fake_event {
    const char *type, *deployment;
    uint64_t seq;
};

static ot_rc fake_append(ot_txn *txn, void *arg, ot_error *err)
{
    struct fake_event *e = arg;
    char object[96];
    snprintf(object, sizeof object, "deployment/%s", e->deployment);
    ot_event_in in = {.actor = "overtake",
                      .type = e->type,
                      .object = object,
                      .payload = "{\"text\":\"found by the evidence\"}"};
    return ot_event_append(txn, &in, &e->seq, err);
}

/* Leaves the finding's event, as quality does, and reports it. Returns the event's number. */
__attribute__((unused)) static uint64_t fake_find(const char *deployment, ot_finding_kind kind)
{
    static const char *const types[] = {"drift.detected", "quality.at_risk", "quality.degraded",
                                        "quality.recovered"};
    struct ot_quality *q = fake_of(deployment);
    struct fake_event e = {.type = types[kind], .deployment = deployment};
    ot_error err = {0};
    if (ot_store_write(q->store, fake_append, &e, &err) != OT_OK) {
        printf("# finding not written: %s\n", err.msg);
        return 0;
    }
    if (q->deaf) {
        return e.seq;
    }
    q->on_finding(q->arg, &(ot_finding){.kind = kind,
                                        .deployment = deployment,
                                        .event_seq = e.seq,
                                        .text = "found by the evidence"});
    return e.seq;
}

/* The comparison now stands like this. */
__attribute__((unused)) static void fake_pair(const char *deployment, int64_t compared,
                                              ot_pair_verdict verdict)
{
    struct ot_quality *q = fake_of(deployment);
    q->pair.compared = compared;
    q->pair.verdict = verdict;
    q->on_finding(q->arg, &(ot_finding){.kind = OT_FINDING_PAIR, .deployment = deployment});
}

#endif
