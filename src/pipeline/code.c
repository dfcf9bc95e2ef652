/* The folder of an app's program, kept in the content store: a run executes what was applied, not
 * what somebody edits meanwhile, and the digest is the version's lineage. */
#include "pipeline/internal.h"

#include "model/bundle.h"
#include "store/blob.h"
#include "store/kv.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define CODE_FILES_MAX 2000
#define CODE_BYTES_MAX (64u << 20)
#define CODE_JSON_MAX (1u << 20)
#define CODE_DEPTH_MAX 8

typedef struct walk {
    ot_store *store;
    const ot_app *app;
    const char *dir; /* absolute, of this level */
    const char *rel; /* of this level, "" at the top */
    json_t *files;
    uint64_t *bytes;
    int depth;
} walk;

static bool is_data(const ot_app *app, const char *rel)
{
    for (size_t i = 0; i < app->data.n; i++) {
        const char *path = app->data.v[i].path;
        size_t n = path != NULL ? strlen(path) : 0;
        while (n > 0 && path[n - 1] == '/') {
            n--;
        }
        if (n > 0 && strlen(rel) == n && memcmp(path, rel, n) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_left_out(const ot_app *app, const char *rel, const char *name)
{
    static const char *const names[] = {"__pycache__", "node_modules", "venv"};
    for (size_t i = 0; i < OT_COUNT(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            return true;
        }
    }
    return name[0] == '.' || is_data(app, rel);
}

static ot_rc add_file(walk *w, const char *path, const char *rel, const ot_stat *st, ot_error *err)
{
    *w->bytes += st->size;
    if (*w->bytes > CODE_BYTES_MAX || json_array_size(w->files) >= CODE_FILES_MAX) {
        return ot_fail(err, OT_EXHAUSTED,
                       "%s: the program's folder has more than %d files or 64 MiB; name large "
                       "files under data:, or move them elsewhere",
                       path, CODE_FILES_MAX);
    }
    ot_digest d;
    uint64_t size;
    OT_TRY(ot_blob_put_file(w->store, ot_disk_posix(), path, CODE_BYTES_MAX, &d, &size, err));
    char hex[OT_DIGEST_HEX];
    json_t *f = json_object();
    json_object_set_new(f, "path", json_string(rel));
    json_object_set_new(f, "mode", json_integer(st->mode & 0100 ? 0755 : 0644));
    json_object_set_new(f, "size", json_integer((json_int_t)size));
    json_object_set_new(f, "sha256", json_string(ot_digest_hex(&d, hex)));
    json_array_append_new(w->files, f);
    return OT_OK;
}

static ot_rc add_entry(void *arg, const char *name, ot_error *err)
{
    walk *w = arg;
    char path[OT_PATH_MAX], rel[OT_PATH_MAX];
    OT_TRY(ot_path_join(path, w->dir, name, err));
    snprintf(rel, sizeof rel, "%s%s%s", w->rel, w->rel[0] ? "/" : "", name);
    if (is_left_out(w->app, rel, name)) {
        return OT_OK;
    }
    ot_disk *disk = ot_disk_posix();
    ot_stat st;
    OT_TRY(disk->ops->stat(disk, path, &st, err));
    if (st.is_dir) {
        if (w->depth == CODE_DEPTH_MAX) {
            return ot_fail(err, OT_EXHAUSTED, "%s: folders nested deeper than %d", path,
                           CODE_DEPTH_MAX);
        }
        walk sub = *w;
        sub.dir = path;
        sub.rel = rel;
        sub.depth = w->depth + 1;
        return disk->ops->list(disk, path, add_entry, &sub, err);
    }
    return st.is_regular ? add_file(w, path, rel, &st, err) : OT_OK;
}

static int by_path(const void *a, const void *b)
{
    const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
    return strcmp(json_string_value(json_object_get(x, "path")),
                  json_string_value(json_object_get(y, "path")));
}

/* Directories list in any order; the digest must not depend on it. */
static json_t *sorted(json_t *files)
{
    size_t n = json_array_size(files);
    json_t **v = ot_calloc(n + 1, sizeof *v);
    json_t *out = v != NULL ? json_array() : NULL;
    for (size_t i = 0; v != NULL && i < n; i++) {
        v[i] = json_array_get(files, i);
    }
    if (out != NULL) {
        qsort(v, n, sizeof *v, by_path);
        for (size_t i = 0; i < n; i++) {
            json_array_append(out, v[i]);
        }
    }
    ot_free(v);
    json_decref(files);
    return out;
}

/* ---- who keeps the blobs */

#define CODE_SCOPE "code.blob"

struct keep_arg {
    const json_t *files;
    const ot_digest *tree;
};

static ot_rc keep_blob(ot_txn *txn, const ot_digest *d, ot_error *err)
{
    char hex[OT_DIGEST_HEX];
    if (!ot_blob_exists(ot_txn_store(txn), d)) {
        return ot_fail(err, OT_NOT_FOUND,
                       "a file of the program left the content store meanwhile; "
                       "apply again");
    }
    return ot_kv_set(txn, CODE_SCOPE, ot_digest_hex(d, hex), "", 0, err);
}

static ot_rc keep_blobs(ot_txn *txn, void *arg, ot_error *err)
{
    const struct keep_arg *k = arg;
    for (size_t i = 0; i < json_array_size(k->files); i++) {
        ot_digest d;
        const char *hex = json_string_value(json_object_get(json_array_get(k->files, i), "sha256"));
        if (hex == NULL || !ot_digest_parse(hex, &d)) {
            return ot_fail(err, OT_EXHAUSTED, "no memory for the list of files");
        }
        OT_TRY(keep_blob(txn, &d, err));
    }
    return keep_blob(txn, k->tree, err);
}

ot_rc pl_code_live(ot_txn *txn, void *arg, const ot_digest *d, bool *live_out, ot_error *err)
{
    (void)arg;
    char hex[OT_DIGEST_HEX];
    OT_AUTO(ot_str_done) ot_str ignored = OT_STR_INIT;
    ot_error e = {0};
    ot_rc rc = ot_kv_get(txn, CODE_SCOPE, ot_digest_hex(d, hex), &ignored, &e);
    if (rc != OT_OK && rc != OT_NOT_FOUND) {
        return ot_fail(err, rc, "%s", e.msg);
    }
    *live_out = rc == OT_OK;
    return OT_OK;
}

ot_rc pl_code_snapshot(ot_store *store, const ot_app *app, ot_digest *out, ot_error *err)
{
    uint64_t bytes = 0;
    walk w = {.store = store, .app = app, .dir = app->dir, .rel = "", .bytes = &bytes};
    w.files = json_array();
    ot_disk *disk = ot_disk_posix();
    ot_rc rc = disk->ops->list(disk, app->dir, add_entry, &w, err);
    json_t *files = sorted(w.files);
    if (rc == OT_OK) {
        json_t *tree = json_pack("{s:s,s:o?}", "schema", "overtake.tree/1", "files", files);
        char *text = tree != NULL ? json_dumps(tree, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
        rc = text != NULL ? ot_blob_put(store, text, strlen(text), out, err)
                          : ot_fail(err, OT_EXHAUSTED, "no memory for the list of files");
        free(text);
        if (rc == OT_OK) {
            struct keep_arg k = {.files = json_object_get(tree, "files"), .tree = out};
            rc = ot_store_write(store, keep_blobs, &k, err);
        }
        json_decref(tree);
    } else {
        json_decref(files);
    }
    return rc;
}

static ot_rc write_file(ot_store *store, const json_t *f, const char *dir, ot_error *err)
{
    const char *rel = json_string_value(json_object_get(f, "path"));
    const char *hex = json_string_value(json_object_get(f, "sha256"));
    ot_digest d;
    if (rel == NULL || hex == NULL || !ot_path_is_clean(rel) || !ot_digest_parse(hex, &d)) {
        return ot_fail(err, OT_DATA_LOSS, "the list of the program's files is damaged");
    }
    char path[OT_PATH_MAX];
    OT_TRY(ot_path_join(path, dir, rel, err));
    char *slash = strrchr(path, '/');
    *slash = 0;
    ot_disk *disk = ot_disk_posix();
    OT_TRY(ot_disk_mkdirs(disk, path, 0755, err));
    *slash = '/';
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    OT_TRY(ot_blob_read(store, &d, CODE_BYTES_MAX, &text, err));
    ot_file *file;
    unsigned mode = (unsigned)json_integer_value(json_object_get(f, "mode"));
    OT_TRY(disk->ops->open(disk, path, OT_OPEN_WRITE | OT_OPEN_CREATE | OT_OPEN_TRUNC, mode, &file,
                           err));
    ot_rc rc = file->ops->pwrite(file, text.data, text.len, 0, err);
    ot_file_close(file);
    return rc;
}

ot_rc pl_code_materialise(ot_store *store, const ot_digest *code, const char *dir, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    OT_TRY(ot_disk_mkdirs(ot_disk_posix(), dir, 0755, err));
    OT_TRY(ot_blob_read(store, code, CODE_JSON_MAX, &text, err));
    json_t *tree = json_loadb(text.data, text.len, 0, NULL);
    const json_t *files = json_object_get(tree, "files");
    ot_rc rc = tree == NULL
                   ? ot_fail(err, OT_DATA_LOSS, "the list of the program's files is damaged")
                   : OT_OK;
    for (size_t i = 0; rc == OT_OK && i < json_array_size(files); i++) {
        rc = write_file(store, json_array_get(files, i), dir, err);
    }
    json_decref(tree);
    return rc;
}
