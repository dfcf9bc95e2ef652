/* Little-endian binary forms of this folder: a writer over ot_str and a reader that cannot run past
 * its end. A record is: magic u32, version u16, body length u32, body, checksum u32 of the body.
 *
 * Threads: one at a time. A failed reader stays failed and returns zeros, so that a chain of reads
 * is checked once. */
#ifndef OT_STATS_BIN_H
#define OT_STATS_BIN_H

#include "base/error.h"
#include "base/hash.h"
#include "base/str.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef struct bin_reader {
    const uint8_t *p;
    size_t n, at;
    bool failed;
} bin_reader;

static inline void bin_put_u(ot_str *s, uint64_t x, unsigned bytes)
{
    uint8_t b[8];
    for (unsigned i = 0; i < bytes; i++) {
        b[i] = (uint8_t)(x >> (8 * i));
    }
    ot_str_add(s, b, bytes);
}
static inline void bin_put_u8(ot_str *s, unsigned x)
{
    bin_put_u(s, x, 1);
}
static inline void bin_put_u32(ot_str *s, uint32_t x)
{
    bin_put_u(s, x, 4);
}
static inline void bin_put_u64(ot_str *s, uint64_t x)
{
    bin_put_u(s, x, 8);
}
static inline void bin_put_f32(ot_str *s, float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    bin_put_u32(s, u);
}
static inline void bin_put_f64(ot_str *s, double x)
{
    uint64_t u;
    memcpy(&u, &x, sizeof u);
    bin_put_u64(s, u);
}
static inline void bin_put_varint(ot_str *s, uint64_t x)
{
    uint8_t b[10];
    size_t n = 0;
    for (; x >= 0x80; x >>= 7) {
        b[n++] = (uint8_t)(x | 0x80);
    }
    b[n++] = (uint8_t)x;
    ot_str_add(s, b, n);
}

static inline bool bin_take(bin_reader *r, void *out, size_t n)
{
    if (r->failed || r->n - r->at < n) {
        r->failed = true;
        memset(out, 0, n);
        return false;
    }
    memcpy(out, r->p + r->at, n);
    r->at += n;
    return true;
}
static inline uint64_t bin_get_u(bin_reader *r, unsigned bytes)
{
    uint8_t b[8] = {0};
    bin_take(r, b, bytes);
    uint64_t x = 0;
    for (unsigned i = 0; i < bytes; i++) {
        x |= (uint64_t)b[i] << (8 * i);
    }
    return x;
}
static inline uint8_t bin_get_u8(bin_reader *r)
{
    return (uint8_t)bin_get_u(r, 1);
}
static inline uint32_t bin_get_u32(bin_reader *r)
{
    return (uint32_t)bin_get_u(r, 4);
}
static inline uint64_t bin_get_u64(bin_reader *r)
{
    return bin_get_u(r, 8);
}
static inline float bin_get_f32(bin_reader *r)
{
    uint32_t u = bin_get_u32(r);
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}
static inline double bin_get_f64(bin_reader *r)
{
    uint64_t u = bin_get_u64(r);
    double x;
    memcpy(&x, &u, sizeof x);
    return x;
}
/* A double that must be finite. */
static inline double bin_get_finite(bin_reader *r)
{
    double x = bin_get_f64(r);
    if (!isfinite(x)) {
        r->failed = true;
        return 0;
    }
    return x;
}
static inline uint64_t bin_get_varint(bin_reader *r)
{
    uint64_t x = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t b = bin_get_u8(r);
        x |= (uint64_t)(b & 0x7f) << shift;
        if (b < 0x80) {
            if (shift == 63 && b > 1) {
                break;
            }
            return x;
        }
    }
    r->failed = true;
    return 0;
}

static inline uint32_t bin_checksum(const void *p, size_t n)
{
    return (uint32_t)ot_hash_stable(p, n, 0x73746174);
}

/* Opens a record in `out`; returns where its body starts. */
static inline size_t bin_record_begin(ot_str *out, uint32_t magic, uint16_t version)
{
    bin_put_u32(out, magic);
    bin_put_u(out, version, 2);
    bin_put_u32(out, 0);
    return out->len;
}
static inline void bin_record_end(ot_str *out, size_t body)
{
    if (out->failed || out->len - body > UINT32_MAX) {
        out->failed = true;
        return;
    }
    uint32_t n = (uint32_t)(out->len - body);
    for (unsigned i = 0; i < 4; i++) {
        out->data[body - 4 + i] = (char)(uint8_t)(n >> (8 * i));
    }
    bin_put_u32(out, bin_checksum(out->data + body, n));
}

/* Checks a record at p and gives a reader over its body; `what` names it in errors. */
static inline ot_rc bin_record_open(const void *p, size_t n, uint32_t magic, uint16_t version,
                                    const char *what, bin_reader *body_out, size_t *used_out,
                                    ot_error *err)
{
    bin_reader r = {p, n, 0, false};
    uint32_t got_magic = bin_get_u32(&r);
    uint16_t got_version = (uint16_t)bin_get_u(&r, 2);
    uint32_t len = bin_get_u32(&r);
    if (r.failed || got_magic != magic) {
        return ot_fail(err, OT_INVALID,
                       "%s: these %zu bytes are not one (no '%c%c%c%c' at the start)", what, n,
                       (int)(magic & 0xff), (int)(magic >> 8 & 0xff), (int)(magic >> 16 & 0xff),
                       (int)(magic >> 24 & 0xff));
    }
    if (got_version != version) {
        return ot_fail(err, OT_INVALID, "%s: version %u; this program reads version %u", what,
                       (unsigned)got_version, (unsigned)version);
    }
    if (r.n - r.at < (size_t)len + 4) {
        return ot_fail(err, OT_INVALID, "%s: cut short: %zu bytes of %zu", what, n,
                       (size_t)len + r.at + 4);
    }
    bin_reader sum = {p, n, r.at + len, false};
    if (bin_get_u32(&sum) != bin_checksum(r.p + r.at, len)) {
        return ot_fail(err, OT_DATA_LOSS, "%s: the checksum does not match; the bytes are damaged",
                       what);
    }
    *body_out = (bin_reader){r.p + r.at, len, 0, false};
    *used_out = sum.at;
    return OT_OK;
}

#endif
