#include "base/disk.h"

#include "base/mem.h"
#include "crash_disk.h"
#include "tap.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[] = "/tmp/ot_disk_XXXXXX";
static ot_disk *d;

static const char *at(const char *name)
{
    static char path[4][OT_PATH_MAX];
    static int i;
    i = (i + 1) % 4;
    snprintf(path[i], OT_PATH_MAX, "%s/%s", dir, name);
    return path[i];
}

static void test_files(void)
{
    ot_error err = {0};
    ot_file *f = NULL;
    ok(d->ops->open(d, at("none"), OT_OPEN_READ, 0, &f, &err) == OT_NOT_FOUND && f == NULL,
       "a missing file: %s", err.msg);
    ok(strstr(err.msg, "/none") != NULL, "its path is named");
    unsigned rw = OT_OPEN_READ | OT_OPEN_WRITE | OT_OPEN_CREATE;
    is_int(d->ops->open(d, at("f"), rw | OT_OPEN_EXCL, 0600, &f, &err), OT_OK, "create");
    is_int(f->ops->pwrite(f, "hello", 5, 3, &err), OT_OK, "write beyond the end");
    uint64_t size = 0;
    ok(f->ops->size(f, &size, &err) == OT_OK && size == 8, "size");
    char buf[16];
    size_t n = 0;
    ok(f->ops->pread(f, buf, sizeof buf, 0, &n, &err) == OT_OK && n == 8 &&
           memcmp(buf, "\0\0\0hello", 8) == 0,
       "read, short at the end");
    ok(f->ops->pread(f, buf, 4, 100, &n, &err) == OT_OK && n == 0, "read behind the end");
    is_int(f->ops->truncate(f, 4, &err), OT_OK, "truncate");
    is_int(f->ops->sync(f, false, &err), OT_OK, "sync");
    is_int(f->ops->sync(f, true, &err), OT_OK, "data sync");
    ok(f->ops->fd(f) >= 0, "descriptor");
    ot_file_close(f);
    f = NULL;
    is_int(d->ops->open(d, at("f"), rw | OT_OPEN_EXCL, 0600, &f, &err), OT_EXISTS, "exclusive");
    ok(d->ops->open(d, at("f"), OT_OPEN_WRITE | OT_OPEN_APPEND, 0, &f, &err) == OT_OK &&
           f->ops->append(f, "+", 1, &err) == OT_OK,
       "append");
    ot_file_close(f);
    ot_str s = OT_STR_INIT;
    ok(ot_disk_read_all(d, at("f"), 5, &s, &err) == OT_OK && s.len == 5 && s.data[4] == '+',
       "read all, exactly at the limit");
    ot_str_clear(&s);
    ok(ot_disk_read_all(d, at("f"), 4, &s, &err) == OT_EXHAUSTED, "one more than the limit: %s",
       err.msg);
    ot_str_done(&s);
    if (symlink(at("f"), at("link")) == 0) {
        ok(d->ops->open(d, at("link"), OT_OPEN_READ | OT_OPEN_NOFOLLOW, 0, &f, &err) != OT_OK,
           "a link is not followed");
    }
    ot_file_close(NULL);
}

static void test_atomic(void)
{
    ot_error err = {0};
    ot_str s = OT_STR_INIT;
    is_int(ot_disk_write_atomic(d, at("a"), "one", 3, 0600, &err), OT_OK, "write");
    is_int(ot_disk_write_atomic(d, at("a"), "two", 3, 0600, &err), OT_OK, "replace");
    ok(ot_disk_read_all(d, at("a"), 10, &s, &err) == OT_OK && strcmp(s.data, "two") == 0, "read");
    ot_str_done(&s);
    struct stat st;
    ok(stat(at("a"), &st) == 0 && (st.st_mode & 0777) == 0600, "mode");
    is_int(ot_disk_write_atomic(d, at("no/such/a"), "x", 1, 0600, &err), OT_NOT_FOUND,
           "no directory");
    char *big = malloc(5000);
    memset(big, 'a', 4999);
    big[4999] = 0;
    is_int(ot_disk_write_atomic(d, big, "x", 1, 0600, &err), OT_RANGE, "a path too long");
    free(big);
}

static ot_rc count_entry(void *arg, const char *name, ot_error *err)
{
    (void)name;
    return ++*(int *)arg == 3 ? ot_fail(err, OT_ABORTED, "enough") : OT_OK;
}

static void test_trees(void)
{
    ot_error err = {0};
    is_int(ot_disk_mkdirs(d, at("t/a/b/c"), 0700, &err), OT_OK, "mkdirs");
    is_int(ot_disk_mkdirs(d, at("t/a/b/c"), 0700, &err), OT_OK, "mkdirs again");
    ok(ot_disk_mkdirs(d, at("f/x"), 0700, &err) != OT_OK, "a file in the way: %s", err.msg);
    ok(ot_disk_write_atomic(d, at("t/a/1"), "", 0, 0600, NULL) == OT_OK &&
           ot_disk_write_atomic(d, at("t/a/2"), "", 0, 0600, NULL) == OT_OK &&
           ot_disk_write_atomic(d, at("t/a/3"), "", 0, 0600, NULL) == OT_OK,
       "files");
    int n = 0;
    is_int(d->ops->list(d, at("t/a"), count_entry, &n, &err), OT_ABORTED, "a walk can be ended");
    is_int(n, 3, "at the third entry");
    ok(symlink(dir, at("t/a/up")) == 0, "a link to the whole");
    is_int(ot_disk_remove_tree(d, at("t"), &err), OT_OK, "remove");
    ok(!ot_disk_exists(d, at("t")) && ot_disk_exists(d, at("f")), "the link was not followed");
    is_int(ot_disk_remove_tree(d, at("t"), &err), OT_OK, "a missing tree is fine");
    ot_stat st;
    ok(d->ops->stat(d, at("link"), &st, &err) == OT_OK && st.is_link && !st.is_regular,
       "stat does not follow");
    is_int(d->ops->link(d, at("f"), at("g"), &err), OT_OK, "link");
    is_int(d->ops->rename(d, at("g"), at("h"), &err), OT_OK, "rename");
    is_int(d->ops->unlink(d, at("h"), &err), OT_OK, "unlink");
    is_int(d->ops->unlink(d, at("h"), &err), OT_NOT_FOUND, "unlink twice");
}

static void test_paths(void)
{
    char p[OT_PATH_MAX], big[OT_PATH_MAX];
    ok(ot_path_join(p, "a", "b", NULL) == OT_OK && strcmp(p, "a/b") == 0, "join");
    ok(ot_path_join(p, "/", "b", NULL) == OT_OK && strcmp(p, "/b") == 0, "join at the root");
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = 0;
    is_int(ot_path_join(p, big, "b", NULL), OT_RANGE, "join too long");
    const char *good[] = {"a", "a/b", "a..b", ".a", "..."};
    const char *bad[] = {"", "/a", "a//b", "a/", ".", "..", "a/../b", "a/.", "./a"};
    for (size_t i = 0; i < OT_COUNT(good); i++) {
        ok(ot_path_is_clean(good[i]), "clean: '%s'", good[i]);
    }
    for (size_t i = 0; i < OT_COUNT(bad); i++) {
        ok(!ot_path_is_clean(bad[i]), "not clean: '%s'", bad[i]);
    }
}

static void test_lock(void)
{
    ot_error err = {0};
    int a = -1, b = -1;
    is_int(ot_disk_lock_file(at("lock"), &a, &err), OT_OK, "lock");
    ok(ot_disk_lock_file(at("lock"), &b, &err) == OT_UNAVAILABLE && b == -1, "held: %s", err.msg);
    ot_fd_close(&a);
    is_int(a, -1, "closed");
    is_int(ot_disk_lock_file(at("lock"), &b, &err), OT_OK, "free again");
    ot_fd_close(&b);
    ot_fd_close(&b);
}

static void test_no_memory(void)
{
    ot_error err = {0};
    for (uint64_t nth = 1; nth < 50; nth++) {
        ot_str s = OT_STR_INIT;
        (void)ot_mem_fail_nth(nth);
        ot_rc rc = ot_disk_read_all(d, at("f"), 100, &s, &err);
        uint64_t asked = ot_mem_fail_nth(0);
        ot_str_done(&s);
        if (asked < nth) {
            ok(rc == OT_OK && nth > 1, "read all: swept %" PRIu64 " allocations", nth - 1);
            return;
        }
        if (rc != OT_EXHAUSTED) {
            ok(false, "allocation %" PRIu64 " failed and gave %s", nth, ot_rc_name(rc));
            return;
        }
    }
}

/* What is written whole or not at all stays so when the power is cut at any moment. */
static void test_power(void)
{
    static const char *const texts[] = {"", "old", "newer", "newest of all"};
    size_t acked_at[4] = {0}, bad = 0;
    crash_disk *recorded = crash_disk_create(true);
    for (int i = 1; i < 4; i++) {
        is_int(ot_disk_write_atomic(&recorded->base, "/exit.json", texts[i], strlen(texts[i]), 0600,
                                    NULL),
               OT_OK, "writes '%s'", texts[i]);
        acked_at[i] = crash_disk_ops_done(recorded);
    }
    crash_walk w;
    ot_rng rng;
    ot_rng_seed(&rng, 1);
    crash_walk_init(&w, recorded);
    while (crash_walk_step(&w)) {
        for (int k = 0; k < 60; k++) { /* torn in many ways */
            crash_disk *left = crash_walk_disk(&w, (crash_mode)OT_MIN(k, (int)CRASH_TEAR), &rng);
            ot_str text = OT_STR_INIT;
            bool there = ot_disk_read_all(&left->base, "/exit.json", 100, &text, NULL) == OT_OK;
            bool good = false;
            for (int i = 0; i < 4; i++) {
                bool last = i == 3 || w.at < acked_at[i + 1];
                bool is = i == 0 ? !there : there && strcmp(text.data, texts[i]) == 0;
                good |= is && last;
            }
            bad += !good;
            ot_str_done(&text);
            crash_disk_destroy(left);
        }
    }
    is_int(bad, 0, "power cuts: the whole file of before, or the whole new one once it is written");
    crash_walk_done(&w);
    crash_disk_destroy(recorded);
}

/* Makes no name; some file systems can't. */
static void test_unnamed(void)
{
    ot_error e = {0};
    ot_file *f;
    ot_rc rc = ot_disk_open_unnamed(dir, &f, &e);
    if (rc == OT_UNIMPLEMENTED) {
        skip("the file system of temporary files has no files without names");
        return;
    }
    ok(rc == OT_OK && f->ops->pwrite(f, "abc", 3, 0, &e) == OT_OK &&
           f->ops->sync(f, true, &e) == OT_OK,
       "a file without a name is written and synced: %s", e.msg);
    ot_file_close(f);
    is_int(ot_disk_open_unnamed("/nowhere/at/all", &f, &e), OT_NOT_FOUND, "nowhere: %s", e.msg);
    is_int(rmdir(dir) == 0, 1, "and the directory is as empty as it was");
    is_int(d->ops->mkdir(d, dir, 0700, &e), OT_OK, "made again");
}

int main(void)
{
    d = ot_disk_posix();
    if (mkdtemp(dir) == NULL) {
        ok(false, "temporary directory");
        return tap_done();
    }
    test_unnamed();
    test_files();
    test_atomic();
    test_power();
    test_trees();
    test_paths();
    test_lock();
    test_no_memory();
    is_int(ot_disk_remove_tree(d, dir, NULL), OT_OK, "clean up");
    return tap_done();
}
