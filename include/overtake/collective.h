/* Collective operations between the processes (ranks) of one training job.
 *
 * A process joins with overtake_init and asks for operations by name; each is done when every rank
 * of its group has asked for the same name with matching kind, type and shape. Ranks may ask in any
 * order. What does not match fails on all ranks of the group, naming who asked for what.
 *
 * Threads: every function from any. One progress thread a process does the work and sleeps when
 * there is none. A child made by fork() may not communicate: it gets OVERTAKE_PRECONDITION.
 * Lifetime: buffers of a request belong to the caller and stay valid and untouched until the
 * request's handle has been waited for; init -> finalize -> init works.
 * Errors: 0 is success, else a negative code (the negated canonical codes of gRPC). A message names
 * rank, host, tensor, why, and what to do. */
#ifndef OVERTAKE_COLLECTIVE_H
#define OVERTAKE_COLLECTIVE_H

#include "overtake/overtake.h"

#ifdef __cplusplus
extern "C" {
#endif

#define OVERTAKE_MESSAGE_SIZE 1024
#define OVERTAKE_NAME_MAX 255 /* bytes of a tensor's name */
#define OVERTAKE_DIMS_MAX 16
#define OVERTAKE_WORLD 0 /* the group of all ranks */

typedef enum overtake_dtype {
    OVERTAKE_BOOL,
    OVERTAKE_U8,
    OVERTAKE_I8,
    OVERTAKE_U16,
    OVERTAKE_I16,
    OVERTAKE_U32,
    OVERTAKE_I32,
    OVERTAKE_U64,
    OVERTAKE_I64,
    OVERTAKE_F16,  /* IEEE 754 binary16 */
    OVERTAKE_BF16, /* the upper half of binary32 */
    OVERTAKE_F32,
    OVERTAKE_F64,
    OVERTAKE_DTYPES
} overtake_dtype;

typedef enum overtake_reduction {
    OVERTAKE_SUM,     /* BOOL: or */
    OVERTAKE_AVERAGE, /* of floating types */
    OVERTAKE_MIN,
    OVERTAKE_MAX,
    OVERTAKE_PRODUCT, /* BOOL: and */
    OVERTAKE_REDUCTIONS
} overtake_reduction;

typedef enum overtake_kind {
    OVERTAKE_ALLREDUCE, /* out: the shape of in, the same bits on every rank */
    OVERTAKE_ALLGATHER, /* out: the ranks' in, one behind the other along dims[0], in rank order;
                           dims[0] may differ between ranks */
    OVERTAKE_REDUCESCATTER, /* out: this rank's rows of the reduction; rows are dealt in rank order,
                               the first dims[0] % size ranks get one more, unless splits says how
                               many */
    OVERTAKE_ALLTOALL,      /* rows splits[r] of in go to rank r; out: what came, in rank order */
    OVERTAKE_BROADCAST,     /* out: root's in */
    OVERTAKE_BARRIER,       /* no data */
    OVERTAKE_JOIN, /* no data yet or any more from this rank: allreduces go on with its part as
                      the neutral element until all have joined; result: the last to join */
    OVERTAKE_KINDS
} overtake_kind;

typedef struct overtake_init_options {
    size_t struct_size; /* sizeof(overtake_init_options) */
    /* What the environment says when these are not given (-1, NULL): our launcher's variables, else
     * those of Slurm, Open MPI, torchrun or Horovod (docs/training.md). */
    int32_t rank, size;
    const char *rendezvous; /* "host:port" */
    const char *key;        /* the job's secret; at most 128 bytes */
    double timeout_s; /* for all ranks to arrive; 0: 600 s. Says every 30 s for whom it waits */
} overtake_init_options;

typedef struct overtake_request {
    size_t struct_size; /* sizeof(overtake_request) */
    int32_t kind;       /* overtake_kind */
    int32_t group;      /* OVERTAKE_WORLD or of overtake_group_create */
    /* Unique among what is in flight; ranks may ask in any order. NULL: no negotiation at all, the
     * ranks of the group ask for their unnamed requests in the same order and by the same calls
     * (as process groups do).
     */
    const char *name;
    int32_t dtype;         /* overtake_dtype */
    int32_t reduction;     /* overtake_reduction */
    int32_t ndim;          /* 0 (one element) to OVERTAKE_DIMS_MAX */
    int32_t root;          /* rank in the group; BROADCAST */
    const int64_t *dims;   /* of in; C order, contiguous */
    const int64_t *splits; /* size numbers; ALLTOALL, REDUCESCATTER; NULL: equal */
    const void *in;
    void *out;                  /* may be in; NULL: made by the library, see overtake_result */
    double prescale, postscale; /* factors before and after; 0 is taken as 1 */
    uint64_t out_bytes;         /* room at out; 0: taken to suffice */
} overtake_request;

/* How a request ended. */
typedef struct overtake_result {
    size_t struct_size; /* sizeof(overtake_result) */
    void *out;          /* the request's, or the library's until overtake_release */
    int32_t ndim;
    int64_t dims[OVERTAKE_DIMS_MAX]; /* of out */
    int32_t last_joined;             /* JOIN: rank */
    const int64_t *splits; /* ALLTOALL, ALLGATHER with an out made by the library: rows that came
                              from each rank; as long as out */
} overtake_result;

/* A failure, for programs; `message` of the same call says it for people. */
typedef struct overtake_failure {
    size_t struct_size; /* sizeof(overtake_failure) */
    int32_t code;       /* of the call */
    int32_t rank;       /* the culprit's; -1: none */
    int64_t step;       /* operations done when it happened */
    char host[256], tensor[OVERTAKE_NAME_MAX + 1];
    char message[OVERTAKE_MESSAGE_SIZE];
} overtake_failure;

typedef int64_t overtake_handle; /* positive; 0 is none */

/* Blocks until every rank is here. A second call without finalize between is an error. */
OVERTAKE_API int overtake_init(const overtake_init_options *options, char *message,
                               size_t message_size);
/* Waits for what is in flight and leaves; the other ranks hear that it was on purpose. */
OVERTAKE_API int overtake_finalize(char *message, size_t message_size);

/* Of the group; negative without init or for a rank outside it. Local: ranks of this host; cross:
 * ranks with the same local rank on the other hosts. */
typedef struct overtake_place {
    size_t struct_size; /* sizeof(overtake_place) */
    int32_t rank, size, local_rank, local_size, cross_rank, cross_size;
} overtake_place;
OVERTAKE_API int overtake_where(int32_t group, overtake_place *place_out);

/* Collective over all ranks of the job: each calls it with the same ranks (of the world,
 * ascending). A rank outside gets the group's number too and may only pass it to
 * overtake_group_free. */
OVERTAKE_API int overtake_group_create(const int32_t *ranks, size_t n, int32_t *group_out,
                                       char *message, size_t message_size);
/* The same by the members alone: ranks outside need not know. `tag` sets it apart from other groups
 * of the same ranks and must be equal on all members; OVERTAKE_EXISTS (-6) while such a one is
 * open. */
OVERTAKE_API int overtake_group_open(const char *tag, const int32_t *ranks, size_t n,
                                     int32_t *group_out, char *message, size_t message_size);
OVERTAKE_API int overtake_group_free(int32_t group, char *message, size_t message_size);

/* Starts n requests as one: none runs before all of them are here on every rank, they share
 * buckets, and one handle each is written to handles_out. Never blocks on the network; fails with
 * OVERTAKE_EXHAUSTED (-8) over 65,536 in flight. */
OVERTAKE_API int overtake_start(const overtake_request *requests, size_t n,
                                overtake_handle *handles_out, char *message, size_t message_size);
/* 1: done or failed, 0: in flight, negative: no such handle. */
OVERTAKE_API int overtake_test(overtake_handle handle);
/* Blocks until it is done; timeout_s <= 0: for ever. `result_out` and `failure_out` may be NULL.
 * Ends the handle, except on OVERTAKE_TIMEOUT (-4); with a library-made out the result stays until
 * overtake_release. */
OVERTAKE_API int overtake_wait(overtake_handle handle, double timeout_s,
                               overtake_result *result_out, overtake_failure *failure_out);
OVERTAKE_API int overtake_release(void *out);

/* Elastic jobs (`overtake run --min-np N`, docs/training.md): ranks may go and come while the job
 * goes on. Who is in it is an epoch; within one, nothing changes. When a rank is lost, every
 * request of the epoch fails with its name, now and later; the survivors call overtake_reform and
 * go on in the next epoch, with ranks dealt anew: survivors in the order of their previous ranks,
 * behind them those that were admitted. */
typedef struct overtake_membership {
    size_t struct_size;    /* sizeof(overtake_membership) */
    uint64_t epoch;        /* 1, 2, ...; grows with each membership of this job */
    int32_t elastic;       /* 0: overtake_reform is refused */
    int32_t rank, size;    /* in this epoch */
    int32_t previous_rank; /* of this process, in the epoch before; -1: it is new */
    int32_t previous_size; /* 0: this is its first epoch */
    int32_t waiting;       /* processes that wait to be admitted */
    int32_t leaving;       /* ranks of this epoch that are to leave: their host is being drained */
    int32_t failed;      /* 1: the epoch is over: an operation failed for good, or a rank is lost */
    int32_t batch_ranks; /* a rank's batch is this part of a step's: `size`, so that a step keeps
                            its rows (--elastic-batch keep), or as many as the job began with */
} overtake_membership;
/* Never blocks on the network. */
OVERTAKE_API int overtake_membership_get(overtake_membership *out);
/* Ends this epoch on this rank and joins the next: blocks until its members are known (all
 * survivors have called, or are known to be lost; those that waited are admitted), timeout_s <= 0:
 * for ever. Called by every survivor after a failure, or by all ranks at the same step when
 * `waiting` or `leaving` says so (ranks see those numbers at different times: agree by an
 * operation). Requests in flight fail, groups other than OVERTAKE_WORLD are gone, and what was
 * learnt begins anew. OVERTAKE_PRECONDITION (-9): the job isn't elastic, or this rank was set aside
 * (it was taken for dead, or is to leave): exit. OVERTAKE_UNAVAILABLE (-14): fewer than the least
 * number of ranks are left, or the launcher is gone. After a failure the process is in no job; it
 * may call again. */
OVERTAKE_API int overtake_reform(double timeout_s, char *message, size_t message_size);

/* The program has ended a step over `samples` rows of its own (0: it does not say): for the
 * progress line of the launcher. Costs nothing. */
OVERTAKE_API int overtake_step(int64_t samples);
/* The program has just waited `us` microseconds for its input: for `overtake run --explain`. */
OVERTAKE_API int overtake_input_wait(int64_t us);

/* Records what this rank does, tensor by tensor, until stop or overtake_finalize, and writes it to
 * `path` (of this rank alone) in the trace format of Chrome and Perfetto. The last 32,768 events
 * are kept. OVERTAKE_PRECONDITION (-9): one is being recorded, by this or by `overtake run
 * --timeline`; stop: none that this program has started is. */
OVERTAKE_API int overtake_timeline_start(const char *path, char *message, size_t message_size);
OVERTAKE_API int overtake_timeline_stop(char *message, size_t message_size);

/* Where sums lose bits on the wire (`overtake run --wire auto`), each rank keeps what it has not
 * sent yet of each tensor, and the columns that low rank goes on with: as bytes, for this rank's
 * checkpoint, of the group of all ranks. Between two steps: OVERTAKE_PRECONDITION (-9) while such
 * operations are in flight. save: *bytes_out is what it takes (0: nothing is kept); `out` NULL or
 * `room` less: nothing is written. load: takes the place of what is kept (n 0: nothing does);
 * OVERTAKE_DATA_LOSS (-15) for bytes that save has not written. An elastic job keeps it from epoch
 * to epoch, but for the ranks that are lost. */
OVERTAKE_API int overtake_residuals_save(void *out, uint64_t room, uint64_t *bytes_out,
                                         char *message, size_t message_size);
OVERTAKE_API int overtake_residuals_load(const void *bytes, uint64_t n, char *message,
                                         size_t message_size);

#ifdef __cplusplus
}
#endif

#endif
