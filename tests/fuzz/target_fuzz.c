/* links: serve registry runtime launch model store net stats codec base */
/* The desired state, as a control plane of any version might send it. */
#include "serve/target.h"

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ot_target *t;
    ot_error err;
    if (ot_target_parse((const char *)data, size, &t, &err) == OT_OK) {
        ot_target_destroy(t);
    }
    return 0;
}
