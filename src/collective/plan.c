/* The calls of the plan (plan.h). */
#include "base/mem.h"
#include "collective/plan_internal.h"

#include <stdio.h>
#include <string.h>

ot_rc ot_plan_create(const ot_plan_options *o, const ot_plan_ops *ops, ot_plan **plan_out,
                     ot_error *err)
{
    ot_plan *p = ot_calloc(1, sizeof *p);
    if (p == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for a plan");
    }
    p->o = *o;
    p->o.bucket_bytes = o->bucket_bytes == 0 ? 32u << 20 : o->bucket_bytes;
    p->o.first_bytes = o->first_bytes == 0 ? 1u << 20 : o->first_bytes;
    p->o.last_bytes = o->last_bytes == 0 ? 1u << 20 : o->last_bytes;
    p->ops = *ops;
    p->parent = o->rank == 0 ? -1 : (o->rank - 1) / PLAN_FAN;
    p->kid0 = o->rank * PLAN_FAN + 1;
    p->n_kids = p->kid0 >= o->size ? 0 : (unsigned)OT_MIN(o->size - p->kid0, PLAN_FAN);
    p->all_kids = (1u << p->n_kids) - 1;
    p->slots = 1024;
    p->names = ot_calloc(p->slots, sizeof *p->names);
    p->tickets = ot_calloc(p->slots, sizeof *p->tickets);
    ot_str_init(&p->up);
    ot_str_init(&p->down);
    p->seen = o->rank == 0 ? 1 : 0;
    p->learning = o->learn;
    if (p->names == NULL || p->tickets == NULL) {
        ot_plan_destroy(p);
        return ot_fail(err, OT_EXHAUSTED, "no memory for a plan");
    }
    *plan_out = p;
    return OT_OK;
}

void ot_plan_destroy(ot_plan *p)
{
    if (p == NULL) {
        return;
    }
    if (p->names != NULL) {
        plan_drop(p);
    }
    for (size_t i = 0; i < p->n_running; i++) {
        ot_free(p->running[i].entries);
    }
    plan_names_done(p);
    ot_free(p->running);
    ot_free(p->set);
    ot_free(p->ready);
    ot_str_done(&p->up);
    ot_str_done(&p->down);
    ot_free(p);
}

/* Once: after that nothing runs. */
static void check(ot_plan *p, ot_rc rc, const ot_error *err)
{
    if (rc != OT_OK && p->broken.rc == OT_OK) {
        p->broken = *err;
        p->broken.rc = rc;
        p->ops.fail(p->ops.arg, 0, &p->broken, -1);
    }
}

static ot_rc join(ot_plan *p, uint64_t ticket, ot_error *err)
{
    if (p->joined) {
        return ot_fail(err, OT_EXISTS, "rank %d has joined already; wait for that first",
                       (int)p->o.rank);
    }
    p->joined = p->somebody_joined = true;
    p->join_ticket = ticket;
    if (!plan_is_root(p)) {
        plan_record_end(&p->up, plan_record_begin(&p->up, PLAN_JOINING));
    }
    OT_TRY(plan_off(p, "", err));
    OT_TRY(plan_check_joined(p, p->o.rank, err));
    return plan_try(p, err);
}

ot_rc ot_plan_submit(ot_plan *p, const ot_signature *s, uint64_t ticket, ot_error *err)
{
    if (p->broken.rc != OT_OK) {
        return ot_fail(err, p->broken.rc, "%s", p->broken.msg);
    }
    if (s->kind == OVERTAKE_JOIN) {
        return join(p, ticket, err);
    }
    if (p->joined) {
        return ot_fail(err, OT_PRECONDITION,
                       "'%.200s': rank %d has joined; it asks for nothing until all have", s->name,
                       (int)p->o.rank);
    }
    plan_entry *e;
    OT_TRY(plan_entry_get(p, s->name, &e, err));
    if (e->ticket != 0) {
        return ot_fail(err, OT_EXISTS,
                       "'%.200s' is in flight already on rank %d; wait for it or use another name",
                       s->name, (int)p->o.rank);
    }
    e->mine = *s;
    e->asked = p->asks++;
    e->phase = p->phase;
    e->waited = false;
    if (e->doomed != NULL) {
        ot_error why;
        (void)ot_fail(&why, OT_INVALID, "%s", e->doomed);
        ot_free(e->doomed);
        e->doomed = NULL;
        p->ops.fail(p->ops.arg, ticket, &why, -1);
        return OT_OK;
    }
    plan_ticket_set(p, e, ticket);
    OT_TRY(plan_route(p, e, err));
    return plan_try(p, err);
}

void ot_plan_waiting(ot_plan *p, uint64_t ticket)
{
    p->phase++;
    plan_entry *e = plan_find_ticket(p, ticket);
    if (e == NULL) {
        return;
    }
    e->waited = true;
    if (e->state == PLAN_FILLED) {
        ot_error err;
        check(p, plan_off(p, "", &err), &err);
    }
}

void ot_plan_turn(ot_plan *p)
{
    ot_error err = {.rc = OT_OK};
    if (plan_is_root(p) && p->broken.rc == OT_OK) {
        if (p->off_wanted) {
            p->off_wanted = false;
            check(p, plan_freeze(p, p->exclude, &err), &err);
        }
        check(p, plan_order(p, &err), &err);
    }
    plan_flush_up(p);
    plan_flush_down(p);
}

static ot_rc take(ot_plan *p, int32_t from, uint8_t direction, uint64_t number, plan_reader *r,
                  ot_error *err)
{
    while (r->at < r->end && !r->bad) {
        plan_record type = (plan_record)*r->at++;
        uint32_t n = plan_get_u32(r);
        if (r->bad || n > (size_t)(r->end - r->at)) {
            break;
        }
        plan_reader inside = {r->at, r->at + n, false};
        r->at += n;
        OT_TRY(direction == 1
                   ? plan_take_down(p, type, &inside, err)
                   : plan_take_up(p, (unsigned)(from - p->kid0), number, type, &inside, err));
    }
    return r->at == r->end && !r->bad
               ? OT_OK
               : ot_fail(err, OT_DATA_LOSS, "a control message of rank %d ends early", (int)from);
}

ot_rc ot_plan_message(ot_plan *p, int32_t from, const void *message, size_t n, ot_error *err)
{
    const uint8_t *at = message;
    plan_reader r = {at, at + n, false};
    bool kid = from >= p->kid0 && from < p->kid0 + (int32_t)p->n_kids;
    uint8_t direction = n > 0 ? *r.at++ : 2;
    uint64_t number = plan_get_u64(&r);
    if (r.bad || direction != (from == p->parent ? 1 : 0) || (from != p->parent && !kid)) {
        return ot_fail(err, OT_DATA_LOSS,
                       "rank %d sent a control message of %zu bytes that is none", (int)from, n);
    }
    if (direction == 0) {
        if (number > p->seen) {
            return ot_fail(err, OT_DATA_LOSS, "rank %d answers a message that was not sent",
                           (int)from);
        }
        p->kid_seen[from - p->kid0] = number;
        return take(p, from, direction, number, &r, err);
    }
    if (number != p->seen + 1) {
        return ot_fail(err, OT_DATA_LOSS,
                       "a control message is missing between rank %d and rank %d", (int)from,
                       (int)p->o.rank);
    }
    plan_flush_up(p); /* was said before this message was seen */
    for (unsigned k = 0; k < p->n_kids; k++) {
        p->stats.control_messages++;
        p->stats.control_bytes += n;
        p->ops.send(p->ops.arg, p->kid0 + (int32_t)k, message, n);
    }
    p->seen = number;
    return take(p, from, direction, number, &r, err);
}

void ot_plan_done(ot_plan *p, ot_lane lane, uint64_t seq)
{
    for (size_t i = 0; i < p->n_running; i++) {
        plan_running *r = &p->running[i];
        if (r->lane != lane || r->seq != seq) {
            continue;
        }
        for (size_t j = 0; j < r->n; j++) {
            if (r->entries[j] != NULL) {
                plan_ticket_clear(p, r->entries[j]);
                plan_entry_release(p, r->entries[j]);
            }
        }
        ot_free(r->entries);
        *r = p->running[--p->n_running];
        return;
    }
}

ot_plan_stats ot_plan_get_stats(const ot_plan *p)
{
    return p->stats;
}

void ot_plan_ask(ot_plan *p, uint64_t ticket)
{
    const plan_entry *e = plan_find_ticket(p, ticket);
    if (e == NULL) {
        return;
    }
    snprintf(p->asked, sizeof p->asked, "%s", e->mine.name);
    if (plan_is_root(p)) {
        ot_error err;
        check(p, plan_say_named(p, PLAN_WHO, p->asked, -1, &err), &err);
        return;
    }
    size_t begun = plan_record_begin(&p->up, PLAN_STALL);
    plan_put_text(&p->up, p->asked);
    plan_record_end(&p->up, begun);
}

size_t ot_plan_lacks(const ot_plan *p, char *text, size_t size, int32_t *first_out)
{
    ot_str t;
    ot_str_init(&t);
    for (unsigned i = 0; i < p->n_lacks; i++) {
        const char *host = p->o.hosts != NULL ? p->o.hosts[p->lacks[i]] : "?";
        if (i == 0) {
            ot_str_addf(&t, "'%s': %s", p->asked, p->n_lacks == 1 ? "rank" : "ranks");
            *first_out = p->lacks[0];
        }
        ot_str_addf(&t, "%s %d (host %.64s)", i == 0 ? "" : ",", (int)p->lacks[i], host);
    }
    if (p->n_lacks > 0) {
        ot_str_addf(&t, "%s not asked for it", p->n_lacks == 1 ? " has" : " have");
    }
    snprintf(text, size, "%s", t.data);
    size_t n = strlen(text);
    ot_str_done(&t);
    return n;
}
