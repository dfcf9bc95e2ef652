/* links: store base */
/* Durable events a second: one writer, sixteen writers, and the disk's own fdatasync rate in the
 * same run. Prints one JSON line a figure: median of the repeats, smallest, largest.
 *
 *   store_bench [DIR] [REPEATS] [MILLISECONDS]     DIR is made, used and removed; it says which
 * disk */
#include "base/clock.h"
#include "base/disk.h"
#include "base/mem.h"
#include "store/events.h"
#include "store/store.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPEATS_MAX 99
#define WRITERS 16
#define TURNS 8

typedef struct series {
    double x[REPEATS_MAX];
    size_t n;
} series;

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const series *s)
{
    double x[REPEATS_MAX];
    memcpy(x, s->x, s->n * sizeof *x);
    qsort(x, s->n, sizeof *x, by_value);
    return s->n % 2 != 0 ? x[s->n / 2] : (x[s->n / 2 - 1] + x[s->n / 2]) / 2;
}

static void print(const char *name, const char *unit, const series *s)
{
    double least = s->x[0], most = s->x[0];
    for (size_t i = 1; i < s->n; i++) {
        least = OT_MIN(least, s->x[i]);
        most = OT_MAX(most, s->x[i]);
    }
    printf("{\"bench\":\"store\",\"name\":\"%s\",\"unit\":\"%s\",\"median\":%.3f,\"min\":%.3f,"
           "\"max\":%.3f,\"repeats\":%zu}\n",
           name, unit, median(s), least, most, s->n);
    fflush(stdout);
}

static void fail(const char *what, const ot_error *e)
{
    fprintf(stderr, "store_bench: %s: %s\n", what, e->msg);
    exit(1);
}

/* Overwrites of one page in a file of full length, each followed by fdatasync. */
static double fdatasync_rate(const char *dir, uint64_t ns)
{
    static char page[4096];
    char path[OT_PATH_MAX];
    ot_error e;
    ot_file *f;
    ot_disk *d = ot_disk_posix();
    if (ot_path_join(path, dir, "fdatasync", &e) != OT_OK ||
        d->ops->open(d, path, OT_OPEN_WRITE | OT_OPEN_CREATE, 0600, &f, &e) != OT_OK) {
        fail("fdatasync", &e);
    }
    for (uint64_t i = 0; i < 1024; i++) {
        if (f->ops->pwrite(f, page, sizeof page, i * sizeof page, &e) != OT_OK) {
            fail("fdatasync", &e);
        }
    }
    if (f->ops->sync(f, false, &e) != OT_OK) {
        fail("fdatasync", &e);
    }
    uint64_t n = 0, start = ot_clock_mono_ns(), now = start;
    for (; now - start < ns; n++, now = ot_clock_mono_ns()) {
        memset(page, (int)n, sizeof page);
        if (f->ops->pwrite(f, page, sizeof page, n % 1024 * sizeof page, &e) != OT_OK ||
            f->ops->sync(f, true, &e) != OT_OK) {
            fail("fdatasync", &e);
        }
    }
    ot_file_close(f);
    return (double)n * 1e9 / (double)(now - start);
}

typedef struct job {
    ot_store *store;
    atomic_bool *stop;
    uint64_t done;
} job;

static ot_rc append(ot_txn *txn, void *arg, ot_error *err)
{
    (void)arg;
    static const ot_event_in in = {
        .actor = "bench",
        .role = "operator",
        .scope = "production",
        .type = "bench.event",
        .object = "app/digits",
        .payload = "{\"step\":\"train\",\"run\":12,\"reason\":\"accuracy.degraded\",\"alarm\":7}",
    };
    return ot_event_append(txn, &in, NULL, err);
}

static void *work(void *arg)
{
    job *j = arg;
    ot_error e;
    while (!atomic_load_explicit(j->stop, memory_order_relaxed)) {
        if (ot_store_write(j->store, append, NULL, &e) != OT_OK) {
            fail("write", &e);
        }
        j->done++;
    }
    return NULL;
}

static double write_rate(ot_store *store, size_t writers, uint64_t ns)
{
    pthread_t threads[WRITERS];
    job jobs[WRITERS] = {0};
    atomic_bool stop = false;
    uint64_t start = ot_clock_mono_ns(), total = 0;
    for (size_t i = 0; i < writers; i++) {
        jobs[i] = (job){.store = store, .stop = &stop};
        if (pthread_create(&threads[i], NULL, work, &jobs[i]) != 0) {
            fprintf(stderr, "store_bench: cannot start a thread\n");
            exit(1);
        }
    }
    ot_clock_sleep_us(ns / 1000);
    atomic_store(&stop, true);
    for (size_t i = 0; i < writers; i++) {
        pthread_join(threads[i], NULL);
        total += jobs[i].done;
    }
    return (double)total * 1e9 / (double)(ot_clock_mono_ns() - start);
}

int main(int argc, char **argv)
{
    const char *dir = argc > 1 ? argv[1] : "store_bench.tmp";
    int repeats = argc > 2 ? atoi(argv[2]) : 7;
    int ms = argc > 3 ? atoi(argv[3]) : 1000;
    ot_error e;
    ot_store *store;
    if (repeats < 1 || repeats > REPEATS_MAX || ms < 1) {
        fprintf(stderr, "usage: store_bench [DIR] [REPEATS 1..%d] [MILLISECONDS]\n", REPEATS_MAX);
        return 2;
    }
    if (ot_store_open(ot_disk_posix(), dir, NULL, &store, &e) != OT_OK) {
        fail("open", &e);
    }
    uint64_t ns = (uint64_t)ms * 1000000;
    series sync = {0}, one = {0}, many = {0}, one_by_sync = {0}, many_by_one = {0}, group = {0};
    (void)write_rate(store, 1, ns / 4);
    for (int i = 0; i < repeats; i++) {
        double s = 0, w1 = 0, w16 = 0, writes = 0, groups = 0;
        /* In turns of a short time each: a disk that others use changes its speed all the time. */
        for (int turn = 0; turn < TURNS; turn++) {
            ot_store_stats a, b;
            s += fdatasync_rate(dir, ns / TURNS) / TURNS;
            w1 += write_rate(store, 1, ns / TURNS) / TURNS;
            ot_store_stats_get(store, &a);
            w16 += write_rate(store, WRITERS, ns / TURNS) / TURNS;
            ot_store_stats_get(store, &b);
            writes += (double)(b.writes - a.writes);
            groups += (double)(b.groups - a.groups);
            ot_clock_sleep_us(20000); /* the checkpoint that the sixteen left due */
        }
        sync.x[sync.n++] = s;
        one.x[one.n++] = w1;
        many.x[many.n++] = w16;
        one_by_sync.x[one_by_sync.n++] = w1 / s;
        many_by_one.x[many_by_one.n++] = w16 / w1;
        group.x[group.n++] = writes / groups;
    }
    print("fdatasync", "1/s", &sync);
    print("events_1_writer", "1/s", &one);
    print("events_16_writers", "1/s", &many);
    print("1_writer_by_fdatasync", "ratio", &one_by_sync);
    print("16_writers_by_1_writer", "ratio", &many_by_one);
    print("16_writers_group", "writes", &group);
    ot_store_close(store);
    if (ot_disk_remove_tree(ot_disk_posix(), dir, &e) != OT_OK) {
        fail("remove", &e);
    }
    return 0;
}
