/* links: codec base */
/* Headers of .npy files: what is accepted lies within the file and adds up; a tensor is one of
 * them. */
#include "codec/npy.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ot_npy_head h;
    ot_tensor t;
    ot_error e;
    bool head = ot_npy_head_read(data, size, &h, &e) == OT_OK;
    if (head && (h.data_at > size || size - h.data_at != h.data_bytes || h.element_bytes == 0 ||
                 h.rank > OT_RANK_MAX || h.data_bytes % h.element_bytes != 0 ||
                 memchr(h.descr, 0, sizeof h.descr) == NULL ||
                 (h.swap_bytes > 0 && h.element_bytes % h.swap_bytes != 0))) {
        abort();
    }
    if (ot_npy_parse(data, size, &t, &e) == OT_OK &&
        (!head || h.fortran || h.swap_bytes > 0 || t.size_bytes != h.data_bytes ||
         ot_tensor_check(&t, &e) != OT_OK)) {
        abort();
    }
    return 0;
}
