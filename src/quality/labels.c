/* Labels come in: each names a row by its prediction id or by its caller's key, is stored, and
 * joins with what the versions answered to that row, now or when it arrives. */
#include "quality/labels.h"

#include "base/clock.h"
#include "base/hash.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct entry {
    ot_label_row row;
    size_t at; /* place in the caller's list */
    ot_label_put put;
} entry;

typedef struct intake {
    ot_quality *q;
    const ot_label_in *labels;
    size_t n;
    const char *actor;
    entry *v; /* those that a row can have, sorted */
    size_t n_v;
    /* Labels come in runs of one process. */
    uint64_t seen_incarnation;
    bool seen, seen_known;
    ot_label_report report;
    q_join join;
} intake;

/* ---- which row */

static bool hex_number(const char **p, char end, uint64_t *out)
{
    uint64_t x = 0;
    const char *start = *p;
    for (; **p != end; (*p)++) {
        const char *digits = "0123456789abcdef", *d = **p != 0 ? strchr(digits, **p) : NULL;
        if (d == NULL || *p - start >= 16) {
            return false;
        }
        x = x << 4 | (uint64_t)(d - digits);
    }
    *out = x;
    return *p != start;
}

/* INCARNATION-SEQ-VERSION-S of a sampled row (docs/architecture.md, "Prediction id"). */
static bool parse_id(const char *id, uint64_t *incarnation, uint64_t *seq)
{
    uint64_t version;
    const char *p = id;
    if (!hex_number(&p, '-', incarnation) || p - id != 16 || (p++, !hex_number(&p, '-', seq)) ||
        (p++, !hex_number(&p, '-', &version))) {
        return false;
    }
    return strcmp(p, "-1") == 0 && *seq <= INT64_MAX;
}

static ot_rc is_known(intake *in, uint64_t incarnation, bool *out, ot_error *err)
{
    if (!in->seen || in->seen_incarnation != incarnation) {
        OT_TRY(ot_incarnation_known(in->join.txn, in->q->cfg.deployment, incarnation,
                                    &in->seen_known, err));
        in->seen = true;
        in->seen_incarnation = incarnation;
    }
    *out = in->seen_known;
    return OT_OK;
}

static ot_rc find_row(intake *in, const char *id, ot_label_row *row, bool *found, ot_error *err)
{
    *found = false;
    if (!in->q->cfg.join_on_key) {
        return parse_id(id, &row->incarnation, &row->seq)
                   ? is_known(in, row->incarnation, found, err)
                   : OT_OK;
    }
    ot_error e = {0};
    ot_rc rc = strlen(id) > OT_ROW_KEY_MAX ? OT_NOT_FOUND
                                           : ot_row_key_get(in->join.txn, in->q->cfg.deployment, id,
                                                            &row->incarnation, &row->seq, &e);
    if (rc != OT_OK && rc != OT_NOT_FOUND) {
        return ot_fail(err, rc, "%s", e.msg);
    }
    *found = rc == OT_OK;
    return OT_OK;
}

static int by_row(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (x->row.incarnation != y->row.incarnation) {
        return x->row.incarnation < y->row.incarnation ? -1 : 1;
    }
    if (x->row.seq != y->row.seq) {
        return x->row.seq < y->row.seq ? -1 : 1;
    }
    return x->at < y->at ? -1 : 1;
}

/* Cut where a character ends: it goes into JSON. */
static void name_unknown(ot_label_report *r, const char *id)
{
    size_t n = strlen(id), most = sizeof r->first_unknown - 1;
    if (n > most) {
        n = most;
        while (n > 0 && ((unsigned char)id[n] & 0xc0) == 0x80) {
            n--;
        }
    }
    memcpy(r->first_unknown, id, n);
    r->first_unknown[n] = 0;
}

static ot_rc resolve(intake *in, ot_error *err)
{
    for (size_t i = 0; i < in->n; i++) {
        const ot_label_in *l = &in->labels[i];
        entry *e = &in->v[in->n_v];
        bool found;
        *e = (entry){.at = i,
                     .row = {.value = l->value,
                             .source = l->source != NULL ? l->source : "api",
                             .time_us = l->time_us > 0 ? l->time_us : in->join.now_us,
                             .received_us = in->join.now_us}};
        OT_TRY(find_row(in, l->id, &e->row, &found, err));
        if (found) {
            in->n_v++;
        } else if (in->report.unknown++ == 0) {
            name_unknown(&in->report, l->id);
        }
    }
    qsort(in->v, in->n_v, sizeof *in->v, by_row);
    return OT_OK;
}

static ot_rc none_known(const intake *in, ot_error *err)
{
    char n[32];
    ot_format_count(in->n, n);
    return ot_fail(err, OT_INVALID,
                   "labels: %s of %s ids unknown (first: '%s'); this deployment joins on %s. Set "
                   "labels.join.",
                   n, n, in->report.first_unknown,
                   in->q->cfg.join_on_key ? "key" : "prediction_id");
}

/* ---- storing */

/* Only this row is counted anew: counting all pairs would take as long as there are labels. */
static ot_rc correct(intake *in, const ot_label_row *row, ot_error *err)
{
    OT_TRY(q_join_count(&in->join, row->incarnation, row->seq, -1, err));
    OT_TRY(q_join_retally(&in->join, row->incarnation, row->seq, -1, err));
    OT_TRY(ot_outcomes_relabel(in->join.txn, in->q->cfg.deployment, row->incarnation, row->seq,
                               row->value, err));
    OT_TRY(q_join_retally(&in->join, row->incarnation, row->seq, 1, err));
    return q_join_count(&in->join, row->incarnation, row->seq, 1, err);
}

static ot_rc put_all(intake *in, ot_error *err)
{
    entry *first = in->v; /* of the row; only that one can be new */
    for (size_t i = 0; i < in->n_v; i++) {
        entry *e = &in->v[i];
        bool same_row =
            e->row.incarnation == first->row.incarnation && e->row.seq == first->row.seq;
        first = same_row ? first : e;
        OT_TRY(ot_label_set(in->join.txn, in->q->cfg.deployment, &e->row, &e->put, err));
        in->report.accepted += e->put == OT_LABEL_NEW;
        in->report.repeated += e->put == OT_LABEL_SAME;
        in->report.corrected += e->put == OT_LABEL_CORRECTED;
        if (e->put == OT_LABEL_CORRECTED) {
            first->row = e->row; /* corrected in the same call, it joins with what counts */
            OT_TRY(correct(in, &e->row, err));
        }
    }
    return OT_OK;
}

/* ---- joining */

typedef struct range {
    intake *in;
    size_t first, last;
} range;

static ot_rc join_segment(void *arg, const ot_segment_row *seg, ot_error *err)
{
    range *r = arg;
    size_t i = 0, k = r->first;
    while (i < seg->n && k <= r->last) {
        entry *e = &r->in->v[k];
        if (seg->answers[i].seq < e->row.seq) {
            i++;
        } else if (seg->answers[i].seq > e->row.seq || e->put != OT_LABEL_NEW) {
            k++;
        } else {
            OT_TRY(q_join_answer(&r->in->join, seg, &seg->answers[i], &e->row, err));
            k++; /* the same row may be labelled twice in one call: only the first is new */
        }
    }
    return OT_OK;
}

static ot_rc join_all(intake *in, ot_error *err)
{
    for (size_t i = 0; i < in->n_v;) {
        const ot_label_row *first = &in->v[i].row;
        size_t k = i;
        while (k + 1 < in->n_v && in->v[k + 1].row.incarnation == first->incarnation &&
               in->v[k + 1].row.seq - first->seq < OT_SPAN_MAX) {
            k++;
        }
        range r = {.in = in, .first = i, .last = k};
        OT_TRY(ot_segments_over(in->join.txn, in->q->cfg.deployment, first->incarnation, first->seq,
                                in->v[k].row.seq, false, join_segment, &r, err));
        i = k + 1;
    }
    for (size_t i = 0; i < in->n_v; i++) {
        in->report.joined += in->v[i].put == OT_LABEL_NEW && in->v[i].row.joined;
    }
    in->report.waiting = in->report.accepted - in->report.joined;
    return OT_OK;
}

static void digest_of(const intake *in, char hex[OT_DIGEST_HEX])
{
    ot_sha256 h;
    ot_digest d;
    ot_sha256_init(&h);
    for (size_t i = 0; i < in->n; i++) {
        ot_sha256_add(&h, in->labels[i].id, strlen(in->labels[i].id) + 1);
        ot_sha256_add(&h, &in->labels[i].value, sizeof in->labels[i].value);
    }
    d = ot_sha256_done(&h);
    ot_digest_hex(&d, hex);
}

static ot_rc leave_event(intake *in, ot_error *err)
{
    const ot_label_report *r = &in->report;
    char text[160], hex[OT_DIGEST_HEX];
    uint64_t seq;
    digest_of(in, hex);
    snprintf(text, sizeof text,
             "%zu labels: %" PRId64 " new, %" PRId64 " joined, %" PRId64 " wait for their rows",
             in->n, r->accepted, r->joined, r->waiting);
    json_t *payload =
        json_pack("{s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:s}", "text", text, "count", (json_int_t)in->n,
                  "accepted", (json_int_t)r->accepted, "joined", (json_int_t)r->joined, "waiting",
                  (json_int_t)r->waiting, "repeated", (json_int_t)r->repeated, "corrected",
                  (json_int_t)r->corrected, "unknown", (json_int_t)r->unknown, "sha256", hex);
    return q_event(in->join.txn, in->q, "labels.received", in->actor, payload, &seq, err);
}

static ot_rc take_in(ot_txn *txn, void *arg, ot_error *err)
{
    intake *in = arg;
    in->n_v = 0; /* tried again after a failed group, it starts from nothing */
    in->seen = false;
    in->report = (ot_label_report){0};
    in->join = q_join_begin(in->q, txn, in->n);
    OT_TRY(resolve(in, err));
    if (in->n_v == 0) {
        return none_known(in, err);
    }
    OT_TRY(put_all(in, err));
    OT_TRY(join_all(in, err));
    OT_TRY(leave_event(in, err));
    return q_labels_save(txn, in->q, &in->join.next, err);
}

static ot_rc check(const ot_label_in *labels, size_t n, ot_error *err)
{
    if (n == 0 || n > OT_LABELS_MAX) {
        return ot_fail(err, OT_INVALID, "labels: %zu in one call; 1 to %d are taken", n,
                       OT_LABELS_MAX);
    }
    for (size_t i = 0; i < n; i++) {
        if (labels[i].id == NULL || !isfinite(labels[i].value)) {
            return ot_fail(err, OT_INVALID,
                           "labels: number %zu (id '%.60s') has value %g; it must "
                           "be a finite number with an id",
                           i + 1, labels[i].id != NULL ? labels[i].id : "", labels[i].value);
        }
        if (labels[i].source != NULL && strlen(labels[i].source) > OT_LABEL_SOURCE_MAX) {
            return ot_fail(err, OT_INVALID,
                           "labels: number %zu names a source of %zu bytes; at most %d", i + 1,
                           strlen(labels[i].source), OT_LABEL_SOURCE_MAX);
        }
    }
    return OT_OK;
}

ot_rc ot_quality_labels(ot_quality *q, const ot_label_in *labels, size_t n, const char *actor,
                        ot_label_report *out, ot_error *err)
{
    OT_TRY(check(labels, n, err));
    OT_TRY(q_labels_fresh(q, err));
    intake in = {.q = q, .labels = labels, .n = n, .actor = actor};
    in.v = ot_calloc(n, sizeof *in.v);
    if (in.v == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "labels: no memory for %zu of them", n);
    }
    ot_rc rc = ot_store_write(q->store, take_in, &in, err);
    ot_free(in.v);
    OT_TRY(rc);
    *out = in.report;
    q->labels->st = in.join.next;
    q_join_tell(&in.join);
    return OT_OK;
}

int64_t ot_quality_labels_joined(const ot_quality *q)
{
    return q->labels->st.joined;
}
