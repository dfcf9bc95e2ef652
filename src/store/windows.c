#include "store/windows.h"

#include "store/internal.h"

#include <inttypes.h>
#include <string.h>

static const char *const role_names[] = {"champion", "canary", "shadow", "arm"};

const char *ot_window_role_name(ot_window_role r)
{
    return (size_t)r < OT_COUNT(role_names) ? role_names[r] : "unknown";
}

bool ot_window_role_parse(const char *s, ot_window_role *out)
{
    for (size_t i = 0; i < OT_COUNT(role_names); i++) {
        if (strcmp(s, role_names[i]) == 0) {
            *out = (ot_window_role)i;
            return true;
        }
    }
    return false;
}

/* --- what was counted ----------------------------------------------------------------------- */

ot_rc ot_push_note(ot_txn *txn, const char *deployment, uint64_t incarnation, const char *stream,
                   uint64_t seq, bool *fresh_out, ot_error *err)
{
    OT_TRY(ot_txn_need_write(txn, "note a push", err));
    if (seq == 0 || seq > INT64_MAX) {
        return ot_fail(err, OT_INVALID, "push of %s: seq %" PRIu64 "; numbers start at 1",
                       deployment, seq);
    }
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "INSERT INTO push_note (deployment, incarnation, stream, seq)"
                       " VALUES (?1, ?2, ?3, ?4) ON CONFLICT (deployment, incarnation, stream)"
                       " DO UPDATE SET seq = excluded.seq WHERE excluded.seq > push_note.seq",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, deployment, err));
    OT_TRY(ot_bind_i64(s, 2, (int64_t)incarnation, err));
    OT_TRY(ot_bind_text(s, 3, stream, err));
    OT_TRY(ot_bind_i64(s, 4, (int64_t)seq, err));
    OT_TRY(ot_stmt_run(s, "note a push", err));
    *fresh_out = ot_txn_changes(txn) > 0;
    return OT_OK;
}

ot_rc ot_push_noted(ot_txn *txn, const char *deployment, uint64_t incarnation, const char *stream,
                    uint64_t seq, bool *noted_out, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    bool row;
    OT_TRY(ot_stmt_get(txn,
                       "SELECT seq FROM push_note WHERE deployment = ?1 AND incarnation = ?2"
                       " AND stream = ?3",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, deployment, err));
    OT_TRY(ot_bind_i64(s, 2, (int64_t)incarnation, err));
    OT_TRY(ot_bind_text(s, 3, stream, err));
    OT_TRY(ot_stmt_step(s, "find the note of a push", &row, err));
    *noted_out = row && (uint64_t)ot_col_i64(s, 0) >= seq;
    return OT_OK;
}

/* --- windows -------------------------------------------------------------------------------- */

static ot_rc check(const ot_window_row *r, ot_error *err)
{
    if ((size_t)r->role >= OT_COUNT(role_names) || r->start_us < 0 || r->end_us <= r->start_us) {
        return ot_fail(err, OT_INVALID,
                       "window of %s: role %d from %" PRId64 " to %" PRId64
                       "; it needs a known role and an end after its start",
                       r->deployment, (int)r->role, r->start_us, r->end_us);
    }
    if (r->n_latency > OT_WINDOW_BLOB_MAX || r->n_inputs > OT_WINDOW_BLOB_MAX ||
        r->n_outputs > OT_WINDOW_BLOB_MAX) {
        return ot_fail(err, OT_RANGE,
                       "window of %s: histograms of %zu, %zu and %zu bytes; at most %u each",
                       r->deployment, r->n_latency, r->n_inputs, r->n_outputs, OT_WINDOW_BLOB_MAX);
    }
    return OT_OK;
}

static ot_rc bind_blob(sqlite3_stmt *s, int i, const void *p, size_t n, ot_error *err)
{
    return ot_bind_blob(s, i, n == 0 ? "" : p, n, err);
}

static ot_rc insert_counts(ot_txn *txn, int64_t id, const ot_window_row *r, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn, "INSERT INTO traffic_counts (id, inputs, outputs) VALUES (?1, ?2, ?3)",
                       &s, err));
    OT_TRY(ot_bind_i64(s, 1, id, err));
    OT_TRY(bind_blob(s, 2, r->inputs, r->n_inputs, err));
    OT_TRY(bind_blob(s, 3, r->outputs, r->n_outputs, err));
    return ot_stmt_run(s, "add a window's counts", err);
}

ot_rc ot_window_insert(ot_txn *txn, const ot_window_row *r, int64_t *id_out, ot_error *err)
{
    OT_TRY(ot_txn_need_write(txn, "add a window", err));
    OT_TRY(check(r, err));
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "INSERT INTO traffic_window (deployment, version, role, start_us, end_us,"
                       " requests, row_count, failed, p50_us, p99_us, latency, received_us)"
                       " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, r->deployment, err));
    OT_TRY(ot_bind_i64(s, 2, r->version, err));
    OT_TRY(ot_bind_i64(s, 3, r->role, err));
    OT_TRY(ot_bind_i64(s, 4, r->start_us, err));
    OT_TRY(ot_bind_i64(s, 5, r->end_us, err));
    OT_TRY(ot_bind_i64(s, 6, r->requests, err));
    OT_TRY(ot_bind_i64(s, 7, r->rows, err));
    OT_TRY(ot_bind_i64(s, 8, r->failed, err));
    OT_TRY(ot_bind_f64(s, 9, r->p50_us, err));
    OT_TRY(ot_bind_f64(s, 10, r->p99_us, err));
    OT_TRY(bind_blob(s, 11, r->latency, r->n_latency, err));
    OT_TRY(ot_bind_i64(s, 12, r->received_us, err));
    OT_TRY(ot_stmt_run(s, "add a window", err));
    int64_t id = ot_txn_last_id(txn);
    OT_TRY(insert_counts(txn, id, r, err));
    *id_out = id;
    return OT_OK;
}

ot_rc ot_windows_last_id(ot_txn *txn, int64_t *id_out, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    bool row;
    OT_TRY(ot_stmt_get(txn, "SELECT coalesce(max(id), 0) FROM traffic_window", &s, err));
    OT_TRY(ot_stmt_step(s, "read the newest window", &row, err));
    *id_out = row ? ot_col_i64(s, 0) : 0;
    return OT_OK;
}

#define WINDOW_COLUMNS                                                                             \
    "SELECT w.id, w.version, w.role, w.start_us, w.end_us, w.requests, w.row_count, w.failed,"     \
    " w.p50_us, w.p99_us, w.latency, w.received_us"

static ot_window_row row_of(sqlite3_stmt *s, const char *deployment, bool counts)
{
    ot_window_row r = {
        .id = ot_col_i64(s, 0),
        .deployment = deployment,
        .version = ot_col_i64(s, 1),
        .role = (ot_window_role)ot_col_i64(s, 2),
        .start_us = ot_col_i64(s, 3),
        .end_us = ot_col_i64(s, 4),
        .requests = ot_col_i64(s, 5),
        .rows = ot_col_i64(s, 6),
        .failed = ot_col_i64(s, 7),
        .p50_us = ot_col_f64(s, 8),
        .p99_us = ot_col_f64(s, 9),
        .received_us = ot_col_i64(s, 11),
    };
    r.latency = ot_col_blob(s, 10, &r.n_latency);
    if (counts) {
        r.inputs = ot_col_blob(s, 12, &r.n_inputs);
        r.outputs = ot_col_blob(s, 13, &r.n_outputs);
    }
    return r;
}

static ot_rc each(sqlite3_stmt *s, const char *deployment, bool counts, ot_window_fn *fn, void *arg,
                  ot_error *err)
{
    for (;;) {
        bool row;
        OT_TRY(ot_stmt_step(s, "read windows", &row, err));
        if (!row) {
            return OT_OK;
        }
        ot_window_row r = row_of(s, deployment, counts);
        OT_TRY(fn(arg, &r, err));
    }
}

/* The plus signs keep the walk on the ids: by another index it would have to sort rows with all
 * their counts. */
ot_rc ot_windows_since(ot_txn *txn, const char *deployment, int64_t version, ot_window_role role,
                       int64_t after_id, ot_window_fn *fn, void *arg, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       WINDOW_COLUMNS ", c.inputs, c.outputs FROM traffic_window w"
                                      " JOIN traffic_counts c ON c.id = w.id"
                                      " WHERE w.id > ?1 AND +w.deployment = ?2"
                                      " AND +w.version = ?3 AND +w.role = ?4 ORDER BY w.id",
                       &s, err));
    OT_TRY(ot_bind_i64(s, 1, after_id, err));
    OT_TRY(ot_bind_text(s, 2, deployment, err));
    OT_TRY(ot_bind_i64(s, 3, version, err));
    OT_TRY(ot_bind_i64(s, 4, role, err));
    return each(s, deployment, true, fn, arg, err);
}

ot_rc ot_windows_after(ot_txn *txn, const char *deployment, int64_t after_id, int64_t limit,
                       ot_window_fn *fn, void *arg, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       WINDOW_COLUMNS ", c.inputs, c.outputs FROM traffic_window w"
                                      " JOIN traffic_counts c ON c.id = w.id WHERE w.id > ?1"
                                      " AND +w.deployment = ?2 ORDER BY w.id LIMIT ?3",
                       &s, err));
    OT_TRY(ot_bind_i64(s, 1, after_id, err));
    OT_TRY(ot_bind_text(s, 2, deployment, err));
    OT_TRY(ot_bind_i64(s, 3, limit, err));
    return each(s, deployment, true, fn, arg, err);
}

ot_rc ot_windows_ended(ot_txn *txn, const char *deployment, int64_t from_us, int64_t to_us,
                       ot_window_fn *fn, void *arg, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       WINDOW_COLUMNS " FROM traffic_window w WHERE w.deployment = ?1"
                                      " AND w.end_us >= ?2 AND w.end_us < ?3 ORDER BY w.end_us",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, deployment, err));
    OT_TRY(ot_bind_i64(s, 2, from_us, err));
    OT_TRY(ot_bind_i64(s, 3, to_us, err));
    return each(s, deployment, false, fn, arg, err);
}

ot_rc ot_windows_expire(ot_txn *txn, const char *deployment, int64_t before_us, uint32_t limit,
                        int64_t *deleted_out, ot_error *err)
{
    OT_TRY(ot_txn_need_write(txn, "delete old windows", err));
    if (limit == 0 || limit > OT_WINDOWS_EXPIRE_MAX) {
        return ot_fail(err, OT_INVALID, "delete old windows: limit %u; 1 to %d are allowed", limit,
                       OT_WINDOWS_EXPIRE_MAX);
    }
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "DELETE FROM traffic_window WHERE id IN (SELECT id FROM traffic_window"
                       " WHERE deployment = ?1 AND end_us < ?2 ORDER BY end_us LIMIT ?3)",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, deployment, err));
    OT_TRY(ot_bind_i64(s, 2, before_us, err));
    OT_TRY(ot_bind_i64(s, 3, limit, err));
    OT_TRY(ot_stmt_run(s, "delete old windows", err));
    *deleted_out = ot_txn_changes(txn);
    return OT_OK;
}

/* --- state of the evidence ------------------------------------------------------------------ */

ot_rc ot_quality_state_set(ot_txn *txn, const char *deployment, const char *part, const void *p,
                           size_t n, ot_error *err)
{
    OT_TRY(ot_txn_need_write(txn, "keep evidence", err));
    if (n > OT_QUALITY_STATE_MAX) {
        return ot_fail(err, OT_RANGE, "evidence of %s: %s has %zu bytes; at most %u", deployment,
                       part, n, OT_QUALITY_STATE_MAX);
    }
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "INSERT INTO quality_state (deployment, part, data) VALUES (?1, ?2, ?3)"
                       " ON CONFLICT (deployment, part) DO UPDATE SET data = excluded.data",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, deployment, err));
    OT_TRY(ot_bind_text(s, 2, part, err));
    OT_TRY(bind_blob(s, 3, p, n, err));
    return ot_stmt_run(s, "keep evidence", err);
}

ot_rc ot_quality_state_get(ot_txn *txn, const char *deployment, const char *part, ot_str *out,
                           ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    bool row;
    OT_TRY(ot_stmt_get(txn, "SELECT data FROM quality_state WHERE deployment = ?1 AND part = ?2",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, deployment, err));
    OT_TRY(ot_bind_text(s, 2, part, err));
    OT_TRY(ot_stmt_step(s, "read evidence", &row, err));
    if (!row) {
        return ot_fail(err, OT_NOT_FOUND, "evidence of %s: there is no %s", deployment, part);
    }
    size_t n;
    const void *p = ot_col_blob(s, 0, &n);
    if (!ot_str_reserve(out, n)) {
        return ot_fail(err, OT_EXHAUSTED, "evidence of %s: no memory for %s (%zu bytes)",
                       deployment, part, n);
    }
    ot_str_add(out, p, n);
    return OT_OK;
}

ot_rc ot_quality_state_delete(ot_txn *txn, const char *deployment, const char *part, ot_error *err)
{
    OT_TRY(ot_txn_need_write(txn, "delete evidence", err));
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(
        ot_stmt_get(txn, "DELETE FROM quality_state WHERE deployment = ?1 AND part = ?2", &s, err));
    OT_TRY(ot_bind_text(s, 1, deployment, err));
    OT_TRY(ot_bind_text(s, 2, part, err));
    return ot_stmt_run(s, "delete evidence", err);
}
