/* The comparison of two versions on the same labelled rows, and the accuracy of one. */
#include "quality/labels.h"

#include "base/clock.h"
#include "base/log.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ACCURACY_ROWS_MAX 200000 /* the newest; an interval over more would hardly be narrower */
#define SUMMARY_US INT64_C(86400000000)

/* ---- the watch */

static bool same_watch(const ot_pair_watch *a, const ot_pair_watch *b)
{
    return a->candidate == b->candidate && a->champion == b->champion &&
           a->since_us == b->since_us && a->margin == b->margin && a->alpha == b->alpha &&
           a->candidate_live_only == b->candidate_live_only;
}

struct watch_change {
    ot_quality *q;
    q_labels_state next;
};

static ot_rc save_watch(ot_txn *txn, void *arg, ot_error *err)
{
    struct watch_change *c = arg;
    q_labels_state *st = &c->next;
    const ot_pair_watch *w = &st->watch;
    if (st->watching) {
        OT_TRY(ot_outcomes_pairs(txn, c->q->cfg.deployment, w->candidate, w->champion, w->since_us,
                                 &st->all, &st->arm, err));
        OT_TRY(ot_segment_rows_live(txn, c->q->cfg.deployment, w->candidate, w->since_us,
                                    &st->answered, err));
    }
    return q_labels_save(txn, c->q, st, err);
}

ot_rc ot_quality_watch(ot_quality *q, const ot_pair_watch *w, ot_error *err)
{
    if (!(w->margin > 0 && w->margin < 1) || !(w->alpha > 0 && w->alpha < 1) || w->candidate <= 0 ||
        w->champion <= 0 || w->candidate == w->champion) {
        return ot_fail(err, OT_INVALID,
                       "comparison of v%" PRId64 " with v%" PRId64 ": margin %g and alpha %g must "
                       "lie in (0,1), the versions be two",
                       w->candidate, w->champion, w->margin, w->alpha);
    }
    OT_TRY(q_labels_fresh(q, err));
    if (q->labels->st.watching && same_watch(&q->labels->st.watch, w)) {
        return OT_OK;
    }
    struct watch_change c = {.q = q, .next = q->labels->st};
    c.next.watching = true;
    c.next.watch = *w;
    OT_TRY(ot_store_write(q->store, save_watch, &c, err));
    q->labels->st = c.next;
    return OT_OK;
}

void ot_quality_unwatch(ot_quality *q)
{
    ot_error err = {0};
    ot_rc rc = q_labels_fresh(q, &err);
    if (rc == OT_OK && q->labels->st.watching) {
        struct watch_change c = {.q = q, .next = q->labels->st};
        c.next.watching = false;
        rc = ot_store_write(q->store, save_watch, &c, &err);
        if (rc == OT_OK) {
            q->labels->st = c.next;
        }
    }
    if (rc != OT_OK) {
        ot_err("quality", "deployment %s: the comparison is still on: %s", q->cfg.deployment,
               err.msg);
    }
}

static ot_rc compare(const ot_pair_counts *c, const ot_pair_watch *w, ot_comparison *out,
                     ot_error *err)
{
    ot_paired p = {
        .n = (uint64_t)c->n, .n10 = (uint64_t)c->only_champion, .n01 = (uint64_t)c->only_candidate};
    return ot_paired_compare(&p, w->margin, w->alpha, out, err);
}

bool ot_quality_pair(const ot_quality *q, ot_pair_state *out)
{
    const q_labels_state *st = &q->labels->st;
    ot_comparison all, own;
    ot_error err = {0};
    if (q->labels->stale || !st->watching) {
        return false;
    }
    const ot_pair_counts *arm = st->watch.candidate_live_only ? &st->arm : &st->all;
    if (compare(&st->all, &st->watch, &all, &err) != OT_OK ||
        compare(arm, &st->watch, &own, &err) != OT_OK) {
        ot_err("quality", "deployment %s: comparison: %s", q->cfg.deployment, err.msg);
        return false;
    }
    ot_pair_verdict v = all.verdict == OT_VERDICT_WORSE       ? OT_PAIR_WORSE
                        : own.verdict == OT_VERDICT_NOT_WORSE ? OT_PAIR_NOT_WORSE
                                                              : OT_PAIR_UNDECIDED;
    /* What was counted is what the verdict stands on. */
    const ot_pair_counts *c = v == OT_PAIR_NOT_WORSE ? arm : &st->all;
    const ot_comparison *x = v == OT_PAIR_NOT_WORSE ? &own : &all;
    *out = (ot_pair_state){.compared = c->n,
                           .candidate_right = c->candidate_right,
                           .champion_right = c->champion_right,
                           .only_candidate_right = c->only_candidate,
                           .only_champion_right = c->only_champion,
                           .lower = x->d_lo,
                           .upper = x->d_hi,
                           .e_worse = x->e_worse,
                           .e_better = x->e_sign_better,
                           .verdict = v,
                           .candidate_answered = st->answered};
    return true;
}

/* ---- accuracy */

struct accuracy {
    ot_quality *q;
    int64_t version, from_us, to_us;
    uint8_t *wrong; /* newest first */
    int64_t n;
};

static ot_rc read_outcomes(ot_txn *txn, void *arg, ot_error *err)
{
    struct accuracy *a = arg;
    return ot_outcomes_wrong(txn, a->q->cfg.deployment, a->version, a->from_us, a->to_us,
                             ACCURACY_ROWS_MAX, a->wrong, &a->n, err);
}

static ot_rc sum_up(const struct accuracy *a, ot_accuracy *out, ot_error *err)
{
    ot_meanseq m;
    int64_t right = 0;
    OT_TRY(ot_meanseq_init(&m, 1, err));
    for (int64_t i = a->n; i-- > 0;) {
        ot_meanseq_add(&m, a->wrong[i]);
        right += a->wrong[i] == 0;
    }
    ot_interval x = ot_meanseq_complement(&m, 0.05);
    *out = (ot_accuracy){.labelled = a->n,
                         .right = right,
                         .estimate = a->n > 0 ? (double)right / (double)a->n : 0,
                         .lower = x.lo,
                         .upper = x.hi};
    return OT_OK;
}

ot_rc ot_quality_accuracy(ot_quality *q, int64_t version, int64_t from_us, int64_t to_us,
                          ot_accuracy *out, ot_error *err)
{
    struct accuracy a = {.q = q, .version = version, .from_us = from_us, .to_us = to_us};
    a.wrong = ot_alloc(ACCURACY_ROWS_MAX);
    if (a.wrong == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "accuracy of v%" PRId64 ": no memory", version);
    }
    ot_rc rc = ot_store_read(q->store, read_outcomes, &a, err);
    if (rc == OT_OK) {
        rc = sum_up(&a, out, err);
    }
    ot_free(a.wrong);
    return rc;
}

/* ---- what people see */

struct summary {
    ot_quality *q;
    int64_t versions[Q_KINDS_MAX];
    bool shadow[Q_KINDS_MAX];
    size_t n;
    int64_t waiting, oldest_us, last_us;
};

static ot_rc keep_version(void *arg, int64_t version, bool shadow, ot_error *err)
{
    struct summary *s = arg;
    (void)err;
    if (s->n == Q_KINDS_MAX) {
        memmove(s->versions, s->versions + 1, (Q_KINDS_MAX - 1) * sizeof s->versions[0]);
        memmove(s->shadow, s->shadow + 1, (Q_KINDS_MAX - 1) * sizeof s->shadow[0]);
        s->n--;
    }
    s->versions[s->n] = version;
    s->shadow[s->n++] = shadow;
    return OT_OK;
}

static ot_rc read_summary(ot_txn *txn, void *arg, ot_error *err)
{
    struct summary *s = arg;
    int64_t from = ot_clock_wall_us() - SUMMARY_US;
    s->n = 0;
    OT_TRY(ot_outcome_versions(txn, s->q->cfg.deployment, from, keep_version, s, err));
    OT_TRY(ot_labels_waiting(txn, s->q->cfg.deployment, from, &s->waiting, err));
    OT_TRY(ot_labels_last(txn, s->q->cfg.deployment, &s->last_us, err));
    return ot_segments_oldest(txn, s->q->cfg.deployment, &s->oldest_us, err);
}

static ot_rc add_accuracy(ot_quality *q, const struct summary *s, json_t *list, ot_error *err)
{
    int64_t from = ot_clock_wall_us() - SUMMARY_US;
    for (size_t i = 0; i < s->n; i++) {
        ot_accuracy a = {0};
        OT_TRY(ot_quality_accuracy(q, s->versions[i], from, INT64_MAX, &a, err));
        json_t *one = json_pack(
            "{s:I,s:s,s:I,s:I,s:f,s:f,s:f}", "version", (json_int_t)s->versions[i], "role",
            s->shadow[i] ? "shadow" : "live", "labelled", (json_int_t)a.labelled, "right",
            (json_int_t)a.right, "estimate", a.estimate, "lower", a.lower, "upper", a.upper);
        if (json_array_append_new(list, one) != 0) {
            return ot_fail(err, OT_EXHAUSTED, "labels of %s: no memory", q->cfg.deployment);
        }
    }
    return OT_OK;
}

static json_t *labels_json(const ot_quality *q, const struct summary *s)
{
    const q_labels_state *st = &q->labels->st;
    json_t *j = json_pack("{s:I,s:I,s:b,s:b,s:I}", "joined", (json_int_t)st->joined, "waiting",
                          (json_int_t)s->waiting, "testing", st->testing, "degraded", st->degraded,
                          "last_us", (json_int_t)s->last_us);
    if (j != NULL && st->testing) {
        const ot_degrade *d = st->degraded ? &st->recover : &st->degrade;
        json_object_set_new(j, "evidence", json_real(ot_degrade_evidence(d)));
        json_object_set_new(j, "threshold", json_real(d->threshold));
    }
    if (j != NULL && !st->testing && st->champion > 0 && q->cfg.accuracy_at_least > 0) {
        json_object_set_new(j, "reason",
                            json_string("the champion's answers are values or not named in its "
                                        "manifest: neither right nor wrong, so the objective of "
                                        "accuracy is not tested"));
    }
    return j;
}

ot_rc q_labels_summary(ot_quality *q, json_t *into, ot_error *err)
{
    struct summary s = {.q = q};
    OT_TRY(q_labels_fresh(q, err));
    OT_TRY(ot_store_read(q->store, read_summary, &s, err));
    const q_labels_state *st = &q->labels->st;
    json_t *list = json_array();
    json_t *samples = json_pack("{s:I,s:I,s:I,s:I}", "segments", (json_int_t)st->segments, "bytes",
                                (json_int_t)st->bytes, "oldest_us", (json_int_t)s.oldest_us,
                                "dropped_rows", (json_int_t)st->dropped_rows);
    bool set = json_object_set_new(into, "labels", labels_json(q, &s)) == 0;
    set = json_object_set_new(into, "samples", samples) == 0 && set;
    set = json_object_set_new(into, "accuracy", list) == 0 && set; /* it is `into`'s from here */
    if (!set) {
        return ot_fail(err, OT_EXHAUSTED, "labels of %s: no memory", q->cfg.deployment);
    }
    return add_accuracy(q, &s, list, err);
}
