/* Rows of models, versions, aliases, bundles and datasets.
 *
 * Plain rows and single operations; the rules (what may follow what, which event is left) are
 * src/registry's. Threads and lifetime: those of the transaction; rows are plain values; strings
 * given to callbacks live until they return.
 * Errors: OT_NOT_FOUND names what is missing, OT_EXISTS what is there already, OT_PRECONDITION what
 * is still in use. */
#ifndef OT_STORE_MODELS_H
#define OT_STORE_MODELS_H

#include "base/hash.h"
#include "base/str.h"
#include "store/store.h"

#include <stdbool.h>
#include <stdint.h>

#define OT_ROW_NAME 65      /* ot_name_ok: 64 characters + NUL */
#define OT_ROW_PATH_MAX 512 /* bytes of a bundle file's path */

typedef enum ot_version_status {
    OT_VERSION_REGISTERED, /* stored, not judged */
    OT_VERSION_GATED,      /* passed its gate */
    OT_VERSION_REFUSED,    /* did not, or was caught by a later stage */
    OT_VERSION_SHADOW,
    OT_VERSION_CANARY,
    OT_VERSION_CHAMPION, /* at most one a model */
    OT_VERSION_RETIRED,  /* was champion */
    OT_VERSION_STATUS_COUNT_
} ot_version_status;
const char *ot_version_status_name(ot_version_status s); /* "registered", ... */
bool ot_version_status_parse(const char *s, ot_version_status *out);

typedef struct ot_model_row {
    int64_t id;
    char name[OT_ROW_NAME];
    char app[OT_ROW_NAME]; /* the app that made it; "" when none did */
    int64_t created_us;
    int64_t versions;   /* how many there are */
    int64_t latest;     /* newest version number; 0: none */
    int64_t champion;   /* alias; 0: none */
    int64_t challenger; /* alias; 0: none */
} ot_model_row;

typedef struct ot_version_row {
    char model[OT_ROW_NAME];
    int64_t version; /* from 1; never used twice */
    ot_digest bundle;
    char format[OT_ROW_NAME];
    uint64_t size_bytes;
    ot_version_status status;
    int64_t run; /* 0: not made by a run */
    char app[OT_ROW_NAME];
    bool has_parent;
    ot_digest parent; /* the bundle it started from */
    int64_t created_us, status_us;
    uint64_t event_seq; /* its version.registered */
} ot_version_row;

typedef struct ot_bundle_file_row {
    const char *path;
    uint64_t size;
    ot_digest blob;
} ot_bundle_file_row;

typedef struct ot_dataset_row {
    ot_digest digest;
    char name[OT_ROW_NAME]; /* "" when it was recorded without one */
    int64_t rows;
    uint64_t size_bytes;
    int64_t created_us; /* when it was last recorded under this name */
} ot_dataset_row;

/* --- models --------------------------------------------------------------------------------- */

/* The model's id; made when there is none. */
ot_rc ot_model_ensure(ot_txn *txn, const char *name, const char *app, int64_t now_us,
                      int64_t *id_out, ot_error *err) OT_CHECKED;
ot_rc ot_model_get(ot_txn *txn, const char *name, ot_model_row *out, ot_error *err) OT_CHECKED;
typedef ot_rc ot_model_fn(void *arg, const ot_model_row *row, ot_error *err);
/* By name, from the first after `after` (NULL: the first); `app` NULL for all. */
ot_rc ot_model_each(ot_txn *txn, const char *app, const char *after, uint32_t limit,
                    ot_model_fn *fn, void *arg, ot_error *err) OT_CHECKED;

/* --- bundles -------------------------------------------------------------------------------- */

/* OT_OK also when it is there already. `files` includes manifest.json. */
ot_rc ot_bundle_row_add(ot_txn *txn, const ot_digest *digest, const char *format,
                        const ot_bundle_file_row *files, size_t n_files, int64_t now_us,
                        ot_error *err) OT_CHECKED;
typedef ot_rc ot_bundle_file_fn(void *arg, const ot_bundle_file_row *row, ot_error *err);
ot_rc ot_bundle_files_each(ot_txn *txn, const ot_digest *digest, ot_bundle_file_fn *fn, void *arg,
                           ot_error *err) OT_CHECKED;
/* Removes the row when no version and no checkpoint has the bundle; *removed_out says so. */
ot_rc ot_bundle_row_drop_unused(ot_txn *txn, const ot_digest *digest, bool *removed_out,
                                ot_error *err) OT_CHECKED;

/* Some version was made from this bundle. */
ot_rc ot_bundle_is_parent(ot_txn *txn, const ot_digest *digest, bool *yes_out,
                          ot_error *err) OT_CHECKED;

/* --- versions ------------------------------------------------------------------------------- */

typedef struct ot_version_new {
    int64_t model_id;
    ot_digest bundle; /* its row is there */
    int64_t run;      /* 0: none; one version a run and model */
    const char *app;
    const ot_digest *parent; /* may be NULL */
    const char *metrics;     /* JSON object of reported metrics; NULL: {} */
    int64_t now_us;
} ot_version_new;
/* Takes the next number. */
ot_rc ot_version_add(ot_txn *txn, const ot_version_new *v, int64_t *version_out,
                     ot_error *err) OT_CHECKED;
ot_rc ot_version_set_event(ot_txn *txn, int64_t model_id, int64_t version, uint64_t seq,
                           ot_error *err) OT_CHECKED;
ot_rc ot_version_get(ot_txn *txn, const char *model, int64_t version, ot_version_row *out,
                     ot_error *err) OT_CHECKED;
/* The version that a run made of this model. */
ot_rc ot_version_of_run(ot_txn *txn, const char *model, int64_t run, ot_version_row *out,
                        ot_error *err) OT_CHECKED;
/* Appends the reported metrics (JSON object). */
ot_rc ot_version_metrics(ot_txn *txn, const char *model, int64_t version, ot_str *out,
                         ot_error *err) OT_CHECKED;
typedef ot_rc ot_version_fn(void *arg, const ot_version_row *row, ot_error *err);
/* Newest first, those below `before` (0: all). */
ot_rc ot_version_each(ot_txn *txn, const char *model, int64_t before, uint32_t limit,
                      ot_version_fn *fn, void *arg, ot_error *err) OT_CHECKED;
/* Every version of every model that has this bundle. */
ot_rc ot_version_each_of_bundle(ot_txn *txn, const ot_digest *bundle, ot_version_fn *fn, void *arg,
                                ot_error *err) OT_CHECKED;
ot_rc ot_version_set_status(ot_txn *txn, const char *model, int64_t version,
                            ot_version_status status, int64_t now_us, ot_error *err) OT_CHECKED;
/* OT_PRECONDITION while an alias names it. Takes its aliases' and datasets' edges with it. */
ot_rc ot_version_delete(ot_txn *txn, const char *model, int64_t version, ot_error *err) OT_CHECKED;

/* --- aliases -------------------------------------------------------------------------------- */

#define OT_ALIAS_CHAMPION "champion"
#define OT_ALIAS_CHALLENGER "challenger"
ot_rc ot_alias_set(ot_txn *txn, const char *model, const char *alias, int64_t version,
                   int64_t now_us, ot_error *err) OT_CHECKED;
ot_rc ot_alias_get(ot_txn *txn, const char *model, const char *alias, int64_t *version_out,
                   ot_error *err) OT_CHECKED;
/* OT_OK also when there was none. */
ot_rc ot_alias_remove(ot_txn *txn, const char *model, const char *alias, ot_error *err) OT_CHECKED;

/* --- datasets ------------------------------------------------------------------------------- */

/* `blobs`: the columns; the dataset's own JSON is the blob `digest`. Recording it again under the
 * same name renews time and source. */
ot_rc ot_dataset_row_add(ot_txn *txn, const ot_dataset_row *row, const char *source_json,
                         const ot_digest *blobs, size_t n_blobs, ot_error *err) OT_CHECKED;
/* The newest under a name. */
ot_rc ot_dataset_by_name(ot_txn *txn, const char *name, ot_dataset_row *out,
                         ot_error *err) OT_CHECKED;
ot_rc ot_dataset_get(ot_txn *txn, const ot_digest *digest, ot_dataset_row *out,
                     ot_error *err) OT_CHECKED;
/* Appends the source (JSON) of its newest record. */
ot_rc ot_dataset_source(ot_txn *txn, const ot_digest *digest, ot_str *out,
                        ot_error *err) OT_CHECKED;
typedef ot_rc ot_dataset_fn(void *arg, const ot_dataset_row *row, const char *source_json,
                            ot_error *err);
/* Newest first; `name` NULL for all. */
ot_rc ot_dataset_each(ot_txn *txn, const char *name, uint32_t limit, ot_dataset_fn *fn, void *arg,
                      ot_error *err) OT_CHECKED;
/* OT_PRECONDITION while a version was made from it. */
ot_rc ot_dataset_row_delete(ot_txn *txn, const ot_digest *digest, ot_error *err) OT_CHECKED;

/* Lineage edges: which datasets a version was made from, under which names. */
ot_rc ot_version_data_add(ot_txn *txn, int64_t model_id, int64_t version, const char *name,
                          const ot_digest *dataset, ot_error *err) OT_CHECKED;
typedef ot_rc ot_version_data_fn(void *arg, const char *name, const ot_digest *dataset,
                                 ot_error *err);
ot_rc ot_version_data_each(ot_txn *txn, const char *model, int64_t version, ot_version_data_fn *fn,
                           void *arg, ot_error *err) OT_CHECKED;

/* True when a bundle's file, a dataset's JSON or a column of one is this blob. */
ot_rc ot_models_blob_live(ot_txn *txn, const ot_digest *blob, bool *live_out,
                          ot_error *err) OT_CHECKED;

#endif
