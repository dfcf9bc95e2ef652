/* Samples: segments of answered rows come in, their rows go to the content store, what was answered
 * to each becomes an index, and labels that waited for them join. */
#include "quality/labels.h"

#include "base/clock.h"
#include "model/prediction.h"
#include "quality/segment.h"
#include "store/blob.h"
#include "store/windows.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EXPIRE_LABELS 1000 /* of each kind an intake */

typedef struct waiting {
    ot_label_row *v;
    size_t n, cap;
} waiting;

typedef struct intake {
    ot_quality *q;
    const q_push *push;
    q_segment seg;
    q_kind kind;
    ot_answer *answers;
    char *meta;
    ot_segment_row row;
    bool noted; /* counted before */
    bool fresh;
    waiting wait;
    q_join join;
} intake;

/* ---- what was answered */

static ot_rc look_first(ot_txn *txn, void *arg, ot_error *err)
{
    intake *in = arg;
    const q_push *p = in->push;
    OT_TRY(ot_push_noted(txn, in->q->cfg.deployment, p->incarnation_n, p->stream, p->seq,
                         &in->noted, err));
    return in->noted ? OT_OK : q_version_kind(txn, in->q, in->seg.version, &in->kind, err);
}

/* Predictions of all rows; without a named output there are none. The output is copied: pushed
 * bytes may lie anywhere. */
static ot_rc predict(intake *in, ot_prediction *out, ot_error *err)
{
    const q_segment *s = &in->seg;
    for (size_t i = 0; i < s->n_outputs; i++) {
        if (in->kind.kind == OT_PREDICTION_NONE ||
            strcmp(s->outputs[i].name, in->kind.output) != 0) {
            continue;
        }
        ot_tensor t = s->outputs[i];
        void *copy = ot_alloc(t.size_bytes > 0 ? t.size_bytes : 1);
        if (copy == NULL) {
            return ot_fail(err, OT_EXHAUSTED, "push: no memory for %zu answers", s->rows);
        }
        memcpy(copy, t.data, t.size_bytes);
        t.data = copy;
        ot_rc rc = ot_prediction_read(in->kind.kind, &t, (int64_t)s->rows, out, err);
        ot_free(copy);
        return rc;
    }
    if (in->kind.kind != OT_PREDICTION_NONE) {
        return ot_fail(err, OT_INVALID, "push: v%" PRId64 " answers with '%.64s'; it is not there",
                       s->version, in->kind.output);
    }
    return OT_OK;
}

static int by_seq(const void *a, const void *b)
{
    const ot_answer *x = a, *y = b;
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

static ot_rc make_answers(intake *in, ot_error *err)
{
    const q_segment *s = &in->seg;
    ot_prediction *p = ot_calloc(s->rows, sizeof *p);
    in->answers = ot_calloc(s->rows, sizeof *in->answers);
    if (p == NULL || in->answers == NULL) {
        ot_free(p);
        return ot_fail(err, OT_EXHAUSTED, "push: no memory for %zu rows", s->rows);
    }
    for (size_t i = 0; i < s->rows; i++) {
        p[i].value = (double)NAN;
    }
    ot_rc rc = predict(in, p, err);
    for (size_t i = 0; i < s->rows; i++) {
        in->answers[i] = (ot_answer){.seq = q_segment_seq(s, i),
                                     .time_us = q_segment_time(s, i),
                                     .prediction = p[i].value,
                                     .probability = q_segment_probability(s, i),
                                     .row = (uint32_t)i};
    }
    qsort(in->answers, s->rows, sizeof *in->answers, by_seq);
    ot_free(p);
    return rc;
}

static ot_rc prepare(intake *in, ot_error *err)
{
    ot_rc rc = ot_store_read(in->q->store, look_first, in, err);
    if (rc == OT_NOT_FOUND) {
        return ot_fail(err, OT_INVALID, "push: %s v%" PRId64 " is not known here", in->q->cfg.model,
                       in->seg.version);
    }
    OT_TRY(rc);
    if (in->noted) {
        return OT_OK; /* its bytes may have gone with age: nothing would refer to new ones */
    }
    OT_TRY(make_answers(in, err));
    in->meta = json_dumps(in->push->json, JSON_COMPACT);
    if (in->meta == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "push: no memory");
    }
    int64_t start = INT64_MAX, end = 0;
    for (size_t i = 0; i < in->seg.rows; i++) {
        start = OT_MIN(start, in->answers[i].time_us);
        end = OT_MAX(end, in->answers[i].time_us);
    }
    in->row = (ot_segment_row){.deployment = in->q->cfg.deployment,
                               .incarnation = in->push->incarnation_n,
                               .version = in->seg.version,
                               .shadow = in->seg.shadow,
                               .start_us = start,
                               .end_us = end,
                               .size_bytes = in->push->bin_len,
                               .meta = in->meta,
                               .answers = in->answers,
                               .n = in->seg.rows};
    return ot_blob_put(in->q->store, in->push->bin, in->push->bin_len, &in->row.blob, err);
}

/* ---- labels that were here before their rows */

static ot_rc collect(void *arg, const ot_label_row *row, ot_error *err)
{
    waiting *w = arg;
    if (!ot_grow(&w->v, &w->cap, w->n, sizeof *w->v, 0)) {
        return ot_fail(err, OT_EXHAUSTED, "labels: no memory");
    }
    w->v[w->n] = *row;
    /* The only thing that is asked of a source afterwards; the text itself goes with the row. */
    w->v[w->n++].source = ot_has_prefix(row->source, "convenience") ? "convenience" : "";
    return OT_OK;
}

/* All that wait for rows of this segment, by number: how many they are decides what each weighs. */
static ot_rc collect_waiting(const intake *in, ot_txn *txn, waiting *w, ot_error *err)
{
    const ot_answer *a = in->answers;
    for (size_t i = 0; i < in->seg.rows;) {
        size_t k = i;
        while (k + 1 < in->seg.rows && a[k + 1].seq - a[i].seq < OT_SPAN_MAX) {
            k++;
        }
        OT_TRY(ot_labels_over(txn, in->q->cfg.deployment, in->row.incarnation, a[i].seq, a[k].seq,
                              collect, w, err));
        i = k + 1;
    }
    return OT_OK;
}

static ot_rc join_waiting(intake *in, waiting *w, ot_error *err)
{
    const ot_answer *a = in->answers;
    for (size_t i = 0, k = 0; i < in->seg.rows && k < w->n;) {
        if (a[i].seq < w->v[k].seq) {
            i++;
        } else if (a[i].seq > w->v[k].seq) {
            k++;
        } else {
            OT_TRY(q_join_answer(&in->join, &in->row, &a[i++], &w->v[k++], err));
        }
    }
    return OT_OK;
}

/* ---- the transaction */

static ot_rc note_keys(intake *in, ot_error *err)
{
    const q_segment *s = &in->seg;
    size_t offset = 0, n;
    const char *p;
    char key[OT_ROW_KEY_MAX + 1];
    if (s->shadow || !in->q->cfg.join_on_key) {
        return OT_OK;
    }
    for (size_t i = 0; i < s->rows && q_segment_key(s, &offset, &p, &n); i++) {
        if (n == 0 || n > OT_ROW_KEY_MAX || memchr(p, 0, n) != NULL) {
            continue; /* no key, or none that a label could name */
        }
        memcpy(key, p, n);
        key[n] = 0;
        OT_TRY(ot_row_key_set(in->join.txn, in->q->cfg.deployment, key, in->row.incarnation,
                              q_segment_seq(s, i), q_segment_time(s, i), err));
    }
    return OT_OK;
}

static ot_rc forget_old(intake *in, ot_error *err)
{
    q_labels_state *st = &in->join.next;
    const ot_quality_config *c = &in->q->cfg;
    int64_t before = in->join.now_us - c->sample_keep_us, deleted = 0;
    uint64_t freed = 0, most = c->sample_max_bytes;
    uint64_t over = most > 0 && st->bytes > most ? st->bytes - most : 0;
    if (c->sample_keep_us <= 0) {
        before = 0;
    }
    OT_TRY(ot_segments_expire(in->join.txn, c->deployment, before, over, &deleted, &freed, err));
    st->segments -= OT_MIN(deleted, st->segments);
    st->bytes -= OT_MIN(freed, st->bytes);
    if (before > 0) {
        OT_TRY(ot_row_keys_expire(in->join.txn, c->deployment, before, EXPIRE_LABELS, err));
        return ot_outcomes_expire(in->join.txn, c->deployment, before, EXPIRE_LABELS, err);
    }
    return OT_OK;
}

/* A batch leaves an event; a segment a second would drown the log. */
static ot_rc tell_samples(intake *in, ot_error *err)
{
    q_labels_state *st = &in->join.next;
    uint64_t seq;
    st->untold_rows += (int64_t)in->seg.rows;
    st->untold_segments++;
    if (in->join.now_us - st->told_us < Q_EVENT_US) {
        return OT_OK;
    }
    char text[96], hex[OT_DIGEST_HEX];
    snprintf(text, sizeof text, "%" PRId64 " sampled rows in %" PRId64 " segments", st->untold_rows,
             st->untold_segments);
    json_t *payload =
        json_pack("{s:s,s:I,s:I,s:I,s:s}", "text", text, "rows", (json_int_t)st->untold_rows,
                  "segments", (json_int_t)st->untold_segments, "dropped_rows",
                  (json_int_t)st->dropped_rows, "last", ot_digest_hex(&in->row.blob, hex));
    st->told_us = in->join.now_us;
    st->untold_rows = st->untold_segments = 0;
    return q_event(in->join.txn, in->q, "samples.received", NULL, payload, &seq, err);
}

/* That the collector was quicker is no fault of the push. */
static ot_rc insert(intake *in, ot_txn *txn, ot_error *err)
{
    ot_error e = {0};
    ot_rc rc = ot_segment_insert(txn, &in->row, &in->row.id, &e);
    return rc == OT_OK ? OT_OK : ot_fail(err, rc == OT_NOT_FOUND ? OT_ABORTED : rc, "%s", e.msg);
}

static ot_rc take_in(ot_txn *txn, void *arg, ot_error *err)
{
    intake *in = arg;
    in->wait.n = 0; /* tried again after a failed group, it starts from nothing */
    OT_TRY(q_push_note(txn, in->q, in->push, &in->fresh, err));
    if (!in->fresh) {
        return OT_OK;
    }
    OT_TRY(collect_waiting(in, txn, &in->wait, err));
    in->join = q_join_begin(in->q, txn, in->wait.n);
    q_labels_state *st = &in->join.next;
    OT_TRY(insert(in, txn, err));
    st->segments++;
    st->bytes += in->row.size_bytes;
    st->dropped_rows += OT_MIN(in->seg.dropped_rows, INT64_MAX - st->dropped_rows);
    if (st->watching && !in->seg.shadow && in->seg.version == st->watch.candidate &&
        in->row.start_us >= st->watch.since_us) {
        st->answered += (int64_t)in->seg.rows;
    }
    OT_TRY(note_keys(in, err));
    OT_TRY(join_waiting(in, &in->wait, err));
    OT_TRY(forget_old(in, err));
    OT_TRY(tell_samples(in, err));
    return q_labels_save(txn, in->q, st, err);
}

ot_rc q_labels_push(ot_quality *q, const q_push *p, ot_error *err)
{
    intake in = {.q = q, .push = p};
    OT_TRY(q_labels_fresh(q, err));
    OT_TRY(q_segment_parse(p->json, p->bin, p->bin_len, &in.seg, err));
    ot_rc rc = prepare(&in, err);
    if (rc == OT_OK && !in.noted) {
        rc = ot_store_write(q->store, take_in, &in, err);
    }
    free(in.meta);
    ot_free(in.answers);
    ot_free(in.wait.v);
    if (rc == OT_OK && in.fresh) {
        q->labels->st = in.join.next;
        q_join_tell(&in.join);
    }
    return rc;
}
