/* links: codec base */
/* A recording: any bytes; what is taken lies within the file, and its bodies are decoded. */
#include "codec/record.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *file = malloc(size > 0 ? size : 1); /* exact, so that reading past its end is found */
    size_t at;
    ot_error err;
    if (file == NULL) {
        abort();
    }
    if (size > 0) {
        memcpy(file, data, size);
    }
    bool more = ot_record_begin(file, size, &at, &err) == OT_OK;
    while (more) {
        ot_record r;
        size_t before = at;
        if (ot_record_next(file, size, &at, &r, &more, &err) != OT_OK || !more) {
            break;
        }
        if (at <= before || at > size || r.answer + r.answer_len != file + at) {
            abort();
        }
        ot_arena arena;
        ot_oip_request request;
        ot_oip_response answer;
        ot_arena_init(&arena, 4096, 1 << 20);
        (void)!ot_oip_request_decode(r.request, r.request_len, (int64_t)r.request_head, NULL,
                                     &arena, &request, &err);
        (void)!ot_oip_response_decode(r.answer, r.answer_len, (int64_t)r.answer_head, &arena,
                                      &answer, &err);
        ot_arena_done(&arena);
    }
    free(file);
    return 0;
}
