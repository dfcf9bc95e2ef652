/* Commands and their options: one table drives parsing, dispatch, --help and completion.
 *
 * A command is a constant (ot_command) with a table of typed options and named positional
 * arguments. Options are written `--name value` or `--name=value`, switches `--name` or
 * `--no-name`; an option that is not given takes the environment variable OVERTAKE_<NAME> ('-'
 * becomes '_') and then its default. `--` ends the options. Errors name the option, the value, the
 * limit and the near match.
 *
 * Threads: tables are constant; an ot_args belongs to one thread at a time. Lifetime: an ot_args
 * copies nothing from argv and the environment: both must outlive it. */
#ifndef OT_BASE_OPTIONS_H
#define OT_BASE_OPTIONS_H

#include "base/error.h"
#include "base/sock.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum ot_opt_type {
    OT_OPT_STRING,
    OT_OPT_INT,
    OT_OPT_BOOL,
    OT_OPT_DURATION, /* 250ms, 5s, 10min: microseconds */
    OT_OPT_SIZE,     /* 20k, 4GiB: bytes */
    OT_OPT_FRACTION, /* 0.1 or 10% */
    OT_OPT_ADDRESS,  /* host:port, :port, unix:PATH */
    OT_OPT_STRINGS,  /* may be repeated; the environment gives one value */
} ot_opt_type;

typedef struct ot_opt {
    const char *name; /* "listen-fd": without dashes */
    char letter;      /* also -X; 0 for none */
    ot_opt_type type;
    const char *value;     /* what --help calls the value ("DIR"); NULL takes the type's name */
    const char *def;       /* default, written as a user would; NULL: unset (a switch: off) */
    const char *min, *max; /* INT, DURATION, SIZE, FRACTION; written as a user would; or NULL */
    const char *const *choices; /* STRING: the allowed values, NULL at the end; or NULL */
    const char *help;           /* one line */
    bool required;
    bool hidden;     /* left out of --help and completion */
    const char *env; /* environment variable; NULL: OVERTAKE_<NAME>; "": none */
} ot_opt;

typedef struct ot_pos {
    const char *name; /* "app" */
    const char *help;
    bool optional;
    bool many; /* takes all that is left; only the last one */
} ot_pos;

typedef struct ot_args ot_args;

typedef struct ot_command {
    const char *name;    /* "up", or with a sub-command "labels import" */
    const char *summary; /* one line */
    const char *group;   /* heading in the list of commands; NULL: that of the one before */
    const char *detail;  /* paragraphs for --help; or NULL */
    const ot_opt *opts;  /* beside ot_opts_global */
    size_t n_opts;
    const ot_pos *pos;
    size_t n_pos;
    bool rest;                       /* accepts `-- ARGS...`, see ot_args_rest */
    bool hidden;                     /* left out of the list of commands and completion */
    int (*run)(const ot_args *args); /* the exit code: 0 success, 1 failed, 2 usage */
} ot_command;

/* OT_OPTS(table), OT_POS(table) fill pointer and count of an ot_command. */
#define OT_OPTS(t) .opts = (t), .n_opts = sizeof(t) / sizeof((t)[0])
#define OT_POS(t) .pos = (t), .n_pos = sizeof(t) / sizeof((t)[0])

/* The data directory, as every command that has one declares it. Not OVERTAKE_DATA: that is where a
 * run's program finds its datasets. */
#define OT_OPT_DATA_DIR                                                                            \
    {                                                                                              \
        .name = "data", .type = OT_OPT_STRING, .value = "DIR", .def = ".overtake",                 \
        .help = "data directory (or OVERTAKE_DIR)", .env = "OVERTAKE_DIR"                          \
    }

/* Every command has these: help, output (text | json), log-level, log-format. */
extern const ot_opt ot_opts_global[];
extern const size_t ot_opts_global_n;

/* The command that argv starts with (the longest name wins) and how many words it took.
 * OT_INVALID with the near match when there is none. */
ot_rc ot_command_find(const ot_command *const *table, size_t n, int argc, const char *const *argv,
                      const ot_command **cmd_out, int *words_out, ot_error *err) OT_CHECKED;

/* Parses what follows the command's name. With --help among the options nothing is missing and
 * nothing has a default: see ot_args_help. `env` looks a variable up; NULL takes getenv. */
ot_rc ot_args_parse(const ot_command *cmd, int argc, const char *const *argv,
                    const char *(*env)(const char *name), ot_args **args_out,
                    ot_error *err) OT_CHECKED;
void ot_args_destroy(ot_args *a);

/* The values. A name that the command does not declare, or one of another type, is our own bug
 * (assert). Strings are borrowed from argv, the environment or the table. */
const ot_command *ot_args_command(const ot_args *a);
bool ot_args_help(const ot_args *a);                         /* --help was given */
bool ot_args_json(const ot_args *a);                         /* --output json */
bool ot_args_given(const ot_args *a, const char *name);      /* on the line or in the environment */
bool ot_args_set(const ot_args *a, const char *name);        /* given or by default */
const char *ot_args_str(const ot_args *a, const char *name); /* NULL when unset */
int64_t ot_args_int(const ot_args *a, const char *name);     /* 0 when unset, and so below */
bool ot_args_bool(const ot_args *a, const char *name);
int64_t ot_args_us(const ot_args *a, const char *name);
uint64_t ot_args_size(const ot_args *a, const char *name);
double ot_args_fraction(const ot_args *a, const char *name);
const ot_addr *ot_args_addr(const ot_args *a, const char *name); /* NULL when unset */
size_t ot_args_list(const ot_args *a, const char *name, const char *const **values_out);
/* A positional argument by name: NULL when an optional one is absent. */
const char *ot_args_pos(const ot_args *a, const char *name);
size_t ot_args_many(const ot_args *a, const char *const **values_out); /* of the `many` one */
size_t ot_args_rest(const ot_args *a, const char *const **argv_out);   /* after `--` */

/* Text for people, appended to `out`. */
void ot_command_help(const ot_command *cmd, const char *program, ot_str *out);
void ot_command_list(const ot_command *const *table, size_t n, const char *program, ot_str *out);
void ot_command_completion_bash(const ot_command *const *table, size_t n, const char *program,
                                ot_str *out);

#endif
