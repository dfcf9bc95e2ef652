#include "model/folder.h"

#include "base/hash.h"
#include "model/bundle.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define STAMP_SALT UINT64_C(0x7374616d70)
#define DIGITS_MAX 18

/* ---- stamps */

typedef struct stamping {
    uint64_t sum; /* of a hash a file: the order of the files does not matter */
    size_t n_files;
    int64_t changed_us;
} stamping;

static ot_rc stamp_file(void *arg, const char *rel, const ot_stat *st, ot_error *err)
{
    stamping *s = arg;
    struct {
        uint64_t name, size;
        int64_t mtime_us;
    } seen = {ot_hash_stable(rel, strlen(rel), STAMP_SALT), st->size, st->mtime_us};
    (void)err;
    s->sum += ot_hash_stable(&seen, sizeof seen, STAMP_SALT);
    s->changed_us = OT_MAX(s->changed_us, st->ctime_us);
    s->n_files++;
    return OT_OK;
}

/* The stamp of what is at `path`, a folder or a file; `more` is mixed in. */
static void stamp(ot_disk *disk, const char *path, uint64_t more, ot_folder_version *v)
{
    stamping s = {.sum = more};
    ot_stat st;
    ot_rc rc = disk->ops->stat(disk, path, &st, NULL);
    if (rc == OT_OK && st.is_regular) {
        rc = stamp_file(&s, "", &st, NULL);
    } else if (rc == OT_OK) {
        rc = ot_tree_walk(disk, path, stamp_file, &s, NULL);
    }
    bool seen = rc == OT_OK && s.n_files > 0;
    v->stamp = seen ? OT_MAX(s.sum, 1u) : 0;
    v->changed_us = s.changed_us;
}

static uint64_t stamp_config(ot_disk *disk, const char *path)
{
    char file[OT_PATH_MAX];
    ot_stat st;
    stamping s = {0};
    if (ot_path_join(file, path, OT_MODEL_CONFIG_FILE, NULL) == OT_OK &&
        disk->ops->stat(disk, file, &st, NULL) == OT_OK &&
        stamp_file(&s, OT_MODEL_CONFIG_FILE, &st, NULL) != OT_OK) {
        return 0;
    }
    return s.sum;
}

/* ---- versions */

/* 0: the name is not a version's. */
static uint64_t version_of(const char *name)
{
    uint64_t x = 0;
    size_t n = strspn(name, "0123456789");
    if (n == 0 || n > DIGITS_MAX || name[n] != '\0') {
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        x = x * 10 + (uint64_t)(name[i] - '0');
    }
    return x;
}

static bool wanted(const ot_model_config *c, uint64_t version)
{
    bool found = c->policy != OT_VERSIONS_SPECIFIC;
    for (size_t i = 0; i < c->n_versions && !found; i++) {
        found = c->versions[i] == version;
    }
    return found;
}

typedef struct listing {
    ot_disk *disk;
    const char *path;
    const ot_model_config *config; /* NULL: only whether there is a version */
    ot_folder_look *look;
    bool any;
} listing;

/* Keeps the newest, newest first. */
static void keep(ot_folder_look *l, const char *name, uint64_t version)
{
    size_t at = 0;
    while (at < l->n_versions && l->versions[at].version > version) {
        at++;
    }
    if (at == OT_FOLDER_VERSIONS_MAX ||
        (at < l->n_versions && l->versions[at].version == version)) {
        return; /* older than all that are kept, or "3" beside "03" */
    }
    size_t n = OT_MIN(l->n_versions, (size_t)OT_FOLDER_VERSIONS_MAX - 1);
    memmove(&l->versions[at + 1], &l->versions[at], (n - at) * sizeof l->versions[0]);
    l->versions[at] = (ot_folder_version){.version = version};
    snprintf(l->versions[at].name, sizeof l->versions[at].name, "%s", name);
    l->n_versions = n + 1;
}

static ot_rc list_version(void *arg, const char *name, ot_error *err)
{
    listing *l = arg;
    char path[OT_PATH_MAX];
    ot_stat st;
    uint64_t version = version_of(name);
    if (version == 0) {
        return OT_OK;
    }
    OT_TRY(ot_path_join(path, l->path, name, err));
    if (l->disk->ops->stat(l->disk, path, &st, NULL) == OT_OK && st.is_dir) {
        l->any = true;
        if (l->config != NULL && wanted(l->config, version)) {
            keep(l->look, name, version);
        }
    }
    return OT_OK;
}

static bool has_config(ot_disk *disk, const char *path)
{
    char file[OT_PATH_MAX];
    return ot_path_join(file, path, OT_MODEL_CONFIG_FILE, NULL) == OT_OK &&
           ot_disk_exists(disk, file);
}

bool ot_folder_is(ot_disk *disk, const char *path)
{
    listing l = {.disk = disk, .path = path};
    return has_config(disk, path) ||
           (disk->ops->list(disk, path, list_version, &l, NULL) == OT_OK && l.any);
}

static const char *last_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

static ot_rc look_at_versions(ot_disk *disk, const char *path, ot_folder_look *look, ot_error *err)
{
    OT_AUTO(ot_model_config_done) ot_model_config c;
    ot_model_config_init(&c);
    uint64_t config = stamp_config(disk, path);
    ot_rc rc = ot_model_config_read(disk, path, &c, err);
    if (rc != OT_OK && rc != OT_NOT_FOUND) {
        return rc;
    }
    if (c.name != NULL && c.name[0] != '\0' && strcmp(c.name, last_name(path)) != 0) {
        return ot_fail(err, OT_INVALID, "%s/%s: name is '%.80s'; it must be the folder's, '%.80s'",
                       path, OT_MODEL_CONFIG_FILE, c.name, last_name(path));
    }
    look->policy = c.policy;
    look->latest = c.latest;
    look->instances = c.instances;
    look->process_memory = c.process_memory;
    listing l = {.disk = disk, .path = path, .config = &c, .look = look};
    OT_TRY(disk->ops->list(disk, path, list_version, &l, err));
    for (size_t i = 0; i < look->n_versions; i++) {
        char folder[OT_PATH_MAX];
        OT_TRY(ot_path_join(folder, path, look->versions[i].name, err));
        stamp(disk, folder, config, &look->versions[i]);
    }
    if (look->n_versions == 0) {
        return l.any ? ot_fail(err, OT_INVALID, "%s: its %s names no version that is there", path,
                               OT_MODEL_CONFIG_FILE)
                     : ot_fail(err, OT_INVALID,
                               "%s: a %s and no numbered folder; the first version lies in %s/1",
                               path, OT_MODEL_CONFIG_FILE, path);
    }
    return OT_OK;
}

ot_rc ot_folder_look_at(ot_disk *disk, const char *path, ot_folder_look *look_out, ot_error *err)
{
    ot_detected d;
    ot_error why = {0};
    ot_folder_look look = {.latest = 1};
    ot_rc rc = has_config(disk, path) ? OT_INVALID : ot_model_detect(disk, path, &d, &why);
    if (rc == OT_OK) {
        look.plain = true;
        look.n_versions = 1;
        stamp(disk, path, 0, &look.versions[0]);
    } else if (rc == OT_NOT_FOUND || !ot_folder_is(disk, path)) {
        return ot_fail(err, rc, "%s", why.msg);
    } else {
        OT_TRY(look_at_versions(disk, path, &look, err));
    }
    *look_out = look;
    return OT_OK;
}

/* ---- opening */

static ot_rc detect_version(ot_disk *disk, const char *path, const ot_model_config *c,
                            ot_detected *out, ot_error *err)
{
    const char *names[] = {c->filename, "model.onnx", "model.savedmodel"};
    for (size_t i = 0; i < OT_COUNT(names); i++) {
        char file[OT_PATH_MAX];
        if (names[i] == NULL) {
            continue;
        }
        OT_TRY(ot_path_join(file, path, names[i], err));
        if (i == 0 || ot_disk_exists(disk, file)) {
            return ot_model_detect(disk, file, out, err);
        }
    }
    return ot_model_detect(disk, path, out, err);
}

ot_rc ot_folder_open(ot_disk *disk, const char *path, ot_detected *out, ot_model_config *config,
                     ot_error *err)
{
    char folder[OT_PATH_MAX];
    size_t n = (size_t)(last_name(path) - path);
    if (version_of(path + n) == 0) {
        return ot_model_detect(disk, path, out, err);
    }
    memcpy(folder, n > 1 ? path : ".", OT_MAX(n, 2u) - 1);
    folder[OT_MAX(n, 2u) - 1] = '\0';
    ot_rc rc = ot_model_config_read(disk, folder, config, err);
    if (rc != OT_OK && rc != OT_NOT_FOUND) {
        return rc;
    }
    OT_TRY(detect_version(disk, path, config, out, err));
    if (config->format != NULL && strcmp(out->format, OT_FORMAT_BUNDLE) != 0 &&
        strcmp(out->format, config->format) != 0) {
        return ot_fail(err, OT_INVALID, "%s: it is a model of format %s; %s says %s", out->path,
                       out->format, OT_MODEL_CONFIG_FILE, config->format);
    }
    return OT_OK;
}
