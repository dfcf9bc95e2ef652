#include "store/core.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static ot_rc exec(sqlite3 *db, const char *sql, const char *operation, ot_error *err)
{
    int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? OT_OK : ot_sql_fail(db, rc, operation, err);
}

static ot_rc prepare_frame(ot_conn *c, bool writes, ot_error *err)
{
    const struct {
        const char *sql;
        sqlite3_stmt **stmt;
    } frame[] = {
        {writes ? "BEGIN IMMEDIATE" : "BEGIN", &c->begin},
        {"COMMIT", &c->commit},
        {"ROLLBACK", &c->rollback},
        {"SAVEPOINT w", &c->savepoint},
        {"RELEASE w", &c->release},
        {"ROLLBACK TO w", &c->rollback_to},
    };
    for (size_t i = 0; i < OT_COUNT(frame); i++) {
        int rc = sqlite3_prepare_v3(c->db, frame[i].sql, -1, SQLITE_PREPARE_PERSISTENT,
                                    frame[i].stmt, NULL);
        if (rc != SQLITE_OK) {
            return ot_sql_fail(c->db, rc, "prepare a transaction", err);
        }
    }
    return OT_OK;
}

static ot_rc set_up(ot_store *s, ot_conn *c, bool writes, ot_error *err)
{
    char sql[512];
    uint32_t cache = writes ? s->opt.cache_kib : OT_MAX(s->opt.cache_kib / 4, 64u);
    snprintf(sql, sizeof sql,
             "PRAGMA temp_store=MEMORY; PRAGMA foreign_keys=ON; PRAGMA trusted_schema=OFF;"
             "PRAGMA cache_size=-%" PRIu32 ";",
             cache);
    OT_TRY(exec(c->db, sql, "set up a connection", err));
    if (writes) {
        /* A log that a slow reader made long is cut back to this size (bytes). */
        uint64_t keep = (uint64_t)s->opt.checkpoint_pages * 4 * 4120;
        snprintf(sql, sizeof sql,
                 "PRAGMA page_size=4096; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                 "PRAGMA wal_autocheckpoint=0; PRAGMA journal_size_limit=%" PRIu64 ";",
                 keep);
        OT_TRY(exec(c->db, sql, "open the database", err));
    }
    return prepare_frame(c, writes, err);
}

ot_rc ot_conn_open(ot_store *s, bool writes, ot_conn **conn_out, ot_error *err)
{
    ot_error local;
    err = err != NULL ? err : &local;
    ot_conn *c = ot_calloc(1, sizeof *c);
    if (c == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "store %s: no memory for a connection", s->dir);
    }
    int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE | SQLITE_OPEN_EXRESCODE;
    flags |= writes ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY;
    int rc = sqlite3_open_v2(OT_VFS_DB, &c->db, flags, ot_vfs_name(s->vfs));
    ot_rc orc = OT_OK;
    if (rc != SQLITE_OK) {
        orc = ot_sql_fail(c->db, rc, "open the database", err);
    } else {
        sqlite3_busy_timeout(c->db, writes ? 200 : 5000);
        (void)sqlite3_db_config(c->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
        (void)sqlite3_db_config(c->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, !writes, NULL);
        orc = set_up(s, c, writes, err);
    }
    if (orc != OT_OK) {
        ot_conn_close(c);
        return ot_error_prefix(err, orc, "store %s", s->dir);
    }
    *conn_out = c;
    return OT_OK;
}

void ot_conn_close(ot_conn *c)
{
    if (c == NULL) {
        return;
    }
    sqlite3_stmt *frame[] = {c->begin,     c->commit,  c->rollback,
                             c->savepoint, c->release, c->rollback_to};
    for (size_t i = 0; i < OT_COUNT(frame); i++) {
        sqlite3_finalize(frame[i]);
    }
    for (size_t i = 0; i < c->stmt_count; i++) {
        sqlite3_finalize(c->stmts[i].stmt);
    }
    sqlite3_close_v2(c->db);
    ot_free(c);
}

int ot_conn_frame(sqlite3_stmt *stmt)
{
    int rc = sqlite3_step(stmt);
    (void)sqlite3_reset(stmt);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? SQLITE_OK : rc;
}

void ot_conn_reset_all(ot_conn *c)
{
    for (size_t i = 0; i < c->stmt_count; i++) {
        if (sqlite3_stmt_busy(c->stmts[i].stmt)) {
            (void)sqlite3_reset(c->stmts[i].stmt);
            (void)sqlite3_clear_bindings(c->stmts[i].stmt);
        }
    }
}

/* The slot for a new statement: a free one, or that of the statement unused for longest. */
static ot_conn_stmt *free_slot(ot_conn *c)
{
    if (c->stmt_count < OT_STORE_STMTS_MAX) {
        return &c->stmts[c->stmt_count];
    }
    ot_conn_stmt *oldest = NULL;
    for (size_t i = 0; i < c->stmt_count; i++) {
        ot_conn_stmt *e = &c->stmts[i];
        if (!sqlite3_stmt_busy(e->stmt) && (oldest == NULL || e->used < oldest->used)) {
            oldest = e;
        }
    }
    return oldest;
}

ot_rc ot_stmt_get(ot_txn *txn, const char *sql, sqlite3_stmt **stmt_out, ot_error *err)
{
    ot_conn *c = txn->conn;
    size_t n = strlen(sql);
    uint64_t hash = ot_hash_stable(sql, n, 0);
    for (size_t i = 0; i < c->stmt_count; i++) {
        ot_conn_stmt *e = &c->stmts[i];
        if (e->hash == hash && strcmp(sqlite3_sql(e->stmt), sql) == 0 &&
            !sqlite3_stmt_busy(e->stmt)) {
            e->used = ++c->tick;
            *stmt_out = e->stmt;
            return OT_OK;
        }
    }
    ot_conn_stmt *slot = free_slot(c);
    if (slot == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "store: more than %d statements are open at once",
                       OT_STORE_STMTS_MAX);
    }
    sqlite3_stmt *stmt;
    int rc = sqlite3_prepare_v3(c->db, sql, (int)n + 1, SQLITE_PREPARE_PERSISTENT, &stmt, NULL);
    if (rc != SQLITE_OK) {
        return ot_sql_fail(c->db, rc, "prepare a statement", err);
    }
    if (slot == &c->stmts[c->stmt_count]) {
        c->stmt_count++;
    } else {
        sqlite3_finalize(slot->stmt);
    }
    *slot = (ot_conn_stmt){.stmt = stmt, .hash = hash, .used = ++c->tick};
    *stmt_out = stmt;
    return OT_OK;
}

void ot_stmt_done(sqlite3_stmt **stmt)
{
    if (*stmt != NULL) {
        (void)sqlite3_reset(*stmt);
        (void)sqlite3_clear_bindings(*stmt);
        *stmt = NULL;
    }
}
