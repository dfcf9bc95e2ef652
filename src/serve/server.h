/* What the parts of a replica share. */
#ifndef OT_SERVE_SERVER_H
#define OT_SERVE_SERVER_H

#include "net/tls_watch.h"
#include "serve/access_log.h"
#include "serve/guests.h"
#include "serve/pool.h"
#include "serve/route.h"
#include "serve/sample.h"
#include "serve/serve.h"
#include "serve/wire.h"

typedef struct ot_control ot_control;

struct ot_serve {
    ot_serve_options o; /* strings are copies, in `memory` */
    ot_arena memory;
    uint64_t incarnation;
    uint64_t start_ns;
    ot_loop *loop; /* the control thread's */
    ot_runtime *runtime;
    ot_disk *disk;
    ot_spool *spool; /* NULL when alone */
    ot_pool *pool;
    ot_sampler *sampler;          /* NULL when alone */
    struct ot_tracer *tracer;     /* NULL: nothing is traced */
    struct ot_recorder *recorder; /* NULL: nothing is recorded */
    ot_control *control;
    ot_access_log *access_log; /* NULL: none is written */
    ot_guests *guests;         /* NULL: who needs no key has no limit */
    unsigned n_workers, n_slots;
    ot_worker *workers[OT_SERVE_WORKERS_MAX];
    /* Synchronization: release by the control thread, acquire by workers; see route.h. */
    _Atomic(ot_route *) route;
    atomic_bool draining;
    /* Synchronization: relaxed. Estimated bytes of what is loaded or being loaded. */
    _Atomic uint64_t memory_used;
    ot_tls *tls; /* NULL: no listener wants it */
    ot_tls_watch tls_watch;
};

/* Executors: workers, then pool threads, then the sampler, then the loader. */
static inline unsigned ot_serve_pool_slot(const ot_serve *s)
{
    return s->n_workers;
}
static inline unsigned ot_serve_sampler_slot(const ot_serve *s)
{
    return s->n_workers + s->o.pool_threads;
}
static inline unsigned ot_serve_loader_slot(const ot_serve *s)
{
    return ot_serve_sampler_slot(s) + 1;
}

/* A hash of a prediction id, for thinning and sampling; `salt` separates the uses. */
static inline uint64_t ot_serve_mix(uint64_t incarnation, uint64_t seq, uint64_t salt)
{
    uint64_t x = incarnation ^ (seq * UINT64_C(0x9e3779b97f4a7c15)) ^ salt;
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

#endif
