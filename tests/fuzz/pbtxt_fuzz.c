/* links: model stats codec base */
/* A model's config.pbtxt, as a stranger's repository might hold it. */
#include "model/config.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ot_model_config c;
    ot_error err;
    ot_model_config_init(&c);
    if (ot_model_config_parse("config.pbtxt", (const char *)data, size, &c, &err) == OT_OK &&
        (c.latest == 0 || c.n_versions > OT_MODEL_CONFIG_VERSIONS_MAX || c.notes == NULL)) {
        abort();
    }
    ot_model_config_done(&c);
    return 0;
}
