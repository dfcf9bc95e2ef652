/* AVX-512 as every machine with AVX-512BW has it. */
#if defined(__x86_64__)
#include <immintrin.h>

#define OT_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#define OT_WIDTH 64
#define OT_LOAD_F16(p) ((v_f32)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p))))
#define OT_STORE_F16(p, x) _mm256_storeu_si256((__m256i *)(p), _mm512_cvtps_ph((__m512)(x), 0))
#define OT_LOAD_I8(p) ((v_i32)_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(p))))
#define OT_STORE_I8(p, x) _mm_storeu_si128((__m128i *)(p), _mm512_cvtepi32_epi8((__m512i)(x)))
#include "collective/kernel_simd.h"
/* Behind what it is made of. */
#include "collective/codec_simd.h"
#include "collective/lowrank_simd.h"

const ot_kernels ot_kernels_avx512 = OT_KERNELS_TABLE;
#else
typedef int ot_no_avx512;
#endif
