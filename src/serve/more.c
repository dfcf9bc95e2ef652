#include "serve/more.h"

#include "base/clock.h"
#include "base/log.h"
#include "overtake/plugin.h"
#include "serve/exec.h"
#include "serve/worker.h"

#include <string.h>
#include <time.h>

struct ot_more {
    struct ot_more *next;
    ot_call *call;
    ot_call now; /* the call as it would be if this were its answer */
    ot_tensor outputs[OT_RUNTIME_OUTPUTS_MAX];
};

bool ot_call_streams(const ot_call *call)
{
    return call->wire->more != NULL &&
           (call->variant->info.capabilities & OVERTAKE_CAP_MULTI_RESPONSE) != 0;
}

static void on_more(void *arg)
{
    ot_more_deliver(arg);
}

/* A worker that goes down takes no more: then nobody waits for it. */
static void wait_for_room(ot_worker *w)
{
    while (w->n_more >= OT_MORE_WAITING_MAX &&
           !atomic_load_explicit(&w->serve->draining, memory_order_relaxed)) {
        struct timespec until;
        (void)timespec_get(&until, TIME_UTC);
        until.tv_nsec += 100000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        (void)pthread_cond_timedwait(&w->more_taken, &w->lock, &until);
    }
}

void ot_more_add(void *arg, const ot_run_result *result)
{
    ot_call *call = arg;
    ot_worker *w = call->worker;
    struct ot_more *m = ot_alloc(sizeof *m);
    if (m == NULL) {
        ot_err("serve", "%s: out of memory: a response of a stream is lost", call->dep->name);
        return;
    }
    m->next = NULL;
    m->call = call;
    m->now = *call;
    m->now.outputs = m->outputs;
    m->now.n_outputs = result->n_outputs;
    m->now.rc = OT_OK;
    m->now.block = NULL;
    memcpy(m->outputs, result->outputs, (size_t)result->n_outputs * sizeof m->outputs[0]);
    ot_exec_own(&m->now);
    pthread_mutex_lock(&w->lock);
    wait_for_room(w);
    bool was_empty = w->more == NULL;
    *w->more_tail = m;
    w->more_tail = &m->next;
    w->n_more++;
    pthread_mutex_unlock(&w->lock);
    while (was_empty && ot_loop_post(w->loop, on_more, w) != OT_OK) {
        ot_clock_sleep_us(200); /* its queue is full: it will be run */
    }
}

void ot_more_deliver(ot_worker *w)
{
    pthread_mutex_lock(&w->lock);
    struct ot_more *list = w->more;
    w->more = NULL;
    w->more_tail = &w->more;
    w->n_more = 0;
    pthread_cond_broadcast(&w->more_taken);
    pthread_mutex_unlock(&w->lock);
    while (list != NULL) {
        struct ot_more *m = list;
        list = m->next;
        if (m->now.rc == OT_OK) {
            m->call->wire->more(w, m->call, &m->now);
        }
        ot_free(m->now.block);
        ot_free(m);
    }
}
