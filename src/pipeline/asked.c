/* What callers of a replica ask of the control plane: may they, and then it is as if a person had
 * said it. */
#include "pipeline/internal.h"

#include "base/clock.h"
#include "registry/apikeys.h"

#include <stdio.h>
#include <string.h>

struct find_key {
    const char *id;
    bool needed, found;
    ot_apikey key;
};

static ot_rc find_key(ot_txn *txn, void *arg, ot_error *err)
{
    struct find_key *f = arg;
    json_t *list = NULL, *one;
    size_t i;
    OT_TRY(ot_apikeys_needed(txn, &f->needed, err));
    if (f->id == NULL) {
        return OT_OK;
    }
    OT_TRY(ot_apikeys_list(txn, &list, err));
    ot_rc rc = OT_OK;
    json_array_foreach(list, i, one)
    {
        const char *id = json_string_value(json_object_get(one, "id"));
        if (id != NULL && strcmp(id, f->id) == 0) {
            rc = ot_apikey_read(one, &f->key, err);
            f->found = rc == OT_OK;
            break;
        }
    }
    json_decref(list);
    return rc;
}

/* The replica has checked the same; what it knows may be older. */
static ot_rc check_key(const ot_pipeline *p, const ot_pipeline_ask *ask, const struct find_key *f,
                       ot_error *err)
{
    bool anyone = p->site != NULL && p->site->model_control == OT_SITE_CONTROL_ANYONE;
    if (ask->key != NULL && !f->found) {
        return ot_fail(err, OT_UNAUTHENTICATED, "this API key is not known");
    }
    if (f->found && f->key.expires_us > 0 && f->key.expires_us <= ot_clock_wall_us()) {
        return ot_fail(err, OT_UNAUTHENTICATED, "the API key '%s' has expired", f->key.name);
    }
    if (f->found && !ot_apikey_covers(&f->key, ask->deployment, strlen(ask->deployment))) {
        return ot_fail(err, OT_DENIED, "the API key '%s' is not for model '%.64s'", f->key.name,
                       ask->deployment);
    }
    if (!f->found && f->needed) {
        return ot_fail(err, OT_UNAUTHENTICATED, "an API key is needed");
    }
    return anyone || (f->found && f->key.admin)
               ? OT_OK
               : ot_fail(err, OT_DENIED,
                         "models are loaded and unloaded with an API key that was made with keys "
                         "add --admin");
}

ot_rc ot_pipeline_asked(ot_pipeline *p, const ot_pipeline_ask *ask, int64_t *revision_out,
                        ot_error *err)
{
    struct find_key f = {.id = ask->key};
    if (strcmp(ask->verb, "load") != 0 && strcmp(ask->verb, "unload") != 0) {
        return ot_fail(err, OT_UNIMPLEMENTED, "'%.40s' is not what a replica may ask for",
                       ask->verb);
    }
    OT_TRY(ot_store_read(p->store, find_key, &f, err));
    OT_TRY(check_key(p, ask, &f, err));
    pl_app *a = pl_app_of_deployment(p, ask->deployment);
    if (a == NULL) {
        return ot_fail(err, OT_NOT_FOUND, "model '%.64s' is not known", ask->deployment);
    }
    char reason[256], key[64] = "";
    if (f.found) {
        snprintf(key, sizeof key, " with key %s", f.key.id);
    }
    snprintf(reason, sizeof reason, "asked for at %.64s%s, from %.64s", ask->replica, key,
             ask->from);
    OT_AUTO(ot_str_done) ot_str ignored = OT_STR_INIT;
    ot_person_act act = {.verb = ask->verb,
                         .app = a->app->app,
                         .actor = f.found ? f.key.name : "anyone",
                         .role = "client",
                         .reason = reason};
    OT_TRY(ot_pipeline_act(p, &act, &ignored, err));
    *revision_out = p->revision;
    return OT_OK;
}

const char *pl_model_control(const ot_pipeline *p)
{
    return p->site != NULL && p->site->model_control == OT_SITE_CONTROL_ANYONE ? "anyone" : "admin";
}
