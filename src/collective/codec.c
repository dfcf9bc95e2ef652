#include "collective/codec.h"

#include "base/mem.h"
#include "collective/kernel_internal.h"

const char *ot_codec_name(ot_codec c)
{
    static const char *const names[OT_CODECS] = {"float16", "bfloat16", "int8"};
    return (unsigned)c < OT_CODECS ? names[c] : "unknown";
}

bool ot_codec_keeps(ot_codec c)
{
    return c == OT_CODEC_INT8;
}

uint64_t ot_codec_bytes(ot_codec c, uint64_t n)
{
    uint64_t blocks = n / OT_CODEC_BLOCK + (n % OT_CODEC_BLOCK != 0);
    return c == OT_CODEC_INT8 ? n + blocks * sizeof(float) : 2 * n;
}

void ot_codec_encode(ot_codec c, void *out, const float *in, float *residual, uint64_t n)
{
    if (c != OT_CODEC_INT8) {
        ot_kernel_convert(c == OT_CODEC_F16 ? OVERTAKE_F16 : OVERTAKE_BF16, out, OVERTAKE_F32, in,
                          n);
        return;
    }
    char *to = out;
    for (uint64_t i = 0; i < n; i += OT_CODEC_BLOCK) {
        size_t m = OT_MIN(n - i, OT_CODEC_BLOCK);
        ot_kernels_chosen()->quantise(to, in + i, residual != NULL ? residual + i : NULL, m);
        to += sizeof(float) + m;
    }
}

/* Block by block through fn. */
static void each_block(ot_codec_fn *fn, float *acc, const char *in, uint64_t n)
{
    for (uint64_t i = 0; i < n; i += OT_CODEC_BLOCK) {
        size_t m = OT_MIN(n - i, OT_CODEC_BLOCK);
        fn(acc + i, in, m);
        in += sizeof(float) + m;
    }
}

void ot_codec_decode(ot_codec c, float *out, const void *in, uint64_t n)
{
    if (c == OT_CODEC_INT8) {
        each_block(ot_kernels_chosen()->dequantise, out, in, n);
    } else {
        ot_kernel_convert(OVERTAKE_F32, out, c == OT_CODEC_F16 ? OVERTAKE_F16 : OVERTAKE_BF16, in,
                          n);
    }
}

void ot_codec_add(ot_codec c, float *acc, const void *in, uint64_t n)
{
    const ot_kernels *k = ot_kernels_chosen();
    if (c == OT_CODEC_INT8) {
        each_block(k->dequantise_add, acc, in, n);
    } else {
        (c == OT_CODEC_F16 ? k->add_f16 : k->add_bf16)(acc, in, n);
    }
}

/* Numbers of the chunk of a rank: whole blocks, dealt evenly, the last one may be short. */
static uint64_t chunk(const ot_twoshot *t, int32_t rank)
{
    uint64_t blocks = t->count / OT_CODEC_BLOCK + (t->count % OT_CODEC_BLOCK != 0);
    uint64_t r = (uint64_t)rank, n = (uint64_t)t->size;
    uint64_t each = blocks / n, more = blocks % n;
    uint64_t first = r * each + OT_MIN(r, more), end = first + each + (r < more);
    return OT_MIN(end * OT_CODEC_BLOCK, t->count) - OT_MIN(first * OT_CODEC_BLOCK, t->count);
}

ot_rc ot_twoshot_init(ot_twoshot *t, ot_codec c, int32_t rank, int32_t size, uint64_t count,
                      ot_error *err)
{
    ot_twoshot made = {.codec = c, .rank = rank, .size = size, .count = count};
    made.sends = ot_calloc(2 * (size_t)size, sizeof *made.sends);
    if (made.sends == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for the chunks of %d ranks", (int)size);
    }
    made.recvs = made.sends + size;
    for (int32_t r = 0; r < size; r++) {
        made.sends[r] = ot_codec_bytes(c, chunk(&made, r));
        made.recvs[r] = ot_codec_bytes(c, chunk(&made, rank));
    }
    *t = made;
    return OT_OK;
}

void ot_twoshot_done(ot_twoshot *t)
{
    ot_free(t->sends);
    *t = (ot_twoshot){0};
}

uint64_t ot_twoshot_bytes(const ot_twoshot *t)
{
    /* Only the last chunk has a short block: as if it were one. */
    return ot_codec_bytes(t->codec, t->count);
}

uint64_t ot_twoshot_heard(const ot_twoshot *t)
{
    return (uint64_t)t->size * t->recvs[t->rank];
}

uint64_t ot_twoshot_owned(const ot_twoshot *t)
{
    return chunk(t, t->rank);
}

void ot_twoshot_pack(const ot_twoshot *t, void *out, const float *in, float *residual)
{
    ot_codec_encode(t->codec, out, in, residual, t->count);
}

void ot_twoshot_sum(const ot_twoshot *t, void *out, const void *in, float *acc, float *residual)
{
    uint64_t n = ot_twoshot_owned(t), bytes = t->recvs[t->rank];
    memset(acc, 0, n * sizeof *acc);
    for (int32_t r = 0; r < t->size; r++) {
        ot_codec_add(t->codec, acc, (const char *)in + (uint64_t)r * bytes, n);
    }
    ot_codec_encode(t->codec, out, acc, residual, n);
}

void ot_twoshot_unpack(const ot_twoshot *t, float *out, const void *in)
{
    ot_codec_decode(t->codec, out, in, t->count);
}
