/* Everybody with everybody: one step, or two for an allreduce that is worth cutting up. Sums go in
 * a fixed order of ranks, whoever is heard first. */
#include "collective/schedule_internal.h"

/* The i-th of the n-1 others to send to, and to hear from: each rank begins with another, so that
 * none hears all at once. Places. */
static int32_t to(const ot_team *t, int32_t i)
{
    return (t->me + i) % t->n;
}

static int32_t from(const ot_team *t, int32_t i)
{
    return (t->me - i + t->n) % t->n;
}

/* Each other's chunk of IN goes to it. */
static void send_theirs(ot_builder *b, const ot_team *t, const ot_chunks *c)
{
    for (int32_t i = 1; i < t->n; i++) {
        int32_t p = to(t, i);
        ot_put_send(b, t->ranks[p], OT_AT(OT_BUFFER_IN, c->at[p]), c->bytes[p], OT_ANYTIME);
    }
}

/* `bytes` of one place go to all others. */
static void send_to_all(ot_builder *b, const ot_team *t, ot_spot spot, uint64_t bytes, ot_wait w)
{
    for (int32_t i = 1; i < t->n; i++) {
        ot_put_send(b, t->ranks[to(t, i)], spot, bytes, w);
    }
}

/* Each other's chunk of OUT comes from it. */
static void recv_theirs(ot_builder *b, const ot_team *t, const ot_chunks *c)
{
    for (int32_t i = 1; i < t->n; i++) {
        int32_t p = from(t, i);
        ot_put_recv(b, t->ranks[p], OT_AT(OT_BUFFER_OUT, c->at[p]), c->bytes[p], OT_ANYTIME);
    }
}

/* The own chunk of IN, then what comes for it from the others, in a fixed order. */
static int32_t sum_own(ot_builder *b, const ot_team *t, const ot_chunks *c, ot_spot out)
{
    int32_t sum = OT_NO_STEP;
    for (int32_t i = 1; i < t->n; i++) {
        ot_spot acc = i == 1 ? OT_AT(OT_BUFFER_IN, c->at[t->me]) : out;
        sum = ot_put_reduce(b, t->ranks[from(t, i)], acc, out, c->bytes[t->me], OT_AFTER(sum));
    }
    return sum;
}

/* Every rank hears all the others and sums in the order of places: the same bits everywhere. */
static void allreduce_once(ot_builder *b, const ot_team *t, uint64_t bytes)
{
    ot_spot own = OT_AT(OT_BUFFER_SCRATCH, 0), out = OT_AT(OT_BUFFER_OUT, 0);
    b->s->scratch_bytes = bytes;
    int32_t kept = ot_put_copy(b, OT_AT(OT_BUFFER_IN, 0), own, bytes, OT_ANYTIME);
    send_to_all(b, t, own, bytes, OT_AFTER(kept));
    int32_t sum = OT_NO_STEP;
    for (int32_t p = 0; p < t->n; p++) {
        ot_wait w = {sum, kept};
        if (p == 0) {
            sum = t->me == 0 ? ot_put_copy(b, own, out, bytes, w)
                             : ot_put_recv(b, t->ranks[0], out, bytes, w);
        } else {
            sum = p == t->me ? ot_put_fold(b, own, out, bytes, w)
                             : ot_put_reduce(b, t->ranks[p], out, out, bytes, w);
        }
    }
}

/* Each sums its chunk and hands it to all. */
static void allreduce_twice(ot_builder *b, const ot_team *t, const ot_chunks *c)
{
    ot_spot own = OT_AT(OT_BUFFER_OUT, c->at[t->me]);
    send_theirs(b, t, c);
    int32_t sum = sum_own(b, t, c, own);
    send_to_all(b, t, own, c->bytes[t->me], OT_AFTER(sum));
    recv_theirs(b, t, c);
}

static void allgather(ot_builder *b, const ot_team *t, const ot_chunks *c)
{
    ot_spot own = OT_AT(OT_BUFFER_OUT, c->at[t->me]);
    int32_t kept = ot_put_copy(b, OT_AT(OT_BUFFER_IN, 0), own, c->bytes[t->me], OT_ANYTIME);
    send_to_all(b, t, own, c->bytes[t->me], OT_AFTER(kept));
    recv_theirs(b, t, c);
}

static void alltoall(ot_builder *b, const ot_team *t, ot_chunks *c)
{
    ot_coll_shape view = *b->shape;
    view.counts = b->shape->sends;
    ot_chunks_ragged(c, &view, t);
    ot_spot own = OT_AT(OT_BUFFER_IN, c->at[t->me]);
    send_theirs(b, t, c);
    view.counts = b->shape->recvs;
    ot_chunks_ragged(c, &view, t);
    ot_put_copy(b, own, OT_AT(OT_BUFFER_OUT, c->at[t->me]), c->bytes[t->me], OT_ANYTIME);
    recv_theirs(b, t, c);
}

static void broadcast(ot_builder *b, const ot_team *t, uint64_t bytes)
{
    ot_spot in = OT_AT(OT_BUFFER_IN, 0), out = OT_AT(OT_BUFFER_OUT, 0);
    if (b->shape->rank == b->shape->root) {
        ot_put_copy(b, in, out, bytes, OT_ANYTIME);
        send_to_all(b, t, in, bytes, OT_ANYTIME);
    } else {
        ot_put_recv(b, b->shape->root, out, bytes, OT_ANYTIME);
    }
}

ot_rc ot_schedule_direct(ot_builder *b, const ot_team *t, ot_chunks *c)
{
    const ot_coll_shape *s = b->shape;
    uint64_t bytes = s->count * s->elem_bytes;
    switch (s->kind) {
    case OVERTAKE_ALLREDUCE:
        if (bytes <= OT_DIRECT_ONCE_BYTES) {
            allreduce_once(b, t, bytes);
        } else {
            ot_chunks_even(c, t->n, 0, bytes, s->elem_bytes);
            allreduce_twice(b, t, c);
        }
        return OT_OK;
    case OVERTAKE_ALLGATHER:
        ot_chunks_ragged(c, s, t);
        allgather(b, t, c);
        return OT_OK;
    case OVERTAKE_REDUCESCATTER:
        ot_chunks_ragged(c, s, t);
        send_theirs(b, t, c);
        sum_own(b, t, c, OT_AT(OT_BUFFER_OUT, 0));
        return OT_OK;
    case OVERTAKE_ALLTOALL:
        alltoall(b, t, c);
        return OT_OK;
    case OVERTAKE_BROADCAST:
        broadcast(b, t, bytes);
        return OT_OK;
    default:
        return OT_UNIMPLEMENTED;
    }
}
