#include "serve/pool.h"

#include "base/clock.h"
#include "serve/exec.h"
#include "serve/thread.h"

#include <pthread.h>

struct ot_queue {
    /* Synchronization: the pool's lock; `waiting` also relaxed. */
    ot_call *head, **tail;
    ot_variant *variant;
    struct ot_queue *next; /* of the queues with work */
    bool listed;
    _Atomic uint64_t waiting;
};

typedef struct pool_thread {
    ot_pool *pool;
    pthread_t thread;
    ot_exec exec;
    bool made, running;
} pool_thread;

struct ot_pool {
    ot_pool_done_fn *done;
    void *arg;
    uint32_t queue_max;
    pthread_mutex_t lock;
    pthread_cond_t filled;
    /* Synchronization: under lock. */
    ot_queue *work, **work_tail;
    bool stopping;
    unsigned n_threads;
    pool_thread threads[];
};

ot_rc ot_queue_create(ot_queue **q_out, ot_error *err)
{
    ot_queue *q = ot_calloc(1, sizeof *q);
    if (q == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "queue: out of memory");
    }
    q->tail = &q->head;
    *q_out = q;
    return OT_OK;
}

void ot_queue_destroy(ot_queue *q)
{
    ot_free(q);
}

uint64_t ot_queue_waiting(ot_queue *q)
{
    return atomic_load_explicit(&q->waiting, memory_order_relaxed);
}

static void list_locked(ot_pool *p, ot_queue *q)
{
    q->listed = true;
    q->next = NULL;
    *p->work_tail = q;
    p->work_tail = &q->next;
}

ot_rc ot_pool_add(ot_pool *p, ot_call *call, ot_error *err)
{
    ot_variant *v = call->variant;
    ot_queue *q = v->queue;
    uint64_t waiting = ot_queue_waiting(q);
    if (waiting >= p->queue_max) {
        return ot_fail(err, OT_EXHAUSTED,
                       "%llu requests wait for model '%s'; the limit is %u: try "
                       "again later",
                       (unsigned long long)waiting, call->dep->name, p->queue_max);
    }
    if (call->deadline_ns != 0) {
        uint64_t ns = ot_cost_predict(&v->cost, 1) * (waiting / p->n_threads + 1);
        if (ot_clock_mono_ns() + ns > call->deadline_ns) {
            return ot_fail(err, OT_TIMEOUT,
                           "the deadline would pass: %llu requests wait, about "
                           "%llu us",
                           (unsigned long long)waiting, (unsigned long long)(ns / 1000));
        }
    }
    call->next = NULL;
    pthread_mutex_lock(&p->lock);
    if (p->stopping) {
        pthread_mutex_unlock(&p->lock);
        return ot_fail(err, OT_UNAVAILABLE, "the server is going down");
    }
    q->variant = v;
    *q->tail = call;
    q->tail = &call->next;
    atomic_fetch_add_explicit(&q->waiting, 1, memory_order_relaxed);
    if (!q->listed) {
        list_locked(p, q);
        pthread_cond_signal(&p->filled);
    }
    pthread_mutex_unlock(&p->lock);
    return OT_OK;
}

/* Takes calls that fit one batch off the queue, in order. */
static size_t take_locked(ot_queue *q, ot_call **calls, size_t max)
{
    int64_t most = ot_variant_merge_max(q->variant), rows = 0;
    if (most > 1) {
        most = ot_cost_best(&q->variant->cost, most, most);
    }
    size_t n = 0;
    while (q->head != NULL && n < max) {
        ot_call *c = q->head;
        if (n > 0 && (rows + c->rows > most || !ot_call_fits(calls[0], c) || c->rows == 0 ||
                      calls[0]->rows == 0)) {
            break;
        }
        rows += c->rows;
        calls[n++] = c;
        q->head = c->next;
    }
    if (q->head == NULL) {
        q->tail = &q->head;
    }
    atomic_fetch_sub_explicit(&q->waiting, n, memory_order_relaxed);
    return n;
}

static size_t drop_expired(ot_pool *p, ot_call **calls, size_t n)
{
    uint64_t now = ot_clock_mono_ns();
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (calls[i]->deadline_ns != 0 && now > calls[i]->deadline_ns) {
            ot_call_fail(calls[i], OT_TIMEOUT, "the deadline passed while the request waited");
            p->done(p->arg, calls[i]);
        } else {
            calls[kept++] = calls[i];
        }
    }
    return kept;
}

static void run_batch(pool_thread *t, ot_call **calls, size_t n)
{
    ot_pool *p = t->pool;
    n = drop_expired(p, calls, n);
    if (n == 0) {
        return;
    }
    ot_exec_run(&t->exec, calls[0]->variant, calls, n);
    for (size_t i = 0; i < n; i++) {
        ot_exec_own(calls[i]);
    }
    ot_exec_release(&t->exec);
    for (size_t i = 0; i < n; i++) {
        p->done(p->arg, calls[i]);
    }
}

static void *pool_main(void *arg)
{
    pool_thread *t = arg;
    ot_pool *p = t->pool;
    ot_call *calls[OT_EXEC_CALLS_MAX];
    ot_thread_lower(OT_THREAD_NICE_POOL);
    pthread_mutex_lock(&p->lock);
    for (;;) {
        if (p->work == NULL) {
            if (p->stopping) {
                break;
            }
            pthread_cond_wait(&p->filled, &p->lock);
            continue;
        }
        ot_queue *q = p->work;
        p->work = q->next;
        if (p->work == NULL) {
            p->work_tail = &p->work;
        }
        q->listed = false;
        size_t n = take_locked(q, calls, OT_COUNT(calls));
        if (q->head != NULL) {
            list_locked(p, q); /* to the end: variants take turns */
            pthread_cond_signal(&p->filled);
        }
        pthread_mutex_unlock(&p->lock);
        run_batch(t, calls, n);
        pthread_mutex_lock(&p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

ot_rc ot_pool_create(unsigned threads, unsigned first_slot, uint32_t queue_max,
                     ot_pool_done_fn *done, void *arg, ot_pool **pool_out, ot_error *err)
{
    ot_pool *p = ot_calloc(1, sizeof *p + threads * sizeof p->threads[0]);
    if (p == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "pool: out of memory");
    }
    p->done = done;
    p->arg = arg;
    p->queue_max = queue_max;
    p->n_threads = threads;
    p->work_tail = &p->work;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->filled, NULL);
    ot_rc rc = OT_OK;
    for (unsigned i = 0; i < threads && rc == OT_OK; i++) {
        pool_thread *t = &p->threads[i];
        t->pool = p;
        rc = ot_exec_init(&t->exec, first_slot + i, err);
        t->made = rc == OT_OK;
        if (rc == OT_OK) {
            rc = ot_thread_start(&t->thread, "pool", pool_main, t, err);
            t->running = rc == OT_OK;
        }
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
    pthread_cond_broadcast(&p->filled);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->n_threads; i++) {
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
    for (unsigned i = 0; i < p->n_threads; i++) {
        if (p->threads[i].made) {
            ot_exec_done(&p->threads[i].exec);
        }
    }
    pthread_cond_destroy(&p->filled);
    pthread_mutex_destroy(&p->lock);
    ot_free(p);
}
