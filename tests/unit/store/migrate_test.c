/* The way forward: databases that earlier programs left (tests/golden/make_store.py), migrations
 * that fail, a full disk, a power cut after every operation of one, programs of two versions on one
 * store. */
#include "base/log.h"
#include "crash_disk.h"
#include "crash_work.h"
#include "store/store.h"
#include "tap.h"

#include <unistd.h>
#include <zlib.h>

#define EXTRA_MAX 8
#define NEXT "CREATE TABLE extra(x INTEGER NOT NULL) STRICT; INSERT INTO extra VALUES(1),(2),(3);"

static char tmp[] = "/tmp/migrate_test_XXXXXX";
static const ot_migration next = {"next", NEXT, false};
static const ot_migration breaks = {"breaks", "ALTER TABLE kv ADD COLUMN y INTEGER;", true};
static const ot_migration wrong = {"wrong", "CREATE TABLE half(x) STRICT; SELECT nothing;", false};

/* The product's migrations, and these after them. NULL at the end. */
static void install(const ot_migration *const *extra)
{
    static ot_migration list[64 + EXTRA_MAX];
    size_t n;
    ot_schema_install(NULL, 0);
    const ot_migration *real = ot_schema_list(&n);
    memcpy(list, real, n * sizeof *list);
    for (; *extra != NULL; extra++) {
        list[n++] = **extra;
    }
    ot_schema_install(list, n);
}

#define INSTALL(...) install((const ot_migration *const[]){__VA_ARGS__, NULL})

static const char *path_of(const char *dir, const char *name)
{
    static char out[4][512];
    static int i;
    i = (i + 1) % 4;
    snprintf(out[i], sizeof out[i], "%s/%s", dir, name);
    return out[i];
}

static ot_rc version_of(ot_txn *txn, void *arg, ot_error *err)
{
    return ot_store_schema_version(txn, arg, err);
}

static ot_rc count_extra(ot_txn *txn, void *arg, ot_error *err)
{
    OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
    bool row;
    OT_TRY(ot_stmt_get(txn, "SELECT count(*) FROM extra", &s, err));
    OT_TRY(ot_stmt_step(s, "count", &row, err));
    *(int64_t *)arg = ot_col_i64(s, 0);
    return OT_OK;
}

/* Opens, looks, closes. A table that is not there has -1 rows. */
typedef struct seen {
    int64_t version, extra;
    work_seen work;
} seen;

static ot_rc look(ot_disk *d, const char *dir, seen *out, ot_error *err)
{
    ot_store *s;
    OT_TRY(ot_store_open(d, dir, NULL, &s, err));
    ot_error none;
    out->extra = -1;
    ot_rc rc = ot_store_read(s, version_of, &out->version, err);
    rc = rc == OT_OK ? ot_store_read(s, work_look, &out->work, err) : rc;
    (void)!ot_store_read(s, count_extra, &out->extra, &none);
    ot_store_close(s);
    return rc;
}

static bool looks(ot_disk *d, const char *dir, seen *out, const char *what)
{
    ot_error e = {0};
    return ok(look(d, dir, out, &e) == OT_OK, "%s%s%s", what, e.msg[0] != 0 ? ": " : "", e.msg);
}

/* A store with a little of everything in it. */
static void fill(ot_disk *d, const char *dir, uint64_t txns)
{
    ot_store *s;
    ot_error e = {0};
    ot_rng rng;
    ot_rng_seed(&rng, 5);
    ot_rc rc = ot_store_open(d, dir, NULL, &s, &e);
    for (uint64_t n = 1; rc == OT_OK && n <= txns; n++) {
        work_txn t = work_plan(&rng, n);
        t.fails = false;
        rc = work_put_blobs(s, &t, &e);
        rc = rc == OT_OK ? ot_store_write(s, work_do, &t, &e) : rc;
    }
    ok(rc == OT_OK, "a store of %llu transactions %s", (unsigned long long)txns, e.msg);
    ot_store_close(s);
}

/* --- what earlier programs left ----------------------------------------------------------------
 */

static bool unpack(const char *golden, const char *to)
{
    gzFile in = gzopen(golden, "rb");
    FILE *out = fopen(to, "wb");
    char buf[65536];
    int n = in != NULL && out != NULL ? 1 : -1;
    while (n > 0) {
        n = gzread(in, buf, sizeof buf);
        if (n > 0 && fwrite(buf, 1, (size_t)n, out) != (size_t)n) {
            n = -1;
        }
    }
    if (in != NULL) {
        gzclose(in);
    }
    return (out == NULL || fclose(out) == 0) && n == 0;
}

typedef struct wanted {
    FILE *f;
    int bad;
    int tables;
    uint64_t events;
} wanted;

/* Each line: rows, bytes, and the query that says both. */
static ot_rc compare(ot_txn *txn, void *arg, ot_error *err)
{
    wanted *w = arg;
    char line[4096], head[80], hex[OT_DIGEST_HEX];
    ot_events_verdict v;
    ot_event_head h;
    OT_TRY(ot_events_verify(txn, NULL, &v, err));
    OT_TRY(ot_events_head(txn, &h, err));
    unsigned long long seq;
    if (fgets(line, sizeof line, w->f) == NULL || sscanf(line, "%llu %64s", &seq, head) != 2 ||
        v.rows != seq || h.seq != seq || strcmp(ot_digest_hex(&h.hash, hex), head) != 0) {
        return ot_fail(err, OT_DATA_LOSS, "the log ends at %llu, %s", (unsigned long long)h.seq,
                       hex);
    }
    w->events = v.rows;
    while (fgets(line, sizeof line, w->f) != NULL) {
        long long rows, size;
        int at = 0;
        bool row;
        OT_AUTO(ot_stmt_done) sqlite3_stmt *s = NULL;
        line[strcspn(line, "\n")] = 0;
        if (sscanf(line, "%lld %lld %n", &rows, &size, &at) != 2) {
            return ot_fail(err, OT_INVALID, "golden file: '%s'", line);
        }
        OT_TRY(ot_stmt_get(txn, line + at, &s, err));
        OT_TRY(ot_stmt_step(s, "count", &row, err));
        w->tables++;
        if (ot_col_i64(s, 0) != rows || ot_col_i64(s, 1) != size) {
            printf("# %lld rows, %lld bytes: %s\n", (long long)ot_col_i64(s, 0),
                   (long long)ot_col_i64(s, 1), line);
            w->bad++;
        }
    }
    return OT_OK;
}

static void test_golden(int64_t version)
{
    char db[128], txt[128], dir[128], copy[64];
    ot_disk *d = ot_disk_posix();
    ot_error e = {0};
    ot_store *s = NULL;
    int64_t now = 0;
    snprintf(dir, sizeof dir, "%s/golden-%d", tmp, (int)version);
    snprintf(db, sizeof db, "tests/golden/store/schema-%d.db.gz", (int)version);
    snprintf(txt, sizeof txt, "tests/golden/store/schema-%d.txt", (int)version);
    ok(ot_disk_mkdirs(d, dir, 0700, &e) == OT_OK && unpack(db, path_of(dir, "store.db")),
       "a store of schema %d", (int)version);
    wanted w = {.f = fopen(txt, "r")};
    if (!ok(w.f != NULL && ot_store_open(d, dir, NULL, &s, &e) == OT_OK, "opens %s", e.msg)) {
        return;
    }
    ok(ot_store_read(s, version_of, &now, &e) == OT_OK && now == ot_store_schema_newest(),
       "is of today's schema");
    ok(ot_store_read(s, compare, &w, &e) == OT_OK, "the chain verifies and its head is the same %s",
       e.msg);
    ok(w.events > 100 && w.tables > 15, "over %llu events and %d tables",
       (unsigned long long)w.events, w.tables);
    is_int(w.bad, 0, "each table has its rows");
    work_txn t = {.number = 1, .events = 1, .kinds = WORK_STATE};
    ok(ot_store_write(s, work_do, &t, &e) == OT_OK, "it is written on %s", e.msg);
    ot_store_close(s);
    fclose(w.f);

    snprintf(copy, sizeof copy, "store.db.schema-%d.backup", (int)version);
    ot_stat st;
    ok(d->ops->stat(d, path_of(dir, copy), &st, NULL) == OT_OK && (st.mode & 077) == 0,
       "the copy from before is there, and private");
    char back[128];
    snprintf(back, sizeof back, "%s/back-%d", tmp, (int)version);
    w = (wanted){.f = fopen(txt, "r")};
    ok(ot_disk_mkdirs(d, back, 0700, &e) == OT_OK &&
           d->ops->rename(d, path_of(dir, copy), path_of(back, "store.db"), &e) == OT_OK &&
           ot_store_open_view(d, back, &s, &e) == OT_OK,
       "which is a store %s", e.msg);
    ok(ot_store_read(s, version_of, &now, &e) == OT_OK && now == version, "of its schema");
    ok(ot_store_read(s, compare, &w, &e) == OT_OK && w.bad == 0, "with all that was in it %s",
       e.msg);
    ot_store_close(s);
    fclose(w.f);
}

/* --- one that fails, one that shuts others out ---------------------------------------------------
 */

static void test_failure(void)
{
    ot_disk *d = ot_disk_posix();
    const char *dir = path_of(tmp, "failure");
    char where[512];
    seen before, after;
    ot_error e = {0};
    snprintf(where, sizeof where, "%s", dir);
    fill(d, where, 12);
    looks(d, where, &before, "as it is");
    INSTALL(&next, &wrong);
    ok(look(d, where, &after, &e) != OT_OK, "a migration that fails");
    ok(strstr(e.msg, "(wrong)") != NULL && strstr(e.msg, where) != NULL, "is named: %s", e.msg);
    ot_schema_install(NULL, 0);
    looks(d, where, &after, "the old program opens it");
    ok(work_same(&before.work, &after.work) && after.extra == -1 && after.version == before.version,
       "and finds what was there, nothing of the one that succeeded before it");
    INSTALL(&next);
    looks(d, where, &after, "one that is right");
    ok(after.version == before.version + 1 && after.extra == 3, "is done");
    ok(after.work.number == before.work.number && after.work.head.seq == before.work.head.seq,
       "with all that was there");
    ot_schema_install(NULL, 0);
    looks(d, where, &after, "the program before opens what was only added to");
    ok(after.version == before.version + 1, "and changes no schema");
    fill(d, where, 0);
    INSTALL(&next, &breaks);
    looks(d, where, &after, "one that shuts older ones out");
    INSTALL(&next);
    ok(look(d, where, &after, &e) == OT_PRECONDITION &&
           strstr(e.msg, "run a newer Overtake") != NULL,
       "they are refused: %s", e.msg);
    ot_schema_install(NULL, 0);
}

static ot_rc count_copies(void *arg, const char *name, ot_error *err)
{
    (void)err;
    *(int *)arg += strstr(name, ".backup") != NULL;
    return OT_OK;
}

static void test_copies(void)
{
    ot_disk *d = ot_disk_posix();
    char where[512], names[EXTRA_MAX][32], sql[EXTRA_MAX][64];
    ot_migration extra[EXTRA_MAX];
    const ot_migration *list[EXTRA_MAX + 1] = {NULL};
    ot_error e = {0};
    seen now;
    snprintf(where, sizeof where, "%s", path_of(tmp, "copies"));
    fill(d, where, 3);
    for (int i = 0; i < 5; i++) {
        snprintf(names[i], sizeof names[i], "extra%d", i);
        snprintf(sql[i], sizeof sql[i], "CREATE TABLE extra%d(x INTEGER) STRICT;", i);
        extra[i] = (ot_migration){names[i], sql[i], false};
        list[i] = &extra[i];
        list[i + 1] = NULL;
        install(list);
        looks(d, where, &now, "forward");
        int n = 0;
        is_int(d->ops->list(d, where, count_copies, &n, &e), OT_OK, "list");
        is_int(n, i < 2 ? i + 1 : 2, "copies that are kept");
    }
    char last[64];
    snprintf(last, sizeof last, "store.db.schema-%d.backup", (int)now.version - 1);
    ok(ot_disk_exists(d, path_of(where, last)), "the last ones");
    ot_schema_install(NULL, 0);
}

/* --- the disk -----------------------------------------------------------------------------------
 */

static void test_full(void)
{
    crash_disk *d = crash_disk_create(false);
    seen before, after;
    ot_error e = {0};
    fill(&d->base, "/s", 30);
    looks(&d->base, "/s", &before, "a store");
    INSTALL(&next);
    crash_disk_fill(d, 20000); /* not enough for the copy */
    ok(look(&d->base, "/s", &after, &e) != OT_OK, "no room for the copy");
    ok(strstr(e.msg, "it is as it was") != NULL && strstr(e.msg, "make room") != NULL &&
           strstr(e.msg, "space") != NULL,
       "says so: %s", e.msg);
    ok(!ot_disk_exists(&d->base, "/s/.migration"), "nothing half made is left");
    crash_disk_set(d, &d->bytes_max, 0);
    ot_schema_install(NULL, 0);
    looks(&d->base, "/s", &after, "the old program goes on");
    ok(work_same(&before.work, &after.work) && after.version == before.version, "unharmed");
    INSTALL(&next);
    looks(&d->base, "/s", &after, "with room");
    is_int(after.extra, 3, "it is done");
    ot_schema_install(NULL, 0);
    crash_disk_destroy(d);
}

/* Old or new, whole, and the copy is there before the new one is. */
static ot_rc check_cut(crash_disk *d, const seen *before, const seen *after, ot_error *err)
{
    seen found = {0};
    char copy[64];
    ot_schema_install(NULL, 0);
    OT_TRY(look(&d->base, "/s", &found, err));
    const seen *want = found.version == before->version ? before : after;
    if (found.version != want->version || found.extra != want->extra ||
        !work_same(&found.work, &want->work)) {
        return ot_fail(err, OT_DATA_LOSS, "version %lld, %lld extra rows", (long long)found.version,
                       (long long)found.extra);
    }
    snprintf(copy, sizeof copy, "/s/store.db.schema-%d.backup", (int)before->version);
    if (want == after && !ot_disk_exists(&d->base, copy)) {
        return ot_fail(err, OT_DATA_LOSS, "it is new and %s is not there", copy);
    }
    INSTALL(&next);
    OT_TRY(look(&d->base, "/s", &found, err));
    return found.extra == 3 && found.work.head.seq == before->work.head.seq
               ? OT_OK
               : ot_fail(err, OT_DATA_LOSS, "the next start does not bring it forward");
}

static void test_cuts(void)
{
    crash_disk *disk = crash_disk_create(true);
    seen before = {0}, after = {0};
    fill(&disk->base, "/s", 6);
    looks(&disk->base, "/s", &before, "a store");
    size_t begin = crash_disk_ops_done(disk);
    INSTALL(&next);
    looks(&disk->base, "/s", &after, "brought forward");
    crash_walk w;
    ot_rng rng;
    size_t bad = 0, cuts = 0;
    crash_walk_init(&w, disk);
    ot_rng_seed(&rng, 3);
    do {
        for (int mode = CRASH_DROP; w.at >= begin && mode <= CRASH_TEAR; mode++) {
            ot_error e = {0};
            crash_disk *d = crash_walk_disk(&w, (crash_mode)mode, &rng);
            if (check_cut(d, &before, &after, &e) != OT_OK && bad++ < 3) {
                printf("# cut after operation %zu, mode %d: %s\n", w.at, mode, e.msg);
            }
            crash_disk_destroy(d);
            cuts++;
        }
    } while (crash_walk_step(&w));
    is_int(bad, 0, "old or new after each of %zu cuts", cuts);
    ok(cuts > 30, "the migration has steps");
    ot_schema_install(NULL, 0);
    crash_walk_done(&w);
    crash_disk_destroy(disk);
}

int main(void)
{
    ot_log_setup("test", OT_LOG_ERROR, OT_LOG_TEXT);
    if (mkdtemp(tmp) == NULL) {
        ok(false, "set-up");
        return tap_done();
    }
    test_golden(5);
    test_failure();
    test_copies();
    test_full();
    test_cuts();
    is_int(ot_disk_remove_tree(ot_disk_posix(), tmp, NULL), OT_OK, "clean up");
    return tap_done();
}
