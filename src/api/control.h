/* The control plane's process: one loop with API, hub and pipeline, beside the store's writer.
 *
 * Threads: ot_control_run owns the calling thread until SIGTERM or SIGINT. */
#ifndef OT_API_CONTROL_H
#define OT_API_CONTROL_H

#include "base/error.h"

typedef struct ot_control_options {
    const char *data_dir;
    int listen_fd;      /* the API's listening socket, from the supervisor; -1: open `listen` */
    const char *listen; /* address to open when there is no listen_fd */
    const char *exe;    /* our binary, for runs; NULL: /proc/self/exe */
} ot_control_options;

/* Errors: the data directory is in use, the schema is newer, the address is not loopback (without
 * TLS the API is refused elsewhere). */
ot_rc ot_control_run(const ot_control_options *o, ot_error *err) OT_CHECKED;

#endif
