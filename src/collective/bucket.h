/* Buckets as runs of an executor: tensors of one bucket are packed into one buffer and unpacked
 * from it, scaled on the way; one that is alone runs in place, without a copy.
 *
 * Where the user lets it and the cost model says that it pays, a sum of F32 goes coded (codec.h) or
 * by low rank (lowrank.h), in two parts (bucket_parts.c).
 *
 * An average is a sum and a division: by the number of ranks, before the sum where the type is
 * narrow (binary16, bfloat16), so that it can't overflow, else after it.
 *
 * Threads: the progress thread. Lifetime: a work is freed after `ended`. */
#ifndef OT_COLLECTIVE_BUCKET_H
#define OT_COLLECTIVE_BUCKET_H

#include "collective/cost.h"
#include "collective/exec.h"
#include "collective/pool.h"
#include "collective/residual.h"
#include "collective/ticket.h"

/* What a group is to the runs in it. */
typedef struct ot_team_place {
    int32_t rank, size;
    const int32_t *hosts; /* as ot_coll_shape */
    const ot_cost_model *cost;
    ot_loss loss;   /* what sums of F32 may lose on the wire */
    size_t lowrank; /* columns that stand for a matrix */
    ot_pool *pool;
    ot_residuals *residuals;
    ot_trace *trace;
} ot_team_place;

typedef struct ot_work ot_work;
typedef struct ot_work_ops {
    /* The ticket's request is done; `why` NULL: well. */
    void (*ticket_done)(void *arg, ot_ticket *k, const ot_error *why);
    void (*ended)(void *arg, ot_lane lane, uint64_t seq, const ot_error *why);
    void *arg;
} ot_work_ops;

/* Submits the bucket; tickets[i] is NULL where this rank has joined. What goes in two parts runs
 * the second one on the executor `second`. */
ot_rc ot_work_submit(const ot_team_place *place, ot_exec *exec, ot_exec *second, const ot_bucket *b,
                     ot_ticket *const *tickets, const ot_work_ops *ops, ot_error *err) OT_CHECKED;

#endif
