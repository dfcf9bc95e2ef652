/* links: input codec base */
/* TFRecord framing, and tf.train.Example within it. The first byte says which: framing as it came,
 * or two Examples, of which the first makes the columns and the second is read by them. */
#include "base/mem.h"
#include "input/example.h"
#include "input/tfrecord.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void framing(const uint8_t *data, size_t size)
{
    ot_error e;
    ot_tfrecord r;
    for (size_t at = 0; at < size; at += r.n + OT_TFRECORD_FRAME) {
        if (ot_tfrecord_read(data + at, size - at, true, &r, &e) != OT_OK) {
            return;
        }
        if (r.data != data + at + OT_TFRECORD_HEAD || r.n > size - at - OT_TFRECORD_FRAME) {
            abort();
        }
    }
}

static void read_by(const ot_source *s, const uint8_t *p, size_t n)
{
    size_t offsets[OT_INPUT_COLUMNS_MAX], bytes = 0;
    ot_grown grown[OT_INPUT_COLUMNS_MAX] = {0};
    int64_t splits[OT_INPUT_COLUMNS_MAX][2] = {{0}};
    for (size_t c = 0; c < s->n_columns; c++) {
        bytes = (bytes + 7) / 8 * 8;
        offsets[c] = bytes;
        bytes += s->columns[c].ragged ? sizeof(ot_input_ragged) : s->columns[c].row_bytes;
    }
    /* Of its own, so that a sanitizer sees a byte too far. */
    uint8_t *out = malloc(bytes + 1);
    ot_error e;
    if (out != NULL) {
        for (size_t c = 0; c < s->n_columns; c++) {
            if (s->columns[c].ragged) {
                memcpy(out + offsets[c], &(ot_input_ragged){.splits = splits[c]},
                       sizeof(ot_input_ragged));
            }
        }
        ot_example_out to = {.out = out, .offsets = offsets, .grown = grown};
        ot_rc rc = ot_example_read(p, n, s->columns, s->n_columns, 0, &to, &e);
        for (size_t c = 0; c < s->n_columns; c++) {
            if (rc == OT_OK && s->columns[c].ragged &&
                grown[c].n != (size_t)splits[c][1] * s->columns[c].element_bytes) {
                abort();
            }
            ot_free(grown[c].p);
        }
    }
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3 || data[0] == 0) {
        framing(data + (size > 0), size > 0 ? size - 1 : 0);
        return 0;
    }
    size_t first = (size_t)data[1] << 8 | data[2];
    ot_source s = {.disk = NULL};
    ot_error e;
    first = first > size - 3 ? size - 3 : first;
    if (ot_example_columns(&s, data + 3, first, &e) == OT_OK) {
        size_t total = 0;
        for (size_t c = 0; c < s.n_columns; c++) {
            if (s.columns[c].row_bytes == 0 || s.columns[c].row_bytes > 10 * first) {
                abort();
            }
            total += s.columns[c].row_bytes;
        }
        if (total > 0) {
            read_by(&s, data + 3, first);
            read_by(&s, data + 3 + first, size - 3 - first);
            for (size_t c = 0; c < s.n_columns; c++) {
                s.columns[c].ragged = c % 2 == 0;
                s.columns[c].row_bytes *= c % 2;
            }
            read_by(&s, data + 3 + first, size - 3 - first);
        }
    }
    ot_free(s.columns);
    return 0;
}
