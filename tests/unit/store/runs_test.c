#include "store/runs.h"

#include "base/mem.h"
#include "tap.h"

#include <stdlib.h>

static ot_store *store;
static ot_arena arena;

static ot_rc insert_fn(ot_txn *txn, void *arg, ot_error *err)
{
    ot_run *r = arg;
    return ot_store_run_insert(txn, r, &r->id, err);
}

static ot_rc update_fn(ot_txn *txn, void *arg, ot_error *err)
{
    return ot_store_run_update(txn, arg, err);
}

static ot_rc get_fn(ot_txn *txn, void *arg, ot_error *err)
{
    ot_run *r = arg;
    return ot_store_run_get(txn, r->id, &arena, r, err);
}

struct list {
    ot_run_filter f;
    ot_run *runs;
    size_t n;
};

static ot_rc list_fn(ot_txn *txn, void *arg, ot_error *err)
{
    struct list *l = arg;
    return ot_store_run_list(txn, &l->f, &arena, &l->runs, &l->n, err);
}

static ot_rc counts_fn(ot_txn *txn, void *arg, ot_error *err)
{
    return ot_store_run_counts(txn, arg, err);
}

static void test_counts(void)
{
    int64_t before[OT_RUN_STATE_COUNT_], after[OT_RUN_STATE_COUNT_];
    ot_run r = {.app = "counted", .step = "train", .attempt = 1, .spec = "{}", .created_us = 1};
    ok(ot_store_read(store, counts_fn, before, NULL) == OT_OK, "counts");
    for (int i = 0; i < 5; i++) {
        r.state = i < 3 ? OT_RUN_QUEUED : OT_RUN_LOST;
        ok(ot_store_write(store, insert_fn, &r, NULL) == OT_OK, "run %d", i);
    }
    ok(ot_store_read(store, counts_fn, after, NULL) == OT_OK, "counts again");
    is_int(after[OT_RUN_QUEUED] - before[OT_RUN_QUEUED], 3, "three more queued");
    is_int(after[OT_RUN_LOST] - before[OT_RUN_LOST], 2, "two more lost");
    is_int(after[OT_RUN_FAILED], before[OT_RUN_FAILED], "failed as before");
}

struct since {
    int64_t since_us, limit, n, oldest_us;
};

static ot_rc since_fn(ot_txn *txn, void *arg, ot_error *err)
{
    struct since *s = arg;
    return ot_store_run_since(txn, "timed", s->since_us, s->limit, &s->n, &s->oldest_us, err);
}

static void since_is(int64_t since_us, int64_t limit, int64_t n, int64_t oldest_us)
{
    struct since s = {.since_us = since_us, .limit = limit, .n = -1, .oldest_us = -1};
    ot_error err = {0};
    ok(ot_store_read(store, since_fn, &s, &err) == OT_OK, "since %lld: %s", (long long)since_us,
       err.msg);
    is_int(s.n, n, "so many of the newest %lld", (long long)limit);
    is_int(s.oldest_us, oldest_us, "the first of them");
}

static void test_since(void)
{
    since_is(0, 10, 0, 0);
    for (int i = 1; i <= 4; i++) {
        ot_run r = {.app = i % 2 ? "a" : "b", .step = "timed", .attempt = 1, .spec = "{}"};
        r.created_us = i * 100;
        ok(ot_store_write(store, insert_fn, &r, NULL) == OT_OK, "run %d", i);
    }
    since_is(0, 10, 4, 100);
    since_is(100, 10, 3, 200);
    since_is(399, 10, 1, 400);
    since_is(400, 10, 0, 0);
    since_is(0, 2, 2, 300);
}

static void test_states(void)
{
    ot_run_state s;
    ot_error err = {0};
    bool all = true;
    for (int i = OT_RUN_QUEUED; i <= OT_RUN_LOST; i++) {
        all = all && ot_run_state_parse(ot_run_state_name((ot_run_state)i), &s, NULL) == OT_OK &&
              (int)s == i;
    }
    ok(all, "states by name");
    ok(ot_run_state_parse("done", &s, &err) == OT_INVALID, "no such state: %s", err.msg);
    is_str(ot_run_state_name((ot_run_state)77), "unknown", "no such number");
}

static void test_rows(void)
{
    ot_error err = {0};
    ot_run r = {.app = "digits",
                .step = "train",
                .attempt = 1,
                .spec = "{\"x\":1}",
                .created_us = 10,
                .parent = 3,
                .trigger_seq = 99};
    is_int(ot_store_write(store, insert_fn, &r, &err), OT_OK, "insert %s", err.msg);
    is_int(r.id, 1, "the first id");
    ot_run got = {.id = r.id};
    is_int(ot_store_read(store, get_fn, &got, &err), OT_OK, "get");
    ok(strcmp(got.app, "digits") == 0 && strcmp(got.step, "train") == 0 &&
           got.state == OT_RUN_QUEUED && got.attempt == 1 && strcmp(got.spec, "{\"x\":1}") == 0 &&
           got.result == NULL && got.created_us == 10 && got.started_us == 0 && got.parent == 3 &&
           got.trigger_seq == 99,
       "all columns");
    got.state = OT_RUN_FAILED;
    got.result = "{\"exit_code\":3}";
    got.started_us = 11;
    got.ended_us = 12;
    is_int(ot_store_write(store, update_fn, &got, &err), OT_OK, "update");
    ot_run again = {.id = r.id};
    ok(ot_store_read(store, get_fn, &again, &err) == OT_OK && again.state == OT_RUN_FAILED &&
           strcmp(again.result, "{\"exit_code\":3}") == 0 && again.ended_us == 12,
       "updated");
    again.id = 12345;
    ok(ot_store_write(store, update_fn, &again, &err) == OT_NOT_FOUND, "update none: %s", err.msg);
    ok(ot_store_read(store, get_fn, &again, &err) == OT_NOT_FOUND, "get none: %s", err.msg);
    ok(ot_store_read(store, insert_fn, &r, &err) == OT_PRECONDITION, "not in a read: %s", err.msg);
    r.app = "a/b";
    ok(ot_store_write(store, insert_fn, &r, &err) == OT_INVALID, "a bad name: %s", err.msg);
    r.app = "digits";
    r.state = (ot_run_state)9;
    ok(ot_store_write(store, insert_fn, &r, &err) == OT_INVALID, "a bad state: %s", err.msg);
}

static void test_list(void)
{
    ot_error err = {0};
    for (int i = 0; i < 20; i++) {
        ot_run r = {.app = i % 2 ? "a" : "b",
                    .step = i % 4 < 2 ? "train" : "evaluate",
                    .state = i < 5 ? OT_RUN_RUNNING : OT_RUN_SUCCEEDED,
                    .spec = "{}"};
        if (ot_store_write(store, insert_fn, &r, &err) != OT_OK) {
            ok(false, "insert: %s", err.msg);
        }
    }
    struct list l = {.f = {.app = "a", .state = -1, .limit = 4}};
    ok(ot_store_read(store, list_fn, &l, &err) == OT_OK && l.n == 4 && l.runs[0].id == 21 &&
           l.runs[3].id == 15,
       "newest first, by app, a page");
    l.f.before_id = l.runs[3].id;
    ok(ot_store_read(store, list_fn, &l, &err) == OT_OK && l.n == 4 && l.runs[0].id == 13,
       "the next page");
    l.f = (ot_run_filter){.state = OT_RUN_RUNNING, .limit = 100};
    ok(ot_store_read(store, list_fn, &l, &err) == OT_OK && l.n == 5, "by state");
    l.f = (ot_run_filter){.state = OT_RUN_RUNNING, .app = "b", .limit = 100};
    ok(ot_store_read(store, list_fn, &l, &err) == OT_OK && l.n == 3, "by state and app");
    l.f = (ot_run_filter){.state = -1, .step = "evaluate", .limit = 100};
    ok(ot_store_read(store, list_fn, &l, &err) == OT_OK && l.n == 10, "by step");
    l.f = (ot_run_filter){.state = -1, .limit = 100};
    ok(ot_store_read(store, list_fn, &l, &err) == OT_OK && l.n == 21, "all");
    l.f = (ot_run_filter){.state = -1, .limit = 0};
    ok(ot_store_read(store, list_fn, &l, &err) == OT_INVALID, "no limit: %s", err.msg);
    l.f.limit = 1001;
    ok(ot_store_read(store, list_fn, &l, &err) == OT_INVALID, "too much: %s", err.msg);
    l.f = (ot_run_filter){.state = -1, .app = "' OR 1=1 --", .limit = 10};
    ok(ot_store_read(store, list_fn, &l, &err) == OT_OK && l.n == 0, "text is not SQL");
}

int main(void)
{
    char dir[] = "/tmp/ot_runs_XXXXXX";
    ot_error err = {0};
    ot_arena_init(&arena, 65536, 1 << 20);
    test_states();
    if (mkdtemp(dir) == NULL ||
        !ok(ot_store_open(ot_disk_posix(), dir, NULL, &store, &err) == OT_OK, "open %s", err.msg)) {
        return tap_done();
    }
    test_rows();
    test_list();
    test_counts();
    test_since();
    ot_store_close(store);
    ot_arena_done(&arena);
    is_int(ot_disk_remove_tree(ot_disk_posix(), dir, NULL), OT_OK, "clean up");
    return tap_done();
}
