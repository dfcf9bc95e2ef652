/* Input: batches of a dataset's rows, read ahead by threads of their own, dealt to the ranks of a
 * job.
 *
 * A dataset is a set of named columns with equally many rows: folders of .npy files, .npz, .npy,
 * raw tensors, TFRecord files of tf.train.Example, or a dataset of Overtake by its digest; any
 * number of files (shards) make one. An epoch is one order of all rows, a function of rows, seed,
 * epoch (and block) alone. Ranks read side by side: what all of them together have taken of it is a
 * prefix, so two numbers, epoch and taken, say where a job is, and what is left can be dealt to
 * other ranks.
 *
 * Threads: calls for one reader from one thread at a time; a child made by fork() gets
 * OVERTAKE_PRECONDITION (-9) and opens its own.
 * Files are mapped: one that shrinks is an error of the next batch, but one that is cut short while
 * a batch is being copied from it ends the process; `read` (below) takes files that may change.
 * Errors: 0 is success, else a negative code (the negated canonical codes of gRPC). A message names
 * file, row, byte and what to do. */
#ifndef OVERTAKE_INPUT_H
#define OVERTAKE_INPUT_H

#include "overtake/overtake.h"

#ifdef __cplusplus
extern "C" {
#endif

#define OVERTAKE_INPUT_NAME_MAX 128 /* bytes of a column's name */
#define OVERTAKE_INPUT_DIMS_MAX 8

typedef struct overtake_input overtake_input;

/* What becomes of the last rows of an epoch where they don't come out even. */
typedef enum overtake_remainder {
    OVERTAKE_REMAINDER_KEEP,  /* each row once; the last batches are smaller, as even as can be */
    OVERTAKE_REMAINDER_DROP,  /* left out: all batches are full, all ranks have as many */
    OVERTAKE_REMAINDER_REPEAT /* all ranks have as many rows: up to size - 1 come twice */
} overtake_remainder;

typedef struct overtake_input_options {
    size_t struct_size; /* sizeof(overtake_input_options) */
    /* Shards: a folder with one .npy a column, .npz, .npy, .tfrecord, .json (an index, or a
     * dataset's) or "sha256:DIGEST" of a dataset in `store`. */
    const char *const *paths;
    size_t n_paths;
    const char *index;          /* instead of paths: JSON (docs/data.md) */
    const char *directory;      /* what the index's paths start from; NULL: the working directory */
    const char *store;          /* a data directory of Overtake; NULL: none */
    const char *const *columns; /* only these, in this order; 0: all, by name */
    size_t n_columns;
    int64_t batch;      /* rows a batch of one rank */
    int32_t rank, size; /* size 0: 0 of 1 */
    int32_t part,
        parts;         /* every parts-th batch of the rank, for processes that share one; 0: all */
    int32_t shuffle;   /* 0: as they lie */
    int32_t remainder; /* overtake_remainder */
    uint64_t seed;
    uint64_t block;  /* with shuffle: rows are read in runs of so many, 16 runs mixed; 0: any row */
    int32_t threads; /* 0: 1, or 2 where records are parsed */
    int32_t read;    /* 1: pread instead of mapping, for files that change while they are used */
    int32_t verify;  /* 1: check digests and checksums that the files come with, now */
    uint64_t ahead_bytes; /* of batches that are ready; 0: 64 MiB; two batches in any case */
} overtake_input_options;

typedef struct overtake_input_column {
    size_t struct_size; /* sizeof(overtake_input_column) */
    char name[OVERTAKE_INPUT_NAME_MAX + 1];
    char descr[32]; /* NumPy's type, little-endian: "<f4", "|b1", "<M8[ns]"; or "bfloat16" */
    int32_t ndim;   /* of a row */
    int64_t dims[OVERTAKE_INPUT_DIMS_MAX];
    uint64_t row_bytes;
    uint64_t offset; /* where the column begins in a batch; its rows lie one behind the other */
    int32_t ragged;  /* 1: rows of any length, an overtake_input_ragged lies there: a list of
                        numbers (ndim 1, dims[0] -1), or bytes (descr "|u1", ndim 0) */
} overtake_input_column;

/* Row i is the elements [splits[i], splits[i + 1]). */
typedef struct overtake_input_ragged {
    const void *values;
    const int64_t *splits; /* rows + 1 */
} overtake_input_ragged;

typedef struct overtake_input_batch {
    size_t struct_size; /* sizeof(overtake_input_batch) */
    void *data;         /* the caller's until overtake_input_release; NULL: the epoch has ended */
    int64_t rows;
    uint64_t epoch, taken; /* where the job is when this batch has been used */
} overtake_input_batch;

typedef struct overtake_input_stats {
    size_t struct_size; /* sizeof(overtake_input_stats) */
    uint64_t rows;      /* of the dataset */
    uint64_t bytes;     /* of all its columns whose rows are of one length */
    uint64_t batches_read, rows_read, bytes_read; /* handed out */
    uint64_t wait_ns; /* how long calls of next waited for a batch, all together */
} overtake_input_stats;

OVERTAKE_API int overtake_input_open(const overtake_input_options *options,
                                     overtake_input **input_out, char *message,
                                     size_t message_size);
/* Waits for its threads. Batches that were not released stay. NULL is nothing. */
OVERTAKE_API void overtake_input_close(overtake_input *input);
/* OVERTAKE_NOT_FOUND (-5) behind the last column. */
OVERTAKE_API int overtake_input_column_at(const overtake_input *input, size_t i,
                                          overtake_input_column *column_out);
OVERTAKE_API int overtake_input_stats_of(const overtake_input *input,
                                         overtake_input_stats *stats_out);
/* The next batch. timeout_s > 0: OVERTAKE_TIMEOUT (-4) when there is none by then. An error stays
 * until the next seek. */
OVERTAKE_API int overtake_input_next(overtake_input *input, double timeout_s,
                                     overtake_input_batch *batch_out, char *message,
                                     size_t message_size);
/* Gives a batch's data back, from any thread, also after close. */
OVERTAKE_API int overtake_input_release(void *data);
/* Goes on from there, as that rank: after a restart, a roll-back, or a change of ranks. */
OVERTAKE_API int overtake_input_seek(overtake_input *input, uint64_t epoch, uint64_t taken,
                                     int32_t rank, int32_t size, char *message,
                                     size_t message_size);
/* The epoch's order alone: rows_out[i] is the row at position at + i of `rows`; needs no files. */
OVERTAKE_API int overtake_input_order(uint64_t rows, uint64_t block, uint64_t seed, uint64_t epoch,
                                      uint64_t at, size_t n, int64_t *rows_out);

#ifdef __cplusplus
}
#endif

#endif
