/* Labels out of a file, one at a time: CSV with a header (cli/csv.h), or JSON lines (.jsonl,
 * .ndjson).
 *
 * Threads: one at a time. Lifetime: open/close. Errors of the content are OT_INVALID and begin with
 * FILE:LINE. */
#ifndef OT_CLI_LABELS_FILE_H
#define OT_CLI_LABELS_FILE_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

#define OT_LABEL_ID_MAX 256 /* bytes */

typedef struct ot_labels_file ot_labels_file;

/* Names of columns; of JSON lines: of members. `time` may be NULL. Borrowed until close. */
typedef struct ot_labels_columns {
    const char *id, *label, *time;
} ot_labels_columns;

typedef struct ot_label_row {
    const char *id; /* valid until the next call */
    double value;
    int64_t time_us; /* 0: the file does not say */
    int64_t line;
} ot_label_row;

ot_rc ot_labels_file_open(const char *path, const ot_labels_columns *columns,
                          ot_labels_file **file_out, ot_error *err) OT_CHECKED;
void ot_labels_file_close(ot_labels_file *f);
/* *end_out at the end of the file; then *row_out is untouched. */
ot_rc ot_labels_file_next(ot_labels_file *f, ot_label_row *row_out, bool *end_out,
                          ot_error *err) OT_CHECKED;
/* Bytes read and in all: progress. */
void ot_labels_file_progress(const ot_labels_file *f, uint64_t *read_out, uint64_t *size_out);

#endif
