/* Backups and restores on a disk in memory: what comes back, what is refused, and what a cut in the
 * middle leaves. */
#include "backup/backup.h"

#include "base/clock.h"
#include "base/mem.h"
#include "crash_disk.h"
#include "store/backup.h"
#include "store/blob.h"
#include "store/models.h"
#include "store/runs.h"
#include "tap.h"

#include <inttypes.h>
#include <stdio.h>

#define BLOBS 5

static crash_disk *disk;
static ot_store *store;
static ot_digest blobs[BLOBS];

static void must(ot_rc rc, const ot_error *e, const char *what)
{
    if (rc != OT_OK) {
        printf("Bail out! %s: %s\n", what, e->msg);
        exit(1);
    }
}

static ot_rc append(ot_txn *txn, void *arg, ot_error *err)
{
    ot_event_in in = {.actor = "test", .type = "test.written", .object = arg};
    return ot_event_append(txn, &in, NULL, err);
}

static void write_event(const char *object)
{
    ot_error e;
    OT_AUTO(ot_free_ptr) char *copy = ot_strdup(object);
    must(ot_store_write(store, append, copy, &e), &e, "write");
}

static ot_rc add_rows(ot_txn *txn, void *arg, ot_error *err)
{
    (void)arg;
    int64_t id;
    ot_bundle_file_row files[] = {{.path = "manifest.json", .size = 10, .blob = blobs[0]},
                                  {.path = "model/m", .size = 10, .blob = blobs[1]}};
    ot_run run = {.app = "a", .step = "train", .state = OT_RUN_RUNNING, .attempt = 1, .spec = "{}"};
    OT_TRY(ot_bundle_row_add(txn, &blobs[0], "onnx", files, 2, 1, err));
    OT_TRY(ot_store_run_insert(txn, &run, &id, err));
    run.state = OT_RUN_SUCCEEDED;
    OT_TRY(ot_store_run_insert(txn, &run, &id, err));
    run.state = OT_RUN_QUEUED;
    return ot_store_run_insert(txn, &run, &id, err);
}

static void put_file(const char *path, const char *text)
{
    ot_error e;
    char dir[OT_PATH_MAX];
    snprintf(dir, sizeof dir, "%s", path);
    *strrchr(dir, '/') = 0;
    must(ot_disk_mkdirs(&disk->base, dir, 0700, &e), &e, dir);
    must(ot_disk_write_atomic(&disk->base, path, text, strlen(text), 0600, &e), &e, path);
}

/* A data directory /d with events, blobs, a bundle and four runs: 1 under way, 2 ended, 3 queued
 * and started since, 4 begun since. */
static void start(bool records)
{
    ot_error e;
    disk = crash_disk_create(records);
    must(ot_store_open(&disk->base, "/d/store", NULL, &store, &e), &e, "open");
    for (int i = 0; i < BLOBS; i++) {
        char text[32];
        snprintf(text, sizeof text, "bytes of blob %d", i);
        must(ot_blob_put(store, text, strlen(text), &blobs[i], &e), &e, "put");
    }
    must(ot_store_write(store, add_rows, NULL, &e), &e, "rows");
    for (int i = 0; i < 20; i++) {
        write_event("before");
    }
    for (int i = 1; i <= 4; i++) {
        char path[64];
        snprintf(path, sizeof path, "/d/runs/%d/spec.json", i);
        put_file(path, "{\"spec\":1}");
        snprintf(path, sizeof path, "/d/runs/%d/log", i);
        put_file(path, "it said so\n");
        snprintf(path, sizeof path, "/d/runs/%d/exit.json", i);
        put_file(path, "{\"exit\":1}");
        snprintf(path, sizeof path, "/d/runs/%d/shim.json", i);
        put_file(path, "{\"pid\":1}");
    }
}

static void end(void)
{
    ot_store_close(store);
    crash_disk_destroy(disk);
}

static const ot_backup_options plain = {.data_dir = "/d", .program = "0.1.0"};

static ot_backup_report backup(const ot_backup_options *o)
{
    static ot_backup_report r;
    ot_error e;
    must(ot_backup_make(store, "/b", o, &r, &e), &e, "backup");
    return r;
}

static ot_rc restore_on(ot_disk *d, const char *from, const char *to, ot_backup_report *r,
                        ot_error *e)
{
    ot_restore_options o = {.actor = "tester"};
    must(ot_disk_mkdirs(d, to, 0700, e), e, to);
    return ot_backup_restore(d, from, to, &o, r, e);
}

typedef struct seen {
    ot_event_head head;
    char type[64];
} seen;

static ot_rc note_event(void *arg, const ot_event *event, ot_error *err)
{
    (void)err;
    seen *s = arg;
    snprintf(s->type, sizeof s->type, "%s", event->type);
    return OT_OK;
}

static ot_rc look(ot_txn *txn, void *arg, ot_error *err)
{
    seen *s = arg;
    ot_events_verdict v;
    OT_TRY(ot_events_verify(txn, NULL, &v, err));
    s->head = v.head;
    return ot_event_get(txn, v.head.seq, note_event, s, err);
}

/* What a store in a directory says of itself; seq 0: it can't be opened. */
static seen look_at(ot_disk *d, const char *dir)
{
    seen s = {0};
    ot_error e;
    ot_store *view;
    if (ot_store_open_view(d, dir, &view, &e) == OT_OK) {
        if (ot_store_read(view, look, &s, &e) != OT_OK) {
            printf("# %s: %s\n", dir, e.msg);
            s.head.seq = 0;
        }
        ot_store_close(view);
    }
    return s;
}

static bool exists(const char *path)
{
    return ot_disk_exists(&disk->base, path);
}

static void test_there_and_back(void)
{
    ot_error e = {0};
    ot_backup_report r = backup(&plain), back;
    is_int(r.head.log.seq, 20, "the head of the log is in the report");
    is_int(r.head.files, 1 + BLOBS + 4 * 3, "the database, the blobs, three files a run");
    is_int(r.head.missing, 0, "nothing is missing");
    write_event("after");
    is_int(restore_on(&disk->base, "/b", "/new", &back, &e), OT_OK, "restored: %s", e.msg);
    is_str(back.path, r.path, "the newest one");
    seen s = look_at(&disk->base, "/new/store");
    is_int(s.head.seq, 21, "its log verifies and has what was there, and one event more");
    is_str(s.type, "backup.restored", "which says what was done");
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    ot_event_head kept = {0};
    ok(ot_disk_read_all(&disk->base, "/new/log.head", 100, &text, &e) == OT_OK &&
           text.len == OT_EVENT_HEAD_LINE && ot_event_head_parse(text.data, &kept) &&
           kept.seq == s.head.seq && ot_digest_equal(&kept.hash, &s.head.hash),
       "log.head names that event");
    char path[OT_PATH_MAX], rel[OT_PATH_MAX];
    ot_backup_blob_path(&blobs[3], rel);
    snprintf(path, sizeof path, "/new/%s", rel);
    ot_stat st;
    ok(disk->base.ops->stat(&disk->base, path, &st, &e) == OT_OK && st.size == 15, "a blob");
    is_int(st.mode & 0222, 0, "that nobody may write to");
    ok(exists("/new/runs/2/exit.json"), "a run that had ended");
    ok(exists("/new/runs/1/log") && !exists("/new/runs/1/exit.json"),
       "one that was under way is one without an end");
    ok(exists("/new/runs/1/shim.log") && !exists("/new/runs/1/shim.json"), "and names no process");
    ok(!exists("/new/runs/3") && !exists("/new/runs/4"), "those that came later are not there");
    ok(!exists("/new/token") && !exists("/new/restore.partial"), "nothing else");
    is_int(restore_on(&disk->base, "/b", "/new", &back, &e), OT_PRECONDITION,
           "not into it again: %s", e.msg);
    ok(strstr(e.msg, "not empty") != NULL, "because it is not empty");
}

static void test_incremental(void)
{
    ot_error e = {0};
    ot_backup_report first = backup(&plain), back;
    must(ot_blob_put(store, "new", 3, NULL, &e), &e, "put");
    ot_backup_report second = backup(&plain);
    is_int(first.linked, 0, "all of the first is copied");
    is_int(second.linked, BLOBS, "what it has is not copied again");
    is_int(second.head.files, first.head.files + 1, "what is new is");
    put_file("/b/20200101T000000.000000Z.partial/store/store.db", "half of one");
    put_file("/b/letters.partial/of", "somebody else");
    put_file("/b/1999/manifest", "of somebody else");
    ot_backup_options one = plain;
    one.keep = 1;
    ot_backup_report third = backup(&one);
    is_int(third.removed, 2, "old ones go");
    ok(!exists(first.path) && !exists(second.path) && exists(third.path), "the newest stays");
    ok(!exists("/b/20200101T000000.000000Z.partial"), "half a backup goes too");
    ok(exists("/b/letters.partial/of") && exists("/b/1999/manifest"), "what is not ours stays");
    is_int(third.linked, BLOBS + 1, "with what it shared with them");
    is_int(restore_on(&disk->base, third.path, "/n", &back, &e), OT_OK, "and is whole: %s", e.msg);
}

/* One file, and what becomes of it. */
static void test_packed(void)
{
    ot_error e = {0};
    ot_backup_report r = backup(&plain), back;
    must(ot_backup_pack(&disk->base, r.path, "/b/one.tar", &e), &e, "pack");
    must(ot_disk_remove_tree(&disk->base, r.path, &e), &e, "remove");
    is_int(restore_on(&disk->base, "/b/one.tar", "/n", &back, &e), OT_OK, "one file: %s", e.msg);
    is_int(look_at(&disk->base, "/n/store").head.seq, 21, "comes back whole");
    is_int(back.head.files, r.head.files, "with all that was in it");
    ot_file *f;
    uint64_t size;
    must(disk->base.ops->open(&disk->base, "/b/one.tar", OT_OPEN_WRITE, 0, &f, &e), &e, "open");
    must(f->ops->size(f, &size, &e), &e, "size");
    must(f->ops->pwrite(f, "X", 1, 5000, &e), &e, "write");
    is_int(restore_on(&disk->base, "/b/one.tar", "/m", &back, &e), OT_DATA_LOSS, "edited: %s",
           e.msg);
    ok(strstr(e.msg, "one.tar/store/store.db") != NULL, "the file in it is named");
    must(f->ops->truncate(f, size - 3000, &e), &e, "truncate");
    is_int(restore_on(&disk->base, "/b/one.tar", "/m", &back, &e), OT_DATA_LOSS, "cut short: %s",
           e.msg);
    ot_file_close(f);
}

/* A writer, the collector and a checkpoint, each in the middle of the copying. */
typedef struct busy {
    unsigned n;
    uint64_t deleted;
} busy;

static ot_rc none_lives(ot_txn *txn, void *arg, const ot_digest *d, bool *live, ot_error *err)
{
    (void)txn, (void)arg, (void)d, (void)err;
    *live = false;
    return OT_OK;
}

static ot_rc meanwhile(void *arg, uint64_t worked, ot_error *err)
{
    (void)worked;
    busy *b = arg;
    ot_blob_report r;
    write_event("meanwhile");
    OT_TRY(ot_blob_collect(store, -1000000, none_lives, NULL, &r, err));
    b->n++;
    b->deleted += r.deleted;
    return OT_OK;
}

static void test_writers(void)
{
    ot_error e = {0};
    busy b = {0};
    ot_snapshot s;
    ot_snapshot_options o = {.rest = meanwhile, .arg = &b};
    for (int i = 0; i < 3000; i++) {
        write_event("filling");
    }
    must(ot_disk_mkdirs(&disk->base, "/copy", 0700, &e), &e, "mkdir");
    must(ot_blob_hold(store, &e), &e, "hold");
    is_int(ot_store_snapshot(store, "/copy", &o, &s, &e), OT_OK, "a snapshot while others write");
    ok(b.n >= 2, "who wrote %u times", b.n);
    is_int(b.deleted, 0, "no blob was collected meanwhile");
    seen copy = look_at(&disk->base, "/copy");
    is_int(s.head.seq, 3020, "it is of the moment when it began");
    ok(copy.head.seq == s.head.seq && ot_digest_equal(&copy.head.hash, &s.head.hash),
       "and so is the copy, whose chain verifies");
    ot_blob_release(store);
    is_int(ot_store_snapshot(store, "/copy", &o, &s, &e), OT_EXISTS, "never over another: %s",
           e.msg);
    ot_blob_report r;
    must(ot_blob_collect(store, -1000000, none_lives, NULL, &r, &e), &e, "collect");
    is_int(r.deleted, BLOBS, "afterwards the collector goes on");
}

static void test_missing(void)
{
    ot_error e = {0};
    char path[OT_PATH_MAX];
    ot_backup_report back;
    must(ot_blob_path(store, &blobs[1], path, &e), &e, "path");
    must(disk->base.ops->unlink(&disk->base, path, &e), &e, "unlink");
    must(ot_blob_path(store, &blobs[0], path, &e), &e, "path");
    ot_file *f;
    must(disk->base.ops->open(&disk->base, path, OT_OPEN_WRITE, 0, &f, &e), &e, "open");
    must(f->ops->pwrite(f, "X", 1, 3, &e), &e, "write");
    ot_file_close(f);
    ot_backup_report r = backup(&plain);
    is_int(r.head.missing, 2, "a blob that is gone and one that is damaged are named");
    ok(ot_digest_equal(&r.head.first_missing, &blobs[0]) ||
           ot_digest_equal(&r.head.first_missing, &blobs[1]),
       "the first by its digest");
    is_int(restore_on(&disk->base, "/b", "/n", &back, &e), OT_OK, "the rest comes back: %s", e.msg);
    is_int(back.head.missing, 2, "and says what does not");
}

/* --- what is refused -------------------------------------------------------------------------- */

static void change(const char *path, uint64_t at)
{
    ot_error e;
    ot_file *f;
    size_t n;
    char c;
    must(disk->base.ops->open(&disk->base, path, OT_OPEN_READ | OT_OPEN_WRITE, 0, &f, &e), &e,
         path);
    must(f->ops->pread(f, &c, 1, at, &n, &e), &e, path);
    c ^= 1;
    must(f->ops->pwrite(f, &c, 1, at, &e), &e, path);
    ot_file_close(f);
}

static bool is_empty_dir(const char *dir)
{
    char path[OT_PATH_MAX];
    for (size_t i = 0; i < disk->now.name_count; i++) {
        snprintf(path, sizeof path, "%s/", dir);
        if (ot_has_prefix(disk->now.names[i].path, path)) {
            printf("# there is %s\n", disk->now.names[i].path);
            return false;
        }
    }
    return true;
}

static void refused(const char *what, ot_rc want, const char *names)
{
    ot_error e = {0};
    ot_backup_report r;
    is_int(restore_on(&disk->base, "/b", "/n", &r, &e), want, "%s: %s", what, e.msg);
    ok(strstr(e.msg, names) != NULL, "it names %s", names);
    ok(is_empty_dir("/n"), "and leaves nothing");
}

static void test_edited(void)
{
    ot_backup_report r = backup(&plain);
    char path[OT_PATH_MAX], rel[OT_PATH_MAX];
    ot_error e;
    ot_backup_blob_path(&blobs[2], rel);
    const char *const files[] = {"store/store.db", rel, "runs/2/log"};
    for (size_t i = 0; i < OT_COUNT(files); i++) {
        snprintf(path, sizeof path, "%s/%s", r.path, files[i]);
        change(path, 5);
        refused("a changed file", OT_DATA_LOSS, files[i]);
        change(path, 5);
    }
    snprintf(path, sizeof path, "%s/manifest", r.path);
    change(path, 25);
    refused("a changed manifest", OT_DATA_LOSS, "manifest");
    change(path, 25);
    ot_file *f;
    uint64_t size;
    must(disk->base.ops->open(&disk->base, path, OT_OPEN_WRITE, 0, &f, &e), &e, path);
    must(f->ops->size(f, &size, &e), &e, path);
    must(f->ops->truncate(f, size - 90, &e), &e, path);
    ot_file_close(f);
    refused("a manifest that was cut short", OT_DATA_LOSS, "manifest");
    must(disk->base.ops->unlink(&disk->base, path, &e), &e, path);
    refused("a backup without one", OT_PRECONDITION, "manifest");
}

/* What a restore would write where: a manifest whose digest is right may still be somebody's work.
 */
static void test_outside(void)
{
    static const char digest[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    static const struct {
        const char *path;
        ot_rc rc;
    } files[] = {{"store/store.db", OT_OK},       {"runs/1/log", OT_OK},
                 {"token", OT_DATA_LOSS},         {"../store/store.db", OT_DATA_LOSS},
                 {"store/../../x", OT_DATA_LOSS}, {"/store/store.db", OT_DATA_LOSS}};
    for (size_t i = 0; i < OT_COUNT(files); i++) {
        ot_manifest_in m;
        ot_error e = {0};
        char lines[6][OT_PATH_MAX];
        snprintf(lines[0], sizeof lines[0], "overtake.backup/1");
        snprintf(lines[1], sizeof lines[1], "made 1764318600000000");
        snprintf(lines[2], sizeof lines[2], "program 0.1.0");
        snprintf(lines[3], sizeof lines[3], "schema 6");
        snprintf(lines[4], sizeof lines[4], "head %020d %s", 12, digest);
        snprintf(lines[5], sizeof lines[5], "file 7 %s %s", digest, files[i].path);
        ot_rc rc = OT_OK;
        ot_manifest_in_init(&m, "manifest", NULL, NULL);
        for (size_t k = 0; k < OT_COUNT(lines) && rc == OT_OK; k++) {
            rc = ot_manifest_in_line(&m, lines[k], strlen(lines[k]), &e);
        }
        is_int(rc, files[i].rc, "%s: %s", files[i].path, e.msg);
        is_int((int)m.line, 6, "all lines before are fine");
    }
}

static void test_gone_and_newer(void)
{
    ot_backup_report r = backup(&plain);
    char path[OT_PATH_MAX];
    ot_error e;
    snprintf(path, sizeof path, "%s/runs/2/log", r.path);
    must(disk->base.ops->unlink(&disk->base, path, &e), &e, path);
    refused("a file that is gone", OT_DATA_LOSS, "runs/2/log");
    ot_manifest_out m;
    r.head.schema = ot_store_schema_newest() + 1;
    snprintf(r.head.program, sizeof r.head.program, "9.9.9");
    must(ot_manifest_out_begin(&m, &disk->base, r.path, &r.head, &e), &e, "manifest");
    must(ot_manifest_out_publish(&m, &e), &e, "manifest");
    ot_manifest_out_done(&m);
    refused("a backup of a newer schema", OT_PRECONDITION, "9.9.9");
}

static void test_full(void)
{
    ot_error e = {0};
    ot_backup_report r = {0};
    crash_disk_fill(disk, 20000);
    is_int(ot_backup_make(store, "/b", &plain, &r, &e), OT_UNAVAILABLE, "a full disk: %s", e.msg);
    ok(!exists("/b/lock") && is_empty_dir("/b"), "leaves no half of a backup");
    disk->bytes_max = 0; /* no limit */
    atomic_bool stop = true;
    ot_backup_options o = plain;
    o.stop = &stop;
    is_int(ot_backup_make(store, "/b", &o, &r, &e), OT_CANCELLED, "stopped: %s", e.msg);
    ok(is_empty_dir("/b"), "neither");
    write_event("still");
    is_int(backup(&plain).head.log.seq, 21, "then there is room, and it goes on");
}

static void test_view(void)
{
    ot_error e = {0};
    ot_store *view;
    write_event("only in the log of the database");
    is_int(ot_store_open_view(&disk->base, "/none", &view, &e), OT_NOT_FOUND, "no store: %s",
           e.msg);
    is_int(look_at(&disk->base, "/d/store").head.seq, 21, "a view sees what was committed");
    must(ot_store_open_view(&disk->base, "/d/store", &view, &e), &e, "view");
    char text[] = "x";
    is_int(ot_store_write(view, append, text, &e), OT_UNAVAILABLE, "and takes no write: %s", e.msg);
    ot_store_close(view);
}

/* --- cuts ------------------------------------------------------------------------------------- */

/* Whether the folder's newest finished backup restores; none is fine. */
static const char *check_backups(crash_disk *cut, char *buf, size_t n)
{
    ot_error e = {0};
    ot_backup_report r;
    ot_rc rc = restore_on(&cut->base, "/b", "/n", &r, &e);
    if (rc == OT_OK) {
        seen s = look_at(&cut->base, "/n/store");
        return s.head.seq == 21 ? NULL : "a restored log that is not whole";
    }
    if (rc == OT_NOT_FOUND || rc == OT_PRECONDITION) {
        return NULL; /* not finished, and says so */
    }
    snprintf(buf, n, "%s", e.msg);
    return buf;
}

/* Empty, marked as half done, or done. */
static const char *check_restored(crash_disk *cut, char *buf, size_t n)
{
    ot_error e = {0};
    ot_backup_report r;
    bool half = ot_backup_is_half_restored(&cut->base, "/n");
    seen s = half ? (seen){0} : look_at(&cut->base, "/n/store");
    if (s.head.seq == 21) {
        return ot_disk_exists(&cut->base, "/n/log.head") ? NULL : "a log without a head";
    }
    if (!half && ot_disk_exists(&cut->base, "/n/store")) {
        return "a store that can't be read, and no mark";
    }
    ot_rc rc = restore_on(&cut->base, "/b", "/n", &r, &e);
    if (rc != OT_OK) {
        snprintf(buf, n, "again: %s", e.msg);
        return buf;
    }
    return look_at(&cut->base, "/n/store").head.seq == 21 ? NULL : "again, and not whole";
}

static void cut_everywhere(const char *what, size_t from,
                           const char *(*check)(crash_disk *, char *, size_t))
{
    static const char *const modes[] = {"lost", "kept", "torn"};
    crash_walk w;
    ot_rng rng;
    size_t bad[3] = {0}, cuts = 0;
    ot_rng_seed(&rng, 7);
    crash_walk_init(&w, disk);
    do {
        for (int mode = 0; mode < 3 && w.at >= from; mode++) {
            char buf[1200];
            crash_disk *cut = crash_walk_disk(&w, (crash_mode)mode, &rng);
            const char *fault = check(cut, buf, sizeof buf);
            if (fault != NULL && bad[mode]++ < 3) {
                printf("# cut after operation %zu, the rest %s: %s\n", w.at, modes[mode], fault);
            }
            crash_disk_destroy(cut);
        }
        cuts += w.at >= from;
    } while (crash_walk_step(&w));
    for (int mode = 0; mode < 3; mode++) {
        is_int(bad[mode], 0, "%s: %zu cuts, unsynced writes %s", what, cuts, modes[mode]);
    }
    ok(cuts > 50, "cut in many places");
    crash_walk_done(&w);
}

static void test_cuts(void)
{
    ot_error e = {0};
    ot_backup_report r;
    start(true);
    size_t from = crash_disk_ops_done(disk);
    (void)backup(&plain);
    cut_everywhere("a backup", from, check_backups);
    from = crash_disk_ops_done(disk);
    must(restore_on(&disk->base, "/b", "/n", &r, &e), &e, "restore");
    cut_everywhere("a restore", from, check_restored);
    end();
}

static void with(void (*test)(void))
{
    start(false);
    test();
    end();
}

int main(void)
{
    with(test_there_and_back);
    with(test_incremental);
    with(test_outside);
    with(test_packed);
    with(test_writers);
    with(test_missing);
    with(test_edited);
    with(test_gone_and_newer);
    with(test_full);
    with(test_view);
    test_cuts();
    return tap_done();
}
