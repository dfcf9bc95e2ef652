/* Backups of a data directory, made while it is in use, and the way back.
 *
 * A backup is a directory of plain files: `manifest` (backup/manifest.h), `store/` as the data
 * directory has it, and of each run its spec, its log and how it ended. It is whole in itself. One
 * that is not finished is called NAME.partial and has no manifest.
 *
 * Threads: any; one backup into a folder at a time (others are told so). */
#ifndef OT_BACKUP_BACKUP_H
#define OT_BACKUP_BACKUP_H

#include "backup/manifest.h"
#include "store/store.h"

#include <stdatomic.h>

#define OT_BACKUP_PARTIAL ".partial"

typedef struct ot_backup_options {
    const char *data_dir;    /* whose runs' records go along; NULL: none */
    const char *program;     /* its version */
    unsigned share_percent;  /* of the time it may work, the rest it lies still [100] */
    unsigned keep;           /* finished backups that stay in the folder, with this one [all] */
    const atomic_bool *stop; /* ends it as OT_CANCELLED; NULL: nothing does */
} ot_backup_options;

typedef struct ot_backup_report {
    char path[OT_PATH_MAX]; /* of the backup */
    ot_backup_head head;
    uint64_t linked;       /* blobs that an earlier backup in the folder had already */
    uint64_t copied_bytes; /* what was written */
    uint64_t removed;      /* old backups that `keep` took away */
    int64_t took_us;
} ot_backup_report;

/* As docs/api.md has it, on one line. */
void ot_backup_report_json(const ot_backup_report *r, ot_str *out);

/* Makes a backup DIR/<time> of the store, which may be written on meanwhile or be a view. Blobs
 * that the newest finished backup in DIR has are hard links to its files, never to the store's:
 * what damages the one must not damage the other. A blob that the store refers to and has not, or
 * whose bytes are damaged, is named in the report; the rest is still worth keeping. */
ot_rc ot_backup_make(ot_store *store, const char *dir, const ot_backup_options *opt,
                     ot_backup_report *report_out, ot_error *err) OT_CHECKED;

/* Packs a finished backup into one file (a tar archive), whole at `file` or not there. `file` is
 * absolute. OT_EXHAUSTED: a file of it is larger than an archive takes (8 GiB). */
ot_rc ot_backup_pack(ot_disk *disk, const char *dir, const char *file, ot_error *err) OT_CHECKED;

typedef struct ot_restore_options {
    const char *actor; /* of the event that says so */
} ot_restore_options;

/* Puts a backup, a packed one, or the newest finished one of a folder of them, into an empty data
 * directory (its lock is held by the caller, who also makes the token). Every digest and the log
 * are proven first; what is wrong is named, and the directory is as empty as before. A run that was
 * under way comes back as one that was lost. OT_PRECONDITION: the directory is not empty, the
 * backup is not finished, or a newer program made it. OT_DATA_LOSS: it is damaged or was edited. */
ot_rc ot_backup_restore(ot_disk *disk, const char *backup, const char *data_dir,
                        const ot_restore_options *opt, ot_backup_report *report_out,
                        ot_error *err) OT_CHECKED;
/* True when a restore into the directory was broken off: nothing else may use it. */
bool ot_backup_is_half_restored(ot_disk *disk, const char *data_dir);

#endif
