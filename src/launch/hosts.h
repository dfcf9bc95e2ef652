/* Hosts of a job: "a:2,b:2", a host file, and which ranks run where.
 *
 * Threads: pure. */
#ifndef OT_LAUNCH_HOSTS_H
#define OT_LAUNCH_HOSTS_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OT_JOB_HOSTS_MAX 1024
#define OT_JOB_SLOTS_MAX 4096

typedef struct ot_job_host {
    char name[256];
    int32_t slots;        /* ranks that it may take */
    int32_t first, ranks; /* dealt to it: first, first + 1, ... */
} ot_job_host;

typedef struct ot_job_hosts {
    ot_job_host *v;
    size_t n;
} ot_job_hosts;

void ot_job_hosts_done(ot_job_hosts *h);
/* "a:2,b,[::1]:4": a host without a number has one slot; one that is named again gets more. Adds to
 * `h`. */
ot_rc ot_job_hosts_list(ot_job_hosts *h, const char *list, ot_error *err) OT_CHECKED;
/* Lines "a", "a:2" or "a slots=2" (Open MPI's, Horovod's); # begins a comment. `file` is for
 * messages. Adds to `h`. */
ot_rc ot_job_hosts_file(ot_job_hosts *h, const char *text, const char *file,
                        ot_error *err) OT_CHECKED;
/* Slurm's "n[01-03,7],m1" and "2(x3),1,4": the nodes of an allocation and the tasks on each. Adds
 * to `h`. */
ot_rc ot_job_hosts_slurm(ot_job_hosts *h, const char *nodes, const char *tasks,
                         ot_error *err) OT_CHECKED;
/* Deals ranks 0 .. np-1 in order, filling host after host; np 0 takes all slots. Hosts that get
 * none are removed, unless they are kept as spares. OT_EXHAUSTED: more ranks than slots. */
ot_rc ot_job_hosts_deal(ot_job_hosts *h, int32_t np, bool spares, int32_t *np_out,
                        ot_error *err) OT_CHECKED;

#endif
