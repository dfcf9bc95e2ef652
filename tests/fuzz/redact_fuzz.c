/* links: doctor base */
/* Takes secrets out of any text: a known one is never in what comes out, in any of its forms. */
#include "doctor/redact.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char secret[] = "QJXZ%/\"7";
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT, out = OT_STR_INIT;
    ot_redactor r;
    ot_redactor_init(&r);
    ot_redactor_add(&r, secret);
    for (size_t i = 0; i < size; i++) {
        if (data[i] == 1) { /* here stands one */
            ot_str_adds(&text, secret);
        } else {
            ot_str_add(&text, &data[i], 1);
        }
    }
    ot_redact(&r, text.data, text.len, &out);
    for (size_t i = 0; i + sizeof secret - 1 <= out.len; i++) {
        if (memcmp(out.data + i, secret, sizeof secret - 1) == 0) {
            abort();
        }
    }
    ot_redactor_done(&r);
    return 0;
}
