/* The registry: names, versions, aliases and lineage of models, on the store.
 *
 * Bundles and datasets lie in the content store; rows say what they are called. A change of a row
 * and its event commit in one transaction. Functions that take a store open their own transaction;
 * those that take an ot_txn are parts of the caller's (a gate's verdict and the status that follows
 * from it belong together).
 * Threads: any. Lifetime: the store's.
 * Errors: OT_NOT_FOUND, OT_INVALID, OT_PRECONDITION name the model and the version. */
#ifndef OT_REGISTRY_REGISTRY_H
#define OT_REGISTRY_REGISTRY_H

#include "base/disk.h"
#include "base/error.h"
#include "base/hash.h"
#include "store/blob.h"
#include "store/events.h"
#include "store/models.h"
#include "store/store.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OT_REGISTRY_BECAUSE_MAX 64
#define OT_REGISTRY_METRICS_MAX (64u << 10) /* bytes of reported metrics */

typedef struct ot_register {
    const char *model;                /* ot_name_ok; made when it is new */
    const char *app;                  /* NULL: none */
    int64_t run;                      /* 0: none */
    const char *metrics;              /* JSON object that the program reported; NULL: none */
    const char *actor, *role, *scope; /* NULL: "overtake", "", "" */
    const uint64_t *because;          /* events that led to this one */
    size_t n_because;
    const ot_digest *expect; /* NULL: any bundle. Else this one only, and once: when the model has
                                it as a version already, that is the version */
    const char *came;        /* "came from ...", for the event; NULL: registered here */
    const char *origin;      /* JSON object for the event; NULL: none */
} ot_register;

typedef struct ot_registered {
    int64_t version;
    ot_digest bundle;
    uint64_t event_seq;
    bool existed; /* it had been registered before: nothing was added */
} ot_registered;

/* Verifies the bundle at `dir` (on the store's disk), copies its files into the content store, then
 * adds the version, its lineage edges (from lineage.json) and the event `version.registered` in one
 * transaction. The caller keeps `dir`. A run registers a model once: with the same bundle again it
 * gets the same version, with another bundle OT_EXISTS. */
ot_rc ot_registry_register(ot_store *store, const char *dir, const ot_register *r,
                           ot_registered *out, ot_error *err) OT_CHECKED;

/* "model/NAME@3": how events name a version. `out` needs OT_OBJECT_TEXT bytes; returns out. */
#define OT_OBJECT_TEXT 96
char *ot_registry_object(char out[OT_OBJECT_TEXT], const char *model, int64_t version);

/* Sets a status and, with `event` not NULL, leaves that event (its object defaults to
 * "model/NAME@V"). With NULL the caller leaves its own in the same transaction. CHAMPION is
 * refused: use ot_registry_promote. `seq_out` may be NULL. */
ot_rc ot_registry_set_status(ot_txn *txn, const char *model, int64_t version,
                             ot_version_status status, const ot_event_in *event, uint64_t *seq_out,
                             ot_error *err) OT_CHECKED;

/* Makes a version the champion: its status, the alias, and the one before becomes
 * `previous_status` (RETIRED; REFUSED where it is rolled back from). The alias challenger is taken
 * away when it named this version. `event` as above, its type defaults to "version.promoted", its
 * payload to {"previous": N or null}. `previous_out` (may be NULL): 0 when there was none. */
ot_rc ot_registry_promote(ot_txn *txn, const char *model, int64_t version,
                          ot_version_status previous_status, const ot_event_in *event,
                          int64_t *previous_out, uint64_t *seq_out, ot_error *err) OT_CHECKED;

/* The champion's row; OT_NOT_FOUND when the model has none. */
ot_rc ot_registry_champion(ot_txn *txn, const char *model, ot_version_row *out,
                           ot_error *err) OT_CHECKED;
/* "NAME", "NAME@3", "NAME@champion": the newest, that one, that alias. */
ot_rc ot_registry_find(ot_txn *txn, const char *ref, ot_version_row *out, ot_error *err) OT_CHECKED;

/* Deletes a version and its event `version.deleted`. OT_PRECONDITION while it is champion, canary
 * or shadow, or an alias names it, or a kept version's parent is its bundle. Blobs go with the next
 * collection. */
ot_rc ot_registry_delete(ot_store *store, const char *model, int64_t version,
                         const ot_event_in *event, ot_error *err) OT_CHECKED;

/* Puts a bundle's files at `dir` as hard links to the blobs (copies where links cannot be),
 * verified file by file, whole or not at all. A directory that is there already is verified and
 * kept; one that does not verify is made anew. */
ot_rc ot_registry_materialise(ot_store *store, const ot_digest *bundle, const char *dir,
                              ot_error *err) OT_CHECKED;
/* The same without a store, from a directory of blobs (AA/SHA256): what a replica does. */
ot_rc ot_registry_materialise_from(ot_disk *disk, const char *blobs_dir, const ot_digest *bundle,
                                   const char *dir, ot_error *err) OT_CHECKED;

/* As ot_registry_materialise, with copies: for programs that are not ours (a training run's
 * parent), which must not be able to reach the blobs' bytes. */
ot_rc ot_registry_copy_out(ot_store *store, const ot_digest *bundle, const char *dir,
                           ot_error *err) OT_CHECKED;

/* Deletes blobs that no bundle and no dataset has and that are older than `grace_us`. `also` (may
 * be NULL) keeps blobs of other owners (samples, run data). */
ot_rc ot_registry_collect(ot_store *store, int64_t grace_us, ot_blob_live_fn *also, void *arg,
                          ot_blob_report *report_out, ot_error *err) OT_CHECKED;
/* For a caller's own collection: an ot_blob_live_fn over what the registry refers to; `arg` unused.
 */
ot_rc ot_registry_blob_live(ot_txn *txn, void *arg, const ot_digest *d, bool *live_out,
                            ot_error *err);

#endif
