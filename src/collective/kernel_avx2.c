/* AVX2 and F16C. */
#if defined(__x86_64__)
#include <immintrin.h>

#define OT_TARGET __attribute__((target("avx2,f16c")))
#define OT_WIDTH 32
#define OT_LOAD_F16(p) ((v_f32)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p))))
#define OT_STORE_F16(p, x) _mm_storeu_si128((__m128i *)(p), _mm256_cvtps_ph((__m256)(x), 0))
#define OT_LOAD_I8(p) ((v_i32)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(p))))
#define OT_STORE_I8(p, x) store_i8(p, x)
#include "collective/kernel_simd.h"

OT_TARGET static inline void store_i8(void *p, v_i32 x)
{
    __m128i halves = _mm_packs_epi32(_mm256_castsi256_si128((__m256i)x),
                                     _mm256_extracti128_si256((__m256i)x, 1));
    _mm_storel_epi64(p, _mm_packs_epi16(halves, halves));
}
/* Behind what it is made of. */
#include "collective/codec_simd.h"
#include "collective/lowrank_simd.h"

const ot_kernels ot_kernels_avx2 = OT_KERNELS_TABLE;
#else
typedef int ot_no_avx2;
#endif
