#include "serve/folder_table.h"

#include "base/clock.h"
#include "base/log.h"
#include "serve/thread.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define UNSEEN "it is empty, has a symbolic link in it, or changes at this moment"

/* ---- what is to be served */

static void stamp_text(uint64_t stamp, char out[sizeof((ot_target_variant *)0)->bundle])
{
    snprintf(out, sizeof((ot_target_variant *)0)->bundle, "%016" PRIx64, stamp);
}

/* How the version is to be served: as it is now or, where that failed, as it was loaded before.
 * False: not at all. */
static bool choose(const ot_folders *f, const ot_folder *d, const ot_seen *s, ot_target_variant *v)
{
    *v = (ot_target_variant){.role = OT_ROLE_SHADOW, .version = s->version};
    memcpy(v->model, d->name, sizeof v->model);
    const ot_entry *before = ot_folder_entry(f, d, s->version, OT_ENTRY_SERVING);
    bool current = !d->plain || s == d->versions[0];
    if (current && s->settled != 0 && s->settled != s->failed) {
        stamp_text(s->settled, v->bundle);
        return true;
    }
    if (before != NULL) {
        memcpy(v->bundle, before->bundle, sizeof v->bundle);
    }
    return before != NULL;
}

/* The versions of the policy; without any the newest that failed, so that the replica is not ready
 * and says why. */
static size_t choose_all(const ot_folders *f, const ot_folder *d, ot_target_variant *v,
                         const ot_seen **from)
{
    size_t n = 0, most = d->policy == OT_VERSIONS_LATEST && d->latest < OT_TARGET_VARIANTS_MAX
                             ? (size_t)d->latest
                             : OT_TARGET_VARIANTS_MAX;
    for (size_t i = 0; i < d->n && n < most; i++) {
        if (choose(f, d, d->versions[i], &v[n])) {
            from[n++] = d->versions[i];
        }
    }
    for (size_t i = 0; i < d->n && n == 0; i++) {
        if (d->versions[i]->settled != 0) {
            stamp_text(d->versions[i]->settled, v[0].bundle);
            v[0].version = d->versions[i]->version;
            from[n++] = d->versions[i];
        }
    }
    if (n > 0) {
        v[0].role = OT_ROLE_CHAMPION;
        v[0].share = 1;
    }
    return n;
}

static bool is_as(const ot_target_deployment *t, const ot_target_variant *v, size_t n)
{
    bool same = t->n_variants == n;
    for (size_t i = 0; i < n && same; i++) {
        same = t->variants[i].version == v[i].version && t->variants[i].role == v[i].role &&
               strcmp(t->variants[i].bundle, v[i].bundle) == 0;
    }
    return same;
}

static void free_paths(ot_target_variant *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ot_free(v[i].path);
    }
}

/* Brings the target to what the folder asks for. True: it changed. */
static bool aim(ot_folders *f, const ot_folder *d)
{
    ot_target *target = f->control->target;
    ot_target_variant v[OT_TARGET_VARIANTS_MAX];
    const ot_seen *from[OT_TARGET_VARIANTS_MAX];
    size_t n = d->wanted ? choose_all(f, d, v, from) : 0;
    ot_target_deployment *t = ot_target_find(target, d->name);
    if (n == 0) {
        ot_target_remove(target, d->name);
        return t != NULL;
    }
    if (t != NULL && t->limits.concurrency == d->instances &&
        t->limits.process_memory == d->process_memory && is_as(t, v, n)) {
        return false;
    }
    ot_error err = {.msg = "out of memory"};
    bool good = true;
    for (size_t i = 0; i < n; i++) {
        v[i].path = ot_strdup(from[i]->path);
        good &= v[i].path != NULL;
    }
    if (!good || (t == NULL && ot_target_add(target, d->name, &t, &err) != OT_OK)) {
        ot_err("serve", "%s is left as it was: %s", d->name, err.msg);
        free_paths(v, n);
        return false;
    }
    free_paths(t->variants, t->n_variants);
    memcpy(t->variants, v, n * sizeof v[0]);
    t->n_variants = n;
    t->limits.concurrency = d->instances;
    t->limits.process_memory = d->process_memory;
    return true;
}

static void aim_and_apply(ot_folders *f, const ot_folder *d)
{
    if (aim(f, d)) {
        ot_control_apply(f->control, f->control->target);
    }
}

void ot_folders_settled(ot_folders *f, const ot_entry *e)
{
    ot_folder *d = ot_folders_find(f, e->deployment);
    char bundle[sizeof e->bundle];
    for (size_t i = 0; d != NULL && i < d->n; i++) {
        ot_seen *s = d->versions[i];
        stamp_text(s->settled, bundle);
        if (s->version != e->version || strcmp(e->bundle, bundle) != 0) {
            continue;
        }
        if (e->state == OT_ENTRY_FAILED) {
            s->failed = s->settled;
            memcpy(s->reason, e->error, sizeof s->reason);
        } else {
            s->failed = 0;
            s->reason[0] = '\0';
            while (d->plain && d->n > i + 1) { /* what it has taken the place of */
                ot_folder_drop(d, d->n - 1);
            }
        }
    }
    if (d != NULL) {
        aim_and_apply(f, d);
    }
}

/* ---- looking at all of it */

static bool is_itself(const ot_folders *f)
{
    return f->n == 1 && strcmp(f->items[0]->path, f->control->serve->o.dir) == 0;
}

static bool looked_at(const ot_looks *l, const char *name)
{
    bool found = false;
    for (size_t i = 0; i < l->n && !found; i++) {
        found = strcmp(l->items[i]->name, name) == 0;
    }
    return found;
}

static bool drop_missing(ot_folders *f, const ot_looks *l)
{
    bool changed = false;
    for (size_t i = f->n; i-- > 0;) {
        ot_folder *d = f->items[i];
        if (looked_at(l, d->name)) {
            continue;
        }
        if (!d->missing) {
            d->missing = true;
            continue;
        }
        d->wanted = false;
        changed |= aim(f, d);
        ot_folders_remove(f, i);
    }
    return changed;
}

/* Takes what a look at the directory saw. */
static void take(ot_folders *f, const ot_looks *l, ot_merging how)
{
    bool changed = f->looks < 2; /* after one or two of them the replica can be ready */
    if (is_itself(f) && !looked_at(l, f->items[0]->name)) {
        return; /* it is being rewritten */
    }
    for (size_t i = 0; i < l->n; i++) {
        ot_folder *d = ot_folders_add(f, l->items[i]);
        if (d != NULL) {
            d->wanted |= f->control->serve->o.control != OT_SERVE_EXPLICIT;
            ot_folder_merge(f, d, l->items[i], how);
            changed |= aim(f, d);
        }
    }
    changed |= drop_missing(f, l);
    f->looks = OT_MIN(f->looks + 1, 2u);
    if (changed) {
        ot_control_apply(f->control, f->control->target);
    }
}

bool ot_folders_ready(const ot_folders *f)
{
    bool settled = true;
    for (size_t i = 0; i < f->n; i++) {
        settled &=
            !f->items[i]->wanted || f->items[i]->n == 0 || f->items[i]->versions[0]->settled != 0;
    }
    return settled || f->looks > 1;
}

/* ---- the thread of poll mode */

static void on_looks(void *arg)
{
    ot_folders *f = arg;
    pthread_mutex_lock(&f->lock);
    ot_looks looks = f->taken;
    f->taken = (ot_looks){0};
    f->handed = false;
    pthread_mutex_unlock(&f->lock);
    if (!f->control->draining) {
        take(f, &looks, OT_MERGE_LOOK);
    }
    ot_looks_done(&looks);
}

/* False: the thread ends. */
static bool wait_for_next(ot_folders *f)
{
    pthread_mutex_lock(&f->lock);
    uint64_t due = ot_clock_mono_ns() + (uint64_t)f->control->serve->o.poll_us * 1000;
    for (uint64_t t; !f->stopping && (t = ot_clock_mono_ns()) < due;) {
        ot_cond_wait_us(&f->wake, &f->lock, (int64_t)((due - t) / 1000) + 1);
    }
    bool go_on = !f->stopping;
    pthread_mutex_unlock(&f->lock);
    return go_on;
}

static void *watcher_main(void *arg)
{
    ot_folders *f = arg;
    ot_serve *s = f->control->serve;
    bool told = false;
    ot_thread_lower(OT_THREAD_NICE_BACKGROUND);
    while (wait_for_next(f)) {
        ot_looks looks = {0};
        ot_error err;
        bool good = ot_looks_take(s->disk, s->o.dir, &looks, &err) == OT_OK;
        if (!good && !told) {
            ot_warn("serve", "what is served stays as it is: %s", err.msg);
        }
        told = !good;
        pthread_mutex_lock(&f->lock);
        if (good && !f->handed) {
            f->taken = looks;
            f->handed = ot_loop_post(s->loop, on_looks, f) == OT_OK;
            looks = f->handed ? (ot_looks){0} : f->taken;
            f->taken = f->handed ? f->taken : (ot_looks){0};
        }
        pthread_mutex_unlock(&f->lock);
        ot_looks_done(&looks);
    }
    return NULL;
}

/* ---- life */

ot_rc ot_folders_create(ot_control *c, ot_folders **f_out, ot_error *err)
{
    ot_folders *f = ot_calloc(1, sizeof *f);
    if (f == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "folders: out of memory");
    }
    f->control = c;
    pthread_mutex_init(&f->lock, NULL);
    ot_cond_init_mono(&f->wake);
    *f_out = f;
    return OT_OK;
}

ot_rc ot_folders_start(ot_folders *f, ot_error *err)
{
    static const ot_merging at_start[] = {[OT_SERVE_NONE] = OT_MERGE_NOW,
                                          [OT_SERVE_EXPLICIT] = OT_MERGE_NOTE,
                                          [OT_SERVE_POLL] = OT_MERGE_LOOK};
    ot_serve *s = f->control->serve;
    ot_looks looks;
    bool any = false;
    f->control->target->window_us = s->o.window_us;
    OT_TRY(ot_looks_take(s->disk, s->o.dir, &looks, err));
    for (size_t i = 0; i < looks.n; i++) {
        any |= looks.items[i]->rc == OT_OK;
    }
    take(f, &looks, at_start[s->o.control]);
    ot_looks_done(&looks);
    if (ot_folders_poll(f)) {
        OT_TRY(ot_thread_start(&f->thread, "watcher", watcher_main, f, err));
        f->running = true;
    } else if (!any && s->o.control != OT_SERVE_EXPLICIT) {
        return ot_fail(err, OT_NOT_FOUND,
                       "%s is no model and has none in its folders; a model is a bundle "
                       "(manifest.json), an .onnx file, a SavedModel or a null.json, or a folder "
                       "with such in its numbered sub-folders",
                       s->o.dir);
    }
    return OT_OK;
}

void ot_folders_stop(ot_folders *f)
{
    if (f == NULL || !f->running) {
        return;
    }
    pthread_mutex_lock(&f->lock);
    f->stopping = true;
    pthread_cond_signal(&f->wake);
    pthread_mutex_unlock(&f->lock);
    pthread_join(f->thread, NULL);
    f->running = false;
}

void ot_folders_destroy(ot_folders *f)
{
    if (f == NULL) {
        return;
    }
    while (f->n > 0) {
        ot_folders_remove(f, f->n - 1);
    }
    ot_free(f->items);
    ot_looks_done(&f->taken);
    pthread_cond_destroy(&f->wake);
    pthread_mutex_destroy(&f->lock);
    ot_free(f);
}

/* ---- the repository */

ot_rc ot_folders_load(ot_folders *f, const char *name, ot_error *err)
{
    ot_serve *s = f->control->serve;
    if (ot_folders_poll(f)) {
        return ot_fail(
            err, OT_PRECONDITION,
            "%s is watched (--model-control poll): what lies in it is served; change it, "
            "or start with --model-control explicit",
            s->o.dir);
    }
    if (ot_control_loading(f->control, name)) {
        return ot_fail(err, OT_ABORTED, "model '%s' is being loaded already", name);
    }
    ot_look *l = ot_calloc(1, sizeof *l);
    if (l == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "out of memory");
    }
    ot_rc rc = ot_looks_take_one(s->disk, s->o.dir, name, l, err);
    if (rc == OT_OK && l->rc != OT_OK) {
        rc = ot_fail(err, l->rc, "%s", l->problem);
    }
    ot_folder *d = rc == OT_OK ? ot_folders_add(f, l) : NULL;
    if (rc == OT_OK && d == NULL) {
        rc = ot_fail(err, OT_EXHAUSTED, "out of memory");
    }
    if (d != NULL) {
        d->wanted = true;
        ot_folder_merge(f, d, l, OT_MERGE_NOW);
        aim_and_apply(f, d);
        if (ot_target_find(f->control->target, name) == NULL) {
            rc = ot_fail(err, OT_INVALID, "model '%s': none of its versions can be loaded: %s",
                         name, UNSEEN);
        }
    }
    ot_free(l);
    return rc;
}

ot_rc ot_folders_unload(ot_folders *f, const char *name, ot_error *err)
{
    ot_folder *d = ot_folders_find(f, name);
    if (ot_folders_poll(f)) {
        return ot_fail(err, OT_PRECONDITION,
                       "%s is watched (--model-control poll): move the model out of it, or start "
                       "with --model-control explicit",
                       f->control->serve->o.dir);
    }
    if (d == NULL || ot_target_find(f->control->target, name) == NULL) {
        return ot_fail(err, OT_NOT_FOUND, "model '%s' is not loaded", name);
    }
    d->wanted = false;
    aim_and_apply(f, d);
    return OT_OK;
}

void ot_folders_give_up(ot_folders *f, const char *name)
{
    ot_folder *d = ot_folders_find(f, name);
    bool serves = false;
    for (size_t i = 0; d != NULL && i < d->n; i++) {
        serves |= ot_folder_entry(f, d, d->versions[i]->version, OT_ENTRY_SERVING) != NULL;
    }
    if (d != NULL && !serves) {
        d->wanted = false;
        aim_and_apply(f, d);
    }
}

/* What has come since the last look is told too, though nobody watches. */
static void note_news(ot_folders *f)
{
    ot_serve *s = f->control->serve;
    ot_looks looks;
    ot_error err;
    if (ot_looks_take(s->disk, s->o.dir, &looks, &err) != OT_OK) {
        ot_warn("serve", "index: %s", err.msg);
        return;
    }
    for (size_t i = 0; i < looks.n; i++) {
        ot_folder *d = ot_folders_add(f, looks.items[i]);
        if (d != NULL) {
            ot_folder_merge(f, d, looks.items[i], OT_MERGE_NOTE);
        }
    }
    for (size_t i = 0; i < f->n; i++) {
        f->items[i]->missing = !looked_at(&looks, f->items[i]->name);
    }
    ot_looks_done(&looks);
}

static const char *why_not(const ot_folders *f, const ot_folder *d, const ot_seen *s)
{
    if (!d->wanted) {
        return "unloaded";
    }
    if (s->looked == 0) {
        return UNSEEN;
    }
    if (s->settled != 0) {
        return "it is not among the versions that are served";
    }
    return ot_folders_poll(f) ? "its files have not settled yet" : "it came after the last load";
}

static void tell_version(const ot_folders *f, const ot_folder *d, const ot_seen *s,
                         ot_folders_row_fn *fn, void *arg)
{
    bool ready = ot_folder_entry(f, d, s->version, OT_ENTRY_SERVING) != NULL;
    bool loads = ot_folder_entry(f, d, s->version, OT_ENTRY_LOADING) != NULL;
    const char *state = ready ? "READY" : loads ? "LOADING" : "UNAVAILABLE";
    const char *reason = s->failed != 0 ? s->reason : ready || loads ? "" : why_not(f, d, s);
    if (ready || loads || !(s->missing || d->missing)) {
        fn(arg, d->name, s->version, state, reason);
    }
}

void ot_folders_each(ot_folders *f, ot_folders_row_fn *fn, void *arg)
{
    if (!ot_folders_poll(f)) {
        note_news(f);
    }
    for (size_t i = 0; i < f->n; i++) {
        const ot_folder *d = f->items[i];
        for (size_t k = 0; k < d->n; k++) {
            tell_version(f, d, d->versions[k], fn, arg);
        }
        if (d->n == 0 && !d->missing) {
            fn(arg, d->name, 0, "UNAVAILABLE", d->problem);
        }
    }
}
