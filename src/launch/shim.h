/* The shim: one process a run (`overtake shim RUNDIR`), see run.h for the directory.
 *
 * Owns the program's session, process group, limits and log, and writes exit.json. It is a
 * subreaper: whatever the program forks, daemons included, ends with the run. SIGTERM or a file
 * `cancel` stops the run. One thread; does nothing else. */
#ifndef OT_LAUNCH_SHIM_H
#define OT_LAUNCH_SHIM_H

/* Runs spec.json to its end. `lock_fd` is the descriptor of the held `lock` file, or -1 to take the
 * lock here. Returns the shim's exit code: 0 when exit.json was written. */
int ot_shim_main(const char *rundir, int lock_fd);
/* A shim whose run comes later, over `channel` (spare.h); ends with the other side until then. */
int ot_shim_spare_main(int channel);

#endif
