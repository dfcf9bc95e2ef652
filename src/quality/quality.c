/* The object that both halves of the evidence hang on, and what they have in common: the
 * configuration, the envelope of a push, events and findings. See quality.h and internal.h. */
#include "quality/internal.h"

#include "store/windows.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PUSH_JSON_MAX (256u << 10)
#define YEAR_US 31536000e6
/* What a detector takes. */
#define BLOCKS_PER_ALARM_MIN 10
#define BLOCKS_PER_ALARM_MAX 1e12

/* ---- configuration */

static void config_done(ot_quality_config *c)
{
    ot_free((void *)(uintptr_t)c->deployment);
    ot_free((void *)(uintptr_t)c->model);
    ot_free((void *)(uintptr_t)c->app);
    *c = (ot_quality_config){0};
}

static ot_rc config_check(const ot_quality_config *c, ot_error *err)
{
    if (c->deployment == NULL || !ot_name_ok(c->deployment) || c->model == NULL ||
        !ot_name_ok(c->model)) {
        return ot_fail(
            err, OT_INVALID,
            "evidence of '%.80s', model '%.80s': names are 1 to 64 characters of A-Z a-z "
            "0-9 . _ -",
            c->deployment == NULL ? "" : c->deployment, c->model == NULL ? "" : c->model);
    }
    if (c->window_us <= 0 || c->block_us <= 0 || c->block_us % c->window_us != 0) {
        return ot_fail(err, OT_INVALID,
                       "evidence of %s: a block of %" PRId64 " us is not a whole number of windows "
                       "of %" PRId64 " us",
                       c->deployment, c->block_us, c->window_us);
    }
    if (!(c->false_alarms_per_year > 0) || c->blocks_per_day <= 0 || c->baseline_days <= 0 ||
        !(c->ignore_smaller >= 0) || c->sample_keep_us < 0) {
        return ot_fail(err, OT_INVALID,
                       "evidence of %s: %g false alarms a year, %" PRId64 " blocks a day, a "
                       "baseline of %" PRId64 " days must be above 0, and the tolerance %g and the "
                       "time to keep samples not below",
                       c->deployment, c->false_alarms_per_year, c->blocks_per_day, c->baseline_days,
                       c->ignore_smaller);
    }
    if (!(c->accuracy_at_least >= 0 && c->accuracy_at_least <= 1)) {
        return ot_fail(err, OT_INVALID,
                       "evidence of %s: an accuracy of at least %g; 0 (no objective) to 1 are "
                       "allowed",
                       c->deployment, c->accuracy_at_least);
    }
    return OT_OK;
}

static ot_rc config_copy(ot_quality_config *to, const ot_quality_config *from, ot_error *err)
{
    OT_TRY(config_check(from, err));
    ot_quality_config c = *from;
    c.deployment = ot_strdup(from->deployment);
    c.model = ot_strdup(from->model);
    c.app = ot_strdup(from->app == NULL ? "" : from->app);
    if (c.deployment == NULL || c.model == NULL || c.app == NULL) {
        config_done(&c);
        return ot_fail(err, OT_EXHAUSTED, "evidence of %s: no memory", from->deployment);
    }
    *to = c;
    return OT_OK;
}

double q_blocks_per_alarm(const ot_quality_config *cfg, double part)
{
    double t = YEAR_US / (double)cfg->block_us / (cfg->false_alarms_per_year * part);
    return fmin(fmax(t, BLOCKS_PER_ALARM_MIN), BLOCKS_PER_ALARM_MAX);
}

/* ---- life */

ot_rc ot_quality_create(ot_store *store, const ot_quality_config *cfg, ot_quality **out,
                        ot_error *err)
{
    ot_quality *q = ot_calloc(1, sizeof *q);
    if (q == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "evidence of %s: no memory", cfg->deployment);
    }
    q->store = store;
    ot_rc rc = config_copy(&q->cfg, cfg, err);
    if (rc == OT_OK) {
        rc = q_drift_create(q, err);
    }
    if (rc == OT_OK) {
        rc = q_labels_create(q, err);
    }
    if (rc != OT_OK) {
        ot_quality_destroy(q);
        return rc;
    }
    *out = q;
    return OT_OK;
}

ot_rc ot_quality_configure(ot_quality *q, const ot_quality_config *cfg, ot_error *err)
{
    if (cfg->deployment == NULL || cfg->model == NULL ||
        strcmp(cfg->deployment, q->cfg.deployment) != 0 || strcmp(cfg->model, q->cfg.model) != 0) {
        return ot_fail(err, OT_INVALID,
                       "evidence of %s, model %s: it is not that of '%.64s', model '%.64s'; those "
                       "need an object of their own",
                       q->cfg.deployment, q->cfg.model,
                       cfg->deployment == NULL ? "" : cfg->deployment,
                       cfg->model == NULL ? "" : cfg->model);
    }
    ot_quality_config before = q->cfg, now;
    OT_TRY(config_copy(&now, cfg, err));
    q->cfg = now;
    ot_rc rc = q_drift_configure(q, &before, err);
    if (rc == OT_OK) {
        rc = q_labels_configure(q, &before, err);
    }
    config_done(&before);
    return rc;
}

void ot_quality_destroy(ot_quality *q)
{
    if (q == NULL) {
        return;
    }
    q_labels_destroy(q->labels);
    q_drift_destroy(q->drift);
    config_done(&q->cfg);
    ot_free(q);
}

ot_rc ot_quality_promoted(ot_quality *q, ot_txn *txn, int64_t version, ot_error *err)
{
    OT_TRY(q_drift_promoted(q, txn, version, err));
    return q_labels_promoted(q, txn, version, err);
}

/* ---- pushes */

ot_rc q_get_int(const json_t *o, const char *key, int64_t min, int64_t max, int64_t *out,
                ot_error *err)
{
    const json_t *v = json_object_get(o, key);
    if (!json_is_integer(v) || json_integer_value(v) < min || json_integer_value(v) > max) {
        return ot_fail(err, OT_INVALID, "push: '%s' must be an integer of %" PRId64 " to %" PRId64,
                       key, min, max);
    }
    *out = json_integer_value(v);
    return OT_OK;
}

ot_rc q_get_number(const json_t *o, const char *key, double min, double max, double *out,
                   ot_error *err)
{
    const json_t *v = json_object_get(o, key);
    double x = json_number_value(v);
    if (!json_is_number(v) || !(x >= min && x <= max)) {
        return ot_fail(err, OT_INVALID, "push: '%s' must be a number of %g to %g", key, min, max);
    }
    *out = x;
    return OT_OK;
}

ot_rc q_get_text(const json_t *o, const char *key, const char **out, ot_error *err)
{
    const json_t *v = json_object_get(o, key);
    if (!json_is_string(v)) {
        return ot_fail(err, OT_INVALID, "push: '%s' must be a text", key);
    }
    *out = json_string_value(v);
    return OT_OK;
}

static ot_rc get_incarnation(const json_t *o, q_push *p, ot_error *err)
{
    const char *hex = "";
    uint8_t b[8];
    OT_TRY(q_get_text(o, "incarnation", &hex, err));
    if (strlen(hex) != 16 || !ot_unhex(hex, sizeof b, b)) {
        return ot_fail(err, OT_INVALID,
                       "push: 'incarnation' is '%.40s'; it must be 16 digits of 0-9 a-f", hex);
    }
    memcpy(p->incarnation, hex, sizeof p->incarnation);
    for (size_t i = 0; i < sizeof b; i++) {
        p->incarnation_n = p->incarnation_n << 8 | b[i];
    }
    return OT_OK;
}

static ot_rc get_names(const ot_quality *q, const json_t *o, ot_error *err)
{
    const char *deployment = "", *model = "";
    OT_TRY(q_get_text(o, "deployment", &deployment, err));
    OT_TRY(q_get_text(o, "model", &model, err));
    if (strcmp(deployment, q->cfg.deployment) != 0 || strcmp(model, q->cfg.model) != 0) {
        return ot_fail(err, OT_INVALID,
                       "push: it is of deployment '%.64s', model '%.64s'; here is %s, model %s",
                       deployment, model, q->cfg.deployment, q->cfg.model);
    }
    return OT_OK;
}

static ot_rc dispatch(ot_quality *q, q_push *p, ot_error *err)
{
    int64_t seq;
    if (!json_is_object(p->json)) {
        return ot_fail(err, OT_INVALID, "push: its JSON must be an object");
    }
    OT_TRY(get_names(q, p->json, err));
    OT_TRY(get_incarnation(p->json, p, err));
    OT_TRY(q_get_int(p->json, "seq", 1, INT64_MAX, &seq, err));
    OT_TRY(q_get_text(p->json, "stream", &p->stream, err));
    p->seq = (uint64_t)seq;
    if (strcmp(p->stream, "window") == 0) {
        return q_drift_push(q, p, err);
    }
    if (strcmp(p->stream, "sample") == 0) {
        return q_labels_push(q, p, err);
    }
    return ot_fail(err, OT_INVALID, "push: stream '%.40s' is not known; 'window' and 'sample' are",
                   p->stream);
}

ot_rc ot_quality_push(ot_quality *q, const char *json, size_t json_len, const void *bin,
                      size_t bin_len, ot_error *err)
{
    json_error_t at;
    if (json_len > PUSH_JSON_MAX) {
        return ot_fail(err, OT_INVALID, "push: %zu bytes of JSON; at most %u", json_len,
                       PUSH_JSON_MAX);
    }
    json_t *j = json_loadb(json, json_len, JSON_REJECT_DUPLICATES, &at);
    if (j == NULL) {
        return ot_fail(err, OT_INVALID, "push: its JSON at byte %d: %s", at.position, at.text);
    }
    q_push p = {.json = j, .bin = bin, .bin_len = bin_len};
    ot_rc rc = dispatch(q, &p, err);
    json_decref(j);
    return rc;
}

ot_rc q_push_note(ot_txn *txn, const ot_quality *q, const q_push *p, bool *fresh_out, ot_error *err)
{
    return ot_push_note(txn, q->cfg.deployment, p->incarnation_n, p->stream, p->seq, fresh_out,
                        err);
}

/* ---- events and findings */

ot_rc q_event(ot_txn *txn, const ot_quality *q, const char *type, const char *actor,
              json_t *payload, uint64_t *seq_out, ot_error *err)
{
    char object[96];
    char *text = payload == NULL ? NULL : json_dumps(payload, JSON_COMPACT);
    json_decref(payload);
    if (text == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "event %s of %s: no memory", type, q->cfg.deployment);
    }
    snprintf(object, sizeof object, "deployment/%s", q->cfg.deployment);
    ot_event_in in = {.actor = actor == NULL ? "overtake" : actor,
                      .role = actor == NULL ? "automation" : "person",
                      .scope = q->cfg.app,
                      .type = type,
                      .object = object,
                      .payload = text};
    ot_rc rc = ot_event_append(txn, &in, seq_out, err);
    free(text);
    return rc;
}

void q_time_text(int64_t us, int64_t now_us, char out[32])
{
    char then[32], now[32]; /* 2026-11-23T10:15:00.123456Z */
    ot_format_time(us, then);
    ot_format_time(now_us, now);
    if (strncmp(then, now, 10) == 0) {
        snprintf(out, 32, "%.5s UTC", then + 11);
    } else {
        snprintf(out, 32, "%.10s %.5s UTC", then, then + 11);
    }
}

void q_find(const ot_quality *q, ot_finding_kind kind, uint64_t event_seq, int64_t labels_new,
            const char *text)
{
    if (q->cfg.on_finding != NULL) {
        ot_finding f = {.kind = kind,
                        .deployment = q->cfg.deployment,
                        .event_seq = event_seq,
                        .labels_new = labels_new,
                        .text = text};
        q->cfg.on_finding(q->cfg.arg, &f);
    }
}

/* ---- what people see */

ot_rc ot_quality_summary(ot_quality *q, ot_str *out, ot_error *err)
{
    json_t *all = json_pack("{s:s}", "deployment", q->cfg.deployment);
    if (all == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "evidence of %s: no memory", q->cfg.deployment);
    }
    ot_rc rc = q_drift_summary(q, all, err);
    if (rc == OT_OK) {
        rc = q_labels_summary(q, all, err);
    }
    char *text = rc == OT_OK ? json_dumps(all, JSON_COMPACT) : NULL;
    json_decref(all);
    if (rc != OT_OK) {
        return rc;
    }
    if (text == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "evidence of %s: no memory", q->cfg.deployment);
    }
    ot_str_adds(out, text);
    free(text);
    return out->failed ? ot_fail(err, OT_EXHAUSTED, "evidence of %s: no memory", q->cfg.deployment)
                       : OT_OK;
}
