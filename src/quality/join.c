/* Joining: an answer and its label become an outcome; outcomes feed the label test and the watched
 * comparison, each once. */
#include "quality/labels.h"

#include "base/clock.h"
#include "store/tally.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define RECOVER_MAX 0.9999 /* the highest accuracy that is proven to be met again */

q_join q_join_begin(ot_quality *q, ot_txn *txn, size_t labels)
{
    q_join j = {.q = q, .txn = txn, .next = q->labels->st, .now_us = ot_clock_wall_us()};
    /* The promise counts blocks of time, so the capital that time brings is shared by the labels
     * that came in it; after a silence there is no more than a block's. */
    double blocks = (double)(j.now_us - j.next.tested_us) / (double)q->cfg.block_us;
    j.weight = fmin(fmax(blocks, 0), 1) / (double)OT_MAX(labels, (size_t)1);
    return j;
}

static bool is_convenience(const char *source)
{
    return ot_has_prefix(source, "convenience");
}

/* ---- the label test */

/* What an alarm says in numbers. */
typedef struct proof {
    double accuracy, evidence;
    int64_t since_us; /* when the change seems to have begun: with the champion's last so many
                       * outcomes */
} proof;

static json_t *numbers(const q_join *j, const ot_degrade *d, const proof *p)
{
    return json_pack("{s:s,s:f,s:f,s:I,s:I,s:f,s:f,s:I}", "text", j->text, "accuracy", p->accuracy,
                     "at_least", j->q->cfg.accuracy_at_least, "labels", (json_int_t)d->since,
                     "since_us", (json_int_t)p->since_us, "evidence", p->evidence, "threshold",
                     d->threshold, "version", (json_int_t)j->next.champion);
}

static ot_rc degraded(q_join *j, const proof *p, ot_error *err)
{
    const ot_degrade *d = &j->next.degrade;
    char since[32];
    q_time_text(p->since_us, j->now_us, since);
    snprintf(j->text, sizeof j->text,
             "accuracy %.2f on %" PRIu64 " labels since %s; the objective is %.4g", p->accuracy,
             d->since, since, j->q->cfg.accuracy_at_least);
    OT_TRY(
        q_event(j->txn, j->q, "quality.degraded", NULL, numbers(j, d, p), &j->degraded_seq, err));
    j->next.degraded = true;
    /* With an objective of 1 nothing would be left to bet on. */
    double at_least = fmin(j->q->cfg.accuracy_at_least, RECOVER_MAX);
    return ot_degrade_init(&j->next.recover, at_least, 1, d->threshold, err);
}

static ot_rc recovered(q_join *j, const proof *p, ot_error *err)
{
    const ot_degrade *d = &j->next.recover;
    snprintf(j->text, sizeof j->text,
             "accuracy %.2f on %" PRIu64 " labels; the objective of %.4g is met again", p->accuracy,
             d->since, j->q->cfg.accuracy_at_least);
    OT_TRY(
        q_event(j->txn, j->q, "quality.recovered", NULL, numbers(j, d, p), &j->recovered_seq, err));
    return q_labels_restart(j->txn, j->q, &j->next, err);
}

/* While the fall stands proven, the opposite is tested: it does not alarm again for each label. */
static ot_rc test_label(q_join *j, double loss, ot_error *err)
{
    bool fell = j->next.degraded;
    ot_degrade *d = fell ? &j->next.recover : &j->next.degrade, unbounded = *d;
    double z = fell ? 1 - loss : loss;
    j->next.tested_us = j->now_us;
    if (!ot_degrade_add_weighted(d, z, j->weight)) {
        return OT_OK;
    }
    /* An alarm takes its evidence with it; this is how much it was. */
    unbounded.threshold = INFINITY;
    (void)ot_degrade_add_weighted(&unbounded, z, j->weight);
    double mean = ot_degrade_mean_since(d);
    proof p = {.accuracy = fell ? mean : 1 - mean, .evidence = ot_degrade_evidence(&unbounded)};
    OT_TRY(ot_outcome_nth(j->txn, j->q->cfg.deployment, j->next.champion, (int64_t)d->since,
                          &p.since_us, err));
    return fell ? recovered(j, &p, err) : degraded(j, &p, err);
}

/* ---- the watched comparison */

static void count_pair(ot_pair_counts *c, bool candidate, bool champion, int sign)
{
    c->n += sign;
    c->candidate_right += candidate ? sign : 0;
    c->champion_right += champion ? sign : 0;
    c->only_candidate += candidate && !champion ? sign : 0;
    c->only_champion += champion && !candidate ? sign : 0;
}

static ot_rc find_outcome(const q_join *j, uint64_t incarnation, uint64_t seq, int64_t version,
                          ot_outcome_row *out, bool *found, ot_error *err)
{
    ot_error e = {0};
    ot_rc rc = ot_outcome_get(j->txn, j->q->cfg.deployment, incarnation, seq, version, out, &e);
    *found = rc == OT_OK;
    return rc == OT_OK || rc == OT_NOT_FOUND ? OT_OK : ot_fail(err, rc, "%s", e.msg);
}

ot_rc q_join_count(q_join *j, uint64_t incarnation, uint64_t seq, int sign, ot_error *err)
{
    const ot_pair_watch *w = &j->next.watch;
    ot_outcome_row candidate, champion;
    bool found = false;
    if (!j->next.watching) {
        return OT_OK;
    }
    OT_TRY(find_outcome(j, incarnation, seq, w->candidate, &candidate, &found, err));
    if (!found || candidate.time_us < w->since_us || candidate.right < 0) {
        return OT_OK;
    }
    OT_TRY(find_outcome(j, incarnation, seq, w->champion, &champion, &found, err));
    if (!found || champion.right < 0) {
        return OT_OK;
    }
    count_pair(&j->next.all, candidate.right != 0, champion.right != 0, sign);
    if (!candidate.shadow) {
        count_pair(&j->next.arm, candidate.right != 0, champion.right != 0, sign);
    }
    j->pairs++;
    return OT_OK;
}

/* ---- joining */

static int judge(const q_kind *k, double prediction, double label)
{
    if (k->kind != OT_PREDICTION_SCORES && k->kind != OT_PREDICTION_LABEL) {
        return -1;
    }
    return prediction == label; /* a NaN is right about nothing */
}

/* An answer that somebody got counts towards the budget of accuracy, a sampled one for all that it
 * stands for; `sign` -1 takes a wrong one back. */
static ot_rc tally(q_join *j, const ot_outcome_row *o, int64_t seen, int sign, ot_error *err)
{
    double weight = o->probability > 0 ? 1 / o->probability : 1;
    if (o->shadow || o->right < 0) {
        return OT_OK;
    }
    ot_tally_counts c = {
        .events = (double)seen * weight, .bad = o->right == 0 ? sign * weight : 0, .seen = seen};
    return ot_tally_add(j->txn, j->q->cfg.deployment, OT_TALLY_ACCURACY, o->time_us, &c, err);
}

ot_rc q_join_retally(q_join *j, uint64_t incarnation, uint64_t seq, int sign, ot_error *err)
{
    ot_outcome_row o;
    bool found = false;
    OT_TRY(ot_outcome_live(j->txn, j->q->cfg.deployment, incarnation, seq, &o, &found, err));
    return found ? tally(j, &o, 0, sign, err) : OT_OK;
}

ot_rc q_join_answer(q_join *j, const ot_segment_row *seg, const ot_answer *a, ot_label_row *label,
                    ot_error *err)
{
    q_kind kind;
    bool added = false;
    OT_TRY(q_version_kind(j->txn, j->q, seg->version, &kind, err));
    ot_outcome_row o = {.incarnation = seg->incarnation,
                        .seq = a->seq,
                        .version = seg->version,
                        .shadow = seg->shadow,
                        .right = judge(&kind, a->prediction, label->value),
                        .prediction = a->prediction,
                        .label = label->value,
                        .time_us = a->time_us,
                        .probability = (double)a->probability,
                        .joined_us = j->now_us};
    OT_TRY(ot_outcome_add(j->txn, j->q->cfg.deployment, &o, &added, err));
    if (!added) {
        return OT_OK;
    }
    OT_TRY(tally(j, &o, 1, 1, err));
    if (!label->joined) {
        OT_TRY(ot_label_set_joined(j->txn, j->q->cfg.deployment, o.incarnation, o.seq, err));
        label->joined = true;
        j->joined++;
        j->next.joined++;
    }
    if (j->next.testing && !o.shadow && o.version == j->next.champion && o.right >= 0 &&
        !is_convenience(label->source)) {
        OT_TRY(test_label(j, o.right == 0, err));
    }
    bool watched = o.version == j->next.watch.candidate || o.version == j->next.watch.champion;
    return watched ? q_join_count(j, o.incarnation, o.seq, 1, err) : OT_OK;
}

void q_join_tell(const q_join *j)
{
    if (j->joined > 0) {
        q_find(j->q, OT_FINDING_LABELS, 0, j->joined, "");
    }
    if (j->degraded_seq != 0) {
        q_find(j->q, OT_FINDING_DEGRADED, j->degraded_seq, 0, j->text);
    }
    if (j->recovered_seq != 0) {
        q_find(j->q, OT_FINDING_RECOVERED, j->recovered_seq, 0, j->text);
    }
    if (j->pairs > 0) {
        q_find(j->q, OT_FINDING_PAIR, 0, 0, "");
    }
}
