/* links: base */
/* The JSON reader of the plug-ins: any bytes are skipped as a value, then read as an object of
 * strings and numbers. */
#include "../../plugins/common/json.h"

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    pj j;
    char key[32], text[64];
    double x;
    pj_init(&j, (const char *)data, size);
    pj_skip(&j);
    if (!pj_end(&j) && j.error == NULL) {
        abort(); /* refused without a reason */
    }
    pj_init(&j, (const char *)data, size);
    pj_enter(&j, '{');
    while (pj_key(&j, key, sizeof key)) {
        char c = pj_peek(&j);
        if (c == '"') {
            pj_string(&j, text, sizeof text, NULL);
        } else if (c == '[') {
            pj_enter(&j, '[');
            while (pj_item(&j) && pj_number(&j, &x)) {
            }
        } else {
            pj_skip(&j);
        }
    }
    pj_end(&j);
    return 0;
}
