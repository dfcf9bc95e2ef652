/* What the commands that send load have in common: options, and the end on SIGINT. */
#ifndef OT_CLI_LOADS_H
#define OT_CLI_LOADS_H

#include "cli/commands.h"
#include "load/target.h"

#include <signal.h>

#define OT_CLI_LOAD_PROTOCOL_OPT(names, text)                                                      \
    {                                                                                              \
        .name = "protocol", .letter = 'p', .type = OT_OPT_STRING, .choices = (names),              \
        .def = "binary", .help = text                                                              \
    }
#define OT_CLI_LOAD_CONNECTIONS_OPT(n)                                                             \
    {                                                                                              \
        .name = "connections", .letter = 'c', .type = OT_OPT_INT, .def = n, .min = "1",            \
        .max = "16384", .help = "connections"                                                      \
    }
#define OT_CLI_LOAD_TIMEOUT_OPT                                                                    \
    {                                                                                              \
        .name = "timeout", .type = OT_OPT_DURATION, .def = "10s", .min = "1ms", .max = "1h",       \
        .help = "an answer that takes longer is a failure"                                         \
    }
/* Of made-up inputs, and others instead. */
#define OT_CLI_LOAD_INPUT_OPTS                                                                     \
    {.name = "rows",                                                                               \
     .type = OT_OPT_INT,                                                                           \
     .def = "1",                                                                                   \
     .min = "1",                                                                                   \
     .max = "65536",                                                                               \
     .help = "rows of a request"},                                                                 \
        {.name = "open-dim",                                                                       \
         .type = OT_OPT_INT,                                                                       \
         .def = "1",                                                                               \
         .min = "1",                                                                               \
         .max = "1000000",                                                                         \
         .help = "size of the other axes that the model leaves open"},                             \
    {                                                                                              \
        .name = "data", .type = OT_OPT_STRING, .value = "FILE",                                    \
        .help =                                                                                    \
            "inputs instead of made-up ones: .npz with a column an input, or .json with requests", \
        .env = ""                                                                                  \
    }

#define OT_CLI_LOAD_TLS_OPTS                                                                       \
    {.name = "ca",                                                                                 \
     .type = OT_OPT_STRING,                                                                        \
     .value = "FILE",                                                                              \
     .help = "https: whom to trust, in PEM (default: whom the system trusts)",                     \
     .env = ""},                                                                                   \
    {                                                                                              \
        .name = "insecure", .type = OT_OPT_BOOL, .help = "https: take any certificate"             \
    }

ot_load_trust ot_cli_load_trust(const ot_args *args);
ot_load_protocol ot_cli_load_protocol(const ot_args *args);
/* Set by SIGINT from this call on. */
const volatile sig_atomic_t *ot_cli_load_stop(void);

#endif
