#include "serve/stage.h"

const char *ot_serve_stage_name(ot_serve_stage stage)
{
    static const char *const names[OT_SERVE_STAGES] = {"queue", "batch", "run", "encode"};
    return names[stage];
}

/* One writer: no locked instruction is needed. */
static void bump(_Atomic uint64_t *x, uint64_t n)
{
    atomic_store_explicit(x, atomic_load_explicit(x, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

void ot_serve_stage_add(ot_serve_stage_totals *t, ot_serve_stage stage, uint64_t from_ns,
                        uint64_t to_ns, uint64_t n)
{
    uint64_t ns = to_ns > from_ns ? to_ns - from_ns : 0;
    bump(&t->ns[stage], ns * n);
    bump(&t->requests[stage][ot_latency_step(ns / 1000)], n);
}
