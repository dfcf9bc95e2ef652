/* The memory that a lane's inputs and outputs lie in, shared with its worker process: who holds
 * which piece, and which pieces are of a process that is gone.
 *
 * Threads: one has a lane's runs; a segment is released on any. Lifetime: a held segment outlives
 * its process, not its lane. */
#ifndef OT_RUNTIME_ISOLATE_SEGMENT_H
#define OT_RUNTIME_ISOLATE_SEGMENT_H

#include "runtime/isolate.h"

#include <pthread.h>

#define OT_SEGMENT_MIN UINT64_C(65536) /* bytes */

typedef struct ot_isolate_segments ot_isolate_segments;

/* A piece of memory that outputs lie in. Held by a run, then by who holds the response. */
typedef struct ot_isolate_segment {
    ot_isolate_segments *of;
    uint32_t id;
    uint64_t size;
    void *at;
    void *own; /* copies of what is not read from shared memory; freed with the hold */
    /* Synchronization: under of->lock. */
    bool busy, stale; /* stale: of a process that is gone; unmapped when it is free */
} ot_isolate_segment;

struct ot_isolate_segments {
    ot_minder *minder;
    uint32_t lane;
    uint64_t up; /* the process that knows the lane; 0: none */
    void *in;    /* segment 0: inputs, which the worker can't write */
    uint64_t in_size;
    pthread_mutex_t lock;
    ot_isolate_segment *all[OT_RING_SEGMENTS_MAX]; /* by number; 0 is not used */
};

void ot_isolate_segments_init(ot_isolate_segments *s, ot_minder *minder);
/* After ot_isolate_segments_forget. */
void ot_isolate_segments_done(ot_isolate_segments *s);
/* Forgets what a process that is gone had. What is held keeps its memory. */
void ot_isolate_segments_forget(ot_isolate_segments *s);
/* Room for inputs of `size` bytes at s->in. */
ot_rc ot_isolate_segments_inputs(ot_isolate_segments *s, uint64_t size, ot_error *err) OT_CHECKED;
/* A free segment of at least `size` bytes, held from now on. */
ot_rc ot_isolate_segment_take(ot_isolate_segments *s, uint64_t size, ot_isolate_segment **out,
                              ot_error *err) OT_CHECKED;
void ot_isolate_segment_release(ot_isolate_segment *g);

#endif
