/* What the algorithms share: steps put one behind the other, teams of ranks, chunks of bytes.
 *
 * Every algorithm works on byte ranges, so that one may be part of another (schedule_hosts.c).
 * Threads: pure. */
#ifndef OT_COLLECTIVE_SCHEDULE_INTERNAL_H
#define OT_COLLECTIVE_SCHEDULE_INTERNAL_H

#include "collective/schedule.h"

#include <stdbool.h>

#define OT_NO_STEP (-1)
/* DIRECT sums an allreduce of up to so many bytes on every rank, a larger one cut up. */
#define OT_DIRECT_ONCE_BYTES 8192u

typedef struct ot_builder {
    ot_schedule *s;
    const ot_coll_shape *shape;
    bool short_of_memory;
} ot_builder;

/* Ranks of the group in the order that an algorithm visits them. */
typedef struct ot_team {
    const int32_t *ranks;  /* by place */
    const int32_t *places; /* by rank */
    int32_t n, me;         /* me: this rank's place */
} ot_team;

/* A place in a buffer. */
typedef struct ot_spot {
    ot_buffer buffer;
    uint64_t offset;
} ot_spot;

/* What a step waits for. */
typedef struct ot_wait {
    int32_t after, since;
} ot_wait;

#define OT_AT(b, o) ((ot_spot){(b), (o)})
#define OT_AFTER(step) ((ot_wait){(step), OT_NO_STEP})
#define OT_SINCE(step) ((ot_wait){OT_NO_STEP, (step)})
#define OT_ANYTIME ((ot_wait){OT_NO_STEP, OT_NO_STEP})

/* Each gives the step's index, or OT_NO_STEP when there are no bytes: what waits for that has
 * nothing to wait for. */
int32_t ot_put_send(ot_builder *b, int32_t peer, ot_spot from, uint64_t bytes, ot_wait w);
int32_t ot_put_recv(ot_builder *b, int32_t peer, ot_spot to, uint64_t bytes, ot_wait w);
int32_t ot_put_reduce(ot_builder *b, int32_t peer, ot_spot from, ot_spot to, uint64_t bytes,
                      ot_wait w);
int32_t ot_put_copy(ot_builder *b, ot_spot from, ot_spot to, uint64_t bytes, ot_wait w);
int32_t ot_put_fold(ot_builder *b, ot_spot from, ot_spot to, uint64_t bytes, ot_wait w);

/* Where the chunk of each place lies, in every buffer, and its size. */
typedef struct ot_chunks {
    uint64_t *at, *bytes;
} ot_chunks;

/* n chunks of the range, as even as whole elements allow. */
void ot_chunks_even(ot_chunks *c, int32_t n, uint64_t offset, uint64_t bytes, uint32_t elem_bytes);
/* From the shape's counts, in the team's order. */
void ot_chunks_ragged(ot_chunks *c, const ot_coll_shape *shape, const ot_team *t);

/* The algorithms, over all ranks; OT_UNIMPLEMENTED for a kind that they don't do.
 * `c` is room for a chunk each. */
ot_rc ot_schedule_ring(ot_builder *b, const ot_team *t, ot_chunks *c);
ot_rc ot_schedule_halving(ot_builder *b, const ot_team *t, ot_chunks *c);
ot_rc ot_schedule_tree(ot_builder *b, const ot_team *t, ot_chunks *c);
ot_rc ot_schedule_direct(ot_builder *b, const ot_team *t, ot_chunks *c);
ot_rc ot_schedule_hosts(ot_builder *b, const ot_team *t, ot_chunks *c);

/* Parts for others. Reduce-scatter by the ring, from `in` into `acc`, which may be one, none of it
 * before `since`; gives the step after which the chunk of this place is reduced. Allgather in
 * place: the own chunk is there as `own` says; gives the last step. */
int32_t ot_ring_reduce(ot_builder *b, const ot_team *t, const ot_chunks *c, ot_buffer in,
                       ot_buffer acc, int32_t since);
int32_t ot_ring_gather(ot_builder *b, const ot_team *t, const ot_chunks *c, ot_buffer buffer,
                       ot_wait own);
/* Binomial broadcast of OUT[0, bytes) from a place: there it is after `have`; gives the step after
 * which it is here. */
int32_t ot_tree_spread(ot_builder *b, const ot_team *t, int32_t root, uint64_t bytes, int32_t have);

#endif
