/* A disk in memory that records what is done to it, fails on demand, and can be "cut off" after any
 * operation: what was not synced by then is dropped, kept or torn.
 *
 * The model: the bytes of a file are on the disk once that file was synced after they were written;
 * a name (create, rename, link, unlink, mkdir) once the directory of the name was synced. Before
 * that, each write may be there, not there, or there in some of its sectors of 512 bytes; names of
 * one directory may be there up to some point in their order. A sync of a file that fails loses
 * what it was to settle.
 *
 * Threads: any. Lifetime: crash_disk_create .. crash_disk_destroy, with no file open. */
#ifndef OT_TESTS_CRASH_DISK_H
#define OT_TESTS_CRASH_DISK_H

#include "base/disk.h"
#include "base/mem.h"
#include "base/random.h"
#include "crash_image.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef struct crash_disk {
    ot_disk base;
    pthread_mutex_t m;
    crash_image now;
    bool records;
    crash_op *ops;
    size_t op_count, op_cap;
    /* Faults. */
    uint64_t syncs, fail_sync_from; /* the nth sync and all after it fail; 0: none */
    uint64_t bytes, bytes_max;      /* of all files; 0: no limit */
    uint64_t fail_write_from, writes;
} crash_disk;

typedef struct crash_file {
    ot_file base;
    crash_disk *d;
    size_t inode;
} crash_file;

/* Does an operation now and notes it. Takes `op.path`, `op.to`, `op.data` as copies. */
static void crash_do(crash_disk *d, crash_op op)
{
    crash_apply(&d->now, &op, NULL);
    if (!d->records) {
        return;
    }
    if (d->op_count == d->op_cap) {
        d->op_cap = d->op_cap == 0 ? 256 : d->op_cap * 2;
        d->ops = crash_grow(d->ops, d->op_cap * sizeof *d->ops);
    }
    op.path = op.path != NULL ? crash_dup(op.path) : NULL;
    op.to = op.to != NULL ? crash_dup(op.to) : NULL;
    if (op.data != NULL) {
        op.data = memcpy(crash_grow(NULL, op.n + 1), op.data, op.n);
    }
    d->ops[d->op_count++] = op;
}

static crash_file *crash_file_of(ot_file *f)
{
    return (crash_file *)(void *)f;
}

static crash_disk *crash_disk_of(ot_disk *d)
{
    return (crash_disk *)(void *)d;
}

static ot_rc crash_pread(ot_file *file, void *p, size_t n, uint64_t offset, size_t *n_out,
                         ot_error *err)
{
    (void)err;
    crash_file *cf = crash_file_of(file);
    pthread_mutex_lock(&cf->d->m);
    crash_inode *f = &cf->d->now.inodes[cf->inode];
    size_t k = offset >= f->n ? 0 : f->n - (size_t)offset;
    k = k < n ? k : n;
    if (k > 0) {
        memcpy(p, f->p + offset, k);
    }
    *n_out = k;
    pthread_mutex_unlock(&cf->d->m);
    return OT_OK;
}

static ot_rc crash_pwrite(ot_file *file, const void *p, size_t n, uint64_t offset, ot_error *err)
{
    crash_file *cf = crash_file_of(file);
    crash_disk *d = cf->d;
    ot_rc rc = OT_OK;
    pthread_mutex_lock(&d->m);
    crash_inode *f = &d->now.inodes[cf->inode];
    uint64_t grows = offset + n > f->n ? offset + n - f->n : 0;
    if (d->fail_write_from != 0 && ++d->writes >= d->fail_write_from) {
        rc = ot_fail(err, OT_UNAVAILABLE, "write: Input/output error");
    } else if (d->bytes_max != 0 && d->bytes + grows > d->bytes_max) {
        rc = ot_fail(err, OT_EXHAUSTED, "write: No space left on device");
    } else {
        unsigned char *copy = memcpy(crash_grow(NULL, n + 1), p, n);
        d->bytes += grows;
        crash_do(d,
                 (crash_op){
                     .kind = CRASH_WRITE, .inode = cf->inode, .at = offset, .n = n, .data = copy});
        free(copy);
    }
    pthread_mutex_unlock(&d->m);
    return rc;
}

static ot_rc crash_append(ot_file *file, const void *p, size_t n, ot_error *err)
{
    crash_file *cf = crash_file_of(file);
    return crash_pwrite(file, p, n, cf->d->now.inodes[cf->inode].n, err);
}

static ot_rc crash_truncate(ot_file *file, uint64_t size, ot_error *err)
{
    (void)err;
    crash_file *cf = crash_file_of(file);
    pthread_mutex_lock(&cf->d->m);
    size_t n = cf->d->now.inodes[cf->inode].n;
    cf->d->bytes -= size < n ? n - size : 0;
    crash_do(cf->d, (crash_op){.kind = CRASH_TRUNCATE, .inode = cf->inode, .at = size});
    pthread_mutex_unlock(&cf->d->m);
    return OT_OK;
}

static ot_rc crash_count_sync(crash_disk *d, ot_error *err)
{
    d->syncs++;
    return d->fail_sync_from != 0 && d->syncs >= d->fail_sync_from
               ? ot_fail(err, OT_UNAVAILABLE, "fsync: Input/output error")
               : OT_OK;
}

static ot_rc crash_sync(ot_file *file, bool data_only, ot_error *err)
{
    (void)data_only;
    crash_file *cf = crash_file_of(file);
    pthread_mutex_lock(&cf->d->m);
    ot_rc rc = crash_count_sync(cf->d, err);
    crash_do(cf->d, (crash_op){.kind = rc == OT_OK ? CRASH_SYNC : CRASH_LOSE, .inode = cf->inode});
    pthread_mutex_unlock(&cf->d->m);
    return rc;
}

static ot_rc crash_size(ot_file *file, uint64_t *size_out, ot_error *err)
{
    (void)err;
    crash_file *cf = crash_file_of(file);
    pthread_mutex_lock(&cf->d->m);
    *size_out = cf->d->now.inodes[cf->inode].n;
    pthread_mutex_unlock(&cf->d->m);
    return OT_OK;
}

static int crash_fd(ot_file *file)
{
    (void)file;
    return -1;
}

static void crash_close(ot_file *file)
{
    free(crash_file_of(file));
}

static const ot_file_ops crash_file_ops = {
    .pread = crash_pread,
    .pwrite = crash_pwrite,
    .append = crash_append,
    .truncate = crash_truncate,
    .sync = crash_sync,
    .size = crash_size,
    .fd = crash_fd,
    .close = crash_close,
};

static void crash_parent(const char *path, char out[OT_PATH_MAX])
{
    const char *slash = strrchr(path, '/');
    size_t n = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);
    memcpy(out, path, n);
    out[n] = 0;
}

static bool crash_has_parent(crash_disk *d, const char *path)
{
    char dir[OT_PATH_MAX];
    crash_parent(path, dir);
    return strcmp(dir, "/") == 0 || crash_find(&d->now, dir) != NULL;
}

static ot_rc crash_new(crash_disk *d, const char *path, crash_kind kind, size_t *inode_out,
                       ot_error *err)
{
    if (!crash_has_parent(d, path)) {
        return ot_fail(err, OT_NOT_FOUND, "%s: No such file or directory", path);
    }
    size_t inode = d->now.inode_count;
    OT_AUTO(crash_free) char *copy = crash_dup(path);
    crash_do(d, (crash_op){.kind = kind, .inode = inode, .path = copy});
    *inode_out = inode;
    return OT_OK;
}

static ot_rc crash_open(ot_disk *disk, const char *path, unsigned flags, unsigned mode,
                        ot_file **f_out, ot_error *err)
{
    (void)mode;
    crash_disk *d = crash_disk_of(disk);
    ot_rc rc = OT_OK;
    size_t inode = 0;
    pthread_mutex_lock(&d->m);
    crash_name *n = crash_find(&d->now, path);
    if (n != NULL && (flags & OT_OPEN_EXCL) != 0) {
        rc = ot_fail(err, OT_EXISTS, "%s: File exists", path);
    } else if (n != NULL) {
        inode = n->inode;
        if ((flags & OT_OPEN_TRUNC) != 0) {
            crash_do(d, (crash_op){.kind = CRASH_TRUNCATE, .inode = inode});
        }
    } else if ((flags & OT_OPEN_CREATE) == 0) {
        rc = ot_fail(err, OT_NOT_FOUND, "%s: No such file or directory", path);
    } else {
        rc = crash_new(d, path, CRASH_CREATE, &inode, err);
    }
    pthread_mutex_unlock(&d->m);
    if (rc != OT_OK) {
        return rc;
    }
    crash_file *cf = crash_grow(NULL, sizeof *cf);
    *cf = (crash_file){.base = {.ops = &crash_file_ops}, .d = d, .inode = inode};
    *f_out = &cf->base;
    return OT_OK;
}

static ot_rc crash_move(ot_disk *disk, const char *from, const char *to, crash_kind kind,
                        ot_error *err)
{
    crash_disk *d = crash_disk_of(disk);
    ot_rc rc = OT_OK;
    OT_AUTO(crash_free) char *a = crash_dup(from);
    OT_AUTO(crash_free) char *b = crash_dup(to);
    pthread_mutex_lock(&d->m);
    crash_name *n = crash_find(&d->now, from);
    if (n == NULL || !crash_has_parent(d, to)) {
        rc = ot_fail(err, OT_NOT_FOUND, "%s: No such file or directory", from);
    } else if (kind == CRASH_LINK && crash_find(&d->now, to) != NULL) {
        rc = ot_fail(err, OT_EXISTS, "%s: File exists", to);
    } else {
        crash_do(d, (crash_op){.kind = kind, .inode = n->inode, .path = a, .to = b});
    }
    pthread_mutex_unlock(&d->m);
    return rc;
}

static ot_rc crash_rename(ot_disk *d, const char *from, const char *to, ot_error *err)
{
    return crash_move(d, from, to, CRASH_RENAME, err);
}

static ot_rc crash_link(ot_disk *d, const char *from, const char *to, ot_error *err)
{
    return crash_move(d, from, to, CRASH_LINK, err);
}

static ot_rc crash_unlink(ot_disk *disk, const char *path, ot_error *err)
{
    crash_disk *d = crash_disk_of(disk);
    ot_rc rc = OT_OK;
    OT_AUTO(crash_free) char *copy = crash_dup(path);
    pthread_mutex_lock(&d->m);
    crash_name *n = crash_find(&d->now, path);
    if (n == NULL) {
        rc = ot_fail(err, OT_NOT_FOUND, "%s: No such file or directory", path);
    } else {
        crash_do(d, (crash_op){.kind = CRASH_UNLINK, .inode = n->inode, .path = copy});
    }
    pthread_mutex_unlock(&d->m);
    return rc;
}

static ot_rc crash_mkdir(ot_disk *disk, const char *path, unsigned mode, ot_error *err)
{
    (void)mode;
    crash_disk *d = crash_disk_of(disk);
    ot_rc rc;
    size_t inode;
    pthread_mutex_lock(&d->m);
    if (crash_find(&d->now, path) != NULL) {
        rc = ot_fail(err, OT_EXISTS, "%s: File exists", path);
    } else {
        rc = crash_new(d, path, CRASH_MKDIR, &inode, err);
    }
    pthread_mutex_unlock(&d->m);
    return rc;
}

static ot_rc crash_sync_dir(ot_disk *disk, const char *path, ot_error *err)
{
    crash_disk *d = crash_disk_of(disk);
    OT_AUTO(crash_free) char *copy = crash_dup(path);
    pthread_mutex_lock(&d->m);
    ot_rc rc = crash_count_sync(d, err);
    if (rc == OT_OK) {
        crash_do(d, (crash_op){.kind = CRASH_SYNC_DIR, .path = copy});
    }
    pthread_mutex_unlock(&d->m);
    return rc;
}

static ot_rc crash_stat(ot_disk *disk, const char *path, ot_stat *st_out, ot_error *err)
{
    crash_disk *d = crash_disk_of(disk);
    ot_rc rc = OT_OK;
    pthread_mutex_lock(&d->m);
    crash_name *n = crash_find(&d->now, path);
    if (n == NULL) {
        rc = ot_fail(err, OT_NOT_FOUND, "%s: No such file or directory", path);
    } else {
        crash_inode *f = &d->now.inodes[n->inode];
        *st_out = (ot_stat){
            .size = f->n, .inode = n->inode, .is_dir = f->is_dir, .is_regular = !f->is_dir};
    }
    pthread_mutex_unlock(&d->m);
    return rc;
}

static ot_rc crash_list(ot_disk *disk, const char *path, ot_disk_entry_fn *fn, void *arg,
                        ot_error *err)
{
    crash_disk *d = crash_disk_of(disk);
    crash_image copy = {0};
    ot_rc rc = OT_OK;
    pthread_mutex_lock(&d->m);
    for (size_t i = 0; i < d->now.name_count; i++) {
        crash_bind(&copy, d->now.names[i].path, d->now.names[i].inode);
    }
    pthread_mutex_unlock(&d->m);
    for (size_t i = 0; i < copy.name_count && rc == OT_OK; i++) {
        char dir[OT_PATH_MAX];
        crash_parent(copy.names[i].path, dir);
        if (strcmp(dir, path) == 0) {
            rc = fn(arg, strrchr(copy.names[i].path, '/') + 1, err);
        }
    }
    crash_image_done(&copy);
    return rc;
}

static const ot_disk_ops crash_disk_ops = {
    .open = crash_open,
    .rename = crash_rename,
    .link = crash_link,
    .unlink = crash_unlink,
    .mkdir = crash_mkdir,
    .rmdir = crash_unlink,
    .sync_dir = crash_sync_dir,
    .stat = crash_stat,
    .list = crash_list,
};

static crash_disk *crash_disk_create(bool records)
{
    crash_disk *d = crash_grow(NULL, sizeof *d);
    *d = (crash_disk){.base = {.ops = &crash_disk_ops}, .records = records};
    pthread_mutex_init(&d->m, NULL);
    return d;
}

static void crash_disk_destroy(crash_disk *d)
{
    for (size_t i = 0; i < d->op_count; i++) {
        free(d->ops[i].path);
        free(d->ops[i].to);
        free(d->ops[i].data);
    }
    free(d->ops);
    crash_image_done(&d->now);
    pthread_mutex_destroy(&d->m);
    free(d);
}

/* Sets one of the faults; the writer thread may be at work. */
static void crash_disk_set(crash_disk *d, uint64_t *fault, uint64_t value)
{
    pthread_mutex_lock(&d->m);
    *fault = value;
    pthread_mutex_unlock(&d->m);
}

static void crash_disk_fail_syncs(crash_disk *d)
{
    pthread_mutex_lock(&d->m);
    d->fail_sync_from = d->syncs + 1;
    pthread_mutex_unlock(&d->m);
}

/* Leaves room for `bytes` more. */
static void crash_disk_fill(crash_disk *d, uint64_t bytes)
{
    pthread_mutex_lock(&d->m);
    d->bytes_max = d->bytes + bytes;
    pthread_mutex_unlock(&d->m);
}

static size_t crash_disk_ops_done(crash_disk *d)
{
    pthread_mutex_lock(&d->m);
    size_t n = d->op_count;
    pthread_mutex_unlock(&d->m);
    return n;
}

/* Walks over a recording as it is at the start of the walk: what is certainly on the disk, and what
 * may be. The recording may go on meanwhile. */
typedef struct crash_walk {
    crash_op *ops;
    size_t op_count, inode_count;
    crash_image safe;
    const crash_op **open;
    size_t open_count, at;
} crash_walk;

static bool crash_is_name(const crash_op *op)
{
    return op->kind <= CRASH_UNLINK;
}

static bool crash_is_sync(const crash_op *op)
{
    return op->kind >= CRASH_SYNC;
}

static bool crash_settles(const crash_op *sync, const crash_op *op)
{
    if (sync->kind != CRASH_SYNC_DIR) {
        return !crash_is_name(op) && op->inode == sync->inode;
    }
    char dir[OT_PATH_MAX];
    crash_parent(op->to != NULL ? op->to : op->path != NULL ? op->path : "", dir);
    return crash_is_name(op) && strcmp(dir, sync->path) == 0;
}

static void crash_walk_init(crash_walk *w, crash_disk *d)
{
    pthread_mutex_lock(&d->m);
    size_t n = d->op_count;
    *w = (crash_walk){.ops = crash_grow(NULL, (n + 1) * sizeof *w->ops),
                      .op_count = n,
                      .inode_count = d->now.inode_count,
                      .open = crash_grow(NULL, (n + 1) * sizeof *w->open)};
    if (n > 0) {
        memcpy(w->ops, d->ops, n * sizeof *w->ops);
    }
    pthread_mutex_unlock(&d->m);
}

static void crash_walk_done(crash_walk *w)
{
    crash_image_done(&w->safe);
    free(w->ops);
    free(w->open);
}

/* Goes over one operation; false at the end. */
static bool crash_walk_step(crash_walk *w)
{
    if (w->at == w->op_count) {
        return false;
    }
    const crash_op *op = &w->ops[w->at++];
    if (!crash_is_sync(op)) {
        w->open[w->open_count++] = op;
        return true;
    }
    size_t kept = 0;
    for (size_t i = 0; i < w->open_count; i++) {
        if (!crash_settles(op, w->open[i])) {
            w->open[kept++] = w->open[i];
        } else if (op->kind != CRASH_LOSE) {
            crash_apply(&w->safe, w->open[i], NULL);
        }
    }
    w->open_count = kept;
    return true;
}

typedef enum crash_mode { CRASH_DROP, CRASH_KEEP, CRASH_TEAR } crash_mode;

/* A file whose directory did not arrive cannot be found. */
static void crash_drop_orphans(crash_disk *d)
{
    for (size_t i = 0; i < d->now.name_count;) {
        if (crash_has_parent(d, d->now.names[i].path)) {
            i++;
        } else {
            crash_unbind(&d->now, d->now.names[i].path);
            i = 0;
        }
    }
}

/* The disk as it is found after power came back. */
static crash_disk *crash_walk_disk(const crash_walk *w, crash_mode mode, ot_rng *rng)
{
    crash_disk *d = crash_disk_create(false);
    crash_image_copy(&d->now, &w->safe);
    const char *lost[64];
    size_t lost_count = 0;
    for (size_t i = 0; i < w->open_count && mode != CRASH_DROP; i++) {
        const crash_op *op = w->open[i];
        bool torn = mode == CRASH_TEAR;
        if (torn && crash_is_name(op)) {
            char dir[OT_PATH_MAX], other[OT_PATH_MAX];
            bool gone = ot_rng_below(rng, 4) == 0;
            crash_parent(op->to != NULL ? op->to : op->path, dir);
            for (size_t k = 0; k < lost_count && !gone; k++) {
                crash_parent(lost[k], other);
                gone = strcmp(dir, other) == 0;
            }
            if (gone && lost_count < 64) {
                lost[lost_count++] = op->to != NULL ? op->to : op->path;
            }
            if (gone) {
                continue;
            }
        } else if (torn && ot_rng_below(rng, 3) == 0) {
            continue;
        }
        crash_apply(&d->now, op, torn && ot_rng_below(rng, 2) == 0 ? rng : NULL);
    }
    crash_need_inode(&d->now, w->inode_count);
    crash_drop_orphans(d);
    return d;
}

#endif
