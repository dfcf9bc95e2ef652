#include "cli/csv.h"

#include "base/mem.h"

#include <inttypes.h>
#include <string.h>

void ot_csv_init(ot_csv *c, ot_csv_read_fn *read, void *arg)
{
    memset(c, 0, sizeof *c);
    c->read = read;
    c->arg = arg;
    c->line = 1;
    ot_str_init(&c->text);
}

void ot_csv_done(ot_csv *c)
{
    ot_str_done(&c->text);
    ot_free(c->starts);
    c->starts = NULL;
}

static ot_rc fail(int64_t line, const char *what, ot_error *err)
{
    return ot_fail(err, OT_INVALID, "%" PRId64 ": %s", line, what);
}

/* The next byte without taking it; -1 at the end. */
static ot_rc peek(ot_csv *c, int *byte_out, ot_error *err)
{
    if (c->at == c->len && !c->ended) {
        c->at = c->len = 0;
        OT_TRY(c->read(c->arg, c->buf, sizeof c->buf, &c->len, err));
        c->ended = c->len == 0;
    }
    *byte_out = c->at < c->len ? (unsigned char)c->buf[c->at] : -1;
    return OT_OK;
}

static ot_rc put(ot_csv *c, int byte, ot_error *err)
{
    if (byte == 0) {
        return fail(c->line, "a NUL byte: this is not text", err);
    }
    if (c->text.len >= OT_CSV_RECORD_MAX) {
        return fail(c->line, "a record of more than 1 MiB; is a quote left open before it?", err);
    }
    ot_str_addc(&c->text, (char)byte);
    return c->text.failed ? ot_fail(err, OT_EXHAUSTED, "no memory for a record") : OT_OK;
}

static ot_rc begin_field(ot_csv *c, ot_error *err)
{
    if (c->n == OT_CSV_FIELDS_MAX) {
        return fail(c->line, "a record of more than 4096 fields", err);
    }
    if (!ot_grow(&c->starts, &c->cap, c->n, sizeof *c->starts, 0)) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for a record");
    }
    c->starts[c->n++] = c->text.len;
    return OT_OK;
}

static ot_rc end_field(ot_csv *c, ot_error *err)
{
    ot_str_addc(&c->text, 0);
    return c->text.failed ? ot_fail(err, OT_EXHAUSTED, "no memory for a record") : OT_OK;
}

/* From after the opening quote to after the closing one. */
static ot_rc quoted(ot_csv *c, ot_error *err)
{
    int64_t opened = c->line;
    for (;;) {
        int b;
        OT_TRY(peek(c, &b, err));
        if (b < 0) {
            return fail(opened, "a quote that is never closed", err);
        }
        c->at++;
        c->line += b == '\n';
        if (b == '"') {
            OT_TRY(peek(c, &b, err));
            if (b != '"') {
                return OT_OK;
            }
            c->at++;
        }
        OT_TRY(put(c, b, err));
    }
}

static ot_rc bare(ot_csv *c, ot_error *err)
{
    for (;;) {
        int b;
        OT_TRY(peek(c, &b, err));
        if (b < 0 || b == ',' || b == '\n' || b == '\r') {
            return OT_OK;
        }
        if (b == '"') {
            return fail(c->line,
                        "a quote inside a field; put the field in quotes and write \"\" for it",
                        err);
        }
        c->at++;
        OT_TRY(put(c, b, err));
    }
}

/* What follows a field: *more_out for another one of the same record. */
static ot_rc separator(ot_csv *c, bool *more_out, ot_error *err)
{
    int b;
    OT_TRY(peek(c, &b, err));
    *more_out = b == ',';
    if (b == '\r') {
        c->at++;
        OT_TRY(peek(c, &b, err));
        if (b != '\n') {
            return fail(c->line, "a carriage return without a line feed", err);
        }
    }
    if (b != ',' && b != '\n' && b >= 0) {
        return fail(c->line, "something between a closing quote and the next comma", err);
    }
    c->at += b >= 0;
    c->line += b == '\n';
    return OT_OK;
}

static ot_rc record(ot_csv *c, ot_error *err)
{
    bool more = true;
    while (more) {
        int b;
        OT_TRY(begin_field(c, err));
        OT_TRY(peek(c, &b, err));
        if (b == '"') {
            c->at++;
            OT_TRY(quoted(c, err));
        } else {
            OT_TRY(bare(c, err));
        }
        OT_TRY(end_field(c, err));
        OT_TRY(separator(c, &more, err));
    }
    return OT_OK;
}

static ot_rc skip_mark(ot_csv *c, ot_error *err)
{
    static const char mark[3] = {'\xef', '\xbb', '\xbf'};
    int b;
    for (size_t i = 0; i < sizeof mark; i++) {
        OT_TRY(peek(c, &b, err));
        if (b != (unsigned char)mark[i]) {
            return i == 0 ? OT_OK : fail(1, "half a byte order mark: this is not UTF-8", err);
        }
        c->at++;
    }
    return OT_OK;
}

ot_rc ot_csv_next(ot_csv *c, size_t *n_out, int64_t *line_out, ot_error *err)
{
    int b;
    if (c->line == 1 && c->n == 0 && !c->ended && c->len == 0) {
        OT_TRY(skip_mark(c, err));
    }
    for (;;) {
        OT_TRY(peek(c, &b, err));
        c->n = 0;
        ot_str_clear(&c->text);
        *line_out = c->line;
        if (b < 0) {
            *n_out = 0;
            return OT_OK;
        }
        bool quote = b == '"';
        OT_TRY(record(c, err));
        if (c->n > 1 || quote || c->text.len > 1) {
            *n_out = c->n;
            return OT_OK;
        } /* an empty line */
    }
}

const char *ot_csv_field(const ot_csv *c, size_t i)
{
    return c->text.data + c->starts[i];
}
