#include "store/kv.h"

#include "store/internal.h"

#include <string.h>

static ot_rc check_name(const char *what, const char *z, ot_error *err)
{
    size_t n = z == NULL ? 0 : strlen(z);
    if (n == 0 || n > OT_KV_NAME_MAX) {
        return ot_fail(err, OT_INVALID, "kv: %s '%.40s' has %zu bytes; it needs 1 to %d", what,
                       n == 0 ? "" : z, n, OT_KV_NAME_MAX);
    }
    return OT_OK;
}

static ot_rc begin(ot_txn *txn, const char *sql, const char *scope, const char *key,
                   sqlite3_stmt **s, ot_error *err)
{
    OT_TRY(check_name("scope", scope, err));
    OT_TRY(check_name("key", key, err));
    OT_TRY(ot_stmt_get(txn, sql, s, err));
    OT_TRY(ot_bind_text(*s, 1, scope, err));
    return ot_bind_text(*s, 2, key, err);
}

ot_rc ot_kv_set(ot_txn *txn, const char *scope, const char *key, const void *value, size_t n,
                ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_txn_need_write(txn, "set a value", err));
    if (n > OT_KV_VALUE_MAX) {
        return ot_fail(err, OT_RANGE, "kv: %.80s/%.80s: value of %zu bytes; at most %u", scope, key,
                       n, OT_KV_VALUE_MAX);
    }
    OT_TRY(begin(txn,
                 "INSERT INTO kv(scope, key, value) VALUES(?1, ?2, ?3)"
                 " ON CONFLICT(scope, key) DO UPDATE SET value = excluded.value",
                 scope, key, &s, err));
    OT_TRY(ot_bind_blob(s, 3, value == NULL ? "" : value, value == NULL ? 0 : n, err));
    return ot_stmt_run(s, "set a value", err);
}

ot_rc ot_kv_get(ot_txn *txn, const char *scope, const char *key, ot_str *out, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    bool row;
    OT_TRY(begin(txn, "SELECT value FROM kv WHERE scope = ?1 AND key = ?2", scope, key, &s, err));
    OT_TRY(ot_stmt_step(s, "get a value", &row, err));
    if (!row) {
        return ot_fail(err, OT_NOT_FOUND, "kv: no value %s/%s", scope, key);
    }
    size_t n;
    const void *p = ot_col_blob(s, 0, &n);
    if (!ot_str_reserve(out, n)) {
        return ot_fail(err, OT_EXHAUSTED, "kv: no memory for %s/%s (%zu bytes)", scope, key, n);
    }
    ot_str_add(out, p, n);
    return OT_OK;
}

ot_rc ot_kv_delete(ot_txn *txn, const char *scope, const char *key, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_txn_need_write(txn, "delete a value", err));
    OT_TRY(begin(txn, "DELETE FROM kv WHERE scope = ?1 AND key = ?2", scope, key, &s, err));
    return ot_stmt_run(s, "delete a value", err);
}

ot_rc ot_kv_each(ot_txn *txn, const char *scope, const char *after_key, uint32_t limit,
                 ot_kv_fn *fn, void *arg, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(check_name("scope", scope, err));
    OT_TRY(ot_stmt_get(txn,
                       "SELECT key, value FROM kv WHERE scope = ?1 AND key > ?2"
                       " ORDER BY key LIMIT ?3",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, scope, err));
    OT_TRY(ot_bind_text(s, 2, after_key == NULL ? "" : after_key, err));
    OT_TRY(ot_bind_i64(s, 3, limit, err));
    for (;;) {
        bool row;
        OT_TRY(ot_stmt_step(s, "list values", &row, err));
        if (!row) {
            return OT_OK;
        }
        size_t n;
        const void *p = ot_col_blob(s, 1, &n);
        OT_TRY(fn(arg, ot_col_text(s, 0), p, n, err));
    }
}
