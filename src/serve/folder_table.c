#include "serve/folder_table.h"

#include "base/clock.h"
#include "base/log.h"

#include <inttypes.h>
#include <string.h>

bool ot_folders_poll(const ot_folders *f)
{
    return f->control->serve->o.control == OT_SERVE_POLL;
}

/* ---- the table */

static void free_seen(ot_seen *s)
{
    ot_free(s->path);
    ot_free(s);
}

static void free_folder(ot_folder *d)
{
    for (size_t i = 0; i < d->n; i++) {
        free_seen(d->versions[i]);
    }
    ot_free(d->versions);
    ot_free(d->path);
    ot_free(d);
}

static ot_folder *find(const ot_folders *f, const char *name, size_t *at_out)
{
    size_t at = 0;
    while (at < f->n && strcmp(f->items[at]->name, name) < 0) {
        at++;
    }
    *at_out = at;
    return at < f->n && strcmp(f->items[at]->name, name) == 0 ? f->items[at] : NULL;
}

ot_folder *ot_folders_find(const ot_folders *f, const char *name)
{
    size_t at;
    return find(f, name, &at);
}

void ot_folders_remove(ot_folders *f, size_t at)
{
    free_folder(f->items[at]);
    f->n--;
    memmove(&f->items[at], &f->items[at + 1], (f->n - at) * sizeof(ot_folder *));
}

ot_folder *ot_folders_add(ot_folders *f, const ot_look *l)
{
    size_t at;
    ot_folder *d = find(f, l->name, &at);
    if (d != NULL) {
        return d;
    }
    d = ot_calloc(1, sizeof *d);
    if (d == NULL || (d->path = ot_strdup(l->path)) == NULL ||
        !ot_grow(&f->items, &f->cap, f->n, sizeof(ot_folder *), 0)) {
        if (d != NULL) {
            free_folder(d);
        }
        ot_err("serve", "%s is left out: out of memory", l->path);
        return NULL;
    }
    memcpy(d->name, l->name, sizeof d->name);
    d->next = 1;
    memmove(&f->items[at + 1], &f->items[at], (f->n - at) * sizeof(ot_folder *));
    f->items[at] = d;
    f->n++;
    return d;
}

static ot_seen *add_seen(ot_folder *d, uint64_t version, const char *name)
{
    char path[OT_PATH_MAX];
    size_t at = 0;
    while (at < d->n && d->versions[at]->version > version) {
        at++;
    }
    if (at < d->n && d->versions[at]->version == version) {
        return d->versions[at];
    }
    ot_seen *s = ot_calloc(1, sizeof *s);
    bool joined = name[0] == '\0' || ot_path_join(path, d->path, name, NULL) == OT_OK;
    if (s == NULL || !joined || (s->path = ot_strdup(name[0] == '\0' ? d->path : path)) == NULL ||
        !ot_grow(&d->versions, &d->cap, d->n, sizeof *d->versions, 0)) {
        if (s != NULL) {
            free_seen(s);
        }
        ot_err("serve", "%s: version %" PRIu64 " is left out: out of memory", d->path, version);
        return NULL;
    }
    s->version = version;
    memmove(&d->versions[at + 1], &d->versions[at], (d->n - at) * sizeof(ot_seen *));
    d->versions[at] = s;
    d->n++;
    return s;
}

void ot_folder_drop(ot_folder *d, size_t at)
{
    free_seen(d->versions[at]);
    d->n--;
    memmove(&d->versions[at], &d->versions[at + 1], (d->n - at) * sizeof(ot_seen *));
}

/* ---- what a look changes */

const ot_entry *ot_folder_entry(const ot_folders *f, const ot_folder *d, uint64_t version,
                                ot_entry_state state)
{
    const ot_control *c = f->control;
    for (size_t i = 0; i < c->n_entries; i++) {
        const ot_entry *e = c->entries[i];
        if (e->version == version && e->state == state && strcmp(e->deployment, d->name) == 0) {
            return e;
        }
    }
    return NULL;
}

/* Of a folder that is itself a model: numbers that never served go. */
static void drop_failed(ot_folders *f, ot_folder *d)
{
    for (size_t i = d->n; i-- > 0;) {
        if (d->versions[i]->failed != 0 &&
            ot_folder_entry(f, d, d->versions[i]->version, OT_ENTRY_SERVING) == NULL) {
            ot_folder_drop(d, i);
        }
    }
}

/* In poll mode at the start, what has been left alone for long enough counts as settled. */
static bool is_quiet(const ot_folders *f, const ot_folder_version *v)
{
    return f->looks == 0 && ot_folders_poll(f) &&
           ot_clock_wall_us() - v->changed_us > f->control->serve->o.poll_us;
}

/* A folder that is itself a model: each state of its files gets a number. */
static void merge_plain(ot_folders *f, ot_folder *d, const ot_folder_version *v, ot_merging how)
{
    ot_seen *newest = d->n > 0 ? d->versions[0] : NULL;
    bool now = how == OT_MERGE_NOW;
    bool same = newest != NULL && newest->looked == v->stamp && how == OT_MERGE_LOOK;
    if (newest != NULL && how == OT_MERGE_NOTE) {
        return;
    }
    if (newest == NULL || (now && newest->settled != 0) ||
        (same && newest->settled != 0 && newest->settled != v->stamp)) {
        drop_failed(f, d);
        newest = add_seen(d, d->next, "");
        if (newest == NULL) {
            return;
        }
        d->next++;
    }
    if (now || same || (how == OT_MERGE_LOOK && is_quiet(f, v))) {
        newest->settled = v->stamp;
    }
    newest->looked = v->stamp;
}

static bool has_version(const ot_folder_look *l, uint64_t version)
{
    bool found = false;
    for (size_t i = 0; i < l->n_versions && !found; i++) {
        found = l->versions[i].version == version;
    }
    return found;
}

static void merge_versions(ot_folders *f, ot_folder *d, const ot_folder_look *l, ot_merging how)
{
    bool now = how == OT_MERGE_NOW;
    for (size_t i = 0; i < l->n_versions; i++) {
        const ot_folder_version *v = &l->versions[i];
        ot_seen *s = add_seen(d, v->version, v->name);
        if (s == NULL) {
            continue;
        }
        if (v->stamp != 0 &&
            (now || (how == OT_MERGE_LOOK && (s->looked == v->stamp || is_quiet(f, v))))) {
            s->settled = v->stamp;
            s->failed = now ? 0 : s->failed; /* what was asked for is tried again */
        }
        s->looked = v->stamp;
    }
    for (size_t i = d->n; i-- > 0;) {
        bool there = has_version(l, d->versions[i]->version);
        if (!there && (now || (how == OT_MERGE_LOOK && d->versions[i]->missing))) {
            ot_folder_drop(d, i);
        } else {
            d->versions[i]->missing = !there;
        }
    }
}

void ot_folder_merge(ot_folders *f, ot_folder *d, const ot_look *l, ot_merging how)
{
    d->missing = false;
    if (l->rc != OT_OK) {
        if (strcmp(d->problem, l->problem) != 0) {
            ot_warn("serve", "%s is left %s: %s", l->path, d->n > 0 ? "as it was" : "out",
                    l->problem);
        }
        memcpy(d->problem, l->problem, sizeof d->problem);
        return;
    }
    d->problem[0] = '\0';
    if (d->plain != l->folder.plain) {
        while (d->n > 0) {
            ot_folder_drop(d, d->n - 1);
        }
    }
    d->plain = l->folder.plain;
    d->policy = d->plain ? OT_VERSIONS_LATEST : l->folder.policy;
    d->latest = d->plain ? 1 : l->folder.latest;
    d->instances = l->folder.instances;
    d->process_memory = l->folder.process_memory;
    if (d->plain) {
        merge_plain(f, d, &l->folder.versions[0], how);
    } else {
        merge_versions(f, d, &l->folder, how);
    }
}
