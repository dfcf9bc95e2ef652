/* Between shim.c and shim_spare.c: a shim, and one that waits for its run (spare.h).
 *
 * Threads: the shim's only one. */
#ifndef OT_LAUNCH_SHIM_INTERNAL_H
#define OT_LAUNCH_SHIM_INTERNAL_H

#include "launch/cgroup.h"
#include "launch/internal.h"
#include "launch/logfile.h"
#include "launch/usage.h"

/* What it has of a spare until its run has come. */
typedef struct ot_shim_spare {
    int channel;          /* to the control plane */
    int talk;             /* to the interpreter; -1: there is none */
    uint64_t memory_max;  /* bytes */
    uint64_t ready_at_ns; /* mono; 0: it imports */
    ot_str early;         /* what it printed meanwhile, its beginning */
    char why[300];        /* it is of no use any more */
} ot_shim_spare;

typedef struct ot_shim {
    const char *rundir;
    int lock_fd, signal_fd, output;
    ot_launch_spec_doc doc;
    ot_launch_shim_record record;
    ot_launch_cgroup cgroup;
    ot_launch_logfile log;
    ot_launch_usage usage;
    ot_shim_spare *spare; /* NULL: the run starts cold */
    pid_t child;
    bool ended; /* the program itself; `status` is valid */
    int status;
    bool stopping;        /* we are ending it, `exit.state` says why */
    uint64_t deadline_ns; /* of the time limit; 0: none */
    uint64_t kill_at_ns;  /* of the grace; 0: not stopping */
    ot_launch_exit exit;
} ot_shim;

/* shim.c. False when no child is left. */
bool ot_shim_reap(ot_shim *s);
/* Ends every descendant. */
void ot_shim_kill_tree(ot_shim *s);
/* Reaper of the tree, deaf to what would end us, signals by descriptor. */
ot_rc ot_shim_become_owner(ot_shim *s, bool background, ot_error *err) OT_CHECKED;
/* The mark of the tree and its cgroup, into the record. */
void ot_shim_mark_tree(ot_shim *s, const ot_launch_spec *spec);

/* shim_spare.c. Starts the interpreter and waits for a run: OK with its directory (absolute) and
 * s->lock_fd. Else the spare has ended, for whatever reason. */
ot_rc ot_shim_spare_wait(ot_shim *s, int channel, char rundir[OT_PATH_MAX],
                         ot_error *err) OT_CHECKED;
/* Hands the run of s->doc over to the interpreter: s->child and s->output are its program. Else
 * nothing of the spare is left and s->spare->why tells why. */
bool ot_shim_spare_hand_over(ot_shim *s);
void ot_shim_spare_done(ot_shim *s);

#endif
