/* The disk seam: every file call of the product goes through an ot_disk, so that tests can record
 * writes, cut the power, fill the disk and fail an fsync.
 *
 * Threads: an ot_disk from any thread; an ot_file from one at a time unless the caller locks.
 * Errors name the path. Paths are at most OT_PATH_MAX bytes. */
#ifndef OT_BASE_DISK_H
#define OT_BASE_DISK_H

#include "base/error.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define OT_PATH_MAX 4096

typedef struct ot_disk ot_disk;
typedef struct ot_file ot_file;

enum {
    OT_OPEN_READ = 1,
    OT_OPEN_WRITE = 2,
    OT_OPEN_CREATE = 4,
    OT_OPEN_EXCL = 8,
    OT_OPEN_TRUNC = 16,
    OT_OPEN_APPEND = 32,
    OT_OPEN_NOFOLLOW = 64, /* a symbolic link as last component is refused */
};

typedef struct ot_stat {
    uint64_t size;
    uint64_t inode;
    int64_t mtime_us, ctime_us;
    bool is_dir, is_regular, is_link;
    unsigned mode; /* permission bits */
} ot_stat;

/* Called with the entry's name; `.` and `..` are left out. A code other than OT_OK ends the walk
 * and is returned. */
typedef ot_rc ot_disk_entry_fn(void *arg, const char *name, ot_error *err);

typedef struct ot_disk_ops {
    ot_rc (*open)(ot_disk *d, const char *path, unsigned flags, unsigned mode, ot_file **f_out,
                  ot_error *err);
    ot_rc (*rename)(ot_disk *d, const char *from, const char *to, ot_error *err);
    ot_rc (*link)(ot_disk *d, const char *from, const char *to, ot_error *err);
    ot_rc (*unlink)(ot_disk *d, const char *path, ot_error *err);
    ot_rc (*mkdir)(ot_disk *d, const char *path, unsigned mode, ot_error *err);
    ot_rc (*rmdir)(ot_disk *d, const char *path, ot_error *err);
    ot_rc (*sync_dir)(ot_disk *d, const char *path, ot_error *err);
    ot_rc (*stat)(ot_disk *d, const char *path, ot_stat *st_out, ot_error *err); /* lstat */
    ot_rc (*list)(ot_disk *d, const char *path, ot_disk_entry_fn *fn, void *arg, ot_error *err);
} ot_disk_ops;

typedef struct ot_file_ops {
    /* Reads up to n bytes at `offset`; short only at the end of the file. */
    ot_rc (*pread)(ot_file *f, void *p, size_t n, uint64_t offset, size_t *n_out, ot_error *err);
    ot_rc (*pwrite)(ot_file *f, const void *p, size_t n, uint64_t offset, ot_error *err);
    ot_rc (*append)(ot_file *f, const void *p, size_t n, ot_error *err);
    ot_rc (*truncate)(ot_file *f, uint64_t size, ot_error *err);
    ot_rc (*sync)(ot_file *f, bool data_only, ot_error *err);
    ot_rc (*size)(ot_file *f, uint64_t *size_out, ot_error *err);
    int (*fd)(ot_file *f); /* for mmap, flock, sendfile and child processes; -1 if there is none */
    void (*close)(ot_file *f);
} ot_file_ops;

struct ot_disk {
    const ot_disk_ops *ops;
};
struct ot_file {
    const ot_file_ops *ops;
};

ot_disk *ot_disk_posix(void); /* the system's files; static, never destroyed */
/* The same without any fsync: for what is thrown away when the process ends. */
ot_disk *ot_disk_scratch(void);

/* Conveniences over the operations above; they work on every ot_disk. */
static inline void ot_file_close(ot_file *f)
{
    if (f != NULL) {
        f->ops->close(f);
    }
}
bool ot_disk_exists(ot_disk *d, const char *path);
/* The whole file, at most `max` bytes, appended to out. */
ot_rc ot_disk_read_all(ot_disk *d, const char *path, uint64_t max, ot_str *out,
                       ot_error *err) OT_CHECKED;
/* Temporary file beside it, fsync, rename, fsync of the directory: whole or not at all. */
ot_rc ot_disk_write_atomic(ot_disk *d, const char *path, const void *p, size_t n, unsigned mode,
                           ot_error *err) OT_CHECKED;
/* Makes a name durable that was made or changed: its directory is synced. */
ot_rc ot_disk_sync_parent(ot_disk *d, const char *path, ot_error *err) OT_CHECKED;
ot_rc ot_disk_mkdirs(ot_disk *d, const char *path, unsigned mode, ot_error *err) OT_CHECKED;
/* The same, with each directory that is made durable in its parent. */
ot_rc ot_disk_mkdirs_durable(ot_disk *d, const char *path, unsigned mode, ot_error *err) OT_CHECKED;
/* Removes a tree; never follows symbolic links; a missing path is OK. */
ot_rc ot_disk_remove_tree(ot_disk *d, const char *path, ot_error *err) OT_CHECKED;
/* Joins with one '/'; OT_RANGE when longer than OT_PATH_MAX. */
ot_rc ot_path_join(char out[OT_PATH_MAX], const char *dir, const char *name,
                   ot_error *err) OT_CHECKED;
/* True for a relative path without empty, "." or ".." segments: what a manifest may name. */
bool ot_path_is_clean(const char *rel);

/* A file of the system's disk in this directory that never has a name there: for trying the disk.
 * OT_UNIMPLEMENTED: the file system can't. */
ot_rc ot_disk_open_unnamed(const char *dir, ot_file **f_out, ot_error *err) OT_CHECKED;

/* An exclusive advisory lock on a file of the system's disk, held until the descriptor closes.
 * OT_UNAVAILABLE when another process holds it. */
ot_rc ot_disk_lock_file(const char *path, int *fd_out, ot_error *err) OT_CHECKED;
void ot_fd_close(int *fd); /* closes *fd if >= 0 and sets it to -1; also for OT_AUTO */

#endif
