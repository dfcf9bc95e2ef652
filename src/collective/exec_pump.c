/* Moves the bytes of steps. */
#include "base/clock.h"
#include "base/mem.h"
#include "collective/exec_internal.h"

#include <string.h>

#define SEND_PIECE ((size_t)1 << 20)
#define FOLD_PIECE ((size_t)64 << 10) /* stays in the nearest caches until it is sent on */
#define SEND_LEAST ((size_t)16 << 10) /* of a step that streams behind another one */
#define QUANTUM ((uint64_t)512 << 10) /* of one link before the next has its turn */

static void pop(ot_fifo *f)
{
    f->head = (f->head + 1) % f->cap;
    f->n--;
}

/* --- steps -------------------------------------------------------------------------------- */

/* How far the step may go now. */
static uint64_t limit(const ot_run *r, const ot_step *s)
{
    if (s->since >= 0 && !r->states[s->since].complete) {
        return 0;
    }
    if (s->after >= 0 && !r->states[s->after].complete) {
        return OT_MIN(r->states[s->after].done, s->bytes);
    }
    return s->bytes;
}

/* A step of no bytes has no way to go: it begins when what it depends on is complete. */
bool ot_step_may_start(const ot_run *r, const ot_step *s)
{
    return (s->since < 0 || r->states[s->since].complete) &&
           (s->bytes > 0 ? limit(r, s) > 0 : s->after < 0 || r->states[s->after].complete);
}

static uint8_t *at(const ot_run *r, uint8_t buffer, uint64_t offset)
{
    return (uint8_t *)r->buffers[buffer] + offset;
}

static void complete(ot_run *r, uint32_t step)
{
    r->states[step].complete = true;
    r->left--;
}

static void fold(ot_run *r, void *to, const void *a, const void *b, size_t bytes)
{
    overtake_dtype t = (overtake_dtype)r->dtype;
    uint64_t began = r->timed ? ot_clock_mono_ns() : 0;
    ot_kernel_reduce((overtake_reduction)r->reduction, t, to, a, b, bytes / ot_dtype_bytes(t));
    if (r->timed) {
        r->times.reduce_last = ot_clock_mono_ns();
        r->times.reduce += r->times.reduce_last - began;
        r->times.reduce_first = r->times.reduce_first != 0 ? r->times.reduce_first : began;
    }
}

static void reduce(ot_run *r, const ot_step *s, uint64_t done, const void *incoming, size_t bytes)
{
    fold(r, at(r, s->to, s->offset + done), at(r, s->from, s->from_offset + done), incoming, bytes);
}

/* --- links -------------------------------------------------------------------------------- */

void ot_exec_on_ready(void *arg, ot_link *l, bool can_read, bool can_write)
{
    ot_exec *e = arg;
    ot_peer *p = &e->peers[l->peer];
    p->can_read |= can_read;
    p->can_write |= can_write;
}

static void broke(ot_exec *e, ot_peer *p, const ot_run *r, const ot_error *why)
{
    p->broken = true;
    p->can_read = p->can_write = false;
    e->ops.broken(e->ops.arg, (int32_t)(p - e->peers), r, why);
}

static ot_wire_header header(const ot_exec *e, const ot_entry *t)
{
    const ot_run *r = t->run;
    ot_wire_header h = {.message = t->message,
                        .epoch = r->epoch,
                        .seq = r->seq,
                        .hash = r->hash,
                        .bytes = r->schedule.steps[t->step].bytes,
                        .lane = e->lane,
                        .kind = r->kind,
                        .dtype = r->dtype,
                        .reduction = r->reduction,
                        .late = r->late};
    memcpy(h.name, r->name, sizeof h.name);
    return h;
}

/* The pieces of the ot_fifo_front message that can go now; 0: none. */
static int outgoing(ot_exec *e, ot_peer *p, ot_entry *t, struct iovec iov[2])
{
    ot_run *r = t->run;
    const ot_step *s = &r->schedule.steps[t->step];
    uint64_t done = r->states[t->step].done, upto = limit(r, s);
    int n = 0;
    if (p->out_n == 0) {
        if (!ot_step_may_start(r, s)) {
            return 0;
        }
        ot_wire_header h = header(e, t);
        ot_wire_write(&h, p->out_head);
    }
    if (upto < s->bytes && upto - done < SEND_LEAST) {
        return 0;
    }
    if (p->out_n < OT_WIRE_HEADER) {
        iov[n++] = (struct iovec){.iov_base = p->out_head + p->out_n,
                                  .iov_len = OT_WIRE_HEADER - p->out_n};
    }
    if (upto > done) {
        iov[n++] = (struct iovec){.iov_base = at(r, s->from, s->offset + done),
                                  .iov_len = OT_MIN(upto - done, SEND_PIECE)};
    }
    return n;
}

uint64_t ot_exec_send(ot_exec *e, ot_peer *p)
{
    uint64_t moved = 0;
    ot_entry *t;
    while (p->can_write && moved < QUANTUM && (t = ot_fifo_front(&p->send)) != NULL) {
        struct iovec iov[2];
        int n = outgoing(e, p, t, iov);
        if (n == 0) {
            break;
        }
        ssize_t k = p->link->ops->send(p->link, iov, n);
        if (k < 0) {
            broke(e, p, t->run, &p->link->why);
            break;
        }
        if (k == 0) {
            p->can_write = false;
            break;
        }
        moved += (uint64_t)k;
        size_t head = OT_MIN((size_t)k, OT_WIRE_HEADER - p->out_n);
        ot_step_state *st = &t->run->states[t->step];
        p->out_n += head;
        st->done += (uint64_t)k - head;
        if (p->out_n == OT_WIRE_HEADER && st->done == t->run->schedule.steps[t->step].bytes) {
            complete(t->run, t->step);
            pop(&p->send);
            p->out_n = 0;
        }
    }
    e->stats.bytes_out += moved;
    return moved;
}

/* Takes what has come of an element, and reduces it when it is whole. */
static ssize_t reduce_one(ot_exec *e, ot_peer *p, ot_entry *t, size_t elem)
{
    (void)e;
    ssize_t k = p->link->ops->recv(p->link, p->partial + p->n_partial, elem - p->n_partial);
    if (k > 0 && (p->n_partial += (size_t)k) == elem) {
        ot_step_state *st = &t->run->states[t->step];
        reduce(t->run, &t->run->schedule.steps[t->step], st->done, p->partial, elem);
        st->done += elem;
        p->n_partial = 0;
    }
    return k;
}

/* Reduces up to n bytes (whole elements) of what has come; like a link's recv. */
static ssize_t reduce_some(ot_exec *e, ot_peer *p, ot_entry *t, uint64_t n)
{
    ot_run *r = t->run;
    const ot_step *s = &r->schedule.steps[t->step];
    ot_step_state *st = &r->states[t->step];
    const ot_link_ops *ops = p->link->ops;
    size_t elem = ot_dtype_bytes((overtake_dtype)r->dtype);
    if (ops->peek != NULL) {
        const void *q;
        ssize_t k = p->n_partial == 0 ? ops->peek(p->link, &q) : 0;
        size_t take = k > 0 ? OT_MIN(OT_MIN((size_t)k, n), FOLD_PIECE) / elem * elem : 0;
        if (k < 0 || (k == 0 && p->n_partial == 0)) {
            return k;
        }
        if (take == 0) {
            return reduce_one(e, p, t, elem);
        }
        reduce(r, s, st->done, q, take);
        ops->consume(p->link, take);
        st->done += take;
        return (ssize_t)take;
    }
    memcpy(e->staging, p->partial, p->n_partial);
    ssize_t k = ops->recv(p->link, e->staging + p->n_partial,
                          OT_MIN(n, (uint64_t)OT_RECV_PIECE) - p->n_partial);
    if (k > 0) {
        size_t have = p->n_partial + (size_t)k, whole = have / elem * elem;
        reduce(r, s, st->done, e->staging, whole);
        st->done += whole;
        p->n_partial = have - whole;
        memcpy(p->partial, e->staging + whole, p->n_partial);
    }
    return k;
}

/* The header of the ot_fifo_front message; like a link's recv. */
static ssize_t take_header(ot_exec *e, ot_peer *p, ot_entry *t)
{
    ssize_t k = p->link->ops->recv(p->link, p->in_head + p->in_n, OT_WIRE_HEADER - p->in_n);
    if (k <= 0 || (p->in_n += (size_t)k) < OT_WIRE_HEADER) {
        return k;
    }
    ot_wire_header got, want = header(e, t);
    ot_error *why = &p->link->why;
    if (ot_wire_read(p->in_head, &got, why) != OT_OK ||
        ot_wire_compare(&got, &want, why) != OT_OK) {
        return -1;
    }
    t->run->late = ot_late_later(t->run->late, got.late);
    return k;
}

/* One piece of the ot_fifo_front message; *stop when it may go no further yet. */
static ssize_t take_piece(ot_exec *e, ot_peer *p, ot_entry *t, bool *stop)
{
    ot_run *r = t->run;
    const ot_step *s = &r->schedule.steps[t->step];
    ot_step_state *st = &r->states[t->step];
    if (p->in_n < OT_WIRE_HEADER) {
        return take_header(e, p, t);
    }
    uint64_t n = limit(r, s) - OT_MIN(limit(r, s), st->done);
    if (s->kind == OT_STEP_REDUCE) {
        n -= n % ot_dtype_bytes((overtake_dtype)r->dtype);
    }
    if (n == 0) {
        *stop = true;
        return 0;
    }
    if (s->kind == OT_STEP_REDUCE) {
        return reduce_some(e, p, t, n);
    }
    ssize_t k = p->link->ops->recv(p->link, at(r, s->to, s->offset + st->done),
                                   OT_MIN(n, (uint64_t)OT_RECV_PIECE));
    st->done += k > 0 ? (uint64_t)k : 0;
    return k;
}

uint64_t ot_exec_recv(ot_exec *e, ot_peer *p)
{
    uint64_t moved = 0;
    ot_entry *t;
    while (p->can_read && moved < QUANTUM && (t = ot_fifo_front(&p->recv)) != NULL) {
        bool stop = false;
        ssize_t k = take_piece(e, p, t, &stop);
        if (k < 0) {
            broke(e, p, t->run, &p->link->why);
            break;
        }
        if (k == 0) {
            p->can_read = stop;
            break;
        }
        moved += (uint64_t)k;
        if (p->in_n == OT_WIRE_HEADER &&
            t->run->states[t->step].done == t->run->schedule.steps[t->step].bytes) {
            complete(t->run, t->step);
            pop(&p->recv);
            p->in_n = 0;
        }
    }
    e->stats.bytes_in += moved;
    return moved;
}

/* --- steps of no peer --------------------------------------------------------------------- */

static uint64_t local_piece(ot_run *r, uint32_t i)
{
    const ot_step *s = &r->schedule.steps[i];
    ot_step_state *st = &r->states[i];
    uint64_t n = OT_MIN(limit(r, s) - OT_MIN(limit(r, s), st->done), (uint64_t)OT_RECV_PIECE);
    uint8_t *to = at(r, s->to, s->offset + st->done);
    const uint8_t *from = at(r, s->from, s->from_offset + st->done);
    if (s->kind == OT_STEP_FOLD) {
        n -= n % ot_dtype_bytes((overtake_dtype)r->dtype);
        fold(r, to, to, from, n);
    } else if (to != from && n > 0) {
        memmove(to, from, n);
    }
    st->done += n;
    if (st->done == s->bytes && ot_step_may_start(r, s)) {
        complete(r, i);
        r->local--;
        n += 1; /* something has changed, also for a step of no bytes */
    }
    return n;
}

uint64_t ot_exec_local(ot_run *r)
{
    uint64_t moved = 0;
    for (uint32_t i = 0; r->local > 0 && i < r->schedule.n; i++) {
        if (r->schedule.steps[i].peer < 0 && !r->states[i].complete) {
            moved += local_piece(r, i);
        }
    }
    return moved;
}
