#include "collective/exec_internal.h"

#include "base/clock.h"
#include "base/mem.h"

#include <string.h>

#define ACTIVE_MAX 64
#define ACTIVE_BYTES ((uint64_t)64 << 20)
#define PREPARED_BYTES ((uint64_t)256 << 10) /* before it goes onto the wire */

static bool fifo_push(ot_fifo *f, ot_entry x)
{
    if (f->n == f->cap) {
        size_t cap = f->cap == 0 ? 16 : 2 * f->cap;
        ot_entry *items = ot_alloc(cap * sizeof *items);
        if (items == NULL) {
            return false;
        }
        for (size_t i = 0; i < f->n; i++) {
            items[i] = f->items[(f->head + i) % f->cap];
        }
        ot_free(f->items);
        *f = (ot_fifo){.items = items, .n = f->n, .cap = cap};
    }
    f->items[(f->head + f->n++) % f->cap] = x;
    return true;
}

static void end_run(ot_run *r, const ot_error *why)
{
    ot_schedule_done(&r->schedule);
    ot_free(r->states);
    r->states = NULL;
    r->next = NULL;
    r->times.wired = ot_clock_mono_ns();
    r->ended(r, why);
}

/* Puts the steps in the queues of their links. */
static bool enqueue(ot_exec *e, ot_run *r)
{
    size_t n = r->schedule.n;
    OT_AUTO(ot_free_ptr) uint32_t *counts = ot_calloc((size_t)e->size * 2, sizeof *counts);
    r->states = ot_calloc(n > 0 ? n : 1, sizeof *r->states);
    if (r->states == NULL || counts == NULL) {
        return false;
    }
    r->left = n + r->carried;
    r->local = 0;
    for (uint32_t i = 0; i < n; i++) {
        const ot_step *s = &r->schedule.steps[i];
        if (s->peer < 0) {
            r->local++;
            continue;
        }
        ot_peer *p = &e->peers[s->peer];
        bool sends = s->kind == OT_STEP_SEND;
        uint32_t *count = &counts[2 * s->peer + sends];
        ot_entry x = {.run = r, .step = i, .message = r->first_message + (*count)++};
        if (!fifo_push(sends ? &p->send : &p->recv, x)) {
            return false;
        }
        if (p->link == NULL && !p->wanted) {
            p->wanted = true;
            e->ops.want(e->ops.arg, s->peer);
        }
    }
    return true;
}

/* A run may come again, for a second part: times are of the first. */
static ot_rc prepare(ot_run *r, ot_error *err)
{
    bool first = r->times.active == 0;
    r->times.active = first ? ot_clock_mono_ns() : r->times.active;
    ot_rc rc = r->prepare(r, err);
    r->times.packed = first ? ot_clock_mono_ns() : r->times.packed;
    return rc;
}

/* The bytes of the runs that now are active. */
static uint64_t activate(ot_exec *e)
{
    ot_run *r;
    uint64_t prepared = 0;
    while (!e->held && !e->dead && (r = e->pending) != NULL && !r->waits &&
           prepared < PREPARED_BYTES &&
           (e->n_active == 0 ||
            (e->n_active < ACTIVE_MAX && e->active_bytes + r->bytes <= ACTIVE_BYTES))) {
        ot_error err = {.rc = OT_OK};
        e->pending = r->next;
        if (e->pending == NULL) {
            e->pending_end = &e->pending;
        }
        r->next = NULL;
        if (prepare(r, &err) == OT_OK && !enqueue(e, r)) {
            (void)ot_fail(&err, OT_EXHAUSTED, "out of memory for the steps of '%s'", r->name);
        }
        *e->active_end = r;
        e->active_end = &r->next;
        e->n_active++;
        e->active_bytes += r->bytes;
        prepared += r->bytes + 1;
        e->held = r->holds;
        if (err.rc != OT_OK) {
            ot_exec_abort(e, &err); /* the others wait for this run: nothing can follow it */
        }
    }
    return prepared;
}

static void finish(ot_exec *e)
{
    for (ot_run **at_run = &e->active, *r; (r = *at_run) != NULL;) {
        if (r->left > 0) {
            at_run = &r->next;
            continue;
        }
        *at_run = r->next;
        if (r->next == NULL) {
            e->active_end = at_run;
        }
        e->n_active--;
        e->active_bytes -= r->bytes;
        e->held &= !r->holds;
        e->stats.runs++;
        end_run(r, NULL);
    }
}

bool ot_exec_turn(ot_exec *e, uint64_t budget)
{
    uint64_t moved = 0, total = 0;
    do {
        moved = activate(e);
        for (int32_t i = 0; i < e->size && !e->dead; i++) {
            ot_peer *p = &e->peers[i];
            if (p->link != NULL && !p->broken) {
                moved += ot_exec_send(e, p);
                moved += ot_exec_recv(e, p);
            }
        }
        for (ot_run *r = e->active; r != NULL; r = r->next) {
            moved += ot_exec_local(r);
            ot_exec_hurry(r);
        }
        size_t before = e->n_active;
        finish(e);
        moved += before != e->n_active;
        total += moved;
    } while (moved > 0 && total < budget);
    return moved > 0;
}

void ot_exec_look(ot_exec *e, uint64_t now_ns)
{
    for (int32_t i = 0; i < e->size; i++) {
        ot_link *l = e->peers[i].broken ? NULL : e->peers[i].link;
        if (l != NULL && l->ops->look != NULL) {
            l->ops->look(l, now_ns);
        }
    }
}

ot_rc ot_exec_create(int32_t rank, int32_t size, uint8_t lane, ot_carrier *carrier,
                     const ot_exec_ops *ops, ot_exec **out, ot_error *err)
{
    ot_exec *e = ot_calloc(1, sizeof *e);
    if (e != NULL) {
        e->peers = ot_calloc((size_t)size, sizeof *e->peers);
        e->staging = ot_aligned_alloc(64, OT_RECV_PIECE);
    }
    if (e == NULL || e->peers == NULL || e->staging == NULL) {
        ot_exec_destroy(e);
        return ot_fail(err, OT_EXHAUSTED, "executor: out of memory");
    }
    e->rank = rank;
    e->size = size;
    e->lane = lane;
    e->carrier = carrier;
    e->ops = *ops;
    e->active_end = &e->active;
    e->pending_end = &e->pending;
    *out = e;
    return OT_OK;
}

void ot_exec_destroy(ot_exec *e)
{
    if (e == NULL) {
        return;
    }
    for (int32_t i = 0; e->peers != NULL && i < e->size; i++) {
        if (e->peers[i].link != NULL) {
            e->peers[i].link->ops->destroy(e->peers[i].link);
        }
        ot_free(e->peers[i].send.items);
        ot_free(e->peers[i].recv.items);
    }
    ot_free(e->peers);
    ot_free(e->staging);
    ot_free(e);
}

void ot_exec_link(ot_exec *e, int32_t i, ot_link *l)
{
    ot_peer *p = &e->peers[i];
    if (p->link != NULL) {
        p->link->ops->destroy(p->link);
    }
    l->peer = i;
    l->ready = ot_exec_on_ready;
    l->arg = e;
    p->link = l;
    p->can_read = p->can_write = true;
}

void ot_exec_submit(ot_exec *e, ot_run *r)
{
    if (e->dead) {
        end_run(r, &e->why);
        return;
    }
    r->exec = e;
    r->times.begun = ot_clock_mono_ns();
    r->next = NULL;
    *e->pending_end = r;
    e->pending_end = &r->next;
}

void ot_exec_submit_next(ot_exec *e, ot_run *r)
{
    if (e->dead) {
        end_run(r, &e->why);
        return;
    }
    r->next = e->pending;
    e->pending = r;
    if (r->next == NULL) {
        e->pending_end = &r->next;
    }
}

void ot_exec_abort(ot_exec *e, const ot_error *why)
{
    if (e->dead) {
        return;
    }
    e->dead = true;
    e->why = *why;
    if (e->carrier != NULL) {
        ot_carrier_abandon(e->carrier); /* what is in flight there names runs that end here */
    }
    for (int32_t i = 0; i < e->size; i++) {
        e->peers[i].send.n = e->peers[i].recv.n = 0;
    }
    ot_run *lists[] = {e->active, e->pending};
    e->active = e->pending = NULL;
    e->active_end = &e->active;
    e->pending_end = &e->pending;
    e->n_active = 0;
    for (size_t i = 0; i < OT_COUNT(lists); i++) {
        for (ot_run *r = lists[i], *next; r != NULL; r = next) {
            next = r->next;
            end_run(r, &e->why);
        }
    }
}

bool ot_exec_idle(const ot_exec *e)
{
    return e->active == NULL && e->pending == NULL;
}

const ot_run *ot_exec_oldest(const ot_exec *e, int32_t *peer_out)
{
    *peer_out = -1;
    const ot_run *r = e->active != NULL ? e->active : e->pending;
    for (int32_t i = 0; r != NULL && i < e->size && *peer_out < 0; i++) {
        ot_peer *p = &e->peers[i];
        ot_entry *t = ot_fifo_front(&p->recv);
        if (t != NULL && t->run == r && ot_step_may_start(r, &r->schedule.steps[t->step])) {
            *peer_out = i;
        }
    }
    return r;
}

ot_exec_stats ot_exec_get_stats(const ot_exec *e)
{
    return e->stats;
}
