/* What a run uses, by polling: memory of its tree and bytes under a directory; and sessions that it
 * opens, which leave the weight that its own was given.
 *
 * The list of processes is made anew twice a second, their memory is read at every poll. Resident
 * sizes count shared pages once a process, so a limit that they seem to pass is confirmed with the
 * proportional sizes. The directory is walked with pauses of at least 20 times what a walk takes.
 * Threads: one at a time. */
#ifndef OT_LAUNCH_USAGE_H
#define OT_LAUNCH_USAGE_H

#include "launch/proc.h"

typedef struct ot_launch_usage {
    /* Set by the owner; limits of 0 are none. */
    pid_t root;      /* its descendants are measured */
    bool background; /* sessions that it opens get the least weight; */
    pid_t session;   /* this one has its weight already (0: its leader is not ours to see) */
    uint64_t memory_limit, disk_limit;
    const char *disk_dir;
    /* Results. */
    uint64_t memory, memory_peak, disk;
    bool memory_over, disk_over;
    /* Private. */
    ot_launch_procs procs;
    uint64_t scan_at_ns, walk_at_ns;
} ot_launch_usage;

void ot_launch_usage_poll(ot_launch_usage *u, uint64_t now_ns);
void ot_launch_usage_done(ot_launch_usage *u);

#endif
