#include "codec/pb.h"

#include "codec/json_scan.h"

enum { GROUP_BEGIN = 3, GROUP_END = 4 };

void ot_pb_init(ot_pb *r, const void *p, size_t n, const char *what)
{
    const uint8_t *at = p;
    *r = (ot_pb){.begin = at, .at = at, .end = n > 0 ? at + n : at, .what = what};
}

bool ot_pb_varint_long(const uint8_t **at, const uint8_t *end, uint64_t *x_out)
{
    uint64_t x = 0;
    const uint8_t *p = *at;
    for (unsigned shift = 0; p < end; shift += 7) {
        uint8_t b = *p++;
        x |= (uint64_t)(b & 0x7f) << shift;
        if (b < 0x80) {
            if (shift == 63 && b > 1) {
                return false;
            }
            *at = p;
            *x_out = x;
            return true;
        }
        if (shift == 63) {
            return false;
        }
    }
    return false;
}

static ot_rc broken(const ot_pb *r, const char *why, ot_error *err)
{
    return ot_fail(err, OT_INVALID, "%s: byte %zu: %s", r->what, (size_t)(r->at - r->begin), why);
}

static uint64_t little_endian(const uint8_t *p, unsigned n)
{
    uint64_t x = 0;
    for (unsigned i = 0; i < n; i++) {
        x |= (uint64_t)p[i] << (8 * i);
    }
    return x;
}

/* What follows the tag of a field that is no group. */
static ot_rc read_value(ot_pb *r, unsigned wire, ot_pb_field *f, ot_error *err)
{
    size_t left = (size_t)(r->end - r->at);
    uint64_t n;
    f->wire = (ot_pb_wire)wire;
    f->u = 0;
    f->p = NULL;
    f->n = 0;
    switch (wire) {
    case OT_PB_VARINT:
        return ot_pb_varint(&r->at, r->end, &f->u) ? OT_OK : broken(r, "a broken varint", err);
    case OT_PB_LEN:
        if (!ot_pb_varint(&r->at, r->end, &n)) {
            return broken(r, "a broken length", err);
        }
        left = (size_t)(r->end - r->at);
        if (n > left) {
            return ot_fail(
                err, OT_INVALID, "%s: byte %zu: field %u says that it has %llu bytes; %zu are left",
                r->what, (size_t)(r->at - r->begin), f->number, (unsigned long long)n, left);
        }
        f->p = r->at;
        f->n = (size_t)n;
        r->at += n;
        return OT_OK;
    case OT_PB_FIXED64:
    case OT_PB_FIXED32: {
        unsigned size = wire == OT_PB_FIXED64 ? 8 : 4;
        if (left < size) {
            return broken(r, "it ends within a number", err);
        }
        f->u = little_endian(r->at, size);
        r->at += size;
        return OT_OK;
    }
    default:
        return broken(r, "a tag has no wire type that exists", err);
    }
}

static ot_rc read_tag(ot_pb *r, uint32_t *number, unsigned *wire, ot_error *err)
{
    uint64_t tag;
    if (!ot_pb_varint(&r->at, r->end, &tag) || tag > UINT32_MAX || tag >> 3 == 0) {
        return broken(r, "a broken tag", err);
    }
    *number = (uint32_t)(tag >> 3);
    *wire = (unsigned)(tag & 7);
    return OT_OK;
}

/* Passes over a group whose begin was read: to its own end, groups within it closed in order. */
static ot_rc skip_group(ot_pb *r, uint32_t number, ot_error *err)
{
    uint32_t open[OT_PB_DEPTH_MAX];
    int n = 0;
    open[n++] = number;
    while (n > 0) {
        ot_pb_field f;
        unsigned wire;
        OT_TRY(read_tag(r, &f.number, &wire, err));
        if (wire == GROUP_BEGIN) {
            if (n == OT_PB_DEPTH_MAX - r->depth) {
                return broken(r, "groups are nested too deep", err);
            }
            open[n++] = f.number;
        } else if (wire == GROUP_END) {
            if (open[--n] != f.number) {
                return broken(r, "a group ends that is not open", err);
            }
        } else {
            OT_TRY(read_value(r, wire, &f, err));
        }
    }
    return OT_OK;
}

ot_rc ot_pb_next(ot_pb *r, ot_pb_field *f, ot_error *err)
{
    for (;;) {
        unsigned wire;
        if (r->at == r->end) {
            *f = (ot_pb_field){0};
            return OT_OK;
        }
        OT_TRY(read_tag(r, &f->number, &wire, err));
        if (wire == GROUP_END) {
            return broken(r, "a group ends that is not open", err);
        }
        if (wire != GROUP_BEGIN) {
            return read_value(r, wire, f, err);
        }
        OT_TRY(skip_group(r, f->number, err));
    }
}

static const char *wire_name(ot_pb_wire w)
{
    return w == OT_PB_VARINT    ? "a varint"
           : w == OT_PB_FIXED64 ? "a 64-bit number"
           : w == OT_PB_FIXED32 ? "a 32-bit number"
                                : "length-delimited";
}

ot_rc ot_pb_want(const ot_pb *r, const ot_pb_field *f, ot_pb_wire wire, const char *name,
                 ot_error *err)
{
    return f->wire == wire ? OT_OK
                           : ot_fail(err, OT_INVALID, "%s: field '%s' (%u) is sent as %s; it is %s",
                                     r->what, name, f->number, wire_name(f->wire), wire_name(wire));
}

ot_rc ot_pb_enter(const ot_pb *r, const ot_pb_field *f, const char *name, const char *what,
                  ot_pb *sub, ot_error *err)
{
    OT_TRY(ot_pb_want(r, f, OT_PB_LEN, name, err));
    if (r->depth + 1 >= OT_PB_DEPTH_MAX) {
        return ot_fail(err, OT_INVALID, "%s: field '%s' is nested deeper than %d messages", r->what,
                       name, OT_PB_DEPTH_MAX);
    }
    int depth = r->depth + 1;
    ot_pb_init(sub, f->p, f->n, what);
    sub->depth = depth;
    return OT_OK;
}

ot_rc ot_pb_string(const ot_pb *r, const ot_pb_field *f, const char *name, ot_arena *arena,
                   const char **z_out, ot_error *err)
{
    OT_TRY(ot_pb_want(r, f, OT_PB_LEN, name, err));
    const char *p = (const char *)f->p;
    if (memchr(p, '\0', f->n) != NULL || !ot_utf8_valid(p, f->n)) {
        return ot_fail(err, OT_INVALID, "%s: field '%s' is not UTF-8 text without NUL", r->what,
                       name);
    }
    const char *z = ot_arena_strndup(arena, p, f->n);
    if (z == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "%s: field '%s' needs more memory than its limit allows",
                       r->what, name);
    }
    *z_out = z;
    return OT_OK;
}

ot_rc ot_pb_i64s(const ot_pb *r, const ot_pb_field *f, const char *name, int64_t *out, size_t max,
                 size_t *n, ot_error *err)
{
    uint64_t x = f->u;
    bool packed = f->wire == OT_PB_LEN;
    if (!packed) {
        OT_TRY(ot_pb_want(r, f, OT_PB_VARINT, name, err));
    }
    for (const uint8_t *at = f->p, *end = packed ? f->p + f->n : f->p; !packed || at < end;) {
        if (packed && !ot_pb_varint(&at, end, &x)) {
            return ot_fail(err, OT_INVALID, "%s: field '%s' holds a broken varint", r->what, name);
        }
        if (*n == max) {
            return ot_fail(err, OT_INVALID, "%s: field '%s' has more than %zu values", r->what,
                           name, max);
        }
        out[(*n)++] = (int64_t)x;
        if (!packed) {
            break;
        }
    }
    return OT_OK;
}

/* ---- writing */

static size_t varint(uint8_t *out, uint64_t x)
{
    size_t n = 0;
    while (x >= 0x80) {
        out[n++] = (uint8_t)(x | 0x80);
        x >>= 7;
    }
    out[n++] = (uint8_t)x;
    return n;
}

size_t ot_pb_varint_size(uint64_t x)
{
    size_t n = 1;
    while (x >= 0x80) {
        x >>= 7;
        n++;
    }
    return n;
}

void ot_pb_put_varint(ot_str *s, uint64_t x)
{
    uint8_t b[OT_PB_VARINT_MAX];
    ot_str_add(s, b, varint(b, x));
}

static void put_tag_and(ot_str *s, uint32_t number, ot_pb_wire wire, uint64_t x)
{
    uint8_t b[2 * OT_PB_VARINT_MAX];
    size_t n = varint(b, (uint64_t)number << 3 | (unsigned)wire);
    n += varint(b + n, x);
    ot_str_add(s, b, n);
}

void ot_pb_put_uint(ot_str *s, uint32_t number, uint64_t x)
{
    put_tag_and(s, number, OT_PB_VARINT, x);
}

void ot_pb_put_head(ot_str *s, uint32_t number, size_t n)
{
    put_tag_and(s, number, OT_PB_LEN, n);
}

void ot_pb_put_double(ot_str *s, uint32_t number, double x)
{
    uint8_t b[OT_PB_VARINT_MAX + 8];
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    size_t n = varint(b, (uint64_t)number << 3 | OT_PB_FIXED64);
    for (unsigned i = 0; i < 8; i++) {
        b[n++] = (uint8_t)(bits >> (8 * i));
    }
    ot_str_add(s, b, n);
}

void ot_pb_put_bytes(ot_str *s, uint32_t number, const void *p, size_t n)
{
    ot_pb_put_head(s, number, n);
    if (n > 0) {
        ot_str_add(s, p, n);
    }
}

void ot_pb_put_string(ot_str *s, uint32_t number, const char *z)
{
    ot_pb_put_bytes(s, number, z, strlen(z));
}

void ot_pb_put_some(ot_str *s, uint32_t number, const char *z)
{
    if (z != NULL && z[0] != '\0') {
        ot_pb_put_string(s, number, z);
    }
}

void ot_pb_put_text(ot_str *s, uint32_t number, const char *z)
{
    size_t n = strlen(z);
    ot_pb_put_bytes(s, number, z, n);
    if (s->failed || ot_utf8_valid(z, n)) {
        return;
    }
    for (char *p = s->data + s->len - n; *p != '\0'; p++) {
        *p = (unsigned char)*p < 0x80 ? *p : '?';
    }
}

void ot_pb_put_packed(ot_str *s, uint32_t number, const int64_t *x, size_t n)
{
    size_t size = 0;
    for (size_t i = 0; i < n; i++) {
        size += ot_pb_varint_size((uint64_t)x[i]);
    }
    if (n > 0) {
        ot_pb_put_head(s, number, size);
    }
    for (size_t i = 0; i < n; i++) {
        ot_pb_put_varint(s, (uint64_t)x[i]);
    }
}

size_t ot_pb_begin(ot_str *s, uint32_t number)
{
    put_tag_and(s, number, OT_PB_LEN, 0); /* one byte for the length, which most need */
    return s->len;
}

void ot_pb_end(ot_str *s, size_t mark, size_t elsewhere)
{
    if (s->failed) {
        return;
    }
    uint8_t b[OT_PB_VARINT_MAX];
    size_t inside = s->len - mark, n = varint(b, inside + elsewhere);
    if (n > 1) {
        ot_str_add(s, b, n - 1); /* makes room */
        if (s->failed) {
            return;
        }
        memmove(s->data + mark + n - 1, s->data + mark, inside);
    }
    memcpy(s->data + mark - 1, b, n);
}
