#include "store/windows.h"

#include "base/mem.h"
#include "tap.h"

#include <stdlib.h>

static ot_store *store;

typedef struct ask {
    const char *deployment, *stream, *part;
    uint64_t incarnation, seq;
    bool fresh;
    ot_window_row row;
    int64_t a, b, got; /* bounds; an answer */
    uint32_t limit;
    ot_window_role role;
    int64_t version;
    ot_str bytes, seen;
    ot_rc stop;
} ask;

static ot_rc note_fn(ot_txn *txn, void *arg, ot_error *err)
{
    ask *a = arg;
    return ot_push_note(txn, a->deployment, a->incarnation, a->stream, a->seq, &a->fresh, err);
}

static bool note(const char *deployment, uint64_t incarnation, const char *stream, uint64_t seq)
{
    ask a = {.deployment = deployment, .incarnation = incarnation, .stream = stream, .seq = seq};
    ot_error err = {0};
    ok(ot_store_write(store, note_fn, &a, &err) == OT_OK, "noted %s", err.msg);
    return a.fresh;
}

static ot_rc noted_fn(ot_txn *txn, void *arg, ot_error *err)
{
    ask *a = arg;
    return ot_push_noted(txn, a->deployment, a->incarnation, a->stream, a->seq, &a->fresh, err);
}

static bool noted(const char *deployment, uint64_t incarnation, const char *stream, uint64_t seq)
{
    ask a = {.deployment = deployment, .incarnation = incarnation, .stream = stream, .seq = seq};
    ot_error err = {0};
    return ot_store_read(store, noted_fn, &a, &err) == OT_OK && a.fresh;
}

static void test_notes(void)
{
    ot_error err = {0};
    ok(note("d", 1, "window", 3), "the first is fresh, whatever its number");
    ok(!note("d", 1, "window", 3), "again: not");
    ok(!note("d", 1, "window", 2), "an older one: not");
    ok(note("d", 1, "window", 9), "a later one is, also over a gap");
    ok(!note("d", 1, "window", 8), "what the gap had comes too late");
    ok(note("d", 1, "sample", 3), "streams count for themselves");
    ok(note("e", 1, "window", 3), "and deployments");
    ok(note("d", UINT64_MAX, "window", 3), "and processes");
    ok(note("d", 2, "window", INT64_MAX) && !note("d", 2, "window", INT64_MAX), "the largest");
    ok(noted("d", 1, "window", 9) && noted("d", 1, "window", 4), "that can be asked before");
    ok(!noted("d", 1, "window", 10) && !noted("d", 1, "sample", 4) && !noted("f", 1, "window", 1) &&
           !noted("d", 7, "window", 1),
       "also what was not");
    ok(note("d", 1, "window", 10), "asking notes nothing");
    ask a = {.deployment = "d", .stream = "window", .seq = 0};
    is_int(ot_store_write(store, note_fn, &a, &err), OT_INVALID, "zero: %s", err.msg);
    a.seq = (uint64_t)INT64_MAX + 1;
    is_int(ot_store_write(store, note_fn, &a, &err), OT_INVALID, "too large: %s", err.msg);
    a.seq = 99;
    is_int(ot_store_read(store, note_fn, &a, &err), OT_PRECONDITION, "not in a read");
}

static ot_rc insert_fn(ot_txn *txn, void *arg, ot_error *err)
{
    ask *a = arg;
    return ot_window_insert(txn, &a->row, &a->row.id, err);
}

static int64_t insert(const char *deployment, int64_t version, ot_window_role role, int64_t start)
{
    ask a = {.row = {.deployment = deployment,
                     .version = version,
                     .role = role,
                     .start_us = start,
                     .end_us = start + 10,
                     .requests = 5,
                     .rows = 7,
                     .failed = 1,
                     .p50_us = 1.5,
                     .p99_us = 2.5,
                     .received_us = start + 11,
                     .latency = "lat",
                     .n_latency = 3,
                     .inputs = "in",
                     .n_inputs = 2}};
    ot_error err = {0};
    ok(ot_store_write(store, insert_fn, &a, &err) == OT_OK, "insert %s", err.msg);
    return a.row.id;
}

static ot_rc take(void *arg, const ot_window_row *r, ot_error *err)
{
    ask *a = arg;
    (void)err;
    a->row = *r;
    ot_str_addf(&a->seen, "%lld:%lld ", (long long)r->id, (long long)r->start_us);
    ot_str_addf(&a->bytes, "%.*s/%.*s/%zu ", (int)r->n_latency, (const char *)r->latency,
                (int)r->n_inputs, r->n_inputs == 0 ? "" : (const char *)r->inputs, r->n_outputs);
    return a->stop;
}

static ot_rc since_fn(ot_txn *txn, void *arg, ot_error *err)
{
    ask *a = arg;
    return ot_windows_since(txn, a->deployment, a->version, a->role, a->a, take, a, err);
}

static ot_rc after_fn(ot_txn *txn, void *arg, ot_error *err)
{
    ask *a = arg;
    return ot_windows_after(txn, a->deployment, a->a, a->limit, take, a, err);
}

static ot_rc ended_fn(ot_txn *txn, void *arg, ot_error *err)
{
    ask *a = arg;
    return ot_windows_ended(txn, a->deployment, a->a, a->b, take, a, err);
}

static ot_rc last_fn(ot_txn *txn, void *arg, ot_error *err)
{
    return ot_windows_last_id(txn, &((ask *)arg)->got, err);
}

static ot_rc expire_fn(ot_txn *txn, void *arg, ot_error *err)
{
    ask *a = arg;
    return ot_windows_expire(txn, a->deployment, a->a, a->limit, &a->got, err);
}

static void test_windows(void)
{
    ot_error err = {0};
    ask a = {.deployment = "d", .bytes = OT_STR_INIT, .seen = OT_STR_INIT};
    ok(ot_store_read(store, last_fn, &a, &err) == OT_OK && a.got == 0, "no window yet");
    insert("d", 1, OT_WINDOW_CHAMPION, 100);
    insert("d", 2, OT_WINDOW_CANARY, 100);
    insert("e", 1, OT_WINDOW_CHAMPION, 110);
    insert("d", 1, OT_WINDOW_CHAMPION, 90);
    is_int(insert("d", 1, OT_WINDOW_CHAMPION, 120), 5, "ids rise");
    ok(ot_store_read(store, last_fn, &a, &err) == OT_OK && a.got == 5, "the newest");

    a.version = 1;
    ok(ot_store_read(store, since_fn, &a, &err) == OT_OK, "since");
    is_str(a.seen.data, "1:100 4:90 5:120 ", "of one version and deployment, as they came");
    is_str(a.bytes.data, "lat/in/0 lat/in/0 lat/in/0 ", "with their histograms");
    ok(a.row.version == 1 && a.row.role == OT_WINDOW_CHAMPION && a.row.end_us == 130 &&
           a.row.requests == 5 && a.row.rows == 7 && a.row.failed == 1 && a.row.p50_us == 1.5 &&
           a.row.p99_us == 2.5 && a.row.received_us == 131,
       "and all columns");
    ot_str_clear(&a.seen);
    a.a = 4;
    ok(ot_store_read(store, since_fn, &a, &err) == OT_OK, "since 4");
    is_str(a.seen.data, "5:120 ", "after an id");
    ot_str_clear(&a.seen);
    a.a = 0;
    a.role = OT_WINDOW_SHADOW;
    ok(ot_store_read(store, since_fn, &a, &err) == OT_OK && a.seen.len == 0, "of no other role");

    ot_str_clear(&a.bytes);
    a.a = 1;
    a.limit = 2;
    ok(ot_store_read(store, after_fn, &a, &err) == OT_OK, "after an id");
    is_str(a.seen.data, "2:100 4:90 ", "of all versions and roles, at most so many");
    is_str(a.bytes.data, "lat/in/0 lat/in/0 ", "with their histograms");
    ot_str_clear(&a.seen);

    a.a = 100;
    a.b = 130;
    ot_str_clear(&a.bytes);
    ok(ot_store_read(store, ended_fn, &a, &err) == OT_OK, "ended");
    is_str(a.seen.data, "4:90 1:100 2:100 ", "in [from, to) by end, all versions");
    is_str(a.bytes.data, "lat//0 lat//0 lat//0 ", "without counts");
    a.stop = OT_CANCELLED;
    ot_str_clear(&a.seen);
    is_int(ot_store_read(store, ended_fn, &a, &err), OT_CANCELLED, "a callback can end it");
    is_str(a.seen.data, "4:90 ", "at once");
    a.stop = OT_OK;

    a.a = 111;
    a.limit = 1;
    ok(ot_store_write(store, expire_fn, &a, &err) == OT_OK && a.got == 1, "one batch");
    a.limit = 1000;
    ok(ot_store_write(store, expire_fn, &a, &err) == OT_OK && a.got == 2, "the rest");
    ok(ot_store_write(store, expire_fn, &a, &err) == OT_OK && a.got == 0, "no more");
    ot_str_clear(&a.seen);
    a.a = a.role = 0;
    ok(ot_store_read(store, since_fn, &a, &err) == OT_OK, "since");
    is_str(a.seen.data, "5:120 ", "the newest is kept");
    a.limit = 1001;
    is_int(ot_store_write(store, expire_fn, &a, &err), OT_INVALID, "%s", err.msg);
    a.deployment = "e";
    ot_str_clear(&a.seen);
    ok(ot_store_read(store, since_fn, &a, &err) == OT_OK, "of another deployment");
    is_str(a.seen.data, "3:110 ", "so are others'");
    ot_str_done(&a.seen);
    ot_str_done(&a.bytes);
}

static void test_refused(void)
{
    ot_error err = {0};
    ask a = {.row = {.deployment = "d", .start_us = 10, .end_us = 10}};
    is_int(ot_store_write(store, insert_fn, &a, &err), OT_INVALID, "no length: %s", err.msg);
    a.row.end_us = 11;
    a.row.role = (ot_window_role)7;
    is_int(ot_store_write(store, insert_fn, &a, &err), OT_INVALID, "no role: %s", err.msg);
    a.row.role = OT_WINDOW_CANARY;
    a.row.inputs = "x";
    a.row.n_inputs = OT_WINDOW_BLOB_MAX + 1;
    is_int(ot_store_write(store, insert_fn, &a, &err), OT_RANGE, "too large: %s", err.msg);
    ot_window_role r;
    ok(ot_window_role_parse("canary", &r) && r == OT_WINDOW_CANARY &&
           !ot_window_role_parse("Canary", &r),
       "roles by name");
    is_str(ot_window_role_name(OT_WINDOW_SHADOW), "shadow", "and back");
    is_str(ot_window_role_name((ot_window_role)9), "unknown", "no such role");
}

static ot_rc set_fn(ot_txn *txn, void *arg, ot_error *err)
{
    ask *a = arg;
    return ot_quality_state_set(txn, a->deployment, a->part, a->bytes.data, a->bytes.len, err);
}

static ot_rc get_fn(ot_txn *txn, void *arg, ot_error *err)
{
    ask *a = arg;
    return ot_quality_state_get(txn, a->deployment, a->part, &a->seen, err);
}

static ot_rc delete_fn(ot_txn *txn, void *arg, ot_error *err)
{
    ask *a = arg;
    return ot_quality_state_delete(txn, a->deployment, a->part, err);
}

static void test_state(void)
{
    ot_error err = {0};
    ask a = {.deployment = "d", .part = "drift", .bytes = OT_STR_INIT, .seen = OT_STR_INIT};
    is_int(ot_store_read(store, get_fn, &a, &err), OT_NOT_FOUND, "none: %s", err.msg);
    ok(ot_store_write(store, set_fn, &a, &err) == OT_OK &&
           ot_store_read(store, get_fn, &a, &err) == OT_OK && a.seen.len == 0,
       "empty bytes are a state");
    size_t n = 9u << 20; /* more than kv takes */
    ok(ot_str_reserve(&a.bytes, n), "room");
    memset(a.bytes.data, 'x', n);
    a.bytes.data[n] = 0;
    a.bytes.len = n;
    ok(ot_store_write(store, set_fn, &a, &err) == OT_OK, "replaced by a large one %s", err.msg);
    ok(ot_store_read(store, get_fn, &a, &err) == OT_OK && a.seen.len == n &&
           memcmp(a.seen.data, a.bytes.data, n) == 0,
       "which comes back");
    ot_str_clear(&a.seen);
    a.part = "other";
    is_int(ot_store_read(store, get_fn, &a, &err), OT_NOT_FOUND, "parts are apart");
    a.part = "drift";
    ok(ot_store_write(store, delete_fn, &a, &err) == OT_OK, "deleted");
    is_int(ot_store_read(store, get_fn, &a, &err), OT_NOT_FOUND, "and gone");
    ok(ot_store_write(store, delete_fn, &a, &err) == OT_OK, "twice is fine");
    ot_str_done(&a.bytes);
    ot_str_done(&a.seen);
}

int main(void)
{
    char dir[] = "/tmp/overtake-windows-XXXXXX";
    ot_error err = {0};
    if (mkdtemp(dir) == NULL || ot_store_open(ot_disk_posix(), dir, NULL, &store, &err) != OT_OK) {
        printf("Bail out! no store in %s: %s\n", dir, err.msg);
        return 1;
    }
    test_notes();
    test_windows();
    test_refused();
    test_state();
    ot_store_close(store);
    ok(ot_disk_remove_tree(ot_disk_posix(), dir, &err) == OT_OK, "the directory goes");
    return tap_done();
}
