/* links: model stats codec base */
/* Envelopes and statements: of any bytes, and with a signature that is good so that the statement
 * is reached. What is accepted is written, read again and written the same. */
#include "base/mem.h"
#include "model/statement.h"
#include "model/trust.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_statement(const char *json, size_t n)
{
    ot_error e;
    OT_AUTO(ot_statement_done) ot_statement s = {0};
    OT_AUTO(ot_statement_done) ot_statement again = {0};
    OT_AUTO(ot_str_done) ot_str first = OT_STR_INIT;
    OT_AUTO(ot_str_done) ot_str second = OT_STR_INIT;
    if (ot_statement_parse(json, n, &s, &e) != OT_OK) {
        if (strlen(e.msg) == 0) {
            abort(); /* refused without a reason */
        }
        return;
    }
    if (ot_statement_write(&s, &first, &e) != OT_OK ||
        ot_statement_parse(first.data, first.len, &again, &e) != OT_OK ||
        ot_statement_write(&again, &second, &e) != OT_OK || strcmp(first.data, second.data) != 0) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ot_error e;
    ot_key key;
    OT_AUTO(ot_envelope_done) ot_envelope env = {0};
    if (ot_key_parse((const char *)data, size, &key, &e) == OT_OK) {
        char text[OT_KEY_TEXT], id[OT_KEY_ID];
        ot_key again;
        ot_key_text(&key, text);
        ot_key_id(&key, id);
        if (ot_key_parse(text, strlen(text), &again, &e) != OT_OK || !ot_key_equal(&key, &again)) {
            abort();
        }
    }
    if (ot_envelope_parse((const char *)data, size, &env, &e) == OT_OK) {
        memset(&key, 7, sizeof key);
        if (ot_envelope_signed_by(&env, &key)) {
            abort(); /* nobody has the private half */
        }
        try_statement(env.payload.data, env.payload.len);
    }
    try_statement((const char *)data, size);
    return 0;
}
