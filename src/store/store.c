#include "store/store.h"

#include "base/mem.h"
#include "store/core.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define WAL_FRAME 4120 /* a page of 4096 bytes and its header of 24 */

static void configure_sqlite(void)
{
    /* Each connection is used by one thread at a time; no statistics, so no global lock. */
    (void)sqlite3_config(SQLITE_CONFIG_MULTITHREAD);
    (void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    (void)sqlite3_initialize();
}

static uint32_t option(uint32_t given, uint32_t fallback, uint32_t max)
{
    return given == 0 ? fallback : OT_MIN(given, max);
}

static ot_store_options with_defaults(const ot_store_options *opt)
{
    ot_store_options o = {0};
    if (opt != NULL) {
        memcpy(&o, opt, OT_MIN(opt->struct_size, sizeof o));
    }
    o.struct_size = sizeof o;
    o.readers_max = option(o.readers_max, 4, OT_STORE_READERS_MAX);
    o.queue_max = option(o.queue_max, 1024, 1u << 20);
    o.group_max = option(o.group_max, 256, 1u << 16);
    o.cache_kib = option(o.cache_kib, 1024, 1u << 20);
    o.checkpoint_pages = option(o.checkpoint_pages, 1000, 1u << 20);
    return o;
}

/* Who holds the lock, as its file says; for the message only. */
static void lock_owner(ot_store *s, const char *path, char *out, size_t n)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    int64_t pid;
    out[0] = 0;
    if (ot_disk_read_all(s->disk, path, 32, &text, NULL) == OT_OK &&
        ot_parse_i64(text.data, &pid, NULL) == OT_OK) {
        snprintf(out, n, " (process %" PRId64 ")", pid);
    }
}

static ot_rc lock_dir(ot_store *s, ot_error *err)
{
    char path[OT_PATH_MAX], owner[48], pid[24];
    if (s->disk != ot_disk_posix()) {
        return OT_OK; /* only the system's files can be shared with another process */
    }
    OT_TRY(ot_path_join(path, s->dir, "lock", err));
    ot_rc rc = ot_disk_lock_file(path, &s->lock_fd, err);
    if (rc == OT_UNAVAILABLE) {
        lock_owner(s, path, owner, sizeof owner);
        return ot_fail(err, OT_UNAVAILABLE,
                       "store %s: in use by another process%s, which holds %s; stop it, or use "
                       "another directory",
                       s->dir, owner, path);
    }
    OT_TRY(rc);
    ot_file *f;
    if (s->disk->ops->open(s->disk, path, OT_OPEN_WRITE | OT_OPEN_TRUNC, 0600, &f, NULL) == OT_OK) {
        int n = snprintf(pid, sizeof pid, "%ld", (long)getpid());
        (void)f->ops->pwrite(f, pid, (size_t)n, 0, NULL);
        ot_file_close(f);
    }
    return OT_OK;
}

/* Gives the log its full length at once, so that a commit changes no metadata of the file. It is an
 * optimisation: a disk too full for it is left to the commits. */
void ot_log_lengthen(ot_store *s, uint64_t pages)
{
    static const char zeros[65536];
    char path[OT_PATH_MAX];
    ot_file *f;
    uint64_t at, want = 32 + pages * WAL_FRAME;
    if (ot_path_join(path, s->dir, OT_VFS_WAL, NULL) != OT_OK ||
        s->disk->ops->open(s->disk, path, OT_OPEN_WRITE, 0600, &f, NULL) != OT_OK) {
        return;
    }
    ot_rc rc = f->ops->size(f, &at, NULL);
    for (; rc == OT_OK && at < want;) {
        size_t n = (size_t)OT_MIN(want - at, (uint64_t)sizeof zeros);
        rc = f->ops->pwrite(f, zeros, n, at, NULL);
        at += n;
    }
    if (rc == OT_OK) {
        /* A failure shows again at the next commit's own sync. */
        (void)f->ops->sync(f, true, NULL);
    }
    ot_file_close(f);
}

static void destroy(ot_store *s)
{
    if (s == NULL) {
        return;
    }
    for (size_t i = 0; i < s->readers_free_count; i++) {
        ot_conn_close(s->readers_free[i]);
    }
    ot_conn_close(s->writer); /* the last one: copies the log into the database */
    ot_vfs_destroy(s->vfs);
    ot_arena_done(&s->events.arena);
    ot_free(s->events.items);
    ot_fd_close(&s->lock_fd);
    pthread_cond_destroy(&s->listeners_cv);
    pthread_mutex_destroy(&s->listeners_m);
    pthread_cond_destroy(&s->readers_cv);
    pthread_mutex_destroy(&s->readers_m);
    pthread_cond_destroy(&s->writer_cv);
    pthread_mutex_destroy(&s->m);
    ot_free(s->dir);
    ot_free(s);
}

static ot_store *create(ot_disk *disk, const char *dir, const ot_store_options *opt)
{
    ot_store *s = ot_calloc(1, sizeof *s);
    char *copy = ot_strdup(dir);
    if (s == NULL || copy == NULL) {
        ot_free(s);
        ot_free(copy);
        return NULL;
    }
    for (size_t n = strlen(copy); n > 1 && copy[n - 1] == '/'; n--) {
        copy[n - 1] = 0;
    }
    s->disk = disk;
    s->dir = copy;
    s->lock_fd = -1;
    s->opt = with_defaults(opt);
    ot_arena_init(&s->events.arena, 16 * 1024, 64u << 20);
    pthread_mutex_init(&s->m, NULL);
    pthread_cond_init(&s->writer_cv, NULL);
    pthread_mutex_init(&s->readers_m, NULL);
    pthread_cond_init(&s->readers_cv, NULL);
    pthread_mutex_init(&s->listeners_m, NULL);
    pthread_cond_init(&s->listeners_cv, NULL);
    return s;
}

static ot_rc open_files(ot_store *s, ot_error *err)
{
    OT_TRY(ot_disk_mkdirs_durable(s->disk, s->dir, 0700, err));
    OT_TRY(lock_dir(s, err));
    OT_TRY(ot_vfs_create(s->disk, s->dir, &s->vfs, err));
    OT_TRY(ot_conn_open(s, true, &s->writer, err));
    OT_TRY(ot_schema_migrate(s, s->writer, err));
    ot_log_lengthen(s, s->opt.checkpoint_pages + 64);
    OT_TRY(ot_blob_store_open(s, err));
    if (ot_vfs_is_broken(s->vfs)) {
        char why[512];
        ot_vfs_last_error(s->vfs, why, sizeof why);
        return ot_fail(err, OT_UNAVAILABLE, "store %s: %s", s->dir, why);
    }
    return ot_writer_start(s, err);
}

static ot_rc open_with(ot_disk *disk, const char *dir, const ot_store_options *opt,
                       ot_rc (*begin)(ot_store *s, ot_error *err), ot_store **store_out,
                       ot_error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, configure_sqlite);
    if (dir[0] == 0 || strlen(dir) > OT_PATH_MAX / 2) {
        return ot_fail(err, OT_INVALID, "store: directory '%.80s' has %zu bytes; it needs 1 to %d",
                       dir, strlen(dir), OT_PATH_MAX / 2);
    }
    ot_store *s = create(disk, dir, opt);
    if (s == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "store %s: no memory to open it", dir);
    }
    ot_rc rc = begin(s, err);
    if (rc != OT_OK) {
        destroy(s);
        return rc;
    }
    *store_out = s;
    return OT_OK;
}

ot_rc ot_store_open(ot_disk *disk, const char *dir, const ot_store_options *opt,
                    ot_store **store_out, ot_error *err)
{
    return open_with(disk, dir, opt, open_files, store_out, err);
}

/* To all writers it looks like a store that has failed. */
static ot_rc look_at_files(ot_store *s, ot_error *err)
{
    char path[OT_PATH_MAX];
    s->is_view = true;
    s->failed = true;
    snprintf(s->failed_why, sizeof s->failed_why, "it was opened to be looked at only");
    OT_TRY(ot_path_join(path, s->dir, OT_VFS_DB, err));
    if (!ot_disk_exists(s->disk, path)) {
        return ot_fail(err, OT_NOT_FOUND, "store %s: there is no %s", s->dir, OT_VFS_DB);
    }
    return ot_vfs_create(s->disk, s->dir, &s->vfs, err);
}

ot_rc ot_store_open_view(ot_disk *disk, const char *dir, ot_store **store_out, ot_error *err)
{
    return open_with(disk, dir, NULL, look_at_files, store_out, err);
}

void ot_store_close(ot_store *s)
{
    if (s != NULL) {
        ot_writer_stop(s);
        destroy(s);
    }
}

void ot_store_stats_get(ot_store *s, ot_store_stats *out)
{
    pthread_mutex_lock(&s->m);
    *out = s->stats;
    out->queued = s->queued;
    out->failed = s->failed;
    pthread_mutex_unlock(&s->m);
}

const char *ot_store_dir(const ot_store *s)
{
    return s->dir;
}

ot_disk *ot_store_disk(const ot_store *s)
{
    return s->disk;
}

/* The store that this thread reads from: a second read could wait for itself. */
static _Thread_local const ot_store *reading_here;

static ot_rc reader_take(ot_store *s, ot_conn **conn_out, ot_error *err)
{
    pthread_mutex_lock(&s->readers_m);
    while (s->readers_free_count == 0 && s->readers_open >= s->opt.readers_max) {
        pthread_cond_wait(&s->readers_cv, &s->readers_m);
    }
    if (s->readers_free_count > 0) {
        *conn_out = s->readers_free[--s->readers_free_count];
        pthread_mutex_unlock(&s->readers_m);
        return OT_OK;
    }
    s->readers_open++;
    pthread_mutex_unlock(&s->readers_m);
    ot_rc rc = ot_conn_open(s, false, conn_out, err);
    if (rc != OT_OK) {
        pthread_mutex_lock(&s->readers_m);
        s->readers_open--;
        pthread_cond_signal(&s->readers_cv);
        pthread_mutex_unlock(&s->readers_m);
    }
    return rc;
}

static void reader_put(ot_store *s, ot_conn *c)
{
    pthread_mutex_lock(&s->readers_m);
    s->readers_free[s->readers_free_count++] = c;
    pthread_cond_signal(&s->readers_cv);
    pthread_mutex_unlock(&s->readers_m);
}

ot_rc ot_store_read(ot_store *s, ot_store_fn *fn, void *arg, ot_error *err)
{
    if (reading_here == s) {
        return ot_fail(err, OT_PRECONDITION, "store %s: a read was asked for from inside a read",
                       s->dir);
    }
    ot_conn *c;
    OT_TRY(reader_take(s, &c, err));
    ot_txn txn = {.store = s, .conn = c};
    int rc = ot_conn_frame(c->begin);
    ot_rc orc;
    if (rc == SQLITE_OK) {
        reading_here = s;
        orc = fn(&txn, arg, err);
        reading_here = NULL;
        ot_conn_reset_all(c);
    } else {
        orc = ot_sql_fail(c->db, rc, "begin a read", err);
    }
    if (!sqlite3_get_autocommit(c->db)) {
        (void)ot_conn_frame(c->rollback);
    }
    reader_put(s, c);
    return orc;
}
