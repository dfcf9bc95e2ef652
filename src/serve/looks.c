/* Looking at a directory of models: each sub-folder is a model, or the directory itself is one. */
#include "serve/folders.h"

#include <stdio.h>
#include <string.h>

#define LOOKS_MAX (2u * OT_TARGET_DEPLOYMENTS_MAX)

static const char *own_name(const char *dir)
{
    const char *slash = strrchr(dir, '/');
    const char *name = slash != NULL ? slash + 1 : dir;
    return ot_name_ok(name) ? name : "model";
}

/* The directory itself is a model: then it is the only one. */
static bool is_model(ot_disk *disk, const char *dir)
{
    ot_detected d;
    return ot_model_detect(disk, dir, &d, NULL) == OT_OK || ot_folder_is(disk, dir);
}

static ot_rc take(ot_disk *disk, const char *dir, const char *name, bool itself, ot_look *l,
                  ot_error *err)
{
    ot_stat st;
    if (!ot_name_ok(name) || (itself && strcmp(name, own_name(dir)) != 0)) {
        return ot_fail(err, OT_NOT_FOUND, "model '%.80s' is not in %s", name, dir);
    }
    if (itself) {
        snprintf(l->path, sizeof l->path, "%s", dir);
    } else {
        OT_TRY(ot_path_join(l->path, dir, name, err));
    }
    if (disk->ops->stat(disk, l->path, &st, NULL) != OT_OK || (!itself && !st.is_dir)) {
        return ot_fail(err, OT_NOT_FOUND, "model '%.80s' is not in %s", name, dir);
    }
    ot_error why = {0};
    snprintf(l->name, sizeof l->name, "%s", name);
    l->rc = ot_folder_look_at(disk, l->path, &l->folder, &why);
    snprintf(l->problem, sizeof l->problem, "%s", why.msg);
    return OT_OK;
}

ot_rc ot_looks_take_one(ot_disk *disk, const char *dir, const char *name, ot_look *l, ot_error *err)
{
    return take(disk, dir, name, is_model(disk, dir), l, err);
}

typedef struct taking {
    ot_disk *disk;
    const char *dir;
    ot_looks looks;
    size_t cap;
    bool itself;
} taking;

static ot_rc add_look(taking *t, const char *name, ot_error *err)
{
    ot_error why;
    if (!ot_grow(&t->looks.items, &t->cap, t->looks.n, sizeof *t->looks.items, LOOKS_MAX)) {
        return ot_fail(err, OT_EXHAUSTED, "%s: more than %u models, or out of memory", t->dir,
                       LOOKS_MAX);
    }
    ot_look *l = ot_calloc(1, sizeof *l);
    if (l == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "%s: out of memory", t->dir);
    }
    if (take(t->disk, t->dir, name, t->itself, l, &why) != OT_OK) {
        ot_free(l); /* a file, or gone again */
        return OT_OK;
    }
    t->looks.items[t->looks.n++] = l;
    return OT_OK;
}

static ot_rc list_model(void *arg, const char *name, ot_error *err)
{
    /* Others are hidden, or no names that can be asked for. */
    return ot_name_ok(name) ? add_look(arg, name, err) : OT_OK;
}

ot_rc ot_looks_take(ot_disk *disk, const char *dir, ot_looks *looks_out, ot_error *err)
{
    taking t = {.disk = disk, .dir = dir, .itself = is_model(disk, dir)};
    ot_rc rc = t.itself ? add_look(&t, own_name(dir), err)
                        : disk->ops->list(disk, dir, list_model, &t, err);
    if (rc != OT_OK) {
        ot_looks_done(&t.looks);
        return rc;
    }
    *looks_out = t.looks;
    return OT_OK;
}

void ot_looks_done(ot_looks *l)
{
    for (size_t i = 0; i < l->n; i++) {
        ot_free(l->items[i]);
    }
    ot_free(l->items);
    *l = (ot_looks){0};
}
