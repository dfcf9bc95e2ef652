/* Starts the program of a run: its process group, environment, limits and output.
 *
 * Threads: the shim's only one. */
#ifndef OT_LAUNCH_SPAWN_H
#define OT_LAUNCH_SPAWN_H

#include "launch/cgroup.h"
#include "launch/run.h"

/* The program's pid and the read end of its output. Its standard input is /dev/null; it is killed
 * when this process ends. `keep_fd` (-1: none) stays open in it, under its number. On failure the
 * message names the program or the directory. */
ot_rc ot_launch_spawn(const ot_launch_spec *spec, const char *rundir, const char *mark,
                      const ot_launch_cgroup *cgroup, int keep_fd, pid_t *pid_out, int *output_out,
                      ot_error *err) OT_CHECKED;

#endif
