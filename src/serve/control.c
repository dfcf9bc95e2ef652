#include "serve/folders.h"

#include "base/clock.h"
#include "base/log.h"
#include "serve/sleep.h"
#include "serve/watchdog.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define ENTRIES_MAX (2u * OT_TARGET_DEPLOYMENTS_MAX)

/* ---- entries */

static bool entry_is(const ot_entry *e, const char *deployment, const ot_target_variant *v)
{
    return e->version == v->version && strcmp(e->deployment, deployment) == 0 &&
           strcmp(e->model, v->model) == 0 && strcmp(e->bundle, v->bundle) == 0 &&
           e->isolate == v->isolate &&
           strcmp(e->path != NULL ? e->path : "", v->path != NULL ? v->path : "") == 0;
}

static ot_entry *find_entry(const ot_control *c, const char *deployment, const ot_target_variant *v)
{
    for (size_t i = 0; i < c->n_entries; i++) {
        if (entry_is(c->entries[i], deployment, v)) {
            return c->entries[i];
        }
    }
    return NULL;
}

static void free_entry(ot_entry *e)
{
    if (e->variant != NULL) {
        ot_sleep_forget(e->variant, "it was replaced while it was unloaded: try again");
    }
    ot_variant_unref(e->variant);
    ot_free(e->path);
    ot_free(e);
}

static ot_entry *add_entry(ot_control *c, const char *deployment, const ot_target_variant *v)
{
    if (!ot_grow(&c->entries, &c->cap_entries, c->n_entries, sizeof *c->entries, ENTRIES_MAX * 2)) {
        return NULL;
    }
    ot_entry *e = ot_calloc(1, sizeof *e);
    char *path = v->path != NULL ? ot_strdup(v->path) : NULL;
    if (e == NULL || (v->path != NULL && path == NULL)) {
        ot_free(e);
        ot_free(path);
        return NULL;
    }
    snprintf(e->deployment, sizeof e->deployment, "%s", deployment);
    memcpy(e->model, v->model, sizeof e->model);
    memcpy(e->bundle, v->bundle, sizeof e->bundle);
    e->version = v->version;
    e->isolate = v->isolate;
    e->path = path;
    c->entries[c->n_entries++] = e;
    return e;
}

/* ---- the route */

typedef struct ot_retirement {
    ot_control *control;
    ot_route *route;
    unsigned left;
    ot_ask asks[OT_SERVE_WORKERS_MAX];
    ot_retirement *next;
} retirement;

static void retirement_free(retirement *r)
{
    retirement **at = &r->control->retiring;
    while (*at != r) {
        at = &(*at)->next;
    }
    *at = r->next;
    ot_route_destroy(r->route);
    ot_free(r);
}

static void retire_route(void *arg)
{
    retirement *r = ((ot_ask *)arg)->arg;
    if (--r->left == 0) {
        retirement_free(r);
    }
}

static void publish(ot_control *c, ot_route *route)
{
    ot_serve *s = c->serve;
    ot_route *old = atomic_exchange_explicit(&s->route, route, memory_order_acq_rel);
    retirement *r = ot_calloc(1, sizeof *r);
    if (r == NULL) {
        ot_err("serve", "out of memory: a replaced route is never freed");
        return;
    }
    *r = (retirement){.control = c, .route = old, .left = s->n_workers, .next = c->retiring};
    c->retiring = r;
    for (unsigned i = 0; i < s->n_workers; i++) {
        r->asks[i] = (ot_ask){
            .worker = s->workers[i], .kind = OT_ASK_QUIESCE, .then = retire_route, .arg = r};
        while (!ot_worker_ask(&r->asks[i])) {
            ot_clock_sleep_us(200); /* the worker is busy with its queue: it will have room */
        }
    }
}

static ot_dep *current_dep(const ot_control *c, const char *name)
{
    const ot_route *r = atomic_load_explicit(&c->serve->route, memory_order_relaxed);
    return ot_route_find(r, name, strlen(name));
}

/* Which version answers when the champion cannot run: what the target says, a shadow that served
 * before, else what was champion until now. */
static ot_variant *previous_of(const ot_target_deployment *t, const ot_dep *d, const ot_dep *old)
{
    const ot_arm *told = t->previous > 0 ? ot_dep_version(d, t->previous) : NULL;
    if (told != NULL) {
        return ot_variant_ref(told->variant);
    }
    const ot_variant *champion = d->arms[d->n_live - 1].variant;
    ot_variant *best = NULL;
    for (size_t i = d->n_live; i < d->n_arms; i++) {
        ot_variant *v = d->arms[i].variant;
        if (v->version < champion->version && (best == NULL || v->version > best->version)) {
            best = v;
        }
    }
    if (best == NULL && old != NULL && old->n_live > 0) {
        ot_variant *was = old->arms[old->n_live - 1].variant;
        best = was != champion ? was : old->previous;
    }
    return best != NULL ? ot_variant_ref(best) : NULL;
}

static void set_sampling(ot_dep *d, const ot_target_deployment *t, bool possible)
{
    d->sample_rate = (float)t->sample_rate;
    d->sampled = possible && t->sample_rate > 0;
    d->sample_below =
        t->sample_rate >= 1 ? UINT64_MAX : (uint64_t)(t->sample_rate * 18446744073709551616.0);
    d->compare = t->compare;
}

/* The deployment's route as far as its variants are there: a reference, or NULL when out of
 * memory. */
static ot_dep *make_dep(ot_control *c, const ot_target_deployment *t)
{
    ot_dep *old = current_dep(c, t->name);
    const ot_entry *champion = NULL;
    bool loading = false;
    for (size_t i = 0; i < t->n_variants; i++) {
        const ot_entry *e = find_entry(c, t->name, &t->variants[i]);
        loading |= e != NULL && e->state == OT_ENTRY_LOADING;
        if (t->variants[i].role == OT_ROLE_CHAMPION) {
            champion = e;
        }
    }
    bool champion_serves = champion != NULL && champion->state == OT_ENTRY_SERVING;
    if (old != NULL && old->n_live > 0 && (loading || !champion_serves)) {
        return ot_dep_ref(old);
    }
    ot_dep *d;
    ot_error err;
    if (ot_dep_create(t->name, &d, &err) != OT_OK) {
        return NULL;
    }
    set_sampling(d, t, c->serve->sampler != NULL);
    d->limits = t->limits;
    if (!champion_serves) {
        if (champion != NULL && champion->state == OT_ENTRY_FAILED) {
            snprintf(d->state, sizeof d->state, "it could not be loaded: %s", champion->error);
        }
        return d;
    }
    ot_limits_default(&d->limits, &champion->variant->sig.serve);
    double shares[OT_TARGET_VARIANTS_MAX];
    for (size_t i = 0; i < t->n_variants; i++) {
        ot_entry *e = find_entry(c, t->name, &t->variants[i]);
        if (e != NULL && e->state == OT_ENTRY_SERVING) {
            shares[d->n_arms] = t->variants[i].share;
            e->variant->last_role = t->variants[i].role;
            d->arms[d->n_arms++] =
                (ot_arm){.role = t->variants[i].role, .variant = ot_variant_ref(e->variant)};
        }
    }
    ot_dep_set_shares(d, shares);
    memcpy(d->labels, t->labels, sizeof d->labels);
    d->n_labels = t->n_labels;
    d->fallback = t->fallback;
    if (t->fallback == OT_FALLBACK_PREVIOUS) {
        d->previous = previous_of(t, d, old);
    } else if (t->fallback == OT_FALLBACK_CONSTANT &&
               ot_dep_set_constant(d, t->constant, &err) != OT_OK) {
        ot_err("serve", "%s", err.msg);
        d->fallback = OT_FALLBACK_REFUSE;
    }
    return d;
}

static bool in_route(const ot_control *c, const ot_variant *v)
{
    const ot_route *r = atomic_load_explicit(&c->serve->route, memory_order_relaxed);
    for (size_t i = 0; v != NULL && i < r->n_deps; i++) {
        for (size_t k = 0; k < r->deps[i]->n_arms; k++) {
            if (r->deps[i]->arms[k].variant == v) {
                return true;
            }
        }
    }
    return false;
}

/* What still answers stays known although it isn't wanted: the target may go back to it. */
static void forget_unwanted(ot_control *c)
{
    size_t kept = 0;
    for (size_t i = 0; i < c->n_entries; i++) {
        ot_entry *e = c->entries[i];
        if (e->wanted || e->state == OT_ENTRY_LOADING || in_route(c, e->variant)) {
            c->entries[kept++] = e;
        } else {
            free_entry(e);
        }
    }
    c->n_entries = kept;
}

static bool all_serve(const ot_control *c)
{
    for (size_t i = 0; i < c->n_entries; i++) {
        if (c->entries[i]->wanted && c->entries[i]->state != OT_ENTRY_SERVING) {
            return false;
        }
    }
    return true;
}

/* When everything is there and nothing is on its way: bundles that neither the target nor the route
 * needs leave the cache. */
static void prune_cache(ot_control *c, const ot_route *r)
{
    const char **keep = ot_calloc(c->n_entries + r->n_deps + 1, sizeof *keep);
    char cache[OT_PATH_MAX];
    size_t n = 0;
    bool loading = false;
    for (size_t i = 0; i < c->n_entries && keep != NULL; i++) {
        loading |= c->entries[i]->state == OT_ENTRY_LOADING;
        keep[n++] = c->entries[i]->bundle;
    }
    for (size_t i = 0; i < r->n_deps && keep != NULL; i++) {
        if (r->deps[i]->previous != NULL) {
            keep[n++] = r->deps[i]->previous->bundle;
        }
    }
    if (keep != NULL && !loading && !c->beside &&
        ot_path_join(cache, c->serve->o.data, "replica/cache", NULL) == OT_OK) {
        ot_fetch_prune(c->serve->disk, cache, keep, n);
    }
    ot_free(keep);
}

void ot_control_rebuild(ot_control *c)
{
    const ot_target *t = c->target;
    ot_route *r;
    ot_error err;
    if (ot_route_create(t->n_deployments, &r, &err) != OT_OK) {
        ot_err("serve", "%s", err.msg);
        return;
    }
    r->revision = t->revision;
    r->access = ot_access_ref(c->access);
    r->manage = t->manage;
    r->ready = all_serve(c) && (c->agent == NULL || t->blobs != NULL) &&
               (c->folders == NULL || ot_folders_ready(c->folders));
    for (size_t i = 0; i < t->n_deployments; i++) {
        ot_dep *d = make_dep(c, &t->deployments[i]);
        if (d != NULL) {
            r->deps[r->n_deps++] = d;
        }
    }
    publish(c, r);
    forget_unwanted(c);
    ot_open_try(c);
    if (c->agent != NULL) {
        if (r->ready) {
            prune_cache(c, r);
        }
        ot_agent_observe(c->agent);
    }
}

/* ---- loads */

static bool start_load(ot_control *c, ot_entry *e);

static void on_loaded(void *arg)
{
    ot_load *load = arg;
    ot_control *c = load->arg;
    ot_target_variant key = {
        .version = load->version, .path = load->path, .isolate = load->isolate};
    memcpy(key.model, load->model, sizeof key.model);
    memcpy(key.bundle, load->bundle, sizeof key.bundle);
    ot_entry *e = find_entry(c, load->deployment, &key);
    if (e == NULL || c->draining) { /* nobody wants it any more */
        ot_variant_unref(load->variant);
        ot_load_free(load);
        return;
    }
    /* Idle models may make room for it. */
    if (load->needs != 0 && ot_sleep_make_room(c, load->needs) && start_load(c, e)) {
        ot_load_free(load);
        return;
    }
    if (load->rc == OT_OK) {
        e->state = OT_ENTRY_SERVING;
        e->error[0] = '\0';
        e->variant = load->variant;
        e->variant->on_idle = ot_control_variant_idle;
        e->variant->on_idle_arg = c;
        const ot_variant *v = e->variant;
        ot_info("serve",
                "%s: %s@%" PRIu64 " loaded in %.1f ms (fetching %.1f, session %.1f, golden answers "
                "%.1f, measuring and first runs %.1f)%s%s",
                e->deployment, e->model, e->version, (double)v->load_us.all / 1000,
                (double)v->load_us.fetch / 1000, (double)v->load_us.session / 1000,
                (double)v->load_us.golden / 1000, (double)v->load_us.warm_up / 1000,
                v->note[0] != '\0' ? "; " : "", v->note);
    } else {
        e->state = OT_ENTRY_FAILED;
        snprintf(e->error, sizeof e->error, "%s", load->err.msg);
        ot_err("serve", "%s: %s@%" PRIu64 " failed: %s", e->deployment, e->model, e->version,
               e->error);
    }
    ot_load_free(load);
    ot_entry copy = *e; /* rebuild may forget it */
    copy.variant = NULL;
    ot_control_rebuild(c);
    ot_repo_settled(c, &copy);
}

static bool start_load(ot_control *c, ot_entry *e)
{
    ot_load *load = ot_calloc(1, sizeof *load);
    if (load == NULL) {
        return false;
    }
    memcpy(load->deployment, e->deployment, sizeof load->deployment);
    memcpy(load->model, e->model, sizeof load->model);
    memcpy(load->bundle, e->bundle, sizeof load->bundle);
    load->version = e->version;
    load->isolate = e->isolate;
    load->path = e->path != NULL ? ot_strdup(e->path) : NULL;
    load->blobs = c->target->blobs != NULL ? ot_strdup(c->target->blobs) : NULL;
    const ot_target_deployment *d = ot_target_find(c->target, e->deployment);
    load->memory_max = d != NULL ? d->limits.memory : 0;
    load->process_memory = d != NULL ? d->limits.process_memory : 0;
    load->then = on_loaded;
    load->arg = c;
    if ((e->path != NULL && load->path == NULL) ||
        (c->target->blobs != NULL && load->blobs == NULL)) {
        ot_load_free(load);
        return false;
    }
    ot_loader_add(c->loader, load);
    return true;
}

static void want(ot_control *c, const char *deployment, const ot_target_variant *v)
{
    ot_entry *e = find_entry(c, deployment, v);
    if (e != NULL && e->state == OT_ENTRY_FAILED) {
        e->state = OT_ENTRY_LOADING; /* a new revision tries again */
        if (!start_load(c, e)) {
            e->state = OT_ENTRY_FAILED;
        }
    } else if (e == NULL) {
        e = add_entry(c, deployment, v);
        if (e == NULL) {
            ot_err("serve", "%s: out of memory for %s@%" PRIu64, deployment, v->model, v->version);
            return;
        }
        if (!start_load(c, e)) {
            e->state = OT_ENTRY_FAILED;
            snprintf(e->error, sizeof e->error, "out of memory");
        }
    }
    e->wanted = true;
    e->role = v->role;
}

void ot_control_apply(ot_control *c, ot_target *target)
{
    ot_target *old = c->target;
    c->target = target;
    for (size_t i = 0; i < c->n_entries; i++) {
        c->entries[i]->wanted = false;
    }
    uint64_t most = 0;
    for (size_t i = 0; i < target->n_deployments; i++) {
        const ot_target_deployment *d = &target->deployments[i];
        most += d->sample_max_bytes;
        for (size_t k = 0; k < d->n_variants; k++) {
            want(c, d->name, &d->variants[k]);
        }
    }
    if (c->serve->spool != NULL && target->n_deployments > 0) {
        ot_spool_set_max(c->serve->spool, most);
    }
    if (old != target) {
        bool moved = old != NULL && old->window_us != target->window_us;
        ot_target_destroy(old);
        if (moved) {
            ot_windows_stop(c);
            ot_windows_start(c);
        }
    }
    ot_keys_follow(c, target);
    ot_control_rebuild(c);
    ot_repo_followed(c);
}

/* ---- variants that nobody uses */

static void on_idle(void *arg)
{
    ot_control *c = arg;
    pthread_mutex_lock(&c->idle_lock);
    ot_variant *list = c->idle;
    c->idle = NULL;
    pthread_mutex_unlock(&c->idle_lock);
    while (list != NULL) {
        ot_variant *v = list;
        list = v->next_idle;
        ot_windows_collect_last(c, v);
        ot_info("serve", "%s: %s@%" PRIu64 " unloaded", v->deployment, v->model, v->version);
        ot_loader_unload(c->loader, v);
    }
}

void ot_control_variant_idle(void *arg, ot_variant *v)
{
    ot_control *c = arg;
    pthread_mutex_lock(&c->idle_lock);
    v->next_idle = c->idle;
    c->idle = v;
    pthread_mutex_unlock(&c->idle_lock);
    /* When the loop takes no more now, the next idle variant or window brings this one along. */
    ot_rc ignored = ot_loop_post(c->serve->loop, on_idle, c);
    (void)ignored;
}

/* ---- observed */

static const char *state_name(ot_entry_state s)
{
    return s == OT_ENTRY_SERVING ? "serving" : s == OT_ENTRY_FAILED ? "failed" : "loading";
}

void ot_control_observed(const ot_control *c, ot_str *out)
{
    const ot_target *t = c->target;
    ot_str_addf(out, "{\"revision\":%" PRIu64 ",\"deployments\":[", t->revision);
    for (size_t i = 0; i < t->n_deployments; i++) {
        const ot_target_deployment *d = &t->deployments[i];
        ot_str_addf(out, "%s{\"name\":\"%s\",\"variants\":[", i > 0 ? "," : "", d->name);
        for (size_t k = 0; k < d->n_variants; k++) {
            const ot_target_variant *v = &d->variants[k];
            const ot_entry *e = find_entry(c, d->name, v);
            ot_str_addf(out,
                        "%s{\"role\":\"%s\",\"model\":\"%s\",\"version\":%" PRIu64
                        ",\"state\":\"%s\",\"error\":",
                        k > 0 ? "," : "", ot_role_name(v->role), v->model, v->version,
                        e != NULL ? state_name(e->state) : "failed");
            if (e != NULL && e->error[0] != '\0') {
                ot_str_addc(out, '"');
                ot_str_add_json(out, e->error, strlen(e->error));
                ot_str_adds(out, "\"}");
            } else {
                ot_str_adds(out, "null}");
            }
        }
        ot_str_adds(out, "]}");
    }
    ot_str_adds(out, "]}");
}

/* ---- life */

ot_rc ot_control_create(ot_serve *s, ot_control **c_out, ot_error *err)
{
    ot_control *c = ot_calloc(1, sizeof *c);
    if (c == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "control: out of memory");
    }
    c->serve = s;
    pthread_mutex_init(&c->idle_lock, NULL);
    ot_rc rc = ot_target_create(&c->target, err);
    if (rc == OT_OK && s->o.agent != NULL) {
        rc = ot_agent_create(c, &c->agent, err);
    } else if (rc == OT_OK && s->o.deployments == NULL) {
        rc = ot_folders_create(c, &c->folders, err);
    }
    if (rc != OT_OK) {
        ot_control_destroy(c);
        return rc;
    }
    *c_out = c;
    return OT_OK;
}

/* What a file says, in place of what the folders hold. */
static ot_rc serve_deployments(ot_control *c, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    const ot_serve_options *o = &c->serve->o;
    ot_target *t;
    OT_TRY(ot_disk_read_all(c->serve->disk, o->deployments, OT_TARGET_JSON_MAX, &text, err));
    ot_rc rc = ot_target_parse_at(text.data != NULL ? text.data : "", text.len, o->dir, &t, err);
    if (rc != OT_OK) {
        return ot_error_prefix(err, rc, "%s", o->deployments);
    }
    t->window_us = o->window_us;
    ot_control_apply(c, t);
    return OT_OK;
}

ot_rc ot_control_start(ot_control *c, ot_error *err)
{
    OT_TRY(ot_loader_create(c->serve, &c->loader, err));
    OT_TRY(ot_keys_start(c, err));
    if (c->agent != NULL) {
        OT_TRY(ot_company_start(c, err));
        ot_agent_start(c->agent);
    } else if (c->serve->o.deployments != NULL) {
        OT_TRY(serve_deployments(c, err));
    } else {
        OT_TRY(ot_folders_start(c->folders, err));
    }
    ot_open_start(c);
    ot_windows_start(c);
    ot_watchdog_start(c);
    ot_sleep_start(c);
    return OT_OK;
}

void ot_control_destroy(ot_control *c)
{
    if (c == NULL) {
        return;
    }
    ot_folders_stop(c->folders);
    ot_loader_stop(c->loader);
    ot_company_stop(c);
    ot_agent_destroy(c->agent);
    c->agent = NULL;
    /* The workers have ended: what they were still asked about is answered. */
    while (c->retiring != NULL) {
        retirement_free(c->retiring);
    }
    for (size_t i = 0; i < c->n_entries; i++) {
        free_entry(c->entries[i]);
    }
    ot_free(c->entries);
    on_idle(c);
    ot_loader_destroy(c->loader);
    ot_folders_destroy(c->folders);
    ot_target_destroy(c->target);
    ot_access_unref(c->access);
    pthread_mutex_destroy(&c->idle_lock);
    ot_free(c);
}
