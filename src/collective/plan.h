/* The plan: which operations run next, in which order, in which buckets. A pure state machine, one
 * a group and rank; the simulated network runs the very same code.
 *
 * First step: each rank tells the coordinator (through a tree over the ranks, so that messages grow
 * with log n) which names it has; when all ranks have a name with matching signatures it is
 * appended, fused with its neighbours into buckets, to the order that all ranks are told. What does
 * not match fails on all ranks with a message that says which rank asked for what. Steady state: a
 * step that asks for the same names as the last one needs no control message: the buckets of the
 * plan begin, in order, as soon as all their tensors are here. A rank off the plan (a new name,
 * another signature, a tensor that the program waits for while its bucket lacks others, join, a
 * step that lacks names) says so; the ranks agree how many buckets of this step have begun
 * anywhere, these are finished as planned, the rest is negotiated, and a new plan is learnt.
 * Planned and negotiated operations run on two lanes, each with links of its own, so that one that
 * waits for a rank does not stop the other.
 *
 * Threads: belongs to the progress thread. Callbacks come from inside the calls below. */
#ifndef OT_COLLECTIVE_PLAN_H
#define OT_COLLECTIVE_PLAN_H

#include "base/error.h"
#include "overtake/collective.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum ot_lane { OT_LANE_PLANNED, OT_LANE_NEGOTIATED, OT_LANES } ot_lane;

/* What must agree between ranks before an operation runs; kinds that allow it (ALLGATHER, ALLTOALL)
 * differ in dims[0] and splits. */
typedef struct ot_signature {
    char name[OVERTAKE_NAME_MAX + 1];
    uint8_t kind, dtype, reduction; /* overtake_* */
    int32_t root, ndim;
    int64_t dims[OVERTAKE_DIMS_MAX];
    int64_t splits_sum; /* ALLTOALL: rows; the splits themselves go over the links */
    double prescale, postscale;
    uint32_t together, of; /* overtake_start: how many requests came as one (1: alone), and which */
} ot_signature;

/* One unit of work, the same on every rank but for its tickets. */
typedef struct ot_bucket {
    uint64_t seq; /* in its lane: the header of every message carries it */
    ot_lane lane;
    uint64_t epoch; /* of the plan; 0: negotiated */
    uint64_t hash;  /* over the signatures of its tensors: the receiver checks it */
    size_t n;
    const uint64_t *tickets; /* n; 0 where this rank has joined and gives the neutral element */
    const ot_signature *signatures; /* n */
    const int64_t *rows; /* ALLGATHER, ALLTOALL (n is 1): dims[0] of each rank; else NULL */
    int32_t last_joined; /* JOIN */
} ot_bucket;

typedef struct ot_plan_ops {
    /* To the same lane of control as ot_plan_message; reliable, in order. */
    void (*send)(void *arg, int32_t peer, const void *message, size_t n);
    /* Run it; ot_plan_done says when it has ended. Valid during the call. */
    void (*begin)(void *arg, const ot_bucket *b);
    /* The tensor will not run: mismatch, duplicate name. */
    void (*fail)(void *arg, uint64_t ticket, const ot_error *why, int32_t culprit);
    void *arg;
} ot_plan_ops;

typedef struct ot_plan_options {
    int32_t rank, size;
    uint64_t bucket_bytes; /* fusion: tensors are added while the sum stays below; 0: 32 MiB */
    uint64_t first_bytes, last_bytes; /* a small first and a small last bucket; 0: 1 MiB */
    const char *const *hosts;         /* size of them: for messages; must outlive the plan */
    bool learn;                       /* false: every step is negotiated */
} ot_plan_options;

typedef struct ot_plan ot_plan;

ot_rc ot_plan_create(const ot_plan_options *o, const ot_plan_ops *ops, ot_plan **plan_out,
                     ot_error *err) OT_CHECKED;
void ot_plan_destroy(ot_plan *p);
/* A tensor of this rank is ready. `ticket` is not 0 and the caller's. Copies the signature. */
ot_rc ot_plan_submit(ot_plan *p, const ot_signature *s, uint64_t ticket, ot_error *err) OT_CHECKED;
/* The program waits for this ticket: if it can't begin as planned, negotiate now. */
void ot_plan_waiting(ot_plan *p, uint64_t ticket);
/* Call after a batch of submits: control messages leave once a turn. */
void ot_plan_turn(ot_plan *p);
void ot_plan_message(ot_plan *p, int32_t from, const void *message, size_t n);
void ot_plan_done(ot_plan *p, ot_lane lane, uint64_t seq);

typedef struct ot_plan_stats {
    uint64_t control_messages, control_bytes; /* sent */
    uint64_t buckets_planned, buckets_negotiated, replans;
} ot_plan_stats;
ot_plan_stats ot_plan_get_stats(const ot_plan *p);
/* Names that this rank lacks or has while others do not, for the message of a stall: "rank 2 (host
 * b) has not asked for 'conv1/w' (3 ranks have, for 12 s)". */
size_t ot_plan_waits(const ot_plan *p, char *text, size_t size);

#endif
