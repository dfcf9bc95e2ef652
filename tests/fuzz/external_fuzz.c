/* links: runtime model store net stats codec base */
/* The description of an external server, and the body of a completion that is passed on to it. */
#include "runtime/external.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char chat[] = "{\"url\":\"http://h:1\",\"protocol\":\"openai\",\"model\":\"m\"}";
    ot_external x;
    ot_error err;
    const char *path;
    if (ot_external_read((const char *)data, n, "fuzz", &x, &err) == OT_OK) {
        ot_external_done(&x);
    }
    if (ot_external_read(chat, sizeof chat - 1, "fuzz", &x, &err) != OT_OK) {
        __builtin_trap();
    }
    OT_AUTO(ot_str_done) ot_str body = OT_STR_INIT;
    if (ot_external_chat(&x, (const char *)data, n, n % 2 == 0, &path, &body, &err) == OT_OK &&
        strstr(body.data, "\"model\":\"m\"") == NULL) {
        __builtin_trap();
    }
    ot_external_done(&x);
    return 0;
}
