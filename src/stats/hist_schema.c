/* Schemas: look-ups, accessors, the written form. See hist.h. */
#include "stats/hist_internal.h"

#include "base/hash.h"
#include "base/mem.h"
#include "stats/bin.h"

enum { SCHEMA_MAGIC = 0x5348544f /* "OTHS" */, SCHEMA_VERSION = 1 };
enum { FLAG_LOG = 1, FLAG_TEXT = 2, FLAG_OPEN = 4 };
static const uint64_t SALT_KEY = 0x63617465, SALT_SCHEMA = 0x736368656d61;

ot_rc hist_schema_alloc(size_t n, ot_hist_schema **s_out, ot_error *err)
{
    size_t padded = (n + CHUNK - 1) / CHUNK * CHUNK;
    ot_hist_schema *s = ot_calloc(1, sizeof *s);
    if (s == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "histogram schema: no memory");
    }
    s->n = n;
    s->n_padded = padded;
    s->f = ot_calloc(n, sizeof *s->f);
    s->lo = ot_calloc(padded, sizeof *s->lo);
    s->scale = ot_calloc(padded, sizeof *s->scale);
    s->centre = ot_calloc(padded, sizeof *s->centre);
    s->inverse_spread = ot_calloc(padded, sizeof *s->inverse_spread);
    s->log_mask = ot_calloc(padded, sizeof *s->log_mask);
    s->lut = ot_alloc(padded * LUT_STRIDE);
    if (!s->f || !s->lo || !s->scale || !s->centre || !s->inverse_spread || !s->log_mask ||
        !s->lut) {
        ot_hist_schema_destroy(s);
        return ot_fail(err, OT_EXHAUSTED, "histogram schema: no memory for %zu features", n);
    }
    memset(s->lut, PAD_CELL, padded * LUT_STRIDE);
    *s_out = s;
    return OT_OK;
}

void ot_hist_schema_destroy(ot_hist_schema *s)
{
    if (s == NULL) {
        return;
    }
    for (size_t j = 0; s->f != NULL && j < s->n; j++) {
        ot_free(s->f[j].known);
    }
    ot_free(s->f);
    ot_free(s->lo);
    ot_free(s->scale);
    ot_free(s->centre);
    ot_free(s->inverse_spread);
    ot_free(s->log_mask);
    ot_free(s->lut);
    ot_free(s);
}

void hist_schema_set_axis(ot_hist_schema *s, size_t j, const hist_axis *a)
{
    s->lo[j] = a->lo;
    s->scale[j] = a->scale;
    s->centre[j] = a->centre;
    s->inverse_spread[j] = a->inverse_spread;
    s->log_mask[j] = a->map == OT_HIST_LOG ? UINT32_MAX : 0;
    s->f[j].map = a->map;
}

static void seal_numeric(ot_hist_schema *s, size_t j)
{
    const hist_feature *f = &s->f[j];
    uint8_t *lut = s->lut + j * LUT_STRIDE;
    for (unsigned q = 1, cell = 0; q < OT_HIST_Q - 1; q++) {
        while (cell + 1 < f->inner && q >= f->first_q[cell + 1]) {
            cell++;
        }
        lut[q] = (uint8_t)cell;
    }
    lut[0] = OT_HIST_BELOW;
    lut[OT_HIST_Q - 1] = OT_HIST_ABOVE;
    lut[OT_HIST_Q] = OT_HIST_MISSING;
    s->any_log |= f->map == OT_HIST_LOG;
}

ot_rc hist_schema_seal(ot_hist_schema *s, ot_error *err)
{
    for (size_t j = 0; j < s->n; j++) {
        hist_feature *f = &s->f[j];
        if (f->kind == OT_HIST_NUMERIC) {
            seal_numeric(s, j);
        } else if (f->kind == OT_HIST_CATEGORY && !f->text) {
            s->any_class = true;
            for (unsigned v = 0; v < OT_HIST_Q; v++) {
                f->small[v] = (uint8_t)hist_category_cell(f, ot_hist_key_number(v));
            }
        }
    }
    ot_str body = OT_STR_INIT;
    hist_schema_write_body(s, &body);
    s->id = ot_hash_stable(body.data, body.len, SALT_SCHEMA);
    bool failed = body.failed;
    ot_str_done(&body);
    return failed ? ot_fail(err, OT_EXHAUSTED, "histogram schema: no memory") : OT_OK;
}

uint64_t ot_hist_key_text(const char *p, size_t n)
{
    uint64_t h = ot_hash_stable(p, n, SALT_KEY);
    return h != 0 ? h : 1;
}

uint64_t ot_hist_key_number(double x)
{
    if (isnan(x)) {
        return 0;
    }
    x += 0.0; /* -0 is 0 */
    uint64_t u;
    memcpy(&u, &x, sizeof u);
    uint8_t b[8];
    for (unsigned i = 0; i < 8; i++) {
        b[i] = (uint8_t)(u >> (8 * i));
    }
    uint64_t h = ot_hash_stable(b, sizeof b, SALT_KEY + 1);
    return h != 0 ? h : 1;
}

unsigned hist_category_cell(const hist_feature *f, uint64_t key)
{
    if (key == 0) {
        return OT_HIST_MISSING;
    }
    size_t lo = 0, hi = f->n_known;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (f->known[mid].key < key) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    if (lo < f->n_known && f->known[lo].key == key) {
        return f->known[lo].cell;
    }
    return f->open ? OT_HIST_OWN_MAX + (unsigned)(key % OT_HIST_HASHED) : OT_HIST_UNSEEN;
}

size_t ot_hist_schema_features(const ot_hist_schema *s)
{
    return s->n;
}
const char *ot_hist_schema_name(const ot_hist_schema *s, size_t feature)
{
    return s->f[feature].name;
}
ot_hist_kind ot_hist_schema_kind(const ot_hist_schema *s, size_t feature)
{
    return (ot_hist_kind)s->f[feature].kind;
}
ot_hist_map ot_hist_schema_map(const ot_hist_schema *s, size_t feature)
{
    return (ot_hist_map)s->f[feature].map;
}
size_t ot_hist_schema_inner(const ot_hist_schema *s, size_t feature)
{
    return s->f[feature].inner;
}
uint64_t ot_hist_schema_id(const ot_hist_schema *s)
{
    return s->id;
}

ptrdiff_t ot_hist_schema_find(const ot_hist_schema *s, const char *name)
{
    for (size_t j = 0; j < s->n; j++) {
        if (strcmp(s->f[j].name, name) == 0) {
            return (ptrdiff_t)j;
        }
    }
    return -1;
}

static hist_axis axis_of(const ot_hist_schema *s, size_t j)
{
    return (hist_axis){s->lo[j], s->scale[j], s->centre[j], s->inverse_spread[j], s->f[j].map};
}

unsigned ot_hist_schema_cell(const ot_hist_schema *s, size_t feature, float x)
{
    const hist_feature *f = &s->f[feature];
    if (f->kind == OT_HIST_NUMERIC) {
        hist_axis a = axis_of(s, feature);
        return s->lut[feature * LUT_STRIDE + axis_index(&a, x)];
    }
    if (f->kind != OT_HIST_CATEGORY) {
        return PAD_CELL;
    }
    if (x >= 0.0f && x < (float)OT_HIST_Q && x == (float)(int)x) {
        return f->small[(int)x];
    }
    return hist_category_cell(f, ot_hist_key_number((double)x));
}

/* The value at which index q begins. */
static double axis_value(const hist_axis *a, double q)
{
    double m = (double)a->lo + q / (double)a->scale;
    if (a->map != OT_HIST_LOG) {
        return m;
    }
    double bits = fabs(m) / 8388608.0; /* octaves: whole part exponent, rest mantissa */
    double u = ldexp(1.0 + (bits - floor(bits)), (int)floor(bits)) - 1.0;
    return (double)a->centre + (m < 0 ? -u : u) / (double)a->inverse_spread;
}

bool ot_hist_schema_cell_range(const ot_hist_schema *s, size_t feature, unsigned cell,
                               double *lo_out, double *hi_out)
{
    const hist_feature *f = &s->f[feature];
    if (cell >= f->inner) {
        return false;
    }
    if (f->kind == OT_HIST_CATEGORY) {
        *lo_out = *hi_out = f->own_value[cell];
        return true;
    }
    hist_axis a = axis_of(s, feature);
    *lo_out = axis_value(&a, f->first_q[cell]);
    *hi_out = axis_value(&a, cell + 1u < f->inner ? f->first_q[cell + 1] : OT_HIST_Q - 1);
    return true;
}

/* ---- the written form ---- */

static void write_feature(const ot_hist_schema *s, size_t j, ot_str *out)
{
    const hist_feature *f = &s->f[j];
    size_t name = strlen(f->name);
    bin_put_u8(out, f->kind);
    bin_put_u8(out, (f->map == OT_HIST_LOG ? FLAG_LOG : 0u) | (f->text ? FLAG_TEXT : 0u) |
                        (f->open ? FLAG_OPEN : 0u));
    bin_put_u8(out, (unsigned)name);
    ot_str_add(out, f->name, name);
    bin_put_u8(out, f->inner);
    if (f->kind == OT_HIST_NUMERIC) {
        bin_put_f32(out, s->lo[j]);
        bin_put_f32(out, s->scale[j]);
        bin_put_f32(out, s->centre[j]);
        bin_put_f32(out, s->inverse_spread[j]);
        ot_str_add(out, f->first_q, f->inner);
    } else if (f->kind == OT_HIST_CATEGORY) {
        for (size_t c = 0; c < f->inner; c++) {
            bin_put_f64(out, f->own_value[c]);
        }
        bin_put_u(out, f->n_known, 2);
        for (size_t i = 0; i < f->n_known; i++) {
            bin_put_u64(out, f->known[i].key);
            bin_put_u8(out, f->known[i].cell);
        }
    }
}

void hist_schema_write_body(const ot_hist_schema *s, ot_str *out)
{
    bin_put_u32(out, (uint32_t)s->n);
    for (size_t j = 0; j < s->n; j++) {
        write_feature(s, j, out);
    }
}

void ot_hist_schema_write(const ot_hist_schema *s, ot_str *out)
{
    size_t body = bin_record_begin(out, SCHEMA_MAGIC, SCHEMA_VERSION);
    hist_schema_write_body(s, out);
    bin_record_end(out, body);
}

static bool read_numeric(ot_hist_schema *s, size_t j, unsigned flags, bin_reader *r)
{
    hist_feature *f = &s->f[j];
    hist_axis a = {.map = flags & FLAG_LOG ? OT_HIST_LOG : OT_HIST_LINEAR};
    a.lo = bin_get_f32(r);
    a.scale = bin_get_f32(r);
    a.centre = bin_get_f32(r);
    a.inverse_spread = bin_get_f32(r);
    if (f->inner < 1 || f->inner > OT_HIST_INNER_MAX || !bin_take(r, f->first_q, f->inner) ||
        !isfinite(a.lo) || !isfinite(a.scale) || !isfinite(a.centre) ||
        !isfinite(a.inverse_spread) || a.scale <= 0 || a.inverse_spread < 0 || f->first_q[0] != 1) {
        return false;
    }
    for (size_t c = 1; c < f->inner; c++) {
        if (f->first_q[c] <= f->first_q[c - 1] || f->first_q[c] > OT_HIST_Q - 2) {
            return false;
        }
    }
    hist_schema_set_axis(s, j, &a);
    return true;
}

static bool read_category(hist_feature *f, unsigned flags, bin_reader *r, bool *no_memory)
{
    f->text = (flags & FLAG_TEXT) != 0;
    f->open = (flags & FLAG_OPEN) != 0;
    if (f->inner > OT_HIST_OWN_MAX) {
        return false;
    }
    for (size_t c = 0; c < f->inner; c++) {
        f->own_value[c] = bin_get_f64(r);
    }
    size_t n = (size_t)bin_get_u(r, 2);
    if (r->failed || n > OT_HIST_KNOWN_MAX || n > (r->n - r->at) / 9) {
        return false;
    }
    f->known = ot_calloc(n > 0 ? n : 1, sizeof *f->known);
    if (f->known == NULL) {
        *no_memory = true;
        return false;
    }
    f->n_known = n;
    for (size_t i = 0; i < n; i++) {
        f->known[i].key = bin_get_u64(r);
        f->known[i].cell = bin_get_u8(r);
        unsigned c = f->known[i].cell;
        bool hashed = c >= OT_HIST_OWN_MAX && c < OT_HIST_OWN_MAX + OT_HIST_HASHED;
        if (f->known[i].key == 0 || (i > 0 && f->known[i].key <= f->known[i - 1].key) ||
            (c >= f->inner && !hashed)) {
            return false;
        }
    }
    return true;
}

static bool read_feature(ot_hist_schema *s, size_t j, bin_reader *r, bool *no_memory)
{
    hist_feature *f = &s->f[j];
    f->kind = bin_get_u8(r);
    unsigned flags = bin_get_u8(r);
    size_t name = bin_get_u8(r);
    if (name > OT_HIST_NAME_MAX || !bin_take(r, f->name, name) ||
        memchr(f->name, 0, name) != NULL) {
        return false;
    }
    f->inner = bin_get_u8(r);
    switch (f->kind) {
    case OT_HIST_NONE:
        return f->inner == 0 && !r->failed;
    case OT_HIST_NUMERIC:
        return read_numeric(s, j, flags, r) && !r->failed;
    case OT_HIST_CATEGORY:
        return read_category(f, flags, r, no_memory) && !r->failed;
    default:
        return false;
    }
}

ot_rc ot_hist_schema_read(const void *p, size_t n, ot_hist_schema **schema_out, size_t *used_out,
                          ot_error *err)
{
    enum { FEATURE_BYTES_MIN = 4 };
    bin_reader r = {0};
    size_t used = 0;
    OT_TRY(bin_record_open(p, n, SCHEMA_MAGIC, SCHEMA_VERSION, "histogram schema", &r, &used, err));
    size_t features = bin_get_u32(&r);
    if (features == 0 || features > OT_HIST_FEATURES_MAX ||
        features > (r.n - r.at) / FEATURE_BYTES_MIN) {
        return ot_fail(err, OT_INVALID, "histogram schema: %zu features in %zu bytes (1..%d)",
                       features, n, OT_HIST_FEATURES_MAX);
    }
    ot_hist_schema *s = NULL;
    OT_TRY(hist_schema_alloc(features, &s, err));
    for (size_t j = 0; j < features; j++) {
        bool no_memory = false;
        if (!read_feature(s, j, &r, &no_memory)) {
            ot_hist_schema_destroy(s);
            if (no_memory) {
                return ot_fail(err, OT_EXHAUSTED, "histogram schema: no memory for %zu features",
                               features);
            }
            return ot_fail(err, OT_INVALID, "histogram schema: feature %zu of %zu is malformed", j,
                           features);
        }
    }
    ot_rc rc = r.at == r.n
                   ? hist_schema_seal(s, err)
                   : ot_fail(err, OT_INVALID, "histogram schema: %zu bytes too many", r.n - r.at);
    if (rc != OT_OK) {
        ot_hist_schema_destroy(s);
        return rc;
    }
    *schema_out = s;
    if (used_out != NULL) {
        *used_out = used;
    }
    return OT_OK;
}
