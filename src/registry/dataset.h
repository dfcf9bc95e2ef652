/* Datasets: content-addressed sets of rows in the store. The SHA-256 of the dataset's JSON (which
 * lists its columns by digest) is its name; equal rows and columns give the same name.
 *
 * Threads: any. Lifetime: tables belong to the caller (ot_table_done).
 * Format: docs/architecture.md, "Dataset". */
#ifndef OT_REGISTRY_DATASET_H
#define OT_REGISTRY_DATASET_H

#include "base/error.h"
#include "base/hash.h"
#include "registry/table.h"
#include "store/store.h"

#include <stdint.h>

#define OT_DATASET_SCHEMA "overtake.dataset/1"
#define OT_DATASET_JSON_MAX (1u << 20)

/* Puts the columns as .npy blobs, then the JSON, and returns its digest. Idempotent. Nothing refers
 * to the blobs until ot_dataset_record, so record it before the store's next gc. */
ot_rc ot_dataset_put(ot_store *store, const ot_table *t, ot_digest *digest_out,
                     ot_error *err) OT_CHECKED;

/* Makes a dataset known under a name (an app's data block; NULL or "" for none) with where it came
 * from as JSON ({"path": ...} or {"from": ..., "rows": ...}), so that it is live for gc. One
 * transaction; idempotent. */
ot_rc ot_dataset_record(ot_store *store, const char *name, const ot_digest *digest,
                        const char *source_json, ot_error *err) OT_CHECKED;

/* Columns are mapped from the blobs. OT_NOT_FOUND when the store does not have it, OT_DATA_LOSS
 * when a blob is not what the JSON says. */
ot_rc ot_dataset_load(ot_store *store, const ot_digest *digest, ot_table *t_out,
                      ot_error *err) OT_CHECKED;

/* Writes the rows of one side of the split to DIR/COLUMN.npy (dir is made): what a program finds at
 * $OVERTAKE_DATA/NAME. `rows_out` may be NULL. */
ot_rc ot_dataset_materialise(ot_store *store, const ot_digest *digest, const char *dir,
                             ot_split which, double fraction, int64_t *rows_out,
                             ot_error *err) OT_CHECKED;

/* Reads a file or a directory (ot_table_read), puts and records it. `name` may be NULL. */
ot_rc ot_dataset_import(ot_store *store, const char *name, const char *path, const char *label,
                        ot_digest *digest_out, int64_t *rows_out, ot_error *err) OT_CHECKED;

#endif
