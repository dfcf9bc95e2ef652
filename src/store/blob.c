/* The content store: writing, opening, reading. */
#include "store/blob.h"

#include "base/mem.h"
#include "base/random.h"
#include "store/blob_internal.h"
#include "store/core.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define COPY_CHUNK (256u * 1024)

struct ot_blob_writer {
    ot_store *store;
    ot_file *f; /* NULL after commit or failure */
    ot_sha256 sha;
    uint64_t size, size_max;
    bool failed, published;
    char tmp[OT_PATH_MAX];
};

static ot_rc blob_dir(ot_store *s, const char *name, char out[OT_PATH_MAX], ot_error *err)
{
    char blobs[OT_PATH_MAX];
    OT_TRY(ot_path_join(blobs, s->dir, "blobs", err));
    return ot_path_join(out, blobs, name, err);
}

ot_rc ot_blob_fan_dir(ot_store *s, const ot_digest *d, char out[OT_PATH_MAX], ot_error *err)
{
    char two[3];
    ot_hex(d->b, 1, two);
    return blob_dir(s, two, out, err);
}

ot_rc ot_blob_path(ot_store *s, const ot_digest *d, char path_out[OT_PATH_MAX], ot_error *err)
{
    char dir[OT_PATH_MAX], hex[OT_DIGEST_HEX];
    OT_TRY(ot_blob_fan_dir(s, d, dir, err));
    return ot_path_join(path_out, dir, ot_digest_hex(d, hex), err);
}

static ot_rc clear_tmp(ot_store *s, ot_error *err)
{
    char tmp[OT_PATH_MAX];
    OT_TRY(blob_dir(s, "tmp", tmp, err));
    OT_TRY(ot_disk_remove_tree(s->disk, tmp, err));
    return ot_disk_mkdirs(s->disk, tmp, 0700, err);
}

ot_rc ot_blob_store_open(ot_store *s, ot_error *err)
{
    char dir[OT_PATH_MAX];
    OT_TRY(blob_dir(s, "corrupt", dir, err));
    OT_TRY(ot_disk_mkdirs(s->disk, dir, 0700, err));
    OT_TRY(clear_tmp(s, err));
    return s->disk->ops->sync_dir(s->disk, s->dir, err);
}

ot_rc ot_blob_writer_create(ot_store *s, uint64_t size_max, ot_blob_writer **writer_out,
                            ot_error *err)
{
    ot_blob_writer *w = ot_calloc(1, sizeof *w);
    if (w == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "store %s: no memory to write a blob", s->dir);
    }
    char name[48], dir[OT_PATH_MAX];
    uint64_t tag[2];
    ot_random_bytes(tag, sizeof tag);
    snprintf(name, sizeof name, "%016" PRIx64 "%016" PRIx64, tag[0], tag[1]);
    w->store = s;
    w->size_max = size_max == 0 ? OT_BLOB_SIZE_MAX : OT_MIN(size_max, OT_BLOB_SIZE_MAX);
    ot_sha256_init(&w->sha);
    ot_rc rc = blob_dir(s, "tmp", dir, err);
    if (rc == OT_OK) {
        rc = ot_path_join(w->tmp, dir, name, err);
    }
    if (rc == OT_OK) {
        /* Read-only for everyone: a blob is hard-linked into trees that people see. */
        rc = s->disk->ops->open(s->disk, w->tmp, OT_OPEN_WRITE | OT_OPEN_CREATE | OT_OPEN_EXCL,
                                0444, &w->f, err);
    }
    if (rc != OT_OK) {
        ot_free(w);
        return rc;
    }
    *writer_out = w;
    return OT_OK;
}

ot_rc ot_blob_writer_append(ot_blob_writer *w, const void *p, size_t n, ot_error *err)
{
    if (w->f == NULL || w->failed) {
        return ot_fail(err, OT_PRECONDITION, "store %s: this blob is %s", w->store->dir,
                       w->failed ? "broken off" : "published already");
    }
    if (n > w->size_max - w->size) {
        w->failed = true;
        return ot_fail(err, OT_EXHAUSTED,
                       "store %s: a blob of more than %" PRIu64 " bytes; that is the limit",
                       w->store->dir, w->size_max);
    }
    ot_rc rc = w->f->ops->pwrite(w->f, p, n, w->size, err);
    if (rc != OT_OK) {
        w->failed = true;
        return rc;
    }
    ot_sha256_add(&w->sha, p, n);
    w->size += n;
    return OT_OK;
}

uint64_t ot_blob_writer_size(const ot_blob_writer *w)
{
    return w->size;
}

/* Renames into place over what may be there: the bytes are the same, or were damaged. */
static ot_rc publish(ot_blob_writer *w, const ot_digest *d, ot_error *err)
{
    ot_disk *disk = w->store->disk;
    char dir[OT_PATH_MAX], path[OT_PATH_MAX], blobs[OT_PATH_MAX];
    OT_TRY(ot_blob_fan_dir(w->store, d, dir, err));
    OT_TRY(ot_blob_path(w->store, d, path, err));
    OT_TRY(ot_path_join(blobs, w->store->dir, "blobs", err));
    OT_TRY(w->f->ops->sync(w->f, false, err));
    ot_rc rc = disk->ops->mkdir(disk, dir, 0700, err);
    if (rc != OT_OK && rc != OT_EXISTS) {
        return rc;
    }
    /* Also when it exists: another thread may have made it and not synced it yet. */
    OT_TRY(disk->ops->sync_dir(disk, blobs, err));
    OT_TRY(disk->ops->rename(disk, w->tmp, path, err));
    w->published = true;
    return disk->ops->sync_dir(disk, dir, err);
}

ot_rc ot_blob_writer_commit(ot_blob_writer *w, const ot_digest *expect, ot_digest *digest_out,
                            uint64_t *size_out, ot_error *err)
{
    if (w->f == NULL || w->failed) {
        return ot_fail(err, OT_PRECONDITION, "store %s: this blob is %s", w->store->dir,
                       w->failed ? "broken off" : "published already");
    }
    ot_digest d = ot_sha256_done(&w->sha);
    char want[OT_DIGEST_HEX], got[OT_DIGEST_HEX];
    ot_rc rc = OT_OK;
    if (expect != NULL && !ot_digest_equal(expect, &d)) {
        rc = ot_fail(err, OT_DATA_LOSS, "blob %s: the %" PRIu64 " bytes that came have digest %s",
                     ot_digest_hex(expect, want), w->size, ot_digest_hex(&d, got));
    } else {
        rc = publish(w, &d, err);
    }
    ot_file_close(w->f);
    w->f = NULL;
    w->failed = rc != OT_OK;
    if (rc != OT_OK) {
        return rc;
    }
    if (digest_out != NULL) {
        *digest_out = d;
    }
    if (size_out != NULL) {
        *size_out = w->size;
    }
    return OT_OK;
}

void ot_blob_writer_destroy(ot_blob_writer *w)
{
    if (w == NULL) {
        return;
    }
    ot_file_close(w->f);
    if (!w->published) {
        (void)w->store->disk->ops->unlink(w->store->disk, w->tmp, NULL);
    }
    ot_free(w);
}

ot_rc ot_blob_put(ot_store *s, const void *p, size_t n, ot_digest *digest_out, ot_error *err)
{
    ot_blob_writer *w;
    OT_TRY(ot_blob_writer_create(s, 0, &w, err));
    ot_rc rc = ot_blob_writer_append(w, p, n, err);
    if (rc == OT_OK) {
        rc = ot_blob_writer_commit(w, NULL, digest_out, NULL, err);
    }
    ot_blob_writer_destroy(w);
    return rc;
}

static ot_rc copy_in(ot_file *f, ot_blob_writer *w, const char *path, ot_error *err)
{
    OT_AUTO(ot_free_ptr) char *chunk = ot_alloc(COPY_CHUNK);
    if (chunk == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "%s: no memory to copy it into the store", path);
    }
    for (;;) {
        size_t n;
        OT_TRY(f->ops->pread(f, chunk, COPY_CHUNK, w->size, &n, err));
        if (n == 0) {
            return OT_OK;
        }
        ot_rc rc = ot_blob_writer_append(w, chunk, n, err);
        if (rc != OT_OK) {
            return ot_error_prefix(err, rc, "%s", path);
        }
    }
}

ot_rc ot_blob_put_file(ot_store *s, ot_disk *from, const char *path, uint64_t size_max,
                       ot_digest *digest_out, uint64_t *size_out, ot_error *err)
{
    ot_file *f;
    ot_blob_writer *w = NULL;
    OT_TRY(from->ops->open(from, path, OT_OPEN_READ, 0, &f, err));
    ot_rc rc = ot_blob_writer_create(s, size_max, &w, err);
    if (rc == OT_OK) {
        rc = copy_in(f, w, path, err);
    }
    if (rc == OT_OK) {
        rc = ot_blob_writer_commit(w, NULL, digest_out, size_out, err);
    }
    ot_blob_writer_destroy(w);
    ot_file_close(f);
    return rc;
}

ot_rc ot_blob_size(ot_store *s, const ot_digest *d, uint64_t *size_out, ot_error *err)
{
    char path[OT_PATH_MAX], hex[OT_DIGEST_HEX];
    ot_stat st;
    OT_TRY(ot_blob_path(s, d, path, err));
    ot_rc rc = s->disk->ops->stat(s->disk, path, &st, err);
    if (rc == OT_NOT_FOUND || (rc == OT_OK && !st.is_regular)) {
        return ot_fail(err, OT_NOT_FOUND, "blob %s: not in store %s", ot_digest_hex(d, hex),
                       s->dir);
    }
    OT_TRY(rc);
    *size_out = st.size;
    return OT_OK;
}

bool ot_blob_exists(ot_store *s, const ot_digest *d)
{
    uint64_t size;
    return ot_blob_size(s, d, &size, NULL) == OT_OK;
}

/* Moves a damaged blob aside, where it is kept for a look but never served. */
static ot_rc set_aside(ot_store *s, const ot_digest *d, const ot_digest *found, ot_error *err)
{
    char path[OT_PATH_MAX], dir[OT_PATH_MAX], aside[OT_PATH_MAX];
    char hex[OT_DIGEST_HEX], got[OT_DIGEST_HEX];
    ot_digest_hex(d, hex);
    OT_TRY(ot_blob_path(s, d, path, err));
    OT_TRY(blob_dir(s, "corrupt", dir, err));
    OT_TRY(ot_path_join(aside, dir, hex, err));
    bool moved = s->disk->ops->rename(s->disk, path, aside, NULL) == OT_OK;
    return ot_fail(err, OT_DATA_LOSS,
                   "blob %s: its bytes have digest %s; %s %s; put the right bytes again", hex,
                   ot_digest_hex(found, got), moved ? "moved to" : "could not be moved to", aside);
}

static ot_rc digest_file(ot_file *f, ot_digest *digest_out, ot_error *err)
{
    OT_AUTO(ot_free_ptr) char *chunk = ot_alloc(COPY_CHUNK);
    if (chunk == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory to verify a blob");
    }
    ot_sha256 sha;
    ot_sha256_init(&sha);
    for (uint64_t at = 0;;) {
        size_t n;
        OT_TRY(f->ops->pread(f, chunk, COPY_CHUNK, at, &n, err));
        if (n == 0) {
            break;
        }
        ot_sha256_add(&sha, chunk, n);
        at += n;
    }
    *digest_out = ot_sha256_done(&sha);
    return OT_OK;
}

ot_rc ot_blob_open(ot_store *s, const ot_digest *d, bool verify, ot_file **file_out,
                   uint64_t *size_out, ot_error *err)
{
    char path[OT_PATH_MAX], hex[OT_DIGEST_HEX];
    ot_file *f;
    uint64_t size;
    OT_TRY(ot_blob_path(s, d, path, err));
    ot_rc rc = s->disk->ops->open(s->disk, path, OT_OPEN_READ | OT_OPEN_NOFOLLOW, 0, &f, err);
    if (rc == OT_NOT_FOUND) {
        return ot_fail(err, rc, "blob %s: not in store %s", ot_digest_hex(d, hex), s->dir);
    }
    OT_TRY(rc);
    rc = f->ops->size(f, &size, err);
    if (rc == OT_OK && verify) {
        ot_digest found;
        rc = digest_file(f, &found, err);
        if (rc == OT_OK && !ot_digest_equal(d, &found)) {
            rc = set_aside(s, d, &found, err);
        }
    }
    if (rc != OT_OK) {
        ot_file_close(f);
        return rc;
    }
    *file_out = f;
    if (size_out != NULL) {
        *size_out = size;
    }
    return OT_OK;
}

ot_rc ot_blob_read(ot_store *s, const ot_digest *d, uint64_t max, ot_str *out, ot_error *err)
{
    char hex[OT_DIGEST_HEX];
    ot_file *f;
    uint64_t size;
    size_t n = 0;
    OT_TRY(ot_blob_open(s, d, false, &f, &size, err));
    ot_rc rc = OT_OK;
    if (size > max) {
        rc = ot_fail(err, OT_EXHAUSTED, "blob %s: %" PRIu64 " bytes; the limit is %" PRIu64,
                     ot_digest_hex(d, hex), size, max);
    } else if (!ot_str_reserve(out, (size_t)size)) {
        rc = ot_fail(err, OT_EXHAUSTED, "blob %s: no memory to read its %" PRIu64 " bytes",
                     ot_digest_hex(d, hex), size);
    } else {
        rc = f->ops->pread(f, out->data + out->len, (size_t)size, 0, &n, err);
    }
    ot_file_close(f);
    OT_TRY(rc);
    ot_digest found = ot_sha256_of(out->data + out->len, n);
    if (!ot_digest_equal(d, &found)) {
        out->data[out->len] = 0;
        return set_aside(s, d, &found, err);
    }
    out->len += n;
    out->data[out->len] = 0;
    return OT_OK;
}

ot_rc ot_blob_verify(ot_store *s, const ot_digest *d, ot_error *err)
{
    ot_file *f;
    OT_TRY(ot_blob_open(s, d, true, &f, NULL, err));
    ot_file_close(f);
    return OT_OK;
}
