/* Records of a CSV file (RFC 4180), one at a time, in bounded memory.
 *
 * Fields are separated by commas; a field in double quotes may hold commas, line ends and doubled
 * quotes; records end with LF or CRLF, the last one may end with the file. A byte order mark is
 * skipped, and so are empty lines. Refused, with the line: a quote inside a bare field, anything
 * but a comma or a line end after a closing quote, a quote that is never closed, a lone CR outside
 * quotes, NUL bytes, records larger than the caps below. Bytes are passed on as they are: UTF-8 is
 * not checked.
 *
 * Threads: one at a time. Lifetime: init/done. */
#ifndef OT_CLI_CSV_H
#define OT_CLI_CSV_H

#include "base/error.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

#define OT_CSV_RECORD_MAX (1u << 20) /* bytes of the fields of one record */
#define OT_CSV_FIELDS_MAX 4096

/* Gives up to `cap` bytes; *n_out 0 at the end. */
typedef ot_rc ot_csv_read_fn(void *arg, char *p, size_t cap, size_t *n_out, ot_error *err);

typedef struct ot_csv {
    ot_csv_read_fn *read;
    void *arg;
    char buf[65536];
    size_t at, len;
    bool ended;
    int64_t line;   /* that is read now, from 1 */
    ot_str text;    /* the record's fields, each with a NUL after it */
    size_t *starts; /* of the fields in text */
    size_t n, cap;
} ot_csv;

void ot_csv_init(ot_csv *c, ot_csv_read_fn *read, void *arg);
void ot_csv_done(ot_csv *c);

/* The next record: *n_out fields (0: the end) and the line that it began on. Fields are valid until
 * the next call. Errors of the text are OT_INVALID and begin with the line: "12: a quote ...". */
ot_rc ot_csv_next(ot_csv *c, size_t *n_out, int64_t *line_out, ot_error *err) OT_CHECKED;
const char *ot_csv_field(const ot_csv *c, size_t i);

#endif
