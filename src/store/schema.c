/* The schema's versions and the way forward. */
#include "base/log.h"
#include "store/backup.h"
#include "store/core.h"
#include "store/kv.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Position + 1 is the version. Append only; an entry that has been released never changes. */
static const ot_migration migrations[] = {
    {"core", ot_schema_core, false},       {"models", ot_schema_models, false},
    {"runs", ot_schema_runs, false},       {"windows", ot_schema_windows, false},
    {"samples", ot_schema_samples, false}, {"received", ot_schema_received, false},
    {"tally", ot_schema_tally, false},     {"checkpoints", ot_schema_checkpoints, false},
};

static const ot_migration *list = migrations;
static size_t list_n = OT_COUNT(migrations);

const ot_migration *ot_schema_list(size_t *n_out)
{
    *n_out = list_n;
    return list;
}

void ot_schema_install(const ot_migration *given, size_t n)
{
    list = given != NULL ? given : migrations;
    list_n = given != NULL ? n : OT_COUNT(migrations);
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
    return (int64_t)list_n;
}

/* --- who else can use it -----------------------------------------------------------------------
 */

#define SCOPE "schema"
#define READABLE "readable_from"

/* The least version that a program must know to use this store: 0 where that is not said. */
static ot_rc readable_from(ot_txn *txn, int64_t *out, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    ot_error e;
    *out = 0;
    ot_rc rc = ot_kv_get(txn, SCOPE, READABLE, &text, &e);
    if (rc == OT_NOT_FOUND) {
        return OT_OK;
    }
    if (rc != OT_OK) {
        return ot_fail(err, rc, "%s", e.msg);
    }
    return ot_parse_i64(text.data, out, err);
}

ot_rc ot_store_schema_check(ot_txn *txn, ot_error *err)
{
    int64_t version, least = 0;
    OT_TRY(ot_store_schema_version(txn, &version, err));
    if (version < 0) {
        return ot_fail(err, OT_DATA_LOSS, "its schema's version is %" PRId64, version);
    }
    if ((uint64_t)version <= list_n) {
        return OT_OK;
    }
    OT_TRY(readable_from(txn, &least, err));
    if (least >= 1 && (uint64_t)least <= list_n) {
        return OT_OK;
    }
    return ot_fail(err, OT_PRECONDITION,
                   "its schema is version %" PRId64 " and this program knows versions up to %zu; "
                   "run a newer Overtake, or go back to the copy from before the upgrade "
                   "(docs/upgrade.md)",
                   version, list_n);
}

/* The newest migration that shuts older programs out, of those up to the newest. */
static ot_rc note_readable(ot_txn *txn, ot_error *err)
{
    char text[24];
    size_t least = 1;
    for (size_t v = 1; v <= list_n; v++) {
        least = list[v - 1].breaks ? v : least;
    }
    int n = snprintf(text, sizeof text, "%zu", least);
    return ot_kv_set(txn, SCOPE, READABLE, text, (size_t)n, err);
}

/* --- the copy from before ----------------------------------------------------------------------
 */

#define COPY_DIR ".migration"
#define COPY_NAME OT_VFS_DB ".schema-%" PRId64 ".backup"
#define COPIES_KEPT 2

typedef struct copies {
    int64_t versions[64]; /* ascending; of more the lowest are found first */
    size_t n;
} copies;

static ot_rc found_copy(void *arg, const char *name, ot_error *err)
{
    (void)err;
    copies *c = arg;
    int64_t version;
    int end = 0;
    if (sscanf(name, COPY_NAME "%n", &version, &end) != 1 || end == 0 || name[end] != 0 ||
        c->n == OT_COUNT(c->versions)) {
        return OT_OK;
    }
    size_t at = c->n++;
    for (; at > 0 && c->versions[at - 1] > version; at--) {
        c->versions[at] = c->versions[at - 1];
    }
    c->versions[at] = version;
    return OT_OK;
}

/* The last ones stay; a failure here costs space and nothing else. */
static void prune_copies(ot_store *s)
{
    copies c = {.n = 0};
    char path[OT_PATH_MAX], name[64];
    ot_error err = {0};
    ot_rc rc = s->disk->ops->list(s->disk, s->dir, found_copy, &c, &err);
    for (size_t i = 0; rc == OT_OK && i + COPIES_KEPT < c.n; i++) {
        snprintf(name, sizeof name, COPY_NAME, c.versions[i]);
        rc = ot_path_join(path, s->dir, name, &err);
        rc = rc == OT_OK ? s->disk->ops->unlink(s->disk, path, &err) : rc;
    }
    if (rc != OT_OK) {
        ot_warn("store", "an old copy of the database stays: %s", err.msg);
    }
}

/* In a directory of its own, until it is whole and on the disk. */
static ot_rc keep_copy(ot_store *s, int64_t version, ot_error *err)
{
    char dir[OT_PATH_MAX], from[OT_PATH_MAX], to[OT_PATH_MAX], name[64];
    const ot_snapshot_options opt = {0};
    ot_snapshot made;
    snprintf(name, sizeof name, COPY_NAME, version);
    OT_TRY(ot_path_join(dir, s->dir, COPY_DIR, err));
    OT_TRY(ot_path_join(from, dir, OT_VFS_DB, err));
    OT_TRY(ot_path_join(to, s->dir, name, err));
    OT_TRY(ot_disk_remove_tree(s->disk, dir, err)); /* of a migration that was cut off */
    OT_TRY(s->disk->ops->mkdir(s->disk, dir, 0700, err));
    ot_rc rc = ot_store_snapshot(s, dir, &opt, &made, err);
    if (rc == OT_OK) {
        rc = s->disk->ops->rename(s->disk, from, to, err);
    }
    if (rc == OT_OK) {
        rc = s->disk->ops->sync_dir(s->disk, s->dir, err);
    }
    ot_rc ignored = ot_disk_remove_tree(s->disk, dir, NULL); /* the next one tries again */
    (void)ignored;
    return rc;
}

/* --- forward -----------------------------------------------------------------------------------
 */

static ot_rc run_one(ot_conn *c, size_t version, ot_error *err)
{
    const ot_migration *m = &list[version - 1];
    int rc = sqlite3_exec(c->db, m->sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? OT_OK
                           : ot_error_prefix(err, ot_sql_fail(c->db, rc, "migrate the schema", err),
                                             "version %zu (%s)", version, m->name);
}

static ot_rc run_all(ot_txn *txn, int64_t from, ot_error *err)
{
    char sql[128];
    for (size_t v = (size_t)from + 1; v <= list_n; v++) {
        OT_TRY(run_one(txn->conn, v, err));
    }
    OT_TRY(note_readable(txn, err));
    snprintf(sql, sizeof sql, "PRAGMA user_version=%zu; PRAGMA application_id=%d;", list_n,
             APPLICATION_ID);
    int rc = sqlite3_exec(txn->conn->db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? OT_OK : ot_sql_fail(txn->conn->db, rc, "note the version", err);
}

/* All of them in one transaction: it is the old schema or the new one. */
static ot_rc forward(ot_txn *txn, int64_t from, ot_error *err)
{
    ot_conn *c = txn->conn;
    int rc = ot_conn_frame(c->begin);
    if (rc != SQLITE_OK) {
        return ot_sql_fail(c->db, rc, "begin to migrate the schema", err);
    }
    ot_rc orc = run_all(txn, from, err);
    ot_conn_reset_all(c);
    if (orc == OT_OK && (rc = ot_conn_frame(c->commit)) != SQLITE_OK) {
        orc = ot_sql_fail(c->db, rc, "migrate the schema", err);
    }
    if (!sqlite3_get_autocommit(c->db)) {
        (void)ot_conn_frame(c->rollback);
    }
    return orc;
}

static ot_rc migrate(ot_store *s, ot_txn *txn, int64_t from, ot_error *err)
{
    if (from > 0) {
        ot_rc rc = keep_copy(s, from, err);
        if (rc != OT_OK) {
            return ot_error_prefix(err, rc,
                                   "its schema is version %" PRId64 " and is to become %zu, but no "
                                   "copy of the database can be kept beside it; it is as it was; "
                                   "make room",
                                   from, list_n);
        }
    }
    OT_TRY(forward(txn, from, err));
    if (from > 0) {
        ot_info("store", "%s: schema %" PRId64 " became %zu; " COPY_NAME " is from before", s->dir,
                from, list_n, from);
        prune_copies(s);
    }
    return OT_OK;
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
    ot_rc rc = ot_store_schema_check(&txn, err);
    if (rc == OT_OK && (uint64_t)version < list_n) {
        rc = migrate(s, &txn, version, err);
    }
    return rc == OT_OK ? OT_OK : ot_error_prefix(err, rc, "store %s", s->dir);
}
