/* What a run does: one operation of the engine (carrier.h), or steps.
 *
 * An engine says nothing of who is late, lost or does something else. So beside it goes a word
 * through our own links: in ceil(log2 n) rounds each rank has heard, by headers that are checked as
 * all others, that everybody has begun the same operation (the dissemination barrier of Hensgen,
 * Finkel, Manber 1988). The engine does not wait for it; the end of the run does. */
#include "base/mem.h"
#include "collective/carrier.h"
#include "collective/exec_internal.h"

static ot_rc word_to_all(ot_run *r, int32_t rank, int32_t size, ot_error *err)
{
    ot_schedule *s = &r->schedule;
    int32_t rounds = 0;
    while (((int64_t)1 << rounds) < size) {
        rounds++;
    }
    s->cap = 2 * (size_t)rounds;
    s->steps = ot_calloc(s->cap > 0 ? s->cap : 1, sizeof *s->steps);
    if (s->steps == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "out of memory for the steps of '%s'", r->name);
    }
    for (int32_t k = 0; k < rounds; k++) {
        int32_t off = (int32_t)((int64_t)1 << k);
        int32_t heard = k == 0 ? -1 : (int32_t)s->n - 1;
        ot_step step = {.kind = OT_STEP_SEND,
                        .from = OT_BUFFER_SCRATCH,
                        .to = OT_BUFFER_SCRATCH,
                        .after = -1,
                        .since = heard,
                        .bytes = 1};
        step.peer = (rank + off) % size;
        s->steps[s->n++] = step;
        step.kind = OT_STEP_RECV;
        step.peer = (rank - off + size) % size;
        step.offset = 1;
        s->steps[s->n++] = step;
    }
    r->buffers[OT_BUFFER_SCRATCH] = r->word;
    return OT_OK;
}

ot_rc ot_exec_plan(ot_run *r, const ot_cost_model *cost, const ot_coll_shape *shape, ot_error *err)
{
    ot_exec *e = r->exec;
    if (e->carrier == NULL || !ot_carrier_takes(e->carrier, shape, r->dtype, r->reduction)) {
        return ot_schedule_build(ot_cost_choose(cost, shape), shape, &r->schedule, err);
    }
    OT_TRY(word_to_all(r, e->rank, e->size, err));
    OT_TRY(ot_carrier_start(e->carrier, e->lane, shape, r->dtype, r->reduction,
                            r->buffers[OT_BUFFER_IN], r->buffers[OT_BUFFER_OUT], r, err));
    r->carried = true;
    r->hurried = false;
    return OT_OK;
}

void ot_exec_hurry(ot_run *r)
{
    if (r->carried && !r->hurried && r->left == 1) {
        r->hurried = true;
        ot_carrier_hurry(r->exec->carrier);
    }
}

bool ot_exec_carried(void *run)
{
    ot_run *r = run;
    r->carried = false;
    r->left--;
    r->exec->stats.bytes_in += r->bytes;
    r->exec->stats.bytes_out += r->bytes;
    return r->hurried;
}
