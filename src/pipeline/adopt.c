/* An app that serves already: its champion comes as a bundle, and with it what the app's state
 * would hold had the version been trained and promoted here. */
#include "pipeline/internal.h"

#include <inttypes.h>
#include <string.h>

static ot_rc promote(ot_txn *txn, void *arg, pl_state *next, ot_error *err)
{
    pl_app *a = arg;
    int64_t previous = 0;
    OT_TRY(pl_app_save(txn, a->p, a->app, err));
    OT_TRY(ot_registry_promote(txn, a->app->app, next->champion, OT_VERSION_RETIRED, NULL,
                               &previous, NULL, err));
    return ot_quality_promoted(a->quality, txn, next->champion, err);
}

static ot_rc serve_now(pl_app *a, const ot_pipeline_adopted *in, const ot_registered *r,
                       ot_error *err)
{
    char object[OT_OBJECT_TEXT];
    pl_change c = pl_change_of(a);
    c.extra = promote;
    c.arg = a;
    pl_state_champion(&c.next, r->version, r->bundle, false);
    if (in->since_us != 0) {
        c.next.champion_since_us = in->since_us;
    }
    c.next.labels_at_training = -in->labels_new;
    size_t n = OT_MIN(in->n_fired, (size_t)PL_FIRED_MAX);
    if (n > 0) {
        memcpy(c.next.fired_us, in->fired_us + in->n_fired - n, n * sizeof *in->fired_us);
    }
    c.next.n_fired = (int64_t)n;
    ot_registry_object(object, a->app->app, r->version);
    json_t *p = pl_text("v%" PRId64 " promoted: it serves already", r->version);
    json_object_set_new(p, "previous", json_null());
    pl_event *e = pl_change_event(&c, "version.promoted", object, p);
    e->because[e->n_because++] = r->event_seq;
    c.champion_event = c.n_events;
    OT_TRY(pl_commit(&c, err));
    pl_desired_changed(a->p);
    return OT_OK;
}

static ot_rc check_free(ot_pipeline *p, const ot_app *app, ot_error *err)
{
    if (pl_app_find(p, app->app) != NULL ||
        pl_app_of_deployment(p, app->serve.deployment) != NULL) {
        return ot_fail(err, OT_EXISTS, "app '%s' or its deployment '%s' is here already", app->app,
                       app->serve.deployment);
    }
    return OT_OK;
}

ot_rc ot_pipeline_adopt(ot_pipeline *p, const ot_pipeline_adopted *in, int64_t *version_out,
                        ot_error *err)
{
    ot_app *app = NULL;
    pl_app *a = NULL;
    OT_TRY(ot_app_parse(in->yaml, strlen(in->yaml), in->file, in->dir, &app, err));
    ot_rc rc = check_free(p, app, err);
    if (rc == OT_OK && p->site != NULL) {
        rc = ot_site_tighten(p->site, app, err);
    }
    if (rc == OT_OK) {
        rc = pl_app_add(p, app, &a, err);
    }
    if (rc != OT_OK) {
        ot_app_destroy(app);
        return rc;
    }
    ot_registered r = {0};
    OT_TRY(ot_registry_register(p->store, in->bundle,
                                &(ot_register){.model = app->app, .app = app->app}, &r, err));
    OT_TRY(serve_now(a, in, &r, err));
    *version_out = r.version;
    ot_pipeline_tick(p);
    return OT_OK;
}
