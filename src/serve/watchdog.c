#include "serve/watchdog.h"

#include "base/clock.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>

#define PERIOD_NS UINT64_C(1000000000)

/* Executors are numbered as server.h says. */
static void name_of_slot(const ot_serve *s, unsigned slot, char out[32])
{
    if (slot < ot_serve_pool_slot(s)) {
        snprintf(out, 32, "worker %u", slot);
    } else if (slot < ot_serve_sampler_slot(s)) {
        snprintf(out, 32, "pool thread %u", slot - ot_serve_pool_slot(s));
    } else {
        snprintf(out, 32, "%s", slot == ot_serve_sampler_slot(s) ? "the sampler" : "the loader");
    }
}

static void look_at_slot(ot_control *c, ot_variant *v, unsigned slot, uint64_t now)
{
    ot_slot *s = &v->slots[slot];
    uint64_t since = atomic_load_explicit(&s->since_ns, memory_order_relaxed);
    if (since == 0 || since == s->told_ns || since > now ||
        now - since < (uint64_t)c->serve->o.hang_us * 1000) {
        return;
    }
    char where[32];
    name_of_slot(c->serve, slot, where);
    s->told_ns = since;
    ot_err("serve",
           "deployment %s: model %s version %" PRIu64
           " hangs: a run on %s has not come back for %.0f s; what waits there is not answered. "
           "Roll it back, or restart this replica",
           v->deployment, v->model, v->version, where, (double)(now - since) / 1e9);
}

static void look(void *arg)
{
    ot_control *c = arg;
    uint64_t now = ot_clock_mono_ns();
    for (size_t i = 0; i < c->n_entries; i++) {
        ot_variant *v = c->entries[i]->variant;
        for (unsigned slot = 0; v != NULL && slot < v->n_slots; slot++) {
            look_at_slot(c, v, slot, now);
        }
    }
    ot_loop_timer_set(c->serve->loop, &c->watchdog, now + PERIOD_NS, look, c);
}

void ot_watchdog_start(ot_control *c)
{
    if (c->serve->o.hang_us > 0) {
        ot_loop_timer_set(c->serve->loop, &c->watchdog, ot_clock_mono_ns() + PERIOD_NS, look, c);
    }
}

void ot_watchdog_stop(ot_control *c)
{
    ot_loop_timer_cancel(c->serve->loop, &c->watchdog);
}
