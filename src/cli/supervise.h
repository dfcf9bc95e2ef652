/* A supervisor of a few children: starts, restarts, drains, reaps. Small on purpose: it must never
 * be what fails, so it allocates nothing after its start and does nothing else.
 *
 * A child that ends is started again: at once if it had run for a while, otherwise after a pause
 * that doubles up to 5 s. What it listens on is opened by the caller and inherited by each new
 * process, so no connection is refused meanwhile: it waits in the backlog.
 * Threads: the process's only one (it owns the signals). Lifetime: one call. */
#ifndef OT_CLI_SUPERVISE_H
#define OT_CLI_SUPERVISE_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define OT_SUPERVISE_CHILDREN_MAX 8
#define OT_SUPERVISE_FDS_MAX 4

typedef struct ot_supervise_child {
    const char *name;              /* for log lines */
    const char *exe;               /* path */
    const char *const *argv;       /* NULL at the end */
    int fds[OT_SUPERVISE_FDS_MAX]; /* kept open across exec under the same number */
    size_t n_fds;
} ot_supervise_child;

typedef struct ot_supervise_options {
    int64_t drain_us;     /* between SIGTERM and SIGKILL at the end; default 30 s */
    int64_t pause_max_us; /* of the back-off; default 5 s */
    int64_t stable_us;    /* who ran this long is restarted at once; default 10 s */
    void (*started)(void *arg, size_t child, pid_t pid); /* may be NULL */
    void *arg;
} ot_supervise_options;

/* Runs until SIGTERM or SIGINT, then ends the children one after the other in the given order (each
 * gets SIGTERM and its time to drain) and returns OT_OK. A second signal ends them at once. SIGHUP
 * makes the children drain and starts them again, from the file that `exe` is by then. `opt` may be
 * NULL. */
ot_rc ot_supervise(const ot_supervise_child *children, size_t n, const ot_supervise_options *opt,
                   ot_error *err) OT_CHECKED;

#endif
