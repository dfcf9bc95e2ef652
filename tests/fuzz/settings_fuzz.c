/* links: collective base */
/* What a launcher says to the ranks of a job: read, written, read again. */
#include "collective/settings.h"

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
    ot_settings s, again;
    ot_error err;
    if (ot_settings_parse(text, &s, &err) == OT_OK) {
        char out[OT_SETTINGS_MAX], same[OT_SETTINGS_MAX];
        ot_settings_format(&s, out);
        if (ot_settings_parse(out, &again, &err) != OT_OK) {
            abort();
        }
        ot_settings_format(&again, same);
        if (strcmp(out, same) != 0) {
            abort();
        }
    } else if (err.msg[0] == 0) {
        abort();
    }
    free(text);
    return 0;
}
