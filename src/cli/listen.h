/* The listeners of a replica, from the options that name them. */
#ifndef OT_CLI_LISTEN_H
#define OT_CLI_LISTEN_H

#include "base/options.h"
#include "serve/serve.h"

/* Rows of a command's table of options. */
#define OT_CLI_LISTEN_OPT                                                                          \
    {                                                                                              \
        .name = "listen", .type = OT_OPT_STRINGS, .value = "ADDRESS",                              \
        .help = "where to listen, in clear text (default: 127.0.0.1:8000)"                         \
    }
#define OT_CLI_LISTEN_MORE_OPTS                                                                    \
    {.name = "listen-tls",                                                                         \
     .type = OT_OPT_STRINGS,                                                                       \
     .value = "ADDRESS",                                                                           \
     .help = "where to listen with TLS"},                                                          \
        {.name = "tls-cert",                                                                       \
         .type = OT_OPT_STRING,                                                                    \
         .value = "FILE",                                                                          \
         .help = "certificate and those above it, PEM; read again when it changes"},               \
        {.name = "tls-key",                                                                        \
         .type = OT_OPT_STRING,                                                                    \
         .value = "FILE",                                                                          \
         .help = "its private key, PEM"},                                                          \
        {.name = "tls-client-ca",                                                                  \
         .type = OT_OPT_STRING,                                                                    \
         .value = "FILE",                                                                          \
         .help = "clients must show a certificate signed by one of these, PEM"},                   \
        {.name = "compat",                                                                         \
         .type = OT_OPT_STRINGS,                                                                   \
         .value = "SERVER",                                                                        \
         .help = "also the ports of triton (8000-8002) or tfserving (8500, 8501)"},                \
    {                                                                                              \
        .name = "compat-host", .type = OT_OPT_STRING, .value = "HOST", .def = "127.0.0.1",         \
        .help = "the host that --compat listens on"                                                \
    }
/* How `up` hands its listeners to a replica: a descriptor, and ":tls" where it speaks that. */
#define OT_CLI_LISTEN_FD_OPT                                                                       \
    {                                                                                              \
        .name = "listen-fd", .type = OT_OPT_STRINGS, .hidden = true, .value = "FD[:tls]",          \
        .help = "a listening socket that was handed over, instead of --listen"                     \
    }

typedef struct ot_cli_listener {
    ot_addr addr; /* with the port that was chosen */
    bool tls;
} ot_cli_listener;

typedef struct ot_cli_listeners {
    ot_serve_listener fds[OT_SERVE_LISTENERS_MAX];
    ot_cli_listener named[OT_SERVE_LISTENERS_MAX];
    size_t n;
    bool given; /* they were handed over */
} ot_cli_listeners;

/* Opens all, or takes what was handed over; none stays open on failure. */
ot_rc ot_cli_listen(const ot_args *args, ot_cli_listeners *out, ot_error *err) OT_CHECKED;
/* Those of OT_CLI_LISTEN_MORE_OPTS, behind the ones that *l has. On failure what was opened stays
 * in *l. */
ot_rc ot_cli_listen_more(const ot_args *args, ot_cli_listeners *l, ot_error *err) OT_CHECKED;
ot_tls_files ot_cli_tls_files(const ot_args *args);
void ot_cli_unlisten(ot_cli_listeners *l); /* those that were handed over stay open */
void ot_cli_listener_url(const ot_cli_listener *l, char out[320]);
/* One line each, on stdout; nothing of what was handed over. */
void ot_cli_announce(const ot_args *args, const ot_cli_listeners *l);

#endif
