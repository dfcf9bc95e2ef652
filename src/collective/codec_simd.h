/* The kernels of the codecs as vectors; included behind kernel_simd.h by the same files, with
 *     OT_LOAD_I8(p)      OT_WIDTH / 4 signed bytes as a vector of 32-bit integers
 *     OT_STORE_I8(p, x)  and back; they fit */

OT_TARGET static void add_f16(float *acc, const void *in, size_t n)
{
    const char *p = in;
    LOOP(
        LANES, 2,
        {
            v_f32 x = load_f32(acc + i) + load_f16(p + at);
            store_f32(acc + i, one_nan_f32(x, x == x));
        },
        ot_kernels_scalar.add_f16(acc + i, p + at, n - i))
}

OT_TARGET static void add_bf16(float *acc, const void *in, size_t n)
{
    const char *p = in;
    LOOP(
        LANES, 2,
        {
            v_f32 x = load_f32(acc + i) + load_bf16(p + at);
            store_f32(acc + i, one_nan_f32(x, x == x));
        },
        ot_kernels_scalar.add_bf16(acc + i, p + at, n - i))
}

INLINE v_f32 times(const void *bytes, float scale)
{
    return __builtin_convertvector(OT_LOAD_I8(bytes), v_f32) * scale;
}

INLINE float scale_at(const void *block)
{
    float scale;
    memcpy(&scale, block, sizeof scale);
    return scale;
}

/* What is left of a block is shorter than a vector. */
#define BLOCK_LOOP(expression)                                                                     \
    float scale = scale_at(in);                                                                    \
    const int8_t *q = (const int8_t *)in + sizeof scale;                                           \
    size_t i = 0;                                                                                  \
    for (; i + LANES <= n; i += LANES) {                                                           \
        v_f32 x = times(q + i, scale);                                                             \
        x = expression;                                                                            \
        store_f32(out + i, one_nan_f32(x, x == x));                                                \
    }                                                                                              \
    char rest[sizeof scale + LANES];                                                               \
    memcpy(rest, &scale, sizeof scale);                                                            \
    memcpy(rest + sizeof scale, q + i, n - i);

OT_TARGET static void dequantise(float *out, const void *in, size_t n)
{
    BLOCK_LOOP(x)
    ot_kernels_scalar.dequantise(out + i, rest, n - i);
}

OT_TARGET static void dequantise_add(float *out, const void *in, size_t n)
{
    BLOCK_LOOP(load_f32(out + i) + x)
    ot_kernels_scalar.dequantise_add(out + i, rest, n - i);
}

/* A block in a buffer whose end is zeros: whole vectors only. */
OT_TARGET static void quantise(void *out, const float *in, float *residual, size_t n)
{
    float v[OT_CODEC_BLOCK + LANES] __attribute__((aligned(OT_WIDTH)));
    int8_t q[OT_CODEC_BLOCK + LANES];
    uint32_t lanes[LANES], most = 0;
    v_u32 top = {0};
    float inverse;
    size_t whole = n / LANES * LANES;
    for (size_t i = 0; i < whole; i += LANES) {
        v_f32 x = load_f32(in + i);
        if (residual != NULL) {
            x += load_f32(residual + i);
        }
        store_f32(v + i, x);
    }
    memset(v + whole, 0, LANES * sizeof *v);
    for (size_t i = whole; i < n; i++) {
        v[i] = residual != NULL ? in[i] + residual[i] : in[i];
    }
    for (size_t i = 0; i < n; i += LANES) {
        v_u32 magnitude = (v_u32)load_f32(v + i) & 0x7fffffffu;
        top = SELECT(v_u32, v_i32, magnitude > top, magnitude, top);
    }
    STORE(v_u32, lanes, top);
    for (size_t i = 0; i < LANES; i++) {
        most = lanes[i] > most ? lanes[i] : most;
    }
    float scale = ot_quantise_scale(most, &inverse);
    memcpy(out, &scale, sizeof scale);
    if (most >= 0x7f800000u) {
        memset((char *)out + sizeof scale, 0, n);
        return;
    }
    for (size_t i = 0; i < n; i += LANES) {
        v_f32 x = load_f32(v + i), rounds = (v_f32){0} + OT_ROUNDS;
        v_i32 k = (v_i32)(x * inverse + rounds) - (v_i32)rounds;
        OT_STORE_I8(q + i, k);
        store_f32(v + i, x - __builtin_convertvector(k, v_f32) * scale);
    }
    memcpy((char *)out + sizeof scale, q, n);
    if (residual != NULL) {
        memcpy(residual, v, n * sizeof *v);
    }
}

OT_TARGET static void axpy(float *y, float a, const float *x, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        store_f32(y + i, load_f32(y + i) + a * load_f32(x + i));
    }
    ot_kernels_scalar.axpy(y + i, a, x + i, n - i);
}

OT_TARGET static double dot(const float *x, const float *y, size_t n)
{
    enum { VECTORS = OT_DOT_LANES / (OT_WIDTH / 4) };
    v_f32 sums[VECTORS] = {{0}};
    float lanes[OT_DOT_LANES];
    size_t i = 0;
    for (; i + OT_DOT_LANES <= n; i += OT_DOT_LANES) {
        for (size_t k = 0; k < VECTORS; k++) {
            sums[k] += load_f32(x + i + k * LANES) * load_f32(y + i + k * LANES);
        }
    }
    for (size_t k = 0; k < VECTORS; k++) {
        store_f32(lanes + k * LANES, sums[k]);
    }
    for (; i < n; i++) {
        lanes[i % OT_DOT_LANES] += x[i] * y[i];
    }
    return ot_dot_lanes(lanes);
}
