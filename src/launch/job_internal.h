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
#include "launch/job_discover.h"
#include "launch/job_print.h"
#include "launch/job_progress.h"
#include "launch/job_timeline.h"

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
    /* Elastic. */
    double failures;              /* of late, as of failed_ns */
    uint64_t failed_ns, aside_ns; /* aside: no process is started there before */
    bool drained;                 /* it is no longer one of the job's hosts */
} job_agent;

typedef struct job_rank {
    job_agent *agent;
    int64_t pid;
    bool ended;
    uint64_t stopped_ns; /* since when; 0: it is not stopped */
    int32_t rank;        /* in the present epoch */
    bool member;         /* of it */
    /* Elastic. */
    int32_t local;                 /* its place on its host */
    int code;                      /* how it ended */
    uint64_t epoch;                /* the last that it was in */
    uint64_t left_ns;              /* it is to end by itself since then; 0 */
    bool lost, leaving, sent_away; /* sent away: what becomes of it is no news */
} job_rank;

/* Whom the meeting point has given up; `cut`: as its host can't link with others. */
typedef struct job_fence {
    int32_t process;
    bool cut;
    uint64_t at_ns;
    char why[512];
} job_fence;

#define JOB_EPOCHS_KEPT 32

typedef struct job_epoch {
    uint64_t number;
    int64_t began_us;          /* by the wall's clock */
    int32_t size, fresh, lost; /* ranks; of them new; lost in it */
} job_epoch;

typedef struct job {
    const ot_job_options *o;
    ot_job_print *print;
    ot_meet_server *server;
    ot_job_timeline *timeline; /* NULL: none; the meeting point's while that runs */
    job_agent *agents;
    size_t n_agents;
    size_t cap_agents;
    job_rank *ranks;  /* processes by their numbers, which are the ranks of the first epoch */
    int32_t n_ranks;  /* processes so far */
    int32_t *members; /* of the present epoch: rank to process */
    int32_t size;     /* of the present epoch */
    int signal_fd, restart;
    char key[65];
    const char *errors;            /* folder of the ranks' error files, absolute; "": none */
    uint64_t started_ns, shown_ns; /* shown: when the progress line was drawn last */
    ot_pulse *pulses_before;       /* at that time */
    ot_job_result *result;         /* of this try; rank -1 while nothing has failed */
    bool failed;
    int interrupted;     /* the signal that ended it; 0 */
    uint64_t stop_at_ns; /* when the others are asked to end; 0: never */
    bool stopping, input_open, dumped, state_broken, prepared_used;
    /* Elastic: job_elastic.c. */
    ot_job_hosts hosts; /* our own: they come and go */
    int wake_fd;        /* the meeting point has news */
    uint64_t epoch;
    job_epoch epochs[JOB_EPOCHS_KEPT]; /* the last, by (number - 1) % JOB_EPOCHS_KEPT */
    unsigned master_port;
    int32_t first_lost; /* of this epoch: the process; -1 */
    int first_code;
    char first_why[640];
    ot_job_discover script;
    bool script_failed, ending; /* ending: a member has ended well */
    pthread_mutex_t lock;
    /* Synchronization: under lock. */
    uint64_t formed; /* the newest epoch; `members_next`, `size_next` are of it */
    int32_t *members_next, size_next;
    job_fence *fences;
    size_t n_fences, cap_fences;
    bool all_here;
    int32_t blamed;   /* whom the ranks themselves hold to be at fault; -1: nobody */
    bool blamed_lost; /* for being out of reach */
    char blame[640];  /* how and why */
    ot_pulse *pulses; /* of each rank, the last */
    ot_pulse before;  /* elastic: steps, operations, samples and bytes of the epochs before */
} job;

/* Processes of an elastic job, members of an epoch, and hosts: the most there may be. */
#define JOB_PROCESSES_MAX 65536

/* job_hosts.c */
ot_rc job_server_start(job *j, ot_error *err) OT_CHECKED;
ot_rc job_agents_start(job *j, ot_error *err) OT_CHECKED;
void job_agents_done(job *j);
/* `own` is where the agent's host stands from now on. */
void job_host_init(job_agent *a, ot_job_host *own, const ot_job_host *from);
/* An agent's process, or the ssh to one; the caller's end of its channel. */
ot_rc job_agent_spawn(const char *exe, const char *const *argv, pid_t *pid_out, int *fd_out,
                      ot_error *err) OT_CHECKED;
/* Starts one that isn't there, or is no more. */
ot_rc job_agent_start(job *j, size_t i, ot_error *err) OT_CHECKED;

/* job_ranks.c */
void job_take_frame(job *j, job_agent *a, const ot_frame *f);
/* The agent is gone without having said that it is done: so are its ranks. */
void job_agent_lost(job *j, job_agent *a, int status);
void job_stop(job *j, int64_t grace_us);
/* "rank 1 (host b, process 4711)". */
void job_name(const job *j, int32_t process, char out[320]);
/* The job fails by it. */
void job_fail(job *j, int32_t process, int code, const char *why);
void job_tell(job *j, int32_t process, ot_event_kind kind, int code, const char *text);
/* Ranks that have been stopped for too long; `late_ns` is by how much we woke late ourselves. */
void job_check_stopped(job *j, uint64_t late_ns);

/* job_elastic.c: nothing of it does anything in a job that isn't elastic. */
ot_rc job_elastic_prepare(job *j, ot_error *err) OT_CHECKED;
void job_elastic_release(job *j);
/* The processes that an agent begins with. */
void job_elastic_begin(job *j, size_t agent);
/* The meeting point's: a process was given up. */
void job_elastic_fence(job *j, int32_t process, const char *why);
void job_elastic_cut(void *arg, int32_t process, const char *why);
/* A process has ended: code 0 is well. `host_lost`: the host went with it, and has been blamed. */
void job_elastic_ended(job *j, int32_t process, int code, const char *why, bool host_lost);
void job_elastic_host_failed(job *j, job_agent *a);
/* It is no use any more: it is ended, and named for that. */
void job_elastic_give_up(job *j, int32_t process, const char *why);
void job_elastic_turn(job *j);
bool job_goes_on(const job *j); /* news of its ranks count */
void job_elastic_check(job *j); /* whether enough ranks are left */
/* The script that says which hosts there are has ended. */
void job_elastic_hosts(job *j, const ot_job_hosts *hosts);

/* job_epochs.c. The meeting point's: an epoch begins. */
void job_elastic_formed(void *arg, uint64_t epoch, const int32_t *processes, int32_t n);
void job_wake(job *j);
void job_take_formed(job *j);
void job_epoch_lost(job *j, uint64_t epoch); /* a rank of it */
/* Members of an object: the present epoch, and those before. */
void job_epochs_json(const job *j, ot_str *out);

/* job_state.c; a failure to write is said once */
/* What bounds a step so far; false: it was not asked for, or nothing is known. */
bool job_explain(const job *j, ot_explain *e);
void job_state_format(const job *j, const ot_job_rates *rates, bool over, ot_str *out);
void job_state_write(job *j, const ot_job_rates *rates, bool over);

#endif
