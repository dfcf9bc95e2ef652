/* The state of the labels half: kept with every intake, read again when it is stale. */
#include "quality/labels.h"

#include "base/log.h"
#include "store/blob.h"
#include "store/models.h"
#include "store/windows.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define PART "labels"

/* ---- tests as text */

static json_t *hex_of(const ot_degrade *d)
{
    OT_AUTO(ot_str_done) ot_str bytes = OT_STR_INIT;
    OT_AUTO(ot_str_done) ot_str hex = OT_STR_INIT;
    ot_degrade_write(d, &bytes);
    for (size_t i = 0; i < bytes.len; i++) {
        ot_str_addf(&hex, "%02x", (unsigned)(uint8_t)bytes.data[i]);
    }
    return bytes.failed || hex.failed ? NULL : json_string(hex.data);
}

static ot_rc read_hex(const json_t *v, ot_degrade *d, ot_error *err)
{
    uint8_t bytes[4096];
    const char *hex = json_string_value(v);
    size_t n = hex != NULL ? strlen(hex) / 2 : 0;
    if (n == 0 || n > sizeof bytes || !ot_unhex(hex, n, bytes)) {
        return ot_fail(err, OT_DATA_LOSS, "the state of the label test is damaged");
    }
    return ot_degrade_read(d, bytes, n, err);
}

/* ---- the state as JSON */

static json_t *counts_json(const ot_pair_counts *c)
{
    return json_pack("[I,I,I,I,I]", (json_int_t)c->n, (json_int_t)c->candidate_right,
                     (json_int_t)c->champion_right, (json_int_t)c->only_candidate,
                     (json_int_t)c->only_champion);
}

static ot_pair_counts counts_of(const json_t *a)
{
    return (ot_pair_counts){.n = json_integer_value(json_array_get(a, 0)),
                            .candidate_right = json_integer_value(json_array_get(a, 1)),
                            .champion_right = json_integer_value(json_array_get(a, 2)),
                            .only_candidate = json_integer_value(json_array_get(a, 3)),
                            .only_champion = json_integer_value(json_array_get(a, 4))};
}

static json_t *watch_json(const q_labels_state *s)
{
    const ot_pair_watch *w = &s->watch;
    return json_pack("{s:I,s:I,s:I,s:f,s:f,s:b,s:o,s:o,s:I}", "candidate", (json_int_t)w->candidate,
                     "champion", (json_int_t)w->champion, "since_us", (json_int_t)w->since_us,
                     "margin", w->margin, "alpha", w->alpha, "live_only", w->candidate_live_only,
                     "all", counts_json(&s->all), "arm", counts_json(&s->arm), "answered",
                     (json_int_t)s->answered);
}

static void watch_parse(const json_t *j, q_labels_state *s)
{
    s->watching = json_is_object(j);
    s->watch = (ot_pair_watch){
        .candidate = json_integer_value(json_object_get(j, "candidate")),
        .champion = json_integer_value(json_object_get(j, "champion")),
        .since_us = json_integer_value(json_object_get(j, "since_us")),
        .margin = json_number_value(json_object_get(j, "margin")),
        .alpha = json_number_value(json_object_get(j, "alpha")),
        .candidate_live_only = json_is_true(json_object_get(j, "live_only")),
    };
    s->all = counts_of(json_object_get(j, "all"));
    s->arm = counts_of(json_object_get(j, "arm"));
    s->answered = json_integer_value(json_object_get(j, "answered"));
}

static json_t *state_json(const q_labels_state *s)
{
    return json_pack("{s:I,s:b,s:b,s:o,s:o,s:I,s:I,s:I,s:I,s:I,s:o,s:I,s:I,s:I}", "champion",
                     (json_int_t)s->champion, "testing", s->testing, "degraded", s->degraded,
                     "degrade", s->testing ? hex_of(&s->degrade) : json_null(), "recover",
                     s->degraded ? hex_of(&s->recover) : json_null(), "tested_us",
                     (json_int_t)s->tested_us, "joined", (json_int_t)s->joined, "segments",
                     (json_int_t)s->segments, "dropped_rows", (json_int_t)s->dropped_rows, "bytes",
                     (json_int_t)s->bytes, "watch", s->watching ? watch_json(s) : json_null(),
                     "told_us", (json_int_t)s->told_us, "untold_rows", (json_int_t)s->untold_rows,
                     "untold_segments", (json_int_t)s->untold_segments);
}

ot_rc q_labels_save(ot_txn *txn, const ot_quality *q, const q_labels_state *st, ot_error *err)
{
    json_t *j = state_json(st);
    char *text = j != NULL ? json_dumps(j, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(j);
    if (text == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "labels of %s: no memory", q->cfg.deployment);
    }
    ot_rc rc = ot_quality_state_set(txn, q->cfg.deployment, PART, text, strlen(text), err);
    free(text);
    return rc;
}

static ot_rc parse_state(const char *text, size_t n, q_labels_state *out, ot_error *err)
{
    q_labels_state s = {0};
    ot_rc rc = OT_OK;
    json_t *j = json_loadb(text, n, 0, NULL);
    if (!json_is_object(j)) {
        rc = ot_fail(err, OT_DATA_LOSS, "the state of the labels is damaged");
    } else {
        s.champion = json_integer_value(json_object_get(j, "champion"));
        s.testing = json_is_true(json_object_get(j, "testing"));
        s.degraded = json_is_true(json_object_get(j, "degraded"));
        s.tested_us = json_integer_value(json_object_get(j, "tested_us"));
        s.joined = json_integer_value(json_object_get(j, "joined"));
        s.segments = json_integer_value(json_object_get(j, "segments"));
        s.dropped_rows = json_integer_value(json_object_get(j, "dropped_rows"));
        s.bytes = (uint64_t)json_integer_value(json_object_get(j, "bytes"));
        s.told_us = json_integer_value(json_object_get(j, "told_us"));
        s.untold_rows = json_integer_value(json_object_get(j, "untold_rows"));
        s.untold_segments = json_integer_value(json_object_get(j, "untold_segments"));
        watch_parse(json_object_get(j, "watch"), &s);
    }
    if (rc == OT_OK && s.testing) {
        rc = read_hex(json_object_get(j, "degrade"), &s.degrade, err);
    }
    if (rc == OT_OK && s.degraded) {
        rc = read_hex(json_object_get(j, "recover"), &s.recover, err);
    }
    json_decref(j);
    if (rc == OT_OK) {
        *out = s;
    }
    return rc;
}

static ot_rc load(ot_txn *txn, void *arg, ot_error *err)
{
    ot_quality *q = arg;
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    q_labels_state st = {0};
    ot_error e = {0};
    ot_rc rc = ot_quality_state_get(txn, q->cfg.deployment, PART, &text, &e);
    if (rc == OT_OK) {
        rc = parse_state(text.data, text.len, &st, &e);
    } else if (rc == OT_NOT_FOUND) {
        rc = OT_OK;
    }
    if (rc == OT_OK) {
        q->labels->st = st;
        q->labels->stale = false;
        return OT_OK;
    }
    return ot_fail(err, rc, "labels of %s: %s", q->cfg.deployment, e.msg);
}

ot_rc q_labels_fresh(ot_quality *q, ot_error *err)
{
    return q->labels->stale ? ot_store_read(q->store, load, q, err) : OT_OK;
}

/* ---- life */

static ot_rc can_judge(ot_txn *txn, ot_quality *q, int64_t version, bool *out, ot_error *err)
{
    q_kind k;
    ot_error e = {0};
    ot_rc rc = q_version_kind(txn, q, version, &k, &e);
    if (rc != OT_OK && rc != OT_NOT_FOUND) {
        return ot_fail(err, rc, "labels of %s: %s", q->cfg.deployment, e.msg);
    }
    *out = rc == OT_OK && (k.kind == OT_PREDICTION_SCORES || k.kind == OT_PREDICTION_LABEL);
    return OT_OK;
}

ot_rc q_labels_restart(ot_txn *txn, ot_quality *q, q_labels_state *st, ot_error *err)
{
    st->degraded = st->testing = false;
    if (st->champion > 0 && q->cfg.accuracy_at_least > 0) {
        OT_TRY(can_judge(txn, q, st->champion, &st->testing, err));
    }
    if (!st->testing) {
        return OT_OK;
    }
    return ot_degrade_init(&st->degrade, 1 - q->cfg.accuracy_at_least, 1,
                           q_blocks_per_alarm(&q->cfg, Q_LABELS_SHARE), err);
}

struct change {
    ot_quality *q;
    q_labels_state next;
};

static ot_rc restart(ot_txn *txn, void *arg, ot_error *err)
{
    struct change *c = arg;
    bool tell = c->q->labels->st.testing;
    uint64_t seq;
    c->next = c->q->labels->st;
    OT_TRY(q_labels_restart(txn, c->q, &c->next, err));
    if (tell) {
        OT_TRY(
            q_event(txn, c->q, "quality.restarted", NULL,
                    json_pack("{s:s}", "text", "the label test starts anew: its objective changed"),
                    &seq, err));
    }
    return q_labels_save(txn, c->q, &c->next, err);
}

/* What a test of now would begin with. */
static ot_rc begin_now(ot_txn *txn, void *arg, ot_error *err)
{
    struct change *c = arg;
    c->next = c->q->labels->st;
    return q_labels_restart(txn, c->q, &c->next, err);
}

/* Begins the test anew if it was not made with today's settings. */
static ot_rc restart_if_changed(ot_quality *q, ot_error *err)
{
    struct change c = {.q = q};
    const q_labels_state *st = &q->labels->st;
    OT_TRY(ot_store_read(q->store, begin_now, &c, err));
    if (c.next.testing == st->testing &&
        (!st->testing || (c.next.degrade.theta0 == st->degrade.theta0 &&
                          c.next.degrade.threshold == st->degrade.threshold))) {
        return OT_OK;
    }
    OT_TRY(ot_store_write(q->store, restart, &c, err));
    q->labels->st = c.next;
    return OT_OK;
}

ot_rc q_labels_create(ot_quality *q, ot_error *err)
{
    q->labels = ot_calloc(1, sizeof *q->labels);
    if (q->labels == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "labels of %s: no memory", q->cfg.deployment);
    }
    q->labels->stale = true;
    OT_TRY(q_labels_fresh(q, err));
    return restart_if_changed(q, err);
}

void q_labels_destroy(q_labels *l)
{
    ot_free(l);
}

ot_rc q_labels_configure(ot_quality *q, const ot_quality_config *before, ot_error *err)
{
    (void)before; /* what the test was made with is kept with it */
    OT_TRY(q_labels_fresh(q, err));
    return restart_if_changed(q, err);
}

ot_rc q_labels_promoted(ot_quality *q, ot_txn *txn, int64_t version, ot_error *err)
{
    /* Inside somebody's transaction nothing can be read anew by another one; a stale state is read
     * through this one. */
    if (q->labels->stale) {
        OT_TRY(load(txn, q, err));
    }
    q->labels->stale = true; /* what follows may be undone */
    q_labels_state next = q->labels->st;
    next.champion = version;
    OT_TRY(q_labels_restart(txn, q, &next, err));
    return q_labels_save(txn, q, &next, err);
}

/* ---- versions */

/* A bundle is named by the digest of its manifest, which is therefore a blob of that name. */
ot_rc q_version_manifest(ot_txn *txn, const ot_quality *q, int64_t version, ot_manifest *m_out,
                         ot_error *err)
{
    ot_version_row v;
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    OT_TRY(ot_version_get(txn, q->cfg.model, version, &v, err));
    OT_TRY(ot_blob_read(ot_txn_store(txn), &v.bundle, OT_MANIFEST_BYTES_MAX, &text, err));
    return ot_manifest_parse(text.data, text.len, m_out, err);
}

ot_rc q_version_kind(ot_txn *txn, ot_quality *q, int64_t version, q_kind *out, ot_error *err)
{
    q_labels *l = q->labels;
    for (size_t i = 0; i < l->n_kinds; i++) {
        if (l->kinds[i].version == version) {
            *out = l->kinds[i];
            return OT_OK;
        }
    }
    OT_AUTO(ot_manifest_done) ot_manifest m = {0};
    OT_TRY(q_version_manifest(txn, q, version, &m, err));
    q_kind k = {.version = version, .kind = m.prediction_kind};
    if (k.kind != OT_PREDICTION_NONE) {
        snprintf(k.output, sizeof k.output, "%s", m.outputs[m.prediction_output].name);
    }
    if (l->n_kinds == Q_KINDS_MAX) {
        memmove(l->kinds, l->kinds + 1, (Q_KINDS_MAX - 1) * sizeof l->kinds[0]);
        l->n_kinds--;
    }
    l->kinds[l->n_kinds++] = k;
    *out = k;
    return OT_OK;
}
