/* What goes in two parts. All runs take their places in their lanes when the bucket begins: there
 * all ranks have one order, whatever is done first. A second run begins when its first one has
 * ended, and meanwhile the first ones of other parts and buckets go on. */
#include "base/mem.h"
#include "collective/bucket_internal.h"

/* Messages of a part are numbered from here; a rank sends fewer in one operation. */
#define PART_MESSAGES 0x2000u

static ot_part *part_of_second(ot_run *r)
{
    return (ot_part *)(void *)((char *)r - offsetof(ot_part, second));
}

static const ot_part_ops *ops_of(const ot_part *p)
{
    return p->work->choice.way == OT_WAY_LOWRANK ? &ot_part_low : &ot_part_coded;
}

/* Those who wait have heard that it failed: their memory is theirs again. */
static ot_rc refuse_told(const ot_work *w, ot_error *err)
{
    return w->told ? ot_fail(err, OT_CANCELLED, "'%s' has failed", w->sig.name) : OT_OK;
}

static ot_rc prepare_first(ot_run *r, ot_error *err)
{
    ot_part *p = (ot_part *)r;
    OT_TRY(refuse_told(p->work, err));
    return ops_of(p)->begin(p, err);
}

static ot_rc prepare_second(ot_run *r, ot_error *err)
{
    ot_part *p = part_of_second(r);
    OT_TRY(refuse_told(p->work, err));
    return ops_of(p)->second(p, err);
}

static void end_run(ot_work *w, const ot_error *why)
{
    w->open--;
    if (why != NULL || w->open == 0) {
        ot_work_tell(w, why);
    }
}

static void first_ended(ot_run *r, const ot_error *why)
{
    ot_part *p = (ot_part *)r;
    if (why == NULL && !p->work->told) {
        ops_of(p)->middle(p);
    }
    p->second.waits = false;
    end_run(p->work, why);
}

static void second_ended(ot_run *r, const ot_error *why)
{
    ot_part *p = part_of_second(r);
    if (why == NULL && !p->work->told) {
        ops_of(p)->end(p);
    }
    ot_pool_give(p->work->place.pool, p->room, p->room_size);
    p->room = NULL;
    end_run(p->work, why);
}

ot_rc ot_work_parts_submit(ot_work *w, ot_exec *second, ot_error *err)
{
    uint64_t bytes = w->run.bytes;
    w->n_parts = 1;
    if (w->choice.way == OT_WAY_CODED) {
        OT_TRY(ot_work_coded_cut(w, err));
    } else {
        w->parts = ot_calloc(1, sizeof *w->parts);
        if (w->parts == NULL) {
            return ot_work_short(w, sizeof *w->parts, err);
        }
    }
    w->open = 2 * w->n_parts;
    for (size_t i = 0; i < w->n_parts; i++) {
        ot_part *p = &w->parts[i];
        p->work = w;
        p->first = w->run;
        p->first.bytes = bytes / w->n_parts;
        p->first.first_message = (uint32_t)i * PART_MESSAGES;
        p->second = p->first;
        p->first.prepare = prepare_first;
        p->first.ended = first_ended;
        p->second.prepare = prepare_second;
        p->second.ended = second_ended;
        p->second.waits = true;
    }
    /* The work may be gone with the last of them. */
    ot_exec *first = w->exec;
    ot_part *parts = w->parts;
    for (size_t i = 0, n = w->n_parts; i < n; i++) {
        ot_exec_submit(first, &parts[i].first);
        ot_exec_submit(second, &parts[i].second);
    }
    return OT_OK;
}

void ot_work_parts_times(ot_work *w)
{
    for (size_t i = 0; i < w->n_parts; i++) {
        const ot_part *p = &w->parts[i];
        const ot_run *runs[] = {&p->first, &p->second};
        w->run.times = i == 0 ? p->first.times : w->run.times;
        for (size_t k = 0; k < OT_COUNT(runs); k++) {
            w->run.times.wired = OT_MAX(w->run.times.wired, runs[k]->times.wired);
            w->run.late = ot_late_later(w->run.late, runs[k]->late);
        }
    }
}

void ot_work_let_go(ot_work *w, ot_item *it)
{
    ot_residual_release(w->place.residuals, it->kept);
    ot_residual_release(w->place.residuals, it->columns);
    it->kept = it->columns = NULL;
}

void ot_work_parts_free(ot_work *w)
{
    for (size_t i = 0; i < w->n; i++) {
        ot_work_let_go(w, &w->items[i]);
    }
    for (size_t i = 0; w->parts != NULL && i < w->n_parts; i++) {
        ot_twoshot_done(&w->parts[i].shots);
        ot_pool_give(w->place.pool, w->parts[i].room, w->parts[i].room_size);
    }
    ot_free(w->parts);
    ot_free(w->spans);
}
