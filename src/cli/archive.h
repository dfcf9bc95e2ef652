/* A version as one file: a tar archive (POSIX ustar, uncompressed) of regular files with
 * `envelope.json` first, then `bundle/manifest.json` and the other files below `bundle/`.
 *
 * What is read may come from anybody: it is indexed in one pass over its headers before a byte of
 * it is used, and refused as a whole when it is cut short, damaged, or holds anything but regular
 * files with clean and different names. Nothing is ever unpacked to a name out of it.
 *
 * Threads: one an archive. Lifetime: a writer begin/end, a reader open/close.
 * Errors: OT_INVALID and OT_DATA_LOSS name the entry; OT_EXHAUSTED a limit. */
#ifndef OT_CLI_ARCHIVE_H
#define OT_CLI_ARCHIVE_H

#include "base/disk.h"
#include "base/error.h"
#include "codec/tar.h"

#include <stdint.h>

#define OT_ARCHIVE_ENVELOPE "envelope.json"
#define OT_ARCHIVE_BUNDLE "bundle/"
#define OT_ARCHIVE_ENTRIES_MAX 4100 /* a bundle's files, its manifest, the envelope */

/* --- writing: whole at `path` or not there ---------------------------------------------------- */

typedef struct ot_archive_writer {
    ot_disk *disk;
    ot_file *file;
    char path[OT_PATH_MAX], tmp[OT_PATH_MAX];
    uint64_t left, size; /* bytes that the entry still has to get; of the entry */
} ot_archive_writer;

/* OT_EXISTS: something is at `path`. */
ot_rc ot_archive_begin(ot_disk *disk, const char *path, ot_archive_writer *w,
                       ot_error *err) OT_CHECKED;
/* The next entry; exactly `size` bytes follow. */
ot_rc ot_archive_entry_begin(ot_archive_writer *w, const char *name, uint64_t size,
                             ot_error *err) OT_CHECKED;
ot_rc ot_archive_entry_write(ot_archive_writer *w, const void *p, size_t n,
                             ot_error *err) OT_CHECKED;
ot_rc ot_archive_commit(ot_archive_writer *w, ot_error *err) OT_CHECKED;
void ot_archive_abandon(ot_archive_writer *w); /* after a commit it does nothing */

/* --- reading ---------------------------------------------------------------------------------- */

typedef struct ot_archive_entry {
    char name[OT_TAR_NAME_MAX + 2];
    uint64_t at, size;
} ot_archive_entry;

typedef struct ot_archive {
    ot_file *file;
    ot_archive_entry *entries;
    size_t n, cap;
} ot_archive;

ot_rc ot_archive_open(ot_disk *disk, const char *path, ot_archive *out, ot_error *err) OT_CHECKED;
void ot_archive_close(ot_archive *a); /* also of a zeroed one; also for OT_AUTO */
/* Appends up to `max` bytes of an entry from `offset` on; none at its end. OT_NOT_FOUND: no such
 * entry. */
ot_rc ot_archive_read(const ot_archive *a, const char *name, uint64_t offset, size_t max,
                      ot_str *out, ot_error *err) OT_CHECKED;

#endif
