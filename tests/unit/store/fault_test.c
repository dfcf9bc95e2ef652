/* A seeded run over all tables and the content store, again and again: each time another fsync or
 * write fails, or the disk is full at another byte. A clear refusal, nothing acknowledged that is
 * not there later, and the run goes on to the same end: after a restart where the store has failed,
 * with room again where the disk was full. */
#include "crash_disk.h"
#include "crash_work.h"
#include "tap.h"

#define TXNS 14

static const ot_store_options options = {
    .struct_size = sizeof options, .readers_max = 1, .checkpoint_pages = 8};

static work_txn plan[TXNS + 1];
static work_seen want[TXNS + 1]; /* after each; of a run without faults */

typedef struct run {
    crash_disk *d;
    ot_store *store;
    uint64_t acked;
    ot_rc rc; /* the first refusal */
    ot_error err;
} run;

static ot_rc open_store(run *r)
{
    r->rc = ot_store_open(&r->d->base, "/s", &options, &r->store, &r->err);
    return r->rc;
}

/* From where it stands to the first refusal or the end. */
static void go(run *r)
{
    uint64_t deleted = 0;
    r->rc = OT_OK;
    for (uint64_t n = r->acked + 1; n <= TXNS && r->rc == OT_OK; n++) {
        r->rc = work_put_blobs(r->store, &plan[n], &r->err);
        if (r->rc == OT_OK) {
            r->rc = ot_store_write(r->store, work_do, &plan[n], &r->err);
            r->acked += r->rc == OT_OK;
        }
        if (r->rc == OT_OK && n % 5 == 0) {
            r->rc = work_collect(r->store, &deleted, &r->err);
        }
    }
}

/* Number, log and rows; the hashes in the log hold times. */
static bool looks_like(ot_store *store, uint64_t least, uint64_t most, uint64_t *number_out,
                       ot_error *e)
{
    work_seen seen = {0};
    ot_blob_report report;
    if (ot_store_read(store, work_look, &seen, e) != OT_OK ||
        ot_store_read(store, work_look_blobs, NULL, e) != OT_OK ||
        ot_blob_verify_all(store, NULL, NULL, &report, e) != OT_OK) {
        return false;
    }
    *number_out = seen.number;
    if (seen.number < least || seen.number > most || seen.head.seq != want[seen.number].head.seq ||
        !ot_digest_equal(&seen.rows, &want[seen.number].rows)) {
        (void)ot_fail(
            e, OT_DATA_LOSS, "it is that of transaction %llu, of %llu to %llu, or of none",
            (unsigned long long)seen.number, (unsigned long long)least, (unsigned long long)most);
        return false;
    }
    return true;
}

/* From a disk as it was left: opens, holds what was acknowledged, and the run goes on to its end.
 */
static const char *recovers(crash_disk *d, uint64_t acked, ot_error *e)
{
    run again = {.d = d};
    if (open_store(&again) != OT_OK) {
        *e = again.err;
        return "does not open";
    }
    /* The one that was refused may have come to the disk. */
    uint64_t last = OT_MIN(acked + 1, (uint64_t)TXNS);
    const char *what = NULL;
    if (!looks_like(again.store, acked, last, &again.acked, e)) {
        what = "another state after the restart";
    } else {
        go(&again);
        *e = again.err;
        what = again.rc != OT_OK                                       ? "does not go on"
               : !looks_like(again.store, TXNS, TXNS, &again.acked, e) ? "another end"
                                                                       : NULL;
    }
    ot_store_close(again.store);
    return what;
}

static const char *after_power_loss(crash_disk *d, uint64_t acked, ot_error *e)
{
    crash_walk w;
    crash_walk_init(&w, d);
    while (crash_walk_step(&w)) {
    }
    crash_disk *left = crash_walk_disk(&w, CRASH_DROP, NULL);
    const char *what = recovers(left, acked, e);
    crash_disk_destroy(left);
    crash_walk_done(&w);
    return what;
}

/* The nth fsync or write of the run fails, and all after it until the first refusal. */
static const char *broken(uint64_t nth, bool sync, bool *hit, ot_error *e)
{
    run r = {.d = crash_disk_create(true)};
    uint64_t *fault = sync ? &r.d->fail_sync_from : &r.d->fail_write_from;
    const char *what = NULL;
    *fault = nth;
    if (open_store(&r) == OT_OK) {
        go(&r);
    }
    *hit = (sync ? r.d->syncs : r.d->writes) >= nth;
    crash_disk_set(r.d, fault, 0);
    *e = r.err;
    if (r.rc == OT_OK) {
        what = *hit && r.acked < TXNS ? "the run ended without a refusal" : NULL;
    } else if (r.rc != OT_UNAVAILABLE || strstr(r.err.msg, "Input/output error") == NULL) {
        what = "another refusal";
    }
    if (r.store != NULL) {
        ot_store_stats st;
        ot_store_stats_get(r.store, &st);
        if (what == NULL && st.failed &&
            ot_store_write(r.store, work_do, &plan[1], e) != OT_UNAVAILABLE) {
            what = "a failed store took a write";
        }
        if (!st.failed) { /* a blob could not be put, or the checkpoint is to be tried again */
            go(&r);
        }
        what = what != NULL ? what : after_power_loss(r.d, r.acked, e);
        ot_store_close(r.store);
    }
    what = what != NULL ? what : recovers(r.d, r.acked, e);
    crash_disk_destroy(r.d);
    return what;
}

static void test_broken(bool sync)
{
    size_t bad = 0;
    bool hit = true;
    uint64_t nth = 1;
    for (; hit && nth < 5000; nth++) {
        ot_error e = {0};
        const char *what = broken(nth, sync, &hit, &e);
        if (what != NULL && bad++ < 3) {
            printf("# %s %d: %s: %s\n", sync ? "fsync" : "write", (int)nth, what, e.msg);
        }
    }
    ok(nth > 3 * TXNS, "the run has that many");
    is_int(bad, 0, "each of %d failing from there on: refused, recovered, nothing lost: %s",
           (int)nth - 2, sync ? "fsync" : "write");
}

/* Room for `room` bytes, then for all. */
static const char *full(uint64_t room, bool *hit, ot_error *e)
{
    run r = {.d = crash_disk_create(false)};
    const char *what = NULL;
    r.d->bytes_max = room;
    if (open_store(&r) == OT_OK) {
        go(&r);
    }
    *hit = r.rc != OT_OK;
    *e = r.err;
    if (*hit && r.rc != OT_UNAVAILABLE && r.rc != OT_EXHAUSTED) {
        what = "another refusal";
    } else if (*hit && strstr(r.err.msg, "No space left") == NULL) {
        what = "a refusal that does not say why";
    }
    uint64_t number;
    if (what == NULL && r.store != NULL && !looks_like(r.store, r.acked, r.acked, &number, e)) {
        what = "what was refused left something";
    }
    crash_disk_set(r.d, &r.d->bytes_max, 0);
    if (what == NULL && (r.store != NULL || open_store(&r) == OT_OK)) {
        go(&r);
    }
    if (what == NULL && r.rc != OT_OK) {
        *e = r.err;
        what = "with room again it does not go on";
    }
    ot_store_close(r.store);
    what = what != NULL ? what : recovers(r.d, TXNS, e);
    crash_disk_destroy(r.d);
    return what;
}

static void test_full(void)
{
    size_t bad = 0, n = 0;
    bool hit = true;
    for (uint64_t room = 1; hit; room += 3001, n++) {
        ot_error e = {0};
        const char *what = full(room, &hit, &e);
        if (what != NULL && bad++ < 3) {
            printf("# room for %d bytes: %s: %s\n", (int)room, what, e.msg);
        }
    }
    ok(n > 40, "the run fills that many disks");
    is_int(bad, 0, "%d disks full at another byte: refused, nothing changed, and it goes on",
           (int)n);
}

int main(void)
{
    run r = {.d = crash_disk_create(false)};
    ot_error e;
    ot_rng rng;
    ot_rng_seed(&rng, 3);
    is_int(open_store(&r), OT_OK, "opens");
    is_int(ot_store_read(r.store, work_look, &want[0], &e), OT_OK, "nothing is in it");
    unsigned kinds = 0;
    for (uint64_t n = 1; n <= TXNS; n++) {
        uint64_t deleted = 0;
        plan[n] = work_plan(&rng, n);
        plan[n].fails = false;
        kinds |= plan[n].kinds;
        if (work_put_blobs(r.store, &plan[n], &e) != OT_OK ||
            ot_store_write(r.store, work_do, &plan[n], &e) != OT_OK ||
            ot_store_read(r.store, work_look, &want[n], &e) != OT_OK ||
            (n % 5 == 0 && work_collect(r.store, &deleted, &e) != OT_OK)) {
            ok(false, "transaction %d: %s", (int)n, e.msg);
        }
    }
    is_int(kinds, WORK_KINDS - 1, "every kind of work is in the run");
    ot_store_close(r.store);
    crash_disk_destroy(r.d);
    test_broken(true);
    test_broken(false);
    test_full();
    return tap_done();
}
