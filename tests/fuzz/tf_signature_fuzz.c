/* links: base */
/* The reader of SavedModel signatures: any bytes give a signature within its limits or a reason. */
#include "../../plugins/tensorflow/tf_signature.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static tf_signature sig;
    char why[128];
    static char names[TF_SIGNATURES_MAX][TF_KEY_MAX];
    uint32_t n = tf_signature_names(data, size, names);
    for (uint32_t i = 0; i < n; i++) {
        if (names[i][0] == '\0' || memchr(names[i], 0, TF_KEY_MAX) == NULL) {
            abort();
        }
        (void)tf_signature_read(data, size, names[i], &sig, why, sizeof why);
    }
    static const char *const wanted[] = {NULL, "serve"};
    for (size_t k = 0; k < 2; k++) {
        if (!tf_signature_read(data, size, wanted[k], &sig, why, sizeof why)) {
            if (why[0] == '\0') {
                abort();
            }
            continue;
        }
        for (uint32_t i = 0; i < sig.n_inputs; i++) {
            if (sig.inputs[i].rank > TF_RANK_MAX || sig.inputs[i].key[0] == '\0') {
                abort();
            }
        }
    }
    return 0;
}
