/* links: cli net codec base */
/* An archive of a version: whatever is accepted can be read whole, entry by entry. */
#include "base/mem.h"
#include "cli/archive.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    static char path[64];
    ot_error e;
    OT_AUTO(ot_archive_close) ot_archive a = {0};
    if (fd < 0) {
        fd = memfd_create("archive", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (ftruncate(fd, 0) != 0 || pwrite(fd, data, size, 0) != (ssize_t)size) {
        abort();
    }
    if (ot_archive_open(ot_disk_posix(), path, &a, &e) != OT_OK) {
        if (strlen(e.msg) == 0) {
            abort(); /* refused without a reason */
        }
        return 0;
    }
    for (size_t i = 0; i < a.n; i++) {
        OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
        if (!ot_path_is_clean(a.entries[i].name) ||
            ot_archive_read(&a, a.entries[i].name, 0, size, &out, &e) != OT_OK ||
            out.len != a.entries[i].size) {
            abort();
        }
    }
    return 0;
}
