#include "codec/pb_values.h"

typedef struct gather {
    const ot_pb *r;
    uint32_t number;
    const char *name;
    ot_dtype dtype;
    ot_pb_wire wire;
    size_t element; /* bytes; 0: BYTES */
} gather;

static ot_pb_wire wire_of(ot_dtype dt)
{
    return dt == OT_DT_FP32    ? OT_PB_FIXED32
           : dt == OT_DT_FP64  ? OT_PB_FIXED64
           : dt == OT_DT_BYTES ? OT_PB_LEN
                               : OT_PB_VARINT;
}

static ot_rc broken(const gather *g, ot_error *err)
{
    return ot_fail(err, OT_INVALID, "%s: field '%s' holds a broken value", g->r->what, g->name);
}

/* Values in one occurrence of the field. */
static ot_rc count_field(const gather *g, const ot_pb_field *f, size_t *n, ot_error *err)
{
    if (f->wire != OT_PB_LEN || g->wire == OT_PB_LEN) {
        OT_TRY(ot_pb_want(g->r, f, g->wire, g->name, err));
        *n = 1;
        return OT_OK;
    }
    if (g->wire != OT_PB_VARINT) {
        *n = f->n / (g->wire == OT_PB_FIXED64 ? 8 : 4);
        return f->n % (g->wire == OT_PB_FIXED64 ? 8 : 4) == 0 ? OT_OK : broken(g, err);
    }
    size_t ends = 0;
    for (size_t i = 0; i < f->n; i++) {
        ends += f->p[i] < 0x80;
    }
    *n = ends;
    return f->n == 0 || f->p[f->n - 1] < 0x80 ? OT_OK : broken(g, err);
}

typedef struct tally {
    size_t values, fields, bytes; /* bytes: of what they take in the tensor */
    ot_pb_field last;
} tally;

static ot_rc count_all(const gather *g, tally *t, ot_error *err)
{
    ot_pb r = *g->r;
    for (;;) {
        ot_pb_field f;
        size_t n;
        OT_TRY(ot_pb_next(&r, &f, err));
        if (f.number == 0) {
            return OT_OK;
        }
        if (f.number != g->number) {
            continue;
        }
        OT_TRY(count_field(g, &f, &n, err));
        /* A value takes at least a byte of the message, so none of these can overflow. */
        t->values += n;
        t->bytes += g->element != 0 ? n * g->element : f.n + 4;
        t->fields++;
        t->last = f;
    }
}

/* One varint as an element, if it is in the type's range. */
static bool put_varint(ot_dtype dt, uint64_t u, uint8_t *to)
{
    int64_t i = (int64_t)u;
    size_t size = ot_dtype_size(dt);
    int bits = (int)size * 8;
    bool fits = true;
    switch (dt) {
    case OT_DT_BOOL:
        u = u != 0;
        break;
    case OT_DT_INT8:
    case OT_DT_INT16:
    case OT_DT_INT32:
        fits = i >= -(INT64_C(1) << (bits - 1)) && i < INT64_C(1) << (bits - 1);
        break;
    case OT_DT_INT64:
    case OT_DT_UINT64:
        break;
    default:
        fits = u < UINT64_C(1) << bits;
        break;
    }
    memcpy(to, &u, size); /* little-endian: the low bytes come first */
    return fits;
}

static ot_rc put_varints(const gather *g, const ot_pb_field *f, uint8_t **to, ot_error *err)
{
    const uint8_t *at = f->p, *end = f->wire == OT_PB_LEN ? f->p + f->n : f->p;
    uint64_t u = f->u;
    do {
        if (f->wire == OT_PB_LEN) {
            if (at == end) {
                return OT_OK;
            }
            if (!ot_pb_varint(&at, end, &u)) {
                return broken(g, err);
            }
        }
        if (!put_varint(g->dtype, u, *to)) {
            return ot_fail(err, OT_INVALID,
                           "%s: field '%s' holds %lld, which is not in the range of "
                           "%s",
                           g->r->what, g->name, (long long)u, ot_dtype_name(g->dtype));
        }
        *to += g->element;
    } while (at < end);
    return OT_OK;
}

static ot_rc put_field(const gather *g, const ot_pb_field *f, uint8_t **to, ot_error *err)
{
    if (g->wire == OT_PB_VARINT) {
        return put_varints(g, f, to, err);
    }
    const void *p = f->p;
    size_t n = f->n;
    if (g->wire == OT_PB_LEN) {
        if (f->n > UINT32_MAX) {
            return broken(g, err);
        }
        uint32_t length = (uint32_t)f->n;
        memcpy(*to, &length, sizeof length);
        *to += sizeof length;
    } else if (f->wire != OT_PB_LEN) {
        p = &f->u;
        n = g->element;
    }
    if (n > 0) {
        memcpy(*to, p, n);
    }
    *to += n;
    return OT_OK;
}

ot_rc ot_pb_gather(const ot_pb *r, uint32_t number, const char *name, ot_arena *arena, ot_tensor *t,
                   int64_t *count_out, ot_error *err)
{
    gather g = {r, number, name, t->dtype, wire_of(t->dtype), ot_dtype_size(t->dtype)};
    tally n = {0};
    OT_TRY(count_all(&g, &n, err));
    bool one_run = n.fields == 1 && n.last.wire == OT_PB_LEN &&
                   (g.wire == OT_PB_FIXED32 || g.wire == OT_PB_FIXED64);
    const void *data = one_run ? n.last.p : NULL;
    if (!one_run && n.bytes > 0) {
        uint8_t *to = ot_arena_alloc(arena, n.bytes);
        if (to == NULL) {
            return ot_fail(err, OT_EXHAUSTED,
                           "%s: field '%s' needs %zu bytes, more than the memory "
                           "that a request may take",
                           r->what, name, n.bytes);
        }
        data = to;
        ot_pb again = *r;
        for (;;) {
            ot_pb_field f;
            OT_TRY(ot_pb_next(&again, &f, err));
            if (f.number == 0) {
                break;
            }
            if (f.number == number) {
                OT_TRY(put_field(&g, &f, &to, err));
            }
        }
    }
    t->data = data;
    t->size_bytes = n.bytes;
    *count_out = (int64_t)n.values;
    return OT_OK;
}

/* ---- writing */

static uint64_t element(const ot_tensor *t, int64_t i)
{
    size_t size = ot_dtype_size(t->dtype);
    uint64_t u = 0;
    memcpy(&u, (const uint8_t *)t->data + (size_t)i * size, size);
    switch (t->dtype) {
    case OT_DT_INT8:
        return (uint64_t)(int64_t)(int8_t)u;
    case OT_DT_INT16:
        return (uint64_t)(int64_t)(int16_t)u;
    case OT_DT_INT32:
        return (uint64_t)(int64_t)(int32_t)u;
    default:
        return u;
    }
}

/* The packed values are the tensor's bytes as they are. */
static bool packs_as_is(ot_dtype dt)
{
    return dt == OT_DT_FP32 || dt == OT_DT_FP64 || dt == OT_DT_BOOL;
}

/* Bytes of the packed values, without their head. */
static size_t packed_size(const ot_tensor *t)
{
    if (packs_as_is(t->dtype)) {
        return t->size_bytes;
    }
    size_t n = 0;
    for (int64_t i = 0, count = ot_tensor_count(t); i < count; i++) {
        n += ot_pb_varint_size(element(t, i));
    }
    return n;
}

size_t ot_pb_values_size(uint32_t number, const ot_tensor *t)
{
    size_t offset = 0, n, tag = ot_pb_varint_size((uint64_t)number << 3), all = 0;
    const char *p;
    if (t->dtype != OT_DT_BYTES) {
        n = packed_size(t);
        return n > 0 ? tag + ot_pb_varint_size(n) + n : 0;
    }
    while (ot_tensor_bytes_next(t, &offset, &p, &n)) {
        all += tag + ot_pb_varint_size(n) + n;
    }
    return all;
}

void ot_pb_put_values(ot_str *s, uint32_t number, const ot_tensor *t)
{
    size_t offset = 0, n;
    const char *p;
    if (t->dtype == OT_DT_BYTES) {
        while (ot_tensor_bytes_next(t, &offset, &p, &n)) {
            ot_pb_put_bytes(s, number, p, n);
        }
        return;
    }
    n = packed_size(t);
    if (n == 0) {
        return;
    }
    ot_pb_put_head(s, number, n);
    if (packs_as_is(t->dtype)) {
        ot_str_add(s, t->data, n);
        return;
    }
    for (int64_t i = 0, count = ot_tensor_count(t); i < count; i++) {
        ot_pb_put_varint(s, element(t, i));
    }
}
