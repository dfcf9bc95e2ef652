#include "cli/table.h"

#include "cli/text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define CELL_MAX 200

void ot_cli_table_init(ot_cli_table *t, const char *const *headings, size_t n)
{
    *t = (ot_cli_table){.n_columns = OT_MIN(n, (size_t)OT_CLI_COLUMNS_MAX)};
    for (size_t i = 0; i < t->n_columns; i++) {
        t->headings[i] = headings[i];
    }
}

void ot_cli_table_done(ot_cli_table *t)
{
    for (size_t i = 0; i < t->n_cells; i++) {
        ot_free(t->cells[i]);
    }
    ot_free(t->cells);
    *t = (ot_cli_table){0};
}

/* Bytes that a terminal would obey are not a table's business. */
static void sanitize(char *s)
{
    for (; *s != 0; s++) {
        unsigned char c = (unsigned char)*s;
        *s = c < ' ' || c == 127 ? '?' : *s;
    }
}

void ot_cli_table_cell(ot_cli_table *t, const char *text)
{
    if (!ot_grow(&t->cells, &t->cap, t->n_cells, sizeof *t->cells, 0)) {
        t->failed = true;
        return;
    }
    char *copy = ot_strndup(text != NULL && text[0] != 0 ? text : "-", CELL_MAX);
    if (copy == NULL) {
        t->failed = true;
        return;
    }
    sanitize(copy);
    t->cells[t->n_cells++] = copy;
}

void ot_cli_table_cellf(ot_cli_table *t, const char *fmt, ...)
{
    char buf[CELL_MAX + 1];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(buf, sizeof buf, fmt, ap);
    va_end(ap);
    ot_cli_table_cell(t, buf);
}

/* Columns on a terminal: characters, not bytes. */
static size_t width_of(const char *s)
{
    size_t n = 0;
    for (; *s != 0; s++) {
        n += ((unsigned char)*s & 0xc0) != 0x80;
    }
    return n;
}

static void put(ot_str *out, const char *s, size_t width, bool right, bool last)
{
    size_t pad = width - OT_MIN(width, width_of(s));
    for (size_t i = 0; right && i < pad; i++) {
        ot_str_addc(out, ' ');
    }
    ot_str_adds(out, s);
    for (size_t i = 0; !right && !last && i < pad; i++) {
        ot_str_addc(out, ' ');
    }
    ot_str_adds(out, last ? "\n" : "  ");
}

void ot_cli_table_print(const ot_cli_table *t, ot_str *out)
{
    size_t width[OT_CLI_COLUMNS_MAX];
    bool right[OT_CLI_COLUMNS_MAX];
    for (size_t c = 0; c < t->n_columns; c++) {
        right[c] = t->headings[c][0] == '>';
        width[c] = width_of(t->headings[c] + right[c]);
        for (size_t i = c; i < t->n_cells; i += t->n_columns) {
            width[c] = OT_MAX(width[c], width_of(t->cells[i]));
        }
    }
    for (size_t c = 0; c < t->n_columns; c++) {
        put(out, t->headings[c] + right[c], width[c], right[c], c + 1 == t->n_columns);
    }
    for (size_t i = 0; i < t->n_cells; i++) {
        size_t c = i % t->n_columns;
        put(out, t->cells[i], width[c], right[c], c + 1 == t->n_columns || i + 1 == t->n_cells);
    }
    if (t->failed) {
        out->failed = true;
    }
}

static const json_t *at_path(const json_t *v, const char *path)
{
    char key[64];
    while (v != NULL && *path != 0) {
        size_t n = strcspn(path, ".");
        snprintf(key, sizeof key, "%.*s", (int)n, path);
        v = json_object_get(v, key);
        path += n + (path[n] == '.');
    }
    return v;
}

static void number_cell(ot_cli_table *t, const json_t *v, ot_cli_form form)
{
    char buf[32];
    double x = json_number_value(v);
    switch (form) {
    case OT_CLI_TIME:
        ot_cli_table_cell(t, x > 0 ? ot_cli_time((int64_t)x, buf) : NULL);
        break;
    case OT_CLI_DURATION:
        ot_cli_table_cell(t, ot_format_duration((int64_t)x, buf));
        break;
    case OT_CLI_SIZE:
        ot_cli_table_cell(t, ot_format_size(x > 0 ? (uint64_t)x : 0, buf));
        break;
    case OT_CLI_PERCENT:
        ot_cli_table_cellf(t, "%.4g%%", x * 100);
        break;
    case OT_CLI_PLAIN:
        if (json_is_integer(v)) {
            ot_cli_table_cellf(t, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
        } else {
            ot_cli_table_cellf(t, "%.6g", x);
        }
        break;
    }
}

static void json_cell(ot_cli_table *t, const json_t *v, ot_cli_form form)
{
    if (json_is_string(v)) {
        ot_cli_table_cell(t, json_string_value(v));
    } else if (json_is_number(v)) {
        number_cell(t, v, form);
    } else if (json_is_boolean(v)) {
        ot_cli_table_cell(t, json_is_true(v) ? "yes" : "no");
    } else if (v == NULL || json_is_null(v)) {
        ot_cli_table_cell(t, NULL);
    } else {
        char *text = json_dumps(v, JSON_COMPACT);
        ot_cli_table_cell(t, text);
        free(text);
    }
}

void ot_cli_table_json(const json_t *array, const ot_cli_column *columns, size_t n, ot_str *out)
{
    const char *headings[OT_CLI_COLUMNS_MAX];
    ot_cli_table t;
    n = OT_MIN(n, (size_t)OT_CLI_COLUMNS_MAX);
    for (size_t i = 0; i < n; i++) {
        headings[i] = columns[i].heading;
    }
    ot_cli_table_init(&t, headings, n);
    size_t row;
    json_t *v;
    json_array_foreach(array, row, v)
    {
        for (size_t i = 0; i < n; i++) {
            json_cell(&t, at_path(v, columns[i].path), columns[i].form);
        }
    }
    ot_cli_table_print(&t, out);
    ot_cli_table_done(&t);
}
