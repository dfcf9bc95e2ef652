/* The kernels of low rank as vectors; included behind codec_simd.h by the same files. Several rows
 * come at a time, what is left of them one by one: what all rows need is read from the caches that
 * much less often, and the matrix itself once. */

enum { TOGETHER = 4 };

/* What the gradient is with what was kept of it, of row r. */
INLINE v_f32 whole(const ot_rows *m, size_t r, size_t c)
{
    return load_f32(m->in + r * m->in_step + c) * m->before +
           load_f32(m->residual + r * m->step + c);
}

/* Row r of those that come next, while these are at column c: the machine's own guesses end with a
 * page, which is a row of many a matrix. */
INLINE void fetch(const ot_rows *m, size_t r, size_t c)
{
    __builtin_prefetch(m->in + r * m->in_step + c, 0, 2);
    __builtin_prefetch(m->residual + r * m->step + c, 0, 2);
}

INLINE void project_k(float *p, size_t p_step, const ot_rows *m, const float *q, size_t n,
                      const size_t k, const size_t rows)
{
    enum { VECTORS = OT_DOT_LANES / LANES };
    v_f32 sums[2][8][VECTORS] = {{{{0}}}};
    size_t i = 0;
    for (; i + OT_DOT_LANES <= n; i += OT_DOT_LANES) {
#pragma GCC unroll 4
        for (size_t v = 0; v < VECTORS; v++) {
            size_t c = i + v * LANES;
            v_f32 x[2];
#pragma GCC unroll 2
            for (size_t r = 0; r < rows; r++) {
                x[r] = whole(m, r, c);
                fetch(m, rows + r, c);
            }
#pragma GCC unroll 8
            for (size_t j = 0; j < k; j++) {
                v_f32 y = load_f32(q + j * n + c);
#pragma GCC unroll 2
                for (size_t r = 0; r < rows; r++) {
                    sums[r][j][v] += x[r] * y;
                }
            }
        }
    }
    for (size_t r = 0; r < rows; r++) {
        const float *in = m->in + r * m->in_step, *residual = m->residual + r * m->step;
        for (size_t j = 0; j < k; j++) {
            float lanes[OT_DOT_LANES];
#pragma GCC unroll 4
            for (size_t v = 0; v < VECTORS; v++) {
                store_f32(lanes + v * LANES, sums[r][j][v]);
            }
            for (size_t c = i; c < n; c++) {
                lanes[c % OT_DOT_LANES] += (in[c] * m->before + residual[c]) * q[j * n + c];
            }
            p[j * p_step + r] = (float)ot_dot_lanes(lanes);
        }
    }
}

/* Eight columns of two rows at once where registers hold all the sums, else four of one. */
INLINE void project_rows(float *p, size_t p_step, const ot_rows *m, const float *q, size_t n,
                         size_t k, const size_t rows)
{
    for (; rows == 2 && k >= 8; k -= 8) {
        project_k(p, p_step, m, q, n, 8, rows);
        p += 8 * p_step;
        q += 8 * n;
    }
    for (; k >= 4; k -= 4) {
        project_k(p, p_step, m, q, n, 4, rows);
        p += 4 * p_step;
        q += 4 * n;
    }
    for (; k > 0; k--) {
        project_k(p, p_step, m, q, n, 1, rows);
        p += p_step;
        q += n;
    }
}

/* The same matrix from row r, or from column c on. */
INLINE ot_rows below(const ot_rows *m, size_t r)
{
    ot_rows at = *m;
    at.in += r * m->in_step;
    at.residual += r * m->step;
    return at;
}

INLINE ot_rows right_of(const ot_rows *m, size_t c)
{
    ot_rows at = *m;
    at.in += c;
    at.residual += c;
    return at;
}

OT_TARGET static void project(float *p, size_t p_step, const ot_rows *m, const float *q, size_t n,
                              size_t k, size_t rows)
{
    size_t r = 0;
    for (; LANES == OT_DOT_LANES && r + 2 <= rows; r += 2) {
        ot_rows at = below(m, r);
        project_rows(p + r, p_step, &at, q, n, k, 2);
    }
    for (; r < rows; r++) {
        ot_rows at = below(m, r);
        project_rows(p + r, p_step, &at, q, n, k, 1);
    }
}

/* One row after the other is added, however many come at a time. */
INLINE void gather_rows(float *q, size_t q_step, const float *p, size_t p_step, const ot_rows *m,
                        size_t n, size_t k, const size_t rows)
{
    size_t c = 0;
    for (; c + LANES <= n; c += LANES) {
        v_f32 x[TOGETHER];
#pragma GCC unroll 4
        for (size_t r = 0; r < rows; r++) {
            x[r] = whole(m, r, c);
            fetch(m, rows + r, c);
        }
        for (size_t j = 0; j < k; j++) {
            v_f32 sum = load_f32(q + j * q_step + c);
#pragma GCC unroll 4
            for (size_t r = 0; r < rows; r++) {
                sum += p[j * p_step + r] * x[r];
            }
            store_f32(q + j * q_step + c, sum);
        }
    }
    ot_rows rest = right_of(m, c);
    ot_kernels_scalar.gather(q + c, q_step, p, p_step, &rest, n - c, k, rows);
}

/* Eight columns at a time: rows of a power of two lie in the same few places of a cache. */
OT_TARGET static void gather(float *q, size_t q_step, const float *p, size_t p_step,
                             const ot_rows *m, size_t n, size_t k, size_t rows)
{
    size_t together = 1;
    for (size_t r = 0; r < rows; r += together) {
        ot_rows at = below(m, r);
        together = r + TOGETHER <= rows ? TOGETHER : 1;
        for (size_t j = 0; j < k; j += 8) {
            float *to = q + j * q_step;
            const float *by = p + j * p_step + r;
            size_t some = k - j < 8 ? k - j : 8;
            if (together == TOGETHER) {
                gather_rows(to, q_step, by, p_step, &at, n, some, TOGETHER);
            } else {
                gather_rows(to, q_step, by, p_step, &at, n, some, 1);
            }
        }
    }
}

INLINE void settle_rows(float *out, size_t out_step, float after, const ot_rows *m, const float *p,
                        size_t p_step, const float *q, size_t q_step, size_t n, size_t k,
                        const size_t rows)
{
    size_t c = 0;
    for (; c + LANES <= n; c += LANES) {
        v_f32 x[TOGETHER] = {{0}};
        for (size_t j = 0; j < k; j++) {
            v_f32 y = load_f32(q + j * q_step + c);
#pragma GCC unroll 4
            for (size_t r = 0; r < rows; r++) {
                x[r] += p[j * p_step + r] * y;
            }
        }
#pragma GCC unroll 4
        for (size_t r = 0; r < rows; r++) {
            v_f32 y = x[r] * after;
            fetch(m, rows + r, c);
            store_f32(m->residual + r * m->step + c, whole(m, r, c) - x[r]);
            store_f32(out + r * out_step + c, one_nan_f32(y, y == y));
        }
    }
    ot_rows rest = right_of(m, c);
    ot_kernels_scalar.settle(out + c, out_step, after, &rest, p, p_step, q + c, q_step, n - c, k,
                             rows);
}

OT_TARGET static void settle(float *out, size_t out_step, float after, const ot_rows *m,
                             const float *p, size_t p_step, const float *q, size_t q_step, size_t n,
                             size_t k, size_t rows)
{
    size_t r = 0;
    for (; r + TOGETHER <= rows; r += TOGETHER) {
        ot_rows at = below(m, r);
        settle_rows(out + r * out_step, out_step, after, &at, p + r, p_step, q, q_step, n, k,
                    TOGETHER);
    }
    for (; r < rows; r++) {
        ot_rows at = below(m, r);
        settle_rows(out + r * out_step, out_step, after, &at, p + r, p_step, q, q_step, n, k, 1);
    }
}
