/* Jobs: one program on many ranks, on this host and others, as one (`overtake run`).
 *
 * The launcher starts one agent a host (`overtake run --agent`), here as a child, elsewhere through
 * ssh; the agent starts the ranks and owns them. What becomes of a rank is told to all others at
 * once, through the meeting point that the launcher runs (collective/meet.h). Whoever dies, nothing
 * is left behind: ranks die with their agent, an agent ends its ranks when its launcher is gone.
 *
 * Threads: ot_job_run and ot_job_agent_main own their process's signals and children. */
#ifndef OT_LAUNCH_JOB_H
#define OT_LAUNCH_JOB_H

#include "base/error.h"
#include "base/str.h"
#include "collective/settings.h"
#include "launch/hosts.h"
#include "launch/job_explain.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct ot_job_options {
    const char *const *argv; /* n_argv words: the program of each rank */
    size_t n_argv;
    const ot_job_hosts *hosts; /* dealt */
    int32_t np;
    const char *const *env; /* n_env: "NAME=VALUE", or "NAME" for the value that it has here */
    size_t n_env;
    const char *ssh;        /* words before the host's name */
    const char *program;    /* overtake on the other hosts; NULL: the path that it has here */
    const char *address;    /* where the other hosts reach this one; NULL: all that it has */
    const char *output_dir; /* a log a rank; NULL: none */
    uint64_t log_limit;     /* of these logs together, bytes: their ends are kept; 0: none */
    const char *state_file; /* how it goes, for others (launch/job_state.h); NULL: none */
    bool prefix, color, progress, input, bind_cores;
    int64_t grace_us;         /* between SIGTERM and SIGKILL */
    int64_t settle_us;        /* after a failure: for the others to say what they know of it */
    int64_t start_timeout_us; /* for all ranks to reach init */
    int64_t stopped_after_us; /* a rank that is stopped for longer has failed; 0: never */
    ot_settings settings;     /* what the ranks are told */
    int32_t max_restarts;
    const char *timeline; /* a file of what each rank did when; NULL: none */
    bool explain;
    /* Elastic: the job goes on while so many ranks are left, and grows to max_np; 0: it isn't. */
    int32_t min_np, max_np;
    bool keep_batch; /* elastic: a step takes as many rows with less ranks; else each rank does */
    const char *discover; /* elastic: a program that prints the hosts, "host:slots" lines; NULL */
    int prepared_fd;      /* the channel to an agent that is there already (job_spare.h), and */
    pid_t prepared_pid;   /* its process; 0: none */
    const char *version;  /* of this program: agents of another are refused */
} ot_job_options;

/* How a job ended. */
typedef struct ot_job_result {
    int code;        /* 0, or of the first rank that failed; 128 + signal */
    int32_t rank;    /* the culprit; -1: none */
    int32_t process; /* its number, which what it prints has before it */
    int64_t pid;
    char host[256];
    char who[320];   /* "rank 1 (host b, process 4711)" */
    char why[640];   /* a sentence: what became of it */
    char line[512];  /* the last that it printed to standard error */
    char log[512];   /* its log file; "" */
    char error[512]; /* the file in which it says why itself; "": it did not */
    bool lost;       /* the rank went with its host, or the way there */
    int32_t restarts;
    ot_explain explain;  /* where it was asked for */
    char slow_host[256]; /* of explain.slow_rank */
    /* Elastic. */
    int32_t epochs, admitted, lost_n; /* admitted after the first epoch; ranks lost */
    char lost_list[2048];             /* who, when and why, as many as there is room for */
} ot_job_result;

/* Runs to the end. OT_OK: it ran, see the result; else nothing was started. */
ot_rc ot_job_run(const ot_job_options *o, ot_job_result *result_out, ot_error *err) OT_CHECKED;

/* The agent of a host: frames (job_channel.h) on standard input and output. The exit code. */
int ot_job_agent_main(const char *version);

#endif
