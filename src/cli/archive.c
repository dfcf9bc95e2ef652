#include "cli/archive.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 512

/* POSIX.1-2017, pax, "ustar Interchange Format". Numbers are octal text. */
typedef struct header {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, linkname[100],
        magic[6], version[2], uname[32], gname[32], devmajor[8], devminor[8], prefix[155], pad[12];
} header;
_Static_assert(sizeof(header) == BLOCK, "ustar");

/* The sum of all bytes, the field itself counted as blanks. */
static unsigned checksum_of(const header *h)
{
    const unsigned char *p = (const unsigned char *)h;
    size_t from = offsetof(header, checksum), to = from + sizeof h->checksum;
    unsigned sum = 0;
    for (size_t i = 0; i < sizeof *h; i++) {
        sum += i >= from && i < to ? ' ' : p[i];
    }
    return sum;
}

static uint64_t padding(uint64_t size)
{
    return (BLOCK - size % BLOCK) % BLOCK;
}

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

/* The last '/' that leaves at most 155 bytes before it and 100 behind. */
static bool set_name(header *h, const char *name)
{
    size_t n = strlen(name), cut = 0;
    if (n <= sizeof h->name) {
        memcpy(h->name, name, n);
        return true;
    }
    for (size_t i = 1; i < n && i <= sizeof h->prefix; i++) {
        cut = name[i] == '/' ? i : cut;
    }
    if (cut == 0 || n - cut - 1 > sizeof h->name) {
        return false;
    }
    memcpy(h->prefix, name, cut);
    memcpy(h->name, name + cut + 1, n - cut - 1);
    return true;
}

ot_rc ot_archive_entry_begin(ot_archive_writer *w, const char *name, uint64_t size, ot_error *err)
{
    header h = {.mode = "0000644", .uid = "0000000", .gid = "0000000", .mtime = "00000000000"};
    char number[24];
    if (w->left > 0) {
        return ot_fail(err, OT_INTERNAL, "%s: %" PRIu64 " bytes before '%s' are lacking", w->path,
                       w->left, name);
    }
    if (!set_name(&h, name) || size > OT_ARCHIVE_FILE_MAX) {
        return ot_fail(err, OT_EXHAUSTED,
                       "'%.200s' (%" PRIu64
                       " bytes): an archive's names have at most %d bytes, its "
                       "files %" PRIu64 "; promote sends what does not fit",
                       name, size, OT_ARCHIVE_NAME_MAX, OT_ARCHIVE_FILE_MAX);
    }
    snprintf(number, sizeof number, "%011" PRIo64, size);
    memcpy(h.size, number, sizeof h.size);
    h.type = '0';
    memcpy(h.magic, "ustar", sizeof h.magic);
    memcpy(h.version, "00", sizeof h.version);
    snprintf(number, sizeof number, "%06o", checksum_of(&h));
    memcpy(h.checksum, number, 7);
    h.checksum[7] = ' ';
    w->left = w->size = size;
    return w->file->ops->append(w->file, &h, sizeof h, err);
}

ot_rc ot_archive_entry_write(ot_archive_writer *w, const void *p, size_t n, ot_error *err)
{
    static const char zeros[BLOCK];
    if (n > w->left) {
        return ot_fail(err, OT_DATA_LOSS, "%s: %zu bytes too many for an entry", w->path,
                       (size_t)(n - w->left));
    }
    OT_TRY(w->file->ops->append(w->file, p, n, err));
    w->left -= n;
    size_t pad = (size_t)padding(w->size);
    return w->left == 0 && pad > 0 ? w->file->ops->append(w->file, zeros, pad, err) : OT_OK;
}

ot_rc ot_archive_commit(ot_archive_writer *w, ot_error *err)
{
    static const char end[2 * BLOCK];
    OT_TRY(w->file->ops->append(w->file, end, sizeof end, err));
    OT_TRY(w->file->ops->sync(w->file, false, err));
    OT_TRY(w->disk->ops->rename(w->disk, w->tmp, w->path, err));
    ot_file_close(w->file);
    w->file = NULL;
    return OT_OK;
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

/* Octal digits, then NULs or blanks to the end of the field. */
static bool octal(const char *field, size_t n, uint64_t *out)
{
    uint64_t x = 0;
    size_t i = 0;
    for (; i < n && field[i] >= '0' && field[i] <= '7'; i++) {
        x = x << 3 | (uint64_t)(field[i] - '0');
    }
    bool any = i > 0;
    for (; i < n; i++) {
        if (field[i] != 0 && field[i] != ' ') {
            return false;
        }
    }
    *out = x;
    return any;
}

static void join_name(const header *h, char out[OT_ARCHIVE_NAME_MAX + 2])
{
    size_t prefix = strnlen(h->prefix, sizeof h->prefix), name = strnlen(h->name, sizeof h->name);
    size_t at = 0;
    if (prefix > 0) {
        memcpy(out, h->prefix, prefix);
        out[prefix] = '/';
        at = prefix + 1;
    }
    memcpy(out + at, h->name, name);
    out[at + name] = 0;
}

static bool is_known(const char *name)
{
    return strcmp(name, OT_ARCHIVE_ENVELOPE) == 0 || ot_has_prefix(name, OT_ARCHIVE_BUNDLE);
}

static ot_rc check_entry(const ot_archive *a, const header *h, ot_archive_entry *e, uint64_t at,
                         ot_error *err)
{
    uint64_t sum;
    if (memcmp(h->magic, "ustar", 5) != 0 || !octal(h->checksum, sizeof h->checksum, &sum) ||
        sum != checksum_of(h) || !octal(h->size, sizeof h->size, &e->size)) {
        return ot_fail(err, OT_INVALID, "no entry of a tar archive at byte %" PRIu64, at);
    }
    join_name(h, e->name);
    if (h->type != '0' && h->type != 0) {
        return ot_fail(err, OT_INVALID,
                       "'%.255s' is a link, a folder or a special entry (type '%c'); only regular "
                       "files are accepted",
                       e->name, h->type > ' ' && h->type < 127 ? h->type : '?');
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
    if (a->n == a->cap) {
        size_t cap = a->cap == 0 ? 16 : 2 * a->cap;
        ot_archive_entry *grown = ot_realloc(a->entries, cap * sizeof *grown);
        if (grown == NULL) {
            return ot_fail(err, OT_EXHAUSTED, "no memory for its list of files");
        }
        a->entries = grown;
        a->cap = cap;
    }
    a->entries[a->n++] = *e;
    return OT_OK;
}

static ot_rc index_all(ot_archive *a, uint64_t size, ot_error *err)
{
    static const header zero;
    for (uint64_t at = 0;;) {
        header h;
        size_t n;
        ot_archive_entry e = {.at = at + BLOCK};
        OT_TRY(a->file->ops->pread(a->file, &h, sizeof h, at, &n, err));
        if (n < sizeof h) {
            return ot_fail(err, OT_DATA_LOSS, "cut short after %" PRIu64 " bytes", size);
        }
        if (memcmp(&h, &zero, sizeof h) == 0) {
            return OT_OK;
        }
        OT_TRY(check_entry(a, &h, &e, at, err));
        if (e.size > size - e.at) {
            return ot_fail(err, OT_DATA_LOSS, "cut short in '%s': %" PRIu64 " of %" PRIu64 " bytes",
                           e.name, size - e.at, e.size);
        }
        OT_TRY(keep(a, &e, err));
        at = e.at + e.size + padding(e.size);
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
