#include "codec/json_write.h"
#include "codec/number.h"

#include <string.h>

/* Values are written straight into the string's spare room, this many between two checks of it. */
#define RUN 256

#define LOAD(T, name)                                                                              \
    T name;                                                                                        \
    memcpy(&name, p, sizeof name)

/* One element at p (any alignment) as text. */
static inline size_t element(ot_dtype dt, const char *p, char *o)
{
    switch (dt) {
    case OT_DT_BOOL: {
        size_t n = *p != 0 ? 4 : 5;
        memcpy(o, *p != 0 ? "true" : "false", n);
        return n;
    }
    case OT_DT_UINT8:
        return ot_format_u64((uint8_t)*p, o);
    case OT_DT_UINT16: {
        LOAD(uint16_t, v);
        return ot_format_u64(v, o);
    }
    case OT_DT_UINT32: {
        LOAD(uint32_t, v);
        return ot_format_u64(v, o);
    }
    case OT_DT_UINT64: {
        LOAD(uint64_t, v);
        return ot_format_u64(v, o);
    }
    case OT_DT_INT8:
        return ot_format_i64((int8_t)*p, o);
    case OT_DT_INT16: {
        LOAD(int16_t, v);
        return ot_format_i64(v, o);
    }
    case OT_DT_INT32: {
        LOAD(int32_t, v);
        return ot_format_i64(v, o);
    }
    case OT_DT_INT64: {
        LOAD(int64_t, v);
        return ot_format_i64(v, o);
    }
    case OT_DT_FP16: {
        LOAD(uint16_t, v);
        return ot_format_f32(ot_fp16_to_f32(v), o);
    }
    case OT_DT_BF16: {
        LOAD(uint16_t, v);
        return ot_format_f32(ot_bf16_to_f32(v), o);
    }
    case OT_DT_FP32: {
        LOAD(float, v);
        return ot_format_f32(v, o);
    }
    case OT_DT_FP64: {
        LOAD(double, v);
        return ot_format_f64(v, o);
    }
    case OT_DT_INVALID:
    case OT_DT_BYTES:
    case OT_DT_COUNT_:
        break;
    }
    return 0;
}

void json_write_numbers(ot_dtype dtype, const void *data, int64_t n, ot_str *out)
{
    const char *p = data;
    size_t size = ot_dtype_size(dtype);
    for (int64_t i = 0; i < n; i += RUN) {
        int64_t stop = OT_MIN(n, i + RUN);
        if (!ot_str_reserve(out, (size_t)(stop - i) * (OT_F64_TEXT + 1))) {
            return;
        }
        char *o = out->data + out->len;
        for (int64_t j = i; j < stop; j++, p += size) {
            *o = ',';
            o += j > 0;
            o += element(dtype, p, o);
        }
        out->len = (size_t)(o - out->data);
        *o = 0;
    }
}
