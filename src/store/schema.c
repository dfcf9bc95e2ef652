/* The schema's versions and the way forward. */
#include "store/core.h"

#include <stdio.h>

/* Position + 1 is the version. Append only; an entry that has been released never changes. */
const ot_migration ot_schema_migrations[] = {
    {"core", ot_schema_core},       {"models", ot_schema_models},
    {"runs", ot_schema_runs},       {"windows", ot_schema_windows},
    {"samples", ot_schema_samples}, {"received", ot_schema_received},
    {"tally", ot_schema_tally},
};
const size_t ot_schema_migrations_count = OT_COUNT(ot_schema_migrations);

size_t ot_store_schema(void)
{
    return ot_schema_migrations_count;
}

/* PRAGMA application_id: "OTA1". */
#define APPLICATION_ID 0x4f544131

static ot_rc pragma_get(ot_txn *txn, const char *sql, int64_t *out, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    bool row;
    OT_TRY(ot_stmt_get(txn, sql, &s, err));
    OT_TRY(ot_stmt_step(s, "read the schema's version", &row, err));
    *out = row ? ot_col_i64(s, 0) : 0;
    return OT_OK;
}

ot_rc ot_store_schema_version(ot_txn *txn, int64_t *version_out, ot_error *err)
{
    return pragma_get(txn, "PRAGMA user_version", version_out, err);
}

int64_t ot_store_schema_newest(void)
{
    return (int64_t)ot_schema_migrations_count;
}

static ot_rc migrate_one(ot_conn *c, size_t version, ot_error *err)
{
    const ot_migration *m = &ot_schema_migrations[version - 1];
    char sql[128];
    int rc = ot_conn_frame(c->begin);
    if (rc == SQLITE_OK) {
        rc = sqlite3_exec(c->db, m->sql, NULL, NULL, NULL);
    }
    if (rc == SQLITE_OK) {
        snprintf(sql, sizeof sql, "PRAGMA user_version=%zu; PRAGMA application_id=%d;", version,
                 APPLICATION_ID);
        rc = sqlite3_exec(c->db, sql, NULL, NULL, NULL);
    }
    if (rc == SQLITE_OK) {
        rc = ot_conn_frame(c->commit);
    }
    if (rc == SQLITE_OK) {
        return OT_OK;
    }
    ot_rc orc = ot_sql_fail(c->db, rc, "migrate the schema", err);
    if (!sqlite3_get_autocommit(c->db)) {
        (void)ot_conn_frame(c->rollback);
    }
    return ot_error_prefix(err, orc, "version %zu (%s)", version, m->name);
}

ot_rc ot_schema_migrate(ot_store *s, ot_conn *c, ot_error *err)
{
    ot_txn txn = {.store = s, .conn = c, .writes = true};
    int64_t version, application, tables;
    OT_TRY(pragma_get(&txn, "PRAGMA user_version", &version, err));
    OT_TRY(pragma_get(&txn, "PRAGMA application_id", &application, err));
    OT_TRY(pragma_get(&txn, "SELECT count(*) FROM sqlite_schema", &tables, err));
    if (application != APPLICATION_ID && (tables != 0 || version != 0)) {
        return ot_fail(err, OT_PRECONDITION,
                       "store %s: %s was not made by Overtake; choose another directory", s->dir,
                       OT_VFS_DB);
    }
    if (version < 0 || (uint64_t)version > ot_schema_migrations_count) {
        return ot_fail(err, OT_PRECONDITION,
                       "store %s: its schema is version %lld and this program knows versions up to "
                       "%zu; run a newer Overtake, or restore a backup from before the upgrade",
                       s->dir, (long long)version, ot_schema_migrations_count);
    }
    for (size_t v = (size_t)version + 1; v <= ot_schema_migrations_count; v++) {
        ot_rc rc = migrate_one(c, v, err);
        if (rc != OT_OK) {
            return ot_error_prefix(err, rc, "store %s", s->dir);
        }
    }
    return OT_OK;
}
