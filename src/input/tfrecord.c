#include "input/tfrecord.h"

#include "base/crc32c.h"
#include "input/source.h"

#include <inttypes.h>

static uint32_t u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* A CRC of bytes that hold a CRC is awkward, so it is stored turned and moved. */
static uint32_t masked(const uint8_t *p, size_t n)
{
    uint32_t crc = ot_crc32c(p, n);
    return (crc >> 15 | crc << 17) + UINT32_C(0xa282ead8);
}

ot_rc ot_tfrecord_size(const uint8_t head[OT_TFRECORD_HEAD], uint64_t left, uint64_t *size_out,
                       ot_error *err)
{
    uint64_t n = (uint64_t)u32(head) | (uint64_t)u32(head + 4) << 32;
    if (masked(head, 8) != u32(head + 8)) {
        return ot_fail(err, OT_DATA_LOSS,
                       "the CRC of a record's length does not match: not a TFRecord file, or "
                       "damaged");
    }
    if (n > OT_INPUT_RECORD_BYTES_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "a record of %" PRIu64 " bytes; %llu are taken", n,
                       OT_INPUT_RECORD_BYTES_MAX);
    }
    if (left < OT_TFRECORD_FRAME || left - OT_TFRECORD_FRAME < n) {
        return ot_fail(err, OT_DATA_LOSS,
                       "a record of %" PRIu64 " bytes where %" PRIu64
                       " are left: the file is cut off",
                       n, left);
    }
    *size_out = n + OT_TFRECORD_FRAME;
    return OT_OK;
}

ot_rc ot_tfrecord_read(const uint8_t *p, uint64_t n, bool check, ot_tfrecord *out, ot_error *err)
{
    uint64_t size;
    if (n < OT_TFRECORD_HEAD) {
        return ot_fail(err, OT_DATA_LOSS, "%" PRIu64 " bytes behind the last record", n);
    }
    OT_TRY(ot_tfrecord_size(p, n, &size, err));
    size_t bytes = (size_t)size - OT_TFRECORD_FRAME;
    if (check && masked(p + OT_TFRECORD_HEAD, bytes) != u32(p + OT_TFRECORD_HEAD + bytes)) {
        return ot_fail(err, OT_DATA_LOSS, "its CRC does not match: it was changed or damaged");
    }
    *out = (ot_tfrecord){.data = p + OT_TFRECORD_HEAD, .n = bytes};
    return OT_OK;
}
