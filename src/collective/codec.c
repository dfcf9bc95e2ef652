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

/* --- two shots ---------------------------------------------------------------------------- */

/* Block after block through spans. */
typedef struct walk {
    const ot_span *span, *end;
    uint64_t at; /* of the block in its span */
} walk;

static uint64_t blocks_of(uint64_t n)
{
    return n / OT_CODEC_BLOCK + (n % OT_CODEC_BLOCK != 0);
}

static walk walk_from(const ot_twoshot *t, uint64_t block)
{
    walk w = {.span = t->spans, .end = t->spans + t->n};
    while (w.span < w.end && block >= blocks_of(w.span->count)) {
        block -= blocks_of(w.span->count);
        w.span++;
    }
    w.at = block * OT_CODEC_BLOCK;
    return w;
}

static size_t walk_numbers(const walk *w)
{
    return OT_MIN(w->span->count - w->at, OT_CODEC_BLOCK);
}

static void walk_on(walk *w)
{
    w->at += OT_CODEC_BLOCK;
    while (w->span < w->end && w->at >= w->span->count) {
        w->span++;
        w->at = 0;
    }
}

/* The first block of a rank's chunk: blocks are dealt evenly. */
static uint64_t first_block(const ot_twoshot *t, int32_t rank)
{
    uint64_t r = (uint64_t)rank, n = (uint64_t)t->size;
    return r * (t->blocks / n) + OT_MIN(r, t->blocks % n);
}

static uint64_t chunk_bytes(const ot_twoshot *t, int32_t rank)
{
    uint64_t bytes = 0, block = first_block(t, rank), end = first_block(t, rank + 1);
    for (walk w = walk_from(t, block); block < end; block++, walk_on(&w)) {
        bytes += ot_codec_bytes(t->codec, walk_numbers(&w));
    }
    return bytes;
}

ot_rc ot_twoshot_init(ot_twoshot *t, ot_codec c, int32_t rank, int32_t size, const ot_span *spans,
                      size_t n, ot_error *err)
{
    ot_twoshot made = {.codec = c, .rank = rank, .size = size, .spans = spans, .n = n};
    made.sends = ot_calloc(2 * (size_t)size, sizeof *made.sends);
    if (made.sends == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for the chunks of %d ranks", (int)size);
    }
    made.recvs = made.sends + size;
    for (size_t i = 0; i < n; i++) {
        made.blocks += blocks_of(spans[i].count);
    }
    for (int32_t r = 0; r < size; r++) {
        made.sends[r] = chunk_bytes(&made, r);
        made.bytes += made.sends[r];
    }
    for (int32_t r = 0; r < size; r++) {
        made.recvs[r] = made.sends[rank];
    }
    *t = made;
    return OT_OK;
}

void ot_twoshot_done(ot_twoshot *t)
{
    ot_free(t->sends);
    *t = (ot_twoshot){0};
}

uint64_t ot_twoshot_heard(const ot_twoshot *t)
{
    return (uint64_t)t->size * t->recvs[t->rank];
}

void ot_twoshot_pack(const ot_twoshot *t, void *out)
{
    static const float zeros[OT_CODEC_BLOCK];
    float scaled[OT_CODEC_BLOCK];
    char *to = out;
    walk w = walk_from(t, 0);
    for (uint64_t block = 0; block < t->blocks; block++, walk_on(&w)) {
        const ot_span *s = w.span;
        size_t m = walk_numbers(&w);
        const float *in = s->in != NULL ? s->in + w.at : zeros;
        if (s->before != 1) {
            ot_kernels_chosen()->scale_f32(scaled, in, m, s->before);
            in = scaled;
        }
        ot_codec_encode(t->codec, to, in, s->residual != NULL ? s->residual + w.at : NULL, m);
        to += ot_codec_bytes(t->codec, m);
    }
}

void ot_twoshot_sum(const ot_twoshot *t, void *out, const void *in)
{
    const ot_kernels *k = ot_kernels_chosen();
    uint64_t block = first_block(t, t->rank), end = first_block(t, t->rank + 1), at = 0;
    for (walk w = walk_from(t, block); block < end; block++, walk_on(&w)) {
        float sum[OT_CODEC_BLOCK] = {0}, left[OT_CODEC_BLOCK] = {0};
        size_t m = walk_numbers(&w);
        for (int32_t r = 0; r < t->size; r++) {
            ot_codec_add(t->codec, sum, (const char *)in + (uint64_t)r * t->recvs[r] + at, m);
        }
        bool keeps = w.span->residual != NULL;
        ot_codec_encode(t->codec, (char *)out + at, sum, keeps ? left : NULL, m);
        if (keeps) {
            k->axpy(w.span->residual + w.at, 1, left, m);
        }
        at += ot_codec_bytes(t->codec, m);
    }
}

void ot_twoshot_unpack(const ot_twoshot *t, const void *in)
{
    const char *from = in;
    walk w = walk_from(t, 0);
    for (uint64_t block = 0; block < t->blocks; block++, walk_on(&w)) {
        const ot_span *s = w.span;
        size_t m = walk_numbers(&w);
        if (s->out != NULL) {
            ot_codec_decode(t->codec, s->out + w.at, from, m);
        }
        if (s->out != NULL && s->after != 1) {
            ot_kernels_chosen()->scale_f32(s->out + w.at, s->out + w.at, m, s->after);
        }
        from += ot_codec_bytes(t->codec, m);
    }
}
