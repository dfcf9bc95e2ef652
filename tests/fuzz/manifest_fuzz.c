/* links: model stats codec base */
/* manifest.json and signatures: what is accepted is written, read again and written the same. */
#include "model/manifest.h"
#include "model/prediction.h"
#include "model/reference.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ot_error e;
    OT_AUTO(ot_manifest_done) ot_manifest signature = {0};
    OT_AUTO(ot_manifest_done) ot_manifest m = {0};
    OT_AUTO(ot_manifest_done) ot_manifest again = {0};
    if (ot_manifest_parse_signature((const char *)data, size, &signature, &e) == OT_OK) {
        size_t output;
        (void)ot_prediction_guess(&signature, &output);
        (void)ot_prediction_classes(&signature);
        (void)ot_reference_features(&signature);
    }
    if (ot_manifest_parse((const char *)data, size, &m, &e) != OT_OK) {
        if (strlen(e.msg) == 0) {
            abort(); /* refused without a reason */
        }
        return 0;
    }
    OT_AUTO(ot_str_done) ot_str first = OT_STR_INIT;
    OT_AUTO(ot_str_done) ot_str second = OT_STR_INIT;
    if (ot_manifest_write(&m, &first, &e) != OT_OK ||
        ot_manifest_parse(first.data, first.len, &again, &e) != OT_OK ||
        ot_manifest_write(&again, &second, &e) != OT_OK || strcmp(first.data, second.data) != 0) {
        abort();
    }
    return 0;
}
