/* links: serve registry runtime launch backup model store net stats codec base */
/* A traceparent header: what is taken of version 00 is written again as it came. */
#include "serve/trace.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size > 0 ? size : 1); /* exact, so that reading past its end is found */
    char back[OT_TRACEPARENT_MAX];
    ot_trace t;
    if (text == NULL) {
        abort();
    }
    memcpy(text, data, size);
    if (ot_traceparent_parse((ot_slice){text, size}, &t) && text[0] == '0' && text[1] == '0') {
        memcpy(t.span, t.parent, sizeof t.span);
        ot_traceparent_format(&t, back);
        if (size != 55 || memcmp(back, text, 53) != 0) { /* but for flags that are not known */
            abort();
        }
    }
    free(text);
    return 0;
}
