/* Which format a model path is of, by the patterns that the plug-ins declare. */
#include "base/mem.h"
#include "runtime/internal.h"

#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

#define ENTRIES_SHOWN 6

/* The names of one folder that matter: those a pattern matches, and its sub-folders. */
typedef struct listing {
    const char *dir;
    ot_runtime *rt;
    const char *format;        /* NULL: any */
    ot_plugin *plugin;         /* of the first match */
    const overtake_format *of; /* of the first match */
    char match[256];
    bool preferred; /* `match` is called model.* */
    size_t n_matches;
    char sub[256];
    size_t n_subs, n_entries;
    ot_str shown;
} listing;

static void listing_done(listing *l)
{
    ot_str_done(&l->shown);
}

/* The first plug-in with a pattern for this name; NULL when there is none. */
static ot_plugin *match_name(ot_runtime *rt, const char *format, const char *name,
                             const overtake_format **of_out)
{
    for (size_t i = 0; i < rt->n_plugins; i++) {
        const overtake_plugin *t = ot_plugin_open(rt, &rt->plugins[i]);
        for (uint32_t k = 0; t != NULL && k < t->n_formats; k++) {
            const overtake_format *f = &t->formats[k];
            if ((format == NULL || strcmp(format, f->name) == 0) &&
                fnmatch(f->pattern, name, FNM_PERIOD) == 0) {
                *of_out = f;
                return &rt->plugins[i];
            }
        }
    }
    return NULL;
}

static void take_match(listing *l, const char *name, ot_plugin *p, const overtake_format *f)
{
    bool preferred = ot_has_prefix(name, "model.");
    l->n_matches++;
    if (l->plugin == NULL || (preferred && !l->preferred)) {
        l->plugin = p;
        l->of = f;
        l->preferred = preferred;
        snprintf(l->match, sizeof l->match, "%s", name);
    }
}

static ot_rc take_entry(void *arg, const char *name, ot_error *err)
{
    listing *l = arg;
    char path[OT_PATH_MAX];
    if (name[0] == '.' || strlen(name) >= sizeof l->match) {
        return OT_OK;
    }
    OT_TRY(ot_path_join(path, l->dir, name, err));
    ot_stat st;
    OT_TRY(ot_disk_posix()->ops->stat(ot_disk_posix(), path, &st, err));
    if (l->n_entries++ < ENTRIES_SHOWN) {
        ot_str_addf(&l->shown, "%s%s%s", l->n_entries > 1 ? ", " : "", name, st.is_dir ? "/" : "");
    }
    if (st.is_dir) {
        l->n_subs++;
        snprintf(l->sub, sizeof l->sub, "%s", name);
        return OT_OK;
    }
    const overtake_format *f = NULL;
    ot_plugin *p = match_name(l->rt, l->format, name, &f);
    if (p != NULL) {
        take_match(l, name, p, f);
    }
    return OT_OK;
}

static void known_formats(ot_runtime *rt, ot_str *out)
{
    for (size_t i = 0; i < rt->n_plugins; i++) {
        const overtake_plugin *t = ot_plugin_open(rt, &rt->plugins[i]);
        for (uint32_t k = 0; t != NULL && k < t->n_formats; k++) {
            ot_str_addf(out, "%s%s (%s)", out->len > 0 ? ", " : "", t->formats[k].name,
                        t->formats[k].pattern);
        }
    }
    if (out->len == 0) {
        ot_str_adds(out, "none: no plug-in was found; see overtake plugins");
    }
}

static bool format_is_known(ot_runtime *rt, const char *format)
{
    for (size_t i = 0; i < rt->n_plugins; i++) {
        const overtake_plugin *t = ot_plugin_open(rt, &rt->plugins[i]);
        for (uint32_t k = 0; t != NULL && k < t->n_formats; k++) {
            if (strcmp(t->formats[k].name, format) == 0) {
                return true;
            }
        }
    }
    return false;
}

static ot_rc no_model(ot_runtime *rt, const char *path, const char *found, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str known = OT_STR_INIT;
    known_formats(rt, &known);
    return ot_fail(err, OT_INVALID, "%s: no model of a known format there (found: %s); known: %s",
                   path, found[0] != '\0' ? found : "nothing", known.data);
}

static ot_rc locate_in_dir(ot_runtime *rt, const char *format, const char *dir, int depth,
                           ot_model_place *out, ot_error *err)
{
    OT_AUTO(listing_done) listing l = {.dir = dir, .rt = rt, .format = format};
    ot_str_init(&l.shown);
    OT_TRY(ot_disk_posix()->ops->list(ot_disk_posix(), dir, take_entry, &l, err));
    if (l.plugin == NULL && l.n_subs == 1 && depth > 0) {
        char sub[OT_PATH_MAX];
        OT_TRY(ot_path_join(sub, dir, l.sub, err));
        return locate_in_dir(rt, format, sub, depth - 1, out, err);
    }
    if (l.plugin == NULL) {
        return no_model(rt, dir, l.shown.data, err);
    }
    if (l.n_matches > 1 && !l.preferred) {
        return ot_fail(err, OT_INVALID,
                       "%s: %zu model files (%s); name the file, or call the model model.*", dir,
                       l.n_matches, l.shown.data);
    }
    out->plugin = l.plugin;
    out->format = l.of;
    if (l.of->wants_dir) {
        snprintf(out->path, sizeof out->path, "%s", dir);
        return OT_OK;
    }
    return ot_path_join(out->path, dir, l.match, err);
}

static ot_rc locate_file(ot_runtime *rt, const char *format, const char *path, ot_model_place *out,
                         ot_error *err)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    out->plugin = match_name(rt, format, name, &out->format);
    if (out->plugin == NULL) {
        return no_model(rt, path, "a file", err);
    }
    size_t keep =
        out->format->wants_dir ? (slash != NULL ? (size_t)(slash - path) : 0) : strlen(path);
    snprintf(out->path, sizeof out->path, "%.*s", (int)keep, path);
    if (out->path[0] == '\0') {
        snprintf(out->path, sizeof out->path, "%s", slash != NULL ? "/" : ".");
    }
    return OT_OK;
}

ot_rc ot_runtime_locate(ot_runtime *rt, const char *format, const char *path,
                        ot_model_place *place_out, ot_error *err)
{
    ot_disk *disk = ot_disk_posix();
    ot_stat st;
    if (strlen(path) >= OT_PATH_MAX) {
        return ot_fail(err, OT_RANGE, "%.80s...: path longer than %d bytes", path, OT_PATH_MAX);
    }
    if (format != NULL && !format_is_known(rt, format)) {
        OT_AUTO(ot_str_done) ot_str known = OT_STR_INIT;
        known_formats(rt, &known);
        return ot_fail(err, OT_NOT_FOUND,
                       "%s: no plug-in for format '%.64s'; known: %s; see overtake plugins", path,
                       format, known.data);
    }
    OT_TRY(disk->ops->stat(disk, path, &st, err));
    if (st.is_link) { /* a link to a folder reads as one */
        char inside[OT_PATH_MAX];
        OT_TRY(ot_path_join(inside, path, ".", err));
        st.is_dir = ot_disk_exists(disk, inside);
    }
    ot_model_place place = {0};
    OT_TRY(st.is_dir ? locate_in_dir(rt, format, path, 1, &place, err)
                     : locate_file(rt, format, path, &place, err));
    *place_out = place;
    return OT_OK;
}

ot_rc ot_runtime_detect(ot_runtime *rt, const char *path, const char **format_out, ot_error *err)
{
    ot_model_place place;
    OT_TRY(ot_runtime_locate(rt, NULL, path, &place, err));
    *format_out = place.format->name;
    return OT_OK;
}
