#include "golden_file.h"
#include "base/disk.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>

int golden_read(const char *file, size_t width, int rows_max, float *x, float **y_out)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    ot_error err;
    if (ot_disk_read_all(ot_disk_posix(), file, 64u << 20, &text, &err) != OT_OK) {
        printf("# %s\n", err.msg);
        return 0;
    }
    char *at = text.data;
    long rows = strtol(at, &at, 10), n_in = strtol(at, &at, 10), n_out = strtol(at, &at, 10);
    if (rows < 1 || rows > rows_max || n_out < 1 || n_in < 1 || (size_t)n_in != width) {
        printf("# %s: %ld rows of %ld and %ld numbers don't fit the model\n", file, rows, n_in,
               n_out);
        return 0;
    }
    float *y = ot_calloc((size_t)rows * (size_t)n_out, sizeof *y);
    if (y == NULL) {
        return 0;
    }
    for (long r = 0; r < rows; r++) {
        for (long i = 0; i < n_in; i++) {
            x[r * n_in + i] = strtof(at, &at);
        }
        for (long i = 0; i < n_out; i++) {
            y[r * n_out + i] = strtof(at, &at);
        }
    }
    *y_out = y;
    return (int)rows;
}
