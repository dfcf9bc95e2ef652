/* Rows of checkpoints: what trainings kept on the way, as bundles.
 *
 * A training is the first of the runs that tried it; they share its checkpoints.
 *
 * Threads and lifetime: those of the transaction; what is given to callbacks lives until they
 * return. */
#ifndef OT_STORE_CHECKPOINTS_H
#define OT_STORE_CHECKPOINTS_H

#include "base/hash.h"
#include "store/models.h"

#define OT_CHECKPOINT_FORMAT "checkpoint" /* of its bundle */

typedef struct ot_checkpoint_row {
    int64_t training, run; /* run: the try that saved it */
    int64_t step;
    ot_digest bundle;
    int64_t made_us;
    const char *app;
    const char *metrics; /* JSON object; NULL on the way in: {} */
    uint64_t size_bytes; /* on the way out, and below: of its files, the manifest not among them */
    int64_t files;
} ot_checkpoint_row;

/* OT_OK also when it is there. `files` are those of the bundle, its manifest among them. */
ot_rc ot_checkpoint_add(ot_txn *txn, const ot_checkpoint_row *row, const ot_bundle_file_row *files,
                        size_t n_files, int64_t now_us, ot_error *err) OT_CHECKED;
typedef ot_rc ot_checkpoint_fn(void *arg, const ot_checkpoint_row *row, ot_error *err);
/* Those of a training, the newest first: by step, then by time. */
ot_rc ot_checkpoint_each(ot_txn *txn, int64_t training, ot_checkpoint_fn *fn, void *arg,
                         ot_error *err) OT_CHECKED;
/* Only the newest `keep` stay. */
ot_rc ot_checkpoint_prune(ot_txn *txn, int64_t training, size_t keep, ot_error *err) OT_CHECKED;

#define OT_CHECKPOINT_LINE 16 /* versions back from a champion whose trainings are its lineage */
/* Removes those of trainings before `before`, but of those in `keep` and those that a champion
 * comes from; *removed_out is how many. */
ot_rc ot_checkpoint_collect(ot_txn *txn, int64_t before, const int64_t *keep, size_t n_keep,
                            int64_t *removed_out, ot_error *err) OT_CHECKED;

#endif
