#include "store/tally.h"

#include "store/internal.h"

#include <inttypes.h>
#include <stdio.h>

#define HOUR_US INT64_C(3600000000)

char *ot_tally_latency(int64_t at_most_us, char out[48])
{
    snprintf(out, 48, "latency_p99/%" PRId64, at_most_us);
    return out;
}

static ot_rc add_row(ot_txn *txn, const char *deployment, const char *name, int64_t step_us,
                     int64_t time_us, const ot_tally_counts *add, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "INSERT INTO tally (deployment, name, step_us, start_us, events, bad, seen)"
                       " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"
                       " ON CONFLICT (deployment, name, step_us, start_us) DO UPDATE SET"
                       " events = events + excluded.events, bad = bad + excluded.bad,"
                       " seen = seen + excluded.seen",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, deployment, err));
    OT_TRY(ot_bind_text(s, 2, name, err));
    OT_TRY(ot_bind_i64(s, 3, step_us, err));
    OT_TRY(ot_bind_i64(s, 4, time_us - time_us % step_us, err));
    OT_TRY(ot_bind_f64(s, 5, add->events, err));
    OT_TRY(ot_bind_f64(s, 6, add->bad, err));
    OT_TRY(ot_bind_i64(s, 7, add->seen, err));
    return ot_stmt_run(s, "add to a tally", err);
}

ot_rc ot_tally_add(ot_txn *txn, const char *deployment, const char *name, int64_t time_us,
                   const ot_tally_counts *add, ot_error *err)
{
    OT_TRY(ot_txn_need_write(txn, "add to a tally", err));
    if (time_us < 0) {
        return ot_fail(err, OT_INVALID, "tally %s of %s: a time of %" PRId64 " us", name,
                       deployment, time_us);
    }
    OT_TRY(add_row(txn, deployment, name, OT_TALLY_STEP_US, time_us, add, err));
    return add_row(txn, deployment, name, HOUR_US, time_us, add, err);
}

static ot_rc sum_rows(ot_txn *txn, const char *deployment, const char *name, int64_t step_us,
                      int64_t from_us, int64_t to_us, ot_tally_counts *into, ot_error *err)
{
    if (from_us >= to_us) {
        return OT_OK;
    }
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    bool row;
    OT_TRY(ot_stmt_get(txn,
                       "SELECT total(events), total(bad), coalesce(sum(seen), 0) FROM tally WHERE"
                       " deployment = ?1 AND name = ?2 AND step_us = ?3 AND start_us >= ?4"
                       " AND start_us < ?5",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, deployment, err));
    OT_TRY(ot_bind_text(s, 2, name, err));
    OT_TRY(ot_bind_i64(s, 3, step_us, err));
    OT_TRY(ot_bind_i64(s, 4, from_us, err));
    OT_TRY(ot_bind_i64(s, 5, to_us, err));
    OT_TRY(ot_stmt_step(s, "sum a tally", &row, err));
    into->events += ot_col_f64(s, 0);
    into->bad += ot_col_f64(s, 1);
    into->seen += ot_col_i64(s, 2);
    return OT_OK;
}

/* Whole hours between, minutes at both ends. */
ot_rc ot_tally_sum(ot_txn *txn, const char *deployment, const char *name, int64_t from_us,
                   int64_t to_us, ot_tally_counts *out, ot_error *err)
{
    ot_tally_counts sum = {0};
    int64_t first = (OT_MAX(from_us, 0) + HOUR_US - 1) / HOUR_US * HOUR_US;
    int64_t last = OT_MAX(to_us, 0) / HOUR_US * HOUR_US;
    if (first >= last) {
        first = last = to_us;
    }
    OT_TRY(sum_rows(txn, deployment, name, OT_TALLY_STEP_US, from_us, first, &sum, err));
    OT_TRY(sum_rows(txn, deployment, name, HOUR_US, first, last, &sum, err));
    OT_TRY(sum_rows(txn, deployment, name, OT_TALLY_STEP_US, last, to_us, &sum, err));
    *out = sum;
    return OT_OK;
}

ot_rc ot_tally_range(ot_txn *txn, const char *deployment, const char *name, int64_t from_us,
                     int64_t *first_us_out, int64_t *last_us_out, ot_error *err)
{
    static const char *const ends[] = {"SELECT min(start_us) FROM tally WHERE deployment = ?1 AND"
                                       " name = ?2 AND step_us = ?3 AND start_us >= ?4",
                                       "SELECT max(start_us) FROM tally WHERE deployment = ?1 AND"
                                       " name = ?2 AND step_us = ?3 AND start_us >= ?4"};
    int64_t at[2];
    for (size_t i = 0; i < OT_COUNT(ends); i++) {
        OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
        bool row;
        OT_TRY(ot_stmt_get(txn, ends[i], &s, err));
        OT_TRY(ot_bind_text(s, 1, deployment, err));
        OT_TRY(ot_bind_text(s, 2, name, err));
        OT_TRY(ot_bind_i64(s, 3, OT_TALLY_STEP_US, err));
        OT_TRY(ot_bind_i64(s, 4, from_us, err));
        OT_TRY(ot_stmt_step(s, "find the ends of a tally", &row, err));
        at[i] = row ? ot_col_i64(s, 0) : 0; /* NULL is 0 */
    }
    *first_us_out = at[0];
    *last_us_out = at[1];
    return OT_OK;
}

ot_rc ot_tally_expire(ot_txn *txn, const char *deployment, int64_t before_us, uint32_t limit,
                      ot_error *err)
{
    OT_TRY(ot_txn_need_write(txn, "delete old tallies", err));
    if (limit == 0 || limit > OT_TALLY_EXPIRE_MAX) {
        return ot_fail(err, OT_INVALID, "delete old tallies: limit %u; 1 to %d are allowed", limit,
                       OT_TALLY_EXPIRE_MAX);
    }
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "DELETE FROM tally WHERE (deployment, name, step_us, start_us) IN (SELECT"
                       " deployment, name, step_us, start_us FROM tally WHERE deployment = ?1 AND"
                       " start_us < ?2 LIMIT ?3)",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, deployment, err));
    OT_TRY(ot_bind_i64(s, 2, before_us, err));
    OT_TRY(ot_bind_i64(s, 3, limit, err));
    return ot_stmt_run(s, "delete old tallies", err);
}
