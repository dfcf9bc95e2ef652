/* Headers of tar archives (POSIX.1-2017, pax, "ustar Interchange Format").
 *
 * An archive is, for each file, a header of 512 bytes and the bytes padded with zeros to a multiple
 * of 512; two blocks of zeros end it. Threads: any; pure. */
#ifndef OT_CODEC_TAR_H
#define OT_CODEC_TAR_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OT_TAR_BLOCK 512
#define OT_TAR_NAME_MAX 255                       /* bytes */
#define OT_TAR_SIZE_MAX ((UINT64_C(1) << 33) - 1) /* bytes of a file */

typedef struct ot_tar_entry {
    char name[OT_TAR_NAME_MAX + 2];
    uint64_t size;
    int64_t mtime_s;
    unsigned mode; /* permission bits */
    char type;     /* '0' (or 0): a regular file; not for ot_tar_format */
} ot_tar_entry;

/* The header of a regular file. OT_EXHAUSTED: the name or the size does not fit. */
ot_rc ot_tar_format(const ot_tar_entry *e, uint8_t out[OT_TAR_BLOCK], ot_error *err) OT_CHECKED;
/* False: no header, or a damaged one. Does not judge name and type. */
bool ot_tar_parse(const uint8_t block[OT_TAR_BLOCK], ot_tar_entry *out);
/* What follows a file's bytes up to the next header. */
size_t ot_tar_padding(uint64_t size);

#endif
