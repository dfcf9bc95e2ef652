/* Whether a request is one. */
#include "base/hash.h"
#include "base/mem.h"
#include "collective/api_internal.h"
#include "collective/kernel.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *const kinds[OVERTAKE_KINDS] = {
    "allreduce", "allgather", "reducescatter", "alltoall", "broadcast", "barrier", "join"};

static ot_rc bad(ot_error *err, const ot_prepared *p, const char *what)
{
    return ot_fail(err, OT_INVALID, "%s of '%s': %s", kinds[p->sig.kind], p->sig.name, what);
}

static ot_rc check_shape(const overtake_request *r, ot_prepared *p, ot_error *err)
{
    uint64_t elem = ot_dtype_bytes((overtake_dtype)r->dtype), bytes = elem;
    bool empty = false;
    char text[128];
    if (r->ndim < 0 || r->ndim > OVERTAKE_DIMS_MAX || (r->ndim > 0 && r->dims == NULL)) {
        snprintf(text, sizeof text, "%d dimensions; 0 to %d are allowed", r->ndim,
                 OVERTAKE_DIMS_MAX);
        return bad(err, p, text);
    }
    for (int32_t i = 0; i < r->ndim; i++) {
        p->sig.dims[i] = r->dims[i];
        empty |= r->dims[i] == 0;
        if (r->dims[i] < 0 || (r->dims[i] > 0 && bytes > (UINT64_MAX / 8) / (uint64_t)r->dims[i])) {
            snprintf(text, sizeof text, "dims[%d] is %" PRId64 ": that can't be", i, r->dims[i]);
            return bad(err, p, text);
        }
        bytes *= r->dims[i] > 0 ? (uint64_t)r->dims[i] : 1;
    }
    p->sig.ndim = r->ndim;
    bool gives = r->kind != OVERTAKE_BROADCAST || p->sig.root < 0;
    if (gives && r->in == NULL && !empty) {
        return bad(err, p, "`in` is NULL");
    }
    return OT_OK;
}

static ot_rc check_reduction(const overtake_request *r, ot_prepared *p, ot_error *err)
{
    bool reduces = r->kind == OVERTAKE_ALLREDUCE || r->kind == OVERTAKE_REDUCESCATTER;
    char text[128];
    if (!reduces) {
        return (r->prescale == 0 || r->prescale == 1) && (r->postscale == 0 || r->postscale == 1)
                   ? OT_OK
                   : bad(err, p, "factors belong to reductions only");
    }
    if (r->reduction < 0 || r->reduction >= OVERTAKE_REDUCTIONS ||
        !ot_reduction_takes((overtake_reduction)r->reduction, (overtake_dtype)r->dtype)) {
        snprintf(text, sizeof text, "reduction %d does not take %s", r->reduction,
                 ot_dtype_text((overtake_dtype)r->dtype));
        return bad(err, p, text);
    }
    p->sig.reduction = (uint8_t)r->reduction;
    p->sig.prescale = r->prescale == 0 ? 1 : r->prescale;
    p->sig.postscale = r->postscale == 0 ? 1 : r->postscale;
    return OT_OK;
}

static ot_rc check_splits(const overtake_request *r, int32_t size, ot_prepared *p, ot_error *err)
{
    bool takes = r->kind == OVERTAKE_ALLTOALL || r->kind == OVERTAKE_REDUCESCATTER;
    int64_t rows = r->ndim > 0 ? r->dims[0] : 1, sum = 0;
    char text[160];
    if (takes && r->ndim == 0) {
        return bad(err, p, "one element has no rows: give it a dimension");
    }
    if (r->splits == NULL || !takes) {
        if (r->kind == OVERTAKE_ALLTOALL && rows % size != 0) {
            snprintf(text, sizeof text,
                     "%" PRId64 " rows can't be split evenly between %d ranks: give splits", rows,
                     size);
            return bad(err, p, text);
        }
        return OT_OK;
    }
    for (int32_t i = 0; i < size; i++) {
        if (r->splits[i] < 0 || r->splits[i] > rows - sum) {
            sum = -1;
            break;
        }
        sum += r->splits[i];
    }
    if (sum != rows) {
        snprintf(text, sizeof text, "the %d splits must sum up to the %" PRId64 " rows", size,
                 rows);
        return bad(err, p, text);
    }
    p->splits = ot_alloc((size_t)size * sizeof *p->splits);
    if (p->splits == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "request: out of memory");
    }
    memcpy(p->splits, r->splits, (size_t)size * sizeof *p->splits);
    if (r->kind == OVERTAKE_REDUCESCATTER) {
        p->sig.splits = ot_hash_stable(r->splits, (size_t)size * sizeof *r->splits, 1) | 1;
    }
    return OT_OK;
}

static ot_rc check_group(ot_api *a, int32_t group, int32_t *size_out, int32_t *me_out,
                         ot_error *err)
{
    pthread_mutex_lock(&a->groups_lock);
    const ot_api_group *g = ot_api_group_find_locked(a, group);
    bool there = g != NULL;
    *size_out = there ? g->n : 0;
    *me_out = there ? g->me : -1;
    pthread_mutex_unlock(&a->groups_lock);
    if (!there) {
        return ot_fail(err, OT_NOT_FOUND, "there is no group %d", group);
    }
    return *me_out >= 0
               ? OT_OK
               : ot_fail(err, OT_PRECONDITION, "rank %d is not in group %d", a->rank, group);
}

ot_rc ot_api_prepare(ot_api *a, const overtake_request *request, ot_prepared *p, ot_error *err)
{
    overtake_request r = {0};
    int32_t size, me;
    if (request->struct_size == 0 || request->struct_size % sizeof(void *) != 0) {
        return ot_fail(err, OT_INVALID, "request: struct_size is %zu", request->struct_size);
    }
    memcpy(&r, request, OT_MIN(request->struct_size, sizeof r));
    if (r.kind < 0 || r.kind >= OVERTAKE_KINDS) {
        return ot_fail(err, OT_INVALID, "request: there is no kind %d", r.kind);
    }
    OT_TRY(check_group(a, r.group, &size, &me, err));
    size_t name = r.name != NULL ? strlen(r.name) : 0;
    if (r.name != NULL && (name == 0 || name > OVERTAKE_NAME_MAX)) {
        return ot_fail(err, OT_INVALID, "%s '%.60s': a name has 1 to %d bytes", kinds[r.kind],
                       r.name, OVERTAKE_NAME_MAX);
    }
    *p = (ot_prepared){.group = r.group, .named = r.name != NULL, .in = r.in, .out = r.out};
    p->out_bytes = r.out_bytes;
    p->sig.kind = (uint8_t)r.kind;
    memcpy(p->sig.name, r.name != NULL ? r.name : "", name + 1);
    if (r.kind == OVERTAKE_JOIN && r.name == NULL) {
        p->named = true;
        snprintf(p->sig.name, sizeof p->sig.name, "overtake.join");
    }
    if (r.kind == OVERTAKE_BARRIER || r.kind == OVERTAKE_JOIN) {
        return OT_OK;
    }
    if (r.dtype < 0 || r.dtype >= OVERTAKE_DTYPES) {
        return bad(err, p, "there is no such dtype");
    }
    p->sig.dtype = (uint8_t)r.dtype;
    if (r.kind == OVERTAKE_BROADCAST) {
        if (r.root < 0 || r.root >= size) {
            return bad(err, p, "root is no rank of the group");
        }
        p->sig.root = me == r.root ? -1 : r.root;
    }
    OT_TRY(check_shape(&r, p, err));
    p->sig.root = r.kind == OVERTAKE_BROADCAST ? r.root : 0;
    if (r.kind == OVERTAKE_BROADCAST && me != r.root) {
        p->in = NULL;
    }
    OT_TRY(check_reduction(&r, p, err));
    return check_splits(&r, size, p, err);
}

void ot_api_number(ot_api *a, ot_prepared *p, size_t n)
{
    pthread_mutex_lock(&a->groups_lock);
    for (size_t i = 0; i < n; i++) {
        ot_api_group *g = p[i].named ? NULL : ot_api_group_find_locked(a, p[i].group);
        if (g != NULL) {
            snprintf(p[i].sig.name, sizeof p[i].sig.name, "%s.%" PRIu64, kinds[p[i].sig.kind],
                     ++g->asked[p[i].sig.kind]);
        }
    }
    pthread_mutex_unlock(&a->groups_lock);
}
