/* Samples: rows that were answered, collected into chunks, run through the other variants where the
 * deployment compares, and written as segments to the spool.
 *
 * A worker fills a chunk a variant (no lock) and hands it over when it is full or 200 ms old; the
 * sampler thread, at low priority, does the rest: a chunk is the copy that shadow runs read. All
 * chunks together have a memory limit; over it rows are dropped and counted.
 *
 * Threads: ot_sampler_take and ot_sampler_flush on the worker that owns the chunk; the rest any.
 * Lifetime: create, start, stop (writes what is left), destroy. */
#ifndef OT_SERVE_SAMPLE_H
#define OT_SERVE_SAMPLE_H

#include "serve/call.h"
#include "serve/exec.h"
#include "serve/spool.h"

#define OT_SAMPLE_MEMORY_MAX (32u << 20) /* all chunks */
#define OT_SAMPLE_SEGMENT_MAX (4u << 20) /* bytes of a segment */
#define OT_SAMPLE_SEGMENT_US 1000000     /* age of a segment */
#define OT_SAMPLE_CHUNK_BYTES (128u << 10)
#define OT_SAMPLE_CHUNK_ROWS 512
#define OT_SAMPLE_CHUNK_NS 200000000u /* age at which a worker hands a chunk over */
#define OT_SAMPLE_KEY_MAX 256         /* longer keys are cut */

typedef struct ot_sampler ot_sampler;
typedef struct ot_chunk ot_chunk;

ot_rc ot_sampler_create(ot_spool *spool, unsigned slot, ot_sampler **sampler_out,
                        ot_error *err) OT_CHECKED;
/* `wrote(arg)` is called on the sampler's thread when a segment lies in the spool. */
ot_rc ot_sampler_start(ot_sampler *s, ot_loop_fn *wrote, void *arg, ot_error *err) OT_CHECKED;
void ot_sampler_stop(ot_sampler *s);
void ot_sampler_destroy(ot_sampler *s); /* NULL is fine */

/* Appends the call's rows to *chunk (which is made, handed over and replaced as needed). */
void ot_sampler_take(ot_sampler *s, ot_chunk **chunk, const ot_call *call, uint64_t now_ns);
/* Hands *chunk over and sets it to NULL; what it referred to may be gone after that. */
void ot_sampler_flush(ot_sampler *s, ot_chunk **chunk);
bool ot_sampler_due(const ot_chunk *chunk, uint64_t now_ns); /* old enough to be handed over */

typedef struct ot_sampler_stats {
    uint64_t rows, dropped_rows, shadow_rows, shadow_failed, shadow_dropped, segments;
} ot_sampler_stats;
void ot_sampler_stats_get(const ot_sampler *s, ot_sampler_stats *out);

#endif
