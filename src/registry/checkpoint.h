/* Checkpoints: from the folder in which a training keeps them (python/overtake/_checkpoint.py) into
 * the registry, and back for its next try.
 *
 *     STEP-DIGEST/manifest.json   {"schema": "overtake.checkpoint/2", "single": bool,
 *                                  "files": [{"path", "size", "sha256"}...]}
 *     STEP-DIGEST/saved.json      {"step", "made_us", "run", "metrics": {...}}
 *     STEP-DIGEST/files/PATH
 *     went-on-RUN.json            {"run", "step", "checkpoint": SHA-256}
 *
 * A checkpoint is a bundle whose digest is that of its manifest. What stands in the folder was
 * written by a program that is not ours: nothing of it is believed that its bytes do not give.
 *
 * Threads: any; the functions that read files take long. Lifetime: the store's. */
#ifndef OT_REGISTRY_CHECKPOINT_H
#define OT_REGISTRY_CHECKPOINT_H

#include "store/checkpoints.h"

#define OT_CHECKPOINTS_DIR "checkpoints" /* the folder, in that of the training's first run */
#define OT_CHECKPOINT_SCHEMA "overtake.checkpoint/2"
#define OT_CHECKPOINT_NAME 33 /* STEP (15 digits), '-', 16 hex digits, NUL */
#define OT_CHECKPOINT_STEP_MAX INT64_C(999999999999999)
#define OT_CHECKPOINT_KEEP_MAX 100
#define OT_CHECKPOINT_METRICS_MAX (64u << 10) /* bytes of JSON */

typedef struct ot_checkpoint_training {
    const char *dir; /* the folder */
    const char *app;
    int64_t training; /* its first run */
    size_t keep;      /* the newest of it, 1 to OT_CHECKPOINT_KEEP_MAX */
} ot_checkpoint_training;

/* Takes what is new in the folder: its files into the content store, then its row. What cannot be
 * taken is passed over, and the last of these is the error after all others were taken; what the
 * program removes meanwhile is none. */
ot_rc ot_checkpoint_take(ot_store *store, const ot_checkpoint_training *t,
                         ot_error *err) OT_CHECKED;
/* Puts the newest one of the registry into the folder where that lacks it: copies. */
ot_rc ot_checkpoint_give(ot_store *store, const ot_checkpoint_training *t,
                         ot_error *err) OT_CHECKED;

/* A checkpoint's name in the folder. */
char *ot_checkpoint_name(char out[OT_CHECKPOINT_NAME], int64_t step, const ot_digest *bundle);
/* What a try says in the folder that it went on from: run, step and bundle. False: from nothing. */
bool ot_checkpoint_went_on(const char *dir, int64_t run, ot_checkpoint_row *out);

/* The two files, for reading. */
typedef struct ot_checkpoint_file {
    char path[OT_ROW_PATH_MAX];
    uint64_t size;
    ot_digest sha256;
} ot_checkpoint_file;
typedef struct ot_checkpoint_manifest {
    bool single;
    ot_checkpoint_file *files; /* at least one; ot_free */
    size_t n_files;
} ot_checkpoint_manifest;
typedef struct ot_checkpoint_saved {
    int64_t step, made_us, run;
    char *metrics; /* compact JSON; ot_free */
} ot_checkpoint_saved;
ot_rc ot_checkpoint_manifest_parse(const char *json, size_t n, ot_checkpoint_manifest *out,
                                   ot_error *err) OT_CHECKED;
ot_rc ot_checkpoint_saved_parse(const char *json, size_t n, ot_checkpoint_saved *out,
                                ot_error *err) OT_CHECKED;

#endif
