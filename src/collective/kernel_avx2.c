/* AVX2 and F16C. */
#if defined(__x86_64__)
#include <immintrin.h>

#define OT_TARGET __attribute__((target("avx2,f16c")))
#define OT_WIDTH 32
#define OT_LOAD_F16(p) ((v_f32)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p))))
#define OT_STORE_F16(p, x) _mm_storeu_si128((__m128i *)(p), _mm256_cvtps_ph((__m256)(x), 0))
#include "collective/kernel_simd.h"

const ot_kernels ot_kernels_avx2 = OT_KERNELS_TABLE;
#else
typedef int ot_no_avx2;
#endif
