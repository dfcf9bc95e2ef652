#include "store/samples.h"

#include "store/blob.h"
#include "store/internal.h"

#include <inttypes.h>
#include <string.h>

static ot_rc check(const ot_segment_row *r, ot_error *err)
{
    if (r->n == 0 || r->n > OT_SEGMENT_ROWS_MAX || strlen(r->meta) > OT_SEGMENT_META_MAX) {
        return ot_fail(err, OT_INVALID,
                       "segment of %s: %zu rows and %zu bytes of description; 1 to %u and at most "
                       "%u are allowed",
                       r->deployment, r->n, strlen(r->meta), OT_SEGMENT_ROWS_MAX,
                       OT_SEGMENT_META_MAX);
    }
    for (size_t i = 0; i < r->n; i++) {
        if (r->answers[i].seq > INT64_MAX ||
            (i > 0 && r->answers[i].seq <= r->answers[i - 1].seq)) {
            return ot_fail(err, OT_INVALID,
                           "segment of %s: row number %" PRIu64 " stands twice or is too large",
                           r->deployment, r->answers[i].seq);
        }
    }
    return OT_OK;
}

static ot_rc insert_row(ot_txn *txn, const ot_segment_row *r, int64_t *id_out, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "INSERT INTO segment (deployment, incarnation, version, shadow, row_count,"
                       " start_us, end_us, size_bytes, blob)"
                       " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, r->deployment, err));
    OT_TRY(ot_bind_i64(s, 2, (int64_t)r->incarnation, err));
    OT_TRY(ot_bind_i64(s, 3, r->version, err));
    OT_TRY(ot_bind_i64(s, 4, r->shadow, err));
    OT_TRY(ot_bind_i64(s, 5, (int64_t)r->n, err));
    OT_TRY(ot_bind_i64(s, 6, r->start_us, err));
    OT_TRY(ot_bind_i64(s, 7, r->end_us, err));
    OT_TRY(ot_bind_i64(s, 8, (int64_t)r->size_bytes, err));
    OT_TRY(ot_bind_digest(s, 9, &r->blob, err));
    OT_TRY(ot_stmt_run(s, "add a segment", err));
    *id_out = ot_txn_last_id(txn);
    return OT_OK;
}

static ot_rc insert_answers(ot_txn *txn, int64_t id, const ot_segment_row *r, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn, "INSERT INTO segment_rows (id, meta, answers) VALUES (?1, ?2, ?3)", &s,
                       err));
    OT_TRY(ot_bind_i64(s, 1, id, err));
    OT_TRY(ot_bind_text(s, 2, r->meta, err));
    OT_TRY(ot_bind_blob(s, 3, r->answers, r->n * sizeof *r->answers, err));
    return ot_stmt_run(s, "add a segment's answers", err);
}

static ot_rc insert_span(ot_txn *txn, int64_t id, const ot_segment_row *r, uint64_t first,
                         uint64_t last, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "INSERT INTO segment_span (deployment, incarnation, first_seq, segment,"
                       " last_seq) VALUES (?1, ?2, ?3, ?4, ?5)",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, r->deployment, err));
    OT_TRY(ot_bind_i64(s, 2, (int64_t)r->incarnation, err));
    OT_TRY(ot_bind_i64(s, 3, (int64_t)first, err));
    OT_TRY(ot_bind_i64(s, 4, id, err));
    OT_TRY(ot_bind_i64(s, 5, (int64_t)last, err));
    return ot_stmt_run(s, "add a segment's span", err);
}

ot_rc ot_segment_insert(ot_txn *txn, const ot_segment_row *r, int64_t *id_out, ot_error *err)
{
    int64_t id;
    OT_TRY(ot_txn_need_write(txn, "add a segment", err));
    OT_TRY(check(r, err));
    if (!ot_blob_exists(ot_txn_store(txn), &r->blob)) {
        return ot_fail(err, OT_NOT_FOUND, "segment of %s: its rows are not in the content store",
                       r->deployment);
    }
    OT_TRY(insert_row(txn, r, &id, err));
    OT_TRY(insert_answers(txn, id, r, err));
    for (size_t i = 0; i < r->n;) {
        size_t k = i + 1;
        while (k < r->n && r->answers[k].seq - r->answers[i].seq < OT_SPAN_MAX) {
            k++;
        }
        OT_TRY(insert_span(txn, id, r, r->answers[i].seq, r->answers[k - 1].seq, err));
        i = k;
    }
    *id_out = id;
    return OT_OK;
}

static ot_rc give_segment(sqlite3_stmt *s, const char *deployment, ot_segment_fn *fn, void *arg,
                          ot_error *err)
{
    size_t bytes;
    ot_segment_row r = {.id = ot_col_i64(s, 0),
                        .deployment = deployment,
                        .incarnation = (uint64_t)ot_col_i64(s, 1),
                        .version = ot_col_i64(s, 2),
                        .shadow = ot_col_i64(s, 3) != 0,
                        .start_us = ot_col_i64(s, 4),
                        .end_us = ot_col_i64(s, 5),
                        .size_bytes = (uint64_t)ot_col_i64(s, 6),
                        .meta = ot_col_text(s, 8)};
    const void *answers = ot_col_blob(s, 9, &bytes);
    r.n = bytes / sizeof(ot_answer);
    if (!ot_col_digest(s, 7, &r.blob) || bytes % sizeof(ot_answer) != 0 || r.n == 0) {
        return ot_fail(err, OT_DATA_LOSS, "segment %" PRId64 " of %s is damaged", r.id, deployment);
    }
    /* A column's bytes may lie anywhere. */
    ot_answer *copy = ot_alloc(bytes);
    if (copy == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "segment %" PRId64 " of %s: no memory", r.id, deployment);
    }
    memcpy(copy, answers, bytes);
    r.answers = copy;
    ot_rc rc = fn(arg, &r, err);
    ot_free(copy);
    return rc;
}

ot_rc ot_segments_over(ot_txn *txn, const char *deployment, uint64_t incarnation, uint64_t first,
                       uint64_t last, bool live_only, ot_segment_fn *fn, void *arg, ot_error *err)
{
    if (last < first || last - first >= OT_SPAN_MAX || last > INT64_MAX) {
        return ot_fail(err, OT_INVALID,
                       "segments of %s: rows %" PRIu64 " to %" PRIu64
                       " are not a range of at most %d",
                       deployment, first, last, OT_SPAN_MAX);
    }
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(
        txn,
        "SELECT g.id, g.incarnation, g.version, g.shadow, g.start_us, g.end_us, g.size_bytes,"
        " g.blob, a.meta, a.answers FROM segment g JOIN segment_rows a ON a.id = g.id"
        " WHERE g.id IN (SELECT segment FROM segment_span WHERE deployment = ?1 AND"
        " incarnation = ?2 AND first_seq > ?3 AND first_seq <= ?4 AND last_seq >= ?5)"
        " AND g.shadow <= ?6 ORDER BY g.id",
        &s, err));
    OT_TRY(ot_bind_text(s, 1, deployment, err));
    OT_TRY(ot_bind_i64(s, 2, (int64_t)incarnation, err));
    OT_TRY(ot_bind_i64(s, 3, (int64_t)first - OT_SPAN_MAX, err));
    OT_TRY(ot_bind_i64(s, 4, (int64_t)last, err));
    OT_TRY(ot_bind_i64(s, 5, (int64_t)first, err));
    OT_TRY(ot_bind_i64(s, 6, live_only ? 0 : 1, err));
    for (;;) {
        bool row;
        OT_TRY(ot_stmt_step(s, "find segments", &row, err));
        if (!row) {
            return OT_OK;
        }
        OT_TRY(give_segment(s, deployment, fn, arg, err));
    }
}

ot_rc ot_segments_newest(ot_txn *txn, const char *deployment, int64_t before, ot_segment_fn *fn,
                         void *arg, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(
        txn,
        "SELECT g.id, g.incarnation, g.version, g.shadow, g.start_us, g.end_us, g.size_bytes,"
        " g.blob, a.meta, a.answers FROM segment g JOIN segment_rows a ON a.id = g.id"
        " WHERE +g.deployment = ?1 AND (?2 = 0 OR g.id < ?2) ORDER BY g.id DESC",
        &s, err));
    OT_TRY(ot_bind_text(s, 1, deployment, err));
    OT_TRY(ot_bind_i64(s, 2, before, err));
    for (;;) {
        bool row;
        OT_TRY(ot_stmt_step(s, "list segments", &row, err));
        if (!row) {
            return OT_OK;
        }
        OT_TRY(give_segment(s, deployment, fn, arg, err));
    }
}

ot_rc ot_segments_oldest(ot_txn *txn, const char *deployment, int64_t *us_out, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    bool row;
    OT_TRY(ot_stmt_get(txn,
                       "SELECT start_us FROM segment WHERE deployment = ?1 ORDER BY end_us LIMIT 1",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, deployment, err));
    OT_TRY(ot_stmt_step(s, "find the oldest segment", &row, err));
    *us_out = row ? ot_col_i64(s, 0) : 0;
    return OT_OK;
}

ot_rc ot_segment_rows_live(ot_txn *txn, const char *deployment, int64_t version, int64_t from_us,
                           int64_t *rows_out, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    bool row;
    OT_TRY(ot_stmt_get(txn,
                       "SELECT coalesce(sum(row_count), 0) FROM segment WHERE deployment = ?1 AND"
                       " end_us >= ?2 AND start_us >= ?2 AND version = ?3 AND shadow = 0",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, deployment, err));
    OT_TRY(ot_bind_i64(s, 2, from_us, err));
    OT_TRY(ot_bind_i64(s, 3, version, err));
    OT_TRY(ot_stmt_step(s, "count sampled rows", &row, err));
    *rows_out = row ? ot_col_i64(s, 0) : 0;
    return OT_OK;
}

struct old {
    int64_t ids[OT_SEGMENTS_EXPIRE_MAX];
    size_t n;
    uint64_t freed;
};

static ot_rc find_old(ot_txn *txn, const char *deployment, int64_t before_us, uint64_t bytes,
                      struct old *o, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "SELECT id, end_us, size_bytes FROM segment WHERE deployment = ?1"
                       " ORDER BY end_us LIMIT ?2",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, deployment, err));
    OT_TRY(ot_bind_i64(s, 2, OT_SEGMENTS_EXPIRE_MAX, err));
    while (o->n < OT_SEGMENTS_EXPIRE_MAX) {
        bool row;
        OT_TRY(ot_stmt_step(s, "find old segments", &row, err));
        if (!row || (ot_col_i64(s, 1) >= before_us && o->freed >= bytes)) {
            break;
        }
        o->ids[o->n++] = ot_col_i64(s, 0);
        o->freed += (uint64_t)ot_col_i64(s, 2);
    }
    return OT_OK;
}

ot_rc ot_segments_expire(ot_txn *txn, const char *deployment, int64_t before_us, uint64_t bytes,
                         int64_t *deleted_out, uint64_t *freed_out, ot_error *err)
{
    struct old o = {.n = 0};
    OT_TRY(ot_txn_need_write(txn, "delete old segments", err));
    OT_TRY(find_old(txn, deployment, before_us, bytes, &o, err));
    for (size_t i = 0; i < o.n; i++) {
        OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
        OT_TRY(ot_stmt_get(txn, "DELETE FROM segment WHERE id = ?1", &s, err));
        OT_TRY(ot_bind_i64(s, 1, o.ids[i], err));
        OT_TRY(ot_stmt_run(s, "delete an old segment", err));
    }
    *deleted_out = (int64_t)o.n;
    *freed_out = o.freed;
    return OT_OK;
}

/* ---- callers' keys */

ot_rc ot_row_key_set(ot_txn *txn, const char *deployment, const char *key, uint64_t incarnation,
                     uint64_t seq, int64_t time_us, ot_error *err)
{
    OT_TRY(ot_txn_need_write(txn, "note a key", err));
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "INSERT INTO row_key (deployment, key, incarnation, seq, time_us)"
                       " VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (deployment, key) DO UPDATE SET"
                       " incarnation = excluded.incarnation, seq = excluded.seq,"
                       " time_us = excluded.time_us WHERE excluded.time_us >= row_key.time_us",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, deployment, err));
    OT_TRY(ot_bind_text(s, 2, key, err));
    OT_TRY(ot_bind_i64(s, 3, (int64_t)incarnation, err));
    OT_TRY(ot_bind_i64(s, 4, (int64_t)seq, err));
    OT_TRY(ot_bind_i64(s, 5, time_us, err));
    return ot_stmt_run(s, "note a key", err);
}

ot_rc ot_row_key_get(ot_txn *txn, const char *deployment, const char *key,
                     uint64_t *incarnation_out, uint64_t *seq_out, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    bool row;
    OT_TRY(ot_stmt_get(
        txn, "SELECT incarnation, seq FROM row_key WHERE deployment = ?1 AND key = ?2", &s, err));
    OT_TRY(ot_bind_text(s, 1, deployment, err));
    OT_TRY(ot_bind_text(s, 2, key, err));
    OT_TRY(ot_stmt_step(s, "find a key", &row, err));
    if (!row) {
        return ot_fail(err, OT_NOT_FOUND, "no row of %s carried the key '%.80s'", deployment, key);
    }
    *incarnation_out = (uint64_t)ot_col_i64(s, 0);
    *seq_out = (uint64_t)ot_col_i64(s, 1);
    return OT_OK;
}

ot_rc ot_row_keys_expire(ot_txn *txn, const char *deployment, int64_t before_us, uint32_t limit,
                         ot_error *err)
{
    OT_TRY(ot_txn_need_write(txn, "delete old keys", err));
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "DELETE FROM row_key WHERE (deployment, key) IN (SELECT deployment, key FROM"
                       " row_key WHERE deployment = ?1 AND time_us < ?2 ORDER BY time_us LIMIT ?3)",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, deployment, err));
    OT_TRY(ot_bind_i64(s, 2, before_us, err));
    OT_TRY(ot_bind_i64(s, 3, limit, err));
    return ot_stmt_run(s, "delete old keys", err);
}
