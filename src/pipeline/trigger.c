/* Triggers: conditions that start a cycle by themselves. Edges, not levels: one fires once and is
 * armed again by a promotion or after the cool-down; at most so often, and not after failures. */
#include "pipeline/internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <inttypes.h>
#include <string.h>

static ot_rc condition_value(void *arg, const ot_expr_name *name, ot_expr_value *out, ot_error *err)
{
    pl_app *a = arg;
    const pl_state *s = &a->st;
    int64_t joined = ot_quality_labels_joined(a->quality);
    int64_t now = ot_clock_wall_us();
    switch ((ot_condition)name->slot) {
    case OT_CONDITION_DEGRADED:
        *out = ot_expr_bool(s->degraded);
        break;
    case OT_CONDITION_AT_RISK:
        *out = ot_expr_bool(s->at_risk);
        break;
    case OT_CONDITION_DRIFT:
        *out = ot_expr_bool(s->drift);
        break;
    case OT_CONDITION_LABELS_NEW:
        *out = ot_expr_number((double)(joined - s->labels_at_training));
        break;
    case OT_CONDITION_LABELS_TOTAL:
        *out = ot_expr_number((double)joined);
        break;
    case OT_CONDITION_CHAMPION_VERSION:
        *out = s->champion > 0 ? ot_expr_number((double)s->champion) : ot_expr_null();
        break;
    case OT_CONDITION_CHAMPION_AGE:
        *out = s->champion > 0 ? ot_expr_duration((double)(now - s->champion_since_us))
                               : ot_expr_null();
        break;
    case OT_CONDITION_ESTIMATE: {
        ot_accuracy acc = {0};
        OT_TRY(ot_quality_accuracy(a->quality, s->champion,
                                   now - a->app->objectives.accuracy.over_us, now, &acc, err));
        *out = acc.labelled > 0 ? ot_expr_number(acc.estimate) : ot_expr_null();
        break;
    }
    }
    return OT_OK;
}

static bool condition_holds(pl_app *a, size_t i)
{
    ot_arena arena;
    ot_arena_init(&arena, 4096, 1 << 20);
    ot_error err = {0};
    ot_expr *e = NULL;
    ot_expr_value v = ot_expr_null();
    ot_rc rc = ot_app_condition_parse(a->app, i, &arena, &e, &err);
    if (rc == OT_OK) {
        rc = ot_expr_eval(e, condition_value, a, &v, &err);
    }
    if (rc != OT_OK) {
        ot_err("pipeline", "app %s: condition: %s", a->app->app, err.msg);
    }
    bool holds = rc == OT_OK && ot_expr_holds(&v);
    ot_arena_done(&arena);
    return holds;
}

static int64_t fired_within(const pl_state *s, int64_t period_us, int64_t now)
{
    int64_t n = 0;
    for (int64_t i = 0; i < s->n_fired; i++) {
        n += s->fired_us[i] > now - period_us;
    }
    return n;
}

static void remember_fired(pl_state *s, int64_t now)
{
    if (s->n_fired == PL_FIRED_MAX) {
        memmove(s->fired_us, s->fired_us + 1, (PL_FIRED_MAX - 1) * sizeof s->fired_us[0]);
        s->n_fired--;
    }
    s->fired_us[s->n_fired++] = now;
}

static void add_reasons(const pl_app *a, pl_event *e)
{
    const uint64_t seqs[] = {a->st.degraded ? a->st.degraded_seq : 0,
                             a->st.at_risk ? a->st.at_risk_seq : 0,
                             a->st.drift ? a->st.drift_seq : 0};
    for (size_t i = 0; i < OT_COUNT(seqs); i++) {
        if (seqs[i] != 0) {
            e->because[e->n_because++] = seqs[i];
        }
    }
}

static void tell_held(pl_app *a, const char *condition, const char *why)
{
    if (a->st.hold_told) {
        return;
    }
    char object[96];
    pl_change c = pl_change_of(a);
    c.next.hold_told = true;
    pl_event *e = pl_change_event(&c, "trigger.held", pl_object_app(a, object),
                                  pl_text("'%s' holds, but %s", condition, why));
    e->alert = true;
    e->aside = true;
    add_reasons(a, e);
    if (pl_budget_off(a) != NULL) {
        e->because[e->n_because++] = pl_budget_off(a)->spent_seq;
    }
    (void)pl_commit_logged(&c);
}

/* The new champion serves and is only watched: when the world moves again, it is replaced too. */
static bool in_probation(const pl_state *s)
{
    return s->cycle.state == PL_RELEASING && s->cycle.rollout.promoted;
}

static void fire(pl_app *a, const char *condition)
{
    char object[96];
    int64_t now = ot_clock_wall_us();
    pl_change c = pl_change_of(a);
    bool ends_probation = in_probation(&a->st);
    if (ends_probation) {
        ot_registry_object(object, a->app->app, a->st.champion);
        pl_event *p = pl_change_event(
            &c, "probation.ended", object,
            pl_text("the probation of v%" PRId64 " ends: a new run begins", a->st.champion));
        p->aside = true;
        add_reasons(a, p);
    }
    json_t *payload = pl_text("retrain: %s", condition);
    json_object_set_new(payload, "condition", json_string(condition));
    pl_event *e = pl_change_event(&c, "trigger.fired", pl_object_app(a, object), payload);
    add_reasons(a, e);
    c.next.armed = false;
    c.next.hold_told = false;
    remember_fired(&c.next, now);
    pl_cycle_train(&c, false);
    if (!pl_commit_logged(&c)) {
        return;
    }
    if (ends_probation) {
        pl_release_watch(a);
        pl_desired_changed(a->p);
    }
    pl_cycle_go(a);
}

static void try_fire(pl_app *a, const char *condition)
{
    const ot_conf_rate *rate = &a->app->retrain.at_most;
    int64_t now = ot_clock_wall_us();
    char spent[160];
    pl_budget_why(a, spent);
    if (a->refused[0] != 0) {
        tell_held(a, condition, a->refused);
    } else if (spent[0] != 0) {
        tell_held(a, condition, spent);
    } else if (a->st.paused || a->st.pinned > 0 || a->st.unloaded) {
        tell_held(a, condition,
                  a->st.paused     ? "the loop is paused"
                  : a->st.unloaded ? "it is unloaded"
                                   : "a version is pinned");
    } else if (fired_within(&a->st, rate->per_us, now) >= rate->count) {
        tell_held(a, condition, "retrain.at_most is used up");
    } else {
        fire(a, condition);
    }
}

void pl_trigger_tick(pl_app *a)
{
    pl_state *s = &a->st;
    int64_t now = ot_clock_wall_us();
    bool open = s->cycle.state != PL_IDLE && !in_probation(s);
    if (s->frozen || open || s->champion == 0 || now < s->cool_until_us) {
        return;
    }
    if (!s->armed && s->cool_until_us != 0) {
        pl_change c = pl_change_of(a);
        c.next.armed = true;
        c.next.cool_until_us = 0;
        if (!pl_commit_logged(&c)) {
            return;
        }
    }
    for (size_t i = 0; s->armed && i < a->app->retrain.when.n; i++) {
        if (condition_holds(a, i)) {
            try_fire(a, a->app->retrain.when.v[i]);
            return;
        }
    }
}

int64_t pl_trigger_next_us(const pl_app *a)
{
    /* Ages and rates pass without an event; a minute is fine for what is counted in days. */
    int64_t now = ot_clock_wall_us(), next = now + 60000000;
    if (a->st.cool_until_us > now) {
        next = OT_MIN(next, a->st.cool_until_us);
    }
    return next;
}
