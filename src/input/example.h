/* tensorflow.Example as rows of columns.
 *
 * Threads: any; pure. Source: tensorflow/core/example/{example,feature}.proto. */
#ifndef OT_INPUT_EXAMPLE_H
#define OT_INPUT_EXAMPLE_H

#include "input/buffers.h"
#include "input/source.h"

/* Where rows go: column c's to out + offsets[c], where its rows lie one behind the other, or an
 * ot_input_ragged does; the values of that are grown[c]. */
typedef struct ot_example_out {
    uint8_t *out;
    const size_t *offsets;
    ot_grown *grown; /* NULL: no column is ragged */
} ot_example_out;

/* Writes the Example in p[0..n) as row `row` of every column that is a feature; of ragged columns
 * rows are written in their order, and one that lacks has none. OT_INVALID names the feature:
 * missing, of another type, or of another length than the column. */
ot_rc ot_example_read(const uint8_t *p, size_t n, const ot_input_column *columns, size_t n_columns,
                      size_t row, const ot_example_out *to, ot_error *err) OT_CHECKED;
/* Columns for the features of an Example: a float list is FP32, an int64 list INT64, the bytes of
 * a bytes list UINT8; a list of one number is a plain number a row. */
ot_rc ot_example_columns(ot_source *s, const uint8_t *p, size_t n, ot_error *err) OT_CHECKED;

#endif
