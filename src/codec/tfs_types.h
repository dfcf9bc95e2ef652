/* Element types as TensorFlow names and numbers them. Threads: any.
 * Source: tensorflow/core/framework/types.proto. */
#ifndef OT_CODEC_TFS_TYPES_H
#define OT_CODEC_TFS_TYPES_H

#include "codec/tensor.h"

#include <stdint.h>

int ot_tfs_type(ot_dtype dtype);              /* DT_FLOAT is 1; 0: none */
const char *ot_tfs_type_name(ot_dtype dtype); /* "DT_FLOAT"; "DT_INVALID" */
ot_dtype ot_tfs_type_from(uint64_t type);     /* OT_DT_INVALID: not one that a tensor has here */

#endif
