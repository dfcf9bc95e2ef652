/* The power is cut after every operation of a seeded run; each time the store must open, hold every
 * acknowledged transaction whole, and its chain and blobs must verify.
 *   OT_CRASH_TXNS (60): transactions in the run.   OT_CRASH_SEED (1) */
#include "crash_disk.h"
#include "store/blob.h"
#include "store/events.h"
#include "store/kv.h"
#include "store/store.h"
#include "tap.h"

#include <stdatomic.h>
#include <stdio.h>

#define TXNS_MAX 100000

typedef struct txn_note {
    size_t acked_at; /* operations on the disk when it was acknowledged */
    uint64_t events; /* in all transactions up to this one */
    bool has_blob;
    ot_digest blob;
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

struct one {
    uint64_t number;
    uint64_t events;
    size_t padding;
    const ot_digest *blob;
    bool fails;
};

static ot_rc do_one(ot_txn *txn, void *arg, ot_error *err)
{
    struct one *o = arg;
    char text[64], payload[3072];
    snprintf(text, sizeof text, "%llu", (unsigned long long)o->number);
    OT_TRY(ot_kv_set(txn, "crash", "number", text, strlen(text), err));
    OT_TRY(ot_kv_set(txn, "crash-all", text, text, strlen(text), err));
    snprintf(payload, sizeof payload, "{\"p\":\"%0*d\"}", (int)o->padding, 7);
    ot_event_in e = {.actor = "test", .type = "crash.step", .object = text, .payload = payload};
    for (uint64_t i = 0; i < o->events; i++) {
        OT_TRY(ot_event_append(txn, &e, NULL, err));
    }
    if (o->blob != NULL && !ot_blob_exists(ot_txn_store(txn), o->blob)) {
        return ot_fail(err, OT_INTERNAL, "the blob is not there");
    }
    return o->fails ? ot_fail(err, OT_INVALID, "told to fail") : OT_OK;
}

/* Runs after the commit, before the write returns: the exact moment of the acknowledgement. */
static void on_events(void *arg, const ot_event *events, size_t n)
{
    (void)arg, (void)events, (void)n;
    acked_now = crash_disk_ops_done(disk);
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
    ok(ot_store_on_event(store, on_events, NULL, &e) == OT_OK, "listens");
    uint64_t events = 0, failed = 0, done = 0;
    while (done < txns) {
        txn_note *note = &notes[done + 1];
        struct one o = {
            .number = done + 1,
            .events = 1 + ot_rng_below(&rng, 3),
            .padding = (size_t)ot_rng_below(&rng, ot_rng_below(&rng, 4) == 0 ? 3000 : 100),
            .fails = ot_rng_below(&rng, 8) == 0,
        };
        if (ot_rng_below(&rng, 6) == 0) {
            char bytes[600];
            memset(bytes, (int)ot_rng_below(&rng, 256), sizeof bytes);
            size_t n = (size_t)ot_rng_below(&rng, sizeof bytes);
            note->has_blob = ot_blob_put(store, bytes, n, &note->blob, &e) == OT_OK;
            o.blob = note->has_blob ? &note->blob : NULL;
        }
        ot_rc rc = ot_store_write(store, do_one, &o, &e);
        if (o.fails) {
            failed += rc == OT_INVALID;
            note->has_blob = false;
            continue;
        }
        if (rc != OT_OK) {
            ok(false, "transaction %llu: %s", (unsigned long long)o.number, e.msg);
            return;
        }
        events += o.events;
        note->acked_at = acked_now;
        note->events = events;
        done++;
    }
    ot_store_stats st;
    ot_store_stats_get(store, &st);
    printf("# %llu transactions, %llu told to fail, %llu checkpoints\n", (unsigned long long)done,
           (unsigned long long)failed, (unsigned long long)st.checkpoints);
    ok(st.checkpoints > 0, "the run has checkpoints in it");
    ot_store_close(store);
}

struct found {
    uint64_t number, events, keys;
};

static ot_rc count_key(void *arg, const char *key, const void *value, size_t n, ot_error *err)
{
    (void)key, (void)value, (void)n, (void)err;
    ((struct found *)arg)->keys++;
    return OT_OK;
}

static ot_rc look(ot_txn *txn, void *arg, ot_error *err)
{
    struct found *f = arg;
    ot_events_verdict v;
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    OT_TRY(ot_events_verify(txn, NULL, &v, err));
    f->events = v.rows;
    OT_TRY(ot_kv_each(txn, "crash-all", NULL, 1000000, count_key, f, err));
    ot_rc rc = ot_kv_get(txn, "crash", "number", &text, NULL);
    if (rc == OT_OK) {
        f->number = strtoull(text.data, NULL, 10);
    }
    return rc == OT_NOT_FOUND ? OT_OK : rc;
}

/* What is wrong with the store on this disk after `ops` operations, or NULL. */
static const char *check(crash_disk *d, size_t ops, uint64_t txns, char *buf, size_t n)
{
    ot_store *store;
    ot_error e;
    struct found f = {0};
    if (ot_store_open(&d->base, "/s", &options, &store, &e) != OT_OK) {
        snprintf(buf, n, "does not open: %s", e.msg);
        return buf;
    }
    const char *bad = NULL;
    if (ot_store_read(store, look, &f, &e) != OT_OK) {
        snprintf(buf, n, "does not verify: %s", e.msg);
        bad = buf;
    } else if (f.number > txns || f.events != notes[f.number].events || f.keys != f.number) {
        snprintf(buf, n, "transaction %llu is not whole: %llu events, %llu keys",
                 (unsigned long long)f.number, (unsigned long long)f.events,
                 (unsigned long long)f.keys);
        bad = buf;
    } else if (f.number < txns && notes[f.number + 1].acked_at <= ops) {
        snprintf(buf, n, "acknowledged transaction %llu is lost", (unsigned long long)f.number + 1);
        bad = buf;
    }
    for (uint64_t i = 1; i <= f.number && bad == NULL; i++) {
        if (notes[i].has_blob && ot_blob_verify(store, &notes[i].blob, &e) != OT_OK) {
            snprintf(buf, n, "transaction %llu: %s", (unsigned long long)i, e.msg);
            bad = buf;
        }
    }
    struct one next = {.number = f.number + 1, .events = 1};
    if (bad == NULL && ot_store_write(store, do_one, &next, &e) != OT_OK) {
        snprintf(buf, n, "takes no write: %s", e.msg);
        bad = buf;
    }
    ot_store_close(store);
    return bad;
}

int main(void)
{
    uint64_t txns = from_env("OT_CRASH_TXNS", 60), seed = from_env("OT_CRASH_SEED", 1);
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
        for (int mode = 0; mode < 3; mode++) {
            char buf[1200];
            crash_disk *d = crash_walk_disk(&w, (crash_mode)mode, &rng);
            const char *what = check(d, w.at, txns, buf, sizeof buf);
            if (what != NULL && bad[mode]++ < 3) {
                printf("# cut after operation %zu, the rest %s: %s\n", w.at, modes[mode], what);
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
