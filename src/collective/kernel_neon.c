/* NEON as every aarch64 has it. */
#if defined(__aarch64__)
#include <arm_neon.h>

#define OT_TARGET
#define OT_WIDTH 16
#define OT_LOAD_F16(p) ((v_f32)vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p))))
#define OT_STORE_F16(p, x) vst1_u8((p), vreinterpret_u8_f16(vcvt_f16_f32((float32x4_t)(x))))
#define OT_LOAD_I8(p) load_i8(p)
#define OT_STORE_I8(p, x) store_i8(p, x)
#include "collective/kernel_simd.h"

static inline v_i32 load_i8(const void *p)
{
    uint32_t four;
    memcpy(&four, p, sizeof four);
    return (v_i32)vmovl_s16(vget_low_s16(vmovl_s8(vcreate_s8(four))));
}

static inline void store_i8(void *p, v_i32 x)
{
    int16x4_t halves = vmovn_s32((int32x4_t)x);
    uint32_t four = vget_lane_u32(vreinterpret_u32_s8(vmovn_s16(vcombine_s16(halves, halves))), 0);
    memcpy(p, &four, sizeof four);
}
/* Behind what it is made of. */
#include "collective/codec_simd.h"
#include "collective/lowrank_simd.h"

const ot_kernels ot_kernels_neon = OT_KERNELS_TABLE;
#else
typedef int ot_no_neon;
#endif
