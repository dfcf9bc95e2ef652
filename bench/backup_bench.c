/* links: backup store base */
/* What a backup costs who writes meanwhile: durable events a second of sixteen writers before,
 * during and after a backup of the same store, in turns, in one run. Prints one JSON line a figure:
 * median of the rounds, smallest, largest; the ratio is of the rate during a backup and the mean of
 * those before and after it.
 *
 *   backup_bench [DIR] [ROUNDS] [EVENTS] [BLOB_MIB]    DIR is made, used and removed */
#include "backup/backup.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/random.h"
#include "store/blob.h"
#include "store/events.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS_MAX 99
#define WRITERS 16
#define FILLERS 64 /* events of a transaction of the filling */
#define QUIET_US 2000000
#define SLICE_US 10000
#define SHARE 15 /* as the control plane has it */

typedef struct series {
    double x[ROUNDS_MAX];
    size_t n;
} series;

typedef struct writer {
    ot_store *store;
    atomic_bool *stop;
    _Atomic uint64_t *done;
} writer;

typedef struct backup {
    ot_store *store;
    const char *dir;
    ot_backup_report report;
    atomic_bool finished;
} backup;

static void fail(const char *what, const ot_error *e)
{
    fprintf(stderr, "backup_bench: %s: %s\n", what, e->msg);
    exit(1);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print(const char *name, const char *unit, series *s)
{
    qsort(s->x, s->n, sizeof *s->x, by_value);
    double median = (s->x[(s->n - 1) / 2] + s->x[s->n / 2]) / 2;
    printf("{\"bench\":\"backup\",\"name\":\"%s\",\"unit\":\"%s\",\"median\":%.3f,\"min\":%.3f,"
           "\"max\":%.3f,\"repeats\":%zu}\n",
           name, unit, median, s->x[0], s->x[s->n - 1], s->n);
    fflush(stdout);
}

static ot_rc append(ot_txn *txn, void *arg, ot_error *err)
{
    static const ot_event_in in = {
        .actor = "bench",
        .role = "operator",
        .scope = "production",
        .type = "bench.event",
        .object = "app/digits",
        .payload = "{\"step\":\"train\",\"run\":12,\"reason\":\"accuracy.degraded\",\"alarm\":7}",
    };
    for (int n = arg != NULL ? FILLERS : 1; n > 0; n--) {
        OT_TRY(ot_event_append(txn, &in, NULL, err));
    }
    return OT_OK;
}

static void *write_on(void *arg)
{
    writer *w = arg;
    ot_error e;
    while (!atomic_load_explicit(w->stop, memory_order_relaxed)) {
        if (ot_store_write(w->store, append, NULL, &e) != OT_OK) {
            fail("write", &e);
        }
        atomic_fetch_add_explicit(w->done, 1, memory_order_relaxed);
    }
    return NULL;
}

static void *make_backup(void *arg)
{
    backup *b = arg;
    ot_error e;
    ot_backup_options o = {.program = "bench", .share_percent = SHARE, .keep = 1};
    if (ot_backup_make(b->store, b->dir, &o, &b->report, &e) != OT_OK) {
        fail("backup", &e);
    }
    atomic_store(&b->finished, true);
    return NULL;
}

/* Events a second for QUIET_US, or until the backup has ended. */
static double rate(_Atomic uint64_t *done, const backup *b)
{
    uint64_t start = ot_clock_mono_ns(), first = atomic_load(done);
    do {
        ot_clock_sleep_us(SLICE_US);
    } while (b != NULL ? !atomic_load(&b->finished)
                       : ot_clock_mono_ns() - start < QUIET_US * UINT64_C(1000));
    return (double)(atomic_load(done) - first) * 1e9 / (double)(ot_clock_mono_ns() - start);
}

static void fill(ot_store *store, uint64_t events, uint64_t blob_mib)
{
    static uint8_t bytes[1 << 20];
    ot_error e;
    for (uint64_t i = 0; i < events; i += FILLERS) {
        if (ot_store_write(store, append, store, &e) != OT_OK) {
            fail("fill", &e);
        }
    }
    for (uint64_t i = 0; i < blob_mib; i++) {
        ot_random_bytes(bytes, sizeof bytes);
        if (ot_blob_put(store, bytes, sizeof bytes, NULL, &e) != OT_OK) {
            fail("fill", &e);
        }
    }
}

static void measure(ot_store *store, const char *root, size_t rounds)
{
    series before = {0}, during = {0}, ratio = {0}, noise = {0}, took = {0}, size = {0};
    atomic_bool stop = false;
    _Atomic uint64_t done = 0;
    writer w = {.store = store, .stop = &stop, .done = &done};
    pthread_t threads[WRITERS], backing;
    char dir[OT_PATH_MAX];
    snprintf(dir, sizeof dir, "%s/backups", root);
    for (size_t i = 0; i < WRITERS; i++) {
        pthread_create(&threads[i], NULL, write_on, &w);
    }
    (void)rate(&done, NULL);
    for (size_t i = 0; i < rounds; i++) {
        backup b = {.store = store, .dir = dir};
        double a = rate(&done, NULL);
        pthread_create(&backing, NULL, make_backup, &b);
        double c = rate(&done, &b);
        pthread_join(backing, NULL);
        before.x[before.n++] = a;
        during.x[during.n++] = c;
        double after = rate(&done, NULL);
        ratio.x[ratio.n++] = c / ((a + after) / 2);
        noise.x[noise.n++] = after / a;
        took.x[took.n++] = (double)b.report.took_us / 1e6;
        size.x[size.n++] = (double)b.report.head.bytes / (1 << 20);
        /* The next one copies everything anew. */
        ot_error e;
        if (ot_disk_remove_tree(ot_disk_posix(), dir, &e) != OT_OK) {
            fail("clean up", &e);
        }
    }
    atomic_store(&stop, true);
    for (size_t i = 0; i < WRITERS; i++) {
        pthread_join(threads[i], NULL);
    }
    print("before", "events/s", &before);
    print("during", "events/s", &during);
    print("ratio", "", &ratio);
    print("after_to_before", "", &noise); /* what the machine does by itself */
    print("backup_takes", "s", &took);
    print("backup_size", "MiB", &size);
}

static uint64_t number(int argc, char **argv, int i, uint64_t fallback)
{
    return argc > i ? strtoull(argv[i], NULL, 10) : fallback;
}

int main(int argc, char **argv)
{
    const char *root = argc > 1 ? argv[1] : "backup_bench.tmp";
    size_t rounds = (size_t)OT_MIN(number(argc, argv, 2, 7), (uint64_t)ROUNDS_MAX);
    ot_error e;
    ot_store *store;
    char dir[OT_PATH_MAX];
    snprintf(dir, sizeof dir, "%s/store", root);
    if (ot_disk_remove_tree(ot_disk_posix(), root, &e) != OT_OK ||
        ot_store_open(ot_disk_posix(), dir, NULL, &store, &e) != OT_OK) {
        fail(root, &e);
    }
    fill(store, number(argc, argv, 3, 200000), number(argc, argv, 4, 64));
    measure(store, root, rounds);
    ot_store_close(store);
    if (ot_disk_remove_tree(ot_disk_posix(), root, &e) != OT_OK) {
        fail(root, &e);
    }
    return 0;
}
