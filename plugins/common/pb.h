/* The wire format of Protocol Buffers, as far as plug-ins read models in it.
 * https://protobuf.dev/programming-guides/encoding/
 *
 *     pb m = {bytes, bytes + n, false};
 *     pb_field f;
 *     while (pb_next(&m, &f)) { ... }
 *     if (m.bad) { broken }
 *
 * One thread; the bytes outlive it. */
#ifndef OT_PLUGINS_COMMON_PB_H
#define OT_PLUGINS_COMMON_PB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct pb {
    const uint8_t *p, *end;
    bool bad;
} pb;

enum { PB_VARINT = 0, PB_FIXED64 = 1, PB_BYTES = 2, PB_FIXED32 = 5 };

typedef struct pb_field {
    uint32_t number, wire;
    uint64_t value; /* PB_VARINT */
    pb bytes;       /* PB_BYTES */
} pb_field;

static inline uint64_t pb_varint(pb *m)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64 && m->p < m->end; shift += 7) {
        uint8_t b = *m->p++;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (b < 0x80) {
            return v;
        }
    }
    m->bad = true;
    return 0;
}

/* The next field; false at the end and on broken bytes (m->bad). */
static inline bool pb_next(pb *m, pb_field *f)
{
    if (m->bad || m->p == m->end) {
        return false;
    }
    uint64_t key = pb_varint(m);
    f->number = (uint32_t)(key >> 3);
    f->wire = (uint32_t)(key & 7);
    size_t left = (size_t)(m->end - m->p), n = 0;
    if (m->bad || key >> 32 != 0 || f->number == 0) {
        m->bad = true;
    } else if (f->wire == PB_VARINT) {
        f->value = pb_varint(m);
    } else if (f->wire == PB_FIXED64 || f->wire == PB_FIXED32) {
        n = f->wire == PB_FIXED64 ? 8 : 4;
        m->bad = left < n;
    } else if (f->wire == PB_BYTES) {
        uint64_t len = pb_varint(m);
        left = (size_t)(m->end - m->p);
        m->bad = m->bad || len > left;
        n = m->bad ? 0 : (size_t)len;
        f->bytes = (pb){m->p, m->p + n, false};
    } else {
        m->bad = true;
    }
    m->p += m->bad ? 0 : n;
    return !m->bad;
}

#endif
