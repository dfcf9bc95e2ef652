#include "store/checkpoints.h"

#include "store/internal.h"

static ot_rc add_row(ot_txn *txn, const ot_checkpoint_row *row, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "INSERT INTO checkpoint (training, step, bundle, run, app, made_us, metrics)"
                       " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"
                       " ON CONFLICT (training, step, bundle) DO NOTHING",
                       &s, err));
    OT_TRY(ot_bind_i64(s, 1, row->training, err));
    OT_TRY(ot_bind_i64(s, 2, row->step, err));
    OT_TRY(ot_bind_digest(s, 3, &row->bundle, err));
    OT_TRY(ot_bind_i64(s, 4, row->run, err));
    OT_TRY(ot_bind_text(s, 5, row->app, err));
    OT_TRY(ot_bind_i64(s, 6, row->made_us, err));
    OT_TRY(ot_bind_text(s, 7, row->metrics != NULL ? row->metrics : "{}", err));
    return ot_stmt_run(s, "add checkpoint", err);
}

ot_rc ot_checkpoint_add(ot_txn *txn, const ot_checkpoint_row *row, const ot_bundle_file_row *files,
                        size_t n_files, int64_t now_us, ot_error *err)
{
    OT_TRY(ot_bundle_row_add(txn, &row->bundle, OT_CHECKPOINT_FORMAT, files, n_files, now_us, err));
    return add_row(txn, row, err);
}

ot_rc ot_checkpoint_each(ot_txn *txn, int64_t training, ot_checkpoint_fn *fn, void *arg,
                         ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "SELECT c.training, c.run, c.step, c.bundle, c.made_us, c.app, c.metrics,"
                       " (SELECT coalesce(sum(f.size_bytes), 0) FROM bundle_file f"
                       " WHERE f.bundle = c.bundle AND f.blob <> c.bundle),"
                       " (SELECT count(*) FROM bundle_file f"
                       " WHERE f.bundle = c.bundle AND f.blob <> c.bundle)"
                       " FROM checkpoint c WHERE c.training = ?1"
                       " ORDER BY c.step DESC, c.made_us DESC",
                       &s, err));
    OT_TRY(ot_bind_i64(s, 1, training, err));
    for (;;) {
        bool row;
        OT_TRY(ot_stmt_step(s, "list checkpoints", &row, err));
        if (!row) {
            return OT_OK;
        }
        ot_checkpoint_row c = {.training = ot_col_i64(s, 0),
                               .run = ot_col_i64(s, 1),
                               .step = ot_col_i64(s, 2),
                               .made_us = ot_col_i64(s, 4),
                               .app = ot_col_text(s, 5),
                               .metrics = ot_col_text(s, 6),
                               .size_bytes = (uint64_t)ot_col_i64(s, 7),
                               .files = ot_col_i64(s, 8)};
        if (!ot_col_digest(s, 3, &c.bundle)) {
            return ot_fail(err, OT_DATA_LOSS, "checkpoint: a digest in its row is damaged");
        }
        OT_TRY(fn(arg, &c, err));
    }
}

/* Bundles that no checkpoint has any more. */
static ot_rc drop_bundles(ot_txn *txn, ot_error *err)
{
    return ot_stmt_exec_once(txn,
                             "DELETE FROM bundle WHERE format = 'checkpoint'"
                             " AND NOT EXISTS (SELECT 1 FROM checkpoint WHERE bundle = digest)"
                             " AND NOT EXISTS (SELECT 1 FROM version v WHERE v.bundle = digest)",
                             "drop bundles of checkpoints", err);
}

ot_rc ot_checkpoint_prune(ot_txn *txn, int64_t training, size_t keep, ot_error *err)
{
    OT_TRY(ot_txn_need_write(txn, "drop checkpoints", err));
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "DELETE FROM checkpoint WHERE training = ?1 AND (step, bundle) IN"
                       " (SELECT step, bundle FROM checkpoint WHERE training = ?1"
                       " ORDER BY step DESC, made_us DESC LIMIT -1 OFFSET ?2)",
                       &s, err));
    OT_TRY(ot_bind_i64(s, 1, training, err));
    OT_TRY(ot_bind_i64(s, 2, (int64_t)keep, err));
    OT_TRY(ot_stmt_run(s, "drop checkpoints", err));
    return ot_txn_changes(txn) > 0 ? drop_bundles(txn, err) : OT_OK;
}

/* A version's run is the last try of its training: `parent` leads to the first. */
static const char of_champions[] =
    "WITH RECURSIVE line (bundle, back) AS ("
    " SELECT v.bundle, 0 FROM alias a JOIN version v ON v.model = a.model AND v.version = a.version"
    " WHERE a.alias = '" OT_ALIAS_CHAMPION "'"
    " UNION SELECT v.parent, l.back + 1 FROM line l JOIN version v ON v.bundle = l.bundle"
    " WHERE v.parent IS NOT NULL AND l.back < ?2),"
    " tries (run) AS ("
    " SELECT v.run FROM line l JOIN version v ON v.bundle = l.bundle"
    " UNION SELECT r.parent FROM tries t JOIN run r ON r.id = t.run)"
    " SELECT 1 FROM tries WHERE run = ?1";

static ot_rc is_lineage(ot_txn *txn, int64_t training, bool *yes_out, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn, of_champions, &s, err));
    OT_TRY(ot_bind_i64(s, 1, training, err));
    OT_TRY(ot_bind_i64(s, 2, OT_CHECKPOINT_LINE, err));
    return ot_stmt_step(s, "read a champion's lineage", yes_out, err);
}

/* The next training before `before` and after `after` that has some; 0: none. */
static ot_rc next_training(ot_txn *txn, int64_t after, int64_t before, int64_t *out, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    bool row;
    OT_TRY(ot_stmt_get(txn,
                       "SELECT coalesce(min(training), 0) FROM checkpoint"
                       " WHERE training > ?1 AND training < ?2",
                       &s, err));
    OT_TRY(ot_bind_i64(s, 1, after, err));
    OT_TRY(ot_bind_i64(s, 2, before, err));
    OT_TRY(ot_stmt_step(s, "list trainings", &row, err));
    *out = ot_col_i64(s, 0);
    return OT_OK;
}

ot_rc ot_checkpoint_collect(ot_txn *txn, int64_t before, const int64_t *keep, size_t n_keep,
                            int64_t *removed_out, ot_error *err)
{
    int64_t training = 0, removed = 0;
    for (;;) {
        bool stays = false;
        OT_TRY(next_training(txn, training, before, &training, err));
        if (training == 0) {
            *removed_out = removed;
            return OT_OK;
        }
        for (size_t i = 0; i < n_keep && !stays; i++) {
            stays = keep[i] == training;
        }
        if (!stays) {
            OT_TRY(is_lineage(txn, training, &stays, err));
        }
        if (!stays) {
            OT_TRY(ot_checkpoint_prune(txn, training, 0, err));
            removed++;
        }
    }
}
