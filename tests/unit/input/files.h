/* A directory of its own with files for the tests of input, removed at the end. */
#ifndef OT_TESTS_INPUT_FILES_H
#define OT_TESTS_INPUT_FILES_H

#include "base/disk.h"
#include "base/mem.h"
#include "codec/npy.h"
#include "input/source.h"
#include "tap.h"

#include <stdlib.h>
#include <unistd.h>

static char files_dir[64] = "/tmp/ot-input-XXXXXX";

static bool files_begin(void)
{
    return mkdtemp(files_dir) != NULL;
}

static void files_end(void)
{
    if (ot_disk_remove_tree(ot_disk_posix(), files_dir, NULL) != OT_OK) {
        printf("# %s was not removed\n", files_dir);
    }
}

/* Static: the path of a file in the directory; 32 at a time. */
__attribute__((unused)) static const char *files_path(const char *name)
{
    static char paths[32][256];
    static int turn;
    char *p = paths[turn++ % 32];
    snprintf(p, sizeof paths[0], "%s/%s", files_dir, name);
    return p;
}

__attribute__((unused)) static void files_write(const char *name, const void *p, size_t n)
{
    ot_error err = {0};
    if (ot_disk_write_atomic(ot_disk_posix(), files_path(name), p, n, 0644, &err) != OT_OK) {
        ok(false, "write %s: %s", name, err.msg);
    }
}

/* NAME: rows first..first + rows - 1 of an FP32 column of `width`; number k of row r is 10 r + k.
 */
__attribute__((unused)) static void files_npy(const char *name, int64_t first, int64_t rows,
                                              int64_t width)
{
    size_t bytes = (size_t)(rows * width) * sizeof(float);
    float *x = ot_alloc(bytes);
    for (int64_t i = 0; i < rows * width; i++) {
        x[i] = (float)(10 * (first + i / width) + i % width);
    }
    ot_tensor t = {
        .dtype = OT_DT_FP32, .rank = 2, .dims = {rows, width}, .data = x, .size_bytes = bytes};
    ot_str s = OT_STR_INIT;
    if (ot_npy_header(&t, &s, NULL) == OT_OK) {
        ot_str_add(&s, x, bytes);
    }
    files_write(name, s.data, s.len);
    ot_str_done(&s);
    ot_free(x);
}

__attribute__((unused)) static ot_source *files_open(const char *const *paths, size_t n, bool read,
                                                     ot_error *err)
{
    ot_source *s = NULL;
    ot_source_options o = {.disk = ot_disk_posix(), .paths = paths, .n_paths = n, .read = read};
    return ot_source_create(&o, &s, err) == OT_OK ? s : NULL;
}

#endif
