#include "cli/archive.h"

#include "base/mem.h"
#include "codec/tar.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------ writing */

ot_rc ot_archive_begin(ot_disk *disk, const char *path, ot_archive_writer *w, ot_error *err)
{
    *w = (ot_archive_writer){.disk = disk};
    if (strlen(path) + 5 > sizeof w->tmp) {
        return ot_fail(err, OT_RANGE, "%.200s...: the path is too long", path);
    }
    snprintf(w->path, sizeof w->path, "%s", path);
    snprintf(w->tmp, sizeof w->tmp, "%s.tmp", path);
    if (ot_disk_exists(disk, path)) {
        return ot_fail(err, OT_EXISTS, "%s is there already; name another file, or remove it",
                       path);
    }
    return disk->ops->open(disk, w->tmp, OT_OPEN_WRITE | OT_OPEN_CREATE | OT_OPEN_TRUNC, 0644,
                           &w->file, err);
}

ot_rc ot_archive_entry_begin(ot_archive_writer *w, const char *name, uint64_t size, ot_error *err)
{
    ot_tar_entry e = {.size = size, .mode = 0644};
    uint8_t block[OT_TAR_BLOCK];
    if (w->left > 0) {
        return ot_fail(err, OT_INTERNAL, "%s: %" PRIu64 " bytes before '%s' are lacking", w->path,
                       w->left, name);
    }
    snprintf(e.name, sizeof e.name, "%s", name);
    ot_rc rc =
        strlen(name) <= OT_TAR_NAME_MAX
            ? ot_tar_format(&e, block, err)
            : ot_fail(err, OT_EXHAUSTED, "'%.200s...': a name of %zu bytes", name, strlen(name));
    if (rc != OT_OK) {
        return ot_error_prefix(err, rc, "%s; promote sends what does not fit", w->path);
    }
    w->left = w->size = size;
    return w->file->ops->append(w->file, block, sizeof block, err);
}

ot_rc ot_archive_entry_write(ot_archive_writer *w, const void *p, size_t n, ot_error *err)
{
    static const char zeros[OT_TAR_BLOCK];
    if (n > w->left) {
        return ot_fail(err, OT_DATA_LOSS, "%s: %zu bytes too many for an entry", w->path,
                       (size_t)(n - w->left));
    }
    OT_TRY(w->file->ops->append(w->file, p, n, err));
    w->left -= n;
    size_t pad = ot_tar_padding(w->size);
    return w->left == 0 && pad > 0 ? w->file->ops->append(w->file, zeros, pad, err) : OT_OK;
}

ot_rc ot_archive_commit(ot_archive_writer *w, ot_error *err)
{
    static const char end[2 * OT_TAR_BLOCK];
    OT_TRY(w->file->ops->append(w->file, end, sizeof end, err));
    OT_TRY(w->file->ops->sync(w->file, false, err));
    OT_TRY(w->disk->ops->rename(w->disk, w->tmp, w->path, err));
    ot_file_close(w->file);
    w->file = NULL;
    return ot_disk_sync_parent(w->disk, w->path, err);
}

void ot_archive_abandon(ot_archive_writer *w)
{
    if (w->file != NULL) {
        ot_file_close(w->file);
        w->file = NULL;
        (void)w->disk->ops->unlink(w->disk, w->tmp, NULL);
    }
}

/* ------------------------------------------------------------------ reading */

static bool is_known(const char *name)
{
    return strcmp(name, OT_ARCHIVE_ENVELOPE) == 0 || ot_has_prefix(name, OT_ARCHIVE_BUNDLE);
}

static ot_rc check_entry(const ot_archive *a, const uint8_t block[OT_TAR_BLOCK],
                         ot_archive_entry *e, uint64_t at, ot_error *err)
{
    ot_tar_entry h;
    if (!ot_tar_parse(block, &h)) {
        return ot_fail(err, OT_INVALID, "no entry of a tar archive at byte %" PRIu64, at);
    }
    memcpy(e->name, h.name, sizeof e->name);
    e->size = h.size;
    if (h.type != '0' && h.type != 0) {
        return ot_fail(err, OT_INVALID,
                       "'%.255s' is a link, a folder or a special entry (type '%c'); only regular "
                       "files are accepted",
                       e->name, h.type > ' ' && h.type < 127 ? h.type : '?');
    }
    if (!ot_path_is_clean(e->name) || !is_known(e->name)) {
        return ot_fail(err, OT_INVALID, "'%.255s' is no name of a version's archive", e->name);
    }
    for (size_t i = 0; i < a->n; i++) {
        if (strcmp(a->entries[i].name, e->name) == 0) {
            return ot_fail(err, OT_INVALID, "'%.255s' is in it twice", e->name);
        }
    }
    return OT_OK;
}

static ot_rc keep(ot_archive *a, const ot_archive_entry *e, ot_error *err)
{
    if (a->n == OT_ARCHIVE_ENTRIES_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "more than %d files", OT_ARCHIVE_ENTRIES_MAX);
    }
    if (!ot_grow(&a->entries, &a->cap, a->n, sizeof *a->entries, 0)) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for its list of files");
    }
    a->entries[a->n++] = *e;
    return OT_OK;
}

static ot_rc index_all(ot_archive *a, uint64_t size, ot_error *err)
{
    static const uint8_t zero[OT_TAR_BLOCK];
    for (uint64_t at = 0;;) {
        uint8_t block[OT_TAR_BLOCK];
        size_t n;
        ot_archive_entry e = {.at = at + OT_TAR_BLOCK};
        OT_TRY(a->file->ops->pread(a->file, block, sizeof block, at, &n, err));
        if (n < sizeof block) {
            return ot_fail(err, OT_DATA_LOSS, "cut short after %" PRIu64 " bytes", size);
        }
        if (memcmp(block, zero, sizeof block) == 0) {
            return OT_OK;
        }
        OT_TRY(check_entry(a, block, &e, at, err));
        if (e.size > size - e.at) {
            return ot_fail(err, OT_DATA_LOSS, "cut short in '%s': %" PRIu64 " of %" PRIu64 " bytes",
                           e.name, size - e.at, e.size);
        }
        OT_TRY(keep(a, &e, err));
        at = e.at + e.size + ot_tar_padding(e.size);
    }
}

ot_rc ot_archive_open(ot_disk *disk, const char *path, ot_archive *out, ot_error *err)
{
    ot_archive a = {0};
    uint64_t size = 0;
    OT_TRY(disk->ops->open(disk, path, OT_OPEN_READ, 0, &a.file, err));
    ot_rc rc = a.file->ops->size(a.file, &size, err);
    if (rc == OT_OK) {
        rc = index_all(&a, size, err);
    }
    if (rc != OT_OK) {
        ot_archive_close(&a);
        return ot_error_prefix(err, rc, "%s", path);
    }
    *out = a;
    return OT_OK;
}

void ot_archive_close(ot_archive *a)
{
    ot_file_close(a->file);
    ot_free(a->entries);
    *a = (ot_archive){0};
}

ot_rc ot_archive_read(const ot_archive *a, const char *name, uint64_t offset, size_t max,
                      ot_str *out, ot_error *err)
{
    for (size_t i = 0; i < a->n; i++) {
        const ot_archive_entry *e = &a->entries[i];
        if (strcmp(e->name, name) != 0) {
            continue;
        }
        size_t n = (size_t)OT_MIN((uint64_t)max, offset < e->size ? e->size - offset : 0), got = 0;
        if (!ot_str_reserve(out, n)) {
            return ot_fail(err, OT_EXHAUSTED, "no memory for a piece of '%s'", name);
        }
        OT_TRY(a->file->ops->pread(a->file, out->data + out->len, n, e->at + offset, &got, err));
        out->len += got;
        out->data[out->len] = 0;
        return OT_OK;
    }
    return ot_fail(err, OT_NOT_FOUND, "'%.255s' is not in the archive", name);
}
