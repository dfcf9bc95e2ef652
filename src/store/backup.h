/* A store as it stands at one moment, while it is written on: what a backup is made of
 * (src/backup).
 *
 * Threads: any, one snapshot of a store at a time. Lifetime: the store's. */
#ifndef OT_STORE_BACKUP_H
#define OT_STORE_BACKUP_H

#include "base/hash.h"
#include "store/events.h"
#include "store/store.h"

/* Called after each piece of work with what it took: the place to rest in, or to stop. A code other
 * than OT_OK ends the snapshot and is returned. */
typedef ot_rc ot_store_rest_fn(void *arg, uint64_t worked_ns, ot_error *err);
/* A blob that the snapshot refers to; one may come more than once. */
typedef ot_rc ot_store_ref_fn(void *arg, const ot_digest *d, ot_error *err);

typedef struct ot_snapshot_options {
    ot_store_rest_fn *rest; /* NULL: goes at full speed */
    ot_store_ref_fn *ref;   /* NULL: not asked for */
    void *arg;
    /* Does not rest while the write-ahead log has more than this [256 MiB]: it can't begin anew
     * before the snapshot is copied. */
    uint64_t log_max_bytes;
} ot_snapshot_options;

typedef struct ot_snapshot {
    int64_t schema;
    ot_event_head head;
    uint64_t bytes; /* of the database */
} ot_snapshot;

/* Copies the database, as of one commit, to DIR/store.db on the store's disk and syncs it; DIR is
 * there and holds none. Writers go on: they wait for nothing, but the log is not copied into the
 * database meanwhile and grows. */
ot_rc ot_store_snapshot(ot_store *store, const char *dir, const ot_snapshot_options *opt,
                        ot_snapshot *out, ot_error *err) OT_CHECKED;

/* From here to ot_blob_release the collector deletes nothing; counted. A batch of it that is on
 * ends first. On a view there is nothing to hold. */
ot_rc ot_blob_hold(ot_store *store, ot_error *err) OT_CHECKED;
void ot_blob_release(ot_store *store);

#endif
