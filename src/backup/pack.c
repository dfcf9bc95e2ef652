/* A backup as one file: a tar archive of its folder, the manifest last, so that one that was cut
 * short has none. Restores read it as a disk of its own. */
#include "backup/internal.h"

#include "base/mem.h"
#include "codec/tar.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK (1u << 20)
#define ENTRIES_MAX 10000000

/* --- writing ---------------------------------------------------------------------------------- */

typedef struct pack {
    ot_disk *disk;
    const char *dir;
    ot_file *out;
    char *buffer;
} pack;

static ot_rc put_bytes(pack *p, ot_file *in, const char *path, uint64_t size, ot_error *err)
{
    static const uint8_t zeros[OT_TAR_BLOCK];
    for (uint64_t at = 0; at < size;) {
        size_t n;
        OT_TRY(
            in->ops->pread(in, p->buffer, (size_t)OT_MIN((uint64_t)CHUNK, size - at), at, &n, err));
        if (n == 0) {
            return ot_fail(err, OT_DATA_LOSS, "%s: became shorter", path);
        }
        OT_TRY(p->out->ops->append(p->out, p->buffer, n, err));
        at += n;
    }
    return p->out->ops->append(p->out, zeros, ot_tar_padding(size), err);
}

static ot_rc put_file(pack *p, const char *name, ot_error *err)
{
    char path[OT_PATH_MAX];
    uint8_t block[OT_TAR_BLOCK];
    ot_tar_entry e = {.mode = 0600};
    ot_file *in;
    snprintf(e.name, sizeof e.name, "%s", name);
    OT_TRY(ot_path_join(path, p->dir, name, err));
    OT_TRY(p->disk->ops->open(p->disk, path, OT_OPEN_READ | OT_OPEN_NOFOLLOW, 0, &in, err));
    ot_rc rc = in->ops->size(in, &e.size, err);
    if (rc == OT_OK) {
        rc = ot_tar_format(&e, block, err);
        rc = rc == OT_EXHAUSTED ? ot_error_prefix(err, rc, "back up into a folder instead") : rc;
    }
    if (rc == OT_OK) {
        rc = p->out->ops->append(p->out, block, sizeof block, err);
    }
    if (rc == OT_OK) {
        rc = put_bytes(p, in, path, e.size, err);
    }
    ot_file_close(in);
    return rc;
}

static ot_rc put_item(void *arg, const ot_backup_item *item, ot_error *err)
{
    return put_file(arg, item->path, err);
}

static ot_rc put_all(pack *p, ot_error *err)
{
    static const uint8_t end[2 * OT_TAR_BLOCK];
    OT_TRY(ot_backup_read(p->disk, p->dir, put_item, p, NULL, err));
    OT_TRY(put_file(p, OT_BACKUP_MANIFEST, err));
    OT_TRY(p->out->ops->append(p->out, end, sizeof end, err));
    return p->out->ops->sync(p->out, false, err);
}

ot_rc ot_backup_pack(ot_disk *disk, const char *dir, const char *file, ot_error *err)
{
    char partial[OT_PATH_MAX];
    OT_AUTO(ot_free_ptr) char *buffer = ot_alloc(CHUNK);
    pack p = {.disk = disk, .dir = dir, .buffer = buffer};
    if (buffer == NULL ||
        snprintf(partial, sizeof partial, "%s.tmp", file) >= (int)sizeof partial) {
        return ot_fail(err, OT_EXHAUSTED, "%.200s: no memory, or too long a path", file);
    }
    OT_TRY(disk->ops->open(disk, partial,
                           OT_OPEN_WRITE | OT_OPEN_CREATE | OT_OPEN_TRUNC | OT_OPEN_APPEND, 0600,
                           &p.out, err));
    ot_rc rc = put_all(&p, err);
    ot_file_close(p.out);
    if (rc == OT_OK) {
        rc = disk->ops->rename(disk, partial, file, err);
    }
    if (rc != OT_OK) {
        (void)disk->ops->unlink(disk, partial, NULL);
        return rc;
    }
    return ot_disk_sync_parent(disk, file, err);
}

/* --- reading, as a disk ----------------------------------------------------------------------- */

typedef struct entry {
    char *name;
    uint64_t at, size;
} entry;

typedef struct archive {
    ot_disk base;
    ot_file *file;
    char *path; /* what all names begin with */
    entry *entries;
    size_t n, cap;
} archive;

typedef struct member {
    ot_file base;
    archive *a;
    const entry *e;
} member;

static archive *archive_of(ot_disk *d)
{
    return (archive *)(void *)d;
}

static member *member_of(ot_file *f)
{
    return (member *)(void *)f;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const entry *)a)->name, ((const entry *)b)->name);
}

static const entry *find(const archive *a, const char *path)
{
    size_t n = strlen(a->path);
    if (strncmp(path, a->path, n) != 0 || path[n] != '/') {
        return NULL;
    }
    OT_AUTO(ot_free_ptr) char *name = ot_strdup(path + n + 1);
    entry want = {.name = name};
    return name != NULL ? bsearch(&want, a->entries, a->n, sizeof *a->entries, by_name) : NULL;
}

static ot_rc member_pread(ot_file *f, void *p, size_t n, uint64_t offset, size_t *n_out,
                          ot_error *err)
{
    const member *m = member_of(f);
    uint64_t left = offset < m->e->size ? m->e->size - offset : 0;
    return m->a->file->ops->pread(m->a->file, p, (size_t)OT_MIN((uint64_t)n, left),
                                  m->e->at + offset, n_out, err);
}

static ot_rc member_size(ot_file *f, uint64_t *size_out, ot_error *err)
{
    (void)err;
    *size_out = member_of(f)->e->size;
    return OT_OK;
}

static void member_close(ot_file *f)
{
    ot_free(f);
}

static const ot_file_ops member_ops = {
    .pread = member_pread, .size = member_size, .close = member_close};

static ot_rc archive_open(ot_disk *d, const char *path, unsigned flags, unsigned mode,
                          ot_file **f_out, ot_error *err)
{
    (void)flags, (void)mode;
    archive *a = archive_of(d);
    const entry *e = find(a, path);
    if (e == NULL) {
        return ot_fail(err, OT_NOT_FOUND, "%s: is not in the archive", path);
    }
    member *m = ot_calloc(1, sizeof *m);
    if (m == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "%s: no memory to open it", path);
    }
    *m = (member){.base = {.ops = &member_ops}, .a = a, .e = e};
    *f_out = &m->base;
    return OT_OK;
}

/* Only what a restore asks for; it writes nothing here. */
static const ot_disk_ops archive_ops = {.open = archive_open};

static ot_rc keep(archive *a, const ot_tar_entry *h, uint64_t at, ot_error *err)
{
    if (!ot_grow(&a->entries, &a->cap, a->n, sizeof *a->entries, ENTRIES_MAX)) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for more than %zu files", a->n);
    }
    a->entries[a->n] = (entry){.name = ot_strdup(h->name), .at = at, .size = h->size};
    return a->entries[a->n++].name != NULL ? OT_OK
                                           : ot_fail(err, OT_EXHAUSTED, "no memory for a name");
}

static ot_rc index_all(archive *a, ot_error *err)
{
    static const uint8_t zero[OT_TAR_BLOCK];
    uint64_t size;
    OT_TRY(a->file->ops->size(a->file, &size, err));
    for (uint64_t at = 0;;) {
        uint8_t block[OT_TAR_BLOCK];
        ot_tar_entry h;
        size_t n;
        OT_TRY(a->file->ops->pread(a->file, block, sizeof block, at, &n, err));
        if (a->n > 0 && n == sizeof block && memcmp(block, zero, sizeof block) == 0) {
            qsort(a->entries, a->n, sizeof *a->entries, by_name);
            return OT_OK;
        }
        at += OT_TAR_BLOCK;
        if (n < sizeof block || !ot_tar_parse(block, &h) || h.size > size - at) {
            return ot_fail(err, OT_DATA_LOSS,
                           "no backup, or one that was cut short: at byte %" PRIu64,
                           at - OT_TAR_BLOCK);
        }
        OT_TRY(keep(a, &h, at, err));
        at += h.size + ot_tar_padding(h.size);
    }
}

ot_rc bk_archive_open(ot_disk *disk, const char *path, ot_disk **out, ot_error *err)
{
    archive *a = ot_calloc(1, sizeof *a);
    if (a == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "%s: no memory to read it", path);
    }
    a->base.ops = &archive_ops;
    a->path = ot_strdup(path);
    ot_rc rc = a->path != NULL ? disk->ops->open(disk, path, OT_OPEN_READ, 0, &a->file, err)
                               : ot_fail(err, OT_EXHAUSTED, "%s: no memory to read it", path);
    if (rc == OT_OK) {
        rc = index_all(a, err);
        rc = rc == OT_OK ? rc : ot_error_prefix(err, rc, "%s", path);
    }
    if (rc != OT_OK) {
        bk_archive_close(&a->base);
        return rc;
    }
    *out = &a->base;
    return OT_OK;
}

void bk_archive_close(ot_disk *d)
{
    if (d == NULL) {
        return;
    }
    archive *a = archive_of(d);
    ot_file_close(a->file);
    for (size_t i = 0; i < a->n; i++) {
        ot_free(a->entries[i].name);
    }
    ot_free(a->entries);
    ot_free(a->path);
    ot_free(a);
}
