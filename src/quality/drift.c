/* Intake of windows: checked, stored, merged into blocks; a block that closes becomes evidence. */
#include "quality/drift.h"

#include "base/clock.h"
#include "stats/latency.h"
#include "store/tally.h"
#include "store/windows.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LENGTH_MAX_US (31 * INT64_C(86400000000))
#define COUNT_MAX (INT64_C(1) << 40) /* sums of them stay far from overflow */
#define LATENCY_MAX_US 1e15
#define AHEAD_US (60 * INT64_C(1000000)) /* of clocks, beside a block */
#define EXPIRE_EACH 8                    /* old windows deleted with each that comes */

/* ---- what a push says */

static ot_rc get_part(const q_push *p, const char *key, size_t *at, const uint8_t **part_out,
                      size_t *n_out, ot_error *err)
{
    int64_t n;
    OT_TRY(q_get_int(p->json, key, 0, OT_WINDOW_BLOB_MAX, &n, err));
    if ((uint64_t)n > p->bin_len - *at) {
        return ot_fail(err, OT_INVALID, "push: '%s' is %" PRId64 " and %zu bytes are left of %zu",
                       key, n, p->bin_len - *at, p->bin_len);
    }
    *part_out = n == 0 ? NULL : p->bin + *at;
    *n_out = (size_t)n;
    *at += (size_t)n;
    return OT_OK;
}

static ot_rc get_binary(const q_push *p, q_window *w, ot_error *err)
{
    size_t at = 0, used = 0;
    OT_TRY(get_part(p, "inputs_bytes", &at, &w->part[Q_INPUTS], &w->n_part[Q_INPUTS], err));
    OT_TRY(get_part(p, "outputs_bytes", &at, &w->part[Q_OUTPUTS], &w->n_part[Q_OUTPUTS], err));
    OT_TRY(get_part(p, "latency_bytes", &at, &w->latency, &w->n_latency, err));
    if (at != p->bin_len) {
        return ot_fail(err, OT_INVALID,
                       "push: 'inputs_bytes', 'outputs_bytes' and 'latency_bytes' add to %zu; the "
                       "binary part has %zu bytes",
                       at, p->bin_len);
    }
    ot_latency latency;
    if (ot_latency_read(&latency, w->latency, w->n_latency, &used, err) != OT_OK ||
        used != w->n_latency) {
        return ot_fail(err, OT_INVALID, "push: the %zu bytes of its latency histogram are damaged",
                       w->n_latency);
    }
    return OT_OK;
}

static ot_rc get_times(const ot_quality *q, const json_t *o, q_window *w, ot_error *err)
{
    int64_t latest = ot_clock_wall_us() + q->cfg.block_us + AHEAD_US;
    OT_TRY(q_get_int(o, "start_us", 0, INT64_MAX / 4, &w->start_us, err));
    OT_TRY(q_get_int(o, "length_us", 1, LENGTH_MAX_US, &w->length_us, err));
    if (w->start_us > latest) {
        char start[32], now[32];
        return ot_fail(err, OT_INVALID,
                       "push: 'start_us' is %s and here it is %s; set the replica's clock",
                       ot_format_time(w->start_us, start), ot_format_time(ot_clock_wall_us(), now));
    }
    return OT_OK;
}

static ot_rc get_window(const ot_quality *q, const q_push *p, q_window *w, ot_error *err)
{
    const json_t *o = p->json, *latency = json_object_get(o, "latency");
    ot_window_role role;
    *w = (q_window){0};
    OT_TRY(q_get_int(o, "version", 1, COUNT_MAX, &w->version, err));
    OT_TRY(q_get_text(o, "role", &w->role, err));
    if (!ot_window_role_parse(w->role, &role)) {
        return ot_fail(err, OT_INVALID,
                       "push: 'role' is '%.40s'; champion, canary, shadow and arm are known",
                       w->role);
    }
    OT_TRY(get_times(q, o, w, err));
    OT_TRY(q_get_int(o, "requests", 0, COUNT_MAX, &w->requests, err));
    OT_TRY(q_get_int(o, "rows", 0, COUNT_MAX, &w->rows, err));
    OT_TRY(q_get_int(o, "failed", 0, COUNT_MAX, &w->failed, err));
    if (!json_is_object(latency)) {
        return ot_fail(err, OT_INVALID, "push: 'latency' must be an object");
    }
    OT_TRY(q_get_number(latency, "p50_us", 0, LATENCY_MAX_US, &w->p50_us, err));
    OT_TRY(q_get_number(latency, "p99_us", 0, LATENCY_MAX_US, &w->p99_us, err));
    return get_binary(p, w, err);
}

/* ---- blocks */

/* What a side's evidence is before the block is added; null while it learns. */
static json_t *evidence_before(const q_side *s)
{
    ot_edetect_status st = {.warming_up = true};
    if (s->detector != NULL) {
        ot_edetect_get_status(s->detector, &st);
    }
    return st.warming_up ? json_null() : json_real(st.evidence);
}

/* A block becomes one value a series of each side. */
static ot_rc close_block(ot_txn *txn, ot_quality *q, q_block *b, q_found *found, ot_error *err)
{
    q_drift *d = q->drift;
    uint64_t seq = 0;
    char text[96];
    snprintf(text, sizeof text, "%" PRId64 " rows of v%" PRId64 " in %" PRId64 " window%s", b->rows,
             d->champion, b->windows, b->windows == 1 ? "" : "s");
    json_t *payload =
        json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "text", text, "version",
                  (json_int_t)d->champion, "block_us", (json_int_t)(b->index * q->cfg.block_us),
                  "length_us", (json_int_t)q->cfg.block_us, "windows", (json_int_t)b->windows,
                  "rows", (json_int_t)b->rows, "inputs_before", evidence_before(&d->side[Q_INPUTS]),
                  "outputs_before", evidence_before(&d->side[Q_OUTPUTS]));
    if (payload == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "evidence of %s: no memory", q->cfg.deployment);
    }
    OT_TRY(q_event(txn, q, "windows.received", NULL, payload, &seq, err));
    for (size_t i = 0; i < Q_SIDES; i++) {
        q_side *s = &d->side[i];
        ot_edetect_outcome o;
        if (s->detector == NULL) {
            continue;
        }
        OT_TRY(ot_score_plan_eval(s->plan, &b->counts[i], s->value, s->n, err));
        OT_TRY(ot_edetect_add(s->detector, b->index, s->value, s->n, &o, err));
        OT_TRY(q_drift_outcome(txn, q, s, b, &o, seq, found, err));
    }
    d->last_block = b->index;
    b->open = false;
    return OT_OK;
}

static q_block *first_open(q_drift *d, int64_t upto)
{
    q_block *first = NULL;
    for (size_t i = 0; i < Q_OPEN_MAX; i++) {
        q_block *b = &d->block[i];
        if (b->open && b->index <= upto && (first == NULL || b->index < first->index)) {
            first = b;
        }
    }
    return first;
}

/* The window takes its place: what it closes is closed, and it is merged unless its own block was
 * closed before. */
static ot_rc place(ot_txn *txn, ot_quality *q, const q_window *w, int64_t id, q_found *found,
                   ot_error *err)
{
    q_drift *d = q->drift;
    int64_t block = q->cfg.block_us, index = w->start_us / block, closed = d->closed;
    bool any = false;
    if (w->start_us >= q->cfg.window_us) {
        closed = OT_MAX(closed, (w->start_us - q->cfg.window_us) / block - 1);
    }
    for (q_block *b; (b = first_open(d, closed)) != NULL; any = true) {
        OT_TRY(close_block(txn, q, b, found, err));
    }
    bool late = index <= closed, moved_on = closed > d->closed;
    d->closed = closed;
    d->late_windows += late;
    if (!late) {
        OT_TRY(q_drift_merge(d, index, id, w->rows, err));
    }
    if (moved_on) {
        d->after_id = id - 1;
        for (size_t i = 0; i < Q_OPEN_MAX; i++) {
            if (d->block[i].open) {
                d->after_id = OT_MIN(d->after_id, d->block[i].first_id - 1);
            }
        }
    }
    return late || moved_on ? q_drift_save(txn, q, any, err) : OT_OK;
}

/* ---- intake */

typedef struct intake {
    ot_quality *q;
    const q_push *p;
    const q_window *w;
    bool counts; /* towards the evidence */
    q_found found;
} intake;

static ot_rc expire(ot_txn *txn, const ot_quality *q, ot_error *err)
{
    int64_t deleted, least = 2 * (q->cfg.block_us + q->cfg.window_us);
    int64_t keep = OT_MAX(q->cfg.sample_keep_us, least);
    return ot_windows_expire(txn, q->cfg.deployment, ot_clock_wall_us() - keep, EXPIRE_EACH,
                             &deleted, err);
}

/* A fallback counts its answer as a request of the version that gave it and as a failure of the one
 * that was asked: only all roles together have as many requests as were made. */
static ot_rc tally(ot_txn *txn, const ot_quality *q, const ot_window_row *row, ot_error *err)
{
    char name[48];
    ot_tally_counts answers = {
        .events = (double)row->requests, .bad = (double)row->failed, .seen = row->requests};
    OT_TRY(ot_tally_add(txn, q->cfg.deployment, OT_TALLY_AVAILABILITY, row->end_us - 1, &answers,
                        err));
    if (q->cfg.p99_at_most_us <= 0 || row->requests == 0 || row->role == OT_WINDOW_SHADOW) {
        return OT_OK;
    }
    ot_tally_counts windows = {
        .events = 1, .bad = row->p99_us > (double)q->cfg.p99_at_most_us, .seen = 1};
    return ot_tally_add(txn, q->cfg.deployment, ot_tally_latency(q->cfg.p99_at_most_us, name),
                        row->end_us - 1, &windows, err);
}

static ot_rc intake_txn(ot_txn *txn, void *arg, ot_error *err)
{
    intake *in = arg;
    const ot_quality *q = in->q;
    const q_window *w = in->w;
    bool fresh;
    int64_t id;
    OT_TRY(q_push_note(txn, q, in->p, &fresh, err));
    if (!fresh) {
        return OT_OK;
    }
    ot_window_row row = {.deployment = q->cfg.deployment,
                         .version = w->version,
                         .start_us = w->start_us,
                         .end_us = w->start_us + w->length_us,
                         .requests = w->requests,
                         .rows = w->rows,
                         .failed = w->failed,
                         .p50_us = w->p50_us,
                         .p99_us = w->p99_us,
                         .received_us = ot_clock_wall_us(),
                         .latency = w->latency,
                         .inputs = w->part[Q_INPUTS],
                         .outputs = w->part[Q_OUTPUTS],
                         .n_latency = w->n_latency,
                         .n_inputs = w->n_part[Q_INPUTS],
                         .n_outputs = w->n_part[Q_OUTPUTS]};
    (void)ot_window_role_parse(w->role, &row.role); /* get_window did */
    OT_TRY(ot_window_insert(txn, &row, &id, err));
    OT_TRY(tally(txn, q, &row, err));
    OT_TRY(expire(txn, q, err));
    return in->counts ? place(txn, in->q, w, id, &in->found, err) : OT_OK;
}

ot_rc q_drift_push(ot_quality *q, const q_push *p, ot_error *err)
{
    q_window w;
    OT_TRY(get_window(q, p, &w, err));
    OT_TRY(q_drift_ready(q, err));
    q_drift *d = q->drift;
    intake in = {.q = q, .p = p, .w = &w};
    in.counts =
        w.version == d->champion && strcmp(w.role, ot_window_role_name(OT_WINDOW_CHAMPION)) == 0;
    if (in.counts) {
        OT_TRY(q_drift_fit(d, w.part, w.n_part, w.rows, err));
    }
    ot_rc rc = ot_store_write(q->store, intake_txn, &in, err);
    if (rc != OT_OK) {
        d->stale = d->stale || in.counts;
        return rc;
    }
    for (size_t i = 0; i < in.found.n; i++) {
        const q_found_one *f = &in.found.items[i];
        q_find(q, f->kind, f->event_seq, 0, f->text);
    }
    return OT_OK;
}

/* ---- life */

ot_rc q_drift_create(ot_quality *q, ot_error *err)
{
    q_drift *d = ot_calloc(1, sizeof *d);
    if (d == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "evidence of %s: no memory", q->cfg.deployment);
    }
    d->side[Q_INPUTS] = (q_side){.name = "inputs",
                                 .path = "reference/trained_on.hist",
                                 .part = "drift.inputs",
                                 .share = 0.5};
    d->side[Q_OUTPUTS] = (q_side){.name = "outputs",
                                  .path = "reference/outputs.hist",
                                  .part = "drift.outputs",
                                  .share = 0.25};
    d->stale = true;
    q->drift = d;
    return q_drift_ready(q, err);
}

void q_drift_destroy(q_drift *d)
{
    if (d != NULL) {
        q_drift_clear(d);
        ot_free(d);
    }
}

ot_rc q_drift_configure(ot_quality *q, const ot_quality_config *before, ot_error *err)
{
    (void)before; /* what the store's evidence was made with is known there, over a crash too */
    q->drift->stale = true;
    return q_drift_ready(q, err);
}

ot_rc q_drift_promoted(ot_quality *q, ot_txn *txn, int64_t version, ot_error *err)
{
    q->drift->stale = true;
    return q_drift_anew(txn, q, version, err);
}
