/* A cgroup (version 2) for one run, where the system lets us make one.
 *
 * Gives limits that the kernel enforces (memory.max, cpu.weight), when the controllers are
 * delegated to us, and in any case a tree that can be listed and killed as a whole. Where there is
 * none the shim polls instead. Threads: one at a time. */
#ifndef OT_LAUNCH_CGROUP_H
#define OT_LAUNCH_CGROUP_H

#include "base/disk.h"

#include <sys/types.h>

typedef struct ot_launch_cgroup {
    char path[OT_PATH_MAX]; /* "" when there is none */
    bool memory;            /* memory.max holds the limit */
    bool cpu;               /* cpu.weight or cpu.idle holds */
} ot_launch_cgroup;

/* What the group is asked for; 0 leaves a limit out. */
typedef struct ot_launch_cgroup_limits {
    uint64_t memory;
    unsigned cpu_weight;
    bool background; /* without a weight: runs only when nobody else wants to */
} ot_launch_cgroup_limits;

/* Makes a group called `name` beneath or beside our own. Never fails: what can't be had is left out
 * of *out. */
void ot_launch_cgroup_create(const char *name, const ot_launch_cgroup_limits *limits,
                             ot_launch_cgroup *out);
bool ot_launch_cgroup_add(const ot_launch_cgroup *g, pid_t pid);
/* How often the kernel killed in it for lack of memory, and its highest use. */
uint64_t ot_launch_cgroup_oom_kills(const ot_launch_cgroup *g);
uint64_t ot_launch_cgroup_memory_peak(const ot_launch_cgroup *g);
/* Kills every member at once; false when the kernel can't (before 5.14). */
bool ot_launch_cgroup_kill(const char *path);
/* Removes the group once it is empty; waits up to a second for that. */
void ot_launch_cgroup_remove(const char *path);

#endif
