#include "codec/tfs_types.h"

#include "base/mem.h"

static const struct {
    int type;
    const char *name;
} types[OT_DT_COUNT_] = {
    [OT_DT_INVALID] = {0, "DT_INVALID"}, [OT_DT_BOOL] = {10, "DT_BOOL"},
    [OT_DT_UINT8] = {4, "DT_UINT8"},     [OT_DT_UINT16] = {17, "DT_UINT16"},
    [OT_DT_UINT32] = {22, "DT_UINT32"},  [OT_DT_UINT64] = {23, "DT_UINT64"},
    [OT_DT_INT8] = {6, "DT_INT8"},       [OT_DT_INT16] = {5, "DT_INT16"},
    [OT_DT_INT32] = {3, "DT_INT32"},     [OT_DT_INT64] = {9, "DT_INT64"},
    [OT_DT_FP16] = {19, "DT_HALF"},      [OT_DT_BF16] = {14, "DT_BFLOAT16"},
    [OT_DT_FP32] = {1, "DT_FLOAT"},      [OT_DT_FP64] = {2, "DT_DOUBLE"},
    [OT_DT_BYTES] = {7, "DT_STRING"},
};

int ot_tfs_type(ot_dtype dtype)
{
    return (unsigned)dtype < OT_COUNT(types) ? types[dtype].type : 0;
}

const char *ot_tfs_type_name(ot_dtype dtype)
{
    return types[(unsigned)dtype < OT_COUNT(types) ? dtype : OT_DT_INVALID].name;
}

ot_dtype ot_tfs_type_from(uint64_t type)
{
    for (unsigned i = OT_DT_INVALID + 1; i < OT_COUNT(types); i++) {
        if ((uint64_t)types[i].type == type) {
            return (ot_dtype)i;
        }
    }
    return OT_DT_INVALID;
}
