#include "model/statement.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STATEMENT_V1 "https://in-toto.io/Statement/v1"

void ot_statement_done(ot_statement *s)
{
    json_decref(s->lineage);
    json_decref(s->evaluation);
    json_decref(s->reported);
    *s = (ot_statement){0};
}

static void subject_name(const char *model, int64_t version, char out[96])
{
    snprintf(out, 96, "%.64s@%" PRId64, model, version);
}

ot_rc ot_statement_write(const ot_statement *s, ot_str *out, ot_error *err)
{
    char name[96], hex[OT_DIGEST_HEX];
    subject_name(s->model, s->version, name);
    json_t *j = json_pack("{s:s,s:[{s:s,s:{s:s}}],s:s,s:{s:s,s:I,s:s,s:O,s:O,s:O,s:{s:s},s:s,s:I}}",
                          "_type", STATEMENT_V1, "subject", "name", name, "digest", "sha256",
                          ot_digest_hex(&s->bundle, hex), "predicateType", OT_STATEMENT_PREDICATE,
                          "predicate", "model", s->model, "version", (json_int_t)s->version,
                          "status", s->status, "lineage", s->lineage, "evaluation", s->evaluation,
                          "reported", s->reported, "server", "key", s->key, "actor", s->actor,
                          "time_us", (json_int_t)s->time_us);
    char *text = j == NULL ? NULL : json_dumps(j, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(j);
    if (text != NULL) {
        ot_str_adds(out, text);
    }
    bool good = text != NULL && !out->failed;
    free(text);
    return good ? OT_OK : ot_fail(err, OT_EXHAUSTED, "no memory for the statement");
}

/* What json_unpack leaves in its hands; the strings are the tree's. */
typedef struct raw {
    const char *type, *subject, *digest, *predicate_type, *model, *status, *key, *actor;
    json_int_t version, time_us;
    json_t *lineage, *evaluation, *reported;
} raw;

static bool copy_text(char *out, size_t size, const char *z)
{
    return (size_t)snprintf(out, size, "%s", z) < size;
}

static ot_rc check(const raw *r, ot_statement *s, ot_error *err)
{
    char name[96];
    if (strcmp(r->type, STATEMENT_V1) != 0 ||
        strcmp(r->predicate_type, OT_STATEMENT_PREDICATE) != 0) {
        return ot_fail(err, OT_INVALID,
                       "a statement of type '%.60s' about '%.60s'; %s about %s is expected",
                       r->type, r->predicate_type, STATEMENT_V1, OT_STATEMENT_PREDICATE);
    }
    if (!ot_name_ok(r->model) || !copy_text(s->model, sizeof s->model, r->model)) {
        return ot_fail(err, OT_INVALID, "model '%.80s' is not a name", r->model);
    }
    if (r->version < 1 || r->time_us < 0) {
        return ot_fail(err, OT_INVALID, "version %" PRId64 " at time %" PRId64 ": out of range",
                       (int64_t)r->version, (int64_t)r->time_us);
    }
    if (!ot_digest_parse(r->digest, &s->bundle)) {
        return ot_fail(err, OT_INVALID, "the subject's sha256 is not one");
    }
    subject_name(r->model, r->version, name);
    if (strcmp(name, r->subject) != 0) {
        return ot_fail(err, OT_INVALID, "the subject is '%.100s' and the predicate's '%s'",
                       r->subject, name);
    }
    if (!copy_text(s->status, sizeof s->status, r->status) ||
        !copy_text(s->key, sizeof s->key, r->key) ||
        !copy_text(s->actor, sizeof s->actor, r->actor)) {
        return ot_fail(err, OT_INVALID, "status, key or actor is longer than it can be");
    }
    if (!json_is_object(r->lineage)) {
        return ot_fail(err, OT_INVALID,
                       "lineage is missing: what a version was made from goes with it");
    }
    if (!json_is_object(r->reported) ||
        (!json_is_object(r->evaluation) && !json_is_null(r->evaluation))) {
        return ot_fail(err, OT_INVALID, "evaluation and reported must be objects");
    }
    return OT_OK;
}

static ot_rc take(json_t *j, ot_statement *out, ot_error *err)
{
    raw r = {0};
    json_error_t je;
    if (json_unpack_ex(
            j, &je, 0,
            "{s:s,s:[{s:s,s:{s:s!}!}!],s:s,s:{s:s,s:I,s:s,s:o,s:o,s:o,s:{s:s!},s:s,s:I!}!}",
            "_type", &r.type, "subject", "name", &r.subject, "digest", "sha256", &r.digest,
            "predicateType", &r.predicate_type, "predicate", "model", &r.model, "version",
            &r.version, "status", &r.status, "lineage", &r.lineage, "evaluation", &r.evaluation,
            "reported", &r.reported, "server", "key", &r.key, "actor", &r.actor, "time_us",
            &r.time_us) != 0) {
        return ot_fail(err, OT_INVALID, "%s", je.text);
    }
    ot_statement s = {.version = r.version, .time_us = r.time_us};
    OT_TRY(check(&r, &s, err));
    s.lineage = json_incref(r.lineage);
    s.evaluation = json_incref(r.evaluation);
    s.reported = json_incref(r.reported);
    *out = s;
    return OT_OK;
}

ot_rc ot_statement_parse(const char *json, size_t n, ot_statement *out, ot_error *err)
{
    json_error_t je;
    json_t *j = json_loadb(json, n, JSON_REJECT_DUPLICATES, &je);
    ot_rc rc = j != NULL ? take(j, out, err) : ot_fail(err, OT_INVALID, "%s", je.text);
    json_decref(j);
    return rc == OT_OK ? OT_OK : ot_error_prefix(err, rc, "statement");
}
