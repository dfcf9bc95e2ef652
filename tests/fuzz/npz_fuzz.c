/* links: registry model store stats codec base */
/* .npz archives, with a low cap on what they may inflate to. What is accepted has rows that add up.
 */
#include "registry/npz.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ot_error e;
    OT_AUTO(ot_table_done) ot_table t;
    ot_table_init(&t);
    if (ot_npz_read_capped(data, size, 1u << 20, &t, &e) != OT_OK) {
        return 0;
    }
    for (size_t i = 0; i < t.n_columns; i++) {
        const ot_tensor *c = &t.columns[i];
        if (c->dims[0] != t.rows || !ot_column_name_ok(c->name) ||
            c->size_bytes != ot_table_row_bytes(c) * (size_t)t.rows) {
            abort();
        }
    }
    if (t.rows > 0) {
        double place;
        (void)ot_table_row_digest(&t, t.rows - 1);
        if (ot_table_row_places(&t, 0, 1, &place, &e) != OT_OK || !(place >= 0 && place < 1)) {
            abort();
        }
    }
    return 0;
}
