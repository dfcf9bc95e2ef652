#include "store/vfs.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/random.h"
#include "store/vfs_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Keeps the text for the error that the store gives, and tells a full disk from a broken one. */
static int io_failed(vfs_file *vf, ot_rc rc, const ot_error *e, int sqlite_rc, bool breaks)
{
    ot_vfs *v = vf->v;
    pthread_mutex_lock(&v->m);
    snprintf(v->last_error, sizeof v->last_error, "%s", e->msg);
    pthread_mutex_unlock(&v->m);
    if (rc == OT_EXHAUSTED && sqlite_rc == SQLITE_IOERR_WRITE) {
        return SQLITE_FULL;
    }
    if (breaks) {
        atomic_store(&v->broken, true);
    }
    return sqlite_rc;
}

/* After a failed sync the system may have forgotten what it could not write: to go on, even with a
 * checkpoint at closing, could make a lost write look like a kept one. */
static bool is_broken(const vfs_file *vf)
{
    return atomic_load(&vf->v->broken);
}

static int write_through(vfs_file *vf, const void *p, size_t n, uint64_t offset)
{
    ot_error e;
    if (is_broken(vf)) {
        return SQLITE_IOERR_WRITE;
    }
    ot_rc rc = vf->f->ops->pwrite(vf->f, p, n, offset, &e);
    return rc == OT_OK ? SQLITE_OK : io_failed(vf, rc, &e, SQLITE_IOERR_WRITE, true);
}

static int flush(vfs_file *vf)
{
    size_t n = vf->pending_n;
    vf->pending_n = 0;
    return n == 0 ? SQLITE_OK : write_through(vf, vf->pending, n, vf->pending_at);
}

/* Keeps a write to the log for later; what cannot be kept is written at once. */
static int keep(vfs_file *vf, const void *p, size_t n, uint64_t offset)
{
    bool fits = vf->pending_n + n <= VFS_PENDING_MAX;
    if (vf->pending_n > 0 && (!fits || offset != vf->pending_at + vf->pending_n)) {
        int rc = flush(vf);
        if (rc != SQLITE_OK) {
            return rc;
        }
    }
    if (vf->pending == NULL) {
        vf->pending = ot_alloc(VFS_PENDING_MAX);
    }
    if (vf->pending == NULL || n > VFS_PENDING_MAX) {
        return write_through(vf, p, n, offset);
    }
    vf->pending_at = vf->pending_n == 0 ? offset : vf->pending_at;
    memcpy(vf->pending + vf->pending_n, p, n);
    vf->pending_n += n;
    return SQLITE_OK;
}

static int file_close(sqlite3_file *f)
{
    vfs_file *vf = vfs_file_of(f);
    (void)flush(vf);
    ot_free(vf->pending);
    (void)ot_vfs_shm_unmap(f, 0);
    (void)ot_vfs_unlock(f, SQLITE_LOCK_NONE);
    ot_file_close(vf->f);
    return SQLITE_OK;
}

static int file_read(sqlite3_file *f, void *p, int n, sqlite3_int64 offset)
{
    vfs_file *vf = vfs_file_of(f);
    size_t got;
    ot_error e;
    int flushed = flush(vf);
    if (flushed != SQLITE_OK) {
        return flushed;
    }
    ot_rc rc = vf->f->ops->pread(vf->f, p, (size_t)n, (uint64_t)offset, &got, &e);
    if (rc != OT_OK) {
        return io_failed(vf, rc, &e, SQLITE_IOERR_READ, false);
    }
    if (got < (size_t)n) {
        memset((char *)p + got, 0, (size_t)n - got);
        return SQLITE_IOERR_SHORT_READ;
    }
    return SQLITE_OK;
}

static int file_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 offset)
{
    vfs_file *vf = vfs_file_of(f);
    return (vf->is_log ? keep : write_through)(vf, p, (size_t)n, (uint64_t)offset);
}

static int file_truncate(sqlite3_file *f, sqlite3_int64 size)
{
    vfs_file *vf = vfs_file_of(f);
    ot_error e;
    int flushed = is_broken(vf) ? SQLITE_IOERR_TRUNCATE : flush(vf);
    if (flushed != SQLITE_OK) {
        return flushed;
    }
    ot_rc rc = vf->f->ops->truncate(vf->f, (uint64_t)size, &e);
    return rc == OT_OK ? SQLITE_OK : io_failed(vf, rc, &e, SQLITE_IOERR_TRUNCATE, true);
}

static int file_sync(sqlite3_file *f, int flags)
{
    (void)flags;
    vfs_file *vf = vfs_file_of(f);
    ot_disk *d = vf->v->disk;
    ot_error e;
    int flushed = is_broken(vf) ? SQLITE_IOERR_FSYNC : flush(vf);
    if (flushed != SQLITE_OK) {
        return flushed;
    }
    /* Data only: that includes the size, and is what a reader of the file needs. */
    ot_rc rc = vf->f->ops->sync(vf->f, true, &e);
    if (rc == OT_OK && vf->sync_dir) {
        rc = d->ops->sync_dir(d, vf->v->dir, &e);
        vf->sync_dir = rc != OT_OK;
    }
    return rc == OT_OK ? SQLITE_OK : io_failed(vf, rc, &e, SQLITE_IOERR_FSYNC, true);
}

static int file_size(sqlite3_file *f, sqlite3_int64 *out)
{
    vfs_file *vf = vfs_file_of(f);
    uint64_t size;
    ot_error e;
    int flushed = flush(vf);
    if (flushed != SQLITE_OK) {
        return flushed;
    }
    ot_rc rc = vf->f->ops->size(vf->f, &size, &e);
    if (rc != OT_OK) {
        return io_failed(vf, rc, &e, SQLITE_IOERR_FSTAT, false);
    }
    *out = (sqlite3_int64)size;
    return SQLITE_OK;
}

static int file_control(sqlite3_file *f, int op, void *arg)
{
    (void)f;
    if (op == SQLITE_FCNTL_PERSIST_WAL) {
        /* The log keeps its size over restarts: a commit then needs no metadata on the disk. */
        *(int *)arg = 1;
        return SQLITE_OK;
    }
    return SQLITE_NOTFOUND;
}

static int file_sector_size(sqlite3_file *f)
{
    (void)f;
    return 4096;
}

static int file_characteristics(sqlite3_file *f)
{
    (void)f;
    return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

static const sqlite3_io_methods file_methods = {
    .iVersion = 2,
    .xClose = file_close,
    .xRead = file_read,
    .xWrite = file_write,
    .xTruncate = file_truncate,
    .xSync = file_sync,
    .xFileSize = file_size,
    .xLock = ot_vfs_lock,
    .xUnlock = ot_vfs_unlock,
    .xCheckReservedLock = ot_vfs_check_reserved,
    .xFileControl = file_control,
    .xSectorSize = file_sector_size,
    .xDeviceCharacteristics = file_characteristics,
    .xShmMap = ot_vfs_shm_map,
    .xShmLock = ot_vfs_shm_lock,
    .xShmBarrier = ot_vfs_shm_barrier,
    .xShmUnmap = ot_vfs_shm_unmap,
};

static ot_vfs *vfs_of(sqlite3_vfs *base)
{
    return base->pAppData;
}

static bool path_of(ot_vfs *v, const char *name, char out[OT_PATH_MAX])
{
    return ot_path_join(out, v->dir, name, NULL) == OT_OK;
}

static int vfs_open(sqlite3_vfs *base, const char *name, sqlite3_file *f, int flags, int *flags_out)
{
    ot_vfs *v = vfs_of(base);
    vfs_file *vf = vfs_file_of(f);
    memset(f, 0, (size_t)base->szOsFile);
    char path[OT_PATH_MAX];
    /* Temporary files do not occur: temp_store is memory. */
    if (name == NULL || !path_of(v, name, path)) {
        return SQLITE_CANTOPEN;
    }
    unsigned o = OT_OPEN_READ | OT_OPEN_NOFOLLOW;
    o |= flags & SQLITE_OPEN_READWRITE ? OT_OPEN_WRITE : 0u;
    bool creates = (flags & SQLITE_OPEN_CREATE) != 0 && !ot_disk_exists(v->disk, path);
    o |= creates ? OT_OPEN_CREATE : 0u;
    vf->v = v;
    vf->sync_dir = creates;
    vf->is_log = (flags & SQLITE_OPEN_WAL) != 0;
    ot_error e;
    ot_rc rc = v->disk->ops->open(v->disk, path, o, 0600, &vf->f, &e);
    if (rc != OT_OK) {
        return io_failed(vf, rc, &e, SQLITE_CANTOPEN, false);
    }
    if (flags_out != NULL) {
        *flags_out = flags;
    }
    f->pMethods = &file_methods;
    return SQLITE_OK;
}

static int vfs_delete(sqlite3_vfs *base, const char *name, int sync_dir)
{
    ot_vfs *v = vfs_of(base);
    char path[OT_PATH_MAX];
    if (!path_of(v, name, path)) {
        return SQLITE_IOERR_DELETE;
    }
    ot_rc rc = v->disk->ops->unlink(v->disk, path, NULL);
    if (rc == OT_NOT_FOUND) {
        return SQLITE_IOERR_DELETE_NOENT;
    }
    if (rc == OT_OK && sync_dir) {
        rc = v->disk->ops->sync_dir(v->disk, v->dir, NULL);
        if (rc != OT_OK) {
            atomic_store(&v->broken, true);
        }
    }
    return rc == OT_OK ? SQLITE_OK : SQLITE_IOERR_DELETE;
}

static int vfs_access(sqlite3_vfs *base, const char *name, int flags, int *out)
{
    (void)flags;
    ot_vfs *v = vfs_of(base);
    char path[OT_PATH_MAX];
    ot_stat st;
    if (!path_of(v, name, path)) {
        return SQLITE_IOERR_ACCESS;
    }
    *out = v->disk->ops->stat(v->disk, path, &st, NULL) == OT_OK;
    return SQLITE_OK;
}

static int vfs_full_pathname(sqlite3_vfs *base, const char *name, int n, char *out)
{
    (void)base;
    return snprintf(out, (size_t)n, "%s", name) < n ? SQLITE_OK : SQLITE_CANTOPEN;
}

static int vfs_randomness(sqlite3_vfs *base, int n, char *out)
{
    (void)base;
    ot_random_bytes(out, (size_t)n);
    return n;
}

static int vfs_sleep(sqlite3_vfs *base, int us)
{
    (void)base;
    ot_clock_sleep_us((uint64_t)us);
    return us;
}

static int vfs_time_ms(sqlite3_vfs *base, sqlite3_int64 *out)
{
    (void)base;
    /* Milliseconds since noon of 24 November 4714 BC (Julian day 0). */
    *out = ot_clock_wall_us() / 1000 + INT64_C(210866760000000);
    return SQLITE_OK;
}

static int vfs_time_days(sqlite3_vfs *base, double *out)
{
    sqlite3_int64 ms;
    (void)vfs_time_ms(base, &ms);
    *out = (double)ms / 86400000.0;
    return SQLITE_OK;
}

static int vfs_last_error(sqlite3_vfs *base, int n, char *out)
{
    ot_vfs_last_error(vfs_of(base), out, (size_t)n);
    return 0;
}

ot_rc ot_vfs_create(ot_disk *disk, const char *dir, ot_vfs **vfs_out, ot_error *err)
{
    static atomic_uint_fast64_t count;
    ot_vfs *v = ot_calloc(1, sizeof *v);
    char *copy = ot_strdup(dir);
    if (v == NULL || copy == NULL) {
        ot_free(v);
        ot_free(copy);
        return ot_fail(err, OT_EXHAUSTED, "%s: no memory to open the store", dir);
    }
    v->disk = disk;
    v->dir = copy;
    snprintf(v->name, sizeof v->name, "overtake-%" PRIuFAST64, atomic_fetch_add(&count, 1));
    v->base = (sqlite3_vfs){
        .iVersion = 2,
        .szOsFile = (int)sizeof(vfs_file),
        .mxPathname = 512,
        .zName = v->name,
        .pAppData = v,
        .xOpen = vfs_open,
        .xDelete = vfs_delete,
        .xAccess = vfs_access,
        .xFullPathname = vfs_full_pathname,
        .xRandomness = vfs_randomness,
        .xSleep = vfs_sleep,
        .xCurrentTime = vfs_time_days,
        .xGetLastError = vfs_last_error,
        .xCurrentTimeInt64 = vfs_time_ms,
    };
    pthread_mutex_init(&v->m, NULL);
    if (sqlite3_vfs_register(&v->base, 0) != SQLITE_OK) {
        pthread_mutex_destroy(&v->m);
        ot_free(v->dir);
        ot_free(v);
        return ot_fail(err, OT_INTERNAL, "%s: SQLite refused the store's file system", dir);
    }
    *vfs_out = v;
    return OT_OK;
}

void ot_vfs_destroy(ot_vfs *v)
{
    if (v == NULL) {
        return;
    }
    sqlite3_vfs_unregister(&v->base);
    pthread_mutex_destroy(&v->m);
    ot_free(v->dir);
    ot_free(v);
}

const char *ot_vfs_name(const ot_vfs *v)
{
    return v->name;
}

bool ot_vfs_is_broken(ot_vfs *v)
{
    return atomic_load(&v->broken);
}

void ot_vfs_last_error(ot_vfs *v, char *buf, size_t n)
{
    pthread_mutex_lock(&v->m);
    snprintf(buf, n, "%s", v->last_error);
    pthread_mutex_unlock(&v->m);
}
