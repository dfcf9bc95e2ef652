/* links: net base */
/* The frame decoder: what it accepts lies inside the buffer, within the limits, and encodes back to
 * the same bytes; what it wants grows only with the head. */
#include "net/frame.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const ot_frame_limits limits = {.json_max = 4096, .bin_max = 4096, .queue_max = 65536};
    for (size_t at = 0; at <= size;) {
        ot_frame f = {0};
        size_t need = 0;
        ot_error err;
        if (ot_frame_decode(data + at, size - at, &limits, &f, &need, &err) != OT_OK) {
            break;
        }
        if (need < OT_FRAME_HEAD || need > OT_FRAME_HEAD + 8192) {
            abort();
        }
        if (size - at < need) {
            break;
        }
        uint8_t head[OT_FRAME_HEAD];
        ot_frame_head_put(head, f.type, (uint32_t)f.json_len, (uint32_t)f.bin_len);
        if (memcmp(head, data + at, sizeof head) != 0 ||
            f.json_len + f.bin_len + OT_FRAME_HEAD != need ||
            (const uint8_t *)f.json != data + at + OT_FRAME_HEAD ||
            f.bin + f.bin_len != data + at + need) {
            abort();
        }
        at += need;
    }
    return 0;
}
