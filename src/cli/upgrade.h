/* An upgrade of `overtake up`: looking at the new binary, executing it in place, going back.
 *
 * Threads: the supervisor's only one. */
#ifndef OT_CLI_UPGRADE_H
#define OT_CLI_UPGRADE_H

#include "cli/handover.h"

#define OT_UPGRADE_FILE                                                                            \
    "upgrade" /* in the data directory: the binary that the next SIGHUP takes                      \
               */
#define OT_UPGRADE_ARGS_MAX 128

/* What a binary says of itself (`overtake version --output json`). */
typedef struct ot_upgrade_binary {
    char version[32];
    int64_t schema; /* of the store */
    int64_t handover;
} ot_upgrade_binary;

/* OT_PRECONDITION: it is not a program of this machine, does not start, knows no hand-over or only
 * an older schema of the store. Runs it; takes at most 10 s. */
ot_rc ot_upgrade_look(const char *path, ot_upgrade_binary *out, ot_error *err) OT_CHECKED;

/* The file that a process runs, or that lies at its path by now. */
ot_rc ot_upgrade_path(int pid, char out[OT_PATH_MAX], ot_error *err) OT_CHECKED;

typedef struct ot_upgrade {
    char data[OT_PATH_MAX];
    char path[OT_PATH_MAX]; /* where a SIGHUP looks for the next binary */
    char next[OT_PATH_MAX]; /* the one that the upgrade under way takes */
    ot_handover now;        /* what there is to hand over; children as the supervisor says */
    int binary;             /* our own, open: what to go back to */
    int before;             /* the one before us; -1: no way back */
    char from[32];          /* its version; "": there was none */
    char args[32768];
    char *argv[OT_UPGRADE_ARGS_MAX];
} ot_upgrade;

/* Keeps our binary and our arguments for later. `u` is zeroed but for what the caller knows. */
ot_rc ot_upgrade_prepare(ot_upgrade *u, ot_error *err) OT_CHECKED;
/* Gives an unread hand-over back to the binary before; comes back only when that can't be. */
ot_rc ot_upgrade_return(ot_upgrade *u, int memory, int binary, ot_error *err) OT_CHECKED;
void ot_upgrade_done(ot_upgrade *u);

/* For ot_supervise; `arg` is an ot_upgrade. */
extern const ot_supervise_upgrade ot_upgrade_ops;

#endif
