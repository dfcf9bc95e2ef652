/* A job as others start it: a batch script for Slurm, objects for Kubernetes.
 *
 * Threads: pure, but for the random key. */
#ifndef OT_LAUNCH_JOB_MANIFEST_H
#define OT_LAUNCH_JOB_MANIFEST_H

#include "launch/job.h"

/* A script for sbatch: np tasks, in which `line` (the command line of overtake run, its words) is
 * executed. */
ot_rc ot_job_sbatch(int32_t np, const char *const *line, size_t n, ot_str *out,
                    ot_error *err) OT_CHECKED;

/* A List, as JSON, which kubectl takes: a Secret with a key, a headless Service by which ranks find
 * rank 0, and an indexed Job of np pods, one a rank, with the program of `o` in `image`. `name` is
 * a DNS label. */
ot_rc ot_job_kubernetes(const ot_job_options *o, const char *name, const char *image, ot_str *out,
                        ot_error *err) OT_CHECKED;

/* A word as a shell takes it; `out` needs four times its length and 3 bytes. */
void ot_job_quote(const char *word, char *out, size_t size);

#endif
