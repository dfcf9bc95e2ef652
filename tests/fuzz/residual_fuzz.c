/* links: collective base */
/* What is kept of tensors, from a checkpoint: what loads is saved as the same bytes. The hash at
 * the end is made right, so that what is before it is looked at. */
#include "base/hash.h"
#include "collective/residual.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ot_residuals r;
    ot_error err = {.rc = OT_OK};
    uint64_t n = 0, hash = ot_hash_stable(data, size, 0);
    uint8_t *bytes = malloc(size + sizeof hash), *out = malloc(size + sizeof hash);
    if (bytes != NULL && out != NULL) {
        memcpy(bytes, data, size);
        memcpy(bytes + size, &hash, sizeof hash);
        ot_residuals_init(&r);
        if (ot_residuals_load(&r, bytes, size + sizeof hash, &err) != OT_OK) {
            if (err.msg[0] == 0 || r.n != 0) {
                abort();
            }
        } else if (ot_residuals_save(&r, out, size + sizeof hash, &n, &err) != OT_OK ||
                   n != (r.n > 0 ? size + sizeof hash : 0) || memcmp(out, bytes, n) != 0) {
            abort();
        }
        ot_residuals_done(&r);
    }
    free(bytes);
    free(out);
    return 0;
}
