#include "store/backup.h"

#include "base/clock.h"
#include "store/blob_internal.h"
#include "store/core.h"

#define STEP_PAGES 64        /* between two rests: 256 KiB */
#define SYNC_PAGES 4096      /* the disk gets its share in pieces, not in one at the end */
#define AHEAD_PAGES 2048     /* 8 MiB */
#define LOG_MAX (256u << 20) /* bytes */

/* --- the collector is kept off ---------------------------------------------------------------- */

static ot_rc hold_txn(ot_txn *txn, void *arg, ot_error *err)
{
    (void)arg;
    (void)err;
    atomic_fetch_add(&txn->store->blob_holds, 1);
    return OT_OK;
}

/* In a write transaction, as the collector's batches are: what one of them saw unreferenced is gone
 * before the snapshot begins, and is not in it. */
ot_rc ot_blob_hold(ot_store *s, ot_error *err)
{
    return s->is_view ? OT_OK : ot_store_write(s, hold_txn, NULL, err);
}

void ot_blob_release(ot_store *s)
{
    if (!s->is_view) {
        atomic_fetch_sub(&s->blob_holds, 1);
    }
}

bool ot_blob_is_held(const ot_store *s)
{
    return atomic_load(&s->blob_holds) > 0;
}

/* --- the copy --------------------------------------------------------------------------------- */

typedef struct copy {
    ot_store *s;
    const ot_snapshot_options *opt;
    ot_vfs *vfs;
    sqlite3 *db;
    ot_file *file;               /* the copy's, to sync it */
    uint64_t log_seen, log_room; /* pages of the log: when last seen; that its file has room for */
} copy;

static ot_rc open_copy(copy *c, const char *dir, ot_error *err)
{
    char path[OT_PATH_MAX];
    OT_TRY(ot_path_join(path, dir, OT_VFS_DB, err));
    if (ot_disk_exists(c->s->disk, path)) {
        return ot_fail(err, OT_EXISTS, "%s: there is one already", path);
    }
    OT_TRY(ot_vfs_create(c->s->disk, dir, &c->vfs, err));
    int rc = sqlite3_open_v2(OT_VFS_DB, &c->db,
                             SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX |
                                 SQLITE_OPEN_PRIVATECACHE | SQLITE_OPEN_EXRESCODE,
                             ot_vfs_name(c->vfs));
    if (rc == SQLITE_OK) {
        /* Nobody reads it before it is whole and synced. */
        rc = sqlite3_exec(c->db,
                          "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;"
                          "PRAGMA cache_size=-512;",
                          NULL, NULL, NULL);
    }
    if (rc != SQLITE_OK) {
        return ot_sql_fail(c->db, rc, "make the copy of the database", err);
    }
    return c->s->disk->ops->open(c->s->disk, path, OT_OPEN_READ | OT_OPEN_WRITE, 0600, &c->file,
                                 err);
}

static ot_rc close_copy(copy *c, const char *dir, ot_rc rc, ot_error *err)
{
    sqlite3_close_v2(c->db);
    if (rc == OT_OK) {
        rc = c->file->ops->sync(c->file, false, err);
    }
    ot_file_close(c->file);
    ot_vfs_destroy(c->vfs);
    return rc == OT_OK ? c->s->disk->ops->sync_dir(c->s->disk, dir, err) : rc;
}

static ot_rc lengthen_txn(ot_txn *txn, void *arg, ot_error *err)
{
    (void)err;
    ot_log_lengthen(txn->store, *(uint64_t *)arg);
    return OT_OK;
}

/* The log grows on while it can't begin anew: in pieces, so that commits still change no metadata
 * of its file. When it did begin anew, and was cut back, that starts over. */
static void keep_ahead(copy *c, uint64_t pages)
{
    if (pages < c->log_seen) {
        c->log_room = 0;
    }
    c->log_seen = pages;
    if (!c->s->is_view && pages + AHEAD_PAGES / 2 > c->log_room) {
        uint64_t room = pages + AHEAD_PAGES;
        if (ot_store_write(c->s, lengthen_txn, &room, NULL) == OT_OK) {
            c->log_room = room;
        }
    }
}

static ot_rc rest(copy *c, uint64_t since, ot_error *err)
{
    ot_store_stats st;
    if (c->opt->rest == NULL) {
        return OT_OK;
    }
    uint64_t max = c->opt->log_max_bytes != 0 ? c->opt->log_max_bytes : LOG_MAX;
    ot_store_stats_get(c->s, &st);
    keep_ahead(c, st.wal_pages);
    uint64_t worked = st.wal_pages * 4096 > max ? 0 : ot_clock_mono_ns() - since;
    return c->opt->rest(c->opt->arg, worked, err);
}

static ot_rc copy_pages(copy *c, ot_conn *from, ot_error *err)
{
    sqlite3_backup *b = sqlite3_backup_init(c->db, "main", from->db, "main");
    if (b == NULL) {
        return ot_sql_fail(c->db, sqlite3_extended_errcode(c->db), "copy the database", err);
    }
    ot_rc rc = OT_OK;
    int step = SQLITE_OK;
    for (uint64_t n = STEP_PAGES; rc == OT_OK && step != SQLITE_DONE; n += STEP_PAGES) {
        uint64_t since = ot_clock_mono_ns();
        step = sqlite3_backup_step(b, STEP_PAGES);
        if (step == SQLITE_OK && n % SYNC_PAGES == 0) {
            rc = c->file->ops->sync(c->file, true, err);
        } else if (step != SQLITE_OK && step != SQLITE_DONE) {
            rc = ot_sql_fail(c->db, step, "copy the database", err);
        }
        if (rc == OT_OK && step != SQLITE_DONE) {
            rc = rest(c, since, err);
        }
    }
    int end = sqlite3_backup_finish(b);
    if (rc == OT_OK && end != SQLITE_OK) {
        rc = ot_sql_fail(c->db, end, "copy the database", err);
    }
    return rc;
}

/* --- what else there is to know of it --------------------------------------------------------- */

static const char refs_sql[] = "SELECT digest FROM bundle UNION ALL SELECT blob FROM bundle_file "
                               "UNION ALL SELECT digest FROM dataset UNION ALL "
                               "SELECT blob FROM dataset_blob UNION ALL SELECT blob FROM segment";

static ot_rc each_ref(ot_txn *txn, const ot_snapshot_options *opt, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    bool row = true;
    OT_TRY(ot_stmt_get(txn, refs_sql, &s, err));
    for (;;) {
        ot_digest d;
        OT_TRY(ot_stmt_step(s, "list what the store refers to", &row, err));
        if (!row) {
            return OT_OK;
        }
        if (!ot_col_digest(s, 0, &d)) {
            return ot_fail(err, OT_DATA_LOSS, "a digest in the database is damaged");
        }
        OT_TRY(opt->ref(opt->arg, &d, err));
    }
}

static ot_rc copy_txn(copy *c, ot_txn *txn, ot_snapshot *out, ot_error *err)
{
    OT_TRY(ot_store_schema_version(txn, &out->schema, err));
    OT_TRY(ot_events_head(txn, &out->head, err));
    OT_TRY(copy_pages(c, txn->conn, err));
    OT_TRY(c->file->ops->size(c->file, &out->bytes, err));
    return c->opt->ref != NULL ? each_ref(txn, c->opt, err) : OT_OK;
}

/* One read transaction on a connection of its own: while it is open, SQLite's backup sees one
 * commit, however much is written after it. */
static ot_rc copy_now(copy *c, ot_snapshot *out, ot_error *err)
{
    ot_conn *from;
    OT_TRY(ot_conn_open(c->s, false, &from, err));
    ot_txn txn = {.store = c->s, .conn = from};
    ot_snapshot got = {0};
    int rc = ot_conn_frame(from->begin);
    ot_rc orc = rc == SQLITE_OK ? copy_txn(c, &txn, &got, err)
                                : ot_sql_fail(from->db, rc, "begin a snapshot", err);
    ot_conn_reset_all(from);
    if (!sqlite3_get_autocommit(from->db)) {
        (void)ot_conn_frame(from->rollback);
    }
    ot_conn_close(from);
    if (orc == OT_OK) {
        *out = got;
    }
    return orc;
}

ot_rc ot_store_snapshot(ot_store *s, const char *dir, const ot_snapshot_options *opt,
                        ot_snapshot *out, ot_error *err)
{
    copy c = {.s = s, .opt = opt};
    ot_rc rc = open_copy(&c, dir, err);
    if (rc == OT_OK) {
        atomic_fetch_add(&s->snapshots, 1); /* a checkpoint would wait for us */
        rc = copy_now(&c, out, err);
        atomic_fetch_sub(&s->snapshots, 1);
    }
    rc = close_copy(&c, dir, rc, err);
    return rc == OT_OK ? rc : ot_error_prefix(err, rc, "snapshot of store %s", s->dir);
}
