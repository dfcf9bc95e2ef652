/* What replicas shall not serve: a person, or a client with an admin's key, has unloaded it. Its
 * versions, evidence and labels stay; nothing is trained or released meanwhile. */
#include "pipeline/internal.h"

#include <stdio.h>
#include <string.h>

ot_rc pl_need_loaded(const pl_app *a, ot_error *err)
{
    return !a->st.unloaded ? OT_OK
                           : ot_fail(err, OT_PRECONDITION,
                                     "app %s was unloaded by %s; load it first: overtake load %s",
                                     a->app->app, a->st.unloaded_by, a->app->app);
}

static ot_rc need_champion(const pl_app *a, const char *verb, ot_error *err)
{
    return a->st.champion > 0 ? OT_OK
                              : ot_fail(err, OT_PRECONDITION,
                                        "app %s has no version that serves: there is nothing to %s",
                                        a->app->app, verb);
}

/* Said again it is no error, and replicas try again what they could not load. */
static ot_rc set_unloaded(pl_app *a, const ot_person_act *act, bool unloaded, ot_error *err)
{
    char object[96];
    pl_change c = pl_change_of(a);
    pl_event *e =
        pl_change_event(&c, unloaded ? "app.unloaded" : "app.loaded", pl_object_app(a, object),
                        pl_text("deployment '%s' %s by %s: %s", a->app->serve.deployment,
                                unloaded ? "unloaded" : "loaded", act->actor, pl_reason_of(act)));
    e->actor = act->actor;
    e->role = act->role;
    e->aside = true;
    c.next.unloaded = unloaded;
    c.next.hold_told = c.next.hold_told && unloaded;
    snprintf(c.next.unloaded_by, sizeof c.next.unloaded_by, "%s", unloaded ? act->actor : "");
    OT_TRY(pl_commit(&c, err));
    pl_desired_changed(a->p);
    return OT_OK;
}

ot_rc pl_act_load(pl_app *a, const ot_person_act *act, ot_error *err)
{
    OT_TRY(need_champion(a, "load", err));
    OT_TRY(pl_need_thawed(a, err));
    OT_TRY(pl_site_allows(a, err));
    return set_unloaded(a, act, false, err);
}

/* Not in the middle of a release: nobody would see how the new version does. */
ot_rc pl_act_unload(pl_app *a, const ot_person_act *act, ot_error *err)
{
    OT_TRY(need_champion(a, "unload", err));
    if (!a->st.unloaded) {
        OT_TRY(pl_need_idle(a, err));
    }
    return set_unloaded(a, act, true, err);
}
