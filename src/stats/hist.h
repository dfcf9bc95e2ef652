/* Fixed-edge mergeable histograms of the columns of FP32 rows: what everything observed becomes.
 *
 * A schema fixes, for each feature, how a value becomes a cell: a monotone map to one of OT_HIST_Q
 * quantised indexes and a look-up from index to cell. A cell is DEFINED by the quantised index,
 * never by comparing with an edge, so that every build and machine counts the same (the tree is
 * compiled with -ffp-contract=off). A table counts rows per feature and cell; merging is addition,
 * so exact and free of order.
 *
 * Cells of a numeric feature: 0..K-1 by value, then BELOW and ABOVE its range, MISSING (NaN).
 * Cells of a category: 0..47 the commonest values of the reference, 48..63 the other values of the
 * reference by hash, UNSEEN for values that the reference does not have, MISSING.
 *
 * Threads: a schema is immutable and shared freely; a table belongs to one thread at a time (a
 * worker counts into its own; tables are merged at window close). Pure: no clock, no I/O. */
#ifndef OT_STATS_HIST_H
#define OT_STATS_HIST_H

#include "base/error.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    OT_HIST_Q = 256,        /* quantised indexes of a feature; 0 is below, 255 above the range */
    OT_HIST_INNER_MAX = 64, /* most cells inside the range */
    OT_HIST_OWN_MAX = 48,   /* categories with a cell of their own */
    OT_HIST_HASHED = 16,    /* cells shared by the reference's other categories */
    OT_HIST_BELOW = 64,     /* numeric: below the range */
    OT_HIST_UNSEEN = 64,    /* category: not in the reference */
    OT_HIST_ABOVE = 65,     /* numeric: above the range */
    OT_HIST_MISSING = 66,   /* NaN, or no value given */
    OT_HIST_CELLS = 68,     /* counters a feature takes in a table (the last is padding) */
    OT_HIST_FEATURES_MAX = 16384,
    OT_HIST_NAME_MAX = 127,   /* bytes of a feature's name */
    OT_HIST_KNOWN_MAX = 4096, /* categories remembered; with more of them nothing is "unseen" */
};

typedef enum ot_hist_kind {
    OT_HIST_NONE,    /* not counted (an id, free text) */
    OT_HIST_NUMERIC, /* ordered */
    OT_HIST_CATEGORY /* unordered: a class, a country */
} ot_hist_kind;

typedef enum ot_hist_map {
    OT_HIST_LINEAR,
    /* Heavy tails: sign(u) * log2(1+|u|) with u = (x - centre) / spread, the logarithm piecewise
     * linear between powers of two (the float's own bits), hence exact on every machine. */
    OT_HIST_LOG,
} ot_hist_map;

typedef struct ot_hist_schema ot_hist_schema;

/* How one column of the reference is to be counted. */
typedef struct ot_hist_column {
    const char *name; /* NULL gives "f<index>"; longer than OT_HIST_NAME_MAX is refused */
    ot_hist_kind kind;
    /* Category columns whose values are text: one ot_hist_key_text a row (0 = missing). NULL: the
     * column's floats are the values (class numbers). */
    const uint64_t *keys;
} ot_hist_column;

/* Chooses ranges, maps and cells from reference rows: rows[i * stride + j] is feature j of row i,
 * stride in floats >= n_features. K = clamp(n / 50, 4, 64) equal-frequency cells, fewer where
 * values tie; columns that are discrete, constant or wholly missing are fine. n_rows >= 1.
 * OT_INVALID names what is wrong; OT_EXHAUSTED when memory is short. Destroy with
 * ot_hist_schema_destroy. */
ot_rc ot_hist_schema_build(const ot_hist_column *columns, size_t n_features, const float *rows,
                           size_t n_rows, size_t stride, ot_hist_schema **schema_out,
                           ot_error *err) OT_CHECKED;
void ot_hist_schema_destroy(ot_hist_schema *s); /* NULL is fine */

size_t ot_hist_schema_features(const ot_hist_schema *s);
const char *ot_hist_schema_name(const ot_hist_schema *s, size_t feature);
ot_hist_kind ot_hist_schema_kind(const ot_hist_schema *s, size_t feature);
ot_hist_map ot_hist_schema_map(const ot_hist_schema *s, size_t feature);
/* Inner cells: K of a numeric feature, own cells of a category; 0 of one that is not counted. */
size_t ot_hist_schema_inner(const ot_hist_schema *s, size_t feature);
/* The feature's index by name, or -1. */
ptrdiff_t ot_hist_schema_find(const ot_hist_schema *s, const char *name);
/* A digest of the schema's written form: tables of another schema are refused by it. */
uint64_t ot_hist_schema_id(const ot_hist_schema *s);
/* The cell that x falls into (class numbers for a category). */
unsigned ot_hist_schema_cell(const ot_hist_schema *s, size_t feature, float x);
/* The values that an inner cell of a numeric feature covers, for display: [lo, hi). For an own cell
 * of a category lo = hi = its class number, NaN if it is text. False: no such cell. */
bool ot_hist_schema_cell_range(const ot_hist_schema *s, size_t feature, unsigned cell,
                               double *lo_out, double *hi_out);

/* Keys of categories: SipHash under a fixed key; never 0. */
uint64_t ot_hist_key_text(const char *p, size_t n);
uint64_t ot_hist_key_number(double x); /* 0 for NaN, which means missing */

/* Little-endian, versioned, self-delimiting (length and checksum); appended to out. Check
 * out->failed. */
void ot_hist_schema_write(const ot_hist_schema *s, ot_str *out);
/* Reads what stands at p; *used_out (may be NULL) tells how many bytes it took. Hostile bytes give
 * OT_INVALID or OT_DATA_LOSS, never a broken schema. */
ot_rc ot_hist_schema_read(const void *p, size_t n, ot_hist_schema **schema_out, size_t *used_out,
                          ot_error *err) OT_CHECKED;

/* ---- tables ---- */

typedef struct ot_hist_table {
    uint64_t schema_id;
    uint64_t rows;    /* counted */
    uint64_t dropped; /* not counted: the table already held 2^32 - 1 rows */
    size_t features;
    uint32_t *counts; /* (features, OT_HIST_CELLS), row-major */
} ot_hist_table;

ot_rc ot_hist_table_init(ot_hist_table *t, const ot_hist_schema *s, ot_error *err) OT_CHECKED;
void ot_hist_table_done(ot_hist_table *t);
void ot_hist_table_clear(ot_hist_table *t);
/* into += from. OT_INVALID when the schemas differ; OT_RANGE (into untouched) past 2^32 - 1 rows.
 */
ot_rc ot_hist_table_merge(ot_hist_table *into, const ot_hist_table *from, ot_error *err) OT_CHECKED;
static inline const uint32_t *ot_hist_table_cells(const ot_hist_table *t, size_t feature)
{
    return t->counts + feature * OT_HIST_CELLS;
}

/* Counts n rows (n, n_features) with `stride` floats between rows. Hot: never allocates, never
 * fails. Columns whose categories are text are skipped: count them by ot_hist_add_category. */
void ot_hist_add_rows(const ot_hist_schema *s, ot_hist_table *t, const float *rows, size_t n,
                      size_t stride);
/* One value of a category feature; key 0 counts as missing. Does not count a row. */
void ot_hist_add_category(const ot_hist_schema *s, ot_hist_table *t, size_t feature, uint64_t key);

/* Compact counts: zero runs and varints, about 150 to 280 bytes a feature; appended to out. */
void ot_hist_table_write(const ot_hist_table *t, ot_str *out);
/* Reads into an initialised table of the same schema (replacing its counts); untouched on failure.
 */
ot_rc ot_hist_table_read(ot_hist_table *t, const void *p, size_t n, size_t *used_out,
                         ot_error *err) OT_CHECKED;

/* A reference is a schema with its counts, one after the other: the content of
 * `reference/NAME.hist`. */
void ot_hist_reference_write(const ot_hist_schema *s, const ot_hist_table *t, ot_str *out);
ot_rc ot_hist_reference_read(const void *p, size_t n, ot_hist_schema **schema_out,
                             ot_hist_table *table_out, ot_error *err) OT_CHECKED;

#endif
