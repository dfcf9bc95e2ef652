/* Arms: versions that serve beside those of the loop. An A/B test gives them fixed shares; a label
 * keeps one at hand, so that a switch to it takes no loading. */
#include "pipeline/internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static pl_arm *arm_of(pl_state *s, int64_t version)
{
    for (size_t i = 0; i < s->n_arms; i++) {
        if (s->arms[i].version == version) {
            return &s->arms[i];
        }
    }
    return NULL;
}

static bool is_labelled(const pl_state *s, int64_t version)
{
    for (size_t i = 0; i < s->n_labels; i++) {
        if (s->labels[i].version == version) {
            return true;
        }
    }
    return false;
}

/* What has neither share nor label is not kept at hand. */
static void forget(pl_state *s)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->n_arms; i++) {
        if (s->arms[i].share > 0 || is_labelled(s, s->arms[i].version)) {
            s->arms[kept++] = s->arms[i];
        }
    }
    s->n_arms = kept;
}

double pl_arms_share(const pl_state *s)
{
    double sum = 0;
    for (size_t i = 0; i < s->n_arms; i++) {
        sum += s->arms[i].share;
    }
    return sum;
}

void pl_arms_champion(pl_state *s, int64_t version)
{
    pl_arm *arm = arm_of(s, version);
    if (arm != NULL) {
        arm->share = 0;
        forget(s);
    }
}

void pl_arms_end(pl_state *s)
{
    for (size_t i = 0; i < s->n_arms; i++) {
        s->arms[i].share = 0;
    }
    forget(s);
}

static void drop_label(pl_state *s, size_t i)
{
    s->n_labels--;
    memmove(&s->labels[i], &s->labels[i + 1], (s->n_labels - i) * sizeof s->labels[0]);
}

bool pl_arms_drop(pl_state *s, int64_t version)
{
    pl_arm *arm = arm_of(s, version);
    if (arm == NULL) {
        return false;
    }
    for (size_t i = s->n_labels; i > 0; i--) {
        if (s->labels[i - 1].version == version) {
            drop_label(s, i - 1);
        }
    }
    arm->share = 0;
    forget(s);
    return true;
}

/* A version that may serve has a place among the arms. */
static ot_rc take_in(const pl_app *a, pl_state *s, int64_t version, double share, ot_error *err)
{
    ot_version_row row;
    OT_TRY(pl_version_read(a, version, &row, err));
    OT_TRY(pl_may_serve(a, &row, err));
    pl_arm *arm = arm_of(s, version);
    if (arm == NULL && s->n_arms == PL_ARMS_MAX) {
        return ot_fail(
            err, OT_EXHAUSTED,
            "app %s: %d versions are kept beside the champion; that is the limit. Take a "
            "label away first",
            a->app->app, PL_ARMS_MAX);
    }
    if (arm == NULL) {
        arm = &s->arms[s->n_arms++];
    }
    *arm = (pl_arm){.version = version, .bundle = row.bundle, .share = share};
    return OT_OK;
}

static ot_rc need_ready(const pl_app *a, ot_error *err)
{
    if (a->st.frozen) {
        return ot_fail(err, OT_PRECONDITION, "app %s is frozen by %s: %s; resume it first",
                       a->app->app, a->st.held_by, a->st.held_reason);
    }
    if (a->st.champion == 0) {
        return ot_fail(err, OT_PRECONDITION, "app %s: no version serves yet", a->app->app);
    }
    return OT_OK;
}

static ot_rc commit(pl_change *c, ot_error *err)
{
    pl_app *a = c->app;
    OT_TRY(pl_commit(c, err));
    pl_desired_changed(a->p);
    return OT_OK;
}

/* ------------------------------------------------------------------ labels */

static ot_rc check_label(const char *name, ot_error *err)
{
    if (name == NULL || !ot_name_ok(name)) {
        return ot_fail(err, OT_INVALID,
                       "label '%.80s': 1 to 64 characters of A-Z a-z 0-9 . _ -, not starting with "
                       "'.' or '-'",
                       name != NULL ? name : "");
    }
    if (strcmp(name, "stable") == 0 || strcmp(name, "canary") == 0) {
        return ot_fail(err, OT_INVALID,
                       "label '%s' is built in: stable is the champion, canary what is being "
                       "released",
                       name);
    }
    return OT_OK;
}

static ot_rc set_label(const pl_app *a, pl_state *s, const ot_person_act *act, int64_t *was_out,
                       ot_error *err)
{
    size_t i = 0;
    while (i < s->n_labels && strcmp(s->labels[i].name, act->label) != 0) {
        i++;
    }
    *was_out = i < s->n_labels ? s->labels[i].version : 0;
    if (act->version == 0) {
        if (i == s->n_labels) {
            return ot_fail(err, OT_NOT_FOUND, "app %s has no label '%s'", a->app->app, act->label);
        }
        drop_label(s, i);
        forget(s);
        return OT_OK;
    }
    if (i == PL_LABELS_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "app %s has %d labels; that is the limit", a->app->app,
                       PL_LABELS_MAX);
    }
    const pl_arm *arm = arm_of(s, act->version);
    snprintf(s->labels[i].name, sizeof s->labels[i].name, "%s", act->label);
    s->labels[i].version = act->version;
    s->n_labels = OT_MAX(s->n_labels, i + 1);
    forget(s);
    return take_in(a, s, act->version, arm != NULL ? arm->share : 0, err);
}

ot_rc pl_act_label(pl_app *a, const ot_person_act *act, ot_error *err)
{
    char object[96];
    int64_t was;
    OT_TRY(check_label(act->label, err));
    OT_TRY(need_ready(a, err));
    pl_change c = pl_change_of(a);
    OT_TRY(set_label(a, &c.next, act, &was, err));
    json_t *payload = act->version > 0 ? pl_text("label %s is v%" PRId64 ", by %s: %s", act->label,
                                                 act->version, act->actor, pl_reason_of(act))
                                       : pl_text("label %s is taken away by %s: %s", act->label,
                                                 act->actor, pl_reason_of(act));
    json_object_set_new(payload, "label", json_string(act->label));
    json_object_set_new(payload, "version",
                        act->version > 0 ? json_integer(act->version) : json_null());
    json_object_set_new(payload, "was", was > 0 ? json_integer(was) : json_null());
    pl_event *e = pl_change_event(&c, act->version > 0 ? "label.set" : "label.removed",
                                  pl_object_app(a, object), payload);
    e->actor = act->actor;
    e->aside = true;
    return commit(&c, err);
}

ot_rc pl_arm_named(const pl_app *a, const ot_person_act *act, int64_t *version_out, ot_error *err)
{
    const pl_state *s = &a->st;
    *version_out = act->version;
    for (size_t i = 0; act->label != NULL && i < s->n_labels; i++) {
        if (strcmp(s->labels[i].name, act->label) == 0) {
            *version_out = s->labels[i].version;
        }
    }
    if (*version_out == 0) {
        return ot_fail(err, act->label != NULL ? OT_NOT_FOUND : OT_INVALID,
                       "app %s has no label '%.64s': overtake label %s NAME=VERSION sets one",
                       a->app->app, act->label != NULL ? act->label : "", a->app->app);
    }
    return OT_OK;
}

/* ------------------------------------------------------------------ A/B tests */

static ot_rc check_arms(const pl_app *a, const ot_person_act *act, ot_error *err)
{
    double sum = 0;
    for (size_t i = 0; i < act->n_arms; i++) {
        int64_t v = act->arms[i].version;
        double share = act->arms[i].share;
        sum += share;
        if (!(share > 0 && share < 1)) {
            return ot_fail(err, OT_INVALID, "v%" PRId64 ": share %g%% is not between 0%% and 100%%",
                           v, share * 100);
        }
        if (v == a->st.champion) {
            return ot_fail(err, OT_INVALID,
                           "v%" PRId64 " is the champion: it has what the arms leave", v);
        }
        if (a->st.cycle.state == PL_RELEASING && v == a->st.cycle.version) {
            return ot_fail(err, OT_PRECONDITION,
                           "v%" PRId64 " is being released, which gives it its share", v);
        }
        for (size_t k = 0; k < i; k++) {
            if (act->arms[k].version == v) {
                return ot_fail(err, OT_INVALID, "v%" PRId64 " is there twice", v);
            }
        }
    }
    if (sum > 1 + 1e-9) {
        return ot_fail(err, OT_INVALID, "the shares add to %.4g%%, which is over 100%%", sum * 100);
    }
    return OT_OK;
}

static json_t *arms_text(const ot_person_act *act, const char *rest)
{
    OT_AUTO(ot_str_done) ot_str list = OT_STR_INIT;
    for (size_t i = 0; i < act->n_arms; i++) {
        ot_str_addf(&list, "%sv%" PRId64 " at %.4g%%", i > 0 ? ", " : "", act->arms[i].version,
                    act->arms[i].share * 100);
    }
    return pl_text("%s, %s, by %s: %s", list.data != NULL ? list.data : "", rest, act->actor,
                   pl_reason_of(act));
}

ot_rc pl_act_ab(pl_app *a, const ot_person_act *act, ot_error *err)
{
    char object[96];
    OT_TRY(need_ready(a, err));
    if (a->st.pinned > 0 && act->n_arms > 0) {
        return ot_fail(err, OT_PRECONDITION,
                       "app %s is pinned to v%" PRId64 " by %s: %s; resume it first", a->app->app,
                       a->st.pinned, a->st.held_by, a->st.held_reason);
    }
    if (act->n_arms == 0 && pl_arms_share(&a->st) <= 0) {
        return ot_fail(err, OT_PRECONDITION, "app %s: no A/B test is on", a->app->app);
    }
    OT_TRY(check_arms(a, act, err));
    pl_change c = pl_change_of(a);
    pl_arms_end(&c.next);
    for (size_t i = 0; i < act->n_arms; i++) {
        OT_TRY(take_in(a, &c.next, act->arms[i].version, act->arms[i].share, err));
    }
    bool on = act->n_arms > 0;
    json_t *payload = on ? arms_text(act, "the champion has the rest")
                         : pl_text("A/B test ended by %s: %s", act->actor, pl_reason_of(act));
    json_object_set_new(payload, "arms", pl_arms_json(&c.next));
    pl_event *e =
        pl_change_event(&c, on ? "ab.started" : "ab.ended", pl_object_app(a, object), payload);
    e->actor = act->actor;
    e->aside = true;
    return commit(&c, err);
}

/* ------------------------------------------------------------------ to and from JSON */

json_t *pl_arms_json(const pl_state *s)
{
    char hex[OT_DIGEST_HEX];
    json_t *list = json_array();
    for (size_t i = 0; i < s->n_arms; i++) {
        const pl_arm *x = &s->arms[i];
        json_array_append_new(list, json_pack("{s:I,s:s,s:f}", "version", (json_int_t)x->version,
                                              "bundle", ot_digest_hex(&x->bundle, hex), "share",
                                              x->share));
    }
    return list;
}

json_t *pl_labels_json(const pl_state *s)
{
    json_t *j = json_object();
    for (size_t i = 0; i < s->n_labels; i++) {
        json_object_set_new(j, s->labels[i].name, json_integer(s->labels[i].version));
    }
    return j;
}

static ot_rc parse_arm(const json_t *j, pl_arm *x)
{
    const char *bundle = json_string_value(json_object_get(j, "bundle"));
    x->version = json_integer_value(json_object_get(j, "version"));
    x->share = json_number_value(json_object_get(j, "share"));
    bool good = x->version > 0 && x->share >= 0 && x->share <= 1 && bundle != NULL &&
                ot_digest_parse(bundle, &x->bundle);
    return good ? OT_OK : OT_DATA_LOSS;
}

ot_rc pl_arms_parse(const json_t *arms, json_t *labels, pl_state *s, ot_error *err)
{
    const char *name;
    json_t *version;
    ot_rc rc = json_array_size(arms) > PL_ARMS_MAX || json_object_size(labels) > PL_LABELS_MAX
                   ? OT_DATA_LOSS
                   : OT_OK;
    for (size_t i = 0; rc == OT_OK && i < json_array_size(arms); i++) {
        rc = parse_arm(json_array_get(arms, i), &s->arms[s->n_arms++]);
    }
    json_object_foreach(labels, name, version)
    {
        pl_label *l = &s->labels[s->n_labels++];
        if (rc != OT_OK) {
            break;
        }
        snprintf(l->name, sizeof l->name, "%s", name);
        l->version = json_integer_value(version);
        rc = ot_name_ok(name) && l->version > 0 ? OT_OK : OT_DATA_LOSS;
    }
    return rc == OT_OK ? OT_OK
                       : ot_fail(err, rc, "saved state: the arms or the labels are damaged");
}
