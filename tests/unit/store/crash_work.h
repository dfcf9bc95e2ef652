/* Seeded transactions over every table of the store and over its content store, and what a state of
 * the store is after them: what tests of power cuts and faults do and compare.
 *
 * Threads: one. A plan's blobs are put before its transaction, as the product does. */
#ifndef OT_TESTS_CRASH_WORK_H
#define OT_TESTS_CRASH_WORK_H

#include "base/mem.h"
#include "base/random.h"
#include "base/str.h"
#include "store/blob.h"
#include "store/events.h"
#include "store/internal.h"
#include "store/kv.h"
#include "store/models.h"
#include "store/outcomes.h"
#include "store/runs.h"
#include "store/samples.h"
#include "store/windows.h"

#include <stdio.h>
#include <string.h>

/* A test uses what it needs of this. */
#pragma GCC diagnostic ignored "-Wunused-function"

enum {
    WORK_SEGMENT = 1, /* sampled rows with a label and an outcome */
    WORK_WINDOW = 2,
    WORK_VERSION = 4, /* a bundle, its version, the champion; the oldest goes */
    WORK_DATASET = 8,
    WORK_RUN = 16,
    WORK_STATE = 32,
    WORK_EXPIRE = 64,
    WORK_KINDS = 128,
};
#define WORK_BLOBS 3

typedef struct work_txn {
    uint64_t number; /* of the transaction, from 1; also its time */
    unsigned kinds;
    uint64_t events;
    size_t padding; /* bytes of an event's payload */
    bool fails;     /* its last step refuses */
    unsigned content[WORK_BLOBS];
    ot_digest blob[WORK_BLOBS];
} work_txn;

/* Few contents, so that the same bytes come again, also after they were collected. */
static work_txn work_plan(ot_rng *rng, uint64_t number)
{
    work_txn t = {
        .number = number,
        .kinds = (unsigned)(ot_rng_below(rng, WORK_KINDS) & ot_rng_below(rng, WORK_KINDS)),
        .events = 1 + ot_rng_below(rng, 3),
        .padding = (size_t)ot_rng_below(rng, ot_rng_below(rng, 8) == 0 ? 3000 : 60),
        .fails = ot_rng_below(rng, 8) == 0,
    };
    for (int i = 0; i < WORK_BLOBS; i++) {
        t.content[i] = (unsigned)ot_rng_below(rng, 24);
    }
    return t;
}

static bool work_has_blobs(const work_txn *t)
{
    return (t->kinds & (WORK_SEGMENT | WORK_VERSION | WORK_DATASET)) != 0;
}

static ot_rc work_put_blobs(ot_store *store, work_txn *t, ot_error *err)
{
    for (int i = 0; i < WORK_BLOBS && work_has_blobs(t); i++) {
        char bytes[1400];
        memset(bytes, (int)t->content[i], sizeof bytes);
        OT_TRY(ot_blob_put(store, bytes, 1 + t->content[i] * 57, &t->blob[i], err));
    }
    return OT_OK;
}

/* The order of the product: bytes first, then the row that names them, in a transaction that looks
 * whether they are there. */
static ot_rc work_need_blobs(ot_txn *txn, const work_txn *t, ot_error *err)
{
    for (int i = 0; i < WORK_BLOBS && work_has_blobs(t); i++) {
        if (!ot_blob_exists(ot_txn_store(txn), &t->blob[i])) {
            return ot_fail(err, OT_INTERNAL, "the blob is not there");
        }
    }
    return OT_OK;
}

static ot_rc work_segment(ot_txn *txn, const work_txn *t, ot_error *err)
{
    int64_t now = (int64_t)t->number, id;
    uint64_t seq = t->number * 10;
    char key[32];
    ot_answer a[3];
    for (unsigned i = 0; i < 3; i++) {
        a[i] = (ot_answer){
            .seq = seq + i, .time_us = now, .prediction = i, .probability = 1, .row = i};
    }
    ot_segment_row s = {.deployment = "d",
                        .incarnation = 7,
                        .version = 1,
                        .start_us = now,
                        .end_us = now,
                        .size_bytes = 9,
                        .blob = t->blob[0],
                        .meta = "{}",
                        .answers = a,
                        .n = 3};
    ot_label_row l = {.incarnation = 7, .seq = seq, .value = 1, .source = "s", .received_us = now};
    ot_outcome_row o = {.incarnation = 7,
                        .seq = seq,
                        .version = 1,
                        .right = 1,
                        .prediction = 1,
                        .label = 1,
                        .time_us = now,
                        .probability = 1};
    ot_label_put put;
    bool added;
    snprintf(key, sizeof key, "key-%llu", (unsigned long long)(t->number % 40));
    OT_TRY(ot_segment_insert(txn, &s, &id, err));
    OT_TRY(ot_row_key_set(txn, "d", key, 7, seq, now, err));
    OT_TRY(ot_label_set(txn, "d", &l, &put, err));
    OT_TRY(ot_label_set_joined(txn, "d", 7, seq, err));
    return ot_outcome_add(txn, "d", &o, &added, err);
}

static ot_rc work_window(ot_txn *txn, const work_txn *t, ot_error *err)
{
    static const char counts[900];
    int64_t now = (int64_t)t->number, id;
    bool fresh;
    ot_window_row w = {.deployment = "d",
                       .version = 1,
                       .start_us = now,
                       .end_us = now + 1,
                       .requests = 3,
                       .rows = now,
                       .latency = counts,
                       .n_latency = 50,
                       .inputs = counts,
                       .n_inputs = t->padding % sizeof counts,
                       .outputs = counts,
                       .n_outputs = 40};
    OT_TRY(ot_push_note(txn, "d", 7, "window", t->number, &fresh, err));
    return fresh ? ot_window_insert(txn, &w, &id, err)
                 : ot_fail(err, OT_INTERNAL, "push %llu was counted before it came",
                           (unsigned long long)t->number);
}

static ot_rc work_version(ot_txn *txn, const work_txn *t, ot_error *err)
{
    int64_t now = (int64_t)t->number, model, version;
    ot_bundle_file_row files[2] = {{.path = "manifest.json", .size = 1, .blob = t->blob[0]},
                                   {.path = "model/m", .size = 1, .blob = t->blob[1]}};
    OT_TRY(ot_model_ensure(txn, "m", "a", now, &model, err));
    OT_TRY(ot_bundle_row_add(txn, &t->blob[0], "null", files, 2, now, err));
    ot_version_new v = {.model_id = model, .bundle = t->blob[0], .app = "a", .now_us = now};
    OT_TRY(ot_version_add(txn, &v, &version, err));
    OT_TRY(ot_version_set_event(txn, model, version, t->number, err));
    OT_TRY(ot_alias_set(txn, "m", OT_ALIAS_CHAMPION, version, now, err));
    OT_TRY(ot_version_set_status(txn, "m", version, OT_VERSION_CHAMPION, now, err));
    ot_version_row old;
    bool removed;
    if (version <= 4) {
        return OT_OK;
    }
    OT_TRY(ot_version_get(txn, "m", version - 4, &old, err));
    OT_TRY(ot_version_delete(txn, "m", version - 4, err));
    return ot_bundle_row_drop_unused(txn, &old.bundle, &removed, err);
}

static ot_rc work_dataset(ot_txn *txn, const work_txn *t, ot_error *err)
{
    ot_dataset_row d = {.digest = t->blob[2], .name = "base", .rows = 5, .size_bytes = 50};
    d.created_us = (int64_t)t->number;
    return ot_dataset_row_add(txn, &d, "{\"from\":\"test\"}", t->blob, 2, err);
}

static ot_rc work_run(ot_txn *txn, const work_txn *t, ot_error *err)
{
    ot_run r = {.app = "a", .step = "train", .attempt = 1, .spec = "{\"run\":\"true\"}"};
    r.created_us = (int64_t)t->number;
    OT_TRY(ot_store_run_insert(txn, &r, &r.id, err));
    r.state = t->padding % 2 == 0 ? OT_RUN_SUCCEEDED : OT_RUN_RUNNING;
    r.result = "{\"state\":\"succeeded\"}";
    return ot_store_run_update(txn, &r, err);
}

static ot_rc work_state(ot_txn *txn, const work_txn *t, ot_error *err)
{
    char bytes[6000];
    memset(bytes, (int)(t->number % 251), sizeof bytes);
    OT_TRY(ot_quality_state_set(txn, "d", "inputs", bytes, t->padding * 2, err));
    return t->number % 3 == 0 ? ot_quality_state_delete(txn, "d", "inputs", err) : OT_OK;
}

static ot_rc work_expire(ot_txn *txn, const work_txn *t, ot_error *err)
{
    int64_t before = (int64_t)t->number - 60, n;
    uint64_t freed;
    OT_TRY(ot_segments_expire(txn, "d", before, 0, &n, &freed, err));
    OT_TRY(ot_row_keys_expire(txn, "d", before, 10, err));
    OT_TRY(ot_windows_expire(txn, "d", before, 50, &n, err));
    return ot_outcomes_expire(txn, "d", before, 50, err);
}

/* An ot_store_fn; `arg` is a work_txn. */
static ot_rc work_do(ot_txn *txn, void *arg, ot_error *err)
{
    static ot_rc (*const steps[])(ot_txn *, const work_txn *, ot_error *) = {
        work_segment, work_window, work_version, work_dataset, work_run, work_state, work_expire};
    const work_txn *t = arg;
    char text[32], payload[3072];
    snprintf(text, sizeof text, "%llu", (unsigned long long)t->number);
    snprintf(payload, sizeof payload, "{\"p\":\"%0*d\"}", (int)t->padding, 7);
    ot_event_in e = {.actor = "test", .type = "crash.step", .object = text, .payload = payload};
    OT_TRY(work_need_blobs(txn, t, err));
    OT_TRY(ot_kv_set(txn, "crash", "number", text, strlen(text), err));
    for (uint64_t i = 0; i < t->events; i++) {
        OT_TRY(ot_event_append(txn, &e, NULL, err));
    }
    for (unsigned i = 0; i < OT_COUNT(steps); i++) {
        if ((t->kinds & 1u << i) != 0) {
            OT_TRY(steps[i](txn, t, err));
        }
    }
    return t->fails ? ot_fail(err, OT_INVALID, "told to fail") : OT_OK;
}

/* What a state of the store is: the transaction that made it, the log, every row of every table. */
typedef struct work_seen {
    uint64_t number; /* 0: none yet */
    ot_event_head head;
    ot_digest rows; /* of all tables but the log's, whose index by object follows in its own time */
} work_seen;

static void work_add_row(sqlite3_stmt *s, ot_sha256 *sha)
{
    for (int c = 0; c < sqlite3_column_count(s); c++) {
        int type = sqlite3_column_type(s, c);
        int n = sqlite3_column_bytes(s, c); /* of numbers: their text */
        int head[2] = {type, n};
        ot_sha256_add(sha, head, sizeof head);
        if (n > 0) {
            const void *text = sqlite3_column_text(s, c);
            ot_sha256_add(sha, type == SQLITE_BLOB ? sqlite3_column_blob(s, c) : text, (size_t)n);
        }
    }
}

static ot_rc work_add_table(sqlite3 *db, const char *name, ot_sha256 *sha, ot_error *err)
{
    char sql[128];
    sqlite3_stmt *s;
    snprintf(sql, sizeof sql, "SELECT * FROM \"%s\"", name);
    ot_sha256_add(sha, name, strlen(name));
    if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) != SQLITE_OK) {
        return ot_fail(err, OT_INTERNAL, "%s: %s", sql, sqlite3_errmsg(db));
    }
    int rc;
    while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
        work_add_row(s, sha);
    }
    sqlite3_finalize(s);
    return rc == SQLITE_DONE ? OT_OK
                             : ot_fail(err, OT_DATA_LOSS, "%s: %s", sql, sqlite3_errmsg(db));
}

/* An ot_store_fn; `arg` is a work_seen. The chain must verify. */
static ot_rc work_look(ot_txn *txn, void *arg, ot_error *err)
{
    work_seen *seen = arg;
    ot_events_verdict v;
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    ot_sha256 sha;
    bool more;
    OT_TRY(ot_events_verify(txn, NULL, &v, err));
    OT_TRY(ot_events_head(txn, &seen->head, err));
    ot_rc rc = ot_kv_get(txn, "crash", "number", &text, err);
    if (rc != OT_OK && rc != OT_NOT_FOUND) {
        return rc;
    }
    seen->number = rc == OT_OK ? strtoull(text.data, NULL, 10) : 0;
    ot_sha256_init(&sha);
    OT_TRY(ot_stmt_get(txn,
                       "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE "
                       "'event%' ORDER BY name",
                       &s, err));
    for (;;) {
        OT_TRY(ot_stmt_step(s, "list tables", &more, err));
        if (!more) {
            break;
        }
        OT_TRY(work_add_table(ot_txn_db(txn), ot_col_text(s, 0), &sha, err));
    }
    seen->rows = ot_sha256_done(&sha);
    return OT_OK;
}

static bool work_same(const work_seen *a, const work_seen *b)
{
    return a->number == b->number && a->head.seq == b->head.seq &&
           ot_digest_equal(&a->head.hash, &b->head.hash) && ot_digest_equal(&a->rows, &b->rows);
}

/* An ot_store_fn: the blob of every row that names one is there. */
static ot_rc work_look_blobs(ot_txn *txn, void *arg, ot_error *err)
{
    (void)arg;
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    OT_TRY(ot_stmt_get(txn,
                       "SELECT blob FROM segment UNION SELECT blob FROM bundle_file UNION "
                       "SELECT blob FROM dataset_blob UNION SELECT digest FROM dataset",
                       &s, err));
    for (;;) {
        bool more;
        ot_digest d;
        OT_TRY(ot_stmt_step(s, "list blobs", &more, err));
        if (!more) {
            return OT_OK;
        }
        if (!ot_col_digest(s, 0, &d)) {
            return ot_fail(err, OT_DATA_LOSS, "a row names no blob");
        }
        OT_TRY(ot_blob_verify(ot_txn_store(txn), &d, err));
    }
}

static ot_rc work_live(ot_txn *txn, void *arg, const ot_digest *d, bool *live_out, ot_error *err)
{
    (void)arg;
    return ot_models_blob_live(txn, d, live_out, err);
}

/* Deletes every blob that no row names. */
static ot_rc work_collect(ot_store *store, uint64_t *deleted, ot_error *err)
{
    ot_blob_report r;
    OT_TRY(ot_blob_collect(store, 0, work_live, NULL, &r, err));
    *deleted += r.deleted;
    return OT_OK;
}

#endif
