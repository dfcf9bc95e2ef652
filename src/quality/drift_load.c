/* What the store holds of the drift half, and how it comes back: places and settings as one small
 * JSON object, each detector's state as bytes, open blocks as the windows they are made of. */
#include "quality/drift.h"

#include "base/clock.h"
#include "model/bundle.h"
#include "store/blob.h"
#include "store/models.h"
#include "store/windows.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define PART "drift"
#define DAY_US INT64_C(86400000000)

/* ---- clearing */

static void side_clear(q_side *s)
{
    ot_hist_table_done(&s->scratch);
    ot_reference_done(&s->ref);
    ot_score_plan_destroy(s->plan);
    ot_edetect_destroy(s->detector);
    ot_free(s->value);
    ot_free(s->n);
    json_decref(s->moved);
    *s = (q_side){.name = s->name, .path = s->path, .part = s->part, .share = s->share};
}

void q_drift_clear(q_drift *d)
{
    for (size_t k = 0; k < Q_OPEN_MAX; k++) {
        for (size_t i = 0; i < Q_SIDES; i++) {
            ot_hist_table_done(&d->block[k].counts[i]);
        }
        d->block[k] = (q_block){0};
    }
    for (size_t i = 0; i < Q_SIDES; i++) {
        side_clear(&d->side[i]);
    }
    d->champion = d->after_id = d->late_windows = 0;
    d->closed = d->last_block = -1;
    d->settings[0] = 0;
}

/* ---- settings */

static void settings_of(const ot_quality_config *c, char *out, size_t n)
{
    snprintf(out, n,
             "block %" PRId64 ", %" PRId64 " a day, baseline %" PRId64
             ", cycles %d, ignore %.17g, alarms %.17g",
             c->block_us, c->blocks_per_day, c->baseline_days, c->cycles, c->ignore_smaller,
             c->false_alarms_per_year);
}

static ot_edetect_options options_of(const ot_quality_config *c, double share)
{
    int64_t least = c->cycles == OT_EDETECT_WEEKLY ? 14 : 4; /* what a detector needs */
    ot_edetect_options o = {
        .struct_size = sizeof o,
        .blocks_per_alarm = q_blocks_per_alarm(c, share),
        .blocks_per_day = (uint32_t)OT_MIN(c->blocks_per_day, INT32_MAX),
        .cycles = (ot_edetect_cycles)c->cycles,
        .warmup_days = (uint32_t)OT_MIN(OT_MAX(c->baseline_days, least), INT32_MAX),
        .tolerance = c->ignore_smaller > 0 ? c->ignore_smaller : -1,
    };
    if (c->blocks_per_day <= DAY_US / c->block_us && c->blocks_per_day * c->block_us == DAY_US) {
        int64_t offset = ot_clock_local_offset_us(ot_clock_wall_us());
        o.phase_blocks = (int32_t)(offset / c->block_us);
    }
    return o;
}

/* ---- references */

typedef struct find_file {
    const char *path;
    bool found;
    ot_digest blob;
} find_file;

static ot_rc match_file(void *arg, const ot_bundle_file_row *row, ot_error *err)
{
    find_file *f = arg;
    (void)err;
    if (strcmp(row->path, f->path) == 0) {
        f->found = true;
        f->blob = row->blob;
    }
    return OT_OK;
}

static ot_rc read_reference(ot_txn *txn, const ot_quality *q, int64_t version, const char *path,
                            ot_reference *out, ot_error *err)
{
    ot_version_row v;
    find_file f = {.path = path};
    OT_AUTO(ot_str_done) ot_str bytes = OT_STR_INIT;
    OT_TRY(ot_version_get(txn, q->cfg.model, version, &v, err));
    OT_TRY(ot_bundle_files_each(txn, &v.bundle, match_file, &f, err));
    if (!f.found) {
        return ot_fail(err, OT_NOT_FOUND, "%s v%" PRId64 " has no %s: package it with its data",
                       q->cfg.model, version, path);
    }
    OT_TRY(ot_blob_read(ot_txn_store(txn), &f.blob, OT_REFERENCE_BYTES_MAX, &bytes, err));
    return ot_reference_read(bytes.data, bytes.len, out, err);
}

static ot_rc side_open(ot_txn *txn, const ot_quality *q, q_side *s, ot_error *err)
{
    q_drift *d = q->drift;
    size_t i = (size_t)(s - d->side);
    OT_TRY(read_reference(txn, q, d->champion, s->path, &s->ref, err));
    OT_TRY(ot_score_plan_create(s->ref.schema, &s->ref.counts, NULL, &s->plan, err));
    OT_TRY(ot_hist_table_init(&s->scratch, s->ref.schema, err));
    for (size_t k = 0; k < Q_OPEN_MAX; k++) {
        OT_TRY(ot_hist_table_init(&d->block[k].counts[i], s->ref.schema, err));
    }
    size_t n = ot_score_plan_count(s->plan);
    s->value = ot_calloc(n, sizeof *s->value);
    s->n = ot_calloc(n, sizeof *s->n);
    if (s->value == NULL || s->n == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "evidence of %s: no memory for %zu series",
                       q->cfg.deployment, n);
    }
    ot_edetect_options o = options_of(&q->cfg, s->share);
    return ot_edetect_create(&o, ot_score_plan_series(s->plan), n, &s->detector, err);
}

/* Without a reference, or with one that cannot be used, there is no evidence, and a reason. */
static ot_rc side_load(ot_txn *txn, const ot_quality *q, q_side *s, ot_error *err)
{
    ot_error e = {0};
    ot_rc rc = side_open(txn, q, s, &e);
    if (rc == OT_OK) {
        return OT_OK;
    }
    if (rc != OT_NOT_FOUND && rc != OT_INVALID && rc != OT_DATA_LOSS) {
        return ot_fail(err, rc, "evidence of %s: %s", q->cfg.deployment, e.msg);
    }
    size_t i = (size_t)(s - q->drift->side);
    for (size_t k = 0; k < Q_OPEN_MAX; k++) {
        ot_hist_table_done(&q->drift->block[k].counts[i]);
    }
    side_clear(s);
    snprintf(s->reason, sizeof s->reason, "%s", e.msg);
    return OT_OK;
}

/* ---- writing */

static const char *const said_keys[Q_ALARMS] = {"drift", "at_risk"};

static json_t *state_json(const q_drift *d, const char *settings)
{
    json_t *j = json_pack("{s:I, s:I, s:I, s:I, s:I, s:s}", "champion", (json_int_t)d->champion,
                          "after_id", (json_int_t)d->after_id, "closed", (json_int_t)d->closed,
                          "last_block", (json_int_t)d->last_block, "late_windows",
                          (json_int_t)d->late_windows, "settings", settings);
    for (size_t i = 0; j != NULL && i < Q_SIDES; i++) {
        const q_side *s = &d->side[i];
        json_t *side = json_pack("{s:I}", "series",
                                 (json_int_t)(s->plan != NULL ? ot_score_plan_count(s->plan) : 0));
        for (size_t k = 0; k < Q_ALARMS; k++) {
            json_object_set_new(
                side, said_keys[k],
                json_pack("[I, I]", (json_int_t)s->said[k].block, (json_int_t)s->said[k].seq));
        }
        if (s->moved != NULL) {
            json_object_set(side, "moved", s->moved);
        }
        json_object_set_new(j, s->name, side);
    }
    return j;
}

static ot_rc save_json(ot_txn *txn, const ot_quality *q, const q_drift *d, const char *settings,
                       ot_error *err)
{
    json_t *j = state_json(d, settings);
    char *text = j == NULL ? NULL : json_dumps(j, JSON_COMPACT);
    json_decref(j);
    if (text == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "evidence of %s: no memory to keep it",
                       q->cfg.deployment);
    }
    ot_rc rc = ot_quality_state_set(txn, q->cfg.deployment, PART, text, strlen(text), err);
    free(text);
    return rc;
}

ot_rc q_drift_save(ot_txn *txn, const ot_quality *q, bool detectors, ot_error *err)
{
    const q_drift *d = q->drift;
    OT_TRY(save_json(txn, q, d, d->settings, err));
    for (size_t i = 0; detectors && i < Q_SIDES; i++) {
        const q_side *s = &d->side[i];
        OT_AUTO(ot_str_done) ot_str bytes = OT_STR_INIT;
        if (s->detector == NULL) {
            continue;
        }
        ot_edetect_write(s->detector, &bytes);
        if (bytes.failed) {
            return ot_fail(err, OT_EXHAUSTED, "evidence of %s: no memory to keep it",
                           q->cfg.deployment);
        }
        OT_TRY(ot_quality_state_set(txn, q->cfg.deployment, s->part, bytes.data, bytes.len, err));
    }
    return OT_OK;
}

ot_rc q_drift_anew(ot_txn *txn, const ot_quality *q, int64_t champion, ot_error *err)
{
    q_drift d = {.champion = champion, .closed = -1, .last_block = -1};
    settings_of(&q->cfg, d.settings, sizeof d.settings);
    OT_TRY(ot_windows_last_id(txn, &d.after_id, err));
    for (size_t i = 0; i < Q_SIDES; i++) {
        d.side[i].name = q->drift->side[i].name;
        OT_TRY(ot_quality_state_delete(txn, q->cfg.deployment, q->drift->side[i].part, err));
    }
    return save_json(txn, q, &d, d.settings, err);
}

/* ---- counts */

/* A push that will never be right is invalid, whatever its bytes broke. */
static ot_rc unfit(const q_side *s, ot_rc rc, ot_error *err)
{
    if (rc == OT_EXHAUSTED) {
        return ot_error_prefix(err, rc, "push: its %s", s->name);
    }
    (void)ot_error_prefix(err, rc, "push: its %s do not fit the champion's reference", s->name);
    if (err != NULL) {
        err->rc = OT_INVALID;
    }
    return OT_INVALID;
}

ot_rc q_drift_fit(q_drift *d, const uint8_t *const *part, const size_t *n_part, int64_t rows,
                  ot_error *err)
{
    for (size_t i = 0; i < Q_SIDES; i++) {
        q_side *s = &d->side[i];
        size_t used = n_part[i];
        if (s->ref.schema == NULL) {
            continue;
        }
        ot_hist_table_clear(&s->scratch);
        ot_rc rc = n_part[i] == 0 ? OT_OK
                                  : ot_hist_table_read(&s->scratch, part[i], n_part[i], &used, err);
        if (rc == OT_OK && used != n_part[i]) {
            rc = ot_fail(err, OT_INVALID, "%zu bytes after its end", n_part[i] - used);
        }
        if (rc == OT_OK && s->scratch.rows > (uint64_t)rows) {
            rc = ot_fail(err, OT_INVALID, "%" PRIu64 " rows counted of %" PRId64, s->scratch.rows,
                         rows);
        }
        if (rc != OT_OK) {
            return unfit(s, rc, err);
        }
    }
    return OT_OK;
}

static q_block *block_for(q_drift *d, int64_t index)
{
    q_block *empty = NULL;
    for (size_t k = 0; k < Q_OPEN_MAX; k++) {
        q_block *b = &d->block[k];
        if (b->open && b->index == index) {
            return b;
        }
        empty = b->open ? empty : b;
    }
    /* Those open end after the newest window's start less a window's length, which is a block's at
     * most: so there are two, and this one is among them or has its place. */
    assert(empty != NULL);
    empty->open = true;
    empty->index = index;
    empty->first_id = INT64_MAX;
    empty->windows = empty->rows = 0;
    for (size_t i = 0; i < Q_SIDES; i++) {
        if (d->side[i].ref.schema != NULL) {
            ot_hist_table_clear(&empty->counts[i]);
        }
    }
    return empty;
}

ot_rc q_drift_merge(q_drift *d, int64_t index, int64_t id, int64_t rows, ot_error *err)
{
    q_block *b = block_for(d, index);
    for (size_t i = 0; i < Q_SIDES; i++) {
        if (d->side[i].ref.schema != NULL) {
            ot_rc rc = ot_hist_table_merge(&b->counts[i], &d->side[i].scratch, err);
            if (rc != OT_OK) {
                return unfit(&d->side[i], rc, err);
            }
        }
    }
    b->first_id = OT_MIN(b->first_id, id);
    b->windows++;
    b->rows += rows;
    return OT_OK;
}

/* ---- reading */

typedef struct load {
    ot_quality *q;
    char anew[256]; /* why what the store holds is of no use any more; empty: it is */
} load;

static int64_t int_of(const json_t *j, const char *key)
{
    return json_integer_value(json_object_get(j, key));
}

static ot_rc side_state(ot_txn *txn, load *l, q_side *s, const json_t *j, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str bytes = OT_STR_INIT;
    const json_t *side = json_object_get(j, s->name);
    json_t *moved = json_object_get(side, "moved");
    ot_error e = {0};
    if (s->detector == NULL) {
        return OT_OK;
    }
    s->moved = json_is_array(moved) ? json_incref(moved) : NULL;
    for (size_t k = 0; k < Q_ALARMS; k++) {
        const json_t *said = json_object_get(side, said_keys[k]);
        s->said[k].block = json_integer_value(json_array_get(said, 0));
        s->said[k].seq = (uint64_t)json_integer_value(json_array_get(said, 1));
    }
    ot_rc rc = ot_quality_state_get(txn, l->q->cfg.deployment, s->part, &bytes, err);
    if (rc != OT_OK) { /* no block was closed yet */
        return rc == OT_NOT_FOUND ? OT_OK : rc;
    }
    ot_edetect *kept = NULL;
    if (int_of(side, "series") != (int64_t)ot_score_plan_count(s->plan)) {
        snprintf(l->anew, sizeof l->anew, "this version of the program scores the %s differently",
                 s->name);
        return OT_OK;
    }
    rc = ot_edetect_read(bytes.data, bytes.len, &kept, &e);
    if (rc == OT_EXHAUSTED) {
        return ot_fail(err, rc, "evidence of %s: %s", l->q->cfg.deployment, e.msg);
    }
    if (rc != OT_OK) {
        snprintf(l->anew, sizeof l->anew, "what was kept of the %s cannot be read: %.150s", s->name,
                 e.msg);
        return OT_OK;
    }
    ot_edetect_destroy(s->detector);
    s->detector = kept;
    return OT_OK;
}

static ot_rc replay(void *arg, const ot_window_row *r, ot_error *err)
{
    const ot_quality *q = arg;
    q_drift *d = q->drift;
    const uint8_t *part[Q_SIDES] = {r->inputs, r->outputs};
    const size_t n_part[Q_SIDES] = {r->n_inputs, r->n_outputs};
    int64_t index = r->start_us / q->cfg.block_us;
    if (index <= d->closed) {
        return OT_OK;
    }
    ot_rc rc = q_drift_fit(d, part, n_part, r->rows, err);
    if (rc != OT_OK) { /* stored while there was no reference to hold it against */
        return rc == OT_INVALID ? OT_OK : rc;
    }
    rc = q_drift_merge(d, index, r->id, r->rows, err);
    return rc == OT_INVALID ? OT_OK : rc;
}

static void take_places(load *l, const json_t *j)
{
    q_drift *d = l->q->drift;
    const char *kept = json_string_value(json_object_get(j, "settings"));
    d->champion = int_of(j, "champion");
    d->after_id = int_of(j, "after_id");
    d->closed = int_of(j, "closed");
    d->last_block = int_of(j, "last_block");
    d->late_windows = int_of(j, "late_windows");
    if (kept == NULL || strcmp(kept, d->settings) != 0) {
        snprintf(l->anew, sizeof l->anew, "the settings it depends on changed");
    }
}

static ot_rc load_sides(ot_txn *txn, load *l, const json_t *j, ot_error *err)
{
    q_drift *d = l->q->drift;
    for (size_t i = 0; i < Q_SIDES; i++) {
        OT_TRY(side_load(txn, l->q, &d->side[i], err));
        OT_TRY(side_state(txn, l, &d->side[i], j, err));
    }
    return ot_windows_since(txn, l->q->cfg.deployment, d->champion, OT_WINDOW_CHAMPION, d->after_id,
                            replay, l->q, err);
}

static ot_rc load_txn(ot_txn *txn, void *arg, ot_error *err)
{
    load *l = arg;
    q_drift *d = l->q->drift;
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    l->anew[0] = 0;
    q_drift_clear(d);
    settings_of(&l->q->cfg, d->settings, sizeof d->settings);
    ot_rc rc = ot_quality_state_get(txn, l->q->cfg.deployment, PART, &text, err);
    if (rc == OT_NOT_FOUND) {
        return OT_OK;
    }
    OT_TRY(rc);
    json_t *j = json_loadb(text.data, text.len, 0, NULL);
    take_places(l, j);
    if (l->anew[0] == 0 && d->champion > 0) {
        rc = load_sides(txn, l, j, err);
    }
    json_decref(j);
    return rc;
}

/* The evidence begins again with the traffic to come. */
static ot_rc restart_txn(ot_txn *txn, void *arg, ot_error *err)
{
    const load *l = arg;
    const q_drift *d = l->q->drift;
    OT_TRY(q_drift_anew(txn, l->q, d->champion, err));
    if (d->champion == 0) {
        return OT_OK;
    }
    char text[320];
    snprintf(text, sizeof text, "evidence starts anew: %s", l->anew);
    json_t *payload = json_pack("{s:s, s:I, s:s}", "text", text, "version", (json_int_t)d->champion,
                                "settings", d->settings);
    if (payload == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "evidence of %s: no memory", l->q->cfg.deployment);
    }
    return q_event(txn, l->q, "drift.restarted", NULL, payload, NULL, err);
}

ot_rc q_drift_ready(ot_quality *q, ot_error *err)
{
    load l = {.q = q};
    if (!q->drift->stale) {
        return OT_OK;
    }
    OT_TRY(ot_store_read(q->store, load_txn, &l, err));
    if (l.anew[0] != 0) {
        OT_TRY(ot_store_write(q->store, restart_txn, &l, err));
        OT_TRY(ot_store_read(q->store, load_txn, &l, err));
    }
    q->drift->stale = false;
    return OT_OK;
}
