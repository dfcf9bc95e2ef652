/* The table of names, and what two requests must have in common. */
#include "base/hash.h"
#include "base/mem.h"
#include "collective/kernel.h"
#include "collective/plan_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static plan_entry **name_chain(ot_plan *p, const char *name)
{
    return &p->names[ot_hash_stable(name, strlen(name), 0) & (p->slots - 1)];
}

static plan_entry **ticket_chain(ot_plan *p, uint64_t ticket)
{
    return &p->tickets[(ticket * 0x9e3779b97f4a7c15u >> 32) & (p->slots - 1)];
}

plan_entry *plan_find(ot_plan *p, const char *name)
{
    for (plan_entry *e = *name_chain(p, name); e != NULL; e = e->next_name) {
        if (strcmp(e->mine.name, name) == 0) {
            return e;
        }
    }
    return NULL;
}

plan_entry *plan_find_ticket(ot_plan *p, uint64_t ticket)
{
    plan_entry *e = *ticket_chain(p, ticket);
    while (e != NULL && e->ticket != ticket) {
        e = e->next_ticket;
    }
    return e;
}

ot_rc plan_entry_get(ot_plan *p, const char *name, plan_entry **out, ot_error *err)
{
    plan_entry *e = plan_find(p, name);
    if (e == NULL) {
        if (p->n_entries >= OT_PLAN_NAMES_MAX) {
            plan_sweep(p);
        }
        if (p->n_entries >= OT_PLAN_NAMES_MAX) {
            return ot_fail(
                err, OT_EXHAUSTED,
                "'%.200s': %zu names are in flight or planned, the limit is %d; wait for "
                "some first",
                name, p->n_entries, OT_PLAN_NAMES_MAX);
        }
        e = ot_calloc(1, sizeof *e);
        if (e == NULL) {
            return ot_fail(err, OT_EXHAUSTED, "'%.200s': no memory for its entry", name);
        }
        snprintf(e->mine.name, sizeof e->mine.name, "%s", name);
        e->place = -1;
        plan_entry **chain = name_chain(p, name);
        e->next_name = *chain;
        *chain = e;
        p->n_entries++;
    }
    *out = e;
    return OT_OK;
}

void plan_ticket_set(ot_plan *p, plan_entry *e, uint64_t ticket)
{
    plan_entry **chain = ticket_chain(p, ticket);
    e->ticket = ticket;
    e->next_ticket = *chain;
    *chain = e;
}

void plan_ticket_clear(ot_plan *p, plan_entry *e)
{
    for (plan_entry **at = ticket_chain(p, e->ticket); *at != NULL; at = &(*at)->next_ticket) {
        if (*at == e) {
            *at = e->next_ticket;
            break;
        }
    }
    e->ticket = 0;
    e->state = PLAN_NONE;
    e->next_ticket = NULL;
}

static void entry_free(plan_entry *e)
{
    ot_free(e->rows);
    ot_free(e->doomed);
    ot_free(e);
}

/* A failed name is kept until no child can send what it said before it heard of the failure. */
static bool is_settled(const ot_plan *p, const plan_entry *e)
{
    for (unsigned k = 0; k < p->n_kids && e->failed_at != 0; k++) {
        if (p->kid_seen[k] < e->failed_at) {
            return false;
        }
    }
    return true;
}

void plan_entry_release(ot_plan *p, plan_entry *e)
{
    if (e->ticket != 0 || e->heard || e->in_set || e->place >= 0 || e->never || e->doomed != NULL ||
        e->beside != 0 || !is_settled(p, e)) {
        return;
    }
    for (plan_entry **at = name_chain(p, e->mine.name); *at != NULL; at = &(*at)->next_name) {
        if (*at == e) {
            *at = e->next_name;
            break;
        }
    }
    p->n_entries--;
    entry_free(e);
}

void plan_sweep(ot_plan *p)
{
    for (size_t i = 0; i < p->slots; i++) {
        for (plan_entry *e = p->names[i], *next; e != NULL; e = next) {
            next = e->next_name;
            e->beside = 0;
            plan_entry_release(p, e);
        }
    }
}

void plan_names_done(ot_plan *p)
{
    for (size_t i = 0; i < p->slots && p->names != NULL; i++) {
        for (plan_entry *e = p->names[i], *next; e != NULL; e = next) {
            next = e->next_name;
            entry_free(e);
        }
    }
    ot_free(p->names);
    ot_free(p->tickets);
}

ot_rc plan_push(plan_entry ***list, size_t *n, size_t *cap, plan_entry *e, ot_error *err)
{
    if (*n == *cap) {
        size_t more = *cap == 0 ? 64 : 2 * *cap;
        plan_entry **grown = ot_realloc(*list, more * sizeof *grown);
        if (grown == NULL) {
            return ot_fail(err, OT_EXHAUSTED, "no memory for a list of %zu names", more);
        }
        *list = grown;
        *cap = more;
    }
    (*list)[(*n)++] = e;
    return OT_OK;
}

/* `from`: the first dimension that must agree. */
static bool same_from(const ot_signature *a, const ot_signature *b, int32_t from)
{
    if (a->kind != b->kind || a->dtype != b->dtype || a->reduction != b->reduction ||
        a->root != b->root || a->ndim != b->ndim || a->splits != b->splits ||
        a->prescale != b->prescale || a->postscale != b->postscale) {
        return false;
    }
    for (int32_t i = from; i < a->ndim; i++) {
        if (a->dims[i] != b->dims[i]) {
            return false;
        }
    }
    return true;
}

bool plan_same(const ot_signature *a, const ot_signature *b)
{
    return same_from(a, b, 0);
}

bool plan_agrees(const ot_signature *a, const ot_signature *b)
{
    return same_from(a, b, plan_is_ragged(a) ? 1 : 0);
}

uint64_t plan_hash(const ot_signature *s, uint64_t before)
{
    struct {
        uint64_t before, splits;
        int64_t dims[OVERTAKE_DIMS_MAX];
        double prescale, postscale;
        int32_t root, ndim, kind, dtype, reduction;
    } x;
    memset(&x, 0, sizeof x);
    x.before = before;
    x.splits = s->splits;
    for (int32_t i = plan_is_ragged(s) ? 1 : 0; i < s->ndim; i++) {
        x.dims[i] = s->dims[i];
    }
    x.prescale = s->prescale;
    x.postscale = s->postscale;
    x.root = s->root;
    x.ndim = s->ndim;
    x.kind = s->kind;
    x.dtype = s->dtype;
    x.reduction = s->reduction;
    return ot_hash_stable(s->name, strlen(s->name), ot_hash_stable(&x, sizeof x, 0));
}

uint64_t plan_bytes(const ot_signature *s)
{
    uint64_t n = ot_dtype_bytes((overtake_dtype)s->dtype);
    for (int32_t i = 0; i < s->ndim; i++) {
        n *= (uint64_t)s->dims[i];
    }
    return n;
}

void plan_describe(const ot_signature *s, char *text, size_t size)
{
    static const char *const kinds[OVERTAKE_KINDS] = {
        "allreduce", "allgather", "reducescatter", "alltoall", "broadcast", "barrier", "join"};
    ot_str t;
    ot_str_init(&t);
    ot_str_adds(&t, s->kind < OVERTAKE_KINDS ? kinds[s->kind] : "?");
    if (s->kind == OVERTAKE_ALLREDUCE || s->kind == OVERTAKE_REDUCESCATTER) {
        ot_str_addf(&t, " (%s)", ot_reduction_text((overtake_reduction)s->reduction));
    }
    if (s->kind < OVERTAKE_BARRIER) {
        ot_str_addf(&t, " of %s [", ot_dtype_text((overtake_dtype)s->dtype));
        for (int32_t i = 0; i < s->ndim; i++) {
            ot_str_addf(&t, "%s%" PRId64, i == 0 ? "" : ",", s->dims[i]);
        }
        ot_str_addc(&t, ']');
    }
    if (s->kind == OVERTAKE_BROADCAST) {
        ot_str_addf(&t, " from rank %d", (int)s->root);
    }
    if (s->prescale != 1 || s->postscale != 1) {
        ot_str_addf(&t, " scaled by %g and %g", s->prescale, s->postscale);
    }
    if (s->splits != 0) {
        ot_str_addf(&t, " with splits of its own");
    }
    snprintf(text, size, "%s", t.data);
    ot_str_done(&t);
}
