/* links: backup store base */
/* Reads a manifest of a backup. Whatever it says, no item leaves the backup's folders. */
#include "backup/manifest.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static ot_rc check(void *arg, const ot_backup_item *item, ot_error *err)
{
    (void)arg;
    (void)err;
    if (!ot_path_is_clean(item->path) ||
        !(ot_has_prefix(item->path, "store/") || ot_has_prefix(item->path, "runs/"))) {
        abort();
    }
    return OT_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ot_manifest_in m;
    ot_rc rc = OT_OK;
    ot_manifest_in_init(&m, "manifest", check, NULL);
    while (size > 0 && rc == OT_OK) {
        const uint8_t *end = memchr(data, '\n', size);
        size_t n = end != NULL ? (size_t)(end - data) : size;
        OT_AUTO(ot_free_ptr) char *line = ot_strndup((const char *)data, n);
        if (n > OT_BACKUP_LINE_MAX || strlen(line) != n) {
            return 0; /* what reads lines refuses it before */
        }
        rc = ot_manifest_in_line(&m, line, n, NULL);
        data += n + (end != NULL);
        size -= n + (end != NULL);
    }
    if (rc == OT_OK && ot_manifest_in_end(&m, NULL) == OT_OK && m.line < 2) {
        abort();
    }
    return 0;
}
