/* What a request spends its time on, counted for each worker and variant.
 *
 * queue: from the request's first byte until its batch is taken (reading, decoding, waiting);
 * batch: until the runtime is called (rows are put together); run: in the runtime; encode: until
 * the answer is handed to the connection (coming back from the pool, counting, writing). Together
 * they are the time from first byte to answer. A request that was never run is in none of them.
 *
 * Threads: one writer; any reader. Lifetime: embedded; all zero bytes is empty. */
#ifndef OT_SERVE_STAGE_H
#define OT_SERVE_STAGE_H

#include "serve/count.h"

#include <stdatomic.h>

typedef enum ot_serve_stage {
    OT_SERVE_QUEUE,
    OT_SERVE_BATCH,
    OT_SERVE_RUN,
    OT_SERVE_ENCODE
} ot_serve_stage;
#define OT_SERVE_STAGES 4
const char *ot_serve_stage_name(ot_serve_stage stage);

/* Synchronization: relaxed. */
typedef struct ot_serve_stage_totals {
    _Atomic uint64_t ns[OT_SERVE_STAGES];
    _Atomic uint64_t requests[OT_SERVE_STAGES][OT_LATENCY_STEPS]; /* by upper bound, see count.h */
} ot_serve_stage_totals;

/* `n` requests that each took from one time to the other; times that run backwards count as 0. */
void ot_serve_stage_add(ot_serve_stage_totals *t, ot_serve_stage stage, uint64_t from_ns,
                        uint64_t to_ns, uint64_t n);

#endif
