#include "ops.h"
#include "pending.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct start {
    int32_t kind, reduction, group, root;
    double prescale, postscale;
    char name[OVERTAKE_NAME_MAX + 2]; /* one more than is taken: a longer one is refused, not cut */
} start;

/* An attribute of TensorFlow's has no double: its bits come as an integer. */
static double factor(TF_OpKernelConstruction *construction, const char *name, TF_Status *status)
{
    int64_t bits = 0;
    double value;
    if (TF_GetCode(status) == TF_OK)
        TF_OpKernelConstruction_GetAttrInt64(construction, name, &bits, status);
    memcpy(&value, &bits, sizeof(value));
    return value;
}

void *start_create(TF_OpKernelConstruction *construction)
{
    TF_Status *status = TF_NewStatus();
    start *s = calloc(1, sizeof(*s));
    if (!s) {
        TF_SetStatus(status, TF_RESOURCE_EXHAUSTED, "OvertakeStart: out of memory");
        TF_OpKernelConstruction_Failure(construction, status);
        TF_DeleteStatus(status);
        return NULL;
    }
    const struct {
        const char *name;
        int32_t *value;
    } integers[] = {
        {"kind", &s->kind}, {"reduction", &s->reduction}, {"group", &s->group}, {"root", &s->root}};
    for (size_t i = 0; i < sizeof(integers) / sizeof(*integers) && TF_GetCode(status) == TF_OK; i++)
        TF_OpKernelConstruction_GetAttrInt32(construction, integers[i].name, integers[i].value,
                                             status);
    s->prescale = factor(construction, "prescale", status);
    s->postscale = factor(construction, "postscale", status);
    if (TF_GetCode(status) == TF_OK)
        TF_OpKernelConstruction_GetAttrString(construction, "tensor_name", s->name,
                                              sizeof(s->name) - 1, status);
    if (TF_GetCode(status) != TF_OK)
        TF_OpKernelConstruction_Failure(construction, status);
    TF_DeleteStatus(status);
    return s;
}

void start_destroy(void *kernel)
{
    free(kernel);
}

/* The library's type, or -1. */
static int dtype_of(TF_DataType type)
{
    static const int8_t types[TF_TYPES] = {
        [TF_BOOL] = OVERTAKE_BOOL + 1,     [TF_UINT8] = OVERTAKE_U8 + 1,
        [TF_INT8] = OVERTAKE_I8 + 1,       [TF_UINT16] = OVERTAKE_U16 + 1,
        [TF_INT16] = OVERTAKE_I16 + 1,     [TF_UINT32] = OVERTAKE_U32 + 1,
        [TF_INT32] = OVERTAKE_I32 + 1,     [TF_UINT64] = OVERTAKE_U64 + 1,
        [TF_INT64] = OVERTAKE_I64 + 1,     [TF_HALF] = OVERTAKE_F16 + 1,
        [TF_BFLOAT16] = OVERTAKE_BF16 + 1, [TF_FLOAT] = OVERTAKE_F32 + 1,
        [TF_DOUBLE] = OVERTAKE_F64 + 1};
    return type < TF_TYPES ? types[type] - 1 : -1;
}

/* The request's tensors into p and its shape into r; false with the status set. */
static bool take_inputs(const start *s, TF_OpKernelContext *ctx, pending *p, overtake_request *r,
                        TF_Status *status)
{
    char message[OVERTAKE_MESSAGE_SIZE];
    TF_GetInput(ctx, 0, &p->in, status);
    if (TF_GetCode(status) != TF_OK)
        return false;
    TF_GetInput(ctx, 1, &p->splits, status);
    if (TF_GetCode(status) != TF_OK)
        return false;
    p->type = TF_TensorType(p->in);
    r->dtype = dtype_of(p->type);
    r->ndim = TF_NumDims(p->in);
    if (r->dtype < 0 || r->ndim > OVERTAKE_DIMS_MAX) {
        snprintf(message, sizeof(message),
                 "%s: %d dimensions of TensorFlow's type %u; up to %d dimensions of numbers or "
                 "booleans are taken",
                 s->name, r->ndim, p->type, OVERTAKE_DIMS_MAX);
        TF_SetStatus(status, TF_INVALID_ARGUMENT, message);
        return false;
    }
    for (int i = 0; i < r->ndim; i++)
        p->dims[i] = TF_Dim(p->in, i);
    int64_t n_splits = TF_TensorElementCount(p->splits);
    overtake_place place = {.struct_size = sizeof(place)};
    if (n_splits == 0)
        return true;
    if (overtake_where(s->group, &place) == 0 && n_splits != place.size) {
        snprintf(message, sizeof(message),
                 "%s: %lld splits for %d ranks; give one number of rows for each rank", s->name,
                 (long long)n_splits, place.size);
        TF_SetStatus(status, TF_INVALID_ARGUMENT, message);
        return false;
    }
    r->splits = TF_TensorData(p->splits);
    return true;
}

/* Results that have the shape of their input get their room here, from TensorFlow's allocator. */
static bool make_out(TF_OpKernelContext *ctx, pending *p, overtake_request *r, TF_Status *status)
{
    if (r->kind != OVERTAKE_ALLREDUCE && r->kind != OVERTAKE_BROADCAST)
        return true;
    TF_AllocatorAttributes host = {.struct_size = offsetof(TF_AllocatorAttributes, on_host) +
                                                  sizeof(host.on_host),
                                   .on_host = 1};
    p->out = TF_AllocateTemp(ctx, p->type, p->dims, r->ndim, &host, status);
    if (TF_GetCode(status) != TF_OK)
        return false;
    r->out = TF_TensorData(p->out);
    r->out_bytes = TF_TensorByteSize(p->out);
    return true;
}

static bool start_one(const start *s, TF_OpKernelContext *ctx, pending *p, TF_Status *status)
{
    overtake_request r = {.struct_size = sizeof(r),
                          .kind = s->kind,
                          .group = s->group,
                          .name = s->name[0] ? s->name : NULL,
                          .reduction = s->reduction,
                          .root = s->root,
                          .dims = p->dims,
                          .prescale = s->prescale,
                          .postscale = s->postscale};
    if (!take_inputs(s, ctx, p, &r, status) || !make_out(ctx, p, &r, status))
        return false;
    TF_Tensor *number = TF_AllocateOutput(ctx, 0, TF_INT64, NULL, 0, sizeof(int64_t), status);
    if (TF_GetCode(status) != TF_OK)
        return false;
    char message[OVERTAKE_MESSAGE_SIZE];
    r.in = TF_TensorData(p->in);
    p->kind = s->kind;
    p->group = s->group;
    int rc = overtake_start(&r, 1, &p->handle, message, sizeof(message));
    if (rc != 0)
        TF_SetStatus(status, (TF_Code)-rc, message);
    else
        *(int64_t *)TF_TensorData(number) = p->handle;
    TF_DeleteTensor(number);
    return rc == 0;
}

void start_compute(void *kernel, TF_OpKernelContext *ctx)
{
    TF_Status *status = TF_NewStatus();
    pending *p = calloc(1, sizeof(*p));
    if (!p)
        TF_SetStatus(status, TF_RESOURCE_EXHAUSTED, "OvertakeStart: out of memory");
    else if (start_one(kernel, ctx, p, status))
        pending_add(p);
    else
        pending_free(p);
    if (TF_GetCode(status) != TF_OK)
        TF_OpKernelContext_Failure(ctx, status);
    TF_DeleteStatus(status);
}
