/* Reads a file of tests/golden/codec, found from the repository's root or beside it. */
#ifndef OT_TESTS_CODEC_GOLDEN_H
#define OT_TESTS_CODEC_GOLDEN_H

#include "base/disk.h"

#include <stdio.h>

static inline bool golden_read(const char *name, ot_str *out)
{
    char path[300];
    ot_error err;
    snprintf(path, sizeof path, "tests/golden/codec/%s", name);
    ot_str_clear(out);
    if (ot_disk_read_all(ot_disk_posix(), path, 1 << 20, out, &err) != OT_OK) {
        printf("# %s (run from the repository's root; made by tests/golden/make_codec.py)\n",
               err.msg);
        return false;
    }
    return true;
}

#endif
