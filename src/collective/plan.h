/* The plan: which named operations run next, in which order, in which buckets. A pure state
 * machine, one a group and rank; the simulated network of the tests runs the very same code.
 *
 * Negotiation: each rank tells which names it has, up a tree of fan-out 8, so that messages grow
 * with the logarithm of the ranks. When all have a name with matching signatures, rank 0 appends
 * it, fused with its neighbours into buckets, to the one order that all ranks are told. What does
 * not match fails on all ranks and says which rank asked for what. Plan: the names of a step that
 * comes again become a plan, told once, in the order in which rank 0 asked, but for names that some
 * rank waits between. From then on a step needs no control message: the buckets
 * begin, in order, as soon as all their tensors are here. A rank off the plan (another signature, a
 * tensor that the program waits for while its bucket lacks others, join) says so; the ranks agree
 * how many buckets have begun anywhere, those are finished as planned, the rest is negotiated, and
 * a new plan is learnt. A name beside the plan is negotiated beside it; one that comes again and
 * again gets a new plan made. Planned and negotiated operations run on two lanes, each with links
 * of its own, so that one that waits for a rank does not stop the other. Requests without a name
 * are no business of the plan: they run in the order of asking, on a lane of their own.
 *
 * Threads: belongs to the progress thread. Callbacks come from inside the calls below and may not
 * call back. */
#ifndef OT_COLLECTIVE_PLAN_H
#define OT_COLLECTIVE_PLAN_H

#include "base/error.h"
#include "overtake/collective.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum ot_lane { OT_LANE_PLANNED, OT_LANE_NEGOTIATED, OT_LANE_ORDERED, OT_LANES } ot_lane;

/* What must agree between ranks before an operation runs; kinds that allow it (ALLGATHER, ALLTOALL)
 * differ in dims[0] and splits. */
typedef struct ot_signature {
    char name[OVERTAKE_NAME_MAX + 1];
    uint8_t kind, dtype, reduction; /* overtake_* */
    int32_t root, ndim;
    int64_t dims[OVERTAKE_DIMS_MAX];
    uint64_t splits; /* REDUCESCATTER: a hash of them, 0: equal parts */
    double prescale, postscale;
} ot_signature;
/* Elements of the tensor, and of one row of it. */
uint64_t ot_signature_count(const ot_signature *s);
uint64_t ot_signature_row(const ot_signature *s);
/* Over what ranks must agree on. */
uint64_t ot_signature_hash(const ot_signature *s);

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
    /* Reliable, in order; arrives at that rank's ot_plan_message. */
    void (*send)(void *arg, int32_t peer, const void *message, size_t n);
    /* Run it; ot_plan_done says when it has ended. Valid during the call. */
    void (*begin)(void *arg, const ot_bucket *b);
    /* This request will not run. Ticket 0: the ranks' plans have come apart, nothing more can run
     * in this group. `culprit` is -1 where several ranks may be wrong; the message names them. */
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
/* A request of this rank is ready. `ticket` is the caller's and not 0. Copies the signature.
 * OT_EXISTS: the name is in flight; OT_EXHAUSTED: over OT_PLAN_NAMES_MAX of them. */
ot_rc ot_plan_submit(ot_plan *p, const ot_signature *s, uint64_t ticket, ot_error *err) OT_CHECKED;
/* The program waits for this ticket, done or not: what it asks for later can't share a bucket with
 * what it asked for before, and what can't begin as planned is negotiated now. */
void ot_plan_waiting(ot_plan *p, uint64_t ticket);
/* After a batch of the calls above and of messages: what is to be said leaves now. */
void ot_plan_turn(ot_plan *p);
/* Not OT_OK: `from` speaks another language or memory is short; the group can't go on. */
ot_rc ot_plan_message(ot_plan *p, int32_t from, const void *message, size_t n,
                      ot_error *err) OT_CHECKED;
void ot_plan_done(ot_plan *p, ot_lane lane, uint64_t seq);

#define OT_PLAN_NAMES_MAX 65536 /* in flight, planned and remembered */

typedef struct ot_plan_stats {
    uint64_t control_messages, control_bytes; /* sent by this rank */
    uint64_t buckets_planned, buckets_negotiated;
    uint64_t plans; /* adopted */
} ot_plan_stats;
ot_plan_stats ot_plan_get_stats(const ot_plan *p);

/* The ticket takes long: asks all ranks who has not asked for its name. The answer is in
 * ot_plan_lacks some round trips later: "'conv1/w': ranks 2 (host b), 5 (host c) have not asked for
 * it"; empty while nothing is known. */
void ot_plan_ask(ot_plan *p, uint64_t ticket);
size_t ot_plan_lacks(const ot_plan *p, char *text, size_t size, int32_t *first_out);

#endif
