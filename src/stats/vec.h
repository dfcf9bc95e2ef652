/* Four floats at a time, by the compilers' vector extension: SSE or NEON where there is one, plain
 * scalar code elsewhere, the same results everywhere (elementwise IEEE operations only).
 *
 * Comparisons give all ones or all zeros a lane; NaN compares false. */
#ifndef OT_STATS_VEC_H
#define OT_STATS_VEC_H

#include <stdint.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum { VEC = 4 };
typedef float vec_f __attribute__((vector_size(16)));
typedef int32_t vec_i __attribute__((vector_size(16)));

static inline vec_f vec_load(const float *p)
{
    vec_f v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void vec_store(float *p, vec_f v)
{
    memcpy(p, &v, sizeof v);
}
static inline vec_f vec_all(float x)
{
    return (vec_f){x, x, x, x};
}
/* mask ? a : b, lane by lane. */
static inline vec_f vec_select(vec_i mask, vec_f a, vec_f b)
{
    return (vec_f)((mask & (vec_i)a) | (~mask & (vec_i)b));
}
/* a > b ? a : b and a < b ? a : b: b where one is NaN, which is what SSE's instructions do. */
static inline vec_f vec_max(vec_f a, vec_f b)
{
#ifdef __SSE2__
    return (vec_f)_mm_max_ps((__m128)a, (__m128)b);
#else
    return vec_select(a > b, a, b);
#endif
}
static inline vec_f vec_min(vec_f a, vec_f b)
{
#ifdef __SSE2__
    return (vec_f)_mm_min_ps((__m128)a, (__m128)b);
#else
    return vec_select(a < b, a, b);
#endif
}
/* Bits of x where the mask is set, +0 elsewhere. */
static inline vec_f vec_keep(vec_i mask, vec_f x)
{
    return (vec_f)(mask & (vec_i)x);
}

#endif
