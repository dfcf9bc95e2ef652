/* Files below a directory, and their digests. */
#include "model/bundle_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

typedef struct walk {
    ot_disk *disk;
    const char *root;
    ot_tree_fn *fn;
    void *arg;
    size_t n_files;
    int depth;
    const char *rel; /* of the directory that is listed; "" at the root */
} walk;

static ot_rc walk_dir(walk *w, const char *path, const char *rel, ot_error *err);

static ot_rc walk_entry(void *arg, const char *name, ot_error *err)
{
    walk *w = arg;
    char rel[OT_PATH_MAX], path[OT_PATH_MAX];
    if (snprintf(rel, sizeof rel, "%s%s%s", w->rel, w->rel[0] == 0 ? "" : "/", name) >
        OT_MANIFEST_PATH_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "%s: '%.200s...' is longer than %d bytes", w->root, rel,
                       OT_MANIFEST_PATH_MAX);
    }
    OT_TRY(ot_path_join(path, w->root, rel, err));
    ot_stat st;
    OT_TRY(w->disk->ops->stat(w->disk, path, &st, err));
    if (st.is_dir) {
        return walk_dir(w, path, rel, err);
    }
    if (!st.is_regular) {
        return ot_fail(err, OT_INVALID, "%s: %s; only regular files are accepted here", path,
                       st.is_link ? "a symbolic link" : "a special file");
    }
    if (++w->n_files > OT_MANIFEST_FILES_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "%s: more than %d files", w->root, OT_MANIFEST_FILES_MAX);
    }
    return w->fn(w->arg, rel, &st, err);
}

static ot_rc walk_dir(walk *w, const char *path, const char *rel, ot_error *err)
{
    if (w->depth == OT_BUNDLE_DEPTH_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "%s: folders are nested deeper than %d", w->root,
                       OT_BUNDLE_DEPTH_MAX);
    }
    const char *outer = w->rel;
    w->depth++;
    w->rel = rel;
    ot_rc rc = w->disk->ops->list(w->disk, path, walk_entry, w, err);
    w->rel = outer;
    w->depth--;
    return rc;
}

ot_rc ot_tree_walk(ot_disk *disk, const char *dir, ot_tree_fn *fn, void *arg, ot_error *err)
{
    walk w = {.disk = disk, .root = dir, .fn = fn, .arg = arg, .rel = ""};
    return walk_dir(&w, dir, "", err);
}

ot_rc ot_regular_open(ot_disk *disk, const char *path, ot_file **f_out, ot_stat *st_out,
                      ot_error *err)
{
    OT_TRY(disk->ops->stat(disk, path, st_out, err));
    if (!st_out->is_regular) {
        return ot_fail(err, OT_INVALID, "%s: %s; a regular file is expected", path,
                       st_out->is_link  ? "a symbolic link"
                       : st_out->is_dir ? "a directory"
                                        : "a special file");
    }
    return disk->ops->open(disk, path, OT_OPEN_READ | OT_OPEN_NOFOLLOW, 0, f_out, err);
}

ot_rc ot_file_pump(ot_file *from, const char *path, uint64_t size_max, ot_file *to,
                   ot_digest *digest_out, uint64_t *size_out, ot_error *err)
{
    OT_AUTO(ot_free_ptr) char *buf = ot_alloc(OT_COPY_BYTES);
    if (buf == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "%s: no memory to read it", path);
    }
    ot_sha256 sha;
    ot_sha256_init(&sha);
    uint64_t at = 0;
    for (;;) {
        size_t n;
        OT_TRY(from->ops->pread(from, buf, OT_COPY_BYTES, at, &n, err));
        if (n == 0) {
            break;
        }
        at += n;
        if (at > size_max) {
            return ot_fail(err, OT_EXHAUSTED, "%s: larger than the limit of %" PRIu64 " bytes",
                           path, size_max);
        }
        ot_sha256_add(&sha, buf, n);
        if (to != NULL) {
            OT_TRY(to->ops->append(to, buf, n, err));
        }
    }
    *digest_out = ot_sha256_done(&sha);
    *size_out = at;
    return OT_OK;
}

ot_rc ot_file_copy(ot_disk *disk, const char *from, const char *to, unsigned mode,
                   ot_digest *digest_out, uint64_t *size_out, ot_error *err)
{
    ot_file *in = NULL, *out = NULL;
    ot_stat st;
    OT_TRY(ot_regular_open(disk, from, &in, &st, err));
    ot_rc rc =
        disk->ops->open(disk, to, OT_OPEN_WRITE | OT_OPEN_CREATE | OT_OPEN_EXCL, mode, &out, err);
    if (rc == OT_OK) {
        rc = ot_file_pump(in, from, OT_BUNDLE_BYTES_MAX, out, digest_out, size_out, err);
    }
    if (rc == OT_OK) {
        rc = out->ops->sync(out, false, err);
    }
    ot_file_close(out);
    ot_file_close(in);
    return rc;
}

ot_rc ot_file_digest(ot_disk *disk, const char *path, ot_digest *digest_out, uint64_t *size_out,
                     ot_error *err)
{
    ot_file *f;
    ot_stat st;
    OT_TRY(ot_regular_open(disk, path, &f, &st, err));
    ot_rc rc = ot_file_pump(f, path, UINT64_MAX, NULL, digest_out, size_out, err);
    ot_file_close(f);
    return rc;
}
