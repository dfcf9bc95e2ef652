/* links: backup store codec base */
/* A packed backup: what is accepted as one can be read, file by file. */
#include "backup/internal.h"
#include "base/mem.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    static char path[64];
    ot_disk *d;
    if (fd < 0) {
        fd = memfd_create("archive", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (ftruncate(fd, 0) != 0 || pwrite(fd, data, size, 0) != (ssize_t)size) {
        abort();
    }
    if (bk_archive_open(ot_disk_posix(), path, &d, NULL) == OT_OK) {
        char name[OT_PATH_MAX];
        ot_digest sha;
        uint64_t bytes;
        snprintf(name, sizeof name, "%s/store/store.db", path);
        ot_rc rc = bk_digest(d, name, NULL, NULL, &sha, &bytes, NULL);
        if (rc == OT_OK && bytes > size) {
            abort();
        }
        rc = ot_backup_read(d, path, NULL, NULL, NULL, NULL);
        (void)rc;
        bk_archive_close(d);
    }
    return 0;
}
