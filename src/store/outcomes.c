#include "store/outcomes.h"

#include "store/internal.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static ot_rc bind_row(sqlite3_stmt *s, const char *deployment, uint64_t incarnation, uint64_t seq,
                      ot_error *err)
{
    OT_TRY(ot_bind_text(s, 1, deployment, err));
    OT_TRY(ot_bind_i64(s, 2, (int64_t)incarnation, err));
    return ot_bind_i64(s, 3, (int64_t)seq, err);
}

/* ---- labels */

static ot_rc known_value(ot_txn *txn, const char *deployment, const ot_label_row *r, bool *known,
                         double *value, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "SELECT value FROM label WHERE deployment = ?1 AND incarnation = ?2"
                       " AND seq = ?3",
                       &s, err));
    OT_TRY(bind_row(s, deployment, r->incarnation, r->seq, err));
    OT_TRY(ot_stmt_step(s, "find a label", known, err));
    *value = *known ? ot_col_f64(s, 0) : 0;
    return OT_OK;
}

static ot_rc insert_label(ot_txn *txn, const char *deployment, const ot_label_row *r, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "INSERT INTO label (deployment, incarnation, seq, value, source, time_us,"
                       " received_us, joined) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0)"
                       " ON CONFLICT (deployment, incarnation, seq) DO UPDATE SET"
                       " value = excluded.value, source = excluded.source,"
                       " time_us = excluded.time_us",
                       &s, err));
    OT_TRY(bind_row(s, deployment, r->incarnation, r->seq, err));
    OT_TRY(ot_bind_f64(s, 4, r->value, err));
    OT_TRY(ot_bind_text(s, 5, r->source, err));
    OT_TRY(ot_bind_i64(s, 6, r->time_us, err));
    OT_TRY(ot_bind_i64(s, 7, r->received_us, err));
    return ot_stmt_run(s, "add a label", err);
}

ot_rc ot_label_set(ot_txn *txn, const char *deployment, const ot_label_row *r, ot_label_put *out,
                   ot_error *err)
{
    bool known = false;
    double value = 0;
    OT_TRY(ot_txn_need_write(txn, "add a label", err));
    if (r->seq > INT64_MAX || !isfinite(r->value)) {
        return ot_fail(err, OT_RANGE, "label: row number %" PRIu64 " with value %g is not one",
                       r->seq, r->value);
    }
    OT_TRY(known_value(txn, deployment, r, &known, &value, err));
    if (known && value == r->value) {
        *out = OT_LABEL_SAME;
        return OT_OK;
    }
    OT_TRY(insert_label(txn, deployment, r, err));
    *out = known ? OT_LABEL_CORRECTED : OT_LABEL_NEW;
    return OT_OK;
}

ot_rc ot_label_set_joined(ot_txn *txn, const char *deployment, uint64_t incarnation, uint64_t seq,
                          ot_error *err)
{
    OT_TRY(ot_txn_need_write(txn, "join a label", err));
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "UPDATE label SET joined = 1 WHERE deployment = ?1 AND incarnation = ?2"
                       " AND seq = ?3",
                       &s, err));
    OT_TRY(bind_row(s, deployment, incarnation, seq, err));
    return ot_stmt_run(s, "join a label", err);
}

ot_rc ot_labels_over(ot_txn *txn, const char *deployment, uint64_t incarnation, uint64_t first,
                     uint64_t last, ot_label_fn *fn, void *arg, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "SELECT seq, value, source, time_us, received_us, joined FROM label WHERE"
                       " deployment = ?1 AND incarnation = ?2 AND seq BETWEEN ?3 AND ?4"
                       " ORDER BY seq",
                       &s, err));
    OT_TRY(bind_row(s, deployment, incarnation, first, err));
    OT_TRY(ot_bind_i64(s, 4, (int64_t)last, err));
    for (;;) {
        bool row;
        OT_TRY(ot_stmt_step(s, "read labels", &row, err));
        if (!row) {
            return OT_OK;
        }
        ot_label_row r = {.incarnation = incarnation,
                          .seq = (uint64_t)ot_col_i64(s, 0),
                          .value = ot_col_f64(s, 1),
                          .source = ot_col_text(s, 2),
                          .time_us = ot_col_i64(s, 3),
                          .received_us = ot_col_i64(s, 4),
                          .joined = ot_col_i64(s, 5) != 0};
        OT_TRY(fn(arg, &r, err));
    }
}

ot_rc ot_labels_received(ot_txn *txn, const char *deployment, ot_label_fn *fn, void *arg,
                         ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "SELECT incarnation, seq, value, source, time_us, received_us, joined"
                       " FROM label WHERE deployment = ?1 ORDER BY received_us, incarnation, seq",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, deployment, err));
    for (;;) {
        bool row;
        OT_TRY(ot_stmt_step(s, "read labels", &row, err));
        if (!row) {
            return OT_OK;
        }
        ot_label_row r = {.incarnation = (uint64_t)ot_col_i64(s, 0),
                          .seq = (uint64_t)ot_col_i64(s, 1),
                          .value = ot_col_f64(s, 2),
                          .source = ot_col_text(s, 3),
                          .time_us = ot_col_i64(s, 4),
                          .received_us = ot_col_i64(s, 5),
                          .joined = ot_col_i64(s, 6) != 0};
        OT_TRY(fn(arg, &r, err));
    }
}

ot_rc ot_labels_waiting(ot_txn *txn, const char *deployment, int64_t from_us, int64_t *n_out,
                        ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    bool row;
    OT_TRY(ot_stmt_get(txn,
                       "SELECT count(*) FROM label WHERE deployment = ?1 AND received_us >= ?2"
                       " AND joined = 0",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, deployment, err));
    OT_TRY(ot_bind_i64(s, 2, from_us, err));
    OT_TRY(ot_stmt_step(s, "count waiting labels", &row, err));
    *n_out = row ? ot_col_i64(s, 0) : 0;
    return OT_OK;
}

ot_rc ot_labels_last(ot_txn *txn, const char *deployment, int64_t *us_out, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    bool row;
    OT_TRY(ot_stmt_get(txn, "SELECT max(received_us) FROM label WHERE deployment = ?1", &s, err));
    OT_TRY(ot_bind_text(s, 1, deployment, err));
    OT_TRY(ot_stmt_step(s, "find the newest label", &row, err));
    *us_out = row ? ot_col_i64(s, 0) : 0; /* NULL is 0 */
    return OT_OK;
}

ot_rc ot_incarnation_known(ot_txn *txn, const char *deployment, uint64_t incarnation,
                           bool *known_out, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "SELECT 1 FROM push_note WHERE deployment = ?1 AND incarnation = ?2 LIMIT 1",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, deployment, err));
    OT_TRY(ot_bind_i64(s, 2, (int64_t)incarnation, err));
    return ot_stmt_step(s, "find an incarnation", known_out, err);
}

/* ---- outcomes */

/* SQLite has no NaN: it is NULL there. */
static ot_rc bind_value(sqlite3_stmt *s, int i, double x, ot_error *err)
{
    return isnan(x) ? ot_bind_null(s, i, err) : ot_bind_f64(s, i, x, err);
}

ot_rc ot_outcome_add(ot_txn *txn, const char *deployment, const ot_outcome_row *r, bool *added_out,
                     ot_error *err)
{
    OT_TRY(ot_txn_need_write(txn, "add an outcome", err));
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "INSERT INTO outcome (deployment, incarnation, seq, version, shadow, right,"
                       " prediction, label, time_us, probability, joined_us)"
                       " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
                       " ON CONFLICT (deployment, incarnation, seq, version) DO NOTHING",
                       &s, err));
    OT_TRY(bind_row(s, deployment, r->incarnation, r->seq, err));
    OT_TRY(ot_bind_i64(s, 4, r->version, err));
    OT_TRY(ot_bind_i64(s, 5, r->shadow, err));
    OT_TRY(r->right < 0 ? ot_bind_null(s, 6, err) : ot_bind_i64(s, 6, r->right, err));
    OT_TRY(bind_value(s, 7, r->prediction, err));
    OT_TRY(ot_bind_f64(s, 8, r->label, err));
    OT_TRY(ot_bind_i64(s, 9, r->time_us, err));
    OT_TRY(ot_bind_f64(s, 10, r->probability, err));
    OT_TRY(ot_bind_i64(s, 11, r->joined_us, err));
    OT_TRY(ot_stmt_run(s, "add an outcome", err));
    *added_out = ot_txn_changes(txn) > 0;
    return OT_OK;
}

ot_rc ot_outcomes_relabel(ot_txn *txn, const char *deployment, uint64_t incarnation, uint64_t seq,
                          double label, ot_error *err)
{
    OT_TRY(ot_txn_need_write(txn, "correct an outcome", err));
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "UPDATE outcome SET label = ?4, right = CASE WHEN right IS NULL THEN NULL"
                       " ELSE coalesce(prediction = ?4, 0) END WHERE deployment = ?1 AND"
                       " incarnation = ?2 AND seq = ?3",
                       &s, err));
    OT_TRY(bind_row(s, deployment, incarnation, seq, err));
    OT_TRY(ot_bind_f64(s, 4, label, err));
    return ot_stmt_run(s, "correct an outcome", err);
}

#define OUTCOME_COLUMNS                                                                            \
    "SELECT incarnation, seq, version, shadow, right, prediction, label, time_us, probability,"    \
    " joined_us FROM outcome "

static ot_outcome_row outcome_of(sqlite3_stmt *s)
{
    return (ot_outcome_row){
        .incarnation = (uint64_t)ot_col_i64(s, 0),
        .seq = (uint64_t)ot_col_i64(s, 1),
        .version = ot_col_i64(s, 2),
        .shadow = ot_col_i64(s, 3) != 0,
        .right = ot_col_is_null(s, 4) ? -1 : (int)ot_col_i64(s, 4),
        .prediction = ot_col_is_null(s, 5) ? (double)NAN : ot_col_f64(s, 5),
        .label = ot_col_f64(s, 6),
        .time_us = ot_col_i64(s, 7),
        .probability = ot_col_f64(s, 8),
        .joined_us = ot_col_i64(s, 9),
    };
}

static ot_rc each_outcome(sqlite3_stmt *s, ot_outcome_fn *fn, void *arg, ot_error *err)
{
    for (;;) {
        bool row;
        OT_TRY(ot_stmt_step(s, "read outcomes", &row, err));
        if (!row) {
            return OT_OK;
        }
        ot_outcome_row r = outcome_of(s);
        OT_TRY(fn(arg, &r, err));
    }
}

/* Incarnations are compared as SQLite keeps them, as signed numbers: an order like another. */
ot_rc ot_outcomes_after(ot_txn *txn, const char *deployment, const ot_outcome_row *after,
                        int64_t limit, ot_outcome_fn *fn, void *arg, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       OUTCOME_COLUMNS "WHERE deployment = ?1"
                                       " AND (incarnation, seq, version) > (?2, ?3, ?4)"
                                       " ORDER BY incarnation, seq, version LIMIT ?5",
                       &s, err));
    OT_TRY(bind_row(s, deployment, after->incarnation, after->seq, err));
    OT_TRY(ot_bind_i64(s, 4, after->version, err));
    OT_TRY(ot_bind_i64(s, 5, limit, err));
    return each_outcome(s, fn, arg, err);
}

ot_rc ot_outcome_get(ot_txn *txn, const char *deployment, uint64_t incarnation, uint64_t seq,
                     int64_t version, ot_outcome_row *out, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    bool row;
    OT_TRY(ot_stmt_get(txn,
                       OUTCOME_COLUMNS "WHERE deployment = ?1 AND incarnation = ?2 AND seq = ?3"
                                       " AND version = ?4",
                       &s, err));
    OT_TRY(bind_row(s, deployment, incarnation, seq, err));
    OT_TRY(ot_bind_i64(s, 4, version, err));
    OT_TRY(ot_stmt_step(s, "find an outcome", &row, err));
    if (!row) {
        return ot_fail(err, OT_NOT_FOUND, "v%" PRId64 " has no outcome of that row", version);
    }
    *out = outcome_of(s);
    return OT_OK;
}

ot_rc ot_outcome_live(ot_txn *txn, const char *deployment, uint64_t incarnation, uint64_t seq,
                      ot_outcome_row *out, bool *found_out, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    bool row;
    OT_TRY(ot_stmt_get(txn,
                       OUTCOME_COLUMNS "WHERE deployment = ?1 AND incarnation = ?2 AND seq = ?3"
                                       " AND shadow = 0 LIMIT 1",
                       &s, err));
    OT_TRY(bind_row(s, deployment, incarnation, seq, err));
    OT_TRY(ot_stmt_step(s, "find an outcome", &row, err));
    if (row) {
        *out = outcome_of(s);
    }
    *found_out = row;
    return OT_OK;
}

ot_rc ot_outcomes_of_version(ot_txn *txn, const char *deployment, int64_t version, int64_t from_us,
                             int64_t to_us, int64_t limit, ot_outcome_fn *fn, void *arg,
                             ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       OUTCOME_COLUMNS "WHERE deployment = ?1 AND version = ?2 AND time_us >= ?3"
                                       " AND time_us < ?4 ORDER BY time_us DESC LIMIT ?5",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, deployment, err));
    OT_TRY(ot_bind_i64(s, 2, version, err));
    OT_TRY(ot_bind_i64(s, 3, from_us, err));
    OT_TRY(ot_bind_i64(s, 4, to_us, err));
    OT_TRY(ot_bind_i64(s, 5, limit, err));
    return each_outcome(s, fn, arg, err);
}

ot_rc ot_outcomes_wrong(ot_txn *txn, const char *deployment, int64_t version, int64_t from_us,
                        int64_t to_us, int64_t limit, uint8_t *wrong_out, int64_t *n_out,
                        ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    int64_t n = 0;
    OT_TRY(ot_stmt_get(txn,
                       "SELECT right FROM outcome WHERE deployment = ?1 AND version = ?2 AND"
                       " time_us >= ?3 AND time_us < ?4 AND right IS NOT NULL"
                       " ORDER BY time_us DESC, incarnation DESC, seq DESC LIMIT ?5",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, deployment, err));
    OT_TRY(ot_bind_i64(s, 2, version, err));
    OT_TRY(ot_bind_i64(s, 3, from_us, err));
    OT_TRY(ot_bind_i64(s, 4, to_us, err));
    OT_TRY(ot_bind_i64(s, 5, limit, err));
    while (n < limit) {
        bool row;
        OT_TRY(ot_stmt_step(s, "read answers that were judged", &row, err));
        if (!row) {
            break;
        }
        wrong_out[n++] = ot_col_i64(s, 0) == 0;
    }
    *n_out = n;
    return OT_OK;
}

ot_rc ot_outcome_nth(ot_txn *txn, const char *deployment, int64_t version, int64_t nth,
                     int64_t *us_out, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    bool row;
    OT_TRY(ot_stmt_get(txn,
                       "SELECT min(time_us) FROM (SELECT time_us FROM outcome WHERE"
                       " deployment = ?1 AND version = ?2 ORDER BY time_us DESC LIMIT ?3)",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, deployment, err));
    OT_TRY(ot_bind_i64(s, 2, version, err));
    OT_TRY(ot_bind_i64(s, 3, nth, err));
    OT_TRY(ot_stmt_step(s, "find when outcomes began", &row, err));
    *us_out = row ? ot_col_i64(s, 0) : 0; /* NULL is 0 */
    return OT_OK;
}

ot_rc ot_outcomes_live(ot_txn *txn, const char *deployment, int64_t from_us, int64_t limit,
                       ot_outcome_fn *fn, void *arg, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       OUTCOME_COLUMNS "WHERE deployment = ?1 AND shadow = 0 AND time_us >= ?2"
                                       " ORDER BY time_us DESC LIMIT ?3",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, deployment, err));
    OT_TRY(ot_bind_i64(s, 2, from_us, err));
    OT_TRY(ot_bind_i64(s, 3, limit, err));
    return each_outcome(s, fn, arg, err);
}

ot_rc ot_outcome_buckets(ot_txn *txn, const char *deployment, int64_t version, int64_t from_us,
                         int64_t to_us, int64_t bucket_us, ot_outcome_bucket_fn *fn, void *arg,
                         ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    if (bucket_us < 1) {
        return ot_fail(err, OT_INVALID, "outcomes: buckets of %" PRId64 " us", bucket_us);
    }
    OT_TRY(ot_stmt_get(txn,
                       "SELECT (time_us - ?2) / ?4, shadow, count(*), sum(right)"
                       " FROM outcome INDEXED BY outcome_version WHERE deployment = ?1"
                       " AND version = ?5 AND time_us >= ?2 AND time_us < ?3"
                       " AND right IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, deployment, err));
    OT_TRY(ot_bind_i64(s, 2, from_us, err));
    OT_TRY(ot_bind_i64(s, 3, to_us, err));
    OT_TRY(ot_bind_i64(s, 4, bucket_us, err));
    OT_TRY(ot_bind_i64(s, 5, version, err));
    for (;;) {
        bool row;
        OT_TRY(ot_stmt_step(s, "count outcomes", &row, err));
        if (!row) {
            return OT_OK;
        }
        ot_outcome_bucket b = {.bucket = ot_col_i64(s, 0),
                               .shadow = ot_col_i64(s, 1) != 0,
                               .labelled = ot_col_i64(s, 2),
                               .right = ot_col_i64(s, 3)};
        OT_TRY(fn(arg, &b, err));
    }
}

/* One step in the index from each version to the next: grouping would read every outcome. */
ot_rc ot_outcome_versions(ot_txn *txn, const char *deployment, int64_t from_us,
                          ot_outcome_version_fn *fn, void *arg, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "WITH RECURSIVE v (x) AS (SELECT min(version) FROM outcome WHERE"
                       " deployment = ?1 UNION ALL SELECT (SELECT min(version) FROM outcome WHERE"
                       " deployment = ?1 AND version > v.x) FROM v WHERE v.x IS NOT NULL)"
                       " SELECT x, NOT EXISTS (SELECT 1 FROM outcome INDEXED BY outcome_version"
                       " WHERE deployment = ?1 AND version = x AND time_us >= ?2 AND shadow = 0)"
                       " FROM v WHERE x IS NOT NULL AND EXISTS (SELECT 1 FROM outcome INDEXED BY"
                       " outcome_version WHERE deployment = ?1 AND version = x AND time_us >= ?2)"
                       " ORDER BY x",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, deployment, err));
    OT_TRY(ot_bind_i64(s, 2, from_us, err));
    for (;;) {
        bool row;
        OT_TRY(ot_stmt_step(s, "list versions with outcomes", &row, err));
        if (!row) {
            return OT_OK;
        }
        OT_TRY(fn(arg, ot_col_i64(s, 0), ot_col_i64(s, 1) != 0, err));
    }
}

ot_rc ot_outcomes_pairs(ot_txn *txn, const char *deployment, int64_t candidate, int64_t champion,
                        int64_t from_us, ot_pair_counts *all_out, ot_pair_counts *arm_out,
                        ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    ot_pair_counts all = {0}, arm = {0};
    OT_TRY(ot_stmt_get(txn,
                       "SELECT a.shadow, count(*), coalesce(sum(a.right), 0),"
                       " coalesce(sum(b.right), 0), coalesce(sum(a.right > b.right), 0),"
                       " coalesce(sum(b.right > a.right), 0)"
                       " FROM outcome a JOIN outcome b ON b.deployment = a.deployment AND"
                       " b.incarnation = a.incarnation AND b.seq = a.seq AND b.version = ?3"
                       " WHERE a.deployment = ?1 AND a.version = ?2 AND a.time_us >= ?4"
                       " AND a.right IS NOT NULL AND b.right IS NOT NULL GROUP BY a.shadow",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, deployment, err));
    OT_TRY(ot_bind_i64(s, 2, candidate, err));
    OT_TRY(ot_bind_i64(s, 3, champion, err));
    OT_TRY(ot_bind_i64(s, 4, from_us, err));
    for (;;) {
        bool row;
        OT_TRY(ot_stmt_step(s, "count pairs", &row, err));
        if (!row) {
            break;
        }
        ot_pair_counts c = {.n = ot_col_i64(s, 1),
                            .candidate_right = ot_col_i64(s, 2),
                            .champion_right = ot_col_i64(s, 3),
                            .only_candidate = ot_col_i64(s, 4),
                            .only_champion = ot_col_i64(s, 5)};
        if (ot_col_i64(s, 0) == 0) {
            arm = c;
        }
        all.n += c.n;
        all.candidate_right += c.candidate_right;
        all.champion_right += c.champion_right;
        all.only_candidate += c.only_candidate;
        all.only_champion += c.only_champion;
    }
    *all_out = all;
    *arm_out = arm;
    return OT_OK;
}

static ot_rc expire(ot_txn *txn, const char *sql, const char *deployment, int64_t before_us,
                    uint32_t limit, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn, sql, &s, err));
    OT_TRY(ot_bind_text(s, 1, deployment, err));
    OT_TRY(ot_bind_i64(s, 2, before_us, err));
    OT_TRY(ot_bind_i64(s, 3, limit, err));
    return ot_stmt_run(s, "delete old labels", err);
}

ot_rc ot_outcomes_expire(ot_txn *txn, const char *deployment, int64_t before_us, uint32_t limit,
                         ot_error *err)
{
    OT_TRY(ot_txn_need_write(txn, "delete old labels", err));
    OT_TRY(expire(txn,
                  "DELETE FROM label WHERE (deployment, incarnation, seq) IN (SELECT deployment,"
                  " incarnation, seq FROM label WHERE deployment = ?1 AND received_us < ?2"
                  " ORDER BY received_us LIMIT ?3)",
                  deployment, before_us, limit, err));
    return expire(txn,
                  "DELETE FROM outcome WHERE (deployment, incarnation, seq, version) IN (SELECT"
                  " deployment, incarnation, seq, version FROM outcome WHERE deployment = ?1 AND"
                  " shadow IN (0, 1) AND time_us < ?2 LIMIT ?3)",
                  deployment, before_us, limit, err);
}
