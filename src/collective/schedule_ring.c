/* The ring: each rank sends to the next and hears from the one before it. n-1 hops reduce, n-1 hops
 * spread; every byte goes 2(n-1)/n times, the least there is. The ring goes through one host after
 * the other, so that one link leads into each and one out of it. */
#include "collective/schedule_internal.h"

#include "base/mem.h"

static int32_t place(const ot_team *t, int32_t i)
{
    return (i % t->n + t->n) % t->n;
}

static int32_t neighbour(const ot_team *t, int32_t step)
{
    return t->ranks[place(t, t->me + step)];
}

int32_t ot_ring_reduce(ot_builder *b, const ot_team *t, const ot_chunks *c, ot_buffer in,
                       ot_buffer acc, int32_t since)
{
    int32_t reduced = OT_NO_STEP;
    for (int32_t s = 0; s < t->n - 1; s++) {
        int32_t out = place(t, t->me - 1 - s), next = place(t, t->me - 2 - s);
        ot_put_send(b, neighbour(t, 1), OT_AT(s == 0 ? in : acc, c->at[out]), c->bytes[out],
                    (ot_wait){reduced, since});
        reduced = ot_put_reduce(b, neighbour(t, -1), OT_AT(in, c->at[next]),
                                OT_AT(acc, c->at[next]), c->bytes[next], OT_SINCE(since));
    }
    return reduced;
}

int32_t ot_ring_gather(ot_builder *b, const ot_team *t, const ot_chunks *c, ot_buffer buffer,
                       ot_wait own)
{
    int32_t last = OT_MAX(own.after, own.since);
    ot_wait have = own;
    for (int32_t s = 0; s < t->n - 1; s++) {
        int32_t out = place(t, t->me - s), next = place(t, t->me - 1 - s);
        ot_put_send(b, neighbour(t, 1), OT_AT(buffer, c->at[out]), c->bytes[out], have);
        int32_t came = ot_put_recv(b, neighbour(t, -1), OT_AT(buffer, c->at[next]), c->bytes[next],
                                   OT_ANYTIME);
        have = OT_AFTER(came);
        last = came == OT_NO_STEP ? last : came;
    }
    return last;
}

/* What is on its way is summed in two slots of the size of the largest chunk by turns. */
static void reduce_scatter(ot_builder *b, const ot_team *t, const ot_chunks *c)
{
    uint64_t slot = 0;
    for (int32_t i = 0; i < t->n; i++) {
        slot = OT_MAX(slot, c->bytes[i]);
    }
    b->s->scratch_bytes = t->n > 2 ? 2 * slot : 0;
    ot_spot from = OT_AT(OT_BUFFER_IN, c->at[place(t, t->me - 1)]);
    int32_t reduced = OT_NO_STEP, sent_before = OT_NO_STEP;
    for (int32_t s = 0; s < t->n - 1; s++) {
        int32_t out = place(t, t->me - 1 - s), next = place(t, t->me - 2 - s);
        int32_t sent = ot_put_send(b, neighbour(t, 1), from, c->bytes[out], OT_AFTER(reduced));
        ot_spot to = s == t->n - 2 ? OT_AT(OT_BUFFER_OUT, 0)
                                   : OT_AT(OT_BUFFER_SCRATCH, (uint64_t)(s % 2) * slot);
        /* The slot is free when what it held two hops ago has been sent on. */
        reduced = ot_put_reduce(b, neighbour(t, -1), OT_AT(OT_BUFFER_IN, c->at[next]), to,
                                c->bytes[next], OT_SINCE(sent_before));
        sent_before = sent == OT_NO_STEP ? sent_before : sent;
        from = to;
    }
}

static void all_gather(ot_builder *b, const ot_team *t, const ot_chunks *c)
{
    int32_t own = ot_put_copy(b, OT_AT(OT_BUFFER_IN, 0), OT_AT(OT_BUFFER_OUT, c->at[t->me]),
                              c->bytes[t->me], OT_ANYTIME);
    ot_ring_gather(b, t, c, OT_BUFFER_OUT, OT_AFTER(own));
}

/* From the root around the ring, each rank sending on what has come. */
static void chain(ot_builder *b, const ot_team *t)
{
    uint64_t bytes = b->shape->count * b->shape->elem_bytes;
    int32_t far = place(t, t->me - t->places[b->shape->root]);
    ot_spot out = OT_AT(OT_BUFFER_OUT, 0);
    int32_t have = far == 0 ? ot_put_copy(b, OT_AT(OT_BUFFER_IN, 0), out, bytes, OT_ANYTIME)
                            : ot_put_recv(b, neighbour(t, -1), out, bytes, OT_ANYTIME);
    if (far < t->n - 1) {
        ot_put_send(b, neighbour(t, 1), out, bytes, OT_AFTER(have));
    }
}

ot_rc ot_schedule_ring(ot_builder *b, const ot_team *t, ot_chunks *c)
{
    const ot_coll_shape *s = b->shape;
    switch (s->kind) {
    case OVERTAKE_ALLREDUCE:
        ot_chunks_even(c, t->n, 0, s->count * s->elem_bytes, s->elem_bytes);
        ot_ring_gather(b, t, c, OT_BUFFER_OUT,
                       OT_AFTER(ot_ring_reduce(b, t, c, OT_BUFFER_IN, OT_BUFFER_OUT, OT_NO_STEP)));
        return OT_OK;
    case OVERTAKE_ALLGATHER:
        ot_chunks_ragged(c, s, t);
        all_gather(b, t, c);
        return OT_OK;
    case OVERTAKE_REDUCESCATTER:
        ot_chunks_ragged(c, s, t);
        reduce_scatter(b, t, c);
        return OT_OK;
    case OVERTAKE_BROADCAST:
        chain(b, t);
        return OT_OK;
    default:
        return OT_UNIMPLEMENTED;
    }
}
