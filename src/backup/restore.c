#include "backup/internal.h"

#include "base/clock.h"
#include "base/mem.h"
#include "store/backup.h"
#include "store/blob.h"
#include "store/events.h"
#include "store/runs.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define PARTIAL "restore.partial"
#define ARENA_MAX (64u << 20)

/* What comes back, in the order of its publishing: with `store` there is something to start on. */
static const char *const parts[] = {"runs", "log.head", "store"};

typedef struct restore {
    ot_disk *disk;
    ot_disk *from; /* what the backup lies on: `disk`, or the archive that it is */
    const ot_restore_options *opt;
    const char *data;
    char partial[OT_PATH_MAX];
    ot_store *store;
    ot_event_head before, after; /* the log as it was saved, and with the event of the restore */
    ot_backup_report r;
} restore;

/* --- where from and where to ------------------------------------------------------------------ */

static ot_rc find_backup(restore *s, const char *given, ot_error *err)
{
    char path[OT_PATH_MAX];
    ot_stat st;
    OT_TRY(s->disk->ops->stat(s->disk, given, &st, err));
    OT_TRY(ot_path_join(path, given, OT_BACKUP_MANIFEST, err));
    OT_TRY(ot_path_join(s->r.path, given, "", err));
    s->r.path[strlen(s->r.path) - 1] = 0;
    if (!st.is_dir) {
        return bk_archive_open(s->disk, s->r.path, &s->from, err);
    }
    if (ot_disk_exists(s->disk, path)) {
        return OT_OK;
    }
    char newest[OT_PATH_MAX];
    OT_TRY(bk_newest(s->disk, given, newest, err));
    if (newest[0] != 0) {
        memcpy(s->r.path, newest, sizeof newest);
    }
    return OT_OK; /* reading the manifest says what there is not */
}

static ot_rc check_version(const restore *s, ot_error *err)
{
    if (s->r.head.schema > ot_store_schema_newest()) {
        return ot_fail(err, OT_PRECONDITION,
                       "%s: was made by Overtake %s; its schema is version %" PRId64
                       " and this program knows versions up to %" PRId64
                       "; restore it with that Overtake or a newer one",
                       s->r.path, s->r.head.program, s->r.head.schema, ot_store_schema_newest());
    }
    return OT_OK;
}

bool ot_backup_is_half_restored(ot_disk *disk, const char *data_dir)
{
    char path[OT_PATH_MAX];
    return ot_path_join(path, data_dir, PARTIAL, NULL) == OT_OK && ot_disk_exists(disk, path);
}

/* Of what a restore that was broken off had put in place; the marker goes last. */
static ot_rc clean_up(restore *s, ot_error *err)
{
    char path[OT_PATH_MAX];
    for (size_t i = OT_COUNT(parts); i-- > 0;) {
        OT_TRY(ot_path_join(path, s->data, parts[i], err));
        OT_TRY(ot_disk_remove_tree(s->disk, path, err));
    }
    return ot_disk_remove_tree(s->disk, s->partial, err);
}

static ot_rc check_empty(restore *s, ot_error *err)
{
    OT_AUTO(bk_names_done) bk_names names = {0};
    if (ot_backup_is_half_restored(s->disk, s->data)) {
        OT_TRY(clean_up(s, err));
    }
    OT_TRY(bk_list(s->disk, s->data, &names, err));
    for (size_t i = 0; i < names.n; i++) {
        if (strcmp(names.v[i], "lock") != 0) {
            return ot_fail(err, OT_PRECONDITION,
                           "data directory '%s' is not empty (it has %s); restore into another one "
                           "with --data, or move it away first",
                           s->data, names.v[i]);
        }
    }
    return OT_OK;
}

/* --- what the backup has ---------------------------------------------------------------------- */

static ot_rc take_item(void *arg, const ot_backup_item *item, ot_error *err)
{
    restore *s = arg;
    char from[OT_PATH_MAX], to[OT_PATH_MAX];
    bool is_blob = ot_has_prefix(item->path, "store/blobs/");
    ot_digest got;
    uint64_t size;
    OT_TRY(ot_path_join(from, s->r.path, item->path, err));
    OT_TRY(ot_path_join(to, s->partial, item->path, err));
    OT_TRY(bk_make_parent(s->disk, to, err));
    ot_rc rc = bk_copy(s->from, from, s->disk, to, is_blob ? 0444 : 0600, item, NULL, NULL, &got,
                       &size, err);
    if (rc == OT_NOT_FOUND) {
        return ot_fail(err, OT_DATA_LOSS, "%s: is gone; the backup was made with it", from);
    }
    s->r.copied_bytes += rc == OT_OK ? size : 0;
    return rc;
}

/* --- what the store says ---------------------------------------------------------------------- */

static ot_rc prove_txn(ot_txn *txn, void *arg, ot_error *err)
{
    restore *s = arg;
    ot_events_verdict v;
    OT_TRY(ot_events_verify(txn, &s->before, &v, err));
    return v.head.seq == s->before.seq
               ? OT_OK
               : ot_fail(err, OT_DATA_LOSS,
                         "the log goes on to event %" PRIu64 " and the backup was made at %" PRIu64,
                         v.head.seq, s->before.seq);
}

/* A run of the table is as the snapshot has it; its directory may be of a later moment. */
static ot_rc settle_run(ot_txn *txn, restore *s, const char *name, ot_error *err)
{
    static const char lost[] = "the data directory was restored from a backup that was made while "
                               "this run was under way\n";
    char runs[OT_PATH_MAX], dir[OT_PATH_MAX], path[OT_PATH_MAX];
    int64_t id = 0;
    ot_arena arena;
    ot_run run = {0};
    ot_error why = {0};
    OT_TRY(ot_parse_i64(name, &id, err));
    OT_TRY(ot_path_join(runs, s->partial, "runs", err));
    OT_TRY(ot_path_join(dir, runs, name, err));
    ot_arena_init(&arena, 16384, ARENA_MAX);
    ot_rc rc = ot_store_run_get(txn, id, &arena, &run, &why);
    ot_arena_done(&arena);
    if (rc == OT_NOT_FOUND || (rc == OT_OK && run.state == OT_RUN_QUEUED)) {
        return ot_disk_remove_tree(s->disk, dir, err); /* it is laid out anew */
    }
    if (rc != OT_OK) {
        return ot_fail(err, rc, "%s", why.msg);
    }
    if (run.state != OT_RUN_RUNNING) {
        return OT_OK;
    }
    OT_TRY(ot_path_join(path, dir, "exit.json", err));
    OT_TRY(ot_disk_remove_tree(s->disk, path, err));
    OT_TRY(ot_path_join(path, dir, "shim.log", err));
    return ot_disk_write_atomic(s->disk, path, lost, sizeof lost - 1, 0600, err);
}

static ot_rc settle_runs(ot_txn *txn, void *arg, ot_error *err)
{
    restore *s = arg;
    OT_AUTO(bk_names_done) bk_names names = {0};
    char runs[OT_PATH_MAX];
    OT_TRY(ot_path_join(runs, s->partial, "runs", err));
    if (!ot_disk_exists(s->disk, runs)) {
        return OT_OK;
    }
    OT_TRY(bk_list(s->disk, runs, &names, err));
    for (size_t i = 0; i < names.n; i++) {
        OT_TRY(settle_run(txn, s, names.v[i], err));
    }
    return OT_OK;
}

static ot_rc leave_event(ot_txn *txn, void *arg, ot_error *err)
{
    restore *s = arg;
    OT_AUTO(ot_str_done) ot_str json = OT_STR_INIT;
    char when[32];
    ot_format_time(s->r.head.made_us, when);
    ot_str_addf(&json,
                "{\"text\": \"restored from a backup of %s\", \"made_us\": %" PRId64
                ", \"head\": %" PRIu64 ", \"program\": \"",
                when, s->r.head.made_us, s->before.seq);
    ot_str_add_json(&json, s->r.head.program, strlen(s->r.head.program));
    ot_str_addf(&json,
                "\", \"files\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"missing\": %" PRIu64 "}",
                s->r.head.files, s->r.head.bytes, s->r.head.missing);
    if (json.failed) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for the event");
    }
    ot_event_in in = {
        .actor = s->opt->actor, .type = "backup.restored", .object = "store", .payload = json.data};
    OT_TRY(ot_event_append(txn, &in, NULL, err));
    return ot_events_head(txn, &s->after, err);
}

/* Opens the store where it lies: its schema is brought forward, its log is proven up to the head of
 * the manifest. */
static ot_rc settle_store(restore *s, ot_error *err)
{
    char dir[OT_PATH_MAX];
    OT_TRY(ot_path_join(dir, s->partial, "store", err));
    OT_TRY(ot_store_open(s->disk, dir, NULL, &s->store, err));
    s->before = s->r.head.log;
    ot_rc rc = ot_store_read(s->store, prove_txn, s, err);
    if (rc == OT_OK) {
        rc = ot_store_read(s->store, settle_runs, s, err);
    }
    if (rc == OT_OK) {
        rc = ot_store_write(s->store, leave_event, s, err);
    }
    ot_store_close(s->store);
    return rc == OT_OK ? rc : ot_error_prefix(err, rc, "%s", s->r.path);
}

static ot_rc write_head(restore *s, ot_error *err)
{
    char path[OT_PATH_MAX], line[OT_EVENT_HEAD_LINE + 1];
    OT_TRY(ot_path_join(path, s->partial, "log.head", err));
    ot_event_head_format(&s->after, line);
    return ot_disk_write_atomic(s->disk, path, line, OT_EVENT_HEAD_LINE, 0600, err);
}

/* --- publishing ------------------------------------------------------------------------------- */

static ot_rc publish(restore *s, ot_error *err)
{
    char from[OT_PATH_MAX], to[OT_PATH_MAX];
    OT_TRY(bk_sync_tree(s->disk, s->partial, err));
    OT_TRY(s->disk->ops->sync_dir(s->disk, s->data, err));
    for (size_t i = 0; i < OT_COUNT(parts); i++) {
        OT_TRY(ot_path_join(from, s->partial, parts[i], err));
        OT_TRY(ot_path_join(to, s->data, parts[i], err));
        if (ot_disk_exists(s->disk, from)) {
            OT_TRY(s->disk->ops->rename(s->disk, from, to, err));
        }
    }
    OT_TRY(s->disk->ops->sync_dir(s->disk, s->data, err));
    OT_TRY(ot_disk_remove_tree(s->disk, s->partial, err)); /* the marker */
    return s->disk->ops->sync_dir(s->disk, s->data, err);
}

static ot_rc fill(restore *s, ot_error *err)
{
    OT_TRY(ot_disk_mkdirs(s->disk, s->partial, 0700, err));
    OT_TRY(ot_backup_read(s->from, s->r.path, take_item, s, NULL, err));
    OT_TRY(settle_store(s, err));
    OT_TRY(write_head(s, err));
    return publish(s, err);
}

static ot_rc run(restore *s, const char *backup, ot_error *err)
{
    OT_TRY(find_backup(s, backup, err));
    OT_TRY(ot_backup_read(s->from, s->r.path, NULL, NULL, &s->r.head, err));
    OT_TRY(check_version(s, err));
    OT_TRY(check_empty(s, err));
    ot_rc rc = fill(s, err);
    if (rc != OT_OK) {
        ot_rc ignored = clean_up(s, NULL);
        (void)ignored;
    }
    return rc;
}

ot_rc ot_backup_restore(ot_disk *disk, const char *backup, const char *data_dir,
                        const ot_restore_options *opt, ot_backup_report *report_out, ot_error *err)
{
    OT_AUTO(ot_free_ptr) restore *s = ot_calloc(1, sizeof *s);
    if (s == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for a restore");
    }
    uint64_t start = ot_clock_mono_ns();
    s->disk = s->from = disk;
    s->data = data_dir;
    s->opt = opt;
    OT_TRY(ot_path_join(s->partial, data_dir, PARTIAL, err));
    ot_rc rc = run(s, backup, err);
    if (s->from != disk) {
        bk_archive_close(s->from);
    }
    OT_TRY(rc);
    s->r.took_us = (int64_t)((ot_clock_mono_ns() - start) / 1000);
    *report_out = s->r;
    return OT_OK;
}
