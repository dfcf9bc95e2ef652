/* links: cli base */
/* Any text as a program: what is found fits, and a path holds nothing that a quoted scalar can't.
 */
#include "cli/init_scan.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ot_init_scan s;
    ot_init_scan_text((const char *)data, size, &s);
    if (s.n_data > OT_INIT_DATA_MAX || strpbrk(s.model, "\n\"'\\") != NULL ||
        strpbrk(s.unserved, "\n\"'\\") != NULL) {
        abort();
    }
    for (size_t i = 0; i < s.n_data; i++) {
        if (s.data[i][0] == 0 || strpbrk(s.data[i], "\n\"'\\") != NULL) {
            abort();
        }
    }
    return 0;
}
