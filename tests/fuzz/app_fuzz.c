/* links: pipeline launch base */
/* App files: YAML from a stranger is parsed or refused with a message, never more. */
#include "pipeline/app.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ot_app *app = NULL;
    ot_error err = {0};
    if (ot_app_parse((const char *)data, size, "app.yaml", "/", &app, &err) == OT_OK) {
        OT_AUTO(ot_str_done) ot_str shown = OT_STR_INIT;
        ot_app_show(app, &shown);
    } else if (err.msg[0] == 0) {
        abort(); /* refused without saying why */
    }
    ot_app_destroy(app);
    return 0;
}
