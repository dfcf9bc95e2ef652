/* Shared by the files of this folder.
 *
 * Threads: that of the backup or the restore. */
#ifndef OT_BACKUP_INTERNAL_H
#define OT_BACKUP_INTERNAL_H

#include "backup/backup.h"

/* Called for each piece of a file, with the time it took. */
typedef ot_rc bk_rest_fn(void *arg, uint64_t worked_ns, ot_error *err);

/* A packed backup as a disk: open for reading, with paths PATH/NAME, is all that it can do. */
ot_rc bk_archive_open(ot_disk *disk, const char *path, ot_disk **out, ot_error *err) OT_CHECKED;
void bk_archive_close(ot_disk *d); /* NULL is fine */

/* Copies and digests a file, from one disk to another; synced. With `expect`, other bytes are
 * OT_DATA_LOSS and name `from`.
 */
ot_rc bk_copy(ot_disk *disk, const char *from, ot_disk *to_disk, const char *to, unsigned mode,
              const ot_backup_item *expect, bk_rest_fn *rest, void *arg, ot_digest *sha_out,
              uint64_t *size_out, ot_error *err) OT_CHECKED;
/* Digests a file. */
ot_rc bk_digest(ot_disk *disk, const char *path, bk_rest_fn *rest, void *arg, ot_digest *sha_out,
                uint64_t *size_out, ot_error *err) OT_CHECKED;
/* Makes the directory of a file, and those above it. */
ot_rc bk_make_parent(ot_disk *disk, const char *path, ot_error *err) OT_CHECKED;
/* Syncs a directory and those below it. */
ot_rc bk_sync_tree(ot_disk *disk, const char *dir, ot_error *err) OT_CHECKED;
/* A name that a backup or an unfinished one has: the folder may hold what is not ours. */
bool bk_is_named(const char *name);
/* A name of a backup, with a manifest. */
bool bk_is_finished(ot_disk *disk, const char *folder, const char *name);
/* The newest finished backup in a folder; "" when there is none. */
ot_rc bk_newest(ot_disk *disk, const char *folder, char out[OT_PATH_MAX], ot_error *err) OT_CHECKED;
/* The names in a directory, sorted. */
typedef struct bk_names {
    char **v;
    size_t n, cap;
} bk_names;
ot_rc bk_list(ot_disk *disk, const char *dir, bk_names *out, ot_error *err) OT_CHECKED;
void bk_names_done(bk_names *names);

#endif
