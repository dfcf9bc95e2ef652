/* Runs of programs: started, watched, cancelled and found again by the control plane.
 *
 * Each run has a directory and a shim process (`overtake shim DIR`) that outlives the control
 * plane. The directory is the whole interface between the two:
 *
 *     spec.json   what to run; written by ot_launch_start
 *     lock        flock held from before the shim starts until it has ended
 *     shim.json   pid, start time, boot id of the shim; process group and mark of the program
 *     log         standard output and error of the program, capped
 *     ranks/      of a job of ranks: rank-N.log, what each printed
 *     ranks.json  of a job of ranks: how it goes and how it ended (launch/job_state.h)
 *     cancel      its presence asks the shim to stop the run
 *     exit.json   how it ended; written atomically, exactly once
 *     shim.log    what the shim itself has to say; empty but for trouble
 *
 * Threads: any, one call a run directory at a time. Lifetime: nothing is kept in memory; every call
 * works from the directory alone, so that a restarted control plane loses nothing. */
#ifndef OT_LAUNCH_RUN_H
#define OT_LAUNCH_RUN_H

#include "base/error.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define OT_LAUNCH_ARGS_MAX 4096
#define OT_LAUNCH_ENV_MAX 1024
#define OT_LAUNCH_SPEC_BYTES_MAX (1u << 20)
#define OT_LAUNCH_LOG_DEFAULT (16u << 20)
#define OT_LAUNCH_RANKS "ranks"
#define OT_LAUNCH_JOB "ranks.json"

typedef struct ot_launch_env {
    const char *name, *value; /* value NULL removes the variable */
} ot_launch_env;

/* What to run. Exactly one of argv and command. Zero means "no limit" or the default given.
 * The program inherits our environment without OVERTAKE_*, then `env`, then OVERTAKE_RUN. */
typedef struct ot_launch_spec {
    const char *const *argv; /* n_argv words; argv[0] is looked up in PATH */
    size_t n_argv;
    const char *command; /* for /bin/sh -c */
    const char *cwd;     /* NULL: the run directory */
    const ot_launch_env *env;
    size_t n_env;
    int64_t run; /* id, for messages and OVERTAKE_RUN */
    int64_t time_limit_us;
    int64_t grace_us;            /* between SIGTERM and SIGKILL; default 5 s */
    uint64_t memory_limit_bytes; /* of the whole tree */
    uint64_t disk_limit_bytes;   /* of what lies under disk_dir */
    const char *disk_dir;        /* NULL: cwd */
    uint64_t log_limit_bytes;    /* default OT_LAUNCH_LOG_DEFAULT */
    int nice;                    /* 0..19 */
    unsigned cpu_weight;         /* cgroup v2, 1..10000 */
    bool background;             /* idle class for CPU and disk: never starves serving */
    int32_t np;                  /* of a job: its ranks, all of them here; 0: one process */
    const char *const *job;      /* n_job words: the job as `overtake` starts it, which is what a
                                    spare of it becomes; `command` does the same. The last word is
                                    the shell command of a rank */
    size_t n_job;
    const char *note; /* our own first line in the log; NULL: none */
} ot_launch_spec;

typedef enum ot_launch_state {
    OT_LAUNCH_SUCCEEDED,
    OT_LAUNCH_FAILED, /* exit code or a crash of its own */
    OT_LAUNCH_TIMED_OUT,
    OT_LAUNCH_OUT_OF_MEMORY,
    OT_LAUNCH_KILLED, /* a signal from outside */
    OT_LAUNCH_CANCELLED,
    OT_LAUNCH_DISK_QUOTA,
    OT_LAUNCH_SPAWN_FAILED, /* the program could not be started */
    OT_LAUNCH_LOST,         /* the shim is gone without a record: an infrastructure failure */
} ot_launch_state;

const char *ot_launch_state_name(ot_launch_state s); /* "timed_out" ... */
bool ot_launch_state_parse(const char *s, ot_launch_state *out);
/* True for what a retry may mend without a change by the user: killed and lost. */
bool ot_launch_state_is_infrastructure(ot_launch_state s);

/* How a run ended (exit.json). */
typedef struct ot_launch_exit {
    ot_launch_state state;
    int exit_code; /* -1 when there was none */
    int signal;    /* 0 when there was none */
    int64_t started_us, ended_us;
    int64_t cpu_us; /* user + system of the whole tree */
    uint64_t max_rss_bytes;
    uint64_t log_bytes; /* printed by the program, kept or not */
    bool log_truncated;
    char message[512]; /* a sentence for people: what happened and what to do */
} ot_launch_exit;

typedef enum ot_launch_phase {
    OT_LAUNCH_ABSENT, /* never started here: no spec */
    OT_LAUNCH_RUNNING,
    OT_LAUNCH_FINISHED, /* exit.json is there */
    OT_LAUNCH_GONE,     /* no record and no shim: call ot_launch_settle */
} ot_launch_phase;

typedef struct ot_launch_status {
    ot_launch_phase phase;
    pid_t shim_pid;      /* RUNNING; 0 while it is still starting */
    ot_launch_exit exit; /* FINISHED */
} ot_launch_status;

/* Starts `overtake shim RUNDIR`, detached from this process. Creates the directory if missing; one
 * that held a run already is OT_EXISTS. `exe` is the overtake binary; NULL takes /proc/self/exe.
 * `fd_out` (may be NULL) gets a descriptor that becomes readable when the shim has ended (pidfd);
 * the caller closes it. */
ot_rc ot_launch_start(const char *rundir, const ot_launch_spec *spec, const char *exe, int *fd_out,
                      ot_error *err) OT_CHECKED;
/* The record of a run that was executed in another way: it is found here as one that has ended. The
 * directory is made if missing. */
ot_rc ot_launch_record(const char *rundir, const ot_launch_spec *spec, const ot_launch_exit *end,
                       ot_error *err) OT_CHECKED;
/* What is known now, from the directory. Never blocks on the program. */
ot_rc ot_launch_poll(const char *rundir, ot_launch_status *status_out, ot_error *err) OT_CHECKED;
/* The descriptor of ot_launch_start for a run found again after a restart. OT_NOT_FOUND when the
 * shim has ended; OT_UNAVAILABLE while it is still starting. */
ot_rc ot_launch_watch(const char *rundir, int *fd_out, ot_error *err) OT_CHECKED;
/* Asks the shim to stop the whole tree. OK when the run has ended already. Returns at once; the end
 * shows in ot_launch_poll, at the latest after the spec's grace. */
ot_rc ot_launch_cancel(const char *rundir, ot_error *err) OT_CHECKED;
/* For phase GONE: kills what is left of the tree and writes exit.json with state `lost`.
 * Idempotent; OT_PRECONDITION while the shim lives. */
ot_rc ot_launch_settle(const char *rundir, ot_launch_exit *exit_out, ot_error *err) OT_CHECKED;
/* Appends up to `max` bytes of the log from `offset`; *next_out is the offset to go on from (it
 * does not move at the end). A log that does not exist yet is empty. */
ot_rc ot_launch_log_read(const char *rundir, uint64_t offset, size_t max, ot_str *out,
                         uint64_t *next_out, ot_error *err) OT_CHECKED;
/* The same of what one rank of a job printed; rank -1: of the whole run. */
ot_rc ot_launch_rank_log_read(const char *rundir, int64_t rank, uint64_t offset, size_t max,
                              ot_str *out, uint64_t *next_out, ot_error *err) OT_CHECKED;

#endif
