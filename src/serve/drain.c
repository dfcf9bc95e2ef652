/* The end of a replica: workers answer what they have, then the last window and samples are handed
 * over. */
#include "serve/control.h"

#include "base/clock.h"
#include "base/log.h"
#include "serve/sleep.h"
#include "serve/watchdog.h"

static void stop_loop(ot_control *c)
{
    ot_loop_timer_cancel(c->serve->loop, &c->drain_timer);
    ot_open_stop(c);
    ot_keys_stop(c);
    ot_watchdog_stop(c);
    ot_loop_stop(c->serve->loop);
}

/* Waits until everything was pushed, or for as long as the drain may take. */
static void wait_for_acks(void *arg)
{
    ot_control *c = arg;
    uint64_t files = 0, bytes, dropped;
    if (c->serve->spool != NULL) {
        ot_spool_pending(c->serve->spool, &files, &bytes, &dropped);
    }
    if (files == 0 || c->agent == NULL || !ot_agent_connected(c->agent) ||
        ot_clock_mono_ns() > c->drain_end_ns) {
        stop_loop(c);
        return;
    }
    ot_agent_pump(c->agent);
    ot_loop_timer_set(c->serve->loop, &c->drain_timer, ot_clock_mono_ns() + 10000000, wait_for_acks,
                      c);
}

static void on_worker_drained(void *arg)
{
    ot_control *c = ((ot_ask *)arg)->arg;
    if (--c->drain_left > 0) {
        return;
    }
    ot_windows_stop(c);
    if (c->serve->sampler != NULL) {
        ot_sampler_stop(c->serve->sampler); /* short: it holds at most a few MiB */
    }
    ot_windows_collect(c, ot_clock_wall_us());
    wait_for_acks(c);
}

void ot_control_drain(ot_control *c)
{
    if (c->draining) {
        return;
    }
    c->draining = true;
    atomic_store_explicit(&c->serve->draining, true, memory_order_relaxed);
    ot_info("serve", "draining");
    ot_sleep_stop(c);
    ot_repo_give_up(c);
    c->drain_end_ns = ot_clock_mono_ns() + (uint64_t)c->serve->o.drain_ms * 1000000;
    c->drain_left = c->serve->n_workers;
    for (unsigned i = 0; i < c->serve->n_workers; i++) {
        c->drain_asks[i] = (ot_ask){.worker = c->serve->workers[i],
                                    .kind = OT_ASK_DRAIN,
                                    .then = on_worker_drained,
                                    .arg = c};
        while (!ot_worker_ask(&c->drain_asks[i])) {
            ot_clock_sleep_us(200);
        }
    }
}
