/* A dataset as files: named columns of equally many rows, each column in pieces (the shards).
 *
 * A file that has shrunk since it was opened is an error of the next gather that touches it.
 * Records and runs of rows of 64 KiB and more are read, smaller ones copied from a mapping, unless
 * the caller says that files may change. Mapped, a file that is cut short between that check and
 * the copy still ends the process (SIGBUS); read, nothing does. Threads: open and close from one;
 * an open source is read by any number of them. Lifetime: create/destroy. Errors name the file, and
 * the row and the byte where there are.
 */
#ifndef OT_INPUT_SOURCE_H
#define OT_INPUT_SOURCE_H

#include "base/disk.h"
#include "base/error.h"
#include "codec/tensor.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OT_INPUT_COLUMNS_MAX 256
#define OT_INPUT_NAME_MAX 128
#define OT_INPUT_FILES_MAX 16384
#define OT_INPUT_UNPACKED_MAX (8ull << 30)  /* deflated members of .npz, all together */
#define OT_INPUT_ROW_BYTES_MAX (1ull << 30) /* of one column */
#define OT_INPUT_RECORD_BYTES_MAX (1ull << 28)
#define OT_INPUT_READ_BYTES                                                                        \
    (64u << 10) /* from so many on they are read, not copied from a mapping */
#define OT_INPUT_VALUES_MAX (4ull << 30) /* of a ragged column, in a batch */

typedef struct ot_input_file {
    char *path;
    ot_file *f;         /* NULL: unpacked into memory */
    const uint8_t *map; /* NULL: read, not mapped, once the source is open */
    uint64_t size;
} ot_input_file;

/* Rows of a column that lie together. */
typedef struct ot_input_piece {
    size_t file;
    uint64_t at;          /* of its first byte in the file */
    uint64_t first, rows; /* in the dataset */
    size_t swap_bytes;    /* as in ot_npy_head */
    bool fortran;
} ot_input_piece;

/* What a column's values come from when it is a feature of tensorflow.Example. */
typedef enum ot_input_feature {
    OT_FEATURE_NONE, /* of no record */
    OT_FEATURE_BYTES,
    OT_FEATURE_FLOAT,
    OT_FEATURE_INT64,
} ot_input_feature;

/* Where a column's rows begin in a batch that are of any length: row i is the elements
 * [splits[i], splits[i + 1]). */
typedef struct ot_input_ragged {
    const uint8_t *values;
    int64_t *splits;
} ot_input_ragged;

typedef struct ot_input_column {
    char name[OT_INPUT_NAME_MAX + 1];
    char descr[32]; /* NumPy's, of what is handed out: little-endian */
    int rank;       /* of a row */
    int64_t dims[OT_RANK_MAX];
    size_t element_bytes, row_bytes;
    ot_input_feature feature;
    bool ragged; /* rows are of any length, row_bytes is 0: a list of numbers, or one string */
    ot_input_piece *pieces;
    size_t n_pieces, cap_pieces;
    uint64_t rows;
} ot_input_column;

/* A file of records: where each of them begins. */
typedef struct ot_input_records {
    size_t file;
    uint64_t first, rows;
    uint64_t *at;
} ot_input_records;

typedef struct ot_source {
    ot_disk *disk;
    bool mapped;
    uint64_t rows, bytes; /* of all columns */
    ot_input_file *files;
    size_t n_files, cap_files;
    ot_input_column *columns; /* sorted by name, or as they were asked for */
    size_t n_columns, cap_columns;
    ot_input_records *records;
    size_t n_records, cap_records;
    uint64_t unpacked;
} ot_source;

typedef struct ot_source_options {
    ot_disk *disk;
    const char *const *paths; /* a shard each */
    size_t n_paths;
    const char *index; /* or JSON that lists the files (docs/data.md) */
    const char
        *directory;    /* what relative paths in `index` start from; NULL: the working directory */
    const char *store; /* a data directory, where datasets are opened by digest; may be NULL */
    const char *const *columns; /* only these, in this order; 0: all, sorted */
    size_t n_columns;
    bool read;   /* files may change while they are used: read, do not map */
    bool verify; /* check the digests and checksums that the files come with */
} ot_source_options;

ot_rc ot_source_create(const ot_source_options *o, ot_source **out, ot_error *err) OT_CHECKED;
void ot_source_destroy(ot_source *s);

/* How the system should read ahead: runs of rows, one after the other, or here and there. */
void ot_source_advise(const ot_source *s, bool runs);

/* ---- for the files that open a source */

/* Opens and maps a file; its number. */
ot_rc ot_source_add_file(ot_source *s, const char *path, size_t *file_out,
                         ot_error *err) OT_CHECKED;
/* A column by its name; made when it is not there. */
ot_rc ot_source_column(ot_source *s, const char *name, size_t *column_out,
                       ot_error *err) OT_CHECKED;
/* Bytes [at, at + n) of a file are a .npy: a piece of the column. */
ot_rc ot_source_add_npy(ot_source *s, const char *name, size_t file, uint64_t at, uint64_t n,
                        ot_error *err) OT_CHECKED;
/* `rows` rows of type and shape of `like` begin at that byte: a piece of the column of its name. */
ot_rc ot_source_add_raw(ot_source *s, const ot_input_column *like, size_t file, uint64_t at,
                        uint64_t rows, ot_error *err) OT_CHECKED;
/* One path, by its kind: a folder of .npy, .npz, .npy, .tfrecord, .json. `name`: the column of a
 * .npy; NULL: its own name. */
ot_rc ot_source_add_path(ot_source *s, const ot_source_options *o, const char *path,
                         const char *name, ot_error *err) OT_CHECKED;
/* The columns that a JSON index or a dataset's JSON lists. `path`: of the file, or NULL. */
ot_rc ot_source_add_index(ot_source *s, const ot_source_options *o, const char *json, size_t n,
                          const char *path, ot_error *err) OT_CHECKED;
/* A dataset of the store by its digest. */
ot_rc ot_source_add_digest(ot_source *s, const ot_source_options *o, const char *hex,
                           ot_error *err) OT_CHECKED;
/* A file's bytes have that SHA-256, or OT_DATA_LOSS. */
ot_rc ot_source_check_digest(const ot_source *s, size_t file, const char *hex,
                             ot_error *err) OT_CHECKED;
/* The whole of a packed file (gzip, zlib) in the place of what is mapped; others stay. */
ot_rc ot_source_unpack(ot_source *s, size_t file, ot_error *err) OT_CHECKED;
/* A TFRecord file, which may be packed; of that SHA-256 unless it is NULL. Columns that are not
 * there yet are made from its first record. */
ot_rc ot_source_add_records(ot_source *s, const char *path, const char *hex,
                            ot_error *err) OT_CHECKED;

#endif
