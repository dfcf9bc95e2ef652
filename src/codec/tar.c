#include "codec/tar.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Numbers are octal text. */
typedef struct header {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, linkname[100],
        magic[6], version[2], uname[32], gname[32], devmajor[8], devminor[8], prefix[155], pad[12];
} header;
_Static_assert(sizeof(header) == OT_TAR_BLOCK, "ustar");

/* The sum of all bytes, the field itself counted as blanks. */
static unsigned checksum_of(const header *h)
{
    const unsigned char *p = (const unsigned char *)h;
    size_t from = offsetof(header, checksum), to = from + sizeof h->checksum;
    unsigned sum = 0;
    for (size_t i = 0; i < sizeof *h; i++) {
        sum += i >= from && i < to ? ' ' : p[i];
    }
    return sum;
}

/* The last '/' that leaves at most 155 bytes before it and 100 behind. */
static bool set_name(header *h, const char *name)
{
    size_t n = strlen(name), cut = 0;
    if (n <= sizeof h->name) {
        memcpy(h->name, name, n);
        return n > 0;
    }
    for (size_t i = 1; i < n && i <= sizeof h->prefix; i++) {
        cut = name[i] == '/' ? i : cut;
    }
    if (cut == 0 || n - cut - 1 > sizeof h->name) {
        return false;
    }
    memcpy(h->prefix, name, cut);
    memcpy(h->name, name + cut + 1, n - cut - 1);
    return true;
}

ot_rc ot_tar_format(const ot_tar_entry *e, uint8_t out[OT_TAR_BLOCK], ot_error *err)
{
    header h = {.uid = "0000000", .gid = "0000000", .type = '0', .version = {'0', '0'}};
    char number[24];
    uint64_t mtime = e->mtime_s > 0 ? (uint64_t)e->mtime_s : 0;
    if (!set_name(&h, e->name) || e->size > OT_TAR_SIZE_MAX || mtime > OT_TAR_SIZE_MAX) {
        return ot_fail(err, OT_EXHAUSTED,
                       "'%.200s' (%" PRIu64 " bytes): an archive's names have at most %d bytes, "
                       "its files %" PRIu64,
                       e->name, e->size, OT_TAR_NAME_MAX, OT_TAR_SIZE_MAX);
    }
    snprintf(h.mode, sizeof h.mode, "%07o", e->mode & 0777);
    snprintf(number, sizeof number, "%011" PRIo64, e->size);
    memcpy(h.size, number, sizeof h.size);
    snprintf(number, sizeof number, "%011" PRIo64, mtime);
    memcpy(h.mtime, number, sizeof h.mtime);
    memcpy(h.magic, "ustar", sizeof h.magic);
    snprintf(number, sizeof number, "%06o", checksum_of(&h));
    memcpy(h.checksum, number, 7);
    h.checksum[7] = ' ';
    memcpy(out, &h, sizeof h);
    return OT_OK;
}

/* Octal digits, then NULs or blanks to the end of the field. */
static bool octal(const char *field, size_t n, uint64_t *out)
{
    uint64_t x = 0;
    size_t i = 0;
    for (; i < n && field[i] >= '0' && field[i] <= '7'; i++) {
        x = x << 3 | (uint64_t)(field[i] - '0');
    }
    bool any = i > 0;
    for (; i < n; i++) {
        if (field[i] != 0 && field[i] != ' ') {
            return false;
        }
    }
    *out = x;
    return any;
}

static void join_name(const header *h, char out[OT_TAR_NAME_MAX + 2])
{
    size_t prefix = strnlen(h->prefix, sizeof h->prefix), name = strnlen(h->name, sizeof h->name);
    size_t at = 0;
    if (prefix > 0) {
        memcpy(out, h->prefix, prefix);
        out[prefix] = '/';
        at = prefix + 1;
    }
    memcpy(out + at, h->name, name);
    out[at + name] = 0;
}

bool ot_tar_parse(const uint8_t block[OT_TAR_BLOCK], ot_tar_entry *out)
{
    header h;
    uint64_t sum, mtime = 0, mode = 0;
    memcpy(&h, block, sizeof h);
    if (memcmp(h.magic, "ustar", 5) != 0 || !octal(h.checksum, sizeof h.checksum, &sum) ||
        sum != checksum_of(&h) || !octal(h.size, sizeof h.size, &out->size)) {
        return false;
    }
    (void)octal(h.mtime, sizeof h.mtime, &mtime);
    (void)octal(h.mode, sizeof h.mode, &mode);
    out->mtime_s = (int64_t)mtime;
    out->mode = (unsigned)mode & 0777;
    out->type = h.type;
    join_name(&h, out->name);
    return true;
}

size_t ot_tar_padding(uint64_t size)
{
    return (size_t)((OT_TAR_BLOCK - size % OT_TAR_BLOCK) % OT_TAR_BLOCK);
}
