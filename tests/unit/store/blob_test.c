/* The content store: publishing, damage, collection, many threads, a full disk. */
#include "store/blob.h"

#include "base/clock.h"
#include "base/mem.h"
#include "crash_disk.h"
#include "tap.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

static char tmp[64];
static ot_store *store;

static void start(ot_disk *d, const char *dir)
{
    ot_error e;
    if (ot_store_open(d, dir, NULL, &store, &e) != OT_OK) {
        printf("Bail out! %s\n", e.msg);
        exit(1);
    }
}

static ot_digest put_text(const char *z)
{
    ot_digest d = {{0}};
    ot_error e;
    if (ot_blob_put(store, z, strlen(z), &d, &e) != OT_OK) {
        ok(false, "put: %s", e.msg);
    }
    return d;
}

static size_t count_in(const char *dir)
{
    char path[OT_PATH_MAX];
    FILE *p;
    int n = 0;
    snprintf(path, sizeof path, "find %s/%s -type f | wc -l", ot_store_dir(store), dir);
    p = popen(path, "r");
    if (p == NULL || fscanf(p, "%d", &n) != 1) {
        n = -1;
    }
    if (p != NULL) {
        pclose(p);
    }
    return (size_t)n;
}

static void test_put(void)
{
    ot_error e;
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    char path[OT_PATH_MAX], hex[OT_DIGEST_HEX];
    uint64_t size = 0;
    ot_digest abc, empty, none = {{9}};
    ok(ot_blob_put(store, "abc", 3, &abc, &e) == OT_OK, "put");
    is_str(ot_digest_hex(&abc, hex),
           "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "by its SHA-256");
    ok(ot_blob_path(store, &abc, path, &e) == OT_OK && strstr(path, "/blobs/ba/ba7816bf") != NULL,
       "under its name");
    ok(ot_blob_put(store, "abc", 3, NULL, &e) == OT_OK, "again");
    ok(ot_blob_read(store, &abc, 3, &out, &e) == OT_OK && out.len == 3, "read");
    is_str(out.data, "abc", "its bytes");
    is_int(ot_blob_read(store, &abc, 2, &out, &e), OT_EXHAUSTED, "a limit: %s", e.msg);
    ok(ot_blob_put(store, "", 0, &empty, &e) == OT_OK && ot_blob_exists(store, &empty), "nothing");
    ok(ot_blob_size(store, &empty, &size, &e) == OT_OK && size == 0, "has size 0");
    is_int(ot_blob_size(store, &none, &size, &e), OT_NOT_FOUND, "none: %s", e.msg);
    is_int(ot_blob_verify(store, &none, &e), OT_NOT_FOUND, "none to verify");
    ot_stat st;
    ok(ot_disk_posix()->ops->stat(ot_disk_posix(), path, &st, &e) == OT_OK && (st.mode & 0222) == 0,
       "nobody may write to it");
    is_int(count_in("blobs/tmp"), 0, "no temporary file is left");
}

static void test_writer(void)
{
    ot_error e;
    ot_blob_writer *w;
    ot_digest d, want = ot_sha256_of("hello world", 11), wrong = {{1}};
    uint64_t size;
    ok(ot_blob_writer_create(store, 11, &w, &e) == OT_OK, "a writer");
    ok(ot_blob_writer_append(w, "hello ", 6, &e) == OT_OK &&
           ot_blob_writer_append(w, "world", 5, &e) == OT_OK,
       "appends");
    ok(!ot_blob_exists(store, &want), "nothing shows before the commit");
    ok(ot_blob_writer_commit(w, &want, &d, &size, &e) == OT_OK && size == 11, "commit");
    ok(ot_digest_equal(&d, &want) && ot_blob_verify(store, &d, &e) == OT_OK, "it verifies");
    is_int(ot_blob_writer_append(w, "x", 1, &e), OT_PRECONDITION, "then it is over: %s", e.msg);
    is_int(ot_blob_writer_commit(w, NULL, &d, &size, &e), OT_PRECONDITION, "really");
    ot_blob_writer_destroy(w);
    ok(ot_blob_writer_create(store, 4, &w, &e) == OT_OK, "a writer with a limit");
    is_int(ot_blob_writer_append(w, "12345", 5, &e), OT_EXHAUSTED, "over it: %s", e.msg);
    is_int(ot_blob_writer_commit(w, NULL, &d, &size, &e), OT_PRECONDITION, "no commit after that");
    ot_blob_writer_destroy(w);
    ok(ot_blob_writer_create(store, 0, &w, &e) == OT_OK, "a writer");
    ok(ot_blob_writer_append(w, "1", 1, &e) == OT_OK, "with a byte");
    is_int(ot_blob_writer_commit(w, &wrong, &d, &size, &e), OT_DATA_LOSS, "other bytes: %s", e.msg);
    ot_blob_writer_destroy(w);
    ot_blob_writer_destroy(NULL);
    is_int(count_in("blobs/tmp"), 0, "no temporary file is left");
}

static void test_file(void)
{
    char path[OT_PATH_MAX], blob[OT_PATH_MAX];
    size_t n = 3 * 1024 * 1024 + 17;
    char *bytes = ot_alloc(n);
    ot_disk *disk = ot_disk_posix();
    ot_error e;
    ot_digest d, want;
    uint64_t size = 0;
    for (size_t i = 0; i < n; i++) {
        bytes[i] = (char)(i * 2654435761u >> 13);
    }
    want = ot_sha256_of(bytes, n);
    snprintf(path, sizeof path, "%s/input", tmp);
    ok(ot_disk_write_atomic(disk, path, bytes, n, 0600, &e) == OT_OK, "a file of 3 MiB");
    ok(ot_blob_put_file(store, disk, path, 0, &d, &size, &e) == OT_OK, "is put");
    ok(size == n && ot_digest_equal(&d, &want), "whole");
    ot_stat a, b;
    ok(ot_blob_path(store, &d, blob, &e) == OT_OK && disk->ops->stat(disk, path, &a, &e) == OT_OK &&
           disk->ops->stat(disk, blob, &b, &e) == OT_OK && a.inode != b.inode,
       "as a copy: its owner may change the file");
    is_int(ot_blob_put_file(store, disk, path, 1000, &d, &size, &e), OT_EXHAUSTED, "%s", e.msg);
    is_int(ot_blob_put_file(store, disk, "/none/such", 0, &d, &size, &e), OT_NOT_FOUND, "%s",
           e.msg);
    ot_file *f;
    char head[4];
    size_t got;
    ok(ot_blob_open(store, &want, true, &f, &size, &e) == OT_OK, "opens, verified");
    ok(f->ops->pread(f, head, 4, 1000000, &got, &e) == OT_OK && got == 4 &&
           memcmp(head, bytes + 1000000, 4) == 0,
       "for ranges");
    ot_file_close(f);
    ot_free(bytes);
}

static void damage(const ot_digest *d)
{
    char path[OT_PATH_MAX];
    ot_error e;
    if (ot_blob_path(store, d, path, &e) != OT_OK ||
        ot_disk_posix()->ops->unlink(ot_disk_posix(), path, &e) != OT_OK ||
        ot_disk_write_atomic(ot_disk_posix(), path, "damaged", 7, 0600, &e) != OT_OK) {
        ok(false, "damage: %s", e.msg);
    }
}

static size_t bad_seen;
static ot_digest bad_digest;

static void see_bad(void *arg, const ot_digest *d, const ot_error *why)
{
    (void)arg;
    bad_seen += why->rc == OT_DATA_LOSS;
    bad_digest = *d;
}

static void test_damage(void)
{
    ot_error e;
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_file *f;
    ot_blob_report r = {0};
    ot_digest d = put_text("precious"), other = put_text("other");
    damage(&d);
    is_int(ot_blob_read(store, &d, 100, &out, &e), OT_DATA_LOSS, "a damaged blob: %s", e.msg);
    is_int(out.len, 0, "gives no bytes");
    ok(!ot_blob_exists(store, &d), "and is gone from its place");
    is_int(count_in("blobs/corrupt"), 1, "but kept aside");
    (void)put_text("precious");
    ok(ot_blob_verify(store, &d, &e) == OT_OK, "the right bytes heal it");
    damage(&d);
    is_int(ot_blob_open(store, &d, true, &f, NULL, &e), OT_DATA_LOSS, "open with verification");
    (void)put_text("precious");
    damage(&d);
    (void)put_text("precious");
    ok(ot_blob_verify(store, &d, &e) == OT_OK, "put over damage that nobody saw heals too");
    damage(&other);
    is_int(ot_blob_verify_all(store, see_bad, NULL, &r, &e), OT_DATA_LOSS, "%s", e.msg);
    ok(bad_seen == 1 && ot_digest_equal(&bad_digest, &other) && r.bad == 1 && r.blobs > 3,
       "verify all names it");
    is_int(ot_blob_verify_all(store, see_bad, NULL, &r, &e), OT_OK, "the second time all is well");
}

static ot_rc is_live(ot_txn *txn, void *arg, const ot_digest *d, bool *live_out, ot_error *err)
{
    (void)txn, (void)err;
    *live_out = ot_digest_equal(arg, d);
    return OT_OK;
}

static ot_rc no_answer(ot_txn *txn, void *arg, const ot_digest *d, bool *live_out, ot_error *err)
{
    (void)txn, (void)arg, (void)d, (void)live_out;
    return ot_fail(err, OT_INTERNAL, "cannot say");
}

static void test_collect(void)
{
    ot_error e;
    ot_blob_report r = {0};
    ot_digest keep = put_text("keep me"), drop = put_text("drop me");
    for (int i = 0; i < 300; i++) {
        char text[32];
        snprintf(text, sizeof text, "blob %d", i);
        (void)put_text(text);
    }
    ok(ot_blob_collect(store, 3600 * INT64_C(1000000), is_live, &keep, &r, &e) == OT_OK,
       "collects with an hour of grace");
    ok(r.deleted == 0 && r.blobs > 300 && ot_blob_exists(store, &drop), "nothing young goes");
    ot_clock_sleep_us(20000);
    is_int(ot_blob_collect(store, 0, no_answer, NULL, &r, &e), OT_INTERNAL, "%s", e.msg);
    ok(ot_blob_exists(store, &drop), "no answer, no deletion");
    ok(ot_blob_collect(store, 0, is_live, &keep, &r, &e) == OT_OK, "collects without grace");
    ok(r.deleted == r.blobs - 1 && r.deleted > 300 && r.deleted_bytes > 0, "all but the live one");
    ok(ot_blob_exists(store, &keep) && !ot_blob_exists(store, &drop), "which stays");
    is_int(count_in("blobs/tmp"), 0, "no temporary file is left");
}

#define THREADS 8

static void *put_same(void *arg)
{
    size_t *good = arg;
    for (int i = 0; i < 25; i++) {
        char text[32];
        ot_digest d, want;
        ot_error e;
        int n = snprintf(text, sizeof text, "same %d", i);
        want = ot_sha256_of(text, (size_t)n);
        *good += ot_blob_put(store, text, (size_t)n, &d, &e) == OT_OK &&
                 ot_digest_equal(&d, &want) && ot_blob_verify(store, &d, &e) == OT_OK;
    }
    return NULL;
}

static void test_threads(void)
{
    pthread_t t[THREADS];
    size_t good[THREADS] = {0}, sum = 0;
    for (int i = 0; i < THREADS; i++) {
        pthread_create(&t[i], NULL, put_same, &good[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(t[i], NULL);
        sum += good[i];
    }
    is_int(sum, THREADS * 25, "8 threads put the same blobs at once");
    is_int(count_in("blobs/tmp"), 0, "no temporary file is left");
}

static void test_full_disk(void)
{
    crash_disk *d = crash_disk_create(false);
    start(&d->base, "/s");
    static char bytes[100000];
    ot_error e;
    ot_digest digest = {{0}}, want = ot_sha256_of(bytes, sizeof bytes);
    crash_disk_fill(d, 5000);
    is_int(ot_blob_put(store, bytes, sizeof bytes, &digest, &e), OT_EXHAUSTED, "a full disk: %s",
           e.msg);
    ok(!ot_blob_exists(store, &want), "nothing appears");
    crash_disk_set(d, &d->bytes_max, 0);
    crash_disk_fail_syncs(d);
    ok(ot_blob_put(store, bytes, sizeof bytes, &digest, &e) != OT_OK &&
           !ot_blob_exists(store, &want),
       "a failed fsync publishes nothing");
    crash_disk_set(d, &d->fail_sync_from, 0);
    ok(ot_blob_put(store, bytes, sizeof bytes, &digest, &e) == OT_OK &&
           ot_blob_exists(store, &want),
       "afterwards it goes");
    unsigned refusals = 0;
    for (uint64_t nth = 1; nth < 50; nth++) {
        (void)ot_mem_fail_nth(nth);
        ot_rc rc = ot_blob_put(store, "abc", 3, &digest, &e);
        uint64_t asked = ot_mem_fail_nth(0);
        refusals += rc == OT_EXHAUSTED;
        if (asked < nth) {
            ok(rc == OT_OK && refusals == nth - 1, "short memory: %u clean refusals", refusals);
            break;
        }
    }
    ot_store_close(store);
    crash_disk_destroy(d);
}

int main(void)
{
    ot_error e;
    snprintf(tmp, sizeof tmp, "/tmp/ot_blob_test.%ld", (long)getpid());
    start(ot_disk_posix(), tmp);
    test_put();
    test_writer();
    test_file();
    test_damage();
    test_collect();
    test_threads();
    ot_store_close(store);
    test_full_disk();
    ok(ot_disk_remove_tree(ot_disk_posix(), tmp, &e) == OT_OK, "cleans up");
    return tap_done();
}
