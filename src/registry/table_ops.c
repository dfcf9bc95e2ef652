/* Tables made from other tables: subsets, splits, concatenation. */
#include "registry/table.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#define PLACES_AT_ONCE 4096

const char *ot_split_name(ot_split s)
{
    static const char *const names[] = {"all", "train", "held_out"};
    return (size_t)s < OT_COUNT(names) ? names[s] : "invalid";
}

/* Adds a column with the type and the row shape of `like`, and gives its memory to fill. */
static ot_rc add_blank(ot_table *t, const ot_tensor *like, int64_t rows, char **data_out,
                       ot_error *err)
{
    ot_tensor c = *like;
    size_t each = ot_table_row_bytes(like);
    c.dims[0] = rows;
    if (__builtin_mul_overflow(each, (size_t)rows, &c.size_bytes) ||
        c.size_bytes > OT_TABLE_BYTES_MAX) {
        return ot_fail(err, OT_EXHAUSTED,
                       "column '%s': %" PRId64 " rows of %zu bytes; the limit is %llu bytes",
                       like->name, rows, each, OT_TABLE_BYTES_MAX);
    }
    char *p = ot_alloc(c.size_bytes);
    if (p == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "column '%s': no memory for %zu bytes", like->name,
                       c.size_bytes);
    }
    c.data = p;
    OT_TRY(ot_table_add_owned(t, like->name, &c, p, err));
    *data_out = p;
    return OT_OK;
}

static ot_rc finish(ot_rc rc, ot_table *made, const char *label, ot_table *t_out, ot_error *err)
{
    if (rc == OT_OK) {
        rc = ot_table_set_label(made, label, err);
    }
    if (rc != OT_OK) {
        ot_table_done(made);
        return rc;
    }
    ot_table_done(t_out);
    *t_out = *made;
    return OT_OK;
}

static ot_rc take_rows(const ot_table *t, const int64_t *rows, int64_t n, ot_table *made,
                       ot_error *err)
{
    for (int64_t i = 0; i < n; i++) {
        if (rows[i] < 0 || rows[i] >= t->rows) {
            return ot_fail(err, OT_RANGE, "row %" PRId64 "; the table has %" PRId64, rows[i],
                           t->rows);
        }
    }
    for (size_t k = 0; k < t->n_columns; k++) {
        const ot_tensor *c = &t->columns[k];
        size_t each = ot_table_row_bytes(c);
        char *to;
        OT_TRY(add_blank(made, c, n, &to, err));
        for (int64_t i = 0; i < n; i++) {
            memcpy(to + (size_t)i * each, (const char *)c->data + (size_t)rows[i] * each, each);
        }
    }
    return OT_OK;
}

ot_rc ot_table_take(const ot_table *t, const int64_t *rows, int64_t n, ot_table *t_out,
                    ot_error *err)
{
    if (n < 0) {
        return ot_fail(err, OT_RANGE, "%" PRId64 " rows", n);
    }
    ot_table made;
    ot_table_init(&made);
    ot_rc rc = take_rows(t, rows, n, &made, err);
    return finish(rc, &made, t->label, t_out, err);
}

static ot_rc choose_rows(const ot_table *t, ot_split which, double fraction, int64_t *rows,
                         int64_t *n_out, ot_error *err)
{
    double places[PLACES_AT_ONCE];
    int64_t n = 0;
    for (int64_t at = 0; at < t->rows; at += PLACES_AT_ONCE) {
        int64_t some = OT_MIN(t->rows - at, (int64_t)PLACES_AT_ONCE);
        OT_TRY(ot_table_row_places(t, at, some, places, err));
        for (int64_t i = 0; i < some; i++) {
            bool held_out = places[i] < fraction;
            if (which == OT_SPLIT_ALL || held_out == (which == OT_SPLIT_HELD_OUT)) {
                rows[n++] = at + i;
            }
        }
    }
    *n_out = n;
    return OT_OK;
}

ot_rc ot_table_split(const ot_table *t, ot_split which, double fraction, ot_table *t_out,
                     ot_error *err)
{
    if (!(fraction >= 0 && fraction <= 1)) {
        return ot_fail(err, OT_INVALID, "held-out fraction %g; 0 to 1 is accepted", fraction);
    }
    OT_AUTO(ot_free_ptr) int64_t *rows = ot_calloc((size_t)t->rows, sizeof *rows);
    if (rows == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory to split %" PRId64 " rows", t->rows);
    }
    int64_t n;
    OT_TRY(choose_rows(t, which, fraction, rows, &n, err));
    return ot_table_take(t, rows, n, t_out, err);
}

static bool same_rows(const ot_tensor *a, const ot_tensor *b)
{
    if (a->dtype != b->dtype || a->rank != b->rank) {
        return false;
    }
    for (int k = 1; k < a->rank; k++) {
        if (a->dims[k] != b->dims[k]) {
            return false;
        }
    }
    return true;
}

static bool is_weight(const ot_tensor *c)
{
    return strcmp(c->name, OT_TABLE_WEIGHT) == 0;
}

/* `like` has what the first table that has a column has of it; each other table must agree. */
static ot_rc check_agrees(const ot_table *t, size_t index, const ot_tensor *like, ot_error *err)
{
    const ot_tensor *c = ot_table_column(t, like->name);
    if (c == NULL) {
        return is_weight(like) ? OT_OK
                               : ot_fail(err, OT_INVALID,
                                         "column '%s' is missing in table %zu; tables to join have "
                                         "the same columns",
                                         like->name, index + 1);
    }
    if (!same_rows(c, like)) {
        char a[OT_SHAPE_TEXT], b[OT_SHAPE_TEXT];
        return ot_fail(err, OT_INVALID,
                       "column '%s' is %s with rows %s, in table %zu %s with rows %s", like->name,
                       ot_dtype_name(like->dtype),
                       ot_shape_format(like->dims + 1, like->rank - 1, a), index + 1,
                       ot_dtype_name(c->dtype), ot_shape_format(c->dims + 1, c->rank - 1, b));
    }
    if (is_weight(like) && !(like->rank == 1 && ot_dtype_is_float(like->dtype))) {
        return ot_fail(err, OT_INVALID,
                       "column 'weight' is %s of rank %d; one float a row is "
                       "expected",
                       ot_dtype_name(like->dtype), like->rank);
    }
    return OT_OK;
}

static void fill_ones(char *to, ot_dtype dt, int64_t n)
{
    const double d = 1;
    const float f = 1;
    const uint16_t h = ot_fp16_from_f32(1);
    for (int64_t i = 0; i < n; i++) {
        const void *one = dt == OT_DT_FP64   ? (const void *)&d
                          : dt == OT_DT_FP32 ? (const void *)&f
                                             : &h;
        memcpy(to + (size_t)i * ot_dtype_size(dt), one, ot_dtype_size(dt));
    }
}

static ot_rc join_column(const ot_table *const *tables, size_t n, const ot_tensor *like,
                         int64_t rows, ot_table *made, ot_error *err)
{
    char *to;
    for (size_t i = 0; i < n; i++) {
        OT_TRY(check_agrees(tables[i], i, like, err));
    }
    OT_TRY(add_blank(made, like, rows, &to, err));
    for (size_t i = 0; i < n; i++) {
        const ot_tensor *c = ot_table_column(tables[i], like->name);
        size_t bytes = ot_table_row_bytes(like) * (size_t)tables[i]->rows;
        if (c == NULL) {
            fill_ones(to, like->dtype, tables[i]->rows);
        } else if (bytes > 0) {
            memcpy(to, c->data, bytes);
        }
        to += bytes;
    }
    return OT_OK;
}

static ot_rc join_tables(const ot_table *const *tables, size_t n, ot_table *made, ot_error *err)
{
    int64_t rows = 0;
    for (size_t i = 0; i < n; i++) {
        if (__builtin_add_overflow(rows, tables[i]->rows, &rows)) {
            return ot_fail(err, OT_EXHAUSTED, "too many rows");
        }
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < tables[i]->n_columns; k++) {
            const ot_tensor *like = &tables[i]->columns[k];
            if (ot_table_column(made, like->name) == NULL) {
                OT_TRY(join_column(tables, n, like, rows, made, err));
            }
        }
    }
    return OT_OK;
}

ot_rc ot_table_concat(const ot_table *const *tables, size_t n, ot_table *t_out, ot_error *err)
{
    if (n == 0) {
        return ot_fail(err, OT_INVALID, "no tables to join");
    }
    ot_table made;
    ot_table_init(&made);
    ot_rc rc = join_tables(tables, n, &made, err);
    return finish(rc, &made, tables[0]->label, t_out, err);
}
