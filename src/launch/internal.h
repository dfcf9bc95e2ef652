/* Between the files of this folder: the records of a run directory.
 *
 * Threads: any. Lifetime: what a load returns owns its memory until the matching done. */
#ifndef OT_LAUNCH_INTERNAL_H
#define OT_LAUNCH_INTERNAL_H

#include "base/disk.h"
#include "launch/run.h"

#include <jansson.h>

#define OT_LAUNCH_GRACE_DEFAULT_US 5000000
#define OT_LAUNCH_MARK "OVERTAKE_RUN_MARK" /* environment variable that names the tree */

/* spec.json. Strings of `spec` point into `root`. */
typedef struct ot_launch_spec_doc {
    ot_launch_spec spec;
    json_t *root;
    const char **argv, **job;
    ot_launch_env *env;
} ot_launch_spec_doc;

ot_rc ot_launch_spec_check(const ot_launch_spec *spec, ot_error *err) OT_CHECKED;
ot_rc ot_launch_spec_write(const char *rundir, const ot_launch_spec *spec,
                           ot_error *err) OT_CHECKED;
ot_rc ot_launch_spec_parse(const char *text, size_t n, ot_launch_spec_doc *out,
                           ot_error *err) OT_CHECKED;
ot_rc ot_launch_spec_load(const char *rundir, ot_launch_spec_doc *out, ot_error *err) OT_CHECKED;
void ot_launch_spec_done(ot_launch_spec_doc *doc);

/* spec.json as a text, which the caller frees with free(). */
ot_rc ot_launch_spec_text(const ot_launch_spec *spec, char **out, ot_error *err) OT_CHECKED;

/* exit.json. Load gives OT_NOT_FOUND while the run has not ended. */
ot_rc ot_launch_exit_write(const char *rundir, const ot_launch_exit *e, ot_error *err) OT_CHECKED;
ot_rc ot_launch_exit_load(const char *rundir, ot_launch_exit *out, ot_error *err) OT_CHECKED;

/* shim.json: who runs it and how its tree is recognised after the shim's death. */
typedef struct ot_launch_shim_record {
    pid_t pid; /* also the session of the program, unless it is background work */
    uint64_t start_time;
    char boot_id[40];
    char mark[33];
    int64_t started_us;
    char cgroup[OT_PATH_MAX]; /* "" when there is none */
} ot_launch_shim_record;

ot_rc ot_launch_shim_write(const char *rundir, const ot_launch_shim_record *r,
                           ot_error *err) OT_CHECKED;
ot_rc ot_launch_shim_load(const char *rundir, ot_launch_shim_record *out, ot_error *err) OT_CHECKED;

/* A file of the run directory. */
ot_rc ot_launch_path(char out[OT_PATH_MAX], const char *rundir, const char *name,
                     ot_error *err) OT_CHECKED;

/* Starts `overtake shim WHAT OPTION FD`, detached from this process. */
typedef struct ot_launch_detached {
    const char *what, *option;
    const char *exe; /* NULL: /proc/self/exe */
    const char *log; /* becomes its standard error */
    bool background;
    int fd; /* stays open in it, under the same number */
} ot_launch_detached;
/* *pidfd_out may be -1 where the kernel gives none. */
ot_rc ot_launch_detach(const ot_launch_detached *d, int *pidfd_out, ot_error *err) OT_CHECKED;

/* Finds argv[0] along PATH; what is not found is left for exec to refuse. */
ot_rc ot_launch_find_program(const char *name, const char *path, const char *cwd,
                             char out[OT_PATH_MAX], ot_error *err) OT_CHECKED;
/* PATH of an environment. */
const char *ot_launch_env_path(const char *const *env);

/* In a child after fork: signals as a new program expects them; and the kernel's memory killer
 * takes this process before it takes serving. */
void ot_launch_reset_signals(void);
void ot_launch_oom_first(void);

#endif
