/* The ABI of engines: how the ranks of a job move data through somebody else's library (MPI).
 *
 * An engine is a shared object `libovertake_NAME.so` beside libovertake.so that exports one symbol,
 * overtake_engine_get. Overtake itself says which operations run and in which order, finds out what
 * does not match and who is lost; an engine carries whole operations of the group of all ranks.
 * What it does not take goes by Overtake's own links.
 *
 * A LANE is an order that all ranks share: each rank starts the operations of one lane in the same
 * order. Operations of different lanes are started in any order and may not wait for each other.
 *
 * Growth: structs begin with struct_size and only grow at their end; another `abi` is refused.
 * Threads: check, join and leave come from the thread that calls overtake_init or
 * overtake_finalize, start and turn from one of their own between join and leave, which a library
 * that hangs may keep; these never two at a time. `takes` comes from any.
 * Codes: 0 or negative (overtake/plugin.h), then `message` says why and the way out. */
#ifndef OVERTAKE_ENGINE_H
#define OVERTAKE_ENGINE_H

#include "overtake/collective.h"

#ifdef __cplusplus
extern "C" {
#endif

#define OVERTAKE_ENGINE_ABI 1u

/* One operation. Counts are elements of elem_bytes; buffers do not overlap, but for `out` == `in`
 * of ALLREDUCE and BROADCAST, and `in` of ALLGATHER, which may be its own part of `out`. */
typedef struct overtake_engine_call {
    size_t struct_size; /* sizeof(overtake_engine_call) */
    int32_t kind;       /* overtake_kind; not JOIN */
    int32_t dtype;      /* overtake_dtype of ALLREDUCE and REDUCESCATTER */
    int32_t reduction;  /* overtake_reduction of these; AVERAGE is the SUM here */
    int32_t root;       /* BROADCAST */
    uint32_t elem_bytes;
    uint64_t count;                /* ALLREDUCE, BROADCAST */
    const uint64_t *counts;        /* ALLGATHER, REDUCESCATTER: one a rank */
    const uint64_t *sends, *recvs; /* ALLTOALL: the same */
    const void *in;
    void *out;
} overtake_engine_call;

/* What an engine may call. */
typedef struct overtake_engine_host {
    size_t struct_size; /* sizeof(overtake_engine_host) */
    /* out[i] = a[i] (reduction) b[i]; out may be a or b. From any thread. */
    void (*reduce)(int32_t reduction, int32_t dtype, void *out, const void *a, const void *b,
                   uint64_t n);
} overtake_engine_host;

typedef struct overtake_engine {
    size_t struct_size; /* sizeof(overtake_engine) */
    uint32_t abi;       /* OVERTAKE_ENGINE_ABI */
    const char *name, *version;
    /* Whether this process can use it in a job of `size` ranks; before the ranks meet, so it says
     * nothing to them. All hear of one that can't. */
    int (*check)(int32_t size, char *message, size_t message_size);
    /* All ranks, each with its number in the job; blocks until they are connected. Called again
     * after leave. */
    int (*join)(const overtake_engine_host *host, int32_t rank, int32_t size, int32_t lanes,
                char *message, size_t message_size);
    /* 1: it carries this one. Depends on what all ranks know alike. Of the buffers only whether
     * they are one is looked at. */
    int (*takes)(const overtake_engine_call *call);
    /* Never blocks. `call` lasts until turn hands `user` back. */
    int (*start)(int32_t lane, const overtake_engine_call *call, void *user, char *message,
                 size_t message_size);
    /* Moves what can be moved now; *n_out operations are done, up to `room`. Negative: one has
     * failed, nothing more is asked of the engine. */
    int (*turn)(void **users_out, size_t room, size_t *n_out, char *message, size_t message_size);
    /* Nothing is in flight. Not called where something was left behind: then nothing more is waited
     * for, at exit neither. */
    void (*leave)(void);
} overtake_engine;

/* The table, for ever, or NULL. */
OVERTAKE_API const overtake_engine *overtake_engine_get(void);

#ifdef __cplusplus
}
#endif

#endif
