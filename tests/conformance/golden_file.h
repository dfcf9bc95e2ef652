/* Golden answers as tests/golden/make_models.py writes them. */
#ifndef OT_TESTS_CONFORMANCE_GOLDEN_FILE_H
#define OT_TESTS_CONFORMANCE_GOLDEN_FILE_H

#include <stddef.h>

/* Fills x with the inputs, `width` numbers a row, at most rows_max rows. Returns the rows, 0 with a
 * line on stdout when the file doesn't fit. *y_out: the answers, row by row; free with ot_free. */
int golden_read(const char *file, size_t width, int rows_max, float *x, float **y_out);

#endif
