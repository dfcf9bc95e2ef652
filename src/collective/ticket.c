#include "collective/ticket.h"

#include "base/clock.h"
#include "base/mem.h"

#include <errno.h>
#include <string.h>
#include <time.h>

ot_rc ot_tickets_create(ot_tickets **out, ot_error *err)
{
    ot_tickets *t = ot_calloc(1, sizeof *t);
    if (t == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "requests: out of memory");
    }
    pthread_mutex_init(&t->lock, NULL);
    pthread_condattr_t a;
    pthread_condattr_init(&a);
    pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
    pthread_cond_init(&t->some_done, &a);
    pthread_condattr_destroy(&a);
    *out = t;
    return OT_OK;
}

static void ticket_free(ot_ticket *k)
{
    ot_free(k->splits);
    ot_free(k);
}

void ot_tickets_destroy(ot_tickets *t)
{
    if (t == NULL) {
        return;
    }
    for (size_t i = 0; i < OT_TICKETS_MAX; i++) {
        if (t->slots[i] != NULL) {
            ticket_free(t->slots[i]);
        }
    }
    pthread_mutex_destroy(&t->lock);
    pthread_cond_destroy(&t->some_done);
    ot_free(t);
}

ot_rc ot_ticket_add(ot_tickets *t, ot_ticket **out, ot_error *err)
{
    ot_ticket *k = ot_calloc(1, sizeof *k);
    if (k == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "request: out of memory");
    }
    pthread_mutex_lock(&t->lock);
    if (t->n == OT_TICKETS_MAX) {
        pthread_mutex_unlock(&t->lock);
        ot_free(k);
        return ot_fail(err, OT_EXHAUSTED,
                       "%d requests are in flight or not waited for, the most there may be: wait "
                       "for some",
                       OT_TICKETS_MAX);
    }
    while (t->slots[t->next] != NULL) {
        t->next = (t->next + 1) % OT_TICKETS_MAX;
    }
    uint32_t slot = t->next;
    t->next = (slot + 1) % OT_TICKETS_MAX;
    t->generations[slot]++;
    k->handle = (overtake_handle)((uint64_t)t->generations[slot] * OT_TICKETS_MAX + slot);
    k->culprit = -1;
    k->since_ns = ot_clock_mono_ns();
    t->slots[slot] = k;
    t->n++;
    t->open++;
    pthread_mutex_unlock(&t->lock);
    *out = k;
    return OT_OK;
}

ot_ticket *ot_ticket_find_locked(ot_tickets *t, overtake_handle h)
{
    ot_ticket *k = h > 0 ? t->slots[(uint64_t)h % OT_TICKETS_MAX] : NULL;
    return k != NULL && k->handle == h ? k : NULL;
}

void ot_ticket_remove_locked(ot_tickets *t, ot_ticket *k)
{
    t->slots[(uint64_t)k->handle % OT_TICKETS_MAX] = NULL;
    t->n--;
    t->open -= !k->done;
    ticket_free(k);
}

static void end_locked(ot_tickets *t, ot_ticket *k, const ot_error *why, int32_t culprit)
{
    if (k->done) {
        return;
    }
    if (why != NULL) {
        k->why = *why;
        k->culprit = culprit;
    }
    k->done = true;
    t->open--;
    pthread_cond_broadcast(&t->some_done);
}

void ot_ticket_end(ot_tickets *t, ot_ticket *k, const ot_error *why, int32_t culprit)
{
    pthread_mutex_lock(&t->lock);
    end_locked(t, k, why, culprit);
    pthread_mutex_unlock(&t->lock);
}

void ot_tickets_end_all(ot_tickets *t, const ot_error *why, int32_t culprit)
{
    pthread_mutex_lock(&t->lock);
    for (size_t i = 0; i < OT_TICKETS_MAX; i++) {
        if (t->slots[i] != NULL) {
            end_locked(t, t->slots[i], why, culprit);
        }
    }
    pthread_mutex_unlock(&t->lock);
}

/* False: time is up. */
static bool wait_locked(ot_tickets *t, uint64_t until_ns)
{
    struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000u),
                             .tv_nsec = (long)(until_ns % 1000000000u)};
    if (until_ns == 0) {
        pthread_cond_wait(&t->some_done, &t->lock);
        return true;
    }
    return pthread_cond_timedwait(&t->some_done, &t->lock, &until) != ETIMEDOUT;
}

void ot_tickets_await_all(ot_tickets *t, uint64_t until_ns)
{
    pthread_mutex_lock(&t->lock);
    while (t->open > 0 && wait_locked(t, until_ns)) {
    }
    pthread_mutex_unlock(&t->lock);
}

bool ot_ticket_await_locked(ot_tickets *t, const ot_ticket *k, uint64_t until_ns)
{
    while (!k->done && wait_locked(t, until_ns)) {
    }
    return k->done;
}

/* --- outputs made by the library ---------------------------------------------------------- */

typedef struct made {
    struct made *next, **at;
    _Alignas(64) uint8_t data[];
} made;

/* Synchronization: the list is of its lock. */
static pthread_mutex_t made_lock = PTHREAD_MUTEX_INITIALIZER;
static made *made_list;

void *ot_out_make(uint64_t bytes, int32_t n_splits, int64_t **splits_out)
{
    uint64_t data = (bytes + 63) / 64 * 64, tail = (uint64_t)n_splits * sizeof(int64_t);
    if (bytes > SIZE_MAX / 2) {
        return NULL;
    }
    made *m = ot_aligned_alloc(64, (sizeof *m + data + tail + 63) / 64 * 64);
    if (m == NULL) {
        return NULL;
    }
    if (splits_out != NULL) {
        *splits_out = (int64_t *)(void *)(m->data + data);
    }
    pthread_mutex_lock(&made_lock);
    m->next = made_list;
    m->at = &made_list;
    if (made_list != NULL) {
        made_list->at = &m->next;
    }
    made_list = m;
    pthread_mutex_unlock(&made_lock);
    return m->data;
}

bool ot_out_free(void *out)
{
    pthread_mutex_lock(&made_lock);
    made *m = made_list;
    while (m != NULL && m->data != out) {
        m = m->next;
    }
    if (m != NULL) {
        *m->at = m->next;
        if (m->next != NULL) {
            m->next->at = m->at;
        }
    }
    pthread_mutex_unlock(&made_lock);
    ot_free(m);
    return m != NULL;
}
