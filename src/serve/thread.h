/* Threads of the replica: named, signals left to the control thread, priority lowered where they
 * work beside the workers; condition variables on the monotonic clock. */
#ifndef OT_SERVE_THREAD_H
#define OT_SERVE_THREAD_H

#include "base/error.h"

#include <pthread.h>
#include <stdint.h>

enum {
    OT_THREAD_NICE_POOL = 5,        /* runs that a worker's loop should not wait for */
    OT_THREAD_NICE_LONG = 15,       /* very long ones: a tenth of what the others have */
    OT_THREAD_NICE_BACKGROUND = 15, /* loading, samples and shadow copies */
};

/* All signals are blocked in the new thread. */
ot_rc ot_thread_start(pthread_t *thread_out, const char *name, void *(*fn)(void *), void *arg,
                      ot_error *err) OT_CHECKED;
void ot_thread_lower(int nice); /* the calling thread */

#define OT_THREAD_SLICE_NS 100000
/* The calling thread asks for short turns on a processor, often, instead of long ones: when it
 * wakes up it then takes the place of whoever has a longer turn, also of a training in the group of
 * least weight, instead of waiting for that turn's end. It gets no more of the processor than
 * before. Linux 6.12 and later; without effect elsewhere and under a real-time policy. */
void ot_thread_prompt(void);
void ot_cond_init_mono(pthread_cond_t *c);
void ot_cond_wait_us(pthread_cond_t *c, pthread_mutex_t *lock, int64_t us);

#endif
