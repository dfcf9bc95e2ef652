/* What the control thread asks of a worker: done at the end of its turn. */
#include "serve/worker.h"

#include "base/clock.h"

#define DRAIN_GRACE_MS 500

static void on_asked(void *arg)
{
    ot_ask *ask = arg;
    ot_worker *w = ask->worker;
    ask->next = NULL;
    *w->asks_tail = ask;
    w->asks_tail = &ask->next;
}

bool ot_worker_ask(ot_ask *ask)
{
    return ot_loop_post(ask->worker->loop, on_asked, ask) == OT_OK;
}

static void answer_ask(ot_ask *ask)
{
    while (ot_loop_post(ask->worker->serve->loop, ask->then, ask) != OT_OK) {
        ot_clock_sleep_us(200);
    }
}

static void close_cell(ot_variant *v, unsigned worker)
{
    ot_share *share = &v->shares[worker];
    /* The closed one is empty again: the control thread has read it before it asked. */
    if (share->active->requests > 0 && share->closed->requests == 0) {
        ot_cell *c = share->active;
        share->active = share->closed;
        share->closed = c;
    }
}

static void close_window(ot_worker *w)
{
    const ot_route *r = atomic_load_explicit(&w->serve->route, memory_order_acquire);
    for (size_t i = 0; i < r->n_deps; i++) {
        const ot_dep *d = r->deps[i];
        for (size_t k = 0; k < d->n_arms; k++) {
            close_cell(d->arms[k].variant, w->index);
        }
        if (d->previous != NULL) {
            close_cell(d->previous, w->index);
        }
    }
}

static void on_drained(void *arg)
{
    ot_ask *ask = arg;
    if (ask->worker->serve->sampler != NULL) {
        ot_worker_flush_samples(ask->worker, true);
    }
    close_window(ask->worker);
    answer_ask(ask);
}

static void begin_to_accept(ot_worker *w)
{
    ot_rc rc = OT_OK;
    for (size_t i = 0; rc == OT_OK && i < w->serve->o.n_listeners; i++) {
        const ot_serve_listener *l = &w->serve->o.listeners[i];
        rc = ot_http_server_listen(w->http, l->fd, l->tls ? w->serve->tls : NULL, &w->listen_err);
    }
}

/* Another server may take longer than a drain may. */
static void give_up_external(void *arg)
{
    ot_worker *w = arg;
    ot_upstream_give_up(w->upstream);
}

void ot_worker_asks(void *arg)
{
    ot_worker *w = arg;
    ot_ask *list = w->asks;
    w->asks = NULL;
    w->asks_tail = &w->asks;
    while (list != NULL) {
        ot_ask *ask = list;
        list = ask->next;
        if (ask->kind == OT_ASK_DRAIN) {
            ot_loop_timer_set(w->loop, &w->give_up_timer,
                              ot_clock_mono_ns() + (uint64_t)w->serve->o.drain_ms * 1000000,
                              give_up_external, w);
            ot_http_server_drain(w->http, OT_MIN((uint32_t)DRAIN_GRACE_MS, w->serve->o.drain_ms),
                                 w->serve->o.drain_ms, on_drained, ask);
            continue;
        }
        if (ask->kind == OT_ASK_WINDOW) {
            close_window(w);
        } else if (ask->kind == OT_ASK_LISTEN) {
            begin_to_accept(w);
        }
        answer_ask(ask);
    }
}
