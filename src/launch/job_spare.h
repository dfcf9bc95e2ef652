/* A job in waiting: the launcher, its agent on this host, and an interpreter for each rank that has
 * imported what it shall and does not know its script yet.
 *
 * To who started it (shim_spare.c) it is what a single interpreter is (spare.py): it says `ready`
 * or what went wrong, is sent the working directory, the words of `overtake run ...` and the
 * variables, says `taken`, and is that command from then on: it executes it in its own place, with
 * the agent that is there. So whatever holds for a job holds for this one: its ranks are its
 * agent's children.
 *
 * Threads: owns its process. */
#ifndef OT_LAUNCH_JOB_SPARE_H
#define OT_LAUNCH_JOB_SPARE_H

#include <stddef.h>
#include <stdint.h>

typedef struct ot_job_spare {
    int fd; /* it is spoken to over */
    int32_t np;
    const char *const *words; /* n_words: the interpreter and its flags, "--", modules to import */
    size_t n_words;
} ot_job_spare;

/* Returns when nobody wants it, or it has failed: the exit code. */
int ot_job_spare_main(const ot_job_spare *s);

#endif
