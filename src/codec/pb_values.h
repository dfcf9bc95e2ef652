/* Repeated scalar fields of a protobuf message as the data of a tensor: what typed contents of
 * inference requests are made of.
 *
 * Threads: any. Lifetime: data lie in the arena or in the message. */
#ifndef OT_CODEC_PB_VALUES_H
#define OT_CODEC_PB_VALUES_H

#include "codec/pb.h"
#include "codec/tensor.h"

/* All values of field `number` of the message that `r` is at the beginning of (packed, not packed
 * or both) as elements of type t->dtype; sets t->data and t->size_bytes and gives how many there
 * are. How they are written follows from the type: FP32 as float, FP64 as double, BYTES as bytes or
 * string, FP16 and BF16 as varints of their bits, all else as varints, which must be in the type's
 * range. Floats in one packed run are not copied and may be unaligned. The type and shape of `t`
 * are not compared with the count. */
ot_rc ot_pb_gather(const ot_pb *r, uint32_t number, const char *name, ot_arena *arena, ot_tensor *t,
                   int64_t *count_out, ot_error *err) OT_CHECKED;

/* The opposite: appends the elements as field `number`, packed but for BYTES; nothing when there
 * are none. FP16 and BF16 go as varints of their bits. The tensor is one that ot_tensor_check
 * accepts. */
void ot_pb_put_values(ot_str *s, uint32_t number, const ot_tensor *t);
/* The bytes that it appends. */
size_t ot_pb_values_size(uint32_t number, const ot_tensor *t);

#endif
