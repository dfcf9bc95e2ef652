#include "codec/tar.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Where the fields lie. */
enum {
    AT_MODE = 100,
    AT_UID = 108,
    AT_GID = 116,
    AT_SIZE = 124,
    AT_MTIME = 136,
    AT_SUM = 148,
    AT_TYPE = 156,
    AT_MAGIC = 257,
};

static unsigned sum_of(const uint8_t h[OT_TAR_BLOCK])
{
    unsigned sum = 0;
    for (size_t i = 0; i < OT_TAR_BLOCK; i++) {
        sum += i >= AT_SUM && i < AT_TYPE ? ' ' : h[i];
    }
    return sum;
}

/* `digits` octal ones, zero-padded, then a zero byte. */
static void put_octal(uint8_t *at, int digits, uint64_t x)
{
    for (int i = digits; i-- > 0; x >>= 3) {
        at[i] = (uint8_t)('0' + (x & 7));
    }
    at[digits] = 0;
}

ot_rc ot_tar_header(const ot_tar_entry *e, uint8_t out[OT_TAR_BLOCK], ot_error *err)
{
    size_t n = strlen(e->name);
    if (n == 0 || n > OT_TAR_NAME_MAX || e->size > OT_TAR_SIZE_MAX) {
        return ot_fail(err, OT_RANGE,
                       "%.120s: %zu characters and %" PRIu64 " bytes; an archive takes a name of "
                       "%d and 8 GiB",
                       e->name, n, e->size, OT_TAR_NAME_MAX);
    }
    memset(out, 0, OT_TAR_BLOCK);
    memcpy(out, e->name, n);
    put_octal(out + AT_MODE, 7, e->mode & 0777);
    put_octal(out + AT_UID, 7, 0);
    put_octal(out + AT_GID, 7, 0);
    put_octal(out + AT_SIZE, 11, e->size);
    put_octal(out + AT_MTIME, 11, e->mtime_s > 0 ? (uint64_t)e->mtime_s : 0);
    out[AT_TYPE] = '0';
    memcpy(out + AT_MAGIC, "ustar\00000", 8);
    put_octal(out + AT_SUM, 6, sum_of(out));
    out[AT_SUM + 7] = ' ';
    return OT_OK;
}

size_t ot_tar_padding(uint64_t size)
{
    return (size_t)((OT_TAR_BLOCK - size % OT_TAR_BLOCK) % OT_TAR_BLOCK);
}
