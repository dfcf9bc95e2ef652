/* Shared by supervise.c, children.c and roll.c; not for others. */
#ifndef OT_CLI_SUPERVISE_INTERNAL_H
#define OT_CLI_SUPERVISE_INTERNAL_H

#include "cli/supervise.h"

#define SUPERVISE_NEWS_MAX 4
#define SUPERVISE_LINE_MAX 1536

typedef struct supervise_proc {
    pid_t pid;   /* 0: not running */
    int channel; /* our end; -1: none */
    uint64_t started_ns;
    bool ready;
    bool stays;   /* not to be rolled */
    bool asked;   /* we told it to end */
    char said[8]; /* of a line that has not come whole */
    size_t n_said;
} supervise_proc;

typedef struct supervise_child {
    const ot_supervise_child *spec;
    supervise_proc now, next; /* next: started to replace it */
    bool rolling;             /* its turn: the roll starts it, nobody else does */
    uint64_t start_at_ns;     /* when to start it again */
    int64_t pause_us;         /* before the next start but one */
    char ended[64];           /* how the last one did */
} supervise_child;

typedef enum supervise_step {
    ROLL_NONE,
    ROLL_CHECK, /* the new binary is looked at */
    ROLL_BEGIN, /* the child's turn begins */
    ROLL_READY, /* waits for the new one */
    ROLL_LEAVE, /* waits for the end of the old one */
} supervise_step;

typedef struct supervise_roll {
    supervise_step step;
    size_t at;
    uint64_t deadline_ns;
    bool of_next; /* whose readiness is waited for */
    bool killed;
    bool again;
    pid_t check_pid;
    int check_fd, check_status;
    char why[OT_SUPERVISE_WHY_MAX];
    size_t n_why;
} supervise_roll;

typedef struct supervisor {
    supervise_child children[OT_SUPERVISE_CHILDREN_MAX];
    size_t n;
    ot_supervise_options opt;
    int signal_fd;
    bool stopping, hurry;
    supervise_roll roll;
    char news[SUPERVISE_NEWS_MAX][SUPERVISE_LINE_MAX]; /* lines that wait for the log's child */
    size_t n_news;
} supervisor;

/* --- children.c --------------------------------------------------------------------------------
 */

/* Forks and gives the new process its signals back; in the child it returns 0. */
pid_t supervise_fork(void);
/* Starts the child's program as `p`. */
void supervise_start(supervisor *s, supervise_child *c, supervise_proc *p);
/* Starts what is due; when the next one is (0: none). */
uint64_t supervise_start_due(supervisor *s);
/* Also reaps what is not ours: as process 1 of a container, orphans come to us. */
void supervise_reap(supervisor *s);
void supervise_say(const supervise_proc *p, const char *line);
/* What the child has said since. */
void supervise_listen(supervise_proc *p);
void supervise_close(supervise_proc *p); /* its channel; the process has ended */
/* Hands the log's child what waits for it. */
void supervise_tell(supervisor *s);

/* --- roll.c ------------------------------------------------------------------------------------
 */

void supervise_roll_asked(supervisor *s); /* SIGHUP */
void supervise_roll_begin(supervisor *s); /* of what does not stay */
/* Goes on as far as it can. When to come again at the latest (0: when something happens). */
uint64_t supervise_roll_step(supervisor *s);
void supervise_roll_stop(supervisor *s); /* the supervisor ends */

#endif
