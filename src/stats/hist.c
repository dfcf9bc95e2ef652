/* Tables: counting, merging, the compact form. See hist.h. */
#include "stats/hist.h"

#include "base/mem.h"
#include "stats/bin.h"
#include "stats/hist_internal.h"
#include "stats/vec.h"

enum { TABLE_MAGIC = 0x5448544f /* "OTHT" */, TABLE_VERSION = 1, COUNTED = OT_HIST_MISSING + 1 };

ot_rc ot_hist_table_init(ot_hist_table *t, const ot_hist_schema *s, ot_error *err)
{
    /* Padded like the schema, so that the kernel's last chunk stays inside. */
    uint32_t *counts = ot_calloc(s->n_padded * OT_HIST_CELLS, sizeof *counts);
    if (counts == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "histogram table: no memory for %zu features", s->n);
    }
    *t = (ot_hist_table){.schema_id = s->id, .features = s->n, .counts = counts};
    return OT_OK;
}

void ot_hist_table_done(ot_hist_table *t)
{
    ot_free(t->counts);
    *t = (ot_hist_table){0};
}

void ot_hist_table_clear(ot_hist_table *t)
{
    t->rows = t->dropped = 0;
    memset(t->counts, 0, t->features * OT_HIST_CELLS * sizeof *t->counts);
}

ot_rc ot_hist_table_merge(ot_hist_table *into, const ot_hist_table *from, ot_error *err)
{
    if (into->schema_id != from->schema_id || into->features != from->features) {
        return ot_fail(err, OT_INVALID,
                       "histogram tables of different schemas (%016llx, %016llx) cannot be merged",
                       (unsigned long long)into->schema_id, (unsigned long long)from->schema_id);
    }
    if (into->rows + from->rows > UINT32_MAX) {
        return ot_fail(err, OT_RANGE,
                       "a histogram table holds at most 4294967295 rows; merging %llu and %llu "
                       "would pass that: merge fewer windows",
                       (unsigned long long)into->rows, (unsigned long long)from->rows);
    }
    size_t n = into->features * OT_HIST_CELLS;
    for (size_t i = 0; i < n; i++) {
        into->counts[i] += from->counts[i];
    }
    into->rows += from->rows;
    into->dropped += from->dropped;
    return OT_OK;
}

/* quantise() of hist_internal.h, four lanes at a time. */
static inline void quantise_vec(vec_f m, vec_f lo, vec_f scale, int32_t *q)
{
    vec_f t = (m - lo) * scale;
    t = vec_max(vec_all(0), t);
    t = vec_min(vec_all(255.5f), t);
    t = vec_min(t, vec_all(256));
    vec_i i = __builtin_convertvector(t, vec_i);
    memcpy(q, &i, sizeof i);
}

/* log_map() of hist_internal.h, four lanes at a time. */
static inline vec_f log_map_vec(vec_f x, vec_f centre, vec_f inverse)
{
    const vec_i sign = {INT32_MIN, INT32_MIN, INT32_MIN, INT32_MIN};
    vec_f u = (x - centre) * inverse;
    vec_f v = (vec_f)((vec_i)u & ~sign) + vec_all(1);
    vec_f m = __builtin_convertvector((vec_i)v - 0x3f800000, vec_f);
    m = (vec_f)((vec_i)m | ((vec_i)u & sign));
    return vec_select(u == u, m, u);
}

static inline void quantise_chunk(const ot_hist_schema *s, size_t j, const float *x, int32_t *q)
{
    for (size_t k = 0; k < CHUNK; k += VEC) {
        quantise_vec(vec_load(x + k), vec_load(s->lo + j + k), vec_load(s->scale + j + k), q + k);
    }
}

static inline void quantise_chunk_log(const ot_hist_schema *s, size_t j, const float *x, int32_t *q)
{
    for (size_t k = 0; k < CHUNK; k += VEC) {
        vec_f value = vec_load(x + k);
        vec_f mapped =
            log_map_vec(value, vec_load(s->centre + j + k), vec_load(s->inverse_spread + j + k));
        vec_i mask;
        memcpy(&mask, s->log_mask + j + k, sizeof mask);
        quantise_vec(vec_select(mask, mapped, value), vec_load(s->lo + j + k),
                     vec_load(s->scale + j + k), q + k);
    }
}

static inline void count_chunk(const uint8_t *lut, uint32_t *counts, const int32_t *q)
{
#pragma GCC unroll 16
    for (size_t k = 0; k < CHUNK; k++) {
        counts[k * OT_HIST_CELLS + lut[k * LUT_STRIDE + (size_t)q[k]]]++;
    }
}

/* One chunk of features over a block of rows: its look-ups and counters stay in the L1 cache. */
static void count_block(const ot_hist_schema *s, ot_hist_table *t, size_t j, const float *rows,
                        size_t n, size_t stride)
{
    const uint8_t *lut = s->lut + j * LUT_STRIDE;
    uint32_t *counts = t->counts + j * OT_HIST_CELLS;
    size_t width = s->n - j < CHUNK ? s->n - j : CHUNK;
    _Alignas(64) int32_t q[CHUNK];
    _Alignas(64) float tail[CHUNK] = {0};
    for (size_t i = 0; i < n; i++) {
        const float *x = rows + i * stride + j;
        if (width < CHUNK) {
            memcpy(tail, x, width * sizeof *x);
            x = tail;
        }
        if (s->any_log) {
            quantise_chunk_log(s, j, x, q);
        } else {
            quantise_chunk(s, j, x, q);
        }
        count_chunk(lut, counts, q);
    }
}

static void count_classes(const ot_hist_schema *s, ot_hist_table *t, const float *rows, size_t n,
                          size_t stride)
{
    for (size_t j = 0; j < s->n; j++) {
        const hist_feature *f = &s->f[j];
        if (f->kind != OT_HIST_CATEGORY || f->text) {
            continue;
        }
        uint32_t *counts = t->counts + j * OT_HIST_CELLS;
        for (size_t i = 0; i < n; i++) {
            counts[ot_hist_schema_cell(s, j, rows[i * stride + j])]++;
        }
    }
}

void ot_hist_add_rows(const ot_hist_schema *s, ot_hist_table *t, const float *rows, size_t n,
                      size_t stride)
{
    enum { BLOCK = 32 };            /* rows whose chunk stays in the L1 cache with it */
    if (n > UINT32_MAX - t->rows) { /* every cell is at most `rows`, so no counter can wrap */
        t->dropped += n;
        return;
    }
    t->rows += n;
    for (size_t i = 0; i < n; i += BLOCK) {
        size_t m = n - i < BLOCK ? n - i : BLOCK;
        for (size_t j = 0; j < s->n; j += CHUNK) {
            count_block(s, t, j, rows + i * stride, m, stride);
        }
    }
    if (s->any_class) {
        count_classes(s, t, rows, n, stride);
    }
}

void ot_hist_add_category(const ot_hist_schema *s, ot_hist_table *t, size_t feature, uint64_t key)
{
    uint32_t *c = t->counts + feature * OT_HIST_CELLS + hist_category_cell(&s->f[feature], key);
    if (*c < UINT32_MAX) {
        (*c)++;
    }
}

void ot_hist_table_write(const ot_hist_table *t, ot_str *out)
{
    size_t body = bin_record_begin(out, TABLE_MAGIC, TABLE_VERSION);
    bin_put_u64(out, t->schema_id);
    bin_put_varint(out, t->rows);
    bin_put_varint(out, t->dropped);
    bin_put_varint(out, t->features);
    for (size_t j = 0; j < t->features; j++) {
        const uint32_t *c = ot_hist_table_cells(t, j);
        for (size_t k = 0; k < COUNTED;) {
            size_t run = 0;
            while (k + run < COUNTED && c[k + run] == 0) {
                run++;
            }
            if (run > 0) {
                bin_put_u8(out, 0);
                bin_put_u8(out, (unsigned)run);
                k += run;
            } else {
                bin_put_varint(out, c[k++]);
            }
        }
    }
    bin_record_end(out, body);
}

/* One feature's counts; false on bytes that no writer makes. */
static bool read_cells(bin_reader *r, uint32_t *c)
{
    for (size_t k = 0; k < COUNTED && !r->failed;) {
        uint64_t x = bin_get_varint(r);
        if (x > UINT32_MAX) {
            return false;
        }
        if (x == 0) {
            size_t run = bin_get_u8(r);
            if (run == 0 || run > COUNTED - k) {
                return false;
            }
            k += run;
        } else {
            c[k++] = (uint32_t)x;
        }
    }
    return !r->failed;
}

ot_rc ot_hist_table_read(ot_hist_table *t, const void *p, size_t n, size_t *used_out, ot_error *err)
{
    bin_reader r = {0};
    size_t used = 0;
    OT_TRY(bin_record_open(p, n, TABLE_MAGIC, TABLE_VERSION, "histogram counts", &r, &used, err));
    uint64_t id = bin_get_u64(&r), rows = bin_get_varint(&r), dropped = bin_get_varint(&r);
    uint64_t features = bin_get_varint(&r);
    if (!r.failed && (id != t->schema_id || features != t->features)) {
        return ot_fail(err, OT_INVALID,
                       "histogram counts of schema %016llx with %llu features; this table is of "
                       "%016llx with %zu: they come from another version of the model",
                       (unsigned long long)id, (unsigned long long)features,
                       (unsigned long long)t->schema_id, t->features);
    }
    size_t padded = (t->features + CHUNK - 1) / CHUNK * CHUNK;
    uint32_t *counts = ot_calloc(padded * OT_HIST_CELLS, sizeof *counts);
    if (counts == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "histogram counts: no memory for %zu features",
                       t->features);
    }
    bool good = !r.failed && rows <= UINT32_MAX;
    for (size_t j = 0; good && j < t->features; j++) {
        good = read_cells(&r, counts + j * OT_HIST_CELLS);
    }
    if (!good || r.at != r.n) {
        ot_free(counts);
        return ot_fail(err, OT_INVALID, "histogram counts: malformed at byte %zu", r.at);
    }
    ot_free(t->counts);
    t->counts = counts;
    t->rows = rows;
    t->dropped = dropped;
    if (used_out != NULL) {
        *used_out = used;
    }
    return OT_OK;
}

void ot_hist_reference_write(const ot_hist_schema *s, const ot_hist_table *t, ot_str *out)
{
    ot_hist_schema_write(s, out);
    ot_hist_table_write(t, out);
}

ot_rc ot_hist_reference_read(const void *p, size_t n, ot_hist_schema **schema_out,
                             ot_hist_table *table_out, ot_error *err)
{
    ot_hist_schema *s = NULL;
    ot_hist_table t = {0};
    size_t used = 0, used_table = 0;
    OT_TRY(ot_hist_schema_read(p, n, &s, &used, err));
    ot_rc rc = ot_hist_table_init(&t, s, err);
    if (rc == OT_OK) {
        rc = ot_hist_table_read(&t, (const uint8_t *)p + used, n - used, &used_table, err);
    }
    if (rc == OT_OK && used + used_table != n) {
        rc = ot_fail(err, OT_INVALID, "reference: %zu bytes after its end", n - used - used_table);
    }
    if (rc != OT_OK) {
        ot_hist_table_done(&t);
        ot_hist_schema_destroy(s);
        return rc;
    }
    *schema_out = s;
    *table_out = t;
    return OT_OK;
}
