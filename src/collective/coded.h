/* An allreduce of F32 with fewer bytes, as two runs of the executor: see codec.h. What encoding
 * leaves behind is kept from one operation to the next of the same tensors.
 *
 * Threads: the progress thread. Lifetime: init/done pairs; buffers are the caller's. */
#ifndef OT_COLLECTIVE_CODED_H
#define OT_COLLECTIVE_CODED_H

#include "collective/codec.h"
#include "collective/cost.h"
#include "collective/exec.h"

/* Residuals of the operations of a group by the hash of their tensors; those of tensors that have
 * not come for long are dropped. */
typedef struct ot_residual {
    uint64_t key, used, bytes;
    float *own;   /* of what this rank sends */
    float *owner; /* of the sums that it owns */
} ot_residual;

typedef struct ot_residuals {
    ot_residual *items;
    size_t n, cap;
    uint64_t uses, bytes;
    unsigned said; /* a bit for each choice that people have been told of */
} ot_residuals;
void ot_residuals_done(ot_residuals *r);

typedef struct ot_coded {
    ot_twoshot shots;
    int part; /* 0: not coded; 1: to the owners; 2: from them */
    const float *in;
    float *out, *acc;
    void *mine, *theirs; /* bytes on their way */
    ot_residual kept;
} ot_coded;

/* Bytes of the buffer that ot_coded_begin wants. */
uint64_t ot_coded_room(const ot_twoshot *t);
/* Encodes `in`: part 1. Takes over `shots`. Where memory is short there is no residual. */
void ot_coded_begin(ot_coded *c, const ot_twoshot *shots, void *room, ot_residuals *residuals,
                    uint64_t key, const float *in, float *out);
/* The run of the part that it is at: schedule and buffers. */
ot_rc ot_coded_prepare(const ot_coded *c, const int32_t *hosts, const ot_cost_model *cost,
                       ot_run *run, ot_error *err) OT_CHECKED;
/* After the run of part 1: sums, goes to part 2. After that of part 2: decodes into `out`. false:
 * that was all. */
bool ot_coded_next(ot_coded *c);
void ot_coded_done(ot_coded *c);

#endif
