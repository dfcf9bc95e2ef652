/* links: cli base */
/* The hand-over of one supervisor to the next: what is read can be written, and read again to the
 * same; what is refused says why. */
#include "cli/handover.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static ot_handover h, again;
    ot_error err = {0};
    int memory = -1;
    if (ot_handover_parse((const char *)data, size, &h, &err) != OT_OK) {
        if (err.msg[0] == 0) {
            abort();
        }
        return 0;
    }
    if (ot_handover_write(&h, &memory, &err) != OT_OK ||
        ot_handover_read(memory, &again, &err) != OT_OK) {
        abort();
    }
    memcpy(again.version, h.version, sizeof h.version); /* written is our own */
    if (memcmp(h.children, again.children, sizeof h.children) != 0 || h.lock != again.lock ||
        h.inference != again.inference || h.control != again.control || h.again != again.again ||
        h.n_more != again.n_more || memcmp(h.more, again.more, sizeof h.more) != 0 ||
        strcmp(h.why, again.why) != 0 || strcmp(h.control_addr, again.control_addr) != 0) {
        abort();
    }
    ot_fd_close(&memory);
    return 0;
}
