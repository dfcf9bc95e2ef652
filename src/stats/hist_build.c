/* Choosing a schema from reference rows. See hist.h. */
#include "stats/hist_internal.h"

#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- sorting floats: radix over order-preserving bits, two scratch arrays ---- */

static uint32_t order_bits(float x)
{
    uint32_t u = float_bits(x);
    return u ^ ((u >> 31) != 0 ? UINT32_MAX : 0x80000000u);
}

/* Sorts n values of `a`; `b` is scratch. Three passes of 11 bits: the result ends in `b`. */
static const float *sort_floats(float *a, float *b, size_t n)
{
    enum { BITS = 11, SIZE = 1 << BITS };
    for (unsigned shift = 0; shift < 33; shift += BITS) {
        size_t at[SIZE + 1] = {0};
        for (size_t i = 0; i < n; i++) {
            at[(order_bits(a[i]) >> shift & (SIZE - 1)) + 1]++;
        }
        for (size_t d = 0; d < SIZE; d++) {
            at[d + 1] += at[d];
        }
        for (size_t i = 0; i < n; i++) {
            b[at[order_bits(a[i]) >> shift & (SIZE - 1)]++] = a[i];
        }
        float *t = a;
        a = b;
        b = t;
    }
    return a;
}

/* ---- numeric columns ---- */

typedef struct sorted_column {
    const float *x; /* finite values, ascending */
    size_t n;
    size_t inner_max;
} sorted_column;

typedef struct axis_choice {
    hist_axis axis;
    uint8_t first_q[OT_HIST_INNER_MAX];
    uint8_t inner;
    double entropy; /* nats of the cells' shares: how much the cells tell apart */
} axis_choice;

static float quantile_of(const sorted_column *c, double q)
{
    return c->x[(size_t)(q * (double)(c->n - 1) + 0.5)];
}

static double mapped(const hist_axis *a, float x)
{
    return a->map == OT_HIST_LOG ? (double)log_map(x, a->centre, a->inverse_spread) : (double)x;
}

/* Sets lo and scale so that [lo, hi] takes the indexes 1..254. Rounding can push an end out when
 * the range is narrow for floats of that size: then it is widened until both are in. */
static void fit_axis(hist_axis *a, float lo, float hi)
{
    double from = mapped(a, lo), to = mapped(a, hi), middle = (from + to) / 2;
    double width = to - from;
    double least = fmax(fabs(middle) * 1e-3, 1e-6);
    if (!(width > 0)) {
        width = least; /* constant: a value off by a thousandth counts as outside */
    }
    width = fmax(width, 1e-30);
    for (int i = 0; i < 64; i++, width *= 1.5) {
        double scale = 253.5 / width;
        a->scale = (float)scale;
        a->lo = (float)(middle - width / 2 - 1.25 / scale);
        unsigned q_lo = axis_index(a, lo), q_hi = axis_index(a, hi);
        if (isfinite(a->lo) && isfinite(a->scale) && q_lo >= 1 && q_hi <= OT_HIST_Q - 2 &&
            q_hi >= 1 && q_lo <= OT_HIST_Q - 2) {
            return;
        }
    }
    /* Beyond the floats (a range near 2^128): everything in one direction counts as outside. */
    a->lo = 0;
    a->scale = 1e-36f;
}

/* Cuts indexes into at most inner_max cells of about equal counts; an index is never split. */
static uint8_t cut_cells(const size_t h[OT_HIST_Q + 1], size_t inner_max,
                         uint8_t first_q[OT_HIST_INNER_MAX])
{
    size_t left = 0, acc = 0, cells = 1;
    for (size_t q = 1; q < OT_HIST_Q - 1; q++) {
        left += h[q];
    }
    unsigned last = 0; /* the last occupied index of the open cell */
    first_q[0] = 1;
    for (unsigned q = 1; q < OT_HIST_Q - 1; q++) {
        if (h[q] == 0) {
            continue;
        }
        double target = (double)left / (double)(inner_max - cells + 1);
        if (acc > 0 && cells < inner_max && (double)acc + (double)h[q] / 2 >= target) {
            first_q[cells++] = (uint8_t)((last + q + 1) / 2); /* in the middle of the gap */
            left -= acc;
            acc = 0;
        }
        acc += h[q];
        last = q;
    }
    return (uint8_t)cells;
}

static void evaluate(axis_choice *ch, const sorted_column *c)
{
    size_t h[OT_HIST_Q + 1] = {0};
    for (size_t i = 0; i < c->n; i++) {
        h[axis_index(&ch->axis, c->x[i])]++;
    }
    ch->inner = cut_cells(h, c->inner_max, ch->first_q);
    size_t counts[OT_HIST_INNER_MAX + 2] = {0};
    for (unsigned q = 1, cell = 0; q < OT_HIST_Q - 1; q++) {
        while (cell + 1 < ch->inner && q >= ch->first_q[cell + 1]) {
            cell++;
        }
        counts[cell] += h[q];
    }
    counts[OT_HIST_INNER_MAX] = h[0];
    counts[OT_HIST_INNER_MAX + 1] = h[OT_HIST_Q - 1];
    ch->entropy = 0;
    for (size_t k = 0; k < OT_COUNT(counts); k++) {
        double p = (double)counts[k] / (double)c->n;
        ch->entropy -= p > 0 ? p * log(p) : 0;
    }
}

/* The range without its most extreme half percents, a quarter wider; inside [min, max]. */
static axis_choice choose_robust(const sorted_column *c)
{
    axis_choice ch = {.axis = {.map = OT_HIST_LINEAR}};
    double lo = (double)quantile_of(c, 0.005), hi = (double)quantile_of(c, 0.995);
    double more = (hi - lo) / 4;
    fit_axis(&ch.axis, (float)fmax(lo - more, (double)c->x[0]),
             (float)fmin(hi + more, (double)c->x[c->n - 1]));
    evaluate(&ch, c);
    return ch;
}

/* Where the tails start and how wide the part between them is differs: tails on both sides want the
 * centre in the middle, one tail wants it at the other end. A few are tried. */
static axis_choice choose_log(const sorted_column *c)
{
    const float centres[] = {quantile_of(c, 0.5), c->x[0], c->x[c->n - 1]};
    static const double shares[] = {1, 1.0 / 16, 1.0 / 256};
    double spread = (double)quantile_of(c, 0.75) - (double)quantile_of(c, 0.25);
    if (!(spread > 0)) {
        spread = ((double)c->x[c->n - 1] - (double)c->x[0]) * 1e-3;
    }
    axis_choice best = {.entropy = -1};
    for (size_t i = 0; i < OT_COUNT(centres) * OT_COUNT(shares); i++) {
        axis_choice ch = {.axis = {.map = OT_HIST_LOG, .centre = centres[i / OT_COUNT(shares)]}};
        double unit = spread * shares[i % OT_COUNT(shares)];
        ch.axis.inverse_spread = (float)fmin(1 / fmax(unit, 1e-30), 1e30);
        fit_axis(&ch.axis, c->x[0], c->x[c->n - 1]);
        evaluate(&ch, c);
        if (ch.entropy > best.entropy) {
            best = ch;
        }
    }
    return best;
}

ot_rc hist_build_numeric(ot_hist_schema *s, size_t j, const hist_column_source *src, float *scratch,
                         ot_error *err)
{
    (void)err;
    size_t n = 0;
    for (size_t i = 0; i < src->n; i++) {
        float x = src->x[i * src->stride];
        if (isfinite(x)) {
            scratch[n++] = x;
        }
    }
    float none[1] = {0}; /* wholly missing: any range will do */
    sorted_column c = {none, 1, 1};
    if (n > 0) {
        c.x = sort_floats(scratch, scratch + src->n, n);
        c.n = n;
        c.inner_max = n / 50 < 4 ? 4 : n / 50 > OT_HIST_INNER_MAX ? OT_HIST_INNER_MAX : n / 50;
    }
    axis_choice best = {.axis = {.map = OT_HIST_LINEAR}};
    fit_axis(&best.axis, c.x[0], c.x[c.n - 1]);
    evaluate(&best, &c);
    if (c.x[0] < c.x[c.n - 1]) {
        /* The plainer map stays unless another tells clearly more apart. */
        axis_choice robust = choose_robust(&c), tails = choose_log(&c);
        if (robust.entropy > best.entropy + 0.05) {
            best = robust;
        }
        if (tails.entropy > best.entropy + 0.1) {
            best = tails;
        }
    }
    hist_schema_set_axis(s, j, &best.axis);
    s->f[j].inner = best.inner;
    memcpy(s->f[j].first_q, best.first_q, sizeof best.first_q);
    return OT_OK;
}

/* ---- categories ---- */

typedef struct seen_value {
    uint64_t key;
    double value;
    size_t count;
} seen_value;

static int by_key(const void *a, const void *b)
{
    uint64_t x = ((const seen_value *)a)->key, y = ((const seen_value *)b)->key;
    return (x > y) - (x < y);
}
static int by_count(const void *a, const void *b)
{
    const seen_value *x = a, *y = b;
    if (x->count != y->count) {
        return x->count > y->count ? -1 : 1;
    }
    return by_key(a, b);
}

/* Lists the distinct values with their counts, commonest first; returns how many. */
static size_t list_values(const hist_column_source *src, seen_value *v)
{
    size_t n = 0, m = 0;
    for (size_t i = 0; i < src->n; i++) {
        double x = src->keys != NULL ? (double)NAN : (double)src->x[i * src->stride];
        uint64_t key = src->keys != NULL ? src->keys[i] : ot_hist_key_number(x);
        if (key != 0) {
            v[n++] = (seen_value){key, x, 1};
        }
    }
    if (n == 0) {
        return 0;
    }
    qsort(v, n, sizeof *v, by_key);
    for (size_t i = 1; i < n; i++) {
        if (v[i].key == v[m].key) {
            v[m].count++;
        } else {
            v[++m] = v[i];
        }
    }
    qsort(v, m + 1, sizeof *v, by_count);
    return m + 1;
}

static int known_by_key(const void *a, const void *b)
{
    uint64_t x = ((const hist_known *)a)->key, y = ((const hist_known *)b)->key;
    return (x > y) - (x < y);
}

ot_rc hist_build_category(ot_hist_schema *s, size_t j, const hist_column_source *src, ot_error *err)
{
    hist_feature *f = &s->f[j];
    seen_value *v = ot_calloc(src->n, sizeof *v);
    if (v == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "histogram schema: no memory for %zu categories", src->n);
    }
    size_t n = list_values(src, v);
    f->text = src->keys != NULL;
    f->open = n > OT_HIST_KNOWN_MAX;
    f->n_known = f->open ? OT_HIST_KNOWN_MAX : n;
    f->inner = (uint8_t)(f->n_known < OT_HIST_OWN_MAX ? f->n_known : OT_HIST_OWN_MAX);
    f->known = ot_calloc(f->n_known > 0 ? f->n_known : 1, sizeof *f->known);
    if (f->known == NULL) {
        ot_free(v);
        return ot_fail(err, OT_EXHAUSTED, "histogram schema: no memory for %zu categories", n);
    }
    for (size_t i = 0; i < f->n_known; i++) {
        f->known[i].key = v[i].key;
        f->known[i].cell =
            (uint8_t)(i < f->inner ? i : OT_HIST_OWN_MAX + v[i].key % OT_HIST_HASHED);
        if (i < f->inner) {
            f->own_value[i] = v[i].value;
        }
    }
    if (f->n_known > 0) {
        qsort(f->known, f->n_known, sizeof *f->known, known_by_key);
    }
    ot_free(v);
    return OT_OK;
}

/* ---- the whole ---- */

static ot_rc set_name(hist_feature *f, size_t j, const char *name, ot_error *err)
{
    if (name == NULL) {
        snprintf(f->name, sizeof f->name, "f%zu", j);
        return OT_OK;
    }
    size_t n = strlen(name);
    if (n == 0 || n > OT_HIST_NAME_MAX) {
        return ot_fail(err, OT_INVALID, "feature %zu: its name has %zu bytes; 1 to %d are allowed",
                       j, n, OT_HIST_NAME_MAX);
    }
    memcpy(f->name, name, n + 1);
    return OT_OK;
}

static ot_rc build_feature(ot_hist_schema *s, size_t j, const ot_hist_column *col,
                           const hist_column_source *src, float *scratch, ot_error *err)
{
    s->f[j].kind = (uint8_t)col->kind;
    OT_TRY(set_name(&s->f[j], j, col->name, err));
    switch (col->kind) {
    case OT_HIST_NONE:
        return OT_OK;
    case OT_HIST_NUMERIC:
        return hist_build_numeric(s, j, src, scratch, err);
    case OT_HIST_CATEGORY:
        return hist_build_category(s, j, src, err);
    default:
        return ot_fail(err, OT_INVALID, "feature %zu: kind %d is not known", j, (int)col->kind);
    }
}

ot_rc ot_hist_schema_build(const ot_hist_column *columns, size_t n_features, const float *rows,
                           size_t n_rows, size_t stride, ot_hist_schema **schema_out, ot_error *err)
{
    if (n_features == 0 || n_features > OT_HIST_FEATURES_MAX) {
        return ot_fail(err, OT_INVALID,
                       "reference: %zu features; 1 to %d can be counted (summarise images first)",
                       n_features, OT_HIST_FEATURES_MAX);
    }
    if (n_rows == 0 || n_rows > UINT32_MAX || stride < n_features) {
        return ot_fail(err, OT_INVALID,
                       "reference: %zu rows of %zu features at a stride of %zu; it takes 1 to "
                       "4294967295 rows and a stride of at least the features",
                       n_rows, n_features, stride);
    }
    ot_hist_schema *s = NULL;
    OT_TRY(hist_schema_alloc(n_features, &s, err));
    ot_rc rc = OT_OK;
    float *scratch = n_rows <= SIZE_MAX / 2 ? ot_calloc(2 * n_rows, sizeof *scratch) : NULL;
    if (scratch == NULL) {
        rc = ot_fail(err, OT_EXHAUSTED, "reference: no memory to sort %zu rows", n_rows);
    }
    for (size_t j = 0; rc == OT_OK && j < n_features; j++) {
        hist_column_source src = {rows + j, n_rows, stride, columns[j].keys};
        rc = build_feature(s, j, &columns[j], &src, scratch, err);
    }
    if (rc == OT_OK) {
        rc = hist_schema_seal(s, err);
    }
    ot_free(scratch);
    if (rc != OT_OK) {
        ot_hist_schema_destroy(s);
        return rc;
    }
    *schema_out = s;
    return OT_OK;
}
