#include "api/aside.h"

#include "base/clock.h"
#include "base/mem.h"
#include "serve/thread.h"

#include <pthread.h>
#include <stdbool.h>

#define RETRY_US 1000

typedef struct job {
    ot_aside_fn *work;
    ot_aside_done_fn *done;
    void *arg;
    ot_rc rc;
    ot_error err;
    struct job *next;
} job;

typedef struct list {
    job *head, **tail;
    unsigned n;
} list;

struct ot_aside {
    ot_loop *loop;
    unsigned queue_max;
    pthread_t thread;
    bool running;
    pthread_mutex_t lock;
    pthread_cond_t filled;
    /* Synchronization: under lock. */
    list queue, ended;
    bool stopping, told; /* told: `deliver` is on its way to the loop */
};

static void put(list *l, job *j)
{
    j->next = NULL;
    *l->tail = j;
    l->tail = &j->next;
    l->n++;
}

static job *take(list *l)
{
    job *j = l->head;
    if (j != NULL) {
        l->head = j->next;
        l->tail = l->head == NULL ? &l->head : l->tail;
        l->n--;
    }
    return j;
}

static void deliver(void *arg)
{
    ot_aside *w = arg;
    pthread_mutex_lock(&w->lock);
    w->told = false;
    job *j;
    while ((j = take(&w->ended)) != NULL) {
        pthread_mutex_unlock(&w->lock);
        j->done(j->arg, j->rc, &j->err);
        ot_free(j);
        pthread_mutex_lock(&w->lock);
    }
    pthread_mutex_unlock(&w->lock);
}

/* A full queue of posts is no reason to lose the end of a job. Whoever stops the worker takes what
 * ended from the list. */
static void tell_locked(ot_aside *w)
{
    if (w->told) {
        return;
    }
    w->told = true;
    while (!w->stopping && ot_loop_post(w->loop, deliver, w) != OT_OK) {
        pthread_mutex_unlock(&w->lock);
        ot_clock_sleep_us(RETRY_US);
        pthread_mutex_lock(&w->lock);
    }
}

static void *run(void *arg)
{
    ot_aside *w = arg;
    ot_thread_lower(OT_THREAD_NICE_POOL);
    pthread_mutex_lock(&w->lock);
    while (!w->stopping) {
        job *j = take(&w->queue);
        if (j == NULL) {
            pthread_cond_wait(&w->filled, &w->lock);
            continue;
        }
        pthread_mutex_unlock(&w->lock);
        j->rc = j->work(j->arg, &j->err);
        pthread_mutex_lock(&w->lock);
        put(&w->ended, j);
        tell_locked(w);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

ot_rc ot_aside_create(ot_loop *loop, unsigned queue_max, ot_aside **out, ot_error *err)
{
    ot_aside *w = ot_calloc(1, sizeof *w);
    if (w == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "aside: no memory");
    }
    w->loop = loop;
    w->queue_max = queue_max;
    w->queue.tail = &w->queue.head;
    w->ended.tail = &w->ended.head;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->filled, NULL);
    ot_rc rc = ot_thread_start(&w->thread, "aside", run, w, err);
    if (rc != OT_OK) {
        ot_aside_destroy(w);
        return rc;
    }
    w->running = true;
    *out = w;
    return OT_OK;
}

ot_rc ot_aside_submit(ot_aside *w, ot_aside_fn *work, ot_aside_done_fn *done, void *arg,
                      ot_error *err)
{
    job *j = ot_calloc(1, sizeof *j);
    if (j == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "aside: no memory for a job");
    }
    *j = (job){.work = work, .done = done, .arg = arg};
    pthread_mutex_lock(&w->lock);
    ot_rc rc = w->stopping ? OT_CANCELLED : w->queue.n >= w->queue_max ? OT_EXHAUSTED : OT_OK;
    if (rc == OT_OK) {
        put(&w->queue, j);
        pthread_cond_signal(&w->filled);
    }
    pthread_mutex_unlock(&w->lock);
    if (rc == OT_OK) {
        return OT_OK;
    }
    ot_free(j);
    return rc == OT_CANCELLED
               ? ot_fail(err, rc, "the control plane is ending")
               : ot_fail(err, rc, "%u jobs wait already; try again in a moment", w->queue_max);
}

void ot_aside_stop(ot_aside *w)
{
    if (!w->running) {
        return;
    }
    pthread_mutex_lock(&w->lock);
    w->stopping = true;
    pthread_cond_signal(&w->filled);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    w->running = false;
    for (job *j; (j = take(&w->queue)) != NULL;) {
        j->rc = ot_fail(&j->err, OT_CANCELLED, "the control plane is ending");
        put(&w->ended, j);
    }
    deliver(w);
}

void ot_aside_destroy(ot_aside *w)
{
    if (w == NULL) {
        return;
    }
    ot_aside_stop(w);
    pthread_cond_destroy(&w->filled);
    pthread_mutex_destroy(&w->lock);
    ot_free(w);
}
