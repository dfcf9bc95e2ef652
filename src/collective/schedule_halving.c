/* Recursive halving and doubling: a range of ranks is cut in two, each rank of one half trades with
 * one of the other, and each half goes on alone. About log2 n hops, any number of ranks: where one
 * half has a rank more, that one only gives, to the last of the other half. */
#include "collective/schedule_internal.h"

#include "base/mem.h"

#define LEVELS_MAX 32

typedef struct level {
    int32_t keep, keep_end; /* this rank's half: places [keep, keep_end) */
    int32_t give, give_end;
    int32_t to;    /* what is given goes to, and comes back from */
    int32_t peer;  /* -1: nobody gives to this rank here */
    int32_t extra; /* -1, or who gives beside the peer */
} level;

typedef struct range {
    uint64_t at, bytes;
} range;

static range span(const ot_chunks *c, int32_t first, int32_t end)
{
    return (range){c->at[first], c->at[end - 1] + c->bytes[end - 1] - c->at[first]};
}

static int32_t cut(const ot_team *t, level *levels)
{
    int32_t n = 0;
    for (int32_t lo = 0, hi = t->n; hi - lo > 1; n++) {
        int32_t mid = lo + (hi - lo + 1) / 2;
        bool odd = (hi - lo) % 2 != 0;
        level *l = &levels[n];
        if (t->me < mid) {
            int32_t peer = mid + (t->me - lo);
            *l = (level){lo, mid, mid, hi, OT_MIN(peer, hi - 1), peer < hi ? peer : -1, -1};
            hi = mid;
        } else {
            int32_t peer = lo + (t->me - mid);
            *l = (level){mid, hi, lo, mid, peer, peer, odd && t->me == hi - 1 ? mid - 1 : -1};
            lo = mid;
        }
    }
    return n;
}

/* From IN into acc, the last hop into `own`; gives the step after which the own chunk is there. */
static int32_t halve(ot_builder *b, const ot_team *t, const ot_chunks *c, ot_buffer acc,
                     ot_spot own)
{
    level levels[LEVELS_MAX];
    int32_t n = cut(t, levels), have = OT_NO_STEP;
    ot_buffer from = OT_BUFFER_IN;
    for (int32_t i = 0; i < n; i++) {
        const level *l = &levels[i];
        range give = span(c, l->give, l->give_end), keep = span(c, l->keep, l->keep_end);
        ot_put_send(b, t->ranks[l->to], OT_AT(from, give.at), give.bytes, OT_SINCE(have));
        if (l->peer < 0) {
            continue;
        }
        ot_spot to = i == n - 1 ? own : OT_AT(acc, keep.at);
        have = ot_put_reduce(b, t->ranks[l->peer], OT_AT(from, keep.at), to, keep.bytes,
                             OT_SINCE(have));
        if (l->extra >= 0) {
            have = ot_put_reduce(b, t->ranks[l->extra], to, to, keep.bytes, OT_AFTER(have));
        }
        from = acc;
    }
    return have;
}

/* OUT holds the own chunk after `have`. */
static void redouble(ot_builder *b, const ot_team *t, const ot_chunks *c, int32_t have)
{
    level levels[LEVELS_MAX];
    for (int32_t i = cut(t, levels) - 1; i >= 0; i--) {
        const level *l = &levels[i];
        range give = span(c, l->give, l->give_end), keep = span(c, l->keep, l->keep_end);
        if (l->peer >= 0) {
            ot_put_send(b, t->ranks[l->peer], OT_AT(OT_BUFFER_OUT, keep.at), keep.bytes,
                        OT_SINCE(have));
        }
        if (l->extra >= 0) {
            ot_put_send(b, t->ranks[l->extra], OT_AT(OT_BUFFER_OUT, keep.at), keep.bytes,
                        OT_SINCE(have));
        }
        int32_t came = ot_put_recv(b, t->ranks[l->to], OT_AT(OT_BUFFER_OUT, give.at), give.bytes,
                                   OT_SINCE(have));
        have = came == OT_NO_STEP ? have : came;
    }
}

/* Dissemination: after round k each has heard, over others, of the 2^k before it. */
static void barrier(ot_builder *b, const ot_team *t)
{
    int32_t heard = OT_NO_STEP;
    for (int32_t far = 1; far < t->n; far *= 2) {
        ot_put_send(b, t->ranks[(t->me + far) % t->n], OT_AT(OT_BUFFER_IN, 0), 1, OT_SINCE(heard));
        heard = ot_put_recv(b, t->ranks[(t->me - far + t->n) % t->n], OT_AT(OT_BUFFER_OUT, 0), 1,
                            OT_SINCE(heard));
    }
}

ot_rc ot_schedule_halving(ot_builder *b, const ot_team *t, ot_chunks *c)
{
    const ot_coll_shape *s = b->shape;
    ot_spot out = OT_AT(OT_BUFFER_OUT, 0), own;
    switch (s->kind) {
    case OVERTAKE_ALLREDUCE:
        ot_chunks_even(c, t->n, 0, s->count * s->elem_bytes, s->elem_bytes);
        own = OT_AT(OT_BUFFER_OUT, c->at[t->me]);
        redouble(b, t, c, halve(b, t, c, OT_BUFFER_OUT, own));
        return OT_OK;
    case OVERTAKE_REDUCESCATTER:
        ot_chunks_ragged(c, s, t);
        b->s->scratch_bytes = t->n > 2 ? span(c, 0, t->n).bytes : 0;
        halve(b, t, c, OT_BUFFER_SCRATCH, out);
        return OT_OK;
    case OVERTAKE_ALLGATHER:
        ot_chunks_ragged(c, s, t);
        own = OT_AT(OT_BUFFER_OUT, c->at[t->me]);
        redouble(b, t, c, ot_put_copy(b, OT_AT(OT_BUFFER_IN, 0), own, c->bytes[t->me], OT_ANYTIME));
        return OT_OK;
    case OVERTAKE_BARRIER:
        barrier(b, t);
        return OT_OK;
    default:
        return OT_UNIMPLEMENTED;
    }
}
