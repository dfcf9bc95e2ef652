#include "store/tally.h"

#include "base/mem.h"
#include "base/random.h"
#include "tap.h"

#include <stdlib.h>

#define MIN INT64_C(60000000)
#define HOUR (60 * MIN)
#define BEGIN (INT64_C(475000) * HOUR) /* an hour's start, in 2024 */

static ot_store *store;

typedef struct ask {
    const char *deployment, *name;
    int64_t at, to, first, last;
    uint32_t limit;
    ot_tally_counts c;
} ask;

static ot_rc add_fn(ot_txn *txn, void *arg, ot_error *err)
{
    ask *a = arg;
    return ot_tally_add(txn, a->deployment, a->name, a->at, &a->c, err);
}

static ot_rc add(const char *deployment, const char *name, int64_t at, double events, double bad,
                 int64_t seen, ot_error *err)
{
    ask a = {.deployment = deployment, .name = name, .at = at, .c = {events, bad, seen}};
    return ot_store_write(store, add_fn, &a, err);
}

static ot_rc sum_fn(ot_txn *txn, void *arg, ot_error *err)
{
    ask *a = arg;
    OT_TRY(ot_tally_range(txn, a->deployment, a->name, a->at, &a->first, &a->last, err));
    return ot_tally_sum(txn, a->deployment, a->name, a->at, a->to, &a->c, err);
}

static ask sum(const char *deployment, const char *name, int64_t from, int64_t to)
{
    ask a = {.deployment = deployment, .name = name, .at = from, .to = to};
    ot_error err = {0};
    if (ot_store_read(store, sum_fn, &a, &err) != OT_OK) {
        ok(false, "sum: %s", err.msg);
    }
    return a;
}

static ot_rc expire_fn(ot_txn *txn, void *arg, ot_error *err)
{
    ask *a = arg;
    return ot_tally_expire(txn, a->deployment, a->at, a->limit, err);
}

static void one_by_one(void)
{
    ot_error err = {0};
    ask a = sum("d", "availability", 0, INT64_MAX);
    ok(a.c.events == 0 && a.c.bad == 0 && a.c.seen == 0 && a.first == 0 && a.last == 0, "nothing");
    ok(add("d", "availability", BEGIN + MIN - 1, 10, 1, 10, &err) == OT_OK, "added %s", err.msg);
    ok(add("d", "availability", BEGIN + MIN, 5, 2, 5, &err) == OT_OK, "to the next minute");
    ok(add("d", "accuracy", BEGIN, 7, 7, 7, &err) == OT_OK, "to another tally");
    ok(add("e", "availability", BEGIN, 7, 7, 7, &err) == OT_OK, "to another deployment's");
    a = sum("d", "availability", 0, INT64_MAX);
    ok(a.c.events == 15 && a.c.bad == 3 && a.c.seen == 15, "both");
    ok(a.first == BEGIN && a.last == BEGIN + MIN, "by the minute");
    a = sum("d", "availability", BEGIN, BEGIN + MIN);
    ok(a.c.events == 10 && a.c.bad == 1, "the first");
    a = sum("d", "availability", BEGIN + MIN, BEGIN + HOUR);
    ok(a.c.events == 5 && a.c.bad == 2 && a.first == BEGIN + MIN, "the second");
    ok(add("d", "availability", BEGIN + MIN, 0, -1, 0, &err) == OT_OK, "corrected");
    a = sum("d", "availability", BEGIN, BEGIN + HOUR);
    ok(a.c.events == 15 && a.c.bad == 2 && a.c.seen == 15, "is taken back, by the hour too");
    ok(add("d", "availability", -1, 1, 1, 1, &err) == OT_INVALID &&
           strstr(err.msg, "-1 us") != NULL,
       "a time before time: %s", err.msg);
    char a5[48], a7[48];
    ok(strcmp(ot_tally_latency(5000, a5), ot_tally_latency(7000, a7)) != 0,
       "each limit has a tally of its own");
}

/* Sums from hours and minutes are those of the single adds. */
static void sums(void)
{
    enum { ADDS = 600, SPANS = 200 };
    static struct {
        int64_t at;
        double events, bad;
    } v[ADDS];
    ot_error err = {0};
    ot_rng r;
    ot_rng_seed(&r, 5);
    for (size_t i = 0; i < ADDS; i++) {
        v[i].at = BEGIN + (int64_t)(ot_rng_uniform(&r) * 30 * (double)HOUR);
        v[i].events = 1 + (double)(int)(ot_rng_uniform(&r) * 100);
        v[i].bad = (double)(int)(ot_rng_uniform(&r) * v[i].events);
        if (add("sums", "x", v[i].at, v[i].events, v[i].bad, 1, &err) != OT_OK) {
            ok(false, "add: %s", err.msg);
        }
    }
    int wrong = 0;
    for (int k = 0; k < SPANS; k++) {
        int64_t from = BEGIN + (int64_t)(ot_rng_uniform(&r) * 31 * 60) * MIN - 30 * MIN;
        int64_t to = from + (int64_t)(ot_rng_uniform(&r) * (k % 2 == 0 ? 90 : 1800)) * MIN;
        ot_tally_counts want = {0};
        for (size_t i = 0; i < ADDS; i++) {
            int64_t minute = v[i].at - v[i].at % MIN;
            if (minute >= from && minute < to) {
                want.events += v[i].events;
                want.bad += v[i].bad;
                want.seen++;
            }
        }
        ask got = sum("sums", "x", from, to);
        wrong += got.c.events != want.events || got.c.bad != want.bad || got.c.seen != want.seen;
    }
    is_int(wrong, 0, "%d spans add up", SPANS);
}

static void expiry(void)
{
    ot_error err = {0};
    ask a = {.deployment = "sums", .at = BEGIN + 10 * HOUR, .limit = 1000};
    double kept = sum("sums", "x", a.at, INT64_MAX).c.events;
    ok(ot_store_write(store, expire_fn, &a, &err) == OT_OK, "expired %s", err.msg);
    ask left = sum("sums", "x", 0, INT64_MAX);
    ok(left.first >= a.at && left.c.events == kept, "what is older is gone, what is not is there");
    is_int((int64_t)sum("d", "availability", 0, INT64_MAX).c.events, 15, "of that deployment only");
    a.limit = 0;
    ok(ot_store_write(store, expire_fn, &a, &err) == OT_INVALID, "a limit of 0: %s", err.msg);
}

int main(void)
{
    char dir[] = "/tmp/overtake-test-XXXXXX", path[64];
    ot_error err = {0};
    snprintf(path, sizeof path, "%s/store", mkdtemp(dir));
    if (ot_store_open(ot_disk_posix(), path, NULL, &store, &err) != OT_OK) {
        printf("Bail out! %s\n", err.msg);
        return 1;
    }
    one_by_one();
    sums();
    expiry();
    ot_store_close(store);
    ok(ot_disk_remove_tree(ot_disk_posix(), dir, &err) == OT_OK, "cleaned up");
    return tap_done();
}
