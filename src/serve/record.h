/* Recording: a sample of the requests that were answered, with their answers, in a bounded file to
 * replay (codec/record.h). Off unless asked for: it keeps what clients sent.
 *
 * Workers put records into a queue with a limit; a thread writes them. What does not fit is dropped
 * and counted; when the file is full recording ends and serving goes on.
 * Threads: as each function says. Lifetime: create, start, stop, destroy. */
#ifndef OT_SERVE_RECORD_H
#define OT_SERVE_RECORD_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct ot_call ot_call;
typedef struct ot_recorder ot_recorder;

/* Makes the file, which must not be there, for its owner alone. */
ot_rc ot_recorder_create(const char *path, uint64_t max_bytes, double sample, uint64_t incarnation,
                         ot_recorder **out, ot_error *err) OT_CHECKED;
ot_rc ot_recorder_start(ot_recorder *r, ot_error *err) OT_CHECKED;
/* Writes what waits, and joins. NULL is fine, also below. */
void ot_recorder_stop(ot_recorder *r);
void ot_recorder_destroy(ot_recorder *r);

/* A worker's thread: keeps the call if it is in the sample and has a result. */
void ot_recorder_take(ot_recorder *r, const ot_call *call);

typedef struct ot_recorder_stats {
    uint64_t requests, bytes, dropped;
    bool full;
} ot_recorder_stats;
void ot_recorder_stats_get(ot_recorder *r, ot_recorder_stats *out); /* any thread */

#endif
