#include "serve/queue.h"

#include "base/mem.h"

#include <string.h>

/* Waits that are shorter say little. */
#define PACE_NS_MIN 500000u
#define PACE_MAX 8.0
#define PACE_SHIFT 32.0

void ot_lane_init(ot_lane *l, unsigned n_threads)
{
    *l = (ot_lane){.n_threads = OT_MIN(n_threads, (unsigned)OT_LANE_THREADS_MAX)};
}

void ot_queue_init(ot_queue *q)
{
    memset(q, 0, sizeof *q);
    q->pace = 1;
    for (unsigned p = 0; p < OT_PRIORITIES; p++) {
        q->tail[p] = &q->head[p];
    }
}

/* ---- priorities */

static unsigned list_of(ot_priority priority)
{
    return (unsigned)priority - 1u;
}

/* The level as which a call of list p counts after its wait. */
static unsigned level_now(const ot_call *call, unsigned p, uint64_t now_ns)
{
    uint64_t up = (now_ns - OT_MIN(call->queued_ns, now_ns)) / OT_QUEUE_AGE_NS;
    return up >= p ? 0 : p - (unsigned)up;
}

/* The list whose head is next; OT_PRIORITIES when all are empty. */
static unsigned next_list(const ot_queue *q, uint64_t now_ns, unsigned *level_out)
{
    unsigned best = OT_PRIORITIES, level = OT_PRIORITIES;
    for (unsigned p = 0; p < OT_PRIORITIES; p++) {
        const ot_call *c = q->head[p];
        unsigned now = c != NULL ? level_now(c, p, now_ns) : OT_PRIORITIES;
        if (now < level || (c != NULL && now == level && c->queued_ns < q->head[best]->queued_ns)) {
            best = p;
            level = now;
        }
    }
    *level_out = level;
    return best;
}

/* ---- how long */

static int64_t rows_of(const ot_call *call)
{
    return OT_MAX(call->rows, 1);
}

/* What a call adds to what its queue takes: its share of a full batch where others wait. */
static uint64_t cost_of(const ot_queue *q, const ot_call *call)
{
    const ot_variant *v = call->variant;
    int64_t most = ot_variant_merge_max(v);
    if (q->lane == NULL || most < 2) {
        return ot_cost_predict(&v->cost, rows_of(call));
    }
    int64_t full = ot_cost_best(&v->cost, most, most);
    return (uint64_t)((double)ot_cost_predict(&v->cost, full) * (double)rows_of(call) /
                      (double)OT_MAX(full, 1));
}

uint64_t ot_queue_ahead(const ot_queue *q, ot_priority priority)
{
    uint64_t n = 0;
    for (unsigned p = 0; p <= list_of(priority); p++) {
        n += q->waiting[p];
    }
    return n;
}

/* What the run with the call in it takes after the wait: as long as less than a batch waits, its
 * own rows, because theirs are reckoned as wait; else a whole batch, because it fills up. */
static uint64_t run_of(const ot_queue *q, const ot_call *call)
{
    const ot_variant *v = call->variant;
    int64_t most = ot_variant_merge_max(v), rows = rows_of(call);
    if (most > 1) {
        int64_t full = ot_cost_best(&v->cost, most, most);
        rows = atomic_load_explicit(&q->total, memory_order_relaxed) < (uint64_t)full
                   ? rows
                   : OT_MAX(rows, full);
    }
    return ot_cost_predict(&v->cost, rows);
}

/* As runs are predicted. */
static uint64_t runs_ahead(const ot_lane *l, const ot_queue *q, ot_priority priority,
                           uint64_t now_ns)
{
    unsigned threads = q->concurrency != 0 ? OT_MIN(q->concurrency, l->n_threads) : l->n_threads;
    uint64_t ahead = 0, running = 0;
    unsigned busy = 0;
    for (unsigned p = 0; p <= list_of(priority); p++) {
        ahead += q->backlog_ns[p];
    }
    for (unsigned i = 0; i < l->n_threads; i++) {
        if (l->ends_ns[i] != 0) {
            busy++;
            running += l->ends_ns[i] - OT_MIN(l->ends_ns[i], now_ns);
        }
    }
    /* Queues take turns: with k of them this one gets at least a k-th. */
    uint64_t queues = l->n_queues + (q->lane == NULL ? 1u : 0u);
    ahead = OT_MIN(ahead * queues, l->backlog_ns);
    if (ahead == 0 && busy < l->n_threads && (unsigned)__builtin_popcountll(q->seats) < threads) {
        return 0;
    }
    return (ahead + running) / OT_MAX(threads, 1u);
}

uint64_t ot_lane_wait_ns(const ot_lane *l, const ot_queue *q, ot_priority priority, uint64_t now_ns)
{
    return (uint64_t)(q->pace * (double)runs_ahead(l, q, priority, now_ns));
}

static void learn_pace(ot_queue *q, const ot_call *call, uint64_t now_ns)
{
    double ratio = 1;
    if (call->ahead_ns >= PACE_NS_MIN) {
        ratio = (double)(now_ns - OT_MIN(call->queued_ns, now_ns)) / (double)call->ahead_ns;
    }
    q->pace += (OT_MIN(ratio, PACE_MAX) - q->pace) / PACE_SHIFT;
    q->pace = OT_MAX(q->pace, 0.5);
}

ot_admission ot_lane_admit(const ot_lane *l, const ot_queue *q, const ot_call *call,
                           uint32_t queue_max, int64_t wait_us_max, uint64_t now_ns)
{
    const ot_limits *limits = &call->dep->limits;
    bool has_deadline = call->deadline_ns != 0;
    ot_admission a = {
        .queue_max = limits->queue != 0 ? limits->queue : queue_max,
        .ahead = ot_queue_ahead(q, call->priority),
        .wait_ns = ot_lane_wait_ns(l, q, call->priority, now_ns),
        .run_ns = ot_cost_predict(&call->variant->cost, rows_of(call)),
        .left_ns = call->deadline_ns - OT_MIN(now_ns, call->deadline_ns),
    };
    if (has_deadline && (a.left_ns == 0 || a.run_ns > a.left_ns)) {
        a.rc = OT_TIMEOUT;
        return a;
    }
    a.run_ns = OT_MAX(a.run_ns, run_of(q, call));
    /* A prediction of a wait can be a little short: what ends just in time ends too late. */
    bool late = has_deadline && a.wait_ns > 0 && a.wait_ns + a.run_ns > a.left_ns - a.left_ns / 8;
    if (a.ahead >= a.queue_max || late ||
        (wait_us_max != 0 && a.ahead > 0 && a.wait_ns > (uint64_t)wait_us_max * 1000)) {
        a.rc = OT_EXHAUSTED;
    }
    return a;
}

/* ---- lists */

static uint64_t backlog_of(const ot_queue *q)
{
    uint64_t ns = 0;
    for (unsigned p = 0; p < OT_PRIORITIES; p++) {
        ns += q->backlog_ns[p];
    }
    return ns;
}

static void list(ot_lane *l, ot_queue *q)
{
    q->lane = l;
    q->next = l->work;
    l->work = q;
    l->n_queues++;
    l->backlog_ns += backlog_of(q);
    /* Who was away has not saved up turns. */
    q->had_ns = OT_MAX(q->had_ns, l->had_ns);
}

static void unlist(ot_queue *q)
{
    ot_lane *l = q->lane;
    ot_queue **at = &l->work;
    while (*at != q) {
        at = &(*at)->next;
    }
    *at = q->next;
    l->n_queues--;
    l->backlog_ns -= backlog_of(q);
    q->lane = NULL;
}

void ot_queue_move(ot_queue *q, ot_lane *to)
{
    unlist(q);
    list(to, q);
}

void ot_lane_put(ot_lane *l, ot_queue *q, ot_call *call, uint64_t now_ns)
{
    q->variant = call->variant;
    call->queued_ns = now_ns;
    call->ahead_ns = runs_ahead(q->lane != NULL ? q->lane : l, q, call->priority, now_ns);
    call->cost_ns = cost_of(q, call);
    call->next = NULL;
    if (q->lane == NULL) {
        list(l, q);
    }
    unsigned p = list_of(call->priority);
    *q->tail[p] = call;
    q->tail[p] = &call->next;
    q->waiting[p]++;
    q->backlog_ns[p] += call->cost_ns;
    q->lane->backlog_ns += call->cost_ns;
    atomic_fetch_add_explicit(&q->total, 1, memory_order_relaxed);
}

static ot_call *pop(ot_queue *q, unsigned p)
{
    ot_call *c = q->head[p];
    q->head[p] = c->next;
    if (q->head[p] == NULL) {
        q->tail[p] = &q->head[p];
    }
    q->waiting[p]--;
    q->backlog_ns[p] -= c->cost_ns;
    q->lane->backlog_ns -= c->cost_ns;
    atomic_fetch_sub_explicit(&q->total, 1, memory_order_relaxed);
    return c;
}

/* ---- who is next */

static unsigned seats_of(const ot_lane *l, const ot_queue *q)
{
    return q->concurrency != 0 ? OT_MIN(q->concurrency, l->n_threads) : l->n_threads;
}

static ot_queue *choose(const ot_lane *l, uint64_t now_ns)
{
    ot_queue *best = NULL;
    unsigned best_level = OT_PRIORITIES;
    for (ot_queue *q = l->work; q != NULL; q = q->next) {
        unsigned level;
        next_list(q, now_ns, &level);
        if ((unsigned)__builtin_popcountll(q->seats) < seats_of(l, q) &&
            (best == NULL || level < best_level ||
             (level == best_level && q->had_ns < best->had_ns))) {
            best = q;
            best_level = level;
        }
    }
    return best;
}

/* Rows of one run: what costs least a row, not longer than the lane allows. */
static int64_t rows_to_run(const ot_variant *v, uint64_t run_ns_max)
{
    int64_t most = ot_variant_merge_max(v);
    if (most > 1) {
        most = ot_cost_best(&v->cost, most, most);
    }
    while (most > 1 && run_ns_max != 0 && ot_cost_predict(&v->cost, most) > run_ns_max) {
        most /= 2;
    }
    return most;
}

bool ot_lane_take(ot_lane *l, unsigned thread, ot_call **calls, size_t max, uint64_t run_ns_max,
                  uint64_t now_ns, ot_lane_batch *batch_out)
{
    ot_queue *q = choose(l, now_ns);
    if (q == NULL) {
        return false;
    }
    int64_t most = rows_to_run(q->variant, run_ns_max), rows = 0;
    size_t n = 0;
    unsigned p, level;
    while (n < max && (p = next_list(q, now_ns, &level)) < OT_PRIORITIES) {
        const ot_call *c = q->head[p];
        if (n > 0 && (rows + c->rows > most || !ot_call_fits(calls[0], c) || c->rows == 0 ||
                      calls[0]->rows == 0)) {
            break;
        }
        rows += c->rows;
        learn_pace(q, c, now_ns);
        calls[n++] = pop(q, p);
    }
    unsigned seat = (unsigned)__builtin_ctzll(~q->seats);
    q->seats |= UINT64_C(1) << seat;
    uint64_t predicted = ot_cost_predict(&q->variant->cost, rows);
    l->had_ns = q->had_ns;
    q->had_ns += OT_MAX(predicted, 1u);
    l->ends_ns[thread] = now_ns + OT_MAX(predicted, 1u);
    if (atomic_load_explicit(&q->total, memory_order_relaxed) == 0) {
        unlist(q);
    }
    *batch_out = (ot_lane_batch){.queue = q, .seat = seat, .n = n, .predicted_ns = predicted};
    return true;
}

void ot_lane_ended(ot_lane *l, unsigned thread, const ot_lane_batch *batch)
{
    batch->queue->seats &= ~(UINT64_C(1) << batch->seat);
    l->ends_ns[thread] = 0;
}
