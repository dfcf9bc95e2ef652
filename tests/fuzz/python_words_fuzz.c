/* links: launch collective model net stats codec base */
/* A command that a spare stands in for: what is taken has an interpreter and a script, and no word
 * holds a line break. */
#include "launch/spare.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const ot_launch_python *p)
{
    size_t n = 0;
    if (p->n_words <= p->script || p->n_words > OT_LAUNCH_WORDS_MAX ||
        p->words[p->n_words] != NULL) {
        abort();
    }
    for (size_t i = 0; i < p->n_words; i++) {
        size_t len = strlen(p->words[i]);
        n += len + 1;
        if (strchr(p->words[i], '\n') != NULL) {
            abort();
        }
    }
    const char *script = p->words[p->script];
    if (n > sizeof p->text || script[0] == '-' || strlen(script) < 4 ||
        strcmp(script + strlen(script) - 3, ".py") != 0) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static ot_launch_python p;
    char *text = malloc(size + 1);
    if (text == NULL) {
        return 0;
    }
    memcpy(text, data, size);
    text[size] = 0;
    if (ot_launch_python_parse(text, &p, NULL) == OT_OK) {
        check(&p);
    }
    (void)ot_launch_module_ok(text);
    free(text);
    return 0;
}
