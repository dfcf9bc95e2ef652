/* Zip archives, as NumPy's .npz are: a bounded walk through the members of one in memory.
 *
 * Accepted: members stored or deflated, with or without data descriptor and zip64 sizes. Refused,
 * each by name: encryption, other methods, several disks, sizes that leave the file, a member that
 * inflates to another size than it states, a wrong CRC, more than the caps below.
 * Threads: any; pure. Lifetime: members point into the archive.
 * Source: PKWARE APPNOTE 6.3.10; RFC 1951. */
#ifndef OT_CODEC_ZIP_H
#define OT_CODEC_ZIP_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OT_ZIP_MEMBERS_MAX 256
#define OT_ZIP_NAME_MAX 132   /* a column's name and ".npy" */
#define OT_ZIP_RATIO_MAX 1032 /* what deflate can reach; a member that states more lies */

typedef struct ot_zip {
    const uint8_t *p;
    size_t n;
    uint64_t entries, dir_at, dir_bytes; /* the central directory */
    uint64_t at, seen;                   /* in the directory */
} ot_zip;

typedef struct ot_zip_member {
    char name[OT_ZIP_NAME_MAX + 1];
    unsigned flags, method; /* method 0: stored, `size` bytes at `data` */
    uint32_t crc;
    uint64_t packed, size, local_at;
    const uint8_t *data; /* `packed` bytes */
} ot_zip_member;

ot_rc ot_zip_open(const void *p, size_t n, ot_zip *out, ot_error *err) OT_CHECKED;
/* The next member; *more_out is false at the end. */
ot_rc ot_zip_next(ot_zip *z, ot_zip_member *out, bool *more_out, ot_error *err) OT_CHECKED;
/* Writes `size` bytes to `to` and checks their CRC; a stored one is only checked when `to` is its
 * own data. OT_DATA_LOSS: damaged. */
ot_rc ot_zip_unpack(const ot_zip_member *m, void *to, ot_error *err) OT_CHECKED;
/* The name without ".npy"; false when it is not NAME.npy with a plain NAME. */
bool ot_zip_npy_name(const ot_zip_member *m, char stem_out[OT_ZIP_NAME_MAX + 1]);

#endif
