/* Loading: from what the target wants to a variant that may answer.
 *
 * A bundle is fetched by digest into the replica's cache and verified; the model is loaded, its
 * golden answers are run singly and batched, its runs are measured and every worker's instance is
 * warmed up. A large model comes quickly first, as its plug-in has it; when nothing else is to be
 * done it is loaded as well as can be, checked again, and takes over. All of it on one thread at
 * idle priority, which also unloads.
 *
 * Threads: ask from the control thread; results come on its loop. Lifetime: create, stop, destroy.
 */
#ifndef OT_SERVE_LOAD_H
#define OT_SERVE_LOAD_H

#include "model/bundle.h"
#include "model/config.h"
#include "serve/server.h"

typedef struct ot_loader ot_loader;

typedef struct ot_load {
    /* The question. */
    char deployment[OT_SERVE_NAME], model[OT_SERVE_NAME];
    uint64_t version;
    char bundle[65]; /* fetch this one from `blobs`, or */
    char *path;      /* load what lies there */
    char *blobs;
    ot_isolate isolate;
    uint64_t memory_max;     /* bytes that it may take; 0: any */
    uint64_t process_memory; /* bytes that its worker process may hold; 0: as the options say */
    /* The answer. */
    ot_rc rc;
    ot_error err;
    uint64_t needs; /* bytes for which there is no room; else 0 */
    ot_variant *variant;
    /* On the control loop, when it is done. Frees the load: ot_load_free. */
    ot_loop_fn *then;
    void *arg;
    struct ot_load *next;
    ot_variant *unload;       /* instead of all that: unload this one, or */
    ot_variant *refine;       /* load this one better, from `path`; a reference */
    ot_golden golden;         /* what it must answer; or */
    ot_variant *sleep, *wake; /* these (sleep.h); a reference */
} ot_load;

ot_rc ot_loader_create(ot_serve *s, ot_loader **loader_out, ot_error *err) OT_CHECKED;
/* Ends after the load that is running; the rest is dropped (unloads are done). */
void ot_loader_stop(ot_loader *l);
void ot_loader_destroy(ot_loader *l); /* NULL is fine */

void ot_loader_add(ot_loader *l, ot_load *load); /* takes it over */
void ot_loader_unload(ot_loader *l, ot_variant *v);
void ot_load_free(ot_load *load);

/* A session of what the load asks for (its names and isolation count), for the loader's thread. */
ot_rc ot_load_session(ot_serve *s, const ot_load *load, const char *format, const char *path,
                      bool quick, ot_model **model_out, ot_error *err) OT_CHECKED;

/* fetch.c: the bundle in the cache, verified; done by the caller. */
ot_rc ot_fetch_bundle(ot_disk *disk, const char *blobs, const char *cache, const char *hex,
                      ot_bundle *b_out, ot_error *err) OT_CHECKED;
/* Removes what the cache has beside the digests given. */
void ot_fetch_prune(ot_disk *disk, const char *cache, const char *const *keep, size_t n);

/* configure.c: holds the model to its config.pbtxt: inputs and outputs are those that it says, as
 * far as it says them, and so are batches. Before anything depends on the signature. */
ot_rc ot_variant_configure(ot_variant *v, const ot_model_config *c, ot_error *err) OT_CHECKED;

/* prove.c: golden answers or, without any, a check of batches against single rows; then measuring
 * and warming up. `golden` NULL: there are none. */
ot_rc ot_variant_prove(ot_serve *s, ot_variant *v, const ot_golden *golden,
                       ot_error *err) OT_CHECKED;
/* Loads a better session of a variant that was loaded quickly, and has it take over if it answers
 * the golden cases as the variant may, singly and batched. */
ot_rc ot_variant_refine(ot_serve *s, ot_variant *v, const char *path, const ot_golden *golden,
                        ot_error *err) OT_CHECKED;

#endif
