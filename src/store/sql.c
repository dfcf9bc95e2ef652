/* Binding, stepping, columns, and the mapping of SQLite's codes. */
#include "store/core.h"

#include <inttypes.h>
#include <string.h>

sqlite3 *ot_txn_db(ot_txn *txn)
{
    return txn->conn->db;
}

ot_store *ot_txn_store(ot_txn *txn)
{
    return txn->store;
}

ot_rc ot_txn_need_write(ot_txn *txn, const char *operation, ot_error *err)
{
    return txn->writes
               ? OT_OK
               : ot_fail(err, OT_PRECONDITION,
                         "store: %s: this is a read transaction; use ot_store_write", operation);
}

int64_t ot_txn_last_id(ot_txn *txn)
{
    return sqlite3_last_insert_rowid(txn->conn->db);
}

int64_t ot_txn_changes(ot_txn *txn)
{
    return sqlite3_changes64(txn->conn->db);
}

static ot_rc constraint_code(int sqlite_rc)
{
    switch (sqlite_rc) {
    case SQLITE_CONSTRAINT_UNIQUE:
    case SQLITE_CONSTRAINT_PRIMARYKEY:
    case SQLITE_CONSTRAINT_ROWID:
        return OT_EXISTS;
    case SQLITE_CONSTRAINT_FOREIGNKEY:
        return OT_PRECONDITION;
    default:
        return OT_INVALID;
    }
}

static ot_rc code_of(int sqlite_rc)
{
    switch (sqlite_rc & 0xff) {
    case SQLITE_OK:
        return OT_OK;
    case SQLITE_CONSTRAINT:
        return constraint_code(sqlite_rc);
    case SQLITE_NOMEM:
        return OT_EXHAUSTED;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return OT_ABORTED;
    case SQLITE_FULL:
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
        return OT_UNAVAILABLE;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return OT_DATA_LOSS;
    case SQLITE_INTERRUPT:
        return OT_CANCELLED;
    case SQLITE_TOOBIG:
        return OT_RANGE;
    case SQLITE_READONLY:
        return OT_PRECONDITION;
    default:
        return OT_INTERNAL;
    }
}

ot_rc ot_sql_fail(sqlite3 *db, int sqlite_rc, const char *operation, ot_error *err)
{
    ot_rc rc = code_of(sqlite_rc);
    char io[512] = "";
    int kind = sqlite_rc & 0xff;
    if (db != NULL && (kind == SQLITE_IOERR || kind == SQLITE_FULL || kind == SQLITE_CANTOPEN)) {
        sqlite3_vfs *base = NULL;
        if (sqlite3_file_control(db, "main", SQLITE_FCNTL_VFS_POINTER, &base) == SQLITE_OK &&
            base != NULL) {
            (void)base->xGetLastError(base, (int)sizeof io, io);
        }
    }
    if (kind == SQLITE_FULL) {
        return ot_fail(err, rc, "%s: the disk is full (%s); nothing was changed; free some space",
                       operation, io);
    }
    if (kind == SQLITE_CORRUPT || kind == SQLITE_NOTADB) {
        return ot_fail(err, rc, "%s: the database is damaged (%s); restore it from a backup",
                       operation, sqlite3_errstr(sqlite_rc));
    }
    const char *text = db != NULL ? sqlite3_errmsg(db) : sqlite3_errstr(sqlite_rc);
    return ot_fail(err, rc, "%s: %s%s%s", operation, text, io[0] != 0 ? ": " : "", io);
}

static ot_rc bound(sqlite3_stmt *s, int rc, int i, ot_error *err)
{
    if (rc == SQLITE_OK) {
        return OT_OK;
    }
    if (rc == SQLITE_TOOBIG) {
        return ot_fail(err, OT_RANGE, "store: parameter %d is longer than a row may be", i);
    }
    return ot_fail(err, code_of(rc), "store: parameter %d of '%.100s': %s", i, sqlite3_sql(s),
                   sqlite3_errstr(rc));
}

ot_rc ot_bind_textn(sqlite3_stmt *s, int i, const char *p, size_t n, ot_error *err)
{
    int rc = p == NULL ? sqlite3_bind_null(s, i)
                       : sqlite3_bind_text64(s, i, p, n, SQLITE_STATIC, SQLITE_UTF8);
    return bound(s, rc, i, err);
}

ot_rc ot_bind_text(sqlite3_stmt *s, int i, const char *z, ot_error *err)
{
    return ot_bind_textn(s, i, z, z == NULL ? 0 : strlen(z), err);
}

ot_rc ot_bind_i64(sqlite3_stmt *s, int i, int64_t v, ot_error *err)
{
    return bound(s, sqlite3_bind_int64(s, i, v), i, err);
}

ot_rc ot_bind_f64(sqlite3_stmt *s, int i, double v, ot_error *err)
{
    return bound(s, sqlite3_bind_double(s, i, v), i, err);
}

ot_rc ot_bind_blob(sqlite3_stmt *s, int i, const void *p, size_t n, ot_error *err)
{
    int rc = p == NULL ? sqlite3_bind_null(s, i)
             : n == 0  ? sqlite3_bind_zeroblob(s, i, 0)
                       : sqlite3_bind_blob64(s, i, p, n, SQLITE_STATIC);
    return bound(s, rc, i, err);
}

ot_rc ot_bind_digest(sqlite3_stmt *s, int i, const ot_digest *d, ot_error *err)
{
    return ot_bind_blob(s, i, d == NULL ? NULL : d->b, sizeof d->b, err);
}

ot_rc ot_bind_null(sqlite3_stmt *s, int i, ot_error *err)
{
    return bound(s, sqlite3_bind_null(s, i), i, err);
}

const char *ot_col_text_or_null(sqlite3_stmt *s, int c)
{
    return (const char *)sqlite3_column_text(s, c);
}

const char *ot_col_text(sqlite3_stmt *s, int c)
{
    const char *z = ot_col_text_or_null(s, c);
    return z == NULL ? "" : z;
}

int64_t ot_col_i64(sqlite3_stmt *s, int c)
{
    return sqlite3_column_int64(s, c);
}

double ot_col_f64(sqlite3_stmt *s, int c)
{
    return sqlite3_column_double(s, c);
}

const void *ot_col_blob(sqlite3_stmt *s, int c, size_t *n_out)
{
    const void *p = sqlite3_column_blob(s, c);
    *n_out = (size_t)sqlite3_column_bytes(s, c);
    return p;
}

bool ot_col_is_null(sqlite3_stmt *s, int c)
{
    return sqlite3_column_type(s, c) == SQLITE_NULL;
}

bool ot_col_digest(sqlite3_stmt *s, int c, ot_digest *out)
{
    size_t n;
    const void *p = ot_col_blob(s, c, &n);
    if (p == NULL || n != sizeof out->b) {
        return false;
    }
    memcpy(out->b, p, n);
    return true;
}

ot_rc ot_stmt_step(sqlite3_stmt *s, const char *operation, bool *row_out, ot_error *err)
{
    int rc = sqlite3_step(s);
    if (rc == SQLITE_ROW || rc == SQLITE_DONE) {
        *row_out = rc == SQLITE_ROW;
        return OT_OK;
    }
    return ot_sql_fail(sqlite3_db_handle(s), rc, operation, err);
}

ot_rc ot_stmt_run(sqlite3_stmt *s, const char *operation, ot_error *err)
{
    int rc;
    do {
        rc = sqlite3_step(s);
    } while (rc == SQLITE_ROW);
    ot_rc orc = rc == SQLITE_DONE ? OT_OK : ot_sql_fail(sqlite3_db_handle(s), rc, operation, err);
    (void)sqlite3_reset(s);
    return orc;
}

ot_rc ot_stmt_exec_once(ot_txn *txn, const char *sql, const char *operation, ot_error *err)
{
    sqlite3_stmt *s;
    OT_TRY(ot_stmt_get(txn, sql, &s, err));
    return ot_stmt_run(s, operation, err);
}
