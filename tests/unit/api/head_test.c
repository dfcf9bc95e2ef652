#include "api/head.h"

#include "base/disk.h"
#include "crash_disk.h"
#include "tap.h"

#include <stdlib.h>
#include <unistd.h>

static char dir[] = "/tmp/ot_head_XXXXXX";
static ot_store *store;
static ot_log_head *head;

static ot_rc append(ot_txn *txn, void *arg, ot_error *err)
{
    ot_event_in in = {.actor = arg, .type = "test.done", .object = "test/1"};
    return ot_event_append(txn, &in, NULL, err);
}

static ot_rc cut(ot_txn *txn, void *arg, ot_error *err)
{
    (void)arg;
    return ot_event_erase_payload(txn, 1, err);
}

static void open_in(const char *name)
{
    char path[OT_PATH_MAX];
    ot_error err = {0};
    ot_store_options o = {.struct_size = sizeof o};
    snprintf(path, sizeof path, "%s/%s", dir, name);
    ok(ot_store_open(ot_disk_posix(), path, &o, &store, &err) == OT_OK &&
           ot_log_head_open(store, dir, &head, &err) == OT_OK,
       "%s is opened %s", name, err.msg);
}

static void close_all(void)
{
    ot_log_head_close(head);
    ot_store_close(store);
}

static void add(const char *who, int n)
{
    union {
        const char *in;
        void *out;
    } arg = {.in = who};
    for (int i = 0; i < n; i++) {
        is_int(ot_store_write(store, append, arg.out, NULL), OT_OK, "an event of %s", who);
    }
}

static void faults(uint64_t want, const char *word)
{
    uint64_t seq = 0;
    const char *what = ot_log_head_fault(head, &seq);
    ok(want == 0 ? what == NULL : what != NULL && seq == want && strstr(what, word) != NULL,
       "event %d: %s", (int)seq, what != NULL ? what : "all is well");
}

static void write_head(const char *text)
{
    char path[OT_PATH_MAX];
    snprintf(path, sizeof path, "%s/log.head", dir);
    ok(ot_disk_write_atomic(ot_disk_posix(), path, text, strlen(text), 0600, NULL) == OT_OK,
       "log.head is '%.10s'", text);
}

/* The power is cut after every write: what the log then ends with is what log.head allows for. */
static void test_power(void)
{
    static const ot_store_options o = {
        .struct_size = sizeof o, .readers_max = 1, .checkpoint_pages = 8};
    char who[] = "carl";
    uint64_t seq = 0;
    ot_error err = {0};
    crash_disk *d = crash_disk_create(true);
    ok(ot_store_open(&d->base, "/s", &o, &store, &err) == OT_OK &&
           ot_log_head_open(store, "/", &head, &err) == OT_OK,
       "is opened %s", err.msg);
    for (int i = 0; i < 30; i++) {
        is_int(ot_store_write(store, append, who, NULL), OT_OK, "an event of %s", who);
    }
    close_all();
    crash_walk w;
    ot_rng rng;
    size_t bad = 0, cuts = 0;
    ot_rng_seed(&rng, 1);
    crash_walk_init(&w, d);
    while (crash_walk_step(&w)) {
        for (int mode = CRASH_DROP; mode <= CRASH_TEAR; mode++, cuts++) {
            crash_disk *left = crash_walk_disk(&w, (crash_mode)mode, &rng);
            store = NULL;
            head = NULL;
            ot_rc rc = ot_store_open(&left->base, "/s", &o, &store, &err);
            rc = rc == OT_OK ? ot_log_head_open(store, "/", &head, &err) : rc;
            if (rc != OT_OK || ot_log_head_fault(head, &seq) != NULL) {
                printf("# cut after operation %zu: %s\n", w.at, rc != OT_OK ? err.msg : "a fault");
                bad++;
            }
            close_all();
            crash_disk_destroy(left);
        }
    }
    is_int(bad, 0, "%zu power cuts, and no log that looks cut short", cuts);
    crash_walk_done(&w);
    crash_disk_destroy(d);
}

int main(void)
{
    test_power();
    if (mkdtemp(dir) == NULL) {
        return 1;
    }
    open_in("store");
    faults(0, "");
    add("anna", 5);
    is_int(ot_store_write(store, cut, NULL, NULL), OT_OK, "an erased payload is no change");
    close_all();
    open_in("store");
    faults(0, "");
    close_all();

    open_in("other"); /* an older copy in its place: shorter */
    faults(1, "gone");
    add("bert", 2);
    close_all();
    open_in("other");
    faults(3, "gone");
    add("bert", 4);
    close_all();
    open_in("other"); /* longer by now, and still another one */
    faults(5, "rewritten");
    close_all();

    open_in("store"); /* what was kept was not touched meanwhile */
    faults(0, "");
    add("anna", 1);
    close_all();
    open_in("store");
    faults(0, "");
    close_all();
    write_head("0000000000000");
    open_in("store"); /* torn when the power went */
    faults(0, "");
    close_all();
    is_int(ot_disk_remove_tree(ot_disk_posix(), dir, NULL), OT_OK, "cleaned up");
    return tap_done();
}
