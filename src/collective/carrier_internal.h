/* What the files of the carrier share: carrier.c finds and asks, carrier_thread.c calls.
 *
 * Threads: see the fields. */
#ifndef OT_COLLECTIVE_CARRIER_INTERNAL_H
#define OT_COLLECTIVE_CARRIER_INTERNAL_H

#include "collective/carrier.h"

#include <pthread.h>

/* One operation, until it is done. */
typedef struct ot_carry {
    struct ot_carry *next;
    overtake_engine_call call;
    int32_t lane;
    void *user;
    uint64_t counts[]; /* the call's */
} ot_carry;

struct ot_carrier {
    const overtake_engine *engine;
    char name[96];
    pthread_t thread;
    bool joined;
    int fd;      /* written by the thread when there is something to take */
    size_t open; /* the progress thread's: started and not taken */

    /* Synchronization: of `lock`. */
    pthread_mutex_t lock;
    pthread_cond_t change;
    ot_carry *started, **started_end, *done, **done_end;
    size_t hurried; /* of those in flight */
    uint64_t hurry_ns;
    bool calling; /* the thread is inside the engine */
    bool stop;    /* it is to call it no more */
    ot_error why; /* of the engine; rc OK: it goes on */
};

ot_rc ot_carrier_thread_start(ot_carrier *c, ot_error *err) OT_CHECKED;
/* Asks it to stop; false: after `limit_us` it was still inside the engine. */
bool ot_carrier_thread_stop(ot_carrier *c, int64_t limit_us);

#endif
