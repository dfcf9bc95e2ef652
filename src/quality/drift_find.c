/* From a detector's outcome to events and findings, in words. */
#include "quality/drift.h"

#include "base/str.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define NAMED_MAX 3

static const char *name_of(const q_side *s, const ot_edetect_moved *m)
{
    return ot_hist_schema_name(s->ref.schema, m->feature);
}

/* "pixel_3_4 up 0.6 sigma", "country missing up 2.1 points", "share of prediction 3 up 12 points"
 */
static void describe(const q_side *s, const ot_edetect_moved *m, ot_str *out)
{
    const char *name = name_of(s, m), *way = m->effect < 0 ? "down" : "up";
    double lo = NAN, hi = NAN, size = fabs(m->effect);
    if (!ot_score_is_share((ot_score_kind)m->kind)) {
        ot_str_addf(out, "%s%s %s %.2g sigma", m->kind == OT_SCORE_SCALE ? "spread of " : "", name,
                    way, size);
        return;
    }
    switch (m->kind) {
    case OT_SCORE_MISSING:
        ot_str_addf(out, "%s missing", name);
        break;
    case OT_SCORE_OUTSIDE:
        ot_str_addf(out, "%s outside its range", name);
        break;
    case OT_SCORE_UNSEEN:
        ot_str_addf(out, "unseen values of %s", name);
        break;
    default:
        if (ot_hist_schema_cell_range(s->ref.schema, m->feature, m->cell, &lo, &hi) && !isnan(lo)) {
            ot_str_addf(out, "share of %s %g", name, lo);
        } else {
            ot_str_addf(out, "share of %s #%u", name, m->cell + 1u);
        }
    }
    ot_str_addf(out, " %s %.2g points", way, 100 * size);
}

/* What was cleared by an alarm and passes `pick`. */
typedef struct alarm {
    const ot_quality *q;
    q_side *s;
    const q_block *b;
    const ot_edetect_outcome *o;
    bool pick[OT_EDETECT_MOVED_MAX];
    uint64_t because;
} alarm;

static void alarm_text(const alarm *a, char *out, size_t n)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    int64_t block = a->q->cfg.block_us, since = -1;
    size_t named = 0, more = 0;
    for (size_t i = 0; i < a->o->n_moved; i++) {
        const ot_edetect_moved *m = &a->o->moved[i];
        if (!a->pick[i]) {
            continue;
        }
        if (named == NAMED_MAX) {
            more++;
            continue;
        }
        since = named == 0 ? m->since_block : OT_MIN(since, m->since_block);
        ot_str_adds(&text, named++ > 0 ? ", " : "");
        describe(a->s, m, &text);
    }
    if (more > 0) {
        ot_str_addf(&text, " and %zu more", more);
    }
    if (named == 0) {
        ot_str_addf(&text, "many %s moved a little", a->s->name);
    } else {
        char words[32];
        q_time_text(since * block, a->b->index * block, words);
        ot_str_addf(&text, " since %s", words);
    }
    snprintf(out, n, "%s", text.data);
}

static json_t *moved_json(const ot_quality *q, const q_side *s, const ot_edetect_moved *m)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    describe(s, m, &text);
    json_t *name = json_string(name_of(s, m)), *words = json_string(text.data);
    if (name == NULL) { /* not UTF-8 */
        name = json_sprintf("feature %u", m->feature);
    }
    return json_pack("{s:o, s:s, s:f, s:s, s:I, s:f, s:b, s:o}", "name", name, "kind",
                     ot_score_kind_name((ot_score_kind)m->kind), "effect", m->effect, "unit",
                     ot_score_is_share((ot_score_kind)m->kind) ? "share" : "sigma", "since_us",
                     (json_int_t)(m->since_block * q->cfg.block_us), "evidence", m->evidence,
                     "latched", m->latched, "text", words != NULL ? words : json_string(""));
}

/* The list that people see: what has evidence now, and what earlier alarms named. */
static ot_rc keep_moved(const ot_quality *q, q_side *s, const ot_edetect_outcome *o, ot_error *err)
{
    json_t *list = json_array();
    for (size_t i = 0; i < o->n_moved; i++) {
        json_array_append_new(list, moved_json(q, s, &o->moved[i]));
    }
    size_t fresh = json_array_size(list);
    for (size_t i = 0; i < json_array_size(s->moved); i++) {
        json_t *old = json_array_get(s->moved, i);
        bool again = !json_is_true(json_object_get(old, "latched"));
        for (size_t k = 0; k < fresh && !again; k++) {
            again = json_equal(json_object_get(old, "name"),
                               json_object_get(json_array_get(list, k), "name"));
        }
        if (!again && json_array_size(list) < OT_EDETECT_MOVED_MAX) {
            json_array_append(list, old);
        }
    }
    if (list == NULL || fresh != o->n_moved) {
        json_decref(list);
        return ot_fail(err, OT_EXHAUSTED, "evidence of %s: no memory", q->cfg.deployment);
    }
    json_decref(s->moved);
    s->moved = list;
    return OT_OK;
}

static json_t *alarm_payload(const alarm *a, const char *text)
{
    int64_t block = a->q->cfg.block_us, since = a->b->index;
    json_t *moved = json_array();
    for (size_t i = 0; i < a->o->n_moved; i++) {
        if (a->pick[i]) {
            json_array_append_new(moved, moved_json(a->q, a->s, &a->o->moved[i]));
            since = OT_MIN(since, a->o->moved[i].since_block);
        }
    }
    return json_pack("{s:s, s:s, s:I, s:o, s:I, s:f, s:f, s:I, s:I, s:I, s:I, s:[I]}", "text", text,
                     "of", a->s->name, "version", (json_int_t)a->q->drift->champion, "moved", moved,
                     "since_us", (json_int_t)(since * block), "evidence", a->o->evidence,
                     "threshold", a->o->threshold, "block_us", (json_int_t)(a->b->index * block),
                     "length_us", (json_int_t)block, "rows", (json_int_t)a->b->rows, "windows",
                     (json_int_t)a->b->windows, "because", (json_int_t)a->because);
}

/* More of a change that has rung: it is in the log, under the alarm, and rings nobody. */
static ot_rc add_to(ot_txn *txn, const alarm *a, uint64_t first, ot_error *err)
{
    char names[512], text[640];
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(a->s->moved); i++) {
        n += json_is_true(json_object_get(json_array_get(a->s->moved, i), "latched"));
    }
    alarm_text(a, names, sizeof names);
    snprintf(text, sizeof text, "%zu%s %s by now; also %s", n,
             n == OT_EDETECT_MOVED_MAX ? " or more" : "", a->s->name, names);
    json_t *payload = alarm_payload(a, text);
    json_object_set_new(payload, "first", json_integer((json_int_t)first));
    json_object_set_new(payload, "named", json_integer((json_int_t)n));
    json_array_append_new(json_object_get(payload, "because"), json_integer((json_int_t)first));
    if (payload == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "evidence of %s: no memory", a->q->cfg.deployment);
    }
    return q_event(txn, a->q, "drift.spread", NULL, payload, NULL, err);
}

static ot_rc raise_alarm(ot_txn *txn, const alarm *a, size_t which, q_found *found, ot_error *err)
{
    static const char *const types[Q_ALARMS] = {"drift.detected", "quality.at_risk"};
    static const ot_finding_kind kinds[Q_ALARMS] = {OT_FINDING_DRIFT, OT_FINDING_AT_RISK};
    q_said *said = &a->s->said[which];
    bool goes_on = said->seq != 0 && a->b->index - said->block <= a->q->cfg.blocks_per_day;
    said->block = a->b->index;
    if (goes_on) {
        return add_to(txn, a, said->seq, err);
    }
    if (found->n == OT_COUNT(found->items)) {
        return ot_fail(err, OT_INTERNAL, "evidence of %s: more findings than blocks can give",
                       a->q->cfg.deployment);
    }
    q_found_one *f = &found->items[found->n];
    f->kind = kinds[which];
    alarm_text(a, f->text, sizeof f->text);
    json_t *payload = alarm_payload(a, f->text);
    if (payload == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "evidence of %s: no memory", a->q->cfg.deployment);
    }
    OT_TRY(q_event(txn, a->q, types[which], NULL, payload, &f->event_seq, err));
    said->seq = f->event_seq;
    found->n++;
    return OT_OK;
}

/* Confidence that fell says that accuracy may have fallen, even when it is the spread or the share
 * outside the range that gave the evidence: then the mean tells which way. */
static bool is_fall(const q_side *s, const ot_edetect_moved *m)
{
    if (strcmp(name_of(s, m), "confidence") != 0) {
        return false;
    }
    if (m->kind == OT_SCORE_LOCATION) {
        return m->effect < 0;
    }
    const ot_score_series *series = ot_score_plan_series(s->plan);
    for (size_t i = 0; i < ot_score_plan_count(s->plan); i++) {
        if (series[i].feature == m->feature && series[i].kind == OT_SCORE_LOCATION) {
            ot_edetect_series_info info;
            ot_edetect_get_series(s->detector, i, &info);
            return s->n[i] > 0 && s->value[i] < info.level;
        }
    }
    return false;
}

static ot_rc alarms(ot_txn *txn, alarm *a, q_found *found, ot_error *err)
{
    bool outputs = a->s == &a->q->drift->side[Q_OUTPUTS], any_fall = false, any_other = false;
    bool fall[OT_EDETECT_MOVED_MAX] = {false};
    for (size_t i = 0; i < a->o->n_moved; i++) {
        const ot_edetect_moved *m = &a->o->moved[i];
        fall[i] = outputs && m->latched && is_fall(a->s, m);
        a->pick[i] = m->latched && !fall[i];
        any_fall |= fall[i];
        any_other |= a->pick[i];
    }
    if (any_other || !any_fall) {
        OT_TRY(raise_alarm(txn, a, Q_DRIFT, found, err));
    }
    if (any_fall) {
        memcpy(a->pick, fall, sizeof fall);
        OT_TRY(raise_alarm(txn, a, Q_AT_RISK, found, err));
    }
    return OT_OK;
}

static ot_rc suspended(ot_txn *txn, const alarm *a, ot_error *err)
{
    ot_edetect_status st;
    char text[320];
    ot_edetect_get_status(a->s->detector, &st);
    const ot_score_series *worst = &ot_score_plan_series(a->s->plan)[st.suspended_series];
    const char *name = ot_hist_schema_name(a->s->ref.schema, worst->feature);
    snprintf(text, sizeof text,
             "the number of false alarms is not promised any more: %s varies more than was learnt",
             name);
    json_t *payload = json_pack("{s:s, s:s, s:I, s:s, s:I, s:[I]}", "text", text, "of", a->s->name,
                                "version", (json_int_t)a->q->drift->champion, "kind",
                                ot_score_kind_name((ot_score_kind)worst->kind), "since_us",
                                (json_int_t)(st.suspended_since_block * a->q->cfg.block_us),
                                "because", (json_int_t)a->because);
    if (payload == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "evidence of %s: no memory", a->q->cfg.deployment);
    }
    return q_event(txn, a->q, "drift.promise_suspended", NULL, payload, NULL, err);
}

ot_rc q_drift_outcome(ot_txn *txn, const ot_quality *q, q_side *s, const q_block *b,
                      const ot_edetect_outcome *o, uint64_t because, q_found *found, ot_error *err)
{
    alarm a = {.q = q, .s = s, .b = b, .o = o, .because = because};
    OT_TRY(keep_moved(q, s, o, err));
    if (o->promise_suspended_now) {
        OT_TRY(suspended(txn, &a, err));
    }
    return o->alarm ? alarms(txn, &a, found, err) : OT_OK;
}
