/* What callers of replicas ask for: who may, what becomes of it, and what the log says. */
#include "driver.h"

#include "registry/apikeys.h"

#define SITE "schema: overtake.site/1\n"

static ot_rc add_key(ot_txn *txn, void *arg, ot_error *err)
{
    uint64_t seq;
    return ot_apikeys_add(txn, arg, "anna", &seq, err);
}

/* Its id. */
static const char *key(driver *d, const char *name, const char *deployment, bool admin)
{
    static char ids[8][OT_APIKEY_ID];
    static size_t next;
    char text[OT_APIKEY_TEXT];
    ot_error err = {0};
    ot_apikey k = {.admin = admin, .n_deployments = deployment != NULL ? 1 : 0};
    snprintf(k.name, sizeof k.name, "%s", name);
    snprintf(k.deployments[0], sizeof k.deployments[0], "%s", deployment != NULL ? deployment : "");
    ot_apikey_make(&k, text);
    if (ot_store_write(d->store, add_key, &k, &err) != OT_OK) {
        bail("key", err.msg);
    }
    memcpy(ids[next], k.id, sizeof ids[0]);
    return ids[next++];
}

static ot_rc ask(driver *d, const char *verb, const char *id, ot_error *err)
{
    int64_t revision = 0;
    ot_pipeline_ask a = {
        .replica = "r-1", .verb = verb, .deployment = "digits", .key = id, .from = "10.0.0.7"};
    int before = d->n_desired;
    ot_rc rc = ot_pipeline_asked(d->p, &a, &revision, err);
    if (rc == OT_OK) {
        ok(revision == d->p->revision && d->n_desired == before + 1,
           "%s: the replicas have heard of it", verb);
    }
    return rc;
}

static void site_is(driver *d, const char *yaml)
{
    ot_error err = {0};
    write_file("site.yaml", yaml);
    if (ot_pipeline_site(d->p, at("site.yaml"), &err) != OT_OK) {
        bail("site", err.msg);
    }
    ot_pipeline_tick(d->p);
}

/* v1 serves. */
static void open_serving(driver *d, const char *rel)
{
    driver_open(d, rel);
    driver_apply_ok(d, app_yaml);
    driver_settle(d);
}

static void test_there_and_back(void)
{
    ot_error err = {0};
    driver d;
    open_serving(&d, "asked");
    const char *ops = key(&d, "ops", "digits", true);
    is_int(ask(&d, "unload", ops, &err), OT_OK, "unloaded: %s", err.msg);
    is_str(driver_serves(&d, "digits"), "", "no replica is to serve it");
    const char *said = driver_said(&d, "app.unloaded");
    ok(has(said, "deployment 'digits' unloaded by ops: asked for at r-1 with key") &&
           has(said, ops) && has(said, "from 10.0.0.7"),
       "the log says who asked");
    struct event_look l = driver_events(&d, "app.unloaded");
    is_str(l.actor, "ops", "the key's name is the actor");
    is_str(l.role, "client", "who is no person");
    json_decref(l.last);
    is_int(driver_act(&d, "train", 0, NULL, &err), OT_PRECONDITION, "no training: %s", err.msg);
    ok(has(err.msg, "unloaded by ops"), "and says why");
    fake_of("digits")->labelled_rows = 400;
    fake_find("digits", OT_FINDING_DEGRADED);
    driver_settle(&d);
    ok(has(driver_said(&d, "trigger.held"), "it is unloaded"), "no trigger begins one either");
    driver_again(&d);
    is_str(driver_serves(&d, "digits"), "", "kept over a restart");
    is_int(ask(&d, "unload", ops, &err), OT_OK, "said again it is no error");
    is_int(ask(&d, "load", ops, &err), OT_OK, "loaded: %s", err.msg);
    is_str(driver_serves(&d, "digits"), "champion v1 100%", "served again");
    is_int(ask(&d, "load", ops, &err), OT_OK, "loaded again");
    is_int(driver_count(&d, "app.loaded"), 2, "each is told");
    driver_close(&d);
}

static void test_who(void)
{
    ot_error err = {0};
    driver d;
    open_serving(&d, "asked_who");
    is_int(ask(&d, "unload", NULL, &err), OT_DENIED, "nobody: %s", err.msg);
    const char *shop = key(&d, "shop", NULL, false), *other = key(&d, "other", "letters", true);
    is_int(ask(&d, "unload", NULL, &err), OT_UNAUTHENTICATED, "keys are needed: %s", err.msg);
    is_int(ask(&d, "unload", shop, &err), OT_DENIED, "no admin: %s", err.msg);
    is_int(ask(&d, "unload", other, &err), OT_DENIED, "of another model: %s", err.msg);
    is_int(ask(&d, "unload", "0123456789abcdef", &err), OT_UNAUTHENTICATED, "unknown: %s", err.msg);
    is_int(ask(&d, "train", key(&d, "ops", NULL, true), &err), OT_UNIMPLEMENTED, "else: %s",
           err.msg);
    site_is(&d, SITE "model_control: anyone\n");
    is_int(ask(&d, "unload", other, &err), OT_DENIED, "the site lets in who may predict with it");
    is_int(ask(&d, "unload", NULL, &err), OT_UNAUTHENTICATED, "and keys are still needed");
    is_int(driver_count(&d, "app.unloaded"), 0, "none of them did anything");
    is_int(ask(&d, "unload", shop, &err), OT_OK, "any key will do: %s", err.msg);
    int before = d.n_desired;
    site_is(&d, SITE);
    is_int(d.n_desired, before + 1, "replicas hear that the rule has changed");
    driver_close(&d);
}

static void test_without_keys(void)
{
    ot_error err = {0};
    driver d;
    open_serving(&d, "asked_open");
    site_is(&d, SITE "model_control: anyone\n");
    is_int(ask(&d, "unload", NULL, &err), OT_OK, "anyone: %s", err.msg);
    ok(has(driver_said(&d, "app.unloaded"), "by anyone: asked for at r-1, from 10.0.0.7"), "told");
    driver_close(&d);
}

static void test_when(void)
{
    ot_error err = {0};
    driver d;
    driver_open(&d, "asked_when");
    const char *ops = key(&d, "ops", NULL, true);
    is_int(ask(&d, "load", ops, &err), OT_NOT_FOUND, "no app: %s", err.msg);
    driver_apply_ok(&d, app_yaml);
    is_int(ask(&d, "load", ops, &err), OT_PRECONDITION, "nothing serves yet: %s", err.msg);
    driver_settle(&d);
    is_int(driver_act(&d, "train", 0, NULL, &err), OT_OK, "a training begins");
    is_int(ask(&d, "unload", ops, &err), OT_PRECONDITION, "not meanwhile: %s", err.msg);
    driver_settle(&d);
    is_int(driver_act(&d, "freeze", 0, NULL, &err), OT_OK, "frozen");
    is_int(ask(&d, "load", ops, &err), OT_PRECONDITION, "nothing moves: %s", err.msg);
    is_int(driver_act(&d, "unload", 0, NULL, &err), OT_PRECONDITION, "nor for a person: %s",
           err.msg);
    driver_close(&d);
}

int main(void)
{
    world_start();
    test_there_and_back();
    test_who();
    test_without_keys();
    test_when();
    return world_end();
}
