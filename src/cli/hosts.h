/* Where a job runs, from the options --hosts and --hostfile of a command, else from Slurm.
 *
 * Threads: any. */
#ifndef OT_CLI_HOSTS_H
#define OT_CLI_HOSTS_H

#include "base/options.h"
#include "launch/hosts.h"

/* The default of --ssh. */
#define OT_CLI_HOSTS_SSH "ssh -o BatchMode=yes -o ServerAliveInterval=5"

/* Options of every command that runs a job on hosts; --np, --hosts and --remote-program say what
 * they are to the command. */
#define OT_CLI_HOSTS_OPTS                                                                          \
    {.name = "hostfile",                                                                           \
     .type = OT_OPT_STRING,                                                                        \
     .value = "FILE",                                                                              \
     .help = "the same from a file: lines 'host:4' or 'host slots=4'",                             \
     .env = ""},                                                                                   \
        {.name = "env",                                                                            \
         .letter = 'x',                                                                            \
         .type = OT_OPT_STRINGS,                                                                   \
         .value = "NAME[=VALUE]",                                                                  \
         .help = "a variable for the ranks, on all hosts",                                         \
         .env = ""},                                                                               \
        {.name = "ssh",                                                                            \
         .type = OT_OPT_STRING,                                                                    \
         .value = "COMMAND",                                                                       \
         .def = OT_CLI_HOSTS_SSH,                                                                  \
         .help = "what runs a command on another host; the host's name follows",                   \
         .env = ""},                                                                               \
    {                                                                                              \
        .name = "address", .type = OT_OPT_STRING, .value = "IP",                                   \
        .help = "where the other hosts reach this one; all that it has are tried when not given",  \
        .env = ""                                                                                  \
    }

/* Where nothing is said: `here` ranks on this host, at least one. */
ot_rc ot_cli_hosts_read(const ot_args *args, int64_t here, ot_job_hosts *h,
                        ot_error *err) OT_CHECKED;
/* What runs a command on another host. */
const char *ot_cli_hosts_ssh(const ot_args *args);

#endif
