/* links: serve runtime model launch store net stats codec base */
/* Events of a streamed completion, one a line. */
#include "base/mem.h"
#include "serve/completion.h"

#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_completion *c = ot_completion_new();
    const char *p = (const char *)data, *end = p + size;
    while (c != NULL && p < end) {
        const char *lf = memchr(p, '\n', (size_t)(end - p));
        size_t n = (size_t)((lf != NULL ? lf : end) - p);
        ot_completion_event(c, p, n);
        p += n + (lf != NULL);
    }
    if (c != NULL && ot_completion_write(c, &out)) {
        json_t *root = json_loadb(out.data, out.len, 0, NULL);
        if (json_array_size(json_object_get(root, "choices")) == 0) {
            abort();
        }
        json_decref(root);
    }
    ot_completion_free(c);
    return 0;
}
