#include "serve/pool.h"

#include "base/clock.h"
#include "serve/exec.h"
#include "serve/queue.h"
#include "serve/thread.h"

#include <pthread.h>

enum { LANE_SHORT, LANE_LONG, LANES };

typedef struct pool_thread {
    ot_pool *pool;
    unsigned lane, index;
    pthread_t thread;
    ot_exec exec;
    bool made, running;
} pool_thread;

struct ot_pool {
    ot_pool_options o;
    pthread_mutex_t lock;
    pthread_cond_t filled[LANES];
    /* Synchronization: under lock. */
    ot_lane lanes[LANES];
    bool stopping;
    pool_thread threads[];
};

ot_rc ot_queue_create(ot_queue **q_out, ot_error *err)
{
    ot_queue *q = ot_calloc(1, sizeof *q);
    if (q == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "queue: out of memory");
    }
    ot_queue_init(q);
    *q_out = q;
    return OT_OK;
}

void ot_queue_destroy(ot_queue *q)
{
    ot_free(q);
}

uint64_t ot_queue_waiting(ot_queue *q)
{
    return atomic_load_explicit(&q->total, memory_order_relaxed);
}

/* ---- admission */

/* When there should be room for it, in whole seconds: that is what Retry-After can say. */
static unsigned retry_after(const ot_admission *v)
{
    return (unsigned)OT_MIN(v->wait_ns / 1000000000 + 1, UINT64_C(3600));
}

static ot_rc refuse(const ot_pool *p, const ot_admission *v, ot_call *call, ot_error *err)
{
    const char *name = call->dep->name;
    if (v->rc == OT_UNAVAILABLE) {
        return ot_fail(err, v->rc, "the server is going down");
    }
    if (v->rc == OT_TIMEOUT) {
        return ot_fail(err, v->rc,
                       "the deadline would pass: a run takes about %.1f ms and %.1f ms are left",
                       (double)v->run_ns / 1e6, (double)v->left_ns / 1e6);
    }
    call->retry_s = retry_after(v);
    if (v->ahead >= v->queue_max) {
        return ot_fail(err, v->rc,
                       "%llu requests wait for model '%s'; the limit is %u: try again in %u s",
                       (unsigned long long)v->ahead, name, v->queue_max, call->retry_s);
    }
    if (call->deadline_ns != 0 && v->wait_ns + v->run_ns > v->left_ns - v->left_ns / 8) {
        return ot_fail(err, v->rc,
                       "the deadline would pass: %llu requests wait for model '%s', about %.1f ms, "
                       "and %.1f ms are left: try again in %u s",
                       (unsigned long long)v->ahead, name, (double)v->wait_ns / 1e6,
                       (double)v->left_ns / 1e6, call->retry_s);
    }
    return ot_fail(err, v->rc,
                   "%llu requests wait for model '%s', about %.1f s; the limit is %.1f s: try "
                   "again in %u s",
                   (unsigned long long)v->ahead, name, (double)v->wait_ns / 1e9,
                   (double)p->o.wait_us_max / 1e6, call->retry_s);
}

static unsigned lane_of(const ot_variant *v, int64_t rows)
{
    return ot_cost_predict(&v->cost, rows) > OT_POOL_LONG_NS ? LANE_LONG : LANE_SHORT;
}

/* A worker process that hangs keeps its threads until it is ended: one is left for the others. */
static unsigned concurrency(const ot_lane *l, const ot_call *call)
{
    unsigned most = call->dep->limits.concurrency;
    return most == 0 && l->n_threads > 1 && call->variant->info.isolated ? l->n_threads - 1 : most;
}

ot_rc ot_pool_add(ot_pool *p, ot_call *call, ot_error *err)
{
    ot_queue *q = call->variant->queue;
    uint64_t now = ot_clock_mono_ns();
    pthread_mutex_lock(&p->lock);
    ot_lane *l = q->lane != NULL ? q->lane : &p->lanes[lane_of(call->variant, call->rows)];
    q->concurrency = concurrency(l, call);
    ot_admission v = ot_lane_admit(l, q, call, p->o.queue_max, p->o.wait_us_max, now);
    if (p->stopping) {
        v.rc = OT_UNAVAILABLE;
    }
    if (v.rc == OT_OK) {
        ot_lane_put(l, q, call, now);
        pthread_cond_signal(&p->filled[l - p->lanes]);
    }
    pthread_mutex_unlock(&p->lock);
    return v.rc == OT_OK ? OT_OK : refuse(p, &v, call, err);
}

/* ---- runs */

/* What nobody waits for any more is not run: it would end too late, or its client has gone while
 * others wait behind it. (A client that closed one direction only may still be there; where there
 * is time, it is answered.) Puts these behind the others and returns how many are to be run. */
static size_t put_useless_last(ot_call **calls, size_t n, uint64_t run_ns, bool others_wait)
{
    uint64_t end = ot_clock_mono_ns() + run_ns;
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        ot_call *c = calls[i];
        if (c->deadline_ns != 0 && end > c->deadline_ns) {
            ot_call_fail(c, OT_TIMEOUT, "the request waited until a run would end too late");
        } else if (others_wait && c->req->cancelled) {
            ot_call_fail(c, OT_CANCELLED, "the client went away while the request waited");
        } else {
            calls[i] = calls[kept];
            calls[kept++] = c;
        }
    }
    return kept;
}

/* How many of the calls, the first ones, could not be run because their variant sleeps. */
static size_t run_batch(pool_thread *t, const ot_lane_batch *b, ot_call **calls)
{
    size_t n = put_useless_last(calls, b->n, b->predicted_ns, ot_queue_waiting(b->queue) > 0);
    if (n == 0) {
        return 0;
    }
    t->exec.slot = t->pool->o.first_slot + b->seat;
    bool ran = ot_exec_run(&t->exec, calls[0]->variant, calls, n);
    for (size_t i = 0; i < n && ran; i++) {
        ot_exec_own(calls[i]);
    }
    ot_exec_release(&t->exec);
    return ran ? 0 : n;
}

/* A queue whose runs have become longer or shorter changes lanes. */
static void move_locked(ot_pool *p, ot_queue *q)
{
    ot_lane *to = &p->lanes[lane_of(q->variant, 1)];
    if (q->lane != NULL && q->lane != to) {
        ot_queue_move(q, to);
        pthread_cond_signal(&p->filled[to - p->lanes]);
    }
}

static bool take_locked(pool_thread *t, ot_call **calls, ot_lane_batch *b)
{
    ot_lane *l = &t->pool->lanes[t->lane];
    if (!ot_lane_take(l, t->index, calls, OT_EXEC_CALLS_MAX,
                      t->lane == LANE_SHORT ? OT_POOL_LONG_NS : 0, ot_clock_mono_ns(), b)) {
        return false;
    }
    if (l->work != NULL) {
        pthread_cond_signal(&t->pool->filled[t->lane]);
    }
    move_locked(t->pool, b->queue);
    return true;
}

static void ended_locked(pool_thread *t, const ot_lane_batch *b)
{
    ot_pool *p = t->pool;
    ot_lane_ended(&p->lanes[t->lane], t->index, b);
    if (b->queue->lane != NULL) { /* its seat may be what a thread of another lane waits for */
        pthread_cond_signal(&p->filled[b->queue->lane - p->lanes]);
    }
}

static void *pool_main(void *arg)
{
    pool_thread *t = arg;
    ot_pool *p = t->pool;
    ot_call *calls[OT_EXEC_CALLS_MAX];
    ot_lane_batch b;
    ot_thread_lower(t->lane == LANE_SHORT ? OT_THREAD_NICE_POOL : OT_THREAD_NICE_LONG);
    pthread_mutex_lock(&p->lock);
    while (!p->stopping || p->lanes[t->lane].work != NULL) {
        if (!take_locked(t, calls, &b)) {
            pthread_cond_wait(&p->filled[t->lane], &p->lock);
            continue;
        }
        pthread_mutex_unlock(&p->lock);
        size_t asleep = run_batch(t, &b, calls);
        pthread_mutex_lock(&p->lock);
        ended_locked(t, &b);
        pthread_mutex_unlock(&p->lock);
        /* Only now: the variant may go with the last of its calls. */
        for (size_t i = 0; i < b.n; i++) {
            (i < asleep ? p->o.asleep : p->o.done)(p->o.arg, calls[i]);
        }
        pthread_mutex_lock(&p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* ---- life */

static ot_rc start_thread(ot_pool *p, unsigned i, ot_error *err)
{
    pool_thread *t = &p->threads[i];
    *t = (pool_thread){.pool = p, .lane = i / p->o.threads, .index = i % p->o.threads};
    OT_TRY(ot_exec_init(&t->exec, p->o.first_slot, err));
    t->made = true;
    OT_TRY(ot_thread_start(&t->thread, t->lane == LANE_SHORT ? "pool" : "pool-long", pool_main, t,
                           err));
    t->running = true;
    return OT_OK;
}

ot_rc ot_pool_create(const ot_pool_options *o, ot_pool **pool_out, ot_error *err)
{
    size_t threads = (size_t)LANES * o->threads;
    ot_pool *p = ot_calloc(1, sizeof *p + threads * sizeof p->threads[0]);
    if (p == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "pool: out of memory");
    }
    p->o = *o;
    pthread_mutex_init(&p->lock, NULL);
    for (unsigned i = 0; i < LANES; i++) {
        ot_lane_init(&p->lanes[i], o->threads);
        pthread_cond_init(&p->filled[i], NULL);
    }
    ot_rc rc = OT_OK;
    for (unsigned i = 0; i < threads && rc == OT_OK; i++) {
        rc = start_thread(p, i, err);
    }
    if (rc != OT_OK) {
        ot_pool_stop(p);
        ot_pool_destroy(p);
        return rc;
    }
    *pool_out = p;
    return OT_OK;
}

void ot_pool_stop(ot_pool *p)
{
    if (p == NULL) {
        return;
    }
    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    for (unsigned i = 0; i < LANES; i++) {
        pthread_cond_broadcast(&p->filled[i]);
    }
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < LANES * p->o.threads; i++) {
        if (p->threads[i].running) {
            pthread_join(p->threads[i].thread, NULL);
            p->threads[i].running = false;
        }
    }
}

void ot_pool_destroy(ot_pool *p)
{
    if (p == NULL) {
        return;
    }
    for (unsigned i = 0; i < LANES * p->o.threads; i++) {
        if (p->threads[i].made) {
            ot_exec_done(&p->threads[i].exec);
        }
    }
    for (unsigned i = 0; i < LANES; i++) {
        pthread_cond_destroy(&p->filled[i]);
    }
    pthread_mutex_destroy(&p->lock);
    ot_free(p);
}
