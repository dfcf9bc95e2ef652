/* A variant: one version of a model, loaded, with all that its runs need.
 *
 * Threads: made by the loader, immutable afterwards but for what says otherwise. `slots[i]` belongs
 * to executor i (workers first, then pool threads, then the sampler).
 * Lifetime: counted. The route snapshot holds a reference, and so does each call that outlives its
 * turn. The last one hands the variant to `on_idle`, because to unload takes long. */
#ifndef OT_SERVE_VARIANT_H
#define OT_SERVE_VARIANT_H

#include "model/manifest.h"
#include "runtime/external.h"
#include "runtime/runtime.h"
#include "serve/cost.h"
#include "serve/count.h"
#include "serve/drift.h"
#include "serve/stage.h"
#include "serve/target.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define OT_SERVE_NAME 65 /* ot_name_ok + NUL */
#define OT_SERVE_NOTE 640
#define OT_SERVE_MERGE_DEFAULT 64 /* rows a batch of a model without a manifest may have */

typedef struct ot_variant ot_variant;
typedef void ot_variant_fn(void *arg, ot_variant *v);

typedef struct ot_slot {
    ot_instance *instance; /* made on first use when the loader did not */
    unsigned generation;   /* of the session that it is of */
    /* Synchronization: relaxed; written by the slot's thread, read by the watchdog. When the run
     * that is on began; 0: none is on. */
    _Atomic uint64_t since_ns;
    uint64_t told_ns; /* the watchdog's: the run that it has named */
    atomic_bool held; /* the slot's thread runs the variant, or reads what a run gave */
} ot_slot;

/* Counters that any thread may read. Synchronization: relaxed, one writer. */
typedef struct ot_totals {
    _Atomic uint64_t requests, rows, failed, batches, latency_ns, run_ns;
    _Atomic uint64_t prompt_tokens, completion_tokens; /* as chat servers say */
    _Atomic uint64_t batch_rows[OT_COST_BUCKETS]; /* batches by the power of two of their rows */
    _Atomic uint64_t latency[OT_LATENCY_STEPS];   /* requests by upper bound, see count.h */
    ot_serve_stage_totals stages;
} ot_totals;

/* What one worker keeps about a variant; only that worker touches it, but for the totals and for
 * `closed`, see count.h. */
typedef struct ot_share {
    ot_cell *active, *closed;
    struct ot_chunk *chunk;     /* of live samples, being filled */
    struct ot_share *next_open; /* of the worker's list of shares with a chunk */
    bool open;
    ot_totals totals;
} ot_share;

struct ot_variant {
    atomic_uint refs;
    ot_variant_fn *on_idle;
    void *on_idle_arg;
    ot_variant *next_idle; /* of the list of the idle */

    char deployment[OT_SERVE_NAME], model[OT_SERVE_NAME];
    uint64_t version;
    char version_text[24];
    char bundle[65];    /* digest in hex; "" for a model that is no bundle */
    char *path;         /* where it was loaded from */
    ot_isolate isolate; /* as the target has it */
    uint64_t process_memory;

    ot_manifest sig;
    bool rows_known;   /* axis 0 of inputs and outputs is the row */
    bool dynamic;      /* other axes vary too: shapes decide what can share a batch */
    int64_t merge_max; /* rows of several requests that may run together; 1: none */
    int64_t run_max;   /* rows a run may take; 0: any */
    /* Synchronization: relaxed; set once a run shows that batches are not answered row by row. */
    atomic_bool merge_off;
    bool verified;            /* golden answers agreed */
    char note[OT_SERVE_NOTE]; /* why not verified, or not batched */

    /* What the model says of itself; strings live as long as the variant. */
    struct {
        const char *plugin, *format, *runtime_version, *signature, *method;
        uint64_t capabilities;
        bool quick;    /* a better session may take over: ot_variant_replace */
        bool isolated; /* in a worker process: it may hang, and never runs on a worker's loop */
    } info;
    /* Other signatures of the same session, each a variant of its own that goes with this one, and
     * whose requests are in its totals. */
    ot_variant *other;
    /* Synchronization: under model_lock; `generation` also acquire. Counts the replacements. */
    pthread_mutex_t model_lock;
    ot_external *external; /* live calls are passed on to this server; NULL: they are run here */
    ot_model *loaded;
    atomic_uint generation;

    /* Sleep (sleep.h). Synchronization: `asleep` atomic, cleared under model_lock, as are the calls
     * that wait; the rest is the control thread's. */
    atomic_bool asleep;
    struct ot_call *sleepers;
    uint32_t n_sleepers;
    bool waking;
    uint64_t used_ns, seen;     /* when it was last used; requests at the last look */
    _Atomic uint64_t back_us;   /* relaxed: what loading the session took last */
    uint64_t memory;            /* estimated bytes while it is awake */
    _Atomic uint64_t *accounts; /* where they are counted, or NULL */
    unsigned n_slots, n_workers;
    ot_slot *slots;
    ot_share *shares; /* one a worker */
    ot_cost cost;
    ot_count_schema schema;
    struct {
        uint64_t fetch, session, golden, warm_up, all;
    } load_us; /* how long loading took: digests, the session, golden answers, measuring and first
                  runs, and all of it */
    unsigned last_role; /* an ot_role; the control thread's */

    struct ot_queue *queue; /* of the pool */

    /* Synchronization: under drift_lock. The last closed window compared with the reference. */
    pthread_mutex_t drift_lock;
    ot_drift drift;
};

ot_rc ot_variant_create(unsigned n_workers, unsigned n_slots, ot_variant **v_out,
                        ot_error *err) OT_CHECKED;
ot_variant *ot_variant_ref(ot_variant *v);
void ot_variant_unref(ot_variant *v); /* NULL is fine */
/* Unloads and frees; only when no reference is left. */
void ot_variant_destroy(ot_variant *v);

/* `model`, which answers as the one before, takes over: each slot uses it from its next run on.
 * Takes the reference over. */
void ot_variant_replace(ot_variant *v, ot_model *model);
/* Says that the slot's thread begins to run the variant, so that it stays awake; false: it sleeps.
 * Until ot_variant_let. */
bool ot_variant_hold(ot_variant *v, unsigned slot);
void ot_variant_let(ot_slot *s);
/* The instance of a slot, made if it is not there yet. Only its own thread. */
ot_rc ot_variant_instance(ot_variant *v, unsigned slot, ot_instance **inst_out,
                          ot_error *err) OT_CHECKED;
/* Rows of several requests that may run together now. */
int64_t ot_variant_merge_max(const ot_variant *v);

/* Sums over the workers and signatures. */
typedef struct ot_totals_sum {
    uint64_t prompt_tokens, completion_tokens;
    uint64_t requests, rows, failed, batches, latency_ns, run_ns;
    uint64_t batch_rows[OT_COST_BUCKETS], latency[OT_LATENCY_STEPS];
    uint64_t stage[OT_SERVE_STAGES][OT_LATENCY_STEPS], stage_ns[OT_SERVE_STAGES];
} ot_totals_sum;
void ot_variant_totals(const ot_variant *v, ot_totals_sum *out);

#endif
