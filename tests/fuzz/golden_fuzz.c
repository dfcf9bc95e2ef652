/* links: model stats codec base */
/* golden.json: what is accepted is finite, agrees with itself, and is read again as it was. */
#include "model/golden.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void compare(const ot_golden_row *a, const ot_golden_row *b)
{
    if (a->n_inputs != b->n_inputs || a->n_outputs != b->n_outputs) {
        abort();
    }
    for (size_t i = 0; i < a->n_outputs; i++) {
        if (ot_golden_compare(&a->outputs[i], &b->outputs[i], 0, 0, NULL) != OT_OK) {
            abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ot_error e;
    OT_AUTO(ot_golden_done) ot_golden g = {0};
    OT_AUTO(ot_golden_done) ot_golden again = {0};
    if (ot_golden_parse((const char *)data, size, &g, &e) != OT_OK) {
        return 0;
    }
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    if (ot_golden_write(&g, &text, &e) != OT_OK ||
        ot_golden_parse(text.data, text.len, &again, &e) != OT_OK || again.n_cases != g.n_cases) {
        abort();
    }
    for (size_t i = 0; i < g.n_cases; i++) {
        compare(&g.cases[i], &again.cases[i]);
    }
    return 0;
}
