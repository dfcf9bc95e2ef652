#include "serve/stage.h"

#include "tap.h"

static uint64_t all(const ot_serve_stage_totals *t, ot_serve_stage stage)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < OT_LATENCY_STEPS; i++) {
        n += t->requests[stage][i];
    }
    return n;
}

int main(void)
{
    static ot_serve_stage_totals t;
    ot_serve_stage_add(&t, OT_SERVE_RUN, 1000, 41000, 3);
    is_int(t.ns[OT_SERVE_RUN], 120000, "three requests of one run took its time each");
    is_int(t.requests[OT_SERVE_RUN][ot_latency_step(40)], 3, "in the step of 40 us");
    ot_serve_stage_add(&t, OT_SERVE_RUN, 0, UINT64_C(60000000000), 1);
    is_int(t.requests[OT_SERVE_RUN][OT_LATENCY_STEPS - 1], 1, "a minute is beyond the last bound");
    ot_serve_stage_add(&t, OT_SERVE_QUEUE, 500, 400, 1);
    is_int(t.ns[OT_SERVE_QUEUE], 0, "a clock of the turn that is ahead counts as no time");
    is_int(all(&t, OT_SERVE_QUEUE), 1, "but the request is counted");
    is_int(all(&t, OT_SERVE_RUN), 4, "stages do not mix");
    is_int(all(&t, OT_SERVE_BATCH) + all(&t, OT_SERVE_ENCODE), 0, "nothing elsewhere");
    for (unsigned i = 0; i + 1 < OT_LATENCY_STEPS; i++) {
        if (ot_latency_step(ot_latency_step_us[i]) != i) {
            ok(false, "a bound belongs to the step below it: %u us", ot_latency_step_us[i]);
        }
    }
    ok(strcmp(ot_serve_stage_name(OT_SERVE_ENCODE), "encode") == 0, "names");
    return tap_done();
}
