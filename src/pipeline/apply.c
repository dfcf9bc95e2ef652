/* Apply: an app file becomes what is in force. */
#include "pipeline/internal.h"

#include "base/clock.h"
#include "store/kv.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Lines of the effective configuration that differ, as "- old" and "+ new". Order is the table's,
 * so a walk over both with a look-ahead is enough. */
static json_t *diff_lines(const char *before, const char *after)
{
    json_t *out = json_array();
    char line[1024];
    const char *p = before, *q = after;
    while (*p != 0 || *q != 0) {
        size_t n = strcspn(p, "\n"), m = strcspn(q, "\n");
        if (n == m && memcmp(p, q, n) == 0) {
            p += n + (p[n] != 0);
            q += m + (q[m] != 0);
            continue;
        }
        /* Is the old line still to come in the new text? Then the new one was added. */
        char want[1024];
        snprintf(want, sizeof want, "\n%.*s\n", (int)OT_MIN(n, (size_t)1000), p);
        bool added = *p == 0 || (*q != 0 && n > 0 && strstr(q + m, want) != NULL);
        if (added) {
            snprintf(line, sizeof line, "+ %.*s", (int)OT_MIN(m, (size_t)1000), q);
            q += m + (q[m] != 0);
        } else {
            snprintf(line, sizeof line, "- %.*s", (int)OT_MIN(n, (size_t)1000), p);
            p += n + (p[n] != 0);
        }
        json_array_append_new(out, json_string(line));
    }
    return out;
}

ot_rc pl_app_save(ot_txn *txn, const ot_pipeline *p, const ot_app *app, ot_error *err)
{
    json_t *j = json_pack("{s:s,s:s,s:s}", "yaml", app->yaml, "file", app->file, "dir", app->dir);
    char *text = j != NULL ? json_dumps(j, JSON_COMPACT) : NULL;
    json_decref(j);
    if (text == NULL) {
        return ot_fail(err, OT_INVALID, "%s: not valid UTF-8", app->file);
    }
    ot_rc rc = ot_kv_set(txn, "app.file", app->app, text, strlen(text), err);
    free(text);
    OT_TRY(rc);
    return pl_note_incarnations(txn, p, app->serve.deployment, err);
}

static ot_rc save_file(ot_txn *txn, void *arg, pl_state *next, ot_error *err)
{
    (void)next;
    const pl_app *a = arg;
    return pl_app_save(txn, a->p, a->app, err);
}

static ot_rc check_deployment(ot_pipeline *p, const ot_app *app, ot_error *err)
{
    pl_app *other = pl_app_of_deployment(p, app->serve.deployment);
    if (other != NULL && strcmp(other->app->app, app->app) != 0) {
        return ot_fail(err, OT_EXISTS,
                       "%s: serve.deployment '%s' belongs to app '%s'; choose another name",
                       app->file, app->serve.deployment, other->app->app);
    }
    return OT_OK;
}

static ot_rc check_site(const ot_pipeline *p, ot_app *app, bool is_new, ot_error *err)
{
    const ot_site *site = p->site;
    char place[OT_SITE_PLACE_TEXT];
    ot_conf_ctx ctx = {.file = app->file};
    if (site == NULL) {
        return OT_OK;
    }
    if (is_new && site->quotas.apps > 0 && p->n_apps >= (size_t)site->quotas.apps) {
        return ot_conf_fail(&ctx, app->app_mark, err,
                            "app '%s' would be one more than the %" PRId64 " that %s allows; ask "
                            "%s",
                            app->app, site->quotas.apps,
                            ot_site_place(site, ot_site_quota_mark(site, "apps"), place),
                            ot_site_contact(site));
    }
    return ot_site_tighten(site, app, err);
}

/* Rows a second of the last hour's traffic, 0 when there is none to measure. */
static double measured_rate(pl_app *a)
{
    ot_service s = {0};
    int64_t now = ot_clock_wall_us();
    if (ot_quality_service(a->quality, now - 3600000000, now, 0, &s, NULL) != OT_OK) {
        return 0;
    }
    return s.covered_us > 0 ? (double)s.rows / (double)s.covered_us * 1e6 : 0;
}

/* While nothing serves, whoever applies wants a model: for the first time, or with the program
 * mended. */
static bool starts_now(const pl_state *s)
{
    return s->champion == 0 && s->cycle.state == PL_IDLE && !s->frozen && !s->paused;
}

/* Evidence belongs to a deployment's name. */
static ot_rc follow_deployment(ot_pipeline *p, pl_app *a, const char *before, ot_error *err)
{
    ot_quality_config cfg = pl_quality_config(a);
    if (strcmp(before, cfg.deployment) == 0) {
        return ot_quality_configure(a->quality, &cfg, err);
    }
    ot_quality *q = NULL;
    OT_TRY(ot_quality_create(p->store, &cfg, &q, err));
    ot_quality_destroy(a->quality);
    a->quality = q;
    a->compares = false;
    return OT_OK;
}

static ot_rc put_in_force(ot_pipeline *p, pl_app *a, ot_app *app, const char *actor,
                          const ot_digest *code, const json_t *changed, bool *started,
                          ot_error *err)
{
    ot_app *old = a->app;
    char object[96];
    snprintf(object, sizeof object, "app/%s", app->app);
    a->app = app;
    pl_change c = pl_change_of(a);
    c.extra = save_file;
    c.arg = a;
    c.next.code = *code;
    json_t *payload = pl_text("app %s applied", app->app);
    json_t *copy = json_deep_copy(changed);
    json_object_set_new(payload, "changed", copy);
    pl_event *e = pl_change_event(&c, "app.applied", object, payload);
    e->actor = actor;
    *started = starts_now(&c.next);
    if (*started) {
        pl_cycle_train(&c, false);
    }
    e->aside = !*started;
    ot_rc rc = pl_commit(&c, err);
    if (rc != OT_OK) {
        a->app = old;
        return rc;
    }
    /* In force from here, whatever happens. */
    pl_spare_drop(a);
    a->refused[0] = 0;
    rc = follow_deployment(p, a, old->serve.deployment, err);
    if (old != app) {
        ot_app_destroy(old);
    }
    pl_desired_changed(p);
    return rc;
}

static ot_rc answer(const char *name, json_t *changed, json_t *diff, bool started, ot_str *out,
                    ot_error *err)
{
    json_t *j = json_pack("{s:s,s:O,s:O,s:b}", "app", name, "changed", changed, "diff", diff,
                          "started", started);
    char *text = j != NULL ? json_dumps(j, JSON_COMPACT) : NULL;
    json_decref(j);
    if (text == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "apply: no memory");
    }
    ot_str_adds(out, text);
    free(text);
    return OT_OK;
}

static ot_rc apply_parsed(ot_pipeline *p, ot_app *app, const char *actor, bool diff_only,
                          bool *kept, ot_str *out, ot_error *err)
{
    OT_TRY(check_deployment(p, app, err));
    pl_app *a = pl_app_find(p, app->app);
    OT_TRY(check_site(p, app, a == NULL, err));
    if (a != NULL && a->busy && !diff_only) {
        return ot_fail(err, OT_PRECONDITION,
                       "app %s: a run is being laid out; try again in a moment", app->app);
    }
    OT_AUTO(ot_str_done) ot_str before = OT_STR_INIT;
    OT_AUTO(ot_str_done) ot_str after = OT_STR_INIT;
    if (a != NULL) {
        OT_TRY(ot_app_check_waits(app, measured_rate(a), err));
        ot_app_show(a->app, &before);
    }
    ot_app_show(app, &after);
    json_t *changed = diff_lines(before.data, after.data), *diff = NULL;
    bool started = false;
    ot_rc rc = pl_diff(before.data, after.data, &diff, err);
    if (rc == OT_OK && !diff_only) {
        ot_digest code;
        rc = pl_code_snapshot(p->store, app, &code, err);
        bool fresh = a == NULL;
        if (rc == OT_OK && fresh) {
            rc = pl_app_add(p, app, &a, err);
        }
        if (rc == OT_OK) {
            rc = put_in_force(p, a, app, actor, &code, changed, &started, err);
            *kept = a->app == app;
        }
    }
    if (rc == OT_OK) {
        rc = answer(app->app, changed, diff, started, out, err);
    }
    json_decref(changed);
    json_decref(diff);
    return rc;
}

ot_rc ot_pipeline_apply(ot_pipeline *p, const char *yaml, size_t n, const char *file,
                        const char *dir, const char *actor, bool diff_only, ot_str *json_out,
                        ot_error *err)
{
    ot_app *app = NULL;
    OT_TRY(ot_app_parse(yaml, n, file, dir, &app, err));
    bool kept = false;
    ot_rc rc = apply_parsed(p, app, actor, diff_only, &kept, json_out, err);
    if (!kept) {
        ot_app_destroy(app);
    }
    ot_pipeline_tick(p);
    return rc;
}

ot_rc ot_pipeline_config_yaml(ot_pipeline *p, const char *app, ot_str *out, ot_error *err)
{
    pl_app *a = pl_app_find(p, app);
    if (a == NULL) {
        return ot_fail(err, OT_NOT_FOUND, "app '%.64s' is not here", app);
    }
    ot_app_show(a->app, out);
    return OT_OK;
}
