/* Between the files of the launcher of a job: its agents (job_hosts.c), what becomes of its ranks
 * (job_ranks.c) and its loop (job.c).
 *
 * Threads: the launcher's only one, but for what is under `lock`: the meeting point calls from its
 * own. */
#ifndef OT_LAUNCH_JOB_INTERNAL_H
#define OT_LAUNCH_JOB_INTERNAL_H

#include "collective/meet.h"
#include "launch/job.h"
#include "launch/job_channel.h"
#include "launch/job_print.h"

#include <pthread.h>
#include <sys/types.h>

typedef struct job_agent {
    const ot_job_host *host;
    char name[256]; /* for people: where a local one is as well */
    bool local;
    pid_t pid; /* of the agent here, or of the ssh; 0: reaped */
    int status;
    ot_job_channel channel;
    bool heard, done, open; /* it has said something; nothing is left there; its channel is open */
    char failed[512];       /* why it can't do its work */
} job_agent;

typedef struct job_rank {
    job_agent *agent;
    int64_t pid;
    bool ended;
    uint64_t stopped_ns; /* since when; 0: it is not stopped */
} job_rank;

typedef struct job {
    const ot_job_options *o;
    ot_job_print *print;
    ot_meet_server *server;
    job_agent *agents;
    size_t n_agents;
    job_rank *ranks;
    int signal_fd, restart;
    char key[65];
    const char *errors;            /* folder of the ranks' error files, absolute; "": none */
    uint64_t started_ns, shown_ns; /* shown: when the progress line was drawn last */
    ot_pulse *pulses_before;       /* at that time */
    ot_job_result *result;         /* of this try; rank -1 while nothing has failed */
    bool failed;
    int interrupted;     /* the signal that ended it; 0 */
    uint64_t stop_at_ns; /* when the others are asked to end; 0: never */
    bool stopping, input_open, dumped;
    pthread_mutex_t lock;
    /* Synchronization: under lock. */
    bool all_here;
    int32_t blamed;   /* whom the ranks themselves hold to be at fault; -1: nobody */
    char blame[640];  /* how and why */
    ot_pulse *pulses; /* of each rank, the last */
} job;

/* job_hosts.c */
ot_rc job_server_start(job *j, ot_error *err) OT_CHECKED;
ot_rc job_agents_start(job *j, ot_error *err) OT_CHECKED;
void job_agents_done(job *j);

/* job_ranks.c */
void job_take_frame(job *j, job_agent *a, const ot_frame *f);
/* The agent is gone without having said that it is done: so are its ranks. */
void job_agent_lost(job *j, job_agent *a, int status);
void job_stop(job *j, int64_t grace_us);
/* Ranks that have been stopped for too long; `late_ns` is by how much we woke late ourselves. */
void job_check_stopped(job *j, uint64_t late_ns);

#endif
