#include "net/frame.h"

#include <string.h>

const ot_frame_limits ot_frame_limits_default = {
    .json_max = 1u << 20, .bin_max = 64u << 20, .queue_max = (size_t)96 << 20};

static uint32_t get_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void put_u32(uint8_t *p, uint32_t x)
{
    p[0] = (uint8_t)x;
    p[1] = (uint8_t)(x >> 8);
    p[2] = (uint8_t)(x >> 16);
    p[3] = (uint8_t)(x >> 24);
}

void ot_frame_head_put(uint8_t head[OT_FRAME_HEAD], uint32_t type, uint32_t json_len,
                       uint32_t bin_len)
{
    put_u32(head, OT_FRAME_MAGIC);
    put_u32(head + 4, type);
    put_u32(head + 8, json_len);
    put_u32(head + 12, bin_len);
}

ot_rc ot_frame_decode(const uint8_t *buf, size_t n, const ot_frame_limits *limits,
                      ot_frame *frame_out, size_t *need_out, ot_error *err)
{
    if (n >= 4 && get_u32(buf) != OT_FRAME_MAGIC) {
        return ot_fail(err, OT_DATA_LOSS,
                       "a frame starts with %08x, not with %08x: not the agent protocol, or "
                       "another version of its framing",
                       get_u32(buf), OT_FRAME_MAGIC);
    }
    if (n < OT_FRAME_HEAD) {
        *need_out = OT_FRAME_HEAD;
        return OT_OK;
    }
    uint32_t type = get_u32(buf + 4), json = get_u32(buf + 8), bin = get_u32(buf + 12);
    if (json > limits->json_max || bin > limits->bin_max) {
        return ot_fail(err, OT_EXHAUSTED,
                       "frame of type %u has %u bytes of JSON and %u of binary; the limits are %u "
                       "and %u",
                       type, json, bin, limits->json_max, limits->bin_max);
    }
    size_t need = (size_t)OT_FRAME_HEAD + json + bin;
    if (n >= need) {
        *frame_out = (ot_frame){.type = type,
                                .json = (const char *)(buf + OT_FRAME_HEAD),
                                .json_len = json,
                                .bin = buf + OT_FRAME_HEAD + json,
                                .bin_len = bin};
    }
    *need_out = need;
    return OT_OK;
}
