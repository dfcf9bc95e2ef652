/* A table: the rows of a dataset in memory, one tensor a column, axis 0 the row.
 *
 * Columns are sorted by name and point into memory that the table keeps alive: heap buffers or
 * mapped files. Tables made from other tables copy their rows.
 * Threads: any; immutable once made. Lifetime: init/done.
 * Errors: OT_INVALID names the column; OT_EXHAUSTED a limit. */
#ifndef OT_REGISTRY_TABLE_H
#define OT_REGISTRY_TABLE_H

#include "base/disk.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/mem.h"
#include "codec/tensor.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OT_TABLE_COLUMNS_MAX 256
#define OT_TABLE_BYTES_MAX (16ull << 30) /* all columns of a table */
#define OT_TABLE_FILES_MAX 1024          /* in a directory of columns */
#define OT_TABLE_WEIGHT "weight" /* 1 / sampling probability; not part of a row's identity */

typedef struct ot_table_owner ot_table_owner;

typedef struct ot_table {
    int64_t rows;
    const char *label;  /* the column that holds the answer; NULL when there is none */
    ot_tensor *columns; /* sorted by name; dims[0] == rows */
    size_t n_columns;
    ot_arena arena;         /* names, labels, the column list */
    ot_table_owner *owners; /* buffers and mappings behind the columns */
} ot_table;

void ot_table_init(ot_table *t);
void ot_table_done(ot_table *t); /* also of a zeroed one; also for OT_AUTO */

/* Adds a column by copying its name and taking over `data` (from ot_alloc; freed with the table,
 * also when this fails), which column->data points into. Numbers and BOOL, rank of at least 1, at
 * least one element a row. The first column sets the rows. Names: ot_column_name_ok. */
ot_rc ot_table_add_owned(ot_table *t, const char *name, const ot_tensor *column, void *data,
                         ot_error *err) OT_CHECKED;
/* Adds a column that is the .npy file at `path`, mapped read-only. */
ot_rc ot_table_add_npy_file(ot_table *t, ot_disk *disk, const char *name, const char *path,
                            ot_error *err) OT_CHECKED;
/* Names the label column, which must be there; NULL takes it away. */
ot_rc ot_table_set_label(ot_table *t, const char *label, ot_error *err) OT_CHECKED;

/* NULL when there is no such column. */
const ot_tensor *ot_table_column(const ot_table *t, const char *name);
/* 1..128 bytes of [A-Za-z0-9_.-], not starting with '.' or '-': a column is a file's name. */
bool ot_column_name_ok(const char *s);

/* Reads `path` into a zeroed or initialised table: a .npz file, a directory with one .npy file a
 * column, or one .npy file (its stem is the column's name). `label` may be NULL. */
ot_rc ot_table_read(ot_disk *disk, const char *path, const char *label, ot_table *t_out,
                    ot_error *err) OT_CHECKED;
/* Writes DIR/COLUMN.npy for each column; DIR is made, files in the way are replaced. */
ot_rc ot_table_write_dir(const ot_table *t, ot_disk *disk, const char *dir,
                         ot_error *err) OT_CHECKED;

/* Identity of a row over its columns but `weight`, in order of name. */
ot_digest ot_table_row_digest(const ot_table *t, int64_t row);
/* A row is held out at a fraction when its place is below it: the same row in every table with the
 * same columns (docs/architecture.md, "Dataset"). Places of rows [at, at + n), each in [0, 1). */
ot_rc ot_table_row_places(const ot_table *t, int64_t at, int64_t n, double *places_out,
                          ot_error *err) OT_CHECKED;

typedef enum ot_split {
    OT_SPLIT_ALL,
    OT_SPLIT_TRAIN,    /* what training may see */
    OT_SPLIT_HELD_OUT, /* what evaluation scores on */
} ot_split;
const char *ot_split_name(ot_split s); /* "all", "train", "held_out" */

/* New tables. `t_out` is zeroed or initialised and not the source; the label is kept. */
ot_rc ot_table_split(const ot_table *t, ot_split which, double fraction, ot_table *t_out,
                     ot_error *err) OT_CHECKED;
/* Rows by index, in the order given; an index may repeat. */
ot_rc ot_table_take(const ot_table *t, const int64_t *rows, int64_t n, ot_table *t_out,
                    ot_error *err) OT_CHECKED;
/* All rows one table after the other. Tables must agree in columns, types and row shapes, but for
 * `weight`, which a table without it has as 1. The label is the first table's. */
ot_rc ot_table_concat(const ot_table *const *tables, size_t n, ot_table *t_out,
                      ot_error *err) OT_CHECKED;

/* A view of rows [at, at + n) of a column; empty when out of range. */
ot_tensor ot_table_slice(const ot_tensor *column, int64_t at, int64_t n);
/* Bytes a row of this column takes. */
size_t ot_table_row_bytes(const ot_tensor *column);

#endif
