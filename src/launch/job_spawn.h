/* Starts one rank: its own process group, dead with its agent, with the job's key in a descriptor.
 *
 * Threads: the agent's only one. */
#ifndef OT_LAUNCH_JOB_SPAWN_H
#define OT_LAUNCH_JOB_SPAWN_H

#include "base/error.h"

#include <sched.h>
#include <stdbool.h>
#include <sys/types.h>

#define OT_JOB_KEY_FD 3 /* the key's descriptor in the rank */

typedef struct ot_job_spawn {
    const char *const *argv; /* NULL at the end */
    const char *const *env;
    const char *cwd;
    int key_fd;
    int keep_fd;           /* stays open in it under this number; 0: none */
    bool input;            /* it reads; else /dev/null */
    const cpu_set_t *cpus; /* NULL: as we are bound */
} ot_job_spawn;

typedef struct ot_job_child {
    pid_t pid;
    int in, out, err; /* ours: non-blocking; in is -1 where there is no input */
} ot_job_child;

ot_rc ot_job_spawn_start(const ot_job_spawn *s, ot_job_child *child_out, ot_error *err) OT_CHECKED;

/* Deals the CPUs that this process may use to n ranks, neighbours in the machine together: the ith
 * share. False: there are fewer CPUs than ranks. */
bool ot_job_cpus(int i, int n, cpu_set_t *out);
int ot_job_cpus_each(int n); /* how many each gets; 1 at least */

#endif
