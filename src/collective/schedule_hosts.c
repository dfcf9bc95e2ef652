/* Host by host: an allreduce is reduced and scattered inside each host, each rank's chunk summed
 * with those of the ranks of the same number on the other hosts, and gathered inside: the wire
 * between hosts carries 2(h-1)/h of the bytes. Where hosts have different numbers of ranks, as many
 * ranks of each as the smallest has take a chunk. */
#include "collective/schedule_internal.h"

#include "base/mem.h"

typedef struct hosts {
    int32_t n, smallest; /* hosts; ranks of the smallest */
    ot_team local;       /* this host's */
} hosts;

static bool together(const ot_coll_shape *s, const ot_team *t, int32_t a, int32_t b)
{
    return s->hosts != NULL && s->hosts[t->ranks[a]] == s->hosts[t->ranks[b]];
}

/* `leads` (room for t->n) becomes the place of each host's first rank. */
static hosts find_hosts(const ot_coll_shape *s, const ot_team *t, int32_t *leads)
{
    hosts h = {.smallest = t->n};
    for (int32_t first = 0, end; first < t->n; first = end) {
        for (end = first + 1; end < t->n && together(s, t, first, end); end++) {
        }
        if (first <= t->me && t->me < end) {
            h.local = (ot_team){t->ranks + first, NULL, end - first, t->me - first};
        }
        h.smallest = OT_MIN(h.smallest, end - first);
        leads[h.n++] = first;
    }
    return h;
}

/* This rank's chunk of the host's sum, with those of the other hosts; gives the step after which
 * the sum over all is there. */
static int32_t across(ot_builder *b, const ot_team *t, const hosts *h, const int32_t *leads,
                      uint64_t at, uint64_t bytes, int32_t have)
{
    size_t n = (size_t)h->n;
    OT_AUTO(ot_free_ptr) int32_t *ranks = ot_calloc(n, sizeof *ranks);
    OT_AUTO(ot_free_ptr) uint64_t *chunks = ot_calloc(2 * n, sizeof *chunks);
    if (ranks == NULL || chunks == NULL) {
        b->short_of_memory = true;
        return OT_NO_STEP;
    }
    ot_team team = {ranks, NULL, h->n, 0};
    for (int32_t i = 0; i < h->n; i++) {
        ranks[i] = t->ranks[leads[i] + h->local.me];
        team.me = ranks[i] == b->shape->rank ? i : team.me;
    }
    ot_chunks c = {chunks, chunks + n};
    ot_chunks_even(&c, h->n, at, bytes, b->shape->elem_bytes);
    ot_buffer in = h->local.n == 1 ? OT_BUFFER_IN : OT_BUFFER_OUT;
    int32_t own = ot_ring_reduce(b, &team, &c, in, OT_BUFFER_OUT, have);
    return ot_ring_gather(b, &team, &c, OT_BUFFER_OUT, OT_AFTER(own));
}

static void allreduce(ot_builder *b, const ot_team *t, const hosts *h, const int32_t *leads,
                      ot_chunks *c)
{
    const ot_coll_shape *s = b->shape;
    int32_t me = h->local.me;
    ot_chunks_even(c, h->smallest, 0, s->count * s->elem_bytes, s->elem_bytes);
    for (int32_t i = h->smallest; i < h->local.n; i++) {
        c->at[i] = c->bytes[i] = 0;
    }
    int32_t have = ot_ring_reduce(b, &h->local, c, OT_BUFFER_IN, OT_BUFFER_OUT, OT_NO_STEP);
    if (me < h->smallest && h->n > 1) {
        have = across(b, t, h, leads, c->at[me], c->bytes[me], have);
    }
    ot_ring_gather(b, &h->local, c, OT_BUFFER_OUT, OT_SINCE(have));
}

/* From the root to one rank of each other host, and on inside each. */
static void broadcast(ot_builder *b, const ot_team *t, const hosts *h, int32_t *leads)
{
    const ot_coll_shape *s = b->shape;
    uint64_t bytes = s->count * s->elem_bytes;
    int32_t have = OT_NO_STEP, root = 0, mine = 0, root_place = t->places[s->root];
    if (s->rank == s->root) {
        have = ot_put_copy(b, OT_AT(OT_BUFFER_IN, 0), OT_AT(OT_BUFFER_OUT, 0), bytes, OT_ANYTIME);
    }
    for (int32_t i = 0; i < h->n; i++) {
        root = leads[i] <= root_place ? i : root;
        mine = leads[i] <= t->me ? i : mine;
    }
    int32_t lead = mine == root ? root_place - leads[mine] : 0;
    leads[root] = root_place;
    for (int32_t i = 0; i < h->n; i++) {
        leads[i] = t->ranks[leads[i]];
    }
    if (h->local.me == lead) {
        have = ot_tree_spread(b, &(ot_team){leads, NULL, h->n, mine}, root, bytes, have);
    }
    ot_tree_spread(b, &h->local, lead, bytes, have);
}

ot_rc ot_schedule_hosts(ot_builder *b, const ot_team *t, ot_chunks *c)
{
    OT_AUTO(ot_free_ptr) int32_t *leads = ot_calloc((size_t)t->n, sizeof *leads);
    if (leads == NULL) {
        return OT_EXHAUSTED;
    }
    hosts h = find_hosts(b->shape, t, leads);
    switch (b->shape->kind) {
    case OVERTAKE_ALLREDUCE:
        allreduce(b, t, &h, leads, c);
        return OT_OK;
    case OVERTAKE_BROADCAST:
        broadcast(b, t, &h, leads);
        return OT_OK;
    default:
        return OT_UNIMPLEMENTED;
    }
}
