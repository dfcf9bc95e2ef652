/* A supervisor of a few children: starts, restarts, drains, reaps, and replaces them by a new
 * binary. Small on purpose: it must never be what fails, so it allocates nothing after its start
 * but for a hand-over, and does nothing else.
 *
 * A child that ends is started again: at once if it had run for a while, otherwise after a pause
 * that doubles up to 5 s. What it listens on is opened by the caller and inherited by each new
 * process, so no connection is refused meanwhile: it waits in the backlog.
 *
 * SIGHUP is an upgrade (docs/operations.md, "Upgrade"): the new binary is checked, executed in
 * place of this one, and rolls the children: it starts this function again, with `running` and
 * `roll`. Without `upgrade` SIGHUP rolls the children at once, from the file that `exe` is by then.
 * A second SIGHUP while one is under way begins another when that has ended.
 *
 * A child with a channel speaks with the supervisor in lines: it says "ready" once it does its
 * work, and hears "alone" (no other process does the same work), "beside" (one that is to replace
 * it has been started) and "event TYPE JSON" (for the log). Unknown lines are passed over.
 *
 * Threads: the process's only one (it owns the signals). Lifetime: one call. */
#ifndef OT_CLI_SUPERVISE_H
#define OT_CLI_SUPERVISE_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define OT_SUPERVISE_CHILDREN_MAX 8
#define OT_SUPERVISE_FDS_MAX 20
#define OT_SUPERVISE_WHY_MAX 512

typedef struct ot_supervise_child {
    const char *name;              /* for log lines */
    const char *exe;               /* path */
    const char *const *argv;       /* NULL at the end */
    int fds[OT_SUPERVISE_FDS_MAX]; /* kept open across exec under the same number */
    size_t n_fds;
    char *channel; /* 16 bytes that argv points to: the number of its end of the channel is written
                      there before each start; NULL: it has no channel and is ready at once */
    bool overlaps; /* a second one may run beside it: it is ready before the first drains */
} ot_supervise_child;

/* A child that runs already, from before an exec. */
typedef struct ot_supervise_running {
    pid_t pid;   /* 0: it does not run */
    int channel; /* our end; -1: none */
    bool ready;
    bool stays; /* it runs the binary that it is to run: not rolled */
} ot_supervise_running;

typedef enum ot_supervise_news {
    OT_SUPERVISE_STARTED, /* the roll */
    OT_SUPERVISE_FINISHED,
    OT_SUPERVISE_FAILED, /* `why` tells */
} ot_supervise_news;

/* `running` has as many as there are children. */
typedef struct ot_supervise_upgrade {
    /* At SIGHUP. */
    void (*asked)(void *arg);
    /* In a process of its own, which may take its time: 0 when the new binary may take over, else
     * the reason is written to `fd`. */
    int (*check)(void *arg, int fd);
    /* Executes the new binary; comes back only when that failed. `again`: another SIGHUP came. */
    ot_rc (*take_over)(void *arg, const ot_supervise_running *running, bool again, ot_error *err);
    /* The roll failed: executes the binary from before; comes back when that can't be. */
    ot_rc (*go_back)(void *arg, const ot_supervise_running *running, bool again, const char *why,
                     ot_error *err);
    /* Says in the log what has become of it; the line for the child `log_child` ("event TYPE
     * JSON\n"). Returns its length. */
    size_t (*news)(void *arg, ot_supervise_news news, const char *why, char *line, size_t size);
} ot_supervise_upgrade;

typedef struct ot_supervise_options {
    int64_t drain_us;     /* between SIGTERM and SIGKILL at the end; default 30 s */
    int64_t pause_max_us; /* of the back-off; default 5 s */
    int64_t stable_us;    /* who ran this long is restarted at once; default 10 s */
    int64_t ready_us;     /* for a new child to say that it is ready; default 60 s */
    void (*started)(void *arg, size_t child, pid_t pid); /* may be NULL */
    const ot_supervise_upgrade *upgrade;                 /* may be NULL */
    const ot_supervise_running *running;                 /* NULL: none runs yet */
    bool roll;        /* at once: what runs is of another binary */
    bool again;       /* and then anew: a SIGHUP was left over */
    size_t log_child; /* the child that takes events */
    void *arg;        /* of all functions */
} ot_supervise_options;

/* Runs until SIGTERM or SIGINT, then ends the children one after the other in the given order (each
 * gets SIGTERM and its time to drain) and returns OT_OK. A second signal ends them at once. `opt`
 * may be NULL. */
ot_rc ot_supervise(const ot_supervise_child *children, size_t n, const ot_supervise_options *opt,
                   ot_error *err) OT_CHECKED;

#endif
