/* Rows of a source into memory: what the reader's threads do.
 *
 * Threads: each has an ot_gather of its own over one source. Lifetime: init/done. */
#ifndef OT_INPUT_GATHER_H
#define OT_INPUT_GATHER_H

#include "input/buffers.h"
#include "input/source.h"

typedef struct ot_gather {
    const ot_source *source;
    uint64_t turn;
    uint64_t *checked; /* by file: the turn in which its size was last looked at */
    uint8_t *record;   /* of a file that is read, not mapped */
    size_t record_room;
} ot_gather;

ot_rc ot_gather_init(ot_gather *g, const ot_source *s, ot_error *err) OT_CHECKED;
void ot_gather_done(ot_gather *g);

/* Row rows[i] of column c goes to out + offsets[c] + i * row_bytes; of a ragged column there is an
 * ot_input_ragged, with the splits behind it and the values in grown[c], which may be NULL where no
 * column is. OT_DATA_LOSS: a file has shrunk or a record is damaged; nothing of `out` counts then.
 */
ot_rc ot_gather_rows(ot_gather *g, const uint64_t *rows, size_t n, uint8_t *out,
                     const size_t *offsets, ot_grown *grown, ot_error *err) OT_CHECKED;

#endif
