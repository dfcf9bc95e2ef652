/* What waits for the pool, and who is next.
 *
 * Each variant has a queue; a lane has the queues with work that its threads share. In a queue
 * calls go by priority, in order of arrival within one; a call that has waited OT_QUEUE_AGE_NS
 * counts as one level higher, so that a low one waits long but not for ever. Among queues the best
 * priority goes first and then the one that has had least time, so that a model's long runs do not
 * use up the turns of the others.
 *
 * How long a new call would wait is told from what the calls before it are predicted to take
 * (cost.h), corrected by how long calls of the queue have waited of late against what was told
 * them: the ground for refusing at once what cannot be met. Where others use the processors too,
 * waits are longer than the runs in them.
 *
 * Threads: any, under the lock of whoever owns the lane (pool.c). Time is an argument. */
#ifndef OT_SERVE_QUEUE_H
#define OT_SERVE_QUEUE_H

#include "serve/call.h"

#define OT_QUEUE_AGE_NS UINT64_C(1000000000)
#define OT_LANE_THREADS_MAX 64

typedef struct ot_lane ot_lane;

typedef struct ot_queue {
    /* Each by priority, the highest first. */
    ot_call *head[OT_PRIORITIES], **tail[OT_PRIORITIES];
    uint64_t waiting[OT_PRIORITIES];    /* calls */
    uint64_t backlog_ns[OT_PRIORITIES]; /* what they are predicted to take */
    ot_variant *variant;
    ot_lane *lane;         /* where it is listed; NULL: nothing waits */
    struct ot_queue *next; /* of the lane */
    uint64_t had_ns;       /* time that its runs have had, for taking turns */
    uint64_t seats;        /* bit k: a run of this variant is on with instance k of the pool's */
    unsigned concurrency;  /* runs at a time; 0: as many as there are threads */
    double pace;           /* real waits over predicted ones, of late */
    /* Synchronization: relaxed; written under the lock. All calls that wait. */
    _Atomic uint64_t total;
} ot_queue;

struct ot_lane {
    ot_queue *work; /* with calls that wait */
    unsigned n_queues, n_threads;
    uint64_t backlog_ns;
    uint64_t had_ns;                       /* of the queue that was last chosen */
    uint64_t ends_ns[OT_LANE_THREADS_MAX]; /* when thread i is predicted to be free; 0: it is */
};

void ot_lane_init(ot_lane *l, unsigned n_threads);
void ot_queue_init(ot_queue *q);

/* Calls that wait and would run no later than a new one of this priority. */
uint64_t ot_queue_ahead(const ot_queue *q, ot_priority priority);
/* How long a new call of this variant and priority would wait in this lane before its run. */
uint64_t ot_lane_wait_ns(const ot_lane *l, const ot_queue *q, ot_priority priority,
                         uint64_t now_ns);

/* Whether a call may wait, and the figures behind it. OT_TIMEOUT: its deadline passes before a run
 * could end. OT_EXHAUSTED: so many calls wait as may, or the wait is over its limit in time (0:
 * there is none) or reaches over the call's deadline. A limit of the call's deployment goes before
 * `queue_max`. */
typedef struct ot_admission {
    ot_rc rc;
    uint32_t queue_max;
    uint64_t ahead;                    /* calls */
    uint64_t wait_ns, run_ns, left_ns; /* left: until the deadline */
} ot_admission;
ot_admission ot_lane_admit(const ot_lane *l, const ot_queue *q, const ot_call *call,
                           uint32_t queue_max, int64_t wait_us_max, uint64_t now_ns);

/* `l` is where the queue is listed when it is not yet. */
void ot_lane_put(ot_lane *l, ot_queue *q, ot_call *call, uint64_t now_ns);

typedef struct ot_lane_batch {
    ot_queue *queue;
    unsigned seat; /* of the variant's instances: below its concurrency and below the threads */
    size_t n;
    uint64_t predicted_ns;
} ot_lane_batch;
/* Takes calls that fit one batch and are to run next, up to `max` of them; a run is predicted to
 * take at most `run_ns_max` when it can be cut (0: any). False: nothing may run now. `thread` is
 * busy from now on. */
bool ot_lane_take(ot_lane *l, unsigned thread, ot_call **calls, size_t max, uint64_t run_ns_max,
                  uint64_t now_ns, ot_lane_batch *batch_out);
/* Its calls wait in another lane from now on. */
void ot_queue_move(ot_queue *q, ot_lane *to);
/* The run is over: the seat is free. */
void ot_lane_ended(ot_lane *l, unsigned thread, const ot_lane_batch *batch);

#endif
