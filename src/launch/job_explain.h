/* What bounds a step of a job (`overtake run --explain`), from the accounts of its ranks: each says
 * of its own time how much it computed, waited for input, for late ranks and for the wire, which
 * together are all of it.
 *
 * A rank that most of the waiting is for is the straggler; the shares are then those of the others,
 * for its own time hides what the job loses. Threads: pure. */
#ifndef OT_LAUNCH_JOB_EXPLAIN_H
#define OT_LAUNCH_JOB_EXPLAIN_H

#include "base/str.h"
#include "collective/settings.h"

typedef enum ot_bound {
    OT_BOUND_COMPUTE,
    OT_BOUND_WIRE,
    OT_BOUND_STRAGGLER,
    OT_BOUND_INPUT,
    OT_BOUNDS
} ot_bound;
const char *ot_bound_text(ot_bound b); /* "compute" */

typedef struct ot_explain {
    bool known; /* false: there was too little to say anything about */
    ot_bound bound;
    int32_t ranks, hosts, slow_rank; /* slow_rank: -1: none stands out */
    uint64_t steps;                  /* 0: neither marked nor planned: per operation then */
    uint64_t operations;
    double seconds; /* that the account covers */
    double step_us; /* a step, or an operation where steps are not known */
    double share[OT_BOUNDS], slow_share[OT_BOUNDS]; /* of the time; slow: of the slow rank's own */
    double busy;          /* share of the time in which operations were under way */
    double step_bytes;    /* sent by one rank a step, on average */
    double bytes_per_us;  /* the same while operations were under way */
    double link_us;       /* a step's bytes over the measured link; 0: no link was measured */
    double auto_saves_us; /* a step, predicted for --wire auto; 0: nothing */
} ot_explain;

struct ot_pulse; /* collective/meet.h */

/* `hosts`: the number of its host, by rank. */
void ot_job_explain(const struct ot_pulse *p, const int32_t *hosts, int32_t n, const ot_settings *s,
                    ot_explain *out);
/* Lines for people; `host` of the slow rank. */
void ot_job_explain_text(const ot_explain *e, const ot_settings *s, const char *host, ot_str *out);
/* A JSON object. */
void ot_job_explain_json(const ot_explain *e, ot_str *out);

#endif
