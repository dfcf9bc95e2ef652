/* links: registry model store stats codec base */
/* manifest.json and saved.json of a checkpoint: what is refused has a reason, what is accepted
 * names clean paths, each once. */
#include "registry/checkpoint.h"

#include "base/disk.h"
#include "base/mem.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ot_error e = {0};
    ot_checkpoint_manifest m;
    ot_checkpoint_saved s;
    if (ot_checkpoint_manifest_parse((const char *)data, size, &m, &e) == OT_OK) {
        for (size_t i = 0; i < m.n_files; i++) {
            if (!ot_path_is_clean(m.files[i].path) ||
                (i > 0 && strcmp(m.files[i - 1].path, m.files[i].path) >= 0)) {
                abort();
            }
        }
        ot_free(m.files);
    } else if (e.msg[0] == 0) {
        abort(); /* refused without a reason */
    }
    if (ot_checkpoint_saved_parse((const char *)data, size, &s, &e) == OT_OK) {
        if (s.step < 0 || s.step > OT_CHECKPOINT_STEP_MAX || s.metrics[0] != '{') {
            abort();
        }
        ot_free(s.metrics);
    }
    return 0;
}
