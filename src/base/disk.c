#include "base/disk.h"

#include "base/mem.h"
#include "base/random.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct posix_file {
    ot_file base;
    int fd;
    char *path;
} posix_file;

static posix_file *posix_of(ot_file *f)
{
    return (posix_file *)(void *)f;
}

static ot_rc posix_pread(ot_file *f, void *p, size_t n, uint64_t offset, size_t *n_out,
                         ot_error *err)
{
    posix_file *pf = posix_of(f);
    size_t done = 0;
    while (done < n) {
        ssize_t k = pread(pf->fd, (char *)p + done, n - done, (off_t)(offset + done));
        if (k < 0 && errno == EINTR) {
            continue;
        }
        if (k < 0) {
            return ot_fail_errno(err, errno, "%s: read", pf->path);
        }
        if (k == 0) {
            break;
        }
        done += (size_t)k;
    }
    *n_out = done;
    return OT_OK;
}

static ot_rc posix_pwrite(ot_file *f, const void *p, size_t n, uint64_t offset, ot_error *err)
{
    posix_file *pf = posix_of(f);
    for (size_t done = 0; done < n;) {
        ssize_t k = pwrite(pf->fd, (const char *)p + done, n - done, (off_t)(offset + done));
        if (k < 0 && errno == EINTR) {
            continue;
        }
        if (k < 0) {
            return ot_fail_errno(err, errno, "%s: write", pf->path);
        }
        done += (size_t)k;
    }
    return OT_OK;
}

static ot_rc posix_append(ot_file *f, const void *p, size_t n, ot_error *err)
{
    posix_file *pf = posix_of(f);
    for (size_t done = 0; done < n;) {
        ssize_t k = write(pf->fd, (const char *)p + done, n - done);
        if (k < 0 && errno == EINTR) {
            continue;
        }
        if (k < 0) {
            return ot_fail_errno(err, errno, "%s: write", pf->path);
        }
        done += (size_t)k;
    }
    return OT_OK;
}

static ot_rc posix_truncate(ot_file *f, uint64_t size, ot_error *err)
{
    posix_file *pf = posix_of(f);
    if (ftruncate(pf->fd, (off_t)size) != 0) {
        return ot_fail_errno(err, errno, "%s: truncate to %" PRIu64, pf->path, size);
    }
    return OT_OK;
}

static ot_rc posix_sync(ot_file *f, bool data_only, ot_error *err)
{
    posix_file *pf = posix_of(f);
    if ((data_only ? fdatasync(pf->fd) : fsync(pf->fd)) != 0) {
        return ot_fail_errno(err, errno, "%s: fsync", pf->path);
    }
    return OT_OK;
}

static ot_rc posix_size(ot_file *f, uint64_t *size_out, ot_error *err)
{
    posix_file *pf = posix_of(f);
    struct stat st;
    if (fstat(pf->fd, &st) != 0) {
        return ot_fail_errno(err, errno, "%s: stat", pf->path);
    }
    *size_out = (uint64_t)st.st_size;
    return OT_OK;
}

static int posix_fd(ot_file *f)
{
    return posix_of(f)->fd;
}

static void posix_close(ot_file *f)
{
    posix_file *pf = posix_of(f);
    close(pf->fd);
    ot_free(pf->path);
    ot_free(pf);
}

static const ot_file_ops posix_file_ops = {
    .pread = posix_pread,
    .pwrite = posix_pwrite,
    .append = posix_append,
    .truncate = posix_truncate,
    .sync = posix_sync,
    .size = posix_size,
    .fd = posix_fd,
    .close = posix_close,
};

static int posix_open_flags(unsigned flags)
{
    int o = O_CLOEXEC;
    bool rd = (flags & OT_OPEN_READ) != 0, wr = (flags & OT_OPEN_WRITE) != 0;
    o |= rd && wr ? O_RDWR : wr ? O_WRONLY : O_RDONLY;
    o |= flags & OT_OPEN_CREATE ? O_CREAT : 0;
    o |= flags & OT_OPEN_EXCL ? O_EXCL : 0;
    o |= flags & OT_OPEN_TRUNC ? O_TRUNC : 0;
    o |= flags & OT_OPEN_APPEND ? O_APPEND : 0;
    o |= flags & OT_OPEN_NOFOLLOW ? O_NOFOLLOW : 0;
    return o;
}

/* Takes the descriptor over, also when it fails. */
static ot_rc posix_wrap(int fd, const char *path, ot_file **f_out, ot_error *err)
{
    posix_file *pf = ot_alloc(sizeof *pf);
    char *copy = ot_strdup(path);
    if (pf == NULL || copy == NULL) {
        ot_free(pf);
        ot_free(copy);
        close(fd);
        return ot_fail(err, OT_EXHAUSTED, "%s: no memory to open it", path);
    }
    *pf = (posix_file){.base = {.ops = &posix_file_ops}, .fd = fd, .path = copy};
    *f_out = &pf->base;
    return OT_OK;
}

static ot_rc posix_open(ot_disk *d, const char *path, unsigned flags, unsigned mode,
                        ot_file **f_out, ot_error *err)
{
    (void)d;
    int fd = open(path, posix_open_flags(flags), mode);
    return fd >= 0 ? posix_wrap(fd, path, f_out, err) : ot_fail_errno(err, errno, "%s: open", path);
}

ot_rc ot_disk_open_unnamed(const char *dir, ot_file **f_out, ot_error *err)
{
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
        return ot_fail(err, OT_UNIMPLEMENTED, "%s: no files without names there", dir);
    }
    return fd >= 0 ? posix_wrap(fd, dir, f_out, err)
                   : ot_fail_errno(err, errno, "%s: write there", dir);
}

static ot_rc posix_rename(ot_disk *d, const char *from, const char *to, ot_error *err)
{
    (void)d;
    return rename(from, to) == 0 ? OT_OK : ot_fail_errno(err, errno, "%s: rename to %s", from, to);
}

static ot_rc posix_link(ot_disk *d, const char *from, const char *to, ot_error *err)
{
    (void)d;
    return link(from, to) == 0 ? OT_OK : ot_fail_errno(err, errno, "%s: link to %s", from, to);
}

static ot_rc posix_unlink(ot_disk *d, const char *path, ot_error *err)
{
    (void)d;
    return unlink(path) == 0 ? OT_OK : ot_fail_errno(err, errno, "%s: unlink", path);
}

static ot_rc posix_mkdir(ot_disk *d, const char *path, unsigned mode, ot_error *err)
{
    (void)d;
    return mkdir(path, mode) == 0 ? OT_OK : ot_fail_errno(err, errno, "%s: mkdir", path);
}

static ot_rc posix_rmdir(ot_disk *d, const char *path, ot_error *err)
{
    (void)d;
    return rmdir(path) == 0 ? OT_OK : ot_fail_errno(err, errno, "%s: rmdir", path);
}

static ot_rc posix_sync_dir(ot_disk *d, const char *path, ot_error *err)
{
    (void)d;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return ot_fail_errno(err, errno, "%s: open directory", path);
    }
    int rc = fsync(fd);
    int saved = errno;
    close(fd);
    return rc == 0 ? OT_OK : ot_fail_errno(err, saved, "%s: fsync directory", path);
}

static ot_rc posix_stat(ot_disk *d, const char *path, ot_stat *st_out, ot_error *err)
{
    (void)d;
    struct stat st;
    if (lstat(path, &st) != 0) {
        return ot_fail_errno(err, errno, "%s: stat", path);
    }
    *st_out = (ot_stat){
        .size = (uint64_t)st.st_size,
        .inode = (uint64_t)st.st_ino,
        .mtime_us = (int64_t)st.st_mtim.tv_sec * 1000000 + st.st_mtim.tv_nsec / 1000,
        .ctime_us = (int64_t)st.st_ctim.tv_sec * 1000000 + st.st_ctim.tv_nsec / 1000,
        .is_dir = S_ISDIR(st.st_mode),
        .is_regular = S_ISREG(st.st_mode),
        .is_link = S_ISLNK(st.st_mode),
        .mode = st.st_mode & 07777,
    };
    return OT_OK;
}

static ot_rc posix_list(ot_disk *d, const char *path, ot_disk_entry_fn *fn, void *arg,
                        ot_error *err)
{
    (void)d;
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return ot_fail_errno(err, errno, "%s: open directory", path);
    }
    ot_rc rc = OT_OK;
    struct dirent *e;
    while (rc == OT_OK && (e = readdir(dir)) != NULL) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            rc = fn(arg, e->d_name, err);
        }
    }
    closedir(dir);
    return rc;
}

static const ot_disk_ops posix_disk_ops = {
    .open = posix_open,
    .rename = posix_rename,
    .link = posix_link,
    .unlink = posix_unlink,
    .mkdir = posix_mkdir,
    .rmdir = posix_rmdir,
    .sync_dir = posix_sync_dir,
    .stat = posix_stat,
    .list = posix_list,
};

ot_disk *ot_disk_posix(void)
{
    static ot_disk disk = {.ops = &posix_disk_ops};
    return &disk;
}

static ot_rc scratch_sync(ot_file *f, bool data_only, ot_error *err)
{
    (void)f, (void)data_only, (void)err;
    return OT_OK;
}

static ot_rc scratch_sync_dir(ot_disk *d, const char *path, ot_error *err)
{
    (void)d, (void)path, (void)err;
    return OT_OK;
}

static const ot_file_ops scratch_file_ops = {
    .pread = posix_pread,
    .pwrite = posix_pwrite,
    .append = posix_append,
    .truncate = posix_truncate,
    .sync = scratch_sync,
    .size = posix_size,
    .fd = posix_fd,
    .close = posix_close,
};

static ot_rc scratch_open(ot_disk *d, const char *path, unsigned flags, unsigned mode,
                          ot_file **f_out, ot_error *err)
{
    OT_TRY(posix_open(d, path, flags, mode, f_out, err));
    (*f_out)->ops = &scratch_file_ops;
    return OT_OK;
}

static const ot_disk_ops scratch_disk_ops = {
    .open = scratch_open,
    .rename = posix_rename,
    .link = posix_link,
    .unlink = posix_unlink,
    .mkdir = posix_mkdir,
    .rmdir = posix_rmdir,
    .sync_dir = scratch_sync_dir,
    .stat = posix_stat,
    .list = posix_list,
};

ot_disk *ot_disk_scratch(void)
{
    static ot_disk disk = {.ops = &scratch_disk_ops};
    return &disk;
}

bool ot_disk_exists(ot_disk *d, const char *path)
{
    ot_stat st;
    return d->ops->stat(d, path, &st, NULL) == OT_OK;
}

ot_rc ot_disk_read_all(ot_disk *d, const char *path, uint64_t max, ot_str *out, ot_error *err)
{
    ot_file *f;
    OT_TRY(d->ops->open(d, path, OT_OPEN_READ, 0, &f, err));
    uint64_t at = 0;
    ot_rc rc = OT_OK;
    for (;;) {
        if (!ot_str_reserve(out, 65536)) {
            rc = ot_fail(err, OT_EXHAUSTED, "%s: no memory to read it", path);
            break;
        }
        size_t n;
        rc = f->ops->pread(f, out->data + out->len, 65536, at, &n, err);
        if (rc != OT_OK || n == 0) {
            break;
        }
        at += n;
        if (at > max) {
            rc = ot_fail(err, OT_EXHAUSTED, "%s: larger than the limit of %" PRIu64 " bytes", path,
                         max);
            break;
        }
        out->len += n;
        out->data[out->len] = 0;
    }
    ot_file_close(f);
    return rc;
}

static void dir_of(char out[OT_PATH_MAX], const char *path)
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL) {
        snprintf(out, OT_PATH_MAX, ".");
    } else {
        snprintf(out, OT_PATH_MAX, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    }
}

ot_rc ot_disk_sync_parent(ot_disk *d, const char *path, ot_error *err)
{
    char dir[OT_PATH_MAX];
    dir_of(dir, path);
    return d->ops->sync_dir(d, dir, err);
}

ot_rc ot_disk_write_atomic(ot_disk *d, const char *path, const void *p, size_t n, unsigned mode,
                           ot_error *err)
{
    char tmp[OT_PATH_MAX];
    uint64_t tag;
    ot_random_bytes(&tag, sizeof tag);
    if (snprintf(tmp, sizeof tmp, "%s.%016" PRIx64 ".tmp", path, tag) >= (int)sizeof tmp) {
        return ot_fail(err, OT_RANGE, "%.80s...: path longer than %d bytes", path, OT_PATH_MAX);
    }
    ot_file *f;
    OT_TRY(d->ops->open(d, tmp, OT_OPEN_WRITE | OT_OPEN_CREATE | OT_OPEN_EXCL, mode, &f, err));
    ot_rc rc = f->ops->pwrite(f, p, n, 0, err);
    if (rc == OT_OK) {
        rc = f->ops->sync(f, false, err);
    }
    ot_file_close(f);
    if (rc == OT_OK) {
        rc = d->ops->rename(d, tmp, path, err);
    }
    if (rc != OT_OK) {
        (void)d->ops->unlink(d, tmp, NULL);
        return rc;
    }
    return ot_disk_sync_parent(d, path, err);
}

ot_rc ot_disk_mkdirs(ot_disk *d, const char *path, unsigned mode, ot_error *err)
{
    char buf[OT_PATH_MAX];
    if (snprintf(buf, sizeof buf, "%s", path) >= (int)sizeof buf) {
        return ot_fail(err, OT_RANGE, "%.80s...: path longer than %d bytes", path, OT_PATH_MAX);
    }
    for (char *p = buf + 1;; p++) {
        if (*p != '/' && *p != 0) {
            continue;
        }
        char saved = *p;
        *p = 0;
        ot_rc rc = d->ops->mkdir(d, buf, mode, err);
        if (rc != OT_OK && rc != OT_EXISTS) {
            ot_stat st;
            if (d->ops->stat(d, buf, &st, NULL) != OT_OK || !st.is_dir) {
                return rc;
            }
        }
        if (saved == 0) {
            return OT_OK;
        }
        *p = saved;
    }
}

ot_rc ot_disk_mkdirs_durable(ot_disk *d, const char *path, unsigned mode, ot_error *err)
{
    if (strcmp(path, "/") == 0 || strcmp(path, ".") == 0 || ot_disk_exists(d, path)) {
        return OT_OK;
    }
    const char *slash = strrchr(path, '/');
    size_t n = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);
    OT_AUTO(ot_free_ptr) char *parent = n == 0 ? ot_strdup(".") : ot_strndup(path, n);
    if (parent == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "%s: no memory to make it", path);
    }
    OT_TRY(ot_disk_mkdirs_durable(d, parent, mode, err));
    ot_rc rc = d->ops->mkdir(d, path, mode, err);
    if (rc != OT_OK && rc != OT_EXISTS) {
        return rc;
    }
    return d->ops->sync_dir(d, parent, err);
}

struct remove_arg {
    ot_disk *d;
    const char *dir;
};

static ot_rc remove_entry(void *arg, const char *name, ot_error *err)
{
    struct remove_arg *a = arg;
    char path[OT_PATH_MAX];
    OT_TRY(ot_path_join(path, a->dir, name, err));
    return ot_disk_remove_tree(a->d, path, err);
}

ot_rc ot_disk_remove_tree(ot_disk *d, const char *path, ot_error *err)
{
    ot_stat st;
    ot_rc rc = d->ops->stat(d, path, &st, err);
    if (rc == OT_NOT_FOUND) {
        return OT_OK;
    }
    OT_TRY(rc);
    if (!st.is_dir) {
        return d->ops->unlink(d, path, err);
    }
    struct remove_arg a = {.d = d, .dir = path};
    OT_TRY(d->ops->list(d, path, remove_entry, &a, err));
    return d->ops->rmdir(d, path, err);
}

ot_rc ot_path_join(char out[OT_PATH_MAX], const char *dir, const char *name, ot_error *err)
{
    size_t n = strlen(dir);
    const char *sep = n > 0 && dir[n - 1] == '/' ? "" : "/";
    if (snprintf(out, OT_PATH_MAX, "%s%s%s", dir, sep, name) >= OT_PATH_MAX) {
        return ot_fail(err, OT_RANGE, "%.80s.../%.80s: path longer than %d bytes", dir, name,
                       OT_PATH_MAX);
    }
    return OT_OK;
}

bool ot_path_is_clean(const char *rel)
{
    if (rel[0] == 0 || rel[0] == '/') {
        return false;
    }
    for (const char *p = rel; *p != 0;) {
        size_t n = strcspn(p, "/");
        if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.')) {
            return false;
        }
        p += n;
        if (*p == '/' && *++p == 0) {
            return false;
        }
    }
    return true;
}

ot_rc ot_disk_lock_file(const char *path, int *fd_out, ot_error *err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return ot_fail_errno(err, errno, "%s: open", path);
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        int saved = errno;
        close(fd);
        if (saved == EWOULDBLOCK) {
            return ot_fail(err, OT_UNAVAILABLE, "%s: another process holds this lock", path);
        }
        return ot_fail_errno(err, saved, "%s: lock", path);
    }
    *fd_out = fd;
    return OT_OK;
}

void ot_fd_close(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}
