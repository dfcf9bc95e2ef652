/* Warm spares: an interpreter that has imported a framework already and waits for its run.
 *
 * A spare is a shim in waiting (`overtake shim - --spare-fd N`) and its program: Python, with the
 * modules imported, stopped before it knows its script. A run that fits it gets both: the shim
 * becomes the run's shim, and the interpreter runs the script as `python script.py args` would
 * have. Whatever is in the way, the run starts cold, and its log says why.
 *
 * Of a job of ranks the program is the job's launcher, and an interpreter waits for each rank
 * (launch/job_spare.h).
 *
 * One shot: a process serves one run, and is never forked after its imports. The shim of a spare
 * knows the control plane by one end of a socket pair; at its end of file (the other side ended, or
 * was killed) both processes end. So a spare is never found again, and never left.
 *
 * Threads: one at a time for a spare. Lifetime: start/end. */
#ifndef OT_LAUNCH_SPARE_H
#define OT_LAUNCH_SPARE_H

#include "launch/run.h"

#define OT_LAUNCH_MODULES_MAX 16
#define OT_LAUNCH_WORDS_MAX 256
#define OT_LAUNCH_WORDS_BYTES 4096

typedef struct ot_launch_spare ot_launch_spare;

/* A command that a spare can stand in for: `python [-u] SCRIPT.py ARGS...`, without anything that
 * only a shell understands. */
typedef struct ot_launch_python {
    char text[OT_LAUNCH_WORDS_BYTES]; /* the words, each with its NUL */
    const char *words[OT_LAUNCH_WORDS_MAX + 1];
    size_t n_words;
    size_t script; /* its index: the interpreter and its flags stand before it */
} ot_launch_python;

/* OT_INVALID with the reason when it is another kind of command. */
ot_rc ot_launch_python_parse(const char *command, ot_launch_python *out, ot_error *err) OT_CHECKED;
/* The interpreter of a run: of its command, or of that of its ranks. */
ot_rc ot_launch_spec_python(const ot_launch_spec *spec, ot_launch_python *out,
                            ot_error *err) OT_CHECKED;
/* Letters, digits and _ between dots. */
bool ot_launch_module_ok(const char *name);

typedef struct ot_launch_spare_ask {
    /* As a run will have it, all but the script's arguments, cwd, disk_dir, run, time and variables
     * OVERTAKE_*: those come with the run. */
    const ot_launch_spec *spec;
    const char *const *modules; /* to import, at most OT_LAUNCH_MODULES_MAX */
    size_t n_modules;
    uint64_t memory_max; /* it is ended when it takes more before its run */
    const char *exe;     /* the overtake binary; NULL: /proc/self/exe */
} ot_launch_spare_ask;

typedef enum ot_launch_spare_state {
    OT_LAUNCH_SPARE_IMPORTS,
    OT_LAUNCH_SPARE_READY,
    OT_LAUNCH_SPARE_ENDED,
} ot_launch_spare_state;

/* OT_INVALID: no spare can be had for this spec. */
ot_rc ot_launch_spare_start(const ot_launch_spare_ask *ask, ot_launch_spare **out,
                            ot_error *err) OT_CHECKED;
/* How it stands; never waits. */
ot_launch_spare_state ot_launch_spare_look(ot_launch_spare *s);
uint64_t ot_launch_spare_memory(const ot_launch_spare *s); /* its share of bytes, once READY */
const char *ot_launch_spare_why(const ot_launch_spare *s); /* why it ENDED */
/* Ends it, unless a run has it. NULL is fine. */
void ot_launch_spare_end(ot_launch_spare *s);

/* ot_launch_start by the spare when that fits and is ready, else cold. The caller ends the spare in
 * any case. NULL: cold, and nothing is said of it. */
ot_rc ot_launch_start_warm(const char *rundir, const ot_launch_spec *spec, ot_launch_spare *spare,
                           const char *exe, int *fd_out, ot_error *err) OT_CHECKED;
/* For ot_launch_start_warm: gives the run with its held lock to the spare. OK: the spare's shim has
 * taken it; *pidfd_out watches it. Else the run's directory is untouched and nothing will touch it;
 * err says why in a few words. */
ot_rc ot_launch_spare_give(ot_launch_spare *s, const ot_launch_spec *spec, const char *rundir,
                           int lock_fd, int *pidfd_out, ot_error *err) OT_CHECKED;

#endif
