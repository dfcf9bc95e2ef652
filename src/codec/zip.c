#include "codec/zip.h"

#include "base/mem.h"

#include <inttypes.h>
#include <string.h>
#include <zlib.h>

enum {
    EOCD_BYTES = 22,
    EOCD64_BYTES = 56,
    LOCATOR64_BYTES = 20,
    CENTRAL_BYTES = 46,
    LOCAL_BYTES = 30,
    COMMENT_MAX = 65535,
};
#define SIG_EOCD 0x06054b50u
#define SIG_EOCD64 0x06064b50u
#define SIG_LOCATOR64 0x07064b50u
#define SIG_CENTRAL 0x02014b50u
#define SIG_LOCAL 0x04034b50u

static uint16_t u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t u32(const uint8_t *p)
{
    return (uint32_t)u16(p) | (uint32_t)u16(p + 2) << 16;
}

static uint64_t u64(const uint8_t *p)
{
    return (uint64_t)u32(p) | (uint64_t)u32(p + 4) << 32;
}

static ot_rc bad(ot_error *err, const char *what)
{
    return ot_fail(err, OT_INVALID, "npz: %s", what);
}

static ot_rc find_end64(ot_zip *a, size_t eocd, ot_error *err)
{
    if (eocd < LOCATOR64_BYTES || u32(a->p + eocd - LOCATOR64_BYTES) != SIG_LOCATOR64) {
        return bad(err, "zip64 sizes without their locator");
    }
    uint64_t at = u64(a->p + eocd - LOCATOR64_BYTES + 8);
    if (at > eocd || eocd - at < EOCD64_BYTES || u32(a->p + at) != SIG_EOCD64) {
        return bad(err, "the zip64 locator points at nothing");
    }
    const uint8_t *e = a->p + at;
    if (u32(e + 16) != 0 || u32(e + 20) != 0 || u64(e + 24) != u64(e + 32)) {
        return bad(err, "split over several disks");
    }
    a->entries = u64(e + 32);
    a->dir_bytes = u64(e + 40);
    a->dir_at = u64(e + 48);
    return OT_OK;
}

static ot_rc find_end(ot_zip *a, ot_error *err)
{
    if (a->n < EOCD_BYTES) {
        return bad(err, "too short for a zip archive, or cut off");
    }
    size_t lowest = a->n - EOCD_BYTES > COMMENT_MAX ? a->n - EOCD_BYTES - COMMENT_MAX : 0;
    size_t at = a->n - EOCD_BYTES;
    /* The comment must reach exactly to the end, so that a comment cannot pose as a directory. */
    while (u32(a->p + at) != SIG_EOCD || u16(a->p + at + 20) != a->n - at - EOCD_BYTES) {
        if (at == lowest) {
            return bad(err, "not a zip archive, or cut off (no end of central directory)");
        }
        at--;
    }
    const uint8_t *e = a->p + at;
    if (u16(e + 4) == 0xffff || u16(e + 8) == 0xffff || u32(e + 12) == UINT32_MAX ||
        u32(e + 16) == UINT32_MAX) {
        OT_TRY(find_end64(a, at, err));
    } else {
        if (u16(e + 4) != 0 || u16(e + 6) != 0 || u16(e + 8) != u16(e + 10)) {
            return bad(err, "split over several disks");
        }
        a->entries = u16(e + 10);
        a->dir_bytes = u32(e + 12);
        a->dir_at = u32(e + 16);
    }
    if (a->dir_at > at || a->dir_bytes > at - a->dir_at) {
        return bad(err, "the central directory lies outside the file");
    }
    if (a->entries == 0 || a->entries > OT_ZIP_MEMBERS_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "npz: %" PRIu64 " members; 1 to %d are accepted",
                       a->entries, OT_ZIP_MEMBERS_MAX);
    }
    return OT_OK;
}

/* Sizes that do not fit 32 bits lie in extra field 1, in this order, each only if it is needed. */
static bool read_zip64_extra(const uint8_t *x, size_t n, ot_zip_member *m)
{
    while (n >= 4) {
        size_t len = u16(x + 2);
        if (len > n - 4) {
            return false;
        }
        if (u16(x) == 1) {
            const uint8_t *p = x + 4;
            uint64_t *fields[] = {&m->size, &m->packed, &m->local_at};
            for (size_t i = 0; i < 3; i++) {
                if (*fields[i] != UINT32_MAX) {
                    continue;
                }
                if (len < 8) {
                    return false;
                }
                *fields[i] = u64(p);
                p += 8;
                len -= 8;
            }
            return true;
        }
        x += 4 + len;
        n -= 4 + len;
    }
    return m->size != UINT32_MAX && m->packed != UINT32_MAX && m->local_at != UINT32_MAX;
}

static ot_rc read_central(const ot_zip *a, uint64_t *at, ot_zip_member *m, ot_error *err)
{
    uint64_t end = a->dir_at + a->dir_bytes;
    const uint8_t *e = a->p + *at;
    if (end - *at < CENTRAL_BYTES || u32(e) != SIG_CENTRAL) {
        return bad(err, "the central directory is damaged");
    }
    size_t name = u16(e + 28), extra = u16(e + 30), comment = u16(e + 32);
    if (end - *at - CENTRAL_BYTES < name + extra + comment) {
        return bad(err, "the central directory is cut off");
    }
    if (name == 0 || name > OT_ZIP_NAME_MAX || memchr(e + CENTRAL_BYTES, 0, name) != NULL) {
        return ot_fail(err, OT_INVALID,
                       "npz: a member's name has %zu bytes or a NUL; up to %d are accepted", name,
                       OT_ZIP_NAME_MAX);
    }
    *m = (ot_zip_member){.flags = u16(e + 8),
                         .method = u16(e + 10),
                         .crc = u32(e + 16),
                         .packed = u32(e + 20),
                         .size = u32(e + 24),
                         .local_at = u32(e + 42)};
    memcpy(m->name, e + CENTRAL_BYTES, name);
    bool zip64 = m->size == UINT32_MAX || m->packed == UINT32_MAX || m->local_at == UINT32_MAX;
    if (zip64 && !read_zip64_extra(e + CENTRAL_BYTES + name, extra, m)) {
        return bad(err, "a member's zip64 sizes are damaged");
    }
    *at += CENTRAL_BYTES + name + extra + comment;
    return OT_OK;
}

/* The member's packed bytes; its local header says only where they begin. */
static ot_rc find_packed(const ot_zip *a, ot_zip_member *m, ot_error *err)
{
    /* Data lie before the directory, so that a member cannot pose as one. */
    if (m->local_at > a->dir_at || a->dir_at - m->local_at < LOCAL_BYTES ||
        u32(a->p + m->local_at) != SIG_LOCAL) {
        return ot_fail(err, OT_INVALID, "npz: '%s': no local header where one should be", m->name);
    }
    const uint8_t *l = a->p + m->local_at;
    uint64_t head = (uint64_t)LOCAL_BYTES + u16(l + 26) + u16(l + 28);
    if (u16(l + 26) != strlen(m->name) || a->dir_at - m->local_at < head ||
        memcmp(l + LOCAL_BYTES, m->name, u16(l + 26)) != 0) {
        return ot_fail(err, OT_INVALID, "npz: '%s': its two headers disagree", m->name);
    }
    if (a->dir_at - m->local_at - head < m->packed) {
        return ot_fail(err, OT_INVALID, "npz: '%s': %" PRIu64 " bytes are more than the file has",
                       m->name, m->packed);
    }
    m->data = l + head;
    return OT_OK;
}

static ot_rc check_member(const ot_zip_member *m, ot_error *err)
{
    if (m->flags & 0x2041) { /* encrypted: bits 0, 6, 13 */
        return ot_fail(err, OT_INVALID, "npz: '%s' is encrypted", m->name);
    }
    if (m->method != 0 && m->method != 8) {
        return ot_fail(err, OT_INVALID,
                       "npz: '%s' uses zip method %u; stored (0) and deflate (8) are accepted",
                       m->name, m->method);
    }
    bool lies = m->method == 0 ? m->size != m->packed : m->size / OT_ZIP_RATIO_MAX > m->packed;
    if (lies) {
        return ot_fail(err, OT_INVALID,
                       "npz: '%s' states %" PRIu64 " bytes from %" PRIu64 ", which is not possible",
                       m->name, m->size, m->packed);
    }
    return OT_OK;
}

/* Inflates exactly `n` bytes; zlib's counters are 32 bits, so in steps. */
static bool inflate_exactly(const uint8_t *from, uint64_t packed, uint8_t *to, uint64_t n)
{
    z_stream z = {0};
    if (inflateInit2(&z, -MAX_WBITS) != Z_OK) {
        return false;
    }
    int rc = Z_OK;
    uint64_t in_left = packed, out_left = n;
    uint8_t spare; /* one byte more shows a member that is longer than it states */
    union {        /* zlib's input pointer is not const in its default API */
        const uint8_t *c;
        uint8_t *p;
    } in = {.c = from};
    z.next_in = in.p;
    z.next_out = to;
    while (rc == Z_OK) {
        if (z.avail_in == 0 && in_left > 0) {
            z.avail_in = (uInt)OT_MIN(in_left, (uint64_t)1 << 30);
            in_left -= z.avail_in;
        }
        if (z.avail_out == 0 && out_left > 0) {
            z.avail_out = (uInt)OT_MIN(out_left, (uint64_t)1 << 30);
            out_left -= z.avail_out;
        } else if (z.avail_out == 0) {
            z.next_out = &spare;
            z.avail_out = 1;
        }
        rc = inflate(&z, Z_NO_FLUSH);
        if (z.next_out == &spare + 1) {
            rc = Z_DATA_ERROR;
        }
    }
    bool whole = rc == Z_STREAM_END && z.avail_in == 0 && in_left == 0 && out_left == 0 &&
                 (z.next_out == to + n || z.next_out == &spare);
    inflateEnd(&z);
    return whole;
}

static uint32_t crc_of(const uint8_t *p, uint64_t n)
{
    uLong crc = crc32(0, NULL, 0);
    while (n > 0) {
        uInt some = (uInt)OT_MIN(n, (uint64_t)1 << 30);
        crc = crc32(crc, p, some);
        p += some;
        n -= some;
    }
    return (uint32_t)crc;
}

ot_rc ot_zip_open(const void *p, size_t n, ot_zip *out, ot_error *err)
{
    ot_zip a = {.p = p, .n = n};
    OT_TRY(find_end(&a, err));
    a.at = a.dir_at;
    *out = a;
    return OT_OK;
}

ot_rc ot_zip_next(ot_zip *a, ot_zip_member *out, bool *more_out, ot_error *err)
{
    if (a->seen == a->entries) {
        if (a->at != a->dir_at + a->dir_bytes) {
            return bad(err, "the central directory has more than its entries");
        }
        *more_out = false;
        return OT_OK;
    }
    ot_zip_member m;
    OT_TRY(read_central(a, &a->at, &m, err));
    OT_TRY(check_member(&m, err));
    OT_TRY(find_packed(a, &m, err));
    a->seen++;
    *out = m;
    *more_out = true;
    return OT_OK;
}

ot_rc ot_zip_unpack(const ot_zip_member *m, void *to, ot_error *err)
{
    bool whole = true;
    if (m->method != 0) {
        whole = inflate_exactly(m->data, m->packed, to, m->size);
    } else if (to != m->data) {
        memcpy(to, m->data, (size_t)m->size);
    }
    if (!whole || crc_of(to, m->size) != m->crc) {
        return ot_fail(err, OT_DATA_LOSS, "npz: '%s': %s", m->name,
                       whole ? "its CRC does not match: it was changed or damaged"
                             : "its deflated data are damaged or not of the stated size");
    }
    return OT_OK;
}

bool ot_zip_npy_name(const ot_zip_member *m, char stem_out[OT_ZIP_NAME_MAX + 1])
{
    size_t n = strlen(m->name);
    if (n < 5 || memcmp(m->name + n - 4, ".npy", 4) != 0 || strchr(m->name, '/') != NULL ||
        strchr(m->name, '\\') != NULL) {
        return false;
    }
    memcpy(stem_out, m->name, n - 4);
    stem_out[n - 4] = '\0';
    return true;
}
