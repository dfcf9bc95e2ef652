/* Schedules: what one rank does in one collective operation, as a list of steps.
 *
 * An algorithm is a pure function from (kind, rank, ranks, sizes) to a schedule; it knows nothing
 * of sockets. The executor (exec.h) runs a schedule over links; the tests run the schedules of all
 * ranks against a naive reference.
 *
 * Steps with the same peer and direction happen in the order of the list: that order is the wire
 * format. A sender's step and the receiver's step that meets it have the same number of bytes.
 * Dependencies stream: a step with `after` goes on as far as that step has got (both cover the same
 * number of bytes, front to back), so that a ring sends on what it has just reduced; a step with
 * `since` begins only once that step is complete. A step may have both. No step is empty. Local
 * steps have no order but their dependencies.
 *
 * IN and OUT of an ALLREDUCE or BROADCAST are one place or don't overlap; IN of an ALLGATHER may be
 * its own part of OUT; elsewhere they don't overlap. A COPY onto itself is allowed. A BARRIER has
 * one byte of IN and one of OUT.
 *
 * Threads: pure. Lifetime: a schedule owns its steps. */
#ifndef OT_COLLECTIVE_SCHEDULE_H
#define OT_COLLECTIVE_SCHEDULE_H

#include "base/error.h"
#include "overtake/collective.h"

#include <stddef.h>
#include <stdint.h>

typedef enum ot_step_kind {
    OT_STEP_SEND,   /* from[offset, +bytes) to peer */
    OT_STEP_RECV,   /* from peer into to[offset, +bytes) */
    OT_STEP_REDUCE, /* to[offset, +bytes) = from[from_offset, +bytes) (op) what comes from peer;
                       the two places may be the same */
    OT_STEP_COPY,   /* from[from_offset, +bytes) to to[offset, +bytes); local */
    OT_STEP_FOLD,   /* to[offset, ...) = to[offset, ...) (op) from[from_offset, ...); local */
} ot_step_kind;

typedef enum ot_buffer { OT_BUFFER_IN, OT_BUFFER_OUT, OT_BUFFER_SCRATCH, OT_BUFFERS } ot_buffer;

typedef struct ot_step {
    uint8_t kind;     /* ot_step_kind */
    uint8_t from, to; /* ot_buffer */
    int32_t peer;     /* rank in the group; -1: local */
    int32_t after;    /* streams behind this earlier step; -1: none */
    int32_t since;    /* begins when this earlier step is complete; -1: none */
    uint64_t offset, from_offset, bytes;
} ot_step;

typedef struct ot_schedule {
    ot_step *steps;
    size_t n, cap;
    uint64_t scratch_bytes;
} ot_schedule;

void ot_schedule_done(ot_schedule *s);

typedef enum ot_algorithm {
    OT_ALGO_RING,    /* 2(n-1) steps, 2(n-1)/n of the bytes: bandwidth-optimal */
    OT_ALGO_HALVING, /* recursive halving and doubling: 2 log2 n steps, the same bytes */
    OT_ALGO_TREE,   /* binomial: reduce to rank 0 and back (allreduce), from the root (broadcast) */
    OT_ALGO_DIRECT, /* everybody with everybody: one or two steps */
    OT_ALGO_HOSTS,  /* inside each host first, then between hosts, then back */
    OT_ALGOS
} ot_algorithm;

const char *ot_algorithm_name(ot_algorithm a);

/* What an operation is to an algorithm. Counts are elements of elem_bytes. */
typedef struct ot_coll_shape {
    overtake_kind kind;
    int32_t rank, size; /* in the group */
    int32_t root;       /* BROADCAST */
    uint32_t elem_bytes;
    uint64_t count; /* ALLREDUCE, BROADCAST: elements of in and out */
    const uint64_t
        *counts; /* ALLGATHER, REDUCESCATTER: size of them, elements of each rank's part */
    const uint64_t *sends, *recvs; /* ALLTOALL: elements to and from each rank */
    const int32_t *hosts; /* size of them: a number a host, equal for ranks that share memory; NULL:
                             all apart */
} ot_coll_shape;

/* OT_UNIMPLEMENTED: this algorithm does not do that kind (ot_cost_choose never asks). */
ot_rc ot_schedule_build(ot_algorithm a, const ot_coll_shape *shape, ot_schedule *out,
                        ot_error *err) OT_CHECKED;

#endif
