/* TFRecord framing: each record with its length and two masked CRC-32C.
 *
 *     u64 length, u32 masked CRC of the length, `length` bytes, u32 masked CRC of them
 *
 * little-endian. Threads: any; pure. Source: tensorflow/core/lib/io/record_writer.cc. */
#ifndef OT_INPUT_TFRECORD_H
#define OT_INPUT_TFRECORD_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OT_TFRECORD_HEAD 12
#define OT_TFRECORD_FRAME 16

typedef struct ot_tfrecord {
    const uint8_t *data;
    size_t n;
} ot_tfrecord;

/* All bytes of the record whose head this is, frame included; `left`: bytes of the file from here
 * on. OT_DATA_LOSS: the head is damaged or the file is cut off. */
ot_rc ot_tfrecord_size(const uint8_t head[OT_TFRECORD_HEAD], uint64_t left, uint64_t *size_out,
                       ot_error *err) OT_CHECKED;
/* The record at p, of which n bytes are there; `check`: its CRC too. */
ot_rc ot_tfrecord_read(const uint8_t *p, uint64_t n, bool check, ot_tfrecord *out,
                       ot_error *err) OT_CHECKED;

#endif
