/* What has been started and not waited for: each operation with the tensors that it reads and
 * writes, found by its handle. Any thread. */
#ifndef OT_PLUGINS_TENSORFLOW_OPS_PENDING_H
#define OT_PLUGINS_TENSORFLOW_OPS_PENDING_H

#include "overtake/collective.h"
#include "tf_ops_api.h"

typedef struct pending {
    struct pending *next;
    overtake_handle handle;
    TF_Tensor *in, *splits; /* references; splits: NULL where there are none */
    TF_Tensor *out;         /* NULL: the library makes it */
    TF_DataType type;
    int32_t kind, group;
    int64_t dims[OVERTAKE_DIMS_MAX];
} pending;

/* Takes p, which has a handle. */
void pending_add(pending *p);
/* Gives it back to the caller, who frees it; NULL: no such handle, or waited for already. */
pending *pending_take(overtake_handle handle);
/* Drops its references; NULL is allowed. */
void pending_free(pending *p);

#endif
