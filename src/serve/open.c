/* When a replica begins to accept. One that starts again under a control plane knows from its kept
 * state what it has to answer for; until those versions are loaded its clients wait in the backlog
 * of the listener instead of being told that nobody knows their model. Not for ever: one model that
 * takes too long holds the others up. It also waits until the control plane knows it, or is known
 * not to be there. */
#include "serve/control.h"

#include "base/clock.h"
#include "base/log.h"

#define HOLD_MAX_US 30000000

static bool champion_loads(const ot_control *c)
{
    for (size_t i = 0; i < c->n_entries; i++) {
        const ot_entry *e = c->entries[i];
        if (e->wanted && e->role == OT_ROLE_CHAMPION && e->state == OT_ENTRY_LOADING) {
            return true;
        }
    }
    return false;
}

static void on_listening(void *arg)
{
    ot_ask *ask = arg;
    ot_control *c = ask->arg;
    if (ask->worker->listen_err.rc != OT_OK && c->open_err.rc == OT_OK) {
        c->open_err = ask->worker->listen_err;
        ot_loop_stop(c->serve->loop);
    }
    if (--c->open_left == 0 && c->open_err.rc == OT_OK) {
        ot_company_ready(c);
    }
}

static void open_now(ot_control *c)
{
    c->open = true;
    c->open_left = c->serve->n_workers;
    ot_loop_timer_cancel(c->serve->loop, &c->open_timer);
    for (unsigned i = 0; i < c->serve->n_workers; i++) {
        c->open_asks[i] = (ot_ask){
            .worker = c->serve->workers[i], .kind = OT_ASK_LISTEN, .then = on_listening, .arg = c};
        while (!ot_worker_ask(&c->open_asks[i])) {
            ot_clock_sleep_us(200);
        }
    }
}

static void on_held(void *arg)
{
    ot_control *c = arg;
    if (!c->open && !c->draining) {
        ot_warn("serve", "accepting before every model is loaded: it takes too long");
        open_now(c);
    }
}

void ot_open_start(ot_control *c)
{
    ot_open_try(c);
    if (!c->open) {
        ot_loop_timer_set(c->serve->loop, &c->open_timer,
                          ot_clock_mono_ns() + HOLD_MAX_US * UINT64_C(1000), on_held, c);
    }
}

void ot_open_try(ot_control *c)
{
    if (!c->open && !c->draining &&
        !(c->agent != NULL && (champion_loads(c) || !ot_agent_settled(c->agent)))) {
        open_now(c);
    }
}

void ot_open_stop(ot_control *c)
{
    ot_loop_timer_cancel(c->serve->loop, &c->open_timer);
}
