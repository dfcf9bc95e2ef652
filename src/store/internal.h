/* For the files of src/store only: what a domain's typed operations are written with.
 *
 * A domain is a pair src/store/<domain>.{h,c}: the header has typed operations on an ot_txn and no
 * SQL; the source has `const char ot_schema_<domain>[]` and is listed in schema.c. The usual shape:
 *
 *     OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
 *     OT_TRY(ot_stmt_get(txn, "SELECT name FROM model WHERE id = ?1", &s, err));
 *     OT_TRY(ot_bind_i64(s, 1, id, err));
 *     bool row;
 *     OT_TRY(ot_stmt_step(s, "read model", &row, err));
 *     if (!row) { return ot_fail(err, OT_NOT_FOUND, "model %lld: not found", (long long)id); }
 *     const char *name = ot_col_text(s, 0);   // valid until the next step or ot_stmt_done
 *
 * Threads: the transaction's. */
#ifndef OT_STORE_INTERNAL_H
#define OT_STORE_INTERNAL_H

#include "base/hash.h"
#include "base/mem.h"
#include "store/store.h"

#include <sqlite3.h>

sqlite3 *ot_txn_db(ot_txn *txn);
/* OT_PRECONDITION in a read transaction: what every changing operation asks first. */
ot_rc ot_txn_need_write(ot_txn *txn, const char *operation, ot_error *err) OT_CHECKED;

/* A prepared statement from the connection's cache, keyed by its text, reset and with nothing
 * bound. The connection owns it. The same text may be asked for again while a first one has rows
 * left. */
ot_rc ot_stmt_get(ot_txn *txn, const char *sql, sqlite3_stmt **stmt_out, ot_error *err) OT_CHECKED;
void ot_stmt_done(sqlite3_stmt **stmt); /* resets and unbinds; for OT_AUTO; NULL inside is OK */

/* Index from 1. Text and blobs are not copied: they must live until the step. NULL binds NULL. */
ot_rc ot_bind_text(sqlite3_stmt *s, int i, const char *z, ot_error *err) OT_CHECKED;
ot_rc ot_bind_textn(sqlite3_stmt *s, int i, const char *p, size_t n, ot_error *err) OT_CHECKED;
ot_rc ot_bind_i64(sqlite3_stmt *s, int i, int64_t v, ot_error *err) OT_CHECKED;
ot_rc ot_bind_f64(sqlite3_stmt *s, int i, double v, ot_error *err) OT_CHECKED;
ot_rc ot_bind_blob(sqlite3_stmt *s, int i, const void *p, size_t n, ot_error *err) OT_CHECKED;
ot_rc ot_bind_digest(sqlite3_stmt *s, int i, const ot_digest *d, ot_error *err) OT_CHECKED;
ot_rc ot_bind_null(sqlite3_stmt *s, int i, ot_error *err) OT_CHECKED;

/* Column from 0. Pointers are valid until the next step or ot_stmt_done. */
const char *ot_col_text(sqlite3_stmt *s, int c);         /* "" for NULL */
const char *ot_col_text_or_null(sqlite3_stmt *s, int c); /* NULL for NULL */
int64_t ot_col_i64(sqlite3_stmt *s, int c);
double ot_col_f64(sqlite3_stmt *s, int c);
const void *ot_col_blob(sqlite3_stmt *s, int c, size_t *n_out);
bool ot_col_is_null(sqlite3_stmt *s, int c);
bool ot_col_digest(sqlite3_stmt *s, int c, ot_digest *out); /* false: not 32 bytes */

/* One row or none. `operation` is a verb phrase for the error: "add model". */
ot_rc ot_stmt_step(sqlite3_stmt *s, const char *operation, bool *row_out, ot_error *err) OT_CHECKED;
/* To the end, for statements without rows; resets. */
ot_rc ot_stmt_run(sqlite3_stmt *s, const char *operation, ot_error *err) OT_CHECKED;
/* Prepares (cached), runs without parameters. */
ot_rc ot_stmt_exec_once(ot_txn *txn, const char *sql, const char *operation,
                        ot_error *err) OT_CHECKED;
int64_t ot_txn_last_id(ot_txn *txn); /* the rowid of the last insert */
int64_t ot_txn_changes(ot_txn *txn); /* rows that the last statement changed */

/* Maps an extended result code of SQLite: unique -> OT_EXISTS; foreign key -> OT_PRECONDITION;
 * other constraints -> OT_INVALID; full -> OT_EXHAUSTED; I/O -> OT_UNAVAILABLE; damage ->
 * OT_DATA_LOSS. The message names the operation and, for I/O, the file. */
ot_rc ot_sql_fail(sqlite3 *db, int sqlite_rc, const char *operation, ot_error *err);

/* The schema: position + 1 in the list of schema.c is the version (PRAGMA user_version). Entries
 * are only ever appended, and only add: what an older program writes must do for a newer one. */
typedef struct ot_migration {
    const char *name;
    const char *sql;
    bool breaks; /* programs that do not know it can't use what it leaves; otherwise they go on */
} ot_migration;
const ot_migration *ot_schema_list(size_t *n_out);
void ot_schema_install(const ot_migration *list, size_t n); /* test seam; NULL: the product's */
extern const char ot_schema_core[];                         /* schema_core.c */
extern const char ot_schema_models[];                       /* schema_models.c */
extern const char ot_schema_runs[];                         /* schema_runs.c */
extern const char ot_schema_windows[];                      /* schema_windows.c */
extern const char ot_schema_samples[];                      /* schema_samples.c */
extern const char ot_schema_received[];                     /* schema_received.c */
extern const char ot_schema_checkpoints[];                  /* schema_checkpoints.c */
extern const char ot_schema_tally[];                        /* schema_tally.c */

#endif
