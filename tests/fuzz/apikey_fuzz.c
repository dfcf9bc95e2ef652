/* links: serve registry runtime launch model store net stats codec base */
/* A file of API keys. What is read is written and read again, and is the same. */
#include "base/mem.h"
#include "serve/access.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    ot_apikey *keys = NULL, again;
    size_t count = 0;
    char id[OT_APIKEY_ID];
    ot_error err;
    (void)ot_apikey_id((const char *)data, n, id);
    if (ot_access_parse((const char *)data, n, &keys, &count, &err) != OT_OK) {
        return 0;
    }
    for (size_t i = 0; i < count; i++) {
        json_t *j = ot_apikey_json(&keys[i]);
        if (ot_apikey_read(j, &again, &err) != OT_OK ||
            memcmp(&again, &keys[i], sizeof again) != 0) {
            __builtin_trap();
        }
        json_decref(j);
    }
    ot_free(keys);
    return 0;
}
