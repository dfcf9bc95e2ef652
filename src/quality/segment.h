/* The binary form of a `sample` push (docs/architecture.md), read: which bytes are what.
 *
 * Threads: any. Lifetime: everything points into the JSON and the bytes given. */
#ifndef OT_QUALITY_SEGMENT_H
#define OT_QUALITY_SEGMENT_H

#include "base/error.h"
#include "codec/tensor.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define Q_SEGMENT_TENSORS_MAX 64
#define Q_SEGMENT_ROWS_MAX 1000000
#define Q_SEGMENT_BYTES_MAX (64u << 20) /* of the binary part */

typedef struct q_segment {
    int64_t version;
    bool shadow;
    size_t rows;          /* at least 1 */
    int64_t dropped_rows; /* lost before this segment */
    /* `rows` numbers each, of any alignment: u64, i64, f32. */
    const uint8_t *seq, *time_us, *probability;
    ot_tensor inputs[Q_SEGMENT_TENSORS_MAX], outputs[Q_SEGMENT_TENSORS_MAX]; /* axis 0: the row */
    size_t n_inputs, n_outputs;
    const uint8_t *keys; /* NULL: none */
    size_t keys_len;
} q_segment;

/* OT_INVALID names the field, the value and what it must be. */
ot_rc q_segment_parse(const json_t *meta, const uint8_t *bin, size_t n, q_segment *out,
                      ot_error *err) OT_CHECKED;

uint64_t q_segment_seq(const q_segment *s, size_t row);
int64_t q_segment_time(const q_segment *s, size_t row);
float q_segment_probability(const q_segment *s, size_t row);
/* Walks the keys, row by row: start with *offset = 0; false at the end. */
bool q_segment_key(const q_segment *s, size_t *offset, const char **p_out, size_t *n_out);

#endif
