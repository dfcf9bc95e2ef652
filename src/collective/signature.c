/* What is known of a tensor by its signature. */
#include "base/hash.h"
#include "collective/plan.h"

#include <string.h>

uint64_t ot_signature_count(const ot_signature *s)
{
    uint64_t n = 1;
    for (int32_t i = 0; i < s->ndim; i++) {
        n *= (uint64_t)s->dims[i];
    }
    return n;
}

uint64_t ot_signature_row(const ot_signature *s)
{
    uint64_t n = 1;
    for (int32_t i = 1; i < s->ndim; i++) {
        n *= (uint64_t)s->dims[i];
    }
    return n;
}

uint64_t ot_signature_hash(const ot_signature *s)
{
    ot_signature k;
    memset(&k, 0, sizeof k);
    memcpy(k.name, s->name, strlen(s->name));
    k.kind = s->kind;
    k.dtype = s->dtype;
    k.reduction = s->reduction;
    k.root = s->root;
    k.ndim = s->ndim;
    memcpy(k.dims, s->dims, (size_t)s->ndim * sizeof k.dims[0]);
    if (s->kind == OVERTAKE_ALLGATHER || s->kind == OVERTAKE_ALLTOALL) {
        k.dims[0] = 0;
    }
    k.splits = s->splits;
    k.prescale = s->prescale;
    k.postscale = s->postscale;
    return ot_hash_stable(&k, sizeof k, 0);
}
