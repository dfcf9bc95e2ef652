/* Segments of sampled rows: which rows are in which blob, and what was answered to each.
 *
 * Plain rows and single operations; what they mean is src/quality's. Threads and lifetime: those of
 * the transaction; pointers given to callbacks live until they return.
 *
 * The answers of a segment are an array of ot_answer, sorted by seq, so that labels find what was
 * predicted without the rows themselves. */
#ifndef OT_STORE_SAMPLES_H
#define OT_STORE_SAMPLES_H

#include "base/hash.h"
#include "store/store.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OT_SPAN_MAX 65536              /* numbers from the first to the last of a span, at most */
#define OT_SEGMENT_ROWS_MAX (1u << 20) /* rows */
#define OT_SEGMENT_META_MAX (1u << 20) /* bytes */
#define OT_SEGMENTS_EXPIRE_MAX 100     /* segments a call */
#define OT_ROW_KEY_MAX 256             /* bytes of a caller's key */

/* One answered row. 32 bytes, written as it stands (little-endian machines only, as all formats
 * here are). */
typedef struct ot_answer {
    uint64_t seq;
    int64_t time_us;
    double prediction; /* the class or the value; NaN: the model gave none */
    float probability; /* of being sampled, in (0, 1] */
    uint32_t row;      /* place in the segment */
} ot_answer;

typedef struct ot_segment_row {
    int64_t id; /* given by insert */
    const char *deployment;
    uint64_t incarnation;
    int64_t version;
    bool shadow;
    int64_t start_us, end_us; /* of the first and the last row */
    uint64_t size_bytes;      /* of the blob */
    ot_digest blob;           /* the binary part of the push; must exist */
    const char *meta;         /* the JSON part of the push */
    const ot_answer *answers; /* sorted by seq, no number twice */
    size_t n;
} ot_segment_row;

/* Adds the segment with its spans. OT_NOT_FOUND: its blob is not in the content store. */
ot_rc ot_segment_insert(ot_txn *txn, const ot_segment_row *row, int64_t *id_out,
                        ot_error *err) OT_CHECKED;

typedef ot_rc ot_segment_fn(void *arg, const ot_segment_row *row, ot_error *err);
/* Segments that may hold rows numbered in [first, last], each once. `live_only` leaves shadows
 * out. last - first below OT_SPAN_MAX. */
ot_rc ot_segments_over(ot_txn *txn, const char *deployment, uint64_t incarnation, uint64_t first,
                       uint64_t last, bool live_only, ot_segment_fn *fn, void *arg,
                       ot_error *err) OT_CHECKED;

/* Segments before number `before` (0: all), the newest first, until `fn` fails. */
ot_rc ot_segments_newest(ot_txn *txn, const char *deployment, int64_t before, ot_segment_fn *fn,
                         void *arg, ot_error *err) OT_CHECKED;

/* When the oldest row was answered; 0: there is none. */
ot_rc ot_segments_oldest(ot_txn *txn, const char *deployment, int64_t *us_out,
                         ot_error *err) OT_CHECKED;
/* Rows in live segments of a version that began at or after from_us. */
ot_rc ot_segment_rows_live(ot_txn *txn, const char *deployment, int64_t version, int64_t from_us,
                           int64_t *rows_out, ot_error *err) OT_CHECKED;
/* Deletes the oldest segments: those that ended before `before_us`, and more until `bytes` are
 * freed; at most OT_SEGMENTS_EXPIRE_MAX. Their blobs are the collector's. */
ot_rc ot_segments_expire(ot_txn *txn, const char *deployment, int64_t before_us, uint64_t bytes,
                         int64_t *deleted_out, uint64_t *freed_out, ot_error *err) OT_CHECKED;

/* A caller's key names the newest row that carried it. OT_NOT_FOUND: no row did. */
ot_rc ot_row_key_set(ot_txn *txn, const char *deployment, const char *key, uint64_t incarnation,
                     uint64_t seq, int64_t time_us, ot_error *err) OT_CHECKED;
ot_rc ot_row_key_get(ot_txn *txn, const char *deployment, const char *key,
                     uint64_t *incarnation_out, uint64_t *seq_out, ot_error *err) OT_CHECKED;
ot_rc ot_row_keys_expire(ot_txn *txn, const char *deployment, int64_t before_us, uint32_t limit,
                         ot_error *err) OT_CHECKED;

#endif
