/* Rollout: one state machine of shares. Verdicts come in from above, shares come out.
 *
 * A plan is a list of steps that a candidate goes through: approval, shadow, one step a canary
 * share, promotion, probation. The machine holds where it is and since when; it neither compares
 * nor persists. Feeding it is idempotent: the same input at the same time changes nothing more.
 *
 * Threads: one. Lifetime: a plain value; copy and store it as it is. Times are wall-clock
 * microseconds from the caller. */
#ifndef OT_ROLLOUT_ROLLOUT_H
#define OT_ROLLOUT_ROLLOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OT_ROLLOUT_STEPS_MAX 32

typedef enum ot_rollout_kind {
    OT_ROLLOUT_APPROVAL,   /* a person decides; no traffic */
    OT_ROLLOUT_SHADOW,     /* copies of the traffic, after the answer */
    OT_ROLLOUT_CANARY,     /* a share of the traffic */
    OT_ROLLOUT_PROBATION,  /* champion; the previous version in its shadow */
    OT_ROLLOUT_BLUE_GREEN, /* loaded beside the champion, until all traffic may switch at once */
} ot_rollout_kind;

typedef enum ot_rollout_end {
    OT_ROLLOUT_END_STOP,
    OT_ROLLOUT_END_ROLL_BACK,
    OT_ROLLOUT_END_CONTINUE,
} ot_rollout_end;

typedef struct ot_rollout_step {
    ot_rollout_kind kind;
    double share;           /* canary */
    double margin, alpha;   /* what its comparison is made with */
    int64_t until_compared; /* shadow, blue_green: pairs needed; 0: none */
    int64_t at_most_us;     /* probation: how long it lasts */
    ot_rollout_end otherwise;
    bool roll_back_if_worse; /* probation */
} ot_rollout_step;

typedef enum ot_rollout_state {
    OT_ROLLOUT_RUNNING,
    OT_ROLLOUT_DONE,        /* promoted, and through probation if there is one */
    OT_ROLLOUT_STOPPED,     /* ended before promotion; the champion stays */
    OT_ROLLOUT_ROLLED_BACK, /* ended after it had traffic */
} ot_rollout_state;

typedef enum ot_rollout_verdict {
    OT_ROLLOUT_UNDECIDED,
    OT_ROLLOUT_NOT_WORSE,
    OT_ROLLOUT_WORSE,
    OT_ROLLOUT_APPROVED,
    OT_ROLLOUT_REFUSED,
    OT_ROLLOUT_READY, /* every replica serves it */
} ot_rollout_verdict;

typedef struct ot_rollout {
    ot_rollout_step steps[OT_ROLLOUT_STEPS_MAX];
    size_t n_steps, at;
    ot_rollout_state state;
    bool promoted;
    int64_t entered_us; /* the current step */
    char reason[160];   /* why the last change was made */
} ot_rollout;

/* What a call changed. */
enum {
    OT_ROLLOUT_CHANGED_STEP = 1,
    OT_ROLLOUT_CHANGED_PROMOTED = 2,
    OT_ROLLOUT_CHANGED_END = 4,
};

/* False when n is over the limit or a step is not what it says (share outside (0,1), a wait without
 * at_most_us, probation before another step). With no steps the candidate is promoted at once. */
bool ot_rollout_start(ot_rollout *r, const ot_rollout_step *steps, size_t n, int64_t now_us,
                      unsigned *changed_out);
/* Feeds a verdict and the number of pairs it stands on; returns what changed. Also looks at the
 * clock, so that a verdict that comes with the deadline is heard first. */
unsigned ot_rollout_feed(ot_rollout *r, ot_rollout_verdict verdict, int64_t compared,
                         int64_t now_us);
unsigned ot_rollout_tick(ot_rollout *r, int64_t now_us);
/* A person ends it: before promotion it stops, after it it rolls back. */
unsigned ot_rollout_abort(ot_rollout *r, const char *reason, int64_t now_us);

/* The candidate's share of the traffic now: 0 in approval and shadow and when it was stopped, 1
 * once promoted. */
double ot_rollout_share(const ot_rollout *r);
/* True when the version that does not answer must be loaded beside the one that does. */
bool ot_rollout_loads(const ot_rollout *r);
/* True when it must also run in the shadow of the one that does. */
bool ot_rollout_compares(const ot_rollout *r);
/* When ot_rollout_tick has something to do; INT64_MAX: never. */
int64_t ot_rollout_deadline(const ot_rollout *r);
/* The current step, NULL when it has ended. */
const ot_rollout_step *ot_rollout_step_now(const ot_rollout *r);
const char *ot_rollout_kind_name(ot_rollout_kind k);
const char *ot_rollout_state_name(ot_rollout_state s);

#endif
