/* NEON as every aarch64 has it. */
#if defined(__aarch64__)
#include <arm_neon.h>

#define OT_TARGET
#define OT_WIDTH 16
#define OT_LOAD_F16(p) ((v_f32)vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p))))
#define OT_STORE_F16(p, x) vst1_u8((p), vreinterpret_u8_f16(vcvt_f16_f32((float32x4_t)(x))))
#include "collective/kernel_simd.h"

const ot_kernels ot_kernels_neon = OT_KERNELS_TABLE;
#else
typedef int ot_no_neon;
#endif
