/* The binomial tree: about log2 n hops, for what is so small that hops are all that counts. Every
 * hop streams behind the one below it. */
#include "collective/schedule_internal.h"

int32_t ot_tree_spread(ot_builder *b, const ot_team *t, int32_t root, uint64_t bytes, int32_t have)
{
    int32_t v = (t->me - root + t->n) % t->n, below = 1;
    while (below < t->n && (v & below) == 0) {
        below *= 2;
    }
    if (v != 0) {
        have = ot_put_recv(b, t->ranks[(v - below + root) % t->n], OT_AT(OT_BUFFER_OUT, 0), bytes,
                           OT_ANYTIME);
    }
    for (int32_t child = below / 2; child > 0; child /= 2) {
        if (v + child < t->n) {
            ot_put_send(b, t->ranks[(v + child + root) % t->n], OT_AT(OT_BUFFER_OUT, 0), bytes,
                        OT_AFTER(have));
        }
    }
    return have;
}

/* To place 0; gives the step after which OUT holds the sum there. */
static int32_t gather_sum(ot_builder *b, const ot_team *t, uint64_t bytes)
{
    ot_spot in = OT_AT(OT_BUFFER_IN, 0), out = OT_AT(OT_BUFFER_OUT, 0), have = in;
    int32_t sum = OT_NO_STEP;
    for (int32_t child = 1; child < t->n; child *= 2) {
        if ((t->me & child) != 0) {
            ot_put_send(b, t->ranks[t->me - child], have, bytes, OT_AFTER(sum));
            break;
        }
        if (t->me + child < t->n) {
            sum = ot_put_reduce(b, t->ranks[t->me + child], have, out, bytes, OT_AFTER(sum));
            have = out;
        }
    }
    return sum;
}

ot_rc ot_schedule_tree(ot_builder *b, const ot_team *t, ot_chunks *c)
{
    (void)c;
    const ot_coll_shape *s = b->shape;
    uint64_t bytes = s->count * s->elem_bytes;
    int32_t have = OT_NO_STEP;
    switch (s->kind) {
    case OVERTAKE_ALLREDUCE:
        ot_tree_spread(b, t, 0, bytes, gather_sum(b, t, bytes));
        return OT_OK;
    case OVERTAKE_BROADCAST:
        if (s->rank == s->root) {
            have =
                ot_put_copy(b, OT_AT(OT_BUFFER_IN, 0), OT_AT(OT_BUFFER_OUT, 0), bytes, OT_ANYTIME);
        }
        ot_tree_spread(b, t, t->places[s->root], bytes, have);
        return OT_OK;
    default:
        return OT_UNIMPLEMENTED;
    }
}
