/* Inline helpers that json_scan.c and json_data.c share. Private to this folder. */
#ifndef OT_CODEC_JSON_SPACE_H
#define OT_CODEC_JSON_SPACE_H

#include "codec/decimal.h"
#include "codec/json_scan.h"

OT_ALWAYS_INLINE void json_space(ot_json_scan *s)
{
    while (s->at < s->end && (unsigned char)*s->at <= ' ' &&
           (*s->at == ' ' || *s->at == '\n' || *s->at == '\r' || *s->at == '\t')) {
        s->at++;
    }
}

/* Reads a string, unescaped, into `o`, which has room for the source's length. */
ot_rc json_string_into(ot_json_scan *s, char *o, size_t *n_out, ot_error *err) OT_CHECKED;
/* One bare value into `dst`, as strictly as ot_json_tensor_data reads those of an array. */
ot_rc json_tensor_value(ot_json_scan *s, const char *what, ot_dtype dtype, void *dst,
                        ot_error *err) OT_CHECKED;
/* Takes NaN, Infinity or -Infinity. */
bool json_special(ot_json_scan *s, double *x_out);

/* The magnitude when it is a whole number below 2^64, however it is written (3, 3.0, 3e2). */
static inline bool decimal_u64(const ot_decimal *d, uint64_t *m_out)
{
    uint64_t m = d->mantissa;
    int32_t e = d->exp10;
    if (d->cut) { /* 20 digits may still fit */
        if (!d->plain) {
            return false;
        }
        m = 0;
        for (size_t i = d->negative; i < d->n; i++) {
            if (__builtin_mul_overflow(m, UINT64_C(10), &m) ||
                __builtin_add_overflow(m, (uint64_t)(d->p[i] - '0'), &m)) {
                return false;
            }
        }
        e = 0;
    }
    for (; e < 0 && m != 0; e++) {
        if (m % 10 != 0) {
            return false;
        }
        m /= 10;
    }
    for (; e > 0 && m != 0; e--) {
        if (__builtin_mul_overflow(m, UINT64_C(10), &m)) {
            return false;
        }
    }
    *m_out = m;
    return true;
}

#endif
