/* The manifest of a backup: what it consists of. Written last, so that a backup without one is not
 * finished. Text, a line each:
 *
 *     overtake.backup/1
 *     made 1764318600000000             microseconds since the Unix epoch
 *     program 0.1.0
 *     schema 6                          of the database
 *     head 00000000000000000012 HEX     of the event log
 *     file 81920 SHA256 store/store.db  bytes, digest, path in the backup
 *     blob 26654 SHA256                 lies at store/blobs/<2 digits>/<64 digits>
 *     missing SHA256                    a blob that the store refers to and did not have
 *     end 3 108574 SHA256               files and blobs, their bytes; digest of all lines before
 *
 * Threads: one at a time. */
#ifndef OT_BACKUP_MANIFEST_H
#define OT_BACKUP_MANIFEST_H

#include "base/disk.h"
#include "base/hash.h"
#include "store/events.h"

#define OT_BACKUP_MANIFEST "manifest"
#define OT_BACKUP_LINE_MAX (OT_PATH_MAX + 128)

typedef struct ot_backup_head {
    int64_t made_us;
    char program[32];
    int64_t schema;
    ot_event_head log;
    uint64_t files, bytes, missing;
    ot_digest first_missing;
} ot_backup_head;

/* --- writing: init, lines, publish or drop */

typedef struct ot_manifest_out {
    ot_disk *disk;
    ot_file *f;
    ot_sha256 sha;
    ot_str line;
    uint64_t at, files, bytes;
    char path[OT_PATH_MAX]; /* of the unfinished one */
    char dir[OT_PATH_MAX];
} ot_manifest_out;

ot_rc ot_manifest_out_begin(ot_manifest_out *m, ot_disk *disk, const char *dir,
                            const ot_backup_head *head, ot_error *err) OT_CHECKED;
ot_rc ot_manifest_out_file(ot_manifest_out *m, uint64_t size, const ot_digest *d, const char *path,
                           ot_error *err) OT_CHECKED;
ot_rc ot_manifest_out_blob(ot_manifest_out *m, uint64_t size, const ot_digest *d,
                           ot_error *err) OT_CHECKED;
ot_rc ot_manifest_out_missing(ot_manifest_out *m, const ot_digest *d, ot_error *err) OT_CHECKED;
/* Ends, syncs and renames it into place. */
ot_rc ot_manifest_out_publish(ot_manifest_out *m, ot_error *err) OT_CHECKED;
void ot_manifest_out_done(ot_manifest_out *m);

/* --- reading */

/* A file or a blob. `path` lives until the function returns. */
typedef struct ot_backup_item {
    const char *path; /* clean and relative to the backup */
    uint64_t size;
    ot_digest sha256;
} ot_backup_item;
typedef ot_rc ot_backup_item_fn(void *arg, const ot_backup_item *item, ot_error *err);

/* Parses lines as they come: the manifest never lies in memory as a whole. */
typedef struct ot_manifest_in {
    const char *name; /* for messages */
    ot_backup_item_fn *fn;
    void *arg;
    ot_backup_head head;
    ot_sha256 sha;
    uint64_t line;
    bool ended;
} ot_manifest_in;

void ot_manifest_in_init(ot_manifest_in *m, const char *name, ot_backup_item_fn *fn, void *arg);
/* One line without its newline; it is changed. */
ot_rc ot_manifest_in_line(ot_manifest_in *m, char *line, size_t n, ot_error *err) OT_CHECKED;
/* OT_DATA_LOSS: no end line came. */
ot_rc ot_manifest_in_end(const ot_manifest_in *m, ot_error *err) OT_CHECKED;

/* Reads the manifest of the backup in `dir`: `fn` (may be NULL) for each item. OT_PRECONDITION:
 * there is none, so the backup is not finished. OT_DATA_LOSS: it was cut short or edited.
 * OT_UNIMPLEMENTED: a newer form. The proof of the whole comes with the last line: read once with
 * no `fn` first. */
ot_rc ot_backup_read(ot_disk *disk, const char *dir, ot_backup_item_fn *fn, void *arg,
                     ot_backup_head *head_out, ot_error *err) OT_CHECKED;

/* The path of a blob in a backup, 32 + 64 characters at most. */
void ot_backup_blob_path(const ot_digest *d, char out[OT_PATH_MAX]);

#endif
