/* The writer, the readers, opening and what goes wrong with a disk. */
#include "store/store.h"

#include "crash_disk.h"
#include "store/events.h"
#include "store/internal.h"
#include "store/kv.h"
#include "tap.h"

#include <inttypes.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#define THREADS 16
#define WRITES 60

static char tmp[64];

static const char *dir_named(const char *name)
{
    static char out[128];
    snprintf(out, sizeof out, "%s/%s", tmp, name);
    return out;
}

static ot_store *open_or_die(ot_disk *d, const char *dir, const ot_store_options *opt)
{
    ot_store *s = NULL;
    ot_error e;
    if (ot_store_open(d, dir, opt, &s, &e) != OT_OK) {
        printf("Bail out! %s\n", e.msg);
        exit(1);
    }
    return s;
}

struct put {
    const char *scope, *key;
    bool fails;
};

static ot_rc put(ot_txn *txn, void *arg, ot_error *err)
{
    const struct put *p = arg;
    ot_event_in e = {.actor = "test", .type = "test.put", .object = p->key};
    OT_TRY(ot_kv_set(txn, p->scope, p->key, "x", 1, err));
    OT_TRY(ot_event_append(txn, &e, NULL, err));
    return p->fails ? ot_fail(err, OT_INVALID, "told to fail for %s", p->key) : OT_OK;
}

struct count {
    const char *scope;
    uint64_t keys;
    ot_events_verdict v;
};

static ot_rc count_one(void *arg, const char *key, const void *p, size_t n, ot_error *err)
{
    (void)key, (void)p, (void)n, (void)err;
    ((struct count *)arg)->keys++;
    return OT_OK;
}

static ot_rc count(ot_txn *txn, void *arg, ot_error *err)
{
    struct count *c = arg;
    c->keys = 0;
    OT_TRY(ot_kv_each(txn, c->scope, NULL, 1u << 30, count_one, c, err));
    return ot_events_verify(txn, NULL, &c->v, err);
}

static struct count count_in(ot_store *s, const char *scope)
{
    struct count c = {.scope = scope};
    ot_error e;
    if (ot_store_read(s, count, &c, &e) != OT_OK) {
        ok(false, "reads: %s", e.msg);
    }
    return c;
}

struct worker {
    ot_store *store;
    int number;
    unsigned good, bad;
};

/* Every fifth write fails; its error must be its own. */
static void *work(void *arg)
{
    struct worker *w = arg;
    for (int i = 0; i < WRITES; i++) {
        char key[32], want[64];
        ot_error e;
        snprintf(key, sizeof key, "%d-%d", w->number, i);
        snprintf(want, sizeof want, "told to fail for %s", key);
        struct put p = {.scope = "threads", .key = key, .fails = i % 5 == 4};
        ot_rc rc = ot_store_write(w->store, put, &p, &e);
        w->good += rc == OT_OK && !p.fails;
        w->bad += rc == OT_INVALID && p.fails && strcmp(e.msg, want) == 0;
    }
    return NULL;
}

static atomic_uint heard;
static atomic_bool out_of_order;
static uint64_t heard_seq;

static void hear(void *arg, const ot_event *events, size_t n)
{
    (void)arg;
    for (size_t i = 0; i < n; i++) {
        if (events[i].seq != heard_seq + 1 || strcmp(events[i].type, "test.put") != 0) {
            out_of_order = true;
        }
        heard_seq = events[i].seq;
    }
    heard += (unsigned)n;
}

static void test_threads(void)
{
    ot_store *s = open_or_die(ot_disk_posix(), dir_named("threads"), NULL);
    pthread_t t[THREADS];
    struct worker w[THREADS] = {0};
    unsigned good = 0, bad = 0;
    ot_error e;
    ok(ot_store_on_event(s, hear, NULL, &e) == OT_OK, "listens to events");
    for (int i = 0; i < THREADS; i++) {
        w[i] = (struct worker){.store = s, .number = i};
        pthread_create(&t[i], NULL, work, &w[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(t[i], NULL);
        good += w[i].good;
        bad += w[i].bad;
    }
    is_int(good, THREADS * WRITES * 4 / 5, "16 threads: every good write is acknowledged");
    is_int(bad, THREADS * WRITES / 5, "every failing write gets its own error");
    struct count c = count_in(s, "threads");
    is_int(c.keys, good, "what failed left nothing, what was acknowledged is there");
    is_int(c.v.rows, good, "one event each, and the chain verifies");
    is_int(heard, good, "the listener heard each event");
    ok(!out_of_order, "in order, without gaps");
    ot_store_stats st;
    ot_store_stats_get(s, &st);
    is_int(st.writes, good, "statistics count acknowledged writes");
    is_int(st.refused, bad, "and refused ones");
    ok(st.groups > 0 && st.groups <= st.writes, "groups: %" PRIu64 " commits", st.groups);
    ot_store_off_event(s, hear, NULL);
    struct put p = {.scope = "threads", .key = "after"};
    ok(ot_store_write(s, put, &p, &e) == OT_OK && heard == good,
       "a removed listener hears nothing");
    ot_store_close(s);
    s = open_or_die(ot_disk_posix(), dir_named("threads"), NULL);
    is_int(count_in(s, "threads").keys, good + 1, "all of it is there after closing and opening");
    ot_store_close(s);
}

struct snapshot {
    ot_store *store;
    uint64_t before, after;
    ot_rc written;
};

static void *write_beside(void *arg)
{
    struct snapshot *n = arg;
    struct put p = {.scope = "snap", .key = "second"};
    n->written = ot_store_write(n->store, put, &p, NULL);
    return NULL;
}

static ot_rc look_twice(ot_txn *txn, void *arg, ot_error *err)
{
    struct snapshot *n = arg;
    struct count c = {.scope = "snap"};
    pthread_t t;
    OT_TRY(count(txn, &c, err));
    n->before = c.keys;
    pthread_create(&t, NULL, write_beside, n);
    pthread_join(t, NULL);
    OT_TRY(count(txn, &c, err));
    n->after = c.keys;
    return OT_OK;
}

static ot_rc nested_read(ot_txn *txn, void *arg, ot_error *err)
{
    return ot_store_read(ot_txn_store(txn), count, arg, err);
}

static ot_rc nested_write(ot_txn *txn, void *arg, ot_error *err)
{
    return ot_store_write(ot_txn_store(txn), put, arg, err);
}

static void test_readers(void)
{
    ot_store *s = open_or_die(ot_disk_posix(), dir_named("readers"), NULL);
    struct put p = {.scope = "snap", .key = "first"};
    ot_error e;
    ok(ot_store_write(s, put, &p, &e) == OT_OK, "a write");
    struct snapshot n = {.store = s};
    ok(ot_store_read(s, look_twice, &n, &e) == OT_OK, "a read with a write beside it");
    is_int(n.written, OT_OK, "the writer does not wait for the reader");
    is_int(n.before, 1, "the reader sees the first write");
    is_int(n.after, 1, "and its snapshot stays as it was");
    is_int(count_in(s, "snap").keys, 2, "the next read sees both");
    is_int(ot_store_read(s, put, &p, &e), OT_PRECONDITION, "a read cannot write");
    ok(strstr(e.msg, "ot_store_write") != NULL, "and says what to use: %s", e.msg);
    struct count c = {.scope = "snap"};
    is_int(ot_store_read(s, nested_read, &c, &e), OT_PRECONDITION, "reads do not nest");
    is_int(ot_store_write(s, nested_write, &p, &e), OT_PRECONDITION, "writes do not nest");
    ok(ot_store_write(s, nested_read, &c, &e) == OT_OK && c.keys == 2, "a write may read beside");
    ot_store_close(s);
}

struct async {
    struct put put;
    char key[16];
    ot_rc rc;
    bool has_text;
};

static sem_t gate, at_gate, answered;

static ot_rc wait_at_gate(ot_txn *txn, void *arg, ot_error *err)
{
    (void)txn, (void)arg, (void)err;
    sem_post(&at_gate);
    sem_wait(&gate);
    return OT_OK;
}

static ot_rc put_async(ot_txn *txn, void *arg, ot_error *err)
{
    return put(txn, &((struct async *)arg)->put, err);
}

static void on_done(void *arg, ot_rc rc, const ot_error *err)
{
    struct async *a = arg;
    a->rc = rc;
    a->has_text = err != NULL && strstr(err->msg, "told to fail") != NULL;
    sem_post(&answered);
}

static void test_submit(void)
{
    enum { QUEUE = 8 };
    ot_store_options opt = {.struct_size = sizeof opt, .queue_max = QUEUE};
    ot_store *s = open_or_die(ot_disk_posix(), dir_named("submit"), &opt);
    struct async a[QUEUE + 1] = {0};
    ot_error e;
    sem_init(&gate, 0, 0);
    sem_init(&at_gate, 0, 0);
    sem_init(&answered, 0, 0);
    ok(ot_store_submit(s, wait_at_gate, NULL, NULL, &e) == OT_OK, "submits");
    sem_wait(&at_gate);
    unsigned taken = 0;
    for (int i = 0; i <= QUEUE; i++) {
        snprintf(a[i].key, sizeof a[i].key, "%d", i);
        a[i].put = (struct put){.scope = "async", .key = a[i].key, .fails = i == 3};
        ot_rc rc = ot_store_submit(s, put_async, on_done, &a[i], &e);
        taken += rc == OT_OK;
        if (i == QUEUE) {
            is_int(rc, OT_EXHAUSTED, "a full queue refuses: %s", e.msg);
        }
    }
    is_int(taken, QUEUE, "the queue takes its limit");
    sem_post(&gate);
    for (int i = 0; i < QUEUE; i++) {
        sem_wait(&answered);
    }
    unsigned good = 0;
    for (int i = 0; i < QUEUE; i++) {
        good += a[i].rc == OT_OK;
    }
    is_int(good, QUEUE - 1, "each is answered");
    ok(a[3].rc == OT_INVALID && a[3].has_text, "the failing one with its error");
    is_int(count_in(s, "async").keys, QUEUE - 1, "and is alone in leaving nothing");
    for (int i = 0; i < QUEUE; i++) {
        a[i].put.scope = "closing";
        a[i].put.fails = false;
        (void)!ot_store_submit(s, put_async, on_done, &a[i], &e);
    }
    ot_store_close(s);
    s = open_or_die(ot_disk_posix(), dir_named("submit"), &opt);
    is_int(count_in(s, "closing").keys, QUEUE, "closing finishes what is queued");
    ot_store_close(s);
}

static ot_rc run_sql(ot_txn *txn, void *arg, ot_error *err)
{
    int rc = sqlite3_exec(ot_txn_db(txn), arg, NULL, NULL, NULL);
    return rc == SQLITE_OK ? OT_OK : ot_sql_fail(ot_txn_db(txn), rc, "test", err);
}

static ot_rc refused(ot_disk *d, const char *dir, ot_error *e)
{
    ot_store *s = NULL;
    ot_rc rc = ot_store_open(d, dir, NULL, &s, e);
    if (rc == OT_OK) {
        ot_store_close(s);
    }
    return rc;
}

static void test_open(void)
{
    ot_error e;
    char newer[] = "PRAGMA user_version=999",
         shut[] = "UPDATE kv SET value = x'393938' WHERE scope = 'schema'",
         foreign[] = "PRAGMA application_id=5", table[] = "INSERT INTO nowhere VALUES(1)";
    ot_store *s = open_or_die(ot_disk_posix(), dir_named("deep/er/store///"), NULL);
    is_int(refused(ot_disk_posix(), dir_named("deep/er/store"), &e), OT_UNAVAILABLE,
           "a second opener is refused");
    ok(strstr(e.msg, "in use by another process") != NULL && strstr(e.msg, "/lock") != NULL,
       "and told who holds what: %s", e.msg);
    is_int(ot_store_write(s, run_sql, table, &e), OT_INTERNAL, "a wrong statement is an error");
    ok(ot_store_write(s, run_sql, newer, &e) == OT_OK &&
           ot_store_write(s, run_sql, shut, &e) == OT_OK,
       "as a newer program leaves it");
    ot_store_close(s);
    is_int(refused(ot_disk_posix(), dir_named("deep/er/store"), &e), OT_PRECONDITION,
           "a newer schema is refused");
    ok(strstr(e.msg, "version 999") != NULL && strstr(e.msg, "newer Overtake") != NULL,
       "with the way out: %s", e.msg);
    s = open_or_die(ot_disk_posix(), dir_named("foreign"), NULL);
    ok(ot_store_write(s, run_sql, foreign, &e) == OT_OK, "as another program leaves it");
    ot_store_close(s);
    is_int(refused(ot_disk_posix(), dir_named("foreign"), &e), OT_PRECONDITION,
           "another program's database is refused: %s", e.msg);
    char path[256], junk[8192];
    memset(junk, 'j', sizeof junk);
    snprintf(path, sizeof path, "%s/store.db", dir_named("junk"));
    ok(ot_disk_mkdirs(ot_disk_posix(), dir_named("junk"), 0700, &e) == OT_OK &&
           ot_disk_write_atomic(ot_disk_posix(), path, junk, sizeof junk, 0600, &e) == OT_OK,
       "a file of junk");
    is_int(refused(ot_disk_posix(), dir_named("junk"), &e), OT_DATA_LOSS, "is refused: %s", e.msg);
    is_int(refused(ot_disk_posix(), "", &e), OT_INVALID, "no directory: %s", e.msg);
}

static void test_failed_sync(void)
{
    crash_disk *d = crash_disk_create(true);
    ot_store *s = open_or_die(&d->base, "/s", NULL);
    struct put p = {.scope = "sync", .key = "a"};
    ot_error e;
    ok(ot_store_write(s, put, &p, &e) == OT_OK, "a write before the disk fails");
    crash_disk_fail_syncs(d);
    p.key = "b";
    is_int(ot_store_write(s, put, &p, &e), OT_UNAVAILABLE, "a failed fsync fails the write");
    ok(strstr(e.msg, "fsync") != NULL && strstr(e.msg, "restart to recover") != NULL,
       "and says so: %s", e.msg);
    crash_disk_set(d, &d->fail_sync_from, 0);
    is_int(ot_store_write(s, put, &p, &e), OT_UNAVAILABLE,
           "nothing is acknowledged afterwards, though the disk works again");
    is_int(ot_store_submit(s, put_async, NULL, NULL, &e), OT_UNAVAILABLE, "nor queued");
    ot_store_stats st;
    ot_store_stats_get(s, &st);
    ok(st.failed, "the statistics say failed");
    is_int(count_in(s, "sync").keys, 1, "reads go on");
    ot_store_close(s);
    /* What power loss leaves of it: everything that was not synced is gone. */
    crash_walk w;
    crash_walk_init(&w, d);
    while (crash_walk_step(&w)) {
    }
    crash_disk *after = crash_walk_disk(&w, CRASH_DROP, NULL);
    crash_walk_done(&w);
    s = open_or_die(&after->base, "/s", NULL);
    is_int(count_in(s, "sync").keys, 1, "what was acknowledged survives the restart");
    p.key = "c";
    is_int(ot_store_write(s, put, &p, &e), OT_OK, "and writes go on");
    ot_store_close(s);
    crash_disk_destroy(after);
    crash_disk_destroy(d);
}

static void test_failed_write(void)
{
    crash_disk *d = crash_disk_create(false);
    ot_store *s = open_or_die(&d->base, "/s", NULL);
    struct put p = {.scope = "w", .key = "a"};
    ot_error e;
    crash_disk_set(d, &d->fail_write_from, 1);
    is_int(ot_store_write(s, put, &p, &e), OT_UNAVAILABLE, "a failed write fails: %s", e.msg);
    crash_disk_set(d, &d->fail_write_from, 0);
    is_int(ot_store_write(s, put, &p, &e), OT_UNAVAILABLE, "and nothing is acknowledged later");
    ot_store_close(s);
    crash_disk_destroy(d);
}

static ot_rc put_much(ot_txn *txn, void *arg, ot_error *err)
{
    static char bytes[600000];
    return ot_kv_set(txn, "full", arg, bytes, sizeof bytes, err);
}

static void test_full_disk(void)
{
    ot_store_options opt = {.struct_size = sizeof opt, .checkpoint_pages = 16, .cache_kib = 64};
    crash_disk *d = crash_disk_create(false);
    ot_store *s = open_or_die(&d->base, "/s", &opt);
    struct put p = {.scope = "full", .key = "small"};
    char big[] = "big";
    ot_error e;
    ok(ot_store_write(s, put, &p, &e) == OT_OK, "a small write");
    crash_disk_fill(d, 20000);
    for (int i = 0; i < 3; i++) {
        is_int(ot_store_write(s, put_much, big, &e), OT_UNAVAILABLE, "a write that does not fit");
    }
    ok(strstr(e.msg, "disk is full") != NULL && strstr(e.msg, "No space left") != NULL,
       "says so: %s", e.msg);
    is_int(count_in(s, "full").keys, 1, "and leaves nothing");
    p.key = "small-2";
    is_int(ot_store_write(s, put, &p, &e), OT_OK, "a write that fits is taken");
    crash_disk_set(d, &d->bytes_max, 0);
    is_int(ot_store_write(s, put_much, big, &e), OT_OK, "with space again, the large one too");
    ot_store_close(s);
    s = open_or_die(&d->base, "/s", &opt);
    is_int(count_in(s, "full").keys, 3, "all of it is there after opening again");
    ot_store_close(s);
    crash_disk_destroy(d);
}

static ot_rc write_under(ot_txn *txn, void *arg, ot_error *err)
{
    struct count c = {.scope = "log"};
    OT_TRY(count(txn, &c, err));
    for (int i = 0; i < 40; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        struct put p = {.scope = "log", .key = key};
        OT_TRY(ot_store_write(arg, put, &p, err));
    }
    return OT_OK;
}

static void test_log_length(void)
{
    ot_store_options opt = {.struct_size = sizeof opt, .checkpoint_pages = 16};
    ot_store *s = open_or_die(ot_disk_posix(), dir_named("log"), &opt);
    ot_store_stats st;
    ot_error e;
    ok(ot_store_read(s, write_under, s, &e) == OT_OK, "40 writes under a slow reader");
    ot_store_stats_get(s, &st);
    ok(st.wal_pages >= 60, "the log grows meanwhile (%" PRIu64 " pages)", st.wal_pages);
    unsigned written = 0;
    for (int i = 0; i < 40; i++) {
        struct put p = {.scope = "log", .key = "again"};
        written += ot_store_write(s, put, &p, &e) == OT_OK;
    }
    is_int(written, 40, "40 writes after it");
    ot_store_stats_get(s, &st);
    ok(st.wal_pages < 60, "and begins anew when the reader is gone (%" PRIu64 " pages)",
       st.wal_pages);
    ok(st.checkpoints > 0, "%" PRIu64 " checkpoints", st.checkpoints);
    ot_store_close(s);
}

static void test_memory(void)
{
    crash_disk *d = crash_disk_create(false);
    ot_store_close(open_or_die(&d->base, "/s", NULL));
    unsigned refusals = 0;
    for (uint64_t nth = 1; nth < 500; nth++) {
        ot_store *s = NULL;
        ot_error e;
        (void)ot_mem_fail_nth(nth);
        ot_rc rc = ot_store_open(&d->base, "/s", NULL, &s, &e);
        if (rc == OT_OK) {
            struct put p = {.scope = "memory", .key = "k"};
            rc = ot_store_write(s, put, &p, &e);
        }
        uint64_t asked = ot_mem_fail_nth(0);
        bool clean = rc == OT_OK || e.msg[0] != 0;
        ot_store_close(s);
        if (!clean) {
            ok(false, "allocation %" PRIu64 ": no message", nth);
        }
        refusals += rc != OT_OK;
        if (asked < nth) {
            break;
        }
    }
    ok(refusals >= 5, "short memory: %u clean refusals", refusals);
    ot_store *s = open_or_die(&d->base, "/s", NULL);
    struct count c = count_in(s, "memory");
    ok(c.keys == 1 && c.v.fault == OT_EVENT_FAULT_NONE, "and the store is whole");
    ot_store_close(s);
    crash_disk_destroy(d);
}

static ot_rc kv_cases(ot_txn *txn, void *arg, ot_error *err)
{
    (void)arg;
    ot_error e;
    OT_AUTO(ot_str_done) ot_str v = OT_STR_INIT;
    char longest[400];
    memset(longest, 'k', sizeof longest);
    longest[sizeof longest - 1] = 0;
    is_int(ot_kv_set(txn, "", "k", "v", 1, &e), OT_INVALID, "kv: no scope: %s", e.msg);
    is_int(ot_kv_set(txn, "s", longest, "v", 1, &e), OT_INVALID, "kv: a long key: %s", e.msg);
    is_int(ot_kv_set(txn, "s", "k", longest, OT_KV_VALUE_MAX + 1u, &e), OT_RANGE, "kv: %s", e.msg);
    is_int(ot_kv_get(txn, "s", "k", &v, &e), OT_NOT_FOUND, "kv: %s", e.msg);
    OT_TRY(ot_kv_set(txn, "s", "k", "a\0b", 3, err));
    OT_TRY(ot_kv_get(txn, "s", "k", &v, err));
    ok(v.len == 3 && memcmp(v.data, "a\0b", 3) == 0, "kv: bytes come back");
    OT_TRY(ot_kv_set(txn, "s", "k", NULL, 0, err));
    ot_str_clear(&v);
    OT_TRY(ot_kv_get(txn, "s", "k", &v, err));
    is_int(v.len, 0, "kv: set again, to nothing");
    OT_TRY(ot_kv_delete(txn, "s", "k", err));
    OT_TRY(ot_kv_delete(txn, "s", "k", err));
    is_int(ot_kv_get(txn, "s", "k", &v, &e), OT_NOT_FOUND, "kv: deleted");
    return OT_OK;
}

int main(void)
{
    snprintf(tmp, sizeof tmp, "/tmp/ot_store_test.%ld", (long)getpid());
    ot_error e;
    test_threads();
    test_readers();
    test_submit();
    test_open();
    test_failed_sync();
    test_failed_write();
    test_full_disk();
    test_log_length();
    test_memory();
    ot_store *s = open_or_die(ot_disk_posix(), dir_named("kv"), NULL);
    ok(ot_store_write(s, kv_cases, NULL, &e) == OT_OK, "kv: no error");
    ot_store_close(s);
    ok(ot_disk_remove_tree(ot_disk_posix(), tmp, &e) == OT_OK, "cleans up");
    return tap_done();
}
