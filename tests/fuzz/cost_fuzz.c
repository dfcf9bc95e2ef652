/* links: collective base */
/* A measured cost model as text: read, written, read again. */
#include "collective/cost.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    if (text == NULL) {
        return 0;
    }
    memcpy(text, data, size);
    text[size] = 0;
    ot_cost_model m, again;
    ot_error err;
    if (ot_cost_parse(text, &m, &err) == OT_OK) {
        char out[512], same[512];
        if (ot_cost_format(&m, out, sizeof out) >= sizeof out ||
            ot_cost_parse(out, &again, &err) != OT_OK ||
            ot_cost_format(&again, same, sizeof same) >= sizeof same || strcmp(out, same) != 0) {
            abort();
        }
    } else if (err.msg[0] == 0) {
        abort();
    }
    free(text);
    return 0;
}
