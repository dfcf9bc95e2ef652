/* What people do: the accelerator and the brake. Each act leaves its event with who and why. */
#include "pipeline/internal.h"

#include "base/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

typedef ot_rc act_fn(pl_app *a, const ot_person_act *act, ot_error *err);

const char *pl_reason_of(const ot_person_act *act)
{
    return act->reason != NULL && act->reason[0] != 0 ? act->reason : "no reason given";
}

static ot_rc need_reason(const ot_person_act *act, ot_error *err)
{
    if (act->reason == NULL || act->reason[0] == 0) {
        return ot_fail(err, OT_INVALID, "%s needs a reason: --reason TEXT", act->verb);
    }
    return OT_OK;
}

ot_rc pl_need_thawed(const pl_app *a, ot_error *err)
{
    if (a->st.frozen) {
        return ot_fail(err, OT_PRECONDITION, "app %s is frozen by %s: %s; resume it first",
                       a->app->app, a->st.held_by, a->st.held_reason);
    }
    return OT_OK;
}

ot_rc pl_need_idle(const pl_app *a, ot_error *err)
{
    if (a->st.cycle.state != PL_IDLE) {
        return ot_fail(err, OT_PRECONDITION,
                       "app %s is %s (cycle %" PRId64 "); wait for it, or roll it back",
                       a->app->app, pl_cycle_state_name(a->st.cycle.state), a->st.cycle.number);
    }
    return pl_need_thawed(a, err);
}

/* Before what begins a cycle. */
static ot_rc need_ready(const pl_app *a, ot_error *err)
{
    OT_TRY(pl_need_idle(a, err));
    return pl_need_loaded(a, err);
}

static ot_rc act_train(pl_app *a, const ot_person_act *act, ot_error *err)
{
    OT_TRY(need_ready(a, err));
    OT_TRY(pl_site_allows(a, err));
    char object[96];
    pl_change c = pl_change_of(a);
    pl_event *e =
        pl_change_event(&c, "trigger.fired", pl_object_app(a, object),
                        pl_text("retrain asked for by %s: %s", act->actor, pl_reason_of(act)));
    e->actor = act->actor;
    pl_cycle_train(&c, true);
    OT_TRY(pl_commit(&c, err));
    pl_cycle_go(a);
    return OT_OK;
}

static ot_rc act_push(pl_app *a, const ot_person_act *act, ot_error *err)
{
    OT_TRY(need_ready(a, err));
    OT_TRY(pl_site_allows(a, err));
    if (act->path == NULL || !ot_disk_exists(ot_disk_posix(), act->path)) {
        return ot_fail(err, OT_NOT_FOUND, "push: nothing at '%.300s'",
                       act->path != NULL ? act->path : "");
    }
    char object[96];
    pl_change c = pl_change_of(a);
    pl_event *e =
        pl_change_event(&c, "version.pushed", pl_object_app(a, object),
                        pl_text("%s pushed %s: %s", act->actor, act->path, pl_reason_of(act)));
    e->actor = act->actor;
    ot_rc rc = pl_cycle_push(&c, act->path, err);
    if (rc != OT_OK) {
        pl_change_drop(&c);
        return rc;
    }
    OT_TRY(pl_commit(&c, err));
    pl_cycle_go(a);
    return OT_OK;
}

static ot_rc hold(pl_app *a, const ot_person_act *act, const char *type, bool pause, bool freeze,
                  ot_error *err)
{
    char object[96];
    pl_change c = pl_change_of(a);
    pl_event *e = pl_change_event(
        &c, type, pl_object_app(a, object),
        pl_text("%s by %s: %s", freeze ? "frozen" : "paused", act->actor, pl_reason_of(act)));
    e->actor = act->actor;
    e->aside = true;
    c.next.paused = c.next.paused || pause;
    if (freeze && !c.next.frozen) {
        c.next.frozen = true;
        c.next.frozen_us = ot_clock_wall_us();
    }
    snprintf(c.next.held_by, sizeof c.next.held_by, "%s", act->actor);
    snprintf(c.next.held_reason, sizeof c.next.held_reason, "%s", pl_reason_of(act));
    return pl_commit(&c, err);
}

static ot_rc act_pause(pl_app *a, const ot_person_act *act, ot_error *err)
{
    return hold(a, act, "loop.paused", true, false, err);
}

static ot_rc act_freeze(pl_app *a, const ot_person_act *act, ot_error *err)
{
    return hold(a, act, "loop.frozen", false, true, err);
}

static ot_rc act_resume(pl_app *a, const ot_person_act *act, ot_error *err)
{
    if (pl_budget_off(a) != NULL || act->for_us > 0) {
        OT_TRY(need_reason(act, err));
    }
    char object[96], for_text[32];
    pl_change c = pl_change_of(a);
    bool spent = pl_budget_resume(&c.next, act->for_us);
    json_t *payload =
        pl_text("resumed by %s%s%s: %s", act->actor, spent && act->for_us > 0 ? " for " : "",
                spent && act->for_us > 0 ? ot_format_duration(act->for_us, for_text) : "",
                pl_reason_of(act));
    pl_event *e = pl_change_event(&c, "loop.resumed", pl_object_app(a, object), payload);
    if (pl_budget_off(a) != NULL) {
        e->because[e->n_because++] = pl_budget_off(a)->spent_seq;
    }
    e->actor = act->actor;
    e->aside = true;
    if (c.next.frozen) {
        /* A stage must not run out while nothing could move. */
        c.next.cycle.rollout.entered_us += ot_clock_wall_us() - c.next.frozen_us;
    }
    c.next.paused = c.next.frozen = c.next.hold_told = false;
    c.next.pinned = 0;
    c.next.failures = 0;
    c.next.held_by[0] = c.next.held_reason[0] = 0;
    OT_TRY(pl_commit(&c, err));
    pl_cycle_go(a);
    return OT_OK;
}

struct switch_arg {
    pl_app *a;
    int64_t version;
    ot_version_status status_of_old;
    ot_version_row row;
};

struct read_arg {
    const pl_app *a;
    int64_t version;
    ot_version_row *row;
};

static ot_rc read_version(ot_txn *txn, void *arg, ot_error *err)
{
    struct read_arg *r = arg;
    return ot_version_get(txn, r->a->app->app, r->version, r->row, err);
}

ot_rc pl_version_read(const pl_app *a, int64_t version, ot_version_row *out, ot_error *err)
{
    struct read_arg r = {.a = a, .version = version, .row = out};
    return ot_store_read(a->p->store, read_version, &r, err);
}

static ot_rc switch_champion(ot_txn *txn, void *arg, pl_state *next, ot_error *err)
{
    struct switch_arg *s = arg;
    int64_t previous = 0;
    OT_TRY(ot_registry_promote(txn, s->a->app->app, s->version, s->status_of_old, NULL, &previous,
                               NULL, err));
    (void)next;
    return ot_quality_promoted(s->a->quality, txn, s->version, err);
}

static ot_rc end_release(pl_app *a, const ot_person_act *act, const char *what, ot_error *err)
{
    char reason[160];
    snprintf(reason, sizeof reason, "%s by %s: %s", what, act->actor, pl_reason_of(act));
    return pl_release_abort(a, act->actor, reason, err);
}

/* A pin is no way around the stages that the site demands: only what went through them. */
ot_rc pl_may_serve(const pl_app *a, const ot_version_row *v, ot_error *err)
{
    const ot_site *site = a->p->site;
    bool served = v->status == OT_VERSION_CHAMPION || v->status == OT_VERSION_RETIRED;
    if (site == NULL || served || (site->release.n == 0 && site->windows.n == 0)) {
        return OT_OK;
    }
    return ot_fail(err, OT_PRECONDITION,
                   "app %s: v%" PRId64 " is %s, and %s lets only versions serve that went through "
                   "a release; pin one that served, or ask %s",
                   a->app->app, v->version, ot_version_status_name(v->status), site->file,
                   ot_site_contact(site));
}

static ot_rc act_pin(pl_app *a, const ot_person_act *act, ot_error *err)
{
    struct switch_arg s = {.a = a, .version = act->version, .status_of_old = OT_VERSION_RETIRED};
    if (act->version < 1) {
        return ot_fail(err, OT_INVALID, "pin needs a version: overtake pin %s --version N",
                       a->app->app);
    }
    OT_TRY(pl_version_read(a, s.version, &s.row, err));
    OT_TRY(pl_may_serve(a, &s.row, err));
    if (a->st.cycle.state == PL_RELEASING && !a->st.cycle.rollout.promoted) {
        OT_TRY(end_release(a, act, "pinned", err));
    }
    char object[96];
    pl_change c = pl_change_of(a);
    pl_event *e = pl_change_event(
        &c, "loop.pinned", pl_object_app(a, object),
        pl_text("v%" PRId64 " pinned by %s: %s", act->version, act->actor, pl_reason_of(act)));
    e->actor = act->actor;
    json_object_set_new(e->payload, "version", json_integer(act->version));
    c.next.pinned = act->version;
    pl_arms_end(&c.next);
    snprintf(c.next.held_by, sizeof c.next.held_by, "%s", act->actor);
    snprintf(c.next.held_reason, sizeof c.next.held_reason, "%s", pl_reason_of(act));
    if (c.next.cycle.state == PL_RELEASING) {
        c.next.cycle.state = PL_IDLE; /* a probation ends: the person has decided */
    }
    if (act->version != a->st.champion) {
        pl_state_champion(&c.next, act->version, s.row.bundle, true);
        c.extra = switch_champion;
        c.arg = &s;
        c.champion_event = c.n_events;
    } else {
        e->aside = true;
    }
    OT_TRY(pl_commit(&c, err));
    pl_release_watch(a);
    pl_desired_changed(a->p);
    return OT_OK;
}

/* All at once to a version that every replica has loaded and proven; back the same way. */
static ot_rc act_switch(pl_app *a, const ot_person_act *act, ot_error *err)
{
    struct switch_arg s = {.a = a, .status_of_old = OT_VERSION_RETIRED};
    char object[OT_OBJECT_TEXT];
    OT_TRY(need_ready(a, err));
    OT_TRY(pl_arm_named(a, act, &s.version, err));
    if (a->st.pinned > 0 || s.version == a->st.champion) {
        return ot_fail(err, OT_PRECONDITION, "app %s: v%" PRId64 " %s", a->app->app, a->st.champion,
                       a->st.pinned > 0 ? "is pinned; resume it first" : "is the champion already");
    }
    OT_TRY(pl_version_read(a, s.version, &s.row, err));
    OT_TRY(pl_may_serve(a, &s.row, err));
    if (a->p->ports.serves == NULL) {
        return ot_fail(err, OT_UNAVAILABLE, "app %s: no replica is known", a->app->app);
    }
    ot_error lacks = {0};
    ot_rc rc = a->p->ports.serves(a->p->ports.self, a->app->serve.deployment, s.version, &lacks);
    if (rc != OT_OK) {
        return ot_fail(err, rc,
                       "%s; a switch goes to what all have loaded. overtake label %s NAME=%" PRId64
                       " loads it beside the champion",
                       lacks.msg, a->app->app, s.version);
    }
    ot_registry_object(object, a->app->app, s.version);
    pl_change c = pl_change_of(a);
    pl_event *e =
        pl_change_event(&c, "version.switched", object,
                        pl_text("v%" PRId64 " serves in place of v%" PRId64 ", switched by %s: %s",
                                s.version, a->st.champion, act->actor, pl_reason_of(act)));
    json_object_set_new(e->payload, "version", json_integer(s.version));
    json_object_set_new(e->payload, "previous", json_integer(a->st.champion));
    e->actor = act->actor;
    pl_state_champion(&c.next, s.version, s.row.bundle, true);
    c.champion_event = c.n_events;
    c.extra = switch_champion;
    c.arg = &s;
    OT_TRY(pl_commit(&c, err));
    pl_desired_changed(a->p);
    return OT_OK;
}

/* A version that came by another way than a run of ours begins where a pushed one is registered. */
static ot_rc act_release(pl_app *a, const ot_person_act *act, ot_error *err)
{
    struct switch_arg s = {.a = a, .version = act->version};
    OT_TRY(need_ready(a, err));
    OT_TRY(pl_site_allows(a, err));
    if (act->version < 1) {
        return ot_fail(err, OT_INVALID, "release needs a version: overtake release %s N",
                       a->app->app);
    }
    OT_TRY(pl_version_read(a, s.version, &s.row, err));
    if (s.row.status != OT_VERSION_REGISTERED) {
        return ot_fail(err, OT_PRECONDITION,
                       "v%" PRId64 " of app %s is %s; only a version that nobody has judged is "
                       "released. To serve one that was judged: overtake pin %s %" PRId64,
                       act->version, a->app->app, ot_version_status_name(s.row.status), a->app->app,
                       act->version);
    }
    char object[OT_OBJECT_TEXT];
    pl_change c = pl_change_of(a);
    pl_event *e =
        pl_change_event(&c, "release.asked", ot_registry_object(object, a->app->app, act->version),
                        pl_text("release of v%" PRId64 " asked for by %s: %s", act->version,
                                act->actor, pl_reason_of(act)));
    e->actor = act->actor;
    pl_cycle_release(&c, &s.row);
    OT_TRY(pl_commit(&c, err));
    pl_cycle_go(a);
    return OT_OK;
}

static ot_rc decide(pl_app *a, const ot_person_act *act, bool yes, ot_error *err)
{
    OT_TRY(pl_need_thawed(a, err));
    return pl_release_decide(a, yes, act->actor, pl_reason_of(act), err);
}

static ot_rc act_approve(pl_app *a, const ot_person_act *act, ot_error *err)
{
    return decide(a, act, true, err);
}

static ot_rc act_reject(pl_app *a, const ot_person_act *act, ot_error *err)
{
    OT_TRY(need_reason(act, err));
    return decide(a, act, false, err);
}

/* The event comes before the deed: a run that ends because of it names it as the reason. */
static ot_rc cancel_run(pl_app *a, const char *actor, const char *reason, ot_error *err)
{
    char dir[OT_PATH_MAX], object[32];
    ot_launch_status st;
    int64_t run = a->st.cycle.run;
    pl_run_dir(a->p, run, dir);
    OT_TRY(ot_launch_poll(dir, &st, err));
    if (a->busy || st.phase == OT_LAUNCH_ABSENT) {
        return ot_fail(err, OT_PRECONDITION,
                       "run %" PRId64 " is still being laid out; try again in a moment", run);
    }
    snprintf(object, sizeof object, "run/%" PRId64, run);
    pl_change c = pl_change_of(a);
    pl_event *e =
        pl_change_event(&c, "run.cancel_asked", object,
                        pl_text("run %" PRId64 " cancelled by %s: %s", run, actor, reason));
    e->actor = actor;
    OT_TRY(pl_commit(&c, err));
    return ot_launch_cancel(dir, err);
}

ot_rc pl_switch_back(pl_app *a, const char *actor, const char *reason, ot_error *err)
{
    struct switch_arg s = {.a = a, .version = a->st.previous, .status_of_old = OT_VERSION_REFUSED};
    char object[OT_OBJECT_TEXT];
    ot_registry_object(object, a->app->app, a->st.champion);
    pl_change c = pl_change_of(a);
    pl_event *e = pl_change_event(&c, "version.rolled_back", object,
                                  pl_text("v%" PRId64 " rolled back to v%" PRId64 " by %s: %s",
                                          a->st.champion, a->st.previous, actor, reason));
    json_object_set_new(e->payload, "serving", json_integer(a->st.previous));
    e->actor = actor;
    e->alert = true;
    pl_state_champion(&c.next, a->st.previous, a->st.previous_bundle, false);
    c.champion_event = c.n_events;
    c.extra = switch_champion;
    c.arg = &s;
    OT_TRY(pl_commit(&c, err));
    pl_desired_changed(a->p);
    return OT_OK;
}

static ot_rc act_rollback(pl_app *a, const ot_person_act *act, ot_error *err)
{
    OT_TRY(need_reason(act, err));
    if (a->st.cycle.state == PL_RELEASING) {
        return end_release(a, act, "rolled back", err);
    }
    if (a->st.cycle.state != PL_IDLE && (a->st.cycle.waits[0] != 0 || a->st.cycle.held_told)) {
        return pl_cycle_abandon(a, act->actor, pl_reason_of(act), err);
    }
    if (a->st.cycle.state != PL_IDLE) {
        return a->st.cycle.state == PL_REGISTERING
                   ? ot_fail(err, OT_PRECONDITION,
                             "app %s is registering a version; try again in a moment", a->app->app)
                   : cancel_run(a, act->actor, pl_reason_of(act), err);
    }
    if (a->st.previous == 0) {
        return ot_fail(err, OT_PRECONDITION, "app %s: there is no previous version to go back to",
                       a->app->app);
    }
    return pl_switch_back(a, act->actor, pl_reason_of(act), err);
}

static ot_rc run_known(ot_txn *txn, void *arg, ot_error *err)
{
    ot_arena arena;
    ot_run run;
    ot_arena_init(&arena, 16384, 8u << 20);
    ot_rc rc = ot_store_run_get(txn, *(int64_t *)arg, &arena, &run, err);
    ot_arena_done(&arena);
    return rc;
}

ot_rc ot_pipeline_cancel(ot_pipeline *p, int64_t run, const char *actor, ot_error *err)
{
    OT_TRY(ot_store_read(p->store, run_known, &run, err));
    for (size_t i = 0; i < p->n_apps; i++) {
        const pl_cycle *c = &p->apps[i]->st.cycle;
        bool runs =
            c->state == PL_TRAINING || c->state == PL_PACKAGING || c->state == PL_EVALUATING;
        if (runs && c->run == run) {
            return cancel_run(p->apps[i], actor, "no reason given", err);
        }
    }
    return ot_fail(err, OT_PRECONDITION, "run %" PRId64 " has ended", run);
}

static const struct {
    const char *verb;
    act_fn *fn;
} acts[] = {
    {"train", act_train},     {"push", act_push},      {"pause", act_pause},
    {"freeze", act_freeze},   {"resume", act_resume},  {"pin", act_pin},
    {"approve", act_approve}, {"reject", act_reject},  {"rollback", act_rollback},
    {"release", act_release}, {"label", pl_act_label}, {"ab", pl_act_ab},
    {"switch", act_switch},   {"load", pl_act_load},   {"unload", pl_act_unload},
};

ot_rc ot_pipeline_act(ot_pipeline *p, const ot_person_act *act, ot_str *json_out, ot_error *err)
{
    pl_app *a = pl_app_find(p, act->app);
    if (a == NULL) {
        return ot_fail(err, OT_NOT_FOUND, "app '%.64s' is not here; overtake apply makes it known",
                       act->app);
    }
    for (size_t i = 0; i < OT_COUNT(acts); i++) {
        if (strcmp(act->verb, acts[i].verb) == 0) {
            a->act_event = 0; /* what follows from the act has events of its own */
            OT_TRY(acts[i].fn(a, act, err));
            ot_pipeline_tick(p);
            ot_str_addf(json_out, "{\"app\":\"%s\",\"verb\":\"%s\",\"event\":%" PRIu64 "}",
                        a->app->app, act->verb, a->act_event);
            return OT_OK;
        }
    }
    return ot_fail(err, OT_INVALID, "'%.40s' is not something to do with an app", act->verb);
}
