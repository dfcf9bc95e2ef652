/* Release: drives the rollout with verdicts of quality and words of people, and turns what changes
 * into status, events and the desired state. */
#include "pipeline/internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Loaded beside the champion; then, unless a probation says it, the previous version is kept. */
static size_t blue_green_steps(const pl_app *a, size_t at, ot_rollout_step base,
                               ot_rollout_step *out)
{
    const ot_app_release *r = &a->app->release;
    const ot_app_stage *s = &r->v[at];
    base.kind = OT_ROLLOUT_BLUE_GREEN;
    base.until_compared = s->until_compared;
    base.otherwise = OT_ROLLOUT_END_STOP;
    out[0] = base;
    if (at + 1 < r->n) {
        return 1;
    }
    base.kind = OT_ROLLOUT_PROBATION;
    base.until_compared = 0;
    base.at_most_us = s->for_us;
    base.roll_back_if_worse = s->roll_back_if == 0;
    out[1] = base;
    return 2;
}

static size_t steps_of(const pl_app *a, ot_rollout_step *out)
{
    size_t n = 0;
    bool champion = a->st.champion > 0;
    for (size_t i = 0; i < a->app->release.n; i++) {
        const ot_app_stage *s = &a->app->release.v[i];
        ot_rollout_step base = {.at_most_us = s->at_most_us,
                                .margin = s->margin > 0 ? s->margin : 0.01,
                                .alpha = s->alpha > 0 ? s->alpha : 0.05,
                                .otherwise = (ot_rollout_end)s->otherwise};
        switch (s->kind) {
        case OT_STAGE_GATE:
            break;
        case OT_STAGE_APPROVAL:
            base.kind = OT_ROLLOUT_APPROVAL;
            out[n++] = base;
            break;
        case OT_STAGE_SHADOW:
            base.kind = OT_ROLLOUT_SHADOW;
            base.until_compared = s->until_compared;
            /* A first version has nothing to be compared with. */
            n += champion ? (out[n] = base, 1u) : 0u;
            break;
        case OT_STAGE_CANARY:
            base.kind = OT_ROLLOUT_CANARY;
            for (size_t k = 0; champion && k < s->n_shares && n + 1 < OT_ROLLOUT_STEPS_MAX; k++) {
                base.share = s->shares[k];
                out[n++] = base;
            }
            break;
        case OT_STAGE_BLUE_GREEN:
            n += champion && n + 2 <= OT_ROLLOUT_STEPS_MAX ? blue_green_steps(a, i, base, &out[n])
                                                           : 0u;
            break;
        case OT_STAGE_KINDS:
            break;
        case OT_STAGE_PROBATION:
            base.kind = OT_ROLLOUT_PROBATION;
            base.at_most_us = s->for_us;
            base.roll_back_if_worse = s->roll_back_if == 0;
            n += champion ? (out[n] = base, 1u) : 0u;
            break;
        }
        if (n == OT_ROLLOUT_STEPS_MAX) {
            break;
        }
    }
    return n;
}

/* ------------------------------------------------------------------ what changed */

typedef struct release_change {
    pl_change c;
    unsigned changed;
    pl_app *a;
    char object[OT_OBJECT_TEXT];
} release_change;

static ot_rc set_status(ot_txn *txn, const pl_app *a, int64_t version, ot_version_status status,
                        ot_error *err)
{
    return ot_registry_set_status(txn, a->app->app, version, status, NULL, NULL, err);
}

static ot_version_status status_of_step(const pl_state *next)
{
    const ot_rollout_step *s = ot_rollout_step_now(&next->cycle.rollout);
    return s == NULL                      ? OT_VERSION_GATED
           : s->kind == OT_ROLLOUT_SHADOW ? OT_VERSION_SHADOW
           : s->kind == OT_ROLLOUT_CANARY ? OT_VERSION_CANARY
                                          : OT_VERSION_GATED;
}

/* The rows of the registry follow the rollout in the transaction of the events. */
static ot_rc follow(ot_txn *txn, void *arg, pl_state *next, ot_error *err)
{
    release_change *r = arg;
    pl_app *a = r->a;
    const ot_rollout *ro = &next->cycle.rollout;
    if (r->changed & OT_ROLLOUT_CHANGED_PROMOTED) {
        int64_t previous = 0;
        OT_TRY(ot_registry_promote(txn, a->app->app, next->champion, OT_VERSION_RETIRED, NULL,
                                   &previous, NULL, err));
        return ot_quality_promoted(a->quality, txn, next->champion, err);
    }
    if ((r->changed & OT_ROLLOUT_CHANGED_END) && ro->state == OT_ROLLOUT_ROLLED_BACK &&
        ro->promoted) {
        int64_t previous = 0;
        OT_TRY(ot_registry_promote(txn, a->app->app, next->champion, OT_VERSION_REFUSED, NULL,
                                   &previous, NULL, err));
        return ot_quality_promoted(a->quality, txn, next->champion, err);
    }
    if ((r->changed & OT_ROLLOUT_CHANGED_END) && ro->state != OT_ROLLOUT_DONE) {
        return set_status(txn, a, next->cycle.version, OT_VERSION_REFUSED, err);
    }
    if ((r->changed & OT_ROLLOUT_CHANGED_STEP) && !ro->promoted) {
        return set_status(txn, a, next->cycle.version, status_of_step(next), err);
    }
    return OT_OK;
}

static json_t *pair_json(const pl_app *a)
{
    ot_pair_state p;
    if (a->quality == NULL || !ot_quality_pair(a->quality, &p)) {
        return NULL;
    }
    return json_pack("{s:I,s:I,s:I,s:I,s:I,s:f,s:f,s:f,s:f,s:I}", "compared",
                     (json_int_t)p.compared, "candidate_right", (json_int_t)p.candidate_right,
                     "champion_right", (json_int_t)p.champion_right, "only_candidate_right",
                     (json_int_t)p.only_candidate_right, "only_champion_right",
                     (json_int_t)p.only_champion_right, "lower", p.lower, "upper", p.upper,
                     "e_worse", p.e_worse, "e_better", p.e_better, "candidate_answered",
                     (json_int_t)p.candidate_answered);
}

static void add_pair(const pl_app *a, json_t *payload)
{
    json_t *pair = pair_json(a);
    if (pair != NULL) {
        json_object_set_new(payload, "evidence", pair);
    }
}

static void event_step(release_change *r, const char *actor)
{
    const ot_rollout *ro = &r->c.next.cycle.rollout;
    const ot_rollout_step *s = ot_rollout_step_now(ro);
    if (s == NULL) {
        return;
    }
    int64_t v = r->c.next.cycle.version;
    json_t *p =
        s->kind == OT_ROLLOUT_CANARY
            ? pl_text("v%" PRId64 " enters canary at %g%%: %s", v, s->share * 100, ro->reason)
            : pl_text("v%" PRId64 " enters %s: %s", v, ot_rollout_kind_name(s->kind), ro->reason);
    json_object_set_new(p, "stage", json_string(ot_rollout_kind_name(s->kind)));
    json_object_set_new(p, "share", json_real(ot_rollout_share(ro)));
    add_pair(r->a, p);
    bool ask = s->kind == OT_ROLLOUT_APPROVAL;
    pl_event *e =
        pl_change_event(&r->c, ask ? "approval.requested" : "stage.entered", r->object, p);
    e->actor = actor;
    e->alert = ask;
}

/* Where the time from the cause to the promotion went. */
static json_t *account(const pl_cycle *c)
{
    int64_t total = c->promoted_us - c->caused_us;
    int64_t evidence = c->promoted_us - c->released_us;
    int64_t control = total - evidence - c->train_us - c->jobs_us;
    return json_pack("{s:I,s:I,s:I,s:I,s:I}", "total_us", (json_int_t)total, "training_us",
                     (json_int_t)c->train_us, "jobs_us", (json_int_t)c->jobs_us, "evidence_us",
                     (json_int_t)evidence, "control_us", (json_int_t)control);
}

static void apply_promotion(release_change *r, const char *actor)
{
    pl_state *n = &r->c.next;
    pl_state_champion(n, n->cycle.version, n->cycle.bundle, true);
    n->cycle.promoted_us = n->champion_since_us;
    n->armed = true;
    n->failures = 0;
    n->cool_until_us = 0;
    n->hold_told = false;
    json_t *p = pl_text("v%" PRId64 " promoted: %s", n->champion, n->cycle.rollout.reason);
    json_object_set_new(p, "previous", n->previous > 0 ? json_integer(n->previous) : json_null());
    json_object_set_new(p, "time", account(&n->cycle));
    add_pair(r->a, p);
    pl_event *e = pl_change_event(&r->c, "version.promoted", r->object, p);
    e->actor = actor;
    r->c.champion_event = r->c.n_events;
}

static void apply_end(release_change *r, const char *actor)
{
    pl_state *n = &r->c.next;
    const ot_rollout *ro = &n->cycle.rollout;
    n->cycle.state = PL_IDLE;
    n->cycle.run = 0;
    if (ro->state == OT_ROLLOUT_DONE) {
        if (ro->n_steps > 0 && ro->steps[ro->n_steps - 1].kind == OT_ROLLOUT_PROBATION) {
            json_t *p = pl_text("v%" PRId64 " is through probation", n->cycle.version);
            add_pair(r->a, p);
            pl_change_event(&r->c, "probation.passed", r->object, p);
        }
        return;
    }
    bool back = ro->state == OT_ROLLOUT_ROLLED_BACK;
    json_t *p = pl_text("v%" PRId64 " %s: %s", n->cycle.version, back ? "rolled back" : "stopped",
                        ro->reason);
    add_pair(r->a, p);
    if (back && ro->promoted) {
        pl_state_champion(n, n->previous, n->previous_bundle, false);
        json_object_set_new(p, "serving", json_integer(n->champion));
    }
    pl_event *e =
        pl_change_event(&r->c, back ? "version.rolled_back" : "release.stopped", r->object, p);
    e->actor = actor;
    e->alert = true;
    if (back && ro->promoted) {
        r->c.champion_event = r->c.n_events;
    }
    if (n->cycle.pushed) {
        return; /* what a person brought says nothing about the loop */
    }
    n->cool_until_us = ot_clock_wall_us() + r->a->app->retrain.cool_down_us;
    if (actor == NULL) {
        pl_change_failure(&r->c);
    }
}

/* Turns the flags into events and state; the change is committed by the caller. */
static void apply_changed(release_change *r, unsigned changed, const char *actor)
{
    r->changed = changed;
    r->c.next.cycle.waits[0] = 0;
    r->c.extra = follow;
    r->c.arg = r;
    if (changed & OT_ROLLOUT_CHANGED_PROMOTED) {
        apply_promotion(r, actor);
    }
    if (changed & OT_ROLLOUT_CHANGED_STEP) {
        r->c.next.cycle.watch_since_us = ot_clock_wall_us();
        event_step(r, actor);
    }
    if (changed & OT_ROLLOUT_CHANGED_END) {
        apply_end(r, actor);
    }
}

static ot_rc finish_change(release_change *r, ot_error *err)
{
    pl_app *a = r->a;
    OT_TRY(pl_commit(&r->c, err));
    a->compares = false;
    pl_release_watch(a);
    pl_desired_changed(a->p);
    return OT_OK;
}

static void finish_logged(release_change *r)
{
    ot_error err = {0};
    if (finish_change(r, &err) != OT_OK) {
        ot_err("pipeline", "app %s: release: %s", r->a->app->app, err.msg);
        pl_cycle_again(r->a);
    }
}

static release_change begin_change(pl_app *a)
{
    release_change r = {.c = pl_change_of(a), .a = a};
    ot_registry_object(r.object, a->app->app, a->st.cycle.version);
    return r;
}

/* ------------------------------------------------------------------ in */

void pl_release_start(pl_app *a, json_t *gate)
{
    ot_rollout_step steps[OT_ROLLOUT_STEPS_MAX];
    size_t n = steps_of(a, steps);
    int64_t now = ot_clock_wall_us();
    release_change r = begin_change(a);
    unsigned changed = 0;
    pl_change_event(&r.c, "gate.passed", r.object, gate);
    r.c.next.cycle.evaluated_us = r.c.next.cycle.released_us = now;
    r.c.next.cycle.state = PL_RELEASING;
    a->candidate_state[0] = 0;
    if (!ot_rollout_start(&r.c.next.cycle.rollout, steps, n, now, &changed)) {
        pl_change_drop(&r.c);
        pl_cycle_end(a, "cycle.failed", NULL, pl_text("release: a stage cannot end"), true);
        return;
    }
    apply_changed(&r, changed, NULL);
    finish_logged(&r);
}

static bool is_held(const pl_app *a)
{
    return a->st.frozen || a->st.cycle.state != PL_RELEASING;
}

/* The comparison of the current step; of an earlier one nothing is taken. */
static ot_rollout_verdict read_pair(const pl_app *a, int64_t *compared)
{
    ot_pair_state p;
    *compared = 0;
    if (!a->compares || !ot_quality_pair(a->quality, &p)) {
        return OT_ROLLOUT_UNDECIDED;
    }
    *compared = p.compared;
    return p.verdict == OT_PAIR_WORSE       ? OT_ROLLOUT_WORSE
           : p.verdict == OT_PAIR_NOT_WORSE ? OT_ROLLOUT_NOT_WORSE
                                            : OT_ROLLOUT_UNDECIDED;
}

bool pl_release_awaits(const pl_app *a)
{
    const ot_rollout_step *s =
        a->st.cycle.state == PL_RELEASING ? ot_rollout_step_now(&a->st.cycle.rollout) : NULL;
    return s != NULL && s->kind == OT_ROLLOUT_BLUE_GREEN;
}

ot_rc pl_release_waits_for(const pl_app *a, ot_error *err)
{
    const ot_pipeline_ports *ports = &a->p->ports;
    return ports->serves == NULL /* a rehearsal has no replicas */
               ? OT_OK
               : ports->serves(ports->self, a->app->serve.deployment, a->st.cycle.version, err);
}

/* Traffic or trust would grow. A release that ends badly, or is through probation, is not asked. */
static bool moves_forward(const release_change *r, unsigned changed)
{
    const ot_rollout *ro = &r->c.next.cycle.rollout;
    return (changed & (OT_ROLLOUT_CHANGED_STEP | OT_ROLLOUT_CHANGED_PROMOTED)) != 0 &&
           !r->a->st.cycle.rollout.promoted && ro->state != OT_ROLLOUT_STOPPED &&
           ro->state != OT_ROLLOUT_ROLLED_BACK;
}

/* A spent budget of what the service does says nothing good of a version that has a part in it. Of
 * right and wrong answers the comparison knows which version gives them. */
static bool may_be_the_cause(const pl_app *a)
{
    const pl_budget *b = a->st.budgets;
    return ot_rollout_share(&a->st.cycle.rollout) > 0 &&
           (b[PL_AVAILABILITY].off || b[PL_LATENCY].off);
}

static void take_back(pl_app *a)
{
    char why[160];
    ot_error err = {0};
    pl_budget_why(a, why);
    if (pl_release_abort(a, NULL, why, &err) != OT_OK) {
        ot_err("pipeline", "app %s: release: %s", a->app->app, err.msg);
    }
}

/* With a spent budget nothing goes forward by itself; back it goes as ever. */
void pl_release_tick(pl_app *a)
{
    bool held = !a->st.cycle.rollout.promoted && pl_budget_holds(a);
    if (a->st.cycle.state == PL_RELEASING && !a->compares) {
        pl_release_watch(a);
    }
    if (is_held(a)) {
        return;
    }
    if (held && may_be_the_cause(a)) {
        take_back(a);
        return;
    }
    int64_t compared;
    ot_rollout_verdict v = read_pair(a, &compared);
    if (v != OT_ROLLOUT_WORSE && pl_release_awaits(a) && pl_release_waits_for(a, NULL) == OT_OK) {
        v = OT_ROLLOUT_READY;
    }
    release_change r = begin_change(a);
    unsigned changed = ot_rollout_feed(&r.c.next.cycle.rollout, v, compared, ot_clock_wall_us());
    if (held && (changed == 0 || moves_forward(&r, changed))) {
        char where[64];
        snprintf(where, sizeof where, "in %s",
                 ot_rollout_kind_name(ot_rollout_step_now(&a->st.cycle.rollout)->kind));
        pl_budget_tell_held(a, where);
        return;
    }
    if (moves_forward(&r, changed) && pl_site_waits(a)) {
        return; /* the verdict stands and is taken when the site lets it */
    }
    if (changed != 0) {
        apply_changed(&r, changed, NULL);
        finish_logged(&r);
    } else if (a->st.cycle.waits[0] != 0) {
        r.c.next.cycle.waits[0] = 0;
        (void)pl_commit_logged(&r.c);
    }
}

ot_rc pl_release_decide(pl_app *a, bool yes, const char *actor, const char *reason, ot_error *err)
{
    release_change r = begin_change(a);
    const ot_rollout_step *s =
        a->st.cycle.state == PL_RELEASING ? ot_rollout_step_now(&a->st.cycle.rollout) : NULL;
    if (s == NULL || s->kind != OT_ROLLOUT_APPROVAL) {
        return ot_fail(err, OT_PRECONDITION, "app %s: nothing waits for an approval", a->app->app);
    }
    char why[320];
    int64_t until;
    if (yes) {
        OT_TRY(pl_site_may_approve(a, actor, err));
        if (pl_site_holds_release(a, why, &until)) {
            return ot_fail(err, OT_PRECONDITION, "app %s: v%" PRId64 " %s", a->app->app,
                           a->st.cycle.version, why);
        }
    }
    pl_event *e = pl_change_event(&r.c, yes ? "approval.given" : "approval.refused", r.object,
                                  pl_text("v%" PRId64 " %s by %s: %s", a->st.cycle.version,
                                          yes ? "approved" : "refused", actor, reason));
    e->actor = actor;
    unsigned changed =
        ot_rollout_feed(&r.c.next.cycle.rollout, yes ? OT_ROLLOUT_APPROVED : OT_ROLLOUT_REFUSED, 0,
                        ot_clock_wall_us());
    apply_changed(&r, changed, actor);
    return finish_change(&r, err);
}

ot_rc pl_release_abort(pl_app *a, const char *actor, const char *reason, ot_error *err)
{
    release_change r = begin_change(a);
    unsigned changed = ot_rollout_abort(&r.c.next.cycle.rollout, reason, ot_clock_wall_us());
    if (changed == 0) {
        return ot_fail(err, OT_PRECONDITION, "app %s: no release is under way", a->app->app);
    }
    apply_changed(&r, changed, actor);
    return finish_change(&r, err);
}

void pl_release_watch(pl_app *a)
{
    const pl_cycle *c = &a->st.cycle;
    const ot_rollout_step *s = c->state == PL_RELEASING ? ot_rollout_step_now(&c->rollout) : NULL;
    a->compares = false;
    if (s == NULL || !ot_rollout_compares(&c->rollout)) {
        ot_quality_unwatch(a->quality);
        return;
    }
    ot_pair_watch w = {.candidate = c->version,
                       .champion = c->rollout.promoted ? a->st.previous : a->st.champion,
                       .since_us = c->watch_since_us,
                       .margin = s->margin,
                       .alpha = s->alpha,
                       .candidate_live_only = s->kind == OT_ROLLOUT_CANARY};
    ot_error err = {0};
    a->compares = ot_quality_watch(a->quality, &w, &err) == OT_OK;
    if (!a->compares) {
        ot_err("pipeline", "app %s: comparison: %s", a->app->app, err.msg);
    }
}
