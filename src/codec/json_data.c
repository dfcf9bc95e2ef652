/* The `data` arrays of tensors. One row reader is written once and compiled for each type, so that
 * the type is a constant in its loop. */
#include "codec/decimal.h"
#include "codec/decimal_wide.h"
#include "codec/json_floats.h"
#include "codec/json_scan.h"
#include "codec/json_space.h"

#include <math.h>

typedef struct reader {
    ot_json_scan *s;
    const char *what;
    const int64_t *dims;
    int rank;
    ot_dtype dtype;
    char *dst; /* of the next element; for BYTES of the next length */
    const char *start;
} reader;

/* Values in the array at the scan's position, at any nesting. */
static ot_rc count_values(ot_json_scan *s, int64_t *count_out, ot_error *err)
{
    int64_t n = 0;
    int base = s->depth;
    OT_TRY(ot_json_enter_array(s, err));
    while (s->depth > base) {
        bool more;
        OT_TRY(ot_json_next_item(s, &more, err));
        if (!more) {
            continue;
        }
        if (ot_json_peek(s) == OT_JSON_ARRAY) {
            OT_TRY(ot_json_enter_array(s, err));
        } else {
            OT_TRY(ot_json_skip(s, err));
            n++;
        }
    }
    *count_out = n;
    return OT_OK;
}

/* Says why the array does not fill the shape; malformed text further on is reported instead. */
static ot_rc mismatch(reader *r, int depth, ot_error *err)
{
    int64_t have, want = 0;
    ot_json_scan whole = *r->s;
    whole.at = r->start;
    whole.depth = depth;
    OT_TRY(count_values(&whole, &have, err));
    char shape[OT_SHAPE_TEXT];
    ot_shape_format(r->dims, r->rank, shape);
    ot_shape_count(r->dims, r->rank, &want);
    if (have != want) {
        return ot_fail(err, OT_INVALID, "%s is %s %s, which needs %lld values; the data have %lld",
                       r->what, ot_dtype_name(r->dtype), shape, (long long)want, (long long)have);
    }
    return ot_json_fail(r->s, err,
                        "%s is %s %s, and the nesting of its data contradicts that; send them flat "
                        "or nested to the shape",
                        r->what, ot_dtype_name(r->dtype), shape);
}

static ot_rc wrong_kind(reader *r, ot_error *err)
{
    ot_json_kind kind = ot_json_peek(r->s);
    if (kind == OT_JSON_END || kind == OT_JSON_BAD) {
        return ot_json_fail(r->s, err, "%s: a value is expected here, not %s", r->what,
                            ot_json_kind_name(kind));
    }
    return ot_json_fail(r->s, err, "%s is %s; its data hold %s", r->what, ot_dtype_name(r->dtype),
                        ot_json_kind_name(kind));
}

/* "5 digits at most 32" of the number's text, for messages. */
#define NUMBER_TEXT(d) (int)OT_MIN((d)->n, (size_t)32), (d)->p

static ot_rc out_of_range(reader *r, const ot_decimal *d, ot_error *err)
{
    if (ot_dtype_is_float(r->dtype)) {
        return ot_json_fail(r->s, err, "%s: %.*s is out of range for %s (Infinity is accepted)",
                            r->what, NUMBER_TEXT(d), ot_dtype_name(r->dtype));
    }
    if (r->dtype == OT_DT_BOOL) {
        return ot_json_fail(r->s, err, "%s: %.*s is no BOOL; send true, false, 0 or 1", r->what,
                            NUMBER_TEXT(d));
    }
    unsigned bits = (unsigned)(8 * ot_dtype_size(r->dtype));
    bool is_signed = r->dtype >= OT_DT_INT8;
    uint64_t most = UINT64_MAX >> (64 - bits) >> is_signed;
    return ot_json_fail(r->s, err, "%s: %.*s is no whole number from %s%llu to %llu (%s)", r->what,
                        NUMBER_TEXT(d), is_signed ? "-" : "",
                        (unsigned long long)(is_signed ? most + 1 : 0), (unsigned long long)most,
                        ot_dtype_name(r->dtype));
}

/* ot_dtype_size, a constant where the type is one. */
OT_ALWAYS_INLINE size_t dtype_size(ot_dtype dt)
{
    switch (dt) {
    case OT_DT_UINT64:
    case OT_DT_INT64:
    case OT_DT_FP64:
        return 8;
    case OT_DT_UINT32:
    case OT_DT_INT32:
    case OT_DT_FP32:
        return 4;
    case OT_DT_UINT16:
    case OT_DT_INT16:
    case OT_DT_FP16:
    case OT_DT_BF16:
        return 2;
    default:
        return 1;
    }
}

/* A whole number of magnitude m; false when it is out of the type's range. */
OT_ALWAYS_INLINE bool store_whole(ot_dtype dt, char *dst, uint64_t m, bool negative)
{
    const unsigned bits = dt == OT_DT_BOOL ? 1 : (unsigned)(8 * dtype_size(dt));
    const bool is_signed = dt >= OT_DT_INT8;
    uint64_t most = (UINT64_MAX >> (64 - bits) >> is_signed) + (is_signed && negative);
    if (m > most || (!is_signed && negative && m != 0)) {
        return false;
    }
    m = negative ? 0 - m : m;
    memcpy(dst, &m, dtype_size(dt)); /* little-endian: the low bytes */
    return true;
}

/* False: this quick way cannot tell, and store_decimal has to. */
OT_ALWAYS_INLINE bool store_usual(ot_dtype dt, char *dst, usual u)
{
    if (dt == OT_DT_FP32) {
        float f = 0;
        bool good = decimal_f32_quick(u.mantissa, u.exp10, u.negative, &f);
        memcpy(dst, &f, sizeof f);
        return good;
    }
    if (dt == OT_DT_FP64) {
        double x = (double)(int64_t)u.mantissa / ot_pow10_f64[-u.exp10];
        x = u.negative != 0 ? -x : x;
        memcpy(dst, &x, sizeof x);
        return u.mantissa <= UINT64_C(1) << 53;
    }
    return !ot_dtype_is_float(dt) && u.exp10 == 0 &&
           store_whole(dt, dst, u.mantissa, u.negative != 0);
}

/* Any number, exactly. False: out of the type's range. */
static bool store_decimal(ot_dtype dt, char *dst, const ot_decimal *d)
{
    if (!ot_dtype_is_float(dt)) {
        uint64_t m;
        return decimal_u64(d, &m) && store_whole(dt, dst, m, d->negative);
    }
    if (dt == OT_DT_FP32) {
        float f = ot_decimal_f32(d);
        memcpy(dst, &f, sizeof f);
    } else {
        ot_dtype_put_f64(dt, dst, ot_decimal_f64(d));
    }
    ot_tensor one = {.dtype = dt, .data = dst};
    return isfinite(ot_tensor_f64_at(&one, 0)) != 0;
}

/* One value of any form at the scan's position, into r->dst. `first`: of its row. */
static ot_rc any_value(reader *r, bool first, int depth, ot_error *err)
{
    ot_json_scan *s = r->s;
    ot_decimal d;
    const char *after = decimal_scan(s->at, s->end, &d);
    if (after != NULL) {
        if (!store_decimal(r->dtype, r->dst, &d)) {
            return out_of_range(r, &d, err);
        }
        s->at = after;
        return OT_OK;
    }
    double x;
    if (s->at < s->end && (*s->at == '[' || (*s->at == ']' && first))) {
        return mismatch(r, depth, err);
    }
    if (ot_dtype_is_float(r->dtype) && json_special(s, &x)) {
        ot_dtype_put_f64(r->dtype, r->dst, x);
        return OT_OK;
    }
    if (r->dtype == OT_DT_BOOL && ot_json_peek(s) == OT_JSON_BOOL) {
        bool b;
        OT_TRY(ot_json_bool_read(s, &b, err));
        *r->dst = (char)b;
        return OT_OK;
    }
    if (ot_json_peek(s) == OT_JSON_NUMBER && !json_special(s, &x)) {
        return ot_json_fail(s, err, "%s: this is not a number", r->what);
    }
    return wrong_kind(r, err);
}

static __attribute__((noinline)) const char *space_skip(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t')) {
        p++;
    }
    return p;
}

/* The loop stays out of line: most arrays have no white space or one after each comma. */
OT_ALWAYS_INLINE const char *space(const char *p, const char *end)
{
    return __builtin_expect(p < end && (unsigned char)*p > ' ', 1) ? p : space_skip(p, end);
}

/* n values of a constant type, separated by commas; the position is left behind the last one. */
OT_ALWAYS_INLINE ot_rc row_of(reader *r, ot_dtype dt, int64_t n, int depth, ot_error *err)
{
    const char *p = r->s->at, *begin = r->s->begin, *end = r->s->end;
    char *dst = r->dst;
    int64_t many_from = 0;
    for (int64_t i = 0; i < n; i++, dst += dtype_size(dt)) {
        p = space(p, end);
        if (i > 0) {
            if (p == end || *p != ',') {
                r->s->at = p;
                return mismatch(r, depth, err);
            }
            p = space(p + 1, end);
        }
        if (dt == OT_DT_FP32 && i >= many_from && n - i > 1) {
            size_t k = json_floats(&p, end, dst, (size_t)(n - i - 1));
            i += (int64_t)k;
            dst += k * dtype_size(dt);
            p = space(p, end);
            many_from = k > 0 ? i + 1 : i + 16; /* looking in vain costs as much as reading one */
        }
        usual u;
        const char *after = usual_scan(p, begin, end, &u);
        if (__builtin_expect(after != NULL, 1) && __builtin_expect(store_usual(dt, dst, u), 1)) {
            p = after;
            continue;
        }
        r->s->at = p;
        r->dst = dst;
        OT_TRY(any_value(r, i == 0, depth, err));
        p = r->s->at;
    }
    r->s->at = p;
    r->dst = dst;
    return OT_OK;
}

static ot_rc row_strings(reader *r, int64_t n, int depth, ot_error *err)
{
    ot_json_scan *s = r->s;
    for (int64_t i = 0; i < n; i++) {
        json_space(s);
        if (i > 0) {
            if (s->at == s->end || *s->at != ',') {
                return mismatch(r, depth, err);
            }
            s->at++;
        }
        ot_json_kind kind = ot_json_peek(s);
        if (kind == OT_JSON_ARRAY || (i == 0 && s->at < s->end && *s->at == ']')) {
            return mismatch(r, depth, err);
        }
        if (kind != OT_JSON_STRING) {
            return wrong_kind(r, err);
        }
        size_t len;
        OT_TRY(json_string_into(s, r->dst + 4, &len, err));
        for (int b = 0; b < 4;
             b++) { /* an element is shorter than its body, which is below 4 GiB */
            r->dst[b] = (char)(len >> (8 * b));
        }
        r->dst += 4 + len;
    }
    return OT_OK;
}

/* One function a type, not inlined into each other: the loops need the registers. */
#define ROW_FUNCTION(dt)                                                                           \
    static __attribute__((noinline))                                                               \
    ot_rc row_##dt(reader *r, int64_t n, int depth, ot_error *err)                                 \
    {                                                                                              \
        return row_of(r, OT_DT_##dt, n, depth, err);                                               \
    }
ROW_FUNCTION(BOOL)
ROW_FUNCTION(UINT8)
ROW_FUNCTION(UINT16)
ROW_FUNCTION(UINT32)
ROW_FUNCTION(UINT64)
ROW_FUNCTION(INT8)
ROW_FUNCTION(INT16)
ROW_FUNCTION(INT32)
ROW_FUNCTION(INT64)
ROW_FUNCTION(FP16)
ROW_FUNCTION(BF16)
ROW_FUNCTION(FP32)
ROW_FUNCTION(FP64)
#undef ROW_FUNCTION

static ot_rc row(reader *r, int64_t n, int depth, ot_error *err)
{
    typedef ot_rc row_fn(reader * r, int64_t n, int depth, ot_error *err);
    static row_fn *const rows[OT_DT_COUNT_] = {
        [OT_DT_BOOL] = row_BOOL,     [OT_DT_UINT8] = row_UINT8,   [OT_DT_UINT16] = row_UINT16,
        [OT_DT_UINT32] = row_UINT32, [OT_DT_UINT64] = row_UINT64, [OT_DT_INT8] = row_INT8,
        [OT_DT_INT16] = row_INT16,   [OT_DT_INT32] = row_INT32,   [OT_DT_INT64] = row_INT64,
        [OT_DT_FP16] = row_FP16,     [OT_DT_BF16] = row_BF16,     [OT_DT_FP32] = row_FP32,
        [OT_DT_FP64] = row_FP64,     [OT_DT_BYTES] = row_strings,
    };
    if ((int)r->dtype <= OT_DT_INVALID || (int)r->dtype >= OT_DT_COUNT_) {
        return ot_fail(err, OT_INVALID, "%s has no valid data type", r->what);
    }
    return rows[r->dtype](r, n, depth, err);
}

/* One array at nesting `level`; the innermost level holds values. Levels are at most OT_RANK_MAX.
 */
static ot_rc level_read(reader *r, int level, int64_t flat, int depth, ot_error *err)
{
    OT_TRY(ot_json_enter_array(r->s, err));
    bool leaf = flat >= 0 || level == r->rank - 1;
    if (leaf) {
        OT_TRY(row(r, flat >= 0 ? flat : r->dims[level], depth, err));
    } else {
        for (int64_t i = 0; i < r->dims[level]; i++) {
            json_space(r->s);
            if (i > 0 && r->s->at < r->s->end && *r->s->at == ',') {
                r->s->at++;
            } else if (i > 0) {
                return mismatch(r, depth, err);
            }
            if (ot_json_peek(r->s) != OT_JSON_ARRAY) {
                return mismatch(r, depth, err);
            }
            OT_TRY(level_read(r, level + 1, -1, depth, err));
        }
    }
    json_space(r->s);
    if (r->s->at == r->s->end || *r->s->at != ']') {
        return mismatch(r, depth, err);
    }
    bool more;
    r->s->first = true; /* the closing bracket is here: no comma is missing */
    return ot_json_next_item(r->s, &more, err);
}

static ot_rc array_read(reader *r, int64_t count, ot_error *err)
{
    if (ot_json_peek(r->s) != OT_JSON_ARRAY) {
        return ot_json_fail(r->s, err, "the data of %s must be an array, not %s", r->what,
                            ot_json_kind_name(ot_json_peek(r->s)));
    }
    r->start = r->s->at;
    int depth = r->s->depth;
    /* What the text left cannot hold is refused unread. */
    if (count > ot_json_values_max(r->s)) {
        return mismatch(r, depth, err);
    }
    const char *inner = space(r->s->at + 1, r->s->end);
    bool nested = inner < r->s->end && *inner == '[' && r->rank > 1;
    return level_read(r, 0, nested ? -1 : count, depth, err);
}

static ot_rc bad_shape(const char *what, const int64_t *dims, int rank, ot_error *err)
{
    char shape[OT_SHAPE_TEXT];
    return ot_fail(err, OT_INVALID,
                   "%s has shape %s; dimensions must be >= 0, at most %d, their product below 2^63",
                   what, ot_shape_format(dims, rank, shape), OT_RANK_MAX);
}

ot_rc ot_json_tensor_data(ot_json_scan *s, const char *what, ot_dtype dtype, const int64_t *dims,
                          int rank, void *dst, ot_error *err)
{
    int64_t count;
    if (!ot_shape_count(dims, rank, &count)) {
        return bad_shape(what, dims, rank, err);
    }
    reader r = {.s = s, .what = what, .dims = dims, .rank = rank, .dtype = dtype, .dst = dst};
    return array_read(&r, count, err);
}

ot_rc json_tensor_value(ot_json_scan *s, const char *what, ot_dtype dtype, void *dst, ot_error *err)
{
    reader r = {.s = s, .what = what, .dtype = dtype, .dst = dst};
    json_space(s);
    r.start = s->at;
    return any_value(&r, false, s->depth, err);
}

ot_rc ot_json_tensor_strings(ot_json_scan *s, const char *what, const int64_t *dims, int rank,
                             ot_arena *arena, const void **data_out, size_t *size_out,
                             ot_error *err)
{
    int64_t count, have = 0;
    if (!ot_shape_count(dims, rank, &count)) {
        return bad_shape(what, dims, rank, err);
    }
    ot_json_scan ahead = *s;
    if (ot_json_peek(&ahead) == OT_JSON_ARRAY) {
        OT_TRY(count_values(&ahead, &have, err));
    }
    /* A string of n bytes takes n + 2 bytes of text with its quotes and n + 4 as an element. */
    size_t text = (size_t)(ahead.at - s->at);
    char *data = text > UINT32_MAX ? NULL : ot_arena_alloc(arena, text + 2 * (size_t)have + 16);
    if (data == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "%s: %zu bytes of strings are over the request's limit",
                       what, text);
    }
    reader r = {
        .s = s, .what = what, .dims = dims, .rank = rank, .dtype = OT_DT_BYTES, .dst = data};
    OT_TRY(array_read(&r, count, err));
    *data_out = data;
    *size_out = (size_t)(r.dst - data);
    return OT_OK;
}
