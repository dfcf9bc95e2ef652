/* The script that says which hosts a job may use: "host:slots" lines on its standard output, as
 * Horovod's host discovery script. It has a limited time and may print a limited amount; whoever
 * asks reaps its process.
 *
 * Threads: one. Lifetime: init by zeros and .fd = -1; done ends what runs. */
#ifndef OT_LAUNCH_JOB_DISCOVER_H
#define OT_LAUNCH_JOB_DISCOVER_H

#include "base/str.h"
#include "launch/hosts.h"

#include <stdbool.h>
#include <sys/types.h>

#define OT_JOB_DISCOVER_US 5000000        /* between two runs */
#define OT_JOB_DISCOVER_LIMIT_US 20000000 /* of one */

typedef struct ot_job_discover {
    pid_t pid; /* 0: none runs */
    int fd;    /* what it prints; -1: closed */
    ot_str text;
    bool ended; /* its process; with `status` */
    int status;
    uint64_t until_ns, next_ns;
} ot_job_discover;

/* A shell runs it, in a process group of its own. */
ot_rc ot_job_discover_start(ot_job_discover *d, const char *script, ot_error *err) OT_CHECKED;
/* Reads what is there; ends it when its time is up. OT_NOT_FOUND: it is not done yet; OT_OK: these
 * are the hosts, the caller's; else what was wrong with it. */
ot_rc ot_job_discover_turn(ot_job_discover *d, const char *script, ot_job_hosts *out,
                           ot_error *err) OT_CHECKED;
void ot_job_discover_done(ot_job_discover *d);
/* One run, waited for. */
ot_rc ot_job_discover_now(const char *script, ot_job_hosts *out, ot_error *err) OT_CHECKED;

#endif
