#include "ops.h"
#include "overtake/collective.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *where_create(TF_OpKernelConstruction *construction)
{
    TF_Status *status = TF_NewStatus();
    int32_t *group = calloc(1, sizeof(*group));
    if (!group)
        TF_SetStatus(status, TF_RESOURCE_EXHAUSTED, "OvertakeWhere: out of memory");
    else
        TF_OpKernelConstruction_GetAttrInt32(construction, "group", group, status);
    if (TF_GetCode(status) != TF_OK)
        TF_OpKernelConstruction_Failure(construction, status);
    TF_DeleteStatus(status);
    return group;
}

void where_destroy(void *kernel)
{
    free(kernel);
}

void where_compute(void *kernel, TF_OpKernelContext *ctx)
{
    TF_Status *status = TF_NewStatus();
    overtake_place place = {.struct_size = sizeof(place)};
    int32_t group = *(const int32_t *)kernel;
    int rc = overtake_where(group, &place);
    if (rc != 0) {
        char message[OVERTAKE_MESSAGE_SIZE];
        snprintf(message, sizeof(message),
                 group == OVERTAKE_WORLD ? "this process is in no job: call init() first"
                                         : "this process is not in group %d",
                 group);
        TF_SetStatus(status, (TF_Code)-rc, message);
    } else {
        const int32_t values[] = {place.rank,       place.size,       place.local_rank,
                                  place.local_size, place.cross_rank, place.cross_size};
        const int64_t n = sizeof(values) / sizeof(*values);
        TF_Tensor *t = TF_AllocateOutput(ctx, 0, TF_INT32, &n, 1, sizeof(values), status);
        if (TF_GetCode(status) == TF_OK) {
            memcpy(TF_TensorData(t), values, sizeof(values));
            TF_DeleteTensor(t);
        }
    }
    if (TF_GetCode(status) != TF_OK)
        TF_OpKernelContext_Failure(ctx, status);
    TF_DeleteStatus(status);
}
