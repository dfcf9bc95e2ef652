/* Starts a helper of this process: a program that dies with it and inherits nothing but what it is
 * given. Runs of users' programs have a shim and a record instead (run.h).
 *
 * Threads: any. One thread of the process, which never ends, starts them all: the kernel kills a
 * child when the thread that started it ends, and a child has the priority of that thread. The
 * caller waits for the pid (waitpid). */
#ifndef OT_LAUNCH_CHILD_H
#define OT_LAUNCH_CHILD_H

#include "base/error.h"

#include <stdbool.h>
#include <sys/types.h>

#define OT_LAUNCH_CHILD_FDS_MAX 8

typedef struct ot_launch_child {
    const char *exe;         /* its path; "/proc/self/exe" is this very program, replaced or not */
    const char *const *argv; /* ends with NULL */
    const char *const *env;  /* all of it; ends with NULL */
    const char *cwd;         /* NULL: ours */
    const int *fds;          /* become descriptors 3, 4, ... of the child */
    size_t n_fds;            /* at most OT_LAUNCH_CHILD_FDS_MAX */
    int output;              /* standard output and error; standard input is /dev/null */
} ot_launch_child;

/* Starts that thread, of the caller's priority: early, from a thread of full priority. */
void ot_launch_child_prepare(void);

/* Everything else is closed; signals have their defaults; it leaves no core file, has no
 * capabilities, may never gain privileges and is among the first that the kernel kills when memory
 * is short. */
ot_rc ot_launch_child_start(const ot_launch_child *c, pid_t *pid_out, ot_error *err) OT_CHECKED;

#endif
