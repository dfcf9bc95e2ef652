/* TensorProto, in all the forms that TensorFlow writes and reads. */
#include "codec/pb_values.h"
#include "codec/tfs_pb.h"
#include "codec/tfs_types.h"

enum { DTYPE = 1, SHAPE = 2, CONTENT = 4 };

/* The field of a type's values. */
static uint32_t values_field(ot_dtype dt)
{
    static const uint8_t fields[OT_DT_COUNT_] = {
        [OT_DT_FP16] = 13,   [OT_DT_BF16] = 13,   [OT_DT_FP32] = 5,   [OT_DT_FP64] = 6,
        [OT_DT_INT8] = 7,    [OT_DT_INT16] = 7,   [OT_DT_INT32] = 7,  [OT_DT_UINT8] = 7,
        [OT_DT_UINT16] = 7,  [OT_DT_BYTES] = 8,   [OT_DT_INT64] = 10, [OT_DT_BOOL] = 11,
        [OT_DT_UINT32] = 16, [OT_DT_UINT64] = 17,
    };
    return fields[dt];
}

/* ---- reading */

static ot_rc dim_read(const ot_pb *shape, const ot_pb_field *at, int64_t *size, ot_error *err)
{
    ot_pb r;
    ot_pb_field f;
    OT_TRY(ot_pb_enter(shape, at, "dim", "TensorShapeProto.Dim", &r, err));
    *size = 0;
    do {
        OT_TRY(ot_pb_next(&r, &f, err));
        if (f.number == 1) {
            OT_TRY(ot_pb_want(&r, &f, OT_PB_VARINT, "size", err));
            *size = ot_pb_i64(&f);
        }
    } while (f.number != 0);
    return *size >= 0 ? OT_OK
                      : ot_fail(err, OT_INVALID,
                                "dimension %lld of a tensor that is sent is not "
                                "known; they are whole numbers >= 0",
                                (long long)*size);
}

static ot_rc shape_read(const ot_pb *tensor, const ot_pb_field *at, ot_tensor *t, ot_error *err)
{
    ot_pb r;
    ot_pb_field f;
    OT_TRY(ot_pb_enter(tensor, at, "tensor_shape", "TensorShapeProto", &r, err));
    t->rank = 0;
    for (;;) {
        OT_TRY(ot_pb_next(&r, &f, err));
        if (f.number == 0) {
            return OT_OK;
        }
        if (f.number == 2) {
            if (t->rank == OT_RANK_MAX) {
                return ot_fail(err, OT_INVALID, "more than %d dimensions", OT_RANK_MAX);
            }
            OT_TRY(dim_read(&r, &f, &t->dims[t->rank++], err));
        } else if (f.number == 3) {
            OT_TRY(ot_pb_want(&r, &f, OT_PB_VARINT, "unknown_rank", err));
            if (f.u != 0) {
                return ot_fail(err, OT_INVALID, "the shape of a tensor that is sent is not known");
            }
        }
    }
}

static ot_rc no_memory(ot_error *err)
{
    return ot_fail(err, OT_EXHAUSTED, "the tensor needs more memory than the limit of a request");
}

static ot_rc mismatch(const ot_tensor *t, const char *field, uint64_t have, uint64_t want,
                      const char *unit, ot_error *err)
{
    char shape[OT_SHAPE_TEXT];
    return ot_fail(err, OT_INVALID, "%s %s needs %llu %s; %s has %llu", ot_dtype_name(t->dtype),
                   ot_shape_format(t->dims, t->rank, shape), (unsigned long long)want, unit, field,
                   (unsigned long long)have);
}

/* tensor_content of strings: all lengths as varints, then all bytes. */
static ot_rc content_strings(const uint8_t *p, size_t n, int64_t count, ot_arena *arena,
                             ot_tensor *t, ot_error *err)
{
    const uint8_t *lengths = p, *end = p + n, *bytes = p;
    uint64_t len, sum = 0;
    for (int64_t i = 0; i < count; i++) {
        if (!ot_pb_varint(&bytes, end, &len) || len > n || sum + len > n) {
            return ot_fail(err, OT_INVALID, "tensor_content is no list of %lld strings",
                           (long long)count);
        }
        sum += len;
    }
    if (sum != (uint64_t)(end - bytes)) {
        return ot_fail(err, OT_INVALID,
                       "tensor_content has %llu bytes of strings; their lengths "
                       "add to %llu",
                       (unsigned long long)(end - bytes), (unsigned long long)sum);
    }
    /* Each string took a byte or more of the message for its length. */
    size_t size = (size_t)sum + 4 * (size_t)count;
    char *o = ot_arena_alloc(arena, OT_MAX(size, 1u));
    if (o == NULL) {
        return no_memory(err);
    }
    t->data = o;
    t->size_bytes = size;
    for (int64_t i = 0; i < count && ot_pb_varint(&lengths, end, &len); i++) {
        uint32_t u = (uint32_t)len;
        memcpy(o, &u, sizeof u);
        memcpy(o + 4, bytes, u);
        bytes += u;
        o += 4 + u;
    }
    return OT_OK;
}

static ot_rc content_read(const ot_pb_field *content, int64_t count, ot_arena *arena, ot_tensor *t,
                          ot_error *err)
{
    if (t->dtype == OT_DT_BYTES) {
        return content->n <= UINT32_MAX
                   ? content_strings(content->p, content->n, count, arena, t, err)
                   : no_memory(err);
    }
    size_t want;
    if (!ot_shape_bytes(t->dtype, t->dims, t->rank, &want) || want != content->n) {
        return mismatch(t, "tensor_content", content->n, (uint64_t)count * ot_dtype_size(t->dtype),
                        "bytes", err);
    }
    t->data = content->p;
    t->size_bytes = want;
    if (t->dtype == OT_DT_BOOL) {
        return ot_tensor_check(t, err);
    }
    return OT_OK;
}

/* Where the last of some elements begins, and its size. */
static void last_element(const ot_tensor *t, size_t *at, size_t *size)
{
    *size = ot_dtype_size(t->dtype);
    *at = t->size_bytes - *size;
    if (t->dtype == OT_DT_BYTES) {
        size_t offset = 0, n;
        const char *p;
        for (*at = 0; *at = offset, ot_tensor_bytes_next(t, &offset, &p, &n);) {
            *size = n + 4;
        }
        *at -= *size;
    }
}

/* Repeats the last of `have` elements, or a zero, until there are `count`. */
static ot_rc fill_up(int64_t have, int64_t count, ot_arena *arena, ot_tensor *t, ot_error *err)
{
    static const uint8_t zero[8];
    size_t at = 0, size = t->dtype == OT_DT_BYTES ? 4 : ot_dtype_size(t->dtype), more, all;
    const uint8_t *from = zero;
    if (have > 0) {
        last_element(t, &at, &size);
        from = (const uint8_t *)t->data + at;
    }
    if (__builtin_mul_overflow((size_t)(count - have), size, &more) ||
        __builtin_add_overflow(more, t->size_bytes, &all)) {
        return no_memory(err);
    }
    uint8_t *to = ot_arena_alloc(arena, all);
    if (to == NULL) {
        return no_memory(err);
    }
    if (t->size_bytes > 0) {
        memcpy(to, t->data, t->size_bytes);
    }
    for (size_t k = t->size_bytes; k < all; k += size) {
        memcpy(to + k, from, size);
    }
    t->data = to;
    t->size_bytes = all;
    return OT_OK;
}

ot_rc ot_tfs_pb_tensor_read(ot_pb *r, ot_arena *arena, ot_tensor *out, ot_error *err)
{
    ot_pb whole = *r;
    ot_pb_field f, content = {0};
    ot_tensor t = {.name = out->name};
    do {
        OT_TRY(ot_pb_next(r, &f, err));
        if (f.number == DTYPE) {
            OT_TRY(ot_pb_want(r, &f, OT_PB_VARINT, "dtype", err));
            t.dtype = ot_tfs_type_from(f.u);
            if (t.dtype == OT_DT_INVALID) {
                return ot_fail(err, OT_INVALID, "dtype %llu is not one of those that are served",
                               (unsigned long long)f.u);
            }
        } else if (f.number == SHAPE) {
            OT_TRY(shape_read(r, &f, &t, err));
        } else if (f.number == CONTENT) {
            OT_TRY(ot_pb_want(r, &f, OT_PB_LEN, "tensor_content", err));
            content = f;
        }
    } while (f.number != 0);
    int64_t count, have;
    if (t.dtype == OT_DT_INVALID) {
        return ot_fail(err, OT_INVALID, "a TensorProto without dtype");
    }
    if (!ot_shape_count(t.dims, t.rank, &count)) {
        return ot_fail(err, OT_INVALID, "the product of the dimensions is over 2^63 - 1");
    }
    if (content.n > 0) {
        OT_TRY(content_read(&content, count, arena, &t, err));
    } else {
        OT_TRY(ot_pb_gather(&whole, values_field(t.dtype), "values", arena, &t, &have, err));
        if (have > count) {
            return mismatch(&t, "its field", (uint64_t)have, (uint64_t)count, "values", err);
        }
        if (have < count) {
            OT_TRY(fill_up(have, count, arena, &t, err));
        }
    }
    *out = t;
    return OT_OK;
}

/* ---- writing */

static size_t shape_size(const int64_t *dims, int rank)
{
    size_t n = 0;
    for (int k = 0; k < rank; k++) {
        size_t dim = 1 + ot_pb_varint_size((uint64_t)dims[k]);
        n += 2 + dim; /* at most 11 bytes: their length takes one */
    }
    return n;
}

void ot_tfs_pb_shape_put(ot_str *s, uint32_t number, const int64_t *dims, int rank)
{
    ot_pb_put_head(s, number, shape_size(dims, rank));
    for (int k = 0; k < rank; k++) {
        ot_pb_put_head(s, 2, 1 + ot_pb_varint_size((uint64_t)dims[k]));
        ot_pb_put_uint(s, 1, (uint64_t)dims[k]);
    }
}

void ot_tfs_pb_tensor_put(ot_str *s, uint32_t number, const ot_tensor *t)
{
    uint64_t type = (uint64_t)ot_tfs_type(t->dtype);
    uint32_t field = values_field(t->dtype);
    size_t shape = shape_size(t->dims, t->rank);
    /* Sizes first: large values are not moved when the length of what holds them is known. */
    ot_pb_put_head(s, number,
                   1 + ot_pb_varint_size(type) + 1 + ot_pb_varint_size(shape) + shape +
                       ot_pb_values_size(field, t));
    ot_pb_put_uint(s, DTYPE, type);
    ot_tfs_pb_shape_put(s, SHAPE, t->dims, t->rank);
    ot_pb_put_values(s, field, t);
}
