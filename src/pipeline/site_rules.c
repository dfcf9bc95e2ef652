/* What the site lets happen now: which file is in force, whom it does not allow, whose run is next,
 * when releases may move. */
#include "pipeline/internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "store/kv.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SITE_BYTES_MAX (1u << 20)
#define DAY_US 86400000000ll
#define LOOK_US 60000000ll /* what waits is looked at so often, whatever wakes it before */

/* ------------------------------------------------------------------ which file is in force */

void pl_site_hold(pl_app *a)
{
    ot_error err = {0};
    ot_app *fresh = NULL;
    const ot_app *old = a->app;
    if (ot_app_parse(old->yaml, strlen(old->yaml), old->file, old->dir, &fresh, &err) != OT_OK) {
        ot_err("pipeline", "app %s: not held to the site: %s", old->app, err.msg);
        return;
    }
    a->refused[0] = 0;
    if (a->p->site != NULL && ot_site_tighten(a->p->site, fresh, &err) != OT_OK) {
        snprintf(a->refused, sizeof a->refused, "%.*s",
                 (int)OT_MIN(strcspn(err.msg, "\n"), (size_t)500), err.msg);
    }
    ot_app_destroy(a->app);
    a->app = fresh;
    pl_spare_drop(a);
    a->again_us = a->held_until_us = 0;
}

struct site_txn {
    const char *type, *text;
    const ot_site *site; /* kept from now on; NULL: the kept one stays */
    bool drop;           /* none is kept any more */
};

static ot_rc site_event(ot_txn *txn, void *arg, ot_error *err)
{
    struct site_txn *t = arg;
    json_t *payload = pl_text("%s", t->text);
    json_object_set_new(payload, "because", json_array());
    if (t->site != NULL) {
        json_t *j = json_pack("{s:s,s:s}", "yaml", t->site->yaml, "file", t->site->file);
        char *kept = j != NULL ? json_dumps(j, JSON_COMPACT) : NULL;
        ot_rc rc = kept != NULL ? ot_kv_set(txn, "site", "file", kept, strlen(kept), err)
                                : ot_fail(err, OT_INVALID, "%s: not valid UTF-8", t->site->file);
        free(kept);
        json_decref(j);
        if (rc != OT_OK) {
            json_decref(payload);
            return rc;
        }
        char hex[OT_DIGEST_HEX];
        ot_digest d = ot_sha256_of(t->site->yaml, strlen(t->site->yaml));
        json_object_set_new(payload, "sha256", json_string(ot_digest_hex(&d, hex)));
    }
    char *text = json_dumps(payload, JSON_COMPACT);
    json_decref(payload);
    ot_event_in in = {.actor = "overtake",
                      .role = "automation",
                      .type = t->type,
                      .object = "site",
                      .payload = text};
    ot_rc rc = t->drop ? ot_kv_delete(txn, "site", "file", err) : OT_OK;
    if (rc == OT_OK) {
        rc = text != NULL ? ot_event_append(txn, &in, NULL, err)
                          : ot_fail(err, OT_EXHAUSTED, "site: no memory for its event");
    }
    free(text);
    return rc;
}

static ot_rc read_kept(ot_txn *txn, void *arg, ot_error *err)
{
    return ot_kv_get(txn, "site", "file", arg, err);
}

static ot_rc take_kept(ot_pipeline *p, ot_site **out, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    OT_TRY(ot_store_read(p->store, read_kept, &text, err));
    json_t *j = json_loadb(text.data, text.len, 0, NULL);
    const char *yaml = json_string_value(json_object_get(j, "yaml"));
    const char *file = json_string_value(json_object_get(j, "file"));
    ot_rc rc = yaml != NULL && file != NULL
                   ? ot_site_parse(yaml, strlen(yaml), file, out, err)
                   : ot_fail(err, OT_DATA_LOSS, "site: what was kept of its file is damaged");
    json_decref(j);
    return rc;
}

static ot_rc read_file(const char *path, ot_site **out, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    const char *slash = strrchr(path, '/');
    OT_TRY(ot_disk_read_all(ot_disk_posix(), path, SITE_BYTES_MAX, &text, err));
    return ot_site_parse(text.data, text.len, slash != NULL ? slash + 1 : path, out, err);
}

static void put_in_force(ot_pipeline *p, ot_site *site)
{
    const char *control = pl_model_control(p);
    ot_site_destroy(p->site);
    p->site = site;
    if (strcmp(pl_model_control(p), control) != 0) {
        pl_desired_changed(p);
    }
    for (size_t i = 0; i < p->n_apps; i++) {
        pl_site_hold(p->apps[i]);
    }
}

/* The file is not to be had: what it said last goes on. */
static ot_rc keep(ot_pipeline *p, ot_site *kept, const ot_error *why, ot_error *err)
{
    struct site_txn t = {.type = "site.refused", .text = why->msg};
    ot_error e = {0};
    if (kept == NULL) {
        return ot_fail(err, why->rc, "%s", why->msg);
    }
    ot_err("pipeline", "the site file is refused, what it said before goes on: %s", why->msg);
    if (ot_store_write(p->store, site_event, &t, &e) != OT_OK) {
        ot_err("pipeline", "site: %s", e.msg);
    }
    put_in_force(p, kept);
    return OT_OK;
}

static ot_rc replace(ot_pipeline *p, ot_site *site, const ot_site *kept, ot_error *err)
{
    char text[200];
    struct site_txn t = {.text = text, .site = site, .drop = site == NULL};
    bool same = site == NULL ? kept == NULL
                             : kept != NULL && strcmp(site->yaml, kept->yaml) == 0 &&
                                   strcmp(site->file, kept->file) == 0;
    t.type = site == NULL ? "site.removed" : "site.applied";
    snprintf(text, sizeof text, site == NULL ? "%.100s is in force no more" : "%.100s is in force",
             site == NULL ? (kept != NULL ? kept->file : "") : site->file);
    if (!same) {
        OT_TRY(ot_store_write(p->store, site_event, &t, err));
    }
    put_in_force(p, site);
    return OT_OK;
}

ot_rc ot_pipeline_site(ot_pipeline *p, const char *path, ot_error *err)
{
    ot_site *site = NULL, *kept = NULL;
    ot_error why = {0};
    ot_rc rc = take_kept(p, &kept, &why);
    if (rc != OT_OK && rc != OT_NOT_FOUND) {
        ot_err("pipeline", "%s", why.msg); /* no reason to do without the file as it is now */
    }
    if (path != NULL && read_file(path, &site, &why) != OT_OK) {
        return keep(p, kept, &why, err);
    }
    rc = replace(p, site, kept, err);
    ot_site_destroy(kept);
    if (rc != OT_OK) {
        ot_site_destroy(site);
    }
    return rc;
}

/* ------------------------------------------------------------------ apps that it does not allow */

void pl_site_tick(pl_app *a)
{
    char object[96];
    if (strcmp(a->refused, a->st.site_refused) == 0) {
        return;
    }
    pl_change c = pl_change_of(a);
    bool now = a->refused[0] != 0;
    pl_event *e = pl_change_event(
        &c, now ? "site.forbids" : "site.allows", pl_object_app(a, object),
        now ? pl_text("it serves on, but no run starts and no release moves: %s", a->refused)
            : pl_text("the site allows it again"));
    e->aside = true;
    e->alert = now;
    memcpy(c.next.site_refused, a->refused, sizeof c.next.site_refused);
    (void)pl_commit_logged(&c);
}

ot_rc pl_site_allows(const pl_app *a, ot_error *err)
{
    return a->refused[0] == 0 ? OT_OK
                              : ot_fail(err, OT_PRECONDITION, "app %s is not allowed here: %s",
                                        a->app->app, a->refused);
}

/* Says once what the cycle waits for. */
static void tell(pl_app *a, const char *type, const char *object, const char *why,
                 int64_t queued_us)
{
    if (strcmp(a->st.cycle.waits, why) == 0 && a->st.cycle.queued_us == queued_us) {
        return;
    }
    pl_change c = pl_change_of(a);
    int64_t version = a->st.cycle.version;
    pl_change_event(&c, type, object,
                    version > 0 ? pl_text("v%" PRId64 " %s", version, why)
                                : pl_text("cycle %" PRId64 " %s", a->st.cycle.number, why));
    snprintf(c.next.cycle.waits, sizeof c.next.cycle.waits, "%s", why);
    c.next.cycle.queued_us = queued_us;
    (void)pl_commit_logged(&c);
}

/* ------------------------------------------------------------------ runs */

/* Places that are free now; INT64_MAX: no quota. */
typedef struct places {
    int64_t at_once, today;
    int64_t today_again_us; /* when the next of today's is free again */
} places;

static bool runs_something(pl_cycle_state s)
{
    return s == PL_TRAINING || s == PL_PACKAGING || s == PL_EVALUATING;
}

struct since_arg {
    int64_t since_us, limit, n, oldest_us;
};

static ot_rc read_since(ot_txn *txn, void *arg, ot_error *err)
{
    struct since_arg *s = arg;
    return ot_store_run_since(txn, pl_step_name(PL_STEP_TRAIN), s->since_us, s->limit, &s->n,
                              &s->oldest_us, err);
}

static places free_places(const ot_pipeline *p)
{
    const ot_site_quotas *q = &p->site->quotas;
    places f = {.at_once = INT64_MAX, .today = INT64_MAX};
    int64_t now = ot_clock_wall_us();
    if (q->runs_at_once > 0) {
        f.at_once = q->runs_at_once;
        for (size_t i = 0; i < p->n_apps; i++) {
            const pl_cycle *c = &p->apps[i]->st.cycle;
            f.at_once -= runs_something(c->state) && c->run != 0 && c->run_phase != PL_RUN_ENDED;
        }
    }
    if (q->runs_per_day > 0) {
        struct since_arg s = {.since_us = now - DAY_US, .limit = q->runs_per_day};
        ot_error err = {0};
        if (ot_store_read(p->store, read_since, &s, &err) != OT_OK) {
            ot_err("pipeline", "runs of today: %s", err.msg);
            s.n = s.limit; /* nobody knows: wait */
            s.oldest_us = now + LOOK_US - DAY_US;
        }
        f.today = q->runs_per_day - s.n;
        f.today_again_us = s.oldest_us + DAY_US;
    }
    return f;
}

/* First come, first served: those in the queue before `a` that could start now. */
static void count_ahead(const pl_app *a, int64_t *trainings, int64_t *others)
{
    const ot_pipeline *p = a->p;
    int64_t since = a->st.cycle.queued_us;
    bool before = true; /* who came at the same time goes by the order of apps */
    *trainings = *others = 0;
    for (size_t i = 0; i < p->n_apps; i++) {
        const pl_app *b = p->apps[i];
        const pl_cycle *c = &b->st.cycle;
        if (b == a) {
            before = false;
            continue;
        }
        bool waits = c->queued_us != 0 && c->run == 0 && runs_something(c->state) &&
                     !b->st.frozen && b->refused[0] == 0;
        if (waits && (since == 0 || c->queued_us < since || (c->queued_us == since && before))) {
            *(c->state == PL_TRAINING ? trainings : others) += 1;
        }
    }
}

/* Why the next run of `a` has no place; false: it has one. */
static bool lacks_place(const pl_app *a, char why[320], int64_t *again_us)
{
    const ot_site *site = a->p->site;
    char place[OT_SITE_PLACE_TEXT];
    int64_t trainings, others;
    places f = free_places(a->p);
    count_ahead(a, &trainings, &others);
    if (a->st.cycle.state == PL_TRAINING && f.today <= trainings) {
        snprintf(why, 320, "waits: the %" PRId64 " training runs of %s in 24 hours are used up",
                 site->quotas.runs_per_day,
                 ot_site_place(site, ot_site_quota_mark(site, "runs_per_day"), place));
        *again_us = f.today > 0 ? *again_us : OT_MIN(*again_us, f.today_again_us);
        return true;
    }
    if (f.at_once <= others + OT_MIN(trainings, f.today)) {
        snprintf(why, 320, "waits for its turn: %s allows %" PRId64 " runs at once",
                 ot_site_place(site, ot_site_quota_mark(site, "runs_at_once"), place),
                 site->quotas.runs_at_once);
        return true;
    }
    return false;
}

bool pl_site_admits_run(pl_app *a)
{
    char why[320] = "", object[96];
    int64_t now = ot_clock_wall_us(), again = now + LOOK_US;
    if (a->refused[0] != 0) {
        snprintf(why, sizeof why, "waits until the site allows it: %.280s", a->refused);
    } else if (a->p->site == NULL || !lacks_place(a, why, &again)) {
        return true;
    }
    tell(a, "run.waits", pl_object_app(a, object), why,
         a->st.cycle.queued_us != 0 ? a->st.cycle.queued_us : now);
    a->again_us = again;
    return false;
}

void pl_site_wake(ot_pipeline *p)
{
    for (size_t i = 0; i < p->n_apps; i++) {
        if (p->apps[i]->st.cycle.queued_us != 0) {
            p->apps[i]->again_us = 0;
        }
    }
}

/* ------------------------------------------------------------------ releases */

bool pl_site_holds_release(const pl_app *a, char why[320], int64_t *until_us)
{
    const ot_site *site = a->p->site;
    int64_t now = ot_clock_wall_us();
    char place[OT_SITE_PLACE_TEXT], opens[32];
    *until_us = now + LOOK_US;
    if (a->refused[0] != 0) {
        snprintf(why, 320, "waits until the site allows it: %.280s", a->refused);
        return true;
    }
    if (site == NULL || ot_windows_open(&site->windows, now)) {
        return false;
    }
    int64_t next = ot_windows_next(&site->windows, now);
    *until_us = OT_MIN(*until_us, next);
    ot_format_time(next, opens);
    snprintf(why, 320, "waits for a change window (%s); the next opens at %.10s %.5s UTC",
             ot_site_place(site, site->windows.mark, place), opens, opens + 11);
    return true;
}

bool pl_site_waits(pl_app *a)
{
    char why[320], object[OT_OBJECT_TEXT];
    if (!pl_site_holds_release(a, why, &a->held_until_us)) {
        return false;
    }
    ot_registry_object(object, a->app->app, a->st.cycle.version);
    tell(a, "release.waits", object, why, 0);
    return true;
}

ot_rc pl_site_may_approve(const pl_app *a, const char *actor, ot_error *err)
{
    const ot_rollout *ro = &a->st.cycle.rollout;
    size_t nth = 0;
    for (size_t i = 0; i < ro->at; i++) {
        nth += ro->steps[i].kind == OT_ROLLOUT_APPROVAL;
    }
    for (size_t i = 0; i < a->app->release.n; i++) {
        const ot_app_stage *st = &a->app->release.v[i];
        if (st->kind != OT_STAGE_APPROVAL || nth-- > 0) {
            continue;
        }
        OT_AUTO(ot_str_done) ot_str list = OT_STR_INIT;
        bool may = st->by.n == 0;
        for (size_t k = 0; k < st->by.n; k++) {
            may = may || strcmp(st->by.v[k], actor) == 0;
            ot_str_addf(&list, "%s%s", k > 0 ? ", " : "", st->by.v[k]);
        }
        return may ? OT_OK
                   : ot_fail(err, OT_DENIED,
                             "app %s: v%" PRId64 " may be approved by %s, not by "
                             "%s",
                             a->app->app, a->st.cycle.version, list.data, actor);
    }
    return OT_OK;
}
