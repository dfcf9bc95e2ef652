#include "serve/queue.h"

#include "base/mem.h"
#include "serve/exec.h"
#include "tap.h"

#include <string.h>

#define MS UINT64_C(1000000)

/* A model with runs of so many ms a row; `merge` rows may share one. */
static ot_variant *model(uint64_t row_ms, int64_t merge)
{
    ot_variant *v;
    if (ot_variant_create(1, 4, &v, NULL) != OT_OK) {
        return NULL;
    }
    v->merge_max = merge;
    v->rows_known = true;
    for (int64_t n = 1; n <= merge; n *= 2) {
        ot_cost_add(&v->cost, n, row_ms * MS * (uint64_t)n);
    }
    return v;
}

static ot_call call_of(ot_variant *v, ot_priority priority)
{
    static const ot_wire wire = {.name = "test"};
    return (ot_call){.wire = &wire, .variant = v, .priority = priority, .rows = 1};
}

static void put(ot_lane *l, ot_call *c, uint64_t now_ms)
{
    ot_lane_put(l, c->variant->queue, c, now_ms * MS);
}

/* The first call of the next batch, which ends at once. */
static const ot_call *next(ot_lane *l, uint64_t now_ms)
{
    ot_call *calls[OT_EXEC_CALLS_MAX];
    ot_lane_batch b;
    if (!ot_lane_take(l, 0, calls, 1, 0, now_ms * MS, &b)) {
        return NULL;
    }
    ot_lane_ended(l, 0, &b);
    return calls[0];
}

static void priorities(void)
{
    ot_lane l;
    ot_lane_init(&l, 1);
    ot_variant *v = model(1, 1);
    ot_call low = call_of(v, OT_PRIORITY_LOW), normal = call_of(v, OT_PRIORITY_NORMAL),
            high = call_of(v, OT_PRIORITY_HIGH), second = call_of(v, OT_PRIORITY_NORMAL);
    put(&l, &low, 0);
    put(&l, &normal, 1);
    put(&l, &second, 2);
    put(&l, &high, 3);
    is_int(ot_queue_ahead(v->queue, OT_PRIORITY_HIGH), 1, "one is as urgent as a high one");
    is_int(ot_queue_ahead(v->queue, OT_PRIORITY_LOW), 4, "all go before a low one");
    ok(next(&l, 4) == &high, "the highest first");
    ok(next(&l, 4) == &normal, "then in order of arrival");
    ok(next(&l, 4) == &second, "and again");
    ok(next(&l, 4) == &low, "the lowest last");
    ok(next(&l, 4) == NULL && l.n_queues == 0 && l.backlog_ns == 0, "nothing waits any more");

    /* High calls keep coming, each is run before the next comes: the low one is run all the same.
     */
    ot_call many[64];
    uint64_t at = 0, waited = 0;
    put(&l, &low, 0);
    for (size_t i = 0; i < OT_COUNT(many) && waited == 0; i++, at += 100) {
        many[i] = call_of(v, OT_PRIORITY_HIGH);
        put(&l, &many[i], at);
        waited = next(&l, at) == &low ? at : 0;
    }
    ok(waited >= 2 * OT_QUEUE_AGE_NS / MS && waited <= 2 * OT_QUEUE_AGE_NS / MS + 200,
       "a low call beside high ones waits long but not for ever: %llu ms",
       (unsigned long long)waited);
    while (next(&l, at) != NULL) {
    }
    ot_variant_unref(v);
}

static void turns(void)
{
    ot_lane l;
    ot_lane_init(&l, 1);
    ot_variant *slow = model(100, 1), *fast = model(1, 1), *late = model(1, 1);
    ot_call s[40], f[200], last[40];
    for (size_t i = 0; i < OT_COUNT(s); i++) {
        s[i] = call_of(slow, OT_PRIORITY_NORMAL);
        put(&l, &s[i], 0);
    }
    for (size_t i = 0; i < OT_COUNT(f); i++) {
        f[i] = call_of(fast, OT_PRIORITY_NORMAL);
        put(&l, &f[i], 0);
    }
    int of_slow = 0, of_fast = 0;
    for (int i = 0; i < 102; i++) {
        const ot_variant *v = next(&l, 1)->variant;
        of_slow += v == slow;
        of_fast += v == fast;
    }
    ok(of_fast >= 99 && of_slow <= 3,
       "100 runs of 1 ms have a run of 100 ms beside them: %d and %d", of_fast, of_slow);
    /* Who comes late does not have all the turns that it missed. */
    for (size_t i = 0; i < OT_COUNT(last); i++) {
        last[i] = call_of(late, OT_PRIORITY_NORMAL);
        put(&l, &last[i], 2);
    }
    int of_late = 0;
    of_fast = 0;
    for (int i = 0; i < 40; i++) {
        const ot_variant *v = next(&l, 2)->variant;
        of_late += v == late;
        of_fast += v == fast;
    }
    ok(of_late >= 15 && of_fast >= 15, "a new queue shares with the old: %d and %d", of_late,
       of_fast);
    while (next(&l, 3) != NULL) {
    }
    ot_variant_unref(slow);
    ot_variant_unref(fast);
    ot_variant_unref(late);
}

static void batches(void)
{
    ot_lane l;
    ot_lane_init(&l, 2);
    ot_variant *v = model(1, 8);
    ot_call c[20], *got[OT_EXEC_CALLS_MAX];
    ot_lane_batch b, other;
    for (size_t i = 0; i < OT_COUNT(c); i++) {
        c[i] = call_of(v, OT_PRIORITY_NORMAL);
        put(&l, &c[i], 0);
    }
    ok(ot_lane_take(&l, 0, got, OT_EXEC_CALLS_MAX, 0, 0, &b), "a batch");
    is_int(b.n, 8, "not more than may be merged");
    ok(got[0] == &c[0] && got[7] == &c[7], "in order");
    ok(ot_lane_take(&l, 1, got, OT_EXEC_CALLS_MAX, 4 * MS, 0, &other), "another beside it");
    is_int(other.n, 4, "a lane with a limit in time cuts it");
    ok(other.seat != b.seat, "with an instance of its own");
    ot_lane_ended(&l, 0, &b);
    ot_lane_ended(&l, 1, &other);
    ok(ot_lane_take(&l, 0, got, 3, 0, 0, &b) && b.n == 3, "not more calls than there is room for");
    ot_lane_ended(&l, 0, &b);
    v->queue->concurrency = 1;
    ok(ot_lane_take(&l, 0, got, 1, 0, 0, &b) && b.seat == 0, "one run at a time: the first");
    ok(!ot_lane_take(&l, 1, got, 1, 0, 0, &other), "no second");
    ot_lane_ended(&l, 0, &b);
    ok(ot_lane_take(&l, 1, got, 1, 0, 0, &b) && b.seat == 0,
       "after it another, on the same instance from another thread");
    ot_lane_ended(&l, 1, &b);
    c[0] = call_of(v, OT_PRIORITY_NORMAL);
    c[0].rows = 0;
    while (next(&l, 1) != NULL) {
    }
    put(&l, &c[0], 1);
    put(&l, &c[1], 1);
    ok(ot_lane_take(&l, 0, got, OT_EXEC_CALLS_MAX, 0, MS, &b) && b.n == 1,
       "a request without rows runs alone");
    ot_lane_ended(&l, 0, &b);
    while (next(&l, 1) != NULL) {
    }
    ot_variant_unref(v);
}

static void waits(void)
{
    ot_lane l;
    ot_lane_init(&l, 2);
    ot_variant *v = model(10, 1), *w = model(10, 1);
    ot_call c[8], *got[OT_EXEC_CALLS_MAX];
    ot_lane_batch b[2];
    ot_priority normal = OT_PRIORITY_NORMAL;
    is_int(ot_lane_wait_ns(&l, v->queue, normal, 0), 0, "nothing runs: no wait");
    for (size_t i = 0; i < OT_COUNT(c); i++) {
        c[i] = call_of(v, i < 6 ? OT_PRIORITY_NORMAL : OT_PRIORITY_LOW);
        put(&l, &c[i], 0);
    }
    is_int(ot_lane_wait_ns(&l, v->queue, normal, 0) / MS, 30, "six of 10 ms on two threads");
    is_int(ot_lane_wait_ns(&l, v->queue, OT_PRIORITY_LOW, 0) / MS, 40, "a low one waits for all");
    is_int(ot_lane_wait_ns(&l, v->queue, OT_PRIORITY_HIGH, 0), 0, "a high one for none of them");
    for (unsigned i = 0; i < 2; i++) {
        ok(ot_lane_take(&l, i, got, 1, 0, 0, &b[i]), "runs");
    }
    v->queue->pace = 1; /* two that did not have to wait have taught it a little */
    is_int(ot_lane_wait_ns(&l, v->queue, normal, 4 * MS) / MS, 26,
           "four wait and two have 6 ms left");
    is_int(ot_lane_wait_ns(&l, v->queue, OT_PRIORITY_HIGH, 4 * MS) / MS, 6,
           "a high one waits for what runs");
    is_int(ot_lane_wait_ns(&l, w->queue, normal, 4 * MS) / MS, 6, "so does another model");
    ot_call d = call_of(w, normal);
    put(&l, &d, 4);
    is_int(ot_lane_wait_ns(&l, w->queue, normal, 4 * MS) / MS, 16,
           "two queues take turns: its own 10 ms count twice");
    v->queue->concurrency = 1;
    ok(ot_lane_wait_ns(&l, v->queue, normal, 4 * MS) / MS >= 52, "one at a time takes longer");
    for (unsigned i = 0; i < 2; i++) {
        ot_lane_ended(&l, i, &b[i]);
    }
    ot_lane other;
    ot_lane_init(&other, 2);
    uint64_t before = l.backlog_ns;
    ot_queue_move(w->queue, &other);
    ok(other.backlog_ns == 10 * MS && other.n_queues == 1 && l.backlog_ns == before - 10 * MS,
       "a queue that moves takes its backlog along");
    while (next(&l, 4) != NULL || next(&other, 4) != NULL) {
    }
    ot_variant_unref(v);
    ot_variant_unref(w);
}

static void batched_waits(void)
{
    /* A batch of 8 takes as long as one row. */
    ot_lane l;
    ot_lane_init(&l, 1);
    ot_variant *v = model(0, 8);
    v->cost = (ot_cost){0};
    for (int64_t n = 1; n <= 8; n *= 2) {
        ot_cost_add(&v->cost, n, 8 * MS);
    }
    ot_call c[17];
    for (size_t i = 0; i < OT_COUNT(c); i++) {
        c[i] = call_of(v, OT_PRIORITY_NORMAL);
        put(&l, &c[i], 0);
    }
    /* The first is reckoned alone, the 16 behind it as two batches. */
    is_int(ot_lane_wait_ns(&l, v->queue, OT_PRIORITY_NORMAL, 0) / MS, 24,
           "what waits is reckoned in batches");
    while (next(&l, 4) != NULL) {
    }
    ot_variant_unref(v);
}

/* Runs of 1 ms of which each takes 3 because others use the processor. */
static void pace(void)
{
    ot_lane l;
    ot_lane_init(&l, 1);
    ot_variant *v = model(1, 1);
    ot_call c[400];
    for (size_t i = 0; i < 10; i++) {
        c[i] = call_of(v, OT_PRIORITY_NORMAL);
        put(&l, &c[i], 0);
    }
    is_int(ot_lane_wait_ns(&l, v->queue, OT_PRIORITY_NORMAL, 0) / MS, 10, "told from the runs");
    uint64_t at = 0;
    for (size_t i = 10; i < OT_COUNT(c); i++) { /* ten wait all the time */
        at += 3;
        (void)next(&l, at);
        c[i] = call_of(v, OT_PRIORITY_NORMAL);
        put(&l, &c[i], at);
    }
    uint64_t wait = ot_lane_wait_ns(&l, v->queue, OT_PRIORITY_NORMAL, at) / MS;
    ok(wait >= 26 && wait <= 34, "learnt: ten calls take about 30 ms, told %llu",
       (unsigned long long)wait);
    while (next(&l, at) != NULL) {
    }
    ot_variant_unref(v);
}

static void admission(void)
{
    ot_lane l;
    ot_lane_init(&l, 1);
    ot_variant *v = model(10, 1);
    ot_dep dep = {.name = "d"};
    ot_call c[4], x = call_of(v, OT_PRIORITY_NORMAL);
    ot_queue *q = v->queue;
    x.dep = &dep;
    x.deadline_ns = 5 * MS;
    is_int(ot_lane_admit(&l, q, &x, 100, 0, 0).rc, OT_TIMEOUT,
           "5 ms for a run of 10 cannot be met by waiting");
    x.deadline_ns = 10 * MS;
    is_int(ot_lane_admit(&l, q, &x, 100, 0, 0).rc, OT_OK, "10 ms can");
    is_int(ot_lane_admit(&l, q, &x, 100, 0, 11 * MS).rc, OT_TIMEOUT, "not when they are over");
    for (size_t i = 0; i < OT_COUNT(c); i++) {
        c[i] = call_of(v, OT_PRIORITY_NORMAL);
        put(&l, &c[i], 0);
    }
    x.deadline_ns = 57 * MS;
    ot_admission a = ot_lane_admit(&l, q, &x, 100, 0, 0);
    ok(a.rc == OT_EXHAUSTED && a.ahead == 4 && a.wait_ns == 40 * MS && a.left_ns == 57 * MS,
       "behind 40 ms it would end after 50, which leaves less than an eighth of 57: try later");
    x.deadline_ns = 58 * MS;
    is_int(ot_lane_admit(&l, q, &x, 100, 0, 0).rc, OT_OK, "of 58 it leaves more");
    x.deadline_ns = 20 * MS;
    x.priority = OT_PRIORITY_HIGH;
    is_int(ot_lane_admit(&l, q, &x, 100, 0, 0).rc, OT_OK, "a high one passes by");
    x.priority = OT_PRIORITY_NORMAL;
    x.deadline_ns = 0;
    is_int(ot_lane_admit(&l, q, &x, 100, 40000, 0).rc, OT_OK, "40 ms may be waited");
    is_int(ot_lane_admit(&l, q, &x, 100, 39999, 0).rc, OT_EXHAUSTED, "not if 39.999 may");
    is_int(ot_lane_admit(&l, q, &x, 4, 0, 0).rc, OT_EXHAUSTED, "four wait, four may");
    dep.limits.queue = 5;
    is_int(ot_lane_admit(&l, q, &x, 4, 0, 0).rc, OT_OK, "the deployment's own limit is five");
    while (next(&l, 4) != NULL) {
    }
    ot_variant_unref(v);
}

/* Rows of 1 ms, eight in a batch. */
static void admission_to_batches(void)
{
    ot_lane l;
    ot_lane_init(&l, 1);
    ot_variant *v = model(1, 8);
    ot_dep dep = {.name = "d"};
    ot_call c[8], x = call_of(v, OT_PRIORITY_NORMAL);
    x.dep = &dep;
    for (size_t i = 0; i < 3; i++) {
        c[i] = call_of(v, OT_PRIORITY_NORMAL);
        put(&l, &c[i], 0);
    }
    x.deadline_ns = 5 * MS;
    is_int(ot_lane_admit(&l, v->queue, &x, 100, 0, 0).rc, OT_OK, "the fourth of a batch of four");
    for (size_t i = 3; i < 8; i++) {
        c[i] = call_of(v, OT_PRIORITY_NORMAL);
        put(&l, &c[i], 0);
    }
    x.deadline_ns = 18 * MS;
    is_int(ot_lane_admit(&l, v->queue, &x, 100, 0, 0).rc, OT_EXHAUSTED,
           "behind a whole batch it ends with the next one, at 16 ms");
    while (next(&l, 0) != NULL) {
    }
    ot_variant_unref(v);
}

int main(void)
{
    pace();
    admission_to_batches();
    admission();
    priorities();
    turns();
    batches();
    waits();
    batched_waits();
    return tap_done();
}
