/* Bundles, datasets, lineage edges, and which blobs they keep alive. */
#include "store/models.h"

#include "store/internal.h"

#include <inttypes.h>
#include <stdio.h>

#define EACH_MAX 10000

static ot_rc damaged(const char *what, ot_error *err)
{
    return ot_fail(err, OT_DATA_LOSS, "%s: a digest in its row is damaged", what);
}

/* --- bundles */

static ot_rc add_bundle_file(ot_txn *txn, const ot_digest *bundle, const ot_bundle_file_row *f,
                             ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "INSERT INTO bundle_file (bundle, path, blob, size_bytes)"
                       " VALUES (?1, ?2, ?3, ?4)",
                       &s, err));
    OT_TRY(ot_bind_digest(s, 1, bundle, err));
    OT_TRY(ot_bind_text(s, 2, f->path, err));
    OT_TRY(ot_bind_digest(s, 3, &f->blob, err));
    OT_TRY(ot_bind_i64(s, 4, (int64_t)f->size, err));
    return ot_stmt_run(s, "add a bundle's file", err);
}

ot_rc ot_bundle_row_add(ot_txn *txn, const ot_digest *digest, const char *format,
                        const ot_bundle_file_row *files, size_t n_files, int64_t now_us,
                        ot_error *err)
{
    OT_TRY(ot_txn_need_write(txn, "add bundle", err));
    uint64_t total = 0;
    for (size_t i = 0; i < n_files; i++) {
        total += files[i].size;
    }
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "INSERT INTO bundle (digest, format, size_bytes, created_us)"
                       " VALUES (?1, ?2, ?3, ?4) ON CONFLICT (digest) DO NOTHING",
                       &s, err));
    OT_TRY(ot_bind_digest(s, 1, digest, err));
    OT_TRY(ot_bind_text(s, 2, format, err));
    OT_TRY(ot_bind_i64(s, 3, (int64_t)total, err));
    OT_TRY(ot_bind_i64(s, 4, now_us, err));
    OT_TRY(ot_stmt_run(s, "add bundle", err));
    if (ot_txn_changes(txn) == 0) {
        return OT_OK; /* the same digest is the same list of files */
    }
    for (size_t i = 0; i < n_files; i++) {
        OT_TRY(add_bundle_file(txn, digest, &files[i], err));
    }
    return OT_OK;
}

ot_rc ot_bundle_files_each(ot_txn *txn, const ot_digest *digest, ot_bundle_file_fn *fn, void *arg,
                           ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "SELECT path, size_bytes, blob FROM bundle_file WHERE bundle = ?1"
                       " ORDER BY path",
                       &s, err));
    OT_TRY(ot_bind_digest(s, 1, digest, err));
    for (;;) {
        bool row;
        OT_TRY(ot_stmt_step(s, "list a bundle's files", &row, err));
        if (!row) {
            return OT_OK;
        }
        ot_bundle_file_row f = {.path = ot_col_text(s, 0), .size = (uint64_t)ot_col_i64(s, 1)};
        if (!ot_col_digest(s, 2, &f.blob)) {
            return damaged("bundle file", err);
        }
        OT_TRY(fn(arg, &f, err));
    }
}

ot_rc ot_bundle_row_drop_unused(ot_txn *txn, const ot_digest *digest, bool *removed_out,
                                ot_error *err)
{
    OT_TRY(ot_txn_need_write(txn, "drop bundle", err));
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "DELETE FROM bundle WHERE digest = ?1"
                       " AND NOT EXISTS (SELECT 1 FROM version WHERE bundle = ?1)"
                       " AND NOT EXISTS (SELECT 1 FROM checkpoint WHERE bundle = ?1)",
                       &s, err));
    OT_TRY(ot_bind_digest(s, 1, digest, err));
    OT_TRY(ot_stmt_run(s, "drop bundle", err));
    *removed_out = ot_txn_changes(txn) > 0;
    return OT_OK;
}

/* --- datasets */

static ot_rc add_dataset_blob(ot_txn *txn, const ot_digest *dataset, const ot_digest *blob,
                              ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "INSERT INTO dataset_blob (dataset, blob) VALUES (?1, ?2)"
                       " ON CONFLICT DO NOTHING",
                       &s, err));
    OT_TRY(ot_bind_digest(s, 1, dataset, err));
    OT_TRY(ot_bind_digest(s, 2, blob, err));
    return ot_stmt_run(s, "add a dataset's column", err);
}

static ot_rc name_dataset(ot_txn *txn, const ot_dataset_row *row, const char *source_json,
                          ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "INSERT INTO dataset_name (dataset, name, source, created_us)"
                       " VALUES (?1, ?2, ?3, ?4) ON CONFLICT (dataset, name)"
                       " DO UPDATE SET source = ?3, created_us = ?4",
                       &s, err));
    OT_TRY(ot_bind_digest(s, 1, &row->digest, err));
    OT_TRY(ot_bind_text(s, 2, row->name, err));
    OT_TRY(ot_bind_text(s, 3, source_json == NULL ? "{}" : source_json, err));
    OT_TRY(ot_bind_i64(s, 4, row->created_us, err));
    return ot_stmt_run(s, "name dataset", err);
}

ot_rc ot_dataset_row_add(ot_txn *txn, const ot_dataset_row *row, const char *source_json,
                         const ot_digest *blobs, size_t n_blobs, ot_error *err)
{
    OT_TRY(ot_txn_need_write(txn, "add dataset", err));
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "INSERT INTO dataset (digest, row_count, size_bytes) VALUES (?1, ?2, ?3)"
                       " ON CONFLICT (digest) DO NOTHING",
                       &s, err));
    OT_TRY(ot_bind_digest(s, 1, &row->digest, err));
    OT_TRY(ot_bind_i64(s, 2, row->rows, err));
    OT_TRY(ot_bind_i64(s, 3, (int64_t)row->size_bytes, err));
    OT_TRY(ot_stmt_run(s, "add dataset", err));
    for (size_t i = 0; i < n_blobs; i++) {
        OT_TRY(add_dataset_blob(txn, &row->digest, &blobs[i], err));
    }
    return name_dataset(txn, row, source_json, err);
}

#define DATASET_COLUMNS                                                                            \
    "SELECT d.digest, n.name, d.row_count, d.size_bytes, n.created_us, n.source"                   \
    " FROM dataset_name n JOIN dataset d ON d.digest = n.dataset "
#define DATASET_ORDER " ORDER BY n.created_us DESC, d.digest LIMIT "

static ot_rc dataset_of(sqlite3_stmt *s, ot_dataset_row *d, ot_error *err)
{
    *d = (ot_dataset_row){.rows = ot_col_i64(s, 2),
                          .size_bytes = (uint64_t)ot_col_i64(s, 3),
                          .created_us = ot_col_i64(s, 4)};
    snprintf(d->name, sizeof d->name, "%s", ot_col_text(s, 1));
    return ot_col_digest(s, 0, &d->digest) ? OT_OK : damaged("dataset", err);
}

ot_rc ot_dataset_by_name(ot_txn *txn, const char *name, ot_dataset_row *out, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    bool row;
    OT_TRY(ot_stmt_get(txn, DATASET_COLUMNS "WHERE n.name = ?1" DATASET_ORDER "1", &s, err));
    OT_TRY(ot_bind_text(s, 1, name, err));
    OT_TRY(ot_stmt_step(s, "read dataset", &row, err));
    return row ? dataset_of(s, out, err)
               : ot_fail(err, OT_NOT_FOUND, "dataset '%.64s': not found", name);
}

static ot_rc no_dataset(const ot_digest *digest, ot_error *err)
{
    char hex[OT_DIGEST_HEX];
    return ot_fail(err, OT_NOT_FOUND, "dataset %s: not found", ot_digest_hex(digest, hex));
}

static ot_rc find_dataset(ot_txn *txn, const ot_digest *digest, sqlite3_stmt **s, ot_error *err)
{
    bool row;
    OT_TRY(ot_stmt_get(txn, DATASET_COLUMNS "WHERE n.dataset = ?1" DATASET_ORDER "1", s, err));
    OT_TRY(ot_bind_digest(*s, 1, digest, err));
    OT_TRY(ot_stmt_step(*s, "read dataset", &row, err));
    return row ? OT_OK : no_dataset(digest, err);
}

ot_rc ot_dataset_get(ot_txn *txn, const ot_digest *digest, ot_dataset_row *out, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(find_dataset(txn, digest, &s, err));
    return dataset_of(s, out, err);
}

ot_rc ot_dataset_source(ot_txn *txn, const ot_digest *digest, ot_str *out, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(find_dataset(txn, digest, &s, err));
    ot_str_adds(out, ot_col_text(s, 5));
    return out->failed ? ot_fail(err, OT_EXHAUSTED, "no memory for a dataset's source") : OT_OK;
}

ot_rc ot_dataset_each(ot_txn *txn, const char *name, uint32_t limit, ot_dataset_fn *fn, void *arg,
                      ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn, DATASET_COLUMNS "WHERE ?1 IS NULL OR n.name = ?1" DATASET_ORDER "?2",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, name, err));
    OT_TRY(ot_bind_i64(s, 2, limit == 0 || limit > EACH_MAX ? EACH_MAX : limit, err));
    for (;;) {
        bool row;
        OT_TRY(ot_stmt_step(s, "list datasets", &row, err));
        if (!row) {
            return OT_OK;
        }
        ot_dataset_row d;
        OT_TRY(dataset_of(s, &d, err));
        OT_TRY(fn(arg, &d, ot_col_text(s, 5), err));
    }
}

static ot_rc exists(ot_txn *txn, const char *sql, const ot_digest *d, bool *yes_out, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn, sql, &s, err));
    OT_TRY(ot_bind_digest(s, 1, d, err));
    return ot_stmt_step(s, "look for a reference", yes_out, err);
}

ot_rc ot_dataset_row_delete(ot_txn *txn, const ot_digest *digest, ot_error *err)
{
    OT_TRY(ot_txn_need_write(txn, "delete dataset", err));
    bool used;
    OT_TRY(
        exists(txn, "SELECT 1 FROM version_data WHERE dataset = ?1 LIMIT 1", digest, &used, err));
    if (used) {
        char hex[OT_DIGEST_HEX];
        return ot_fail(err, OT_PRECONDITION,
                       "dataset %s: a version was made from it; delete the version first",
                       ot_digest_hex(digest, hex));
    }
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn, "DELETE FROM dataset WHERE digest = ?1", &s, err));
    OT_TRY(ot_bind_digest(s, 1, digest, err));
    OT_TRY(ot_stmt_run(s, "delete dataset", err));
    return ot_txn_changes(txn) > 0 ? OT_OK : no_dataset(digest, err);
}

/* --- lineage */

ot_rc ot_bundle_is_parent(ot_txn *txn, const ot_digest *digest, bool *yes_out, ot_error *err)
{
    return exists(txn, "SELECT 1 FROM version WHERE parent = ?1 LIMIT 1", digest, yes_out, err);
}

ot_rc ot_version_data_add(ot_txn *txn, int64_t model_id, int64_t version, const char *name,
                          const ot_digest *dataset, ot_error *err)
{
    OT_TRY(ot_txn_need_write(txn, "add lineage", err));
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "INSERT INTO version_data (model, version, name, dataset)"
                       " VALUES (?1, ?2, ?3, ?4)",
                       &s, err));
    OT_TRY(ot_bind_i64(s, 1, model_id, err));
    OT_TRY(ot_bind_i64(s, 2, version, err));
    OT_TRY(ot_bind_text(s, 3, name, err));
    OT_TRY(ot_bind_digest(s, 4, dataset, err));
    return ot_stmt_run(s, "add lineage", err);
}

ot_rc ot_version_data_each(ot_txn *txn, const char *model, int64_t version, ot_version_data_fn *fn,
                           void *arg, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "SELECT v.name, v.dataset FROM version_data v JOIN model m ON m.id = v.model"
                       " WHERE m.name = ?1 AND v.version = ?2 ORDER BY v.name",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, model, err));
    OT_TRY(ot_bind_i64(s, 2, version, err));
    for (;;) {
        bool row;
        ot_digest d;
        OT_TRY(ot_stmt_step(s, "list lineage", &row, err));
        if (!row) {
            return OT_OK;
        }
        if (!ot_col_digest(s, 1, &d)) {
            return damaged("lineage", err);
        }
        OT_TRY(fn(arg, ot_col_text(s, 0), &d, err));
    }
}

ot_rc ot_models_blob_live(ot_txn *txn, const ot_digest *blob, bool *live_out, ot_error *err)
{
    static const char *const asks[] = {"SELECT 1 FROM bundle_file WHERE blob = ?1 LIMIT 1",
                                       "SELECT 1 FROM dataset_blob WHERE blob = ?1 LIMIT 1",
                                       "SELECT 1 FROM dataset WHERE digest = ?1",
                                       "SELECT 1 FROM segment WHERE blob = ?1 LIMIT 1"};
    bool live = false;
    for (size_t i = 0; i < OT_COUNT(asks) && !live; i++) {
        OT_TRY(exists(txn, asks[i], blob, &live, err));
    }
    *live_out = live;
    return OT_OK;
}
