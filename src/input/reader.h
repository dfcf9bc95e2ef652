/* Batches of a dataset, read ahead by threads.
 *
 * The reader goes through epoch after epoch; after the last batch of each it says so once. What it
 * has handed out is one number, the positions taken by all ranks together (order.h), so that a
 * reader anywhere can go on from there.
 * Threads: calls of one reader from one thread at a time. A child made by fork() gets
 * OT_PRECONDITION from every call but destroy, which does nothing there.
 * Lifetime: create/destroy; batches may outlive it. */
#ifndef OT_INPUT_READER_H
#define OT_INPUT_READER_H

#include "base/error.h"
#include "input/order.h"
#include "input/source.h"

#define OT_INPUT_THREADS_MAX 64
#define OT_INPUT_AHEAD_MAX 64              /* batches */
#define OT_INPUT_AHEAD_BYTES (64ull << 20) /* what is read ahead unless the options say more */
#define OT_INPUT_BATCH_BYTES_MAX (4ull << 30)

/* What becomes of the last rows where they don't come out even. */
typedef enum ot_remainder {
    OT_REMAINDER_KEEP,   /* each row once; batches of the last round are smaller */
    OT_REMAINDER_DROP,   /* left out of this epoch: all batches are full */
    OT_REMAINDER_REPEAT, /* all ranks get as many rows: up to size - 1 come twice */
} ot_remainder;

typedef struct ot_reader_options {
    uint64_t batch; /* rows a batch of one rank */
    uint64_t rank, size;
    uint64_t part,
        parts; /* only each parts-th of this rank's batches: of processes that share a rank */
    bool shuffle;
    uint64_t block; /* ot_order_init */
    uint64_t seed;
    ot_remainder remainder;
    uint64_t threads;     /* 0: 1, or 2 where records are parsed */
    uint64_t ahead_bytes; /* 0: OT_INPUT_AHEAD_BYTES; at least two batches are held in any case */
} ot_reader_options;

typedef struct ot_reader ot_reader;

typedef struct ot_batch {
    uint8_t *data; /* the caller's until ot_buffers_give; NULL: the epoch has ended */
    uint64_t rows;
    uint64_t grown;        /* bytes of its ragged columns */
    uint64_t epoch, taken; /* the state when this batch has been taken: what ot_reader_seek takes */
} ot_batch;

typedef struct ot_reader_stats {
    uint64_t batches, rows, bytes;
    uint64_t wait_ns; /* how long calls of ot_reader_next stood and waited, all together */
} ot_reader_stats;

/* Takes the source over, also when it fails. */
ot_rc ot_reader_create(ot_source *source, const ot_reader_options *o, ot_reader **out,
                       ot_error *err) OT_CHECKED;
void ot_reader_destroy(ot_reader *r);

const ot_source *ot_reader_source(const ot_reader *r);
/* Where column c's rows begin in a batch: a multiple of 64. */
size_t ot_reader_offset(const ot_reader *r, size_t c);
/* OT_TIMEOUT: no batch within timeout_ns; 0 waits for ever. An error stays until the next seek. */
ot_rc ot_reader_next(ot_reader *r, uint64_t timeout_ns, ot_batch *out, ot_error *err) OT_CHECKED;
/* Goes on from `taken` of `epoch` as rank `rank` of `size`: drops what was read ahead. */
ot_rc ot_reader_seek(ot_reader *r, uint64_t epoch, uint64_t taken, uint64_t rank, uint64_t size,
                     ot_error *err) OT_CHECKED;
ot_reader_stats ot_reader_counts(const ot_reader *r);

#endif
