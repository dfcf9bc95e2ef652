/* Models, versions, aliases. */
#include "store/models.h"

#include "store/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define EACH_MAX 10000

static const char *const status_names[] = {"registered", "gated",    "refused", "shadow",
                                           "canary",     "champion", "retired"};
_Static_assert(OT_COUNT(status_names) == OT_VERSION_STATUS_COUNT_, "a name for each status");

const char *ot_version_status_name(ot_version_status s)
{
    return (size_t)s < OT_COUNT(status_names) ? status_names[s] : "invalid";
}

bool ot_version_status_parse(const char *s, ot_version_status *out)
{
    for (size_t i = 0; i < OT_COUNT(status_names); i++) {
        if (strcmp(s, status_names[i]) == 0) {
            *out = (ot_version_status)i;
            return true;
        }
    }
    return false;
}

static void copy_name(char out[OT_ROW_NAME], const char *s)
{
    snprintf(out, OT_ROW_NAME, "%s", s);
}

static ot_rc bind_limit(sqlite3_stmt *s, int i, uint32_t limit, ot_error *err)
{
    return ot_bind_i64(s, i, limit == 0 || limit > EACH_MAX ? EACH_MAX : limit, err);
}

static ot_rc no_model(const char *name, ot_error *err)
{
    return ot_fail(err, OT_NOT_FOUND, "model '%.64s': not found", name);
}

static ot_rc no_version(const char *model, int64_t version, ot_error *err)
{
    return ot_fail(err, OT_NOT_FOUND, "model '%.64s': it has no version %" PRId64, model, version);
}

/* --- models */

ot_rc ot_model_ensure(ot_txn *txn, const char *name, const char *app, int64_t now_us,
                      int64_t *id_out, ot_error *err)
{
    OT_TRY(ot_txn_need_write(txn, "add model", err));
    if (!ot_name_ok(name) || (app != NULL && app[0] != 0 && !ot_name_ok(app))) {
        return ot_fail(err, OT_INVALID,
                       "model '%.80s' of app '%.80s': names are 1 to 64 characters of A-Z a-z 0-9 "
                       ". _ -, not starting with '.' or '-'",
                       name, app == NULL ? "" : app);
    }
    OT_AUTO(ot_stmt_done) sqlite3_stmt *add = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "INSERT INTO model (name, app, created_us) VALUES (?1, ?2, ?3)"
                       " ON CONFLICT (name) DO NOTHING",
                       &add, err));
    OT_TRY(ot_bind_text(add, 1, name, err));
    OT_TRY(ot_bind_text(add, 2, app == NULL ? "" : app, err));
    OT_TRY(ot_bind_i64(add, 3, now_us, err));
    OT_TRY(ot_stmt_run(add, "add model", err));
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    bool row;
    OT_TRY(ot_stmt_get(txn, "SELECT id FROM model WHERE name = ?1", &s, err));
    OT_TRY(ot_bind_text(s, 1, name, err));
    OT_TRY(ot_stmt_step(s, "read model", &row, err));
    if (!row) {
        return no_model(name, err);
    }
    *id_out = ot_col_i64(s, 0);
    return OT_OK;
}

#define MODEL_COLUMNS                                                                              \
    "SELECT m.id, m.name, m.app, m.created_us,"                                                    \
    " (SELECT count(*) FROM version v WHERE v.model = m.id),"                                      \
    " (SELECT ifnull(max(v.version), 0) FROM version v WHERE v.model = m.id),"                     \
    " ifnull((SELECT a.version FROM alias a WHERE a.model = m.id AND a.alias = 'champion'), 0),"   \
    " ifnull((SELECT a.version FROM alias a WHERE a.model = m.id AND a.alias = 'challenger'), 0)"  \
    " FROM model m "

static void model_of(sqlite3_stmt *s, ot_model_row *m)
{
    m->id = ot_col_i64(s, 0);
    copy_name(m->name, ot_col_text(s, 1));
    copy_name(m->app, ot_col_text(s, 2));
    m->created_us = ot_col_i64(s, 3);
    m->versions = ot_col_i64(s, 4);
    m->latest = ot_col_i64(s, 5);
    m->champion = ot_col_i64(s, 6);
    m->challenger = ot_col_i64(s, 7);
}

ot_rc ot_model_get(ot_txn *txn, const char *name, ot_model_row *out, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    bool row;
    OT_TRY(ot_stmt_get(txn, MODEL_COLUMNS "WHERE m.name = ?1", &s, err));
    OT_TRY(ot_bind_text(s, 1, name, err));
    OT_TRY(ot_stmt_step(s, "read model", &row, err));
    if (!row) {
        return no_model(name, err);
    }
    model_of(s, out);
    return OT_OK;
}

ot_rc ot_model_each(ot_txn *txn, const char *app, const char *after, uint32_t limit,
                    ot_model_fn *fn, void *arg, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       MODEL_COLUMNS "WHERE m.name > ?1 AND (?2 IS NULL OR m.app = ?2)"
                                     " ORDER BY m.name LIMIT ?3",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, after == NULL ? "" : after, err));
    OT_TRY(ot_bind_text(s, 2, app, err));
    OT_TRY(bind_limit(s, 3, limit, err));
    for (;;) {
        bool row;
        OT_TRY(ot_stmt_step(s, "list models", &row, err));
        if (!row) {
            return OT_OK;
        }
        ot_model_row m;
        model_of(s, &m);
        OT_TRY(fn(arg, &m, err));
    }
}

/* --- versions */

static ot_rc take_number(ot_txn *txn, int64_t model_id, int64_t *version_out, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    bool row;
    OT_TRY(ot_stmt_get(txn,
                       "UPDATE model SET next_version = next_version + 1 WHERE id = ?1"
                       " RETURNING next_version - 1",
                       &s, err));
    OT_TRY(ot_bind_i64(s, 1, model_id, err));
    OT_TRY(ot_stmt_step(s, "number a version", &row, err));
    if (!row) {
        return ot_fail(err, OT_NOT_FOUND, "model %" PRId64 ": not found", model_id);
    }
    *version_out = ot_col_i64(s, 0);
    return OT_OK;
}

ot_rc ot_version_add(ot_txn *txn, const ot_version_new *v, int64_t *version_out, ot_error *err)
{
    OT_TRY(ot_txn_need_write(txn, "add version", err));
    int64_t version = 0;
    OT_TRY(take_number(txn, v->model_id, &version, err));
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "INSERT INTO version (model, version, bundle, status, run, app, parent,"
                       " metrics, created_us, status_us)"
                       " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9)",
                       &s, err));
    OT_TRY(ot_bind_i64(s, 1, v->model_id, err));
    OT_TRY(ot_bind_i64(s, 2, version, err));
    OT_TRY(ot_bind_digest(s, 3, &v->bundle, err));
    OT_TRY(ot_bind_i64(s, 4, OT_VERSION_REGISTERED, err));
    OT_TRY(ot_bind_i64(s, 5, v->run, err));
    OT_TRY(ot_bind_text(s, 6, v->app == NULL ? "" : v->app, err));
    if (v->parent != NULL) {
        OT_TRY(ot_bind_digest(s, 7, v->parent, err));
    }
    OT_TRY(ot_bind_text(s, 8, v->metrics == NULL ? "{}" : v->metrics, err));
    OT_TRY(ot_bind_i64(s, 9, v->now_us, err));
    OT_TRY(ot_stmt_run(s, "add version", err));
    *version_out = version;
    return OT_OK;
}

ot_rc ot_version_set_event(ot_txn *txn, int64_t model_id, int64_t version, uint64_t seq,
                           ot_error *err)
{
    OT_TRY(ot_txn_need_write(txn, "note a version's event", err));
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn, "UPDATE version SET event_seq = ?3 WHERE model = ?1 AND version = ?2",
                       &s, err));
    OT_TRY(ot_bind_i64(s, 1, model_id, err));
    OT_TRY(ot_bind_i64(s, 2, version, err));
    OT_TRY(ot_bind_i64(s, 3, (int64_t)seq, err));
    return ot_stmt_run(s, "note a version's event", err);
}

#define VERSION_COLUMNS                                                                            \
    "SELECT m.name, v.version, v.bundle, b.format, b.size_bytes, v.status, v.run, v.app, "         \
    "v.parent,"                                                                                    \
    " v.created_us, v.status_us, v.event_seq"                                                      \
    " FROM version v JOIN model m ON m.id = v.model JOIN bundle b ON b.digest = v.bundle "

static ot_rc version_of(sqlite3_stmt *s, ot_version_row *v, ot_error *err)
{
    *v = (ot_version_row){.version = ot_col_i64(s, 1),
                          .size_bytes = (uint64_t)ot_col_i64(s, 4),
                          .status = (ot_version_status)ot_col_i64(s, 5),
                          .run = ot_col_i64(s, 6),
                          .has_parent = !ot_col_is_null(s, 8),
                          .created_us = ot_col_i64(s, 9),
                          .status_us = ot_col_i64(s, 10),
                          .event_seq = (uint64_t)ot_col_i64(s, 11)};
    copy_name(v->model, ot_col_text(s, 0));
    copy_name(v->format, ot_col_text(s, 3));
    copy_name(v->app, ot_col_text(s, 7));
    if (!ot_col_digest(s, 2, &v->bundle) || (v->has_parent && !ot_col_digest(s, 8, &v->parent))) {
        return ot_fail(err, OT_DATA_LOSS,
                       "model '%s' version %" PRId64 ": a digest in its row is damaged", v->model,
                       v->version);
    }
    return OT_OK;
}

ot_rc ot_version_get(ot_txn *txn, const char *model, int64_t version, ot_version_row *out,
                     ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    bool row;
    OT_TRY(ot_stmt_get(txn, VERSION_COLUMNS "WHERE m.name = ?1 AND v.version = ?2", &s, err));
    OT_TRY(ot_bind_text(s, 1, model, err));
    OT_TRY(ot_bind_i64(s, 2, version, err));
    OT_TRY(ot_stmt_step(s, "read version", &row, err));
    return row ? version_of(s, out, err) : no_version(model, version, err);
}

ot_rc ot_version_of_run(ot_txn *txn, const char *model, int64_t run, ot_version_row *out,
                        ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    bool row;
    OT_TRY(ot_stmt_get(txn, VERSION_COLUMNS "WHERE m.name = ?1 AND v.run = ?2 AND v.run <> 0", &s,
                       err));
    OT_TRY(ot_bind_text(s, 1, model, err));
    OT_TRY(ot_bind_i64(s, 2, run, err));
    OT_TRY(ot_stmt_step(s, "read the version of a run", &row, err));
    return row ? version_of(s, out, err)
               : ot_fail(err, OT_NOT_FOUND, "model '%.64s': run %" PRId64 " made no version", model,
                         run);
}

ot_rc ot_version_metrics(ot_txn *txn, const char *model, int64_t version, ot_str *out,
                         ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    bool row;
    OT_TRY(ot_stmt_get(txn,
                       "SELECT v.metrics FROM version v JOIN model m ON m.id = v.model"
                       " WHERE m.name = ?1 AND v.version = ?2",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, model, err));
    OT_TRY(ot_bind_i64(s, 2, version, err));
    OT_TRY(ot_stmt_step(s, "read metrics", &row, err));
    if (!row) {
        return no_version(model, version, err);
    }
    ot_str_adds(out, ot_col_text(s, 0));
    return out->failed ? ot_fail(err, OT_EXHAUSTED, "no memory for metrics") : OT_OK;
}

static ot_rc each_version(sqlite3_stmt *s, ot_version_fn *fn, void *arg, ot_error *err)
{
    for (;;) {
        bool row;
        OT_TRY(ot_stmt_step(s, "list versions", &row, err));
        if (!row) {
            return OT_OK;
        }
        ot_version_row v;
        OT_TRY(version_of(s, &v, err));
        OT_TRY(fn(arg, &v, err));
    }
}

ot_rc ot_version_each(ot_txn *txn, const char *model, int64_t before, uint32_t limit,
                      ot_version_fn *fn, void *arg, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       VERSION_COLUMNS "WHERE m.name = ?1 AND v.version < ?2"
                                       " ORDER BY v.version DESC LIMIT ?3",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, model, err));
    OT_TRY(ot_bind_i64(s, 2, before > 0 ? before : INT64_MAX, err));
    OT_TRY(bind_limit(s, 3, limit, err));
    return each_version(s, fn, arg, err);
}

ot_rc ot_version_each_of_bundle(ot_txn *txn, const ot_digest *bundle, ot_version_fn *fn, void *arg,
                                ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn, VERSION_COLUMNS "WHERE v.bundle = ?1 ORDER BY m.name, v.version DESC",
                       &s, err));
    OT_TRY(ot_bind_digest(s, 1, bundle, err));
    return each_version(s, fn, arg, err);
}

ot_rc ot_version_set_status(ot_txn *txn, const char *model, int64_t version,
                            ot_version_status status, int64_t now_us, ot_error *err)
{
    OT_TRY(ot_txn_need_write(txn, "set a version's status", err));
    if ((unsigned)status >= OT_VERSION_STATUS_COUNT_) {
        return ot_fail(err, OT_INVALID, "status %d is not known", (int)status);
    }
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "UPDATE version SET status = ?3, status_us = ?4"
                       " WHERE model = (SELECT id FROM model WHERE name = ?1) AND version = ?2",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, model, err));
    OT_TRY(ot_bind_i64(s, 2, version, err));
    OT_TRY(ot_bind_i64(s, 3, status, err));
    OT_TRY(ot_bind_i64(s, 4, now_us, err));
    OT_TRY(ot_stmt_run(s, "set a version's status", err));
    return ot_txn_changes(txn) == 1 ? OT_OK : no_version(model, version, err);
}

ot_rc ot_version_delete(ot_txn *txn, const char *model, int64_t version, ot_error *err)
{
    OT_TRY(ot_txn_need_write(txn, "delete version", err));
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "DELETE FROM version"
                       " WHERE model = (SELECT id FROM model WHERE name = ?1) AND version = ?2",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, model, err));
    OT_TRY(ot_bind_i64(s, 2, version, err));
    ot_rc rc = ot_stmt_run(s, "delete version", err);
    if (rc == OT_PRECONDITION) {
        return ot_fail(err, rc, "model '%.64s': an alias names version %" PRId64 "; move it first",
                       model, version);
    }
    OT_TRY(rc);
    return ot_txn_changes(txn) == 1 ? OT_OK : no_version(model, version, err);
}

/* --- aliases */

ot_rc ot_alias_set(ot_txn *txn, const char *model, const char *alias, int64_t version,
                   int64_t now_us, ot_error *err)
{
    OT_TRY(ot_txn_need_write(txn, "set alias", err));
    if (!ot_name_ok(alias)) {
        return ot_fail(err, OT_INVALID,
                       "alias '%.80s': 1 to 64 characters of A-Z a-z 0-9 . _ - are accepted",
                       alias);
    }
    ot_version_row v;
    OT_TRY(ot_version_get(txn, model, version, &v, err));
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "INSERT INTO alias (model, alias, version, set_us)"
                       " SELECT id, ?2, ?3, ?4 FROM model WHERE name = ?1"
                       " ON CONFLICT (model, alias) DO UPDATE SET version = ?3, set_us = ?4",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, model, err));
    OT_TRY(ot_bind_text(s, 2, alias, err));
    OT_TRY(ot_bind_i64(s, 3, version, err));
    OT_TRY(ot_bind_i64(s, 4, now_us, err));
    return ot_stmt_run(s, "set alias", err);
}

ot_rc ot_alias_get(ot_txn *txn, const char *model, const char *alias, int64_t *version_out,
                   ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    bool row;
    OT_TRY(ot_stmt_get(txn,
                       "SELECT a.version FROM alias a JOIN model m ON m.id = a.model"
                       " WHERE m.name = ?1 AND a.alias = ?2",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, model, err));
    OT_TRY(ot_bind_text(s, 2, alias, err));
    OT_TRY(ot_stmt_step(s, "read alias", &row, err));
    if (!row) {
        return ot_fail(err, OT_NOT_FOUND, "model '%.64s': it has no %.64s", model, alias);
    }
    *version_out = ot_col_i64(s, 0);
    return OT_OK;
}

ot_rc ot_alias_remove(ot_txn *txn, const char *model, const char *alias, ot_error *err)
{
    OT_TRY(ot_txn_need_write(txn, "remove alias", err));
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "DELETE FROM alias"
                       " WHERE model = (SELECT id FROM model WHERE name = ?1) AND alias = ?2",
                       &s, err));
    OT_TRY(ot_bind_text(s, 1, model, err));
    OT_TRY(ot_bind_text(s, 2, alias, err));
    return ot_stmt_run(s, "remove alias", err);
}
