/* What a command prints on stdout: a table for people, or the API's JSON as it came.
 *
 * Threads: one at a time. Lifetime: init/done; cells are copied. */
#ifndef OT_CLI_TABLE_H
#define OT_CLI_TABLE_H

#include "base/mem.h"
#include "base/str.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define OT_CLI_COLUMNS_MAX 16

typedef struct ot_cli_table {
    size_t n_columns, n_cells, cap;
    const char *headings[OT_CLI_COLUMNS_MAX];
    char **cells;
    bool failed; /* memory was short */
} ot_cli_table;

/* Headings are borrowed. A heading that starts with '>' makes its column right-aligned. */
void ot_cli_table_init(ot_cli_table *t, const char *const *headings, size_t n);
void ot_cli_table_done(ot_cli_table *t);
/* The next cell, row by row; NULL and "" print as "-". Control characters print as '?'. */
void ot_cli_table_cell(ot_cli_table *t, const char *text);
void ot_cli_table_cellf(ot_cli_table *t, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Appends the table; nothing but the headings when there is no row. */
void ot_cli_table_print(const ot_cli_table *t, ot_str *out);

/* A column of a table made from a JSON array: `path` is "champion.version" (a dot goes into an
 * object); `form` says how the value is written. */
typedef enum ot_cli_form {
    OT_CLI_PLAIN,
    OT_CLI_TIME,     /* microseconds since the epoch: local time; 0 as none */
    OT_CLI_DURATION, /* microseconds */
    OT_CLI_SIZE,     /* bytes */
    OT_CLI_PERCENT,  /* 0.25 -> 25% */
} ot_cli_form;
typedef struct ot_cli_column {
    const char *heading, *path;
    ot_cli_form form;
} ot_cli_column;
void ot_cli_table_json(const json_t *array, const ot_cli_column *columns, size_t n, ot_str *out);

#endif
