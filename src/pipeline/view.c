/* What people and programs see of an app: one JSON object. */
#include "pipeline/internal.h"

#include "base/clock.h"

#include <stdio.h>
#include <string.h>

static json_t *quality_json(pl_app *a)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    ot_error err = {0};
    if (ot_quality_summary(a->quality, &text, &err) != OT_OK) {
        return pl_text("%s", err.msg);
    }
    json_t *j = json_loadb(text.data, text.len, 0, NULL);
    return j != NULL ? j : json_object();
}

static json_t *objective(const char *name, const char *target, json_t *value, int holds)
{
    json_t *j = json_object();
    json_object_set_new(j, "objective", json_string(name));
    json_object_set_new(j, "target", json_string(target));
    json_object_set_new(j, "value", value);
    json_object_set_new(j, "holds", holds < 0 ? json_null() : json_boolean(holds));
    return j;
}

static void add_accuracy(pl_app *a, json_t *list, int64_t now)
{
    const ot_app_objectives *o = &a->app->objectives;
    if (o->accuracy.mark.line == 0 || a->st.champion == 0) {
        return;
    }
    ot_accuracy acc = {0};
    char target[64];
    snprintf(target, sizeof target, "at least %.4g", o->accuracy.at_least);
    bool known = ot_quality_accuracy(a->quality, a->st.champion, now - o->accuracy.over_us, now,
                                     &acc, NULL) == OT_OK &&
                 acc.labelled > 0;
    /* Missed is what is proven to be missed; held what is proven to hold; else nobody knows yet. */
    int holds = !known                              ? -1
                : acc.lower >= o->accuracy.at_least ? 1
                : acc.upper < o->accuracy.at_least  ? 0
                                                    : -1;
    json_t *j = objective("accuracy", target, known ? json_real(acc.estimate) : json_null(), holds);
    json_object_set_new(j, "lower", json_real(acc.lower));
    json_object_set_new(j, "upper", json_real(acc.upper));
    json_object_set_new(j, "labelled", json_integer(acc.labelled));
    json_array_append_new(list, j);
}

static void add_service(pl_app *a, json_t *list, int64_t now)
{
    const ot_app_objectives *o = &a->app->objectives;
    ot_service s = {0};
    char target[64], text[32];
    if (o->availability.mark.line != 0 &&
        ot_quality_service(a->quality, now - o->availability.over_us, now, 0, &s, NULL) == OT_OK) {
        double share = s.requests > 0 ? 1 - (double)s.failed / (double)s.requests : 1;
        snprintf(target, sizeof target, "at least %.6g", o->availability.at_least);
        json_array_append_new(
            list, objective("availability", target, s.requests > 0 ? json_real(share) : json_null(),
                            s.requests > 0 ? share >= o->availability.at_least : -1));
    }
    if (o->latency_p99.mark.line != 0 &&
        ot_quality_service(a->quality, now - 86400000000, now, o->latency_p99.at_most_us, &s,
                           NULL) == OT_OK) {
        double good = s.windows > 0 ? 1 - (double)s.windows_slow / (double)s.windows : 1;
        snprintf(target, sizeof target, "at most %s in %.4g%% of the windows of a day",
                 ot_format_duration(o->latency_p99.at_most_us, text), o->latency_p99.share * 100);
        json_t *j =
            objective("latency_p99", target, s.windows > 0 ? json_real(s.p99_us) : json_null(),
                      s.windows > 0 ? good >= o->latency_p99.share : -1);
        json_object_set_new(j, "good_windows", json_real(good));
        json_array_append_new(list, j);
    }
}

static json_t *objectives_json(pl_app *a)
{
    json_t *list = json_array();
    int64_t now = ot_clock_wall_us();
    add_accuracy(a, list, now);
    add_service(a, list, now);
    return list;
}

static json_t *pair_view(const pl_app *a)
{
    ot_pair_state p;
    static const char *const verdicts[] = {"undecided", "not worse", "worse"};
    if (!ot_quality_pair(a->quality, &p)) {
        return json_null();
    }
    return json_pack("{s:I,s:I,s:I,s:I,s:I,s:f,s:f,s:f,s:s,s:I}", "compared",
                     (json_int_t)p.compared, "candidate_right", (json_int_t)p.candidate_right,
                     "champion_right", (json_int_t)p.champion_right, "only_candidate_right",
                     (json_int_t)p.only_candidate_right, "only_champion_right",
                     (json_int_t)p.only_champion_right, "lower", p.lower, "upper", p.upper,
                     "e_worse", p.e_worse, "verdict", verdicts[p.verdict], "candidate_answered",
                     (json_int_t)p.candidate_answered);
}

static json_t *cycle_json(const pl_app *a)
{
    const pl_cycle *c = &a->st.cycle;
    json_t *j = json_object();
    json_object_set_new(j, "number", json_integer(c->number));
    json_object_set_new(j, "state", json_string(pl_cycle_state_name(c->state)));
    json_object_set_new(j, "run", c->run > 0 ? json_integer(c->run) : json_null());
    json_object_set_new(j, "version", c->version > 0 ? json_integer(c->version) : json_null());
    json_object_set_new(j, "because", json_integer((json_int_t)c->last_seq));
    ot_error lacks = {0};
    const char *waits = c->waits[0] != 0 ? c->waits : NULL;
    if (waits == NULL && pl_release_awaits(a) && pl_release_waits_for(a, &lacks) != OT_OK) {
        waits = lacks.msg;
    }
    json_object_set_new(j, "waits", waits != NULL ? json_string(waits) : json_null());
    if (c->state == PL_RELEASING) {
        const ot_rollout_step *s = ot_rollout_step_now(&c->rollout);
        json_object_set_new(j, "stage",
                            s != NULL ? json_string(ot_rollout_kind_name(s->kind)) : json_null());
        json_object_set_new(j, "share", json_real(ot_rollout_share(&c->rollout)));
        json_object_set_new(j, "entered_us", json_integer(c->rollout.entered_us));
        json_object_set_new(j, "deadline_us", json_integer(ot_rollout_deadline(&c->rollout)));
        json_object_set_new(j, "candidate", json_string(a->candidate_state));
        json_object_set_new(j, "evidence", pair_view(a));
    }
    return j;
}

static json_t *names_json(const ot_conf_strs *names)
{
    json_t *list = json_array();
    for (size_t i = 0; i < names->n; i++) {
        json_array_append_new(list, json_string(names->v[i]));
    }
    return list;
}

/* What the app file says the loop is made of. */
static json_t *plan_json(const pl_app *a)
{
    json_t *stages = json_array(), *j = json_object();
    for (size_t i = 0; i < a->app->release.n; i++) {
        const ot_app_stage *s = &a->app->release.v[i];
        json_t *stage = json_object(), *shares = json_array();
        for (size_t k = 0; k < s->n_shares; k++) {
            json_array_append_new(shares, json_real(s->shares[k]));
        }
        json_object_set_new(stage, "stage", json_string(ot_stage_name(s->kind)));
        json_object_set_new(stage, "shares", shares);
        json_array_append_new(stages, stage);
    }
    json_object_set_new(j, "data", names_json(&a->app->train.data));
    json_object_set_new(j, "retrain_when", names_json(&a->app->retrain.when));
    json_object_set_new(j, "stages", stages);
    json_object_set_new(j, "window_us", json_integer(a->app->quality.window_us));
    return j;
}

static json_t *site_json(const pl_app *a)
{
    if (a->p->site == NULL) {
        return json_null();
    }
    return json_pack("{s:s,s:s?}", "file", a->p->site->file, "forbids",
                     a->refused[0] != 0 ? a->refused : NULL);
}

static json_t *app_json(pl_app *a, bool deep)
{
    const pl_state *s = &a->st;
    json_t *j = json_object();
    json_object_set_new(j, "app", json_string(a->app->app));
    json_object_set_new(j, "owner", json_string(a->app->owner));
    json_object_set_new(j, "deployment", json_string(a->app->serve.deployment));
    json_object_set_new(j, "champion", s->champion > 0 ? json_integer(s->champion) : json_null());
    json_object_set_new(j, "champion_since_us", json_integer(s->champion_since_us));
    json_object_set_new(j, "arms", pl_arms_json(s));
    json_object_set_new(j, "labels", pl_labels_json(s));
    json_object_set_new(j, "previous", s->previous > 0 ? json_integer(s->previous) : json_null());
    const char *loop = s->frozen   ? "frozen"
                       : s->paused ? "paused"
                       : s->pinned ? "pinned"
                                   : "running";
    json_object_set_new(j, "loop", json_string(loop));
    if (s->frozen || s->paused || s->pinned > 0) {
        json_object_set_new(j, "held_by", json_string(s->held_by));
        json_object_set_new(j, "held_reason", json_string(s->held_reason));
    }
    json_object_set_new(j, "unloaded_by", s->unloaded ? json_string(s->unloaded_by) : json_null());
    json_object_set_new(j, "site", site_json(a));
    char off[160];
    pl_budget_why(a, off);
    json_object_set_new(j, "automation_off", off[0] != 0 ? json_string(off) : json_null());
    json_object_set_new(j, "budgets", pl_budgets_json(a));
    json_object_set_new(j, "degraded", json_boolean(s->degraded));
    json_object_set_new(j, "drift", json_boolean(s->drift));
    json_object_set_new(j, "failures", json_integer(s->failures));
    json_object_set_new(j, "cycle", cycle_json(a));
    json_object_set_new(j, "labels_new",
                        json_integer(ot_quality_labels_joined(a->quality) - s->labels_at_training));
    if (deep) {
        json_object_set_new(j, "spare", pl_spare_json(a));
        json_object_set_new(j, "objectives", objectives_json(a));
        json_object_set_new(j, "quality", quality_json(a));
        json_object_set_new(j, "plan", plan_json(a));
    }
    return j;
}

static ot_rc give(json_t *j, ot_str *out, ot_error *err)
{
    char *text = j != NULL ? json_dumps(j, JSON_COMPACT | JSON_REAL_PRECISION(12)) : NULL;
    json_decref(j);
    if (text == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for the answer");
    }
    ot_str_adds(out, text);
    free(text);
    return out->failed ? ot_fail(err, OT_EXHAUSTED, "no memory for the answer") : OT_OK;
}

ot_rc ot_pipeline_apps(ot_pipeline *p, ot_str *json_out, ot_error *err)
{
    json_t *list = json_array();
    for (size_t i = 0; i < p->n_apps; i++) {
        json_array_append_new(list, app_json(p->apps[i], false));
    }
    return give(json_pack("{s:o}", "apps", list), json_out, err);
}

ot_rc ot_pipeline_app(ot_pipeline *p, const char *app, ot_str *json_out, ot_error *err)
{
    pl_app *a = pl_app_find(p, app);
    if (a == NULL) {
        return ot_fail(err, OT_NOT_FOUND, "app '%.64s' is not here", app);
    }
    return give(app_json(a, true), json_out, err);
}
