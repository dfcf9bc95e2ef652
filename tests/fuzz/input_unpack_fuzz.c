/* links: input codec base */
/* A packed file becomes what it holds, or an error; what is not packed stays. */
#include "base/mem.h"
#include "input/source_internal.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ot_error e = {0};
    ot_source *s = ot_calloc(1, sizeof *s);
    uint8_t *p;
    size_t file;
    if (s == NULL || size == 0) {
        ot_free(s);
        return 0;
    }
    if (ot_source_add_memory(s, "fuzz", size, &p, &file, &e) == OT_OK) {
        memcpy(p, data, size);
        ot_rc rc = ot_source_unpack(s, file, &e);
        const ot_input_file *f = &s->files[file];
        if ((f->size == 0) != (f->map == NULL) ||
            (rc != OT_OK && (e.msg[0] == 0 || f->size != size))) {
            abort();
        }
        if (f->size > 0) {
            volatile uint8_t last = f->map[f->size - 1];
            (void)last;
        }
    }
    ot_source_destroy(s);
    return 0;
}
