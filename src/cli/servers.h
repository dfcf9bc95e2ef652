/* Servers by name, as this user of this machine calls them:
 * ${XDG_CONFIG_HOME:-~/.config}/overtake/servers.json, mode 0600. It holds addresses and where the
 * tokens lie, never a token.
 *
 * Threads: one at a time. */
#ifndef OT_CLI_SERVERS_H
#define OT_CLI_SERVERS_H

#include "cli/client.h"

/* {"NAME": {"url", "token_file"}...}; an empty object when there is no file. The caller drops it.
 */
ot_rc ot_cli_servers_read(json_t **servers_out, ot_error *err) OT_CHECKED;
ot_rc ot_cli_servers_write(const json_t *servers, ot_error *err) OT_CHECKED;

/* A client of --to: a name of the file, or a URL, which needs --token-file. */
#define OT_CLI_TO_OPTS                                                                             \
    {.name = "to",                                                                                 \
     .type = OT_OPT_STRING,                                                                        \
     .value = "SERVER",                                                                            \
     .help = "a name (overtake servers add), or its URL with --token-file",                        \
     .env = ""},                                                                                   \
    {                                                                                              \
        .name = "token-file", .type = OT_OPT_STRING, .value = "FILE",                              \
        .help = "file with the token of --to, when that is a URL", .env = ""                       \
    }
ot_rc ot_cli_servers_open(const ot_args *args, ot_cli_client **client_out,
                          ot_error *err) OT_CHECKED;

#endif
