/* Queries on the event log, and its verification. */
#include "store/events.h"

#include "store/events_internal.h"
#include "store/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define COLUMNS                                                                                    \
    "e.seq, e.time_us, e.actor, e.role, e.scope, e.type, e.object, e.prev, e.hash,"                \
    " e.payload_hash, e.payload"

/* False: a digest column is not 32 bytes long. */
static bool event_of_row(sqlite3_stmt *s, ot_event *e)
{
    *e = (ot_event){
        .seq = (uint64_t)ot_col_i64(s, 0),
        .time_us = ot_col_i64(s, 1),
        .actor = ot_col_text(s, 2),
        .role = ot_col_text(s, 3),
        .scope = ot_col_text(s, 4),
        .type = ot_col_text(s, 5),
        .object = ot_col_text(s, 6),
        .payload = ot_col_text_or_null(s, 10),
    };
    bool prev = ot_col_digest(s, 7, &e->prev);
    bool hash = ot_col_digest(s, 8, &e->hash);
    return ot_col_digest(s, 9, &e->payload_hash) && prev && hash;
}

/* The time of the first event with seq >= `seq`. */
static ot_rc time_at(sqlite3_stmt *s, int64_t seq, bool *found, int64_t *seq_found,
                     int64_t *time_us, ot_error *err)
{
    OT_TRY(ot_bind_i64(s, 1, seq, err));
    OT_TRY(ot_stmt_step(s, "read events", found, err));
    if (*found) {
        *seq_found = ot_col_i64(s, 0);
        *time_us = ot_col_i64(s, 1);
    }
    (void)sqlite3_reset(s);
    return OT_OK;
}

/* The smallest seq whose time is >= `time_us` (one past the last when there is none): time never
 * decreases along the log, so a time range is a seq range found by bisection. */
static ot_rc seq_of_time(ot_txn *txn, int64_t time_us, int64_t *seq_out, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    ot_event_head head;
    OT_TRY(ot_events_head(txn, &head, err));
    OT_TRY(ot_stmt_get(txn, "SELECT seq, time_us FROM event WHERE seq >= ?1 ORDER BY seq LIMIT 1",
                       &s, err));
    int64_t low = 1, high = (int64_t)head.seq + 1;
    while (low < high) {
        int64_t middle = low + (high - low) / 2, at = 0, t = 0;
        bool found;
        OT_TRY(time_at(s, middle, &found, &at, &t, err));
        if (found && t < time_us) {
            low = at + 1;
        } else {
            high = middle;
        }
    }
    *seq_out = low;
    return OT_OK;
}

/* Parameters: 1 and 2 the open seq range, 3 the limit, 4..5 type range, 6..7 object. */
static void add_filters(const ot_event_query *q, bool object, ot_str *sql)
{
    ot_str_adds(sql, " AND e.seq > ?1 AND e.seq < ?2");
    if (q->type_prefix != NULL) {
        ot_str_adds(sql, " AND e.type >= ?4 AND e.type < ?5");
    }
    if (object) {
        ot_str_adds(sql, q->object_prefix ? " AND e.object >= ?6 AND e.object < ?7"
                                          : " AND e.object = ?6");
    }
}

/* By object: what the index has, from it, and what came after, from the log. */
static ot_rc build(const ot_event_query *q, ot_str *sql, ot_error *err)
{
    if (q->object != NULL) {
        ot_str_adds(sql, "SELECT " COLUMNS " FROM event_object o CROSS JOIN event e"
                         " ON e.seq = o.seq WHERE ");
        ot_str_adds(sql, q->object_prefix ? "o.object >= ?6 AND o.object < ?7" : "o.object = ?6");
        ot_str_adds(sql, " AND o.seq > ?1 AND o.seq < ?2");
        add_filters(q, false, sql);
        ot_str_adds(sql, " UNION ALL ");
    }
    ot_str_adds(sql, "SELECT " COLUMNS " FROM event e WHERE ");
    ot_str_adds(sql, q->object != NULL ? "e.seq > (SELECT upto FROM event_indexed)" : "1");
    add_filters(q, q->object != NULL, sql);
    ot_str_adds(sql, q->newest_first ? " ORDER BY 1 DESC LIMIT ?3" : " ORDER BY 1 LIMIT ?3");
    return sql->failed ? ot_fail(err, OT_EXHAUSTED, "events: no memory for a query") : OT_OK;
}

/* prefix <= x < prefix + the largest code point: what starts with the prefix. */
static ot_rc bind_prefix(sqlite3_stmt *s, int i, const char *prefix, char *end, size_t cap,
                         ot_error *err)
{
    int n = snprintf(end, cap, "%s\xF4\x8F\xBF\xBF", prefix);
    if (n < 0 || (size_t)n >= cap) {
        return ot_fail(err, OT_INVALID, "events: prefix '%.40s...' is longer than %d bytes", prefix,
                       OT_EVENT_NAME_MAX);
    }
    OT_TRY(ot_bind_text(s, i, prefix, err));
    return ot_bind_text(s, i + 1, end, err);
}

ot_rc ot_events_read(ot_txn *txn, const ot_event_query *q, ot_event_fn *fn, void *arg,
                     ot_error *err)
{
    int64_t after = (int64_t)OT_MIN(q->after_seq, (uint64_t)INT64_MAX), before = INT64_MAX, seq;
    if (q->before_seq != 0 && q->before_seq < INT64_MAX) {
        before = (int64_t)q->before_seq;
    }
    if (q->from_time_us != 0) {
        OT_TRY(seq_of_time(txn, q->from_time_us, &seq, err));
        after = OT_MAX(after, seq - 1);
    }
    if (q->to_time_us != 0) {
        OT_TRY(seq_of_time(txn, q->to_time_us, &seq, err));
        before = OT_MIN(before, seq);
    }
    char type_end[OT_EVENT_NAME_MAX + 8], object_end[OT_EVENT_NAME_MAX + 8];
    OT_AUTO(ot_str_done) ot_str sql = OT_STR_INIT;
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(build(q, &sql, err));
    OT_TRY(ot_stmt_get(txn, sql.data, &s, err));
    OT_TRY(ot_bind_i64(s, 1, after, err));
    OT_TRY(ot_bind_i64(s, 2, before, err));
    OT_TRY(ot_bind_i64(s, 3, q->limit == 0 ? 100 : OT_MIN(q->limit, 10000u), err));
    if (q->type_prefix != NULL) {
        OT_TRY(bind_prefix(s, 4, q->type_prefix, type_end, sizeof type_end, err));
    }
    if (q->object != NULL && q->object_prefix) {
        OT_TRY(bind_prefix(s, 6, q->object, object_end, sizeof object_end, err));
    } else if (q->object != NULL) {
        OT_TRY(ot_bind_text(s, 6, q->object, err));
    }
    for (;;) {
        bool row;
        ot_event e;
        OT_TRY(ot_stmt_step(s, "read events", &row, err));
        if (!row) {
            return OT_OK;
        }
        if (!event_of_row(s, &e)) {
            return ot_fail(err, OT_DATA_LOSS, "event %" PRIu64 ": a digest in it is damaged",
                           e.seq);
        }
        OT_TRY(fn(arg, &e, err));
    }
}

struct get_arg {
    ot_event_fn *fn;
    void *arg;
    bool found;
};

static ot_rc get_one(void *arg, const ot_event *e, ot_error *err)
{
    struct get_arg *a = arg;
    a->found = true;
    return a->fn(a->arg, e, err);
}

ot_rc ot_event_get(ot_txn *txn, uint64_t seq, ot_event_fn *fn, void *arg, ot_error *err)
{
    struct get_arg a = {.fn = fn, .arg = arg};
    if (seq > 0 && seq < INT64_MAX) {
        ot_event_query q = {.after_seq = seq - 1, .before_seq = seq + 1, .limit = 1};
        OT_TRY(ot_events_read(txn, &q, get_one, &a, err));
    }
    return a.found ? OT_OK : ot_fail(err, OT_NOT_FOUND, "event %" PRIu64 ": there is none", seq);
}

const char *ot_event_fault_name(ot_event_fault f)
{
    static const char *const names[] = {"none",    "missing",   "edited",
                                        "payload", "rewritten", "truncated"};
    return (size_t)f < OT_COUNT(names) ? names[f] : "unknown";
}

static ot_rc fault(ot_events_verdict *v, uint64_t seq, ot_event_fault f, const char *why,
                   ot_error *err)
{
    v->bad_seq = seq;
    v->fault = f;
    snprintf(v->what, sizeof v->what, "event %" PRIu64 ": %s: %s", seq, ot_event_fault_name(f),
             why);
    return ot_fail(err, OT_DATA_LOSS, "%s", v->what);
}

/* Looks at one row after v->rows good ones. */
static ot_rc verify_row(ot_events_verdict *v, const ot_event_head *trusted, const ot_event *e,
                        bool whole, ot_error *err)
{
    uint64_t want = v->head.seq + 1;
    if (e->seq != want) {
        return fault(v, e->seq < want ? e->seq : want, OT_EVENT_FAULT_MISSING,
                     "there is no row with this number", err);
    }
    ot_digest hash = ot_event_hash(e);
    if (!whole || !ot_digest_equal(&hash, &e->hash)) {
        return fault(v, e->seq, OT_EVENT_FAULT_EDITED, "the row does not give its own hash", err);
    }
    if (e->payload != NULL) {
        ot_digest payload = ot_sha256_of(e->payload, strlen(e->payload));
        if (!ot_digest_equal(&payload, &e->payload_hash)) {
            return fault(v, e->seq, OT_EVENT_FAULT_PAYLOAD, "the payload does not give its digest",
                         err);
        }
    }
    if (!ot_digest_equal(&e->prev, &v->head.hash)) {
        uint64_t at = v->head.seq == 0 ? e->seq : v->head.seq;
        return fault(v, at, OT_EVENT_FAULT_REWRITTEN,
                     "the next row was made after another one than this", err);
    }
    v->rows++;
    v->erased += e->payload == NULL;
    v->head = (ot_event_head){.seq = e->seq, .hash = e->hash};
    if (trusted != NULL && trusted->seq == e->seq && !ot_digest_equal(&trusted->hash, &e->hash)) {
        return fault(v, e->seq, OT_EVENT_FAULT_REWRITTEN, "it is not what the kept head names",
                     err);
    }
    return OT_OK;
}

ot_rc ot_events_verify(ot_txn *txn, const ot_event_head *trusted, ot_events_verdict *verdict_out,
                       ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    ot_events_verdict v = {0};
    OT_TRY(ot_stmt_get(txn, "SELECT " COLUMNS " FROM event e ORDER BY e.seq", &s, err));
    for (;;) {
        bool row;
        ot_event e;
        OT_TRY(ot_stmt_step(s, "verify the event log", &row, err));
        if (!row) {
            break;
        }
        bool whole = event_of_row(s, &e);
        ot_rc rc = verify_row(&v, trusted, &e, whole, err);
        if (rc != OT_OK) {
            *verdict_out = v;
            return rc;
        }
    }
    ot_rc rc = OT_OK;
    if (trusted != NULL && trusted->seq > v.head.seq) {
        rc = fault(&v, v.head.seq + 1, OT_EVENT_FAULT_TRUNCATED,
                   "the log ends before the kept head", err);
    }
    *verdict_out = v;
    return rc;
}
