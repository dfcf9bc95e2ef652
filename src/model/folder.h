/* A model's folder as other servers lay it out: NAME/1/model.onnx, NAME/2/model.savedmodel/ with
 * an optional NAME/config.pbtxt (Triton), NAME/1/saved_model.pb (TensorFlow Serving). Or the folder
 * is itself a model (model/detect.h), which is then its only version.
 *
 * A look notes what is there without reading it: names, sizes and times of the files of each
 * version as one number, the stamp. Whoever looks again sees by it what has changed.
 * Threads: any. */
#ifndef OT_MODEL_FOLDER_H
#define OT_MODEL_FOLDER_H

#include "model/config.h"
#include "model/detect.h"

#define OT_FOLDER_VERSIONS_MAX 64 /* the newest that are looked at */
#define OT_FOLDER_NAME 24         /* of a version's folder: at most 18 digits */

typedef struct ot_folder_version {
    uint64_t version;          /* 0 for a folder that is itself a model */
    char name[OT_FOLDER_NAME]; /* of its folder: "3", "0003"; "" for a folder that is a model */
    uint64_t stamp;            /* 0: it could not be looked at (it changes, or holds no files) */
    int64_t changed_us;        /* when the newest of its files was changed, by the file system */
} ot_folder_version;

typedef struct ot_folder_look {
    bool plain; /* the folder is itself a model */
    ot_version_policy policy;
    uint64_t latest;
    unsigned instances;      /* runs at a time, as its config says; 0: not said */
    uint64_t process_memory; /* the same of its process's memory, in bytes */
    /* What the policy can choose from, newest first. */
    ot_folder_version versions[OT_FOLDER_VERSIONS_MAX];
    size_t n_versions;
} ot_folder_look;

/* OT_NOT_FOUND when nothing is at `path`; OT_INVALID says what was found instead of a model, or
 * what is wrong with its config.pbtxt. */
ot_rc ot_folder_look_at(ot_disk *disk, const char *path, ot_folder_look *look_out,
                        ot_error *err) OT_CHECKED;
/* A config.pbtxt or a numbered sub-folder is in it. */
bool ot_folder_is(ot_disk *disk, const char *path);

/* The model of a version: `path` is the numbered folder, or a folder or file that is itself a
 * model. `config` is initialised; it is read from beside the numbered folder when there is one. */
ot_rc ot_folder_open(ot_disk *disk, const char *path, ot_detected *out, ot_model_config *config,
                     ot_error *err) OT_CHECKED;

#endif
