#include "collective/schedule_internal.h"

#include "base/mem.h"

#include <string.h>

const char *ot_algorithm_name(ot_algorithm a)
{
    static const char *const names[OT_ALGOS] = {"ring", "halving", "tree", "direct", "hosts"};
    return (unsigned)a < OT_ALGOS ? names[a] : "unknown";
}

void ot_schedule_done(ot_schedule *s)
{
    ot_free(s->steps);
    memset(s, 0, sizeof *s);
}

static int32_t put(ot_builder *b, ot_step step)
{
    ot_schedule *s = b->s;
    if (step.bytes == 0 || b->short_of_memory) {
        return OT_NO_STEP;
    }
    if (s->n == s->cap) {
        size_t cap = s->cap == 0 ? 32 : 2 * s->cap;
        ot_step *steps = cap > INT32_MAX ? NULL : ot_realloc(s->steps, cap * sizeof *steps);
        if (steps == NULL) {
            b->short_of_memory = true;
            return OT_NO_STEP;
        }
        s->steps = steps;
        s->cap = cap;
    }
    s->steps[s->n] = step;
    return (int32_t)s->n++;
}

int32_t ot_put_send(ot_builder *b, int32_t peer, ot_spot from, uint64_t bytes, ot_wait w)
{
    return put(b, (ot_step){.kind = OT_STEP_SEND,
                            .from = (uint8_t)from.buffer,
                            .peer = peer,
                            .offset = from.offset,
                            .bytes = bytes,
                            .after = w.after,
                            .since = w.since});
}

int32_t ot_put_recv(ot_builder *b, int32_t peer, ot_spot to, uint64_t bytes, ot_wait w)
{
    return put(b, (ot_step){.kind = OT_STEP_RECV,
                            .to = (uint8_t)to.buffer,
                            .peer = peer,
                            .offset = to.offset,
                            .bytes = bytes,
                            .after = w.after,
                            .since = w.since});
}

static int32_t put_from_to(ot_builder *b, ot_step_kind kind, int32_t peer, ot_spot from, ot_spot to,
                           uint64_t bytes, ot_wait w)
{
    return put(b, (ot_step){.kind = (uint8_t)kind,
                            .from = (uint8_t)from.buffer,
                            .to = (uint8_t)to.buffer,
                            .peer = peer,
                            .from_offset = from.offset,
                            .offset = to.offset,
                            .bytes = bytes,
                            .after = w.after,
                            .since = w.since});
}

int32_t ot_put_reduce(ot_builder *b, int32_t peer, ot_spot from, ot_spot to, uint64_t bytes,
                      ot_wait w)
{
    return put_from_to(b, OT_STEP_REDUCE, peer, from, to, bytes, w);
}

int32_t ot_put_copy(ot_builder *b, ot_spot from, ot_spot to, uint64_t bytes, ot_wait w)
{
    return put_from_to(b, OT_STEP_COPY, -1, from, to, bytes, w);
}

int32_t ot_put_fold(ot_builder *b, ot_spot from, ot_spot to, uint64_t bytes, ot_wait w)
{
    return put_from_to(b, OT_STEP_FOLD, -1, from, to, bytes, w);
}

void ot_chunks_even(ot_chunks *c, int32_t n, uint64_t offset, uint64_t bytes, uint32_t elem_bytes)
{
    uint64_t count = bytes / elem_bytes, each = count / (uint64_t)n, more = count % (uint64_t)n;
    for (int32_t i = 0; i < n; i++) {
        c->at[i] = offset;
        c->bytes[i] = (each + ((uint64_t)i < more ? 1 : 0)) * elem_bytes;
        offset += c->bytes[i];
    }
}

void ot_chunks_ragged(ot_chunks *c, const ot_coll_shape *shape, const ot_team *t)
{
    uint64_t offset = 0;
    for (int32_t r = 0; r < t->n; r++) {
        uint64_t bytes = shape->counts[r] * shape->elem_bytes;
        c->at[t->places[r]] = offset;
        c->bytes[t->places[r]] = bytes;
        offset += bytes;
    }
}

/* One rank: out is in. */
static void alone(ot_builder *b)
{
    const ot_coll_shape *s = b->shape;
    uint64_t count = 0;
    switch (s->kind) {
    case OVERTAKE_ALLREDUCE:
    case OVERTAKE_BROADCAST:
        count = s->count;
        break;
    case OVERTAKE_ALLGATHER:
    case OVERTAKE_REDUCESCATTER:
        count = s->counts[0];
        break;
    case OVERTAKE_ALLTOALL:
        count = s->sends[0];
        break;
    default:
        break;
    }
    ot_put_copy(b, OT_AT(OT_BUFFER_IN, 0), OT_AT(OT_BUFFER_OUT, 0), count * s->elem_bytes,
                OT_ANYTIME);
}

/* Places of the ranks host by host, in rank order within each; a host stands where its first rank
 * does. hosts NULL: in rank order. */
static void set_places(const int32_t *hosts, int32_t size, int32_t *ranks, int32_t *places)
{
    memset(places, -1, (size_t)size * sizeof *places);
    for (int32_t first = 0, n = 0; first < size; first++) {
        if (places[first] >= 0) {
            continue;
        }
        int32_t end = hosts == NULL ? first + 1 : size;
        for (int32_t r = first; r < end; r++) {
            if (r == first || hosts[r] == hosts[first]) {
                places[r] = n;
                ranks[n++] = r;
            }
        }
    }
}

static ot_rc build(ot_algorithm a, ot_builder *b)
{
    static ot_rc (*const algorithms[OT_ALGOS])(ot_builder *, const ot_team *, ot_chunks *) = {
        [OT_ALGO_RING] = ot_schedule_ring,   [OT_ALGO_HALVING] = ot_schedule_halving,
        [OT_ALGO_TREE] = ot_schedule_tree,   [OT_ALGO_DIRECT] = ot_schedule_direct,
        [OT_ALGO_HOSTS] = ot_schedule_hosts,
    };
    if ((unsigned)a >= OT_ALGOS) {
        return OT_UNIMPLEMENTED;
    }
    size_t n = (size_t)b->shape->size;
    OT_AUTO(ot_free_ptr) int32_t *ranks = ot_calloc(2 * n, sizeof *ranks);
    OT_AUTO(ot_free_ptr) uint64_t *chunks = ot_calloc(2 * n, sizeof *chunks);
    if (ranks == NULL || chunks == NULL) {
        return OT_EXHAUSTED;
    }
    bool by_host = a == OT_ALGO_RING || a == OT_ALGO_HOSTS;
    set_places(by_host ? b->shape->hosts : NULL, b->shape->size, ranks, ranks + n);
    ot_team t = {ranks, ranks + n, (int32_t)n, ranks[n + (size_t)b->shape->rank]};
    ot_rc rc = algorithms[a](b, &t, &(ot_chunks){chunks, chunks + n});
    return b->short_of_memory ? OT_EXHAUSTED : rc;
}

ot_rc ot_schedule_build(ot_algorithm a, const ot_coll_shape *shape, ot_schedule *out, ot_error *err)
{
    ot_schedule s = {0};
    ot_builder b = {.s = &s, .shape = shape};
    ot_rc rc = OT_OK;
    if (shape->size == 1) {
        alone(&b);
        rc = b.short_of_memory ? OT_EXHAUSTED : OT_OK;
    } else {
        rc = build(a, &b);
    }
    if (rc == OT_OK) {
        *out = s;
        return OT_OK;
    }
    ot_schedule_done(&s);
    return rc == OT_UNIMPLEMENTED
               ? ot_fail(err, rc, "algorithm %s does not do operations of kind %d",
                         ot_algorithm_name(a), (int)shape->kind)
               : ot_fail(err, rc, "no memory for the steps of an operation of %d ranks",
                         (int)shape->size);
}
