/* Negotiation in the subtree of this rank: who has which name, and what is passed upwards. */
#include "base/hash.h"
#include "base/mem.h"
#include "collective/plan_internal.h"

#include <stdio.h>
#include <string.h>

static const char *host_of(const ot_plan *p, int32_t rank)
{
    return p->o.hosts != NULL ? p->o.hosts[rank] : "?";
}

/* Two ranks ask for different things under one name. */
static ot_rc refuse(ot_plan *p, plan_entry *e, const ot_signature *other, int32_t rank,
                    ot_error *err)
{
    char a[256], b[256], text[OT_ERROR_MSG_MAX];
    plan_describe(&e->sig, a, sizeof a);
    plan_describe(other, b, sizeof b);
    snprintf(
        text, sizeof text,
        "'%.200s': rank %d (host %.64s) asks for %s, rank %d (host %.64s) for %s; all ranks of "
        "the group must ask alike",
        e->mine.name, (int)e->first, host_of(p, e->first), a, (int)rank, host_of(p, rank), b);
    e->refused = true;
    if (plan_is_root(p)) {
        return plan_say_fail(p, e->mine.name, text, err);
    }
    size_t begun = plan_record_begin(&p->up, PLAN_CONFLICT);
    plan_put_text(&p->up, e->mine.name);
    plan_put_text(&p->up, text);
    plan_record_end(&p->up, begun);
    return OT_OK;
}

static ot_rc set_rows(ot_plan *p, plan_entry *e, int32_t rank, int64_t rows, ot_error *err)
{
    if (e->rows == NULL) {
        e->rows = ot_alloc((size_t)p->o.size * sizeof *e->rows);
        if (e->rows == NULL) {
            return ot_fail(err, OT_EXHAUSTED, "no memory for the rows of %d ranks", (int)p->o.size);
        }
        for (int32_t i = 0; i < p->o.size; i++) {
            e->rows[i] = -1;
        }
    }
    e->rows[rank] = rows;
    return OT_OK;
}

ot_rc plan_hear(ot_plan *p, plan_entry *e, const ot_signature *s, int32_t rank, ot_error *err)
{
    if (!e->heard) {
        e->heard = true;
        e->sig = *s;
        e->first = rank;
    } else if (!e->refused && !plan_agrees(&e->sig, s)) {
        return refuse(p, e, s, rank, err);
    }
    return OT_OK;
}

ot_rc plan_offer(ot_plan *p, plan_entry *e, ot_error *err)
{
    e->state = PLAN_OFFERED;
    e->phases += ot_hash_stable(&e->phase, sizeof e->phase, (uint64_t)p->o.rank + 1);
    if (plan_is_ragged(&e->mine)) {
        OT_TRY(set_rows(p, e, p->o.rank, e->mine.ndim > 0 ? e->mine.dims[0] : 1, err));
    }
    OT_TRY(plan_hear(p, e, &e->mine, p->o.rank, err));
    return plan_check(p, e, err);
}

static void pass_up(ot_plan *p, plan_entry *e)
{
    size_t begun = plan_record_begin(&p->up, PLAN_READY);
    plan_put_signature(&p->up, &e->sig);
    plan_put_u32(&p->up, (uint32_t)e->first);
    plan_put_u32(&p->up, e->gap);
    plan_put_u64(&p->up, e->phases);
    uint32_t n = 0;
    for (int32_t i = 0; i < p->o.size && e->rows != NULL; i++) {
        n += e->rows[i] >= 0;
    }
    plan_put_u32(&p->up, n);
    for (int32_t i = 0; i < p->o.size && e->rows != NULL; i++) {
        if (e->rows[i] >= 0) {
            plan_put_u32(&p->up, (uint32_t)i);
            plan_put_u64(&p->up, (uint64_t)e->rows[i]);
        }
    }
    plan_record_end(&p->up, begun);
}

ot_rc plan_check(ot_plan *p, plan_entry *e, ot_error *err)
{
    if (!e->heard || e->passed || e->refused || !(e->state == PLAN_OFFERED || p->joined) ||
        (e->kids | p->kids_joined) != p->all_kids) {
        return OT_OK;
    }
    e->passed = true;
    e->gap = e->gap || e->state != PLAN_OFFERED || e->kids != p->all_kids;
    if (plan_is_root(p)) {
        return plan_push(&p->ready, &p->n_ready, &p->cap_ready, e, err);
    }
    pass_up(p, e);
    return OT_OK;
}

static ot_rc bad_record(const char *what, ot_error *err)
{
    return ot_fail(err, OT_DATA_LOSS, "a control message of the plan has a bad %s", what);
}

static ot_rc take_ready(ot_plan *p, unsigned kid, uint64_t seen, plan_reader *r, ot_error *err)
{
    ot_signature s;
    plan_get_signature(r, &s);
    uint32_t first = plan_get_u32(r), gap = plan_get_u32(r);
    uint64_t phases = plan_get_u64(r);
    uint32_t n = plan_get_u32(r);
    if (r->bad || first >= (uint32_t)p->o.size || n > (uint32_t)p->o.size) {
        return bad_record("READY", err);
    }
    plan_entry *e;
    OT_TRY(plan_entry_get(p, s.name, &e, err));
    if (seen < e->failed_at || (e->place >= 0 && seen < p->planned_at)) {
        return OT_OK; /* of a negotiation that has ended since */
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t rank = plan_get_u32(r);
        uint64_t rows = plan_get_u64(r);
        if (r->bad || rank >= (uint32_t)p->o.size || rows > INT64_MAX) {
            return bad_record("row count", err);
        }
        OT_TRY(set_rows(p, e, (int32_t)rank, (int64_t)rows, err));
    }
    e->kids |= 1u << kid;
    e->gap = e->gap || gap != 0;
    e->phases += phases;
    OT_TRY(plan_hear(p, e, &s, (int32_t)first, err));
    return plan_check(p, e, err);
}

static ot_rc take_conflict(ot_plan *p, uint64_t seen, plan_reader *r, ot_error *err)
{
    char name[OVERTAKE_NAME_MAX + 1], text[OT_ERROR_MSG_MAX];
    plan_get_text(r, name, sizeof name);
    plan_get_text(r, text, sizeof text);
    if (r->bad) {
        return bad_record("CONFLICT", err);
    }
    plan_entry *e;
    OT_TRY(plan_entry_get(p, name, &e, err));
    if (seen < e->failed_at || e->refused || (e->place >= 0 && seen < p->planned_at)) {
        return OT_OK;
    }
    e->refused = e->heard = true;
    if (plan_is_root(p)) {
        return plan_say_fail(p, name, text, err);
    }
    size_t begun = plan_record_begin(&p->up, PLAN_CONFLICT);
    plan_put_text(&p->up, name);
    plan_put_text(&p->up, text);
    plan_record_end(&p->up, begun);
    return OT_OK;
}

ot_rc plan_begun(ot_plan *p, ot_error *err)
{
    if (p->mode != PLAN_FROZEN || p->kids_begun != p->all_kids) {
        return OT_OK;
    }
    p->kids_begun = 0;
    p->begun = OT_MAX(p->begun, p->seq[OT_LANE_PLANNED]);
    if (plan_is_root(p)) {
        return plan_say_thaw(p, err);
    }
    size_t begun = plan_record_begin(&p->up, PLAN_BEGUN);
    plan_put_u64(&p->up, p->begun);
    plan_record_end(&p->up, begun);
    return OT_OK;
}

ot_rc plan_closed(ot_plan *p, ot_error *err)
{
    if (!p->closed || p->kids_closed != p->all_kids) {
        return OT_OK;
    }
    p->closed = false;
    p->kids_closed = 0;
    if (plan_is_root(p)) {
        return plan_say(p, PLAN_LEARN, err);
    }
    plan_record_end(&p->up, plan_record_begin(&p->up, PLAN_CLOSED));
    return OT_OK;
}

ot_rc plan_check_joined(ot_plan *p, int32_t last, ot_error *err)
{
    for (size_t i = 0; i < p->slots; i++) {
        for (plan_entry *e = p->names[i]; e != NULL; e = e->next_name) {
            OT_TRY(plan_check(p, e, err));
        }
    }
    if (!p->joined || p->kids_joined != p->all_kids) {
        return OT_OK;
    }
    if (plan_is_root(p)) {
        return plan_say_named(p, PLAN_ALL_JOINED, NULL, last, err);
    }
    size_t begun = plan_record_begin(&p->up, PLAN_JOINED);
    plan_put_u32(&p->up, (uint32_t)last);
    plan_record_end(&p->up, begun);
    return OT_OK;
}

/* Passed on as it is, for rank 0. */
static void relay(ot_plan *p, plan_record type, const char *name, uint64_t number, bool with_number)
{
    size_t begun = plan_record_begin(&p->up, type);
    if (type == PLAN_OFF) {
        plan_put_u64(&p->up, number);
    }
    plan_put_text(&p->up, name);
    if (with_number && type != PLAN_OFF) {
        plan_put_u32(&p->up, (uint32_t)number);
    }
    plan_record_end(&p->up, begun);
}

static ot_rc take_off(ot_plan *p, plan_reader *r, ot_error *err)
{
    char name[OVERTAKE_NAME_MAX + 1];
    uint64_t epoch = plan_get_u64(r);
    plan_get_text(r, name, sizeof name);
    if (r->bad) {
        return bad_record("OFF", err);
    }
    if (!plan_is_root(p)) {
        relay(p, PLAN_OFF, name, epoch, true);
        return OT_OK;
    }
    return epoch == p->epoch ? plan_freeze(p, name, err) : OT_OK;
}

static ot_rc take_named(ot_plan *p, plan_record type, plan_reader *r, ot_error *err)
{
    char name[OVERTAKE_NAME_MAX + 1];
    plan_get_text(r, name, sizeof name);
    uint32_t rank = type == PLAN_LACK ? plan_get_u32(r) : 0;
    if (r->bad || rank >= (uint32_t)p->o.size) {
        return bad_record("name", err);
    }
    if (!plan_is_root(p)) {
        relay(p, type, name, rank, type == PLAN_LACK);
        return OT_OK;
    }
    return plan_say_named(p, type == PLAN_LACK ? PLAN_LACKS : PLAN_WHO, name,
                          type == PLAN_LACK ? (int32_t)rank : -1, err);
}

ot_rc plan_take_up(ot_plan *p, unsigned kid, uint64_t seen, plan_record type, plan_reader *r,
                   ot_error *err)
{
    uint64_t begun;
    uint32_t last;
    switch (type) {
    case PLAN_READY:
        return take_ready(p, kid, seen, r, err);
    case PLAN_CONFLICT:
        return take_conflict(p, seen, r, err);
    case PLAN_OFF:
        return take_off(p, r, err);
    case PLAN_BEGUN:
        begun = plan_get_u64(r);
        if (r->bad || p->mode != PLAN_FROZEN) {
            return bad_record("BEGUN", err);
        }
        p->begun = OT_MAX(p->begun, begun);
        p->kids_begun |= 1u << kid;
        return plan_begun(p, err);
    case PLAN_CLOSED:
        p->kids_closed |= 1u << kid;
        return plan_closed(p, err);
    case PLAN_JOINED:
        last = plan_get_u32(r);
        if (r->bad || last >= (uint32_t)p->o.size) {
            return bad_record("JOINED", err);
        }
        p->kids_joined |= 1u << kid;
        return plan_check_joined(p, (int32_t)last, err);
    case PLAN_JOINING:
        if (plan_is_root(p)) {
            p->somebody_joined = true;
        } else {
            plan_record_end(&p->up, plan_record_begin(&p->up, PLAN_JOINING));
        }
        return OT_OK;
    case PLAN_STALL:
    case PLAN_LACK:
        return take_named(p, type, r, err);
    default:
        return bad_record("type", err);
    }
}
