/* What operations that lose bits keep of a tensor from one step to the next, by the hash of its
 * signature: what has not been sent yet, and the columns of low rank. What has not come for long is
 * dropped.
 *
 * Threads: any; the numbers of one that is in use are its user's. Lifetime: init/done pairs. */
#ifndef OT_COLLECTIVE_RESIDUAL_H
#define OT_COLLECTIVE_RESIDUAL_H

#include "base/error.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ot_residual {
    uint64_t key, used, bytes;
    int users;  /* what is in use is not dropped */
    bool fresh; /* all zeros, since this is its first use */
    float *numbers;
} ot_residual;

typedef struct ot_residuals {
    pthread_mutex_t lock;
    ot_residual **items; /* Synchronization: of the lock, as what follows */
    size_t n, cap;
    uint64_t uses, bytes;
    unsigned said; /* the progress thread's: a bit for each choice that people have been told of */
} ot_residuals;

void ot_residuals_init(ot_residuals *r);
void ot_residuals_done(ot_residuals *r);
/* In use until ot_residual_release; NULL: no memory, or in use with another count. */
ot_residual *ot_residual_take(ot_residuals *r, uint64_t key, uint64_t count);
/* The same of one that is there; NULL: there is none of this count. */
ot_residual *ot_residual_find(ot_residuals *r, uint64_t key, uint64_t count);
void ot_residual_release(ot_residuals *r, ot_residual *x); /* x may be NULL */

/* All of it as bytes, for a checkpoint: "OTKEPT1\n", the number of items; of each key, count and
 * numbers; a hash of all before it. Numbers are little-endian, 64 bits wide but for the F32.
 * *bytes_out is what it takes, 0 if nothing is kept; `out` NULL or `room` less: nothing is written.
 * OT_PRECONDITION: operations are in flight. */
ot_rc ot_residuals_save(ot_residuals *r, void *out, uint64_t room, uint64_t *bytes_out,
                        ot_error *err) OT_CHECKED;
/* Takes the place of what is kept; no bytes: nothing does. OT_DATA_LOSS: these bytes are not what
 * was saved; nothing has changed. */
ot_rc ot_residuals_load(ot_residuals *r, const void *bytes, uint64_t n, ot_error *err) OT_CHECKED;

#endif
