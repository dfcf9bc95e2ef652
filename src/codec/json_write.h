/* Tensors' elements as JSON. Private to this folder. */
#ifndef OT_CODEC_JSON_WRITE_H
#define OT_CODEC_JSON_WRITE_H

#include "base/mem.h"
#include "base/str.h"
#include "codec/tensor.h"

/* Appends n elements at `data` (any alignment; not BYTES) with commas between them, floats
 * shortest; `failed` of the string says that memory was short. */
void json_write_numbers(ot_dtype dtype, const void *data, int64_t n, ot_str *out);

#endif
