#include "ops.h"
#include "pending.h"

#include <stdio.h>
#include <string.h>

static void give_back(void *data, size_t bytes, void *arg)
{
    (void)bytes;
    (void)arg;
    overtake_release(data);
}

static pending *take(TF_OpKernelContext *ctx, int i, TF_Status *status)
{
    TF_Tensor *number = NULL;
    TF_GetInput(ctx, i, &number, status);
    if (TF_GetCode(status) != TF_OK)
        return NULL;
    overtake_handle handle = 0;
    if (TF_TensorByteSize(number) == sizeof(handle))
        memcpy(&handle, TF_TensorData(number), sizeof(handle));
    TF_DeleteTensor(number);
    pending *p = pending_take(handle);
    if (!p) {
        char message[OVERTAKE_MESSAGE_SIZE];
        snprintf(message, sizeof(message),
                 "OvertakeWaitAll: operation %lld is not in flight; each is waited for once",
                 (long long)handle);
        TF_SetStatus(status, TF_INVALID_ARGUMENT, message);
    }
    return p;
}

/* Rows from each rank, where they are asked for. */
static void set_splits(TF_OpKernelContext *ctx, int output, const pending *p,
                       const overtake_result *result, TF_Status *status)
{
    overtake_place place = {.struct_size = sizeof(place)};
    int64_t n = result->splits && overtake_where(p->group, &place) == 0 ? place.size : 0;
    size_t bytes = (size_t)n * sizeof(int64_t);
    TF_Tensor *t = TF_AllocateOutput(ctx, output, TF_INT64, &n, 1, bytes, status);
    if (TF_GetCode(status) != TF_OK)
        return;
    if (bytes)
        memcpy(TF_TensorData(t), result->splits, bytes);
    TF_DeleteTensor(t);
}

/* What has no data: an int32, of a barrier 0. */
static void set_last_joined(TF_OpKernelContext *ctx, int i, const overtake_result *result,
                            TF_Status *status)
{
    TF_Tensor *t = TF_AllocateOutput(ctx, i, TF_INT32, NULL, 0, sizeof(int32_t), status);
    if (TF_GetCode(status) != TF_OK)
        return;
    *(int32_t *)TF_TensorData(t) = result->last_joined;
    TF_DeleteTensor(t);
}

static void set_result(TF_OpKernelContext *ctx, int i, pending *p, const overtake_result *result,
                       TF_Status *status)
{
    if (p->out) {
        TF_SetOutput(ctx, i, p->out, status);
        return;
    }
    if (p->kind == OVERTAKE_BARRIER || p->kind == OVERTAKE_JOIN) {
        set_last_joined(ctx, i, result, status);
        return;
    }
    size_t bytes = TF_DataTypeSize(p->type);
    for (int d = 0; d < result->ndim; d++)
        bytes *= (size_t)result->dims[d];
    TF_Tensor *made;
    if (bytes) {
        made =
            TF_NewTensor(p->type, result->dims, result->ndim, result->out, bytes, give_back, NULL);
        TF_SetOutput(ctx, i, made, status);
    } else {
        made = TF_AllocateOutput(ctx, i, p->type, result->dims, result->ndim, 0, status);
        if (result->out)
            overtake_release(result->out);
    }
    if (made)
        TF_DeleteTensor(made);
}

/* One operation; its failure is told only if it is the first. */
static void wait_one(TF_OpKernelContext *ctx, int i, int n, TF_Status *status)
{
    TF_Status *own = TF_NewStatus();
    pending *p = take(ctx, i, own);
    if (p) {
        overtake_result result = {.struct_size = sizeof(result)};
        overtake_failure failure = {.struct_size = sizeof(failure)};
        int rc = overtake_wait(p->handle, 0, &result, &failure);
        if (rc != 0)
            TF_SetStatus(own, (TF_Code)-rc, failure.message);
        else {
            if (TF_NumOutputs(ctx) > n)
                set_splits(ctx, n + i, p, &result, own);
            set_result(ctx, i, p, &result, own);
        }
        pending_free(p);
    }
    if (TF_GetCode(own) != TF_OK && TF_GetCode(status) == TF_OK)
        TF_SetStatus(status, TF_GetCode(own), TF_Message(own));
    TF_DeleteStatus(own);
}

void wait_all_compute(void *kernel, TF_OpKernelContext *ctx)
{
    (void)kernel;
    TF_Status *status = TF_NewStatus();
    int n = TF_NumInputs(ctx);
    for (int i = 0; i < n; i++)
        wait_one(ctx, i, n, status);
    if (TF_GetCode(status) != TF_OK)
        TF_OpKernelContext_Failure(ctx, status);
    TF_DeleteStatus(status);
}
