/* The inside of a schema, shared by the files hist*.c. */
#ifndef OT_STATS_HIST_INTERNAL_H
#define OT_STATS_HIST_INTERNAL_H

#include "stats/hist.h"

#include <string.h>

enum {
    CHUNK = 16,       /* features quantised together */
    LUT_STRIDE = 272, /* OT_HIST_Q + 1 entries, padded */
    PAD_CELL = OT_HIST_CELLS - 1,
};

typedef struct hist_known {
    uint64_t key;
    uint8_t cell;
} hist_known;

typedef struct hist_feature {
    char name[OT_HIST_NAME_MAX + 1];
    uint8_t kind;
    uint8_t inner; /* K, or own cells */
    /* numeric */
    uint8_t map;
    uint8_t first_q[OT_HIST_INNER_MAX]; /* the first index of each inner cell; first_q[0] = 1 */
    /* category */
    bool text; /* values come as keys, not as floats */
    bool open; /* more values than OT_HIST_KNOWN_MAX: unknown ones count as hashed, not unseen */
    size_t n_known;
    hist_known *known; /* sorted by key */
    double own_value[OT_HIST_OWN_MAX];
    uint8_t small[OT_HIST_Q]; /* the cells of class numbers 0..255 */
} hist_feature;

struct ot_hist_schema {
    size_t n, n_padded; /* padded to whole chunks */
    uint64_t id;
    bool any_log, any_class;
    hist_feature *f; /* (n) */
    /* The kernel's arrays (n_padded); q = trunc((m(x) - lo) * scale), m(x) the mapped value. */
    float *lo, *scale, *centre, *inverse_spread;
    uint32_t *log_mask; /* all ones where the map is OT_HIST_LOG */
    uint8_t *lut;       /* (n_padded, LUT_STRIDE) */
};

/* How a numeric value becomes an index. */
typedef struct hist_axis {
    float lo, scale, centre, inverse_spread;
    uint8_t map;
} hist_axis;

static inline uint32_t float_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}
static inline float bits_float(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* sign(u) * (bits(1 + |u|) - bits(1)); NaN stays NaN. */
static inline float log_map(float x, float centre, float inverse_spread)
{
    float u = (x - centre) * inverse_spread;
    uint32_t ub = float_bits(u);
    float v = bits_float(ub & 0x7fffffffu) + 1.0f;
    float m = (float)(int32_t)(float_bits(v) - 0x3f800000u);
    m = bits_float(float_bits(m) | (ub & 0x80000000u));
    return u == u ? m : u;
}

/* Index 0 below, 1..254 inside, 255 above, OT_HIST_Q for NaN, without a branch: the order of the
 * operands decides what NaN does in each of the three steps. */
static inline int32_t quantise(float m, float lo, float scale)
{
    float t = (m - lo) * scale;
    t = 0.0f > t ? 0.0f : t;
    t = 255.5f < t ? 255.5f : t;
    t = t < 256.0f ? t : 256.0f;
    return (int32_t)t;
}
static inline unsigned axis_index(const hist_axis *a, float x)
{
    float m = a->map == OT_HIST_LOG ? log_map(x, a->centre, a->inverse_spread) : x;
    return (unsigned)quantise(m, a->lo, a->scale);
}

/* Allocates a schema of n uncounted features; the caller fills f, then calls hist_schema_seal. */
ot_rc hist_schema_alloc(size_t n, ot_hist_schema **s_out, ot_error *err) OT_CHECKED;
void hist_schema_set_axis(ot_hist_schema *s, size_t j, const hist_axis *a);
/* Fills look-ups and the id from the features. OT_EXHAUSTED when memory is short. */
ot_rc hist_schema_seal(ot_hist_schema *s, ot_error *err) OT_CHECKED;
void hist_schema_write_body(const ot_hist_schema *s, ot_str *out);
unsigned hist_category_cell(const hist_feature *f, uint64_t key);

/* hist_build.c: one column. `scratch` holds 2 * n_rows floats. */
typedef struct hist_column_source {
    const float *x; /* first value */
    size_t n, stride;
    const uint64_t *keys;
} hist_column_source;
ot_rc hist_build_numeric(ot_hist_schema *s, size_t j, const hist_column_source *c, float *scratch,
                         ot_error *err) OT_CHECKED;
ot_rc hist_build_category(ot_hist_schema *s, size_t j, const hist_column_source *c,
                          ot_error *err) OT_CHECKED;

#endif
