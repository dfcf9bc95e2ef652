/* links: codec base */
/* Bodies of gRPC calls: the first byte chooses the coding, then frames follow. What is unpacked
 * lies in the body or the arena and keeps the limit, and the result does not depend on where the
 * body was cut. Then the same bytes as a timeout and as a status text. */
#include "codec/grpc.h"

#include <stdlib.h>
#include <string.h>

#define MAX 65536

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile unsigned sink;

static void read_message(const ot_grpc_frame *f, ot_grpc_coding coding)
{
    ot_arena arena;
    ot_error err;
    const char *p;
    size_t n;
    ot_arena_init(&arena, 4096, 1u << 20);
    if (ot_grpc_message(f, coding, MAX, &arena, &p, &n, &err) == OT_OK) {
        if (n > MAX) {
            abort();
        }
        for (size_t i = 0; i < n; i++) {
            sink += (unsigned char)p[i];
        }
    }
    ot_arena_done(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    ot_grpc_coding coding = (ot_grpc_coding)(data[0] % 3);
    const char *p = (const char *)data + 1, *end = (const char *)data + size;
    ot_error err;
    while (p < end) {
        ot_grpc_frame f, again;
        size_t n = (size_t)(end - p);
        if (ot_grpc_frame_read(p, n, coding, MAX, &f, &err) != OT_OK || f.size == 0) {
            break;
        }
        if (f.size > n || f.p + f.n > end ||
            ot_grpc_frame_read(p, f.size, coding, MAX, &again, &err) != OT_OK ||
            again.size != f.size ||
            ot_grpc_frame_read(p, f.size - 1, coding, MAX, &again, &err) != OT_OK ||
            again.size != 0) {
            abort();
        }
        read_message(&f, coding);
        p += f.size;
    }
    uint64_t ns;
    if (ot_grpc_timeout((const char *)data, size, &ns) && ns > UINT64_C(1) << 58) {
        abort();
    }
    ot_str s = OT_STR_INIT, text = OT_STR_INIT;
    ot_str_add(&text, data, size);
    ot_grpc_status_text(text.data, &s);
    for (size_t i = 0; i < s.len; i++) {
        if (s.data[i] < 0x20 || s.data[i] == 0x7f) {
            abort();
        }
    }
    ot_str_done(&s);
    ot_str_done(&text);
    return 0;
}
