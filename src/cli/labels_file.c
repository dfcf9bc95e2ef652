#include "cli/labels_file.h"

#include "base/disk.h"
#include "base/mem.h"
#include "cli/csv.h"
#include "cli/text.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define LINE_BYTES_MAX (1u << 20)

struct ot_labels_file {
    const char *path;
    ot_labels_columns columns;
    ot_file *file;
    uint64_t at, size;
    bool is_json;
    /* CSV: which fields, and how many a record has */
    ot_csv csv;
    size_t id, label, time, n;
    /* JSON lines */
    int64_t line;
    ot_str text, kept_id;
};

static ot_rc give(void *arg, char *p, size_t cap, size_t *n_out, ot_error *err)
{
    ot_labels_file *f = arg;
    OT_TRY(f->file->ops->pread(f->file, p, cap, f->at, n_out, err));
    f->at += *n_out;
    return OT_OK;
}

__attribute__((format(printf, 4, 5))) static ot_rc bad(const ot_labels_file *f, int64_t line,
                                                       ot_error *err, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return ot_fail(err, OT_INVALID, "%s:%" PRId64 ": %s", f->path, line, text);
}

static ot_rc next_record(ot_labels_file *f, size_t *n_out, int64_t *line_out, ot_error *err)
{
    ot_error e = {0};
    ot_rc rc = ot_csv_next(&f->csv, n_out, line_out, &e);
    if (rc == OT_OK) {
        return OT_OK;
    }
    return ot_fail(err, rc, "%s:%s%s", f->path, rc == OT_INVALID ? "" : " ", e.msg);
}

/* A column by its name; the list of what is there when it is not. */
static ot_rc find_column(const ot_labels_file *f, size_t n, int64_t line, const char *option,
                         const char *name, size_t *at_out, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str names = OT_STR_INIT;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(ot_csv_field(&f->csv, i), name) == 0) {
            *at_out = i;
            return OT_OK;
        }
        if (names.len < 200) {
            ot_str_addf(&names, "%s'%.60s'", i > 0 ? ", " : "", ot_csv_field(&f->csv, i));
        }
    }
    return bad(f, line, err, "--%s: no column '%.60s'; the header has %s", option, name,
               names.data);
}

static ot_rc read_header(ot_labels_file *f, ot_error *err)
{
    int64_t line;
    OT_TRY(next_record(f, &f->n, &line, err));
    if (f->n == 0) {
        return ot_fail(err, OT_INVALID, "%s: empty; a CSV file begins with a line of names",
                       f->path);
    }
    OT_TRY(find_column(f, f->n, line, "id", f->columns.id, &f->id, err));
    OT_TRY(find_column(f, f->n, line, "label", f->columns.label, &f->label, err));
    return f->columns.time == NULL
               ? OT_OK
               : find_column(f, f->n, line, "time", f->columns.time, &f->time, err);
}

ot_rc ot_labels_file_open(const char *path, const ot_labels_columns *columns,
                          ot_labels_file **file_out, ot_error *err)
{
    ot_labels_file *f = ot_calloc(1, sizeof *f);
    if (f == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory to read %s", path);
    }
    f->path = path;
    f->columns = *columns;
    f->is_json = ot_has_suffix(path, ".jsonl") || ot_has_suffix(path, ".ndjson");
    ot_csv_init(&f->csv, give, f);
    ot_str_init(&f->text);
    ot_str_init(&f->kept_id);
    ot_disk *d = ot_disk_posix();
    ot_rc rc = d->ops->open(d, path, OT_OPEN_READ, 0, &f->file, err);
    if (rc == OT_OK) {
        rc = f->file->ops->size(f->file, &f->size, err);
    }
    if (rc == OT_OK && !f->is_json) {
        rc = read_header(f, err);
    }
    if (rc != OT_OK) {
        ot_labels_file_close(f);
        return rc;
    }
    *file_out = f;
    return OT_OK;
}

void ot_labels_file_close(ot_labels_file *f)
{
    if (f != NULL) {
        ot_csv_done(&f->csv);
        ot_str_done(&f->text);
        ot_str_done(&f->kept_id);
        ot_file_close(f->file);
        ot_free(f);
    }
}

void ot_labels_file_progress(const ot_labels_file *f, uint64_t *read_out, uint64_t *size_out)
{
    *read_out = f->at;
    *size_out = f->size;
}

/* A number is seconds since the epoch; else a date (cli/text.h). */
static bool read_time(const char *text, int64_t *us_out)
{
    double seconds;
    if (ot_parse_f64(text, &seconds, NULL) == OT_OK) {
        *us_out = seconds > 0 && seconds < 1e11 ? (int64_t)(seconds * 1e6) : 0;
        return *us_out > 0;
    }
    return strchr(text, '-') != NULL && ot_cli_parse_time(text, 0, us_out, NULL) == OT_OK &&
           *us_out > 0;
}

static ot_rc check_row(const ot_labels_file *f, const ot_label_row *row, ot_error *err)
{
    size_t n = strlen(row->id);
    if (n == 0) {
        return bad(f, row->line, err, "no id");
    }
    if (n > OT_LABEL_ID_MAX) {
        return bad(f, row->line, err, "an id of more than 256 bytes: '%.40s...'", row->id);
    }
    json_t *text = json_string(row->id);
    json_decref(text);
    if (text == NULL) {
        return bad(f, row->line, err, "an id that is not UTF-8");
    }
    return OT_OK;
}

/* --- CSV ----------------------------------------------------------------------------------------
 */

static ot_rc next_csv(ot_labels_file *f, ot_label_row *row, bool *end, ot_error *err)
{
    size_t n;
    OT_TRY(next_record(f, &n, &row->line, err));
    *end = n == 0;
    if (n == 0) {
        return OT_OK;
    }
    if (n != f->n) {
        return bad(f, row->line, err, "%zu fields; the header has %zu", n, f->n);
    }
    const char *value = ot_csv_field(&f->csv, f->label);
    row->id = ot_csv_field(&f->csv, f->id);
    if (ot_parse_f64(value, &row->value, NULL) != OT_OK) {
        return bad(f, row->line, err, "%s '%.60s' is not a number: the class number or the value",
                   f->columns.label, value);
    }
    row->time_us = 0;
    if (f->columns.time != NULL && ot_csv_field(&f->csv, f->time)[0] != 0 &&
        !read_time(ot_csv_field(&f->csv, f->time), &row->time_us)) {
        return bad(f, row->line, err,
                   "%s '%.60s' is not a time: 2026-11-23T10:15:00Z, or seconds since 1970",
                   f->columns.time, ot_csv_field(&f->csv, f->time));
    }
    return OT_OK;
}

/* --- JSON lines ---------------------------------------------------------------------------------
 */

/* The next line that is not empty, without its end; *end at the end of the file. */
static ot_rc next_line(ot_labels_file *f, bool *end, ot_error *err)
{
    ot_csv *b = &f->csv; /* only its buffer */
    ot_str_clear(&f->text);
    for (;;) {
        if (b->at == b->len) {
            b->at = 0;
            OT_TRY(give(f, b->buf, sizeof b->buf, &b->len, err));
        }
        const char *p = b->buf + b->at, *stop = memchr(p, '\n', b->len - b->at);
        size_t n = stop != NULL ? (size_t)(stop - p) : b->len - b->at;
        if (f->text.len + n > LINE_BYTES_MAX) {
            return bad(f, f->line + 1, err, "a line of more than 1 MiB");
        }
        ot_str_add(&f->text, p, n);
        b->at += n + (stop != NULL);
        *end = b->len == 0;
        if (stop == NULL && !*end) {
            continue;
        }
        f->line++;
        bool empty = strspn(f->text.data, " \t\r") == f->text.len;
        *end = *end && empty;
        if (!empty || *end) {
            return f->text.failed ? ot_fail(err, OT_EXHAUSTED, "no memory for a line") : OT_OK;
        }
        ot_str_clear(&f->text);
    }
}

/* An id may be written as a whole number. */
static bool take_id(ot_labels_file *f, const json_t *id, ot_label_row *row)
{
    ot_str_clear(&f->kept_id);
    if (json_is_integer(id)) {
        ot_str_addf(&f->kept_id, "%" JSON_INTEGER_FORMAT, json_integer_value(id));
    } else if (json_is_string(id)) {
        ot_str_adds(&f->kept_id, json_string_value(id));
    }
    row->id = f->kept_id.data;
    return !f->kept_id.failed;
}

static ot_rc take_object(ot_labels_file *f, const json_t *o, ot_label_row *row, ot_error *err)
{
    const json_t *value = json_object_get(o, f->columns.label);
    const json_t *time = f->columns.time != NULL ? json_object_get(o, f->columns.time) : NULL;
    if (!take_id(f, json_object_get(o, f->columns.id), row)) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for an id");
    }
    if (!json_is_number(value)) {
        return bad(f, row->line, err, "'%s' must be a number: the class number or the value",
                   f->columns.label);
    }
    row->value = json_number_value(value);
    row->time_us = 0;
    if (json_is_number(time)) {
        char text[40];
        snprintf(text, sizeof text, "%.6f", json_number_value(time));
        return read_time(text, &row->time_us)
                   ? OT_OK
                   : bad(f, row->line, err, "'%s' must be seconds since 1970: %s", f->columns.time,
                         text);
    }
    if (time != NULL && !json_is_null(time) &&
        (!json_is_string(time) || !read_time(json_string_value(time), &row->time_us))) {
        return bad(f, row->line, err, "'%s' is not a time: 2026-11-23T10:15:00Z", f->columns.time);
    }
    return OT_OK;
}

static ot_rc next_json(ot_labels_file *f, ot_label_row *row, bool *end, ot_error *err)
{
    json_error_t e;
    OT_TRY(next_line(f, end, err));
    if (*end) {
        return OT_OK;
    }
    row->line = f->line;
    json_t *o = json_loadb(f->text.data, f->text.len, JSON_REJECT_DUPLICATES, &e);
    if (!json_is_object(o)) {
        json_decref(o);
        return bad(f, f->line, err, "not a JSON object%s%s", o == NULL ? ": " : "",
                   o == NULL ? e.text : "");
    }
    ot_rc rc = take_object(f, o, row, err);
    json_decref(o);
    return rc;
}

ot_rc ot_labels_file_next(ot_labels_file *f, ot_label_row *row_out, bool *end_out, ot_error *err)
{
    ot_label_row row = {0};
    bool end = false;
    OT_TRY(f->is_json ? next_json(f, &row, &end, err) : next_csv(f, &row, &end, err));
    if (!end) {
        OT_TRY(check_row(f, &row, err));
        *row_out = row;
    }
    *end_out = end;
    return OT_OK;
}
