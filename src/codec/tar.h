/* Headers of tar archives (POSIX ustar), regular files only.
 *
 * An archive is, for each file, a header of 512 bytes and the bytes padded with zeros to a multiple
 * of 512; at the end two blocks of zeros. Threads: any; pure. Source: POSIX.1-2017, pax. */
#ifndef OT_CODEC_TAR_H
#define OT_CODEC_TAR_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

#define OT_TAR_BLOCK 512
#define OT_TAR_NAME_MAX 100
#define OT_TAR_SIZE_MAX ((UINT64_C(1) << 33) - 1) /* 8 GiB */

typedef struct ot_tar_entry {
    char name[OT_TAR_NAME_MAX + 1];
    uint64_t size;
    int64_t mtime_s;
    unsigned mode;
} ot_tar_entry;

/* OT_RANGE: the name or the size does not fit. */
ot_rc ot_tar_header(const ot_tar_entry *e, uint8_t out[OT_TAR_BLOCK], ot_error *err) OT_CHECKED;
/* What follows a file's bytes up to the next header. */
size_t ot_tar_padding(uint64_t size);

#endif
