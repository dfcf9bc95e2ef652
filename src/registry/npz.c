#include "registry/npz.h"

#include "base/str.h"
#include "codec/npy.h"

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
    NAME_MAX_BYTES = 132, /* a column's name and ".npy" */
};
#define SIG_EOCD 0x06054b50u
#define SIG_EOCD64 0x06064b50u
#define SIG_LOCATOR64 0x07064b50u
#define SIG_CENTRAL 0x02014b50u
#define SIG_LOCAL 0x04034b50u

typedef struct archive {
    const uint8_t *p;
    size_t n;
    uint64_t entries, dir_at, dir_bytes; /* the central directory */
    uint64_t budget;                     /* bytes that may still be inflated */
} archive;

typedef struct member {
    char name[NAME_MAX_BYTES + 1];
    unsigned flags, method;
    uint32_t crc;
    uint64_t packed, size, local_at;
} member;

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

static ot_rc find_end64(archive *a, size_t eocd, ot_error *err)
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

static ot_rc find_end(archive *a, ot_error *err)
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
    if (a->entries == 0 || a->entries > OT_NPZ_MEMBERS_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "npz: %" PRIu64 " members; 1 to %d are accepted",
                       a->entries, OT_NPZ_MEMBERS_MAX);
    }
    return OT_OK;
}

/* Sizes that do not fit 32 bits lie in extra field 1, in this order, each only if it is needed. */
static bool read_zip64_extra(const uint8_t *x, size_t n, member *m)
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

static ot_rc read_central(const archive *a, uint64_t *at, member *m, ot_error *err)
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
    if (name == 0 || name > NAME_MAX_BYTES || memchr(e + CENTRAL_BYTES, 0, name) != NULL) {
        return ot_fail(err, OT_INVALID,
                       "npz: a member's name has %zu bytes or a NUL; up to %d are accepted", name,
                       NAME_MAX_BYTES);
    }
    *m = (member){.flags = u16(e + 8),
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
static ot_rc find_packed(const archive *a, const member *m, const uint8_t **p_out, ot_error *err)
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
    *p_out = l + head;
    return OT_OK;
}

static ot_rc check_member(const archive *a, const member *m, ot_error *err)
{
    if (m->flags & 0x2041) { /* encrypted: bits 0, 6, 13 */
        return ot_fail(err, OT_INVALID, "npz: '%s' is encrypted", m->name);
    }
    if (m->method != 0 && m->method != 8) {
        return ot_fail(err, OT_INVALID,
                       "npz: '%s' uses zip method %u; stored (0) and deflate (8) are accepted",
                       m->name, m->method);
    }
    bool lies = m->method == 0 ? m->size != m->packed : m->size / OT_NPZ_RATIO_MAX > m->packed;
    if (lies) {
        return ot_fail(err, OT_INVALID,
                       "npz: '%s' states %" PRIu64 " bytes from %" PRIu64 ", which is not possible",
                       m->name, m->size, m->packed);
    }
    if (m->size > a->budget) {
        return ot_fail(err, OT_EXHAUSTED,
                       "npz: '%s' inflates to %" PRIu64 " bytes; %" PRIu64 " are left of the limit",
                       m->name, m->size, a->budget);
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

static ot_rc unpack(archive *a, const member *m, uint8_t **data_out, ot_error *err)
{
    const uint8_t *packed = NULL;
    OT_TRY(check_member(a, m, err));
    OT_TRY(find_packed(a, m, &packed, err));
    uint8_t *data = ot_alloc((size_t)m->size);
    if (data == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "npz: '%s': no memory for %" PRIu64 " bytes", m->name,
                       m->size);
    }
    bool whole = true;
    if (m->method == 0) {
        memcpy(data, packed, (size_t)m->size);
    } else {
        whole = inflate_exactly(packed, m->packed, data, m->size);
    }
    if (!whole || crc_of(data, m->size) != m->crc) {
        ot_free(data);
        return ot_fail(err, OT_DATA_LOSS, "npz: '%s': %s", m->name,
                       whole ? "its CRC does not match: it was changed or damaged"
                             : "its deflated data are damaged or not of the stated size");
    }
    a->budget -= m->size;
    *data_out = data;
    return OT_OK;
}

static ot_rc add_member(archive *a, member *m, ot_table *t, ot_error *err)
{
    size_t n = strlen(m->name);
    if (!ot_has_suffix(m->name, ".npy") || memchr(m->name, '/', n) != NULL ||
        memchr(m->name, '\\', n) != NULL) {
        return ot_fail(err, OT_INVALID, "npz: member '%.140s'; NAME.npy is expected", m->name);
    }
    uint8_t *data = NULL;
    OT_TRY(unpack(a, m, &data, err));
    ot_tensor c;
    ot_rc rc = ot_npy_parse(data, (size_t)m->size, &c, err);
    if (rc != OT_OK) {
        ot_free(data);
        return ot_error_prefix(err, rc, "npz: '%s'", m->name);
    }
    m->name[n - 4] = 0;
    rc = ot_table_add_owned(t, m->name, &c, data, err);
    return rc == OT_OK ? OT_OK : ot_error_prefix(err, rc, "npz");
}

ot_rc ot_npz_read_capped(const void *p, size_t n, unsigned long long bytes_max, ot_table *t,
                         ot_error *err)
{
    archive a = {.p = p, .n = n, .budget = bytes_max};
    OT_TRY(find_end(&a, err));
    uint64_t at = a.dir_at;
    for (uint64_t i = 0; i < a.entries; i++) {
        member m;
        OT_TRY(read_central(&a, &at, &m, err));
        OT_TRY(add_member(&a, &m, t, err));
    }
    if (at != a.dir_at + a.dir_bytes) {
        return bad(err, "the central directory has more than its entries");
    }
    return OT_OK;
}

ot_rc ot_npz_read(const void *p, size_t n, ot_table *t, ot_error *err)
{
    return ot_npz_read_capped(p, n, OT_NPZ_BYTES_MAX, t, err);
}
