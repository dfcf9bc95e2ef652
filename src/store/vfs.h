/* SQLite's file system on the disk seam.
 *
 * One ot_vfs serves one store: its database and write-ahead log in one directory. Locks and the
 * shared-memory index of the log live on the heap of this process, because the directory lock keeps
 * other processes out; readers work beside the writer all the same.
 *
 * Threads: any; a file belongs to one connection. Lifetime: longer than every connection. */
#ifndef OT_STORE_VFS_H
#define OT_STORE_VFS_H

#include "base/disk.h"

#include <stdbool.h>

typedef struct ot_vfs ot_vfs;

#define OT_VFS_DB "store.db"
#define OT_VFS_WAL "store.db-wal"

/* Registers with SQLite under a name of its own. */
ot_rc ot_vfs_create(ot_disk *disk, const char *dir, ot_vfs **vfs_out, ot_error *err) OT_CHECKED;
void ot_vfs_destroy(ot_vfs *v);
const char *ot_vfs_name(const ot_vfs *v);
/* True once a sync or a write (disk full excepted) has failed: what is on the disk is unknown. */
bool ot_vfs_is_broken(ot_vfs *v);
/* Copies the text of the last I/O error ("" if there was none). */
void ot_vfs_last_error(ot_vfs *v, char *buf, size_t n);

#endif
