/* links: input codec base */
/* JSON that lists the files of a dataset; no file of the system can be opened. */
#include "base/mem.h"
#include "input/source.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static ot_rc no_open(ot_disk *d, const char *path, unsigned flags, unsigned mode, ot_file **f_out,
                     ot_error *err)
{
    (void)d, (void)flags, (void)mode, (void)f_out;
    return ot_fail(err, OT_NOT_FOUND, "%s: nothing is here", path);
}

static ot_rc no_stat(ot_disk *d, const char *path, ot_stat *st_out, ot_error *err)
{
    (void)d, (void)st_out;
    return ot_fail(err, OT_NOT_FOUND, "%s: nothing is here", path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const ot_disk_ops ops = {.open = no_open, .stat = no_stat};
    ot_disk nothing = {.ops = &ops};
    ot_error e;
    ot_source *s;
    char *text = ot_strndup((const char *)data, size);
    ot_source_options o = {
        .disk = &nothing, .index = text, .directory = "/nowhere", .verify = true};
    if (text != NULL && ot_source_create(&o, &s, &e) == OT_OK) {
        abort(); /* without files there are no rows */
    }
    ot_free(text);
    return 0;
}
