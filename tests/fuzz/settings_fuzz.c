/* links: collective base */
/* What a launcher says to the ranks of a job, and what a person says in its place: read, written,
 * read again. */
#include "collective/settings.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void again(const ot_settings *s)
{
    char out[OT_SETTINGS_MAX], same[OT_SETTINGS_MAX];
    ot_settings back;
    ot_error err;
    ot_settings_format(s, out);
    if (ot_settings_parse(out, &back, &err) != OT_OK) {
        abort();
    }
    ot_settings_format(&back, same);
    if (strcmp(out, same) != 0 || ot_settings_agree(out, same, &err) != OT_OK) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char links[OT_PATH_MAX], *text = malloc(size + 1);
    if (text == NULL) {
        return 0;
    }
    memcpy(text, data, size);
    text[size] = 0;
    ot_settings s;
    ot_error err = {0};
    if (ot_settings_parse(text, &s, &err) == OT_OK) {
        again(&s);
    } else if (err.msg[0] == 0) {
        abort();
    }
    err.msg[0] = 0;
    if (ot_settings_words(text, &s, links, &err) == OT_OK) {
        again(&s);
    } else if (err.msg[0] == 0) {
        abort();
    }
    free(text);
    return 0;
}
