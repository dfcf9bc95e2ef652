/* Error budgets: how each objective's stands, the edges of it that somebody must see, and what a
 * spent one takes away. The counts are summed by the store, so that a look reads few rows however
 * long the period is, and a restarted process knows all that the last one did. */
#include "pipeline/internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "store/tally.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SECOND_US INT64_C(1000000)
#define HOUR_US (3600 * SECOND_US)
#define DAY_US (24 * HOUR_US)
#define KEEP_US (32 * DAY_US)         /* counts, at least: a period may be made longer */
#define LASTS_MAX_US (36500 * DAY_US) /* how far ahead a budget's end is told */
#define BACK 0.1 /* of the budget: so much must be there before it counts as recovered */

const char *pl_objective_name(pl_objective o)
{
    static const char *const names[] = {"availability", "latency_p99", "accuracy"};
    return names[o];
}

/* ------------------------------------------------------------------ a look */

static void terms(const pl_app *a, pl_objective o, pl_budget_look *l)
{
    const ot_app_objectives *x = &a->app->objectives;
    switch (o) {
    case PL_AVAILABILITY:
        l->known = x->availability.mark.line != 0;
        l->allowed = 1 - x->availability.at_least;
        l->over_us = x->availability.over_us;
        break;
    case PL_LATENCY:
        l->known = x->latency_p99.mark.line != 0;
        l->allowed = 1 - x->latency_p99.share;
        l->over_us = DAY_US;
        break;
    default:
        l->known = x->accuracy.mark.line != 0;
        l->allowed = 1 - x->accuracy.at_least;
        l->over_us = x->accuracy.over_us;
        break;
    }
    /* Counted by the minute: over less there is nothing to spend. */
    l->known = l->known && l->over_us >= OT_TALLY_STEP_US;
}

typedef struct look_arg {
    pl_app *a;
    pl_objective o;
    pl_budget_look *l;
    char tally[48];
    int64_t first_us, end_us; /* what is known lies between */
} look_arg;

static ot_rc sum(ot_txn *txn, const look_arg *k, int64_t window_us, ot_budget_counts *out,
                 ot_error *err)
{
    int64_t from = k->end_us - window_us;
    ot_tally_counts c;
    OT_TRY(ot_tally_sum(txn, k->a->app->serve.deployment, k->tally, from - from % OT_TALLY_STEP_US,
                        k->end_us + 1, &c, err));
    *out = (ot_budget_counts){.events = c.events, .bad = c.bad, .seen = c.seen};
    return OT_OK;
}

static ot_rc look_at_rule(ot_txn *txn, const look_arg *k, size_t i, ot_error *err)
{
    pl_budget_look *l = k->l;
    const ot_budget_rule *r = &l->rules[i];
    int64_t covered = k->end_us - k->first_us;
    ot_budget_counts lng, shrt;
    OT_TRY(sum(txn, k, r->long_us, &lng, err));
    OT_TRY(sum(txn, k, r->short_us, &shrt, err));
    l->rates[i][0] = ot_budget_rate(&lng, l->allowed, covered, r->long_us);
    l->rates[i][1] = ot_budget_rate(&shrt, l->allowed, covered, r->short_us);
    l->holds[i] = l->rates[i][0] >= r->rate && l->rates[i][1] >= r->rate &&
                  ot_budget_proven(&lng, l->allowed);
    return OT_OK;
}

/* Labels come late: what they say ends where they end, and says nothing once they are later than
 * they should be. */
static ot_rc look_txn(ot_txn *txn, void *arg, ot_error *err)
{
    look_arg *k = arg;
    pl_budget_look *l = k->l;
    int64_t now = l->at_us, last = 0;
    k->end_us = now;
    OT_TRY(ot_tally_range(txn, k->a->app->serve.deployment, k->tally,
                          now - l->over_us - OT_TALLY_STEP_US, &k->first_us, &last, err));
    OT_TRY(sum(txn, k, l->over_us, &l->counts, err));
    l->rate = ot_budget_rate(&l->counts, l->allowed, now - k->first_us, l->over_us);
    if (l->counts.bad <= 0) {
        return OT_OK;
    }
    int64_t late = 0;
    if (k->o == PL_ACCURACY) {
        k->end_us = OT_MIN(now, last + OT_TALLY_STEP_US - 1);
        late = now - k->end_us - k->a->app->serve.labels.expected_within_us;
    }
    for (size_t i = 0; i < OT_BUDGET_RULES; i++) {
        if (late < l->rules[i].long_us) {
            OT_TRY(look_at_rule(txn, k, i, err));
        }
    }
    return OT_OK;
}

static ot_rc look(pl_app *a, pl_objective o, pl_budget_look *out, ot_error *err)
{
    pl_budget_look l = {.at_us = ot_clock_wall_us()};
    look_arg k = {.a = a, .o = o, .l = &l};
    terms(a, o, &l);
    if (o == PL_LATENCY) {
        ot_tally_latency(a->app->objectives.latency_p99.at_most_us, k.tally);
    } else {
        snprintf(k.tally, sizeof k.tally, "%s",
                 o == PL_ACCURACY ? OT_TALLY_ACCURACY : OT_TALLY_AVAILABILITY);
    }
    /* A window comes when it is over, so a span must be longer than one to be sure of any. */
    ot_budget_rules(l.over_us, a->app->quality.window_us + OT_TALLY_STEP_US, l.rules);
    if (l.known) {
        OT_TRY(ot_store_read(a->p->store, look_txn, &k, err));
    }
    for (size_t i = 0; i < OT_BUDGET_RULES; i++) {
        /* What the last process saw burning is as if it had been seen just now. */
        bool goes_on = !out->known && a->st.budgets[o].rule == (int64_t)i + 1;
        l.held_us[i] = l.holds[i] || goes_on ? l.at_us : out->held_us[i];
    }
    *out = l;
    return OT_OK;
}

/* ------------------------------------------------------------------ what is said of it */

/* The most urgent rule that held within its short window, so that noise about the threshold is not
 * a new alarm each time; as 1 + index, 0: none. */
static int64_t burns(const pl_budget_look *l)
{
    for (size_t i = 0; i < OT_BUDGET_RULES; i++) {
        if (l->held_us[i] != 0 && l->at_us - l->held_us[i] < l->rules[i].short_us) {
            return (int64_t)i + 1;
        }
    }
    return 0;
}

static json_t *with_numbers(json_t *payload, pl_objective o, const pl_budget_look *l)
{
    json_object_set_new(payload, "objective", json_string(pl_objective_name(o)));
    json_object_set_new(payload, "remaining", json_real(1 - l->rate));
    json_object_set_new(payload, "events", json_real(l->counts.events));
    json_object_set_new(payload, "bad", json_real(l->counts.bad));
    json_object_set_new(payload, "over_us", json_integer(l->over_us));
    return payload;
}

static pl_event *add_event(pl_change *c, const char *type, json_t *payload)
{
    char object[96];
    pl_event *e = pl_change_event(c, type, pl_object_app(c->app, object), payload);
    e->alert = true;
    e->aside = true;
    return e;
}

static void tell_burning(pl_change *c, pl_objective o, const pl_budget_look *l, size_t i)
{
    const ot_budget_rule *r = &l->rules[i];
    double rate = l->rates[i][0], left = 1 - l->rate;
    char lng[32], shrt[32], in[32], rest[96] = "nothing is left";
    /* What burned a moment ago may burn nothing now: the rate may be 0. */
    double lasts = left > 0 && rate > 0 ? left / rate * (double)l->over_us : 0;
    int64_t lasts_us = (int64_t)OT_MIN(lasts, (double)LASTS_MAX_US);
    if (left > 0 && rate > 0) {
        snprintf(rest, sizeof rest, "%.3g%% is left, at this rate for %s", left * 100,
                 ot_format_duration(lasts_us, in));
    } else if (left > 0) {
        snprintf(rest, sizeof rest, "%.3g%% is left", left * 100);
    }
    json_t *p = pl_text("%s burns its budget %.3g times as fast as it may (over %s and %s): %s",
                        pl_objective_name(o), rate, ot_format_duration(r->long_us, lng),
                        ot_format_duration(r->short_us, shrt), rest);
    p = with_numbers(p, o, l);
    json_object_set_new(p, "severity", json_string(r->page ? "page" : "ticket"));
    json_object_set_new(p, "rate", json_real(rate));
    json_object_set_new(p, "rate_short", json_real(l->rates[i][1]));
    json_object_set_new(p, "threshold", json_real(r->rate));
    json_object_set_new(p, "long_us", json_integer(r->long_us));
    json_object_set_new(p, "short_us", json_integer(r->short_us));
    json_object_set_new(p, "spent_at_us", json_integer(l->at_us + lasts_us));
    add_event(c, "budget.burning", p)->keep_seq = &c->next.budgets[o].burning_seq;
}

/* One event for a burn; another when it becomes a page. */
static void note_burning(pl_change *c, pl_objective o, const pl_budget_look *l)
{
    pl_budget *b = &c->next.budgets[o];
    int64_t rule = burns(l);
    if (rule == 0 && b->rule != 0) {
        json_t *p = pl_text("%s burns its budget no faster than it may: %.3g%% is left",
                            pl_objective_name(o), (1 - l->rate) * 100);
        pl_event *e = add_event(c, "budget.recovered", with_numbers(p, o, l));
        e->because[e->n_because++] = b->burning_seq;
    }
    bool urgent =
        rule != 0 && (b->rule == 0 || (l->rules[rule - 1].page && !l->rules[b->rule - 1].page));
    if (urgent) {
        tell_burning(c, o, l, (size_t)rule - 1);
    }
    b->rule = rule;
}

static void tell_spent(pl_change *c, pl_objective o, const pl_budget_look *l, const char *what)
{
    static const char *const bad[] = {"requests failed", "windows were slow",
                                      "labelled answers were wrong"};
    const char *app = c->app->app->app;
    pl_budget *b = &c->next.budgets[o];
    char over[32], train[160];
    snprintf(train, sizeof train, ", or trains it anew: overtake train %s", app);
    json_t *p = pl_text(
        "the budget of %s is %s: %.0f of %.0f %s in %s, %.4g%% may; nothing goes on by "
        "itself until somebody resumes it: overtake resume %s --reason TEXT%s",
        pl_objective_name(o), what, l->counts.bad, l->counts.events, bad[o],
        ot_format_duration(l->over_us, over), l->allowed * 100, app, o == PL_ACCURACY ? train : "");
    pl_event *e = add_event(c, "budget.spent", with_numbers(p, o, l));
    e->keep_seq = &b->spent_seq;
    if (b->burning_seq != 0) {
        e->because[e->n_because++] = b->burning_seq;
    }
    b->spent = b->off = true;
    b->off_us = l->at_us;
    b->granted_us = 0;
}

static void tell_restored(pl_change *c, pl_objective o, const pl_budget_look *l)
{
    pl_budget *b = &c->next.budgets[o];
    json_t *p = pl_text("%.3g%% of the budget of %s is there again%s", (1 - l->rate) * 100,
                        pl_objective_name(o),
                        b->off ? "; nothing goes on by itself until somebody resumes "
                                 "it"
                               : "");
    pl_event *e = add_event(c, "budget.restored", with_numbers(p, o, l));
    e->because[e->n_because++] = b->spent_seq;
    b->spent = false;
    b->granted_us = 0;
}

static void note_spent(pl_change *c, pl_objective o, const pl_budget_look *l)
{
    const pl_budget *b = &c->next.budgets[o];
    if (b->spent && 1 - l->rate >= BACK) {
        tell_restored(c, o, l);
    } else if (!b->spent && ot_budget_spent(&l->counts, l->allowed, l->rate)) {
        tell_spent(c, o, l, "spent");
    } else if (b->spent && !b->off && l->at_us >= b->granted_us) {
        tell_spent(c, o, l, "still spent, and the time that was granted is over");
    }
}

/* Whoever takes an objective away has acted. */
static void say(pl_app *a, pl_objective o)
{
    const pl_budget_look *l = &a->looks[o];
    const pl_budget *was = &a->st.budgets[o];
    pl_change c = pl_change_of(a);
    if (l->known) {
        note_burning(&c, o, l);
        note_spent(&c, o, l);
    } else {
        c.next.budgets[o] = (pl_budget){0};
    }
    bool gone = !l->known && (was->spent || was->off);
    if (c.n_events > 0 || gone || c.next.budgets[o].rule != was->rule) {
        (void)pl_commit_logged(&c);
    }
}

static ot_rc forget_txn(ot_txn *txn, void *arg, ot_error *err)
{
    const pl_app *a = arg;
    const ot_app_objectives *o = &a->app->objectives;
    int64_t keep = OT_MAX(KEEP_US, OT_MAX(o->accuracy.over_us, o->availability.over_us));
    keep += a->app->serve.labels.expected_within_us;
    return ot_tally_expire(txn, a->app->serve.deployment, ot_clock_wall_us() - keep,
                           OT_TALLY_EXPIRE_MAX, err);
}

void pl_budget_tick(pl_app *a)
{
    int64_t now = ot_clock_wall_us();
    int64_t step = OT_MIN(OT_MAX(a->app->quality.window_us, SECOND_US), OT_TALLY_STEP_US);
    if (now < a->look_us && a->look_us - now <= step) {
        return;
    }
    ot_error err = {0};
    const char *name = a->app->app;
    /* After the first look each app has a moment of its own, so that many do not come at once. */
    uint64_t early = a->look_us == 0 ? ot_hash_stable(name, strlen(name), 0) % (uint64_t)step : 0;
    a->look_us = now + step - (int64_t)early;
    for (pl_objective o = 0; o < PL_OBJECTIVES; o++) {
        if (look(a, o, &a->looks[o], &err) == OT_OK) {
            say(a, o);
        } else {
            ot_err("pipeline", "app %s: budget of %s: %s", a->app->app, pl_objective_name(o),
                   err.msg);
        }
    }
    if (now >= a->forget_us) {
        a->forget_us = now + HOUR_US;
        if (ot_store_write(a->p->store, forget_txn, a, &err) != OT_OK) {
            ot_err("pipeline", "app %s: old counts: %s", a->app->app, err.msg);
        }
    }
}

/* ------------------------------------------------------------------ what it takes away */

const pl_budget *pl_budget_off(const pl_app *a)
{
    for (size_t o = 0; o < PL_OBJECTIVES; o++) {
        if (a->st.budgets[o].off) {
            return &a->st.budgets[o];
        }
    }
    return NULL;
}

bool pl_budget_holds(const pl_app *a)
{
    const pl_cycle *c = &a->st.cycle;
    for (size_t o = 0; o < PL_OBJECTIVES; o++) {
        const pl_budget *b = &a->st.budgets[o];
        if (b->off && !(c->by_person && c->caused_us >= b->off_us)) {
            return true;
        }
    }
    return false;
}

void pl_budget_why(const pl_app *a, char out[160])
{
    const pl_budget *b = pl_budget_off(a);
    char since[32];
    out[0] = 0;
    if (b != NULL) {
        snprintf(out, 160, "the budget of %s was spent at %s and nobody has resumed it",
                 pl_objective_name((pl_objective)(b - a->st.budgets)),
                 ot_format_time(b->off_us, since));
    }
}

void pl_budget_tell_held(pl_app *a, const char *where)
{
    char object[OT_OBJECT_TEXT], why[160];
    if (a->st.cycle.held_told) {
        return;
    }
    pl_budget_why(a, why);
    ot_registry_object(object, a->app->app, a->st.cycle.version);
    pl_change c = pl_change_of(a);
    c.next.cycle.held_told = true;
    pl_event *e =
        pl_change_event(&c, "release.held", object,
                        pl_text("v%" PRId64 " is held %s: %s", a->st.cycle.version, where, why));
    e->alert = true;
    e->aside = true;
    e->because[e->n_because++] = pl_budget_off(a)->spent_seq;
    e->because[e->n_because++] = a->st.cycle.last_seq;
    (void)pl_commit_logged(&c);
}

bool pl_budget_resume(pl_state *s, int64_t for_us)
{
    bool any = false;
    int64_t until;
    if (for_us <= 0 || __builtin_add_overflow(ot_clock_wall_us(), for_us, &until)) {
        until = INT64_MAX;
    }
    for (size_t o = 0; o < PL_OBJECTIVES; o++) {
        pl_budget *b = &s->budgets[o];
        if (b->off || (b->spent && for_us > 0)) {
            any = true;
            b->off = false;
            b->granted_us = b->spent ? until : 0;
        }
    }
    s->cycle.held_told = false;
    return any;
}
