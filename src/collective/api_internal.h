/* What the files of the API share. Threads: any; see api.c. */
#ifndef OT_COLLECTIVE_API_INTERNAL_H
#define OT_COLLECTIVE_API_INTERNAL_H

#include "collective/engine.h"

#define OT_API_GROUPS_MAX 4096

typedef struct ot_api_group {
    int32_t id;
    int32_t n, me; /* me: -1: this rank is not in it */
    int32_t *ranks;
    bool freed;
    uint64_t asked[OVERTAKE_KINDS]; /* unnamed requests so far */
    uint64_t opened_as;             /* the hash of its tag and ranks; 0: made by all ranks */
} ot_api_group;

typedef struct ot_api {
    ot_engine *engine;
    int32_t rank;
    /* Elastic: of this process, in the epoch before. */
    int32_t previous_rank, previous_size;
    bool between; /* it has ended its epoch and is in none: `next` is what to join with */
    ot_engine_options next;
    ot_residuals residuals; /* of the world, from epoch to epoch */
    /* Synchronization: of the lock. */
    pthread_mutex_t groups_lock;
    ot_api_group **groups;
    int32_t n_groups;
    int32_t created; /* the next id of a group that all ranks make */
    /* How often a group of this tag and these ranks (a hash of them) has been opened. */
    struct ot_api_opened {
        uint64_t hash;
        uint32_t times;
    } * opened;
    size_t n_opened, cap_opened;
} ot_api;

/* A request that was looked at and found good. */
typedef struct ot_prepared {
    int32_t group;
    bool named;
    ot_signature sig;
    int64_t *splits; /* ot_alloc */
    const void *in;
    void *out;
    uint64_t out_bytes;
} ot_prepared;

/* What init, finalize and reform are of. */
typedef enum ot_api_change { OT_API_INIT, OT_API_FINALIZE, OT_API_REFORM } ot_api_change;

int ot_api_answer(const ot_error *err, ot_rc rc, char *message, size_t size);
/* Between the two neither init nor finalize changes anything. */
ot_rc ot_api_enter(ot_api **out, ot_error *err) OT_CHECKED;
void ot_api_leave(void);
/* Nothing else goes on between the two. A reform has requests in flight fail, so that nobody waits
 * for them. */
ot_rc ot_api_begin(ot_api_change what, ot_api **out, ot_error *err) OT_CHECKED;
/* `e`: the engine from now on, with its groups; NULL: none. */
ot_rc ot_api_end(ot_engine *e, ot_error *err) OT_CHECKED;
/* overtake_init with what only tests ask for. */
ot_rc ot_api_init(const ot_engine_options *o, ot_error *err) OT_CHECKED;

ot_rc ot_api_prepare(ot_api *a, const overtake_request *r, ot_prepared *out,
                     ot_error *err) OT_CHECKED;
/* Names those that have none, in order. */
void ot_api_number(ot_api *a, ot_prepared *p, size_t n);
/* On success the splits are the tickets'. */
ot_rc ot_api_start(ot_api *a, const ot_prepared *p, size_t n, overtake_handle *handles_out,
                   ot_error *err) OT_CHECKED;

ot_api_group *ot_api_group_find_locked(ot_api *a, int32_t id); /* NULL: none, or freed */
ot_rc ot_api_groups_init(ot_api *a, ot_engine *e, ot_error *err) OT_CHECKED;
void ot_api_groups_done(ot_api *a);

#endif
