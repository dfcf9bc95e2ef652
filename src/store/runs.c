#include "store/runs.h"

#include "store/internal.h"

#include <inttypes.h>
#include <string.h>

#define LIST_MAX 1000
#define JSON_MAX (1u << 20)

static const char *const state_names[] = {"queued", "running",   "succeeded",
                                          "failed", "cancelled", "lost"};

const char *ot_run_state_name(ot_run_state s)
{
    return (size_t)s < OT_COUNT(state_names) ? state_names[s] : "unknown";
}

ot_rc ot_run_state_parse(const char *s, ot_run_state *out, ot_error *err)
{
    for (size_t i = 0; i < OT_COUNT(state_names); i++) {
        if (strcmp(s, state_names[i]) == 0) {
            *out = (ot_run_state)i;
            return OT_OK;
        }
    }
    return ot_fail(err, OT_INVALID,
                   "'%.40s' is not a state of a run; queued, running, succeeded, failed, cancelled "
                   "and lost are",
                   s);
}

static ot_rc check(const ot_run *r, ot_error *err)
{
    if ((size_t)r->state >= OT_COUNT(state_names)) {
        return ot_fail(err, OT_INVALID, "run: its state %d is not known", (int)r->state);
    }
    if (r->result != NULL && strlen(r->result) > JSON_MAX) {
        return ot_fail(err, OT_INVALID, "run: its result has more than %u bytes", JSON_MAX);
    }
    return OT_OK;
}

static ot_rc check_new(const ot_run *r, ot_error *err)
{
    if (!ot_name_ok(r->app) || !ot_name_ok(r->step)) {
        return ot_fail(err, OT_INVALID,
                       "run of app '%.80s', step '%.80s': names are 1 to 64 characters of A-Z a-z "
                       "0-9 . _ -, not starting with '.' or '-'",
                       r->app, r->step);
    }
    if (r->spec == NULL || strlen(r->spec) > JSON_MAX) {
        return ot_fail(err, OT_INVALID,
                       "run of app '%s': its spec is missing or has more than %u "
                       "bytes",
                       r->app, JSON_MAX);
    }
    return check(r, err);
}

ot_rc ot_store_run_insert(ot_txn *txn, const ot_run *run, int64_t *id_out, ot_error *err)
{
    OT_TRY(ot_txn_need_write(txn, "add run", err));
    OT_TRY(check_new(run, err));
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "INSERT INTO run (app, step, state, attempt, spec, result, created_us,"
                       " started_us, ended_us, parent, trigger_seq)"
                       " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, run->app, err));
    OT_TRY(ot_bind_text(s, 2, run->step, err));
    OT_TRY(ot_bind_i64(s, 3, run->state, err));
    OT_TRY(ot_bind_i64(s, 4, run->attempt, err));
    OT_TRY(ot_bind_text(s, 5, run->spec, err));
    OT_TRY(ot_bind_text(s, 6, run->result, err));
    OT_TRY(ot_bind_i64(s, 7, run->created_us, err));
    OT_TRY(ot_bind_i64(s, 8, run->started_us, err));
    OT_TRY(ot_bind_i64(s, 9, run->ended_us, err));
    OT_TRY(ot_bind_i64(s, 10, run->parent, err));
    OT_TRY(ot_bind_i64(s, 11, (int64_t)run->trigger_seq, err));
    OT_TRY(ot_stmt_run(s, "add run", err));
    *id_out = ot_txn_last_id(txn);
    return OT_OK;
}

ot_rc ot_store_run_update(ot_txn *txn, const ot_run *run, ot_error *err)
{
    OT_TRY(ot_txn_need_write(txn, "change run", err));
    OT_TRY(check(run, err));
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "UPDATE run SET state = ?2, attempt = ?3, result = ?4, started_us = ?5,"
                       " ended_us = ?6 WHERE id = ?1",
                       &s, err));
    OT_TRY(ot_bind_i64(s, 1, run->id, err));
    OT_TRY(ot_bind_i64(s, 2, run->state, err));
    OT_TRY(ot_bind_i64(s, 3, run->attempt, err));
    OT_TRY(ot_bind_text(s, 4, run->result, err));
    OT_TRY(ot_bind_i64(s, 5, run->started_us, err));
    OT_TRY(ot_bind_i64(s, 6, run->ended_us, err));
    OT_TRY(ot_stmt_run(s, "change run", err));
    if (ot_txn_changes(txn) == 0) {
        return ot_fail(err, OT_NOT_FOUND, "run %" PRId64 ": not found", run->id);
    }
    return OT_OK;
}

#define RUN_COLUMNS                                                                                \
    "SELECT id, app, step, state, attempt, spec, result, created_us, started_us, ended_us,"        \
    " parent, trigger_seq FROM run "

static ot_rc run_of(sqlite3_stmt *s, ot_arena *arena, ot_run *r, ot_error *err)
{
    const char *result = ot_col_text_or_null(s, 6);
    *r = (ot_run){
        .id = ot_col_i64(s, 0),
        .app = ot_arena_strdup(arena, ot_col_text(s, 1)),
        .step = ot_arena_strdup(arena, ot_col_text(s, 2)),
        .state = (ot_run_state)ot_col_i64(s, 3),
        .attempt = (uint32_t)ot_col_i64(s, 4),
        .spec = ot_arena_strdup(arena, ot_col_text(s, 5)),
        .result = result != NULL ? ot_arena_strdup(arena, result) : NULL,
        .created_us = ot_col_i64(s, 7),
        .started_us = ot_col_i64(s, 8),
        .ended_us = ot_col_i64(s, 9),
        .parent = ot_col_i64(s, 10),
        .trigger_seq = (uint64_t)ot_col_i64(s, 11),
    };
    if (r->app == NULL || r->step == NULL || r->spec == NULL ||
        (result != NULL && r->result == NULL)) {
        return ot_fail(err, OT_EXHAUSTED, "run %" PRId64 ": no room to read it", r->id);
    }
    return OT_OK;
}

ot_rc ot_store_run_get(ot_txn *txn, int64_t id, ot_arena *arena, ot_run *run_out, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    bool row;
    ot_run r;
    OT_TRY(ot_stmt_get(txn, RUN_COLUMNS "WHERE id = ?1", &s, err));
    OT_TRY(ot_bind_i64(s, 1, id, err));
    OT_TRY(ot_stmt_step(s, "read run", &row, err));
    if (!row) {
        return ot_fail(err, OT_NOT_FOUND, "run %" PRId64 ": not found", id);
    }
    OT_TRY(run_of(s, arena, &r, err));
    *run_out = r;
    return OT_OK;
}

ot_rc ot_store_run_first(ot_txn *txn, int64_t id, int64_t *first_out, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    bool row;
    OT_TRY(ot_stmt_get(txn,
                       "WITH RECURSIVE line (id, parent) AS ("
                       " SELECT id, parent FROM run WHERE id = ?1"
                       " UNION SELECT r.id, r.parent FROM line l JOIN run r ON r.id = l.parent)"
                       " SELECT coalesce(min(id), 0) FROM line",
                       &s, err));
    OT_TRY(ot_bind_i64(s, 1, id, err));
    OT_TRY(ot_stmt_step(s, "read run", &row, err));
    int64_t first = row ? ot_col_i64(s, 0) : 0;
    if (first == 0) {
        return ot_fail(err, OT_NOT_FOUND, "run %" PRId64 ": not found", id);
    }
    *first_out = first;
    return OT_OK;
}

/* One text a combination, so that each walks the index that suits it. */
static const char *list_sql(const ot_run_filter *f)
{
    if (f->state >= 0) {
        return RUN_COLUMNS "WHERE id < ?1 AND state = ?2 AND (?3 IS NULL OR app = ?3)"
                           " AND (?4 IS NULL OR step = ?4) ORDER BY id DESC LIMIT ?5";
    }
    if (f->app != NULL) {
        return RUN_COLUMNS "WHERE id < ?1 AND ?2 = -1 AND app = ?3"
                           " AND (?4 IS NULL OR step = ?4) ORDER BY id DESC LIMIT ?5";
    }
    return RUN_COLUMNS "WHERE id < ?1 AND ?2 = -1 AND ?3 IS NULL"
                       " AND (?4 IS NULL OR step = ?4) ORDER BY id DESC LIMIT ?5";
}

ot_rc ot_store_run_list(ot_txn *txn, const ot_run_filter *filter, ot_arena *arena,
                        ot_run **runs_out, size_t *n_out, ot_error *err)
{
    size_t limit = filter->limit;
    if (limit == 0 || limit > LIST_MAX) {
        return ot_fail(err, OT_INVALID, "list runs: limit %zu; 1 to %d are allowed", limit,
                       LIST_MAX);
    }
    ot_run *runs = ot_arena_calloc(arena, limit, sizeof *runs);
    if (runs == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "list runs: no room for %zu", limit);
    }
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn, list_sql(filter), &s, err));
    OT_TRY(ot_bind_i64(s, 1, filter->before_id > 0 ? filter->before_id : INT64_MAX, err));
    OT_TRY(ot_bind_i64(s, 2, filter->state >= 0 ? filter->state : -1, err));
    OT_TRY(ot_bind_text(s, 3, filter->app, err));
    OT_TRY(ot_bind_text(s, 4, filter->step, err));
    OT_TRY(ot_bind_i64(s, 5, (int64_t)limit, err));
    size_t n = 0;
    for (bool row = true; n < limit;) {
        OT_TRY(ot_stmt_step(s, "list runs", &row, err));
        if (!row) {
            break;
        }
        OT_TRY(run_of(s, arena, &runs[n++], err));
    }
    *runs_out = runs;
    *n_out = n;
    return OT_OK;
}

ot_rc ot_store_run_counts(ot_txn *txn, int64_t counts_out[OT_RUN_STATE_COUNT_], ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    int64_t counts[OT_RUN_STATE_COUNT_] = {0};
    OT_TRY(ot_stmt_get(txn, "SELECT state, count(*) FROM run GROUP BY state", &s, err));
    for (bool row = true;;) {
        OT_TRY(ot_stmt_step(s, "count runs", &row, err));
        if (!row) {
            break;
        }
        int64_t state = ot_col_i64(s, 0);
        if (state >= 0 && state < OT_RUN_STATE_COUNT_) {
            counts[state] = ot_col_i64(s, 1);
        }
    }
    memcpy(counts_out, counts, sizeof counts);
    return OT_OK;
}

ot_rc ot_store_run_since(ot_txn *txn, const char *step, int64_t since_us, int64_t limit,
                         int64_t *n_out, int64_t *oldest_us_out, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    bool row;
    OT_TRY(ot_stmt_get(txn,
                       "SELECT count(*), coalesce(min(created_us), 0) FROM (SELECT created_us FROM "
                       "run WHERE step = ?1 ORDER BY id DESC LIMIT ?3) WHERE created_us > ?2",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, step, err));
    OT_TRY(ot_bind_i64(s, 2, since_us, err));
    OT_TRY(ot_bind_i64(s, 3, limit, err));
    OT_TRY(ot_stmt_step(s, "count runs", &row, err));
    *n_out = ot_col_i64(s, 0);
    *oldest_us_out = ot_col_i64(s, 1);
    return OT_OK;
}
