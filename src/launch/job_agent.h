/* Between the files of the agent of a host: how its ranks start (job_agent_start.c), and what
 * becomes of them (job_agent.c). Threads: the agent's only one. */
#ifndef OT_LAUNCH_JOB_AGENT_H
#define OT_LAUNCH_JOB_AGENT_H

#include "base/str.h"
#include "launch/job_channel.h"
#include "launch/job_spawn.h"

#include <poll.h>
#include <stdint.h>

/* An interpreter that waits for a rank. */
typedef struct agent_spare {
    ot_job_child child;
    int talk; /* to it; -1: it is gone */
    bool ready, offered;
    ot_str early; /* what it printed meanwhile, its beginning */
} agent_spare;

typedef struct agent_rank {
    int32_t rank;
    ot_job_child child;
    agent_spare *spare;  /* that may become it; NULL: none */
    char why[200];       /* that does not */
    bool alive, dumped;  /* dumped: it is printing where it is, and ends by that */
    uint64_t kill_at_ns; /* it alone; 0: not */
} agent_rank;

typedef struct agent {
    const char *version;
    ot_job_channel channel;
    int signal_fd, key_fd;
    json_t *spec, *prepare;
    agent_spare *spares; /* of a job in waiting */
    size_t n_spares, next_spare;
    agent_rank *ranks;
    size_t n, cap, n_alive;
    ot_str input; /* for the rank that reads */
    bool elastic; /* ranks come one by one, and the end of all is not the job's */
    bool input_ended, stopping, done;
    uint64_t kill_at_ns; /* 0: not stopping */
} agent;

int64_t agent_spec_int(const json_t *spec, const char *name);
/* Checks a->spec and starts what it says. */
ot_rc agent_start(agent *a, ot_error *err) OT_CHECKED;
/* One more rank of an elastic job: OT_JOB_SPAWN. */
ot_rc agent_spawn(agent *a, const json_t *spec, ot_error *err) OT_CHECKED;

/* The file in memory for the job's key, still empty. */
ot_rc agent_make_key_fd(agent *a, ot_error *err) OT_CHECKED;
/* What the environment of each of so many ranks has unless it is said otherwise. */
void agent_set_defaults(int ranks);

/* job_agent_spare.c. Starts what a->prepare asks for. */
ot_rc agent_prepare(agent *a, ot_error *err) OT_CHECKED;
/* While they wait: three descriptors each. */
size_t agent_spares_poll(const agent *a, struct pollfd *p);
void agent_spares_turn(agent *a, const struct pollfd *p);
/* The next one is told to become the rank, whose environment is the present one; then whether it
 * has: r->child is it. */
void agent_spare_offer(agent *a, agent_rank *r);
bool agent_spare_take(agent *a, agent_rank *r);
void agent_spares_end(agent *a); /* those that no rank has */

#endif
