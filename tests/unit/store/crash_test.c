/* The power is cut after every operation of a seeded run over all tables and the content store.
 * Each time the store must open with exactly the state of one transaction, none that was
 * acknowledged is lost, the chain verifies, every blob is whole and every row's blob is there.
 *   OT_CRASH_TXNS (30): transactions in the run.   OT_CRASH_SEED (1) */
#include "crash_disk.h"
#include "crash_work.h"
#include "tap.h"

#define TXNS_MAX 100000

typedef struct txn_note {
    size_t acked_at; /* operations on the disk when it was acknowledged */
    work_seen seen;
} txn_note;

static txn_note *notes;
static crash_disk *disk;
static size_t acked_now;

static uint64_t from_env(const char *name, uint64_t fallback)
{
    const char *z = getenv(name);
    int64_t v;
    return z != NULL && ot_parse_i64(z, &v, NULL) == OT_OK && v > 0 ? (uint64_t)v : fallback;
}

static const ot_store_options options = {
    .struct_size = sizeof options, .readers_max = 1, .checkpoint_pages = 24};

/* Runs after the commit, before the write returns: the exact moment of the acknowledgement. */
static void on_events(void *arg, const ot_event *events, size_t n)
{
    (void)arg, (void)events, (void)n;
    acked_now = crash_disk_ops_done(disk);
}

/* The transaction `number`; one that is told to fail leaves no trace and is tried again, with other
 * work in it. */
static ot_rc record_one(ot_store *store, ot_rng *rng, uint64_t number, uint64_t *failed,
                        ot_error *e)
{
    for (;;) {
        work_txn t = work_plan(rng, number);
        OT_TRY(work_put_blobs(store, &t, e));
        ot_rc rc = ot_store_write(store, work_do, &t, e);
        if (t.fails && rc == OT_INVALID) {
            ++*failed;
            continue;
        }
        OT_TRY(rc);
        notes[number].acked_at = acked_now;
        return ot_store_read(store, work_look, &notes[number].seen, e);
    }
}

static void record(uint64_t txns, uint64_t seed)
{
    ot_store *store;
    ot_error e;
    ot_rng rng;
    ot_rng_seed(&rng, seed);
    if (!ok(ot_store_open(&disk->base, "/s", &options, &store, &e) == OT_OK, "opens")) {
        printf("# %s\n", e.msg);
        return;
    }
    ok(ot_store_on_event(store, on_events, NULL, &e) == OT_OK &&
           ot_store_read(store, work_look, &notes[0].seen, &e) == OT_OK,
       "listens");
    uint64_t failed = 0, collected = 0;
    for (uint64_t n = 1; n <= txns; n++) {
        ot_rc rc = record_one(store, &rng, n, &failed, &e);
        if (rc == OT_OK && ot_rng_below(&rng, 10) == 0) {
            rc = work_collect(store, &collected, &e);
        }
        if (rc != OT_OK) {
            ok(false, "transaction %llu: %s", (unsigned long long)n, e.msg);
            break;
        }
    }
    ot_store_stats st;
    ot_store_stats_get(store, &st);
    printf("# seed %llu: %llu transactions, %llu more told to fail, %llu checkpoints, %llu blobs "
           "collected\n",
           (unsigned long long)seed, (unsigned long long)txns, (unsigned long long)failed,
           (unsigned long long)st.checkpoints, (unsigned long long)collected);
    ok(st.checkpoints > 0 && failed > 0 && collected > 0,
       "the run has checkpoints, failures and collections in it");
    ot_store_close(store);
}

/* Goes on where the recovered state ends. */
static ot_rc go_on(ot_store *store, uint64_t number, ot_error *err)
{
    uint64_t deleted = 0;
    work_txn t = {.number = number, .events = 1, .kinds = WORK_KINDS - 1};
    OT_TRY(work_collect(store, &deleted, err));
    OT_TRY(ot_store_read(store, work_look_blobs, NULL, err));
    OT_TRY(work_put_blobs(store, &t, err));
    return ot_store_write(store, work_do, &t, err);
}

static ot_rc check_open(ot_store *store, size_t ops, uint64_t txns, ot_error *err)
{
    work_seen found = {0};
    ot_blob_report r;
    OT_TRY(ot_store_read(store, work_look, &found, err));
    if (found.number > txns || !work_same(&found, &notes[found.number].seen)) {
        return ot_fail(err, OT_DATA_LOSS, "transaction %llu is not whole",
                       (unsigned long long)found.number);
    }
    if (found.number < txns && notes[found.number + 1].acked_at <= ops) {
        return ot_fail(err, OT_DATA_LOSS, "acknowledged transaction %llu is lost",
                       (unsigned long long)found.number + 1);
    }
    OT_TRY(ot_blob_verify_all(store, NULL, NULL, &r, err));
    OT_TRY(ot_store_read(store, work_look_blobs, NULL, err));
    return go_on(store, found.number + 1, err);
}

/* OT_OK: all is well with the store on this disk after `ops` operations. */
static ot_rc check(crash_disk *d, size_t ops, uint64_t txns, ot_error *err)
{
    ot_store *store;
    OT_TRY(ot_store_open(&d->base, "/s", &options, &store, err));
    ot_rc rc = check_open(store, ops, txns, err);
    ot_store_close(store);
    return rc;
}

int main(void)
{
    uint64_t txns = from_env("OT_CRASH_TXNS", 30), seed = from_env("OT_CRASH_SEED", 1);
    static const char *const modes[] = {"dropped", "kept", "torn"};
    if (txns > TXNS_MAX) {
        txns = TXNS_MAX;
    }
    notes = calloc(txns + 2, sizeof *notes);
    disk = crash_disk_create(true);
    record(txns, seed);
    crash_walk w;
    crash_walk_init(&w, disk);
    ot_rng rng;
    ot_rng_seed(&rng, seed + 1);
    size_t bad[3] = {0}, cuts = 0;
    do {
        /* Without what is not synced, the disk is that of the cut before until the next sync. */
        bool synced = w.at == 0 || crash_is_sync(&w.ops[w.at - 1]);
        for (int mode = synced ? CRASH_DROP : CRASH_KEEP; mode <= CRASH_TEAR; mode++) {
            ot_error e = {0};
            crash_disk *d = crash_walk_disk(&w, (crash_mode)mode, &rng);
            if (check(d, w.at, txns, &e) != OT_OK && bad[mode]++ < 3) {
                printf("# cut after operation %zu, the rest %s: %s\n", w.at, modes[mode], e.msg);
            }
            crash_disk_destroy(d);
        }
        cuts++;
    } while (crash_walk_step(&w));
    for (int mode = 0; mode < 3; mode++) {
        is_int(bad[mode], 0, "%zu cuts, unsynced writes %s: nothing acknowledged is lost", cuts,
               modes[mode]);
    }
    ok(cuts > txns, "every transaction was cut at least once");
    crash_walk_done(&w);
    crash_disk_destroy(disk);
    free(notes);
    return tap_done();
}
